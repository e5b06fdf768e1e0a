/*
 * Names: errors with positions, columns in scopes, relations in the catalog.
 *
 * A scope is what one FROM clause offers; scopes nest like the queries they belong to, and a column
 * reference counts how many it goes up (sx.level). The nearest scope that has the name wins, and
 * within a scope a name that two items have is ambiguous (42702), as in PostgreSQL
 * (parse_relation.c).
 *
 *   SELECT ... FROM t WHERE EXISTS (SELECT 1 FROM s, (SELECT a FROM u) q WHERE ...)
 *
 *   inside q:  u is level 0; s is level 1 but hidden, q being not LATERAL; t is level 2
 *
 * Hidden scopes count, so that lowering needs to know nothing of hiding. A name that only a hidden
 * scope has gives 42P01 "invalid reference to FROM-clause entry", not "missing".
 *
 * az_err and az_position turn a byte offset of the parse tree into a character position of the
 * statement; while a view's or macro's own text is analysed (az->text NULL) there is none.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include <stdio.h>

/* The first position stays: it is the innermost. */
err_t az_position(const struct az *az, err_t err, int location)
{
    ASSERT(err != ERR_OK);
    if (location < 0 || az->text == NULL || err_position_get(err) != 0) {
        return err;
    }
    return sql_position(err, az->text, az->base + (uint32_t)location);
}

/* vasprintf's only failure is memory, which is not handled anywhere in this program. */
err_t az_err(const struct az *az, int location, enum err_code code, const char *sqlstate,
             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int len = vasprintf(&text, format, args);
    va_end(args);
    ASSERT(len >= 0);
    err_t err = err_sql(code, sqlstate, "%s", text);
    free(text);
    return az_position(az, err, location);
}

/*
 * Analysis and lowering recurse as deep as the statement is nested, views included: stack use is
 * bounded here and nowhere else.
 */
err_t az_enter(struct az *az)
{
    if (az->depth >= AZ_DEPTH_MAX) {
        return err_sql(ERR_LIMIT, "54001", "statement is too deeply nested");
    }
    az->depth++;
    return ERR_OK;
}

/* Linear: a statement names few relations. */
bool idset_add(struct idset *set, uint64_t id)
{
    ASSERT(set->ids_len <= set->ids_cap);
    for (size_t i = 0; i < set->ids_len; i++) {
        if (set->ids[i] == id) {
            return false;
        }
    }
    *VEC_PUSH(set, ids) = id;
    return true;
}

/*
 * Where an expression begins, -1 when the tree does not say. An operator's own location is the
 * operator's: what stands left of it begins earlier.
 */
int pg_location(const pg_node *node)
{
    if (node == NULL) {
        return -1;
    }
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_A_CONST:
        return node->a_const->location;
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        return node->column_ref->location;
    case PG_QUERY__NODE__NODE_PARAM_REF:
        return node->param_ref->location;
    case PG_QUERY__NODE__NODE_A_EXPR: {
        int left = pg_location(node->a_expr->lexpr);
        return left >= 0 && left < node->a_expr->location ? left : node->a_expr->location;
    }
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        return node->func_call->location;
    case PG_QUERY__NODE__NODE_TYPE_CAST: {
        int arg = pg_location(node->type_cast->arg);
        return arg >= 0 && arg < node->type_cast->location ? arg : node->type_cast->location;
    }
    case PG_QUERY__NODE__NODE_BOOL_EXPR: {
        int first = pg_location(node->bool_expr->args[0]);
        int own = node->bool_expr->location;
        return first >= 0 && first < own ? first : own;
    }
    case PG_QUERY__NODE__NODE_SUB_LINK:
        return node->sub_link->location;
    case PG_QUERY__NODE__NODE_CASE_EXPR:
        return node->case_expr->location;
    case PG_QUERY__NODE__NODE_COALESCE_EXPR:
        return node->coalesce_expr->location;
    case PG_QUERY__NODE__NODE_MIN_MAX_EXPR:
        return node->min_max_expr->location;
    case PG_QUERY__NODE__NODE_NULL_TEST:
        return pg_location(node->null_test->arg);
    case PG_QUERY__NODE__NODE_BOOLEAN_TEST:
        return pg_location(node->boolean_test->arg);
    case PG_QUERY__NODE__NODE_ROW_EXPR:
        return node->row_expr->location;
    case PG_QUERY__NODE__NODE_SQLVALUE_FUNCTION:
        return node->sqlvalue_function->location;
    case PG_QUERY__NODE__NODE_COLLATE_CLAUSE:
        return pg_location(node->collate_clause->arg);
    case PG_QUERY__NODE__NODE_A_ARRAY_EXPR:
        return node->a_array_expr->location;
    case PG_QUERY__NODE__NODE_RES_TARGET:
        return node->res_target->location;
    case PG_QUERY__NODE__NODE_RANGE_VAR:
        return node->range_var->location;
    default:
        return -1;
    }
}

