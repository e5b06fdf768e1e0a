/*
 * Module-private: gives out blocks of a worker's arena. The books are kept in private memory, so
 * no peer can confuse them; a block is counted by who refers to it and comes back with the last
 * reference, in any order. One thread.
 */
#ifndef TAILRACE_RING_SHM_ARENA_H
#define TAILRACE_RING_SHM_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A run of units, in the entry of its first one; the entries between mean nothing. */
struct shm_span {
    uint32_t units;
    uint32_t refs; /* 0: free */
};

struct shm_arena {
    struct shm_span *spans; /* by unit */
    uint32_t units;
    uint32_t free_units;
    uint32_t next;    /* the span to look at first: next fit */
    uint32_t refused; /* so many units were not found, and nothing was freed since */
};

void shm_arena_init(struct shm_arena *arena, uint64_t bytes);
void shm_arena_close(struct shm_arena *arena);
/* A block of len bytes (> 0) with one reference; false when there is no room. */
bool shm_arena_take(struct shm_arena *arena, size_t len, uint64_t *offset);
/* One reference more, and one less: true when it was the last and the block is free. */
void shm_arena_hold(struct shm_arena *arena, uint64_t offset);
bool shm_arena_drop(struct shm_arena *arena, uint64_t offset);
/* Gives back what is beyond keep bytes (> 0) of a block, where nobody has anything yet. */
void shm_arena_trim(struct shm_arena *arena, uint64_t offset, size_t keep);
/* Do the books balance? For tests and on closing. */
bool shm_arena_valid(const struct shm_arena *arena);

#endif
