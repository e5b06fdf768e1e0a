/*
 * Recursion without a limit, on graphs whose edges come and go, several at a time: what is reached,
 * shortest distances, the least label of a component, two relations that need each other. At every
 * time the output is what the model computes from scratch; rows that only support each other must
 * go. In the end everything is deleted, and nothing may be left. One to four workers.
 */
#include "core/engine/iterate.h"
#include "tests/unit/core/engine/model.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

#include <stdio.h>

enum { SOURCES = 2, EDGES = 0, SEEDS = 1, TIMES = 40, LONG_TIMES = 12, DATAFLOW = 3, EXPORT = 1 };

static const uint8_t pair_kinds[] = {TYPE_INT8, TYPE_INT8};
static const uint32_t col0[] = {0}, both[] = {0, 1}, swapped[] = {1, 0};

/* Edges (from, to) are source 0; (node, value) source 1. Each returns the node that is exported. */
typedef uint32_t body_fn(struct plan *p);

struct run {
    body_fn *make;
    struct rng rng;
    uint64_t nodes, times;
    struct replica *replica;
    struct model_source sources[SOURCES];
    struct plan *plan;
};

/* ---- plans ----------------------------------------------------------------------------------- */

static uint32_t all_of(struct plan *p, uint32_t node, const uint32_t *cols, uint32_t len)
{
    return plan_filter(p, node, 0, cols, len);
}

static uint32_t one_body(struct plan *p, uint32_t variable, uint32_t body)
{
    return plan_leave(p, plan_fixpoint(p, &variable, &body, 1, 0, false), 0);
}

/* Nodes one step from those of a relation of nodes. */
static uint32_t step(struct plan *p, uint32_t nodes, uint32_t edges)
{
    static const uint32_t to[] = {2};
    return all_of(p, plan_join(p, PLAN_JOIN_INNER, nodes, edges, col0, col0, 1, false), to, 1);
}

/* What is reached from the seeds. */
static uint32_t reach(struct plan *p)
{
    uint32_t variable = plan_variable(p, pair_kinds, 1);
    uint32_t seeds = all_of(p, SEEDS, col0, 1);
    uint32_t body = plan_union(p, seeds, step(p, variable, EDGES));
    return one_body(p, variable, plan_unary(p, PLAN_DISTINCT, body));
}

/* min by node of seeds (node, value) and (to, value + 1). */
static uint32_t distance(struct plan *p)
{
    static const uint32_t cols[] = {3, 4};
    struct plan_agg min = {.func = AGG_MIN, .arg = 1};
    uint32_t variable = plan_variable(p, pair_kinds, 2);
    uint32_t joined =
        plan_join(p, PLAN_JOIN_INNER, variable, EDGES, col0, col0, 1, false);
    uint32_t next = all_of(p, plan_plus(p, joined, 1, 1), cols, 2);
    return one_body(p, variable, plan_reduce(p, plan_union(p, SEEDS, next), col0, 1, &min, 1));
}

/* The least node of each component, of edges in both directions. */
static uint32_t component(struct plan *p)
{
    static const uint32_t cols[] = {3, 1}, twice[] = {0, 0};
    struct plan_agg min = {.func = AGG_MIN, .arg = 1};
    uint32_t variable = plan_variable(p, pair_kinds, 2);
    uint32_t edges = plan_union(p, EDGES, all_of(p, EDGES, swapped, 2));
    uint32_t nodes = plan_unary(p, PLAN_DISTINCT, all_of(p, edges, twice, 2));
    uint32_t joined = plan_join(p, PLAN_JOIN_INNER, variable, edges, col0, col0, 1, false);
    uint32_t labels = plan_union(p, nodes, all_of(p, joined, cols, 2));
    return one_body(p, variable, plan_reduce(p, labels, col0, 1, &min, 1));
}

/* Nodes at an even number of steps from the seeds, and at an odd one; the latter in the same
 * iteration or in the next. */
static uint32_t parity(struct plan *p, bool same_iteration)
{
    uint32_t variables[] = {plan_variable(p, pair_kinds, 1), plan_variable(p, pair_kinds, 1)};
    uint32_t seeds = all_of(p, SEEDS, col0, 1);
    uint32_t even = plan_unary(p, PLAN_DISTINCT,
                               plan_union(p, seeds, step(p, variables[1], EDGES)));
    uint32_t from = same_iteration ? even : variables[0];
    uint32_t odd = plan_unary(p, PLAN_DISTINCT, step(p, from, EDGES));
    const uint32_t bodies[] = {even, odd};
    uint32_t fixpoint = plan_fixpoint(p, variables, bodies, 2, 0, false);
    uint32_t even_out = plan_leave(p, fixpoint, 0);
    return plan_union(p, plan_unary(p, PLAN_NEGATE, even_out), plan_leave(p, fixpoint, 1));
}

