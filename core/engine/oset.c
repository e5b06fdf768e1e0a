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

/* What is looked for: bytes in up to two parts. */
struct wanted {
    const uint8_t *bytes, *rest;
    uint32_t len, rest_len;
    uint64_t prefix; /* of the first part */
};

/* The first eight bytes as a number of the same order; what is missing counts as zero. */
static uint64_t prefix_of(const uint8_t *bytes, uint32_t len)
{
    uint64_t word = 0;
    if (len > 0) {
        memcpy(&word, bytes, len < sizeof(word) ? len : sizeof(word));
    }
    return __builtin_bswap64(word);
}

static struct wanted wanted_of(const uint8_t *bytes, uint32_t len)
{
    return (struct wanted){.bytes = bytes, .len = len, .prefix = prefix_of(bytes, len)};
}

static struct wanted wanted_parts(const struct oset_parts *parts)
{
    struct wanted wanted = wanted_of(parts->sort, parts->sort_len);
    uint32_t have = parts->sort_len;
    wanted.rest = parts->data;
    wanted.rest_len = parts->data_len;
    if (have < sizeof(wanted.prefix)) {
        wanted.prefix |= prefix_of(parts->data, parts->data_len) >> 8 * have;
    }
    return wanted;
}

static struct wanted wanted_node(const struct oset_node *node)
{
    return (struct wanted){.bytes = node->bytes, .len = node->len, .prefix = node->prefix};
}

/* memcmp order, a prefix before what it is a prefix of. Less than 0: what is wanted is before. */
static int compare(const struct wanted *a, const struct oset_node *b)
{
    if (a->prefix != b->prefix) {
        return a->prefix < b->prefix ? -1 : 1;
    }
    uint32_t len = a->len < b->len ? a->len : b->len;
    int order = len > 0 ? memcmp(a->bytes, b->bytes, len) : 0;
    uint32_t left = b->len - len;
    if (order == 0 && a->rest_len > 0 && left > 0) {
        uint32_t more = a->rest_len < left ? a->rest_len : left;
        order = memcmp(a->rest, b->bytes + len, more);
    }
    uint64_t all = (uint64_t)a->len + a->rest_len;
    return order != 0 ? order : all < b->len ? -1 : all > b->len;
}

