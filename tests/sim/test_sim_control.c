/*
 * The controllers, storaged and computed together in the simulator, without SQL: a table, a
 * maintained aggregation and a subscriber to it, under kills, power loss, cut connections and
 * partitions. Every state the subscriber was told equals the aggregation of exactly the writes that
 * were acknowledged below its upper.
 *
 *     test_sim_control [--seed N] [--seeds N] [--shape SxW] [--trace]
 */
#include "core/base/hash.h"
#include "core/base/map.h"
#include "core/base/mem.h"
#include "ctrl/controller/controller.h"
#include "tests/sim/seeds.h"
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    TABLE = 1,
    CLUSTER = 2,
    INDEX = 3,
    KEYS = 13,
    WRITE_EVERY_US = 7000,
    TICK_US = 20000,
    FAULTY_US = 4000000,
    SETTLE_US = 20000000,
};
#define SUBSCRIBE_ID (PLAN_ID_TRANSIENT | 1)

struct write {
    uint64_t time;
    int64_t key, value;
    bool retract;
    bool acked;
};

/* What the subscriber held when it was told that everything below upper is complete. */
struct told {
    uint64_t upper;
    uint64_t hash;
};

struct test {
    uint32_t scale, workers;
    struct world *world;
    struct io_loop *loop;
    struct orchestrator *orchestrator;
    struct controller *controller;
    struct io_timer timer;
    struct write *writes;
    size_t writes_len, writes_cap;
    bool writing; /* one append at a time */
    bool quiet;   /* no further writes */
    uint64_t last_time;
    uint64_t upper; /* of the subscription */
    int64_t sums[KEYS], counts[KEYS];
    struct told *told;
    size_t told_len, told_cap;
    size_t told_checked;
    char failure[256];
};

static void fail(struct test *t, const char *what)
{
    if (t->failure[0] == '\0') {
        snprintf(t->failure, sizeof(t->failure), "%s (at %" PRIu64 " us)", what,
                 sim_now_us(world_sim(t->world)));
    }
}

static uint64_t state_hash(const int64_t *sums, const int64_t *counts)
{
    uint64_t hash = 0;
    for (int64_t k = 0; k < KEYS; k++) {
        if (counts[k] != 0) {
            hash += hash_combine(hash_combine((uint64_t)k, (uint64_t)sums[k]),
                                 (uint64_t)counts[k]);
        }
    }
    return hash;
}

/* ---- the model ------------------------------------------------------------------------------- */

static uint64_t model_hash(const struct test *t, uint64_t upper)
{
    int64_t sums[KEYS] = {0};
    int64_t counts[KEYS] = {0};
    for (size_t i = 0; i < t->writes_len; i++) {
        const struct write *w = &t->writes[i];
        if (w->acked && w->time < upper) {
            sums[w->key] += w->retract ? -w->value : w->value;
            counts[w->key] += w->retract ? -1 : 1;
        }
    }
    return state_hash(sums, counts);
}

/* Compares what was told once every write below it has been answered. */
static void check_told(struct test *t)
{
    uint64_t answered = t->writing ? t->writes[t->writes_len - 1].time : UINT64_MAX;
    while (t->told_checked < t->told_len && t->told[t->told_checked].upper <= answered) {
        const struct told *told = &t->told[t->told_checked++];
        if (told->hash != model_hash(t, told->upper)) {
            fail(t, "the subscriber's state differs from the model");
        }
    }
}

/* ---- the subscriber -------------------------------------------------------------------------- */

static void apply(struct test *t, const struct batch *ok, uint32_t row)
{
    struct datum key, sum, count;
    batch_datum(&ok->col[0], row, &key);
    batch_datum(&ok->col[1], row, &sum);
    batch_datum(&ok->col[2], row, &count);
    if (key.i < 0 || key.i >= KEYS || sum.n.scale != 0) {
        fail(t, "a row that was never written");
        return;
    }
    int64_t diff = batch_diff(ok, row);
    t->sums[key.i] += diff * (int64_t)sum.n.lo;
    t->counts[key.i] += diff * count.i;
}

static void on_subscribe(void *arg, uint64_t lower, uint64_t upper, const struct batch *ok,
                         err_t err)
{
    struct test *t = arg;
    if (err != ERR_OK) {
        fail(t, err_text(err));
        err_free(err);
        return;
    }
    if (lower != t->upper || upper <= lower) {
        fail(t, "pieces of the subscription do not abut");
    }
    for (uint32_t row = 0; ok != NULL && row < ok->rows; row++) {
        if (batch_time(ok, row) < lower || batch_time(ok, row) >= upper) {
            fail(t, "an update outside of its piece");
        }
        apply(t, ok, row);
    }
    t->upper = upper;
    *VEC_PUSH(t, told) =
        (struct told){.upper = upper, .hash = state_hash(t->sums, t->counts)};
    check_told(t);
}

/* ---- the writer ------------------------------------------------------------------------------ */

static void append(struct test *t);

