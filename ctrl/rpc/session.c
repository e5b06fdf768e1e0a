/*
 * One HTTP/2 connection, either side: transport, TLS, nghttp2, flush, keep-alive, drain.
 *
 * Runs on the loop of the server or channel that made the session, and nowhere else.
 *
 * Life of a session:
 *
 *     connecting/handshake   http2 NULL; the watch timer counts handshake_us
 *     HTTP/2 started         our SETTINGS are out; settled when the peer's came
 *     open                   ops->ready agreed (a server's are open as soon as they are settled)
 *     draining               told_draining: one side said goodbye, calls on it go on
 *     ended or gone          calls were told; memory goes when no frame of ours uses it (busy)
 *
 * ended: the transport broke or both sides are done, ops->ended runs. gone: no callback may run
 * any more. rpc_session_destroy goes straight to gone, since its caller knows what it does.
 *
 * Everything that happens in one round of the loop leaves in one write: nghttp2's callbacks only
 * mark calls ready, session_work lets handlers take it, and flush then gathers every frame that
 * this produced. Two rounds are needed only for what the flush itself closes.
 *
 * Entry points: rpc_session_accept, rpc_session_connect, rpc_session_wake, rpc_session_drain,
 * rpc_session_destroy.
 */
#include "ctrl/rpc/rpc_internal.h"

#include "core/base/log.h"
#include "core/io/tls.h"
#include "ctrl/rpc/text.h"

/*
 * Output is handed to the stream while it has less than this queued: beyond it the bytes stay in
 * the calls, where rpc_call_pending counts them. WIRE_CHUNK bounds our own copy of a long flush.
 */
enum { WRITE_HIGH = 256 * 1024, WIRE_CHUNK = 64 * 1024 };

struct rpc_options rpc_options_complete(const struct rpc_options *options)
{
    /* The defaults named in rpc.h, in one place for both sides. */
    struct rpc_options o = options == NULL ? (struct rpc_options){0} : *options;
    o.message_max = o.message_max == 0 ? 4U << 20 : o.message_max;
    o.window = o.window == 0 ? 256U << 10 : o.window;
    o.send_high = o.send_high == 0 ? 256U << 10 : o.send_high;
    o.calls_max = o.calls_max == 0 ? 128 : o.calls_max;
    o.connections_max = o.connections_max == 0 ? 1024 : o.connections_max;
    o.handshake_us = o.handshake_us == 0 ? 10000000 : o.handshake_us;
    o.keepalive_us = o.keepalive_us == 0 ? 10000000 : o.keepalive_us;
    o.keepalive_wait_us = o.keepalive_wait_us == 0 ? 5000000 : o.keepalive_wait_us;
    /* A window is 31 bits in HTTP/2 (RFC 9113, 6.9.1), a gRPC message's length 32. */
    ASSERT(o.window <= INT32_MAX && o.message_max <= UINT32_MAX);
    return o;
}

/* ---- lists ----------------------------------------------------------------------------------- */

/* A call is in one list at a time; list and session change together, here and below only. */
void rpc_session_link(struct rpc_call *call, struct rpc_session *session,
                      struct rpc_call_list *list)
{
    ASSERT(call->list == NULL && call->session == NULL);
    call->session = session;
    call->list = list;
    TAILQ_INSERT_TAIL(list, call, link);
}

/*
 * Also out of the ready list: a call without a session is never dispatched, so whoever unlinks it
 * decides what becomes of it (rpc_call_end, rpc_call_release, or another list).
 */
void rpc_session_unlink(struct rpc_call *call)
{
    ASSERT(call->list != NULL || !call->is_ready);
    struct rpc_session *session = call->session;
    if (call->list != NULL) {
        TAILQ_REMOVE(call->list, call, link);
        call->list = NULL;
    }
    if (call->is_ready) {
        ASSERT(session != NULL);
        TAILQ_REMOVE(&session->ready, call, ready_link);
        call->is_ready = false;
    }
    call->session = NULL;
    if (session != NULL) {
        rpc_session_wake(session); /* it may have been the last call of a draining session */
    }
}

