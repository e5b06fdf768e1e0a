/*
 * The event loop: one io_uring, one thread. A round runs posted tasks, due timers, streams with
 * something to do, submits what was prepared, handles completions and polls the pollers. When a
 * round did nothing the loop spins for a moment if work has been coming often, then sleeps in
 * io_uring, where one wait covers sockets, files, timers and posts from other threads.
 *
 * Why no wake is lost: see loop_sleep. Before it sleeps the loop says so (sleeping, and arm of
 * every poller), and then looks once more for what came before others could have known.
 *
 * Fairness: each source is bounded per round (TASKS_A_ROUND, CQES_A_ROUND, TIMERS_A_ROUND), so a
 * source that never runs dry cannot starve the others.
 *
 * Entry points: uring_loop_new (any thread), uring_loop_open and uring_loop_run (the loop's
 * thread).
 */
#include "core/io/uring/uring.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Enough to make the submit of a round worth while, small against what a user notices. */
enum {
    TASKS_A_ROUND = 256,
    CQES_A_ROUND = 512,
};

/* ---- opening and closing --------------------------------------------------------------------- */

#ifdef __SANITIZE_THREAD__
/*
 * liburing maps and unmaps without libc, so the sanitizer takes a ring that lies where one of an
 * ended thread has been for the same memory. What it is told is true: the address was given back
 * before it was given out again. The names are the compiler's.
 */
void __tsan_acquire(void *at);
void __tsan_release(void *at);
#else
#define __tsan_acquire(at) ((void)(at))
#define __tsan_release(at) ((void)(at))
#endif

static void ring_close(struct uring_loop *loop)
{
    __tsan_release(loop->ring.sq.sqes);
    io_uring_queue_exit(&loop->ring);
    loop->ring_open = false;
}

/* Only memory: the ring is opened by the thread that will run the loop. */
struct uring_loop *uring_loop_new(struct uring_env *env)
{
    struct uring_loop *loop = MEM_NEW(struct uring_loop);
    loop->base.backend = &uring_backend;
    loop->base.env = &env->base;
    loop->env = env;
    loop->wake_fd = -1;
    loop->spin_ns = URING_SPIN_DEFAULT_US * 1000;
    loop->idle_average = UINT64_MAX / 16; /* no spinning before work has come often */
    loop->objects.prev = loop->objects.next = &loop->objects;
    uring_tasks_init(&loop->tasks);
    ASSERT(pthread_mutex_lock(&env->lock) == 0);
    loop->next_of_env = env->loops;
    env->loops = loop;
    ASSERT(pthread_mutex_unlock(&env->lock) == 0);
    return loop;
}

/* Says what to do about the usual reasons. */
static err_t ring_refused(int error)
{
    ASSERT(error > 0);
    err_t err = err_errno(error, "setting up io_uring");
    if (error == ENOSYS) {
        err_hint(err, "This kernel has no io_uring: Linux 5.11 or newer is needed.");
    } else if (error == EPERM || error == EACCES) {
        err_hint(err, "io_uring is forbidden here. Set sysctl kernel.io_uring_disabled=0, or run "
                      "the container with a seccomp profile that allows io_uring_setup, "
                      "io_uring_enter and io_uring_register.");
    } else if (error == ENOMEM) {
        err_hint(err, "The locked memory limit may be too small: raise it (ulimit -l).");
    }
    return err;
}

/* CLAMP: a smaller ring than asked for will do, and sqe_get copes with a full one. */
static int ring_try(struct uring_loop *loop, unsigned flags)
{
    struct io_uring_params params = {.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
                                     .cq_entries = URING_CQ_ENTRIES};
    return io_uring_queue_init_params(URING_SQ_ENTRIES, &loop->ring, &params);
}

/* Tries the flags of newer kernels first. */
static err_t ring_open(struct uring_loop *loop)
{
    ASSERT(!loop->ring_open);
    /* Best first: completions are gathered only when the loop asks for them, and a flag in shared
     * memory tells that there are some. Older kernels answer EINVAL. */
    static const unsigned flags[] = {
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
            IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        0,
    };
    int error = -EINVAL;
    size_t first = (loop->env->disabled & URING_FEATURE_DEFER) != 0 ? 2 : 0;
    for (size_t i = first; i < ARRAY_LEN(flags) && error == -EINVAL; i++) {
        error = ring_try(loop, flags[i]);
    }
    if (error != 0) {
        return ring_refused(-error);
    }
    loop->ring_open = true;
    __tsan_acquire(loop->ring.sq.sqes);
    uring_futex_probe(loop);
    if ((loop->ring.features & IORING_FEAT_EXT_ARG) == 0) {
        return err_hint(err_new(ERR_UNSUPPORTED, "io_uring of this kernel is too old"),
                        "Linux 5.11 or newer is needed.");
    }
    return ERR_OK;
}

