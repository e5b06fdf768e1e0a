/*
 * The controllers with real storaged and computed in the simulator, driven by a test step by step:
 * a table (k int8, v int8), clusters, dataflows over the table, peeks and subscriptions whose
 * answers are recorded. The test's own code runs between the steps of the simulator, as if on
 * environmentd's loop.
 */
#ifndef TAILRACE_TESTS_UNIT_CTRL_CONTROLLER_CONTROLLER_WORLD_H
#define TAILRACE_TESTS_UNIT_CTRL_CONTROLLER_CONTROLLER_WORLD_H

#include "ctrl/controller/controller.h"
#include "tests/sim/world.h"

enum { TABLE = 1, CLUSTER = 2, INDEX = 3, SECOND = 4, VALUES_MAX = 64 };

struct cw_config {
    uint32_t scale, replicas, workers; /* of the cluster */
};

struct cw {
    struct world *world;
    struct cw_config config;
    struct io_loop *loop;
    struct orchestrator *orchestrator;
    struct controller *controller;
    struct sim_process *process;
    uint64_t epoch;
    struct io_task task; /* runs step on the loop */
    void (*step)(struct cw *cw);
    void (*setup)(struct cw *cw); /* creates what the catalog would hold */
    bool asked_inside;            /* a step is running: no callback may come */
    uint64_t time;                /* of the last write */
    uint64_t appended;            /* answered appends */
    uint32_t failures;            /* dataflow_failed events */
    char failure[256];
    bool failed_events_drop; /* drop INDEX from inside the event */
};

/* One peek and what it was answered. */
struct cw_peek {
    struct cw *cw;
    uint64_t id;
    uint32_t answers;
    int64_t rows;      /* sum of diffs */
    int64_t sum;       /* of column 1 times diff */
    char error[256];   /* "" for rows */
    bool inside;       /* the answer came from inside a step */
    bool drops;        /* drop the index from inside the answer */
};

/* One subscription: what it holds now, and whether pieces abutted. */
struct cw_sub {
    uint64_t upper;
    uint64_t pieces;
    int64_t rows, sum;
    uint32_t gaps;
    char error[256];
};

struct cw *cw_new(uint64_t seed, const struct cw_config *config, void (*setup)(struct cw *cw));
void cw_free(struct cw *cw);
/* Runs step on environmentd's loop now. */
void cw_do(struct cw *cw, void (*step)(struct cw *cw));
void cw_run(struct cw *cw, uint64_t us);
/* environmentd dies and starts again with the next epoch: setup runs again. */
void cw_restart(struct cw *cw);
void cw_kill(struct cw *cw, uint32_t replica, uint32_t process);

/* For steps and setup: */
void cw_write(struct cw *cw, int64_t key, int64_t value, int64_t diff);
void cw_advance(struct cw *cw);
/* An mfp over the table (v, or 100 / v as column 1) exported as an index by k. */
struct plan *cw_index_plan(uint64_t id, uint64_t as_of, bool divide);
struct plan *cw_subscribe_plan(uint64_t id, uint64_t source, bool divide);
void cw_create(struct cw *cw, struct plan *plan); /* must succeed */
void cw_subscribe(struct cw *cw, uint64_t id, struct cw_sub *sub);
void cw_peek(struct cw *cw, uint64_t index, uint64_t time, struct cw_peek *peek);

#endif
