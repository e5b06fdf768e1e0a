/*
 * The net loop's half of the boundary client: one struct storage_process per process of the
 * directory, which connects once somebody wants one of its workers, and again whenever the session
 * ended, with back-off. One that left the directory is retired: its session ends, and it is freed
 * when the workers have let go.
 *
 * A process is in exactly one place: client->processes (in the directory's order), or
 * client->retired. It has a dialer at work or a carrier, never both; so a session of it is opened
 * only after the one before has ended on every loop, and the workers never see two.
 *
 * Nothing here knows of subscriptions: workers say which storage workers they want (never that they
 * no longer do: a connection nobody uses costs a heartbeat).
 */
#include "core/base/log.h"
#include "ring/boundary/client_internal.h"
#include "ring/frame/door.h"
#include "ring/shm/shm.h"
#include "ring/tcp/tcp.h"

enum {
    LASTED_US = 1000,      /* a session that lasted so long is no reason to back off */
    WORKERS_MAX = 1 << 20, /* of all storage */
    SEND_ARENA = 1 << 20,  /* requests and credit are all we send */
};

/* A process of storage, by its place in the directory. Net loop. */
struct storage_process {
    struct boundary_client *client;
    uint32_t worker_base; /* storage workers it has: [worker_base, worker_base + workers) */
    uint32_t workers;
    char *address;
    char *unix_path; /* may be NULL */
    struct dialer *dialer;
    struct carrier *carrier; /* open or ending */
    uint64_t open_us;        /* since when */
    bool retired;            /* not in the directory any more; in client->retired */
    struct storage_process *next_retired;
};

/* ---- connecting ------------------------------------------------------------------------------ */

/* Tells the workers that these storage workers will not have us; owns reason. */
static void process_refused(struct storage_process *p, err_t reason)
{
    ASSERT(reason != ERR_OK);
    struct boundary_client *client = p->client;
    LOG_ERROR("boundary", "storage refuses this process", LOG_STR("address", p->address),
              LOG_ERR(reason));
    for (uint32_t i = 0; i < client->config.workers; i++) {
        struct client_item *item = client_item_new(CLIENT_REFUSED);
        item->worker = p->worker_base;
        item->workers = p->workers;
        item->reason = err_copy(reason);
        mailbox_put(client->workers[i].box, &item->item);
    }
    err_free(reason);
}

/* For good: the other side has judged us, and would again. Else the dialer goes on by itself. */
static void process_failed(void *arg, err_t reason, bool for_good)
{
    struct storage_process *p = arg;
    if (for_good) {
        process_refused(p, reason);
        return;
    }
    LOG_DEBUG("boundary", "storage is not reachable", LOG_STR("address", p->address),
              LOG_ERR(reason));
    err_free(reason);
}

static void process_hello(void *arg, struct hello *hello)
{
    struct storage_process *p = arg;
    *hello = p->client->self;
}

/* Beside what every HELLO must be: is it the process we meant to reach? An address may have been
 * given to another one by now, so that is not for good. */
static err_t process_check(void *arg, const struct hello *ours, const struct hello *theirs,
                           const char *peer_name)
{
    struct storage_process *p = arg;
    enum hello_refusal refusal;
    TRY(hello_check(theirs, ours, HELLO_STORAGE, &refusal));
    if (theirs->worker_base != p->worker_base || theirs->workers != p->workers) {
        return err_new(ERR_UNAVAILABLE,
                       "%s has storage workers %u to %u, the directory says %u to %u", p->address,
                       theirs->worker_base, theirs->worker_base + theirs->workers - 1,
                       p->worker_base, p->worker_base + p->workers - 1);
    }
    return ERR_OK;
}

static void process_greeted(void *arg, const struct greeted *greeted)
{
    struct storage_process *p = arg;
    struct boundary_client *client = p->client;
    ASSERT(p->carrier == NULL && !p->retired);
    ASSERT(client->registered == client->config.workers); /* ends is complete */
    struct carrier_config config = {.net = client->net, .host = &boundary_client_host,
                                    .net_ctx = p, .workers = client->ends,
                                    .workers_len = client->config.workers,
                                    .ours = greeted->ours, .theirs = greeted->theirs,
                                    .counters = metrics_counters(client->config.metrics)};
    if (client->sessions_metric != NULL) {
        metric_add(client->sessions_metric, 1);
        metric_add(client->connects, 1);
    }
    p->open_us = io_now_us(client->net);
    struct shm_config shm = {.initiator = true, .arena_bytes = SEND_ARENA};
    memcpy(shm.proof, greeted->client_proof, sizeof(shm.proof));
    p->carrier = greeted->local ? shm_carrier_new(&config, greeted->stream, &shm)
                                : tcp_carrier_new(&config, greeted->stream, greeted->rest,
                                                  greeted->rest_len);
    LOG_INFO("boundary", "connected to storage", LOG_U64("process", greeted->theirs->process),
             LOG_STR("address", p->address), LOG_STR("carrier", carrier_name(p->carrier)));
}

