/*
 * The engine's interface: index imports and compaction, peeks, the error twin, subscribe options,
 * failures, incarnations of dataflow ids, and payloads from a hostile peer.
 */
#include "tests/unit/core/engine/host.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static const uint8_t kinds2[] = {TYPE_INT8, TYPE_INT8};
static const uint32_t col0[] = {0};

enum { BASE = 7, LATER = 8, EXPORT_INDEX = 2, EXPORT_SUBSCRIBE = 1, EXPORT_LATER = 3 };

/* ---- small plans ----------------------------------------------------------------------------- */

struct spec {
    uint64_t id, as_of;
    bool divide;        /* 10 / column 1 behind the source */
    bool import;        /* from EXPORT_INDEX instead of a source */
    bool index;         /* export EXPORT_INDEX by column 0 */
    uint64_t subscribe; /* export id; 0: none */
    bool no_snapshot;
    uint64_t until;     /* 0: never */
    uint64_t index_id;  /* instead of EXPORT_INDEX */
    bool rest;          /* all but the first row by column 0 */
};

static struct plan *make(void *arg)
{
    const struct spec *spec = arg;
    struct plan *p = plan_new();
    p->id = spec->id;
    p->as_of = spec->as_of;
    p->name = arena_strdup(&p->arena, "spec");
    uint32_t node = spec->import ? plan_index(p, EXPORT_INDEX, kinds2, 2)
                                 : plan_source(p, 100, kinds2, 2);
    if (spec->divide) {
        node = plan_divide(p, node, 1);
    }
    if (spec->rest) {
        struct plan_order order = {.col = 0};
        node = plan_topk(p, node, NULL, 0, &order, 1, 1, -1);
    }
    uint64_t until = spec->until != 0 ? spec->until : FRONTIER_EMPTY;
    if (spec->index) {
        plan_export_index(p, spec->index_id != 0 ? spec->index_id : EXPORT_INDEX, node, col0, 1);
        p->exports[p->exports_len - 1].until = until;
    }
    if (spec->subscribe != 0) {
        plan_export_subscribe(p, spec->subscribe, node, !spec->no_snapshot, until);
    }
    return p;
}

/* One part, read by worker 0. */
static uint32_t part_at_0(void *arg, uint32_t worker, uint32_t source)
{
    return worker == 0;
}

static err_t create(struct replica *r, struct spec *spec)
{
    return replica_create(r, make, spec, part_at_0, spec->import ? 0 : 1);
}

struct row {
    int64_t a, b;
    uint64_t time;
    int64_t diff;
};

static void put(struct batch_builder *b, const struct row *row)
{
    struct datum d[] = {{.i = row->a}, {.i = row->b}};
    batch_builder_datum(b, 0, &d[0]);
    batch_builder_datum(b, 1, &d[1]);
    batch_builder_end_row(b, row->time, row->diff);
}

static void feed_to(struct replica *r, uint64_t dataflow, const struct row *rows, size_t n,
                    uint64_t lower, uint64_t upper)
{
    struct batch_builder *b = batch_builder_new(kinds2, 2);
    for (size_t i = 0; i < n; i++) {
        put(b, &rows[i]);
    }
    struct view view = view_of(b, 2);
    engine_input(r->worker[0].engine, dataflow, 0, 0, lower, upper, n > 0 ? &view.batch : NULL,
                 NULL);
    view_free(&view);
    batch_builder_free(b);
}

/* The bytes of a batch, as storage sends them. */
static void *bytes_of(const struct row *rows, size_t n, size_t *len)
{
    struct batch_builder *b = batch_builder_new(kinds2, 2);
    for (size_t i = 0; i < n; i++) {
        put(b, &rows[i]);
    }
    void *bytes = batch_builder_finish_new(b, len);
    batch_builder_free(b);
    return bytes;
}

static bool output_is(struct replica *r, uint64_t export_id, uint64_t time, const struct row *rows,
                      size_t n)
{
    struct batch_builder *want = batch_builder_new(kinds2, 2);
    for (size_t i = 0; i < n; i++) {
        put(want, &rows[i]);
    }
    struct batch_builder *have = replica_output(r, export_id, time, false, kinds2, 2);
    bool same = same_rows(want, have, kinds2, 2);
    if (!same) {
        print_rows("want", want, kinds2, 2);
        print_rows("have", have, kinds2, 2);
    }
    batch_builder_free(want);
    batch_builder_free(have);
    return same;
}

static struct replica *replica(uint32_t workers)
{
    struct replica *r = replica_new(workers, 42 + workers, 0);
    replica_register(r, EXPORT_SUBSCRIBE, kinds2, 2);
    replica_register(r, EXPORT_LATER, kinds2, 2);
    return r;
}

static struct peek_result *peek_at(struct replica *r, uint64_t id, uint64_t time)
{
    struct engine_peek ask = {
        .peek_id = id, .index_id = EXPORT_INDEX, .time = time, .limit = -1};
    return replica_peek(r, &ask, kinds2, 2);
}

static bool peek_is(struct peek_result *peek, uint32_t workers, const struct row *rows, size_t n)
{
    struct batch_builder *want = batch_builder_new(kinds2, 2);
    for (size_t i = 0; i < n; i++) {
        put(want, &rows[i]);
    }
    bool same = peek->answers == workers && peek->error == NULL &&
                same_rows(want, peek->rows, kinds2, 2);
    batch_builder_free(want);
    return same;
}

/* ---- imports and compaction ------------------------------------------------------------------ */

static void run_import(uint32_t workers)
{
    struct replica *r = replica(workers);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    struct row first[] = {{1, 1, 1, 1}, {2, 2, 2, 1}, {1, 1, 3, -1}, {3, 3, 3, 2}};
    feed_to(r, BASE, first, 4, 1, 5);
    replica_settle(r);
    CU_ASSERT_FATAL(replica_frontier(r, EXPORT_INDEX) == 5);

    /* A later reader as of 2 sees the state at 2 and what follows, each change at its time. */
    struct spec later = {.id = LATER, .as_of = 2, .import = true, .subscribe = EXPORT_LATER};
    CU_ASSERT_FATAL(create(r, &later) == ERR_OK);
    replica_stir(r, 10);
    struct row second[] = {{2, 2, 5, -1}, {4, 4, 6, 1}};
    feed_to(r, BASE, second, 2, 5, 7);
    replica_settle(r);
    CU_ASSERT_FATAL(replica_frontier(r, EXPORT_LATER) == 7);
    CU_ASSERT(output_is(r, EXPORT_LATER, 2, (struct row[]){{1, 1, 0, 1}, {2, 2, 0, 1}}, 2));
    CU_ASSERT(output_is(r, EXPORT_LATER, 4, (struct row[]){{2, 2, 0, 1}, {3, 3, 0, 2}}, 2));
    CU_ASSERT(output_is(r, EXPORT_LATER, 6, (struct row[]){{3, 3, 0, 2}, {4, 4, 0, 1}}, 2));

    /* The index's dataflow is dropped: it lives on for its reader, but for nobody else. */
    replica_drop(r, BASE);
    struct peek_result *peek = peek_at(r, 1, 6);
    replica_settle(r);
    CU_ASSERT(peek->answers == workers && peek->code == ERR_NOT_FOUND);
    feed_to(r, BASE, (struct row[]){{5, 5, 7, 1}}, 0, 7, 9);
    replica_settle(r);
    replica_drop(r, LATER);
    replica_settle(r);
    for (uint32_t w = 0; w < workers; w++) {
        CU_ASSERT_EQUAL(engine_memory(r->worker[w].engine), 0);
    }
    replica_free(r);
}

static void test_import(void)
{
    run_import(1);
    run_import(2);
    run_import(4);
}

/* An import that starts while the index is still behind the import's as_of. */
static void test_import_ahead(void)
{
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    feed_to(r, BASE, (struct row[]){{1, 1, 1, 1}}, 1, 1, 3);
    replica_settle(r);
    struct spec later = {.id = LATER, .as_of = 10, .import = true, .subscribe = EXPORT_LATER};
    CU_ASSERT_FATAL(create(r, &later) == ERR_OK);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_LATER), 10);
    feed_to(r, BASE, (struct row[]){{2, 2, 5, 1}, {3, 3, 12, 1}}, 2, 3, 15);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_LATER), 15);
    CU_ASSERT(output_is(r, EXPORT_LATER, 10, (struct row[]){{1, 1, 0, 1}, {2, 2, 0, 1}}, 2));
    replica_free(r);
}

