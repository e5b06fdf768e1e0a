/*
 * Random operations against a list. In the simulator, so that every run is one seed: appends of any
 * size, advances, compactions, restarts, and cursors opened, read in pieces of any size and closed;
 * what each cursor returned is compared with the naive list of updates.
 */
#include "core/io/sim.h"
#include "core/storage/part.h"
#include "tests/unit/core/storage/storage_test.h"

#include <stdio.h>
#include <stdlib.h>

enum { CURSORS = 5, TABLES = 2, BEATS = 400, BATCH_MAX = 40 };

struct update {
    uint64_t table;
    uint64_t time;
    int64_t a;
    int64_t diff;
};

struct reader_of_test {
    struct storage_cursor *cursor;
    uint64_t table;
    uint64_t as_of;
    bool resumed; /* as_of is where */
    struct test_rows rows;
};

struct taken {
    uint8_t *ok, *err;
};

struct model {
    struct sim *sim;
    uint64_t seed;
    struct io_loop *loop;
    struct storage_worker *storage;
    struct io_timer timer;
    struct update *list;
    size_t list_len;
    size_t list_cap;
    struct update *waiting; /* of the append under way */
    size_t waiting_len;
    size_t waiting_cap;
    bool busy;
    uint64_t since[TABLES + 1];
    struct reader_of_test readers[CURSORS];
    uint64_t checks;
    uint64_t restarts;
    int beats;
    struct metrics_registry *metrics;
};

static void check_ok(struct model *m, err_t err)
{
    if (err != ERR_OK) {
        fprintf(stderr, "seed %llu, beat %d: %s\n", (unsigned long long)m->seed, m->beats,
                err_text(err));
    }
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
}

static uint64_t dice(struct model *m, uint64_t below)
{
    return sim_random(m->sim) % below;
}

static void nothing(void *ctx, uint64_t collection, uint64_t upper)
{
}

static const struct storage_host host_table = {.advanced = nothing};

static void open_worker(struct model *m)
{
    struct storage_config config = {.loop = m->loop,
                                    .directory = "/w",
                                    .workers = 1,
                                    .epoch = 1,
                                    .host = &host_table,
                                    .ctx = m,
                                    .segment_bytes = 16000,
                                    .memory_tail_bytes = 3000,
                                    .metrics = m->metrics};
    check_ok(m, storage_open(&config, &m->storage));
    for (uint64_t id = 1; id <= TABLES; id++) {
        struct storage_collection t = test_table(id);
        check_ok(m, storage_run(m->storage, &t));
    }
}

/* ---- readers --------------------------------------------------------------------------------- */

static void expected_of(const struct model *m, const struct reader_of_test *r,
                        struct test_rows *out)
{
    bool waits = !r->resumed && r->rows.lower == r->as_of; /* for the upper to pass as_of */
    for (size_t i = 0; i < (waits ? 0 : m->list_len); i++) {
        const struct update *u = &m->list[i];
        uint64_t time = u->time;
        if (u->table != r->table || time >= r->rows.lower || (r->resumed && time < r->as_of)) {
            continue;
        }
        if (!r->resumed && time < r->as_of) {
            time = r->as_of;
        }
        char text[80];
        snprintf(text, sizeof(text), "%lld,model@%llu", (long long)u->a, (unsigned long long)time);
        test_rows_add(out, text, u->diff);
    }
}

static void check_reader(struct model *m, struct reader_of_test *r)
{
    struct test_rows expected = {0};
    check_ok(m, test_drain(r->cursor, 1 + dice(m, 2000), &r->rows, true));
    expected_of(m, r, &expected);
    bool equal = test_rows_equal(&expected, &r->rows);
    if (!equal) {
        fprintf(stderr, "seed %llu, beat %d: cursor of table %llu from %llu differs\n",
                (unsigned long long)m->seed, m->beats, (unsigned long long)r->table,
                (unsigned long long)r->as_of);
    }
    CU_ASSERT(equal);
    m->checks++;
    test_rows_free(&expected);
}

