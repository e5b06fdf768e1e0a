/*
 * Operators without state over rows: sources, constants, mfp, union, negate, index imports. They
 * pass chunks on as they come, whatever their times, and repeat their input's frontier.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/arrange.h"
#include "core/engine/clock.h"

enum { SLICE_ROWS = 2048 }; /* of a chunk an mfp does at once; a multiple of 64 */

/* An mfp's program, and how far it is. */
struct mfp_op {
    struct mfp_prog *prog;
    uint32_t row;            /* of the first queued chunk, to go on from */
    struct batch_col cols[]; /* of a slice */
};

/* ---- source ---------------------------------------------------------------------------------- */

/* Data was emitted on arrival (source_input); here only the frontier moves. */
static bool source_work(struct op *op)
{
    const struct source *source = op->state;
    ASSERT(source->parts_len <= source->parts_expected);
    if (source->parts_len < source->parts_expected) {
        return false;
    }
    uint64_t frontier = FRONTIER_EMPTY;
    for (size_t i = 0; i < source->parts_len; i++) {
        uint64_t upper = source_part_upper(&source->parts[i]);
        frontier = upper < frontier ? upper : frontier;
    }
    op_advance(op, frontier > op->frontier ? frontier : op->frontier);
    return false;
}

static void source_release(struct op *op)
{
    struct source *source = op->state;
    clock_leave(source);
    free(source->parts);
    free(source->reads);
    free(source);
}

/* Only an mfp leaves columns out: the planner puts one behind a source it does not need whole. */
const bool *source_reads(struct op *op)
{
    struct source *source = op->state;
    ASSERT(op->node->op == PLAN_SOURCE);
    if (source->reads != NULL) {
        return source->reads;
    }
    source->reads = mem_zalloc(op->cols);
    for (size_t u = 0; u < op->users_len; u++) {
        const struct op *user = op->users[u].op;
        bool mfp = user->node != NULL && user->node->op == PLAN_MFP;
        const bool *reads = mfp ? mfp_prog_reads(((struct mfp_op *)user->state)->prog) : NULL;
        for (uint32_t c = 0; c < op->cols; c++) {
            source->reads[c] |= !mfp || reads[c];
        }
    }
    return source->reads;
}

/* parts 0: nothing comes on this worker, the frontier is empty at once. */
void op_make_source(struct op *op, uint32_t parts)
{
    static const struct op_class class = {"source", source_work, source_release};
    struct source *source = MEM_NEW(struct source);
    source->parts_expected = parts;
    op->origin = OP_SOURCE;
    op->class = &class;
    op->state = source;
}

/* Parts are as many as storage workers: few. */
static struct source_part *find_part(struct source *source, uint32_t part)
{
    for (size_t i = 0; i < source->parts_len; i++) {
        if (source->parts[i].part == part) {
            return &source->parts[i];
        }
    }
    return NULL;
}

/* Also true of no chunk at all. */
static bool same_kinds(const struct chunk *chunk, const uint8_t *kinds, uint32_t cols)
{
    bool same = chunk == NULL || chunk->batch.cols == cols;
    for (uint32_t c = 0; chunk != NULL && same && c < cols; c++) {
        same = chunk->batch.col[c].kind == kinds[c];
    }
    return same;
}

/* Data of another collection than planned, or a gap: the dataflow cannot go on exactly. */
static err_t check_input(const struct op *op, const struct source_part *part,
                         const struct source *source, uint64_t lower, const struct chunk *ok,
                         const struct chunk *err)
{
    if (part == NULL && source->parts_len >= source->parts_expected) {
        return err_new(ERR_INTERNAL, "a part more than the %u expected", source->parts_expected);
    }
    if (part != NULL ? lower != source_part_upper(part) : lower > op->dataflow->as_of) {
        return err_new(ERR_INTERNAL, "input starts at %llu, leaving a gap or an overlap",
                       (unsigned long long)lower);
    }
    if (!same_kinds(ok, op->kinds, op->cols) || !same_kinds(err, batch_err_kinds, ERR_COLS)) {
        return err_new(ERR_INTERNAL, "input has other columns than planned");
    }
    return ERR_OK;
}

