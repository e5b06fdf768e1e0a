/*
 * The server of the storage boundary. The net loop accepts, greets and keeps sessions; each worker
 * loop keeps the subscriptions of its own worker, one struct link per session, and serves them in
 * turns of one chunk from a poller.
 *
 * A subscription is in exactly one of four states: in the worker's run queue; waiting for data
 * (the backend had nothing more: boundary_server_wake); waiting for credit (CREDIT message); or
 * waiting for its carrier (writable). A slow reader is in one of the last two and costs nothing.
 */
#include "core/base/log.h"
#include "core/base/map.h"
#include "core/base/mem.h"
#include "ring/boundary/protocol.h"
#include "ring/frame/door.h"
#include "ring/shm/shm.h"
#include "ring/tcp/tcp.h"

enum {
    CHUNKS_A_POLL = 16,
    SUBS_PER_SESSION_MAX = 1 << 20,
};

enum sub_state { SUB_QUEUED, SUB_IDLE, SUB_NO_CREDIT, SUB_BLOCKED };

struct sub {
    struct link *link;
    uint64_t key; /* in link->subs */
    uint32_t remote;
    uint32_t stream;
    uint64_t source;
    void *cursor;
    enum sub_state state;
    uint64_t granted; /* credit, bytes since the beginning */
    uint64_t used;
    struct sub *next_run; /* in the run queue */
    struct sub *prev_run;
    struct sub *source_prev; /* among those of the source */
    struct sub *source_next;
};

/* A session as one worker sees it; in the carrier's slot. */
struct link {
    struct server_worker *worker;
    struct carrier *carrier;
    uint32_t local;
    struct u64map subs; /* remote worker << 32 | stream -> struct sub */
    struct link *prev;  /* among those of the worker */
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
    struct u64map sources; /* source -> first struct sub */
    struct link *links;
    struct sub *run_first;
    struct sub *run_last;
    struct metric *subs;
    struct metric *bytes;
    struct metric *chunks;
};

struct boundary_server {
    struct io_loop *net;
    struct boundary_server_config config;
    struct server_worker *workers;
    struct carrier_worker *ends; /* filled as workers register */
    struct mailbox *box;         /* registrations */
    uint32_t registered;
    struct door *door;
    struct hello self;
    struct carrier **sessions;
    size_t sessions_len;
    size_t sessions_cap;
    struct metric *sessions_metric;
};

static void gauge_add(struct metric *m, int64_t n)
{
    if (m != NULL) {
        metric_add(m, (uint64_t)n); /* two's complement: gauges may go down */
    }
}

/* ---- subscriptions (worker loops) ------------------------------------------------------------ */

static void sub_run(struct sub *sub)
{
    struct server_worker *w = sub->link->worker;
    if (sub->state == SUB_QUEUED) {
        return;
    }
    sub->state = SUB_QUEUED;
    sub->next_run = NULL;
    sub->prev_run = w->run_last;
    if (w->run_last == NULL) {
        w->run_first = sub;
    } else {
        w->run_last->next_run = sub;
    }
    w->run_last = sub;
}

static void run_remove(struct server_worker *w, struct sub *sub)
{
    ASSERT(sub->prev_run != NULL || w->run_first == sub);
    *(sub->prev_run != NULL ? &sub->prev_run->next_run : &w->run_first) = sub->next_run;
    *(sub->next_run != NULL ? &sub->next_run->prev_run : &w->run_last) = sub->prev_run;
}

static void source_add(struct server_worker *w, struct sub *sub)
{
    ASSERT(sub->source_next == NULL && sub->source_prev == NULL);
    struct sub *first = u64map_put(&w->sources, sub->source, sub);
    sub->source_next = first;
    if (first != NULL) {
        first->source_prev = sub;
    }
}

static void source_remove(struct server_worker *w, struct sub *sub)
{
    if (sub->source_next != NULL) {
        sub->source_next->source_prev = sub->source_prev;
    }
    if (sub->source_prev != NULL) {
        sub->source_prev->source_next = sub->source_next;
    } else if (sub->source_next != NULL) {
        u64map_put(&w->sources, sub->source, sub->source_next);
    } else {
        u64map_remove(&w->sources, sub->source);
    }
}