static uint32_t parity_next(struct plan *p)
{
    return parity(p, false);
}

static uint32_t parity_same(struct plan *p)
{
    return parity(p, true);
}

/* All pairs: a variable joined with itself. */
static uint32_t closure(struct plan *p)
{
    static const uint32_t ends[] = {0, 3}, col1[] = {1};
    uint32_t variable = plan_variable(p, pair_kinds, 2);
    uint32_t joined = plan_join(p, PLAN_JOIN_INNER, variable, variable, col1, col0, 1, false);
    uint32_t pairs = plan_union(p, all_of(p, EDGES, both, 2), all_of(p, joined, ends, 2));
    return one_body(p, variable, plan_unary(p, PLAN_DISTINCT, pairs));
}

/* What a recursion gives is the seed of another. */
static uint32_t chained(struct plan *p)
{
    uint32_t first = reach(p);
    uint32_t variable = plan_variable(p, pair_kinds, 1);
    uint32_t back = all_of(p, EDGES, swapped, 2);
    uint32_t body = plan_union(p, first, step(p, variable, back));
    return one_body(p, variable, plan_unary(p, PLAN_DISTINCT, body));
}

/*
 * Rows that are there in every other iteration: what is not there comes, what is there goes. More
 * iterations than a short trail has entries. What is left depends on the number of a node.
 */
static uint32_t oscillate(struct plan *p)
{
    uint32_t variable = plan_variable(p, pair_kinds, 1);
    uint32_t nodes = plan_unary(p, PLAN_DISTINCT, all_of(p, EDGES, col0, 1));
    uint32_t taken = plan_unary(p, PLAN_NEGATE, plan_unary(p, PLAN_DISTINCT, variable));
    uint32_t body = plan_unary(p, PLAN_THRESHOLD, plan_union(p, nodes, taken));
    return plan_leave(p, plan_fixpoint(p, &variable, &body, 1, 601, false), 0);
}

/* The same by nodes: the highest end of each node's edges that is not there, as a row. */
static uint32_t oscillate_rows(struct plan *p)
{
    uint32_t variable = plan_variable(p, pair_kinds, 2);
    struct plan_agg max = {.func = AGG_MAX, .arg = 1};
    uint32_t edges = plan_unary(p, PLAN_DISTINCT, all_of(p, EDGES, both, 2));
    uint32_t taken = plan_unary(p, PLAN_NEGATE, variable);
    uint32_t left = plan_unary(p, PLAN_THRESHOLD, plan_union(p, edges, taken));
    uint32_t body = plan_reduce(p, left, col0, 1, &max, 1);
    return plan_leave(p, plan_fixpoint(p, &variable, &body, 1, 602, false), 0);
}

/* The same, and whatever is there meets itself by number. */
static uint32_t oscillate_pairs(struct plan *p)
{
    uint32_t variable = plan_variable(p, pair_kinds, 1);
    uint32_t nodes = plan_unary(p, PLAN_DISTINCT, all_of(p, EDGES, col0, 1));
    uint32_t twice = plan_join(p, PLAN_JOIN_INNER, variable, variable, col0, col0, 1, false);
    uint32_t taken = plan_unary(p, PLAN_NEGATE, all_of(p, twice, col0, 1));
    uint32_t body = plan_unary(p, PLAN_THRESHOLD, plan_union(p, nodes, taken));
    return plan_leave(p, plan_fixpoint(p, &variable, &body, 1, 301, false), 0);
}

static struct plan *make_plan(void *arg)
{
    const struct run *run = arg;
    struct plan *p = plan_new();
    p->id = DATAFLOW;
    p->name = arena_strdup(&p->arena, "graph");
    p->as_of = 1;
    plan_source(p, 100, pair_kinds, 2);
    plan_source(p, 101, pair_kinds, 2);
    uint32_t node = run->make(p);
    plan_export_subscribe(p, EXPORT, node, true, FRONTIER_EMPTY);
    return p;
}

/* ---- changes --------------------------------------------------------------------------------- */

static void put(struct batch_builder *out, int64_t a, int64_t b, uint64_t time, int64_t diff)
{
    batch_builder_datum(out, 0, &(struct datum){.i = a});
    batch_builder_datum(out, 1, &(struct datum){.i = b});
    batch_builder_end_row(out, time, diff);
}

/* The rows that are there. */
static struct batch_builder *present(struct batch_builder *all)
{
    struct view view = view_of(all, 2);
    const struct batch *one = &view.batch;
    struct batch_builder *out = batch_builder_new(pair_kinds, 2);
    batch_consolidate(&one, 1, TIME_MAX - 1, out);
    view_free(&view);
    return out;
}

