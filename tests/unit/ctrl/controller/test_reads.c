/* Peeks: answered exactly once, whatever happens to replicas, indexes and clusters meanwhile. */
#include "tests/unit/ctrl/controller/controller_world.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <string.h>

/* Steps take no argument but the world: what they share stands here, for one test at a time. */
enum { LATE_TABLE = 9 };

static struct cw_peek peeks[4];
static struct cw_sub subs[2];

static void setup_index(struct cw *cw)
{
    cw_create(cw, cw_index_plan(INDEX, 0, false));
}

static void setup_nothing(struct cw *cw)
{
}

static void write_three(struct cw *cw)
{
    cw_write(cw, 1, 10, 1);
    cw_write(cw, 2, 20, 1);
    cw_write(cw, 3, 30, 1);
}

static void write_zero(struct cw *cw)
{
    cw_write(cw, 4, 0, 1);
}

static void unwrite_zero(struct cw *cw)
{
    cw_write(cw, 4, 0, -1);
}

static void advance(struct cw *cw)
{
    cw_advance(cw);
}

static void peek_now(struct cw *cw)
{
    cw_peek(cw, INDEX, cw->time, &peeks[0]);
}

/* At a time that only comes with the next advance. */
static void peek_ahead(struct cw *cw)
{
    cw_peek(cw, INDEX, cw->time + 500000, &peeks[0]);
}

static struct cw *start(uint32_t scale, uint32_t replicas, void (*setup)(struct cw *cw))
{
    const struct cw_config config = {.scale = scale, .replicas = replicas, .workers = 2};
    memset(peeks, 0, sizeof(peeks));
    memset(subs, 0, sizeof(subs));
    struct cw *cw = cw_new(scale * 10 + replicas, &config, setup);
    cw_do(cw, write_three);
    cw_run(cw, 1000000);
    CU_ASSERT_EQUAL_FATAL(cw->appended, 3);
    return cw;
}

static void all_rows(const struct cw_peek *peek)
{
    CU_ASSERT_EQUAL(peek->answers, 1);
    CU_ASSERT_STRING_EQUAL(peek->error, "");
    CU_ASSERT_EQUAL(peek->rows, 3);
    CU_ASSERT_EQUAL(peek->sum, 60);
    CU_ASSERT_FALSE(peek->inside);
}

static void refused(const struct cw_peek *peek, const char *word)
{
    CU_ASSERT_EQUAL(peek->answers, 1);
    CU_ASSERT_EQUAL(peek->rows, 0);
    if (strstr(peek->error, word) == NULL) {
        printf("\"%s\" lacks \"%s\"\n", peek->error, word);
        CU_FAIL("error text");
    }
}

/* Peeks that wait while a replica dies are answered once, with every row once. */
static void replica_loss(void)
{
    for (uint32_t scale = 1; scale <= 2; scale++) {
        for (uint32_t replicas = 1; replicas <= 2; replicas++) {
            struct cw *cw = start(scale, replicas, setup_index);
            cw_do(cw, peek_now);
            cw_run(cw, 500000);
            all_rows(&peeks[0]);
            cw_do(cw, peek_ahead);
            for (uint32_t r = 0; r < replicas; r++) {
                cw_kill(cw, r, scale - 1);
                cw_run(cw, 300000);
            }
            CU_ASSERT_EQUAL(peeks[0].answers, 0);
            cw_do(cw, advance);
            cw_kill(cw, 0, 0);
            cw_run(cw, 3000000);
            all_rows(&peeks[0]);
            cw_free(cw);
        }
    }
}

/* Killed at every point between question and answer. */
static void loss_while_answering(void)
{
    struct cw *cw = start(2, 2, setup_index);
    for (uint64_t delay = 0; delay < 4000; delay += 400) {
        cw_do(cw, peek_now);
        cw_run(cw, delay);
        cw_kill(cw, (uint32_t)(delay / 400 % 2), (uint32_t)(delay / 800 % 2));
        cw_run(cw, 1500000);
        all_rows(&peeks[0]);
    }
    cw_free(cw);
}

static void cancel_first(struct cw *cw)
{
    controller_peek_cancel(cw->controller, peeks[0].id);
    controller_peek_cancel(cw->controller, peeks[0].id); /* twice is nothing */
    controller_peek_cancel(cw->controller, 123456);
}

