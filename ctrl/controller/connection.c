/*
 * The session with one process: see controller_internal.h. environmentd's loop.
 *
 * A connection is in one of these states, told by its fields:
 *
 *     waiting     call NULL, the timer is armed
 *     greeting    call set, !greeted: Hello was sent, its answer is awaited
 *     session     call set, greeted: commands go out (ctl_conn_send drops them otherwise)
 *
 * There is no fourth: whatever ends a call arms the timer (retry_later), and the timer opens a call
 * or arms itself again. What was dropped while not in session is not lost: the owner replays its
 * history when the process has greeted.
 *
 * The nonce of a Hello comes back in its answer, so that an answer to an earlier Hello on the same
 * connection is never taken for this one's.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

enum {
    BACKOFF_MIN_US = 10 * 1000,
    BACKOFF_MAX_US = 500 * 1000,
    KEEPALIVE_US = 2 * 1000 * 1000, /* a silent peer is given up after twice this */
};

/* Whoever listens on the port must hold a certificate of this environment for that role. */
static err_t authorize(void *arg, const char *peer_name, const char *path)
{
    struct ctl_conn *conn = arg;
    ASSERT(conn->ops != NULL);
    if (conn->controller->config.tls == NULL) {
        return ERR_OK;
    }
    return pki_check_peer(peer_name, conn->controller->config.environment,
                          PKI_ROLE_BIT(conn->ops->role));
}

/* Doubles the pause each time; a process that became ready ends it early (ctl_conn_poke). */
static void retry_later(struct ctl_conn *conn)
{
    ASSERT(conn->call == NULL && conn->backoff_us >= BACKOFF_MIN_US);
    ASSERT(conn->backoff_us <= BACKOFF_MAX_US);
    uint64_t now = io_now_us(conn->controller->loop);
    io_timer_start(conn->controller->loop, &conn->retry, now + conn->backoff_us);
    conn->backoff_us = conn->backoff_us * 2 > BACKOFF_MAX_US ? BACKOFF_MAX_US
                                                              : conn->backoff_us * 2;
}

/* Abandoned: no callback of the call follows. Fields first, because freeing may run others'. */
static void close_channel(struct ctl_conn *conn)
{
    struct rpc_call *call = conn->call;
    struct rpc_channel *channel = conn->channel;
    conn->call = NULL;
    conn->channel = NULL;
    conn->greeted = false;
    if (call != NULL) {
        rpc_call_abandon(call);
    }
    rpc_channel_free(channel);
    ASSERT(conn->call == NULL && !conn->greeted);
}

/*
 * What the process said. An error means that it and we disagree: the session starts over, and the
 * history is replayed.
 */
static void on_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct ctl_conn *conn = arg;
    ASSERT(call == conn->call);
    err_t err = conn->ops->message(conn, data, len);
    if (err == ERR_OK) {
        return;
    }
    LOG_ERROR("controller", "message refused", LOG_STR("service", conn->service), LOG_ERR(err));
    struct buf reason = {0};
    buf_append_str(&reason, err_text(err));
    err_free(err);
    close_channel(conn);
    conn->ops->lost(conn, buf_cstr(&reason));
    buf_free(&reason);
    retry_later(conn);
}

/* The end of the call, however it came. A process that is just not there is no news. */
static void on_close(void *arg, struct rpc_call *call, enum rpc_status status, const char *message)
{
    ASSERT(message != NULL);
    struct ctl_conn *conn = arg;
    if (call != conn->call) {
        return;
    }
    conn->call = NULL;
    bool was = conn->greeted;
    conn->greeted = false;
    if (was || status != RPC_UNAVAILABLE) {
        LOG_WARN("controller", "session ended", LOG_STR("service", conn->service),
                 LOG_U64("process", conn->process), LOG_STR("status", rpc_status_name(status)),
                 LOG_STR("reason", message));
    }
    conn->ops->lost(conn, message);
    retry_later(conn);
}

static const struct rpc_handler session_handler = {.message = on_message, .close = on_close};

