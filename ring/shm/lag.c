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
    shm_pool_drop(end->pool, held->offset);
}

/* Those that wait for room in the ring go as well: the peer is told in their place. */
static void void_backlog(struct shm_end *end, struct shm_pair *pair)
{
    for (struct shm_item *item = pair->backlog; item != NULL; item = item->next) {
        if (item->shared) {
            ASSERT(item->in_arena && item->sent == 0);
            shm_pool_drop(end->pool, item->offset);
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

static size_t held_count(const struct shm_end *end)
{
    size_t n = 0;
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        n += end->pairs[j].held_end - end->pairs[j].held_first;
    }
    return n;
}

static void void_pair(struct shm_end *end, struct shm_pair *pair, struct shm_return *kept)
{
    uint64_t claimed = void_below(pair, SHM_VOID_ALL);
    for (uint64_t i = pair->held_first; i != pair->held_end; i++) {
        struct shm_held *held = &pair->held[i & pair->mask];
        if (held->gone) {
            continue;
        }
        if (held->at < claimed && held->at < pair->published && kept != NULL) {
            kept->offsets[kept->len++] = held->offset;
        } else {
            drop_held(end, pair, held);
        }
    }
    pair->held_first = pair->held_end;
    for (struct shm_item *item = pair->backlog; item != NULL; item = item->next) {
        if (item->in_arena) {
            shm_pool_drop(end->pool, item->offset);
        }
    }
}

void shm_void_all(struct shm_end *end)
{
    ASSERT(end->returns == NULL);
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        shm_take_acks(end, &end->pairs[j]); /* what was read already need not stay */
    }
    struct shm_return *kept = NULL;
    bool lives_on = end->pool->box != NULL;
    size_t held = lives_on ? held_count(end) : 0;
    if (held > 0) {
        kept = mem_zalloc(sizeof(*kept) + held * sizeof(kept->offsets[0]));
        kept->worker = end->pool;
    }
    for (uint32_t j = 0; j < end->pairs_len; j++) {
        void_pair(end, &end->pairs[j], kept);
    }
    if (kept != NULL && kept->len == 0) {
        free(kept);
        kept = NULL;
    }
    end->returns = kept;
}
