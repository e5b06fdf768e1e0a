/*
 * The exchange on a worker's loop. To a worker of the same process a message is one node put into
 * that worker's mailbox. To one of another process it is kept until acknowledged, numbered within
 * the generation, and sent over whatever session there is; when a session opens both ends first
 * say up to where they have taken the other's messages (RESUME), and the rest is sent again. So a
 * cut connection loses and doubles nothing.
 *
 * What is kept has no bound of its own here, since exchange_send cannot refuse: exchange_pending
 * grows, and the sender's owner is to stop sending by it. What a session has under way at a time is
 * bounded by its carrier (carrier_ready).
 *
 * A message carries its generation. One of a lower generation than formed here, or of one lost, is
 * dropped; one of a higher generation is put aside until that one is formed. That happens when the
 * sender's net loop heard GO before ours: messages and GO go different ways.
 *
 * Of a lane, what is kept is the list first..last with numbers acked_seq + 1 .. sent_seq; unsent
 * points into it, and is NULL when all of it is under way.
 */
#include "core/base/log.h"
#include "ring/exchange/internal.h"

/* ---- sending to other processes -------------------------------------------------------------- */

/* The other end as its own process numbers it. */
static uint32_t remote_of(const struct exchange_worker *w, const struct lane *lane)
{
    ASSERT(lane->worker < w->x->total);
    return lane->worker % w->x->config.workers_per_process;
}

/* Frees the oldest message kept. */
static void lane_forget(struct exchange_worker *w, struct lane *lane)
{
    struct out_message *m = lane->first;
    ASSERT(m != NULL && lane->last != NULL);
    ASSERT(w->pending_remote >= m->len);
    w->pending_remote -= m->len;
    lane->first = m->next;
    if (lane->first == NULL) {
        lane->last = NULL;
    }
    if (lane->unsent == m) {
        lane->unsent = m->next;
    }
    free(m);
}

/* A new generation, or the end: nothing of the old one counts any more. */
static void lane_reset(struct exchange_worker *w, struct lane *lane)
{
    while (lane->first != NULL) {
        lane_forget(w, lane);
    }
    ASSERT(lane->last == NULL && lane->unsent == NULL);
    lane->sent_seq = lane->acked_seq = lane->taken_seq = 0;
    lane->unacked_bytes = 0;
}

/* Sends what the carrier has room for. */
static void lane_push(struct exchange_worker *w, struct lane *lane)
{
    if (!lane->resumed) {
        return;
    }
    ASSERT(lane->carrier != NULL);
    while (lane->unsent != NULL && carrier_ready(lane->carrier, w->index, remote_of(w, lane))) {
        struct out_message *m = lane->unsent;
        struct carrier_message message = {.kind = EXCHANGE_DATA, .a = m->seq, .b = w->generation,
                                          .data = m->data, .len = m->len};
        carrier_send(lane->carrier, w->index, remote_of(w, lane), &message);
        lane->unsent = m->next;
    }
}

static void send_remote(struct exchange_worker *w, struct lane *lane, const void *data, size_t len)
{
    ASSERT(w->formed && (lane->first == NULL) == (lane->last == NULL));
    struct out_message *m = mem_alloc(sizeof(*m) + len);
    *m = (struct out_message){.seq = ++lane->sent_seq, .len = len};
    if (len > 0) {
        memcpy(m->data, data, len);
    }
    if (lane->last != NULL) {
        lane->last->next = m;
    } else {
        lane->first = m;
    }
    lane->last = m;
    if (lane->unsent == NULL) {
        lane->unsent = m;
    }
    w->pending_remote += len;
    lane_push(w, lane);
}

/* The peer has everything up to seq. It says so itself, so seq is checked. */
static err_t lane_acked(struct exchange_worker *w, struct lane *lane, uint64_t seq)
{
    ASSERT(lane->acked_seq <= lane->sent_seq);
    if (seq < lane->acked_seq || seq > lane->sent_seq) {
        return err_new(ERR_PROTOCOL, "acknowledgement of %llu, between %llu and %llu was sent",
                       (unsigned long long)seq, (unsigned long long)lane->acked_seq,
                       (unsigned long long)lane->sent_seq);
    }
    while (lane->first != NULL && lane->first->seq <= seq) {
        lane_forget(w, lane);
    }
    ASSERT((lane->first == NULL) == (seq == lane->sent_seq));
    lane->acked_seq = seq;
    return ERR_OK;
}

/* ---- acknowledging --------------------------------------------------------------------------- */

