/*
 * The catalog's rows in SQLite: statements, transactions, and the epoch that fences them.
 *
 * Fencing. meta.epoch counts the processes that ever opened the directory. Each transaction begins
 * by taking SQLite's write lock and reading the epoch; when it is not the one this process set at
 * its start, somebody took over, and nothing is written any more. Lock and check are in the same
 * transaction, so no other process can take over in between.
 *
 * SQLite keeps its own copy of what is bound, statements live for one call: prepared statements are
 * not kept, since no statement here runs often enough to pay for their bookkeeping.
 */
#include "ctrl/adapter/catalog/catalog_internal.h"

#include "core/base/assert.h"

#include <stdarg.h>
#include <stdio.h>

/* The code tells the caller what can be done: a full disk is waited for, a damaged file is not, a
 * lock that is held by another process is tried again by whoever started us. */
static err_t sqlite_error(struct catalog_store *store, const char *what)
{
    enum err_code code = ERR_IO;
    ASSERT(what != NULL);
    switch (sqlite3_errcode(store->db) & 0xff) {
    case SQLITE_FULL: code = ERR_NO_SPACE; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: code = ERR_CORRUPT; break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: code = ERR_UNAVAILABLE; break;
    default: break;
    }
    err_t err = err_new(code, "catalog: %s: %s", what, sqlite3_errmsg(store->db));
    if (store->vfs.last != ERR_OK) {
        err = err_detail(err, "%s", err_text(store->vfs.last));
    }
    return err;
}

/* Statements without parameters and rows: pragmas, BEGIN, COMMIT. */
static err_t exec(struct catalog_store *store, const char *sql)
{
    ASSERT(store->db != NULL);
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        return sqlite_error(store, sql);
    }
    return ERR_OK;
}

/* On failure the store may be half open; catalog_store_close takes it as it is. */
err_t catalog_store_open(struct catalog_store *store, struct io_loop *loop, const char *path)
{
    ASSERT(loop != NULL && path != NULL);
    memset(store, 0, sizeof(*store));
    TRY(catalog_vfs_register(&store->vfs, loop));
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &store->db, flags, store->vfs.name) != SQLITE_OK) {
        return err_wrap(sqlite_error(store, "open"), "%s", path);
    }
    sqlite3_extended_result_codes(store->db, 1);
    /* A transaction that returned survives power loss. With FULL it would not: the commit is the
     * removal of the journal, and only EXTRA makes that removal durable. */
    TRY(exec(store, "PRAGMA journal_mode=DELETE"));
    TRY(exec(store, "PRAGMA synchronous=EXTRA"));
    TRY(exec(store, "PRAGMA temp_store=MEMORY")); /* the VFS makes no temporary files */
    TRY(exec(store, "PRAGMA foreign_keys=OFF")); /* there are none */
    return exec(store, "PRAGMA trusted_schema=OFF");
}

/* Also closes one that never opened. */
void catalog_store_close(struct catalog_store *store)
{
    if (store->db != NULL) {
        int code = sqlite3_close(store->db); /* refuses while statements live */
        ASSERT(code == SQLITE_OK); /* every statement was finalised */
        store->db = NULL;
    }
    catalog_vfs_unregister(&store->vfs);
}

/* The text of the statement is the error's context: it holds no user data, values are bound. */
static err_t prepare(struct catalog_store *store, const char *sql, sqlite3_stmt **out)
{
    ASSERT(store->db != NULL);
    if (sqlite3_prepare_v2(store->db, sql, -1, out, NULL) != SQLITE_OK) {
        return sqlite_error(store, sql);
    }
    return ERR_OK;
}

/* Stops at the first error of each, which is then the answer. */
err_t catalog_store_each(struct catalog_store *store, const char *sql,
                         err_t (*each)(void *arg, sqlite3_stmt *stmt), void *arg)
{
    ASSERT(each != NULL);
    sqlite3_stmt *stmt = NULL;
    TRY(prepare(store, sql, &stmt));
    err_t err = ERR_OK;
    int code = SQLITE_DONE;
    while (err == ERR_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        err = each(arg, stmt);
    }
    if (err == ERR_OK && code != SQLITE_DONE) {
        err = sqlite_error(store, sql);
    }
    sqlite3_finalize(stmt);
    return err;
}

