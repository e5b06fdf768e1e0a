/*
 * The receiving half of a stream. Byte streams receive into buffers the loop provides (multishot
 * where the kernel can), packets into a buffer of their own together with descriptors.
 *
 * Order. Bytes reach the handler in the order they came, also over a pause: what the kernel hands
 * over while the stream is paused goes to the stash, and what comes behind it waits there too. A
 * pause takes the receive back, so the stash holds at most what was under way: a loop's buffers for
 * a byte stream, one message for packets. While anything is stashed nothing is armed.
 *
 * Warm. Two that send each other little messages as fast as they can look for them all the time:
 * then a request costs more than it brings (the kernel queues work for this thread, which must call
 * it once more to have it done). So one stream of a loop, on which BRISK little messages came in a
 * row without a sleep of the loop, has no request: the loop reads it by plain system calls, once a
 * round and while it spins. Before the loop sleeps, and when much comes at a time, the request is
 * back.
 *
 * Placed. Where the owner wants many bytes in a certain place (place, io.h), they are received
 * there, one request at a time, which spares the copy out of our buffer. A request for what comes
 * next, header and all, is then single too, or it would take the bytes to be placed as well; after
 * URING_UNPLACED of those in a row the stream is back to multishot. The owner's memory may go when
 * it lets go of the stream, so closing waits for such a request (uring_recv_unplace).
 *
 * Descriptors are ours from the moment the kernel delivered their message. Each is given to the
 * handler once, or closed here: when nobody listens, when the message was cut, when it was empty
 * (which ends the stream, as the end of it looks the same), and when the stream goes while it holds
 * one. So a peer cannot make this process run out of them.
 */
#include "core/io/uring/stream.h"

#include <errno.h>
#include <unistd.h>

enum {
    BRISK = 64,
    PLACE_BEGIN = 128 * 1024, /* bytes wanted in one place; fewer are copied, */
    PLACE_MIN = 16 * 1024,    /* and fewer than this where single requests are under way anyway */
    LITTLE = 4096, /* bytes; more at a time is a flow, for which multishot is better */
};

/* ---- arming ---------------------------------------------------------------------------------- */

/* One message at a time, so that pausing holds back at most one. */
static void packet_arm(struct uring_stream *s)
{
    ASSERT(s->packet == NULL || s->packet->held == 0);
    if (s->packet == NULL) {
        s->packet = MEM_NEW(struct packet_in);
        s->recv_buffer = mem_alloc(URING_RECV_BUFFER_LEN);
    }
    struct packet_in *in = s->packet;
    in->iov = (struct iovec){s->recv_buffer, URING_RECV_BUFFER_LEN};
    in->msg = (struct msghdr){.msg_iov = &in->iov,
                              .msg_iovlen = 1,
                              .msg_control = in->control,
                              .msg_controllen = sizeof(in->control)};
    struct io_uring_sqe *sqe = uring_sqe(s->loop, &s->recv_req);
    io_uring_prep_recvmsg(sqe, s->fd, &in->msg, MSG_CMSG_CLOEXEC);
    io_uring_sqe_set_data(sqe, &s->recv_req);
}

/* Where the owner wants what comes next, if that is worth a request. */
static uint8_t *wanted(const struct uring_stream *s, size_t *len)
{
    const struct io_stream_handler *handler = s->base.handler;
    if (s->finishing || s->closed || handler == NULL || handler->place == NULL) {
        return NULL;
    }
    uint8_t *place = handler->place(s->base.arg, len);
    size_t least = s->unplaced < URING_UNPLACED ? PLACE_MIN : PLACE_BEGIN;
    return place != NULL && *len >= least ? place : NULL;
}

static bool place_arm(struct uring_stream *s)
{
    size_t len = 0;
    ASSERT(s->place == NULL);
    s->place = wanted(s, &len);
    if (s->place == NULL) {
        s->unplaced += s->unplaced < URING_UNPLACED ? 1 : 0;
        return false;
    }
    s->unplaced = 0;
    struct io_uring_sqe *sqe = uring_sqe(s->loop, &s->recv_req);
    io_uring_prep_recv(sqe, s->fd, s->place, len, 0);
    io_uring_sqe_set_data(sqe, &s->recv_req);
    return true;
}

void uring_recv_unplace(struct uring_stream *s)
{
    if (s->place != NULL) {
        uring_cancel(s->loop, &s->recv_req);
        uring_wait_req(s->loop, &s->recv_req);
    }
    ASSERT(s->place == NULL);
}

