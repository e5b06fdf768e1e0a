/*
 * Cluster sizes: SQLite's JSON functions read what the operator wrote.
 *
 *     {"small": {"workers": 1}, "2-4": {"scale": 2, "workers": 4}}
 *
 * becomes the rows ("small", 1, 1), ("2-4", 2, 4): one parser less to keep. Pure functions; a
 * database in memory for the length of a call.
 */
#include "ctrl/environmentd/sizes.h"

#include "core/base/assert.h"

#include <sqlite3.h>

enum { SIZES_MAX = 256, SIZE_SCALE_MAX = 256, SIZE_WORKERS_MAX = 256 };

static const char default_sizes[] =
    "{\"1\":{\"workers\":1},\"2\":{\"workers\":2},\"4\":{\"workers\":4},\"8\":{\"workers\":8},"
    "\"16\":{\"workers\":16},\"32\":{\"workers\":32},\"2-1\":{\"scale\":2,\"workers\":1},"
    "\"2-2\":{\"scale\":2,\"workers\":2},\"2-4\":{\"scale\":2,\"workers\":4}}";

static const char query[] =
    "SELECT key, coalesce(json_extract(value, '$.scale'), 1),"
    " coalesce(json_extract(value, '$.workers'), 1) FROM json_each(?)";

/* One row: name, processes, workers. A number that is text, or none, reads as 0 and is refused. */
static err_t take_size(sqlite3_stmt *stmt, struct arena *arena, struct coord_size *out)
{
    const char *name = (const char *)sqlite3_column_text(stmt, 0);
    ASSERT(out != NULL);
    sqlite3_int64 scale = sqlite3_column_int64(stmt, 1);
    sqlite3_int64 workers = sqlite3_column_int64(stmt, 2);
    if (name == NULL || name[0] == '\0' || strlen(name) > 64) {
        return err_new(ERR_INVALID, "cluster sizes: a name has 1 to 64 characters");
    }
    if (scale < 1 || scale > SIZE_SCALE_MAX || workers < 1 || workers > SIZE_WORKERS_MAX) {
        return err_new(ERR_INVALID,
                       "cluster size \"%s\": scale and workers must be from 1 to %d", name,
                       SIZE_WORKERS_MAX);
    }
    out->name = arena_strdup(arena, name);
    out->scale = (uint32_t)scale;
    out->workers = (uint32_t)workers;
    return ERR_OK;
}

/* A document that is not JSON fails the first step. */
static err_t read_sizes(sqlite3_stmt *stmt, struct arena *arena, struct coord_size *sizes,
                        size_t *len)
{
    int code;
    ASSERT(*len == 0);
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
        if (*len == SIZES_MAX) {
            return err_new(ERR_LIMIT, "at most %d cluster sizes are supported", SIZES_MAX);
        }
        TRY(take_size(stmt, arena, &sizes[*len]));
        (*len)++;
    }
    if (code != SQLITE_DONE || *len == 0) {
        return err_hint(err_new(ERR_INVALID, "cluster sizes are not a JSON object of sizes"),
                        "Write them as {\"1\": {\"scale\": 1, \"workers\": 1}}.");
    }
    return ERR_OK;
}

/* Room for the largest answer is taken at once: names come from an operator, not from a peer. */
err_t sizes_parse(const char *json, struct arena *arena, struct coord_size **out, size_t *len)
{
    STATIC_ASSERT(SIZE_SCALE_MAX == SIZE_WORKERS_MAX, "one number in the message for both");
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    ASSERT(arena != NULL && out != NULL);
    *len = 0;
    *out = ARENA_ARRAY(arena, struct coord_size, SIZES_MAX);
    err_t err = ERR_OK;
    if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_prepare_v2(db, query, -1, &stmt, NULL) != SQLITE_OK ||
        sqlite3_bind_text(stmt, 1, json != NULL ? json : default_sizes, -1, SQLITE_STATIC) !=
            SQLITE_OK) {
        err = err_new(ERR_INTERNAL, "SQLite cannot read JSON: %s", sqlite3_errmsg(db));
    } else {
        err = read_sizes(stmt, arena, *out, len);
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return err;
}
