/*
 * The send scheduler of a TCP session: see outbox.h.
 *
 * A node is freed when its last reference goes: one is the queue's, one each that of a fragment
 * whose bytes the stream still reads in place.
 */
#include "ring/tcp/outbox.h"

#include "core/base/mem.h"

enum { COPY_MAX = 4096 }; /* up to this, payloads are gathered, else sent from where they are */

/* Streams are told apart by their three numbers, 16 + 16 + 32 bits. */
static uint64_t key_of(const struct carrier_node *node)
{
    return (uint64_t)node->local << 48 | (uint64_t)node->remote << 32 | node->m.stream;
}

/* Of a fragment: the stream has sent it or has ended. Of the queue: the last fragment is out. */
static void node_unref(void *arg)
{
    struct carrier_node *node = arg;
    ASSERT(node->refs > 0);
    if (--node->refs == 0) {
        carrier_node_free(node);
    }
}

/* A queue for a stream that had none, at the end of the line. */
static struct outbox_queue *queue_new(struct outbox *outbox, uint64_t key)
{
    ASSERT((outbox->turn == NULL) == (outbox->turn_last == NULL));
    struct outbox_queue *queue = MEM_NEW(struct outbox_queue);
    queue->key = key;
    u64map_put(&outbox->queues, key, queue);
    if (outbox->turn_last == NULL) {
        outbox->turn = queue;
    } else {
        outbox->turn_last->next = queue;
    }
    outbox->turn_last = queue;
    return queue;
}

void outbox_put(struct outbox *outbox, struct carrier_node *node)
{
    ASSERT(node->m.len <= FRAME_MESSAGE_MAX);
    node->refs = 1;
    node->sent = 0;
    node->next = NULL;
    outbox->bytes += node->m.len + FRAME_HEADER_LEN;
    struct outbox_queue *queue = u64map_get(&outbox->queues, key_of(node));
    if (queue == NULL && (node->m.flags & CARRIER_URGENT) != 0 && node->m.len <= FRAME_FRAGMENT) {
        if (outbox->urgent_last == NULL) {
            outbox->urgent = node;
        } else {
            outbox->urgent_last->next = node;
        }
        outbox->urgent_last = node;
        return;
    }
    if (queue == NULL) {
        queue = queue_new(outbox, key_of(node));
        queue->first = node;
    } else {
        queue->last->next = node;
    }
    queue->last = node;
}

void outbox_flush(struct outbox *outbox, struct io_stream *stream)
{
    ASSERT(outbox->gathered_len <= sizeof(outbox->gathered));
    if (outbox->gathered_len > 0) {
        io_stream_write(stream, outbox->gathered, outbox->gathered_len);
        outbox->gathered_len = 0;
    }
}

/* Room for a frame of so many bytes of payload among those gathered. */
static uint8_t *gather(struct outbox *outbox, struct io_stream *stream, size_t len)
{
    size_t need = FRAME_HEADER_LEN + len;
    ASSERT(need <= sizeof(outbox->gathered));
    if (sizeof(outbox->gathered) - outbox->gathered_len < need) {
        outbox_flush(outbox, stream);
    }
    uint8_t *at = outbox->gathered + outbox->gathered_len;
    outbox->gathered_len += need;
    return at;
}

/* Writes the next frame of a message; true when that was its last. */
static bool send_fragment(struct outbox *outbox, struct carrier_node *node,
                          struct io_stream *stream)
{
    ASSERT(node->refs > 0 && node->sent <= node->m.len);
    size_t left = node->m.len - node->sent;
    size_t len = left < FRAME_FRAGMENT ? left : FRAME_FRAGMENT;
    bool copied = len <= COPY_MAX;
    struct frame_header h = {
        .length = (uint32_t)len,
        .kind = node->m.kind,
        .flags = (uint8_t)((node->sent == 0 ? FRAME_FIRST : 0) | (len == left ? FRAME_LAST : 0) |
                           (outbox->sealed && !copied ? FRAME_SEALED : 0)),
        .from = node->local,
        .to = node->remote,
        .stream = node->m.stream,
        .c = node->m.c,
        .a = node->m.a,
        .b = node->m.b,
        .total = (uint32_t)node->m.len,
    };
    const uint8_t *bytes = node->m.data + node->sent;
    uint8_t *frame = gather(outbox, stream, copied ? len : 0);
    frame_encode(frame, &h, bytes);
    if (!copied) {
        outbox_flush(outbox, stream);
        node->refs++;
        io_stream_write_ref(stream, bytes, len, node_unref, node);
    } else if (len > 0) {
        memcpy(frame + FRAME_HEADER_LEN, bytes, len);
    }
    node->sent += len;
    return len == left;
}

/* The whole message was given to the stream. */
static void done_with(struct outbox *outbox, struct carrier_node *node)
{
    ASSERT(outbox->bytes >= node->m.len + FRAME_HEADER_LEN);
    outbox->bytes -= node->m.len + FRAME_HEADER_LEN;
    node_unref(node);
}

/* The queue that had its turn goes to the end of the line, or away when empty. */
static void turn_over(struct outbox *outbox, struct outbox_queue *queue)
{
    ASSERT(outbox->turn == queue);
    outbox->turn = queue->next;
    if (outbox->turn == NULL) {
        outbox->turn_last = NULL;
    }
    queue->next = NULL;
    if (queue->first == NULL) {
        u64map_remove(&outbox->queues, queue->key);
        free(queue);
        return;
    }
    if (outbox->turn_last == NULL) {
        outbox->turn = queue;
    } else {
        outbox->turn_last->next = queue;
    }
    outbox->turn_last = queue;
}

bool outbox_send(struct outbox *outbox, struct io_stream *stream)
{
    struct carrier_node *node = outbox->urgent;
    if (node != NULL) {
        outbox->urgent = node->next;
        if (outbox->urgent == NULL) {
            outbox->urgent_last = NULL;
        }
        bool last = send_fragment(outbox, node, stream);
        ASSERT(last);
        done_with(outbox, node);
        return true;
    }
    struct outbox_queue *queue = outbox->turn;
    if (queue == NULL) {
        ASSERT(outbox->bytes == 0 && outbox->queues.len == 0);
        return false;
    }
    node = queue->first;
    struct carrier_node *next = node->next;
    if (send_fragment(outbox, node, stream)) {
        queue->first = next;
        done_with(outbox, node);
    }
    turn_over(outbox, queue);
    return true;
}

/* The stream is closed: fragments have given their references back, the queue's are left. */
static void free_list(struct carrier_node *node)
{
    while (node != NULL) {
        struct carrier_node *next = node->next;
        node_unref(node);
        node = next;
    }
}

void outbox_free(struct outbox *outbox)
{
    free_list(outbox->urgent);
    while (outbox->turn != NULL) {
        struct outbox_queue *queue = outbox->turn;
        outbox->turn = queue->next;
        free_list(queue->first);
        free(queue);
    }
    u64map_free(&outbox->queues);
    *outbox = (struct outbox){0};
}
