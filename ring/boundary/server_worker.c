/*
 * The worker's half of the boundary server: subscriptions, one struct link per session, served in
 * turns of one chunk from a poller on the worker's loop.
 *
 * A subscription is in exactly one of four states (enum sub_state), and only SUB_QUEUED costs time:
 * a wake-up, credit or room moves it to the back of the run queue, a turn moves it on. So
 * subscriptions interleave chunk by chunk, whatever each has to send, and one that is stalled is
 * not looked at.
 *
 * The server holds no truth: all it has is a cursor, how far it got, and credit. So a session that
 * ends takes its subscriptions with it, and the client says in the next one where to go on.
 *
 * What a peer says (kinds, streams, credit, requests) is checked here and answered by REFUSED when
 * it concerns one subscription, by an error (the session ends) when the peer breaks the protocol.
 */
#include "core/base/log.h"
#include "ring/boundary/server_internal.h"

enum {
    POLL_WORK = 512,   /* then the loop's other work gets its turn */
    CAST_POLLS = 32,   /* a message for several waits so many at most: less than a millisecond */
    WORK_PULL = 8,     /* of it: having the backend make a chunk, */
    WORK_BYTES = 4096, /* one more for so many bytes of it, and */
    WORK_SHARE = 1,    /* serving from one that is there, or finding that there is nothing */
    CATCH_UP = 8,      /* chunks in a turn of one that is behind the others of its source, */
    CATCH_UP_BYTES = 64 * 1024, /* while they are fewer bytes */
};

static const struct counters_type sub_counters = {
    .name = "subscription",
    .ids = {"dataflow", "source", "reader"}, /* reader: service's process << 16 | worker */
    .values = {[SUB_BYTES] = "bytes", [SUB_CHUNKS] = "chunks", [SUB_SHARED] = "shared_chunks",
               [SUB_FRONTIER] = "frontier", [SUB_LAG] = "lag", [SUB_CREDIT] = "credit_bytes",
               [SUB_WAITS_CREDIT] = "waits_for_credit", [SUB_WAITS_CARRIER] = "waits_for_carrier"},
    .gauges = 1 << SUB_FRONTIER | 1 << SUB_LAG | 1 << SUB_CREDIT,
};
static const struct counters_type source_counters = {
    .name = "source",
    .ids = {"source", "worker"},
    .values = {[SOURCE_UPPER] = "upper"},
    .gauges = 1 << SOURCE_UPPER,
};

/* ---- lists ----------------------------------------------------------------------------------- */

static void list_push(struct sub_list *list, struct sub *sub)
{
    ASSERT(sub->list_next == NULL && sub->list_prev == NULL && list->first != sub);
    ASSERT((list->first == NULL) == (list->last == NULL));
    sub->list_prev = list->last;
    *(list->last != NULL ? &list->last->list_next : &list->first) = sub;
    list->last = sub;
}

static void list_remove(struct sub_list *list, struct sub *sub)
{
    ASSERT(sub->list_prev != NULL || list->first == sub);
    ASSERT(sub->list_next != NULL || list->last == sub);
    *(sub->list_prev != NULL ? &sub->list_prev->list_next : &list->first) = sub->list_next;
    *(sub->list_next != NULL ? &sub->list_next->list_prev : &list->last) = sub->list_prev;
    sub->list_next = sub->list_prev = NULL;
}

/* Moves a subscription to another state, and to where it waits there. */
static void sub_move(struct sub *sub, enum sub_state state)
{
    struct link *link = sub->link;
    struct sub_list *lists[] = {[SUB_QUEUED] = &link->worker->run, [SUB_BLOCKED] = &link->blocked};
    STATIC_ASSERT(SUB_BLOCKED == 3 && SUB_QUEUED == 0, "every state has a place, or NULL");
    if (sub->state == state) {
        return;
    }
    if (sub->state == SUB_BLOCKED) {
        ASSERT(sub->channel->lane->blocked > 0);
        sub->channel->lane->blocked--;
    }
    if (state == SUB_BLOCKED) {
        sub->channel->lane->blocked++;
    }
    if (lists[sub->state] != NULL) {
        list_remove(lists[sub->state], sub);
    }
    if (lists[state] != NULL) {
        list_push(lists[state], sub);
    }
    sub->state = state;
}

