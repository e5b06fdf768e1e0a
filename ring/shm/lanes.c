/*
 * A worker's side of a session: its poller, its sleep, its beginning and end. What another process
 * reads or writes is struct shm_ends, struct shm_state and struct shm_bell, with these orderings
 * (argued at length in ring/README.md):
 *
 *   publish: lines and blocks, then word (release)   <->  word (acquire), then read them
 *   take:    done with them, then head (release)     <->  head (acquire), then reuse them
 *   sleep:   sleeping odd, fence, look at words      <->  word, fence, look at sleeping
 *   blocked: blocked 1, fence, look at heads         <->  head, fence, look at blocked
 *   claim:   claim, fence, look at voided            <->  voided, fence, look at claim
 */
#include "ring/shm/internal.h"

/* ---- the poller ------------------------------------------------------------------------------ */

/* Does it wait for acknowledgements? */
static bool starved(const struct shm_end *end)
{
    return end->backlogs > 0 || end->refused > 0 || end->pool->waiting;
}

/* A lane that was not ready is asked again as soon as there is room. */
static bool tell_writable(struct shm_end *end)
{
    ASSERT(end->attached && end->refused <= end->pairs_len);
    size_t before = end->refused;
    for (uint32_t j = 0; j < end->pairs_len && end->refused > 0; j++) {
        struct shm_pair *pair = &end->pairs[j];
        if (pair->refused) {
            pair->refused = false;
            end->refused--;
            /* Asking marks it again when there is still no room. */
            before -= shm_ready(&end->shm->base, end->local, j) ? 0 : 1;
        }
    }
    if (before > 0 && !shm_failed(end)) {
        carrier_writable(&end->shm->base, end->local);
        return true;
    }
    return false;
}

/* Works off what waited for room. */
static bool relieve(struct shm_end *end)
{
    bool acked = false;
    for (uint32_t j = 0; j < end->pairs_len && !shm_failed(end); j++) {
        acked |= shm_take_acks(end, &end->pairs[j]);
    }
    if (shm_failed(end)) {
        return true;
    }
    /* Also without acknowledgements here: another session may have given blocks back. */
    acked |= shm_push_backlogs(end);
    acked |= tell_writable(end);
    return acked;
}

static bool shm_poll(struct io_poller *poller)
{
    struct shm_end *end = CONTAINER_OF(poller, struct shm_end, poller);
    bool any = false;
    if (shm_failed(end)) {
        return false; /* over: close comes through the mailbox */
    }
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        if (!shm_take_lane(end, &end->pairs[j], &any)) {
            return true;
        }
    }
    if (starved(end)) {
        any |= relieve(end);
    }
    shm_count_posted(end);
    if (end->touched_len > 0 && !shm_failed(end)) {
        shm_flush_end(end);
        any = true;
    }
    return any;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

static bool work_left(const struct shm_end *end)
{
    bool hungry = starved(end);
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        const struct shm_pair *pair = &end->pairs[j];
        /* Relaxed, both: only whether there is work; poll loads again with acquire. */
        if ((!pair->over && shm_arrived(pair, memory_order_relaxed)) ||
            (hungry &&
             atomic_load_explicit(&pair->peer->head, memory_order_relaxed) != pair->acked)) {
            return true;
        }
    }
    return false;
}

/* About to sleep: says so, then looks once more. */
static bool shm_arm(struct io_poller *poller)
{
    struct shm_end *end = CONTAINER_OF(poller, struct shm_end, poller);
    if (shm_failed(end)) {
        return false;
    }
    bool hungry = starved(end);
    bool acked = false;
    shm_flush_end(end);
    for (uint32_t j = 0; j < end->pairs_len && !shm_failed(end); j++) {
        acked |= shm_take_acks(end, &end->pairs[j]); /* a sleeper holds nothing for long */
    }
    if ((acked && hungry) || shm_failed(end)) {
        return true;
    }
    /* Relaxed: a ring between here and the sleep changes the word, which ends the sleep. */
    uint32_t rung = atomic_load_explicit(&end->rings->rung, memory_order_relaxed);
    /* Relaxed, all: the fence orders them; only this thread writes them. */
    uint32_t sleeping = atomic_load_explicit(&end->state->sleeping, memory_order_relaxed);
    ASSERT((sleeping & 1) == 0);
    atomic_store_explicit(&end->state->blocked, starved(end) ? 1 : 0, memory_order_relaxed);
    atomic_store_explicit(&end->state->sleeping, sleeping + 1, memory_order_relaxed);
    /* Pairs with the fence in shm_flush_end: what was stored before it we see below, or they see
     * us asleep and wake us. */
    atomic_thread_fence(memory_order_seq_cst);
    if (work_left(end)) {
        return true;
    }
    if (end->futex != NULL) {
        io_futex_arm(end->futex, rung);
    }
    return false;
}

static void shm_disarm(struct io_poller *poller)
{
    struct shm_end *end = CONTAINER_OF(poller, struct shm_end, poller);
    /* Relaxed, all: only this thread writes them; a late look at them costs one wake too many. */
    uint32_t sleeping = atomic_load_explicit(&end->state->sleeping, memory_order_relaxed);
    if ((sleeping & 1) != 0) {
        atomic_store_explicit(&end->state->sleeping, sleeping + 1, memory_order_relaxed);
    }
    atomic_store_explicit(&end->state->blocked, 0, memory_order_relaxed);
}

/* The loop is awake, which is all: its pollers look. */
static void bell_rung(void *arg)
{
    carrier_count(&shm_counters(arg)->woken, 1);
}

