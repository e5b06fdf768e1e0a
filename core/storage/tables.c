/*
 * Tables: appends at times their writer chooses. One append is one log record, whatever number of
 * tables it names, so it is atomic; all tables share one upper. An append under way holds the upper
 * back, so what is published is what is durable.
 *
 * The order is the writer's: appends are logged, answered and published in the order of
 * storage_append, and a promise (storage_advance_tables) takes effect after the appends before it.
 * Refusals are decided at once, touch nothing, and are told from the loop like every other answer,
 * so that a caller never finds itself called from inside its own call.
 *
 * Uppers. tables_next is the lowest time the next append may take; tables_upper is what readers
 * were told; between them lie appends under way and promises that wait for the lease.
 */
#include "core/storage/storage_internal.h"

/* Copies are not much longer than what they copy (a time and a diff a row, and alignment), so an
 * append that passed check_writes fits a record. */
STATIC_ASSERT(STORAGE_APPEND_MAX + 17 * (uint64_t)BATCH_ROWS_MAX < WAL_RECORD_MAX,
              "an append is one record");

/*
 * What an append brings to one table. The entry is this struct's until it is committed, then the
 * shard's.
 */
struct table_part {
    struct storage_shard *shard;
    struct storage_entry *entry;
};

/*
 * One call of storage_append until its answer. The log holds `commit`; while it does, the append is
 * in the worker's list, oldest first.
 */
struct table_append {
    struct storage_worker *storage;
    struct wal_commit commit;
    struct table_append *next;
    uint64_t time;
    uint64_t advance; /* the writer's promise that came after it */
    void (*done)(void *arg, err_t err);
    void *arg;
    err_t err; /* refused: to be told from the loop */
    struct table_part *part;
    size_t part_len;
    size_t part_cap;
};

static void append_free(struct table_append *append)
{
    for (size_t i = 0; i < append->part_len; i++) {
        entry_unref(append->part[i].entry);
    }
    err_free(append->err);
    free(append->part);
    free(append);
}

/* ---- uppers ---------------------------------------------------------------------------------- */

/*
 * Uppers are only published below the lease, so that a restart need not remember each. All tables
 * at once: a reader of two of them finds both at the same upper.
 */
static void publish(struct storage_worker *storage, uint64_t upper)
{
    ASSERT(upper <= TIME_MAX / 2 + 1);
    if (upper <= storage->tables_upper) {
        return;
    }
    ASSERT(upper <= storage->durable.tables_lease);
    storage->tables_upper = upper;
    for (size_t i = 0; i < storage->order_len; i++) {
        if (storage->order[i]->desc.kind == STORAGE_TABLE) {
            storage_publish(storage->order[i], upper);
        }
    }
}

/* The writer's promise. Beyond the lease it waits for a longer one, which is asked for ahead of
 * time, so that waiting is the exception. */
static void advance(struct storage_worker *storage, uint64_t upper)
{
    ASSERT(storage->appends == NULL || upper <= storage->tables_next);
    storage->tables_ahead = upper > storage->tables_ahead ? upper : storage->tables_ahead;
    if (upper <= storage->durable.tables_lease) {
        publish(storage, upper);
    } else if (upper > storage->tables_want) {
        storage->tables_want = upper;
    }
    if (upper + STORAGE_TABLES_LEASE_US / 2 > storage->durable.tables_lease) {
        storage_renew_lease(storage);
    }
}

void tables_lease_grew(struct storage_worker *storage)
{
    uint64_t want = storage->tables_want;
    if (want > storage->tables_upper && want <= storage->durable.tables_lease) {
        publish(storage, want);
    }
}

/* With appends under way it waits behind the last of them: the record says the order. */
void storage_advance_tables(struct storage_worker *storage, uint64_t upper)
{
    ASSERT(upper <= TIME_MAX / 2);
    if (upper <= storage->tables_upper) {
        return;
    }
    storage->tables_next = upper > storage->tables_next ? upper : storage->tables_next;
    if (storage->appends != NULL) {
        struct table_append *last =
            CONTAINER_OF(storage->appends_last, struct table_append, next);
        last->advance = upper > last->advance ? upper : last->advance;
        return;
    }
    advance(storage, upper);
}

/* ---- appends --------------------------------------------------------------------------------- */

/* The record is durable, or is not there. All entries are added before any upper moves: a reader
 * woken for one table may look at another. */
