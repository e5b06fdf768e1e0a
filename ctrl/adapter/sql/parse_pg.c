/*
 * Statements libpg_query parsed: what the session has to know of each without planning it.
 *
 * One function per kind of statement (of_...) fills the public part of struct sql_stmt: its kind
 * and tag, the names it concerns, its options. The tree stays in ast->node for whoever plans it.
 * What this environment does not have is refused here, as early as it can be said, with 0A000: a
 * statement that passes is one some other part carries out.
 *
 * The tree comes from libpg_query and follows its grammar; what the grammar guarantees is asserted,
 * what a user may write is an error. Entry point: sql_stmt_of_pg. Also here: pg_string and pg_name,
 * which read names out of lists of String nodes.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include <stdio.h>

/* NULL when the node is none or no String. */
const char *pg_string(const pg_node *node)
{
    if (node == NULL || node->node_case != PG_QUERY__NODE__NODE_STRING) {
        return NULL;
    }
    return node->string->sval;
}

/* a.b.c as the grammar lists it; parts before the schema are the caller's. */
const char *pg_name(pg_node *const *list, size_t len, const char **schema)
{
    if (schema != NULL) {
        *schema = len >= 2 ? pg_string(list[len - 2]) : NULL;
    }
    return len >= 1 ? pg_string(list[len - 1]) : NULL;
}

/* Protobuf has no NULL strings: an absent name is empty. */
static const char *text_or_null(const char *s)
{
    return s == NULL || s[0] == '\0' ? NULL : s;
}

/* The location counts in the script, the tree's in its own text. */
static struct sql_name name_of_range(const struct sql_stmt *stmt, const PgQuery__RangeVar *range)
{
    ASSERT(range->relname != NULL);
    return (struct sql_name){
        .database = text_or_null(range->catalogname),
        .schema = text_or_null(range->schemaname),
        .name = range->relname,
        .location = range->location < 0 ? -1 : (int)stmt->ast->base + range->location,
    };
}

/* A qualified name as a list of String nodes; those have no locations. */
static struct sql_name name_of_list(pg_node *const *list, size_t len)
{
    struct sql_name name = {.location = -1};
    name.name = pg_name(list, len, &name.schema);
    name.database = len >= 3 ? pg_string(list[len - 3]) : NULL;
    return name;
}

/* What the grammar knows and we do not do. */
static err_t unsupported(const char *what)
{
    ASSERT(what != NULL);
    return err_sql(ERR_UNSUPPORTED, "0A000", "%s is not supported", what);
}

/*
 * A statement nested in another (PREPARE p AS ..., DECLARE c CURSOR FOR ...), from its own tree.
 * The grammar admits no more than one level, so this does not recurse further.
 */
static err_t inner_of(struct sql_script *script, struct sql_stmt *stmt, pg_node *node)
{
    ASSERT(node != NULL);
    struct sql_stmt *inner = ARENA_NEW(&script->arena, struct sql_stmt);
    inner->script = script;
    inner->start = stmt->start;
    inner->end = stmt->end;
    inner->name.location = -1;
    inner->ast = ARENA_NEW(&script->arena, struct sql_ast);
    inner->ast->node = node;
    inner->ast->base = stmt->ast->base;
    stmt->inner = inner;
    return sql_stmt_of_pg(script, inner);
}

