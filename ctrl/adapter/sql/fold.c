/*
 * Expressions into the form of plans, and constant folding through it.
 *
 * Emission turns a tree into core/data's flat program, arguments before their users; a part that is
 * shared by pointer becomes one node, so BETWEEN's argument is computed once. Relabelling
 * disappears: the engine knows kinds, not OIDs.
 *
 * Folding replaces what does not depend on columns by its value, computed by the very code that
 * would compute it at run time, so the two cannot differ. An expression that fails is left alone:
 * SELECT CASE WHEN a = 0 THEN 0 ELSE 1 / 0 END must fail only for rows that get there. Volatile
 * functions are not folded. Besides evaluation it uses what holds whatever the columns are:
 *
 *   a AND false                 false
 *   CASE WHEN false THEN x ...  without that branch; WHEN true ends it
 *   COALESCE(NULL, a, b)        COALESCE(a, b), and a alone when it cannot be NULL
 *   f(NULL)                     NULL for a strict f, without asking whether other arguments fail
 *   a IS NULL                   false when a can neither be NULL nor fail
 */
#include "ctrl/adapter/sql/sql_internal.h"

/* ---- emission -------------------------------------------------------------------------------- */

/* A part that has its node already. */
struct emitted {
    const struct sx *sx;
    uint32_t node;
};

struct sx_emitter {
    struct arena *arena;
    struct expr *e;
    struct emitted *seen; /* shared subexpressions become one node */
    size_t seen_len, seen_cap;
};

/* The program outlives the planning context. */
static void copy_literal(struct arena *arena, const struct type *type, struct datum *d)
{
    ASSERT(type->kind != TYPE_UNKNOWN);
    if (!d->null && type_is_variable((enum type_kind)type->kind)) {
        d->s = arena_memdup(arena, d->s, d->len);
    }
}

/* 0: a kind that lowering should have removed. */
static uint8_t expr_kind_of(uint8_t kind)
{
    switch (kind) {
    case SX_COL:
        return EXPR_COLUMN;
    case SX_LIT:
        return EXPR_LITERAL;
    case SX_CALL:
        return EXPR_CALL;
    case SX_AND:
        return EXPR_AND;
    case SX_OR:
        return EXPR_OR;
    case SX_NOT:
        return EXPR_NOT;
    case SX_IS_NULL:
        return EXPR_IS_NULL;
    case SX_CASE:
        return EXPR_CASE;
    case SX_COALESCE:
        return EXPR_COALESCE;
    default:
        return 0;
    }
}

/* Arguments first; a subexpression shared by pointer becomes one node. Only so many are remembered:
 * beyond them it is computed again, which is slower and not wrong. */
static err_t emit_node(struct sx_emitter *em, const struct sx *sx, uint32_t *out)
{
    ASSERT(sx != NULL);
    while (sx->kind == SX_RELABEL) {
        sx = sx->args[0];
    }
    /* By address: equal expressions in two places are two nodes here and one map in emit.c. */
    for (size_t i = 0; i < em->seen_len; i++) {
        if (em->seen[i].sx == sx) {
            *out = em->seen[i].node;
            return ERR_OK;
        }
    }
    struct expr_node node = {.kind = expr_kind_of(sx->kind), .type = sx->type};
    if (sx->kind == SX_NOW) {
        return sx_now_refused();
    }
    if (node.kind == 0) {
        return err_new(ERR_INTERNAL, "expression of kind %u cannot be planned", sx->kind);
    }
    if (em->e->nodes_len >= EXPR_NODES_MAX || sx->args_len > EXPR_ARGS_MAX) {
        return err_sql(ERR_LIMIT, "54001", "expression is too large");
    }
    /* On the stack: expr_add copies them. Depth is bounded by analysis (AZ_DEPTH_MAX). */
    uint32_t args[EXPR_ARGS_MAX];
    for (uint32_t i = 0; i < sx->args_len; i++) {
        TRY(emit_node(em, sx->args[i], &args[i]));
    }
    node.args = args;
    node.args_len = sx->args_len;
    node.column = sx->col;
    if (sx->kind == SX_CALL) {
        node.func = sx->func->id;
    } else if (sx->kind == SX_LIT) {
        node.literal = sx->lit;
        copy_literal(em->arena, &sx->type, &node.literal);
    }
    *out = expr_add(em->arena, em->e, &node);
    if (em->seen_len < 512) {
        struct emitted *seen = VEC_PUSH(em, seen);
        *seen = (struct emitted){.sx = sx, .node = *out};
    }
    return ERR_OK;
}

/* The last node is the result. */
err_t sx_emit(struct arena *arena, const struct sx *sx, struct expr *out)
{
    ASSERT(sx != NULL);
    *out = (struct expr){0};
    struct sx_emitter em = {.arena = arena, .e = out};
    uint32_t root = 0;
    err_t err = emit_node(&em, sx, &root);
    free(em.seen);
    ASSERT(err != ERR_OK || root + 1 == out->nodes_len);
    return err;
}

/* ---- folding --------------------------------------------------------------------------------- */

/* Are all arguments literals, and is the function one whose value never changes? */
static bool is_constant(const struct sx *sx)
{
    if (sx->kind == SX_COL || sx->kind == SX_PARAM || sx->sub != NULL || sx->kind == SX_AGG ||
        sx->kind == SX_WINDOW || sx->kind == SX_NOW || sx->kind == SX_TABLE) {
        return false;
    }
    if (sx->type.kind == TYPE_UNKNOWN ||
        (sx->kind == SX_CALL && (sx->func->flags & FUNC_VOLATILE) != 0)) {
        return false;
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        if (sx->args[i]->kind != SX_LIT) {
            return false;
        }
    }
    return true;
}

