/*
 * Temporal filters: a row is there while the logical time is within its bounds.
 *
 *   bounds FROM a, BEFORE b      input +row at t   ->   +row at max(t, a), -row at b
 *
 * unless max(t, a) >= b: then nothing. A row taken back at t' gives the opposite, -row at
 * max(t', a) and +row at b, which cancels what is still to come. So the output at any time is the
 * input of that time with the bounds asked of it.
 *
 * Updates of the input's own time pass at once, those of later times wait in a wheel until the
 * input's frontier is beyond them: a frontier that moves over a quiet input makes rows go. A row
 * whose window is over leaves nothing behind; what is held are the rows whose window is not, twice
 * when it has not begun. Opposites that lie on different workers wait for their time and cancel
 * behind: rows need not be exchanged.
 *
 * Rows are handled a column at a time and never encoded.
 */
#include "core/engine/engine_internal.h"
#include "core/engine/wheel.h"

enum { KEEP_ROWS = 1 << 16 }; /* scratch for more is given back */

#define NEVER UINT64_MAX /* a window's end that does not come */
STATIC_ASSERT(NEVER > TIME_MAX, "no update is at it");

struct temporal {
    struct wheel wheel;
    bool turning;       /* on the way to `to`; else there is nothing before the frontier */
    uint64_t to;
    /* Per row of the chunk at hand. */
    uint64_t *start, *end;
    int64_t *opposite;  /* the diff, negated */
    uint32_t *now, *later, *over; /* rows that are there at once, come later, go later */
    size_t cap;
};

/* ---- windows --------------------------------------------------------------------------------- */

static void reserve(struct temporal *t, uint32_t rows)
{
    if (rows <= t->cap && t->cap <= KEEP_ROWS) {
        return;
    }
    t->cap = rows;
    t->start = mem_realloc(t->start, rows * sizeof(t->start[0]));
    t->end = mem_realloc(t->end, rows * sizeof(t->end[0]));
    t->opposite = mem_realloc(t->opposite, rows * sizeof(t->opposite[0]));
    t->now = mem_realloc(t->now, rows * sizeof(t->now[0]));
    t->later = mem_realloc(t->later, rows * sizeof(t->later[0]));
    t->over = mem_realloc(t->over, rows * sizeof(t->over[0]));
}

static void starts_at(uint64_t *start, uint64_t *end, uint64_t bound)
{
    *start = bound > *start ? bound : *start;
    *end = bound > TIME_MAX ? 0 : *end;
}

static void ends_at(uint64_t *end, uint64_t bound)
{
    *end = bound < *end ? bound : *end;
}

/* A time that lies behind all others has none behind it. */
static uint64_t next(uint64_t time)
{
    return time == UINT64_MAX ? UINT64_MAX : time + 1;
}

static void narrow(uint8_t cmp, uint64_t bound, uint64_t *start, uint64_t *end)
{
    switch (cmp) {
    case PLAN_TEMPORAL_BEFORE:
        ends_at(end, bound);
        break;
    case PLAN_TEMPORAL_UNTIL:
        ends_at(end, next(bound));
        break;
    case PLAN_TEMPORAL_AFTER:
        starts_at(start, end, next(bound));
        break;
    case PLAN_TEMPORAL_FROM:
        starts_at(start, end, bound);
        break;
    case PLAN_TEMPORAL_AT:
        starts_at(start, end, bound);
        ends_at(end, next(bound));
        break;
    default:
        UNREACHABLE();
    }
}

/*
 * Applies one bound to all rows. Of the signed kinds everything below 0 lies before all times; an
 * infinite timestamp lies behind them.
 */
static void apply_bound(struct temporal *t, const struct batch *b,
                        const struct plan_temporal_bound *bound)
{
    const struct batch_col *col = &b->col[bound->col];
    const int64_t *values = col->values;
    bool is_signed = col->kind != TYPE_MZ_TIMESTAMP;
    bool infinite = col->kind == TYPE_TIMESTAMP || col->kind == TYPE_TIMESTAMPTZ;
    bool ends = bound->cmp == PLAN_TEMPORAL_BEFORE || bound->cmp == PLAN_TEMPORAL_UNTIL ||
                bound->cmp == PLAN_TEMPORAL_AT;
    ASSERT(plan_temporal_takes(col->kind));
    for (uint32_t i = 0; i < b->rows; i++) {
        if (batch_is_null(col, i)) {
            t->end[i] = 0;
        } else if (is_signed && values[i] < 0) {
            t->end[i] = ends ? 0 : t->end[i];
        } else {
            bool last = infinite && values[i] == INT64_MAX;
            narrow(bound->cmp, last ? UINT64_MAX : (uint64_t)values[i], &t->start[i], &t->end[i]);
        }
    }
}

/* ---- work ------------------------------------------------------------------------------------ */