/* A value in SET or an option: constants and names, joined by ", " (search_path). */
static const char *value_text(struct sql_script *script, pg_node *const *args, size_t len)
{
    ASSERT(len == 0 || args != NULL);
    struct buf out = {0};
    for (size_t i = 0; i < len; i++) {
        if (i > 0) {
            buf_append_str(&out, ", ");
        }
        const pg_node *arg = args[i];
        if (arg->node_case == PG_QUERY__NODE__NODE_TYPE_CAST) {
            arg = arg->type_cast->arg;
        }
        if (arg->node_case == PG_QUERY__NODE__NODE_A_CONST) {
            const PgQuery__AConst *c = arg->a_const;
            switch (c->val_case) {
            case PG_QUERY__A__CONST__VAL_IVAL:
                buf_printf(&out, "%d", c->ival->ival);
                break;
            case PG_QUERY__A__CONST__VAL_FVAL:
                buf_append_str(&out, c->fval->fval);
                break;
            case PG_QUERY__A__CONST__VAL_BOOLVAL:
                buf_append_str(&out, c->boolval->boolval ? "on" : "off");
                break;
            case PG_QUERY__A__CONST__VAL_SVAL:
                buf_append_str(&out, c->sval->sval);
                break;
            default:
                break;
            }
        } else if (pg_string(arg) != NULL) {
            buf_append_str(&out, pg_string(arg));
        } else if (arg->node_case == PG_QUERY__NODE__NODE_INTEGER) {
            buf_printf(&out, "%d", arg->integer->ival);
        }
    }
    const char *text = arena_strdup(&script->arena, buf_cstr(&out));
    buf_free(&out);
    return text;
}

/* What sql_stmt promises of every statement. */
static void set_kind(struct sql_stmt *stmt, enum sql_stmt_kind kind, const char *tag, bool rows)
{
    ASSERT(tag != NULL);
    stmt->kind = (uint8_t)kind;
    stmt->tag = tag;
    stmt->returns_rows = rows;
}

/* SET x = v, SET x TO DEFAULT, RESET x, RESET ALL, SET TRANSACTION. */
static err_t of_variable_set(struct sql_script *script, struct sql_stmt *stmt,
                             const PgQuery__VariableSetStmt *set)
{
    ASSERT(set->kind != PG_QUERY__VARIABLE_SET_KIND__VARIABLE_SET_KIND_UNDEFINED);
    /* RESET is a SET to the default, under another tag. */
    bool reset = set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_RESET ||
                 set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL;
    set_kind(stmt, SQL_SET, reset ? "RESET" : "SET", false);
    stmt->variable.name =
        set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL ? "all" : set->name;
    stmt->variable.local = set->is_local;
    if (set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_SET_VALUE) {
        stmt->variable.value = value_text(script, set->args, set->n_args);
    } else if (set->kind == PG_QUERY__VARIABLE_SET_KIND__VAR_SET_MULTI) {
        /* SET TRANSACTION ...: accepted, every transaction is strictly serializable. */
        stmt->variable.value = "";
    }
    return ERR_OK;
}

/* BEGIN, COMMIT, ROLLBACK; savepoints and two-phase commit are refused. */
static err_t of_transaction(struct sql_stmt *stmt, const PgQuery__TransactionStmt *t)
{
    ASSERT(stmt->kind == 0);
    switch (t->kind) {
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_BEGIN:
        set_kind(stmt, SQL_BEGIN, "BEGIN", false);
        return ERR_OK;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_START:
        set_kind(stmt, SQL_BEGIN, "START TRANSACTION", false);
        return ERR_OK;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT:
        set_kind(stmt, SQL_COMMIT, "COMMIT", false);
        return ERR_OK;
    case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK:
        set_kind(stmt, SQL_ROLLBACK, "ROLLBACK", false);
        return ERR_OK;
    default:
        return unsupported("this transaction statement");
    }
}

/* The kinds of objects DROP and COMMENT know; false for the others. */
static bool drop_object(PgQuery__ObjectType type, uint8_t *object, const char **tag)
{
    ASSERT(object != NULL && tag != NULL);
    switch (type) {
    case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE:
        *object = SQL_OBJECT_TABLE;
        *tag = "DROP TABLE";
        return true;
    case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW:
        *object = SQL_OBJECT_VIEW;
        *tag = "DROP VIEW";
        return true;
    case PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW:
        *object = SQL_OBJECT_MATERIALIZED_VIEW;
        *tag = "DROP MATERIALIZED VIEW";
        return true;
    case PG_QUERY__OBJECT_TYPE__OBJECT_INDEX:
        *object = SQL_OBJECT_INDEX;
        *tag = "DROP INDEX";
        return true;
    case PG_QUERY__OBJECT_TYPE__OBJECT_SCHEMA:
        *object = SQL_OBJECT_SCHEMA;
        *tag = "DROP SCHEMA";
        return true;
    default:
        return false;
    }
}

