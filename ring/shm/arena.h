/*
 * Module-private: gives out blocks of a worker's arena. The books are kept in private memory, so
 * no peer can confuse them, and blocks come back in any order. One thread.
 */
#ifndef TAILRACE_RING_SHM_ARENA_H
#define TAILRACE_RING_SHM_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shm_arena {
    uint64_t *used; /* bitmap, a bit per unit */
    uint32_t units;
    uint32_t free_units;
    uint32_t next; /* where to look first: next fit */
};

void shm_arena_init(struct shm_arena *arena, uint64_t bytes);
void shm_arena_close(struct shm_arena *arena);
/* A block of len bytes (> 0); false when there is no room. */
bool shm_arena_take(struct shm_arena *arena, size_t len, uint64_t *offset);
/* The block back, or its tail beyond keep bytes. */
void shm_arena_give(struct shm_arena *arena, uint64_t offset, size_t len);
void shm_arena_trim(struct shm_arena *arena, uint64_t offset, size_t len, size_t keep);
/* Do the books balance? For tests. */
bool shm_arena_valid(const struct shm_arena *arena);

#endif
