/*
 * The compute controller: clusters, their replicas' sessions, the history a replica is brought back
 * to, frontiers. environmentd's loop.
 *
 * A replica's processes live and die together here: when one session is lost all are started over,
 * so that every process is told the same history and decides alike (ctrl/computed/reconcile.c).
 *
 * A replica is `ready` once all its processes have greeted and the history was sent: from then on
 * commands go to it as they come, before that they only change the history. So no command is missed
 * and none is sent twice: replay() sends and sets ready in one turn of the loop.
 *
 * The history is not a log but the state it would lead to ("reduced"): one CreateDataflow for each
 * dataflow that still has an export, at a time it can be created at now, and the peeks that wait.
 *
 * What a replica said is forgotten with its session (forget_reports), which lowers holds only: an
 * export's upper is monotone, whatever becomes of replicas (progress.c).
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>

/* The connection's owner, by construction (replica_start). */
static struct ctl_replica *replica_of(struct ctl_conn *conn)
{
    ASSERT(conn->owner != NULL);
    return conn->owner;
}

/* A command for all processes of a replica is encoded once. */
static void encode_compute(const tailrace_v1_ComputeCommand *command, struct buf *out)
{
    err_t err = rpc_pb_encode(tailrace_v1_ComputeCommand_fields, command, out);
    ASSERT(err == ERR_OK); /* our own structures, bounded before */
}

/* To every process of the replica that is in session. */
static void replica_send(struct ctl_replica *replica, const struct buf *message)
{
    for (uint32_t p = 0; p < replica->cluster->spec.scale; p++) {
        ctl_conn_send_bytes(&replica->conns[p], message);
    }
}

/* To the replicas that have their history; the others will hear of it by their replay. */
void compute_broadcast(struct ctl_cluster *cluster, const struct buf *message)
{
    ASSERT(message->len > 0);
    for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
        if (cluster->replicas[r].ready) {
            replica_send(&cluster->replicas[r], message);
        }
    }
}

/* ---- where storage is ------------------------------------------------------------------------ */

/* Texts are from the arena. A process that has no address yet is "". */
void compute_storage_directory(struct controller *c, struct arena *arena,
                               tailrace_v1_StorageDirectory *out)
{
    ASSERT(c->config.storage_processes > 0);
    uint32_t processes = c->config.storage_processes;
    *out = (tailrace_v1_StorageDirectory){.workers_per_process = c->config.storage_workers};
    out->processes = ARENA_ARRAY(arena, tailrace_v1_StorageProcess, processes);
    out->processes_count = (pb_size_t)processes;
    for (uint32_t p = 0; p < processes; p++) {
        const char *address =
            orchestrator_address(c->config.orchestrator, "storage", p, "storage");
        out->processes[p].address = arena_strdup(arena, address != NULL ? address : "");
        out->processes[p].unix_path =
            arena_strdup(arena, services_socket(c, arena, "storage", p));
    }
}

/* A storage process has (re)connected: its address may be another one. */
void compute_update_storage(struct controller *c)
{
    struct arena arena = {0};
    struct buf bytes = {0};
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_update_storage_tag;
    compute_storage_directory(c, &arena, &command.command.update_storage);
    encode_compute(&command, &bytes);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->clusters, &at, &id, &value)) {
        compute_broadcast(value, &bytes);
    }
    buf_free(&bytes);
    arena_free(&arena);
}

/* ---- history --------------------------------------------------------------------------------- */

/* The first command of a history. */
static void send_instance(struct ctl_replica *replica)
{
    ASSERT(!replica->ready);
    struct controller *c = replica->cluster->controller;
    struct arena arena = {0};
    struct buf bytes = {0};
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_create_instance_tag;
    command.command.create_instance.cluster = replica->cluster->spec.id;
    command.command.create_instance.replica = replica->index;
    command.command.create_instance.has_storage = true;
    compute_storage_directory(c, &arena, &command.command.create_instance.storage);
    encode_compute(&command, &bytes);
    replica_send(replica, &bytes);
    buf_free(&bytes);
    arena_free(&arena);
}

