/*
 * Window functions: calls with OVER, and the operators they become.
 *
 *   SELECT a + 1, sum(c) OVER (PARTITION BY a ORDER BY b) * 2 FROM t
 *
 *   WINDOW   over t: partition a, order b; functions {sum(c)}
 *   targets  #a + 1, #new * 2
 *
 * A call is analysed to an SX_WINDOW, whose args are, in this order: the function's arguments
 * (what lag and nth_value count with last, and only if it is no constant), the filter, PARTITION
 * BY, ORDER BY, the values that bound a RANGE frame. They are expressions over what grouping
 * leaves (group.c walks into them), and become columns; calls of the same partition and order
 * share an operator, others stand one above another.
 *
 * RANGE BETWEEN x PRECEDING AND ...: the bound is a column, the ordered value less x, computed for
 * each row; the engine only compares. Dates are ordered as timestamps then and bigints as numeric,
 * so that the difference is of the order's type and does not overflow.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* PostgreSQL's FRAMEOPTION_ bits, as its parser gives them. */
enum {
    FRAME_NONDEFAULT = 0x1,
    FRAME_RANGE = 0x2,
    FRAME_ROWS = 0x4,
    FRAME_GROUPS = 0x8,
    FRAME_START_UNBOUNDED = 0x20,
    FRAME_END_UNBOUNDED = 0x100,
    FRAME_START_PRECEDING = 0x800,
    FRAME_END_PRECEDING = 0x1000,
    FRAME_START_FOLLOWING = 0x2000,
    FRAME_END_FOLLOWING = 0x4000,
    FRAME_EXCLUDE_CURRENT = 0x8000,
    FRAME_EXCLUDE_GROUP = 0x10000,
    FRAME_EXCLUDE_TIES = 0x20000,
};

/* ---- windows --------------------------------------------------------------------------------- */

/* A window definition with what it takes over from a named one. */
struct window_def {
    pg_node **partition, **order;
    size_t partition_len, order_len;
    const PgQuery__WindowDef *frame;
};

static err_t find_window(struct az *az, const struct scope *scope, const char *name, int location,
                         const PgQuery__WindowDef **out)
{
    for (size_t i = 0; i < scope->windows_len; i++) {
        const PgQuery__WindowDef *def = scope->windows[i]->window_def;
        if (strcmp(def->name, name) == 0) {
            *out = def;
            return ERR_OK;
        }
    }
    return az_err(az, location, ERR_INVALID, "42704", "window \"%s\" does not exist", name);
}

/* OVER (w ...) and WINDOW v AS (w ...): w may say what v does not. Windows refer backwards only. */
static err_t resolve_def(struct az *az, const struct scope *scope, const PgQuery__WindowDef *def,
                         uint32_t depth, struct window_def *out)
{
    ASSERT(def != NULL && out != NULL);
    *out = (struct window_def){.partition = def->partition_clause,
                               .partition_len = def->n_partition_clause,
                               .order = def->order_clause,
                               .order_len = def->n_order_clause,
                               .frame = def};
    if (def->refname == NULL || def->refname[0] == '\0') {
        return ERR_OK;
    }
    const PgQuery__WindowDef *ref = NULL;
    struct window_def base;
    TRY(find_window(az, scope, def->refname, def->location, &ref));
    if (depth > scope->windows_len) {
        return az_err(az, def->location, ERR_INVALID, "42704", "window \"%s\" does not exist",
                      def->refname);
    }
    TRY(resolve_def(az, scope, ref, depth + 1, &base));
    if (out->partition_len > 0) {
        return az_err(az, def->location, ERR_INVALID, "42P20",
                      "cannot override PARTITION BY clause of window \"%s\"", def->refname);
    }
    if (out->order_len > 0 && base.order_len > 0) {
        return az_err(az, def->location, ERR_INVALID, "42P20",
                      "cannot override ORDER BY clause of window \"%s\"", def->refname);
    }
    if ((ref->frame_options & FRAME_NONDEFAULT) != 0) {
        return az_err(az, def->location, ERR_INVALID, "42P20",
                      "cannot copy window \"%s\" because it has a frame clause", def->refname);
    }
    out->partition = base.partition;
    out->partition_len = base.partition_len;
    if (out->order_len == 0) {
        out->order = base.order;
        out->order_len = base.order_len;
    }
    return ERR_OK;
}