/* Takes back a row that is there, or all of them. */
static void take_back(struct run *run, uint32_t s, uint64_t time, bool all,
                      struct batch_builder *out)
{
    struct batch_builder *now = present(run->sources[s].ok);
    struct view view = view_of(now, 2);
    uint32_t rows = view.batch.rows;
    uint32_t chosen = rows > 0 ? (uint32_t)rng_below(&run->rng, rows) : 0;
    for (uint32_t row = 0; row < rows; row++) {
        if (all || row == chosen) {
            int64_t a = ((const int64_t *)view.batch.col[0].values)[row];
            int64_t b = ((const int64_t *)view.batch.col[1].values)[row];
            int64_t diff = -batch_diff(&view.batch, row);
            put(out, a, b, time, diff);
            put(run->sources[s].ok, a, b, time, diff);
        }
    }
    view_free(&view);
    batch_builder_free(now);
}

/* Both sources go to every worker in turn: part w is read by worker w. */
static void feed(struct run *run, struct batch_builder *out[SOURCES][WORKERS_MAX], uint64_t time)
{
    for (uint32_t s = 0; s < SOURCES; s++) {
        for (uint32_t w = 0; w < run->replica->workers; w++) {
            struct view view = view_of(out[s][w], 2);
            engine_input(run->replica->worker[w].engine, DATAFLOW, s, w, time, time + 1,
                         view.batch.rows > 0 ? &view.batch : NULL, NULL);
            view_free(&view);
            batch_builder_reset(out[s][w]);
            replica_stir(run->replica, (uint32_t)rng_below(&run->rng, 8));
        }
    }
}

static void change(struct run *run, uint64_t time, struct batch_builder *out[SOURCES][WORKERS_MAX])
{
    struct rng *rng = &run->rng;
    uint64_t n = 1 + rng_below(rng, 4);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t s = rng_below(rng, 5) == 0 ? SEEDS : EDGES;
        struct batch_builder *to = out[s][rng_below(rng, run->replica->workers)];
        if (rng_below(rng, 5) < 2) {
            take_back(run, s, time, false, to);
            continue;
        }
        int64_t a = (int64_t)rng_below(rng, run->nodes);
        int64_t b = s == SEEDS ? 0 : (int64_t)rng_below(rng, run->nodes);
        put(to, a, b, time, 1);
        put(run->sources[s].ok, a, b, time, 1);
    }
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void check(struct run *run, uint64_t time)
{
    uint32_t node = run->plan->exports[0].node;
    uint32_t cols = run->plan->nodes[node].schema.cols;
    struct model_result want = model_eval(run->plan, node, run->sources, time);
    struct batch_builder *have =
        replica_output(run->replica, EXPORT, time, false, pair_kinds, cols);
    bool same = same_rows(want.ok, have, pair_kinds, cols);
    if (!same) {
        fprintf(stderr, "%u workers, time %llu\n", run->replica->workers,
                (unsigned long long)time);
        print_rows("want", want.ok, pair_kinds, cols);
        print_rows("have", have, pair_kinds, cols);
    }
    CU_ASSERT_FATAL(same);
    batch_builder_free(have);
    model_free(&want);
}

static uint32_t one_part(void *arg, uint32_t worker, uint32_t source)
{
    return 1;
}

static void count_arranged(void *arg, const struct engine_operator_stats *stats)
{
    *(uint64_t *)arg += stats->arranged_rows;
}

static void run_times(struct run *run)
{
    struct batch_builder *out[SOURCES][WORKERS_MAX];
    for (uint32_t s = 0; s < SOURCES * WORKERS_MAX; s++) {
        out[s / WORKERS_MAX][s % WORKERS_MAX] = batch_builder_new(pair_kinds, 2);
    }
    for (uint64_t time = 0; time < run->times; time++) {
        change(run, time, out);
        feed(run, out, time);
    }
    for (uint32_t s = 0; s < SOURCES; s++) {
        take_back(run, s, run->times, true, out[s][rng_below(&run->rng, run->replica->workers)]);
    }
    feed(run, out, run->times);
    for (uint32_t s = 0; s < SOURCES * WORKERS_MAX; s++) {
        batch_builder_free(out[s / WORKERS_MAX][s % WORKERS_MAX]);
    }
}

static void drop(struct run *run)
{
    struct replica *r = run->replica;
    replica_drop(r, DATAFLOW);
    replica_settle(r);
    for (uint32_t w = 0; w < r->workers; w++) {
        CU_ASSERT_EQUAL(engine_memory(r->worker[w].engine), 0);
    }
}

/* Everything was deleted: nothing is kept, even before it is dropped. */
static void check_empty(struct run *run)
{
    uint64_t arranged = 0;
    for (uint32_t w = 0; w < run->replica->workers; w++) {
        engine_stats(run->replica->worker[w].engine, count_arranged, &arranged);
    }
    CU_ASSERT_EQUAL(arranged, 0);
}

static body_fn endless;

/*
 * A recursion that does not end is dropped amid an iteration, worker by worker, and each makes the
 * next one with the same id while the others still run, and vote, in the first.
 */
