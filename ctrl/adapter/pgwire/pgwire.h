/*
 * The PostgreSQL wire protocol, version 3.0: framing, start-up, authentication, the message state
 * machine, and the encoding of answers. It knows no SQL: what statements mean is the backend's
 * business, a table of functions.
 *
 * Everything runs on the server's loop. Order of things: the connection hands one request at a time
 * to its session; the session answers with the pgwire_send_* functions and ends the request with
 * pgwire_done, at once or later. Requests that arrive meanwhile wait, the peer is stopped by
 * back-pressure. Errors inside an extended-protocol request skip what follows up to Sync; that rule
 * lives here, so a session never sees the skipped messages.
 */
#ifndef TAILRACE_CTRL_ADAPTER_PGWIRE_PGWIRE_H
#define TAILRACE_CTRL_ADAPTER_PGWIRE_PGWIRE_H

#include "core/base/metrics.h"
#include "core/data/type.h"
#include "core/io/io.h"
#include "core/io/tls.h"
#include "ctrl/adapter/pgwire/scram.h"

struct pgwire_server;
struct pgwire_conn;

enum {
    PGWIRE_STARTUP_MAX = 10000,       /* bytes of a start-up packet, as PostgreSQL */
    PGWIRE_PARAMS_MAX = 65535,        /* parameters and result columns */
    PGWIRE_HIGH_WATER = 1024 * 1024,  /* unsent bytes at which a session should stop */
};

/* One name = value of the start-up packet. */
struct pgwire_setting {
    const char *name;
    const char *value;
};

/* What a client says at start-up. Valid during the call. */
struct pgwire_startup {
    const char *user;
    const char *database; /* as given; the user's name when not given */
    const struct pgwire_setting *settings; /* the rest */
    size_t settings_len;
    const char *peer; /* "host:port" */
    uint32_t pid;     /* given to the client for cancelling; unique among live connections */
};

/* Bind. Strings and bytes valid during the call. len -1: NULL. */
struct pgwire_param {
    const uint8_t *data;
    int32_t len;
};
struct pgwire_bind {
    const char *portal;
    const char *statement;
    const int16_t *param_formats; /* none: all text; one: for all; else one each */
    size_t param_formats_len;
    const struct pgwire_param *params;
    size_t params_len;
    const int16_t *result_formats; /* the same rule */
    size_t result_formats_len;
};

/*
 * The backend. open, authenticate: ctx is the backend's; the others get what open returned. Each of
 * query ... sync must be answered by exactly one pgwire_done. copy_* come only between
 * pgwire_send_copy_in and pgwire_done of the request that sent it.
 */
struct pgwire_backend {
    /* How may this user come in? ok with *scram NULL: trusted; else he must know the password of
     * the verifier (which stays valid until open or the end of the connection). */
    err_t (*authenticate)(void *ctx, const struct pgwire_startup *startup,
                          const struct scram_verifier **scram);
    /* The user is known. Sends its ParameterStatus messages; an error ends the connection. */
    err_t (*open)(void *ctx, struct pgwire_conn *conn, const struct pgwire_startup *startup,
                  void **session);
    /* The connection is gone: frees the session, stops what it runs. conn is not to be used. */
    void (*close)(void *session);
    void (*query)(void *session, const char *text, size_t len);
    void (*parse)(void *session, const char *name, const char *text, size_t len,
                  const uint32_t *param_oids, size_t param_oids_len);
    void (*bind)(void *session, const struct pgwire_bind *bind);
    void (*describe)(void *session, char kind, const char *name);
    void (*execute)(void *session, const char *portal, uint32_t max_rows);
    void (*close_object)(void *session, char kind, const char *name);
    void (*sync)(void *session);
    void (*copy_data)(void *session, const uint8_t *data, size_t len);
    /* failure NULL: all data came; else what the client said when it gave up. */
    void (*copy_end)(void *session, const char *failure);
    /* The client asks to stop what runs now. May come at any time. */
    void (*cancel)(void *session);
    /* A request was refused before it reached the session: an open transaction has failed. */
    void (*failed)(void *session);
    /* Unsent bytes fell to zero after pgwire_writable was false. */
    void (*drained)(void *session);
};

