/*
 * gRPC over HTTP/2 (nghttp2) on io_stream: server and client. Messages are raw bytes here; pb.h
 * encodes and decodes them.
 *
 * Threads: a server and its calls, a channel and its calls belong to one loop.
 *
 * Ownership and callbacks. A call belongs to its server or channel; the handle is valid until
 * handler->close returns, which runs exactly once for every call that was opened, last, and is the
 * place to free what hangs on arg. No callback runs from inside rpc_call_send, _finish, _cancel or
 * rpc_call_start: they come from the loop. The exceptions, so that owners can free everything also
 * on a dead io env: rpc_server_free, rpc_channel_free and rpc_call_abandon, see there. Every
 * function may be called from inside every callback.
 *
 * Everything a peer sends is checked against the protocol and the limits below; what does not fit
 * ends the call or the connection with a reason.
 */
#ifndef TAILRACE_CTRL_RPC_RPC_H
#define TAILRACE_CTRL_RPC_RPC_H

#include "core/io/io.h"
#include "ctrl/rpc/pb.h"

struct tls_context;
struct rpc_server;
struct rpc_channel;
struct rpc_call;

/* The canonical gRPC status codes. */
enum rpc_status {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_ALREADY_EXISTS = 6,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_ABORTED = 10,
    RPC_OUT_OF_RANGE = 11,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14,
    RPC_DATA_LOSS = 15,
    RPC_UNAUTHENTICATED = 16,
};

/* "PERMISSION_DENIED", ...; "UNKNOWN" for numbers outside the enum. */
const char *rpc_status_name(enum rpc_status status);
/*
 * Errors travel as status codes: each err_code has one (ERR_FENCED is FAILED_PRECONDITION,
 * SQLSTATE 28000 is UNAUTHENTICATED, ...). NULL is RPC_OK.
 */
enum rpc_status rpc_status_of(const struct err *err);
/* The way back: NULL for RPC_OK, else an error with the matching code and this message. */
err_t rpc_status_err(enum rpc_status status, const char *message);

/* ---- calls, both sides ----------------------------------------------------------------------- */

/* Any member but close may be NULL (what arrives is then dropped). */
struct rpc_handler {
    /* Client: the server's initial metadata arrived. Not called for a response of trailers only. */
    void (*headers)(void *arg, struct rpc_call *call);
    /* One whole message, valid during the call. */
    void (*message)(void *arg, struct rpc_call *call, const uint8_t *data, size_t len);
    /* Server: the client will send no more. (A client learns it with close.) */
    void (*half_close)(void *arg, struct rpc_call *call);
    /* rpc_call_pending fell below a quarter of the options' send_high after having passed it. */
    void (*drain)(void *arg, struct rpc_call *call);
    /*
     * The end. Client: the status the server sent, or RPC_UNAVAILABLE (connection lost or never
     * made), RPC_DEADLINE_EXCEEDED, RPC_CANCELLED, RPC_RESOURCE_EXHAUSTED (message too large),
     * RPC_INTERNAL (broken protocol). Server: the status it finished with, when all of it was
     * given to the transport; RPC_CANCELLED when the client withdrew; RPC_DEADLINE_EXCEEDED;
     * RPC_UNAVAILABLE when the connection was lost. message is never NULL, valid during the call.
     */
    void (*close)(void *arg, struct rpc_call *call, enum rpc_status status, const char *message);
};

/* A metadata entry. Keys are lower case; values of keys ending in "-bin" are arbitrary bytes
 * (base64 on the wire is done here), others are printable ASCII. */
struct rpc_metadata {
    const char *key;
    const void *value;
    size_t value_len;
};

/*
 * Queues a copy of one message. Never fails: a call that has ended drops it. The queue is not
 * bounded here: a sender of unbounded streams looks at rpc_call_pending and waits for drain.
 */
