/*
 * Module-private: the memory of a pool, each worker's books of it, and the readers that may not be
 * done yet with a session that is over.
 */
#ifndef TAILRACE_RING_SHM_POOL_H
#define TAILRACE_RING_SHM_POOL_H

#include "core/base/mem.h"
#include "ring/shm/arena.h"
#include "ring/shm/layout.h"
#include "ring/shm/shm.h"

struct shm_end;

/* A block the peer may read; what to free is never read back from shared memory. */
struct shm_held {
    uint64_t at;   /* line of its descriptor, the first */
    uint64_t last; /* and the last: parts of one chunk that follow each other are held together */
    uint64_t span; /* in the arena */
    uint32_t len;  /* bytes; 0: those of the reference before it, to the same block */
    bool shared;
    bool gone; /* taken back: there is no reference any more */
};

/* References that a lane had when its session ended, and that nobody uses any more: dropped bit by
 * bit, since a reader that was far behind had tens of thousands. Owns held. */
struct shm_drops {
    struct shm_drops *next;
    struct shm_held *held; /* the lane's places */
    uint64_t mask;
    uint64_t at; /* those from here */
    uint64_t end;
};

/* On the worker's loop. */
struct shm_pool_worker {
    struct shm_pool *pool;
    struct io_loop *loop; /* NULL: a session's own pool, used on that session's loops */
    struct mailbox *box;  /* blocks that come back from the net loop: struct shm_return */
    struct shm_arena arena;
    uint8_t *base;        /* of the arena */
    struct shm_end *ends; /* of the sessions open */
    uint64_t scanned_ns;  /* when it last looked for readers that lag */
    bool waiting;         /* a block was refused: room is owed */
    struct shm_drops *drops; /* in any order */
    struct io_timer drop_timer; /* for the next of them */
    void (*room)(void *ctx);
    void *ctx;
};

/* Blocks of one worker that a reader may still have been reading when its session ended. */
struct shm_return {
    struct mailbox_item item;
    struct shm_return *next;
    struct shm_pool_worker *worker;
    size_t len;
    uint64_t offsets[];
};

struct shm_pool {
    struct shm_pool_config config;
    uint64_t arena_bytes; /* of one worker */
    void *base;
    size_t size;
    int fd;               /* -1: plain memory */
    struct shm_pool_worker *workers;
    struct shm_linger *lingering; /* net loop: see linger.c */
};

/* The same with memory of one session alone; *out is NULL on failure. */
err_t shm_pool_new_own(uint32_t workers, size_t bytes, struct shm_pool **out);
/* A block, whoever lags behind; false when there is none. Worker's loop. */
bool shm_pool_take(struct shm_pool_worker *w, size_t len, uint64_t *offset);
/* Drops one reference; tells room. Worker's loop. */
void shm_pool_drop(struct shm_pool_worker *w, uint64_t offset);
/* Takes over what is left of a lane: a little is dropped at a time, or when there is no other room.
 * Worker's loop. */
void shm_pool_drop_later(struct shm_pool_worker *w, struct shm_drops *drops);
/* From the net loop, or with the loops stopped: drops all of these references; owns them. */
void shm_pool_return(struct shm_return *returns);

/* linger.c: takes over the stream of a session that is over, and keeps the blocks its peer may
 * still read until the peer has gone or says that it is done. Net loop. */
void shm_linger(struct shm_pool *pool, struct io_stream *stream, struct shm_return *returns);
void shm_linger_free_all(struct shm_pool *pool);

/* lag.c: takes back what readers that lag have not begun to read. */
void shm_pool_hurry(struct shm_pool_worker *w);

#endif
