/*
 * http: connections and the three paths. On one loop; nothing here is shared with another thread
 * but the metrics' values.
 *
 * Everything a peer can make us hold is bounded: connections (HTTP_CONNS_MAX), bytes of a request
 * (HTTP_HEAD_MAX and one delivery), answers not yet taken (HTTP_PENDING_MAX and one answer:
 * requests behind that wait, unread, until it has taken them), and time without a whole request
 * (HTTP_IDLE_US: neither silence nor a byte now and then keeps a connection).
 *
 * Life of a connection: http_server_accept links it; it goes by conn_forget, which runs exactly
 * once, after the stream was closed (idle, server freed), finished (the last answer) or has ended
 * itself.
 */
#include "ctrl/http/http.h"

#include "core/base/assert.h"
#include "core/base/log.h"

enum {
    HTTP_HEAD_MAX = 8192,
    HTTP_CONNS_MAX = 256,
    HTTP_PENDING_MAX = 256 * 1024, /* answers queued before further requests wait */
    HTTP_IDLE_US = 30 * 1000 * 1000,
};

/* One connection. Owned by its server; touched on the server's loop only. */
struct http_conn {
    struct http_server *server;
    struct http_conn *next, *prev; /* of the server's list */
    struct io_stream *stream;      /* ours: closed or finished before the conn goes */
    struct buf in;                 /* what is not yet a whole request, or waits (paused) */
    bool paused;                   /* the peer takes no answers: it gets no further ones */
    struct io_timer idle; /* armed from accept on; anew with each request that was answered */
};

/* Made and freed by the process that wants to be looked at. */
struct http_server {
    struct http_config config; /* address: of the listener, once it is bound */
    struct io_listener *listener;
    struct http_conn *conns; /* newest first */
    size_t conns_len; /* <= HTTP_CONNS_MAX */
};

/* Unlinks and frees; the stream was closed or finished by the caller. */
static void conn_forget(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    ASSERT(conn->server != NULL);
    io_timer_cancel(server->config.loop, &conn->idle);
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        ASSERT(server->conns == conn);
        server->conns = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    ASSERT(server->conns_len > 0);
    server->conns_len--;
    buf_free(&conn->in);
    free(conn);
}

/* Also a peer that does not take its answers: the timer starts anew with a request only. */
static void on_idle(struct io_timer *timer)
{
    struct http_conn *conn = CONTAINER_OF(timer, struct http_conn, idle);
    ASSERT(timer != NULL);
    io_stream_close(conn->stream); /* no answer: who is silent reads none */
    conn_forget(conn);
}

/* One whole answer. head: a HEAD request gets the length of the body it would have got. */
static void respond(struct http_conn *conn, int status, const char *reason, const char *type,
                    const struct buf *body, bool head, bool keep_alive)
{
    struct buf out = {0};
    ASSERT(status >= 200 && status < 600);
    buf_printf(&out,
               "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
               "Cache-Control: no-store\r\n%s%s\r\n",
               status, reason, type, body->len, status == 405 ? "Allow: GET, HEAD\r\n" : "",
               keep_alive ? "" : "Connection: close\r\n");
    if (!head && body->len > 0) {
        buf_append(&out, body->data, body->len);
    }
    io_stream_write(conn->stream, out.data, out.len);
    buf_free(&out);
}

/* For people and probes: one line. */
static void respond_text(struct http_conn *conn, int status, const char *reason, bool head,
                         bool keep_alive, const char *text)
{
    struct buf body = {0};
    buf_printf(&body, "%s\n", text);
    respond(conn, status, reason, "text/plain; charset=utf-8", &body, head, keep_alive);
    buf_free(&body);
}

/* As it stands on the wire: no decoding, so no two spellings of a path. */
static bool path_is(const struct http_request *request, const char *path)
{
    ASSERT(request->path != NULL);
    return request->path_len == strlen(path) &&
           memcmp(request->path, path, request->path_len) == 0;
}

/* The text format of Prometheus, version 0.0.4, gathered anew for each request. */
static void serve_metrics(struct http_conn *conn, const struct http_request *request, bool head)
{
    const struct http_config *config = &conn->server->config;
    struct buf body = {0};
    if (config->refresh != NULL) {
        config->refresh(config->ctx);
    }
    if (config->registry != NULL) {
        metrics_expose(config->registry, &body);
    }
    respond(conn, 200, "OK", "text/plain; version=0.0.4; charset=utf-8", &body, head,
            request->keep_alive);
    buf_free(&body);
}

/* 503 with the reason tells an orchestrator to wait, and a person why. */
static void serve_ready(struct http_conn *conn, const struct http_request *request, bool head)
{
    const struct http_config *config = &conn->server->config;
    struct buf reason = {0};
    bool ready = config->ready == NULL || config->ready(config->ctx, &reason);
    if (ready) {
        respond_text(conn, 200, "OK", head, request->keep_alive, "ready");
    } else {
        respond_text(conn, 503, "Service Unavailable", head, request->keep_alive,
                     buf_cstr(&reason));
    }
    buf_free(&reason);
}

