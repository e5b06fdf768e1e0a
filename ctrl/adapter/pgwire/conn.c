/*
 * pgwire: bytes in, framing, and the life of a connection.
 *
 * A connection lives on the server's loop: bytes come by on_data, answers' room by on_drain, its
 * end by on_close, and the session may finish a request at any time in between (pgwire_done). All
 * of them lead to pgwire_conn_process, which hands on one message at a time.
 *
 * Its life: STARTUP -> [TLS -> STARTUP] -> [SASL -> SASL_FINAL] -> OPEN -> DEAD. Any state may go
 * to DEAD, from where there is no way back; on_reap frees it. Since a session may be on the stack
 * when its connection dies, everything that runs behind a call into the session looks at the phase
 * first.
 */
#include "ctrl/adapter/pgwire/pgwire_internal.h"

#include "core/base/assert.h"
#include "core/base/log.h"

/* One timer, two meanings: a client that does not authenticate in time, and one that asks
 * nothing. */
static void on_timeout(struct io_timer *timer)
{
    struct pgwire_conn *conn = CONTAINER_OF(timer, struct pgwire_conn, timeout);
    if (conn->phase == PGWIRE_DEAD) {
        return;
    }
    if (conn->phase == PGWIRE_OPEN && conn->transaction == 'I') {
        pgwire_fatal(conn, err_sql(ERR_TIMEOUT, "57P05",
                                   "terminating connection due to idle-session timeout"));
    } else if (conn->phase == PGWIRE_OPEN) {
        pgwire_fatal(conn, err_sql(ERR_TIMEOUT, "25P03",
                                   "terminating connection due to idle-in-transaction timeout"));
    } else {
        pgwire_fatal(conn,
                     err_sql(ERR_TIMEOUT, "08006", "canceling authentication due to timeout"));
    }
}

/* From the loop, with nothing of the connection on the stack. */
static void on_reap(struct io_timer *timer)
{
    ASSERT(timer != NULL);
    pgwire_conn_free(CONTAINER_OF(timer, struct pgwire_conn, reap));
}

/* The caller puts it into the server's list. The start-up timer runs from now on: a port scanner
 * must not hold memory for ever. */
struct pgwire_conn *pgwire_conn_new(struct pgwire_server *server, struct io_stream *stream)
{
    struct io_loop *loop = server->config.loop;
    struct pgwire_conn *conn = MEM_NEW(struct pgwire_conn);
    ASSERT(server != NULL && stream != NULL);
    conn->server = server;
    conn->stream = stream;
    conn->transaction = 'I';
    conn->idle_us = server->config.idle_timeout_us;
    conn->idle_transaction_us = server->config.idle_timeout_us;
    conn->timeout.fire = on_timeout;
    conn->reap.fire = on_reap;
    io_stream_set_handler(stream, &pgwire_stream_handler, conn);
    io_stream_set_high_water(stream, PGWIRE_HIGH_WATER / 2);
    io_timer_start(loop, &conn->timeout, io_now_us(loop) + server->config.startup_timeout_us);
    return conn;
}

/* Takes down what the connection still has; the order matters: the session first (its close may
 * still look at the server), then the stream, then what the server knows of it. */
void pgwire_conn_free(struct pgwire_conn *conn)
{
    struct pgwire_server *server = conn->server;
    ASSERT(!conn->processing);
    io_timer_cancel(server->config.loop, &conn->timeout);
    io_timer_cancel(server->config.loop, &conn->reap);
    conn->phase = PGWIRE_DEAD;
    /* close must see a connection that is dead: whatever it sends goes nowhere. */
    if (conn->session != NULL) {
        server->config.backend->close(conn->session);
        conn->session = NULL;
    }
    if (conn->stream != NULL) {
        io_stream_close(conn->stream);
    }
    if (conn->pid != 0) {
        void *was = u64map_remove(&server->by_pid, conn->pid);
        ASSERT(was == conn && server->open_len > 0);
        server->open_len--;
        if (server->connections != NULL) {
            metric_set(server->connections, (int64_t)server->open_len);
        }
    }
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        ASSERT(server->conns == conn);
        server->conns = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    server->conns_len--;
    buf_free(&conn->in);
    buf_free(&conn->out);
    buf_free(&conn->startup);
    scram_exchange_free(&conn->scram);
    free(conn->settings);
    free(conn);
}

/* The stream is gone or finishing: the connection is freed from the loop, since a session or the
 * framing below may be on the stack. */
