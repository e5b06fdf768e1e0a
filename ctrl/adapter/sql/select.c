/*
 * Analysis of query expressions: SELECT, VALUES, set operations, ORDER BY, LIMIT.
 *
 * A query becomes a relation and targets over it; the targets stay expressions until
 * az_query_finish, because an untyped literal among them takes its type from where the query
 * stands: the other arm of a UNION, the column an INSERT writes, else text.
 *
 *   SELECT b, 'x' FROM t WHERE a > 1 ORDER BY c
 *
 *   rel      FILTER a > 1 over t
 *   targets  b, 'x' (unknown), c (hidden: only ORDER BY reads it)
 *   cols_len 2, order by column 2
 *
 * ORDER BY and LIMIT of the outermost query stay beside the relation and are done when the rows are
 * read ("finishing", sql.h); inside FROM or an expression they are a TOPK (az_query_rel). ORDER BY
 * without LIMIT means nothing there, as in PostgreSQL nobody may rely on it.
 *
 * The clauses are analysed in PostgreSQL's order (transformSelectStmt), so that of several errors
 * in one statement the same one is reported. Entry points: az_query, az_select, az_values,
 * az_targets, az_limit.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

#include <stdio.h>

/*
 * A select list under construction: sx.items[i] is called names[i]; hidden targets come behind the
 * visible ones. names are freed by whoever made the list, their texts live with the parse tree.
 */
struct targets {
    struct sxvec sx;
    const char **names;
    size_t names_len, names_cap;
};

/* ---- finishing ------------------------------------------------------------------------------- */

/*
 * WITH TIES: the rows a LIMIT alone would keep and the peers of the last become the relation, which
 * only an OFFSET is left to cut: it counts from the first row, peers or not. When the two pass what
 * a bigint counts there are no rows to cut off.
 */
static void keep_ties(struct az *az, struct query *q)
{
    if (!q->ties) {
        return;
    }
    ASSERT(q->limit >= 0 && q->offset >= 0 && q->order_len > 0);
    if (q->limit <= INT64_MAX - q->offset) {
        int64_t limit = q->limit > 0 ? q->limit + q->offset : 0;
        q->rel = rel_topk(az->arena, q->rel, NULL, 0, q->order, q->order_len, limit, 0);
        q->rel->ties = limit > 0;
    }
    q->limit = -1;
    q->ties = false;
}

/*
 * Targets that are columns already cost nothing, the others become a MAP. A column whose SQL type a
 * cast changed (varchar to name) is mapped too: the relation's types are what the client is told.
 */
err_t az_query_finish(struct az *az, struct query *q, const struct type *want)
{
    ASSERT(q->cols_len <= q->targets_len || q->targets == NULL);
    if (q->targets == NULL) {
        keep_ties(az, q);
        return ERR_OK;
    }
    uint32_t width = q->rel->cols_len;
    uint32_t *cols = ARENA_ARRAY(az->arena, uint32_t, q->targets_len);
    struct sxvec maps = {0};
    for (uint32_t i = 0; i < q->targets_len; i++) {
        struct sx *sx = q->targets[i];
        if (want != NULL && i < q->cols_len && type_is_unknown(sx)) {
            TRY(az_coerce(az, sx, want[i], CAST_ASSIGNMENT, &sx));
        }
        TRY(az_settle(az, sx, &sx));
        if (sx->kind == SX_COL && sx->level == 0 && sx->type.oid == q->rel->types[sx->col].oid) {
            cols[i] = sx->col;
        } else {
            cols[i] = width + maps.len;
            sxvec_push(az->arena, &maps, sx);
        }
    }
    struct rel *rel = rel_map(az->arena, q->rel, maps.items, maps.len);
    q->rel = rel_project(az->arena, rel, cols, q->targets_len);
    q->targets = NULL;
    keep_ties(az, q);
    return ERR_OK;
}

/* The query where its order matters no more than for LIMIT: the first rows by its order. */
struct rel *az_query_rel(struct az *az, const struct query *q)
{
    ASSERT(q->targets == NULL && q->cols_len <= q->rel->cols_len);
    ASSERT(!q->ties);
    struct rel *rel = q->rel;
    if (q->limit >= 0 || q->offset > 0) {
        rel = rel_topk(az->arena, rel, NULL, 0, q->order, q->order_len, q->limit, q->offset);
    }
    return rel_prefix(az->arena, rel, q->cols_len);
}

/*
 * Known to have no rows without looking at data: an empty catalog table and what is made of it. A
 * GLOBAL aggregate always has a row, so it is never dead; the other outer joins keep a side alive.
 */
bool az_is_dead(const struct rel *rel)
{
    ASSERT(rel != NULL);
    if (rel->closed) {
        return rel->dead;
    }
    switch (rel->kind) {
    case REL_CONSTANT:
        return rel->rows_len == 0;
    case REL_MAP:
    case REL_FILTER:
    case REL_PROJECT:
    case REL_DISTINCT:
    case REL_TOPK:
    case REL_REDUCE:
    case REL_WINDOW:
    case REL_FLAT_MAP:
        return az_is_dead(rel->inputs[0]);
    case REL_JOIN:
        if (rel->join == REL_JOIN_INNER) {
            return az_is_dead(rel->inputs[0]) || az_is_dead(rel->inputs[1]);
        }
        return rel->join == REL_JOIN_LEFT && az_is_dead(rel->inputs[0]);
    case REL_UNION:
        return az_is_dead(rel->inputs[0]) && az_is_dead(rel->inputs[1]);
    default:
        return false;
    }
}

/*
 * In a SELECT over an empty catalog table an expression we cannot analyse is as good as NULL: its
 * value is never asked for. That is how psql's queries about policies, publications and the like
 * are answered without their functions.
 */
static err_t live_expr(struct az *az, struct scope *scope, const pg_node *node, struct sx **out)
{
    ASSERT(node != NULL);
    uint32_t depth = az->depth, views = az->view_depth;
    err_t err = az_expr(az, scope, node, out);
    if (err != ERR_OK && az->dead > 0 && err_code(err) != ERR_LIMIT) {
        err_free(err);
        az->depth = depth;
        az->view_depth = views;
        *out = sx_null(az->arena, type_of(TYPE_TEXT));
        return ERR_OK;
    }
    return err;
}

