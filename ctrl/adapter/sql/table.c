/*
 * Set-returning functions, in FROM and in select lists.
 *
 * In FROM they are a flat map over one row that has their arguments, which may look at what stands
 * to the left (every function in FROM is LATERAL); lowering puts it on top of that:
 *
 *   FROM t, unnest(t.a, t.b) WITH ORDINALITY
 *
 *   MAP t.a, t.b of level 1 over the unit relation; FLAT_MAP {unnest(#0), unnest(#1)}, ordinality
 *
 * In a select list those that stand side by side run in lockstep, the shorter ones padded with
 * NULLs, over each row as grouping and windows left it. Of one with several columns (f(x)).a is
 * one, and what asks the same call for others shares it. Those inside the arguments of others come
 * first, level by level (PostgreSQL's split_pathtarget_at_srfs):
 *
 *   SELECT f(g(x)), h(y)     FLAT_MAP {g, h}, then FLAT_MAP {f}
 *
 * GROUP BY a set-returning function runs it below the grouping; the select list, where it has the
 * same expression as a whole, then has what is grouped by.
 *
 * Entry points: az_range_function, az_table_call, az_tables, az_group_tables.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* ---- FROM ------------------------------------------------------------------------------------ */

/* What the functions of an item come to. */
struct functions {
    struct az *az;
    struct scope *scope;
    struct sxvec args;
    struct plan_table_call *calls;
    size_t calls_len, calls_cap;
    struct type *types;
    size_t types_len, types_cap;
    const char **names;
    size_t names_len, names_cap;
};

/* args: converted here; alias: the item's, for the name of a single column. */
static err_t add_function(struct functions *f, const char *name, struct sx **args, uint32_t len,
                          const char *alias, int location)
{
    const struct table_func *func = NULL;
    struct type types[TABLE_FUNC_COLS_MAX];
    TRY(az_table_function(f->az, name, args, len, location, &func, types));
    struct plan_table_call call = {.func = func->id, .args_len = len};
    call.args = ARENA_ARRAY(f->az->arena, uint32_t, len);
    for (uint32_t i = 0; i < len; i++) {
        call.args[i] = f->args.len;
        sxvec_push(f->az->arena, &f->args, args[i]);
    }
    *VEC_PUSH(f, calls) = call;
    for (uint32_t i = 0; i < func->cols_len; i++) {
        *VEC_PUSH(f, types) = types[i];
        const char *own = alias != NULL ? alias : name;
        *VEC_PUSH(f, names) = func->names[i] != NULL ? func->names[i] : own;
    }
    return ERR_OK;
}

/* At most EXPR_ARGS_MAX of them. */
static err_t function_args(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                           struct sx **args)
{
    if (call->n_args > EXPR_ARGS_MAX) {
        return az_err(az, call->location, ERR_INVALID, "54023",
                      "cannot pass more than %d arguments to a function", EXPR_ARGS_MAX);
    }
    for (size_t i = 0; i < call->n_args; i++) {
        TRY(az_expr(az, scope, call->args[i], &args[i]));
    }
    return ERR_OK;
}

/* One function as written: unnest of several arrays is as many functions. */
static err_t range_call(struct functions *f, const PgQuery__FuncCall *call, const char *alias)
{
    const char *name = pg_name(call->funcname, call->n_funcname, NULL);
    struct sx *args[EXPR_ARGS_MAX];
    TRY(function_args(f->az, f->scope, call, args));
    if (strcmp(name, "unnest") != 0 || call->n_args < 2) {
        return add_function(f, name, args, (uint32_t)call->n_args, alias, call->location);
    }
    for (size_t i = 0; i < call->n_args; i++) {
        TRY(add_function(f, name, &args[i], 1, NULL, call->location));
    }
    return ERR_OK;
}

/* The function of an item's list; with column definitions: a record, which there is not. */
static err_t range_node(struct az *az, const pg_node *node, const pg_node **out)
{
    const PgQuery__List *list = node->node_case == PG_QUERY__NODE__NODE_LIST ? node->list : NULL;
    if (list == NULL || list->n_items == 0) {
        return AZ_UNSUPPORTED(az, pg_location(node), "this function in FROM is not supported");
    }
    *out = list->items[0];
    bool defined = list->n_items > 1 && list->items[1]->node_case == PG_QUERY__NODE__NODE_LIST &&
                   list->items[1]->list->n_items > 0;
    if (defined) {
        return AZ_UNSUPPORTED(az, pg_location(*out),
                              "column definitions of functions in FROM are not supported");
    }
    return ERR_OK;
}

