/*
 * Top-k: per group an ordered multiset of all rows; output is the window [offset, offset + limit)
 * of it.
 *
 * A window of few rows is looked at twice: before a group's first change of a time and when all
 * changes of the time are in. The two lists are merged by order, and what is in one only is put
 * out. So the output is minimal, whatever went through the window meanwhile, and rows that never
 * came near it cost nothing but their place in the set. Elements that leave the set are kept until
 * then: the list from before points to them.
 *
 * A large window is changed row by row. With P(n) the first n rows, the output is
 * P(offset + limit) - P(offset). Adding d copies of a row that has r rows before it changes P(n) by
 *
 *     k = min(d, max(0, n - r)) copies of the row, minus the rows that were at positions [n - k, n)
 *
 * so each update costs O(d log n), wherever the window is. Taking copies away is the same with the
 * opposite sign, seen from the set after it. The differences of a pass are consolidated before they
 * are emitted, so transient states leave no trace; in a pass with very many, part by part.
 *
 * With ties the window ends behind the last peer of the row at position limit - 1. In the set
 * without the d copies that row is the one at limit - 1, with them it may be themselves or the one
 * at limit - 1 - d: what lies behind the peers of the one and not of the other goes or comes back.
 *
 * Rows with a negative count have no copies; while a group has any, the error twin says so.
 */
#include "core/engine/order.h"
#include "core/engine/oset.h"
#include "core/engine/probe.h"
#include "core/engine/reduce_state.h"

struct topk_group {
    struct oset rows;
    uint32_t touched; /* at this time */
    uint32_t pad;
};

enum {
    CHANGES_MAX = 1 << 17, /* of a large window: consolidated and put out when there are as many */
    SMALL_MAX = 32,        /* rows of a small window */
    LISTS_KEPT = 1 << 20,  /* bytes: the lists of a snapshot's are not kept */
    FLUSH_AHEAD = 8,       /* groups loaded ahead of the one that is flushed */
};

/* Copies of a row in a window. */
struct shown {
    const struct oset_node *node;
    int64_t copies;
};

/* A group that changed at the time at hand. */
struct touched {
    struct htable_entry *entry;
    bool negative;           /* before this time */
    uint32_t shown_len;      /* of a small window: what it showed before, in topk->shown */
    size_t shown_at;
};

struct topk {
    int64_t low, high; /* the window */
    bool small, ties;
    struct htable table;
    struct pool pool;
    struct intake intake;
    struct probe probe; /* of the intake's next rows */
    bool flushing;      /* the changes of time are in, touched groups are being looked at */
    uint64_t time;
    struct touched *touched;
    size_t touched_len, touched_cap;
    size_t flushed;
    struct shown *shown; /* small: windows before this time, one after another */
    size_t shown_len, shown_cap;
    struct oset_node **gone; /* small: out of their sets since this time began */
    size_t gone_len, gone_cap;
    size_t lists_bytes; /* of the three lists, in the account */
    struct batch_builder *changes; /* large: of the pass, before consolidation */
    struct buf element;
};

/* ---- large windows --------------------------------------------------------------------------- */

/* What oset_range's callback needs: whose window, and added or taken away. */
struct change {
    struct op *op;
    int64_t sign;
};

/* Into the pass's changes: they are consolidated before anybody sees them. */
static void emit_row(struct op *op, const uint8_t *row, int64_t diff)
{
    struct topk *topk = op->state;
    if (diff != 0) {
        batch_decode_row(row, op->kinds, op->cols, topk->changes, 0);
        batch_builder_end_row(topk->changes, topk->time, diff);
    }
}

/* Each row passed counts as a unit of fuel, as an update may push many out of the window. */
static void emit_node(void *arg, const struct oset_node *node, int64_t copies)
{
    struct change *change = arg;
    emit_row(change->op, node->bytes + node->sort_len, change->sign * copies);
    fuel_spend(change->op->engine, 1);
}

/* How many of d copies with r rows before them come to lie within the first n rows. */
static int64_t within(int64_t n, int64_t r, int64_t d)
{
    ASSERT(n >= 0 && d >= 0);
    int64_t room = n > r ? n - r : 0;
    return d < room ? d : room;
}

/*
 * The change of the window when d copies (of element) are added to a set with rows as given. The
 * part at the upper end leaves (or comes back), the part at the lower end enters: both as long as
 * what the new copies displace.
 */
