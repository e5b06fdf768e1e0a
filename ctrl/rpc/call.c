/*
 * One call, either side: framing, queues, flow control, status. See rpc_internal.h.
 *
 * Runs on the loop of its session. What goes out:
 *
 *     rpc_call_send    prefix + message -> out; wakes the session
 *     read_output      nghttp2 asks, when both windows have room: out -> DATA
 *     end of out       client: END_STREAM; server: the trailers with the status
 *
 * What comes in:
 *
 *     rpc_call_receive DATA -> in, the call becomes ready
 *     rpc_call_dispatch whole messages -> handler, then the window is given back, then half_close,
 *                      drain, close, each when its time has come
 *
 * So a handler that pauses, or is slow to be called, holds back its sender by the window and no one
 * else; and memory of a call is bounded by a window and a message (in) and by what its own handler
 * queued (out).
 *
 * The status of a server's call is what rpc_call_finish said, once the trailers were given to the
 * transport. The status of a client's call is what the server sent, unless we settled it here first
 * (status_local: deadline, cancel, a broken message) or lost the connection before either.
 */
#include "ctrl/rpc/rpc_internal.h"

#include "ctrl/rpc/text.h"

#include <stdio.h>

/* ---- life ------------------------------------------------------------------------------------ */

static void timer_fired(struct io_timer *timer);

/* In no list and with no handler: whoever makes one fills in what its side knows. */
struct rpc_call *rpc_call_new(struct io_loop *loop, const struct rpc_options *options)
{
    ASSERT(loop != NULL && options != NULL && options->message_max > 0);
    struct rpc_call *call = MEM_NEW(struct rpc_call);
    call->loop = loop;
    call->options = options;
    call->stream_id = -1;
    call->timer.fire = timer_fired;
    return call;
}

/* The one place where a call's memory ends; nothing may refer to it any more. */
static void call_free(struct rpc_call *call)
{
    ASSERT(call->list == NULL);
    ASSERT(call->busy == 0 && !call->is_ready && call->session == NULL);
    if (call->free_arg != NULL) {
        call->free_arg(call->arg);
    }
    rpc_metadata_free(&call->received);
    rpc_metadata_free(&call->headers);
    rpc_metadata_free(&call->trailers);
    buf_free(&call->in);
    buf_free(&call->out);
    free(call->status_message);
    free(call->path);
    free(call->http_method);
    free(call);
}

/* Without a word to the handler: for calls that were never opened, and for rpc_call_abandon. */
void rpc_call_release(struct rpc_call *call)
{
    ASSERT(call->session == NULL && call->list == NULL);
    io_timer_cancel(call->loop, &call->timer);
    call->gone = true;
    if (call->busy == 0) {
        call_free(call);
    }
}

/* Between enter and leave a call's memory stays, whatever handlers do to it. */
static void enter(struct rpc_call *call)
{
    call->busy++;
}

static void leave(struct rpc_call *call)
{
    ASSERT(call->busy > 0);
    call->busy--;
    if (call->busy == 0 && call->gone) {
        call_free(call);
    }
}

/*
 * The one place that runs close. gone is set before it, so that close comes once whatever the
 * handler does in it; the memory goes in leave, or further up the stack when a dispatch is under
 * way.
 */
void rpc_call_end(struct rpc_call *call, enum rpc_status status, const char *message)
{
    ASSERT(!call->gone && call->session == NULL && !call->is_ready);
    ASSERT(message != NULL);
    call->gone = true; /* whatever the handler does with the call now is a no-op */
    enter(call);
    if (call->opened && call->handler->close != NULL) {
        call->handler->close(call->arg, call, status, message);
    }
    io_timer_cancel(call->loop, &call->timer);
    leave(call);
}

/* ---- status ---------------------------------------------------------------------------------- */

/* The first one stays: a deadline that passes after the status has come changes nothing. */
void rpc_call_set_status(struct rpc_call *call, enum rpc_status status, const char *message)
{
    ASSERT(message != NULL);
    if (call->have_status) {
        return;
    }
    call->have_status = true;
    call->status = status;
    call->status_message = mem_strdup(message);
}