/* DROP TABLE a, s.b CASCADE. Schemas are single String nodes, everything else lists. */
static err_t of_drop(struct sql_script *script, struct sql_stmt *stmt,
                     const PgQuery__DropStmt *drop)
{
    ASSERT(drop->n_objects > 0);
    const char *tag = NULL;
    if (!drop_object(drop->remove_type, &stmt->drop.object, &tag)) {
        return unsupported("DROP of this kind of object");
    }
    set_kind(stmt, SQL_DROP, tag, false);
    stmt->drop.if_exists = drop->missing_ok;
    stmt->drop.cascade = drop->behavior == PG_QUERY__DROP_BEHAVIOR__DROP_CASCADE;
    stmt->drop.names = ARENA_ARRAY(&script->arena, struct sql_name, drop->n_objects);
    stmt->drop.names_len = (uint32_t)drop->n_objects;
    for (size_t i = 0; i < drop->n_objects; i++) {
        pg_node *object = drop->objects[i];
        if (object->node_case == PG_QUERY__NODE__NODE_LIST) {
            stmt->drop.names[i] = name_of_list(object->list->items, object->list->n_items);
        } else {
            stmt->drop.names[i] = (struct sql_name){.name = pg_string(object), .location = -1};
        }
        /* Functions and operators are named with their arguments. */
        if (stmt->drop.names[i].name == NULL) {
            return unsupported("DROP of this kind of object");
        }
    }
    return ERR_OK;
}

/* COMMENT ON is accepted for what can have one; NULL takes it away. */
static err_t of_comment(struct sql_stmt *stmt, const PgQuery__CommentStmt *comment)
{
    ASSERT(stmt->kind == 0);
    set_kind(stmt, SQL_COMMENT, "COMMENT", false);
    const char *tag = NULL;
    if (!drop_object(comment->objtype, &stmt->object, &tag)) {
        if (comment->objtype != PG_QUERY__OBJECT_TYPE__OBJECT_COLUMN) {
            return unsupported("COMMENT ON this kind of object");
        }
        stmt->object = SQL_OBJECT_COLUMN;
    }
    if (comment->object != NULL && comment->object->node_case == PG_QUERY__NODE__NODE_LIST) {
        stmt->name = name_of_list(comment->object->list->items, comment->object->list->n_items);
    } else {
        stmt->name.name = pg_string(comment->object);
    }
    stmt->text_value = text_or_null(comment->comment);
    return ERR_OK;
}

/* ---- COPY ------------------------------------------------------------------------------------ */

/* Delimiters are bytes, as in PostgreSQL. */
static err_t copy_char(const char *name, const char *value, char *out)
{
    ASSERT(out != NULL);
    if (value == NULL || strlen(value) != 1) {
        return err_sql(ERR_UNSUPPORTED, "0A000", "COPY %s must be a single one-byte character",
                       name);
    }
    *out = value[0];
    return ERR_OK;
}

/*
 * One option of COPY; *delimiter and *null note that it was given, as CSV and text differ in what
 * they default to.
 */
