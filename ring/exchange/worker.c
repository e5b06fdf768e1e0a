/*
 * A worker of the exchange: its turn, the memory of its messages, and the public calls. All on the
 * worker's loop.
 *
 * Memory. A message is a piece: memory that its sender fills and keeps until the receiver is done
 * with it. Pieces come in a few sizes and are used again, up to SPARE_BYTES of them; so nothing is
 * allocated once a worker has sent for a while. What is kept at a time is counted (`pending`):
 *
 *   up to EXCHANGE_READY_BYTES   the worker is ready
 *   up to held_max               it is not: who asks exchange_ready stops here, and a peer that is
 *                                slow, or away, or stopped, costs no more memory than that
 *   beyond                       the generation ends, with a reason: somebody does not ask
 *
 * The last is for the whole replica, as messages of a generation may not be lost singly; a process
 * in which it happens takes a new nonce, as if it had been restarted (formation_give_up).
 */
#include "core/base/log.h"
#include "ring/exchange/internal.h"

#include <stdio.h>

enum {
    SPARE_BYTES = 16 << 20, /* kept for later, of pieces no longer in use */
    SHARE_MIN = 256,        /* smaller messages lie in the ring of a session */
};

/* ---- memory ---------------------------------------------------------------------------------- */

/* The place in spare of the least size that has room; PIECE_SIZES: none has. */
static uint32_t size_of(size_t len)
{
    uint32_t i = 0;
    while (i < PIECE_SIZES && len > (size_t)PIECE_LEAST << i) {
        i++;
    }
    return i;
}

/* Private memory. */
static struct piece *piece_take(struct exchange_worker *w, size_t len)
{
    uint32_t i = size_of(len);
    ASSERT(len <= FRAME_MESSAGE_MAX);
    if (i < PIECE_SIZES && w->spare[i] != NULL) {
        struct piece *piece = w->spare[i];
        w->spare[i] = piece->next;
        piece->next = NULL;
        ASSERT(w->spare_bytes >= piece->cap && piece->cap >= len);
        w->spare_bytes -= piece->cap;
        return piece;
    }
    size_t cap = i < PIECE_SIZES ? (size_t)PIECE_LEAST << i
                                 : (len + CARRIER_ALIGN - 1) & ~(size_t)(CARRIER_ALIGN - 1);
    struct piece *piece = aligned_alloc(CARRIER_ALIGN, sizeof(*piece) + cap);
    ASSERT(piece != NULL);
    *piece = (struct piece){.cap = cap};
    return piece;
}

struct piece *piece_new(struct exchange_worker *w, size_t len, bool shared)
{
    struct carrier_block block;
    struct piece *piece;
    if (shared && w->x->pool != NULL && len >= SHARE_MIN && len <= SHM_POOL_BLOCK_MAX &&
        shm_pool_reserve(w->x->pool, w->index, len, &block)) {
        piece = piece_take(w, 0);
        piece->block = block;
        piece->data = block.data;
    } else {
        piece = piece_take(w, len);
        piece->data = piece->bytes;
    }
    piece->len = len;
    ASSERT(piece->next == NULL && (uintptr_t)piece->data % CARRIER_ALIGN == 0);
    return piece;
}

/* The receiver may still hold a reference to a block of the pool; its carrier knows. */
void piece_free(struct exchange_worker *w, struct piece *piece)
{
    ASSERT(piece->next == NULL);
    if (piece->block.owner != NULL) {
        shm_pool_release(w->x->pool, w->index, &piece->block);
    }
    uint32_t i = size_of(piece->cap);
    if (i == PIECE_SIZES || w->spare_bytes + piece->cap > SPARE_BYTES) {
        free(piece);
        return;
    }
    ASSERT(piece->cap == (size_t)PIECE_LEAST << i);
    piece->next = w->spare[i];
    w->spare[i] = piece;
    w->spare_bytes += piece->cap;
}

/* Once a generation: what is sent behind it in the same generation is dropped. */
static void overflow(struct exchange_worker *w)
{
    char reason[128];
    struct net_item *item = exchange_item_new(ITEM_OVERFLOW);
    snprintf(reason, sizeof(reason), "worker %u keeps %zu bytes for others, more than %zu",
             w->global, w->pending, w->x->config.held_max);
    item->generation = w->generation;
    item->reason = mem_strdup(reason);
    w->overflowed = true;
    mailbox_put(w->x->box, &item->item);
}

/* What a piece takes, of its own and of the pool. */
static size_t piece_bytes(const struct piece *piece)
{
    return sizeof(*piece) + piece->cap + (piece->block.owner != NULL ? piece->len : 0);
}

void piece_keep(struct exchange_worker *w, const struct piece *piece)
{
    ASSERT(w->formed);
    w->pending += piece_bytes(piece);
    if (w->pending <= w->x->config.held_max || w->overflowed) {
        return;
    }
    inner_relieve(w); /* neighbours may have taken it all, and nobody looked since */
    if (w->pending > w->x->config.held_max) {
        overflow(w);
    }
}