static void close_reader(struct reader_of_test *r)
{
    storage_cursor_close(r->cursor);
    test_rows_free(&r->rows);
    *r = (struct reader_of_test){0};
}

static void open_reader(struct model *m, struct reader_of_test *r)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    r->table = 1 + dice(m, TABLES);
    check_ok(m, storage_frontiers(m->storage, r->table, &since, &upper));
    uint64_t low = since > m->since[r->table] ? since : m->since[r->table];
    uint64_t high = upper + 500 > low ? upper + 500 : low + 1;
    r->as_of = low + dice(m, high - low);
    r->resumed = dice(m, 2) == 0;
    check_ok(m, storage_cursor_open(m->storage, r->table, r->as_of,
                                    r->resumed ? &r->as_of : NULL, &r->cursor));
    r->rows.lower = r->as_of;
}

/* Of the reader, freed when it has looked at the chunk. */
static void take_place(void *arg, size_t ok_len, size_t err_len, uint8_t **ok, uint8_t **err)
{
    struct taken *taken = arg;
    CU_ASSERT(ok_len + err_len > 0 && taken->ok == NULL && taken->err == NULL);
    taken->ok = *ok = ok_len > 0 ? part_alloc(ok_len) : NULL;
    taken->err = *err = err_len > 0 ? part_alloc(err_len) : NULL;
}

/* Into memory of the cursor's or of the reader's. */
static bool read_chunk(struct model *m, struct reader_of_test *r)
{
    struct storage_chunk chunk;
    bool more = true;
    struct taken taken = {0};
    const struct storage_place place = {.take = take_place, .arg = &taken};
    check_ok(m, storage_cursor_next(r->cursor, 1 + dice(m, 500), dice(m, 2) == 0 ? &place : NULL,
                                    &chunk, &more));
    CU_ASSERT(taken.ok == NULL || chunk.ok == taken.ok);
    CU_ASSERT(taken.err == NULL || chunk.err == taken.err);
    if (more) {
        test_rows_chunk(&r->rows, &chunk, true);
    }
    free(taken.ok);
    free(taken.err);
    return more;
}

static void use_reader(struct model *m, struct reader_of_test *r)
{
    if (r->cursor == NULL) {
        open_reader(m, r);
    } else if (dice(m, 6) == 0) {
        check_reader(m, r);
        close_reader(r);
    } else if (dice(m, 3) == 0) {
        check_reader(m, r);
    } else {
        bool more = true;
        for (uint64_t n = dice(m, 4); n > 0 && more; n--) {
            more = read_chunk(m, r);
        }
    }
}

/* ---- operations ------------------------------------------------------------------------------ */

static void appended(void *arg, err_t err)
{
    struct model *m = arg;
    if (err != ERR_OK && err_code(err) == ERR_FENCED) {
        m->waiting_len = 0; /* an advance promised more than is published yet */
    } else {
        check_ok(m, err);
        err = ERR_OK;
    }
    err_free(err);
    for (size_t i = 0; i < m->waiting_len; i++) {
        *VEC_PUSH(m, list) = m->waiting[i];
    }
    m->waiting_len = 0;
    m->busy = false;
}

static void append(struct model *m)
{
    struct batch batch[TABLES];
    struct batch_col cols[TABLES][TEST_COLS];
    void *data[TABLES];
    struct storage_write writes[TABLES];
    uint64_t since = 0;
    uint64_t upper = 0;
    check_ok(m, storage_frontiers(m->storage, 1, &since, &upper));
    uint64_t time = upper + 200 + dice(m, 100);
    size_t tables = 1 + dice(m, TABLES);
    for (size_t t = 0; t < tables; t++) {
        int64_t a[BATCH_MAX];
        int64_t diffs[BATCH_MAX];
        const char *b[BATCH_MAX];
        size_t rows = 1 + dice(m, dice(m, 8) == 0 ? BATCH_MAX : 3);
        for (size_t i = 0; i < rows; i++) {
            a[i] = (int64_t)dice(m, 12);
            b[i] = "model";
            diffs[i] = dice(m, 3) == 0 ? -1 : 1;
            *VEC_PUSH(m, waiting) = (struct update){t + 1, time, a[i], diffs[i]};
        }
        test_batch(&batch[t], cols[t], &data[t], a, b, diffs, rows);
        writes[t] = (struct storage_write){.id = t + 1, .batch = &batch[t]};
    }
    m->busy = true;
    storage_append(m->storage, time, writes, tables, appended, m);
    for (size_t t = 0; t < tables; t++) {
        free(data[t]);
    }
}