static void conn_bury(struct pgwire_conn *conn)
{
    struct io_loop *loop = conn->server->config.loop;
    ASSERT(conn->phase != PGWIRE_DEAD);
    conn->phase = PGWIRE_DEAD;
    conn->stream = NULL;
    io_timer_cancel(loop, &conn->timeout);
    io_timer_start(loop, &conn->reap, io_now_us(loop));
}

/* Terminate, or the end of a cancel request's connection. */
void pgwire_conn_drop(struct pgwire_conn *conn)
{
    if (conn->phase == PGWIRE_DEAD) {
        return;
    }
    pgwire_flush(conn); /* answers to what came before still go out */
    io_stream_finish(conn->stream);
    conn_bury(conn);
}

/* FATAL tells the client that the connection is over; it need not parse the message. */
void pgwire_fatal(struct pgwire_conn *conn, err_t err)
{
    ASSERT(err != ERR_OK);
    if (conn->phase == PGWIRE_DEAD) {
        err_free(err);
        return;
    }
    if (err_code(err) == ERR_PERMISSION) { /* somebody may be trying passwords */
        LOG_LIMITED(LOG_LEVEL_WARN, "pgwire", "client refused",
                    LOG_STR("peer", io_stream_peer(conn->stream)), LOG_ERR(err));
    } else {
        LOG_DEBUG("pgwire", "connection ended", LOG_STR("peer", io_stream_peer(conn->stream)),
                  LOG_ERR(err));
    }
    pgwire_out_error(conn, 'E', "FATAL", err);
    err_free(err);
    pgwire_flush(conn);
    io_stream_finish(conn->stream);
    conn_bury(conn);
}

/* The start-up packet has no type byte; 0 when it is not complete yet. */
static bool take_startup(struct pgwire_conn *conn)
{
    size_t left = conn->in.len - conn->in_at;
    ASSERT(conn->phase == PGWIRE_STARTUP);
    if (left < 4) {
        return false;
    }
    const uint8_t *p = conn->in.data + conn->in_at;
    uint32_t len = pgwire_u32(p);
    if (len < 8 || len > PGWIRE_STARTUP_MAX) {
        pgwire_fatal(conn, err_sql(ERR_PROTOCOL, "08P01", "invalid length of startup packet"));
        return false;
    }
    if (left < len) {
        return false;
    }
    conn->in_at += len;
    pgwire_startup_packet(conn, p + 4, len - 4);
    return true;
}

/* Before authentication nobody may make us allocate much. */
static size_t message_limit(const struct pgwire_conn *conn)
{
    return conn->phase == PGWIRE_OPEN ? conn->server->config.max_message_bytes
                                      : PGWIRE_STARTUP_MAX;
}

/* False when it is not complete yet, or the connection has ended. A length is checked before it is
 * waited for: a client that announces 2 GiB is told at once. The body is handed on in place. */
static bool take_message(struct pgwire_conn *conn)
{
    size_t left = conn->in.len - conn->in_at;
    ASSERT(conn->phase != PGWIRE_STARTUP);
    if (left < PGWIRE_HEADER) {
        return false;
    }
    const uint8_t *p = conn->in.data + conn->in_at;
    uint32_t len = pgwire_u32(p + 1);
    if (len < 4 || len > message_limit(conn)) {
        pgwire_fatal(conn, err_sql(ERR_PROTOCOL, "08P01", "invalid message length"));
        return false;
    }
    if (left < (size_t)len + 1) {
        return false;
    }
    conn->in_at += (size_t)len + 1;
    if (conn->phase == PGWIRE_OPEN) {
        pgwire_message(conn, (char)p[0], p + PGWIRE_HEADER, len - 4);
    } else if (p[0] == 'p') {
        pgwire_startup_password(conn, p + PGWIRE_HEADER, len - 4);
    } else {
        pgwire_fatal(conn, err_sql(ERR_PROTOCOL, "08P01", "expected password response, got message "
                                   "type %d", p[0]));
    }
    return true;
}

/* True when the next message may be handled now. A request under way stops the next, but for the
 * messages of its own COPY. */
static bool may_take(const struct pgwire_conn *conn)
{
    if (conn->phase == PGWIRE_DEAD || conn->phase == PGWIRE_TLS || conn->blocked) {
        return false;
    }
    return conn->request == 0 || conn->copy_in;
}

/* Reads from the peer only as long as what waits is bounded. What waits is at most PGWIRE_IN_MAX
 * and the message that is being received, which max_message_bytes bounds. */
static void adjust_reading(struct pgwire_conn *conn)
{
    bool want_pause = !may_take(conn) && conn->in.len - conn->in_at > PGWIRE_IN_MAX;
    ASSERT(conn->stream != NULL);
    if (want_pause != conn->paused) {
        conn->paused = want_pause;
        if (want_pause) {
            io_stream_pause(conn->stream);
        } else {
            io_stream_resume(conn->stream);
        }
    }
}

