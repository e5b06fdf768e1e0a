/*
 * A carrier moves messages between the workers of two processes: one session per process pair,
 * made by the handshake, over TCP (tcp/) or shared memory (shm/). It is the interface of what
 * speaks over it (boundary, exchange) and the base of what implements it.
 *
 * Lanes. A message goes from a worker of this process (local) to one of the peer (remote), both
 * indexes within their process; messages of one (local, remote, stream) arrive in order and whole,
 * or the session ends. Small urgent ones may overtake those of other streams.
 *
 * Threads. A session is made, ended and freed on its net loop. Each local worker has its end of
 * it, used on that worker's loop only: it hears open first, then messages, then close, after which
 * the session is not touched by that worker any more. When every worker's close has run the net
 * loop hears ended and the session is freed. So nobody needs a lock or a reference count.
 *
 * Blocks. carrier_reserve gives memory to build a message's bytes in place (in the shared arena
 * when there is one), carrier_commit sends it. The receiver sees the bytes during its callback.
 *
 * Batching. What is committed is published at the end of the loop's turn, all of it at once, or as
 * soon as it is a good deal; carrier_flush does it now.
 *
 * Runs. Many small messages of one length to one worker are cheaper together: carrier_run_begin
 * gives room for some, which the caller fills in place with inline calls; what arrived that way
 * comes in runs as well, to a host that has `run`. Nothing else about them differs: they keep
 * their place in the order, and who has no `run` hears message for each.
 *
 * Packs. Small messages of one stream that differ in their bytes alone are cheaper still: they have
 * one header, and their bytes lie behind each other. They arrive as a pack, to a host that has
 * `pack`.
 *
 * Posts. A small message that is published by itself goes straight into the ring: carrier_window
 * is found once, the rest is inline.
 *
 * Sharing. A block of a pool (shm/shm.h) is built once and sent any number of times with
 * carrier_share: to any stream, worker and session, each with a header of its own. Sessions in
 * shared memory pass a reference; the others copy. The block is free when its maker has released
 * it and the last reader has acknowledged it. Nobody waits for a reader that has fallen behind:
 * the references it has not begun to read are taken back, and its host hears lost for each.
 */
#ifndef TAILRACE_RING_CARRIER_H
#define TAILRACE_RING_CARRIER_H

#include "core/io/io.h"
#include "ring/frame/frame.h"
#include "ring/frame/hello.h"
#include "ring/frame/mailbox.h"

#include <stdatomic.h>

enum {
    CARRIER_NET = 0xFFFF, /* the net loop itself as an end, for control of the session */
    CARRIER_ALIGN = 64,
};

enum carrier_flags {
    CARRIER_URGENT = 1, /* sending: may overtake other streams, not its own */
    CARRIER_NOW = 4,    /* sending: published at once, with what was committed before it to the
                           same worker, as by carrier_flush; carrier_send only */
    /* Received: the bytes lie in private memory. Without it the peer's process can still write
     * them: what is checked must be a copy, see ring/README.md. */
    CARRIER_STABLE = 2,
    /* Sharing: the block is not taken back from a reader that has fallen behind. */
    CARRIER_KEEP = 8,
};

struct carrier_message {
    uint8_t kind; /* >= FRAME_KIND_USER; meaning is the protocol's above, as of stream, a, b, c */
    uint8_t flags;
    uint32_t stream;
    uint32_t c;
    uint64_t a;
    uint64_t b;
    const uint8_t *data; /* CARRIER_ALIGN aligned when received */
    size_t len;          /* <= FRAME_MESSAGE_MAX */
};

/* ---- runs and packs -------------------------------------------------------------------------- */

enum {
    CARRIER_RUN_MAX = 32,  /* messages in a run, or in a pack */
    CARRIER_PACK_ALIGN = 16, /* of the bytes of each message of a pack */
    CARRIER_RUN_HEAD = 32, /* bytes of one that lie behind its header, */
    CARRIER_RUN_MORE = 60, /* and in the line after that */
    CARRIER_RUN_BYTES = CARRIER_RUN_HEAD + CARRIER_RUN_MORE, /* the most a small message has */
};