/* Buffers the kernel picks from when data arrives: idle connections hold none. */
static void buffers_open(struct uring_loop *loop)
{
    ASSERT(loop->ring_open && loop->buf_ring == NULL);
    loop->multishot = (loop->env->disabled & URING_FEATURE_MULTISHOT) == 0;
    if ((loop->env->disabled & URING_FEATURE_BUF_RING) != 0) {
        return;
    }
    size_t len = sizeof(struct io_uring_buf) * URING_RECV_BUFFERS;
    void *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    ASSERT(memory != MAP_FAILED);
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)memory,
                                   .ring_entries = URING_RECV_BUFFERS};
    if (io_uring_register_buf_ring(&loop->ring, &reg, 0) != 0) {
        munmap(memory, len);
        return; /* before Linux 5.19: each stream has a buffer of its own */
    }
    loop->buf_ring = memory;
    loop->buf_ring_len = len;
    loop->buf_memory = mem_alloc((size_t)URING_RECV_BUFFERS * URING_RECV_BUFFER_LEN);
    io_uring_buf_ring_init(loop->buf_ring);
    for (int i = 0; i < URING_RECV_BUFFERS; i++) {
        io_uring_buf_ring_add(loop->buf_ring, loop->buf_memory + (size_t)i * URING_RECV_BUFFER_LEN,
                              URING_RECV_BUFFER_LEN, (unsigned short)i,
                              io_uring_buf_ring_mask(URING_RECV_BUFFERS), i);
    }
    io_uring_buf_ring_advance(loop->buf_ring, URING_RECV_BUFFERS);
}

/* A wait for the futex, or a read of the eventfd, is always under way: a post ends the wait of a
 * sleeping loop. */
static void wake_arm(struct uring_loop *loop)
{
    struct io_uring_sqe *sqe = uring_sqe(loop, &loop->wake_req);
    if (loop->wake_fd < 0) {
        uring_futex_prep_roused(loop, sqe);
    } else {
        io_uring_prep_read(sqe, loop->wake_fd, &loop->wake_value, sizeof(loop->wake_value), 0);
    }
    io_uring_sqe_set_data(sqe, &loop->wake_req);
}

/* The value does not matter: that the loop is awake is all a post wants. */
static void wake_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_loop *loop = CONTAINER_OF(req, struct uring_loop, wake_req);
    if (!io_loop_dead(&loop->base)) {
        wake_arm(loop);
    }
}

/*
 * With SINGLE_ISSUER a ring belongs to the thread that made it. After an error the loop is dead,
 * and uring_loop_free takes what was made so far.
 */
err_t uring_loop_open(struct uring_loop *loop)
{
    ASSERT(!loop->ring_open && loop->wake_fd < 0);
    loop->base.thread = pthread_self();
    loop->base.counters = &loop->base.own_counters;
    err_t err = ring_open(loop);
    if (err == ERR_OK && !loop->futex) {
        loop->wake_fd = eventfd(0, EFD_CLOEXEC);
        err = loop->wake_fd < 0 ? err_errno(errno, "eventfd") : ERR_OK;
    }
    if (err != ERR_OK) {
        io_loop_set_dead(&loop->base);
        return err;
    }
    /* Spares each system call the lookup of the ring; not before Linux 5.18, which does no harm. */
    (void)io_uring_register_ring_fd(&loop->ring);
    buffers_open(loop);
    loop->wake_req.complete = wake_complete;
    wake_arm(loop);
    return ERR_OK;
}

/* At the end: objects are shut in the order in which they were opened. */
void uring_object_add(struct uring_loop *loop, struct uring_object *object,
                      void (*shut)(struct uring_object *), void (*free_fn)(struct uring_object *))
{
    ASSERT(shut != NULL && free_fn != NULL && object->link.next == NULL);
    object->shut = shut;
    object->free = free_fn;
    object->link.prev = loop->objects.prev;
    object->link.next = &loop->objects;
    loop->objects.prev->next = &object->link;
    loop->objects.prev = &object->link;
}