static const char *table_name(const pg_node *node)
{
    const char *name = node->node_case == PG_QUERY__NODE__NODE_FUNC_CALL
                           ? pg_name(node->func_call->funcname, node->func_call->n_funcname, NULL)
                           : NULL;
    return name != NULL && az_is_table_function(name) ? name : NULL;
}

/* A plain function in FROM is a relation of one row. */
static err_t range_value(struct az *az, struct scope *scope, const pg_node *node,
                         const char *alias, struct table_item *out)
{
    struct sx *sx = NULL;
    TRY(az_expr(az, scope, node, &sx));
    TRY(az_settle(az, sx, &sx));
    out->name = node->node_case == PG_QUERY__NODE__NODE_FUNC_CALL
                    ? pg_name(node->func_call->funcname, node->func_call->n_funcname, NULL)
                    : "value";
    out->rel = rel_map(az->arena, rel_unit(az->arena), &sx, 1);
    out->names = ARENA_ARRAY(az->arena, const char *, 2);
    out->names[0] = alias != NULL ? alias : out->name;
    return ERR_OK;
}

/* All functions of the item, in lockstep. */
static err_t range_functions(struct functions *f, const PgQuery__RangeFunction *range,
                             const char *alias, struct table_item *out)
{
    for (size_t i = 0; i < range->n_functions; i++) {
        const pg_node *node = NULL;
        TRY(range_node(f->az, range->functions[i], &node));
        if (table_name(node) == NULL) {
            return AZ_UNSUPPORTED(f->az, pg_location(node),
                                  "a plain function in ROWS FROM is not supported");
        }
        out->name = i == 0 ? table_name(node) : out->name;
        TRY(range_call(f, node->func_call, range->n_functions == 1 ? alias : NULL));
    }
    if (f->calls_len > BATCH_COLS_MAX / TABLE_FUNC_COLS_MAX) {
        return az_err(f->az, -1, ERR_LIMIT, "54011", "too many functions in FROM");
    }
    struct arena *a = f->az->arena;
    struct rel *in = rel_map(a, rel_unit(a), f->args.items, f->args.len);
    out->rel = rel_flat_map(a, in, NULL, 0, f->calls, (uint32_t)f->calls_len, f->types);
    out->names = ARENA_ARRAY(a, const char *, f->names_len + 1);
    memcpy(out->names, f->names, f->names_len * sizeof(f->names[0]));
    if (range->ordinality) {
        out->names[out->rel->cols_len] = "ordinality";
        out->rel = rel_flat_map_ordinality(a, out->rel);
    }
    return ERR_OK;
}

/* scope: around the arguments. */
err_t az_range_function(struct az *az, struct scope *scope, const PgQuery__RangeFunction *range,
                        struct table_item *out)
{
    const char *alias = range->alias != NULL ? range->alias->aliasname : NULL;
    const pg_node *first = NULL;
    ASSERT(range->n_functions > 0);
    if (range->n_coldeflist > 0) {
        return AZ_UNSUPPORTED(az, -1, "column definitions of functions in FROM are not supported");
    }
    TRY(range_node(az, range->functions[0], &first));
    if (table_name(first) == NULL && range->n_functions == 1 && !range->ordinality) {
        return range_value(az, scope, first, alias, out);
    }
    struct functions f = {.az = az, .scope = scope};
    err_t err = range_functions(&f, range, alias, out);
    free(f.calls);
    free(f.types);
    free(f.names);
    return err;
}

/* ---- select lists ---------------------------------------------------------------------------- */

/* In PostgreSQL's words. */
static err_t check_place(struct az *az, const struct scope *scope, int location)
{
    const char *where = scope->no_aggs != NULL ? scope->no_aggs : scope->no_windows;
    if (where != NULL && strcmp(where, "functions in FROM") == 0) {
        return az_err(az, location, ERR_UNSUPPORTED, "0A000",
                      "set-returning functions must appear at top level of FROM");
    }
    if (where != NULL && strcmp(where, "aggregate") == 0) {
        err_t err = az_err(az, location, ERR_UNSUPPORTED, "0A000",
                           "aggregate function calls cannot contain set-returning function calls");
        return err_hint(err, "You might be able to move the set-returning function into a LATERAL "
                             "FROM item.");
    }
    if (scope->in_window) {
        err_t err = az_err(az, location, ERR_UNSUPPORTED, "0A000",
                           "window function calls cannot contain set-returning function calls");
        return err_hint(err, "You might be able to move the set-returning function into a LATERAL "
                             "FROM item.");
    }
    if (!scope->has_tables || (where != NULL && strcmp(where, "GROUP BY") != 0)) {
        return az_err(az, location, ERR_UNSUPPORTED, "0A000",
                      "set-returning functions are not allowed in %s",
                      where != NULL ? where : "this expression");
    }
    return ERR_OK;
}

