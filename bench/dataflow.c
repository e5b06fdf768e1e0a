/*
 * Drives core/engine directly. See dataflow.h.
 *
 * One dataflow on one or several workers, one time a round. A worker is an engine on a thread of
 * its own, the first one on the calling thread; what they send each other goes through postboxes.
 * Each worker is given its share of a round as finished batches, as a computed gets them from
 * storage, and stepped until its output's frontier has passed the round's time: nothing is left
 * over for the next round.
 *
 * Threads: the main thread prepares a round, says so by its number (round), works as the first
 * worker, and waits until the others have counted themselves as done. Between rounds the others
 * spin, and touch nothing of their worker's.
 */
#include "bench/dataflow.h"

#include "bench/alone.h"
#include "bench/bfs.h"
#include "bench/machine.h"
#include "bench/postbox.h"
#include "core/engine/engine.h"

#include <stdio.h>

enum { DATAFLOW = 1, EXPORT = 2, SIDES_MAX = 2, COLS_MAX = 4 };
enum { STEPS_TIMED_ROWS = 1000 }; /* a round of fewer is over in a step, and its clock would show */

struct worker {
    struct dataflow_bench *bench;
    uint32_t index;
    pthread_t thread; /* but of the first */
    struct engine *engine;
    uint64_t frontier; /* of the output: everything before it has been put out */
    struct outcome outcome;
    uint64_t step_ns;  /* the longest step of all rounds but small ones */
    struct batch_builder *builders[SIDES_MAX];  /* used again each round */
    void *data[SIDES_MAX];                      /* of the prepared round, owned */
    struct batch views[SIDES_MAX];              /* of data */
    struct batch_col cols[SIDES_MAX][COLS_MAX]; /* of the views */
    struct postbox in[DATAFLOW_WORKERS_MAX];    /* by sender */
};

struct dataflow_bench {
    enum workload_kind kind;
    uint32_t sides;    /* inputs: 2 for a join */
    uint32_t in_cols;  /* columns of each */
    uint64_t time;     /* of the round */
    uint32_t workers;
    struct worker worker[DATAFLOW_WORKERS_MAX];
    _Atomic uint64_t round; /* prepared and to be run; UINT64_MAX: the end */
    _Atomic uint32_t done;  /* workers but the first that are through with it */
};

/* ---- the engine's host ----------------------------------------------------------------------- */

/* What identifies an output record: of a join the key once, then both sides' numbers. */
static size_t record_of(const struct dataflow_bench *bench, const struct batch *b, uint32_t row,
                        uint64_t *record)
{
    static const uint32_t join_cols[] = {0, 1, 3};
    bool join = bench->kind == WORKLOAD_JOIN;
    size_t len = join ? 3 : b->cols;
    for (size_t i = 0; i < len; i++) {
        record[i] = ((const uint64_t *)b->col[join ? join_cols[i] : i].values)[row];
    }
    return len;
}

/* Output is consumed inside the timed part: each record is hashed, as the loop does. */
static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    struct worker *worker = ctx;
    ASSERT(err == NULL && export_id == EXPORT && lower <= upper);
    for (uint32_t row = 0; ok != NULL && row < ok->rows; row++) {
        uint64_t record[COLS_MAX];
        size_t len = record_of(worker->bench, ok, row, record);
        outcome_add(&worker->outcome, workload_hash(record, len), batch_diff(ok, row));
    }
}

/* A round is over when this passes its time. */
static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct worker *worker = ctx;
    ASSERT(export_id == EXPORT && upper >= worker->frontier);
    worker->frontier = upper;
}

/* The sender's thread fills the receiver's postbox. */
static void on_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    struct worker *worker = ctx;
    ASSERT(dest < worker->bench->workers && dest != worker->index);
    postbox_send(&worker->bench->worker[dest].in[worker->index], payload, len);
}

static const struct engine_host host = {
    .send = on_send,
    .frontier = on_frontier,
    .subscribe = on_subscribe,
    .peek_done = alone_peek_done,
    .failed = alone_failed,
};

