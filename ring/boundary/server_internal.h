/*
 * Module-private: the server of the storage boundary in six files. server.c lives on the net
 * loop: the door, sessions, life. server_worker.c lives on each storage worker's loop: its
 * subscriptions, served in turns. server_room.c: the memory a chunk is built in. server_share.c:
 * one chunk for several subscribers, and where they stand. server_channel.c: one message for those
 * of them that one compute worker has. server_gather.c: small messages, many at a time.
 */
#ifndef TAILRACE_RING_BOUNDARY_SERVER_INTERNAL_H
#define TAILRACE_RING_BOUNDARY_SERVER_INTERNAL_H

#include "core/base/map.h"
#include "core/base/mem.h"
#include "ring/boundary/protocol.h"
#include "ring/shm/shm.h"

/* Where a subscription waits; it is in exactly one place. A slow reader is in one of the last two
 * and costs nothing. */
enum sub_state {
    SUB_QUEUED,    /* in the worker's run queue */
    SUB_IDLE,      /* the backend had nothing more: until boundary_server_wake */
    SUB_NO_CREDIT, /* until CREDIT */
    SUB_BLOCKED,   /* in its link's list: until the carrier is writable */
};

/* A subscription as the server has it. Its storage worker's loop only; owned by link->subs. */
struct sub {
    struct link *link;
    struct source *source;
    struct channel *channel;
    void *cursor; /* the backend's; closed with the subscription */
    uint32_t id;  /* as its compute worker numbers it */
    enum sub_state state;
    bool placed;   /* all below `at` was sent and nothing beyond: at knows where the cursor is */
    uint64_t at;
    struct place *place; /* at, when it is placed and the source keeps places */
    uint64_t granted; /* credit, bytes since the beginning */
    uint64_t used;    /* of it; the last chunk may go beyond, by less than a chunk and its cost */
    struct sub *list_next; /* in the run queue, or among the link's blocked */
    struct sub *list_prev;
    struct counters_slot *counters;
    struct sub *source_prev; /* among those of the source */
    struct sub *source_next;
};

/* First in, first out; a subscription is in one list at most, so the links lie in it. */
struct sub_list {
    struct sub *first;
    struct sub *last;
};

/* A chunk made once for all who are at its lower; its bytes, if any, are in the pool. */
struct shared_chunk {
    bool kept;                  /* else there is none */
    struct carrier_block block; /* data is NULL: progress alone */
    uint64_t lower;
    uint64_t upper;
    uint32_t ok_len;   /* bytes, of the ok batch */
    uint32_t len;      /* bytes, of the whole payload */
};

/* A time of a source at which subscriptions of it stand; made by the first of them, freed with the
 * last. */
struct place {
    uint64_t at;
    uint32_t subs;
};

/* A source that somebody subscribes to; made by the first, freed by the last. Worker loop. */
struct source {
    uint64_t id;
    struct sub *first; /* its subscriptions, oldest first */
    struct sub *last;
    uint32_t subs;     /* how many */
    bool tracked;      /* there were several once: places are kept */
    bool dry;          /* the backend has nothing beyond dry_at, as of the last wake */
    uint64_t dry_at;
    uint64_t upper; /* as last heard; for counters */
    struct u64map places; /* at -> struct place */
    struct shared_chunk chunk;
    uint64_t shared; /* everything below was given to several at a time; as far as that got */
    struct channel *channels;
    struct counters_slot *counters;
    struct source *kept_prev; /* among those that keep a chunk, oldest first */
    struct source *kept_next;
};

/* Numbers of subscriptions. */
struct readers {
    uint32_t *ids;
    size_t ids_len;
    size_t ids_cap;
};

/* Memory for the bytes of one chunk, during one call of the backend. */
struct boundary_room {
    struct sub *sub;
    struct gather *gather;
    uint8_t *small; /* where one is built that may be gathered: its next message's bytes */
    uint8_t *bytes; /* NULL: not taken */
    size_t len;     /* of the whole payload */
    bool pooled;    /* block is the pool's, ours to release; else the carrier's, to be committed */
    struct carrier_block block;
    void *useless;  /* more than a message may have: owned */
};

/* What is sent to the subscriptions of one source that one compute worker has: see protocol.h.
 * Made by the first of them, freed with the last. */
struct channel {
    struct link *link;
    struct source *source;
    uint32_t remote; /* compute worker, as its process numbers it */
    uint32_t stream; /* its number on the link */
    struct lane *lane;
    uint32_t subs;
    bool casting;           /* in the worker's list of those that have somebody in `next` */
    struct readers named;   /* whom the peer takes DATA to be for */
    struct readers next;    /* who gets the source's chunk with the next message */
    struct channel *prev;   /* among those of the source */
    struct channel *following;
    struct channel *cast_next;
};

/* The way to one of the peer's workers. Small messages by themselves go straight into the ring,
 * each published at once, while they follow one another; among larger ones they wait for those. */
struct lane {
    struct link *link;
    uint32_t remote;
    bool brisk; /* what went last was small */
    uint32_t blocked; /* subscriptions that wait for room in it */
    struct carrier_window *window;
};