static void futex_rung(void *arg)
{
    struct shm_end *end = arg;
    carrier_count(&shm_counters(end)->woken, 1);
    /* Relaxed: a measurement. */
    io_loop_note_wake(end->shm->base.ends[end->local].worker.loop,
                      atomic_load_explicit(&end->rings->rung_ns, memory_order_relaxed));
}

/* ---- life ------------------------------------------------------------------------------------ */

/* How this worker will be woken: by futex, or by a doorbell that has to be passed to the peer. */
void shm_prepare(struct carrier *c, uint32_t local)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct io_loop *loop = c->ends[local].worker.loop;
    ASSERT(end->bell == NULL && !end->attached);
    if (!io_loop_has_futex(loop)) {
        err_t err = io_bell_open(loop, bell_rung, end, &end->bell);
        if (err != ERR_OK) {
            end->bell = NULL;
            carrier_fail_unfit(c, local, err_wrap(err, "doorbell"));
            return;
        }
    }
    struct carrier_node *node = carrier_node_new(CARRIER_NODE_OTHER, local, 0, NULL, 0);
    mailbox_put(c->net_box, &node->item);
}

static void pair_init(struct shm_end *end, uint32_t j)
{
    struct shm_carrier *shm = end->shm;
    struct shm_pair *pair = &end->pairs[j];
    ASSERT(j < shm->peer_shape.workers);
    pair->own = shm_ends_at(shm->own, &shm->own_shape, end->local, j);
    pair->ring = shm_ring_of(pair->own);
    struct shm_ends *peer = shm_ends_at(shm->peer, &shm->peer_shape, j, end->local);
    pair->peer = peer;
    pair->peer_ring = shm_ring_of(peer);
    pair->peer_arena = shm_arena_at(shm->peer_pool, shm->peer_shape.arena_bytes, j);
    pair->peer_state = shm_state_at(shm->peer, &shm->peer_shape, j);
    pair->bell = shm_bell_at(shm->own, &shm->own_shape, j);
    pair->mask = shm->own_shape.lines - 1;
    pair->peer_mask = shm->peer_shape.lines - 1;
    pair->shift = (uint8_t)__builtin_ctz(shm->own_shape.lines);
    pair->peer_shift = (uint8_t)__builtin_ctz(shm->peer_shape.lines);
    uint32_t dense = shm->own_shape.lines * SHM_LINE / SHM_DENSE_SHARE;
    uint32_t batch = shm->own_shape.lines / SHM_BATCH_SHARE;
    pair->dense_max = dense <= SHM_INLINE_MAX ? 0 : dense < SHM_DENSE_MAX ? dense : SHM_DENSE_MAX;
    pair->batch_lines = batch < SHM_BATCH_LINES ? batch : SHM_BATCH_LINES;
    pair->held = mem_zalloc(sizeof(pair->held[0]) * shm->own_shape.lines);
    pair->window.sleeping = &pair->peer_state->sleeping;
    pair->window.carrier = &shm->base;
    pair->window.local = end->local;
    pair->window.remote = j;
}

static void pool_link(struct shm_end *end)
{
    struct shm_pool_worker *w = end->pool;
    end->pool_next = w->ends;
    if (end->pool_next != NULL) {
        end->pool_next->pool_prev = end;
    }
    w->ends = end;
}

static void pool_unlink(struct shm_end *end)
{
    ASSERT(end->pool_prev != NULL || end->pool->ends == end);
    *(end->pool_prev != NULL ? &end->pool_prev->pool_next : &end->pool->ends) = end->pool_next;
    if (end->pool_next != NULL) {
        end->pool_next->pool_prev = end->pool_prev;
    }
    end->pool_prev = end->pool_next = NULL;
}

void shm_attach(struct carrier *c, uint32_t local)
{
    struct shm_carrier *shm = shm_of(c);
    struct shm_end *end = &shm->ends[local];
    struct io_loop *loop = c->ends[local].worker.loop;
    ASSERT(!end->attached && shm->own != NULL && shm->peer != NULL);
    end->pool = &shm->pool->workers[local];
    end->lane_max = end->pool->pool->arena_bytes / 4;
    end->chunk.bytes = end->lane_max >= 4 * SHM_CHUNK ? SHM_CHUNK : 0;
    end->state = shm_state_at(shm->own, &shm->own_shape, local);
    end->rings = shm_bell_at(shm->peer, &shm->peer_shape, local);
    end->pairs_len = shm->peer_shape.workers;
    size_t size = sizeof(end->pairs[0]) * end->pairs_len;
    end->pairs = aligned_alloc(SHM_LINE, size);
    ASSERT(end->pairs != NULL);
    memset(end->pairs, 0, size);
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        pair_init(end, j);
    }
    if (end->bell == NULL && !io_env_simulated(io_loop_env(loop))) {
        err_t err = io_futex_open(loop, &end->rings->rung, futex_rung, end, &end->futex);
        if (err != ERR_OK) { /* the loop has stopped */
            err_free(err);
        }
    }
    end->poller.poll = shm_poll;
    end->poller.arm = shm_arm;
    end->poller.disarm = shm_disarm;
    end->poller.brief = true;
    end->attached = true;
    pool_link(end);
    io_poller_add(loop, &end->poller);
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
    io_futex_close(end->futex);
    end->futex = NULL;
    io_poller_remove(c->ends[local].worker.loop, &end->poller);
    pool_unlink(end);
    shm_close_windows(end);
    shm_close_chunk(end);
    shm_void_all(end);
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        struct shm_pair *pair = &end->pairs[j];
        shm_backlog_free(pair);
        if (pair->partial != NULL) {
            carrier_node_free(pair->partial);
        }
        free(pair->held);
    }
    free(end->pairs);
    end->pairs = NULL;
}