/* False: the connection ends with this answer. */
static bool serve(struct http_conn *conn, const struct http_request *request)
{
    bool head = request->method_len == 4 && memcmp(request->method, "HEAD", 4) == 0;
    bool get = request->method_len == 3 && memcmp(request->method, "GET", 3) == 0;
    ASSERT(request->method_len > 0);
    if (request->has_body) {
        respond_text(conn, 413, "Content Too Large", head, false, "no request takes a body");
        return false;
    }
    if (!head && !get) {
        respond_text(conn, 405, "Method Not Allowed", false, request->keep_alive,
                     "only GET and HEAD are served");
    } else if (path_is(request, "/metrics")) {
        serve_metrics(conn, request, head);
    } else if (path_is(request, "/api/livez")) {
        respond_text(conn, 200, "OK", head, request->keep_alive, "alive");
    } else if (path_is(request, "/api/readyz")) {
        serve_ready(conn, request, head);
    } else {
        respond_text(conn, 404, "Not Found", head, request->keep_alive,
                     "there are /metrics, /api/livez and /api/readyz");
    }
    return request->keep_alive;
}

/* Stops reading while answers pile up; on_drain goes on. */
static bool must_wait(struct http_conn *conn)
{
    if (io_stream_pending(conn->stream) <= HTTP_PENDING_MAX) {
        return false;
    }
    conn->paused = true;
    io_stream_pause(conn->stream);
    return true;
}

/* Answers the whole requests that are there, in their order. The conn may be gone afterwards. */
static void serve_all(struct http_conn *conn)
{
    struct http_request request;
    struct io_loop *loop = conn->server->config.loop;
    bool served = false;
    ASSERT(!conn->paused);
    while (!must_wait(conn)) {
        int n = http_parse_request(conn->in.data, conn->in.len, &request);
        bool too_long = n == 0 && conn->in.len > HTTP_HEAD_MAX;
        if (n == 0 && !too_long) {
            break;
        }
        bool go_on = false;
        if (too_long) {
            respond_text(conn, 431, "Request Header Fields Too Large", false, false,
                         "the request head is longer than 8 KiB");
        } else if (n < 0) {
            respond_text(conn, 400, "Bad Request", false, false, "malformed HTTP request");
        } else {
            go_on = serve(conn, &request);
        }
        if (!go_on) {
            /* What is queued still goes out; whatever the peer sends behind is not read. */
            io_stream_finish(conn->stream);
            conn_forget(conn);
            return;
        }
        ASSERT((size_t)n <= conn->in.len);
        buf_consume(&conn->in, (size_t)n);
        served = true;
    }
    if (served) {
        io_timer_start(loop, &conn->idle, io_now_us(loop) + HTTP_IDLE_US);
    }
}

/* Any bytes, in any pieces; the conn may be gone when this returns. */
static void on_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct http_conn *conn = arg;
    ASSERT(fds_len == 0 && len > 0);
    buf_append(&conn->in, data, len);
    if (!conn->paused) { /* else a delivery that was under way when we paused */
        serve_all(conn);
    }
}

/* The peer has taken what was queued. */
static void on_drain(void *arg)
{
    struct http_conn *conn = arg;
    if (conn->paused) {
        conn->paused = false;
        io_stream_resume(conn->stream);
        serve_all(conn);
    }
}

static void on_close(void *arg, err_t reason)
{
    err_free(reason); /* a monitor that hangs up is no event */
    conn_forget(arg);
}

static const struct io_stream_handler handler = {
    .data = on_data, .drain = on_drain, .close = on_close};

/* Beyond the limit a stream is closed without an answer: an answer would have to be kept. */
void http_server_accept(struct http_server *server, struct io_stream *stream)
{
    ASSERT(server != NULL && stream != NULL);
    if (server->conns_len >= HTTP_CONNS_MAX) {
        io_stream_close(stream);
        return;
    }
    struct http_conn *conn = MEM_NEW(struct http_conn);
    struct io_loop *loop = server->config.loop;
    conn->server = server;
    conn->stream = stream;
    conn->idle.fire = on_idle;
    conn->next = server->conns;
    if (server->conns != NULL) {
        server->conns->prev = conn;
    }
    server->conns = conn;
    server->conns_len++;
    io_stream_set_handler(stream, &handler, conn);
    io_timer_start(loop, &conn->idle, io_now_us(loop) + HTTP_IDLE_US);
}

/* A connection of our own port; others come through http_server_accept. */
static void on_accept(void *arg, struct io_stream *stream)
{
    http_server_accept(arg, stream);
}

err_t http_server_new(const struct http_config *config, struct http_server **out)
{
    ASSERT(config->loop != NULL && config->address != NULL);
    *out = NULL;
    struct http_server *server = MEM_NEW(struct http_server);
    server->config = *config;
    err_t err = io_listen(config->loop, config->address, on_accept, server, &server->listener);
    if (err != ERR_OK) {
        free(server);
        return err_wrap(err, "listening for HTTP on %s", config->address);
    }
    server->config.address = io_listener_address(server->listener);
    LOG_DEBUG("http", "listening", LOG_STR("address", server->config.address));
    *out = server;
    return ERR_OK;
}

const char *http_server_address(const struct http_server *server)
{
    return server->config.address;
}

/* Closes what is open; no callback of it follows. */
void http_server_free(struct http_server *server)
{
    if (server == NULL) {
        return;
    }
    while (server->conns != NULL) {
        io_stream_close(server->conns->stream);
        conn_forget(server->conns);
    }
    ASSERT(server->conns_len == 0);
    io_listener_close(server->listener);
    free(server);
}
