/* Idle views: what replicas report of a tick does not grow with their number, nobody is behind who
 * asks, and what is compacted is what changed. */
#include "ctrl/controller/controller_internal.h"
#include "tests/unit/ctrl/controller/controller_world.h"
#include "tests/unit/harness.h"

#include <string.h>

enum { FIRST = 1000 };

static uint32_t views;
static struct cw_peek peeks[2];

static void setup(struct cw *cw)
{
    for (uint32_t i = 0; i < views; i++) {
        cw_create(cw, cw_index_plan(FIRST + i, 0, false));
    }
}

static void write_one(struct cw *cw)
{
    cw_write(cw, 1, 10, 1);
}

static void read_two(struct cw *cw)
{
    memset(peeks, 0, sizeof(peeks));
    cw_peek(cw, FIRST, cw->time, &peeks[0]);
    cw_peek(cw, FIRST + views - 1, cw->time, &peeks[1]);
}

/* The frontiers of an index, as they would be chosen from. */
static uint64_t upper_of(struct cw *cw, uint64_t id)
{
    uint64_t since = 0, upper = 0;
    CU_ASSERT_TRUE_FATAL(
        controller_index_frontiers(cw->controller, CLUSTER, id, &since, &upper));
    CU_ASSERT(since < upper);
    return upper;
}

static void check_read(struct cw *cw, int64_t rows)
{
    cw_do(cw, read_two);
    cw_run(cw, 1000000);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_EQUAL(peeks[i].answers, 1);
        CU_ASSERT_STRING_EQUAL(peeks[i].error, "");
        CU_ASSERT_EQUAL(peeks[i].rows, rows);
    }
}

/* Entries of reports in fifty ticks. */
static uint64_t reports_of_ticks(uint32_t n, uint32_t scale)
{
    const struct cw_config config = {.scale = scale, .replicas = 1, .workers = 2};
    views = n;
    struct cw *cw = cw_new(n + scale, &config, setup);
    cw_do(cw, write_one);
    for (int i = 0; i < 20; i++) { /* until all are in step */
        cw_do(cw, cw_advance);
        cw_run(cw, 100000);
    }
    uint64_t before = cw->controller->reported;
    uint64_t upper = upper_of(cw, FIRST + n / 2);
    for (int i = 0; i < 50; i++) {
        cw_do(cw, cw_advance);
        cw_run(cw, 20000);
    }
    uint64_t reports = cw->controller->reported - before;
    CU_ASSERT(upper_of(cw, FIRST + n / 2) > upper);
    CU_ASSERT_EQUAL(upper_of(cw, FIRST), cw->time + 1);
    check_read(cw, 1);
    cw_do(cw, write_one);
    check_read(cw, 2);
    cw_kill(cw, 0, scale - 1);
    cw_run(cw, 3000000);
    cw_do(cw, cw_advance);
    cw_run(cw, 200000);
    CU_ASSERT_EQUAL(upper_of(cw, FIRST + n - 1), cw->time + 1);
    check_read(cw, 2);
    cw_restart(cw);
    cw_run(cw, 2000000);
    cw_do(cw, cw_advance);
    cw_run(cw, 200000);
    CU_ASSERT_EQUAL(upper_of(cw, FIRST + n - 1), cw->time + 1);
    check_read(cw, 2);
    cw_free(cw);
    return reports;
}

static void a_tick_is_reported_once(void)
{
    for (uint32_t scale = 1; scale <= 2; scale++) {
        uint64_t few = reports_of_ticks(5, scale);
        CU_ASSERT(few > 0 && few <= 50UL * 2 * scale);
        CU_ASSERT_EQUAL(reports_of_ticks(150, scale), few);
    }
}

/* ---- compaction ------------------------------------------------------------------------------ */

static uint32_t changed;

static void count_changed(void *arg, uint64_t cluster, uint64_t id, uint64_t since, uint64_t upper)
{
    struct cw *cw = arg;
    changed += cluster != 0;
    if (upper != FRONTIER_EMPTY && upper - 1 > since) {
        controller_allow_compaction(cw->controller, cluster, id, upper - 1);
    }
}

static void compact(struct cw *cw)
{
    changed = 0;
    controller_each_changed(cw->controller, count_changed, cw);
}

static void compact_until_quiet(struct cw *cw)
{
    cw_do(cw, compact);
    for (int i = 0; i < 20 && changed > 0; i++) {
        cw_do(cw, cw_advance);
        cw_run(cw, 100000);
        cw_do(cw, compact);
    }
    CU_ASSERT_EQUAL(changed, 0);
}

