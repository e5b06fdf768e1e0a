/*
 * What holds of every expression and relation between the passes. A breach is a bug of a pass, and
 * what came of it would be a wrong answer: it is found where it was made.
 *
 * After lowering, and after each pass of rel_optimize (query.c):
 *   * no subquery, no outer reference, no aggregate in an expression; no GLOBAL, SET or FULL JOIN
 *   * every column exists and has the kind it is used as; every call has its function's kinds
 *   * a relation's columns are those its inputs give it
 *
 * Nullability is not compared: a pass may learn that a column is never NULL, and users above that
 * were built before keep the weaker type. After phys.c joins have two inputs (prune.c and emit.c
 * assert it).
 */
#include "ctrl/adapter/sql/sql_internal.h"

enum { CHECK_DEPTH_MAX = 100000 };

/* ---- expressions ------------------------------------------------------------------------------
 */

/* Untyped literals are settled by analysis. */
static void check_type(const struct type *type)
{
    ASSERT(type->kind >= TYPE_BOOL && type->kind < TYPE_KIND_MAX);
    ASSERT(type->kind != TYPE_UNKNOWN); /* settled by analysis */
}

/* Arity and kinds as the catalogue has them; 0 is polymorphic. */
static void check_call(const struct sx *sx)
{
    ASSERT(sx->func != NULL);
    ASSERT(func_by_id(sx->func->id) == sx->func);
    bool variadic = (sx->func->flags & FUNC_VARIADIC) != 0;
    ASSERT(variadic ? sx->args_len >= sx->func->args_len : sx->args_len == sx->func->args_len);
    for (uint32_t i = 0; i < sx->args_len; i++) {
        uint32_t last = (uint32_t)sx->func->args_len - 1;
        uint8_t want = sx->func->args[i < last ? i : last];
        ASSERT(want == 0 || want == sx->args[i]->type.kind);
    }
    ASSERT(sx->func->result == 0 || sx->func->result == sx->type.kind);
}

/* when, then, ..., else */
static void check_case(const struct sx *sx)
{
    ASSERT(sx->args_len >= 3 && sx->args_len % 2 == 1);
    for (uint32_t i = 0; i + 1 < sx->args_len; i += 2) {
        ASSERT(sx->args[i]->type.kind == TYPE_BOOL);
        ASSERT(sx->args[i + 1]->type.kind == sx->type.kind);
    }
    ASSERT(sx->args[sx->args_len - 1]->type.kind == sx->type.kind);
}

/* AND and OR have two arguments or more, NOT one. */
static void check_logic(const struct sx *sx)
{
    ASSERT(sx->type.kind == TYPE_BOOL);
    ASSERT(sx->args_len >= (sx->kind == SX_NOT ? 1 : 2));
    for (uint32_t i = 0; i < sx->args_len; i++) {
        ASSERT(sx->args[i]->type.kind == TYPE_BOOL);
    }
}

/* Kinds must agree; OIDs and modifiers may not be known to the relation. */
static void check_column(const struct sx *sx, const struct type *types, uint32_t cols)
{
    ASSERT(sx->level == 0); /* lowering binds what lies outside */
    ASSERT(sx->col < cols);
    ASSERT(sx->type.kind == types[sx->col].kind);
}

/* types, cols: the columns the expression is over. */
void sx_check(const struct sx *sx, const struct type *types, uint32_t cols)
{
    ASSERT(sx != NULL);
    ASSERT(sx->sub == NULL);
    check_type(&sx->type);
    ASSERT(sx->args_len <= EXPR_ARGS_MAX);
    for (uint32_t i = 0; i < sx->args_len; i++) {
        sx_check(sx->args[i], types, cols);
    }
    switch (sx->kind) {
    case SX_COL:
        check_column(sx, types, cols);
        break;
    case SX_LIT:
        ASSERT(sx->args_len == 0);
        break;
    case SX_NOW:
        ASSERT(sx->args_len == 0 && plan_temporal_takes(sx->type.kind));
        break;
    case SX_CALL:
        check_call(sx);
        break;
    case SX_AND:
    case SX_OR:
    case SX_NOT:
        check_logic(sx);
        break;
    case SX_IS_NULL:
        ASSERT(sx->args_len == 1 && sx->type.kind == TYPE_BOOL);
        break;
    case SX_CASE:
        check_case(sx);
        break;
    case SX_COALESCE:
        ASSERT(sx->args_len >= 1);
        for (uint32_t i = 0; i < sx->args_len; i++) {
            ASSERT(sx->args[i]->type.kind == sx->type.kind);
        }
        break;
    case SX_RELABEL:
        ASSERT(sx->args_len == 1 && sx->args[0]->type.kind == sx->type.kind);
        break;
    default:
        UNREACHABLE(); /* PARAM, EXISTS, SCALAR, AGG: gone by now */
    }
}

