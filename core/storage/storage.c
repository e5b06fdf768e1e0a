/*
 * The worker: opening and recovery, collections, uppers and their lease. The argument why what was
 * published survives everything is in README.md.
 *
 * Opening, in this order, because each step relies on the one before: take the epoch (a predecessor
 * that still runs acknowledges nothing from then on), read the manifests with their parts, replay
 * the log over them, settle the uppers at the leases, start the sources. Nothing is told to the
 * host before all of it is done.
 *
 * Time. Tables go by their writer's times (tables.c). Sources go by this worker's clock:
 * storage_stamp gives each commit a time of its own, at or beyond every upper published, and
 * follow_clock publishes the clock for the quiet ones. Neither passes its durable lease.
 *
 * Everything runs on the worker's loop.
 */
#include "core/storage/storage_internal.h"

#include "core/base/log.h"
#include "core/storage/cursor.h"
#include "core/storage/file_source.h"

#include <stdio.h>

enum {
    TICK_US_DEFAULT = 5000,
    SEGMENT_BYTES_DEFAULT = 64 << 20,
    TAIL_BYTES_DEFAULT = 64 << 20,
    EPOCH_BYTES_MAX = 64,
    LEASE_RECORD_BYTES = 16,
};

/* Frontiers and leases only move forward. */
static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- uppers and leases ----------------------------------------------------------------------- */

void storage_publish(struct storage_shard *shard, uint64_t upper)
{
    if (upper <= shard->upper || shard->dropped) {
        return;
    }
    ASSERT(shard->entries_len == 0 || shard->entries[shard->entries_len - 1]->upper <= upper);
    shard->upper = upper;
    const struct storage_config *config = &shard->storage->config;
    if (config->host->advanced != NULL && !shard->storage->recovering) {
        config->host->advanced(config->ctx, shard->id, upper);
    }
}

void storage_report(struct storage_shard *shard, enum storage_status status, const char *reason,
                    const char *hint)
{
    ASSERT(reason != NULL && hint != NULL && status <= STORAGE_DROPPED);
    shard->status = status;
    const struct storage_config *config = &shard->storage->config;
    if (config->host->status != NULL) {
        config->host->status(config->ctx, shard->id, status, reason, hint);
    }
}

/* The clock may stand still between two commits: one is added. */
uint64_t storage_stamp(struct storage_worker *storage)
{
    storage->stamped = max_u64(storage->stamped + 1, io_now_us(storage->config.loop));
    ASSERT(storage->stamped < TIME_MAX / 2);
    return storage->stamped;
}

/* Only now may uppers be published up to it. */
static void lease_done(struct wal_commit *commit, err_t err)
{
    struct storage_worker *storage = CONTAINER_OF(commit, struct storage_worker, lease);
    ASSERT(storage->lease_pending);
    storage->lease_pending = false;
    if (err != ERR_OK) {
        /* Asked for again with a later tick or advance; a full disk is told by the log. */
        storage->lease_after_us = io_now_us(storage->config.loop) + STORAGE_RETRY_US;
        err_free(err);
        return;
    }
    struct wal_context *durable = &storage->durable;
    ASSERT(storage->lease_sources > 0);
    durable->sources_lease = max_u64(durable->sources_lease, storage->lease_sources);
    durable->tables_lease = max_u64(durable->tables_lease, storage->lease_tables);
    tables_lease_grew(storage);
}

/* Not more than one under way: the next one asks for more anyway. */
void storage_renew_lease(struct storage_worker *storage)
{
    uint64_t now = io_now_us(storage->config.loop);
    ASSERT(!storage->recovering);
    if (storage->lease_pending || now < storage->lease_after_us ||
        wal_failed(storage->wal) != NULL) {
        return;
    }
    /* Tables go by their writer's clock alone: restarts must not push them ahead of it. */
    storage->lease_pending = true;
    storage->lease_sources = now + STORAGE_LEASE_US;
    storage->lease_tables = storage->tables_ahead == 0
                                ? storage->durable.tables_lease
                                : storage->tables_ahead + STORAGE_TABLES_LEASE_US;
    struct buf *out = wal_begin(storage->wal, LEASE_RECORD_BYTES);
    buf_append_u64(out, storage->lease_sources);
    buf_append_u64(out, storage->lease_tables);
    storage->lease = (struct wal_commit){.done = lease_done};
    wal_end(storage->wal, WAL_LEASE, &storage->lease);
}

static bool is_active(const struct storage_worker *storage, uint64_t now)
{
    return now < storage->active_us + STORAGE_ACTIVE_US;
}

/* Quiet sources, if any of their times have passed: follow the clock as far as the lease goes. */
static void follow_clock(struct storage_worker *storage, uint64_t now)
{
    ASSERT(!storage->recovering);
    uint64_t upper = now < storage->durable.sources_lease ? now : storage->durable.sources_lease;
    if (now + STORAGE_LEASE_US / 2 > storage->durable.sources_lease) {
        storage_renew_lease(storage);
    }
    storage->stamped = max_u64(storage->stamped, upper);
    for (size_t i = 0; i < storage->order_len; i++) {
        struct storage_shard *shard = storage->order[i];
        if (shard->desc.kind == STORAGE_FILE && !shard->sealed && shard->pending == 0 &&
            (shard->upper > 0 || file_source_looked(shard->source))) {
            storage_publish(shard, upper);
        }
    }
    metric_set(storage->metrics.lag_us, (int64_t)(now - upper));
}