/* How long the client may be silent now; 0: for ever. */
static uint64_t idle_limit(const struct pgwire_conn *conn)
{
    return conn->transaction == 'I' ? conn->idle_us : conn->idle_transaction_us;
}

/* Armed while nothing is under way; the messages of one request each call this, which costs a timer
 * re-arm a request and nothing per row. */
static void watch_idleness(struct pgwire_conn *conn)
{
    uint64_t limit = idle_limit(conn);
    struct io_loop *loop = conn->server->config.loop;
    if (conn->phase != PGWIRE_OPEN) {
        return;
    }
    if (conn->request == 0 && limit > 0) {
        io_timer_start(loop, &conn->timeout, io_now_us(loop) + limit);
    } else {
        io_timer_cancel(loop, &conn->timeout);
    }
}

void pgwire_set_idle(struct pgwire_conn *conn, uint64_t idle_us, uint64_t in_transaction_us)
{
    uint64_t server = conn->server->config.idle_timeout_us;
    conn->idle_us = idle_us > 0 ? idle_us : server;
    conn->idle_transaction_us = in_transaction_us > 0 ? in_transaction_us : server;
    /* The timer follows when the request that asked for it is over. */
}

/* Empties a buffer; one that a large message made large gives its memory back: thousands of clients
 * may be idle. */
static void rest(struct buf *buf)
{
    if (buf->cap > PGWIRE_BUF_KEPT) {
        buf_free(buf);
    } else {
        buf_clear(buf);
    }
}

/* The one loop of a connection. Re-entrant calls return at once: pgwire_done inside a handler only
 * has to clear conn->request, the loop below goes on by itself. So a client that pipelines a
 * million statements that end at once does not deepen the stack. */
void pgwire_conn_process(struct pgwire_conn *conn)
{
    if (conn->processing) {
        return;
    }
    conn->processing = true;
    while (may_take(conn)) {
        /* Either may end the connection, or leave a request under way. */
        bool more = conn->phase == PGWIRE_STARTUP ? take_startup(conn) : take_message(conn);
        if (!more) {
            break;
        }
        /* No request is begun while a megabyte of answers waits. */
        if (conn->phase != PGWIRE_DEAD && !pgwire_writable(conn)) {
            conn->blocked = true; /* a client that pipelines and does not read */
        }
    }
    conn->processing = false;
    ASSERT(conn->in_at <= conn->in.len);
    if (conn->phase == PGWIRE_DEAD) {
        return;
    }
    /* Consuming moves what is left to the front: only worth it once much was handled. */
    if (conn->in_at == conn->in.len) {
        rest(&conn->in);
        conn->in_at = 0;
    } else if (conn->in_at > PGWIRE_OUT_CHUNK) {
        buf_consume(&conn->in, conn->in_at);
        conn->in_at = 0;
    }
    pgwire_flush(conn);
    if (conn->request == 0) {
        rest(&conn->out);
    }
    adjust_reading(conn);
    watch_idleness(conn);
}

/* No descriptors are ever passed on these sockets. */
static void on_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct pgwire_conn *conn = arg;
    ASSERT(conn->stream != NULL && fds_len == 0);
    buf_append(&conn->in, data, len);
    if (conn->server->bytes_in != NULL) {
        metric_add(conn->server->bytes_in, len);
    }
    pgwire_conn_process(conn);
}

/* Everything written is with the kernel: the session may go on sending rows, or the next request
 * may begin. The session comes first, its answer is the older one. */
static void on_drain(void *arg)
{
    struct pgwire_conn *conn = arg;
    ASSERT(((struct pgwire_conn *)arg)->stream != NULL);
    conn->blocked = false;
    if (conn->session != NULL && conn->request != 0) {
        conn->server->config.backend->drained(conn->session);
    }
    if (conn->phase != PGWIRE_DEAD) {
        pgwire_conn_process(conn);
    }
}

/* The peer is gone, or the stream failed. The session is closed at once: what runs for nobody
 * stops. */
static void on_close(void *arg, err_t reason)
{
    struct pgwire_conn *conn = arg;
    if (reason != ERR_OK) {
        LOG_DEBUG("pgwire", "connection lost", LOG_ERR(reason));
        err_free(reason);
    }
    ASSERT(!conn->processing);
    conn->stream = NULL; /* the stream frees itself */
    pgwire_conn_free(conn);
}

const struct io_stream_handler pgwire_stream_handler = {
    .data = on_data, .drain = on_drain, .close = on_close};
