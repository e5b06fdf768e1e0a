/*
 * Window functions, kept up to date in time proportional to the rows that are concerned. For each
 * time and partition the changes are collected first; then, with O the partition before them and N
 * after them,
 *
 *   spans   what each change concerns, in O and in N (window_affected), as runs of elements
 *   O       the values of the rows in the spans, retracted
 *   N       the values of the rows in the spans, added
 *
 * A row outside of all spans has the same values in O and N: they are a function of the rows that
 * they are computed from, not of the tree (wacc.h). A row inside that has the same values all the
 * same cancels when the changes of a pass are consolidated; where there are more than CHANGES_MAX,
 * it may be put out and taken back at the same time instead. The spans of N can only be known in N,
 * so the changes are made, taken back for O's values, and made again: three updates of O(log n)
 * each, against two partitions in memory.
 *
 * Functions of how many rows come before (row_number, rank) are concerned by a change up to the
 * next one that makes up for it, often the end. Where a partition is new, or so much of it changes
 * that spans do not pay, all of it is one span.
 *
 * Every phase is a loop that can stop: a step takes no longer than its fuel, whatever a partition's
 * size. Rows with a negative count have no copies; while a partition has any, the error twin says
 * so, as for top-k. It also does for a partition of more copies than an int64_t counts, which puts
 * out no rows: it goes from all its rows to none, and back.
 */
#include "core/engine/engine_internal.h"
#include "core/engine/htable.h"
#include "core/engine/order.h"
#include "core/engine/probe.h"
#include "core/engine/reduce_state.h"
#include "core/engine/window.h"

enum {
    CHANGES_MAX = 1 << 17, /* rows consolidated and put out at once */
    WHOLE_SHARE = 2,       /* a partition of which one row in so many changes is done as a whole */
    CLEAR_MAX = 256,
    BUFFERS_KEPT = 1 << 20, /* bytes: larger lists of changes and spans are given back */
};

/* The payload of a partition. */
struct part {
    struct window_part state;
    struct wtree pending;   /* changes of this time; unused while fresh */
    uint64_t pending_len;   /* updates taken: at least the elements in pending */
    uint32_t touched;       /* at this time */
    uint32_t negative;      /* before this time */
    uint32_t fresh;         /* empty before this time: its rows go in at once */
    uint32_t over;          /* before this time: wtree_is_over */
};

/* A change of this time; the key's bytes are those of the pending node. */
struct change {
    struct wkey row;
    int64_t diff;
    int64_t peers; /* copies of its group before */
};

/* Elements from low to high, both included; bytes in the list's. */
struct span {
    size_t low, high;
    uint32_t low_len, high_len;
    bool to_end; /* high does not count */
};

struct span_list {
    struct span *spans;
    size_t spans_len, spans_cap;
    struct buf bytes;
};

enum phase {
    PHASE_LIST = 1, /* the pending changes, into an array */
    PHASE_OLD_SPANS,
    PHASE_MAKE,
    PHASE_NEW_SPANS,
    PHASE_UNION,
    PHASE_UNDO,
    PHASE_OLD_ROWS,
    PHASE_REDO,
    PHASE_NEW_ROWS,
    PHASE_END,
};

/* The partition at hand: where its phase stopped. */
struct progress {
    uint8_t phase;
    bool whole;      /* no spans: all rows */
    size_t at;       /* change, or span */
    size_t other_at; /* PHASE_UNION: in the other list */
    int64_t net;     /* copies, or groups, that the changes so far added */
    int64_t position, end; /* rows of the span at hand; end -1: not looked up */
    struct window_peers peers;
};