static void test_import_refused(void)
{
    struct replica *r = replica(2);
    struct spec later = {.id = LATER, .as_of = 2, .import = true, .subscribe = EXPORT_LATER};
    err_t err = create(r, &later);
    CU_ASSERT_FATAL(err != ERR_OK);
    CU_ASSERT_EQUAL(err_code(err), ERR_NOT_FOUND);
    err_free(err);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    err = create(r, &base);
    CU_ASSERT_FATAL(err != ERR_OK);
    CU_ASSERT_EQUAL(err_code(err), ERR_EXISTS);
    err_free(err);
    feed_to(r, BASE, (struct row[]){{1, 1, 1, 1}}, 1, 1, 20);
    replica_settle(r);
    for (uint32_t w = 0; w < 2; w++) {
        engine_allow_compaction(r->worker[w].engine, EXPORT_INDEX, 10);
    }
    err = create(r, &later);
    CU_ASSERT_FATAL(err != ERR_OK);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
    struct spec wrong = {.id = LATER, .as_of = 12, .index = true};
    err = create(r, &wrong); /* the export id is taken */
    CU_ASSERT_FATAL(err != ERR_OK);
    CU_ASSERT_EQUAL(err_code(err), ERR_EXISTS);
    err_free(err);
    replica_free(r);
}

static void count_arranged(void *arg, const struct engine_operator_stats *stats)
{
    *(uint64_t *)arg += stats->arranged_rows;
}

static void test_compaction(void)
{
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    /* One row that is inserted and retracted a thousand times, another that stays. */
    struct row rows[2001];
    for (uint64_t i = 0; i < 2000; i++) {
        rows[i] = (struct row){1, 1, i + 1, i % 2 == 0 ? 1 : -1};
    }
    rows[2000] = (struct row){2, 2, 1, 1};
    feed_to(r, BASE, rows, 2001, 1, 2001);
    replica_settle(r);
    struct engine *engine = r->worker[0].engine;
    peek_at(r, 1, 999);
    peek_at(r, 2, 1000);
    replica_settle(r);
    CU_ASSERT(peek_is(&r->peeks[0], 1, (struct row[]){{1, 1, 0, 1}, {2, 2, 0, 1}}, 2));
    CU_ASSERT(peek_is(&r->peeks[1], 1, (struct row[]){{2, 2, 0, 1}}, 1));
    engine_allow_compaction(engine, EXPORT_INDEX, 1991);
    replica_settle(r);
    uint64_t arranged = 0;
    engine_stats(engine, count_arranged, &arranged);
    CU_ASSERT(arranged <= 12);
    peek_at(r, 3, 1990);
    peek_at(r, 4, 1991);
    replica_settle(r);
    CU_ASSERT(r->peeks[2].answers == 1 && r->peeks[2].code == ERR_INVALID);
    CU_ASSERT(peek_is(&r->peeks[3], 1, (struct row[]){{1, 1, 0, 1}, {2, 2, 0, 1}}, 2));
    /* Giving up the only export drops the dataflow. */
    engine_allow_compaction(engine, EXPORT_INDEX, FRONTIER_EMPTY);
    replica_settle(r);
    CU_ASSERT_EQUAL(engine_memory(engine), 0);
    replica_free(r);
}

/* A pending peek keeps its time readable, whatever is allowed meanwhile. */
static void test_peek_holds(void)
{
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    feed_to(r, BASE, (struct row[]){{1, 1, 1, 1}}, 1, 1, 3);
    replica_settle(r);
    peek_at(r, 1, 5);
    replica_settle(r);
    CU_ASSERT_EQUAL(r->peeks[0].answers, 0);
    engine_allow_compaction(r->worker[0].engine, EXPORT_INDEX, 50);
    feed_to(r, BASE, (struct row[]){{2, 2, 5, 1}, {3, 3, 6, 1}, {1, 1, 7, -1}}, 3, 3, 100);
    replica_settle(r);
    CU_ASSERT(peek_is(&r->peeks[0], 1, (struct row[]){{1, 1, 0, 1}, {2, 2, 0, 1}}, 2));
    replica_free(r);
}

/* ---- peeks ----------------------------------------------------------------------------------- */

/* An index of 300 rows, three a key, complete at 1. */
static struct replica *replica_of_300(void)
{
    struct replica *r = replica(2);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    struct row rows[300];
    for (int64_t i = 0; i < 300; i++) {
        rows[i] = (struct row){i % 100, i, 1, 1};
    }
    feed_to(r, BASE, rows, 300, 1, 2);
    replica_settle(r);
    return r;
}

static void test_peek_forms(void)
{
    struct replica *r = replica_of_300();

    static const uint8_t key_kind[] = {TYPE_INT8};
    struct batch_builder *keys = batch_builder_new(key_kind, 1);
    int64_t wanted[] = {5, 77, 5, 1000};
    for (size_t i = 0; i < 4; i++) {
        struct datum d = {.i = wanted[i]};
        batch_builder_datum(keys, 0, &d);
        batch_builder_end_row(keys, 0, 1);
    }
    struct view view = view_of(keys, 1);
    struct engine_peek by_key = {.peek_id = 1,
                                 .index_id = EXPORT_INDEX,
                                 .time = 1,
                                 .keys = &view.batch,
                                 .limit = -1};
    replica_peek(r, &by_key, kinds2, 2);
    struct plan_order order = {.col = 1, .desc = true};
    struct engine_peek ordered = {.peek_id = 2,
                                  .index_id = EXPORT_INDEX,
                                  .time = 1,
                                  .order = &order,
                                  .order_len = 1,
                                  .limit = 3};
    replica_peek(r, &ordered, kinds2, 2);
    uint32_t project[] = {0};
    struct mfp mfp = {.input_cols = 2, .project = project, .project_len = 1};
    struct engine_peek projected = {
        .peek_id = 3, .index_id = EXPORT_INDEX, .time = 1, .mfp = &mfp, .limit = -1};
    replica_peek(r, &projected, key_kind, 1);
    struct engine_peek bad = by_key;
    bad.peek_id = 4;
    bad.keys = NULL;
    bad.order = &(struct plan_order){.col = 9};
    bad.order_len = 1;
    replica_peek(r, &bad, kinds2, 2);
    replica_settle(r);
    view_free(&view);
    batch_builder_free(keys);

    CU_ASSERT(peek_is(&r->peeks[0], 2,
                      (struct row[]){{5, 5, 0, 1},
                                     {5, 105, 0, 1},
                                     {5, 205, 0, 1},
                                     {77, 77, 0, 1},
                                     {77, 177, 0, 1},
                                     {77, 277, 0, 1}},
                      6));
    /* Each worker gives its three last; the last three of all are among them. */
    CU_ASSERT_EQUAL(batch_builder_rows(r->peeks[1].rows), 6);
    struct view answers = view_of(r->peeks[1].rows, 2);
    int found = 0;
    for (uint32_t i = 0; i < answers.batch.rows; i++) {
        struct datum d;
        batch_datum(&answers.batch.col[1], i, &d);
        found += d.i >= 297;
    }
    CU_ASSERT_EQUAL(found, 3);
    view_free(&answers);
    /* 100 distinct keys, three times each, consolidated. */
    CU_ASSERT_EQUAL(batch_builder_rows(r->peeks[2].rows), 100);
    CU_ASSERT(r->peeks[3].answers == 2 && r->peeks[3].code == ERR_INVALID);
    replica_free(r);
}

static void test_peek_cancel(void)
{
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    peek_at(r, 1, 5);
    peek_at(r, 2, 5);
    replica_settle(r);
    engine_peek_cancel(r->worker[0].engine, 1);
    engine_peek_cancel(r->worker[0].engine, 99);
    replica_settle(r);
    CU_ASSERT(r->peeks[0].answers == 1 && r->peeks[0].code == ERR_CANCELLED);
    CU_ASSERT_EQUAL(r->peeks[1].answers, 0);
    feed_to(r, BASE, NULL, 0, 1, 6);
    replica_settle(r);
    engine_peek_cancel(r->worker[0].engine, 2); /* too late: it answered */
    replica_settle(r);
    CU_ASSERT(peek_is(&r->peeks[1], 1, NULL, 0));
    replica_free(r);
}