/* The number of types must be the number of parameters: a mistake here is ours, hence asserted. */
err_t catalog_store_run(struct catalog_store *store, const char *sql, const char *types, ...)
{
    sqlite3_stmt *stmt = NULL;
    TRY(prepare(store, sql, &stmt));
    ASSERT(sqlite3_bind_parameter_count(stmt) == (int)strlen(types));
    va_list args;
    va_start(args, types);
    int code = SQLITE_OK;
    for (int i = 1; types[i - 1] != '\0' && code == SQLITE_OK; i++) {
        switch (types[i - 1]) {
        case 'u': code = sqlite3_bind_int64(stmt, i, (sqlite3_int64)va_arg(args, uint64_t)); break;
        case 'i': code = sqlite3_bind_int(stmt, i, va_arg(args, int)); break;
        case 't':
            code = sqlite3_bind_text(stmt, i, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
            break;
        default: UNREACHABLE();
        }
    }
    va_end(args);
    if (code == SQLITE_OK) {
        code = sqlite3_step(stmt);
    }
    err_t err = code == SQLITE_DONE || code == SQLITE_ROW ? ERR_OK : sqlite_error(store, sql);
    sqlite3_finalize(stmt);
    return err;
}

/* A value of meta: SQLite's types are dynamic, so both readings are taken and the caller knows
 * which. */
struct meta_row {
    uint64_t number;
    char *text;
};

/* At most one row: key is the table's primary key. */
static err_t take_meta(void *arg, sqlite3_stmt *stmt)
{
    struct meta_row *row = arg;
    ASSERT(arg != NULL);
    row->number = (uint64_t)sqlite3_column_int64(stmt, 0);
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    free(row->text);
    row->text = text != NULL ? mem_strdup(text) : NULL;
    return ERR_OK;
}

/* The key is one of ours, never a user's: that is why it may stand in the text. */
static err_t read_meta(struct catalog_store *store, const char *key, struct meta_row *row)
{
    char sql[96];
    ASSERT(strlen(key) < 40 && strchr(key, '\'') == NULL);
    snprintf(sql, sizeof(sql), "SELECT value FROM meta WHERE key = '%s'", key);
    return catalog_store_each(store, sql, take_meta, row);
}

/* An absent number is 0, a text is not a number and reads as 0 too. */
err_t catalog_store_meta(struct catalog_store *store, const char *key, uint64_t *out)
{
    struct meta_row row = {0};
    err_t err = read_meta(store, key, &row);
    *out = row.number;
    free(row.text);
    return err;
}

/* The caller frees *out; NULL when the key is absent. */
err_t catalog_store_text(struct catalog_store *store, const char *key, char **out)
{
    struct meta_row row = {0};
    err_t err = read_meta(store, key, &row);
    *out = row.text;
    return err;
}

/* Within the caller's transaction. */
err_t catalog_store_set_meta(struct catalog_store *store, const char *key, uint64_t value)
{
    return catalog_store_run(store, "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", "tu",
                             key, value);
}

/* When it fails no transaction is open: the caller has nothing to end. */
err_t catalog_store_begin(struct catalog_store *store)
{
    ASSERT(sqlite3_get_autocommit(store->db) != 0);
    TRY(exec(store, "BEGIN IMMEDIATE"));
    if (store->epoch == 0) {
        return ERR_OK;
    }
    uint64_t epoch = 0;
    err_t err = catalog_store_meta(store, "epoch", &epoch);
    if (err == ERR_OK && epoch != store->epoch) {
        err = err_sql(ERR_FENCED, "57P01",
                      "another environmentd (epoch %llu) took over this data directory",
                      (unsigned long long)epoch);
    }
    return err == ERR_OK ? ERR_OK : catalog_store_end(store, err);
}

/* Afterwards no transaction is open, whatever happened. SQLite rolls back by itself after some
 * errors (a full disk), hence the look at autocommit. */
err_t catalog_store_end(struct catalog_store *store, err_t err)
{
    if (err == ERR_OK) {
        err = exec(store, "COMMIT");
        if (err == ERR_OK) {
            ASSERT(sqlite3_get_autocommit(store->db) != 0);
            return ERR_OK;
        }
    }
    if (sqlite3_get_autocommit(store->db) == 0) {
        err_free(exec(store, "ROLLBACK")); /* the first error is the one to tell */
    }
    return err;
}
