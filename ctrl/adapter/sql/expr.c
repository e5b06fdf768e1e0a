/*
 * Analysis of scalar expressions: from the parse tree to typed sx.
 *
 * One function per kind of node; each analyses its arguments first and then asks typing.c or
 * resolve.c what they mean together. Constructs the engine does not have are written with those it
 * has, so that later passes know AND, OR, NOT, CASE, COALESCE, IS NULL, calls and subqueries only:
 *
 *   x BETWEEN a AND b     x >= a AND x <= b
 *   x IN (a, b)           x = a OR x = b                NULL in the list: unknown instead of false
 *   (a, b) < (c, d)       a < c OR (a = c AND b < d)
 *   NULLIF(a, b)          CASE WHEN a = b THEN NULL ELSE a END
 *   x IS NOT TRUE         NOT COALESCE(x, false)
 *
 * These repeat an argument by pointer; values do not depend on how often they are computed, and
 * emission makes one node of what is shared (fold.c). x BETWEEN has x twice in the size that
 * sx_measure counts, therefore expressions have a bound (SX_SIZE_MAX).
 *
 * Entry point: az_expr. Errors carry the position PostgreSQL would give.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

#include <errno.h>

/* ---- constants and parameters ---------------------------------------------------------------- */

/*
 * A quoted literal: of no type until something decides (manual, 10.2). 705 is pg_type's "unknown".
 */
static struct sx *unknown_text(struct az *az, const char *text)
{
    struct datum d = {.len = (uint32_t)strlen(text)};
    d.s = text;
    return sx_lit(az->arena, (struct type){.kind = TYPE_UNKNOWN, .typmod = -1, .oid = 705}, d);
}

/* Digits that do not fit int4: int8 when they fit, else numeric. So are 1.5 and 1e3 numeric, never
 * floats, as in PostgreSQL. */
static err_t number(struct az *az, const char *text, int location, struct sx **out)
{
    char *end = NULL;
    /* strtoll stops at a point or exponent: those are numeric. */
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno == 0 && *end == '\0') {
        *out = sx_int8(az->arena, value);
        return ERR_OK;
    }
    struct type numeric = type_of(TYPE_NUMERIC);
    struct datum d = {0};
    err_t err = datum_parse(&numeric, text, strlen(text), az->arena, &d);
    if (err != ERR_OK) {
        return az_position(az, err, location);
    }
    *out = sx_lit(az->arena, numeric, d);
    return ERR_OK;
}

/* A literal; NULL is an unknown literal, too. */
static err_t constant(struct az *az, const PgQuery__AConst *c, struct sx **out)
{
    if (c->isnull) {
        *out = sx_null(az->arena, (struct type){.kind = TYPE_UNKNOWN, .typmod = -1, .oid = 705});
    } else {
        switch (c->val_case) {
        case PG_QUERY__A__CONST__VAL_IVAL:
            *out = sx_lit(az->arena, type_of(TYPE_INT4), (struct datum){.i = c->ival->ival});
            break;
        case PG_QUERY__A__CONST__VAL_FVAL:
            TRY(number(az, c->fval->fval, c->location, out));
            break;
        case PG_QUERY__A__CONST__VAL_BOOLVAL:
            *out = sx_bool(az->arena, c->boolval->boolval != 0);
            break;
        case PG_QUERY__A__CONST__VAL_SVAL:
            *out = unknown_text(az, c->sval->sval);
            break;
        default:
            return AZ_UNSUPPORTED(az, c->location, "bit strings are not supported");
        }
    }
    (*out)->location = c->location;
    return ERR_OK;
}

/*
 * $n in a catalog function's body (catfunc.c): column n of the outermost scope, which az_macro
 * replaces by the argument.
 */
static err_t macro_param(struct az *az, struct scope *scope, uint32_t index, struct sx **out)
{
    uint32_t level = 0;
    while (scope->parent != NULL) {
        scope = scope->parent;
        level++;
    }
    ASSERT(scope->items_len == 1 && index < scope->items[0]->cols_len);
    *out = sx_col(az->arena, index, scope->items[0]->cols[index].type);
    (*out)->level = level;
    return ERR_OK;
}

/* A value is known when planning; only its type, or not even that, when describing. A bound value
 * that nobody gave a type was sent as text. */
static err_t param(struct az *az, struct scope *scope, const PgQuery__ParamRef *ref,
                   struct sx **out)
{
    if (az->macro) {
        return macro_param(az, scope, (uint32_t)ref->number - 1, out);
    }
    if (ref->number < 1 || (uint32_t)ref->number > az->params_len || az->maintained) {
        return az_err(az, ref->location, ERR_INVALID, "42P02", "there is no parameter $%d",
                      ref->number);
    }
    uint32_t index = (uint32_t)ref->number - 1;
    struct type type = az->param_types[index];
    bool bound = az->cx->params != NULL && index < az->cx->params_len;
    if (!az->describe && !bound) {
        return az_err(az, ref->location, ERR_INVALID, "42P02", "there is no parameter $%d",
                      ref->number);
    }
    if (type.kind == 0 || (bound && !az->describe && type.kind == TYPE_UNKNOWN)) {
        type = bound && !az->describe
                   ? type_of(TYPE_TEXT)
                   : (struct type){.kind = TYPE_UNKNOWN, .typmod = -1, .oid = 705};
    }
    type.nullable = true;
    if (az->describe) {
        *out = sx_new(az->arena, SX_PARAM, type);
        (*out)->col = index;
    } else {
        *out = sx_lit(az->arena, type, az->cx->params[index]);
    }
    (*out)->location = ref->location;
    return ERR_OK;
}

