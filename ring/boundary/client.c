/*
 * The net loop's half of the boundary client: one struct storage_process per process of the
 * directory, which connects once somebody wants one of its workers, and again whenever the session
 * ended, with back-off. One that left the directory is retired: its session ends, and it is freed
 * when the workers have let go.
 */
#include "core/base/log.h"
#include "ring/boundary/client_internal.h"
#include "ring/frame/greeting.h"
#include "ring/tcp/tcp.h"

enum { BACKOFF_MIN_US = 10 * 1000, BACKOFF_MAX_US = 1000 * 1000, WORKERS_MAX = 1 << 20 };

struct storage_process {
    struct boundary_client *client;
    uint32_t worker_base; /* storage workers it has */
    uint32_t workers;
    char *address;
    char *unix_path; /* may be NULL */
    struct greeting *greeting;
    struct carrier *carrier; /* open or ending */
    struct io_timer retry;
    uint64_t backoff_us;
    bool retired;
    struct storage_process *next_retired;
};

static void process_connect(struct storage_process *p);

/* ---- connecting ------------------------------------------------------------------------------ */

static void process_retry(struct io_timer *timer)
{
    process_connect(CONTAINER_OF(timer, struct storage_process, retry));
}

static void process_later(struct storage_process *p)
{
    ASSERT(p->greeting == NULL && p->carrier == NULL && !p->retired);
    struct io_loop *net = p->client->net;
    io_timer_start(net, &p->retry, io_now_us(net) + p->backoff_us);
    p->backoff_us = p->backoff_us * 2 < BACKOFF_MAX_US ? p->backoff_us * 2 : BACKOFF_MAX_US;
}

/* Tells the workers that these storage workers will not have us; owns reason. */
static void process_refused(struct storage_process *p, err_t reason)
{
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

static void process_failed(struct storage_process *p, err_t reason, bool for_good)
{
    if (for_good) {
        p->backoff_us = BACKOFF_MAX_US;
        process_refused(p, reason);
    } else {
        LOG_DEBUG("boundary", "storage is not reachable", LOG_STR("address", p->address),
                  LOG_ERR(reason));
        err_free(reason);
    }
    process_later(p);
}

static void client_greeting_failed(void *arg, struct greeting *greeting, err_t reason,
                                   enum hello_refusal refusal)
{
    struct storage_process *p = arg;
    ASSERT(p->greeting == greeting);
    p->greeting = NULL;
    process_failed(p, reason, refusal != 0 && !hello_refusal_transient(refusal));
}

static err_t check_welcome(const struct storage_process *p, const struct hello *ours,
                           const struct hello *theirs)
{
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

static void client_greeted(void *arg, struct greeting *greeting, struct io_stream *stream,
                           const struct hello *ours, const struct hello *theirs,
                           const uint8_t *rest, size_t rest_len)
{
    struct storage_process *p = arg;
    struct boundary_client *client = p->client;
    ASSERT(p->greeting == greeting && p->carrier == NULL);
    p->greeting = NULL;
    err_t err = check_welcome(p, ours, theirs);
    if (err != ERR_OK) {
        io_stream_close(stream);
        process_failed(p, err, err_code(err) == ERR_PERMISSION);
        return;
    }
    p->backoff_us = BACKOFF_MIN_US;
    struct carrier_config config = {.net = client->net, .host = &boundary_client_host,
                                    .net_ctx = p, .workers = client->ends,
                                    .workers_len = client->config.workers, .ours = ours,
                                    .theirs = theirs};
    LOG_INFO("boundary", "connected to storage", LOG_U64("process", theirs->process),
             LOG_STR("address", p->address), LOG_STR("carrier", "tcp"));
    if (client->sessions_metric != NULL) {
        metric_add(client->sessions_metric, 1);
        metric_add(client->connects, 1);
    }
    p->carrier = tcp_carrier_new(&config, stream, rest, rest_len);
}

static bool process_wanted(const struct storage_process *p)
{
    for (uint32_t i = p->worker_base; i < p->worker_base + p->workers; i++) {
        if (i < p->client->wanted_len && p->client->wanted[i] != 0) {
            return true;
        }
    }
    return false;
}

/* Begins to connect if there is a reason to and nothing is under way. */
static void process_connect(struct storage_process *p)
{
    struct boundary_client *client = p->client;
    if (p->retired || p->greeting != NULL || p->carrier != NULL ||
        client->registered < client->config.workers || !process_wanted(p)) {
        return;
    }
    io_timer_cancel(client->net, &p->retry);
    struct greeting_config config = {.loop = client->net, .tls = client->config.tls, .arg = p,
                                     .done = client_greeted, .failed = client_greeting_failed};
    struct hello hello = client->self;
    hello.challenge = io_random_u64(io_loop_env(client->net));
    err_t err = greeting_connect(&config, p->address, &hello, &p->greeting);
    if (err != ERR_OK) {
        p->greeting = NULL;
        process_failed(p, err, err_code(err) == ERR_INVALID);
    }
}

static void connect_all(struct boundary_client *client)
{
    for (size_t i = 0; i < client->processes_len; i++) {
        if (client->processes[i]->retry.heap_at == 0) { /* else it will try by itself */
            process_connect(client->processes[i]);
        }
    }
}

/* ---- sessions ending ------------------------------------------------------------------------- */

static void process_free(struct storage_process *p)
{
    io_timer_cancel(p->client->net, &p->retry);
    greeting_cancel(p->greeting);
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
    if (!p->retired) {
        process_later(p);
        return;
    }
    struct storage_process **at = &p->client->retired;
    while (*at != p) {
        at = &(*at)->next_retired;
    }
    *at = p->next_retired;
    process_free(p);
}

static void process_retire(struct storage_process *p)
{
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

void boundary_client_directory(struct boundary_client *client, const char *const *addresses,
                               const char *const *unix_paths, size_t processes,
                               uint32_t workers_per_process)
{
    ASSERT(processes == 0 || workers_per_process > 0);
    ASSERT(processes * workers_per_process <= WORKERS_MAX);
    struct storage_process **list = mem_zalloc(sizeof(list[0]) * processes);
    for (size_t i = 0; i < processes; i++) {
        const char *path = unix_paths != NULL ? unix_paths[i] : NULL;
        uint32_t base = (uint32_t)i * workers_per_process;
        list[i] = take_same(client, addresses[i], path, base, workers_per_process);
        if (list[i] == NULL) {
            list[i] = MEM_NEW(struct storage_process);
            list[i]->client = client;
            list[i]->worker_base = base;
            list[i]->workers = workers_per_process;
            list[i]->address = mem_strdup(addresses[i]);
            list[i]->unix_path = path != NULL ? mem_strdup(path) : NULL;
            list[i]->backoff_us = BACKOFF_MIN_US;
            list[i]->retry.fire = process_retry;
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
