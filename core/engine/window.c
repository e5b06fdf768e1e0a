/*
 * A frame is a run of positions [from, to), found by ranks: ROWS by the position, GROUPS by the
 * number of the group, RANGE by comparing sort bytes; EXCLUDE cuts it into up to three runs. A
 * function of a frame depends on the runs' rows alone.
 *
 * Which rows does a change of row e concern? A row r whose frame holds e, before or after the
 * change; and with ROWS and GROUPS also one that counts its frame's bounds past e, so that they
 * move:
 *
 *   ROWS BETWEEN 5 PRECEDING AND 3 PRECEDING: those up to 5 behind e
 *
 * That is a run of positions around e, in the partition before the change and after it; the
 * operator takes both. first_value of a frame that begins with the partition is concerned by a new
 * first row only, last_value likewise; the other functions by nothing but the number of rows, or
 * groups, before them.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/window.h"

#include "core/engine/order.h"

/* ---- layout ---------------------------------------------------------------------------------- */

static void place_aggs(struct window *w, uint32_t aggs)
{
    uint32_t at = sizeof(struct wnode);
    for (uint32_t i = 0; i < aggs; i++) {
        at = (at + 15) & ~15u;
        w->offsets[i] = at;
        at += wacc_size(&w->aggs[i]);
        w->offsets[aggs + i] = at;
        at += sizeof(struct datum);
    }
    w->rows.node_size = at;
    w->rows.acc_at = w->offsets;
    w->rows.value_at = w->offsets + aggs;
}

/* What the operator has to look at beyond window_affected. */
static void note_call(struct window *w, const struct plan_window_call *call)
{
    switch (call->func) {
    case PLAN_WINDOW_ROW_NUMBER:
        w->shifts = w->by_position = true;
        break;
    case PLAN_WINDOW_RANK:
        w->shifts = w->peers = true;
        break;
    case PLAN_WINDOW_DENSE_RANK:
        w->dense = w->groups = w->peers = true;
        break;
    case PLAN_WINDOW_NTILE:
        w->shifts = w->total = w->by_position = true;
        break;
    case PLAN_WINDOW_PERCENT_RANK:
    case PLAN_WINDOW_CUME_DIST:
        w->shifts = w->total = w->peers = true;
        break;
    case PLAN_WINDOW_LAG:
        w->by_position = true;
        break;
    default:
        ASSERT(plan_window_has_frame(call->func));
        w->groups |= call->frame.mode == PLAN_FRAME_GROUPS;
        w->peers |= call->frame.mode != PLAN_FRAME_ROWS ||
                    call->frame.exclude == PLAN_EXCLUDE_GROUP ||
                    call->frame.exclude == PLAN_EXCLUDE_TIES;
        w->by_position |= call->frame.mode == PLAN_FRAME_ROWS ||
                          call->frame.exclude == PLAN_EXCLUDE_CURRENT ||
                          call->frame.exclude == PLAN_EXCLUDE_TIES;
        break;
    }
}

void window_init(struct window *w, const struct plan_node *node, const uint8_t *kinds,
                 uint32_t cols)
{
    ASSERT(node->op == PLAN_WINDOW);
    uint32_t len = node->window.calls_len, aggs = 0;
    *w = (struct window){.node = node};
    w->aggs = mem_zalloc((len + 1) * sizeof(*w->aggs));
    w->agg_of = mem_zalloc((len + 1) * sizeof(*w->agg_of));
    w->values = mem_zalloc((len + 1) * sizeof(*w->values));
    w->offsets = mem_zalloc((2 * len + 1) * sizeof(*w->offsets));
    for (uint32_t i = 0; i < len; i++) {
        const struct plan_window_call *call = &node->window.calls[i];
        note_call(w, call);
        if (call->func == PLAN_WINDOW_AGG) {
            bool counted = call->agg.func == AGG_COUNT_ALL;
            bool kept = wacc_spec_of(&call->agg, counted ? 0 : kinds[call->agg.arg],
                                     &w->aggs[aggs]);
            ASSERT(kept); /* plan_validate */
            w->agg_of[i] = aggs++;
        }
    }
    w->plain =
        (struct wtree_shape){.kinds = kinds, .cols = cols, .node_size = sizeof(struct wnode)};
    w->rows = w->plain;
    w->rows.aggs = w->aggs;
    w->rows.aggs_len = aggs;
    place_aggs(w, aggs);
}

