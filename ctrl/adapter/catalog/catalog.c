/*
 * The catalog in memory, and its changes: durable first, then visible.
 *
 * Runs on the adapter's loop, which alone reads and writes it; every call is synchronous, disk
 * included. That is right for what is here: objects are defined by people, some per minute, while
 * looking up happens for every statement and touches memory only.
 *
 * Each change has the same four steps:
 *     1. check against memory (names taken, ids known): the answer is final, for nobody else writes
 *     2. catalog_store_begin: a SQLite transaction, refused when another process took over (epoch)
 *     3. the rows; catalog_store_end commits or rolls back
 *     4. memory, which cannot fail
 * A failure in 2 or 3 leaves memory as it was, so memory never shows what is not durable. What is
 * durable but not in memory (power lost between 3 and 4) is found at the next opening; its client
 * was not answered.
 *
 * Entry points: catalog_open, catalog_close; catalog_<kind>, _id, _at to look up; catalog_create_*,
 * catalog_drop_*, catalog_comment to change.
 */
#include "ctrl/adapter/catalog/catalog_internal.h"

#include "core/base/assert.h"

#include <stdio.h>

/* ---- opening --------------------------------------------------------------------------------- */

/* The type system's own parser, so that an id is accepted in each form that SQL accepts. */
static bool parse_uuid(const char *text, uint8_t out[16])
{
    struct type type = type_of(TYPE_UUID);
    struct arena arena = {0};
    struct datum d;
    err_t err = datum_parse(&type, text, strlen(text), &arena, &d);
    bool ok = err == ERR_OK;
    if (ok) {
        memcpy(out, d.uuid, 16);
    }
    err_free(err);
    arena_free(&arena);
    return ok;
}

/* The one form that is stored and shown: lower case, with dashes. */
static void format_uuid(const uint8_t uuid[16], char out[37])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    ASSERT(uuid != NULL);
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            out[at++] = '-';
        }
        out[at++] = digits[uuid[i] >> 4];
        out[at++] = digits[uuid[i] & 15];
    }
    ASSERT(at == 36);
    out[at] = '\0';
}

/* Sets the environment's id: the one on disk, the one wanted, or a fresh one. */
static err_t settle_environment(struct catalog *c, const char *wanted)
{
    char *stored = NULL;
    ASSERT(c->store.db != NULL);
    if (wanted != NULL && !parse_uuid(wanted, c->environment)) {
        return err_new(ERR_INVALID, "environment id \"%s\" is not a UUID", wanted);
    }
    /* The id is made once and never changes: certificates, data directories and clients name it. */
    TRY(catalog_store_text(&c->store, "environment", &stored));
    if (stored != NULL) {
        uint8_t found[16]; /* what the directory says */
        err_t err = ERR_OK;
        if (!parse_uuid(stored, found)) {
            err = err_new(ERR_CORRUPT, "catalog: the environment id is damaged");
        } else if (wanted != NULL && memcmp(found, c->environment, 16) != 0) {
            err = err_hint(err_new(ERR_INVALID, "the data directory belongs to environment %s",
                                   stored),
                           "Give that id, none, or another data directory.");
        }
        memcpy(c->environment, found, 16);
        free(stored);
        TRY(err);
    } else if (wanted == NULL) {
        io_random(io_loop_env(c->loop), c->environment, 16);
        c->environment[6] = (uint8_t)(0x40 | (c->environment[6] & 0x0f)); /* version 4 */
        c->environment[8] = (uint8_t)(0x80 | (c->environment[8] & 0x3f));
    }
    format_uuid(c->environment, c->environment_text);
    return catalog_store_run(&c->store, "INSERT OR REPLACE INTO meta VALUES ('environment', ?)",
                             "t", c->environment_text);
}

/* Takes over the directory: one transaction raises the epoch. */
static err_t take_epoch(struct catalog *c, const char *environment)
{
    uint64_t epoch = 0;
    ASSERT(c->store.epoch == 0);
    TRY(catalog_store_begin(&c->store));
    err_t err = catalog_store_meta(&c->store, "epoch", &epoch);
    if (err == ERR_OK) {
        err = settle_environment(c, environment);
    }
    if (err == ERR_OK) {
        err = catalog_store_set_meta(&c->store, "epoch", epoch + 1);
    }
    TRY(catalog_store_end(&c->store, err));
    c->store.epoch = epoch + 1;
    return ERR_OK;
}

