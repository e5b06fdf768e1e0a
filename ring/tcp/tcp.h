/*
 * The TCP carrier: every lane of a session on one io_stream (plain, TLS, simulated), which lives on
 * the net loop; worker loops reach it through mailboxes. Frames carry a CRC-32C.
 *
 * Sending is scheduled, so that one subscription does not hold up another: messages wait in a
 * queue per (from, to, stream); a queue sends one frame of at most 256 KiB, then it is the next
 * one's turn; urgent messages of streams with nothing waiting go first. Only about 256 KiB are
 * given to the socket at a time, so urgent ones never wait behind more.
 */
#ifndef TAILRACE_RING_TCP_TCP_H
#define TAILRACE_RING_TCP_TCP_H

#include "ring/carrier.h"

/* The session on an established, greeted stream, which it owns; rest: bytes already read. The
 * workers hear open. A silent peer (no frame in 10 s; both sides ping each second) is cut off. */
struct carrier *tcp_carrier_new(const struct carrier_config *config, struct io_stream *stream,
                                const uint8_t *rest, size_t rest_len);
/* Gives bytes read with the handshake to a session made without them. Net loop. */
void tcp_carrier_feed(struct carrier *carrier, const uint8_t *data, size_t len);
/* Bytes accepted from workers and not yet given to the socket. Net loop. */
size_t tcp_carrier_queued(const struct carrier *carrier);

#endif