static void on_appended(void *arg, err_t err)
{
    struct test *t = arg;
    if (err != ERR_OK && err_code(err) == ERR_FENCED) {
        err_free(err);
        append(t); /* the same row at a later time */
        return;
    }
    if (err != ERR_OK) {
        fail(t, err_text(err));
        err_free(err);
        return;
    }
    t->writing = false;
    t->writes[t->writes_len - 1].acked = true;
    check_told(t);
}

static void append(struct test *t)
{
    struct write *w = &t->writes[t->writes_len - 1];
    uint64_t now = io_now_us(t->loop);
    w->time = t->last_time = now > t->last_time ? now : t->last_time + 1;
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};
    struct batch_builder *builder = batch_builder_new(kinds, 2);
    batch_builder_datum(builder, 0, &(struct datum){.i = w->key});
    batch_builder_datum(builder, 1, &(struct datum){.i = w->value});
    batch_builder_end_row(builder, 0, w->retract ? -1 : 1);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(builder, &size);
    struct batch_col cols[2];
    struct batch view;
    batch_view(bytes, size, cols, 2, &view);
    const struct storage_write write = {.id = TABLE, .batch = &view};
    controller_append(t->controller, w->time, &write, 1, on_appended, t);
    batch_builder_free(builder);
    free(bytes);
}

/* A new row, or (one time in three) the retraction of one that was acknowledged. */
static void write_something(struct test *t)
{
    struct sim *sim = world_sim(t->world);
    struct write w = {.key = (int64_t)(sim_random(sim) % KEYS),
                      .value = (int64_t)(sim_random(sim) % 1000)};
    if (t->writes_len > 0 && sim_random(sim) % 3 == 0) {
        const struct write *old = &t->writes[sim_random(sim) % t->writes_len];
        bool gone = old->retract;
        for (size_t i = 0; i < t->writes_len; i++) {
            gone = gone || (t->writes[i].retract && t->writes[i].key == old->key &&
                            t->writes[i].value == old->value);
        }
        if (!gone) {
            w = *old;
            w.retract = true;
            w.acked = false;
        }
    }
    t->writing = true;
    *VEC_PUSH(t, writes) = w;
    append(t);
}

static void on_timer(struct io_timer *timer)
{
    struct test *t = CONTAINER_OF(timer, struct test, timer);
    if (!t->writing) {
        if (!t->quiet) {
            write_something(t);
        } else {
            uint64_t now = io_now_us(t->loop);
            t->last_time = now > t->last_time ? now : t->last_time;
            controller_advance_tables(t->controller, t->last_time + 1);
        }
    }
    if (t->upper > 1000000) {
        controller_allow_compaction(t->controller, CLUSTER, INDEX, t->upper - 500000);
        controller_allow_compaction(t->controller, 0, TABLE, t->upper - 500000);
    }
    io_timer_start(t->loop, timer,
                   io_now_us(t->loop) + (t->quiet ? TICK_US : WRITE_EVERY_US));
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static struct plan *make_plan(void)
{
    struct plan *plan = plan_new();
    struct arena *a = &plan->arena;
    static const char *const table_names[] = {"k", "v"};
    static const char *const view_names[] = {"k", "sum", "count"};
    struct plan_node source = {.op = PLAN_SOURCE, .import.id = TABLE};
    source.schema.cols = 2;
    source.schema.types = ARENA_ARRAY(a, struct type, 2);
    source.schema.types[0] = source.schema.types[1] = type_of(TYPE_INT8);
    source.schema.names = arena_memdup(a, table_names, sizeof(table_names));
    struct plan_node reduce = {.op = PLAN_REDUCE, .inputs_len = 1};
    reduce.inputs = ARENA_ARRAY(a, uint32_t, 1);
    reduce.inputs[0] = plan_add(plan, &source);
    reduce.reduce.keys_len = 1;
    reduce.reduce.keys = ARENA_ARRAY(a, uint32_t, 1);
    reduce.reduce.aggs_len = 2;
    reduce.reduce.aggs = ARENA_ARRAY(a, struct plan_agg, 2);
    reduce.reduce.aggs[0] = (struct plan_agg){.func = AGG_SUM, .arg = 1};
    reduce.reduce.aggs[1] = (struct plan_agg){.func = AGG_COUNT_ALL};
    ASSERT(agg_result(AGG_SUM, TYPE_INT8, &reduce.reduce.aggs[0].type));
    reduce.reduce.aggs[1].type = type_of(TYPE_INT8);
    reduce.schema.cols = 3;
    reduce.schema.types = ARENA_ARRAY(a, struct type, 3);
    reduce.schema.types[0] = type_of(TYPE_INT8);
    reduce.schema.types[1] = reduce.reduce.aggs[0].type;
    reduce.schema.types[2] = type_of(TYPE_INT8);
    reduce.schema.names = arena_memdup(a, view_names, sizeof(view_names));
    uint32_t node = plan_add(plan, &reduce);
    plan->exports = ARENA_ARRAY(a, struct plan_export, 2);
    plan->exports_len = 2;
    plan->exports[0] = (struct plan_export){
        .kind = PLAN_EXPORT_INDEX, .id = INDEX, .node = node, .until = FRONTIER_EMPTY};
    plan->exports[0].keys = ARENA_ARRAY(a, uint32_t, 1);
    plan->exports[0].keys_len = 1;
    plan->exports[1] = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                            .id = SUBSCRIBE_ID,
                                            .node = node,
                                            .snapshot = true,
                                            .until = FRONTIER_EMPTY};
    plan->id = INDEX;
    plan->name = arena_strdup(a, "sums");
    return plan;
}

