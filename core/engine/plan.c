/*
 * Plans: building and comparing. Checking is in plan_check.c, printing in plan_print.c.
 *
 * Equality serves reconciliation: after a restart of the controller a running dataflow is kept if
 * the plan it now asks for would compute the same. So everything that decides the output is
 * compared, and nothing else: names are not, and transient ids (of views made for one query) match
 * each other. Any thread.
 */
#include "core/engine/plan.h"

struct plan *plan_new(void)
{
    struct plan *plan = MEM_NEW(struct plan);
    return plan;
}

/* Everything a plan points to goes with its arena. */
void plan_free(struct plan *plan)
{
    if (plan == NULL) {
        return;
    }
    arena_free(&plan->arena);
    free(plan);
}

/* The array doubles whenever its length is a power of two: capacity follows from the length. */
uint32_t plan_add(struct plan *plan, const struct plan_node *node)
{
    uint32_t len = plan->nodes_len;
    ASSERT(len < PLAN_NODES_MAX);
    ASSERT(node->op >= PLAN_SOURCE && node->op <= PLAN_OP_MAX);
    if ((len & (len - 1)) == 0) {
        uint32_t cap = len == 0 ? 1 : len * 2;
        struct plan_node *nodes = ARENA_ARRAY(&plan->arena, struct plan_node, cap);
        if (len > 0) {
            memcpy(nodes, plan->nodes, len * sizeof(*nodes));
        }
        plan->nodes = nodes;
    }
    plan->nodes[len] = *node;
    plan->nodes_len = len + 1;
    return len;
}

/* ---- equality -------------------------------------------------------------------------------- */

static bool same_u32s(const uint32_t *a, uint32_t a_len, const uint32_t *b, uint32_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len * sizeof(*a)) == 0);
}

/* The OID and typmod too: they decide how values are printed for the user. */
static bool same_type(const struct type *a, const struct type *b)
{
    return a->kind == b->kind && a->nullable == b->nullable && a->typmod == b->typmod &&
           a->oid == b->oid;
}

/* Names are left out on purpose. */
static bool same_schema(const struct schema *a, const struct schema *b)
{
    if (a->cols != b->cols) {
        return false;
    }
    for (uint32_t i = 0; i < a->cols; i++) {
        if (!same_type(&a->types[i], &b->types[i])) {
            return false;
        }
    }
    return true;
}

/* A transient id is minted anew by each environmentd. */
static bool same_id(uint64_t a, uint64_t b)
{
    return a == b || ((a & PLAN_ID_TRANSIENT) != 0 && (b & PLAN_ID_TRANSIENT) != 0);
}

/* The same bytes, which is stricter than SQL equality (1.0 is not 1.00 here). */
static bool same_datum(uint8_t kind, const struct datum *a, const struct datum *b)
{
    if (a->null || b->null) {
        return a->null == b->null;
    }
    switch (kind) {
    case TYPE_BOOL:
        return a->b == b->b;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return memcmp(&a->f, &b->f, sizeof(a->f)) == 0;
    case TYPE_NUMERIC:
        return a->n.lo == b->n.lo && a->n.hi == b->n.hi && a->n.scale == b->n.scale &&
               a->n.special == b->n.special;
    case TYPE_INTERVAL:
        return a->iv.months == b->iv.months && a->iv.days == b->iv.days &&
               a->iv.micros == b->iv.micros;
    case TYPE_UUID:
        return memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0;
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_JSONB:
        return a->len == b->len && (a->len == 0 || memcmp(a->s, b->s, a->len) == 0);
    default:
        return a->i == b->i;
    }
}

/*
 * Row by row, in order: two lists of the same rows in another order count as different, which costs
 * a restart of the dataflow and nothing else.
 */
static bool same_constant(const struct plan_node *a, const struct plan_node *b)
{
    ASSERT(a->schema.cols == b->schema.cols); /* same_node compared the schemas */
    uint32_t cols = a->schema.cols;
    if (a->constant.rows_len != b->constant.rows_len) {
        return false;
    }
    for (uint32_t r = 0; r < a->constant.rows_len; r++) {
        if (a->constant.diffs[r] != b->constant.diffs[r]) {
            return false;
        }
        for (uint32_t c = 0; c < cols; c++) {
            size_t at = (size_t)r * cols + c;
            if (!same_datum(a->schema.types[c].kind, &a->constant.rows[at],
                            &b->constant.rows[at])) {
                return false;
            }
        }
    }
    return true;
}

static bool same_exprs(const struct expr *a, uint32_t a_len, const struct expr *b, uint32_t b_len)
{
    if (a_len != b_len) {
        return false;
    }
    for (uint32_t i = 0; i < a_len; i++) {
        if (!expr_equal(&a[i], &b[i])) {
            return false;
        }
    }
    return true;
}