/* ---- sources --------------------------------------------------------------------------------- */

/* The first one opens the source's entry; the backend has accepted the id already. */
static void source_join(struct sub *sub, uint64_t id)
{
    struct server_worker *w = sub->link->worker;
    struct source *source = u64map_get(&w->sources, id);
    if (source == NULL) {
        source = MEM_NEW(struct source);
        source->id = id;
        source->counters = counters_open(metrics_counters(w->server->config.metrics),
                                         &source_counters, (uint64_t[COUNTERS_IDS]){
                                             id, w->server->config.worker_base + w->index});
        u64map_put(&w->sources, id, source);
    }
    ASSERT(source->id == id && (source->first == NULL) == (source->last == NULL));
    sub->source = source;
    sub->source_prev = source->last;
    *(source->last != NULL ? &source->last->source_next : &source->first) = sub;
    source->last = sub;
    source->subs++;
    share_join(sub);
}

/* The last one to leave closes the source. */
static void source_leave(struct sub *sub)
{
    struct server_worker *w = sub->link->worker;
    struct source *source = sub->source;
    ASSERT(!source->chunk.kept || source->chunk.lower < source->chunk.upper);
    ASSERT(source->subs > 0 && (sub->source_prev != NULL || source->first == sub));
    share_leave(sub);
    *(sub->source_prev != NULL ? &sub->source_prev->source_next : &source->first) =
        sub->source_next;
    *(sub->source_next != NULL ? &sub->source_next->source_prev : &source->last) =
        sub->source_prev;
    sub->source = NULL;
    if (--source->subs == 0) {
        ASSERT(source->first == NULL && source->last == NULL && source->channels == NULL);
        ASSERT(!source->chunk.kept && source->places.len == 0); /* went with the last at lower */
        u64map_free(&source->places);
        void *was = u64map_remove(&w->sources, source->id);
        ASSERT(was == source);
        counters_close(metrics_counters(w->server->config.metrics), source->counters);
        free(source);
    }
}

/* ---- subscriptions --------------------------------------------------------------------------- */

static void count_credit(struct sub *sub)
{
    uint64_t left = sub->granted > sub->used ? sub->granted - sub->used : 0;
    counters_set(sub->counters, SUB_CREDIT, left);
}

/* Frees what the subscription holds; the caller takes it out of link->subs. tell: the session goes
 * on. */
static void sub_free(struct sub *sub, bool tell)
{
    struct server_worker *w = sub->link->worker;
    sub_move(sub, SUB_IDLE); /* out of its list */
    if (tell) {
        channel_flush(sub->channel); /* it may be among those named next */
    }
    channel_leave(sub->channel, tell);
    source_leave(sub);
    w->server->config.backend->close(sub->cursor);
    server_metric_add(w->subs, -1);
    counters_close(metrics_counters(w->server->config.metrics), sub->counters);
    free(sub);
}

/* Out of the link's books as well. */
static void sub_drop(struct sub *sub)
{
    void *was = u64map_remove(&sub->link->subs, (uint64_t)sub->channel->remote << 32 | sub->id);
    ASSERT(was == sub);
    sub_free(sub, true);
}

/* Ends a subscription, or one that never was, for the client; owns err. channel: behind what was
 * sent there. */