/* A condition of such a query; NULL stands for "cannot be analysed" and keeps no row. */
static err_t live_bool(struct az *az, struct scope *scope, const pg_node *node, const char *what,
                       struct sx **out)
{
    TRY(live_expr(az, scope, node, out));
    if (az->dead > 0 && (*out)->kind == SX_LIT && (*out)->lit.null) {
        *out = sx_bool(az->arena, false);
        return ERR_OK;
    }
    return az_to_bool(az, *out, what, out);
}

/* ---- targets --------------------------------------------------------------------------------- */

/*
 * The name PostgreSQL gives an expression without an alias, and how much it insists on it: 2 for
 * columns and functions, 1 for what a cast around it may rename, 0 for none.
 */
static int figure_name(const pg_node *node, const char **name);

/* A scalar subquery is called like its only column, EXISTS "exists"; IN and ANY have no name. */
static int sublink_name(const PgQuery__SubLink *link, const char **name)
{
    switch (link->sub_link_type) {
    case PG_QUERY__SUB_LINK_TYPE__EXISTS_SUBLINK:
        *name = "exists";
        return 2;
    case PG_QUERY__SUB_LINK_TYPE__ARRAY_SUBLINK:
        *name = "array";
        return 2;
    case PG_QUERY__SUB_LINK_TYPE__EXPR_SUBLINK: {
        const PgQuery__SelectStmt *select = link->subselect->select_stmt;
        if (select->n_target_list != 1) {
            return 0;
        }
        const PgQuery__ResTarget *t = select->target_list[0]->res_target;
        if (t->name[0] != '\0') {
            *name = t->name;
            return 2;
        }
        return figure_name(t->val, name);
    }
    default:
        return 0;
    }
}

/* CURRENT_DATE is not a function call in the tree, but named as if it were. */
static int value_function_name(const PgQuery__SQLValueFunction *f, const char **name)
{
    static const char *const names[] = {
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_DATE] = "current_date",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP] = "current_timestamp",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP_N] = "current_timestamp",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIMESTAMP] = "localtimestamp",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_LOCALTIME] = "localtime",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_ROLE] = "current_role",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_USER] = "current_user",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_USER] = "user",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_SESSION_USER] = "session_user",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_CATALOG] = "current_catalog",
        [PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_SCHEMA] = "current_schema",
    };
    size_t op = (size_t)f->op;
    *name = op < ARRAY_LEN(names) ? names[op] : NULL;
    return *name == NULL ? 0 : 2;
}

/* a::int keeps the name a; 5::int is called by the type. */
static int cast_name(const PgQuery__TypeCast *cast, const char **name)
{
    int strength = figure_name(cast->arg, name);
    if (strength > 1) {
        return strength;
    }
    *name = pg_name(cast->type_name->names, cast->type_name->n_names, NULL);
    return 1;
}

/* CASE takes the name of its ELSE, when that insists on one. */
static int case_name(const PgQuery__CaseExpr *e, const char **name)
{
    int strength = e->defresult == NULL ? 0 : figure_name(e->defresult, name);
    if (strength > 1) {
        return strength;
    }
    *name = "case";
    return 1;
}

/* As PostgreSQL's FigureColnameInternal. Expressions without a name of their own are "?column?". */
static int figure_name(const pg_node *node, const char **name)
{
    ASSERT(node != NULL && name != NULL);
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        *name = pg_string(node->column_ref->fields[node->column_ref->n_fields - 1]);
        return 2;
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        *name = pg_name(node->func_call->funcname, node->func_call->n_funcname, NULL);
        return 2;
    case PG_QUERY__NODE__NODE_A_INDIRECTION: {
        const PgQuery__AIndirection *i = node->a_indirection;
        const pg_node *last = i->indirection[i->n_indirection - 1];
        bool field = last->node_case == PG_QUERY__NODE__NODE_STRING;
        *name = field ? pg_string(last) : *name;
        return field ? 2 : 0;
    }
    case PG_QUERY__NODE__NODE_A_EXPR:
        *name = "nullif";
        return node->a_expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF ? 2 : 0;
    case PG_QUERY__NODE__NODE_TYPE_CAST:
        return cast_name(node->type_cast, name);
    case PG_QUERY__NODE__NODE_COLLATE_CLAUSE:
        return figure_name(node->collate_clause->arg, name);
    case PG_QUERY__NODE__NODE_CASE_EXPR:
        return case_name(node->case_expr, name);
    case PG_QUERY__NODE__NODE_COALESCE_EXPR:
        *name = "coalesce";
        return 2;
    case PG_QUERY__NODE__NODE_MIN_MAX_EXPR:
        *name = node->min_max_expr->op == PG_QUERY__MIN_MAX_OP__IS_GREATEST ? "greatest" : "least";
        return 2;
    case PG_QUERY__NODE__NODE_A_ARRAY_EXPR:
        *name = "array";
        return 2;
    case PG_QUERY__NODE__NODE_ROW_EXPR:
        *name = "row";
        return 2;
    case PG_QUERY__NODE__NODE_GROUPING_FUNC:
        *name = "grouping";
        return 2;
    case PG_QUERY__NODE__NODE_SUB_LINK:
        return sublink_name(node->sub_link, name);
    case PG_QUERY__NODE__NODE_SQLVALUE_FUNCTION:
        return value_function_name(node->sqlvalue_function, name);
    default:
        return 0;
    }
}

/* name NULL: none was found. */
static void add_target(struct az *az, struct targets *t, struct sx *sx, const char *name)
{
    sxvec_push(az->arena, &t->sx, sx);
    *VEC_PUSH(t, names) = name == NULL ? "?column?" : name;
}

/* One relation's columns, at the place of the star. */
static void expand_item(struct az *az, struct targets *t, const struct nsitem *item, int location)
{
    ASSERT(item != NULL);
    for (uint32_t c = 0; c < item->cols_len; c++) {
        struct sx *sx = sx_col(az->arena, item->cols[c].at, item->cols[c].type);
        sx->location = location;
        add_target(az, t, sx, item->cols[c].name);
    }
}

/*
 * *, t.* or s.t.*; *star is false when the reference is none of them. Columns merged by USING
 * appear once: cols_visible of the joined items says so.
 */
