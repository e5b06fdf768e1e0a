/*
 * The client: one address, at most one connection that takes new calls, and earlier ones that
 * drain. See rpc.h.
 *
 * Runs on one loop. A call is in one of two places: in waiting while current connects, or on a
 * session. There is no reconnection on its own: a lost connection ends its calls, and the next
 * rpc_call_start makes one attempt. Backing off is the caller's, who knows how urgent it is.
 */
#include "core/base/log.h"
#include "ctrl/rpc/rpc_internal.h"

TAILQ_HEAD(session_list, rpc_session);

struct rpc_channel {
    struct io_loop *loop;
    char *address;
    char *server_name; /* NULL: authorize judges */
    struct tls_context *tls;      /* borrowed; NULL: cleartext */
    struct rpc_options options;   /* complete; sessions and calls point to it */
    struct session_list sessions; /* current and draining ones */
    struct rpc_session *current;  /* connecting or connected; NULL: none */
    bool connected;               /* current takes calls */
    struct rpc_call_list waiting; /* for current to connect */
    struct io_timer fail_timer;   /* connecting failed at once: tell the calls from the loop */
    char *fail_reason;
    bool freed;
    unsigned busy;
};

static void channel_free(struct rpc_channel *channel)
{
    ASSERT(channel->busy == 0 && TAILQ_EMPTY(&channel->sessions));
    ASSERT(TAILQ_EMPTY(&channel->waiting));
    free(channel->address);
    free(channel->server_name);
    free(channel->fail_reason);
    free(channel);
}

static void enter(struct rpc_channel *channel)
{
    channel->busy++;
}

static void leave(struct rpc_channel *channel)
{
    ASSERT(channel->busy > 0);
    channel->busy--;
    if (channel->busy == 0 && channel->freed) {
        channel_free(channel);
    }
}

/* Ends the calls that wait now; those their handlers start meanwhile wait for the next try. */
static void end_waiting(struct rpc_channel *channel, enum rpc_status status, const char *reason)
{
    ASSERT(reason != NULL);
    struct rpc_call_list batch = TAILQ_HEAD_INITIALIZER(batch);
    struct rpc_call *call;
    TAILQ_CONCAT(&batch, &channel->waiting, link);
    TAILQ_FOREACH(call, &batch, link) {
        call->list = &batch;
    }
    enter(channel);
    while ((call = TAILQ_FIRST(&batch)) != NULL) {
        rpc_session_unlink(call);
        if (call->have_status) { /* cancelled while waiting */
            rpc_call_end(call, call->status, call->status_message);
        } else {
            rpc_call_end(call, status, reason);
        }
    }
    leave(channel);
}

/* ---- the connection -------------------------------------------------------------------------- */

/* The server is there and is who it should be: the calls that waited go out, in order. */
static err_t on_ready(void *owner, struct rpc_session *session)
{
    struct rpc_channel *channel = owner;
    ASSERT(session == channel->current && !channel->connected);
    if (channel->options.authorize != NULL) {
        TRY(err_wrap(
            channel->options.authorize(channel->options.authorize_arg, session->peer_name, ""),
            "the server at %s", channel->address));
    }
    channel->connected = true;
    struct rpc_call *call;
    while ((call = TAILQ_FIRST(&channel->waiting)) != NULL) {
        rpc_session_unlink(call);
        rpc_session_link(call, session, &session->calls);
        if (call->have_status) { /* cancelled while waiting: its timer is under way */
            rpc_call_lose(call, "cancelled");
            rpc_session_mark_ready(call);
        } else {
            rpc_call_submit_request(call, session, channel->tls != NULL);
        }
    }
    return ERR_OK;
}

/* The connection takes no new calls; those on it go on. */
static void on_draining(void *owner, struct rpc_session *session)
{
    ASSERT(owner != NULL);
    struct rpc_channel *channel = owner;
    if (session == channel->current) {
        channel->current = NULL; /* new calls make a new connection */
        channel->connected = false;
    }
}