static void make_again(struct run *run)
{
    struct replica *r = run->replica;
    body_fn *make = run->make;
    uint32_t parts[SOURCES] = {1, 1};
    struct batch_builder *rows = batch_builder_new(pair_kinds, 2);
    put(rows, 1, 0, 1, 1);
    struct view view = view_of(rows, 2);
    run->make = endless;
    err_t err = replica_create(r, make_plan, run, one_part, SOURCES);
    CU_ASSERT_PTR_NULL_FATAL(err);
    for (uint32_t w = 0; w < r->workers; w++) {
        for (uint32_t s = 0; s < SOURCES; s++) {
            engine_input(r->worker[w].engine, DATAFLOW, s, w, 0, 2,
                         s == SEEDS && w == 0 ? &view.batch : NULL, NULL);
        }
    }
    replica_stir(r, (uint32_t)rng_below(&run->rng, 600));
    run->make = make;
    for (uint32_t w = 0; w < r->workers; w++) {
        engine_drop(r->worker[w].engine, DATAFLOW);
        replica_stir(r, (uint32_t)rng_below(&run->rng, 20));
        err = engine_create(r->worker[w].engine, make_plan(run), parts, SOURCES);
        CU_ASSERT_PTR_NULL_FATAL(err);
        replica_stir(r, (uint32_t)rng_below(&run->rng, 20));
    }
    view_free(&view);
    batch_builder_free(rows);
}

static void run_case(body_fn *make, uint64_t seed, uint32_t workers, uint64_t times, bool again)
{
    struct run run = {.make = make, .rng = {seed}, .nodes = 3 + seed % 10, .times = times};
    run.replica = replica_new(workers, seed, 0);
    for (uint32_t s = 0; s < SOURCES; s++) {
        run.sources[s].ok = batch_builder_new(pair_kinds, 2);
        run.sources[s].err = batch_builder_new(batch_err_kinds, ERR_COLS);
    }
    run.plan = make_plan(&run);
    uint32_t cols = run.plan->nodes[run.plan->exports[0].node].schema.cols;
    err_t err = plan_validate(run.plan);
    CU_ASSERT_PTR_NULL_FATAL(err);
    replica_register(run.replica, EXPORT, pair_kinds, cols);
    if (again) {
        make_again(&run);
    } else {
        err = replica_create(run.replica, make_plan, &run, one_part, SOURCES);
        CU_ASSERT_PTR_NULL_FATAL(err);
    }
    run_times(&run);
    replica_settle(run.replica);
    CU_ASSERT_EQUAL_FATAL(replica_frontier(run.replica, EXPORT), times + 1);
    for (uint64_t time = 1; time <= times; time++) {
        check(&run, time);
    }
    check_empty(&run);
    drop(&run);
    CU_ASSERT_EQUAL(run.replica->failures, 0);
    for (uint32_t s = 0; s < SOURCES; s++) {
        batch_builder_free(run.sources[s].ok);
        batch_builder_free(run.sources[s].err);
    }
    replica_free(run.replica);
    plan_free(run.plan);
}

static void run_graphs(body_fn *make)
{
    static const uint32_t workers[] = {1, 2, 4};
    uint64_t cases = test_scaled(12) > 3 ? test_scaled(12) : 3;
    for (uint64_t seed = 1; seed <= cases; seed++) {
        run_case(make, seed, workers[seed % 3], TIMES, false);
    }
}

#define GRAPHS(name, make)                                                                         \
    static void name(void)                                                                         \
    {                                                                                              \
        run_graphs(make);                                                                          \
    }
GRAPHS(test_reach, reach)
GRAPHS(test_distance, distance)
GRAPHS(test_component, component)
GRAPHS(test_parity_next, parity_next)
GRAPHS(test_parity_same, parity_same)
GRAPHS(test_closure, closure)
GRAPHS(test_chained, chained)

static void test_oscillate(void)
{
    for (uint32_t workers = 1; workers <= 2; workers++) {
        run_case(oscillate, workers, workers, LONG_TIMES, false);
    }
}

static void test_oscillate_rows(void)
{
    for (uint32_t workers = 1; workers <= 2; workers++) {
        run_case(oscillate_rows, workers, workers, LONG_TIMES, false);
    }
}

static void test_oscillate_pairs(void)
{
    for (uint32_t workers = 1; workers <= 2; workers++) {
        run_case(oscillate_pairs, workers, workers, LONG_TIMES, false);
    }
}

/* ---- much at once ---------------------------------------------------------------------------- */

enum { LARGE = 40000, CHAIN = 8 };