/* OVER w is the window itself, frame and all. */
static err_t window_of(struct az *az, const struct scope *scope, const PgQuery__WindowDef *over,
                       struct window_def *out)
{
    if (over->name != NULL && over->name[0] != '\0') {
        TRY(find_window(az, scope, over->name, over->location, &over));
    }
    return resolve_def(az, scope, over, 0, out);
}

/* ---- frames ---------------------------------------------------------------------------------- */

/* A call under construction. */
struct window_call {
    struct az *az;
    struct scope *scope;
    struct window_def def;
    struct plan_window_call plan; /* columns unused: they are args by position */
    struct sxvec args, keys, order, bounds;
    struct plan_order *flags;
    struct type ordered; /* the first order column as it was written */
};

static err_t window_expr(struct window_call *c, const pg_node *node, struct sx **out)
{
    TRY(az_expr(c->az, c->scope, node, out));
    return az_settle(c->az, *out, out);
}

static err_t partition_and_order(struct window_call *c)
{
    c->flags = ARENA_ARRAY(c->az->arena, struct plan_order, c->def.order_len);
    for (size_t i = 0; i < c->def.partition_len; i++) {
        struct sx *sx = NULL;
        TRY(window_expr(c, c->def.partition[i], &sx));
        sxvec_push(c->az->arena, &c->keys, sx);
    }
    for (size_t i = 0; i < c->def.order_len; i++) {
        const PgQuery__SortBy *by = c->def.order[i]->sort_by;
        struct sx *sx = NULL;
        TRY(az_sort_flags(c->az, by, &c->flags[i]));
        TRY(window_expr(c, by->node, &sx));
        TRY(az_check_sortable(c->az, sx));
        TRY(az_check_kept_order(c->az, &sx->type, sx_location(sx)));
        sxvec_push(c->az->arena, &c->order, sx);
        c->ordered = c->order.items[0]->type;
    }
    return ERR_OK;
}

/* Folded; a parameter whose value is not known yet counts as 1. */
static err_t number(struct window_call *c, const pg_node *node, struct type type, struct sx **out)
{
    struct sx *sx = NULL;
    ASSERT(node != NULL);
    TRY(az_expr(c->az, c->scope, node, &sx));
    TRY(az_coerce(c->az, sx, type, CAST_IMPLICIT, &sx));
    sx = sx_fold(c->az->arena, sx);
    if (sx_is_param(sx) && c->az->describe) {
        sx = sx_lit(c->az->arena, type, (struct datum){.i = 1});
    }
    *out = sx;
    return ERR_OK;
}

/* A constant, or 0A000; *out NULL: it is NULL. */
static err_t constant(struct window_call *c, const pg_node *node, struct type type,
                      const char *what, const struct sx **out)
{
    struct sx *sx = NULL;
    ASSERT(what != NULL);
    TRY(number(c, node, type, &sx));
    if (sx->kind != SX_LIT) {
        return err_hint(AZ_UNSUPPORTED(c->az, pg_location(node), "%s must be a constant", what),
                        "It decides which rows a change concerns.");
    }
    *out = sx->lit.null ? NULL : sx;
    return ERR_OK;
}

static err_t count_bound(struct window_call *c, const pg_node *node, bool end, bool preceding,
                         struct plan_bound *bound)
{
    const char *side = end ? "ending" : "starting";
    ASSERT(c->plan.frame.mode != PLAN_FRAME_RANGE);
    const struct sx *sx = NULL;
    TRY(constant(c, node, type_of(TYPE_INT8), "the offset of a frame", &sx));
    if (sx == NULL) {
        return az_err(c->az, -1, ERR_INVALID, "22004", "frame %s offset must not be null", side);
    }
    if (sx->lit.i < 0) {
        return az_err(c->az, -1, ERR_INVALID, "22013", "frame %s offset must not be negative",
                      side);
    }
    bound->kind = PLAN_BOUND_OFFSET;
    bound->offset = preceding ? -sx->lit.i : sx->lit.i;
    return ERR_OK;
}