/* link.next is NULL from here on, which accept_complete and others ask for. */
void uring_object_remove(struct uring_object *object)
{
    ASSERT(object->link.next != NULL);
    object->link.prev->next = object->link.next;
    object->link.next->prev = object->link.prev;
    object->link.prev = object->link.next = NULL;
}

static struct uring_object *object_of(struct uring_link *link)
{
    return CONTAINER_OF(link, struct uring_object, link);
}

/* The loop has ended, or its ring never opened. */
void uring_loop_free(struct uring_loop *loop)
{
    ASSERT(io_loop_dead(&loop->base) && loop->inflight == 0);
    if (loop->ring_open) {
        ring_close(loop);
    }
    if (loop->wake_fd >= 0) {
        close(loop->wake_fd);
    }
    while (loop->objects.next != &loop->objects) {
        struct uring_object *object = object_of(loop->objects.next);
        uring_object_remove(object);
        object->free(object);
    }
    while (loop->chunks != NULL) {
        struct uring_chunk *chunk = loop->chunks;
        loop->chunks = chunk->next;
        free(chunk);
    }
    free(loop->warm_buffer);
    free(loop->timers);
    free(loop->deferred);
    free(loop);
}

/* ---- requests and completions ---------------------------------------------------------------- */

/* Hands prepared requests to the kernel; some may remain for the next time. */
static void submit(struct uring_loop *loop)
{
    int submitted = io_uring_submit(&loop->ring);
    /* EBUSY and EAGAIN: completions are to be taken first. EINTR: again later. */
    ASSERT(submitted >= 0 || submitted == -EBUSY || submitted == -EAGAIN || submitted == -EINTR);
}

/* Copies the next completion and gives its place back, so that handling it may nest. */
static bool take_cqe(struct uring_loop *loop, struct uring_cqe *out)
{
    struct io_uring_cqe *cqe;
    if (io_uring_peek_cqe(&loop->ring, &cqe) != 0) {
        return false;
    }
    *out = (struct uring_cqe){cqe->user_data, cqe->res, cqe->flags};
    io_uring_cqe_seen(&loop->ring, cqe);
    return true;
}

/* Kept in order for completions_run. Bounded by what is in the kernel (inflight). */
static void defer(struct uring_loop *loop, const struct uring_cqe *cqe)
{
    *VEC_PUSH(loop, deferred) = *cqe;
}

/* A free entry; when the queue is full it is submitted first. */
static struct io_uring_sqe *sqe_get(struct uring_loop *loop)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
    while (sqe == NULL) {
        /* Submitting may fail for want of room for completions: these are put aside, not run,
         * since the caller is in the middle of something. */
        submit(loop);
        struct uring_cqe cqe;
        while (io_uring_sq_space_left(&loop->ring) == 0 && take_cqe(loop, &cqe)) {
            defer(loop, &cqe);
        }
        sqe = io_uring_get_sqe(&loop->ring);
    }
    loop->inflight++;
    return sqe;
}

/* The caller prepares it and then sets its data to req: io_uring_prep_* clears that field. */
struct io_uring_sqe *uring_sqe(struct uring_loop *loop, struct uring_req *req)
{
    ASSERT(!req->active && req->complete != NULL);
    req->active = true;
    return sqe_get(loop);
}

/* For file.c, whose requests live in the users' io_op; the address leaves room for the tag. */
struct io_uring_sqe *uring_sqe_op(struct uring_loop *loop, struct io_op *op)
{
    ASSERT(((uintptr_t)op & URING_OP_TAG) == 0);
    return sqe_get(loop);
}

/*
 * Nothing when it is not in the kernel. The answer to the cancellation itself (data 0) is ignored.
 */
void uring_cancel(struct uring_loop *loop, struct uring_req *req)
{
    if (req->active) {
        struct io_uring_sqe *sqe = sqe_get(loop);
        io_uring_prep_cancel64(sqe, (uintptr_t)req, 0);
        io_uring_sqe_set_data64(sqe, 0);
    }
}

/* Gives a completion to whom it belongs. */
static void dispatch(struct uring_loop *loop, const struct uring_cqe *cqe)
{
    bool last = (cqe->flags & IORING_CQE_F_MORE) == 0;
    if (last) { /* of a multishot request this one only; each other request has one */
        ASSERT(loop->inflight > 0);
        loop->inflight--;
    }
    if (cqe->user_data == 0) {
        return;
    }
    if ((cqe->user_data & URING_OP_TAG) != 0) {
        uring_op_complete(loop, (struct io_op *)(uintptr_t)(cqe->user_data & ~URING_OP_TAG),
                          cqe->res);
        return;
    }
    struct uring_req *req = (struct uring_req *)(uintptr_t)cqe->user_data;
    ASSERT(req->active);
    ASSERT(req->complete != NULL);
    req->active = !last; /* before: complete() may submit it again, or free it */
    req->complete(req, cqe->res, cqe->flags);
}