/* Chains of 8 nodes, their labels at a time. */
static bool large_is(struct replica *r, uint64_t time, bool there)
{
    struct batch_builder *want = batch_builder_new(pair_kinds, 2);
    for (int64_t n = 0; there && n < LARGE; n++) {
        put(want, n, n / CHAIN * CHAIN, 0, 1);
    }
    struct batch_builder *have = replica_output(r, EXPORT, time, false, pair_kinds, 2);
    bool same = same_rows(want, have, pair_kinds, 2);
    batch_builder_free(want);
    batch_builder_free(have);
    return same;
}

/* So many changes of a round that they are added up part by part. */
static void test_large(void)
{
    for (uint32_t workers = 1; workers <= 2; workers++) {
        struct run run = {.make = component, .rng = {workers}};
        run.replica = replica_new(workers, workers, 0);
        replica_register(run.replica, EXPORT, pair_kinds, 2);
        err_t err = replica_create(run.replica, make_plan, &run, one_part, SOURCES);
        CU_ASSERT_PTR_NULL_FATAL(err);
        for (uint64_t time = 1; time <= 2; time++) {
            struct batch_builder *rows = batch_builder_new(pair_kinds, 2);
            for (int64_t n = 0; n < LARGE; n++) {
                if (n % CHAIN != CHAIN - 1) {
                    put(rows, n, n + 1, time, time == 1 ? 1 : -1);
                }
            }
            struct view view = view_of(rows, 2);
            for (uint32_t s = 0; s < SOURCES * workers; s++) {
                bool here = s == EDGES;
                engine_input(run.replica->worker[s / SOURCES].engine, DATAFLOW, s % SOURCES,
                             s / SOURCES, time == 1 ? 0 : time, time + 1,
                             here ? &view.batch : NULL, NULL);
            }
            replica_settle(run.replica);
            view_free(&view);
            batch_builder_free(rows);
        }
        CU_ASSERT(large_is(run.replica, 1, true));
        CU_ASSERT(large_is(run.replica, 2, false));
        check_empty(&run);
        drop(&run);
        replica_free(run.replica);
    }
}

/* ---- what does not end ----------------------------------------------------------------------- */

/* Numbers that grow for ever: the frontier stays, and dropping it in the middle leaves nothing. */
static uint32_t endless(struct plan *p)
{
    static const uint32_t col2[] = {2};
    uint32_t variable = plan_variable(p, pair_kinds, 1);
    uint32_t seeds = all_of(p, SEEDS, col0, 1);
    uint32_t next = all_of(p, plan_plus(p, plan_join(p, PLAN_JOIN_INNER, variable, seeds, NULL,
                                                     NULL, 0, false), 0, 1), col2, 1);
    uint32_t body = plan_union(p, seeds, next);
    return one_body(p, variable, plan_unary(p, PLAN_DISTINCT, body));
}

static void test_again(void)
{
    for (uint64_t seed = 1; seed <= test_scaled(12); seed++) {
        run_case(reach, seed, 1 + (uint32_t)(seed % 4), TIMES, true);
    }
}

static void test_endless(void)
{
    for (uint32_t workers = 1; workers <= 2; workers++) {
        struct run run = {.make = endless, .rng = {workers}, .nodes = 3};
        run.replica = replica_new(workers, workers, 0);
        replica_register(run.replica, EXPORT, pair_kinds, 1);
        err_t err = replica_create(run.replica, make_plan, &run, one_part, SOURCES);
        CU_ASSERT_PTR_NULL_FATAL(err);
        struct batch_builder *rows = batch_builder_new(pair_kinds, 2);
        put(rows, 1, 0, 1, 1);
        struct view view = view_of(rows, 2);
        for (uint32_t w = 0; w < workers; w++) {
            for (uint32_t s = 0; s < SOURCES; s++) {
                engine_input(run.replica->worker[w].engine, DATAFLOW, s, w, 0, 2,
                             s == SEEDS && w == 0 ? &view.batch : NULL, NULL);
            }
        }
        replica_stir(run.replica, 1000);
        CU_ASSERT_EQUAL(replica_frontier(run.replica, EXPORT), 1);
        uint64_t arranged = 0;
        for (uint32_t w = 0; w < workers; w++) {
            engine_stats(run.replica->worker[w].engine, count_arranged, &arranged);
        }
        CU_ASSERT(arranged > 20); /* it is amid it */
        drop(&run);
        view_free(&view);
        batch_builder_free(rows);
        replica_free(run.replica);
    }
}

/* It fails as any dataflow does that needs too much. */
static void test_memory(void)
{
    struct run run = {.make = endless, .rng = {1}};
    run.replica = replica_new(1, 1, 1 << 20);
    replica_register(run.replica, EXPORT, pair_kinds, 1);
    err_t err = replica_create(run.replica, make_plan, &run, one_part, SOURCES);
    CU_ASSERT_PTR_NULL_FATAL(err);
    struct batch_builder *rows = batch_builder_new(pair_kinds, 2);
    put(rows, 1, 0, 1, 1);
    struct view view = view_of(rows, 2);
    for (uint32_t s = 0; s < SOURCES; s++) {
        engine_input(run.replica->worker[0].engine, DATAFLOW, s, 0, 0, 2,
                     s == SEEDS ? &view.batch : NULL, NULL);
    }
    replica_settle(run.replica);
    CU_ASSERT_EQUAL(run.replica->failures, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(run.replica->failed, "memory"));
    CU_ASSERT_EQUAL(engine_memory(run.replica->worker[0].engine), 0);
    view_free(&view);
    batch_builder_free(rows);
    replica_free(run.replica);
}

