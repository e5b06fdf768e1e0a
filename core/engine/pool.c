/*
 * Size classes: multiples of 16 to 128 bytes, then four a doubling to 16 KiB, then malloc. A
 * rounded object wastes at most a fifth. Freed objects go to the list of their class and are never
 * merged: the states kept here (entries, lists of updates, nodes) have few sizes and reuse their
 * own. Fragmentation ends where the pool empties: then all pages go back. The pages of a large pool
 * are the system's large ones.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/pool.h"

#include "core/io/io.h"

#include <stdbool.h>

enum {
    PAGE_MIN = 4096,
    PAGE_MAX = 256 * 1024,
    LARGE_ROUND = 4096,
    LARGE_FROM = 16 * 1024 * 1024, /* bytes held: from then on a pool's pages are large ones */
};

/* Stands at the start of each page; objects follow. */
struct pool_page {
    struct pool_page *next;
    size_t size;
};

/* Stands before each large object, so that it can be unlinked without a search. */
struct pool_large {
    struct pool_large *next, *prev;
    size_t size; /* with this header */
    size_t pad;
};

STATIC_ASSERT((size_t)PAGE_MAX < (size_t)IO_LARGE_PAGE, "a page's size says where it is from");
STATIC_ASSERT(sizeof(struct pool_page) % 16 == 0, "objects stay aligned");
STATIC_ASSERT(sizeof(struct pool_large) % 16 == 0, "objects stay aligned");

/* 16, 32, .. 128 are classes 0..7; 160, 192, 224, 256 are 8..11; and so on, four a doubling. */
static int class_of(size_t size)
{
    ASSERT(size <= POOL_CLASS_MAX);
    if (size <= 128) {
        return size == 0 ? 0 : (int)((size - 1) / 16);
    }
    int log = 63 - __builtin_clzll(size - 1); /* 2^log <= size - 1 < 2^(log + 1), log >= 7 */
    int quarter = (int)(((size - 1) >> (log - 2)) & 3);
    return 8 + (log - 7) * 4 + quarter;
}

/* The largest size of a class: what an object of it occupies. Inverse of class_of. */
static size_t class_size(int class)
{
    ASSERT(class >= 0 && class < POOL_CLASSES);
    if (class < 8) {
        return (size_t)(class + 1) * 16;
    }
    int log = 7 + (class - 8) / 4;
    return ((size_t)1 << log) + ((size_t)((class - 8) % 4 + 1) << (log - 2));
}

void pool_init(struct pool *pool, struct account *parent)
{
    *pool = (struct pool){.page_size = PAGE_MIN, .account = {.parent = parent}};
}

void pool_clear(struct pool *pool)
{
    while (pool->pages != NULL) {
        struct pool_page *next = pool->pages->next;
        account_add(&pool->account, -(int64_t)pool->pages->size);
        if (pool->pages->size == IO_LARGE_PAGE) {
            io_large_page_free(pool->pages);
        } else {
            free(pool->pages);
        }
        pool->pages = next;
    }
    while (pool->large != NULL) {
        struct pool_large *next = pool->large->next;
        account_add(&pool->account, -(int64_t)pool->large->size);
        free(pool->large);
        pool->large = next;
    }
    ASSERT(pool->account.bytes == 0);
    pool_init(pool, pool->account.parent);
}

/*
 * Large objects fill whole LARGE_ROUND pages with their header, so that a list that grows a little
 * may do so in place.
 */
size_t pool_usable(size_t size)
{
    if (size <= POOL_CLASS_MAX) {
        return class_size(class_of(size));
    }
    size_t whole = size + sizeof(struct pool_large);
    return (whole + LARGE_ROUND - 1) / LARGE_ROUND * LARGE_ROUND - sizeof(struct pool_large);
}

static void *alloc_large(struct pool *pool, size_t size)
{
    ASSERT(size > POOL_CLASS_MAX);
    struct pool_large *large = mem_alloc(pool_usable(size) + sizeof(*large));
    *large = (struct pool_large){.next = pool->large,
                                 .size = pool_usable(size) + sizeof(*large)};
    if (pool->large != NULL) {
        pool->large->prev = large;
    }
    pool->large = large;
    ASSERT(large->next == NULL || large->next->prev == large);
    account_add(&pool->account, (int64_t)large->size);
    return large + 1;
}

/* The rest of the last page is lost: at most one object of 16 KiB in 256 KiB. */
static void add_page(struct pool *pool, size_t size)
{
    while (pool->page_size < size + sizeof(struct pool_page)) {
        pool->page_size *= 2;
    }
    bool large = pool->account.bytes >= LARGE_FROM;
    size_t bytes = large ? IO_LARGE_PAGE : pool->page_size;
    struct pool_page *page = large ? io_large_page_new() : mem_alloc(bytes);
    *page = (struct pool_page){.next = pool->pages, .size = bytes};
    pool->pages = page;
    pool->bump = (uint8_t *)(page + 1);
    pool->bump_left = page->size - sizeof(*page);
    account_add(&pool->account, (int64_t)page->size);
    ASSERT(pool->bump_left >= size && (uintptr_t)pool->bump % 16 == 0);
    if (pool->page_size < PAGE_MAX) {
        pool->page_size *= 2;
    }
}

/* First a freed object of the class, then the rest of the page, then a new page. */
void *pool_alloc(struct pool *pool, size_t size)
{
    ASSERT(pool->page_size > 0);
    pool->objects++;
    if (size > POOL_CLASS_MAX) {
        return alloc_large(pool, size);
    }
    int class = class_of(size);
    void *object = pool->free[class];
    if (object != NULL) {
        memcpy(&pool->free[class], object, sizeof(void *));
        return object;
    }
    size_t bytes = class_size(class);
    if (pool->bump_left < bytes) {
        add_page(pool, bytes);
    }
    object = pool->bump;
    pool->bump += bytes;
    pool->bump_left -= bytes;
    ASSERT((uintptr_t)object % 16 == 0);
    return object;
}

static void free_large(struct pool *pool, void *object)
{
    ASSERT(pool->large != NULL);
    struct pool_large *large = (struct pool_large *)object - 1;
    if (large->prev != NULL) {
        large->prev->next = large->next;
    } else {
        ASSERT(pool->large == large);
        pool->large = large->next;
    }
    if (large->next != NULL) {
        large->next->prev = large->prev;
    }
    account_add(&pool->account, -(int64_t)large->size);
    free(large);
}

/* The link to the next free object is written into the object itself. */
void pool_free(struct pool *pool, void *object, size_t size)
{
    ASSERT(pool->objects > 0 && object != NULL);
    if (size > POOL_CLASS_MAX) {
        free_large(pool, object);
    } else {
        int class = class_of(size);
        memcpy(object, &pool->free[class], sizeof(void *));
        pool->free[class] = object;
    }
    if (--pool->objects == 0) {
        pool_clear(pool);
    }
}
