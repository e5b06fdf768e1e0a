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

enum {
    PIECE_ROWS = 8192, /* of an answer is handed on at once */
    SORT_ROWS = 256,   /* are sorted at once */
};

enum peek_stage {
    PEEK_READ,
    PEEK_MERGE,  /* equal rows of a projection */
    PEEK_ENCODE, /* sort keys */
    PEEK_RUNS,   /* short sorted runs */
    PEEK_SORT,   /* merged */
    PEEK_WRITE,
    PEEK_END,
};

struct sort_ref;

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
    enum peek_stage stage;
    err_t answer;          /* once everything was read: instead of rows */
    struct chunk_list pieces; /* what was read, then what it was merged to */
    uint64_t rows_read;
    uint64_t bytes_read; /* of pieces; looked at where an mfp may make rows longer */
    struct chunk_list merging; /* what is merged */
    const struct batch **views; /* of it */
    struct batch_merge *merge;
    size_t merge_bytes;    /* accounted */
    struct buf sort_keys;
    struct sort_ref *refs, *other; /* [rows]; other: of the next round of merging */
    size_t refs_len;
    uint32_t sort_piece, sort_row; /* to be encoded next */
    size_t sort_at;        /* refs in runs so far */
    size_t run, merged, left, right; /* see merge_sorted */
    size_t written;        /* refs or pieces */
    int64_t left_over;     /* of the limit */
};

/* At any stage: what was not set up yet is NULL. */
static void peek_free(struct index_op *index, struct peek *peek)
{
    account_add(&index->op->account, -(int64_t)peek->merge_bytes);
    batch_merge_free(peek->merge);
    chunk_list_free(&peek->merging);
    chunk_list_free(&peek->pieces);
    free(peek->views);
    buf_free(&peek->sort_keys);
    free(peek->refs);
    free(peek->other);
    err_free(peek->answer);
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
        peek_free(index, peek);
        return;
    }
    *VEC_PUSH(index, peeks) = peek;
    u64map_put(&op->engine->peeks, peek->id, op);
    op_activate(op);
}

/* It is the caller's. */
static struct peek *take_peek(struct index_op *index, size_t at)
{
    ASSERT(at < index->peeks_len);
    struct peek *peek = index->peeks[at];
    index->peeks_len--;
    memmove(&index->peeks[at], &index->peeks[at + 1],
            (index->peeks_len - at) * sizeof(index->peeks[0]));
    u64map_remove(&index->op->engine->peeks, peek->id);
    return peek;
}

void index_cancel_peek(struct op *op, uint64_t peek_id)
{
    struct index_op *index = op->state;
    size_t at = 0;
    while (at < index->peeks_len && index->peeks[at]->id != peek_id) {
        at++;
    }
    peek_free(index, take_peek(index, at));
    index_update_since(index);
    op_activate(op);
    engine_answer(op->engine, peek_id, err_new(ERR_CANCELLED, "the peek was cancelled"));
}

