/*
 * Private to the catalog. vfs.c: SQLite's files through core/io; store.c: rows and transactions;
 * catalog.c: memory; load.c: rows to memory at opening; oracle.c: times.
 */
#ifndef TAILRACE_CTRL_ADAPTER_CATALOG_CATALOG_INTERNAL_H
#define TAILRACE_CTRL_ADAPTER_CATALOG_CATALOG_INTERNAL_H

#include "core/base/map.h"
#include "ctrl/adapter/catalog/catalog.h"

#include <sqlite3.h>

/* SQLite's view of core/io: one per catalog, since the file functions need the loop. */
struct catalog_vfs {
    sqlite3_vfs vfs;
    struct io_loop *loop;
    char name[40];
    err_t last; /* the latest error of core/io, for messages */
};
err_t catalog_vfs_register(struct catalog_vfs *vfs, struct io_loop *loop);
void catalog_vfs_unregister(struct catalog_vfs *vfs);

/* The connection to SQLite. epoch 0: not taken over yet, transactions are not fenced. */
struct catalog_store {
    struct catalog_vfs vfs;
    sqlite3 *db; /* NULL: closed */
    uint64_t epoch; /* of this process */
};

err_t catalog_store_open(struct catalog_store *store, struct io_loop *loop, const char *path);
void catalog_store_close(struct catalog_store *store);
/* Begins a transaction and checks the epoch (not before it is set). */
err_t catalog_store_begin(struct catalog_store *store);
/* Commits when err is ok, else rolls back; returns err or why the commit failed. */
err_t catalog_store_end(struct catalog_store *store, err_t err);
/* Runs one statement. types: 'u' uint64_t, 'i' int, 't' const char * (NULL: NULL), one per ?. */
err_t catalog_store_run(struct catalog_store *store, const char *sql, const char *types, ...);
/* Runs a query, each(arg, stmt) per row. */
err_t catalog_store_each(struct catalog_store *store, const char *sql,
                         err_t (*each)(void *arg, sqlite3_stmt *stmt), void *arg);
/* Numbers kept by name; 0 when absent. */
err_t catalog_store_meta(struct catalog_store *store, const char *key, uint64_t *out);
err_t catalog_store_set_meta(struct catalog_store *store, const char *key, uint64_t value);
err_t catalog_store_text(struct catalog_store *store, const char *key, char **out);

/* Owned by whoever opened it; touched on its loop only. Each list owns its elements, in order of
 * id. items_by_id and items_by_name point to the elements of items. */
struct catalog {
    struct io_loop *loop; /* for random numbers and files */
    char *directory;
    struct catalog_store store;
    uint8_t environment[16];
    char environment_text[37]; /* 36 characters and a NUL */
    uint64_t version; /* see catalog_version */
    uint64_t next_id; /* of the next object of any kind */
    uint32_t next_oid; /* what PostgreSQL's clients know objects by */
    struct catalog_database **databases;
    size_t databases_len, databases_cap;
    struct catalog_schema **schemas;
    size_t schemas_len, schemas_cap;
    struct catalog_role **roles;
    size_t roles_len, roles_cap;
    struct catalog_cluster **clusters;
    size_t clusters_len, clusters_cap;
    struct catalog_item **items; /* by id */
    size_t items_len, items_cap;
    size_t counts[CATALOG_INDEX + 1]; /* items by kind */
    struct u64map items_by_id;
    struct strmap items_by_name; /* "<schema id>.<name>" */
};

/* load.c: creates the tables of an empty database, and reads a full one. */
err_t catalog_load_schema(struct catalog *c);
err_t catalog_load(struct catalog *c);
/* catalog.c: an item enters memory; takes it. */
void catalog_item_link(struct catalog *c, struct catalog_item *item);

#endif