/* How the ordered value is kept, and what is added to it: see the head. False: no such frame. */
static bool range_types(uint8_t kind, struct type *key, struct type *offset)
{
    switch (kind) {
    case TYPE_INT2:
    case TYPE_INT4:
        *key = *offset = type_of(TYPE_INT8);
        return true;
    case TYPE_INT8:
    case TYPE_NUMERIC:
        *key = *offset = type_of(TYPE_NUMERIC);
        return true;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        *key = *offset = type_of(TYPE_FLOAT8);
        return true;
    case TYPE_DATE:
    case TYPE_TIMESTAMP:
        *key = type_of(TYPE_TIMESTAMP);
        *offset = type_of(TYPE_INTERVAL);
        return true;
    case TYPE_TIMESTAMPTZ:
    case TYPE_INTERVAL:
        *key = type_of((enum type_kind)kind);
        *offset = type_of(TYPE_INTERVAL);
        return true;
    default:
        return false;
    }
}

static bool is_negative(const struct sx *sx)
{
    struct datum zero = {0};
    if (sx->type.kind == TYPE_FLOAT8 && sx->lit.f != sx->lit.f) {
        return true; /* NaN, which PostgreSQL refuses as well */
    }
    return datum_compare((enum type_kind)sx->type.kind, &sx->lit, &zero) < 0;
}

/* The ordered value itself is replaced by one of the type the bound has. */
static err_t value_bound(struct window_call *c, const pg_node *node, bool preceding,
                         struct plan_bound *bound)
{
    struct az *az = c->az;
    struct type key, offset;
    const struct sx *by = NULL;
    ASSERT(c->plan.frame.mode == PLAN_FRAME_RANGE);
    if (c->order.len != 1) {
        return az_err(az, c->def.frame->location, ERR_INVALID, "42P20",
                      "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY "
                      "column");
    }
    if (!range_types(c->ordered.kind, &key, &offset)) {
        return AZ_UNSUPPORTED(az, pg_location(node),
                              "RANGE with offset PRECEDING/FOLLOWING is not supported for column "
                              "type %s",
                              az_type_name(az, &c->ordered));
    }
    TRY(constant(c, node, offset, "the offset of a frame", &by));
    if (by == NULL || is_negative(by)) {
        return az_err(az, -1, ERR_INVALID, "22013",
                      "invalid preceding or following size in window function");
    }
    TRY(az_coerce(az, c->order.items[0], key, CAST_EXPLICIT, &c->order.items[0]));
    struct sx *sx = NULL, *lit = sx_lit(az->arena, offset, by->lit);
    const char *op = preceding != c->flags[0].desc ? "-" : "+";
    TRY(az_operator(az, op, c->order.items[0], lit, pg_location(node), &sx));
    TRY(az_coerce(az, sx, key, CAST_EXPLICIT, &sx));
    sxvec_push(az->arena, &c->bounds, sx);
    bound->kind = PLAN_BOUND_VALUE;
    return ERR_OK;
}

static err_t frame_bound(struct window_call *c, bool end, struct plan_bound *bound)
{
    const PgQuery__WindowDef *def = c->def.frame;
    int32_t options = def->frame_options;
    const pg_node *node = end ? def->end_offset : def->start_offset;
    bool preceding = (options & (end ? FRAME_END_PRECEDING : FRAME_START_PRECEDING)) != 0;
    bool following = (options & (end ? FRAME_END_FOLLOWING : FRAME_START_FOLLOWING)) != 0;
    if ((options & (end ? FRAME_END_UNBOUNDED : FRAME_START_UNBOUNDED)) != 0) {
        bound->kind = PLAN_BOUND_UNBOUNDED;
        return ERR_OK;
    }
    if (!preceding && !following) {
        bound->kind = PLAN_BOUND_CURRENT;
        return ERR_OK;
    }
    return c->plan.frame.mode == PLAN_FRAME_RANGE ? value_bound(c, node, preceding, bound)
                                                  : count_bound(c, node, end, preceding, bound);
}