static err_t expand_star(struct az *az, struct scope *scope, const PgQuery__ColumnRef *ref,
                         struct targets *t, bool *star)
{
    ASSERT(ref->n_fields > 0);
    size_t n = ref->n_fields;
    *star = n > 0 && ref->fields[n - 1]->node_case == PG_QUERY__NODE__NODE_A_STAR;
    if (!*star) {
        return ERR_OK;
    }
    const char *table = n >= 2 ? pg_string(ref->fields[n - 2]) : NULL;
    const char *schema = n >= 3 ? pg_string(ref->fields[n - 3]) : NULL;
    bool found = false;
    for (size_t i = 0; i < scope->items_len; i++) {
        const struct nsitem *item = scope->items[i];
        bool match = table == NULL ? item->cols_visible
                                   : item->rel_visible && item->alias != NULL &&
                                         strcmp(item->alias, table) == 0 &&
                                         (schema == NULL || (item->schema != NULL &&
                                                             strcmp(item->schema, schema) == 0));
        if (match) {
            found = true;
            expand_item(az, t, item, ref->location);
        }
    }
    if (found) {
        return ERR_OK;
    }
    if (table == NULL) {
        return az_err(az, ref->location, ERR_INVALID, "42601",
                      "SELECT * with no tables specified is not valid");
    }
    return az_no_table(az, scope, table, ref->location);
}

/* Select lists and RETURNING. */
static err_t target_list(struct az *az, struct scope *scope, pg_node **list, size_t len,
                         struct targets *t)
{
    for (size_t i = 0; i < len; i++) {
        const PgQuery__ResTarget *target = list[i]->res_target;
        if (target->val->node_case == PG_QUERY__NODE__NODE_COLUMN_REF) {
            bool star = false;
            TRY(expand_star(az, scope, target->val->column_ref, t, &star));
            if (star) {
                continue;
            }
        }
        struct sx *sx = NULL;
        TRY(live_expr(az, scope, target->val, &sx));
        if (sx->location < 0) {
            sx->location = pg_location(target->val);
        }
        const char *name = NULL;
        if (target->name[0] != '\0') {
            name = target->name;
        } else if (figure_name(target->val, &name) == 0) {
            name = NULL;
        }
        add_target(az, t, sx, name);
    }
    return ERR_OK;
}

/* RETURNING: a select list without a query. */
err_t az_targets(struct az *az, struct scope *scope, pg_node **list, size_t len, struct sxvec *out,
                 const char ***names)
{
    struct targets t = {0};
    err_t err = target_list(az, scope, list, len, &t);
    *out = t.sx;
    *names = arena_memdup(az->arena, t.names, t.names_len * sizeof(t.names[0]));
    free(t.names);
    return err;
}

/* ---- ORDER BY, GROUP BY, DISTINCT ON: finding expressions among the targets ------------------ */

/* ORDER BY 2: a constant is a position in the select list, never a value (SQL-92). */
static err_t ordinal(struct az *az, const pg_node *node, uint32_t visible, const char *clause,
                     uint32_t *out)
{
    ASSERT(node->node_case == PG_QUERY__NODE__NODE_A_CONST);
    const PgQuery__AConst *c = node->a_const;
    if (c->isnull || c->val_case != PG_QUERY__A__CONST__VAL_IVAL) {
        return az_err(az, c->location, ERR_INVALID, "42601", "non-integer constant in %s", clause);
    }
    if (c->ival->ival < 1 || (uint32_t)c->ival->ival > visible) {
        return az_err(az, c->location, ERR_INVALID, "42P10", "%s position %d is not in select list",
                      clause, c->ival->ival);
    }
    *out = (uint32_t)c->ival->ival - 1;
    return ERR_OK;
}

/* The name when the item is a single identifier: those may mean an output column. */
static const char *bare_name(const pg_node *node)
{
    if (node->node_case != PG_QUERY__NODE__NODE_COLUMN_REF || node->column_ref->n_fields != 1) {
        return NULL;
    }
    return pg_string(node->column_ref->fields[0]);
}

/* The target named so; UINT32_MAX when there is none. Two of the same expression are not
 * ambiguous. */
static err_t output_name(struct az *az, const struct targets *t, uint32_t visible, const char *name,
                         const char *clause, int location, uint32_t *out)
{
    ASSERT(visible <= t->sx.len);
    *out = UINT32_MAX;
    for (uint32_t i = 0; i < visible; i++) {
        if (strcmp(t->names[i], name) != 0) {
            continue;
        }
        if (*out != UINT32_MAX && !sx_same(t->sx.items[*out], t->sx.items[i])) {
            return az_err(az, location, ERR_INVALID, "42702", "%s \"%s\" is ambiguous", clause,
                          name);
        }
        *out = *out == UINT32_MAX ? i : *out;
    }
    return ERR_OK;
}

