/*
 * Worker to worker over shared memory. All of a struct shm_end is one thread's; what another
 * process reads or writes is struct shm_lane and struct shm_worker, with these orderings (argued
 * at length in ring/README.md):
 *
 *   publish: bytes and descriptor, then tail (release)   <->  tail (acquire), then read them
 *   take:    done with the bytes, then head (release)    <->  head (acquire), then reuse them
 *   sleep:   sleeping odd, fence, look at tails          <->  tail, fence, look at sleeping
 *   blocked: blocked 1, fence, look at heads             <->  head, fence, look at blocked
 */
#include "ring/shm/internal.h"

enum { MESSAGES_A_POLL = 64 };

static struct shm_carrier *shm_of(struct carrier *c)
{
    return CONTAINER_OF(c, struct shm_carrier, base);
}

/* ---- doorbells ------------------------------------------------------------------------------- */

/* After a store the peer's worker must see: rings its bell if it sleeps, once per sleep. */
static void wake_peer(struct shm_end *end, uint32_t remote)
{
    ASSERT(end->attached && remote < end->shm->peer_shape.workers);
    struct shm_carrier *shm = end->shm;
    struct shm_pair *pair = &end->pairs[remote];
    const struct shm_worker *peer = shm_worker_at(shm->peer, &shm->peer_shape, remote);
    /* Pairs with the fence in shm_arm: either it sees our store or we see it sleep. */
    atomic_thread_fence(memory_order_seq_cst);
    /* Relaxed: ordered by the fence. */
    uint32_t sleeping = atomic_load_explicit(&peer->sleeping, memory_order_relaxed);
    if ((sleeping & 1) != 0 && sleeping != pair->rung) {
        pair->rung = sleeping;
        shm_ring(shm->peer_bells[remote]);
    }
}

/* ---- producing ------------------------------------------------------------------------------- */

static bool ring_full(const struct shm_pair *pair)
{
    ASSERT(pair->tail - pair->acked <= SHM_RING);
    return pair->tail - pair->acked == SHM_RING;
}

/* Publishes one descriptor; there is room. */
static void publish(struct shm_end *end, uint32_t remote, const struct carrier_message *m,
                    uint64_t offset, size_t len, size_t total, uint8_t flags)
{
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(!ring_full(pair) && len <= total);
    uint64_t at = pair->tail % SHM_RING;
    pair->own->ring[at] = (struct shm_desc){
        .offset = offset,
        .len = (uint32_t)len,
        .total = (uint32_t)total,
        .a = m->a,
        .b = m->b,
        .stream = m->stream,
        .c = m->c,
        .kind = m->kind,
        .flags = flags,
    };
    pair->slots[at] = (struct shm_slot){.offset = offset, .len = (uint32_t)len};
    pair->tail++;
    /* Release: pairs with the acquire of tail in take_lane; publishes block and descriptor. */
    atomic_store_explicit(&pair->own->tail, pair->tail, memory_order_release);
}

/* Publishes what there is room for of the oldest item; true when all of it is out. */
static bool push_item(struct shm_end *end, uint32_t remote, struct shm_item *item)
{
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(item->sent <= item->len && (item->in_arena || item->len == 0 || item->data != NULL));
    if (item->in_arena || item->len == 0) {
        if (ring_full(pair)) {
            return false;
        }
        publish(end, remote, &item->m, item->offset, item->len, item->len,
                FRAME_FIRST | FRAME_LAST);
        return true;
    }
    while (item->sent < item->len) {
        size_t left = item->len - item->sent;
        size_t len = left < SHM_BLOCK_MAX ? left : SHM_BLOCK_MAX;
        size_t quarter = end->shm->own_shape.arena_bytes / 4;
        len = len < quarter ? len : quarter;
        uint64_t offset;
        if (ring_full(pair) || !shm_arena_take(&end->arena, len, &offset)) {
            return false;
        }
        memcpy(end->arena_base + offset, item->data + item->sent, len);
        uint8_t flags = (uint8_t)((item->sent == 0 ? FRAME_FIRST : 0) |
                                  (len == left ? FRAME_LAST : 0));
        publish(end, remote, &item->m, offset, len, item->len, flags);
        item->sent += len;
    }
    return true;
}