/* Often while something happens, so that a join of a busy and a quiet source is as fresh as the
 * busy one; seldom else. */
static void tick(struct io_timer *timer)
{
    struct storage_worker *storage = CONTAINER_OF(timer, struct storage_worker, tick);
    uint64_t now = io_now_us(storage->config.loop);
    uint64_t idle_us = max_u64(storage->config.tick_us, STORAGE_IDLE_TICK_US);
    follow_clock(storage, now);
    io_timer_start(storage->config.loop, &storage->tick,
                   now + (is_active(storage, now) ? storage->config.tick_us : idle_us));
}

void storage_arm_tick(struct storage_worker *storage)
{
    for (size_t i = 0; i < storage->order_len && storage->tick.heap_at == 0; i++) {
        const struct storage_shard *shard = storage->order[i];
        if (shard->desc.kind == STORAGE_FILE && !shard->sealed) {
            io_timer_start(storage->config.loop, &storage->tick,
                           io_now_us(storage->config.loop));
        }
    }
}

void storage_wake(struct storage_worker *storage)
{
    ASSERT(storage->config.tick_us > 0);
    uint64_t now = io_now_us(storage->config.loop);
    bool was = is_active(storage, now);
    storage->active_us = now;
    if (!was && storage->tick.heap_at != 0) {
        io_timer_start(storage->config.loop, &storage->tick, now);
    }
    if (!was) {
        io_timer_start(storage->config.loop, &storage->maintain, now + STORAGE_MAINTAIN_US);
    }
}

void storage_active(struct storage_worker *storage)
{
    uint64_t now = io_now_us(storage->config.loop);
    const struct storage_config *config = &storage->config;
    ASSERT(!storage->recovering);
    storage_wake(storage);
    if (now >= storage->told_us + STORAGE_ACTIVE_US / 2 && config->host->active != NULL) {
        storage->told_us = now;
        config->host->active(config->ctx);
    }
}

/* The time below which all data of the shard lies. */
static uint64_t data_upper(const struct storage_shard *shard)
{
    ASSERT(shard->upper > 0 || shard->entries_len == 0);
    uint64_t upper = shard->folded > 0 ? shard->folded : 1;
    if (shard->entries_len > 0) {
        upper = max_u64(upper, shard->entries[shard->entries_len - 1]->upper);
    }
    return upper;
}

void storage_source_looked(struct storage_shard *shard)
{
    struct storage_worker *storage = shard->storage;
    if (shard->ready > 0 || shard->dropped) {
        return;
    }
    ASSERT(file_source_looked(shard->source));
    if (shard->pending == 0 && !shard->sealed) {
        follow_clock(storage, io_now_us(storage->config.loop));
    }
    shard->ready = data_upper(shard);
    const struct storage_config *config = &storage->config;
    if (config->host->advanced != NULL && !storage->recovering) {
        config->host->advanced(config->ctx, shard->id, shard->upper);
    }
}

/* Compaction and the gauges. */
static void maintain(struct io_timer *timer)
{
    struct storage_worker *storage = CONTAINER_OF(timer, struct storage_worker, maintain);
    size_t segments = 0;
    size_t unneeded = 0;
    uint64_t bytes = 0;
    uint64_t shard_total = 0;
    compaction_look(storage);
    wal_segments(storage->wal, &segments, &unneeded, &bytes);
    for (size_t i = 0; i < storage->order_len; i++) {
        shard_total += shard_bytes(storage->order[i]);
    }
    metric_set(storage->metrics.log_bytes, (int64_t)bytes);
    metric_set(storage->metrics.shard_bytes, (int64_t)shard_total);
    uint64_t now = io_now_us(storage->config.loop);
    bool busy = is_active(storage, now) || storage->compaction != NULL;
    io_timer_start(storage->config.loop, &storage->maintain,
                   now + (busy ? STORAGE_MAINTAIN_US : STORAGE_IDLE_MAINTAIN_US));
}

/* ---- the log's news -------------------------------------------------------------------------- */

/* Nothing is acknowledged any more; everybody concerned is told why. */
static void log_failed(void *ctx, const struct err *err)
{
    ASSERT(err != NULL);
    struct storage_worker *storage = ctx;
    for (size_t i = 0; i < storage->order_len; i++) {
        storage_report(storage->order[i], STORAGE_STALLED, err_message(err),
                       "The disk refused a write. Check it, then restart this process: everything "
                       "acknowledged is safe.");
    }
}

/* Tables are told of, too: their writers get an error for each append, and the status says why. */
static void log_full(void *ctx, bool full)
{
    struct storage_worker *storage = ctx;
    for (size_t i = 0; i < storage->order_len; i++) {
        struct storage_shard *shard = storage->order[i];
        if (full) {
            storage_report(shard, STORAGE_PAUSED, "no space left on the disk",
                           "Free some space: ingestion resumes by itself.");
        } else if (shard->status == STORAGE_PAUSED) {
            storage_report(shard, STORAGE_RUNNING, "", "");
        }
    }
}

/* ---- shards ---------------------------------------------------------------------------------- */

