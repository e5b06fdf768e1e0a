/* Loops on both implementations: timers, posts across threads, pollers, stopping. */
#include "tests/unit/core/io/world.h"

#include <string.h>
#include <time.h>

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

/* ---- tasks taken back ------------------------------------------------------------------------ */

enum { CANCELS = 40 };

struct cancels {
    struct world world;
    struct io_task *tasks[CANCELS]; /* each a block of its own */
    struct io_task withdrawn;
    struct io_task last;
    unsigned ran;
    unsigned order;
};

static struct cancels *cancels_of_run;

static void cancel_ran(struct io_task *task)
{
    struct cancels *c = cancels_of_run;
    unsigned i = 0;
    while (c->tasks[i] != task) {
        i++;
    }
    CU_ASSERT(i % 3 == 1); /* the others were taken back */
    CU_ASSERT(i >= c->order);
    c->order = i;
    c->ran++;
    if (i == 4) { /* one behind it, which nobody has looked at yet */
        io_task_cancel(c->world.loop, c->tasks[7]);
        io_task_cancel(c->world.loop, c->tasks[7]);
        free(c->tasks[7]);
        c->tasks[7] = NULL;
    }
}

static void cancel_last(struct io_task *task)
{
    CU_ASSERT(task == &cancels_of_run->last);
    io_loop_stop(cancels_of_run->world.loop);
}

static void cancel_start(struct io_loop *loop, void *arg)
{
    struct cancels *c = arg;
    for (unsigned i = 0; i < CANCELS; i++) {
        c->tasks[i] = MEM_NEW(struct io_task);
        c->tasks[i]->run = cancel_ran;
        io_post(loop, c->tasks[i]);
    }
    for (unsigned i = 0; i < CANCELS; i++) {
        if (i % 3 != 1) {
            io_task_cancel(loop, c->tasks[i]);
            free(c->tasks[i]);
            c->tasks[i] = NULL;
        }
    }
    c->withdrawn.run = cancel_last;
    io_post(loop, &c->withdrawn);
    io_task_cancel(loop, &c->withdrawn); /* the newest: what comes next joins the others */
    c->last.run = cancel_last;
    io_post(loop, &c->last);
}

static void cancels(enum world_kind kind)
{
    struct cancels c = {0};
    cancels_of_run = &c;
    world_run(&c.world, kind, cancel_start, &c);
    CU_ASSERT(c.ran == 12); /* 13 less the one cancelled by another */
    for (unsigned i = 0; i < CANCELS; i++) {
        free(c.tasks[i]);
    }
}
ON_BOTH(cancels)

/* ---- pollers --------------------------------------------------------------------------------- */

struct polling {
    struct world world;
    struct io_poller worker; /* has 1000 units of work, then some whenever the timer says so */
    struct io_poller leaver; /* removes itself in its third poll */
    struct io_timer timer;
    unsigned work;
    unsigned done;
    unsigned leaver_polls;
    unsigned arms;
    unsigned disarms;
    unsigned timers;
    bool armed;
};

static bool worker_poll(struct io_poller *poller)
{
    struct polling *p = CONTAINER_OF(poller, struct polling, worker);
    CU_ASSERT(!p->armed);
    if (p->work == 0) {
        return false;
    }
    p->work--;
    p->done++;
    return true;
}

static bool worker_arm(struct io_poller *poller)
{
    struct polling *p = CONTAINER_OF(poller, struct polling, worker);
    CU_ASSERT(!p->armed);
    p->armed = true;
    if (p->arms++ == 0) { /* work turns up just as we go to sleep */
        p->work += 5;
        return true;
    }
    return false;
}

static void worker_disarm(struct io_poller *poller)
{
    struct polling *p = CONTAINER_OF(poller, struct polling, worker);
    CU_ASSERT(p->armed);
    p->armed = false;
    p->disarms++;
}