/* Works off the backlog; true when it got empty. */
static bool push_backlog(struct shm_end *end, uint32_t remote)
{
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(pair->backlog != NULL && end->backlogs > 0);
    uint64_t before = pair->tail;
    while (pair->backlog != NULL && push_item(end, remote, pair->backlog)) {
        struct shm_item *item = pair->backlog;
        pair->backlog = item->next;
        free(item);
    }
    if (pair->tail != before) {
        wake_peer(end, remote);
    }
    if (pair->backlog != NULL) {
        return false;
    }
    pair->backlog_last = NULL;
    end->backlogs--;
    return true;
}

static void put_backlog(struct shm_end *end, uint32_t remote, struct shm_item *item)
{
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT((pair->backlog == NULL) == (pair->backlog_last == NULL));
    ASSERT(item->next == NULL);
    if (pair->backlog_last != NULL) {
        pair->backlog_last->next = item;
    } else {
        pair->backlog = item;
        end->backlogs++;
    }
    pair->backlog_last = item;
}

bool shm_ready(struct carrier *c, uint32_t local, uint32_t remote)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && remote < end->shm->peer_shape.workers);
    if (pair->backlog == NULL) {
        return true;
    }
    if (!pair->refused) {
        pair->refused = true;
        end->refused++;
    }
    return false;
}

void shm_reserve(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                 struct carrier_block *out)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    ASSERT(end->attached && len > 0);
    uint64_t offset;
    size_t quarter = end->shm->own_shape.arena_bytes / 4;
    *out = (struct carrier_block){.len = len};
    /* One message does not take more than a quarter, so that others go on. */
    if (end->pairs[remote].backlog == NULL && len <= SHM_BLOCK_MAX && len <= quarter &&
        shm_arena_take(&end->arena, len, &offset)) {
        out->data = end->arena_base + offset;
        out->place = offset;
        return;
    }
    struct shm_item *item = mem_alloc(sizeof(*item) + len + SHM_LINE);
    uintptr_t at = (uintptr_t)(item + 1);
    *item = (struct shm_item){
        .len = len,
        .data = (uint8_t *)((at + SHM_LINE - 1) & ~(uintptr_t)(SHM_LINE - 1)),
    };
    out->owner = item;
    out->data = item->data;
}

static struct shm_item *item_for(struct carrier_block *block, const struct carrier_message *m,
                                 size_t len)
{
    struct shm_item *item = block != NULL ? block->owner : NULL;
    ASSERT(item == NULL || len <= item->len);
    if (item == NULL) {
        item = MEM_NEW(struct shm_item);
        item->in_arena = block != NULL;
        item->offset = block != NULL ? block->place : 0;
    }
    item->m = *m;
    item->len = len;
    return item;
}

void shm_commit(struct carrier *c, uint32_t local, uint32_t remote,
                const struct carrier_message *m, struct carrier_block *block, size_t len)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && (block != NULL || len == 0));
    bool in_arena = block != NULL && block->owner == NULL;
    if (in_arena && len == 0) {
        shm_arena_drop(&end->arena, block->place);
        block = NULL;
        in_arena = false;
    } else if (in_arena) {
        shm_arena_trim(&end->arena, block->place, len);
    }
    if (pair->backlog == NULL && !ring_full(pair) && (in_arena || len == 0)) {
        publish(end, remote, m, in_arena ? block->place : 0, len, len, FRAME_FIRST | FRAME_LAST);
        wake_peer(end, remote);
        if (block != NULL && block->owner != NULL) {
            free(block->owner);
        }
        return;
    }
    put_backlog(end, remote, item_for(block, m, len));
    push_backlog(end, remote);
}

