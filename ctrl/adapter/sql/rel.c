/*
 * Relations: construction, with the simplifications that are free.
 *
 * A rel is a multiset of rows, given as an operator over others; its types are what every row has.
 * A constructor computes the output's types from the inputs' (an outer join makes the padded side
 * nullable), and gives the input back when the operator would change nothing, so that passes need
 * not look before they build.
 *
 * Nodes are immutable once another refers to them; rel_copy is how a pass changes one. Sharing by
 * pointer is meaningful: one node is one operator of the plan. Nullability may only become better
 * known on the way (true to false), never the reverse, see check.c.
 */
#include "ctrl/adapter/sql/sql_internal.h"

/* The caller fills types and inputs before anyone sees it. */
struct rel *rel_new(struct arena *arena, enum rel_kind kind, uint32_t cols_len)
{
    ASSERT(kind >= REL_GET && kind <= REL_LEAVE);
    struct rel *rel = ARENA_NEW(arena, struct rel);
    rel->kind = (uint8_t)kind;
    rel->cols_len = cols_len;
    rel->types = ARENA_ARRAY(arena, struct type, cols_len);
    rel->limit = -1;
    return rel;
}

/* Operators over one relation. */
static void set_input(struct arena *arena, struct rel *rel, struct rel *in)
{
    ASSERT(in != NULL);
    rel->inputs = ARENA_ARRAY(arena, struct rel *, 1);
    rel->inputs[0] = in;
    rel->inputs_len = 1;
}

/* Operators whose rows are their input's: filter, distinct, threshold, negate, top-k. */
static struct rel *same_types(struct arena *arena, enum rel_kind kind, struct rel *in)
{
    struct rel *rel = rel_new(arena, kind, in->cols_len);
    if (in->cols_len > 0) {
        memcpy(rel->types, in->types, in->cols_len * sizeof(in->types[0]));
    }
    set_input(arena, rel, in);
    return rel;
}

/* Inputs, expressions and types are the copy's own; keys, order and rows are still shared. */
struct rel *rel_copy(struct arena *arena, const struct rel *rel)
{
    ASSERT(rel != NULL);
    struct rel *copy = arena_memdup(arena, rel, sizeof(*rel));
    copy->closed = copy->dead = false;
    copy->inputs = arena_memdup(arena, rel->inputs, rel->inputs_len * sizeof(rel->inputs[0]));
    copy->sx = arena_memdup(arena, rel->sx, rel->sx_len * sizeof(rel->sx[0]));
    copy->types = arena_memdup(arena, rel->types, rel->cols_len * sizeof(rel->types[0]));
    return copy;
}

/* One row without columns: neutral in a cross join, and what a SELECT without FROM reads. */
struct rel *rel_unit(struct arena *arena)
{
    struct rel *rel = rel_new(arena, REL_CONSTANT, 0);
    rel->rows_len = 1;
    return rel;
}

/* Also the beginning of a constant: rows are added by whoever asked. */
struct rel *rel_empty(struct arena *arena, const struct type *types, uint32_t cols_len)
{
    struct rel *rel = rel_new(arena, REL_CONSTANT, cols_len);
    if (cols_len > 0) {
        memcpy(rel->types, types, cols_len * sizeof(types[0]));
    }
    return rel;
}

/* The walk has no way to stop; one reference is enough to know. */
static void any_ref(void *arg, uint32_t level, uint32_t col, struct type type)
{
    *(bool *)arg = true;
    (void)level;
    (void)col;
    (void)type;
}

/* Closed relations answer at once, others are walked. */
bool rel_is_correlated(const struct rel *rel)
{
    bool any = false;
    rel_free_refs(rel, any_ref, &any);
    return any;
}

/* Whether rows can be there is remembered with it: closed relations are asked often. */
void rel_close(struct rel *rel)
{
    bool dead = az_is_dead(rel);
    rel->closed = !rel_is_correlated(rel);
    rel->dead = dead;
}

/* By construction: data that happens to be empty is not known here. */
bool rel_is_empty(const struct rel *rel)
{
    return rel->kind == REL_CONSTANT && rel->rows_len == 0;
}

/* A multiplicity other than 1 is not neutral. */
bool rel_is_unit(const struct rel *rel)
{
    return rel->kind == REL_CONSTANT && rel->cols_len == 0 && rel->rows_len == 1 &&
           (rel->diffs == NULL || rel->diffs[0] == 1);
}