/* Makes path with its parents, durably: a directory is only found after power loss if its parent
 * was synced since. Deepest last, so that what is there is reachable. */
static err_t make_directory(struct io_loop *loop, const char *path)
{
    ASSERT(path[0] != '\0');
    struct io_stat st;
    err_t err = io_stat_sync(loop, path, &st);
    if (err == ERR_OK || err_code(err) != ERR_NOT_FOUND) {
        return err;
    }
    err_free(err);
    /* The parent first, then the directory, then the parent's sync: each step relies on the one
     * before. */
    const char *slash = strrchr(path, '/');
    char *parent = slash == NULL   ? mem_strdup(".")
                   : slash == path ? mem_strdup("/")
                                   : mem_strndup(path, (size_t)(slash - path));
    err = slash == NULL || slash == path ? ERR_OK : make_directory(loop, parent);
    if (err == ERR_OK) {
        err = io_mkdir_sync(loop, path, 0700);
    }
    if (err == ERR_OK) {
        err = io_dir_sync_sync(loop, parent);
    }
    free(parent);
    return err;
}

/* In this order: tables must exist before the epoch can be raised, and it must be raised before
 * anything is read, else a predecessor that still lives could change it behind our back. */
static err_t open_in(struct catalog *c, const struct catalog_config *config)
{
    TRY(make_directory(config->loop, config->directory));
    char *path = NULL;
    int n = asprintf(&path, "%s/catalog.sqlite", config->directory);
    ASSERT(n > 0);
    err_t err = catalog_store_open(&c->store, config->loop, path);
    free(path);
    TRY(err);
    TRY(catalog_load_schema(c));
    TRY(take_epoch(c, config->environment));
    return catalog_load(c);
}

/* The version begins at 1: 0 is "never derived" to those who keep what they derive. */
err_t catalog_open(const struct catalog_config *config, struct catalog **out)
{
    ASSERT(config->loop != NULL && config->directory != NULL);
    struct catalog *c = MEM_NEW(struct catalog);
    *out = NULL;
    c->loop = config->loop;
    c->version = 1;
    err_t err = open_in(c, config);
    if (err != ERR_OK) {
        catalog_close(c);
        return err_wrap(err, "opening the catalog in %s", config->directory);
    }
    *out = c;
    return ERR_OK;
}

/* What the item points to is in its arena, but for the list of indexes, which grows and shrinks. */
static void item_free(struct catalog_item *item)
{
    ASSERT(item != NULL);
    arena_free(&item->arena);
    free(item->indexes);
    free(item);
}

/* Also closes what catalog_open gave up half-way: everything is optional here. */
void catalog_close(struct catalog *catalog)
{
    if (catalog == NULL) {
        return;
    }
    catalog_store_close(&catalog->store);
    for (size_t i = 0; i < catalog->items_len; i++) {
        item_free(catalog->items[i]);
    }
    for (size_t i = 0; i < catalog->databases_len; i++) {
        free(catalog->databases[i]->name);
        free(catalog->databases[i]);
    }
    for (size_t i = 0; i < catalog->schemas_len; i++) {
        free(catalog->schemas[i]->name);
        free(catalog->schemas[i]);
    }
    for (size_t i = 0; i < catalog->roles_len; i++) {
        free(catalog->roles[i]->name);
        free(catalog->roles[i]);
    }
    for (size_t i = 0; i < catalog->clusters_len; i++) {
        free(catalog->clusters[i]->name);
        free(catalog->clusters[i]->size);
        free(catalog->clusters[i]);
    }
    free(catalog->items);
    free(catalog->databases);
    free(catalog->schemas);
    free(catalog->roles);
    free(catalog->clusters);
    u64map_free(&catalog->items_by_id);
    strmap_free(&catalog->items_by_name);
    free(catalog->directory);
    free(catalog);
}

