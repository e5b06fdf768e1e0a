/*
 * FROM: relations, subqueries, functions, joins, common table expressions.
 *
 * A FROM item yields a relation and names for its columns (struct nsitem). Items are put side by
 * side: the relation of `a, b` has a's columns, then b's, and nscol.at says where a name's column
 * stands. A name that USING merged is a column of an unnamed item that hides the two it came from.
 *
 * The right side of every join is analysed as if it were LATERAL: one scope deeper than its left
 * side. What is not LATERAL may not see that scope (scope.hide), but counts it in its levels, so
 * that lowering treats all joins alike:
 *
 *   FROM t, LATERAL (SELECT t.a + s.x FROM s) q      t.a is column 0 of level 1
 *   FROM t, (SELECT x FROM s WHERE s.y = o.z) q      o, outside, is level 2: t's scope counts too
 *
 * Views are analysed from their text each time a statement names them, once per statement
 * (az->relations), and without positions: an error in a view is not an error of the statement's
 * text.
 *
 * Entry points: az_from, az_with, az_relation_rel.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/*
 * What a FROM item came to. `items` are freed by whoever made the list, the nsitems live in the
 * arena.
 */
struct items {
    struct rel *rel;
    struct nsitem **items;
    size_t items_len, items_cap;
};

/* What a FROM item may see: temporary scopes of what stands to its left, `hide` of them, above
 * the query's own parent. */
struct above {
    struct scope *scope;
    uint32_t hide;
};

static err_t from_node(struct az *az, struct above above, pg_node *node, struct items *out);

static void items_free(struct items *items)
{
    free(items->items);
    items->items = NULL;
    items->items_len = items->items_cap = 0;
}

/* ---- relations ------------------------------------------------------------------------------- */

/*
 * The definition was written by sql_plan_ddl with every name qualified; that it does not parse any
 * more, or has other columns, is our bug and not the user's. Everything that belongs to the
 * statement around it (common table expressions, parameters, positions) is invisible inside.
 */
static err_t view_rel(struct az *az, const struct sql_relation *relation, struct rel **out)
{
    ASSERT(relation->kind == SQL_REL_VIEW || relation->kind == SQL_REL_MATERIALIZED_VIEW);
    if (relation->definition == NULL) {
        return err_new(ERR_INTERNAL, "view \"%s\" has no definition", relation->name);
    }
    struct sql_script *script = NULL;
    TRY(err_wrap(sql_parse(relation->definition, strlen(relation->definition), &script),
                 "view \"%s\"", relation->name));
    *VEC_PUSH(az, scripts) = script;
    if (script->stmts_len != 1 || script->stmts[0]->kind != SQL_SELECT) {
        return err_new(ERR_INTERNAL, "view \"%s\" is not defined by a query", relation->name);
    }
    const char *text = az->text;
    struct cte *ctes = az->ctes;
    bool macro = az->macro, qualify = az->qualify;
    uint32_t dead = az->dead;
    az->text = NULL;
    az->ctes = NULL;
    az->macro = az->qualify = false;
    az->dead = 0; /* the view is remembered, for those too to whom its errors matter */
    az->view_depth++;
    struct query query;
    err_t err = az_query(az, script->stmts[0]->ast->node, NULL, 0, &query);
    az->view_depth--;
    az->dead = dead;
    az->text = text;
    az->ctes = ctes;
    az->macro = macro;
    az->qualify = qualify;
    if (err == ERR_OK) {
        err = az_query_finish(az, &query, NULL);
    }
    TRY(err_wrap(err, "view \"%s\"", relation->name));
    *out = az_query_rel(az, &query);
    if ((*out)->cols_len != relation->columns.cols) {
        return err_new(ERR_INTERNAL, "view \"%s\" has changed its columns", relation->name);
    }
    return ERR_OK;
}

/* An index on the cluster goes before everything, then what is stored, then the definition. Rows of
 * catalog tables are taken now: they are as of the planning of the statement. */
