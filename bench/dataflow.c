/*
 * Drives core/engine directly. See dataflow.h. A worker is given its share of a round as finished
 * batches, as a computed gets them from storage, and stepped until its output's frontier has passed
 * the round's time: nothing is left over for the next round.
 */
#include "bench/dataflow.h"

#include "bench/alone.h"
#include "bench/bfs.h"
#include "bench/machine.h"
#include "core/engine/engine.h"

#include <stdio.h>

enum { DATAFLOW = 1, EXPORT = 2, SIDES_MAX = 2, COLS_MAX = 4 };
enum { STEPS_TIMED_ROWS = 1000 }; /* in rounds of fewer the clock would show */

struct dataflow_bench {
    struct dataflow_place place;
    enum workload_kind kind;
    uint32_t sides;    /* inputs: 2 for a join */
    uint32_t in_cols;  /* columns of each */
    uint64_t time;     /* of the round prepared or under way */
    struct engine *engine;
    uint64_t frontier; /* of the output: everything before it has been put out */
    struct outcome outcome;
    bool timed;        /* the round's steps are */
    struct dataflow_times times;
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
    ASSERT(err == NULL && export_id == EXPORT && lower <= upper);
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

/* To another worker, as computed does it. */
static void on_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    const struct dataflow_place *place = &((struct dataflow_bench *)ctx)->place;
    ASSERT(dest < place->workers && place->exchange != NULL);
    exchange_send(place->exchange, place->index, dest, payload, len);
}

static void on_reserve(void *ctx, uint32_t dest, size_t len, struct engine_block *out)
{
    const struct dataflow_place *place = &((struct dataflow_bench *)ctx)->place;
    struct exchange_block block;
    ASSERT(dest < place->workers && place->exchange != NULL);
    exchange_reserve(place->exchange, place->index, dest, len, &block);
    *out = (struct engine_block){.data = block.data, .len = len, .owner = block.owner};
}

static void on_commit(void *ctx, uint32_t dest, struct engine_block *block)
{
    const struct dataflow_place *place = &((struct dataflow_bench *)ctx)->place;
    struct exchange_block whole = {.data = block->data, .len = block->len, .owner = block->owner};
    exchange_commit(place->exchange, place->index, dest, &whole, block->len);
}

static const struct engine_host host = {
    .send = on_send,
    .reserve = on_reserve,
    .commit = on_commit,
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
struct dataflow_bench *dataflow_bench_new(enum workload_kind kind,
                                          const struct dataflow_place *place)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};
    static const uint32_t parts[] = {1, 1};
    struct dataflow_bench *bench = MEM_NEW(struct dataflow_bench);
    bench->place = *place;
    bench->kind = kind;
    bench->sides = kind == WORKLOAD_JOIN ? 2 : 1;
    bench->in_cols = kind == WORKLOAD_JOIN || kind == WORKLOAD_BFS ? 2 : 1;
    struct engine_config config = {.worker = place->worker, .workers = place->workers,
                                   .loop = place->loop, .host = &host, .ctx = bench};
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
    for (uint32_t side = 0; side < bench->sides; side++) {
        free(bench->data[side]);
        bench->data[side] = NULL;
    }
}

void dataflow_bench_free(struct dataflow_bench *bench)
{
    release_round(bench);
    engine_free(bench->engine);
    for (uint32_t side = 0; side < bench->sides; side++) {
        batch_builder_free(bench->builders[side]);
    }
    free(bench);
}

/* Rows become columns here. They are dealt out two by two, so that both sides of a join reach each
 * worker. */
void dataflow_bench_prepare(struct dataflow_bench *bench, struct generator *generator, bool load,
                            size_t len)
{
    release_round(bench);
    for (size_t i = 0; i < len; i++) {
        struct update update;
        generator_next(generator, load, &update);
        ASSERT(update.side < bench->sides);
        if (i / 2 % bench->place.workers != bench->place.worker) {
            continue;
        }
        struct batch_builder *builder = bench->builders[update.side];
        struct datum d = {.i = (int64_t)update.key};
        batch_builder_datum(builder, 0, &d);
        if (bench->in_cols == 2) {
            d.i = (int64_t)update.value;
            batch_builder_datum(builder, 1, &d);
        }
        batch_builder_end_row(builder, bench->time, update.diff);
    }
    for (uint32_t side = 0; side < bench->sides; side++) {
        size_t size;
        bench->data[side] = batch_builder_finish_new(bench->builders[side], &size);
        batch_view(bench->data[side], size, bench->cols[side], COLS_MAX, &bench->views[side]);
        batch_builder_reset(bench->builders[side]);
    }
}

/* CPU time now; nothing in small rounds. */
static uint64_t stamp(const struct dataflow_bench *bench)
{
    return bench->timed ? machine_cpu_ns() : 0;
}

void dataflow_bench_begin(struct dataflow_bench *bench)
{
    uint32_t rows = 0;
    ASSERT(bench->frontier <= bench->time);
    for (uint32_t side = 0; side < bench->sides; side++) {
        rows += bench->views[side].rows;
    }
    bench->timed = rows >= STEPS_TIMED_ROWS;
    uint64_t start = stamp(bench);
    for (uint32_t side = 0; side < bench->sides; side++) {
        const struct batch *view = &bench->views[side];
        engine_input(bench->engine, DATAFLOW, side, bench->place.worker, bench->time,
                     bench->time + 1, view->rows > 0 ? view : NULL, NULL);
    }
    bench->times.busy_ns += stamp(bench) - start;
}

bool dataflow_bench_step(struct dataflow_bench *bench)
{
    uint64_t start = stamp(bench);
    bool more = engine_step(bench->engine);
    uint64_t ns = stamp(bench) - start;
    bench->times.busy_ns += ns;
    bench->times.longest_ns = ns > bench->times.longest_ns ? ns : bench->times.longest_ns;
    return more;
}

bool dataflow_bench_ends(struct dataflow_bench *bench)
{
    if (bench->frontier <= bench->time) {
        return false;
    }
    bench->time++;
    return true;
}

err_t dataflow_bench_receive(struct dataflow_bench *bench, uint32_t from, const uint8_t *data,
                             size_t len)
{
    uint64_t start = stamp(bench);
    err_t err = engine_receive(bench->engine, from, data, len);
    bench->times.busy_ns += stamp(bench) - start;
    return err;
}

struct outcome dataflow_bench_outcome(const struct dataflow_bench *bench)
{
    return bench->outcome;
}

uint64_t dataflow_bench_memory(const struct dataflow_bench *bench)
{
    return engine_memory(bench->engine);
}

struct dataflow_times dataflow_bench_times(struct dataflow_bench *bench)
{
    struct dataflow_times times = bench->times;
    bench->times = (struct dataflow_times){0};
    return times;
}
