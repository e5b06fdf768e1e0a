/* Subscriptions under fire, compaction and holds, appends, and restarts of environmentd. */
#include "tests/unit/ctrl/controller/controller_world.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Steps take no argument but the world: what they share stands here, for one test at a time. */
static struct cw_peek peeks[2];
static struct cw_sub subs[2];
static int64_t next_value;
static int64_t total;
static uint64_t past; /* a time to read at */
static uint64_t hold;
static enum { NAME_INDEX, NAME_NOTHING, NAME_ANOTHER } named;

static void write_one(struct cw *cw)
{
    next_value++;
    total += next_value;
    cw_write(cw, next_value % 7, next_value, 1);
}


static void setup_subscription(struct cw *cw)
{
    cw_subscribe(cw, SECOND, &subs[0]);
    cw_create(cw, cw_subscribe_plan(SECOND, TABLE, false));
}

/* One dataflow with both an index and a subscription. */
static void setup_both(struct cw *cw)
{
    struct plan *plan = cw_index_plan(INDEX, 0, false);
    plan->exports[1] = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                            .id = SECOND,
                                            .node = 1,
                                            .snapshot = true,
                                            .until = FRONTIER_EMPTY};
    plan->exports_len = 2;
    cw_subscribe(cw, SECOND, &subs[0]);
    cw_create(cw, plan);
}

/* What the catalog holds at this start. */
static void setup_named(struct cw *cw)
{
    if (named != NAME_NOTHING) {
        cw_create(cw, cw_index_plan(INDEX, 0, named == NAME_ANOTHER));
    }
}

static struct cw *start(uint32_t scale, uint32_t replicas, void (*setup)(struct cw *cw))
{
    const struct cw_config config = {.scale = scale, .replicas = replicas, .workers = 2};
    memset(peeks, 0, sizeof(peeks));
    next_value = total = 0;
    named = NAME_INDEX;
    struct cw *cw = cw_new(scale * 100 + replicas, &config, setup);
    cw_do(cw, write_one);
    cw_run(cw, 500000);
    CU_ASSERT_EQUAL_FATAL(cw->appended, 1);
    return cw;
}

static void subscribed(const struct cw *cw)
{
    CU_ASSERT_STRING_EQUAL(subs[0].error, "");
    CU_ASSERT_EQUAL(subs[0].gaps, 0);
    CU_ASSERT(subs[0].upper > cw->time);
    CU_ASSERT_EQUAL(subs[0].rows, next_value);
    CU_ASSERT_EQUAL(subs[0].sum, total);
}

/* ---- subscriptions --------------------------------------------------------------------------- */

/* One replica dies again and again, at every stage of its return. */
static void replica_killed_repeatedly(void)
{
    for (uint32_t scale = 1; scale <= 2; scale++) {
        struct cw *cw = start(scale, 2, setup_subscription);
        for (uint32_t round = 0; round < 40; round++) {
            cw_do(cw, write_one);
            cw_run(cw, 20000 + round * 3000);
            if (round % 2 == 0) {
                cw_run(cw, 60000); /* it lives */
                cw_kill(cw, 1, round / 2 % scale);
            }
        }
        cw_run(cw, 2000000);
        subscribed(cw);
        CU_ASSERT(subs[0].pieces > 20); /* the other replica went on meanwhile */
        cw_free(cw);
    }
}

/* Both in turn, so that each takes over from where the other stopped. */
static void replicas_take_turns(void)
{
    struct cw *cw = start(1, 2, setup_subscription);
    for (uint32_t round = 0; round < 30; round++) {
        cw_do(cw, write_one);
        cw_run(cw, 150000);
        cw_kill(cw, round % 2, 0);
        cw_do(cw, write_one);
        cw_run(cw, 40000 * (round % 5));
    }
    cw_run(cw, 2000000);
    subscribed(cw);
    cw_free(cw);
}

static void compact_all(struct cw *cw)
{
    controller_allow_compaction(cw->controller, CLUSTER, INDEX, cw->time);
    controller_allow_compaction(cw->controller, 0, TABLE, cw->time);
}

/* An index may not be compacted past what a subscription of its dataflow was told. */
static void compaction_behind_subscription(void)
{
    struct cw *cw = start(1, 1, setup_both);
    for (uint32_t round = 0; round < 5; round++) {
        cw_kill(cw, 0, 0);
        cw_do(cw, write_one);
        cw_run(cw, 20000);
        cw_do(cw, compact_all);
        cw_run(cw, 1000000);
        subscribed(cw);
    }
    cw_free(cw);
}

/* ---- compaction and holds -------------------------------------------------------------------- */

static uint64_t since_of(struct cw *cw, uint64_t cluster, uint64_t id)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    bool found = cluster == 0
                     ? controller_collection_frontiers(cw->controller, id, &since, &upper)
                     : controller_index_frontiers(cw->controller, cluster, id, &since, &upper);
    CU_ASSERT_TRUE_FATAL(found);
    return since;
}

