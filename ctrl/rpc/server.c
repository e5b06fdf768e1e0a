/*
 * The server: accepts connections, routes calls, refuses what it must. See rpc.h.
 *
 * Runs on one loop. Owns its sessions, which own their calls: a call that a method has opened ends
 * before the server does (rpc_server_free closes every session, and the health service asserts that
 * no watcher is left). The order in which a request is judged is that of on_request: is it gRPC,
 * were its headers acceptable, may this peer call this path, and only then whether there is such a
 * method.
 */
#include "core/base/log.h"
#include "core/base/map.h"
#include "ctrl/rpc/rpc_internal.h"
#include "ctrl/rpc/text.h"

TAILQ_HEAD(session_list, rpc_session);

struct rpc_server {
    struct io_loop *loop;
    struct io_listener *listener; /* NULL once draining */
    char *address;                /* bound, with the real port */
    struct tls_context *tls;
    struct rpc_options options;
    struct session_list sessions; /* owned, also while they shake hands */
    uint32_t sessions_len;        /* <= options.connections_max */
    struct strmap methods; /* path -> struct rpc_method, owned */
    struct rpc_health *health;
    struct rpc_reflection *reflection;
    struct io_timer drained_timer; /* tells drained from the loop, never from a caller's frame */
    void (*drained)(void *arg);
    void *drained_arg;
    bool draining;
};

/* ---- routing --------------------------------------------------------------------------------- */

/* The reasons to refuse a request that come from its headers alone; NULL: none. */
static err_t check_encoding(struct rpc_call *call)
{
    const char *encoding = rpc_call_metadata(call, "grpc-encoding", NULL);
    if (encoding != NULL && strcmp(encoding, "identity") != 0) {
        return err_new(ERR_UNSUPPORTED, "message encoding \"%s\" is not offered", encoding);
    }
    size_t len;
    const char *timeout = rpc_call_metadata(call, "grpc-timeout", &len);
    uint64_t us;
    if (timeout == NULL) {
        return ERR_OK;
    }
    if (!rpc_timeout_parse(timeout, len, &us)) {
        return err_new(ERR_INTERNAL, "malformed grpc-timeout \"%s\"", timeout);
    }
    uint64_t now = io_now_us(call->loop);
    call->deadline_us = us > UINT64_MAX - now ? UINT64_MAX : now + us;
    return ERR_OK;
}

/* Asks the owner of the server who may call what. */
static err_t check_caller(struct rpc_server *server, struct rpc_call *call)
{
    ASSERT(call->path != NULL);
    if (server->options.authorize == NULL) {
        return ERR_OK;
    }
    return server->options.authorize(server->options.authorize_arg, rpc_call_peer_name(call),
                                     call->path);
}

/* True when the request is not gRPC at all and was answered as plain HTTP. */
static bool refused_as_http(struct rpc_call *call)
{
    ASSERT(!call->headers_sent);
    if (call->http_method == NULL || strcmp(call->http_method, "POST") != 0) {
        rpc_call_refuse_http(call, "405");
        return true;
    }
    const char *type = rpc_call_metadata(call, "content-type", NULL);
    const size_t prefix = strlen("application/grpc");
    if (type == NULL || strncmp(type, "application/grpc", prefix) != 0 ||
        strchr("+;", type[prefix]) == NULL) { /* strchr finds the terminator too */
        rpc_call_refuse_http(call, "415");
        return true;
    }
    if (call->path == NULL) {
        rpc_call_refuse_http(call, "400");
        return true;
    }
    return false;
}

/* A reason in the log and for the client. Owns err. */
static void refuse(struct rpc_call *call, err_t err)
{
    ASSERT(err != ERR_OK);
    LOG_LIMITED(LOG_LEVEL_WARN, "rpc", "call refused", LOG_STR("path", call->path),
                LOG_STR("peer", rpc_call_peer(call)), LOG_STR("name", rpc_call_peer_name(call)),
                LOG_ERR(err));
    rpc_call_finish_err(call, err);
}

/* From here on the handler knows the call and gets its close. */
static void open_call(struct rpc_call *call, const struct rpc_method *method)
{
    ASSERT(method->handler != NULL && !call->opened);
    call->handler = method->handler;
    call->arg = method->arg;
    call->opened = true;
    rpc_call_arm_deadline(call);
    if (method->open != NULL) {
        /* open may end everything; the call's memory stays while it is dispatched. */
        call->arg = method->open(method->arg, call);
    }
}

