/*
 * INSERT, UPDATE, DELETE, TRUNCATE, COPY: as reads whose rows say what to write.
 *
 * A write is planned as a query; the session runs it and turns its rows into changes of the table,
 * all at one time:
 *
 *   INSERT   the new rows: table columns                          each row +1
 *   DELETE   the rows to remove: table columns                    each row -1
 *   UPDATE   old columns, then new columns                        old -1, new +1
 *
 * RETURNING's columns stand behind those. Rows are counted, not identified: a table is a multiset
 * and has no keys, so deleting "a row" removes one of several equal ones, which nobody can tell
 * apart.
 *
 * UPDATE ... FROM and DELETE ... USING join the table with other rows. A row of the table is
 * written once, however many of those it meets, with one of them as PostgreSQL does (which one
 * nobody may rely on; here it is the same one everywhere):
 *
 *     joined = FILTER where over (t CROSS others)
 *     chosen = TOPK 1 of joined per row of t
 *     rows   = t JOIN chosen on all columns of t, NULLs alike: t's multiplicities come back
 *
 * Read and write must be one: the session reads at a time and writes at the next with no other
 * write of the table in between (ctrl/adapter/coord). Values are converted as PostgreSQL does for
 * an assignment, with its errors and positions; NOT NULL is checked per row when it is written
 * (sql_check_row), as only then its values are known.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

/* ---- the table ------------------------------------------------------------------------------- */

/* For messages about what cannot be written. */
static const char *kind_name(uint8_t kind)
{
    ASSERT(kind >= SQL_REL_TABLE && kind <= SQL_REL_VIRTUAL);
    switch (kind) {
    case SQL_REL_SOURCE:
        return "source";
    case SQL_REL_VIEW:
        return "view";
    case SQL_REL_MATERIALIZED_VIEW:
        return "materialized view";
    case SQL_REL_INDEX:
        return "index";
    case SQL_REL_VIRTUAL:
        return "system catalog";
    default:
        return "table";
    }
}

/* The table a statement writes; anything else that has the name is 42809. */
static err_t target_table(struct az *az, const PgQuery__RangeVar *var, const char *verb,
                          const struct sql_relation **out)
{
    ASSERT(var != NULL && verb != NULL);
    const char *database = var->catalogname[0] == '\0' ? NULL : var->catalogname;
    const char *schema = var->schemaname[0] == '\0' ? NULL : var->schemaname;
    TRY(az_relation(az, database, schema, var->relname, var->location, out));
    if ((*out)->kind == SQL_REL_VIRTUAL) {
        return err_sql(ERR_PERMISSION, "42501", "permission denied: \"%s\" is a system catalog",
                       var->relname);
    }
    if ((*out)->kind != SQL_REL_TABLE) {
        return err_sql(ERR_INVALID, "42809", "cannot %s %s \"%s\"", verb, kind_name((*out)->kind),
                       var->relname);
    }
    return ERR_OK;
}

/* 42703 in the words PostgreSQL has for columns that are written. */
static err_t column_index(struct az *az, const struct sql_relation *relation, const char *name,
                          int location, uint32_t *out)
{
    ASSERT(name != NULL);
    for (uint32_t i = 0; i < relation->columns.cols; i++) {
        if (strcmp(relation->columns.names[i], name) == 0) {
            *out = i;
            return ERR_OK;
        }
    }
    return az_err(az, location, ERR_INVALID, "42703",
                  "column \"%s\" of relation \"%s\" does not exist", name, relation->name);
}

/*
 * The default of a column, as an expression without references; NULL when it has none. now() in it
 * is this statement's.
 */
static err_t default_value(struct az *az, const struct sql_relation *relation, uint32_t col,
                           struct sx **out)
{
    ASSERT(col < relation->columns.cols);
    struct type type = relation->columns.types[col];
    const char *text = relation->defaults != NULL ? relation->defaults[col] : NULL;
    if (text == NULL) {
        *out = sx_null(az->arena, type);
        return ERR_OK;
    }
    TRY(err_wrap(az_macro(az, text, NULL, 0, out), "default of column \"%s\"",
                 relation->columns.names[col]));
    return az_coerce(az, *out, type, CAST_ASSIGNMENT, out);
}