/* The next completion: those put aside come first, they are older. */
static bool next_cqe(struct uring_loop *loop, struct uring_cqe *out)
{
    if (loop->deferred_at < loop->deferred_len) {
        *out = loop->deferred[loop->deferred_at++];
        return true;
    }
    ASSERT(loop->deferred_at == loop->deferred_len);
    loop->deferred_at = loop->deferred_len = 0;
    return take_cqe(loop, out);
}

/* Bounded, so that tasks, timers and pollers have their turn. */
static bool completions_run(struct uring_loop *loop)
{
    struct uring_cqe cqe;
    size_t done = 0;
    while (done < CQES_A_ROUND && !loop->stop && next_cqe(loop, &cqe)) {
        dispatch(loop, &cqe);
        done++;
    }
    return done > 0;
}

/* Of the completions put aside, takes out and handles those that are mine. */
static void wait_deferred(struct uring_loop *loop, bool (*mine)(void *arg, uint64_t user_data),
                          void *arg)
{
    ASSERT(loop->deferred_at <= loop->deferred_len);
    for (size_t i = loop->deferred_at; i < loop->deferred_len;) {
        if (!mine(arg, loop->deferred[i].user_data)) {
            i++;
            continue;
        }
        struct uring_cqe cqe = loop->deferred[i];
        memmove(&loop->deferred[i], &loop->deferred[i + 1],
                (loop->deferred_len - i - 1) * sizeof(cqe));
        loop->deferred_len--;
        dispatch(loop, &cqe);
    }
}

void uring_wait(struct uring_loop *loop, bool (*mine)(void *arg, uint64_t user_data),
                bool (*over)(void *arg), void *arg)
{
    wait_deferred(loop, mine, arg);
    /* Comes to an end: what is waited for was cancelled, or the kernel is working on it. */
    while (!over(arg)) {
        struct uring_cqe cqe;
        if (!take_cqe(loop, &cqe)) {
            int error = io_uring_submit_and_wait(&loop->ring, 1);
            ASSERT(error >= 0 || error == -EINTR || error == -EBUSY || error == -EAGAIN);
            continue;
        }
        if (mine(arg, cqe.user_data)) {
            dispatch(loop, &cqe);
        } else {
            defer(loop, &cqe);
        }
    }
}

/* For uring_wait: the completions of one request. */
static bool req_mine(void *arg, uint64_t user_data)
{
    return user_data == (uintptr_t)arg;
}

static bool req_over(void *arg)
{
    return !((struct uring_req *)arg)->active;
}

/* The caller has cancelled it, or knows that it ends by itself. */
void uring_wait_req(struct uring_loop *loop, struct uring_req *req)
{
    uring_wait(loop, req_mine, req_over, req);
}

#if defined(__SANITIZE_THREAD__)
/* liburing unmaps a ring by a system call of its own, which the sanitizer does not see: the ring of
 * a later thread at the same address would pass for the earlier one's. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:liburing.h";
}
#endif

/* ---- running --------------------------------------------------------------------------------- */

/* Bounded, for the same reason. */
static bool tasks_run(struct uring_loop *loop)
{
    size_t done = 0;
    while (done < TASKS_A_ROUND && !loop->stop) {
        struct io_task *task = uring_tasks_pop(&loop->tasks);
        if (task == NULL) {
            break;
        }
        task->run(task);
        done++;
    }
    return done > 0;
}

/* One turn of everything; true when anything was done. */
static bool loop_round(struct uring_loop *loop)
{
    /*
     * Tasks, timers and pollers first: they are what makes streams dirty. Streams then, so that
     * everything a round has written goes out with one submit; completions last, whose callbacks
     * are the beginning of the next round's work.
     */
    bool worked = tasks_run(loop);
    worked |= uring_timers_run(loop);
    worked |= !loop->stop && io_loop_poll(&loop->base, false);
    worked |= uring_streams_run(loop);
    if (io_uring_sq_ready(&loop->ring) > 0) {
        submit(loop);
    }
    worked |= completions_run(loop);
    worked |= !loop->stop && uring_warm_look(loop);
    return worked;
}

