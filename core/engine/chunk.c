/*
 * Batches between operators, shared by reference; what derives from one shares its columns.
 *
 * A chunk never has zero rows: functions that could make one return NULL instead, so that operators
 * need no case for it. time_min and time_max are exact, since frontiers are asserted against them.
 * A derived chunk keeps its parent alive and owns at most a column of times or of diffs.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/chunk.h"

/*
 * cols: how many columns the view has room for; bytes: what the caller allocates beside the struct
 * and accounts here.
 */
static struct chunk *chunk_new(uint32_t cols, size_t bytes, struct account *account)
{
    ASSERT(account != NULL && cols <= BATCH_COLS_MAX);
    struct chunk *chunk = mem_zalloc(sizeof(*chunk) + cols * sizeof(chunk->cols[0]));
    chunk->refs = 1;
    chunk->account = account;
    chunk->bytes = bytes + sizeof(*chunk) + cols * sizeof(chunk->cols[0]);
    account_add(account, (int64_t)chunk->bytes);
    return chunk;
}

/* A constant time needs no pass over the rows. */
static void find_time_bounds(struct chunk *chunk)
{
    const struct batch *b = &chunk->batch;
    ASSERT(b->rows > 0);
    chunk->time_min = batch_time(b, 0);
    chunk->time_max = chunk->time_min;
    for (uint32_t i = 1; b->times != NULL && i < b->rows; i++) {
        uint64_t t = b->times[i];
        chunk->time_min = t < chunk->time_min ? t : chunk->time_min;
        chunk->time_max = t > chunk->time_max ? t : chunk->time_max;
    }
}

struct chunk *chunk_take(void *data, size_t size, uint32_t cols, struct account *account)
{
    struct chunk *chunk = chunk_new(cols, size, account);
    chunk->data = data;
    batch_view(data, size, chunk->cols, cols, &chunk->batch);
    ASSERT(chunk->batch.cols == cols);
    find_time_bounds(chunk);
    ASSERT(chunk->time_min <= chunk->time_max && chunk->time_max <= TIME_MAX);
    return chunk;
}

struct chunk *chunk_from_builder(struct batch_builder *builder, uint32_t cols,
                                 struct account *account)
{
    if (batch_builder_rows(builder) == 0) {
        return NULL;
    }
    size_t size;
    void *data = batch_builder_finish_new(builder, &size);
    batch_builder_reset(builder);
    return chunk_take(data, size, cols, account);
}

/* aligned_alloc wants a multiple of the alignment, hence the rounding. */
err_t chunk_open(const void *bytes, size_t size, const uint8_t *kinds, uint32_t cols,
                 const bool *reads, struct account *account, struct chunk **out)
{
    *out = NULL;
    size_t rounded = (size + BATCH_ALIGN - 1) / BATCH_ALIGN * BATCH_ALIGN;
    struct chunk *chunk = chunk_new(cols, rounded, account);
    chunk->data = aligned_alloc(BATCH_ALIGN, rounded);
    ASSERT(rounded == 0 || chunk->data != NULL);
    err_t err = batch_open_copy(bytes, size, kinds, cols, reads, chunk->data, chunk->cols, cols,
                                &chunk->batch);
    if (err != ERR_OK || chunk->batch.rows == 0) {
        chunk_unref(chunk);
        return err;
    }
    find_time_bounds(chunk);
    if (chunk->time_max > TIME_MAX) {
        chunk_unref(chunk);
        return err_new(ERR_CORRUPT, "batch: a time beyond all times");
    }
    *out = chunk;
    return ERR_OK;
}

/* The same rows, columns pointing into the parent, which is kept. */
static struct chunk *derive(struct chunk *parent, size_t bytes)
{
    ASSERT(parent->refs > 0 && parent->batch.rows > 0);
    struct chunk *chunk = chunk_new(parent->batch.cols, bytes, parent->account);
    chunk->parent = chunk_ref(parent);
    chunk->batch = parent->batch;
    chunk->time_min = parent->time_min;
    chunk->time_max = parent->time_max;
    return chunk;
}

/* A diff of INT64_MIN stays what it is: diffs are sums modulo 2^64 throughout. */
struct chunk *chunk_negate(struct chunk *parent)
{
    const struct batch *b = &parent->batch;
    size_t bytes = b->diffs != NULL ? b->rows * sizeof(int64_t) : 0;
    struct chunk *chunk = derive(parent, bytes);
    chunk->batch.diff_const = (int64_t)-(uint64_t)b->diff_const;
    if (b->diffs != NULL) {
        chunk->diffs = mem_alloc(bytes);
        for (uint32_t i = 0; i < b->rows; i++) {
            chunk->diffs[i] = (int64_t)-(uint64_t)b->diffs[i];
        }
        chunk->batch.diffs = chunk->diffs;
    }
    return chunk;
}