/* a, t.a, s.t.a; database.s.t.a is accepted and its database not looked at. */
static err_t column_ref(struct az *az, struct scope *scope, const PgQuery__ColumnRef *ref,
                        struct sx **out)
{
    const char *parts[4] = {NULL, NULL, NULL, NULL};
    size_t n = ref->n_fields;
    if (n > 4 || n == 0) {
        const char *full = "";
        for (size_t i = 0; i < n; i++) {
            const char *part = pg_string(ref->fields[i]);
            full = arena_printf(az->arena, "%s%s%s", full, i > 0 ? "." : "",
                                part == NULL ? "*" : part);
        }
        return az_err(az, ref->location, ERR_INVALID, "42601",
                      "improper qualified name (too many dotted names): %s", full);
    }
    for (size_t i = 0; i < n; i++) {
        parts[i] = pg_string(ref->fields[i]);
        if (parts[i] == NULL) {
            return AZ_UNSUPPORTED(az, ref->location,
                                  "row expansion via \"*\" is not supported here");
        }
    }
    const char *schema = n >= 3 ? parts[n - 3] : NULL;
    const char *table = n >= 2 ? parts[n - 2] : NULL;
    return az_column(az, scope, schema, table, parts[n - 1], ref->location, out);
}

/* ---- operators ------------------------------------------------------------------------------- */

/* An operator that must yield a boolean: comparisons in IN, BETWEEN, rows, CASE. */
static err_t op2(struct az *az, const char *name, struct sx *l, struct sx *r, int location,
                 struct sx **out)
{
    TRY(az_operator(az, name, l, r, location, out));
    if ((*out)->type.kind != TYPE_BOOL) {
        return az_err(az, location, ERR_INVALID, "42809",
                      "op ANY/ALL (array) requires operator to yield boolean");
    }
    return ERR_OK;
}

/* Each of the nodes, in order: the first error is the leftmost one's. */
static err_t expr_list(struct az *az, struct scope *scope, pg_node **nodes, size_t len,
                       struct sx ***out)
{
    *out = ARENA_ARRAY(az->arena, struct sx *, len);
    for (size_t i = 0; i < len; i++) {
        TRY(az_expr(az, scope, nodes[i], &(*out)[i]));
    }
    return ERR_OK;
}

/*
 * (a, b) < (c, d) is a < c OR (a = c AND b < d); the last pair decides with the operator itself, so
 * that <= includes equal rows. NULLs: unknown exactly where the first pair that is not equal is.
 */
static err_t row_order(struct az *az, const char *name, struct sx **l, struct sx **r, size_t len,
                       int location, struct sx **out)
{
    ASSERT(len > 0);
    char strict[2] = {name[0], '\0'};
    TRY(op2(az, name, l[len - 1], r[len - 1], location, out));
    for (size_t i = len - 1; i-- > 0;) {
        struct sx *less = NULL, *equal = NULL;
        TRY(op2(az, strict, l[i], r[i], location, &less));
        TRY(op2(az, "=", l[i], r[i], location, &equal));
        *out = sx_or(az->arena, less, sx_and(az->arena, equal, *out));
    }
    return ERR_OK;
}

/*
 * Rows compare by columns; = and <> by AND and OR, which gives SQL's answer for NULLs too: (1,
 * NULL) = (2, 3) is false, (1, NULL) = (1, 3) unknown.
 */
static err_t row_compare(struct az *az, struct scope *scope, const char *name,
                         const PgQuery__RowExpr *a, const PgQuery__RowExpr *b, int location,
                         struct sx **out)
{
    if (a->n_args != b->n_args || a->n_args == 0) {
        return az_err(az, location, ERR_INVALID, "42601",
                      "unequal number of entries in row expressions");
    }
    struct sx **l = NULL, **r = NULL;
    TRY(expr_list(az, scope, a->args, a->n_args, &l));
    TRY(expr_list(az, scope, b->args, b->n_args, &r));
    bool equal = strcmp(name, "=") == 0, differ = strcmp(name, "<>") == 0;
    if (!equal && !differ) {
        if (strchr("<>", name[0]) == NULL) {
            return AZ_UNSUPPORTED(az, location, "could not determine row comparison operator %s",
                                  name);
        }
        return row_order(az, name, l, r, a->n_args, location, out);
    }
    *out = NULL;
    for (size_t i = 0; i < a->n_args; i++) {
        struct sx *one = NULL;
        TRY(op2(az, name, l[i], r[i], location, &one));
        *out = *out == NULL ? one
               : equal      ? sx_and(az->arena, *out, one)
                            : sx_or(az->arena, *out, one);
    }
    return ERR_OK;
}