/* Tells the other end up to where its messages have been delivered here. */
static void send_taken(struct exchange_worker *w, struct lane *lane, enum exchange_kind kind)
{
    ASSERT(kind == EXCHANGE_ACK || kind == EXCHANGE_RESUME);
    /* Generation 0: none stands here, so nothing of any was taken. */
    struct carrier_message m = {.kind = (uint8_t)kind, .flags = CARRIER_URGENT,
                                .stream = 1, .a = lane->taken_seq,
                                .b = w->formed ? w->generation : 0};
    lane->unacked_bytes = 0;
    if (lane->carrier != NULL && (w->formed || kind == EXCHANGE_RESUME)) {
        carrier_send(lane->carrier, w->index, remote_of(w, lane), &m);
    }
}

/* At the end of the burst; a long burst acknowledges on its way, so that the sender can forget. */
static void ack_later(struct exchange_worker *w, struct lane *lane, size_t len)
{
    lane->unacked_bytes += len;
    if (!lane->ack_due) {
        lane->ack_due = true;
        lane->next_due = w->due;
        w->due = lane;
    }
    if (lane->unacked_bytes >= EXCHANGE_ACK_BYTES) {
        send_taken(w, lane, EXCHANGE_ACK);
    }
}

/* After each burst of messages: what is still to be acknowledged, once per lane. */
static bool lanes_poll(struct io_poller *poller)
{
    struct exchange_worker *w = CONTAINER_OF(poller, struct exchange_worker, poller);
    bool any = w->due != NULL;
    while (w->due != NULL) {
        struct lane *lane = w->due;
        w->due = lane->next_due;
        lane->ack_due = false;
        send_taken(w, lane, EXCHANGE_ACK);
    }
    return any;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void deliver(struct exchange_worker *w, uint32_t from, const uint8_t *data, size_t len)
{
    ASSERT(w->formed && from != w->global && from < w->x->total);
    w->x->config.handler->message(w->ctx, from, data, len);
}

/* Owns m. To the end: order within a generation is kept. */
static void stash(struct exchange_worker *w, struct inner_message *m)
{
    ASSERT(m->generation > w->generation);
    m->next = NULL;
    if (w->stash_last != NULL) {
        w->stash_last->next = m;
    } else {
        w->stash = m;
    }
    w->stash_last = m;
}

static struct inner_message *inner_new(uint32_t from, uint64_t generation, const void *data,
                                       size_t len)
{
    struct inner_message *m = mem_alloc(sizeof(*m) + len);
    *m = (struct inner_message){.from = from, .generation = generation, .len = len};
    if (len > 0) {
        memcpy(m->data, data, len);
    }
    return m;
}

/* A message of the generation that stands, from another process. One had already (it was sent again
 * after a cut) is acknowledged again and not delivered; a gap is the peer's fault. */
static err_t take_numbered(struct exchange_worker *w, struct lane *lane, uint64_t seq,
                           const uint8_t *data, size_t len)
{
    ASSERT(w->formed);
    if (seq > lane->taken_seq + 1) {
        return err_new(ERR_PROTOCOL, "message %llu of worker %u after %llu",
                       (unsigned long long)seq, lane->worker,
                       (unsigned long long)lane->taken_seq);
    }
    if (seq == lane->taken_seq + 1) {
        lane->taken_seq = seq;
        deliver(w, lane->worker, data, len);
    }
    ack_later(w, lane, len);
    return ERR_OK;
}

static err_t take_data(struct exchange_worker *w, struct lane *lane,
                       const struct carrier_message *m)
{
    if (m->b < w->generation || (m->b == w->generation && !w->formed)) {
        return ERR_OK; /* of a generation that is over */
    }
    if (m->b > w->generation) {
        struct inner_message *kept = inner_new(lane->worker, m->b, m->data, m->len);
        kept->remote = true;
        kept->seq = m->a;
        stash(w, kept);
        return ERR_OK;
    }
    return take_numbered(w, lane, m->a, m->data, m->len);
}

/* First message of a session: from here on we may send, beginning behind what the peer has. */
static err_t take_resume(struct exchange_worker *w, struct lane *lane,
                         const struct carrier_message *m)
{
    if (lane->resumed) {
        return err_new(ERR_PROTOCOL, "lane of worker %u resumed twice", lane->worker);
    }
    if (m->b == w->generation && w->formed) {
        TRY(lane_acked(w, lane, m->a));
    }
    lane->resumed = true;
    lane->unsent = lane->first;
    if (lane->unsent != NULL && w->resent != NULL) {
        metric_add(w->resent, lane->sent_seq - lane->acked_seq);
    }
    lane_push(w, lane);
    return ERR_OK;
}

static err_t lanes_message(void *worker_ctx, struct carrier *c, uint32_t local, uint32_t remote,
                           const struct carrier_message *m)
{
    struct exchange_worker *w = worker_ctx;
    struct lane *lane = &w->lanes[carrier_peer(c)->worker_base + remote];
    if (lane->carrier != c) {
        return ERR_OK; /* a session that a newer one took over from */
    }
    switch (m->kind) {
    case EXCHANGE_DATA:
        return take_data(w, lane, m);
    case EXCHANGE_ACK:
        return m->b == w->generation && w->formed ? lane_acked(w, lane, m->a) : ERR_OK;
    case EXCHANGE_RESUME:
        return take_resume(w, lane, m);
    default:
        return err_new(ERR_PROTOCOL, "message of kind %u from worker %u", m->kind, lane->worker);
    }
}

/* From another worker here. */
static void take_inner(void *arg, struct mailbox_item *item)
{
    struct exchange_worker *w = arg;
    struct inner_message *m = CONTAINER_OF(item, struct inner_message, item);
    ASSERT(m->from < w->x->total && m->from != w->global);
    struct exchange_worker *sender = &w->x->workers[m->from % w->x->config.workers_per_process];
    /* Relaxed: a counter for back-pressure, read by the sender in exchange_pending. */
    atomic_fetch_sub_explicit(&sender->pending_inner, m->len, memory_order_relaxed);
    if (m->generation > w->generation) {
        stash(w, m);
        return;
    }
    if (m->generation == w->generation && w->formed) {
        deliver(w, m->from, m->data, m->len);
    }
    free(m);
}

/* ---- sessions and generations ---------------------------------------------------------------- */

/* The lanes are this session's from here on; an older one that still ends is ignored. */
static void lanes_open(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct exchange_worker *w = worker_ctx;
    for (uint32_t i = 0; i < w->x->config.workers_per_process; i++) {
        struct lane *lane = &w->lanes[carrier_peer(c)->worker_base + i];
        lane->carrier = c;
        lane->resumed = false;
        send_taken(w, lane, EXCHANGE_RESUME);
    }
}

static void lanes_close(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct exchange_worker *w = worker_ctx;
    for (uint32_t i = 0; i < w->x->config.workers_per_process; i++) {
        struct lane *lane = &w->lanes[carrier_peer(c)->worker_base + i];
        if (lane->carrier == c) { /* else a newer session has it already */
            lane->carrier = NULL;
            lane->resumed = false;
        }
    }
}

static void lanes_writable(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct exchange_worker *w = worker_ctx;
    for (uint32_t i = 0; i < w->x->config.workers_per_process; i++) {
        struct lane *lane = &w->lanes[carrier_peer(c)->worker_base + i];
        if (lane->carrier == c) {
            lane_push(w, lane);
        }
    }
}

const struct carrier_host exchange_host = {
    .open = lanes_open,
    .message = lanes_message,
    .writable = lanes_writable,
    .close = lanes_close,
    .control = exchange_control,
    .ending = exchange_ending,
    .ended = exchange_ended,
};

/* One that breaks the numbering ends the session it may have come by, as take_data would have. */
static void unstash_one(struct exchange_worker *w, struct inner_message *m)
{
    if (m->generation != w->generation || !w->formed) {
        return;
    }
    if (!m->remote) {
        deliver(w, m->from, m->data, m->len);
        return;
    }
    struct lane *lane = &w->lanes[m->from];
    err_t err = take_numbered(w, lane, m->seq, m->data, m->len);
    if (err != ERR_OK && lane->carrier != NULL) {
        carrier_fail(lane->carrier, w->index, err);
    } else {
        err_free(err);
    }
}

/* Gives out what came early; what is of a higher generation still stays. */
static void unstash(struct exchange_worker *w)
{
    struct inner_message *m = w->stash;
    w->stash = w->stash_last = NULL;
    while (m != NULL) {
        struct inner_message *next = m->next;
        if (m->generation > w->generation) {
            stash(w, m);
        } else {
            unstash_one(w, m);
            free(m);
        }
        m = next;
    }
}

/* All numbers begin again: both ends do so in the same generation, and each message says which. */
static void take_formed(struct exchange_worker *w, uint64_t generation)
{
    ASSERT(generation > w->generation && !w->formed);
    w->generation = generation;
    w->formed = true;
    for (uint32_t i = 0; i < w->x->total; i++) {
        lane_reset(w, &w->lanes[i]);
    }
    w->x->config.handler->formed(w->ctx, generation);
    unstash(w);
}

/* What was kept for others is of no use to anyone. */
static void take_lost(struct exchange_worker *w, const char *reason)
{
    ASSERT(w->formed);
    w->formed = false;
    for (uint32_t i = 0; i < w->x->total; i++) {
        lane_reset(w, &w->lanes[i]);
    }
    w->x->config.handler->lost(w->ctx, reason);
}

static void worker_take(void *arg, struct mailbox_item *item)
{
    struct net_item *it = CONTAINER_OF(item, struct net_item, item);
    if (it->kind == ITEM_FORMED) {
        take_formed(arg, it->generation);
    } else {
        ASSERT(it->kind == ITEM_LOST);
        take_lost(arg, it->reason);
    }
    exchange_item_free(item);
}

/* ---- public ---------------------------------------------------------------------------------- */

void exchange_send(struct exchange *x, uint32_t index, uint32_t to, const void *data, size_t len)
{
    ASSERT(index < x->config.workers_per_process && to < x->total && len <= FRAME_MESSAGE_MAX);
    struct exchange_worker *w = &x->workers[index];
    ASSERT(to != w->global);
    if (!w->formed) {
        return;
    }
    if (w->sent_bytes != NULL) {
        metric_add(w->sent_bytes, len);
    }
    if (to / x->config.workers_per_process != x->config.process) {
        send_remote(w, &w->lanes[to], data, len);
        return;
    }
    struct inner_message *m = inner_new(w->global, w->generation, data, len);
    /* Relaxed: as in take_inner. */
    atomic_fetch_add_explicit(&w->pending_inner, len, memory_order_relaxed);
    mailbox_put(x->workers[to % x->config.workers_per_process].inner, &m->item);
}

size_t exchange_pending(const struct exchange *x, uint32_t index)
{
    ASSERT(index < x->config.workers_per_process);
    const struct exchange_worker *w = &x->workers[index];
    /* Relaxed: as in take_inner. */
    return w->pending_remote + atomic_load_explicit(&w->pending_inner, memory_order_relaxed);
}

void exchange_worker(struct exchange *x, uint32_t index, struct io_loop *loop, void *worker_ctx)
{
    ASSERT(index < x->config.workers_per_process);
    struct exchange_worker *w = &x->workers[index];
    ASSERT(w->loop == NULL);
    w->loop = loop;
    w->ctx = worker_ctx;
    w->box = mailbox_new(loop, worker_take, NULL, w);
    w->inner = mailbox_new(loop, take_inner, NULL, w);
    w->poller.poll = lanes_poll;
    w->poller.brief = true;
    io_poller_add(loop, &w->poller);
    w->registered.kind = ITEM_REGISTERED;
    w->registered.index = index;
    mailbox_put(x->box, &w->registered.item);
}

/* ---- life ------------------------------------------------------------------------------------ */

void lanes_init(struct exchange *x, uint32_t index)
{
    struct exchange_worker *w = &x->workers[index];
    w->x = x;
    w->index = index;
    w->global = x->config.process * x->config.workers_per_process + index;
    w->lanes = mem_zalloc(sizeof(w->lanes[0]) * x->total);
    for (uint32_t i = 0; i < x->total; i++) {
        w->lanes[i].worker = i;
    }
    if (x->config.metrics == NULL) {
        return;
    }
    struct buf labels = {0};
    buf_printf(&labels, "worker=\"%u\"", w->global);
    const char *text = buf_cstr(&labels);
    w->sent_bytes = metric_counter(x->config.metrics, "tailrace_exchange_sent_bytes_total", text,
                                   "Bytes sent to other workers of the replica");
    w->resent = metric_counter(x->config.metrics, "tailrace_exchange_resent_messages_total", text,
                               "Messages sent again after a lost connection");
    buf_free(&labels);
}

static void inner_drop(struct mailbox_item *item)
{
    free(CONTAINER_OF(item, struct inner_message, item));
}

void lanes_free(struct exchange_worker *w)
{
    if (w->loop != NULL) {
        io_poller_remove(w->loop, &w->poller);
    }
    for (uint32_t i = 0; i < w->x->total; i++) {
        lane_reset(w, &w->lanes[i]);
    }
    while (w->stash != NULL) {
        struct inner_message *next = w->stash->next;
        free(w->stash);
        w->stash = next;
    }
    mailbox_free(w->box, exchange_item_free);
    mailbox_free(w->inner, inner_drop);
    free(w->lanes);
}