void window_free(struct window *w)
{
    free(w->aggs);
    free(w->agg_of);
    free(w->values);
    free(w->offsets);
    buf_free(&w->scratch);
}

static struct wkey group_key(struct wkey row)
{
    return (struct wkey){row.bytes, row.sort_len, row.sort_len};
}

int64_t window_apply(struct window *w, struct window_part *part, struct pool *pool,
                     struct wkey row, int64_t diff)
{
    int64_t before = wtree_update(&w->rows, &part->rows, pool, row, diff);
    int64_t after = (int64_t)((uint64_t)before + (uint64_t)diff);
    int64_t grew = (after > 0 ? after : 0) - (before > 0 ? before : 0);
    if (w->groups && grew != 0) {
        /* Modulo 2^64 while the partition is over: right again when it is not. */
        wtree_update(&w->plain, &part->groups, pool, group_key(row), grew);
    }
    return grew;
}

/* ---- bounds ---------------------------------------------------------------------------------- */

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* No sum of positions and offsets of a plan, which may be anything, wraps. */
static int64_t plus(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? (b < 0 ? INT64_MIN : INT64_MAX) : sum;
}

static int64_t negated(int64_t v)
{
    return v == INT64_MIN ? INT64_MAX : -v;
}

/* Sort bytes a RANGE bound is compared by: those of its column, or where that is NULL or there is
 * none, of the row itself. */
static struct wkey bound_key(struct window *w, const struct plan_bound *bound,
                             const struct wnode *node)
{
    struct datum d = {.null = true};
    if (bound->kind == PLAN_BOUND_VALUE) {
        wnode_datum(&w->rows, node, bound->col, &d);
    }
    if (d.null) {
        return group_key(wnode_key(&w->rows, node));
    }
    const struct plan_order *order = &w->node->window.order[0];
    buf_clear(&w->scratch);
    order_encode(w->rows.kinds[bound->col], &d, order->desc, order->nulls_first, &w->scratch);
    uint32_t len = (uint32_t)w->scratch.len;
    return (struct wkey){w->scratch.data, len, len};
}

/* The position where the group of this number begins; beyond the last: the end. */
static int64_t group_start(struct window *w, const struct window_part *part, int64_t group)
{
    if (group <= 0) {
        return 0;
    }
    if (group >= wtree_elements(&part->groups)) {
        return wtree_copies(&part->rows);
    }
    const struct wnode *node = wtree_element(&part->groups, group);
    return wtree_rank(&w->rows, &part->rows, wnode_key(&w->plain, node)).copies;
}

static void find_peers(struct window *w, const struct window_part *part, const struct wnode *node,
                       struct window_peers *peers)
{
    struct wkey key = wnode_key(&w->rows, node);
    if (peers->of != NULL && wkey_is_peer(wnode_key(&w->rows, peers->of), key)) {
        return;
    }
    struct wkey sort = group_key(key);
    peers->of = node;
    peers->from = wtree_rank(&w->rows, &part->rows, sort).copies;
    peers->to = wtree_rank_behind(&w->rows, &part->rows, sort).copies;
    peers->group = w->groups ? wtree_rank(&w->plain, &part->groups, sort).elements : 0;
    ASSERT(peers->from < peers->to);
}

