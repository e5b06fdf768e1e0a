/*
 * The compute exchange (port 2102): workers of one replica, in one process or several, send each
 * other opaque messages: FIFO per (sender, receiver) pair, lossless within a generation.
 *
 * Generations. Process 0 mints (generation, nonce) when it starts; every process joins with its own
 * start nonce; when any process restarts, or a lane can not be resumed, the generation is over:
 * every process hears lost() on each worker and forms the next one. Stale generations are refused
 * with a reason. A cut TCP connection alone is no loss: lanes have sequence numbers and resume.
 *
 * Threads: connections live on the net loop, workers on their loops; workers of the same process
 * talk through lanes in memory (inner.c) without the net loop.
 *
 * Memory. What is sent is kept until the receiver has taken it. A worker asks exchange_ready before
 * it makes more, and stops until `writable` says so: then what is kept stays within some megabytes.
 * Who goes on nonetheless is stopped by a hard limit (held_max): the generation ends, with a reason
 * that says who and how much.
 */
#ifndef TAILRACE_RING_EXCHANGE_EXCHANGE_H
#define TAILRACE_RING_EXCHANGE_EXCHANGE_H

#include "ring/boundary/boundary.h"

struct exchange;

struct exchange_handler {
    /* The generation is formed: sending may start. On each worker's loop. */
    void (*formed)(void *worker_ctx, uint64_t generation);
    /* A message from a worker (global index); valid during the call. */
    void (*message)(void *worker_ctx, uint32_t from, const uint8_t *data, size_t len);
    /* The generation is over: drop all state built on its messages; formed() follows when the
     * next one stands. reason valid during the call. */
    void (*lost)(void *worker_ctx, const char *reason);
    /* exchange_ready said no, and is true again. May be NULL. */
    void (*writable)(void *worker_ctx);
};

struct exchange_config {
    uint32_t process;             /* index in the replica */
    uint32_t processes;
    uint32_t workers_per_process;
    const char *listen_address;   /* "host:2102"; unused with one process */
    const char *const *peers;     /* address of each process, in order */
    const char *const *unix_paths;/* of each process, or NULL: for shared memory on one node */
    struct tls_context *tls_server;
    struct tls_context *tls_client;
    err_t (*check_peer)(void *ctx, const char *peer_name);
    void *check_ctx;
    struct boundary_identity self;
    enum boundary_carrier carrier;
    size_t held_max; /* bytes a worker's messages may take, see above; 0: 1 GiB */
    const struct exchange_handler *handler;
    struct metrics_registry *metrics;
};
err_t exchange_new(struct io_loop *net, const struct exchange_config *config,
                   struct exchange **out);
/* On each worker's loop, once: index is local. */
void exchange_worker(struct exchange *x, uint32_t index, struct io_loop *loop, void *worker_ctx);
/*
 * From the loop of local worker `index` to a global worker, never itself. Sends before formed() or
 * after lost() are dropped. len <= 64 MiB (fragmented inside). Messages leave at the end of the
 * loop's turn, when some have gathered, or with exchange_flush.
 */
void exchange_send(struct exchange *x, uint32_t index, uint32_t to, const void *data, size_t len);
/* The same without a copy: memory to build a message of up to len bytes (> 0) in, where its
 * receiver will read it, if that is at all possible. CARRIER_ALIGN aligned. */
struct exchange_block {
    uint8_t *data;
    size_t len;
    void *owner;
};
void exchange_reserve(struct exchange *x, uint32_t index, uint32_t to, size_t len,
                      struct exchange_block *out);
/* Sends the first len bytes of it, to the worker it was reserved for; len 0: gives it back. */
void exchange_commit(struct exchange *x, uint32_t index, uint32_t to, struct exchange_block *block,
                     size_t len);
/* What was sent goes out now. */
void exchange_flush(struct exchange *x, uint32_t index);
/* Should this worker go on sending? False: wait for `writable`. Nothing is refused meanwhile: what
 * a step under way still has to say is taken. */
bool exchange_ready(struct exchange *x, uint32_t index);
/* Memory of this worker's messages that are kept for their receivers. */
size_t exchange_pending(const struct exchange *x, uint32_t index);
/* The address bound, with the real port; "" with one process. */
const char *exchange_address(const struct exchange *x);
/* Worker loops must have stopped, or be calling from the only loop. */
void exchange_free(struct exchange *x);

#endif