/* One channel a session: TLS, HTTP/2, one call, Hello. */
static err_t open_session(struct ctl_conn *conn)
{
    ASSERT(conn->channel == NULL && conn->call == NULL);
    struct controller *c = conn->controller;
    const char *address =
        orchestrator_address(c->config.orchestrator, conn->service, conn->process, "controller");
    if (address == NULL) {
        return err_new(ERR_UNAVAILABLE, "no address of %s process %u yet", conn->service,
                       conn->process);
    }
    const struct rpc_options options = {.message_max = CONTROLLER_MESSAGE_MAX,
                                        .window = 4 << 20,
                                        .keepalive_us = KEEPALIVE_US,
                                        .keepalive_wait_us = KEEPALIVE_US,
                                        .authorize = authorize,
                                        .authorize_arg = conn};
    TRY(rpc_channel_new(c->loop, address, c->config.tls, NULL, &options, &conn->channel));
    TRY(rpc_call_start(conn->channel, conn->ops->path, 0, NULL, 0, &session_handler, conn,
                       &conn->call));
    /* Hello is field 1 of both services' commands. */
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_hello_tag;
    conn->nonce = io_random_u64(io_loop_env(c->loop));
    union {
        const char *in;
        char *out; /* nanopb only reads it */
    } borrowed = {.in = c->config.environment};
    command.command.hello = (tailrace_v1_Hello){.version = CONTROLLER_PROTOCOL_VERSION,
                                                .environment = borrowed.out,
                                                .epoch = c->config.epoch,
                                                .nonce = conn->nonce};
    return rpc_call_send_pb(conn->call, tailrace_v1_StorageCommand_fields, &command);
}

/* From the timer only: never from inside a callback of the call that is closed here. */
static void try_now(struct ctl_conn *conn)
{
    ASSERT(conn->service != NULL);
    close_channel(conn);
    err_t err = open_session(conn);
    if (err != ERR_OK) {
        LOG_DEBUG("controller", "cannot connect", LOG_STR("service", conn->service),
                  LOG_ERR(err));
        err_free(err);
        close_channel(conn);
        retry_later(conn);
    }
}

static void retry_fire(struct io_timer *timer)
{
    try_now(CONTAINER_OF(timer, struct ctl_conn, retry));
}

/* *conn is the caller's memory and must not move: the timer and callbacks point at it. */
void ctl_conn_init(struct ctl_conn *conn, struct controller *controller,
                   const struct ctl_conn_ops *ops, void *owner, const char *service,
                   uint32_t process)
{
    ASSERT(ops->message != NULL && ops->lost != NULL && ops->path[0] == '/');
    *conn = (struct ctl_conn){.controller = controller,
                              .ops = ops,
                              .owner = owner,
                              .service = mem_strdup(service),
                              .process = process,
                              .backoff_us = BACKOFF_MIN_US};
    conn->retry.fire = retry_fire;
    io_timer_start(controller->loop, &conn->retry, io_now_us(controller->loop));
}

/* Nothing while a session stands, or is being opened. */
void ctl_conn_poke(struct ctl_conn *conn)
{
    ASSERT(conn->controller != NULL);
    if (conn->greeted) {
        return;
    }
    conn->backoff_us = BACKOFF_MIN_US;
    if (conn->call == NULL) {
        io_timer_start(conn->controller->loop, &conn->retry, io_now_us(conn->controller->loop));
    }
}

/* The process is told nothing: its stream ends, and another one begins with Hello. */
void ctl_conn_restart(struct ctl_conn *conn)
{
    ASSERT(conn->controller != NULL);
    close_channel(conn);
    conn->backoff_us = BACKOFF_MIN_US;
    retry_later(conn);
}

void ctl_conn_send(struct ctl_conn *conn, const pb_msgdesc_t *fields, const void *message)
{
    ASSERT(fields != NULL && message != NULL);
    if (conn->call == NULL || !conn->greeted) {
        return;
    }
    err_t err = rpc_call_send_pb(conn->call, fields, message);
    if (err != ERR_OK) { /* a command we made ourselves and cannot encode */
        LOG_ERROR("controller", "command not sent", LOG_STR("service", conn->service),
                  LOG_ERR(err));
        err_free(err);
    }
}

void ctl_conn_send_bytes(struct ctl_conn *conn, const struct buf *bytes)
{
    ASSERT(bytes->len > 0);
    if (conn->call != NULL && conn->greeted) {
        rpc_call_send(conn->call, bytes->data, bytes->len);
    }
}

/* Also in the middle of a session; the process only sees the connection go. */
void ctl_conn_free(struct ctl_conn *conn)
{
    ASSERT(conn->controller != NULL);
    io_timer_cancel(conn->controller->loop, &conn->retry);
    close_channel(conn);
    free(conn->service);
}