/* UINT32_MAX when no target is the same expression. Hidden ones count: they are shared as well. */
static uint32_t match_target(const struct targets *t, const struct sx *sx)
{
    for (uint32_t i = 0; i < t->sx.len; i++) {
        if (sx_same(t->sx.items[i], sx)) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* The index of a target an ORDER BY or DISTINCT ON item means, a hidden one if need be. An output
 * name goes before a column of FROM (SQL-92), the reverse of GROUP BY; an expression sees FROM's
 * columns only (SQL-99). scope NULL: a set operation, which has output names and nothing else. */
static err_t find_target(struct az *az, struct scope *scope, const pg_node *node, struct targets *t,
                         uint32_t visible, const char *clause, uint32_t *out)
{
    ASSERT(visible <= t->sx.len);
    if (node->node_case == PG_QUERY__NODE__NODE_A_CONST) {
        return ordinal(az, node, visible, clause, out);
    }
    if (bare_name(node) != NULL) {
        TRY(output_name(az, t, visible, bare_name(node), clause, pg_location(node), out));
        if (*out != UINT32_MAX) {
            return ERR_OK;
        }
    }
    if (scope == NULL) {
        err_t err = az_err(az, pg_location(node), ERR_UNSUPPORTED, "0A000",
                           "invalid UNION/INTERSECT/EXCEPT ORDER BY clause");
        err =
            err_detail(err, "Only result column names can be used, not expressions or functions.");
        return err_hint(err,
                        "Add the expression/function to every SELECT, or move the UNION into a "
                        "FROM clause.");
    }
    struct sx *sx = NULL;
    TRY(live_expr(az, scope, node, &sx));
    TRY(az_settle(az, sx, &sx));
    *out = match_target(t, sx);
    if (*out == UINT32_MAX) {
        *out = t->sx.len;
        add_target(az, t, sx, NULL);
    }
    return ERR_OK;
}

/* Hidden targets serve expressions that are not in the select list; equal ones are not repeated.
 * NULLs count as larger than everything: last when ascending, first when descending. */
static err_t sort_clause(struct az *az, struct scope *scope, pg_node **sort, size_t len,
                         struct targets *t, uint32_t visible, struct query *q)
{
    ASSERT(q->order_len == 0);
    q->order = ARENA_ARRAY(az->arena, struct plan_order, len);
    for (size_t i = 0; i < len; i++) {
        const PgQuery__SortBy *by = sort[i]->sort_by;
        struct plan_order *o = &q->order[q->order_len];
        TRY(az_sort_flags(az, by, o));
        TRY(find_target(az, scope, by->node, t, visible, "ORDER BY", &o->col));
        TRY(az_check_sortable(az, t->sx.items[o->col]));
        bool repeated = false;
        for (uint32_t j = 0; j < q->order_len; j++) {
            repeated = repeated || q->order[j].col == o->col;
        }
        q->order_len += repeated ? 0 : 1;
    }
    return ERR_OK;
}

/* Subqueries are not entered: an aggregate in one is its own. */
static const struct sx *find_aggregate(const struct sx *sx)
{
    const struct sx *found = sx->kind == SX_AGG ? sx : NULL;
    for (uint32_t i = 0; i < sx->args_len && found == NULL; i++) {
        found = find_aggregate(sx->args[i]);
    }
    return found;
}

/*
 * One expression of GROUP BY, as an index into groups; equal ones are one. A bare name is a column
 * of FROM before it is an output name, the reverse of ORDER BY (SQL-92 against SQL-99; PostgreSQL
 * keeps both). What is grouped by may not hold aggregates.
 */
static err_t group_expr(struct az *az, struct scope *scope, const pg_node *node, struct targets *t,
                        uint32_t visible, struct sxvec *groups, uint32_t *index)
{
    struct sx *sx = NULL;
    uint32_t at = UINT32_MAX;
    ASSERT(visible <= t->sx.len);
    if (node->node_case == PG_QUERY__NODE__NODE_A_CONST) {
        TRY(ordinal(az, node, visible, "GROUP BY", &at));
    } else if (bare_name(node) != NULL) {
        err_t err = az_column(az, scope, NULL, NULL, bare_name(node), pg_location(node), &sx);
        if (err != ERR_OK && strcmp(err_sqlstate(err), "42703") == 0) {
            err_t named = output_name(az, t, visible, bare_name(node), "GROUP BY",
                                      pg_location(node), &at);
            if (named != ERR_OK || at != UINT32_MAX) {
                err_free(err);
                err = named;
            }
        }
        TRY(err);
    } else {
        TRY(live_expr(az, scope, node, &sx));
    }
    sx = at != UINT32_MAX ? t->sx.items[at] : sx;
    const struct sx *agg = at == UINT32_MAX ? NULL : find_aggregate(sx);
    if (agg != NULL) {
        return az_err(az, agg->location, ERR_INVALID, "42803",
                      "aggregate functions are not allowed in GROUP BY");
    }
    TRY(az_settle(az, sx, &sx));
    if (at != UINT32_MAX) {
        t->sx.items[at] = sx;
    }
    *index = 0;
    while (*index < groups->len && !sx_same(groups->items[*index], sx)) {
        (*index)++;
    }
    if (*index == groups->len) {
        sxvec_push(az->arena, groups, sx);
    }
    return ERR_OK;
}

/*
 * What GROUP BY is about while it is read: groups grows, and targets that are named by it are
 * settled to a type.
 */
struct group_by {
    struct az *az;
    struct scope *scope;
    struct targets *targets;
    uint32_t visible;
    struct sxvec *groups;
};

/* a, or (a, b), which is a and b: the groups it adds to a set, as bits. */
static err_t group_mask(struct group_by *by, const pg_node *node, uint64_t *mask)
{
    bool row = node->node_case == PG_QUERY__NODE__NODE_ROW_EXPR;
    size_t len = row ? node->row_expr->n_args : 1;
    for (size_t i = 0; i < len; i++) {
        uint32_t index = 0;
        const pg_node *item = row ? node->row_expr->args[i] : node;
        TRY(group_expr(by->az, by->scope, item, by->targets, by->visible, by->groups, &index));
        if (mask != NULL && index >= GROUP_SETS_GROUPS_MAX) {
            return AZ_UNSUPPORTED(by->az, pg_location(item),
                                  "grouping sets of more than %d expressions are not supported",
                                  GROUP_SETS_GROUPS_MAX);
        }
        if (mask != NULL) {
            *mask |= 1ULL << index;
        }
    }
    return ERR_OK;
}

/* Room for so many sets, all empty; PostgreSQL's bound and words when there are too many. */
static err_t new_sets(struct group_by *by, uint64_t len, int location, struct group_sets *out)
{
    ASSERT(out != NULL);
    if (len > GROUP_SETS_MAX) {
        return az_err(by->az, location, ERR_LIMIT, "54001",
                      "too many grouping sets present (maximum %d)", GROUP_SETS_MAX);
    }
    *out = (struct group_sets){.len = (uint32_t)len};
    out->masks = ARENA_ARRAY(by->az->arena, uint64_t, len);
    return ERR_OK;
}

/* ROLLUP (a, b): {ab, a, {}}. CUBE (a, b): every subset. An element may be a list, (a, b), which
 * comes and goes as one. */
static err_t rollup_or_cube(struct group_by *by, const PgQuery__GroupingSet *set,
                            struct group_sets *out)
{
    ASSERT(set->kind == PG_QUERY__GROUPING_SET_KIND__GROUPING_SET_ROLLUP ||
           set->kind == PG_QUERY__GROUPING_SET_KIND__GROUPING_SET_CUBE);
    bool cube = set->kind == PG_QUERY__GROUPING_SET_KIND__GROUPING_SET_CUBE;
    size_t n = set->n_content;
    if (cube && n > 12) {
        return az_err(by->az, set->location, ERR_LIMIT, "54001",
                      "CUBE is limited to 12 elements");
    }
    uint64_t *items = ARENA_ARRAY(by->az->arena, uint64_t, n);
    for (size_t i = 0; i < n; i++) {
        TRY(group_mask(by, set->content[i], &items[i]));
    }
    TRY(new_sets(by, cube ? 1ULL << n : n + 1, set->location, out));
    for (uint32_t s = 0; s < out->len; s++) {
        for (size_t i = 0; i < n; i++) {
            bool in = cube ? (s >> i & 1) == 0 : i + s < n;
            out->masks[s] |= in ? items[i] : 0;
        }
    }
    return ERR_OK;
}

/* The sets an item of GROUP BY stands for: one, or those of ROLLUP, CUBE or GROUPING SETS. */
static err_t sets_of(struct group_by *by, const pg_node *node, struct group_sets *out)
{
    if (node->node_case != PG_QUERY__NODE__NODE_GROUPING_SET) {
        TRY(new_sets(by, 1, -1, out));
        return group_mask(by, node, &out->masks[0]);
    }
    const PgQuery__GroupingSet *set = node->grouping_set;
    if (set->kind == PG_QUERY__GROUPING_SET_KIND__GROUPING_SET_EMPTY) {
        return new_sets(by, 1, -1, out);
    }
    if (set->kind != PG_QUERY__GROUPING_SET_KIND__GROUPING_SET_SETS) {
        return rollup_or_cube(by, set, out);
    }
    struct group_sets *parts = ARENA_ARRAY(by->az->arena, struct group_sets, set->n_content);
    uint64_t total = 0;
    TRY(az_enter(by->az));
    for (size_t i = 0; i < set->n_content; i++) {
        TRY(sets_of(by, set->content[i], &parts[i]));
        total += parts[i].len;
    }
    az_leave(by->az);
    TRY(new_sets(by, total, set->location, out));
    uint32_t at = 0;
    for (size_t i = 0; i < set->n_content; i++) {
        for (uint32_t s = 0; s < parts[i].len; s++) {
            out->masks[at++] = parts[i].masks[s];
        }
    }
    ASSERT(at == out->len);
    return ERR_OK;
}

/* GROUP BY DISTINCT: each set once. */
static void distinct_sets(struct group_sets *sets)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sets->len; i++) {
        uint32_t j = 0;
        while (j < kept && sets->masks[j] != sets->masks[i]) {
            j++;
        }
        sets->masks[kept] = sets->masks[i];
        kept += j == kept ? 1 : 0;
    }
    ASSERT(kept <= sets->len);
    sets->len = kept;
}