static err_t frame(struct window_call *c)
{
    int32_t options = c->def.frame->frame_options;
    struct plan_frame *f = &c->plan.frame;
    f->mode = (options & FRAME_ROWS) != 0     ? PLAN_FRAME_ROWS
              : (options & FRAME_GROUPS) != 0 ? PLAN_FRAME_GROUPS
                                              : PLAN_FRAME_RANGE;
    f->exclude = (options & FRAME_EXCLUDE_CURRENT) != 0 ? PLAN_EXCLUDE_CURRENT
                 : (options & FRAME_EXCLUDE_GROUP) != 0 ? PLAN_EXCLUDE_GROUP
                 : (options & FRAME_EXCLUDE_TIES) != 0  ? PLAN_EXCLUDE_TIES
                                                        : PLAN_EXCLUDE_NONE;
    if (f->mode == PLAN_FRAME_GROUPS && c->order.len == 0) {
        return az_err(c->az, c->def.frame->location, ERR_INVALID, "42P20",
                      "GROUPS mode requires an ORDER BY clause");
    }
    TRY(frame_bound(c, false, &f->start));
    return frame_bound(c, true, &f->end);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static err_t check_place(struct az *az, const struct scope *scope, int location)
{
    if (scope->in_window) {
        return az_err(az, location, ERR_INVALID, "42P20",
                      "window function calls cannot be nested");
    }
    if (scope->no_aggs != NULL && strcmp(scope->no_aggs, "aggregate") == 0) {
        return az_err(az, location, ERR_INVALID, "42803",
                      "aggregate function calls cannot contain window function calls");
    }
    const char *where = scope->no_aggs != NULL ? scope->no_aggs : scope->no_windows;
    if (where != NULL) {
        return az_err(az, location, ERR_INVALID, "42P20", "window functions are not allowed in %s",
                      where);
    }
    if (!scope->has_windows) {
        return AZ_UNSUPPORTED(az, location, "window functions are not supported here");
    }
    return ERR_OK;
}

/* The window and frame of a call whose arguments are there; the call. */
static err_t finish_call(struct window_call *c, int location, struct sx **out)
{
    struct arena *arena = c->az->arena;
    ASSERT(c->plan.func >= PLAN_WINDOW_ROW_NUMBER && c->plan.func <= PLAN_WINDOW_AGG);
    const char *before = c->scope->no_windows;
    c->scope->no_windows = "window definitions";
    err_t err = partition_and_order(c);
    if (err == ERR_OK && plan_window_has_frame(c->plan.func)) {
        err = frame(c);
    }
    c->scope->no_windows = before;
    TRY(err);
    struct sx *sx = sx_new(arena, SX_WINDOW, c->plan.type);
    struct sxvec all = c->args;
    const struct sxvec *lists[] = {&c->keys, &c->order, &c->bounds};
    for (size_t k = 0; k < ARRAY_LEN(lists); k++) {
        for (uint32_t i = 0; i < lists[k]->len; i++) {
            sxvec_push(arena, &all, lists[k]->items[i]);
        }
    }
    sx->location = location;
    sx->args = all.items;
    sx->args_len = all.len;
    sx->window = ARENA_NEW(arena, struct sx_window);
    *sx->window = (struct sx_window){.call = c->plan,
                                     .keys_len = c->keys.len,
                                     .order_len = c->order.len,
                                     .order = c->flags};
    *out = sx;
    return ERR_OK;
}

static err_t start_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                        struct window_call *c)
{
    *c = (struct window_call){.az = az, .scope = scope};
    return window_of(az, scope, call->over, &c->def);
}

err_t az_window_agg_place(struct az *az, const struct scope *scope, const PgQuery__FuncCall *call)
{
    TRY(check_place(az, scope, call->location));
    if (call->agg_distinct) {
        return AZ_UNSUPPORTED(az, call->location,
                              "DISTINCT is not "
                              "implemented for window functions");
    }
    if (call->n_agg_order > 0) {
        return AZ_UNSUPPORTED(az, call->location,
                              "aggregate ORDER BY is not "
                              "implemented for window functions");
    }
    return ERR_OK;
}

/* An aggregate with OVER: agg is what it would be without. */
err_t az_window_agg(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                    struct sx *agg, struct sx **out)
{
    ASSERT(agg->kind == SX_AGG && call->over != NULL);
    struct window_call c;
    TRY(start_call(az, scope, call, &c));
    if (agg_is_ordered((enum agg_func)agg->agg.func)) {
        return err_hint(AZ_UNSUPPORTED(az, call->location,
                                       "this aggregate is not supported as a window function"),
                        "A LATERAL subquery with the aggregate gives the same.");
    }
    c.plan.func = PLAN_WINDOW_AGG;
    c.plan.type = agg->type;
    c.plan.agg = (struct plan_agg){
        .func = agg->agg.func, .has_filter = agg->agg.has_filter, .type = agg->type};
    for (uint32_t i = 0; i < agg->args_len; i++) {
        sxvec_push(az->arena, &c.args, agg->args[i]);
    }
    return finish_call(&c, call->location, out);
}

