/* See world.h. */
#include "tests/unit/core/io/world.h"

#include "core/io/uring/uring.h"

#include <stdio.h>
#include <unistd.h>

enum { LIMIT_US = 30 * 1000 * 1000 };

struct run {
    struct world *world;
    io_start_fn start;
    void (*then)(void *arg);
    void *arg;
    struct io_timer limit;
    bool timed_out;
};

static void limit_fire(struct io_timer *timer)
{
    struct run *run = CONTAINER_OF(timer, struct run, limit);
    run->timed_out = true;
    io_loop_stop(run->world->loop);
}

static void run_start(struct io_loop *loop, void *arg)
{
    struct run *run = arg;
    run->world->loop = loop;
    run->limit.fire = limit_fire;
    io_timer_start(loop, &run->limit, io_now_us(loop) + LIMIT_US);
    run->start(loop, run->arg);
}

static void run_then(void *arg)
{
    struct run *run = arg;
    if (run->then != NULL) {
        run->then(run->arg);
    }
}

static void run_real(struct run *run)
{
    struct world *world = run->world;
    snprintf(world->dir, sizeof(world->dir), "/tmp/tailrace-io-XXXXXX");
    CU_ASSERT_FATAL(mkdtemp(world->dir) != NULL);
    struct io_env *env;
    expect_ok(io_env_new_real(&env));
    if (world->kind == WORLD_REAL_MIDDLE) {
        uring_env_disable(env, URING_FEATURE_MULTISHOT);
    }
    if (world->kind == WORLD_REAL_OLD) {
        uring_env_disable(env, URING_FEATURE_DEFER | URING_FEATURE_BUF_RING |
                                   URING_FEATURE_MULTISHOT);
    }
    expect_ok(io_main(env, run_start, run));
    run_then(run);
    io_env_free(env);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", world->dir);
    CU_ASSERT(system(command) == 0);
}

static void run_sim(struct run *run)
{
    snprintf(run->world->dir, sizeof(run->world->dir), "/data");
    struct sim_config config = sim_config_default(1);
    struct sim *sim = sim_new(&config);
    struct sim_process *process = sim_process_start(sim, "here", "test", run_start, run_then, run);
    sim_run_until(sim, 3600ULL * 1000 * 1000);
    CU_ASSERT(!sim_process_alive(process));
    sim_free(sim);
}

void world_run(struct world *world, enum world_kind kind, io_start_fn start, void *arg)
{
    world_run_then(world, kind, start, NULL, arg);
}

void world_run_then(struct world *world, enum world_kind kind, io_start_fn start,
                    void (*then)(void *arg), void *arg)
{
    struct run run = {.world = world, .start = start, .then = then, .arg = arg};
    world->kind = kind;
    if (kind == WORLD_SIM) {
        run_sim(&run);
    } else {
        run_real(&run);
    }
    CU_ASSERT_FATAL(!run.timed_out);
}

void expect_ok(err_t err)
{
    if (err != ERR_OK) {
        fprintf(stderr, "unexpected: %s\n", err_text(err));
    }
    CU_ASSERT(err == ERR_OK);
    err_free(err);
}

void expect_err(err_t err, enum err_code code)
{
    CU_ASSERT_FATAL(err != ERR_OK);
    if (err_code(err) != code) {
        fprintf(stderr, "unexpected: %s: %s\n", err_code_name(err_code(err)), err_text(err));
    }
    CU_ASSERT(err_code(err) == code);
    err_free(err);
}
