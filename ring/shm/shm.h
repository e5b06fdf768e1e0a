/*
 * The shared-memory carrier, for two processes of one node. Set up over a SEQPACKET connection,
 * which afterwards only carries control messages of the net loops and, by its end, tells of the
 * peer's death. Messages go from worker thread to worker thread: bytes in the sender's arena, a
 * descriptor in the lane's ring, a doorbell only when the receiver sleeps.
 *
 * Received bytes lie in memory which the peer's process can write, unless they are CARRIER_STABLE.
 * A correct peer leaves them alone until they are acknowledged; who does not trust it copies them
 * before checking them.
 */
#ifndef TAILRACE_RING_SHM_SHM_H
#define TAILRACE_RING_SHM_SHM_H

#include "ring/carrier.h"

/*
 * A pool: where the workers of this process build the blocks of all its sessions, so that one that
 * was built once can be sent to readers in any number of processes (carrier_share). Where there is
 * no shared memory (the simulator, or it was refused: the log says so) it is plain memory, and
 * every session copies.
 *
 * Threads: made and freed on the net loop, before and after the sessions it is given to; the rest
 * on the loop of the worker concerned.
 */
enum { SHM_POOL_BLOCK_MAX = 1 << 20 };

struct shm_pool;
struct shm_pool_config {
    bool shared;      /* false: plain memory (the simulator, TCP only) */
    uint32_t workers; /* of this process, as the sessions have */
    size_t bytes;     /* of all workers together; 0: 16 MiB */
};
struct shm_pool *shm_pool_new(const struct shm_pool_config *config);
/* Once per worker, before sessions open. room(ctx): a reserve that was refused may succeed now; it
 * may come from within any call here or on a carrier, so it only takes note. May be NULL. */
void shm_pool_worker(struct shm_pool *pool, uint32_t local, struct io_loop *loop,
                     void (*room)(void *ctx), void *ctx);
/* A block of len bytes (at most SHM_POOL_BLOCK_MAX) to build a message in. False: readers still
 * hold what there is; room will tell. */
bool shm_pool_reserve(struct shm_pool *pool, uint32_t local, size_t len,
                      struct carrier_block *out);
/* Was a block refused, here or to a session's message that waits for it, and has none come back
 * since? */
bool shm_pool_short(const struct shm_pool *pool, uint32_t local);
/* Gives back what is beyond the first len bytes (> 0); before the block is shared. */
void shm_pool_trim(struct shm_pool *pool, uint32_t local, struct carrier_block *block, size_t len);
/* The maker needs it no longer; its readers may. */
void shm_pool_release(struct shm_pool *pool, uint32_t local, struct carrier_block *block);
/* Bytes held by makers and readers. */
size_t shm_pool_used(const struct shm_pool *pool, uint32_t local);
/* NULL is allowed. The sessions it was given to have been freed. */
void shm_pool_free(struct shm_pool *pool);

struct shm_config {
    bool initiator; /* the connecting side, which speaks first */
    uint8_t proof[HELLO_PROOF_LEN]; /* shown by the initiator, expected by the other side */
    struct shm_pool *pool; /* blocks we send; NULL: memory of this session's own */
    size_t arena_bytes;    /* of its own, all workers together; 0: 16 MiB */
};

/* The session on a greeted SEQPACKET stream, which it owns. The workers hear open when the
 * memories are mapped; the session ends with an error if that is not done within 5 s. */
struct carrier *shm_carrier_new(const struct carrier_config *config, struct io_stream *stream,
                                const struct shm_config *shm);

#endif