/*
 * Where a collection stands or belongs among those in order of id. New ones have the greatest ids,
 * but a walk over pointers is nothing beside making a directory.
 */
static size_t order_place(const struct storage_worker *storage, uint64_t id)
{
    size_t at = 0;
    while (at < storage->order_len && storage->order[at]->id < id) {
        at++;
    }
    return at;
}

static void add_shard(struct storage_worker *storage, struct storage_shard *shard)
{
    ASSERT(shard->storage == storage && !shard->dropped);
    size_t at = order_place(storage, shard->id);
    (void)VEC_PUSH(storage, order);
    memmove(&storage->order[at + 1], &storage->order[at],
            (storage->order_len - 1 - at) * sizeof(storage->order[0]));
    storage->order[at] = shard;
    ASSERT(at == 0 || storage->order[at - 1]->id < shard->id);
    struct storage_shard *old = u64map_put(&storage->shards, shard->id, shard);
    ASSERT(old == NULL);
}

static void remove_shard(struct storage_worker *storage, struct storage_shard *shard)
{
    ASSERT(storage->order_len > 0);
    size_t at = order_place(storage, shard->id);
    ASSERT(storage->order[at] == shard);
    memmove(&storage->order[at], &storage->order[at + 1],
            (storage->order_len - 1 - at) * sizeof(storage->order[0]));
    storage->order_len--;
    u64map_remove(&storage->shards, shard->id);
}

void storage_release_shard(struct storage_shard *shard)
{
    ASSERT(shard->storage != NULL);
    if (shard->dropped && shard->pending == 0) {
        u64map_remove(&shard->storage->dropping, shard->id);
        shard_free(shard);
    }
}

/* ---- recovery -------------------------------------------------------------------------------- */

/* Validates a batch of a record and keeps an aligned copy of it. */
static err_t recover_blob(const struct storage_shard *shard, int stream, uint64_t time,
                          const struct record_section *section, struct storage_blob *out)
{
    ASSERT(stream == STREAM_OK || stream == STREAM_ERR);
    *out = section->blob[stream];
    if (out->len == 0) {
        return ERR_OK;
    }
    out->data = part_alloc(out->len);
    ASSERT(section->data[stream] != NULL);
    memcpy(out->data, section->data[stream], out->len);
    size_t kinds_len = 0;
    const uint8_t *kinds = schema_kinds(shard->schema, stream, &kinds_len);
    struct batch_col *cols = mem_alloc(kinds_len * sizeof(*cols));
    struct batch batch;
    err_t err = batch_open(out->data, out->len, kinds, kinds_len, cols, kinds_len, &batch);
    if (err == ERR_OK && batch.rows != out->rows) {
        err = err_new(ERR_CORRUPT, "a batch has another number of rows than its record says");
    }
    for (uint32_t row = 0; err == ERR_OK && row < (batch.times != NULL ? batch.rows : 1); row++) {
        if (batch_time(&batch, row) != time) {
            err = err_new(ERR_CORRUPT, "a batch has other times than its record");
        }
    }
    free(cols);
    return err;
}

/*
 * One shard's share of a record becomes an entry, as when it was committed. A record whose times do
 * not follow those before, or whose file positions make no sense, was not written by us: damage
 * that the checksums did not see.
 */
static err_t recover_section(struct storage_shard *shard, const struct wal_record *wal_record,
                             const struct record *record, const struct record_section *section,
                             struct storage_file *file, uint64_t payload_offset)
{
    if (shard->entries_len > 0 && shard->entries[shard->entries_len - 1]->upper > record->time) {
        return err_new(ERR_CORRUPT, "times of collection %llu run backwards",
                       (unsigned long long)shard->id);
    }
    struct storage_entry *entry = entry_new(record->time, record->time + 1);
    err_t err = ERR_OK;
    for (int s = 0; s < STREAMS && err == ERR_OK; s++) {
        err = recover_blob(shard, s, record->time, section, &entry->blob[s]);
        entry->blob[s].offset += payload_offset;
    }
    struct file_set files = {0};
    if (err == ERR_OK && section->files_len > 0 &&
        !file_set_apply(&files, section->files, section->files_len)) {
        err = err_new(ERR_CORRUPT, "malformed file positions");
    }
    file_set_free(&files);
    if (err != ERR_OK) {
        entry_unref(entry);
        return err_wrap(err, "collection %llu", (unsigned long long)shard->id);
    }
    entry->seq = wal_record->seq;
    entry->file = storage_file_ref(file);
    entry->files_len = section->files_len;
    if (section->files_len > 0) {
        entry->files = mem_alloc(section->files_len);
        memcpy(entry->files, section->files, section->files_len);
    }
    shard_add_entry(shard, entry);
    shard->upper = record->time + 1;
    shard->sealed = shard->sealed || section->seal;
    return ERR_OK;
}

