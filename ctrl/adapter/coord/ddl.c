/*
 * CREATE and COMMENT: the catalog first, durably; then the controllers.
 *
 * The order makes a crash harmless. Before the catalog's commit nothing has happened; after it the
 * object exists, and whether or not the controllers were told, the next start tells them. An object
 * that the controllers refuse is taken out of the catalog again, so that the client's error is
 * true. What can be refused by planning is refused before the catalog knows it (check_plan).
 *
 * Definitions run one at a time, each to its end: they are synchronous, on the one loop.
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

#include <stdio.h>

/* ---- names ----------------------------------------------------------------------------------- */

/* A name without database or schema means the session's. PostgreSQL's SQLSTATEs tell which of the
 * two is missing. */
err_t ddl_schema(struct session *s, const struct sql_name *name, const struct catalog_schema **out)
{
    struct sql_context cx;
    ASSERT(name != NULL && out != NULL);
    names_context(s, &cx);
    const char *database = name->database != NULL ? name->database : cx.database;
    const char *schema = name->schema != NULL ? name->schema : cx.schema;
    if (catalog_database(s->coord->catalog, database) == NULL) {
        return err_sql(ERR_NOT_FOUND, "3D000", "database \"%s\" does not exist", database);
    }
    if (schema == NULL) {
        return err_sql(ERR_NOT_FOUND, "3F000", "no schema has been selected to create in");
    }
    *out = catalog_schema(s->coord->catalog, database, schema);
    if (*out == NULL) {
        return err_sql(ERR_NOT_FOUND, "3F000", "schema \"%s\" does not exist", schema);
    }
    return ERR_OK;
}

/* Where a new object goes: not among the system's. 42501 is what PostgreSQL says to CREATE TABLE
 * pg_catalog.t. */
static err_t target_schema(struct session *s, const struct sql_name *name,
                           const struct catalog_schema **out)
{
    TRY(ddl_schema(s, name, out));
    if ((*out)->database == 0) {
        return err_sql(ERR_PERMISSION, "42501", "permission denied for schema %s", (*out)->name);
    }
    return ERR_OK;
}

/* Through the planner's own lookup, so that search_path means the same to DROP as to SELECT.
 * Catalog tables are not items: they are reported as absent. */
err_t ddl_find(struct session *s, const struct sql_name *name, const struct catalog_item **out)
{
    struct sql_context cx;
    struct arena arena = {0};
    const struct sql_relation *rel = NULL;
    ASSERT(name->name != NULL);
    names_context(s, &cx);
    err_t err = cx.catalog->relation(s, name->database, name->schema, name->name, &arena, &rel);
    *out = err == ERR_OK && rel != NULL && rel->kind != SQL_REL_VIRTUAL
               ? catalog_item_id(s->coord->catalog, rel->id)
               : NULL;
    arena_free(&arena);
    return err;
}

/* ---- sources: columns that the file tells ---------------------------------------------------- */

/* Where take_header puts what it reads: the definition's arena and columns. */
struct header_reader {
    struct arena *arena;
    struct schema *columns;
};

/* Columns are text; a user who wants other types gives a list. A field without a name gets one by
 * its position, as FORMAT CSV WITH n COLUMNS does. */
static err_t take_header(void *arg, uint64_t line, const struct copy_field *fields,
                         size_t fields_len)
{
    struct header_reader *h = arg;
    if (line != 1 || h->columns->cols > 0) {
        return ERR_OK;
    }
    if (fields_len > BATCH_COLS_MAX) {
        return err_sql(ERR_LIMIT, "54011", "the file has %zu columns; at most %d are supported",
                       fields_len, BATCH_COLS_MAX);
    }
    h->columns->cols = (uint32_t)fields_len;
    h->columns->names = ARENA_ARRAY(h->arena, const char *, fields_len + 1);
    h->columns->types = ARENA_ARRAY(h->arena, struct type, fields_len + 1);
    for (size_t i = 0; i < fields_len; i++) {
        h->columns->types[i] = type_of(TYPE_TEXT);
        h->columns->names[i] = fields[i].data != NULL && fields[i].len > 0
                                   ? arena_strndup(h->arena, fields[i].data, fields[i].len)
                                   : arena_printf(h->arena, "column%zu", i + 1);
    }
    return ERR_OK;
}

