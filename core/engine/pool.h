/*
 * Memory of one arrangement or operator state: size classes cut from pages, no malloc per record.
 * Bytes held are accounted to the dataflow and the engine. When the last object is freed the pages
 * go back at once; otherwise freed objects are reused by later ones of their class.
 * One thread: the engine's.
 */
#ifndef TAILRACE_CORE_ENGINE_POOL_H
#define TAILRACE_CORE_ENGINE_POOL_H

#include "core/base/mem.h"

#include <stdint.h>

enum { POOL_CLASSES = 36, POOL_CLASS_MAX = 16384 };

/* A chain of accounts: bytes are added to each. */
struct account {
    uint64_t bytes;
    struct account *parent;
};

/*
 * Bytes may be negative. No account of the chain may go below zero: more was given back than taken.
 */
static inline void account_add(struct account *account, int64_t bytes)
{
    for (; account != NULL; account = account->parent) {
        ASSERT(bytes >= 0 || account->bytes >= (uint64_t)-bytes);
        account->bytes += (uint64_t)bytes;
    }
}

struct pool_page;
struct pool_large;

struct pool {
    void *free[POOL_CLASSES]; /* singly linked through the objects */
    struct pool_page *pages;
    struct pool_large *large; /* objects beyond POOL_CLASS_MAX, from malloc */
    uint8_t *bump;            /* the rest of the newest page */
    size_t bump_left;
    size_t page_size;         /* of the next page; grows, so that small states stay small */
    uint64_t objects;         /* live */
    struct account account;   /* bytes held */
};

void pool_init(struct pool *pool, struct account *parent);
/* Frees everything; the pool may be used again. */
void pool_clear(struct pool *pool);
/* How many bytes an allocation of size really gets. */
size_t pool_usable(size_t size);
/* 16-byte aligned, not initialised. */
void *pool_alloc(struct pool *pool, size_t size);
/* size: as asked for, or any size with the same pool_usable. */
void pool_free(struct pool *pool, void *object, size_t size);

#endif
