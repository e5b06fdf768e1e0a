/*
 * The simulated network. A stream end holds what the application queued (out) and what is on its
 * way to it (in, with the time each part arrives). Sending moves bytes from out to the peer's in,
 * as far as the window allows; receiving delivers what has arrived, in pieces of any size. An end
 * of the stream (in order, or an error) arrives behind the last byte; errors may lose the last
 * bytes, from any byte on.
 *
 * A connection, with the events that make it:
 *
 *     client                          network                     server
 *     sim_connect
 *       dial_event (SIM_DIAL)   ->    dial_run finds the listener
 *                                     dial_meet makes the peer ->  dial_event (SIM_ACCEPT)
 *       dial_event (SIM_CONNECTED) <-                              accept_run: accepted()
 *     connected_run: connected()
 *
 * The two ends know each other from dial_meet on: either may send before the other was told, as
 * with TCP, and what is sent waits in the other's in. peer is NULL at both ends at once: nothing is
 * ever sent to an end that has gone.
 *
 * What TCP promises holds (order, no duplicates, nothing after the end); what it does not promise
 * is random: how bytes are cut into deliveries, how much is under way, when a dead peer is noticed.
 *
 * Bounds: in is at most window bytes, chosen per stream; out is what the user queued, which is what
 * the real implementation holds as well.
 */
#include "core/io/sim/sim_internal.h"

#include <errno.h>
#include <stdio.h>

/* A write that waits to be sent; the bytes are borrowed until release. */
struct segment {
    struct segment *next;
    const uint8_t *data; /* what is left of it */
    size_t len;
    void (*release)(void *arg); /* NULL: nobody asks */
    void *arg;
};

/* len bytes of in, behind those of the arrivals before, may be delivered from time on. */
struct arrival {
    uint64_t time; /* virtual */
    size_t len;
};

/* A port of a host. Owned by the loop that listens. */
struct sim_listener {
    struct io_listener base;
    struct sim_object object;
    struct sim_loop *loop;
    struct sim_listener *next; /* of the host */
    uint16_t port;
    bool local; /* bound to the loopback address: reached from its own host only */
    char address[160];
    io_accept_fn accepted;
    void *arg;
    struct sim_link pending; /* struct sim_stream.waiting: accepted() has not run yet */
};

/*
 * One end of a connection. Owned by its loop; the other end, of another process perhaps, reaches it
 * through peer only. Fields of an end are changed by its own events and by those of the peer, which
 * all run in the one thread.
 */
struct sim_stream {
    struct io_stream base;
    struct sim_object object;
    struct sim_link all; /* of the sim, in order of creation: see sim_net_cut */
    struct sim_loop *loop;
    struct sim_stream *peer; /* NULL: not connected, or the connection is no more */
    struct sim_listener *listener; /* while waiting to be accepted */
    struct sim_link waiting; /* in listener->pending */
    char target_host[128]; /* client: where the request goes */
    uint16_t target_port;
    char peer_text[160];
    io_connect_fn connected_fn; /* client; may be NULL */

    bool connected; /* the owner was told, or is being told */
    bool paused; /* by the owner: nothing is delivered */
    bool finishing; /* closed with flush: sends what is queued, then ends */
    bool closed; /* shut: nothing happens to it any more */
    bool above; /* pending passed high_water: drain is owed */
    struct sim_event dial_event; /* dial, then connected; on the other side accept */
    struct sim_event send_event; /* bytes go onto the wire */
    struct sim_event recv_event; /* bytes, or the end, are delivered */

    struct segment *out_first; /* oldest; NULL: nothing queued */
    struct segment *out_last;
    size_t pending; /* bytes of all segments */

    struct buf in; /* on the wire to us, in order */
    size_t window; /* most bytes of in */
    struct arrival *arrivals; /* oldest first; their lengths add up to in.len */
    size_t arrivals_len;
    size_t arrivals_cap;

    bool ending; /* the end is on its way */
    uint64_t end_time; /* not before the last arrival */
    err_t end_reason; /* ERR_OK: in order */
};

/* base is the first member. */
static struct sim_stream *stream_of(struct io_stream *s)
{
    return (struct sim_stream *)s;
}

/* Where its process runs. */
static struct sim_host *host_of(const struct sim_stream *s)
{
    return s->loop->process->host;
}