static bool leaver_poll(struct io_poller *poller)
{
    struct polling *p = CONTAINER_OF(poller, struct polling, leaver);
    if (++p->leaver_polls == 3) {
        io_poller_remove(p->world.loop, poller);
        io_poller_remove(p->world.loop, poller); /* not there: nothing */
    }
    return false;
}

static void polling_fire(struct io_timer *timer)
{
    struct polling *p = CONTAINER_OF(timer, struct polling, timer);
    if (++p->timers == 5) {
        CU_ASSERT(p->done == 1000 + 5 + 4 * 10);
        io_loop_stop(p->world.loop);
        return;
    }
    p->work += 10;
    io_timer_start(p->world.loop, timer, io_now_us(p->world.loop) + 5000);
}

static void polling_start(struct io_loop *loop, void *arg)
{
    struct polling *p = arg;
    p->work = 1000;
    p->worker = (struct io_poller){worker_poll, worker_arm, worker_disarm, false, NULL};
    p->leaver.poll = leaver_poll;
    p->timer.fire = polling_fire;
    io_poller_add(loop, &p->leaver);
    io_poller_add(loop, &p->worker);
    io_timer_start(loop, &p->timer, io_now_us(loop) + 20000);
}

static void pollers(enum world_kind kind)
{
    struct polling p = {0};
    world_run(&p.world, kind, polling_start, &p);
    CU_ASSERT(p.timers == 5);
    CU_ASSERT(p.leaver_polls == 3);
    CU_ASSERT(p.arms >= 3 && p.disarms + 1 >= p.arms);
}
ON_BOTH(pollers)

/* ---- stopping -------------------------------------------------------------------------------- */

struct family {
    struct world world;
    struct io_loop *child;
    struct io_task task;
    struct io_timer never;
    unsigned children_done;
};

static void never_fire(struct io_timer *timer)
{
    CU_FAIL("fired after stop");
}

static void grandchild_start(struct io_loop *loop, void *arg)
{
    struct family *family = arg;
    io_post(family->world.loop, &family->task); /* the main loop stops, and with it everybody */
}

static void child_start(struct io_loop *loop, void *arg)
{
    struct family *family = arg;
    family->child = loop;
    family->never.fire = never_fire;
    io_timer_start(loop, &family->never, io_now_us(loop) + 3600ULL * 1000 * 1000);
    expect_ok(io_thread_start(loop, "grandchild", 0, grandchild_start, NULL, family));
}

static void family_stop(struct io_task *task)
{
    io_loop_stop(CONTAINER_OF(task, struct family, task)->world.loop);
}

static void child_done(void *arg)
{
    CU_FAIL("done on a loop that has stopped");
}

static void family_start(struct io_loop *loop, void *arg)
{
    struct family *family = arg;
    family->task.run = family_stop;
    expect_ok(io_thread_start(loop, "child", -1, child_start, child_done, family));
}

static void family_then(void *arg)
{
    struct family *family = arg;
    io_timer_cancel(family->child, &family->never);
    io_post(family->child, &family->task); /* nobody is there */
    io_task_cancel(family->child, &family->task);
}

static void threads_end_with_their_owner(enum world_kind kind)
{
    struct family family = {0};
    world_run_then(&family.world, kind, family_start, family_then, &family);
}
ON_BOTH(threads_end_with_their_owner)

/* Heap tasks posted to a thread that stops, freed once it was joined. */
struct dropping {
    struct world world;
    struct io_loop *child;
    struct io_task *tasks[8];
    struct io_task started;
};

static void dropped_ran(struct io_task *task)
{
    /* Some run before the stop takes effect, the others never. */
}

static void dropping_child(struct io_loop *loop, void *arg)
{
    struct dropping *d = arg;
    d->child = loop;
    for (size_t i = 0; i < 8; i++) {
        d->tasks[i] = MEM_NEW(struct io_task);
        d->tasks[i]->run = dropped_ran;
        io_post(loop, d->tasks[i]);
    }
    io_loop_stop(loop);
}

