/*
 * Module-private: the exchange in three files. exchange.c (net loop): peers, connections, life.
 * formation.c (net loop): the generation protocol. lanes.c (worker loops): messages, sequence
 * numbers, retransmission.
 */
#ifndef TAILRACE_RING_EXCHANGE_INTERNAL_H
#define TAILRACE_RING_EXCHANGE_INTERNAL_H

#include "core/base/mem.h"
#include "ring/carrier.h"
#include "ring/exchange/exchange.h"
#include "ring/frame/door.h"

enum exchange_kind {
    /* Between workers: */
    EXCHANGE_DATA = FRAME_KIND_USER, /* a: sequence number from 1, b: generation */
    EXCHANGE_ACK,                    /* a: everything up to here has arrived, b: generation */
    EXCHANGE_RESUME,                 /* the same, first message of a session, once per lane */
    /* Between net loops: */
    EXCHANGE_FORM,  /* 0 -> p; a: generation; payload: u64 nonce per process */
    EXCHANGE_READY, /* p -> 0; a: generation: connected with all of that generation */
    EXCHANGE_GO,    /* 0 -> p; a: generation: all are ready */
};

enum {
    EXCHANGE_PROCESSES_MAX = 1024,
    EXCHANGE_ACK_BYTES = 128 * 1024, /* taken without an acknowledgement, at most */
};

/* Generations count restarts of members, so no replica comes near; a peer that claims more is
 * refused, lest the next number overflow. */
#define EXCHANGE_GENERATION_MAX (UINT64_MAX / 2)

/* A message sent to another process and not yet acknowledged. */
struct out_message {
    struct out_message *next;
    uint64_t seq;
    size_t len; /* bytes */
    uint8_t data[];
};

/* Both directions between a worker here and one of another process; on the worker's loop. */
struct lane {
    struct carrier *carrier; /* session open, or NULL */
    bool resumed;            /* the peer told what it has: sending may go on */
    uint64_t sent_seq;       /* last sequence number given out */
    uint64_t acked_seq;
    struct out_message *first; /* not acknowledged, oldest first */
    struct out_message *last;
    struct out_message *unsent; /* first of them not sent in this session */
    uint64_t taken_seq;         /* of the other direction: last one delivered */
    size_t unacked_bytes;       /* delivered since the last acknowledgement */
    bool ack_due;               /* in the worker's list */
    struct lane *next_due;
    uint32_t worker; /* global index of the other end */
};

/* A message between two workers of this process, or one kept until its generation stands. */
struct inner_message {
    struct mailbox_item item;
    struct inner_message *next; /* in the stash */
    uint32_t from;              /* global */
    bool remote; /* has a sequence number to be checked */
    uint64_t seq;
    uint64_t generation;
    size_t len;
    uint8_t data[];
};

enum net_item_kind { ITEM_REGISTERED, ITEM_FORMED, ITEM_LOST };
/* Owned by who took it out of a mailbox, but for ITEM_REGISTERED, which lies in its worker. */
struct net_item {
    struct mailbox_item item;
    enum net_item_kind kind;
    uint32_t index;      /* REGISTERED: local worker */
    uint64_t generation; /* FORMED */
    char *reason;        /* LOST: owned */
};

/* On the worker's loop; pending_inner is also lowered by the other workers' loops. */
struct exchange_worker {
    struct exchange *x;
    uint32_t index;  /* local */
    uint32_t global;
    struct io_loop *loop;
    void *ctx;
    struct mailbox *box;    /* from the net loop */
    struct mailbox *inner;  /* from the other workers here */
    struct net_item registered;
    struct io_poller poller; /* sends acknowledgements after each burst */
    uint64_t generation;     /* last one formed here */
    bool formed;             /* and not lost since */
    struct lane *lanes;      /* by global index; those of other processes are used */
    struct lane *due;        /* to be acknowledged at the end of the burst */
    struct inner_message *stash; /* of generations not formed here yet, oldest first */
    struct inner_message *stash_last;
    size_t pending_remote;         /* bytes not acknowledged by other processes */
    _Atomic size_t pending_inner;  /* bytes not taken by other workers here */
    struct metric *sent_bytes;
    struct metric *resent;
};

/* Another process of the replica; net loop. */
struct exchange_peer {
    struct exchange *x;
    uint32_t process;
    struct dialer *dialer;   /* of peers with a smaller index; the others come to us */
    struct carrier *carrier; /* the newest session, open; NULL while ending */
    uint64_t open_us;
    uint64_t nonce;      /* of the session's peer, while it is open */
    uint64_t generation_seen; /* process 0: formation in the peer's hello */
    bool ready;          /* process 0: READY came for the generation under way */
};

/* On the net loop, but for workers[i]; config and total are set once. */
struct exchange {
    struct io_loop *net;
    struct exchange_config config;
    struct hello self;
    uint64_t nonce; /* of this start of the process */
    uint32_t total; /* workers of the replica */
    struct exchange_worker *workers;
    struct carrier_worker *ends; /* filled as workers register */
    struct mailbox *box;         /* registrations */
    uint32_t registered;         /* no session is opened before all workers are */
    struct door *door;
    struct exchange_peer *peers; /* by process; our own place is unused */
    struct carrier **sessions;   /* all, also those ending */
    size_t sessions_len;
    size_t sessions_cap;
    /* Formation: */
    uint64_t generation; /* highest known: being formed, or standing */
    uint64_t *nonces;    /* of its members */
    bool forming;        /* between FORM and GO */
    bool told_ready;     /* in the session with process 0 that is open */
    bool standing;       /* the workers heard formed, and not lost since */
    struct metric *generation_metric;
    struct metric *sessions_metric;
};

extern const struct carrier_host exchange_host;

/* exchange.c */
struct net_item *exchange_item_new(enum net_item_kind kind);
void exchange_item_free(struct mailbox_item *item);
err_t exchange_control(void *net_ctx, struct carrier *c, const struct carrier_message *m);
void exchange_ending(void *net_ctx, struct carrier *c, const char *reason);
void exchange_ended(void *net_ctx, struct carrier *c);

/* formation.c; net loop */
void formation_registered(struct exchange *x);
void formation_connected(struct exchange *x, struct exchange_peer *peer);
err_t formation_message(struct exchange *x, struct exchange_peer *peer,
                        const struct carrier_message *m);

/* lanes.c; init before the worker's loop is known, free when it has stopped */
void lanes_init(struct exchange *x, uint32_t index);
void lanes_free(struct exchange_worker *w);

#endif
