/*
 * A bump allocator: everything allocated from it is freed at once. For plans, parse trees and
 * other structures that live and die together. One thread at a time.
 */
#ifndef TAILRACE_CORE_BASE_ARENA_H
#define TAILRACE_CORE_BASE_ARENA_H

#include "core/base/mem.h"

#include <stdint.h>

struct arena_chunk;

/* Zero-initialised is empty. Owned by one thread at a time, and it owns all it handed out. */
struct arena {
    struct arena_chunk *chunks; /* the newest first, but see arena.c */
    size_t used;                /* bytes handed out, in all, rounding included: for budgets */
};

/* size bytes of zero, 16-byte aligned, valid until arena_free. */
void *arena_alloc(struct arena *arena, size_t size);
/* Copies, NUL-terminated where they are texts. */
char *arena_strdup(struct arena *arena, const char *s);
char *arena_strndup(struct arena *arena, const char *s, size_t len);
void *arena_memdup(struct arena *arena, const void *data, size_t len);
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Frees all of it; the arena is empty again and may be used on. */
void arena_free(struct arena *arena);

#define ARENA_NEW(arena, type) ((type *)arena_alloc((arena), sizeof(type)))
#define ARENA_ARRAY(arena, type, n) ((type *)arena_alloc((arena), sizeof(type) * (n)))

#endif