/* An expression assigned to a column: 42804 as PostgreSQL says it. */
static err_t assign(struct az *az, const struct sql_relation *relation, uint32_t col, struct sx *sx,
                    struct sx **out)
{
    ASSERT(col < relation->columns.cols);
    struct type type = relation->columns.types[col];
    if (!az_can_coerce(sx, type, CAST_ASSIGNMENT)) {
        err_t err = az_err(az, sx_location(sx), ERR_INVALID, "42804",
                           "column \"%s\" is of type %s but expression is of type %s",
                           relation->columns.names[col], az_type_name(az, &type),
                           az_type_name(az, &sx->type));
        return err_hint(err, "You will need to rewrite or cast the expression.");
    }
    return az_coerce(az, sx, type, CAST_ASSIGNMENT, out);
}

/* ---- finishing ------------------------------------------------------------------------------- */

/* The rows a statement means, and what its expressions may name. */
struct target {
    const struct sql_relation *relation;
    struct rel *rel;    /* the table's columns, then those of other items of FROM or USING */
    struct scope scope; /* the table's item first */
};

/*
 * rel: what to write (the first `keep` columns), then other items' columns. RETURNING is evaluated
 * over the table's columns at `at` (the new ones of an UPDATE) and the others, and put in their
 * place.
 */
static err_t returning(struct az *az, const struct target *t, pg_node **list, size_t len,
                       uint32_t at, uint32_t keep, struct rel **rel, struct sql_write *out)
{
    uint32_t n = t->relation->columns.cols;
    ASSERT(at + n <= keep && keep <= (*rel)->cols_len);
    if (len == 0) {
        *rel = rel_prefix(az->arena, *rel, keep);
        return ERR_OK;
    }
    for (size_t i = 0; i < t->scope.items_len; i++) {
        struct nsitem *item = t->scope.items[i];
        for (uint32_t c = 0; c < item->cols_len; c++) {
            item->cols[c].at = i == 0 ? at + item->cols[c].at : keep + (item->cols[c].at - n);
            item->cols[c].type = (*rel)->types[item->cols[c].at];
        }
    }
    struct scope scope = t->scope;
    scope.no_aggs = "RETURNING";
    struct sxvec targets = {0};
    const char **names = NULL;
    TRY(az_targets(az, &scope, list, len, &targets, &names));
    struct type *types = ARENA_ARRAY(az->arena, struct type, targets.len);
    uint32_t *cols = ARENA_ARRAY(az->arena, uint32_t, keep + targets.len);
    for (uint32_t i = 0; i < targets.len; i++) {
        TRY(az_settle(az, targets.items[i], &targets.items[i]));
        types[i] = targets.items[i]->type;
    }
    for (uint32_t i = 0; i < keep + targets.len; i++) {
        cols[i] = i < keep ? i : (*rel)->cols_len + (i - keep);
    }
    *rel = rel_map(az->arena, *rel, targets.items, targets.len);
    *rel = rel_project(az->arena, *rel, cols, keep + targets.len);
    out->returning = schema_copy(az->arena, names, types, targets.len);
    return ERR_OK;
}

/* Plans the read. While describing there is nothing to plan: parameters have no values yet. */
static err_t finish(struct az *az, struct rel *rel, struct sql_write *out)
{
    ASSERT(out->relation != NULL);
    struct sql_query *q = out->query;
    q->limit = -1;
    q->project_len = rel->cols_len;
    q->project = ARENA_ARRAY(az->arena, uint32_t, rel->cols_len);
    const char **names = ARENA_ARRAY(az->arena, const char *, rel->cols_len);
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        q->project[i] = i;
        names[i] = "";
    }
    q->columns = schema_copy(az->arena, names, rel->types, rel->cols_len);
    if (az->describe) {
        return ERR_OK; /* parameters have no values yet */
    }
    return query_plan(az, rel, false, true, q);
}

