/*
 * Subscribe exports: what changed below a complete time is consolidated and handed to the host.
 *
 * A pass takes all complete times at once, so that a slow consumer gets fewer and larger ones, and
 * goes through its chunks in steps:
 *
 *     take      chunks of [frontier, upper)
 *     want      leave out what the export does not want (a snapshot, times from until on)
 *     hand on   chunks as they are, if their rows are consolidated and in order of time; else runs
 *               of one time (or all that is left, when times are mixed) are merged, in steps
 *     finish    the last piece carries the new frontier
 *
 * All pieces but the last have upper == lower. A drop in the middle leaves the consumer with parts
 * of a time that is never completed, which he must not show (engine.h).
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/engine_internal.h"

enum {
    DIRECT_ROWS = 2048, /* so few are consolidated in one go... */
    DIRECT_BYTES = 16 << 20, /* ...if they are no longer */
    PIECE_ROWS = 8192,  /* a piece is handed on when it has as many */
};

/* The ok or the error rows of a pass. */
struct twin {
    struct chunk_list list;
    size_t wanted;               /* chunks that were looked at */
    size_t at;                   /* chunks that were handed on or merged; they are freed */
    bool whole;                  /* chunks are handed on as they are */
    bool runs;                   /* the chunks are of one time each, in order */
    struct chunk *last;          /* the last one of those */
    struct batch_merge *merge;   /* NULL: none yet */
    size_t merge_end;            /* chunk behind those that are merged; 0: no merge goes on */
    size_t merge_bytes;          /* accounted */
    const struct batch **views;  /* of what is merged */
    struct batch_builder *piece; /* NULL: none yet */
};

struct subscribe {
    const struct plan_export *export;
    bool minimal; /* what arrives is consolidated already, but for the order of times */
    bool reported;
    bool open;    /* a pass goes on */
    uint64_t upper; /* of the pass */
    struct twin twins[2]; /* ok, err */
};

/* ---- handing on ------------------------------------------------------------------------------ */

/* The batches are the callback's for the duration of the call only. */
static void hand_on(struct op *op, uint64_t upper, const struct chunk *ok, const struct chunk *err)
{
    const struct subscribe *subscribe = op->state;
    const struct plan_export *export = subscribe->export;
    struct engine *engine = op->engine;
    ASSERT(upper >= op->frontier && engine->config.host->subscribe != NULL);
    if (op_export_live(op, export->id)) {
        engine->config.host->subscribe(engine->config.ctx, export->id, op->frontier, upper,
                                       ok != NULL ? &ok->batch : NULL,
                                       err != NULL ? &err->batch : NULL);
    }
}

/* What a twin's builder holds; NULL: nothing. */
static struct chunk *take_piece(struct op *op, bool err)
{
    struct subscribe *subscribe = op->state;
    struct twin *twin = &subscribe->twins[err];
    if (twin->piece == NULL) {
        return NULL;
    }
    return chunk_from_builder(twin->piece, err ? (uint32_t)ERR_COLS : op->cols,
                              &op->dataflow->account);
}

static void hand_piece(struct op *op, bool err, struct chunk *chunk)
{
    hand_on(op, op->frontier, err ? NULL : chunk, err ? chunk : NULL);
    chunk_unref(chunk);
}

/* ---- steps of a pass ------------------------------------------------------------------------- */

/* Do the chunks of a list follow each other in time, each of one time? */
static bool in_order(const struct chunk_list *list)
{
    uint64_t last = 0;
    for (size_t i = 0; i < list->chunks_len; i++) {
        const struct chunk *chunk = list->chunks[i];
        if (chunk->time_min != chunk->time_max || chunk->time_min < last) {
            return false;
        }
        last = chunk->time_max;
    }
    return true;
}

/*
 * The rows of the next chunk that this export wants; the rest is left out. The snapshot's updates
 * lie at the as_of. A chunk of which nothing is wanted leaves a gap.
 */