/* What is there at once goes on; the chunk itself when that is all of it. */
static void pass_on(struct op *op, struct chunk *chunk, const uint32_t *sel, uint32_t n)
{
    const struct batch *b = &chunk->batch;
    if (n == b->rows && op->cols == b->cols) {
        op_flush(op);
        op_emit(op, chunk_ref(chunk), false);
    } else if (n > 0) {
        struct batch view = *b;
        view.cols = op->cols;
        batch_builder_rows_of(op_ok(op), &view, sel, n);
        op_row_done(op);
    }
}

static void take_chunk(struct op *op, struct chunk *chunk)
{
    struct temporal *t = op->state;
    ASSERT(!t->turning || chunk->time_min >= t->to);
    const struct plan_node *node = op->node;
    struct batch view = chunk->batch;
    uint32_t now = 0, later = 0, over = 0;
    reserve(t, view.rows);
    for (uint32_t i = 0; i < view.rows; i++) {
        t->start[i] = batch_time(&view, i);
        t->end[i] = NEVER;
        t->opposite[i] = (int64_t)(0 - (uint64_t)batch_diff(&view, i));
    }
    for (uint32_t i = 0; i < node->temporal.bounds_len; i++) {
        apply_bound(t, &view, &node->temporal.bounds[i]);
    }
    for (uint32_t i = 0; i < view.rows; i++) {
        if (t->start[i] >= t->end[i]) {
            continue;
        }
        bool at_once = t->start[i] == batch_time(&view, i);
        t->now[now] = t->later[later] = t->over[over] = i;
        now += at_once;
        later += !at_once;
        over += t->end[i] != NEVER;
    }
    pass_on(op, chunk, t->now, now);
    view.times = t->start;
    wheel_add(&t->wheel, &view, t->later, later);
    view.times = t->end;
    view.diffs = t->opposite;
    wheel_add(&t->wheel, &view, t->over, over);
}

/* True when out of fuel. Chunks that came are taken first: only then their frontier holds. */
static bool take_input(struct op *op)
{
    struct chunk_list *list = &op->ports[0].ok;
    size_t at = 0;
    bool full = false;
    while (!full && at < list->chunks_len) {
        struct chunk *chunk = list->chunks[at++];
        take_chunk(op, chunk);
        full = fuel_spend(op->engine, chunk->batch.rows);
        chunk_unref(chunk);
    }
    list->chunks_len -= at;
    if (list->chunks_len > 0) {
        memmove(list->chunks, list->chunks + at, list->chunks_len * sizeof(list->chunks[0]));
    }
    return list->chunks_len > 0;
}

/* What is due before `to` goes out; true when out of fuel before all of it has. */
static bool turn(struct op *op)
{
    struct temporal *t = op->state;
    struct chunk *out;
    uint32_t rows;
    ASSERT(t->turning && t->to >= op->frontier);
    while (wheel_turn(&t->wheel, t->to, &out, &rows)) {
        if (out != NULL) {
            chunk_charge(out, &op->dataflow->account);
            note_given(op->dataflow, out->time_max);
            op_emit(op, out, false);
        }
        if (fuel_spend(op->engine, rows + 1)) {
            return true;
        }
    }
    return false;
}

/*
 * The frontier does not move while the wheel turns, and where it turns to stays: what arrives
 * meanwhile is at or after it.
 */
static bool temporal_work(struct op *op)
{
    struct temporal *t = op->state;
    ASSERT(op->ports_len == 1 && op->ports[0].frontier >= op->frontier);
    op_forward_errors(op);
    if (take_input(op)) {
        op_flush(op);
        return true;
    }
    op_flush(op);
    if (!t->turning) {
        t->to = op->ports[0].frontier;
        t->turning = t->to > op->frontier;
    }
    if (t->turning && turn(op)) {
        return true;
    }
    if (t->turning) {
        t->turning = false;
        op_advance(op, t->to);
    }
    op->arranged_rows = t->wheel.rows;
    return op->ports[0].frontier > op->frontier;
}

static void temporal_release(struct op *op)
{
    struct temporal *t = op->state;
    wheel_free(&t->wheel);
    free(t->start);
    free(t->end);
    free(t->opposite);
    free(t->now);
    free(t->later);
    free(t->over);
    free(t);
}

static uint64_t temporal_due(const struct op *op)
{
    const struct temporal *t = op->state;
    return wheel_next(&t->wheel);
}

void op_make_temporal(struct op *op)
{
    static const struct op_class class = {"temporal filter", temporal_work, temporal_release};
    struct temporal *t = MEM_NEW(struct temporal);
    ASSERT(op->ports_len == 1 && op->cols <= op->ports[0].cols);
    op->due = temporal_due;
    op->class = &class;
    op->state = t;
    wheel_init(&t->wheel, op->kinds, op->cols, &op->account, op->dataflow->as_of);
}
