/*
 * Looking for work instead of sleeping. Being woken costs tens of microseconds in a virtual machine
 * and some even without (most of it the waking of the CPU), for the waker as well; so a loop looks
 * on while work has been coming faster than about twice that. Where others want the CPU, looking
 * takes it from the very process that is waited for: the loop yields, and if that takes long
 * without bringing work, it sleeps.
 */
#include "core/io/uring/uring.h"

#include <sched.h>
#include <sys/resource.h>

enum {
    WAKE_NS = 25 * 1000,         /* believed to be the cost until one was measured */
    WAKE_NS_MIN = 1000,          /* measured costs are kept within these bounds */
    WAKE_NS_MAX = 100 * 1000,
    IDLE_CAP_NS = 1000 * 1000,   /* longer stretches without work count as this */
    LOOKS = 32,                  /* between two looks at the clock, */
    FINDS = 8,                   /* or so many that found work */
    KEEN_NS = 1000,              /* so long without a pause between looks */
    YIELD_NS = 12000,            /* from one yield to the next */
    YIELD_LONG_NS = 3000,        /* a yield that took longer let somebody else run */
    CROWDED_NS = 2 * 1000 * 1000,
    ROUND_NS = 20 * 1000,        /* the longest without a round of everything */
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint64_t wake_cost(const struct uring_loop *loop)
{
    /* Relaxed: only this thread writes it. */
    uint64_t ns = atomic_load_explicit(&loop->base.counters->wake_ns, memory_order_relaxed);
    return ns != 0 ? ns : WAKE_NS;
}

void uring_note_wake(struct io_loop *base, uint64_t rung_ns)
{
    struct uring_loop *loop = uring_loop_of(base);
    uint64_t now = uring_mono_ns();
    if (rung_ns > now) {
        return; /* told by a process that errs or lies */
    }
    uint64_t cost = now - rung_ns;
    cost = cost < WAKE_NS_MIN ? WAKE_NS_MIN : cost;
    cost = cost > WAKE_NS_MAX ? WAKE_NS_MAX : cost;
    /* Relaxed: others only look at it. */
    atomic_store_explicit(&base->counters->wake_ns, (wake_cost(loop) * 7 + cost) / 8,
                          memory_order_relaxed);
}

/* How long looking pays: up to twice the cost of a wake. */
static uint64_t budget(const struct uring_loop *loop)
{
    uint64_t twice = 2 * wake_cost(loop);
    return twice < loop->spin_ns ? twice : loop->spin_ns;
}

static void idle_count(struct uring_loop *loop, uint64_t idle)
{
    uint64_t average = loop->idle_average < IDLE_CAP_NS ? loop->idle_average : IDLE_CAP_NS;
    idle = idle < IDLE_CAP_NS ? idle : IDLE_CAP_NS;
    loop->idle_average = (average * 7 + idle) / 8;
}

void uring_idle_end(struct uring_loop *loop)
{
    if (loop->idle_since != 0) {
        idle_count(loop, uring_mono_ns() - loop->idle_since);
        loop->idle_since = 0;
    }
}

/* Is there anything a round would find, pollers and timers aside? A few loads. */
static bool round_due(struct uring_loop *loop)
{
    return loop->stop || loop->dirty != NULL || loop->deferred_at < loop->deferred_len ||
           io_uring_sq_ready(&loop->ring) > 0 || io_uring_cq_ready(&loop->ring) > 0 ||
           (*loop->ring.sq.kflags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0 ||
           !uring_tasks_empty(&loop->tasks);
}

static bool timer_due(const struct uring_loop *loop)
{
    return loop->timers_len > 0 &&
           loop->timers[1]->deadline_us <= io_now_us((struct io_loop *)&loop->base);
}

/* Did another thread run here since the last call? A long time alone does not say so: the host may
 * have taken the CPU. */
static bool switched(struct uring_loop *loop)
{
    struct rusage usage;
    ASSERT(getrusage(RUSAGE_THREAD, &usage) == 0);
    uint64_t before = loop->switches;
    loop->switches = (uint64_t)usage.ru_nivcsw;
    return loop->switches != before;
}

/* Lets whoever wants this CPU have it; true when somebody took it. */
static bool yield_cpu(struct uring_loop *loop, uint64_t *now)
{
    uint64_t before = *now;
    io_loop_count(&loop->base.counters->yields);
    sched_yield();
    *now = uring_mono_ns();
    return *now - before >= YIELD_LONG_NS && switched(loop);
}

/* A few looks; *worked: a poller found work. True: a round of everything is due. */
static bool look(struct uring_loop *loop, bool keen, bool *worked)
{
    for (int i = 0; i < LOOKS; i++) {
        if (io_loop_poll(&loop->base, true)) {
            *worked = true;
            i += LOOKS / FINDS;
            if (loop->base.lasting > 0) {
                return true;
            }
        } else if (!keen) {
            cpu_relax();
        }
        if (uring_warm_look(loop)) {
            *worked = true;
            return true;
        }
        if (round_due(loop)) {
            return true;
        }
    }
    return false;
}

bool uring_spin(struct uring_loop *loop)
{
    uint64_t begun = uring_mono_ns();
    uint64_t now = begun;
    uint64_t yielded = begun;
    bool taken = false; /* somebody took the CPU when it was offered last */
    if (loop->idle_since == 0) {
        loop->idle_since = begun;
    }
    uint64_t limit = budget(loop);
    if (loop->idle_average > limit || begun < loop->crowded_until) {
        return false;
    }
    io_loop_count(&loop->base.counters->spins);
    while (now - loop->idle_since < limit) {
        bool worked = false;
        bool due = look(loop, now - loop->idle_since < KEEN_NS, &worked);
        now = uring_mono_ns();
        if (worked) {
            idle_count(loop, now - loop->idle_since);
            loop->idle_since = due ? 0 : now;
            yielded = now;
        }
        if (due || now - begun >= ROUND_NS || timer_due(loop)) {
            return true;
        }
        if (taken && !worked) { /* by somebody we do not wait for */
            loop->crowded_until = now + CROWDED_NS;
            return false;
        }
        taken = now - yielded >= YIELD_NS && yield_cpu(loop, &now);
        yielded = now - yielded >= YIELD_NS ? now : yielded;
    }
    return false;
}
