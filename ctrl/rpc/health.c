/*
 * grpc.health.v1.Health: Check and Watch over the servers' own statement of how they are. Runs on
 * the server's loop. A watcher is a call that stays open; it is told the state when it asks, and
 * each change after that, until the server drains. What may queue for a watcher who does not read
 * is two bytes a change of health, which our own processes cause and no peer can.
 */
#include "core/base/map.h"
#include "ctrl/rpc/rpc_internal.h"

#include "proto/grpc/health/v1/health.pb.h"

typedef grpc_health_v1_HealthCheckResponse_ServingStatus serving_status;

/* One open Watch; lives from open to close of its call. */
struct watcher {
    TAILQ_ENTRY(watcher) link;
    struct rpc_health *health;
    struct rpc_call *call;
    char *service; /* NULL until the request came */
};
TAILQ_HEAD(watcher_list, watcher);

struct rpc_health {
    struct strmap services; /* name -> status + 1 */
    struct watcher_list watchers;
};

/* UNKNOWN (0) is stored as 1, as a map's value is never NULL. */
static bool find(const struct rpc_health *health, const char *service, serving_status *out)
{
    ASSERT(service != NULL);
    uintptr_t value = (uintptr_t)strmap_get(&health->services, service);
    if (value == 0) {
        return false;
    }
    *out = (serving_status)(value - 1);
    return true;
}

static void respond(struct rpc_call *call, serving_status status)
{
    grpc_health_v1_HealthCheckResponse response = {.status = status};
    err_t err = rpc_call_send_pb(call, grpc_health_v1_HealthCheckResponse_fields, &response);
    ASSERT(err == ERR_OK); /* one enum can always be encoded */
}

/* The service a request asks about; the caller frees it. */
static err_t read_service(const uint8_t *data, size_t len, char **out)
{
    ASSERT(out != NULL);
    grpc_health_v1_HealthCheckRequest request = {0};
    TRY(rpc_decode_pb(grpc_health_v1_HealthCheckRequest_fields, &request, data, len));
    *out = mem_strdup(request.service == NULL ? "" : request.service);
    rpc_release_pb(grpc_health_v1_HealthCheckRequest_fields, &request);
    return ERR_OK;
}

/* ---- Check ----------------------------------------------------------------------------------- */

/* The whole call: one request, one answer or NOT_FOUND. */
static void check_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct rpc_health *health = arg;
    char *service;
    err_t err = read_service(data, len, &service);
    if (err != ERR_OK) {
        rpc_call_finish_err(call, err);
        return;
    }
    serving_status status;
    if (find(health, service, &status)) {
        respond(call, status);
        rpc_call_finish(call, RPC_OK, "");
    } else {
        rpc_call_finish_err(call, err_new(ERR_NOT_FOUND, "no service \"%s\"", service));
    }
    free(service);
}

static void no_request(void *arg, struct rpc_call *call)
{
    rpc_call_finish(call, RPC_INVALID_ARGUMENT, "a request message is missing");
}

static const struct rpc_handler check_handler = {
    .message = check_message,
    .half_close = no_request,
};

/* ---- Watch ----------------------------------------------------------------------------------- */

/* A watcher tells the present state first, so it waits for the request to know the service. */
static void *watch_open(void *arg, struct rpc_call *call)
{
    struct rpc_health *health = arg;
    struct watcher *watcher = MEM_NEW(struct watcher);
    watcher->health = health;
    watcher->call = call;
    TAILQ_INSERT_TAIL(&health->watchers, watcher, link);
    return watcher;
}

/* An unknown service is a state too: it may come. */
static void tell(struct watcher *watcher)
{
    ASSERT(watcher->service != NULL);
    serving_status status;
    if (!find(watcher->health, watcher->service, &status)) {
        status = grpc_health_v1_HealthCheckResponse_ServingStatus_SERVICE_UNKNOWN;
    }
    respond(watcher->call, status);
}

/* The request; there is exactly one. */
static void watch_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct watcher *watcher = arg;
    ASSERT(watcher->call == call);
    if (watcher->service != NULL) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "more than one request message");
        return;
    }
    err_t err = read_service(data, len, &watcher->service);
    if (err != ERR_OK) {
        rpc_call_finish_err(call, err);
        return;
    }
    tell(watcher);
}

static void watch_half_close(void *arg, struct rpc_call *call)
{
    struct watcher *watcher = arg;
    if (watcher->service == NULL) {
        no_request(NULL, call);
    }
}

static void watch_close(void *arg, struct rpc_call *call, enum rpc_status status,
                        const char *message)
{
    ASSERT(((struct watcher *)arg)->call == call);
    struct watcher *watcher = arg;
    TAILQ_REMOVE(&watcher->health->watchers, watcher, link);
    free(watcher->service);
    free(watcher);
}

static const struct rpc_handler watch_handler = {
    .message = watch_message,
    .half_close = watch_half_close,
    .close = watch_close,
};

/* ---- module ---------------------------------------------------------------------------------- */

struct rpc_health *rpc_health_new(struct rpc_server *server)
{
    struct rpc_health *health = MEM_NEW(struct rpc_health);
    TAILQ_INIT(&health->watchers);
    rpc_health_set(health, "", true);
    rpc_server_add_method(server, (struct rpc_method){.path = "/grpc.health.v1.Health/Check",
                                                      .handler = &check_handler,
                                                      .arg = health});
    rpc_server_add_method(server, (struct rpc_method){.path = "/grpc.health.v1.Health/Watch",
                                                      .handler = &watch_handler,
                                                      .open = watch_open,
                                                      .arg = health});
    return health;
}

void rpc_health_free(struct rpc_health *health)
{
    ASSERT(health != NULL && TAILQ_EMPTY(&health->watchers));
    strmap_free(&health->services);
    free(health);
}

/* Tells watchers of changes only. */
void rpc_health_stop(struct rpc_health *health)
{
    struct watcher *watcher;
    TAILQ_FOREACH(watcher, &health->watchers, link) {
        if (watcher->service != NULL) {
            respond(watcher->call, grpc_health_v1_HealthCheckResponse_ServingStatus_NOT_SERVING);
        }
        rpc_call_finish(watcher->call, RPC_UNAVAILABLE, "the server is shutting down");
    }
}

void rpc_health_set(struct rpc_health *health, const char *service, bool serving)
{
    ASSERT(health != NULL && service != NULL);
    serving_status status = serving ? grpc_health_v1_HealthCheckResponse_ServingStatus_SERVING
                                    : grpc_health_v1_HealthCheckResponse_ServingStatus_NOT_SERVING;
    serving_status before;
    if (find(health, service, &before) && before == status) {
        return;
    }
    strmap_put(&health->services, service, (void *)((uintptr_t)status + 1));
    struct watcher *watcher;
    TAILQ_FOREACH(watcher, &health->watchers, link) {
        if (watcher->service != NULL && strcmp(watcher->service, service) == 0) {
            tell(watcher);
        }
    }
}
