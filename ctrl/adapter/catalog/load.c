/*
 * The catalog's tables in SQLite, made when empty, and read into memory at opening.
 *
 * Opening reads everything, once: catalog_load_schema sees to the tables, catalog_load fills struct
 * catalog in an order in which each row finds what it names already there (databases before
 * schemas, items before their columns, columns before the keys of indexes, which come later by id).
 *
 * A row is another process's bytes: an older release, a restored copy, a disk that flipped a bit.
 * What the rest of the program takes for granted about the catalog is therefore checked here, and
 * only here; a row that does not fit is ERR_CORRUPT and the catalog stays closed. Half a catalog
 * would be worse than none: its missing views would be dropped from the runtimes as unknown.
 */
#include "ctrl/adapter/catalog/catalog_internal.h"

#include "core/base/assert.h"

#include <stdio.h>

enum { CATALOG_SCHEMA_VERSION = 2 };

/*
 * One statement up to each semicolon (create_new splits there). Ids are given out by meta.next_id
 * over all kinds, so an id names one thing in the environment's whole life. 0 stands for "none" in
 * cluster_id, on_id and database_id. Numbers of enumerations are those of the headers: they are
 * part of the format, and meta.schema_version changes when one of them does.
 */
static const char create_tables[] =
    "CREATE TABLE databases (id INTEGER PRIMARY KEY, oid INTEGER NOT NULL, name TEXT NOT NULL);"
    /* database_id 0: a system schema. */
    "CREATE TABLE schemas (id INTEGER PRIMARY KEY, oid INTEGER NOT NULL,"
    " database_id INTEGER NOT NULL, name TEXT NOT NULL);"
    "CREATE TABLE roles (id INTEGER PRIMARY KEY, oid INTEGER NOT NULL, name TEXT NOT NULL,"
    " superuser INTEGER NOT NULL);"
    /* scale, workers: what the size meant when the cluster was made. */
    "CREATE TABLE clusters (id INTEGER PRIMARY KEY, oid INTEGER NOT NULL, name TEXT NOT NULL,"
    " size TEXT NOT NULL, scale INTEGER NOT NULL, workers INTEGER NOT NULL,"
    " replicas INTEGER NOT NULL);"
    /* kind: enum catalog_kind. path and after it: of sources. */
    "CREATE TABLE items (id INTEGER PRIMARY KEY, oid INTEGER NOT NULL, schema_id INTEGER NOT NULL,"
    " name TEXT NOT NULL, kind INTEGER NOT NULL, create_sql TEXT NOT NULL, definition TEXT,"
    " comment TEXT, cluster_id INTEGER NOT NULL, on_id INTEGER NOT NULL, path TEXT,"
    " format INTEGER NOT NULL, header INTEGER NOT NULL, csv_columns INTEGER NOT NULL,"
    " delimiter INTEGER NOT NULL, tail INTEGER NOT NULL,"
    " memory_limit INTEGER NOT NULL DEFAULT 0, UNIQUE (schema_id, name));"
    /* kind: enum type_kind, which the oid alone does not give (varchar is text here). */
    "CREATE TABLE columns (item_id INTEGER NOT NULL, position INTEGER NOT NULL,"
    " name TEXT NOT NULL, kind INTEGER NOT NULL, oid INTEGER NOT NULL, typmod INTEGER NOT NULL,"
    " nullable INTEGER NOT NULL, default_sql TEXT, PRIMARY KEY (item_id, position))"
    " WITHOUT ROWID;"
    /* col: a position in the columns of the relation the index is on. */
    "CREATE TABLE keys (item_id INTEGER NOT NULL, position INTEGER NOT NULL,"
    " col INTEGER NOT NULL, PRIMARY KEY (item_id, position)) WITHOUT ROWID;"
    /* Dependences that PostgreSQL would keep in pg_depend. */
    "CREATE TABLE depends (item_id INTEGER NOT NULL, on_id INTEGER NOT NULL,"
    " PRIMARY KEY (item_id, on_id)) WITHOUT ROWID;";

/* A system schema: fixed ids, since nothing can be created before it. */
struct first_row {
    const char *name;
    uint64_t id;
    uint64_t oid;
};