/* A line of the ring as its sender fills it: header and first bytes, or the word and more bytes. */
struct carrier_line {
    union {
        struct {
            /* The carrier's: which message this is, and whether it is there. */
            _Atomic uint32_t word;
            uint32_t stream;
            uint32_t c;
            uint32_t len;
            uint64_t a;
            uint64_t b;
            uint8_t bytes[CARRIER_RUN_HEAD];
        };
        struct {
            uint32_t zero; /* where further lines have their word */
            uint8_t more[CARRIER_RUN_MORE];
        };
    };
} __attribute__((aligned(64)));
STATIC_ASSERT(sizeof(struct carrier_line) == 64, "a cache line");

/* Room for a run. */
struct carrier_run {
    struct carrier_line *first; /* of message 0, */
    struct carrier_line *lines; /* of message i > 0 those from i * stride on */
    uint32_t len;    /* messages there is room for: 1 to what was asked for */
    uint32_t stride; /* lines of each */
    uint32_t word;   /* the carrier's; 0: private memory */
    uint32_t bytes;  /* of each message */
};

/* Room for a pack. */
struct carrier_pack {
    uint8_t *bytes;  /* of message 0; those of message i lie i * stride behind them */
    uint32_t stride;
    uint32_t len;    /* bytes of each */
    uint32_t n;      /* messages */
    bool in_place;   /* the carrier's: in its memory */
};

/* From a message of a pack to the next. */
static inline __attribute__((always_inline)) uint32_t carrier_pack_stride(uint32_t len)
{
    return (len + CARRIER_PACK_ALIGN - 1) & ~(uint32_t)(CARRIER_PACK_ALIGN - 1);
}

/*
 * Where the next messages to one worker may be posted: lines of the ring, kept open from one to the
 * next. The sending worker's.
 */
struct carrier_window {
    struct carrier_line *next; /* of the next message */
    struct carrier_line *end;  /* lines there are, up to here; as next, or NULL: none */
    uint64_t tally;    /* posted and not yet counted: bytes, and messages above them */
    uint32_t words[2]; /* of messages of one and of two lines, without their kind */
    const _Atomic uint32_t *sleeping; /* the peer's: odd while it does */
    struct carrier *carrier;
    uint32_t local;
    uint32_t remote;
    struct carrier_line aside[2]; /* for what finds no room there */
};
enum { CARRIER_TALLY_SHIFT = 40 }; /* of the messages; a ring's lines hold far fewer bytes */

/* A small message received in a run: a private copy. */
struct carrier_small {
    uint32_t word; /* its low byte is the kind */
    uint32_t stream;
    uint32_t c;
    uint32_t len;
    uint64_t a;
    uint64_t b;
    uint8_t bytes[CARRIER_RUN_BYTES]; /* 32-byte aligned */
    uint32_t unused;
} __attribute__((aligned(64)));
STATIC_ASSERT(sizeof(struct carrier_small) == 128, "whole lines");

static inline uint8_t carrier_small_kind(const struct carrier_small *m)
{
    return (uint8_t)m->word;
}

struct carrier;

/* What a session tells the layer above. worker_ctx: see carrier_worker. */
struct carrier_host {
    void (*open)(void *worker_ctx, struct carrier *carrier, uint32_t local);
    /* An error ends the session, with this reason. */
    err_t (*message)(void *worker_ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                     const struct carrier_message *message);
    /* Small messages that came one after the other, 1 to CARRIER_RUN_MAX; they are the callee's
     * until it returns. Not all small messages come this way. NULL: none do. */
    err_t (*run)(void *worker_ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                   const struct carrier_small *messages, uint32_t len);
    /* A pack of n messages, 1 to CARRIER_RUN_MAX: m is the header of each, m->len the bytes of
     * each; those of message i lie i * stride behind m->data, aligned to CARRIER_PACK_ALIGN. Not
     * CARRIER_STABLE. NULL: each comes as a message, and is. */
    err_t (*pack)(void *worker_ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                 const struct carrier_message *m, uint32_t n, uint32_t stride);
    /* A message sent by carrier_share was taken back by its sender before it was read, because this
     * worker had fallen behind: here it is, in its place in the order, without its bytes. NULL:
     * falling behind ends the session. */
    err_t (*lost)(void *worker_ctx, struct carrier *carrier, uint32_t local, uint32_t remote,
                  const struct carrier_message *message);
    /* carrier_ready may be true again. */
    void (*writable)(void *worker_ctx, struct carrier *carrier, uint32_t local);
    void (*close)(void *worker_ctx, struct carrier *carrier, uint32_t local);
    /* On the net loop: */
    err_t (*control)(void *net_ctx, struct carrier *carrier,
                     const struct carrier_message *message);
    /* No more bytes come or go (the workers hear close next). Borrowed reason. */
    void (*ending)(void *net_ctx, struct carrier *carrier, const char *reason);
    /* All is over; the session is freed after this returns. */
    void (*ended)(void *net_ctx, struct carrier *carrier);
};