/* In PostgreSQL's words. */
static err_t find_field(struct az *az, const struct table_func *func, const struct type *type,
                        const char *field, int location, uint32_t *col)
{
    ASSERT(func->cols_len >= 1 && field != NULL);
    if (func->cols_len == 1) {
        return az_err(az, location, ERR_INVALID, "42809",
                      "column notation .%s applied to type %s, which is not a composite type",
                      field, az_type_name(az, type));
    }
    for (uint32_t i = 0; i < func->cols_len; i++) {
        ASSERT(func->names[i] != NULL && func->cols[i] != 0);
        if (strcmp(func->names[i], field) == 0) {
            *col = i;
            return ERR_OK;
        }
    }
    return az_err(az, location, ERR_INVALID, "42703",
                  "could not identify column \"%s\" in record data type", field);
}

err_t az_table_call(struct az *az, struct scope *scope, const PgQuery__FuncCall *call,
                    const char *name, const char *field, struct sx **out)
{
    struct sx *args[EXPR_ARGS_MAX];
    const struct table_func *func = NULL;
    struct type types[TABLE_FUNC_COLS_MAX];
    uint32_t len = (uint32_t)call->n_args;
    TRY(function_args(az, scope, call, args));
    TRY(az_table_function(az, name, args, len, call->location, &func, types));
    TRY(check_place(az, scope, call->location));
    uint32_t col = 0;
    if (field != NULL) {
        TRY(find_field(az, func, &types[0], field, call->location, &col));
    } else if (func->cols_len > 1) {
        return AZ_UNSUPPORTED(az, call->location,
                              "function %s, which returns records, is supported in FROM only",
                              name);
    }
    *out = sx_new(az->arena, SX_TABLE, types[col]);
    (*out)->col = col;
    (*out)->type.nullable = true; /* padding, beside a longer one */
    (*out)->table = func;
    (*out)->args = arena_memdup(az->arena, args, len * sizeof(args[0]));
    (*out)->args_len = len;
    (*out)->location = call->location;
    return ERR_OK;
}

/* Subqueries are not entered: theirs are their own. */
static const struct sx *find_table(const struct sx *sx)
{
    const struct sx *found = sx->kind == SX_TABLE ? sx : NULL;
    for (uint32_t i = 0; i < sx->args_len && found == NULL; i++) {
        found = find_table(sx->args[i]);
    }
    return found;
}

/* CASE and COALESCE would have to run them for some rows only. */
static err_t check_conditional(struct az *az, const struct sx *sx)
{
    if (sx->kind == SX_CASE || sx->kind == SX_COALESCE) {
        const struct sx *table = find_table(sx);
        if (table != NULL) {
            err_t err = az_err(az, table->location, ERR_UNSUPPORTED, "0A000",
                               "set-returning functions are not allowed in %s",
                               sx->kind == SX_CASE ? "CASE" : "COALESCE");
            return err_hint(err, "You might be able to move the set-returning function into a "
                                 "LATERAL FROM item.");
        }
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        TRY(check_conditional(az, sx->args[i]));
    }
    return ERR_OK;
}

/* The functions of one level, and where their columns will be. */
struct level {
    struct az *az;
    struct sxvec found; /* each once: equal calls give equal rows */
    uint32_t width;     /* of the relation below */
    uint32_t *at;       /* of each that was found: its column behind those */
};

static uint32_t found_at(const struct level *level, const struct sx *sx)
{
    uint32_t i = 0;
    while (i < level->found.len && !sx_same(level->found.items[i], sx)) {
        i++;
    }
    return i;
}

/* Those whose arguments hold none. */
static struct sx *collect_fn(void *arg, struct sx *sx)
{
    struct level *level = arg;
    if (sx->kind != SX_TABLE) {
        return NULL;
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        if (find_table(sx->args[i]) != NULL) {
            return NULL;
        }
    }
    if (found_at(level, sx) == level->found.len) {
        sxvec_push(level->az->arena, &level->found, sx);
    }
    return sx;
}

static struct sx *replace_fn(void *arg, struct sx *sx)
{
    struct level *level = arg;
    uint32_t at = sx->kind == SX_TABLE ? found_at(level, sx) : level->found.len;
    if (at == level->found.len) {
        return NULL;
    }
    struct sx *col = sx_col(level->az->arena, level->width + level->at[at], sx->type);
    col->location = sx->location;
    return col;
}