/* What every environment begins with. */
static err_t fill_new(struct catalog_store *s)
{
    ASSERT(s->epoch == 0);
    static const struct first_row schemas[] = {
        {"pg_catalog", 2, CATALOG_OID_PG_CATALOG},
        {"information_schema", 3, CATALOG_OID_INFORMATION_SCHEMA},
        {"mz_catalog", 4, CATALOG_OID_MZ_CATALOG},
        {"mz_internal", 5, CATALOG_OID_MZ_INTERNAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(schemas); i++) {
        TRY(catalog_store_run(s, "INSERT INTO schemas VALUES (?, ?, 0, ?)", "uut", schemas[i].id,
                              schemas[i].oid, schemas[i].name));
    }
    uint64_t oid = CATALOG_OID_FIRST; /* of the database; the cluster's is the next */
    TRY(catalog_store_run(s, "INSERT INTO databases VALUES (1, ?, 'tailrace')", "u", oid));
    TRY(catalog_store_run(s, "INSERT INTO schemas VALUES (6, ?, 1, 'public')", "u",
                          (uint64_t)CATALOG_OID_PUBLIC));
    TRY(catalog_store_run(s, "INSERT INTO roles VALUES (7, ?, 'tailrace', 1)", "u",
                          (uint64_t)CATALOG_OID_SUPERUSER));
    TRY(catalog_store_run(s, "INSERT INTO clusters VALUES (8, ?, 'default', '1', 1, 1, 1)", "u",
                          oid + 1));
    TRY(catalog_store_set_meta(s, "next_id", 9));
    return catalog_store_set_meta(s, "next_oid", oid + 2);
}

/* Inside catalog_load_schema's transaction: a first start that dies half-way leaves an empty
 * file. */
static err_t create_new(struct catalog_store *s)
{
    const char *at = create_tables;
    ASSERT(s->db != NULL);
    while (*at != '\0') {
        const char *end = strchr(at, ';');
        ASSERT(end != NULL);
        char *sql = mem_strndup(at, (size_t)(end - at));
        err_t err = catalog_store_run(s, sql, "");
        free(sql);
        TRY(err);
        at = end + 1;
    }
    TRY(fill_new(s));
    return catalog_store_set_meta(s, "schema_version", CATALOG_SCHEMA_VERSION);
}

/* Version 2 gave items a memory_limit. */
static err_t migrate_from_1(struct catalog_store *s)
{
    TRY(catalog_store_run(
        s, "ALTER TABLE items ADD COLUMN memory_limit INTEGER NOT NULL DEFAULT 0", ""));
    return catalog_store_set_meta(s, "schema_version", 2);
}

/* A binary opens the version it writes, and earlier ones, which it migrates: inside this
 * transaction, before anything is read. */
err_t catalog_load_schema(struct catalog *c)
{
    struct catalog_store *s = &c->store;
    uint64_t version = 0;
    TRY(catalog_store_begin(s));
    err_t err = catalog_store_run(
        s, "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID", "");
    if (err == ERR_OK) {
        err = catalog_store_meta(s, "schema_version", &version);
    }
    /* a new directory, or one whose first start did not commit */
    if (err == ERR_OK && version == 0) {
        err = create_new(s);
    } else if (err == ERR_OK && version == 1) {
        err = migrate_from_1(s);
    } else if (err == ERR_OK && version != CATALOG_SCHEMA_VERSION) {
        err = err_hint(err_new(ERR_INVALID, "the catalog has schema version %llu, this binary "
                               "knows version %d", (unsigned long long)version,
                               CATALOG_SCHEMA_VERSION),
                       "Start the version of environmentd that wrote it.");
    }
    return catalog_store_end(s, err);
}

/* SQLite's integers are signed; ours are stored with the same bits. */
static uint64_t col_u64(sqlite3_stmt *stmt, int i)
{
    return (uint64_t)sqlite3_column_int64(stmt, i);
}

/* NULL for NULL; valid until the next step of the statement. */
static const char *col_text(sqlite3_stmt *stmt, int i)
{
    return (const char *)sqlite3_column_text(stmt, i);
}

/* NULL becomes "": these columns are NOT NULL, and a name that is empty finds nothing. */
static char *col_dup(sqlite3_stmt *stmt, int i)
{
    const char *text = col_text(stmt, i);
    return mem_strdup(text != NULL ? text : "");
}

/* For columns that are 32 bits wide in memory; a value beyond is cut, and then fails a check or
 * stands for a number nobody relies on (oids). */
static uint32_t col_u32(sqlite3_stmt *stmt, int i)
{
    return (uint32_t)sqlite3_column_int64(stmt, i);
}

/* The lists own their elements from the moment they are pushed, so an error later on leaks nothing:
 * catalog_close frees what there is. */
static err_t load_database(void *arg, sqlite3_stmt *stmt)
{
    struct catalog *c = arg;
    struct catalog_database *d = MEM_NEW(struct catalog_database);
    *d = (struct catalog_database){
        .id = col_u64(stmt, 0), .oid = col_u32(stmt, 1), .name = col_dup(stmt, 2)};
    *VEC_PUSH(c, databases) = d;
    return ERR_OK;
}

/* Databases were read before. */
static err_t load_schema(void *arg, sqlite3_stmt *stmt)
{
    struct catalog *c = arg;
    struct catalog_schema *s = MEM_NEW(struct catalog_schema);
    *s = (struct catalog_schema){.id = col_u64(stmt, 0),
                                 .oid = col_u32(stmt, 1),
                                 .database = col_u64(stmt, 2),
                                 .name = col_dup(stmt, 3)};
    *VEC_PUSH(c, schemas) = s;
    if (s->database != 0 && catalog_database_id(c, s->database) == NULL) {
        return err_new(ERR_CORRUPT, "catalog: schema %s is in no database", s->name);
    }
    return ERR_OK;
}

static err_t load_role(void *arg, sqlite3_stmt *stmt)
{
    struct catalog *c = arg;
    struct catalog_role *r = MEM_NEW(struct catalog_role);
    *r = (struct catalog_role){.id = col_u64(stmt, 0),
                               .oid = col_u32(stmt, 1),
                               .name = col_dup(stmt, 2),
                               .superuser = col_u64(stmt, 3) != 0};
    *VEC_PUSH(c, roles) = r;
    return ERR_OK;
}

static err_t load_cluster(void *arg, sqlite3_stmt *stmt)
{
    struct catalog *c = arg;
    struct catalog_cluster *k = MEM_NEW(struct catalog_cluster);
    *k = (struct catalog_cluster){.id = col_u64(stmt, 0),
                                  .oid = col_u32(stmt, 1),
                                  .name = col_dup(stmt, 2),
                                  .size = col_dup(stmt, 3),
                                  .scale = col_u32(stmt, 4),
                                  .workers = col_u32(stmt, 5),
                                  .replicas = col_u32(stmt, 6)};
    *VEC_PUSH(c, clusters) = k;
    if (k->scale == 0 || k->workers == 0) {
        return err_new(ERR_CORRUPT, "catalog: the size of cluster %s is damaged", k->name);
    }
    return ERR_OK;
}

/* Into the item's arena; NULL stays NULL. */
static const char *arena_text(struct arena *arena, sqlite3_stmt *stmt, int i)
{
    const char *text = col_text(stmt, i);
    return text != NULL ? arena_strdup(arena, text) : NULL;
}

/* What the rest of the program takes for granted about an item. */
static err_t check_item(const struct catalog *c, const struct catalog_item *item)
{
    bool index = item->kind == CATALOG_INDEX;
    bool kind_ok = item->kind >= CATALOG_TABLE && item->kind <= CATALOG_INDEX;
    bool texts_ok = item->name != NULL && item->create_sql != NULL &&
                    (item->kind != CATALOG_SOURCE || item->source.path != NULL);
    bool id_ok = item->id > 0 && item->id < c->next_id;
    const struct catalog_item *on = catalog_item_id(c, item->on);
    bool on_ok = index ? on != NULL && on->kind != CATALOG_INDEX : item->on == 0;
    if (!kind_ok || !texts_ok || !id_ok || !on_ok || catalog_schema_id(c, item->schema) == NULL) {
        return err_new(ERR_CORRUPT, "catalog: item %llu is damaged", (unsigned long long)item->id);
    }
    return ERR_OK;
}

/* By position: the order of create_tables. Linked only when it holds together, for linking already
 * relies on kind, name and on. */
static err_t load_item(void *arg, sqlite3_stmt *stmt)
{
    struct catalog *c = arg;
    struct catalog_item *item = MEM_NEW(struct catalog_item);
    ASSERT(c->next_id > 0);
    item->id = col_u64(stmt, 0);
    item->oid = col_u32(stmt, 1);
    item->schema = col_u64(stmt, 2);
    item->name = arena_text(&item->arena, stmt, 3);
    item->kind = (enum catalog_kind)col_u64(stmt, 4);
    item->create_sql = arena_text(&item->arena, stmt, 5);
    item->definition = arena_text(&item->arena, stmt, 6);
    item->comment = arena_text(&item->arena, stmt, 7);
    item->cluster = col_u64(stmt, 8);
    item->on = col_u64(stmt, 9);
    item->source.path = arena_text(&item->arena, stmt, 10);
    item->source.format = (uint8_t)col_u64(stmt, 11);
    item->source.header = col_u64(stmt, 12) != 0;
    item->source.csv_columns = col_u32(stmt, 13);
    item->source.delimiter = (char)col_u64(stmt, 14);
    item->source.tail = col_u64(stmt, 15) != 0;
    item->memory_limit = col_u64(stmt, 16);
    err_t err = check_item(c, item);
    if (err != ERR_OK) {
        arena_free(&item->arena);
        free(item);
        return err;
    }
    catalog_item_link(c, item);
    return ERR_OK;
}

/* Rows of the lists come in order of (item, position); arrays grow one by one in the arena. */
static err_t item_of_row(struct catalog *c, sqlite3_stmt *stmt, struct catalog_item **out)
{
    ASSERT(c->next_id > 0);
    *out = u64map_get(&c->items_by_id, col_u64(stmt, 0));
    if (*out == NULL) {
        return err_new(ERR_CORRUPT, "catalog: a row names item %llu, which does not exist",
                       (unsigned long long)col_u64(stmt, 0));
    }
    return ERR_OK;
}

/* A copy with room for one more. What it leaves behind in the arena is bounded by the square of a
 * list's length, which is short, and is paid once at opening. */
static void *grown(struct arena *arena, const void *old, size_t len, size_t size)
{
    ASSERT(size > 0);
    uint8_t *array = arena_alloc(arena, (len + 1) * size);
    if (len > 0) {
        memcpy(array, old, len * size);
    }
    return array;
}

/* Positions must count up from 0 without a gap: they are indexes into the arrays. */
static err_t load_column(void *arg, sqlite3_stmt *stmt)
{
    struct catalog_item *item;
    TRY(item_of_row(arg, stmt, &item));
    struct schema *s = &item->columns;
    uint64_t kind = col_u64(stmt, 3);
    if (col_u64(stmt, 1) != s->cols || s->cols >= BATCH_COLS_MAX || kind == 0 ||
        kind >= TYPE_KIND_MAX || col_text(stmt, 2) == NULL) {
        return err_new(ERR_CORRUPT, "catalog: columns of item %llu are damaged",
                       (unsigned long long)item->id);
    }
    s->names = grown(&item->arena, s->names, s->cols, sizeof(*s->names));
    s->types = grown(&item->arena, s->types, s->cols, sizeof(*s->types));
    item->defaults = grown(&item->arena, item->defaults, s->cols, sizeof(*item->defaults));
    s->names[s->cols] = arena_text(&item->arena, stmt, 2);
    s->types[s->cols] = (struct type){.kind = (uint8_t)kind,
                                      .oid = col_u32(stmt, 4),
                                      .typmod = (int32_t)sqlite3_column_int64(stmt, 5),
                                      .nullable = col_u64(stmt, 6) != 0};
    item->defaults[s->cols] = arena_text(&item->arena, stmt, 7);
    s->cols++;
    return ERR_OK;
}

/* A key is a column of the indexed relation, whose columns were read before. */
static err_t load_key(void *arg, sqlite3_stmt *stmt)
{
    struct catalog_item *item;
    TRY(item_of_row(arg, stmt, &item));
    const struct catalog_item *on = catalog_item_id(arg, item->on);
    uint64_t key = col_u64(stmt, 2);
    if (on == NULL || key >= on->columns.cols) {
        return err_new(ERR_CORRUPT, "catalog: keys of index %llu are damaged",
                       (unsigned long long)item->id);
    }
    item->keys = grown(&item->arena, item->keys, item->keys_len, sizeof(*item->keys));
    item->keys[item->keys_len++] = (uint32_t)key;
    return ERR_OK;
}

/* An id that is gone is harmless here: who follows it looks it up and finds nothing. */
static err_t load_depend(void *arg, sqlite3_stmt *stmt)
{
    struct catalog_item *item;
    TRY(item_of_row(arg, stmt, &item));
    item->depends = grown(&item->arena, item->depends, item->depends_len, sizeof(*item->depends));
    item->depends[item->depends_len++] = col_u64(stmt, 1);
    return ERR_OK;
}

/* The counters come first: check_item compares ids with next_id. */
err_t catalog_load(struct catalog *c)
{
    struct catalog_store *s = &c->store;
    uint64_t next_oid = 0;
    ASSERT(c->items_len == 0 && c->databases_len == 0);
    TRY(catalog_store_meta(s, "next_id", &c->next_id));
    TRY(catalog_store_meta(s, "next_oid", &next_oid));
    if (c->next_id == 0 || next_oid < CATALOG_OID_FIRST) {
        return err_new(ERR_CORRUPT, "catalog: the counters are missing");
    }
    c->next_oid = (uint32_t)next_oid;
    TRY(catalog_store_each(s, "SELECT * FROM databases ORDER BY id", load_database, c));
    TRY(catalog_store_each(s, "SELECT * FROM schemas ORDER BY id", load_schema, c));
    TRY(catalog_store_each(s, "SELECT * FROM roles ORDER BY id", load_role, c));
    TRY(catalog_store_each(s, "SELECT * FROM clusters ORDER BY id", load_cluster, c));
    TRY(catalog_store_each(s, "SELECT * FROM items ORDER BY id", load_item, c));
    TRY(catalog_store_each(s, "SELECT * FROM columns ORDER BY item_id, position", load_column, c));
    TRY(catalog_store_each(s, "SELECT * FROM keys ORDER BY item_id, position", load_key, c));
    return catalog_store_each(s, "SELECT * FROM depends ORDER BY item_id, on_id", load_depend, c);
}