static void refuse(struct link *link, uint32_t remote, uint32_t channel, uint32_t id, err_t err)
{
    ASSERT(err != ERR_OK);
    struct buf text = {0};
    boundary_refusal_encode(&text, err);
    struct carrier_message m = {.kind = BOUNDARY_REFUSED, .flags = CARRIER_URGENT,
                                .stream = channel, .c = (uint32_t)err_code(err), .a = id,
                                .data = text.data, .len = text.len};
    gather_flush(&link->worker->gather);
    carrier_send(link->carrier, link->local, remote, &m);
    LOG_INFO("boundary", "subscription refused", LOG_U64("process",
             carrier_peer(link->carrier)->process), LOG_U64("subscription", id),
             LOG_ERR(err));
    buf_free(&text);
    err_free(err);
}

/* Times are microseconds, so the difference is one as well. */
static void count_lag(struct sub *sub)
{
    uint64_t upper = sub->source->upper;
    counters_set(sub->counters, SUB_LAG, upper > sub->at ? upper - sub->at : 0);
}

/* At the end of a turn: what its chunks add up to. */
static void count_turn(struct sub *sub)
{
    struct server_worker *w = sub->link->worker;
    const uint64_t chunks = w->turn_chunks;
    if (chunks == 0) {
        return;
    }
    ASSERT(sub->used - w->turn_used >= chunks * BOUNDARY_CHUNK_COST);
    const uint64_t bytes = sub->used - w->turn_used - chunks * BOUNDARY_CHUNK_COST;
    w->sent_chunks += chunks;
    w->sent_bytes += bytes;
    counters_add(sub->counters, SUB_BYTES, bytes);
    counters_add(sub->counters, SUB_CHUNKS, chunks);
    counters_set(sub->counters, SUB_FRONTIER, sub->at);
    count_lag(sub);
    count_credit(sub);
}

enum served {
    SERVED_MORE, /* there may be more for it now */
    SERVED_ALL,  /* there is not, or it may not be sent */
    SERVED_OVER, /* it was refused, and is freed */
};

/* Has the backend make the next chunk. Takes from *left what it cost. */
static enum served sub_pull(struct sub *sub, uint64_t room, int *left)
{
    struct link *link = sub->link;
    struct boundary_chunk chunk;
    struct boundary_room memory;
    room_open(&memory, sub);
    bool more = false;
    err_t err = link->worker->server->config.backend->next(
        sub->cursor, room < BOUNDARY_CHUNK_MAX ? room : BOUNDARY_CHUNK_MAX, &memory, &chunk,
        &more);
    size_t len = err == ERR_OK ? boundary_chunk_len(&chunk) : 0;
    ASSERT(memory.bytes == NULL || memory.len == len); /* also: no error then */
    *left -= WORK_PULL + (int)(len / WORK_BYTES);
    if (err == ERR_OK && room_gather(sub, &chunk, &memory, len)) {
        return more ? SERVED_MORE : SERVED_ALL;
    }
    if (len > FRAME_MESSAGE_MAX) {
        err = err_new(ERR_LIMIT, "one update takes %zu bytes, more than the boundary carries",
                      len);
        free(memory.useless);
    }
    if (err != ERR_OK) {
        channel_flush(sub->channel);
        count_turn(sub);
        refuse(link, sub->channel->remote, sub->channel->stream, sub->id, err);
        sub_drop(sub);
        return SERVED_OVER;
    }
    if (chunk.upper > chunk.lower || len > 0) {
        room_send(sub, &chunk, &memory, len);
    } else if (!more && sub->placed) {
        sub->source->dry = true; /* nor has it for others who stand here */
        sub->source->dry_at = sub->at;
    }
    return more ? SERVED_MORE : SERVED_ALL;
}

/* Moves the subscription out of the queue when it may be sent nothing now. */
static bool sub_held(struct sub *sub)
{
    if (sub->used >= sub->granted) {
        sub_move(sub, SUB_NO_CREDIT);
        counters_add(sub->counters, SUB_WAITS_CREDIT, 1);
        return true;
    }
    if (!channel_ready(sub->channel)) {
        sub_move(sub, SUB_BLOCKED);
        counters_add(sub->counters, SUB_WAITS_CARRIER, 1);
        return true;
    }
    return false;
}

