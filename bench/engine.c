/*
 * The engine alone, one worker, closed loop: a round pushes its updates, moves the time on by one
 * and runs until the output's frontier has passed. Two workloads with known answers:
 *
 *     count   10 M keys counted, then small rounds of insertions and retractions
 *     join    1 M x 1 M rows joined, then small rounds on both sides
 *
 * Output updates, net multiplicity and checksum must be as stated, so that a faster engine is a
 * correct one. Usage: tailrace-bench engine [count|join]
 */
#include "core/engine/engine.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

int bench_engine(int argc, char **argv);

enum { DATAFLOW = 1, EXPORT = 2 };

struct rng {
    uint64_t state;
};

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

static uint64_t below(struct rng *rng, uint64_t n)
{
    rng->state += 0x9E3779B97F4A7C15ULL;
    return (uint64_t)(((unsigned __int128)mix(rng->state) * n) >> 64);
}

static uint64_t mix2(uint64_t a, uint64_t b)
{
    return mix(mix(a + 0x9E3779B97F4A7C15ULL) + b);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- one engine and what it puts out --------------------------------------------------------- */

struct bench {
    struct engine *engine;
    uint64_t frontier;
    uint64_t time;
    bool join;
    uint64_t updates, checksum;
    int64_t net;
    struct batch_builder *side[2];
    bool ok; /* every checkpoint matched */
};

static uint64_t record_hash(const struct bench *bench, const struct batch *b, uint32_t row)
{
    const int64_t *key = b->col[0].values;
    const int64_t *second = b->col[1].values;
    uint64_t hash = mix2((uint64_t)key[row], (uint64_t)second[row]);
    return bench->join ? mix(hash + (uint64_t)((const int64_t *)b->col[3].values)[row]) : hash;
}

static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    struct bench *bench = ctx;
    ASSERT(err == NULL && export_id == EXPORT && lower < upper);
    for (uint32_t i = 0; ok != NULL && i < ok->rows; i++) {
        int64_t diff = batch_diff(ok, i);
        bench->checksum += (uint64_t)diff * record_hash(bench, ok, i);
        bench->net += diff;
        bench->updates++;
    }
}

static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    ((struct bench *)ctx)->frontier = upper;
}

static void on_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    UNREACHABLE();
}

static void on_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    fprintf(stderr, "failed: %s\n", err_text(err));
    UNREACHABLE();
}

static const struct engine_host host = {
    .frontier = on_frontier,
    .subscribe = on_subscribe,
    .peek_done = on_peek_done,
    .failed = on_failed,
};

static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};

static struct schema schema_of(struct plan *plan, uint32_t cols)
{
    struct schema schema = {.cols = cols, .types = ARENA_ARRAY(&plan->arena, struct type, cols)};
    for (uint32_t c = 0; c < cols; c++) {
        schema.types[c] = type_of(TYPE_INT8);
    }
    return schema;
}

static struct plan *plan_of(bool join)
{
    struct plan *plan = plan_new();
    plan->id = DATAFLOW;
    plan->name = arena_strdup(&plan->arena, "bench");
    struct plan_node source = {.op = PLAN_SOURCE, .schema = schema_of(plan, join ? 2 : 1)};
    plan_add(plan, &source);
    struct plan_node node = {.op = PLAN_REDUCE, .inputs_len = 1};
    if (join) {
        plan_add(plan, &source);
        node = (struct plan_node){.op = PLAN_JOIN, .inputs_len = 2, .schema = schema_of(plan, 4)};
        node.join.kind = PLAN_JOIN_INNER;
        node.join.keys_len = 1;
        node.join.left_keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
        node.join.right_keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
    } else {
        node.schema = schema_of(plan, 2);
        node.reduce.keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
        node.reduce.keys_len = 1;
        node.reduce.aggs = ARENA_ARRAY(&plan->arena, struct plan_agg, 1);
        node.reduce.aggs_len = 1;
        node.reduce.aggs[0] = (struct plan_agg){.func = AGG_COUNT_ALL, .type = type_of(TYPE_INT8)};
    }
    node.inputs = ARENA_ARRAY(&plan->arena, uint32_t, 2);
    node.inputs[1] = 1;
    plan_add(plan, &node);
    plan->exports = ARENA_ARRAY(&plan->arena, struct plan_export, 1);
    plan->exports_len = 1;
    plan->exports[0] = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                            .id = EXPORT,
                                            .node = plan->nodes_len - 1,
                                            .snapshot = true,
                                            .until = FRONTIER_EMPTY};
    return plan;
}