/* Sections of collections that are gone, or whose parts have them, are skipped. */
static err_t replay_append(struct storage_worker *storage, const struct wal_record *wal_record,
                           struct storage_file *file, uint64_t payload_offset)
{
    struct reader r = reader_of(wal_record->payload, wal_record->len);
    struct record record;
    TRY(record_open(&r, &record));
    for (uint32_t i = 0; i < record.sections; i++) {
        struct record_section section;
        TRY(record_next(&r, &section));
        struct storage_shard *shard = u64map_get(&storage->shards, section.id);
        /* Dropped since, or already in its parts. */
        if (shard == NULL || wal_record->seq < shard->flushed_seq) {
            continue;
        }
        TRY(recover_section(shard, wal_record, &record, &section, file, payload_offset));
    }
    if (reader_left(&r) != 0) {
        return err_new(ERR_CORRUPT, "malformed append record: bytes left over");
    }
    if (record.tables) {
        storage->tables_upper = max_u64(storage->tables_upper, record.time + 1);
        storage->durable.last_append = max_u64(storage->durable.last_append, record.time);
    }
    return ERR_OK;
}

/* A lease of the past says only how far uppers may have gone. */
static err_t replay(void *ctx, const struct wal_record *record, struct storage_file *file,
                    uint64_t payload_offset)
{
    struct storage_worker *storage = ctx;
    if (record->kind == WAL_APPEND) {
        return replay_append(storage, record, file, payload_offset);
    }
    ASSERT(record->kind == WAL_LEASE);
    struct reader r = reader_of(record->payload, record->len);
    uint64_t sources = reader_u64(&r);
    uint64_t tables = reader_u64(&r);
    if (r.failed || reader_left(&r) != 0 || sources > TIME_MAX / 2 ||
        tables > TIME_MAX / 2) {
        return err_new(ERR_CORRUPT, "malformed lease record");
    }
    storage->durable.sources_lease = max_u64(storage->durable.sources_lease, sources);
    storage->durable.tables_lease = max_u64(storage->durable.tables_lease, tables);
    return ERR_OK;
}

/* What sweep_part needs while a shard's directory is listed. */
struct entries_of_dir {
    struct storage_worker *storage;
    const struct manifest *manifest;
    const char *dir;
};

/* Deletes what the manifest does not name: left behind by a crash. */
static err_t sweep_part(void *arg, const char *name)
{
    struct entries_of_dir *dir = arg;
    unsigned long long number = 0;
    int end = 0;
    bool part = sscanf(name, "%16llx.part%n", &number, &end) == 1 && name[end] == '\0';
    bool named = part && number == dir->manifest->base.number;
    for (uint32_t i = 0; i < dir->manifest->deltas_len && part && !named; i++) {
        named = number == dir->manifest->deltas[i].number;
    }
    if (named || strcmp(name, "manifest") == 0) {
        return ERR_OK;
    }
    struct buf path = {0};
    buf_printf(&path, "%s/%s", dir->dir, name);
    LOG_INFO("storage", "deleted a leftover", LOG_STR("path", buf_cstr(&path)));
    err_t err = io_unlink_sync(dir->storage->config.loop, buf_cstr(&path));
    buf_free(&path);
    return err;
}

/* A part of at least the size the manifest says; what is beyond was never named. */
static err_t open_part(struct storage_shard *shard, const struct manifest_part *part,
                       struct storage_file **out)
{
    ASSERT(part->number > 0 && part->number < shard->next_part);
    char *path = compaction_part_path(shard, part->number);
    struct io_file *io = NULL;
    uint64_t size = 0;
    err_t err = io_file_open(shard->storage->config.loop, path, IO_OPEN_READ, &io);
    if (err == ERR_OK) {
        err = io_file_size_sync(io, &size);
        if (err == ERR_OK && size < part->size) {
            err = err_new(ERR_CORRUPT, "%s: %llu bytes instead of %llu", path,
                          (unsigned long long)size, (unsigned long long)part->size);
        }
        if (err != ERR_OK) {
            io_file_close(io);
        }
    } else if (err_code(err) == ERR_NOT_FOUND) {
        err_free(err);
        err = err_new(ERR_CORRUPT, "%s is missing", path);
    }
    if (err == ERR_OK) {
        *out = storage_file_new(shard->storage->config.loop, path, io, part->number, part->size);
    }
    free(path);
    return err;
}

/* One block: it begins an entry, or is the err block that follows an entry's ok block. */
static err_t recover_block(struct storage_shard *shard, struct storage_file *file,
                           const struct part_block *block)
{
    ASSERT(block->stream < STREAMS && file->refs > 0);
    size_t len = shard->entries_len;
    struct storage_entry *last = len > 0 ? shard->entries[len - 1] : NULL;
    if (block->upper <= shard->folded) {
        return ERR_OK; /* in the base by now */
    }
    bool second = block->stream == STREAM_ERR && last != NULL && last->file == file &&
                  last->lower == block->lower && last->upper == block->upper;
    bool bad = block->lower >= block->upper || block->upper > TIME_MAX / 2;
    bool backwards = last != NULL && !second && block->lower < last->upper;
    if (bad || backwards || (second && last->blob[STREAM_ERR].len != 0)) {
        return err_new(ERR_CORRUPT, "%s: block out of order at offset %llu", file->path,
                       (unsigned long long)block->offset);
    }
    struct storage_entry *entry = last;
    if (!second) {
        entry = entry_new(block->lower, block->upper);
        entry->file = storage_file_ref(file);
    }
    entry->blob[block->stream] =
        (struct storage_blob){.offset = block->offset + PART_BLOCK_HEADER,
                              .len = block->len,
                              .crc = block->crc,
                              .rows = block->rows};
    shard->upper = max_u64(shard->upper, block->upper);
    if (!second) {
        shard_add_entry(shard, entry);
    } else {
        shard->entry_rows += block->rows;
        shard->entry_bytes += block->len;
    }
    return ERR_OK;
}

