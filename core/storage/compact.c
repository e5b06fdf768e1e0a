/*
 * Compaction in the background, one shard at a time, in steps that do not hold the worker up. Two
 * kinds, which free the log of what they move:
 *
 *   fold   the entries below the shard's hold and the base become a new base, consolidated;
 *   spill  entries that cannot be folded yet (somebody still reads their times) but keep an old log
 *          segment alive are copied, with their times, to a delta part.
 *
 * The new part is synced, then the manifest naming it replaces the old one, then memory follows.
 * Until the manifest is durable the old part and the log stay; a crash leaves one or the other, and
 * what the manifest does not name is swept when the directory is opened.
 *
 *     begin -> turn* (step, write_block) -> finish -> part_synced -> manifest_written
 *           -> manifest_synced -> install                 (any error: give_up, tried again later)
 *
 * Meanwhile entries may be added behind `to`; those in [from, to) change for nobody else, because
 * only one compaction runs and only it replaces entries.
 */
#include "core/storage/merge.h"
#include "core/storage/storage_internal.h"

#include "core/base/hash.h"
#include "core/base/log.h"

#include <stdio.h>

enum {
    BLOCK_BYTES = 128 << 10,
    STEPS_PER_TURN = 8,
    FOLD_BYTES_MIN = 1 << 20,
    FOLD_ENTRIES_MIN = 1024,
    SEGMENTS_KEPT = 4, /* more of them: shards are made to let go of the oldest */
    DELTAS_MAX = 8,    /* more of them: a spill rewrites them all into one */
    FAILED_RETRY_US = 1000000,
};

/* The one under way. Its op is the only operation: a write of a block, or a sync. */
struct compaction {
    struct storage_worker *storage;
    struct storage_shard *shard;
    bool fold;
    size_t from; /* entries [from, to) are replaced; a fold starts at 0 */
    size_t to;
    uint64_t base_time; /* fold: all rows get it */
    struct merge merge; /* fold */
    size_t at;          /* spill: the next entry */
    bool done;          /* all rows are in the builders or written */
    struct batch_builder *builder[STREAMS];
    bool flushing;  /* spill: what the builders hold is a block each */
    uint64_t lower; /* spill: times of what the builders hold */
    uint64_t upper;
    struct batch_col *cols;
    size_t cols_cap;
    uint64_t number; /* of the new part */
    struct storage_file *file; /* NULL until there is a row */
    uint64_t rows; /* written so far */
    uint8_t *block; /* being written */
    struct storage_entry **made; /* spill: the new entries */
    size_t made_len;
    size_t made_cap;
    struct file_set files;
    uint64_t flushed_seq; /* the manifest's: log records below it are in parts */
    struct buf manifest;
    struct io_file *manifest_file;
    struct io_op op;
    struct io_timer timer;
};

static void turn(struct compaction *c);

static char *shard_path(const struct storage_shard *shard, const char *name)
{
    ASSERT(name != NULL && shard->dir != NULL);
    struct buf path = {0};
    buf_printf(&path, "%s/%s", shard->dir, name);
    buf_append_byte(&path, '\0');
    return (char *)path.data;
}

