/*
 * Snapshots as they arrive: pieces of one time go into the operators' state, so that a dataflow
 * needs little more while it hydrates than what it keeps. Memory is the engine's own account, so
 * the figures are the same on every machine.
 */
#include "core/base/log.h"
#include "tests/unit/core/engine/host.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

enum { DATAFLOW = 10, READER, INDEX = 1, OUTPUT, OF_READER, PIECE = 8192, ROWS = 1000000 };

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

static const uint8_t *output_kinds(const struct hydration *h)
{
    return h->what == OF_COUNT ? int8s : h->kinds;
}

static uint32_t output_cols(const struct hydration *h)
{
    return h->what == OF_JOIN ? 4 : 2;
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
    replica_register(r, OUTPUT, output_kinds(h), output_cols(h));
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
    /* Bytes are the same in every build, so a slow one need not show all of them. */
    for (size_t i = 0; i < ARRAY_LEN(cases); i += test_stride()) {
        check_peak(&cases[i], ROWS, 0);
    }
    struct hydration few = {.what = OF_COUNT, .kinds = int8s, .keys = 1000};
    check_peak(&few, ROWS, 4 << 20);
}

/* ---- beginning anew -------------------------------------------------------------------------- */

enum { FEW = 300, MANY = 150000, SOURCES_MAX = 2 };

/* Each worker feeds its own rows of each source, as far as it came; a restart begins at 0. */
struct feeder {
    struct replica *r;
    struct hydration *h;
    int64_t fed[WORKERS_MAX][SOURCES_MAX];
    bool complete[WORKERS_MAX][SOURCES_MAX];
};

static void begin_again(void *arg, uint32_t worker, uint64_t dataflow)
{
    struct feeder *feeder = arg;
    if (dataflow == DATAFLOW) {
        memset(feeder->fed[worker], 0, sizeof(feeder->fed[worker]));
        memset(feeder->complete[worker], 0, sizeof(feeder->complete[worker]));
    }
}

static uint32_t part_at_each(void *arg, uint32_t worker, uint32_t source)
{
    (void)arg;
    (void)worker;
    (void)source;
    return 1;
}

/* The worker's rows are those whose number it is modulo the workers. */
static void feed_some(struct feeder *feeder, uint32_t worker, uint32_t source, int64_t n)
{
    struct replica *r = feeder->r;
    int64_t *fed = &feeder->fed[worker][source];
    struct batch_builder *b = batch_builder_new(feeder->h->kinds, 2);
    for (int64_t end = *fed + n; *fed < end && *fed < FEW; (*fed)++) {
        put_row(b, feeder->h, *fed * r->workers + worker);
    }
    struct view view = view_of(b, 2);
    bool last = *fed == FEW;
    engine_input(r->worker[worker].engine, DATAFLOW, source, 0, 0, last ? 2 : 0,
                 view.batch.rows > 0 ? &view.batch : NULL, NULL);
    feeder->complete[worker][source] = last;
    view_free(&view);
    batch_builder_free(b);
}

static bool all_complete(const struct feeder *feeder)
{
    bool all = true;
    for (uint32_t w = 0; w < feeder->r->workers; w++) {
        for (uint32_t s = 0; s < sources_of(feeder->h); s++) {
            all &= feeder->complete[w][s];
        }
    }
    return all;
}

/* A worker whose source is not complete loses its connection now and then. */
static void feed_with_resets(struct feeder *feeder, uint32_t resets)
{
    struct replica *r = feeder->r;
    while (!all_complete(feeder)) {
        uint32_t w = (uint32_t)rng_below(&r->rng, r->workers);
        uint32_t s = (uint32_t)rng_below(&r->rng, sources_of(feeder->h));
        if (!feeder->complete[w][s] && resets > 0 && rng_below(&r->rng, 12) == 0) {
            engine_restart(r->worker[w].engine, DATAFLOW);
            resets--;
        } else if (!feeder->complete[w][s]) {
            feed_some(feeder, w, s, (int64_t)rng_below(&r->rng, 60));
        }
        replica_stir(r, (uint32_t)rng_below(&r->rng, 12));
    }
}