void rpc_call_send(struct rpc_call *call, const void *data, size_t len);
/* Encodes and queues; an error when the message cannot be encoded (the call goes on). */
err_t rpc_call_send_pb(struct rpc_call *call, const pb_msgdesc_t *fields, const void *message);
/* Bytes queued here and not yet taken by HTTP/2 flow control. */
size_t rpc_call_pending(const struct rpc_call *call);
/* True between reaching send_high and drain: time to stop producing. */
bool rpc_call_choked(const struct rpc_call *call);
/* Stops and restarts delivery of messages; the peer is held back by its stream window. */
void rpc_call_pause(struct rpc_call *call);
void rpc_call_resume(struct rpc_call *call);

/* Server: ends the call after everything queued; status and message reach the client. Once. */
void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *message);
/* Server: rpc_call_finish with the status and text of err, which is freed; NULL is RPC_OK. */
void rpc_call_finish_err(struct rpc_call *call, err_t err);
/* Client: no more messages from here. */
void rpc_call_half_close(struct rpc_call *call);
/* Ends the call at once (RST_STREAM CANCEL), both sides; close follows with RPC_CANCELLED. */
void rpc_call_cancel(struct rpc_call *call);
/* As rpc_call_cancel, but no callback runs any more and the handle is gone: for owners that die. */
void rpc_call_abandon(struct rpc_call *call);

/* The user's pointer: what open returned (server) or arg of rpc_call_start. */
void *rpc_call_arg(const struct rpc_call *call);
const char *rpc_call_path(const struct rpc_call *call);
/* Absolute deadline on the io_now_us clock, 0 without one. */
uint64_t rpc_call_deadline_us(const struct rpc_call *call);
/* Address of the peer; authenticated name of its certificate ("" without TLS). Both are "" while
 * there is no connection, so also in close. */
const char *rpc_call_peer(const struct rpc_call *call);
const char *rpc_call_peer_name(const struct rpc_call *call);
struct io_loop *rpc_call_loop(const struct rpc_call *call);

/*
 * Received metadata: the first value of key (NULL when absent; NUL-terminated behind len). Server:
 * request headers. Client: initial headers, then also trailers.
 */
const char *rpc_call_metadata(const struct rpc_call *call, const char *key, size_t *len);
/* Server: adds to the initial headers (before the first send) or to the trailers (before finish).
 * An invalid key or value is ERR_INVALID. */
err_t rpc_call_add_header(struct rpc_call *call, struct rpc_metadata entry);
err_t rpc_call_add_trailer(struct rpc_call *call, struct rpc_metadata entry);
/* Server: sends the initial headers now and not with the first message. */
void rpc_call_send_headers(struct rpc_call *call);

/* ---- server ---------------------------------------------------------------------------------- */

/* Zero means the default named in the comment. */
struct rpc_options {
    size_t message_max;         /* bytes of one received message; 4 MiB */
    size_t window;              /* bytes a peer may send ahead on one call; 256 KiB */
    size_t send_high;           /* rpc_call_pending that chokes a call; 256 KiB */
    uint32_t calls_max;         /* server: open calls per connection; 128 */
    uint32_t connections_max;   /* server: open connections; 1,024 */
    uint64_t handshake_us;      /* client: connect + TLS + settings; server: TLS + preface; 10 s */
    uint64_t keepalive_us;      /* PING after this long without a byte received; 10 s */
    uint64_t keepalive_wait_us; /* connection lost when no byte follows the PING; 5 s */
    /*
     * Who may call. Server: asked for each call before open, with the path; an error refuses it
     * (ERR_PERMISSION: PERMISSION_DENIED; with SQLSTATE 28000: UNAUTHENTICATED), its text is the
     * reason the client sees. Client: asked once per connection with path "" about the server; an
     * error fails the connection. peer_name: the authenticated name, "" without TLS. NULL: anybody.
     */
    err_t (*authorize)(void *arg, const char *peer_name, const char *path);
    void *authorize_arg;
};