/* A large index is read in steps; inserts in between do not show. */
static void test_peek_in_steps(void)
{
    enum { ROWS = 100000 };
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    struct row *rows = mem_alloc(ROWS * sizeof(*rows));
    for (int64_t i = 0; i < ROWS; i++) {
        rows[i] = (struct row){i, i, 1, 1};
    }
    feed_to(r, BASE, rows, ROWS, 1, 2);
    replica_settle(r);
    peek_at(r, 1, 1);
    CU_ASSERT(engine_step(r->worker[0].engine)); /* out of fuel in the middle */
    CU_ASSERT_EQUAL(r->peeks[0].answers, 0);
    for (int64_t i = 0; i < ROWS; i++) {
        rows[i].time = 2;
        rows[i].diff = i % 2 == 0 ? -1 : 1;
    }
    feed_to(r, BASE, rows, ROWS, 2, 3);
    engine_allow_compaction(r->worker[0].engine, EXPORT_INDEX, 2);
    replica_settle(r);
    CU_ASSERT_EQUAL(r->peeks[0].answers, 1);
    CU_ASSERT_EQUAL(batch_builder_rows(r->peeks[0].rows), ROWS);
    free(rows);
    replica_free(r);
}

/* ---- the error twin -------------------------------------------------------------------------- */

static void run_errors(uint32_t workers)
{
    struct replica *r = replica(workers);
    static const uint8_t kinds3[] = {TYPE_INT8, TYPE_INT8, TYPE_INT8};
    struct spec base = {.id = BASE, .as_of = 1, .index = true, .divide = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    feed_to(r, BASE, (struct row[]){{1, 2, 1, 1}, {2, 0, 2, 1}, {2, 0, 3, -1}}, 3, 1, 5);
    for (uint64_t t = 1; t <= 4; t++) {
        struct engine_peek ask = {
            .peek_id = t, .index_id = EXPORT_INDEX, .time = t, .limit = -1};
        replica_peek(r, &ask, kinds3, 3);
    }
    replica_settle(r);
    for (uint64_t t = 1; t <= 4; t++) {
        struct peek_result *peek = &r->peeks[t - 1];
        CU_ASSERT_EQUAL(peek->answers, workers);
        CU_ASSERT((peek->error != NULL) == (t == 2));
    }
    CU_ASSERT_STRING_EQUAL(r->peeks[1].sqlstate, "22012");
    CU_ASSERT_STRING_EQUAL(r->peeks[1].error, "division by zero");
    CU_ASSERT_EQUAL(batch_builder_rows(r->peeks[3].rows), 1);
    replica_free(r);
}

static void test_errors(void)
{
    run_errors(1);
    run_errors(2);
}

/* A sum beyond its type is an error while it lasts. */
static struct plan *make_sum(void *arg)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT4};
    struct plan *p = plan_new();
    struct plan_agg sum = {.func = AGG_SUM, .arg = 1};
    p->id = BASE;
    p->as_of = 1;
    p->name = arena_strdup(&p->arena, "sum");
    uint32_t node = plan_source(p, 100, kinds, 2);
    node = plan_reduce(p, node, col0, 1, &sum, 1);
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, node, true, FRONTIER_EMPTY);
    return p;
}

static void test_sum_overflow(void)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT4};
    struct replica *r = replica(1);
    CU_ASSERT_FATAL(replica_create(r, make_sum, NULL, part_at_0, 1) == ERR_OK);
    struct batch_builder *b = batch_builder_new(kinds, 2);
    int64_t huge = (int64_t)1 << 33; /* copies of 2^31 - 1 */
    int64_t diffs[] = {huge, -huge + 2};
    for (uint64_t t = 1; t <= 2; t++) {
        struct datum d[] = {{.i = 1}, {.i = INT32_MAX}};
        batch_builder_datum(b, 0, &d[0]);
        batch_builder_datum(b, 1, &d[1]);
        batch_builder_end_row(b, t, diffs[t - 1]);
    }
    struct view view = view_of(b, 2);
    CU_ASSERT_PTR_NOT_NULL(engine_reads(r->worker[0].engine, BASE, 0, 2));
    CU_ASSERT_PTR_NULL(engine_reads(r->worker[0].engine, BASE, 0, 3)); /* planned otherwise */
    engine_input(r->worker[0].engine, BASE, 0, 0, 1, 5, &view.batch, NULL);
    view_free(&view);
    batch_builder_free(b);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1, NULL, 0));
    struct batch_builder *err =
        replica_output(r, EXPORT_SUBSCRIBE, 1, true, batch_err_kinds, ERR_COLS);
    struct view errors = view_of(err, ERR_COLS);
    CU_ASSERT_FATAL(errors.batch.rows == 1);
    struct datum state;
    batch_datum(&errors.batch.col[ERR_COL_SQLSTATE], 0, &state);
    CU_ASSERT(state.len == 5 && memcmp(state.s, "22003", 5) == 0);
    view_free(&errors);
    batch_builder_free(err);
    err = replica_output(r, EXPORT_SUBSCRIBE, 2, true, batch_err_kinds, ERR_COLS);
    CU_ASSERT_EQUAL(batch_builder_rows(err), 0);
    batch_builder_free(err);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 2, (struct row[]){{1, 2LL * INT32_MAX, 0, 1}}, 1));
    replica_free(r);
}

/* ---- subscribe ------------------------------------------------------------------------------- */

static void test_subscribe_options(void)
{
    struct replica *r = replica(2);
    struct spec spec = {
        .id = BASE, .as_of = 3, .subscribe = EXPORT_SUBSCRIBE, .no_snapshot = true, .until = 6};
    CU_ASSERT_FATAL(create(r, &spec) == ERR_OK);
    feed_to(r, BASE, (struct row[]){{1, 1, 1, 1}, {2, 2, 3, 1}}, 2, 0, 4);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_SUBSCRIBE), 4);
    feed_to(r, BASE, (struct row[]){{1, 1, 4, -1}, {3, 3, 5, 1}, {4, 4, 6, 1}, {5, 5, 9, 1}}, 4, 4,
            10);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_SUBSCRIBE), FRONTIER_EMPTY);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 100, (struct row[]){{1, 1, 0, -1}, {3, 3, 0, 1}}, 2));
    CU_ASSERT_EQUAL(r->worker[0].outputs[0].upper, 6);
    replica_free(r);
}

/* A snapshot in several pieces, all but the last without progress. */
static void test_snapshot_in_pieces(void)
{
    struct replica *r = replica(1);
    struct spec spec = {.id = BASE, .as_of = 3, .subscribe = EXPORT_SUBSCRIBE};
    CU_ASSERT_FATAL(create(r, &spec) == ERR_OK);
    feed_to(r, BASE, (struct row[]){{1, 1, 3, 1}}, 1, 3, 3);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_SUBSCRIBE), 3);
    feed_to(r, BASE, (struct row[]){{2, 2, 3, 1}}, 1, 3, 3);
    feed_to(r, BASE, (struct row[]){{3, 3, 3, 1}}, 1, 3, 4);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 3,
                        (struct row[]){{1, 1, 0, 1}, {2, 2, 0, 1}, {3, 3, 0, 1}}, 3));
    CU_ASSERT_EQUAL(r->failures, 0);
    replica_free(r);
}

/* ---- steps ----------------------------------------------------------------------------------- */

enum { STEPS_ROWS = 100000, STEP_UNITS = 8192 };

static void check_steps(void *arg, const struct engine_operator_stats *stats)
{
    CU_ASSERT(stats->longest <= STEP_UNITS);
    if (stats->longest > STEP_UNITS) {
        fprintf(stderr, "%s: %u units at once\n", stats->op, stats->longest);
    }
    *(uint32_t *)arg += stats->longest > 0;
}

/* Every other row is the same one; the others are there once. */
static void feed_steps(struct replica *r)
{
    struct row *rows = mem_alloc(STEPS_ROWS * sizeof(*rows));
    for (int64_t i = 0; i < STEPS_ROWS; i++) {
        rows[i] = (struct row){i % 2 == 0 ? 0 : i, 1, 3, 1};
    }
    feed_to(r, BASE, rows, STEPS_ROWS, 3, 4);
    free(rows);
}