static void dropping_done(void *arg)
{
    struct dropping *d = arg;
    for (size_t i = 0; i < 8; i++) {
        io_task_cancel(d->child, d->tasks[i]);
        free(d->tasks[i]);
    }
    struct io_task late = {.run = dropped_ran};
    io_post(d->child, &late); /* must not touch the freed ones */
    io_loop_stop(d->world.loop);
}

static void dropping_start(struct io_loop *loop, void *arg)
{
    expect_ok(io_thread_start(loop, "child", -1, dropping_child, dropping_done, arg));
}

static void tasks_of_a_stopped_thread(enum world_kind kind)
{
    struct dropping d = {0};
    world_run(&d.world, kind, dropping_start, &d);
}
ON_BOTH(tasks_of_a_stopped_thread)

/* ---- clocks, randomness, identity ------------------------------------------------------------ */

static void clock_start(struct io_loop *loop, void *arg)
{
    uint64_t last_us = io_now_us(loop);
    uint64_t last_ns = io_mono_ns(loop);
    CU_ASSERT(last_us > 1700000000ULL * 1000000); /* after 2023 */
    for (int i = 0; i < 1000; i++) {
        uint64_t us = io_now_us(loop);
        uint64_t ns = io_mono_ns(loop);
        CU_ASSERT(us >= last_us && ns >= last_ns);
        last_us = us;
        last_ns = ns;
    }
    struct io_env *env = io_loop_env(loop);
    uint8_t bytes[64] = {0};
    io_random(env, bytes, sizeof(bytes) - 3);
    CU_ASSERT(bytes[61] == 0 && bytes[62] == 0 && bytes[63] == 0);
    CU_ASSERT(io_random_u64(env) != io_random_u64(env));
    CU_ASSERT(strlen(io_host_id(env)) > 0);
    CU_ASSERT(strcmp(io_host_id(env), io_host_id(env)) == 0);
    CU_ASSERT(io_env_simulated(env) == (((struct world *)arg)->kind == WORLD_SIM));
    io_loop_stop(loop);
}

static void clocks(enum world_kind kind)
{
    struct world world;
    world_run(&world, kind, clock_start, &world);
}
ON_BOTH(clocks)

/* ---- an idle loop uses no processor time ----------------------------------------------------- */

static void idle_fire(struct io_timer *timer)
{
    io_loop_stop(CONTAINER_OF(timer, struct polling, timer)->world.loop);
}

static void idle_start(struct io_loop *loop, void *arg)
{
    struct polling *p = arg;
    p->worker = (struct io_poller){worker_poll, NULL, NULL, false, NULL};
    io_poller_add(loop, &p->worker);
    p->timer.fire = idle_fire;
    io_timer_start(loop, &p->timer, io_now_us(loop) + 500000);
}

static uint64_t cpu_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void idle_sleeps_real(void)
{
    struct polling p = {0};
    uint64_t before = cpu_us();
    world_run(&p.world, WORLD_REAL, idle_start, &p);
    CU_ASSERT(cpu_us() - before < 100000); /* setting up included */
}

static const struct test_case cases[] = {
    {"timers fire in order, real", timers_real},
    {"timers fire in order, sim", timers_sim},
    {"posts across threads, real", posts_real},
    {"posts across threads, sim", posts_sim},
    {"tasks taken back, real", cancels_real},
    {"tasks taken back, sim", cancels_sim},
    {"pollers, real", pollers_real},
    {"pollers, sim", pollers_sim},
    {"threads end with their owner, real", threads_end_with_their_owner_real},
    {"threads end with their owner, sim", threads_end_with_their_owner_sim},
    {"tasks of a stopped thread, real", tasks_of_a_stopped_thread_real},
    {"tasks of a stopped thread, sim", tasks_of_a_stopped_thread_sim},
    {"clocks and identity, real", clocks_real},
    {"clocks and identity, sim", clocks_sim},
    {"an idle loop sleeps, real", idle_sleeps_real},
};
TEST_SUITE("core/io/loop", cases)