/* A worker of this process: its loop, and the context its callbacks get. */
struct carrier_worker {
    struct io_loop *loop;
    void *ctx;
};

struct carrier_config {
    struct io_loop *net;
    const struct carrier_host *host;
    void *net_ctx;
    const struct carrier_worker *workers; /* copied */
    uint32_t workers_len;
    const struct hello *ours;   /* copied */
    const struct hello *theirs; /* copied */
    struct counters *counters;  /* where sessions are shown; may be NULL */
};

/* Memory to build one message's bytes in: CARRIER_ALIGN aligned. */
struct carrier_block {
    uint8_t *data;
    size_t len;
    void *owner; /* the carrier's, or the pool */
    uint64_t place;
};

/* What a worker did on a session, ever. Written by its thread alone, read by any (relaxed: numbers
 * to look at, they order nothing). */
struct carrier_counters {
    _Atomic uint64_t messages_out;
    _Atomic uint64_t bytes_out; /* of messages; a shared block counts for each of its readers */
    _Atomic uint64_t shared_out; /* of the messages, references to shared blocks */
    _Atomic uint64_t batches_out; /* times that something was published */
    _Atomic uint64_t messages_in;
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t batches_in;
    _Atomic uint64_t wakes;   /* of the peer's workers, by a system call */
    _Atomic uint64_t woken;   /* times the peer woke us */
    _Atomic uint64_t stalls;  /* times there was no room */
    _Atomic uint64_t lost_out; /* shared messages taken back */
    _Atomic uint64_t lost_in;
};
static inline void carrier_count(_Atomic uint64_t *counter, uint64_t n)
{
    /* Relaxed, both: one writer, see above. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- for the layer above: on the loop of worker `local` -------------------------------------- */

/* Is there room to send? False means back-pressure: wait for writable. Sending is never refused. */
bool carrier_ready(struct carrier *c, uint32_t local, uint32_t remote);
/* Never fails: falls back to private memory where the shared one has no room. What else is sent to
 * that worker before the block is committed may wait for that. */
void carrier_reserve(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                     struct carrier_block *out);
/* Sends m with the block as its bytes (m->data and len are ignored); len: how much of it is used.
 * Nothing is sent once the session is ending. */
void carrier_commit(struct carrier *c, uint32_t local, uint32_t remote,
                    const struct carrier_message *m, struct carrier_block *block, size_t len);
/* Both in one: copies m->data. */
void carrier_send(struct carrier *c, uint32_t local, uint32_t remote,
                  const struct carrier_message *m);
/* Sends m with the first len bytes of a block of a pool as its bytes, which stays the caller's; the
 * bytes may not change any more. */
void carrier_share(struct carrier *c, uint32_t local, uint32_t remote,
                   const struct carrier_message *m, const struct carrier_block *block, size_t len);
/* Publishes what was committed, on all lanes of this worker, now. A peer that is seen asleep is
 * woken now, one that is just falling asleep at the end of the loop's turn at the latest. */
void carrier_flush(struct carrier *c, uint32_t local);

/*
 * Small messages to one worker, n of them (1 to CARRIER_RUN_MAX) of len bytes each (up to
 * CARRIER_RUN_BYTES). Gives room for run.len of them, which may be fewer: then begin again. Fill
 * as many as wanted, in order, with carrier_run_at or carrier_run_put; carrier_run_end sends the
 * first n of them.
 * Between the two nothing else is called on this carrier's local worker:
 *
 *   struct carrier_run run;
 *   carrier_run_begin(c, local, remote, n, 16, &run);
 *   for (uint32_t i = 0; i < run.len; i++) {
 *       memcpy(carrier_run_at(&run, i, &header), item[i], 16);
 *   }
 *   carrier_run_end(c, local, remote, &run, run.len);
 */
void carrier_run_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                       struct carrier_run *run);
void carrier_run_end(struct carrier *c, uint32_t local, uint32_t remote,
                     const struct carrier_run *run, uint32_t n);