/* Calls on it were told by the session; those that waited for it are told here. */
static void on_ended(void *owner, struct rpc_session *session, const char *reason)
{
    struct rpc_channel *channel = owner;
    TAILQ_REMOVE(&channel->sessions, session, link);
    LOG_DEBUG("rpc", "channel lost its connection", LOG_STR("address", channel->address),
              LOG_STR("reason", reason));
    if (session != channel->current) {
        return;
    }
    channel->current = NULL;
    channel->connected = false;
    struct buf text = {0};
    buf_printf(&text, "connecting to %s: %s", channel->address, reason);
    end_waiting(channel, RPC_UNAVAILABLE, buf_cstr(&text));
    buf_free(&text);
}

static const struct rpc_session_ops session_ops = {
    .ready = on_ready,
    .draining = on_draining,
    .ended = on_ended,
};

/* The attempt failed before it began (a bad address): from the loop, like any failure. */
static void fail_timer_fired(struct io_timer *timer)
{
    struct rpc_channel *channel = CONTAINER_OF(timer, struct rpc_channel, fail_timer);
    char *reason = channel->fail_reason;
    channel->fail_reason = NULL;
    end_waiting(channel, RPC_UNAVAILABLE, reason);
    free(reason);
}

/* One attempt. Trying again is the caller's decision: it starts another call. */
static void connect_now(struct rpc_channel *channel)
{
    ASSERT(channel->current == NULL && !channel->connected);
    if (channel->fail_reason != NULL) {
        return; /* has just failed: the calls so far are about to be told */
    }
    err_t err =
        rpc_session_connect(channel->loop, channel->address, channel->tls, channel->server_name,
                            &channel->options, &session_ops, channel, &channel->current);
    if (err != ERR_OK) {
        channel->current = NULL;
        channel->fail_reason = mem_strdup(err_text(err));
        err_free(err);
        io_timer_start(channel->loop, &channel->fail_timer, io_now_us(channel->loop));
        return;
    }
    TAILQ_INSERT_TAIL(&channel->sessions, channel->current, link);
}

/* ---- public ---------------------------------------------------------------------------------- */

err_t rpc_channel_new(struct io_loop *loop, const char *address, struct tls_context *tls,
                      const char *server_name, const struct rpc_options *options,
                      struct rpc_channel **out)
{
    ASSERT(loop != NULL && address != NULL && out != NULL);
    if (address[0] == '\0') {
        return err_new(ERR_INVALID, "an RPC channel needs an address");
    }
    struct rpc_channel *channel = MEM_NEW(struct rpc_channel);
    channel->loop = loop;
    channel->address = mem_strdup(address);
    channel->server_name = server_name == NULL ? NULL : mem_strdup(server_name);
    channel->tls = tls;
    channel->options = rpc_options_complete(options);
    channel->fail_timer.fire = fail_timer_fired;
    TAILQ_INIT(&channel->sessions);
    TAILQ_INIT(&channel->waiting);
    *out = channel;
    return ERR_OK;
}

/* May be called from any callback of its calls: memory goes on the way out. */
void rpc_channel_free(struct rpc_channel *channel)
{
    if (channel == NULL || channel->freed) {
        return;
    }
    const char *reason = "the channel was closed";
    enter(channel);
    channel->freed = true;
    channel->current = NULL;
    io_timer_cancel(channel->loop, &channel->fail_timer);
    while (!TAILQ_EMPTY(&channel->sessions)) {
        struct rpc_session *session = TAILQ_FIRST(&channel->sessions);
        TAILQ_REMOVE(&channel->sessions, session, link);
        rpc_session_destroy(session, RPC_CANCELLED, reason);
    }
    end_waiting(channel, RPC_CANCELLED, reason);
    leave(channel);
}

bool rpc_channel_connected(const struct rpc_channel *channel)
{
    ASSERT(channel != NULL);
    return channel->connected;
}