static void peek_and_cancel(struct cw *cw)
{
    cw_peek(cw, INDEX, cw->time, &peeks[0]);
    cw_peek(cw, 999, cw->time, &peeks[1]);
    controller_peek_cancel(cw->controller, peeks[0].id);
    controller_peek_cancel(cw->controller, peeks[1].id);
}

static void cancelled(void)
{
    struct cw *cw = start(2, 2, setup_index);
    cw_do(cw, peek_ahead);
    cw_run(cw, 100000);
    cw_do(cw, cancel_first);
    cw_do(cw, advance);
    cw_run(cw, 1000000);
    CU_ASSERT_EQUAL(peeks[0].answers, 0);
    cw_do(cw, peek_and_cancel);
    cw_run(cw, 1000000);
    CU_ASSERT_EQUAL(peeks[0].answers, 0);
    CU_ASSERT_EQUAL(peeks[1].answers, 0);
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    all_rows(&peeks[0]);
    cw_free(cw);
}

static void peek_unknown(struct cw *cw)
{
    cw_peek(cw, 999, cw->time, &peeks[0]);
    cw_peek(cw, 998, cw->time, &peeks[1]);
    CU_ASSERT_EQUAL(peeks[0].answers, 0);
    CU_ASSERT_EQUAL(peeks[1].answers, 0);
}

static void unknown_index(void)
{
    struct cw *cw = start(1, 1, setup_index);
    cw_do(cw, peek_unknown);
    cw_run(cw, 1000);
    refused(&peeks[0], "999");
    refused(&peeks[1], "998");
    CU_ASSERT_FALSE(peeks[0].inside);
    cw_do(cw, peek_unknown);
    cw_free(cw); /* with refusals perhaps on their way: nothing leaks */
}

static void drop_index(struct cw *cw)
{
    controller_export_drop(cw->controller, CLUSTER, INDEX);
    CU_ASSERT_EQUAL(peeks[0].answers, 0); /* not from inside the call */
}

static void drop_while_peeking(void)
{
    struct cw *cw = start(2, 1, setup_index);
    cw_do(cw, peek_ahead);
    cw_run(cw, 100000);
    cw_do(cw, drop_index);
    cw_run(cw, 1000000);
    refused(&peeks[0], "dropped");
    cw_do(cw, peek_now);
    cw_run(cw, 1000);
    refused(&peeks[0], "no index");
    cw_free(cw);
}

/* The asker of a transient index drops it as soon as it has its answer, whatever the answer. */
static void drop_from_inside_the_answer(void)
{
    struct cw *cw = start(1, 1, setup_index);
    peeks[0].drops = true;
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    all_rows(&peeks[0]);
    peeks[1] = (struct cw_peek){0};
    cw_free(cw);
    cw = start(1, 1, setup_index);
    peeks[0].drops = true;
    cw_do(cw, peek_ahead);
    cw_run(cw, 100000);
    cw_do(cw, drop_index);
    cw_run(cw, 100000);
    refused(&peeks[0], "dropped");
    cw_free(cw);
}

static void drop_cluster(struct cw *cw)
{
    controller_cluster_drop(cw->controller, CLUSTER);
}

