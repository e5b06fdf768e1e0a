/*
 * Crashes in the simulator. A process appends to two tables (each append to both), follows one with
 * a cursor and ingests a file; it is killed, or its host loses power with what was not synced, at
 * every event of the run in turn. After the restart:
 *
 *  - what was acknowledged is there exactly once, in both tables, at its time;
 *  - the history a cursor saw before, with what it sees after resuming, is the history a new cursor
 *    reads from the beginning: no gap, no duplicate, no change;
 *  - uppers have not moved back;
 *  - the source holds exactly the file.
 */
#include "core/io/sim.h"
#include "tests/unit/core/storage/storage_test.h"

#include <stdio.h>
#include <stdlib.h>

enum { APPENDS = 24, LINES = 10, RUN_US = 400000, COMPACT_RUN_US = 900000 };

struct world {
    struct sim *sim;
    struct sim_process *process;
    uint64_t seed;
    bool compact;       /* since follows the upper, segments are small */
    uint64_t attempted; /* appends begun */
    uint64_t acked;     /* appends answered well */
    uint64_t time[APPENDS + 64]; /* of an acknowledged one; 0: not */
    struct test_rows seen; /* by the cursor, with times */
    uint64_t upper;        /* the highest told */
    uint64_t refused;      /* appends for lack of space */
    struct app *app;
    uint64_t events;
    uint64_t stop_at;
    bool failed;
    enum storage_status status;
    uint64_t paused; /* times told */
    struct metrics_registry *metrics;
};

struct app {
    struct world *world;
    struct io_loop *loop;
    struct storage_worker *storage;
    struct storage_cursor *cursor;
    struct io_timer timer;
    struct answer {
        struct app *app;
        uint64_t k;
        uint64_t time;
        bool busy;
    } answer[3];
};

static struct type types[TEST_COLS];
static const char *const names[TEST_COLS] = {"a", "b"};

static void check(struct world *w, bool condition, const char *what)
{
    if (!condition && !w->failed) {
        w->failed = true;
        fprintf(stderr, "seed %llu, crash at event %llu: %s\n", (unsigned long long)w->seed,
                (unsigned long long)w->stop_at, what);
    }
    CU_ASSERT(condition);
}

static void check_ok(struct world *w, err_t err)
{
    if (err != ERR_OK) {
        check(w, false, err_text(err));
    }
    err_free(err);
}

/* ---- the process ----------------------------------------------------------------------------- */

static void answered(void *arg, err_t err)
{
    struct answer *answer = arg;
    struct world *w = answer->app->world;
    answer->busy = false;
    if (err == ERR_OK) {
        w->time[answer->k] = answer->time;
        w->acked++;
    } else {
        check(w, err_code(err) == ERR_NO_SPACE || err_code(err) == ERR_FENCED, err_text(err));
        w->refused++;
        err_free(err);
    }
}

static void append_both(struct app *app, struct answer *answer)
{
    struct world *w = app->world;
    uint64_t since = 0;
    uint64_t upper = 0;
    check_ok(w, storage_frontiers(app->storage, 1, &since, &upper));
    int64_t a = (int64_t)w->attempted;
    const char *b = "x";
    int64_t diff = 1;
    struct batch batch;
    struct batch_col cols[TEST_COLS];
    void *data = NULL;
    test_batch(&batch, cols, &data, &a, &b, &diff, 1);
    struct storage_write writes[2] = {{.id = 1, .batch = &batch}, {.id = 2, .batch = &batch}};
    uint64_t time = upper + 100 + (uint64_t)(answer - app->answer) * 10;
    *answer = (struct answer){.app = app, .k = w->attempted++, .time = time, .busy = true};
    storage_append(app->storage, time, writes, 2, answered, answer);
    free(data);
}

/* Up to three appends at once, so that some share a commit group. */
static void append_some(struct app *app)
{
    struct world *w = app->world;
    bool idle = true;
    for (int i = 0; i < 3; i++) {
        idle = idle && !app->answer[i].busy;
    }
    for (uint64_t i = 0; idle && i < 1 + sim_random(w->sim) % 3 && w->attempted < APPENDS; i++) {
        append_both(app, &app->answer[i]);
    }
}

