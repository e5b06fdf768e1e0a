/*
 * The exchange's net loop: sessions with the other processes of the replica. Between two processes
 * the one with the higher index connects, so there is one session per pair; a newer session of the
 * same peer takes over from an older one.
 *
 * peer->carrier is the session that counts. It is let go when it begins to end (exchange_ending):
 * a new one can be opened while the old one still ends on the workers' loops; what an old one still
 * says is ignored there and here by comparing carriers. The side that connects dials again once the
 * old one has ended everywhere (exchange_ended).
 */
#include "core/base/log.h"
#include "ring/exchange/internal.h"
#include "ring/tcp/tcp.h"

enum {
    LASTED_US = 1000,     /* a session that lasted so long is no reason to back off */
    POOL_BYTES = 8 << 20, /* of each worker, for messages to processes of this node */
};

struct net_item *exchange_item_new(enum net_item_kind kind)
{
    struct net_item *item = MEM_NEW(struct net_item);
    item->kind = kind;
    return item;
}

void exchange_item_free(struct mailbox_item *item)
{
    struct net_item *it = CONTAINER_OF(item, struct net_item, item);
    if (it->kind == ITEM_REGISTERED) {
        return; /* embedded in its worker */
    }
    free(it->reason);
    free(it);
}

/* ---- sessions -------------------------------------------------------------------------------- */

err_t exchange_control(void *net_ctx, struct carrier *c, const struct carrier_message *m)
{
    struct exchange *x = net_ctx;
    ASSERT(carrier_peer(c)->process < x->config.processes); /* check_member saw to it */
    struct exchange_peer *peer = &x->peers[carrier_peer(c)->process];
    if (peer->carrier != c) {
        return ERR_OK; /* an older session, ending */
    }
    return formation_message(x, peer, m);
}

void exchange_ending(void *net_ctx, struct carrier *c, const char *reason)
{
    struct exchange *x = net_ctx;
    struct exchange_peer *peer = &x->peers[carrier_peer(c)->process];
    LOG_INFO("exchange", "session ended", LOG_U64("process", peer->process),
             LOG_STR("reason", reason));
    if (peer->carrier == c) {
        peer->carrier = NULL;
    }
}

/* It must be there; the order does not matter. */
static void session_forget(struct exchange *x, struct carrier *c)
{
    for (size_t i = 0; i < x->sessions_len; i++) {
        if (x->sessions[i] == c) {
            x->sessions[i] = x->sessions[--x->sessions_len];
            return;
        }
    }
    UNREACHABLE();
}

void exchange_ended(void *net_ctx, struct carrier *c)
{
    struct exchange *x = net_ctx;
    struct exchange_peer *peer = &x->peers[carrier_peer(c)->process];
    ASSERT(peer->carrier != c);
    session_forget(x, c);
    if (x->sessions_metric != NULL) {
        metric_add(x->sessions_metric, UINT64_MAX); /* a gauge: minus one */
    }
    if (peer->dialer != NULL && peer->carrier == NULL) {
        if (carrier_unfit(c)) {
            dialer_avoid_local(peer->dialer);
        } else if (io_now_us(x->net) >= peer->open_us + LASTED_US) {
            dialer_well(peer->dialer);
        }
        dialer_start(peer->dialer);
    }
}

/* The greeting is done, in either direction. Formation comes before the bytes that followed the
 * greeting: those may hold control messages of the peer, which need the session's nonce. */
