/*
 * Bump allocator: see arena.h. A list of chunks, the newest first; the newest alone has room left
 * that is used. What is larger than a chunk gets one of its own, put behind the newest, so that a
 * single long text does not throw away the rest of the chunk that small nodes are filling.
 */
#include "core/base/arena.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* One malloc; freed with the arena, never before. */
struct arena_chunk {
    struct arena_chunk *next;
    size_t size; /* usable bytes in data */
    size_t used; /* of them; a multiple of ARENA_ALIGN */
    size_t pad;  /* keeps data aligned, as malloc's memory is */
    uint8_t data[];
};

enum { ARENA_CHUNK_MIN = 8192, ARENA_ALIGN = 16 };
STATIC_ASSERT(sizeof(struct arena_chunk) % ARENA_ALIGN == 0, "chunk data must stay aligned");

/* A chunk with room for size bytes, linked where the head of this file says. */
static struct arena_chunk *chunk_add(struct arena *arena, size_t size)
{
    bool alone = size > ARENA_CHUNK_MIN && arena->chunks != NULL;
    size_t want = size > ARENA_CHUNK_MIN ? size : ARENA_CHUNK_MIN;
    struct arena_chunk **at = alone ? &arena->chunks->next : &arena->chunks;
    struct arena_chunk *chunk = mem_alloc(sizeof(*chunk) + want);
    *chunk = (struct arena_chunk){.next = *at, .size = want};
    *at = chunk;
    return chunk;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    ASSERT(size <= SIZE_MAX / 4); /* rounding up cannot wrap */
    size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct arena_chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        chunk = chunk_add(arena, size);
    }
    ASSERT(chunk->used % ARENA_ALIGN == 0 && chunk->size - chunk->used >= size);
    void *p = chunk->data + chunk->used;
    chunk->used += size;
    arena->used += size;
    memset(p, 0, size);
    return p;
}

/* Exactly len bytes, whether or not a NUL is among them. */
char *arena_strndup(struct arena *arena, const char *s, size_t len)
{
    char *copy = arena_alloc(arena, len + 1); /* zeroed: the NUL is there */
    memcpy(copy, s, len);
    return copy;
}

char *arena_strdup(struct arena *arena, const char *s)
{
    ASSERT(s != NULL);
    return arena_strndup(arena, s, strlen(s));
}

void *arena_memdup(struct arena *arena, const void *data, size_t len)
{
    void *copy = arena_alloc(arena, len);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return copy;
}

/* Formats twice: once to learn the length, then in place. */
char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);
    char *out = arena_alloc(arena, (size_t)len + 1);
    va_start(args, format);
    int again = vsnprintf(out, (size_t)len + 1, format, args);
    va_end(args);
    ASSERT(again == len);
    return out;
}

void arena_free(struct arena *arena)
{
    struct arena_chunk *chunk = arena->chunks;
    while (chunk != NULL) {
        struct arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    *arena = (struct arena){0};
}
