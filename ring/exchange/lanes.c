/*
 * Messages to and from workers of other processes, on a worker's loop. Each is kept until it is
 * acknowledged, numbered within the generation, and sent over whatever session there is; when a
 * session opens both ends first say up to where they have taken the other's messages (RESUME), and
 * the rest is sent again. So a cut connection loses and doubles nothing.
 *
 * Where the session may be one of shared memory, a message is built in this process's pool, which
 * the peer maps: what is kept and what the peer reads are the same bytes, and sending them again in
 * a later session is another reference.
 *
 * What is kept is bounded by whoever sends (exchange_ready, then held_max: worker.c); what a
 * session has under way at a time by its carrier (carrier_ready).
 *
 * A message carries its generation. One of a lower generation than formed here, or of one lost, is
 * dropped; one of a higher generation is put aside until that one is formed (early). That happens
 * when the sender's net loop heard GO before ours: messages and GO go different ways. An honest
 * peer keeps at most held_max itself, so more than that ends the session; and what was put aside
 * goes with its session, since the peer sends it again in the next.
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
    struct piece *piece = lane->first;
    ASSERT(piece != NULL && lane->last != NULL);
    lane->first = piece->next;
    if (lane->first == NULL) {
        lane->last = NULL;
    }
    if (lane->unsent == piece) {
        lane->unsent = piece->next;
    }
    piece->next = NULL;
    piece_forget(w, piece);
}

static void drop_early(struct lane *lane)
{
    while (lane->early != NULL) {
        struct early *next = lane->early->next;
        free(lane->early);
        lane->early = next;
    }
    lane->early_last = NULL;
    lane->early_bytes = 0;
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

/* One message, over the session there is. The carrier keeps a reference to shared bytes of its own,
 * until the peer has read them; ours lasts until the peer's worker has taken the message. */
static void lane_send(struct exchange_worker *w, struct lane *lane, const struct piece *piece)
{
    struct carrier_message m = {.kind = EXCHANGE_DATA, .flags = CARRIER_KEEP, .a = piece->seq,
                                .b = w->generation};
    if (piece->block.owner != NULL) {
        carrier_share(lane->carrier, w->index, remote_of(w, lane), &m, &piece->block, piece->len);
        return;
    }
    m.data = piece->data;
    m.len = piece->len;
    carrier_send(lane->carrier, w->index, remote_of(w, lane), &m);
}

/* Sends what the carrier has room for. */
static void lane_push(struct exchange_worker *w, struct lane *lane)
{
    if (!lane->resumed) {
        return;
    }
    ASSERT(lane->carrier != NULL);
    while (lane->unsent != NULL && carrier_ready(lane->carrier, w->index, remote_of(w, lane))) {
        lane_send(w, lane, lane->unsent);
        lane->unsent = lane->unsent->next;
    }
}

void lanes_commit(struct exchange_worker *w, uint32_t to, struct piece *piece)
{
    struct lane *lane = &w->lanes[to];
    ASSERT(w->formed && (lane->first == NULL) == (lane->last == NULL));
    ASSERT(piece->next == NULL && to / w->x->config.workers_per_process != w->x->config.process);
    piece->seq = ++lane->sent_seq;
    if (lane->last != NULL) {
        lane->last->next = piece;
    } else {
        lane->first = piece;
    }
    lane->last = piece;
    if (lane->unsent == NULL) {
        lane->unsent = piece;
    }
    piece_keep(w, piece);
    lane_push(w, lane);
}

void lanes_flush(struct exchange_worker *w)
{
    struct carrier *last = NULL;
    for (uint32_t i = 0; i < w->x->total; i++) { /* those of one process stand together */
        struct lane *lane = &w->lanes[i];
        if (lane->carrier != NULL && lane->carrier != last) {
            carrier_flush(lane->carrier, w->index);
            last = lane->carrier;
        }
    }
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
bool lanes_acknowledge(struct exchange_worker *w)
{
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

/* To the end: order within a generation is kept. */
static err_t put_aside(struct exchange_worker *w, struct lane *lane,
                       const struct carrier_message *m)
{
    ASSERT(m->b > w->generation && (lane->early == NULL) == (lane->early_last == NULL));
    if (lane->early_bytes + m->len + sizeof(struct early) > w->x->config.held_max) {
        return err_new(ERR_LIMIT, "worker %u sent more than %zu bytes of generation %llu, which "
                       "does not stand here", lane->worker, w->x->config.held_max,
                       (unsigned long long)m->b);
    }
    struct early *early = mem_alloc(sizeof(*early) + m->len);
    *early = (struct early){.seq = m->a, .generation = m->b, .len = m->len};
    if (m->len > 0) {
        memcpy(early->data, m->data, m->len);
    }
    *(lane->early_last != NULL ? &lane->early_last->next : &lane->early) = early;
    lane->early_last = early;
    lane->early_bytes += m->len + sizeof(*early);
    return ERR_OK;
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
        exchange_deliver(w, lane->worker, data, len);
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
    return m->b > w->generation ? put_aside(w, lane, m)
                                : take_numbered(w, lane, m->a, m->data, m->len);
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
    ASSERT(local == w->index && remote < w->x->config.workers_per_process);
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

/* ---- sessions and generations ---------------------------------------------------------------- */

/* The lanes are this session's from here on; an older one that still ends is ignored. */
static void lanes_open(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct exchange_worker *w = worker_ctx;
    for (uint32_t i = 0; i < w->x->config.workers_per_process; i++) {
        struct lane *lane = &w->lanes[carrier_peer(c)->worker_base + i];
        lane->carrier = c;
        lane->resumed = false;
        drop_early(lane); /* of an older session that this one took over from */
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
            drop_early(lane);
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

/* One that breaks the numbering ends the session it came by, as take_data would have. */
static void take_early(struct exchange_worker *w, struct lane *lane)
{
    struct early *early = lane->early;
    bool whole = lane->carrier != NULL; /* else all of it comes again */
    lane->early = lane->early_last = NULL;
    lane->early_bytes = 0;
    while (early != NULL) {
        struct early *next = early->next;
        struct carrier_message m = {.kind = EXCHANGE_DATA, .a = early->seq,
                                    .b = early->generation, .data = early->data,
                                    .len = early->len};
        err_t err = whole ? take_data(w, lane, &m) : ERR_OK;
        if (err != ERR_OK) {
            carrier_fail(lane->carrier, w->index, err);
            whole = false;
        }
        free(early);
        early = next;
    }
}

/* All numbers begin again: both ends do so in the same generation, and each message says which. */
void lanes_formed(struct exchange_worker *w)
{
    ASSERT(w->formed);
    for (uint32_t i = 0; i < w->x->total; i++) {
        take_early(w, &w->lanes[i]);
    }
}

/* What was kept for others is of no use to anyone. */
void lanes_lost(struct exchange_worker *w)
{
    ASSERT(!w->formed);
    for (uint32_t i = 0; i < w->x->total; i++) {
        lane_reset(w, &w->lanes[i]);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

void lanes_init(struct exchange_worker *w)
{
    ASSERT(w->x->total > 0 && w->lanes == NULL);
    w->lanes = mem_zalloc(sizeof(w->lanes[0]) * w->x->total);
    for (uint32_t i = 0; i < w->x->total; i++) {
        w->lanes[i].worker = i;
    }
}

void lanes_free(struct exchange_worker *w)
{
    for (uint32_t i = 0; i < w->x->total; i++) {
        lane_reset(w, &w->lanes[i]);
        drop_early(&w->lanes[i]);
    }
    free(w->lanes);
}
