/*
 * Reading a shard: a snapshot, then the changes. Entries and parts are kept alive by counting
 * references, so that a reader in the middle and a compaction do not wait for each other.
 *
 *     WAIT --upper passes as_of--> SNAPSHOT --merge done--> CHANGES      (resume begins in CHANGES)
 *
 * What a cursor returns is a function of the shard's history alone: chunks may be cut elsewhere
 * after a reconnect or a restart, the updates in [lower, upper) are the same. cursor_hold tells
 * compaction which times this reader still has to tell apart.
 *
 * A chunk points into memory of the reader's (storage_place) or of the cursor, or into an entry
 * that this holds until the next call. On the worker's loop only.
 */
#include "core/storage/cursor.h"

#include "core/storage/storage_internal.h"

enum { STEPS_PER_CALL = 16 };

uint64_t cursor_hold(const struct storage_cursor *cursor)
{
    ASSERT(cursor->phase <= CURSOR_CHANGES);
    return cursor->phase == CURSOR_CHANGES ? cursor->pos : cursor->as_of + 1;
}

void cursor_detach(struct storage_cursor *cursor)
{
    if (cursor->shard == NULL) {
        return;
    }
    ASSERT(*cursor->link == cursor);
    *cursor->link = cursor->next;
    if (cursor->next != NULL) {
        cursor->next->link = cursor->link;
    }
    cursor->shard = NULL;
    cursor->next = NULL;
    cursor->link = NULL;
}

/* Both a snapshot and a resume need the times at or beyond since to be told apart. */
static err_t check_open(const struct storage_shard *shard, uint64_t as_of, const uint64_t *resume)
{
    uint64_t from = resume != NULL ? *resume : as_of;
    if (from >= TIME_MAX) {
        return err_new(ERR_INVALID, "collection %llu cannot be read at time %llu",
                       (unsigned long long)shard->id, (unsigned long long)from);
    }
    if (from < shard->since) {
        return err_new(ERR_INVALID,
                       "collection %llu cannot be read at time %llu: since is %llu, upper is %llu",
                       (unsigned long long)shard->id, (unsigned long long)from,
                       (unsigned long long)shard->since, (unsigned long long)shard->upper);
    }
    return ERR_OK;
}

/* as_of may lie in the future: the snapshot comes when it is complete. */
err_t storage_cursor_open(struct storage_worker *storage, uint64_t id, uint64_t as_of,
                          const uint64_t *resume_from, struct storage_cursor **out)
{
    struct storage_shard *shard = u64map_get(&storage->shards, id);
    if (shard == NULL) {
        return err_new(ERR_NOT_FOUND, "collection %llu is not on storage worker %u",
                       (unsigned long long)id, storage->config.worker);
    }
    TRY(check_open(shard, as_of, resume_from));
    struct storage_cursor *c = MEM_NEW(struct storage_cursor);
    c->shard = shard;
    c->schema = schema_ref(shard->schema);
    c->as_of = as_of;
    if (resume_from != NULL) {
        c->phase = CURSOR_CHANGES;
        c->pos = *resume_from;
    }
    c->next = shard->cursors;
    c->link = &shard->cursors;
    if (c->next != NULL) {
        c->next->link = &c->next;
    }
    shard->cursors = c;
    ASSERT(cursor_hold(c) >= shard->since || resume_from == NULL);
    c->cols_cap = c->schema->cols > ERR_COLS ? c->schema->cols : ERR_COLS;
    c->cols = mem_alloc(c->cols_cap * sizeof(c->cols[0]));
    for (int s = 0; s < STREAMS; s++) {
        size_t len = 0;
        const uint8_t *kinds = schema_kinds(c->schema, s, &len);
        c->builder[s] = batch_builder_new(kinds, len);
    }
    *out = c;
    return ERR_OK;
}

/* Lets go of what the last chunk pointed to. */
static void release(struct storage_cursor *c)
{
    ASSERT(c->held == NULL || c->held->refs > 0);
    entry_unref(c->held);
    c->held = NULL;
    for (int s = 0; s < STREAMS; s++) {
        free(c->loaded[s]);
        c->loaded[s] = NULL;
        batch_builder_reset(c->builder[s]);
    }
}

void storage_cursor_close(struct storage_cursor *cursor)
{
    if (cursor == NULL) {
        return;
    }
    cursor_detach(cursor);
    release(cursor);
    if (cursor->phase == CURSOR_SNAPSHOT) {
        merge_free(&cursor->merge);
    }
    entry_unref(cursor->split);
    for (int s = 0; s < STREAMS; s++) {
        batch_builder_free(cursor->builder[s]);
        free(cursor->out[s]);
    }
    schema_unref(cursor->schema);
    free(cursor->cols);
    free(cursor);
}

/* ---- output ---------------------------------------------------------------------------------- */

/* Bytes the chunk would have now. */
static size_t built(const struct storage_cursor *c)
{
    size_t size = 0;
    for (int s = 0; s < STREAMS; s++) {
        size += batch_builder_rows(c->builder[s]) > 0 ? batch_builder_size(c->builder[s]) : 0;
    }
    return size;
}

