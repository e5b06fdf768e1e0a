/*
 * Small messages to one of the peer's workers: by themselves, or gathered and put into the ring as
 * runs. Worker loop.
 */
#include "ring/boundary/server_internal.h"

enum { RUN_WORTH = 4 }; /* fewer messages are published faster one by one */

void lane_post(struct lane *lane, struct carrier_message *m)
{
    const struct link *link = lane->link;
    ASSERT(m->len <= CARRIER_RUN_BYTES && link->lanes + lane->remote == lane);
    if (lane->brisk && carrier_post_room(lane->window, m->len)) {
        carrier_post(lane->window, m);
        return;
    }
    m->flags = (m->len == 0 ? CARRIER_URGENT : 0) | (lane->brisk ? CARRIER_NOW : 0);
    carrier_send(link->carrier, link->local, lane->remote, m); /* copies */
    lane->brisk = true;
}

/* One by one. */
static void flush_few(const struct gather *gather)
{
    for (uint32_t i = 0; i < gather->len; i++) {
        const struct carrier_small *s = &gather->messages[i];
        struct carrier_message m = {.kind = carrier_small_kind(s), .stream = s->stream, .c = s->c,
                                    .a = s->a, .b = s->b, .data = s->bytes, .len = s->len};
        ASSERT(s->len == gather->bytes);
        lane_post(gather->lane, &m);
    }
}

void gather_send(struct gather *gather)
{
    struct lane *lane = gather->lane;
    const struct link *link = lane->link;
    ASSERT(gather->len > 0 && gather->len <= CARRIER_RUN_MAX && link->gathers);
    if (gather->len < RUN_WORTH) {
        flush_few(gather);
    } else {
        lane->brisk = false;
        struct carrier_run run;
        for (uint32_t at = 0; at < gather->len; at += run.len) {
            carrier_run_begin(link->carrier, link->local, lane->remote, gather->len - at,
                              gather->bytes, &run);
            ASSERT(run.len > 0 && run.len <= gather->len - at);
            for (uint32_t i = 0; i < run.len; i++) {
                carrier_run_small(&run, i, &gather->messages[at + i]);
            }
            carrier_run_end(link->carrier, link->local, lane->remote, &run, run.len);
        }
    }
    gather->lane = NULL;
    gather->sub = NULL;
    gather->len = 0;
}

/* Not where chunks are shared, or DATA is for somebody else. None of this changes before something
 * is sent, or between polls; so what is gathered for a subscription is asked for once. */
bool gather_begin(struct gather *gather, const struct sub *sub, size_t bytes)
{
    const struct channel *channel = sub->channel;
    if (bytes > CARRIER_RUN_BYTES || sub->source->tracked || !sub->link->gathers ||
        channel->named.ids_len != 1 || channel->named.ids[0] != sub->id) {
        return false;
    }
    ASSERT(sub->place == NULL && channel->next.ids_len == 0);
    if (gather->lane != channel->lane || gather->bytes != bytes) {
        gather_flush(gather);
        gather->lane = channel->lane;
        gather->bytes = (uint32_t)bytes;
    }
    gather->sub = sub;
    gather->head = BOUNDARY_DATA | (uint64_t)channel->stream << 32;
    return true;
}