/* ---- plans ----------------------------------------------------------------------------------- */

/* All columns are int8: what is measured is the operator, not its types. */
static struct schema schema_of(struct plan *plan, uint32_t cols)
{
    struct schema schema = {.cols = cols, .types = ARENA_ARRAY(&plan->arena, struct type, cols)};
    ASSERT(cols > 0 && cols <= COLS_MAX);
    for (uint32_t c = 0; c < cols; c++) {
        schema.types[c] = type_of(TYPE_INT8);
    }
    return schema;
}

/* Rows of the input by a column: (value, count). */
static void add_count(struct plan *plan, uint32_t input, uint32_t col)
{
    struct plan_node node = {.op = PLAN_REDUCE, .inputs_len = 1, .schema = schema_of(plan, 2)};
    ASSERT(input < plan->nodes_len);
    node.inputs = ARENA_ARRAY(&plan->arena, uint32_t, 1);
    node.inputs[0] = input;
    node.reduce.keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
    node.reduce.keys[0] = col;
    node.reduce.keys_len = 1;
    node.reduce.aggs = ARENA_ARRAY(&plan->arena, struct plan_agg, 1);
    node.reduce.aggs_len = 1;
    node.reduce.aggs[0] = (struct plan_agg){.func = AGG_COUNT_ALL, .type = type_of(TYPE_INT8)};
    plan_add(plan, &node);
}

/* ---- distances ------------------------------------------------------------------------------- */

/* Columns 3 and 1 + 1 of a join of (node, distance) and (from, to). */
static struct mfp step_of(struct plan *plan)
{
    struct arena *arena = &plan->arena;
    struct mfp mfp = {.input_cols = 4, .maps_len = 1, .project_len = 2};
    mfp.maps = ARENA_ARRAY(arena, struct expr, 1);
    mfp.project = ARENA_ARRAY(arena, uint32_t, 2);
    mfp.project[0] = 3;
    mfp.project[1] = 4;
    struct expr_node one = {.kind = EXPR_LITERAL, .type = type_of(TYPE_INT8), .literal.i = 1};
    struct expr_node column = {.kind = EXPR_COLUMN, .type = type_of(TYPE_INT8), .column = 1};
    static const uint8_t int8s[] = {TYPE_INT8, TYPE_INT8};
    uint32_t args[2] = {expr_add(arena, &mfp.maps[0], &column),
                        expr_add(arena, &mfp.maps[0], &one)};
    const struct func *plus = func_find("+", int8s, 2);
    ASSERT(plus != NULL);
    struct expr_node sum = {.kind = EXPR_CALL, .type = type_of(TYPE_INT8), .func = plus->id,
                            .args = args, .args_len = 2};
    expr_add(arena, &mfp.maps[0], &sum);
    return mfp;
}

/* A node over some inputs. */
static uint32_t add_node(struct plan *plan, struct plan_node node, uint32_t cols, uint32_t inputs,
                         uint32_t first, uint32_t second)
{
    node.schema = cols > 0 ? schema_of(plan, cols) : (struct schema){0};
    node.inputs = ARENA_ARRAY(&plan->arena, uint32_t, 2);
    node.inputs_len = inputs;
    node.inputs[0] = first;
    node.inputs[1] = second;
    return plan_add(plan, &node);
}