static err_t copy_option(struct sql_script *script, struct sql_stmt *stmt,
                         const PgQuery__DefElem *e, bool *delimiter, bool *null)
{
    ASSERT(e->defname != NULL);
    pg_node *arg = e->arg;
    const char *value = NULL;
    if (arg != NULL && arg->node_case == PG_QUERY__NODE__NODE_BOOLEAN) {
        value = arena_strdup(&script->arena, arg->boolean->boolval ? "on" : "off");
    } else if (arg != NULL) {
        value = value_text(script, &arg, 1);
    }
    if (strcmp(e->defname, "format") == 0 && value != NULL) {
        stmt->copy.csv = strcmp(value, "csv") == 0;
        stmt->copy.binary = strcmp(value, "binary") == 0;
        if (!stmt->copy.csv && !stmt->copy.binary && strcmp(value, "text") != 0) {
            return err_sql(ERR_INVALID, "22023", "COPY format \"%s\" not recognized", value);
        }
    } else if (strcmp(e->defname, "header") == 0) {
        if (!sql_bool_of_text(value, &stmt->copy.header)) {
            return err_sql(ERR_INVALID, "42601", "header requires a Boolean value or \"match\"");
        }
    } else if (strcmp(e->defname, "delimiter") == 0) {
        *delimiter = true;
        return copy_char("delimiter", value, &stmt->copy.delimiter);
    } else if (strcmp(e->defname, "quote") == 0) {
        return copy_char("quote", value, &stmt->copy.quote);
    } else if (strcmp(e->defname, "escape") == 0) {
        return copy_char("escape", value, &stmt->copy.escape);
    } else if (strcmp(e->defname, "null") == 0) {
        *null = true;
        stmt->copy.null = value == NULL ? "" : value;
    } else if (strcmp(e->defname, "encoding") != 0) {
        return err_sql(ERR_UNSUPPORTED, "0A000", "COPY option \"%s\" is not supported", e->defname);
    }
    return ERR_OK;
}

/* Only STDIN and STDOUT: the server's files are not the user's. */
static err_t of_copy(struct sql_script *script, struct sql_stmt *stmt,
                     const PgQuery__CopyStmt *copy)
{
    ASSERT(copy->relation != NULL || copy->query != NULL);
    set_kind(stmt, copy->is_from ? SQL_COPY_FROM : SQL_COPY_TO, "COPY", false);
    /* COPY t TO STDOUT has neither. */
    if (text_or_null(copy->filename) != NULL || copy->is_program) {
        return err_hint(unsupported("COPY to or from a file of the server"),
                        "Use COPY ... FROM STDIN or psql's \\copy.");
    }
    bool delimiter = false, null = false;
    /* Which of these count depends on the format, known after all options. */
    stmt->copy.quote = '"';
    stmt->copy.escape = '\0';
    for (size_t i = 0; i < copy->n_options; i++) {
        TRY(copy_option(script, stmt, copy->options[i]->def_elem, &delimiter, &null));
    }
    /* Defaults depend on the format, which may be said after. */
    if (!delimiter) {
        stmt->copy.delimiter = stmt->copy.csv ? ',' : '\t';
    }
    if (!null) {
        stmt->copy.null = stmt->copy.csv ? "" : "\\N";
    }
    if (stmt->copy.escape == '\0') {
        stmt->copy.escape = stmt->copy.quote;
    }
    if (copy->where_clause != NULL) {
        return unsupported("COPY ... WHERE");
    }
    if (copy->relation != NULL) {
        stmt->name = name_of_range(stmt, copy->relation);
        return ERR_OK;
    }
    return inner_of(script, stmt, copy->query);
}

/* ---- the rest -------------------------------------------------------------------------------- */

/* WITH (...) of an index or materialized view; what options there are is known to ddl.c. */
static void take_options(struct sql_script *script, struct sql_stmt *stmt, pg_node **options,
                         size_t len)
{
    struct sql_options *out = &stmt->ast->options;
    ASSERT(out->len == 0);
    out->items = ARENA_ARRAY(&script->arena, struct sql_option, len + 1);
    for (size_t i = 0; i < len; i++) {
        const PgQuery__DefElem *e = options[i]->def_elem;
        pg_node *arg = e->arg;
        out->items[out->len++] =
            (struct sql_option){.name = e->defname,
                                .value = arg != NULL ? value_text(script, &arg, 1) : NULL,
                                .location = e->location};
    }
}