/* Into provided buffers where the kernel has them: an idle stream then holds no memory. */
void uring_recv_arm(struct uring_stream *s)
{
    ASSERT(!s->paused && !s->closed);
    ASSERT(!s->recv_req.active && s->fd >= 0);
    if (s->kind == URING_PACKET) {
        packet_arm(s);
        return;
    }
    if (place_arm(s)) {
        return;
    }
    struct io_uring_sqe *sqe = uring_sqe(s->loop, &s->recv_req);
    if (s->loop->buf_ring == NULL) {
        if (s->recv_buffer == NULL) {
            s->recv_buffer = mem_alloc(URING_RECV_BUFFER_LEN);
        }
        io_uring_prep_recv(sqe, s->fd, s->recv_buffer, URING_RECV_BUFFER_LEN, 0);
    } else {
        if (s->loop->multishot && s->unplaced == URING_UNPLACED) {
            io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
        } else {
            io_uring_prep_recv(sqe, s->fd, NULL, URING_RECV_BUFFER_LEN, 0);
        }
        io_uring_sqe_set_flags(sqe, IOSQE_BUFFER_SELECT);
        sqe->buf_group = 0;
    }
    io_uring_sqe_set_data(sqe, &s->recv_req);
}

/* ---- delivering ------------------------------------------------------------------------------ */

/* What arrives is thrown away. */
static bool silent(const struct uring_stream *s)
{
    return s->closed || s->finishing || io_loop_dead(s->base.loop);
}

/* To the handler, or to nobody: descriptors are closed then. */
static void deliver(struct uring_stream *s, const uint8_t *data, size_t len, const int *fds,
                    size_t fds_len)
{
    ASSERT(len > 0);
    if (silent(s) || s->base.handler == NULL || s->base.handler->data == NULL) {
        for (size_t i = 0; i < fds_len; i++) {
            close(fds[i]);
        }
        return;
    }
    s->base.handler->data(s->base.arg, data, len, fds, fds_len);
}

/* Bytes behind stashed ones must wait with them. */
static void bytes_arrived(struct uring_stream *s, const uint8_t *data, size_t len)
{
    ASSERT(s->kind != URING_PACKET);
    if (silent(s)) {
        return;
    }
    if (s->paused || s->stash.len > 0) {
        buf_append(&s->stash, data, len);
        return;
    }
    deliver(s, data, len, NULL, 0);
}

/* Collects the descriptors of a message; how many. The room for them bounds what the kernel gives:
 * the rest it drops, and says MSG_CTRUNC. */
static size_t packet_fds(struct packet_in *in, int *fds)
{
    size_t count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&in->msg); c != NULL; c = CMSG_NXTHDR(&in->msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        ASSERT(count + n <= URING_FDS_MAX);
        memcpy(fds + count, CMSG_DATA(c), n * sizeof(int));
        count += n;
    }
    return count;
}

/* Closes the descriptors of the message that was received last. */
static void packet_drop(struct packet_in *in)
{
    int fds[URING_FDS_MAX];
    size_t fds_len = packet_fds(in, fds);
    ASSERT(fds_len <= URING_FDS_MAX);
    for (size_t i = 0; i < fds_len; i++) {
        close(fds[i]);
    }
}

/* A whole message, with its descriptors. */
static void packet_arrived(struct uring_stream *s, size_t len)
{
    ASSERT(s->packet != NULL && len <= URING_RECV_BUFFER_LEN);
    struct packet_in *in = s->packet;
    if (s->paused && !silent(s)) {
        in->held = len;
        return;
    }
    in->held = 0;
    int fds[URING_FDS_MAX];
    size_t fds_len = packet_fds(in, fds);
    if ((in->msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        packet_drop(in);
        uring_stream_end(s, err_new(ERR_PROTOCOL, "message from %s is too large", s->peer));
        return;
    }
    deliver(s, s->recv_buffer, len, fds, fds_len);
}

/* Something came while the stream was paused, and waits. */
bool uring_recv_stashed(const struct uring_stream *s)
{
    return s->stash.len > 0 || (s->packet != NULL && s->packet->held > 0);
}

/* After a resume: what came while paused, before anything newer. True when something was there. */
bool uring_recv_stash(struct uring_stream *s)
{
    if (s->packet != NULL && s->packet->held > 0) {
        packet_arrived(s, s->packet->held);
        return true;
    }
    if (s->stash.len == 0) {
        return false;
    }
    struct buf stash = s->stash;
    s->stash = (struct buf){0};
    deliver(s, stash.data, stash.len, NULL, 0);
    buf_free(&stash);
    return true;
}

/* Descriptors of a message nobody took are closed. */
void uring_recv_free(struct uring_stream *s)
{
    if (s->packet != NULL && s->packet->held > 0) {
        packet_drop(s->packet);
    }
    free(s->packet);
    free(s->recv_buffer);
    buf_free(&s->stash);
}

/* ---- completions ----------------------------------------------------------------------------- */

/* The kernel may use the buffer again. */
static void buffer_return(struct uring_loop *loop, uint32_t id)
{
    ASSERT(loop->buf_ring != NULL);
    ASSERT(id < URING_RECV_BUFFERS);
    io_uring_buf_ring_add(loop->buf_ring, loop->buf_memory + (size_t)id * URING_RECV_BUFFER_LEN,
                          URING_RECV_BUFFER_LEN, (unsigned short)id,
                          io_uring_buf_ring_mask(URING_RECV_BUFFERS), 0);
    io_uring_buf_ring_advance(loop->buf_ring, 1);
}

/* Finds where the bytes are. */
static void received(struct uring_stream *s, const uint8_t *place, size_t len, uint32_t flags)
{
    if (s->kind == URING_PACKET) {
        packet_arrived(s, len);
        return;
    }
    const uint8_t *data = place != NULL ? place : s->recv_buffer;
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        data = s->loop->buf_memory +
               (size_t)(flags >> IORING_CQE_BUFFER_SHIFT) * URING_RECV_BUFFER_LEN;
    }
    ASSERT(data != NULL);
    bytes_arrived(s, data, len);
}