/* Do both ask one call, for whichever of its columns? */
static bool same_call(const struct sx *a, const struct sx *b)
{
    bool same = a->table == b->table && a->args_len == b->args_len;
    for (uint32_t i = 0; i < a->args_len && same; i++) {
        same = sx_same(a->args[i], b->args[i]);
    }
    return same;
}

/* Those that were found before the i-th and ask the same call; i when there is none. */
static uint32_t found_call(const struct level *level, uint32_t i)
{
    ASSERT(i < level->found.len);
    uint32_t k = 0;
    while (k < i && !same_call(level->found.items[k], level->found.items[i])) {
        k++;
    }
    return k;
}

/* The columns a call puts out, as the engine knows them; returns how many. */
static uint32_t call_types(const struct sx *sx, struct type *types)
{
    ASSERT(sx->kind == SX_TABLE && sx->col < sx->table->cols_len);
    for (uint32_t c = 0; c < sx->table->cols_len; c++) {
        types[c] = c == sx->col ? sx->type : type_of((enum type_kind)sx->table->cols[c]);
        types[c].nullable = true;
    }
    return sx->table->cols_len;
}

/* The flat map of a level on *rel: its columns, then those of each call. */
static void flatten(struct level *level, struct rel **rel)
{
    struct arena *a = level->az->arena;
    uint32_t n = level->found.len, *kept = ARENA_ARRAY(a, uint32_t, level->width);
    uint32_t calls_len = 0, cols = 0;
    struct plan_table_call *calls = ARENA_ARRAY(a, struct plan_table_call, n);
    struct type *types = ARENA_ARRAY(a, struct type, n * TABLE_FUNC_COLS_MAX);
    struct sxvec maps = {0};
    level->at = ARENA_ARRAY(a, uint32_t, n);
    for (uint32_t i = 0; i < level->width; i++) {
        kept[i] = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct sx *sx = level->found.items[i];
        uint32_t first = found_call(level, i);
        if (first < i) {
            level->at[i] = level->at[first] - level->found.items[first]->col + sx->col;
            continue;
        }
        struct plan_table_call *call = &calls[calls_len++];
        *call = (struct plan_table_call){.func = sx->table->id, .args_len = sx->args_len};
        call->args = ARENA_ARRAY(a, uint32_t, sx->args_len);
        for (uint32_t k = 0; k < sx->args_len; k++) {
            call->args[k] = az_column_for(level->az, *rel, &maps, sx->args[k]);
        }
        level->at[i] = cols + sx->col;
        cols += call_types(sx, types + cols);
    }
    struct rel *in = rel_map(a, *rel, maps.items, maps.len);
    *rel = rel_flat_map(a, in, kept, level->width, calls, calls_len, types);
}

static void replace_all(struct level *level, struct sxvec *list)
{
    for (uint32_t i = 0; i < list->len; i++) {
        list->items[i] = sx_rewrite(level->az->arena, list->items[i], replace_fn, level);
    }
}

err_t az_tables(struct az *az, struct sxvec *targets, struct rel **rel)
{
    for (uint32_t i = 0; i < targets->len; i++) {
        TRY(check_conditional(az, targets->items[i]));
    }
    for (;;) {
        struct level level = {.az = az, .width = (*rel)->cols_len};
        for (uint32_t i = 0; i < targets->len; i++) {
            sx_rewrite(az->arena, targets->items[i], collect_fn, &level);
        }
        if (level.found.len == 0) {
            return ERR_OK;
        }
        flatten(&level, rel);
        replace_all(&level, targets);
    }
}

/* The groups as they were written, and what has become of them. */
struct regroup {
    struct sx **from;
    const struct sxvec *to;
};

static struct sx *regroup_fn(void *arg, struct sx *sx)
{
    const struct regroup *r = arg;
    for (uint32_t i = 0; i < r->to->len; i++) {
        if (r->from[i] != r->to->items[i] && sx_same(sx, r->from[i])) {
            return r->to->items[i];
        }
    }
    return NULL;
}

err_t az_group_tables(struct az *az, struct sxvec *groups, struct sxvec *targets,
                      struct sx **having, struct rel **rel)
{
    struct regroup r = {.to = groups};
    r.from = groups->len == 0 ? NULL
                              : arena_memdup(az->arena, groups->items,
                                             groups->len * sizeof(groups->items[0]));
    TRY(az_tables(az, groups, rel));
    for (uint32_t i = 0; i < targets->len; i++) {
        targets->items[i] = sx_rewrite(az->arena, targets->items[i], regroup_fn, &r);
    }
    if (*having != NULL) {
        *having = sx_rewrite(az->arena, *having, regroup_fn, &r);
    }
    return ERR_OK;
}