struct window_op {
    struct window window;
    struct htable table;
    struct pool pool;
    struct intake intake;
    struct probe probe; /* of the intake's next rows */
    uint64_t time;
    bool ending; /* the changes of time are in, touched partitions are being looked at */
    struct htable_entry **touched;
    size_t touched_len, touched_cap;
    size_t touched_at;
    struct progress progress;
    struct change *listed;
    size_t listed_len, listed_cap;
    struct span_list old_spans, new_spans, spans;
    size_t buffers; /* bytes of listed and the spans that the operator's account knows of */
    struct batch_builder *changes; /* of the pass, before consolidation */
    struct buf element;
};

/* ---- spans ----------------------------------------------------------------------------------- */

static struct wkey span_key(const struct span_list *list, size_t at, uint32_t len)
{
    ASSERT(at + len <= list->bytes.len);
    return (struct wkey){list->bytes.data + at, len, 0};
}

static int span_compare_low(const struct span_list *a, const struct span *x,
                            const struct span_list *b, const struct span *y)
{
    return wkey_compare(span_key(a, x->low, x->low_len), span_key(b, y->low, y->low_len));
}

/* The last span joins the one before it when they meet: then its low may be the lesser, too. */
static void join_last(struct span_list *list)
{
    while (list->spans_len >= 2) {
        struct span *last = &list->spans[list->spans_len - 1], *before = last - 1;
        bool apart = !before->to_end &&
                     wkey_compare(span_key(list, before->high, before->high_len),
                                  span_key(list, last->low, last->low_len)) < 0;
        if (apart) {
            return;
        }
        if (span_compare_low(list, last, list, before) < 0) {
            before->low = last->low;
            before->low_len = last->low_len;
        }
        before->to_end |= last->to_end;
        if (wkey_compare(span_key(list, before->high, before->high_len),
                         span_key(list, last->high, last->high_len)) < 0) {
            before->high = last->high;
            before->high_len = last->high_len;
        }
        list->spans_len--;
    }
}

static void push_span(struct span_list *list, struct wkey low, struct wkey high, bool to_end)
{
    ASSERT(wkey_compare(low, high) <= 0);
    struct span *span = VEC_PUSH(list, spans);
    *span = (struct span){.low = list->bytes.len, .low_len = low.len, .to_end = to_end};
    buf_append(&list->bytes, low.bytes, low.len);
    span->high = list->bytes.len;
    span->high_len = high.len;
    buf_append(&list->bytes, high.bytes, high.len);
    join_last(list);
}

static void clear_spans(struct span_list *list)
{
    list->spans_len = 0;
    buf_clear(&list->bytes);
}

/* The rows a change concerns where it is now, and the change itself. */
static void push_affected(struct window_op *wo, const struct part *part, struct wkey row,
                          struct span_list *list)
{
    struct window *w = &wo->window;
    const struct wtree *rows = &part->state.rows;
    struct window_span span = window_affected(w, &part->state, row);
    struct wkey low = row, high = row;
    int64_t first;
    ASSERT(span.from <= span.to && span.to <= wtree_copies(rows));
    if (span.from < span.to) {
        struct wkey from = wnode_key(&w->rows, wtree_at(rows, span.from, &first));
        struct wkey to = wnode_key(&w->rows, wtree_at(rows, span.to - 1, &first));
        low = wkey_compare(from, low) < 0 ? from : low;
        high = wkey_compare(to, high) > 0 ? to : high;
    }
    push_span(list, low, high, false);
}

/* From a change after which more rows (or fewer) come before, up to the next change. */
static void push_shift(struct window_op *wo, size_t i, struct span_list *list)
{
    bool last = i + 1 == wo->listed_len;
    ASSERT(i < wo->listed_len);
    struct wkey from = wo->listed[i].row;
    push_span(list, from, last ? from : wo->listed[i + 1].row, last);
}

/* ---- phases ---------------------------------------------------------------------------------- */

static struct part *current(const struct window_op *wo)
{
    ASSERT(wo->ending && wo->touched_at < wo->touched_len);
    return htable_payload(wo->touched[wo->touched_at]);
}

