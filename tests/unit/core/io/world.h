/*
 * The same scenario on both implementations of io.h. A scenario starts with one loop, ends by
 * stopping it, and finds a fresh directory at world->dir.
 */
#ifndef TAILRACE_TESTS_UNIT_CORE_IO_WORLD_H
#define TAILRACE_TESTS_UNIT_CORE_IO_WORLD_H

#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/io/io.h"
#include "core/io/sim.h"
#include "tests/unit/harness.h"

enum world_kind {
    WORLD_REAL,
    WORLD_REAL_MIDDLE, /* provided buffers, but nothing multishot */
    WORLD_REAL_OLD, /* as on an older kernel: no provided buffers, no multishot */
    WORLD_SIM,
};

struct world {
    enum world_kind kind;
    char dir[64];
    struct io_loop *loop;
};

/* Runs start(loop, arg) and the loop until it is stopped; fails the test after 30 s. */
void world_run(struct world *world, enum world_kind kind, io_start_fn start, void *arg);

/* The same, and then(arg) once the loop has stopped, before its environment is freed. */
void world_run_then(struct world *world, enum world_kind kind, io_start_fn start,
                    void (*then)(void *arg), void *arg);

/* Fails the test when err is set, and frees it. */
void expect_ok(err_t err);
/* Fails the test when err is not of the code, and frees it. */
void expect_err(err_t err, enum err_code code);

#define ON_BOTH(scenario)                                                                          \
    static void scenario##_real(void)                                                              \
    {                                                                                              \
        scenario(WORLD_REAL);                                                                      \
    }                                                                                              \
    static void scenario##_sim(void)                                                               \
    {                                                                                              \
        scenario(WORLD_SIM);                                                                       \
    }
#define ON_OLD(scenario)                                                                           \
    static void scenario##_old(void)                                                               \
    {                                                                                              \
        scenario(WORLD_REAL_MIDDLE);                                                               \
        scenario(WORLD_REAL_OLD);                                                                  \
    }

#endif