void piece_forget(struct exchange_worker *w, struct piece *piece)
{
    ASSERT(w->pending >= piece_bytes(piece));
    w->pending -= piece_bytes(piece);
    piece_free(w, piece);
}

/* ---- the worker's turn ----------------------------------------------------------------------- */

void exchange_deliver(struct exchange_worker *w, uint32_t from, const uint8_t *data, size_t len)
{
    ASSERT(w->formed && from != w->global && from < w->x->total);
    w->x->config.handler->message(w->ctx, from, data, len);
}

/* A backlog is little memory, but says that a receiver is far behind. */
static bool is_ready(const struct exchange_worker *w)
{
    return w->backlogs == 0 && w->pending <= EXCHANGE_READY_BYTES;
}

/* Takes back what was read, sends what waited, and tells who was refused. */
static bool relieve(struct exchange_worker *w)
{
    bool any = inner_relieve(w);
    if (w->refused && is_ready(w)) {
        w->refused = false;
        any = true;
        if (w->x->config.handler->writable != NULL) {
            w->x->config.handler->writable(w->ctx);
        }
    }
    return any;
}

/* True: there may be more to do. */
static bool worker_poll(struct io_poller *poller)
{
    struct exchange_worker *w = CONTAINER_OF(poller, struct exchange_worker, poller);
    ASSERT(!w->polling);
    w->polling = true;
    bool any = inner_take(w);
    if (w->backlogs > 0 || w->refused) {
        any |= relieve(w);
    }
    any |= lanes_acknowledge(w) || w->touched_len > 0;
    inner_flush(w);
    w->polling = false;
    return any;
}

/* About to sleep: a sleeper holds nothing that is not needed, and says nothing late. */
static bool worker_arm(struct io_poller *poller)
{
    struct exchange_worker *w = CONTAINER_OF(poller, struct exchange_worker, poller);
    inner_relieve(w);
    inner_flush(w);
    if (w->refused && is_ready(w)) {
        return true;
    }
    return inner_arm(w, w->backlogs > 0 || w->refused);
}

static void worker_disarm(struct io_poller *poller)
{
    inner_disarm(CONTAINER_OF(poller, struct exchange_worker, poller));
}

/* ---- generations ----------------------------------------------------------------------------- */

/* Early messages come out behind formed(), before anything else of the generation. */
static void take_formed(struct exchange_worker *w, uint64_t generation)
{
    ASSERT(generation > w->generation && !w->formed);
    w->generation = generation;
    w->formed = true;
    w->overflowed = false;
    w->x->config.handler->formed(w->ctx, generation);
    lanes_formed(w);
    inner_formed(w);
}

static void take_lost(struct exchange_worker *w, const char *reason)
{
    ASSERT(w->formed);
    w->formed = false;
    lanes_lost(w);
    inner_lost(w);
    w->x->config.handler->lost(w->ctx, reason);
}

static void worker_take(void *arg, struct mailbox_item *item)
{
    struct net_item *it = CONTAINER_OF(item, struct net_item, item);
    if (it->kind == ITEM_FORMED) {
        take_formed(arg, it->generation);
    } else {
        ASSERT(it->kind == ITEM_LOST);
        take_lost(arg, it->reason);
    }
    exchange_item_free(item);
}

/* ---- public ---------------------------------------------------------------------------------- */

static inline bool is_here(const struct exchange *x, uint32_t to)
{
    return to / x->config.workers_per_process == x->config.process;
}

static inline struct exchange_worker *sender(struct exchange *x, uint32_t index, uint32_t to)
{
    ASSERT(index < x->config.workers_per_process && to < x->total);
    ASSERT(to != x->workers[index].global);
    return &x->workers[index];
}

/* To whichever kind of lane it is. */
static void commit(struct exchange_worker *w, uint32_t to, struct piece *piece)
{
    if (w->sent_bytes != NULL) {
        metric_add(w->sent_bytes, piece->len);
    }
    if (is_here(w->x, to)) {
        inner_commit(w, to % w->x->config.workers_per_process, piece);
    } else {
        lanes_commit(w, to, piece);
    }
}

/* A small message to a neighbour goes into the line itself; every other one becomes a piece. */
void exchange_send(struct exchange *x, uint32_t index, uint32_t to, const void *data, size_t len)
{
    struct exchange_worker *w = sender(x, index, to);
    ASSERT(len <= FRAME_MESSAGE_MAX);
    if (!w->formed || w->overflowed) {
        return;
    }
    if (len <= INNER_BYTES && is_here(x, to)) {
        if (w->sent_bytes != NULL) {
            metric_add(w->sent_bytes, len);
        }
        inner_send(w, to % x->config.workers_per_process, data, len);
        return;
    }
    struct piece *piece = piece_new(w, len, !is_here(x, to));
    if (len > 0) {
        memcpy(piece->data, data, len);
    }
    commit(w, to, piece);
}