/* Frees what the subscription holds; the caller takes it out of link->subs. */
static void sub_free(struct sub *sub)
{
    struct server_worker *w = sub->link->worker;
    if (sub->state == SUB_QUEUED) {
        run_remove(w, sub);
    }
    source_remove(w, sub);
    w->server->config.backend->close(sub->cursor);
    gauge_add(w->subs, -1);
    free(sub);
}

static void sub_drop(struct sub *sub)
{
    ASSERT(sub->cursor != NULL || sub->link != NULL);
    void *was = u64map_remove(&sub->link->subs, sub->key);
    ASSERT(was == sub);
    sub_free(sub);
}

static void refuse(struct link *link, uint32_t remote, uint32_t stream, err_t err)
{
    ASSERT(err != ERR_OK);
    struct buf text = {0};
    boundary_refusal_encode(&text, err);
    struct carrier_message m = {.kind = BOUNDARY_REFUSED, .flags = CARRIER_URGENT,
                                .stream = stream, .c = (uint32_t)err_code(err), .data = text.data,
                                .len = text.len};
    carrier_send(link->carrier, link->local, remote, &m);
    LOG_INFO("boundary", "subscription refused", LOG_U64("process",
             carrier_peer(link->carrier)->process), LOG_U64("subscription", stream),
             LOG_ERR(err));
    buf_free(&text);
    err_free(err);
}

static void send_chunk(struct sub *sub, const struct boundary_chunk *chunk)
{
    struct link *link = sub->link;
    size_t len = boundary_chunk_len(chunk);
    ASSERT(chunk->lower <= chunk->upper && len <= FRAME_MESSAGE_MAX);
    struct carrier_message m = {.kind = BOUNDARY_DATA, .stream = sub->stream,
                                .flags = len == 0 ? CARRIER_URGENT : 0,
                                .a = chunk->lower, .b = chunk->upper,
                                .c = (uint32_t)chunk->ok_len};
    if (len == 0) {
        carrier_commit(link->carrier, link->local, sub->remote, &m, NULL, 0);
    } else {
        struct carrier_block block;
        carrier_reserve(link->carrier, link->local, sub->remote, len, &block);
        boundary_chunk_encode(chunk, block.data);
        carrier_commit(link->carrier, link->local, sub->remote, &m, &block, len);
    }
    sub->used += boundary_cost(len);
    if (link->worker->bytes != NULL) {
        metric_add(link->worker->bytes, len);
        metric_add(link->worker->chunks, 1);
    }
}

/* One turn: at most one chunk; decides which state the subscription goes to. */
static void sub_serve(struct sub *sub)
{
    ASSERT(sub->state == SUB_QUEUED);
    struct link *link = sub->link;
    sub->state = SUB_NO_CREDIT;
    if (sub->used >= sub->granted) {
        return;
    }
    if (!carrier_ready(link->carrier, link->local, sub->remote)) {
        sub->state = SUB_BLOCKED;
        return;
    }
    sub->state = SUB_IDLE;
    uint64_t room = sub->granted - sub->used;
    struct boundary_chunk chunk = {0};
    bool more = false;
    err_t err = link->worker->server->config.backend->next(
        sub->cursor, room < BOUNDARY_CHUNK_MAX ? room : BOUNDARY_CHUNK_MAX, &chunk, &more);
    if (err == ERR_OK && boundary_chunk_len(&chunk) > FRAME_MESSAGE_MAX) {
        err = err_new(ERR_LIMIT, "one update takes %zu bytes, more than the boundary carries",
                      boundary_chunk_len(&chunk));
    }
    if (err != ERR_OK) {
        refuse(link, sub->remote, sub->stream, err);
        sub_drop(sub);
        return;
    }
    if (chunk.ok_len > 0 || chunk.err_len > 0 || chunk.upper > chunk.lower) {
        send_chunk(sub, &chunk);
    }
    if (more) {
        sub_run(sub);
    }
}