static void start_phase(struct window_op *wo, enum phase phase)
{
    bool whole = wo->progress.whole;
    ASSERT(phase >= PHASE_LIST && phase <= PHASE_END);
    wo->progress = (struct progress){.phase = (uint8_t)phase, .whole = whole, .end = -1};
}

/* A phase that does one thing a change; it gives up when all is to be done as a whole anyway. */
static bool each_change(struct op *op, void (*act)(struct op *op, struct part *part, size_t i))
{
    struct window_op *wo = op->state;
    struct part *part = current(wo);
    for (; wo->progress.at < wo->listed_len; wo->progress.at++) {
        if (fuel_spend(op->engine, 4)) {
            return true;
        }
        act(op, part, wo->progress.at);
    }
    return false;
}

/* For good, or for a look at what it concerns. */
static void make_change(struct op *op, struct part *part, size_t i)
{
    struct window_op *wo = op->state;
    ASSERT(part->fresh == 0 && wo->listed[i].diff != 0);
    op->arranged_rows += (uint64_t)window_apply(&wo->window, &part->state, &wo->pool,
                                                wo->listed[i].row, wo->listed[i].diff);
}

/* Modulo 2^64, as it was made: counts are again what they were. */
static void undo_change(struct op *op, struct part *part, size_t i)
{
    struct window_op *wo = op->state;
    ASSERT(part->fresh == 0 && wo->listed[i].diff != 0);
    int64_t back = (int64_t)-(uint64_t)wo->listed[i].diff;
    op->arranged_rows += (uint64_t)window_apply(&wo->window, &part->state, &wo->pool,
                                                wo->listed[i].row, back);
}

/* By how many copies a count grows; below zero there are none. */
static int64_t grown(int64_t before, int64_t diff)
{
    int64_t after = (int64_t)((uint64_t)before + (uint64_t)diff);
    return (after > 0 ? after : 0) - (before > 0 ? before : 0);
}

/* Copies of a row's group; 0 where groups are not counted. */
static int64_t group_copies(const struct window_op *wo, const struct part *part, struct wkey row)
{
    struct wkey sort = {row.bytes, row.sort_len, row.sort_len};
    return wo->window.groups ? wtree_count(&wo->window.plain, &part->state.groups, sort) : 0;
}

/* Before any change is made: what is there of the row and of its peers is what was. */
static void old_span(struct op *op, struct part *part, size_t i)
{
    struct window_op *wo = op->state;
    ASSERT(!wo->progress.whole && part->fresh == 0);
    struct change *change = &wo->listed[i];
    int64_t before = wtree_count(&wo->window.rows, &part->state.rows, change->row);
    change->peers = group_copies(wo, part, change->row);
    wo->progress.net = (int64_t)((uint64_t)wo->progress.net +
                                 (uint64_t)grown(before, change->diff));
    push_affected(wo, part, change->row, &wo->old_spans);
    if (wo->window.shifts && wo->progress.net != 0) {
        push_shift(wo, i, &wo->old_spans);
    }
}

/* The first change of each group says whether the group came or went. */
static void new_span(struct op *op, struct part *part, size_t i)
{
    struct window_op *wo = op->state;
    const struct change *change = &wo->listed[i];
    ASSERT(!wo->progress.whole && i < wo->listed_len);
    if (i == 0 || !wkey_is_peer(wo->listed[i - 1].row, change->row)) {
        int64_t after = group_copies(wo, part, change->row);
        wo->progress.net += (after > 0) - (change->peers > 0);
    }
    push_affected(wo, part, change->row, &wo->new_spans);
    if (wo->window.dense && wo->progress.net != 0) {
        push_shift(wo, i, &wo->new_spans);
    }
}

