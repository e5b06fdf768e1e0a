/*
 * The rows of mz_catalog and mz_internal: our own objects, and how they are. Names and columns
 * follow Materialize, so that its tools (dbt, Terraform) find what they ask for. Ids are texts:
 * "u7" a user's object, "s14001" a catalog table. Unlike pg_catalog these tables show all
 * databases.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/virtual_internal.h"

/* Every filler begins here: the sink knows its session, the session its coordinator. */
static const struct catalog *catalog_of(const struct virtual_sink *sink)
{
    return sink->session->coord->catalog;
}

/* As FORMAT in CREATE SOURCE spells it. */
static const char *format_name(uint8_t format)
{
    ASSERT(format == SQL_FORMAT_CSV || format == SQL_FORMAT_JSON);
    return format == SQL_FORMAT_CSV ? "csv" : "json";
}

/* In order of id, as all tables here: the order of creation. */
void virtual_mz_databases(struct virtual_sink *sink)
{
    const struct catalog_database *d;
    for (size_t i = 0; (d = catalog_database_at(catalog_of(sink), i)) != NULL; i++) {
        virtual_begin(sink);
        virtual_id(sink, "id", d->id);
        virtual_int(sink, "oid", d->oid);
        virtual_text(sink, "name", d->name);
    }
}

/* virtual_id turns the system schemas' database 0 into NULL. */
void virtual_mz_schemas(struct virtual_sink *sink)
{
    const struct catalog_schema *s;
    for (size_t i = 0; (s = catalog_schema_at(catalog_of(sink), i)) != NULL; i++) {
        virtual_begin(sink);
        virtual_id(sink, "id", s->id);
        virtual_int(sink, "oid", s->oid);
        virtual_id(sink, "database_id", s->database);
        virtual_text(sink, "name", s->name);
    }
}

/* inherit is true of every role in Materialize. */
void virtual_mz_roles(struct virtual_sink *sink)
{
    const struct catalog_role *r;
    for (size_t i = 0; (r = catalog_role_at(catalog_of(sink), i)) != NULL; i++) {
        virtual_begin(sink);
        virtual_id(sink, "id", r->id);
        virtual_int(sink, "oid", r->oid);
        virtual_text(sink, "name", r->name);
        virtual_bool(sink, "inherit", true);
    }
}

/* Terraform's provider reads its clusters back from here: size is what was asked for. */
void virtual_mz_clusters(struct virtual_sink *sink)
{
    const struct catalog_cluster *k;
    for (size_t i = 0; (k = catalog_cluster_at(catalog_of(sink), i)) != NULL; i++) {
        virtual_begin(sink);
        virtual_id(sink, "id", k->id);
        virtual_text(sink, "name", k->name);
        virtual_bool(sink, "managed", true);
        virtual_text(sink, "size", k->size);
        virtual_int(sink, "replication_factor", k->replicas);
    }
}

/* Replicas are numbered; their names count from 1, as SHOW CLUSTER REPLICAS has them. */
void virtual_mz_cluster_replicas(struct virtual_sink *sink)
{
    const struct catalog_cluster *k;
    for (size_t i = 0; (k = catalog_cluster_at(catalog_of(sink), i)) != NULL; i++) {
        for (uint32_t r = 0; r < k->replicas; r++) {
            virtual_begin(sink);
            virtual_printf(sink, "id", "u%llu-%u", (unsigned long long)k->id, r);
            virtual_printf(sink, "name", "r%u", r + 1);
            virtual_id(sink, "cluster_id", k->id);
            virtual_text(sink, "size", k->size);
        }
    }
}

/* The sizes environmentd was started with, in that order. */
void virtual_mz_cluster_replica_sizes(struct virtual_sink *sink)
{
    const struct coord *coord = sink->session->coord;
    for (size_t i = 0; i < coord->sizes_len; i++) {
        virtual_begin(sink);
        virtual_text(sink, "size", coord->sizes[i].name);
        virtual_int(sink, "processes", coord->sizes[i].scale);
        virtual_int(sink, "workers", coord->sizes[i].workers);
    }
}

/* The columns that all tables of objects share. */
static void add_item(struct virtual_sink *sink, const struct catalog_item *item)
{
    ASSERT(item->id != 0);
    virtual_begin(sink);
    virtual_id(sink, "id", item->id);
    virtual_int(sink, "oid", item->oid);
    virtual_text(sink, "name", item->name);
}