/* The last command of a history: what was not named in it may go. */
static void send_complete(struct ctl_replica *replica)
{
    ASSERT(!replica->ready);
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_initialization_complete_tag;
    struct buf bytes = {0};
    encode_compute(&command, &bytes);
    replica_send(replica, &bytes);
    buf_free(&bytes);
}

/* Everything the replica must run: the reduced history, then InitializationComplete. */
static void replay(struct ctl_replica *replica)
{
    struct ctl_cluster *cluster = replica->cluster;
    ASSERT(!replica->ready && replica->greeted == cluster->spec.scale);
    send_instance(replica);
    size_t dataflows = 0;
    for (struct ctl_dataflow *d = cluster->first; d != NULL; d = d->next) {
        if (d->as_of_known && !d->failed) {
            dataflow_send(d, replica);
            dataflows++;
        }
    }
    peek_replay(replica);
    send_complete(replica);
    replica->ready = true;
    running_clear(replica);
    LOG_INFO("controller", "replica connected", LOG_STR("service", replica->service),
             LOG_U64("dataflows", dataflows));
}

/* The cluster is announced once every dataflow of the catalog has its as_of. */
static void maybe_replay(struct ctl_replica *replica)
{
    ASSERT(replica->greeted <= replica->cluster->spec.scale);
    if (replica->cluster->announced && !replica->ready &&
        replica->greeted == replica->cluster->spec.scale) {
        replay(replica);
    }
}

void compute_announce(struct ctl_cluster *cluster)
{
    ASSERT(cluster->announced);
    for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
        maybe_replay(&cluster->replicas[r]);
    }
}

/* ---- responses ------------------------------------------------------------------------------- */

void running_clear(struct ctl_replica *replica)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&replica->running, &at, &id, &value)) {
        free(value);
    }
    u64map_free(&replica->running);
}

/*
 * The process stands, and says what it runs. With another number of workers it is of an older
 * configuration, which the orchestrator is about to replace.
 */
static err_t on_hello(struct ctl_conn *conn, const tailrace_v1_ComputeHello *hello)
{
    struct ctl_replica *replica = replica_of(conn);
    if (conn->greeted || hello->nonce != conn->nonce || hello->process != conn->process ||
        hello->workers != replica->cluster->spec.workers) {
        return err_new(ERR_PROTOCOL,
                       "%s process %u greets as process %u with %u workers (expected %u)",
                       conn->service, conn->process, hello->process, hello->workers,
                       replica->cluster->spec.workers);
    }
    conn->greeted = true;
    replica->greeted++;
    ASSERT(replica->greeted <= replica->cluster->spec.scale && !replica->ready);
    for (size_t i = 0; i < hello->exports_count; i++) {
        const tailrace_v1_ExportState *e = &hello->exports[i];
        struct ctl_running *running = u64map_get(&replica->running, e->id);
        if (running == NULL) {
            running = MEM_NEW(struct ctl_running);
            running->upper = FRONTIER_EMPTY;
            u64map_put(&replica->running, e->id, running);
        }
        running->since = e->since > running->since ? e->since : running->since;
        running->upper = e->upper < running->upper ? e->upper : running->upper;
        running->processes++;
    }
    maybe_replay(replica);
    return ERR_OK;
}

/* A dataflow failed in one process, and so on its replica. */
static void on_failed(struct ctl_replica *replica, const tailrace_v1_DataflowFailed *message)
{
    ASSERT(replica->cluster != NULL);
    err_t err = message->has_error ? plan_codec_decode_err(&message->error)
                                   : err_new(ERR_INTERNAL, "dataflow failed without a reason");
    for (struct ctl_dataflow *d = replica->cluster->first; d != NULL; d = d->next) {
        if (d->id == message->id) {
            dataflow_failed(d, replica->index, err);
            return;
        }
    }
    err_free(err);
}

