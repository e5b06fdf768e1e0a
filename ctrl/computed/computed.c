/*
 * The main loop of computed: the controller's session, the network, what all workers report.
 *
 * States of the process, and what each waits for:
 *
 *     starting      -> all workers have a loop (threads.h)           -> serve
 *     not formed    -> all workers stand in one generation           -> computed_on_formed
 *     formed        -> a session that has said InitializationComplete -> computed_reconcile
 *     running       -> commands are run as they come
 *
 * A generation is one common life of the replica's processes (ring/exchange): state was built from
 * messages of workers that may be gone, so when it ends (computed_on_lost) every dataflow is
 * dropped and the session is ended, which makes the controller replay its history. A session that
 * ends alone drops nothing: the next one decides what is kept.
 *
 * Workers report by mail (worker.c), which may arrive after what it is about is gone. Each kind of
 * news is told apart from stale: frontiers, subscriptions and failures by the dataflow's
 * incarnation, peeks by a local id that is never used again.
 *
 * Commands before the replica stands, or before InitializationComplete, wait as bytes and are run
 * in order: a peek among them finds the index that a dataflow before it creates.
 */
#include "ctrl/computed/computed.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ctrl/computed/computed_internal.h"
#include "ctrl/pki/pki.h"

#include <inttypes.h>

/* ---- news from workers ----------------------------------------------------------------------- */

/* Rows that were not sent are dropped with it. */
static void peek_free(struct computed_peek *peek)
{
    for (size_t i = 0; i < peek->rows_len; i++) {
        buf_free(&peek->rows[i]);
    }
    free(peek->rows);
    err_free(peek->err);
    free(peek);
}

/* Rows lie in the peek's buffers and are only pointed at: nanopb copies them into the message. */
static void peek_answer(struct computed *computed, struct computed_peek *peek)
{
    ASSERT(peek->err != ERR_OK || peek->bytes <= COMPUTED_ANSWER_MAX);
    struct arena arena = {0};
    tailrace_v1_ComputeResponse response = {0};
    response.which_response = tailrace_v1_ComputeResponse_peek_tag;
    tailrace_v1_PeekResponse *out = &response.response.peek;
    out->id = peek->id;
    if (peek->err != ERR_OK) {
        out->has_error = true;
        plan_codec_encode_err(peek->err, &arena, &out->error);
    } else {
        out->rows_count = (pb_size_t)peek->rows_len;
        out->rows = ARENA_ARRAY(&arena, tailrace_v1_Batch, peek->rows_len);
        for (size_t i = 0; i < peek->rows_len; i++) {
            out->rows[i].data = (struct rpc_bytes){peek->rows[i].data, peek->rows[i].len};
        }
    }
    runtime_send(computed->runtime, tailrace_v1_ComputeResponse_fields, &response);
    arena_free(&arena);
}

/* Answered: with an error workers may still be at it, and are told not to be. */
static void peek_finish(struct computed *computed, uint64_t peek_id, struct computed_peek *peek)
{
    ASSERT(peek->err != ERR_OK || peek->waiting == 0);
    void *removed = u64map_remove(&computed->peeks, peek_id);
    ASSERT(removed == peek);
    for (uint32_t w = 0; peek->waiting > 0 && w < computed->config.workers; w++) {
        computed_worker_cancel(&computed->workers[w], peek_id);
    }
    peek_answer(computed, peek);
    peek_free(peek);
}

/* Rows would not fit into one message, which would end the session, and the peek be asked again. */
static err_t too_large(size_t bytes)
{
    return err_hint(err_sql(ERR_LIMIT, "53400",
                            "the result is larger than the %d MiB a process may answer with",
                            COMPUTED_ANSWER_MAX >> 20),
                    "It has at least %zu bytes: select fewer rows or columns, add a LIMIT, or use "
                    "a cluster whose replicas have more processes.", bytes);
}

/* Sets peek->err when that is too much. */
static void peek_add(struct computed_peek *peek, struct buf *rows)
{
    ASSERT(peek->err == ERR_OK && rows->len > 0);
    peek->bytes += rows->len;
    *VEC_PUSH(peek, rows) = *rows;
    *rows = (struct buf){0};
    peek->err = peek->bytes > COMPUTED_ANSWER_MAX ? too_large(peek->bytes) : ERR_OK;
}