/*
 * The blocks of a delta part become entries whose bytes stay on disk. Only headers are read: the
 * bytes are checked when somebody reads them.
 */
static err_t recover_delta(struct storage_shard *shard, const struct manifest_part *part)
{
    struct storage_file *file = NULL;
    TRY(open_part(shard, part, &file));
    err_t err = ERR_OK;
    for (uint64_t at = 0; at < file->size && err == ERR_OK;) {
        struct part_block block;
        err = part_read_header(file, at, &block);
        if (err == ERR_OK) {
            err = recover_block(shard, file, &block);
            at += part_block_extent(block.len);
        }
    }
    storage_file_unref(file);
    return err;
}

/* What the manifest names must be there; what it does not name goes. */
static err_t recover_parts(struct storage_shard *shard, const struct manifest *manifest)
{
    if (manifest->base.number != 0) {
        struct storage_file *file = NULL;
        TRY(open_part(shard, &manifest->base, &file));
        shard->base = base_new(file, manifest->folded - 1, manifest->base_rows);
    }
    for (uint32_t i = 0; i < manifest->deltas_len; i++) {
        TRY(recover_delta(shard, &manifest->deltas[i]));
    }
    struct entries_of_dir sweep = {
        .storage = shard->storage, .manifest = manifest, .dir = shard->dir};
    return io_dir_list_sync(shard->storage->config.loop, shard->dir, sweep_part, &sweep);
}

/*
 * The shard is known to the worker before its parts are read, so that storage_free finds it
 * whatever happens.
 */
static err_t recover_manifest(struct storage_worker *storage, uint64_t id, const uint8_t *data,
                              size_t len)
{
    struct arena arena = {0};
    struct manifest manifest = {0};
    struct storage_collection desc;
    struct storage_shard *shard = NULL;
    err_t err = manifest_decode(data, len, &arena, &manifest);
    if (err == ERR_OK) {
        err = description_decode(manifest.desc, manifest.desc_len, &arena, &desc);
    }
    if (err == ERR_OK && desc.id != id) {
        err = err_new(ERR_CORRUPT, "the manifest is another collection's");
    }
    if (err == ERR_OK) {
        struct buf desc_bytes = {.data = (uint8_t *)manifest.desc, .len = manifest.desc_len};
        shard = shard_new(storage, &desc, &desc_bytes);
        shard->since = manifest.since;
        shard->upper = manifest.upper;
        shard->sealed = manifest.sealed;
        shard->folded = manifest.folded;
        shard->flushed_seq = manifest.flushed_seq;
        shard->next_part = manifest.next_part;
        file_set_copy(&manifest.files, &shard->files_flushed);
        add_shard(storage, shard);
        err = recover_parts(shard, &manifest);
    }
    file_set_free(&manifest.files);
    arena_free(&arena);
    return err;
}

/* A directory named by a number holds a shard, when it has a manifest. */
static err_t recover_shard(void *arg, const char *name)
{
    struct storage_worker *storage = arg;
    unsigned long long id = 0;
    int end = 0;
    if (sscanf(name, "%20llu%n", &id, &end) != 1 || name[end] != '\0') {
        return ERR_OK;
    }
    struct buf path = {0};
    uint8_t *data = NULL;
    size_t len = 0;
    /* A predecessor may have been killed between a rename or removal and its sync. */
    buf_printf(&path, "%s/%s", storage->dir, name);
    err_t err = io_dir_sync_sync(storage->config.loop, buf_cstr(&path));
    if (err == ERR_OK) {
        buf_append_str(&path, "/manifest");
        err = io_read_whole_sync(storage->config.loop, buf_cstr(&path), MANIFEST_BYTES_MAX, &data,
                                 &len);
    }
    if (err != ERR_OK && err_code(err) == ERR_NOT_FOUND) {
        err_free(err); /* never completed, or dropped */
        err = ERR_OK;
    } else if (err == ERR_OK) {
        err = err_wrap(recover_manifest(storage, id, data, len), "%s", buf_cstr(&path));
        free(data);
    }
    buf_free(&path);
    return err;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Refuses a directory of a newer epoch; else makes it ours, before anything in it is read. */
static err_t take_epoch(struct storage_worker *storage, const char *path)
{
    uint8_t *data = NULL;
    size_t len = 0;
    unsigned long long theirs = 0;
    err_t err = io_read_whole_sync(storage->config.loop, path, EPOCH_BYTES_MAX, &data, &len);
    if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND) {
        return err;
    }
    if (err == ERR_OK) {
        char *text = mem_strndup((char *)data, len);
        int end = 0;
        bool ok = sscanf(text, "epoch %llu\n%n", &theirs, &end) == 1 && (size_t)end == len;
        free(text);
        free(data);
        if (!ok) {
            return err_new(ERR_CORRUPT, "%s: malformed", path);
        }
    }
    err_free(err);
    if (theirs > storage->config.epoch) {
        return err_new(ERR_FENCED, "%s belongs to epoch %llu, ours is %llu", storage->dir, theirs,
                       (unsigned long long)storage->config.epoch);
    }
    /* Written also when the epoch is the same: a process that still runs sees the new file. */
    struct buf text = {0};
    buf_printf(&text, "epoch %llu\n", (unsigned long long)storage->config.epoch);
    err = io_write_whole_sync(storage->config.loop, path, text.data, text.len, 0600);
    buf_free(&text);
    return err;
}