/* IS [NOT] DISTINCT FROM: with a literal NULL it is IS [NOT] NULL, for any type. */
static err_t distinct_from(struct az *az, struct scope *scope, const PgQuery__AExpr *e, bool not,
                           struct sx **out)
{
    ASSERT(e->lexpr != NULL && e->rexpr != NULL);
    struct sx *args[2];
    TRY(az_expr(az, scope, e->lexpr, &args[0]));
    TRY(az_expr(az, scope, e->rexpr, &args[1]));
    /* A literal NULL has no type to compare by. */
    for (int i = 0; i < 2; i++) {
        if (args[i]->kind == SX_LIT && args[i]->lit.null) {
            struct sx *is_null = sx_is_null(az->arena, args[1 - i]);
            *out = not ? is_null : sx_not(az->arena, is_null);
            return ERR_OK;
        }
    }
    struct type common;
    TRY(az_blank_operands(az, "=", args));
    TRY(az_common_type(az, args, 2, "IS DISTINCT FROM", &common));
    TRY(az_coerce(az, args[0], common, CAST_IMPLICIT, &args[0]));
    TRY(az_coerce(az, args[1], common, CAST_IMPLICIT, &args[1]));
    /* Never unknown: so its negation is a value, too. */
    struct sx *same = sx_equal(az->arena, args[0], args[1], true);
    same->location = e->location;
    *out = not ? same : sx_not(az->arena, same);
    return ERR_OK;
}

/* Operators are resolved for each bound on its own: int BETWEEN smallint AND numeric is legal. */
static err_t between(struct az *az, struct scope *scope, const PgQuery__AExpr *e, bool not,
                     bool symmetric, struct sx **out)
{
    struct sx *x = NULL, *lo = NULL, *hi = NULL, *a = NULL, *b = NULL;
    TRY(az_expr(az, scope, e->lexpr, &x));
    ASSERT(e->rexpr->node_case == PG_QUERY__NODE__NODE_LIST && e->rexpr->list->n_items == 2);
    TRY(az_expr(az, scope, e->rexpr->list->items[0], &lo));
    TRY(az_expr(az, scope, e->rexpr->list->items[1], &hi));
    TRY(op2(az, ">=", x, lo, e->location, &a));
    TRY(op2(az, "<=", x, hi, e->location, &b));
    *out = sx_and(az->arena, a, b);
    if (symmetric) {
        TRY(op2(az, ">=", x, hi, e->location, &a));
        TRY(op2(az, "<=", x, lo, e->location, &b));
        *out = sx_or(az->arena, *out, sx_and(az->arena, a, b));
    }
    /* NOT of the whole: unknown stays unknown. */
    if (not ) {
        *out = sx_not(az->arena, *out);
    }
    return ERR_OK;
}

/*
 * x op ANY|ALL of items, as a disjunction or conjunction: of no items false and true. Three-valued
 * OR and AND give ANY's and ALL's answers for NULLs.
 */
static err_t quantified(struct az *az, const char *name, struct sx *x, struct sx **items,
                        size_t len, bool all, int location, struct sx **out)
{
    ASSERT(len == 0 || items != NULL);
    *out = sx_bool(az->arena, all);
    for (size_t i = 0; i < len; i++) {
        struct sx *one = NULL;
        TRY(op2(az, name, x, items[i], location, &one));
        *out = all ? sx_and(az->arena, *out, one) : sx_or(az->arena, *out, one);
    }
    return ERR_OK;
}

/* (a, b) IN ((1, 2), (3, 4)) */
static err_t in_rows(struct az *az, struct scope *scope, const PgQuery__AExpr *e,
                     const PgQuery__List *list, struct sx **out)
{
    ASSERT(e->lexpr->node_case == PG_QUERY__NODE__NODE_ROW_EXPR);
    *out = sx_bool(az->arena, false);
    for (size_t i = 0; i < list->n_items; i++) {
        if (list->items[i]->node_case != PG_QUERY__NODE__NODE_ROW_EXPR) {
            return AZ_UNSUPPORTED(az, e->location, "IN of a row and a value is not supported");
        }
        struct sx *one = NULL;
        TRY(row_compare(az, scope, "=", e->lexpr->row_expr, list->items[i]->row_expr, e->location,
                        &one));
        *out = sx_or(az->arena, *out, one);
    }
    return ERR_OK;
}

static bool has_column(const struct sx *sx)
{
    bool found = sx->kind == SX_COL;
    for (uint32_t i = 0; i < sx->args_len && !found; i++) {
        found = has_column(sx->args[i]);
    }
    return found;
}

/* PostgreSQL makes several items without columns an array of x's type: beside a varchar, char(n)
 * among them is one too, and blanks at the end count. */
static err_t in_one_type(struct az *az, const struct sx *x, struct sx **items, size_t len)
{
    size_t plain = 0;
    ASSERT(len == 0 || items != NULL);
    for (size_t i = 0; i < len; i++) {
        plain += !has_column(items[i]);
    }
    for (size_t i = 0; i < len && plain > 1 && x->type.oid == OID_VARCHAR; i++) {
        if (items[i]->type.oid == OID_BPCHAR && !has_column(items[i])) {
            TRY(az_coerce(az, items[i], type_of(TYPE_TEXT), CAST_IMPLICIT, &items[i]));
        }
    }
    return ERR_OK;
}

