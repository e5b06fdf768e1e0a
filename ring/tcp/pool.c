/*
 * The pool of nodes: see pool.h. What comes back lands on a stack that any thread pushes on and the
 * owner takes whole (as in a mailbox: nothing is popped singly, so there is no ABA), from where it
 * is sorted into a list for each power of two.
 */
#include "ring/tcp/pool.h"

#include "core/base/mem.h"

enum {
    CLASS_MIN_BITS = 8,
    CLASS_MAX_BITS = 21, /* beyond, nodes are the C library's: they are rare */
    CLASSES = CLASS_MAX_BITS - CLASS_MIN_BITS + 1,
};
/* Memory not in use that a pool holds; what comes back beyond it is freed. It need only cover the
 * ups and downs of how much is under way. */
#define KEEP_BYTES ((size_t)4 << 20)

struct tcp_pool {
    _Atomic size_t refs; /* the owner, and every node that is out */
    _Atomic size_t kept; /* bytes in back and spare */
    struct carrier_node *_Atomic back;    /* given back, newest first; any thread */
    struct carrier_node *spare[CLASSES]; /* the owner's */
};

/* The smallest class a node of this size fits into. */
static uint32_t class_of(size_t size)
{
    ASSERT(size > 0 && size <= (size_t)1 << CLASS_MAX_BITS);
    uint32_t bits = size <= 1 ? 0 : 64 - (uint32_t)__builtin_clzll(size - 1);
    return bits <= CLASS_MIN_BITS ? 0 : bits - CLASS_MIN_BITS;
}

static size_t class_size(uint32_t class)
{
    ASSERT(class < CLASSES);
    return (size_t)1 << (class + CLASS_MIN_BITS);
}

/* Nobody else sees the list any more. */
static void free_list(struct carrier_node *node)
{
    while (node != NULL) {
        struct carrier_node *next = node->next;
        free(node);
        node = next;
    }
}

struct tcp_pool *tcp_pool_new(void)
{
    struct tcp_pool *pool = MEM_NEW(struct tcp_pool);
    /* Relaxed: nobody else knows the pool yet. */
    atomic_store_explicit(&pool->refs, 1, memory_order_relaxed);
    return pool;
}

/* The last one frees what is still on the stack, and the pool. Any thread. */
static void unref(struct tcp_pool *pool)
{
    /* Release: what this thread pushed on back comes before; acquire: whoever is the last sees
     * what all the others pushed. Pairs with itself. */
    size_t before = atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    /* Relaxed: no other thread knows the pool any more. */
    free_list(atomic_load_explicit(&pool->back, memory_order_relaxed));
    free(pool);
}

/* Any thread: a node is not needed any more. */
static void give_back(struct carrier_node *node)
{
    struct tcp_pool *pool = node->pool;
    ASSERT(pool != NULL && node->room >= sizeof(*node) && node->reason == ERR_OK);
    /* Relaxed, as all of kept: it bounds memory and orders nothing. */
    if (atomic_load_explicit(&pool->kept, memory_order_relaxed) + node->room > KEEP_BYTES) {
        free(node);
        unref(pool);
        return;
    }
    atomic_fetch_add_explicit(&pool->kept, node->room, memory_order_relaxed);
    /* Relaxed: only the value is used, the exchange orders. */
    struct carrier_node *top = atomic_load_explicit(&pool->back, memory_order_relaxed);
    do {
        node->next = top;
        /* Release: pairs with the acquire in sort_back; our last use of the bytes comes before. */
    } while (!atomic_compare_exchange_weak_explicit(&pool->back, &top, node, memory_order_release,
                                                    memory_order_relaxed));
    unref(pool);
}

/* Takes what has come back into the lists it belongs to. */
static void sort_back(struct tcp_pool *pool)
{
    /* Acquire: pairs with the release in give_back. */
    struct carrier_node *node = atomic_exchange_explicit(&pool->back, NULL, memory_order_acquire);
    while (node != NULL) {
        struct carrier_node *next = node->next;
        uint32_t class = class_of(node->room);
        ASSERT(class_size(class) == node->room);
        node->next = pool->spare[class];
        pool->spare[class] = node;
        node = next;
    }
}

/* Memory of a class, spare or new. */
static struct carrier_node *take(struct tcp_pool *pool, uint32_t class)
{
    if (pool->spare[class] == NULL) {
        sort_back(pool);
    }
    struct carrier_node *node = pool->spare[class];
    if (node == NULL) {
        node = aligned_alloc(CARRIER_ALIGN, class_size(class));
        ASSERT(node != NULL);
        return node;
    }
    pool->spare[class] = node->next;
    /* Relaxed: see give_back. */
    size_t before = atomic_fetch_sub_explicit(&pool->kept, class_size(class),
                                              memory_order_relaxed);
    ASSERT(before >= class_size(class));
    return node;
}

struct carrier_node *tcp_pool_get(struct tcp_pool *pool, uint32_t local, uint32_t remote,
                                  const struct carrier_message *m, size_t len)
{
    ASSERT(pool != NULL && len <= FRAME_MESSAGE_MAX);
    size_t size = carrier_node_size(len);
    if (size > (size_t)1 << CLASS_MAX_BITS) {
        return carrier_node_new(CARRIER_NODE_MESSAGE, local, remote, m, len);
    }
    uint32_t class = class_of(size);
    struct carrier_node *node = take(pool, class);
    carrier_node_init(node, CARRIER_NODE_MESSAGE, local, remote, m, len);
    node->room = class_size(class);
    node->pool = pool;
    node->give_back = give_back;
    /* Relaxed: the owner holds a reference, so it cannot be the last to go. */
    atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
    return node;
}

void tcp_pool_release(struct tcp_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    sort_back(pool);
    for (uint32_t i = 0; i < CLASSES; i++) {
        free_list(pool->spare[i]);
        pool->spare[i] = NULL;
    }
    unref(pool);
}