/* Publishes to every poller's peers that we sleep; false when work turned up meanwhile. */
static bool pollers_arm(struct uring_loop *loop)
{
    bool quiet = true;
    for (struct io_poller *at = loop->base.pollers; at != NULL; at = at->next) {
        if (at->arm != NULL && at->arm(at)) {
            quiet = false;
        }
    }
    return quiet;
}

/* Awake again: peers need not ring any more. */
static void pollers_disarm(struct uring_loop *loop)
{
    for (struct io_poller *at = loop->base.pollers; at != NULL; at = at->next) {
        if (at->disarm != NULL) {
            at->disarm(at);
        }
    }
}

/* Sleeps in the kernel until a completion comes or the first timer is due. */
static void wait_events(struct uring_loop *loop)
{
    struct __kernel_timespec timeout = {0};
    struct __kernel_timespec *limit = NULL;
    if (loop->timers_len > 0) {
        uint64_t now = io_now_us(&loop->base);
        uint64_t deadline = loop->timers[1]->deadline_us;
        uint64_t left = deadline > now ? deadline - now : 0;
        timeout.tv_sec = (long long)(left / 1000000);
        timeout.tv_nsec = (long long)(left % 1000000 * 1000);
        limit = &timeout;
    }
    struct io_uring_cqe *cqe;
    int error = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, limit, NULL);
    ASSERT(error >= 0 || error == -ETIME || error == -EINTR || error == -EBUSY ||
           error == -EAGAIN);
}

/* Announces the sleep, looks once more for work, sleeps. */
static void loop_sleep(struct uring_loop *loop)
{
    ASSERT(!io_loop_dead(&loop->base));
    uring_warm_end(loop);
    /* seq_cst: pairs with the load in post (env.c); see there. */
    atomic_store_explicit(&loop->sleeping, 1, memory_order_seq_cst);
    if (pollers_arm(loop) && uring_tasks_empty(&loop->tasks) && loop->dirty == NULL &&
        loop->deferred_at == loop->deferred_len && !loop->stop) {
        io_loop_count(&loop->base.counters->sleeps);
        wait_events(loop);
        /* Relaxed: a measurement; pairs with post (env.c). */
        uint64_t rung = atomic_exchange_explicit(&loop->rung_ns, 0, memory_order_relaxed);
        if (rung != 0) {
            uring_note_wake(&loop->base, rung);
        }
    }
    /* Relaxed: a poster that still reads 1 rouses once for nothing. */
    atomic_store_explicit(&loop->sleeping, 0, memory_order_relaxed);
    pollers_disarm(loop);
}

/* Lets go of everything in the kernel and waits until it has. */
static void loop_close(struct uring_loop *loop)
{
    /*
     * The order matters: dead first, so that nothing that follows runs a user's callback; then
     * timers and tasks, which live in users' memory; then the objects let go of the kernel; then
     * every request comes back, and only after that the ring and its buffers go.
     */
    io_loop_set_dead(&loop->base);
    while (loop->timers_len > 0) {
        uring_timer_cancel(&loop->base, loop->timers[loop->timers_len]);
    }
    while (uring_tasks_pop(&loop->tasks) != NULL) {
        /* Not run: but nothing may point into their owners' memory. */
    }
    for (struct uring_link *at = loop->objects.next; at != &loop->objects;) {
        struct uring_object *object = object_of(at);
        at = at->next; /* shut may free the object itself, no other */
        object->shut(object);
    }
    uring_cancel(loop, &loop->wake_req);
    while (loop->inflight > 0) {
        struct uring_cqe cqe;
        if (next_cqe(loop, &cqe)) {
            dispatch(loop, &cqe);
        } else {
            int error = io_uring_submit_and_wait(&loop->ring, 1);
            ASSERT(error >= 0 || error == -EINTR || error == -EBUSY || error == -EAGAIN);
        }
    }
    if (loop->buf_ring != NULL) {
        io_uring_unregister_buf_ring(&loop->ring, 0);
        munmap(loop->buf_ring, loop->buf_ring_len);
        free(loop->buf_memory);
        loop->buf_ring = NULL;
    }
    ASSERT(loop->inflight == 0 && loop->timers_len == 0);
    ring_close(loop);
}

/* Until io_loop_stop; then closes what is open. The memory stays with the environment. */
void uring_loop_run(struct uring_loop *loop)
{
    while (!loop->stop) {
        if (loop_round(loop)) {
            uring_idle_end(loop);
        } else if (!loop->stop && !uring_spin(loop)) {
            loop_sleep(loop);
        }
    }
    loop_close(loop);
}