/* NOT IN is the operator <> of the same node. */
static err_t in_list(struct az *az, struct scope *scope, const PgQuery__AExpr *e, struct sx **out)
{
    ASSERT(e->rexpr->node_case == PG_QUERY__NODE__NODE_LIST);
    const PgQuery__List *list = e->rexpr->list;
    if (e->lexpr->node_case == PG_QUERY__NODE__NODE_ROW_EXPR) {
        TRY(in_rows(az, scope, e, list, out));
    } else {
        struct sx *x = NULL, **items = NULL;
        TRY(az_expr(az, scope, e->lexpr, &x));
        TRY(expr_list(az, scope, list->items, list->n_items, &items));
        TRY(in_one_type(az, x, items, list->n_items));
        TRY(quantified(az, "=", x, items, list->n_items, false, e->location, out));
    }
    const char *name = pg_name(e->name, e->n_name, NULL);
    if (name != NULL && strcmp(name, "<>") == 0) {
        *out = sx_not(az->arena, *out);
    }
    return ERR_OK;
}

/* The items of an array expression: ARRAY[...] or a literal '{...}', whose items are untyped
 * literals again unless the array has a type. NULL items stay NULL. */
static err_t array_items(struct az *az, struct scope *scope, const pg_node *node, struct sx ***out,
                         size_t *len)
{
    ASSERT(out != NULL && len != NULL);
    /* ARRAY[...]::int[] and ARRAY[...] alike: the operator converts each item. */
    if (node->node_case == PG_QUERY__NODE__NODE_TYPE_CAST &&
        node->type_cast->arg->node_case == PG_QUERY__NODE__NODE_A_ARRAY_EXPR) {
        node = node->type_cast->arg;
    }
    if (node->node_case == PG_QUERY__NODE__NODE_A_ARRAY_EXPR) {
        *len = node->a_array_expr->n_elements;
        return expr_list(az, scope, node->a_array_expr->elements, *len, out);
    }
    struct sx *array = NULL;
    TRY(az_expr(az, scope, node, &array));
    uint32_t element = type_element_of(array->type.oid);
    if (array->kind != SX_LIT || array->lit.null || (element == 0 && !type_is_unknown(array))) {
        return AZ_UNSUPPORTED(az, pg_location(node),
                              "ANY and ALL need a subquery or a constant array here");
    }
    const char **texts = NULL;
    uint32_t n = 0;
    const char *text = arena_strndup(az->arena, array->lit.s, array->lit.len);
    TRY(az_array_items(az, text, array->location, &texts, &n));
    *out = ARENA_ARRAY(az->arena, struct sx *, n);
    *len = n;
    struct type type = type_of(TYPE_TEXT);
    for (uint32_t i = 0; i < n; i++) {
        struct sx *item =
            texts[i] == NULL ? sx_null(az->arena, array->type) : unknown_text(az, texts[i]);
        item->type.kind = TYPE_UNKNOWN;
        if (element != 0 && type_of_oid(element, -1, &type)) {
            TRY(az_coerce(az, item, type, CAST_IMPLICIT, &item));
        }
        (*out)[i] = item;
    }
    return ERR_OK;
}

/* x op ANY (array); with a subquery it is a SubLink (func.c). */
static err_t any_all(struct az *az, struct scope *scope, const PgQuery__AExpr *e, const char *name,
                     bool all, struct sx **out)
{
    struct sx *x = NULL, **items = NULL;
    size_t len = 0;
    TRY(az_expr(az, scope, e->lexpr, &x));
    TRY(array_items(az, scope, e->rexpr, &items, &len));
    return quantified(az, name, x, items, len, all, e->location, out);
}

/* The value keeps the first argument's type; only the comparison converts. */
static err_t nullif(struct az *az, struct scope *scope, const PgQuery__AExpr *e, struct sx **out)
{
    ASSERT(e->lexpr != NULL && e->rexpr != NULL);
    struct sx *a = NULL, *b = NULL, *equal = NULL;
    TRY(az_expr(az, scope, e->lexpr, &a));
    TRY(az_expr(az, scope, e->rexpr, &b));
    TRY(op2(az, "=", a, b, e->location, &equal));
    TRY(az_settle(az, a, &a));
    *out = sx_if(az->arena, equal, sx_null(az->arena, a->type), a);
    (*out)->type = a->type;
    (*out)->type.nullable = true;
    (*out)->location = e->location;
    return ERR_OK;
}

/* Binary, prefix, LIKE and its family: they are operators in the tree (~~, ~~*). */
static err_t plain_operator(struct az *az, struct scope *scope, const PgQuery__AExpr *e,
                            const char *name, struct sx **out)
{
    if (e->lexpr != NULL && e->rexpr != NULL &&
        e->lexpr->node_case == PG_QUERY__NODE__NODE_ROW_EXPR &&
        e->rexpr->node_case == PG_QUERY__NODE__NODE_ROW_EXPR) {
        return row_compare(az, scope, name, e->lexpr->row_expr, e->rexpr->row_expr, e->location,
                           out);
    }
    struct sx *l = NULL, *r = NULL;
    if (e->lexpr != NULL) {
        TRY(az_expr(az, scope, e->lexpr, &l));
    }
    TRY(az_expr(az, scope, e->rexpr, &r));
    return az_operator(az, name, l, r, e->location, out);
}

