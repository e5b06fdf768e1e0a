/*
 * A treap whose priorities are hashes of the elements: expected depth O(log n), and the shape is a
 * function of the content. Source: Seidel and Aragon, "Randomized search trees" (1996).
 *
 * Invariants: elements are in order (compare); a parent's priority is at least its children's; sum
 * is the number of positive copies in the subtree; count is never 0. Recursion follows the depth,
 * which is about 2 ln n: 50 for a million elements.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/oset.h"

#include "core/base/hash.h"

/* memcmp order, a prefix before what it is a prefix of. */
static int compare(const uint8_t *a, uint32_t a_len, const uint8_t *b, uint32_t b_len)
{
    uint32_t len = a_len < b_len ? a_len : b_len;
    int order = len > 0 ? memcmp(a, b, len) : 0;
    return order != 0 ? order : a_len < b_len ? -1 : a_len > b_len;
}

static int64_t sum_of(const struct oset_node *node)
{
    return node != NULL ? node->sum : 0;
}

/* Recomputes a node's sum from its children's: after any change below it. */
static void pull(struct oset_node *node)
{
    node->sum = oset_plus(oset_plus(sum_of(node->left), oset_copies(node->count)),
                          sum_of(node->right));
}

/* Elements below the given bytes to *low, the others to *high. */
static void split(struct oset_node *node, const uint8_t *bytes, uint32_t len,
                  struct oset_node **low, struct oset_node **high)
{
    if (node == NULL) {
        *low = *high = NULL;
    } else if (compare(node->bytes, node->len, bytes, len) < 0) {
        split(node->right, bytes, len, &node->right, high);
        pull(node);
        *low = node;
    } else {
        split(node->left, bytes, len, low, &node->left);
        pull(node);
        *high = node;
    }
}

/* All of low comes before all of high. */
static struct oset_node *merge(struct oset_node *low, struct oset_node *high)
{
    if (low == NULL || high == NULL) {
        return low != NULL ? low : high;
    }
    if (low->priority >= high->priority) {
        low->right = merge(low->right, high);
        pull(low);
        return low;
    }
    high->left = merge(low, high->left);
    pull(high);
    return high;
}

/* The node takes the place where its priority belongs; what was there becomes its children. */
static struct oset_node *insert(struct oset_node *at, struct oset_node *node)
{
    ASSERT(node != NULL);
    if (at == NULL) {
        return node;
    }
    if (node->priority > at->priority) {
        split(at, node->bytes, node->len, &node->left, &node->right);
        pull(node);
        return node;
    }
    if (compare(node->bytes, node->len, at->bytes, at->len) < 0) {
        at->left = insert(at->left, node);
    } else {
        at->right = insert(at->right, node);
    }
    pull(at);
    return at;
}

static struct oset_node *find(const struct oset *set, const uint8_t *bytes, uint32_t len)
{
    struct oset_node *node = set->root;
    while (node != NULL) {
        int order = compare(bytes, len, node->bytes, node->len);
        if (order == 0) {
            return node;
        }
        node = order < 0 ? node->left : node->right;
    }
    return NULL;
}

/* Recomputes the sums on the way to an element that is there. */
static void pull_path(struct oset_node *at, const struct oset_node *node)
{
    ASSERT(at != NULL && node != NULL);
    if (at != node) {
        bool left = compare(node->bytes, node->len, at->bytes, at->len) < 0;
        pull_path(left ? at->left : at->right, node);
    }
    pull(at);
}

/* Returns the tree without the node, which must be in it. */
static struct oset_node *detach(struct oset_node *at, const struct oset_node *node)
{
    ASSERT(at != NULL);
    if (at == node) {
        return merge(at->left, at->right);
    }
    if (compare(node->bytes, node->len, at->bytes, at->len) < 0) {
        at->left = detach(at->left, node);
    } else {
        at->right = detach(at->right, node);
    }
    pull(at);
    return at;
}

static void add_new(struct oset *set, struct pool *pool, const uint8_t *bytes, uint32_t len,
                    uint32_t sort_len, int64_t diff)
{
    ASSERT(diff != 0);
    struct oset_node *node = pool_alloc(pool, sizeof(*node) + len);
    *node = (struct oset_node){.count = diff,
                               .priority = (uint32_t)(hash_bytes(bytes, len) >> 32),
                               .len = len,
                               .sort_len = sort_len};
    if (len > 0) {
        memcpy(node->bytes, bytes, len);
    }
    pull(node);
    set->negative += diff < 0;
    set->root = insert(set->root, node);
}

/*
 * An element whose count reaches 0 is gone; one below 0 stays, counted in set->negative, until what
 * was retracted too early is inserted.
 */
