/*
 * Listeners: multishot accept where the kernel has it, else one accept after the other.
 *
 * An accepted stream is its callee's at once. When the process has no descriptors left, accepting
 * pauses for ACCEPT_RETRY_US instead of spinning on the error: connections wait in the backlog. A
 * path of a Unix socket that a process left behind is taken over, one that somebody listens on is
 * not. A listener that is closed from within accepted() is freed when that returns (calls).
 */
#include "core/io/uring/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BACKLOG = 1024,
    ACCEPT_RETRY_US = 100 * 1000, /* out of descriptors: look again after this */
    IN_USE_STEP_MS = 20,          /* see bind_patiently */
    IN_USE_PATIENCE_MS = 500,
};

/* Owned by its loop. accepted() may close it: then accept_complete frees it. */
struct uring_listener {
    struct io_listener base;
    struct uring_object object;
    struct uring_loop *loop;
    int fd;
    bool closed; /* listener_stop has run */
    unsigned calls; /* of accept_complete under way: accepted() may close the listener */
    struct uring_address address;
    char text[160]; /* the address bound, for io_listener_address */
    struct uring_req accept_req; /* one accept, or the multishot one */
    struct io_timer retry; /* accepting was refused for want of descriptors */
    io_accept_fn accepted;
    void *arg;
};

/* The peer's address is asked for later (peer_name): multishot has no room for it. */
static void accept_arm(struct uring_listener *listener)
{
    ASSERT(!listener->closed && listener->fd >= 0);
    struct io_uring_sqe *sqe = uring_sqe(listener->loop, &listener->accept_req);
    if (listener->loop->multishot) {
        io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    } else {
        io_uring_prep_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    }
    io_uring_sqe_set_data(sqe, &listener->accept_req);
}

/* What is known of the peer, for messages. */
static void peer_name(struct uring_stream *s)
{
    ASSERT(s->fd >= 0);
    struct uring_address address = {.kind = s->kind};
    struct ucred cred;
    socklen_t len = sizeof(address.storage);
    socklen_t cred_len = sizeof(cred);
    if (s->kind == URING_TCP && getpeername(s->fd, &address.any, &len) == 0) {
        uring_address_format(&address, s->peer, sizeof(s->peer));
    } else if (s->kind != URING_TCP &&
               getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) == 0) {
        snprintf(s->peer, sizeof(s->peer), "process %d", (int)cred.pid);
    } else {
        snprintf(s->peer, sizeof(s->peer), "unknown peer");
    }
}

/* A connection has come; the owner takes it. */
static void accepted(struct uring_listener *listener, int fd)
{
    ASSERT(fd >= 0);
    if (listener->closed || io_loop_dead(listener->base.loop)) {
        close(fd);
        return;
    }
    struct uring_stream *s = uring_stream_new(listener->loop, fd, listener->address.kind);
    peer_name(s);
    uring_stream_dirty(s);
    listener->accepted(listener->arg, &s->base);
}

/* Descriptors may be free again. */
static void retry_fire(struct io_timer *timer)
{
    struct uring_listener *listener = CONTAINER_OF(timer, struct uring_listener, retry);
    if (!listener->accept_req.active) {
        accept_arm(listener);
    }
}

/* Keeps accepting after this completion. */
static void accept_again(struct uring_listener *listener, int res)
{
    if (io_loop_dead(listener->base.loop) || listener->accept_req.active) {
        return;
    }
    if (res == -EINVAL && listener->loop->multishot) {
        listener->loop->multishot = false; /* before Linux 5.19 */
    }
    if (res == -EMFILE || res == -ENFILE || res == -ENOMEM || res == -ENOBUFS) {
        io_timer_start(listener->base.loop, &listener->retry,
                       io_now_us(listener->base.loop) + ACCEPT_RETRY_US);
        return;
    }
    accept_arm(listener); /* other errors are of one connection that went away */
}

/* calls keeps the memory while accepted() runs, which may close the listener under us. */
static void accept_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_listener *listener = CONTAINER_OF(req, struct uring_listener, accept_req);
    listener->calls++;
    if (res >= 0) {
        accepted(listener, res);
    }
    listener->calls--;
    if (!listener->closed) {
        accept_again(listener, res);
    } else if (listener->calls == 0 && listener->object.link.next == NULL) {
        free(listener); /* closed by accepted() */
    }
}

