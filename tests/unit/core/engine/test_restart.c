/* Restarts that cannot be followed: a peer's claims, none left, dropped or failed dataflows. */
#include "core/engine/engine_internal.h"
#include "tests/unit/core/engine/host.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

enum { BASE = 7, LATER = 8, INDEX = 2, SUBSCRIBE = 3, FEW = 3 };

static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};
static const uint32_t col0[] = {0};

/* As the exchange writes them (struct record). */
struct wire {
    uint32_t kind, channel;
    uint64_t dataflow, value;
};

enum { WIRE_FRONTIER = 3, WIRE_END = 4, WIRE_RESTART = 7 };

static err_t tell(struct engine *engine, uint32_t kind, uint64_t value)
{
    struct wire wire = {.kind = kind, .dataflow = BASE, .value = value};
    return engine_receive(engine, 0, &wire, sizeof(wire));
}

/* BASE: a source and its index. LATER: reads that index. */
static struct plan *make(void *arg)
{
    struct plan *p = plan_new();
    p->id = *(const uint64_t *)arg;
    p->as_of = 1;
    if (p->id == BASE) {
        plan_export_index(p, INDEX, plan_source(p, 100, kinds, 2), col0, 1);
    } else {
        plan_export_subscribe(p, SUBSCRIBE, plan_index(p, INDEX, kinds, 2), true, FRONTIER_EMPTY);
    }
    return p;
}

static uint32_t part_at_0(void *arg, uint32_t worker, uint32_t source)
{
    return worker == 0;
}

static struct replica *replica_with(uint32_t workers, uint64_t last)
{
    struct replica *r = replica_new(workers, 5, 0);
    replica_register(r, SUBSCRIBE, kinds, 2);
    for (uint64_t id = BASE; id <= last; id++) {
        CU_ASSERT_FATAL(replica_create(r, make, &id, part_at_0, id == BASE) == ERR_OK);
    }
    replica_settle(r);
    return r;
}

static bool is_code(err_t err, enum err_code code)
{
    bool is = err != ERR_OK && err_code(err) == code;
    err_free(err);
    return is;
}

static void test_none_left(void)
{
    struct replica *r = replica_with(2, BASE);
    struct engine *victim = r->worker[1].engine;
    CU_ASSERT(is_code(tell(victim, WIRE_RESTART, UINT32_MAX), ERR_PROTOCOL));
    CU_ASSERT(is_code(tell(victim, WIRE_RESTART, 1ULL << 32), ERR_PROTOCOL));
    CU_ASSERT_EQUAL(r->worker[1].restarts, 0);
    CU_ASSERT(tell(victim, WIRE_RESTART, UINT32_MAX - 1) == ERR_OK);
    CU_ASSERT_EQUAL(r->worker[1].restarts, 1);
    CU_ASSERT_EQUAL(r->failures, 0);
    engine_restart(victim, BASE);
    engine_step(victim);
    CU_ASSERT_EQUAL(r->worker[1].restarts, 1);
    CU_ASSERT_EQUAL_FATAL(r->failures, 1);
    CU_ASSERT_PTR_NOT_NULL(strstr(r->failed, "no restart is left"));
    replica_free(r);
}

/* Of its own accord, or as another worker says. */
static void test_dropped(void)
{
    for (int told = 0; told < 2; told++) {
        struct replica *r = replica_with(2, LATER);
        struct engine *engine = r->worker[1].engine;
        replica_drop(r, BASE);
        replica_settle(r);
        CU_ASSERT_PTR_NOT_NULL(engine_exchange_find(engine, BASE));
        if (told == 1) {
            CU_ASSERT(tell(engine, WIRE_RESTART, 1) == ERR_OK);
        } else {
            engine_restart(engine, BASE);
        }
        while (engine_step(engine)) {
        }
        CU_ASSERT_EQUAL(r->worker[1].restarts, 0); /* the host knows it no more */
        CU_ASSERT_EQUAL_FATAL(r->failures, 1);     /* who imports from it */
        CU_ASSERT_PTR_NOT_NULL(strstr(r->failed, "the index's dataflow failed"));
        CU_ASSERT_PTR_NULL(engine_exchange_find(engine, LATER));
        CU_ASSERT_PTR_NULL(engine_exchange_find(engine, BASE));
        CU_ASSERT_EQUAL(engine_memory(engine), 0);
        replica_free(r);
    }
}

/* What comes for the failed life's restarts is not kept; what comes for the next life is. */
static void test_failed(void)
{
    struct replica *r = replica_with(2, LATER);
    struct engine *engine = r->worker[1].engine;
    struct dataflow *base = engine_exchange_find(engine, BASE);
    op_fail(&base->ops[0], err_new(ERR_LIMIT, "fails"));
    CU_ASSERT(tell(engine, WIRE_RESTART, 1) == ERR_OK);
    for (uint64_t i = 0; i < FEW; i++) {
        CU_ASSERT(tell(engine, WIRE_FRONTIER, 1 + i) == ERR_OK);
    }
    CU_ASSERT_EQUAL(engine->pending_bytes, 0);
    CU_ASSERT(tell(engine, WIRE_END, 0) == ERR_OK);
    CU_ASSERT(tell(engine, WIRE_FRONTIER, 1) == ERR_OK);
    CU_ASSERT_TRUE(engine->pending_bytes > 0);
    while (engine_step(engine)) {
    }
    CU_ASSERT_EQUAL(r->failures, 2);
    CU_ASSERT_TRUE(engine->pending_bytes > 0);
    replica_free(r);
}

static const struct test_case cases[] = {
    {"dropped", test_dropped},
    {"failed", test_failed},
    {"none_left", test_none_left},
};
TEST_SUITE("core/engine restarts", cases)
