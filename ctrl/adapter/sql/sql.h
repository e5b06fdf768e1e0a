/*
 * SQL: from text to statements, physical plans and resolved definitions.
 *
 * Everything here is a pure function of its arguments and of the catalog it asks through a table
 * of functions: no I/O, no clock, no global state. One thread at a time per object. Errors carry
 * PostgreSQL's SQLSTATE, message and position (1-based, in characters of the script's text).
 *
 *     sql_parse      text -> statements (syntax only)
 *     sql_describe   statement -> result columns and parameter types (extended protocol)
 *     sql_plan_query SELECT, VALUES, SHOW <objects>, SUBSCRIBE's query -> struct sql_query
 *     sql_plan_view  a maintained view or index -> struct plan
 *     sql_plan_write INSERT, UPDATE, DELETE -> a read whose rows say what to write
 *     sql_plan_ddl   CREATE ... -> everything resolved
 *     sql_explain    EXPLAIN -> text
 */
#ifndef TAILRACE_CTRL_ADAPTER_SQL_SQL_H
#define TAILRACE_CTRL_ADAPTER_SQL_SQL_H

#include "core/engine/plan.h"

/* ---- statements ------------------------------------------------------------------------------ */

enum sql_stmt_kind {
    SQL_SELECT = 1, /* also VALUES, TABLE, WITH */
    SQL_INSERT,
    SQL_UPDATE,
    SQL_DELETE,
    SQL_COPY_FROM,    /* COPY t FROM STDIN: ->copy */
    SQL_COPY_TO,      /* COPY t | (query) TO STDOUT: ->copy; ->inner is the query or SUBSCRIBE */
    SQL_SUBSCRIBE,    /* ->subscribe */
    SQL_EXPLAIN,      /* ->explain, ->inner when a query is explained */
    SQL_SHOW_OBJECTS, /* SHOW TABLES, COLUMNS FROM x...: plan it with sql_plan_query */
    SQL_SHOW_CREATE,  /* SHOW CREATE VIEW x: ->name, ->object */
    SQL_SHOW,         /* SHOW variable: ->variable.name ("all": every one) */
    SQL_SET,          /* ->variable; value NULL: DEFAULT. RESET x alike; RESET ALL: name "all" */
    SQL_DISCARD,
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_DECLARE,    /* ->cursor.name, ->inner is the query or SUBSCRIBE */
    SQL_FETCH,      /* ->cursor */
    SQL_CLOSE,      /* ->cursor.name (NULL: all) */
    SQL_PREPARE,    /* ->prepare.name, ->inner */
    SQL_EXECUTE,    /* ->prepare; arguments through sql_execute_args */
    SQL_DEALLOCATE, /* ->prepare.name (NULL: all) */
    SQL_CREATE_TABLE,
    SQL_CREATE_SOURCE,
    SQL_CREATE_VIEW,
    SQL_CREATE_MATERIALIZED_VIEW,
    SQL_CREATE_INDEX,
    SQL_CREATE_CLUSTER,
    SQL_CREATE_SCHEMA,
    SQL_CREATE_DATABASE,
    SQL_DROP,     /* ->drop */
    SQL_TRUNCATE, /* a DELETE without WHERE: plan it with sql_plan_write */
    SQL_COMMENT,  /* COMMENT ON: accepted; ->name, ->object, ->text_value */
    SQL_EMPTY,    /* only white space and comments */
};

enum sql_object {
    SQL_OBJECT_TABLE = 1,
    SQL_OBJECT_SOURCE,
    SQL_OBJECT_VIEW,
    SQL_OBJECT_MATERIALIZED_VIEW,
    SQL_OBJECT_INDEX,
    SQL_OBJECT_CLUSTER,
    SQL_OBJECT_CLUSTER_REPLICA,
    SQL_OBJECT_SCHEMA,
    SQL_OBJECT_DATABASE,
    SQL_OBJECT_COLUMN,
    SQL_OBJECT_ANY, /* SHOW OBJECTS */
};