/* ---- INSERT ---------------------------------------------------------------------------------- */

/*
 * Where an INSERT's expressions go: the i-th one to column cols[i], which was written at
 * locations[i] (0 when there was no list).
 */
struct insert {
    const struct sql_relation *relation;
    uint32_t *cols; /* target columns, in the order written */
    int *locations;
    uint32_t cols_len;
};

/* INSERT INTO t (b, a): the columns in the order written; none: all, in the table's order. */
static err_t insert_columns(struct az *az, const PgQuery__InsertStmt *s, struct insert *in)
{
    ASSERT(in->relation != NULL);
    uint32_t n = in->relation->columns.cols;
    in->cols = ARENA_ARRAY(az->arena, uint32_t, s->n_cols > n ? s->n_cols : n);
    in->locations = ARENA_ARRAY(az->arena, int, s->n_cols > n ? s->n_cols : n);
    if (s->n_cols == 0) {
        for (uint32_t i = 0; i < n; i++) {
            in->cols[i] = i;
        }
        in->cols_len = n;
        return ERR_OK;
    }
    for (size_t i = 0; i < s->n_cols; i++) {
        const PgQuery__ResTarget *t = s->cols[i]->res_target;
        uint32_t col = 0;
        TRY(column_index(az, in->relation, t->name, t->location, &col));
        for (uint32_t j = 0; j < in->cols_len; j++) {
            if (in->cols[j] == col) {
                return az_err(az, t->location, ERR_INVALID, "42701",
                              "column \"%s\" specified more than once", t->name);
            }
        }
        in->locations[in->cols_len] = t->location;
        in->cols[in->cols_len++] = col;
    }
    return ERR_OK;
}

/* extra, missing: where the first expression too many and the first column too many stand. Without
 * a column list fewer expressions are fine: the rest is DEFAULT. */
static err_t check_width(struct az *az, const struct insert *in, bool listed, uint32_t width,
                         int extra, int missing)
{
    ASSERT(in->cols != NULL || in->cols_len == 0);
    if (width > in->cols_len) {
        return az_err(az, extra, ERR_INVALID, "42601",
                      "INSERT has more expressions than target columns");
    }
    if (listed && width < in->cols_len) {
        return az_err(az, missing, ERR_INVALID, "42601",
                      "INSERT has more target columns than expressions");
    }
    return ERR_OK;
}

/* What is not written, or written DEFAULT, takes the column's default. */
static err_t insert_row(struct az *az, const struct insert *in, const PgQuery__List *list,
                        bool listed, struct sx **row)
{
    ASSERT(row != NULL);
    struct scope scope = {.no_aggs = "VALUES"};
    uint32_t n = in->relation->columns.cols, width = (uint32_t)list->n_items;
    int extra = width > in->cols_len ? pg_location(list->items[in->cols_len]) : -1;
    TRY(check_width(az, in, listed, width, extra,
                    width < in->cols_len ? in->locations[width] : -1));
    for (uint32_t i = 0; i < width; i++) {
        const pg_node *node = list->items[i];
        struct sx *sx = NULL;
        /* Filled in below, with the columns that are not written. */
        if (node->node_case == PG_QUERY__NODE__NODE_SET_TO_DEFAULT) {
            continue;
        }
        TRY(az_expr(az, &scope, node, &sx));
        TRY(assign(az, in->relation, in->cols[i], sx, &row[in->cols[i]]));
    }
    for (uint32_t c = 0; c < n; c++) {
        if (row[c] == NULL) {
            TRY(default_value(az, in->relation, c, &row[c]));
        }
    }
    return ERR_OK;
}

/*
 * INSERT ... VALUES: each value is converted to its column right away, so an untyped literal is
 * read as the column's type.
 */