/* Checked after the as_of moved early times up, so the bounds are those the users rely on. */
static bool within(const struct chunk *chunk, uint64_t lower, uint64_t upper)
{
    return chunk == NULL || (chunk->time_min >= lower && chunk->time_max < upper);
}

/*
 * Each of the two chunks is checked by itself; a bad one fails the dataflow but the other is still
 * handed on or freed, never leaked.
 */
void source_input(struct op *op, uint32_t part_index, uint64_t lower, uint64_t upper,
                  struct chunk *ok, struct chunk *err)
{
    struct source *source = op->state;
    struct source_part *part = find_part(source, part_index);
    err_t bad = check_input(op, part, source, lower, ok, err);
    if (bad != ERR_OK) {
        op_fail(op, err_wrap(bad, "part %u of source %llu", part_index,
                             (unsigned long long)op->node->import.id));
        return;
    }
    if (part == NULL) {
        part = VEC_PUSH(source, parts);
        *part = (struct source_part){.part = part_index};
    }
    part->upper = upper; /* a clock moves when all that follow it were given this */
    uint64_t as_of = op->dataflow->as_of;
    struct chunk *chunks[2] = {ok != NULL ? chunk_advance(ok, as_of) : NULL,
                               err != NULL ? chunk_advance(err, as_of) : NULL};
    /* Data without progress (a piece of a snapshot) may reach up to any later upper. */
    uint64_t end = upper == lower ? FRONTIER_EMPTY : upper > as_of ? upper : as_of + 1;
    for (int i = 0; i < 2; i++) {
        if (chunks[i] != NULL && !within(chunks[i], lower > as_of ? lower : as_of, end)) {
            chunk_unref(chunks[i]);
            op_fail(op, err_new(ERR_INTERNAL, "input outside of its bounds"));
        } else if (chunks[i] != NULL) {
            op->rows_in += chunks[i]->batch.rows;
            note_given(op->dataflow, chunks[i]->time_max);
            op_emit(op, chunks[i], i == 1);
        }
    }
    op_activate(op);
}

/* ---- constant -------------------------------------------------------------------------------- */

/*
 * Each worker has its share of the rows. Runs once; afterwards the frontier is empty: a constant
 * never changes.
 */
static bool constant_work(struct op *op)
{
    ASSERT(op->ports_len == 0);
    const struct plan_node *node = op->node;
    const struct engine_config *config = &op->engine->config;
    if (op->frontier == FRONTIER_EMPTY) {
        return false;
    }
    for (size_t r = config->worker; r < node->constant.rows_len; r += config->workers) {
        if (node->constant.diffs[r] == 0) {
            continue;
        }
        for (uint32_t c = 0; c < op->cols; c++) {
            batch_builder_datum(op_ok(op), c, &node->constant.rows[r * op->cols + c]);
        }
        batch_builder_end_row(op_ok(op), op->dataflow->as_of, node->constant.diffs[r]);
        op_row_done(op);
    }
    op_advance(op, FRONTIER_EMPTY);
    return false;
}

void op_make_constant(struct op *op)
{
    static const struct op_class class = {"constant", constant_work, NULL};
    op->class = &class;
}

/* ---- mfp ------------------------------------------------------------------------------------- */

/* Forgets the first at chunks, already consumed. */
static void drop_consumed(struct chunk_list *list, size_t at)
{
    ASSERT(at <= list->chunks_len);
    list->chunks_len -= at;
    if (list->chunks_len > 0) {
        memmove(list->chunks, list->chunks + at, list->chunks_len * sizeof(list->chunks[0]));
    }
}

