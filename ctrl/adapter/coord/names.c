/*
 * The planner's view of the catalog, in the name of a session.
 *
 * The planner knows no catalog; it asks through struct sql_catalog. What it is told depends on the
 * session: its database and search path, its cluster (only indexes there can be read), and, while
 * an existing dataflow is planned again, only objects older than it. Relations are built for one
 * statement, in its arena, and point into the catalog, which cannot change while a statement is
 * planned.
 *
 * Names without a schema are looked for in pg_catalog and mz_catalog first, then along search_path,
 * as PostgreSQL does: a user's table named pg_class does not deceive psql.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"


/* The n-th schema of the search path, from the arena; NULL past the end. search_path is kept as the
 * user set it: "a, \"B c\", public". A doubled quote inside a quoted name is not understood; such
 * names cannot be in a path. */
static const char *path_at(struct session *s, struct arena *arena, size_t n)
{
    const char *at = vars_get(s, "search_path");
    ASSERT(arena != NULL);
    for (;;) {
        while (*at == ' ' || *at == ',') {
            at++;
        }
        if (*at == '\0') {
            return NULL;
        }
        bool quoted = *at == '"';
        const char *start = at + quoted;
        size_t len = strcspn(start, quoted ? "\"" : ", ");
        if (n-- == 0) {
            return arena_strndup(arena, start, len);
        }
        at = start + len + (quoted && start[len] == '"');
    }
}

/* The planner's number of a catalog kind. */
static uint8_t relation_kind(enum catalog_kind kind)
{
    switch (kind) {
    case CATALOG_TABLE: return SQL_REL_TABLE;
    case CATALOG_SOURCE: return SQL_REL_SOURCE;
    case CATALOG_VIEW: return SQL_REL_VIEW;
    case CATALOG_MATERIALIZED_VIEW: return SQL_REL_MATERIALIZED_VIEW;
    case CATALOG_INDEX: return SQL_REL_INDEX;
    }
    UNREACHABLE();
}

/* 0 and *err set when there is no such cluster; err may be NULL when 0 says enough. */
uint64_t names_cluster(struct session *s, const char *name, err_t *err)
{
    const struct catalog_cluster *k = catalog_cluster(s->coord->catalog, name);
    ASSERT(name != NULL);
    if (k == NULL && err != NULL) {
        *err = err_hint(err_sql(ERR_NOT_FOUND, "42704", "cluster \"%s\" does not exist", name),
                        "SHOW CLUSTERS lists those there are; SET cluster chooses one.");
    }
    return k == NULL ? 0 : k->id;
}

/* Copies: the list grows by one or two, in an arena. */
static void add_index(struct arena *arena, struct sql_relation *rel, uint64_t id, uint32_t *keys,
                      uint32_t keys_len)
{
    struct sql_index *all = ARENA_ARRAY(arena, struct sql_index, rel->indexes_len + 1);
    ASSERT(id != 0 && keys_len > 0 && keys != NULL);
    if (rel->indexes_len > 0) {
        memcpy(all, rel->indexes, rel->indexes_len * sizeof(*all));
    }
    all[rel->indexes_len] = (struct sql_index){.id = id, .keys = keys, .keys_len = keys_len};
    rel->indexes = all;
    rel->indexes_len++;
}

/* Indexes on the session's cluster; a materialized view is its own, on all columns. Indexes whose
 * dataflow failed are left out: a query then reads what is below them. While an existing dataflow
 * is planned again (visible_below) only older ones count, so that it gets the plan it got when it
 * was made. */
static void add_indexes(struct session *s, const struct catalog_item *item, struct arena *arena,
                        struct sql_relation *rel)
{
    const struct catalog *c = s->coord->catalog;
    uint64_t cluster = names_cluster(s, vars_get(s, "cluster"), NULL);
    const struct catalog_item *index;
    ASSERT(item->kind != CATALOG_INDEX);
    for (size_t n = 0; (index = catalog_index_on(c, item->id, n)) != NULL; n++) {
        bool visible = (s->visible_below == 0 || index->id < s->visible_below) &&
                       (s->tx.indexes_below == 0 || index->id < s->tx.indexes_below);
        if (index->cluster == cluster && visible &&
            u64map_get(&s->coord->failures, index->id) == NULL) {
            add_index(arena, rel, index->id, index->keys, index->keys_len);
        }
    }
    bool planned = item->id == 0; /* not created yet: there is nothing to read */
    if (item->kind == CATALOG_MATERIALIZED_VIEW && item->cluster == cluster && !planned) {
        uint32_t *keys = ARENA_ARRAY(arena, uint32_t, item->columns.cols + 1);
        for (uint32_t i = 0; i < item->columns.cols; i++) {
            keys[i] = i;
        }
        add_index(arena, rel, item->id, keys, item->columns.cols);
    }
}

void names_relation(struct session *s, const struct catalog_item *item, struct arena *arena,
                    struct sql_relation **out)
{
    const struct catalog *c = s->coord->catalog;
    const struct catalog_schema *schema = catalog_schema_id(c, item->schema);
    ASSERT(schema != NULL);
    const struct catalog_database *db = catalog_database_id(c, schema->database);
    struct sql_relation *rel = ARENA_NEW(arena, struct sql_relation);
    rel->id = item->id;
    rel->oid = item->oid;
    rel->kind = relation_kind(item->kind);
    rel->database = db != NULL ? db->name : NULL;
    rel->schema = schema->name;
    rel->name = item->name;
    rel->columns = item->columns;
    rel->defaults = item->defaults;
    rel->definition = item->definition;
    if (item->kind != CATALOG_INDEX) {
        add_indexes(s, item, arena, rel);
    }
    *out = rel;
}

