/*
 * The sending half of a stream: a queue of segments (bytes copied into shared chunks, or borrowed
 * with a release callback), sent many at once with one sendmsg; one sendmsg is under way at most.
 *
 * The queue is a ring of segments whose bytes add up to pending. A send that is under way reads the
 * front of it: bytes may be appended behind (also into the last chunk, behind the captured length),
 * but nothing is taken off before the send has completed. That is why uring_send_drop asserts that
 * none is.
 *
 * Writing never fails: on a stream that cannot send any more bytes are forgotten, and borrowed ones
 * given back at once; its end is told through close(). A sender that wants to know when to slow
 * down looks at pending, and hears drain when all of it has left after it had passed high_water.
 *
 * One chunk serves many small writes, so that a protocol may write its messages piece by piece. In
 * a packet stream each write is a message of its own: chunks are not shared there.
 */
#include "core/io/uring/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum {
    SEND_BYTES_MAX = 1024 * 1024, /* in one sendmsg: the socket's buffer takes no more at a time */
    SEND_NOW_MAX = 16 * 1024,     /* without a request */
    BROKEN_LINGER_US = 5 * 1000 * 1000,
};

/* ---- the queue ------------------------------------------------------------------------------- */

/* The i-th oldest; the ring's size is a power of two. */
static struct out_segment *segment_at(struct uring_stream *s, size_t i)
{
    ASSERT(i < s->out_len);
    return &s->out[(s->out_at + i) & (s->out_cap - 1)];
}

/* A zeroed segment at the end of the queue. */
static struct out_segment *segment_push(struct uring_stream *s)
{
    if (s->out_len == s->out_cap) {
        size_t cap = s->out_cap == 0 ? 8 : s->out_cap * 2;
        struct out_segment *out = mem_alloc(cap * sizeof(*out));
        for (size_t i = 0; i < s->out_len; i++) {
            out[i] = *segment_at(s, i);
        }
        free(s->out);
        s->out = out;
        s->out_at = 0;
        s->out_cap = cap;
    }
    s->out_len++;
    ASSERT(s->out_len <= s->out_cap);
    struct out_segment *segment = segment_at(s, s->out_len - 1);
    memset(segment, 0, sizeof(*segment));
    return segment;
}

/* Memory for copied bytes: the usual size from the spare ones. */
static struct uring_chunk *chunk_get(struct uring_loop *loop, size_t len)
{
    struct uring_chunk *chunk = loop->chunks;
    if (len <= URING_CHUNK_LEN && chunk != NULL) {
        loop->chunks = chunk->next;
        loop->chunks_len--;
        chunk->used = 0;
        return chunk;
    }
    size_t cap = len > URING_CHUNK_LEN ? len : URING_CHUNK_LEN;
    chunk = mem_alloc(sizeof(*chunk) + cap);
    chunk->cap = cap;
    chunk->used = 0;
    return chunk;
}

/* Keeps a few of the usual size. */
static void chunk_put(struct uring_loop *loop, struct uring_chunk *chunk)
{
    ASSERT(chunk->used <= chunk->cap);
    if (chunk->cap != URING_CHUNK_LEN || loop->chunks_len >= URING_CHUNKS_SPARE) {
        free(chunk);
        return;
    }
    chunk->next = loop->chunks;
    loop->chunks = chunk;
    loop->chunks_len++;
}

/* Takes the first segment off the queue and gives its memory back. */
static void segment_pop(struct uring_stream *s)
{
    ASSERT(s->out_len > 0);
    struct out_segment segment = *segment_at(s, 0);
    /* Off the queue first: release may write to this stream, or close it. */
    s->out_at = (s->out_at + 1) & (s->out_cap - 1);
    s->out_len--;
    for (size_t i = 0; i < segment.fds_len; i++) {
        close(segment.fds[i]);
    }
    free(segment.fds);
    if (segment.chunk != NULL) {
        chunk_put(s->loop, segment.chunk);
    } else if (segment.release != NULL) {
        segment.release(segment.arg);
    }
}