static void hold_now(struct cw *cw)
{
    past = cw->time;
    CU_ASSERT_PTR_NULL(controller_hold(cw->controller, 0, TABLE, past, &hold));
    uint64_t none = 0;
    err_t err = controller_hold(cw->controller, 0, 999, past, &none);
    CU_ASSERT_EQUAL(err_code(err), ERR_NOT_FOUND);
    err_free(err);
}

static void check_held(struct cw *cw)
{
    CU_ASSERT(since_of(cw, 0, TABLE) <= past);
}

static void create_in_the_past(struct cw *cw)
{
    cw_create(cw, cw_index_plan(INDEX, past, false));
    cw_peek(cw, INDEX, past, &peeks[0]);
    cw_peek(cw, INDEX, cw->time, &peeks[1]);
}

static void drop_index_and_hold(struct cw *cw)
{
    controller_export_drop(cw->controller, CLUSTER, INDEX);
    controller_hold_release(cw->controller, hold);
    controller_hold_release(cw->controller, hold); /* twice is nothing */
}

static void check_released(struct cw *cw)
{
    CU_ASSERT(since_of(cw, 0, TABLE) > past);
    uint64_t none = 0;
    err_t err = controller_hold(cw->controller, 0, TABLE, past, &none);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
}

static void setup_nothing(struct cw *cw)
{
}

static void holds(void)
{
    struct cw *cw = start(1, 1, setup_nothing);
    cw_do(cw, hold_now);
    int64_t sum_then = total;
    for (int i = 0; i < 10; i++) {
        cw_do(cw, write_one);
        cw_run(cw, 100000);
        cw_do(cw, compact_all);
        cw_do(cw, check_held);
    }
    cw_do(cw, create_in_the_past);
    cw_run(cw, 1000000);
    CU_ASSERT_STRING_EQUAL(peeks[0].error, "");
    CU_ASSERT_EQUAL(peeks[0].sum, sum_then); /* history was there */
    CU_ASSERT_EQUAL(peeks[1].sum, total);
    cw_do(cw, drop_index_and_hold);
    cw_do(cw, compact_all);
    cw_run(cw, 100000);
    cw_do(cw, check_released);
    cw_free(cw);
}

static void check_dataflow_holds(struct cw *cw)
{
    CU_ASSERT(since_of(cw, 0, TABLE) <= since_of(cw, CLUSTER, INDEX));
}

static void compact_table(struct cw *cw)
{
    controller_allow_compaction(cw->controller, 0, TABLE, cw->time);
}

/* A dataflow holds its source where it would begin again, also while its replica is away. */
static void dataflow_holds_its_source(void)
{
    struct cw *cw = start(1, 1, setup_named);
    for (int i = 0; i < 5; i++) {
        cw_kill(cw, 0, 0);
        cw_do(cw, write_one);
        cw_do(cw, compact_table);
        cw_run(cw, 300000);
        cw_do(cw, check_dataflow_holds);
        cw_do(cw, compact_all);
        cw_do(cw, check_dataflow_holds);
        cw_run(cw, 700000);
    }
    cw_free(cw);
}

/* ---- appends --------------------------------------------------------------------------------- */

static struct {
    uint32_t answers, fenced;
} late;

static void append_at(struct cw *cw, uint64_t time);

static void on_late(void *arg, err_t err)
{
    struct cw *cw = arg;
    late.answers++;
    if (err != ERR_OK) {
        CU_ASSERT_EQUAL(err_code(err), ERR_FENCED);
        late.fenced++;
        err_free(err);
        cw->time += 1000;
        append_at(cw, cw->time); /* the same row, later */
    }
}

static void append_at(struct cw *cw, uint64_t time)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};
    struct batch_builder *builder = batch_builder_new(kinds, 2);
    batch_builder_datum(builder, 0, &(struct datum){.i = 1});
    batch_builder_datum(builder, 1, &(struct datum){.i = 1000});
    batch_builder_end_row(builder, 0, 1);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(builder, &size);
    struct batch_col cols[2];
    struct batch view;
    batch_view(bytes, size, cols, 2, &view);
    const struct storage_write write = {.id = TABLE, .batch = &view};
    controller_append(cw->controller, time, &write, 1, on_late, cw);
    batch_builder_free(builder);
    free(bytes);
}

static void append_too_late(struct cw *cw)
{
    append_at(cw, cw->time - 1);
    CU_ASSERT_EQUAL(late.answers, 0);
}

static void peek_now(struct cw *cw)
{
    cw_advance(cw);
    cw_peek(cw, INDEX, cw->time, &peeks[0]);
}

static void fenced_append(void)
{
    struct cw *cw = start(1, 1, setup_named);
    late.answers = late.fenced = 0;
    cw_do(cw, append_too_late);
    cw_run(cw, 500000);
    CU_ASSERT_EQUAL(late.answers, 2);
    CU_ASSERT_EQUAL(late.fenced, 1);
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    CU_ASSERT_EQUAL(peeks[0].rows, 2);
    CU_ASSERT_EQUAL(peeks[0].sum, total + 1000); /* once */
    cw_free(cw);
}

