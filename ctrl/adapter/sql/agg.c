/*
 * Analysis of aggregate calls: which aggregate, its arguments, DISTINCT, ORDER BY and FILTER. What
 * comes out is an SX_AGG, whose args are, in this order: the arguments (none for count(*)), the
 * expressions of ORDER BY, FILTER's condition; grouping (group.c) makes columns of them.
 *
 *   string_agg(DISTINCT b, ',' ORDER BY b DESC) FILTER (WHERE a > 1)
 *
 *   args b, ',', b, a > 1     order {desc}     distinct, has_filter
 *
 * ORDER BY counts only where the order of values can be seen, elsewhere it is checked and dropped.
 * With DISTINCT the arguments that it does not name follow it: the engine tells values apart by
 * what they are ordered by, as PostgreSQL does.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* ---- names ----------------------------------------------------------------------------------- */

/* Aggregates PostgreSQL has and the engine has not: refused by name, or they would be 42883. */
static bool known_elsewhere(const char *name)
{
    ASSERT(name != NULL);
    static const char *const names[] = {
        "json_agg",  "json_object_agg", "xmlagg",         "corr",           "covar_pop",
        "covar_samp", "mode",           "regr_avgx",      "regr_avgy",      "regr_count",
        "regr_intercept", "regr_r2",    "regr_slope",     "regr_sxx",       "regr_sxy",
        "regr_syy",  "percentile_cont", "percentile_disc", "range_agg",
        "range_intersect_agg"};
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

/* 42883 for the arguments as they are. */
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

/* ---- arguments ------------------------------------------------------------------------------- */

/*
 * A call under analysis. given: the arguments as written, which DISTINCT and ORDER BY are about;
 * args: what the engine gets, converted.
 */
struct agg_call {
    struct az *az;
    struct scope *scope;
    const PgQuery__FuncCall *call;
    const char *name;
    struct sx *given[2];
    struct sx *args[2];
    uint32_t len;
    struct sxvec order;
    struct plan_order flags[EXPR_ARGS_MAX]; /* of order's items; col unused */
};

/* string_agg takes two texts or two bytea, nothing that would need a cast. */
static err_t string_args(struct agg_call *c)
{
    ASSERT(c->len == 2);
    struct type text = type_of(TYPE_TEXT), bytea = type_of(TYPE_BYTEA);
    bool bytes = c->given[0]->type.kind == TYPE_BYTEA || c->given[1]->type.kind == TYPE_BYTEA;
    struct type to = bytes ? bytea : text;
    for (uint32_t i = 0; i < 2; i++) {
        if (!az_can_coerce(c->given[i], to, CAST_IMPLICIT)) {
            return az_no_function(c->az, c->name, c->given, 2, c->call->location);
        }
        TRY(az_coerce(c->az, c->given[i], to, CAST_IMPLICIT, &c->args[i]));
        c->given[i] = c->args[i];
    }
    return ERR_OK;
}

/* Values become jsonb; names text first, as PostgreSQL writes them. */
static err_t json_args(struct agg_call *c)
{
    for (uint32_t i = 0; i < c->len; i++) {
        TRY(az_settle(c->az, c->given[i], &c->given[i]));
        c->args[i] = c->given[i];
        if (type_element_of(c->given[i]->type.oid) != 0) {
            return AZ_UNSUPPORTED(c->az, c->call->location, "%s of arrays is not supported",
                                  c->name);
        }
        if (i == 0 && c->len == 2) {
            struct type text = type_of(TYPE_TEXT);
            TRY(az_coerce(c->az, c->args[i], text, CAST_EXPLICIT, &c->args[i]));
        }
        TRY(az_function(c->az, "to_jsonb", &c->args[i], 1, c->call->location, &c->args[i]));
    }
    return ERR_OK;
}

/* The array's type is known here only: to the engine it is text. */
static err_t array_args(struct agg_call *c, struct type *type)
{
    if (type_is_unknown(c->given[0])) { /* an array's aggregate, or its elements'? */
        err_t err = az_err(c->az, c->call->location, ERR_INVALID, "42725",
                           "function array_agg(unknown) is not unique");
        return err_hint(err, "Could not choose a best candidate function. You might need to add "
                             "explicit type casts.");
    }
    c->args[0] = c->given[0];
    uint32_t oid = type_array_of(c->given[0]->type.oid);
    if (oid == 0) {
        return AZ_UNSUPPORTED(c->az, c->call->location, "arrays of type %s are not supported",
                              az_type_name(c->az, &c->given[0]->type));
    }
    *type = type_of(TYPE_TEXT);
    type->oid = oid;
    return ERR_OK;
}

static bool is_exact(uint8_t kind)
{
    return kind == TYPE_INT2 || kind == TYPE_INT4 || kind == TYPE_INT8 || kind == TYPE_NUMERIC;
}

/* Of exact numbers as they are: variance_call makes other aggregates of them. */
static err_t variance_args(struct agg_call *c)
{
    struct type float8 = type_of(TYPE_FLOAT8);
    ASSERT(c->len == 1);
    c->args[0] = c->given[0];
    if (is_exact(c->given[0]->type.kind)) {
        return ERR_OK;
    }
    if (!az_can_coerce(c->given[0], float8, CAST_IMPLICIT)) {
        return az_no_function(c->az, c->name, c->given, 1, c->call->location);
    }
    TRY(az_coerce(c->az, c->given[0], float8, CAST_IMPLICIT, &c->args[0]));
    c->given[0] = type_is_unknown(c->given[0]) ? c->args[0] : c->given[0];
    return ERR_OK;
}

static err_t convert_args(struct agg_call *c, enum agg_func func, struct type *type)
{
    ASSERT(c->len == (agg_takes_two(func) ? 2 : 1));
    switch (func) {
    case AGG_STRING_AGG:
        TRY(string_args(c));
        break;
    case AGG_JSONB_AGG:
    case AGG_JSONB_OBJECT_AGG:
        TRY(json_args(c));
        break;
    case AGG_ARRAY_AGG:
        return array_args(c, type);
    case AGG_VAR_POP:
    case AGG_VAR_SAMP:
    case AGG_STDDEV_POP:
    case AGG_STDDEV_SAMP:
        *type = type_of(TYPE_FLOAT8);
        type->nullable = true;
        return variance_args(c);
    default:
        TRY(az_settle(c->az, c->given[0], &c->given[0]));
        c->args[0] = c->given[0];
        break;
    }
    return az_aggregate(c->az, func, c->args[0], c->call->location, type);
}

/* ---- ORDER BY and DISTINCT ------------------------------------------------------------------- */

/* PostgreSQL's default is NULLS LAST when ascending, FIRST when descending. */
err_t az_sort_flags(struct az *az, const PgQuery__SortBy *by, struct plan_order *out)
{
    if (by->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_USING) {
        return AZ_UNSUPPORTED(az, by->location, "ORDER BY ... USING is not supported");
    }
    out->desc = by->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_DESC;
    out->nulls_first =
        by->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_FIRST ||
        (by->sortby_nulls != PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_LAST && out->desc);
    return ERR_OK;
}

/* Arrays are text in the engine, which is not their order. */
err_t az_check_sortable(struct az *az, const struct sx *sx)
{
    if (type_element_of(sx->type.oid) != 0) {
        return AZ_UNSUPPORTED(az, sx_location(sx), "ordering by arrays is not supported");
    }
    return ERR_OK;
}

err_t az_check_kept_order(struct az *az, const struct type *type, int location)
{
    if (type->kind == TYPE_JSONB) {
        return AZ_UNSUPPORTED(az, location,
                              "ordering by jsonb is supported for all rows of an answer only");
    }
    return ERR_OK;
}

static bool among(struct sx *const *items, uint32_t len, const struct sx *sx)
{
    bool found = false;
    for (uint32_t i = 0; i < len && !found; i++) {
        found = sx_same(items[i], sx);
    }
    return found;
}

static err_t order_args(struct agg_call *c)
{
    const PgQuery__FuncCall *call = c->call;
    if (call->n_agg_order > EXPR_ARGS_MAX - 2) {
        return az_err(c->az, call->location, ERR_INVALID, "54023",
                      "cannot pass more than %d arguments to a function", EXPR_ARGS_MAX);
    }
    for (size_t i = 0; i < call->n_agg_order; i++) {
        const PgQuery__SortBy *by = call->agg_order[i]->sort_by;
        struct sx *sx = NULL;
        TRY(az_sort_flags(c->az, by, &c->flags[c->order.len]));
        TRY(az_expr(c->az, c->scope, by->node, &sx));
        TRY(az_settle(c->az, sx, &sx));
        TRY(az_check_sortable(c->az, sx));
        TRY(az_check_kept_order(c->az, &sx->type, sx_location(sx)));
        if (call->agg_distinct && !among(c->given, c->len, sx)) {
            return az_err(c->az, sx_location(sx), ERR_INVALID, "42P10",
                          "in an aggregate with DISTINCT, ORDER BY expressions must appear in "
                          "argument list");
        }
        sxvec_push(c->az->arena, &c->order, sx);
    }
    for (uint32_t i = 0; i < c->len && call->agg_distinct; i++) {
        if (!among(c->order.items, c->order.len, c->given[i])) {
            c->flags[c->order.len] = (struct plan_order){0};
            sxvec_push(c->az->arena, &c->order, c->given[i]);
        }
    }
    return ERR_OK;
}

/* The arguments, ORDER BY and FILTER's condition: evaluated per input row. */
static err_t agg_args(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                      const char *name, struct sx *sx)
{
    ASSERT(sx->kind == SX_AGG);
    struct agg_call c = {.az = az, .scope = scope, .call = call, .name = name};
    struct sxvec args = {0};
    if (call->agg_star) {
        sx->agg.func = AGG_COUNT_ALL;
        sx->type = type_of(TYPE_INT8);
        sx->type.nullable = false;
    } else {
        c.len = agg_takes_two((enum agg_func)sx->agg.func) ? 2 : 1;
        if (call->n_args != c.len) {
            return wrong_arity(az, scope, call, name);
        }
        for (uint32_t i = 0; i < c.len; i++) {
            TRY(az_expr(az, scope, call->args[i], &c.given[i]));
        }
        TRY(convert_args(&c, (enum agg_func)sx->agg.func, &sx->type));
    }
    for (uint32_t i = 0; i < c.len; i++) {
        sxvec_push(az->arena, &args, c.args[i]);
    }
    TRY(order_args(&c));
    if (agg_is_ordered((enum agg_func)sx->agg.func)) {
        sx->agg.order = arena_memdup(az->arena, c.flags, c.order.len * sizeof(c.flags[0]));
        sx->agg.order_len = c.order.len;
        for (uint32_t i = 0; i < c.order.len; i++) {
            sxvec_push(az->arena, &args, c.order.items[i]);
        }
    }
    if (call->agg_filter != NULL) {
        struct sx *filter = NULL;
        scope->no_aggs = "FILTER"; /* nor with OVER; aggregate_call puts it back */
        scope->in_window = false;
        TRY(az_expr(az, scope, call->agg_filter, &filter));
        TRY(az_to_bool(az, filter, "FILTER", &filter));
        sxvec_push(az->arena, &args, filter);
        sx->agg.has_filter = true;
    }
    sx->args = args.items;
    sx->args_len = args.len;
    return ERR_OK;
}

/*
 * The arguments are analysed with aggregates forbidden: they do not nest. An aggregate whose
 * argument has outer columns only belongs to the outer query by the standard; that is refused
 * rather than answered wrongly.
 */
static err_t aggregate_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                            const char *name, enum agg_func func, struct sx **out)
{
    ASSERT(func != AGG_COUNT_ALL);
    bool window = call->over != NULL;
    TRY(window ? az_window_agg_place(az, scope, call)
               : check_agg_place(az, scope, call->location));
    if (call->agg_star && func != AGG_COUNT) {
        return az_err(az, call->location, ERR_INVALID, "42883", "function %s() does not exist",
                      name);
    }
    struct sx *sx = sx_new(az->arena, SX_AGG, type_of(TYPE_INT8));
    sx->location = call->location;
    sx->agg.func = (uint8_t)func;
    sx->agg.distinct = call->agg_distinct != 0;
    bool within = scope->in_window; /* of a window call's arguments, whose others follow */
    scope->no_aggs = window ? NULL : "aggregate";
    scope->in_window = window;
    err_t err = agg_args(az, scope, call, name, sx);
    scope->no_aggs = NULL;
    scope->in_window = within;
    TRY(err);
    if (window) {
        return az_window_agg(az, scope, call, sx, out);
    }
    /* These are the same with DISTINCT. */
    if (func == AGG_MIN || func == AGG_MAX || func == AGG_BOOL_AND || func == AGG_BOOL_OR ||
        func == AGG_BIT_AND || func == AGG_BIT_OR) {
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
 * and the division has the digits PostgreSQL's numeric_stddev_internal gives it. A NaN or an
 * infinity among the values shows in the squares, and the answer is NaN, which has no scale.
 */
#define VARIANCE(least, divisor)                                                                   \
    "CASE WHEN $1 > " least " THEN CASE WHEN $3 >= 'Infinity'::numeric THEN 'NaN'::numeric "       \
    "WHEN $1 * $3 > $2 * $2 THEN ($1 * $3 - $2 * $2) / (" divisor ") ELSE 0 END END"
#define DEVIATION "round(sqrt($1), coalesce(scale($1), 0))"

static const struct {
    const char *name, *body;
    bool root; /* a deviation: the root of the variance, with as many digits */
    enum agg_func of_floats;
} variances[] = {
    {"variance", VARIANCE("1", "$1 * ($1 - 1)"), false, AGG_VAR_SAMP},
    {"var_samp", VARIANCE("1", "$1 * ($1 - 1)"), false, AGG_VAR_SAMP},
    {"var_pop", VARIANCE("0", "$1 * $1"), false, AGG_VAR_POP},
    {"stddev", VARIANCE("1", "$1 * ($1 - 1)"), true, AGG_STDDEV_SAMP},
    {"stddev_samp", VARIANCE("1", "$1 * ($1 - 1)"), true, AGG_STDDEV_SAMP},
    {"stddev_pop", VARIANCE("0", "$1 * $1"), true, AGG_STDDEV_POP},
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
                                  struct type type, struct sx *arg)
{
    ASSERT((agg->kind == SX_AGG || agg->kind == SX_WINDOW) && agg->args_len >= 1);
    struct sx *copy = arena_memdup(az->arena, agg, sizeof(*agg));
    copy->agg.func = agg->kind == SX_AGG ? (uint8_t)func : 0;
    copy->args = arena_memdup(az->arena, agg->args, agg->args_len * sizeof(agg->args[0]));
    copy->args[0] = arg;
    copy->type = type;
    copy->type.nullable = func != AGG_COUNT;
    copy->size = 0;
    if (agg->kind == SX_WINDOW) {
        copy->window = arena_memdup(az->arena, agg->window, sizeof(*agg->window));
        copy->window->call.agg.func = (uint8_t)func;
        copy->window->call.agg.type = copy->window->call.type = copy->type;
    }
    return copy;
}

/*
 * arg: numeric. With DISTINCT x and -x are two values of one square, so the two signs are added up
 * apart.
 */
static err_t sum_of_squares(struct az *az, const struct sx *agg, struct sx *arg, int location,
                            struct sx **out)
{
    ASSERT(arg->type.kind == TYPE_NUMERIC);
    struct type numeric = type_of(TYPE_NUMERIC);
    struct sx *square = NULL, *sums[2];
    if (!agg->agg.distinct) {
        TRY(az_operator(az, "*", arg, arg, location, &square));
        *out = other_aggregate(az, agg, AGG_SUM, numeric, square);
        return ERR_OK;
    }
    static const char *const squares[2] = {"CASE WHEN $1 >= 0 THEN $1 * $1 END",
                                           "CASE WHEN $1 < 0 THEN $1 * $1 END"};
    for (int i = 0; i < 2; i++) {
        TRY(az_macro(az, squares[i], &arg, 1, &square));
        sums[i] = other_aggregate(az, agg, AGG_SUM, numeric, square);
    }
    return az_macro(az, "coalesce($1, 0) + coalesce($2, 0)", sums, 2, out);
}

/*
 * Floats have aggregates of their own: squares have to be summed with more digits than they have.
 * Theirs is analysed in any case, once; of exact numbers the count and the sums take its argument,
 * FILTER and place. For no rows the count is 0 and the answer NULL, whatever the sums are.
 */
static err_t variance_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                           const char *name, struct sx **out)
{
    ASSERT(find_variance(name) < ARRAY_LEN(variances));
    struct sx *agg = NULL, *square = NULL;
    if (call->agg_star || call->n_args != 1) {
        return wrong_arity(az, scope, call, name);
    }
    size_t which = find_variance(name);
    ASSERT(which < ARRAY_LEN(variances));
    TRY(aggregate_call(az, scope, call, name, variances[which].of_floats, &agg));
    struct sx *arg = agg->args[0];
    if (!is_exact(arg->type.kind)) {
        ASSERT(arg->type.kind == TYPE_FLOAT8);
        *out = agg;
        return ERR_OK;
    }
    struct type numeric = type_of(TYPE_NUMERIC);
    struct sx *count = other_aggregate(az, agg, AGG_COUNT, type_of(TYPE_INT8), arg);
    TRY(az_coerce(az, arg, numeric, CAST_IMPLICIT, &arg));
    TRY(sum_of_squares(az, agg, arg, call->location, &square));
    struct sx *args[3] = {count, other_aggregate(az, agg, AGG_SUM, numeric, arg), square};
    TRY(az_coerce(az, args[0], numeric, CAST_IMPLICIT, &args[0]));
    TRY(az_macro(az, variances[which].body, args, 3, out));
    return variances[which].root ? az_macro(az, DEVIATION, out, 1, out) : ERR_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* *out NULL: the name is not that of an aggregate. */
err_t az_agg_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                  const char *name, struct sx **out)
{
    enum agg_func func;
    ASSERT(name != NULL);
    if (agg_of_name(name, &func)) {
        return aggregate_call(az, scope, call, name, func, out);
    }
    if (find_variance(name) < ARRAY_LEN(variances)) {
        return variance_call(az, scope, call, name, out);
    }
    if (known_elsewhere(name)) {
        return AZ_UNSUPPORTED(az, call->location, "aggregate function %s is not supported", name);
    }
    return ERR_OK;
}