static void session_open(struct exchange *x, const struct greeted *greeted)
{
    struct exchange_peer *peer = &x->peers[greeted->theirs->process];
    ASSERT(peer->carrier == NULL && x->registered == x->config.workers_per_process);
    ASSERT(greeted->theirs->formation <= EXCHANGE_GENERATION_MAX);
    struct carrier_config config = {.net = x->net, .host = &exchange_host, .net_ctx = x,
                                    .workers = x->ends,
                                    .workers_len = x->config.workers_per_process,
                                    .ours = greeted->ours, .theirs = greeted->theirs,
                                    .counters = metrics_counters(x->config.metrics)};
    peer->nonce = greeted->theirs->nonce;
    peer->open_us = io_now_us(x->net);
    if (greeted->theirs->formation > peer->generation_seen) {
        peer->generation_seen = greeted->theirs->formation;
    }
    struct shm_config shm = {.initiator = peer->dialer != NULL, .pool = x->pool};
    memcpy(shm.proof, greeted->client_proof, sizeof(shm.proof));
    peer->carrier = greeted->local ? shm_carrier_new(&config, greeted->stream, &shm)
                                   : tcp_carrier_new(&config, greeted->stream, NULL, 0);
    *VEC_PUSH(x, sessions) = peer->carrier;
    LOG_INFO("exchange", "session open", LOG_U64("process", peer->process),
             LOG_STR("carrier", carrier_name(peer->carrier)));
    if (x->sessions_metric != NULL) {
        metric_add(x->sessions_metric, 1);
    }
    if (greeted->ours->nonce != x->nonce) {
        /* The peer would take us for who we were. It dials, or is dialled, again. */
        carrier_end_session(peer->carrier,
                            err_new(ERR_UNAVAILABLE, "greeted before this process gave up its "
                                                     "generation"));
        return;
    }
    formation_connected(x, peer);
    if (peer->carrier != NULL && greeted->rest_len > 0) {
        tcp_carrier_feed(peer->carrier, greeted->rest, greeted->rest_len);
    }
}

/* As the dialer and the door want it: a code for programs, the error for people. */
static err_t refused(enum hello_refusal *out, enum hello_refusal refusal, err_t err)
{
    *out = refusal;
    return err;
}

/* What holds for a peer in either direction. */
static err_t check_member(const struct exchange *x, const struct hello *theirs,
                          enum hello_refusal *refusal)
{
    ASSERT(refusal != NULL);
    TRY(hello_check(theirs, &x->self, HELLO_COMPUTE, refusal));
    if (theirs->service != x->self.service) {
        return refused(refusal, REFUSE_PROCESS,
                       err_new(ERR_INVALID, "a process of service %llu, this is service %llu",
                               (unsigned long long)theirs->service,
                               (unsigned long long)x->self.service));
    }
    if (theirs->process >= x->config.processes || theirs->process == x->config.process ||
        theirs->processes != x->config.processes ||
        theirs->workers != x->config.workers_per_process ||
        theirs->worker_base != theirs->process * x->config.workers_per_process) {
        return refused(refusal, REFUSE_PROCESS,
                       err_new(ERR_INVALID,
                               "process %u of %u with %u workers does not fit a replica of %u with "
                               "%u", theirs->process, theirs->processes, theirs->workers,
                               x->config.processes, x->config.workers_per_process));
    }
    if (theirs->formation > EXCHANGE_GENERATION_MAX) {
        return refused(refusal, REFUSE_PROCESS,
                       err_new(ERR_INVALID, "process %u claims generation %llu of the replica",
                               theirs->process, (unsigned long long)theirs->formation));
    }
    if (theirs->epoch < x->self.epoch) {
        return refused(refusal, REFUSE_EPOCH,
                       err_new(ERR_FENCED, "epoch %llu is over, this is %llu",
                               (unsigned long long)theirs->epoch,
                               (unsigned long long)x->self.epoch));
    }
    return ERR_OK;
}

/* peer_name is what the certificate says; nobody has one without TLS. */
static err_t check_certificate(const struct exchange *x, bool tls, const char *peer_name,
                               enum hello_refusal *refusal)
{
    if (!tls || x->config.check_peer == NULL) {
        return ERR_OK;
    }
    err_t err = x->config.check_peer(x->config.check_ctx, peer_name);
    return err == ERR_OK ? ERR_OK : refused(refusal, REFUSE_ROLE, err);
}

/* A peer that connects to us. One that was here before is let go of only when the new one is right:
 * nobody who is refused can end a session. */
static err_t exchange_judge(void *arg, const struct hello *theirs, const char *peer_name,
                            bool local, struct hello *welcome, enum hello_refusal *refusal)
{
    struct exchange *x = arg;
    /* Who it is comes before what it claims: a stranger learns nothing of this replica. */
    TRY(check_certificate(x, !local && x->config.tls_server != NULL, peer_name, refusal));
    TRY(check_member(x, theirs, refusal));
    if (theirs->process < x->config.process) {
        return refused(refusal, REFUSE_PROCESS,
                       err_new(ERR_INVALID, "process %u is connected to, it does not connect",
                               theirs->process));
    }
    if (x->registered < x->config.workers_per_process) {
        return refused(refusal, REFUSE_NOT_READY, err_new(ERR_UNAVAILABLE, "still starting"));
    }
    struct carrier *old = x->peers[theirs->process].carrier;
    if (old != NULL && carrier_peer(old)->generation > theirs->generation) {
        return refused(refusal, REFUSE_GENERATION,
                       err_new(ERR_FENCED, "process %u runs in generation %llu, yours is %llu",
                               theirs->process,
                               (unsigned long long)carrier_peer(old)->generation,
                               (unsigned long long)theirs->generation));
    }
    if (old != NULL) {
        carrier_end_session(old, err_new(ERR_FENCED, "a newer connection of process %u took over",
                                         theirs->process));
    }
    *welcome = x->self;
    return ERR_OK;
}