/* Calls of our own services may stay open for ever: they must not hold up a drain. */
static bool is_builtin(const struct rpc_call *call)
{
    return call->path != NULL && (strncmp(call->path, "/grpc.health.", 13) == 0 ||
                                  strncmp(call->path, "/grpc.reflection.", 17) == 0);
}

/* A request's headers are complete: refused, or handed to its method. */
static void on_request(void *owner, struct rpc_call *call)
{
    struct rpc_server *server = owner;
    ASSERT(call->request_complete && !call->opened);
    if (refused_as_http(call)) {
        return;
    }
    if (call->have_status) { /* its metadata were already too much */
        call->have_status = false;
        call->status_local = false;
        char *message = call->status_message;
        call->status_message = NULL;
        rpc_call_finish(call, call->status, message);
        free(message);
        return;
    }
    /* Who calls is judged before what is called: strangers learn nothing about the methods. */
    err_t err = check_caller(server, call);
    if (err == ERR_OK) {
        err = check_encoding(call);
    }
    if (err != ERR_OK) {
        refuse(call, err);
        return;
    }
    if (server->draining && is_builtin(call)) {
        refuse(call, err_new(ERR_UNAVAILABLE, "the server is shutting down"));
        return;
    }
    const struct rpc_method *method = strmap_get(&server->methods, call->path);
    if (method == NULL) {
        refuse(call, err_new(ERR_UNSUPPORTED, "there is no method %s", call->path));
        return;
    }
    open_call(call, method);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void drained_fired(struct io_timer *timer)
{
    struct rpc_server *server = CONTAINER_OF(timer, struct rpc_server, drained_timer);
    ASSERT(server->draining && TAILQ_EMPTY(&server->sessions));
    if (server->drained != NULL) {
        server->drained(server->drained_arg);
    }
}

/* The last connection of a draining server is gone: told from the loop. */
static void check_drained(struct rpc_server *server)
{
    if (server->draining && TAILQ_EMPTY(&server->sessions)) {
        io_timer_start(server->loop, &server->drained_timer, io_now_us(server->loop));
    }
}

static void on_ended(void *owner, struct rpc_session *session, const char *reason)
{
    struct rpc_server *server = owner;
    if (session->http2 == NULL && session->tls != NULL && !server->draining) {
        /* It never was one: no certificate, one of another environment, no TLS at all. The peer
         * got TLS's alert; the administrator finds the reason here. */
        LOG_LIMITED(LOG_LEVEL_WARN, "rpc", "connection refused", LOG_STR("reason", reason));
    } else {
        LOG_DEBUG("rpc", "connection ended",
                  LOG_STR("peer", session->peer == NULL ? "" : session->peer),
                  LOG_STR("reason", reason));
    }
    ASSERT(server->sessions_len > 0);
    TAILQ_REMOVE(&server->sessions, session, link);
    server->sessions_len--;
    check_drained(server);
}

static const struct rpc_session_ops session_ops = {.request = on_request, .ended = on_ended};

/* The session takes the stream; TLS and HTTP/2 handshakes are its business. */
static void on_accept(void *arg, struct io_stream *stream)
{
    struct rpc_server *server = arg;
    ASSERT(!server->draining);
    if (server->sessions_len >= server->options.connections_max) {
        LOG_LIMITED(LOG_LEVEL_WARN, "rpc", "connection refused: too many",
                    LOG_STR("peer", io_stream_peer(stream)),
                    LOG_U64("limit", server->options.connections_max));
        io_stream_close(stream);
        return;
    }
    struct rpc_session *session = rpc_session_accept(server->loop, stream, server->tls,
                                                     &server->options, &session_ops, server);
    TAILQ_INSERT_TAIL(&server->sessions, session, link);
    server->sessions_len++;
}

/* ---- public ---------------------------------------------------------------------------------- */

err_t rpc_server_new(struct io_loop *loop, const char *address, struct tls_context *tls,
                     const struct rpc_options *options, struct rpc_server **out)
{
    ASSERT(loop != NULL && address != NULL && out != NULL);
    struct rpc_server *server = MEM_NEW(struct rpc_server);
    server->loop = loop;
    server->tls = tls;
    server->options = rpc_options_complete(options);
    server->drained_timer.fire = drained_fired;
    TAILQ_INIT(&server->sessions);
    err_t err = io_listen(loop, address, on_accept, server, &server->listener);
    if (err != ERR_OK) {
        free(server);
        return err_wrap(err, "listening for RPC on %s", address);
    }
    server->address = mem_strdup(io_listener_address(server->listener));
    server->health = rpc_health_new(server);
    server->reflection = rpc_reflection_new(server);
    *out = server;
    return ERR_OK;
}

static void free_methods(struct rpc_server *server)
{
    ASSERT(server != NULL);
    size_t at = 0;
    const char *path;
    void *method;
    while (strmap_next(&server->methods, &at, &path, &method)) {
        free(method);
    }
    strmap_free(&server->methods);
}

/* By rpc_server_drain or rpc_server_free, whichever comes first. */
static void close_listener(struct rpc_server *server)
{
    if (server->listener != NULL) {
        io_listener_close(server->listener);
        server->listener = NULL;
    }
}

void rpc_server_free(struct rpc_server *server)
{
    if (server == NULL) {
        return;
    }
    close_listener(server);
    io_timer_cancel(server->loop, &server->drained_timer);
    while (!TAILQ_EMPTY(&server->sessions)) {
        struct rpc_session *session = TAILQ_FIRST(&server->sessions);
        TAILQ_REMOVE(&server->sessions, session, link);
        rpc_session_destroy(session, RPC_UNAVAILABLE, "the server stopped");
    }
    rpc_health_free(server->health);
    rpc_reflection_free(server->reflection);
    free_methods(server);
    free(server->address);
    free(server);
}

const char *rpc_server_address(const struct rpc_server *server)
{
    ASSERT(server != NULL);
    return server->address;
}

void rpc_server_add_method(struct rpc_server *server, struct rpc_method method)
{
    ASSERT(method.path != NULL && method.path[0] == '/' && method.handler != NULL);
    ASSERT(strchr(method.path + 1, '/') != NULL);
    struct rpc_method *copy = mem_alloc(sizeof(*copy));
    *copy = method;
    ASSERT(strmap_put(&server->methods, method.path, copy) == NULL);
}

err_t rpc_server_add_descriptors(struct rpc_server *server, const uint8_t *set, size_t len)
{
    ASSERT(server != NULL);
    return rpc_reflection_add(server->reflection, set, len);
}

void rpc_server_set_health(struct rpc_server *server, const char *service, bool serving)
{
    ASSERT(server != NULL && service != NULL);
    rpc_health_set(server->health, service, serving);
}

/* Finishing ends no call before the loop turns, so the list stays as it is while we walk. */
static void finish_builtin_calls(struct rpc_session *session)
{
    struct rpc_call *call;
    TAILQ_FOREACH(call, &session->calls, link) {
        if (call->opened && is_builtin(call)) {
            rpc_call_finish(call, RPC_UNAVAILABLE, "the server is shutting down");
        }
    }
}

void rpc_server_drain(struct rpc_server *server, void (*drained)(void *arg), void *arg)
{
    ASSERT(server != NULL);
    ASSERT(!server->draining);
    server->draining = true;
    server->drained = drained;
    server->drained_arg = arg;
    close_listener(server);
    rpc_health_stop(server->health);
    struct rpc_session *session;
    TAILQ_FOREACH(session, &server->sessions, link) {
        finish_builtin_calls(session);
        rpc_session_drain(session);
    }
    check_drained(server);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Services are not registered: they are what stands before the slash in the methods. */
void rpc_server_each_service(const struct rpc_server *server,
                             void (*each)(void *arg, const char *service), void *arg)
{
    ASSERT(server != NULL && each != NULL);
    char **names = mem_alloc((server->methods.len + 1) * sizeof(*names));
    size_t names_len = 0;
    size_t at = 0;
    const char *path;
    void *method;
    while (strmap_next(&server->methods, &at, &path, &method)) {
        names[names_len++] = mem_strndup(path + 1, (size_t)(strchr(path + 1, '/') - path - 1));
    }
    qsort(names, names_len, sizeof(*names), compare_names);
    for (size_t i = 0; i < names_len; i++) {
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0) {
            each(arg, names[i]);
        }
    }
    for (size_t i = 0; i < names_len; i++) {
        free(names[i]);
    }
    free(names);
}
