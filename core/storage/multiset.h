/*
 * A multiset of rows of one schema: encoded row -> sum of diffs. For consolidating a shard and for
 * comparing a replaced file with what is held of it. Module-private. Order of iteration is the
 * order of first insertion. Memory is proportional to the distinct rows.
 */
#ifndef TAILRACE_CORE_STORAGE_MULTISET_H
#define TAILRACE_CORE_STORAGE_MULTISET_H

#include "core/data/batch.h"

/* One distinct row and how often it was added. */
struct multiset_row {
    uint64_t hash;
    size_t at; /* of the encoded row in bytes */
    uint32_t len;
    int64_t diff;
};

/* Grows, never shrinks; one user at a time. */
struct multiset {
    uint8_t *kinds;
    size_t kinds_len;
    struct multiset_row *row;
    size_t row_len;
    size_t row_cap;
    uint32_t *table; /* row index + 1; 0: free; a power of two */
    size_t table_cap;
    struct buf bytes; /* encoded rows, one behind the other */
    struct buf scratch; /* the row being looked up */
};

void multiset_init(struct multiset *set, const uint8_t *kinds, size_t kinds_len);
void multiset_free(struct multiset *set);
/* Adds one row of a batch, sign times. */
void multiset_add(struct multiset *set, const struct batch *batch, uint32_t row, int64_t diff);
/* Takes a row's sum out of the set: returns it and leaves zero. */
int64_t multiset_take(struct multiset *set, const struct batch *batch, uint32_t row);
/* Appends row i of the set (0 <= i < row_len) to out with this time and its sum. */
void multiset_emit(const struct multiset *set, size_t i, uint64_t time, struct batch_builder *out);

#endif