/* The next rows of a chunk; true when those were the last. */
static bool mfp_slice(struct op *op, const struct chunk *chunk)
{
    struct mfp_op *mfp = op->state;
    const struct batch *b = &chunk->batch;
    uint32_t from = mfp->row / 64 * 64; /* as slices start; it may have stopped at any row */
    uint32_t left = b->rows - from;
    struct batch slice;
    batch_slice(b, from, left < SLICE_ROWS ? left : (uint32_t)SLICE_ROWS, mfp->cols, &slice);
    size_t before = batch_builder_size(op_ok(op));
    uint32_t end = from + mfp_run(mfp->prog, &slice, mfp->row - from, op_ok(op), op_err(op));
    size_t bytes = batch_builder_size(op_ok(op)) - before;
    fuel_spend(op->engine, end - mfp->row + (uint32_t)(bytes / 1024));
    ASSERT(end > mfp->row || b->rows == 0);
    mfp->row = end;
    return mfp->row == b->rows;
}

/*
 * Work stops between slices of a chunk. The frontier moves only once every queued chunk is through.
 */
static bool mfp_work(struct op *op)
{
    ASSERT(op->ports_len == 1 && op->state != NULL);
    struct mfp_op *mfp = op->state;
    struct chunk_list *list = &op->ports[0].ok;
    size_t at = 0;
    op_forward_errors(op);
    while (!op->engine->exhausted && at < list->chunks_len) {
        if (mfp_slice(op, list->chunks[at])) {
            chunk_unref(list->chunks[at++]);
            mfp->row = 0;
        }
        if (batch_builder_rows(op_ok(op)) >= OUT_ROWS ||
            batch_builder_size(op_ok(op)) >= OUT_BYTES) {
            op_flush(op);
        }
    }
    drop_consumed(list, at);
    op_flush(op);
    if (list->chunks_len == 0) {
        op_advance(op, op_input_frontier(op));
    }
    return list->chunks_len > 0;
}

static void mfp_release(struct op *op)
{
    struct mfp_op *mfp = op->state;
    mfp_prog_free(mfp->prog);
    free(mfp);
}

/* The compiled program holds scratch memory: one per operator, so that workers share nothing. */
void op_make_mfp(struct op *op)
{
    static const struct op_class class = {"map/filter/project", mfp_work, mfp_release};
    const char *context = op->dataflow->plan->name != NULL ? op->dataflow->plan->name : "";
    op->class = &class;
    struct mfp_op *mfp = mem_zalloc(sizeof(*mfp) + op->ports[0].cols * sizeof(mfp->cols[0]));
    mfp->prog = mfp_compile(&op->node->mfp, op->ports[0].kinds, context);
    op->state = mfp;
}

/* ---- union and negate ------------------------------------------------------------------------ */

/* change makes a chunk of the same rows: itself or its negation. No row is copied. */
static bool pass_on(struct op *op, struct chunk *(*change)(struct chunk *))
{
    ASSERT(op->ok == NULL && op->err == NULL); /* nothing of its own to put out */
    op_forward_errors(op);
    for (uint32_t p = 0; p < op->ports_len; p++) {
        struct chunk_list *list = &op->ports[p].ok;
        for (size_t i = 0; i < list->chunks_len; i++) {
            struct chunk *chunk = change(list->chunks[i]);
            chunk_unref(list->chunks[i]);
            op_emit(op, chunk, false);
        }
        list->chunks_len = 0;
    }
    op_advance(op, op_input_frontier(op));
    return false;
}

/* A union of streams of changes is their concatenation; nothing is consolidated here. */
static bool union_work(struct op *op)
{
    for (uint32_t p = 1; op->node->sum.errors_once && p < op->ports_len; p++) {
        chunk_list_clear(&op->ports[p].err);
    }
    return pass_on(op, chunk_ref);
}

static bool negate_work(struct op *op)
{
    return pass_on(op, chunk_negate);
}

void op_make_union(struct op *op)
{
    static const struct op_class class = {"union", union_work, NULL};
    op->class = &class;
}

void op_make_negate(struct op *op)
{
    static const struct op_class class = {"negate", negate_work, NULL};
    op->class = &class;
}

