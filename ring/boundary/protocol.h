/*
 * Module-private: the messages of the storage boundary on a carrier's lanes.
 *
 *     client                                server
 *     SUBSCRIBE stream, credit, request ->
 *                                       <-  DATA [lower, upper) ok, err      as credit allows
 *     CREDIT stream, granted in all     ->
 *                                       <-  REFUSED                          it is over
 *     UNSUBSCRIBE stream                ->                                   it is over
 *
 * Nothing is acknowledged: a session is in order and complete, or it is cut, and then everything
 * begins again with SUBSCRIBE at the frontier reached. Messages may cross with the one that ends
 * their subscription, so both sides ignore those of a stream they do not know.
 */
#ifndef TAILRACE_RING_BOUNDARY_PROTOCOL_H
#define TAILRACE_RING_BOUNDARY_PROTOCOL_H

#include "ring/boundary/boundary.h"
#include "ring/carrier.h"

/* The stream of each is the subscription, numbered by the client's worker. */
enum boundary_kind {
    BOUNDARY_SUBSCRIBE = FRAME_KIND_USER, /* a: bytes of credit; payload: the request */
    BOUNDARY_UNSUBSCRIBE,
    BOUNDARY_CREDIT,  /* a: bytes of credit granted since the beginning of the subscription */
    BOUNDARY_DATA,    /* a: lower, b: upper, c: length of the ok batch; payload: ok, pad, err */
    BOUNDARY_REFUSED, /* c: enum err_code; payload: SQLSTATE, text. The subscription is over. */
};

enum {
    BOUNDARY_CREDIT_DEFAULT = 4 << 20,
    BOUNDARY_CHUNK_COST = 64, /* credit a chunk costs beside its bytes: progress is not free */
    BOUNDARY_CHUNK_MAX = FRAME_FRAGMENT, /* bytes asked of the backend at a time */
};

/* What a DATA message of len bytes costs, counted alike on both sides. */
static inline uint64_t boundary_cost(size_t len)
{
    return len + BOUNDARY_CHUNK_COST;
}

void boundary_request_encode(struct buf *out, const struct boundary_request *request);
err_t boundary_request_decode(const uint8_t *data, size_t len, struct boundary_request *out);

/* Length of the payload of a chunk, and its writing into a block of that length. */
size_t boundary_chunk_len(const struct boundary_chunk *chunk);
void boundary_chunk_encode(const struct boundary_chunk *chunk, uint8_t *out);
/* The chunk points into the message. */
err_t boundary_chunk_decode(const struct carrier_message *m, struct boundary_chunk *out);

/* SQLSTATE and text; a text too long is cut. */
void boundary_refusal_encode(struct buf *out, err_t err);
/* The error the peer gave; or ERR_PROTOCOL, when the message is none. */
err_t boundary_refusal_decode(const struct carrier_message *m);

/* What both sides put into their HELLO, but for what differs. */
struct hello boundary_hello(struct io_loop *loop, const struct boundary_identity *self,
                            enum hello_role role, uint32_t workers);

#endif
