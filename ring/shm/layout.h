/*
 * Module-private: what lies in shared memory. Each side of a session makes one memfd, the only
 * memory it writes in that session, and lends a second one, the arenas of its pool; the other maps
 * both read-only.
 *
 *   the session's memory                          the pool's memory
 *   page 0   struct shm_head                      page 0   struct shm_pool_head
 *   then     struct shm_state [workers]           then     arenas [workers][arena_bytes]
 *   then     struct shm_bell  [peer's workers]
 *   then     lanes [workers][peer's workers]: struct shm_ends, struct shm_line [lines]
 *
 * Who may touch what: a worker's state, its lanes and its arena are written by that worker's thread
 * only, and read by the peer's worker threads. A bell is written by any worker that wakes the
 * peer's worker it belongs to. Nothing read from the peer's memory is believed: counters are loaded
 * once and checked to move forward within their window, descriptors are copied and their offsets
 * checked against the arena.
 */
#ifndef TAILRACE_RING_SHM_LAYOUT_H
#define TAILRACE_RING_SHM_LAYOUT_H

#include "ring/carrier.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SHM_MAGIC 0x334D48535254ULL      /* "TRSHM3" */
#define SHM_POOL_MAGIC 0x324C50535254ULL /* "TRSPL2" */

enum {
    SHM_LINE = 64,
    SHM_PAGE = 4096,
    SHM_HUGE_PAGE = 2 << 20,    /* pools from this size on are multiples of it */
    SHM_LINES_MIN = 64,         /* of a lane's ring; a power of two */
    SHM_LINES_FEW = 256,        /* no lane has fewer while its side has only so many lanes that */
    SHM_RINGS_MANY = 64 << 20,  /* all rings take no more, but for the least of each lane */
    SHM_LINES_MAX = 131072,
    SHM_RINGS_BYTES = 8 << 20,  /* about what all rings of one side may take */
    SHM_UNIT = 512,             /* the arena is given out in multiples of it */
    SHM_ARENA_MIN = 256 * 1024, /* bytes a worker */
    SHM_ARENA_MAX = 1 << 30,
};

struct shm_head {
    uint64_t magic;
    uint32_t workers;
    uint32_t peer_workers;
    uint32_t lines;
    uint32_t zero;
    uint64_t arena_bytes;
    uint8_t pad[SHM_LINE - 32];
    /* Robust, and held by the net loop's thread as long as the session lives: the kernel marks its
     * first word when that thread dies, before it takes the process's memory down. */
    pthread_mutex_t alive;
};

struct shm_pool_head {
    uint64_t magic;
    uint64_t arena_bytes;
    uint32_t workers;
    uint32_t zero;
};

struct shm_state {
    /* Odd while the worker sleeps or is about to; grows by one each time. */
    _Atomic uint32_t sleeping;
    /* 1: it waits for acknowledgements; wake it after giving some. */
    _Atomic uint32_t blocked;
    uint8_t pad[SHM_LINE - 8];
};

/* How this side wakes one of the peer's workers, which waits for the word to change. */
struct shm_bell {
    _Atomic uint32_t rung;
    uint32_t zero;
    _Atomic uint64_t rung_ns; /* monotonic time: what a wake costs is measured by it */
    uint8_t pad[SHM_LINE - 16];
};

/*
 * The numbers of a lane that this side writes, beside its ring; one thread writes them, and one of
 * the peer reads them. Counted in lines of a ring since the session began.
 */
struct shm_ends {
    _Atomic uint64_t head;   /* lines taken from the peer's worker: it may reuse what they name */
    _Atomic uint64_t claim;  /* blocks named below are being read, or will be, until head says */
    _Atomic uint64_t voided; /* shared blocks named below must not be begun; all ones: no block */
    uint8_t pad[SHM_LINE - 24];
};
#define SHM_VOID_ALL UINT64_MAX