/* Takes back what the peer has acknowledged. */
static err_t take_acks(struct shm_end *end, uint32_t remote, bool *any)
{
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(pair->acked <= pair->tail);
    /* Acquire: pairs with the release of head in take_lane; the peer no longer reads the blocks. */
    uint64_t head = atomic_load_explicit(&pair->peer->head, memory_order_acquire);
    if (head - pair->acked > pair->tail - pair->acked) {
        return err_new(ERR_PROTOCOL, "worker %u acknowledges %llu of %llu, %llu were already",
                       remote, (unsigned long long)head, (unsigned long long)pair->tail,
                       (unsigned long long)pair->acked);
    }
    for (; pair->acked != head; pair->acked++) {
        struct shm_slot *slot = &pair->slots[pair->acked % SHM_RING];
        if (slot->len > 0) {
            shm_arena_drop(&end->arena, slot->offset);
            slot->len = 0;
        }
        *any = true;
    }
    return ERR_OK;
}

/* ---- consuming ------------------------------------------------------------------------------- */

/* Checks a private copy of a descriptor. */
static err_t check_desc(const struct shm_end *end, const struct shm_pair *pair,
                        const struct shm_desc *d)
{
    static const uint8_t zero[sizeof(d->zero)];
    uint64_t arena = end->shm->peer_shape.arena_bytes;
    bool first = (d->flags & FRAME_FIRST) != 0;
    bool last = (d->flags & FRAME_LAST) != 0;
    const struct carrier_node *partial = pair->partial;
    const char *wrong = NULL;
    if (d->offset > arena || d->len > arena - d->offset || d->offset % SHM_UNIT != 0) {
        wrong = "block outside the arena";
    } else if (d->total > FRAME_MESSAGE_MAX || d->len > d->total) {
        wrong = "lengths";
    } else if (d->kind < FRAME_KIND_USER || (d->flags & ~FRAME_FLAGS) != 0 ||
               memcmp(d->zero, zero, sizeof(zero)) != 0) {
        wrong = "kind or flags";
    } else if (first != (partial == NULL)) {
        wrong = "fragments";
    } else if (first && last != (d->len == d->total)) {
        wrong = "length of a whole message";
    } else if (!first && (d->total != partial->m.len || d->kind != partial->m.kind ||
                          d->len > partial->m.len - partial->sent ||
                          last != (d->len == partial->m.len - partial->sent))) {
        wrong = "length of a fragment";
    } else if (!last && d->len == 0) {
        wrong = "empty fragment";
    }
    return wrong == NULL ? ERR_OK
                         : err_new(ERR_PROTOCOL,
                                   "bad descriptor: %s (offset %llu, length %u of %u)", wrong,
                                   (unsigned long long)d->offset, d->len, d->total);
}

static struct carrier_message message_of(const struct shm_desc *d)
{
    return (struct carrier_message){.kind = d->kind, .stream = d->stream, .c = d->c, .a = d->a,
                                    .b = d->b, .len = d->len};
}

/* False: the session failed, or ended in the callback. */
static bool take_fragment(struct shm_end *end, uint32_t remote, const struct shm_desc *d)
{
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(d->len > 0 && (pair->partial != NULL || (d->flags & FRAME_FIRST) != 0));
    if (pair->partial == NULL) {
        struct carrier_message m = message_of(d);
        pair->partial = carrier_node_new(CARRIER_NODE_MESSAGE, end->local, remote, &m, d->total);
    }
    struct carrier_node *node = pair->partial;
    memcpy(carrier_node_data(node) + node->sent, pair->peer_arena + d->offset, d->len);
    node->sent += d->len;
    if ((d->flags & FRAME_LAST) == 0) {
        return true;
    }
    ASSERT(node->sent == node->m.len);
    pair->partial = NULL;
    bool alive = carrier_deliver(&end->shm->base, end->local, remote, &node->m);
    carrier_node_free(node);
    return alive;
}

static bool take_one(struct shm_end *end, uint32_t remote, const struct shm_desc *shared)
{
    struct shm_pair *pair = &end->pairs[remote];
    struct shm_desc d;
    memcpy(&d, shared, sizeof(d)); /* once: it may change underfoot */
    /* A compiler barrier: the checks below look at the copy, never again at the original. */
    atomic_signal_fence(memory_order_seq_cst);
    err_t err = check_desc(end, pair, &d);
    if (err != ERR_OK) {
        carrier_fail(&end->shm->base, end->local, err);
        return false;
    }
    if ((d.flags & FRAME_FLAGS) != FRAME_FLAGS) {
        return take_fragment(end, remote, &d);
    }
    struct carrier_message m = message_of(&d);
    m.data = d.len > 0 ? pair->peer_arena + d.offset : NULL;
    return carrier_deliver(&end->shm->base, end->local, remote, &m);
}