static bool server_poll(struct io_poller *poller)
{
    struct server_worker *w = CONTAINER_OF(poller, struct server_worker, poller);
    if (w->run_first == NULL) {
        return false;
    }
    for (int i = 0; i < CHUNKS_A_POLL && w->run_first != NULL; i++) {
        struct sub *sub = w->run_first;
        run_remove(w, sub);
        sub_serve(sub);
    }
    return true;
}

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
        refuse(link, remote, m->stream,
               err_new(ERR_NOT_FOUND, "worker %u is not here, this is %u", request.worker,
                       server->config.worker_base + w->index));
        return ERR_OK;
    }
    if (link->subs.len >= SUBS_PER_SESSION_MAX) {
        refuse(link, remote, m->stream, err_new(ERR_LIMIT, "too many subscriptions"));
        return ERR_OK;
    }
    void *cursor = NULL;
    err_t err = server->config.backend->open(w->ctx, &request, &cursor);
    if (err != ERR_OK) {
        refuse(link, remote, m->stream, err);
        return ERR_OK;
    }
    struct sub *sub = MEM_NEW(struct sub);
    *sub = (struct sub){.link = link, .key = key, .remote = remote, .stream = m->stream,
                        .source = request.source, .cursor = cursor, .state = SUB_IDLE,
                        .granted = m->a};
    u64map_put(&link->subs, key, sub);
    source_add(w, sub);
    gauge_add(w->subs, 1);
    sub_run(sub);
    return ERR_OK;
}

static err_t take_credit(struct sub *sub, uint64_t granted)
{
    ASSERT(sub->state <= SUB_BLOCKED);
    if (granted < sub->granted) {
        return err_new(ERR_PROTOCOL, "credit of subscription %u went down", sub->stream);
    }
    sub->granted = granted;
    if (sub->state == SUB_NO_CREDIT) {
        sub_run(sub);
    }
    return ERR_OK;
}

static err_t server_message(void *worker_ctx, struct carrier *c, uint32_t local, uint32_t remote,
                            const struct carrier_message *m)
{
    struct link *link = *carrier_slot(c, local);
    ASSERT(link != NULL && link->carrier == c);
    if (m->kind == BOUNDARY_SUBSCRIBE) {
        return take_subscribe(link, remote, m);
    }
    struct sub *sub = u64map_get(&link->subs, (uint64_t)remote << 32 | m->stream);
    if (m->kind == BOUNDARY_UNSUBSCRIBE) {
        if (sub != NULL) { /* else: refused meanwhile */
            sub_drop(sub);
        }
        return ERR_OK;
    }
    if (m->kind == BOUNDARY_CREDIT) {
        return sub != NULL ? take_credit(sub, m->a) : ERR_OK;
    }
    return err_new(ERR_PROTOCOL, "message of kind %u from a subscriber", m->kind);
}

static void server_open(void *worker_ctx, struct carrier *c, uint32_t local)
{
    ASSERT(*carrier_slot(c, local) == NULL);
    struct server_worker *w = worker_ctx;
    struct link *link = MEM_NEW(struct link);
    link->worker = w;
    link->carrier = c;
    link->local = local;
    link->next = w->links;
    if (w->links != NULL) {
        w->links->prev = link;
    }
    w->links = link;
    *carrier_slot(c, local) = link;
}

static void link_free(struct link *link)
{
    ASSERT(link->worker->links != NULL);
    struct server_worker *w = link->worker;
    size_t at = 0;
    uint64_t key;
    void *sub;
    while (u64map_next(&link->subs, &at, &key, &sub)) {
        sub_free(sub);
    }
    u64map_free(&link->subs);
    if (link->next != NULL) {
        link->next->prev = link->prev;
    }
    *(link->prev != NULL ? &link->prev->next : &w->links) = link->next;
    free(link);
}

static void server_close(void *worker_ctx, struct carrier *c, uint32_t local)
{
    ASSERT(*carrier_slot(c, local) != NULL);
    link_free(*carrier_slot(c, local));
}

static void server_writable(void *worker_ctx, struct carrier *c, uint32_t local)
{
    struct link *link = *carrier_slot(c, local);
    size_t at = 0;
    uint64_t key;
    void *value;
    while (u64map_next(&link->subs, &at, &key, &value)) {
        struct sub *sub = value;
        if (sub->state == SUB_BLOCKED) {
            sub_run(sub);
        }
    }
}

void boundary_server_wake(struct boundary_server *server, uint32_t index, uint64_t source)
{
    ASSERT(index >= server->config.worker_base);
    index -= server->config.worker_base;
    ASSERT(index < server->config.workers);
    struct sub *sub = u64map_get(&server->workers[index].sources, source);
    for (; sub != NULL; sub = sub->source_next) {
        if (sub->state == SUB_IDLE) {
            sub_run(sub);
        }
    }
}