/* ---- a hostile peer -------------------------------------------------------------------------- */

/* As exchange.c writes it. */
struct vote_record {
    uint32_t kind, channel;
    uint64_t dataflow, value;
};

static struct run votes_run(void)
{
    struct run run = {.make = reach, .rng = {1}};
    run.replica = replica_new(2, 1, 0);
    replica_register(run.replica, EXPORT, pair_kinds, 1);
    err_t err = replica_create(run.replica, make_plan, &run, one_part, SOURCES);
    CU_ASSERT_PTR_NULL_FATAL(err);
    run.plan = make_plan(&run);
    return run;
}

static uint32_t fixpoint_of(const struct plan *p)
{
    uint32_t i = 0;
    while (p->nodes[i].op != PLAN_FIXPOINT) {
        i++;
    }
    return i;
}

/* For a node that takes none it is refused; too many, and those for the past, fail the dataflow. */
static void test_votes(void)
{
    for (int how = 0; how < 3; how++) {
        struct run run = votes_run();
        struct engine *engine = run.replica->worker[0].engine;
        uint32_t fixpoint = fixpoint_of(run.plan);
        struct vote_record votes[3];
        for (int i = 0; i < 3; i++) {
            votes[i] = (struct vote_record){5, fixpoint * 2, DATAFLOW, how == 1 ? 5 : 0};
        }
        votes[0].channel = how == 0 ? (fixpoint - 1) * 2 : votes[0].channel;
        size_t sent = how == 2 ? 1 : 3;
        err_t err = engine_receive(engine, 1, votes, sent * sizeof(votes[0]));
        CU_ASSERT_EQUAL(err != ERR_OK, how == 0);
        err_free(err);
        for (uint32_t s = 0; s < SOURCES; s++) { /* its own vote is for 2 */
            engine_input(engine, DATAFLOW, s, 0, 0, 2, NULL, NULL);
        }
        for (int i = 0; i < 100; i++) {
            engine_step(engine);
        }
        CU_ASSERT_EQUAL(run.replica->failures, how == 0 ? 0 : 1);
        plan_free(run.plan);
        replica_free(run.replica);
    }
}

/* ---- trails ---------------------------------------------------------------------------------- */

struct trail_run {
    struct account account;
    struct pool pool;
    uint64_t len;
    struct trail_form form;
    struct trail trail;
};

static struct trail_run *trail_run_new(uint32_t words)
{
    struct trail_run *run = MEM_NEW(struct trail_run);
    pool_init(&run->pool, &run->account);
    run->form = (struct trail_form){.words = words, .pool = &run->pool, .len = &run->len};
    return run;
}

/* Nothing is left of it. */
static void trail_run_free(struct trail_run *run)
{
    CU_ASSERT(trail_is_empty(run->trail));
    CU_ASSERT_EQUAL(run->len, 0);
    pool_clear(&run->pool);
    CU_ASSERT_EQUAL(run->account.bytes, 0);
    free(run);
}

/* Rows that come and go in turn among many, so that the diffs add up to nothing again and again,
 * though most is there. In the end all is gone, and with it all memory. */
static void test_trail(void)
{
    enum { ROWS = 20000 };
    struct trail_run *run = trail_run_new(1);
    for (int64_t diff = 1; diff >= -1; diff -= 2) {
        for (uint64_t i = 0; i < 2 * ROWS; i++) {
            uint64_t value = i / 2 * 7919 % ROWS;
            uint32_t iteration = (uint32_t)(i % 2);
            trail_add(&run->form, &run->trail, 0, iteration, iteration == 0 ? diff : -diff,
                      &value);
        }
        CU_ASSERT_EQUAL(run->len, diff > 0 ? 2 * ROWS : 0);
    }
    trail_run_free(run);
}

enum { TRAIL_VALUES = 7, TRAIL_ITERATIONS = 6 };

/* Values and iterations at and beyond what a narrow entry holds. */
static const uint64_t trail_values[TRAIL_VALUES] = {
    0, 1, UINT32_MAX, (1ULL << 32) - 2, 1ULL << 32, UINT64_MAX, (uint64_t)INT64_MIN};
static const uint32_t trail_iterations[TRAIL_ITERATIONS] = {
    0, 1, 255, (1u << TRAIL_ITERATION_BITS) - 1, 1u << TRAIL_ITERATION_BITS, UINT32_MAX - 1};

