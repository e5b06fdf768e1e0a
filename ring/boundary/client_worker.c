/*
 * The worker's half of the boundary client: subscriptions, exact resume, credit.
 *
 * Exactness. sub->upper is the frontier up to which complete chunks were delivered. A new session
 * always asks to resume at it (or for the snapshot again, when that was not complete), and a chunk
 * is delivered only if its lower equals it; whatever was under way in an old session is gone with
 * it. So nothing is lost (the server answers from exactly upper) and nothing is seen twice.
 *
 * Callbacks. A handler may give up any subscription of its worker, its own as well. So after each
 * handler call the subscription is either not touched again, or looked up again by its number.
 *
 * Credit counts from the beginning of a session and only grows: a CREDIT message says how much was
 * granted in all, and the server holds against it what it has sent in all.
 */
#include "core/base/log.h"
#include "ring/boundary/client_internal.h"

/* Between a refusal that says "not yet" and the next try: storage is recovering, or the source is
 * not there yet; there is no event to wait for, and 20 tries a second cost nothing. */
enum { RETRY_US = 50 * 1000 };

enum { READER_BYTES, READER_CHUNKS, READER_FRONTIER, READER_RESUMED, READER_RESETS };
static const struct counters_type reader_counters = {
    .name = "reader",
    .ids = {"dataflow", "source", "worker"},
    .values = {[READER_BYTES] = "bytes", [READER_CHUNKS] = "chunks",
               [READER_FRONTIER] = "frontier", [READER_RESUMED] = "resumed",
               [READER_RESETS] = "resets"},
    .gauges = 1 << READER_FRONTIER,
};

struct client_item *client_item_new(enum client_item_kind kind)
{
    struct client_item *item = MEM_NEW(struct client_item);
    item->kind = kind;
    return item;
}

void client_item_free(struct mailbox_item *item)
{
    struct client_item *it = CONTAINER_OF(item, struct client_item, item);
    if (it->kind == CLIENT_REGISTERED) {
        return; /* embedded in its worker */
    }
    err_free(it->reason);
    free(it);
}

/* ---- subscribing ----------------------------------------------------------------------------- */

/* The storage worker as its own process numbers it: the carrier's lanes are numbered so. */
static uint32_t remote_of(const struct boundary_sub *sub)
{
    ASSERT(sub->carrier != NULL);
    ASSERT(sub->request.worker >= carrier_peer(sub->carrier)->worker_base);
    return sub->request.worker - carrier_peer(sub->carrier)->worker_base;
}

/* Written so that no sum can overflow. */
static bool serves(const struct carrier *c, uint32_t worker)
{
    const struct hello *peer = carrier_peer(c);
    return worker >= peer->worker_base && worker - peer->worker_base < peer->workers;
}

/* Subscribes over a session just found or opened, from the frontier reached. */
static void sub_send(struct boundary_sub *sub, struct carrier *c)
{
    struct client_worker *w = sub->worker;
    ASSERT(sub->carrier == NULL && !sub->dead && !sub->partial);
    struct boundary_request request = sub->request;
    if (sub->complete) {
        request.resume = true;
        request.resume_from = sub->upper;
        counters_add(sub->counters, READER_RESUMED, 1);
    }
    sub->carrier = c;
    w->changes++;
    sub->consumed = 0;
    sub->granted = sub->paused ? 0 : w->window;
    struct buf text = {0};
    boundary_request_encode(&text, &request);
    struct carrier_message m = {.kind = BOUNDARY_SUBSCRIBE, .flags = CARRIER_URGENT,
                                .stream = sub->id, .a = sub->granted, .data = text.data,
                                .len = text.len};
    carrier_send(c, w->index, remote_of(sub), &m); /* copies */
    buf_free(&text);
}

static bool sealed(const struct boundary_sub *sub)
{
    return sub->complete && sub->upper == UINT64_MAX; /* nothing can come any more */
}

/* Tells the net loop, once for each storage worker, that somebody needs it. It remembers, and keeps
 * a connection to whichever process the directory says has that worker. */
static void want(struct client_worker *w, uint32_t worker)
{
    if (u64map_put(&w->wanted, worker, w) == NULL) {
        struct client_item *item = client_item_new(CLIENT_WANTED);
        item->worker = worker;
        mailbox_put(w->client->box, &item->item);
    }
}