static err_t build_relation(struct az *az, const struct sql_relation *relation, struct rel **out)
{
    ASSERT(relation->kind >= SQL_REL_TABLE && relation->kind <= SQL_REL_VIRTUAL);
    const struct schema *columns = &relation->columns;
    if (relation->kind == SQL_REL_VIRTUAL) {
        struct rel *rel = rel_empty(az->arena, columns->types, columns->cols);
        rel->relation = relation;
        TRY(az->cx->catalog->virtual_rows(az->cx->catalog_ctx, relation, az->arena, &rel->rows,
                                          &rel->rows_len));
        *out = rel;
        return ERR_OK;
    }
    bool stored = relation->kind == SQL_REL_TABLE || relation->kind == SQL_REL_SOURCE;
    if (stored || relation->indexes_len > 0) {
        struct rel *rel = rel_new(az->arena, REL_GET, columns->cols);
        memcpy(rel->types, columns->types, columns->cols * sizeof(columns->types[0]));
        rel->relation = relation;
        rel->is_index = relation->indexes_len > 0;
        rel->id = rel->is_index ? relation->indexes[0].id : relation->id;
        *out = rel;
        return ERR_OK;
    }
    return view_rel(az, relation, out);
}

/* The same node for every mention: lowering and emission share what is shared by address. */
err_t az_relation_rel(struct az *az, const struct sql_relation *relation, struct rel **out)
{
    ASSERT(relation->kind != SQL_REL_INDEX);
    *out = u64map_get(&az->relations, relation->id);
    if (*out != NULL) {
        return ERR_OK;
    }
    TRY(az_enter(az));
    err_t err = build_relation(az, relation, out);
    az_leave(az);
    if (err == ERR_OK) {
        rel_close(*out);
        u64map_put(&az->relations, relation->id, *out);
    }
    return err;
}

/* ---- aliases --------------------------------------------------------------------------------- */

/* AS t (x, y): columns without a new name keep theirs. */
static err_t apply_alias(struct nsitem *item, const PgQuery__Alias *alias)
{
    if (alias == NULL) {
        return ERR_OK;
    }
    item->alias = alias->aliasname;
    item->schema = NULL;
    item->rel_visible = true;
    if (alias->n_colnames > item->cols_len) {
        return err_sql(ERR_INVALID, "42P10",
                       "table \"%s\" has %u columns available but %zu columns specified",
                       item->alias, item->cols_len, alias->n_colnames);
    }
    for (size_t i = 0; i < alias->n_colnames; i++) {
        item->cols[i].name = pg_string(alias->colnames[i]);
    }
    return ERR_OK;
}

/* Two items of one name are 42712, unless their schemas tell them apart. */
static err_t add_item(struct az *az, struct items *out, struct nsitem *item, int location)
{
    ASSERT(item != NULL);
    for (size_t i = 0; i < out->items_len; i++) {
        const struct nsitem *o = out->items[i];
        bool both = o->alias != NULL && item->alias != NULL && o->rel_visible && item->rel_visible;
        if (both && strcmp(o->alias, item->alias) == 0 &&
            (o->schema == NULL || item->schema == NULL || strcmp(o->schema, item->schema) == 0)) {
            return az_err(az, location, ERR_INVALID, "42712",
                          "table name \"%s\" specified more than once", item->alias);
        }
    }
    *VEC_PUSH(out, items) = item;
    return ERR_OK;
}

/* ---- items ----------------------------------------------------------------------------------- */

/*
 * A reference to a common table expression, whose outer references count from where it stands: the
 * deeper it is used, the more scopes lie between. The relation itself is shared by all its users.
 */
static err_t cte_item(struct az *az, struct above above, const struct cte *cte,
                      const PgQuery__RangeVar *var, struct items *out)
{
    ASSERT(cte->rel != NULL);
    uint32_t deeper = 0;
    for (struct scope *s = above.scope; s != NULL && s != cte->scope; s = s->parent) {
        deeper++;
    }
    out->rel = rel_shift_levels(az->arena, cte->rel, deeper);
    struct schema columns = {
        .cols = cte->rel->cols_len, .types = cte->rel->types, .names = cte->names};
    struct nsitem *item = az_nsitem(az, NULL, cte->name, &columns);
    TRY(apply_alias(item, var->alias));
    return add_item(az, out, item, var->location);
}