/* Everything but the answer to Hello needs a session that has been answered. */
static err_t handle(struct ctl_conn *conn, const tailrace_v1_ComputeResponse *response)
{
    ASSERT(conn->call != NULL);
    if (!conn->greeted && response->which_response != tailrace_v1_ComputeResponse_hello_tag) {
        return err_new(ERR_PROTOCOL, "a response before the answer to Hello");
    }
    struct ctl_replica *replica = replica_of(conn);
    switch (response->which_response) {
    case tailrace_v1_ComputeResponse_hello_tag: return on_hello(conn, &response->response.hello);
    case tailrace_v1_ComputeResponse_frontiers_tag:
        progress_take(replica, conn->process, &response->response.frontiers);
        return ERR_OK;
    case tailrace_v1_ComputeResponse_peek_tag:
        return peek_response(replica, conn->process, &response->response.peek);
    case tailrace_v1_ComputeResponse_subscribe_tag:
        subscribe_response(replica, &response->response.subscribe);
        return ERR_OK;
    case tailrace_v1_ComputeResponse_failed_tag:
        on_failed(replica, &response->response.failed);
        return ERR_OK;
    case tailrace_v1_ComputeResponse_stats_tag:
        return report_response(conn, &response->response.stats);
    default: return err_new(ERR_PROTOCOL, "unknown response %u", response->which_response);
    }
}

static err_t on_message(struct ctl_conn *conn, const uint8_t *data, size_t len)
{
    tailrace_v1_ComputeResponse response;
    TRY(rpc_decode_pb(tailrace_v1_ComputeResponse_fields, &response, data, len));
    err_t err = handle(conn, &response);
    rpc_release_pb(tailrace_v1_ComputeResponse_fields, &response);
    return err;
}

/*
 * What the replica said is void until it says it again. Pieces of subscriptions too: the replica
 * will send them again from where it starts.
 */
static void forget_reports(struct ctl_replica *replica)
{
    for (struct ctl_dataflow *d = replica->cluster->first; d != NULL; d = d->next) {
        for (uint32_t i = 0; i < d->exports_len; i++) {
            struct ctl_export *export = d->exports[i];
            if (export != NULL) {
                memset(export->replicas[replica->index].uppers, 0,
                       replica->cluster->spec.scale * sizeof(uint64_t));
                memset(export->replicas[replica->index].follows, 0,
                       replica->cluster->spec.scale * sizeof(bool));
                subscribe_reset(export, replica->index);
            }
        }
    }
}

/* The other processes' sessions are ended too: they greet again and are told the whole history. */
static void on_lost(struct ctl_conn *conn, const char *reason)
{
    ASSERT(!conn->greeted && reason != NULL);
    struct ctl_replica *replica = replica_of(conn);
    bool was = replica->ready;
    replica->ready = false;
    report_lost(conn->controller, replica->service, UINT32_MAX, reason);
    if (was) {
        peek_replica_lost(replica);
        forget_reports(replica);
    }
    replica->greeted = 0;
    running_clear(replica);
    progress_forget(replica);
    for (uint32_t p = 0; p < replica->cluster->spec.scale; p++) {
        if (&replica->conns[p] != conn && replica->conns[p].greeted) {
            ctl_conn_restart(&replica->conns[p]);
        }
    }
}

static const struct ctl_conn_ops compute_ops = {.path = "/tailrace.v1.Compute/Session",
                                                .role = PKI_COMPUTED,
                                                .message = on_message,
                                                .lost = on_lost};

/* ---- clusters -------------------------------------------------------------------------------- */

