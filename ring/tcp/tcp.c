/*
 * The TCP carrier: see tcp.h. Everything here runs on the net loop, except commit, reserve and
 * ready, which only make a node and put it into the net loop's mailbox.
 *
 * Sending: what the workers have committed comes in bursts of the mailbox; after each burst the
 * outbox is emptied into the stream as far as the stream wants bytes, so that one system call (and
 * under TLS one record) takes as many small messages as there are. Large payloads stay where the
 * worker built them until the kernel has copied them.
 *
 * Receiving: each frame's payload is copied straight into the node of its message, which goes to
 * the worker when the last frame is there and its checksum holds. Partial messages are found by
 * (from, to, stream); their sizes are bounded in sum, so that a peer cannot make us hold more.
 */
#include "ring/tcp/tcp.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ring/tcp/outbox.h"
#include "ring/tcp/pool.h"

enum {
    SOCKET_BYTES = 256 * 1024, /* given to the socket ahead of the scheduler */
    /* Bytes waiting in the session at which workers are held back, and at which they may go on. So
     * much that the net loop never waits for a worker to wake, and so little that what is sent is
     * still in a near cache, in memory that was used a moment ago (pool.c). */
    QUEUED_HIGH = 2 << 20,
    QUEUED_LOW = 1 << 20,
    GOODBYE_BEHIND = 4096,  /* more than this unsent: the reason for closing is not sent either */
    TICK_US = 1000 * 1000,
    SILENCE_US = 10 * 1000 * 1000,
};
#define PARTIAL_BYTES_MAX (1ULL << 30)

struct tcp_carrier {
    struct carrier base;
    struct io_stream *stream; /* NULL once closed */
    struct outbox outbox; /* what is to be sent, net loop's */
    struct tcp_pool **out_pools; /* one per worker, each owned by its thread */
    struct tcp_pool *in_pool;
    _Atomic size_t queued;   /* bytes committed by workers and not yet given to the socket */
    _Atomic bool *held_back; /* per worker: it found queued too high and waits */
    struct frame_parser parser; /* of what comes, however the stream cuts it */
    struct u64map partial;        /* (from, to, stream) -> struct carrier_node, not complete */
    size_t partial_bytes;         /* of their totals */
    struct carrier_node *current; /* the frame being read belongs to it */
    uint8_t *text;                /* payload of a frame for the net loop; ours */
    struct io_timer timer;
    uint64_t heard_us; /* when the last bytes came */
    bool sent;         /* something, since the last tick: then no ping is needed */
};