char *compaction_part_path(const struct storage_shard *shard, uint64_t number)
{
    char name[32];
    snprintf(name, sizeof(name), "%016llx.part", (unsigned long long)number);
    return shard_path(shard, name);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Closing waits for the operation under way, so the block may go. */
static void compaction_free(struct compaction *c)
{
    ASSERT(c->storage->compaction == c && c->shard->compacting);
    io_timer_cancel(c->storage->config.loop, &c->timer);
    if (c->manifest_file != NULL) {
        io_file_close(c->manifest_file);
    }
    if (c->fold) {
        merge_free(&c->merge);
    }
    for (size_t i = 0; i < c->made_len; i++) {
        entry_unref(c->made[i]);
    }
    storage_file_unref(c->file);
    for (int s = 0; s < STREAMS; s++) {
        batch_builder_free(c->builder[s]);
    }
    file_set_free(&c->files);
    buf_free(&c->manifest);
    c->shard->compacting = false;
    c->storage->compaction = NULL;
    free(c->block);
    free(c->cols);
    free(c->made);
    free(c);
}

/* Whatever was written so far is deleted, unless a manifest may name it. */
static void give_up(struct compaction *c, err_t err, bool named)
{
    ASSERT(err != ERR_OK && c->storage->compaction == c);
    LOG_WARN("storage", "compaction failed, will be tried again",
             LOG_U64("collection", c->shard->id), LOG_ERR(err));
    err_free(err);
    if (c->file != NULL) {
        c->file->obsolete = !named;
    }
    c->shard->compact_after_us = io_now_us(c->storage->config.loop) + FAILED_RETRY_US;
    compaction_free(c);
}

/* For a drop, or the worker's end. Between two callbacks nothing is half installed. */
void compaction_cancel(struct storage_worker *storage, const struct storage_shard *shard)
{
    struct compaction *c = storage->compaction;
    if (c != NULL && (shard == NULL || c->shard == shard)) {
        if (c->file != NULL) {
            /* Not named by a manifest: renaming and installing are one callback. */
            c->file->obsolete = true;
        }
        compaction_free(c);
    }
}

/*
 * Memory follows what the manifest says. A fold: the new base stands for the old one and the first
 * entries. A spill: the made entries stand for those in [from, to), with the same times, their
 * bytes elsewhere. A delta part whose entries are all gone is deleted with its last reader.
 */
static void install(struct compaction *c)
{
    struct storage_shard *shard = c->shard;
    struct storage_entry **with = NULL;
    ASSERT(shard->compacting && !shard->dropped && c->to <= shard->entries_len);
    ASSERT(c->flushed_seq >= shard->flushed_seq);
    size_t with_len = 0;
    ASSERT(c->from <= c->to);
    if (c->fold) {
        if (shard->base != NULL) {
            shard->base->file->obsolete = true;
        }
        base_unref(shard->base);
        shard->base = c->file != NULL ? base_new(c->file, c->base_time, c->rows) : NULL;
        shard->folded = c->base_time + 1;
        c->file = NULL;
    } else {
        with_len = c->from + c->made_len;
        with = mem_alloc(with_len * sizeof(with[0]));
        for (size_t i = 0; i < c->from; i++) {
            with[i] = entry_ref(shard->entries[i]);
        }
        memcpy(with + c->from, c->made, c->made_len * sizeof(with[0]));
        c->made_len = 0;
    }
    const struct storage_file *still =
        c->to < shard->entries_len ? shard->entries[c->to]->file : NULL;
    for (size_t i = c->from; i < c->to; i++) {
        struct storage_entry *entry = shard->entries[i];
        if (entry->seq == 0 && entry->file != still) {
            entry->file->obsolete = true; /* a delta part, now in another */
        }
    }
    shard_replace_entries(shard, c->to, with, with_len);
    free(with);
    shard->flushed_seq = c->flushed_seq;
    file_set_free(&shard->files_flushed);
    shard->files_flushed = c->files;
    c->files = (struct file_set){0};
    metric_add(c->storage->metrics.compactions, 1);
    compaction_free(c);
}

/* ---- the manifest ---------------------------------------------------------------------------- */

/* Entries of one part follow each other, so a part is named once. */
static void add_delta(struct manifest_part *deltas, uint32_t *len, const struct storage_file *file)
{
    ASSERT(file->number > 0 && file->size > 0);
    if (*len == 0 || deltas[*len - 1].number != file->number) {
        deltas[(*len)++] = (struct manifest_part){.number = file->number, .size = file->size};
    }
}

/*
 * What the shard will be once this is installed. flushed_seq says which records are in parts, and
 * it counts records, not shards: every record of this shard below it is in the base or a delta.
 * upper must not be beyond an entry that only the log has, and need not be exact: the log and the
 * lease say the rest.
 */
static void encode_manifest(struct compaction *c)
{
    const struct storage_shard *shard = c->shard;
    ASSERT(c->done && c->to <= shard->entries_len);
    struct manifest_part *deltas = mem_alloc((shard->entries_len + 1) * sizeof(deltas[0]));
    uint32_t deltas_len = 0;
    c->flushed_seq = shard->flushed_seq;
    file_set_copy(&shard->files_flushed, &c->files);
    uint64_t upper = shard->upper;
    for (size_t i = 0; i < shard->entries_len; i++) {
        const struct storage_entry *entry = shard->entries[i];
        if (i >= c->from && i < c->to) {
            c->flushed_seq = entry->seq != 0 ? entry->seq + 1 : c->flushed_seq;
            if (entry->files != NULL) {
                bool ok = file_set_apply(&c->files, entry->files, entry->files_len);
                ASSERT(ok);
            }
            if (!c->fold && i + 1 == c->to && c->file != NULL) {
                add_delta(deltas, &deltas_len, c->file);
            }
        } else if (entry->seq == 0) {
            add_delta(deltas, &deltas_len, entry->file);
        } else if (i == c->to) {
            upper = entry->lower; /* the log says the rest */
        }
    }
    if (upper == FRONTIER_EMPTY) {
        upper = shard->entries_len > 0 ? shard->entries[shard->entries_len - 1]->upper : 0;
    }
    struct manifest manifest = {.desc = shard->desc_bytes.data,
                                .desc_len = (uint32_t)shard->desc_bytes.len,
                                .since = shard->since,
                                .upper = upper,
                                .sealed = shard->sealed && c->to == shard->entries_len,
                                .folded = c->fold ? c->base_time + 1 : shard->folded,
                                .flushed_seq = c->flushed_seq,
                                .next_part = shard->next_part,
                                .deltas = deltas,
                                .deltas_len = deltas_len,
                                .files = c->files};
    const struct storage_file *base = c->fold             ? c->file
                                      : shard->base != NULL ? shard->base->file
                                                            : NULL;
    if (base != NULL) {
        manifest.base = (struct manifest_part){.number = base->number, .size = base->size};
        manifest.base_rows = c->fold ? c->rows : shard->base->rows;
    }
    manifest_encode(&manifest, &c->manifest);
    free(deltas);
}

/* The rename is the commit point. */
static void manifest_synced(struct io_op *op, err_t err, size_t result)
{
    struct compaction *c = CONTAINER_OF(op, struct compaction, op);
    struct io_loop *loop = c->storage->config.loop;
    io_file_close(c->manifest_file);
    c->manifest_file = NULL;
    if (err != ERR_OK) {
        give_up(c, err, false);
        return;
    }
    char *from = shard_path(c->shard, "manifest.tmp");
    char *to = shard_path(c->shard, "manifest");
    err = io_rename_sync(loop, from, to);
    free(from);
    free(to);
    if (err != ERR_OK) {
        give_up(c, err, false);
        return;
    }
    err = io_dir_sync_sync(loop, c->shard->dir);
    if (err != ERR_OK) {
        /* Which of the two a restart will find is not known: both stay possible. */
        give_up(c, err, true);
        return;
    }
    install(c);
}

static void manifest_written(struct io_op *op, err_t err, size_t result)
{
    struct compaction *c = CONTAINER_OF(op, struct compaction, op);
    ASSERT(err != ERR_OK || result == c->manifest.len);
    if (err != ERR_OK) {
        give_up(c, err, false);
        return;
    }
    c->op = (struct io_op){.done = manifest_synced};
    io_file_sync(c->manifest_file, &c->op);
}

/* The part is durable, its name will be with the manifest's: they share a directory. */
static void part_synced(struct io_op *op, err_t err, size_t result)
{
    struct compaction *c = CONTAINER_OF(op, struct compaction, op);
    ASSERT(c->done && c->block == NULL);
    char *path = shard_path(c->shard, "manifest.tmp");
    if (err == ERR_OK) {
        err = io_file_open(c->storage->config.loop, path,
                           IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &c->manifest_file);
    }
    free(path);
    if (err != ERR_OK) {
        give_up(c, err, false);
        return;
    }
    encode_manifest(c);
    c->op = (struct io_op){.done = manifest_written};
    io_file_write(c->manifest_file, 0, c->manifest.data, c->manifest.len, &c->op);
}

/* All rows are written. A fold that leaves no row has no part at all. */
static void finish(struct compaction *c)
{
    ASSERT(c->block == NULL && c->manifest_file == NULL);
    if (c->file == NULL) {
        part_synced(&c->op, ERR_OK, 0);
        return;
    }
    c->op = (struct io_op){.done = part_synced};
    io_file_sync(c->file->io, &c->op);
}

/* io_write_whole_sync makes the name durable, too. */
err_t compaction_create(struct storage_shard *shard)
{
    ASSERT(shard->entries_len == 0 && shard->base == NULL);
    struct io_loop *loop = shard->storage->config.loop;
    struct manifest manifest = {.desc = shard->desc_bytes.data,
                                .desc_len = (uint32_t)shard->desc_bytes.len,
                                .upper = shard->upper,
                                .flushed_seq = shard->flushed_seq,
                                .next_part = shard->next_part};
    struct buf bytes = {0};
    manifest_encode(&manifest, &bytes);
    char *path = shard_path(shard, "manifest");
    err_t err = io_mkdir_sync(loop, shard->dir, 0700);
    if (err == ERR_OK) {
        err = io_dir_sync_sync(loop, shard->storage->dir);
    }
    if (err == ERR_OK) {
        err = io_write_whole_sync(loop, path, bytes.data, bytes.len, 0600);
    }
    free(path);
    buf_free(&bytes);
    return err;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/*
 * A leftover of the same number cannot be: numbers of failed attempts are not used again in this
 * run, and the sweep has deleted those of earlier ones.
 */
static err_t open_file(struct compaction *c)
{
    char *path = compaction_part_path(c->shard, c->number);
    struct io_file *io = NULL;
    err_t err = io_file_open(c->storage->config.loop, path,
                             IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &io);
    if (err == ERR_OK) {
        c->file = storage_file_new(c->storage->config.loop, path, io, c->number, 0);
    }
    free(path);
    return err;
}

/*
 * The part is not synced yet: that comes once, at the end. The next piece of work begins where the
 * operation ended: no timer between.
 */
static void block_written(struct io_op *op, err_t err, size_t result)
{
    struct compaction *c = CONTAINER_OF(op, struct compaction, op);
    free(c->block);
    c->block = NULL;
    if (err != ERR_OK) {
        give_up(c, err, false);
        return;
    }
    turn(c);
}

/*
 * The new entry a block of a spill belongs to. Its ok and err blocks have the same times, and one
 * entry.
 */
static struct storage_entry *made_entry(struct compaction *c)
{
    ASSERT(!c->fold && c->lower < c->upper);
    if (c->made_len == 0 || c->made[c->made_len - 1]->lower != c->lower) {
        struct storage_entry *entry = entry_new(c->lower, c->upper);
        entry->file = storage_file_ref(c->file);
        *VEC_PUSH(c, made) = entry;
    }
    return c->made[c->made_len - 1];
}

/* Writes one stream's rows as a block; turn() goes on when it is written. */
static void write_block(struct compaction *c, enum storage_stream stream)
{
    struct batch_builder *builder = c->builder[stream];
    err_t err = c->file == NULL ? open_file(c) : ERR_OK;
    if (err != ERR_OK) {
        give_up(c, err, false);
        return;
    }
    if (c->fold) {
        batch_builder_set_time(builder, c->base_time);
    }
    size_t len = batch_builder_size(builder);
    ASSERT(len <= PART_BLOCK_MAX && c->block == NULL);
    struct part_block block = {.stream = stream,
                               .part = c->number,
                               .offset = c->file->size,
                               .len = (uint32_t)len,
                               .rows = batch_builder_rows(builder),
                               .lower = c->fold ? c->base_time : c->lower,
                               .upper = c->fold ? c->base_time + 1 : c->upper};
    size_t extent = part_block_extent(block.len);
    ASSERT(extent % BATCH_ALIGN == 0 && extent >= len + PART_BLOCK_HEADER);
    c->block = part_alloc(extent);
    memset(c->block + extent - BATCH_ALIGN, 0, BATCH_ALIGN);
    batch_builder_finish(builder, c->block + PART_BLOCK_HEADER);
    batch_builder_reset(builder);
    block.crc = hash_crc32c(0, c->block + PART_BLOCK_HEADER, len);
    part_block_encode(&block, c->block);
    c->rows += block.rows;
    if (!c->fold) {
        made_entry(c)->blob[stream] =
            (struct storage_blob){.offset = block.offset + PART_BLOCK_HEADER,
                                  .len = block.len,
                                  .crc = block.crc,
                                  .rows = block.rows};
    }
    c->file->size += extent;
    c->op = (struct io_op){.done = block_written};
    io_file_write(c->file->io, block.offset, c->block, extent, &c->op);
}

/* ---- steps ----------------------------------------------------------------------------------- */

/*
 * Bytes the rows gathered for a block would take. Zero when there is no row, although an empty
 * batch has a header.
 */
static size_t built(const struct compaction *c, int stream)
{
    ASSERT(stream == STREAM_OK || stream == STREAM_ERR);
    return batch_builder_rows(c->builder[stream]) > 0 ? batch_builder_size(c->builder[stream]) : 0;
}

/* Copies one entry of a spill to the builders. */
static err_t spill_entry(struct compaction *c)
{
    struct storage_entry *entry = c->shard->entries[c->at];
    ASSERT(c->at >= c->from && c->at < c->to);
    for (int s = 0; s < STREAMS; s++) {
        struct batch batch;
        void *loaded = NULL;
        TRY(entry_open(entry, c->shard->schema, s, c->cols, c->cols_cap, &batch, &loaded));
        if (batch.rows > 0) {
            batch_builder_rows_of(c->builder[s], &batch, NULL, batch.rows);
        }
        free(loaded);
    }
    if (c->lower == c->upper) {
        c->lower = entry->lower;
    }
    c->upper = entry->upper;
    c->at++;
    c->done = c->at == c->to;
    return ERR_OK;
}

/* Small entries share a block; a big one gets its own. */
static bool spill_full(const struct compaction *c)
{
    ASSERT(!c->fold && c->at <= c->to);
    size_t have = built(c, STREAM_OK) + built(c, STREAM_ERR);
    if (have == 0 || c->done) {
        return have > 0;
    }
    const struct storage_entry *next = c->shard->entries[c->at];
    return have + next->blob[STREAM_OK].len + next->blob[STREAM_ERR].len > BLOCK_BYTES;
}

/* A bounded piece of work towards the next block. */
static err_t step(struct compaction *c)
{
    return c->fold ? merge_step(&c->merge, c->builder, &c->done) : spill_entry(c);
}

/* The stream that has a block's worth of rows; STREAMS: none yet. The two blocks of a spill's entry
 * follow each other. */
static int full_stream(struct compaction *c)
{
    c->flushing = c->flushing || (!c->fold && spill_full(c));
    for (int s = 0; s < STREAMS; s++) {
        size_t size = built(c, s);
        if (c->fold ? size >= BLOCK_BYTES || (c->done && size > 0) : c->flushing && size > 0) {
            return s;
        }
    }
    c->flushing = false;
    return STREAMS;
}

static void turn_timer(struct io_timer *timer)
{
    turn(CONTAINER_OF(timer, struct compaction, timer));
}

/* Until a block is to be written, or for a bounded number of steps. */
static void turn(struct compaction *c)
{
    ASSERT(c->storage->compaction == c && c->block == NULL);
    int stream = full_stream(c);
    for (int i = 0; i < STEPS_PER_TURN && stream == STREAMS && !c->done; i++) {
        if (!c->fold && built(c, STREAM_OK) + built(c, STREAM_ERR) == 0) {
            c->lower = 0;
            c->upper = 0; /* a new block begins */
        }
        err_t err = step(c);
        if (err != ERR_OK) {
            give_up(c, err, false);
            return;
        }
        stream = full_stream(c);
    }
    if (stream != STREAMS) {
        write_block(c, stream);
    } else if (c->done) {
        finish(c);
    } else {
        io_timer_start(c->storage->config.loop, &c->timer, io_now_us(c->storage->config.loop));
    }
}

/* ---- choosing -------------------------------------------------------------------------------- */

static void begin(struct storage_shard *shard, bool fold, size_t from, size_t to, uint64_t hold)
{
    ASSERT(to <= shard->entries_len);
    struct storage_worker *storage = shard->storage;
    ASSERT(storage->compaction == NULL && !shard->compacting && from < to);
    ASSERT(!fold || (hold > 0 && hold <= shard->upper && hold <= shard->since));
    struct compaction *c = MEM_NEW(struct compaction);
    c->storage = storage;
    c->shard = shard;
    c->fold = fold;
    c->from = from;
    c->to = to;
    c->at = from;
    c->base_time = fold ? hold - 1 : 0;
    c->number = shard->next_part++;
    c->timer.fire = turn_timer;
    c->cols_cap = shard->schema->cols > ERR_COLS ? shard->schema->cols : ERR_COLS;
    c->cols = mem_alloc(c->cols_cap * sizeof(c->cols[0]));
    for (int s = 0; s < STREAMS; s++) {
        size_t len = 0;
        const uint8_t *kinds = schema_kinds(shard->schema, s, &len);
        c->builder[s] = batch_builder_new(kinds, len);
    }
    if (fold) {
        merge_init(&c->merge, shard, to, TIME_MAX);
    }
    shard->compacting = true;
    storage->compaction = c;
    io_timer_start(storage->config.loop, &c->timer, io_now_us(storage->config.loop));
}

/* What a shard looks like to compact_shard. */
struct shape {
    size_t foldable;  /* entries that may be folded */
    uint64_t bytes;   /* of them */
    size_t log_first; /* the first entry in the log */
    size_t log_old;   /* entries before this one are not in the newest segment */
    size_t deltas;    /* delta parts */
    bool pins;        /* keeps the oldest segment alive */
};

/* A walk over the entries; they are few, because a fold comes at FOLD_ENTRIES_MIN. */
static struct shape look_at(const struct storage_shard *shard, uint64_t hold)
{
    const struct wal *wal = shard->storage->wal;
    struct shape s = {.log_first = shard->entries_len};
    ASSERT(hold <= shard->upper);
    const struct storage_file *delta = NULL;
    for (size_t i = 0; i < shard->entries_len; i++) {
        const struct storage_entry *entry = shard->entries[i];
        if (entry->upper <= hold && s.foldable == i) {
            s.foldable = i + 1;
            s.bytes += entry->blob[STREAM_OK].len + entry->blob[STREAM_ERR].len;
        }
        if (entry->seq == 0) {
            s.deltas += entry->file != delta;
            delta = entry->file;
            continue;
        }
        s.log_first = i < s.log_first ? i : s.log_first;
        s.pins = s.pins || entry->file->number == wal_oldest_needed(wal);
        if (entry->file->number != wal_newest(wal)) {
            s.log_old = i + 1;
        }
    }
    return s;
}

/*
 * True when a compaction was begun. A fold is worth it when it moves a quarter of the base's size,
 * so that the work per byte ingested stays constant (the base is rewritten as a whole); or when
 * entries are so many that walking them costs. When the log is crowded, a shard that holds its
 * oldest segment lets go of it by whichever of the two is possible.
 */
static bool compact_shard(struct storage_shard *shard, bool crowded)
{
    /* Never beyond the upper: what comes later must not look folded. */
    uint64_t hold = shard_hold(shard);
    hold = hold < shard->upper ? hold : shard->upper;
    struct shape s = look_at(shard, hold);
    uint64_t base = shard->base != NULL ? shard->base->file->size : 0;
    bool relieve = crowded && s.pins;
    bool worth = s.foldable >= FOLD_ENTRIES_MIN || s.bytes >= FOLD_BYTES_MIN;
    bool fold = hold > 0 && s.foldable > 0 &&
                ((worth && s.bytes >= base / 4) || s.foldable >= 8 * FOLD_ENTRIES_MIN ||
                 (relieve && s.foldable > s.log_first && s.bytes >= base / 16));
    if (fold) {
        begin(shard, true, 0, s.foldable, hold);
    } else if (relieve && s.log_old > s.log_first) {
        begin(shard, false, s.deltas > DELTAS_MAX ? 0 : s.log_first, s.log_old, hold);
    }
    return shard->compacting;
}

/* From maintain, a few times a second. */
void compaction_look(struct storage_worker *storage)
{
    size_t segments = 0;
    size_t unneeded = 0;
    uint64_t bytes = 0;
    if (storage->compaction != NULL || wal_failed(storage->wal) != NULL) {
        return;
    }
    wal_segments(storage->wal, &segments, &unneeded, &bytes);
    bool crowded = segments - unneeded > SEGMENTS_KEPT;
    uint64_t now = io_now_us(storage->config.loop);
    for (size_t i = 0; i < storage->order_len; i++) {
        struct storage_shard *shard = storage->order[i];
        if (now >= shard->compact_after_us && shard->entries_len > 0 &&
            compact_shard(shard, crowded)) {
            return;
        }
    }
}