/*
 * No operator does more than so much at once, however much comes in one chunk, is complete at one
 * time, is equal, or is asked for: programs, consolidation, indexes, sorted answers, all of it.
 */
static void test_steps(void)
{
    static const uint8_t kinds3[] = {TYPE_INT8, TYPE_INT8, TYPE_INT8};
    struct replica *r = replica(1);
    replica_register(r, EXPORT_SUBSCRIBE, kinds3, 3);
    struct spec spec = {.id = BASE, .as_of = 3, .divide = true, .index = true,
                        .subscribe = EXPORT_SUBSCRIBE};
    CU_ASSERT_FATAL(create(r, &spec) == ERR_OK);
    feed_steps(r);
    replica_settle(r);
    const struct output *output = &r->worker[0].outputs[0];
    for (uint32_t i = 0; i < r->worker[0].outputs_len; i++) {
        output = r->worker[0].outputs[i].export_id == EXPORT_SUBSCRIBE ? &r->worker[0].outputs[i]
                                                                       : output;
    }
    CU_ASSERT_EQUAL(batch_builder_rows(output->ok), STEPS_ROWS / 2 + 1);
    CU_ASSERT(output->calls > 1 && output->upper == 4);
    struct plan_order order[] = {{.col = 1, .desc = true}, {.col = 0, .desc = true}};
    struct engine_peek ask = {.peek_id = 1, .index_id = EXPORT_INDEX, .time = 3, .limit = -1,
                              .order = order, .order_len = 2};
    struct peek_result *peek = replica_peek(r, &ask, kinds3, 3);
    replica_settle(r);
    CU_ASSERT_EQUAL_FATAL(peek->answers, 1);
    struct view view = view_of(peek->rows, 3);
    CU_ASSERT_EQUAL_FATAL(view.batch.rows, STEPS_ROWS / 2 + 1);
    for (uint32_t i = 1; i < view.batch.rows; i++) {
        const int64_t *a = view.batch.col[0].values;
        CU_ASSERT(a[i - 1] > a[i]);
    }
    CU_ASSERT_EQUAL(batch_diff(&view.batch, view.batch.rows - 1), STEPS_ROWS / 2);
    view_free(&view);
    uint32_t counted = 0;
    engine_stats(r->worker[0].engine, check_steps, &counted);
    CU_ASSERT(counted >= 3); /* program, index, subscription */
    replica_free(r);
}

static void check_empty(void *arg, const struct engine_operator_stats *stats)
{
    CU_ASSERT_EQUAL(stats->arranged_rows, 0);
}

/* Each row of the first column with those whose second one equals it. */
static struct plan *make_skewed(void *arg)
{
    struct plan *p = plan_new();
    static const uint32_t col1[] = {1};
    p->id = BASE;
    p->as_of = 1;
    p->name = arena_strdup(&p->arena, "skewed");
    uint32_t node = plan_source(p, 100, kinds2, 2);
    node = plan_join(p, PLAN_JOIN_INNER, node, node, col0, col1, 1, false);
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, node, true, FRONTIER_EMPTY);
    return p;
}

/*
 * One key has all rows: they come, in rounds of several sizes, come once more, and go in another
 * order. No change of one of them goes through all of them.
 */
static void test_skewed_steps(void)
{
    static const uint8_t kinds4[] = {TYPE_INT8, TYPE_INT8, TYPE_INT8, TYPE_INT8};
    struct replica *r = replica(1);
    replica_register(r, EXPORT_SUBSCRIBE, kinds4, 4);
    CU_ASSERT_FATAL(replica_create(r, make_skewed, NULL, part_at_0, 1) == ERR_OK);
    struct row *rows = mem_alloc(STEPS_ROWS * sizeof(*rows));
    uint64_t time = 1;
    for (int pass = 0; pass < 3; pass++) {
        for (int64_t first = 0, n = 1; first < STEPS_ROWS; first += n, n *= 10, time++) {
            n = first + n > STEPS_ROWS ? STEPS_ROWS - first : n;
            for (int64_t i = 0; i < n; i++) {
                int64_t number = pass < 2 ? first + i : STEPS_ROWS - 1 - first - i;
                rows[i] = (struct row){0, number, time, pass < 2 ? 1 : -2};
            }
            feed_to(r, BASE, rows, (size_t)n, time, time + 1);
            replica_settle(r);
        }
        CU_ASSERT_EQUAL(r->failures, 0);
    }
    free(rows);
    uint32_t counted = 0;
    engine_stats(r->worker[0].engine, check_steps, &counted);
    CU_ASSERT(counted >= 1);
    engine_stats(r->worker[0].engine, check_empty, NULL);
    replica_free(r);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void test_bad_input(void)
{
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    struct spec later = {.id = LATER, .as_of = 1, .import = true, .subscribe = EXPORT_LATER};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    CU_ASSERT_FATAL(create(r, &later) == ERR_OK);
    feed_to(r, BASE, NULL, 0, 1, 3);
    replica_settle(r);
    CU_ASSERT_EQUAL(r->failures, 0);
    peek_at(r, 1, 100);
    feed_to(r, BASE, (struct row[]){{1, 1, 5, 1}}, 1, 4, 6); /* 3 is missing */
    replica_settle(r);
    CU_ASSERT_EQUAL(r->failures, 2); /* the one that imports as well */
    CU_ASSERT_EQUAL(r->peeks[0].answers, 1);
    CU_ASSERT(r->peeks[0].error != NULL);
    CU_ASSERT_EQUAL(engine_memory(r->worker[0].engine), 0);
    replica_free(r);
}

static void test_memory_limit(void)
{
    struct replica *r = replica_new(1, 1, 256 * 1024);
    replica_register(r, EXPORT_SUBSCRIBE, kinds2, 2);
    struct spec base = {.id = BASE, .as_of = 1, .index = true};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    struct row *rows = mem_alloc(20000 * sizeof(*rows));
    for (int64_t i = 0; i < 20000; i++) {
        rows[i] = (struct row){i, i, 1, 1};
    }
    feed_to(r, BASE, rows, 20000, 1, 2);
    replica_settle(r);
    free(rows);
    CU_ASSERT_EQUAL(r->failures, 1);
    CU_ASSERT(r->failed != NULL && strstr(r->failed, "limit of 262144 bytes") != NULL);
    CU_ASSERT_EQUAL(engine_memory(r->worker[0].engine), 0);
    /* Others go on. */
    struct spec other = {.id = LATER, .as_of = 1, .subscribe = EXPORT_SUBSCRIBE};
    CU_ASSERT_FATAL(create(r, &other) == ERR_OK);
    feed_to(r, LATER, (struct row[]){{1, 1, 1, 1}}, 1, 1, 2);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1, (struct row[]){{1, 1, 0, 1}}, 1));
    replica_free(r);
}

/* ---- incarnations ---------------------------------------------------------------------------- */

/* The same id again and again, with deliveries lagging behind. */
static void test_reuse(void)
{
    struct replica *r = replica(3);
    for (int round = 0; round < 20; round++) {
        struct spec base = {.id = BASE, .as_of = 1, .index = true};
        CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
        feed_to(r, BASE, (struct row[]){{round, 1, 1, 1}, {round + 1, 1, 1, 1}}, 2, 1, 3);
        replica_stir(r, (uint32_t)round);
        if (round % 3 == 0) {
            replica_settle(r);
            peek_at(r, (uint64_t)round, 2);
            replica_settle(r);
            CU_ASSERT(peek_is(&r->peeks[r->peeks_len - 1], 3,
                              (struct row[]){{round, 1, 0, 1}, {round + 1, 1, 0, 1}}, 2));
        }
        replica_clear_output(r); /* frontiers start again */
        replica_drop(r, BASE);
        replica_clear_output(r);
    }
    replica_settle(r);
    for (uint32_t w = 0; w < 3; w++) {
        CU_ASSERT_EQUAL(engine_memory(r->worker[w].engine), 0);
    }
    replica_free(r);
}

