/*
 * The storage boundary (port 2101): compute processes subscribe to storage workers. One connection
 * per (compute process, storage process) carries every subscription between them; a connection may
 * be cut at any byte and each subscription resumes exactly where it was.
 *
 * Threads. A process has one net loop, on which connections live, and worker loops. Backend calls
 * and subscription callbacks run on the loop of the worker concerned.
 *
 * The carrier is chosen in the handshake: shared memory when both ends prove they are on one node,
 * else TCP (TLS unless both contexts are NULL: simulator and tests).
 */
#ifndef TAILRACE_RING_BOUNDARY_BOUNDARY_H
#define TAILRACE_RING_BOUNDARY_BOUNDARY_H

#include "core/base/metrics.h"
#include "core/io/io.h"
#include "core/io/tls.h"

enum boundary_carrier { BOUNDARY_CARRIER_AUTO, BOUNDARY_CARRIER_SHM, BOUNDARY_CARRIER_TCP };

/* Who we are, sent in the handshake and checked by the other side. */
struct boundary_identity {
    uint8_t environment[16]; /* environment id; another one is refused */
    uint64_t service;        /* which service the process is of: unique in the environment */
    uint32_t process;        /* index of this process in its service */
    uint64_t generation;     /* grows with every start of the process */
    uint64_t epoch;          /* fencing: the server refuses epochs below its own */
    const char *node_secret_path; /* a file only this node's processes can read (0600); proof of
                                     being on the same node, with the boot id; NULL: no shm */
};

/* One piece of a subscription: updates in [lower, upper). */
struct boundary_chunk {
    uint64_t lower;
    uint64_t upper;
    const void *ok; /* bytes of a finished batch, or NULL */
    size_t ok_len;
    const void *err;
    size_t err_len;
    bool stable; /* received: nobody else can write the bytes while they are looked at */
};

/* What a subscription is to: from a snapshot at as_of, or from where an earlier one got to. */
struct boundary_request {
    uint64_t dataflow; /* who reads; for counters */
    uint64_t source;
    uint32_t worker; /* global storage worker */
    uint64_t as_of;
    bool resume;          /* no snapshot: everything below resume_from is there */
    uint64_t resume_from;
};

/* ---- server (storaged) ---------------------------------------------------------------------- */

struct boundary_server;

/*
 * Where a backend may build a chunk's bytes, instead of pointing to them: they are sent from
 * there, to whatever number of readers, without a copy. boundary_room_take gives memory for the ok
 * batch (64-byte aligned, 32 where it is less than 96 bytes; uninitialised), and in *err (NULL when
 * err_len is 0) for the err batch; the chunk then points there. At most once in a call of next,
 * which may not fail after it, and gives a chunk of just these lengths.
 */
struct boundary_room;
uint8_t *boundary_room_take(struct boundary_room *room, size_t ok_len, size_t err_len,
                            uint8_t **err);

/*
 * What the server asks of a storage worker, on that worker's loop. A cursor is pulled while the
 * subscription has credit; next() with *more = false means: nothing now, boundary_server_wake will
 * say when, for this cursor and for others of the source that stand at the same time.
 */
struct boundary_backend {
    err_t (*open)(void *worker_ctx, const struct boundary_request *request, void **cursor);
    err_t (*next)(void *cursor, size_t max_bytes, struct boundary_room *room,
                  struct boundary_chunk *out, bool *more);
    void (*close)(void *cursor);
    /* Moves a cursor that has given everything below lower, and nothing else, on to upper, as if it
     * had given the chunk [lower, upper) that another cursor of the source gave. False: it stands
     * elsewhere, nothing was done. NULL: chunks are not shared among subscriptions. */
    bool (*skip)(void *cursor, uint64_t lower, uint64_t upper);
    /* Errors of open and next: ERR_UNAVAILABLE means not yet (the client asks again later),
     * every other one refuses the subscription for good. */
};

struct boundary_server_config {
    const char *address;      /* "host:2101" */
    const char *unix_path;    /* AF_UNIX SEQPACKET socket for the shared-memory carrier, or NULL */
    struct tls_context *tls;  /* NULL: plain */
    err_t (*check_peer)(void *ctx, const char *peer_name); /* role check; NULL: none */
    void *check_ctx;
    struct boundary_identity self;
    enum boundary_carrier carrier;
    uint32_t workers;         /* worker loops of this process */
    uint32_t worker_base;     /* global index of the first */
    const struct boundary_backend *backend;
    struct metrics_registry *metrics; /* may be NULL */
    size_t arena_bytes;       /* shared memory for what is sent, of all workers; 0: 16 MiB */
};
err_t boundary_server_new(struct io_loop *net, const struct boundary_server_config *config,
                          struct boundary_server **out);