/* ---- index import ---------------------------------------------------------------------------- */

/*
 * The arrangement's content up to the index's frontier at creation is scanned, piece by piece,
 * while a hold keeps its times apart from later ones; what the index takes in meanwhile and
 * afterwards arrives in the port. Nothing is promised before the scan is done.
 */
struct import {
    struct op *index;
    bool awake; /* a dependent of the index's dataflow */
    bool started;
    bool snapshot; /* somebody wants the rows at the as_of */
    uint64_t upper; /* the scan covers times before, and begins when all of them are in */
    struct htable_cursor cursor[2]; /* ok, err */
};

/* Times before the as_of count as the as_of: the reader's dataflow starts there. */
static void import_key(struct op *op, const struct htable_entry *entry, bool err)
{
    ASSERT(entry != NULL && arrange_key(entry)->data != NULL);
    const struct import *import = op->state;
    const struct arrange_key *key = arrange_key(entry);
    const struct arrange_update *update = arrange_first(key);
    uint64_t as_of = op->dataflow->as_of;
    for (uint32_t i = 0; i < key->count; i++, update = arrange_next(update)) {
        bool wanted = err || import->snapshot || update->time > as_of;
        if (update->time >= import->upper || !wanted) {
            continue;
        }
        struct batch_builder *builder = err ? op_err(op) : op_ok(op);
        batch_decode_row(update->row, err ? batch_err_kinds : op->kinds,
                         err ? (size_t)ERR_COLS : op->cols, builder, 0);
        batch_builder_end_row(builder, update->time > as_of ? update->time : as_of, update->diff);
        op_row_done(op);
    }
}

/* True when out of fuel before the end. */
static bool import_scan(struct op *op, bool err)
{
    struct import *import = op->state;
    struct arrange *arrange = index_arrange(import->index, err);
    ASSERT(arrange->since < import->upper || arrange->since <= op->dataflow->as_of);
    struct htable_cursor *cursor = &import->cursor[err];
    const struct htable_segment *segment;
    while ((segment = htable_scan(&arrange->table, cursor)) != NULL) {
        for (uint32_t i = 0; i < segment->cap; i++) {
            const struct htable_entry *entry = segment->slots[i].entry;
            if (entry != NULL && entry->hash >= cursor->from) {
                import_key(op, entry, err);
            }
        }
        if (fuel_spend(op->engine, segment->used) && !cursor->done) {
            return true;
        }
    }
    return false;
}

struct op *import_index(const struct op *op)
{
    ASSERT(op->node->op == PLAN_INDEX);
    return ((const struct import *)op->state)->index;
}

/* Lookups read the snapshot where it is. All users are known when an import runs, not before. */
static void start_import(struct op *op)
{
    struct import *import = op->state;
    import->started = true;
    for (size_t i = 0; i < op->users_len; i++) {
        const struct plan_node *node = op->users[i].op->node;
        bool later = node != NULL && node->op == PLAN_LOOKUP && node->lookup.later;
        import->snapshot |= !op->users[i].frontier_only && !later;
    }
    if (!import->snapshot && import->upper <= op->dataflow->as_of + 1) {
        import->cursor[0].done = true; /* nothing else is there */
    }
}

bool import_is_done(const struct op *op)
{
    const struct import *import = op->state;
    return import->cursor[0].done && import->cursor[1].done;
}

void import_rest(struct op *op)
{
    struct import *import = op->state;
    struct dataflow *from = import->index->dataflow;
    if (import->awake) {
        ASSERT(from->dependents > 0);
        import->awake = false;
        from->dependents--;
        dataflow_queue(from); /* to rest as well, if it may */
    }
}

/* An index whose dataflow rested has told its frontier to nobody at rest (index.c). */
static void import_wake(struct op *op)
{
    struct import *import = op->state;
    if (!import->awake && !op->dataflow->rests) {
        import->awake = true;
        import->index->dataflow->dependents++;
        clock_wake(import->index->dataflow);
    }
    uint64_t frontier = index_frontier(import->index);
    struct port *port = &op->ports[0];
    port->frontier = frontier > port->frontier ? frontier : port->frontier;
}

