/*
 * CREATE ...: definitions with everything resolved, and their normalised text.
 *
 * What is stored of a view is text, as the catalog outlives every version of this code: the parse
 * tree with each name qualified (az->qualify), deparsed by libpg_query. A later search path or a
 * new relation of the same name cannot change what it means. Analysing and lowering it now refuses
 * what could not be planned later.
 *
 *   CREATE VIEW v AS SELECT a FROM t      ->  definition  SELECT a FROM public.t
 *                                             create_sql  CREATE VIEW v AS SELECT a FROM public.t
 *
 * Nothing is checked against other objects here (does the name exist already, may this be dropped):
 * the catalog's transaction does that. Dependencies are the relations named directly; az_relation
 * notes them. Entry point: sql_plan_ddl.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

#include <ctype.h>
#include <errno.h>
#include <pg_query.h>

/* ---- text ------------------------------------------------------------------------------------ */

/* libpg_query works on its packed form; the tree is packed again as it may have been changed. */
err_t sql_deparse(struct arena *arena, pg_node *node, const char **out)
{
    ASSERT(node != NULL);
    PgQuery__RawStmt raw = PG_QUERY__RAW_STMT__INIT;
    raw.stmt = node;
    PgQuery__RawStmt *stmts[1] = {&raw};
    PgQuery__ParseResult tree = PG_QUERY__PARSE_RESULT__INIT;
    tree.version = PG_VERSION_NUM;
    tree.stmts = stmts;
    tree.n_stmts = 1;
    size_t len = pg_query__parse_result__get_packed_size(&tree);
    PgQueryProtobuf packed = {.len = len, .data = arena_alloc(arena, len)};
    pg_query__parse_result__pack(&tree, (uint8_t *)packed.data);
    PgQueryDeparseResult result = pg_query_deparse_protobuf(packed);
    err_t err = ERR_OK;
    if (result.error != NULL) {
        err = err_new(ERR_INTERNAL, "the statement cannot be written back: %s",
                      result.error->message);
    } else {
        *out = sql_mutual_text(arena, arena_strdup(arena, result.query));
    }
    pg_query_free_deparse_result(result);
    return err;
}

/*
 * PostgreSQL's reserved words that could not stand as a column or table name, and everything that
 * is not plain lower case.
 */
static bool needs_quotes(const char *name)
{
    ASSERT(name != NULL);
    static const char *const reserved[] = {
        "all",    "and",     "any",    "array",  "as",    "asc",       "both",     "case",
        "cast",   "check",   "column", "create", "cross", "default",   "desc",     "distinct",
        "do",     "else",    "end",    "except", "false", "for",       "from",     "full",
        "grant",  "group",   "having", "in",     "inner", "intersect", "into",     "is",
        "join",   "leading", "left",   "like",   "limit", "natural",   "not",      "null",
        "offset", "on",      "only",   "or",     "order", "outer",     "primary",  "references",
        "right",  "select",  "some",   "table",  "then",  "to",        "trailing", "true",
        "union",  "unique",  "user",   "using",  "when",  "where",     "window",   "with",
    };
    for (size_t i = 0; i < ARRAY_LEN(reserved); i++) {
        if (strcmp(reserved[i], name) == 0) {
            return true;
        }
    }
    bool plain = islower((unsigned char)name[0]) || name[0] == '_';
    for (const char *c = name; *c != '\0' && plain; c++) {
        plain = islower((unsigned char)*c) || isdigit((unsigned char)*c) || *c == '_' || *c == '$';
    }
    return !plain;
}

/* Quotes inside are doubled; a plain name is returned as it is, not copied. */
const char *sql_quote_ident(struct arena *arena, const char *name)
{
    ASSERT(name != NULL);
    if (!needs_quotes(name)) {
        return name;
    }
    char *out = arena_alloc(arena, strlen(name) * 2 + 3);
    char *to = out;
    *to++ = '"';
    for (const char *c = name; *c != '\0'; c++) {
        if (*c == '"') {
            *to++ = '"';
        }
        *to++ = *c;
    }
    *to++ = '"';
    return out;
}