int64_t oset_update(struct oset *set, struct pool *pool, const uint8_t *bytes, uint32_t len,
                    uint32_t sort_len, int64_t diff)
{
    ASSERT(sort_len <= len);
    struct oset_node *node = find(set, bytes, len);
    if (node == NULL) {
        if (diff != 0) {
            add_new(set, pool, bytes, len, sort_len, diff);
        }
        return 0;
    }
    int64_t before = node->count;
    node->count = (int64_t)((uint64_t)before + (uint64_t)diff);
    set->negative += (node->count < 0) - (before < 0);
    ASSERT(set->negative >= 0);
    ASSERT(set->root != NULL);
    if (node->count != 0) {
        pull_path(set->root, node);
    } else {
        set->root = detach(set->root, node);
        pool_free(pool, node, sizeof(*node) + node->len);
    }
    return before;
}

int64_t oset_rank(const struct oset *set, const uint8_t *bytes, uint32_t len)
{
    ASSERT(set->negative >= 0);
    int64_t rank = 0;
    for (const struct oset_node *node = set->root; node != NULL;) {
        int order = compare(bytes, len, node->bytes, node->len);
        if (order == 0) {
            return rank + sum_of(node->left);
        }
        if (order > 0) {
            rank = oset_plus(rank, oset_plus(sum_of(node->left), oset_copies(node->count)));
        }
        node = order < 0 ? node->left : node->right;
    }
    return rank;
}

/* Subtrees without positive copies are passed over by their sums: still O(log n). */
const struct oset_node *oset_first(const struct oset *set)
{
    const struct oset_node *node = set->root;
    if (sum_of(node) == 0) {
        return NULL;
    }
    for (;;) {
        if (sum_of(node->left) > 0) {
            node = node->left;
        } else if (node->count > 0) {
            return node;
        } else {
            node = node->right;
        }
    }
}

/* The mirror image of oset_first. */
const struct oset_node *oset_last(const struct oset *set)
{
    const struct oset_node *node = set->root;
    if (sum_of(node) == 0) {
        return NULL;
    }
    for (;;) {
        if (sum_of(node->right) > 0) {
            node = node->right;
        } else if (node->count > 0) {
            return node;
        } else {
            node = node->left;
        }
    }
}

static const struct oset_node *first_from(const struct oset_node *node, const uint8_t *bytes,
                                          uint32_t len)
{
    if (sum_of(node) == 0) {
        return NULL;
    }
    if (compare(node->bytes, node->len, bytes, len) < 0) {
        return first_from(node->right, bytes, len);
    }
    const struct oset_node *found = first_from(node->left, bytes, len);
    if (found != NULL) {
        return found;
    }
    return node->count > 0 ? node : first_from(node->right, bytes, len);
}

/* Its bytes start with the sort bytes and are no shorter, so it is the first at or after those. */
const struct oset_node *oset_first_of(const struct oset *set, const uint8_t *sort, uint32_t len)
{
    const struct oset_node *node = first_from(set->root, sort, len);
    bool same = node != NULL && node->sort_len == len && memcmp(node->bytes, sort, len) == 0;
    return same ? node : NULL;
}

/*
 * from and to are relative to this subtree; parts outside are cut off at once, so the cost is O(log
 * n) and the number of elements passed to each.
 */
static void range(const struct oset_node *node, int64_t from, int64_t to,
                  void (*each)(void *arg, const struct oset_node *node, int64_t copies), void *arg)
{
    if (node == NULL || from >= to || to <= 0 || from >= node->sum) {
        return;
    }
    int64_t left = sum_of(node->left);
    range(node->left, from, to, each, arg);
    int64_t copies = oset_copies(node->count);
    ASSERT(node->count != 0);
    int64_t behind = oset_plus(left, copies);
    int64_t first = from > left ? from : left;
    int64_t last = to < behind ? to : behind;
    if (first < last) {
        each(arg, node, last - first);
    }
    range(node->right, from - behind, to - behind, each, arg);
}

/* A from below 0 counts as 0. */
void oset_range(const struct oset *set, int64_t from, int64_t to,
                void (*each)(void *arg, const struct oset_node *node, int64_t copies), void *arg)
{
    range(set->root, from < 0 ? 0 : from, to, each, arg);
}

/* Takes the root away until nothing is left: no recursion, no extra memory. */
void oset_clear(struct oset *set, struct pool *pool)
{
    while (set->root != NULL) {
        struct oset_node *node = set->root;
        set->root = merge(node->left, node->right);
        pool_free(pool, node, sizeof(*node) + node->len);
    }
    set->negative = 0;
}