/* CREATE MATERIALIZED VIEW is CREATE TABLE AS to the grammar. */
static err_t of_create_as(struct sql_script *script, struct sql_stmt *stmt,
                          const PgQuery__CreateTableAsStmt *create)
{
    ASSERT(create->into != NULL && create->into->rel != NULL);
    if (create->objtype != PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW) {
        return unsupported(create->is_select_into ? "SELECT INTO" : "CREATE TABLE AS");
    }
    set_kind(stmt, SQL_CREATE_MATERIALIZED_VIEW, "CREATE MATERIALIZED VIEW", false);
    stmt->name = name_of_range(stmt, create->into->rel);
    take_options(script, stmt, create->into->options, create->into->n_options);
    return ERR_OK;
}

/* ANALYZE runs it. The other options say how PostgreSQL prints, and change nothing here. */
static err_t of_explain(struct sql_script *script, struct sql_stmt *stmt,
                        const PgQuery__ExplainStmt *explain)
{
    ASSERT(explain->query != NULL);
    set_kind(stmt, SQL_EXPLAIN, "EXPLAIN", true);
    bool analyze = false;
    for (size_t i = 0; i < explain->n_options; i++) {
        PgQuery__DefElem *option = explain->options[i]->def_elem;
        bool named = strcmp(option->defname, "analyze") == 0;
        const char *value = option->arg != NULL ? value_text(script, &option->arg, 1) : NULL;
        if (named && !sql_bool_of_text(value, &analyze)) {
            return err_sql(ERR_INVALID, "42601", "analyze requires a Boolean value");
        }
    }
    stmt->explain.stage = analyze ? SQL_EXPLAIN_ANALYZE : SQL_EXPLAIN_PHYSICAL;
    return inner_of(script, stmt, explain->query);
}

/* What would change what a table means is refused, not ignored. */
static err_t of_create_table(struct sql_stmt *stmt, const PgQuery__CreateStmt *create)
{
    ASSERT(create->relation != NULL);
    set_kind(stmt, SQL_CREATE_TABLE, "CREATE TABLE", false);
    stmt->name = name_of_range(stmt, create->relation);
    if (create->n_inh_relations > 0 || create->partspec != NULL || create->partbound != NULL) {
        return unsupported("table inheritance or partitioning");
    }
    /* "p" is permanent, "t" temporary, "u" unlogged. */
    if (create->relation->relpersistence != NULL &&
        strcmp(create->relation->relpersistence, "p") != 0) {
        return unsupported("a temporary or unlogged table");
    }
    return ERR_OK;
}

/* CASCADE and RESTART IDENTITY say nothing about tables without keys and sequences. */
static err_t of_truncate(struct sql_stmt *stmt, const PgQuery__TruncateStmt *truncate)
{
    set_kind(stmt, SQL_TRUNCATE, "TRUNCATE TABLE", false);
    if (truncate->n_relations != 1) {
        return unsupported("TRUNCATE of several tables");
    }
    stmt->name = name_of_range(stmt, truncate->relations[0]->range_var);
    return ERR_OK;
}

/* PREPARE p (int, text): types need no catalog, so they are resolved at once. */
static err_t prepare_types(struct sql_script *script, struct sql_stmt *stmt,
                           const PgQuery__PrepareStmt *prepare)
{
    ASSERT(stmt->prepare.types == NULL);
    struct az az = {.arena = &script->arena, .text = script->text, .base = stmt->ast->base};
    stmt->prepare.types_len = (uint32_t)prepare->n_argtypes;
    stmt->prepare.types = ARENA_ARRAY(&script->arena, struct type, prepare->n_argtypes);
    for (size_t i = 0; i < prepare->n_argtypes; i++) {
        TRY(az_type(&az, prepare->argtypes[i]->type_name, &stmt->prepare.types[i]));
    }
    return ERR_OK;
}