/* The log's own directory is durable before a segment's name is made durable in it. */
static err_t open_log(struct storage_worker *storage, const char *epoch_path)
{
    struct buf dir = {0};
    buf_printf(&dir, "%s/log", storage->dir);
    const struct wal_config config = {.loop = storage->config.loop,
                                      .dir = buf_cstr(&dir),
                                      .epoch_path = epoch_path,
                                      .epoch = storage->config.epoch,
                                      .segment_bytes = storage->config.segment_bytes,
                                      .context = &storage->durable,
                                      .replay = replay,
                                      .failed = log_failed,
                                      .full = log_full,
                                      .ctx = storage,
                                      .sync_seconds = storage->metrics.sync_seconds,
                                      .commits = storage->metrics.commits,
                                      .bytes = storage->metrics.bytes};
    err_t err = io_mkdir_sync(storage->config.loop, config.dir, 0700);
    if (err == ERR_OK) {
        err = io_dir_sync_sync(storage->config.loop, storage->dir);
    }
    if (err == ERR_OK) {
        err = wal_open(&config, &storage->wal);
    }
    buf_free(&dir);
    return err;
}

/* Uppers go on where no reader can have seen them: at the leases. */
static err_t settle_uppers(struct storage_worker *storage)
{
    ASSERT(storage->wal != NULL);
    uint64_t sources = storage->durable.sources_lease;
    uint64_t tables = max_u64(storage->tables_upper, storage->durable.tables_lease);
    for (size_t i = 0; i < storage->order_len; i++) {
        const struct storage_shard *shard = storage->order[i];
        if (shard->flushed_seq > wal_durable_seq(storage->wal)) {
            return err_new(ERR_CORRUPT, "%s: the log ends before what the parts hold", shard->dir);
        }
        if (shard->desc.kind == STORAGE_TABLE) {
            tables = max_u64(tables, shard->upper);
        } else {
            sources = max_u64(sources, shard->upper);
        }
    }
    ASSERT(tables >= storage->tables_upper);
    ASSERT(sources >= storage->durable.sources_lease);
    storage->tables_upper = tables;
    storage->tables_next = tables;
    storage->stamped = sources;
    for (size_t i = 0; i < storage->order_len; i++) {
        struct storage_shard *shard = storage->order[i];
        uint64_t upper = shard->desc.kind == STORAGE_TABLE ? tables : sources;
        shard->upper = shard->sealed ? FRONTIER_EMPTY : upper;
    }
    return ERR_OK;
}

static void register_metrics(struct storage_worker *storage)
{
    struct metrics_registry *r = storage->config.metrics;
    struct storage_metrics *m = &storage->metrics;
    struct buf labels = {0};
    buf_printf(&labels, "worker=\"%u\"", storage->config.worker);
    const char *l = buf_cstr(&labels);
    m->rows = metric_counter(r, "tailrace_storage_appended_rows_total", l,
                             "Updates made durable in shards.");
    m->bytes = metric_counter(r, "tailrace_storage_log_written_bytes_total", l,
                              "Bytes of commit groups written to the log.");
    m->commits = metric_counter(r, "tailrace_storage_commits_total", l,
                                "Commit groups made durable.");
    m->sync_seconds = metric_histogram(r, "tailrace_storage_commit_seconds", l,
                                       "Time to write and sync a commit group.");
    m->log_bytes = metric_gauge(r, "tailrace_storage_log_bytes", l, "Size of the log on disk.");
    m->shard_bytes = metric_gauge(r, "tailrace_storage_shard_bytes", l,
                                  "Size of what shards hold, in parts and log.");
    m->lag_us = metric_gauge(r, "tailrace_storage_upper_lag", l,
                             "Clock minus the upper of quiet sources, microseconds.");
    m->compactions = metric_counter(r, "tailrace_storage_compactions_total", l,
                                    "Compactions completed.");
    buf_free(&labels);
}

/* After all is recovered, so that no source sees half a worker. */
static void start_sources(struct storage_worker *storage)
{
    for (size_t i = 0; i < storage->order_len; i++) {
        struct storage_shard *shard = storage->order[i];
        if (shard->desc.kind == STORAGE_FILE && !shard->sealed) {
            shard->source = file_source_new(shard);
        } else {
            shard->ready = data_upper(shard);
            storage_report(shard, STORAGE_RUNNING, "", "");
        }
    }
    storage_arm_tick(storage);
}

/* "/a" of "/a/b", "." of "b": free() it. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return mem_strdup(".");
    }
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

/*
 * Makes the worker's directory and the ones above it, durably. The epoch file is written later, so
 * where there is one this was done before.
 */