/* Reads the first line of a CSV file. Only the first line is read, and only once: what the source's
 * columns are is fixed when it is created, whatever the file says later. The file may be fed in
 * pieces by others meanwhile; a line longer than the buffer is no header. environmentd and storaged
 * see the same file system here. */
static err_t read_header(struct session *s, struct sql_ddl *ddl)
{
    struct io_file *file = NULL;
    uint8_t *data = mem_alloc(256 * 1024);
    size_t len = 0;
    struct header_reader h = {&ddl->arena, &ddl->columns};
    const struct copy_options options = {.csv = true,
                                         .delimiter = ddl->source.delimiter,
                                         .quote = '"',
                                         .escape = '"',
                                         .null = ""};
    struct copy_reader reader;
    ASSERT(ddl->source.path != NULL);
    copy_reader_init(&reader, &options, 256 * 1024, take_header, &h);
    err_t err = io_file_open(s->coord->loop, ddl->source.path, IO_OPEN_READ, &file);
    if (err == ERR_OK) {
        err = io_file_read_sync(file, 0, data, 256 * 1024, &len);
        io_file_close(file);
    }
    if (err == ERR_OK) {
        uint8_t *newline = memchr(data, '\n', len);
        err = copy_reader_feed(&reader, data, newline != NULL ? (size_t)(newline - data) + 1 : len);
    }
    if (err == ERR_OK) {
        err = copy_reader_end(&reader);
    }
    copy_reader_free(&reader);
    free(data);
    /* Nothing but white space, or an empty file: there is no telling the columns. */
    if (err == ERR_OK && ddl->columns.cols == 0) {
        err = err_sql(ERR_INVALID, "22023", "the file has no header line");
    }
    return err == ERR_OK ? ERR_OK
                         : err_hint(err_wrap(err, "reading the header of %s", ddl->source.path),
                                    "Give the source a column list.");
}

/* Fills in the columns of a source that was created without a list. JSON without a list is one
 * column of documents; CSV WITH n COLUMNS is n columns of text. */
static err_t source_columns(struct session *s, struct sql_ddl *ddl)
{
    struct schema *columns = &ddl->columns;
    ASSERT(ddl->kind == SQL_CREATE_SOURCE);
    if (columns->cols > 0) {
        return ERR_OK;
    }
    if (ddl->source.format == SQL_FORMAT_CSV && ddl->source.csv_columns == 0) {
        return read_header(s, ddl);
    }
    uint32_t n = ddl->source.format == SQL_FORMAT_JSON ? 1 : ddl->source.csv_columns;
    columns->cols = n;
    columns->names = ARENA_ARRAY(&ddl->arena, const char *, n);
    columns->types = ARENA_ARRAY(&ddl->arena, struct type, n);
    for (uint32_t i = 0; i < n; i++) {
        bool json = ddl->source.format == SQL_FORMAT_JSON;
        columns->types[i] = type_of(json ? TYPE_JSONB : TYPE_TEXT);
        columns->names[i] = json ? "data" : arena_printf(&ddl->arena, "column%u", i + 1);
    }
    return ERR_OK;
}

/* ---- items ----------------------------------------------------------------------------------- */

/* The parser's number to the catalog's, which is stored. */
static enum catalog_kind kind_of(uint8_t kind)
{
    switch (kind) {
    case SQL_CREATE_TABLE: return CATALOG_TABLE;
    case SQL_CREATE_SOURCE: return CATALOG_SOURCE;
    case SQL_CREATE_VIEW: return CATALOG_VIEW;
    case SQL_CREATE_MATERIALIZED_VIEW: return CATALOG_MATERIALIZED_VIEW;
    case SQL_CREATE_INDEX: return CATALOG_INDEX;
    default: UNREACHABLE();
    }
}

/* "<relation>_<columns>_idx", or "<relation>_primary_idx"; a number behind when it is taken. Like
 * PostgreSQL's ChooseIndexName: the first few columns say enough. */