/* Only the parts that are there. */
static const char *quoted_name(struct arena *arena, const struct sql_name *name)
{
    ASSERT(name->name != NULL);
    const char *text = sql_quote_ident(arena, name->name);
    if (name->schema != NULL) {
        text = arena_printf(arena, "%s.%s", sql_quote_ident(arena, name->schema), text);
    }
    if (name->database != NULL) {
        text = arena_printf(arena, "%s.%s", sql_quote_ident(arena, name->database), text);
    }
    return text;
}

/* The statement as the user wrote it: for those that name nothing a search path could change. */
static const char *own_text(struct arena *arena, const struct sql_stmt *stmt)
{
    ASSERT(stmt->start <= stmt->end && stmt->end <= stmt->script->text_len);
    return arena_strndup(arena, stmt->script->text + stmt->start, stmt->end - stmt->start);
}

/* Names of a statement live with its script; the definition outlives it. */
static struct sql_name copy_name(struct arena *arena, const struct sql_name *name)
{
    ASSERT(name != NULL);
    struct sql_name copy = {.location = name->location};
    copy.name = name->name != NULL ? arena_strdup(arena, name->name) : NULL;
    copy.schema = name->schema != NULL ? arena_strdup(arena, name->schema) : NULL;
    copy.database = name->database != NULL ? arena_strdup(arena, name->database) : NULL;
    return copy;
}

static struct sql_options copy_options(struct arena *arena, const struct sql_options *from)
{
    ASSERT(from->len == 0 || from->items != NULL);
    struct sql_options out = {.len = from->len};
    out.items = ARENA_ARRAY(arena, struct sql_option, from->len);
    for (uint32_t i = 0; i < from->len; i++) {
        out.items[i].name = arena_strdup(arena, from->items[i].name);
        out.items[i].location = from->items[i].location;
        if (from->items[i].value != NULL) {
            out.items[i].value = arena_strdup(arena, from->items[i].value);
        }
    }
    return out;
}

/* ---- what is maintained ---------------------------------------------------------------------- */

bool sql_parse_size(const char *text, uint64_t *bytes)
{
    static const struct {
        const char *unit;
        uint32_t shift;
    } units[] = {{"", 0}, {"B", 0}, {"kB", 10}, {"MB", 20}, {"GB", 30}, {"TB", 40}};
    char *end = NULL;
    if (text == NULL || text[0] < '0' || text[0] > '9') {
        return false; /* strtoull would take a sign */
    }
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    end += strspn(end, " ");
    for (size_t i = 0; errno == 0 && i < ARRAY_LEN(units); i++) {
        if (strcmp(end, units[i].unit) == 0 && number <= (uint64_t)INT64_MAX >> units[i].shift) {
            *bytes = (uint64_t)number << units[i].shift;
            return true;
        }
    }
    return false;
}

/* WITH (...) of an index or materialized view; *text is what the definition says of it. */
static err_t maintained_options(struct az *az, const struct sql_stmt *stmt, struct sql_ddl *out,
                                const char **text)
{
    const struct sql_options *options = &stmt->ast->options;
    *text = "";
    for (uint32_t i = 0; i < options->len; i++) {
        const struct sql_option *o = &options->items[i];
        if (strcmp(o->name, "memory_limit") != 0) {
            return az_err(az, -1, ERR_INVALID, "22023", "unrecognized parameter \"%s\"", o->name);
        }
        if (!sql_parse_size(o->value, &out->memory_limit) || out->memory_limit == 0) {
            return err_hint(az_err(az, -1, ERR_INVALID, "22023",
                                   "invalid value for parameter \"memory_limit\": \"%s\"",
                                   o->value != NULL ? o->value : ""),
                            "It is a size, such as '500MB' or '2GB'.");
        }
        *text = arena_printf(az->arena, " WITH (memory_limit = '%s')", o->value);
    }
    return ERR_OK;
}

/* ---- tables ---------------------------------------------------------------------------------- */