/* Input columns, then the expressions; they do not see each other. */
struct rel *rel_map(struct arena *arena, struct rel *in, struct sx **sx, uint32_t sx_len)
{
    if (sx_len == 0) {
        return in;
    }
    struct rel *rel = rel_new(arena, REL_MAP, in->cols_len + sx_len);
    if (in->cols_len > 0) {
        memcpy(rel->types, in->types, in->cols_len * sizeof(in->types[0]));
    }
    for (uint32_t i = 0; i < sx_len; i++) {
        ASSERT(sx[i] != NULL);
        rel->types[in->cols_len + i] = sx[i]->type;
    }
    set_input(arena, rel, in);
    rel->sx = arena_memdup(arena, sx, sx_len * sizeof(sx[0]));
    rel->sx_len = sx_len;
    return rel;
}

/* All of sx must be true. */
struct rel *rel_filter(struct arena *arena, struct rel *in, struct sx **sx, uint32_t sx_len)
{
    ASSERT(in != NULL);
    if (sx_len == 0) {
        return in;
    }
    struct rel *rel = same_types(arena, REL_FILTER, in);
    rel->sx = arena_memdup(arena, sx, sx_len * sizeof(sx[0]));
    rel->sx_len = sx_len;
    return rel;
}

/* A condition, split into its conjuncts. */
struct rel *rel_filter1(struct arena *arena, struct rel *in, struct sx *sx)
{
    struct sxvec parts = {0};
    sx_conjuncts(arena, sx, &parts);
    return rel_filter(arena, in, parts.items, parts.len);
}

/* Projections of projections and those that change nothing collapse at once. */
struct rel *rel_project(struct arena *arena, struct rel *in, const uint32_t *cols, uint32_t len)
{
    ASSERT(in != NULL);
    bool identity = len == in->cols_len;
    for (uint32_t i = 0; i < len; i++) {
        ASSERT(cols[i] < in->cols_len);
        identity = identity && cols[i] == i;
    }
    if (identity) {
        return in;
    }
    struct rel *rel = rel_new(arena, REL_PROJECT, len);
    rel->cols = ARENA_ARRAY(arena, uint32_t, len);
    if (in->kind == REL_PROJECT) {
        for (uint32_t i = 0; i < len; i++) {
            rel->cols[i] = in->cols[cols[i]];
        }
        in = in->inputs[0];
    } else if (len > 0) {
        memcpy(rel->cols, cols, len * sizeof(cols[0]));
    }
    for (uint32_t i = 0; i < len; i++) {
        rel->types[i] = in->types[rel->cols[i]];
    }
    set_input(arena, rel, in);
    return rel;
}

/* What a pass appended goes. */
struct rel *rel_prefix(struct arena *arena, struct rel *in, uint32_t len)
{
    ASSERT(len <= in->cols_len);
    uint32_t *cols = ARENA_ARRAY(arena, uint32_t, len);
    for (uint32_t i = 0; i < len; i++) {
        cols[i] = i;
    }
    return rel_project(arena, in, cols, len);
}

/* Outer joins make the padded side's columns nullable. preds are over left ++ right; those of a
 * join by the analysis may hold subqueries. */
struct rel *rel_join2(struct arena *arena, enum rel_join join, struct rel *left, struct rel *right,
                      struct sx **preds, uint32_t preds_len)
{
    ASSERT(left != NULL && right != NULL);
    bool narrow = join == REL_JOIN_SEMI || join == REL_JOIN_ANTI;
    uint32_t cols = left->cols_len + (narrow ? 0 : right->cols_len);
    struct rel *rel = rel_new(arena, REL_JOIN, cols);
    rel->join = (uint8_t)join;
    if (left->cols_len > 0) {
        memcpy(rel->types, left->types, left->cols_len * sizeof(left->types[0]));
    }
    for (uint32_t i = left->cols_len; i < cols; i++) {
        rel->types[i] = right->types[i - left->cols_len];
        if (join == REL_JOIN_LEFT || join == REL_JOIN_FULL) {
            rel->types[i].nullable = true;
        }
    }
    for (uint32_t i = 0; join == REL_JOIN_FULL && i < left->cols_len; i++) {
        rel->types[i].nullable = true;
    }
    rel->inputs = ARENA_ARRAY(arena, struct rel *, 2);
    rel->inputs[0] = left;
    rel->inputs[1] = right;
    rel->inputs_len = 2;
    rel->sx = arena_memdup(arena, preds, preds_len * sizeof(preds[0]));
    rel->sx_len = preds_len;
    return rel;
}

/* A sum of multisets, like UNION ALL. */
struct rel *rel_union2(struct arena *arena, struct rel *a, struct rel *b)
{
    ASSERT(a->cols_len == b->cols_len);
    struct rel *rel = rel_new(arena, REL_UNION, a->cols_len);
    for (uint32_t i = 0; i < a->cols_len; i++) {
        ASSERT(a->types[i].kind == b->types[i].kind);
        rel->types[i] = a->types[i];
        rel->types[i].nullable = a->types[i].nullable || b->types[i].nullable;
    }
    rel->inputs = ARENA_ARRAY(arena, struct rel *, 2);
    rel->inputs[0] = a;
    rel->inputs[1] = b;
    rel->inputs_len = 2;
    return rel;
}