/*
 * Small chunks to one worker, of one length: put into the ring together, by nothing but stores into
 * its lines. Those come from the peer's cache; with a backend's stores between them a processor
 * waits for each, and has none ahead on their way. Everything else that is sent goes after what is
 * gathered; empty between polls.
 */
struct gather {
    struct lane *lane; /* NULL: none */
    /* Whose the last one is: until something else is sent, more of that length may follow. */
    const struct sub *sub;
    uint64_t head; /* kind and stream of its messages */
    uint32_t len;
    uint32_t bytes;
    struct carrier_small messages[CARRIER_RUN_MAX];
};

/* A session as one worker sees it; in the carrier's slot. */
struct link {
    struct server_worker *worker;
    struct carrier *carrier;
    uint32_t local;
    struct u64map subs;     /* remote worker << 32 | id -> struct sub */
    struct u64map channels; /* stream -> struct channel */
    uint32_t last_stream;   /* given to a channel */
    struct lane *lanes;     /* by the peer's worker */
    bool gathers;           /* its carrier has runs in place */
    struct sub_list blocked;
    struct link *prev; /* among those of the worker */
    struct link *next;
};

/* On the worker's loop, but for the mailbox item. */
struct server_worker {
    struct mailbox_item registered; /* to the net loop, once */
    struct boundary_server *server;
    uint32_t index; /* local */
    struct io_loop *loop;
    void *ctx; /* the backend's */
    struct io_poller poller;
    struct u64map sources; /* id -> struct source */
    struct link *links;
    struct sub_list run; /* SUB_QUEUED */
    struct channel *casts; /* those that may have something to send */
    uint32_t cast_polls;   /* at the end of which they had not been sent */
    struct source *kept_first; /* sources that keep a chunk, oldest chunk first */
    struct source *kept_last;
    struct gather gather;
    uint64_t turn_used; /* `used` of the one being served as its turn began, */
    uint64_t turn_chunks; /* and how many chunks it was sent since then */
    uint64_t sent_bytes; /* not in the metrics yet: they are told once a poll; the next two too */
    uint64_t sent_chunks;
    uint64_t sent_shared;
    struct metric *subs;
    struct metric *bytes;
    struct metric *chunks;
    struct metric *shared;
};

/* What a subscription's and a source's counters are (server_worker.c has the names). */
enum sub_counter {
    SUB_BYTES,
    SUB_CHUNKS,
    SUB_SHARED,
    SUB_FRONTIER, /* everything below was sent */
    SUB_LAG,      /* of it behind the source's upper */
    SUB_CREDIT,   /* bytes it may still be sent */
    SUB_WAITS_CREDIT,
    SUB_WAITS_CARRIER,
};
enum source_counter { SOURCE_UPPER };

/* On the net loop, but for workers[i]; config and pool are set once, before any worker runs. */
struct boundary_server {
    struct io_loop *net;
    struct boundary_server_config config;
    struct shm_pool *pool; /* memory of shared chunks, and of sessions through shared memory */
    struct server_worker *workers;
    struct carrier_worker *ends; /* filled as workers register */
    struct mailbox *box;         /* registrations */
    uint32_t registered; /* nobody is let in before all workers are */
    struct door *door;
    struct hello self;
    struct carrier **sessions; /* all, also those ending */
    size_t sessions_len;
    size_t sessions_cap;
    struct metric *sessions_metric;
};

/* A gauge or counter that may be absent; n may be negative for a gauge. */
static inline void server_metric_add(struct metric *m, int64_t n)
{
    if (m != NULL) {
        metric_add(m, (uint64_t)n); /* two's complement */
    }
}

/* ---- server_worker.c ------------------------------------------------------------------------- */

/* The callbacks of sessions that run on worker loops, for server.c's host table. */
void server_open(void *worker_ctx, struct carrier *c, uint32_t local);
err_t server_message(void *worker_ctx, struct carrier *c, uint32_t local, uint32_t remote,
                     const struct carrier_message *m);
void server_writable(void *worker_ctx, struct carrier *c, uint32_t local);
void server_close(void *worker_ctx, struct carrier *c, uint32_t local);
/* A chunk of len bytes went out, in the subscription's turn: takes it from the credit. */
static inline void sub_sent(struct sub *sub, size_t len)
{
    sub->used += boundary_cost(len); /* may pass granted by this one chunk */
    sub->link->worker->turn_chunks++;
}
/* Gives up every session and subscription; the loop has stopped or is the only one. */
void server_worker_free(struct server_worker *w);

/* ---- server_gather.c; worker loop ------------------------------------------------------------ */

/* Sends what is gathered. */
void gather_send(struct gather *gather);
static inline void gather_flush(struct gather *gather)
{
    if (gather->lane != NULL) {
        gather_send(gather);
    }
}
/* Goes on with messages of that length for this subscription. False: they are not for it. */
bool gather_begin(struct gather *gather, const struct sub *sub, size_t bytes);

/* ---- server_room.c; worker loop -------------------------------------------------------------- */