static const struct {
    const char *name;
    uint8_t func;
    uint8_t args_least, args_most;
} functions[] = {
    {"row_number", PLAN_WINDOW_ROW_NUMBER, 0, 0},
    {"rank", PLAN_WINDOW_RANK, 0, 0},
    {"dense_rank", PLAN_WINDOW_DENSE_RANK, 0, 0},
    {"percent_rank", PLAN_WINDOW_PERCENT_RANK, 0, 0},
    {"cume_dist", PLAN_WINDOW_CUME_DIST, 0, 0},
    {"ntile", PLAN_WINDOW_NTILE, 1, 1},
    {"lag", PLAN_WINDOW_LAG, 1, 3},
    {"lead", PLAN_WINDOW_LAG, 1, 3},
    {"first_value", PLAN_WINDOW_FIRST_VALUE, 1, 1},
    {"last_value", PLAN_WINDOW_LAST_VALUE, 1, 1},
    {"nth_value", PLAN_WINDOW_NTH_VALUE, 2, 2},
};

static err_t wrong_arguments(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                             const char *name)
{
    struct sx *args[EXPR_ARGS_MAX];
    uint32_t len = call->n_args < EXPR_ARGS_MAX ? (uint32_t)call->n_args : EXPR_ARGS_MAX;
    for (uint32_t i = 0; i < len; i++) {
        TRY(az_expr(az, scope, call->args[i], &args[i]));
    }
    return az_no_function(az, name, args, len, call->location);
}

/* The number a function counts with; *null: it is NULL, and so is the answer. */
static err_t count_arg(struct window_call *c, const PgQuery__FuncCall *call, const char *name,
                       uint32_t arg, bool *null)
{
    struct sx *sx = NULL;
    const struct sx *lit = NULL;
    bool lag = c->plan.func == PLAN_WINDOW_LAG, ntile = c->plan.func == PLAN_WINDOW_NTILE;
    ASSERT(arg < call->n_args);
    err_t err = ntile ? constant(c, call->args[arg], type_of(TYPE_INT4), "this argument", &lit)
                      : number(c, call->args[arg], type_of(TYPE_INT4), &sx);
    if (err != ERR_OK && strcmp(err_sqlstate(err), "42846") == 0) { /* not of that type */
        err_free(err);
        return wrong_arguments(c->az, c->scope, call, name);
    }
    TRY(err);
    if (!ntile) {
        c->plan.n_of_row = sx->kind != SX_LIT;
        lit = sx->kind != SX_LIT || sx->lit.null ? NULL : sx;
    }
    *null = lit == NULL && !c->plan.n_of_row;
    c->plan.n = lit == NULL ? 1 : lit->lit.i;
    if (c->plan.n_of_row) {
        TRY(az_coerce(c->az, sx, type_of(TYPE_INT8), CAST_IMPLICIT, &sx));
        sxvec_push(c->az->arena, &c->args, sx);
    }
    if (!lag && c->plan.n <= 0) {
        return az_err(c->az, -1, ERR_INVALID,
                      ntile ? "22014" : "22016",
                      "argument of %s must be greater than zero", name);
    }
    if (lag && strcmp(name, "lead") == 0) {
        c->plan.n = -c->plan.n;
    }
    return ERR_OK;
}

/* lag's default is evaluated for the row that has no row so far away. */
static err_t value_args(struct window_call *c, const PgQuery__FuncCall *call)
{
    struct sx *both[2] = {NULL, NULL};
    ASSERT(call->n_args >= 1 && call->n_args <= 3);
    uint32_t len = call->n_args == 3 ? 2 : 1;
    for (uint32_t i = 0; i < len; i++) {
        TRY(az_expr(c->az, c->scope, call->args[i * 2], &both[i]));
    }
    struct type type;
    if (len == 2) {
        TRY(az_common_type(c->az, both, 2, "lag", &type));
        TRY(az_coerce(c->az, both[0], type, CAST_IMPLICIT, &both[0]));
        TRY(az_coerce(c->az, both[1], type, CAST_IMPLICIT, &both[1]));
    } else {
        TRY(az_settle(c->az, both[0], &both[0]));
        type = both[0]->type;
    }
    c->plan.type = type;
    c->plan.type.nullable = true;
    c->plan.has_fallback = len == 2;
    for (uint32_t i = 0; i < len; i++) {
        sxvec_push(c->az->arena, &c->args, both[i]);
    }
    return ERR_OK;
}