/* What a dataflow of the same plan gives whose input came at once. */
static struct batch_builder *expected(struct hydration *h, int64_t rows)
{
    struct replica *r = replica_of(h, 1, 1);
    err_t err = replica_create(r, make, h, part_at_last, sources_of(h));
    CU_ASSERT_FATAL(err == ERR_OK);
    for (uint32_t s = 0; s < sources_of(h); s++) {
        feed(r, h, s, 0, rows, 0, 2);
    }
    replica_settle(r);
    struct batch_builder *b =
        replica_output(r, OUTPUT, 1, false, r->kinds[OUTPUT], r->cols[OUTPUT]);
    replica_free(r);
    return b;
}

/* Reads the index of the dataflow while that hydrates. */
static struct plan *make_reader(void *arg)
{
    const struct hydration *h = arg;
    struct plan *p = plan_new();
    p->id = READER;
    p->as_of = 1;
    p->name = arena_strdup(&p->arena, "reader");
    uint32_t node = plan_index(p, INDEX, output_kinds(h), output_cols(h));
    plan_export_subscribe(p, OF_READER, node, true, FRONTIER_EMPTY);
    return p;
}

static void check_export(struct replica *r, uint64_t export_id, struct batch_builder *want)
{
    const uint8_t *kinds = r->kinds[OUTPUT];
    uint32_t cols = r->cols[OUTPUT];
    CU_ASSERT_EQUAL(replica_frontier(r, export_id), 2);
    struct batch_builder *have = replica_output(r, export_id, 1, false, kinds, cols);
    CU_ASSERT(same_rows(want, have, kinds, cols));
    batch_builder_free(have);
}

static void run_restarts(struct hydration *h, uint32_t workers, uint64_t seed)
{
    struct replica *r = replica_of(h, workers, seed);
    struct feeder feeder = {.r = r, .h = h};
    replica_register(r, OF_READER, r->kinds[OUTPUT], r->cols[OUTPUT]);
    r->restarted = begin_again;
    r->restarted_arg = &feeder;
    CU_ASSERT_FATAL(replica_create(r, make, h, part_at_each, sources_of(h)) == ERR_OK);
    feed_some(&feeder, workers - 1, 0, (int64_t)rng_below(&r->rng, 60));
    if (seed % 2 == 0) { /* before the others know the dataflow's first pieces, or it at all */
        engine_restart(r->worker[workers - 1].engine, DATAFLOW);
    }
    CU_ASSERT_FATAL(replica_create(r, make_reader, h, NULL, 0) == ERR_OK);
    feed_with_resets(&feeder, 4);
    replica_settle(r);
    CU_ASSERT_EQUAL(r->failures, 0);
    struct batch_builder *want = expected(h, FEW * workers);
    h->workers = workers;
    check_export(r, OUTPUT, want);
    check_export(r, OF_READER, want);
    batch_builder_free(want);
    for (uint32_t w = 1; w < workers; w++) {
        CU_ASSERT_EQUAL(r->worker[w].restarts, r->worker[0].restarts);
    }
    replica_drop(r, READER);
    replica_settle(r);
    engine_restart(r->worker[0].engine, DATAFLOW); /* too late: what was seen cannot change */
    replica_settle(r);
    CU_ASSERT_EQUAL(r->failures, 1);
    CU_ASSERT(r->failed != NULL && strstr(r->failed, "begins anew") != NULL);
    replica_drop(r, DATAFLOW);
    replica_settle(r);
    for (uint32_t w = 0; w < workers; w++) {
        CU_ASSERT_EQUAL(engine_memory(r->worker[w].engine), 0);
    }
    replica_free(r);
}

static void test_restart(void)
{
    struct hydration of[] = {
        {.what = OF_SOURCE, .kinds = texts, .keys = 50, .subscribe = true},
        {.what = OF_COUNT, .kinds = int8s, .keys = 20, .subscribe = true},
        {.what = OF_DISTINCT, .kinds = texts, .keys = 30, .subscribe = true},
        {.what = OF_JOIN, .kinds = int8s, .keys = 40, .subscribe = true},
        {.what = OF_JOIN, .kinds = texts, .keys = 40, .subscribe = true},
    };
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT, "test_hydrate"); /* hundreds of failures */
    for (uint64_t seed = 1; seed <= test_scaled(60); seed++) {
        for (size_t i = 0; i < ARRAY_LEN(of); i++) {
            run_restarts(&of[i], 1 + (uint32_t)(seed / 2 % 3), seed);
        }
    }
}