/* For one call of the backend. */
static inline void room_open(struct boundary_room *room, struct sub *sub)
{
    struct gather *gather = &sub->link->worker->gather;
    if (gather->len == CARRIER_RUN_MAX) {
        gather_flush(gather);
    }
    room->sub = sub;
    room->gather = gather;
    room->small = gather->messages[gather->len].bytes;
    room->bytes = NULL;
    room->pooled = false;
    room->useless = NULL;
}

/*
 * The short way of a small chunk for one subscription: it is gathered. False: it has to go the
 * other one, and nothing was done.
 */
static inline __attribute__((always_inline)) bool
room_gather(struct sub *sub, const struct boundary_chunk *chunk, const struct boundary_room *room,
            size_t len)
{
    struct gather *gather = room->gather;
    if (len > CARRIER_RUN_BYTES || chunk->upper <= chunk->lower || chunk->err_len > 0 ||
        ((gather->sub != sub || gather->bytes != len) && !gather_begin(gather, sub, len))) {
        return false;
    }
    struct carrier_small *m = &gather->messages[gather->len++];
    uint64_t lower = chunk->lower;
    uint64_t upper = chunk->upper;
    /* Through registers: as in put_head (shm/produce.c). */
    __asm__("" : "+r"(lower), "+r"(upper));
    carrier_pair *head = (carrier_pair *)m;
    head[0] = (carrier_pair){gather->head, len | len << 32};
    head[1] = (carrier_pair){lower, upper};
    if (chunk->ok != m->bytes && len > 0) {
        memcpy(m->bytes, chunk->ok, len);
    }
    sub_sent(sub, len);
    sub->placed = true;
    sub->at = upper;
    return true;
}
/* Sends what the backend gave; shared with those who need the same. */
void room_send(struct sub *sub, const struct boundary_chunk *chunk, struct boundary_room *room,
               size_t len);

/* ---- server_share.c; worker loop ------------------------------------------------------------- */

/* Serves the subscription from its source's shared chunk, if that is what it needs next and its
 * credit allows; false: it must ask the backend. */
bool share_serve(struct sub *sub, uint64_t room);
/* A block of the pool for a chunk of len bytes that begins where the subscription stands, if others
 * stand there as well and the pool has room. Lets the source's chunk go. */
bool share_room(struct sub *sub, size_t len, struct carrier_block *out);
/* A chunk the backend just gave this subscription: keeps it and sends it, if there are others to
 * have it as well; false: nothing was done. room: where it was built; a pool's block is taken. */
bool share_offer(struct sub *sub, const struct boundary_chunk *chunk, struct boundary_room *room,
                 size_t len);
/* Where the subscription stands now: at this time, or (not placed) amid one. */
void share_move(struct sub *sub, bool placed, uint64_t at);
static inline void share_place(struct sub *sub, bool placed, uint64_t at)
{
    if (sub->source->tracked) {
        share_move(sub, placed, at);
    } else {
        ASSERT(sub->place == NULL);
        sub->placed = placed;
        sub->at = at;
    }
}
/* It is new to its source; it goes. */
void share_join(struct sub *sub);
void share_leave(struct sub *sub);
/* Lets the source's chunk go, after it was sent to those who wait for it. */
void share_drop(struct server_worker *w, struct source *source);

/* ---- server_channel.c; worker loop ----------------------------------------------------------- */

/* The channel of these subscriptions; made when there is none. */
struct channel *channel_join(struct link *link, uint32_t remote, struct source *source);
/* One less. tell: the session goes on, so the peer hears when the channel closes. */
void channel_leave(struct channel *channel, bool tell);
/* The subscription gets the source's shared chunk with the next message. */
void channel_cast(struct channel *channel, uint32_t id);
/* Sends that message. It must go before anything else is sent on the channel. */
void channel_flush(struct channel *channel);
/* Forgets it: the session is over. */
void channel_void(struct channel *channel);
/* Of all channels of the worker. */
void channels_send(struct server_worker *w);
static inline void channels_flush(struct server_worker *w)
{
    if (w->casts != NULL) {
        channels_send(w);
    }
}
/* Says that what is sent from now on is for this subscription alone. */
void channel_name_one(struct channel *channel, uint32_t id);
static inline void channel_name(struct channel *channel, uint32_t id)
{
    ASSERT(channel->next.ids_len == 0); /* flushed */
    if (channel->named.ids_len != 1 || channel->named.ids[0] != id) {
        channel_name_one(channel, id);
    }
}

/* May the channel's lane be sent something? What is gathered is so few that one may join. Nobody
 * passes those who wait: who follow a source in step would not any more, and share no chunks. */
static inline bool channel_ready(const struct channel *channel)
{
    const struct link *link = channel->link;
    return link->worker->gather.lane == channel->lane ||
           (channel->lane->blocked == 0 &&
            carrier_ready(link->carrier, link->local, channel->remote));
}

/* Sends a message of up to CARRIER_RUN_BYTES; m's flags are set here. */
void lane_post(struct lane *lane, struct carrier_message *m);

#endif
