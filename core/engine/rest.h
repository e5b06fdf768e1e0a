/*
 * What of a row is no word: texts, numerics, intervals, and words beyond those that stand by
 * themselves. All of it in one object of a pool, whose address is a word of the row, so that rows
 * with text are kept, moved and put out as rows of words are.
 *
 * A value's bytes are its column's representation. Each object is referred to once.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_REST_H
#define TAILRACE_CORE_ENGINE_REST_H

#include "core/data/batch.h"
#include "core/engine/pool.h"

enum { REST_COLS_MAX = 32 }; /* as many bits as there are for NULLs */

struct rest {
    uint32_t nulls;  /* a bit for each value that is NULL, and has no bytes */
    uint32_t ends[]; /* of each value, counted from behind the last end, where the bytes follow */
};

/* The word that stands for it, and the other way round. */
static inline uint64_t rest_word(const struct rest *rest)
{
    return (uint64_t)(uintptr_t)rest;
}

static inline struct rest *rest_of(uint64_t word)
{
    ASSERT(word != 0 && word % 16 == 0);
    return (struct rest *)(uintptr_t)word;
}

/* All bytes of it. cols: how many values it has, here and below. */
static inline size_t rest_size(const struct rest *rest, uint32_t cols)
{
    ASSERT(cols > 0 && cols <= REST_COLS_MAX);
    return sizeof(*rest) + cols * sizeof(rest->ends[0]) + rest->ends[cols - 1];
}

/* Of n rows of a batch some columns; the words go to words[0], words[stride] and so on. */
void rest_make(struct pool *pool, const struct batch *b, const uint32_t *cols, uint32_t cols_len,
               const uint32_t *rows, uint32_t n, uint64_t *words, size_t stride);
struct rest *rest_copy(struct pool *pool, const struct rest *rest, uint32_t cols);
void rest_free(struct pool *pool, struct rest *rest, uint32_t cols);

bool rest_same(const struct rest *a, const struct rest *b, uint32_t cols);
uint64_t rest_hash(const struct rest *rest, uint32_t cols);

/* Appends the which-th value of n of them to column c. */
void rest_put(struct batch_builder *b, size_t c, const uint64_t *words, size_t n, uint32_t cols,
              uint32_t which);

#endif
