/*
 * Peeks: reads of an index at a time, by key or by a scan in steps, through an optional mfp, then
 * consolidated, ordered and limited. A pending peek holds the index's since.
 *
 * A peek goes through: asked (index_add_peek), waiting until the index's frontier passes its time,
 * reading in steps, answered. It is answered exactly once, whatever happens to the index: with
 * rows, with the least error of its time, or with the reason it could not be read. Its answer is a
 * function of the index's content at its time: errors and ties are settled by bytes, not by the
 * order of reading.
 *
 * Runs on the engine's thread only.
 */
#include "core/base/hash.h"
#include "core/engine/index.h"
#include "core/engine/order.h"

struct peek {
    uint64_t id;
    uint64_t time;
    bool by_key;
    struct buf keys;       /* encoded keys, one after another */
    size_t *key_at;        /* offsets, sorted by key, each key once; len + 1 */
    size_t keys_len;
    size_t next_key;
    struct mfp_prog *prog;
    uint8_t *kinds;        /* of the answer */
    uint32_t cols;
    struct plan_order *order;
    uint32_t order_len;
    int64_t limit;
    bool started;
    struct htable_cursor cursor;
    struct batch_builder *input;  /* of mfp */
    uint32_t input_cols;
    struct batch_builder *rows;
    struct batch_builder *errs;
    struct buf worst;      /* least error row, encoded; empty: none */
    bool negative;
    int64_t copies;        /* rows so far, with multiplicity */
    err_t failed;
};

/* At any stage: what was not set up yet is NULL. */
static void peek_free(struct peek *peek)
{
    buf_free(&peek->keys);
    free(peek->key_at);
    mfp_prog_free(peek->prog);
    free(peek->kinds);
    free(peek->order);
    batch_builder_free(peek->input);
    batch_builder_free(peek->rows);
    batch_builder_free(peek->errs);
    buf_free(&peek->worst);
    err_free(peek->failed);
    free(peek);
}