/*
 * A name in FROM: a common table expression when it has no schema and there is one, else a
 * relation. For definitions the resolved name is written into the parse tree, which is deparsed
 * later.
 */
static err_t range_var(struct az *az, struct above above, PgQuery__RangeVar *var, struct items *out)
{
    const char *schema = var->schemaname[0] == '\0' ? NULL : var->schemaname;
    const char *database = var->catalogname[0] == '\0' ? NULL : var->catalogname;
    for (struct cte *c = az->ctes; c != NULL && schema == NULL; c = c->next) {
        if (strcmp(c->name, var->relname) == 0) {
            return cte_item(az, above, c, var, out);
        }
    }
    const struct sql_relation *relation = NULL;
    TRY(az_relation(az, database, schema, var->relname, var->location, &relation));
    if (relation->kind == SQL_REL_INDEX) {
        return az_err(az, var->location, ERR_INVALID, "42809", "\"%s\" is an index", var->relname);
    }
    TRY(az_relation_rel(az, relation, &out->rel));
    struct nsitem *item = az_nsitem(az, relation->schema, relation->name, &relation->columns);
    TRY(apply_alias(item, var->alias));
    if (az->qualify) {
        var->schemaname = arena_strdup(az->arena, relation->schema);
        if (relation->database != NULL && relation->kind != SQL_REL_VIRTUAL) {
            var->catalogname = arena_strdup(az->arena, relation->database);
        }
    }
    return add_item(az, out, item, var->location);
}

/* PostgreSQL 15 insists on an alias. */
static err_t range_subselect(struct az *az, struct above above, PgQuery__RangeSubselect *sub,
                             struct items *out)
{
    struct query query;
    if (sub->alias == NULL) {
        err_t err = err_sql(ERR_INVALID, "42601", "subquery in FROM must have an alias");
        return err_hint(err, "For example, FROM (SELECT ...) [AS] foo.");
    }
    TRY(az_query(az, sub->subquery, above.scope, sub->lateral ? 0 : above.hide, &query));
    TRY(az_query_finish(az, &query, NULL));
    out->rel = az_query_rel(az, &query);
    struct schema columns = {
        .cols = query.cols_len, .types = out->rel->types, .names = query.names};
    struct nsitem *item = az_nsitem(az, NULL, NULL, &columns);
    TRY(apply_alias(item, sub->alias));
    return add_item(az, out, item, -1);
}

/* Functions in FROM are implicitly LATERAL. */
static err_t range_function(struct az *az, struct above above, PgQuery__RangeFunction *range,
                            struct items *out)
{
    struct scope scope = {.parent = above.scope, .no_aggs = "functions in FROM"};
    struct table_item table = {0};
    TRY(az_range_function(az, &scope, range, &table));
    out->rel = table.rel;
    struct schema columns = {
        .cols = table.rel->cols_len, .types = table.rel->types, .names = table.names};
    struct nsitem *item = az_nsitem(az, NULL, table.name, &columns);
    item->is_value = columns.cols == 1;
    TRY(apply_alias(item, range->alias));
    return add_item(az, out, item, -1);
}

/* ---- joins ----------------------------------------------------------------------------------- */

/* Appends right's items behind left's, whose columns come first. */
static err_t merge_items(struct az *az, struct items *left, struct items *right)
{
    ASSERT(left->rel != NULL && right->rel != NULL);
    for (size_t i = 0; i < right->items_len; i++) {
        struct nsitem *item = right->items[i];
        for (uint32_t c = 0; c < item->cols_len; c++) {
            item->cols[c].at += left->rel->cols_len;
        }
        TRY(add_item(az, left, item, -1));
    }
    return ERR_OK;
}

