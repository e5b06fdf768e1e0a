/*
 * The rows of a window's partition in their order: a treap of byte strings with signed counts, like
 * oset.h, each node with the aggregates of its subtree. So the aggregate of any run of rows is put
 * together from O(log n) nodes, and one row put in or taken out changes O(log n).
 *
 * An element is sort bytes (order.h) followed by the encoded row; rows of the same sort bytes are
 * peers. Positions count copies: a row that is there three times takes three.
 *
 * The shape is a function of the content (priorities are hashes, of equal ones the lesser element
 * is above), and so are costs; what is put together does not depend on it (wacc.h).
 */
#ifndef TAILRACE_CORE_ENGINE_WTREE_H
#define TAILRACE_CORE_ENGINE_WTREE_H

#include "core/engine/oset.h"
#include "core/engine/wacc.h"

/* Accumulators and values of shape->aggs follow, then the bytes. */
struct wnode {
    struct wnode *left, *right;
    int64_t count;    /* never 0 */
    int64_t copies;   /* in this subtree, negative counts taken as 0: oset_plus */
    int64_t elements; /* in this subtree, of positive count */
    uint64_t prefix;  /* of the bytes, big endian: most comparisons end here */
    uint32_t priority;
    uint32_t len;
    uint32_t sort_len;
    uint32_t pad;
};

/* The same for all trees of an operator. */
struct wtree_shape {
    const uint8_t *kinds; /* of the row's columns */
    uint32_t cols;
    const struct wacc_spec *aggs;
    uint32_t aggs_len;
    const uint32_t *acc_at;   /* offsets in a node, one an aggregate */
    const uint32_t *value_at; /* of the argument's struct datum */
    uint32_t node_size;       /* up to the bytes */
};

struct wtree {
    struct wnode *root;
    int64_t negative; /* elements whose count is negative */
};

/* Elements and parts of elements as arguments. */
struct wkey {
    const uint8_t *bytes;
    uint32_t len;
    uint32_t sort_len;
};

static inline const uint8_t *wnode_bytes(const struct wtree_shape *shape, const struct wnode *node)
{
    return (const uint8_t *)node + shape->node_size;
}

static inline struct wkey wnode_key(const struct wtree_shape *shape, const struct wnode *node)
{
    return (struct wkey){wnode_bytes(shape, node), node->len, node->sort_len};
}

static inline int64_t wnode_copies(const struct wnode *node)
{
    return node->count > 0 ? node->count : 0;
}

static inline int64_t wtree_copies(const struct wtree *tree)
{
    return tree->root != NULL ? tree->root->copies : 0;
}

/* More copies than positions go to: no more is known of places and aggregates. */
static inline bool wtree_is_over(const struct wtree *tree)
{
    return wtree_copies(tree) == INT64_MAX;
}

static inline int64_t wtree_elements(const struct wtree *tree)
{
    return tree->root != NULL ? tree->root->elements : 0;
}

/* memcmp order, a prefix before what it is a prefix of. */
int wkey_compare(struct wkey a, struct wkey b);
static inline bool wkey_is_peer(struct wkey a, struct wkey b)
{
    return a.sort_len == b.sort_len && memcmp(a.bytes, b.bytes, a.sort_len) == 0;
}

/* Adds diff to an element's count; returns the count before. */
int64_t wtree_update(const struct wtree_shape *shape, struct wtree *tree, struct pool *pool,
                     struct wkey key, int64_t diff);
int64_t wtree_count(const struct wtree_shape *shape, const struct wtree *tree, struct wkey key);
/* What comes before a key: copies, or elements of positive count. */
struct wrank {
    int64_t copies;
    int64_t elements;
};
/* Positions [from, to) of an element's copies; where it has none, both are where they would be. */
struct wspan {
    int64_t from, to;
};
struct wspan wtree_place(const struct wtree_shape *shape, const struct wtree *tree,
                         struct wkey key);
struct wrank wtree_rank(const struct wtree_shape *shape, const struct wtree *tree,
                        struct wkey key);
/* What comes before the first element behind these sort bytes (key.sort_len of them). */
struct wrank wtree_rank_behind(const struct wtree_shape *shape, const struct wtree *tree,
                               struct wkey key);
/* How many copies are in the front part for which the test holds; it must hold for a front part. */
int64_t wtree_front(const struct wtree *tree,
                    bool (*test)(void *arg, const struct wnode *node), void *arg);
/* The element at a position below wtree_copies, and the position of its first copy; the index-th
 * element of positive count. */
const struct wnode *wtree_at(const struct wtree *tree, int64_t position, int64_t *first);
const struct wnode *wtree_element(const struct wtree *tree, int64_t index);
/* The first element at or behind a key, of any count; NULL: none. */
const struct wnode *wtree_next(const struct wtree_shape *shape, const struct wtree *tree,
                               struct wkey key, bool behind);
/* Appends aggregate number agg of the rows at positions [from, to). */
void wtree_fold(const struct wtree_shape *shape, const struct wtree *tree, uint32_t agg,
                int64_t from, int64_t to, struct wacc *out);
/* A column of the row. */
void wnode_datum(const struct wtree_shape *shape, const struct wnode *node, uint32_t col,
                 struct datum *out);
/* Takes up to max elements away; true when the tree is empty. */
bool wtree_clear(const struct wtree_shape *shape, struct wtree *tree, struct pool *pool,
                 uint32_t max);

#endif
