/* The pool of message memory: used again, bounded, and gone with its last user. */
#include "tests/unit/harness.h"

#include "core/base/mem.h"
#include "ring/tcp/pool.h"

#include <pthread.h>
#include <stdatomic.h>

enum { PLACES = 64, ROUNDS = 200000 };

static struct carrier_node *get(struct tcp_pool *pool, uint32_t stream, size_t len)
{
    struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = stream};
    struct carrier_node *node = tcp_pool_get(pool, 1, 2, &m, len);
    CU_ASSERT_FATAL(node->m.len == len && node->m.stream == stream && node->local == 1 &&
                    node->remote == 2 && (node->m.data == NULL) == (len == 0));
    CU_ASSERT_EQUAL((uintptr_t)node->m.data % CARRIER_ALIGN, 0);
    memset(carrier_node_data(node), (int)(stream & 0xFF), len);
    return node;
}

static void test_again(void)
{
    struct tcp_pool *pool = tcp_pool_new();
    static const size_t sizes[] = {0, 300, 4096, 100000, 262144, 1 << 20}; /* a class each */
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct carrier_node *node = get(pool, 7, sizes[i]);
        carrier_node_free(node);
        struct carrier_node *same = get(pool, 8, sizes[i]);
        CU_ASSERT_PTR_EQUAL(same, node);
        struct carrier_node *other = get(pool, 9, sizes[i]);
        CU_ASSERT_PTR_NOT_EQUAL(other, same);
        carrier_node_free(same);
        carrier_node_free(other);
    }
    tcp_pool_release(pool);
}

/* Nodes outlive the pool's owner; the largest are not kept at all. */
static void test_outlive(void)
{
    struct tcp_pool *pool = tcp_pool_new();
    struct carrier_node *nodes[PLACES];
    for (uint32_t i = 0; i < PLACES; i++) {
        nodes[i] = get(pool, i, (size_t)i * 10000); /* 20 MB: more than is kept */
    }
    struct carrier_node *large = get(pool, 1, FRAME_MESSAGE_MAX);
    for (uint32_t i = 0; i < PLACES / 2; i++) {
        carrier_node_free(nodes[i]);
    }
    tcp_pool_release(pool);
    for (uint32_t i = PLACES / 2; i < PLACES; i++) {
        CU_ASSERT_EQUAL(nodes[i]->m.data[nodes[i]->m.len - 1], i);
        carrier_node_free(nodes[i]);
    }
    carrier_node_free(large);
    tcp_pool_release(NULL);
}

/* One thread takes, another looks at the bytes and gives back. */
struct exchange {
    struct carrier_node *_Atomic places[PLACES];
    _Atomic bool over;
    size_t wrong;
};

static bool give_back_some(struct exchange *x)
{
    bool any = false;
    for (size_t i = 0; i < PLACES; i++) {
        /* Acquire: pairs with the release in test_threads. */
        struct carrier_node *node =
            atomic_exchange_explicit(&x->places[i], NULL, memory_order_acquire);
        if (node == NULL) {
            continue;
        }
        any = true;
        uint8_t want = (uint8_t)(node->m.stream & 0xFF);
        x->wrong += node->m.len > 0 &&
                    (node->m.data[0] != want || node->m.data[node->m.len - 1] != want);
        carrier_node_free(node);
    }
    return any;
}

static void *giver(void *arg)
{
    struct exchange *x = arg;
    bool over = false;
    while (!over) {
        /* Acquire: pairs with the store in test_threads; before the last look. */
        over = atomic_load_explicit(&x->over, memory_order_acquire);
        (void)give_back_some(x);
    }
    return NULL;
}

static void test_threads(void)
{
    struct exchange *x = MEM_NEW(struct exchange);
    struct tcp_pool *pool = tcp_pool_new();
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, giver, x), 0);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct carrier_node *node = get(pool, i, i % 1000 == 0 ? 300000 : i * 37 % 3000);
        /* Release: pairs with the acquire in give_back_some. */
        struct carrier_node *old =
            atomic_exchange_explicit(&x->places[i % PLACES], node, memory_order_release);
        if (old != NULL) {
            carrier_node_free(old);
        }
    }
    tcp_pool_release(pool);
    /* Release: pairs with the load in giver. */
    atomic_store_explicit(&x->over, true, memory_order_release);
    CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
    CU_ASSERT_EQUAL(x->wrong, 0);
    free(x);
}

static const struct test_case cases[] = {
    {"memory is used again", test_again},
    {"nodes outlive the owner", test_outlive},
    {"given back by another thread", test_threads},
};
TEST_SUITE("ring/tcp", cases)