/* mz_objects spells the kind with a dash, where messages have a space. */
static void add_object(struct virtual_sink *sink, const struct catalog_item *item)
{
    add_item(sink, item);
    virtual_id(sink, "schema_id", item->schema);
    virtual_text(sink, "type", item->kind == CATALOG_MATERIALIZED_VIEW
                                   ? "materialized-view"
                                   : catalog_kind_name(item->kind));
    virtual_id(sink, "cluster_id", item->cluster);
}

/* Catalog tables are views to their users: they cannot be written. */
static void add_system_objects(struct virtual_sink *sink)
{
    const struct virtual_table *t;
    for (size_t i = 0; (t = virtual_at(sink->session->coord, i)) != NULL; i++) {
        const struct catalog_schema *schema =
            catalog_schema(catalog_of(sink), NULL, t->spec->schema);
        virtual_begin(sink);
        virtual_id(sink, "id", t->relation.id);
        virtual_int(sink, "oid", t->spec->oid);
        virtual_id(sink, "schema_id", schema->id);
        virtual_text(sink, "name", t->spec->name);
        virtual_text(sink, "type", "view");
    }
}

/* Users' objects of all databases, then the system's. */
void virtual_mz_objects(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        add_object(sink, item);
    }
    add_system_objects(sink);
}

/* As mz_objects, without indexes. */
void virtual_mz_relations(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind != CATALOG_INDEX) {
            add_object(sink, item);
        }
    }
    add_system_objects(sink);
}

/* One table a kind of object follows, each with what only that kind has; create_sql is the
 * statement as it was given, from which dbt and Terraform make their diffs. */
void virtual_mz_tables(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind == CATALOG_TABLE) {
            add_item(sink, item);
            virtual_id(sink, "schema_id", item->schema);
            virtual_text(sink, "create_sql", item->create_sql);
        }
    }
}

/* type is "file" until there are other connectors. */
void virtual_mz_sources(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind == CATALOG_SOURCE) {
            add_item(sink, item);
            virtual_id(sink, "schema_id", item->schema);
            virtual_text(sink, "type", "file");
            virtual_text(sink, "format", format_name(item->source.format));
            virtual_text(sink, "path", item->source.path);
            virtual_text(sink, "create_sql", item->create_sql);
        }
    }
}

/* A plain view runs nowhere, so it has no cluster. */
void virtual_mz_views(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind == CATALOG_VIEW) {
            add_item(sink, item);
            virtual_id(sink, "schema_id", item->schema);
            virtual_text(sink, "definition", item->definition);
            virtual_text(sink, "create_sql", item->create_sql);
        }
    }
}

/* cluster_id: where it is kept up to date, and where reads of it are fast. */
void virtual_mz_materialized_views(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind == CATALOG_MATERIALIZED_VIEW) {
            add_item(sink, item);
            virtual_id(sink, "schema_id", item->schema);
            virtual_id(sink, "cluster_id", item->cluster);
            virtual_text(sink, "definition", item->definition);
            virtual_text(sink, "create_sql", item->create_sql);
        }
    }
}

/* An index has no columns of its own: see mz_index_columns. */
void virtual_mz_indexes(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind == CATALOG_INDEX) {
            add_item(sink, item);
            virtual_id(sink, "on_id", item->on);
            virtual_id(sink, "cluster_id", item->cluster);
            virtual_text(sink, "create_sql", item->create_sql);
        }
    }
}

/* Materialized views have no row here, though they are arranged by all their columns. */
void virtual_mz_index_columns(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        const struct catalog_item *on = catalog_item_id(catalog_of(sink), item->on);
        for (uint32_t i = 0; on != NULL && i < item->keys_len; i++) {
            virtual_begin(sink);
            virtual_id(sink, "index_id", item->id);
            virtual_int(sink, "index_position", i + 1);
            virtual_int(sink, "on_position", item->keys[i] + 1);
            virtual_bool(sink, "nullable", on->columns.types[item->keys[i]].nullable);
        }
    }
}

/* "default" is SQL text; NULL when there is none. */
static void add_columns(struct virtual_sink *sink, uint64_t id, const struct schema *columns,
                        const char **defaults)
{
    ASSERT(id != 0);
    for (uint32_t i = 0; i < columns->cols; i++) {
        virtual_begin(sink);
        virtual_id(sink, "id", id);
        virtual_text(sink, "name", columns->names[i]);
        virtual_int(sink, "position", i + 1);
        virtual_bool(sink, "nullable", columns->types[i].nullable);
        virtual_text(sink, "type", type_format(sink->arena, &columns->types[i]));
        virtual_text(sink, "default", defaults != NULL ? defaults[i] : NULL);
        virtual_int(sink, "type_oid", columns->types[i].oid);
    }
}