static err_t insert_values(struct az *az, const struct insert *in, const PgQuery__SelectStmt *s,
                           bool listed, struct rel **out)
{
    ASSERT(s->n_values_lists > 0);
    uint32_t n = in->relation->columns.cols;
    struct sx **cells = ARENA_ARRAY(az->arena, struct sx *, s->n_values_lists * n);
    for (size_t r = 0; r < s->n_values_lists; r++) {
        const PgQuery__List *list = s->values_lists[r]->list;
        if (list->n_items != s->values_lists[0]->list->n_items) {
            return az_err(az, pg_location(list->items[0]), ERR_INVALID, "42601",
                          "VALUES lists must all be the same length");
        }
        TRY(insert_row(az, in, list, listed, cells + r * n));
    }
    return az_cells(az, cells, s->n_values_lists, n, out);
}

/*
 * INSERT ... SELECT: untyped literals of its select list take the columns' types (want), the rest
 * is converted by a MAP above it.
 */
static err_t insert_query(struct az *az, const struct insert *in, pg_node *node, bool listed,
                          struct rel **out)
{
    ASSERT(in->cols_len <= in->relation->columns.cols);
    struct query q;
    uint32_t n = in->relation->columns.cols;
    TRY(az_query(az, node, NULL, 0, &q));
    /* Positions come from the targets while they still are there. */
    bool wide = q.cols_len > in->cols_len && q.targets != NULL;
    TRY(check_width(az, in, listed, q.cols_len, wide ? q.targets[in->cols_len]->location : -1,
                    q.cols_len < in->cols_len ? in->locations[q.cols_len] : -1));
    struct type *want = ARENA_ARRAY(az->arena, struct type, in->cols_len);
    for (uint32_t i = 0; i < in->cols_len; i++) {
        want[i] = in->relation->columns.types[in->cols[i]];
    }
    int *locations = ARENA_ARRAY(az->arena, int, q.cols_len);
    for (uint32_t i = 0; i < q.cols_len; i++) {
        locations[i] = q.targets != NULL ? q.targets[i]->location : -1;
    }
    TRY(az_query_finish(az, &q, want));
    struct rel *rel = az_query_rel(az, &q);
    struct sx **row = ARENA_ARRAY(az->arena, struct sx *, n);
    for (uint32_t i = 0; i < q.cols_len; i++) {
        struct sx *sx = sx_col(az->arena, i, rel->types[i]);
        sx->location = locations[i];
        TRY(assign(az, in->relation, in->cols[i], sx, &row[in->cols[i]]));
    }
    for (uint32_t c = 0; c < n; c++) {
        if (row[c] == NULL) {
            TRY(default_value(az, in->relation, c, &row[c]));
        }
    }
    /* The table's columns stand behind the query's: those alone are written. */
    uint32_t *cols = ARENA_ARRAY(az->arena, uint32_t, n);
    for (uint32_t c = 0; c < n; c++) {
        cols[c] = rel->cols_len + c;
    }
    *out = rel_project(az->arena, rel_map(az->arena, rel, row, n), cols, n);
    return ERR_OK;
}

