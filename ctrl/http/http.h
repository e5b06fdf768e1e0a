/*
 * A small HTTP/1.1 server for operators' tools: metrics and health, GET and HEAD only. Every daemon
 * serves the same three paths:
 *
 *     /metrics      Prometheus text exposition of the registry
 *     /api/livez    200 while the loop runs
 *     /api/readyz   200 when ready() says so, else 503 with its reason
 *
 * On one loop. Requests are bounded (8 KiB of header, no body), connections too; a peer that idles
 * for 30 seconds is closed.
 */
#ifndef TAILRACE_CTRL_HTTP_HTTP_H
#define TAILRACE_CTRL_HTTP_HTTP_H

#include "core/base/metrics.h"
#include "core/io/io.h"

struct http_server;

struct http_config {
    struct io_loop *loop;
    const char *address;               /* "host:port" */
    struct metrics_registry *registry; /* NULL: /metrics is empty */
    /* True when the process can serve; else a reason is appended. NULL: always ready. */
    bool (*ready)(void *ctx, struct buf *reason);
    /* Called before the registry is exposed, to bring gauges up to date. May be NULL. */
    void (*refresh)(void *ctx);
    void *ctx;
};

err_t http_server_new(const struct http_config *config, struct http_server **out);
/* The address bound, with the real port. */
const char *http_server_address(const struct http_server *server);
/* Serves an established stream; the server owns it from now on. */
void http_server_accept(struct http_server *server, struct io_stream *stream);
void http_server_free(struct http_server *server);

/*
 * A request head as it stands on the wire. Returns its length including the empty line, 0 when it
 * is not complete, -1 when it is malformed. path: without the query, within data.
 */
struct http_request {
    const char *method;
    size_t method_len;
    const char *path;
    size_t path_len;
    bool keep_alive;
    bool has_body; /* Content-Length other than 0, or Transfer-Encoding */
};
int http_parse_request(const uint8_t *data, size_t len, struct http_request *out);

#endif