/*
 * From the session, when the transport is gone. The status both sides agreed on stands; one of ours
 * that had not reached the peer (a finish that was still queued) becomes UNAVAILABLE, which is what
 * the peer sees too.
 */
void rpc_call_lose(struct rpc_call *call, const char *reason)
{
    ASSERT(reason != NULL);
    call->closed = true;
    call->stream_id = -1;
    if (call->trailers_sent || (call->channel != NULL && call->have_status)) {
        return; /* the status was already settled between both sides */
    }
    call->lost = true;
    call->have_status = false;
    free(call->status_message);
    call->status_message = NULL;
    rpc_call_set_status(call, RPC_UNAVAILABLE, reason);
}

/* RST_STREAM, when there is a stream; close follows from the loop. */
static void reset_stream(struct rpc_call *call, uint32_t code)
{
    ASSERT(call != NULL);
    if (call->session != NULL && call->session->http2 != NULL && call->stream_id >= 0) {
        nghttp2_submit_rst_stream(call->session->http2, NGHTTP2_FLAG_NONE, call->stream_id, code);
        rpc_session_wake(call->session);
    }
}

/* The outcome is settled: neither what came nor what was to go matters any more. */
static void drop_queues(struct rpc_call *call)
{
    ASSERT(call->in_at <= call->in.len && call->out_at <= call->out.len);
    buf_clear(&call->in);
    call->in_at = 0;
    buf_clear(&call->out);
    call->out_at = 0;
}

/*
 * Server: the client gets the status in trailers if they can still be sent, else a reset. Client:
 * a reset, since the server has no use for our status; close reports it here.
 */
void rpc_call_fail(struct rpc_call *call, enum rpc_status status, const char *message)
{
    ASSERT(status != RPC_OK);
    if (call->gone || call->closed) {
        return;
    }
    bool server = call->channel == NULL;
    if (server && !call->out_ended && rpc_call_pending(call) == 0) {
        drop_queues(call);
        rpc_call_finish(call, status, message);
        return;
    }
    /* A server whose queue waits for the client's window cannot send trailers behind it. */
    if (server || !call->have_status) {
        call->status_local = true;
        call->have_status = false;
        free(call->status_message);
        rpc_call_set_status(call, status, message);
    }
    drop_queues(call);
    call->out_ended = true;
    reset_stream(call, NGHTTP2_CANCEL);
}

/* The deadline, of either side; or a call that was cancelled before it had a connection. */
static void timer_fired(struct io_timer *timer)
{
    struct rpc_call *call = CONTAINER_OF(timer, struct rpc_call, timer);
    ASSERT(!call->gone);
    if (call->session != NULL) {
        rpc_call_fail(call, RPC_DEADLINE_EXCEEDED, "deadline exceeded");
        return;
    }
    /* Still waiting for a connection: cancelled, or late. */
    if (!call->have_status) {
        rpc_call_set_status(call, RPC_DEADLINE_EXCEEDED,
                            "deadline exceeded while connecting to the server");
    }
    enter(call);
    rpc_session_unlink(call);
    rpc_call_end(call, call->status, call->status_message);
    leave(call);
}

/* A deadline that has passed fires in the next round: close never comes from the caller's frame. */
void rpc_call_arm_deadline(struct rpc_call *call)
{
    ASSERT(!call->gone);
    if (call->deadline_us != 0) {
        io_timer_start(call->loop, &call->timer, call->deadline_us);
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

/* The length is 32 bits on the wire, big endian; we never compress. */
static void put_prefix(struct buf *out, size_t len)
{
    ASSERT(len <= UINT32_MAX);
    uint8_t prefix[RPC_PREFIX_SIZE] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16),
                                       (uint8_t)(len >> 8), (uint8_t)len};
    buf_append(out, prefix, sizeof(prefix));
}

size_t rpc_call_pending(const struct rpc_call *call)
{
    ASSERT(call->out_at <= call->out.len);
    return call->out.len - call->out_at;
}

bool rpc_call_choked(const struct rpc_call *call)
{
    return call->choked;
}

/* False once nobody can get what would be sent. */
static bool can_send(const struct rpc_call *call)
{
    return !call->gone && !call->closed && !call->out_ended;
}