static void committed(struct wal_commit *commit, err_t err)
{
    struct table_append *append = CONTAINER_OF(commit, struct table_append, commit);
    struct storage_worker *storage = append->storage;
    ASSERT(storage->appends == append);
    storage->appends = append->next;
    if (storage->appends == NULL) {
        storage->appends_last = &storage->appends;
    }
    for (size_t i = 0; i < append->part_len; i++) {
        struct table_part *part = &append->part[i];
        ASSERT(part->shard->pending > 0);
        ASSERT(part->entry != NULL && part->entry->lower == append->time);
        part->shard->pending--;
        if (err == ERR_OK && !part->shard->dropped) {
            part->entry->file = storage_file_ref(commit->file);
            part->entry->seq = commit->seq;
            part->entry->blob[STREAM_OK].offset += commit->offset;
            shard_add_entry(part->shard, part->entry);
            metric_add(storage->metrics.rows, part->entry->blob[STREAM_OK].rows);
            part->entry = NULL;
        }
        storage_release_shard(part->shard);
    }
    bool cancelled = err != ERR_OK && err_code(err) == ERR_CANCELLED;
    if (err == ERR_OK) {
        storage->durable.last_append = append->time;
        if (append->time + 1 > storage->durable.tables_lease) {
            storage->durable.tables_lease = append->time + 1; /* the record itself says so */
        }
        publish(storage, append->time + 1);
        storage_active(storage);
    }
    if (append->advance > storage->tables_upper && !cancelled) {
        advance(storage, append->advance);
    }
    if (cancelled) {
        err_free(err); /* the worker is being freed: nobody is called */
    } else {
        append->done(append->arg, err);
    }
    append_free(append);
}

/* Answers come from the loop, also those that were known at once. */
static void tell_refused(struct io_timer *timer)
{
    struct storage_worker *storage = CONTAINER_OF(timer, struct storage_worker, refuse_timer);
    struct table_append *append = storage->refused;
    storage->refused = NULL;
    storage->refused_last = &storage->refused;
    while (append != NULL) {
        struct table_append *next = append->next;
        err_t err = append->err;
        append->err = NULL;
        append->done(append->arg, err);
        append_free(append);
        append = next;
    }
}

/* Owns err. What prepare had built so far is let go of with the append. */
static void refuse(struct storage_worker *storage, struct table_append *append, err_t err)
{
    ASSERT(err != ERR_OK && append->part_len == 0);
    append->err = err;
    append->next = NULL;
    *storage->refused_last = append;
    storage->refused_last = &append->next;
    io_timer_start(storage->config.loop, &storage->refuse_timer, io_now_us(storage->config.loop));
}

/* The table of a write, and whether its columns are the table's. */
static err_t check_write(struct storage_worker *storage, const struct storage_write *write,
                         struct storage_shard **out)
{
    struct storage_shard *shard = u64map_get(&storage->shards, write->id);
    if (shard == NULL) {
        return err_new(ERR_NOT_FOUND, "table %llu is not on storage worker %u",
                       (unsigned long long)write->id, storage->config.worker);
    }
    if (shard->desc.kind != STORAGE_TABLE) {
        return err_new(ERR_INVALID, "collection %llu is not a table",
                       (unsigned long long)write->id);
    }
    bool same = write->batch->cols == shard->schema->cols;
    for (uint32_t c = 0; c < write->batch->cols && same; c++) {
        same = write->batch->col[c].kind == shard->schema->kinds[c];
    }
    if (!same) {
        return err_new(ERR_INVALID, "columns of a write differ from table %llu",
                       (unsigned long long)write->id);
    }
    *out = shard;
    return ERR_OK;
}

/* A copy of all that is written to one table, with its times set; NULL when that is nothing. */
static struct storage_entry *stamp_entry(const struct storage_shard *shard,
                                         const struct storage_write *writes, size_t writes_len,
                                         uint64_t time)
{
    ASSERT(writes_len > 0 && time <= TIME_MAX / 2);
    struct batch_builder *builder =
        batch_builder_new(shard->schema->kinds, shard->schema->cols);
    for (size_t i = 0; i < writes_len; i++) {
        if (writes[i].id == shard->id && writes[i].batch->rows > 0) {
            batch_builder_rows_of(builder, writes[i].batch, NULL, writes[i].batch->rows);
        }
    }
    if (batch_builder_rows(builder) == 0) {
        batch_builder_free(builder);
        return NULL;
    }
    batch_builder_set_time(builder, time);
    struct storage_entry *entry = entry_new(time, time + 1);
    size_t size = 0;
    struct storage_blob *blob = &entry->blob[STREAM_OK];
    blob->data = batch_builder_finish_new(builder, &size);
    ASSERT(size <= PART_BLOCK_MAX); /* bounded by check_writes, and a spill makes it one block */
    blob->len = (uint32_t)size;
    blob->rows = batch_builder_rows(builder);
    batch_builder_free(builder);
    return entry;
}

static bool has_part(const struct table_append *append, const struct storage_shard *shard)
{
    ASSERT(shard != NULL);
    bool has = false;
    for (size_t i = 0; i < append->part_len && !has; i++) {
        has = append->part[i].shard == shard;
    }
    return has;
}

/* Every row must be one that a reader can be sent: it is not split on its way. */
static err_t check_rows(const struct storage_write *write)
{
    const struct batch *batch = write->batch;
    if (batch->size <= STORAGE_ROW_MAX) {
        return ERR_OK; /* then so is each row */
    }
    for (uint32_t row = 0; row < batch->rows; row++) {
        size_t bytes = shard_row_bytes(batch, row);
        if (bytes > STORAGE_ROW_MAX) {
            return err_hint(err_sql(ERR_LIMIT, "54000",
                                    "a row of %zu bytes is too long: the limit is %d MiB", bytes,
                                    STORAGE_ROW_MAX >> 20),
                            "Split the value over several rows.");
        }
    }
    return ERR_OK;
}

