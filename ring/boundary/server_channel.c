/*
 * Channels: what one storage worker sends the subscriptions of a source that one compute worker
 * has. Several that are due the same chunk get one message: they are gathered while turns are
 * served (channel_cast), and sent when the chunk goes, when something else is to be sent on the
 * channel, or when nobody is queued, or some polls later, whichever comes first (channel_flush).
 * So thousands who follow a source, which are more than a poll serves, are named once. Worker loop.
 *
 * Order: everything of a subscription goes over its channel, hence over one stream of the carrier,
 * in the order in which its cursor moved. So whoever sends something flushes first.
 *
 * Naming readers costs a message only when they are others than those named last. Those who follow
 * a source in step are served in the same order each time, so it costs a comparison.
 */
#include "ring/boundary/server_internal.h"

/* ---- readers --------------------------------------------------------------------------------- */

static bool same_readers(const struct readers *a, const struct readers *b)
{
    return a->ids_len == b->ids_len &&
           memcmp(a->ids, b->ids, a->ids_len * sizeof(a->ids[0])) == 0;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    ASSERT(x != y || a == b); /* nobody is served twice with one chunk */
    return x < y ? -1 : x > y;
}

/* Where they begin again, if they ascend from there on and around; 0: they ascend, or do not. */
static size_t turned_at(const struct readers *r, bool *ascend)
{
    size_t at = 0;
    *ascend = true;
    for (size_t i = 1; i < r->ids_len && *ascend; i++) {
        if (r->ids[i - 1] >= r->ids[i]) {
            *ascend = at == 0;
            at = i;
        }
    }
    *ascend &= at == 0 || r->ids[r->ids_len - 1] < r->ids[0];
    return *ascend ? at : 0;
}

static void reverse(uint32_t *ids, size_t len)
{
    for (size_t i = 0; i < len / 2; i++) {
        uint32_t id = ids[i];
        ids[i] = ids[len - 1 - i];
        ids[len - 1 - i] = id;
    }
}

/* They are served in the order in which they came, but it may be anybody's turn first. */
static void sort_readers(struct readers *r)
{
    bool ascend;
    size_t at = turned_at(r, &ascend);
    if (!ascend) {
        qsort(r->ids, r->ids_len, sizeof(r->ids[0]), by_number);
    } else if (at > 0) {
        reverse(r->ids, at);
        reverse(r->ids + at, r->ids_len - at);
        reverse(r->ids, r->ids_len);
    }
}

/* Tells the peer whom DATA is for, unless it knows: those in next, which is empty then. */
static void name_readers(struct channel *channel)
{
    struct link *link = channel->link;
    struct readers *next = &channel->next;
    ASSERT(next->ids_len <= channel->subs);
    sort_readers(next);
    if (!same_readers(&channel->named, next)) {
        struct buf list = {0};
        boundary_readers_encode(&list, next->ids, next->ids_len);
        struct carrier_message m = {.kind = BOUNDARY_READERS, .flags = CARRIER_URGENT,
                                    .stream = channel->stream, .data = list.data,
                                    .len = list.len};
        gather_flush(&link->worker->gather);
        carrier_send(link->carrier, link->local, channel->remote, &m); /* copies */
        buf_free(&list);
        struct readers was = channel->named;
        channel->named = *next;
        *next = was;
    }
    next->ids_len = 0;
}

void channel_name_one(struct channel *channel, uint32_t id)
{
    ASSERT(channel->next.ids_len == 0);
    *VEC_PUSH(&channel->next, ids) = id;
    name_readers(channel);
}

/* ---- one message for several ----------------------------------------------------------------- */

void channel_cast(struct channel *channel, uint32_t id)
{
    struct server_worker *w = channel->link->worker;
    ASSERT(channel->source->chunk.kept && channel->next.ids_len < channel->subs);
    *VEC_PUSH(&channel->next, ids) = id;
    if (!channel->casting) {
        channel->casting = true;
        channel->cast_next = w->casts;
        w->casts = channel;
    }
}