/* GROUP BY () counts: it is a set without groups. */
static bool has_sets(const PgQuery__SelectStmt *s)
{
    bool any = false;
    for (size_t i = 0; i < s->n_group_clause; i++) {
        any = any || s->group_clause[i]->node_case == PG_QUERY__NODE__NODE_GROUPING_SET;
    }
    return any;
}

/*
 * GROUP BY a, ROLLUP (b) groups by the combinations of its items' sets: {ab, a}. Without grouping
 * sets there is one set, of all groups, and sets->len is 0.
 */
static err_t group_clause(struct group_by *by, const PgQuery__SelectStmt *s,
                          struct group_sets *sets)
{
    ASSERT(by->groups->len == 0);
    bool any = has_sets(s);
    by->scope->no_aggs = "GROUP BY";
    *sets = (struct group_sets){.len = 0};
    if (any) {
        TRY(new_sets(by, 1, -1, sets));
    }
    for (size_t i = 0; i < s->n_group_clause; i++) {
        const pg_node *node = s->group_clause[i];
        struct group_sets item, product;
        if (!any) {
            TRY(group_mask(by, node, NULL));
            continue;
        }
        TRY(sets_of(by, node, &item));
        TRY(new_sets(by, (uint64_t)sets->len * item.len, pg_location(node), &product));
        for (uint32_t k = 0; k < product.len; k++) {
            product.masks[k] = sets->masks[k / item.len] | item.masks[k % item.len];
        }
        *sets = product;
    }
    if (any && s->group_distinct) {
        distinct_sets(sets);
    }
    by->scope->no_aggs = NULL;
    return ERR_OK;
}

/* ---- LIMIT ----------------------------------------------------------------------------------- */

/*
 * LIMIT and OFFSET as constants: they are part of the plan. *out stays as it is for NULL (no limit)
 * and for a parameter whose value is not known while describing.
 */
err_t az_limit(struct az *az, const pg_node *node, const char *what, int64_t *out)
{
    struct scope scope = {.no_aggs = what};
    struct sx *sx = NULL;
    TRY(az_expr(az, &scope, node, &sx));
    TRY(az_coerce(az, sx, type_of(TYPE_INT8), CAST_ASSIGNMENT, &sx));
    sx = sx_fold(az->arena, sx);
    if (sx_is_param(sx) && az->describe) {
        return ERR_OK;
    }
    if (sx->kind != SX_LIT) {
        return AZ_UNSUPPORTED(az, pg_location(node), "%s must be a constant", what);
    }
    if (sx->lit.null) {
        return ERR_OK;
    }
    if (sx->lit.i < 0) {
        return err_sql(ERR_INVALID, strcmp(what, "LIMIT") == 0 ? "2201W" : "2201X",
                       "%s must not be negative", what);
    }
    *out = sx->lit.i;
    return ERR_OK;
}

/* The order decides which rows there are. */
static err_t order_chooses(struct az *az, const struct query *q)
{
    for (uint32_t i = 0; i < q->order_len; i++) {
        uint32_t col = q->order[i].col;
        const struct type *type =
            q->targets != NULL ? &q->targets[col]->type : &q->rel->types[col];
        TRY(az_check_kept_order(az, type, q->targets != NULL ? sx_location(q->targets[col]) : -1));
    }
    return ERR_OK;
}

/* q->limit is -1, q->offset 0 before. */
static err_t limit_clause(struct az *az, const PgQuery__SelectStmt *s, struct query *q)
{
    ASSERT(q->limit == -1 && q->offset == 0);
    bool ties = s->limit_option == PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_WITH_TIES;
    if (s->limit_offset != NULL) {
        TRY(az_limit(az, s->limit_offset, "OFFSET", &q->offset));
    }
    if (s->limit_count != NULL) {
        const pg_node *count = s->limit_count;
        if (ties && count->node_case == PG_QUERY__NODE__NODE_A_CONST && count->a_const->isnull) {
            return err_sql(ERR_INVALID, "2201W",
                           "row count cannot be null in FETCH FIRST ... WITH TIES clause");
        }
        TRY(az_limit(az, count, "LIMIT", &q->limit));
    }
    q->ties = ties && q->limit >= 0;
    return q->limit > 0 || q->offset > 0 ? order_chooses(az, q) : ERR_OK;
}