/* Known once opened: catalog_open fails when it cannot be raised. */
uint64_t catalog_epoch(const struct catalog *catalog)
{
    ASSERT(catalog->store.epoch > 0);
    return catalog->store.epoch;
}

/* As bytes for handshakes, as text for people. */
const uint8_t *catalog_environment(const struct catalog *catalog)
{
    return catalog->environment;
}

const char *catalog_environment_text(const struct catalog *catalog)
{
    return catalog->environment_text;
}

uint64_t catalog_next_id(const struct catalog *catalog)
{
    ASSERT(catalog->next_id > 0);
    return catalog->next_id;
}

uint64_t catalog_version(const struct catalog *catalog)
{
    ASSERT(catalog->version > 0);
    return catalog->version;
}

/* ---- looking up ------------------------------------------------------------------------------ */

/* The lists of named things are short: looking up walks them. */
#define CATALOG_BY_NAME(kind, field)                                                               \
    const struct catalog_##kind *catalog_##kind(const struct catalog *c, const char *name)         \
    {                                                                                              \
        ASSERT(name != NULL);                                                                      \
        for (size_t i = 0; i < c->field##_len; i++) {                                              \
            if (strcmp(c->field[i]->name, name) == 0) {                                            \
                return c->field[i];                                                                \
            }                                                                                      \
        }                                                                                          \
        return NULL;                                                                               \
    }
#define CATALOG_BY_ID(kind, field)                                                                 \
    const struct catalog_##kind *catalog_##kind##_id(const struct catalog *c, uint64_t id)         \
    {                                                                                              \
        for (size_t i = 0; i < c->field##_len; i++) {                                              \
            if (c->field[i]->id == id) {                                                           \
                return c->field[i];                                                                \
            }                                                                                      \
        }                                                                                          \
        return NULL;                                                                               \
    }
#define CATALOG_AT(kind, field)                                                                    \
    const struct catalog_##kind *catalog_##kind##_at(const struct catalog *c, size_t n)            \
    {                                                                                              \
        return n < c->field##_len ? c->field[n] : NULL;                                            \
    }
CATALOG_BY_NAME(database, databases)
CATALOG_BY_NAME(role, roles)
CATALOG_BY_NAME(cluster, clusters)
CATALOG_BY_ID(database, databases)
CATALOG_BY_ID(schema, schemas)
CATALOG_BY_ID(cluster, clusters)
CATALOG_AT(database, databases)
CATALOG_AT(schema, schemas)
CATALOG_AT(role, roles)
CATALOG_AT(cluster, clusters)
CATALOG_AT(item, items)
#undef CATALOG_BY_NAME
#undef CATALOG_BY_ID
#undef CATALOG_AT

/* A system schema shows in every database, as pg_catalog does in PostgreSQL: it has no database of
 * its own, and its name wins since the names reserved for it cannot be created. */
const struct catalog_schema *catalog_schema(const struct catalog *c, const char *database,
                                            const char *name)
{
    const struct catalog_database *d = database != NULL ? catalog_database(c, database) : NULL;
    ASSERT(name != NULL);
    for (size_t i = 0; i < c->schemas_len; i++) {
        const struct catalog_schema *s = c->schemas[i];
        bool visible = s->database == 0 || (d != NULL && s->database == d->id);
        if (visible && strcmp(s->name, name) == 0) {
            return s;
        }
    }
    return NULL;
}

/* "6.orders": the number has no dot, so no name can make two keys alike. */
static char *item_key(uint64_t schema, const char *name)
{
    char *key = NULL;
    int n = asprintf(&key, "%llu.%s", (unsigned long long)schema, name);
    ASSERT(n > 0);
    return key;
}

/* The caller frees nothing: the item is the catalog's. */
const struct catalog_item *catalog_item(const struct catalog *c, uint64_t schema, const char *name)
{
    char *key = item_key(schema, name);
    const struct catalog_item *item = strmap_get(&c->items_by_name, key);
    ASSERT(name != NULL);
    free(key);
    return item;
}

/* Also finds nothing for 0, which is how "no cluster" and "no relation" are looked up. */
const struct catalog_item *catalog_item_id(const struct catalog *c, uint64_t id)
{
    return u64map_get(&c->items_by_id, id);
}