static err_t make_directory(struct storage_worker *storage, const char *epoch_path)
{
    struct io_loop *loop = storage->config.loop;
    struct io_stat st;
    err_t err = io_stat_sync(loop, epoch_path, &st);
    if (err == ERR_OK || err_code(err) != ERR_NOT_FOUND) {
        return err;
    }
    err_free(err);
    err = ERR_OK;
    TRY(io_mkdir_sync(loop, storage->dir, 0700));
    char *path = mem_strdup(storage->dir);
    for (bool top = false; !top && err == ERR_OK;) {
        char *parent = parent_of(path);
        top = strcmp(parent, path) == 0 || strcmp(parent, ".") == 0;
        err = io_dir_sync_sync(loop, parent);
        if (err != ERR_OK && err_code(err) == ERR_PERMISSION) {
            err_free(err); /* not ours, so we did not make anything in it */
            err = ERR_OK;
            top = true;
        }
        free(path);
        path = parent;
    }
    free(path);
    return err;
}

/* See the head for the order. */
static err_t open_directory(struct storage_worker *storage)
{
    struct buf epoch_path = {0};
    buf_printf(&epoch_path, "%s/epoch", storage->dir);
    err_t err = make_directory(storage, buf_cstr(&epoch_path));
    if (err == ERR_OK) {
        err = take_epoch(storage, buf_cstr(&epoch_path));
    }
    if (err == ERR_OK) {
        err = io_dir_list_sync(storage->config.loop, storage->dir, recover_shard, storage);
    }
    if (err == ERR_OK) {
        err = open_log(storage, buf_cstr(&epoch_path));
    }
    if (err == ERR_OK) {
        err = settle_uppers(storage);
    }
    buf_free(&epoch_path);
    return err;
}

/* On an error nothing is left but what a crash would leave. */
err_t storage_open(const struct storage_config *config, struct storage_worker **out)
{
    ASSERT(config->loop != NULL && config->host != NULL && config->directory != NULL);
    ASSERT(config->workers > 0 && config->worker < config->workers);
    struct storage_worker *storage = MEM_NEW(struct storage_worker);
    storage->config = *config;
    storage->dir = mem_strdup(config->directory);
    ASSERT(storage->dir[0] != '\0');
    for (size_t len = strlen(storage->dir); len > 1 && storage->dir[len - 1] == '/'; len--) {
        storage->dir[len - 1] = '\0';
    }
    storage->config.directory = storage->dir;
    storage->config.tick_us = config->tick_us != 0 ? config->tick_us : TICK_US_DEFAULT;
    storage->config.segment_bytes =
        config->segment_bytes != 0 ? config->segment_bytes : SEGMENT_BYTES_DEFAULT;
    if (storage->config.segment_bytes <= WAL_ALIGN) {
        storage->config.segment_bytes = WAL_ALIGN + 1;
    }
    storage->config.memory_tail_bytes =
        config->memory_tail_bytes != 0 ? config->memory_tail_bytes : TAIL_BYTES_DEFAULT;
    storage->tick.fire = tick;
    storage->maintain.fire = maintain;
    storage->own_metrics = config->metrics == NULL;
    if (storage->own_metrics) {
        storage->config.metrics = metrics_registry_new();
    }
    register_metrics(storage);
    tables_init(storage);
    storage->recovering = true;
    err_t err = open_directory(storage);
    storage->recovering = false;
    if (err != ERR_OK) {
        storage_free(storage);
        return err_wrap(err, "storage of worker %u in %s", config->worker, config->directory);
    }
    start_sources(storage);
    io_timer_start(config->loop, &storage->maintain, io_now_us(config->loop) + STORAGE_MAINTAIN_US);
    *out = storage;
    return ERR_OK;
}

/*
 * Sources stop before the log goes, so that what it answers starts nothing; the log goes before the
 * shards, because its answers name them.
 */
void storage_free(struct storage_worker *storage)
{
    if (storage == NULL) {
        return;
    }
    io_timer_cancel(storage->config.loop, &storage->tick);
    io_timer_cancel(storage->config.loop, &storage->maintain);
    compaction_cancel(storage, NULL);
    for (size_t i = 0; i < storage->order_len; i++) {
        file_source_stop(storage->order[i]->source);
    }
    wal_free(storage->wal);
    tables_free(storage);
    for (size_t i = 0; i < storage->order_len; i++) {
        while (storage->order[i]->cursors != NULL) {
            cursor_detach(storage->order[i]->cursors);
        }
        shard_free(storage->order[i]);
    }
    u64map_free(&storage->shards);
    ASSERT(storage->dropping.len == 0);
    u64map_free(&storage->dropping);
    if (storage->own_metrics) {
        metrics_registry_free(storage->config.metrics);
    }
    free(storage->order);
    free(storage->dir);
    free(storage);
}

/* ---- collections ----------------------------------------------------------------------------- */

/* The controller checked it, too; it is a message from another process. */
static err_t check_description(const struct storage_collection *desc)
{
    if (desc->cols == 0 || desc->cols > BATCH_COLS_MAX) {
        return err_new(ERR_INVALID, "collection %llu has %zu columns",
                       (unsigned long long)desc->id, desc->cols);
    }
    if (desc->kind == STORAGE_TABLE) {
        return ERR_OK;
    }
    return file_source_check(desc);
}

/*
 * The manifest makes the collection exist: it is durable before this returns, so a crash afterwards
 * cannot make the id free for another description.
 */