/* A relation in a schema of a database; NULL when there is none. visible_below again: a name may
 * since have been given to something newer. */
static const struct sql_relation *in_schema(struct session *s, const char *database,
                                            const char *schema, const char *name,
                                            struct arena *arena)
{
    struct coord *coord = s->coord;
    const struct catalog_schema *sc = catalog_schema(coord->catalog, database, schema);
    ASSERT(database != NULL && schema != NULL);
    if (sc == NULL) {
        return NULL;
    }
    if (sc->database == 0) {
        return virtual_find(coord, schema, name);
    }
    const struct catalog_item *item = catalog_item(coord->catalog, sc->id, name);
    if (item == NULL || (s->visible_below != 0 && item->id >= s->visible_below)) {
        return NULL;
    }
    struct sql_relation *rel = NULL;
    names_relation(s, item, arena, &rel);
    return rel;
}

/* The planner's way in: *out NULL and no error when there is none, for it knows the message to
 * give. */
static err_t find_relation(void *ctx, const char *database, const char *schema, const char *name,
                           struct arena *arena, const struct sql_relation **out)
{
    struct session *s = ctx;
    ASSERT(name != NULL);
    *out = NULL;
    if (database == NULL) {
        database = vars_get(s, "database");
    }
    if (schema != NULL) {
        *out = in_schema(s, database, schema, name, arena);
        return ERR_OK;
    }
    static const char *const first[] = {"pg_catalog", "mz_catalog"};
    for (size_t i = 0; i < ARRAY_LEN(first) && *out == NULL; i++) {
        *out = in_schema(s, database, first[i], name, arena);
    }
    const char *path;
    for (size_t n = 0; *out == NULL && (path = path_at(s, arena, n)) != NULL; n++) {
        *out = in_schema(s, database, path, name, arena);
    }
    return ERR_OK;
}

/* To tell "no such schema" from "no such table". */
static bool schema_exists(void *ctx, const char *database, const char *schema)
{
    struct session *s = ctx;
    ASSERT(schema != NULL);
    if (database == NULL) {
        database = vars_get(s, "database");
    }
    return catalog_schema(s->coord->catalog, database, schema) != NULL;
}

/* The rows of a catalog table as constants of the plan. */
static err_t rows_of(void *ctx, const struct sql_relation *relation, struct arena *arena,
                     struct datum **rows, uint32_t *rows_len)
{
    return virtual_rows(ctx, relation, arena, rows, rows_len);
}

/* For current_setting(). */
static const char *setting(void *ctx, const char *name)
{
    return vars_get(ctx, name);
}

/* EXPLAIN's words: an index by its own name, with the columns of what it is on. */
const char *names_object(void *ctx, uint64_t id, const struct schema **columns)
{
    const struct session *s = ctx;
    const struct catalog_item *item = catalog_item_id(s->coord->catalog, id);
    const struct catalog_item *of =
        item != NULL && item->on != 0 ? catalog_item_id(s->coord->catalog, item->on) : item;
    *columns = of != NULL ? &of->columns : NULL;
    return item != NULL ? item->name : NULL;
}

static const struct sql_catalog catalog_functions = {
    .relation = find_relation,
    .schema_exists = schema_exists,
    .virtual_rows = rows_of,
    .setting = setting,
    .object = names_object,
};

/* The first schema of the search path that exists; borrowed from the catalog. NULL when no schema
 * of the path exists: then nothing can be created without a schema's name. */
static const char *current_schema(struct session *s)
{
    struct arena arena = {0};
    const char *database = vars_get(s, "database");
    const char *found = NULL;
    const char *path;
    ASSERT(s->vars != NULL);
    for (size_t n = 0; found == NULL && (path = path_at(s, &arena, n)) != NULL; n++) {
        const struct catalog_schema *sc = catalog_schema(s->coord->catalog, database, path);
        found = sc != NULL ? sc->name : NULL;
    }
    arena_free(&arena);
    return found;
}

/* Everything in it is borrowed and good for the planning of one statement. */
void names_context(struct session *s, struct sql_context *cx)
{
    ASSERT(s->vars != NULL);
    memset(cx, 0, sizeof(*cx));
    cx->catalog = &catalog_functions;
    cx->catalog_ctx = s;
    cx->user = s->user;
    cx->database = vars_get(s, "database");
    cx->schema = current_schema(s);
    cx->version = "PostgreSQL 15.0 (Tailrace " TAILRACE_VERSION ")";
    cx->cluster = vars_get(s, "cluster");
    cx->now_us = s->tx.began_us;
    uint64_t read = oracle_read_time(s->coord->oracle), began = (uint64_t)s->tx.began_us;
    cx->mz_now = s->tx.time > 0 ? read_time_as_now(s->tx.time) : began > read ? began : read;
    cx->backend_pid = (int32_t)s->pid;
}