void peek_close(struct index_op *index, enum err_code code, const char *why)
{
    while (index->peeks_len > 0) {
        engine_answer(index->op->engine, index->peeks[0]->id, err_new(code, "%s", why));
        peek_free(index, take_peek(index, 0));
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

/* What was read becomes pieces, which are not changed any more. */
static void end_piece(struct index_op *index, struct peek *peek)
{
    struct chunk *piece = chunk_from_builder(peek->rows, peek->cols, &index->op->account);
    if (piece != NULL) {
        chunk_list_push(&peek->pieces, piece);
        peek->rows_read += piece->batch.rows;
        peek->bytes_read += piece->batch.size;
    }
}

/* Rows that fail become the peek's error: a SELECT fails as a whole. */
static void run_mfp(struct index_op *index, struct peek *peek)
{
    ASSERT(peek->prog != NULL && peek->errs != NULL);
    struct account unaccounted = {0};
    struct chunk *input = chunk_from_builder(peek->input, peek->input_cols, &unaccounted);
    if (input == NULL) {
        return;
    }
    for (uint32_t row = 0; row < input->batch.rows;) {
        row = mfp_run(peek->prog, &input->batch, row, peek->rows, peek->errs);
        end_piece(index, peek);
        if (peek->bytes_read > UINT32_MAX) { /* no rowset takes so much */
            row = input->batch.rows;
            if (peek->failed == ERR_OK) {
                peek->failed = err_sql(ERR_LIMIT, "54000", "the result has too many bytes");
            }
        }
    }
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

/* arg: the index and the peek. Rows go through the mfp, or become pieces, in batches. */
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
    if (peek->rows_read >= BATCH_ROWS_MAX - 2 * PIECE_ROWS) {
        if (peek->failed == ERR_OK) {
            peek->failed = err_sql(ERR_LIMIT, "54000", "the result has too many rows");
        }
        return;
    }
    size_t used = batch_decode_row(row, op->kinds, op->cols, to, 0);
    ASSERT(used == len);
    batch_builder_end_row(to, peek->time, diff);
    peek->copies += diff;
    uint32_t rows = batch_builder_rows(to);
    if (rows < PIECE_ROWS && (rows % 128 != 0 || batch_builder_size(to) < OUT_BYTES)) {
        return;
    }
    if (peek->prog != NULL) {
        run_mfp(index, peek);
    } else {
        end_piece(index, peek);
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

/* ---- outcome --------------------------------------------------------------------------------- */

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
    uint32_t piece;
    uint32_t row;
};

/* keys: the bytes sort keys lie in. */
static int compare_sort(const void *pa, const void *pb, void *keys)
{
    const struct sort_ref *a = pa;
    const struct sort_ref *b = pb;
    const uint8_t *base = keys;
    struct key_ref ka = {base + a->at, a->len};
    struct key_ref kb = {base + b->at, b->len};
    return compare_keys(&ka, &kb);
}

/* A projection may have made rows equal: the pieces are consolidated, in steps. */
static void merge_begin(struct index_op *index, struct peek *peek)
{
    ASSERT(peek->views == NULL && peek->merge == NULL);
    peek->merging = peek->pieces;
    peek->pieces = (struct chunk_list){0};
    if (peek->merging.chunks_len == 0) {
        return;
    }
    peek->views = mem_alloc(peek->merging.chunks_len * sizeof(peek->views[0]));
    for (size_t i = 0; i < peek->merging.chunks_len; i++) {
        peek->views[i] = &peek->merging.chunks[i]->batch;
    }
    peek->merge = batch_merge_new(peek->kinds, peek->cols);
    batch_merge_begin(peek->merge, peek->views, peek->merging.chunks_len, true);
    peek->merge_bytes = batch_merge_bytes(peek->merge);
    account_add(&index->op->account, (int64_t)peek->merge_bytes);
}

static void merge_end(struct index_op *index, struct peek *peek)
{
    account_add(&index->op->account, -(int64_t)peek->merge_bytes);
    peek->merge_bytes = 0;
    batch_merge_free(peek->merge);
    peek->merge = NULL;
    chunk_list_free(&peek->merging);
    free(peek->views);
    peek->views = NULL;
}

/* True when out of fuel before the end. */
static bool merge_rows(struct index_op *index, struct peek *peek)
{
    bool more = peek->merge != NULL;
    while (more) {
        uint32_t work = 0;
        more = batch_merge_step(peek->merge, peek->rows, &work);
        if (!more || batch_builder_rows(peek->rows) >= PIECE_ROWS ||
            batch_builder_size(peek->rows) >= OUT_BYTES) {
            end_piece(index, peek);
        }
        if (fuel_spend(index->op->engine, work) && more) {
            return true;
        }
    }
    merge_end(index, peek);
    return false;
}

/* ---- sorting --------------------------------------------------------------------------------- */

/*
 * Rows by the keys of the order asked for, ties by the row's bytes: keys are encoded, short runs
 * are sorted, then runs are merged in rounds, each as long as two of the last one's. All of it
 * stops at any row.
 */
static void encode_key(struct peek *peek, uint32_t piece, uint32_t row)
{
    const struct batch *b = &peek->pieces.chunks[piece]->batch;
    size_t at = peek->sort_keys.len;
    for (uint32_t i = 0; i < peek->order_len; i++) {
        const struct plan_order *order = &peek->order[i];
        struct datum d;
        batch_datum(&b->col[order->col], row, &d);
        order_encode(b->col[order->col].kind, &d, order->desc, order->nulls_first,
                     &peek->sort_keys);
    }
    batch_encode_row(b, row, NULL, 0, false, &peek->sort_keys);
    peek->refs[peek->refs_len++] = (struct sort_ref){
        .at = at, .len = peek->sort_keys.len - at, .piece = piece, .row = row};
}

/* True when out of fuel before the end, as the next two. */
static bool encode_keys(struct index_op *index, struct peek *peek)
{
    for (; peek->sort_piece < peek->pieces.chunks_len; peek->sort_piece++, peek->sort_row = 0) {
        uint32_t rows = peek->pieces.chunks[peek->sort_piece]->batch.rows;
        while (peek->sort_row < rows) {
            encode_key(peek, peek->sort_piece, peek->sort_row++);
            if (fuel_spend(index->op->engine, 2)) {
                return true;
            }
        }
    }
    return false;
}

static bool sort_runs(struct index_op *index, struct peek *peek)
{
    while (peek->sort_at < peek->refs_len) {
        size_t left = peek->refs_len - peek->sort_at;
        size_t n = left < SORT_ROWS ? left : SORT_ROWS;
        qsort_r(peek->refs + peek->sort_at, n, sizeof(peek->refs[0]), compare_sort,
                peek->sort_keys.data);
        peek->sort_at += n;
        if (fuel_spend(index->op->engine, 4 * SORT_ROWS)) {
            return true;
        }
    }
    return false;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A round of merging goes from peek->merged on; left and right are where its two runs are at. */
static bool merge_sorted(struct index_op *index, struct peek *peek)
{
    size_t len = peek->refs_len;
    for (; peek->run < len; peek->run *= 2) {
        while (peek->merged < len) {
            size_t first = peek->merged / (2 * peek->run) * (2 * peek->run);
            size_t middle = least(first + peek->run, len);
            size_t end = least(middle + peek->run, len);
            if (peek->merged == first) {
                peek->left = first;
                peek->right = middle;
            }
            bool left = peek->right == end ||
                        (peek->left < middle &&
                         compare_sort(&peek->refs[peek->left], &peek->refs[peek->right],
                                      peek->sort_keys.data) < 0);
            peek->other[peek->merged++] = peek->refs[left ? peek->left++ : peek->right++];
            if (fuel_spend(index->op->engine, 1)) {
                return true;
            }
        }
        struct sort_ref *sorted = peek->other;
        peek->other = peek->refs;
        peek->refs = sorted;
        peek->merged = 0;
    }
    return false;
}

static void sort_begin(struct peek *peek)
{
    size_t rows = 0;
    for (size_t i = 0; i < peek->pieces.chunks_len; i++) {
        rows += peek->pieces.chunks[i]->batch.rows;
    }
    peek->refs = mem_alloc((rows + 1) * sizeof(peek->refs[0]));
    peek->other = mem_alloc((rows + 1) * sizeof(peek->other[0]));
    peek->run = SORT_ROWS;
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

/* ---- answering ------------------------------------------------------------------------------- */

static void hand_on(struct index_op *index, const struct peek *peek, const struct batch *rows,
                    bool last)
{
    const struct engine_config *config = &index->op->engine->config;
    if (last) {
        config->host->peek_done(config->ctx, peek->id, rows, ERR_OK);
    } else {
        config->host->peek_rows(config->ctx, peek->id, rows);
    }
}

/* The answer's next row, whose multiplicity is what it is, or what the limit leaves of it: a limit
 * may cut through the copies of a row. */
static void put_row(struct peek *peek, uint32_t piece, uint32_t row)
{
    const struct batch *b = &peek->pieces.chunks[piece]->batch;
    int64_t diff = batch_diff(b, row);
    diff = diff < peek->left_over ? diff : peek->left_over;
    for (uint32_t c = 0; c < b->cols; c++) {
        struct datum d;
        batch_datum(&b->col[c], row, &d);
        batch_builder_datum(peek->rows, c, &d);
    }
    batch_builder_end_row(peek->rows, peek->time, diff);
    peek->left_over -= diff;
}

/* The rows that were put so far. */
static void hand_rows(struct index_op *index, struct peek *peek)
{
    struct chunk *piece = chunk_from_builder(peek->rows, peek->cols, &index->op->account);
    ASSERT(piece != NULL);
    hand_on(index, peek, &piece->batch, false);
    chunk_unref(piece);
}

/* Sorted or cut rows, in pieces; the last one is left in the builder. True when out of fuel before
 * the end. */
static bool write_refs(struct index_op *index, struct peek *peek)
{
    while (peek->written < peek->refs_len && peek->left_over > 0) {
        const struct sort_ref *ref = &peek->refs[peek->written++];
        put_row(peek, ref->piece, ref->row);
        uint32_t rows = batch_builder_rows(peek->rows);
        if (rows >= PIECE_ROWS ||
            (rows % 128 == 0 && batch_builder_size(peek->rows) >= OUT_BYTES)) {
            hand_rows(index, peek);
        }
        if (fuel_spend(index->op->engine, 1)) {
            return true;
        }
    }
    return false;
}

/* All rows, in no order: the pieces are the answer. A limit cuts the one it falls into. */
static bool write_pieces(struct index_op *index, struct peek *peek)
{
    while (peek->written < peek->pieces.chunks_len && peek->left_over > 0) {
        const struct batch *b = &peek->pieces.chunks[peek->written]->batch;
        if (peek->limit < 0) {
            hand_on(index, peek, b, false);
            fuel_spend(index->op->engine, b->rows / 8 + 1); /* copied at most */
        } else {
            for (uint32_t row = 0; row < b->rows && peek->left_over > 0; row++) {
                put_row(peek, (uint32_t)peek->written, row);
            }
            hand_rows(index, peek);
            fuel_spend(index->op->engine, b->rows);
        }
        peek->written++;
        if (index->op->engine->exhausted) {
            return true;
        }
    }
    return false;
}

/* The last piece, which may be none, ends the answer; the rows are the callback's for the call. */
static void end_answer(struct index_op *index, struct peek *peek)
{
    size_t size;
    void *data = batch_builder_finish_new(peek->rows, &size);
    struct batch_col *cols = mem_alloc((peek->cols + 1) * sizeof(*cols));
    struct batch view;
    batch_view(data, size, cols, peek->cols, &view);
    hand_on(index, peek, &view, true);
    free(cols);
    free(data);
}

/* What the stage that ends leaves to the next one. */
static void next_stage(struct index_op *index, struct peek *peek)
{
    ASSERT(peek->stage < PEEK_END);
    peek->stage++;
    if (peek->stage == PEEK_MERGE) {
        peek->answer = outcome(peek);
        end_piece(index, peek);
        peek->left_over = peek->limit >= 0 ? peek->limit : INT64_MAX;
        if (peek->answer != ERR_OK) {
            peek->stage = PEEK_END;
        } else if (peek->prog != NULL) {
            merge_begin(index, peek);
        }
    } else if (peek->stage == PEEK_ENCODE && peek->order_len > 0) {
        sort_begin(peek);
    }
}

/*
 * One stage after the other; true when out of fuel before the end. What is read, merged and sorted
 * is final only then, so that errors go before rows.
 */
static bool stages(struct index_op *index, struct peek *peek)
{
    bool out = false;
    while (!out && peek->stage != PEEK_END) {
        bool ordered = peek->order_len > 0;
        switch (peek->stage) {
        case PEEK_READ:
            out = peek->worst.len == 0 && read_rows(index, peek);
            if (!out && peek->prog != NULL) {
                run_mfp(index, peek);
            }
            break;
        case PEEK_MERGE:
            out = merge_rows(index, peek);
            break;
        case PEEK_ENCODE:
            out = ordered && encode_keys(index, peek);
            break;
        case PEEK_RUNS:
            out = ordered && sort_runs(index, peek);
            break;
        case PEEK_SORT:
            out = ordered && merge_sorted(index, peek);
            break;
        default:
            ASSERT(peek->stage == PEEK_WRITE);
            out = ordered ? write_refs(index, peek) : write_pieces(index, peek);
            break;
        }
        if (!out) {
            next_stage(index, peek);
        }
    }
    return out;
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
        if (stages(index, peek)) {
            return true;
        }
        /* Out of the list first: the callback may ask for more, or drop the dataflow. */
        peek = take_peek(index, at);
        if (peek->answer != ERR_OK) {
            const struct engine_config *config = &index->op->engine->config;
            config->host->peek_done(config->ctx, peek->id, NULL, peek->answer);
            peek->answer = ERR_OK;
        } else {
            end_answer(index, peek);
        }
        peek_free(index, peek);
        index_update_since(index);
    }
    return false;
}