/* Where a frame begins (end false) or ends, before what EXCLUDE takes out of it. */
static int64_t bound_at(struct window *w, const struct window_part *part,
                        const struct plan_frame *frame, bool end, const struct wnode *node,
                        int64_t position, const struct window_peers *peers)
{
    const struct plan_bound *bound = end ? &frame->end : &frame->start;
    int64_t total = wtree_copies(&part->rows);
    int64_t offset = bound->kind == PLAN_BOUND_OFFSET ? bound->offset : 0;
    ASSERT(position >= 0 && position < total);
    if (bound->kind == PLAN_BOUND_UNBOUNDED) {
        return end ? total : 0;
    }
    switch (frame->mode) {
    case PLAN_FRAME_ROWS:
        return clamp(plus(plus(position, offset), end ? 1 : 0), 0, total);
    case PLAN_FRAME_GROUPS:
        return group_start(w, part, plus(plus(peers->group, offset), end ? 1 : 0));
    default:
        break;
    }
    if (bound->kind == PLAN_BOUND_CURRENT) {
        return end ? peers->to : peers->from;
    }
    struct wkey key = bound_key(w, bound, node);
    return end ? wtree_rank_behind(&w->rows, &part->rows, key).copies
               : wtree_rank(&w->rows, &part->rows, key).copies;
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* Runs in order, without gaps of their own; empty ones are possible. */
struct runs {
    int64_t from[3], to[3];
    uint32_t len;
};

static void add_run(struct runs *runs, int64_t from, int64_t to)
{
    if (from < to) {
        ASSERT(runs->len < 3);
        runs->from[runs->len] = from;
        runs->to[runs->len++] = to;
    }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static struct runs frame_runs(struct window *w, const struct window_part *part,
                              const struct plan_frame *frame, const struct wnode *node,
                              int64_t position, const struct window_peers *peers)
{
    struct runs runs = {.len = 0};
    int64_t from = bound_at(w, part, frame, false, node, position, peers);
    int64_t to = bound_at(w, part, frame, true, node, position, peers);
    bool current = frame->exclude == PLAN_EXCLUDE_CURRENT;
    if (frame->exclude == PLAN_EXCLUDE_NONE) {
        add_run(&runs, from, to);
        return runs;
    }
    int64_t out_from = current ? position : peers->from;
    int64_t out_to = current ? position + 1 : peers->to;
    add_run(&runs, from, least(to, out_from));
    if (frame->exclude == PLAN_EXCLUDE_TIES) {
        add_run(&runs, most(from, position), least(to, position + 1));
    }
    add_run(&runs, most(from, out_to), to);
    return runs;
}

/* The position of the frame's index-th row; -1: it has fewer. */
static int64_t nth_of(const struct runs *runs, int64_t index)
{
    ASSERT(index >= 0);
    for (uint32_t i = 0; i < runs->len; i++) {
        int64_t len = runs->to[i] - runs->from[i];
        if (index < len) {
            return runs->from[i] + index;
        }
        index -= len;
    }
    return -1;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Everything a function is computed from. */
struct place {
    struct window *w;
    const struct window_part *part;
    const struct wnode *node;
    int64_t position;
    struct window_peers *peers;
};

/* N rows in n buckets: the first N % n of them have one row more. */
static int64_t ntile(int64_t position, int64_t total, int64_t n)
{
    ASSERT(position < total && n > 0);
    int64_t size = total / n, large = total % n;
    int64_t in_large = large * (size + 1);
    return position < in_large ? position / (size + 1) + 1
                               : large + (position - in_large) / size + 1;
}

static void rank_value(const struct place *at, const struct plan_window_call *call,
                       struct datum *out)
{
    int64_t total = wtree_copies(&at->part->rows);
    ASSERT(at->position < total);
    switch (call->func) {
    case PLAN_WINDOW_ROW_NUMBER:
        out->i = at->position + 1;
        break;
    case PLAN_WINDOW_RANK:
        out->i = at->peers->from + 1;
        break;
    case PLAN_WINDOW_DENSE_RANK:
        out->i = at->peers->group + 1;
        break;
    case PLAN_WINDOW_PERCENT_RANK:
        out->f = total > 1 ? (double)at->peers->from / (double)(total - 1) : 0;
        break;
    case PLAN_WINDOW_CUME_DIST:
        out->f = (double)at->peers->to / (double)total;
        break;
    default:
        ASSERT(call->func == PLAN_WINDOW_NTILE);
        out->i = ntile(at->position, total, call->n);
        break;
    }
}

/* arg at another position; outside of the partition or frame: NULL. */
static void value_at(const struct place *at, const struct plan_window_call *call,
                     int64_t position, struct datum *out)
{
    *out = (struct datum){.null = true};
    if (position >= 0 && position < wtree_copies(&at->part->rows)) {
        int64_t first;
        const struct wnode *node = wtree_at(&at->part->rows, position, &first);
        wnode_datum(&at->w->rows, node, call->arg, out);
    }
}

/* What a function counts with: the plan's number or the row's. False: that is NULL. */
static bool count_of(const struct place *at, const struct plan_window_call *call, int64_t *n)
{
    struct datum d = {.i = call->n};
    if (call->n_of_row) {
        ASSERT(at->w->rows.kinds[call->n_col] == TYPE_INT8);
        wnode_datum(&at->w->rows, at->node, call->n_col, &d);
        d.i = call->n < 0 ? negated(d.i) : d.i;
    }
    *n = d.null ? 0 : d.i;
    return !d.null;
}

static void lag_value(const struct place *at, const struct plan_window_call *call,
                      struct datum *out)
{
    int64_t n;
    if (!count_of(at, call, &n)) {
        out->null = true;
        return;
    }
    int64_t position = plus(at->position, negated(n));
    bool outside = position < 0 || position >= wtree_copies(&at->part->rows);
    if (outside && call->has_fallback) {
        wnode_datum(&at->w->rows, at->node, call->fallback, out);
    } else {
        value_at(at, call, outside ? -1 : position, out);
    }
}

/* False: an error instead. */
static bool frame_value(const struct place *at, const struct plan_window_call *call,
                        const struct runs *runs, struct datum *out, const char **sqlstate,
                        const char **message)
{
    int64_t len = 0, n = 0;
    bool counts = call->func != PLAN_WINDOW_NTH_VALUE || count_of(at, call, &n);
    if (call->func == PLAN_WINDOW_NTH_VALUE && counts && n <= 0) {
        *sqlstate = "22016";
        *message = "argument of nth_value must be greater than zero";
        return false;
    }
    for (uint32_t i = 0; i < runs->len; i++) {
        len += runs->to[i] - runs->from[i];
    }
    int64_t index = call->func == PLAN_WINDOW_FIRST_VALUE  ? 0
                    : call->func == PLAN_WINDOW_LAST_VALUE ? len - 1
                                                           : n - 1;
    value_at(at, call, index < 0 || index >= len ? -1 : nth_of(runs, index), out);
    return true;
}

static bool agg_value(const struct place *at, uint32_t agg, const struct runs *runs,
                      struct datum *out, const char **sqlstate, const char **message)
{
    const struct wacc_spec *spec = &at->w->aggs[agg];
    struct wacc acc;
    ASSERT(agg < at->w->rows.aggs_len);
    wacc_clear(spec, &acc);
    for (uint32_t i = 0; i < runs->len; i++) {
        wtree_fold(&at->w->rows, &at->part->rows, agg, runs->from[i], runs->to[i], &acc);
    }
    return wacc_result(spec, &acc, out, sqlstate, message);
}

bool window_values(struct window *w, const struct window_part *part, const struct wnode *node,
                   int64_t position, struct window_peers *peers, const char **sqlstate,
                   const char **message)
{
    struct place at = {w, part, node, position, peers};
    ASSERT(!wtree_is_over(&part->rows));
    if (w->peers) {
        find_peers(w, part, node, peers);
    }
    for (uint32_t i = 0; i < w->node->window.calls_len; i++) {
        const struct plan_window_call *call = &w->node->window.calls[i];
        struct datum *out = &w->values[i];
        *out = (struct datum){0};
        if (call->func == PLAN_WINDOW_LAG) {
            lag_value(&at, call, out);
        } else if (!plan_window_has_frame(call->func)) {
            rank_value(&at, call, out);
        } else {
            struct runs runs = frame_runs(w, part, &call->frame, node, position, peers);
            if (call->func == PLAN_WINDOW_AGG
                    ? !agg_value(&at, w->agg_of[i], &runs, out, sqlstate, message)
                    : !frame_value(&at, call, &runs, out, sqlstate, message)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- what a change concerns ------------------------------------------------------------------ */

/* A test for wtree_front: does the bound of a row lie before (or at) the changed row? */
struct bound_test {
    struct window *w;
    const struct plan_bound *bound;
    struct wkey row; /* sort bytes */
    bool or_at;
};

static bool bound_is_before(void *arg, const struct wnode *node)
{
    struct bound_test *test = arg;
    int order = wkey_compare(bound_key(test->w, test->bound, node), test->row);
    return order < 0 || (order == 0 && test->or_at);
}

/* How far behind e a row still counts past it, and how far before. */
static int64_t reach(const struct plan_frame *frame, bool behind)
{
    int64_t most_of = 0;
    const struct plan_bound *bounds[] = {&frame->start, &frame->end};
    for (int i = 0; i < 2; i++) {
        int64_t offset = bounds[i]->kind == PLAN_BOUND_OFFSET ? bounds[i]->offset : 0;
        most_of = most(most_of, behind ? negated(offset) : offset);
    }
    return most_of;
}

/* Of frames bounded on both sides. from and to: where the changed row is, or would be. */
static struct window_span near(struct window *w, const struct window_part *part,
                               const struct plan_frame *frame, struct wkey row,
                               struct window_span own)
{
    ASSERT(frame->start.kind != PLAN_BOUND_UNBOUNDED && frame->end.kind != PLAN_BOUND_UNBOUNDED);
    int64_t total = wtree_copies(&part->rows), back = reach(frame, true);
    int64_t ahead = reach(frame, false);
    struct wkey sort = group_key(row);
    if (frame->mode == PLAN_FRAME_ROWS) {
        return (struct window_span){clamp(plus(own.from, -ahead), 0, total),
                                    clamp(plus(own.to, back), 0, total)};
    }
    if (frame->mode == PLAN_FRAME_GROUPS) {
        int64_t group = wtree_rank(&w->plain, &part->groups, sort).elements;
        return (struct window_span){group_start(w, part, plus(group, -ahead)),
                                    group_start(w, part, plus(plus(group, back), 1))};
    }
    struct bound_test ends = {w, &frame->end, sort, false};
    struct bound_test starts = {w, &frame->start, sort, true};
    return (struct window_span){wtree_front(&part->rows, bound_is_before, &ends),
                                wtree_front(&part->rows, bound_is_before, &starts)};
}

/*
 * first_value over a frame that begins with the partition looks at the partition's first row, and
 * at no more of its frame than whether that is empty.
 */
static struct window_span frame_affected(struct window *w, const struct window_part *part,
                                         const struct plan_window_call *call, struct wkey row,
                                         struct window_span own)
{
    const struct plan_frame *frame = &call->frame;
    int64_t total = wtree_copies(&part->rows);
    struct plan_frame bounded = *frame;
    bool to_start = frame->start.kind == PLAN_BOUND_UNBOUNDED;
    bool to_end = frame->end.kind == PLAN_BOUND_UNBOUNDED;
    bool plain = frame->exclude == PLAN_EXCLUDE_NONE;
    bool value_start = frame->start.kind == PLAN_BOUND_VALUE;
    bool value_end = frame->end.kind == PLAN_BOUND_VALUE;
    if (to_start) {
        bounded.start.kind = PLAN_BOUND_CURRENT;
    }
    if (to_end) {
        bounded.end.kind = PLAN_BOUND_CURRENT;
    }
    struct window_span span = near(w, part, &bounded, row, own);
    bool first = plain && call->func == PLAN_WINDOW_FIRST_VALUE;
    bool last = plain && call->func == PLAN_WINDOW_LAST_VALUE;
    if (to_start && !(first && own.from > 0) && !(last && !value_end)) {
        span.to = total;
    }
    if (to_end && !(last && own.to < total) && !(first && !value_start)) {
        span.from = 0;
    }
    return span;
}

static struct window_span call_affected(struct window *w, const struct window_part *part,
                                        const struct plan_window_call *call, struct wkey row,
                                        struct window_span own)
{
    int64_t total = wtree_copies(&part->rows);
    switch (call->func) {
    case PLAN_WINDOW_LAG:
        if (call->n_of_row) { /* whoever looks over here */
            return (struct window_span){0, total};
        }
        return (struct window_span){clamp(plus(own.from, least(call->n, 0)), 0, total),
                                    clamp(plus(own.to, most(call->n, 0)), 0, total)};
    /* Peers share their group's first and last position, whichever of them came or went. */
    case PLAN_WINDOW_RANK:
    case PLAN_WINDOW_PERCENT_RANK:
    case PLAN_WINDOW_CUME_DIST: {
        struct wkey sort = group_key(row);
        return (struct window_span){
            wtree_rank(&w->rows, &part->rows, sort).copies,
            wtree_rank_behind(&w->rows, &part->rows, sort).copies};
    }
    default:
        break;
    }
    return plan_window_has_frame(call->func) ? frame_affected(w, part, call, row, own) : own;
}

/* One run around the row that holds those of all functions. */
struct window_span window_affected(struct window *w, const struct window_part *part,
                                   struct wkey row)
{
    ASSERT(!wtree_is_over(&part->rows));
    struct wspan place = wtree_place(&w->rows, &part->rows, row);
    struct window_span own = {place.from, place.to};
    struct window_span all = own;
    for (uint32_t i = 0; i < w->node->window.calls_len; i++) {
        struct window_span one = call_affected(w, part, &w->node->window.calls[i], row, own);
        all.from = least(all.from, one.from);
        all.to = most(all.to, one.to);
    }
    ASSERT(all.from >= 0 && all.from <= all.to && all.to <= wtree_copies(&part->rows));
    return all;
}