void computed_on_peek_rows(struct computed *computed, uint64_t peek_id, struct buf *rows)
{
    struct computed_peek *peek = u64map_get(&computed->peeks, peek_id);
    if (peek == NULL || rows->len == 0) {
        return; /* of an earlier session, or answered with an error */
    }
    peek_add(peek, rows);
    if (peek->err != ERR_OK) {
        peek_finish(computed, peek_id, peek);
    }
}

/*
 * A worker's share of a peek. Takes the content of rows (NULL: none) and err. The first error is
 * the process's answer, at once: a worker whose dataflow failed holds up the others for ever.
 */
void computed_on_peek(struct computed *computed, uint64_t peek_id, struct buf *rows, err_t err)
{
    struct computed_peek *peek = u64map_get(&computed->peeks, peek_id);
    if (peek == NULL) { /* of an earlier session, or answered with an error */
        err_free(err);
        return;
    }
    ASSERT(peek->waiting > 0 && peek->err == ERR_OK);
    peek->waiting--;
    peek->err = err;
    if (err == ERR_OK && rows != NULL && rows->len > 0) {
        peek_add(peek, rows);
    }
    if (peek->err != ERR_OK || peek->waiting == 0) {
        peek_finish(computed, peek_id, peek);
    }
}

/*
 * A piece of a subscription from one worker, passed on as it is: the controller joins the workers'
 * pieces, and replicas'. The buffers stay the caller's.
 */
void computed_on_subscribe(struct computed *computed, uint32_t worker, uint64_t incarnation,
                           uint64_t export_id, uint64_t lower, uint64_t upper,
                           const struct buf *ok, const struct buf *err)
{
    ASSERT(lower <= upper && worker < computed_workers_total(computed));
    const struct computed_export *export = u64map_get(&computed->exports, export_id);
    if (computed->initializing || export == NULL || export->incarnation != incarnation) {
        return; /* of a dataflow that is gone, or about to go */
    }
    if (ok->len + err->len > COMPUTED_ANSWER_MAX) {
        computed_on_failed(computed, incarnation, too_large(ok->len + err->len));
        return;
    }
    tailrace_v1_ComputeResponse response = {0};
    response.which_response = tailrace_v1_ComputeResponse_subscribe_tag;
    tailrace_v1_SubscribeResponse *out = &response.response.subscribe;
    *out = (tailrace_v1_SubscribeResponse){
        .id = export_id, .worker = worker, .lower = lower, .upper = upper};
    out->has_ok = ok->len > 0;
    out->ok.data = (struct rpc_bytes){ok->data, ok->len};
    out->has_err = err->len > 0;
    out->err.data = (struct rpc_bytes){err->data, err->len};
    runtime_send(computed->runtime, tailrace_v1_ComputeResponse_fields, &response);
}

struct computed_flow *computed_find_incarnation(const struct computed *computed,
                                                uint64_t incarnation)
{
    ASSERT(incarnation != 0);
    return u64map_get(&computed->incarnations, incarnation);
}

/*
 * The first worker's failure is the dataflow's. It stays, failed, until the controller drops it:
 * its exports' ids are still taken. Owns err.
 */
void computed_on_failed(struct computed *computed, uint64_t incarnation, err_t err)
{
    ASSERT(err != ERR_OK);
    struct computed_flow *flow = computed_find_incarnation(computed, incarnation);
    if (flow == NULL || flow->failed) {
        err_free(err);
        return;
    }
    flow->failed = true;
    LOG_WARN("computed", "dataflow failed", LOG_U64("id", flow->id),
             LOG_STR("name", flow->plan->name), LOG_ERR(err));
    struct arena arena = {0};
    tailrace_v1_ComputeResponse response = {0};
    response.which_response = tailrace_v1_ComputeResponse_failed_tag;
    response.response.failed.id = flow->id;
    response.response.failed.has_error = true;
    plan_codec_encode_err(err, &arena, &response.response.failed.error);
    runtime_send(computed->runtime, tailrace_v1_ComputeResponse_fields, &response);
    arena_free(&arena);
    err_free(err);
}

/* ---- generations ----------------------------------------------------------------------------- */