/* Both lists are in order: so is what they make together. True when out of fuel. */
static bool unite_spans(struct op *op)
{
    struct window_op *wo = op->state;
    struct span_list *a = &wo->old_spans, *b = &wo->new_spans;
    size_t *i = &wo->progress.at, *j = &wo->progress.other_at;
    while (*i < a->spans_len || *j < b->spans_len) {
        if (fuel_spend(op->engine, 1)) {
            return true;
        }
        bool first = *j == b->spans_len ||
                     (*i < a->spans_len &&
                      span_compare_low(a, &a->spans[*i], b, &b->spans[*j]) <= 0);
        const struct span_list *from = first ? a : b;
        const struct span *span = &from->spans[first ? (*i)++ : (*j)++];
        push_span(&wo->spans, span_key(from, span->low, span->low_len),
                  span_key(from, span->high, span->high_len), span->to_end);
    }
    ASSERT(wo->spans.spans_len <= a->spans_len + b->spans_len);
    return false;
}

/* Into the pass's changes, which are consolidated, CHANGES_MAX at a time, before they go on. */
static void emit_row(struct op *op, const struct wnode *node, int64_t position, int64_t diff)
{
    struct window_op *wo = op->state;
    struct window *w = &wo->window;
    const char *sqlstate = NULL, *message = NULL;
    ASSERT(diff != 0 && node->count > 0);
    if (!window_values(w, &current(wo)->state, node, position, &wo->progress.peers, &sqlstate,
                       &message)) {
        const char *name = op->dataflow->plan->name;
        op_error(op, sqlstate, message, name != NULL ? name : "", wo->time, diff);
        return;
    }
    batch_decode_row(wnode_bytes(&w->rows, node) + node->sort_len, w->rows.kinds, w->rows.cols,
                     wo->changes, 0);
    for (uint32_t i = 0; i < w->node->window.calls_len; i++) {
        batch_builder_datum(wo->changes, w->rows.cols + i, &w->values[i]);
    }
    batch_builder_end_row(wo->changes, wo->time, diff);
}

static void emit_consolidated(struct op *op)
{
    struct window_op *wo = op->state;
    struct chunk *chunk = chunk_from_builder(wo->changes, op->cols, &op->dataflow->account);
    if (chunk != NULL) {
        const struct batch *view = &chunk->batch;
        batch_consolidate(&view, 1, 0, op_ok(op));
        chunk_unref(chunk);
        op_flush(op);
    }
}

/* Where the span at hand is now; both its ends may have come or gone. */
static void find_span(struct window_op *wo, const struct part *part)
{
    struct progress *p = &wo->progress;
    const struct wtree *rows = &part->state.rows;
    const struct wtree_shape *shape = &wo->window.rows;
    int64_t total = wtree_copies(rows);
    p->position = 0;
    p->end = total;
    if (p->whole) {
        return;
    }
    const struct span *span = &wo->spans.spans[p->at];
    struct wkey high = span_key(&wo->spans, span->high, span->high_len);
    p->position =
        wtree_rank(shape, rows, span_key(&wo->spans, span->low, span->low_len)).copies;
    if (!span->to_end) {
        p->end = wtree_place(shape, rows, high).to;
    }
    ASSERT(p->position <= p->end && p->end <= total);
}

/* The rows of all spans, with the values they have now. True when out of fuel. */
static bool emit_spans(struct op *op, int64_t sign)
{
    struct window_op *wo = op->state;
    struct part *part = current(wo);
    struct progress *p = &wo->progress;
    size_t spans = p->whole ? 1 : wo->spans.spans_len;
    ASSERT(p->whole || !wtree_is_over(&part->state.rows));
    if (wtree_is_over(&part->state.rows)) {
        return false;
    }
    for (; p->at < spans; p->at++, p->end = -1) {
        if (p->end < 0) {
            find_span(wo, part);
        }
        while (p->position < p->end) {
            if (fuel_spend(op->engine, 4 + 2 * wo->window.node->window.calls_len)) {
                return true;
            }
            int64_t first;
            const struct wnode *node = wtree_at(&part->state.rows, p->position, &first);
            int64_t left = first + wnode_copies(node) - p->position;
            int64_t copies = wo->window.by_position ? 1 : left;
            emit_row(op, node, p->position, sign * copies);
            p->position += copies;
            if (batch_builder_rows(wo->changes) >= CHANGES_MAX) {
                emit_consolidated(op);
            }
        }
    }
    return false;
}