/* VALUES with ORDER BY, LIMIT or WITH is a query like any other; DEFAULT VALUES is one row. */
static err_t plan_insert(struct az *az, const PgQuery__InsertStmt *s, struct sql_write *out)
{
    ASSERT(s->relation != NULL);
    struct insert in = {0};
    struct rel *rel = NULL;
    out->kind = SQL_WRITE_INSERT;
    TRY(target_table(az, s->relation, "insert into", &in.relation));
    out->relation = in.relation;
    if (s->on_conflict_clause != NULL) {
        return err_hint(AZ_UNSUPPORTED(az, s->on_conflict_clause->location,
                                       "ON CONFLICT is not supported"),
                        "There are no unique constraints rows could conflict with.");
    }
    TRY(insert_columns(az, s, &in));
    if (s->with_clause != NULL) {
        TRY(az_with(az, s->with_clause, NULL, 0));
    }
    const PgQuery__SelectStmt *select = s->select_stmt == NULL ? NULL : s->select_stmt->select_stmt;
    if (select == NULL) {
        struct sx **row = ARENA_ARRAY(az->arena, struct sx *, in.relation->columns.cols);
        for (uint32_t c = 0; c < in.relation->columns.cols; c++) {
            TRY(default_value(az, in.relation, c, &row[c]));
        }
        TRY(az_cells(az, row, 1, in.relation->columns.cols, &rel));
    } else if (select->n_values_lists > 0 && select->with_clause == NULL &&
               select->limit_count == NULL && select->limit_offset == NULL) {
        TRY(insert_values(az, &in, select, s->n_cols > 0, &rel));
    } else {
        TRY(insert_query(az, &in, s->select_stmt, s->n_cols > 0, &rel));
    }
    struct target target = {.relation = in.relation};
    struct nsitem *item = az_nsitem(az, in.relation->schema, in.relation->name,
                                    &in.relation->columns);
    target.scope = (struct scope){.items = &item, .items_len = 1};
    TRY(returning(az, &target, s->returning_list, s->n_returning_list, 0, rel->cols_len, &rel,
                  out));
    return finish(az, rel, out);
}

/* ---- UPDATE and DELETE ----------------------------------------------------------------------- */

/* UPDATE t AS x: the table is x in the statement. */
static const char *alias_of(const PgQuery__RangeVar *var, const struct sql_relation *relation)
{
    ASSERT(relation != NULL);
    return var->alias != NULL ? var->alias->aliasname : relation->name;
}

/* Other items of FROM or USING: their columns behind the table's, their names beside it. They do
 * not see the table (PostgreSQL: not even with LATERAL), so they are analysed in a scope of their
 * own. */
static err_t join_others(struct az *az, pg_node **nodes, size_t len, struct target *t)
{
    ASSERT(len > 0 && t->scope.items_len == 1);
    struct scope others = {.no_aggs = "FROM"};
    struct rel *right = NULL;
    TRY(az_from(az, &others, nodes, len, &right));
    struct nsitem **items = ARENA_ARRAY(az->arena, struct nsitem *, others.items_len + 1);
    items[0] = t->scope.items[0];
    for (size_t i = 0; i < others.items_len; i++) {
        struct nsitem *item = others.items[i];
        if (item->rel_visible && item->alias != NULL && strcmp(item->alias, items[0]->alias) == 0) {
            return err_sql(ERR_INVALID, "42712", "table name \"%s\" specified more than once",
                           item->alias);
        }
        for (uint32_t c = 0; c < item->cols_len; c++) {
            item->cols[c].at += t->rel->cols_len;
        }
        items[i + 1] = item;
    }
    t->scope.items = items;
    t->scope.items_len = others.items_len + 1;
    t->rel = rel_join2(az->arena, REL_JOIN_INNER, t->rel, right, NULL, 0);
    return ERR_OK;
}

/* Each row of the table that is in joined, as often as the table has it, with one match. */
static struct rel *one_match(struct az *az, struct rel *table, struct rel *joined)
{
    uint32_t n = table->cols_len;
    ASSERT(n <= joined->cols_len);
    uint32_t *keys = ARENA_ARRAY(az->arena, uint32_t, n);
    uint32_t *cols = ARENA_ARRAY(az->arena, uint32_t, joined->cols_len);
    struct sxvec preds = {0};
    for (uint32_t i = 0; i < joined->cols_len; i++) {
        cols[i] = i < n ? i : n + i;
    }
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = i;
        struct sx *l = sx_col(az->arena, i, table->types[i]);
        struct sx *r = sx_col(az->arena, n + i, joined->types[i]);
        sxvec_push(az->arena, &preds, sx_equal(az->arena, l, r, l->type.nullable));
    }
    struct rel *chosen = rel_topk(az->arena, joined, keys, n, NULL, 0, 1, 0);
    struct rel *both = rel_join2(az->arena, REL_JOIN_INNER, table, chosen, NULL, 0);
    both = rel_filter(az->arena, both, preds.items, preds.len);
    return rel_project(az->arena, both, cols, joined->cols_len);
}