/* One timer that is due at once: output and handlers of one round are done together. */
void rpc_session_wake(struct rpc_session *session)
{
    ASSERT(session != NULL);
    if (!session->ended && !session->gone && session->work_timer.heap_at == 0) {
        io_timer_start(session->loop, &session->work_timer, io_now_us(session->loop));
    }
}

/*
 * Idempotent within a round: however many frames came, the call is dispatched once and takes them
 * all. Safe inside nghttp2's callbacks: nothing of the user runs here.
 */
void rpc_session_mark_ready(struct rpc_call *call)
{
    struct rpc_session *session = call->session;
    if (session == NULL || call->is_ready) {
        return;
    }
    call->is_ready = true;
    TAILQ_INSERT_TAIL(&session->ready, call, ready_link);
    rpc_session_wake(session);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* From leave only: busy 0 means that no frame of ours further up the stack touches it again. */
static void session_free(struct rpc_session *session)
{
    ASSERT(session->busy == 0 && TAILQ_EMPTY(&session->calls) && TAILQ_EMPTY(&session->ready));
    ASSERT(session->stream == NULL);
    if (session->http2 != NULL) {
        nghttp2_session_del(session->http2);
    }
    buf_free(&session->wire);
    free(session->peer);
    free(session->peer_name);
    free(session);
}

/* Between enter and leave the session's memory stays, whatever handlers do to it. */
static void enter(struct rpc_session *session)
{
    session->busy++;
}

static void leave(struct rpc_session *session)
{
    ASSERT(session->busy > 0);
    session->busy--;
    if (session->busy == 0 && session->gone) {
        session_free(session);
    }
}

/* Before memory may go: a timer that fires later would find it freed. */
static void stop_timers(struct rpc_session *session)
{
    io_timer_cancel(session->loop, &session->work_timer);
    io_timer_cancel(session->loop, &session->watch_timer);
}

/* Cuts the transport; no callback of it follows. */
static void close_stream(struct rpc_session *session)
{
    if (session->stream != NULL) {
        io_stream_close(session->stream);
        session->stream = NULL;
    }
}

/*
 * Lets the handlers take what happened. Bounded by what is ready now: handlers that make new work
 * get it done in the next round of the loop.
 */
static void run_ready(struct rpc_session *session)
{
    size_t rounds = 0;
    struct rpc_call *call;
    TAILQ_FOREACH(call, &session->ready, ready_link) {
        rounds++;
    }
    for (; rounds > 0 && !session->gone && !TAILQ_EMPTY(&session->ready); rounds--) {
        call = TAILQ_FIRST(&session->ready);
        ASSERT(call->is_ready && call->session == session);
        TAILQ_REMOVE(&session->ready, call, ready_link);
        call->is_ready = false;
        rpc_call_dispatch(call);
    }
}

/* The connection is over: tells every call, then the owner. Runs from the loop. Owns reason. */
static void session_end(struct rpc_session *session, err_t reason)
{
    ASSERT(session != NULL);
    if (session->ended || session->gone) {
        err_free(reason);
        return;
    }
    session->ended = true;
    stop_timers(session);
    close_stream(session);
    /* Borrowed from reason, which therefore lives until every call and the owner were told. */
    const char *text = reason == ERR_OK ? "the connection was closed" : err_text(reason);
    enter(session);
    if (session->is_open && session->ops->draining != NULL) {
        session->ops->draining(session->owner, session); /* calls started from close go elsewhere */
    }
    while (!session->gone && !TAILQ_EMPTY(&session->calls)) {
        /* Each turn ends the call, or delivers one message of it at least: it comes to an end. */
        struct rpc_call *call = TAILQ_FIRST(&session->calls);
        rpc_call_lose(call, text);
        if (call->is_ready) {
            TAILQ_REMOVE(&session->ready, call, ready_link);
            call->is_ready = false;
        }
        call->paused = false; /* what arrived in order is delivered before the end is */
        rpc_call_dispatch(call);
    }
    if (!session->gone) {
        session->gone = true;
        session->ops->ended(session->owner, session, text);
    }
    leave(session);
    err_free(reason);
}

/*
 * From the owner, which has already taken the session out of its list. gone is set first: a close
 * handler that comes back into the owner finds a session that does nothing any more.
 */
void rpc_session_destroy(struct rpc_session *session, enum rpc_status status, const char *reason)
{
    ASSERT(session != NULL && !session->gone);
    session->gone = true;
    stop_timers(session);
    close_stream(session);
    enter(session);
    while (!TAILQ_EMPTY(&session->calls)) {
        struct rpc_call *call = TAILQ_FIRST(&session->calls);
        rpc_session_unlink(call);
        rpc_call_end(call, status, reason);
    }
    leave(session);
}

/* ---- output ---------------------------------------------------------------------------------- */

/* What one flush gathered goes down in one write. */
static void write_wire(struct rpc_session *session)
{
    ASSERT(session->stream != NULL);
    if (session->wire.len > 0) {
        io_stream_write(session->stream, session->wire.data, session->wire.len);
        buf_clear(&session->wire);
    }
}

/* Takes frames from nghttp2 while the stream below has room; its drain brings us back. */
static err_t flush(struct rpc_session *session)
{
    ASSERT(session->stream != NULL && session->http2 != NULL);
    while (io_stream_pending(session->stream) + session->wire.len < WRITE_HIGH) {
        const uint8_t *data;
        /* data is nghttp2's own memory, valid until the next call. */
        ssize_t len = nghttp2_session_mem_send(session->http2, &data);
        if (len < 0) {
            return err_new(ERR_PROTOCOL, "HTTP/2: %s", nghttp2_strerror((int)len));
        }
        if (len == 0) {
            break;
        }
        buf_append(&session->wire, data, (size_t)len);
        if (session->wire.len >= WIRE_CHUNK) {
            write_wire(session);
        }
    }
    write_wire(session);
    return ERR_OK;
}

/* Over in order: nothing more will be said by either side. */
static bool is_finished(struct rpc_session *session)
{
    ASSERT(session->http2 != NULL && !session->gone);
    if (!nghttp2_session_want_read(session->http2) && !nghttp2_session_want_write(session->http2)) {
        return true;
    }
    /*
     * nghttp2 keeps reading as long as a peer might open streams. After the final GOAWAY none
     * counts, and a client opens none itself on a connection that was told to end.
     */
    return (session->drain_final || (session->told_draining && !session->server)) &&
           TAILQ_EMPTY(&session->calls) && !nghttp2_session_want_write(session->http2);
}

/* Both sides have said goodbye: what is queued still goes out. */
static void finish(struct rpc_session *session)
{
    ASSERT(TAILQ_EMPTY(&session->ready));
    if (session->stream != NULL) {
        io_stream_finish(session->stream);
        session->stream = NULL;
    }
    session_end(session, ERR_OK);
}

/* Output, handlers, output again; then whether that was all. */
static void session_work(struct rpc_session *session)
{
    ASSERT(session != NULL);
    if (session->ended || session->gone || session->http2 == NULL) {
        return;
    }
    enter(session);
    run_ready(session);
    err_t err = ERR_OK;
    if (!session->gone && !session->ended) {
        err = flush(session);
    }
    if (!session->gone && !session->ended) {
        if (err != ERR_OK) {
            session_end(session, err);
            err = ERR_OK;
        } else if (!TAILQ_EMPTY(&session->ready)) {
            rpc_session_wake(session); /* streams closed while flushing */
        } else if (is_finished(session)) {
            finish(session);
        }
    }
    err_free(err);
    leave(session);
}

/* See rpc_session_wake. The timer is disarmed when it fires, so a wake from here arms it again. */
static void work_timer_fired(struct io_timer *timer)
{
    session_work(CONTAINER_OF(timer, struct rpc_session, work_timer));
}

/* ---- what nghttp2 tells ---------------------------------------------------------------------- */

/* NULL: the call was abandoned, or has already been told that its stream is closed. */
static struct rpc_call *call_of(nghttp2_session *http2, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(http2, stream_id);
}

/* A request begins: its call exists from here on, unknown to any handler. */
static int on_begin_headers(nghttp2_session *http2, const nghttp2_frame *frame, void *user)
{
    struct rpc_session *session = user;
    if (!session->server || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    /* How many there can be at once is bounded by SETTINGS_MAX_CONCURRENT_STREAMS (calls_max). */
    struct rpc_call *call = rpc_call_new(session->loop, session->options);
    call->stream_id = frame->hd.stream_id;
    rpc_session_link(call, session, &session->calls);
    nghttp2_session_set_stream_user_data(http2, call->stream_id, call);
    return 0;
}

/* Keeps a field; the first that is too much or malformed decides the call's fate. */
static void receive_metadata(struct rpc_call *call, const nghttp2_vec *name,
                             const nghttp2_vec *value)
{
    ASSERT(call->list != NULL);
    err_t err = rpc_metadata_receive(&call->received, (const char *)name->base, name->len,
                                     (const char *)value->base, value->len);
    if (err != ERR_OK) {
        /* A server answers once the request is complete (on_request in server.c looks at it). */
        rpc_call_set_status(call,
                            err_code(err) == ERR_LIMIT ? RPC_RESOURCE_EXHAUSTED : RPC_INTERNAL,
                            err_text(err));
        call->status_local = true;
        err_free(err);
    }
}

static bool name_is(const nghttp2_vec *name, const char *text)
{
    return name->len == strlen(text) && memcmp(name->base, text, name->len) == 0;
}

/* A field of a request. Pseudo-fields were checked by nghttp2. */
static void server_field(struct rpc_call *call, const nghttp2_vec *name, const nghttp2_vec *value)
{
    ASSERT(call->channel == NULL);
    if (call->request_complete) {
        return; /* a client's trailers mean nothing in gRPC */
    }
    if (name_is(name, ":path") && call->path == NULL) {
        call->path = mem_strndup((const char *)value->base, value->len);
    } else if (name_is(name, ":method") && call->http_method == NULL) {
        call->http_method = mem_strndup((const char *)value->base, value->len);
    } else if (name->len > 0 && name->base[0] != ':') {
        receive_metadata(call, name, value);
    }
}

/* "0".."16"; anything else is UNKNOWN, as gRPC asks. */
static enum rpc_status parse_status(const nghttp2_vec *value)
{
    unsigned number = 0;
    for (size_t i = 0; i < value->len; i++) {
        if (value->base[i] < '0' || value->base[i] > '9' || i == 2) {
            return RPC_UNKNOWN;
        }
        number = number * 10 + (unsigned)(value->base[i] - '0');
    }
    return value->len > 0 && number <= RPC_UNAUTHENTICATED ? (enum rpc_status)number : RPC_UNKNOWN;
}

/* A field of a response or its trailers. In a response of trailers only all come at once. */
static void client_field(struct rpc_call *call, const nghttp2_vec *name, const nghttp2_vec *value)
{
    ASSERT(call->channel != NULL);
    if (name_is(name, ":status")) {
        call->http_status = (int)strtol((const char *)value->base, NULL, 10);
    } else if (name_is(name, "grpc-status")) {
        if (!call->have_status) {
            char *message = call->status_message;
            call->status_message = NULL;
            rpc_call_set_status(call, parse_status(value), message == NULL ? "" : message);
            free(message);
        }
    } else if (name_is(name, "grpc-message")) {
        if (!call->status_local) {
            struct buf text = {0};
            rpc_percent_decode(&text, (const char *)value->base, value->len);
            free(call->status_message);
            call->status_message = mem_strdup(buf_cstr(&text));
            buf_free(&text);
        }
    } else if (name->len > 0 && name->base[0] != ':') {
        receive_metadata(call, name, value);
    }
}

static int on_header(nghttp2_session *http2, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    ASSERT(name != NULL && value != NULL);
    struct rpc_session *session = user;
    struct rpc_call *call = call_of(http2, frame->hd.stream_id);
    if (call == NULL) {
        return 0;
    }
    nghttp2_vec name_bytes = nghttp2_rcbuf_get_buf(name);
    nghttp2_vec value_bytes = nghttp2_rcbuf_get_buf(value);
    if (session->server) {
        server_field(call, &name_bytes, &value_bytes);
    } else {
        client_field(call, &name_bytes, &value_bytes);
    }
    return 0;
}

/* The block of a response is complete. end: it is the last one, the trailers. */
static void client_headers(struct rpc_call *call, bool end)
{
    ASSERT(call->channel != NULL);
    if (call->http_status >= 100 && call->http_status < 200) {
        call->http_status = 0; /* informational: the real ones follow */
        return;
    }
    if (!end && call->http_status == 200) {
        const struct rpc_entry *type = rpc_metadata_find(&call->received, "content-type");
        if (type == NULL || strncmp(type->value, "application/grpc", 16) != 0) {
            rpc_call_fail(call, RPC_UNKNOWN, "the server's answer is not gRPC");
            return;
        }
        call->headers_arrived = true;
    } else if (!end) {
        rpc_call_fail(call, rpc_status_of_http(call->http_status),
                      "the server answered with an HTTP error");
    }
}

/* A stream the peer has ended while we have not: gRPC's client need not go on. */
static void client_end(struct rpc_session *session, struct rpc_call *call)
{
    ASSERT(call->remote_ended);
    if (!call->out_ended || rpc_call_pending(call) > 0) {
        call->out_ended = true;
        nghttp2_submit_rst_stream(session->http2, NGHTTP2_FLAG_NONE, call->stream_id,
                                  NGHTTP2_NO_ERROR);
    }
}

/* A frame of a call is complete. */
static void stream_frame(struct rpc_session *session, struct rpc_call *call,
                         const nghttp2_frame *frame)
{
    ASSERT(call->session == session);
    bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        if (session->server) {
            call->request_complete = true;
        } else {
            client_headers(call, end);
        }
    }
    if (end && (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA)) {
        call->remote_ended = true;
        if (!session->server) {
            client_end(session, call);
        }
    }
    rpc_session_mark_ready(call);
}

/* Frames of the connection itself: settings, goodbyes, answers to our PING. */
static int on_frame_recv(nghttp2_session *http2, const nghttp2_frame *frame, void *user)
{
    struct rpc_session *session = user;
    if (frame->hd.stream_id != 0) {
        struct rpc_call *call = call_of(http2, frame->hd.stream_id);
        if (call != NULL) {
            stream_frame(session, call, frame);
        }
        return 0;
    }
    bool ack = (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0;
    if (frame->hd.type == NGHTTP2_SETTINGS && !ack) {
        session->settled = true;
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        /* A client's goodbye changes nothing here: nghttp2 ends when its last call has. */
        session->told_draining |= !session->server;
    } else if (frame->hd.type == NGHTTP2_PING && ack && session->told_draining && session->server &&
               !session->drain_final) {
        /* A round trip after the notice: every call the client sent before it knew is here. */
        session->drain_final = true;
        nghttp2_submit_goaway(http2, NGHTTP2_FLAG_NONE,
                              nghttp2_session_get_last_proc_stream_id(http2), NGHTTP2_NO_ERROR,
                              NULL, 0);
    }
    return 0;
}

/*
 * Bytes of a message, in pieces of any size. Automatic window updates are off: the window of a
 * call is given back when its handler took the message (see give_window_back in call.c).
 */
static int on_data(nghttp2_session *http2, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t len, void *user)
{
    struct rpc_call *call = call_of(http2, stream_id);
    /* One stalled call must not stall the others: the connection's window is always given back. */
    nghttp2_session_consume_connection(http2, len);
    if (call != NULL) {
        rpc_call_receive(call, data, len);
    } else {
        nghttp2_session_consume_stream(http2, stream_id, len);
    }
    return 0;
}

/* Server: the trailers are with the transport, so the call ended as finish said. */
static int on_frame_send(nghttp2_session *http2, const nghttp2_frame *frame, void *user)
{
    struct rpc_session *session = user;
    if (!session->server || frame->hd.type != NGHTTP2_HEADERS ||
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
        return 0;
    }
    struct rpc_call *call = call_of(http2, frame->hd.stream_id);
    if (call != NULL) {
        call->trailers_sent = true;
        if (!call->remote_ended) { /* RFC 9113, 8.1: the rest of the request is not needed */
            nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_NO_ERROR);
        }
    }
    return 0;
}

/* nghttp2 forgets the stream: the call hears of it when its turn comes. */
static int on_stream_close(nghttp2_session *http2, int32_t stream_id, uint32_t error_code,
                           void *user)
{
    struct rpc_call *call = call_of(http2, stream_id);
    if (call != NULL) {
        ASSERT(call->stream_id == stream_id);
        /* From here on neither side can find the other: the number may not be used again. */
        nghttp2_session_set_stream_user_data(http2, stream_id, NULL);
        call->stream_id = -1;
        call->closed = true;
        call->reset_code = error_code;
        rpc_session_mark_ready(call);
    }
    return 0;
}

/* Behind this nghttp2 resets the stream or says goodbye; the log says why. */
static int on_invalid_frame(nghttp2_session *http2, const nghttp2_frame *frame, int error_code,
                            void *user)
{
    struct rpc_session *session = user;
    LOG_DEBUG("rpc", "the peer sent an invalid frame", LOG_STR("peer", session->peer),
              LOG_U64("type", frame->hd.type), LOG_I64("stream", frame->hd.stream_id),
              LOG_U64("flags", frame->hd.flags), LOG_STR("reason", nghttp2_strerror(error_code)));
    return 0;
}

/* ---- start of HTTP/2 ------------------------------------------------------------------------- */

/*
 * Both kinds share the callbacks: each asks session->server where the sides differ. Allocation in
 * nghttp2 goes through malloc, and we do not go on without memory: hence the assertions.
 * no_closed_streams: nghttp2 need not remember ended streams for priorities, which gRPC lacks.
 */
static nghttp2_session *new_http2(struct rpc_session *session)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    ASSERT(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_session *http2 = NULL;
    int failed = session->server ? nghttp2_session_server_new2(&http2, callbacks, session, option)
                                 : nghttp2_session_client_new2(&http2, callbacks, session, option);
    ASSERT(failed == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return http2;
}

/*
 * The transport stands. A client's preface and both sides' SETTINGS leave with the first flush. The
 * peer's text and name are copied: calls may ask for them after the stream has gone.
 */
static void start_http2(struct rpc_session *session)
{
    ASSERT(session->http2 == NULL && session->stream != NULL);
    session->http2 = new_http2(session);
    session->peer = mem_strdup(io_stream_peer(session->stream));
    session->peer_name = mem_strdup(io_stream_peer_name(session->stream));
    io_stream_set_high_water(session->stream, WRITE_HIGH / 2);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)session->options->window},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, RPC_METADATA_BYTES_MAX},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, session->options->calls_max},
    };
    /* A server must not send ENABLE_PUSH, a client takes no streams: each leaves one out. */
    nghttp2_settings_entry mine[] = {settings[0], settings[1],
                                     session->server ? settings[3] : settings[2]};
    nghttp2_submit_settings(session->http2, NGHTTP2_FLAG_NONE, mine, ARRAY_LEN(mine));
    /*
     * The connection's window is given back as bytes come (see on_data), so it only has to cover
     * what is under way. Four calls' worth lets several senders run at full speed; the condition
     * keeps it below the 31 bits there are.
     */
    size_t window = session->options->window < 1U << 28 ? session->options->window * 4
                                                        : session->options->window;
    nghttp2_session_set_local_window_size(session->http2, NGHTTP2_FLAG_NONE, 0, (int32_t)window);
    session->last_read_us = io_now_us(session->loop);
    rpc_session_wake(session);
}