/* Indexes are left out: their keys are columns of something else. */
void virtual_mz_columns(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind != CATALOG_INDEX) {
            add_columns(sink, item->id, &item->columns, item->defaults);
        }
    }
    const struct virtual_table *t;
    for (size_t i = 0; (t = virtual_at(sink->session->coord, i)) != NULL; i++) {
        add_columns(sink, t->relation.id, &t->relation.columns, NULL);
    }
}

/* The function table of core/data, as the planner resolves against it; one row an overload. */
void virtual_mz_functions(struct virtual_sink *sink)
{
    size_t len = 0;
    const struct func *funcs = func_catalog(&len);
    for (size_t i = 0; i < len; i++) {
        struct buf args = {0};
        for (uint8_t a = 0; a < funcs[i].args_len; a++) {
            struct type type = type_of((enum type_kind)(funcs[i].args[a] != 0 ? funcs[i].args[a]
                                                                              : TYPE_TEXT));
            buf_printf(&args, "%s%s", a > 0 ? ", " : "",
                       funcs[i].args[a] == 0 ? "any" : type_format(sink->arena, &type));
        }
        struct type result = type_of((enum type_kind)(funcs[i].result != 0 ? funcs[i].result
                                                                           : TYPE_TEXT));
        virtual_begin(sink);
        virtual_int(sink, "oid", 10000 + (int64_t)funcs[i].id);
        virtual_text(sink, "name", funcs[i].name);
        virtual_text(sink, "argument_types", buf_cstr(&args));
        virtual_text(sink, "return_type",
                     funcs[i].result == 0 ? "any" : type_format(sink->arena, &result));
        buf_free(&args);
    }
}

/* ---- how things are -------------------------------------------------------------------------- */

/* A source that has reported nothing yet is starting: storaged may not even be up. */
void virtual_mz_source_statuses(struct virtual_sink *sink)
{
    const struct coord *coord = sink->session->coord;
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind != CATALOG_SOURCE) {
            continue;
        }
        const struct collection_status *st = u64map_get(&coord->statuses, item->id);
        virtual_begin(sink);
        virtual_id(sink, "id", item->id);
        virtual_text(sink, "name", item->name);
        virtual_text(sink, "type", "file");
        virtual_text(sink, "status",
                     storage_status_name(st != NULL ? st->status : STORAGE_STARTING));
        if (st != NULL && st->reason[0] != '\0') {
            virtual_text(sink, "error", st->reason);
        }
        if (st != NULL && st->hint[0] != '\0') {
            virtual_text(sink, "details", st->hint);
        }
    }
}

/* As far as the controllers have heard; a frontier that was never reported has no row. */
void virtual_mz_frontiers(struct virtual_sink *sink)
{
    struct controller *controller = sink->session->coord->controller;
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        uint64_t since = 0;
        uint64_t upper = 0;
        bool known;
        if (item->kind == CATALOG_TABLE || item->kind == CATALOG_SOURCE) {
            known = controller_collection_frontiers(controller, item->id, &since, &upper);
        } else {
            known = item->cluster != 0 && controller_index_frontiers(controller, item->cluster,
                                                                     item->id, &since, &upper);
        }
        if (!known) {
            continue;
        }
        virtual_begin(sink);
        virtual_id(sink, "object_id", item->id);
        virtual_int(sink, "read_frontier", (int64_t)since);
        virtual_int(sink, "write_frontier", (int64_t)upper);
        if (since == FRONTIER_EMPTY) {
            virtual_null(sink, "read_frontier");
        }
        if (upper == FRONTIER_EMPTY) {
            virtual_null(sink, "write_frontier"); /* complete */
        }
    }
}

/* Called by the controllers for each process they know, in no order that means anything. */
static void add_process(void *arg, const struct controller_process_info *info)
{
    struct virtual_sink *sink = arg;
    ASSERT(info->service != NULL);
    virtual_begin(sink);
    virtual_text(sink, "service", info->service);
    virtual_id(sink, "cluster_id", info->cluster);
    virtual_int(sink, "replica", info->replica);
    virtual_int(sink, "process", info->process);
    virtual_text(sink, "address", info->address);
    virtual_bool(sink, "connected", info->connected);
}

/* connected: our control connection stands, so it does what we say. */
void virtual_mz_processes(struct virtual_sink *sink)
{
    controller_processes(sink->session->coord->controller, add_process, sink);
}