/* The column an unqualified name means among the items; *count says how many there are. */
static const struct nscol *unqualified(struct nsitem **items, size_t len, const char *name,
                                       uint32_t *count)
{
    const struct nscol *found = NULL;
    *count = 0;
    for (size_t i = 0; i < len; i++) {
        for (uint32_t c = 0; items[i]->cols_visible && c < items[i]->cols_len; c++) {
            if (strcmp(items[i]->cols[c].name, name) == 0) {
                found = &items[i]->cols[c];
                (*count)++;
            }
        }
    }
    return found;
}

/* PostgreSQL gives no position for these two. */
static err_t using_column(struct az *az, struct nsitem **items, size_t len, const char *name,
                          const char *side, const struct nscol **out)
{
    uint32_t count;
    *out = unqualified(items, len, name, &count);
    if (count > 1) {
        return err_sql(ERR_INVALID, "42702",
                       "common column name \"%s\" appears more than once in %s table", name, side);
    }
    if (*out == NULL) {
        return err_sql(ERR_INVALID, "42703",
                       "column \"%s\" specified in USING clause does not exist in %s table", name,
                       side);
    }
    (void)az;
    return ERR_OK;
}

/*
 * What USING or NATURAL makes of a join: the names, the equalities, and for each name the column
 * that stands for both sides.
 */
struct using
{
    const char **names;
    struct nscol *merged; /* the columns USING makes */
    size_t names_len, names_cap;
    struct sxvec preds;
    struct sxvec full; /* FULL JOIN: COALESCE of both sides, to be mapped behind the join */
};

/*
 * l.x = r.x, and which of the two is x afterwards: the left one, for a RIGHT JOIN the right one
 * (the other may be padding), for a FULL JOIN COALESCE of both. When the two types differ x has
 * their common type, which is an expression behind the join: u->full.
 */
static err_t using_pair(struct az *az, struct using *u, size_t i, const struct nscol *l,
                        const struct nscol *r, PgQuery__JoinType kind, uint32_t width)
{
    ASSERT(i < u->names_len);
    struct sx *a = sx_col(az->arena, l->at, l->type), *b = sx_col(az->arena, r->at, r->type);
    struct sx *equal = NULL;
    TRY(az_operator(az, "=", a, b, -1, &equal));
    sxvec_push(az->arena, &u->preds, equal);
    struct sx *sides[2] = {a, b};
    struct type common;
    TRY(az_common_type(az, sides, 2, "JOIN/USING", &common));
    bool right = kind == PG_QUERY__JOIN_TYPE__JOIN_RIGHT;
    const struct nscol *kept = right ? r : l;
    u->merged[i] = (struct nscol){.name = u->names[i], .type = kept->type, .at = kept->at};
    if (kind != PG_QUERY__JOIN_TYPE__JOIN_FULL && kept->type.kind == common.kind) {
        return ERR_OK;
    }
    if (kind == PG_QUERY__JOIN_TYPE__JOIN_FULL) {
        a->type.nullable = b->type.nullable = true;
    }
    TRY(az_coerce(az, a, common, CAST_IMPLICIT, &a));
    TRY(az_coerce(az, b, common, CAST_IMPLICIT, &b));
    struct sx *value = kind == PG_QUERY__JOIN_TYPE__JOIN_FULL ? sx_coalesce(az->arena, a, b)
                       : right                                ? b
                                                              : a;
    u->merged[i].at = width + u->full.len;
    u->merged[i].type = value->type;
    sxvec_push(az->arena, &u->full, value);
    return ERR_OK;
}

