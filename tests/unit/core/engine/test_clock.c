/* Rest: what a tick touches does not grow with what is idle, and whoever asks is answered. */
#include "core/engine/clock.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

#include <stdlib.h>

static const uint8_t kinds[2] = {TYPE_INT8, TYPE_INT8};
static const uint32_t first_col[1] = {0};

enum { TABLE = 1, FIRST = 100 };

static uint64_t told_follows, told_frontier;
static uint64_t answers;
static int64_t rows_read;

static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    told_frontier++;
}

static void on_follows(void *ctx, uint64_t export_id, bool changed)
{
    told_follows++;
}

static void on_peek_rows(void *ctx, uint64_t peek_id, const struct batch *rows)
{
    for (uint32_t i = 0; i < rows->rows; i++) {
        rows_read += batch_diff(rows, i);
    }
}

static void on_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    CU_ASSERT_PTR_NULL_FATAL(err);
    on_peek_rows(ctx, peek_id, rows);
    answers++;
}

static void on_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    CU_FAIL_FATAL("a dataflow failed");
}

static const struct engine_host host = {.frontier = on_frontier,
                                        .follows = on_follows,
                                        .peek_rows = on_peek_rows,
                                        .peek_done = on_peek_done,
                                        .failed = on_failed};

static void settle(struct engine *engine)
{
    for (uint32_t i = 0; engine_step(engine); i++) {
        CU_ASSERT_FATAL(i < 100000);
    }
}

/* An index by the first column of: the table's rows, or of another one's index. */
static void create(struct engine *engine, uint64_t id, uint64_t of, uint64_t as_of)
{
    struct plan *plan = plan_new();
    plan->id = id;
    plan->as_of = as_of;
    uint32_t from = of == TABLE ? plan_source(plan, of, kinds, 2) : plan_index(plan, of, kinds, 2);
    plan_export_index(plan, id, plan_unary(plan, PLAN_DISTINCT, from), first_col, 1);
    uint32_t parts[1] = {1};
    err_t err = plan_validate(plan);
    CU_ASSERT_PTR_NULL_FATAL(err);
    err = engine_create(engine, plan, parts, of == TABLE ? 1 : 0);
    CU_ASSERT_PTR_NULL_FATAL(err);
    if (of == TABLE) {
        engine_input(engine, id, 0, 0, as_of, as_of + 1, NULL, NULL);
    }
}

/* One row of the table. */
static struct chunk *row_at(struct engine *engine, uint64_t time, uint64_t key)
{
    struct batch_builder *builder = batch_builder_new(kinds, 2);
    struct datum d = {.i = (int64_t)key};
    batch_builder_datum(builder, 0, &d);
    batch_builder_datum(builder, 1, &d);
    batch_builder_end_row(builder, time, 1);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(builder, &size);
    struct chunk *chunk = NULL;
    err_t err = engine_rows_open(engine, bytes, size, kinds, 2, NULL, &chunk);
    CU_ASSERT_PTR_NULL_FATAL(err);
    batch_builder_free(builder);
    free(bytes);
    return chunk;
}

static void give_key(struct engine *engine, struct engine_clock *clock, uint64_t time, uint64_t key)
{
    struct chunk *chunk = row_at(engine, time, key);
    engine_clock_input(clock, time + 1, chunk, NULL);
    engine_rows_free(chunk);
    settle(engine);
}

/* Its keys are all different. */
static void give(struct engine *engine, struct engine_clock *clock, uint64_t time)
{
    give_key(engine, clock, time, time);
}

static void read_at(struct engine *engine, uint64_t index, uint64_t time, int64_t rows)
{
    uint64_t before = answers;
    rows_read = 0;
    const struct engine_peek peek = {
        .peek_id = before + 1, .index_id = index, .time = time, .limit = -1};
    engine_peek(engine, &peek);
    settle(engine);
    CU_ASSERT_EQUAL(answers, before + 1);
    CU_ASSERT_EQUAL(rows_read, rows);
}

/* What a hundred ticks touch, with n views over the table, as many over the first view's index, and
 * one over another table that is written meanwhile. */
