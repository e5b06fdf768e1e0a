/*
 * The server of the storage boundary, its net loop's part: accepts, greets and keeps sessions, and
 * tells the older of two sessions of one process to go. The data path is in server_worker.c.
 *
 * Who is let in: another process of this environment (hello_check), with a certificate that is
 * allowed (TLS) or proof of being on this node (local), in an epoch not below ours. The checks come
 * in that order, so a stranger learns nothing of epochs.
 */
#include "core/base/log.h"
#include "ring/boundary/server_internal.h"
#include "ring/frame/door.h"
#include "ring/tcp/tcp.h"

/* ---- sessions (net loop) --------------------------------------------------------------------- */

static void server_ending(void *net_ctx, struct carrier *c, const char *reason)
{
    LOG_INFO("boundary", "session ended", LOG_U64("process", carrier_peer(c)->process),
             LOG_STR("carrier", carrier_name(c)), LOG_STR("reason", reason));
}

static void server_ended(void *net_ctx, struct carrier *c)
{
    struct boundary_server *server = net_ctx;
    ASSERT(server->sessions_len > 0);
    for (size_t i = 0; i < server->sessions_len; i++) {
        if (server->sessions[i] == c) {
            server->sessions[i] = server->sessions[--server->sessions_len];
            server_metric_add(server->sessions_metric, -1);
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

/* For `return refused(...)`: what the peer is told, and what is logged here. */
static err_t refused(enum hello_refusal *out, enum hello_refusal refusal, err_t err)
{
    *out = refusal;
    return err;
}

/* An older session of the same process gives way to a new one, never the reverse. Older: of a lower
 * epoch, or of a generation not above in the same epoch (it reconnects before we noticed the cut).
 * The sessions end later: the list does not change under this loop. */
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

/* The greeting is done and both have said yes; the carrier takes the stream over. */
static void server_greeted(void *arg, const struct greeted *greeted)
{
    struct boundary_server *server = arg;
    struct carrier_config config = {.net = server->net, .host = &server_host, .net_ctx = server,
                                    .workers = server->ends,
                                    .workers_len = server->config.workers, .ours = greeted->ours,
                                    .theirs = greeted->theirs,
                                    .counters = metrics_counters(server->config.metrics)};
    struct shm_config shm = {.pool = server->pool};
    memcpy(shm.proof, greeted->client_proof, sizeof(shm.proof));
    struct carrier *c = greeted->local ? shm_carrier_new(&config, greeted->stream, &shm)
                                       : tcp_carrier_new(&config, greeted->stream, greeted->rest,
                                                         greeted->rest_len);
    LOG_INFO("boundary", "session open", LOG_U64("process", greeted->theirs->process),
             LOG_STR("carrier", carrier_name(c)));
    *VEC_PUSH(server, sessions) = c;
    server_metric_add(server->sessions_metric, 1);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void server_registered(void *arg, struct mailbox_item *item)
{
    struct boundary_server *server = arg;
    struct server_worker *w = CONTAINER_OF(item, struct server_worker, registered);
    ASSERT(w->index < server->config.workers && server->ends[w->index].loop == NULL);
    server->ends[w->index] = (struct carrier_worker){.loop = w->loop, .ctx = w};
    server->registered++;
    ASSERT(server->registered <= server->config.workers);
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
        w->shared = metric_counter(r, "tailrace_boundary_shared_chunks_total", text,
                                   "Of these, chunks built for another subscriber");
        buf_free(&labels);
    }
}

err_t boundary_server_new(struct io_loop *net, const struct boundary_server_config *config,
                          struct boundary_server **out)
{
    ASSERT(config->workers > 0 && config->workers <= HELLO_WORKERS_MAX);
    ASSERT(config->backend != NULL && config->backend->open != NULL);
    ASSERT(config->backend->next != NULL && config->backend->close != NULL);
    struct boundary_server *server = MEM_NEW(struct boundary_server);
    server->net = net;
    server->config = *config;
    server->self = boundary_hello(net, &config->self, HELLO_STORAGE, config->workers);
    server->self.worker_base = config->worker_base;
    server->self.nonce = io_random_u64(io_loop_env(net));
    const size_t workers_bytes = sizeof(server->workers[0]) * config->workers;
    server->workers = aligned_alloc(_Alignof(struct server_worker), workers_bytes);
    ASSERT(server->workers != NULL);
    memset(server->workers, 0, workers_bytes);
    server->ends = mem_zalloc(sizeof(server->ends[0]) * config->workers);
    bool local = config->carrier != BOUNDARY_CARRIER_TCP && config->unix_path != NULL;
    struct shm_pool_config pool = {.shared = local && !io_env_simulated(io_loop_env(net)),
                                   .workers = config->workers, .bytes = config->arena_bytes};
    server->pool = shm_pool_new(&pool);
    server->box = mailbox_new(net, server_registered, NULL, server);
    for (uint32_t i = 0; i < config->workers; i++) {
        server->workers[i].server = server;
        server->workers[i].index = i;
    }
    server_metrics(server);
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

/* Order: no new sessions, then the workers' links (they unhook from carriers' slots), then the
 * carriers, then the pool whose blocks both may hold. Also called half-built: door may be NULL. */
void boundary_server_free(struct boundary_server *server)
{
    if (server == NULL) {
        return;
    }
    door_free(server->door);
    for (uint32_t i = 0; i < server->config.workers; i++) {
        server_worker_free(&server->workers[i]);
    }
    for (size_t i = 0; i < server->sessions_len; i++) {
        carrier_destroy(server->sessions[i]);
    }
    if (server->sessions_metric != NULL) {
        metric_set(server->sessions_metric, 0);
    }
    mailbox_free(server->box, item_keep);
    shm_pool_free(server->pool);
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