/* The same list, seen as replicas. */
static void add_replica_status(void *arg, const struct controller_process_info *info)
{
    struct virtual_sink *sink = arg;
    if (info->cluster == 0) {
        return; /* storage */
    }
    virtual_begin(sink);
    virtual_printf(sink, "replica_id", "u%llu-%u", (unsigned long long)info->cluster,
                   info->replica);
    virtual_int(sink, "process_id", info->process);
    virtual_text(sink, "status", info->connected ? "ready" : "not-ready");
}

void virtual_mz_cluster_replica_statuses(struct virtual_sink *sink)
{
    controller_processes(sink->session->coord->controller, add_replica_status, sink);
}

/* Direct ones only; a recursive query finds the rest. */
void virtual_mz_object_dependencies(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        for (size_t i = 0; i < item->depends_len; i++) {
            virtual_begin(sink);
            virtual_id(sink, "object_id", item->id);
            virtual_id(sink, "referenced_object_id", item->depends[i]);
        }
    }
}

/* On relations, the only objects that keep their comment. */
void virtual_mz_comments(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->comment != NULL) {
            virtual_begin(sink);
            virtual_id(sink, "id", item->id);
            virtual_text(sink, "object_type", catalog_kind_name(item->kind));
            virtual_text(sink, "comment", item->comment);
        }
    }
}

/* Without the system's own session, which is no client's. */
static void add_wait(struct virtual_sink *sink, const struct session *s)
{
    struct buf text = {0};
    blocked_describe(s, &text);
    if (text.len > 0) {
        virtual_text(sink, "waits_for", buf_cstr(&text));
    }
    buf_free(&text);
}

void virtual_mz_sessions(struct virtual_sink *sink)
{
    for (const struct session *s = sink->session->coord->sessions; s != NULL; s = s->next) {
        if (s->conn != NULL) {
            virtual_begin(sink);
            virtual_int(sink, "pid", s->pid);
            virtual_text(sink, "role", s->user);
            virtual_text(sink, "database", vars_get(s, "database"));
            virtual_text(sink, "application_name", vars_get(s, "application_name"));
            virtual_text(sink, "state", s->run.state != RUN_NONE ? "active" : "idle");
            add_wait(sink, s);
        }
    }
}

/* Until the object is dropped or comes back: see on_dataflow_failed. */
void virtual_mz_dataflow_errors(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        const char *failure = u64map_get(&sink->session->coord->failures, item->id);
        if (failure != NULL) {
            virtual_begin(sink);
            virtual_id(sink, "id", item->id);
            virtual_text(sink, "error", failure);
        }
    }
}

/* ---- what the planner's own SQL reads -------------------------------------------------------- */

/* As PostgreSQL's pg_get_indexdef() has it: clients look for the words. */
static void index_definition(struct virtual_sink *sink, const struct catalog_item *index)
{
    const struct catalog *c = catalog_of(sink);
    const struct catalog_item *on = catalog_item_id(c, index->on);
    const struct catalog_schema *schema = catalog_schema_id(c, index->schema);
    struct buf keys = {0};
    ASSERT(on != NULL && schema != NULL);
    virtual_key_names(sink->session->coord, index, &keys);
    virtual_printf(sink, "definition", "CREATE INDEX %s ON %s.%s USING arrangement (%s)",
                   sql_quote_ident(sink->arena, index->name),
                   sql_quote_ident(sink->arena, schema->name),
                   sql_quote_ident(sink->arena, on->name), buf_cstr(&keys));
    buf_free(&keys);
}

/* By oid, since that is what the pg_get_ functions are called with. */
void virtual_mz_object_definitions(struct virtual_sink *sink)
{
    const struct catalog_item *item;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        if (item->kind != CATALOG_INDEX && item->definition == NULL) {
            continue;
        }
        virtual_begin(sink);
        virtual_int(sink, "oid", item->oid);
        if (item->kind == CATALOG_INDEX) {
            index_definition(sink, item);
        } else {
            virtual_text(sink, "definition", item->definition);
        }
    }
}

/* SHOW filters by this word. */
static const char *show_kind(enum catalog_kind kind)
{
    return kind == CATALOG_MATERIALIZED_VIEW ? "materialized-view" : catalog_kind_name(kind);
}

/* One row for each object; the planner's SQL for SHOW TABLES, SHOW VIEWS... picks kind and
 * columns. */
