/*
 * The catalog: every object a user defined, durable in SQLite, held in memory. A change is one
 * SQLite transaction; memory follows only after it committed, so what is in memory is durable.
 *
 * Fencing. Opening raises the epoch. Every transaction reads the epoch first: when another
 * environmentd opened the same directory since, it fails with ERR_FENCED and the process must end.
 *
 * One loop, synchronous and small: statements that define objects are rare. Strings and structs
 * returned are the catalog's, valid until the object is dropped or the catalog closed.
 */
#ifndef TAILRACE_CTRL_ADAPTER_CATALOG_CATALOG_H
#define TAILRACE_CTRL_ADAPTER_CATALOG_CATALOG_H

#include "core/engine/plan.h"
#include "core/io/io.h"

struct catalog;

enum catalog_kind {
    CATALOG_TABLE = 1,
    CATALOG_SOURCE,
    CATALOG_VIEW,
    CATALOG_MATERIALIZED_VIEW,
    CATALOG_INDEX,
};

/* Schemas that are in every database have database 0. OIDs of what PostgreSQL has are its own. */
enum {
    CATALOG_OID_PG_CATALOG = 11,
    CATALOG_OID_PUBLIC = 2200,
    CATALOG_OID_INFORMATION_SCHEMA = 13000,
    CATALOG_OID_MZ_CATALOG = 13500,
    CATALOG_OID_MZ_INTERNAL = 13501,
    CATALOG_OID_SUPERUSER = 10,
    CATALOG_OID_FIRST = 20000,
};

/* Owned by the catalog, as all that follow; ids are unique over all kinds. */
struct catalog_database {
    uint64_t id;
    uint32_t oid;
    char *name;
};

struct catalog_schema {
    uint64_t id;
    uint32_t oid;
    uint64_t database; /* 0: a system schema */
    char *name;
};

/* Who may connect. Rights are not kept: there is one role, which may do everything. */
struct catalog_role {
    uint64_t id;
    uint32_t oid;
    char *name;
    bool superuser;
};

/* size is what the user named; scale and workers are what it meant when the cluster was made. */
struct catalog_cluster {
    uint64_t id;
    uint32_t oid;
    char *name;
    char *size;
    uint32_t scale;    /* processes of a replica */
    uint32_t workers;  /* threads of a process */
    uint32_t replicas; /* 0: nothing runs */
};

/* Where a source reads; all zero for other kinds. */
struct catalog_source {
    const char *path;
    uint8_t format; /* enum sql_source_format */
    bool header; /* the first line of a CSV file has names */
    /* columns of each record, as FORMAT CSV WITH n COLUMNS says; 0: not said */
    uint32_t csv_columns;
    char delimiter;
    bool tail; /* goes on reading what is appended */
};

struct catalog_item {
    struct arena arena; /* everything below hangs here */
    uint64_t id;
    uint32_t oid;
    enum catalog_kind kind;
    uint64_t schema;
    const char *name;
    const char *create_sql;
    const char *definition; /* views: the SELECT */
    const char *comment;    /* or NULL */
    struct schema columns;
    const char **defaults; /* tables: SQL text per column or NULL; may be NULL */
    uint64_t cluster;      /* materialized views, indexes */
    uint64_t memory_limit; /* of the same: bytes on a worker; 0: none */
    uint64_t on;           /* indexes: the relation */
    uint32_t *keys;        /* indexes: columns */
    uint32_t keys_len;
    struct catalog_source source;
    uint64_t *depends; /* ids of items it is defined over */
    size_t depends_len;
    struct catalog_item **indexes; /* on it, in order of id; the catalog's, zero in a spec */
    size_t indexes_len, indexes_cap;
};

struct catalog_config {
    struct io_loop *loop;
    const char *directory;           /* made when missing */
    const char *environment;         /* text of a UUID, or NULL: made at first start */
};

/* Opens or creates. ERR_INVALID: the directory is another environment's; ERR_CORRUPT: damaged. */
err_t catalog_open(const struct catalog_config *config, struct catalog **out);
void catalog_close(struct catalog *catalog);
uint64_t catalog_epoch(const struct catalog *catalog);
/* The environment's id: 16 bytes, and as text. */
const uint8_t *catalog_environment(const struct catalog *catalog);
const char *catalog_environment_text(const struct catalog *catalog);
/* Grows with every change: what is derived from the catalog may be kept while it stands still. */
uint64_t catalog_version(const struct catalog *catalog);

/* Greater than the ids of everything there is; those of later objects are at or above it. */
uint64_t catalog_next_id(const struct catalog *catalog);

/* ---- looking up: NULL when there is none ----------------------------------------------------- */

