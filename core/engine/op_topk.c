/*
 * Top-k: per group an ordered multiset of all rows; output is the window [offset, offset + limit)
 * of it. With P(n) the first n rows, the output is P(offset + limit) - P(offset). Adding d copies
 * of a row that has r rows before it changes P(n) by
 *
 *     k = min(d, max(0, n - r)) copies of the row, minus the rows that were at positions [n - k, n)
 *
 * so each update costs O(d log n), wherever the window is. Taking copies away is the same with the
 * opposite sign, seen from the set after it. The differences of a pass are consolidated before they
 * are emitted, so transient states leave no trace; in a pass with very many, part by part.
 *
 * Rows with a negative count have no copies; while a group has any, the error twin says so.
 */
#include "core/engine/engine_internal.h"
#include "core/engine/order.h"
#include "core/engine/oset.h"
#include "core/engine/reduce_state.h"
#include "core/engine/htable.h"

struct topk_group {
    struct oset rows;
    uint32_t touched;  /* at this time */
    uint32_t negative; /* before this time */
};

/* Changes of a pass are consolidated and put out when there are as many, not only at its end. */
enum { CHANGES_MAX = 1 << 17 };

struct topk {
    int64_t low, high; /* the window */
    struct htable table;
    struct pool pool;
    struct intake intake;
    uint64_t time;
    struct htable_entry **touched;
    size_t touched_len, touched_cap;
    struct batch_builder *changes; /* of the pass, before consolidation */
    struct buf key, element;
};

/* ---- changing the window --------------------------------------------------------------------- */

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

/* Ties are broken by the row's bytes, so the window is a function of the rows. */
static uint32_t encode_element(const struct op *op, const struct batch *b, uint32_t row,
                               struct buf *out)
{
    const struct plan_node *node = op->node;
    buf_clear(out);
    for (uint32_t i = 0; i < node->topk.order_len; i++) {
        const struct plan_order *order = &node->topk.order[i];
        struct datum d;
        batch_datum(&b->col[order->col], row, &d);
        order_encode(b->col[order->col].kind, &d, order->desc, order->nulls_first, out);
    }
    uint32_t sort_len = (uint32_t)out->len;
    batch_encode_row(b, row, NULL, 0, false, out);
    return sort_len;
}

/* Remembers whether the group was in error before this time. */
static struct topk_group *touch(struct topk *topk, uint64_t hash)
{
    struct htable_entry *entry = htable_find(&topk->table, hash, topk->key.data, topk->key.len);
    if (entry == NULL) {
        entry = htable_add(&topk->table, hash, topk->key.data, topk->key.len);
    }
    struct topk_group *group = htable_payload(entry);
    if (group->touched == 0) {
        group->touched = 1;
        group->negative = group->rows.negative > 0;
        *VEC_PUSH(topk, touched) = entry;
    }
    return group;
}

/*
 * Added rows are ranked before they are in the set, removed ones after they are out: both times the
 * set is the one without them.
 */
static void take_row(struct op *op, const struct batch *b, uint32_t row)
{
    struct topk *topk = op->state;
    const struct plan_node *node = op->node;
    uint64_t hash = op_key_encode(b, row, node->topk.keys, node->topk.keys_len, &topk->key);
    struct topk_group *group = touch(topk, hash);
    uint32_t sort_len = encode_element(op, b, row, &topk->element);
    const struct buf *element = &topk->element;
    uint32_t len = (uint32_t)element->len;
    int64_t diff = batch_diff(b, row);
    int64_t before = oset_update(&group->rows, &topk->pool, element->data, len, sort_len, 0);
    int64_t after = (int64_t)((uint64_t)before + (uint64_t)diff);
    int64_t copies = oset_copies(after) - oset_copies(before);
    if (copies > 0) {
        change_window(op, &group->rows, element, sort_len, copies, 1);
    }
    oset_update(&group->rows, &topk->pool, element->data, len, sort_len, diff);
    if (copies < 0) {
        change_window(op, &group->rows, element, sort_len, -copies, -1);
    }
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/*
 * A group that came to hold a negative count, or holds none any more, changes the error twin once,
 * however often it changed within the time.
 */
static void end_time(struct op *op)
{
    struct topk *topk = op->state;
    const char *name = op->dataflow->plan->name;
    for (size_t i = 0; i < topk->touched_len; i++) {
        struct topk_group *group = htable_payload(topk->touched[i]);
        ASSERT(group->touched == 1 && group->rows.negative >= 0);
        int negative = group->rows.negative > 0;
        if (negative != (int)group->negative) {
            op_error(op, "XX000", REDUCE_NEGATIVE, name != NULL ? name : "", topk->time,
                     negative - (int)group->negative);
        }
        group->touched = 0;
        if (group->rows.root == NULL) {
            htable_remove(&topk->table, topk->touched[i]);
        }
    }
    topk->touched_len = 0;
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

static bool run_pass(struct op *op)
{
    struct topk *topk = op->state;
    struct intake *intake = &topk->intake;
    ASSERT(intake->open);
    while (!intake_is_done(intake)) {
        struct intake_ref ref = intake_ref(intake);
        if (fuel_spend(op->engine, 2)) {
            return true;
        }
        if (ref.time != topk->time) {
            end_time(op);
            topk->time = ref.time;
        }
        take_row(op, intake_batch(intake, &ref), ref.row);
        intake_next(intake);
        if (batch_builder_rows(topk->changes) >= CHANGES_MAX) {
            emit_consolidated(op);
        }
    }
    end_time(op);
    return false;
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
    ASSERT(topk->touched_len == 0);
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
    htable_clear(&topk->table);
    pool_clear(&topk->pool);
    intake_free(&topk->intake);
    batch_builder_free(topk->changes);
    free(topk->touched);
    buf_free(&topk->key);
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
    topk->changes = batch_builder_new(op->kinds, op->cols);
    pool_init(&topk->pool, &op->account);
    htable_init(&topk->table, sizeof(struct topk_group), &topk->pool, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, node->topk.keys, node->topk.keys_len, false);
}
