/*
 * Analysis of function calls, aggregates and subqueries in expressions.
 *
 * A call is, in this order: an aggregate, a set-returning function, a value of the session or a
 * catalog function (catfunc.c), a function of core/data's catalogue (resolve.c), or 42883. Schemas
 * other than pg_catalog have no functions but the catalog's own.
 *
 * Subqueries become SX_EXISTS or SX_SCALAR; lowering knows no others:
 *
 *   x IN (q)       x = ANY (q)
 *   x op ANY (q)   CASE WHEN EXISTS(q: x op y) THEN true
 *                  WHEN EXISTS(q: x op y is unknown) THEN NULL ELSE false END
 *   x op ALL (q)   CASE WHEN EXISTS(q: NOT x op y) THEN false
 *                  WHEN EXISTS(q: x op y is unknown) THEN NULL ELSE true END
 *
 * which is SQL's definition word for word: ANY is true when the comparison is true for some row,
 * else unknown when it is unknown for some, else false. Where the subquery is over no rows both say
 * what they must (false, true). The condition is put on top of the subquery as a filter, so x
 * counts one scope more inside.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* ---- calls ----------------------------------------------------------------------------------- */

/* What only aggregates may have: 42809, in PostgreSQL's words. */
static err_t check_plain_call(struct az *az, const PgQuery__FuncCall *call, const char *name)
{
    ASSERT(name != NULL);
    if (call->over != NULL) {
        return az_err(az, call->location, ERR_INVALID, "42809",
                      "OVER specified, but %s is not a window function nor an aggregate function",
                      name);
    }
    const char *what = call->agg_distinct         ? "DISTINCT specified"
                       : call->agg_star           ? "(*) specified"
                       : call->n_agg_order > 0    ? "ORDER BY specified"
                       : call->agg_filter != NULL ? "FILTER specified"
                                                  : NULL;
    if (what != NULL) {
        return az_err(az, call->location, ERR_INVALID, "42809",
                      "%s, but %s is not an aggregate function", what, name);
    }
    return ERR_OK;
}

err_t az_func_field(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                    const char *field, struct sx **out)
{
    const char *schema = NULL;
    const char *name = pg_name(call->funcname, call->n_funcname, &schema);
    ASSERT(field != NULL && name != NULL);
    bool builtin = schema == NULL || strcmp(schema, "pg_catalog") == 0;
    if (!builtin || !az_is_table_function(name)) {
        return AZ_UNSUPPORTED(az, call->location, "fields of records are not supported here");
    }
    TRY(check_plain_call(az, call, name));
    return az_table_call(az, scope, call, name, field, out);
}

/* See the head for the order. */
err_t az_func_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                   struct sx **out)
{
    const char *schema = NULL;
    const char *name = pg_name(call->funcname, call->n_funcname, &schema);
    bool builtin = schema == NULL || strcmp(schema, "pg_catalog") == 0;
    if (builtin) {
        *out = NULL;
        TRY(az_agg_call(az, scope, call, name, out));
        if (*out == NULL) {
            TRY(az_window_call(az, scope, call, name, out));
        }
        if (*out != NULL) {
            return ERR_OK;
        }
    }
    TRY(check_plain_call(az, call, name));
    if (builtin && az_is_table_function(name)) {
        return az_table_call(az, scope, call, name, NULL, out);
    }
    if (call->n_args > EXPR_ARGS_MAX) {
        return az_err(az, call->location, ERR_INVALID, "54023",
                      "cannot pass more than %d arguments to a function", EXPR_ARGS_MAX);
    }
    struct sx *args[EXPR_ARGS_MAX];
    for (size_t i = 0; i < call->n_args; i++) {
        TRY(az_expr(az, scope, call->args[i], &args[i]));
    }
    *out = NULL;
    TRY(az_catalog_function(az, scope, schema, name, args, (uint32_t)call->n_args, call->location,
                            out));
    if (*out != NULL) {
        return ERR_OK;
    }
    if (!builtin) {
        return az_err(az, call->location, ERR_INVALID, "42883", "function %s.%s does not exist",
                      schema, name);
    }
    return az_function(az, name, args, (uint32_t)call->n_args, call->location, out);
}

/* ---- subqueries ------------------------------------------------------------------------------ */

static struct sx *exists(struct az *az, struct rel *sub)
{
    ASSERT(sub != NULL);
    struct sx *sx = sx_new(az->arena, SX_EXISTS, type_bool(false));
    sx->sub = sub;
    return sx;
}