/* Takes a burst from one of the peer's workers; false when the session is over. */
static bool take_lane(struct shm_end *end, uint32_t remote, bool *any)
{
    struct shm_pair *pair = &end->pairs[remote];
    /* Acquire: pairs with the release of tail in publish; descriptors and blocks are there. */
    uint64_t tail = atomic_load_explicit(&pair->peer->tail, memory_order_acquire);
    if (tail - pair->taken > SHM_RING) {
        carrier_fail(&end->shm->base, end->local,
                     err_new(ERR_PROTOCOL, "worker %u published %llu, %llu were taken", remote,
                             (unsigned long long)tail, (unsigned long long)pair->taken));
        return false;
    }
    if (tail == pair->taken) {
        return true;
    }
    *any = true;
    bool alive = true;
    for (int i = 0; i < MESSAGES_A_POLL && pair->taken != tail && alive; i++) {
        alive = take_one(end, remote, &pair->peer->ring[pair->taken % SHM_RING]);
        pair->taken++;
    }
    /* Release: pairs with the acquire of head in take_acks; we are done reading the blocks. */
    atomic_store_explicit(&pair->own->head, pair->taken, memory_order_release);
    if (!alive) {
        return false;
    }
    const struct shm_worker *peer = shm_worker_at(end->shm->peer, &end->shm->peer_shape, remote);
    /* Pairs with the fence in shm_arm: either it sees the head or we see it blocked. */
    atomic_thread_fence(memory_order_seq_cst);
    /* Relaxed: ordered by the fence. */
    if (atomic_load_explicit(&peer->blocked, memory_order_relaxed) != 0) {
        wake_peer(end, remote);
    }
    return true;
}

/* ---- the poller ------------------------------------------------------------------------------ */

static void set_blocked(struct shm_end *end, bool blocked)
{
    ASSERT(end->attached);
    /* Relaxed: shm_arm's fence orders it before the look at the heads. */
    atomic_store_explicit(&end->state->blocked, blocked ? 1 : 0, memory_order_relaxed);
}

/* Backlogs also empty while something urgent is sent, so this is asked in every round. */
static bool tell_writable(struct shm_end *end)
{
    ASSERT(end->attached && end->refused <= end->shm->peer_shape.workers);
    bool any = false;
    for (uint32_t j = 0; j < end->shm->peer_shape.workers && end->refused > 0; j++) {
        struct shm_pair *pair = &end->pairs[j];
        if (pair->refused && pair->backlog == NULL) {
            pair->refused = false;
            end->refused--;
            any = true;
        }
    }
    if (any) {
        carrier_writable(&end->shm->base, end->local);
    }
    return any;
}

static bool shm_poll(struct io_poller *poller)
{
    struct shm_end *end = CONTAINER_OF(poller, struct shm_end, poller);
    struct carrier *c = &end->shm->base;
    bool any = false;
    bool freed = false;
    ASSERT(end->attached);
    if (c->ends[end->local].failed) {
        return false; /* over: close comes through the mailbox */
    }
    for (uint32_t j = 0; j < end->shm->peer_shape.workers; j++) {
        err_t err = take_acks(end, j, &freed);
        if (err != ERR_OK) {
            carrier_fail(c, end->local, err);
            return true;
        }
        if (!take_lane(end, j, &any)) {
            return true;
        }
    }
    if (freed && end->backlogs > 0) {
        for (uint32_t j = 0; j < end->shm->peer_shape.workers; j++) {
            if (end->pairs[j].backlog != NULL) {
                push_backlog(end, j);
            }
        }
    }
    return tell_writable(end) || any || freed;
}