static void cluster_dropped_while_peeking(void)
{
    struct cw *cw = start(2, 2, setup_index);
    cw_do(cw, peek_ahead);
    cw_run(cw, 100000);
    cw_do(cw, drop_cluster);
    cw_run(cw, 1000000);
    refused(&peeks[0], "dropped");
    cw_free(cw);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void setup_division(struct cw *cw)
{
    cw_subscribe(cw, SECOND, &subs[0]);
    cw_create(cw, cw_index_plan(INDEX, 0, true));
    cw_create(cw, cw_subscribe_plan(SECOND, TABLE, true));
}

/* A row error is data: reads fail while it stands and work again when the row is gone. */
static void row_error(void)
{
    struct cw *cw = start(1, 2, setup_division);
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    CU_ASSERT_STRING_EQUAL(peeks[0].error, "");
    CU_ASSERT_EQUAL(peeks[0].sum, 100 / 10 + 100 / 20 + 100 / 30);
    CU_ASSERT_EQUAL(subs[0].rows, 3);
    cw_do(cw, write_zero);
    cw_run(cw, 1000000);
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    refused(&peeks[0], "division by zero");
    CU_ASSERT_PTR_NOT_NULL(strstr(subs[0].error, "22012 division by zero"));
    CU_ASSERT_EQUAL(cw->failures, 0);
    cw_do(cw, unwrite_zero);
    cw_run(cw, 1000000);
    cw_do(cw, peek_now);
    cw_run(cw, 500000);
    CU_ASSERT_STRING_EQUAL(peeks[0].error, "");
    CU_ASSERT_EQUAL(peeks[0].rows, 3);
    cw_free(cw);
}

/* The plan says text where the table has int8: storage's columns are not the plan's. */
static void setup_misfit(struct cw *cw)
{
    struct plan *plan = cw_index_plan(INDEX, 0, false);
    plan->nodes[0].schema.types[1] = plan->nodes[1].schema.types[1] = type_of(TYPE_TEXT);
    cw_create(cw, plan);
    cw_peek(cw, INDEX, UINT64_C(1) << 62, &peeks[0]);
}

static void failing_dataflow(void)
{
    for (int drops = 0; drops < 3; drops++) {
        const struct cw_config config = {.scale = 1, .replicas = 2, .workers = 2};
        memset(peeks, 0, sizeof(peeks));
        peeks[0].drops = drops == 1;
        struct cw *cw = cw_new(7, &config, setup_misfit);
        cw->failed_events_drop = drops == 2;
        cw_do(cw, write_three);
        cw_run(cw, 2000000);
        CU_ASSERT_EQUAL(peeks[0].answers, 1);
        CU_ASSERT_STRING_NOT_EQUAL(peeks[0].error, "");
        CU_ASSERT_EQUAL(cw->failures, drops == 1 ? 0 : 1); /* dropped before it was told */
        cw_do(cw, peek_now);
        cw_run(cw, 1000);
        CU_ASSERT_EQUAL(peeks[0].answers, 1);
        CU_ASSERT_STRING_NOT_EQUAL(peeks[0].error, "");
        cw_free(cw);
    }
}

/* Its dataflows fail for want of memory, which says nothing about the data. */
static void starve(struct cw *cw, uint32_t replica)
{
    char name[64];
    snprintf(name, sizeof(name), "cluster-%d-replica-%u", CLUSTER, replica);
    world_limit_memory(cw->world, name, 1);
    cw_kill(cw, replica, 0);
    cw_run(cw, 1000000);
}

/* The starved replica answers at once, with an error; the other one's rows win all the same. */
static void replica_error_waits(void)
{
    for (uint32_t starved = 0; starved < 2; starved++) {
        struct cw *cw = start(1, 2, setup_index);
        starve(cw, starved);
        cw_do(cw, peek_now);
        cw_run(cw, 500000);
        all_rows(&peeks[0]);
        /* One that waits on the good replica survives its restart too. */
        cw_do(cw, peek_ahead);
        cw_run(cw, 100000);
        CU_ASSERT_EQUAL(peeks[0].answers, 0);
        cw_do(cw, advance);
        cw_run(cw, 1000000);
        all_rows(&peeks[0]);
        cw_free(cw);
    }
}

/* When the good replica goes too, what is left is told. */
static void replica_error_told(void)
{
    struct cw *cw = start(1, 2, setup_index);
    starve(cw, 0);
    cw_do(cw, peek_ahead);
    cw_run(cw, 100000);
    CU_ASSERT_EQUAL(peeks[0].answers, 0);
    cw_kill(cw, 1, 0);
    cw_run(cw, 3000000);
    CU_ASSERT_EQUAL(peeks[0].answers, 1);
    CU_ASSERT_STRING_NOT_EQUAL(peeks[0].error, "");
    CU_ASSERT_EQUAL(peeks[0].rows, 0);
    CU_ASSERT_FALSE(peeks[0].inside);
    cw_do(cw, peek_now); /* the good one is back */
    cw_run(cw, 500000);
    all_rows(&peeks[0]);
    cw_free(cw);
}

static void create_too_early(struct cw *cw)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    CU_ASSERT_TRUE(controller_collection_frontiers(cw->controller, TABLE, &since, &upper));
    CU_ASSERT(since > 1000 && upper > since);
    err_t err = controller_dataflow_create(cw->controller, CLUSTER,
                                           cw_index_plan(INDEX, since - 1, false));
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "history is kept from"));
    err_free(err);
    err = controller_dataflow_create(cw->controller, CLUSTER,
                                     cw_subscribe_plan(INDEX, 999, false));
    CU_ASSERT_EQUAL(err_code(err), ERR_NOT_FOUND);
    err_free(err);
    err = controller_dataflow_create(cw->controller, 77, cw_index_plan(INDEX, 0, false));
    CU_ASSERT_EQUAL(err_code(err), ERR_NOT_FOUND);
    err_free(err);
    cw_create(cw, cw_index_plan(INDEX, since, false)); /* the first time there is */
    cw_peek(cw, INDEX, cw->time, &peeks[0]);
    err = controller_dataflow_create(cw->controller, CLUSTER, cw_index_plan(INDEX, since, false));
    CU_ASSERT_EQUAL(err_code(err), ERR_EXISTS);
    err_free(err);
}

