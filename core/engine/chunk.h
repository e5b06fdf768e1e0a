/*
 * A reference-counted batch on its way between operators. Immutable once made. Chunks derived from
 * another (negated, moved in time) share its columns.
 */
#ifndef TAILRACE_CORE_ENGINE_CHUNK_H
#define TAILRACE_CORE_ENGINE_CHUNK_H

#include "core/data/batch.h"
#include "core/engine/pool.h"

struct chunk {
    uint32_t refs;
    struct account *account; /* outlives the chunk */
    size_t bytes;            /* accounted */
    void *data;              /* the batch's bytes; NULL when they are the parent's */
    struct chunk *parent;
    uint64_t *times; /* own, instead of the bytes' */
    int64_t *diffs;
    uint64_t time_min, time_max;
    struct batch batch;
    struct batch_col cols[];
};

/* What a builder of that many columns holds, or NULL when that is nothing; it is reset. */
struct chunk *chunk_from_builder(struct batch_builder *builder, uint32_t cols,
                                 struct account *account);
/* Takes bytes of a batch that this process made: aligned_alloc(BATCH_ALIGN), at least one row. */
struct chunk *chunk_take(void *data, size_t size, uint32_t cols, struct account *account);
/* Copies and validates bytes from outside; reads as in chunk_copy. No row: ok with *out NULL. */
err_t chunk_open(const void *bytes, size_t size, const uint8_t *kinds, uint32_t cols,
                 const bool *reads, struct account *account, struct chunk **out);
/*
 * A copy of a view. NULL when it has no row. Columns without reads[c] are not there: they have
 * their kind and no memory, and nobody may look at them. reads NULL: all are.
 */
struct chunk *chunk_copy(const struct batch *batch, const bool *reads, struct account *account);
/* From now on its bytes are this account's; before anything derives from it. NULL is allowed. */
void chunk_charge(struct chunk *chunk, struct account *account);
/* New references to the same rows with diffs negated, or with times moved up to advance_to. */
struct chunk *chunk_negate(struct chunk *chunk);
struct chunk *chunk_advance(struct chunk *chunk, uint64_t advance_to);
/* All of them at one time, whatever they had. */
struct chunk *chunk_at(struct chunk *chunk, uint64_t time);

static inline struct chunk *chunk_ref(struct chunk *chunk)
{
    ASSERT(chunk->refs > 0);
    chunk->refs++;
    return chunk;
}
/* NULL is allowed. The last reference frees it and gives its bytes back to the account. */
void chunk_unref(struct chunk *chunk);

/* A growable list that owns its chunks. */
struct chunk_list {
    struct chunk **chunks;
    size_t chunks_len, chunks_cap;
};

/* Takes the reference. */
void chunk_list_push(struct chunk_list *list, struct chunk *chunk);
void chunk_list_clear(struct chunk_list *list);
void chunk_list_free(struct chunk_list *list);

#endif
