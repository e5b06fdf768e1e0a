/*
 * Aggregation: what may stand beside aggregates, and the columns it all becomes.
 *
 *   SELECT a + 1, sum(b) * 2 FROM t GROUP BY a + 1 HAVING count(*) > 1
 *
 *   MAP      t ++ {a + 1}
 *   REDUCE   keys {a + 1}; aggregates {sum(b), count(*)}
 *   targets  #0, #1 * 2          HAVING  #2 > 1
 *
 * Two walks: the first collects the aggregates of targets and HAVING, equal ones once; the second
 * replaces group expressions and aggregates by columns of the reduced relation. What the second
 * finds that is neither, a column of the input, may not stand there (42803). Group expressions go
 * before their parts, so after GROUP BY a + 1 the sum is a column and a alone is an error;
 * PostgreSQL decides alike, except that it also knows primary keys, which tables here do not have.
 *
 * Grouping sets are the sum of one reduction for each set, over the same input, brought to the same
 * columns: a group that is not in the set is NULL there, GROUPING (...) a literal.
 *
 *     GROUP BY ROLLUP (a, b)  ->  REDUCE {a, b}  +  REDUCE {a}, NULL  +  GLOBAL, NULL, NULL
 *
 * Without GROUP BY but with an aggregate or HAVING there is one group that exists even when the
 * input is empty: REL_GLOBAL, which lowering makes of a reduction and an outer join. Groups with
 * NULL keys are groups; aggregates skip NULL arguments (the engine's rule, SQL's as well).
 */
#include "ctrl/adapter/sql/sql_internal.h"

/*
 * One SELECT's aggregation. err is the first breach: sx_rewrite has no way to stop, so the walk
 * goes on over stand-ins and the error is returned after it. in_sub words the message.
 */
struct grouping {
    struct az *az;
    struct scope *scope;
    struct sxvec *groups;
    const struct group_sets *sets;
    struct sxvec aggs; /* distinct SX_AGG nodes, GROUPING (...) among them */
    err_t err;
    bool in_sub;
};