/* The value of a constant expression; NULL when computing it fails (it may never be needed). */
static struct sx *evaluate(struct arena *arena, struct sx *sx)
{
    ASSERT(is_constant(sx));
    struct expr e;
    struct datum value = {0};
    err_t err = sx_emit(arena, sx, &e);
    if (err == ERR_OK) {
        err = expr_eval_const(&e, arena, &value);
    }
    if (err != ERR_OK) {
        err_free(err);
        return NULL;
    }
    struct sx *lit = sx_lit(arena, sx->type, value);
    lit->location = sx->location;
    return lit;
}

/* Arguments were folded: the constructors see their values now. */
static struct sx *fold_logic(struct arena *arena, struct sx *sx)
{
    ASSERT(sx->args_len >= 1);
    struct sx *all = sx->args[0];
    for (uint32_t i = 1; i < sx->args_len; i++) {
        all = sx->kind == SX_AND ? sx_and(arena, all, sx->args[i]) : sx_or(arena, all, sx->args[i]);
    }
    return all;
}

/* Branches whose condition is known: NULL counts as false. */
static struct sx *fold_case(struct arena *arena, struct sx *sx)
{
    ASSERT(sx->args_len % 2 == 1);
    struct sxvec args = {0};
    uint32_t last = sx->args_len - 1;
    struct sx *otherwise = sx->args[last];
    for (uint32_t i = 0; i < last; i += 2) {
        if (sx_is_true(sx->args[i])) {
            otherwise = sx->args[i + 1];
            break;
        }
        if (!sx_is_false_or_null(sx->args[i])) {
            sxvec_push(arena, &args, sx->args[i]);
            sxvec_push(arena, &args, sx->args[i + 1]);
        }
    }
    if (args.len == 0) {
        return otherwise;
    }
    if (args.len == last) {
        return sx;
    }
    sxvec_push(arena, &args, otherwise);
    struct sx *copy = arena_memdup(arena, sx, sizeof(*sx));
    copy->args = args.items;
    copy->args_len = args.len;
    return copy;
}

/* Literal NULLs go, and what stands behind an argument that cannot be NULL. */
static struct sx *fold_coalesce(struct arena *arena, struct sx *sx)
{
    ASSERT(sx->args_len >= 1);
    struct sxvec args = {0};
    for (uint32_t i = 0; i < sx->args_len; i++) {
        struct sx *a = sx->args[i];
        if (a->kind == SX_LIT && a->lit.null && sx->args_len > 1) {
            continue;
        }
        sxvec_push(arena, &args, a);
        if (!a->type.nullable) {
            break;
        }
    }
    if (args.len == 0) {
        return sx_null(arena, sx->type);
    }
    if (args.len == 1) {
        return args.items[0];
    }
    struct sx *copy = arena_memdup(arena, sx, sizeof(*sx));
    copy->args = args.items;
    copy->args_len = args.len;
    return copy;
}

/* One node whose arguments are folded already. */
static struct sx *fold_node(struct arena *arena, struct sx *sx)
{
    ASSERT(sx != NULL);
    switch (sx->kind) {
    case SX_AND:
    case SX_OR:
        sx = fold_logic(arena, sx);
        break;
    case SX_NOT:
        sx = sx_not(arena, sx->args[0]);
        break;
    case SX_IS_NULL:
        if (!sx->args[0]->type.nullable && !sx_can_fail(sx->args[0])) {
            return sx_bool(arena, false);
        }
        break;
    case SX_CASE:
        sx = fold_case(arena, sx);
        break;
    case SX_COALESCE:
        sx = fold_coalesce(arena, sx);
        break;
    case SX_CALL:
        for (uint32_t i = 0; i < sx->args_len; i++) {
            bool strict = (sx->func->flags & (FUNC_NOT_STRICT | FUNC_PREDICATE_NULLSAFE)) == 0;
            if (strict && sx->args[i]->kind == SX_LIT && sx->args[i]->lit.null) {
                return sx_null(arena, sx->type);
            }
        }
        break;
    default:
        break;
    }
    if (sx->kind == SX_LIT || !is_constant(sx)) {
        return sx;
    }
    struct sx *value = evaluate(arena, sx);
    return value != NULL ? value : sx;
}

bool sx_is_param(const struct sx *sx)
{
    ASSERT(sx != NULL);
    while ((sx->kind == SX_CALL || sx->kind == SX_RELABEL) && sx->args_len == 1) {
        sx = sx->args[0];
    }
    return sx->kind == SX_PARAM;
}

/* Bottom up; shares what does not change. */
struct sx *sx_fold(struct arena *arena, struct sx *sx)
{
    ASSERT(sx != NULL);
    /* Columns and literals; a call without arguments may still be constant. */
    if (sx->args_len == 0 && sx->kind != SX_CALL) {
        return sx;
    }
    struct sx *copy = NULL;
    for (uint32_t i = 0; i < sx->args_len; i++) {
        struct sx *a = sx_fold(arena, sx->args[i]);
        if (a != sx->args[i]) {
            if (copy == NULL) {
                copy = arena_memdup(arena, sx, sizeof(*sx));
                copy->args = arena_memdup(arena, sx->args, sx->args_len * sizeof(sx->args[0]));
            }
            copy->args[i] = a;
        }
    }
    return fold_node(arena, copy != NULL ? copy : sx);
}