/* ---- relations --------------------------------------------------------------------------------
 */

static void check_predicates(const struct rel *rel, const struct type *types, uint32_t cols)
{
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        sx_check(rel->sx[i], types, cols);
        ASSERT(rel->sx[i]->type.kind == TYPE_BOOL);
    }
}

/* The column has the kind of the input's; nullability may have become known better below. */
static void check_same(const struct rel *rel, uint32_t col, const struct rel *in, uint32_t in_col)
{
    ASSERT(col < rel->cols_len);
    ASSERT(in_col < in->cols_len);
    ASSERT(rel->types[col].kind == in->types[in_col].kind);
}

/* Predicates are over all inputs' columns, also where the output is the left side's only. */
static void check_join(struct arena *arena, const struct rel *rel)
{
    uint32_t total = 0, at = 0;
    ASSERT(rel->inputs_len >= 1);
    ASSERT(rel->join == REL_JOIN_INNER || rel->inputs_len == 2);
    ASSERT(rel->join != REL_JOIN_FULL); /* lowered to what the engine has */
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        total += rel->inputs[i]->cols_len;
    }
    struct type *types = ARENA_ARRAY(arena, struct type, total);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        for (uint32_t c = 0; c < rel->inputs[i]->cols_len; c++) {
            types[at++] = rel->inputs[i]->types[c];
        }
    }
    bool narrow = rel->join == REL_JOIN_SEMI || rel->join == REL_JOIN_ANTI;
    ASSERT(rel->cols_len == (narrow ? rel->inputs[0]->cols_len : total));
    for (uint32_t c = 0; c < rel->cols_len; c++) {
        ASSERT(rel->types[c].kind == types[c].kind);
    }
    check_predicates(rel, types, total);
}

/* Keys first, then one column for each aggregate. */
static void check_reduce(const struct rel *rel, const struct rel *in)
{
    ASSERT(rel->cols_len == rel->keys_len + rel->aggs_len);
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        check_same(rel, i, in, rel->cols[i]);
    }
    for (uint32_t i = 0; i < rel->aggs_len; i++) {
        struct plan_agg agg = rel->aggs[i], *a = &agg;
        ASSERT(a->func >= AGG_COUNT_ALL && a->func <= AGG_MAX_FUNC);
        for (uint32_t k = 0, *col; (col = plan_agg_col(a, k)) != NULL; k++) {
            ASSERT(*col < in->cols_len);
        }
        ASSERT(!a->has_filter || in->types[a->filter].kind == TYPE_BOOL);
        ASSERT(a->type.kind == rel->types[rel->keys_len + i].kind);
    }
}

/* limit -1 is none. */
static void check_topk(const struct rel *rel, const struct rel *in)
{
    ASSERT(rel->limit >= -1);
    ASSERT(rel->offset >= 0);
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        ASSERT(rel->cols[i] < in->cols_len);
    }
    for (uint32_t i = 0; i < rel->order_len; i++) {
        ASSERT(rel->order[i].col < in->cols_len);
    }
}

/* The input's columns, then one for each function. */
static void check_window(const struct rel *rel, const struct rel *in)
{
    ASSERT(rel->cols_len == in->cols_len + rel->calls_len && rel->calls_len > 0);
    for (uint32_t i = 0; i < in->cols_len; i++) {
        check_same(rel, i, in, i);
    }
    for (uint32_t i = 0; i < rel->calls_len; i++) {
        struct plan_window_call call = rel->calls[i];
        for (uint32_t k = 0, *col; (col = plan_window_col(&call, k)) != NULL; k++) {
            ASSERT(*col < in->cols_len);
        }
        ASSERT(call.type.kind == rel->types[in->cols_len + i].kind);
    }
}

/* The kept columns, then the functions', then the ordinality. */
static void check_flat_map(const struct rel *rel, const struct rel *in)
{
    uint32_t at = rel->keys_len;
    ASSERT(rel->tables_len > 0 && at <= rel->cols_len);
    for (uint32_t i = 0; i < at; i++) {
        check_same(rel, i, in, rel->cols[i]);
    }
    for (uint32_t i = 0; i < rel->tables_len; i++) {
        const struct table_func *func = table_func_by_id(rel->tables[i].func);
        ASSERT(func != NULL && rel->tables[i].args_len == func->args_len);
        for (uint32_t a = 0; a < func->args_len; a++) {
            ASSERT(rel->tables[i].args[a] < in->cols_len);
            ASSERT(in->types[rel->tables[i].args[a]].kind == func->args[a]);
        }
        for (uint32_t c = 0; c < func->cols_len; c++, at++) {
            ASSERT(at < rel->cols_len);
            ASSERT(func->cols[c] == 0 || rel->types[at].kind == func->cols[c]);
        }
    }
    ASSERT(!rel->ordinality || rel->types[at].kind == TYPE_INT8);
    ASSERT(at + (rel->ordinality ? 1 : 0) == rel->cols_len);
}