/* Everything PostgreSQL's grammar calls an A_Expr. */
static err_t a_expr(struct az *az, struct scope *scope, const PgQuery__AExpr *e, struct sx **out)
{
    ASSERT(e->rexpr != NULL);
    const char *name = pg_name(e->name, e->n_name, NULL);
    name = name == NULL ? "" : name;
    switch (e->kind) {
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP:
    case PG_QUERY__A__EXPR__KIND__AEXPR_LIKE:
    case PG_QUERY__A__EXPR__KIND__AEXPR_ILIKE:
        return plain_operator(az, scope, e, name, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ANY:
        return any_all(az, scope, e, name, false, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ALL:
        return any_all(az, scope, e, name, true, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_DISTINCT:
        return distinct_from(az, scope, e, false, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_DISTINCT:
        return distinct_from(az, scope, e, true, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF:
        return nullif(az, scope, e, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_IN:
        return in_list(az, scope, e, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN:
        return between(az, scope, e, false, false, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN:
        return between(az, scope, e, true, false, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN_SYM:
        return between(az, scope, e, false, true, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN_SYM:
        return between(az, scope, e, true, true, out);
    case PG_QUERY__A__EXPR__KIND__AEXPR_SIMILAR:
        /* The pattern comes as a call of similar_to_escape, the operator as ~ or !~. */
        return plain_operator(az, scope, e, name, out);
    default:
        return AZ_UNSUPPORTED(az, e->location, "this operator is not supported");
    }
}

/* ---- logic ----------------------------------------------------------------------------------- */

/* AND and OR come flat from the grammar, NOT with one argument. */
static err_t bool_expr(struct az *az, struct scope *scope, const PgQuery__BoolExpr *e,
                       struct sx **out)
{
    ASSERT(e->n_args > 0);
    bool and = e->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR;
    bool not = e->boolop == PG_QUERY__BOOL_EXPR_TYPE__NOT_EXPR;
    *out = NULL;
    for (size_t i = 0; i < e->n_args; i++) {
        struct sx *arg = NULL;
        TRY(az_expr(az, scope, e->args[i], &arg));
        TRY(az_to_bool(az, arg, not ? "NOT" : and? "AND" : "OR", &arg));
        *out = not            ? sx_not(az->arena, arg)
               : *out == NULL ? arg
               : and          ? sx_and(az->arena, *out, arg)
                              : sx_or(az->arena, *out, arg);
    }
    ASSERT(*out != NULL);
    return ERR_OK;
}

/* (a, b) IS NULL when all are, IS NOT NULL when none is: the two are not opposites for rows. */
static err_t null_test(struct az *az, struct scope *scope, const PgQuery__NullTest *e,
                       struct sx **out)
{
    ASSERT(e->arg != NULL);
    bool not = e->nulltesttype == PG_QUERY__NULL_TEST_TYPE__IS_NOT_NULL;
    if (e->arg->node_case == PG_QUERY__NODE__NODE_ROW_EXPR) {
        *out = sx_bool(az->arena, true);
        for (size_t i = 0; i < e->arg->row_expr->n_args; i++) {
            struct sx *arg = NULL;
            TRY(az_expr(az, scope, e->arg->row_expr->args[i], &arg));
            struct sx *is_null = sx_is_null(az->arena, arg);
            *out = sx_and(az->arena, *out, not ? sx_not(az->arena, is_null) : is_null);
        }
        return ERR_OK;
    }
    struct sx *arg = NULL;
    TRY(az_expr(az, scope, e->arg, &arg));
    TRY(az_settle(az, arg, &arg));
    *out = sx_is_null(az->arena, arg);
    if (not ) {
        *out = sx_not(az->arena, *out);
    }
    return ERR_OK;
}

/* IS TRUE and its five relatives never are NULL: COALESCE decides what unknown counts as. */
static err_t boolean_test(struct az *az, struct scope *scope, const PgQuery__BooleanTest *e,
                          struct sx **out)
{
    ASSERT(e->arg != NULL);
    struct sx *arg = NULL;
    TRY(az_expr(az, scope, e->arg, &arg));
    TRY(az_to_bool(az, arg, "IS TRUE", &arg));
    struct arena *a = az->arena;
    switch (e->booltesttype) {
    case PG_QUERY__BOOL_TEST_TYPE__IS_TRUE:
        *out = sx_coalesce(a, arg, sx_bool(a, false));
        break;
    case PG_QUERY__BOOL_TEST_TYPE__IS_NOT_TRUE:
        *out = sx_not(a, sx_coalesce(a, arg, sx_bool(a, false)));
        break;
    case PG_QUERY__BOOL_TEST_TYPE__IS_FALSE:
        *out = sx_not(a, sx_coalesce(a, arg, sx_bool(a, true)));
        break;
    case PG_QUERY__BOOL_TEST_TYPE__IS_NOT_FALSE:
        *out = sx_coalesce(a, arg, sx_bool(a, true));
        break;
    case PG_QUERY__BOOL_TEST_TYPE__IS_UNKNOWN:
        *out = sx_is_null(a, arg);
        break;
    default:
        *out = sx_not(a, sx_is_null(a, arg));
        break;
    }
    return ERR_OK;
}

/* ---- CASE, COALESCE, GREATEST ---------------------------------------------------------------- */

/* All items to their common type. */
static err_t coerce_all(struct az *az, struct sx **items, uint32_t len, const char *what,
                        struct type *common)
{
    ASSERT(len > 0);
    TRY(az_common_type(az, items, len, what, common));
    for (uint32_t i = 0; i < len; i++) {
        TRY(az_coerce(az, items[i], *common, CAST_IMPLICIT, &items[i]));
    }
    return ERR_OK;
}

/* CASE x WHEN y: x = y; else a condition. x is analysed once and shared. */
static err_t case_condition(struct az *az, struct scope *scope, struct sx *subject,
                            const PgQuery__CaseWhen *when, struct sx **out)
{
    struct sx *condition = NULL;
    TRY(az_expr(az, scope, when->expr, &condition));
    if (subject != NULL) {
        return op2(az, "=", subject, condition, when->location, out);
    }
    return az_to_bool(az, condition, "CASE/WHEN", out);
}

/* The result's type is that of all branches together, ELSE first as PostgreSQL does it. Without
 * ELSE there is an untyped NULL. */
static err_t case_expr(struct az *az, struct scope *scope, const PgQuery__CaseExpr *e,
                       struct sx **out)
{
    ASSERT(e->n_args > 0);
    struct sx *subject = NULL;
    uint32_t n = (uint32_t)e->n_args;
    /* One call has so many arguments; nested CASEs have more. */
    if (2 * n + 1 > EXPR_ARGS_MAX) {
        return AZ_UNSUPPORTED(az, e->location, "CASE with more than %d branches is not supported",
                              (EXPR_ARGS_MAX - 1) / 2);
    }
    if (e->arg != NULL) {
        TRY(az_expr(az, scope, e->arg, &subject));
        TRY(az_settle(az, subject, &subject));
    }
    /* results[0] is ELSE: its type counts first. */
    struct sx **whens = ARENA_ARRAY(az->arena, struct sx *, n);
    struct sx **results = ARENA_ARRAY(az->arena, struct sx *, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        TRY(case_condition(az, scope, subject, e->args[i]->case_when, &whens[i]));
        TRY(az_expr(az, scope, e->args[i]->case_when->result, &results[i + 1]));
    }
    results[0] = sx_null(az->arena, (struct type){.kind = TYPE_UNKNOWN, .typmod = -1});
    if (e->defresult != NULL) {
        TRY(az_expr(az, scope, e->defresult, &results[0]));
    }
    struct type common;
    TRY(coerce_all(az, results, n + 1, "CASE", &common));
    struct sx *sx = sx_new(az->arena, SX_CASE, common);
    sx->location = e->location;
    sx->args = ARENA_ARRAY(az->arena, struct sx *, 2 * n + 1);
    for (uint32_t i = 0; i < n; i++) {
        sx->args[2 * i] = whens[i];
        sx->args[2 * i + 1] = results[i + 1];
    }
    sx->args[2 * n] = results[0];
    sx->args_len = 2 * n + 1;
    *out = sx;
    return ERR_OK;
}

/*
 * Arguments after the first that is not NULL are not evaluated; so the engine does it
 * (EXPR_COALESCE). The result can be NULL only when all arguments can.
 */
static err_t coalesce_expr(struct az *az, struct scope *scope, const PgQuery__CoalesceExpr *e,
                           struct sx **out)
{
    ASSERT(e->n_args > 0);
    struct sx **args = NULL;
    if (e->n_args > EXPR_ARGS_MAX) {
        return AZ_UNSUPPORTED(az, e->location,
                              "COALESCE with more than %d arguments is not supported",
                              EXPR_ARGS_MAX);
    }
    TRY(expr_list(az, scope, e->args, e->n_args, &args));
    struct type common;
    TRY(coerce_all(az, args, (uint32_t)e->n_args, "COALESCE", &common));
    for (size_t i = 0; i < e->n_args; i++) {
        common.nullable = common.nullable && args[i]->type.nullable;
    }
    struct sx *sx = sx_new(az->arena, SX_COALESCE, common);
    sx->args = args;
    sx->args_len = (uint32_t)e->n_args;
    sx->location = e->location;
    *out = sx;
    return ERR_OK;
}

/* GREATEST and LEAST skip NULLs, unlike the SQL standard, like PostgreSQL. */
static err_t min_max_expr(struct az *az, struct scope *scope, const PgQuery__MinMaxExpr *e,
                          struct sx **out)
{
    ASSERT(e->n_args > 0);
    struct sx **args = NULL;
    bool greatest = e->op == PG_QUERY__MIN_MAX_OP__IS_GREATEST;
    TRY(expr_list(az, scope, e->args, e->n_args, &args));
    struct type common;
    TRY(coerce_all(az, args, (uint32_t)e->n_args, greatest ? "GREATEST" : "LEAST", &common));
    return az_function(az, greatest ? "greatest" : "least", args, (uint32_t)e->n_args, e->location,
                       out);
}

/* ---- the rest -------------------------------------------------------------------------------- */

/* CAST and ::. An empty ARRAY[] has a type only here. */
static err_t type_cast(struct az *az, struct scope *scope, const PgQuery__TypeCast *cast,
                       struct sx **out)
{
    ASSERT(cast->type_name != NULL && cast->arg != NULL);
    struct type to;
    struct sx *arg = NULL;
    TRY(az_type(az, cast->type_name, &to));
    if (cast->arg->node_case == PG_QUERY__NODE__NODE_A_ARRAY_EXPR &&
        cast->arg->a_array_expr->n_elements == 0) {
        arg = unknown_text(az, "{}");
    } else {
        TRY(az_expr(az, scope, cast->arg, &arg));
    }
    to.nullable = arg->type.nullable;
    err_t err = az_coerce(az, arg, to, CAST_EXPLICIT, out);
    if (err != ERR_OK) {
        return az_position(az, err, cast->location);
    }
    /*
     * Errors further up point at the cast when the value came from nowhere (a macro, a literal made
     * here).
     */
    if ((*out)->location < 0) {
        (*out)->location = cast->location;
    }
    return ERR_OK;
}

/* Text compares by bytes; names of collations that mean that are accepted. */
static err_t collate_clause(struct az *az, struct scope *scope, const PgQuery__CollateClause *c,
                            struct sx **out)
{
    const char *name = pg_name(c->collname, c->n_collname, NULL);
    /* "C" and its relatives compare bytes, which is what everything does here. */
    if (name == NULL || (strcmp(name, "default") != 0 && strcmp(name, "C") != 0 &&
                         strcmp(name, "POSIX") != 0 && strcmp(name, "ucs_basic") != 0)) {
        return AZ_UNSUPPORTED(az, c->location, "collation \"%s\" is not supported",
                              name == NULL ? "" : name);
    }
    return az_expr(az, scope, c->arg, out);
}

/* The items' array. A call takes EXPR_ARGS_MAX items: of more, all must be constants. */
static err_t array_of(struct az *az, const PgQuery__AArrayExpr *e, struct sx **items, uint8_t kind,
                      struct sx **out)
{
    const struct func *func = func_find("array", &kind, 1);
    struct type type = type_of(TYPE_TEXT);
    struct buf text = {0};
    ASSERT(func != NULL);
    type.nullable = false;
    bool known = true;
    for (size_t i = 0; i < e->n_elements && known; i += EXPR_ARGS_MAX) {
        size_t left = e->n_elements - i;
        uint32_t len = left < EXPR_ARGS_MAX ? (uint32_t)left : EXPR_ARGS_MAX;
        *out = sx_fold(az->arena, sx_call(az->arena, func, type, items + i, len));
        known = (*out)->kind == SX_LIT;
        if (known) { /* without its braces */
            buf_append_byte(&text, i == 0 ? '{' : ',');
            buf_append(&text, (*out)->lit.s + 1, (*out)->lit.len - 2);
        }
    }
    if (known) {
        buf_append_byte(&text, '}');
        *out = sx_text(az->arena, buf_cstr(&text));
    }
    buf_free(&text);
    if (!known && e->n_elements > EXPR_ARGS_MAX) {
        return AZ_UNSUPPORTED(az, e->location,
                              "arrays of more than %d expressions are not supported",
                              EXPR_ARGS_MAX);
    }
    return ERR_OK;
}

/* ARRAY[...]: text in the array format, with the array's OID. */
static err_t array_constructor(struct az *az, struct scope *scope, const PgQuery__AArrayExpr *e,
                               struct sx **out)
{
    struct sx **items = NULL;
    struct type common;
    if (e->n_elements == 0) {
        err_t err = az_err(az, e->location, ERR_INVALID, "42P18",
                           "cannot determine type of empty array");
        return err_hint(err, "Explicitly cast to the desired type, such as ARRAY[]::integer[].");
    }
    TRY(expr_list(az, scope, e->elements, e->n_elements, &items));
    TRY(coerce_all(az, items, (uint32_t)e->n_elements, "ARRAY", &common));
    uint32_t oid = type_array_of(common.oid);
    if (oid == 0) {
        return AZ_UNSUPPORTED(az, e->location, "arrays of type %s are not supported",
                              az_type_name(az, &common));
    }
    TRY(array_of(az, e, items, common.kind, out));
    (*out)->type.oid = oid;
    (*out)->location = e->location;
    return ERR_OK;
}

/* CURRENT_DATE and the like: the functions of the session under other names. */
static err_t sqlvalue(struct az *az, struct scope *scope, const PgQuery__SQLValueFunction *f,
                      struct sx **out)
{
    static const char *const names[] = {
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE] = "current_date",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP] = "now",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP_N] = "now",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP] = "localtimestamp",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP_N] = "localtimestamp",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME] = "localtime",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_ROLE] = "current_user",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_USER] = "current_user",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_USER] = "current_user",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_SESSION_USER] = "session_user",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_CATALOG] = "current_database",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_SCHEMA] = "current_schema",
    };
    const char *name = (size_t)f->op < ARRAY_LEN(names) ? names[f->op] : NULL;
    *out = NULL;
    if (name != NULL) {
        TRY(az_catalog_function(az, scope, NULL, name, NULL, 0, f->location, out));
    }
    if (*out == NULL) {
        return AZ_UNSUPPORTED(az, f->location, "this value function is not supported");
    }
    return ERR_OK;
}