/* What comes for a dataflow before it exists is kept, unless its id was given up. */
static void test_forget(void)
{
    for (int forget = 0; forget < 2; forget++) {
        struct replica *r = replica(2);
        struct spec spec = {.id = BASE, .as_of = 1, .index = true};
        uint32_t parts = 1;
        CU_ASSERT_FATAL(engine_create(r->worker[0].engine, make(&spec), &parts, 1) == ERR_OK);
        struct row rows[50];
        for (int64_t i = 0; i < 50; i++) {
            rows[i] = (struct row){i, i, 1, 1};
        }
        feed_to(r, BASE, rows, 50, 1, 2);
        replica_settle(r);
        if (forget == 1) {
            engine_forget_before(r->worker[1].engine, BASE + 1);
        }
        parts = 0;
        CU_ASSERT_FATAL(engine_create(r->worker[1].engine, make(&spec), &parts, 1) == ERR_OK);
        replica_settle(r);
        CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_INDEX), forget == 1 ? 1 : 2);
        replica_free(r);
    }
}

/* ---- a hostile peer -------------------------------------------------------------------------- */

/* Captures what worker 0 sends to worker 1, then damages it in every way. */
static void test_hostile_payloads(void)
{
    struct replica *r = replica(2);
    struct spec spec = {.id = BASE, .as_of = 5, .index = true};
    CU_ASSERT_FATAL(create(r, &spec) == ERR_OK);
    replica_settle(r);
    struct row rows[20];
    for (int64_t i = 0; i < 20; i++) {
        rows[i] = (struct row){i, i, 5, 1};
    }
    feed_to(r, BASE, rows, 20, 5, 8);
    engine_step(r->worker[0].engine);
    struct lane *lane = &r->worker[1].in[0];
    CU_ASSERT_FATAL(lane->packets_len - lane->first == 1);
    const struct packet *packet = &lane->packets[lane->first];
    struct engine *victim = r->worker[1].engine;
    uint8_t *copy = mem_alloc(packet->len);
    uint64_t refused = 0;
    for (size_t cut = 1; cut < packet->len; cut += 3) { /* cut short: a header or data missing */
        memcpy(copy, packet->data, packet->len);
        err_t err = engine_receive(victim, 0, copy, packet->len - cut);
        bool whole = packet->len - cut == packet->len - 24; /* the frontier record left out */
        refused += err != ERR_OK;
        CU_ASSERT(err == ERR_OK || err_code(err) == ERR_PROTOCOL);
        CU_ASSERT(err != ERR_OK || whole);
        err_free(err);
    }
    CU_ASSERT(refused > 0);
    /* Worker numbers that are not peers. */
    for (uint32_t from = 1; from < 4; from++) {
        err_t err = engine_receive(victim, from, packet->data, packet->len);
        CU_ASSERT(err != ERR_OK && err_code(err) == ERR_PROTOCOL);
        err_free(err);
    }
    /* Flipped bytes: refused, or harmless; never a crash. */
    struct rng rng = {99};
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, packet->data, packet->len);
        copy[rng_below(&rng, packet->len)] ^= (uint8_t)(1 + rng_below(&rng, 255));
        err_t err = engine_receive(victim, 0, copy, packet->len);
        refused += err != ERR_OK;
        err_free(err);
    }
    CU_ASSERT(refused > 100);
    free(copy);
    replica_free(r);
}

/* ---- many changes in a pass ------------------------------------------------------------------ */

/* More changes of a window at one time than an operator keeps before it puts out what it has. */
static void test_topk_many(void)
{
    enum { ROWS = 300000 };
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .rest = true, .subscribe = EXPORT_SUBSCRIBE};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    struct row *rows = mem_alloc(ROWS * sizeof(*rows));
    for (int64_t i = 0; i < ROWS; i++) {
        rows[i] = (struct row){(i * 7919) % ROWS, i, 1, 1};
    }
    feed_to(r, BASE, rows, ROWS, 1, 2);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_SUBSCRIBE), 2);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1, rows + 1, ROWS - 1)); /* rows[0] has the least */
    for (int64_t i = 0; i < ROWS; i++) {
        rows[i].time = 2;
        rows[i].diff = -1;
    }
    feed_to(r, BASE, rows, ROWS, 2, 3);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 2, NULL, 0));
    free(rows);
    replica_free(r);
}

/* ---- windows --------------------------------------------------------------------------------- */

static const uint8_t float_kinds[] = {TYPE_INT8, TYPE_FLOAT8};
static const uint8_t float_out[] = {TYPE_INT8, TYPE_FLOAT8, TYPE_FLOAT8, TYPE_FLOAT8};

struct float_row {
    int64_t id;
    double value;
    int64_t diff;
};

/* sum(value) over the row and two before it, and the variance of all rows up to it. */
static struct plan *make_float_window(void *arg)
{
    (void)arg;
    struct plan *p = plan_new();
    p->id = BASE;
    p->as_of = 1;
    uint32_t source = plan_source(p, 100, float_kinds, 2);
    struct plan_order order = {.col = 0};
    struct plan_window_call sum = {.func = PLAN_WINDOW_AGG,
                                   .type = type_of(TYPE_FLOAT8),
                                   .agg = {.func = AGG_SUM,
                                           .arg = 1,
                                           .type = type_of(TYPE_FLOAT8)},
                                   .frame = {.mode = PLAN_FRAME_ROWS,
                                             .start = {.kind = PLAN_BOUND_OFFSET, .offset = -2},
                                             .end = {.kind = PLAN_BOUND_CURRENT},
                                             .exclude = PLAN_EXCLUDE_NONE}};
    struct plan_window_call calls[] = {sum, sum};
    calls[1].agg.func = AGG_VAR_POP;
    calls[1].frame.start = (struct plan_bound){.kind = PLAN_BOUND_UNBOUNDED};
    uint32_t node = plan_window(p, source, NULL, 0, &order, 1, calls, 2);
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, node, true, FRONTIER_EMPTY);
    return p;
}

static struct replica *float_replica(void)
{
    struct replica *r = replica_new(1, 7, 0);
    replica_register(r, EXPORT_SUBSCRIBE, float_out, 4);
    CU_ASSERT_PTR_NULL_FATAL(replica_create(r, make_float_window, NULL, part_at_0, 1));
    return r;
}

static void feed_floats(struct replica *r, const struct float_row *rows, size_t n, uint64_t time)
{
    struct batch_builder *b = batch_builder_new(float_kinds, 2);
    for (size_t i = 0; i < n; i++) {
        struct datum id = {.i = rows[i].id}, value = {.f = rows[i].value};
        batch_builder_datum(b, 0, &id);
        batch_builder_datum(b, 1, &value);
        batch_builder_end_row(b, time, rows[i].diff);
    }
    struct view view = view_of(b, 2);
    engine_input(r->worker[0].engine, BASE, 0, 0, time, time + 1, &view.batch, NULL);
    view_free(&view);
    batch_builder_free(b);
    replica_settle(r);
}

/* Values of wildly different size: what was put out is taken back to the bit. */
static void test_window_floats(void)
{
    static const double values[] = {1e20, -1e20, 0.001, 1e-310, 1e150, -1e150, 3, 1e16 / 3};
    enum { ROWS = 60, TIMES = 80 };
    struct float_row rows[ROWS], live[ROWS];
    bool there[ROWS] = {false};
    struct rng rng = {5};
    struct replica *r = float_replica();
    for (int i = 0; i < ROWS; i++) {
        rows[i] = (struct float_row){i, values[rng_below(&rng, ARRAY_LEN(values))], 1};
    }
    rows[0].value = 1e20;
    rows[1].value = -1e20;
    rows[2].value = 0.001;
    for (uint64_t time = 1; time <= TIMES; time++) {
        struct float_row changes[3];
        size_t n = 0, live_len = 0, last = rng_below(&rng, ROWS);
        for (size_t i = 0; i < 3; i++) {
            size_t at = (last + i * 7) % ROWS;
            there[at] = !there[at];
            changes[n] = rows[at];
            changes[n++].diff = there[at] ? 1 : -1;
        }
        feed_floats(r, changes, n, time);
        for (size_t i = 0; i < ROWS; i++) {
            if (there[i]) {
                live[live_len++] = rows[i];
            }
        }
        struct replica *fresh = float_replica();
        feed_floats(fresh, live, live_len, 1);
        struct batch_builder *a =
            replica_output(r, EXPORT_SUBSCRIBE, time, false, float_out, 4);
        struct batch_builder *b =
            replica_output(fresh, EXPORT_SUBSCRIBE, 1, false, float_out, 4);
        CU_ASSERT_EQUAL(batch_builder_rows(a), live_len);
        CU_ASSERT(same_rows(a, b, float_out, 4));
        batch_builder_free(a);
        batch_builder_free(b);
        replica_free(fresh);
    }
    replica_free(r);
}

