/*
 * Inside ctrl/rpc. Three layers, each used only by the next:
 *
 *     session   one HTTP/2 connection: transport, TLS, nghttp2, keep-alive, drain
 *     call      one stream of it: framing, flow control, deadline, status
 *     server, channel   who accepts or makes sessions, routes and starts calls
 *
 * nghttp2's callbacks never run user code: they note what happened in the call and put it on the
 * session's ready list, and rpc_session_work hands it out when nghttp2 has returned. User code may
 * therefore call anything, even free the server it is called from: objects that are in use further
 * up the stack (busy > 0) are only marked gone and freed on the way out.
 */
#ifndef TAILRACE_CTRL_RPC_RPC_INTERNAL_H
#define TAILRACE_CTRL_RPC_RPC_INTERNAL_H

#include "ctrl/rpc/metadata.h"

#include <nghttp2/nghttp2.h>
#include <sys/queue.h>

/* invalid_authorization_specification: what maps to UNAUTHENTICATED and not PERMISSION_DENIED. */
#define RPC_SQLSTATE_UNAUTHENTICATED "28000"

/* What a client makes of an answer that has no grpc-status: by HTTP status, by reset code. */
enum rpc_status rpc_status_of_http(int http_status);
enum rpc_status rpc_status_of_reset(uint32_t error_code);

/* Each message is preceded by a flag byte (compressed) and its length, big endian. */
enum { RPC_PREFIX_SIZE = 5 };

/* ---- call ------------------------------------------------------------------------------------ */

struct rpc_session;
TAILQ_HEAD(rpc_call_list, rpc_call);

/*
 * One stream of HTTP/2 seen as a gRPC call. Owner: the list it is in (a session's, or the waiting
 * list of a channel). Made by on_begin_headers (server) or rpc_call_start (client); ends through
 * rpc_call_end (close is told) or rpc_call_abandon (it is not).
 *
 * The flags are facts, each set once and never taken back (paused, choked, is_ready and
 * out_deferred apart), so that the order in which frames, deadlines, handlers and the loss of the
 * connection come does not matter: rpc_call_dispatch looks at the facts, and closing_status derives
 * the outcome.
 */
struct rpc_call {
    struct rpc_call_list *list;       /* session->calls or channel->waiting; NULL: in none */
    TAILQ_ENTRY(rpc_call) link;       /* in list */
    TAILQ_ENTRY(rpc_call) ready_link; /* in session->ready when is_ready */
    struct io_loop *loop;        /* the only thread that touches the call */
    struct rpc_session *session; /* NULL: waiting for a connection, or ended */
    struct rpc_channel *channel; /* NULL: a server's call */
    const struct rpc_options *options; /* complete; the owner's */
    const struct rpc_handler *handler; /* NULL until opened */
    void *arg;                         /* the handler's */
    void (*free_arg)(void *arg); /* of our own helpers; runs with the call's memory */
    char *path;            /* "/package.Service/Method"; server: NULL until the field came */
    char *http_method;     /* server */
    int32_t stream_id;     /* -1: none yet, or closed */
    uint64_t deadline_us;  /* 0: none */
    struct io_timer timer; /* the deadline; or cancellation of a waiting call, at once */
    struct rpc_metadata_list received; /* server: request headers; client: headers, trailers */
    struct rpc_metadata_list headers; /* to send first */
    struct rpc_metadata_list trailers; /* server: to send with the status */

    struct buf in; /* received and not yet delivered, from in_at */
    size_t in_at;
    size_t in_held; /* bytes received whose window was not yet given back */
    struct buf out; /* framed messages to send, from out_at */
    size_t out_at;

    enum rpc_status status; /* valid when have_status */
    char *status_message;   /* owned; NULL: none */
    int http_status;     /* client: of the response; 0 before */
    uint32_t reset_code; /* why the stream closed */

    unsigned busy; /* frames of ours on the stack that use this call */
    bool is_ready;         /* in session->ready: dispatched in the coming round */
    bool opened;           /* the handler knows of it */
    bool request_complete; /* server: headers are there */
    bool paused;           /* by the handler: messages wait, the stream window fills */
    bool choked;           /* out reached send_high; until drain */
    bool headers_arrived; /* client: initial headers, not trailers only */
    bool headers_told;    /* handler->headers ran */
    bool headers_sent;  /* server */
    bool out_deferred;  /* HTTP/2 asked for data and there was none */
    bool out_ended;     /* no more rpc_call_send: finished or half closed */
    bool have_status;   /* client: it came, or we decided it. server: finish */
    bool status_local;  /* we decided it (deadline, cancel, bad message) */
    bool trailers_sent; /* server: everything is with the transport */
    bool remote_ended;  /* END_STREAM came */
    bool half_close_told; /* handler->half_close ran */
    bool closed; /* the stream is gone */
    bool lost;   /* with its connection */
    bool gone;   /* close was told, or must not be: free when not busy */
};