/* Subscribes if there is a session to do it over; else client_open will call again. */
static void sub_try(struct boundary_sub *sub)
{
    struct client_worker *w = sub->worker;
    if (sub->dead || sub->carrier != NULL || sealed(sub)) {
        return;
    }
    for (size_t i = 0; i < w->links_len; i++) {
        if (serves(w->links[i]->carrier, sub->request.worker)) {
            sub_send(sub, w->links[i]->carrier);
            return;
        }
    }
    want(w, sub->request.worker);
}

/* The session may have come and gone meanwhile: sub_try finds out what is left to do. */
static void sub_retry(struct io_timer *timer)
{
    sub_try(CONTAINER_OF(timer, struct boundary_sub, retry));
}

/* It is served by no session from now on. */
static void sub_leave(struct boundary_sub *sub)
{
    ASSERT(!sub->dead);
    sub->carrier = NULL;
    sub->worker->changes++;
}

/* What came of a time that was under way comes again. Calls the handler last: the subscription may
 * be freed when this returns. */
static void sub_reset(struct boundary_sub *sub)
{
    ASSERT(!sub->dead && sub->carrier == NULL);
    if (sub->partial) {
        sub->partial = false;
        if (sub->worker->resets != NULL) {
            metric_add(sub->worker->resets, 1);
        }
        counters_add(sub->counters, READER_RESETS, 1);
        sub->handler.reset(sub->arg);
    }
}

/* The server gave the subscription up for now. As sub_reset. */
static void sub_cut(struct boundary_sub *sub)
{
    sub_leave(sub);
    sub_reset(sub);
}

/* For good; owns err. The caller of boundary_subscribe still has to give it up. */
static void sub_refused(struct boundary_sub *sub, err_t err)
{
    ASSERT(!sub->dead);
    ASSERT(err != ERR_OK);
    sub->carrier = NULL;
    sub->worker->changes++;
    sub->dead = true;
    sub->handler.refused(sub->arg, err);
}

/* Gives it a number that no other one has, by which its messages find it. */
static void sub_number(struct boundary_sub *sub)
{
    struct client_worker *w = sub->worker;
    do {
        sub->id = ++w->next_id;
    } while (u64map_get(&w->subs, sub->id) != NULL);
    void *was = u64map_put(&w->subs, sub->id, sub);
    ASSERT(was == NULL);
    w->changes++;
}

static void send_unsubscribe(struct boundary_sub *sub)
{
    ASSERT(sub->carrier != NULL);
    struct carrier_message m = {.kind = BOUNDARY_UNSUBSCRIBE, .flags = CARRIER_URGENT,
                                .stream = sub->id};
    carrier_send(sub->carrier, sub->worker->index, remote_of(sub), &m);
}

struct boundary_sub *boundary_subscribe(struct boundary_client *client, uint32_t index,
                                        const struct boundary_request *request,
                                        const struct boundary_handler *handler, void *arg)
{
    ASSERT(index < client->config.workers);
    ASSERT(handler->data != NULL && handler->reset != NULL && handler->refused != NULL);
    struct client_worker *w = &client->workers[index];
    ASSERT(w->loop != NULL);
    struct boundary_sub *sub = MEM_NEW(struct boundary_sub);
    sub->worker = w;
    sub->request = *request;
    sub->handler = *handler;
    sub->arg = arg;
    /* Who resumes has its snapshot from an earlier life. */
    sub->complete = request->resume;
    sub->upper = request->resume ? request->resume_from : request->as_of;
    sub->retry.fire = sub_retry;
    sub_number(sub);
    sub->counters = counters_open(metrics_counters(client->config.metrics), &reader_counters,
                                  (uint64_t[COUNTERS_IDS]){request->dataflow, request->source,
                                                           request->worker});
    if (w->subs_metric != NULL) {
        metric_add(w->subs_metric, 1);
    }
    sub_try(sub);
    return sub;
}

/* The caller takes it out of w->subs, or is freeing that as a whole. */
static void sub_free(struct boundary_sub *sub)
{
    struct client_worker *w = sub->worker;
    w->changes++;
    io_timer_cancel(w->loop, &sub->retry);
    if (w->subs_metric != NULL) {
        metric_add(w->subs_metric, UINT64_MAX); /* a gauge: minus one */
    }
    if (w->current == sub) { /* given up by its own handler: take_data must not touch it */
        w->current = NULL;
    }
    if (w->fed == sub) {
        w->fed = NULL;
    }
    counters_close(metrics_counters(w->client->config.metrics), sub->counters);
    free(sub);
}