/* The pending changes in order, as an array: the phases go through them several times. */
static bool list_changes(struct op *op)
{
    struct window_op *wo = op->state;
    struct part *part = current(wo);
    const struct wtree_shape *shape = &wo->window.plain;
    for (;;) {
        if (fuel_spend(op->engine, 2)) {
            return true;
        }
        bool any = wo->listed_len > 0;
        struct wkey last = any ? wo->listed[wo->listed_len - 1].row : (struct wkey){0};
        const struct wnode *node = wtree_next(shape, &part->pending, last, any);
        if (node == NULL) {
            return false;
        }
        ASSERT(node->count != 0);
        *VEC_PUSH(wo, listed) =
            (struct change){.row = wnode_key(shape, node), .diff = node->count};
    }
}

/* Which phase comes after this one. */
static enum phase next_phase(struct window_op *wo)
{
    const struct progress *p = &wo->progress;
    switch (p->phase) {
    case PHASE_LIST:
        return p->whole ? PHASE_OLD_ROWS : PHASE_OLD_SPANS;
    case PHASE_OLD_SPANS:
        /* The number of rows is in every value: no need for spans. */
        wo->progress.whole = wo->window.total && p->net != 0;
        return wo->progress.whole ? PHASE_OLD_ROWS : PHASE_MAKE;
    case PHASE_MAKE:
        if (wtree_is_over(&current(wo)->state.rows)) {
            wo->progress.whole = true; /* of the old rows: there will be no new ones */
            return PHASE_UNDO;
        }
        return PHASE_NEW_SPANS;
    case PHASE_END:
        UNREACHABLE();
    default:
        return (enum phase)(p->phase + 1);
    }
}

/* One phase of the partition at hand; true when out of fuel before its end. */
static bool run_phase(struct op *op)
{
    struct window_op *wo = op->state;
    switch (wo->progress.phase) {
    case PHASE_LIST:
        return list_changes(op);
    case PHASE_OLD_SPANS:
        return each_change(op, old_span);
    case PHASE_MAKE:
    case PHASE_REDO:
        return each_change(op, make_change);
    case PHASE_NEW_SPANS:
        return each_change(op, new_span);
    case PHASE_UNION:
        return unite_spans(op);
    case PHASE_UNDO:
        return each_change(op, undo_change);
    case PHASE_OLD_ROWS:
        return emit_spans(op, -1);
    case PHASE_NEW_ROWS:
        return emit_spans(op, 1);
    default:
        UNREACHABLE();
    }
}

/* ---- a time ---------------------------------------------------------------------------------- */

static void begin_partition(struct window_op *wo)
{
    const struct part *part = current(wo);
    int64_t rows = wtree_copies(&part->state.rows);
    ASSERT(part->touched == 1 && wo->listed_len == 0);
    wo->progress.whole = part->fresh != 0 || part->over != 0 ||
                         part->pending_len * WHOLE_SHARE >= (uint64_t)rows;
    start_phase(wo, part->fresh != 0 ? PHASE_NEW_ROWS : PHASE_LIST);
}

static size_t spans_bytes(const struct span_list *list)
{
    return list->spans_cap * sizeof(*list->spans) + list->bytes.cap;
}

/* What the changes and spans of a partition take is in the account after every step. */
static void account_buffers(struct op *op)
{
    struct window_op *wo = op->state;
    size_t bytes = wo->listed_cap * sizeof(*wo->listed) + spans_bytes(&wo->old_spans) +
                   spans_bytes(&wo->new_spans) + spans_bytes(&wo->spans);
    account_add(&op->account, (int64_t)bytes - (int64_t)wo->buffers);
    wo->buffers = bytes;
}

