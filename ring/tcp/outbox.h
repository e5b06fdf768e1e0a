/*
 * Module-private: what a TCP session has to send, and in which order. Net loop only.
 */
#ifndef TAILRACE_RING_TCP_OUTBOX_H
#define TAILRACE_RING_TCP_OUTBOX_H

#include "core/base/map.h"
#include "ring/carrier.h"

/* Messages of one (from, to, stream), oldest first; exists only while there are any. */
struct outbox_queue {
    struct outbox_queue *next; /* in the ring of turns */
    uint64_t key;
    struct carrier_node *first;
    struct carrier_node *last;
};

enum { OUTBOX_GATHER = 16 * 1024 };

struct outbox {
    struct u64map queues;       /* key -> struct outbox_queue */
    struct outbox_queue *turn;  /* first in turn, of a singly linked list */
    struct outbox_queue *turn_last;
    struct carrier_node *urgent; /* to go before all queues */
    struct carrier_node *urgent_last;
    size_t bytes; /* queued, in all: headers and payloads */
    bool sealed;  /* the stream is: large payloads go without a checksum */
    /* Small frames that were sent and not yet written: they go to the stream together, which under
     * TLS makes one record of them. */
    uint8_t gathered[OUTBOX_GATHER];
    size_t gathered_len;
};

/* Queues a message's node, which it owns from now on (refs becomes 1). */
void outbox_put(struct outbox *outbox, struct carrier_node *node);
/* Writes one frame to the stream: the urgent ones first, else of the queue whose turn it is.
 * False when there was nothing. */
bool outbox_send(struct outbox *outbox, struct io_stream *stream);
/* Writes what is gathered: to be called after the last outbox_send of a turn. */
void outbox_flush(struct outbox *outbox, struct io_stream *stream);
void outbox_free(struct outbox *outbox);

#endif