static void exchange_visited(void *arg, const struct greeted *greeted)
{
    session_open(arg, greeted);
}

static void peer_hello(void *arg, struct hello *hello)
{
    struct exchange_peer *peer = arg;
    *hello = peer->x->self;
}

/* One that we connected to: the same questions, and whether it is the one we meant. */
static err_t peer_check(void *arg, const struct hello *ours, const struct hello *theirs,
                        const char *peer_name)
{
    struct exchange_peer *peer = arg;
    struct exchange *x = peer->x;
    enum hello_refusal refusal;
    TRY(check_member(x, theirs, &refusal));
    TRY(check_certificate(x, x->config.tls_client != NULL && theirs->carriers == HELLO_TCP,
                          peer_name, &refusal));
    if (theirs->process != peer->process) {
        return err_new(ERR_UNAVAILABLE, "process %u answers at the address of process %u",
                       theirs->process, peer->process);
    }
    return ERR_OK;
}

static void peer_greeted(void *arg, const struct greeted *greeted)
{
    struct exchange_peer *peer = arg;
    session_open(peer->x, greeted);
}

static void peer_failed(void *arg, err_t reason, bool for_good)
{
    struct exchange_peer *peer = arg;
    ASSERT(reason != ERR_OK);
    LOG_AT(for_good ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG, "exchange", "peer not reached",
           LOG_U64("process", peer->process), LOG_ERR(reason));
    err_free(reason);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* Only now: a session is told to every worker when it opens. */
static void all_registered(struct exchange *x)
{
    ASSERT(x->registered == x->config.workers_per_process);
    for (uint32_t p = 0; p < x->config.process; p++) {
        dialer_start(x->peers[p].dialer);
    }
    formation_registered(x);
}

/* From the workers' loops: they have registered, or keep too much. */
static void exchange_take(void *arg, struct mailbox_item *item)
{
    struct exchange *x = arg;
    struct net_item *it = CONTAINER_OF(item, struct net_item, item);
    if (it->kind == ITEM_OVERFLOW) {
        formation_give_up(x, it->generation, it->reason);
        exchange_item_free(item);
        return;
    }
    ASSERT(it->kind == ITEM_REGISTERED && x->registered < x->config.workers_per_process);
    struct exchange_worker *w = &x->workers[it->index];
    x->ends[it->index] = (struct carrier_worker){.loop = w->loop, .ctx = w};
    if (++x->registered == x->config.workers_per_process) {
        all_registered(x);
    }
}

/* Also for our own place in the array, which stays unused. */
static void peer_init(struct exchange *x, uint32_t p)
{
    struct exchange_peer *peer = &x->peers[p];
    const struct exchange_config *config = &x->config;
    ASSERT(p < config->processes && peer->x == NULL);
    peer->x = x;
    peer->process = p;
    if (p >= config->process) {
        return; /* ourselves, or one that connects to us */
    }
    bool local = config->carrier != BOUNDARY_CARRIER_TCP && config->unix_paths != NULL;
    struct dialer_config dialer = {.loop = x->net, .address = config->peers[p],
                                   .unix_path = local ? config->unix_paths[p] : NULL,
                                   .node_secret_path = config->self.node_secret_path,
                                   .tls = config->tls_client, .arg = peer,
                                   .local_only = config->carrier == BOUNDARY_CARRIER_SHM,
                                   .hello = peer_hello, .check = peer_check,
                                   .done = peer_greeted, .failed = peer_failed};
    peer->dialer = dialer_new(&dialer);
}

/* A process alone has nobody to listen for. */
static err_t exchange_listen(struct exchange *x)
{
    const struct exchange_config *config = &x->config;
    if (config->processes == 1) {
        return ERR_OK;
    }
    bool local = config->carrier != BOUNDARY_CARRIER_TCP && config->unix_paths != NULL;
    struct door_config door = {.loop = x->net, .address = config->listen_address,
                               .unix_path = local ? config->unix_paths[config->process] : NULL,
                               .node_secret_path = config->self.node_secret_path,
                               .tls = config->tls_server, .arg = x, .judge = exchange_judge,
                               .done = exchange_visited};
    return err_wrap(door_new(&door, &x->door), "compute exchange");
}

static void exchange_metrics(struct exchange *x)
{
    if (x->config.metrics != NULL) {
        x->generation_metric = metric_gauge(x->config.metrics, "tailrace_exchange_generation", "",
                                            "Generation of the replica that stands");
        x->sessions_metric = metric_gauge(x->config.metrics, "tailrace_exchange_sessions", "",
                                          "Other processes of the replica connected");
    }
}

/* Lanes within the process, and the pool for other processes of this node. */
static void make_memory(struct exchange *x)
{
    const struct exchange_config *config = &x->config;
    inner_new(x);
    if (config->processes > 1 && config->unix_paths != NULL &&
        config->carrier != BOUNDARY_CARRIER_TCP && !io_env_simulated(io_loop_env(x->net))) {
        x->pool = shm_pool_new(&(struct shm_pool_config){
            .shared = true, .workers = config->workers_per_process,
            .bytes = (size_t)config->workers_per_process * POOL_BYTES});
    }
}

err_t exchange_new(struct io_loop *net, const struct exchange_config *config,
                   struct exchange **out)
{
    ASSERT(config->processes > 0 && config->processes <= EXCHANGE_PROCESSES_MAX);
    ASSERT(config->process < config->processes && config->handler != NULL);
    ASSERT(config->workers_per_process > 0 && config->workers_per_process <= HELLO_WORKERS_MAX);
    struct exchange *x = MEM_NEW(struct exchange);
    x->net = net;
    x->config = *config;
    x->config.held_max = config->held_max != 0 ? config->held_max : EXCHANGE_HELD_MAX;
    x->total = config->processes * config->workers_per_process;
    x->nonce = io_random_u64(io_loop_env(net));
    x->self = (struct hello){.version = HELLO_VERSION, .protocol = HELLO_EXCHANGE,
                             .role = HELLO_COMPUTE, .service = config->self.service,
                             .process = config->process,
                             .generation = config->self.generation, .epoch = config->self.epoch,
                             .nonce = x->nonce, .workers = config->workers_per_process,
                             .worker_base = config->process * config->workers_per_process,
                             .processes = config->processes};
    memcpy(x->self.environment, config->self.environment, sizeof(x->self.environment));
    hello_set_host(&x->self, io_host_id(io_loop_env(net)));
    x->workers = mem_zalloc(sizeof(x->workers[0]) * config->workers_per_process);
    x->ends = mem_zalloc(sizeof(x->ends[0]) * config->workers_per_process);
    x->peers = mem_zalloc(sizeof(x->peers[0]) * config->processes);
    x->nonces = mem_zalloc(sizeof(x->nonces[0]) * config->processes);
    x->box = mailbox_new(net, exchange_take, NULL, x);
    exchange_metrics(x);
    make_memory(x);
    for (uint32_t i = 0; i < config->workers_per_process; i++) {
        exchange_worker_init(x, i);
    }
    for (uint32_t p = 0; p < config->processes; p++) {
        peer_init(x, p);
    }
    err_t err = exchange_listen(x);
    if (err != ERR_OK) {
        exchange_free(x);
        return err;
    }
    *out = x;
    return ERR_OK;
}

const char *exchange_address(const struct exchange *x)
{
    return x->door != NULL ? door_address(x->door) : "";
}

void exchange_free(struct exchange *x)
{
    if (x == NULL) {
        return;
    }
    door_free(x->door);
    for (size_t i = 0; i < x->sessions_len; i++) {
        carrier_destroy(x->sessions[i]);
    }
    for (uint32_t p = 0; p < x->config.processes; p++) {
        dialer_free(x->peers[p].dialer);
    }
    for (uint32_t i = 0; i < x->config.workers_per_process; i++) {
        exchange_worker_free(&x->workers[i]);
    }
    inner_free(x);
    shm_pool_free(x->pool);
    mailbox_free(x->box, exchange_item_free);
    free(x->sessions);
    free(x->peers);
    free(x->nonces);
    free(x->ends);
    free(x->workers);
    free(x);
}