/* Every multiplicity with the other sign: only as a part of a sum. */
struct rel *rel_negate(struct arena *arena, struct rel *in)
{
    return same_types(arena, REL_NEGATE, in);
}

/* Multiplicities below 1 vanish. */
struct rel *rel_threshold(struct arena *arena, struct rel *in)
{
    return same_types(arena, REL_THRESHOLD, in);
}

/* What is distinct already stays as it is. */
struct rel *rel_distinct(struct arena *arena, struct rel *in)
{
    ASSERT(in != NULL);
    if (in->kind == REL_DISTINCT || (in->kind == REL_REDUCE && in->aggs_len == 0) ||
        rel_is_unit(in)) {
        return in;
    }
    return same_types(arena, REL_DISTINCT, in);
}

/* Keys, then aggregates. Without keys an empty input has no row: REL_GLOBAL is what SQL means. */
struct rel *rel_reduce(struct arena *arena, struct rel *in, const uint32_t *keys, uint32_t keys_len,
                       const struct plan_agg *aggs, uint32_t aggs_len)
{
    ASSERT(in != NULL);
    struct rel *rel = rel_new(arena, REL_REDUCE, keys_len + aggs_len);
    for (uint32_t i = 0; i < keys_len; i++) {
        ASSERT(keys[i] < in->cols_len);
        rel->types[i] = in->types[keys[i]];
    }
    for (uint32_t i = 0; i < aggs_len; i++) {
        rel->types[keys_len + i] = aggs[i].type;
    }
    set_input(arena, rel, in);
    rel->cols = arena_memdup(arena, keys, keys_len * sizeof(keys[0]));
    rel->keys_len = keys_len;
    rel->aggs = arena_memdup(arena, aggs, aggs_len * sizeof(aggs[0]));
    rel->aggs_len = aggs_len;
    return rel;
}

/* A copy, its columns by map; without one they move by shift. */
struct plan_agg agg_remap(struct arena *arena, const struct plan_agg *agg, const uint32_t *map,
                          uint32_t shift)
{
    struct plan_agg out = *agg;
    out.order = arena_memdup(arena, agg->order, agg->order_len * sizeof(agg->order[0]));
    for (uint32_t i = 0, *col; (col = plan_agg_col(&out, i)) != NULL; i++) {
        *col = map != NULL ? map[*col] : *col + shift;
    }
    return out;
}

/* As agg_remap; a window's aggregate has no order to copy. */
struct plan_window_call call_remap(const struct plan_window_call *call, const uint32_t *map,
                                   uint32_t shift)
{
    struct plan_window_call out = *call;
    ASSERT(call->agg.order_len == 0);
    for (uint32_t i = 0, *col; (col = plan_window_col(&out, i)) != NULL; i++) {
        *col = map != NULL ? map[*col] : *col + shift;
    }
    return out;
}

struct rel *rel_window(struct arena *arena, struct rel *in, const uint32_t *keys, uint32_t keys_len,
                       const struct plan_order *order, uint32_t order_len,
                       const struct plan_window_call *calls, uint32_t calls_len)
{
    if (calls_len == 0) {
        return in;
    }
    struct rel *rel = rel_new(arena, REL_WINDOW, in->cols_len + calls_len);
    set_input(arena, rel, in);
    memcpy(rel->types, in->types, in->cols_len * sizeof(in->types[0]));
    rel->cols = arena_memdup(arena, keys, keys_len * sizeof(keys[0]));
    rel->keys_len = keys_len;
    rel->order = arena_memdup(arena, order, order_len * sizeof(order[0]));
    rel->order_len = order_len;
    rel->calls = arena_memdup(arena, calls, calls_len * sizeof(calls[0]));
    rel->calls_len = calls_len;
    for (uint32_t i = 0; i < calls_len; i++) {
        rel->types[in->cols_len + i] = calls[i].type;
    }
    return rel;
}

struct plan_table_call *tables_remap(struct arena *arena, const struct plan_table_call *tables,
                                     uint32_t len, const uint32_t *map, uint32_t shift)
{
    struct plan_table_call *out = arena_memdup(arena, tables, len * sizeof(tables[0]));
    for (uint32_t i = 0; i < len; i++) {
        out[i].args = ARENA_ARRAY(arena, uint32_t, out[i].args_len);
        for (uint32_t a = 0; a < out[i].args_len; a++) {
            uint32_t col = tables[i].args[a];
            out[i].args[a] = map != NULL ? map[col] : col + shift;
        }
    }
    return out;
}