/* The next chunk, if there is one that it may be sent. Takes from *left what that cost. */
static inline enum served sub_next(struct sub *sub, int *left)
{
    const struct source *source = sub->source;
    const bool held = sub_held(sub);
    if (held || (source->dry && sub->placed && sub->at == source->dry_at)) {
        *left -= WORK_SHARE;
        return SERVED_ALL;
    }
    const uint64_t room = sub->granted - sub->used;
    if (source->chunk.kept && share_serve(sub, room)) {
        *left -= WORK_SHARE;
        return SERVED_MORE;
    }
    return sub_pull(sub, room, left);
}

/* It was held while others went on: each chunk is made for it alone until it stands with them
 * again, which it never would with one chunk for each of theirs. */
static bool sub_behind(const struct sub *sub)
{
    const struct server_worker *w = sub->link->worker;
    return sub->placed && sub->at < sub->source->shared && w->turn_chunks < CATCH_UP &&
           sub->used - w->turn_used < CATCH_UP_BYTES;
}

/* One turn: a chunk, or as many as *left allows while nobody else waits. */
static void sub_serve(struct sub *sub, int *left)
{
    struct server_worker *w = sub->link->worker;
    enum served served;
    ASSERT(sub->state == SUB_QUEUED && sub->source != NULL && *left > 0);
    /* Out of the queue: a wake from here on is not lost. */
    sub_move(sub, SUB_IDLE);
    w->turn_used = sub->used;
    w->turn_chunks = 0;
    do {
        served = sub_next(sub, left);
    } while (served == SERVED_MORE && *left > 0 && (w->run.first == NULL || sub_behind(sub)));
    if (served == SERVED_OVER) {
        return;
    }
    count_turn(sub);
    if (served == SERVED_MORE) {
        sub_move(sub, SUB_QUEUED); /* behind the others */
    }
}

/* Only a message that no correct client sends is an error here; what storage cannot do now or ever
 * is refused, and the session goes on. */
static err_t take_subscribe(struct link *link, uint32_t remote, const struct carrier_message *m)
{
    struct server_worker *w = link->worker;
    struct boundary_server *server = w->server;
    struct boundary_request request;
    TRY(boundary_request_decode(m->data, m->len, &request));
    uint64_t key = (uint64_t)remote << 32 | m->stream;
    if (u64map_get(&link->subs, key) != NULL) {
        return err_new(ERR_PROTOCOL, "duplicate subscription %u of worker %u", m->stream, remote);
    }
    if (request.worker != server->config.worker_base + w->index) {
        refuse(link, remote, BOUNDARY_NO_CHANNEL, m->stream,
               err_new(ERR_NOT_FOUND, "worker %u is not here, this is %u", request.worker,
                       server->config.worker_base + w->index));
        return ERR_OK;
    }
    if (link->subs.len >= BOUNDARY_SUBS_MAX) {
        refuse(link, remote, BOUNDARY_NO_CHANNEL, m->stream,
               err_new(ERR_LIMIT, "too many subscriptions"));
        return ERR_OK;
    }
    void *cursor = NULL;
    err_t err = server->config.backend->open(w->ctx, &request, &cursor);
    if (err != ERR_OK) {
        refuse(link, remote, BOUNDARY_NO_CHANNEL, m->stream, err);
        return ERR_OK;
    }
    struct sub *sub = MEM_NEW(struct sub);
    *sub = (struct sub){.link = link, .id = m->stream, .cursor = cursor, .state = SUB_IDLE,
                        .placed = request.resume, .at = request.resume_from, .granted = m->a};
    ASSERT(request.resume || request.resume_from == 0); /* decoded so */
    u64map_put(&link->subs, key, sub);
    source_join(sub, request.source);
    sub->channel = channel_join(link, remote, sub->source);
    uint64_t reader = (uint64_t)carrier_peer(link->carrier)->process << 16 | remote;
    sub->counters = counters_open(metrics_counters(server->config.metrics), &sub_counters,
                                  (uint64_t[COUNTERS_IDS]){request.dataflow, request.source,
                                                           reader});
    count_credit(sub);
    server_metric_add(w->subs, 1);
    sub_move(sub, SUB_QUEUED);
    return ERR_OK;
}