/*
 * The peer's SETTINGS came. A client waits for them before its first call: they say how many calls
 * the server takes at once, and that it is an HTTP/2 server at all.
 */
static err_t check_open(struct rpc_session *session)
{
    if (!session->settled || session->is_open) {
        return ERR_OK;
    }
    if (session->ops->ready != NULL) {
        TRY(session->ops->ready(session->owner, session));
    }
    session->is_open = true;
    return ERR_OK;
}

/* ---- the stream below ------------------------------------------------------------------------ */

/* The server said goodbye: the channel makes a new connection for the next call. */
static void check_draining(struct rpc_session *session)
{
    if (session->told_draining && !session->server && !session->gone &&
        session->ops->draining != NULL) {
        session->ops->draining(session->owner, session);
    }
}

/* Bytes from the transport. Everything they cause is done before this returns. */
static void stream_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    ASSERT(fds_len == 0);
    struct rpc_session *session = arg;
    if (session->http2 == NULL) {
        return; /* TLS owns the stream and takes its bytes */
    }
    session->last_read_us = io_now_us(session->loop);
    session->ping_us = 0;
    enter(session);
    ssize_t used = nghttp2_session_mem_recv(session->http2, data, len);
    if (used < 0) {
        session_end(session, err_new(ERR_PROTOCOL, "HTTP/2 of %s: %s", session->peer,
                                     nghttp2_strerror((int)used)));
    } else {
        ASSERT((size_t)used == len);
        err_t err = check_open(session);
        if (err != ERR_OK) {
            session_end(session, err);
        }
        check_draining(session);
        session_work(session);
    }
    leave(session);
}