/* Gives everything back that was not sent: release callbacks run. */
void uring_send_drop(struct uring_stream *s)
{
    ASSERT(!s->send_req.active);
    while (s->out_len > 0) {
        s->pending -= segment_at(s, 0)->len;
        segment_pop(s);
    }
    ASSERT(s->pending == 0);
}

/* Nothing more will be sent on this stream. */
static bool deaf(const struct uring_stream *s)
{
    return s->closed || s->broken || s->ended || s->finishing || io_loop_dead(s->base.loop);
}

/* Accounts for bytes put into the queue. */
static void queued(struct uring_stream *s, size_t len)
{
    ASSERT(len > 0 && s->out_len > 0);
    s->pending += len;
    s->above |= s->pending > s->base.high_water;
    uring_stream_dirty(s);
}

/* Copies into the last chunk while there is room, so that small writes are sent together. */
void uring_send_write(struct io_stream *base, const void *data, size_t len)
{
    struct uring_stream *s = uring_stream_of(base);
    if (deaf(s)) {
        return;
    }
    struct uring_chunk *chunk = NULL;
    if (s->out_len > 0 && s->kind != URING_PACKET) {
        struct out_segment *last = segment_at(s, s->out_len - 1);
        chunk = last->chunk;
        if (chunk != NULL && chunk->cap - chunk->used >= len) {
            /* A send under way captured the old length: bytes behind it are not disturbed. */
            memcpy(chunk->data + chunk->used, data, len);
            chunk->used += len;
            last->len += len;
            queued(s, len);
            return;
        }
    }
    chunk = chunk_get(s->loop, len);
    memcpy(chunk->data, data, len);
    chunk->used = len;
    struct out_segment *segment = segment_push(s);
    segment->data = chunk->data;
    segment->len = len;
    segment->chunk = chunk;
    queued(s, len);
}

/* Borrows the bytes; on a stream that sends no more they are given back at once. */
void uring_send_write_ref(struct io_stream *base, const void *data, size_t len,
                          void (*release)(void *), void *arg)
{
    struct uring_stream *s = uring_stream_of(base);
    if (deaf(s)) {
        if (release != NULL) {
            release(arg);
        }
        return;
    }
    struct out_segment *segment = segment_push(s);
    segment->data = data;
    segment->len = len;
    segment->release = release;
    segment->arg = arg;
    queued(s, len);
}

/* The descriptors travel as duplicates, the caller may close his. */
void uring_send_write_fds(struct io_stream *base, const void *data, size_t len, const int *fds,
                          size_t fds_len)
{
    struct uring_stream *s = uring_stream_of(base);
    ASSERT(s->kind == URING_PACKET && fds_len <= URING_FDS_MAX);
    if (deaf(s)) {
        return;
    }
    uring_send_write(base, data, len);
    struct out_segment *segment = segment_at(s, s->out_len - 1);
    segment->fds = mem_alloc(fds_len * sizeof(int));
    for (size_t i = 0; i < fds_len; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) {
            uring_stream_end(s, err_errno(errno, "duplicating a descriptor to send"));
            return;
        }
        segment->fds[segment->fds_len++] = copy;
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

/* The ancillary data of a message with descriptors. */
static void control_fill(struct uring_stream *s, const struct out_segment *segment)
{
    ASSERT(segment->fds_len <= URING_FDS_MAX);
    s->send_msg.msg_control = NULL;
    s->send_msg.msg_controllen = 0;
    if (segment->fds_len == 0) {
        return;
    }
    size_t len = segment->fds_len * sizeof(int);
    s->send_msg.msg_control = s->send_control;
    s->send_msg.msg_controllen = CMSG_SPACE(len);
    struct cmsghdr *header = (struct cmsghdr *)s->send_control;
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(header), segment->fds, len);
}