static void set_up(struct bench *bench, bool join)
{
    *bench = (struct bench){.join = join, .ok = true};
    struct engine_config config = {.workers = 1, .host = &host, .ctx = bench};
    uint32_t parts[] = {1, 1};
    bench->engine = engine_new(&config);
    struct plan *plan = plan_of(join);
    err_t err = plan_validate(plan);
    ASSERT(err == ERR_OK);
    err = engine_create(bench->engine, plan, parts, join ? 2 : 1);
    ASSERT(err == ERR_OK);
    for (int s = 0; s < 2; s++) {
        bench->side[s] = batch_builder_new(kinds, join ? 2 : 1);
    }
}

static void tear_down(struct bench *bench)
{
    engine_free(bench->engine);
    batch_builder_free(bench->side[0]);
    batch_builder_free(bench->side[1]);
}

static void put(struct bench *bench, int side, uint64_t key, uint64_t value, int64_t diff)
{
    struct datum d = {.i = (int64_t)key};
    batch_builder_datum(bench->side[side], 0, &d);
    if (bench->join) {
        d.i = (int64_t)value;
        batch_builder_datum(bench->side[side], 1, &d);
    }
    batch_builder_end_row(bench->side[side], bench->time, diff);
}

/* Pushes what was put, and runs until it is through; returns nanoseconds. */
static uint64_t run_round(struct bench *bench)
{
    uint64_t start = now_ns();
    for (uint32_t s = 0; s < (bench->join ? 2u : 1u); s++) {
        struct batch_col cols[2];
        struct batch view;
        size_t size;
        void *data = batch_builder_finish_new(bench->side[s], &size);
        batch_view(data, size, cols, 2, &view);
        engine_input(bench->engine, DATAFLOW, s, 0, bench->time, bench->time + 1,
                     view.rows > 0 ? &view : NULL, NULL);
        batch_builder_reset(bench->side[s]);
        free(data);
    }
    bench->time++;
    while (bench->frontier < bench->time) {
        engine_step(bench->engine);
    }
    return now_ns() - start;
}

/* ---- figures --------------------------------------------------------------------------------- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(const char *what, uint64_t *ns, size_t rounds, size_t per_round)
{
    uint64_t total = 0;
    for (size_t i = 0; i < rounds; i++) {
        total += ns[i];
    }
    qsort(ns, rounds, sizeof(*ns), compare_u64);
    printf("%-22s %8.3f M updates/s   p50 %10.2f us   p99 %10.2f us   max %10.2f us\n", what,
           (double)(rounds * per_round) * 1e3 / (double)total, (double)ns[rounds / 2] / 1e3,
           (double)ns[rounds * 99 / 100] / 1e3, (double)ns[rounds - 1] / 1e3);
}

static void check(struct bench *bench, const char *what, uint64_t updates, int64_t net,
                  uint64_t checksum)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    bool same = bench->updates == updates && bench->net == net && bench->checksum == checksum;
    printf("%-22s %llu updates, net %lld, checksum %016llx: %s"
           "   (engine %.1f MiB, peak %.1f MiB)\n",
           what, (unsigned long long)bench->updates, (long long)bench->net,
           (unsigned long long)bench->checksum, same ? "as expected" : "WRONG",
           (double)engine_memory(bench->engine) / 1048576, (double)usage.ru_maxrss / 1024);
    bench->ok &= same;
}

/* ---- count ----------------------------------------------------------------------------------- */