/* The transport has room again: what flush left in nghttp2 and in the calls goes on. */
static void stream_drain(void *arg)
{
    session_work(arg);
}

/* The transport ended by itself, also while connecting or shaking hands. */
static void stream_closed(void *arg, err_t reason)
{
    struct rpc_session *session = arg;
    session->stream = NULL; /* freed when this returns */
    session_end(session, reason);
}

static const struct io_stream_handler stream_handler = {
    .data = stream_data,
    .drain = stream_drain,
    .close = stream_closed,
};

/* TLS has verified the peer; the stream is now the encrypted one, over the one that was there. */
static void tls_ready(void *arg, struct io_stream *stream)
{
    struct rpc_session *session = arg;
    session->stream = stream;
    start_http2(session);
}

/* The transport stands: TLS on top when asked for, then HTTP/2. */
static void stream_ready(void *arg, struct io_stream *stream)
{
    struct rpc_session *session = arg;
    session->stream = stream;
    if (session->tls != NULL) {
        tls_start(session->tls, stream, session->server_name, NULL, 0, &stream_handler, session,
                  tls_ready, &session->stream);
        return;
    }
    io_stream_set_handler(stream, &stream_handler, session);
    start_http2(session);
}

/* ---- handshake limit and keep-alive ---------------------------------------------------------- */

