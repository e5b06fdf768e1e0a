/*
 * Transactions. A transaction either reads or writes tables. Reads all happen at one time, chosen
 * by the first and held for the rest. Writes are gathered and appended at commit, all at one time.
 * Outside BEGIN ... COMMIT the statements of a simple query, or the requests up to Sync, make an
 * implicit transaction; there, a change from writing to reading commits what was written so far.
 *
 * Why a block cannot do both: its reads are at one time and its writes at a later one, and what
 * others wrote in between would be a write skew. Single statements that read and write have the
 * lock of write.c; a block would hold it as long as its client likes.
 *
 *     NONE --read--> READ     NONE --write--> WRITE     both end in COMMIT or ROLLBACK
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

/* Between BEGIN and COMMIT or ROLLBACK, also when it has failed. */
bool transact_in_block(const struct session *s)
{
    return s->tx.status != 'I';
}

/* pgwire tells the client with the next ReadyForQuery. */
static void set_status(struct session *s, char status)
{
    ASSERT(status == 'I' || status == 'T' || status == 'E');
    s->tx.status = status;
    if (s->conn != NULL) {
        pgwire_set_transaction(s->conn, status);
    }
}

/* Neither its kind nor its time are chosen yet: the first statement does. */
err_t transact_begin(struct session *s, bool read_only)
{
    ASSERT(s->tx.status == 'I');
    ASSERT(write_set_empty(&s->tx.writes));
    s->tx.read_only = read_only;
    s->tx.mode = TX_NONE;
    s->tx.time = 0;
    set_status(s, 'T');
    return ERR_OK;
}

/* History they kept may be compacted from now on. */
static void release_holds(struct session *s)
{
    ASSERT(s->tx.holds.len == 0 || s->coord->controller != NULL);
    size_t at = 0;
    uint64_t id;
    void *handle;
    while (u64map_next(&s->tx.holds, &at, &id, &handle)) {
        controller_hold_release(s->coord->controller, (uint64_t)(uintptr_t)handle);
    }
    u64map_free(&s->tx.holds);
    memset(&s->tx.holds, 0, sizeof(s->tx.holds));
}

/* Cursors without hold and local settings end with the transaction. One at a time, for removing
 * ends the iteration; not the one whose statement runs COMMIT. */
static void drop_cursors(struct session *s)
{
    for (;;) {
        size_t at = 0;
        const char *name;
        void *value;
        struct portal *cursor = NULL;
        while (cursor == NULL && strmap_next(&s->portals, &at, &name, &value)) {
            struct portal *p = value;
            cursor = p->cursor && !p->busy ? p : NULL;
        }
        if (cursor == NULL) {
            return;
        }
        strmap_remove(&s->portals, cursor->name);
        portal_free(cursor);
    }
}

/* However it ended: nothing of a transaction is left in the session. */
static void end(struct session *s)
{
    release_holds(s);
    write_set_clear(&s->tx.writes);
    s->tx.mode = TX_NONE;
    s->tx.time = 0;
    s->tx.indexes_below = 0;
    s->tx.rows = 0;
    s->tx.read_only = false;
    if (transact_in_block(s)) {
        drop_cursors(s);
    }
    vars_end_transaction(s);
    set_status(s, 'I');
}

/* Writes were only gathered: there is nothing to undo. */
void transact_rollback(struct session *s)
{
    ASSERT(s->job.state != WRITE_FLYING || s->after_commit == NULL);
    end(s);
}

/* The state is cleared before the continuation runs, which may begin the next transaction. */
static void on_committed(struct write_job *job, err_t err)
{
    struct session *s = CONTAINER_OF(job, struct session, job);
    void (*after)(struct session *, err_t) = s->after_commit;
    ASSERT(CONTAINER_OF(job, struct session, job)->after_commit != NULL);
    ASSERT(after != NULL);
    s->after_commit = NULL;
    end(s);
    after(s, err);
}

/* Reads have nothing to commit. The write set moves into the job, which owns it until it is
 * durable. */
void transact_commit(struct session *s, void (*done)(struct session *s, err_t err))
{
    ASSERT(s->job.state == WRITE_IDLE && s->after_commit == NULL);
    if (write_set_empty(&s->tx.writes)) {
        end(s);
        done(s, ERR_OK);
        return;
    }
    s->job.set = s->tx.writes;
    memset(&s->tx.writes, 0, sizeof(s->tx.writes));
    s->job.done = on_committed;
    s->after_commit = done;
    write_submit(s->coord, &s->job);
}

/* 25001: PostgreSQL has no such error; Materialize says it in these words. */
err_t transact_enter_read(struct session *s)
{
    ASSERT(s != NULL);
    if (s->tx.mode == TX_WRITE && transact_in_block(s)) {
        return err_hint(err_sql(ERR_INVALID, "25001", "transaction in write-only mode"),
                        "A transaction either reads or writes: commit it before you read.");
    }
    if (transact_in_block(s)) {
        s->tx.mode = TX_READ;
    }
    return ERR_OK;
}

/* 25006 in a read-only session or transaction, whichever variable said so. */
err_t transact_enter_write(struct session *s)
{
    const char *always = vars_get(s, "default_transaction_read_only");
    const char *now = vars_get(s, "transaction_read_only");
    ASSERT(s != NULL);
    if (s->tx.read_only || strcmp(always, "on") == 0 || strcmp(now, "on") == 0) {
        return err_sql(ERR_INVALID, "25006", "cannot write in a read-only transaction");
    }
    if (s->tx.mode == TX_READ && transact_in_block(s)) {
        return err_hint(err_sql(ERR_INVALID, "25006", "transaction in read-only mode"),
                        "A transaction either reads or writes: commit it before you write.");
    }
    if (transact_in_block(s)) {
        s->tx.mode = TX_WRITE;
    }
    return ERR_OK;
}