/* ---- DISTINCT -------------------------------------------------------------------------------- */

/* The columns DISTINCT ON tells rows apart by, as indexes of targets. */
static err_t distinct_on(struct az *az, struct scope *scope, const PgQuery__SelectStmt *s,
                         struct targets *t, uint32_t visible, const struct query *q,
                         uint32_t **keys)
{
    ASSERT(s->n_distinct_clause > 0);
    *keys = ARENA_ARRAY(az->arena, uint32_t, s->n_distinct_clause);
    for (size_t i = 0; i < s->n_distinct_clause; i++) {
        TRY(find_target(az, scope, s->distinct_clause[i], t, visible, "DISTINCT ON", &(*keys)[i]));
    }
    /* The first ORDER BY items must be the DISTINCT ON ones, in any order. */
    for (uint32_t o = 0; o < q->order_len && o < s->n_distinct_clause; o++) {
        bool among = false;
        for (size_t i = 0; i < s->n_distinct_clause; i++) {
            among = among || (*keys)[i] == q->order[o].col;
        }
        if (!among) {
            return az_err(az, pg_location(s->distinct_clause[0]), ERR_INVALID, "42P10",
                          "SELECT DISTINCT ON expressions must match initial ORDER BY expressions");
        }
    }
    return ERR_OK;
}

/* DISTINCT ON keeps the first row of each group in ORDER BY's order: a top-1 by group. Plain
 * DISTINCT needs every ORDER BY expression in the select list, or the order would depend on which
 * of the equal rows is kept. */
static err_t distinct_clause(struct az *az, const PgQuery__SelectStmt *s, uint32_t *keys,
                             struct query *q)
{
    /* A bare DISTINCT is a list of one empty node. */
    bool plain = s->n_distinct_clause > 0 &&
                 s->distinct_clause[0]->node_case == PG_QUERY__NODE__NODE__NOT_SET;
    if (s->n_distinct_clause == 0) {
        return ERR_OK;
    }
    if (!plain) {
        TRY(az_query_finish(az, q, NULL));
        TRY(order_chooses(az, q));
        q->rel = rel_topk(az->arena, q->rel, keys, (uint32_t)s->n_distinct_clause, q->order,
                          q->order_len, 1, 0);
        return ERR_OK;
    }
    if (q->targets_len > q->cols_len) {
        return az_err(az, sx_location(q->targets[q->cols_len]), ERR_INVALID, "42P10",
                      "for SELECT DISTINCT, ORDER BY expressions must appear in select list");
    }
    TRY(az_query_finish(az, q, NULL));
    q->rel = rel_distinct(az->arena, q->rel);
    return ERR_OK;
}

/* ---- SELECT ---------------------------------------------------------------------------------- */

/* Split into conjuncts at once: pushdown moves each on its own. */
static err_t where_clause(struct az *az, struct scope *scope, const pg_node *node, struct rel **rel)
{
    if (node == NULL) {
        return ERR_OK;
    }
    struct sx *sx = NULL;
    scope->no_aggs = "WHERE";
    TRY(live_bool(az, scope, node, "WHERE", &sx));
    scope->no_aggs = NULL;
    *rel = rel_filter1(az->arena, *rel, sx);
    return ERR_OK;
}

/*
 * The order in which PostgreSQL analyses the clauses, so that of several errors the same one is
 * reported.
 */
static err_t select_clauses(struct az *az, struct scope *scope, PgQuery__SelectStmt *s,
                            struct targets *t, struct rel *rel, struct query *q)
{
    ASSERT(rel != NULL && t->sx.len == 0);
    struct sxvec groups = {0};
    struct sx *having = NULL;
    uint32_t *keys = NULL;
    TRY(where_clause(az, scope, s->where_clause, &rel));
    TRY(target_list(az, scope, s->target_list, s->n_target_list, t));
    uint32_t visible = t->sx.len;
    if (visible > BATCH_COLS_MAX) {
        return az_err(az, -1, ERR_LIMIT, "54011", "target lists can have at most %d entries",
                      BATCH_COLS_MAX);
    }
    struct group_by by = {
        .az = az, .scope = scope, .targets = t, .visible = visible, .groups = &groups};
    struct group_sets sets;
    TRY(group_clause(&by, s, &sets));
    if (s->having_clause != NULL) {
        scope->no_windows = "HAVING";
        TRY(live_bool(az, scope, s->having_clause, "HAVING", &having));
        scope->no_windows = NULL;
    }
    TRY(sort_clause(az, scope, s->sort_clause, s->n_sort_clause, t, visible, q));
    bool on = s->n_distinct_clause > 0 &&
              s->distinct_clause[0]->node_case != PG_QUERY__NODE__NODE__NOT_SET;
    if (on) {
        TRY(distinct_on(az, scope, s, t, visible, q, &keys));
    }
    TRY(az_group_tables(az, &groups, &t->sx, &having, &rel));
    if (s->n_group_clause > 0 || having != NULL || scope->aggs_seen > 0) {
        bool grouped = s->n_group_clause > 0;
        TRY(az_group(az, scope, &groups, grouped, &sets, &t->sx, &having, &rel));
        if (having != NULL) {
            rel = rel_filter1(az->arena, rel, having);
        }
    }
    az_windows(az, &t->sx, &rel);
    TRY(az_tables(az, &t->sx, &rel));
    /* Targets and order refer to the relation as grouping, windows and flat maps left it. */
    q->rel = rel;
    q->targets = t->sx.items;
    q->targets_len = t->sx.len;
    if (q->targets == NULL) {
        q->targets = ARENA_ARRAY(az->arena, struct sx *, 1);
    }
    q->cols_len = visible;
    q->names = arena_memdup(az->arena, t->names, t->names_len * sizeof(t->names[0]));
    TRY(distinct_clause(az, s, keys, q));
    return limit_clause(az, s, q);
}