static uint64_t visits_of_ticks(uint32_t n)
{
    const struct engine_config config = {.workers = 1, .host = &host};
    struct engine *engine = engine_new(&config);
    for (uint64_t i = 0; i < n; i++) {
        create(engine, FIRST + i, TABLE, 9);
        settle(engine);
    }
    struct engine_clock *clock = engine_clock_new(engine, 10);
    for (uint64_t i = 0; i < n; i++) {
        engine_clock_join(clock, FIRST + i, 0, 0);
    }
    settle(engine);
    for (uint64_t i = 0; i < n; i++) {
        create(engine, FIRST + n + i, FIRST, 9);
        settle(engine);
    }
    create(engine, FIRST + 2UL * n, TABLE, 9);
    settle(engine);
    struct engine_clock *busy = engine_clock_new(engine, 10);
    engine_clock_join(busy, FIRST + 2UL * n, 0, 0);
    settle(engine);
    CU_ASSERT(told_follows >= 2UL * n + 1);
    uint64_t visits = engine_visits(engine);
    told_frontier = told_follows = 0;
    for (uint64_t t = 10; t < 110; t++) {
        engine_clock_input(clock, t + 1, NULL, NULL);
        give(engine, busy, t);
    }
    visits = engine_visits(engine) - visits;
    CU_ASSERT_EQUAL(told_frontier, 100); /* of the one that is written */
    CU_ASSERT_EQUAL(told_follows, 100);
    read_at(engine, FIRST, 109, 0);
    give(engine, clock, 110);
    read_at(engine, FIRST + n - 1, 110, 1);
    read_at(engine, FIRST + 2UL * n - 1, 110, 1);
    read_at(engine, FIRST + 2UL * n, 109, 100);
    engine_clock_input(clock, 200, NULL, NULL);
    read_at(engine, FIRST + n, 199, 1); /* rests, and is woken through the index it reads */
    engine_clock_free(clock);
    engine_clock_free(busy);
    engine_free(engine);
    told_follows = 0;
    return visits;
}

static void a_tick_costs_what_changed(void)
{
    uint64_t few = visits_of_ticks(10);
    CU_ASSERT(few > 0 && few < 100 * 20);
    CU_ASSERT_EQUAL(visits_of_ticks(1000), few);
}

/* Who joins, leaves and ends in any order leaves the others where they are. */
static void followers_come_and_go(void)
{
    const struct engine_config config = {.workers = 1, .host = &host};
    struct engine *engine = engine_new(&config);
    struct engine_clock *clock = engine_clock_new(engine, 10);
    struct rng rng = {.state = 7};
    bool there[40] = {0};
    uint64_t upper = 10;
    for (uint32_t round = 0; round < 2000; round++) {
        uint64_t i = rng_below(&rng, ARRAY_LEN(there));
        if (there[i]) {
            engine_drop(engine, FIRST + i);
        } else {
            create(engine, FIRST + i, TABLE, upper - 1);
            engine_clock_join(clock, FIRST + i, 0, 0);
        }
        there[i] = !there[i];
        if (rng_below(&rng, 2) == 0) {
            settle(engine);
        }
        if (rng_below(&rng, 8) == 0) {
            give(engine, clock, upper++);
        } else if (rng_below(&rng, 4) == 0) {
            engine_clock_input(clock, ++upper, NULL, NULL);
        }
        i = rng_below(&rng, ARRAY_LEN(there));
        if (there[i]) {
            uint64_t before = answers;
            const struct engine_peek peek = {
                .peek_id = round + 1, .index_id = FIRST + i, .time = upper - 1, .limit = -1};
            engine_peek(engine, &peek);
            settle(engine);
            CU_ASSERT_EQUAL(answers, before + 1);
        }
    }
    engine_clock_free(clock);
    settle(engine);
    engine_free(engine);
}

/* Rows that go soon come while one is there that goes late: what is set for that one, again and
 * again, does not pile up; and each goes when it is its time. */
static void alarms_do_not_pile_up(void)
{
    enum { ROUNDS = 5000, LATE = 1 << 20 };
    const struct engine_config config = {.workers = 1, .host = &host};
    struct engine *engine = engine_new(&config);
    struct plan *plan = plan_new();
    plan->id = FIRST;
    plan->as_of = 9;
    const struct plan_temporal_bound bound = {.cmp = PLAN_TEMPORAL_BEFORE, .col = 0};
    uint32_t rows = plan_temporal(plan, plan_source(plan, TABLE, kinds, 2), &bound, 1, 2);
    plan_export_index(plan, FIRST, rows, first_col, 1);
    uint32_t parts[1] = {1};
    err_t err = engine_create(engine, plan, parts, 1);
    CU_ASSERT_PTR_NULL_FATAL(err);
    engine_input(engine, FIRST, 0, 0, 9, 10, NULL, NULL);
    struct engine_clock *clock = engine_clock_new(engine, 10);
    engine_clock_join(clock, FIRST, 0, 0);
    give_key(engine, clock, 10, LATE);
    uint64_t t = 11;
    for (uint32_t i = 0; i < ROUNDS; i++, t += 3) {
        give_key(engine, clock, t, t + 2);
        engine_clock_input(clock, t + 3, NULL, NULL);
        settle(engine);
        CU_ASSERT_TRUE_FATAL(clock->alarms_len <= 100);
    }
    read_at(engine, FIRST, t - 1, 1);
    read_at(engine, FIRST, t - 2, 2);
    engine_clock_input(clock, LATE + 1, NULL, NULL);
    settle(engine);
    read_at(engine, FIRST, LATE, 0);
    engine_clock_free(clock);
    engine_free(engine);
    told_follows = told_frontier = 0;
}

static const struct test_case cases[] = {
    {"a tick costs what changed", a_tick_costs_what_changed},
    {"alarms do not pile up", alarms_do_not_pile_up},
    {"followers come and go", followers_come_and_go},
};
TEST_SUITE("core/engine clocks", cases)
