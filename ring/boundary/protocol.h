/*
 * Module-private: the messages of the storage boundary on a carrier's lanes.
 *
 *     client                                server
 *     SUBSCRIBE id, credit, request     ->
 *                                       <-  READERS channel, ids             whom DATA is for
 *                                       <-  DATA channel, [lower, upper)     as credit allows
 *     CREDIT id, granted in all         ->
 *                                       <-  REFUSED channel, id              it is over
 *     UNSUBSCRIBE id                    ->                                   it is over
 *
 * Nothing is acknowledged: a session is in order and complete, or it is cut, and then everything
 * begins again with SUBSCRIBE at the frontier reached. Messages may cross with the one that ends
 * their subscription, so both sides ignore those of a subscription they do not know.
 *
 * Channels. All that a storage worker sends a compute worker's subscriptions of one source goes
 * over one stream of the carrier, a channel, numbered by the server: so it comes in order. A DATA
 * message is for those whom the channel's last READERS names; while the same ones follow the
 * source in step nothing is named again, and a chunk costs one message however many they are.
 * READERS that names nobody closes the channel. What each subscription gets is what it would get
 * alone: credit, resumption, refusal and loss are its own.
 */
#ifndef TAILRACE_RING_BOUNDARY_PROTOCOL_H
#define TAILRACE_RING_BOUNDARY_PROTOCOL_H

#include "ring/boundary/boundary.h"
#include "ring/carrier.h"

/* In what the client sends the stream is the subscription, as its worker numbers it; in what the
 * server sends it is the channel. */
enum boundary_kind {
    BOUNDARY_SUBSCRIBE = FRAME_KIND_USER, /* a: bytes of credit; payload: the request */
    BOUNDARY_UNSUBSCRIBE,
    BOUNDARY_CREDIT,  /* a: bytes of credit granted since the beginning of the subscription */
    BOUNDARY_DATA,    /* a: lower, b: upper, c: length of the ok batch; payload: ok, pad, err */
    /* a: the subscription, which is over; c: enum err_code; payload: SQLSTATE, text. Channel
     * BOUNDARY_NO_CHANNEL when it was never served. */
    BOUNDARY_REFUSED,
    BOUNDARY_READERS, /* payload: subscriptions, u32 each, strictly ascending */
};

enum {
    BOUNDARY_CREDIT_DEFAULT = 4 << 20,
    BOUNDARY_CHUNK_COST = 64, /* credit a chunk costs beside its bytes: progress is not free */
    BOUNDARY_CHUNK_MAX = FRAME_FRAGMENT, /* bytes asked of the backend at a time */
    BOUNDARY_NO_CHANNEL = 0,
    BOUNDARY_SUBS_MAX = 1 << 20, /* of a session at one storage worker, and named by it */
};

/* What a DATA message of len bytes costs, counted alike on both sides. */
static inline uint64_t boundary_cost(size_t len)
{
    return len + BOUNDARY_CHUNK_COST;
}

void boundary_request_encode(struct buf *out, const struct boundary_request *request);
err_t boundary_request_decode(const uint8_t *data, size_t len, struct boundary_request *out);

/* Where the err batch begins in a payload that has one: aligned as the ok batch is, so that both
 * can be read in place. */
static inline size_t boundary_err_at(size_t ok_len)
{
    STATIC_ASSERT((CARRIER_ALIGN & (CARRIER_ALIGN - 1)) == 0, "a mask");
    return (ok_len + CARRIER_ALIGN - 1) & ~(size_t)(CARRIER_ALIGN - 1);
}

/* Length of the payload of a chunk, and its writing into a block of that length. */
static inline size_t boundary_chunk_len(const struct boundary_chunk *chunk)
{
    ASSERT(chunk->ok != NULL || chunk->ok_len == 0);
    ASSERT(chunk->err != NULL || chunk->err_len == 0);
    return chunk->err_len > 0 ? boundary_err_at(chunk->ok_len) + chunk->err_len : chunk->ok_len;
}

void boundary_chunk_encode(const struct boundary_chunk *chunk, uint8_t *out);
/* The chunk points into the message. */
err_t boundary_chunk_decode(const struct carrier_message *m, struct boundary_chunk *out);

/* Subscriptions as READERS names them: ascending, each once. */
void boundary_readers_encode(struct buf *out, const uint32_t *ids, size_t len);
/* *ids has room for BOUNDARY_SUBS_MAX at most: allocated, the caller frees it; NULL for none. */
err_t boundary_readers_decode(const struct carrier_message *m, uint32_t **ids, size_t *len);

/* SQLSTATE and text; a text too long is cut. */
void boundary_refusal_encode(struct buf *out, err_t err);
/* The error the peer gave; or ERR_PROTOCOL, when the message is none. */
err_t boundary_refusal_decode(const struct carrier_message *m);

/* What both sides put into their HELLO, but for what differs. */
struct hello boundary_hello(struct io_loop *loop, const struct boundary_identity *self,
                            enum hello_role role, uint32_t workers);

#endif