/* ---- columns --------------------------------------------------------------------------------- */

/*
 * The columns of one scope that have the name; table: an item of that name is there, columns or
 * not.
 */
struct found {
    const struct nscol *col;
    bool ambiguous;
    bool table;
};

/*
 * schema and table may be NULL: then all items whose columns are visible unqualified. An alias
 * hides the relation's own name and schema.
 */
static struct found find_in(const struct scope *scope, const char *schema, const char *table,
                            const char *name)
{
    ASSERT(name != NULL);
    struct found f = {0};
    for (size_t i = 0; i < scope->items_len; i++) {
        const struct nsitem *item = scope->items[i];
        if (table == NULL
                ? !item->cols_visible
                : !item->rel_visible || item->alias == NULL || strcmp(item->alias, table) != 0 ||
                      (schema != NULL &&
                       (item->schema == NULL || strcmp(item->schema, schema) != 0))) {
            continue;
        }
        f.table = f.table || table != NULL;
        for (uint32_t c = 0; c < item->cols_len; c++) {
            if (strcmp(item->cols[c].name, name) == 0) {
                f.ambiguous = f.ambiguous || f.col != NULL;
                f.col = &item->cols[c];
            }
        }
    }
    return f;
}

/* The item called so, or NULL. */
static const struct nsitem *find_relation(const struct scope *scope, const char *name)
{
    ASSERT(scope != NULL && name != NULL);
    for (size_t i = 0; i < scope->items_len; i++) {
        const struct nsitem *item = scope->items[i];
        if (item->rel_visible && item->alias != NULL && strcmp(item->alias, name) == 0) {
            return item;
        }
    }
    return NULL;
}

static bool names_relation(const struct scope *scope, const char *name)
{
    return find_relation(scope, name) != NULL;
}