typedef int64_t trail_model[TRAIL_VALUES][TRAIL_ITERATIONS][2];

/* Each combination at most once, with its sum; equal values side by side. */
static void check_trail(struct trail_run *run, trail_model model)
{
    uint64_t there = 0, seen = 0;
    for (const int64_t *sum = &model[0][0][0]; sum < &model[0][0][0] + sizeof(trail_model) / 8;
         sum++) {
        there += *sum != 0;
    }
    trail_settle(&run->form, &run->trail);
    CU_ASSERT_EQUAL_FATAL(trail_len(run->trail), there);
    CU_ASSERT_EQUAL_FATAL(run->len, there);
    bool done[TRAIL_VALUES][2] = {{false}};
    struct trail_entry last = {.iteration = UINT32_MAX};
    for (uint32_t i = 0, at_last = UINT32_MAX, nulls_last = 0; i < there; i++) {
        struct trail_entry entry;
        trail_at(&run->form, &run->trail, i, &entry);
        uint32_t v = 0, t = 0;
        while (trail_values[v] != (run->form.words > 0 ? entry.values[0] : 0)) {
            CU_ASSERT_FATAL(++v < TRAIL_VALUES);
        }
        while (trail_iterations[t] != entry.iteration) {
            CU_ASSERT_FATAL(++t < TRAIL_ITERATIONS);
        }
        CU_ASSERT_EQUAL(model[v][t][entry.nulls], entry.diff);
        bool same = i > 0 && v == at_last && entry.nulls == nulls_last;
        CU_ASSERT(same ? entry.iteration > last.iteration : !done[v][entry.nulls]);
        done[v][entry.nulls] = true;
        at_last = v;
        nulls_last = entry.nulls;
        last = entry;
        seen++;
    }
    CU_ASSERT_EQUAL(seen, there);
}

/* Narrow and wide entries, diffs of every size, against an array of sums. `narrow`: only such as
 * stay narrow as long as their sums are small. */
static void run_trail_model(uint64_t seed, uint32_t words, bool narrow)
{
    struct rng rng = {seed};
    struct trail_run *run = trail_run_new(words);
    trail_model model = {{{0}}};
    for (int step = 0; step < 400; step++) {
        uint64_t v = words > 0 ? rng_below(&rng, narrow ? 4 : TRAIL_VALUES) : 0;
        uint64_t t = rng_below(&rng, narrow ? 4 : TRAIL_ITERATIONS);
        uint64_t nulls = !narrow && rng_below(&rng, 20) == 0;
        int64_t sum = model[v][t][nulls];
        int64_t diff = (int64_t)rng_below(&rng, 3) - 1;
        if (rng_below(&rng, 3) == 0) {
            diff = -sum;
        } else if (rng_below(&rng, 40) == 0) {
            diff = (int64_t)(rng_below(&rng, 4) == 0 ? rng_below(&rng, 1ULL << 63)
                                                     : 480 + rng_below(&rng, 64));
        }
        model[v][t][nulls] = trail_plus(sum, diff);
        trail_add(&run->form, &run->trail, (uint32_t)nulls, trail_iterations[t], diff,
                  &trail_values[v]);
        if (rng_below(&rng, 4) == 0) {
            check_trail(run, model);
        }
    }
    for (size_t i = 0; i < sizeof(model) / sizeof(model[0][0][0]); i++) {
        size_t v = i / 2 / TRAIL_ITERATIONS;
        trail_add(&run->form, &run->trail, i % 2, trail_iterations[i / 2 % TRAIL_ITERATIONS],
                  -(&model[0][0][0])[i], &trail_values[v]);
    }
    trail_settle(&run->form, &run->trail);
    trail_run_free(run);
}

enum { SUMS_VALUES = 20, SUMS_ITERATIONS = 120, SUMS_ROUNDS = 30 };

typedef int64_t sums_model[SUMS_VALUES][SUMS_ITERATIONS];

/* What a trail says of an iteration is what the entries through it come to. */
static void check_sums(struct trail_run *run, sums_model model, uint64_t first, uint32_t iteration)
{
    int64_t want[SUMS_VALUES] = {0};
    uint32_t next = UINT32_MAX;
    for (uint32_t v = 0; v < SUMS_VALUES; v++) {
        for (uint32_t t = 0; t < SUMS_ITERATIONS; t++) {
            want[v] += t <= iteration ? model[v][t] : 0;
            next = t > iteration && model[v][t] != 0 && t < next ? t : next;
        }
    }
    struct trail_sums sums;
    trail_sums(&run->form, &run->trail, iteration, &sums);
    while (trail_sums_next(&sums)) {
        uint64_t v = sums.value.values[0] - first;
        CU_ASSERT_FATAL(v < SUMS_VALUES);
        CU_ASSERT_EQUAL(sums.value.diff, want[v]);
        want[v] = 0;
    }
    for (uint32_t v = 0; v < SUMS_VALUES; v++) {
        CU_ASSERT_EQUAL(want[v], 0);
    }
    CU_ASSERT_EQUAL(sums.next, next);
}

