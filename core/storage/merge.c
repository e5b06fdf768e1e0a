/*
 * Base and entries added up: see merge.h.
 *
 *     entries --read_entry--> multiset (row -> sum)          phase 1: merge_reading
 *     base blocks --read_block--> each row plus its sum      phase 2: output in the base's order
 *     what is left of the multiset --emit_rest-->            phase 3: rows the base does not have
 *
 * A row stands in the base at most once, because a base is the output of a merge; so taking its sum
 * out of the multiset once is right. Rows whose sum is zero are left out. Each step is bounded, in
 * rows and bytes, because the loop has other work.
 */
#include "core/storage/merge.h"

/* A step ends with the first of them: many short rows take time, a few long ones make a chunk or a
 * block too big for those who take the output. */
enum { ROWS_PER_STEP = 2048, BYTES_PER_STEP = 128 << 10 };

/* The base lies wholly at or before as_of: compaction folds only below what readers hold. */
void merge_init(struct merge *merge, const struct storage_shard *shard, size_t entries_len,
                uint64_t as_of)
{
    ASSERT(entries_len <= shard->entries_len);
    ASSERT(shard->base == NULL || shard->base->time <= as_of);
    *merge = (struct merge){.as_of = as_of, .entries_len = entries_len};
    merge->schema = schema_ref(shard->schema);
    merge->base = shard->base != NULL ? base_ref(shard->base) : NULL;
    merge->entries = mem_alloc(entries_len * sizeof(merge->entries[0]));
    for (size_t i = 0; i < entries_len; i++) {
        merge->entries[i] = entry_ref(shard->entries[i]);
    }
    merge->cols_cap = merge->schema->cols > ERR_COLS ? merge->schema->cols : ERR_COLS;
    merge->cols = mem_alloc(merge->cols_cap * sizeof(merge->cols[0]));
    for (int s = 0; s < STREAMS; s++) {
        size_t len = 0;
        const uint8_t *kinds = schema_kinds(merge->schema, s, &len);
        multiset_init(&merge->set[s], kinds, len);
    }
}

/* Also in the middle, and twice. */
void merge_free(struct merge *merge)
{
    for (size_t i = 0; i < merge->entries_len; i++) {
        entry_unref(merge->entries[i]);
    }
    base_unref(merge->base);
    for (int s = 0; s < STREAMS; s++) {
        multiset_free(&merge->set[s]);
    }
    schema_unref(merge->schema);
    free(merge->entries);
    free(merge->cols);
    free(merge->loaded);
    *merge = (struct merge){0};
}

bool merge_reading(const struct merge *merge)
{
    return merge->entry < merge->entries_len;
}

static void close_batch(struct merge *merge)
{
    ASSERT(merge->open);
    free(merge->loaded);
    merge->loaded = NULL;
    merge->open = false;
    merge->row = 0;
}

/* Adds some rows of the current entry; lets go of it at its end. */
static err_t read_entry(struct merge *merge)
{
    struct storage_entry *entry = merge->entries[merge->entry];
    ASSERT(entry != NULL && merge->stream < STREAMS);
    if (!merge->open) {
        TRY(entry_open(entry, merge->schema, merge->stream, merge->cols, merge->cols_cap,
                       &merge->batch, &merge->loaded));
        merge->open = true;
    }
    const struct batch *batch = &merge->batch;
    uint32_t end = batch->rows - merge->row > ROWS_PER_STEP ? merge->row + ROWS_PER_STEP
                                                            : batch->rows;
    for (; merge->row < end; merge->row++) {
        if (batch_time(batch, merge->row) <= merge->as_of) {
            multiset_add(&merge->set[merge->stream], batch, merge->row,
                         batch_diff(batch, merge->row));
        }
    }
    if (merge->row < batch->rows) {
        return ERR_OK;
    }
    close_batch(merge);
    if (++merge->stream == STREAMS) {
        merge->stream = 0;
        entry_unref(entry);
        merge->entries[merge->entry++] = NULL;
    }
    return ERR_OK;
}

/* One block of the base. Without entries of this stream it passes as it is. */
static void merge_rows(struct merge *merge, const struct batch *batch, struct multiset *set,
                       struct batch_builder *out)
{
    ASSERT(batch->cols == set->kinds_len);
    if (set->row_len == 0) {
        batch_builder_rows_of(out, batch, NULL, batch->rows);
        return;
    }
    for (uint32_t row = 0; row < batch->rows; row++) {
        int64_t diff = batch_diff(batch, row) + multiset_take(set, batch, row);
        if (diff == 0) {
            continue;
        }
        for (uint32_t c = 0; c < batch->cols; c++) {
            struct datum d;
            batch_datum(&batch->col[c], row, &d);
            batch_builder_datum(out, c, &d);
        }
        batch_builder_end_row(out, 0, diff);
    }
}

/* Bytes from the disk: their header and checksum, then the batch itself are checked. */
static err_t read_block(struct merge *merge, struct batch_builder *const out[STREAMS])
{
    struct part_block block;
    struct storage_file *file = merge->base->file;
    ASSERT(!merge_reading(merge)); /* the entries are all in the multisets by now */
    TRY(part_read_header(file, merge->base_at, &block));
    void *data = NULL;
    TRY(part_read_bytes(file, merge->base_at + PART_BLOCK_HEADER, block.len, block.crc, &data));
    struct batch batch;
    size_t kinds_len = 0;
    const uint8_t *kinds = schema_kinds(merge->schema, block.stream, &kinds_len);
    err_t err = batch_open(data, block.len, kinds, kinds_len, merge->cols, merge->cols_cap, &batch);
    if (err == ERR_OK) {
        merge_rows(merge, &batch, &merge->set[block.stream], out[block.stream]);
        merge->base_at += part_block_extent(block.len);
    }
    free(data);
    return err_wrap(err, "%s: block at offset %llu", file->path,
                    (unsigned long long)merge->base_at);
}

/* In order of first insertion, so that the same history gives the same bytes. */
static void emit_rest(struct merge *merge, struct batch_builder *const out[STREAMS])
{
    const struct multiset *set = &merge->set[merge->rest_stream];
    ASSERT(merge->rest <= set->row_len);
    size_t left = set->row_len - merge->rest;
    size_t end = merge->rest + (left > ROWS_PER_STEP ? ROWS_PER_STEP : left);
    for (size_t bytes = 0; merge->rest < end && bytes < BYTES_PER_STEP; merge->rest++) {
        if (set->row[merge->rest].diff != 0) {
            bytes += set->row[merge->rest].len;
            multiset_emit(set, merge->rest, 0, out[merge->rest_stream]);
        }
    }
    if (merge->rest == set->row_len) {
        merge->rest = 0;
        merge->rest_stream++;
    }
}

err_t merge_step(struct merge *merge, struct batch_builder *const out[STREAMS], bool *done)
{
    *done = false;
    if (merge_reading(merge)) {
        return read_entry(merge);
    }
    if (merge->base != NULL && merge->base_at < merge->base->file->size) {
        return read_block(merge, out);
    }
    if (merge->rest_stream < STREAMS) {
        emit_rest(merge, out);
    }
    *done = merge->rest_stream == STREAMS;
    return ERR_OK;
}