/* Constant time: this is asked for each relation of each statement that is planned. */
const struct catalog_item *catalog_index_on(const struct catalog *c, uint64_t relation, size_t n)
{
    const struct catalog_item *item = u64map_get(&c->items_by_id, relation);
    return item != NULL && n < item->indexes_len ? item->indexes[n] : NULL;
}

/* Constant time: the coordinator asks at each tick whether there are tables. */
size_t catalog_count(const struct catalog *c, enum catalog_kind kind)
{
    ASSERT(kind >= CATALOG_TABLE && kind <= CATALOG_INDEX);
    return c->counts[kind];
}

/* As messages and SHOW spell it. */
const char *catalog_kind_name(enum catalog_kind kind)
{
    switch (kind) {
    case CATALOG_TABLE: return "table";
    case CATALOG_SOURCE: return "source";
    case CATALOG_VIEW: return "view";
    case CATALOG_MATERIALIZED_VIEW: return "materialized view";
    case CATALOG_INDEX: return "index";
    }
    UNREACHABLE();
}

/* Items have greater ids than what they depend on, so one pass in order finds all. */
void catalog_dependants(const struct catalog *c, struct catalog_ids *ids)
{
    struct u64map in = {0};
    ASSERT(ids != NULL);
    for (size_t i = 0; i < ids->ids_len; i++) {
        u64map_put(&in, ids->ids[i], ids);
    }
    /* u64map_get(&in, 0) finds nothing, so "on" needs no test of its own. */
    for (size_t i = 0; i < c->items_len; i++) {
        const struct catalog_item *item = c->items[i];
        bool depends = u64map_get(&in, item->on) != NULL;
        for (size_t d = 0; d < item->depends_len; d++) {
            depends |= u64map_get(&in, item->depends[d]) != NULL;
        }
        if (depends && u64map_get(&in, item->id) == NULL) {
            u64map_put(&in, item->id, ids);
            *VEC_PUSH(ids, ids) = item->id;
        }
    }
    u64map_free(&in);
}

/* ---- changing -------------------------------------------------------------------------------- */

/* Keeps the indexes of a relation with it, so that planning does not search for them. */
static void index_link(struct catalog *c, struct catalog_item *index)
{
    struct catalog_item *on = u64map_get(&c->items_by_id, index->on);
    ASSERT(index->kind == CATALOG_INDEX);
    ASSERT(on != NULL && on->id < index->id);
    /* In order of id, as items are: EXPLAIN and SHOW list them the same way every time. */
    ASSERT(on->indexes_len == 0 || on->indexes[on->indexes_len - 1]->id < index->id);
    *VEC_PUSH(on, indexes) = index;
}

/* Its relation may have gone first: catalog_drop_items unlinks in the order of ids. */
static void index_unlink(struct catalog *c, const struct catalog_item *index)
{
    struct catalog_item *on = u64map_get(&c->items_by_id, index->on);
    if (on == NULL) {
        return; /* dropped with it, a moment ago */
    }
    size_t at = 0;
    while (on->indexes[at] != index) {
        at++;
        ASSERT(at < on->indexes_len);
    }
    memmove(&on->indexes[at], &on->indexes[at + 1],
            (on->indexes_len - at - 1) * sizeof(on->indexes[0]));
    on->indexes_len--;
}

/* Items come in order of id, at opening as in life: that is what keeps c->items sorted. */
void catalog_item_link(struct catalog *c, struct catalog_item *item)
{
    ASSERT(c->items_len == 0 || c->items[c->items_len - 1]->id < item->id);
    ASSERT(item->name != NULL && item->indexes_len == 0);
    *VEC_PUSH(c, items) = item;
    u64map_put(&c->items_by_id, item->id, item);
    char *key = item_key(item->schema, item->name);
    void *old = strmap_put(&c->items_by_name, key, item);
    ASSERT(old == NULL);
    free(key);
    if (item->kind == CATALOG_INDEX) {
        index_link(c, item);
    }
    c->counts[item->kind]++;
    c->version++;
}