/* distances = min by node of (roots, 0) and (to, distance + 1) of the edges of distances. */
static void add_bfs(struct plan *plan)
{
    struct arena *arena = &plan->arena;
    uint32_t *key = ARENA_ARRAY(arena, uint32_t, 1);
    struct plan_node roots = {.op = PLAN_CONSTANT, .constant.rows_len = BFS_ROOTS};
    roots.constant.rows = ARENA_ARRAY(arena, struct datum, 2 * BFS_ROOTS);
    roots.constant.diffs = ARENA_ARRAY(arena, int64_t, BFS_ROOTS);
    for (int i = 0; i < BFS_ROOTS; i++) {
        roots.constant.rows[2 * i].i = i;
        roots.constant.diffs[i] = 1;
    }
    uint32_t seed = add_node(plan, roots, 2, 0, 0, 0);
    uint32_t *variable = ARENA_ARRAY(arena, uint32_t, 1);
    *variable = add_node(plan, (struct plan_node){.op = PLAN_VARIABLE}, 2, 0, 0, 0);
    struct plan_node join = {.op = PLAN_JOIN, .join.kind = PLAN_JOIN_INNER, .join.keys_len = 1};
    join.join.left_keys = join.join.right_keys = key;
    uint32_t joined = add_node(plan, join, 4, 2, *variable, 0);
    struct plan_node mfp = {.op = PLAN_MFP, .mfp = step_of(plan)};
    uint32_t step = add_node(plan, mfp, 2, 1, joined, 0);
    uint32_t both = add_node(plan, (struct plan_node){.op = PLAN_UNION}, 2, 2, seed, step);
    struct plan_node min = {.op = PLAN_REDUCE, .reduce.keys = key, .reduce.keys_len = 1};
    min.reduce.aggs = ARENA_ARRAY(arena, struct plan_agg, 1);
    min.reduce.aggs_len = 1;
    min.reduce.aggs[0] =
        (struct plan_agg){.func = AGG_MIN, .arg = 1, .type = type_of(TYPE_INT8)};
    uint32_t least = add_node(plan, min, 2, 1, both, 0);
    struct plan_node fixpoint = {.op = PLAN_FIXPOINT,
                                 .fixpoint = {.variables = variable, .variables_len = 1}};
    uint32_t all = add_node(plan, fixpoint, 0, 1, least, 0);
    add_node(plan, (struct plan_node){.op = PLAN_LEAVE}, 2, 1, all, 0);
}

/* The operators of the workload, over sources 0 and 1. */
static void add_operator(struct plan *plan, enum workload_kind kind)
{
    struct plan_node node = {.inputs_len = 1, .inputs = ARENA_ARRAY(&plan->arena, uint32_t, 2)};
    switch (kind) {
    case WORKLOAD_COUNT:
        add_count(plan, 0, 0);
        return;
    case WORKLOAD_DISTRIBUTION:
        add_count(plan, 0, 0);
        add_count(plan, plan->nodes_len - 1, 1);
        return;
    case WORKLOAD_JOIN:
        node.op = PLAN_JOIN;
        node.schema = schema_of(plan, 4);
        node.inputs_len = 2;
        node.inputs[1] = 1;
        node.join.kind = PLAN_JOIN_INNER;
        node.join.keys_len = 1;
        node.join.left_keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
        node.join.right_keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
        break;
    case WORKLOAD_DISTINCT:
        node.op = PLAN_DISTINCT;
        node.schema = schema_of(plan, 1);
        break;
    case WORKLOAD_BFS:
        add_bfs(plan);
        return;
    case WORKLOAD_CONSOLIDATE:
        return; /* a subscribe consolidates what it puts out */
    }
    plan_add(plan, &node);
}

/* Sources, the operator, and a subscription with a snapshot and without an end. */
static struct plan *plan_of(const struct dataflow_bench *bench)
{
    struct plan *plan = plan_new();
    ASSERT(bench->sides >= 1 && bench->sides <= SIDES_MAX);
    plan->id = DATAFLOW;
    plan->name = arena_strdup(&plan->arena, "bench");
    for (uint32_t side = 0; side < bench->sides; side++) {
        struct plan_node source = {.op = PLAN_SOURCE, .schema = schema_of(plan, bench->in_cols)};
        plan_add(plan, &source);
    }
    add_operator(plan, bench->kind);
    plan->exports = ARENA_ARRAY(&plan->arena, struct plan_export, 1);
    plan->exports_len = 1;
    plan->exports[0] = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                            .id = EXPORT,
                                            .node = plan->nodes_len - 1,
                                            .snapshot = true,
                                            .until = FRONTIER_EMPTY};
    return plan;
}