static void set_stream(struct storage_chunk *out, int stream, const void *data, size_t len)
{
    ASSERT(data != NULL && len > 0);
    if (stream == STREAM_OK) {
        out->ok = data;
        out->ok_len = len;
    } else {
        out->err = data;
        out->err_len = len;
    }
}

/* The cursor's own memory for a batch, reused from chunk to chunk. */
static uint8_t *own_place(struct storage_cursor *c, int stream, size_t size)
{
    if (size > c->out_cap[stream]) {
        free(c->out[stream]);
        c->out[stream] = part_alloc(size);
        c->out_cap[stream] = size;
    }
    return c->out[stream];
}

/* Finishes what the builders hold into the chunk; nothing can fail behind it. */
static void finish(struct storage_cursor *c, struct storage_chunk *out)
{
    size_t sizes[STREAMS] = {0};
    uint8_t *at[STREAMS] = {0};
    for (int s = 0; s < STREAMS; s++) {
        sizes[s] = batch_builder_rows(c->builder[s]) > 0 ? batch_builder_size(c->builder[s]) : 0;
    }
    if (sizes[STREAM_OK] + sizes[STREAM_ERR] == 0) {
        return;
    }
    if (c->place != NULL) {
        c->place->take(c->place->arg, sizes[STREAM_OK], sizes[STREAM_ERR], &at[STREAM_OK],
                       &at[STREAM_ERR]);
    }
    for (int s = 0; s < STREAMS; s++) {
        if (sizes[s] > 0) {
            at[s] = at[s] != NULL ? at[s] : own_place(c, s, sizes[s]);
            batch_builder_finish(c->builder[s], at[s]);
            set_stream(out, s, at[s], sizes[s]);
        }
    }
}

/* ---- snapshot -------------------------------------------------------------------------------- */

/* The merge is begun when the upper passes as_of, not when the cursor is opened: until then updates
 * at as_of may come. */
static err_t next_snapshot(struct storage_cursor *c, size_t max_bytes, struct storage_chunk *out,
                           bool *more)
{
    const struct storage_shard *shard = c->shard;
    *out = (struct storage_chunk){.lower = c->as_of, .upper = c->as_of};
    if (c->phase == CURSOR_WAIT) {
        if (shard->upper <= c->as_of) {
            *more = false;
            return ERR_OK;
        }
        merge_init(&c->merge, shard, shard_find(shard, c->as_of + 1), c->as_of);
        /* A block of several times may straddle as_of. */
        size_t at = c->merge.entries_len;
        if (at < shard->entries_len && shard->entries[at]->lower <= c->as_of) {
            merge_free(&c->merge);
            merge_init(&c->merge, shard, at + 1, c->as_of);
        }
        c->phase = CURSOR_SNAPSHOT;
        ASSERT(c->merge.entries_len <= shard->entries_len);
    }
    bool done = false;
    *more = true;
    /* The chunk may stay empty for now: the worker has other things to do, too. */
    for (int step = 0; !done && step < STEPS_PER_CALL && built(c) < max_bytes; step++) {
        TRY(merge_step(&c->merge, c->builder, &done));
    }
    for (int s = 0; s < STREAMS; s++) {
        batch_builder_set_time(c->builder[s], c->as_of);
    }
    finish(c, out);
    if (done) {
        ASSERT(shard->upper > c->as_of);
        merge_free(&c->merge);
        c->phase = CURSOR_CHANGES;
        c->pos = c->as_of + 1;
        out->upper = c->pos;
    }
    return ERR_OK;
}

/* ---- changes --------------------------------------------------------------------------------- */

static size_t entry_len(const struct storage_entry *entry)
{
    return (size_t)entry->blob[STREAM_OK].len + entry->blob[STREAM_ERR].len;
}

/* The whole entry, in place. */
static err_t take_entry(struct storage_cursor *c, struct storage_entry *entry,
                        struct storage_chunk *out)
{
    struct batch batch;
    ASSERT(c->held == NULL);
    for (int s = 0; s < STREAMS; s++) {
        TRY(entry_open(entry, c->schema, s, c->cols, c->cols_cap, &batch, &c->loaded[s]));
        if (batch.rows > 0) {
            set_stream(out, s, batch.base, batch.size);
        }
    }
    c->held = entry_ref(entry);
    return ERR_OK;
}

/*
 * Rows of the entry at times in [pos, upper) to the builders. Several small entries make one chunk.
 * An entry of a delta part may hold several times, of which the reader has had some, or the last
 * ones are not published: then row by row.
 */