static const char *index_name(struct session *s, struct sql_ddl *ddl, uint64_t schema)
{
    struct buf base = {0};
    const struct sql_relation *on = ddl->index.on;
    ASSERT(ddl->kind == SQL_CREATE_INDEX);
    buf_append_str(&base, on->name);
    if (ddl->index.is_default) {
        buf_append_str(&base, "_primary");
    } else {
        for (uint32_t i = 0; i < ddl->index.keys_len && i < 4; i++) {
            buf_printf(&base, "_%s", on->columns.names[ddl->index.keys[i]]);
        }
    }
    buf_append_str(&base, "_idx");
    const char *name = arena_strdup(&ddl->arena, buf_cstr(&base));
    for (int n = 1; catalog_item(s->coord->catalog, schema, name) != NULL; n++) {
        name = arena_printf(&ddl->arena, "%s%d", buf_cstr(&base), n);
    }
    buf_free(&base);
    return name;
}

/* Everything of the new item but its id. Points into ddl, which outlives it; the catalog copies. */
static err_t fill_spec(struct session *s, struct sql_ddl *ddl, struct catalog_item *spec)
{
    err_t err = ERR_OK;
    ASSERT(ddl->create_sql != NULL);
    memset(spec, 0, sizeof(*spec));
    spec->kind = kind_of(ddl->kind);
    spec->create_sql = ddl->create_sql;
    spec->definition = ddl->definition;
    spec->columns = ddl->columns;
    spec->defaults = ddl->defaults;
    spec->depends = ddl->depends;
    spec->depends_len = ddl->depends_len;
    spec->name = ddl->name.name;
    if (spec->kind == CATALOG_INDEX) {
        const struct catalog_item *on = catalog_item_id(s->coord->catalog, ddl->index.on->id);
        if (on == NULL) {
            return err_sql(ERR_INVALID, "42809", "cannot create index on system relation \"%s\"",
                           ddl->index.on->name);
        }
        spec->schema = on->schema;
        spec->on = on->id;
        spec->keys = ddl->index.keys;
        spec->keys_len = ddl->index.keys_len;
        memset(&spec->columns, 0, sizeof(spec->columns));
        spec->name = spec->name != NULL ? spec->name : index_name(s, ddl, spec->schema);
    } else {
        const struct catalog_schema *schema = NULL;
        TRY(target_schema(s, &ddl->name, &schema));
        spec->schema = schema->id;
    }
    if (spec->kind == CATALOG_INDEX || spec->kind == CATALOG_MATERIALIZED_VIEW) {
        const char *cluster = ddl->cluster != NULL ? ddl->cluster : vars_get(s, "cluster");
        spec->cluster = names_cluster(s, cluster, &err);
        TRY(err);
        spec->memory_limit = ddl->memory_limit;
    }
    if (spec->kind == CATALOG_SOURCE) {
        TRY(source_columns(s, ddl));
        spec->columns = ddl->columns;
        spec->source = (struct catalog_source){.path = ddl->source.path,
                                               .format = ddl->source.format,
                                               .header = ddl->source.header,
                                               .csv_columns = ddl->source.csv_columns,
                                               .delimiter = ddl->source.delimiter,
                                               .tail = ddl->source.tail};
    }
    return ERR_OK;
}

/* What is there under the name: nothing, something to keep (IF NOT EXISTS), or to replace. OR
 * REPLACE only for what nothing else is defined over: the others would have been planned over
 * columns that are gone. */
static err_t check_existing(struct session *s, const struct sql_ddl *ddl,
                            const struct catalog_item *spec, uint64_t *replaces, bool *skip)
{
    const struct catalog_item *there = catalog_item(s->coord->catalog, spec->schema, spec->name);
    ASSERT(spec->name != NULL && spec->schema != 0);
    *replaces = 0;
    *skip = false;
    if (there == NULL) {
        return ERR_OK;
    }
    if (ddl->if_not_exists) {
        session_notice(s, "NOTICE", err_sql(ERR_EXISTS, "42P07",
                                            "relation \"%s\" already exists, skipping",
                                            spec->name));
        *skip = true;
        return ERR_OK;
    }
    if (!ddl->or_replace) {
        return ERR_OK; /* the catalog refuses it */
    }
    if (there->kind != spec->kind) {
        return err_sql(ERR_INVALID, "42809", "\"%s\" is not a %s", spec->name,
                       catalog_kind_name(spec->kind));
    }
    struct catalog_ids ids = {0};
    *VEC_PUSH(&ids, ids) = there->id;
    catalog_dependants(s->coord->catalog, &ids);
    size_t n = ids.ids_len;
    free(ids.ids);
    if (n > 1) {
        return err_hint(err_sql(ERR_INVALID, "2BP01", "cannot replace %s %s because other objects "
                                "depend on it", catalog_kind_name(there->kind), there->name),
                        "Drop what depends on it first.");
    }
    *replaces = there->id;
    return ERR_OK;
}