enum shm_flags {
    /* FRAME_FIRST, FRAME_LAST, and: */
    SHM_BLOCK = 4,  /* the bytes lie in the arena; else in this line and those behind it */
    SHM_SHARED = 8, /* the block may be taken back */
    SHM_FLAGS = 15,
};

enum {
    SHM_INLINE_HEAD = CARRIER_RUN_HEAD, /* bytes in the first line */
    SHM_INLINE_MORE = CARRIER_RUN_MORE, /* in each further one */
    SHM_INLINE_LINES = 4,
    SHM_INLINE_MAX = SHM_INLINE_HEAD + (SHM_INLINE_LINES - 1) * SHM_INLINE_MORE,
};

enum {
    /* Dense: bytes lie in the lines behind the first, all of each line, without words. */
    SHM_DENSE = 15,              /* in the place of the lines of a word */
    SHM_DENSE_MAX = 16 * 1024,   /* bytes of such a message, */
    SHM_DENSE_SHARE = 64,        /* and at most such a part of the ring */
    SHM_PACK_LINES = CARRIER_RUN_MAX * 96 / SHM_LINE, /* a run's bytes take so many at most */
};

/*
 * The first line of a message, or of a fragment of one. Its word is stored last: when it carries
 * the lap that the reader expects, the line and all others of the message are there. There is no
 * other index: a message of one line goes over in one line.
 */
struct shm_desc {
    _Atomic uint32_t word; /* kind 0-7, flags 8-11, lines or SHM_DENSE 12-15, lap 16-31 */
    uint32_t stream;
    uint32_t c;
    uint32_t len; /* bytes of it here */
    uint64_t a;
    uint64_t b;
    union {
        uint8_t bytes[SHM_INLINE_HEAD];
        struct {
            uint64_t offset; /* in the arena of the producing worker */
            uint32_t total;  /* of the whole message */
            uint32_t zero[5];
        } block;
        struct {
            uint32_t count; /* messages of len bytes each, a run; 0: one message, which is none */
            uint32_t skip;  /* lines between this one and the bytes: those up to the ring's end,
                               or none */
            uint64_t zero;  /* what is behind it means nothing */
        } dense;
    };
};

/* A further line of a message. */
struct shm_line {
    union {
        struct {
            uint32_t word; /* 0: never the lap of a first line */
            uint8_t bytes[SHM_INLINE_MORE];
        };
        uint8_t all[SHM_LINE]; /* of a dense one */
    };
};

STATIC_ASSERT(offsetof(struct shm_head, alive) == SHM_LINE, "alive on a line of its own");
STATIC_ASSERT(sizeof(struct shm_state) == SHM_LINE, "one line a worker");
STATIC_ASSERT(sizeof(struct shm_bell) == SHM_LINE, "one line a bell");
STATIC_ASSERT(sizeof(struct shm_ends) == SHM_LINE, "one line");
STATIC_ASSERT(sizeof(struct shm_desc) == SHM_LINE, "one line a descriptor");
STATIC_ASSERT(sizeof(struct shm_line) == SHM_LINE, "one line");
STATIC_ASSERT(offsetof(struct shm_desc, bytes) == offsetof(struct carrier_line, bytes) &&
              offsetof(struct shm_desc, len) == offsetof(struct carrier_line, len) &&
              offsetof(struct shm_desc, b) == offsetof(struct carrier_line, b) &&
              offsetof(struct shm_line, bytes) == offsetof(struct carrier_line, more),
              "what carrier_put_head and posts fill");
STATIC_ASSERT(offsetof(struct shm_desc, bytes) == SHM_LINE - SHM_INLINE_HEAD, "no holes");

/* Lines of the ring which a message of len bytes takes when they lie in it. */
static inline uint32_t shm_lines_of(size_t len)
{
    return len <= SHM_INLINE_HEAD
               ? 1
               : 2 + (uint32_t)((len - SHM_INLINE_HEAD - 1) / SHM_INLINE_MORE);
}