/* 1e20 - 1e20 + 0.001 is 0.001; without the 1e20 it is another value, and then nothing is left. */
static void test_window_floats_exact(void)
{
    static const struct float_row rows[] = {{0, 1e20, 1}, {1, -1e20, 1}, {2, 0.001, 1}};
    static const struct float_row gone[] = {{0, 1e20, -1}};
    static const struct float_row rest[] = {{1, -1e20, -1}, {2, 0.001, -1}};
    struct replica *r = float_replica();
    feed_floats(r, rows, 3, 1);
    struct batch_builder *out = replica_output(r, EXPORT_SUBSCRIBE, 1, false, float_out, 4);
    struct view view = view_of(out, 4);
    CU_ASSERT_EQUAL_FATAL(view.batch.rows, 3);
    bool found = false;
    for (uint32_t i = 0; i < 3; i++) {
        struct datum id, sum;
        batch_datum(&view.batch.col[0], i, &id);
        batch_datum(&view.batch.col[2], i, &sum);
        found |= id.i == 2 && sum.f == 0.001;
    }
    CU_ASSERT_TRUE(found);
    view_free(&view);
    batch_builder_free(out);
    feed_floats(r, gone, 1, 2);
    feed_floats(r, rest, 2, 3);
    out = replica_output(r, EXPORT_SUBSCRIBE, 3, false, float_out, 4);
    CU_ASSERT_EQUAL(batch_builder_rows(out), 0);
    batch_builder_free(out);
    replica_free(r);
}

/* Lists of changes so long that they are given back: nothing of them stays in the account. */
static void test_window_many(void)
{
    enum { ROWS = 60000, GONE = 20000 };
    struct replica *r = float_replica();
    struct float_row *rows = mem_alloc(ROWS * sizeof(*rows));
    for (int64_t i = 0; i < ROWS; i++) {
        rows[i] = (struct float_row){i, (double)i, 1};
    }
    feed_floats(r, rows, ROWS, 1);
    for (int64_t i = 0; i < GONE; i++) {
        rows[i] = (struct float_row){3 * i, (double)(3 * i), -1};
    }
    feed_floats(r, rows, GONE, 2);
    struct batch_builder *out = replica_output(r, EXPORT_SUBSCRIBE, 2, false, float_out, 4);
    CU_ASSERT_EQUAL(batch_builder_rows(out), ROWS - GONE);
    batch_builder_free(out);
    engine_drop(r->worker[0].engine, BASE);
    replica_settle(r);
    CU_ASSERT_EQUAL(engine_memory(r->worker[0].engine), 0);
    free(rows);
    replica_free(r);
}

static const uint8_t huge_out[] = {TYPE_INT8, TYPE_INT8, TYPE_INT8, TYPE_NUMERIC};

/* dense_rank, and the sum of column 1 over the rows up to this one's group. */
static struct plan *make_huge_window(void *arg)
{
    (void)arg;
    struct plan *p = plan_new();
    p->id = BASE;
    p->as_of = 1;
    uint32_t source = plan_source(p, 100, kinds2, 2);
    struct plan_order order = {.col = 0};
    struct plan_window_call calls[] = {
        {.func = PLAN_WINDOW_DENSE_RANK, .type = type_of(TYPE_INT8)},
        {.func = PLAN_WINDOW_AGG,
         .type = type_of(TYPE_NUMERIC),
         .agg = {.func = AGG_SUM, .arg = 1, .type = type_of(TYPE_NUMERIC)},
         .frame = {.mode = PLAN_FRAME_GROUPS,
                   .start = {.kind = PLAN_BOUND_UNBOUNDED},
                   .end = {.kind = PLAN_BOUND_CURRENT},
                   .exclude = PLAN_EXCLUDE_NONE}}};
    uint32_t node = plan_window(p, source, NULL, 0, &order, 1, calls, 2);
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, node, true, FRONTIER_EMPTY);
    return p;
}

static void check_huge(struct replica *r, uint64_t time, uint32_t rows, uint32_t errors)
{
    struct batch_builder *ok = replica_output(r, EXPORT_SUBSCRIBE, time, false, huge_out, 4);
    CU_ASSERT_EQUAL(batch_builder_rows(ok), rows);
    struct batch_builder *err = replica_output(r, EXPORT_SUBSCRIBE, time, true,
                                               batch_err_kinds, ERR_COLS);
    CU_ASSERT_EQUAL(batch_builder_rows(err), errors);
    batch_builder_free(ok);
    batch_builder_free(err);
}

/* More copies in a partition than an int64_t counts: an error while it is so, and no rows. */
static void test_window_huge(void)
{
    enum { STEPS = 8 };
    static const int64_t many = 5000000000000000000;
    struct row rows[STEPS] = {{1, 10, 1, many}, {2, 20, 2, many},  {3, 30, 3, 1},
                              {2, 21, 4, many}, {2, 21, 5, -many}, {1, 10, 6, -many},
                              {1, 10, 7, many}, {2, 20, 8, -many}};
    static const uint32_t shown[STEPS] = {1, 0, 0, 0, 0, 2, 0, 2};
    struct replica *r = replica_new(1, 7, 0);
    replica_register(r, EXPORT_SUBSCRIBE, huge_out, 4);
    CU_ASSERT_PTR_NULL_FATAL(replica_create(r, make_huge_window, NULL, part_at_0, 1));
    for (uint64_t i = 0; i < STEPS; i++) {
        feed_to(r, BASE, &rows[i], 1, i + 1, i + 2);
        replica_settle(r);
        check_huge(r, i + 1, shown[i], shown[i] == 0);
    }
    struct row last[] = {{1, 10, 9, -many}, {3, 30, 9, -1}};
    feed_to(r, BASE, last, 2, 9, 10);
    replica_settle(r);
    check_huge(r, 9, 0, 0);
    /* At once, into a new partition. */
    struct row both[] = {{1, 10, 10, many}, {1, 11, 10, many}};
    feed_to(r, BASE, both, 2, 10, 11);
    replica_settle(r);
    check_huge(r, 10, 0, 1);
    replica_free(r);
}

/* Top-k without and with a limit, of more copies than an int64_t counts. */
static void test_topk_huge(void)
{
    static const int64_t many = 5000000000000000000;
    struct row rows[] = {{1, 1, 1, many}, {2, 2, 1, many}, {3, 3, 1, many}};
    struct row back[] = {{1, 1, 2, -many}, {3, 3, 2, -many}};
    struct row want[] = {{1, 1, 1, many - 1}, {2, 2, 1, many}, {3, 3, 1, many}};
    struct row left[] = {{2, 2, 2, many - 1}};
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .as_of = 1, .rest = true, .subscribe = EXPORT_SUBSCRIBE};
    CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
    feed_to(r, BASE, rows, 3, 1, 2);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1, want, 3));
    feed_to(r, BASE, back, 2, 2, 3);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 2, left, 1));
    replica_free(r);
}

static const uint8_t text_kinds[] = {TYPE_TEXT, TYPE_TEXT};
static const uint8_t text_out[] = {TYPE_TEXT};

/* string_agg(column 0, column 1) */
static struct plan *make_string_agg(void *arg)
{
    (void)arg;
    struct plan *p = plan_new();
    p->id = BASE;
    p->as_of = 1;
    uint32_t source = plan_source(p, 100, text_kinds, 2);
    struct plan_agg agg = {.func = AGG_STRING_AGG, .arg = 0, .arg2 = 1};
    uint32_t node = plan_reduce(p, source, NULL, 0, &agg, 1);
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, node, true, FRONTIER_EMPTY);
    return p;
}

/* Any number of copies of nothing is nothing, at once. */
static void test_string_agg_huge(void)
{
    struct replica *r = replica_new(1, 7, 0);
    replica_register(r, EXPORT_SUBSCRIBE, text_out, 1);
    CU_ASSERT_PTR_NULL_FATAL(replica_create(r, make_string_agg, NULL, part_at_0, 1));
    struct batch_builder *b = batch_builder_new(text_kinds, 2);
    struct datum empty = {.s = "", .len = 0};
    batch_builder_datum(b, 0, &empty);
    batch_builder_datum(b, 1, &empty);
    batch_builder_end_row(b, 1, INT64_MAX);
    struct view view = view_of(b, 2);
    engine_input(r->worker[0].engine, BASE, 0, 0, 1, 2, &view.batch, NULL);
    view_free(&view);
    replica_settle(r);
    struct batch_builder *have = replica_output(r, EXPORT_SUBSCRIBE, 1, false, text_out, 1);
    CU_ASSERT_EQUAL(batch_builder_rows(have), 1);
    batch_builder_free(have);
    batch_builder_free(b);
    replica_free(r);
}

