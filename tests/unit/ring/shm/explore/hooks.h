/*
 * Included before everything else into the code that is explored: what it calls of the C library
 * goes through explorer.c.
 */
#ifndef TAILRACE_TESTS_UNIT_RING_SHM_EXPLORE_HOOKS_H
#define TAILRACE_TESTS_UNIT_RING_SHM_EXPLORE_HOOKS_H

#include <stdlib.h>
#include <string.h>

void *explore_memcpy(void *to, const void *from, size_t len);
void *explore_memset(void *to, int value, size_t len);
void *explore_malloc(size_t size);
void *explore_calloc(size_t n, size_t size);
void *explore_aligned_alloc(size_t align, size_t size);
void explore_free(void *p);
_Noreturn void explore_assert_failed(const char *file, int line, const char *function,
                                     const char *what);

#define memcpy explore_memcpy
#define memset explore_memset
#define malloc explore_malloc
#define calloc explore_calloc
#define aligned_alloc explore_aligned_alloc
#define free explore_free
#define assert_failed explore_assert_failed

#endif