static void show_item(struct virtual_sink *sink, const struct catalog_item *item)
{
    const struct catalog *c = catalog_of(sink);
    const struct catalog_schema *schema = catalog_schema_id(c, item->schema);
    const struct catalog_database *db = catalog_database_id(c, schema->database);
    const struct catalog_cluster *k = catalog_cluster_id(c, item->cluster);
    const struct catalog_item *on = catalog_item_id(c, item->on);
    ASSERT(item->id != 0);
    virtual_begin(sink);
    virtual_text(sink, "kind", show_kind(item->kind));
    virtual_text(sink, "database", db != NULL ? db->name : NULL);
    virtual_text(sink, "schema", schema->name);
    virtual_text(sink, "name", item->name);
    virtual_text(sink, "type", item->kind == CATALOG_SOURCE ? "file" : show_kind(item->kind));
    virtual_text(sink, "cluster", k != NULL ? k->name : NULL);
    virtual_text(sink, "on_name", on != NULL ? on->name : NULL);
    if (item->kind == CATALOG_INDEX) {
        struct buf keys = {0};
        virtual_key_names(sink->session->coord, item, &keys);
        virtual_printf(sink, "key", "{%s}", buf_cstr(&keys));
        buf_free(&keys);
    }
}

/* Clusters and their replicas; the replicas also in one text, for SHOW CLUSTERS. */
static void show_clusters(struct virtual_sink *sink)
{
    const struct catalog_cluster *k;
    for (size_t i = 0; (k = catalog_cluster_at(catalog_of(sink), i)) != NULL; i++) {
        struct buf replicas = {0};
        for (uint32_t r = 0; r < k->replicas; r++) {
            buf_printf(&replicas, "%sr%u (%s)", r > 0 ? ", " : "", r + 1, k->size);
            virtual_begin(sink);
            virtual_text(sink, "kind", "cluster-replica");
            virtual_printf(sink, "name", "r%u", r + 1);
            virtual_text(sink, "cluster", k->name);
            virtual_text(sink, "type", k->size);
        }
        virtual_begin(sink);
        virtual_text(sink, "kind", "cluster");
        virtual_text(sink, "name", k->name);
        virtual_text(sink, "type", k->size);
        virtual_text(sink, "replicas", buf_cstr(&replicas));
        buf_free(&replicas);
    }
}

/* Everything SHOW can list is here, so that SHOW ... LIKE and WHERE are ordinary SQL. */
void virtual_mz_show_objects(struct virtual_sink *sink)
{
    const struct catalog *c = catalog_of(sink);
    const struct catalog_item *item;
    const struct catalog_schema *schema;
    const struct catalog_database *d;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        show_item(sink, item);
    }
    for (size_t i = 0; (schema = catalog_schema_at(c, i)) != NULL; i++) {
        d = catalog_database_id(c, schema->database);
        virtual_begin(sink);
        virtual_text(sink, "kind", "schema");
        virtual_text(sink, "database", d != NULL ? d->name : NULL);
        virtual_text(sink, "name", schema->name);
    }
    for (size_t i = 0; (d = catalog_database_at(c, i)) != NULL; i++) {
        virtual_begin(sink);
        virtual_text(sink, "kind", "database");
        virtual_text(sink, "name", d->name);
    }
    show_clusters(sink);
}

/* SHOW COLUMNS FROM t: in the order of the table. */
static void show_columns(struct virtual_sink *sink, const char *database, const char *schema,
                         const char *relation, const struct schema *columns)
{
    ASSERT(schema != NULL && relation != NULL);
    for (uint32_t i = 0; i < columns->cols; i++) {
        virtual_begin(sink);
        virtual_text(sink, "database", database);
        virtual_text(sink, "schema", schema);
        virtual_text(sink, "relation", relation);
        virtual_int(sink, "position", i + 1);
        virtual_text(sink, "name", columns->names[i]);
        virtual_bool(sink, "nullable", columns->types[i].nullable);
        virtual_text(sink, "type", type_format(sink->arena, &columns->types[i]));
    }
}

/* All relations of all databases: the planner's SQL names the one that is wanted. */
void virtual_mz_show_columns(struct virtual_sink *sink)
{
    const struct catalog *c = catalog_of(sink);
    const struct catalog_item *item;
    const struct virtual_table *t;
    for (size_t at = 0; (item = virtual_next_item(sink, true, &at)) != NULL;) {
        const struct catalog_schema *schema = catalog_schema_id(c, item->schema);
        const struct catalog_database *d = catalog_database_id(c, schema->database);
        if (item->kind != CATALOG_INDEX) {
            show_columns(sink, d != NULL ? d->name : NULL, schema->name, item->name,
                         &item->columns);
        }
    }
    for (size_t i = 0; (t = virtual_at(sink->session->coord, i)) != NULL; i++) {
        show_columns(sink, NULL, t->spec->schema, t->spec->name, &t->relation.columns);
    }
}