/*
 * The default's text, after its type was checked: 'x' for an int is refused now, not at the first
 * INSERT. Written back as the only target of a SELECT, whose keyword is cut off.
 */
static err_t column_default(struct az *az, pg_node *expr, struct type type, const char **out)
{
    ASSERT(expr != NULL && out != NULL);
    /* Its text: that of SELECT expr without the SELECT. */
    PgQuery__ResTarget target = PG_QUERY__RES_TARGET__INIT;
    target.val = expr;
    target.name = (char *)"";
    PgQuery__Node target_node = PG_QUERY__NODE__INIT;
    target_node.node_case = PG_QUERY__NODE__NODE_RES_TARGET;
    target_node.res_target = &target;
    PgQuery__Node *list[1] = {&target_node};
    PgQuery__SelectStmt select = PG_QUERY__SELECT_STMT__INIT;
    select.target_list = list;
    select.n_target_list = 1;
    select.limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
    select.op = PG_QUERY__SET_OPERATION__SETOP_NONE;
    PgQuery__Node select_node = PG_QUERY__NODE__INIT;
    select_node.node_case = PG_QUERY__NODE__NODE_SELECT_STMT;
    select_node.select_stmt = &select;
    const char *text = NULL;
    struct scope scope = {.no_aggs = "DEFAULT expressions"};
    struct sx *sx = NULL;
    TRY(az_expr(az, &scope, expr, &sx));
    if (sx_has_subquery(sx)) {
        return az_err(az, pg_location(expr), ERR_UNSUPPORTED, "0A000",
                      "cannot use subquery in DEFAULT expression");
    }
    TRY(az_coerce(az, sx, type, CAST_ASSIGNMENT, &sx));
    TRY(sql_deparse(az->arena, &select_node, &text));
    ASSERT(strncmp(text, "SELECT ", 7) == 0);
    *out = text + 7;
    return ERR_OK;
}

/* NOT NULL and DEFAULT; others would have to be enforced against all rows. */
static err_t column_constraint(struct az *az, const PgQuery__Constraint *c, struct type *type,
                               const char **text)
{
    ASSERT(type != NULL);
    switch (c->contype) {
    case PG_QUERY__CONSTR_TYPE__CONSTR_NOTNULL:
        type->nullable = false;
        return ERR_OK;
    case PG_QUERY__CONSTR_TYPE__CONSTR_NULL:
        return ERR_OK;
    case PG_QUERY__CONSTR_TYPE__CONSTR_DEFAULT:
        return column_default(az, c->raw_expr, *type, text);
    case PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY:
    case PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE:
        return err_hint(AZ_UNSUPPORTED(az, c->location,
                                       "PRIMARY KEY and UNIQUE constraints are not supported"),
                        "A table is a multiset of rows; an index makes lookups by a key fast.");
    default:
        return AZ_UNSUPPORTED(az, c->location, "this column constraint is not supported");
    }
}

/* One column: of a table, or of a source's column list. */
static err_t table_column(struct az *az, const PgQuery__ColumnDef *def, struct sql_ddl *out,
                          uint32_t at)
{
    ASSERT(at == out->columns.cols);
    struct type *type = &out->columns.types[at];
    TRY(az_type(az, def->type_name, type));
    type->nullable = true;
    if (type_element_of(type->oid) != 0) {
        return AZ_UNSUPPORTED(az, def->type_name->location,
                              "columns of array types are not supported");
    }
    if (interval_has_fields(type)) {
        return AZ_UNSUPPORTED(az, def->type_name->location,
                              "columns of an interval type with fields are not supported");
    }
    out->columns.names[at] = arena_strdup(az->arena, def->colname);
    for (uint32_t i = 0; i < at; i++) {
        if (strcmp(out->columns.names[i], def->colname) == 0) {
            return az_err(az, def->location, ERR_INVALID, "42701",
                          "column \"%s\" specified more than once", def->colname);
        }
    }
    for (size_t i = 0; i < def->n_constraints; i++) {
        TRY(column_constraint(az, def->constraints[i]->constraint, type, &out->defaults[at]));
    }
    return ERR_OK;
}