static void compact_table(struct cw *cw)
{
    controller_allow_compaction(cw->controller, 0, TABLE, cw->time);
}

static void as_of_below_since(void)
{
    struct cw *cw = start(1, 1, setup_nothing);
    cw_do(cw, compact_table);
    cw_run(cw, 500000);
    cw_do(cw, create_too_early);
    cw_run(cw, 1000000);
    all_rows(&peeks[0]);
    cw_free(cw);
}

/*
 * A table, and at once a dataflow over it whose time is given, as a SELECT at a time of the oracle
 * gives it, and a peek. Storage hears of the table late: whoever subscribes before is refused for
 * good.
 */
static void read_at_once(struct cw *cw)
{
    static const char *const names[] = {"k", "v"};
    const struct type types[] = {type_of(TYPE_INT8), type_of(TYPE_INT8)};
    const struct storage_collection table = {
        .id = LATE_TABLE, .kind = STORAGE_TABLE, .types = types, .names = names, .cols = 2};
    CU_ASSERT_PTR_NULL_FATAL(controller_collection_create(cw->controller, &table));
    uint64_t time = io_now_us(cw->loop) + 1000000;
    struct plan *plan = cw_index_plan(INDEX, time, false);
    plan->nodes[0].import.id = LATE_TABLE;
    cw_create(cw, plan);
    cw_peek(cw, INDEX, time, &peeks[0]);
    CU_ASSERT_EQUAL(peeks[0].answers, 0);
}

/* A dataflow, and who reads it, waits until its imports run, even when its time is given. */
static void imports_not_known_yet(void)
{
    for (uint32_t replicas = 1; replicas <= 4; replicas++) {
        struct cw *cw = start(1, replicas, setup_nothing);
        sim_partition(world_sim(cw->world), "env", "storage-0", true);
        cw_do(cw, read_at_once);
        cw_run(cw, 100000);
        sim_partition(world_sim(cw->world), "env", "storage-0", false);
        cw_run(cw, 4000000);
        cw_do(cw, advance);
        cw_run(cw, 500000);
        CU_ASSERT_EQUAL(cw->failures, 0);
        CU_ASSERT_EQUAL(peeks[0].answers, 1);
        CU_ASSERT_STRING_EQUAL(peeks[0].error, "");
        CU_ASSERT_EQUAL(peeks[0].rows, 0);
        cw_free(cw);
    }
}

static const struct test_case cases[] = {
    {"replica loss", replica_loss},
    {"loss while answering", loss_while_answering},
    {"cancelled", cancelled},
    {"unknown index", unknown_index},
    {"drop while peeking", drop_while_peeking},
    {"drop from inside the answer", drop_from_inside_the_answer},
    {"cluster dropped while peeking", cluster_dropped_while_peeking},
    {"row error", row_error},
    {"replica error waits", replica_error_waits},
    {"replica error told", replica_error_told},
    {"failing dataflow", failing_dataflow},
    {"as_of below since", as_of_below_since},
    {"imports not known yet", imports_not_known_yet},
};
TEST_SUITE("ctrl/controller reads", cases)
