/*
 * One chunk for several subscribers. Those who follow a source's tail stand at the same place: the
 * first to be served has the backend make the chunk, which is built in the pool; the others get a
 * reference, and their cursors are moved on without being read (backend's skip). Worker loop.
 *
 * A source keeps at most one chunk, the newest, until everybody who stood at its lower has had it;
 * so who lags behind, or has no credit, asks the backend for himself and holds up nobody. Where the
 * pool is short, the chunks kept longest are let go: that costs work, never correctness, since
 * the backend can make every chunk again.
 *
 * Exactness: a chunk goes only to a subscription whose `at` is known and equals its lower, and
 * whose cursor agrees (skip says so), so chunks abut whoever made them.
 */
#include "ring/boundary/server_internal.h"

/* Is the chunk there, and exactly what this subscription must be sent next? */
static bool waits_for(const struct sub *sub, const struct shared_chunk *chunk)
{
    return chunk->block.data != NULL && sub->placed && sub->at == chunk->lower;
}

void share_drop(struct server_worker *w, struct source *source)
{
    if (source->chunk.block.data == NULL) {
        return;
    }
    ASSERT(source->kept_prev != NULL || w->kept_first == source);
    ASSERT(source->kept_next != NULL || w->kept_last == source);
    shm_pool_release(w->server->pool, w->index, &source->chunk.block);
    source->chunk = (struct shared_chunk){0};
    *(source->kept_prev != NULL ? &source->kept_prev->kept_next : &w->kept_first) =
        source->kept_next;
    *(source->kept_next != NULL ? &source->kept_next->kept_prev : &w->kept_last) =
        source->kept_prev;
    source->kept_prev = source->kept_next = NULL;
}

/* To the end of the list: its head is what has been kept longest, and is let go first. */
static void keep(struct server_worker *w, struct source *source)
{
    ASSERT(source->kept_prev == NULL && source->kept_next == NULL && w->kept_first != source);
    source->kept_prev = w->kept_last;
    *(w->kept_last != NULL ? &w->kept_last->kept_next : &w->kept_first) = source;
    w->kept_last = source;
}

void share_pass(struct sub *sub)
{
    struct shared_chunk *chunk = &sub->source->chunk;
    if (!waits_for(sub, chunk)) {
        return;
    }
    /* One that came to lower later was not counted. */
    if (chunk->expected > 0) {
        chunk->expected--;
    }
    if (chunk->expected == 0) {
        share_drop(sub->link->worker, sub->source);
    }
}

/* Sends a reference to the block: the carrier holds one of its own until the peer has read it. */
static void send(struct sub *sub, const struct shared_chunk *chunk)
{
    struct link *link = sub->link;
    ASSERT(chunk->block.data != NULL && sub->at == chunk->lower);
    ASSERT(chunk->len > 0 && chunk->ok_len <= chunk->len && chunk->lower < chunk->upper);
    struct carrier_message m = {.kind = BOUNDARY_DATA, .stream = sub->stream, .a = chunk->lower,
                                .b = chunk->upper, .c = chunk->ok_len};
    carrier_share(link->carrier, link->local, sub->remote, &m, &chunk->block, chunk->len);
    sub_sent(sub, chunk->len, chunk->upper);
}

bool share_serve(struct sub *sub, uint64_t room)
{
    struct server_worker *w = sub->link->worker;
    const struct shared_chunk chunk = sub->source->chunk; /* a copy: share_pass may clear it */
    if (!waits_for(sub, &chunk) || chunk.len > room ||
        !w->server->config.backend->skip(sub->cursor, chunk.lower, chunk.upper)) {
        return false;
    }
    send(sub, &chunk);
    server_metric_add(w->shared, 1);
    counters_add(sub->counters, SUB_SHARED, 1);
    share_pass(sub); /* this may have been the last: the reference now keeps the block */
    sub->at = chunk.upper;
    return true;
}

/* How many others stand where this chunk begins. Looks at every subscription of the source, once
 * per chunk made: little beside making it. */
static uint32_t others_at(const struct sub *sub, uint64_t lower)
{
    uint32_t n = 0;
    for (const struct sub *s = sub->source->first; s != NULL; s = s->source_next) {
        n += s != sub && s->placed && s->at == lower;
    }
    return n;
}

/* Each turn lets go of one chunk kept, so this ends. */
static bool reserve(struct server_worker *w, size_t len, struct carrier_block *block)
{
    while (!shm_pool_reserve(w->server->pool, w->index, len, block)) {
        if (w->kept_first == NULL) {
            return false;
        }
        share_drop(w, w->kept_first);
    }
    return true;
}

bool share_offer(struct sub *sub, const struct boundary_chunk *chunk, size_t len)
{
    struct server_worker *w = sub->link->worker;
    struct source *source = sub->source;
    /* Not a chunk of parts (upper == lower): nobody could take it over from another. Not one that
     * lies behind the chunk kept: this one lags, and those at the tail come first. */
    if (w->server->config.backend->skip == NULL || source->subs < 2 || len == 0 ||
        len > SHM_POOL_BLOCK_MAX || chunk->upper == chunk->lower || !sub->placed ||
        (source->chunk.block.data != NULL && chunk->lower < source->chunk.upper)) {
        return false;
    }
    uint32_t others = others_at(sub, chunk->lower);
    if (others == 0) {
        return false;
    }
    share_drop(w, source);
    struct shared_chunk made = {.lower = chunk->lower, .upper = chunk->upper,
                                .ok_len = (uint32_t)chunk->ok_len, .len = (uint32_t)len,
                                .expected = others};
    if (!reserve(w, len, &made.block)) {
        return false;
    }
    ASSERT(sub->at == chunk->lower);
    boundary_chunk_encode(chunk, made.block.data);
    source->chunk = made;
    keep(w, source);
    send(sub, &made);
    sub->at = made.upper;
    return true;
}
