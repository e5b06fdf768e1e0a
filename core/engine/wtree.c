/*
 * A treap as oset.c has it, with aggregates. Source: Seidel and Aragon, "Randomized search trees"
 * (1996); Cormen et al., "Introduction to Algorithms", chapter 14, for the augmentation.
 *
 * Invariants: elements are in order; a parent's (priority, lesser element) is before its
 * children's; copies, elements and accumulators of a node are those of its subtree; count is never
 * 0. Recursion follows the depth, about 2 ln n.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/wtree.h"

#include "core/base/hash.h"

int wkey_compare(struct wkey a, struct wkey b)
{
    uint32_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.bytes, b.bytes, len) : 0;
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* The first eight bytes as a number of the same order; what is missing counts as zero. */
static uint64_t prefix_of(const uint8_t *bytes, uint32_t len)
{
    uint64_t word = 0;
    if (len >= sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
    } else if (len > 0) {
        memcpy(&word, bytes, len);
    }
    return __builtin_bswap64(word);
}

/* The node's bytes lie behind its aggregates: they are looked at only where prefixes are alike. */
static int compare_node(const struct wtree_shape *shape, struct wkey key, const struct wnode *node)
{
    uint64_t prefix = prefix_of(key.bytes, key.len);
    if (prefix != node->prefix) {
        return prefix < node->prefix ? -1 : 1;
    }
    return wkey_compare(key, wnode_key(shape, node));
}

static int64_t copies_of(const struct wnode *node)
{
    return node != NULL ? node->copies : 0;
}

static int64_t elements_of(const struct wnode *node)
{
    return node != NULL ? node->elements : 0;
}

static struct wacc *acc_of(const struct wtree_shape *shape, const struct wnode *node, uint32_t agg)
{
    return (struct wacc *)((uint8_t *)node + shape->acc_at[agg]);
}

static struct datum *value_of(const struct wtree_shape *shape, const struct wnode *node,
                              uint32_t agg)
{
    return (struct datum *)((uint8_t *)node + shape->value_at[agg]);
}

/* Recomputes what a node knows of its subtree: after any change below it. */
static void pull(const struct wtree_shape *shape, struct wnode *node)
{
    const struct wnode *left = node->left, *right = node->right;
    ASSERT(node->count != 0);
    int64_t own = wnode_copies(node);
    node->copies = oset_plus(oset_plus(copies_of(left), own), copies_of(right));
    node->elements = elements_of(left) + elements_of(right) + (node->count > 0);
    for (uint32_t i = 0; i < shape->aggs_len; i++) {
        struct wacc *acc = acc_of(shape, node, i);
        wacc_clear(&shape->aggs[i], acc);
        if (left != NULL) {
            wacc_merge(&shape->aggs[i], acc, acc_of(shape, left, i));
        }
        wacc_add(&shape->aggs[i], acc, value_of(shape, node, i), own);
        if (right != NULL) {
            wacc_merge(&shape->aggs[i], acc, acc_of(shape, right, i));
        }
    }
}

/* Of equal priorities the lesser element is above, so that the shape has no history. */
static bool is_above(const struct wtree_shape *shape, const struct wnode *a, const struct wnode *b)
{
    return a->priority != b->priority ? a->priority > b->priority
                                      : compare_node(shape, wnode_key(shape, a), b) < 0;
}

/* Elements below the key to *low, the others to *high. */
static void split(const struct wtree_shape *shape, struct wnode *node, struct wkey key,
                  struct wnode **low, struct wnode **high)
{
    if (node == NULL) {
        *low = *high = NULL;
    } else if (compare_node(shape, key, node) > 0) {
        split(shape, node->right, key, &node->right, high);
        pull(shape, node);
        *low = node;
    } else {
        split(shape, node->left, key, low, &node->left);
        pull(shape, node);
        *high = node;
    }
}

/* All of low comes before all of high. */
static struct wnode *merge(const struct wtree_shape *shape, struct wnode *low, struct wnode *high)
{
    if (low == NULL || high == NULL) {
        return low != NULL ? low : high;
    }
    if (is_above(shape, low, high)) {
        low->right = merge(shape, low->right, high);
        pull(shape, low);
        return low;
    }
    high->left = merge(shape, low, high->left);
    pull(shape, high);
    return high;
}

/* The node takes the place where its priority belongs; what was there becomes its children. */
static struct wnode *insert(const struct wtree_shape *shape, struct wnode *at, struct wnode *node)
{
    if (at == NULL) {
        return node;
    }
    struct wkey key = wnode_key(shape, node);
    if (is_above(shape, node, at)) {
        split(shape, at, key, &node->left, &node->right);
        pull(shape, node);
        return node;
    }
    if (compare_node(shape, key, at) < 0) {
        at->left = insert(shape, at->left, node);
    } else {
        at->right = insert(shape, at->right, node);
    }
    pull(shape, at);
    return at;
}