/*
 * A pack: small messages to one worker, n of them (1 to CARRIER_RUN_MAX) of len bytes each (up to
 * CARRIER_RUN_BYTES). Gives room, to be filled in any order; carrier_pack_end sends the first n of
 * them with the header m, whose data, len and flags are ignored. Between the two nothing else is
 * called on this carrier's local worker:
 *
 *   struct carrier_pack pack;
 *   carrier_pack_begin(c, local, remote, n, 16, &pack);
 *   for (uint32_t i = 0; i < n; i++) {
 *       memcpy(carrier_pack_at(&pack, i), item[i], 16);
 *   }
 *   carrier_pack_end(c, local, remote, &pack, &header, n);
 */
void carrier_pack_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                        struct carrier_pack *pack);
void carrier_pack_end(struct carrier *c, uint32_t local, uint32_t remote,
                      const struct carrier_pack *pack, const struct carrier_message *m, uint32_t n);

/* Where the bytes of message i go, aligned to CARRIER_PACK_ALIGN. */
static inline __attribute__((always_inline)) uint8_t *
carrier_pack_at(const struct carrier_pack *pack, uint32_t i)
{
    return pack->bytes + (size_t)i * pack->stride;
}

/* As the ring wants its lines written: few, large stores. */
typedef uint64_t carrier_pair __attribute__((vector_size(16), may_alias));
STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the halves of a pair's words");

/* Writes the header of a message, its word included; data and len of m are ignored. */
static inline __attribute__((always_inline)) void carrier_put_head(struct carrier_line *line,
                                                                   uint32_t word,
                                                                   const struct carrier_message *m,
                                                                   uint32_t len)
{
    carrier_pair *head = (carrier_pair *)line;
    head[0] = (carrier_pair){word | (uint64_t)m->stream << 32, m->c | (uint64_t)len << 32};
    head[1] = (carrier_pair){m->a, m->b};
}

/* Writes the header of message i (data and len of m are ignored); its first CARRIER_RUN_HEAD bytes
 * are to be written where this points, 32-byte aligned. */
static inline __attribute__((always_inline)) uint8_t *
carrier_run_at(const struct carrier_run *run, uint32_t i, const struct carrier_message *m)
{
    struct carrier_line *line = i == 0 ? run->first : run->lines + (size_t)i * run->stride;
    carrier_put_head(line, run->word | m->kind, m, run->bytes);
    return line->bytes;
}

/* Up to 64 bytes, without a call or a loop that could become one: pieces that may overlap. (What
 * was just stored in other pieces is slow to read back that way: build it in place instead.) */
static inline __attribute__((always_inline)) void carrier_copy(uint8_t *to, const uint8_t *from,
                                                               size_t len)
{
    if (len >= 16) {
        memcpy(to, from, 16);
        if (len > 32) {
            memcpy(to + 16, from + 16, 16);
        }
        if (len > 48) {
            memcpy(to + 32, from + 32, 16);
        }
        memcpy(to + len - 16, from + len - 16, 16);
    } else if (len >= 8) {
        memcpy(to, from, 8);
        memcpy(to + len - 8, from + len - 8, 8);
    } else if (len >= 4) {
        memcpy(to, from, 4);
        memcpy(to + len - 4, from + len - 4, 4);
    } else if (len > 0) {
        to[0] = from[0];
        to[len / 2] = from[len / 2];
        to[len - 1] = from[len - 1];
    }
}

/* Where the bytes of message i beyond those go, 4-byte aligned. Only when there are any, and then
 * for each message. */
static inline __attribute__((always_inline)) uint8_t *
carrier_run_more(const struct carrier_run *run, uint32_t i)
{
    struct carrier_line *line = run->lines + (size_t)i * run->stride + 1;
    line->zero = 0;
    return line->more;
}

/* The same for any length: copies the run's bytes a message from data. */
static inline __attribute__((always_inline)) void
carrier_run_put(const struct carrier_run *run, uint32_t i, const struct carrier_message *m,
                const uint8_t *data)
{
    uint8_t *bytes = carrier_run_at(run, i, m);
    if (run->stride == 1) {
        carrier_copy(bytes, data, run->bytes);
        return;
    }
    carrier_copy(bytes, data, CARRIER_RUN_HEAD);
    carrier_copy(carrier_run_more(run, i), data + CARRIER_RUN_HEAD,
                 run->bytes - CARRIER_RUN_HEAD);
}