/* One way; within a host it is short. */
static uint64_t delay(struct sim *sim, const struct sim_host *a, const struct sim_host *b)
{
    return a == b ? sim_between(sim, 5, 50)
                  : sim_between(sim, sim->config.delay_min_us, sim->config.delay_max_us);
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Sets when there is next something to deliver: bytes, or the end. */
static void recv_schedule(struct sim_stream *s)
{
    struct sim *sim = s->loop->sim;
    /* A client whose request failed learns of it, though it was never connected. */
    bool refused = !s->connected && s->ending && s->peer == NULL && s->dial_event.heap_at == 0;
    if (s->closed || s->paused || io_loop_dead(s->base.loop) || (!s->connected && !refused) ||
        (s->in.len == 0 && !s->ending)) {
        sim_event_clear(sim, &s->recv_event);
        return;
    }
    ASSERT(s->in.len == 0 || s->arrivals_len > 0);
    /* At least a microsecond from now: deliveries of one stream never share a moment. */
    uint64_t time = s->in.len > 0 ? s->arrivals[0].time : s->end_time;
    sim_event_set_at(sim, &s->recv_event, time > sim->now ? time : sim->now + 1);
}

/* Later bytes do not overtake earlier ones. */
static uint64_t last_arrival(const struct sim_stream *s)
{
    return s->arrivals_len > 0 ? s->arrivals[s->arrivals_len - 1].time : 0;
}

/* Bytes that have arrived by now. */
static size_t arrived(const struct sim_stream *s)
{
    size_t len = 0;
    for (size_t i = 0; i < s->arrivals_len && s->arrivals[i].time <= s->loop->sim->now; i++) {
        len += s->arrivals[i].len;
    }
    return len;
}

/* Forgets the arrivals of bytes that were delivered. */
static void arrivals_take(struct sim_stream *s, size_t len)
{
    size_t gone = 0; /* arrivals that are used up */
    while (len > 0) {
        ASSERT(gone < s->arrivals_len);
        size_t part = len < s->arrivals[gone].len ? len : s->arrivals[gone].len;
        s->arrivals[gone].len -= part;
        len -= part;
        gone += s->arrivals[gone].len == 0 ? 1 : 0;
    }
    memmove(s->arrivals, s->arrivals + gone, (s->arrivals_len - gone) * sizeof(s->arrivals[0]));
    s->arrivals_len -= gone;
}

/* Loses the last bytes on their way, from a random byte on. */
static void in_truncate(struct sim_stream *s)
{
    size_t keep = (size_t)sim_between(s->loop->sim, 0, s->in.len);
    s->in.len = keep;
    for (size_t i = 0; i < s->arrivals_len; i++) {
        if (s->arrivals[i].len >= keep) {
            s->arrivals[i].len = keep;
            s->arrivals_len = keep > 0 ? i + 1 : i;
            return;
        }
        keep -= s->arrivals[i].len;
    }
    ASSERT(keep == 0);
}

/* The end of the stream goes on its way to s; error 0: in order, behind all bytes. */
static void end_send(struct sim_stream *s, int error, uint64_t after)
{
    ASSERT(error >= 0);
    if (s->closed || s->ending) {
        return; /* the first end is the one */
    }
    struct sim *sim = s->loop->sim;
    s->ending = true;
    s->end_time = sim->now + after;
    if (error != 0) {
        in_truncate(s);
        s->end_reason = err_errno(error, "connection to %s", s->peer_text);
    }
    if (s->end_time < last_arrival(s)) {
        s->end_time = last_arrival(s);
    }
    recv_schedule(s);
}

static void stream_over(struct sim_stream *s);

/*
 * How many of the bytes there are the next delivery brings. Half of the time all of them; sometimes
 * some; sometimes a few only, which finds decoders that believe a message comes whole.
 */
static size_t piece(struct sim *sim, size_t available)
{
    ASSERT(available > 0);
    uint64_t dice = sim_between(sim, 0, 9);
    if (dice < 5) {
        return available;
    }
    size_t most = dice < 8 || available < 16 ? available : 16;
    return (size_t)sim_between(sim, 1, most);
}

/* Delivers some bytes, or the end. */
static void recv_run(struct sim_event *event)
{
    struct sim_stream *s = CONTAINER_OF(event, struct sim_stream, recv_event);
    ASSERT(!s->closed && !s->paused);
    struct sim *sim = s->loop->sim;
    size_t available = arrived(s);
    if (available == 0) {
        ASSERT(s->in.len == 0 && s->ending);
        stream_over(s);
        return;
    }
    size_t len = piece(sim, available);
    /* A block of its own, so that reading past its end is seen by the address sanitizer. */
    uint8_t *data = mem_alloc(len);
    memcpy(data, s->in.data, len);
    buf_consume(&s->in, len);
    arrivals_take(s, len);
    sim_trace_bytes(sim, data, len);
    recv_schedule(s);
    /* There is room in our window now: the news of it travels to the peer as a TCP ack would. */
    if (s->peer != NULL && s->peer->pending > 0 && s->peer->send_event.heap_at == 0) {
        sim_event_set(sim, &s->peer->send_event, delay(sim, host_of(s), host_of(s->peer)));
    }
    /* Last: the handler may close the stream, or kill the process. s stays until sim_reap. */
    if (!s->finishing && s->base.handler != NULL && s->base.handler->data != NULL) {
        s->base.handler->data(s->base.arg, data, len, NULL, 0);
    }
    free(data);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Gives borrowed bytes back. */
static void segment_free(struct segment *segment)
{
    if (segment->release != NULL) {
        segment->release(segment->arg);
    }
    free(segment);
}

/* Gives everything back that was not sent. */
static void out_drop(struct sim_stream *s)
{
    ASSERT(s->closed);
    while (s->out_first != NULL) {
        struct segment *segment = s->out_first;
        s->out_first = segment->next;
        segment_free(segment);
    }
    s->out_last = NULL;
    s->pending = 0;
}

/* A moment later, so that several small writes may go together. */
static void send_schedule(struct sim_stream *s)
{
    if (s->connected && s->send_event.heap_at == 0 && !s->closed) {
        sim_event_set(s->loop->sim, &s->send_event, sim_between(s->loop->sim, 1, 5));
    }
}

/* Moves the first len queued bytes onto the wire. Release callbacks may close the stream. */
static void wire_move(struct sim_stream *s, size_t len)
{
    ASSERT(len > 0 && len <= s->pending && s->peer != NULL);
    struct sim *sim = s->loop->sim;
    struct sim_stream *peer = s->peer;
    struct arrival arrival = {sim->now + delay(sim, host_of(s), host_of(peer)), len};
    if (arrival.time < last_arrival(peer)) {
        arrival.time = last_arrival(peer);
    }
    *VEC_PUSH(peer, arrivals) = arrival;
    /* Users' callbacks run when both queues are right again, hence the list of what was sent. */
    s->pending -= len;
    struct segment *done = NULL;
    struct segment **done_end = &done;
    while (len > 0) {
        struct segment *segment = s->out_first;
        size_t part = len < segment->len ? len : segment->len;
        buf_append(&peer->in, segment->data, part);
        segment->data += part;
        segment->len -= part;
        len -= part;
        if (segment->len == 0) {
            s->out_first = segment->next;
            s->out_last = s->out_first == NULL ? NULL : s->out_last;
            segment->next = NULL;
            *done_end = segment;
            done_end = &segment->next;
        }
    }
    recv_schedule(peer);
    while (done != NULL) {
        struct segment *segment = done;
        done = segment->next;
        segment_free(segment);
    }
}

/* Sends what the peer's window has room for. */
static void send_run(struct sim_event *event)
{
    struct sim_stream *s = CONTAINER_OF(event, struct sim_stream, send_event);
    ASSERT(s->connected && !s->closed);
    struct sim *sim = s->loop->sim;
    if (s->peer == NULL) {
        return; /* the end is on its way to us */
    }
    size_t room = s->peer->window > s->peer->in.len ? s->peer->window - s->peer->in.len : 0;
    size_t len = s->pending < room ? s->pending : room;
    /* A kernel takes less than it is offered now and then. */
    if (len > 1 && sim_chance(sim, 20)) {
        len = (size_t)sim_between(sim, 1, len);
    }
    if (len > 0) {
        wire_move(s, len);
    }
    if (s->closed || io_loop_dead(s->base.loop)) {
        return; /* a release callback did it */
    }
    if (s->pending > 0) {
        if (len < room) {
            send_schedule(s);
        }
        return; /* no room: the peer's receiving goes on with it */
    }
    if (s->finishing) {
        stream_over(s);
        return;
    }
    if (s->above) {
        s->above = false;
        if (s->base.handler != NULL && s->base.handler->drain != NULL) {
            s->base.handler->drain(s->base.arg);
        }
    }
}

/* ---- streams --------------------------------------------------------------------------------- */

/* Parts from the peer, who learns of it after a delay. */
static void detach(struct sim_stream *s, int error)
{
    struct sim_stream *peer = s->peer;
    if (peer != NULL) {
        s->peer = NULL;
        peer->peer = NULL;
        end_send(peer, error, delay(s->loop->sim, host_of(s), host_of(peer)));
    }
}

/* Closed by its owner, by itself, or with its process. */
static void stream_shut(struct sim_object *object)
{
    struct sim_stream *s = CONTAINER_OF(object, struct sim_stream, object);
    struct sim *sim = s->loop->sim;
    s->closed = true;
    /*
     * As the kernel has it: unread bytes make it a reset; so may the death of a process. The peer
     * loses bytes by a reset that it would have got before an orderly end.
     */
    bool reset = !s->finishing && (arrived(s) > 0 || (io_loop_dead(s->base.loop) &&
                                                      sim_chance(sim, 50)));
    ASSERT(s->arrivals_len > 0 || s->in.len == 0);
    detach(s, reset ? ECONNRESET : 0);
    sim_event_clear(sim, &s->dial_event);
    sim_event_clear(sim, &s->send_event);
    sim_event_clear(sim, &s->recv_event);
    sim_link_remove(&s->all);
    if (s->listener != NULL) {
        sim_link_remove(&s->waiting);
        s->listener = NULL;
    }
    out_drop(s);
}

static void stream_free(struct sim_object *object)
{
    ASSERT(object->shut_done);
    struct sim_stream *s = CONTAINER_OF(object, struct sim_stream, object);
    ASSERT(s->out_first == NULL && s->peer == NULL && s->recv_event.heap_at == 0);
    err_free(s->end_reason);
    buf_free(&s->in);
    free(s->arrivals);
    free(s);
}

/* The stream has ended by itself: closed in order, failed, or finished sending. */
static void stream_over(struct sim_stream *s)
{
    ASSERT(!s->closed);
    err_t reason = s->end_reason;
    s->end_reason = ERR_OK;
    /* Shut before close is told: the handler may connect again, or free what it has. */
    sim_object_shut(&s->object);
    if (!s->finishing && s->base.handler != NULL && s->base.handler->close != NULL) {
        s->base.handler->close(s->base.arg, reason);
    } else {
        err_free(reason);
    }
    sim_object_discard(s->loop, &s->object);
}

/* On a stream that sends no more the bytes are given back at once. */
static void stream_write_ref(struct io_stream *base, const void *data, size_t len,
                             void (*release)(void *), void *arg)
{
    ASSERT(data != NULL && len > 0);
    struct sim_stream *s = stream_of(base);
    if (s->closed || s->finishing || io_loop_dead(base->loop)) {
        if (release != NULL) {
            release(arg);
        }
        return;
    }
    struct segment *segment = MEM_NEW(struct segment);
    segment->data = data;
    segment->len = len;
    segment->release = release; /* runs when the bytes are on the wire, or never will be */
    segment->arg = arg;
    if (s->out_last == NULL) {
        s->out_first = segment;
    } else {
        s->out_last->next = segment;
    }
    s->out_last = segment;
    s->pending += len;
    s->above |= s->pending > base->high_water;
    send_schedule(s);
}

/* Needs a Unix socket, which address_parse has refused. */
static void stream_write_fds(struct io_stream *base, const void *data, size_t len, const int *fds,
                             size_t fds_len)
{
    UNREACHABLE(); /* there are no Unix sockets here */
}

/* Not counted: what is on the wire. The real one cannot see that either. */
static size_t stream_pending(const struct io_stream *base)
{
    return ((const struct sim_stream *)base)->pending;
}

/* Bytes stay on the wire, and its window fills. */
static void stream_pause(struct io_stream *base, bool paused)
{
    struct sim_stream *s = stream_of(base);
    if (s->closed || s->finishing || io_loop_dead(base->loop)) {
        return;
    }
    s->paused = paused;
    recv_schedule(s);
}

/* From the owner: at once, or after what is queued was sent. */
static void stream_close(struct io_stream *base, bool flush)
{
    struct sim_stream *s = stream_of(base);
    if (s->closed) {
        return;
    }
    if (!flush || s->ending || io_loop_dead(base->loop)) {
        sim_object_discard(s->loop, &s->object);
        return;
    }
    s->finishing = true;
    s->paused = false;
    recv_schedule(s);
    send_schedule(s);
}

static const char *stream_peer(const struct io_stream *base)
{
    return ((const struct sim_stream *)base)->peer_text;
}

/* tls.c lays its own over this. */
static const char *stream_peer_name(const struct io_stream *base)
{
    return "";
}

static err_t stream_peer_cred(const struct io_stream *base, pid_t *pid, uid_t *uid)
{
    return err_new(ERR_UNSUPPORTED, "the kernel vouches for peers of Unix sockets only");
}

static const struct io_stream_ops stream_ops = {
    .write_ref = stream_write_ref,
    .write_fds = stream_write_fds,
    .pending = stream_pending,
    .pause = stream_pause,
    .close = stream_close,
    .peer = stream_peer,
    .peer_name = stream_peer_name,
    .peer_cred = stream_peer_cred,
};

/* Windows differ, so that back-pressure comes early in some runs. */
static struct sim_stream *stream_new(struct sim_loop *loop)
{
    ASSERT(!io_loop_dead(&loop->base));
    static const size_t windows[] = {4 * 1024, 64 * 1024, 256 * 1024};
    struct sim_stream *s = MEM_NEW(struct sim_stream);
    s->base.ops = &stream_ops;
    s->base.loop = &loop->base;
    s->base.high_water = IO_STREAM_HIGH_WATER;
    s->loop = loop;
    s->window = windows[sim_between(loop->sim, 0, ARRAY_LEN(windows) - 1)];
    s->send_event = (struct sim_event){.loop = loop, .kind = SIM_SEND, .run = send_run};
    s->recv_event = (struct sim_event){.loop = loop, .kind = SIM_RECEIVE, .run = recv_run};
    sim_link_add(&loop->sim->streams, &s->all);
    sim_object_add(loop, &s->object, stream_shut, stream_free);
    return s;
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* host: what stands before the last colon, without brackets; own is set for the own host. */
static err_t address_parse(const char *text, char *host, size_t cap, uint16_t *port, bool *own)
{
    ASSERT(text != NULL && cap > 0);
    if (strncmp(text, "unix", 4) == 0 && strchr(text, '/') != NULL) {
        return err_new(ERR_UNSUPPORTED, "the simulator has no Unix sockets (%s)", text);
    }
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    unsigned long number = colon != NULL ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == NULL || end == colon + 1 || *end != '\0' || number > 65535) {
        return err_new(ERR_INVALID, "address \"%s\" is not of the form host:port", text);
    }
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= cap) {
        return err_new(ERR_INVALID, "the host name in \"%s\" is too long", text);
    }
    memcpy(host, text, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    static const char *const names[] = {"", "*", "127.0.0.1", "localhost", "0.0.0.0", "::", "::1"};
    *own = false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        *own |= strcmp(host, names[i]) == 0;
    }
    return ERR_OK;
}

/* Who listens on the port, on whatever address. */
static struct sim_listener *listener_find(struct sim_host *host, uint16_t port)
{
    struct sim_listener *listener = host->listeners;
    while (listener != NULL && listener->port != port) {
        listener = listener->next;
    }
    return listener;
}

/* The answer has reached us. */
static void connected_run(struct sim_event *event)
{
    struct sim_stream *s = CONTAINER_OF(event, struct sim_stream, dial_event);
    ASSERT(!s->closed && !s->connected);
    s->connected = true;
    recv_schedule(s);
    if (s->pending > 0 || s->finishing) {
        send_schedule(s);
    }
    if (!s->finishing && s->connected_fn != NULL) {
        s->connected_fn(s->base.arg, &s->base);
    }
}

/* The owner of the listener takes the stream. */
static void accept_run(struct sim_event *event)
{
    struct sim_stream *s = CONTAINER_OF(event, struct sim_stream, dial_event);
    ASSERT(!s->closed && s->listener != NULL);
    struct sim_listener *listener = s->listener;
    sim_link_remove(&s->waiting);
    s->listener = NULL;
    s->connected = true;
    recv_schedule(s);
    listener->accepted(listener->arg, &s->base);
}

/* The refusal takes its time to travel back. */
static void dial_refuse(struct sim_stream *s, int error, uint64_t after)
{
    ASSERT(error > 0);
    end_send(s, error, after);
}

/* Makes the other end; each side is told on its own loop. */
static void dial_meet(struct sim_stream *s, struct sim_listener *listener)
{
    ASSERT(s->peer == NULL);
    struct sim *sim = s->loop->sim;
    struct sim_host *here = host_of(s);
    struct sim_stream *server = stream_new(listener->loop);
    server->peer = s;
    s->peer = server;
    snprintf(server->peer_text, sizeof(server->peer_text), "%s:%u", here->name,
             (unsigned)here->next_port++);
    server->listener = listener;
    sim_link_add(&listener->pending, &server->waiting);
    server->dial_event =
        (struct sim_event){.loop = listener->loop, .kind = SIM_ACCEPT, .run = accept_run};
    sim_event_set(sim, &server->dial_event, sim_between(sim, 0, 20));
    s->dial_event = (struct sim_event){.loop = s->loop, .kind = SIM_CONNECTED,
                                       .run = connected_run};
    sim_event_set(sim, &s->dial_event, delay(sim, here, host_of(server)));
}

/* The request reaches the other host. */
static void dial_run(struct sim_event *event)
{
    struct sim_stream *s = CONTAINER_OF(event, struct sim_stream, dial_event);
    ASSERT(!s->closed && s->peer == NULL);
    struct sim *sim = s->loop->sim;
    struct sim_host *here = host_of(s);
    struct sim_host *there = sim_host_find(sim, s->target_host);
    uint64_t back = there == NULL ? 0 : delay(sim, here, there);
    if (there == NULL) {
        dial_refuse(s, EHOSTUNREACH, sim_between(sim, 1000, 100 * 1000));
    } else if (sim_partitioned(sim, here->name, there->name)) {
        dial_refuse(s, EHOSTUNREACH, sim_between(sim, 1000, 1000 * 1000));
    } else {
        struct sim_listener *listener = listener_find(there, s->target_port);
        if (listener == NULL || (listener->local && here != there)) {
            dial_refuse(s, ECONNREFUSED, back);
        } else {
            dial_meet(s, listener);
        }
    }
}

/* Whether anybody listens turns out when the request arrives there. */
err_t sim_connect(struct io_loop *base, const char *address,
                  const struct io_stream_handler *handler, void *arg, io_connect_fn connected,
                  struct io_stream **out)
{
    ASSERT(address != NULL);
    *out = NULL;
    struct sim_loop *loop = sim_loop_of(base);
    char host[128];
    uint16_t port;
    bool own;
    TRY(address_parse(address, host, sizeof(host), &port, &own));
    struct sim_stream *s = stream_new(loop);
    s->base.handler = handler;
    s->base.arg = arg;
    s->connected_fn = connected;
    s->target_port = port;
    snprintf(s->target_host, sizeof(s->target_host), "%s", own ? host_of(s)->name : host);
    snprintf(s->peer_text, sizeof(s->peer_text), "%s", address);
    /* Without a loop: the request travels though the process may stop looking; shut clears it. */
    s->dial_event = (struct sim_event){.kind = SIM_DIAL, .run = dial_run};
    struct sim_host *there = sim_host_find(loop->sim, s->target_host);
    sim_event_set(loop->sim, &s->dial_event,
                  delay(loop->sim, host_of(s), there == NULL ? host_of(s) : there));
    *out = &s->base;
    return ERR_OK;
}

/* ---- listening ------------------------------------------------------------------------------- */

/* Connections nobody has taken are reset. */
static void listener_shut(struct sim_object *object)
{
    struct sim_listener *listener = CONTAINER_OF(object, struct sim_listener, object);
    struct sim_listener **at = &listener->loop->process->host->listeners;
    while (*at != listener) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = listener->next;
    while (listener->pending.next != &listener->pending) {
        struct sim_stream *s = CONTAINER_OF(listener->pending.next, struct sim_stream, waiting);
        detach(s, ECONNRESET);
        sim_link_remove(&s->waiting);
        s->listener = NULL;
        sim_object_shut(&s->object);
        sim_object_discard(s->loop, &s->object);
    }
}

/* Nothing else points to it any more. */
static void listener_free(struct sim_object *object)
{
    ASSERT(object->shut_done);
    free(CONTAINER_OF(object, struct sim_listener, object));
}

/* A free port, not one of the well-known. */
static uint16_t port_pick(struct sim_host *host)
{
    uint16_t port = host->next_port++;
    while (port < 1024 || listener_find(host, port) != NULL) {
        port = host->next_port++;
    }
    return port;
}

err_t sim_listen(struct io_loop *base, const char *address, io_accept_fn accepted, void *arg,
                 struct io_listener **out)
{
    ASSERT(address != NULL);
    *out = NULL;
    struct sim_loop *loop = sim_loop_of(base);
    struct sim_host *host = loop->process->host;
    char name[128];
    uint16_t port;
    bool own;
    TRY(address_parse(address, name, sizeof(name), &port, &own));
    if (!own && strcmp(name, host->name) != 0) {
        return err_errno(EADDRNOTAVAIL, "listening on %s", address);
    }
    if (port == 0) {
        port = port_pick(host);
    } else if (listener_find(host, port) != NULL) {
        return err_errno(EADDRINUSE, "listening on %s", address);
    }
    struct sim_listener *listener = MEM_NEW(struct sim_listener);
    listener->base.loop = base;
    listener->loop = loop;
    listener->port = port;
    listener->local = strcmp(name, "127.0.0.1") == 0 || strcmp(name, "localhost") == 0 ||
                      strcmp(name, "::1") == 0;
    const char *shown = name[0] == '\0' || strcmp(name, "*") == 0 ? "0.0.0.0" : name;
    snprintf(listener->address, sizeof(listener->address),
             strchr(shown, ':') != NULL ? "[%s]:%u" : "%s:%u", shown, (unsigned)port);
    listener->accepted = accepted;
    listener->arg = arg;
    sim_link_init(&listener->pending);
    listener->next = host->listeners;
    host->listeners = listener;
    sim_object_add(loop, &listener->object, listener_shut, listener_free);
    *out = &listener->base;
    return ERR_OK;
}

/* With the port that was picked, if any was. */
const char *sim_listener_address(const struct io_listener *listener)
{
    return ((const struct sim_listener *)listener)->address;
}

/* Streams that were accepted are their own. */
void sim_listener_close(struct io_listener *base)
{
    struct sim_listener *listener = (struct sim_listener *)base;
    sim_object_discard(listener->loop, &listener->object);
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* Both ends learn of it, each after its own while. */
static void cut(struct sim_stream *s, int error, uint64_t after_min, uint64_t after_max)
{
    ASSERT(error > 0 && s->peer != NULL);
    struct sim *sim = s->loop->sim;
    struct sim_stream *peer = s->peer;
    s->peer = NULL;
    peer->peer = NULL;
    struct sim_stream *const ends[] = {s, peer};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        end_send(ends[i], error, sim_between(sim, after_min, after_max));
        if (!ends[i]->connected && ends[i]->listener == NULL) {
            /* The answer to the request is lost, and what came behind it. */
            sim_event_clear(sim, &ends[i]->dial_event);
            ends[i]->in.len = 0;
            ends[i]->arrivals_len = 0;
        }
        recv_schedule(ends[i]);
    }
}

/* In order of creation, which is the same in every run. */
void sim_net_cut(struct sim *sim,
                 bool (*chosen)(void *arg, struct sim_process *a, struct sim_process *b),
                 void *arg)
{
    for (struct sim_link *at = sim->streams.next; at != &sim->streams; at = at->next) {
        struct sim_stream *s = CONTAINER_OF(at, struct sim_stream, all);
        if (s->peer != NULL && chosen(arg, s->loop->process, s->peer->loop->process)) {
            cut(s, ECONNRESET, 1, 100 * 1000);
        }
    }
}

/*
 * No reset comes from a machine without power. Peers elsewhere notice by time-out, a second to ten
 * later; what was on the wire to them still arrives in part.
 */
void sim_net_host_gone(struct sim *sim, struct sim_host *host)
{
    ASSERT(host != NULL);
    for (struct sim_link *at = sim->streams.next; at != &sim->streams; at = at->next) {
        struct sim_stream *s = CONTAINER_OF(at, struct sim_stream, all);
        if (s->peer != NULL && host_of(s) == host && host_of(s->peer) != host) {
            cut(s, ETIMEDOUT, 1000 * 1000, 10 * 1000 * 1000);
        }
    }
}
