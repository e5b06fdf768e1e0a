/*
 * tailrace-bench graph: recursions over a random graph of twice as many edges as nodes. What is
 * reached from eight nodes, shortest distances from them along edges of lengths 1 to 16, and the
 * least node of each weakly connected component: first all at once, then edge by edge, in turn one
 * that goes and one that comes. One engine on this thread, one time a round.
 *
 * What the engine has put out so far is compared with plain recomputation: after the load, and
 * after every few changes. How long that takes is shown beside, as what a program without
 * increments would need for each change.
 */
#include "bench/alone.h"
#include "bench/machine.h"
#include "bench/options.h"
#include "bench/report.h"

#include "core/base/mem.h"
#include "core/engine/engine.h"

#include <stdio.h>

enum { DATAFLOW = 1, EXPORT = 2, EDGE_COLS = 3, ROOTS = 8, LENGTHS = 16, CHECKS = 10 };

#define FAR INT64_MAX

struct edge {
    int64_t from, to, length;
};

struct graph_bench {
    const struct graph_case *c;
    struct engine *engine;
    uint64_t time, frontier, updates;
    struct batch_builder *builder;
    int64_t nodes;
    struct edge *edges;
    size_t edges_len;
    uint64_t dice;
    int64_t *counts, *values; /* per node: sums of what was put out */
    int64_t *want;            /* per node: what recomputation gives; FAR: nothing */
    uint64_t recompute_ns;
};

struct graph_case {
    const char *title;
    uint32_t (*plan)(struct plan *plan, uint32_t edges);
    void (*recompute)(struct graph_bench *bench);
};

/* ---- plans ----------------------------------------------------------------------------------- */

static struct schema schema_of(struct plan *plan, uint32_t cols)
{
    struct schema schema = {.cols = cols, .types = ARENA_ARRAY(&plan->arena, struct type, 8)};
    ASSERT(cols <= 8);
    for (uint32_t c = 0; c < cols; c++) {
        schema.types[c] = type_of(TYPE_INT8);
    }
    return schema;
}

static uint32_t add_node(struct plan *plan, struct plan_node node, uint32_t cols, uint32_t inputs,
                         uint32_t first, uint32_t second)
{
    node.schema = schema_of(plan, cols);
    node.inputs = ARENA_ARRAY(&plan->arena, uint32_t, 2);
    node.inputs_len = inputs;
    node.inputs[0] = first;
    node.inputs[1] = second;
    return plan_add(plan, &node);
}

/* Columns of the input; one of them may be a sum of two, as the column behind the input's. */
static uint32_t add_mfp(struct plan *plan, uint32_t input, const uint32_t *cols, uint32_t len,
                        const uint32_t *sum)
{
    static const uint8_t int8s[] = {TYPE_INT8, TYPE_INT8};
    struct arena *arena = &plan->arena;
    struct plan_node node = {.op = PLAN_MFP};
    node.mfp.input_cols = plan->nodes[input].schema.cols;
    node.mfp.project = arena_memdup(arena, cols, len * sizeof(*cols));
    node.mfp.project_len = len;
    if (sum != NULL) {
        struct expr *map = ARENA_ARRAY(arena, struct expr, 1);
        uint32_t args[2];
        for (int i = 0; i < 2; i++) {
            struct expr_node column = {
                .kind = EXPR_COLUMN, .type = type_of(TYPE_INT8), .column = sum[i]};
            args[i] = expr_add(arena, map, &column);
        }
        const struct func *plus = func_find("+", int8s, 2);
        ASSERT(plus != NULL);
        struct expr_node call = {.kind = EXPR_CALL, .type = type_of(TYPE_INT8), .func = plus->id,
                                 .args = args, .args_len = 2};
        expr_add(arena, map, &call);
        node.mfp.maps = map;
        node.mfp.maps_len = 1;
    }
    return add_node(plan, node, len, 1, input, 0);
}