/* Some errors only mean that the receive is to be armed again. */
static void recv_failed(struct uring_stream *s, int error)
{
    ASSERT(error > 0);
    switch (error) {
    case ENOBUFS: /* all buffers are in use: stream_run arms again when they are back */
        s->loop->dry++;
        return;
    case ECANCELED: /* paused */
    case EINTR:
    case EAGAIN:
        return;
    case EINVAL:
        if (s->loop->multishot && s->loop->buf_ring != NULL && s->kind != URING_PACKET) {
            s->loop->multishot = false; /* before Linux 6.0 */
            return;
        }
        break;
    default:
        break;
    }
    uring_stream_end(s, err_errno(error, "receiving from %s", s->peer));
}

/* ---- warm streams ---------------------------------------------------------------------------- */

static uint64_t sleeps_of(const struct uring_loop *loop)
{
    /* Relaxed: only this thread writes it. */
    return atomic_load_explicit(&loop->base.counters->sleeps, memory_order_relaxed);
}

/* The request under way is taken back when the stream has become brisk. */
static void brisk_count(struct uring_stream *s, size_t len)
{
    struct uring_loop *loop = s->loop;
    if (len > LITTLE || s->brisk_sleeps != sleeps_of(loop)) {
        s->brisk = 0;
        s->brisk_sleeps = sleeps_of(loop);
        return;
    }
    if (s->brisk < BRISK && ++s->brisk == BRISK && loop->warm == NULL &&
        s->kind != URING_PACKET && !s->closed && !io_loop_dead(s->base.loop)) {
        uring_cancel(loop, &s->recv_req); /* once it is back: uring_warm_begin */
    }
}

bool uring_warm_begin(struct uring_stream *s)
{
    struct uring_loop *loop = s->loop;
    ASSERT(!s->recv_req.active && !s->paused && !s->closed);
    if (s->kind == URING_PACKET || s->brisk < BRISK || s->finishing ||
        s->brisk_sleeps != sleeps_of(loop) || (loop->warm != NULL && loop->warm != s)) {
        return false;
    }
    if (loop->warm_buffer == NULL) {
        loop->warm_buffer = mem_alloc(URING_RECV_BUFFER_LEN);
    }
    loop->warm = s;
    return true;
}

void uring_warm_end(struct uring_loop *loop)
{
    struct uring_stream *s = loop->warm;
    if (s != NULL) {
        uring_warm_forget(s);
        uring_stream_dirty(s); /* stream_run arms */
    }
}

bool uring_warm_look(struct uring_loop *loop)
{
    struct uring_stream *s = loop->warm;
    if (s == NULL) {
        return false;
    }
    ASSERT(!s->recv_req.active && !s->paused && !s->closed && s->fd >= 0);
    ssize_t len = recv(s->fd, loop->warm_buffer, URING_RECV_BUFFER_LEN, MSG_DONTWAIT);
    if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (len <= 0 || len > LITTLE) {
        uring_warm_end(loop); /* an end or an error: the request finds it again */
    }
    if (len > 0) {
        uring_stream_dirty(s);
        bytes_arrived(s, loop->warm_buffer, (size_t)len);
    }
    return true;
}

/* More than a copy is worth is wanted in one place: multishot is taken back. */
static void place_begin(struct uring_stream *s)
{
    size_t len;
    if (s->unplaced == URING_UNPLACED && s->recv_req.active && wanted(s, &len) != NULL) {
        s->unplaced = 0;
        uring_cancel(s->loop, &s->recv_req);
    }
}

/* Also called when the stream was closed meanwhile: buffers must go back all the same. */
void uring_recv_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_stream *s = CONTAINER_OF(req, struct uring_stream, recv_req);
    const uint8_t *place = s->place;
    uring_stream_dirty(s);
    s->place = NULL; /* before the callback, which may close */
    if (res == 0 && s->kind == URING_PACKET) {
        packet_drop(s->packet); /* an empty message may carry some all the same */
    }
    if (res > 0) {
        brisk_count(s, (size_t)res);
        received(s, place, (size_t)res, flags);
        place_begin(s);
    } else if (!s->closed && !io_loop_dead(s->base.loop)) {
        if (res == 0 && s->finishing && s->out_len > 0 && !s->broken) {
            s->recv_over = true; /* the peer may still read what is queued */
        } else if (res == 0) {
            uring_stream_end(s, ERR_OK);
        } else {
            recv_failed(s, -res);
        }
    }
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        buffer_return(s->loop, flags >> IORING_CQE_BUFFER_SHIFT);
    }
}