/*
 * FROM first: everything else refers to its scope. `dead` is counted while the clauses are
 * analysed, see live_expr.
 */
static err_t plain_select(struct az *az, PgQuery__SelectStmt *s, struct scope *parent,
                          uint32_t hide, struct query *q)
{
    if (s->n_locking_clause > 0) {
        return AZ_UNSUPPORTED(az, -1, "FOR UPDATE and FOR SHARE are not supported");
    }
    struct scope scope = {.parent = parent,
                          .hide = hide,
                          .has_windows = true,
                          .has_tables = true,
                          .windows = s->window_clause,
                          .windows_len = s->n_window_clause};
    struct rel *rel = NULL;
    TRY(az_from(az, &scope, s->from_clause, s->n_from_clause, &rel));
    /* A column that is grouped by in some sets only is NULL in the others. */
    for (size_t i = 0; i < scope.items_len && has_sets(s); i++) {
        for (uint32_t c = 0; c < scope.items[i]->cols_len; c++) {
            scope.items[i]->cols[c].type.nullable = true;
        }
    }
    bool dead = s->n_from_clause > 0 && az_is_dead(rel);
    az->dead += dead ? 1 : 0;
    struct targets t = {0};
    err_t err = select_clauses(az, &scope, s, &t, rel, q);
    free(t.names);
    az->dead -= dead ? 1 : 0;
    return err;
}

/* ---- VALUES ---------------------------------------------------------------------------------- */

/* All cells first, then column by column: the type of a column is that of its rows together. */
static err_t value_rows(struct az *az, struct scope *scope, pg_node **lists, size_t len,
                        const struct type *want, uint32_t want_len, uint32_t cols,
                        struct sx **cells)
{
    ASSERT(cols > 0 || len > 0);
    scope->no_aggs = "VALUES";
    for (size_t r = 0; r < len; r++) {
        const PgQuery__List *list = lists[r]->list;
        if (list->n_items != cols) {
            return az_err(az, pg_location(list->items[0]), ERR_INVALID, "42601",
                          "VALUES lists must all be the same length");
        }
        for (uint32_t c = 0; c < cols; c++) {
            TRY(az_expr(az, scope, list->items[c], &cells[r * cols + c]));
        }
    }
    struct sx **column = ARENA_ARRAY(az->arena, struct sx *, len);
    for (uint32_t c = 0; c < cols; c++) {
        for (size_t r = 0; r < len; r++) {
            column[r] = cells[r * cols + c];
        }
        struct type type;
        bool wanted = want != NULL && c < want_len;
        if (wanted) {
            type = want[c];
        } else {
            TRY(az_common_type(az, column, (uint32_t)len, "VALUES", &type));
        }
        for (size_t r = 0; r < len; r++) {
            TRY(az_coerce(az, column[r], type, wanted ? CAST_ASSIGNMENT : CAST_IMPLICIT,
                          &cells[r * cols + c]));
        }
    }
    return ERR_OK;
}

/* len rows; each list has as many items as the first, or it is 42601. */
err_t az_values(struct az *az, struct scope *scope, pg_node **lists, size_t len,
                const struct type *want, uint32_t want_len, struct rel **out)
{
    ASSERT(len > 0);
    uint32_t cols = (uint32_t)lists[0]->list->n_items;
    struct sx **cells = ARENA_ARRAY(az->arena, struct sx *, len * cols);
    TRY(value_rows(az, scope, lists, len, want, want_len, cols, cells));
    return az_cells(az, cells, len, cols, out);
}

/* Halves of halves, not a chain: passes recurse as deep as the tree is, and VALUES may be long. */
static struct rel *union_rows(struct az *az, struct sx **cells, size_t len, uint32_t cols)
{
    ASSERT(len > 0);
    if (len == 1) {
        return rel_map(az->arena, rel_unit(az->arena), cells, cols);
    }
    size_t half = len / 2;
    return rel_union2(az->arena, union_rows(az, cells, half, cols),
                      union_rows(az, cells + half * cols, len - half, cols));
}

/*
 * Constants are what VALUES nearly always has: they become one node with rows. Otherwise every row
 * is a map of the unit relation, and the rows a union.
 */
err_t az_cells(struct az *az, struct sx **cells, size_t len, uint32_t cols, struct rel **out)
{
    ASSERT(len > 0);
    size_t cells_len = len * cols;
    struct type *types = ARENA_ARRAY(az->arena, struct type, cols);
    bool literal = true;
    for (size_t i = 0; i < cells_len; i++) {
        cells[i] = sx_fold(az->arena, cells[i]);
        literal = literal && cells[i]->kind == SX_LIT;
        struct type *type = &types[i % cols];
        bool nullable = type->nullable || cells[i]->type.nullable;
        *type = i < cols ? cells[i]->type : *type;
        type->nullable = nullable;
    }
    if (literal) {
        struct rel *rel = rel_empty(az->arena, types, cols);
        rel->rows = ARENA_ARRAY(az->arena, struct datum, cells_len);
        rel->rows_len = (uint32_t)len;
        for (size_t i = 0; i < cells_len; i++) {
            rel->rows[i] = cells[i]->lit;
        }
        *out = rel;
        return ERR_OK;
    }
    *out = union_rows(az, cells, len, cols);
    return ERR_OK;
}

/* VALUES as a query of its own: the columns are called column1, column2, ... */
static err_t values_query(struct az *az, PgQuery__SelectStmt *s, struct scope *parent,
                          uint32_t hide, struct query *q)
{
    ASSERT(s->n_values_lists > 0);
    struct scope scope = {.parent = parent, .hide = hide};
    TRY(az_values(az, &scope, s->values_lists, s->n_values_lists, NULL, 0, &q->rel));
    q->cols_len = q->rel->cols_len;
    q->names = ARENA_ARRAY(az->arena, const char *, q->cols_len);
    struct targets t = {0};
    for (uint32_t i = 0; i < q->cols_len; i++) {
        q->names[i] = arena_printf(az->arena, "column%u", i + 1);
        add_target(az, &t, sx_col(az->arena, i, q->rel->types[i]), q->names[i]);
    }
    err_t err = sort_clause(az, NULL, s->sort_clause, s->n_sort_clause, &t, q->cols_len, q);
    free(t.names);
    TRY(err);
    return limit_clause(az, s, q);
}

/* ---- set operations -------------------------------------------------------------------------- */