static void waiting_clear(struct computed *computed)
{
    for (size_t i = 0; i < computed->waiting_len; i++) {
        buf_free(&computed->waiting[i]);
    }
    computed->waiting_len = 0;
    computed->waiting_complete = false;
    ASSERT(computed->waiting_len == 0);
}

/* Nobody is left to be answered. cancel: the workers still stand, and are told. */
static void peeks_clear(struct computed *computed, bool cancel)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->peeks, &at, &id, &value)) {
        for (uint32_t w = 0; cancel && w < computed->config.workers; w++) {
            computed_worker_cancel(&computed->workers[w], id);
        }
        peek_free(value);
    }
    u64map_free(&computed->peeks);
}

/* Once the session has said what must run and the replica stands. */
static err_t try_reconcile(struct computed *computed)
{
    ASSERT(computed->initializing || !computed->waiting_complete);
    if (!computed->waiting_complete || !computed->formed) {
        return ERR_OK;
    }
    computed->initializing = false;
    err_t err = computed_reconcile(computed);
    waiting_clear(computed);
    computed_frontiers_tell_all(computed);
    return err;
}

/*
 * A worker stands in a generation. The replica does when all workers of this process stand in the
 * same: other processes are waited for by the exchange itself.
 */
void computed_on_formed(struct computed *computed, uint32_t local, uint64_t generation)
{
    ASSERT(local < computed->config.workers && generation != 0);
    computed->generations[local] = generation;
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        if (computed->generations[w] != generation) {
            return;
        }
    }
    computed->formed = true;
    LOG_INFO("computed", "replica formed", LOG_U64("generation", generation));
    err_t err = try_reconcile(computed);
    if (err != ERR_OK) {
        runtime_end_session(computed->runtime, err);
    }
}

/*
 * A worker's generation is over; its engine is a new, empty one already. The others follow by
 * themselves: each has the exchange's word.
 */
void computed_on_lost(struct computed *computed, uint32_t local, const char *reason)
{
    ASSERT(local < computed->config.workers && reason != NULL);
    LOG_WARN("computed", "generation lost", LOG_U64("worker", local), LOG_STR("reason", reason));
    computed->generations[local] = 0;
    computed->formed = false;
    peeks_clear(computed, false);
    computed_drop_everything(computed);
    computed_sources_lost(computed, local);
    runtime_end_session(computed->runtime,
                        err_new(ERR_UNAVAILABLE, "the replica forms anew: %s", reason));
}

/* ---- the session ----------------------------------------------------------------------------- */

/* What runs here, so that the controller asks for it at a time it can be kept from. */
static void send_hello(struct computed *computed)
{
    struct arena arena = {0};
    tailrace_v1_ComputeResponse response = {0};
    response.which_response = tailrace_v1_ComputeResponse_hello_tag;
    tailrace_v1_ComputeHello *hello = &response.response.hello;
    *hello = (tailrace_v1_ComputeHello){.version = RUNTIME_PROTOCOL_VERSION,
                                        .nonce = computed->nonce,
                                        .process = computed->config.process,
                                        .workers = computed->config.workers};
    hello->exports = ARENA_ARRAY(&arena, tailrace_v1_ExportState, computed->exports.len + 1);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->exports, &at, &id, &value)) {
        struct computed_export *export = value;
        const struct computed_flow *flow = u64map_get(&computed->flows, export->dataflow);
        ASSERT(hello->exports_count < computed->exports.len && flow != NULL);
        if (flow->failed) {
            continue; /* the others begin it anew with this process */
        }
        hello->exports[hello->exports_count++] = (tailrace_v1_ExportState){
            .id = id, .since = export->since, .upper = computed_export_upper(computed, export)};
    }
    runtime_send(computed->runtime, tailrace_v1_ComputeResponse_fields, &response);
    arena_free(&arena);
}

/* A new session. Dataflows stay until it has said what must run; peeks are the old one's. */
static void on_hello(void *ctx, uint64_t epoch, uint64_t nonce)
{
    ASSERT(((struct computed *)ctx)->boundary != NULL);
    struct computed *computed = ctx;
    computed->epoch = epoch;
    computed->nonce = nonce;
    computed->initializing = true;
    waiting_clear(computed);
    peeks_clear(computed, true);
    stats_clear(&computed->stats);
    boundary_client_set_epoch(computed->boundary, epoch);
    computed_frontiers_forget_session(computed);
    send_hello(computed);
}