/* Gathers as many segments as go into one sendmsg; the bytes they have. */
static size_t message_fill(struct uring_stream *s)
{
    ASSERT(s->out_len > 0 && !s->send_req.active);
    size_t most = s->kind == URING_PACKET ? 1 : URING_IOV;
    size_t count = 0;
    size_t bytes = 0;
    while (count < most && count < s->out_len && bytes < SEND_BYTES_MAX) {
        const struct out_segment *segment = segment_at(s, count);
        s->send_iov[count].iov_base = (void *)(uintptr_t)segment->data;
        s->send_iov[count].iov_len = segment->len;
        bytes += segment->len;
        count++;
    }
    s->send_msg = (struct msghdr){.msg_iov = s->send_iov, .msg_iovlen = count};
    control_fill(s, segment_at(s, 0));
    return bytes;
}

/* Nothing more can be sent; what the peer sent before may still be read. */
static void send_failed(struct uring_stream *s, int error)
{
    ASSERT(error > 0 && !s->send_req.active);
    err_t err = err_errno(error, "sending to %s", s->peer);
    s->broken = true;
    uring_send_drop(s);
    bool gone = error == EPIPE || error == ECONNRESET;
    if (!gone || s->paused || s->finishing || s->kind == URING_PACKET) {
        uring_stream_end(s, err);
        return;
    }
    /* What the peer sent before it went is still to be read; reading then finds the end too. */
    ASSERT(s->reason == ERR_OK);
    s->reason = err;
    io_timer_start(s->base.loop, &s->linger, io_now_us(s->base.loop) + BROKEN_LINGER_US);
}

/* Takes sent bytes off the front of the queue. */
static void sent(struct uring_stream *s, size_t len)
{
    ASSERT(len <= s->pending);
    s->pending -= len;
    while (s->out_len > 0) {
        struct out_segment *segment = segment_at(s, 0);
        size_t part = len < segment->len ? len : segment->len;
        segment->data += part;
        segment->len -= part;
        len -= part;
        if (segment->len > 0) {
            break;
        }
        segment_pop(s);
        if (s->closed) {
            return; /* by the release callback: the queue was dropped */
        }
    }
    ASSERT(len == 0);
}

/* What the kernel said to a send; true when a callback ran. */
static bool send_result(struct uring_stream *s, int res)
{
    ASSERT(!s->send_req.active && !s->closed && !s->ended);
    if (res == -EINTR || res == -EAGAIN) {
        return false; /* stream_run sends again */
    }
    if (res < 0) {
        send_failed(s, -res);
        return false;
    }
    sent(s, (size_t)res);
    if (!s->above || s->pending > 0 || s->closed) {
        return false;
    }
    s->above = false;
    if (s->finishing || s->base.handler == NULL || s->base.handler->drain == NULL) {
        return false;
    }
    s->base.handler->drain(s->base.arg);
    return true;
}

/* A short message that nothing is in the way of: the plain system call returns at once with the
 * result, where a request would cost the same call and then a completion to go round for. */
static bool send_now(struct uring_stream *s, bool *worked)
{
    ssize_t len = sendmsg(s->fd, &s->send_msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    *worked = send_result(s, len < 0 ? -errno : (int)len);
    if (s->out_len > 0 || s->ended || s->closed) {
        uring_stream_dirty(s);
    }
    return true;
}

/* Sends what there is, at once or by a request; true when a callback ran. */
bool uring_send_arm(struct uring_stream *s, bool alone)
{
    ASSERT(s->out_len > 0 && !s->send_req.active && s->fd >= 0);
    size_t bytes = message_fill(s);
    bool worked = false;
    if (alone && bytes <= SEND_NOW_MAX && s->kind != URING_PACKET && send_now(s, &worked)) {
        return worked;
    }
    struct io_uring_sqe *sqe = uring_sqe(s->loop, &s->send_req);
    io_uring_prep_sendmsg(sqe, s->fd, &s->send_msg, MSG_NOSIGNAL);
    io_uring_sqe_set_data(sqe, &s->send_req);
    return false;
}

/*
 * What was sent leaves the queue; whether more is to be sent stream_run decides, at the end of the
 * round, so that writes made by this round's callbacks go with it.
 */
void uring_send_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_stream *s = CONTAINER_OF(req, struct uring_stream, send_req);
    uring_stream_dirty(s);
    if (!s->closed && !s->ended && !io_loop_dead(s->base.loop)) {
        (void)send_result(s, res);
    }
}