static void change_window(struct op *op, const struct oset *rows, const struct buf *element,
                          uint32_t sort_len, int64_t d, int64_t sign)
{
    struct topk *topk = op->state;
    int64_t rank = oset_rank(rows, element->data, (uint32_t)element->len);
    bool limited = topk->high != INT64_MAX;
    int64_t high = limited ? within(topk->high, rank, d) : d;
    int64_t low = within(topk->low, rank, d);
    ASSERT(d > 0 && rank >= 0 && low <= high && high <= d);
    emit_row(op, element->data + sort_len, sign * (high - low));
    if (limited) {
        oset_range(rows, topk->high - high, topk->high, emit_node,
                   &(struct change){.op = op, .sign = -sign});
    }
    oset_range(rows, topk->low - low, topk->low, emit_node,
               &(struct change){.op = op, .sign = sign});
}

/*
 * The same with ties. A row is in if fewer than limit rows come before its peers. While limit rows
 * come before itself, it has no part in where the window ends.
 */
static void change_ties(struct op *op, const struct oset *rows, const struct buf *element,
                        uint32_t sort_len, int64_t d, int64_t sign)
{
    struct topk *topk = op->state;
    int64_t last = topk->high - 1; /* position of the row whose peers are the last */
    ASSERT(topk->ties && topk->low == 0 && d > 0);
    if (oset_rank(rows, element->data, sort_len) > last) {
        return;
    }
    emit_row(op, element->data + sort_len, sign * d);
    int64_t rank = oset_rank(rows, element->data, (uint32_t)element->len);
    if (last < rank) {
        return;
    }
    int64_t with = last - rank < d ? oset_rank_behind(rows, element->data, sort_len)
                                   : oset_rank_peers(rows, last - d);
    oset_range(rows, with, oset_rank_peers(rows, last), emit_node,
               &(struct change){.op = op, .sign = -sign});
}

/*
 * Added rows are ranked before they are in the set, removed ones after they are out: both times the
 * set is the one without them.
 */
static void change_large(struct op *op, struct oset *rows, uint32_t sort_len, int64_t diff)
{
    struct topk *topk = op->state;
    void (*change)(struct op *, const struct oset *, const struct buf *, uint32_t, int64_t,
                   int64_t) = topk->ties ? change_ties : change_window;
    const struct buf *element = &topk->element;
    uint32_t len = (uint32_t)element->len;
    int64_t before = oset_update(rows, &topk->pool, element->data, len, sort_len, 0);
    int64_t after = (int64_t)((uint64_t)before + (uint64_t)diff);
    int64_t copies = oset_copies(after) - oset_copies(before);
    if (copies > 0) {
        change(op, rows, element, sort_len, copies, 1);
    }
    oset_update(rows, &topk->pool, element->data, len, sort_len, diff);
    if (copies < 0) {
        change(op, rows, element, sort_len, -copies, -1);
    }
}

static void emit_consolidated(struct op *op)
{
    struct topk *topk = op->state;
    struct chunk *chunk =
        chunk_from_builder(topk->changes, op->cols, &op->dataflow->account);
    if (chunk != NULL) {
        const struct batch *view = &chunk->batch;
        batch_consolidate(&view, 1, 0, op_ok(op));
        chunk_unref(chunk);
        op_flush(op);
    }
}

/* ---- small windows --------------------------------------------------------------------------- */

/* oset_range's callback: what a window shows goes to the list. */
static void list_node(void *arg, const struct oset_node *node, int64_t copies)
{
    struct topk *topk = arg;
    ASSERT(copies > 0);
    *VEC_PUSH(topk, shown) = (struct shown){node, copies};
}

/* Appends what the window shows; returns how many entries that are. */
static uint32_t list_window(struct topk *topk, const struct oset *rows)
{
    size_t before = topk->shown_len;
    oset_range(rows, topk->low, topk->high, list_node, topk);
    ASSERT(topk->shown_len - before <= SMALL_MAX);
    return (uint32_t)(topk->shown_len - before);
}

static void put_row(struct op *op, const struct shown *shown, int64_t diff)
{
    const struct topk *topk = op->state;
    if (diff != 0) {
        const uint8_t *row = shown->node->bytes + shown->node->sort_len;
        batch_decode_row(row, op->kinds, op->cols, op_ok(op), 0);
        batch_builder_end_row(op_ok(op), topk->time, diff);
        op_row_done(op);
    }
}

/* Both lists are in the order of the elements. */
static void put_difference(struct op *op, const struct shown *old, uint32_t old_len,
                           const struct shown *fresh, uint32_t fresh_len)
{
    uint32_t i = 0, j = 0;
    while (i < old_len || j < fresh_len) {
        int order = i == old_len     ? 1
                    : j == fresh_len ? -1
                                     : oset_compare(old[i].node, fresh[j].node);
        if (order < 0) {
            put_row(op, &old[i], -old[i].copies);
        } else if (order > 0) {
            put_row(op, &fresh[j], fresh[j].copies);
        } else {
            put_row(op, &fresh[j], fresh[j].copies - old[i].copies);
        }
        i += order <= 0;
        j += order >= 0;
    }
    ASSERT(i == old_len && j == fresh_len);
}

