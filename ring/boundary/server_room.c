/*
 * How a chunk's bytes come into the memory they are sent from. A backend that puts them together
 * does so there (boundary_room_take); one that has them lying somewhere points to them, and they
 * are copied, once. Worker loop.
 *
 * The memory is asked for when the length is known, which is before the chunk is: whether others
 * will have it as well is guessed from where the subscription stands. Guessed right, the block of
 * the pool becomes the source's chunk. Guessed wrong (it is a part of something, which nobody could
 * take over), it is sent to this one and let go.
 */
#include "ring/boundary/server_internal.h"

/* Everything of this subscription goes over its channel, in order: see server_channel.c on memory
 * why those of all channels go first. */
static void make_way(struct sub *sub)
{
    channels_flush(sub->link->worker);
    gather_flush(&sub->link->worker->gather);
    channel_name(sub->channel, sub->id);
}

/* More than goes into the ring itself. */
static void take_block(struct boundary_room *room)
{
    struct sub *sub = room->sub;
    struct link *link = sub->link;
    ASSERT(room->bytes == NULL && room->len > CARRIER_RUN_BYTES);
    if (room->len > FRAME_MESSAGE_MAX) {
        room->useless = mem_alloc(room->len); /* to be refused */
        room->bytes = room->useless;
    } else if (share_room(sub, room->len, &room->block)) {
        room->pooled = true;
        room->bytes = room->block.data;
    } else {
        make_way(sub);
        carrier_reserve(link->carrier, link->local, sub->channel->remote, room->len,
                        &room->block);
        room->bytes = room->block.data;
    }
}

static __attribute__((noinline)) uint8_t *take_else(struct boundary_room *room, size_t ok_len,
                                                    size_t err_len, uint8_t **err)
{
    const size_t err_at = boundary_err_at(ok_len);
    room->len = err_len > 0 ? err_at + err_len : ok_len;
    if (room->len <= CARRIER_RUN_BYTES) {
        room->bytes = room->small;
    } else {
        take_block(room);
    }
    if (err_len > 0) {
        ASSERT(err != NULL);
        memset(room->bytes + ok_len, 0, err_at - ok_len);
        *err = room->bytes + err_at;
    }
    return room->bytes;
}

uint8_t *boundary_room_take(struct boundary_room *room, size_t ok_len, size_t err_len,
                            uint8_t **err)
{
    ASSERT(room->bytes == NULL && ok_len + err_len > 0);
    if (err_len > 0 || ok_len > CARRIER_RUN_BYTES) {
        return take_else(room, ok_len, err_len, err);
    }
    room->len = ok_len;
    room->bytes = room->small; /* copied faster than memory is lent */
    return room->bytes;
}

/* The copy on this side, straight into the carrier's memory. */
static void send_copy(struct sub *sub, const struct boundary_chunk *chunk,
                      struct carrier_message *m, size_t len)
{
    const struct link *link = sub->link;
    const uint32_t remote = sub->channel->remote;
    if (chunk->err_len == 0) {
        m->data = chunk->ok;
        m->len = len;
        carrier_send(link->carrier, link->local, remote, m);
        return;
    }
    struct carrier_block block;
    carrier_reserve(link->carrier, link->local, remote, len, &block);
    boundary_chunk_encode(chunk, block.data);
    carrier_commit(link->carrier, link->local, remote, m, &block, len);
}

/* A chunk for this subscription alone. */
static void send_alone(struct sub *sub, const struct boundary_chunk *chunk,
                       struct boundary_room *room, size_t len)
{
    const struct link *link = sub->link;
    struct channel *channel = sub->channel;
    struct carrier_message m = {.kind = BOUNDARY_DATA, .stream = channel->stream,
                                .a = chunk->lower, .b = chunk->upper,
                                .c = (uint32_t)chunk->ok_len};
    ASSERT(chunk->lower <= chunk->upper && len <= FRAME_MESSAGE_MAX);
    channel->lane->brisk = false;
    if (room->bytes == NULL) {
        make_way(sub);
        send_copy(sub, chunk, &m, len);
    } else if (!room->pooled) { /* way was made when it was taken */
        carrier_commit(link->carrier, link->local, channel->remote, &m, &room->block, len);
    } else {
        make_way(sub);
        m.flags |= CARRIER_KEEP;
        carrier_share(link->carrier, link->local, channel->remote, &m, &room->block, len);
        shm_pool_release(link->worker->server->pool, link->worker->index, &room->block);
    }
    sub_sent(sub, len);
}

/* One that goes into the ring itself: no memory is at stake, so only its channel makes way. */
static inline void send_small(struct sub *sub, const struct boundary_chunk *chunk, size_t len)
{
    struct channel *channel = sub->channel;
    struct carrier_message m = {.kind = BOUNDARY_DATA, .stream = channel->stream,
                                .a = chunk->lower, .b = chunk->upper, .data = chunk->ok,
                                .c = (uint32_t)chunk->ok_len, .len = len};
    uint8_t both[CARRIER_RUN_BYTES];
    if (chunk->err_len > 0) {
        boundary_chunk_encode(chunk, both);
        m.data = both;
    }
    if (channel->next.ids_len > 0) {
        channel_flush(channel);
    }
    gather_flush(&sub->link->worker->gather);
    channel_name(channel, sub->id);
    lane_post(channel->lane, &m);
    sub_sent(sub, len);
}

void room_send(struct sub *sub, const struct boundary_chunk *chunk, struct boundary_room *room,
               size_t len)
{
    bool moves = chunk->upper > chunk->lower;
    ASSERT((moves || len > 0) && len <= FRAME_MESSAGE_MAX && sub->source != NULL);
    ASSERT(room->bytes == NULL || chunk->ok_len == 0 || chunk->ok == room->bytes);
    ASSERT(!room->pooled || len > CARRIER_RUN_BYTES);
    /* Who has no place shares with nobody. */
    if (!moves || sub->place == NULL || !share_offer(sub, chunk, room, len)) {
        if (len <= CARRIER_RUN_BYTES) {
            send_small(sub, chunk, len);
        } else {
            send_alone(sub, chunk, room, len);
        }
    }
    /* Amid a time that takes several chunks nobody else can go on from here. */
    share_place(sub, moves, chunk->upper);
}