/* A name as written; parts not written are NULL. */
struct sql_name {
    const char *database;
    const char *schema;
    const char *name;
    int location; /* byte offset in the script; -1: none */
};

/* WITH (NAME = value): names in lower case; value NULL when only the name is given. */
struct sql_option {
    const char *name;
    const char *value;
    int location;
};

struct sql_options {
    struct sql_option *items;
    uint32_t len;
};

/* ANALYZE: with what it counts: not sql_explain's, the adapter runs a query or asks who runs it. */
enum sql_explain_stage { SQL_EXPLAIN_PHYSICAL, SQL_EXPLAIN_OPTIMIZED, SQL_EXPLAIN_ANALYZE };

struct sql_ast; /* what the planner needs of a statement; private */

struct sql_stmt {
    uint8_t kind; /* enum sql_stmt_kind */
    struct sql_script *script;
    uint32_t start, end; /* bytes [start, end) of script->text: without the semicolon */
    const char *tag;     /* "SELECT", "CREATE TABLE", ...: the server adds counts */
    bool returns_rows;
    uint32_t params_len; /* highest $n */
    struct sql_stmt *inner;
    struct sql_name name;
    uint8_t object;         /* enum sql_object */
    const char *text_value; /* COMMENT: NULL removes */
    struct {
        const char *name;
        const char *value; /* lists joined by ", "; NULL: default */
        bool local;
    } variable;
    struct {
        const char *name;
        int64_t count;              /* FETCH; INT64_MAX: all */
        struct sql_options options; /* timeout = '1s' */
    } cursor;
    struct {
        const char *name;
        struct type *types; /* PREPARE p (int, ...): of the first parameters; kind 0: not said */
        uint32_t types_len;
    } prepare;
    struct {
        uint8_t object; /* enum sql_object */
        struct sql_name *names;
        uint32_t names_len;
        bool if_exists;
        bool cascade;
    } drop;
    struct {
        bool snapshot;              /* default true */
        bool progress;              /* default false */
        struct sql_options options; /* all of WITH, for what else there may be */
    } subscribe;
    /* AS OF / UP TO of SELECT and SUBSCRIBE, by sql_plan_query in struct sql_query. */
    struct {
        uint8_t stage;  /* enum sql_explain_stage */
        bool of_object; /* EXPLAIN VIEW x: ->name, ->object; else ->inner */
    } explain;
    struct {
        bool csv;
        bool header;
        bool binary; /* refused by the adapter with 0A000 */
        char delimiter, quote, escape;
        const char *null;
    } copy;
    struct sql_ast *ast;
};

struct sql_script {
    struct arena arena; /* everything of the script, statements included */
    char *text;         /* a copy, with a NUL behind */
    uint32_t text_len;
    struct sql_stmt **stmts;
    uint32_t stmts_len;
    uint32_t depth; /* while parsing: statements inside statements */
};

/*
 * Parses a script. Nothing of it may be run when this fails: a syntax error anywhere refuses the
 * whole (42601 with position). text must be valid UTF-8 without NUL bytes (22021). Empty
 * statements between semicolons vanish; a script of nothing else has stmts_len 0.
 */
err_t sql_parse(const char *text, size_t len, struct sql_script **out);
void sql_script_free(struct sql_script *script);

/* ---- the catalog as the planner sees it ------------------------------------------------------ */

enum sql_relation_kind {
    SQL_REL_TABLE = 1,
    SQL_REL_SOURCE,
    SQL_REL_VIEW,
    SQL_REL_MATERIALIZED_VIEW,
    SQL_REL_INDEX,   /* named by DROP and \d only; cannot be selected from (42809) */
    SQL_REL_VIRTUAL, /* a catalog table: rows from the catalog at planning time */
};