/* A call of either side; not linked anywhere. */
struct rpc_call *rpc_call_new(struct io_loop *loop, const struct rpc_options *options);
/* Releases the call's memory now or, when busy, on the way out. Nothing refers to it any more. */
void rpc_call_release(struct rpc_call *call);
/* Notes that the connection is gone, and why. */
void rpc_call_lose(struct rpc_call *call, const char *reason);
/* Decides the status on this side: server sends it, client resets the stream. */
void rpc_call_fail(struct rpc_call *call, enum rpc_status status, const char *message);
/* Sets the status unless there is one. */
void rpc_call_set_status(struct rpc_call *call, enum rpc_status status, const char *message);
/* Runs handler->close for a call that is in no list any more, then releases it. */
void rpc_call_end(struct rpc_call *call, enum rpc_status status, const char *message);
/* Hands everything that happened to the handler. */
void rpc_call_dispatch(struct rpc_call *call);
/* Bytes arrived on the stream. */
void rpc_call_receive(struct rpc_call *call, const uint8_t *data, size_t len);
/* Sends the request of a waiting call on its channel's new session. */
void rpc_call_submit_request(struct rpc_call *call, struct rpc_session *session, bool tls);
/* Server: answers what is not gRPC with a bare HTTP status. */
void rpc_call_refuse_http(struct rpc_call *call, const char *http_status);
/* Arms the deadline timer when there is a deadline. */
void rpc_call_arm_deadline(struct rpc_call *call);

/* ---- session --------------------------------------------------------------------------------- */

struct rpc_session_ops {
    /* Server: a request's headers are complete; opens or refuses it. */
    void (*request)(void *owner, struct rpc_call *call);
    /* Client: the connection stands; an error refuses it. */
    err_t (*ready)(void *owner, struct rpc_session *session);
    /* No new calls on it: the peer says goodbye, or it has ended. May come twice. */
    void (*draining)(void *owner, struct rpc_session *session);
    /* It is over, all its calls were told; freed after this returns. reason is never NULL. */
    void (*ended)(void *owner, struct rpc_session *session, const char *reason);
};

/*
 * One connection. Owner: the server or channel, which links it and learns its end through ops.
 * Times are io_now_us of the loop.
 */
struct rpc_session {
    TAILQ_ENTRY(rpc_session) link; /* the owner's */
    const struct rpc_session_ops *ops;
    void *owner; /* the server or channel; arg of ops */
    const struct rpc_options *options; /* the owner's, complete */
    struct io_loop *loop;
    struct tls_context *tls; /* the owner's; NULL: cleartext */
    const char *server_name; /* client, the owner's */
    struct io_stream *stream; /* NULL: not there yet, or over */
    nghttp2_session *http2; /* NULL until the transport stands */
    struct rpc_call_list calls; /* every call that has a stream here */
    struct rpc_call_list ready; /* those of them that have something to be told */
    struct io_timer work_timer;  /* output or ready calls wait */
    struct io_timer watch_timer; /* handshake, then keep-alive */
    uint64_t last_read_us; /* io_now_us when the last byte came */
    uint64_t ping_us; /* when the unanswered PING was sent, 0: none */
    struct buf wire;  /* frames of one flush, written at once */
    char *peer;       /* address, for texts; owned */
    char *peer_name;  /* of its certificate, "" without TLS; owned */
    unsigned busy;    /* frames of ours on the stack that use the session */
    bool server;
    bool settled; /* the peer's SETTINGS came: it speaks HTTP/2 */
    bool is_open; /* the owner knows */
    bool told_draining; /* client: the server said goodbye; server: we have begun to */
    bool drain_final; /* our last GOAWAY was sent */
    bool ended; /* no transport any more; calls are being told */
    bool gone;  /* nobody is told anything: freed when not busy */
};

/* Server: takes an accepted stream. */
struct rpc_session *rpc_session_accept(struct io_loop *loop, struct io_stream *stream,
                                       struct tls_context *tls, const struct rpc_options *options,
                                       const struct rpc_session_ops *ops, void *owner);
/* Client: starts to connect. */
err_t rpc_session_connect(struct io_loop *loop, const char *address, struct tls_context *tls,
                          const char *server_name, const struct rpc_options *options,
                          const struct rpc_session_ops *ops, void *owner, struct rpc_session **out);
/* Ends it now: calls are closed with this status; ops->ended does not run. */
void rpc_session_destroy(struct rpc_session *session, enum rpc_status status, const char *reason);
/* Says goodbye: no new calls, ends with the last open one. */
void rpc_session_drain(struct rpc_session *session);
/* Soon: flush output and hand out what is ready. */
void rpc_session_wake(struct rpc_session *session);
void rpc_session_mark_ready(struct rpc_call *call);
/* Puts the call into a list; session is NULL for the list of those that wait for one. */
void rpc_session_link(struct rpc_call *call, struct rpc_session *session,
                      struct rpc_call_list *list);
/* Takes the call out of every list; it has no session then. */
void rpc_session_unlink(struct rpc_call *call);

/* options with the defaults filled in; NULL is all defaults. */
struct rpc_options rpc_options_complete(const struct rpc_options *options);

/* ---- built-in services ----------------------------------------------------------------------- */

struct rpc_health;
struct rpc_health *rpc_health_new(struct rpc_server *server);
/* After the server's calls have ended. */
void rpc_health_free(struct rpc_health *health);
void rpc_health_set(struct rpc_health *health, const char *service, bool serving);
/* The server drains: watchers hear NOT_SERVING and are ended. */
void rpc_health_stop(struct rpc_health *health);

struct rpc_reflection;
struct rpc_reflection *rpc_reflection_new(struct rpc_server *server);
void rpc_reflection_free(struct rpc_reflection *reflection);
err_t rpc_reflection_add(struct rpc_reflection *reflection, const uint8_t *set, size_t len);

/* Calls each(arg, service) once for every service with a method, by name. */
void rpc_server_each_service(const struct rpc_server *server,
                             void (*each)(void *arg, const char *service), void *arg);

#endif
