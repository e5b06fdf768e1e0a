/*
 * tailrace-bench window: one row of a partition of a million changes, and the functions over it are
 * brought up to date. One engine on this thread, one time a round; a round takes one row away and
 * puts it back with another value, or for the last case takes rows away and puts them back.
 *
 * How many rows a change concerns is known, so how many updates come out is checked.
 */
#include "bench/alone.h"
#include "bench/machine.h"
#include "bench/options.h"
#include "bench/report.h"

#include "core/base/mem.h"
#include "core/engine/engine.h"

#include <stdio.h>

enum { DATAFLOW = 1, EXPORT = 2, COLS = 4, ROWS = 1000000, STEP = 10, ROUNDS = 2000 };
/* Columns of a row: its place in the order, a value, and the places 100 before and behind it. */
enum { COL_PLACE, COL_VALUE, COL_BEFORE, COL_BEHIND, REACH = 100 };

struct window_case {
    const char *title;
    struct plan_window_call call;
    uint64_t out;   /* updates a change makes */
    bool last;      /* the partition's last row changes, else any but those at its ends */
    uint32_t rounds;
};

#define FRAME(m, start_kind, start_offset, end_kind)                                               \
    {.mode = m, .exclude = PLAN_EXCLUDE_NONE,                                                      \
     .start = {.kind = start_kind, .offset = start_offset, .col = COL_BEFORE},                     \
     .end = {.kind = end_kind, .col = COL_BEHIND}}
#define SUM {.func = AGG_SUM, .arg = COL_VALUE, .type = {.kind = TYPE_NUMERIC}}

static const struct window_case window_cases[] = {
    {"lag(v)", {.func = PLAN_WINDOW_LAG, .arg = COL_VALUE, .n = 1}, 4, false, ROUNDS},
    {"sum(v) rows 10 preceding",
     {.func = PLAN_WINDOW_AGG, .agg = SUM,
      .frame = FRAME(PLAN_FRAME_ROWS, PLAN_BOUND_OFFSET, -10, PLAN_BOUND_CURRENT)},
     22, false, ROUNDS},
    {"sum(v) range +- 10 rows",
     {.func = PLAN_WINDOW_AGG, .agg = SUM,
      .frame = FRAME(PLAN_FRAME_RANGE, PLAN_BOUND_VALUE, 0, PLAN_BOUND_VALUE)},
     42, false, ROUNDS},
    {"first_value(v) of all",
     {.func = PLAN_WINDOW_FIRST_VALUE, .arg = COL_VALUE,
      .frame = FRAME(PLAN_FRAME_RANGE, PLAN_BOUND_UNBOUNDED, 0, PLAN_BOUND_UNBOUNDED)},
     2, false, ROUNDS},
    {"row_number()", {.func = PLAN_WINDOW_ROW_NUMBER}, 2, false, ROUNDS},
    {"running sum(v), last row",
     {.func = PLAN_WINDOW_AGG, .agg = SUM,
      .frame = FRAME(PLAN_FRAME_RANGE, PLAN_BOUND_UNBOUNDED, 0, PLAN_BOUND_CURRENT)},
     2, true, ROUNDS},
    {"running sum(v), middle row: half a million rows change",
     {.func = PLAN_WINDOW_AGG, .agg = SUM,
      .frame = FRAME(PLAN_FRAME_RANGE, PLAN_BOUND_UNBOUNDED, 0, PLAN_BOUND_CURRENT)},
     ROWS, false, 3},
};

struct window_bench {
    struct engine *engine;
    uint64_t time, frontier;
    uint64_t updates; /* put out so far */
    struct batch_builder *builder;
    int64_t *values;  /* of the rows, by place */
    uint64_t dice;
};

static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    struct window_bench *bench = ctx;
    ASSERT(err == NULL && export_id == EXPORT && lower <= upper);
    bench->updates += ok != NULL ? ok->rows : 0;
}

static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct window_bench *bench = ctx;
    ASSERT(export_id == EXPORT && upper >= bench->frontier);
    bench->frontier = upper;
}

static const struct engine_host host = {.send = alone_send,
                                        .frontier = on_frontier,
                                        .subscribe = on_subscribe,
                                        .peek_done = alone_peek_done,
                                        .failed = alone_failed};

/* The type of a call that takes its argument's, or counts. */
static struct type type_of_call(const struct plan_window_call *call)
{
    return type_of(call->func == PLAN_WINDOW_AGG ? TYPE_NUMERIC : TYPE_INT8);
}