/* While initialising, commands are only looked at for the last of them. */
static err_t on_command(void *ctx, const uint8_t *data, size_t len)
{
    struct computed *computed = ctx;
    ASSERT(runtime_in_session(computed->runtime));
    if (!computed->initializing) {
        return computed_run_command(computed, data, len);
    }
    tailrace_v1_ComputeCommand command;
    TRY(rpc_decode_pb(tailrace_v1_ComputeCommand_fields, &command, data, len));
    bool question = command.which_command == tailrace_v1_ComputeCommand_report_stats_tag;
    if (command.which_command == tailrace_v1_ComputeCommand_initialization_complete_tag) {
        computed->waiting_complete = true;
    } else if (question) { /* no part of the history */
        computed_report_stats(computed, &command.command.report_stats);
    }
    rpc_release_pb(tailrace_v1_ComputeCommand_fields, &command);
    if (question) {
        return ERR_OK;
    }
    buf_append(VEC_PUSH(computed, waiting), data, len);
    return try_reconcile(computed);
}

static void on_lost(void *ctx)
{
    struct computed *computed = ctx;
    computed->initializing = false;
    waiting_clear(computed);
    peeks_clear(computed, true);
    stats_clear(&computed->stats);
}

/* The session's end of the process: runtime.h says when each is called. */
static const struct runtime_handler session_handler = {
    .hello = on_hello, .command = on_command, .lost = on_lost};

/* ---- life ------------------------------------------------------------------------------------ */

/* How other processes know this life of this process from others. */
static struct boundary_identity identity(const struct computed *computed)
{
    struct boundary_identity self = {.service = computed->config.service,
                                     .process = computed->config.process,
                                     .node_secret_path = computed->config.node_secret_path};
    self.generation = io_now_us(computed->loop); /* grows with every start */
    memcpy(self.environment, computed->environment, 16);
    return self;
}

/* The way to storage and, beyond one process, to the replica's other processes. */
static err_t open_network(struct computed *computed)
{
    ASSERT(computed->boundary == NULL && computed->exchange == NULL);
    const struct computed_config *config = &computed->config;
    int carrier = 0;
    TRY(runtime_carrier_parse(config->carrier, &carrier));
    const struct boundary_client_config boundary = {
        .self = identity(computed),
        .tls = computed->tls_client,
        .carrier = (enum boundary_carrier)carrier,
        .workers = config->workers,
        .metrics = config->metrics,
    };
    TRY(boundary_client_new(computed->loop, &boundary, &computed->boundary));
    const struct exchange_config exchange = {
        .process = config->process,
        .processes = config->processes,
        .workers_per_process = config->workers,
        .listen_address = config->compute_address,
        .peers = config->peers,
        .unix_paths = config->peer_sockets,
        .tls_server = computed->tls_server,
        .tls_client = computed->tls_client,
        .check_peer = computed->tls_server != NULL ? runtime_check_peer : NULL,
        .check_ctx = &computed->compute_peers,
        .self = identity(computed),
        .carrier = (enum boundary_carrier)carrier,
        .handler = &computed_exchange_handler,
        .metrics = config->metrics,
    };
    return err_wrap(exchange_new(computed->loop, &exchange, &computed->exchange),
                    "opening the exchange on %s", config->compute_address);
}

/* Every worker has its loop: opens the network, starts the workers, lets the controller come. */
static err_t serve(void *arg)
{
    struct computed *computed = arg;
    ASSERT(computed->runtime == NULL);
    TRY(open_network(computed));
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        computed->workers[w].loop = threads_loop(&computed->threads, w);
        computed_worker_start(&computed->workers[w]);
    }
    const struct runtime_config runtime = {.loop = computed->loop,
                                           .address = computed->config.controller_address,
                                           .environment = computed->config.environment,
                                           .tls = computed->config.tls,
                                           .session_path = "/tailrace.v1.Compute/Session",
                                           .handler = &session_handler,
                                           .ctx = computed};
    TRY(runtime_new(&runtime, &computed->runtime));
    LOG_INFO("computed", "ready for the controller",
             LOG_STR("address", runtime_address(computed->runtime)),
             LOG_U64("process", computed->config.process),
             LOG_U64("workers", computed->config.workers));
    return ERR_OK;
}