/* Three cases: nothing to do, all rows to one time, or a column of times of its own. */
struct chunk *chunk_advance(struct chunk *parent, uint64_t advance_to)
{
    if (parent->time_min >= advance_to) {
        return chunk_ref(parent);
    }
    const struct batch *b = &parent->batch;
    bool constant = parent->time_max <= advance_to;
    struct chunk *chunk = derive(parent, constant ? 0 : b->rows * sizeof(uint64_t));
    chunk->batch.times = NULL;
    chunk->batch.time_const = advance_to;
    if (!constant) {
        chunk->times = mem_alloc(b->rows * sizeof(uint64_t));
        for (uint32_t i = 0; i < b->rows; i++) {
            chunk->times[i] = b->times[i] < advance_to ? advance_to : b->times[i];
        }
        chunk->batch.times = chunk->times;
    }
    find_time_bounds(chunk);
    ASSERT(chunk->time_min >= advance_to);
    return chunk;
}

/* The columns that were copied, one after another, go to their places; from the last, in place. */
static void spread_columns(struct chunk *chunk, const struct batch *like, const bool *reads)
{
    uint32_t left = chunk->batch.cols;
    for (uint32_t c = like->cols; c > 0; c--) {
        ASSERT(left <= c);
        chunk->cols[c - 1] = reads[c - 1] ? chunk->cols[--left]
                                          : (struct batch_col){.kind = like->col[c - 1].kind};
    }
    ASSERT(left == 0);
    chunk->batch.cols = like->cols;
}

struct chunk *chunk_at(struct chunk *parent, uint64_t time)
{
    ASSERT(time <= TIME_MAX);
    struct chunk *chunk = derive(parent, 0);
    chunk->batch.times = NULL;
    chunk->batch.time_const = time;
    chunk->time_min = chunk->time_max = time;
    return chunk;
}

/* For input of the host, whose memory is only valid during the call. */
struct chunk *chunk_copy(const struct batch *batch, const bool *reads, struct account *account)
{
    if (batch == NULL || batch->rows == 0) {
        return NULL;
    }
    size_t size;
    void *data = batch_copy_new(batch, reads, &size);
    struct chunk *chunk = chunk_new(batch->cols, size, account);
    chunk->data = data;
    batch_view(data, size, chunk->cols, batch->cols, &chunk->batch);
    if (reads != NULL) {
        spread_columns(chunk, batch, reads);
    }
    ASSERT(chunk->batch.cols == batch->cols && chunk->batch.rows == batch->rows);
    find_time_bounds(chunk);
    return chunk;
}

void chunk_charge(struct chunk *chunk, struct account *account)
{
    if (chunk == NULL || chunk->account == account) {
        return;
    }
    ASSERT(chunk->refs == 1 && chunk->parent == NULL && account != NULL);
    account_add(account, (int64_t)chunk->bytes);
    account_add(chunk->account, -(int64_t)chunk->bytes);
    chunk->account = account;
}

/* A loop and not a recursion: chains of derived chunks may be long. */
void chunk_unref(struct chunk *chunk)
{
    while (chunk != NULL) {
        ASSERT(chunk->refs > 0);
        if (--chunk->refs > 0) {
            return;
        }
        struct chunk *parent = chunk->parent;
        ASSERT(parent == NULL || chunk->data == NULL);
        account_add(chunk->account, -(int64_t)chunk->bytes);
        free(chunk->data);
        free(chunk->times);
        free(chunk->diffs);
        free(chunk);
        chunk = parent;
    }
}

void chunk_list_push(struct chunk_list *list, struct chunk *chunk)
{
    ASSERT(chunk != NULL);
    *VEC_PUSH(list, chunks) = chunk;
}

void chunk_list_clear(struct chunk_list *list)
{
    for (size_t i = 0; i < list->chunks_len; i++) {
        chunk_unref(list->chunks[i]);
    }
    list->chunks_len = 0;
}

/* Unlike clear it gives back the list's own memory too. */
void chunk_list_free(struct chunk_list *list)
{
    chunk_list_clear(list);
    free(list->chunks);
    *list = (struct chunk_list){0};
}
