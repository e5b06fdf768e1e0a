/* See postbox.h. The receiver swaps the buffers and reads without the lock. */
#include "bench/postbox.h"

#include "core/base/assert.h"

void postbox_init(struct postbox *box)
{
    *box = (struct postbox){0};
    int rc = pthread_mutex_init(&box->lock, NULL);
    ASSERT(rc == 0);
}

void postbox_free(struct postbox *box)
{
    pthread_mutex_destroy(&box->lock);
    buf_free(&box->filled);
    buf_free(&box->taken);
}

void postbox_send(struct postbox *box, const void *data, size_t len)
{
    ASSERT(len > 0);
    pthread_mutex_lock(&box->lock);
    buf_append_u64(&box->filled, len);
    buf_append(&box->filled, data, len);
    pthread_mutex_unlock(&box->lock);
    /* Pairs with the acquire in postbox_receive: who sees the number finds the message. */
    atomic_fetch_add_explicit(&box->sent, 1, memory_order_release);
}

void postbox_receive(struct postbox *box, void (*each)(void *ctx, const void *data, size_t len),
                     void *ctx)
{
    /* Pairs with the release in postbox_send. */
    if (atomic_load_explicit(&box->sent, memory_order_acquire) == box->received) {
        return;
    }
    pthread_mutex_lock(&box->lock);
    struct buf full = box->filled;
    box->filled = box->taken;
    box->taken = full;
    pthread_mutex_unlock(&box->lock);
    for (size_t at = 0; at < box->taken.len;) {
        uint64_t len;
        memcpy(&len, box->taken.data + at, sizeof(len));
        at += sizeof(len);
        ASSERT(len <= box->taken.len - at);
        each(ctx, box->taken.data + at, len);
        at += len;
        box->received++;
    }
    buf_clear(&box->taken);
}