/* wanted may be shorter than the directory: what lies beyond nobody has asked for. */
static bool process_wanted(const struct storage_process *p)
{
    for (uint32_t i = p->worker_base; i < p->worker_base + p->workers; i++) {
        if (i < p->client->wanted_len && p->client->wanted[i] != 0) {
            return true;
        }
    }
    return false;
}

/* Begins to connect if there is a reason to and no session. */
static void process_connect(struct storage_process *p)
{
    struct boundary_client *client = p->client;
    if (!p->retired && p->carrier == NULL && client->registered == client->config.workers &&
        process_wanted(p)) {
        dialer_start(p->dialer); /* nothing, if it is at work already */
    }
}

static void connect_all(struct boundary_client *client)
{
    for (size_t i = 0; i < client->processes_len; i++) {
        process_connect(client->processes[i]);
    }
}

/* ---- sessions ending ------------------------------------------------------------------------- */

static void process_free(struct storage_process *p)
{
    ASSERT(p->client != NULL && p->dialer != NULL);
    dialer_free(p->dialer);
    free(p->address);
    free(p->unix_path);
    free(p);
}

void client_ending(void *net_ctx, struct carrier *c, const char *reason)
{
    struct storage_process *p = net_ctx;
    LOG_INFO("boundary", "connection to storage ended", LOG_STR("address", p->address),
             LOG_STR("reason", reason));
}

void client_ended(void *net_ctx, struct carrier *c)
{
    struct storage_process *p = net_ctx;
    ASSERT(p->carrier == c);
    p->carrier = NULL;
    if (p->client->sessions_metric != NULL) {
        metric_add(p->client->sessions_metric, UINT64_MAX); /* a gauge: minus one */
    }
    if (carrier_unfit(c)) {
        dialer_avoid_local(p->dialer);
    } else if (io_now_us(p->client->net) >= p->open_us + LASTED_US) {
        dialer_well(p->dialer);
    }
    if (!p->retired) {
        process_connect(p);
        return;
    }
    struct storage_process **at = &p->client->retired;
    while (*at != p) {
        ASSERT(*at != NULL);
        at = &(*at)->next_retired;
    }
    *at = p->next_retired;
    process_free(p);
}

/* The carrier ends in its own time, on the workers' loops too: client_ended frees what is left. */
static void process_retire(struct storage_process *p)
{
    ASSERT(!p->retired);
    if (p->carrier == NULL) {
        process_free(p);
        return;
    }
    p->retired = true;
    p->next_retired = p->client->retired;
    p->client->retired = p;
    carrier_end_session(p->carrier, err_new(ERR_UNAVAILABLE, "storage has moved"));
}

/* ---- directory ------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* The process of the old directory that a place of the new one is, taken out of it; or NULL. */
static struct storage_process *take_same(struct boundary_client *client, const char *address,
                                         const char *unix_path, uint32_t base, uint32_t workers)
{
    for (size_t i = 0; i < client->processes_len; i++) {
        struct storage_process *p = client->processes[i];
        if (p != NULL && p->worker_base == base && p->workers == workers &&
            same_text(p->address, address) && same_text(p->unix_path, unix_path)) {
            client->processes[i] = NULL;
            return p;
        }
    }
    return NULL;
}

static struct storage_process *process_new(struct boundary_client *client, uint32_t base,
                                           uint32_t workers, const char *address,
                                           const char *unix_path)
{
    struct storage_process *p = MEM_NEW(struct storage_process);
    p->client = client;
    p->worker_base = base;
    p->workers = workers;
    p->address = mem_strdup(address);
    p->unix_path = unix_path != NULL ? mem_strdup(unix_path) : NULL;
    struct dialer_config config = {
        .loop = client->net,
        .address = address,
        .unix_path = client->config.carrier != BOUNDARY_CARRIER_TCP ? unix_path : NULL,
        .node_secret_path = client->config.self.node_secret_path,
        .tls = client->config.tls,
        .arg = p,
        .local_only = client->config.carrier == BOUNDARY_CARRIER_SHM,
        .hello = process_hello,
        .check = process_check,
        .done = process_greeted,
        .failed = process_failed,
    };
    p->dialer = dialer_new(&config);
    return p;
}

