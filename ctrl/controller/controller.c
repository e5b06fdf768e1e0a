/*
 * Life of the controllers, and what comes from the orchestrator. environmentd's loop.
 *
 * Order at start: controller_new ensures the storage service and begins to connect; the adapter
 * then creates again what the catalog holds (collections, clusters, dataflows);
 * controller_initialized says that this was all. Only from then on may anything be dropped that
 * nobody named: services of clusters that are gone, collections of storage, dataflows of replicas.
 * Before it a replica's history is not replayed, because a history that lacks a view would make the
 * replica drop it.
 *
 * Ids that processes compare over restarts grow with the epoch: peeks and incarnations begin at
 * epoch << 40, so those of an earlier environmentd are always smaller.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

/* A process of a cluster came or went: its connection need not wait for its back-off. */
static void poke_replica(struct controller *c, const struct orchestrator_event *event)
{
    ASSERT(event->service != NULL && event->reason != NULL);
    bool known = false;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->clusters, &at, &id, &value)) {
        struct ctl_cluster *cluster = value;
        for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
            struct ctl_replica *replica = &cluster->replicas[r];
            if (strcmp(replica->service, event->service) != 0 ||
                event->process >= cluster->spec.scale) {
                continue;
            }
            known = true;
            if (event->state == ORCHESTRATOR_READY) {
                ctl_conn_poke(&replica->conns[event->process]);
            }
            if (c->config.events->replica_status != NULL) {
                c->config.events->replica_status(c->config.ctx, id, r, event->process,
                                                 event->state == ORCHESTRATOR_READY,
                                                 event->reason);
            }
        }
    }
    if (c->initialized && !known && event->state == ORCHESTRATOR_NOT_READY) {
        services_forget(c, event->service, event->process); /* the last of a dropped one */
    }
}

/* Storage's processes and replicas' are told apart by the service's name, which is ours to give. */
static void on_service_event(void *arg, const struct orchestrator_event *event)
{
    ASSERT(event->state == ORCHESTRATOR_READY || event->state == ORCHESTRATOR_NOT_READY);
    struct controller *c = arg;
    LOG_INFO("controller", "process", LOG_STR("service", event->service),
             LOG_U64("process", event->process),
             LOG_STR("state", event->state == ORCHESTRATOR_READY ? "ready" : "not ready"),
             LOG_STR("reason", event->reason));
    if (strcmp(event->service, "storage") != 0) {
        poke_replica(c, event);
    } else if (event->state == ORCHESTRATOR_READY &&
               event->process < c->config.storage_processes) {
        ctl_conn_poke(&c->storage[event->process]);
    }
}

err_t controller_new(const struct controller_config *config, struct controller **out)
{
    ASSERT(config->loop != NULL && config->orchestrator != NULL && config->events != NULL);
    ASSERT(config->epoch > 0);
    ASSERT(config->storage_processes > 0 && config->storage_workers > 0);
    struct controller *c = MEM_NEW(struct controller);
    c->config = *config;
    c->loop = config->loop;
    c->next_peek = config->epoch << 40;
    c->next_incarnation = config->epoch << 40; /* beyond those of earlier epochs */
    err_t err = storage_start(c);
    if (err != ERR_OK) {
        controller_free(c);
        return err;
    }
    orchestrator_watch_services(config->orchestrator, on_service_event, c);
    *out = c;
    return ERR_OK;
}

/*
 * Peeks and failures point at clusters, clusters' replicas at connections: in that order. Callbacks
 * that were not made are not made any more.
 */
void controller_free(struct controller *c)
{
    if (c == NULL) {
        return;
    }
    orchestrator_watch_services(c->config.orchestrator, NULL, NULL);
    peek_free_all(c);
    report_free_all(c);
    failures_free(c);
    compute_free_all(c);
    storage_free_all(c);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->holds, &at, &id, &value)) {
        free(value);
    }
    u64map_free(&c->holds);
    at = 0;
    while (u64map_next(&c->receivers, &at, &id, &value)) {
        free(value);
    }
    u64map_free(&c->receivers);
    free(c);
}

/* Services a predecessor left for clusters the catalog does not hold any more. */
struct stale_services {
    struct controller *controller;
    char **names;
    size_t names_len, names_cap;
};

/* The list must not change while it is walked: names are gathered, then dropped. */
static bool collect_stale(void *arg, const char *service, uint32_t scale)
{
    ASSERT(service != NULL && scale > 0);
    struct stale_services *stale = arg;
    bool wanted = strcmp(service, "storage") == 0;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (!wanted && u64map_next(&stale->controller->clusters, &at, &id, &value)) {
        struct ctl_cluster *cluster = value;
        for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
            wanted = wanted || strcmp(cluster->replicas[r].service, service) == 0;
        }
    }
    if (!wanted) {
        *VEC_PUSH(stale, names) = mem_strdup(service);
    }
    return true;
}

static void drop_stale_services(struct controller *c)
{
    ASSERT(c->initialized);
    struct stale_services stale = {.controller = c};
    orchestrator_list_services(c->config.orchestrator, collect_stale, &stale);
    for (size_t i = 0; i < stale.names_len; i++) {
        LOG_INFO("controller", "dropping a service the catalog does not hold",
                 LOG_STR("service", stale.names[i]));
        err_t err = orchestrator_drop_service(c->config.orchestrator, stale.names[i]);
        if (err != ERR_OK) {
            LOG_WARN("controller", "service not dropped", LOG_ERR(err));
            err_free(err);
        }
        free(stale.names[i]);
    }
    free(stale.names);
}

/* Once, in the end of the start. */
void controller_initialized(struct controller *c)
{
    ASSERT(!c->initialized);
    c->initialized = true;
    drop_stale_services(c);
    services_sweep(c);
    storage_initialized(c);
    dataflow_try_start(c);
}

/* One row of mz_processes and of environmentd's readiness. */
static void tell_process(struct controller *c, const struct ctl_conn *conn, uint64_t cluster,
                         uint32_t replica,
                         void (*each)(void *, const struct controller_process_info *), void *arg)
{
    ASSERT(conn->service != NULL && each != NULL);
    const char *address = orchestrator_address(c->config.orchestrator, conn->service,
                                               conn->process, "controller");
    const struct controller_process_info info = {.service = conn->service,
                                                 .cluster = cluster,
                                                 .replica = replica,
                                                 .process = conn->process,
                                                 .address = address != NULL ? address : "",
                                                 .connected = conn->greeted};
    each(arg, &info);
}

/* Of all services, also those whose process is not there. */
void controller_processes(const struct controller *controller,
                          void (*each)(void *arg, const struct controller_process_info *info),
                          void *arg)
{
    ASSERT(each != NULL);
    struct controller *c = CONTAINER_OF(&controller->config, struct controller, config);
    for (uint32_t p = 0; p < c->config.storage_processes; p++) {
        tell_process(c, &c->storage[p], 0, 0, each, arg);
    }
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->clusters, &at, &id, &value)) {
        struct ctl_cluster *cluster = value;
        for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
            for (uint32_t p = 0; p < cluster->spec.scale; p++) {
                tell_process(c, &cluster->replicas[r].conns[p], id, r, each, arg);
            }
        }
    }
}