void boundary_unsubscribe(struct boundary_sub *sub)
{
    struct client_worker *w = sub->worker;
    ASSERT(u64map_get(&w->subs, sub->id) == sub);
    if (sub->carrier != NULL) {
        send_unsubscribe(sub);
    }
    void *was = u64map_remove(&w->subs, sub->id);
    ASSERT(was == sub);
    sub_free(sub);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Grants more once half of the window is used: two messages a window, and the server never runs dry
 * as long as the handler keeps up. */
static inline bool grant_due(const struct client_worker *w, const struct boundary_sub *sub)
{
    return sub->consumed + w->window >= sub->granted + w->window / 2;
}

static void grant(struct boundary_sub *sub)
{
    const uint64_t room = sub->worker->window;
    if (sub->paused || sub->carrier == NULL || !grant_due(sub->worker, sub)) {
        return;
    }
    ASSERT(sub->consumed + room >= sub->granted); /* the server refuses credit that goes down */
    sub->granted = sub->consumed + room;
    struct carrier_message m = {.kind = BOUNDARY_CREDIT, .flags = CARRIER_URGENT,
                                .stream = sub->id, .a = sub->granted};
    carrier_send(sub->carrier, sub->worker->index, remote_of(sub), &m);
}

void boundary_sub_pause(struct boundary_sub *sub, bool paused)
{
    ASSERT(u64map_get(&sub->worker->subs, sub->id) == sub);
    sub->paused = paused;
    grant(sub);
}

/* The counters learn what the subscription fed last has taken: once for chunks in a row. */
static inline void count_fed(struct client_worker *w)
{
    struct boundary_sub *sub = w->fed;
    if (sub != NULL) {
        counters_add(sub->counters, READER_BYTES, w->fed_bytes);
        counters_add(sub->counters, READER_CHUNKS, w->fed_chunks);
        counters_set(sub->counters, READER_FRONTIER, sub->upper);
    }
    w->taken_bytes += w->fed_bytes;
    w->fed_bytes = w->fed_chunks = 0;
    w->fed = NULL;
}

/* At the end of what the carrier gave. */
static inline void count_taken(struct client_worker *w)
{
    count_fed(w);
    if (w->bytes != NULL && w->taken_bytes > 0) {
        metric_add(w->bytes, w->taken_bytes);
    }
    w->taken_bytes = 0;
}

/* A chunk that does not begin where the subscription is. */
static __attribute__((noinline)) err_t sub_pass(struct boundary_sub *sub,
                                                const struct boundary_chunk *chunk, size_t len)
{
    ASSERT(chunk->lower <= chunk->upper && chunk->lower != sub->upper);
    if (chunk->upper > sub->upper || chunk->lower > sub->upper) {
        return err_new(ERR_PROTOCOL, "subscription %u is at %llu, the chunk begins at %llu",
                       sub->id, (unsigned long long)sub->upper, (unsigned long long)chunk->lower);
    }
    sub->consumed += boundary_cost(len);
    grant(sub);
    return ERR_OK; /* had already */
}

/* Delivers a chunk if it is the next one. lower == upper, or lower below a later upper, are parts:
 *
 *     sub->upper  chunk       what it is
 *     10          [10, 10)    a part of a snapshot or of a time too big for one chunk
 *     10          [10, 15)    completes what came in parts, if anything did; upper is now 15
 *     10          [5, 10)     had already: taken for its credit only
 *     10          [12, 15)    a gap: the peer is broken, the session ends
 */
static inline __attribute__((always_inline)) err_t
sub_take(struct client_worker *w, struct boundary_sub *sub, const struct boundary_chunk *chunk,
         size_t len)
{
    if (chunk->lower != sub->upper) {
        return sub_pass(sub, chunk, len);
    }
    sub->partial = chunk->upper == chunk->lower;
    sub->complete |= !sub->partial;
    sub->upper = chunk->upper;
    sub->consumed += boundary_cost(len);
    if (w->fed != sub) {
        count_fed(w);
        w->fed = sub;
    }
    w->fed_bytes += len;
    w->fed_chunks++;
    ASSERT(w->current == NULL); /* messages are not nested */
    w->current = sub;
    sub->handler.data(sub->arg, chunk);
    if (w->current == sub) { /* else it was given up meanwhile */
        w->current = NULL;
        if (grant_due(w, sub)) {
            grant(sub);
        }
    }
    return ERR_OK;
}

/* A subscription of this number that the peer's worker may speak to; *out is NULL when it was given
 * up while the message was under way. */
static err_t find_sub(struct client_worker *w, struct carrier *c, uint32_t remote, uint64_t id,
                      struct boundary_sub **out)
{
    struct boundary_sub *sub = u64map_get(&w->subs, id);
    *out = sub;
    if (sub != NULL && (sub->carrier != c || remote_of(sub) != remote)) {
        return err_new(ERR_PROTOCOL, "message for subscription %u from the wrong worker", sub->id);
    }
    return ERR_OK;
}

static uint64_t channel_key(uint32_t remote, uint32_t stream)
{
    return (uint64_t)remote << 32 | stream;
}

/* Every channel begins by naming its readers. */
static inline err_t find_channel(struct client_link *link, uint32_t remote, uint32_t stream,
                          struct client_channel **out)
{
    const uint64_t key = channel_key(remote, stream);
    if (link->last == NULL || link->last_key != key) {
        link->last = u64map_get(&link->channels, key);
        link->last_key = key;
        link->sole_changes = 0;
    }
    *out = link->last;
    return *out != NULL ? ERR_OK : err_new(ERR_PROTOCOL, "channel %u has no readers", stream);
}

/* Finds the channel's readers, once until something changes. */
static err_t find_readers(struct client_worker *w, struct client_link *link, uint32_t remote,
                          struct client_channel *channel)
{
    ASSERT(w->changes > 0 && channel->changes != w->changes);
    for (size_t i = 0; i < channel->len; i++) {
        TRY(find_sub(w, link->carrier, remote, channel->ids[i], &channel->subs[i]));
    }
    channel->changes = w->changes;
    return ERR_OK;
}

/* The bytes where the peer cannot write them, valid until the next message. */
static void settle(struct client_worker *w, struct carrier_message *m)
{
    ASSERT((m->flags & CARRIER_STABLE) == 0 && m->len <= FRAME_MESSAGE_MAX);
    if (w->scratch_cap < m->len) {
        free(w->scratch);
        w->scratch_cap = (m->len + CARRIER_ALIGN - 1) / CARRIER_ALIGN * CARRIER_ALIGN;
        w->scratch = aligned_alloc(CARRIER_ALIGN, w->scratch_cap);
        ASSERT(w->scratch != NULL);
    }
    m->data = memcpy(w->scratch, m->data, m->len);
    m->flags |= CARRIER_STABLE;
}

/* A chunk for the channel's readers. Several would each copy a block the peer can write before they
 * look at it: it is done here, once for all. The handlers may give up and make subscriptions, but
 * the channel changes with messages only. */
static err_t take_data(struct client_worker *w, struct client_link *link, uint32_t remote,
                       const struct carrier_message *m)
{
    struct client_channel *channel;
    TRY(find_channel(link, remote, m->stream, &channel));
    if (channel->changes != w->changes) {
        TRY(find_readers(w, link, remote, channel));
    }
    ASSERT(channel->len > 0);
    link->sole = channel->len == 1 ? channel->subs[0] : NULL;
    link->sole_changes = link->sole != NULL ? w->changes : 0;
    struct carrier_message settled;
    if (channel->len > 1 && m->len > 0 && (m->flags & CARRIER_STABLE) == 0) {
        settled = *m;
        settle(w, &settled);
        m = &settled;
    }
    struct boundary_chunk chunk;
    TRY(boundary_chunk_decode(m, &chunk));
    for (size_t i = 0; i < channel->len; i++) {
        struct boundary_sub *sub = channel->subs[i];
        if (channel->changes != w->changes) { /* a handler did something */
            TRY(find_sub(w, link->carrier, remote, channel->ids[i], &sub));
        }
        if (sub != NULL) {
            ASSERT(!sub->dead && sub->carrier == link->carrier);
            TRY(sub_take(w, sub, &chunk, m->len));
        }
    }
    return ERR_OK;
}

/* The channel goes, or gets other readers. */
static void channel_free(struct client_link *link, struct client_channel *channel)
{
    ASSERT(link->named >= channel->len);
    link->named -= channel->len;
    link->last = NULL;
    link->sole_changes = 0;
    free(channel->subs);
    free(channel->ids);
    free(channel);
}

/* Whom the channel is for from now on; nobody: it is closed. Numbers nobody has here are kept: they
 * may have been given up a moment ago. So what a peer can have us keep is bounded. */
static err_t take_readers(struct client_link *link, uint32_t remote,
                          const struct carrier_message *m)
{
    uint32_t *ids;
    size_t len;
    const uint64_t key = channel_key(remote, m->stream);
    TRY(boundary_readers_decode(m, &ids, &len));
    struct client_channel *was = u64map_remove(&link->channels, key);
    if (was != NULL) {
        channel_free(link, was);
    } else if (len == 0) {
        return err_new(ERR_PROTOCOL, "channel %u is not open", m->stream);
    }
    /* Each of its workers takes so many subscriptions of ours. */
    size_t most = (size_t)BOUNDARY_SUBS_MAX * carrier_remote_workers(link->carrier);
    if (len > most - link->named) {
        free(ids);
        return err_new(ERR_PROTOCOL, "more than %zu readers named", most);
    }
    if (len > 0) {
        struct client_channel *channel = MEM_NEW(struct client_channel);
        *channel = (struct client_channel){.ids = ids, .len = len};
        channel->subs = mem_zalloc(len * sizeof(struct boundary_sub *));
        link->named += len;
        link->last = NULL; /* it may say that there is none */
        u64map_put(&link->channels, key, channel);
    }
    return ERR_OK;
}

/* "Not yet" is tried again over the same session; everything else is for good. */
static err_t take_refused(struct boundary_sub *sub, const struct carrier_message *m)
{
    ASSERT(!sub->dead && sub->carrier != NULL);
    err_t err = boundary_refusal_decode(m);
    if (err_code(err) == ERR_PROTOCOL) {
        return err;
    }
    if (err_code(err) != ERR_UNAVAILABLE) {
        sub_refused(sub, err);
        return ERR_OK;
    }
    LOG_DEBUG("boundary", "subscription put off", LOG_U64("source", sub->request.source),
              LOG_ERR(err));
    err_free(err);
    io_timer_start(sub->worker->loop, &sub->retry, io_now_us(sub->worker->loop) + RETRY_US);
    sub_cut(sub);
    return ERR_OK;
}

static err_t take_message(struct client_worker *w, struct client_link *link, uint32_t remote,
                          const struct carrier_message *m)
{
    struct boundary_sub *sub;
    ASSERT(link != NULL);
    switch (m->kind) {
    case BOUNDARY_DATA:
        return take_data(w, link, remote, m);
    case BOUNDARY_READERS:
        return take_readers(link, remote, m);
    case BOUNDARY_REFUSED:
        TRY(find_sub(w, link->carrier, remote, m->a, &sub));
        return sub != NULL ? take_refused(sub, m) : ERR_OK;
    default:
        return err_new(ERR_PROTOCOL, "message of kind %u from a storage worker", m->kind);
    }
}

/* What comes mostly is DATA of the channel it came of last, which has one reader, and without an
 * err batch. */
static inline bool for_sole(const struct client_worker *w, const struct client_link *link,
                            uint64_t channel, uint8_t kind)
{
    return link->sole_changes == w->changes && link->last_key == channel && kind == BOUNDARY_DATA;
}

static err_t client_message(void *worker_ctx, struct carrier *c, uint32_t local, uint32_t remote,
                            const struct carrier_message *m)
{
    struct client_worker *w = worker_ctx;
    struct client_link *link = *carrier_slot(c, local);
    err_t err;
    ASSERT(link != NULL && link->carrier == c);
    if (for_sole(w, link, channel_key(remote, m->stream), m->kind) && m->c == m->len &&
        m->a <= m->b) {
        const struct boundary_chunk chunk = {.lower = m->a, .upper = m->b,
                                             .ok = m->len > 0 ? m->data : NULL, .ok_len = m->len,
                                             .stable = (m->flags & CARRIER_STABLE) != 0};
        err = sub_take(w, link->sole, &chunk, m->len);
    } else {
        err = take_message(w, link, remote, m);
    }
    count_taken(w);
    return err;
}

static err_t take_small(struct client_worker *w, struct client_link *link, uint32_t remote,
                        const struct carrier_small *s)
{
    const struct carrier_message m = {.kind = carrier_small_kind(s), .flags = CARRIER_STABLE,
                                      .stream = s->stream, .c = s->c, .a = s->a, .b = s->b,
                                      .data = s->len > 0 ? s->bytes : NULL, .len = s->len};
    return take_message(w, link, remote, &m);
}

static err_t client_run(void *worker_ctx, struct carrier *c, uint32_t local, uint32_t remote,
                        const struct carrier_small *messages, uint32_t len)
{
    struct client_worker *w = worker_ctx;
    struct client_link *link = *carrier_slot(c, local);
    struct boundary_chunk chunk = {.stable = true};
    err_t err = ERR_OK;
    ASSERT(link != NULL && link->carrier == c && len <= CARRIER_RUN_MAX);
    for (const struct carrier_small *s = messages; s < messages + len && err == ERR_OK; s++) {
        if (!for_sole(w, link, channel_key(remote, s->stream), carrier_small_kind(s)) ||
            s->c != s->len || s->a > s->b) {
            err = take_small(w, link, remote, s);
            continue;
        }
        chunk.lower = s->a;
        chunk.upper = s->b;
        chunk.ok = s->len > 0 ? s->bytes : NULL;
        chunk.ok_len = s->len;
        err = sub_take(w, link->sole, &chunk, s->len);
    }
    count_taken(w);
    return err;
}

/* All that is still under way for this subscription is behind a gap: it goes on under another
 * number, from the frontier reached, and what comes for the old one is nobody's. */
static void sub_lost(struct boundary_sub *sub)
{
    struct client_worker *w = sub->worker;
    send_unsubscribe(sub);
    void *was = u64map_remove(&w->subs, sub->id);
    ASSERT(was == sub);
    sub_number(sub);
    const uint32_t id = sub->id;
    if (w->lost != NULL) {
        metric_add(w->lost, 1);
    }
    sub_cut(sub);
    sub = u64map_get(&w->subs, id);
    if (sub != NULL) { /* else reset gave it up */
        sub_try(sub);
    }
}

/* This worker fell so far behind that a chunk was taken back before it was read: the channel's
 * readers have all lost it. */
static err_t client_lost(void *worker_ctx, struct carrier *c, uint32_t local, uint32_t remote,
                         const struct carrier_message *m)
{
    struct client_worker *w = worker_ctx;
    struct client_link *link = *carrier_slot(c, local);
    struct client_channel *channel;
    if (m->kind != BOUNDARY_DATA) {
        return err_new(ERR_PROTOCOL, "message of kind %u was taken back", m->kind);
    }
    TRY(find_channel(link, remote, m->stream, &channel));
    for (size_t i = 0; i < channel->len; i++) {
        struct boundary_sub *sub;
        TRY(find_sub(w, c, remote, channel->ids[i], &sub));
        if (sub != NULL) {
            sub_lost(sub);
        }
    }
    return ERR_OK;
}

/* ---- sessions -------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Runs each(sub, arg) for every subscription there is now; each may give up any of them, so the
 * numbers are noted first: the map must not change under its iteration. In their order, in which
 * the server then serves them, and names them without sorting. */
static void each_sub(struct client_worker *w, void (*each)(struct boundary_sub *sub, void *arg),
                     void *arg)
{
    size_t len = 0;
    uint64_t *ids = mem_alloc(sizeof(ids[0]) * w->subs.len);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&w->subs, &at, &id, &value)) {
        ids[len++] = id;
    }
    ASSERT(len == w->subs.len);
    if (len > 1) {
        qsort(ids, len, sizeof(ids[0]), by_number);
    }
    for (size_t i = 0; i < len; i++) {
        struct boundary_sub *sub = u64map_get(&w->subs, ids[i]);
        if (sub != NULL) {
            each(sub, arg);
        }
    }
    free(ids);
}