/* storaged dies with appends under way: each is applied once and answered once. */
static void appends_over_a_crash(void)
{
    struct cw *cw = start(1, 1, setup_named);
    for (int i = 0; i < 20; i++) {
        cw_do(cw, write_one);
        cw_run(cw, (uint64_t)i * 150);
        CU_ASSERT_TRUE(world_kill(cw->world, "storage", 0));
        cw_run(cw, 400000);
    }
    cw_run(cw, 2000000);
    CU_ASSERT_EQUAL(cw->appended, (uint64_t)next_value);
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    CU_ASSERT_EQUAL(peeks[0].rows, next_value);
    CU_ASSERT_EQUAL(peeks[0].sum, total);
    cw_free(cw);
}

/* ---- restarts of environmentd ---------------------------------------------------------------- */

/* The log line computed writes of a reconciliation during the restart. */
static void restart(struct cw *cw, char *line, size_t cap)
{
    fflush(stderr);
    FILE *file = tmpfile();
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    int saved = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    cw_restart(cw);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    char text[1024];
    line[0] = '\0';
    while (fgets(text, sizeof(text), file) != NULL) {
        if (strstr(text, "msg=reconciled") != NULL) {
            snprintf(line, cap, "%s", strstr(text, "running="));
        }
    }
    fclose(file);
}

static void restarted(struct cw *cw, const char *expected)
{
    char line[256];
    restart(cw, line, sizeof(line));
    if (strncmp(line, expected, strlen(expected)) != 0) {
        printf("reconciled: \"%s\", not \"%s\"\n", line, expected);
        CU_FAIL("reconciliation");
    }
    cw_do(cw, write_one);
    cw_run(cw, 500000);
}

static void peek_is_right(struct cw *cw)
{
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    CU_ASSERT_EQUAL(peeks[0].answers, 1);
    CU_ASSERT_STRING_EQUAL(peeks[0].error, "");
    CU_ASSERT_EQUAL(peeks[0].rows, next_value);
    CU_ASSERT_EQUAL(peeks[0].sum, total);
}

/* Kept: it reads on where it was, without a second snapshot of its source. */
static void dataflow_is_kept(void)
{
    for (uint32_t scale = 1; scale <= 2; scale++) {
        struct cw *cw = start(scale, 1, setup_named);
        for (int i = 0; i < 3; i++) {
            restarted(cw, "running=1 kept=1");
            peek_is_right(cw);
        }
        cw_free(cw);
    }
}

static void dataflow_is_dropped(void)
{
    struct cw *cw = start(2, 1, setup_named);
    named = NAME_NOTHING;
    restarted(cw, "running=1 kept=0");
    named = NAME_INDEX;
    restarted(cw, "running=0 kept=0");
    peek_is_right(cw);
    named = NAME_ANOTHER; /* the same id, another plan */
    restarted(cw, "running=1 kept=0");
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    CU_ASSERT_STRING_EQUAL(peeks[0].error, "");
    CU_ASSERT_EQUAL(peeks[0].rows, next_value);
    CU_ASSERT_EQUAL(peeks[0].sum, 100 / 1 + 100 / 2 + 100 / 3 + 100 / 4);
    cw_free(cw);
}

static void drop_index(struct cw *cw)
{
    controller_export_drop(cw->controller, CLUSTER, INDEX);
}

static void drop_subscription(struct cw *cw)
{
    controller_export_drop(cw->controller, CLUSTER, SECOND);
}

/* A dropped export stays dropped when a replica is brought back: nothing is left in the end. */
static void dropped_export_stays_dropped(void)
{
    struct cw *cw = start(1, 1, setup_both);
    cw_do(cw, drop_index);
    cw_run(cw, 100000);
    cw_kill(cw, 0, 0);
    cw_do(cw, write_one);
    cw_run(cw, 1000000);
    subscribed(cw);
    cw_do(cw, drop_subscription);
    cw_run(cw, 500000);
    cw->setup = setup_nothing;
    restarted(cw, "running=0 kept=0");
    cw_free(cw);
}

static const struct test_case cases[] = {
    {"replica killed repeatedly", replica_killed_repeatedly},
    {"replicas take turns", replicas_take_turns},
    {"compaction behind subscription", compaction_behind_subscription},
    {"holds", holds},
    {"dataflow holds its source", dataflow_holds_its_source},
    {"fenced append", fenced_append},
    {"appends over a crash", appends_over_a_crash},
    {"dataflow is kept", dataflow_is_kept},
    {"dataflow is dropped", dataflow_is_dropped},
    {"dropped export stays dropped", dropped_export_stays_dropped},
};
TEST_SUITE("ctrl/controller life", cases)