static err_t function_args(struct window_call *c, const PgQuery__FuncCall *call, const char *name,
                           bool *null)
{
    uint8_t func = c->plan.func;
    bool counts = func == PLAN_WINDOW_NTILE || call->n_args >= 2;
    enum type_kind kind = func == PLAN_WINDOW_NTILE                                ? TYPE_INT4
                          : func == PLAN_WINDOW_PERCENT_RANK || func == PLAN_WINDOW_CUME_DIST
                              ? TYPE_FLOAT8
                              : TYPE_INT8;
    c->plan.type = type_of(kind);
    c->plan.type.nullable = func == PLAN_WINDOW_NTILE;
    c->plan.n = func != PLAN_WINDOW_LAG ? 0 : strcmp(name, "lead") == 0 ? -1 : 1;
    *null = false;
    if (plan_window_has_arg(func)) {
        TRY(value_args(c, call));
    }
    return counts ? count_arg(c, call, name, func == PLAN_WINDOW_NTILE ? 0 : 1, null) : ERR_OK;
}

static err_t function_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                           const char *name, uint8_t func, struct sx **out)
{
    struct window_call c;
    bool null = false;
    TRY(check_place(az, scope, call->location));
    TRY(start_call(az, scope, call, &c));
    if (call->agg_filter != NULL) {
        return AZ_UNSUPPORTED(az, call->location,
                              "FILTER is not "
                              "implemented for non-aggregate window functions");
    }
    c.plan.func = func;
    scope->in_window = true;
    err_t err = function_args(&c, call, name, &null);
    scope->in_window = false;
    TRY(err);
    TRY(finish_call(&c, call->location, out));
    if (null) {
        *out = sx_null(az->arena, c.plan.type);
    }
    return ERR_OK;
}

/* *out NULL: the name is none of a window function. */
err_t az_window_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                     const char *name, struct sx **out)
{
    ASSERT(*out == NULL);
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (strcmp(functions[i].name, name) != 0) {
            continue;
        }
        if (call->n_args < functions[i].args_least || call->n_args > functions[i].args_most ||
            call->agg_star) {
            return wrong_arguments(az, scope, call, name);
        }
        if (call->over == NULL) {
            return az_err(az, call->location, ERR_INVALID, "42809",
                          "window function %s requires an OVER clause", name);
        }
        return function_call(az, scope, call, name, functions[i].func, out);
    }
    return ERR_OK;
}

/* ---- operators ------------------------------------------------------------------------------- */

/* The distinct calls of a SELECT, and the columns they become. */
struct windows {
    struct az *az;
    struct sxvec calls;
    uint32_t *at; /* UINT32_MAX: not placed yet */
};

static struct sx *collect_fn(void *arg, struct sx *sx)
{
    struct windows *w = arg;
    if (sx->kind != SX_WINDOW) {
        return NULL;
    }
    for (uint32_t i = 0; i < w->calls.len; i++) {
        if (sx_same(w->calls.items[i], sx)) {
            return sx;
        }
    }
    sxvec_push(w->az->arena, &w->calls, sx);
    return sx;
}

static struct sx *replace_fn(void *arg, struct sx *sx)
{
    const struct windows *w = arg;
    for (uint32_t i = 0; sx->kind == SX_WINDOW && i < w->calls.len; i++) {
        if (sx_same(w->calls.items[i], sx)) {
            struct sx *col = sx_col(w->az->arena, w->at[i], sx->type);
            col->location = sx->location;
            return col;
        }
    }
    ASSERT(sx->kind != SX_WINDOW);
    return NULL;
}

/* Where PARTITION BY begins among the args. */
static uint32_t keys_at(const struct sx *sx)
{
    struct plan_window_call call = sx->window->call;
    uint32_t bounds = (call.frame.start.kind == PLAN_BOUND_VALUE ? 1 : 0) +
                      (call.frame.end.kind == PLAN_BOUND_VALUE ? 1 : 0);
    uint32_t behind = sx->window->keys_len + sx->window->order_len + bounds;
    ASSERT(sx->args_len >= behind);
    return sx->args_len - behind;
}

static bool same_window(const struct sx *a, const struct sx *b)
{
    const struct sx_window *x = a->window, *y = b->window;
    ASSERT(a->kind == SX_WINDOW && b->kind == SX_WINDOW);
    bool same = x->keys_len == y->keys_len && x->order_len == y->order_len;
    for (uint32_t i = 0; same && i < x->order_len; i++) {
        same = x->order[i].desc == y->order[i].desc &&
               x->order[i].nulls_first == y->order[i].nulls_first;
    }
    for (uint32_t i = 0; same && i < x->keys_len + x->order_len; i++) {
        same = sx_same(a->args[keys_at(a) + i], b->args[keys_at(b) + i]);
    }
    return same;
}

