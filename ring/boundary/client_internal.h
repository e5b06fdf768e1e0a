/*
 * Module-private: the client of the storage boundary in its two halves. client.c lives on the net
 * loop: the directory, connecting, reconnecting. client_worker.c lives on each compute worker's
 * loop: subscriptions, their frontiers and credit. They talk through mailboxes only.
 */
#ifndef TAILRACE_RING_BOUNDARY_CLIENT_INTERNAL_H
#define TAILRACE_RING_BOUNDARY_CLIENT_INTERNAL_H

#include "core/base/map.h"
#include "core/base/mem.h"
#include "ring/boundary/protocol.h"

enum client_item_kind {
    CLIENT_REGISTERED, /* worker -> net: a worker has its loop */
    CLIENT_WANTED,     /* worker -> net: someone subscribes to storage worker `worker` */
    CLIENT_REFUSED,    /* net -> worker: storage workers [worker, worker + workers) refuse us */
};
/* Owned by who took it out of a mailbox, but for CLIENT_REGISTERED, which lies in its worker. */
struct client_item {
    struct mailbox_item item;
    enum client_item_kind kind;
    uint32_t index;   /* REGISTERED: compute worker, local */
    uint32_t worker;  /* WANTED, REFUSED: storage worker, global; the first of them */
    uint32_t workers; /* REFUSED: how many */
    err_t reason;     /* REFUSED: owned */
};

/* A subscription. Its compute worker's loop only; freed by boundary_unsubscribe or with the client.
 * Life: no carrier -> subscribed over one -> cut, again and again; dead once refused for good. */
struct boundary_sub {
    struct client_worker *worker;
    uint32_t id; /* the stream; a new one whenever messages under way must not find it */
    struct boundary_request request; /* as asked for; resumption is put in when it is sent */
    struct boundary_handler handler;
    void *arg;
    uint64_t upper;   /* everything below has been delivered, once complete */
    bool complete;    /* the snapshot is there: resume at upper, not at as_of */
    bool partial;     /* parts were delivered since upper last moved */
    bool dead;        /* refused */
    bool paused;      /* no credit is granted; what was granted may still come */
    struct carrier *carrier; /* where it is subscribed now, or NULL */
    uint64_t consumed;       /* cost of what came in this session */
    uint64_t granted;        /* credit told the server in this session, bytes */
    struct counters_slot *counters;
    struct io_timer retry;   /* runs after "not yet" */
};

/* Whom the DATA of a channel is for: see protocol.h. */
struct client_channel {
    uint32_t *ids; /* subscriptions, also such as were given up meanwhile */
    size_t len;    /* > 0 */
    /* Those of them there are, or NULL, as they were found when the worker had seen so many
     * changes. */
    struct boundary_sub **subs;
    uint64_t changes;
};

/* A session as one worker sees it; in the carrier's slot. */
struct client_link {
    struct carrier *carrier;
    struct u64map channels; /* remote worker << 32 | stream -> struct client_channel */
    size_t named;           /* in all lists */
    uint64_t last_key;      /* where DATA came last; last is NULL when it is not known */
    struct client_channel *last;
    /* Whom last is for alone, as of when the worker had seen so many changes; 0: not known, or
     * there are others. */
    struct boundary_sub *sole;
    uint64_t sole_changes;
};

/* On its compute worker's loop. */
struct client_worker {
    struct boundary_client *client;
    uint32_t index;
    struct io_loop *loop;
    struct mailbox *box; /* from the net loop */
    struct client_item registered;
    struct u64map subs;  /* id -> struct boundary_sub */
    uint64_t changes;    /* times that a number or a session of one of them changed; from 1 */
    uint32_t next_id;
    struct u64map wanted; /* storage workers the net loop was told of; the keys matter */
    struct client_link **links; /* sessions open */
    size_t links_len;
    size_t links_cap;
    uint8_t *scratch; /* a block for several readers, out of the peer's reach */
    size_t scratch_cap;
    struct boundary_sub *current; /* whose callback runs; NULL when given up inside it */
    struct boundary_sub *fed;     /* took something its counters do not say yet; or NULL */
    uint64_t fed_bytes;
    uint64_t fed_chunks;
    uint64_t taken_bytes; /* by all, that the worker's figure does not say yet */
    uint64_t window; /* bytes a subscription may be sent ahead of what its handler has taken */
    struct metric *subs_metric;
    struct metric *bytes;
    struct metric *resets;
    struct metric *lost;
};

/* On the net loop, but for workers[i]; config and self's constant parts are read by all. */
struct boundary_client {
    struct io_loop *net;
    struct boundary_client_config config;
    struct hello self;
    struct client_worker *workers;
    struct carrier_worker *ends; /* filled as workers register; what sessions are told */
    struct mailbox *box; /* to the net loop */
    uint32_t registered; /* workers that have a loop; nothing is connected before all have */
    uint8_t *wanted; /* per storage worker */
    size_t wanted_len;
    size_t wanted_cap;
    struct storage_process **processes; /* of the directory, in order */
    size_t processes_len;
    struct storage_process *retired; /* still ending, not in the directory any more */
    struct metric *sessions_metric;
    struct metric *connects;
};

extern const struct carrier_host boundary_client_host;

struct client_item *client_item_new(enum client_item_kind kind);
void client_item_free(struct mailbox_item *item);

/* client_worker.c, for client.c */
void client_worker_init(struct boundary_client *client, uint32_t index);
void client_worker_free(struct client_worker *w);
/* client.c, for client_worker.c's host table; net loop */
void client_ending(void *net_ctx, struct carrier *c, const char *reason);
void client_ended(void *net_ctx, struct carrier *c);

#endif