/* The same from a message as it is received in a run; of its word only the kind is set. */
static inline __attribute__((always_inline)) void
carrier_run_small(const struct carrier_run *run, uint32_t i, const struct carrier_small *m)
{
    struct carrier_line *line = i == 0 ? run->first : run->lines + (size_t)i * run->stride;
    const carrier_pair *from = (const carrier_pair *)m;
    carrier_pair *to = (carrier_pair *)line;
    carrier_pair head = from[0];
    head[0] |= run->word;
    to[0] = head;
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
    if (run->stride > 1) {
        memcpy(carrier_run_more(run, i), m->bytes + CARRIER_RUN_HEAD, CARRIER_RUN_MORE);
    }
}

/* The lane's window, from open to close. */
struct carrier_window *carrier_window(struct carrier *c, uint32_t local, uint32_t remote);
/* The inline calls' exceptions: the message lies in w->aside; the peer is seen asleep. */
void carrier_post_aside(struct carrier_window *w);
void carrier_post_wake(struct carrier_window *w);

static inline __attribute__((always_inline)) uint32_t carrier_lines_of(size_t len)
{
    return len <= CARRIER_RUN_HEAD ? 1 : 2;
}

/* Is there room in the window for a message of len bytes? Then carrier_ready is true as well. */
static inline __attribute__((always_inline)) bool carrier_post_room(const struct carrier_window *w,
                                                                    size_t len)
{
    return (size_t)(w->end - w->next) >= carrier_lines_of(len);
}

/*
 * One small message (len up to CARRIER_RUN_BYTES), published by itself as by CARRIER_NOW, in place:
 *
 *   struct carrier_line *line = carrier_post_begin(w, 16);
 *   memcpy(line->bytes, item, 16);
 *   carrier_post_end(w, line, &header, 16);
 *
 * Bytes beyond CARRIER_RUN_HEAD go where carrier_post_more points. Between the two nothing else is
 * called on this carrier's local worker. What it costs is stores: the lines come from the peer's
 * cache, and the fewer stores wait in the processor's queue between them, the more of them are on
 * their way at a time. So what the carrier keeps of it is two words.
 */
static inline __attribute__((always_inline)) struct carrier_line *
carrier_post_begin(struct carrier_window *w, size_t len)
{
    return carrier_post_room(w, len) ? w->next : w->aside;
}

/* Only when there are bytes for it. */
static inline __attribute__((always_inline)) uint8_t *carrier_post_more(struct carrier_line *line)
{
    line[1].zero = 0;
    return line[1].more;
}

/* data and len of m are ignored. */
static inline __attribute__((always_inline)) void carrier_post_end(struct carrier_window *w,
                                                                   struct carrier_line *line,
                                                                   const struct carrier_message *m,
                                                                   size_t len)
{
    uint32_t lines = carrier_lines_of(len);
    ASSERT(len <= CARRIER_RUN_BYTES && m->kind >= FRAME_KIND_USER);
    carrier_put_head(line, 0, m, (uint32_t)len); /* no word yet: 0 is no lap */
    /* Release: as in store_first (shm/produce.c), for one message. */
    atomic_store_explicit(&line->word, w->words[lines - 1] | m->kind, memory_order_release);
    if (__builtin_expect(line == w->aside, 0)) {
        carrier_post_aside(w);
        return;
    }
    ASSERT(line == w->next);
    w->next = line + lines;
    w->tally += (uint64_t)1 << CARRIER_TALLY_SHIFT | len;
    /* Relaxed: a hint, as in look (shm/produce.c); the end of the turn looks behind a fence. */
    if (__builtin_expect(atomic_load_explicit(w->sleeping, memory_order_relaxed) & 1, 0)) {
        carrier_post_wake(w);
    }
}

/* The same with the bytes of m. */
static inline __attribute__((always_inline)) void carrier_post(struct carrier_window *w,
                                                               const struct carrier_message *m)
{
    struct carrier_line *line = carrier_post_begin(w, m->len);
    if (m->len <= CARRIER_RUN_HEAD) {
        carrier_copy(line->bytes, m->data, m->len);
    } else {
        carrier_copy(line->bytes, m->data, CARRIER_RUN_HEAD);
        carrier_copy(carrier_post_more(line), m->data + CARRIER_RUN_HEAD,
                     m->len - CARRIER_RUN_HEAD);
    }
    carrier_post_end(w, line, m, m->len);
}

/* A word of the layer above's, one per local worker and session; NULL at open. */
void **carrier_slot(struct carrier *c, uint32_t local);
/* Ends the session for this reason (owned). Also the net loop, with local = CARRIER_NET. */
void carrier_fail(struct carrier *c, uint32_t local, err_t reason);