static uint32_t add_union(struct plan *plan, uint32_t a, uint32_t b)
{
    return add_node(plan, (struct plan_node){.op = PLAN_UNION}, plan->nodes[a].schema.cols, 2, a,
                    b);
}

/* (node, 0) of the roots. */
static uint32_t add_roots(struct plan *plan, uint32_t cols)
{
    struct plan_node roots = {.op = PLAN_CONSTANT, .constant.rows_len = ROOTS};
    roots.constant.rows = ARENA_ARRAY(&plan->arena, struct datum, ROOTS * cols);
    roots.constant.diffs = ARENA_ARRAY(&plan->arena, int64_t, ROOTS);
    for (uint32_t i = 0; i < ROOTS; i++) {
        roots.constant.rows[i * cols].i = i;
        roots.constant.diffs[i] = 1;
    }
    return add_node(plan, roots, cols, 0, 0, 0);
}

/* The variable's rows with the edges that start at their first column. */
static uint32_t add_step(struct plan *plan, uint32_t variable, uint32_t edges)
{
    struct plan_node join = {.op = PLAN_JOIN, .join.kind = PLAN_JOIN_INNER, .join.keys_len = 1};
    join.join.left_keys = join.join.right_keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
    uint32_t cols = plan->nodes[variable].schema.cols + plan->nodes[edges].schema.cols;
    return add_node(plan, join, cols, 2, variable, edges);
}

/* The least second column of each first one. */
static uint32_t add_min(struct plan *plan, uint32_t input)
{
    struct plan_node min = {.op = PLAN_REDUCE, .reduce.keys_len = 1, .reduce.aggs_len = 1};
    min.reduce.keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
    min.reduce.aggs = ARENA_ARRAY(&plan->arena, struct plan_agg, 1);
    min.reduce.aggs[0] =
        (struct plan_agg){.func = AGG_MIN, .arg = 1, .type = type_of(TYPE_INT8)};
    return add_node(plan, min, 2, 1, input, 0);
}

static uint32_t add_variable(struct plan *plan, uint32_t cols)
{
    return add_node(plan, (struct plan_node){.op = PLAN_VARIABLE}, cols, 0, 0, 0);
}

static uint32_t add_leave(struct plan *plan, uint32_t variable, uint32_t body)
{
    struct plan_node fixpoint = {.op = PLAN_FIXPOINT, .fixpoint.variables_len = 1};
    fixpoint.fixpoint.variables = arena_memdup(&plan->arena, &variable, sizeof(variable));
    uint32_t all = add_node(plan, fixpoint, 0, 1, body, 0);
    return add_node(plan, (struct plan_node){.op = PLAN_LEAVE}, plan->nodes[body].schema.cols, 1,
                    all, 0);
}

static uint32_t reach_plan(struct plan *plan, uint32_t edges)
{
    static const uint32_t to[] = {2};
    uint32_t variable = add_variable(plan, 1);
    uint32_t step = add_mfp(plan, add_step(plan, variable, edges), to, 1, NULL);
    uint32_t nodes = add_union(plan, add_roots(plan, 1), step);
    struct plan_node distinct = {.op = PLAN_DISTINCT};
    return add_leave(plan, variable, add_node(plan, distinct, 1, 1, nodes, 0));
}

static uint32_t distance_plan(struct plan *plan, uint32_t edges)
{
    static const uint32_t cols[] = {3, 5}, sum[] = {1, 4};
    uint32_t variable = add_variable(plan, 2);
    uint32_t step = add_mfp(plan, add_step(plan, variable, edges), cols, 2, sum);
    return add_leave(plan, variable, add_min(plan, add_union(plan, add_roots(plan, 2), step)));
}

static uint32_t component_plan(struct plan *plan, uint32_t edges)
{
    static const uint32_t there[] = {0, 1}, back[] = {1, 0}, cols[] = {3, 1}, twice[] = {0, 0};
    uint32_t variable = add_variable(plan, 2);
    uint32_t both = add_union(plan, add_mfp(plan, edges, there, 2, NULL),
                              add_mfp(plan, edges, back, 2, NULL));
    struct plan_node distinct = {.op = PLAN_DISTINCT};
    uint32_t nodes = add_node(plan, distinct, 2, 1, add_mfp(plan, both, twice, 2, NULL), 0);
    uint32_t step = add_mfp(plan, add_step(plan, variable, both), cols, 2, NULL);
    return add_leave(plan, variable, add_min(plan, add_union(plan, nodes, step)));
}