static void free_spans(struct span_list *list)
{
    free(list->spans);
    buf_free(&list->bytes);
    *list = (struct span_list){0};
}

static void free_buffers(struct op *op)
{
    struct window_op *wo = op->state;
    free(wo->listed);
    wo->listed = NULL;
    wo->listed_len = wo->listed_cap = 0;
    free_spans(&wo->old_spans);
    free_spans(&wo->new_spans);
    free_spans(&wo->spans);
    account_buffers(op);
    ASSERT(wo->buffers == 0);
}

/* Frees what is left of the changes; true when out of fuel before the end. */
static bool end_partition(struct op *op)
{
    struct window_op *wo = op->state;
    struct part *part = current(wo);
    const char *name = op->dataflow->plan->name;
    wo->listed_len = 0;
    clear_spans(&wo->old_spans);
    clear_spans(&wo->new_spans);
    clear_spans(&wo->spans);
    if (wo->buffers > BUFFERS_KEPT) {
        free_buffers(op);
    }
    while (!wtree_clear(&wo->window.plain, &part->pending, &wo->pool, CLEAR_MAX)) {
        if (fuel_spend(op->engine, CLEAR_MAX)) {
            return true;
        }
    }
    int negative = part->state.rows.negative > 0;
    if (negative != (int)part->negative) {
        op_error(op, "XX000", REDUCE_NEGATIVE, name != NULL ? name : "", wo->time,
                 negative - (int)part->negative);
    }
    int over = wtree_is_over(&part->state.rows);
    if (over != (int)part->over) {
        op_error(op, "22003", "a partition of a window has more rows than a bigint can count",
                 name != NULL ? name : "", wo->time, over - (int)part->over);
    }
    part->touched = part->fresh = 0;
    part->pending_len = 0;
    if (part->state.rows.root == NULL) {
        ASSERT(part->state.groups.root == NULL);
        htable_remove(&wo->table, wo->touched[wo->touched_at]);
    }
    return false;
}

/* All touched partitions, one after another. True when out of fuel before the end. */
static bool end_time(struct op *op)
{
    struct window_op *wo = op->state;
    for (; wo->touched_at < wo->touched_len; wo->touched_at++, wo->progress.phase = 0) {
        if (wo->progress.phase == 0) {
            begin_partition(wo);
        }
        while (wo->progress.phase != PHASE_END) {
            bool stopped = run_phase(op);
            account_buffers(op);
            if (stopped) {
                return true;
            }
            start_phase(wo, next_phase(wo));
        }
        if (end_partition(op)) {
            return true;
        }
    }
    wo->touched_len = wo->touched_at = 0;
    wo->ending = false;
    return false;
}

static struct part *touch(struct window_op *wo)
{
    uint64_t hash = probe_hash(&wo->probe);
    struct probe_span key = probe_key(&wo->probe);
    struct htable_entry *entry = htable_find(&wo->table, hash, key.data, key.len);
    if (entry == NULL) {
        entry = htable_add(&wo->table, hash, key.data, key.len);
    }
    struct part *part = htable_payload(entry);
    if (part->touched == 0) {
        ASSERT(part->pending.root == NULL && part->pending_len == 0);
        part->touched = 1;
        part->negative = part->state.rows.negative > 0;
        part->over = wtree_is_over(&part->state.rows);
        part->fresh = part->state.rows.root == NULL;
        *VEC_PUSH(wo, touched) = entry;
    }
    return part;
}

/* Ties are broken by the row's bytes, as in top-k. */
static struct wkey encode_element(const struct op *op, const struct batch *b, uint32_t row,
                                  struct probe_span bytes, struct buf *out)
{
    const struct plan_node *node = op->node;
    buf_clear(out);
    for (uint32_t i = 0; i < node->window.order_len; i++) {
        const struct plan_order *order = &node->window.order[i];
        struct datum d;
        batch_datum(&b->col[order->col], row, &d);
        order_encode(b->col[order->col].kind, &d, order->desc, order->nulls_first, out);
    }
    uint32_t sort_len = (uint32_t)out->len;
    buf_append(out, bytes.data, bytes.len);
    return (struct wkey){out->data, (uint32_t)out->len, sort_len};
}