/* Few are pending at a time, so the least is looked for each time. */
uint64_t peek_hold(const struct index_op *index)
{
    uint64_t time = UINT64_MAX;
    for (size_t i = 0; i < index->peeks_len; i++) {
        time = index->peeks[i]->time < time ? index->peeks[i]->time : time;
    }
    return time;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Bytes in some buffer, for sorting. */
struct key_ref {
    const uint8_t *data;
    size_t len;
};

/* By bytes, a prefix first. */
static int compare_keys(const void *pa, const void *pb)
{
    const struct key_ref *a = pa;
    const struct key_ref *b = pb;
    size_t len = a->len < b->len ? a->len : b->len;
    int order = len > 0 ? memcmp(a->data, b->data, len) : 0;
    return order != 0 ? order : a->len < b->len ? -1 : a->len > b->len;
}

/*
 * The canonical keys asked for, sorted, each once. Two keys that SQL holds equal are one: each row
 * must be answered once.
 */
static void set_keys(struct peek *peek, const struct batch *keys)
{
    ASSERT(!peek->by_key && keys->cols <= BATCH_COLS_MAX);
    struct buf all = {0};
    size_t *ends = mem_alloc((keys->rows + 1UL) * sizeof(*ends));
    for (uint32_t row = 0; row < keys->rows; row++) {
        batch_encode_row(keys, row, NULL, 0, true, &all);
        ends[row] = all.len;
    }
    struct key_ref *refs = mem_alloc((keys->rows + 1UL) * sizeof(*refs));
    for (uint32_t row = 0; row < keys->rows; row++) {
        size_t start = row > 0 ? ends[row - 1] : 0;
        refs[row] = (struct key_ref){.data = all.data + start, .len = ends[row] - start};
    }
    qsort(refs, keys->rows, sizeof(*refs), compare_keys);
    ASSERT(peek->keys_len == 0 && peek->keys.len == 0);
    peek->by_key = true;
    peek->key_at = mem_alloc((keys->rows + 1UL) * sizeof(*peek->key_at));
    for (uint32_t row = 0; row < keys->rows; row++) {
        if (row == 0 || compare_keys(&refs[row - 1], &refs[row]) != 0) {
            peek->key_at[peek->keys_len++] = peek->keys.len;
            buf_append(&peek->keys, refs[row].data, refs[row].len);
        }
    }
    peek->key_at[peek->keys_len] = peek->keys.len;
    free(refs);
    free(ends);
    buf_free(&all);
}

/*
 * The host's answer to a malformed question is an error, not an assertion: it comes from a client.
 */
static err_t check_keys(const struct index_op *index, const struct batch *keys)
{
    const struct plan_export *export = index->export;
    if (keys->cols != export->keys_len) {
        return err_new(ERR_INVALID, "%u key columns where the index has %u", keys->cols,
                       export->keys_len);
    }
    for (uint32_t c = 0; c < keys->cols; c++) {
        if (keys->col[c].kind != index->types[export->keys[c]].kind) {
            return err_new(ERR_INVALID, "key column %u is of another type", c);
        }
    }
    return ERR_OK;
}

/* The output's kinds are copied out of the arena; the types are needed no longer. */
static err_t set_mfp(struct peek *peek, const struct index_op *index, const struct mfp *mfp)
{
    struct arena arena = {0};
    struct type *types = NULL;
    const struct op *op = index->op;
    err_t err = mfp_validate(mfp, index->types, op->cols, &arena, &types);
    if (err == ERR_OK) {
        peek->cols = mfp->project_len;
        ASSERT(peek->cols <= BATCH_COLS_MAX); /* mfp_validate refuses more */
        peek->kinds = mem_alloc(peek->cols);
        for (uint32_t c = 0; c < peek->cols; c++) {
            peek->kinds[c] = types[c].kind;
        }
        peek->prog = mfp_compile(mfp, op->kinds, "");
        peek->input = batch_builder_new(op->kinds, op->cols);
        peek->input_cols = op->cols;
        peek->errs = batch_builder_new(batch_err_kinds, ERR_COLS);
    }
    arena_free(&arena);
    return err;
}

/*
 * Everything that can be wrong with the question. On error the peek is freed by the caller, as far
 * as it came.
 */
static err_t set_up(struct peek *peek, const struct index_op *index, const struct engine_peek *ask)
{
    const struct op *op = index->op;
    if (ask->time < index->since || ask->time > TIME_MAX) {
        return err_new(ERR_INVALID, "the index is readable from %llu, not at %llu",
                       (unsigned long long)index->since, (unsigned long long)ask->time);
    }
    if (ask->keys != NULL) {
        TRY(check_keys(index, ask->keys));
        set_keys(peek, ask->keys);
    }
    if (ask->mfp != NULL) {
        TRY(set_mfp(peek, index, ask->mfp));
    } else {
        peek->cols = op->cols;
        peek->kinds = mem_alloc(op->cols);
        memcpy(peek->kinds, op->kinds, op->cols);
    }
    for (uint32_t i = 0; i < ask->order_len; i++) {
        if (ask->order[i].col >= peek->cols) {
            return err_new(ERR_INVALID, "order by column %u of %u", ask->order[i].col,
                           peek->cols);
        }
    }
    peek->order_len = ask->order_len;
    peek->order = mem_alloc(ask->order_len * sizeof(*peek->order));
    if (ask->order_len > 0) {
        memcpy(peek->order, ask->order, ask->order_len * sizeof(*peek->order));
    }
    peek->rows = batch_builder_new(peek->kinds, peek->cols);
    return ERR_OK;
}

/* The question's parts are copied: they belong to the caller. */
void index_add_peek(struct op *op, const struct engine_peek *ask)
{
    struct index_op *index = op->state;
    struct peek *peek = MEM_NEW(struct peek);
    peek->id = ask->peek_id;
    peek->time = ask->time;
    peek->limit = ask->limit;
    err_t err = set_up(peek, index, ask);
    if (err != ERR_OK) {
        engine_answer(op->engine, ask->peek_id, err);
        peek_free(peek);
        return;
    }
    *VEC_PUSH(index, peeks) = peek;
    op_activate(op);
}

static void remove_peek(struct index_op *index, size_t at)
{
    ASSERT(at < index->peeks_len);
    peek_free(index->peeks[at]);
    index->peeks_len--;
    memmove(&index->peeks[at], &index->peeks[at + 1],
            (index->peeks_len - at) * sizeof(index->peeks[0]));
}

/* False when it is not here: another index may have it, or it was answered. */
bool index_cancel_peek(struct op *op, uint64_t peek_id)
{
    struct index_op *index = op->state;
    for (size_t i = 0; i < index->peeks_len; i++) {
        if (index->peeks[i]->id == peek_id) {
            remove_peek(index, i);
            index_update_since(index);
            op_activate(op);
            engine_answer(op->engine, peek_id, err_new(ERR_CANCELLED, "the peek was cancelled"));
            return true;
        }
    }
    return false;
}

void peek_close(struct index_op *index, enum err_code code, const char *why)
{
    while (index->peeks_len > 0) {
        engine_answer(index->op->engine, index->peeks[0]->id, err_new(code, "%s", why));
        remove_peek(index, 0);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Keeps the least of the error rows seen: the answer does not depend on the order of reading. */
static void note_error(struct peek *peek, const uint8_t *row, size_t len)
{
    ASSERT(len > 0);
    struct key_ref a = {row, len};
    struct key_ref b = {peek->worst.data, peek->worst.len};
    if (peek->worst.len == 0 || compare_keys(&a, &b) < 0) {
        buf_clear(&peek->worst);
        buf_append(&peek->worst, row, len);
    }
}

/* A sum below zero is an error retracted before its insertion arrived at this worker: none. */
static void on_error_row(void *arg, const uint8_t *row, uint32_t len, int64_t diff)
{
    if (diff > 0) {
        note_error(arg, row, len);
    }
}

/*
 * In one step: an index with very many errors holds the worker for as long as it takes to look at
 * each once.
 */
static void read_errors(struct index_op *index, struct peek *peek)
{
    ASSERT(!peek->started && index->op->frontier > peek->time);
    struct htable_cursor cursor = {0};
    const struct htable_segment *segment;
    while (index->err.updates > 0 &&
           (segment = htable_scan(&index->err.table, &cursor)) != NULL) {
        for (uint32_t i = 0; i < segment->cap; i++) {
            if (segment->slots[i].entry != NULL) {
                arrange_read(&index->err, segment->slots[i].entry, peek->time, on_error_row, peek);
            }
        }
    }
}

/* Rows that fail become the peek's error: a SELECT fails as a whole. */
static void run_mfp(struct peek *peek)
{
    ASSERT(peek->prog != NULL && peek->errs != NULL);
    struct account unaccounted = {0};
    struct chunk *input = chunk_from_builder(peek->input, peek->input_cols, &unaccounted);
    if (input == NULL) {
        return;
    }
    mfp_run(peek->prog, &input->batch, peek->rows, peek->errs);
    chunk_unref(input);
    struct chunk *errs = chunk_from_builder(peek->errs, ERR_COLS, &unaccounted);
    struct buf row = {0};
    for (uint32_t i = 0; errs != NULL && i < errs->batch.rows; i++) {
        buf_clear(&row);
        batch_encode_row(&errs->batch, i, NULL, 0, false, &row);
        note_error(peek, row.data, row.len);
    }
    buf_free(&row);
    chunk_unref(errs);
}

/* arg: the index and the peek. Rows go through the mfp in batches of OUT_ROWS. */
static void on_row(void *arg, const uint8_t *row, uint32_t len, int64_t diff)
{
    struct index_op *index = ((void **)arg)[0];
    struct peek *peek = ((void **)arg)[1];
    struct batch_builder *to = peek->prog != NULL ? peek->input : peek->rows;
    const struct op *op = index->op;
    if (diff < 0) {
        peek->negative = true;
        return;
    }
    if (batch_builder_rows(peek->rows) >= BATCH_ROWS_MAX - OUT_ROWS) {
        if (peek->failed == ERR_OK) {
            peek->failed = err_sql(ERR_LIMIT, "54000", "the result has too many rows");
        }
        return;
    }
    size_t used = batch_decode_row(row, op->kinds, op->cols, to, 0);
    ASSERT(used == len);
    batch_builder_end_row(to, peek->time, diff);
    peek->copies += diff;
    if (peek->prog != NULL && batch_builder_rows(to) >= OUT_ROWS) {
        run_mfp(peek);
    }
}

/*
 * Nothing more can change the answer. A limit can end the reading only if no order decides which
 * rows are meant and no mfp removes some.
 */
static bool enough(const struct peek *peek)
{
    return peek->failed != ERR_OK || peek->negative ||
           (peek->limit >= 0 && peek->prog == NULL && peek->order_len == 0 &&
            peek->copies >= peek->limit);
}

static void read_key(struct index_op *index, struct peek *peek)
{
    ASSERT(peek->by_key && peek->key_at[peek->next_key] <= peek->keys.len);
    const uint8_t *key = peek->keys.data + peek->key_at[peek->next_key];
    size_t len = peek->key_at[peek->next_key + 1] - peek->key_at[peek->next_key];
    const struct htable_entry *entry =
        arrange_find(&index->ok, hash_bytes(key, len), key, len);
    void *arg[] = {index, peek};
    if (entry != NULL) {
        arrange_read(&index->ok, entry, peek->time, on_row, arg);
    }
    ASSERT(peek->next_key < peek->keys_len);
    peek->next_key++;
}

/* Entries below the cursor's segment were read before it was split. */
static void read_segment(struct index_op *index, struct peek *peek,
                         const struct htable_segment *segment)
{
    ASSERT(!peek->by_key && segment->used <= segment->cap);
    void *arg[] = {index, peek};
    for (uint32_t i = 0; i < segment->cap; i++) {
        const struct htable_entry *entry = segment->slots[i].entry;
        if (entry != NULL && entry->hash >= peek->cursor.from) {
            arrange_read(&index->ok, entry, peek->time, on_row, arg);
        }
    }
}

/* True when out of fuel before the end. A key costs about as much as four rows of a scan. */
static bool read_rows(struct index_op *index, struct peek *peek)
{
    struct engine *engine = index->op->engine;
    while (peek->by_key && peek->next_key < peek->keys_len && !enough(peek)) {
        read_key(index, peek);
        if (fuel_spend(engine, 4) && peek->next_key < peek->keys_len) {
            return true;
        }
    }
    const struct htable_segment *segment;
    while (!peek->by_key && !enough(peek) &&
           (segment = htable_scan(&index->ok.table, &peek->cursor)) != NULL) {
        read_segment(index, peek, segment);
        if (fuel_spend(engine, segment->used) && !peek->cursor.done) {
            return true;
        }
    }
    return false;
}

/* ---- answering ------------------------------------------------------------------------------- */

/* Rows of the error twin are texts; a code that is none becomes XX000. */
static err_t error_of_row(const uint8_t *row)
{
    struct datum d[ERR_COLS];
    size_t at = 0;
    for (int c = 0; c < ERR_COLS; c++) {
        at += batch_decode_datum(row + at, TYPE_TEXT, &d[c]);
    }
    char sqlstate[6] = "XX000";
    if (!d[ERR_COL_SQLSTATE].null && d[ERR_COL_SQLSTATE].len == 5) {
        memcpy(sqlstate, d[ERR_COL_SQLSTATE].s, 5);
    }
    const struct datum *message = &d[ERR_COL_MESSAGE];
    return err_sql(ERR_INVALID, sqlstate, "%.*s", message->null ? 0 : (int)message->len,
                   message->null ? "" : message->s);
}

struct sort_ref {
    size_t at, len; /* sort key in the buffer */
    uint32_t row;
    const uint8_t *base;
};

static int compare_sort(const void *pa, const void *pb)
{
    const struct sort_ref *a = pa;
    const struct sort_ref *b = pb;
    struct key_ref ka = {a->base + a->at, a->len};
    struct key_ref kb = {b->base + b->at, b->len};
    return compare_keys(&ka, &kb);
}

/*
 * Row numbers in the order asked for, ties by the row's bytes. The buffer may move while keys are
 * added, so bases are set at the end.
 */
static struct sort_ref *sort_rows(const struct peek *peek, const struct batch *b, struct buf *keys)
{
    ASSERT(peek->order_len > 0 && keys->len == 0);
    struct sort_ref *refs = mem_alloc((b->rows + 1UL) * sizeof(*refs));
    for (uint32_t row = 0; row < b->rows; row++) {
        size_t at = keys->len;
        for (uint32_t i = 0; i < peek->order_len; i++) {
            const struct plan_order *order = &peek->order[i];
            struct datum d;
            batch_datum(&b->col[order->col], row, &d);
            order_encode(b->col[order->col].kind, &d, order->desc, order->nulls_first, keys);
        }
        batch_encode_row(b, row, NULL, 0, false, keys);
        refs[row] = (struct sort_ref){.at = at, .len = keys->len - at, .row = row};
    }
    for (uint32_t row = 0; row < b->rows; row++) {
        refs[row].base = keys->data;
    }
    qsort(refs, b->rows, sizeof(*refs), compare_sort);
    return refs;
}

/*
 * Orders and cuts: the builder's rows become those of the answer. diff is the multiplicity: a limit
 * may cut through the copies of a row.
 */
static void finish_rows(struct peek *peek)
{
    struct account unaccounted = {0};
    struct chunk *chunk = chunk_from_builder(peek->rows, peek->cols, &unaccounted);
    if (chunk == NULL) {
        return;
    }
    if (peek->prog != NULL) { /* a projection may have made rows equal */
        const struct batch *view = &chunk->batch;
        batch_consolidate(&view, 1, 0, peek->rows);
        chunk_unref(chunk);
        chunk = chunk_from_builder(peek->rows, peek->cols, &unaccounted);
    }
    ASSERT(!peek->negative && peek->worst.len == 0);
    const struct batch *b = &chunk->batch;
    struct buf keys = {0};
    struct sort_ref *refs = peek->order_len > 0 ? sort_rows(peek, b, &keys) : NULL;
    int64_t left = peek->limit >= 0 ? peek->limit : INT64_MAX;
    for (uint32_t i = 0; i < b->rows && left > 0; i++) {
        uint32_t row = refs != NULL ? refs[i].row : i;
        int64_t diff = batch_diff(b, row);
        diff = diff < left ? diff : left;
        for (uint32_t c = 0; c < b->cols; c++) {
            struct datum d;
            batch_datum(&b->col[c], row, &d);
            batch_builder_datum(peek->rows, c, &d);
        }
        batch_builder_end_row(peek->rows, peek->time, diff);
        left -= diff;
    }
    free(refs);
    buf_free(&keys);
    chunk_unref(chunk);
}

/* Errors of rows go before limits and inconsistencies. */
static err_t outcome(struct peek *peek)
{
    if (peek->worst.len > 0) {
        return error_of_row(peek->worst.data);
    }
    if (peek->failed != ERR_OK) {
        err_t err = peek->failed;
        peek->failed = ERR_OK;
        return err;
    }
    return peek->negative ? err_sql(ERR_INTERNAL, "XX000",
                                    "invalid data: a row was retracted more often than inserted")
                          : ERR_OK;
}

/* The rows belong to the callback for the duration of the call only. */
static void answer(struct index_op *index, struct peek *peek)
{
    ASSERT(peek->started && peek->time < index->op->frontier);
    const struct engine_config *config = &index->op->engine->config;
    if (peek->prog != NULL) {
        run_mfp(peek);
    }
    err_t err = outcome(peek);
    if (err != ERR_OK) {
        config->host->peek_done(config->ctx, peek->id, NULL, err);
        return;
    }
    finish_rows(peek);
    size_t size;
    void *data = batch_builder_finish_new(peek->rows, &size);
    struct batch_col *cols = mem_alloc((peek->cols + 1) * sizeof(*cols));
    struct batch view;
    batch_view(data, size, cols, peek->cols, &view);
    config->host->peek_done(config->ctx, peek->id, &view, ERR_OK);
    free(cols);
    free(data);
}

/* A peek that is out of fuel keeps its place; it goes on in the next step. */
bool peek_serve(struct index_op *index)
{
    size_t at = 0;
    while (at < index->peeks_len) {
        struct peek *peek = index->peeks[at];
        if (index->op->frontier <= peek->time) {
            at++; /* later times are not complete */
            continue;
        }
        if (!peek->started) {
            read_errors(index, peek);
            peek->started = true;
        }
        if (peek->worst.len == 0 && read_rows(index, peek)) {
            return true;
        }
        /* Out of the list first: the callback may ask for more, or drop the dataflow. */
        index->peeks_len--;
        memmove(&index->peeks[at], &index->peeks[at + 1],
                (index->peeks_len - at) * sizeof(index->peeks[0]));
        answer(index, peek);
        peek_free(peek);
        index_update_since(index);
    }
    return false;
}