/*
 * First the ok rows are scanned, then the errors, then the follower's queue is passed on for good.
 * Chunks may wait long in the port while a large index is scanned: they are references to the
 * index's own chunks, not copies.
 */
static bool import_work(struct op *op)
{
    struct import *import = op->state;
    import_wake(op);
    if (index_frontier(import->index) < import->upper) {
        return false; /* a pass goes on there, whose end activates this */
    }
    if (!import->started) {
        start_import(op);
    }
    for (int err = 0; err < 2; err++) {
        if (!import->cursor[err].done && import_scan(op, err == 1)) {
            op_flush(op);
            return true;
        }
    }
    op_flush(op);
    index_release(import->index, op);
    uint64_t as_of = op->dataflow->as_of;
    for (int err = 0; err < 2; err++) {
        struct chunk_list *list = err == 1 ? &op->ports[0].err : &op->ports[0].ok;
        for (size_t i = 0; i < list->chunks_len; i++) {
            struct chunk *chunk = chunk_advance(list->chunks[i], as_of);
            chunk_unref(list->chunks[i]);
            note_given(op->dataflow, chunk->time_max);
            op_emit(op, chunk, err == 1);
        }
        list->chunks_len = 0;
    }
    uint64_t frontier = op->ports[0].frontier;
    ASSERT(import->cursor[0].done && import->cursor[1].done);
    op_advance(op, frontier > op->frontier ? frontier : op->frontier);
    return false;
}

/*
 * In this order: the index may be freed by the last call, as its dataflow may have been dropped
 * before.
 */
static void import_release(struct op *op)
{
    struct import *import = op->state;
    import_rest(op);
    index_release(import->index, op);
    index_unfollow(import->index, op);
    engine_release_import(import->index->dataflow);
    free(import);
}

/* The hold, and from where on what the index takes in is told. */
void import_begin(struct op *op)
{
    struct import *import = op->state;
    ASSERT(op->node->op == PLAN_INDEX);
    uint64_t as_of = op->dataflow->as_of;
    import->upper = index_upper(import->index);
    import->started = import->snapshot = false;
    memset(import->cursor, 0, sizeof(import->cursor));
    ASSERT(op->ports[0].ok.chunks_len == 0 && op->ports[0].frontier <= import->upper);
    op->ports[0].frontier = import->upper;
    ASSERT(import->upper >= index_frontier(import->index));
    struct dataflow *dataflow = op->dataflow;
    dataflow->given = import->upper > dataflow->given ? import->upper : dataflow->given;
    index_move_hold(import->index, op, as_of < import->upper - 1 ? as_of : import->upper - 1);
}

/*
 * The hold keeps times before upper apart from those at or after it, and the as_of readable;
 * following starts in the same instant, so that each update is seen exactly once.
 */
void op_make_import(struct op *op, struct op *index)
{
    ASSERT(index != NULL && index->dataflow != op->dataflow);
    static const struct op_class class = {"index import", import_work, import_release};
    struct import *import = MEM_NEW(struct import);
    import->index = index;
    op->class = &class;
    op->state = import;
    import_restart(op);
    index_follow(index, op);
    index->dataflow->importers++;
}

bool import_can_restart(const struct op *op)
{
    const struct import *import = op->state;
    return index_since(import->index) <= op->dataflow->as_of;
}

void import_restart(struct op *op)
{
    ASSERT(op->ports_len == 0);
    op->origin = OP_IMPORT;
    op->ports_len = 1;
    op->ports = mem_realloc(op->ports, sizeof(*op->ports));
    op->ports[0] = (struct port){.cols = op->cols};
    op->ports[0].kinds = mem_alloc(op->cols);
    memcpy(op->ports[0].kinds, op->kinds, op->cols);
    import_begin(op);
}