/* NATURAL means USING all names that both sides have, in the left side's order. */
static err_t using_names(struct az *az, const PgQuery__JoinExpr *join, const struct items *both,
                         size_t left_items, struct using *u)
{
    ASSERT(left_items <= both->items_len);
    for (size_t i = 0; i < join->n_using_clause; i++) {
        *VEC_PUSH(u, names) = pg_string(join->using_clause[i]);
    }
    for (size_t i = 0; join->is_natural && i < left_items; i++) {
        const struct nsitem *item = both->items[i];
        for (uint32_t c = 0; item->cols_visible && c < item->cols_len; c++) {
            uint32_t count;
            if (unqualified(both->items + left_items, both->items_len - left_items,
                            item->cols[c].name, &count) != NULL) {
                *VEC_PUSH(u, names) = item->cols[c].name;
            }
        }
    }
    u->merged = ARENA_ARRAY(az->arena, struct nscol, u->names_len);
    return ERR_OK;
}

/* A column that is hidden by a merged one. */
static bool is_merged(const struct using *u, const char *name)
{
    for (size_t i = 0; i < u->names_len; i++) {
        if (strcmp(u->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The unnamed item of a join with merged columns: those first, then the rest of both sides,
 * which is the order SELECT * shows them in (SQL-92 7.5). Qualified names still find the sides'
 * own columns. */
static struct nsitem *join_item(struct az *az, struct items *both, const struct using *u)
{
    /* Room for all; what is merged takes two places here and one there. */
    uint32_t total = (uint32_t)u->names_len;
    for (size_t i = 0; i < both->items_len; i++) {
        total += both->items[i]->cols_visible ? both->items[i]->cols_len : 0;
    }
    struct nsitem *item = ARENA_NEW(az->arena, struct nsitem);
    item->cols = ARENA_ARRAY(az->arena, struct nscol, total);
    item->cols_visible = true;
    for (size_t i = 0; i < u->names_len; i++) {
        item->cols[item->cols_len++] = u->merged[i];
    }
    for (size_t i = 0; i < both->items_len; i++) {
        struct nsitem *from = both->items[i];
        for (uint32_t c = 0; from->cols_visible && c < from->cols_len; c++) {
            if (!is_merged(u, from->cols[c].name)) {
                item->cols[item->cols_len++] = from->cols[c];
            }
        }
        from->cols_visible = false;
    }
    return item;
}

/*
 * USING, NATURAL or ON. ON sees both sides as one relation of level 0; the right side's columns
 * were shifted by merge_items.
 */
static err_t join_condition(struct az *az, struct above above, const PgQuery__JoinExpr *join,
                            struct items *both, size_t left_items, struct using *u)
{
    ASSERT(left_items <= both->items_len);
    if (join->is_natural || join->n_using_clause > 0) {
        TRY(using_names(az, join, both, left_items, u));
        for (size_t i = 0; i < u->names_len; i++) {
            const struct nscol *l = NULL, *r = NULL;
            TRY(using_column(az, both->items, left_items, u->names[i], "left", &l));
            TRY(using_column(az, both->items + left_items, both->items_len - left_items,
                             u->names[i], "right", &r));
            TRY(using_pair(az, u, i, l, r, join->jointype, both->rel->cols_len));
        }
    } else if (join->quals != NULL) {
        struct scope scope = {.parent = above.scope,
                              .hide = above.hide,
                              .items = both->items,
                              .items_len = both->items_len,
                              .no_aggs = "JOIN conditions"};
        struct sx *on = NULL;
        TRY(az_expr(az, &scope, join->quals, &on));
        TRY(az_to_bool(az, on, "JOIN/ON", &on));
        sx_conjuncts(az->arena, on, &u->preds);
    }
    return ERR_OK;
}

/*
 * The condition refers to left ++ right. An inner join's condition is a filter over the cross join,
 * where it may hold subqueries and pushdown finds it. A RIGHT JOIN is a LEFT one with the sides
 * swapped, and a projection that swaps the columns back.
 */
static struct rel *make_join(struct az *az, PgQuery__JoinType kind, struct rel *left,
                             struct rel *right, struct sxvec *preds)
{
    ASSERT(preds->len <= preds->cap);
    if (kind == PG_QUERY__JOIN_TYPE__JOIN_INNER) {
        struct rel *cross = rel_join2(az->arena, REL_JOIN_INNER, left, right, NULL, 0);
        return rel_filter(az->arena, cross, preds->items, preds->len);
    }
    if (kind != PG_QUERY__JOIN_TYPE__JOIN_RIGHT) {
        enum rel_join join = kind == PG_QUERY__JOIN_TYPE__JOIN_FULL ? REL_JOIN_FULL : REL_JOIN_LEFT;
        return rel_join2(az->arena, join, left, right, preds->items, preds->len);
    }
    uint32_t l = left->cols_len, r = right->cols_len;
    uint32_t *map = ARENA_ARRAY(az->arena, uint32_t, l + r);
    uint32_t *back = ARENA_ARRAY(az->arena, uint32_t, l + r);
    for (uint32_t i = 0; i < l + r; i++) {
        map[i] = i < l ? r + i : i - l;
        back[i] = map[i];
    }
    struct sx **swapped = ARENA_ARRAY(az->arena, struct sx *, preds->len);
    for (uint32_t i = 0; i < preds->len; i++) {
        swapped[i] = sx_remap(az->arena, preds->items[i], map);
    }
    struct rel *join = rel_join2(az->arena, REL_JOIN_LEFT, right, left, swapped, preds->len);
    return rel_project(az->arena, join, back, l + r);
}

/*
 * Later references to the padded side must know that it may be NULL: nullability decides about
 * null-safe comparisons and about what folds away.
 */
static void nullable_side(struct items *both, size_t from, size_t to)
{
    ASSERT(from <= to && to <= both->items_len);
    for (size_t i = from; i < to; i++) {
        for (uint32_t c = 0; c < both->items[i]->cols_len; c++) {
            both->items[i]->cols[c].type.nullable = true;
        }
    }
}

/* A reference to the left side of the join whose right side is looked at. */
static void saw_level_one(void *arg, uint32_t level, uint32_t col, struct type type)
{
    *(bool *)arg = *(bool *)arg || level == 1;
    (void)col;
    (void)type;
}

/* Is the right side of a join really lateral? */
static bool refers_left(const struct rel *rel)
{
    bool seen = false;
    rel_free_refs(rel, saw_level_one, &seen);
    return seen;
}

/* RIGHT and FULL joins evaluate the right side without a left row, so it may not refer to one. */
static err_t check_lateral(struct az *az, PgQuery__JoinType kind, struct rel **left,
                           struct rel **right)
{
    /* INNER and LEFT joins have the left row at hand. */
    bool swaps = kind == PG_QUERY__JOIN_TYPE__JOIN_RIGHT;
    if (!swaps && kind != PG_QUERY__JOIN_TYPE__JOIN_FULL) {
        return ERR_OK;
    }
    if (refers_left(*right)) {
        return err_sql(ERR_INVALID, "42P10",
                       "the combining JOIN type must be INNER or LEFT for a "
                       "LATERAL reference");
    }
    if (swaps) {
        /* What was the right side becomes the left one: one scope fewer above it. */
        *right = rel_shift_levels(az->arena, *right, -1);
        *left = rel_shift_levels(az->arena, *left, 1);
    }
    return ERR_OK;
}

/* The join, then what its names mean from now on. An alias of the join hides every name inside. */
static err_t finish_join(struct az *az, const PgQuery__JoinExpr *join, struct rel *left,
                         struct rel *right, size_t left_items, struct using *u, struct items *out)
{
    ASSERT(left != NULL && right != NULL);
    TRY(check_lateral(az, join->jointype, &left, &right));
    out->rel = make_join(az, join->jointype, left, right, &u->preds);
    bool full = join->jointype == PG_QUERY__JOIN_TYPE__JOIN_FULL;
    if (full || join->jointype == PG_QUERY__JOIN_TYPE__JOIN_RIGHT) {
        nullable_side(out, 0, left_items);
    }
    if (full || join->jointype == PG_QUERY__JOIN_TYPE__JOIN_LEFT) {
        nullable_side(out, left_items, out->items_len);
    }
    out->rel = rel_map(az->arena, out->rel, u->full.items, u->full.len);
    if (u->names_len > 0) {
        TRY(add_item(az, out, join_item(az, out, u), -1));
    }
    /* (a JOIN b) AS j: one item with all columns. */
    if (join->alias != NULL) {
        struct nsitem *item = join_item(az, out, u);
        out->items_len = 0;
        TRY(apply_alias(item, join->alias));
        TRY(add_item(az, out, item, -1));
    }
    return ERR_OK;
}

/* out gets the left side first: its items are the scope the right side is analysed beside. */
static err_t join_expr(struct az *az, struct above above, const PgQuery__JoinExpr *join,
                       struct items *out)
{
    ASSERT(join->larg != NULL && join->rarg != NULL);
    TRY(from_node(az, above, join->larg, out));
    struct scope beside = {.parent = above.scope, .items = out->items, .items_len = out->items_len};
    struct items right = {0};
    struct using u = {0};
    err_t err =
        from_node(az, (struct above){.scope = &beside, .hide = above.hide + 1}, join->rarg, &right);
    size_t left_items = out->items_len;
    struct rel *left = out->rel;
    if (err == ERR_OK) {
        err = merge_items(az, out, &right);
    }
    if (err == ERR_OK) {
        /*
         * A stand-in with both sides' columns: the condition is analysed over it, the join made
         * after.
         */
        out->rel = rel_join2(az->arena, REL_JOIN_INNER, left, right.rel, NULL, 0);
        err = join_condition(az, above, join, out, left_items, &u);
    }
    if (err == ERR_OK) {
        err = finish_join(az, join, left, right.rel, left_items, &u, out);
    }
    items_free(&right);
    free(u.names);
    return err;
}

/* One item of the tree; joins recurse, hence the depth is counted. */
static err_t from_node(struct az *az, struct above above, pg_node *node, struct items *out)
{
    TRY(az_enter(az));
    err_t err;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_RANGE_VAR:
        err = range_var(az, above, node->range_var, out);
        break;
    case PG_QUERY__NODE__NODE_RANGE_SUBSELECT:
        err = range_subselect(az, above, node->range_subselect, out);
        break;
    case PG_QUERY__NODE__NODE_RANGE_FUNCTION:
        err = range_function(az, above, node->range_function, out);
        break;
    case PG_QUERY__NODE__NODE_JOIN_EXPR:
        err = join_expr(az, above, node->join_expr, out);
        break;
    default:
        err = AZ_UNSUPPORTED(az, pg_location(node), "this item in FROM is not supported");
        break;
    }
    az_leave(az);
    return err;
}

/* The comma is a cross join: every item but the first has all before it to its left. */
static err_t from_list(struct az *az, struct scope *scope, pg_node **nodes, size_t len,
                       struct items *out)
{
    for (size_t i = 0; i < len; i++) {
        struct scope beside = {.parent = scope->parent,
                               .hide = scope->hide,
                               .items = out->items,
                               .items_len = out->items_len};
        struct items item = {0};
        /*
         * Everything but the first item is one scope deeper; without LATERAL it may not look there.
         */
        struct above above = i == 0 ? (struct above){.scope = scope->parent, .hide = scope->hide}
                                    : (struct above){.scope = &beside, .hide = 1};
        err_t err = from_node(az, above, nodes[i], &item);
        /* The first item's list becomes the result's: nothing to merge yet. */
        if (err == ERR_OK && i == 0) {
            out->rel = item.rel;
            out->items = item.items;
            out->items_len = item.items_len;
            out->items_cap = item.items_cap;
            continue;
        }
        if (err == ERR_OK) {
            err = merge_items(az, out, &item);
        }
        if (err == ERR_OK) {
            out->rel = rel_join2(az->arena, REL_JOIN_INNER, out->rel, item.rel, NULL, 0);
        }
        items_free(&item);
        TRY(err);
    }
    return ERR_OK;
}

/* Without FROM there is one row without columns. */
err_t az_from(struct az *az, struct scope *scope, pg_node **nodes, size_t len, struct rel **out)
{
    ASSERT(scope->items_len == 0);
    if (len == 0) {
        *out = rel_unit(az->arena);
        return ERR_OK;
    }
    struct items items = {0};
    err_t err = from_list(az, scope, nodes, len, &items);
    if (err == ERR_OK) {
        scope->items =
            arena_memdup(az->arena, items.items, items.items_len * sizeof(items.items[0]));
        scope->items_len = items.items_len;
        *out = items.rel;
    }
    items_free(&items);
    return err;
}

/* ---- WITH ------------------------------------------------------------------------------------ */

err_t az_cte_twice(struct az *az, const PgQuery__WithClause *with, size_t i)
{
    const PgQuery__CommonTableExpr *def = with->ctes[i]->common_table_expr;
    if (i == 0 && with->n_ctes > WITH_ITEMS_MAX) {
        return err_hint(az_err(az, def->location, ERR_LIMIT, "54001",
                               "WITH has %zu queries, at most %d are supported", with->n_ctes,
                               WITH_ITEMS_MAX),
                        "Put some of them into views.");
    }
    for (size_t j = 0; j < i; j++) {
        if (strcmp(with->ctes[j]->common_table_expr->ctename, def->ctename) == 0) {
            return az_err(az, def->location, ERR_INVALID, "42712",
                          "WITH query name \"%s\" specified more than once", def->ctename);
        }
    }
    return ERR_OK;
}

err_t az_cte_names(struct az *az, const PgQuery__CommonTableExpr *def, struct cte *cte)
{
    if (def->n_aliascolnames > cte->rel->cols_len) {
        return az_err(az, def->location, ERR_INVALID, "42P10",
                      "WITH query \"%s\" has %u columns available but %zu columns specified",
                      cte->name, cte->rel->cols_len, def->n_aliascolnames);
    }
    for (size_t c = 0; c < def->n_aliascolnames; c++) {
        cte->names[c] = pg_string(def->aliascolnames[c]);
    }
    return ERR_OK;
}

err_t az_cte_query(struct az *az, const PgQuery__CommonTableExpr *def, struct scope *parent,
                   uint32_t hide, struct cte **out)
{
    struct query query;
    if (def->ctequery->node_case != PG_QUERY__NODE__NODE_SELECT_STMT) {
        return AZ_UNSUPPORTED(az, def->location,
                              "data-modifying statements in WITH are not supported");
    }
    TRY(az_query(az, def->ctequery, parent, hide, &query));
    TRY(az_query_finish(az, &query, NULL));
    struct cte *cte = ARENA_NEW(az->arena, struct cte);
    cte->name = def->ctename;
    cte->rel = az_query_rel(az, &query);
    rel_close(cte->rel);
    cte->names = arena_memdup(az->arena, query.names, query.cols_len * sizeof(query.names[0]));
    cte->scope = parent;
    *out = cte;
    return az_cte_names(az, def, cte);
}

/* A name is resolved to the innermost one, so they are a stack; az_select drops what a query
 * added. */
void az_add_cte(struct az *az, struct cte *cte)
{
    ASSERT(cte->rel != NULL);
    cte->next = az->ctes;
    az->ctes = cte;
}

/* Each expression sees those before it. */
err_t az_with(struct az *az, const PgQuery__WithClause *with, struct scope *parent, uint32_t hide)
{
    ASSERT(with->n_ctes > 0);
    if (with->recursive) {
        return az_with_recursive(az, with, parent, hide);
    }
    for (size_t i = 0; i < with->n_ctes; i++) {
        struct cte *cte = NULL;
        TRY(az_cte_twice(az, with, i));
        TRY(az_cte_query(az, with->ctes[i]->common_table_expr, parent, hide, &cte));
        az_add_cte(az, cte);
    }
    return ERR_OK;
}