/* The rows of the table the statement means, and a scope over its columns and the others'. */
static err_t table_rows(struct az *az, const PgQuery__RangeVar *var, pg_node **others,
                        size_t others_len, const pg_node *where, const char *verb,
                        struct target *out)
{
    ASSERT(var != NULL);
    *out = (struct target){.rel = NULL};
    TRY(target_table(az, var, verb, &out->relation));
    TRY(az_relation_rel(az, out->relation, &out->rel));
    struct rel *table = out->rel;
    struct nsitem **items = ARENA_ARRAY(az->arena, struct nsitem *, 1);
    items[0] = az_nsitem(az, var->alias != NULL ? NULL : out->relation->schema,
                         alias_of(var, out->relation), &out->relation->columns);
    out->scope = (struct scope){.items = items, .items_len = 1, .no_aggs = "WHERE"};
    if (others_len > 0) {
        TRY(join_others(az, others, others_len, out));
    }
    if (where != NULL) {
        struct sx *sx = NULL;
        TRY(az_expr(az, &out->scope, where, &sx));
        TRY(az_to_bool(az, sx, "WHERE", &sx));
        out->rel = rel_filter1(az->arena, out->rel, sx);
    }
    if (others_len > 0) {
        out->rel = one_match(az, table, out->rel);
    }
    return ERR_OK;
}

/* SET column = value, or DEFAULT. (a, b) = (SELECT ...) and parts of columns are not there. */
static err_t update_value(struct az *az, struct scope *scope, const struct sql_relation *relation,
                          const PgQuery__ResTarget *t, struct sx **values)
{
    ASSERT(values != NULL);
    ASSERT(t->val != NULL);
    uint32_t col = 0;
    TRY(column_index(az, relation, t->name, t->location, &col));
    /* PostgreSQL gives no position for this one. */
    if (values[col] != NULL) {
        return err_sql(ERR_INVALID, "42601", "multiple assignments to same column \"%s\"", t->name);
    }
    if (t->n_indirection > 0 || t->val->node_case == PG_QUERY__NODE__NODE_MULTI_ASSIGN_REF) {
        return AZ_UNSUPPORTED(az, t->location, "this form of assignment is not supported");
    }
    if (t->val->node_case == PG_QUERY__NODE__NODE_SET_TO_DEFAULT) {
        return default_value(az, relation, col, &values[col]);
    }
    struct sx *sx = NULL;
    TRY(az_expr(az, scope, t->val, &sx));
    return assign(az, relation, col, sx, &values[col]);
}

/* Values are all over the old row: SET a = b, b = a exchanges them. */
static err_t plan_update(struct az *az, const PgQuery__UpdateStmt *s, struct sql_write *out)
{
    ASSERT(s->relation != NULL);
    struct target t;
    out->kind = SQL_WRITE_UPDATE;
    if (s->with_clause != NULL) {
        TRY(az_with(az, s->with_clause, NULL, 0));
    }
    TRY(table_rows(az, s->relation, s->from_clause, s->n_from_clause, s->where_clause, "update",
                   &t));
    out->relation = t.relation;
    uint32_t n = t.relation->columns.cols, width = t.rel->cols_len;
    struct sx **values = ARENA_ARRAY(az->arena, struct sx *, n);
    t.scope.no_aggs = "UPDATE";
    for (size_t i = 0; i < s->n_target_list; i++) {
        TRY(update_value(az, &t.scope, t.relation, s->target_list[i]->res_target, values));
    }
    for (uint32_t c = 0; c < n; c++) {
        if (values[c] == NULL) {
            values[c] = sx_col(az->arena, c, t.relation->columns.types[c]);
        }
    }
    /* old, others, new -> old, new, others */
    uint32_t *cols = ARENA_ARRAY(az->arena, uint32_t, width + n);
    for (uint32_t i = 0; i < width + n; i++) {
        cols[i] = i < n ? i : i < 2 * n ? width + (i - n) : i - n;
    }
    struct rel *rel = rel_map(az->arena, t.rel, values, n);
    rel = rel_project(az->arena, rel, cols, width + n);
    TRY(returning(az, &t, s->returning_list, s->n_returning_list, n, 2 * n, &rel, out));
    return finish(az, rel, out);
}