/* Chunks so large that the parts for the others are payloads of their own, amid small ones. */
static void test_exchange_large(void)
{
    enum { ROWS = 30000 };
    for (uint32_t workers = 2; workers <= WORKERS_MAX; workers++) {
        struct replica *r = replica(workers);
        struct spec base = {.id = BASE, .as_of = 1, .subscribe = EXPORT_SUBSCRIBE};
        CU_ASSERT_FATAL(create(r, &base) == ERR_OK);
        struct row *rows = mem_alloc(ROWS * sizeof(*rows));
        for (int64_t i = 0; i < ROWS; i++) {
            rows[i] = (struct row){i % 1000, i, 1 + (i > ROWS / 2), 1};
        }
        feed_to(r, BASE, rows, 10, 1, 1);
        feed_to(r, BASE, rows + 10, ROWS - 20, 1, 1);
        feed_to(r, BASE, rows + ROWS - 10, 10, 1, 3);
        replica_settle(r);
        CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_SUBSCRIBE), 3);
        CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 2, rows, ROWS));
        CU_ASSERT_TRUE(r->built >= workers - 1);
        CU_ASSERT_TRUE(r->packets > r->built);
        free(rows);
        replica_free(r);
    }
}

/* Bytes from outside: they may change, and go, once they were taken over. */
static void test_input_rows(void)
{
    static const struct row in[] = {{1, 10, 1, 1}, {2, 20, 3, 1}};
    struct replica *r = replica(1);
    struct engine *engine = r->worker[0].engine;
    struct spec spec = {.id = BASE, .as_of = 1, .subscribe = EXPORT_SUBSCRIBE};
    CU_ASSERT_FATAL(create(r, &spec) == ERR_OK);
    uint64_t before = engine_memory(engine);
    size_t len;
    uint8_t *bytes = bytes_of(in, 2, &len);
    struct chunk *rows, *held;
    CU_ASSERT_PTR_NULL_FATAL(engine_rows_open(engine, bytes, len, kinds2, 2, NULL, &rows));
    CU_ASSERT_PTR_NULL_FATAL(engine_rows_open(engine, bytes, len, kinds2, 2, NULL, &held));
    CU_ASSERT(engine_memory(engine) >= before + 2 * len);
    memset(bytes, 0xFF, len);
    uint64_t min, max;
    engine_rows_times(rows, &min, &max);
    CU_ASSERT(min == 1 && max == 3);
    engine_input_rows(engine, BASE, 0, 0, 1, 5, rows, NULL);
    engine_rows_free(rows);
    replica_settle(r);
    CU_ASSERT_EQUAL(replica_frontier(r, EXPORT_SUBSCRIBE), 5);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 3, in, 2));
    engine_drop(engine, BASE); /* what is held outlives the dataflow it was for */
    engine_input_rows(engine, BASE, 0, 0, 5, 9, held, NULL);
    replica_settle(r);
    engine_rows_free(held);
    CU_ASSERT_EQUAL(engine_memory(engine), 0);

    struct chunk *none = held;
    err_t err = engine_rows_open(engine, bytes, len, kinds2, 2, NULL, &none);
    CU_ASSERT_EQUAL(err_code(err), ERR_CORRUPT);
    CU_ASSERT_PTR_NULL(none);
    err_free(err);
    free(bytes);
    bytes = bytes_of(NULL, 0, &len);
    CU_ASSERT_PTR_NULL(engine_rows_open(engine, bytes, len, kinds2, 2, NULL, &none));
    CU_ASSERT_PTR_NULL(none);
    engine_rows_free(none);
    free(bytes);
    CU_ASSERT_EQUAL(engine_memory(engine), 0);
    replica_free(r);
}

/* ---- set-returning functions ----------------------------------------------------------------- */

static uint32_t series_id(void)
{
    uint32_t id = 1;
    while (table_func_by_id(id)->args_len != 2 || table_func_by_id(id)->args[0] != TYPE_INT8) {
        id++;
    }
    return id;
}

/* Column 0, and how many rows generate_series(column 0, column 1) gives. */
static struct plan *make_series(void *arg)
{
    static const uint32_t args[] = {0, 1};
    const struct plan_table_call call = {
        .func = series_id(), .args = (uint32_t *)args, .args_len = 2};
    const struct plan_agg count = {.func = AGG_COUNT_ALL};
    struct plan *p = plan_new();
    p->id = BASE;
    p->name = arena_strdup(&p->arena, "series");
    uint32_t node = plan_source(p, 100, kinds2, 2);
    node = plan_flat_map(p, node, &call, 1, false, false, 0);
    node = plan_reduce(p, node, col0, 1, &count, 1);
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, node, true, FRONTIER_EMPTY);
    (void)arg;
    return p;
}

/* One row that gives many is divided into steps, and given up between two of them. */
static void test_flat_map_in_steps(void)
{
    enum { MANY = 300000 };
    struct replica *r = replica(1);
    struct engine *engine = r->worker[0].engine;
    CU_ASSERT_FATAL(replica_create(r, make_series, NULL, part_at_0, 1) == ERR_OK);
    struct row rows[] = {{1, MANY, 1, 1}, {5, 2, 1, 1}, {4, 6, 1, 3}};
    feed_to(r, BASE, rows, 3, 0, 2);
    uint32_t steps = 1;
    while (engine_step(engine)) {
        steps++;
    }
    CU_ASSERT(steps > 3);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1,
                        (struct row[]){{1, MANY, 0, 1}, {4, 9, 0, 1}}, 2));
    rows[0].time = rows[2].time = 2;
    rows[0].diff = -1;
    rows[2].diff = -3;
    feed_to(r, BASE, (struct row[]){rows[0], rows[2]}, 2, 2, 3);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 2, NULL, 0));
    rows[0].time = 3;
    rows[0].diff = 1;
    feed_to(r, BASE, rows, 1, 3, 4);
    CU_ASSERT(engine_step(engine));
    replica_drop(r, BASE);
    replica_settle(r);
    CU_ASSERT_EQUAL(engine_memory(engine), 0);
    CU_ASSERT_EQUAL(r->failures, 0);
    replica_free(r);
}

/* Nor are rows that give nothing taken all at once, in chunks large or small. */
static void test_flat_map_of_nothing(void)
{
    enum { ROWS = 300000, CHUNK = 100000 };
    struct replica *r = replica(1);
    CU_ASSERT_FATAL(replica_create(r, make_series, NULL, part_at_0, 1) == ERR_OK);
    struct row *rows = mem_zalloc(ROWS * sizeof(*rows));
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = (struct row){7, 0, 1, 1};
    }
    for (uint32_t i = 0; i < ROWS; i += CHUNK) {
        feed_to(r, BASE, rows + i, CHUNK, 0, 0);
    }
    for (uint32_t i = 0; i < ROWS / 2; i++) {
        feed_to(r, BASE, rows + i, 1, 0, 0);
    }
    uint32_t steps = 1;
    while (engine_step(r->worker[0].engine)) {
        steps++;
    }
    CU_ASSERT(steps > 6);
    feed_to(r, BASE, NULL, 0, 0, 2);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1, NULL, 0));
    replica_free(r);
    free(rows);
}

/* Of many rows one is wanted: the shorter series' only one. */
static struct plan *make_filtered(void *arg)
{
    static const uint32_t args[] = {0, 1}, one[] = {1, 1}, cols[] = {2, 3};
    const struct plan_table_call calls[] = {
        {.func = series_id(), .args = (uint32_t *)args, .args_len = 2},
        {.func = series_id(), .args = (uint32_t *)one, .args_len = 2}};
    struct plan *p = plan_new();
    p->id = BASE;
    p->name = arena_strdup(&p->arena, "filtered");
    uint32_t node = plan_source(p, 100, kinds2, 2);
    node = plan_flat_map(p, node, calls, 2, false, false, 0);
    node = plan_filter(p, node, 3, cols, 2);
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, node, true, FRONTIER_EMPTY);
    (void)arg;
    return p;
}