static void take_row(struct op *op, const struct batch *b, uint32_t row)
{
    struct window_op *wo = op->state;
    ASSERT(!wo->ending && row < b->rows);
    struct part *part = touch(wo);
    struct wkey element = encode_element(op, b, row, probe_bytes(&wo->probe), &wo->element);
    int64_t diff = batch_diff(b, row);
    if (part->fresh != 0) {
        op->arranged_rows +=
            (uint64_t)window_apply(&wo->window, &part->state, &wo->pool, element, diff);
    } else {
        wtree_update(&wo->window.plain, &part->pending, &wo->pool, element, diff);
        part->pending_len++;
    }
}

/* ---- a pass ---------------------------------------------------------------------------------- */

static void fill_probe(struct window_op *wo, const struct plan_node *node)
{
    const struct probe_spec spec = {
        .keys = node->window.keys, .keys_len = node->window.keys_len, .whole = true};
    ASSERT(wo->intake.open);
    probe_fill_next(&wo->probe, &wo->intake, &spec);
    probe_load(&wo->probe, &wo->table);
}

/* True when out of fuel before the end. */
static bool run_pass(struct op *op)
{
    struct window_op *wo = op->state;
    struct intake *intake = &wo->intake;
    ASSERT(intake->open);
    for (;;) {
        if (wo->ending && end_time(op)) {
            return true;
        }
        bool done = intake_is_done(intake);
        if (done && wo->touched_len == 0) {
            return false;
        }
        struct intake_ref ref = {0};
        if (!done) {
            ref = intake_ref(intake);
        }
        if (wo->touched_len > 0 && (done || ref.time != wo->time)) {
            wo->ending = true;
            continue;
        }
        if (fuel_spend(op->engine, 4)) {
            return true;
        }
        if (probe_is_empty(&wo->probe)) {
            fill_probe(wo, op->node);
        }
        wo->time = ref.time;
        take_row(op, intake_batch(intake, &ref), ref.row);
        intake_next(intake);
        probe_next(&wo->probe);
    }
}

static bool window_work(struct op *op)
{
    struct window_op *wo = op->state;
    op_forward_errors(op);
    if (!wo->intake.open && !intake_open(&wo->intake, op, INTAKE_BY_TIME)) {
        return false;
    }
    if (run_pass(op)) {
        return true;
    }
    ASSERT(wo->touched_len == 0 && !wo->ending && probe_is_empty(&wo->probe));
    emit_consolidated(op);
    uint64_t upper = wo->intake.upper;
    intake_close(&wo->intake);
    op_advance(op, upper);
    return op_input_frontier(op) > op->frontier;
}

static void window_release(struct op *op)
{
    struct window_op *wo = op->state;
    htable_clear(&wo->table);
    pool_clear(&wo->pool);
    intake_free(&wo->intake);
    window_free(&wo->window);
    batch_builder_free(wo->changes);
    free(wo->touched);
    free_buffers(op);
    probe_free(&wo->probe);
    buf_free(&wo->element);
    free(wo);
}

void op_make_window(struct op *op)
{
    ASSERT(op->ports_len == 1 && op->node->op == PLAN_WINDOW);
    static const struct op_class class = {"window", window_work, window_release};
    struct window_op *wo = MEM_NEW(struct window_op);
    op->class = &class;
    op->state = wo;
    window_init(&wo->window, op->node, op->ports[0].kinds, op->ports[0].cols);
    wo->changes = batch_builder_new(op->kinds, op->cols);
    pool_init(&wo->pool, &op->account);
    htable_init(&wo->table, sizeof(struct part), &wo->pool, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, op->node->window.keys, op->node->window.keys_len,
                           false);
}
