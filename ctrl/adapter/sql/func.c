/*
 * Analysis of function calls, aggregates and subqueries in expressions.
 *
 * A call is, in this order: an aggregate, a value of the session or a catalog function (catfunc.c),
 * a function of core/data's catalogue (resolve.c), or 42883. Schemas other than pg_catalog have no
 * functions but the catalog's own.
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

/* ---- aggregates ------------------------------------------------------------------------------ */

/*
 * Aggregates PostgreSQL has and the engine has not. Aggregates PostgreSQL has and the engine has
 * not: refused by name, or they would be 42883.
 */
static bool known_elsewhere(const char *name)
{
    ASSERT(name != NULL);
    static const char *const names[] = {
        "string_agg",       "array_agg",  "json_agg",  "jsonb_agg",  "json_object_agg",
        "jsonb_object_agg", "corr",       "covar_pop", "covar_samp", "bit_and",
        "bit_or",           "bit_xor",    "mode",      "regr_slope", "percentile_cont",
        "percentile_disc",  "regr_count"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * WHERE, GROUP BY, VALUES and so on come before there are groups; scope->no_aggs names the place.
 */
static err_t check_agg_place(struct az *az, struct scope *scope, int location)
{
    if (scope->no_aggs == NULL) {
        return ERR_OK;
    }
    if (strcmp(scope->no_aggs, "aggregate") == 0) {
        return az_err(az, location, ERR_INVALID, "42803",
                      "aggregate function calls cannot be nested");
    }
    return az_err(az, location, ERR_INVALID, "42803", "aggregate functions are not allowed in %s",
                  scope->no_aggs);
}

static void outer_ref(void *arg, uint32_t level, uint32_t col, struct type type)
{
    uint32_t *seen = arg;
    seen[level == 0 ? 0 : 1]++;
    (void)col;
    (void)type;
}

/* References to the query's own input, and to outer ones. */
struct ref_count {
    uint32_t seen[2];
};

/* Replaces nothing: sx_map_outer is used for its walk. */
static struct sx *count_refs(void *arg, struct sx *col, uint32_t level)
{
    struct ref_count *c = arg;
    outer_ref(c->seen, level, col->col, col->type);
    return NULL;
}

/* Every aggregate the engine has takes one argument. */
static err_t wrong_arity(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                         const char *name)
{
    struct sx *args[EXPR_ARGS_MAX];
    uint32_t len = call->n_args < EXPR_ARGS_MAX ? (uint32_t)call->n_args : EXPR_ARGS_MAX;
    if (call->n_args == 0 && strcmp(name, "count") == 0 && !call->agg_star) {
        return az_err(az, call->location, ERR_INVALID, "42809",
                      "%s(*) must be used to call a parameterless aggregate function", name);
    }
    for (uint32_t i = 0; i < len; i++) {
        TRY(az_expr(az, scope, call->args[i], &args[i]));
    }
    return az_no_function(az, name, args, len, call->location);
}

/* The argument and FILTER's condition. Both are evaluated per input row. */
static err_t agg_args(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                      const char *name, struct sx *sx)
{
    ASSERT(sx->kind == SX_AGG);
    sx->args = ARENA_ARRAY(az->arena, struct sx *, 2);
    if (!call->agg_star) {
        if (call->n_args != 1) {
            return wrong_arity(az, scope, call, name);
        }
        TRY(az_expr(az, scope, call->args[0], &sx->args[0]));
        TRY(az_settle(az, sx->args[0], &sx->args[0]));
        TRY(az_aggregate(az, (enum agg_func)sx->agg.func, sx->args[0], call->location, &sx->type));
        sx->args_len = 1;
    } else {
        sx->agg.func = AGG_COUNT_ALL;
        sx->type = type_of(TYPE_INT8);
        sx->type.nullable = false;
    }
    if (call->agg_filter != NULL) {
        struct sx *filter = NULL;
        TRY(az_expr(az, scope, call->agg_filter, &filter));
        TRY(az_to_bool(az, filter, "FILTER", &sx->args[sx->args_len++]));
        sx->agg.has_filter = true;
        (void)filter;
    }
    return ERR_OK;
}

/* The argument is analysed with aggregates forbidden: they do not nest. An aggregate whose argument
 * has outer columns only belongs to the outer query by the standard; that is refused rather than
 * answered wrongly. */
static err_t aggregate_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                            const char *name, enum agg_func func, struct sx **out)
{
    ASSERT(func != AGG_COUNT_ALL);
    TRY(check_agg_place(az, scope, call->location));
    if (call->agg_star && func != AGG_COUNT) {
        return az_err(az, call->location, ERR_INVALID, "42883", "function %s() does not exist",
                      name);
    }
    struct sx *sx = sx_new(az->arena, SX_AGG, type_of(TYPE_INT8));
    sx->location = call->location;
    sx->agg.func = (uint8_t)func;
    sx->agg.distinct = call->agg_distinct != 0;
    scope->no_aggs = "aggregate";
    err_t err = agg_args(az, scope, call, name, sx);
    scope->no_aggs = NULL;
    TRY(err);
    /* min and max are the same with DISTINCT. */
    if (func == AGG_MIN || func == AGG_MAX || func == AGG_BOOL_AND || func == AGG_BOOL_OR) {
        sx->agg.distinct = false;
    }
    /* Whose aggregate is it? That of the query its columns belong to. */
    struct ref_count refs = {{0, 0}};
    for (uint32_t i = 0; i < sx->args_len; i++) {
        sx_map_outer(az->arena, sx->args[i], count_refs, &refs);
    }
    if (refs.seen[1] > 0 && refs.seen[0] == 0) {
        return AZ_UNSUPPORTED(az, call->location, "aggregates of an outer query are not supported");
    }
    scope->aggs_seen++;
    *out = sx;
    return ERR_OK;
}

/* ---- variance -------------------------------------------------------------------------------- */

/*
 * Written with what can be kept up to date by adding and subtracting: the number of values, their
 * sum and the sum of their squares. $1, $2, $3 are those, as numeric; exact, so nothing cancels,
 * and the division has the digits PostgreSQL's numeric_stddev_internal gives it.
 */
#define VARIANCE(least, divisor)                                                                   \
    "CASE WHEN $1 > " least " THEN CASE WHEN $1 * $3 > $2 * $2 THEN ($1 * $3 - $2 * $2) / "        \
    "(" divisor ") ELSE 0 END END"

static const struct {
    const char *name, *body;
    bool root; /* a deviation: the root of the variance, with as many digits */
} variances[] = {
    {"variance", VARIANCE("1", "$1 * ($1 - 1)"), false},
    {"var_samp", VARIANCE("1", "$1 * ($1 - 1)"), false},
    {"var_pop", VARIANCE("0", "$1 * $1"), false},
    {"stddev", VARIANCE("1", "$1 * ($1 - 1)"), true},
    {"stddev_samp", VARIANCE("1", "$1 * ($1 - 1)"), true},
    {"stddev_pop", VARIANCE("0", "$1 * $1"), true},
};

/* The index in variances; its length when the name is none of them. */
static size_t find_variance(const char *name)
{
    size_t i = 0;
    while (i < ARRAY_LEN(variances) && strcmp(variances[i].name, name) != 0) {
        i++;
    }
    return i;
}

/* The same rows, another aggregate over another argument. */
static struct sx *other_aggregate(struct az *az, const struct sx *agg, enum agg_func func,
                                  struct sx *arg)
{
    ASSERT(agg->kind == SX_AGG && agg->args_len >= 1);
    struct sx *copy = arena_memdup(az->arena, agg, sizeof(*agg));
    copy->agg.func = (uint8_t)func;
    copy->args = arena_memdup(az->arena, agg->args, agg->args_len * sizeof(agg->args[0]));
    copy->args[0] = arg;
    copy->type = type_of(TYPE_NUMERIC);
    copy->type.nullable = true;
    copy->size = 0;
    return copy;
}

/*
 * Exact kinds only: squares of floats would have to be summed with more digits than they have. The
 * count is analysed like any aggregate; the sums share its argument, FILTER and place. For no rows
 * the count is 0 and the answer NULL, whatever the sums are.
 */
static err_t variance_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                           const char *name, struct sx **out)
{
    ASSERT(find_variance(name) < ARRAY_LEN(variances));
    struct sx *count = NULL, *square = NULL;
    if (call->agg_star || call->n_args != 1) {
        return wrong_arity(az, scope, call, name);
    }
    TRY(aggregate_call(az, scope, call, name, AGG_COUNT, &count));
    struct sx *arg = count->args[0];
    uint8_t kind = arg->type.kind;
    bool exact =
        kind == TYPE_INT2 || kind == TYPE_INT4 || kind == TYPE_INT8 || kind == TYPE_NUMERIC;
    if (kind == TYPE_FLOAT4 || kind == TYPE_FLOAT8) {
        return err_hint(AZ_UNSUPPORTED(az, call->location, "%s of floats is not supported", name),
                        "Cast the argument to numeric: sums of squares of floats lose the "
                        "digits that differ.");
    }
    if (!exact) {
        return az_no_function(az, name, &arg, 1, call->location);
    }
    if (count->agg.distinct) {
        return err_hint(AZ_UNSUPPORTED(az, call->location, "%s(DISTINCT) is not supported", name),
                        "Use a subquery with SELECT DISTINCT.");
    }
    struct type numeric = type_of(TYPE_NUMERIC);
    TRY(az_coerce(az, arg, numeric, CAST_IMPLICIT, &arg));
    TRY(az_operator(az, "*", arg, arg, call->location, &square));
    struct sx *args[3] = {count, other_aggregate(az, count, AGG_SUM, arg),
                          other_aggregate(az, count, AGG_SUM, square)};
    TRY(az_coerce(az, args[0], numeric, CAST_IMPLICIT, &args[0]));
    size_t which = find_variance(name);
    ASSERT(which < ARRAY_LEN(variances));
    TRY(az_macro(az, variances[which].body, args, 3, out));
    return variances[which].root ? az_macro(az, "round(sqrt($1), scale($1))", out, 1, out) : ERR_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* What only aggregates may have: 42809, in PostgreSQL's words. */
static err_t check_plain_call(struct az *az, const PgQuery__FuncCall *call, const char *name)
{
    ASSERT(name != NULL);
    if (call->over != NULL) {
        return AZ_UNSUPPORTED(az, call->location, "window functions are not supported");
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

/* See the head for the order. */
err_t az_func_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                   struct sx **out)
{
    const char *schema = NULL;
    const char *name = pg_name(call->funcname, call->n_funcname, &schema);
    bool builtin = schema == NULL || strcmp(schema, "pg_catalog") == 0;
    enum agg_func func;
    if (call->over != NULL) {
        return err_hint(AZ_UNSUPPORTED(az, call->location, "window functions are not supported"),
                        "DISTINCT ON gives the first row of each group, a LATERAL subquery with "
                        "LIMIT the first ones, a join with a grouped subquery its totals.");
    }
    if (builtin && agg_of_name(name, &func)) {
        return aggregate_call(az, scope, call, name, func, out);
    }
    if (builtin && find_variance(name) < ARRAY_LEN(variances)) {
        return variance_call(az, scope, call, name, out);
    }
    if (builtin && known_elsewhere(name)) {
        return AZ_UNSUPPORTED(az, call->location, "aggregate function %s is not supported", name);
    }
    TRY(check_plain_call(az, call, name));
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
 * The condition of x op (a row of the subquery), seen from inside the subquery. The condition of x
 * op (a row of the subquery), seen from inside the subquery: x is an outer reference there, its
 * columns one level further away.
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