void boundary_client_directory(struct boundary_client *client, const char *const *addresses,
                               const char *const *unix_paths, size_t processes,
                               uint32_t workers_per_process)
{
    ASSERT(processes == 0 || workers_per_process > 0);
    ASSERT(processes * workers_per_process <= WORKERS_MAX);
    /* Whoever stays keeps its session; what take_same leaves in the old list is retired. */
    struct storage_process **list = mem_zalloc(sizeof(list[0]) * processes);
    for (size_t i = 0; i < processes; i++) {
        const char *path = unix_paths != NULL ? unix_paths[i] : NULL;
        uint32_t base = (uint32_t)i * workers_per_process;
        list[i] = take_same(client, addresses[i], path, base, workers_per_process);
        if (list[i] == NULL) {
            list[i] = process_new(client, base, workers_per_process, addresses[i], path);
        }
    }
    for (size_t i = 0; i < client->processes_len; i++) {
        if (client->processes[i] != NULL) {
            process_retire(client->processes[i]);
        }
    }
    free(client->processes);
    client->processes = list;
    client->processes_len = processes;
    connect_all(client);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void take_wanted(struct boundary_client *client, uint32_t worker)
{
    if (worker >= WORKERS_MAX) {
        return; /* no directory has it */
    }
    /* Kept by number, not by process: a directory to come may place the worker elsewhere. */
    while (client->wanted_len <= worker) {
        *VEC_PUSH(client, wanted) = 0;
    }
    client->wanted[worker] = 1;
    connect_all(client);
}

static void client_take(void *arg, struct mailbox_item *item)
{
    struct boundary_client *client = arg;
    struct client_item *it = CONTAINER_OF(item, struct client_item, item);
    if (it->kind == CLIENT_REGISTERED) {
        ASSERT(it->index < client->config.workers);
        struct client_worker *w = &client->workers[it->index];
        client->ends[it->index] = (struct carrier_worker){.loop = w->loop, .ctx = w};
        client->registered++;
        ASSERT(client->registered <= client->config.workers);
        connect_all(client);
        return;
    }
    ASSERT(it->kind == CLIENT_WANTED);
    take_wanted(client, it->worker);
    client_item_free(item);
}

err_t boundary_client_new(struct io_loop *net, const struct boundary_client_config *config,
                          struct boundary_client **out)
{
    ASSERT(config->workers > 0 && config->workers <= HELLO_WORKERS_MAX);
    struct boundary_client *client = MEM_NEW(struct boundary_client);
    client->net = net;
    client->config = *config;
    client->self = boundary_hello(net, &config->self, HELLO_COMPUTE, config->workers);
    client->self.nonce = io_random_u64(io_loop_env(net));
    client->workers = mem_zalloc(sizeof(client->workers[0]) * config->workers);
    client->ends = mem_zalloc(sizeof(client->ends[0]) * config->workers);
    client->box = mailbox_new(net, client_take, NULL, client);
    if (config->metrics != NULL) {
        client->sessions_metric = metric_gauge(config->metrics,
                                               "tailrace_boundary_client_sessions", "",
                                               "Storage processes connected to");
        client->connects = metric_counter(config->metrics, "tailrace_boundary_connects_total", "",
                                          "Connections made to storage");
    }
    for (uint32_t i = 0; i < config->workers; i++) {
        client_worker_init(client, i);
    }
    *out = client;
    return ERR_OK;
}

/* At the end, when no worker loop runs: no ending is waited for. */
static void process_destroy(struct storage_process *p)
{
    if (p->carrier != NULL) {
        carrier_destroy(p->carrier);
    }
    process_free(p);
}

void boundary_client_free(struct boundary_client *client)
{
    if (client == NULL) {
        return;
    }
    for (size_t i = 0; i < client->processes_len; i++) {
        process_destroy(client->processes[i]);
    }
    while (client->retired != NULL) {
        struct storage_process *p = client->retired;
        client->retired = p->next_retired;
        process_destroy(p);
    }
    for (uint32_t i = 0; i < client->config.workers; i++) {
        client_worker_free(&client->workers[i]);
    }
    mailbox_free(client->box, client_item_free);
    free(client->processes);
    free(client->wanted);
    free(client->workers);
    free(client->ends);
    free(client);
}

void boundary_client_set_epoch(struct boundary_client *client, uint64_t epoch)
{
    ASSERT(epoch >= client->self.epoch);
    client->self.epoch = epoch;
}