/*
 * What a write may be, before anything is copied. bytes counts on what waits for the disk already:
 * memory that a slow disk makes us hold is bounded here.
 */
static err_t check_writes(struct storage_worker *storage, const struct storage_write *writes,
                          size_t writes_len)
{
    size_t bytes = wal_pending(storage->wal);
    uint64_t rows = 0;
    for (size_t i = 0; i < writes_len; i++) {
        struct storage_shard *shard = NULL;
        TRY(check_write(storage, &writes[i], &shard));
        TRY(check_rows(&writes[i]));
        bytes += writes[i].batch->size;
        rows += writes[i].batch->rows;
        if (bytes > STORAGE_APPEND_MAX) {
            return err_hint(err_sql(ERR_LIMIT, "53400",
                                    "more than %d MiB of writes would wait for the disk",
                                    STORAGE_APPEND_MAX >> 20),
                            "Try again when the writes before this one are done, or write less "
                            "at once.");
        }
        if (rows > BATCH_ROWS_MAX) {
            return err_hint(err_sql(ERR_LIMIT, "54000", "a write of more than %d rows",
                                    BATCH_ROWS_MAX),
                            "Write them in several transactions.");
        }
    }
    return ERR_OK;
}

/* Bytes of the append's record. */
static size_t record_size(const struct table_append *append)
{
    size_t size = RECORD_HEADER;
    for (size_t i = 0; i < append->part_len; i++) {
        size += record_section_size(append->part[i].entry);
    }
    return size;
}

/* Everything that can be refused is refused here, before anything is written. */
static err_t prepare(struct storage_worker *storage, struct table_append *append,
                     const struct storage_write *writes, size_t writes_len)
{
    const struct err *failed = wal_failed(storage->wal);
    if (failed != NULL) {
        return err_copy(failed);
    }
    if (append->time < storage->tables_next || append->time > TIME_MAX / 2) {
        return err_new(ERR_FENCED, "tables have passed time %llu: their upper is %llu",
                       (unsigned long long)append->time,
                       (unsigned long long)storage->tables_next);
    }
    TRY(check_writes(storage, writes, writes_len));
    for (size_t i = 0; i < writes_len; i++) {
        struct storage_shard *shard = u64map_get(&storage->shards, writes[i].id);
        if (has_part(append, shard)) {
            continue;
        }
        struct storage_entry *entry =
            stamp_entry(shard, writes + i, writes_len - i, append->time);
        if (entry != NULL) {
            *VEC_PUSH(append, part) = (struct table_part){.shard = shard, .entry = entry};
        }
    }
    ASSERT(append->part_len <= writes_len);
    return ERR_OK;
}

/* From wal_end on the append is the log's: it is answered in `committed`, whatever happens. */
void storage_append(struct storage_worker *storage, uint64_t time,
                    const struct storage_write *writes, size_t writes_len,
                    void (*done)(void *arg, err_t err), void *arg)
{
    ASSERT(done != NULL && (writes_len == 0 || writes != NULL));
    struct table_append *append = MEM_NEW(struct table_append);
    append->storage = storage;
    append->time = time;
    append->done = done;
    append->arg = arg;
    err_t err = prepare(storage, append, writes, writes_len);
    if (err != ERR_OK) {
        refuse(storage, append, err);
        return;
    }
    ASSERT(time >= storage->tables_upper);
    storage->tables_next = time + 1;
    storage->tables_ahead = time > storage->tables_ahead ? time : storage->tables_ahead;
    *storage->appends_last = append;
    storage->appends_last = &append->next;
    struct buf *out = wal_begin(storage->wal, record_size(append));
    size_t start = out->len;
    ASSERT(start >= WAL_GROUP_HEADER + WAL_RECORD_HEADER);
    struct record record = {
        .tables = true, .time = time, .sections = (uint32_t)append->part_len};
    record_begin(out, &record);
    for (size_t i = 0; i < append->part_len; i++) {
        struct table_part *part = &append->part[i];
        part->shard->pending++;
        record_add(out, start, part->shard->id, false, part->entry);
    }
    append->commit.done = committed;
    wal_end(storage->wal, WAL_APPEND, &append->commit);
}

uint64_t storage_last_append(const struct storage_worker *storage)
{
    return storage->durable.last_append;
}

/* Lists whose ends point into the worker: it does not move. */
void tables_init(struct storage_worker *storage)
{
    storage->appends_last = &storage->appends;
    storage->refused_last = &storage->refused;
    storage->refuse_timer.fire = tell_refused;
}

/* Refusals that were not told yet are not told any more: the worker is being freed. */
void tables_free(struct storage_worker *storage)
{
    ASSERT(storage->appends == NULL); /* the log has answered them */
    io_timer_cancel(storage->config.loop, &storage->refuse_timer);
    while (storage->refused != NULL) {
        struct table_append *next = storage->refused->next;
        append_free(storage->refused);
        storage->refused = next;
    }
}
