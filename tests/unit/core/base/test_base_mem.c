/* The allocator's settings, by what glibc tells of itself; sanitizers' allocators tell zero. */
#include "tests/unit/harness.h"

#include "core/base/mem.h"

#include <malloc.h>

enum { BATCHES = 1000, LIVE = 16 };

/*
 * Batches as they come and go, aligned, between small things that stay: each leaves pieces cut off
 * before and behind it.
 */
static void churn(void **kept)
{
    void *live[LIVE] = {NULL};
    for (size_t i = 0; i < BATCHES; i++) {
        free(live[i % LIVE]);
        kept[i] = mem_alloc(24 + i % 7 * 16);
        live[i % LIVE] = aligned_alloc(64, 64 * (1 + i % 11));
        CU_ASSERT_FATAL(live[i % LIVE] != NULL);
    }
    for (size_t i = 0; i < LIVE; i++) {
        free(live[i]);
    }
}

static size_t pieces_after(void)
{
    void **kept = mem_zalloc(BATCHES * sizeof(*kept));
    churn(kept);
    size_t pieces = mallinfo2().smblks;
    for (size_t i = 0; i < BATCHES; i++) {
        free(kept[i]);
    }
    free(kept);
    return pieces;
}

static void nothing_is_left_to_merge(void)
{
    size_t before = pieces_after();
    mem_steady();
    CU_ASSERT(pieces_after() == 0);
    CU_ASSERT(before > 0 || mallinfo2().arena == 0); /* else the test shows nothing */
}

static const struct test_case cases[] = {
    {"small freed pieces are merged at once", nothing_is_left_to_merge},
};
TEST_SUITE("core/base/mem", cases)