/* On an error the cluster is freed by the caller; what was made so far is in *replica. */
static err_t replica_start(struct ctl_cluster *cluster, uint32_t index)
{
    ASSERT(index < cluster->spec.replicas);
    struct controller *c = cluster->controller;
    struct ctl_replica *replica = &cluster->replicas[index];
    replica->cluster = cluster;
    replica->index = index;
    struct buf name = {0};
    buf_printf(&name, "cluster-%" PRIu64 "-replica-%u", cluster->spec.id, index);
    replica->service = mem_strdup(buf_cstr(&name));
    buf_free(&name);
    TRY(services_replica_ensure(c, replica));
    struct ctl_conn *conns = mem_zalloc(cluster->spec.scale * sizeof(conns[0]));
    for (uint32_t p = 0; p < cluster->spec.scale; p++) {
        ctl_conn_init(&conns[p], c, &compute_ops, replica, replica->service, p);
    }
    replica->conns = conns;
    replica->sources = mem_zalloc(cluster->spec.scale * sizeof(replica->sources[0]));
    return ERR_OK;
}

/* Also of a replica whose start failed half way. */
static void replica_free(struct ctl_replica *replica)
{
    ASSERT(replica->conns == NULL || replica->cluster != NULL);
    for (uint32_t p = 0; replica->conns != NULL && p < replica->cluster->spec.scale; p++) {
        ctl_conn_free(&replica->conns[p]);
    }
    free(replica->conns);
    progress_forget(replica);
    free(replica->sources);
    free(replica->service);
    running_clear(replica);
    services_args_free(replica->args);
}

/* Memory and connections; services are drop_services' business. */
static void cluster_free(struct ctl_cluster *cluster)
{
    while (cluster->first != NULL) {
        struct ctl_dataflow *dataflow = cluster->first;
        cluster->first = dataflow->next;
        dataflow_free(dataflow);
    }
    for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
        replica_free(&cluster->replicas[r]);
    }
    free(cluster->replicas);
    free(cluster->name);
    free(cluster);
}

/* A service that cannot be dropped is found by the next start (drop_stale_services). */
static void drop_services(struct ctl_cluster *cluster)
{
    for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
        if (cluster->replicas[r].service == NULL) {
            continue;
        }
        struct controller *c = cluster->controller;
        const char *service = cluster->replicas[r].service;
        err_t err = orchestrator_drop_service(c->config.orchestrator, service);
        if (err != ERR_OK) {
            LOG_WARN("controller", "service not dropped", LOG_STR("service", service),
                     LOG_ERR(err));
            err_free(err);
        }
        for (uint32_t p = 0; p < cluster->spec.scale; p++) {
            services_forget(c, service, p);
        }
    }
}

/* Bounds are those of what goes over the wire: 256 processes of 256 workers, 16 replicas. */
err_t controller_cluster_create(struct controller *c, const struct controller_cluster_spec *spec)
{
    ASSERT(spec->id != 0 && spec->name != NULL);
    if (u64map_get(&c->clusters, spec->id) != NULL) {
        return err_new(ERR_EXISTS, "cluster %" PRIu64 " exists already", spec->id);
    }
    if (spec->scale == 0 || spec->workers == 0 || spec->scale > CONTROLLER_SCALE_MAX ||
        spec->workers > CONTROLLER_WORKERS_MAX || spec->replicas > CONTROLLER_REPLICAS_MAX) {
        return err_new(ERR_INVALID, "cluster of %u replicas of %u processes of %u workers",
                       spec->replicas, spec->scale, spec->workers);
    }
    struct ctl_cluster *cluster = MEM_NEW(struct ctl_cluster);
    cluster->controller = c;
    cluster->spec = *spec;
    cluster->name = mem_strdup(spec->name);
    cluster->spec.name = cluster->name;
    cluster->announced = c->initialized;
    cluster->replicas = mem_zalloc((spec->replicas + 1) * sizeof(cluster->replicas[0]));
    for (uint32_t r = 0; r < spec->replicas; r++) {
        err_t err = replica_start(cluster, r);
        if (err != ERR_OK) {
            drop_services(cluster);
            cluster_free(cluster);
            return err_wrap(err, "cluster %s", spec->name);
        }
    }
    u64map_put(&c->clusters, spec->id, cluster);
    return ERR_OK;
}