static void want_next(struct op *op, struct twin *twin, bool err)
{
    const struct subscribe *subscribe = op->state;
    const struct plan_export *export = subscribe->export;
    struct chunk **place = &twin->list.chunks[twin->wanted++];
    struct chunk *chunk = *place;
    uint64_t first = export->snapshot ? 0 : op->dataflow->as_of + 1;
    uint32_t rows = chunk->batch.rows;
    if (chunk->time_min >= first && chunk->time_max < export->until) {
        fuel_spend(op->engine, 1);
        return;
    }
    struct batch_builder *wanted = batch_builder_new(err ? batch_err_kinds : op->kinds,
                                                     chunk->batch.cols);
    for (uint32_t i = 0; i < rows; i++) {
        uint64_t time = batch_time(&chunk->batch, i);
        if (time >= first && time < export->until) {
            batch_builder_row(wanted, &chunk->batch, i);
        }
    }
    *place = chunk_from_builder(wanted, chunk->batch.cols, &op->dataflow->account);
    batch_builder_free(wanted);
    chunk_unref(chunk);
    fuel_spend(op->engine, rows);
}

/* All chunks were looked at: closes the gaps, and decides how the rest is handed on. */
static void want_end(struct op *op, struct twin *twin, bool err)
{
    const struct subscribe *subscribe = op->state;
    size_t kept = 0;
    for (size_t i = 0; i < twin->list.chunks_len; i++) {
        if (twin->list.chunks[i] != NULL) {
            twin->list.chunks[kept++] = twin->list.chunks[i];
        }
    }
    twin->list.chunks_len = kept;
    twin->wanted = SIZE_MAX;
    twin->runs = in_order(&twin->list);
    twin->whole = !err && subscribe->minimal && twin->runs;
}

/* As it is; the last one waits for the end of the pass. */
static void hand_next(struct op *op, struct twin *twin)
{
    struct chunk *chunk = twin->list.chunks[twin->at];
    twin->list.chunks[twin->at++] = NULL;
    fuel_spend(op->engine, chunk->batch.rows / 8 + 1); /* it is copied at most */
    if (twin->at < twin->list.chunks_len) {
        hand_piece(op, false, chunk);
    } else {
        twin->last = chunk;
    }
}

/* What was merged is freed. */
static void merged(struct op *op, struct twin *twin, size_t end)
{
    ASSERT(twin->at < end && end <= twin->list.chunks_len);
    for (; twin->at < end; twin->at++) {
        chunk_unref(twin->list.chunks[twin->at]);
        twin->list.chunks[twin->at] = NULL;
    }
    free(twin->views);
    twin->views = NULL;
    twin->merge_end = 0;
    account_add(&op->account, -(int64_t)twin->merge_bytes);
    twin->merge_bytes = 0;
}

/* The next chunks that have to be consolidated together: few rows are so at once. */
static void merge_begin(struct op *op, struct twin *twin, bool err)
{
    struct chunk **chunks = twin->list.chunks;
    const uint8_t *kinds = err ? batch_err_kinds : op->kinds;
    uint32_t cols = err ? (uint32_t)ERR_COLS : op->cols;
    uint64_t time = chunks[twin->at]->time_min;
    size_t end = twin->at;
    uint64_t rows = 0, bytes = 0;
    while (end < twin->list.chunks_len && (!twin->runs || chunks[end]->time_min == time)) {
        bytes += chunks[end]->batch.size;
        rows += chunks[end++]->batch.rows;
    }
    size_t len = end - twin->at;
    twin->views = mem_alloc(len * sizeof(twin->views[0]));
    for (size_t i = 0; i < len; i++) {
        twin->views[i] = &chunks[twin->at + i]->batch;
    }
    if (twin->piece == NULL) {
        twin->piece = batch_builder_new(kinds, cols);
    }
    if (rows <= DIRECT_ROWS && bytes <= DIRECT_BYTES) {
        batch_consolidate(twin->views, len, 0, twin->piece);
        merged(op, twin, end);
        fuel_spend(op->engine, (uint32_t)rows);
        return;
    }
    if (twin->merge == NULL) {
        twin->merge = batch_merge_new(kinds, cols);
    }
    batch_merge_begin(twin->merge, twin->views, len, twin->runs);
    twin->merge_bytes = batch_merge_bytes(twin->merge);
    account_add(&op->account, (int64_t)twin->merge_bytes);
    twin->merge_end = end;
}

static void merge_next(struct op *op, struct twin *twin, bool err)
{
    if (twin->merge_end == 0) {
        merge_begin(op, twin, err);
    } else {
        uint32_t work = 0;
        bool more = batch_merge_step(twin->merge, twin->piece, &work);
        fuel_spend(op->engine, work);
        if (!more) {
            merged(op, twin, twin->merge_end);
        }
    }
    if (batch_builder_rows(twin->piece) >= PIECE_ROWS ||
        batch_builder_size(twin->piece) >= OUT_BYTES) {
        hand_piece(op, err, take_piece(op, err));
    }
}