/* Rounds as of a recursion: what changes comes at the iteration that is looked at. Values narrow
 * or wide; a value that is there more often than not, or hardly ever. */
static void run_sums(uint64_t seed, bool wide)
{
    struct rng rng = {seed};
    struct trail_run *run = trail_run_new(1);
    uint64_t first = wide ? 1ULL << 40 : 7;
    sums_model model = {{0}};
    for (int round = 0; round < SUMS_ROUNDS; round++) {
        bool ends = round == SUMS_ROUNDS - 1;
        uint64_t step = ends ? 1 : 1 + rng_below(&rng, 20);
        uint64_t start = ends || rng_below(&rng, 2) == 0 ? 0 : rng_below(&rng, SUMS_ITERATIONS);
        for (uint64_t t = start; t < SUMS_ITERATIONS; t += ends ? 1 : 1 + rng_below(&rng, step)) {
            uint64_t changes = ends ? SUMS_VALUES : rng_below(&rng, rng_below(&rng, 2) ? 40 : 3);
            for (uint64_t i = 0; i < changes; i++) {
                uint64_t v = ends ? i : rng_below(&rng, SUMS_VALUES);
                bool back = ends || rng_below(&rng, 4) == 0;
                int64_t diff = back ? -model[v][t] : (int64_t)rng_below(&rng, 3) - 1;
                uint64_t value = first + v;
                model[v][t] += diff;
                trail_add(&run->form, &run->trail, 0, (uint32_t)t, diff, &value);
            }
            if (rng_below(&rng, 3) > 0) { /* of a join, a side may change and not be looked at */
                check_sums(run, model, first, (uint32_t)t);
            }
        }
    }
    trail_run_free(run);
}

static void test_trail_sums(void)
{
    for (uint64_t seed = 1; seed <= test_scaled(10); seed++) {
        run_sums(seed, seed % 2 == 0);
    }
}

static void test_trail_model(void)
{
    for (uint64_t seed = 1; seed <= test_scaled(80); seed++) {
        run_trail_model(seed, seed % 2, seed % 4 < 2);
    }
}

/* A diff that has no opposite: what a long trail comes to, and among what is counted and no more.
 * Without values it has nets, of many iterations; with them it has none. */
static void test_trail_extreme(void)
{
    enum { ENTRIES = 601 }; /* +1 as often as -1 */
    for (uint32_t words = 0; words <= 1; words++) {
        struct trail_run *run = trail_run_new(words);
        uint32_t iterations = words == 0 ? ENTRIES : 3;
        for (int round = 0; round < 2; round++) { /* the second takes all back */
            for (uint32_t i = 0; i < ENTRIES; i++) {
                uint64_t value = i;
                int64_t diff = i == 0 ? INT64_MIN : i % 2 == 0 ? 1 : -1;
                trail_add(&run->form, &run->trail, 0, i % iterations,
                          round == 0 ? diff : trail_minus(diff), &value);
            }
            for (uint32_t i = 0; i < 2 * iterations && round == 0; i++) {
                struct trail_sums sums;
                uint32_t through = i < iterations ? i : 2 * iterations - 1 - i;
                int64_t all = 0, want = 0;
                for (uint32_t v = 0; v < ENTRIES; v++) {
                    int64_t diff = v == 0 ? INT64_MIN : v % 2 == 0 ? 1 : -1;
                    want = v % iterations <= through ? trail_plus(want, diff) : want;
                }
                CU_ASSERT(trail_matches(&run->form, &run->trail, through) > 0);
                trail_sums(&run->form, &run->trail, through, &sums);
                while (trail_sums_next(&sums)) {
                    all = trail_plus(all, sums.value.diff);
                }
                CU_ASSERT_EQUAL(all, want);
            }
        }
        trail_settle(&run->form, &run->trail);
        trail_run_free(run);
    }
}

static const struct test_case cases[] = {
    {"trail_extreme", test_trail_extreme},
    {"trail", test_trail},     {"trail_model", test_trail_model},
    {"trail_sums", test_trail_sums}, {"oscillate", test_oscillate},
    {"oscillate_rows", test_oscillate_rows}, {"oscillate_pairs", test_oscillate_pairs},
    {"reach", test_reach},     {"distance", test_distance}, {"component", test_component},
    {"parity_next", test_parity_next}, {"parity_same", test_parity_same},
    {"closure", test_closure}, {"chained", test_chained}, {"endless", test_endless},
    {"again", test_again},
    {"large", test_large},
    {"memory", test_memory},
    {"votes", test_votes},
};
TEST_SUITE("core/engine recursion", cases)