/* ---- rounds ---------------------------------------------------------------------------------- */

/* A plan that does not validate is a bug of this file, not of its user. */
static void worker_init(struct dataflow_bench *bench, uint32_t index, struct io_loop *loop)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};
    static const uint32_t parts[] = {1, 1};
    struct worker *worker = &bench->worker[index];
    worker->bench = bench;
    worker->index = index;
    struct engine_config config = {
        .worker = index, .workers = bench->workers, .loop = loop, .host = &host, .ctx = worker};
    worker->engine = engine_new(&config);
    struct plan *plan = plan_of(bench);
    err_t err = plan_validate(plan);
    ASSERT(err == ERR_OK);
    err = engine_create(worker->engine, plan, parts, bench->sides);
    ASSERT(err == ERR_OK);
    for (uint32_t side = 0; side < bench->sides; side++) {
        worker->builders[side] = batch_builder_new(kinds, bench->in_cols);
    }
    for (uint32_t from = 0; from < bench->workers; from++) {
        postbox_init(&worker->in[from]);
    }
}

/* The prepared round's batches are ours until the next one. */
static void release_round(struct dataflow_bench *bench)
{
    for (uint32_t w = 0; w < bench->workers; w++) {
        for (uint32_t side = 0; side < bench->sides; side++) {
            free(bench->worker[w].data[side]);
            bench->worker[w].data[side] = NULL;
        }
    }
}

static void on_message(void *ctx, const void *data, size_t len)
{
    struct worker *worker = ctx;
    err_t err = engine_receive(worker->engine, 1 - worker->index, data, len);
    ASSERT(err == ERR_OK && worker->bench->workers == 2);
}

/* One input a side, then steps until the output has caught up. */
static void worker_run(struct worker *worker, uint64_t time)
{
    ASSERT(worker->frontier <= time);
    uint32_t part = worker->index;
    uint32_t rows = 0;
    for (uint32_t side = 0; side < worker->bench->sides; side++) {
        const struct batch *view = &worker->views[side];
        engine_input(worker->engine, DATAFLOW, side, part, time, time + 1,
                     view->rows > 0 ? view : NULL, NULL);
        rows += view->rows;
    }
    bool timed = rows >= STEPS_TIMED_ROWS;
    while (worker->frontier <= time) {
        for (uint32_t from = 0; from < worker->bench->workers; from++) {
            postbox_receive(&worker->in[from], on_message, worker);
        }
        uint64_t start = timed ? machine_cpu_ns() : 0;
        engine_step(worker->engine);
        uint64_t ns = timed ? machine_cpu_ns() - start : 0;
        worker->step_ns = ns > worker->step_ns ? ns : worker->step_ns;
    }
}

/* A worker but the first: round after round. */
static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct dataflow_bench *bench = worker->bench;
    uint64_t last = 0;
    for (;;) {
        /* Pairs with the release in dataflow_bench_run: the round's batches are there. */
        uint64_t round = atomic_load_explicit(&bench->round, memory_order_acquire);
        if (round == UINT64_MAX) {
            return NULL;
        }
        if (round == last) {
            machine_relax();
            continue;
        }
        last = round;
        worker_run(worker, round - 1);
        /* Pairs with the acquire in dataflow_bench_run: the outcome is there. */
        atomic_fetch_add_explicit(&bench->done, 1, memory_order_release);
    }
}

struct dataflow_bench *dataflow_bench_new(enum workload_kind kind, uint32_t workers,
                                          struct io_loop *loop)
{
    struct dataflow_bench *bench = MEM_NEW(struct dataflow_bench);
    ASSERT(workers >= 1 && workers <= DATAFLOW_WORKERS_MAX);
    bench->kind = kind;
    bench->sides = kind == WORKLOAD_JOIN ? 2 : 1;
    bench->in_cols = kind == WORKLOAD_JOIN || kind == WORKLOAD_BFS ? 2 : 1;
    bench->workers = workers;
    for (uint32_t w = 0; w < workers; w++) {
        worker_init(bench, w, w == 0 ? loop : NULL); /* a loop is its thread's */
    }
    for (uint32_t w = 1; w < workers; w++) {
        int rc = pthread_create(&bench->worker[w].thread, NULL, worker_main, &bench->worker[w]);
        ASSERT(rc == 0);
    }
    return bench;
}