/* ---- for the layer above: any loop, constant ------------------------------------------------- */

const struct hello *carrier_peer(const struct carrier *c);
const char *carrier_name(const struct carrier *c); /* "tcp", "shm" */
/* Do runs and posts go where the peer reads them? Else they are sent as any message. */
bool carrier_in_place(const struct carrier *c);
uint32_t carrier_remote_workers(const struct carrier *c);
const struct carrier_counters *carrier_counters(const struct carrier *c, uint32_t local);
/* Net loop: have the workers heard of the session? */
bool carrier_started(const struct carrier *c);
/* Net loop: did the session end because this kind of carrier cannot be set up between the two? Then
 * another kind may do. Whoever died or thought better of it amid the set-up proves nothing. */
bool carrier_unfit(const struct carrier *c);

/* ---- for the layer above: net loop ----------------------------------------------------------- */

/* To the peer's control(). */
void carrier_control(struct carrier *c, const struct carrier_message *m);
/* Frees at once, without a callback: the worker loops have stopped or the caller is on the only
 * loop there is. */
void carrier_destroy(struct carrier *c);

/* ---- for implementations --------------------------------------------------------------------- */

struct carrier_ops {
    const char *name;
    bool (*ready)(struct carrier *c, uint32_t local, uint32_t remote);
    void (*reserve)(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                    struct carrier_block *out);
    void (*commit)(struct carrier *c, uint32_t local, uint32_t remote,
                   const struct carrier_message *m, struct carrier_block *block, size_t len);
    /* The next three: NULL: the base does it by reserve and commit, or does nothing. */
    void (*send)(struct carrier *c, uint32_t local, uint32_t remote,
                 const struct carrier_message *m); /* counts as well */
    void (*share)(struct carrier *c, uint32_t local, uint32_t remote,
                  const struct carrier_message *m, const struct carrier_block *block, size_t len);
    void (*flush)(struct carrier *c, uint32_t local);
    /* Runs in place; n and len are within bounds. False: no room, send it singly. end counts as
     * well. NULL, both: messages are gathered in private memory. */
    bool (*run_begin)(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                      struct carrier_run *run);
    void (*run_end)(struct carrier *c, uint32_t local, uint32_t remote,
                    const struct carrier_run *run, uint32_t n);
    /* The same for packs. */
    bool (*pack_begin)(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                      struct carrier_pack *pack);
    void (*pack_end)(struct carrier *c, uint32_t local, uint32_t remote,
                    const struct carrier_pack *pack, const struct carrier_message *m, uint32_t n);
    /* Posts in place: the lane's window, and what carrier_post_wake is to do. NULL, both: they are
     * sent, one by one. */
    struct carrier_window *(*window)(struct carrier *c, uint32_t local, uint32_t remote);
    void (*posted)(struct carrier *c, uint32_t local, uint32_t remote);
    /* Worker loop. prepare: see carrier_prepare. attach: before host->open. detach: after
     * host->close, also when there was no open or no prepare. May be NULL. */
    void (*prepare)(struct carrier *c, uint32_t local);
    void (*attach)(struct carrier *c, uint32_t local);
    void (*detach)(struct carrier *c, uint32_t local);
    /* Net loop: */
    void (*control)(struct carrier *c, const struct carrier_message *m);
    void (*node)(struct carrier *c, struct mailbox_item *item); /* from a worker, see below */
    void (*after)(struct carrier *c); /* a burst of nodes; may be NULL */
    void (*shut)(struct carrier *c, const char *reason);        /* close the streams now */
    void (*free)(struct carrier *c);
};

struct carrier_end {
    struct carrier *carrier;
    uint32_t local;
    struct carrier_worker worker;
    struct mailbox *box; /* to the worker */
    void *slot;          /* of the layer above */
    bool open;           /* worker's: between open and close */
    bool failed;         /* worker's: it asked for the end; further messages are dropped */
    bool building;       /* worker's: between carrier_pack_begin and carrier_pack_end */
    struct carrier_line *gathered; /* worker's: a run in private memory; NULL until there was one */
    uint8_t *packed;     /* the same for packs */
    struct carrier_window *windows; /* worker's, by remote: of carriers that have none; as above */
    struct carrier_counters *counters; /* own_counters, or those of slot_shown */
    struct carrier_counters own_counters;
    struct counters_slot *slot_shown;
};

