/*
 * Signals through a signalfd, and doorbells: eventfds that other processes ring.
 *
 * Both are one blocking read that is always under way in io_uring. A signal is read as data on the
 * loop's thread, so its handler is an ordinary callback and may do anything. A doorbell carries no
 * data: several rings before the loop looks are one.
 */
#include "core/io/uring/uring.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { SIGNALS = 65 }; /* numbers are 1 to 64 on Linux */

/* One per loop; a process watches its signals on one loop only. */
struct uring_signals {
    struct uring_object object;
    struct uring_loop *loop;
    struct uring_req req;
    int fd;
    sigset_t set;
    struct signalfd_siginfo info; /* where the kernel reads into */
    void (*caught[SIGNALS])(void *arg, int signal_number);
    void *args[SIGNALS];
};

static void signals_arm(struct uring_signals *signals)
{
    ASSERT(signals->fd >= 0);
    struct io_uring_sqe *sqe = uring_sqe(signals->loop, &signals->req);
    io_uring_prep_read(sqe, signals->fd, &signals->info, sizeof(signals->info), 0);
    io_uring_sqe_set_data(sqe, &signals->req);
}

/* Reads one signal after the other, in the order of the kernel. */
static void signals_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_signals *signals = CONTAINER_OF(req, struct uring_signals, req);
    if (io_loop_dead(&signals->loop->base)) {
        return;
    }
    /* Taken out before the read is armed again: it reads into the same place. */
    int number = res == sizeof(signals->info) ? (int)signals->info.ssi_signo : 0;
    signals_arm(signals);
    if (number > 0 && number < SIGNALS && signals->caught[number] != NULL) {
        signals->caught[number](signals->args[number], number);
    }
}

/* The signals stay blocked: who did not watch them in time must not die of them now. */
static void signals_shut(struct uring_object *object)
{
    struct uring_signals *signals = CONTAINER_OF(object, struct uring_signals, object);
    uring_cancel(signals->loop, &signals->req);
}

static void signals_free(struct uring_object *object)
{
    struct uring_signals *signals = CONTAINER_OF(object, struct uring_signals, object);
    close(signals->fd);
    free(signals);
}

/* The loop's signalfd, with its first signal. */
static err_t signals_open(struct uring_loop *loop, const sigset_t *set)
{
    ASSERT(loop->signals == NULL);
    int fd = signalfd(-1, set, SFD_CLOEXEC);
    if (fd < 0) {
        return err_errno(errno, "signalfd");
    }
    struct uring_signals *signals = MEM_NEW(struct uring_signals);
    signals->loop = loop;
    signals->fd = fd;
    signals->set = *set;
    signals->req.complete = signals_complete;
    uring_object_add(loop, &signals->object, signals_shut, signals_free);
    signals_arm(signals);
    loop->signals = signals;
    return ERR_OK;
}

/* The same descriptor takes further signals into its set. */
err_t uring_signal_watch(struct io_loop *base, int signal_number,
                         void (*caught)(void *arg, int signal_number), void *arg)
{
    struct uring_loop *loop = uring_loop_of(base);
    ASSERT(signal_number > 0 && signal_number < SIGNALS && caught != NULL);
    sigset_t set;
    sigemptyset(&set);
    if (loop->signals != NULL) {
        set = loop->signals->set;
    }
    sigaddset(&set, signal_number);
    /* Inherited by threads started from here on: signals are watched before they are. */
    ASSERT(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    if (loop->signals == NULL) {
        TRY(signals_open(loop, &set));
    } else if (signalfd(loop->signals->fd, &set, SFD_CLOEXEC) < 0) {
        return err_errno(errno, "signalfd");
    }
    loop->signals->set = set;
    loop->signals->caught[signal_number] = caught;
    loop->signals->args[signal_number] = arg;
    return ERR_OK;
}

/* ---- doorbells ------------------------------------------------------------------------------- */

/* A doorbell; its descriptor goes to the processes that ring it. */
struct uring_bell {
    struct io_bell base;
    struct uring_object object;
    struct uring_loop *loop;
    struct uring_req req;
    int fd;
    uint64_t value; /* rings since the last read; not looked at */
    bool closed; /* the owner has; bell_complete frees it */
    void (*ring)(void *arg);
    void *arg;
};

static void bell_arm(struct uring_bell *bell)
{
    ASSERT(!bell->closed);
    struct io_uring_sqe *sqe = uring_sqe(bell->loop, &bell->req);
    io_uring_prep_read(sqe, bell->fd, &bell->value, sizeof(bell->value), 0);
    io_uring_sqe_set_data(sqe, &bell->req);
}

static void bell_free(struct uring_object *object)
{
    struct uring_bell *bell = CONTAINER_OF(object, struct uring_bell, object);
    close(bell->fd);
    free(bell);
}

/* Rings that came before the loop looked are one. */
static void bell_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_bell *bell = CONTAINER_OF(req, struct uring_bell, req);
    if (io_loop_dead(bell->base.loop)) {
        return;
    }
    if (bell->closed) {
        uring_object_remove(&bell->object);
        bell_free(&bell->object);
        return;
    }
    bell_arm(bell);
    if (res > 0) {
        bell->ring(bell->arg);
    }
}

static void bell_shut(struct uring_object *object)
{
    struct uring_bell *bell = CONTAINER_OF(object, struct uring_bell, object);
    uring_cancel(bell->loop, &bell->req);
}

err_t uring_bell_open(struct io_loop *loop, void (*ring)(void *arg), void *arg,
                      struct io_bell **out)
{
    ASSERT(ring != NULL);
    *out = NULL;
    /* Blocking, so that the read waits in io_uring; ringing never blocks in practice: the count
     * would have to reach 2^64 - 1. */
    int fd = eventfd(0, EFD_CLOEXEC);
    if (fd < 0) {
        return err_errno(errno, "eventfd");
    }
    struct uring_bell *bell = MEM_NEW(struct uring_bell);
    bell->base.loop = loop;
    bell->loop = uring_loop_of(loop);
    bell->fd = fd;
    bell->req.complete = bell_complete;
    bell->ring = ring;
    bell->arg = arg;
    uring_object_add(bell->loop, &bell->object, bell_shut, bell_free);
    bell_arm(bell);
    *out = &bell->base;
    return ERR_OK;
}

/* Borrowed: valid until the bell is closed. */
int uring_bell_fd(const struct io_bell *base)
{
    return ((const struct uring_bell *)base)->fd;
}

/* The read under way holds the bell until it was taken back. */
void uring_bell_close(struct io_bell *base)
{
    ASSERT(!((struct uring_bell *)base)->closed);
    struct uring_bell *bell = (struct uring_bell *)base;
    if (!io_loop_dead(base->loop)) {
        bell->closed = true; /* bell_complete frees it */
        uring_cancel(bell->loop, &bell->req);
        return;
    }
    uring_object_remove(&bell->object);
    bell_free(&bell->object);
}