/* Tells the server of worker `index` (global): call on that worker's loop, once per worker. */
void boundary_server_worker(struct boundary_server *server, uint32_t index, struct io_loop *loop,
                            void *worker_ctx);
/* New data or progress for a source of this worker, whose upper is this now (for counters: what a
 * subscription lags behind). On the worker's loop. Cheap: may be called per commit; wakes only
 * subscriptions of that source. */
void boundary_server_wake(struct boundary_server *server, uint32_t index, uint64_t source,
                          uint64_t upper);
const char *boundary_server_address(const struct boundary_server *server);
/* The epoch of a newer controller session, for handshakes from now on. Net loop. */
void boundary_server_set_epoch(struct boundary_server *server, uint64_t epoch);
/* Worker loops must have stopped, or be calling from the only loop. Closes every cursor, so the
 * backend is freed after it. */
void boundary_server_free(struct boundary_server *server);

/* ---- client (computed) ---------------------------------------------------------------------- */

struct boundary_client;
struct boundary_sub;

struct boundary_client_config {
    struct boundary_identity self;
    struct tls_context *tls; /* NULL: plain */
    enum boundary_carrier carrier;
    uint32_t workers;        /* compute worker loops of this process */
    struct metrics_registry *metrics;
    size_t credit_bytes;     /* per subscription; 0: default 4 MiB */
};

/* Each call may give up any subscription of its worker, this one as well. */
struct boundary_handler {
    /* Bytes valid during the call, 32-byte aligned. Unless they are stable the peer's process can
     * still write them: copy them, then validate the copy. Chunks abut: lower equals the last
     * upper. A chunk with upper == lower is a part of something not yet complete (a snapshot,
     * usually): the first chunk after it with upper > lower completes it. Nothing complete is seen
     * twice, also across reconnects. */
    void (*data)(void *arg, const struct boundary_chunk *chunk);
    /* The connection was lost amid such parts: forget every chunk since the last one with
     * upper > lower (a partial snapshot: all of it), they come again from the start. So whoever
     * consumes chunks keeps parts aside until they are complete. Not called without such parts. */
    void (*reset)(void *arg);
    /* Refused for good (no such source, as_of below since): owns err. The subscription is dead and
     * must still be given up by boundary_unsubscribe. */
    void (*refused)(void *arg, err_t err);
};

/* The client lives on the net loop; it connects on demand, reconnects with back-off (10 ms..1 s)
 * and resumes every subscription at its own frontier. */
err_t boundary_client_new(struct io_loop *net, const struct boundary_client_config *config,
                          struct boundary_client **out);
void boundary_client_worker(struct boundary_client *client, uint32_t index, struct io_loop *loop);
/*
 * The directory: storage worker (global) -> process address; net loop. Called again when storage
 * moved: connections to other addresses are dropped and their subscriptions resumed elsewhere.
 * unix_paths[i] may be NULL.
 */
void boundary_client_directory(struct boundary_client *client, const char *const *addresses,
                               const char *const *unix_paths, size_t processes,
                               uint32_t workers_per_process);
/* The epoch of a newer controller session, for handshakes from now on. Net loop. */
void boundary_client_set_epoch(struct boundary_client *client, uint64_t epoch);
/* On the loop of compute worker `index` (local index); callbacks come on the same loop. */
struct boundary_sub *boundary_subscribe(struct boundary_client *client, uint32_t index,
                                        const struct boundary_request *request,
                                        const struct boundary_handler *handler, void *arg);
/* Frees everything here and at the server; no callback runs after. Same loop. */
void boundary_unsubscribe(struct boundary_sub *sub);
/* Receiver's flow control: stop and restart credit for this subscription alone. Same loop. */
void boundary_sub_pause(struct boundary_sub *sub, bool paused);
/* Worker loops must have stopped, or be calling from the only loop. Frees the subscriptions left:
 * they must not be used, nor given up, afterwards. */
void boundary_client_free(struct boundary_client *client);

#endif