static struct plan *plan_of(const struct graph_case *c)
{
    struct plan *plan = plan_new();
    plan->id = DATAFLOW;
    plan->name = arena_strdup(&plan->arena, "bench");
    uint32_t edges = add_node(plan, (struct plan_node){.op = PLAN_SOURCE}, EDGE_COLS, 0, 0, 0);
    uint32_t node = c->plan(plan, edges);
    plan->exports = ARENA_ARRAY(&plan->arena, struct plan_export, 1);
    plan->exports_len = 1;
    plan->exports[0] = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                            .id = EXPORT,
                                            .node = node,
                                            .snapshot = true,
                                            .until = FRONTIER_EMPTY};
    err_t err = plan_validate(plan);
    ASSERT(err == ERR_OK);
    return plan;
}

/* ---- plain recomputation --------------------------------------------------------------------- */

/* Edges by where they start: those of node n lie in [starts[n], starts[n + 1]). */
static const struct edge **by_start(const struct graph_bench *bench, size_t *starts)
{
    const struct edge **sorted = mem_alloc(bench->edges_len * sizeof(*sorted));
    memset(starts, 0, ((size_t)bench->nodes + 2) * sizeof(*starts));
    for (size_t e = 0; e < bench->edges_len; e++) {
        starts[bench->edges[e].from + 2]++;
    }
    for (int64_t n = 0; n < bench->nodes; n++) {
        starts[n + 2] += starts[n + 1];
    }
    for (size_t e = 0; e < bench->edges_len; e++) {
        sorted[starts[bench->edges[e].from + 1]++] = &bench->edges[e];
    }
    return sorted;
}

/*
 * Dijkstra's, with a ring of lists for the next LENGTHS distances: in the order of distances.
 * Lengths count, or all are 0: then what is reached has 0.
 */
static void from_roots(struct graph_bench *bench, bool lengths)
{
    size_t *starts = mem_alloc(((size_t)bench->nodes + 2) * sizeof(*starts));
    const struct edge **edges = by_start(bench, starts);
    struct {
        int64_t *nodes;
        size_t nodes_len, nodes_cap;
    } ring[LENGTHS + 1] = {{0}};
    for (int64_t n = 0; n < bench->nodes; n++) {
        bench->want[n] = n < ROOTS ? 0 : FAR;
    }
    for (int64_t n = 0; n < ROOTS && n < bench->nodes; n++) {
        *VEC_PUSH(&ring[0], nodes) = n;
    }
    for (int64_t distance = 0, idle = 0; idle <= LENGTHS; distance++) {
        size_t at = (size_t)distance % (LENGTHS + 1);
        idle = ring[at].nodes_len > 0 ? 0 : idle + 1;
        for (size_t i = 0; i < ring[at].nodes_len; i++) {
            int64_t n = ring[at].nodes[i];
            for (size_t e = starts[n]; bench->want[n] == distance && e < starts[n + 1]; e++) {
                int64_t next = distance + (lengths ? edges[e]->length : 0);
                if (next < bench->want[edges[e]->to]) {
                    bench->want[edges[e]->to] = next;
                    *VEC_PUSH(&ring[(size_t)next % (LENGTHS + 1)], nodes) = edges[e]->to;
                }
            }
        }
        ring[at].nodes_len = 0;
    }
    for (size_t i = 0; i <= LENGTHS; i++) {
        free(ring[i].nodes);
    }
    free(edges);
    free(starts);
}

static void reach_again(struct graph_bench *bench)
{
    from_roots(bench, false);
}

static void distance_again(struct graph_bench *bench)
{
    from_roots(bench, true);
}