/* Checks what flags cannot, then starts the workers; serve follows when they stand. */
static err_t start(struct computed *computed)
{
    ASSERT(computed->workers == NULL);
    const struct computed_config *config = &computed->config;
    if (config->workers == 0 || config->process >= config->processes) {
        return err_new(ERR_INVALID, "process %u of %u with %u workers", config->process,
                       config->processes, config->workers);
    }
    TRY(runtime_environment_parse(config->environment, computed->environment));
    TRY(runtime_tls_context(&config->tls, true, NULL, &computed->tls_server));
    TRY(runtime_tls_context(&config->tls, false, NULL, &computed->tls_client));
    computed->generations = mem_zalloc(config->workers * sizeof(uint64_t));
    computed->workers = mem_zalloc(config->workers * sizeof(computed->workers[0]));
    for (uint32_t w = 0; w < config->workers; w++) {
        computed->workers[w].owner = computed;
        computed->workers[w].local = w;
        computed->workers[w].global = config->process * config->workers + w;
    }
    const struct threads_config threads = {.loop = computed->loop,
                                           .mailroom = &computed->mailroom,
                                           .name = "computed",
                                           .workers = config->workers,
                                           .counters = metrics_counters(config->metrics),
                                           .ready = serve,
                                           .arg = computed};
    return threads_start(&computed->threads, &threads);
}

/* On an error everything is freed: *out is not set. */
err_t computed_start(struct io_loop *loop, const struct computed_config *config,
                     struct computed **out)
{
    ASSERT(loop != NULL && config->environment != NULL && config->carrier != NULL);
    struct computed *computed = MEM_NEW(struct computed);
    computed->config = *config;
    computed->loop = loop;
    computed->compute_peers = (struct runtime_peer_check){
        .environment = config->environment, .roles = PKI_ROLE_BIT(PKI_COMPUTED)};
    mailroom_init(&computed->mailroom);
    computed_stats_init(computed);
    err_t err = start(computed);
    if (err != ERR_OK) {
        computed_free(computed);
        return err;
    }
    *out = computed;
    return ERR_OK;
}

/* The session ends with UNAVAILABLE, which the controller takes for a restart. */
void computed_stop(struct computed *computed, void (*done)(void *arg), void *arg)
{
    threads_stop(&computed->threads, computed->runtime, done, arg);
}

/* Memory only: the workers and their engines are gone. */
static void flows_free(struct computed *computed)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->flows, &at, &id, &value)) {
        struct computed_flow *flow = value;
        plan_free(flow->plan);
        free(flow->sources);
        free(flow);
    }
    u64map_free(&computed->flows);
    u64map_free(&computed->incarnations);
    at = 0;
    while (u64map_next(&computed->exports, &at, &id, &value)) {
        struct computed_export *export = value;
        free(export->uppers);
        free(export->follows);
        free(export);
    }
    u64map_free(&computed->exports);
}

/*
 * The order: no controller, no workers, then the network they used, then mail that points at both.
 */
void computed_free(struct computed *computed)
{
    if (computed == NULL) {
        return;
    }
    runtime_free(computed->runtime);
    for (uint32_t w = 0; computed->workers != NULL && w < computed->config.workers; w++) {
        computed_worker_free(&computed->workers[w]);
    }
    free(computed->workers);
    exchange_free(computed->exchange);
    boundary_client_free(computed->boundary);
    mailroom_free(&computed->mailroom);
    threads_free(&computed->threads);
    tls_context_free(computed->tls_server);
    tls_context_free(computed->tls_client);
    peeks_clear(computed, false);
    stats_clear(&computed->stats);
    flows_free(computed);
    computed_sources_free(computed);
    waiting_clear(computed);
    free(computed->waiting);
    free(computed->moved);
    free(computed->generations);
    free(computed);
}

const char *computed_controller_address(const struct computed *computed)
{
    return computed->runtime != NULL ? runtime_address(computed->runtime) : "";
}

/* For /ready: there is a session, it has said what must run, and the replica can run it. */
bool computed_ready(const struct computed *computed)
{
    return computed->formed && !computed->initializing && runtime_in_session(computed->runtime);
}