/* RETURNING sees the removed rows. */
static err_t plan_delete(struct az *az, const PgQuery__DeleteStmt *s, struct sql_write *out)
{
    ASSERT(s->relation != NULL);
    struct target t;
    out->kind = SQL_WRITE_DELETE;
    if (s->with_clause != NULL) {
        TRY(az_with(az, s->with_clause, NULL, 0));
    }
    TRY(table_rows(az, s->relation, s->using_clause, s->n_using_clause, s->where_clause,
                   "delete from", &t));
    out->relation = t.relation;
    struct rel *rel = t.rel;
    TRY(returning(az, &t, s->returning_list, s->n_returning_list, 0, t.relation->columns.cols,
                  &rel, out));
    return finish(az, rel, out);
}

/* By kind of statement. */
static err_t plan_write(struct az *az, const struct sql_stmt *stmt, struct sql_write *out)
{
    ASSERT(stmt->ast->node != NULL);
    const pg_node *node = stmt->ast->node;
    struct target t;
    switch (stmt->kind) {
    case SQL_INSERT:
        return plan_insert(az, node->insert_stmt, out);
    case SQL_UPDATE:
        return plan_update(az, node->update_stmt, out);
    case SQL_DELETE:
        return plan_delete(az, node->delete_stmt, out);
    case SQL_TRUNCATE:
        out->kind = SQL_WRITE_DELETE;
        TRY(table_rows(az, node->truncate_stmt->relations[0]->range_var, NULL, 0, NULL, "truncate",
                       &t));
        out->relation = t.relation;
        return finish(az, t.rel, out);
    default:
        return err_new(ERR_INTERNAL, "statement of kind %u writes nothing", stmt->kind);
    }
}

/* The query's arena is the planning's, so everything in the write lives as long as it. */
err_t sql_plan_write(const struct sql_context *cx, const struct sql_stmt *stmt,
                     struct sql_write **out)
{
    ASSERT(cx != NULL && stmt != NULL);
    *out = NULL;
    struct sql_write *write = MEM_NEW(struct sql_write);
    write->query = MEM_NEW(struct sql_query);
    struct az az;
    az_init(&az, &write->query->arena, cx, stmt);
    err_t err = plan_write(&az, stmt, write);
    az_release(&az);
    if (err != ERR_OK) {
        sql_write_free(write);
        return err;
    }
    *out = write;
    return ERR_OK;
}

/* RETURNING's columns and the parameters' types, without planning. The columns live in az's
 * arena. */
err_t write_describe(struct az *az, const struct sql_stmt *stmt, struct schema *columns)
{
    struct sql_write write = {0};
    struct sql_query query = {.arena = {0}};
    write.query = &query;
    err_t err = plan_write(az, stmt, &write);
    if (query.plan != NULL) {
        plan_free(query.plan);
    }
    *columns = write.returning;
    return err;
}

/* The query owns the arena in which the relation and RETURNING's columns are. */
void sql_write_free(struct sql_write *write)
{
    if (write == NULL) {
        return;
    }
    sql_query_free(write->query);
    free(write);
}

/*
 * NOT NULL of a row to be written: the first column that breaks it, with the whole row as detail.
 */
err_t sql_check_row(const struct sql_relation *relation, const struct datum *row)
{
    ASSERT(relation != NULL && (row != NULL || relation->columns.cols == 0));
    for (uint32_t i = 0; i < relation->columns.cols; i++) {
        if (!row[i].null || relation->columns.types[i].nullable) {
            continue;
        }
        struct buf text = {0};
        for (uint32_t c = 0; c < relation->columns.cols; c++) {
            buf_append_str(&text, c > 0 ? ", " : "");
            if (row[c].null) {
                buf_append_str(&text, "null");
            } else {
                datum_print(&relation->columns.types[c], &row[c], &text);
            }
        }
        err_t err = err_sql(ERR_INVALID, "23502",
                            "null value in column \"%s\" of relation \"%s\" violates not-null "
                            "constraint",
                            relation->columns.names[i], relation->name);
        err = err_detail(err, "Failing row contains (%s).", buf_cstr(&text));
        buf_free(&text);
        return err;
    }
    return ERR_OK;
}

