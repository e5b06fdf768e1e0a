/*
 * See wset.h. A leaf's items are words with their counts, in order; an inner node's are children,
 * each with a word that is not above any word in it and above all words of the child before (the
 * first child's is not looked at). All leaves are at one depth.
 *
 *   inner   [ - | 50 | 90 ]          leaf   [ 50 x1 | 51 x3 | 60 x1 ]
 *
 * A full node is divided in two; where words come in ascending order, as times do, the left one
 * stays full. Nodes are not merged: one goes when its last item goes (Sen and Tarjan, "Deletion
 * without rebalancing in multiway search trees", 2009, say why that keeps the height).
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/wset.h"

enum { CAP_MIN = 3, CAP_MAX = 63, HEIGHT_MAX = 32 };

struct item {
    uint64_t word;
    union {
        int64_t count;           /* of a leaf; never 0 */
        struct wset_node *child; /* of an inner node; never empty */
    };
};

struct wset_node {
    uint16_t len, cap;
    uint16_t height; /* 0: a leaf */
    uint16_t pad;
    struct item items[];
};

static size_t node_bytes(uint32_t cap)
{
    return sizeof(struct wset_node) + cap * sizeof(struct item);
}

static struct wset_node *node_new(struct pool *pool, uint32_t height, uint32_t cap)
{
    ASSERT(cap >= CAP_MIN && cap <= CAP_MAX && height < HEIGHT_MAX);
    struct wset_node *node = pool_alloc(pool, node_bytes(cap));
    *node = (struct wset_node){.cap = (uint16_t)cap, .height = (uint16_t)height};
    return node;
}

static void node_free(struct pool *pool, struct wset_node *node)
{
    ASSERT(node->len <= node->cap);
    pool_free(pool, node, node_bytes(node->cap));
}

/* The same in a node about twice as large: sets of few words stay small. */
static struct wset_node *node_grow(struct pool *pool, struct wset_node *node)
{
    struct wset_node *wide = node_new(pool, node->height, 2u * node->cap + 1);
    wide->len = node->len;
    memcpy(wide->items, node->items, node->len * sizeof(struct item));
    node_free(pool, node);
    return wide;
}

/* How many of the items from first on have a word below. Halving without a branch. */
static uint32_t below(const struct wset_node *node, uint32_t first, uint64_t word)
{
    const struct item *at = node->items + first;
    ASSERT(first <= node->len);
    for (uint32_t n = node->len - first; n > 0;) {
        uint32_t half = (n + 1) / 2;
        at += at[half - 1].word < word ? half : 0;
        n -= half;
    }
    return (uint32_t)(at - node->items) - first;
}

/* The child a word belongs to: the last one whose word is not above it. */
static uint32_t child_of(const struct wset_node *node, uint64_t word)
{
    ASSERT(node->height > 0 && node->len > 0);
    uint32_t at = 1 + below(node, 1, word);
    return at < node->len && node->items[at].word == word ? at : at - 1;
}

static void insert_at(struct wset_node *node, uint32_t at, struct item item)
{
    ASSERT(at <= node->len && node->len < node->cap);
    memmove(&node->items[at + 1], &node->items[at], (node->len - at) * sizeof(item));
    node->items[at] = item;
    node->len++;
}

static void remove_at(struct wset_node *node, uint32_t at)
{
    ASSERT(at < node->len);
    node->len--;
    memmove(&node->items[at], &node->items[at + 1], (node->len - at) * sizeof(node->items[0]));
}

