/*
 * pgwire: listeners, the set of connections, cancel keys, shutdown.
 *
 * Two numbers are bounded: connections (conns_len, also those that have not said who they are) and
 * sessions (open_len, which is what max_connections means to users). A cancel request comes on a
 * connection of its own and finds its target by process id, hence the map.
 */
#include "ctrl/adapter/pgwire/pgwire_internal.h"

#include "core/base/assert.h"
#include "core/base/log.h"

/* Counted here, once for all connections; a server without a registry counts nothing. */
static void register_metrics(struct pgwire_server *server, struct metrics_registry *r)
{
    ASSERT(r != NULL);
    server->connections = metric_gauge(r, "tailrace_pgwire_connections", "",
                                       "Open PostgreSQL client connections.");
    server->accepted = metric_counter(r, "tailrace_pgwire_accepted_total", "",
                                      "PostgreSQL client connections accepted.");
    server->refused = metric_counter(r, "tailrace_pgwire_refused_total", "",
                                     "PostgreSQL client connections refused.");
    server->bytes_in = metric_counter(r, "tailrace_pgwire_received_bytes_total", "",
                                      "Bytes received from PostgreSQL clients.");
    server->bytes_out = metric_counter(r, "tailrace_pgwire_sent_bytes_total", "",
                                       "Bytes sent to PostgreSQL clients.");
    server->messages = metric_counter(r, "tailrace_pgwire_requests_total", "",
                                      "Protocol requests handled.");
}

/* Zero in the configuration means the default, so that embedders need not know them. */
err_t pgwire_server_new(const struct pgwire_config *config, struct pgwire_server **out)
{
    ASSERT(config->loop != NULL && config->backend != NULL);
    *out = NULL;
    if (config->require_tls && config->tls == NULL) {
        return err_new(ERR_INVALID, "TLS is required of SQL clients, but no certificate is set");
    }
    struct pgwire_server *server = MEM_NEW(struct pgwire_server);
    server->config = *config;
    server->next_pid = 1;
    if (server->config.max_connections == 0) {
        server->config.max_connections = 1000;
    }
    if (server->config.max_message_bytes == 0) {
        server->config.max_message_bytes = 256ULL * 1024 * 1024;
    }
    if (server->config.startup_timeout_us == 0) {
        server->config.startup_timeout_us = 60ULL * 1000 * 1000;
    }
    if (config->metrics != NULL) {
        register_metrics(server, config->metrics);
    }
    *out = server;
    return ERR_OK;
}

/* The listener's struct is only there to find the server again. */
static void on_accept(void *arg, struct io_stream *stream)
{
    struct pgwire_listener *listener = arg;
    pgwire_server_accept(listener->server, stream);
}

/* The listener is the server's from here on; several addresses serve the same backend. */
err_t pgwire_server_listen(struct pgwire_server *server, const char *address)
{
    ASSERT(server != NULL && address != NULL);
    struct pgwire_listener *listener = MEM_NEW(struct pgwire_listener);
    listener->server = server;
    err_t err = io_listen(server->config.loop, address, on_accept, listener, &listener->listener);
    if (err != ERR_OK) {
        free(listener);
        return err_wrap(err, "listening for SQL clients on %s", address);
    }
    *VEC_PUSH(server, listeners) = listener;
    return ERR_OK;
}

const char *pgwire_server_address(const struct pgwire_server *server, size_t index)
{
    ASSERT(index < server->listeners_len);
    return io_listener_address(server->listeners[index]->listener);
}

/* Refused without a word when there are far too many: an answer would need what is short. */
void pgwire_server_accept(struct pgwire_server *server, struct io_stream *stream)
{
    ASSERT(server != NULL && stream != NULL);
    /* Those not yet authenticated are bounded too: they hold memory and may never speak. Twice the
     * sessions and some: a burst of clients that are still authenticating must fit. */
    if (server->draining || server->conns_len >= server->config.max_connections * 2 + 16) {
        if (server->refused != NULL) {
            metric_add(server->refused, 1);
        }
        io_stream_close(stream);
        return;
    }
    struct pgwire_conn *conn = pgwire_conn_new(server, stream);
    conn->next = server->conns;
    if (server->conns != NULL) {
        server->conns->prev = conn;
    }
    server->conns = conn;
    server->conns_len++;
    if (server->accepted != NULL) {
        metric_add(server->accepted, 1);
    }
}

size_t pgwire_server_connections(const struct pgwire_server *server)
{
    return server->open_len;
}

/* Process ids count up and wrap, skipping those in use: a late cancel request for a connection that
 * has ended must not hit its successor, and the secret is drawn anew for each. */
bool pgwire_server_admit(struct pgwire_server *server, struct pgwire_conn *conn)
{
    ASSERT(conn->pid == 0);
    if (server->open_len >= server->config.max_connections) {
        if (server->refused != NULL) {
            metric_add(server->refused, 1);
        }
        return false;
    }
    /* Ends: there are fewer connections than numbers. */
    while (server->next_pid == 0 || u64map_get(&server->by_pid, server->next_pid) != NULL) {
        server->next_pid = (server->next_pid + 1) & 0x7fffffff; /* clients read it as signed */
    }
    conn->pid = server->next_pid;
    server->next_pid = (server->next_pid + 1) & 0x7fffffff;
    io_random(io_loop_env(server->config.loop), &conn->secret, sizeof(conn->secret));
    u64map_put(&server->by_pid, conn->pid, conn);
    server->open_len++;
    if (server->connections != NULL) {
        metric_set(server->connections, (int64_t)server->open_len);
    }
    return true;
}

void pgwire_server_cancel(struct pgwire_server *server, uint32_t pid, uint32_t secret)
{
    ASSERT(server != NULL);
    struct pgwire_conn *conn = u64map_get(&server->by_pid, pid);
    /* A wrong key is ignored without a word, as PostgreSQL does: the asker learns nothing. */
    if (conn == NULL || (conn->secret ^ secret) != 0 || conn->session == NULL) {
        LOG_DEBUG("pgwire", "cancel request without a match", LOG_U64("pid", pid));
        return;
    }
    server->config.backend->cancel(conn->session);
}

/* The addresses are free again when this returns. */
static void close_listeners(struct pgwire_server *server)
{
    ASSERT(server != NULL);
    for (size_t i = 0; i < server->listeners_len; i++) {
        io_listener_close(server->listeners[i]->listener);
        free(server->listeners[i]);
    }
    server->listeners_len = 0;
}

/* The sessions end from the loop, one reap each; pgwire_server_free takes what is left. */
void pgwire_server_drain(struct pgwire_server *server)
{
    ASSERT(!server->draining);
    server->draining = true;
    close_listeners(server);
    for (struct pgwire_conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->phase != PGWIRE_DEAD) {
            pgwire_fatal(conn, err_sql(ERR_UNAVAILABLE, "57P01",
                                       "terminating connection due to administrator command"));
        }
    }
}

/* Also without a drain before it, as tests do. */
void pgwire_server_free(struct pgwire_server *server)
{
    if (server == NULL) {
        return;
    }
    close_listeners(server);
    while (server->conns != NULL) {
        pgwire_conn_free(server->conns);
    }
    ASSERT(server->conns_len == 0 && server->open_len == 0);
    u64map_free(&server->by_pid);
    free(server->listeners);
    free(server);
}