/* EXISTS (SELECT ... FROM sub WHERE condition) */
static struct sx *exists_where(struct az *az, struct rel *sub, struct sx *condition)
{
    ASSERT(condition->type.kind == TYPE_BOOL);
    return exists(az, rel_filter1(az->arena, sub, condition));
}

/*
 * The condition of x op (a row of the subquery), seen from inside the subquery: x is an outer
 * reference there, its columns one level further away.
 */
static err_t link_condition(struct az *az, const char *name, struct sx **left, uint32_t len,
                            const struct rel *sub, int location, struct sx **out)
{
    ASSERT(len >= 1 && len <= sub->cols_len);
    bool equal = strcmp(name, "=") == 0;
    if (len > 1 && !equal && strcmp(name, "<>") != 0) {
        return AZ_UNSUPPORTED(az, location, "row comparison %s with a subquery is not supported",
                              name);
    }
    *out = NULL;
    for (uint32_t i = 0; i < len; i++) {
        struct sx *x = sx_shift_levels(az->arena, left[i], 1);
        struct sx *one = NULL;
        TRY(az_operator(az, name, x, sx_col(az->arena, i, sub->types[i]), location, &one));
        if (one->type.kind != TYPE_BOOL) {
            return az_err(az, location, ERR_INVALID, "42809",
                          "op ANY/ALL (array) requires operator to yield boolean");
        }
        *out = *out == NULL ? one
               : equal      ? sx_and(az->arena, *out, one)
                            : sx_or(az->arena, *out, one);
    }
    return ERR_OK;
}

/*
 * When is `x = y` unknown for some row? When y is NULL there, or x is NULL and there is any row:
 * two conditions that do not compare, so that NOT IN needs no comparison of every pair.
 */
static struct sx *unknown_equal(struct az *az, struct sx *x, struct rel *sub)
{
    struct sx *some = sx_bool(az->arena, false);
    if (sub->types[0].nullable) {
        struct sx *y = sx_col(az->arena, 0, sub->types[0]);
        some = exists_where(az, sub, sx_is_null(az->arena, y));
    }
    if (x->type.nullable) {
        some = sx_or(az->arena, some, sx_and(az->arena, sx_is_null(az->arena, x), exists(az, sub)));
    }
    return some;
}

/*
 * ANY is true when the condition is true for some row, else unknown when it is unknown for one,
 * else false; ALL the other way round. CASE with EXISTS says just that; lowering recognises it
 * where only true matters.
 */
static struct sx *any_case(struct az *az, struct sx *decides, struct sx *unknown, bool all)
{
    ASSERT(decides->type.kind == TYPE_BOOL && unknown->type.kind == TYPE_BOOL);
    struct sx *decided = sx_bool(az->arena, !all), *otherwise = sx_bool(az->arena, all);
    if (unknown->kind == SX_LIT) {
        return all ? sx_not(az->arena, decides) : decides;
    }
    struct sx *sx = sx_new(az->arena, SX_CASE, type_bool(true));
    sx->args = ARENA_ARRAY(az->arena, struct sx *, 5);
    sx->args[0] = decides;
    sx->args[1] = decided;
    sx->args[2] = unknown;
    sx->args[3] = sx_null(az->arena, type_of(TYPE_BOOL));
    sx->args[4] = otherwise;
    sx->args_len = 5;
    return sx;
}

/* x op ANY|ALL (subquery), x possibly a row. */
static err_t quantified_link(struct az *az, struct scope *scope, const PgQuery__SubLink *link,
                             struct rel *sub, struct sx **out)
{
    ASSERT(link->testexpr != NULL);
    bool all = link->sub_link_type == PG_QUERY__SUB_LINK_TYPE__ALL_SUBLINK;
    const char *name = pg_name(link->oper_name, link->n_oper_name, NULL);
    name = name == NULL ? "=" : strcmp(name, "!=") == 0 ? "<>" : name;
    struct sx *left[EXPR_ARGS_MAX];
    uint32_t len = 1;
    if (link->testexpr->node_case == PG_QUERY__NODE__NODE_ROW_EXPR) {
        const PgQuery__RowExpr *row = link->testexpr->row_expr;
        len = (uint32_t)row->n_args;
        for (uint32_t i = 0; i < len && i < EXPR_ARGS_MAX; i++) {
            TRY(az_expr(az, scope, row->args[i], &left[i]));
        }
    } else {
        TRY(az_expr(az, scope, link->testexpr, &left[0]));
    }
    if (len != sub->cols_len || len > EXPR_ARGS_MAX) {
        return az_err(az, link->location, ERR_INVALID, "42601", "subquery has too %s columns",
                      sub->cols_len > len ? "many" : "few");
    }
    struct sx *c = NULL, *decides = NULL, *unknown = NULL;
    TRY(link_condition(az, name, left, len, sub, link->location, &c));
    decides = exists_where(az, sub, all ? sx_not(az->arena, c) : c);
    /* Equality has a cheaper way to say when it is unknown. */
    bool simple = len == 1 && strcmp(name, all ? "<>" : "=") == 0;
    if (simple) {
        unknown = unknown_equal(az, left[0], sub);
    } else if (c->type.nullable) {
        unknown = exists_where(az, sub, sx_is_null(az->arena, c));
    } else {
        unknown = sx_bool(az->arena, false);
    }
    *out = any_case(az, decides, unknown, all);
    (*out)->location = link->location;
    return ERR_OK;
}