/* Also when no generation stands: commit finds that out. */
void exchange_reserve(struct exchange *x, uint32_t index, uint32_t to, size_t len,
                      struct exchange_block *out)
{
    struct exchange_worker *w = sender(x, index, to);
    ASSERT(len > 0 && len <= FRAME_MESSAGE_MAX);
    struct piece *piece = piece_new(w, len, !is_here(x, to));
    *out = (struct exchange_block){.data = piece->data, .len = len, .owner = piece};
}

void exchange_commit(struct exchange *x, uint32_t index, uint32_t to, struct exchange_block *block,
                     size_t len)
{
    struct exchange_worker *w = sender(x, index, to);
    struct piece *piece = block->owner;
    ASSERT(piece != NULL && block->data == piece->data && len <= piece->len);
    *block = (struct exchange_block){0};
    if (len == 0 || !w->formed || w->overflowed) {
        piece_free(w, piece);
        return;
    }
    if (piece->block.owner != NULL) {
        shm_pool_trim(x->pool, index, &piece->block, len);
    }
    piece->len = len;
    commit(w, to, piece);
}

/* At the end of a step of whoever sends: neighbours and other processes hear of it now. */
void exchange_flush(struct exchange *x, uint32_t index)
{
    ASSERT(index < x->config.workers_per_process);
    inner_flush(&x->workers[index]);
    if (x->config.processes > 1) {
        lanes_flush(&x->workers[index]);
    }
}

/* Looks at what has been taken only when it must: usually it is one comparison. */
bool exchange_ready(struct exchange *x, uint32_t index)
{
    ASSERT(index < x->config.workers_per_process);
    struct exchange_worker *w = &x->workers[index];
    if (is_ready(w)) {
        return true;
    }
    inner_relieve(w);
    w->refused = !is_ready(w);
    return !w->refused;
}

size_t exchange_pending(const struct exchange *x, uint32_t index)
{
    ASSERT(index < x->config.workers_per_process);
    return x->workers[index].pending;
}

void exchange_worker(struct exchange *x, uint32_t index, struct io_loop *loop, void *worker_ctx)
{
    ASSERT(index < x->config.workers_per_process);
    struct exchange_worker *w = &x->workers[index];
    ASSERT(w->loop == NULL);
    w->loop = loop;
    w->ctx = worker_ctx;
    w->box = mailbox_new(loop, worker_take, NULL, w);
    if (x->pool != NULL) {
        shm_pool_worker(x->pool, index, loop, NULL, NULL);
    }
    w->poller.poll = worker_poll;
    w->poller.arm = worker_arm;
    w->poller.disarm = worker_disarm;
    w->poller.brief = true;
    io_poller_add(loop, &w->poller);
    w->registered.kind = ITEM_REGISTERED;
    w->registered.index = index;
    mailbox_put(x->box, &w->registered.item);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void worker_metrics(struct exchange_worker *w)
{
    struct metrics_registry *metrics = w->x->config.metrics;
    struct buf labels = {0};
    buf_printf(&labels, "worker=\"%u\"", w->global);
    const char *text = buf_cstr(&labels);
    w->sent_bytes = metric_counter(metrics, "tailrace_exchange_sent_bytes_total", text,
                                   "Bytes sent to other workers of the replica");
    w->resent = metric_counter(metrics, "tailrace_exchange_resent_messages_total", text,
                               "Messages sent again after a lost connection");
    buf_free(&labels);
}

void exchange_worker_init(struct exchange *x, uint32_t index)
{
    struct exchange_worker *w = &x->workers[index];
    ASSERT(w->x == NULL && x->inner_ends != NULL);
    w->x = x;
    w->index = index;
    w->global = x->config.process * x->config.workers_per_process + index;
    w->end = &x->inner_ends[index];
    w->touched = mem_zalloc(x->config.workers_per_process * sizeof(w->touched[0]));
    w->touched_list = mem_zalloc(x->config.workers_per_process * sizeof(w->touched_list[0]));
    lanes_init(w);
    if (x->config.metrics != NULL) {
        worker_metrics(w);
    }
}

void exchange_worker_free(struct exchange_worker *w)
{
    ASSERT(!w->polling); /* its lanes are being walked */
    if (w->loop != NULL) {
        io_poller_remove(w->loop, &w->poller);
    }
    inner_drop(w);
    lanes_free(w);
    ASSERT(w->pending == 0);
    for (uint32_t i = 0; i < PIECE_SIZES; i++) {
        while (w->spare[i] != NULL) {
            struct piece *next = w->spare[i]->next;
            free(w->spare[i]);
            w->spare[i] = next;
        }
    }
    mailbox_free(w->box, exchange_item_free);
    free(w->touched);
    free(w->touched_list);
}