/* A relation of that name is there, but under an alias. */
static bool hides_relation(const struct scope *scope, const char *name)
{
    ASSERT(scope != NULL && name != NULL);
    for (size_t i = 0; i < scope->items_len; i++) {
        if (scope->items[i]->name != NULL && strcmp(scope->items[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * 42P01 in one of PostgreSQL's two forms: t exists, but an alias or a missing LATERAL hides it; or
 * it does not exist at all.
 */
err_t az_no_table(struct az *az, const struct scope *scope, const char *table, int location)
{
    ASSERT(table != NULL);
    bool hidden = false;
    for (const struct scope *s = scope; s != NULL && !hidden; s = s->parent) {
        hidden = hides_relation(s, table) || names_relation(s, table);
    }
    return az_err(az, location, ERR_INVALID, "42P01", "%s for table \"%s\"",
                  hidden ? "invalid reference to FROM-clause entry" : "missing FROM-clause entry",
                  table);
}

static struct sx *column_at(struct az *az, const struct nscol *col, uint32_t level, int location)
{
    struct sx *sx = sx_col(az->arena, col->at, col->type);
    sx->level = level;
    sx->location = location;
    return sx;
}

/*
 * The nearest scope that has the name wins; scopes that are hidden still count in the level. A bare
 * name that is a relation's stands for its whole row: of a function that gives values that is the
 * value, others the engine does not have.
 */
err_t az_column(struct az *az, struct scope *scope, const char *schema, const char *table,
                const char *name, int location, struct sx **out)
{
    ASSERT(name != NULL);
    uint32_t level = 0, hidden = 0;
    bool whole_row = false, saw_hidden = false;
    struct sx *row = NULL;
    for (struct scope *s = scope; s != NULL; s = s->parent, level++) {
        /* Not visible from here; noted for the message only. */
        if (hidden > 0) {
            hidden--;
            saw_hidden = saw_hidden || (table != NULL && names_relation(s, table));
            hidden = s->hide > hidden ? s->hide : hidden;
            continue;
        }
        struct found f = find_in(s, schema, table, name);
        if (f.ambiguous) {
            return az_err(az, location, ERR_INVALID, "42702",
                          "column reference \"%s\" is ambiguous", name);
        }
        if (f.col != NULL) {
            *out = column_at(az, f.col, level, location);
            return ERR_OK;
        }
        /* The table is there, so no outer scope is asked, as in PostgreSQL. */
        if (f.table) {
            return az_err(az, location, ERR_INVALID, "42703", "column %s.%s does not exist", table,
                          name);
        }
        saw_hidden = saw_hidden || (table != NULL && hides_relation(s, table));
        const struct nsitem *item = table == NULL ? find_relation(s, name) : NULL;
        if (item != NULL && item->is_value && row == NULL) {
            row = column_at(az, &item->cols[0], level, location);
        }
        whole_row = whole_row || item != NULL;
        hidden = s->hide;
    }
    if (row != NULL) {
        *out = row;
        return ERR_OK;
    }
    if (whole_row) {
        return AZ_UNSUPPORTED(az, location, "whole-row references are not supported");
    }
    if (table == NULL) {
        return az_err(az, location, ERR_INVALID, "42703", "column \"%s\" does not exist", name);
    }
    return az_err(
        az, location, ERR_INVALID, "42P01", "%s for table \"%s\"",
        saw_hidden ? "invalid reference to FROM-clause entry" : "missing FROM-clause entry", table);
}

/* ---- relations ------------------------------------------------------------------------------- */

/*
 * Resolves a name and notes it as a dependency, unless a view in between names it: dropping is
 * about direct dependencies. Catalog tables cannot be dropped.
 */
err_t az_relation(struct az *az, const char *database, const char *schema, const char *name,
                  int location, const struct sql_relation **out)
{
    ASSERT(name != NULL);
    const struct sql_catalog *catalog = az->cx->catalog;
    *out = NULL;
    TRY(catalog->relation(az->cx->catalog_ctx, database, schema, name, az->arena, out));
    if (*out == NULL) {
        if (schema != NULL && catalog->schema_exists != NULL &&
            !catalog->schema_exists(az->cx->catalog_ctx, database, schema)) {
            return az_err(az, location, ERR_NOT_FOUND, "42P01", "relation \"%s.%s\" does not exist",
                          schema, name);
        }
        return az_err(az, location, ERR_NOT_FOUND, "42P01", "relation \"%s%s%s\" does not exist",
                      schema == NULL ? "" : schema, schema == NULL ? "" : ".", name);
    }
    if (az->view_depth == 0 && (*out)->kind != SQL_REL_VIRTUAL) {
        idset_add(&az->depends, (*out)->id);
    }
    return ERR_OK;
}

/* Columns as a FROM item of that name; alias NULL makes them visible unqualified only. */
struct nsitem *az_nsitem(struct az *az, const char *schema, const char *alias,
                         const struct schema *columns)
{
    ASSERT(columns != NULL);
    struct nsitem *item = ARENA_NEW(az->arena, struct nsitem);
    item->schema = schema;
    item->alias = alias;
    item->name = alias;
    item->cols_len = columns->cols;
    item->cols = ARENA_ARRAY(az->arena, struct nscol, columns->cols);
    for (uint32_t i = 0; i < columns->cols; i++) {
        item->cols[i] =
            (struct nscol){.name = columns->names[i], .type = columns->types[i], .at = i};
    }
    item->cols_visible = true;
    item->rel_visible = alias != NULL;
    return item;
}
