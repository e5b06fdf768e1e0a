/* Which rows go from worker to worker, by what a chain of operators sends. */
#include "tests/unit/core/engine/host.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

enum { DATAFLOW = 10, OUTPUT = 1, ROWS = 3000, ROW_BYTES = 16 };

static const uint8_t int8s[] = {TYPE_INT8, TYPE_INT8};
static const uint32_t both[] = {0, 1}, swapped[] = {1, 0}, right[] = {2, 3}, second[] = {1};

/* Distinct rows; behind them, operators that need not move them, or that must. */
enum chain { DISTINCT, PLACED, FEWER_KEYS, MOVED, RECURSION, CHAINS };

/* x is the rows and what x gives by the same columns: each row once, at once. */
static uint32_t add_recursion(struct plan *p, uint32_t rows)
{
    uint32_t variable = plan_variable(p, int8s, 2);
    uint32_t joined = plan_join(p, PLAN_JOIN_INNER, variable, rows, both, both, 2, false);
    uint32_t all = plan_union(p, rows, plan_project(p, joined, right, 2));
    uint32_t body = plan_unary(p, PLAN_DISTINCT, all);
    return plan_leave(p, plan_fixpoint(p, &variable, &body, 1, 0, false), 0);
}

static struct plan *make(void *arg)
{
    enum chain chain = *(const enum chain *)arg;
    struct plan *p = plan_new();
    p->id = DATAFLOW;
    p->as_of = 1;
    uint32_t rows = plan_unary(p, PLAN_DISTINCT, plan_source(p, 100, int8s, 2));
    uint32_t node = rows;
    if (chain == RECURSION) {
        node = add_recursion(p, rows);
    } else if (chain == FEWER_KEYS) { /* a group by one column may have rows on both workers */
        const struct plan_agg max = {.func = AGG_MAX, .arg = 0};
        node = plan_reduce(p, node, second, 1, &max, 1);
        node = plan_project(p, node, swapped, 2);
    } else if (chain != DISTINCT) {
        const struct plan_agg count = {.func = AGG_COUNT_ALL};
        node = plan_reduce(p, node, both, 2, &count, 1);
        node = plan_project(p, node, chain == MOVED ? swapped : both, 2);
        node = plan_join(p, PLAN_JOIN_INNER, node, rows, both, both, 2, false);
        node = plan_unary(p, PLAN_THRESHOLD, plan_project(p, node, right, 2));
    }
    plan_export_subscribe(p, OUTPUT, node, true, FRONTIER_EMPTY);
    return p;
}

static uint32_t part_at_0(void *arg, uint32_t worker, uint32_t source)
{
    return worker == 0;
}

/* With each row its reverse. */
static struct batch_builder *input(void)
{
    struct batch_builder *b = batch_builder_new(int8s, 2);
    for (int64_t i = 0; i < ROWS; i++) {
        struct datum d[] = {{.i = i}, {.i = i ^ 1}};
        batch_builder_datum(b, 0, &d[0]);
        batch_builder_datum(b, 1, &d[1]);
        batch_builder_end_row(b, 1, 1);
    }
    return b;
}

/* All of them put out the rows they are given. */
static uint64_t sent_by(enum chain chain, uint32_t workers)
{
    struct replica *r = replica_new(workers, 3 + workers, 0);
    replica_register(r, OUTPUT, int8s, 2);
    CU_ASSERT_FATAL(replica_create(r, make, &chain, part_at_0, 1) == ERR_OK);
    struct batch_builder *rows = input();
    struct view view = view_of(rows, 2);
    engine_input(r->worker[0].engine, DATAFLOW, 0, 0, 1, 2, &view.batch, NULL);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, OUTPUT), 2);
    struct batch_builder *have = replica_output(r, OUTPUT, 1, false, int8s, 2);
    CU_ASSERT(same_rows(rows, have, int8s, 2));
    uint64_t bytes = r->packet_bytes;
    view_free(&view);
    batch_builder_free(rows);
    batch_builder_free(have);
    replica_free(r);
    return bytes;
}

static void test_sent(void)
{
    enum { PROGRESS = 4000, SOME = ROWS / 3 * ROW_BYTES };
    for (uint32_t workers = 2; workers <= WORKERS_MAX; workers++) {
        uint64_t bytes[CHAINS];
        for (enum chain chain = DISTINCT; chain < CHAINS; chain++) {
            bytes[chain] = sent_by(chain, workers);
        }
        CU_ASSERT_TRUE(bytes[DISTINCT] >= SOME);
        CU_ASSERT_TRUE(bytes[PLACED] < bytes[DISTINCT] + PROGRESS);
        CU_ASSERT_TRUE(bytes[FEWER_KEYS] > bytes[DISTINCT] + SOME);
        CU_ASSERT_TRUE(bytes[MOVED] > bytes[DISTINCT] + SOME);
        CU_ASSERT_TRUE(bytes[RECURSION] > bytes[DISTINCT] && bytes[RECURSION] < bytes[MOVED]);
    }
}

static const struct test_case cases[] = {
    {"sent", test_sent},
};
TEST_SUITE("core/engine places", cases)
