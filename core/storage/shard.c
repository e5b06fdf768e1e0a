/*
 * The entries of a shard: see shard.h. Entries, schemas and bases are shared by counting
 * references: the shard holds one, every cursor, merge and compaction that reads holds its own, so
 * nothing is copied and nobody waits. Counts are plain integers: all of it is on the worker's loop.
 *
 * Memory: the newest entries keep their bytes, up to memory_tail_bytes a shard; older ones are read
 * from the log or a part. entries[0, evicted) are counted as having none, even while a cursor still
 * reads them in place.
 */
#include "core/storage/shard.h"

#include "core/storage/cursor.h"
#include "core/storage/file_source.h"
#include "core/storage/storage_internal.h"

/* ---- schema ---------------------------------------------------------------------------------- */

/* Outlives the shard while a cursor is open, hence a copy of its own. */
static struct storage_schema *schema_new(const struct storage_collection *desc)
{
    ASSERT(desc->cols > 0 && desc->types != NULL && desc->names != NULL);
    struct storage_schema *s = MEM_NEW(struct storage_schema);
    s->refs = 1;
    s->cols = desc->cols;
    s->types = mem_alloc(desc->cols * sizeof(s->types[0]));
    s->names = mem_zalloc(desc->cols * sizeof(s->names[0]));
    s->kinds = mem_alloc(desc->cols);
    for (size_t c = 0; c < desc->cols; c++) {
        s->types[c] = desc->types[c];
        s->kinds[c] = desc->types[c].kind;
        s->names[c] = mem_strdup(desc->names[c]);
    }
    return s;
}

struct storage_schema *schema_ref(struct storage_schema *schema)
{
    ASSERT(schema->refs > 0);
    schema->refs++;
    return schema;
}

void schema_unref(struct storage_schema *schema)
{
    ASSERT(schema->refs > 0);
    if (--schema->refs > 0) {
        return;
    }
    for (size_t c = 0; c < schema->cols; c++) {
        free(schema->names[c]);
    }
    free(schema->names);
    free(schema->types);
    free(schema->kinds);
    free(schema);
}

const uint8_t *schema_kinds(const struct storage_schema *schema, enum storage_stream stream,
                            size_t *len)
{
    ASSERT(stream == STREAM_OK || stream == STREAM_ERR);
    *len = stream == STREAM_OK ? schema->cols : ERR_COLS;
    return stream == STREAM_OK ? schema->kinds : batch_err_kinds;
}

/* ---- entries --------------------------------------------------------------------------------- */

/* One reference, the caller's; without bytes and without a place on disk yet. */
struct storage_entry *entry_new(uint64_t lower, uint64_t upper)
{
    ASSERT(lower < upper);
    struct storage_entry *entry = MEM_NEW(struct storage_entry);
    entry->refs = 1;
    entry->lower = lower;
    entry->upper = upper;
    return entry;
}

struct storage_entry *entry_ref(struct storage_entry *entry)
{
    ASSERT(entry->refs > 0);
    entry->refs++;
    return entry;
}

void entry_unref(struct storage_entry *entry)
{
    if (entry == NULL) {
        return;
    }
    ASSERT(entry->refs > 0);
    if (--entry->refs > 0) {
        return;
    }
    for (int s = 0; s < STREAMS; s++) {
        free(entry->blob[s].data);
    }
    storage_file_unref(entry->file);
    free(entry->files);
    free(entry);
}

/* Bytes from the disk are checked as if anybody had written them; those in memory are our own. */
static err_t load_blob(const struct storage_entry *entry, const struct storage_schema *schema,
                       enum storage_stream stream, struct batch_col *cols, size_t cols_cap,
                       struct batch *out, void **loaded)
{
    const struct storage_blob *blob = &entry->blob[stream];
    size_t kinds_len = 0;
    const uint8_t *kinds = schema_kinds(schema, stream, &kinds_len);
    ASSERT(entry->file != NULL && kinds_len <= cols_cap);
    TRY(part_read_bytes(entry->file, blob->offset, blob->len, blob->crc, loaded));
    err_t err = batch_open(*loaded, blob->len, kinds, kinds_len, cols, cols_cap, out);
    if (err == ERR_OK && out->rows != blob->rows) {
        err = err_new(ERR_CORRUPT, "%u rows instead of %u", out->rows, blob->rows);
    }
    if (err != ERR_OK) {
        free(*loaded);
        *loaded = NULL;
    }
    return err_wrap(err, "%s: batch at offset %llu", entry->file->path,
                    (unsigned long long)blob->offset);
}