/* The input's columns, then one for each expression. */
static void check_map(const struct rel *rel, const struct rel *in)
{
    ASSERT(rel->cols_len == in->cols_len + rel->sx_len);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        sx_check(rel->sx[i], in->types, in->cols_len);
        ASSERT(rel->sx[i]->type.kind == rel->types[in->cols_len + i].kind);
    }
}

/* Operators over one relation. */
static void check_unary(const struct rel *rel)
{
    const struct rel *in = rel->inputs[0];
    ASSERT(rel->inputs_len == 1);
    switch (rel->kind) {
    case REL_MAP:
        check_map(rel, in);
        return;
    case REL_REDUCE:
        check_reduce(rel, in);
        return;
    case REL_PROJECT:
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            check_same(rel, i, in, rel->cols[i]);
        }
        return;
    case REL_FILTER:
        check_predicates(rel, in->types, in->cols_len);
        break;
    case REL_TOPK:
        check_topk(rel, in);
        break;
    case REL_WINDOW:
        check_topk(rel, in);
        check_window(rel, in);
        return;
    case REL_FLAT_MAP:
        check_flat_map(rel, in);
        return;
    default:
        ASSERT(rel->sx_len == 0);
        break;
    }
    ASSERT(rel->cols_len == in->cols_len);
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        check_same(rel, i, in, i);
    }
}

/* One node; its inputs are checked by the walk. */
static void check_node(struct arena *arena, const struct rel *rel)
{
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        check_type(&rel->types[i]);
    }
    switch (rel->kind) {
    case REL_GET:
        ASSERT(rel->inputs_len == 0 && rel->relation != NULL);
        break;
    case REL_CONSTANT:
        ASSERT(rel->inputs_len == 0);
        ASSERT(rel->rows_len == 0 || rel->cols_len == 0 || rel->rows != NULL);
        break;
    case REL_JOIN:
        check_join(arena, rel);
        break;
    case REL_LOOKUP:
        ASSERT(rel->inputs_len == 2 && rel->keys_len > 0);
        ASSERT(rel->inputs[1]->kind == REL_ARRANGE || rel->inputs[1]->kind == REL_GET);
        ASSERT(rel->cols_len == rel->inputs[0]->cols_len + rel->inputs[1]->cols_len);
        for (uint32_t c = 0; c < rel->cols_len; c++) {
            uint32_t left = rel->inputs[0]->cols_len;
            check_same(rel, c, rel->inputs[c < left ? 0 : 1], c < left ? c : c - left);
        }
        break;
    case REL_UNION:
        ASSERT(rel->inputs_len >= 1);
        for (uint32_t i = 0; i < rel->inputs_len; i++) {
            ASSERT(rel->inputs[i]->cols_len == rel->cols_len);
            for (uint32_t c = 0; c < rel->cols_len; c++) {
                check_same(rel, c, rel->inputs[i], c);
            }
        }
        break;
    case REL_VARIABLE:
        ASSERT(rel->inputs_len == 0 && rel->binding < rel->recursion->len);
        break;
    case REL_FIXPOINT:
        ASSERT(rel->inputs_len == rel->recursion->len && rel->cols_len == 0);
        break;
    case REL_LEAVE:
        ASSERT(rel->inputs_len == 1 && rel->inputs[0]->recursion == rel->recursion);
        for (uint32_t c = 0; c < rel->cols_len; c++) {
            check_same(rel, c, rel->inputs[0]->inputs[rel->binding], c);
        }
        break;
    case REL_GLOBAL:
    case REL_SET:
        UNREACHABLE(); /* lowered */
    default:
        check_unary(rel);
        break;
    }
}

/* Each node once, inputs first. */
static void check_all(struct arena *arena, struct u64map *seen, const struct rel *rel)
{
    ASSERT(rel != NULL);
    if (u64map_put(seen, (uint64_t)(uintptr_t)rel, (void *)rel) != NULL) {
        return;
    }
    ASSERT(seen->len < CHECK_DEPTH_MAX);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        check_all(arena, seen, rel->inputs[i]);
    }
    check_node(arena, rel);
}

/* The whole DAG. Cheap enough to run always: plans have hundreds of nodes, not millions. */
void rel_check(struct arena *arena, const struct rel *rel)
{
    struct u64map seen = {0};
    check_all(arena, &seen, rel);
    u64map_free(&seen);
}