static int64_t root_of(int64_t *parents, int64_t node)
{
    while (parents[node] != node) {
        parents[node] = parents[parents[node]];
        node = parents[node];
    }
    return node;
}

/* The smaller root becomes the other's: a root is the least of its set. */
static void component_again(struct graph_bench *bench)
{
    int64_t *parents = mem_alloc((size_t)bench->nodes * sizeof(*parents));
    for (int64_t n = 0; n < bench->nodes; n++) {
        parents[n] = n;
        bench->want[n] = FAR;
    }
    for (size_t e = 0; e < bench->edges_len; e++) {
        int64_t a = root_of(parents, bench->edges[e].from);
        int64_t b = root_of(parents, bench->edges[e].to);
        parents[a < b ? b : a] = a < b ? a : b;
    }
    for (size_t e = 0; e < bench->edges_len; e++) {
        bench->want[bench->edges[e].from] = root_of(parents, bench->edges[e].from);
        bench->want[bench->edges[e].to] = root_of(parents, bench->edges[e].to);
    }
    free(parents);
}

static const struct graph_case graph_cases[] = {
    {"reachability", reach_plan, reach_again},
    {"shortest paths", distance_plan, distance_again},
    {"connected components", component_plan, component_again},
};

/* ---- the engine's host ----------------------------------------------------------------------- */

static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    struct graph_bench *bench = ctx;
    ASSERT(err == NULL && export_id == EXPORT && lower <= upper);
    bench->updates += ok != NULL ? ok->rows : 0;
    for (uint32_t row = 0; ok != NULL && row < ok->rows; row++) {
        int64_t node = ((const int64_t *)ok->col[0].values)[row];
        int64_t value = ok->cols > 1 ? ((const int64_t *)ok->col[1].values)[row] : 0;
        ASSERT(node >= 0 && node < bench->nodes);
        bench->counts[node] += batch_diff(ok, row);
        bench->values[node] += batch_diff(ok, row) * value;
    }
}

static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct graph_bench *bench = ctx;
    ASSERT(export_id == EXPORT && upper >= bench->frontier);
    bench->frontier = upper;
}

static const struct engine_host host = {.send = alone_send,
                                        .frontier = on_frontier,
                                        .subscribe = on_subscribe,
                                        .peek_done = alone_peek_done,
                                        .failed = alone_failed};

/* ---- rounds ---------------------------------------------------------------------------------- */

static int64_t draw(struct graph_bench *bench, int64_t below)
{
    bench->dice = bench->dice * 6364136223846793005ULL + 1442695040888963407ULL;
    return (int64_t)((bench->dice >> 33) % (uint64_t)below);
}

static void add_edge(struct graph_bench *bench, const struct edge *edge, int64_t diff)
{
    const int64_t cells[EDGE_COLS] = {edge->from, edge->to, edge->length};
    for (uint32_t c = 0; c < EDGE_COLS; c++) {
        batch_builder_datum(bench->builder, c, &(struct datum){.i = cells[c]});
    }
    batch_builder_end_row(bench->builder, bench->time, diff);
}

static struct edge random_edge(struct graph_bench *bench)
{
    return (struct edge){draw(bench, bench->nodes), draw(bench, bench->nodes),
                         1 + draw(bench, LENGTHS)};
}

/* What was added to the builder, as one round; nanoseconds. */
static uint64_t run_round(struct graph_bench *bench)
{
    size_t size;
    struct batch_col cols[EDGE_COLS];
    struct batch view;
    void *data = batch_builder_finish_new(bench->builder, &size);
    batch_view(data, size, cols, EDGE_COLS, &view);
    uint64_t start = machine_now_ns();
    engine_input(bench->engine, DATAFLOW, 0, 0, bench->time, bench->time + 1, &view, NULL);
    while (bench->frontier <= bench->time) {
        engine_step(bench->engine);
    }
    uint64_t took = machine_now_ns() - start;
    free(data);
    batch_builder_reset(bench->builder);
    bench->time++;
    return took;
}

