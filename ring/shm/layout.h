/*
 * Module-private: what lies in shared memory. Each side of a session makes one memfd, the only
 * memory it writes, which the other maps read-only. It holds what this side produces (tails,
 * descriptors, arenas) and what it consumed (heads, which are cumulative acknowledgements), and
 * each worker's sleeping flag.
 *
 *   page 0       struct shm_head
 *   then         struct shm_worker [workers]
 *   then         struct shm_lane   [workers][peer's workers]
 *   then (page)  arenas            [workers][arena_bytes]
 *
 * Who may touch what: a worker's state, its lanes and its arena are written by that worker's
 * thread only, and read by the peer's worker threads. Nothing read from the peer's memory is
 * believed: counters are loaded once and checked to move forward within their window, descriptors
 * are copied and their offsets checked against the arena.
 */
#ifndef TAILRACE_RING_SHM_LAYOUT_H
#define TAILRACE_RING_SHM_LAYOUT_H

#include "core/base/assert.h"

#include <stdatomic.h>
#include <stdint.h>

#define SHM_MAGIC 0x314D48535254ULL /* "TRSHM1" */

enum {
    SHM_LINE = 64,
    SHM_PAGE = 4096,
    SHM_RING = 256,                /* descriptors of a lane; a power of two */
    SHM_UNIT = 512,                /* the arena is given out in multiples of it */
    SHM_ARENA_MIN = 256 * 1024,    /* bytes a worker */
    SHM_ARENA_MAX = 1 << 30,
    SHM_ARENA_DEFAULT = 16 << 20,  /* bytes a session and direction */
};

struct shm_head {
    uint64_t magic;
    uint32_t workers;
    uint32_t peer_workers;
    uint64_t arena_bytes; /* of one worker */
};

struct shm_worker {
    /* Odd while the worker sleeps or is about to; grows by one each time. */
    _Atomic uint32_t sleeping;
    /* 1: it waits for acknowledgements; ring its bell after giving some. */
    _Atomic uint32_t blocked;
    uint8_t pad[SHM_LINE - 8];
};

/* A message, or a fragment of one, whose bytes lie in the producer's arena. */
struct shm_desc {
    uint64_t offset; /* in the arena of the producing worker */
    uint32_t len;
    uint32_t total; /* of the whole message */
    uint64_t a;
    uint64_t b;
    uint32_t stream;
    uint32_t c;
    uint8_t kind;
    uint8_t flags; /* FRAME_FIRST, FRAME_LAST */
    uint8_t zero[22];
};

struct shm_lane {
    /* Descriptors ever published to the peer's worker. */
    _Atomic uint64_t tail;
    uint8_t pad1[SHM_LINE - 8];
    /* Descriptors ever taken from the peer's worker: it may reuse what they referred to. */
    _Atomic uint64_t head;
    uint8_t pad2[SHM_LINE - 8];
    struct shm_desc ring[SHM_RING];
};

STATIC_ASSERT(sizeof(struct shm_worker) == SHM_LINE, "one line a worker");
STATIC_ASSERT(sizeof(struct shm_desc) == SHM_LINE, "one line a descriptor");
STATIC_ASSERT(sizeof(struct shm_lane) == SHM_LINE * (2 + SHM_RING), "no holes");

/* Where things lie, as a function of three numbers. */
struct shm_shape {
    uint32_t workers;
    uint32_t peer_workers;
    uint64_t arena_bytes;
};

static inline uint64_t shm_lanes_at(const struct shm_shape *s)
{
    return SHM_PAGE + (uint64_t)s->workers * sizeof(struct shm_worker);
}

static inline uint64_t shm_arenas_at(const struct shm_shape *s)
{
    uint64_t end = shm_lanes_at(s) +
                   (uint64_t)s->workers * s->peer_workers * sizeof(struct shm_lane);
    return (end + SHM_PAGE - 1) & ~(uint64_t)(SHM_PAGE - 1);
}

static inline uint64_t shm_size(const struct shm_shape *s)
{
    return shm_arenas_at(s) + (uint64_t)s->workers * s->arena_bytes;
}

static inline struct shm_worker *shm_worker_at(void *base, const struct shm_shape *s, uint32_t i)
{
    ASSERT(i < s->workers);
    return (struct shm_worker *)((uint8_t *)base + SHM_PAGE) + i;
}

static inline struct shm_lane *shm_lane_at(void *base, const struct shm_shape *s, uint32_t i,
                                           uint32_t remote)
{
    ASSERT(i < s->workers && remote < s->peer_workers);
    return (struct shm_lane *)((uint8_t *)base + shm_lanes_at(s)) +
           ((uint64_t)i * s->peer_workers + remote);
}

static inline uint8_t *shm_arena_at(void *base, const struct shm_shape *s, uint32_t i)
{
    ASSERT(i < s->workers);
    return (uint8_t *)base + shm_arenas_at(s) + (uint64_t)i * s->arena_bytes;
}

#endif
