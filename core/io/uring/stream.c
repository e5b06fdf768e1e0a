/*
 * Streams over sockets: state, and the one place where a stream moves on (stream_run).
 *
 * Whatever happens to a stream (a completion, a call of its owner, a timer) only notes it and marks
 * the stream dirty; in the end of the round stream_run looks at all that was noted and does what
 * follows. So no callback runs from within a call of the owner, and what a round's callbacks have
 * written leaves with one send. The flags, in the order they can be set:
 *
 *   connecting           there is no socket yet
 *   paused               the owner wants no data; comes and goes
 *   finishing            the owner let go: what is queued is sent, what arrives is thrown away
 *   broken               nothing can be sent any more; what the peer sent may still be read
 *   sent_end, recv_over  this side, the peer has sent all
 *   ended                nothing moves any more, reason says why; close() is owed, last of all
 *   closed               nothing of the owner's is touched from here on
 *
 * The memory goes when it is closed and no request of it is in the kernel, which stream_run finds:
 * a completion may come at any time before, and must find the stream. Borrowed bytes are released
 * before close() is told, and never while a send that reads them is under way (stream_abort waits).
 *
 * Freed twice or never: the loop's list of objects holds a stream until it is freed; when the loop
 * ends first, its memory stays until the owner's own close (io_loop_stop in io.h).
 */
#include "core/io/uring/stream.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

enum { FINISH_LINGER_US = 2 * 1000 * 1000 };

/* The loop looks at the stream before it sleeps; marking twice is the same as once. */
void uring_stream_dirty(struct uring_stream *s)
{
    ASSERT(s->dirty || s->dirty_next == NULL);
    if (!s->dirty) {
        s->dirty = true;
        s->dirty_next = s->loop->dirty;
        s->loop->dirty = s;
    }
}

/* The first reason counts. */
void uring_stream_end(struct uring_stream *s, err_t reason)
{
    ASSERT(s->loop != NULL);
    uring_stream_dirty(s);
    if (s->ended || s->closed) {
        err_free(reason);
        return;
    }
    s->ended = true;
    if (s->reason == ERR_OK) {
        s->reason = reason; /* else: sending failed before, which explains it better */
    } else {
        err_free(reason);
    }
}

/* While true the stream's memory may not go. */
static bool in_kernel(const struct uring_stream *s)
{
    return s->connect_req.active || s->recv_req.active || s->send_req.active;
}

static void stream_free(struct uring_stream *s)
{
    ASSERT(s->closed || io_loop_dead(s->base.loop));
    ASSERT(!in_kernel(s) && s->out_len == 0 && s->lookup == NULL && s->loop->warm != s);
    if (s->fd >= 0) {
        close(s->fd);
    }
    uring_recv_free(s);
    err_free(s->reason);
    free(s->out);
    free(s);
}

/* Gives back everything borrowed and lets go of the peer; what is left is freed by stream_run. */
static void stream_abort(struct uring_stream *s)
{
    ASSERT(!s->closed);
    s->closed = true;
    uring_warm_forget(s);
    io_timer_cancel(s->base.loop, &s->linger);
    uring_connect_abandon(s);
    if (s->fd >= 0) {
        (void)shutdown(s->fd, SHUT_RDWR); /* ENOTCONN when it never was connected */
    }
    uring_cancel(s->loop, &s->send_req);
    uring_cancel(s->loop, &s->recv_req);
    uring_wait_req(s->loop, &s->send_req); /* it reads memory that is released next */
    uring_recv_unplace(s);
    uring_send_drop(s);
    uring_stream_dirty(s);
}

/* From the owner: at once, or after what is queued was sent. */
static void stream_close(struct io_stream *base, bool flush)
{
    struct uring_stream *s = uring_stream_of(base);
    if (io_loop_dead(base->loop)) {
        uring_object_remove(&s->object);
        stream_free(s);
        return;
    }
    if (s->closed) {
        return;
    }
    if (flush && !s->ended && !s->broken) {
        s->finishing = true; /* so that what the wait below brings is thrown away */
        uring_recv_unplace(s);
        s->paused = false; /* what still arrives is thrown away, until the peer closes too */
        uring_stream_dirty(s);
        return;
    }
    stream_abort(s);
}

/* The loop ends. */
static void stream_shut(struct uring_object *object)
{
    struct uring_stream *s = CONTAINER_OF(object, struct uring_stream, object);
    if (!s->closed) {
        stream_abort(s);
    }
}

/* With the environment: the owner never closed it. */
static void stream_object_free(struct uring_object *object)
{
    stream_free(CONTAINER_OF(object, struct uring_stream, object));
}

/* A receive under way is taken back; what it still brings is stashed. */
static void stream_pause(struct io_stream *base, bool paused)
{
    struct uring_stream *s = uring_stream_of(base);
    if (s->closed || s->finishing || s->paused == paused || io_loop_dead(base->loop)) {
        return;
    }
    s->paused = paused;
    if (paused) {
        uring_warm_forget(s);
        uring_cancel(s->loop, &s->recv_req); /* what already arrived goes to the stash */
    }
    uring_stream_dirty(s);
}

/* What the kernel has not taken: the release of borrowed bytes counts with them. */
static size_t stream_pending(const struct io_stream *base)
{
    return ((const struct uring_stream *)base)->pending;
}

static const char *stream_peer(const struct io_stream *base)
{
    return ((const struct uring_stream *)base)->peer;
}