/* One timer for both limits: the keep-alive begins only when the handshake is over. */
static void watch(struct rpc_session *session, uint64_t deadline_us)
{
    io_timer_start(session->loop, &session->watch_timer, deadline_us);
}

/* Without settings in time it was no HTTP/2; without an answer to a PING nobody is there. */
static void watch_timer_fired(struct io_timer *timer)
{
    struct rpc_session *session = CONTAINER_OF(timer, struct rpc_session, watch_timer);
    ASSERT(!session->ended && !session->gone);
    const struct rpc_options *o = session->options;
    uint64_t now = io_now_us(session->loop);
    if (!session->settled) {
        session_end(session, err_new(ERR_TIMEOUT, "no HTTP/2 connection within %llu ms",
                                     (unsigned long long)(o->handshake_us / 1000)));
    } else if (session->ping_us != 0) {
        session_end(session, err_new(ERR_TIMEOUT, "the peer did not answer a PING for %llu ms",
                                     (unsigned long long)(o->keepalive_wait_us / 1000)));
    } else if (now - session->last_read_us >= o->keepalive_us) {
        session->ping_us = now;
        nghttp2_submit_ping(session->http2, NGHTTP2_FLAG_NONE, NULL);
        rpc_session_wake(session);
        watch(session, now + o->keepalive_wait_us);
    } else {
        watch(session, session->last_read_us + o->keepalive_us);
    }
}