/* In the order written; names must differ. */
static err_t table_columns(struct az *az, const PgQuery__CreateStmt *s, struct sql_ddl *out)
{
    ASSERT(out->columns.cols == 0);
    size_t n = s->n_table_elts;
    out->columns.types = ARENA_ARRAY(az->arena, struct type, n);
    out->columns.names = ARENA_ARRAY(az->arena, const char *, n);
    out->defaults = ARENA_ARRAY(az->arena, const char *, n);
    for (size_t i = 0; i < n; i++) {
        if (s->table_elts[i]->node_case != PG_QUERY__NODE__NODE_COLUMN_DEF) {
            return AZ_UNSUPPORTED(az, -1, "table constraints are not supported");
        }
        /*
         * cols grows only when the column is complete: names before it are what it is compared
         * with.
         */
        TRY(table_column(az, s->table_elts[i]->column_def, out, out->columns.cols));
        out->columns.cols++;
    }
    /* As many as one batch carries. */
    if (out->columns.cols > BATCH_COLS_MAX) {
        return err_sql(ERR_LIMIT, "54011", "tables can have at most %d columns", BATCH_COLS_MAX);
    }
    return ERR_OK;
}

/* ---- views ----------------------------------------------------------------------------------- */

/* The query's names, the first of them replaced by (a, b, ...). */
static err_t view_columns(struct az *az, const char *const *aliases, size_t aliases_len,
                          const struct query *q, struct sql_ddl *out)
{
    ASSERT(q->targets == NULL);
    const char **names = arena_memdup(az->arena, q->names, q->cols_len * sizeof(names[0]));
    if (aliases_len > q->cols_len) {
        return err_sql(ERR_INVALID, "42601",
                       "CREATE VIEW specifies more column names than columns");
    }
    for (size_t i = 0; i < aliases_len; i++) {
        names[i] = aliases[i];
    }
    for (uint32_t i = 0; i < q->cols_len; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(names[i], names[j]) == 0) {
                return err_sql(ERR_INVALID, "42701", "column \"%s\" specified more than once",
                               names[i]);
            }
        }
    }
    out->columns = schema_copy(az->arena, names, q->rel->types, q->cols_len);
    return ERR_OK;
}

/*
 * The definition is written back with every name qualified, so that a later search path cannot
 * change what it means.
 */
static err_t view(struct az *az, const struct sql_stmt *stmt, struct sql_ddl *out)
{
    ASSERT(stmt->kind == SQL_CREATE_VIEW || stmt->kind == SQL_CREATE_MATERIALIZED_VIEW);
    pg_node *node = stmt->ast->node, *query = node;
    pg_node **list = NULL;
    size_t aliases_len = stmt->ast->names_len;
    const char **aliases = stmt->ast->names;
    if (node->node_case == PG_QUERY__NODE__NODE_VIEW_STMT) {
        query = node->view_stmt->query;
        list = node->view_stmt->aliases;
        aliases_len = node->view_stmt->n_aliases;
        out->or_replace = node->view_stmt->replace != 0;
    } else if (node->node_case == PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT) {
        query = node->create_table_as_stmt->query;
        list = node->create_table_as_stmt->into->col_names;
        aliases_len = node->create_table_as_stmt->into->n_col_names;
        out->if_not_exists = node->create_table_as_stmt->if_not_exists != 0;
    }
    if (list != NULL) {
        aliases = ARENA_ARRAY(az->arena, const char *, aliases_len);
        for (size_t i = 0; i < aliases_len; i++) {
            aliases[i] = pg_string(list[i]);
        }
    }
    struct query q;
    /* Names are written into the tree during the analysis, before it is deparsed. */
    az->maintained = true;
    az->qualify = true;
    TRY(az_query(az, query, NULL, 0, &q));
    TRY(az_query_finish(az, &q, NULL));
    TRY(view_columns(az, aliases, aliases_len, &q, out));
    struct rel *rel = az_query_rel(az, &q);
    TRY(rel_lower(az, rel, &rel)); /* what cannot be planned is refused now */
    TRY(sql_deparse(az->arena, query, &out->definition));
    /* Only what was said goes into the text: the session's cluster may be another later. */
    const char *cluster =
        out->cluster == NULL
            ? ""
            : arena_printf(az->arena, " IN CLUSTER %s", sql_quote_ident(az->arena, out->cluster));
    const char *options = "";
    TRY(maintained_options(az, stmt, out, &options));
    bool materialized = stmt->kind == SQL_CREATE_MATERIALIZED_VIEW;
    const char *columns = "";
    for (size_t i = 0; i < aliases_len; i++) {
        columns = arena_printf(az->arena, "%s%s%s", columns, i == 0 ? "" : ", ",
                               sql_quote_ident(az->arena, out->columns.names[i]));
    }
    out->create_sql = arena_printf(
        az->arena, "CREATE %sVIEW %s%s%s%s%s%s AS %s", materialized ? "MATERIALIZED " : "",
        quoted_name(az->arena, &out->name), aliases_len > 0 ? " (" : "", columns,
        aliases_len > 0 ? ")" : "", materialized ? cluster : "", options, out->definition);
    return ERR_OK;
}