err_t entry_open(struct storage_entry *entry, const struct storage_schema *schema,
                 enum storage_stream stream, struct batch_col *cols, size_t cols_cap,
                 struct batch *out, void **loaded)
{
    const struct storage_blob *blob = &entry->blob[stream];
    *loaded = NULL;
    *out = (struct batch){0};
    if (blob->len == 0) {
        return ERR_OK;
    }
    if (blob->data == NULL) {
        return load_blob(entry, schema, stream, cols, cols_cap, out, loaded);
    }
    batch_view(blob->data, blob->len, cols, cols_cap, out);
    ASSERT(out->rows == blob->rows);
    return ERR_OK;
}

size_t shard_row_bytes(const struct batch *batch, uint32_t row)
{
    size_t bytes = (size_t)batch->cols * 8;
    ASSERT(row < batch->rows);
    for (uint32_t c = 0; c < batch->cols; c++) {
        const uint32_t *offsets = batch->col[c].offsets;
        bytes += offsets != NULL ? offsets[row + 1] - offsets[row] : 0;
    }
    return bytes;
}

/* ---- base ------------------------------------------------------------------------------------ */

struct storage_base *base_new(struct storage_file *file, uint64_t time, uint64_t rows)
{
    ASSERT(file != NULL && file->size > 0);
    struct storage_base *base = MEM_NEW(struct storage_base);
    *base = (struct storage_base){.refs = 1, .file = file, .time = time, .rows = rows};
    return base;
}

struct storage_base *base_ref(struct storage_base *base)
{
    ASSERT(base->refs > 0);
    base->refs++;
    return base;
}

void base_unref(struct storage_base *base)
{
    if (base == NULL) {
        return;
    }
    ASSERT(base->refs > 0);
    if (--base->refs == 0) {
        storage_file_unref(base->file);
        free(base);
    }
}

/* ---- shards ---------------------------------------------------------------------------------- */

static size_t entry_memory(const struct storage_entry *entry)
{
    ASSERT(entry->refs > 0);
    size_t bytes = 0;
    for (int s = 0; s < STREAMS; s++) {
        bytes += entry->blob[s].data != NULL ? entry->blob[s].len : 0;
    }
    return bytes;
}

/* Rows and bytes of entries, for metrics and for deciding about compaction. */
static void count(struct storage_shard *shard, const struct storage_entry *entry, bool add)
{
    for (int s = 0; s < STREAMS; s++) {
        if (add) {
            shard->entry_rows += entry->blob[s].rows;
            shard->entry_bytes += entry->blob[s].len;
        } else {
            ASSERT(shard->entry_rows >= entry->blob[s].rows);
            ASSERT(shard->entry_bytes >= entry->blob[s].len);
            shard->entry_rows -= entry->blob[s].rows;
            shard->entry_bytes -= entry->blob[s].len;
        }
    }
}

/* The bytes stay in the file; whoever reads this far back reads them there. */
static void evict(struct storage_shard *shard)
{
    ASSERT(shard->evicted <= shard->entries_len);
    while (shard->memory_bytes > shard->storage->config.memory_tail_bytes &&
           shard->evicted < shard->entries_len) {
        struct storage_entry *entry = shard->entries[shard->evicted++];
        ASSERT(shard->memory_bytes >= entry_memory(entry));
        shard->memory_bytes -= entry_memory(entry);
        if (entry->refs > 1) {
            continue; /* a cursor reads it in place: freed with its last reference */
        }
        for (int s = 0; s < STREAMS; s++) {
            free(entry->blob[s].data);
            entry->blob[s].data = NULL;
        }
    }
}