/* A dataflow that could not be rendered must be refused before the catalog knows it. The plan is
 * thrown away: it is made again by coord_create_item, from the catalog, as at any start. */
static err_t check_plan(struct session *s, const struct catalog_item *spec)
{
    struct sql_context cx;
    struct sql_query *query = NULL;
    struct arena arena = {0};
    struct sql_relation *rel = NULL;
    ASSERT(spec->kind >= CATALOG_TABLE && spec->kind <= CATALOG_INDEX);
    if (spec->kind != CATALOG_MATERIALIZED_VIEW && spec->kind != CATALOG_INDEX) {
        return ERR_OK;
    }
    names_context(s, &cx);
    const struct catalog_cluster *k = catalog_cluster_id(s->coord->catalog, spec->cluster);
    cx.cluster = k->name;
    const struct catalog_item *of =
        spec->kind == CATALOG_INDEX ? catalog_item_id(s->coord->catalog, spec->on) : spec;
    names_relation(s, of, &arena, &rel);
    err_t err = sql_plan_view(&cx, spec->definition, rel, spec->keys, spec->keys_len, &query);
    sql_query_free(query);
    arena_free(&arena);
    return err;
}

/* In the order the head of this file argues for. */
static err_t create_item(struct session *s, struct sql_ddl *ddl)
{
    struct coord *coord = s->coord;
    struct catalog_item spec;
    const struct catalog_item *item = NULL;
    uint64_t replaces = 0;
    bool skip = false;
    ASSERT(s->coord->controller != NULL);
    TRY(fill_spec(s, ddl, &spec));
    TRY(check_existing(s, ddl, &spec, &replaces, &skip));
    if (skip) {
        return ERR_OK;
    }
    /* Planning is the only thing about a definition that depends on more than names. */
    TRY(check_plan(s, &spec));
    struct catalog_item gone = {0}; /* what the controllers need to know of it */
    if (replaces != 0) {
        const struct catalog_item *old = catalog_item_id(coord->catalog, replaces);
        gone = (struct catalog_item){.id = old->id, .kind = old->kind, .cluster = old->cluster};
    }
    TRY(catalog_create_item(coord->catalog, &spec, replaces, &item));
    if (replaces != 0) {
        coord_drop_item(coord, &gone); /* only now: a failed statement leaves it as it was */
    }
    err_t err = coord_create_item(coord, item);
    if (err == ERR_OK && item->kind == CATALOG_SOURCE) {
        s->run.source_made = item->id;
    }
    if (err != ERR_OK) {
        uint64_t id = item->id;
        err_t undo = catalog_drop_items(coord->catalog, &id, 1);
        if (undo != ERR_OK) {
            LOG_ERROR("coord", "an object that could not be created stays in the catalog",
                      LOG_U64("id", id), LOG_ERR(undo));
            err_free(undo);
        }
    }
    return err;
}

/* ---- clusters, schemas, databases ------------------------------------------------------------ */