static struct wnode *find(const struct wtree_shape *shape, const struct wtree *tree,
                          struct wkey key)
{
    struct wnode *node = tree->root;
    int order;
    while (node != NULL && (order = compare_node(shape, key, node)) != 0) {
        node = order < 0 ? node->left : node->right;
    }
    return node;
}

/* Recomputes the way to an element that is there. */
static void pull_path(const struct wtree_shape *shape, struct wnode *at, const struct wnode *node)
{
    ASSERT(at != NULL && node != NULL);
    if (at != node) {
        bool left = compare_node(shape, wnode_key(shape, node), at) < 0;
        pull_path(shape, left ? at->left : at->right, node);
    }
    pull(shape, at);
}

/* Returns the tree without the node, which must be in it. */
static struct wnode *detach(const struct wtree_shape *shape, struct wnode *at,
                            const struct wnode *node)
{
    ASSERT(at != NULL);
    if (at == node) {
        return merge(shape, at->left, at->right);
    }
    if (compare_node(shape, wnode_key(shape, node), at) < 0) {
        at->left = detach(shape, at->left, node);
    } else {
        at->right = detach(shape, at->right, node);
    }
    pull(shape, at);
    return at;
}

void wnode_datum(const struct wtree_shape *shape, const struct wnode *node, uint32_t col,
                 struct datum *out)
{
    ASSERT(col < shape->cols);
    const uint8_t *at = wnode_bytes(shape, node) + node->sort_len;
    for (uint32_t i = 0; i <= col; i++) {
        *out = (struct datum){0};
        at += batch_decode_datum(at, shape->kinds[i], out);
    }
}

/* The argument as the aggregate takes it: NULL where the filter is not true. */
static void load_value(const struct wtree_shape *shape, const struct wnode *node, uint32_t agg)
{
    const struct wacc_spec *spec = &shape->aggs[agg];
    struct datum *value = value_of(shape, node, agg);
    *value = (struct datum){0};
    if (spec->has_filter) {
        wnode_datum(shape, node, spec->filter, value);
        value->null |= !value->b;
    }
    if (!value->null && spec->arg != 0) {
        wnode_datum(shape, node, spec->col, value);
    }
}

static void add_new(const struct wtree_shape *shape, struct wtree *tree, struct pool *pool,
                    struct wkey key, int64_t diff)
{
    ASSERT(diff != 0 && key.sort_len <= key.len);
    struct wnode *node = pool_alloc(pool, shape->node_size + key.len);
    *node = (struct wnode){.count = diff,
                           .prefix = prefix_of(key.bytes, key.len),
                           .priority = (uint32_t)(hash_bytes(key.bytes, key.len) >> 32),
                           .len = key.len,
                           .sort_len = key.sort_len};
    if (key.len > 0) {
        memcpy((uint8_t *)node + shape->node_size, key.bytes, key.len);
    }
    for (uint32_t i = 0; i < shape->aggs_len; i++) {
        load_value(shape, node, i);
    }
    pull(shape, node);
    tree->negative += diff < 0;
    tree->root = insert(shape, tree->root, node);
}

int64_t wtree_update(const struct wtree_shape *shape, struct wtree *tree, struct pool *pool,
                     struct wkey key, int64_t diff)
{
    struct wnode *node = find(shape, tree, key);
    if (node == NULL) {
        if (diff != 0) {
            add_new(shape, tree, pool, key, diff);
        }
        return 0;
    }
    int64_t before = node->count;
    node->count = (int64_t)((uint64_t)before + (uint64_t)diff);
    tree->negative += (node->count < 0) - (before < 0);
    ASSERT(tree->negative >= 0);
    if (node->count != 0) {
        pull_path(shape, tree->root, node);
    } else {
        tree->root = detach(shape, tree->root, node);
        pool_free(pool, node, shape->node_size + node->len);
    }
    return before;
}

int64_t wtree_count(const struct wtree_shape *shape, const struct wtree *tree, struct wkey key)
{
    const struct wnode *node = find(shape, tree, key);
    return node != NULL ? node->count : 0;
}

/* ---- places ---------------------------------------------------------------------------------- */

static void pass(struct wrank *rank, const struct wnode *node)
{
    rank->copies = oset_plus(rank->copies, oset_plus(copies_of(node->left), wnode_copies(node)));
    rank->elements += elements_of(node->left) + (node->count > 0);
}

