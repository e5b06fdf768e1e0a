/*
 * One chunk for several subscribers. Those who follow a source's tail stand at the same place: the
 * first to be served has the backend make the chunk, which is built in the pool; the others get a
 * reference, and their cursors are moved on without being read (backend's skip). Worker loop.
 *
 * A source keeps at most one chunk, the newest, until everybody who stands at its lower has had it;
 * so who lags behind, or has no credit, asks the backend for himself and holds up nobody. Where the
 * pool is short, the chunks kept longest are let go: that costs work, never correctness, since
 * the backend can make every chunk again.
 *
 * Places. How many stand together is counted where they stand: a source with several subscriptions
 * has a struct place for each time at which one is, found by a hash of the time. So a chunk more,
 * and a subscription more, costs the same however many there are.
 *
 * Exactness: a chunk goes only to a subscription whose `at` is known and equals its lower, and
 * whose cursor agrees (skip says so), so chunks abut whoever made them.
 */
#include "ring/boundary/server_internal.h"

/* ---- places ---------------------------------------------------------------------------------- */

/* The last one has left: whoever comes there later finds the chunk gone, and asks. */
static void place_close(struct server_worker *w, struct source *source, struct place *place)
{
    ASSERT(place->subs == 0);
    void *was = u64map_remove(&source->places, place->at);
    ASSERT(was == place);
    if (source->chunk.kept && source->chunk.lower == place->at) {
        share_drop(w, source);
    }
    free(place);
}

static void place_enter(struct sub *sub)
{
    struct source *source = sub->source;
    ASSERT(source->tracked && sub->placed && sub->place == NULL);
    struct place *place = u64map_get(&source->places, sub->at);
    if (place == NULL) {
        place = MEM_NEW(struct place);
        place->at = sub->at;
        u64map_put(&source->places, sub->at, place);
    }
    place->subs++;
    sub->place = place;
}

void share_leave(struct sub *sub)
{
    struct place *place = sub->place;
    if (place == NULL) {
        return;
    }
    ASSERT(place->subs > 0 && place->at == sub->at);
    sub->place = NULL;
    if (--place->subs == 0) {
        place_close(sub->link->worker, sub->source, place);
    }
}

void share_move(struct sub *sub, bool placed, uint64_t at)
{
    ASSERT(sub->source->tracked && at >= sub->at);
    if (placed == sub->placed && at == sub->at) {
        return;
    }
    share_leave(sub);
    sub->placed = placed;
    sub->at = at;
    if (placed) {
        place_enter(sub);
    }
}

/* One alone needs none, and most sources have one; so the others are entered when the second
 * comes, and it stays so. */
void share_join(struct sub *sub)
{
    struct source *source = sub->source;
    ASSERT(sub->place == NULL && source->subs > 0);
    if (source->tracked) {
        if (sub->placed) {
            place_enter(sub);
        }
        return;
    }
    source->tracked = source->subs > 1;
    for (struct sub *s = source->first; source->tracked && s != NULL; s = s->source_next) {
        if (s->placed) {
            place_enter(s);
        }
    }
}

/* ---- the chunk ------------------------------------------------------------------------------- */

void share_drop(struct server_worker *w, struct source *source)
{
    struct shared_chunk *chunk = &source->chunk;
    if (!chunk->kept) {
        return;
    }
    for (struct channel *c = source->channels; c != NULL; c = c->following) {
        channel_flush(c);
    }
    if (chunk->block.data != NULL) {
        ASSERT(source->kept_prev != NULL || w->kept_first == source);
        ASSERT(source->kept_next != NULL || w->kept_last == source);
        shm_pool_release(w->server->pool, w->index, &chunk->block);
        *(source->kept_prev != NULL ? &source->kept_prev->kept_next : &w->kept_first) =
            source->kept_next;
        *(source->kept_next != NULL ? &source->kept_next->kept_prev : &w->kept_last) =
            source->kept_prev;
        source->kept_prev = source->kept_next = NULL;
    }
    *chunk = (struct shared_chunk){0};
}

/* To the end of the list: its head is what has been kept longest, and is let go first. */
static void keep(struct server_worker *w, struct source *source)
{
    ASSERT(source->kept_prev == NULL && source->kept_next == NULL && w->kept_first != source);
    source->kept_prev = w->kept_last;
    *(w->kept_last != NULL ? &w->kept_last->kept_next : &w->kept_first) = source;
    w->kept_last = source;
}

bool share_serve(struct sub *sub, uint64_t room)
{
    struct server_worker *w = sub->link->worker;
    const struct shared_chunk *chunk = &sub->source->chunk;
    const uint64_t upper = chunk->upper; /* the chunk may go below */
    if (!chunk->kept || !sub->placed || sub->at != chunk->lower || chunk->len > room ||
        !w->server->config.backend->skip(sub->cursor, chunk->lower, chunk->upper)) {
        return false;
    }
    channel_cast(sub->channel, sub->id);
    sub_sent(sub, chunk->len);
    w->sent_shared++;
    counters_add(sub->counters, SUB_SHARED, 1);
    share_place(sub, true, upper); /* this may have been the last: then it is sent now */
    return true;
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

/* Not what lies behind the chunk kept: this one lags, and those at the tail come first. */
static bool worth_sharing(const struct sub *sub, size_t len)
{
    const struct source *source = sub->source;
    return sub->place != NULL && sub->link->worker->server->config.backend->skip != NULL &&
           sub->place->subs > 1 && len <= SHM_POOL_BLOCK_MAX &&
           !(source->chunk.kept && sub->at < source->chunk.upper);
}

bool share_room(struct sub *sub, size_t len, struct carrier_block *out)
{
    if (!worth_sharing(sub, len)) {
        return false;
    }
    share_drop(sub->link->worker, sub->source);
    return reserve(sub->link->worker, len, out);
}

bool share_offer(struct sub *sub, const struct boundary_chunk *chunk, struct boundary_room *room,
                 size_t len)
{
    struct server_worker *w = sub->link->worker;
    struct source *source = sub->source;
    struct shared_chunk made = {.kept = true, .lower = chunk->lower, .upper = chunk->upper,
                                .ok_len = (uint32_t)chunk->ok_len, .len = (uint32_t)len};
    ASSERT(chunk->upper > chunk->lower); /* nobody could take over a part from another */
    if (room->pooled) {
        ASSERT(!source->chunk.kept); /* share_room saw to it */
        made.block = room->block;
        room->block = (struct carrier_block){0};
    } else if ((room->bytes != NULL && len > CARRIER_RUN_BYTES) || !worth_sharing(sub, len)) {
        return false;
    } else {
        share_drop(w, source);
        if (len > 0 && !reserve(w, len, &made.block)) {
            return false;
        }
        if (len > 0) {
            boundary_chunk_encode(chunk, made.block.data);
        }
    }
    ASSERT(sub->at == chunk->lower && sub->place->at == sub->at && sub->placed);
    source->chunk = made;
    source->shared = made.upper > source->shared ? made.upper : source->shared;
    if (len > 0) {
        keep(w, source);
    }
    channel_cast(sub->channel, sub->id);
    sub_sent(sub, len);
    return true;
}