static void check(struct graph_bench *bench, struct report *report)
{
    uint64_t start = machine_now_ns();
    bench->c->recompute(bench);
    bench->recompute_ns = machine_now_ns() - start;
    for (int64_t n = 0; n < bench->nodes; n++) {
        bool there = bench->want[n] != FAR;
        if (bench->counts[n] != there || bench->values[n] != (there ? bench->want[n] : 0)) {
            report_wrong(report, "%s: node %lld has %lld rows, sum %lld, at time %llu",
                         bench->c->title, (long long)n, (long long)bench->counts[n],
                         (long long)bench->values[n], (unsigned long long)bench->time);
            return;
        }
    }
}

/* In turn an edge goes and another comes in its place. */
static void run_changes(struct graph_bench *bench, uint64_t rounds, struct report *report)
{
    struct hist hist;
    hist_clear(&hist);
    uint64_t before = bench->updates;
    size_t place = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        if (round % 2 == 0) {
            place = (size_t)draw(bench, (int64_t)bench->edges_len);
            add_edge(bench, &bench->edges[place], -1);
            bench->edges[place] = bench->edges[--bench->edges_len];
        } else {
            bench->edges[bench->edges_len] = random_edge(bench);
            add_edge(bench, &bench->edges[bench->edges_len++], 1);
        }
        hist_add(&hist, run_round(bench));
        if ((round + 1) % (rounds / CHECKS) == 0) {
            check(bench, report);
        }
    }
    report_add(report, bench->c->title, "updates a change",
               (double)(bench->updates - before) / (double)rounds);
    report_latency(report, bench->c->title, &hist);
}

static void run_case(const struct graph_case *c, double scale, struct report *report)
{
    static const uint8_t kinds[EDGE_COLS] = {TYPE_INT8, TYPE_INT8, TYPE_INT8};
    static const uint32_t parts[] = {1};
    struct graph_bench bench = {.c = c, .dice = 1, .nodes = (int64_t)(100000 * scale) + ROOTS};
    struct engine_config config = {.workers = 1, .host = &host, .ctx = &bench};
    size_t nodes = (size_t)bench.nodes;
    bench.builder = batch_builder_new(kinds, EDGE_COLS);
    bench.engine = engine_new(&config);
    bench.edges = mem_alloc((2 * nodes + 1) * sizeof(*bench.edges));
    bench.counts = mem_zalloc(nodes * sizeof(int64_t));
    bench.values = mem_zalloc(nodes * sizeof(int64_t));
    bench.want = mem_zalloc(nodes * sizeof(int64_t));
    err_t err = engine_create(bench.engine, plan_of(c), parts, 1);
    ASSERT(err == ERR_OK);
    for (; bench.edges_len < 2 * nodes; bench.edges_len++) {
        bench.edges[bench.edges_len] = random_edge(&bench);
        add_edge(&bench, &bench.edges[bench.edges_len], 1);
    }
    uint64_t load = run_round(&bench);
    check(&bench, report);
    report_add(report, c->title, "load ms", (double)load / 1e6);
    report_add(report, c->title, "recomputed ms", (double)bench.recompute_ns / 1e6);
    uint64_t rounds = (uint64_t)(2000 * scale);
    run_changes(&bench, rounds > CHECKS ? rounds : CHECKS, report);
    report_add(report, c->title, "MiB", (double)engine_memory(bench.engine) / 1048576);
    engine_free(bench.engine);
    batch_builder_free(bench.builder);
    free(bench.edges);
    free(bench.counts);
    free(bench.values);
    free(bench.want);
}

void bench_graph(const struct options *options, struct report *report)
{
    for (size_t i = 0; i < ARRAY_LEN(graph_cases); i++) {
        const struct graph_case *c = &graph_cases[i];
        bool chosen = options->only_case == NULL || strstr(c->title, options->only_case) != NULL;
        for (int run = 0; chosen && run < options->runs; run++) {
            run_case(c, options->scale, report);
        }
    }
}