/* ERR_INVALID when the item's history no longer reaches back to the transaction's time. */
static err_t hold(struct session *s, uint64_t cluster, uint64_t id)
{
    uint64_t handle = 0;
    ASSERT(id != 0 && s->tx.time > 0);
    if (u64map_get(&s->tx.holds, id) != NULL) {
        return ERR_OK;
    }
    TRY(controller_hold(s->coord->controller, cluster, id, s->tx.time, &handle));
    ASSERT(handle != 0);
    u64map_put(&s->tx.holds, id, (void *)(uintptr_t)handle);
    return ERR_OK;
}

/* Takes cause. */
static err_t cannot_read(struct session *s, uint64_t id, err_t cause)
{
    const struct catalog_item *item = catalog_item_id(s->coord->catalog, id);
    err_t err = err_sql(ERR_INVALID, "25000", "\"%s\" cannot be read in this transaction: its "
                        "history no longer reaches back to the transaction's time",
                        item != NULL ? item->name : "?");
    err = err_detail(err, "%s", err_text(cause));
    err_free(cause);
    return err_hint(err, "A transaction keeps the objects in the schemas of its first query "
                    "readable. Read this one in the first query too, or in a transaction of its "
                    "own.");
}

/* What the query reads must be held, now or already: only then does its time stay readable. */
static err_t hold_inputs(struct session *s, const struct sql_query *query, uint64_t cluster)
{
    ASSERT(s->tx.time > 0 && cluster != 0);
    for (uint32_t i = 0; i < query->collections_len; i++) {
        err_t err = hold(s, 0, query->collections[i]);
        if (err != ERR_OK) {
            return cannot_read(s, query->collections[i], err);
        }
    }
    for (uint32_t i = 0; i < query->indexes_len; i++) {
        err_t err = hold(s, cluster, query->indexes[i]);
        if (err != ERR_OK) {
            return cannot_read(s, query->indexes[i], err);
        }
    }
    return ERR_OK;
}

/* An index is in its relation's schema. */
static void add_schema(const struct session *s, struct u64map *schemas, uint64_t id)
{
    const struct catalog_item *item = catalog_item_id(s->coord->catalog, id);
    if (item != NULL) {
        u64map_put(schemas, item->schema, (void *)item);
    }
}

/* What could be held of an item; what could not is told when a statement reads it. */
static void hold_if_possible(struct session *s, uint64_t cluster, const struct catalog_item *item)
{
    bool storage = item->kind == CATALOG_TABLE || item->kind == CATALOG_SOURCE;
    if (!storage && (item->cluster == 0 || item->cluster != cluster)) {
        return; /* views, and what is kept elsewhere */
    }
    err_t err = hold(s, storage ? 0 : cluster, item->id);
    if (err != ERR_OK) {
        LOG_DEBUG("coord", "no hold for the transaction", LOG_U64("id", item->id), LOG_ERR(err));
        err_free(err);
    }
}

/*
 * Keeps what later statements will probably read: the transaction's domain, everything in the
 * schemas of the objects its first query reads, as Materialize has it. Without it their history
 * would be compacted beyond the transaction's time a second later. A hold costs memory for as long
 * as the transaction lives, so the whole catalog is not taken; what lies outside is held when it is
 * first read, if its history still reaches back.
 */
static void hold_domain(struct session *s, const struct sql_query *query, uint64_t cluster)
{
    const struct catalog *c = s->coord->catalog;
    const struct catalog_item *item;
    struct u64map schemas = {0};
    ASSERT(cluster != 0);
    for (uint32_t i = 0; i < query->collections_len; i++) {
        add_schema(s, &schemas, query->collections[i]);
    }
    for (uint32_t i = 0; i < query->indexes_len; i++) {
        add_schema(s, &schemas, query->indexes[i]);
    }
    for (size_t i = 0; (item = catalog_item_at(c, i)) != NULL; i++) {
        if (u64map_get(&schemas, item->schema) != NULL) {
            hold_if_possible(s, cluster, item);
        }
    }
    u64map_free(&schemas);
}

/* The first read of a block: its time is everybody's. */
static err_t begin_reading(struct session *s, const struct sql_query *query, uint64_t cluster)
{
    ASSERT(s->tx.time == 0 && s->tx.holds.len == 0);
    TRY(read_choose_time(s->coord, query, cluster, &s->tx.time));
    s->tx.cluster = cluster;
    /* An index made from now on does not reach back to this time; it must not be planned with. */
    s->tx.indexes_below = catalog_next_id(s->coord->catalog);
    TRY(hold_inputs(s, query, cluster));
    hold_domain(s, query, cluster);
    return ERR_OK;
}

err_t transact_read_time(struct session *s, const struct sql_query *query, uint64_t *time)
{
    err_t err = ERR_OK;
    uint64_t cluster = 0;
    if (read_needs_cluster(query)) {
        cluster = names_cluster(s, vars_get(s, "cluster"), &err);
        TRY(err);
    }
    if (!transact_in_block(s) || query->has_as_of || cluster == 0) {
        s->tx.cluster = cluster;
        return read_choose_time(s->coord, query, cluster, time);
    }
    if (s->tx.time == 0) {
        TRY(begin_reading(s, query, cluster));
    } else if (s->tx.cluster != cluster) {
        return err_sql(ERR_INVALID, "25001", "the cluster cannot change within a transaction");
    } else {
        TRY(hold_inputs(s, query, cluster));
    }
    ASSERT(s->tx.time > 0);
    *time = s->tx.time;
    return ERR_OK;
}