/* Lines behind the first of count messages of a run, or (0) of one dense message, of len bytes. */
static inline uint32_t shm_dense_lines(uint32_t len, uint32_t count)
{
    uint32_t bytes = count > 0 ? count * carrier_pack_stride(len) : len;
    return (bytes + SHM_LINE - 1) / SHM_LINE;
}

/* How many are skipped so that they lie in one piece, when the first line is this one. */
static inline uint32_t shm_dense_skip(uint64_t at, uint64_t mask, uint32_t lines)
{
    uint64_t behind = mask - (at & mask);
    ASSERT(lines <= mask);
    return lines <= behind ? 0 : (uint32_t)behind;
}

static inline uint32_t shm_word(uint8_t kind, uint32_t flags, uint32_t lines, uint32_t lap)
{
    return kind | flags << 8 | lines << 12 | lap << 16;
}

/* Which time round the ring the line with this number is written: never 0, and another one than
 * the place held before, since every place is written every time, or cleared (ring/README.md). */
static inline uint32_t shm_lap(uint64_t at, uint32_t shift)
{
    return (uint32_t)(at >> shift & 0x7FFF) | 0x8000;
}

/* Where things lie, as a function of four numbers. */
struct shm_shape {
    uint32_t workers;
    uint32_t peer_workers;
    uint32_t lines;
    uint64_t arena_bytes;
};

static inline uint64_t shm_whole(uint64_t bytes, uint64_t page)
{
    return (bytes + page - 1) & ~(page - 1);
}

static inline uint64_t shm_bells_at(const struct shm_shape *s)
{
    return SHM_PAGE + (uint64_t)s->workers * sizeof(struct shm_state);
}

static inline uint64_t shm_lanes_at(const struct shm_shape *s)
{
    return shm_bells_at(s) + (uint64_t)s->peer_workers * sizeof(struct shm_bell);
}

static inline uint64_t shm_lane_size(const struct shm_shape *s)
{
    return sizeof(struct shm_ends) + (uint64_t)s->lines * SHM_LINE;
}

static inline uint64_t shm_size(const struct shm_shape *s)
{
    uint64_t end = shm_lanes_at(s) + (uint64_t)s->workers * s->peer_workers * shm_lane_size(s);
    return shm_whole(end, SHM_PAGE);
}

static inline uint64_t shm_pool_size(uint32_t workers, uint64_t arena_bytes)
{
    uint64_t bytes = SHM_PAGE + workers * arena_bytes;
    return shm_whole(bytes, bytes < SHM_HUGE_PAGE ? SHM_PAGE : SHM_HUGE_PAGE);
}

static inline struct shm_state *shm_state_at(void *base, const struct shm_shape *s, uint32_t i)
{
    ASSERT(i < s->workers);
    return (struct shm_state *)((uint8_t *)base + SHM_PAGE) + i;
}

static inline struct shm_bell *shm_bell_at(void *base, const struct shm_shape *s, uint32_t remote)
{
    ASSERT(remote < s->peer_workers);
    return (struct shm_bell *)((uint8_t *)base + shm_bells_at(s)) + remote;
}

static inline struct shm_ends *shm_ends_at(void *base, const struct shm_shape *s, uint32_t i,
                                           uint32_t remote)
{
    ASSERT(i < s->workers && remote < s->peer_workers);
    return (struct shm_ends *)((uint8_t *)base + shm_lanes_at(s) +
                               ((uint64_t)i * s->peer_workers + remote) * shm_lane_size(s));
}

/* The ring lies behind its ends. */
static inline struct shm_line *shm_ring_of(struct shm_ends *ends)
{
    return (struct shm_line *)(ends + 1);
}

static inline uint8_t *shm_arena_at(void *pool_base, uint64_t arena_bytes, uint32_t i)
{
    return (uint8_t *)pool_base + SHM_PAGE + i * arena_bytes;
}

#endif