/* Where the item of this id is in c->items, which is sorted. */
static size_t item_position(const struct catalog *c, uint64_t id)
{
    size_t low = 0;
    size_t high = c->items_len;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (c->items[middle]->id <= id) {
            low = middle;
        } else {
            high = middle;
        }
    }
    ASSERT(low < c->items_len && c->items[low]->id == id);
    return low;
}

/* Out of every index, then freed: pointers others kept are dangling from here on, which is what
 * catalog_version tells them. */
static void item_unlink(struct catalog *c, uint64_t id)
{
    size_t at = item_position(c, id);
    struct catalog_item *item = u64map_remove(&c->items_by_id, id);
    ASSERT(item != NULL && c->items[at] == item);
    char *key = item_key(item->schema, item->name);
    void *named = strmap_remove(&c->items_by_name, key);
    ASSERT(named == item);
    free(key);
    if (item->kind == CATALOG_INDEX) {
        index_unlink(c, item);
    }
    memmove(&c->items[at], &c->items[at + 1], (c->items_len - at - 1) * sizeof(c->items[0]));
    c->items_len--;
    ASSERT(c->counts[item->kind] > 0);
    c->counts[item->kind]--;
    c->version++;
    item_free(item);
}

/* Takes the next n ids and oids within the running transaction; memory follows after the commit. */
static err_t take_ids(struct catalog *c, uint32_t n)
{
    ASSERT(c->next_id > 0 && c->next_oid >= CATALOG_OID_FIRST);
    TRY(catalog_store_set_meta(&c->store, "next_id", c->next_id + n));
    return catalog_store_set_meta(&c->store, "next_oid", c->next_oid + n);
}

/* After the commit, never before: a transaction that failed leaves its ids to the next one. */
static void ids_taken(struct catalog *c, uint32_t n)
{
    c->next_id += n;
    c->next_oid += n;
    c->version++;
}

/* Inside the caller's transaction; the caller also accounts for the id. */
static err_t insert_schema(struct catalog *c, uint64_t id, uint32_t oid, uint64_t database,
                           const char *name)
{
    ASSERT(id >= c->next_id && database != 0);
    return catalog_store_run(&c->store, "INSERT INTO schemas VALUES (?, ?, ?, ?)", "uuut", id,
                             (uint64_t)oid, database, name);
}

/* The same in memory, after the commit. */
static void add_schema(struct catalog *c, uint64_t id, uint32_t oid, uint64_t database,
                       const char *name)
{
    struct catalog_schema *s = MEM_NEW(struct catalog_schema);
    ASSERT(catalog_schema_id(c, id) == NULL && catalog_database_id(c, database) != NULL);
    *s = (struct catalog_schema){id, oid, database, mem_strdup(name)};
    *VEC_PUSH(c, schemas) = s;
}

/* A database and its schema public are one change: neither is ever found without the other. */
err_t catalog_create_database(struct catalog *c, const char *name)
{
    uint64_t id = c->next_id;
    uint32_t oid = c->next_oid;
    ASSERT(name != NULL);
    if (catalog_database(c, name) != NULL) {
        return err_sql(ERR_EXISTS, "42P04", "database \"%s\" already exists", name);
    }
    TRY(catalog_store_begin(&c->store));
    err_t err = catalog_store_run(&c->store, "INSERT INTO databases VALUES (?, ?, ?)", "uut", id,
                                  (uint64_t)oid, name);
    if (err == ERR_OK) {
        err = insert_schema(c, id + 1, oid + 1, id, "public");
    }
    if (err == ERR_OK) {
        err = take_ids(c, 2);
    }
    TRY(catalog_store_end(&c->store, err));
    struct catalog_database *d = MEM_NEW(struct catalog_database);
    *d = (struct catalog_database){id, oid, mem_strdup(name)};
    *VEC_PUSH(c, databases) = d;
    add_schema(c, id + 1, oid + 1, id, "public");
    ids_taken(c, 2);
    return ERR_OK;
}

/* Reserved prefixes are refused here and not in the planner, since every way to a schema comes
 * by. */