/* All operators are amid a pass when the dataflow begins anew, after any number of steps. */
static void run_restart_amid(struct hydration *h, uint64_t steps)
{
    struct replica *r = replica_of(h, 1, steps * 3 + 1);
    struct engine *engine = r->worker[0].engine;
    CU_ASSERT_FATAL(replica_create(r, make, h, part_at_last, sources_of(h)) == ERR_OK);
    for (uint32_t s = 0; s < sources_of(h); s++) {
        feed(r, h, s, 0, MANY, 0, 0);
    }
    for (uint64_t i = 0; i < steps; i++) {
        engine_step(engine);
    }
    engine_restart(engine, DATAFLOW);
    CU_ASSERT_EQUAL(r->worker[0].restarts, 1);
    for (uint32_t s = 0; s < sources_of(h); s++) {
        feed(r, h, s, 0, MANY, 0, 2);
    }
    replica_settle(r);
    struct batch_builder *want = expected(h, MANY);
    check_export(r, OUTPUT, want);
    batch_builder_free(want);
    CU_ASSERT_EQUAL(r->failures, 0);
    replica_free(r);
}

static void test_restart_amid(void)
{
    struct hydration of[] = {
        {.what = OF_SOURCE, .kinds = texts, .keys = MANY, .subscribe = true},
        {.what = OF_COUNT, .kinds = int8s, .keys = MANY, .subscribe = true},
        {.what = OF_DISTINCT, .kinds = texts, .keys = MANY, .subscribe = true},
        {.what = OF_JOIN, .kinds = int8s, .keys = MANY, .subscribe = true},
        {.what = OF_JOIN, .kinds = texts, .keys = MANY, .subscribe = true},
    };
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT, "test_hydrate");
    for (size_t i = 0; i < ARRAY_LEN(of); i++) {
        for (uint64_t steps = 1; steps < 8; steps += test_stride()) {
            run_restart_amid(&of[i], steps);
        }
    }
}

/* ---- long rows ------------------------------------------------------------------------------- */

enum { LONG = 300 * 1024, LONG_ROWS = 60 };

static void batches_of_import(void *arg, const struct engine_operator_stats *stats)
{
    uint64_t *batches = arg;
    *batches += strcmp(stats->op, "index import") == 0 ? stats->batches : 0;
}

/* An operator puts out what has become long, however few rows it is. */
static void test_long_rows(void)
{
    struct hydration h = {.what = OF_SOURCE, .kinds = texts, .keys = 1};
    struct replica *r = replica_of(&h, 1, 1);
    replica_register(r, OF_READER, texts, 2);
    CU_ASSERT_FATAL(replica_create(r, make, &h, part_at_last, 1) == ERR_OK);
    char *text = mem_alloc(LONG);
    memset(text, 'x', LONG);
    struct batch_builder *b = batch_builder_new(texts, 2);
    for (int64_t i = 0; i < LONG_ROWS; i++) {
        struct datum row[2] = {{.i = i}, {.s = text, .len = LONG}};
        batch_builder_datum(b, 0, &row[0]);
        batch_builder_datum(b, 1, &row[1]);
        batch_builder_end_row(b, 1, 1);
    }
    struct view view = view_of(b, 2);
    engine_input(r->worker[0].engine, DATAFLOW, 0, 0, 0, 2, &view.batch, NULL);
    replica_settle(r);
    CU_ASSERT_FATAL(replica_create(r, make_reader, &h, NULL, 0) == ERR_OK);
    replica_settle(r);
    uint64_t batches = 0;
    engine_stats(r->worker[0].engine, batches_of_import, &batches);
    CU_ASSERT(batches >= LONG_ROWS / 4); /* at most 1 MiB and a row each */
    CU_ASSERT_EQUAL(replica_frontier(r, OF_READER), 2);
    view_free(&view);
    batch_builder_free(b);
    free(text);
    replica_free(r);
}

static const struct test_case cases[] = {
    {"long_rows", test_long_rows},
    {"restart_amid", test_restart_amid},
    {"restart", test_restart},
    {"memory", test_memory},
};
TEST_SUITE("core/engine hydration", cases)