static bool run_count(void)
{
    enum { KEYS = 1000000, LOAD = 10000000, LOAD_ROUND = 10000 };
    static const size_t phases[3][2] = {{100000, 1}, {10000, 100}, {100, 10000}};
    struct bench bench;
    struct rng next = {1};
    struct rng oldest = {1};
    uint64_t *ns = mem_alloc(100000 * sizeof(*ns));
    set_up(&bench, false);
    for (size_t round = 0; round < LOAD / LOAD_ROUND; round++) {
        for (size_t i = 0; i < LOAD_ROUND; i++) {
            put(&bench, 0, below(&next, KEYS), 0, 1);
        }
        ns[round] = run_round(&bench);
    }
    report("count: load", ns, LOAD / LOAD_ROUND, LOAD_ROUND);
    check(&bench, "count: loaded", 18900375, 999963, 0xf17737262818b7e9ULL);
    uint64_t turn = 0;
    for (int phase = 0; phase < 3; phase++) {
        for (size_t round = 0; round < phases[phase][0]; round++) {
            for (size_t i = 0; i < phases[phase][1]; i++, turn++) {
                bool add = turn % 2 == 0;
                put(&bench, 0, below(add ? &next : &oldest, KEYS), 0, add ? 1 : -1);
            }
            ns[round] = run_round(&bench);
        }
        char what[32];
        snprintf(what, sizeof(what), "count: rounds of %zu", phases[phase][1]);
        report(what, ns, phases[phase][0], phases[phase][1]);
    }
    check(&bench, "count: end", 23085277, 999951, 0x648bee1092356958ULL);
    tear_down(&bench);
    free(ns);
    return bench.ok;
}

/* ---- join ------------------------------------------------------------------------------------ */

struct stream {
    struct rng rng;
    uint64_t number;
};

static void put_next(struct bench *bench, int side, struct stream *stream, int64_t diff)
{
    uint64_t key = below(&stream->rng, 1000000);
    put(bench, side, key, stream->number++, diff);
}

static bool run_join(void)
{
    enum { LOAD = 1000000 };
    static const size_t phases[3][2] = {{20, 100000}, {2000, 100}, {10000, 1}};
    struct bench bench;
    struct stream next[2] = {{.rng = {2}}, {.rng = {3}}};
    struct stream oldest[2] = {{.rng = {2}}, {.rng = {3}}};
    uint64_t *ns = mem_alloc(10000 * sizeof(*ns));
    set_up(&bench, true);
    for (size_t i = 0; i < LOAD; i++) {
        put_next(&bench, 0, &next[0], 1);
        put_next(&bench, 1, &next[1], 1);
    }
    ns[0] = run_round(&bench);
    report("join: load", ns, 1, 2 * (size_t)LOAD);
    check(&bench, "join: loaded", 1001134, 1001134, 0xfd583b2dd6127243ULL);
    uint64_t turn = 0;
    for (int phase = 0; phase < 3; phase++) {
        for (size_t round = 0; round < phases[phase][0]; round++) {
            for (size_t i = 0; i < phases[phase][1]; i++, turn++) {
                int side = turn % 4 >= 2; /* A+, A-, B+, B- */
                bool add = turn % 2 == 0;
                put_next(&bench, side, add ? &next[side] : &oldest[side], add ? 1 : -1);
            }
            ns[round] = run_round(&bench);
        }
        char what[32];
        snprintf(what, sizeof(what), "join: rounds of %zu", phases[phase][1]);
        report(what, ns, phases[phase][0], phases[phase][1]);
    }
    /* Consolidated per round; 3,214,018 when pairs that come and go within a round are counted. */
    check(&bench, "join: end", 3189226, 999952, 0xe0dc9519affc2a90ULL);
    tear_down(&bench);
    free(ns);
    return bench.ok;
}

int bench_engine(int argc, char **argv)
{
    const char *which = argc > 1 ? argv[1] : "all";
    bool all = strcmp(which, "all") == 0;
    bool ok = true;
    if (all || strcmp(which, "count") == 0) {
        ok &= run_count();
    }
    if (all || strcmp(which, "join") == 0) {
        ok &= run_join();
    }
    return ok ? 0 : 1;
}