/* The queue grew or ended: HTTP/2 may ask again. */
static void wake_output(struct rpc_call *call)
{
    if (rpc_call_pending(call) >= call->options->send_high) {
        call->choked = true;
    }
    if (call->session == NULL || call->stream_id < 0) {
        return;
    }
    if (call->out_deferred) {
        call->out_deferred = false;
        nghttp2_session_resume_data(call->session->http2, call->stream_id);
    }
    rpc_session_wake(call->session);
}

void rpc_call_send(struct rpc_call *call, const void *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    ASSERT(len <= UINT32_MAX);
    if (!can_send(call)) {
        return;
    }
    rpc_call_send_headers(call);
    put_prefix(&call->out, len);
    if (len > 0) {
        buf_append(&call->out, data, len);
    }
    wake_output(call);
}

/* Encodes straight into the queue; the prefix is filled in when the length is known. */
err_t rpc_call_send_pb(struct rpc_call *call, const pb_msgdesc_t *fields, const void *message)
{
    ASSERT(fields != NULL && message != NULL);
    if (!can_send(call)) {
        return ERR_OK;
    }
    size_t before = call->out.len; /* where to go back to; nothing is read before we return */
    put_prefix(&call->out, 0);
    err_t err = rpc_pb_encode(fields, message, &call->out);
    size_t len = call->out.len - before - RPC_PREFIX_SIZE;
    if (err == ERR_OK && len > UINT32_MAX) {
        err = err_new(ERR_LIMIT, "a message of %zu bytes", len);
    }
    if (err != ERR_OK) {
        call->out.len = before;
        return err;
    }
    for (unsigned i = 0; i < 4; i++) {
        call->out.data[before + 1 + i] = (uint8_t)(len >> (24 - 8 * i));
    }
    rpc_call_send_headers(call);
    wake_output(call);
    return ERR_OK;
}

/* nghttp2 copies names and values when they are submitted and changes neither. */
static nghttp2_nv field(const char *name, const char *value, size_t value_len)
{
    ASSERT(name != NULL && value != NULL);
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .namelen = strlen(name),
                        .value = (uint8_t *)(uintptr_t)value,
                        .valuelen = value_len};
}

/* A value without NUL bytes, of ours or already checked. */
static nghttp2_nv text_field(const char *name, const char *value)
{
    return field(name, value, strlen(value));
}

/*
 * A header block under construction. Room for our own fields (at most 8, in a request) in front of
 * the user's, whose number rpc_metadata_add bounds: it is made on the stack, and fields_add
 * asserts.
 */
enum { OWN_FIELDS_MAX = 10 };
struct field_list {
    nghttp2_nv fields[OWN_FIELDS_MAX + RPC_METADATA_ENTRIES_MAX];
    size_t len;
};

static void fields_add(struct field_list *list, nghttp2_nv nv)
{
    ASSERT(list->len < ARRAY_LEN(list->fields));
    list->fields[list->len++] = nv;
}

static void fields_add_metadata(struct field_list *list, const struct rpc_metadata_list *metadata)
{
    ASSERT(metadata->entries_len <= RPC_METADATA_ENTRIES_MAX);
    for (size_t i = 0; i < metadata->entries_len; i++) {
        const struct rpc_entry *entry = &metadata->entries[i];
        fields_add(list, field(entry->key, entry->value, entry->value_len));
    }
}

/* Trailers go behind the last byte; the data provider calls this when it has none left. */
static void submit_trailers(struct rpc_call *call)
{
    ASSERT(call->channel == NULL && call->have_status);
    struct field_list list;
    list.len = 0;
    char number[12];
    snprintf(number, sizeof(number), "%d", (int)call->status);
    fields_add(&list, text_field("grpc-status", number));
    struct buf text = {0};
    rpc_percent_encode(&text, call->status_message);
    if (text.len > 0) {
        fields_add(&list, field("grpc-message", (const char *)text.data, text.len));
    }
    fields_add_metadata(&list, &call->trailers);
    nghttp2_submit_trailer(call->session->http2, call->stream_id, list.fields, list.len);
    buf_free(&text);
}