/* "/package.Service/Method": what an HTTP/2 header may carry and a server can route. */
static err_t check_path(const char *path)
{
    ASSERT(path != NULL);
    if (path[0] != '/' || strchr(path + 1, '/') == NULL || strpbrk(path, " \t\r\n") != NULL) {
        return err_new(ERR_INVALID, "\"%s\" is not a method path", path);
    }
    return ERR_OK;
}

/* Sends the call now or keeps it until the connection stands. */
static void start(struct rpc_channel *channel, struct rpc_call *call)
{
    ASSERT(call->session == NULL && call->list == NULL);
    rpc_call_arm_deadline(call);
    if (channel->connected) {
        rpc_session_link(call, channel->current, &channel->current->calls);
        rpc_call_submit_request(call, channel->current, channel->tls != NULL);
        return;
    }
    rpc_session_link(call, NULL, &channel->waiting);
    if (channel->current == NULL) {
        connect_now(channel);
    }
}

err_t rpc_call_start(struct rpc_channel *channel, const char *path, uint64_t deadline_us,
                     const struct rpc_metadata *metadata, size_t metadata_len,
                     const struct rpc_handler *handler, void *arg, struct rpc_call **out)
{
    ASSERT(channel != NULL && path != NULL && handler != NULL && out != NULL);
    TRY(check_path(path));
    if (channel->freed) {
        return err_new(ERR_CANCELLED, "the channel was closed");
    }
    struct rpc_call *call = rpc_call_new(channel->loop, &channel->options);
    for (size_t i = 0; i < metadata_len; i++) {
        err_t err = rpc_metadata_add(&call->headers, metadata[i]);
        if (err != ERR_OK) {
            rpc_call_release(call);
            return err;
        }
    }
    call->channel = channel;
    call->path = mem_strdup(path);
    call->deadline_us = deadline_us;
    call->handler = handler;
    call->arg = arg;
    call->opened = true;
    start(channel, call);
    *out = call;
    return ERR_OK;
}

/* ---- one request, one response --------------------------------------------------------------- */

/* Lives with its call (free_arg): also when the call is abandoned and close never runs. */
struct unary {
    rpc_unary_fn done;
    void *arg;
    struct buf response;
    bool have_response;
    bool too_many;
};

static void unary_free(void *arg)
{
    ASSERT(arg != NULL);
    struct unary *unary = arg;
    buf_free(&unary->response);
    free(unary);
}

/* The response. A second one is a broken server, told at the end. */
static void unary_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct unary *unary = arg;
    unary->too_many = unary->have_response;
    unary->have_response = true;
    buf_clear(&unary->response);
    buf_append(&unary->response, data, len);
}

/* Exactly one callback for the caller, whatever happened. */
static void unary_close(void *arg, struct rpc_call *call, enum rpc_status status,
                        const char *message)
{
    struct unary *unary = arg;
    if (status == RPC_OK && (!unary->have_response || unary->too_many)) {
        status = RPC_INTERNAL;
        message = unary->too_many ? "more than one response" : "no response";
    }
    unary->done(unary->arg, status, message, unary->response.data, unary->response.len);
}

static const struct rpc_handler unary_handler = {.message = unary_message, .close = unary_close};

err_t rpc_call_unary(struct rpc_channel *channel, const char *path, uint64_t deadline_us,
                     const void *request, size_t len, rpc_unary_fn done, void *arg,
                     struct rpc_call **out)
{
    ASSERT(done != NULL);
    struct unary *unary = MEM_NEW(struct unary);
    unary->done = done;
    unary->arg = arg;
    struct rpc_call *call;
    err_t err = rpc_call_start(channel, path, deadline_us, NULL, 0, &unary_handler, unary, &call);
    if (err != ERR_OK) {
        free(unary);
        return err;
    }
    call->free_arg = unary_free;
    rpc_call_send(call, request, len);
    rpc_call_half_close(call);
    if (out != NULL) {
        *out = call;
    }
    return ERR_OK;
}
