/*
 * Connecting: numeric addresses at once; names are looked up by getaddrinfo on a thread of their
 * own, because it blocks, and each address it found is tried in turn.
 *
 * There is no time limit here: the owner of the stream has one, and closes it. Closing abandons the
 * lookup (its thread frees it when getaddrinfo returns) and cancels the connect.
 */
#include "core/io/uring/stream.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/*
 * Shared by the looking thread and the stream; freed by whoever lets go last. The thread may be
 * stuck in getaddrinfo long after the stream, and even the loop, gave up.
 */
struct uring_lookup {
    pthread_mutex_t lock;        /* guards over, and the thread's look at stream */
    struct uring_stream *stream; /* NULL: nobody waits */
    bool over;                   /* the thread is done with it */
    char host[256];
    char port[8];
    int error;              /* of getaddrinfo; written before the post */
    struct addrinfo *found; /* likewise */
    struct addrinfo *next;  /* the loop's: to be tried next */
    struct io_task task;
};

/* By the last to let go: nobody holds the lock, or wants it. */
static void lookup_free(struct uring_lookup *lookup)
{
    if (lookup->found != NULL) {
        freeaddrinfo(lookup->found);
    }
    ASSERT(pthread_mutex_destroy(&lookup->lock) == 0);
    free(lookup);
}

static void connect_start(struct uring_stream *s);

/* The next address found for the name, or the end. last: what the one before failed with. */
static void connect_next(struct uring_stream *s, int last)
{
    ASSERT(last > 0);
    struct uring_lookup *lookup = s->lookup;
    if (lookup == NULL || lookup->next == NULL) {
        uring_stream_end(s, err_errno(last, "connecting to %s", s->peer));
        return;
    }
    struct addrinfo *info = lookup->next;
    lookup->next = info->ai_next;
    /* The resolver's, which knows IPv4 and IPv6 only (hints in lookup_run). */
    ASSERT(info->ai_addrlen <= sizeof(s->address.storage));
    memcpy(&s->address.storage, info->ai_addr, info->ai_addrlen);
    s->address.len = info->ai_addrlen;
    if (s->fd >= 0) {
        close(s->fd); /* no request of it is left in the kernel */
        s->fd = -1;
    }
    connect_start(s);
}

/* Established, or the next address is tried. */
static void connect_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_stream *s = CONTAINER_OF(req, struct uring_stream, connect_req);
    uring_stream_dirty(s);
    if (s->closed || io_loop_dead(s->base.loop)) {
        return;
    }
    if (res < 0) {
        connect_next(s, -res);
        return;
    }
    s->connecting = false;
    uring_connect_abandon(s); /* the lookup has served */
    if (s->connected != NULL && !s->finishing) {
        s->connected(s->base.arg, &s->base);
    }
}

/* A fresh socket for every attempt. */
static err_t connect_socket(struct uring_stream *s)
{
    ASSERT(s->fd < 0);
    int type = s->kind == URING_PACKET ? SOCK_SEQPACKET : SOCK_STREAM;
    s->fd = socket(s->address.any.sa_family, type | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        return err_errno(errno, "making a socket for %s", s->peer);
    }
    if (s->kind == URING_TCP) {
        uring_tcp_options(s->fd);
    }
    return ERR_OK;
}

