/*
 * Module-private: the exchange in five files. exchange.c (net loop): peers, connections, life.
 * formation.c (net loop): the generation protocol. On worker loops: lanes.c, messages to and from
 * other processes (numbers, retransmission); inner.c, the lanes between workers of this process;
 * worker.c, what both have in common: a worker's turn, the memory of its messages, public calls.
 */
#ifndef TAILRACE_RING_EXCHANGE_INTERNAL_H
#define TAILRACE_RING_EXCHANGE_INTERNAL_H

#include "core/base/mem.h"
#include "ring/carrier.h"
#include "ring/exchange/exchange.h"
#include "ring/frame/door.h"
#include "ring/shm/shm.h"

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
    EXCHANGE_READY_BYTES = 8 << 20,  /* a worker with more than this under way is not ready */
};

/* What a worker may keep although it is not ready (exchange_config.held_max). */
#define EXCHANGE_HELD_MAX (1ULL << 30)

/* Generations count restarts of members, so no replica comes near; a peer that claims more is
 * refused, lest the next number overflow. */
#define EXCHANGE_GENERATION_MAX (UINT64_MAX / 2)

/* ---- messages (worker.c) --------------------------------------------------------------------- */

/*
 * A message in its sender's memory. Made, kept and freed by the sending worker alone; a worker of
 * this process that reads it looks at data and at nothing else. The bytes lie behind the struct, or
 * in the pool that other processes of this node read.
 */
struct piece {
    struct piece *next; /* in one list: spare, a backlog, kept for another process */
    uint8_t *data;      /* CARRIER_ALIGN aligned */
    size_t len;         /* bytes of the message */
    size_t cap;         /* bytes behind the struct */
    uint64_t seq;       /* to another process: its number */
    struct carrier_block block; /* owner: the shared pool, or NULL */
    _Alignas(CARRIER_ALIGN) uint8_t bytes[];
};

/* Pieces come in sizes, each twice the one before, and are used again; larger ones are not. */
enum { PIECE_SIZES = 13, PIECE_LEAST = 256, PIECE_MOST = PIECE_LEAST << (PIECE_SIZES - 1) };
STATIC_ASSERT(PIECE_MOST == 1 << 20, "256 bytes to 1 MiB");

/* A message of a generation that does not stand here yet. */
struct early {
    struct early *next;
    uint64_t seq;
    uint64_t generation;
    size_t len; /* bytes */
    uint8_t data[];
};

/* ---- lanes ----------------------------------------------------------------------------------- */

/* Both directions between a worker here and one of another process; on the worker's loop. */
struct lane {
    struct carrier *carrier; /* session open, or NULL */
    bool resumed;            /* the peer told what it has: sending may go on */
    uint64_t sent_seq;       /* last sequence number given out */
    uint64_t acked_seq;
    struct piece *first; /* not acknowledged, oldest first */
    struct piece *last;
    struct piece *unsent;    /* first of them not sent in this session */
    uint64_t taken_seq;      /* of the other direction: last one delivered */
    size_t unacked_bytes;    /* delivered since the last acknowledgement */
    bool ack_due;            /* in the worker's list */
    struct lane *next_due;
    struct early *early;     /* of the other direction: came too early, oldest first */
    struct early *early_last;
    size_t early_bytes;
    uint32_t worker; /* global index of the other end */
};

/* A message in a lane between two workers of this process: in place, or a piece. */
enum { INNER_BYTES = 40 };
struct inner_line {
    _Atomic uint64_t word; /* number of the line plus one, once it is there */
    uint64_t generation;
    uint32_t len;
    uint32_t in_piece; /* else in place */
    union {
        uint8_t bytes[INNER_BYTES];
        struct {
            const uint8_t *data;
            uint64_t zero[4];
        } piece;
    };
};
STATIC_ASSERT(sizeof(struct inner_line) == 64, "one cache line");

/* One direction of it. Each of the three parts is on cache lines of its own, and so are the lines
 * of the ring; inner.c tells the order of accesses. */
struct inner_lane {
    /* The sender's alone: */
    _Alignas(64) struct inner_line first; /* opens what is not published yet; put in by the flush */
    struct inner_line *ring; /* constant, also read by the receiver */
    struct piece **held;     /* by line: what the line names, or NULL */
    uint64_t tail;           /* lines filled */
    uint64_t published;      /* of them, the receiver may see */
    uint64_t acked;          /* of them, taken and freed */
    size_t unpublished_bytes;
    struct piece *backlog;   /* found no line, oldest first */
    struct piece *backlog_last;
    /* Stored by the receiver, loaded by the sender: lines taken. */
    _Alignas(64) _Atomic uint64_t head;
    /* The receiver's alone: */
    _Alignas(64) struct inner_line *in; /* the same ring: no line of the sender's is read */
    uint64_t taken;
    bool ahead;         /* the next message is of a generation that does not stand here yet */
};

/* What the other workers here look at, to know whether to wake this one. */
struct inner_end {
    /* Odd while the worker sleeps or is about to; grows by one each time. */
    _Alignas(64) _Atomic uint32_t sleeping;
    _Atomic uint32_t blocked; /* it waits for its messages to be taken */
    _Atomic uint32_t belled;  /* bell is posted: whoever sets it posts */
    struct io_task bell;      /* does nothing but end the sleep */
};