/* The list of before lies in the same array as the one of now, which is made and dropped here. */
static void flush_small(struct op *op, const struct touched *touched, const struct oset *rows)
{
    struct topk *topk = op->state;
    uint32_t len = list_window(topk, rows);
    ASSERT(topk->small && topk->flushing);
    const struct shown *fresh = topk->shown + topk->shown_len - len;
    ASSERT(touched->shown_at + touched->shown_len + len <= topk->shown_len);
    put_difference(op, topk->shown + touched->shown_at, touched->shown_len, fresh, len);
    topk->shown_len -= len;
}

/* ---- a row ----------------------------------------------------------------------------------- */

static void encode_sort(const struct op *op, const struct batch *b, uint32_t row, struct buf *out)
{
    const struct plan_node *node = op->node;
    buf_clear(out);
    for (uint32_t i = 0; i < node->topk.order_len; i++) {
        const struct plan_order *order = &node->topk.order[i];
        struct datum d;
        batch_datum(&b->col[order->col], row, &d);
        order_encode(b->col[order->col].kind, &d, order->desc, order->nulls_first, out);
    }
}

/* Remembers what the group was before this time. */
static struct topk_group *touch(struct topk *topk)
{
    uint64_t hash = probe_hash(&topk->probe);
    struct probe_span key = probe_key(&topk->probe);
    struct htable_entry *entry = htable_find(&topk->table, hash, key.data, key.len);
    if (entry == NULL) {
        entry = htable_add(&topk->table, hash, key.data, key.len);
    }
    struct topk_group *group = htable_payload(entry);
    if (group->touched == 0) {
        struct touched *touched = VEC_PUSH(topk, touched);
        *touched = (struct touched){.entry = entry,
                                    .negative = group->rows.negative > 0,
                                    .shown_at = topk->shown_len};
        touched->shown_len = topk->small ? list_window(topk, &group->rows) : 0;
        group->touched = 1;
    }
    return group;
}