/* Statements about the session; *done is false for the others. */
static err_t of_session(struct sql_script *script, struct sql_stmt *stmt, const pg_node *node,
                        bool *done)
{
    ASSERT(done != NULL);
    *done = true;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_VARIABLE_SET_STMT:
        return of_variable_set(script, stmt, node->variable_set_stmt);
    case PG_QUERY__NODE__NODE_VARIABLE_SHOW_STMT:
        set_kind(stmt, SQL_SHOW, "SHOW", true);
        stmt->variable.name = node->variable_show_stmt->name;
        return ERR_OK;
    case PG_QUERY__NODE__NODE_DISCARD_STMT:
        set_kind(stmt, SQL_DISCARD, "DISCARD", false);
        return ERR_OK;
    case PG_QUERY__NODE__NODE_TRANSACTION_STMT:
        return of_transaction(stmt, node->transaction_stmt);
    case PG_QUERY__NODE__NODE_DECLARE_CURSOR_STMT:
        set_kind(stmt, SQL_DECLARE, "DECLARE CURSOR", false);
        stmt->cursor.name = node->declare_cursor_stmt->portalname;
        return inner_of(script, stmt, node->declare_cursor_stmt->query);
    case PG_QUERY__NODE__NODE_FETCH_STMT:
        set_kind(stmt, SQL_FETCH, "FETCH", true);
        stmt->cursor.name = node->fetch_stmt->portalname;
        stmt->cursor.count = node->fetch_stmt->how_many;
        /* Rows that were fetched are gone: a cursor is a stream. */
        if (node->fetch_stmt->ismove ||
            node->fetch_stmt->direction != PG_QUERY__FETCH_DIRECTION__FETCH_FORWARD) {
            return unsupported("a cursor that moves other than forward");
        }
        return ERR_OK;
    case PG_QUERY__NODE__NODE_CLOSE_PORTAL_STMT:
        set_kind(stmt, SQL_CLOSE, "CLOSE CURSOR", false);
        stmt->cursor.name = text_or_null(node->close_portal_stmt->portalname);
        return ERR_OK;
    case PG_QUERY__NODE__NODE_PREPARE_STMT:
        set_kind(stmt, SQL_PREPARE, "PREPARE", false);
        stmt->prepare.name = node->prepare_stmt->name;
        TRY(prepare_types(script, stmt, node->prepare_stmt));
        return inner_of(script, stmt, node->prepare_stmt->query);
    case PG_QUERY__NODE__NODE_EXECUTE_STMT:
        set_kind(stmt, SQL_EXECUTE, "EXECUTE", true);
        stmt->prepare.name = node->execute_stmt->name;
        return ERR_OK;
    case PG_QUERY__NODE__NODE_DEALLOCATE_STMT:
        set_kind(stmt, SQL_DEALLOCATE, "DEALLOCATE", false);
        stmt->prepare.name = text_or_null(node->deallocate_stmt->name);
        return ERR_OK;
    default:
        *done = false;
        return ERR_OK;
    }
}