/* ---- COPY ------------------------------------------------------------------------------------ */

/* COPY t (b, a): the columns in the order of the data. */
static err_t copy_columns(struct az *az, const PgQuery__CopyStmt *copy, struct sql_copy_target *out)
{
    ASSERT(out->relation != NULL);
    uint32_t n = out->relation->columns.cols;
    out->columns = ARENA_ARRAY(az->arena, uint32_t, copy->n_attlist > n ? copy->n_attlist : n);
    for (size_t i = 0; i < copy->n_attlist; i++) {
        const char *name = pg_string(copy->attlist[i]);
        TRY(column_index(az, out->relation, name, -1, &out->columns[i]));
        for (size_t j = 0; j < i; j++) {
            if (out->columns[j] == out->columns[i]) {
                return err_sql(ERR_INVALID, "42701", "column \"%s\" specified more than once",
                               name);
            }
        }
    }
    out->columns_len = (uint32_t)copy->n_attlist;
    for (uint32_t i = 0; copy->n_attlist == 0 && i < n; i++) {
        out->columns[out->columns_len++] = i;
    }
    return ERR_OK;
}

/*
 * COPY (query) has no target. Defaults are evaluated once for the whole COPY, like now() in one
 * statement.
 */
static err_t plan_copy(struct az *az, const struct sql_stmt *stmt, struct sql_copy_target *out)
{
    ASSERT(stmt->ast->node != NULL);
    const PgQuery__CopyStmt *copy = stmt->ast->node->copy_stmt;
    if (copy->relation == NULL) {
        return ERR_OK;
    }
    if (stmt->kind == SQL_COPY_FROM) {
        TRY(target_table(az, copy->relation, "copy to", &out->relation));
    } else {
        TRY(az_relation(az, stmt->name.database, stmt->name.schema, stmt->name.name,
                        copy->relation->location, &out->relation));
    }
    TRY(copy_columns(az, copy, out));
    uint32_t n = out->relation->columns.cols;
    out->defaults = ARENA_ARRAY(az->arena, struct datum, n);
    for (uint32_t c = 0; c < n; c++) {
        struct sx *sx = NULL;
        TRY(default_value(az, out->relation, c, &sx));
        struct expr e;
        TRY(sx_emit(az->arena, sx, &e));
        TRY(expr_eval_const(&e, az->arena, &out->defaults[c]));
        struct datum *d = &out->defaults[c];
        if (!d->null && type_is_variable((enum type_kind)out->relation->columns.types[c].kind)) {
            d->s = arena_memdup(az->arena, d->s, d->len);
        }
    }
    return ERR_OK;
}

/* See sql.h. COPY FROM has no plan: rows are parsed by the session and written as they come. */
err_t sql_plan_copy(const struct sql_context *cx, const struct sql_stmt *stmt,
                    struct sql_copy_target **out)
{
    ASSERT(stmt->kind == SQL_COPY_FROM || stmt->kind == SQL_COPY_TO);
    *out = NULL;
    struct sql_copy_target *target = MEM_NEW(struct sql_copy_target);
    struct az az;
    az_init(&az, &target->arena, cx, stmt);
    err_t err = plan_copy(&az, stmt, target);
    az_release(&az);
    if (err != ERR_OK) {
        sql_copy_target_free(target);
        return err;
    }
    *out = target;
    return ERR_OK;
}

void sql_copy_target_free(struct sql_copy_target *target)
{
    if (target == NULL) {
        return;
    }
    arena_free(&target->arena);
    free(target);
}
