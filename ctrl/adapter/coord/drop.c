/*
 * DROP: what depends on what, and in which order things go.
 *
 * PostgreSQL's rules: without CASCADE something that others are defined over stays, and the error's
 * detail lists them; with CASCADE they go too, and a notice lists them. Indexes go with their
 * relation either way. Several names in one DROP are dropped together, so they may depend on each
 * other.
 *
 * Out of the catalog in one transaction, then away from the controllers, dependants first: no
 * dataflow ever loses an import that is still there in the catalog.
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

/* The word of an object in messages. */
static const char *object_word(uint8_t object)
{
    switch (object) {
    case SQL_OBJECT_TABLE: return "table";
    case SQL_OBJECT_SOURCE: return "source";
    case SQL_OBJECT_VIEW: return "view";
    case SQL_OBJECT_MATERIALIZED_VIEW: return "materialized view";
    case SQL_OBJECT_INDEX: return "index";
    case SQL_OBJECT_CLUSTER: return "cluster";
    case SQL_OBJECT_CLUSTER_REPLICA: return "cluster replica";
    case SQL_OBJECT_SCHEMA: return "schema";
    case SQL_OBJECT_DATABASE: return "database";
    default: return "object";
    }
}

/* PostgreSQL has an SQLSTATE a kind of object. */
static const char *missing_sqlstate(uint8_t object)
{
    switch (object) {
    case SQL_OBJECT_SCHEMA: return "3F000";
    case SQL_OBJECT_DATABASE: return "3D000";
    case SQL_OBJECT_INDEX:
    case SQL_OBJECT_CLUSTER: return "42704";
    default: return "42P01";
    }
}

/* Nothing of that name: a notice with IF EXISTS, else an error. The notice's SQLSTATE is
 * "successful completion", as in PostgreSQL. */
static err_t missing(struct session *s, const struct sql_stmt *stmt, const char *name)
{
    const char *word = object_word(stmt->drop.object);
    bool quoted = stmt->drop.object != SQL_OBJECT_ANY;
    ASSERT(name != NULL && quoted);
    if (stmt->drop.if_exists) {
        session_notice(s, "NOTICE", err_sql(ERR_NOT_FOUND, "00000",
                                            "%s \"%s\" does not exist, skipping", word, name));
        return ERR_OK;
    }
    return err_sql(ERR_NOT_FOUND, missing_sqlstate(stmt->drop.object),
                   "%s \"%s\" does not exist", word, name);
}

/* DROP TABLE must not drop a view that has the table's name. */
static bool kind_matches(uint8_t object, enum catalog_kind kind)
{
    switch (object) {
    case SQL_OBJECT_TABLE: return kind == CATALOG_TABLE;
    case SQL_OBJECT_SOURCE: return kind == CATALOG_SOURCE;
    case SQL_OBJECT_VIEW: return kind == CATALOG_VIEW;
    case SQL_OBJECT_MATERIALIZED_VIEW: return kind == CATALOG_MATERIALIZED_VIEW;
    case SQL_OBJECT_INDEX: return kind == CATALOG_INDEX;
    default: return false;
    }
}