/* The address is free when this returns. */
static void listener_stop(struct uring_listener *listener)
{
    ASSERT(!listener->closed);
    listener->closed = true;
    io_timer_cancel(listener->base.loop, &listener->retry);
    /* Waits: the address must be free again when io_listener_close returns. */
    uring_cancel(listener->loop, &listener->accept_req);
    uring_wait_req(listener->loop, &listener->accept_req);
    close(listener->fd);
    listener->fd = -1;
    if (listener->address.kind != URING_TCP) {
        (void)unlink(listener->address.local.sun_path); /* may have been removed already */
    }
}

static void listener_shut(struct uring_object *object)
{
    listener_stop(CONTAINER_OF(object, struct uring_listener, object));
}

static void listener_free(struct uring_object *object)
{
    free(CONTAINER_OF(object, struct uring_listener, object));
}

/* Also from inside accepted(): accept_complete frees it then. */
void uring_listener_close(struct io_listener *base)
{
    struct uring_listener *listener = (struct uring_listener *)base;
    if (!io_loop_dead(base->loop)) {
        listener_stop(listener);
    }
    uring_object_remove(&listener->object);
    if (listener->calls == 0) {
        free(listener);
    }
}

const char *uring_listener_address(const struct io_listener *base)
{
    return ((const struct uring_listener *)base)->text;
}

/* A socket file nobody listens on any more is in the way of bind. */
static void stale_remove(const struct uring_address *address)
{
    int type = address->kind == URING_PACKET ? SOCK_SEQPACKET : SOCK_STREAM;
    ASSERT(address->kind != URING_TCP);
    struct stat st;
    if (lstat(address->local.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return;
    }
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    if (connect(fd, &address->any, address->len) != 0 && errno == ECONNREFUSED) {
        (void)unlink(address->local.sun_path); /* bind says what is wrong if this fails */
    }
    close(fd);
}

/*
 * A process that was killed keeps its sockets until the kernel has taken its ring apart, which may
 * be some milliseconds after its parent has seen it die. So an address in use is tried again for a
 * while, on the loop's time: this happens at start, and otherwise only where it ends in an error.
 */
static int bind_patiently(int fd, const struct uring_address *address)
{
    for (int waited_ms = 0;; waited_ms += IN_USE_STEP_MS) {
        if (address->kind != URING_TCP) {
            stale_remove(address);
        }
        if (bind(fd, &address->any, address->len) == 0) {
            return 0;
        }
        if (errno != EADDRINUSE || waited_ms >= IN_USE_PATIENCE_MS) {
            return -1;
        }
        usleep(IN_USE_STEP_MS * 1000);
    }
}

/* Binds and listens; address becomes what was really bound. */
static err_t listener_bind(int fd, const char *text, struct uring_address *address)
{
    ASSERT(fd >= 0);
    int on = 1;
    if (address->kind == URING_TCP &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) {
        return err_errno(errno, "SO_REUSEADDR");
    }
    if (bind_patiently(fd, address) != 0) {
        return err_errno(errno, "listening on %s", text);
    }
    /* Before listen: nobody can connect until then. */
    if (address->kind != URING_TCP && chmod(address->local.sun_path, 0600) != 0) {
        return err_errno(errno, "setting the mode of %s", text);
    }
    if (listen(fd, BACKLOG) != 0) {
        return err_errno(errno, "listening on %s", text);
    }
    if (address->kind == URING_TCP) {
        socklen_t len = sizeof(address->storage);
        if (getsockname(fd, &address->any, &len) != 0) {
            return err_errno(errno, "address of %s", text);
        }
    }
    return ERR_OK;
}

/* A stale socket file, as a killed process leaves it, is removed first. */
err_t uring_listen(struct io_loop *loop, const char *text, io_accept_fn accepted_fn, void *arg,
                   struct io_listener **out)
{
    ASSERT(text != NULL);
    *out = NULL;
    struct uring_address address;
    TRY(uring_address_parse(text, true, &address));
    int type = address.kind == URING_PACKET ? SOCK_SEQPACKET : SOCK_STREAM;
    int fd = socket(address.any.sa_family, type | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_errno(errno, "making a socket for %s", text);
    }
    err_t err = listener_bind(fd, text, &address);
    if (err != ERR_OK) {
        close(fd);
        return err;
    }
    struct uring_listener *listener = MEM_NEW(struct uring_listener);
    listener->base.loop = loop;
    listener->loop = uring_loop_of(loop);
    listener->fd = fd;
    listener->address = address;
    uring_address_format(&address, listener->text, sizeof(listener->text));
    listener->accept_req.complete = accept_complete;
    listener->retry.fire = retry_fire;
    listener->accepted = accepted_fn;
    listener->arg = arg;
    uring_object_add(listener->loop, &listener->object, listener_shut, listener_free);
    accept_arm(listener);
    *out = &listener->base;
    return ERR_OK;
}