err_t catalog_create_schema(struct catalog *c, uint64_t database, const char *name)
{
    const struct catalog_database *d = catalog_database_id(c, database);
    ASSERT(d != NULL);
    if (catalog_schema(c, d->name, name) != NULL) {
        return err_sql(ERR_EXISTS, "42P06", "schema \"%s\" already exists", name);
    }
    if (strncmp(name, "pg_", 3) == 0 || strncmp(name, "mz_", 3) == 0) {
        return err_detail(err_sql(ERR_INVALID, "42939", "unacceptable schema name \"%s\"", name),
                          "The prefixes \"pg_\" and \"mz_\" are reserved for system schemas.");
    }
    TRY(catalog_store_begin(&c->store));
    err_t err = insert_schema(c, c->next_id, c->next_oid, database, name);
    if (err == ERR_OK) {
        err = take_ids(c, 1);
    }
    TRY(catalog_store_end(&c->store, err));
    add_schema(c, c->next_id, c->next_oid, database, name);
    ids_taken(c, 1);
    return ERR_OK;
}

/* The size's meaning (processes, threads) is stored with it: what runs must not change because the
 * list of sizes did between two starts. */
err_t catalog_create_cluster(struct catalog *c, const struct catalog_cluster *spec,
                             const struct catalog_cluster **out)
{
    ASSERT(spec->scale > 0 && spec->workers > 0);
    if (catalog_cluster(c, spec->name) != NULL) {
        return err_sql(ERR_EXISTS, "42710", "cluster \"%s\" already exists", spec->name);
    }
    TRY(catalog_store_begin(&c->store));
    err_t err = catalog_store_run(
        &c->store, "INSERT INTO clusters VALUES (?, ?, ?, ?, ?, ?, ?)", "uuttuuu", c->next_id,
        (uint64_t)c->next_oid, spec->name, spec->size, (uint64_t)spec->scale,
        (uint64_t)spec->workers, (uint64_t)spec->replicas);
    if (err == ERR_OK) {
        err = take_ids(c, 1);
    }
    TRY(catalog_store_end(&c->store, err));
    struct catalog_cluster *k = MEM_NEW(struct catalog_cluster);
    *k = *spec;
    k->id = c->next_id;
    k->oid = c->next_oid;
    k->name = mem_strdup(spec->name);
    k->size = mem_strdup(spec->size);
    *VEC_PUSH(c, clusters) = k;
    ids_taken(c, 1);
    *out = k;
    return ERR_OK;
}

/* A deep copy that owns itself: specs live in the arena of a statement. Lists of zero length may
 * become NULL; their length says that nobody may look. */
static struct catalog_item *copy_item(const struct catalog_item *spec, uint64_t id, uint32_t oid)
{
    struct catalog_item *item = MEM_NEW(struct catalog_item);
    struct arena *a = &item->arena;
    ASSERT(id != 0 && oid != 0);
    *item = *spec;
    memset(a, 0, sizeof(*a));
    item->indexes = NULL;
    item->indexes_len = 0;
    item->indexes_cap = 0;
    item->id = id;
    item->oid = oid;
    item->name = arena_strdup(a, spec->name);
    item->create_sql = arena_strdup(a, spec->create_sql);
    item->definition = spec->definition != NULL ? arena_strdup(a, spec->definition) : NULL;
    item->comment = spec->comment != NULL ? arena_strdup(a, spec->comment) : NULL;
    item->source.path = spec->source.path != NULL ? arena_strdup(a, spec->source.path) : NULL;
    /* Indexes have none of their own: their columns are keys into the relation's. */
    uint32_t cols = spec->columns.cols;
    item->columns.types = arena_memdup(a, spec->columns.types, cols * sizeof(struct type));
    item->columns.names = ARENA_ARRAY(a, const char *, cols);
    item->defaults = ARENA_ARRAY(a, const char *, cols);
    for (uint32_t i = 0; i < cols; i++) {
        item->columns.names[i] = arena_strdup(a, spec->columns.names[i]);
        const char *text = spec->defaults != NULL ? spec->defaults[i] : NULL;
        item->defaults[i] = text != NULL ? arena_strdup(a, text) : NULL;
    }
    item->keys = arena_memdup(a, spec->keys, spec->keys_len * sizeof(*spec->keys));
    item->depends = arena_memdup(a, spec->depends, spec->depends_len * sizeof(*spec->depends));
    return item;
}