/* An index usable on the cluster the statement runs on. */
struct sql_index {
    uint64_t id;
    uint32_t *keys; /* columns of the relation */
    uint32_t keys_len;
};

struct sql_relation {
    uint64_t id;  /* collection id in plans (PLAN_SOURCE for tables and sources) */
    uint32_t oid; /* pg_class.oid */
    uint8_t kind; /* enum sql_relation_kind */
    const char *database;
    const char *schema;
    const char *name;
    struct schema columns;     /* type.nullable false: NOT NULL */
    const char **defaults;     /* tables: SQL expression text per column or NULL; may be NULL */
    const char *definition;    /* views: the SELECT, names qualified (see sql_ddl.definition) */
    struct sql_index *indexes; /* of the relation, on context.cluster; read instead of source or
                                  definition. A materialized view on its own cluster has one. */
    uint32_t indexes_len;
};

struct sql_catalog {
    /*
     * Resolves a name; database and schema may be NULL (search path: pg_catalog first, then the
     * session's). *out NULL when there is none; it lives in arena or at least as long as it.
     */
    err_t (*relation)(void *ctx, const char *database, const char *schema, const char *name,
                      struct arena *arena, const struct sql_relation **out);
    bool (*schema_exists)(void *ctx, const char *database, const char *schema);
    /* Rows of a SQL_REL_VIRTUAL relation: rows_len * columns, row by row, in arena. */
    err_t (*virtual_rows)(void *ctx, const struct sql_relation *relation, struct arena *arena,
                          struct datum **rows, uint32_t *rows_len);
    /* EXPLAIN's words for an id in a plan: see struct plan_words. May be NULL. */
    const char *(*object)(void *ctx, uint64_t id, const struct schema **columns);
    /* current_setting(name); NULL when there is no such setting. */
    const char *(*setting)(void *ctx, const char *name);
};

/*
 * Catalog functions need no hook: the planner knows pg_get_userbyid, format_type, pg_get_indexdef,
 * ::regclass... as SQL over these tables of the catalog, which must exist (they may be empty):
 * pg_catalog.pg_class, pg_namespace, pg_attribute, pg_type, pg_roles, pg_index, pg_description and
 * mz_internal.mz_object_definitions(oid oid, definition text) for pg_get_viewdef, pg_get_indexdef.
 * SHOW <objects> reads mz_internal.mz_show_objects(kind text, database text, schema text,
 * name text, type text, cluster text, on_name text, key text, replicas text), where kind is
 * 'table', 'source', 'view', 'materialized-view', 'index', 'cluster', 'cluster-replica', 'schema',
 * 'database', and mz_internal.mz_show_columns(database text, schema text, relation text,
 * position int8, name text, nullable bool, type text).
 */
struct sql_context {
    const struct sql_catalog *catalog;
    void *catalog_ctx;
    const char *user;
    const char *database;
    const char *schema;  /* current_schema(); first of the search path; may be NULL */
    const char *version; /* version() */
    const char *cluster; /* where the statement runs: EXPLAIN and defaults of IN CLUSTER */
    int64_t now_us;      /* now(), current_date...: microseconds since 1970 */
    uint64_t mz_now;     /* mz_now() of a query that is answered once: its time, as far as known */
    int32_t backend_pid;
    /* Parameters: types known so far (kind 0: infer), and the bound values when planning. */
    const struct type *param_types;
    const struct datum *params; /* NULL: describe only */
    uint32_t params_len;
    struct buf *optimized; /* EXPLAIN OPTIMIZED PLAN: where planning says it; else NULL */
};

/* ---- describe -------------------------------------------------------------------------------- */

struct sql_description {
    struct arena arena;
    struct schema columns; /* cols 0: no rows */
    struct type *params;
    uint32_t params_len;
};
/* Result columns (of SELECT, SUBSCRIBE with its mz_timestamp and mz_diff, EXPLAIN, SHOW...) and
 * parameter types. Parameters that nothing determines are text. Free with sql_description_free. */