/* Tells drain when the queue has become short, from the loop. */
static void check_drain(struct rpc_call *call)
{
    if (call->choked && rpc_call_pending(call) < call->options->send_high / 4) {
        rpc_session_mark_ready(call);
    }
}

/* nghttp2 has room in the call's window: gives it what is queued, or says that there is none. */
static ssize_t read_output(nghttp2_session *http2, int32_t stream_id, uint8_t *to, size_t room,
                           uint32_t *flags, nghttp2_data_source *source, void *user)
{
    /* Not from source: an abandoned call is gone while its stream may still be asked for data. */
    struct rpc_call *call = nghttp2_session_get_stream_user_data(http2, stream_id);
    if (call == NULL) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    ASSERT(call->stream_id == stream_id);
    size_t len = rpc_call_pending(call);
    len = len < room ? len : room;
    if (len > 0) {
        memcpy(to, call->out.data + call->out_at, len);
        call->out_at += len;
    }
    if (call->out_at == call->out.len) {
        buf_clear(&call->out);
        call->out_at = 0;
    } else if (call->out_at > call->out.len / 2) {
        buf_consume(&call->out, call->out_at);
        call->out_at = 0;
    }
    check_drain(call);
    if (rpc_call_pending(call) == 0 && call->out_ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (call->channel == NULL) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(call);
        }
        return (ssize_t)len;
    }
    if (len == 0) {
        call->out_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)len;
}

/*
 * Server: once, before the first message. The data provider stays with the stream: nghttp2 asks it
 * until it says end, and is told with NGHTTP2_ERR_DEFERRED when there is nothing yet.
 */
void rpc_call_send_headers(struct rpc_call *call)
{
    if (call->channel != NULL || call->headers_sent || call->gone || call->closed) {
        return;
    }
    ASSERT(call->session != NULL && call->stream_id >= 0);
    call->headers_sent = true;
    struct field_list list;
    list.len = 0;
    fields_add(&list, text_field(":status", "200"));
    fields_add(&list, text_field("content-type", "application/grpc"));
    fields_add(&list, text_field("grpc-accept-encoding", "identity"));
    fields_add_metadata(&list, &call->headers);
    nghttp2_data_provider provider = {.read_callback = read_output};
    nghttp2_submit_response(call->session->http2, call->stream_id, list.fields, list.len,
                            &provider);
    rpc_session_wake(call->session);
}

/* A response that is only a status: one header block that ends the stream. */
static void send_trailers_only(struct rpc_call *call)
{
    ASSERT(call->have_status && !call->headers_sent);
    call->headers_sent = true;
    struct field_list list;
    list.len = 0;
    char number[12];
    snprintf(number, sizeof(number), "%d", (int)call->status);
    fields_add(&list, text_field(":status", "200"));
    fields_add(&list, text_field("content-type", "application/grpc"));
    fields_add(&list, text_field("grpc-accept-encoding", "identity"));
    fields_add(&list, text_field("grpc-status", number));
    struct buf text = {0};
    rpc_percent_encode(&text, call->status_message);
    fields_add(&list, field("grpc-message", buf_cstr(&text), text.len));
    fields_add_metadata(&list, &call->trailers);
    nghttp2_submit_response(call->session->http2, call->stream_id, list.fields, list.len, NULL);
    buf_free(&text);
    rpc_session_wake(call->session);
}

/*
 * Nothing was sent and no headers are wanted: one block does (Trailers-Only of gRPC's protocol).
 * Otherwise the end of the queue makes read_output send the trailers.
 */
void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *message)
{
    ASSERT(call->channel == NULL);
    if (call->gone || call->closed || call->out_ended) {
        return;
    }
    call->out_ended = true;
    rpc_call_set_status(call, status, message == NULL ? "" : message);
    if (!call->headers_sent && call->headers.entries_len == 0) {
        send_trailers_only(call);
        return;
    }
    rpc_call_send_headers(call);
    wake_output(call);
}

void rpc_call_finish_err(struct rpc_call *call, err_t err)
{
    ASSERT(call->channel == NULL);
    rpc_call_finish(call, rpc_status_of(err), err == ERR_OK ? "" : err_text(err));
    err_free(err);
}