/* About to sleep: says so, then looks once more. */
static bool shm_arm(struct io_poller *poller)
{
    struct shm_end *end = CONTAINER_OF(poller, struct shm_end, poller);
    if (end->shm->base.ends[end->local].failed) {
        return false;
    }
    set_blocked(end, end->backlogs > 0);
    /* Relaxed: only this thread writes it. */
    uint32_t sleeping = atomic_load_explicit(&end->state->sleeping, memory_order_relaxed);
    ASSERT((sleeping & 1) == 0);
    atomic_store_explicit(&end->state->sleeping, sleeping + 1, memory_order_relaxed);
    /* Pairs with the fences in wake_peer and take_lane: what they stored before we see below, or
     * they see us asleep and ring. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t j = 0; j < end->shm->peer_shape.workers; j++) {
        const struct shm_pair *pair = &end->pairs[j];
        /* Relaxed, both: only whether there is work; poll loads again with acquire. */
        if (atomic_load_explicit(&pair->peer->tail, memory_order_relaxed) != pair->taken ||
            atomic_load_explicit(&pair->peer->head, memory_order_relaxed) != pair->acked) {
            return true;
        }
    }
    return false;
}

static void shm_disarm(struct io_poller *poller)
{
    struct shm_end *end = CONTAINER_OF(poller, struct shm_end, poller);
    ASSERT(end->attached);
    /* Relaxed: only this thread writes it; a late look at it costs one ring too many. */
    uint32_t sleeping = atomic_load_explicit(&end->state->sleeping, memory_order_relaxed);
    if ((sleeping & 1) != 0) {
        atomic_store_explicit(&end->state->sleeping, sleeping + 1, memory_order_relaxed);
    }
    set_blocked(end, false);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void bell_rung(void *arg)
{
    /* The loop is awake, which is all: its pollers look. */
}

void shm_prepare(struct carrier *c, uint32_t local)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    ASSERT(end->bell == NULL && !end->attached);
    err_t err = io_bell_open(c->ends[local].worker.loop, bell_rung, end, &end->bell);
    if (err != ERR_OK) {
        end->bell = NULL;
        carrier_fail(c, local, err_wrap(err, "doorbell"));
        return;
    }
    struct carrier_node *node = carrier_node_new(CARRIER_NODE_OTHER, local, 0, NULL, 0);
    mailbox_put(c->net_box, &node->item);
}

void shm_attach(struct carrier *c, uint32_t local)
{
    struct shm_carrier *shm = shm_of(c);
    struct shm_end *end = &shm->ends[local];
    uint32_t peers = shm->peer_shape.workers;
    ASSERT(!end->attached && shm->own != NULL && shm->peer != NULL);
    end->state = shm_worker_at(shm->own, &shm->own_shape, local);
    end->arena_base = shm_arena_at(shm->own, &shm->own_shape, local);
    shm_arena_init(&end->arena, shm->own_shape.arena_bytes);
    end->pairs = mem_zalloc(sizeof(end->pairs[0]) * peers);
    for (uint32_t j = 0; j < peers; j++) {
        end->pairs[j].own = shm_lane_at(shm->own, &shm->own_shape, local, j);
        end->pairs[j].peer = shm_lane_at(shm->peer, &shm->peer_shape, j, local);
        end->pairs[j].peer_arena = shm_arena_at(shm->peer, &shm->peer_shape, j);
    }
    end->poller.poll = shm_poll;
    end->poller.brief = true;
    end->poller.arm = shm_arm;
    end->poller.disarm = shm_disarm;
    end->attached = true;
    io_poller_add(c->ends[local].worker.loop, &end->poller);
}

void shm_detach(struct carrier *c, uint32_t local)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    ASSERT(end->local == local);
    io_bell_close(end->bell);
    end->bell = NULL;
    if (!end->attached) {
        return;
    }
    end->attached = false;
    io_poller_remove(c->ends[local].worker.loop, &end->poller);
    for (uint32_t j = 0; j < end->shm->peer_shape.workers; j++) {
        struct shm_pair *pair = &end->pairs[j];
        while (pair->backlog != NULL) {
            struct shm_item *next = pair->backlog->next;
            free(pair->backlog);
            pair->backlog = next;
        }
        if (pair->partial != NULL) {
            carrier_node_free(pair->partial);
        }
    }
    free(end->pairs);
    end->pairs = NULL;
    ASSERT(shm_arena_valid(&end->arena));
    shm_arena_close(&end->arena);
}