static void advanced(void *ctx, uint64_t collection, uint64_t upper)
{
    struct app *app = ctx;
    struct world *w = app->world;
    if (collection == 1 && app->cursor != NULL) {
        check(w, upper >= w->upper, "an upper moved back");
        w->upper = upper;
        check_ok(w, test_drain(app->cursor, 300, &w->seen, true));
        if (w->compact) {
            check_ok(w, storage_allow_compaction(app->storage, 1, upper - 1));
            check_ok(w, storage_allow_compaction(app->storage, 2, upper - 1));
        }
    }
}

static void status(void *ctx, uint64_t collection, enum storage_status s, const char *reason,
                   const char *hint)
{
    struct app *app = ctx;
    app->world->status = s;
    app->world->paused += s == STORAGE_PAUSED;
}

static const struct storage_host host_table = {.advanced = advanced, .status = status};

static void beat(struct io_timer *timer)
{
    struct app *app = CONTAINER_OF(timer, struct app, timer);
    storage_advance_tables(app->storage, io_now_us(app->loop));
    append_some(app);
    io_timer_start(app->loop, &app->timer, io_now_us(app->loop) + 20000);
}

static void start(struct io_loop *loop, void *arg)
{
    struct app *app = arg;
    struct world *w = app->world;
    app->loop = loop;
    struct storage_config config = {.loop = loop,
                                    .directory = "/data/worker",
                                    .workers = 1,
                                    .epoch = 1,
                                    .host = &host_table,
                                    .ctx = app,
                                    .tick_us = 20000,
                                    .metrics = w->metrics,
                                    .segment_bytes = w->compact ? 20000 : 0,
                                    .memory_tail_bytes = w->compact ? 500 : 0};
    check_ok(w, storage_open(&config, &app->storage));
    if (app->storage == NULL) {
        return;
    }
    struct storage_collection t = test_table(1);
    check_ok(w, storage_run(app->storage, &t));
    t.id = 2;
    check_ok(w, storage_run(app->storage, &t));
    types[0] = type_of(TYPE_INT8);
    types[1] = type_of(TYPE_TEXT);
    struct storage_collection f = {.id = 3,
                                   .kind = STORAGE_FILE,
                                   .types = types,
                                   .names = names,
                                   .cols = TEST_COLS,
                                   .path = "/in/x.csv",
                                   .format = STORAGE_CSV,
                                   .tail = true,
                                   .csv_delimiter = ',',
                                   .csv_quote = '"'};
    check_ok(w, storage_run(app->storage, &f));
    uint64_t resume = w->seen.lower;
    check_ok(w, storage_cursor_open(app->storage, 1, 0, resume > 0 ? &resume : NULL, &app->cursor));
    app->timer.fire = beat;
    io_timer_start(loop, &app->timer, io_now_us(loop));
}

static void destroy(void *arg)
{
    struct app *app = arg;
    storage_cursor_close(app->cursor);
    storage_free(app->storage);
    app->world->app = NULL;
    free(app);
}

static void boot(struct world *w)
{
    w->app = MEM_NEW(struct app);
    w->app->world = w;
    w->process = sim_process_start(w->sim, "h", "storaged", start, destroy, w->app);
}

/* ---- the test -------------------------------------------------------------------------------- */

static bool go_on(void *arg)
{
    struct world *w = arg;
    bool over = w->acked + w->refused >= APPENDS &&
                sim_now_us(w->sim) >= (w->compact ? COMPACT_RUN_US : RUN_US);
    bool done = over || (w->stop_at > 0 && w->events >= w->stop_at);
    w->events += !done;
    return !done;
}

static void write_lines(struct world *w, int from, int to, bool append)
{
    struct buf text = {0};
    for (int i = from; i < to; i++) {
        buf_printf(&text, i % 4 == 3 ? "broken line %d\n" : "%d,line\n", i);
    }
    err_t err = sim_file_write(w->sim, "h", "/in/x.csv", text.data, text.len, append);
    check_ok(w, err);
    buf_free(&text);
}