static bool same_mfp(const struct mfp *a, const struct mfp *b)
{
    return a->input_cols == b->input_cols &&
           same_exprs(a->maps, a->maps_len, b->maps, b->maps_len) &&
           same_exprs(a->predicates, a->predicates_len, b->predicates, b->predicates_len) &&
           same_u32s(a->project, a->project_len, b->project, b->project_len);
}

static bool same_order(const struct plan_order *a, uint32_t a_len, const struct plan_order *b,
                       uint32_t b_len)
{
    bool same = a_len == b_len;
    for (uint32_t i = 0; same && i < a_len; i++) {
        same = a[i].col == b[i].col && a[i].desc == b[i].desc &&
               a[i].nulls_first == b[i].nulls_first;
    }
    return same;
}

/* Fields that the function does not use may differ. */
static bool same_agg(const struct plan_agg *a, const struct plan_agg *b)
{
    ASSERT(a->func > 0 && b->func > 0);
    return a->func == b->func && a->distinct == b->distinct && a->has_filter == b->has_filter &&
           (!a->has_filter || a->filter == b->filter) &&
           (a->func == AGG_COUNT_ALL || a->arg == b->arg) &&
           (!agg_takes_two((enum agg_func)a->func) || a->arg2 == b->arg2) &&
           same_order(a->order, a->order_len, b->order, b->order_len) &&
           same_type(&a->type, &b->type);
}

static bool same_reduce(const struct plan_node *a, const struct plan_node *b)
{
    ASSERT(a->op == PLAN_REDUCE && b->op == PLAN_REDUCE);
    if (!same_u32s(a->reduce.keys, a->reduce.keys_len, b->reduce.keys, b->reduce.keys_len) ||
        a->reduce.aggs_len != b->reduce.aggs_len) {
        return false;
    }
    for (uint32_t i = 0; i < a->reduce.aggs_len; i++) {
        if (!same_agg(&a->reduce.aggs[i], &b->reduce.aggs[i])) {
            return false;
        }
    }
    return true;
}

static bool same_topk(const struct plan_node *a, const struct plan_node *b)
{
    ASSERT(a->op == PLAN_TOPK && b->op == PLAN_TOPK);
    return same_u32s(a->topk.keys, a->topk.keys_len, b->topk.keys, b->topk.keys_len) &&
           same_order(a->topk.order, a->topk.order_len, b->topk.order, b->topk.order_len) &&
           a->topk.limit == b->topk.limit && a->topk.offset == b->topk.offset &&
           a->topk.ties == b->topk.ties;
}

static bool same_bound(const struct plan_bound *a, const struct plan_bound *b)
{
    return a->kind == b->kind && (a->kind != PLAN_BOUND_OFFSET || a->offset == b->offset) &&
           (a->kind != PLAN_BOUND_VALUE || a->col == b->col);
}

static bool same_frame(const struct plan_frame *a, const struct plan_frame *b)
{
    return a->mode == b->mode && a->exclude == b->exclude && same_bound(&a->start, &b->start) &&
           same_bound(&a->end, &b->end);
}

/* Fields that the function does not use may differ. */
static bool same_call(const struct plan_window_call *a, const struct plan_window_call *b)
{
    return a->func == b->func && same_type(&a->type, &b->type) && a->n == b->n &&
           (!plan_window_has_arg(a->func) || a->arg == b->arg) &&
           a->has_fallback == b->has_fallback &&
           (!a->has_fallback || a->fallback == b->fallback) && a->n_of_row == b->n_of_row &&
           (!a->n_of_row || a->n_col == b->n_col) &&
           (!plan_window_has_frame(a->func) || same_frame(&a->frame, &b->frame)) &&
           (a->func != PLAN_WINDOW_AGG || same_agg(&a->agg, &b->agg));
}

static bool same_window(const struct plan_node *a, const struct plan_node *b)
{
    ASSERT(a->op == PLAN_WINDOW && b->op == PLAN_WINDOW);
    bool same =
        same_u32s(a->window.keys, a->window.keys_len, b->window.keys, b->window.keys_len) &&
        same_order(a->window.order, a->window.order_len, b->window.order, b->window.order_len) &&
        a->window.calls_len == b->window.calls_len;
    for (uint32_t i = 0; same && i < a->window.calls_len; i++) {
        same = same_call(&a->window.calls[i], &b->window.calls[i]);
    }
    return same;
}

static bool same_fixpoint(const struct plan_fixpoint *a, const struct plan_fixpoint *b)
{
    return same_u32s(a->variables, a->variables_len, b->variables, b->variables_len) &&
           a->limit == b->limit && a->limit_error == b->limit_error;
}

