/*
 * Handshakes: see greeting.h. One on the net loop, over a stream of any kind:
 *
 *   who connects:  (TLS) -> HELLO sent -> WELCOME heard -> done
 *                                      -> REFUSE heard  -> failed, with the peer's reason
 *   who accepts:   (TLS) -> HELLO heard -> judged -> WELCOME sent -> done
 *                                                 -> REFUSE sent  -> failed
 *
 * Exactly one frame goes each way, and the timer bounds all of it. A greeting ends by done or
 * failed, once, from the loop, and frees itself behind that; or by greeting_cancel without a call.
 * Bytes that came behind the frame belong to the session and are handed on with the stream.
 *
 * Everything the peer says is bounded (HELLO_LEN_MAX) and checked before it is used; its text of a
 * refusal is shown with all but plain ASCII replaced, as it ends up in logs and terminals.
 */
#include "ring/frame/greeting.h"

#include "core/base/mem.h"

#include <unistd.h>

enum { TIMEOUT_US = 5 * 1000 * 1000 };

struct greeting {
    struct greeting_config config;
    struct io_stream *stream; /* NULL once it closed or was handed on */
    struct io_timer timer;
    struct frame_parser parser;
    struct hello ours;   /* sent, or to be sent; of an acceptor the judge fills it */
    struct hello theirs; /* filled once told */
    bool accepting;
    bool heard;    /* theirs is complete */
    uint8_t payload[HELLO_LEN_MAX]; /* of the one frame being heard */
    enum hello_refusal refusal; /* told by the peer, or by us */
};

static const struct io_stream_handler greeting_handler;

/* io calls are safe on what is not armed or NULL. */
static void greeting_free(struct greeting *g)
{
    io_timer_cancel(g->config.loop, &g->timer);
    io_stream_close(g->stream);
    free(g);
}

/* Owns reason, which passes on to the owner. */
static void greeting_fail(struct greeting *g, err_t reason)
{
    ASSERT(reason != ERR_OK);
    io_timer_cancel(g->config.loop, &g->timer);
    g->config.failed(g->config.arg, g, reason, g->refusal);
    greeting_free(g);
}

static void send_frame(struct greeting *g, struct frame_header *h, const void *payload, size_t len)
{
    uint8_t packet[FRAME_HEADER_LEN + HELLO_LEN_MAX];
    ASSERT(len <= HELLO_LEN_MAX);
    h->length = (uint32_t)len;
    h->total = (uint32_t)len;
    h->flags = FRAME_FIRST | FRAME_LAST;
    frame_encode(packet, h, payload);
    memcpy(packet + FRAME_HEADER_LEN, payload, len);
    io_stream_write(g->stream, packet, FRAME_HEADER_LEN + len); /* one packet on SEQPACKET */
}

/* HELLO or WELCOME, which are the same but for who says them. */
static void send_hello(struct greeting *g, enum frame_kind kind)
{
    ASSERT(g->stream != NULL && (kind == FRAME_WELCOME) == g->accepting);
    struct buf text = {0};
    hello_encode(&text, &g->ours);
    struct frame_header h = {.kind = (uint8_t)kind};
    send_frame(g, &h, text.data, text.len);
    buf_free(&text);
}

/* Tells the peer why, lets that leave, and forgets the stream. */
static void send_refusal(struct greeting *g, err_t why)
{
    ASSERT(g->accepting && g->refusal != 0);
    const char *text = err_text(why);
    size_t len = strlen(text);
    len = len < HELLO_LEN_MAX ? len : HELLO_LEN_MAX;
    struct frame_header h = {.kind = FRAME_REFUSE, .a = g->refusal, .c = (uint32_t)err_code(why)};
    send_frame(g, &h, text, len);
    io_stream_finish(g->stream);
    g->stream = NULL;
}

