/*
 * Snapshots as they arrive: pieces of one time go into the operators' state, so that a dataflow
 * needs little more while it hydrates than what it keeps. Memory is the engine's own account, so
 * the figures are the same on every machine.
 */
#include "tests/unit/core/engine/host.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

enum { DATAFLOW = 10, READER, INDEX = 1, OUTPUT, PIECE = 8192, ROWS = 1000000 };

static const uint8_t int8s[] = {TYPE_INT8, TYPE_INT8, TYPE_INT8, TYPE_INT8};
static const uint8_t texts[] = {TYPE_INT8, TYPE_TEXT, TYPE_INT8, TYPE_TEXT};
static const uint32_t col0[] = {0};

/* A plan over up to two sources of the same columns, and their rows. */
struct hydration {
    enum { OF_SOURCE, OF_COUNT, OF_DISTINCT, OF_JOIN } what;
    const uint8_t *kinds; /* of two columns */
    int64_t keys;         /* rows have keys below it, in turn */
    bool subscribe;
    uint32_t workers;
};

static uint32_t sources_of(const struct hydration *h)
{
    return h->what == OF_JOIN ? 2 : 1;
}

static struct plan *make(void *arg)
{
    const struct hydration *h = arg;
    struct plan *p = plan_new();
    p->id = DATAFLOW;
    p->as_of = 1;
    p->name = arena_strdup(&p->arena, "hydration");
    uint32_t node = plan_source(p, 100, h->kinds, 2);
    if (h->what == OF_COUNT) {
        const struct plan_agg count = {.func = AGG_COUNT_ALL};
        node = plan_reduce(p, node, col0, 1, &count, 1);
    } else if (h->what == OF_DISTINCT) {
        node = plan_unary(p, PLAN_DISTINCT, node);
    } else if (h->what == OF_JOIN) {
        uint32_t right = plan_source(p, 101, h->kinds, 2);
        node = plan_join(p, PLAN_JOIN_INNER, node, right, col0, col0, 1, false);
    }
    if (h->subscribe) {
        plan_export_subscribe(p, OUTPUT, node, true, FRONTIER_EMPTY);
    }
    plan_export_index(p, INDEX, node, col0, 1);
    return p;
}

/* Each source has one part, read by the last worker. */
static uint32_t part_at_last(void *arg, uint32_t worker, uint32_t source)
{
    const struct hydration *h = arg;
    (void)source;
    return worker == h->workers - 1;
}

static struct replica *replica_of(struct hydration *h, uint32_t workers, uint64_t seed)
{
    h->workers = workers;
    struct replica *r = replica_new(workers, seed, 0);
    replica_register(r, OUTPUT, h->what == OF_JOIN && h->kinds == texts ? texts : int8s,
                     h->what == OF_JOIN ? 4 : 2);
    return r;
}

static void put_row(struct batch_builder *b, const struct hydration *h, int64_t i)
{
    char text[32];
    struct datum key = {.i = i % h->keys};
    struct datum value = {.i = i};
    if (h->kinds[1] == TYPE_TEXT) {
        value.s = text;
        value.len = (uint32_t)snprintf(text, sizeof(text), "text of row %lld", (long long)i);
    }
    batch_builder_datum(b, 0, &key);
    batch_builder_datum(b, 1, &value);
    batch_builder_end_row(b, 1, 1);
}

/* Rows [from, from + n) of a source, which complete it below upper, or nothing. */
static void feed(struct replica *r, const struct hydration *h, uint32_t source, int64_t from,
                 int64_t n, uint64_t lower, uint64_t upper)
{
    struct batch_builder *b = batch_builder_new(h->kinds, 2);
    for (int64_t i = from; i < from + n; i++) {
        put_row(b, h, i);
    }
    struct view view = view_of(b, 2);
    engine_input(r->worker[r->workers - 1].engine, DATAFLOW, source, 0, lower, upper,
                 n > 0 ? &view.batch : NULL, NULL);
    view_free(&view);
    batch_builder_free(b);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t run_until_idle(struct engine *engine)
{
    uint64_t most = 0;
    bool more = true;
    while (more) {
        more = engine_step(engine);
        most = engine_memory(engine) > most ? engine_memory(engine) : most;
    }
    return most;
}

/* More than 1.3 times what is kept is allowed only by slack: what is under way. */
static void check_peak(struct hydration *h, int64_t rows, uint64_t slack)
{
    struct replica *r = replica_of(h, 1, 1);
    struct engine *engine = r->worker[0].engine;
    uint64_t peak = 0;
    err_t err = replica_create(r, make, h, part_at_last, sources_of(h));
    CU_ASSERT_FATAL(err == ERR_OK);
    for (int64_t at = 0; at < rows; at += PIECE) {
        for (uint32_t s = 0; s < sources_of(h); s++) {
            feed(r, h, s, at, at + PIECE < rows ? PIECE : rows - at, 0, 0);
            uint64_t most = run_until_idle(engine);
            peak = most > peak ? most : peak;
        }
    }
    for (uint32_t s = 0; s < sources_of(h); s++) {
        feed(r, h, s, 0, 0, 0, 2);
    }
    uint64_t most = run_until_idle(engine);
    peak = most > peak ? most : peak;
    uint64_t steady = engine_memory(engine);
    printf("\n    %lld rows: at most %.1f MiB, then %.1f (%.2f)", (long long)rows,
           (double)peak / (1 << 20), (double)steady / (1 << 20), (double)peak / (double)steady);
    CU_ASSERT(peak <= steady * 13 / 10 + slack);
    CU_ASSERT_EQUAL(replica_frontier(r, INDEX), 2);
    replica_free(r);
}

static void test_memory(void)
{
    struct hydration cases[] = {
        {.what = OF_SOURCE, .kinds = int8s, .keys = ROWS},
        {.what = OF_SOURCE, .kinds = texts, .keys = ROWS},
        {.what = OF_COUNT, .kinds = int8s, .keys = ROWS},
        {.what = OF_COUNT, .kinds = texts, .keys = ROWS / 2},
        {.what = OF_DISTINCT, .kinds = int8s, .keys = ROWS},
        {.what = OF_DISTINCT, .kinds = texts, .keys = ROWS},
        {.what = OF_JOIN, .kinds = int8s, .keys = ROWS},
        {.what = OF_JOIN, .kinds = texts, .keys = ROWS},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_peak(&cases[i], ROWS, 0);
    }
    struct hydration few = {.what = OF_COUNT, .kinds = int8s, .keys = 1000};
    check_peak(&few, ROWS, 4 << 20);
}

static const struct test_case cases[] = {
    {"memory", test_memory},
};
TEST_SUITE("core/engine hydration", cases)