/* As PostgreSQL's messages say it. */
static const char *set_name(PgQuery__SetOperation op)
{
    return op == PG_QUERY__SET_OPERATION__SETOP_UNION    ? "UNION"
           : op == PG_QUERY__SET_OPERATION__SETOP_EXCEPT ? "EXCEPT"
                                                         : "INTERSECT";
}

/* A column of an arm, finished or not: an untyped literal must still be seen as one. */
static struct sx *column_of(struct az *az, const struct query *q, uint32_t i)
{
    ASSERT(i < q->cols_len);
    if (q->targets != NULL) {
        return q->targets[i];
    }
    return sx_col(az->arena, i, q->rel->types[i]);
}

/* Brings the arm's columns to the common types. An arm with LIMIT of its own, (SELECT ... LIMIT 1)
 * UNION ..., becomes a top-k here. */
static err_t convert_arm(struct az *az, struct query *q, const struct type *types, struct rel **out)
{
    ASSERT(types != NULL || q->cols_len == 0);
    TRY(az_query_finish(az, q, types));
    struct rel *rel = az_query_rel(az, q);
    struct sxvec maps = {0};
    uint32_t *cols = ARENA_ARRAY(az->arena, uint32_t, q->cols_len);
    for (uint32_t i = 0; i < q->cols_len; i++) {
        cols[i] = i;
        if (rel->types[i].kind != types[i].kind) {
            struct sx *sx = sx_col(az->arena, i, rel->types[i]);
            TRY(az_coerce(az, sx, types[i], CAST_IMPLICIT, &sx));
            cols[i] = rel->cols_len + maps.len;
            sxvec_push(az->arena, &maps, sx);
        }
    }
    rel = rel_map(az->arena, rel, maps.items, maps.len);
    *out = rel_project(az->arena, rel, cols, q->cols_len);
    return ERR_OK;
}

/* EXCEPT and INTERSECT stay REL_SET until lowering knows the outer columns they must keep apart. */
static struct rel *combine(struct az *az, PgQuery__SetOperation op, bool all, struct rel *l,
                           struct rel *r)
{
    ASSERT(l->cols_len == r->cols_len);
    if (op == PG_QUERY__SET_OPERATION__SETOP_UNION) {
        struct rel *both = rel_union2(az->arena, l, r);
        return all ? both : rel_distinct(az->arena, both);
    }
    struct rel *rel = rel_union2(az->arena, l, r);
    rel->kind = REL_SET;
    bool except = op == PG_QUERY__SET_OPERATION__SETOP_EXCEPT;
    rel->set =
        except ? (all ? REL_EXCEPT_ALL : REL_EXCEPT) : (all ? REL_INTERSECT_ALL : REL_INTERSECT);
    return rel;
}

/*
 * Untyped literals take the other arm's type, hence both arms are analysed before either is
 * finished.
 */
static err_t set_query(struct az *az, PgQuery__SelectStmt *s, struct scope *parent, uint32_t hide,
                       struct query *q)
{
    struct query left, right;
    TRY(az_select(az, s->larg, parent, hide, &left));
    TRY(az_select(az, s->rarg, parent, hide, &right));
    if (left.cols_len != right.cols_len) {
        int location =
            right.targets != NULL && right.cols_len > 0 ? sx_location(right.targets[0]) : -1;
        return az_err(az, location, ERR_INVALID, "42601",
                      "each %s query must have the same number of columns", set_name(s->op));
    }
    struct type *types = ARENA_ARRAY(az->arena, struct type, left.cols_len);
    for (uint32_t i = 0; i < left.cols_len; i++) {
        struct sx *both[2] = {column_of(az, &left, i), column_of(az, &right, i)};
        TRY(az_common_type(az, both, 2, set_name(s->op), &types[i]));
    }
    struct rel *l = NULL, *r = NULL;
    TRY(convert_arm(az, &left, types, &l));
    TRY(convert_arm(az, &right, types, &r));
    q->rel = combine(az, s->op, s->all, l, r);
    for (uint32_t i = 0; i < left.cols_len; i++) {
        /* The common type for the client, the set's own idea of NULLs. */
        types[i].nullable = q->rel->types[i].nullable;
        q->rel->types[i] = types[i];
    }
    q->cols_len = left.cols_len;
    q->names = left.names;
    struct targets t = {0};
    for (uint32_t i = 0; i < q->cols_len; i++) {
        add_target(az, &t, sx_col(az->arena, i, types[i]), q->names[i]);
    }
    err_t err = sort_clause(az, NULL, s->sort_clause, s->n_sort_clause, &t, q->cols_len, q);
    free(t.names);
    TRY(err);
    return limit_clause(az, s, q);
}

/* The common table expressions of WITH are visible until the end of the query they belong to. */
err_t az_select(struct az *az, PgQuery__SelectStmt *s, struct scope *parent, uint32_t hide,
                struct query *out)
{
    ASSERT(s != NULL);
    *out = (struct query){.limit = -1};
    TRY(az_enter(az));
    struct cte *ctes = az->ctes;
    err_t err = ERR_OK;
    if (s->with_clause != NULL) {
        err = az_with(az, s->with_clause, parent, hide);
    }
    if (err == ERR_OK && s->into_clause != NULL) {
        err = AZ_UNSUPPORTED(az, -1, "SELECT INTO is not supported");
    }
    if (err == ERR_OK) {
        if (s->op != PG_QUERY__SET_OPERATION__SETOP_NONE &&
            s->op != PG_QUERY__SET_OPERATION__SET_OPERATION_UNDEFINED) {
            err = set_query(az, s, parent, hide, out);
        } else if (s->n_values_lists > 0) {
            err = values_query(az, s, parent, hide, out);
        } else {
            err = plain_select(az, s, parent, hide, out);
        }
    }
    az->ctes = ctes;
    az_leave(az);
    return err;
}

/* Any node that stands where a query may stand. */
err_t az_query(struct az *az, const pg_node *node, struct scope *parent, uint32_t hide,
               struct query *out)
{
    ASSERT(node != NULL);
    if (node->node_case != PG_QUERY__NODE__NODE_SELECT_STMT) {
        return AZ_UNSUPPORTED(az, -1, "this statement cannot be used as a query");
    }
    return az_select(az, node->select_stmt, parent, hide, out);
}