struct carrier {
    const struct carrier_ops *ops;
    const struct carrier_host *host;
    void *net_ctx;
    struct io_loop *net;
    struct hello ours;
    struct hello theirs;
    struct counters *counters;
    struct carrier_end *ends;
    uint32_t ends_len;
    struct mailbox *net_box; /* to the net loop */
    bool started;            /* net loop's, as the rest */
    bool unfit;              /* see carrier_unfit */
    bool ending;
    uint32_t closed; /* ends that have */
};

/* One message in private memory on its way between loops: header, then its bytes. */
enum carrier_node_kind {
    CARRIER_NODE_PREPARE, /* net -> worker: before OPEN, where the implementation needs it */
    CARRIER_NODE_OPEN,    /* net -> worker */
    CARRIER_NODE_CLOSE,
    CARRIER_NODE_MESSAGE, /* both ways */
    CARRIER_NODE_WRITABLE, /* net -> worker */
    CARRIER_NODE_CLOSED,  /* worker -> net */
    CARRIER_NODE_FAIL,
    CARRIER_NODE_UNFIT,
    CARRIER_NODE_OTHER, /* of the implementation, worker -> net */
};
struct carrier_node {
    struct mailbox_item item;
    enum carrier_node_kind kind;
    uint16_t local;
    uint16_t remote;
    struct carrier_message m; /* data points behind this struct, or is NULL */
    err_t reason;             /* FAIL, UNFIT */
    uint32_t refs;            /* the implementation's, net loop */
    size_t sent;              /* the implementation's */
    struct carrier_node *next;
    /* Set when the memory is not the C library's: takes the node instead of free. */
    void (*give_back)(struct carrier_node *node);
    void *pool;  /* give_back's, as room: the bytes there are, this struct included */
    size_t room;
};
/* Of the struct and len bytes behind it. */
size_t carrier_node_size(size_t len);
/* Fills a node in memory of that size, aligned to CARRIER_ALIGN. */
void carrier_node_init(struct carrier_node *node, enum carrier_node_kind kind, uint32_t local,
                       uint32_t remote, const struct carrier_message *m, size_t len);
struct carrier_node *carrier_node_new(enum carrier_node_kind kind, uint32_t local, uint32_t remote,
                                      const struct carrier_message *m, size_t len);
static inline uint8_t *carrier_node_data(struct carrier_node *node)
{
    return (uint8_t *)node + ((sizeof(*node) + CARRIER_ALIGN - 1) & ~(size_t)(CARRIER_ALIGN - 1));
}
void carrier_node_free(struct carrier_node *node);

/* Fills the base; the implementation's struct begins with it. */
void carrier_init(struct carrier *c, const struct carrier_ops *ops,
                  const struct carrier_config *config);
/* Calls ops->prepare on every worker's loop, which answers by a node OTHER. Net loop. */
void carrier_prepare(struct carrier *c);
/* Tells every worker of the session. Net loop. */
void carrier_start(struct carrier *c);
/* Net loop: ends the session; owns reason (NULL: the peer closed in order). May be called again. */
void carrier_end_session(struct carrier *c, err_t reason);
/* The same while it is set up, for carrier_unfit. */
void carrier_end_unfit(struct carrier *c, err_t reason);
/* Also on a worker's loop: asks for it. */
void carrier_fail_unfit(struct carrier *c, uint32_t local, err_t reason);
/* Worker loop: gives a received message to the layer above. False: stop, the session failed. */
bool carrier_deliver(struct carrier *c, uint32_t local, uint32_t remote,
                     const struct carrier_message *m);
/* Worker loop: the same for a pack; the host has `pack`. */
bool carrier_deliver_pack(struct carrier *c, uint32_t local, uint32_t remote,
                          const struct carrier_message *m, uint32_t n, uint32_t stride);
/* Worker loop: the same for a run of `bytes` bytes in all; the host has `run`. */
bool carrier_deliver_run(struct carrier *c, uint32_t local, uint32_t remote,
                         const struct carrier_small *messages, uint32_t len, size_t bytes);
/* Worker loop: there is room again. */
void carrier_writable(struct carrier *c, uint32_t local);
/* Net loop: passes a message's node, or WRITABLE, on to the worker it is for. */
void carrier_to_worker(struct carrier *c, struct carrier_node *node);
void carrier_release(struct carrier *c); /* frees the base, not the struct */

#endif