struct wrank wtree_rank(const struct wtree_shape *shape, const struct wtree *tree,
                        struct wkey key)
{
    struct wrank rank = {0, 0};
    for (const struct wnode *node = tree->root; node != NULL;) {
        if (compare_node(shape, key, node) > 0) {
            pass(&rank, node);
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return rank;
}

struct wspan wtree_place(const struct wtree_shape *shape, const struct wtree *tree,
                         struct wkey key)
{
    struct wrank rank = {0, 0};
    int64_t own = 0;
    for (const struct wnode *node = tree->root; node != NULL;) {
        int order = compare_node(shape, key, node);
        if (order > 0) {
            pass(&rank, node);
            node = node->right;
        } else if (order < 0) {
            node = node->left;
        } else {
            rank.copies = oset_plus(rank.copies, copies_of(node->left));
            own = wnode_copies(node);
            break;
        }
    }
    return (struct wspan){rank.copies, oset_plus(rank.copies, own)};
}

/* Sort bytes end by themselves, so a prefix of another element's is all of its. */
struct wrank wtree_rank_behind(const struct wtree_shape *shape, const struct wtree *tree,
                               struct wkey key)
{
    struct wrank rank = {0, 0};
    uint64_t prefix = prefix_of(key.bytes, key.sort_len);
    for (const struct wnode *node = tree->root; node != NULL;) {
        uint32_t len = node->len < key.sort_len ? node->len : key.sort_len;
        bool before = len >= sizeof(prefix) && prefix != node->prefix
                          ? prefix > node->prefix
                          : len == 0 || memcmp(key.bytes, wnode_bytes(shape, node), len) >= 0;
        if (before) {
            pass(&rank, node);
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return rank;
}

int64_t wtree_front(const struct wtree *tree,
                    bool (*test)(void *arg, const struct wnode *node), void *arg)
{
    struct wrank rank = {0, 0};
    for (const struct wnode *node = tree->root; node != NULL;) {
        if (test(arg, node)) {
            pass(&rank, node);
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return rank.copies;
}

const struct wnode *wtree_at(const struct wtree *tree, int64_t position, int64_t *first)
{
    ASSERT(position >= 0 && position < wtree_copies(tree));
    int64_t before = 0;
    for (const struct wnode *node = tree->root;;) {
        int64_t left = before + copies_of(node->left);
        if (position < left) {
            node = node->left;
        } else if (position < left + wnode_copies(node)) {
            *first = left;
            return node;
        } else {
            before = left + wnode_copies(node);
            node = node->right;
        }
    }
}

const struct wnode *wtree_element(const struct wtree *tree, int64_t index)
{
    ASSERT(index >= 0 && index < wtree_elements(tree));
    for (const struct wnode *node = tree->root;;) {
        int64_t left = elements_of(node->left), own = node->count > 0;
        if (index < left) {
            node = node->left;
        } else if (index < left + own) {
            return node;
        } else {
            index -= left + own;
            node = node->right;
        }
    }
}

const struct wnode *wtree_next(const struct wtree_shape *shape, const struct wtree *tree,
                               struct wkey key, bool behind)
{
    const struct wnode *found = NULL;
    for (const struct wnode *node = tree->root; node != NULL;) {
        int order = compare_node(shape, key, node);
        if (order < 0 || (order == 0 && !behind)) {
            found = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return found;
}

/* ---- aggregates of runs ---------------------------------------------------------------------- */

/* from and to are relative to the subtree; one that is covered is taken as a whole. */
static void fold(const struct wtree_shape *shape, const struct wnode *node, uint32_t agg,
                 int64_t from, int64_t to, struct wacc *out)
{
    if (node == NULL || from >= to || to <= 0 || from >= node->copies) {
        return;
    }
    const struct wacc_spec *spec = &shape->aggs[agg];
    if (from <= 0 && to >= node->copies) {
        wacc_merge(spec, out, acc_of(shape, node, agg));
        return;
    }
    int64_t left = copies_of(node->left), own = wnode_copies(node);
    fold(shape, node->left, agg, from, to, out);
    int64_t first = from > left ? from : left;
    int64_t last = to < left + own ? to : left + own;
    if (first < last) {
        wacc_add(spec, out, value_of(shape, node, agg), last - first);
    }
    fold(shape, node->right, agg, from - left - own, to - left - own, out);
}

void wtree_fold(const struct wtree_shape *shape, const struct wtree *tree, uint32_t agg,
                int64_t from, int64_t to, struct wacc *out)
{
    ASSERT(agg < shape->aggs_len);
    ASSERT(from >= 0 && from <= to && to <= wtree_copies(tree));
    fold(shape, tree->root, agg, from, to, out);
}

/* Leaves first, without recursion: the root's left child is rotated up until there is none. */
bool wtree_clear(const struct wtree_shape *shape, struct wtree *tree, struct pool *pool,
                 uint32_t max)
{
    for (uint32_t i = 0; tree->root != NULL && i < max; i++) {
        struct wnode *node = tree->root, *left = node->left;
        if (left != NULL) {
            node->left = left->right;
            left->right = node;
            tree->root = left;
        } else {
            tree->root = node->right;
            pool_free(pool, node, shape->node_size + node->len);
        }
    }
    tree->negative = tree->root == NULL ? 0 : tree->negative;
    return tree->root == NULL;
}
