/*
 * Barriers by bare calls of the kernel. See barrier.h. Each thread says how many rounds it has
 * reached and wakes the other; then it sleeps until the other has reached as many. That is what a
 * barrier of workers does when nobody spins, with no loop, no lane and no message around it. The
 * second thread says which round is the last one, in front of its count.
 */
#include "bench/barrier.h"

#include "bench/machine.h"
#include "core/base/assert.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One of the two. */
struct side {
    _Alignas(128) _Atomic uint32_t reached; /* rounds; the other sleeps on it */
    int bell;                               /* eventfd: rung when reached has grown; -1: futex */
};

struct barrier {
    struct side side[2];
    _Atomic uint32_t last; /* number of the round after which it is over; 0: not known yet */
    uint64_t run_ns;
    struct hist *hist;
};

static void ring(struct side *side)
{
    if (side->bell < 0) {
        long woken = syscall(SYS_futex, &side->reached, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        ASSERT(woken >= 0);
        return;
    }
    uint64_t one = 1;
    ssize_t written = write(side->bell, &one, sizeof(one));
    ASSERT(written == sizeof(one));
}

/* Asleep, until it may be that it has grown; seen: what it was. */
static void sleep_on(struct side *side, uint32_t seen)
{
    if (side->bell < 0) {
        (void)syscall(SYS_futex, &side->reached, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        return;
    }
    uint64_t rung;
    ssize_t got = read(side->bell, &rung, sizeof(rung));
    ASSERT(got == sizeof(rung));
}

static void meet(struct barrier *b, int self, uint32_t round)
{
    struct side *mine = &b->side[self];
    struct side *other = &b->side[1 - self];
    /* Release: pairs with the acquire below; `last` is there. */
    atomic_store_explicit(&mine->reached, round, memory_order_release);
    ring(mine);
    for (;;) {
        /* Acquire: pairs with the release above, of the other. */
        uint32_t seen = atomic_load_explicit(&other->reached, memory_order_acquire);
        if ((int32_t)(seen - round) >= 0) {
            return;
        }
        sleep_on(other, seen);
    }
}

static void *measuring(void *arg)
{
    struct barrier *b = arg;
    machine_pin(1);
    uint64_t start = machine_now_ns();
    uint64_t before = start;
    bool over = false;
    for (uint32_t round = 1; !over; round++) {
        over = before - start >= b->run_ns;
        if (over) {
            /* Relaxed: ordered by reached. */
            atomic_store_explicit(&b->last, round, memory_order_relaxed);
        }
        meet(b, 1, round);
        uint64_t now = machine_now_ns();
        hist_add(b->hist, now - before);
        before = now;
    }
    return NULL;
}

static void run(uint64_t run_ns, struct hist *hist, bool bells)
{
    struct barrier b = {.run_ns = run_ns, .hist = hist};
    pthread_t thread;
    hist_clear(hist);
    for (int i = 0; i < 2; i++) {
        b.side[i].bell = bells ? eventfd(0, EFD_CLOEXEC) : -1;
        ASSERT(!bells || b.side[i].bell >= 0);
    }
    int rc = pthread_create(&thread, NULL, measuring, &b);
    ASSERT(rc == 0);
    machine_pin(0);
    uint32_t last = 0;
    for (uint32_t round = 1; last == 0 || round <= last; round++) {
        meet(&b, 0, round);
        /* Relaxed: ordered by reached; the other is at this round or the next one. */
        last = atomic_load_explicit(&b.last, memory_order_relaxed);
    }
    pthread_join(thread, NULL);
    machine_pin(-1);
    for (int i = 0; bells && i < 2; i++) {
        close(b.side[i].bell);
    }
}

void barrier_futex(uint64_t run_ns, struct hist *hist)
{
    run(run_ns, hist, false);
}

void barrier_eventfd(uint64_t run_ns, struct hist *hist)
{
    run(run_ns, hist, true);
}
