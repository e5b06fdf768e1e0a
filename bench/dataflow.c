/*
 * Drives core/engine directly. See dataflow.h.
 *
 * One engine with one worker on the calling thread, one dataflow, one time a round. The engine is
 * given finished batches, as a computed gets them from storage, and stepped until its output's
 * frontier has passed the round's time: nothing is left over for the next round.
 */
#include "bench/dataflow.h"

#include "core/engine/engine.h"

#include <stdio.h>

enum { DATAFLOW = 1, EXPORT = 2, SIDES_MAX = 2, COLS_MAX = 4 };

struct dataflow_bench {
    struct engine *engine;
    enum workload_kind kind;
    uint32_t sides;    /* inputs: 2 for a join */
    uint32_t in_cols;  /* columns of each */
    uint64_t frontier; /* of the output: everything before it has been put out */
    uint64_t time;     /* of the next round */
    struct outcome outcome;
    struct batch_builder *builders[SIDES_MAX];  /* used again each round */
    void *data[SIDES_MAX];                      /* of the prepared round, owned */
    struct batch views[SIDES_MAX];              /* of data */
    struct batch_col cols[SIDES_MAX][COLS_MAX]; /* of the views */
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
    struct dataflow_bench *bench = ctx;
    ASSERT(err == NULL && export_id == EXPORT && lower < upper);
    for (uint32_t row = 0; ok != NULL && row < ok->rows; row++) {
        uint64_t record[COLS_MAX];
        size_t len = record_of(bench, ok, row, record);
        outcome_add(&bench->outcome, workload_hash(record, len), batch_diff(ok, row));
    }
}

/* A round is over when this passes its time. */
static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct dataflow_bench *bench = ctx;
    ASSERT(export_id == EXPORT && upper >= bench->frontier);
    bench->frontier = upper;
}

static void on_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    UNREACHABLE(); /* nobody peeks */
}

static void on_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    fprintf(stderr, "the dataflow failed: %s\n", err_text(err));
    UNREACHABLE(); /* a bench that goes on would measure nothing */
}

static const struct engine_host host = {
    .frontier = on_frontier,
    .subscribe = on_subscribe,
    .peek_done = on_peek_done,
    .failed = on_failed,
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
struct dataflow_bench *dataflow_bench_new(enum workload_kind kind)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};
    static const uint32_t parts[] = {1, 1};
    struct dataflow_bench *bench = MEM_NEW(struct dataflow_bench);
    bench->kind = kind;
    bench->sides = kind == WORKLOAD_JOIN ? 2 : 1;
    bench->in_cols = kind == WORKLOAD_JOIN ? 2 : 1;
    struct engine_config config = {.workers = 1, .host = &host, .ctx = bench};
    bench->engine = engine_new(&config);
    struct plan *plan = plan_of(bench);
    err_t err = plan_validate(plan);
    ASSERT(err == ERR_OK);
    err = engine_create(bench->engine, plan, parts, bench->sides);
    ASSERT(err == ERR_OK);
    for (uint32_t side = 0; side < bench->sides; side++) {
        bench->builders[side] = batch_builder_new(kinds, bench->in_cols);
    }
    return bench;
}

/* The prepared round's batches are ours until the next one. */
static void release_round(struct dataflow_bench *bench)
{
    ASSERT(bench->sides <= SIDES_MAX);
    for (uint32_t side = 0; side < bench->sides; side++) {
        free(bench->data[side]);
        bench->data[side] = NULL;
    }
}

void dataflow_bench_free(struct dataflow_bench *bench)
{
    ASSERT(bench->engine != NULL);
    release_round(bench);
    engine_free(bench->engine);
    for (uint32_t side = 0; side < bench->sides; side++) {
        batch_builder_free(bench->builders[side]);
    }
    free(bench);
}

/* Outside the timed part: rows become columns here. */
void dataflow_bench_prepare(struct dataflow_bench *bench, const struct update *updates, size_t len)
{
    release_round(bench);
    for (size_t i = 0; i < len; i++) {
        const struct update *update = &updates[i];
        ASSERT(update->side < bench->sides);
        struct batch_builder *builder = bench->builders[update->side];
        struct datum d = {.i = (int64_t)update->key};
        batch_builder_datum(builder, 0, &d);
        if (bench->in_cols == 2) {
            d.i = (int64_t)update->value;
            batch_builder_datum(builder, 1, &d);
        }
        batch_builder_end_row(builder, bench->time, update->diff);
    }
    for (uint32_t side = 0; side < bench->sides; side++) {
        size_t size;
        bench->data[side] = batch_builder_finish_new(bench->builders[side], &size);
        batch_view(bench->data[side], size, bench->cols[side], COLS_MAX, &bench->views[side]);
        batch_builder_reset(bench->builders[side]);
    }
}

/* The timed part: one input a side, then steps until the output has caught up. */
void dataflow_bench_run(struct dataflow_bench *bench)
{
    ASSERT(bench->frontier <= bench->time);
    for (uint32_t side = 0; side < bench->sides; side++) {
        const struct batch *view = &bench->views[side];
        engine_input(bench->engine, DATAFLOW, side, 0, bench->time, bench->time + 1,
                     view->rows > 0 ? view : NULL, NULL);
    }
    bench->time++;
    while (bench->frontier < bench->time) {
        engine_step(bench->engine);
    }
}

struct outcome dataflow_bench_outcome(const struct dataflow_bench *bench)
{
    return bench->outcome;
}

uint64_t dataflow_bench_memory(const struct dataflow_bench *bench)
{
    ASSERT(bench->engine != NULL);
    return engine_memory(bench->engine);
}