/* Ties are broken by the row's bytes, so the window is a function of the rows. */
static void take_row(struct op *op, const struct batch *b, uint32_t row)
{
    struct topk *topk = op->state;
    ASSERT(!topk->flushing && !probe_is_empty(&topk->probe));
    struct topk_group *group = touch(topk);
    struct buf *element = &topk->element;
    struct probe_span bytes = probe_bytes(&topk->probe);
    int64_t diff = batch_diff(b, row);
    encode_sort(op, b, row, element);
    uint32_t sort_len = (uint32_t)element->len;
    if (!topk->small) {
        buf_append(element, bytes.data, bytes.len);
        change_large(op, &group->rows, sort_len, diff);
        return;
    }
    struct oset_node *gone;
    const struct oset_parts parts = {
        .sort = element->data, .sort_len = sort_len, .data = bytes.data, .data_len = bytes.len};
    oset_change(&group->rows, &topk->pool, &parts, diff, &gone);
    if (gone != NULL) {
        *VEC_PUSH(topk, gone) = gone;
    }
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/* The lists are part of the operator's account, as what a time's changes need at most. */
static void account_lists(struct op *op)
{
    struct topk *topk = op->state;
    size_t bytes = topk->touched_cap * sizeof(topk->touched[0]) +
                   topk->shown_cap * sizeof(topk->shown[0]) +
                   topk->gone_cap * sizeof(topk->gone[0]);
    account_add(&op->account, (int64_t)bytes - (int64_t)topk->lists_bytes);
    topk->lists_bytes = bytes;
}

static void free_lists(struct op *op)
{
    struct topk *topk = op->state;
    free(topk->touched);
    free(topk->shown);
    free(topk->gone);
    topk->touched = NULL;
    topk->shown = NULL;
    topk->gone = NULL;
    topk->touched_len = topk->touched_cap = topk->shown_len = topk->shown_cap = 0;
    topk->gone_len = topk->gone_cap = 0;
    account_lists(op);
}

/*
 * A group that came to hold a negative count, or holds none any more, changes the error twin once,
 * however often it changed within the time.
 */
static void flush_group(struct op *op, const struct touched *touched)
{
    struct topk *topk = op->state;
    struct topk_group *group = htable_payload(touched->entry);
    const char *name = op->dataflow->plan->name;
    ASSERT(group->touched == 1 && group->rows.negative >= 0);
    bool negative = group->rows.negative > 0;
    if (negative != touched->negative) {
        op_error(op, "XX000", REDUCE_NEGATIVE, name != NULL ? name : "", topk->time,
                 (int)negative - (int)touched->negative);
    }
    if (topk->small) {
        flush_small(op, touched, &group->rows);
    }
    group->touched = 0;
    if (group->rows.root == NULL) {
        htable_remove(&topk->table, touched->entry);
    }
}

/* True when out of fuel before the end. */
static bool flush_time(struct op *op)
{
    struct topk *topk = op->state;
    while (topk->flushed < topk->touched_len) {
        if (fuel_spend(op->engine, 2)) {
            return true;
        }
        if (topk->flushed + FLUSH_AHEAD < topk->touched_len) {
            __builtin_prefetch(topk->touched[topk->flushed + FLUSH_AHEAD].entry);
        }
        flush_group(op, &topk->touched[topk->flushed++]);
    }
    while (topk->gone_len > 0) {
        if (fuel_spend(op->engine, 1)) {
            return true;
        }
        oset_free_node(&topk->pool, topk->gone[--topk->gone_len]);
    }
    topk->shown_len = 0;
    topk->touched_len = 0;
    topk->flushed = 0;
    topk->flushing = false;
    account_lists(op);
    if (topk->lists_bytes > LISTS_KEPT) {
        free_lists(op);
    }
    return false;
}

static void fill_probe(struct topk *topk, const struct plan_node *node)
{
    const struct probe_spec spec = {
        .keys = node->topk.keys, .keys_len = node->topk.keys_len, .whole = true};
    ASSERT(topk->intake.open);
    probe_fill_next(&topk->probe, &topk->intake, &spec);
    probe_load(&topk->probe, &topk->table);
}

static void take_next(struct op *op, const struct intake_ref *ref)
{
    struct topk *topk = op->state;
    if (probe_is_empty(&topk->probe)) {
        fill_probe(topk, op->node);
        account_lists(op);
    }
    topk->time = ref->time;
    take_row(op, intake_batch(&topk->intake, ref), ref->row);
    intake_next(&topk->intake);
    probe_next(&topk->probe);
    if (batch_builder_rows(topk->changes) >= CHANGES_MAX) {
        emit_consolidated(op);
    }
}

/* True when out of fuel before the end. */
static bool run_pass(struct op *op)
{
    struct topk *topk = op->state;
    struct intake *intake = &topk->intake;
    ASSERT(intake->open);
    for (;;) {
        if (topk->flushing && flush_time(op)) {
            return true;
        }
        bool done = intake_is_done(intake);
        if (done && topk->touched_len == 0) {
            return false;
        }
        struct intake_ref ref = {0};
        if (!done) {
            ref = intake_ref(intake);
        }
        if (topk->touched_len > 0 && (done || ref.time != topk->time)) {
            topk->flushing = true;
            continue;
        }
        if (fuel_spend(op->engine, 2)) {
            return true;
        }
        take_next(op, &ref);
    }
}

static bool topk_work(struct op *op)
{
    struct topk *topk = op->state;
    op_forward_errors(op);
    if (!topk->intake.open && !intake_open(&topk->intake, op, INTAKE_BY_TIME)) {
        return false;
    }
    if (run_pass(op)) {
        return true;
    }
    ASSERT(topk->touched_len == 0 && !topk->flushing && probe_is_empty(&topk->probe));
    emit_consolidated(op);
    uint64_t upper = topk->intake.upper;
    intake_close(&topk->intake);
    op_advance(op, upper);
    op->arranged_rows = topk->table.len;
    return op_input_frontier(op) > op->frontier;
}

static void topk_release(struct op *op)
{
    struct topk *topk = op->state;
    free_lists(op);
    htable_clear(&topk->table);
    pool_clear(&topk->pool);
    intake_free(&topk->intake);
    batch_builder_free(topk->changes);
    probe_free(&topk->probe);
    buf_free(&topk->element);
    free(topk);
}

/* limit + offset beyond int64 is no bound at all. */
void op_make_topk(struct op *op)
{
    ASSERT(op->ports_len == 1);
    static const struct op_class class = {"top-k", topk_work, topk_release};
    struct topk *topk = MEM_NEW(struct topk);
    const struct plan_node *node = op->node;
    op->class = &class;
    op->state = topk;
    topk->low = node->topk.offset;
    ASSERT(topk->low >= 0 && node->topk.limit >= -1);
    if (node->topk.limit < 0 ||
        __builtin_add_overflow(node->topk.offset, node->topk.limit, &topk->high)) {
        topk->high = INT64_MAX;
    }
    topk->ties = node->topk.ties;
    topk->small =
        !topk->ties && topk->high != INT64_MAX && topk->high - topk->low <= SMALL_MAX;
    topk->changes = batch_builder_new(op->kinds, op->cols);
    pool_init(&topk->pool, &op->account);
    htable_init(&topk->table, sizeof(struct topk_group), &topk->pool, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, node->topk.keys, node->topk.keys_len, false);
}