/* One bounded step; false: the twin is done. */
static bool twin_step(struct op *op, bool err)
{
    struct subscribe *subscribe = op->state;
    struct twin *twin = &subscribe->twins[err];
    if (twin->wanted < twin->list.chunks_len) {
        want_next(op, twin, err);
        return true;
    }
    if (twin->wanted != SIZE_MAX) {
        want_end(op, twin, err);
    }
    if (twin->at == twin->list.chunks_len) {
        return false;
    }
    if (twin->whole) {
        hand_next(op, twin);
    } else {
        merge_next(op, twin, err);
    }
    return true;
}

/* ---- passes ---------------------------------------------------------------------------------- */

static void subscribe_report(struct op *op)
{
    struct subscribe *subscribe = op->state;
    const struct plan_export *export = subscribe->export;
    subscribe->reported = true;
    op_export_report(op, export->id,
                     op->frontier >= export->until ? FRONTIER_EMPTY : op->frontier);
}

static bool begin(struct op *op)
{
    struct subscribe *subscribe = op->state;
    subscribe->upper = op_input_frontier(op);
    if (subscribe->upper <= op->frontier) {
        return false;
    }
    subscribe->open = true;
    for (int err = 0; err < 2; err++) {
        struct twin *twin = &subscribe->twins[err];
        ASSERT(twin->list.chunks_len == 0 && twin->last == NULL && twin->merge_end == 0);
        twin->wanted = twin->at = 0;
        op_port_take(op, &op->ports[0], err == 1, subscribe->upper, &twin->list);
    }
    return true;
}

/* The piece that completes the pass; nothing beyond until is anybody's. */
static void finish(struct op *op)
{
    struct subscribe *subscribe = op->state;
    struct twin *twins = subscribe->twins;
    uint64_t until = subscribe->export->until;
    uint64_t upper = subscribe->upper < until ? subscribe->upper : until;
    struct chunk *ok = twins[0].last != NULL ? twins[0].last : take_piece(op, false);
    struct chunk *err = take_piece(op, true);
    twins[0].last = NULL;
    if (upper > op->frontier) {
        hand_on(op, upper, ok, err);
    }
    chunk_unref(ok);
    chunk_unref(err);
    twins[0].list.chunks_len = twins[1].list.chunks_len = 0; /* all of them are freed */
    subscribe->open = false;
    op->frontier = subscribe->upper;
    subscribe_report(op);
}

static bool subscribe_work(struct op *op)
{
    struct subscribe *subscribe = op->state;
    if (!subscribe->reported) {
        subscribe_report(op);
    }
    if (!subscribe->open && !begin(op)) {
        return false;
    }
    for (int err = 0; err < 2; err++) {
        while (twin_step(op, err == 1)) {
            if (op->engine->exhausted) {
                return true;
            }
        }
    }
    finish(op);
    return op_input_frontier(op) > op->frontier;
}

static void subscribe_release(struct op *op)
{
    struct subscribe *subscribe = op->state;
    for (int err = 0; err < 2; err++) {
        struct twin *twin = &subscribe->twins[err];
        account_add(&op->account, -(int64_t)twin->merge_bytes);
        batch_merge_free(twin->merge);
        batch_builder_free(twin->piece);
        chunk_unref(twin->last);
        chunk_list_free(&twin->list);
        free(twin->views);
    }
    free(subscribe);
}

/*
 * Reductions put out each row once a time: a group's old and new output differ, those of different
 * groups differ in their keys, and a group lives on one worker. (Errors do not: two groups may fail
 * alike.)
 */
static bool is_minimal(const struct plan_node *node)
{
    return node->op == PLAN_REDUCE || node->op == PLAN_DISTINCT || node->op == PLAN_THRESHOLD;
}

/* By row: +1 and -1 of the same row from different workers meet and cancel. */
void op_make_subscribe(struct op *op, const struct plan_export *export)
{
    static const struct op_class class = {"subscribe", subscribe_work, subscribe_release};
    struct subscribe *subscribe = MEM_NEW(struct subscribe);
    subscribe->export = export;
    subscribe->minimal = is_minimal(&op->dataflow->plan->nodes[export->node]);
    op->class = &class;
    op->state = subscribe;
    engine_exchange_set_up(op, 0, ROUTE_ROW, NULL, 0, true);
}