err_t sql_describe(const struct sql_context *cx, const struct sql_stmt *stmt,
                   struct sql_description **out);
void sql_description_free(struct sql_description *description);

/* ---- queries --------------------------------------------------------------------------------- */

enum sql_query_kind {
    SQL_QUERY_CONSTANT = 1, /* rows known: ->rows */
    SQL_QUERY_PEEK,         /* fast path: one peek of an existing index: ->peek */
    SQL_QUERY_DATAFLOW,     /* ->plan */
};

struct sql_query {
    struct arena arena;
    uint8_t kind;
    struct schema columns; /* of the result, after finishing */
    struct {
        struct datum *rows; /* rows_len * types_len, before finishing */
        uint32_t rows_len;
    } constant;
    struct {
        uint64_t index_id;
        struct datum *keys; /* rows of the index's key columns, NULL: the whole index */
        uint32_t keys_len;  /* rows */
        uint32_t key_cols;
        struct type *key_types;
        struct mfp mfp; /* always set; output: before finishing */
    } peek;
    /*
     * One export, PLAN_EXPORT_INDEX keyed on all columns of the root node or, for SUBSCRIBE,
     * PLAN_EXPORT_SUBSCRIBE. The caller fills plan->id, as_of, exports[0].id and until. Owned.
     */
    struct plan *plan;
    bool needs_now; /* context.mz_now is part of it: plan again when it is read at another time */
    bool catalog_only; /* reads no collection: constants only, may run anywhere at any time */
    /* Columns before finishing, then ORDER BY, LIMIT, OFFSET and projection, in this order. */
    struct type *types;
    uint32_t types_len;
    struct plan_order *order;
    uint32_t order_len;
    int64_t limit; /* -1: none */
    int64_t offset;
    uint32_t *project;
    uint32_t project_len;
    /* What is read: collections (PLAN_SOURCE ids), indexes; for read holds and timestamps. */
    uint64_t *collections;
    uint32_t collections_len;
    uint64_t *indexes;
    uint32_t indexes_len;
    bool has_as_of, has_up_to;
    uint64_t as_of, up_to;
};

/* SQL_SELECT, SQL_SHOW_OBJECTS, SQL_SUBSCRIBE, and those as ->inner of COPY TO and DECLARE.
 * ORDER BY and LIMIT of a SUBSCRIBE's query are part of its plan. Free with sql_query_free. */
err_t sql_plan_query(const struct sql_context *cx, const struct sql_stmt *stmt,
                     struct sql_query **out);
void sql_query_free(struct sql_query *query);

/*
 * The dataflow that maintains a relation as an index on keys (columns of it; keys_len 0: all its
 * columns). definition: a SELECT (materialized view), or NULL to read `relation` itself (CREATE
 * INDEX; of a plain view its definition). query->plan has one PLAN_EXPORT_INDEX; kind is always
 * SQL_QUERY_DATAFLOW.
 */
err_t sql_plan_view(const struct sql_context *cx, const char *definition,
                    const struct sql_relation *relation, const uint32_t *keys, uint32_t keys_len,
                    struct sql_query **out);

/* ---- writes ---------------------------------------------------------------------------------- */

enum sql_write_kind { SQL_WRITE_INSERT = 1, SQL_WRITE_UPDATE, SQL_WRITE_DELETE };

struct sql_write {
    uint8_t kind;
    const struct sql_relation *relation; /* in query->arena */
    /*
     * INSERT: rows of the table's columns. DELETE: rows to remove. UPDATE: old columns, then new
     * ones. Behind those, returning_len columns. Multiplicities are row counts. Never finishing
     * other than INSERT ... SELECT's ORDER BY and LIMIT.
     */
    struct sql_query *query;
    struct schema returning; /* cols 0: none */
};
err_t sql_plan_write(const struct sql_context *cx, const struct sql_stmt *stmt,
                     struct sql_write **out);