/* ---- indexes --------------------------------------------------------------------------------- */

/*
 * A plain column, possibly in parentheses. Order and NULLS are accepted: an index here is looked
 * up, never scanned in order.
 */
static err_t index_key(struct az *az, const struct sql_relation *on, const PgQuery__IndexElem *e,
                       uint32_t *out)
{
    ASSERT(on != NULL);
    const char *name = e->name != NULL && e->name[0] != '\0' ? e->name : NULL;
    if (name == NULL && e->expr != NULL && e->expr->node_case == PG_QUERY__NODE__NODE_COLUMN_REF &&
        e->expr->column_ref->n_fields == 1) {
        name = pg_string(e->expr->column_ref->fields[0]);
    }
    if (name == NULL) {
        return AZ_UNSUPPORTED(az, pg_location(e->expr), "indexes on expressions are not supported");
    }
    for (uint32_t i = 0; i < on->columns.cols; i++) {
        if (strcmp(on->columns.names[i], name) == 0) {
            *out = i;
            return ERR_OK;
        }
    }
    return az_err(az, -1, ERR_INVALID, "42703", "column \"%s\" does not exist", name);
}

/*
 * On any relation that has rows of its own or a definition. Without a list all columns are the key.
 */
static err_t create_index(struct az *az, const struct sql_stmt *stmt, struct sql_ddl *out)
{
    ASSERT(stmt->kind == SQL_CREATE_INDEX);
    const struct sql_name *on = &stmt->ast->on;
    const struct sql_relation *relation = NULL;
    uint32_t base = az->base;
    az->base = 0;
    TRY(az_relation(az, on->database, on->schema, on->name, on->location, &relation));
    az->base = base;
    if (relation->kind == SQL_REL_INDEX || relation->kind == SQL_REL_VIRTUAL) {
        return err_sql(ERR_INVALID, "42809", "cannot create an index on \"%s\"", relation->name);
    }
    out->index.on = relation;
    out->index.is_default = stmt->ast->is_default;
    const PgQuery__IndexStmt *s = stmt->ast->node == NULL ? NULL : stmt->ast->node->index_stmt;
    size_t n = s == NULL ? 0 : s->n_index_params;
    if (s != NULL && (s->unique || s->where_clause != NULL || s->n_index_including_params > 0)) {
        return AZ_UNSUPPORTED(az, -1, "unique, partial and covering indexes are not supported");
    }
    /* One array for both ways: the list, or all columns. */
    out->index.keys = ARENA_ARRAY(az->arena, uint32_t, n > 0 ? n : relation->columns.cols);
    for (size_t i = 0; i < n; i++) {
        TRY(index_key(az, relation, s->index_params[i]->index_elem, &out->index.keys[i]));
    }
    out->index.keys_len = (uint32_t)n;
    for (uint32_t i = 0; n == 0 && i < relation->columns.cols; i++) {
        out->index.keys[out->index.keys_len++] = i;
    }
    const char *keys = "";
    for (uint32_t i = 0; i < out->index.keys_len; i++) {
        const char *name = relation->columns.names[out->index.keys[i]];
        keys = arena_printf(az->arena, "%s%s%s", keys, i == 0 ? "" : ", ",
                            sql_quote_ident(az->arena, name));
    }
    /*
     * The text names the cluster even when the user did not: the session's may be another next
     * time.
     */
    struct sql_name full = {
        .database = relation->database, .schema = relation->schema, .name = relation->name};
    const char *cluster = out->cluster != NULL ? out->cluster : az->cx->cluster;
    const char *options = "";
    TRY(maintained_options(az, stmt, out, &options));
    out->create_sql =
        arena_printf(az->arena, "CREATE INDEX %s%sIN CLUSTER %s ON %s (%s)%s",
                     out->name.name == NULL ? "" : sql_quote_ident(az->arena, out->name.name),
                     out->name.name == NULL ? "" : " ",
                     sql_quote_ident(az->arena, cluster == NULL ? "default" : cluster),
                     quoted_name(az->arena, &full), keys, options);
    return ERR_OK;
}