/* Peeks first: they point at the cluster. */
void controller_cluster_drop(struct controller *c, uint64_t id)
{
    struct ctl_cluster *cluster = u64map_remove(&c->clusters, id);
    if (cluster == NULL) {
        return;
    }
    peek_fail_cluster(c, cluster,
                      err_new(ERR_NOT_FOUND, "the cluster was dropped while it was read"));
    for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
        report_lost(c, cluster->replicas[r].service, UINT32_MAX, "its cluster was dropped");
    }
    drop_services(cluster);
    cluster_free(cluster);
}

bool controller_cluster_ready(const struct controller *c, uint64_t id)
{
    const struct ctl_cluster *cluster = u64map_get(&c->clusters, id);
    for (uint32_t r = 0; cluster != NULL && r < cluster->spec.replicas; r++) {
        if (cluster->replicas[r].ready) {
            return true;
        }
    }
    return false;
}

/* Of the cluster's replicas taken together; upper 0: nothing is known yet. */
bool controller_index_frontiers(const struct controller *c, uint64_t cluster, uint64_t index,
                                uint64_t *since, uint64_t *upper)
{
    ASSERT(since != NULL && upper != NULL);
    struct ctl_export *export = u64map_get(&c->exports, index);
    if (export == NULL || export->cluster->spec.id != cluster) {
        return false;
    }
    *since = export->since;
    *upper = progress_upper(export);
    return true;
}

const struct plan *controller_plan(const struct controller *c, uint64_t cluster,
                                   uint64_t dataflow)
{
    /* An item's dataflow exports itself: a table of many operators asks for each of them. */
    const struct ctl_export *export = u64map_get(&c->exports, dataflow);
    if (export != NULL && export->cluster->spec.id == cluster && export->dataflow->id == dataflow) {
        return export->dataflow->plan;
    }
    const struct ctl_cluster *k = u64map_get(&c->clusters, cluster);
    for (const struct ctl_dataflow *d = k != NULL ? k->first : NULL; d != NULL; d = d->next) {
        if (d->id == dataflow) {
            return d->plan;
        }
    }
    return NULL;
}

/* A replica that was given the export at as_of has it once its frontier is beyond. */
static void tell_hydration(const struct ctl_export *export, uint32_t replica,
                           void (*each)(void *, const struct controller_hydration *), void *arg)
{
    const struct ctl_export_replica *there = &export->replicas[replica];
    uint64_t upper = progress_replica_upper(export, replica);
    const struct controller_hydration one = {
        .cluster = export->cluster->spec.id,
        .index = export->id,
        .dataflow = export->dataflow->id,
        .replica = replica,
        .ready = export->cluster->replicas[replica].ready,
        .hydrated = there->as_of != FRONTIER_EMPTY && upper > there->as_of,
        .failed = there->failed,
    };
    each(arg, &one);
}

void controller_hydrations(const struct controller *c,
                           void (*each)(void *arg, const struct controller_hydration *one),
                           void *arg)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->exports, &at, &id, &value)) {
        const struct ctl_export *export = value;
        for (uint32_t r = 0; r < export->cluster->spec.replicas; r++) {
            if (export->kind == PLAN_EXPORT_INDEX) {
                tell_hydration(export, r, each, arg);
            }
        }
    }
}

/* Peeks and failures are gone; exports go with their dataflows. */
void compute_free_all(struct controller *c)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->clusters, &at, &id, &value)) {
        cluster_free(value);
    }
    u64map_free(&c->clusters);
    ASSERT(c->exports.len == 0);
    u64map_free(&c->exports);
    ASSERT(c->readers[0].len == 0 && c->readers[1].len == 0);
    u64map_free(&c->readers[0]);
    u64map_free(&c->readers[1]);
}