/* ---- sessions (net loop) --------------------------------------------------------------------- */

static void server_ending(void *net_ctx, struct carrier *c, const char *reason)
{
    LOG_INFO("boundary", "session ended", LOG_U64("process", carrier_peer(c)->process),
             LOG_STR("carrier", carrier_name(c)), LOG_STR("reason", reason));
}

static void server_ended(void *net_ctx, struct carrier *c)
{
    struct boundary_server *server = net_ctx;
    for (size_t i = 0; i < server->sessions_len; i++) {
        if (server->sessions[i] == c) {
            server->sessions[i] = server->sessions[--server->sessions_len];
            gauge_add(server->sessions_metric, -1);
            return;
        }
    }
    UNREACHABLE();
}

static const struct carrier_host server_host = {
    .open = server_open,
    .message = server_message,
    .writable = server_writable,
    .close = server_close,
    .ending = server_ending,
    .ended = server_ended,
};

static err_t refused(enum hello_refusal *out, enum hello_refusal refusal, err_t err)
{
    *out = refusal;
    return err;
}

/* An older session of the same process gives way to a new one, never the reverse. */
static err_t supersede(struct boundary_server *server, const struct hello *theirs,
                       enum hello_refusal *refusal)
{
    for (size_t i = 0; i < server->sessions_len; i++) {
        struct carrier *c = server->sessions[i];
        const struct hello *old = carrier_peer(c);
        if (old->service != theirs->service || old->process != theirs->process ||
            old->epoch > theirs->epoch) {
            continue;
        }
        if (old->epoch == theirs->epoch && old->generation > theirs->generation) {
            return refused(refusal, REFUSE_GENERATION,
                           err_new(ERR_FENCED, "process %u runs in generation %llu, yours is %llu",
                                   theirs->process, (unsigned long long)old->generation,
                                   (unsigned long long)theirs->generation));
        }
        carrier_end_session(c, err_new(ERR_FENCED, "a newer connection of process %u took over",
                                       theirs->process));
    }
    return ERR_OK;
}

static err_t server_judge(void *arg, const struct hello *theirs, const char *peer_name, bool local,
                          struct hello *welcome, enum hello_refusal *refusal)
{
    struct boundary_server *server = arg;
    TRY(hello_check(theirs, &server->self, HELLO_COMPUTE, refusal));
    if (!local && server->config.tls != NULL && server->config.check_peer != NULL) {
        err_t err = server->config.check_peer(server->config.check_ctx, peer_name);
        if (err != ERR_OK) {
            return refused(refusal, REFUSE_ROLE, err);
        }
    }
    if (theirs->epoch < server->self.epoch) {
        return refused(refusal, REFUSE_EPOCH,
                       err_new(ERR_FENCED, "epoch %llu is over, this is %llu",
                               (unsigned long long)theirs->epoch,
                               (unsigned long long)server->self.epoch));
    }
    if (server->registered < server->config.workers) {
        return refused(refusal, REFUSE_NOT_READY,
                       err_new(ERR_UNAVAILABLE, "%u of %u workers have started",
                               server->registered, server->config.workers));
    }
    TRY(supersede(server, theirs, refusal));
    *welcome = server->self;
    return ERR_OK;
}