/* ---- sources and clusters -------------------------------------------------------------------- */

/* 22023 where the option is written. */
static err_t option_error(const struct sql_stmt *stmt, const struct sql_option *o, const char *what)
{
    ASSERT(o->location >= 0);
    return sql_position(err_sql(ERR_INVALID, "22023", "%s option \"%s\"", what, o->name),
                        stmt->script->text, (uint32_t)o->location);
}

/* TAIL = true, or just TAIL. */
static err_t bool_option(const struct sql_stmt *stmt, const struct sql_option *o, bool *out)
{
    return sql_bool_of_text(o->value, out)
               ? ERR_OK
               : option_error(stmt, o, "invalid value for the boolean");
}

/*
 * The path is opened by storaged, on its machine; whether it can be is told by the source's status.
 */
static err_t create_source(struct az *az, const struct sql_stmt *stmt, struct sql_ddl *out)
{
    ASSERT(stmt->ast->path != NULL);
    const struct sql_ast *ast = stmt->ast;
    if (ast->columns != NULL) {
        az->base = ast->columns_base;
        TRY(table_columns(az, ast->columns->create_stmt, out));
    }
    /*
     * A column list and a count must agree; a count alone names the columns column1, column2, ...
     */
    if (ast->format == SQL_FORMAT_CSV && ast->csv_columns > 0 && out->columns.cols > 0 &&
        ast->csv_columns != out->columns.cols) {
        return err_sql(ERR_INVALID, "42601", "the source has %u columns, but FORMAT CSV says %u",
                       out->columns.cols, ast->csv_columns);
    }
    uint32_t named = out->columns.cols == 0 ? ast->csv_columns : 0;
    if (named > 0) {
        out->columns.types = ARENA_ARRAY(az->arena, struct type, named);
        out->columns.names = ARENA_ARRAY(az->arena, const char *, named);
        out->columns.cols = named;
        for (uint32_t i = 0; i < named; i++) {
            out->columns.types[i] = type_of(TYPE_TEXT);
            out->columns.names[i] = arena_printf(az->arena, "column%u", i + 1);
        }
    }
    if (ast->path[0] == '\0') {
        return err_sql(ERR_INVALID, "22023", "the path of a file source must not be empty");
    }
    out->source.path = arena_strdup(az->arena, ast->path);
    out->source.format = ast->format;
    out->source.header = ast->header;
    out->source.csv_columns = ast->csv_columns;
    out->source.delimiter = ast->delimiter;
    out->source.options = copy_options(az->arena, &ast->options);
    for (uint32_t i = 0; i < ast->options.len; i++) {
        const struct sql_option *o = &ast->options.items[i];
        if (strcmp(o->name, "tail") == 0) {
            TRY(bool_option(stmt, o, &out->source.tail));
        } else {
            return option_error(stmt, o, "unrecognized source");
        }
    }
    out->create_sql = own_text(az->arena, stmt);
    return ERR_OK;
}