static void try_one(struct boundary_sub *sub, void *arg)
{
    sub_try(sub);
}

static void leave_one(struct boundary_sub *sub, void *arg)
{
    if (sub->carrier == arg) {
        sub_leave(sub);
    }
}

static void reset_one(struct boundary_sub *sub, void *arg)
{
    if (!sub->dead && sub->carrier == NULL) {
        sub_reset(sub);
    }
}

/* Which subscriptions the new session serves only they know: all are asked. */
static void client_open(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct client_worker *w = worker_ctx;
    ASSERT(*carrier_slot(c, local) == NULL);
    struct client_link *link = MEM_NEW(struct client_link);
    link->carrier = c;
    *carrier_slot(c, local) = link;
    *VEC_PUSH(w, links) = link;
    each_sub(w, try_one, NULL);
}

static void link_free(struct client_link *link)
{
    size_t at = 0;
    uint64_t key;
    void *channel;
    while (u64map_next(&link->channels, &at, &key, &channel)) {
        channel_free(link, channel);
    }
    ASSERT(link->named == 0);
    u64map_free(&link->channels);
    free(link);
}

static void client_close(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct client_worker *w = worker_ctx;
    struct client_link *link = *carrier_slot(c, local);
    size_t at = 0;
    ASSERT(w->links_len > 0);
    while (w->links[at] != link) {
        at++;
        ASSERT(at < w->links_len);
    }
    w->links[at] = w->links[--w->links_len];
    link_free(link);
    /* First all: a handler may give up or pause another one, which must not send any more. */
    each_sub(w, leave_one, c);
    each_sub(w, reset_one, NULL);
    each_sub(w, try_one, NULL); /* another session may serve its workers already */
}