int oset_compare(const struct oset_node *a, const struct oset_node *b)
{
    struct wanted wanted = wanted_node(a);
    ASSERT(a->prefix == prefix_of(a->bytes, a->len));
    return a == b ? 0 : compare(&wanted, b);
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

/* Elements below the given one to *low, the others to *high. */
static void split(struct oset_node *node, const struct wanted *at, struct oset_node **low,
                  struct oset_node **high)
{
    if (node == NULL) {
        *low = *high = NULL;
    } else if (compare(at, node) > 0) {
        split(node->right, at, &node->right, high);
        pull(node);
        *low = node;
    } else {
        split(node->left, at, low, &node->left);
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
    struct wanted wanted = wanted_node(node);
    if (node->priority > at->priority) {
        split(at, &wanted, &node->left, &node->right);
        pull(node);
        return node;
    }
    if (compare(&wanted, at) < 0) {
        at->left = insert(at->left, node);
    } else {
        at->right = insert(at->right, node);
    }
    pull(at);
    return at;
}

static struct oset_node *find(const struct oset *set, const struct wanted *wanted)
{
    struct oset_node *node = set->root;
    while (node != NULL) {
        int order = compare(wanted, node);
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
        bool left = oset_compare(node, at) < 0;
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
    if (oset_compare(node, at) < 0) {
        at->left = detach(at->left, node);
    } else {
        at->right = detach(at->right, node);
    }
    pull(at);
    return at;
}

static void add_new(struct oset *set, struct pool *pool, const struct wanted *wanted,
                    uint32_t sort_len, int64_t diff)
{
    ASSERT(diff != 0 && wanted->rest_len <= UINT32_MAX - wanted->len);
    uint32_t len = wanted->len + wanted->rest_len;
    struct oset_node *node = pool_alloc(pool, sizeof(*node) + len);
    *node = (struct oset_node){
        .count = diff, .prefix = wanted->prefix, .len = len, .sort_len = sort_len};
    if (wanted->len > 0) {
        memcpy(node->bytes, wanted->bytes, wanted->len);
    }
    if (wanted->rest_len > 0) {
        memcpy(node->bytes + wanted->len, wanted->rest, wanted->rest_len);
    }
    ASSERT(node->prefix == prefix_of(node->bytes, len));
    node->priority = (uint32_t)(hash_bytes(node->bytes, len) >> 32);
    pull(node);
    set->negative += diff < 0;
    set->root = insert(set->root, node);
}

/*
 * An element whose count reaches 0 is gone; one below 0 stays, counted in set->negative, until what
 * was retracted too early is inserted.
 */
static int64_t change(struct oset *set, struct pool *pool, const struct wanted *wanted,
                      uint32_t sort_len, int64_t diff, struct oset_node **gone)
{
    struct oset_node *node = find(set, wanted);
    *gone = NULL;
    if (node == NULL) {
        if (diff != 0) {
            add_new(set, pool, wanted, sort_len, diff);
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
        *gone = node;
    }
    return before;
}

int64_t oset_change(struct oset *set, struct pool *pool, const struct oset_parts *element,
                    int64_t diff, struct oset_node **gone)
{
    struct wanted wanted = wanted_parts(element);
    return change(set, pool, &wanted, element->sort_len, diff, gone);
}

void oset_free_node(struct pool *pool, struct oset_node *node)
{
    ASSERT(node->count == 0);
    pool_free(pool, node, sizeof(*node) + node->len);
}

int64_t oset_update(struct oset *set, struct pool *pool, const uint8_t *bytes, uint32_t len,
                    uint32_t sort_len, int64_t diff)
{
    ASSERT(sort_len <= len);
    struct wanted wanted = wanted_of(bytes, len);
    struct oset_node *gone;
    int64_t before = change(set, pool, &wanted, sort_len, diff, &gone);
    if (gone != NULL) {
        oset_free_node(pool, gone);
    }
    return before;
}

int64_t oset_rank(const struct oset *set, const uint8_t *bytes, uint32_t len)
{
    ASSERT(set->negative >= 0);
    int64_t rank = 0;
    struct wanted wanted = wanted_of(bytes, len);
    for (const struct oset_node *node = set->root; node != NULL;) {
        int order = compare(&wanted, node);
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

/* Sort bytes are no prefix of others, so the common length decides. */
int64_t oset_rank_behind(const struct oset *set, const uint8_t *sort, uint32_t len)
{
    int64_t rank = 0;
    for (const struct oset_node *node = set->root; node != NULL;) {
        uint32_t both = node->sort_len < len ? node->sort_len : len;
        bool behind = memcmp(node->bytes, sort, both) > 0;
        ASSERT(behind || both == len || memcmp(node->bytes, sort, both) < 0);
        if (!behind) {
            rank = oset_plus(rank, oset_plus(sum_of(node->left), oset_copies(node->count)));
        }
        node = behind ? node->left : node->right;
    }
    return rank;
}

int64_t oset_rank_peers(const struct oset *set, int64_t position)
{
    ASSERT(position >= 0);
    const struct oset_node *node = set->root;
    int64_t before = 0; /* copies before the node's subtree */
    while (node != NULL) {
        int64_t at = oset_plus(before, sum_of(node->left));
        int64_t behind = oset_plus(at, oset_copies(node->count));
        if (position < at) {
            node = node->left;
        } else if (position < behind) {
            return oset_rank_behind(set, node->bytes, node->sort_len);
        } else {
            before = behind;
            node = node->right;
        }
    }
    return oset_total(set);
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

static const struct oset_node *first_from(const struct oset_node *node,
                                          const struct wanted *wanted)
{
    if (sum_of(node) == 0) {
        return NULL;
    }
    if (compare(wanted, node) > 0) {
        return first_from(node->right, wanted);
    }
    const struct oset_node *found = first_from(node->left, wanted);
    if (found != NULL) {
        return found;
    }
    return node->count > 0 ? node : first_from(node->right, wanted);
}

/* Its bytes start with the sort bytes and are no shorter, so it is the first at or after those. */
const struct oset_node *oset_first_of(const struct oset *set, const uint8_t *sort, uint32_t len)
{
    struct wanted wanted = wanted_of(sort, len);
    const struct oset_node *node = first_from(set->root, &wanted);
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