static err_t copy_entry(struct storage_cursor *c, struct storage_entry *entry, uint64_t upper)
{
    ASSERT(upper > c->pos && entry->upper > c->pos);
    struct batch batch;
    for (int s = 0; s < STREAMS; s++) {
        void *loaded = NULL;
        TRY(entry_open(entry, c->schema, s, c->cols, c->cols_cap, &batch, &loaded));
        if (batch.rows > 0 && entry->lower >= c->pos && entry->upper <= upper) {
            batch_builder_rows_of(c->builder[s], &batch, NULL, batch.rows);
        } else {
            for (uint32_t row = 0; row < batch.rows; row++) {
                uint64_t time = batch_time(&batch, row);
                if (time >= c->pos && time < upper) {
                    batch_builder_row(c->builder[s], &batch, row);
                }
            }
        }
        free(loaded);
    }
    return ERR_OK;
}

/*
 * A slice of an entry of one time that is bigger than a chunk. The chunk's upper stays at its lower
 * until the last slice: nothing is complete before.
 */
static err_t next_slice(struct storage_cursor *c, size_t max_bytes, struct storage_chunk *out)
{
    struct batch batch;
    void *loaded = NULL;
    ASSERT(c->split->lower >= c->pos && c->split_stream < STREAMS);
    TRY(entry_open(c->split, c->schema, c->split_stream, c->cols, c->cols_cap, &batch, &loaded));
    struct batch_builder *builder = c->builder[c->split_stream];
    /* Rows may be far from equally long. */
    for (size_t bytes = 0; c->split_row < batch.rows && bytes < max_bytes; c->split_row++) {
        bytes += shard_row_bytes(&batch, c->split_row);
        batch_builder_row(builder, &batch, c->split_row);
    }
    bool end = c->split_row == batch.rows;
    free(loaded);
    finish(c, out);
    if (end) {
        c->split_row = 0;
        c->split_stream++;
    }
    if (c->split_stream == STREAMS) {
        c->pos = c->split->upper;
        ASSERT(c->pos <= c->shard->upper);
        out->upper = c->pos;
        entry_unref(c->split);
        c->split = NULL;
    }
    return ERR_OK;
}

/* As many whole entries as fit. The chunk ends where the next entry begins, or at the upper: there
 * is nothing between. */
static err_t next_changes(struct storage_cursor *c, size_t max_bytes, struct storage_chunk *out,
                          bool *more)
{
    const struct storage_shard *shard = c->shard;
    uint64_t upper = shard->upper;
    *out = (struct storage_chunk){.lower = c->pos, .upper = c->pos};
    *more = c->split != NULL || c->pos < upper;
    if (c->split != NULL) {
        return next_slice(c, max_bytes, out);
    }
    if (!*more) {
        return ERR_OK;
    }
    size_t first = shard_find(shard, c->pos);
    ASSERT(first <= shard->entries_len);
    size_t end = first;
    size_t bytes = 0;
    while (end < shard->entries_len && shard->entries[end]->lower < upper &&
           (end == first || bytes + entry_len(shard->entries[end]) <= max_bytes)) {
        bytes += entry_len(shard->entries[end++]);
    }
    struct storage_entry *entry = end > first ? shard->entries[first] : NULL;
    bool whole = entry != NULL && entry->lower >= c->pos && entry->upper <= upper;
    if (bytes > max_bytes && whole && entry->upper == entry->lower + 1) {
        c->split = entry_ref(entry);
        c->split_stream = 0;
        c->split_row = 0;
        return next_slice(c, max_bytes, out);
    }
    if (end < shard->entries_len && shard->entries[end]->lower < upper) {
        upper = shard->entries[end]->lower;
    }
    if (end == first + 1 && whole) {
        TRY(take_entry(c, entry, out));
    } else {
        for (size_t i = first; i < end; i++) {
            TRY(copy_entry(c, shard->entries[i], upper));
        }
        finish(c, out);
    }
    ASSERT(upper > c->pos); /* every chunk is progress */
    out->upper = upper;
    c->pos = upper;
    return ERR_OK;
}

static err_t next(struct storage_cursor *cursor, size_t max_bytes, struct storage_chunk *out,
                  bool *more)
{
    *more = false;
    *out = (struct storage_chunk){.lower = cursor->pos, .upper = cursor->pos};
    if (cursor->shard == NULL) {
        return err_new(ERR_NOT_FOUND, "the collection was dropped");
    }
    if (cursor->phase == CURSOR_CHANGES) {
        return next_changes(cursor, max_bytes, out, more);
    }
    return next_snapshot(cursor, max_bytes, out, more);
}

err_t storage_cursor_next(struct storage_cursor *cursor, size_t max_bytes,
                          const struct storage_place *place, struct storage_chunk *out,
                          bool *more)
{
    ASSERT(cursor != NULL && max_bytes > 0 && cursor->place == NULL);
    release(cursor);
    cursor->place = place;
    err_t err = next(cursor, max_bytes, out, more);
    cursor->place = NULL;
    return err;
}

bool storage_cursor_skip(struct storage_cursor *cursor, uint64_t lower, uint64_t upper)
{
    ASSERT(lower < upper);
    if (cursor->shard == NULL || cursor->phase != CURSOR_CHANGES || cursor->split != NULL ||
        cursor->pos != lower) {
        return false;
    }
    ASSERT(upper <= cursor->shard->upper); /* somebody read it */
    release(cursor);
    cursor->pos = upper;
    return true;
}
