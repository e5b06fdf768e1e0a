/* Private to the catalog tables: their description, and the rows under construction. */
#ifndef TAILRACE_CTRL_ADAPTER_COORD_VIRTUAL_INTERNAL_H
#define TAILRACE_CTRL_ADAPTER_COORD_VIRTUAL_INTERNAL_H

#include "ctrl/adapter/coord/coord_internal.h"

/* Rows being made: begin one, set columns by name; the others are zero, empty or NULL by type. */
struct virtual_sink {
    struct session *session; /* who asks */
    const struct sql_relation *relation;
    struct arena *arena; /* texts set are copied here */
    struct datum *rows;
    uint32_t rows_len; /* counting the one under construction */
    uint32_t rows_cap;
    struct datum *row;   /* the one under construction */
};
/* Setters name a column of the table; one it does not have is a mistake of ours and asserts. */
void virtual_begin(struct virtual_sink *sink);
void virtual_text(struct virtual_sink *sink, const char *column, const char *value);
void virtual_int(struct virtual_sink *sink, const char *column, int64_t value);
void virtual_bool(struct virtual_sink *sink, const char *column, bool value);
void virtual_null(struct virtual_sink *sink, const char *column);
void virtual_printf(struct virtual_sink *sink, const char *column, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "u12", "s14001". */
void virtual_id(struct virtual_sink *sink, const char *column, uint64_t id);

/* Appends the table's present rows for sink->session. */
typedef void (*virtual_fill_fn)(struct virtual_sink *sink);

/* A catalog table as it is written down in virtual_specs.c. columns: "name:type name:type ...";
 * fill NULL: it has no rows. oid: PostgreSQL's where clients compare with it, else 14001 and up. */
struct virtual_spec {
    const char *schema;
    const char *name;
    uint32_t oid;
    const char *columns;
    virtual_fill_fn fill;
};
extern const struct virtual_spec virtual_specs[];
extern const size_t virtual_specs_len;

/* The same, made into a relation at start. Owned by the coordinator, constant from then on. */
struct virtual_table {
    const struct virtual_spec *spec;
    struct sql_relation relation;
    struct arena arena;
};

/* virtual_is.c */
void virtual_is_character_sets(struct virtual_sink *sink);
void virtual_is_columns(struct virtual_sink *sink);
void virtual_is_enabled_roles(struct virtual_sink *sink);
void virtual_is_schemata(struct virtual_sink *sink);
void virtual_is_tables(struct virtual_sink *sink);
void virtual_is_views(struct virtual_sink *sink);
/* virtual_mz.c */
void virtual_mz_cluster_replica_sizes(struct virtual_sink *sink);
void virtual_mz_cluster_replica_statuses(struct virtual_sink *sink);
void virtual_mz_cluster_replicas(struct virtual_sink *sink);
void virtual_mz_clusters(struct virtual_sink *sink);
void virtual_mz_columns(struct virtual_sink *sink);
void virtual_mz_comments(struct virtual_sink *sink);
void virtual_mz_databases(struct virtual_sink *sink);
void virtual_mz_dataflow_errors(struct virtual_sink *sink);
void virtual_mz_frontiers(struct virtual_sink *sink);
void virtual_mz_functions(struct virtual_sink *sink);
void virtual_mz_index_columns(struct virtual_sink *sink);
void virtual_mz_indexes(struct virtual_sink *sink);
void virtual_mz_materialized_views(struct virtual_sink *sink);
void virtual_mz_object_definitions(struct virtual_sink *sink);
void virtual_mz_object_dependencies(struct virtual_sink *sink);
void virtual_mz_objects(struct virtual_sink *sink);
void virtual_mz_processes(struct virtual_sink *sink);
void virtual_mz_relations(struct virtual_sink *sink);
void virtual_mz_roles(struct virtual_sink *sink);
void virtual_mz_schemas(struct virtual_sink *sink);
void virtual_mz_sessions(struct virtual_sink *sink);
void virtual_mz_show_columns(struct virtual_sink *sink);
void virtual_mz_show_objects(struct virtual_sink *sink);
void virtual_mz_source_statuses(struct virtual_sink *sink);
void virtual_mz_sources(struct virtual_sink *sink);
void virtual_mz_tables(struct virtual_sink *sink);
void virtual_mz_views(struct virtual_sink *sink);
/* virtual_report.c */
void virtual_mz_arrangement_sizes(struct virtual_sink *sink);
void virtual_mz_arrangement_sizes_per_worker(struct virtual_sink *sink);
void virtual_mz_connection_counters(struct virtual_sink *sink);
void virtual_mz_dataflow_operators(struct virtual_sink *sink);
void virtual_mz_dataflows(struct virtual_sink *sink);
void virtual_mz_hydration_statuses(struct virtual_sink *sink);
void virtual_mz_introspection_answers(struct virtual_sink *sink);
void virtual_mz_loop_counters(struct virtual_sink *sink);
void virtual_mz_operator_rows_per_worker(struct virtual_sink *sink);
void virtual_mz_reader_counters(struct virtual_sink *sink);
void virtual_mz_scheduling_elapsed(struct virtual_sink *sink);
void virtual_mz_scheduling_elapsed_per_worker(struct virtual_sink *sink);
void virtual_mz_source_counters(struct virtual_sink *sink);
void virtual_mz_subscription_counters(struct virtual_sink *sink);
/* virtual_pg.c */
void virtual_pg_am(struct virtual_sink *sink);
void virtual_pg_attrdef(struct virtual_sink *sink);
void virtual_pg_attribute(struct virtual_sink *sink);
void virtual_pg_authid(struct virtual_sink *sink);
void virtual_pg_class(struct virtual_sink *sink);
void virtual_pg_collation(struct virtual_sink *sink);
void virtual_pg_database(struct virtual_sink *sink);
void virtual_pg_depend(struct virtual_sink *sink);
void virtual_pg_description(struct virtual_sink *sink);
void virtual_pg_index(struct virtual_sink *sink);
void virtual_pg_indexes(struct virtual_sink *sink);
void virtual_pg_language(struct virtual_sink *sink);
void virtual_pg_matviews(struct virtual_sink *sink);
void virtual_pg_namespace(struct virtual_sink *sink);
void virtual_pg_proc(struct virtual_sink *sink);
void virtual_pg_roles(struct virtual_sink *sink);
void virtual_pg_settings(struct virtual_sink *sink);
void virtual_pg_shadow(struct virtual_sink *sink);
void virtual_pg_stat_activity(struct virtual_sink *sink);
void virtual_pg_tables(struct virtual_sink *sink);
void virtual_pg_tablespace(struct virtual_sink *sink);
void virtual_pg_type(struct virtual_sink *sink);
void virtual_pg_user(struct virtual_sink *sink);
void virtual_pg_views(struct virtual_sink *sink);

/* An item of the session's database, or with every set of any; NULL past the end. *at: where to
 * go on. */
const struct catalog_item *virtual_next_item(struct virtual_sink *sink, bool every, size_t *at);
/* The n-th catalog table. */
const struct virtual_table *virtual_at(const struct coord *coord, size_t n);
/* "a, b" of an index's columns. */
void virtual_key_names(const struct coord *coord, const struct catalog_item *index,
                       struct buf *out);

#endif