const struct catalog_database *catalog_database(const struct catalog *c, const char *name);
const struct catalog_database *catalog_database_id(const struct catalog *c, uint64_t id);
/* database NULL: only system schemas. A system schema is found whatever the database. */
const struct catalog_schema *catalog_schema(const struct catalog *c, const char *database,
                                            const char *name);
const struct catalog_schema *catalog_schema_id(const struct catalog *c, uint64_t id);
const struct catalog_role *catalog_role(const struct catalog *c, const char *name);
const struct catalog_cluster *catalog_cluster(const struct catalog *c, const char *name);
const struct catalog_cluster *catalog_cluster_id(const struct catalog *c, uint64_t id);
const struct catalog_item *catalog_item(const struct catalog *c, uint64_t schema, const char *name);
const struct catalog_item *catalog_item_id(const struct catalog *c, uint64_t id);

/* The n-th of each, in order of id; NULL past the end. */
const struct catalog_database *catalog_database_at(const struct catalog *c, size_t n);
const struct catalog_schema *catalog_schema_at(const struct catalog *c, size_t n);
const struct catalog_role *catalog_role_at(const struct catalog *c, size_t n);
const struct catalog_cluster *catalog_cluster_at(const struct catalog *c, size_t n);
const struct catalog_item *catalog_item_at(const struct catalog *c, size_t n);
/* The n-th index on a relation, in order of id. */
const struct catalog_item *catalog_index_on(const struct catalog *c, uint64_t relation, size_t n);
/* How many items of a kind there are. */
size_t catalog_count(const struct catalog *c, enum catalog_kind kind);

/* "table", "source", "view", "materialized view", "index". */
const char *catalog_kind_name(enum catalog_kind kind);

/* ---- changing -------------------------------------------------------------------------------- */

/* Names already taken: 42P04, 42P06, 42710, 42P07 as PostgreSQL says it. */
err_t catalog_create_database(struct catalog *c, const char *name);
err_t catalog_create_schema(struct catalog *c, uint64_t database, const char *name);
err_t catalog_create_cluster(struct catalog *c, const struct catalog_cluster *spec,
                             const struct catalog_cluster **out);
/* Copies the spec; id and oid are given out here. replaces: an item dropped in the same
 * transaction (CREATE OR REPLACE), or 0. */
err_t catalog_create_item(struct catalog *c, const struct catalog_item *spec, uint64_t replaces,
                          const struct catalog_item **out);
/* Drops all of them in one transaction; the caller has seen to what depends on them. */
err_t catalog_drop_items(struct catalog *c, const uint64_t *ids, size_t ids_len);
err_t catalog_drop_database(struct catalog *c, uint64_t id);
err_t catalog_drop_schema(struct catalog *c, uint64_t id);
err_t catalog_drop_cluster(struct catalog *c, uint64_t id);
/* comment NULL removes. */
err_t catalog_comment(struct catalog *c, uint64_t item, const char *comment);

/*
 * Appends to ids everything that depends on the items in it, directly or not, dependants behind
 * what they depend on... the order in which to drop is the reverse. ids is a malloc'ed array.
 */
struct catalog_ids {
    uint64_t *ids;
    size_t ids_len, ids_cap;
};
void catalog_dependants(const struct catalog *c, struct catalog_ids *ids);

/* ---- the timestamp oracle -------------------------------------------------------------------- */

/*
 * Gives out times, microseconds on the environment's timeline, so that reads and writes appear in
 * one order that agrees with real time: a write's time is above every time given out before; a
 * read's time is at least that of every write acknowledged and every read answered before.
 *
 * Durable reservation: times are given out only below a bound that is on disk, and after a restart
 * the oracle begins at that bound or at the clock, whichever is later. So it never goes back, also
 * when the clock does. The bound is moved ahead in the background, 200 ms at a time.
 */
struct oracle;
err_t oracle_open(struct io_loop *loop, const char *path, uint64_t epoch, struct oracle **out);
void oracle_free(struct oracle *oracle);
/* A time for a write: above all before. ERR_IO, ERR_NO_SPACE when the bound cannot be moved. */
err_t oracle_write_time(struct oracle *oracle, uint64_t *time);
/* The write at time was acknowledged, or a read at it answered. */
err_t oracle_observe(struct oracle *oracle, uint64_t time);
/* The smallest time a read that begins now may have. */
uint64_t oracle_read_time(const struct oracle *oracle);
/* A time below which no write will be given a time any more: for advancing tables. It promises by
 * itself: later write times are at or above it. */
uint64_t oracle_close_time(struct oracle *oracle);

#endif