static err_t take_credit(struct sub *sub, uint64_t granted)
{
    ASSERT(sub->state <= SUB_BLOCKED && sub->source != NULL);
    if (granted < sub->granted) {
        return err_new(ERR_PROTOCOL, "credit of subscription %u went down", sub->id);
    }
    sub->granted = granted;
    count_credit(sub);
    if (sub->state == SUB_NO_CREDIT) {
        sub_move(sub, SUB_QUEUED);
    }
    return ERR_OK;
}

err_t server_message(void *worker_ctx, struct carrier *c, uint32_t local, uint32_t remote,
                            const struct carrier_message *m)
{
    struct link *link = *carrier_slot(c, local);
    ASSERT(link != NULL && link->carrier == c);
    if (m->kind == BOUNDARY_SUBSCRIBE) {
        return take_subscribe(link, remote, m);
    }
    struct sub *sub = u64map_get(&link->subs, (uint64_t)remote << 32 | m->stream);
    if (m->kind == BOUNDARY_UNSUBSCRIBE) {
        if (sub != NULL) { /* else: refused while this was under way, as with credit below */
            sub_drop(sub);
        }
        return ERR_OK;
    }
    if (m->kind == BOUNDARY_CREDIT) {
        return sub != NULL ? take_credit(sub, m->a) : ERR_OK;
    }
    return err_new(ERR_PROTOCOL, "message of kind %u from a subscriber", m->kind);
}

void server_open(void *worker_ctx, struct carrier *c, uint32_t local)
{
    ASSERT(*carrier_slot(c, local) == NULL);
    struct server_worker *w = worker_ctx;
    struct link *link = MEM_NEW(struct link);
    link->worker = w;
    link->carrier = c;
    link->local = local;
    const uint32_t remotes = carrier_remote_workers(c);
    link->gathers = carrier_in_place(c);
    link->lanes = mem_zalloc(remotes * sizeof(link->lanes[0]));
    for (uint32_t i = 0; i < remotes; i++) {
        link->lanes[i] = (struct lane){.link = link, .remote = i,
                                       .window = carrier_window(c, local, i)};
    }
    link->next = w->links;
    if (w->links != NULL) {
        w->links->prev = link;
    }
    w->links = link;
    *carrier_slot(c, local) = link;
}

/* Not sub_drop: the map goes as a whole, and must not change while it is walked. */
static void link_free(struct link *link)
{
    ASSERT(link->worker->links != NULL);
    struct server_worker *w = link->worker;
    size_t at = 0;
    uint64_t key;
    void *value;
    while (u64map_next(&link->channels, &at, &key, &value)) {
        channel_void(value); /* before a chunk goes, which would send it */
    }
    for (at = 0; u64map_next(&link->subs, &at, &key, &value);) {
        sub_free(value, false);
    }
    ASSERT(link->blocked.first == NULL && link->blocked.last == NULL);
    ASSERT(link->worker->gather.lane == NULL); /* between polls */
    ASSERT(link->channels.len == 0);
    u64map_free(&link->subs);
    u64map_free(&link->channels);
    if (link->next != NULL) {
        link->next->prev = link->prev;
    }
    *(link->prev != NULL ? &link->prev->next : &w->links) = link->next;
    free(link->lanes);
    free(link);
}

void server_close(void *worker_ctx, struct carrier *c, uint32_t local)
{
    ASSERT(*carrier_slot(c, local) != NULL);
    link_free(*carrier_slot(c, local));
}

