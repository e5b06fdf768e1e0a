/* Loops on both implementations: timers, posts across threads, pollers, stopping. */
#include "tests/unit/core/io/world.h"

#include <string.h>

/* ---- timers ---------------------------------------------------------------------------------- */

enum { TIMERS = 200 };

struct timers;
struct one_timer {
    struct io_timer timer;
    struct timers *all;
    bool cancelled;
    unsigned fired;
};
struct timers {
    struct world world;
    struct one_timer timers[TIMERS];
    uint64_t last;
    unsigned fired;
    unsigned wanted;
};

static void one_fire(struct io_timer *timer)
{
    struct one_timer *one = CONTAINER_OF(timer, struct one_timer, timer);
    struct timers *all = one->all;
    uint64_t now = io_now_us(all->world.loop);
    CU_ASSERT(!one->cancelled);
    CU_ASSERT(timer->heap_at == 0);
    CU_ASSERT(now >= timer->deadline_us);
    CU_ASSERT(timer->deadline_us >= all->last);
    all->last = timer->deadline_us;
    one->fired++;
    if (++all->fired == all->wanted) {
        io_loop_stop(all->world.loop);
    }
}

static void timers_start(struct io_loop *loop, void *arg)
{
    struct timers *all = arg;
    uint64_t base = io_now_us(loop) + 1000;
    for (size_t i = 0; i < TIMERS; i++) {
        struct one_timer *one = &all->timers[i];
        one->all = all;
        one->timer.fire = one_fire;
        io_timer_start(loop, &one->timer, base + (i * 7919) % 20000);
    }
    for (size_t i = 0; i < TIMERS; i += 3) { /* moved to another time */
        io_timer_start(loop, &all->timers[i].timer, base + (i * 104729) % 20000);
    }
    for (size_t i = 0; i < TIMERS; i += 5) {
        all->timers[i].cancelled = true;
        io_timer_cancel(loop, &all->timers[i].timer);
        io_timer_cancel(loop, &all->timers[i].timer); /* not armed: nothing */
    }
    all->wanted = TIMERS - TIMERS / 5;
}

static void timers(enum world_kind kind)
{
    struct timers *all = MEM_NEW(struct timers);
    world_run(&all->world, kind, timers_start, all);
    for (size_t i = 0; i < TIMERS; i++) {
        CU_ASSERT(all->timers[i].fired == (all->timers[i].cancelled ? 0 : 1));
    }
    free(all);
}
ON_BOTH(timers)

/* ---- posts across threads: FIFO for each poster, none lost ----------------------------------- */

enum { POSTERS = 3, POSTS = 20000, WINDOW = 64 };

struct posting;
struct letter {
    struct io_task task;
    struct io_task back;
    struct poster *from;
    unsigned number;
};
struct poster {
    struct posting *all;
    struct io_loop *loop;
    struct letter letters[WINDOW];
    unsigned sent;
    unsigned seen; /* the receiver's */
    bool done;
};
struct posting {
    struct world world;
    struct poster posters[POSTERS];
    unsigned ended;
};

static void letter_send(struct letter *letter)
{
    struct poster *from = letter->from;
    if (from->sent < POSTS) {
        letter->number = from->sent++;
        io_post(from->all->world.loop, &letter->task);
    }
}

static void letter_back(struct io_task *task)
{
    struct letter *letter = CONTAINER_OF(task, struct letter, back);
    if (letter->number == POSTS - 1) {
        io_loop_stop(letter->from->loop);
        return;
    }
    letter_send(letter);
}

static void letter_arrived(struct io_task *task)
{
    struct letter *letter = CONTAINER_OF(task, struct letter, task);
    CU_ASSERT(letter->number == letter->from->seen);
    letter->from->seen++;
    io_post(letter->from->loop, &letter->back);
}

static void poster_start(struct io_loop *loop, void *arg)
{
    struct poster *poster = arg;
    poster->loop = loop;
    for (size_t i = 0; i < WINDOW; i++) {
        poster->letters[i].task.run = letter_arrived;
        poster->letters[i].back.run = letter_back;
        poster->letters[i].from = poster;
        letter_send(&poster->letters[i]);
    }
}

static void poster_done(void *arg)
{
    struct poster *poster = arg;
    CU_ASSERT(poster->seen == POSTS);
    poster->done = true;
    if (++poster->all->ended == POSTERS) {
        io_loop_stop(poster->all->world.loop);
    }
}

static void posts_start(struct io_loop *loop, void *arg)
{
    struct posting *all = arg;
    for (size_t i = 0; i < POSTERS; i++) {
        all->posters[i].all = all;
        expect_ok(io_thread_start(loop, "poster", -1, poster_start, poster_done,
                                  &all->posters[i]));
    }
}

static void posts(enum world_kind kind)
{
    struct posting *all = MEM_NEW(struct posting);
    world_run(&all->world, kind, posts_start, all);
    CU_ASSERT(all->ended == POSTERS);
    free(all);
}
ON_BOTH(posts)

static const struct test_case cases[] = {
    {"timers fire in order, real", timers_real},
    {"timers fire in order, sim", timers_sim},
    {"posts across threads, real", posts_real},
    {"posts across threads, sim", posts_sim},
};
TEST_SUITE("core/io/loop", cases)