/* The call with a column for each of its args; struct plan_window_call names them in its order. */
static struct plan_window_call call_columns(struct az *az, const struct rel *rel,
                                            struct sxvec *maps, const struct sx *sx)
{
    struct plan_window_call call = sx->window->call;
    uint32_t at = 0, bound = sx->args_len;
    if (plan_window_has_arg(call.func)) {
        call.arg = az_column_for(az, rel, maps, sx->args[at++]);
    }
    if (call.has_fallback) {
        call.fallback = az_column_for(az, rel, maps, sx->args[at++]);
    }
    if (call.n_of_row) {
        call.n_col = az_column_for(az, rel, maps, sx->args[at++]);
    }
    if (call.func == PLAN_WINDOW_AGG) {
        for (uint32_t i = 0, *col; (col = plan_agg_col(&call.agg, i)) != NULL; i++) {
            *col = az_column_for(az, rel, maps, sx->args[at++]);
        }
    }
    ASSERT(at == keys_at(sx));
    if (call.frame.end.kind == PLAN_BOUND_VALUE) {
        call.frame.end.col = az_column_for(az, rel, maps, sx->args[--bound]);
    }
    if (call.frame.start.kind == PLAN_BOUND_VALUE) {
        call.frame.start.col = az_column_for(az, rel, maps, sx->args[--bound]);
    }
    return call;
}

/* One operator for all calls of the window of this one that have no place yet. */
static struct rel *place_window(struct windows *w, uint32_t first, struct rel *rel)
{
    ASSERT(first < w->calls.len && w->at[first] == UINT32_MAX);
    struct arena *arena = w->az->arena;
    const struct sx *sx = w->calls.items[first];
    const struct sx_window *window = sx->window;
    struct sxvec maps = {0};
    uint32_t len = 0, *keys = ARENA_ARRAY(arena, uint32_t, window->keys_len);
    uint32_t *mine = ARENA_ARRAY(arena, uint32_t, w->calls.len);
    struct plan_order *order =
        arena_memdup(arena, window->order, window->order_len * sizeof(*order));
    struct plan_window_call *calls = ARENA_ARRAY(arena, struct plan_window_call, w->calls.len);
    for (uint32_t i = 0; i < window->keys_len; i++) {
        keys[i] = az_column_for(w->az, rel, &maps, sx->args[keys_at(sx) + i]);
    }
    for (uint32_t i = 0; i < window->order_len; i++) {
        order[i].col =
            az_column_for(w->az, rel, &maps, sx->args[keys_at(sx) + window->keys_len + i]);
    }
    for (uint32_t i = first; i < w->calls.len; i++) {
        if (w->at[i] == UINT32_MAX && same_window(sx, w->calls.items[i])) {
            mine[len] = i;
            calls[len++] = call_columns(w->az, rel, &maps, w->calls.items[i]);
        }
    }
    struct rel *in = rel_map(arena, rel, maps.items, maps.len);
    for (uint32_t i = 0; i < len; i++) {
        w->at[mine[i]] = in->cols_len + i;
    }
    return rel_window(arena, in, keys, window->keys_len, order, window->order_len, calls, len);
}

/* The targets become expressions over *rel with a column for each window function. */
void az_windows(struct az *az, struct sxvec *targets, struct rel **rel)
{
    struct windows w = {.az = az};
    for (uint32_t i = 0; i < targets->len; i++) {
        sx_rewrite(az->arena, targets->items[i], collect_fn, &w);
    }
    if (w.calls.len == 0) {
        return;
    }
    w.at = ARENA_ARRAY(az->arena, uint32_t, w.calls.len);
    memset(w.at, 0xff, w.calls.len * sizeof(w.at[0]));
    for (uint32_t i = 0; i < w.calls.len; i++) {
        if (w.at[i] == UINT32_MAX) {
            *rel = place_window(&w, i, *rel);
        }
    }
    for (uint32_t i = 0; i < targets->len; i++) {
        targets->items[i] = sx_rewrite(az->arena, targets->items[i], replace_fn, &w);
    }
}