/* GROUPING (a, b): which of its arguments the row's grouping set does not group by (group.c). */
static err_t grouping_func(struct az *az, struct scope *scope, const PgQuery__GroupingFunc *f,
                           struct sx **out)
{
    /* GROUPING stands where aggregates may. */
    if (scope->no_aggs != NULL) {
        return az_err(az, f->location, ERR_INVALID, "42803",
                      "grouping operations are not allowed in %s", scope->no_aggs);
    }
    if (f->n_args > 31) {
        return az_err(az, f->location, ERR_INVALID, "54023",
                      "GROUPING must have fewer than 32 arguments");
    }
    struct type type = type_of(TYPE_INT4);
    type.nullable = false;
    *out = sx_new(az->arena, SX_AGG, type);
    (*out)->location = f->location;
    (*out)->agg.func = AGG_GROUPING;
    (*out)->args_len = (uint32_t)f->n_args;
    TRY(expr_list(az, scope, f->args, f->n_args, &(*out)->args));
    scope->aggs_seen++;
    return ERR_OK;
}

/* No value has fields but what functions return: (f(x)).a. Arrays have no subscripts. */
static err_t indirection(struct az *az, struct scope *scope, const PgQuery__AIndirection *i,
                         struct sx **out)
{
    bool field = i->n_indirection == 1 &&
                 i->indirection[0]->node_case == PG_QUERY__NODE__NODE_STRING &&
                 i->arg->node_case == PG_QUERY__NODE__NODE_FUNC_CALL;
    if (!field) {
        return AZ_UNSUPPORTED(az, pg_location(i->arg), "this expression is not supported");
    }
    return az_func_field(az, scope, i->arg->func_call, pg_string(i->indirection[0]), out);
}