static void server_greeted(void *arg, const struct greeted *greeted)
{
    struct boundary_server *server = arg;
    struct carrier_config config = {.net = server->net, .host = &server_host, .net_ctx = server,
                                    .workers = server->ends,
                                    .workers_len = server->config.workers, .ours = greeted->ours,
                                    .theirs = greeted->theirs};
    struct shm_config shm = {.arena_bytes = server->config.arena_bytes};
    memcpy(shm.proof, greeted->client_proof, sizeof(shm.proof));
    struct carrier *c = greeted->local ? shm_carrier_new(&config, greeted->stream, &shm)
                                       : tcp_carrier_new(&config, greeted->stream, greeted->rest,
                                                         greeted->rest_len);
    LOG_INFO("boundary", "session open", LOG_U64("process", greeted->theirs->process),
             LOG_STR("carrier", carrier_name(c)));
    *VEC_PUSH(server, sessions) = c;
    gauge_add(server->sessions_metric, 1);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void server_registered(void *arg, struct mailbox_item *item)
{
    struct boundary_server *server = arg;
    struct server_worker *w = CONTAINER_OF(item, struct server_worker, registered);
    server->ends[w->index] = (struct carrier_worker){.loop = w->loop, .ctx = w};
    server->registered++;
    ASSERT(server->registered <= server->config.workers);
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
    io_poller_add(loop, &w->poller);
    mailbox_put(server->box, &w->registered);
}

static void server_metrics(struct boundary_server *server)
{
    struct metrics_registry *r = server->config.metrics;
    if (r == NULL) {
        return;
    }
    server->sessions_metric = metric_gauge(r, "tailrace_boundary_sessions", "",
                                           "Compute processes connected");
    for (uint32_t i = 0; i < server->config.workers; i++) {
        struct buf labels = {0};
        buf_printf(&labels, "worker=\"%u\"", server->config.worker_base + i);
        const char *text = buf_cstr(&labels);
        struct server_worker *w = &server->workers[i];
        w->subs = metric_gauge(r, "tailrace_boundary_subscriptions", text,
                               "Open subscriptions served");
        w->bytes = metric_counter(r, "tailrace_boundary_sent_bytes_total", text,
                                  "Bytes of batches sent to subscribers");
        w->chunks = metric_counter(r, "tailrace_boundary_sent_chunks_total", text,
                                   "Chunks sent to subscribers");
        buf_free(&labels);
    }
}

err_t boundary_server_new(struct io_loop *net, const struct boundary_server_config *config,
                          struct boundary_server **out)
{
    ASSERT(config->workers > 0 && config->workers <= HELLO_WORKERS_MAX);
    ASSERT(config->backend != NULL);
    struct boundary_server *server = MEM_NEW(struct boundary_server);
    server->net = net;
    server->config = *config;
    server->self = boundary_hello(net, &config->self, HELLO_STORAGE, config->workers);
    server->self.worker_base = config->worker_base;
    server->self.nonce = io_random_u64(io_loop_env(net));
    server->workers = mem_zalloc(sizeof(server->workers[0]) * config->workers);
    server->ends = mem_zalloc(sizeof(server->ends[0]) * config->workers);
    server->box = mailbox_new(net, server_registered, NULL, server);
    for (uint32_t i = 0; i < config->workers; i++) {
        server->workers[i].server = server;
        server->workers[i].index = i;
    }
    server_metrics(server);
    bool local = config->carrier != BOUNDARY_CARRIER_TCP;
    struct door_config door = {.loop = net, .address = config->address,
                               .unix_path = local ? config->unix_path : NULL,
                               .node_secret_path = config->self.node_secret_path,
                               .tls = config->tls, .arg = server, .judge = server_judge,
                               .done = server_greeted};
    err_t err = door_new(&door, &server->door);
    if (err != ERR_OK) {
        boundary_server_free(server);
        return err_wrap(err, "storage boundary");
    }
    *out = server;
    return ERR_OK;
}

const char *boundary_server_address(const struct boundary_server *server)
{
    return door_address(server->door);
}

static void item_keep(struct mailbox_item *item)
{
    /* A registration lies inside its worker. */
}

void boundary_server_free(struct boundary_server *server)
{
    if (server == NULL) {
        return;
    }
    door_free(server->door);
    for (uint32_t i = 0; i < server->config.workers; i++) {
        struct server_worker *w = &server->workers[i];
        while (w->links != NULL) {
            link_free(w->links);
        }
        ASSERT(w->run_first == NULL && w->sources.len == 0);
        u64map_free(&w->sources);
        if (w->loop != NULL) {
            io_poller_remove(w->loop, &w->poller);
        }
    }
    for (size_t i = 0; i < server->sessions_len; i++) {
        carrier_destroy(server->sessions[i]);
    }
    if (server->sessions_metric != NULL) {
        metric_set(server->sessions_metric, 0);
    }
    mailbox_free(server->box, item_keep);
    free(server->sessions);
    free(server->workers);
    free(server->ends);
    free(server);
}

void boundary_server_set_epoch(struct boundary_server *server, uint64_t epoch)
{
    ASSERT(epoch >= server->self.epoch);
    server->self.epoch = epoch;
}