/* What an operator gives in many steps is taken meanwhile: it does not pile up in between. */
static void test_flat_map_is_taken(void)
{
    enum { MANY = 3000000 };
    struct replica *r = replica(1);
    struct engine *engine = r->worker[0].engine;
    uint64_t most = 0;
    CU_ASSERT_FATAL(replica_create(r, make_filtered, NULL, part_at_0, 1) == ERR_OK);
    feed_to(r, BASE, (struct row[]){{-MANY, 2, 1, 1}}, 1, 0, 2);
    while (engine_step(engine)) {
        most = engine_memory(engine) > most ? engine_memory(engine) : most;
    }
    CU_ASSERT(most < 16 * 1024 * 1024);
    replica_settle(r);
    CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1, (struct row[]){{-MANY, 2, 0, 1}}, 1));
    CU_ASSERT_EQUAL(r->failures, 0);
    replica_free(r);
}

/* ---- lookups in an index --------------------------------------------------------------------- */

enum { LOOKUP_ROWS = 20000, READER = 31 };

/* A small source by column 0 with an index of many rows; the sum of both paths. */
static struct plan *make_reader(void *arg)
{
    static const uint32_t cols[] = {0, 1}, of_rows[] = {0, 3};
    struct plan *p = plan_new();
    p->id = READER;
    p->name = arena_strdup(&p->arena, "reader");
    uint32_t source = plan_source(p, 100, kinds2, 2);
    uint32_t index = plan_index(p, EXPORT_INDEX, kinds2, 2);
    plan_index_keys(p, index, col0, 1);
    uint32_t arranged = plan_arrange(p, source, col0, 1, false);
    uint32_t rows = plan_lookup(p, source, index, col0, 1, false);
    uint32_t changes = plan_lookup(p, index, arranged, col0, 1, false);
    p->nodes[changes].lookup.before = p->nodes[changes].lookup.later = true;
    uint32_t all = plan_union(p, plan_project(p, rows, of_rows, 2),
                              plan_project(p, changes, cols, 2));
    plan_export_subscribe(p, EXPORT_SUBSCRIBE, all, true, FRONTIER_EMPTY);
    return p;
}

static void count_bytes(void *arg, const struct engine_operator_stats *stats)
{
    *(uint64_t *)arg = stats->dataflow_bytes;
}

static uint64_t bytes_held(struct replica *r, uint64_t dataflow)
{
    uint64_t bytes = 0;
    for (uint32_t w = 0; w < r->workers; w++) {
        uint64_t own = 0;
        engine_dataflow_stats(r->worker[w].engine, dataflow, count_bytes, &own);
        bytes += own;
    }
    return bytes;
}

/* An index of LOOKUP_ROWS rows, and who reads three of them. */
static struct replica *start_reader(uint32_t workers)
{
    struct replica *r = replica(workers);
    struct spec base = {.id = BASE, .index = true};
    CU_ASSERT_PTR_NULL_FATAL(create(r, &base));
    struct row *rows = mem_zalloc(LOOKUP_ROWS * sizeof(*rows));
    for (int64_t i = 0; i < LOOKUP_ROWS; i++) {
        rows[i] = (struct row){i, 10 * i, 0, 1};
    }
    feed_to(r, BASE, rows, LOOKUP_ROWS, 0, 1);
    replica_settle(r);
    free(rows);
    CU_ASSERT_PTR_NULL_FATAL(replica_create(r, make_reader, NULL, part_at_0, 1));
    struct row wanted[] = {{5, 1, 0, 1}, {6, 2, 0, 1}, {LOOKUP_ROWS, 3, 0, 1}};
    feed_to(r, READER, wanted, 3, 0, 1);
    replica_settle(r);
    return r;
}

/* No copy; the index's changes and the reader's meet once, in either order and at one time. */
static void test_lookup_shares(void)
{
    for (uint32_t workers = 1; workers <= 3; workers += 2) {
        struct replica *r = start_reader(workers);
        struct row first[] = {{5, 50, 0, 1}, {6, 60, 0, 1}};
        CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 0, first, 2));
        CU_ASSERT(bytes_held(r, READER) > 0);
        CU_ASSERT(bytes_held(r, READER) < bytes_held(r, BASE) / 20);
        for (uint32_t w = 0; w < workers; w++) { /* what the reader needs is held */
            engine_allow_compaction(r->worker[w].engine, EXPORT_INDEX, 3);
        }
        struct row change[] = {{5, 50, 1, -1}, {LOOKUP_ROWS, 7, 1, 1}, {6, 61, 2, 1}};
        feed_to(r, BASE, change, 3, 1, 4);
        replica_settle(r);
        replica_drop(r, BASE); /* it lives on for its reader */
        replica_settle(r);
        struct row own[] = {{5, 1, 1, 1}, {6, 2, 2, -1}};
        feed_to(r, READER, own, 2, 1, 4);
        replica_settle(r);
        struct row at1[] = {{6, 60, 1, 1}, {LOOKUP_ROWS, 7, 1, 1}};
        CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 1, at1, 2));
        struct row at3[] = {{LOOKUP_ROWS, 7, 3, 1}};
        CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 3, at3, 1));
        struct row again = {5, 77, 4, 1};
        feed_to(r, BASE, &again, 1, 4, 5);
        feed_to(r, READER, NULL, 0, 4, 5);
        replica_settle(r);
        struct row at4[] = {{LOOKUP_ROWS, 7, 4, 1}, {5, 77, 4, 2}};
        CU_ASSERT(output_is(r, EXPORT_SUBSCRIBE, 4, at4, 2));
        replica_drop(r, READER);
        replica_settle(r);
        for (uint32_t w = 0; w < workers; w++) {
            CU_ASSERT_EQUAL(engine_memory(r->worker[w].engine), 0);
        }
        CU_ASSERT_EQUAL(r->failures, 0);
        replica_free(r);
    }
}

/* Keys that the index has not are refused, and nothing is left of it. */
static struct plan *make_wrong_keys(void *arg)
{
    struct plan *p = make_reader(arg);
    static const uint32_t col1[] = {1};
    plan_index_keys(p, 1, col1, 1);
    return p;
}

static void test_lookup_refused(void)
{
    struct replica *r = replica(1);
    struct spec base = {.id = BASE, .index = true};
    CU_ASSERT_PTR_NULL_FATAL(create(r, &base));
    err_t err = replica_create(r, make_wrong_keys, NULL, part_at_0, 1);
    CU_ASSERT_FATAL(err != ERR_OK);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "other keys"));
    err_free(err);
    replica_free(r);
}

static const struct test_case cases[] = {
    {"lookup_shares", test_lookup_shares},
    {"lookup_refused", test_lookup_refused},
    {"flat_map_in_steps", test_flat_map_in_steps},
    {"flat_map_of_nothing", test_flat_map_of_nothing},
    {"flat_map_is_taken", test_flat_map_is_taken},
    {"exchange_large", test_exchange_large},
    {"input_rows", test_input_rows},
    {"window_floats", test_window_floats},
    {"window_floats_exact", test_window_floats_exact},
    {"window_huge", test_window_huge},
    {"window_many", test_window_many},
    {"topk_huge", test_topk_huge},
    {"string_agg_huge", test_string_agg_huge},
    {"import", test_import},
    {"import_ahead", test_import_ahead},
    {"import_refused", test_import_refused},
    {"compaction", test_compaction},
    {"peek_holds", test_peek_holds},
    {"peek_forms", test_peek_forms},
    {"peek_cancel", test_peek_cancel},
    {"peek_in_steps", test_peek_in_steps},
    {"errors", test_errors},
    {"sum_overflow", test_sum_overflow},
    {"subscribe_options", test_subscribe_options},
    {"snapshot_in_pieces", test_snapshot_in_pieces},
    {"bad_input", test_bad_input},
    {"memory_limit", test_memory_limit},
    {"reuse", test_reuse},
    {"forget", test_forget},
    {"hostile_payloads", test_hostile_payloads},
    {"topk_many", test_topk_many},
    {"steps", test_steps},
    {"steps of a skewed key", test_skewed_steps},
};
TEST_SUITE("core/engine", cases)