/* By kind of node; what is not here is refused with its position. */
static err_t expr_inner(struct az *az, struct scope *scope, const pg_node *node, struct sx **out)
{
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_A_CONST:
        return constant(az, node->a_const, out);
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        return column_ref(az, scope, node->column_ref, out);
    case PG_QUERY__NODE__NODE_PARAM_REF:
        return param(az, scope, node->param_ref, out);
    case PG_QUERY__NODE__NODE_TYPE_CAST:
        return type_cast(az, scope, node->type_cast, out);
    case PG_QUERY__NODE__NODE_A_EXPR:
        return a_expr(az, scope, node->a_expr, out);
    case PG_QUERY__NODE__NODE_BOOL_EXPR:
        return bool_expr(az, scope, node->bool_expr, out);
    case PG_QUERY__NODE__NODE_NULL_TEST:
        return null_test(az, scope, node->null_test, out);
    case PG_QUERY__NODE__NODE_BOOLEAN_TEST:
        return boolean_test(az, scope, node->boolean_test, out);
    case PG_QUERY__NODE__NODE_CASE_EXPR:
        return case_expr(az, scope, node->case_expr, out);
    case PG_QUERY__NODE__NODE_COALESCE_EXPR:
        return coalesce_expr(az, scope, node->coalesce_expr, out);
    case PG_QUERY__NODE__NODE_MIN_MAX_EXPR:
        return min_max_expr(az, scope, node->min_max_expr, out);
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        return az_func_call(az, scope, node->func_call, out);
    case PG_QUERY__NODE__NODE_A_INDIRECTION:
        return indirection(az, scope, node->a_indirection, out);
    case PG_QUERY__NODE__NODE_GROUPING_FUNC:
        return grouping_func(az, scope, node->grouping_func, out);
    case PG_QUERY__NODE__NODE_SUB_LINK:
        return az_sublink(az, scope, node->sub_link, out);
    case PG_QUERY__NODE__NODE_SQLVALUE_FUNCTION:
        return sqlvalue(az, scope, node->sqlvalue_function, out);
    case PG_QUERY__NODE__NODE_COLLATE_CLAUSE:
        return collate_clause(az, scope, node->collate_clause, out);
    case PG_QUERY__NODE__NODE_A_ARRAY_EXPR:
        return array_constructor(az, scope, node->a_array_expr, out);
    case PG_QUERY__NODE__NODE_ROW_EXPR:
        return AZ_UNSUPPORTED(az, node->row_expr->location, "row values are not supported here");
    case PG_QUERY__NODE__NODE_SET_TO_DEFAULT:
        return az_err(az, node->set_to_default->location, ERR_INVALID, "42601",
                      "DEFAULT is not allowed in this context");
    default:
        return AZ_UNSUPPORTED(az, pg_location(node), "this expression is not supported");
    }
}

/*
 * Depth is bounded by az_enter, size here: parts that are shared (BETWEEN) count as often as they
 * are walked.
 */
err_t az_expr(struct az *az, struct scope *scope, const pg_node *node, struct sx **out)
{
    ASSERT(node != NULL && scope != NULL);
    TRY(az_enter(az));
    *out = NULL;
    err_t err = expr_inner(az, scope, node, out);
    az_leave(az);
    if (err == ERR_OK && sx_measure(*out) > SX_SIZE_MAX) {
        return err_sql(ERR_LIMIT, "54001", "expression is too large");
    }
    ASSERT(err != ERR_OK || *out != NULL);
    return err;
}