void shard_add_entry(struct storage_shard *shard, struct storage_entry *entry)
{
    ASSERT(entry->file != NULL && entry->refs == 1 && entry->lower < entry->upper);
    ASSERT(shard->entries_len == 0 ||
           shard->entries[shard->entries_len - 1]->upper <= entry->lower);
    *VEC_PUSH(shard, entries) = entry;
    shard->memory_bytes += entry_memory(entry);
    count(shard, entry, true);
    evict(shard);
}

void shard_replace_entries(struct storage_shard *shard, size_t n, struct storage_entry **with,
                           size_t with_len)
{
    ASSERT(n <= shard->entries_len && with_len <= n);
    for (size_t i = 0; i < n; i++) {
        struct storage_entry *entry = shard->entries[i];
        if (i >= shard->evicted) {
            shard->memory_bytes -= entry_memory(entry);
        }
        count(shard, entry, false);
        entry_unref(entry);
    }
    for (size_t i = 0; i < with_len; i++) {
        ASSERT(entry_memory(with[i]) == 0);
        shard->entries[i] = with[i];
        count(shard, with[i], true);
    }
    memmove(shard->entries + with_len, shard->entries + n,
            (shard->entries_len - n) * sizeof(shard->entries[0]));
    shard->entries_len -= n - with_len;
    ASSERT(shard->entries_len == 0 || shard->entries[0] != NULL);
    shard->evicted = (shard->evicted > n ? shard->evicted - n : 0) + with_len;
    ASSERT(shard->evicted <= shard->entries_len);
}

/* Binary search: uppers of entries ascend. */
size_t shard_find(const struct storage_shard *shard, uint64_t time)
{
    size_t low = 0;
    size_t high = shard->entries_len;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (shard->entries[mid]->upper > time) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

/* Since, unless a cursor is further back. */
uint64_t shard_hold(const struct storage_shard *shard)
{
    ASSERT(!shard->dropped);
    uint64_t hold = shard->since;
    for (const struct storage_cursor *c = shard->cursors; c != NULL; c = c->next) {
        uint64_t at = cursor_hold(c);
        hold = at < hold ? at : hold;
    }
    return hold;
}

uint64_t shard_rows(const struct storage_shard *shard)
{
    return shard->entry_rows + (shard->base != NULL ? shard->base->rows : 0);
}

uint64_t shard_bytes(const struct storage_shard *shard)
{
    return shard->entry_bytes + (shard->base != NULL ? shard->base->file->size : 0);
}

struct storage_shard *shard_new(struct storage_worker *storage,
                                const struct storage_collection *desc,
                                const struct buf *desc_bytes)
{
    ASSERT(desc->cols > 0 && desc->cols <= BATCH_COLS_MAX);
    struct storage_shard *shard = MEM_NEW(struct storage_shard);
    struct buf dir = {0};
    buf_printf(&dir, "%s/%llu", storage->dir, (unsigned long long)desc->id);
    buf_append_byte(&dir, '\0');
    shard->storage = storage;
    shard->id = desc->id;
    shard->dir = (char *)dir.data;
    shard->schema = schema_new(desc);
    shard->desc = *desc;
    shard->desc.types = shard->schema->types;
    shard->desc.names = (const char *const *)shard->schema->names;
    shard->desc.path = desc->path != NULL ? mem_strdup(desc->path) : NULL;
    shard->desc.csv_null = desc->csv_null != NULL ? mem_strdup(desc->csv_null) : NULL;
    buf_append(&shard->desc_bytes, desc_bytes->data, desc_bytes->len);
    shard->next_part = 1;
    shard->status = STORAGE_STARTING;
    return shard;
}

void shard_free(struct storage_shard *shard)
{
    if (shard == NULL) {
        return;
    }
    ASSERT(shard->cursors == NULL && !shard->compacting && shard->pending == 0);
    file_source_free(shard->source);
    for (size_t i = 0; i < shard->entries_len; i++) {
        entry_unref(shard->entries[i]);
    }
    base_unref(shard->base);
    file_set_free(&shard->files_flushed);
    schema_unref(shard->schema);
    free((char *)shard->desc.path);
    free((char *)shard->desc.csv_null);
    buf_free(&shard->desc_bytes);
    free(shard->entries);
    free(shard->dir);
    free(shard);
}