void sql_write_free(struct sql_write *write);
/* NOT NULL of a row to be written (columns of the relation): 23502 as PostgreSQL says it. */
err_t sql_check_row(const struct sql_relation *relation, const struct datum *row);

/* COPY FROM / TO a table: which columns, in order. For a query, relation is NULL. */
struct sql_copy_target {
    struct arena arena;
    const struct sql_relation *relation;
    uint32_t *columns;
    uint32_t columns_len;
    struct datum *defaults; /* one per column of the relation: those not in columns get this */
};
err_t sql_plan_copy(const struct sql_context *cx, const struct sql_stmt *stmt,
                    struct sql_copy_target **out);
void sql_copy_target_free(struct sql_copy_target *target);

/* Values of EXECUTE name(args), converted to the prepared statement's parameter types. */
err_t sql_execute_args(const struct sql_context *cx, const struct sql_stmt *stmt,
                       const struct type *types, uint32_t types_len, struct arena *arena,
                       struct datum **out);

/* ---- definitions ----------------------------------------------------------------------------- */

enum sql_source_format { SQL_FORMAT_CSV = 1, SQL_FORMAT_JSON };

struct sql_ddl {
    struct arena arena;
    uint8_t kind; /* enum sql_stmt_kind */
    struct sql_name name;
    bool if_not_exists;
    bool or_replace;
    /* Tables, sources, views: columns. Sources without a column list: cols 0 when the format says
     * (CSV WITH HEADER: text columns named by the header; JSON: one jsonb column "data"). */
    struct schema columns;
    const char **defaults;  /* tables: SQL text per column or NULL */
    const char *definition; /* views: the SELECT with all names qualified */
    const char *create_sql; /* the whole statement, normalised: for SHOW CREATE and the catalog */
    uint64_t *depends;      /* ids of relations a view or index is defined over (direct) */
    uint32_t depends_len;
    const char *cluster; /* IN CLUSTER; NULL: the session's */
    uint64_t memory_limit; /* WITH (memory_limit = '1GB') of what is maintained; 0: none */
    struct {
        const char *path;
        uint8_t format; /* enum sql_source_format */
        bool header;
        uint32_t csv_columns; /* FORMAT CSV WITH n COLUMNS; 0: from the columns or header */
        char delimiter;
        bool tail; /* WITH (TAIL = true) */
        struct sql_options options;
    } source;
    struct {
        const struct sql_relation *on;
        uint32_t *keys; /* empty list in DEFAULT INDEX: all columns */
        uint32_t keys_len;
        bool is_default; /* CREATE DEFAULT INDEX; name.name is NULL when the user gave none */
    } index;
    struct {
        const char *size; /* "1" */
        uint32_t replication_factor;
        struct sql_options options;
    } cluster_options;
};
/* "64MB", "1GB": a number and PostgreSQL's unit (B, kB, MB, GB, TB; powers of 1024; none: bytes).
 * False: it is no size, or none that fits. */
bool sql_parse_size(const char *text, uint64_t *bytes);
/* SQL_CREATE_*. Free with sql_ddl_free. */
err_t sql_plan_ddl(const struct sql_context *cx, const struct sql_stmt *stmt, struct sql_ddl **out);
void sql_ddl_free(struct sql_ddl *ddl);

/* EXPLAIN's text, lines ended by \n, appended to out. */
err_t sql_explain(const struct sql_context *cx, const struct sql_stmt *stmt, struct buf *out);
/* The same of a query that is planned; and just what is done with its rows once they are read. */
void sql_explain_query(const struct sql_context *cx, const struct sql_query *q, struct buf *out);
void sql_explain_finish(const struct sql_query *q, struct buf *out);

/* An identifier quoted as SQL needs it ("Foo bar"), or as it is; from the arena. */
const char *sql_quote_ident(struct arena *arena, const char *name);

#endif
