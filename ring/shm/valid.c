/*
 * Does everything of a session fit together? Asked of the peer's memory when it is attached, before
 * any of it is used, and of both sides' books in tests.
 *
 * What the peer may have done by then: it starts when it has both sent and got ATTACH, so the one
 * that spoke first finds a peer that may be sending already. But nobody has sent it anything, so it
 * can have taken and claimed nothing, and its rings are in their first lap. All of it may change
 * while it is looked at: each word is loaded once, and whatever is found later is checked where it
 * is read (take.c, shm_take_acks).
 */
#include "ring/shm/internal.h"

/* The heads: the shape ATTACH told of is the one the memory was made for. */
static bool heads_right(const struct shm_carrier *shm)
{
    const struct shm_shape *shape = &shm->peer_shape;
    struct shm_head head;
    struct shm_pool_head pool;
    memcpy(&head, shm->peer, sizeof(head)); /* once, both: they may change underfoot */
    memcpy(&pool, shm->peer_pool, sizeof(pool));
    return head.magic == SHM_MAGIC && head.workers == shape->workers &&
           head.peer_workers == shape->peer_workers && head.lines == shape->lines &&
           head.arena_bytes == shape->arena_bytes && head.zero == 0 &&
           pool.magic == SHM_POOL_MAGIC && pool.workers == shape->workers &&
           pool.arena_bytes == shape->arena_bytes && pool.zero == 0;
}

/* Its workers' sleep, and the bells it rings for ours: any number but for what is a flag. */
static bool words_right(const struct shm_carrier *shm)
{
    bool right = true;
    for (uint32_t i = 0; i < shm->peer_shape.workers; i++) {
        const struct shm_state *state = shm_state_at(shm->peer, &shm->peer_shape, i);
        /* Relaxed: looked at, and nothing follows from it. */
        right &= atomic_load_explicit(&state->blocked, memory_order_relaxed) <= 1;
    }
    for (uint32_t i = 0; i < shm->peer_shape.peer_workers; i++) {
        right &= shm_bell_at(shm->peer, &shm->peer_shape, i)->zero == 0;
    }
    return right;
}

/* The opening line: not written yet, or a message's first of the first lap. */
static bool lane_right(struct shm_ends *ends)
{
    const struct shm_desc *first = (const struct shm_desc *)shm_ring_of(ends);
    /* Relaxed, all: looked at, and nothing follows from it. */
    uint32_t word = atomic_load_explicit(&first->word, memory_order_relaxed);
    return atomic_load_explicit(&ends->head, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&ends->claim, memory_order_relaxed) == 0 &&
           (word == 0 || ((word & 0xFF) >= FRAME_KIND_USER && word >> 16 == shm_lap(0, 0)));
}

err_t shm_peer_check(const struct shm_carrier *shm)
{
    ASSERT(shm->peer != NULL && shm->peer_pool != NULL);
    if (!heads_right(shm)) {
        return err_new(ERR_PROTOCOL, "the peer's memory is of another shape");
    }
    if (!words_right(shm)) {
        return err_new(ERR_PROTOCOL, "the peer's memory is not as it was made");
    }
    for (uint32_t i = 0; i < shm->peer_shape.workers; i++) {
        for (uint32_t j = 0; j < shm->peer_shape.peer_workers; j++) {
            if (!lane_right(shm_ends_at(shm->peer, &shm->peer_shape, i, j))) {
                return err_new(ERR_PROTOCOL,
                               "the peer's lane from worker %u to %u is not one nobody has used", i,
                               j);
            }
        }
    }
    return ERR_OK;
}

bool shm_pair_valid(const struct shm_end *end, const struct shm_pair *pair)
{
    uint64_t lines = pair->mask + 1;
    uint64_t posted = shm_posted_lines(pair);
    bool own = pair->acked <= pair->published + posted && pair->published <= pair->tail &&
               pair->tail + posted + (uint32_t)pair->reserved - pair->acked < lines &&
               (pair->window.end == NULL || pair->published == pair->tail) &&
               pair->held_end - pair->held_first <= lines &&
               (pair->backlog == NULL) == (pair->backlog_last == NULL);
    size_t bytes = 0;
    for (uint64_t i = pair->held_first; own && i != pair->held_end; i++) {
        const struct shm_held *held = &pair->held[i & pair->mask];
        own = held->at <= held->last && held->last >= pair->acked && held->last < pair->tail &&
              held->span < end->pool->pool->arena_bytes;
        bytes += held->gone ? 0 : held->len;
    }
    /* Acquire: as in shm_take_acks. */
    uint64_t head = atomic_load_explicit(&pair->peer->head, memory_order_acquire);
    return own && bytes == pair->held_bytes &&
           head - pair->acked <= pair->published + posted - pair->acked;
}

bool shm_session_valid(const struct shm_carrier *shm)
{
    bool valid = heads_right(shm) && words_right(shm);
    for (uint32_t i = 0; i < shm->base.ends_len && valid; i++) {
        const struct shm_end *end = &shm->ends[i];
        size_t backlogs = 0;
        size_t refused = 0;
        for (uint32_t j = 0; j < (end->attached ? end->pairs_len : 0) && valid; j++) {
            valid = shm_pair_valid(end, &end->pairs[j]);
            backlogs += end->pairs[j].backlog != NULL ? 1 : 0;
            refused += end->pairs[j].refused ? 1 : 0;
        }
        valid = valid && (!end->attached || (end->backlogs == backlogs &&
                                             end->refused == refused &&
                                             shm_arena_valid(&end->pool->arena)));
    }
    return valid;
}