/* Its replicas start in the background: the statement does not wait for them, reads do. */
static err_t create_cluster(struct session *s, const struct sql_ddl *ddl)
{
    struct coord *coord = s->coord;
    const char *size_name = ddl->cluster_options.size != NULL ? ddl->cluster_options.size : "1";
    const struct coord_size *size = coord_size_of(coord, size_name);
    ASSERT(ddl->kind == SQL_CREATE_CLUSTER);
    if (ddl->if_not_exists && catalog_cluster(coord->catalog, ddl->name.name) != NULL) {
        session_notice(s, "NOTICE", err_sql(ERR_EXISTS, "42710",
                                            "cluster \"%s\" already exists, skipping",
                                            ddl->name.name));
        return ERR_OK;
    }
    if (size == NULL) {
        struct buf names = {0};
        for (size_t i = 0; i < coord->sizes_len; i++) {
            buf_printf(&names, "%s\"%s\"", i > 0 ? ", " : "", coord->sizes[i].name);
        }
        err_t err = err_hint(err_sql(ERR_INVALID, "22023", "unknown cluster size \"%s\"",
                                     size_name), "Sizes are %s.", buf_cstr(&names));
        buf_free(&names);
        return err;
    }
    const struct catalog_cluster spec = {.name = (char *)ddl->name.name,
                                         .size = (char *)size->name,
                                         .scale = size->scale,
                                         .workers = size->workers,
                                         .replicas = ddl->cluster_options.replication_factor};
    const struct catalog_cluster *made = NULL;
    TRY(catalog_create_cluster(coord->catalog, &spec, &made));
    err_t err = coord_create_cluster(coord, made);
    if (err != ERR_OK) {
        err_t undo = catalog_drop_cluster(coord->catalog, made->id);
        if (undo != ERR_OK) {
            err_free(undo); /* the first error is the one to tell */
        }
    }
    return err;
}

/* In the session's database unless the name says otherwise. */
static err_t create_schema(struct session *s, const struct sql_ddl *ddl)
{
    struct catalog *c = s->coord->catalog;
    const char *database =
        ddl->name.database != NULL ? ddl->name.database : vars_get(s, "database");
    const struct catalog_database *d = catalog_database(c, database);
    ASSERT(ddl->kind == SQL_CREATE_SCHEMA);
    if (d == NULL) {
        return err_sql(ERR_NOT_FOUND, "3D000", "database \"%s\" does not exist", database);
    }
    if (ddl->if_not_exists && catalog_schema(c, database, ddl->name.name) != NULL) {
        session_notice(s, "NOTICE", err_sql(ERR_EXISTS, "42P06",
                                            "schema \"%s\" already exists, skipping",
                                            ddl->name.name));
        return ERR_OK;
    }
    return catalog_create_schema(c, d->id, ddl->name.name);
}

/* It comes with a schema public. */
static err_t create_database(struct session *s, const struct sql_ddl *ddl)
{
    ASSERT(ddl->kind == SQL_CREATE_DATABASE);
    if (ddl->if_not_exists && catalog_database(s->coord->catalog, ddl->name.name) != NULL) {
        session_notice(s, "NOTICE", err_sql(ERR_EXISTS, "42P04",
                                            "database \"%s\" already exists, skipping",
                                            ddl->name.name));
        return ERR_OK;
    }
    return catalog_create_database(s->coord->catalog, ddl->name.name);
}

/* transact_enter_write refuses in read-only sessions: a definition is a change. */
err_t ddl_create(struct session *s, const struct sql_stmt *stmt)
{
    struct sql_context cx;
    struct sql_ddl *ddl = NULL;
    names_context(s, &cx);
    TRY(transact_enter_write(s));
    TRY(sql_plan_ddl(&cx, stmt, &ddl));
    err_t err;
    switch (ddl->kind) {
    case SQL_CREATE_CLUSTER: err = create_cluster(s, ddl); break;
    case SQL_CREATE_SCHEMA: err = create_schema(s, ddl); break;
    case SQL_CREATE_DATABASE: err = create_database(s, ddl); break;
    default: err = create_item(s, ddl); break;
    }
    sql_ddl_free(ddl);
    return err;
}

/* Comments on what has none here are accepted, since tools send them with their schema scripts. */
err_t ddl_comment(struct session *s, const struct sql_stmt *stmt)
{
    const struct catalog_item *item = NULL;
    ASSERT(stmt->kind == SQL_COMMENT);
    switch (stmt->object) {
    case SQL_OBJECT_TABLE:
    case SQL_OBJECT_SOURCE:
    case SQL_OBJECT_VIEW:
    case SQL_OBJECT_MATERIALIZED_VIEW:
    case SQL_OBJECT_INDEX: break;
    default: return ERR_OK; /* accepted; kept for relations only */
    }
    TRY(ddl_find(s, &stmt->name, &item));
    if (item == NULL) {
        return err_sql(ERR_NOT_FOUND, "42P01", "relation \"%s\" does not exist", stmt->name.name);
    }
    return catalog_comment(s->coord->catalog, item->id, stmt->text_value);
}