/* Columns, keys and dependences are rows of their own: SQLite has no arrays, and a later release
 * can add a column to them without rewriting items. */
static err_t insert_lists(struct catalog_store *s, const struct catalog_item *item)
{
    ASSERT(item->id != 0);
    for (uint32_t i = 0; i < item->columns.cols; i++) {
        const struct type *t = &item->columns.types[i];
        TRY(catalog_store_run(s, "INSERT INTO columns VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "uutiuiit",
                              item->id, (uint64_t)i, item->columns.names[i], (int)t->kind,
                              (uint64_t)t->oid, (int)t->typmod, (int)t->nullable,
                              item->defaults[i]));
    }
    for (uint32_t i = 0; i < item->keys_len; i++) {
        TRY(catalog_store_run(s, "INSERT INTO keys VALUES (?, ?, ?)", "uuu", item->id, (uint64_t)i,
                              (uint64_t)item->keys[i]));
    }
    for (size_t i = 0; i < item->depends_len; i++) {
        TRY(catalog_store_run(s, "INSERT OR IGNORE INTO depends VALUES (?, ?)", "uu", item->id,
                              item->depends[i]));
    }
    return ERR_OK;
}

/* The order is the one of create_tables in load.c; load_item reads it back by position. */
static err_t insert_item(struct catalog_store *s, const struct catalog_item *item)
{
    const struct catalog_source *source = &item->source;
    ASSERT(item->create_sql != NULL);
    TRY(catalog_store_run(
        s, "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "uuutitttuutiiiiiu", item->id, (uint64_t)item->oid, item->schema, item->name,
        (int)item->kind, item->create_sql, item->definition, item->comment, item->cluster,
        item->on, source->path, (int)source->format, (int)source->header,
        (int)source->csv_columns, (int)source->delimiter, (int)source->tail,
        item->memory_limit));
    return insert_lists(s, item);
}

/* SQLite's foreign keys are off, so children go by hand; comments are a column of the item. */
static err_t delete_item(struct catalog_store *s, uint64_t id)
{
    ASSERT(id != 0);
    TRY(catalog_store_run(s, "DELETE FROM items WHERE id = ?", "u", id));
    TRY(catalog_store_run(s, "DELETE FROM columns WHERE item_id = ?", "u", id));
    TRY(catalog_store_run(s, "DELETE FROM keys WHERE item_id = ?", "u", id));
    return catalog_store_run(s, "DELETE FROM depends WHERE item_id = ?", "u", id);
}

/* Replacing is one transaction: CREATE OR REPLACE that fails leaves the old object as it was. The
 * new one has a new id, for it is another collection with another history. */
err_t catalog_create_item(struct catalog *c, const struct catalog_item *spec, uint64_t replaces,
                          const struct catalog_item **out)
{
    const struct catalog_item *there = catalog_item(c, spec->schema, spec->name);
    ASSERT(catalog_schema_id(c, spec->schema) != NULL && spec->create_sql != NULL);
    /* PostgreSQL says "relation" for whatever kind is there. */
    if (there != NULL && there->id != replaces) {
        return err_sql(ERR_EXISTS, "42P07", "relation \"%s\" already exists", spec->name);
    }
    struct catalog_item *item = copy_item(spec, c->next_id, c->next_oid);
    err_t err = catalog_store_begin(&c->store);
    if (err == ERR_OK) {
        /* First, since the name is unique in the table. */
        err = replaces != 0 ? delete_item(&c->store, replaces) : ERR_OK;
        if (err == ERR_OK) {
            err = insert_item(&c->store, item);
        }
        if (err == ERR_OK) {
            err = take_ids(c, 1);
        }
        err = catalog_store_end(&c->store, err);
    }
    if (err != ERR_OK) {
        item_free(item);
        return err;
    }
    if (replaces != 0) {
        item_unlink(c, replaces);
    }
    ids_taken(c, 1);
    catalog_item_link(c, item);
    *out = item;
    return ERR_OK;
}

/* All or none. The ids may come in any order; what depends on them was dealt with by the caller
 * (see catalog_dependants), and what is left would name ids that no longer exist. */
