/*
 * Messages from one thread to another: FIFO, lossless, copied into a buffer under a lock. Plain on
 * purpose: it stands in for the exchange where the engine alone is measured.
 */
#ifndef TAILRACE_BENCH_POSTBOX_H
#define TAILRACE_BENCH_POSTBOX_H

#include "core/base/buf.h"

#include <pthread.h>
#include <stdatomic.h>

struct postbox {
    pthread_mutex_t lock;  /* of filled */
    struct buf filled;     /* lengths of 8 bytes and messages, by the sender */
    struct buf taken;      /* the receiver's: what it is reading */
    _Atomic uint64_t sent; /* messages; so that an empty one is looked at without the lock */
    uint64_t received;     /* the receiver's */
};

void postbox_init(struct postbox *box);
void postbox_free(struct postbox *box);
/* The sender's thread. */
void postbox_send(struct postbox *box, const void *data, size_t len);
/* The receiver's thread: each message that is there. */
void postbox_receive(struct postbox *box, void (*each)(void *ctx, const void *data, size_t len),
                     void *ctx);

#endif