enum net_item_kind { ITEM_REGISTERED, ITEM_OVERFLOW, ITEM_FORMED, ITEM_LOST };
/* Owned by who took it out of a mailbox, but for ITEM_REGISTERED, which lies in its worker. */
struct net_item {
    struct mailbox_item item;
    enum net_item_kind kind;
    uint32_t index;      /* REGISTERED: local worker */
    uint64_t generation; /* FORMED, OVERFLOW */
    char *reason;        /* LOST, OVERFLOW: owned */
};

enum inner_touched { INNER_TAIL = 1, INNER_HEAD = 2 };

/* On the worker's loop. */
struct exchange_worker {
    struct exchange *x;
    uint32_t index;  /* local */
    uint32_t global;
    struct io_loop *loop;
    void *ctx;
    struct mailbox *box;    /* from the net loop */
    struct net_item registered;
    struct io_poller poller;
    uint64_t generation;     /* last one formed here */
    bool formed;             /* and not lost since */
    bool overflowed;         /* it kept too much: what follows of this generation is dropped */
    bool refused;            /* exchange_ready said no: writable is owed */
    bool polling;            /* its callbacks run */
    struct lane *lanes;      /* by global index; those of other processes are used */
    struct lane *due;        /* to be acknowledged at the end of the burst */
    struct inner_end *end;
    size_t backlogs;         /* lanes here with a backlog */
    uint8_t *touched;        /* by local index: enum inner_touched, what the next flush stores */
    uint32_t *touched_list;
    uint32_t touched_len;
    struct piece *spare[PIECE_SIZES]; /* to be used again, by size */
    size_t spare_bytes;
    size_t pending; /* memory of the messages kept for others */
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

/* On the net loop, but for workers[i] and inner lanes; config, total and pool are set once. */
struct exchange {
    struct io_loop *net;
    struct exchange_config config;
    struct hello self;
    uint64_t nonce; /* of this start of the process, or of its last overflow */
    uint32_t total; /* workers of the replica */
    struct shm_pool *pool; /* messages to processes of this node; NULL: no shared memory */
    struct exchange_worker *workers;
    struct carrier_worker *ends; /* filled as workers register */
    void *inner_memory;          /* lanes, ends, rings */
    struct inner_lane *inner;    /* [sender][receiver], local indexes */
    struct inner_end *inner_ends;
    uint64_t inner_lines;        /* of each ring, a power of two */
    struct mailbox *box;         /* from workers */
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

extern const struct carrier_host exchange_host; /* lanes.c, but for the net loop's calls */

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
/* A worker has lost messages of that generation: it ends everywhere. */
void formation_give_up(struct exchange *x, uint64_t generation, const char *reason);

/* worker.c; init before the worker's loop is known, free when it has stopped */
void exchange_worker_init(struct exchange *x, uint32_t index);
void exchange_worker_free(struct exchange_worker *w);
/* A piece with room for len bytes, len set, not counted; shared: in the pool, if it has room. */
struct piece *piece_new(struct exchange_worker *w, size_t len, bool shared);
void piece_free(struct exchange_worker *w, struct piece *piece);
/* It is kept from now on, until piece_forget; counts, and ends the generation if it is too much. */
void piece_keep(struct exchange_worker *w, const struct piece *piece);
void piece_forget(struct exchange_worker *w, struct piece *piece);
void exchange_deliver(struct exchange_worker *w, uint32_t from, const uint8_t *data, size_t len);

/* lanes.c */
void lanes_init(struct exchange_worker *w);
void lanes_free(struct exchange_worker *w);
/* Takes the piece. */
void lanes_commit(struct exchange_worker *w, uint32_t to, struct piece *piece);
void lanes_formed(struct exchange_worker *w);
void lanes_lost(struct exchange_worker *w);
/* Acknowledges what this turn has taken; true when there was anything. */
bool lanes_acknowledge(struct exchange_worker *w);
void lanes_flush(struct exchange_worker *w);

/* inner.c */
void inner_new(struct exchange *x);
void inner_free(struct exchange *x);
/* to: local index, not w's own. */
void inner_send(struct exchange_worker *w, uint32_t to, const void *data, size_t len);
void inner_commit(struct exchange_worker *w, uint32_t to, struct piece *piece);
/* Takes what has come, a burst from each lane; true when there was anything. */
bool inner_take(struct exchange_worker *w);
/* Frees what was taken and sends what waited; true when there was anything. */
bool inner_relieve(struct exchange_worker *w);
/* Publishes and acknowledges, and wakes whom that concerns. */
void inner_flush(struct exchange_worker *w);
/* About to sleep; true: there is work after all. */
bool inner_arm(struct exchange_worker *w, bool starved);
void inner_disarm(struct exchange_worker *w);
void inner_formed(struct exchange_worker *w);
void inner_lost(struct exchange_worker *w);
/* Frees what is under way. */
void inner_drop(struct exchange_worker *w);
/* For tests: do this lane's numbers fit together? The sender's side. */
bool inner_valid(const struct exchange *x, uint32_t from, uint32_t to);

#endif