err_t catalog_drop_items(struct catalog *c, const uint64_t *ids, size_t ids_len)
{
    ASSERT(ids != NULL && ids_len > 0);
    TRY(catalog_store_begin(&c->store));
    err_t err = ERR_OK;
    for (size_t i = 0; i < ids_len && err == ERR_OK; i++) {
        ASSERT(catalog_item_id(c, ids[i]) != NULL);
        err = delete_item(&c->store, ids[i]);
    }
    TRY(catalog_store_end(&c->store, err));
    for (size_t i = 0; i < ids_len; i++) {
        item_unlink(c, ids[i]);
    }
    return ERR_OK;
}

/* Runs one or two deletions by id as one change. */
static err_t delete_rows(struct catalog *c, const char *first, const char *second, uint64_t id)
{
    ASSERT(id != 0);
    TRY(catalog_store_begin(&c->store));
    err_t err = catalog_store_run(&c->store, first, "u", id);
    if (err == ERR_OK && second != NULL) {
        err = catalog_store_run(&c->store, second, "u", id);
    }
    TRY(catalog_store_end(&c->store, err));
    c->version++;
    return ERR_OK;
}

/* Out of memory goes every schema that has this id or belongs to this database. */
static void forget_schemas(struct catalog *c, uint64_t id, uint64_t database)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->schemas_len; i++) {
        struct catalog_schema *s = c->schemas[i];
        if (s->id == id || (database != 0 && s->database == database)) {
            ASSERT(s->database != 0); /* the system's stay */
            free(s->name);
            free(s);
        } else {
            c->schemas[kept++] = s;
        }
    }
    ASSERT(kept < c->schemas_len);
    c->schemas_len = kept;
}

/* It is empty: the caller dropped the items in it. */
err_t catalog_drop_schema(struct catalog *c, uint64_t id)
{
    TRY(delete_rows(c, "DELETE FROM schemas WHERE id = ?", NULL, id));
    forget_schemas(c, id, 0);
    return ERR_OK;
}

/* With its schemas, in one change; their items are gone already. */
err_t catalog_drop_database(struct catalog *c, uint64_t id)
{
    TRY(delete_rows(c, "DELETE FROM schemas WHERE database_id = ?",
                    "DELETE FROM databases WHERE id = ?", id));
    for (size_t i = 0; i < c->databases_len; i++) {
        if (c->databases[i]->id == id) {
            free(c->databases[i]->name);
            free(c->databases[i]);
            memmove(&c->databases[i], &c->databases[i + 1],
                    (--c->databases_len - i) * sizeof(c->databases[0]));
            break;
        }
    }
    bool any = false;
    for (size_t i = 0; i < c->schemas_len && !any; i++) {
        any = c->schemas[i]->database == id;
    }
    if (any) {
        forget_schemas(c, 0, id); /* a user may have dropped even public */
    }
    ASSERT(catalog_database_id(c, id) == NULL);
    return ERR_OK;
}

/* Nothing runs on it any more: the caller dropped its items. */
err_t catalog_drop_cluster(struct catalog *c, uint64_t id)
{
    TRY(delete_rows(c, "DELETE FROM clusters WHERE id = ?", NULL, id));
    for (size_t i = 0; i < c->clusters_len; i++) {
        if (c->clusters[i]->id == id) {
            free(c->clusters[i]->name);
            free(c->clusters[i]->size);
            free(c->clusters[i]);
            memmove(&c->clusters[i], &c->clusters[i + 1],
                    (--c->clusters_len - i) * sizeof(c->clusters[0]));
            return ERR_OK;
        }
    }
    UNREACHABLE();
}

/* The old text stays in the item's arena until the item goes: comments are short and rare. */
err_t catalog_comment(struct catalog *c, uint64_t id, const char *comment)
{
    struct catalog_item *item = u64map_get(&c->items_by_id, id);
    ASSERT(item != NULL);
    TRY(catalog_store_begin(&c->store));
    err_t err = catalog_store_run(&c->store, "UPDATE items SET comment = ? WHERE id = ?", "tu",
                                  comment, id);
    TRY(catalog_store_end(&c->store, err));
    item->comment = comment != NULL ? arena_strdup(&item->arena, comment) : NULL;
    c->version++;
    return ERR_OK;
}
