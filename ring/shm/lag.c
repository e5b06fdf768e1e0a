/*
 * Taking back. A block that was shared is free when its last reader has acknowledged it; when the
 * arena is full, and a reader has acknowledged nothing for LAG_NS, what it has not claimed is taken
 * back from it: it hears that these are lost and reads them from the shard instead. The argument
 * why no torn block is ever delivered is in ring/README.md.
 */
#include "ring/shm/internal.h"

enum {
    LAG_NS = 5 * 1000 * 1000,
    SCAN_NS = 100 * 1000, /* readers are looked at so often at most */
};

/* Says that nothing shared below upto may be begun; answers with what the peer has claimed. */
static uint64_t void_below(struct shm_pair *pair, uint64_t upto)
{
    /* Relaxed, both: the fence orders them; it pairs with the one in claim (take.c). */
    atomic_store_explicit(&pair->own->voided, upto, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&pair->peer->claim, memory_order_relaxed);
}

static void drop_held(struct shm_end *end, struct shm_pair *pair, struct shm_held *held)
{
    ASSERT(!held->gone && pair->held_bytes >= held->len);
    held->gone = true;
    pair->held_bytes -= held->len;
    shm_pool_drop(end->pool, held->span);
}

/* Those that wait for room in the ring go as well: the peer is told in their place. */
static void void_backlog(struct shm_end *end, struct shm_pair *pair)
{
    for (struct shm_item *item = pair->backlog; item != NULL; item = item->next) {
        if (item->shared) {
            ASSERT(item->in_arena && item->sent == 0);
            shm_pool_drop(end->pool, item->span);
            item->in_arena = item->shared = false;
            item->lost = true;
            item->len = 0;
            carrier_count(&shm_counters(end)->lost_out, 1);
        }
    }
}

static void void_shared(struct shm_end *end, struct shm_pair *pair)
{
    if (end->shm->base.ends[end->local].building) {
        return; /* a run is amid its lines: nothing may be published now; the next one asks again */
    }
    shm_flush_end(end); /* what is not published is not void */
    uint64_t claimed = void_below(pair, pair->published);
    for (uint64_t i = pair->held_first; i != pair->held_end; i++) {
        struct shm_held *held = &pair->held[i & pair->mask];
        if (held->shared && !held->gone && held->at >= claimed) {
            drop_held(end, pair, held);
            carrier_count(&shm_counters(end)->lost_out, 1);
        }
    }
    void_backlog(end, pair);
}

static bool holds_shared(const struct shm_pair *pair)
{
    for (uint64_t i = pair->held_first; i != pair->held_end; i++) {
        const struct shm_held *held = &pair->held[i & pair->mask];
        if (held->shared && !held->gone) {
            return true;
        }
    }
    return false;
}

/* A reader lags that holds something and has acknowledged nothing for a while. */
static void judge(struct shm_end *end, struct shm_pair *pair, uint64_t now)
{
    if (pair->acked != pair->lag_acked || pair->lag_since_ns == 0) {
        pair->lag_acked = pair->acked;
        pair->lag_since_ns = now;
    } else if (now - pair->lag_since_ns >= LAG_NS && holds_shared(pair)) {
        void_shared(end, pair);
        pair->lag_since_ns = now;
    }
}

void shm_pool_hurry(struct shm_pool_worker *w)
{
    if (w->ends == NULL) {
        return;
    }
    uint64_t now = io_mono_ns(w->ends->shm->base.ends[w->ends->local].worker.loop);
    bool judging = now - w->scanned_ns >= SCAN_NS;
    w->scanned_ns = judging ? now : w->scanned_ns;
    for (struct shm_end *end = w->ends; end != NULL; end = end->pool_next) {
        for (uint32_t j = 0; j < end->pairs_len && !shm_failed(end); j++) {
            shm_take_acks(end, &end->pairs[j]);
            if (judging && !shm_failed(end)) {
                judge(end, &end->pairs[j], now);
            }
        }
    }
}

/* ---- the end of a session -------------------------------------------------------------------- */

/* Of those the peer has claimed, which are the oldest: how many, and the first behind them. */
static size_t claimed_count(const struct shm_pair *pair, uint64_t claimed, uint64_t *end)
{
    size_t n = 0;
    uint64_t i = pair->held_first;
    for (; i != pair->held_end; i++) {
        const struct shm_held *held = &pair->held[i & pair->mask];
        if (held->at >= claimed || held->at >= pair->published) {
            break;
        }
        n += held->gone ? 0 : 1;
    }
    *end = i;
    return n;
}

/* The claimed ones stay until the peer is proved done. They are few (CLAIM_BYTES in take.c), or the
 * peer lies. */
static void keep_claimed(struct shm_end *end, struct shm_pair *pair, uint64_t claimed)
{
    uint64_t behind;
    size_t n = claimed_count(pair, claimed, &behind);
    if (n > 0) {
        size_t len = end->returns != NULL ? end->returns->len : 0;
        end->returns = mem_realloc(end->returns, sizeof(*end->returns) +
                                                     (len + n) * sizeof(end->returns->offsets[0]));
        if (len == 0) {
            *end->returns = (struct shm_return){.worker = end->pool};
        }
    }
    for (; pair->held_first != behind; pair->held_first++) {
        const struct shm_held *held = &pair->held[pair->held_first & pair->mask];
        if (!held->gone) {
            end->returns->offsets[end->returns->len++] = held->span;
        }
    }
}

/* What is left is nobody's: at once where few know of it, else the pool's, with the places. */
static void drop_rest(struct shm_end *end, struct shm_pair *pair, bool lives_on)
{
    if (lives_on && pair->held_first != pair->held_end) {
        struct shm_drops *drops = MEM_NEW(struct shm_drops);
        *drops = (struct shm_drops){.held = pair->held, .mask = pair->mask,
                                    .at = pair->held_first, .end = pair->held_end};
        pair->held = NULL;
        shm_pool_drop_later(end->pool, drops);
    }
    for (uint64_t i = pair->held_first; pair->held != NULL && i != pair->held_end; i++) {
        struct shm_held *held = &pair->held[i & pair->mask];
        if (!held->gone) {
            drop_held(end, pair, held);
        }
    }
    pair->held_first = pair->held_end;
    pair->held_bytes = 0;
    for (struct shm_item *item = pair->backlog; item != NULL; item = item->next) {
        if (item->in_arena) {
            shm_pool_drop(end->pool, item->span);
        }
    }
}

void shm_void_all(struct shm_end *end)
{
    ASSERT(end->returns == NULL);
    const bool lives_on = end->pool->box != NULL;
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        struct shm_pair *pair = &end->pairs[j];
        shm_take_acks(end, pair); /* what was read already need not stay */
        uint64_t claimed = void_below(pair, SHM_VOID_ALL);
        if (lives_on) {
            keep_claimed(end, pair, claimed);
        }
        drop_rest(end, pair, lives_on);
    }
}