/* Lists here are a statement's names and what depends on them: tens. */
static bool contains(const struct catalog_ids *ids, size_t len, uint64_t id)
{
    for (size_t i = 0; i < len; i++) {
        if (ids->ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* A line "view v depends on table t" for a dependant. One of the reasons is enough: the first
 * object among ids that it depends on. */
static void describe_dependant(struct coord *coord, const struct catalog_ids *ids,
                               const struct catalog_item *item, struct buf *out)
{
    uint64_t on = item->on;
    ASSERT(item->on != 0 || item->depends_len > 0);
    for (size_t i = 0; i < item->depends_len && on == 0; i++) {
        on = contains(ids, ids->ids_len, item->depends[i]) ? item->depends[i] : 0;
    }
    const struct catalog_item *target = catalog_item_id(coord->catalog, on);
    buf_printf(out, "%s%s %s depends on %s %s", out->len > 0 ? "\n" : "",
               catalog_kind_name(item->kind), item->name,
               target != NULL ? catalog_kind_name(target->kind) : "object",
               target != NULL ? target->name : "");
}

/* Indexes go with their relation without asking; everything else stands in the way. named: how many
 * of ids the user named; what follows was found to depend on them. */
static err_t check_restrict(struct coord *coord, const struct catalog_ids *ids, size_t named,
                            const char *word, const char *name)
{
    struct buf detail = {0};
    ASSERT(named <= ids->ids_len);
    for (size_t i = named; i < ids->ids_len; i++) {
        const struct catalog_item *item = catalog_item_id(coord->catalog, ids->ids[i]);
        ASSERT(item != NULL);
        if (item->kind != CATALOG_INDEX) {
            describe_dependant(coord, ids, item, &detail);
        }
    }
    err_t err = ERR_OK;
    if (detail.len > 0) {
        err = err_sql(ERR_INVALID, "2BP01", "cannot drop %s %s because other objects depend on it",
                      word, name);
        err = err_detail(err, "%s", buf_cstr(&detail));
        err = err_hint(err, "Use DROP ... CASCADE to drop the dependent objects too.");
    }
    buf_free(&detail);
    return err;
}

/* PostgreSQL's two wordings: one object is named in the message, several in its detail. */
static void notice_cascade(struct session *s, const struct catalog_ids *ids, size_t named)
{
    struct buf detail = {0};
    size_t n = 0;
    const struct catalog_item *only = NULL;
    ASSERT(named <= ids->ids_len);
    for (size_t i = named; i < ids->ids_len; i++) {
        const struct catalog_item *item = catalog_item_id(s->coord->catalog, ids->ids[i]);
        if (item->kind == CATALOG_INDEX) {
            continue;
        }
        buf_printf(&detail, "%sdrop cascades to %s %s", n > 0 ? "\n" : "",
                   catalog_kind_name(item->kind), item->name);
        only = item;
        n++;
    }
    if (n == 1) {
        session_notice(s, "NOTICE", err_sql(ERR_INVALID, "00000", "drop cascades to %s %s",
                                            catalog_kind_name(only->kind), only->name));
    } else if (n > 1) {
        err_t err = err_sql(ERR_INVALID, "00000", "drop cascades to %zu other objects", n);
        session_notice(s, "NOTICE", err_detail(err, "%s", buf_cstr(&detail)));
    }
    buf_free(&detail);
}

/* Ascending: creation order, so that going backwards is dependants first. */
static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Durably out of the catalog, then away from the controllers, dependants first. What the
 * controllers need to know is copied first: the catalog's items are freed by the commit. */
static err_t drop_ids(struct coord *coord, struct catalog_ids *ids)
{
    if (ids->ids_len == 0) {
        return ERR_OK;
    }
    struct catalog_item *gone = mem_zalloc(ids->ids_len * sizeof(*gone));
    qsort(ids->ids, ids->ids_len, sizeof(ids->ids[0]), compare_ids);
    for (size_t i = 0; i < ids->ids_len; i++) {
        const struct catalog_item *item = catalog_item_id(coord->catalog, ids->ids[i]);
        gone[i] = (struct catalog_item){
            .id = item->id, .kind = item->kind, .cluster = item->cluster};
    }
    err_t err = catalog_drop_items(coord->catalog, ids->ids, ids->ids_len);
    for (size_t i = ids->ids_len; err == ERR_OK && i-- > 0;) {
        coord_drop_item(coord, &gone[i]);
    }
    free(gone);
    return err;
}

/* Drops the named ids with what depends on them, or says why not. Takes the ids. word and name are
 * the statement's, for messages. */
static err_t drop_with_dependants(struct session *s, const struct sql_stmt *stmt,
                                  struct catalog_ids *ids, const char *word, const char *name)
{
    size_t named = ids->ids_len;
    ASSERT(ids != NULL && word != NULL);
    catalog_dependants(s->coord->catalog, ids);
    err_t err = stmt->drop.cascade ? ERR_OK : check_restrict(s->coord, ids, named, word, name);
    if (err == ERR_OK) {
        if (stmt->drop.cascade) {
            notice_cascade(s, ids, named);
        }
        err = drop_ids(s->coord, ids);
    }
    free(ids->ids);
    return err;
}

/* All names are resolved before anything is dropped: a name that is wrong drops nothing. */
static err_t drop_items(struct session *s, const struct sql_stmt *stmt)
{
    struct catalog_ids ids = {0};
    const char *word = object_word(stmt->drop.object);
    const char *name = "";
    err_t err = ERR_OK;
    ASSERT(stmt->drop.names_len > 0);
    for (uint32_t i = 0; i < stmt->drop.names_len && err == ERR_OK; i++) {
        const struct catalog_item *item = NULL;
        const struct sql_name *n = &stmt->drop.names[i];
        err = ddl_find(s, n, &item);
        if (err != ERR_OK) {
            break;
        }
        if (item == NULL) {
            err = missing(s, stmt, n->name);
        } else if (!kind_matches(stmt->drop.object, item->kind)) {
            err = err_hint(err_sql(ERR_INVALID, "42809", "\"%s\" is not a%s %s", item->name,
                                   stmt->drop.object == SQL_OBJECT_INDEX ? "n" : "", word),
                           "Use DROP for a %s.", catalog_kind_name(item->kind));
        } else if (!contains(&ids, ids.ids_len, item->id)) {
            *VEC_PUSH(&ids, ids) = item->id;
            name = item->name;
        }
    }
    if (err != ERR_OK) {
        free(ids.ids);
        return err;
    }
    return drop_with_dependants(s, stmt, &ids, word, name);
}

/* In order of id, as the catalog has them. */
static void items_of_schema(struct coord *coord, uint64_t schema, struct catalog_ids *ids)
{
    const struct catalog_item *item;
    ASSERT(schema != 0);
    for (size_t i = 0; (item = catalog_item_at(coord->catalog, i)) != NULL; i++) {
        if (item->schema == schema) {
            *VEC_PUSH(ids, ids) = item->id;
        }
    }
}

/* A container that is not empty only goes with CASCADE. Takes ids. What is inside counts as named
 * by the user, so that objects in the same schema do not stand in each other's way; what depends on
 * them from elsewhere does. */
static err_t empty_container(struct session *s, const struct sql_stmt *stmt,
                             struct catalog_ids *ids, const char *name)
{
    ASSERT(name != NULL);
    const char *word = object_word(stmt->drop.object);
    if (ids->ids_len > 0 && !stmt->drop.cascade) {
        struct buf detail = {0};
        for (size_t i = 0; i < ids->ids_len; i++) {
            const struct catalog_item *item = catalog_item_id(s->coord->catalog, ids->ids[i]);
            buf_printf(&detail, "%s%s %s depends on %s %s", i > 0 ? "\n" : "",
                       catalog_kind_name(item->kind), item->name, word, name);
        }
        free(ids->ids);
        err_t err = err_sql(ERR_INVALID, "2BP01",
                            "cannot drop %s %s because other objects depend on it", word, name);
        err = err_detail(err, "%s", buf_cstr(&detail));
        buf_free(&detail);
        return err_hint(err, "Use DROP ... CASCADE to drop the dependent objects too.");
    }
    return drop_with_dependants(s, stmt, ids, word, name);
}

/* Two changes: the items, then the schema. A crash in between leaves it empty, and the client
 * without an answer: it may drop it again. */
static err_t drop_schema(struct session *s, const struct sql_stmt *stmt, const struct sql_name *n)
{
    struct catalog *c = s->coord->catalog;
    const char *database = n->database != NULL ? n->database : vars_get(s, "database");
    const struct catalog_schema *schema = catalog_schema(c, database, n->name);
    ASSERT(n->name != NULL);
    if (schema == NULL) {
        return missing(s, stmt, n->name);
    }
    if (schema->database == 0) {
        return err_sql(ERR_PERMISSION, "42501", "cannot drop schema %s because it is required by "
                       "the database system", schema->name);
    }
    struct catalog_ids ids = {0};
    items_of_schema(s->coord, schema->id, &ids);
    TRY(empty_container(s, stmt, &ids, schema->name));
    return catalog_drop_schema(c, schema->id);
}

/* Not while anyone is in it: sessions resolve names there. Counted are sessions of clients. */
static err_t drop_database(struct session *s, const struct sql_stmt *stmt,
                           const struct sql_name *n)
{
    struct catalog *c = s->coord->catalog;
    const struct catalog_database *d = catalog_database(c, n->name);
    const struct catalog_schema *schema;
    ASSERT(n->name != NULL);
    if (d == NULL) {
        return missing(s, stmt, n->name);
    }
    for (const struct session *other = s->coord->sessions; other != NULL; other = other->next) {
        if (other->conn != NULL && strcmp(vars_get(other, "database"), d->name) == 0) {
            return err_sql(ERR_INVALID, "55006", "database \"%s\" is being accessed by %s users",
                           d->name, other == s ? "this session or other" : "other");
        }
    }
    struct catalog_ids ids = {0};
    for (size_t i = 0; (schema = catalog_schema_at(c, i)) != NULL; i++) {
        if (schema->database == d->id) {
            items_of_schema(s->coord, schema->id, &ids);
        }
    }
    TRY(empty_container(s, stmt, &ids, d->name));
    return catalog_drop_database(c, d->id);
}

/* Materialized views and indexes live on a cluster and are what is inside; views do not. */
static err_t drop_cluster(struct session *s, const struct sql_stmt *stmt,
                          const struct sql_name *n)
{
    struct catalog *c = s->coord->catalog;
    const struct catalog_cluster *k = catalog_cluster(c, n->name);
    const struct catalog_item *item;
    ASSERT(n->name != NULL);
    if (k == NULL) {
        return missing(s, stmt, n->name);
    }
    struct catalog_ids ids = {0};
    for (size_t i = 0; (item = catalog_item_at(c, i)) != NULL; i++) {
        if (item->cluster == k->id) {
            *VEC_PUSH(&ids, ids) = item->id;
        }
    }
    TRY(empty_container(s, stmt, &ids, k->name));
    uint64_t id = k->id;
    TRY(catalog_drop_cluster(c, id));
    controller_cluster_drop(s->coord->controller, id);
    return ERR_OK;
}

/* Containers go one by one, in the order named; relations all at once. */
err_t ddl_drop(struct session *s, const struct sql_stmt *stmt)
{
    TRY(transact_enter_write(s));
    ASSERT(stmt->drop.names_len > 0);
    for (uint32_t i = 0; i < stmt->drop.names_len; i++) {
        const struct sql_name *n = &stmt->drop.names[i];
        switch (stmt->drop.object) {
        case SQL_OBJECT_SCHEMA: TRY(drop_schema(s, stmt, n)); break;
        case SQL_OBJECT_DATABASE: TRY(drop_database(s, stmt, n)); break;
        case SQL_OBJECT_CLUSTER: TRY(drop_cluster(s, stmt, n)); break;
        case SQL_OBJECT_CLUSTER_REPLICA:
            return err_sql(ERR_UNSUPPORTED, "0A000", "DROP CLUSTER REPLICA is not supported: "
                           "replicas follow the cluster's replication factor");
        default: return drop_items(s, stmt); /* all names at once */
        }
    }
    return ERR_OK;
}