static bool same_flat_map(const struct plan_node *a, const struct plan_node *b)
{
    ASSERT(a->op == PLAN_FLAT_MAP && b->op == PLAN_FLAT_MAP);
    bool same = same_u32s(a->flat_map.keep, a->flat_map.keep_len, b->flat_map.keep,
                          b->flat_map.keep_len) &&
                a->flat_map.calls_len == b->flat_map.calls_len &&
                a->flat_map.ordinality == b->flat_map.ordinality &&
                a->flat_map.outer == b->flat_map.outer;
    for (uint32_t i = 0; same && i < a->flat_map.calls_len; i++) {
        const struct plan_table_call *x = &a->flat_map.calls[i], *y = &b->flat_map.calls[i];
        same = x->func == y->func && same_u32s(x->args, x->args_len, y->args, y->args_len);
    }
    return same;
}

static bool same_temporal(const struct plan_node *a, const struct plan_node *b)
{
    ASSERT(a->op == PLAN_TEMPORAL && b->op == PLAN_TEMPORAL);
    bool same = a->temporal.bounds_len == b->temporal.bounds_len;
    for (uint32_t i = 0; same && i < a->temporal.bounds_len; i++) {
        same = a->temporal.bounds[i].cmp == b->temporal.bounds[i].cmp &&
               a->temporal.bounds[i].col == b->temporal.bounds[i].col;
    }
    return same;
}

/* Inputs are compared as numbers: the nodes before are the same in both plans. */
static bool same_node(const struct plan_node *a, const struct plan_node *b)
{
    if (a->op != b->op || !same_u32s(a->inputs, a->inputs_len, b->inputs, b->inputs_len) ||
        !same_schema(&a->schema, &b->schema)) {
        return false;
    }
    switch (a->op) {
    case PLAN_SOURCE:
        return same_id(a->import.id, b->import.id);
    case PLAN_INDEX:
        return same_id(a->import.id, b->import.id) &&
               same_u32s(a->import.keys, a->import.keys_len, b->import.keys, b->import.keys_len);
    case PLAN_ARRANGE:
        return a->arrange.null_equal == b->arrange.null_equal &&
               same_u32s(a->arrange.keys, a->arrange.keys_len, b->arrange.keys,
                         b->arrange.keys_len);
    case PLAN_LOOKUP:
        return a->lookup.null_equal == b->lookup.null_equal &&
               a->lookup.before == b->lookup.before && a->lookup.later == b->lookup.later &&
               same_u32s(a->lookup.keys, a->lookup.keys_len, b->lookup.keys, b->lookup.keys_len);
    case PLAN_CONSTANT:
        return same_constant(a, b);
    case PLAN_MFP:
        return same_mfp(&a->mfp, &b->mfp);
    case PLAN_UNION:
        return a->sum.errors_once == b->sum.errors_once;
    case PLAN_JOIN:
        return a->join.kind == b->join.kind && a->join.null_equal == b->join.null_equal &&
               same_u32s(a->join.left_keys, a->join.keys_len, b->join.left_keys,
                         b->join.keys_len) &&
               same_u32s(a->join.right_keys, a->join.keys_len, b->join.right_keys,
                         b->join.keys_len);
    case PLAN_REDUCE:
        return same_reduce(a, b);
    case PLAN_TOPK:
        return same_topk(a, b);
    case PLAN_WINDOW:
        return same_window(a, b);
    case PLAN_FIXPOINT:
        return same_fixpoint(&a->fixpoint, &b->fixpoint);
    case PLAN_LEAVE:
        return a->leave.binding == b->leave.binding;
    case PLAN_FLAT_MAP:
        return same_flat_map(a, b);
    case PLAN_TEMPORAL:
        return same_temporal(a, b);
    default:
        return true;
    }
}

static bool same_export(const struct plan_export *a, const struct plan_export *b)
{
    return a->kind == b->kind && same_id(a->id, b->id) && a->node == b->node &&
           same_u32s(a->keys, a->keys_len, b->keys, b->keys_len) && a->snapshot == b->snapshot &&
           a->until == b->until;
}

bool plan_equal(const struct plan *a, const struct plan *b)
{
    ASSERT(a != NULL && b != NULL);
    if (a->nodes_len != b->nodes_len || a->exports_len != b->exports_len) {
        return false;
    }
    for (uint32_t i = 0; i < a->nodes_len; i++) {
        if (!same_node(&a->nodes[i], &b->nodes[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < a->exports_len; i++) {
        if (!same_export(&a->exports[i], &b->exports[i])) {
            return false;
        }
    }
    return true;
}