/* The node may move. Returns its new right neighbour, when it was full and is divided. */
static struct wset_node *insert(struct pool *pool, struct wset_node **node_at, uint32_t at,
                                struct item item)
{
    struct wset_node *node = *node_at;
    if (node->len == node->cap && node->cap < CAP_MAX) {
        node = *node_at = node_grow(pool, node);
    }
    if (node->len < node->cap) {
        insert_at(node, at, item);
        return NULL;
    }
    struct wset_node *right = node_new(pool, node->height, CAP_MAX);
    uint32_t keep = at == node->len ? node->len : node->len / 2u;
    ASSERT(node->len == CAP_MAX && at <= node->len);
    right->len = (uint16_t)(node->len - keep);
    memcpy(right->items, &node->items[keep], right->len * sizeof(item));
    node->len = (uint16_t)keep;
    if (at > keep || right->len == 0) {
        insert_at(right, at - keep, item);
    } else {
        insert_at(node, at, item);
    }
    ASSERT(node->len > 0 && right->len > 0);
    return right;
}

static struct wset_node *update_leaf(struct wset *set, struct pool *pool,
                                     struct wset_node **leaf_at, uint64_t word, int64_t diff)
{
    struct wset_node *leaf = *leaf_at;
    ASSERT(leaf->height == 0 && diff != 0);
    uint32_t at = below(leaf, 0, word);
    if (at == leaf->len || leaf->items[at].word != word) {
        set->negative += diff < 0;
        return insert(pool, leaf_at, at, (struct item){.word = word, .count = diff});
    }
    int64_t before = leaf->items[at].count;
    int64_t after = (int64_t)((uint64_t)before + (uint64_t)diff);
    set->negative += (after < 0) - (before < 0);
    ASSERT(set->negative >= 0);
    leaf->items[at].count = after;
    if (after == 0) {
        remove_at(leaf, at);
    }
    return NULL;
}

/* Recursion follows the height. A child that was divided gets its neighbour in here; a child that
 * is left empty goes, and so may this node be left empty. */
static struct wset_node *update(struct wset *set, struct pool *pool, struct wset_node **node_at,
                                uint64_t word, int64_t diff)
{
    struct wset_node *node = *node_at;
    if (node->height == 0) {
        return update_leaf(set, pool, node_at, word, diff);
    }
    uint32_t at = child_of(node, word);
    ASSERT(node->items[at].child->height + 1 == node->height);
    struct wset_node *right = update(set, pool, &node->items[at].child, word, diff);
    if (right != NULL) {
        struct item item = {.word = right->items[0].word, .child = right};
        return insert(pool, node_at, at + 1, item);
    }
    if (node->items[at].child->len == 0) {
        node_free(pool, node->items[at].child);
        remove_at(node, at);
    }
    return NULL;
}

/* A root that was divided gets one above it; one that has a single child gives way to it. */
void wset_update(struct wset *set, struct pool *pool, uint64_t word, int64_t diff)
{
    if (diff == 0) {
        return;
    }
    if (set->root == NULL) {
        set->root = node_new(pool, 0, CAP_MIN);
    }
    struct wset_node *right = update(set, pool, &set->root, word, diff);
    if (right != NULL) {
        struct wset_node *root = node_new(pool, right->height + 1u, CAP_MIN);
        insert_at(root, 0, (struct item){.child = set->root});
        insert_at(root, 1, (struct item){.word = right->items[0].word, .child = right});
        set->root = root;
    }
    while (set->root->height > 0 && set->root->len == 1) {
        struct wset_node *only = set->root->items[0].child;
        node_free(pool, set->root);
        set->root = only;
    }
    if (set->root->len == 0) {
        node_free(pool, set->root);
        set->root = NULL;
        ASSERT(set->negative == 0);
    }
}

uint64_t wset_first(const struct wset *set)
{
    ASSERT(set->root != NULL);
    const struct wset_node *node = set->root;
    while (node->height > 0) {
        node = node->items[0].child;
    }
    ASSERT(node->len > 0);
    return node->items[0].word;
}

uint64_t wset_last(const struct wset *set)
{
    ASSERT(set->root != NULL);
    const struct wset_node *node = set->root;
    while (node->height > 0) {
        node = node->items[node->len - 1].child;
    }
    ASSERT(node->len > 0);
    return node->items[node->len - 1].word;
}