static const struct controller_events no_events = {0};

static err_t env_create(struct test *t)
{
    const struct controller_config config = {
        .loop = t->loop,
        .orchestrator = t->orchestrator,
        .environment = "00112233445566778899aabbccddeeff",
        .epoch = 1,
        .storaged_image = "storaged",
        .computed_image = "computed",
        .data_directory = "/data",
        .storage_processes = t->scale,
        .storage_workers = t->workers,
        .carrier = "tcp",
        .events = &no_events,
        .ctx = t,
    };
    TRY(controller_new(&config, &t->controller));
    static const char *const names[] = {"k", "v"};
    const struct type types[] = {type_of(TYPE_INT8), type_of(TYPE_INT8)};
    const struct storage_collection table = {
        .id = TABLE, .kind = STORAGE_TABLE, .types = types, .names = names, .cols = 2};
    TRY(controller_collection_create(t->controller, &table));
    const struct controller_cluster_spec cluster = {
        .id = CLUSTER, .name = "c", .scale = t->scale, .workers = t->workers, .replicas = 1};
    TRY(controller_cluster_create(t->controller, &cluster));
    controller_subscribe(t->controller, SUBSCRIBE_ID, on_subscribe, t);
    TRY(controller_dataflow_create(t->controller, CLUSTER, make_plan()));
    controller_initialized(t->controller);
    return ERR_OK;
}

static void env_start(struct io_loop *loop, void *arg)
{
    struct test *t = arg;
    t->loop = loop;
    t->orchestrator = world_orchestrator_new(t->world, loop);
    t->timer.fire = on_timer;
    err_t err = env_create(t);
    if (err != ERR_OK) {
        fail(t, err_text(err));
        err_free(err);
        return;
    }
    io_timer_start(loop, &t->timer, io_now_us(loop) + WRITE_EVERY_US);
}

static void env_destroy(void *arg)
{
    struct test *t = arg;
    t->quiet = true;
    controller_free(t->controller);
    orchestrator_free(t->orchestrator);
}

/* ---- one seed -------------------------------------------------------------------------------- */

static void run_world(struct test *t)
{
    struct sim *sim = world_sim(t->world);
    world_run(t->world, 1000000);
    while (sim_now_us(sim) < FAULTY_US && t->failure[0] == '\0') {
        world_run(t->world, 20000 + sim_random(sim) % 400000);
        world_random_fault(t->world, "");
        world_run(t->world, sim_random(sim) % 100000);
        if (sim_random(sim) % 3 == 0) {
            world_heal(t->world);
        }
    }
    world_heal(t->world);
    t->quiet = true;
    world_run(t->world, SETTLE_US);
    if (t->failure[0] == '\0' && (t->writing || t->writes_len < 20)) {
        fail(t, "a write was never answered");
    }
    if (t->failure[0] == '\0' && t->upper <= t->writes[t->writes_len - 1].time) {
        fail(t, "the subscription did not come to the last write");
    }
    if (t->failure[0] == '\0' && t->told_checked != t->told_len) {
        fail(t, "states were left unchecked");
    }
}

static bool run_seed(struct seed *seed)
{
    struct test t = {.scale = seed->scale, .workers = seed->workers};
    t.world = world_new(seed->number, seed->trace);
    sim_process_start(world_sim(t.world), "env", "environmentd", env_start, env_destroy, &t);
    run_world(&t);
    seed->hash = sim_trace_hash(world_sim(t.world));
    seed->counts = *world_counts(t.world);
    char numbers[160];
    snprintf(numbers, sizeof(numbers),
             "%zu writes, %zu states, %" PRIu64 " faults, %" PRIu64 " events", t.writes_len,
             t.told_len, world_faults(t.world), sim_events(world_sim(t.world)));
    seed_report(seed, "test_sim_control", t.failure, numbers);
    world_free(t.world);
    free(t.writes);
    free(t.told);
    return t.failure[0] == '\0';
}

static void shape(uint64_t number, uint32_t *scale, uint32_t *workers)
{
    *scale = number % 3 == 2 ? 2 : 1;
    *workers = number % 3 == 0 ? 1 : 2;
}

int main(int argc, char **argv)
{
    const struct seeds seeds = {.program = "test_sim_control",
                                .count = 30,
                                .repeat_every = 10,
                                .shape = shape,
                                .run = run_seed};
    return seeds_main(&seeds, argc, argv);
}