/* CREATE, DROP, COMMENT. */
static err_t of_definition(struct sql_script *script, struct sql_stmt *stmt, const pg_node *node)
{
    ASSERT(stmt->kind == 0);
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_CREATE_STMT:
        return of_create_table(stmt, node->create_stmt);
    case PG_QUERY__NODE__NODE_VIEW_STMT:
        set_kind(stmt, SQL_CREATE_VIEW, "CREATE VIEW", false);
        stmt->name = name_of_range(stmt, node->view_stmt->view);
        return ERR_OK;
    case PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT:
        return of_create_as(script, stmt, node->create_table_as_stmt);
    case PG_QUERY__NODE__NODE_INDEX_STMT:
        set_kind(stmt, SQL_CREATE_INDEX, "CREATE INDEX", false);
        stmt->name.name = text_or_null(node->index_stmt->idxname);
        stmt->ast->on = name_of_range(stmt, node->index_stmt->relation);
        stmt->ast->if_not_exists = node->index_stmt->if_not_exists;
        take_options(script, stmt, node->index_stmt->options, node->index_stmt->n_options);
        return ERR_OK;
    case PG_QUERY__NODE__NODE_CREATE_SCHEMA_STMT:
        set_kind(stmt, SQL_CREATE_SCHEMA, "CREATE SCHEMA", false);
        stmt->name.name = node->create_schema_stmt->schemaname;
        stmt->ast->if_not_exists = node->create_schema_stmt->if_not_exists;
        return ERR_OK;
    case PG_QUERY__NODE__NODE_CREATEDB_STMT:
        set_kind(stmt, SQL_CREATE_DATABASE, "CREATE DATABASE", false);
        stmt->name.name = node->createdb_stmt->dbname;
        return ERR_OK;
    case PG_QUERY__NODE__NODE_DROPDB_STMT:
        set_kind(stmt, SQL_DROP, "DROP DATABASE", false);
        stmt->drop.object = SQL_OBJECT_DATABASE;
        stmt->drop.if_exists = node->dropdb_stmt->missing_ok;
        stmt->drop.names = ARENA_NEW(&script->arena, struct sql_name);
        stmt->drop.names[0] = (struct sql_name){.name = node->dropdb_stmt->dbname, .location = -1};
        stmt->drop.names_len = 1;
        return ERR_OK;
    case PG_QUERY__NODE__NODE_DROP_STMT:
        return of_drop(script, stmt, node->drop_stmt);
    case PG_QUERY__NODE__NODE_COMMENT_STMT:
        return of_comment(stmt, node->comment_stmt);
    default:
        return unsupported("this statement");
    }
}

/* Fills the statement's public part by the kind of its tree; 0A000 for what has no place here. */
err_t sql_stmt_of_pg(struct sql_script *script, struct sql_stmt *stmt)
{
    const pg_node *node = stmt->ast->node;
    ASSERT(node != NULL);
    ASSERT(stmt->script == script);
    bool done = false;
    switch (node->node_case) {
    case PG_QUERY__NODE__NODE_SELECT_STMT:
        set_kind(stmt, SQL_SELECT, "SELECT", true);
        return node->select_stmt->into_clause != NULL ? unsupported("SELECT INTO") : ERR_OK;
    case PG_QUERY__NODE__NODE_INSERT_STMT:
        set_kind(stmt, SQL_INSERT, "INSERT 0", node->insert_stmt->n_returning_list > 0);
        stmt->name = name_of_range(stmt, node->insert_stmt->relation);
        return ERR_OK;
    case PG_QUERY__NODE__NODE_UPDATE_STMT:
        set_kind(stmt, SQL_UPDATE, "UPDATE", node->update_stmt->n_returning_list > 0);
        stmt->name = name_of_range(stmt, node->update_stmt->relation);
        return ERR_OK;
    case PG_QUERY__NODE__NODE_DELETE_STMT:
        set_kind(stmt, SQL_DELETE, "DELETE", node->delete_stmt->n_returning_list > 0);
        stmt->name = name_of_range(stmt, node->delete_stmt->relation);
        return ERR_OK;
    case PG_QUERY__NODE__NODE_TRUNCATE_STMT:
        return of_truncate(stmt, node->truncate_stmt);
    case PG_QUERY__NODE__NODE_COPY_STMT:
        return of_copy(script, stmt, node->copy_stmt);
    case PG_QUERY__NODE__NODE_EXPLAIN_STMT:
        return of_explain(script, stmt, node->explain_stmt);
    default:
        TRY(of_session(script, stmt, node, &done));
        return done ? ERR_OK : of_definition(script, stmt, node);
    }
}