void channel_flush(struct channel *channel)
{
    const struct shared_chunk *chunk = &channel->source->chunk;
    struct link *link = channel->link;
    if (channel->next.ids_len == 0) {
        return;
    }
    ASSERT(chunk->kept && chunk->lower < chunk->upper && chunk->ok_len <= chunk->len);
    name_readers(channel);
    struct carrier_message m = {.kind = BOUNDARY_DATA, .stream = channel->stream,
                                .a = chunk->lower, .b = chunk->upper, .c = chunk->ok_len};
    m.data = chunk->block.data;
    m.len = chunk->len;
    gather_flush(&link->worker->gather);
    if (chunk->len <= CARRIER_RUN_BYTES) {
        lane_post(channel->lane, &m);
        return;
    }
    channel->lane->brisk = false;
    if (carrier_ready(link->carrier, link->local, channel->remote)) {
        /* The carrier holds a reference of its own until the peer has read it. */
        carrier_share(link->carrier, link->local, channel->remote, &m, &chunk->block,
                      chunk->len);
    } else {
        /* What was sent since the turns found room is waiting for some: a reference behind it
         * would keep the very memory it may be waiting for. */
        carrier_send(link->carrier, link->local, channel->remote, &m); /* copies */
    }
}

void channels_send(struct server_worker *w)
{
    while (w->casts != NULL) {
        struct channel *channel = w->casts;
        ASSERT(channel->casting && channel->link->worker == w);
        w->casts = channel->cast_next;
        channel->cast_next = NULL;
        channel->casting = false;
        channel_flush(channel);
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

/* A number that no other channel of the link has. */
static void number(struct channel *channel)
{
    struct link *link = channel->link;
    do {
        channel->stream = ++link->last_stream;
    } while (channel->stream == BOUNDARY_NO_CHANNEL ||
             u64map_get(&link->channels, channel->stream) != NULL);
    void *was = u64map_put(&link->channels, channel->stream, channel);
    ASSERT(was == NULL);
}

/* A source has as many channels as compute workers that read it: few enough to look through. */
struct channel *channel_join(struct link *link, uint32_t remote, struct source *source)
{
    struct channel *channel = source->channels;
    while (channel != NULL && (channel->link != link || channel->remote != remote)) {
        channel = channel->following;
    }
    if (channel == NULL) {
        channel = MEM_NEW(struct channel);
        *channel = (struct channel){.link = link, .source = source, .remote = remote,
                                    .lane = &link->lanes[remote],
                                    .following = source->channels};
        if (source->channels != NULL) {
            source->channels->prev = channel;
        }
        source->channels = channel;
        number(channel);
    }
    ASSERT(channel->source == source && channel->link->worker == link->worker);
    channel->subs++;
    return channel;
}

/* Out of the worker's list, which has few. */
static void uncast(struct channel *channel)
{
    struct channel **at = &channel->link->worker->casts;
    while (*at != channel) {
        ASSERT(*at != NULL);
        at = &(*at)->cast_next;
    }
    *at = channel->cast_next;
    channel->casting = false;
}

void channel_void(struct channel *channel)
{
    channel->next.ids_len = 0;
}

void channel_leave(struct channel *channel, bool tell)
{
    ASSERT(channel->subs > 0 && channel->next.ids_len == 0);
    if (--channel->subs > 0) {
        return;
    }
    if (tell && channel->named.ids_len > 0) {
        name_readers(channel); /* nobody */
    }
    if (channel->casting) {
        uncast(channel);
    }
    void *was = u64map_remove(&channel->link->channels, channel->stream);
    ASSERT(was == channel);
    *(channel->prev != NULL ? &channel->prev->following : &channel->source->channels) =
        channel->following;
    if (channel->following != NULL) {
        channel->following->prev = channel->prev;
    }
    free(channel->named.ids);
    free(channel->next.ids);
    free(channel);
}
