/*
 * An ordered multiset of byte strings with signed counts: a treap in pool memory, each node knowing
 * how many (positive) copies lie below it, so that rank and position lookups are O(log n). For
 * min/max, distinct aggregates and top-k. The tree's shape is a function of its content.
 *
 * An element is sort bytes (see order.h: memcmp order, self-delimiting) followed by data bytes;
 * elements are equal when all bytes are.
 */
#ifndef TAILRACE_CORE_ENGINE_OSET_H
#define TAILRACE_CORE_ENGINE_OSET_H

#include "core/engine/pool.h"

#include <stdbool.h>

struct oset_node {
    struct oset_node *left, *right;
    int64_t count; /* never 0 */
    int64_t sum;   /* copies in this subtree, oset_plus; negative counts are taken as 0 */
    uint64_t prefix; /* of the bytes, big endian: most comparisons end here */
    uint32_t priority;
    uint32_t len;
    uint32_t sort_len;
    uint8_t bytes[];
};

struct oset {
    struct oset_node *root;
    int64_t negative; /* elements whose count is negative */
};

static inline int64_t oset_copies(int64_t count)
{
    return count > 0 ? count : 0;
}

/*
 * The sum of two numbers of copies. It stops at INT64_MAX, which means that many or more; positions
 * below that are exact.
 */
static inline int64_t oset_plus(int64_t a, int64_t b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static inline int64_t oset_total(const struct oset *set)
{
    return set->root != NULL ? set->root->sum : 0;
}

/* Adds diff to an element's count; returns the count before. */
int64_t oset_update(struct oset *set, struct pool *pool, const uint8_t *bytes, uint32_t len,
                    uint32_t sort_len, int64_t diff);
/* An element in the two parts it is made of, wherever they lie; either may be empty. */
struct oset_parts {
    const uint8_t *sort, *data;
    uint32_t sort_len, data_len;
};
/*
 * The same, but an element that is gone by it is handed over in *gone (else NULL) instead of being
 * freed: for those who still look at it. oset_free_node frees it.
 */
int64_t oset_change(struct oset *set, struct pool *pool, const struct oset_parts *element,
                    int64_t diff, struct oset_node **gone);
void oset_free_node(struct pool *pool, struct oset_node *node);
/* As memcmp of their bytes; of two sets, or of what was in one at two times. */
int oset_compare(const struct oset_node *a, const struct oset_node *b);
/* Copies before an element (which need not be there). */
int64_t oset_rank(const struct oset *set, const uint8_t *bytes, uint32_t len);
/* The same up to the last element whose sort bytes are these or come before. */
int64_t oset_rank_behind(const struct oset *set, const uint8_t *sort, uint32_t len);
/* Copies up to the last peer (same sort bytes) of what is at a position; all, past the end. */
int64_t oset_rank_peers(const struct oset *set, int64_t position);
/* First and last element with a positive count, NULL when there is none. */
const struct oset_node *oset_first(const struct oset *set);
const struct oset_node *oset_last(const struct oset *set);
/* The first element with a positive count whose sort bytes are these. */
const struct oset_node *oset_first_of(const struct oset *set, const uint8_t *sort, uint32_t len);
/* Elements at positions [from, to), each with how many of its copies lie in there. */
void oset_range(const struct oset *set, int64_t from, int64_t to,
                void (*each)(void *arg, const struct oset_node *node, int64_t copies), void *arg);
void oset_clear(struct oset *set, struct pool *pool);

#endif
