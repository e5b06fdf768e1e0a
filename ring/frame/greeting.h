/*
 * A handshake under way on one stream: connect or accept, TLS where asked for, HELLO and its
 * answer, all of it under one time-out. What comes out is an established stream and a checked
 * peer, or the reason why not. Lives on one loop.
 */
#ifndef TAILRACE_RING_FRAME_GREETING_H
#define TAILRACE_RING_FRAME_GREETING_H

#include "core/io/tls.h"
#include "ring/frame/hello.h"

struct greeting;

struct greeting_config {
    struct io_loop *loop;
    struct tls_context *tls; /* NULL: plain */
    uint64_t timeout_us;     /* 0: 5 s */
    void *arg;
    /* Accepting side: judges the peer and fills the answer. An error is sent with *refusal. */
    err_t (*judge)(void *arg, const struct hello *theirs, const char *peer_name,
                   struct hello *welcome, enum hello_refusal *refusal);
    /* Done: the stream is the callee's, who sets its handler now. ours: what we sent. rest: bytes
     * behind the handshake, already read. The greeting is freed after this returns. */
    void (*done)(void *arg, struct greeting *greeting, struct io_stream *stream,
                 const struct hello *ours, const struct hello *theirs, const uint8_t *rest,
                 size_t rest_len);
    /* Failed: reason is the callee's; refusal is what the peer (or judge) said, or 0. The greeting
     * is freed after this returns. */
    void (*failed)(void *arg, struct greeting *greeting, err_t reason,
                   enum hello_refusal refusal);
};

/* Takes over a stream just accepted. */
struct greeting *greeting_accept(const struct greeting_config *config, struct io_stream *stream);
/* Connects and offers hello (copied). An error here is for good (a bad address). */
err_t greeting_connect(const struct greeting_config *config, const char *address,
                       const struct hello *hello, struct greeting **out);
/* Gives up; neither done nor failed runs. Not from inside them. Also when the loop stopped. */
void greeting_cancel(struct greeting *greeting);

#endif