void server_writable(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct link *link = *carrier_slot(c, local);
    ASSERT(link != NULL && link->carrier == c);
    /* All of them: which lane has room is asked again in each one's turn. */
    while (link->blocked.first != NULL) {
        sub_move(link->blocked.first, SUB_QUEUED);
    }
}

void boundary_server_wake(struct boundary_server *server, uint32_t index, uint64_t source,
                          uint64_t upper)
{
    ASSERT(index >= server->config.worker_base);
    index -= server->config.worker_base;
    ASSERT(index < server->config.workers);
    struct source *found = u64map_get(&server->workers[index].sources, source);
    if (found == NULL) {
        return; /* nobody subscribes to it */
    }
    found->upper = upper;
    found->dry = false;
    counters_set(found->counters, SOURCE_UPPER, upper);
    for (struct sub *sub = found->first; sub != NULL; sub = sub->source_next) {
        count_lag(sub);
        if (sub->state == SUB_IDLE) {
            sub_move(sub, SUB_QUEUED);
        }
    }
}

/* Chunks are kept for those who come, some of whom may be waiting for the very memory: they go
 * while messages wait for some. */
static bool let_go(struct server_worker *w)
{
    if (w->kept_first == NULL || !shm_pool_short(w->server->pool, w->index)) {
        return false;
    }
    while (w->kept_first != NULL) {
        share_drop(w, w->kept_first);
    }
    return true;
}

/* The worker's own figures, which other threads add up as well, learn of a poll at its end. */
static void count_poll(struct server_worker *w)
{
    server_metric_add(w->bytes, (int64_t)w->sent_bytes);
    server_metric_add(w->chunks, (int64_t)w->sent_chunks);
    server_metric_add(w->shared, (int64_t)w->sent_shared);
    w->sent_bytes = w->sent_chunks = w->sent_shared = 0;
}

/* True while there may be more to do, so that the loop does not sleep. */
static bool server_poll(struct io_poller *poller)
{
    struct server_worker *w = CONTAINER_OF(poller, struct server_worker, poller);
    let_go(w);
    /* Who was queued may have gone since a poll that left something to be sent to others. */
    if (w->run.first == NULL && w->casts == NULL) {
        return false;
    }
    int left = POLL_WORK;
    while (left > 0 && w->run.first != NULL) {
        sub_serve(w->run.first, &left);
    }
    if (w->run.first == NULL || w->casts == NULL || ++w->cast_polls == CAST_POLLS) {
        channels_flush(w);
        w->cast_polls = 0;
    }
    gather_flush(&w->gather);
    count_poll(w);
    return true;
}

/* About to sleep: what a session was refused since the last poll is seen here. */
static bool server_arm(struct io_poller *poller)
{
    return let_go(CONTAINER_OF(poller, struct server_worker, poller));
}

void boundary_server_worker(struct boundary_server *server, uint32_t index, struct io_loop *loop,
                            void *worker_ctx)
{
    ASSERT(index >= server->config.worker_base);
    index -= server->config.worker_base;
    ASSERT(index < server->config.workers);
    struct server_worker *w = &server->workers[index];
    ASSERT(w->loop == NULL);
    w->loop = loop;
    w->ctx = worker_ctx;
    w->poller.poll = server_poll;
    w->poller.arm = server_arm;
    w->poller.brief = true;
    io_poller_add(loop, &w->poller);
    if (server->pool != NULL) {
        shm_pool_worker(server->pool, index, loop, NULL, NULL);
    }
    mailbox_put(server->box, &w->registered);
}

void server_worker_free(struct server_worker *w)
{
    while (w->links != NULL) {
        link_free(w->links);
    }
    ASSERT(w->run.first == NULL && w->sources.len == 0 && w->kept_first == NULL);
    ASSERT(w->casts == NULL);
    u64map_free(&w->sources);
    if (w->loop != NULL) {
        io_poller_remove(w->loop, &w->poller);
    }
}