err_t storage_run(struct storage_worker *storage, const struct storage_collection *collection)
{
    TRY(check_description(collection));
    struct buf desc = {0};
    description_encode(collection, &desc);
    struct storage_shard *shard = u64map_get(&storage->shards, collection->id);
    if (shard != NULL) {
        bool same = shard->desc_bytes.len == desc.len &&
                    memcmp(shard->desc_bytes.data, desc.data, desc.len) == 0;
        buf_free(&desc);
        return same ? ERR_OK
                    : err_new(ERR_EXISTS, "collection %llu exists with another description",
                              (unsigned long long)collection->id);
    }
    if (u64map_get(&storage->dropping, collection->id) != NULL) {
        buf_free(&desc);
        return err_new(ERR_UNAVAILABLE, "collection %llu is still being dropped",
                       (unsigned long long)collection->id);
    }
    shard = shard_new(storage, collection, &desc);
    buf_free(&desc);
    bool table = collection->kind == STORAGE_TABLE;
    shard->upper = table ? storage->tables_upper : 0;
    shard->ready = table ? 1 : 0;
    shard->flushed_seq = wal_durable_seq(storage->wal);
    err_t err = compaction_create(shard);
    if (err != ERR_OK) {
        shard_free(shard);
        return err_wrap(err, "creating collection %llu", (unsigned long long)collection->id);
    }
    add_shard(storage, shard);
    if (table) {
        storage_report(shard, STORAGE_RUNNING, "", "");
    } else {
        shard->source = file_source_new(shard);
        storage_arm_tick(storage);
    }
    return ERR_OK;
}

/* Names are gathered first: a directory is not changed while it is listed. */
static err_t note_file(void *arg, const char *name)
{
    buf_append(arg, name, strlen(name) + 1);
    return ERR_OK;
}

/* The manifest goes first, durably: from then on the collection does not exist. */
static err_t delete_files(struct storage_shard *shard)
{
    ASSERT(!shard->compacting);
    struct io_loop *loop = shard->storage->config.loop;
    struct buf path = {0};
    buf_printf(&path, "%s/manifest", shard->dir);
    err_t err = io_unlink_sync(loop, buf_cstr(&path));
    if (err == ERR_OK) {
        err = io_dir_sync_sync(loop, shard->dir);
    }
    struct buf names = {0};
    if (err == ERR_OK) {
        err = io_dir_list_sync(loop, shard->dir, note_file, &names);
    }
    for (size_t at = 0; at < names.len && err == ERR_OK;) {
        const char *name = (const char *)names.data + at;
        buf_clear(&path);
        buf_printf(&path, "%s/%s", shard->dir, name);
        err = io_unlink_sync(loop, buf_cstr(&path));
        at += strlen(name) + 1;
    }
    buf_free(&names);
    buf_free(&path);
    return err;
}

/*
 * After the manifest is gone there is no way back, so what can fail comes first. A commit under way
 * keeps the shard alive in `dropping` until the log has answered it.
 */
static err_t drop(struct storage_worker *storage, struct storage_shard *shard)
{
    ASSERT(!shard->dropped);
    compaction_cancel(storage, shard);
    TRY(delete_files(shard));
    file_source_stop(shard->source);
    while (shard->cursors != NULL) {
        cursor_detach(shard->cursors);
    }
    remove_shard(storage, shard);
    storage_report(shard, STORAGE_DROPPED, "", "");
    shard->dropped = true;
    ASSERT(shard->cursors == NULL);
    u64map_put(&storage->dropping, shard->id, shard);
    storage_release_shard(shard);
    return ERR_OK;
}

/* NULL with an error for a user, or the shard. */
static struct storage_shard *find(const struct storage_worker *storage, uint64_t id, err_t *err)
{
    struct storage_shard *shard = u64map_get(&storage->shards, id);
    *err = shard != NULL ? ERR_OK
                         : err_new(ERR_NOT_FOUND, "collection %llu is not on storage worker %u",
                                   (unsigned long long)id, storage->config.worker);
    return shard;
}

err_t storage_allow_compaction(struct storage_worker *storage, uint64_t id, uint64_t since)
{
    err_t err = ERR_OK;
    struct storage_shard *shard = find(storage, id, &err);
    if (shard == NULL) {
        return err;
    }
    if (since == FRONTIER_EMPTY) {
        return err_wrap(drop(storage, shard), "dropping collection %llu", (unsigned long long)id);
    }
    shard->since = max_u64(shard->since, since);
    return ERR_OK;
}

err_t storage_frontiers(const struct storage_worker *storage, uint64_t id, uint64_t *since,
                        uint64_t *upper)
{
    err_t err = ERR_OK;
    const struct storage_shard *shard = find(storage, id, &err);
    if (shard != NULL) {
        *since = shard->since;
        *upper = shard->upper;
    }
    return err;
}

uint64_t storage_ready(const struct storage_worker *storage, uint64_t id)
{
    const struct storage_shard *shard = u64map_get(&storage->shards, id);
    return shard != NULL ? shard->ready : 0;
}

void storage_collections(const struct storage_worker *storage,
                         void (*each)(void *arg, uint64_t id, uint64_t since, uint64_t upper,
                                      uint64_t rows, uint64_t bytes),
                         void *arg)
{
    for (size_t i = 0; i < storage->order_len; i++) {
        const struct storage_shard *shard = storage->order[i];
        each(arg, shard->id, shard->since, shard->upper, shard_rows(shard), shard_bytes(shard));
    }
}