/* The group that is the same expression; UINT32_MAX: none. */
static uint32_t group_index(const struct grouping *g, const struct sx *sx)
{
    for (uint32_t i = 0; i < g->groups->len; i++) {
        if (sx_same(g->groups->items[i], sx)) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* Equal aggregates are computed once. Returning the node ends the descent: aggregates do not nest,
 * and what they are about stays an expression over the input. */
static struct sx *collect_fn(void *arg, struct sx *sx)
{
    struct grouping *g = arg;
    if (sx->kind != SX_AGG) {
        return NULL;
    }
    for (uint32_t i = 0; i < g->aggs.len; i++) {
        if (sx_same(g->aggs.items[i], sx)) {
            return sx;
        }
    }
    for (uint32_t i = 0; sx->agg.func == AGG_GROUPING && i < sx->args_len; i++) {
        if (group_index(g, sx->args[i]) == UINT32_MAX && g->err == ERR_OK) {
            g->err = az_err(g->az, sx_location(sx->args[i]), ERR_INVALID, "42803",
                            "arguments to GROUPING must be grouping expressions of the "
                            "associated query level");
        }
    }
    sxvec_push(g->az->arena, &g->aggs, sx);
    return sx;
}

/* As PostgreSQL's message shows it, with the relation's alias. */
static const char *column_name(const struct grouping *g, uint32_t at)
{
    for (size_t i = 0; i < g->scope->items_len; i++) {
        const struct nsitem *item = g->scope->items[i];
        for (uint32_t c = 0; c < item->cols_len; c++) {
            if (item->cols[c].at == at) {
                return item->alias == NULL
                           ? item->cols[c].name
                           : arena_printf(g->az->arena, "%s.%s", item->alias, item->cols[c].name);
            }
        }
    }
    return "?";
}

/* The first breach is reported; a stand-in lets the walk finish. */
static struct sx *ungrouped(struct grouping *g, const struct sx *col)
{
    ASSERT(col->kind == SX_COL);
    if (g->err == ERR_OK) {
        g->err = az_err(g->az, col->location, ERR_INVALID, "42803",
                        g->in_sub ? "subquery uses ungrouped column \"%s\" from outer query"
                                  : "column \"%s\" must appear in the GROUP BY clause or be used "
                                    "in an aggregate function",
                        column_name(g, col->col));
    }
    return sx_col(g->az->arena, 0, col->type);
}

/* A column of the reduced relation with the replaced expression's type and position. */
static struct sx *grouped_column(struct grouping *g, const struct sx *sx, uint32_t index)
{
    ASSERT(index < g->groups->len + g->aggs.len);
    struct sx *col = sx_col(g->az->arena, index, sx->type);
    bool group = index < g->groups->len;
    col->type.nullable = col->type.nullable || (group && g->sets->len > 0);
    col->location = sx->location;
    return col;
}

/*
 * A subquery's reference to the grouped query's input must be a group column, too. Group
 * expressions other than columns are not recognised inside subqueries, nor are they by PostgreSQL.
 */
static struct sx *outer_column(void *arg, struct sx *col, uint32_t level)
{
    ASSERT(level >= 1);
    struct grouping *g = arg;
    if (level != 1) {
        return NULL;
    }
    for (uint32_t i = 0; i < g->groups->len; i++) {
        const struct sx *group = g->groups->items[i];
        if (group->kind == SX_COL && group->level == 0 && group->col == col->col) {
            struct sx *out = grouped_column(g, col, i);
            out->level = 1;
            return out;
        }
    }
    g->in_sub = true;
    ungrouped(g, col);
    struct sx *out = sx_col(g->az->arena, 0, col->type);
    out->level = 1;
    return out;
}

/*
 * Group expressions go before their parts: after GROUP BY a + 1, a + 1 is a column and a is not.
 * See the head: groups, then aggregates, then plain columns are an error, subqueries are entered
 * for their outer references only.
 */
static struct sx *replace_fn(void *arg, struct sx *sx)
{
    ASSERT(sx != NULL);
    struct grouping *g = arg;
    uint32_t group = group_index(g, sx);
    if (group != UINT32_MAX) {
        return grouped_column(g, sx, group);
    }
    for (uint32_t i = 0; sx->kind == SX_AGG && i < g->aggs.len; i++) {
        if (sx_same(g->aggs.items[i], sx)) {
            return grouped_column(g, sx, g->groups->len + i);
        }
    }
    if (sx->kind == SX_COL && sx->level == 0) {
        return ungrouped(g, sx);
    }
    if (sx->sub != NULL) {
        struct sx *copy = arena_memdup(g->az->arena, sx, sizeof(*sx));
        copy->sub = rel_map_outer(g->az->arena, sx->sub, outer_column, g);
        return copy;
    }
    return NULL;
}

uint32_t az_column_for(struct az *az, const struct rel *rel, struct sxvec *maps, struct sx *sx)
{
    ASSERT(sx->kind != SX_AGG && sx->kind != SX_WINDOW && sx->kind != SX_TABLE);
    if (sx->kind == SX_COL && sx->level == 0) {
        return sx->col;
    }
    for (uint32_t i = 0; i < maps->len; i++) {
        if (sx_same(maps->items[i], sx)) {
            return rel->cols_len + i;
        }
    }
    sxvec_push(az->arena, maps, sx);
    return rel->cols_len + maps->len - 1;
}

/* The aggregate with a column for each of its args; struct plan_agg names them in their order. */
static struct plan_agg agg_columns(struct az *az, const struct rel *rel, struct sxvec *maps,
                                   const struct sx *sx)
{
    ASSERT(sx->kind == SX_AGG && sx->agg.func != AGG_GROUPING);
    struct plan_agg agg = {.func = sx->agg.func,
                           .distinct = sx->agg.distinct,
                           .has_filter = sx->agg.has_filter,
                           .type = sx->type,
                           .order_len = sx->agg.order_len};
    agg.order =
        arena_memdup(az->arena, sx->agg.order, sx->agg.order_len * sizeof(sx->agg.order[0]));
    uint32_t at = 0;
    if (agg.func != AGG_COUNT_ALL) {
        agg.arg = az_column_for(az, rel, maps, sx->args[at++]);
    }
    if (agg_takes_two((enum agg_func)agg.func)) {
        agg.arg2 = az_column_for(az, rel, maps, sx->args[at++]);
    }
    for (uint32_t i = 0; i < agg.order_len; i++) {
        agg.order[i].col = az_column_for(az, rel, maps, sx->args[at++]);
    }
    if (agg.has_filter) {
        agg.filter = az_column_for(az, rel, maps, sx->args[at++]);
    }
    ASSERT(at == sx->args_len);
    return agg;
}

/* What all sets of one GROUP BY share: the input with a column for every key and argument. */
struct reduction {
    struct rel *in;
    uint32_t *keys;        /* of each group */
    struct plan_agg *aggs; /* of each aggregate; unused for GROUPING */
};

/*
 * Expressions become columns once, however many sets there are: all reductions read the same node.
 */
static void make_input(struct grouping *g, struct rel *rel, struct reduction *out)
{
    ASSERT(rel != NULL && out != NULL);
    struct az *az = g->az;
    struct sxvec maps = {0};
    out->keys = ARENA_ARRAY(az->arena, uint32_t, g->groups->len);
    out->aggs = ARENA_ARRAY(az->arena, struct plan_agg, g->aggs.len);
    for (uint32_t i = 0; i < g->groups->len; i++) {
        out->keys[i] = az_column_for(az, rel, &maps, g->groups->items[i]);
    }
    for (uint32_t i = 0; i < g->aggs.len; i++) {
        struct sx *sx = g->aggs.items[i];
        if (sx->agg.func == AGG_GROUPING) {
            continue;
        }
        out->aggs[i] = agg_columns(az, rel, &maps, sx);
    }
    out->in = rel_map(az->arena, rel, maps.items, maps.len);
}

/* GROUPING (a, b): a bit for each argument, the last one lowest, set when it is not grouped by. */
static struct sx *grouping_value(const struct grouping *g, const struct sx *sx,
                                 const uint64_t *mask)
{
    ASSERT(sx->agg.func == AGG_GROUPING && sx->args_len < 32);
    int32_t value = 0;
    for (uint32_t i = 0; i < sx->args_len; i++) {
        uint32_t group = group_index(g, sx->args[i]);
        ASSERT(group < g->groups->len);
        value = value * 2 + (mask != NULL && (*mask >> group & 1) == 0 ? 1 : 0);
    }
    return sx_lit(g->az->arena, type_of(TYPE_INT4), (struct datum){.i = value});
}

/*
 * The reduction by one set, with a column for every group and every aggregate. mask NULL: the set
 * of all groups. A set without groups is one group that exists even over nothing.
 */
static struct rel *reduce_set(struct grouping *g, const struct reduction *r, bool grouped,
                              const uint64_t *mask)
{
    ASSERT(mask == NULL || g->groups->len <= GROUP_SETS_GROUPS_MAX);
    struct arena *a = g->az->arena;
    uint32_t n = g->groups->len, keys_len = 0, aggs_len = 0;
    uint32_t *keys = ARENA_ARRAY(a, uint32_t, n), *at = ARENA_ARRAY(a, uint32_t, n + g->aggs.len);
    struct plan_agg *aggs = ARENA_ARRAY(a, struct plan_agg, g->aggs.len);
    for (uint32_t i = 0; i < n; i++) {
        at[i] = keys_len;
        if (mask == NULL || (*mask >> i & 1) != 0) {
            keys[keys_len++] = r->keys[i];
        }
    }
    for (uint32_t i = 0; i < g->aggs.len; i++) {
        at[n + i] = keys_len + aggs_len;
        if (g->aggs.items[i]->agg.func != AGG_GROUPING) {
            aggs[aggs_len++] = r->aggs[i];
        }
    }
    struct rel *out = rel_reduce(a, r->in, keys, keys_len, aggs, aggs_len);
    if (!grouped || keys_len == 0) {
        out->kind = REL_GLOBAL;
    }
    struct sxvec maps = {0};
    for (uint32_t i = 0; i < n + g->aggs.len; i++) {
        bool absent = i < n && mask != NULL && (*mask >> i & 1) == 0;
        bool grouping = i >= n && g->aggs.items[i - n]->agg.func == AGG_GROUPING;
        if (absent || grouping) {
            at[i] = out->cols_len + maps.len;
            sxvec_push(a, &maps, absent ? sx_null(a, g->groups->items[i]->type)
                                        : grouping_value(g, g->aggs.items[i - n], mask));
        }
    }
    return rel_project(a, rel_map(a, out, maps.items, maps.len), at, n + g->aggs.len);
}

/*
 * One reduction, or the sum of those by each grouping set: rows of different sets are different
 * rows even when they look alike, so nothing is made distinct.
 */
static struct rel *aggregate(struct grouping *g, bool grouped, struct rel *rel)
{
    ASSERT(g->err == ERR_OK);
    struct reduction r;
    make_input(g, rel, &r);
    struct rel *out = reduce_set(g, &r, grouped, g->sets->len > 0 ? &g->sets->masks[0] : NULL);
    for (uint32_t i = 1; i < g->sets->len; i++) {
        out = rel_union2(g->az->arena, out, reduce_set(g, &r, grouped, &g->sets->masks[i]));
    }
    return out;
}

/* Over grouping sets anything that was computed from a group may be NULL, however it looked. */
static struct sx *loosen(struct arena *arena, struct sx *sx)
{
    if (sx->args_len == 0) {
        return sx;
    }
    struct sx *copy = arena_memdup(arena, sx, sizeof(*sx));
    copy->type.nullable = copy->type.nullable || sx->kind != SX_IS_NULL;
    copy->args = ARENA_ARRAY(arena, struct sx *, sx->args_len);
    for (uint32_t i = 0; i < sx->args_len; i++) {
        copy->args[i] = loosen(arena, sx->args[i]);
    }
    return copy;
}

/* An expression over the input as one over the aggregated relation. */
static struct sx *replaced(struct grouping *g, struct sx *sx)
{
    sx = sx_rewrite(g->az->arena, sx, replace_fn, g);
    return g->sets->len > 0 ? loosen(g->az->arena, sx) : sx;
}

/* targets and *having (which may be NULL) become expressions over the new *rel. */
err_t az_group(struct az *az, struct scope *scope, struct sxvec *groups, bool grouped,
               const struct group_sets *sets, struct sxvec *targets, struct sx **having,
               struct rel **rel)
{
    ASSERT(targets != NULL && *rel != NULL);
    struct grouping g = {.az = az, .scope = scope, .groups = groups, .sets = sets};
    /* First walk, over targets and HAVING: which aggregates are there? */
    for (uint32_t i = 0; i < targets->len; i++) {
        sx_rewrite(az->arena, targets->items[i], collect_fn, &g);
    }
    if (*having != NULL) {
        sx_rewrite(az->arena, *having, collect_fn, &g);
    }
    for (uint32_t i = 0; i < targets->len; i++) {
        targets->items[i] = replaced(&g, targets->items[i]);
    }
    if (*having != NULL) {
        *having = replaced(&g, *having);
    }
    if (g.err != ERR_OK) {
        return g.err;
    }
    *rel = aggregate(&g, grouped, *rel);
    return ERR_OK;
}