/* The table follows its readers: it is compacted beyond a write once all of them are. */
static void only_what_changed_is_compacted(void)
{
    const struct cw_config config = {.scale = 1, .replicas = 1, .workers = 2};
    views = 20;
    struct cw *cw = cw_new(3, &config, setup);
    compact_until_quiet(cw);
    for (int round = 0; round < 3; round++) {
        cw_do(cw, write_one);
        uint64_t written = cw->time;
        cw_run(cw, 300000);
        cw_do(cw, compact);
        CU_ASSERT_EQUAL(changed, views);
        compact_until_quiet(cw);
        uint64_t since = 0, upper = 0;
        CU_ASSERT_TRUE(controller_collection_frontiers(cw->controller, TABLE, &since, &upper));
        CU_ASSERT(since >= written);
        check_read(cw, round + 1);
    }
    cw_free(cw);
}

/* A view of rows that are never there, and views that read its index. */
static void setup_chain(struct cw *cw)
{
    struct plan *plan = cw_index_plan(FIRST, 0, false);
    struct expr *none = ARENA_ARRAY(&plan->arena, struct expr, 1);
    struct expr_node literal = {.kind = EXPR_LITERAL, .type = type_of(TYPE_BOOL)};
    expr_add(&plan->arena, none, &literal);
    plan->nodes[1].mfp.predicates = none;
    plan->nodes[1].mfp.predicates_len = 1;
    cw_create(cw, plan);
    for (uint32_t i = 1; i < views; i++) {
        plan = cw_index_plan(FIRST + i, 0, false);
        plan->nodes[0].op = PLAN_INDEX;
        plan->nodes[0].import.id = FIRST + i - 1;
        cw_create(cw, plan);
    }
}

/* What reads a view that does not change keeps neither it nor the table from being compacted. */
static void a_quiet_reader_holds_nothing_back(void)
{
    const struct cw_config config = {.scale = 1, .replicas = 1, .workers = 2};
    views = 4;
    struct cw *cw = cw_new(4, &config, setup_chain);
    compact_until_quiet(cw);
    for (int round = 0; round < 3; round++) {
        cw_do(cw, write_one);
        uint64_t written = cw->time;
        cw_run(cw, 300000);
        compact_until_quiet(cw);
        uint64_t since = 0, upper = 0;
        CU_ASSERT_TRUE(controller_collection_frontiers(cw->controller, TABLE, &since, &upper));
        CU_ASSERT(since >= written);
        check_read(cw, 0);
    }
    cw_free(cw);
}

/* ---- a replica that is behind ---------------------------------------------------------------- */

/* Between the processes of the second replica and storage. */
static void part(struct cw *cw, bool cut)
{
    sim_partition(world_sim(cw->world), "storage-0", "cluster-2-replica-1-0", cut);
    sim_partition(world_sim(cw->world), "storage-0", "cluster-2-replica-1-1", cut);
}

/*
 * An index rests on a process that reads no part of the table, while the one that does was not fed
 * as far as the other replica's reads and compaction have come. All processes begin it anew with
 * environmentd, or none.
 */
static void a_replica_behind_begins_anew_as_a_whole(void)
{
    const struct cw_config config = {.scale = 2, .replicas = 2, .workers = 1};
    views = 2;
    struct cw *cw = cw_new(5, &config, setup);
    cw_do(cw, write_one);
    cw_run(cw, 300000);
    compact_until_quiet(cw);
    part(cw, true);
    for (int i = 0; i < 5; i++) {
        cw_do(cw, write_one);
        cw_run(cw, 100000);
        cw_do(cw, compact);
    }
    cw_restart(cw);
    part(cw, false);
    for (int i = 0; i < 30; i++) {
        cw_do(cw, cw_advance);
        cw_run(cw, 100000);
    }
    const struct ctl_export *export = u64map_get(&cw->controller->exports, FIRST);
    CU_ASSERT_PTR_NOT_NULL_FATAL(export);
    CU_ASSERT_EQUAL(progress_replica_upper(export, 0), cw->time + 1);
    CU_ASSERT_EQUAL(progress_replica_upper(export, 1), cw->time + 1);
    check_read(cw, 6);
    cw_free(cw);
}

static const struct test_case cases[] = {
    {"a tick is reported once", a_tick_is_reported_once},
    {"only what changed is compacted", only_what_changed_is_compacted},
    {"a quiet reader holds nothing back", a_quiet_reader_holds_nothing_back},
    {"a replica behind begins anew as a whole", a_replica_behind_begins_anew_as_a_whole},
};
TEST_SUITE("ctrl/controller idle views", cases)