struct rel *rel_flat_map(struct arena *arena, struct rel *in, const uint32_t *kept,
                         uint32_t kept_len, const struct plan_table_call *tables,
                         uint32_t tables_len, const struct type *types)
{
    ASSERT(tables_len > 0);
    uint32_t given = 0;
    for (uint32_t i = 0; i < tables_len; i++) {
        given += table_func_by_id(tables[i].func)->cols_len;
    }
    struct rel *rel = rel_new(arena, REL_FLAT_MAP, kept_len + given);
    set_input(arena, rel, in);
    rel->cols = arena_memdup(arena, kept, kept_len * sizeof(kept[0]));
    rel->keys_len = kept_len;
    for (uint32_t i = 0; i < kept_len; i++) {
        ASSERT(kept[i] < in->cols_len);
        rel->types[i] = in->types[kept[i]];
    }
    memcpy(rel->types + kept_len, types, given * sizeof(types[0]));
    for (uint32_t i = 0; i < given && tables_len > 1; i++) {
        rel->types[kept_len + i].nullable = true; /* padding */
    }
    rel->tables = tables_remap(arena, tables, tables_len, NULL, 0);
    rel->tables_len = tables_len;
    return rel;
}

struct rel *rel_flat_map_ordinality(struct arena *arena, const struct rel *flat)
{
    ASSERT(flat->kind == REL_FLAT_MAP && !flat->ordinality);
    struct rel *rel = rel_copy(arena, flat);
    rel->types = ARENA_ARRAY(arena, struct type, flat->cols_len + 1);
    memcpy(rel->types, flat->types, flat->cols_len * sizeof(flat->types[0]));
    rel->types[rel->cols_len] = type_of(TYPE_INT8);
    rel->types[rel->cols_len++].nullable = flat->outer;
    rel->ordinality = true;
    return rel;
}

struct rel *rel_flat_map_outer(struct arena *arena, const struct rel *flat)
{
    ASSERT(flat->kind == REL_FLAT_MAP);
    struct rel *rel = rel_copy(arena, flat);
    rel->types = arena_memdup(arena, flat->types, flat->cols_len * sizeof(flat->types[0]));
    for (uint32_t i = flat->keys_len; i < flat->cols_len; i++) {
        rel->types[i].nullable = true;
    }
    rel->outer = true;
    return rel;
}

/*
 * The rows offset .. offset + limit of each partition in the order; ties are broken by the whole
 * row, so that the choice is the same everywhere.
 */
struct rel *rel_topk(struct arena *arena, struct rel *in, const uint32_t *keys, uint32_t keys_len,
                     const struct plan_order *order, uint32_t order_len, int64_t limit,
                     int64_t offset)
{
    ASSERT(in != NULL);
    ASSERT(limit >= -1 && offset >= 0);
    struct rel *rel = same_types(arena, REL_TOPK, in);
    rel->cols = arena_memdup(arena, keys, keys_len * sizeof(keys[0]));
    rel->keys_len = keys_len;
    rel->order = arena_memdup(arena, order, order_len * sizeof(order[0]));
    rel->order_len = order_len;
    rel->limit = limit;
    rel->offset = offset;
    return rel;
}

struct rel *rel_variable(struct arena *arena, struct recursion *recursion, uint32_t binding,
                         const struct type *types, uint32_t cols_len)
{
    ASSERT(binding < recursion->len);
    struct rel *rel = rel_new(arena, REL_VARIABLE, cols_len);
    for (uint32_t i = 0; i < cols_len; i++) {
        rel->types[i] = types[i];
        rel->types[i].nullable = true;
    }
    rel->recursion = recursion;
    rel->binding = binding;
    rel->closed = true;
    return rel;
}

struct rel *rel_fixpoint(struct arena *arena, struct recursion *recursion, struct rel **bodies)
{
    ASSERT(recursion->len > 0);
    struct rel *rel = rel_new(arena, REL_FIXPOINT, 0);
    rel->recursion = recursion;
    rel->inputs = arena_memdup(arena, bodies, recursion->len * sizeof(bodies[0]));
    rel->inputs_len = recursion->len;
    return rel;
}

struct rel *rel_leave(struct arena *arena, struct rel *fixpoint, const struct rel *variable)
{
    ASSERT(fixpoint->kind == REL_FIXPOINT && variable->recursion == fixpoint->recursion);
    struct rel *rel = rel_new(arena, REL_LEAVE, variable->cols_len);
    memcpy(rel->types, variable->types, variable->cols_len * sizeof(rel->types[0]));
    rel->recursion = variable->recursion;
    rel->binding = variable->binding;
    set_input(arena, rel, fixpoint);
    return rel;
}