static bool file_matches(struct world *w)
{
    struct test_rows now = {0};
    bool ok = w->app != NULL && w->app->storage != NULL;
    if (ok) {
        check_ok(w, test_state(w->app->storage, 3, &now));
    }
    ok = ok && test_rows_len(&now) == LINES;
    for (int i = 0; i < LINES && ok; i++) {
        char text[100];
        if (i % 4 == 3) {
            snprintf(text, sizeof(text), "22P04|expected 2 fields, found 1|/in/x.csv:%d", i + 1);
        } else {
            snprintf(text, sizeof(text), "%d,line", i);
        }
        ok = test_rows_get(&now, text) == 1;
    }
    test_rows_free(&now);
    return ok;
}

/* Sums without their times. */
static void strip(const struct test_rows *rows, struct test_rows *out)
{
    size_t at = 0;
    const char *key = NULL;
    void *value = NULL;
    while (strmap_next(&rows->sums, &at, &key, &value)) {
        char *text = mem_strndup(key, strcspn(key, "@"));
        test_rows_add(out, text, test_rows_get(rows, key));
        free(text);
    }
}

static void verify_tables(struct world *w)
{
    struct test_rows one = {0};
    struct test_rows two = {0};
    struct test_rows again = {0};
    struct storage_cursor *cursor = NULL;
    check_ok(w, test_state(w->app->storage, 1, &one));
    check_ok(w, test_state(w->app->storage, 2, &two));
    check(w, test_rows_equal(&one, &two), "an append is in one table and not in the other");
    for (uint64_t k = 0; k < w->attempted; k++) {
        char text[60];
        snprintf(text, sizeof(text), "%llu,x", (unsigned long long)k);
        int64_t n = test_rows_get(&one, text);
        if (n != 1 && (n != 0 || w->time[k] != 0)) {
            fprintf(stderr, "row %llu: %lld times, acknowledged at %llu\n", (unsigned long long)k,
                    (long long)n, (unsigned long long)w->time[k]);
        }
        check(w, n == 1 || (n == 0 && w->time[k] == 0), "an acknowledged row is not there once");
        if (w->time[k] != 0) {
            snprintf(text, sizeof(text), "%llu,x@%llu", (unsigned long long)k,
                     (unsigned long long)w->time[k]);
            check(w, test_rows_get(&w->seen, text) == 1, "a row was not seen at its time");
        }
    }
    if (w->compact) {
        strip(&w->seen, &again);
        check(w, test_rows_equal(&one, &again), "the changes seen are not the state");
    } else {
        check_ok(w, storage_cursor_open(w->app->storage, 1, 0, NULL, &cursor));
        check_ok(w, test_drain(cursor, 1 << 20, &again, true));
        storage_cursor_close(cursor);
        check(w, test_rows_equal(&again, &w->seen), "the history has changed");
    }
    test_rows_free(&one);
    test_rows_free(&two);
    test_rows_free(&again);
}

static void world_begin(struct world *w, uint64_t seed, bool compact)
{
    struct sim_config config = sim_config_default(seed);
    *w = (struct world){.sim = sim_new(&config), .seed = seed, .compact = compact};
    w->metrics = metrics_registry_new();
    write_lines(w, 0, LINES / 2, false);
    boot(w);
}

static void world_end(struct world *w)
{
    sim_free(w->sim);
    CU_ASSERT_PTR_NULL(w->app);
    test_rows_free(&w->seen);
    metrics_registry_free(w->metrics);
}

static int64_t compactions(struct world *w)
{
    return metric_value(metric_counter(w->metrics, "tailrace_storage_compactions_total",
                                       "worker=\"0\"", "Compactions completed."));
}