/* ---- making one ------------------------------------------------------------------------------ */

/* options and owner outlive the session: they are the server's or channel's own. */
static struct rpc_session *session_new(struct io_loop *loop, struct tls_context *tls,
                                       const struct rpc_options *options,
                                       const struct rpc_session_ops *ops, void *owner)
{
    ASSERT(loop != NULL && options != NULL && ops != NULL && options->window > 0);
    struct rpc_session *session = MEM_NEW(struct rpc_session);
    session->ops = ops;
    session->owner = owner;
    session->options = options;
    session->loop = loop;
    session->tls = tls;
    session->work_timer.fire = work_timer_fired;
    session->watch_timer.fire = watch_timer_fired;
    TAILQ_INIT(&session->calls);
    TAILQ_INIT(&session->ready);
    watch(session, io_now_us(loop) + options->handshake_us);
    return session;
}

struct rpc_session *rpc_session_accept(struct io_loop *loop, struct io_stream *stream,
                                       struct tls_context *tls, const struct rpc_options *options,
                                       const struct rpc_session_ops *ops, void *owner)
{
    ASSERT(stream != NULL);
    struct rpc_session *session = session_new(loop, tls, options, ops, owner);
    session->server = true;
    stream_ready(session, stream);
    return session;
}

/*
 * An error means that nothing was started (an address that cannot be parsed); a connection that is
 * refused comes through ops->ended like every later end.
 */