/* Numbers that this side does not know become general ones: a newer peer may have more. */
static err_t told_refusal(struct greeting *g, const struct frame_header *h)
{
    ASSERT(!g->accepting && h->length <= HELLO_LEN_MAX);
    char text[HELLO_LEN_MAX + 1];
    memcpy(text, g->payload, h->length);
    text[h->length] = '\0';
    for (size_t i = 0; i < h->length; i++) {
        text[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    }
    enum hello_refusal refusal =
        h->a >= REFUSE_MAGIC && h->a <= REFUSE_LAST ? (enum hello_refusal)h->a : REFUSE_FRAME;
    g->refusal = refusal;
    enum err_code code = h->c >= ERR_INTERNAL && h->c <= ERR_IO ? (enum err_code)h->c
                                                                : ERR_PROTOCOL;
    return err_new(code, "refused by %s (%s): %s", io_stream_peer(g->stream),
                   hello_refusal_name(refusal), text);
}

/* The parser's begin: no frame of a handshake is longer. */
static err_t frame_place(void *arg, const struct frame_header *h, uint8_t **place)
{
    struct greeting *g = arg;
    if (h->length > sizeof(g->payload)) {
        g->refusal = REFUSE_FRAME;
        return err_new(ERR_PROTOCOL, "handshake frame of %u bytes", h->length);
    }
    *place = g->payload;
    return ERR_OK;
}

/* The parser's end: the sum was right. */
static err_t frame_there(void *arg, const struct frame_header *h)
{
    struct greeting *g = arg;
    ASSERT(!g->heard);
    if (!g->accepting && h->kind == FRAME_REFUSE) {
        return told_refusal(g, h);
    }
    if (h->kind != (g->accepting ? FRAME_HELLO : FRAME_WELCOME)) {
        g->refusal = REFUSE_FRAME;
        return err_new(ERR_PROTOCOL, "frame of kind %u inside the handshake", h->kind);
    }
    TRY(hello_decode(g->payload, h->length, &g->theirs, &g->refusal));
    g->heard = true;
    g->parser.stop = true;
    return ERR_OK;
}

/* The judge's word decides; an error of it is told to the peer as the refusal. */
static err_t answer(struct greeting *g)
{
    ASSERT(g->accepting && g->heard && g->stream != NULL);
    TRY(g->config.judge(g->config.arg, &g->theirs, io_stream_peer_name(g->stream), &g->ours,
                        &g->refusal));
    send_hello(g, FRAME_WELCOME);
    return ERR_OK;
}

/* Any part of the one frame, or it and what follows. */
static void greeting_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                          size_t fds_len)
{
    struct greeting *g = arg;
    size_t used = 0;
    err_t err = ERR_OK;
    for (size_t i = 0; i < fds_len; i++) {
        close(fds[i]); /* ours since they arrived, and nothing asked for them */
        err = err == ERR_OK ? err_new(ERR_PROTOCOL, "descriptors inside the handshake") : err;
    }
    if (err == ERR_OK) {
        err = frame_parse(&g->parser, data, len, &used);
    }
    if (err == ERR_OK && g->heard && g->accepting) {
        err = answer(g);
    }
    if (err != ERR_OK) {
        if (g->accepting) {
            g->refusal = g->refusal == 0 ? REFUSE_FRAME : g->refusal;
            send_refusal(g, err);
        }
        greeting_fail(g, err);
        return;
    }
    if (!g->heard) {
        return;
    }
    ASSERT(used <= len && g->stream != NULL);
    struct io_stream *stream = g->stream;
    g->stream = NULL;
    io_timer_cancel(g->config.loop, &g->timer);
    g->config.done(g->config.arg, g, stream, &g->ours, &g->theirs, data + used, len - used);
    greeting_free(g);
}

static void greeting_closed(void *arg, err_t reason)
{
    struct greeting *g = arg;
    ASSERT(g->stream != NULL);
    g->stream = NULL;
    greeting_fail(g, reason != ERR_OK
                         ? err_wrap(reason, "handshake")
                         : err_new(ERR_UNAVAILABLE, "the peer closed during the handshake"));
}

static const struct io_stream_handler greeting_handler = {
    .data = greeting_data,
    .close = greeting_closed,
};

static void greeting_timeout(struct io_timer *timer)
{
    struct greeting *g = CONTAINER_OF(timer, struct greeting, timer);
    greeting_fail(g, err_new(ERR_TIMEOUT, "no handshake in time from %s",
                             g->stream != NULL ? io_stream_peer(g->stream) : "the peer"));
}

/* The stream is ready to speak on (behind TLS, if any). */
static void greeting_ready(void *arg, struct io_stream *stream)
{
    struct greeting *g = arg;
    ASSERT(stream != NULL && !g->heard);
    g->stream = stream;
    if (!g->accepting) {
        send_hello(g, FRAME_HELLO);
    }
}

/* TLS replaces the handler, and calls greeting_ready with the stream that lies over this one. */
static void greeting_connected(void *arg, struct io_stream *stream)
{
    struct greeting *g = arg;
    if (g->config.tls == NULL) {
        greeting_ready(g, stream);
        return;
    }
    tls_start(g->config.tls, stream, NULL, NULL, 0, &greeting_handler, g, greeting_ready,
              &g->stream);
}

static struct greeting *greeting_new(const struct greeting_config *config, bool accepting)
{
    ASSERT(config->done != NULL && config->failed != NULL);
    ASSERT(!accepting || config->judge != NULL);
    struct greeting *g = MEM_NEW(struct greeting);
    g->config = *config;
    g->accepting = accepting;
    g->parser.begin = frame_place;
    g->parser.end = frame_there;
    g->parser.arg = g;
    g->timer.fire = greeting_timeout;
    uint64_t timeout_us = config->timeout_us != 0 ? config->timeout_us : TIMEOUT_US;
    io_timer_start(config->loop, &g->timer, io_now_us(config->loop) + timeout_us);
    return g;
}

struct greeting *greeting_accept(const struct greeting_config *config, struct io_stream *stream)
{
    struct greeting *g = greeting_new(config, true);
    g->stream = stream;
    io_stream_set_handler(stream, &greeting_handler, g);
    if (config->tls != NULL) {
        greeting_connected(g, stream);
    }
    return g;
}

err_t greeting_connect(const struct greeting_config *config, const char *address,
                       const struct hello *hello, struct greeting **out)
{
    struct greeting *g = greeting_new(config, false);
    g->ours = *hello;
    err_t err = io_connect(config->loop, address, &greeting_handler, g, greeting_connected,
                           &g->stream);
    if (err != ERR_OK) {
        g->stream = NULL;
        greeting_free(g);
        return err;
    }
    *out = g;
    return ERR_OK;
}

void greeting_cancel(struct greeting *greeting)
{
    if (greeting != NULL) {
        greeting_free(greeting);
    }
}