/* Does the relation read anything but catalog tables? */
static bool reads_collections(const struct rel *rel)
{
    bool any = rel->kind == REL_GET;
    for (uint32_t i = 0; i < rel->inputs_len && !any; i++) {
        any = reads_collections(rel->inputs[i]);
    }
    return any;
}

/*
 * The condition, which raises 0A000 when it is true. A boolean that raises 0A000 when the condition
 * is true and else is true.
 */
err_t az_refuse_if(struct az *az, struct sx *condition, const char *what, struct sx **out)
{
    struct sx *args[3] = {condition, sx_text(az->arena, "0A000"), sx_text(az->arena, what)};
    return az_function(az, "raise_if", args, 3, -1, out);
}

/*
 * The engine has no arrays. Over catalog tables, where psql asks, ARRAY(subquery) is '{}' as long
 * as the subquery is empty, and an error for a row for which it is not.
 */
static err_t array_link(struct az *az, struct rel *sub, int location, struct sx **out)
{
    ASSERT(sub->cols_len == 1);
    static const char what[] = "ARRAY(subquery) is not supported";
    struct sx *empty = sx_text(az->arena, "{}");
    empty->type.oid = type_array_of(sub->types[0].oid);
    if (empty->type.oid == 0) {
        empty->type.oid = 1009;
    }
    *out = empty;
    if (az_is_dead(sub)) {
        return ERR_OK;
    }
    if (reads_collections(sub)) {
        return AZ_UNSUPPORTED(az, location, what);
    }
    struct sx *refused = NULL;
    TRY(az_refuse_if(az, exists(az, sub), what, &refused));
    *out = sx_if(az->arena, refused, empty, sx_null(az->arena, empty->type));
    return ERR_OK;
}

/* A subquery in an expression; `dead` (select.c) must be balanced over its analysis. */
err_t az_sublink(struct az *az, struct scope *scope, const PgQuery__SubLink *link, struct sx **out)
{
    ASSERT(link->subselect != NULL);
    struct query query;
    uint32_t dead = az->dead;
    TRY(az_query(az, link->subselect, scope, 0, &query));
    ASSERT(az->dead == dead);
    TRY(az_query_finish(az, &query, NULL));
    struct rel *sub = az_query_rel(az, &query);
    switch (link->sub_link_type) {
    case PG_QUERY__SUB_LINK_TYPE__EXISTS_SUBLINK:
        *out = exists(az, sub);
        (*out)->location = link->location;
        return ERR_OK;
    case PG_QUERY__SUB_LINK_TYPE__ANY_SUBLINK:
    case PG_QUERY__SUB_LINK_TYPE__ALL_SUBLINK:
        return quantified_link(az, scope, link, sub, out);
    case PG_QUERY__SUB_LINK_TYPE__EXPR_SUBLINK:
    case PG_QUERY__SUB_LINK_TYPE__ARRAY_SUBLINK:
        if (sub->cols_len != 1) {
            return az_err(az, link->location, ERR_INVALID, "42601",
                          "subquery must return only one column");
        }
        if (link->sub_link_type == PG_QUERY__SUB_LINK_TYPE__ARRAY_SUBLINK) {
            return array_link(az, sub, link->location, out);
        }
        *out = sx_new(az->arena, SX_SCALAR, sub->types[0]);
        (*out)->type.nullable = true;
        (*out)->sub = sub;
        (*out)->location = link->location;
        return ERR_OK;
    default:
        return AZ_UNSUPPORTED(az, link->location, "this form of subquery is not supported");
    }
}