err_t rpc_session_connect(struct io_loop *loop, const char *address, struct tls_context *tls,
                          const char *server_name, const struct rpc_options *options,
                          const struct rpc_session_ops *ops, void *owner, struct rpc_session **out)
{
    ASSERT(address != NULL && out != NULL);
    struct rpc_session *session = session_new(loop, tls, options, ops, owner);
    session->server_name = server_name;
    err_t err = io_connect(loop, address, &stream_handler, session, stream_ready, &session->stream);
    if (err != ERR_OK) {
        io_timer_cancel(loop, &session->watch_timer);
        free(session);
        return err;
    }
    *out = session;
    return ERR_OK;
}

/*
 * The graceful shutdown of RFC 9113, 6.8: first a GOAWAY that names the highest possible stream
 * (the shutdown notice) and a PING behind it. The PING's answer proves that the client has read the
 * notice; the second GOAWAY then names the last stream that was really taken, and no call is lost
 * between the two.
 */
void rpc_session_drain(struct rpc_session *session)
{
    ASSERT(session->server);
    if (session->ended || session->gone || session->told_draining) {
        return;
    }
    if (session->http2 == NULL) {
        session->told_draining = true; /* still shaking hands: no call can be on it */
        session->settled = false;
        watch(session, io_now_us(session->loop));
        return;
    }
    session->told_draining = true;
    nghttp2_submit_shutdown_notice(session->http2);
    nghttp2_submit_ping(session->http2, NGHTTP2_FLAG_NONE, NULL);
    rpc_session_wake(session);
}