struct rpc_method {
    const char *path; /* "/package.Service/Method"; must live as long as the server */
    const struct rpc_handler *handler;
    /* A new call; the result is arg of the handler. May finish the call. NULL: arg is used. */
    void *(*open)(void *arg, struct rpc_call *call);
    void *arg;
};

/*
 * Listens on address ("host:port", ":0", "unix:/path"). tls NULL: cleartext HTTP/2 with prior
 * knowledge (tests and the simulator); else a server context with ALPN "h2", which must outlive
 * the server. options NULL: defaults. Comes with grpc.health.v1.Health and server reflection.
 */
err_t rpc_server_new(struct io_loop *loop, const char *address, struct tls_context *tls,
                     const struct rpc_options *options, struct rpc_server **out);
/* Closes the listener and every connection; runs close (RPC_UNAVAILABLE) of every open call before
 * it returns. NULL is allowed. */
void rpc_server_free(struct rpc_server *server);
/* The address bound, with the real port. */
const char *rpc_server_address(const struct rpc_server *server);
/* Registers a method; before the first callback. A path registered twice is asserted against. */
void rpc_server_add_method(struct rpc_server *server, struct rpc_method method);
/*
 * What reflection tells of: a serialised google.protobuf.FileDescriptorSet with imports, as
 * tr_proto generates ("proto/<module>.desc.h"). Borrowed: must outlive the server. ERR_INVALID if
 * broken.
 */
err_t rpc_server_add_descriptors(struct rpc_server *server, const uint8_t *set, size_t len);
/* Health of a service ("" is the whole server, SERVING from the start); watchers are told. */
void rpc_server_set_health(struct rpc_server *server, const char *service, bool serving);
/*
 * Graceful end: accepts nothing new, sends GOAWAY, lets open calls end (those of the built-in
 * services are ended: health watchers hear NOT_SERVING first); drained(arg) runs when the last
 * connection is gone. The server is still freed with rpc_server_free.
 */
void rpc_server_drain(struct rpc_server *server, void (*drained)(void *arg), void *arg);

/* ---- client ---------------------------------------------------------------------------------- */

/*
 * A channel to one address. It connects when the first call is started and again when a call is
 * started after the connection was lost: every failure ends the calls with RPC_UNAVAILABLE and
 * the reason, and it is the caller who decides when to try again. tls: a client context with ALPN
 * "h2" (must outlive the channel) or NULL; server_name: verified against the certificate, or NULL
 * when options->authorize judges the peer. options NULL: defaults.
 */
err_t rpc_channel_new(struct io_loop *loop, const char *address, struct tls_context *tls,
                      const char *server_name, const struct rpc_options *options,
                      struct rpc_channel **out);
/* Runs close (RPC_CANCELLED) of every open call before it returns. NULL is allowed. */
void rpc_channel_free(struct rpc_channel *channel);
/* True while the HTTP/2 connection stands. */
bool rpc_channel_connected(const struct rpc_channel *channel);
/*
 * Starts a call. deadline_us: on the io_now_us clock, 0 for none. metadata is copied. An error
 * (invalid path, metadata) means there is no call; everything else comes through handler->close.
 */
err_t rpc_call_start(struct rpc_channel *channel, const char *path, uint64_t deadline_us,
                     const struct rpc_metadata *metadata, size_t metadata_len,
                     const struct rpc_handler *handler, void *arg, struct rpc_call **out);

/*
 * One request, one response: sends request, calls done once with status and message, and for
 * RPC_OK the response (valid during the call). The call may be cancelled or abandoned through out
 * (which may be NULL).
 */
typedef void (*rpc_unary_fn)(void *arg, enum rpc_status status, const char *message,
                             const uint8_t *response, size_t len);
err_t rpc_call_unary(struct rpc_channel *channel, const char *path, uint64_t deadline_us,
                     const void *request, size_t len, rpc_unary_fn done, void *arg,
                     struct rpc_call **out);

#endif
