/*
 * The shared-memory carrier, for two processes of one node. Set up over a SEQPACKET connection,
 * which afterwards only carries control messages of the net loops and, by its end, tells of the
 * peer's death. Messages go from worker thread to worker thread: bytes in the sender's arena, a
 * descriptor in the lane's ring, a doorbell only when the receiver sleeps.
 *
 * Received bytes lie in memory which the peer can write: who does not trust it copies them before
 * checking them.
 */
#ifndef TAILRACE_RING_SHM_SHM_H
#define TAILRACE_RING_SHM_SHM_H

#include "ring/carrier.h"

struct shm_config {
    bool initiator; /* the connecting side, which speaks first */
    uint8_t proof[HELLO_PROOF_LEN]; /* shown by the initiator, expected by the other side */
    size_t arena_bytes;             /* for what we send, all workers together; 0: 16 MiB */
};

/* The session on a greeted SEQPACKET stream, which it owns. The workers hear open when the
 * memories are mapped; the session ends with an error if that is not done within 5 s. */
struct carrier *shm_carrier_new(const struct carrier_config *config, struct io_stream *stream,
                                const struct shm_config *shm);
/* Can a session of so many workers here use shared memory at all? */
bool shm_carrier_fits(uint32_t workers, uint32_t peer_workers);

#endif
