/*
 * An ordered multiset of words with signed counts: what is behind min and max of numbers and times.
 * A search tree of nodes of up to 63 words (a B+ tree without merging: a node goes when it is
 * empty), so that a set of a few values is one small piece of memory and a large one costs a few
 * misses a change. Ranks are not kept (oset.h keeps them, and bytes).
 *
 * Words are compared as unsigned numbers; wset_word makes them of values.
 *
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_WSET_H
#define TAILRACE_CORE_ENGINE_WSET_H

#include "core/engine/pool.h"

#include <stdbool.h>

struct wset_node;

/* All zero is the empty set. It may be moved. */
struct wset {
    struct wset_node *root;
    int64_t negative; /* words whose count is negative */
};

/* A signed number as a word of the same order, and back. */
static inline uint64_t wset_word(int64_t value)
{
    return (uint64_t)value ^ (1ULL << 63);
}

static inline int64_t wset_value(uint64_t word)
{
    return (int64_t)(word ^ (1ULL << 63));
}

/* Adds diff to a word's count, modulo 2^64; at 0 the word is gone. */
void wset_update(struct wset *set, struct pool *pool, uint64_t word, int64_t diff);
/* The least and the greatest word; of a set that is not empty. Negative counts are not left out. */
uint64_t wset_first(const struct wset *set);
uint64_t wset_last(const struct wset *set);

#endif