const struct carrier_host boundary_client_host = {
    .open = client_open,
    .message = client_message,
    .run = client_run,
    .lost = client_lost,
    .close = client_close,
    .ending = client_ending,
    .ended = client_ended,
};

/* One that is subscribed over another session is served; it was not refused. */
static void refuse_one(struct boundary_sub *sub, void *arg)
{
    struct client_item *it = arg;
    uint32_t worker = sub->request.worker;
    if (sub->carrier == NULL && !sub->dead && !sealed(sub) && worker >= it->worker &&
        worker - it->worker < it->workers) {
        sub_refused(sub, err_copy(it->reason));
    }
}

static void worker_take(void *arg, struct mailbox_item *item)
{
    struct client_item *it = CONTAINER_OF(item, struct client_item, item);
    ASSERT(it->kind == CLIENT_REFUSED);
    each_sub(arg, refuse_one, it);
    client_item_free(item);
}

/* ---- life ------------------------------------------------------------------------------------ */

void client_worker_init(struct boundary_client *client, uint32_t index)
{
    struct client_worker *w = &client->workers[index];
    w->client = client;
    w->index = index;
    w->changes = 1; /* a new channel has seen none */
    const size_t credit = client->config.credit_bytes;
    w->window = credit != 0 ? credit : BOUNDARY_CREDIT_DEFAULT;
    struct metrics_registry *r = client->config.metrics;
    if (r == NULL) {
        return;
    }
    struct buf labels = {0};
    buf_printf(&labels, "worker=\"%u\"", index);
    const char *text = buf_cstr(&labels);
    w->subs_metric = metric_gauge(r, "tailrace_boundary_client_subscriptions", text,
                                  "Subscriptions held by dataflows");
    w->bytes = metric_counter(r, "tailrace_boundary_received_bytes_total", text,
                              "Bytes of batches received from storage");
    w->resets = metric_counter(r, "tailrace_boundary_resets_total", text,
                               "Partial snapshots begun again after a lost connection");
    w->lost = metric_counter(r, "tailrace_boundary_lost_chunks_total", text,
                             "Subscriptions resumed because this worker fell behind");
    buf_free(&labels);
}

void boundary_client_worker(struct boundary_client *client, uint32_t index, struct io_loop *loop)
{
    ASSERT(index < client->config.workers);
    struct client_worker *w = &client->workers[index];
    ASSERT(w->loop == NULL);
    w->loop = loop;
    w->box = mailbox_new(loop, worker_take, NULL, w);
    w->registered.kind = CLIENT_REGISTERED;
    w->registered.index = index;
    mailbox_put(client->box, &w->registered.item);
}

void client_worker_free(struct client_worker *w)
{
    ASSERT(w->current == NULL); /* not from inside a handler */
    size_t at = 0;
    uint64_t id;
    void *sub;
    while (u64map_next(&w->subs, &at, &id, &sub)) {
        sub_free(sub);
    }
    u64map_free(&w->subs);
    u64map_free(&w->wanted);
    mailbox_free(w->box, client_item_free);
    for (size_t i = 0; i < w->links_len; i++) {
        link_free(w->links[i]);
    }
    free(w->links);
    free(w->scratch);
}
