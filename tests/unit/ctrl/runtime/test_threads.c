/* Worker threads: ready once all have loops, done once, in whatever moment they are stopped. */
#include "core/base/mem.h"
#include "ctrl/runtime/threads.h"
#include "tests/unit/harness.h"

struct world {
    struct io_loop *loop;
    struct mailroom mailroom;
    struct threads threads;
    struct io_timer timer;
    uint32_t workers;
    bool stop_early; /* in the turn that started them */
    bool refuse;     /* ready() fails */
    uint32_t ready, done;
};

static void on_done(void *arg)
{
    struct world *world = arg;
    world->done++;
    io_timer_start(world->loop, &world->timer, io_now_us(world->loop) + 2000);
}

/* A while after done: a second done() would have come by now. */
static void on_timer(struct io_timer *timer)
{
    io_loop_stop(CONTAINER_OF(timer, struct world, timer)->loop);
}

static err_t on_ready(void *arg)
{
    struct world *world = arg;
    world->ready++;
    for (uint32_t w = 0; w < world->workers; w++) {
        CU_ASSERT_PTR_NOT_NULL(threads_loop(&world->threads, w));
        for (uint32_t other = 0; other < w; other++) {
            CU_ASSERT_PTR_NOT_EQUAL(threads_loop(&world->threads, w),
                                    threads_loop(&world->threads, other));
        }
    }
    if (world->refuse) {
        return err_new(ERR_IO, "not today");
    }
    if (!world->stop_early && world->workers > 1) {
        threads_stop(&world->threads, NULL, on_done, world);
    }
    return ERR_OK;
}

static void on_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->loop = loop;
    world->timer.fire = on_timer;
    mailroom_init(&world->mailroom);
    const struct threads_config config = {.loop = loop,
                                          .mailroom = &world->mailroom,
                                          .name = "test",
                                          .workers = world->workers,
                                          .ready = on_ready,
                                          .arg = world};
    err_t err = threads_start(&world->threads, &config);
    CU_ASSERT_EQUAL(err != ERR_OK, world->refuse && world->workers == 1);
    if (err != ERR_OK) {
        err_free(err);
        io_loop_stop(loop);
    } else if (world->stop_early || world->workers == 1) {
        threads_stop(&world->threads, NULL, on_done, world);
    }
}

static void run(struct world *world)
{
    struct io_env *env = NULL;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, on_start, world));
    threads_free(&world->threads);
    mailroom_free(&world->mailroom);
    io_env_free(env);
}

static void started_and_stopped(void)
{
    for (uint32_t workers = 1; workers <= 4; workers++) {
        struct world world = {.workers = workers};
        run(&world);
        CU_ASSERT_EQUAL(world.ready, 1);
        CU_ASSERT_EQUAL(world.done, 1);
    }
}

/* No thread has told its loop yet: each is stopped when it does, and nobody is ready. */
static void stopped_before_ready(void)
{
    for (uint32_t workers = 2; workers <= 4; workers++) {
        struct world world = {.workers = workers, .stop_early = true};
        run(&world);
        CU_ASSERT_EQUAL(world.ready, 0);
        CU_ASSERT_EQUAL(world.done, 1);
    }
}

/* A process that cannot open its ports ends; with one worker the caller is told. */
static void refused(void)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        struct world world = {.workers = workers, .refuse = true};
        run(&world);
        CU_ASSERT_EQUAL(world.ready, 1);
        CU_ASSERT_EQUAL(world.done, 0);
    }
}

static const struct test_case cases[] = {
    {"started and stopped", started_and_stopped},
    {"stopped before ready", stopped_before_ready},
    {"refused", refused},
};
TEST_SUITE("ctrl/runtime threads", cases)