/* 405, 415 or 400 to something that is no gRPC client and would not look at trailers. */
void rpc_call_refuse_http(struct rpc_call *call, const char *http_status)
{
    ASSERT(!call->headers_sent && call->stream_id >= 0);
    call->headers_sent = true;
    call->out_ended = true;
    nghttp2_nv status = text_field(":status", http_status);
    nghttp2_submit_response(call->session->http2, call->stream_id, &status, 1, NULL);
    rpc_session_wake(call->session);
}

void rpc_call_half_close(struct rpc_call *call)
{
    ASSERT(call->channel != NULL);
    if (can_send(call)) {
        call->out_ended = true;
        wake_output(call);
    }
}

/*
 * The order of the pseudo-fields and of te is that of gRPC's protocol. The timeout is relative and
 * is counted from now: what the call waited for its connection is taken off.
 */
void rpc_call_submit_request(struct rpc_call *call, struct rpc_session *session, bool tls)
{
    ASSERT(call->channel != NULL && call->session == session && call->stream_id < 0);
    struct field_list list;
    list.len = 0;
    char timeout[12];
    fields_add(&list, text_field(":method", "POST"));
    fields_add(&list, text_field(":scheme", tls ? "https" : "http"));
    fields_add(&list, text_field(":path", call->path));
    fields_add(&list, text_field(":authority",
                                 session->server_name != NULL ? session->server_name : "tailrace"));
    fields_add(&list, text_field("te", "trailers"));
    fields_add(&list, text_field("content-type", "application/grpc"));
    fields_add(&list, text_field("user-agent", "tailrace/" TAILRACE_VERSION));
    if (call->deadline_us != 0) {
        uint64_t now = io_now_us(call->loop);
        rpc_timeout_format(call->deadline_us > now ? call->deadline_us - now : 0, timeout);
        fields_add(&list, text_field("grpc-timeout", timeout));
    }
    fields_add_metadata(&list, &call->headers);
    nghttp2_data_provider provider = {.read_callback = read_output};
    call->stream_id =
        nghttp2_submit_request(session->http2, NULL, list.fields, list.len, &provider, call);
    if (call->stream_id < 0) { /* stream numbers used up: a new connection will do */
        rpc_call_lose(call, nghttp2_strerror(call->stream_id));
        rpc_session_mark_ready(call);
    }
    rpc_session_wake(session);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/*
 * Inside nghttp2: only notes. len bytes of window are held until the handler took them; nghttp2 has
 * already made sure that the peer did not send more than the window.
 */
void rpc_call_receive(struct rpc_call *call, const uint8_t *data, size_t len)
{
    ASSERT(call->in_at <= call->in.len);
    call->in_held += len;
    /* Once the outcome is settled, input no longer matters; the window is given back all the same
     * so that the peer is not stuck. */
    if (!call->gone && !(call->channel == NULL && call->out_ended) && !call->status_local) {
        buf_append(&call->in, data, len);
    }
    rpc_session_mark_ready(call);
}

/* Lets the peer send as much more as was taken. */
static void give_window_back(struct rpc_call *call)
{
    if (call->in_held > 0 && call->session != NULL && call->stream_id >= 0) {
        nghttp2_session_consume_stream(call->session->http2, call->stream_id, call->in_held);
        rpc_session_wake(call->session);
    }
    call->in_held = 0;
}

/* The next whole message, or false: none yet, or the call has just failed. */
static bool next_message(struct rpc_call *call, const uint8_t **data, size_t *len)
{
    ASSERT(call->in_at <= call->in.len);
    size_t left = call->in.len - call->in_at;
    if (left < RPC_PREFIX_SIZE) {
        return false;
    }
    /* Flag byte, then the length, big endian. The length is not believed before it was checked. */
    const uint8_t *p = call->in.data + call->in_at;
    size_t size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
    if (p[0] != 0) {
        rpc_call_fail(call, RPC_INTERNAL,
                      p[0] == 1 ? "a compressed message, and none was agreed"
                                : "a malformed message prefix");
        return false;
    }
    if (size > call->options->message_max) {
        char text[96];
        snprintf(text, sizeof(text), "a message of %zu bytes, the limit is %zu", size,
                 call->options->message_max);
        rpc_call_fail(call, RPC_RESOURCE_EXHAUSTED, text);
        return false;
    }
    if (left - RPC_PREFIX_SIZE < size) {
        return false;
    }
    *data = p + RPC_PREFIX_SIZE;
    *len = size;
    return true;
}

/* True when input still matters to the handler. */
static bool can_deliver(const struct rpc_call *call)
{
    return !call->gone && !call->paused && !call->lost && !call->status_local &&
           !(call->channel == NULL && call->out_ended);
}

/* Hands over whole messages until there are none, the handler pauses, or the call is over. */
static void deliver_messages(struct rpc_call *call)
{
    ASSERT(call->opened);
    const uint8_t *data;
    size_t len;
    while (can_deliver(call) && next_message(call, &data, &len)) {
        /* Before the handler runs: it may fail the call, which empties the queue under us. */
        call->in_at += RPC_PREFIX_SIZE + len;
        ASSERT(call->in_at <= call->in.len);
        if (call->handler->message != NULL) {
            call->handler->message(call->arg, call, data, len);
        }
    }
    if (call->gone || call->paused) {
        return;
    }
    if (call->in_at == call->in.len || !can_deliver(call)) {
        buf_clear(&call->in);
        call->in_at = 0;
    } else if (call->in_at > 0) {
        buf_consume(&call->in, call->in_at);
        call->in_at = 0;
    }
    give_window_back(call);
}

/* Server: the client said that it will send no more, and all it sent was handed over. */
static void deliver_end_of_input(struct rpc_call *call)
{
    ASSERT(call->opened || call->gone);
    if (call->channel != NULL || !can_deliver(call) || !call->remote_ended ||
        call->half_close_told) {
        return;
    }
    if (call->in.len - call->in_at > 0) {
        rpc_call_fail(call, RPC_INTERNAL, "the stream ended inside a message");
        return;
    }
    call->half_close_told = true;
    if (call->handler->half_close != NULL) {
        call->handler->half_close(call->arg, call);
    }
}

/* The queue has become short: the producer may go on. */
static void deliver_drain(struct rpc_call *call)
{
    if (call->gone || !call->choked || rpc_call_pending(call) >= call->options->send_high / 4) {
        return;
    }
    call->choked = false;
    if (call->handler->drain != NULL && !call->closed && !call->out_ended) {
        call->handler->drain(call->arg, call);
    }
}

/* What the closed stream means, for close. */
static enum rpc_status closing_status(struct rpc_call *call, const char **message)
{
    ASSERT(call->closed);
    *message = call->status_message == NULL ? "" : call->status_message;
    if (call->lost) {
        return call->status;
    }
    if (call->channel == NULL) {
        if (call->trailers_sent || call->status_local) {
            return call->status;
        }
        *message = "the client withdrew";
        return RPC_CANCELLED;
    }
    if (call->have_status) {
        if (call->status == RPC_OK && call->in.len - call->in_at > 0) {
            *message = "the stream ended inside a message";
            return RPC_INTERNAL;
        }
        return call->status;
    }
    if (call->http_status != 0 && call->http_status != 200) {
        *message = "the server answered with an HTTP error";
        return rpc_status_of_http(call->http_status);
    }
    if (call->reset_code != NGHTTP2_NO_ERROR) {
        *message = "the server reset the call";
        return rpc_status_of_reset(call->reset_code);
    }
    *message = "the server ended the call without a status";
    return RPC_UNKNOWN;
}

/* The stream is gone: the last callback, when everything before it was handed over. */
static void deliver_close(struct rpc_call *call)
{
    if (call->gone || !call->closed) {
        return;
    }
    bool orderly = call->channel != NULL && call->have_status && !call->lost && !call->status_local;
    if (orderly && call->paused && call->in.len - call->in_at > 0) {
        return; /* the reader paused: it gets its messages first */
    }
    const char *message;
    enum rpc_status status = closing_status(call, &message);
    rpc_session_unlink(call);
    rpc_call_end(call, status, message);
}

/*
 * Everything that has happened since the last time, in the order the interface promises: open,
 * headers, messages, half_close, drain, close. Each step asks anew whether the call still is, since
 * each runs a handler that may have ended it. The call is out of the ready list here; what it does
 * to itself may put it back.
 */
void rpc_call_dispatch(struct rpc_call *call)
{
    ASSERT(!call->gone && call->session != NULL);
    enter(call);
    if (call->request_complete && !call->opened && !call->headers_sent && !call->closed) {
        call->session->ops->request(call->session->owner, call);
    }
    if (call->opened) {
        if (!call->gone && call->headers_arrived && !call->headers_told && !call->lost) {
            call->headers_told = true;
            if (call->handler->headers != NULL) {
                call->handler->headers(call->arg, call);
            }
        }
        deliver_messages(call);
        deliver_end_of_input(call);
        deliver_drain(call);
    } else if (!call->gone) {
        give_window_back(call);
    }
    deliver_close(call);
    leave(call);
}

void rpc_call_pause(struct rpc_call *call)
{
    ASSERT(call != NULL);
    call->paused = true;
}

/* The messages that waited come from the loop, not from here. */
void rpc_call_resume(struct rpc_call *call)
{
    call->paused = false;
    if (!call->gone) {
        rpc_session_mark_ready(call);
    }
}

/* ---- ending ---------------------------------------------------------------------------------- */

/*
 * Three cases: waiting for a connection (no stream to reset), a client's call (its status is ours
 * to say), a server's (the client learns CANCELLED from the reset).
 */
void rpc_call_cancel(struct rpc_call *call)
{
    ASSERT(call != NULL);
    if (call->gone || call->closed) {
        return;
    }
    if (call->session == NULL) { /* waiting: the timer ends it from the loop */
        rpc_call_set_status(call, RPC_CANCELLED, "cancelled");
        io_timer_start(call->loop, &call->timer, io_now_us(call->loop));
        return;
    }
    if (call->channel != NULL) {
        rpc_call_fail(call, RPC_CANCELLED, "cancelled");
        return;
    }
    drop_queues(call);
    call->out_ended = true;
    reset_stream(call, NGHTTP2_CANCEL);
}

/*
 * The stream's pointer to us goes first: it lives on in nghttp2 until the reset was sent, and may
 * be asked for data meanwhile (see read_output).
 */
void rpc_call_abandon(struct rpc_call *call)
{
    ASSERT(call != NULL);
    if (call->gone) {
        return;
    }
    if (call->session != NULL && call->session->http2 != NULL && call->stream_id >= 0) {
        nghttp2_session_set_stream_user_data(call->session->http2, call->stream_id, NULL);
        reset_stream(call, NGHTTP2_CANCEL);
    }
    rpc_session_unlink(call);
    rpc_call_release(call);
}

/* ---- looking --------------------------------------------------------------------------------- */

void *rpc_call_arg(const struct rpc_call *call)
{
    return call->arg;
}

const char *rpc_call_path(const struct rpc_call *call)
{
    return call->path;
}

uint64_t rpc_call_deadline_us(const struct rpc_call *call)
{
    return call->deadline_us;
}

const char *rpc_call_peer(const struct rpc_call *call)
{
    return call->session == NULL || call->session->peer == NULL ? "" : call->session->peer;
}

const char *rpc_call_peer_name(const struct rpc_call *call)
{
    return call->session == NULL || call->session->peer_name == NULL ? ""
                                                                     : call->session->peer_name;
}

struct io_loop *rpc_call_loop(const struct rpc_call *call)
{
    return call->loop;
}

const char *rpc_call_metadata(const struct rpc_call *call, const char *key, size_t *len)
{
    ASSERT(key != NULL);
    const struct rpc_entry *entry = rpc_metadata_find(&call->received, key);
    if (len != NULL) {
        *len = entry == NULL ? 0 : entry->value_len;
    }
    return entry == NULL ? NULL : entry->value;
}

err_t rpc_call_add_header(struct rpc_call *call, struct rpc_metadata entry)
{
    ASSERT(call->channel == NULL && !call->headers_sent);
    return rpc_metadata_add(&call->headers, entry);
}

err_t rpc_call_add_trailer(struct rpc_call *call, struct rpc_metadata entry)
{
    ASSERT(call->channel == NULL);
    return rpc_metadata_add(&call->trailers, entry);
}