struct pgwire_config {
    struct io_loop *loop;
    const struct pgwire_backend *backend;
    void *ctx;
    struct tls_context *tls;          /* NULL: SSLRequest is answered with N */
    bool require_tls;                 /* refuse plain connections (28000) */
    size_t max_connections;           /* 0: default 1,000; beyond: 53300 */
    size_t max_message_bytes;         /* 0: default 256 MiB */
    uint64_t startup_timeout_us;      /* 0: default 60 s, from accept to authenticated */
    uint64_t idle_timeout_us;         /* 0: none; idle longer: 57P05 */
    struct metrics_registry *metrics; /* may be NULL */
};

err_t pgwire_server_new(const struct pgwire_config *config, struct pgwire_server **out);
/* Accepts on one more address ("host:port"); the bound address is returned by the next call. */
err_t pgwire_server_listen(struct pgwire_server *server, const char *address);
const char *pgwire_server_address(const struct pgwire_server *server, size_t index);
/* Serves a stream that is already established; the server owns it from now on. */
void pgwire_server_accept(struct pgwire_server *server, struct io_stream *stream);
size_t pgwire_server_connections(const struct pgwire_server *server);
/* Closes the listeners and tells every client 57P01; running requests are ended. */
void pgwire_server_drain(struct pgwire_server *server);
/* Closes what is left and frees everything; backend->close runs for each session. */
void pgwire_server_free(struct pgwire_server *server);

/* ---- answers --------------------------------------------------------------------------------- */

/* Ends the request under way. err: sent as ErrorResponse; owned. May hand the next request to the
 * session before it returns: call it last. */
void pgwire_done(struct pgwire_conn *conn, err_t err);
/* Ends the connection after an ErrorResponse of severity FATAL; owns err. The session is closed
 * from the loop, not inside this call. */
void pgwire_fatal(struct pgwire_conn *conn, err_t err);
/*
 * How long the client may ask nothing, outside a transaction and inside one, in microseconds; 0:
 * the server's limit, or none. Beyond it the connection ends with 57P05 or 25P03.
 */
void pgwire_set_idle(struct pgwire_conn *conn, uint64_t idle_us, uint64_t in_transaction_us);
/* 'I' idle, 'T' in a transaction, 'E' in a failed one: for the next ReadyForQuery. */
void pgwire_set_transaction(struct pgwire_conn *conn, char status);
/* False: PGWIRE_HIGH_WATER is passed; stop sending rows until backend->drained. */
bool pgwire_writable(const struct pgwire_conn *conn);
/* Sends what is buffered now (rows of a subscription, while the request goes on). */
void pgwire_flush(struct pgwire_conn *conn);

void pgwire_send_parameter(struct pgwire_conn *conn, const char *name, const char *value);
/* severity: NOTICE, WARNING, INFO...; err is not owned. */
void pgwire_send_notice(struct pgwire_conn *conn, const char *severity, const struct err *err);
void pgwire_send_parse_complete(struct pgwire_conn *conn);
void pgwire_send_bind_complete(struct pgwire_conn *conn);
void pgwire_send_close_complete(struct pgwire_conn *conn);
void pgwire_send_no_data(struct pgwire_conn *conn);
void pgwire_send_empty_query(struct pgwire_conn *conn);
void pgwire_send_portal_suspended(struct pgwire_conn *conn);
void pgwire_send_command_complete(struct pgwire_conn *conn, const char *tag);
void pgwire_send_parameter_description(struct pgwire_conn *conn, const struct type *types,
                                       size_t len);
/* formats: one per column, or NULL: all text. */
void pgwire_send_row_description(struct pgwire_conn *conn, const char *const *names,
                                 const struct type *types, size_t len, const int16_t *formats);
void pgwire_send_row(struct pgwire_conn *conn, const struct type *types,
                     const struct datum *values, size_t len, const int16_t *formats);
/* COPY begins with so many columns; binary: all in binary format, else text or CSV. */
void pgwire_send_copy_in(struct pgwire_conn *conn, size_t columns, bool binary);
void pgwire_send_copy_out(struct pgwire_conn *conn, size_t columns, bool binary);
void pgwire_send_copy_data(struct pgwire_conn *conn, const void *data, size_t len);
void pgwire_send_copy_done(struct pgwire_conn *conn);

#endif