static struct plan *plan_of(const struct window_case *c)
{
    struct plan *plan = plan_new();
    struct type *types = ARENA_ARRAY(&plan->arena, struct type, COLS + 1);
    for (uint32_t i = 0; i < COLS; i++) {
        types[i] = type_of(TYPE_INT8);
    }
    struct plan_window_call *call = arena_memdup(&plan->arena, &c->call, sizeof(*call));
    types[COLS] = call->type = call->agg.type = type_of_call(call);
    struct plan_node source = {.op = PLAN_SOURCE, .schema = {.cols = COLS, .types = types}};
    plan_add(plan, &source);
    struct plan_node node = {.op = PLAN_WINDOW,
                             .inputs_len = 1,
                             .inputs = ARENA_ARRAY(&plan->arena, uint32_t, 1),
                             .schema = {.cols = COLS + 1, .types = types}};
    node.window.order = ARENA_ARRAY(&plan->arena, struct plan_order, 1);
    node.window.order_len = 1;
    node.window.calls = call;
    node.window.calls_len = 1;
    plan_add(plan, &node);
    plan->id = DATAFLOW;
    plan->name = arena_strdup(&plan->arena, "bench");
    plan->exports = ARENA_ARRAY(&plan->arena, struct plan_export, 1);
    plan->exports_len = 1;
    plan->exports[0] = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                            .id = EXPORT,
                                            .node = 1,
                                            .snapshot = true,
                                            .until = FRONTIER_EMPTY};
    return plan;
}

static void add_row(struct window_bench *bench, int64_t place, int64_t diff)
{
    int64_t at = place * STEP;
    const int64_t cells[COLS] = {at, bench->values[place], at - REACH, at + REACH};
    for (uint32_t c = 0; c < COLS; c++) {
        batch_builder_datum(bench->builder, c, &(struct datum){.i = cells[c]});
    }
    batch_builder_end_row(bench->builder, bench->time, diff);
}

/* What was added to the builder, as one round; nanoseconds. */
static uint64_t run_round(struct window_bench *bench)
{
    size_t size;
    struct batch_col cols[COLS];
    struct batch view;
    void *data = batch_builder_finish_new(bench->builder, &size);
    batch_view(data, size, cols, COLS, &view);
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

static int64_t next_place(struct window_bench *bench, const struct window_case *c)
{
    bench->dice = bench->dice * 6364136223846793005ULL + 1442695040888963407ULL;
    int64_t inner = ROWS - 4 * REACH / STEP;
    return c->last         ? ROWS - 1
           : c->out >= ROWS ? ROWS / 2
                            : 2 * REACH / STEP + (int64_t)((bench->dice >> 33) % (uint64_t)inner);
}

static void run_case(const struct window_case *c, struct report *report)
{
    static const uint8_t kinds[COLS] = {TYPE_INT8, TYPE_INT8, TYPE_INT8, TYPE_INT8};
    static const uint32_t parts[] = {1};
    struct window_bench bench = {.dice = 1, .builder = batch_builder_new(kinds, COLS)};
    struct engine_config config = {.workers = 1, .host = &host, .ctx = &bench};
    struct hist hist;
    hist_clear(&hist);
    bench.engine = engine_new(&config);
    bench.values = mem_zalloc(ROWS * sizeof(*bench.values));
    err_t err = engine_create(bench.engine, plan_of(c), parts, 1);
    ASSERT(err == ERR_OK);
    for (int64_t place = 0; place < ROWS; place++) {
        bench.values[place] = place % 97;
        add_row(&bench, place, 1);
    }
    uint64_t load = run_round(&bench);
    bench.updates = 0;
    for (uint32_t round = 0; round < c->rounds; round++) {
        int64_t place = next_place(&bench, c);
        add_row(&bench, place, -1);
        bench.values[place]++;
        add_row(&bench, place, 1);
        hist_add(&hist, run_round(&bench));
    }
    if (bench.updates != c->out * c->rounds) {
        report_wrong(report, "%s: %llu updates, not %llu", c->title,
                     (unsigned long long)bench.updates,
                     (unsigned long long)(c->out * c->rounds));
    }
    report_add(report, c->title, "load M rows/s", (double)ROWS * 1e3 / (double)load);
    report_add(report, c->title, "updates a change", (double)c->out);
    report_latency(report, c->title, &hist);
    report_add(report, c->title, "bytes a row", (double)engine_memory(bench.engine) / ROWS);
    engine_free(bench.engine);
    batch_builder_free(bench.builder);
    free(bench.values);
}

void bench_window(const struct options *options, struct report *report)
{
    for (size_t i = 0; i < ARRAY_LEN(window_cases); i++) {
        const struct window_case *c = &window_cases[i];
        bool chosen = options->only_case == NULL || strstr(c->title, options->only_case) != NULL;
        for (int run = 0; chosen && run < options->runs; run++) {
            run_case(c, report);
        }
    }
}