/* One life until the crash, one after it. Returns the events of the first. */
static uint64_t run(uint64_t seed, bool compact, uint64_t stop_at, bool power)
{
    struct world w;
    world_begin(&w, seed, compact);
    w.stop_at = stop_at;
    (void)sim_run_while(w.sim, go_on, &w, 60000000);
    uint64_t events = w.events;
    if (stop_at > 0) {
        if (power) {
            sim_host_crash(w.sim, "h");
        } else {
            sim_process_kill(w.sim, w.process);
        }
        write_lines(&w, 0, LINES, false);
        boot(&w);
        w.stop_at = 0;
        w.events = 0;
        (void)sim_run_while(w.sim, go_on, &w, sim_now_us(w.sim) + 60000000);
        w.stop_at = stop_at;
    } else {
        write_lines(&w, LINES / 2, LINES, true);
        check(&w, !compact || compactions(&w) > 2, "nothing was compacted");
    }
    sim_run_until(w.sim, sim_now_us(w.sim) + 3000000);
    check(&w, w.app != NULL && w.app->storage != NULL, "the worker does not run");
    if (!w.failed) {
        verify_tables(&w);
        check(&w, file_matches(&w), "the source is not the file");
    }
    world_end(&w);
    return events;
}

static uint64_t env_u64(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void every_event(bool compact, bool power)
{
    uint64_t seeds = env_u64("STORAGE_CRASH_SEEDS", 2);
    uint64_t only = env_u64("STORAGE_CRASH_EVENT", 0);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t events = run(seed, compact, 0, power);
        CU_ASSERT(events > 50);
        for (uint64_t at = 1; at < events; at += only == 0 ? test_stride() : 1) {
            if (only == 0 || only == at) {
                (void)run(seed, compact, at, power);
            }
        }
    }
}

static void test_power(void)
{
    every_event(false, true);
}

static void test_power_compact(void)
{
    every_event(true, true);
}

static void test_kill(void)
{
    every_event(false, false);
}

/* Crashes one after another, at random moments, without time to settle. */
static void test_many_crashes(void)
{
    uint64_t seeds = env_u64("STORAGE_CRASH_SEEDS", 2) * test_scaled(10);
    for (uint64_t seed = 100; seed < 100 + seeds; seed++) {
        struct world w;
        world_begin(&w, seed, seed % 2 == 0);
        for (int i = 0; i < 12; i++) {
            sim_run_until(w.sim, sim_now_us(w.sim) + sim_random(w.sim) % 60000);
            if (sim_random(w.sim) % 2 == 0) {
                sim_host_crash(w.sim, "h");
            } else {
                sim_process_kill(w.sim, w.process);
            }
            boot(&w);
        }
        write_lines(&w, 0, LINES, false);
        sim_run_until(w.sim, sim_now_us(w.sim) + 5000000);
        check(&w, w.app->storage != NULL, "the worker does not run");
        if (!w.failed) {
            verify_tables(&w);
            check(&w, file_matches(&w), "the source is not the file");
        }
        world_end(&w);
    }
}

/* The disk is full for a while, at a random moment, and then not. */
static void test_no_space(void)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct world w;
        world_begin(&w, seed, seed % 2 == 0);
        sim_run_until(w.sim, 30000 + sim_random(w.sim) % 100000);
        sim_disk_fail(w.sim, "h", 28 /* ENOSPC */);
        sim_run_until(w.sim, sim_now_us(w.sim) + 500000);
        check(&w, w.paused > 0, "nobody was told of the full disk");
        sim_disk_fail(w.sim, "h", 0);
        if (seed % 3 == 0) {
            sim_host_crash(w.sim, "h");
            boot(&w);
        }
        write_lines(&w, 0, LINES, false);
        sim_run_until(w.sim, sim_now_us(w.sim) + 5000000);
        check(&w, w.status == STORAGE_RUNNING, "ingestion did not resume");
        verify_tables(&w);
        check(&w, file_matches(&w), "the source is not the file");
        world_end(&w);
    }
}

static void test_deterministic(void)
{
    uint64_t hash[2];
    for (int i = 0; i < 2; i++) {
        struct world w;
        world_begin(&w, 9, true);
        sim_run_until(w.sim, 2000000);
        hash[i] = sim_trace_hash(w.sim);
        world_end(&w);
    }
    CU_ASSERT_EQUAL(hash[0], hash[1]);
}

static const struct test_case cases[] = {
    {"power loss at every event", test_power},
    {"power loss at every event of compaction", test_power_compact},
    {"kill at every event", test_kill},
    {"many crashes", test_many_crashes},
    {"full disk", test_no_space},
    {"same seed, same trace", test_deterministic},
};
TEST_SUITE("core/storage crashes", cases)