/* One attempt, with the address that is set. */
static void connect_start(struct uring_stream *s)
{
    ASSERT(s->connecting && !s->connect_req.active);
    err_t err = connect_socket(s);
    if (err != ERR_OK) {
        uring_stream_end(s, err);
        return;
    }
    s->connect_req.complete = connect_complete;
    struct io_uring_sqe *sqe = uring_sqe(s->loop, &s->connect_req);
    io_uring_prep_connect(sqe, s->fd, &s->address.any, s->address.len);
    io_uring_sqe_set_data(sqe, &s->connect_req);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Runs on the loop once the thread has an answer, unless the stream gave it up before. */
static void lookup_done(struct io_task *task)
{
    struct uring_lookup *lookup = CONTAINER_OF(task, struct uring_lookup, task);
    struct uring_stream *s = lookup->stream; /* abandoning takes the task back, so it is there */
    ASSERT(s != NULL);
    if (lookup->error != 0) {
        uring_stream_end(s, err_new(ERR_UNAVAILABLE, "looking up %s: %s", lookup->host,
                                    gai_strerror(lookup->error)));
        return;
    }
    lookup->next = lookup->found;
    connect_next(s, EHOSTUNREACH);
}

/* The thread. It holds the lock when it posts, so that the stream is still there. */
static void *lookup_run(void *arg)
{
    struct uring_lookup *lookup = arg;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    lookup->error = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found);
    ASSERT(pthread_mutex_lock(&lookup->lock) == 0);
    bool wanted = lookup->stream != NULL;
    lookup->over = true;
    if (wanted) {
        /* Under the lock: the loop stays as long as the stream has not let go. */
        io_post(lookup->stream->base.loop, &lookup->task);
    }
    ASSERT(pthread_mutex_unlock(&lookup->lock) == 0);
    if (!wanted) {
        lookup_free(lookup);
    }
    return NULL;
}

/* The thread is detached: it cannot be waited for, since getaddrinfo may take minutes. */
static err_t lookup_start(struct uring_stream *s)
{
    struct uring_lookup *lookup = MEM_NEW(struct uring_lookup);
    ASSERT(pthread_mutex_init(&lookup->lock, NULL) == 0);
    lookup->stream = s;
    memcpy(lookup->host, s->address.host, sizeof(lookup->host));
    memcpy(lookup->port, s->address.port, sizeof(lookup->port));
    lookup->task.run = lookup_done;
    /* Signals are for the threads that wait for them. */
    sigset_t all;
    sigset_t old;
    sigfillset(&all);
    ASSERT(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
    pthread_t thread;
    int error = pthread_create(&thread, NULL, lookup_run, lookup);
    ASSERT(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
    if (error != 0) {
        lookup_free(lookup);
        return err_errno(error, "starting a thread to look up %s", s->address.host);
    }
    ASSERT(pthread_detach(thread) == 0);
    s->lookup = lookup;
    return ERR_OK;
}

/* Whichever side is the last to be done frees the lookup. */
static void lookup_abandon(struct uring_stream *s)
{
    ASSERT(s->lookup->stream == s);
    struct uring_lookup *lookup = s->lookup;
    s->lookup = NULL;
    ASSERT(pthread_mutex_lock(&lookup->lock) == 0);
    bool over = lookup->over;
    lookup->stream = NULL;
    ASSERT(pthread_mutex_unlock(&lookup->lock) == 0);
    if (over) { /* else the thread frees it, perhaps already */
        io_task_cancel(s->base.loop, &lookup->task);
        lookup_free(lookup);
    }
}

/* Nothing of the connecting is left to come but the completion of the cancelled request. */
void uring_connect_abandon(struct uring_stream *s)
{
    if (s->lookup != NULL) {
        lookup_abandon(s);
    }
    uring_cancel(s->loop, &s->connect_req);
}

/* Errors after the address was understood come through the handler's close, from the loop. */
err_t uring_connect(struct io_loop *loop, const char *text, const struct io_stream_handler *handler,
                    void *arg, io_connect_fn connected, struct io_stream **out)
{
    *out = NULL;
    struct uring_address address;
    TRY(uring_address_parse(text, false, &address));
    struct uring_stream *s = uring_stream_new(uring_loop_of(loop), -1, address.kind);
    s->base.handler = handler;
    s->base.arg = arg;
    s->address = address;
    s->connected = connected;
    s->connecting = true;
    snprintf(s->peer, sizeof(s->peer), "%s", text);
    if (address.host[0] == '\0') {
        connect_start(s);
    } else {
        err_t err = lookup_start(s);
        if (err != ERR_OK) {
            uring_stream_end(s, err);
        }
    }
    *out = &s->base;
    return ERR_OK;
}