/* The base is the first member; any thread that has the session. */
static struct tcp_carrier *tcp_of(struct carrier *c)
{
    return CONTAINER_OF(c, struct tcp_carrier, base);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Bytes went to the socket: lets workers go on that were held back. */
static void less_queued(struct tcp_carrier *t, size_t bytes)
{
    ASSERT(bytes > 0);
    /* seq_cst: pairs with the store of held_back and the load of queued in tcp_ready; one of the
     * two sides sees the other. */
    size_t before = atomic_fetch_sub_explicit(&t->queued, bytes, memory_order_seq_cst);
    ASSERT(before >= bytes);
    if (before - bytes >= QUEUED_LOW) {
        return;
    }
    for (uint32_t i = 0; i < t->base.ends_len; i++) {
        /* seq_cst: as above. */
        if (atomic_load_explicit(&t->held_back[i], memory_order_seq_cst)) {
            atomic_store_explicit(&t->held_back[i], false, memory_order_seq_cst);
            carrier_to_worker(&t->base,
                              carrier_node_new(CARRIER_NODE_WRITABLE, i, 0, NULL, 0));
        }
    }
}

/* Gives frames to the stream until it has enough to keep the kernel busy. The rest waits in the
 * outbox, where urgent messages still overtake it; drain calls again. */
static void pump(struct tcp_carrier *t)
{
    ASSERT(!t->base.ending || t->stream == NULL);
    size_t before = t->outbox.bytes;
    while (t->stream != NULL && io_stream_pending(t->stream) <= SOCKET_BYTES &&
           outbox_send(&t->outbox, t->stream)) {
        t->sent = true;
    }
    if (t->stream != NULL) {
        outbox_flush(&t->outbox, t->stream);
    }
    if (t->outbox.bytes < before) {
        less_queued(t, before - t->outbox.bytes);
    }
}

/* The stream has sent all it was given. */
static void tcp_drain(void *arg)
{
    pump(arg);
}

/* Worker loop. Asks about the session as a whole, whatever the remote worker: one socket. */
static bool tcp_ready(struct carrier *c, uint32_t local, uint32_t remote)
{
    ASSERT(local < c->ends_len && remote < c->theirs.workers);
    /* Credit bounds what one subscription has under way; this bounds their sum. */
    struct tcp_carrier *t = tcp_of(c);
    /* Relaxed: a hint; the exact look is below. */
    if (atomic_load_explicit(&t->queued, memory_order_relaxed) < QUEUED_HIGH) {
        return true;
    }
    /* seq_cst, both: pair with less_queued. */
    atomic_store_explicit(&t->held_back[local], true, memory_order_seq_cst);
    return atomic_load_explicit(&t->queued, memory_order_seq_cst) < QUEUED_LOW;
}

/* Any thread: before the node is handed to the net loop, which subtracts when it is sent. */
static void count_queued(struct tcp_carrier *t, size_t len)
{
    /* Relaxed: the mailbox orders it before the node is sent. */
    atomic_fetch_add_explicit(&t->queued, len + FRAME_HEADER_LEN, memory_order_relaxed);
}

/* Worker loop: the block is the node's own memory, so that commit copies nothing. */
static void tcp_reserve(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                        struct carrier_block *out)
{
    struct carrier_node *node = tcp_pool_get(tcp_of(c)->out_pools[local], local, remote, NULL,
                                             len);
    *out = (struct carrier_block){.data = carrier_node_data(node), .len = len, .owner = node};
}

/* Worker loop: from here on the node is the net loop's. */
static void tcp_commit(struct carrier *c, uint32_t local, uint32_t remote,
                       const struct carrier_message *m, struct carrier_block *block, size_t len)
{
    struct carrier_node *node =
        block != NULL ? block->owner
                      : tcp_pool_get(tcp_of(c)->out_pools[local], local, remote, NULL, 0);
    ASSERT(node->local == local && node->remote == remote);
    node->m = *m;
    node->m.data = len > 0 ? carrier_node_data(node) : NULL;
    node->m.len = len;
    count_queued(tcp_of(c), len);
    mailbox_put(c->net_box, &node->item);
}

/* A worker's message has come through the mailbox; tcp_after sends it. */
static void tcp_node(struct carrier *c, struct mailbox_item *item)
{
    struct tcp_carrier *t = tcp_of(c);
    struct carrier_node *node = CONTAINER_OF(item, struct carrier_node, item);
    if (c->ending) {
        carrier_node_free(node);
        return;
    }
    outbox_put(&t->outbox, node);
}

/* The burst is in: what was committed in it goes out together. */
static void tcp_after(struct carrier *c)
{
    if (!c->ending) {
        pump(tcp_of(c));
    }
}

/* The net loop's own messages need no mailbox. Small and rare, so from the C library's memory. */
static void tcp_control(struct carrier *c, const struct carrier_message *m)
{
    struct tcp_carrier *t = tcp_of(c);
    struct carrier_node *node = carrier_node_new(CARRIER_NODE_MESSAGE, CARRIER_NET, CARRIER_NET, m,
                                                 m->len);
    if (m->len > 0) {
        memcpy(carrier_node_data(node), m->data, m->len);
    }
    count_queued(t, m->len);
    outbox_put(&t->outbox, node);
    pump(t);
}

/* A frame of the carrier itself, past the outbox: it belongs to no stream, and the last one, the
 * reason for the end, must not wait for what will never be sent. */
static void send_bare(struct tcp_carrier *t, enum frame_kind kind, uint32_t c, const char *text)
{
    ASSERT(t->stream != NULL && kind < FRAME_KIND_USER);
    size_t len = strlen(text);
    struct frame_header h = {
        .kind = (uint8_t)kind,
        .flags = FRAME_FIRST | FRAME_LAST,
        .from = CARRIER_NET,
        .to = CARRIER_NET,
        .length = (uint32_t)len,
        .total = (uint32_t)len,
        .c = c,
    };
    ASSERT(len <= FRAME_FRAGMENT);
    uint8_t head[FRAME_HEADER_LEN];
    frame_encode(head, &h, text);
    io_stream_write(t->stream, head, sizeof(head));
    io_stream_write(t->stream, text, len);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Streams are told apart by their three numbers, seen from the sender. */
static uint64_t key_of(const struct frame_header *h)
{
    return (uint64_t)h->from << 48 | (uint64_t)h->to << 32 | h->stream;
}

/* Memory for the whole message: its size is checked (frame_decode) but believed; only what arrives
 * is touched. */
static struct carrier_node *node_for(struct tcp_carrier *t, const struct frame_header *h)
{
    struct carrier_message m = {
        .kind = h->kind, .stream = h->stream, .c = h->c, .a = h->a, .b = h->b};
    /* Seen from the receiver: `to` is ours, `from` the peer's. */
    return tcp_pool_get(t->in_pool, h->to, h->from, &m, h->total);
}

/* Worker indexes come from the peer; everything behind this uses them as they are. */
static err_t check_lane(struct tcp_carrier *t, const struct frame_header *h)
{
    if (h->to >= t->base.ends_len || h->from >= t->base.theirs.workers) {
        return err_new(ERR_PROTOCOL, "frame from worker %u to worker %u; there are %u and %u",
                       h->from, h->to, t->base.theirs.workers, t->base.ends_len);
    }
    return ERR_OK;
}

/* The first frame of a message; the map holds it only if more frames are to come. */
static err_t partial_begin(struct tcp_carrier *t, const struct frame_header *h)
{
    ASSERT(t->current == NULL && (h->flags & FRAME_FIRST) != 0);
    if (t->partial_bytes + h->total > PARTIAL_BYTES_MAX) {
        return err_new(ERR_PROTOCOL, "too many bytes in messages begun and not ended");
    }
    t->current = node_for(t, h);
    if ((h->flags & FRAME_LAST) == 0) {
        u64map_put(&t->partial, key_of(h), t->current);
        t->partial_bytes += h->total;
    }
    return ERR_OK;
}

/* Finds or makes the node a lane's frame goes into. */
static err_t current_node(struct tcp_carrier *t, const struct frame_header *h)
{
    ASSERT(t->current == NULL);
    TRY(check_lane(t, h));
    struct carrier_node *node = u64map_get(&t->partial, key_of(h));
    if ((node != NULL) == ((h->flags & FRAME_FIRST) != 0)) {
        return err_new(ERR_PROTOCOL, "fragment of stream %u out of order", h->stream);
    }
    if (node == NULL) {
        return partial_begin(t, h);
    }
    size_t left = node->m.len - node->sent;
    bool last = (h->flags & FRAME_LAST) != 0;
    /* Every frame says how long its message is: it may not change its mind, nor end early. */
    if (h->total != node->m.len || h->kind != node->m.kind || h->length > left ||
        last != (h->length == left)) {
        return err_new(ERR_PROTOCOL, "fragment of stream %u does not fit its message", h->stream);
    }
    t->current = node;
    return ERR_OK;
}

/* Of the parser: where the payload of this frame goes. No byte of it was looked at yet. */
static err_t frame_place(void *arg, const struct frame_header *h, uint8_t **place)
{
    struct tcp_carrier *t = arg;
    if (h->kind < FRAME_KIND_USER || h->to == CARRIER_NET) {
        if (h->length > FRAME_FRAGMENT) {
            return err_new(ERR_PROTOCOL, "control frame of %u bytes", h->length);
        }
        t->text = mem_realloc(t->text, h->length);
        *place = t->text;
        return ERR_OK;
    }
    TRY(current_node(t, h));
    *place = carrier_node_data(t->current) + t->current->sent;
    return ERR_OK;
}

/* A whole frame for the net loop: of the carrier itself, or of the layer above's control. */
static err_t net_frame(struct tcp_carrier *t, const struct frame_header *h)
{
    if (h->kind == FRAME_PING) {
        return ERR_OK;
    }
    if (h->kind == FRAME_GOODBYE) {
        return err_new(ERR_UNAVAILABLE, "the peer closed: %.*s", (int)h->length,
                       h->length > 0 ? (const char *)t->text : "");
    }
    if (h->kind < FRAME_KIND_USER || h->from != CARRIER_NET ||
        (h->flags & FRAME_FLAGS) != FRAME_FLAGS ||
        t->base.host->control == NULL) {
        return err_new(ERR_PROTOCOL, "unexpected frame of kind %u", h->kind);
    }
    struct carrier_message m = {.kind = h->kind, .stream = h->stream, .c = h->c, .a = h->a,
                                .b = h->b, .data = h->length > 0 ? t->text : NULL,
                                .len = h->length};
    return t->base.host->control(t->base.net_ctx, &t->base, &m);
}

/* Of the parser: the payload is in its place and the checksum holds. The last frame of a message
 * sends it on to its worker. */
static err_t frame_there(void *arg, const struct frame_header *h)
{
    struct tcp_carrier *t = arg;
    if (h->kind < FRAME_KIND_USER || h->to == CARRIER_NET) {
        return net_frame(t, h);
    }
    if (h->length == 0) {
        TRY(current_node(t, h));
    }
    struct carrier_node *node = t->current;
    t->current = NULL;
    node->sent += h->length;
    if ((h->flags & FRAME_LAST) == 0) {
        return ERR_OK;
    }
    ASSERT(node->sent == node->m.len);
    if ((h->flags & FRAME_FIRST) == 0) {
        u64map_remove(&t->partial, key_of(h));
        t->partial_bytes -= node->m.len;
    }
    carrier_to_worker(&t->base, node);
    return ERR_OK;
}

/* May end the session, after which nothing of it is touched here. */
static void take_bytes(struct tcp_carrier *t, const uint8_t *data, size_t len)
{
    size_t used = 0;
    t->heard_us = io_now_us(t->base.net);
    err_t err = frame_parse(&t->parser, data, len, &used);
    if (err != ERR_OK) {
        carrier_end_session(&t->base, err);
    }
}

/* Bytes in the loop's receive buffer, gone after this; with TLS a record at a time. */
static void tcp_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    ASSERT(fds_len == 0);
    take_bytes(arg, data, len);
}

/* Of the stream, last: it is freed when this returns, so shut finds none. Owns reason. */
static void tcp_closed(void *arg, err_t reason)
{
    struct tcp_carrier *t = arg;
    ASSERT(t->stream != NULL);
    t->stream = NULL;
    carrier_end_session(&t->base, reason);
}

/* Into the message itself, what belongs to it: large payloads are not copied from where they were
 * decrypted or received. */
static uint8_t *tcp_place(void *arg, size_t *len)
{
    const struct tcp_carrier *t = arg;
    return frame_parser_place(&t->parser, len);
}

static const struct io_stream_handler tcp_handler = {
    .data = tcp_data,
    .drain = tcp_drain,
    .close = tcp_closed,
    .place = tcp_place,
};

/* ---- life ------------------------------------------------------------------------------------ */

/* Once a second: is the peer still there, and does it know that we are? */
static void tcp_tick(struct io_timer *timer)
{
    struct tcp_carrier *t = CONTAINER_OF(timer, struct tcp_carrier, timer);
    ASSERT(t->stream != NULL && !t->base.ending);
    uint64_t now = io_now_us(t->base.net);
    if (now > t->heard_us + SILENCE_US) {
        carrier_end_session(&t->base, err_new(ERR_TIMEOUT, "nothing heard from %s for 10 s",
                                              io_stream_peer(t->stream)));
        return;
    }
    if (!t->sent && io_stream_pending(t->stream) == 0) {
        send_bare(t, FRAME_PING, 0, "");
    }
    t->sent = false;
    io_timer_start(t->base.net, &t->timer, now + TICK_US);
}

/* The stream is let go, with the reason if the peer is likely to read it. Nodes it still reads in
 * place come back to their pools later, perhaps after tcp_free. */
static void tcp_shut(struct carrier *c, const char *reason)
{
    struct tcp_carrier *t = tcp_of(c);
    io_timer_cancel(c->net, &t->timer);
    struct io_stream *stream = t->stream;
    if (stream == NULL) {
        return;
    }
    if (io_stream_pending(stream) > GOODBYE_BEHIND) {
        io_stream_close(stream); /* a peer that does not read would not read the reason either */
    } else {
        send_bare(t, FRAME_GOODBYE, 0, reason);
        io_stream_finish(stream);
    }
    t->stream = NULL;
}

/* All workers have closed: the pools are nobody's but ours. */
static void tcp_free(struct carrier *c)
{
    struct tcp_carrier *t = tcp_of(c);
    ASSERT(t->stream == NULL);
    io_timer_cancel(c->net, &t->timer);
    outbox_free(&t->outbox);
    size_t at = 0;
    uint64_t key;
    void *node;
    while (u64map_next(&t->partial, &at, &key, &node)) {
        if (node == t->current) {
            t->current = NULL;
        }
        carrier_node_free(node);
    }
    if (t->current != NULL) {
        carrier_node_free(t->current);
    }
    u64map_free(&t->partial);
    free(t->text);
    free(t->held_back);
    uint32_t workers = c->ends_len;
    carrier_release(c); /* its mailboxes still have nodes */
    for (uint32_t i = 0; i < workers; i++) {
        tcp_pool_release(t->out_pools[i]);
    }
    free(t->out_pools);
    tcp_pool_release(t->in_pool);
    free(t);
}

static const struct carrier_ops tcp_ops = {
    .name = "tcp",
    .ready = tcp_ready,
    .reserve = tcp_reserve,
    .commit = tcp_commit,
    .control = tcp_control,
    .node = tcp_node,
    .after = tcp_after,
    .shut = tcp_shut,
    .free = tcp_free,
};

struct carrier *tcp_carrier_new(const struct carrier_config *config, struct io_stream *stream,
                                const uint8_t *rest, size_t rest_len)
{
    ASSERT(io_stream_loop(stream) == config->net);
    struct tcp_carrier *t = MEM_NEW(struct tcp_carrier);
    carrier_init(&t->base, &tcp_ops, config);
    t->stream = stream;
    t->held_back = mem_zalloc(sizeof(t->held_back[0]) * config->workers_len);
    t->out_pools = mem_alloc(sizeof(struct tcp_pool *) * config->workers_len);
    for (uint32_t i = 0; i < config->workers_len; i++) {
        t->out_pools[i] = tcp_pool_new();
    }
    t->in_pool = tcp_pool_new();
    t->parser.begin = frame_place;
    t->parser.end = frame_there;
    t->parser.arg = t;
    t->parser.sealed = t->outbox.sealed = io_stream_sealed(stream);
    t->timer.fire = tcp_tick;
    t->heard_us = io_now_us(config->net);
    io_timer_start(config->net, &t->timer, t->heard_us + TICK_US);
    io_stream_set_handler(stream, &tcp_handler, t);
    io_stream_set_high_water(stream, SOCKET_BYTES);
    carrier_start(&t->base);
    if (rest_len > 0) {
        take_bytes(t, rest, rest_len);
    }
    return &t->base;
}

void tcp_carrier_feed(struct carrier *carrier, const uint8_t *data, size_t len)
{
    take_bytes(CONTAINER_OF(carrier, struct tcp_carrier, base), data, len);
}

size_t tcp_carrier_queued(const struct carrier *carrier)
{
    return CONTAINER_OF(carrier, struct tcp_carrier, base)->outbox.bytes;
}
