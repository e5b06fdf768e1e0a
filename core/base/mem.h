/*
 * Allocation for control structures. Memory exhaustion on these small allocations is not
 * recoverable in a useful way: the process says so and aborts, its supervisor restarts it and it
 * resumes exactly. Memory whose size follows the data or a peer goes through budgets instead.
 */
#ifndef TAILRACE_CORE_BASE_MEM_H
#define TAILRACE_CORE_BASE_MEM_H

#include "core/base/assert.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* size bytes, not initialised; never NULL. */
static inline void *mem_alloc(size_t size)
{
    void *p = malloc(size == 0 ? 1 : size);
    ASSERT(p != NULL);
    return p;
}

/* size bytes of zero; never NULL. */
static inline void *mem_zalloc(size_t size)
{
    void *p = calloc(1, size == 0 ? 1 : size);
    ASSERT(p != NULL);
    return p;
}

/* As realloc, but never NULL; what is added is not initialised. */
static inline void *mem_realloc(void *old, size_t size)
{
    void *p = realloc(old, size == 0 ? 1 : size);
    ASSERT(p != NULL);
    return p;
}

/* Copies of texts, freed with free(); strndup's s need not end with a NUL. */
static inline char *mem_strdup(const char *s)
{
    size_t len = strlen(s) + 1;
    return memcpy(mem_alloc(len), s, len);
}

static inline char *mem_strndup(const char *s, size_t len)
{
    ASSERT(len < SIZE_MAX);
    char *copy = mem_alloc(len + 1);
    memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

/*
 * Freed memory up to about so many bytes is kept by the process for the next allocation instead of
 * being given back. For processes in which batches of some MiB come and go all the time: every page
 * that was given back costs a fault when it is taken again. Call once, before there are threads.
 */
void mem_keep(size_t bytes);

/*
 * No call to malloc or free takes long because of what was freed before: without this glibc puts
 * small freed pieces aside unmerged, among them what aligned_alloc cuts off, and some later call
 * merges them all (10 ms after 30,000 batches). Call once in each process, before there are
 * threads.
 */
void mem_steady(void);
enum { MEM_KEPT = 64 * 1024 * 1024 }; /* by computed, and by what measures the engine */

/* Zeroed object of a type. */
#define MEM_NEW(type) ((type *)mem_zalloc(sizeof(type)))

/*
 * Growable arrays: a struct with fields named <x>, <x>_len, <x>_cap. VEC_PUSH returns a pointer to
 * a zeroed new last element. The owner frees the array with free().
 */
#define VEC_PUSH(owner, field)                                                                     \
    (vec_grow((void **)&(owner)->field, &(owner)->field##_cap, (owner)->field##_len,               \
              sizeof((owner)->field[0])),                                                          \
     memset(&(owner)->field[(owner)->field##_len], 0, sizeof((owner)->field[0])),                  \
     &(owner)->field[(owner)->field##_len++])

/* Room for one item behind the first len. Doubles: n pushes cost O(n). */
static inline void vec_grow(void **array, size_t *cap, size_t len, size_t item_size)
{
    if (len < *cap) {
        return;
    }
    *cap = *cap == 0 ? 8 : *cap * 2;
    ASSERT(*cap <= SIZE_MAX / item_size); /* else the product would wrap to a small one */
    ASSERT(len < *cap);
    *array = mem_realloc(*array, *cap * item_size);
}

#endif