static void compact(struct model *m)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    uint64_t id = 1 + dice(m, TABLES);
    check_ok(m, storage_frontiers(m->storage, id, &since, &upper));
    uint64_t low = m->since[id];
    if (upper > low + 1) {
        m->since[id] = low + dice(m, upper - low);
        check_ok(m, storage_allow_compaction(m->storage, id, m->since[id]));
    }
}

static void restart(struct model *m)
{
    for (int i = 0; i < CURSORS; i++) {
        if (m->readers[i].cursor != NULL) {
            check_reader(m, &m->readers[i]);
            close_reader(&m->readers[i]);
        }
    }
    storage_free(m->storage);
    open_worker(m);
    m->restarts++;
}

static void beat(struct io_timer *timer)
{
    struct model *m = CONTAINER_OF(timer, struct model, timer);
    if (m->beats++ >= BEATS) {
        return;
    }
    uint64_t what = dice(m, 12);
    if (what < 5 && !m->busy) {
        append(m);
    } else if (what == 5) {
        compact(m);
    } else if (what == 6) {
        storage_advance_tables(m->storage, io_now_us(m->loop));
    } else if (what == 7 && dice(m, 8) == 0 && !m->busy) {
        restart(m);
    } else {
        use_reader(m, &m->readers[dice(m, CURSORS)]);
    }
    io_timer_start(m->loop, timer, io_now_us(m->loop) + dice(m, 20000));
}

static void start(struct io_loop *loop, void *arg)
{
    struct model *m = arg;
    m->loop = loop;
    open_worker(m);
    m->timer.fire = beat;
    io_timer_start(loop, &m->timer, io_now_us(loop));
}

static void destroy(void *arg)
{
    struct model *m = arg;
    storage_free(m->storage);
    for (int i = 0; i < CURSORS; i++) {
        close_reader(&m->readers[i]); /* also after the worker */
    }
    free(m->list);
    free(m->waiting);
}

static void test_model(void)
{
    const char *text = getenv("STORAGE_MODEL_SEEDS");
    uint64_t seeds = text != NULL ? strtoull(text, NULL, 10) : test_scaled(20);
    uint64_t checks = 0;
    uint64_t restarts = 0;
    int64_t compactions = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct sim_config config = sim_config_default(seed);
        struct model m = {.sim = sim_new(&config), .seed = seed};
        m.metrics = metrics_registry_new();
        sim_process_start(m.sim, "h", "model", start, destroy, &m);
        sim_run_until(m.sim, 60000000);
        CU_ASSERT(m.beats >= BEATS);
        sim_free(m.sim);
        checks += m.checks;
        restarts += m.restarts;
        compactions += metric_value(metric_counter(m.metrics, "tailrace_storage_compactions_total",
                                                   "worker=\"0\"", "Compactions completed."));
        metrics_registry_free(m.metrics);
    }
    fprintf(stderr, "%llu cursors compared, %llu restarts, %lld compactions ",
            (unsigned long long)checks, (unsigned long long)restarts, (long long)compactions);
    CU_ASSERT(checks > seeds * 20 && restarts > seeds && compactions > (int64_t)seeds * 5);
}

static const struct test_case cases[] = {{"random operations", test_model}};
TEST_SUITE("core/storage model", cases)