/* Only TLS knows a name. */
static const char *stream_peer_name(const struct io_stream *base)
{
    return "";
}

/* As of the connect or listen of the peer. */
static err_t stream_peer_cred(const struct io_stream *base, pid_t *pid, uid_t *uid)
{
    const struct uring_stream *s = (const struct uring_stream *)base;
    if (s->kind == URING_TCP) {
        return err_new(ERR_UNSUPPORTED, "the kernel vouches for peers of Unix sockets only");
    }
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) {
        return err_errno(errno, "credentials of %s", s->peer);
    }
    *pid = cred.pid;
    *uid = cred.uid;
    return ERR_OK;
}

static const struct io_stream_ops stream_ops = {
    .write = uring_send_write,
    .write_ref = uring_send_write_ref,
    .write_fds = uring_send_write_fds,
    .pending = stream_pending,
    .pause = stream_pause,
    .close = stream_close,
    .peer = stream_peer,
    .peer_name = stream_peer_name,
    .peer_cred = stream_peer_cred,
};

/* A stream that does not come to its end by itself is closed. */
static void linger_over(struct io_timer *timer)
{
    struct uring_stream *s = CONTAINER_OF(timer, struct uring_stream, linger);
    uring_stream_end(s, ERR_OK);
}

void uring_tcp_options(int fd)
{
    /* Hints all: a socket works without them. A peer's machine that vanished is noticed within a
     * minute also when nothing is sent. */
    int on = 1;
    int idle_s = 30;
    int interval_s = 10;
    int count = 3;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

/* fd -1: there will be one when the name is looked up and the socket made. */
struct uring_stream *uring_stream_new(struct uring_loop *loop, int fd, enum uring_socket kind)
{
    ASSERT(fd >= -1);
    struct uring_stream *s = MEM_NEW(struct uring_stream);
    s->base.ops = &stream_ops;
    s->base.loop = &loop->base;
    s->base.high_water = IO_STREAM_HIGH_WATER;
    s->loop = loop;
    s->fd = fd;
    s->kind = kind;
    s->recv_req.complete = uring_recv_complete;
    s->send_req.complete = uring_send_complete;
    s->linger.fire = linger_over;
    s->unplaced = URING_UNPLACED;
    if (kind == URING_TCP && fd >= 0) {
        uring_tcp_options(fd);
    }
    uring_object_add(loop, &s->object, stream_shut, stream_object_free);
    return s;
}

/* ---- moving on ------------------------------------------------------------------------------- */

/* The stream ended by itself: gives everything back first, then tells the owner, last. */
static void stream_over(struct uring_stream *s)
{
    ASSERT(s->ended && !s->closed);
    bool tell = !s->finishing;
    err_t reason = s->reason;
    s->reason = ERR_OK;
    stream_abort(s);
    if (tell && s->base.handler != NULL && s->base.handler->close != NULL) {
        s->base.handler->close(s->base.arg, reason);
    } else {
        err_free(reason);
    }
}

/* All is sent: tell the peer, and wait a while for its end, so that closing does not reset the
 * connection before the peer has read everything. */
static void send_end(struct uring_stream *s)
{
    s->sent_end = true;
    if (s->recv_over || shutdown(s->fd, SHUT_WR) != 0) {
        uring_stream_end(s, ERR_OK);
        return;
    }
    io_timer_start(s->base.loop, &s->linger, io_now_us(s->base.loop) + FINISH_LINGER_US);
}

/* Does whatever the state of the stream calls for. alone: see uring_send_arm. True when a callback
 * ran. */
static bool stream_run(struct uring_stream *s, bool alone)
{
    bool worked = false;
    if (!s->closed && !s->paused) {
        worked = uring_recv_stash(s);
    }
    if (!s->closed && s->ended && (!uring_recv_stashed(s) || s->finishing)) {
        stream_over(s);
        worked = true;
    }
    if (s->closed) {
        if (!in_kernel(s) && !s->dirty) {
            uring_object_remove(&s->object);
            stream_free(s);
        }
        return worked;
    }
    if (s->connecting || s->ended) {
        return worked;
    }
    if (!s->paused && !s->recv_over && !s->recv_req.active && !uring_recv_stashed(s) &&
        !uring_warm_begin(s)) {
        uring_recv_arm(s);
    }
    if (s->out_len > 0 && !s->send_req.active) {
        worked |= uring_send_arm(s, alone);
        if (s->closed || s->ended) { /* seen to in the next round */
            return worked;
        }
    }
    if (s->finishing && s->out_len == 0 && !s->sent_end) {
        send_end(s);
    }
    return worked;
}

/* All that were marked since the last time. `alone`: one stream has something to do, so a plain
 * system call is cheaper than a request. */
bool uring_streams_run(struct uring_loop *loop)
{
    ASSERT(!io_loop_dead(&loop->base));
    bool worked = false;
    /* Streams marked while this runs are the next round's. */
    struct uring_stream *list = loop->dirty;
    bool alone = list != NULL && list->dirty_next == NULL;
    loop->dirty = NULL;
    while (list != NULL) {
        struct uring_stream *s = list;
        list = s->dirty_next;
        s->dirty = false;
        s->dirty_next = NULL;
        if (loop->stop) {
            uring_stream_dirty(s);
            continue;
        }
        worked |= stream_run(s, alone);
    }
    return worked || loop->dirty != NULL;
}
