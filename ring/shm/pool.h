/* Module-private: the memory of a pool, and each worker's books of it. */
#ifndef TAILRACE_RING_SHM_POOL_H
#define TAILRACE_RING_SHM_POOL_H

#include "ring/shm/arena.h"
#include "ring/shm/shm.h"

enum { SHM_BLOCK_MAX = SHM_POOL_BLOCK_MAX };

/* On the worker's loop. */
struct shm_pool_worker {
    struct io_loop *loop;
    struct shm_arena arena;
    uint8_t *base; /* of the arena */
    bool waiting;  /* a block was refused: room is owed */
    void (*room)(void *ctx);
    void *ctx;
};

struct shm_pool {
    struct shm_pool_config config;
    size_t arena_bytes; /* of one worker */
    void *base;
    struct shm_pool_worker *workers;
};

#endif