void dataflow_bench_free(struct dataflow_bench *bench)
{
    /* Pairs with the acquire in worker_main. */
    atomic_store_explicit(&bench->round, UINT64_MAX, memory_order_release);
    for (uint32_t w = 1; w < bench->workers; w++) {
        pthread_join(bench->worker[w].thread, NULL);
    }
    release_round(bench);
    for (uint32_t w = 0; w < bench->workers; w++) {
        struct worker *worker = &bench->worker[w];
        engine_free(worker->engine);
        for (uint32_t side = 0; side < bench->sides; side++) {
            batch_builder_free(worker->builders[side]);
        }
        for (uint32_t from = 0; from < bench->workers; from++) {
            postbox_free(&worker->in[from]);
        }
    }
    free(bench);
}

static void finish_batches(struct worker *worker)
{
    for (uint32_t side = 0; side < worker->bench->sides; side++) {
        size_t size;
        worker->data[side] = batch_builder_finish_new(worker->builders[side], &size);
        batch_view(worker->data[side], size, worker->cols[side], COLS_MAX, &worker->views[side]);
        batch_builder_reset(worker->builders[side]);
    }
}

/* Outside the timed part: rows become columns here, dealt out to the workers in turn, two by two
 * so that both sides of a join reach each. */
void dataflow_bench_prepare(struct dataflow_bench *bench, const struct update *updates, size_t len)
{
    release_round(bench);
    for (size_t i = 0; i < len; i++) {
        const struct update *update = &updates[i];
        ASSERT(update->side < bench->sides);
        struct worker *worker = &bench->worker[i / 2 % bench->workers];
        struct batch_builder *builder = worker->builders[update->side];
        struct datum d = {.i = (int64_t)update->key};
        batch_builder_datum(builder, 0, &d);
        if (bench->in_cols == 2) {
            d.i = (int64_t)update->value;
            batch_builder_datum(builder, 1, &d);
        }
        batch_builder_end_row(builder, bench->time, update->diff);
    }
    for (uint32_t w = 0; w < bench->workers; w++) {
        finish_batches(&bench->worker[w]);
    }
}

/* The timed part. */
void dataflow_bench_run(struct dataflow_bench *bench)
{
    atomic_store_explicit(&bench->done, 0, memory_order_relaxed);
    /* Pairs with the acquire in worker_main. */
    atomic_store_explicit(&bench->round, bench->time + 1, memory_order_release);
    worker_run(&bench->worker[0], bench->time);
    bench->time++;
    /* Pairs with the release in worker_main. */
    while (atomic_load_explicit(&bench->done, memory_order_acquire) < bench->workers - 1) {
        machine_relax();
    }
}

/* A row is put out by one worker: theirs add up. */
struct outcome dataflow_bench_outcome(const struct dataflow_bench *bench)
{
    struct outcome sum = {0};
    for (uint32_t w = 0; w < bench->workers; w++) {
        const struct outcome *outcome = &bench->worker[w].outcome;
        sum.updates += outcome->updates;
        sum.net += outcome->net;
        sum.checksum += outcome->checksum;
    }
    return sum;
}

uint64_t dataflow_bench_memory(const struct dataflow_bench *bench)
{
    uint64_t bytes = 0;
    for (uint32_t w = 0; w < bench->workers; w++) {
        bytes += engine_memory(bench->worker[w].engine);
    }
    return bytes;
}

/* Of the first worker: the others' fuel is counted in units, as they have no clock. */
uint64_t dataflow_bench_longest_step(struct dataflow_bench *bench)
{
    uint64_t ns = bench->worker[0].step_ns;
    bench->worker[0].step_ns = 0;
    return ns;
}
