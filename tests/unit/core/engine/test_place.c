/* Which rows go from worker to worker, by what a chain of operators sends. */
#include "core/engine/place.h"
#include "tests/unit/core/engine/host.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

enum { DATAFLOW = 10, OUTPUT = 1, ROWS = 3000, ROW_BYTES = 16, VARIABLES_MAX = 120 };

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

/* ---- many variables ------------------------------------------------------------------------- */

static uint32_t swap(struct plan *p, uint32_t node)
{
    return plan_project(p, node, swapped, 2);
}

/*
 * The first variable is all rows, and stays where it is. The second has none and is refuted at
 * once. Each further one is refuted a round after the one before: its body is a union that has a
 * place, another one, when only one of its sides is from a variable with a place.
 */
static struct plan *make_chain(void *arg)
{
    uint32_t variables = *(const uint32_t *)arg;
    uint32_t variable[VARIABLES_MAX], body[VARIABLES_MAX];
    struct plan *p = plan_new();
    p->id = DATAFLOW;
    p->as_of = 1;
    uint32_t rows = plan_unary(p, PLAN_DISTINCT, plan_source(p, 100, int8s, 2));
    for (uint32_t v = 0; v < variables; v++) {
        variable[v] = plan_variable(p, int8s, 2);
    }
    for (uint32_t v = 0; v < variables; v++) {
        if (v < 2) {
            body[v] = v == 0 ? plan_union(p, rows, variable[0]) : swap(p, variable[1]);
        } else {
            uint32_t before = swap(p, plan_unary(p, PLAN_DISTINCT, swap(p, variable[v - 1])));
            body[v] = plan_union(p, before, swap(p, variable[0]));
        }
        body[v] = plan_unary(p, PLAN_DISTINCT, body[v]);
    }
    uint32_t fixpoint = plan_fixpoint(p, variable, body, variables, 0, false);
    plan_export_subscribe(p, OUTPUT, plan_leave(p, fixpoint, variables - 1), true,
                          FRONTIER_EMPTY);
    return p;
}

/* Does the first variable's place still save an exchange in front of its body? */
static bool stays(const struct replica *r)
{
    struct dataflow *dataflow = engine_exchange_find(r->worker[0].engine, DATAFLOW);
    const struct plan *plan = dataflow->plan;
    uint32_t i = 0;
    while (plan->nodes[i].op != PLAN_FIXPOINT) {
        i++;
    }
    struct op *body = &dataflow->ops[plan->nodes[i].inputs[0]];
    return places_stay(dataflow->places, body, 0, ROUTE_KEYS, both, 2);
}

/* A few rounds find out what stays, many are not worth their time; the rows are right with both. */
static void test_many_variables(void)
{
    const uint32_t variables[] = {2, 8, 28, 40, VARIABLES_MAX};
    for (uint32_t i = 0; i < ARRAY_LEN(variables); i++) {
        struct replica *r = replica_new(2, 7, 0);
        uint32_t of = variables[i];
        replica_register(r, OUTPUT, int8s, 2);
        CU_ASSERT_FATAL(replica_create(r, make_chain, &of, part_at_0, 1) == ERR_OK);
        CU_ASSERT_EQUAL(stays(r), of < 30);
        struct batch_builder *rows = of > 2 ? input() : batch_builder_new(int8s, 2);
        struct batch_builder *fed = input();
        struct view view = view_of(fed, 2);
        engine_input(r->worker[0].engine, DATAFLOW, 0, 0, 1, 2, &view.batch, NULL);
        replica_settle(r);
        CU_ASSERT_EQUAL(replica_frontier(r, OUTPUT), 2);
        struct batch_builder *have = replica_output(r, OUTPUT, 1, false, int8s, 2);
        CU_ASSERT(same_rows(rows, have, int8s, 2));
        view_free(&view);
        batch_builder_free(fed);
        batch_builder_free(rows);
        batch_builder_free(have);
        replica_free(r);
    }
}

static const struct test_case cases[] = {
    {"many_variables", test_many_variables},
    {"sent", test_sent},
};
TEST_SUITE("core/engine places", cases)
