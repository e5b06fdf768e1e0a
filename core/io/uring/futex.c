/*
 * Sleeping on words of shared memory: a futex wait as a request of the ring, so that one sleep
 * covers it and everything else. liburing 2.3 does not know the operation, so the request is filled
 * here; whether the kernel does is asked of it when the ring is opened (Linux 6.7).
 */
#include "core/io/uring/uring.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    OP_FUTEX_WAIT = 51,     /* IORING_OP_FUTEX_WAIT */
    FUTEX2_WORD_U32 = 0x02, /* FUTEX2_SIZE_U32; without FUTEX2_PRIVATE: other processes wake it */
    FUTEX2_WORD_PRIVATE = 0x80, /* FUTEX2_PRIVATE */
};

/* Owned by its loop. One wait at a time is in the kernel; one that was not woken in its sleep stays
 * there for the next. */
struct uring_futex {
    struct io_futex base;
    struct uring_object object;
    struct uring_req req;
    const _Atomic uint32_t *word;
    bool closed;
    void (*woken)(void *arg);
    void *arg;
};

/* Once, when the ring is opened: a kernel that does not know the operation has us use doorbells. */
void uring_futex_probe(struct uring_loop *loop)
{
    ASSERT(loop->ring_open);
    struct io_uring_probe *probe = io_uring_get_probe_ring(&loop->ring);
    loop->futex = probe != NULL && io_uring_opcode_supported(probe, OP_FUTEX_WAIT) != 0 &&
                  (loop->env->disabled & URING_FEATURE_FUTEX) == 0;
    io_uring_free_probe(probe);
}

bool uring_has_futex(struct io_loop *loop)
{
    return uring_loop_of(loop)->futex;
}

static void futex_free(struct uring_object *object)
{
    free(CONTAINER_OF(object, struct uring_futex, object));
}

static void futex_shut(struct uring_object *object)
{
    struct uring_futex *futex = CONTAINER_OF(object, struct uring_futex, object);
    uring_cancel(uring_loop_of(futex->base.loop), &futex->req);
}

/* Woken, or the word was another one already: which comes to the same. */
static void futex_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_futex *futex = CONTAINER_OF(req, struct uring_futex, req);
    if (io_loop_dead(futex->base.loop)) {
        return;
    }
    if (futex->closed) {
        uring_object_remove(&futex->object);
        futex_free(&futex->object);
        return;
    }
    if (res == 0 || res == -EAGAIN) {
        futex->woken(futex->arg);
    }
}

err_t uring_futex_open(struct io_loop *base, const _Atomic uint32_t *word,
                       void (*woken)(void *arg), void *arg, struct io_futex **out)
{
    struct uring_loop *loop = uring_loop_of(base);
    ASSERT((uintptr_t)word % sizeof(*word) == 0);
    if (!loop->futex) {
        return err_new(ERR_UNSUPPORTED, "this kernel's io_uring cannot wait for a futex");
    }
    struct uring_futex *futex = MEM_NEW(struct uring_futex);
    futex->base.loop = base;
    futex->req.complete = futex_complete;
    futex->word = word;
    futex->woken = woken;
    futex->arg = arg;
    uring_object_add(loop, &futex->object, futex_shut, futex_free);
    *out = &futex->base;
    return ERR_OK;
}

/* A wait that is under way goes on: since it began the word has not been rung, or it ends soon. */
void uring_futex_arm(struct io_futex *base, uint32_t seen)
{
    struct uring_futex *futex = (struct uring_futex *)base;
    ASSERT(!futex->closed);
    if (futex->req.active) {
        return;
    }
    struct io_uring_sqe *sqe = uring_sqe(uring_loop_of(base->loop), &futex->req);
    io_uring_prep_rw(OP_FUTEX_WAIT, sqe, FUTEX2_WORD_U32, (const void *)futex->word, 0, seen);
    sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
    io_uring_sqe_set_data(sqe, &futex->req);
}

void uring_futex_close(struct io_futex *base)
{
    struct uring_futex *futex = (struct uring_futex *)base;
    ASSERT(!futex->closed);
    if (!io_loop_dead(base->loop) && futex->req.active) {
        futex->closed = true; /* futex_complete frees it */
        uring_cancel(uring_loop_of(base->loop), &futex->req);
        return;
    }
    uring_object_remove(&futex->object);
    futex_free(&futex->object);
}

/*
 * The kernel compares the word again before it waits, so a rouse in between ends the wait at once.
 * Two wakes there and back cost 27 us by futex here, 35 by an eventfd.
 */
void uring_futex_prep_roused(struct uring_loop *loop, struct io_uring_sqe *sqe)
{
    ASSERT(loop->futex && loop->wake_fd < 0);
    /* Relaxed: compared again; what was posted before is found by loop_sleep's last look. */
    uint32_t seen = atomic_load_explicit(&loop->roused, memory_order_relaxed);
    io_uring_prep_rw(OP_FUTEX_WAIT, sqe, FUTEX2_WORD_U32 | FUTEX2_WORD_PRIVATE,
                     (const void *)&loop->roused, 0, seen);
    sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
}

void uring_rouse(struct uring_loop *loop)
{
    if (loop->wake_fd >= 0) {
        uint64_t one = 1;
        ssize_t written = write(loop->wake_fd, &one, sizeof(one));
        ASSERT(written == sizeof(one));
        return;
    }
    /* Relaxed: the wake is the kernel's, which orders it against its look at the word. */
    atomic_fetch_add_explicit(&loop->roused, 1, memory_order_relaxed);
    long woken = syscall(SYS_futex, &loop->roused, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    ASSERT(woken >= 0);
}

void io_futex_wake(const _Atomic uint32_t *word)
{
    /* Fails only for addresses nobody could wait on. */
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    ASSERT(woken >= 0);
}