/* Which sizes there are the controller knows. */
static err_t create_cluster(struct az *az, const struct sql_stmt *stmt, struct sql_ddl *out)
{
    ASSERT(stmt->kind == SQL_CREATE_CLUSTER);
    const struct sql_options *options = &stmt->ast->options;
    out->cluster_options.size = "1";
    out->cluster_options.replication_factor = 1;
    out->cluster_options.options = copy_options(az->arena, options);
    for (uint32_t i = 0; i < options->len; i++) {
        const struct sql_option *o = &options->items[i];
        if (strcmp(o->name, "size") == 0 && o->value != NULL) {
            out->cluster_options.size = arena_strdup(az->arena, o->value);
        } else if (strcmp(o->name, "replication_factor") == 0 && o->value != NULL) {
            char *end = NULL;
            unsigned long n = strtoul(o->value, &end, 10);
            if (*end != '\0' || n > 64) {
                return option_error(stmt, o, "invalid value for the");
            }
            out->cluster_options.replication_factor = (uint32_t)n;
        } else {
            return option_error(stmt, o, "unrecognized cluster");
        }
    }
    out->create_sql = own_text(az->arena, stmt);
    return ERR_OK;
}

/* ---- all ------------------------------------------------------------------------------------- */

/* By kind; everything in out lives in its own arena. */
static err_t plan_ddl(struct az *az, const struct sql_stmt *stmt, struct sql_ddl *out)
{
    ASSERT(out->kind == 0);
    const struct sql_ast *ast = stmt->ast;
    out->kind = stmt->kind;
    out->name = copy_name(az->arena, &stmt->name);
    out->if_not_exists = ast->if_not_exists;
    out->cluster = ast->cluster == NULL ? NULL : arena_strdup(az->arena, ast->cluster);
    switch (stmt->kind) {
    case SQL_CREATE_TABLE:
        out->if_not_exists = ast->node->create_stmt->if_not_exists != 0;
        TRY(table_columns(az, ast->node->create_stmt, out));
        return sql_deparse(az->arena, ast->node, &out->create_sql);
    case SQL_CREATE_VIEW:
    case SQL_CREATE_MATERIALIZED_VIEW:
        return view(az, stmt, out);
    case SQL_CREATE_INDEX:
        return create_index(az, stmt, out);
    case SQL_CREATE_SOURCE:
        return create_source(az, stmt, out);
    case SQL_CREATE_CLUSTER:
        return create_cluster(az, stmt, out);
    case SQL_CREATE_SCHEMA:
    case SQL_CREATE_DATABASE:
        out->create_sql = own_text(az->arena, stmt);
        return ERR_OK;
    default:
        return err_new(ERR_INTERNAL, "statement of kind %u defines nothing", stmt->kind);
    }
}

/*
 * The definition stays valid when the statement and the catalog's answers are gone, but for
 * index.on, which lives in the same arena or in the catalog.
 */
err_t sql_plan_ddl(const struct sql_context *cx, const struct sql_stmt *stmt, struct sql_ddl **out)
{
    *out = NULL;
    struct sql_ddl *ddl = MEM_NEW(struct sql_ddl);
    struct az az;
    az_init(&az, &ddl->arena, cx, stmt);
    az.symbolic_now = true;
    err_t err = plan_ddl(&az, stmt, ddl);
    if (err == ERR_OK) {
        ddl->depends =
            arena_memdup(&ddl->arena, az.depends.ids, az.depends.ids_len * sizeof(uint64_t));
        ddl->depends_len = (uint32_t)az.depends.ids_len;
    }
    az_release(&az);
    if (err != ERR_OK) {
        sql_ddl_free(ddl);
        return err;
    }
    *out = ddl;
    return ERR_OK;
}

/* NULL is allowed. */
void sql_ddl_free(struct sql_ddl *ddl)
{
    if (ddl == NULL) {
        return;
    }
    arena_free(&ddl->arena);
    free(ddl);
}
