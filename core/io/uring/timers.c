/*
 * The timers of a loop: a binary heap by deadline, 1-based, so that heap_at 0 means not armed.
 * Timers of equal deadline fire in no promised order. The timers themselves lie in their owners'
 * memory: the heap holds pointers, and each timer its place, so that taking one out costs as much
 * as putting it in. A round fires a bounded number, so that many do not starve the rest.
 */
#include "core/io/uring/uring.h"

enum { TIMERS_A_ROUND = 256 };

static void heap_set(struct uring_loop *loop, size_t at, struct io_timer *timer)
{
    ASSERT(at >= 1 && at <= loop->timers_len);
    loop->timers[at] = timer;
    timer->heap_at = at;
}

/* Restores the order after the timer at this place got earlier. */
static void heap_up(struct uring_loop *loop, size_t at)
{
    ASSERT(at >= 1 && at <= loop->timers_len);
    struct io_timer *timer = loop->timers[at];
    while (at > 1 && loop->timers[at / 2]->deadline_us > timer->deadline_us) {
        heap_set(loop, at, loop->timers[at / 2]);
        at /= 2;
    }
    heap_set(loop, at, timer);
}

/* Restores the order after the timer at this place got later. */
static void heap_down(struct uring_loop *loop, size_t at)
{
    ASSERT(at >= 1 && at <= loop->timers_len);
    struct io_timer *timer = loop->timers[at];
    for (;;) {
        size_t child = at * 2;
        if (child > loop->timers_len) {
            break;
        }
        if (child < loop->timers_len &&
            loop->timers[child + 1]->deadline_us < loop->timers[child]->deadline_us) {
            child++;
        }
        if (loop->timers[child]->deadline_us >= timer->deadline_us) {
            break;
        }
        heap_set(loop, at, loop->timers[child]);
        at = child;
    }
    heap_set(loop, at, timer);
}

/* O(log n). The timer is the caller's memory, and must stay until it fired or was cancelled. */
void uring_timer_start(struct io_loop *base, struct io_timer *timer)
{
    struct uring_loop *loop = uring_loop_of(base);
    ASSERT(timer->heap_at == 0);
    vec_grow((void **)&loop->timers, &loop->timers_cap, loop->timers_len + 1,
             sizeof(loop->timers[0]));
    loop->timers_len++;
    heap_set(loop, loop->timers_len, timer);
    heap_up(loop, loop->timers_len);
}

/* Also how a due timer leaves the heap: it is disarmed when fire runs, and may be started again. */
void uring_timer_cancel(struct io_loop *base, struct io_timer *timer)
{
    struct uring_loop *loop = uring_loop_of(base);
    size_t at = timer->heap_at;
    ASSERT(at >= 1 && at <= loop->timers_len && loop->timers[at] == timer);
    struct io_timer *last = loop->timers[loop->timers_len];
    loop->timers_len--;
    timer->heap_at = 0;
    if (last != timer) {
        heap_set(loop, at, last);
        heap_up(loop, at);
        heap_down(loop, last->heap_at);
        ASSERT(last->heap_at >= 1 && last->heap_at <= loop->timers_len);
    }
}

/* Bounded, so that a timer that starts itself anew leaves room for others. */
bool uring_timers_run(struct uring_loop *loop)
{
    if (loop->timers_len == 0) {
        return false;
    }
    uint64_t now = io_now_us(&loop->base);
    size_t fired = 0;
    while (loop->timers_len > 0 && loop->timers[1]->deadline_us <= now && !loop->stop &&
           fired < TIMERS_A_ROUND) {
        struct io_timer *timer = loop->timers[1];
        uring_timer_cancel(&loop->base, timer);
        timer->fire(timer);
        fired++;
    }
    return fired > 0;
}
