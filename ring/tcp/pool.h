/*
 * Module-private: memory of messages, used again. A large block fresh from the C library costs a
 * page fault for every 4 KiB, at both ends: without the pool a fifth of the profile.
 *
 * Threads. One thread owns a pool and takes nodes from it; any thread may give a node back, by
 * carrier_node_free. The pool's own memory goes when its owner has let go of it and the last node
 * is back, in whatever order: nodes in a stream that is still being emptied outlive their session.
 */
#ifndef TAILRACE_RING_TCP_POOL_H
#define TAILRACE_RING_TCP_POOL_H

#include "ring/carrier.h"

struct tcp_pool *tcp_pool_new(void);
/* A node for a message of len bytes, which are not initialised. The owner's thread. */
struct carrier_node *tcp_pool_get(struct tcp_pool *pool, uint32_t local, uint32_t remote,
                                  const struct carrier_message *m, size_t len);
/* The owner takes no more. NULL is fine. */
void tcp_pool_release(struct tcp_pool *pool);

#endif
