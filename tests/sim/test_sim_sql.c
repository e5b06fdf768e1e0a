/*
 * A whole environment in the simulator, spoken to in SQL: environmentd, storaged and computed, a
 * table, a materialized view, a writer and two subscribers, under message delay, kills, power
 * loss, cut connections and partitions. Checked at every closed timestamp: the view's accumulated
 * state equals a recomputation from the table's. In the end: every acknowledged insert is there
 * exactly once, every unacknowledged one at most once, every acknowledged delete is gone.
 *
 *     test_sim_sql [--seed N] [--seeds N] [--shape SxW] [--trace]
 */
#include "core/base/hash.h"
#include "core/base/map.h"
#include "core/base/mem.h"
#include "ctrl/environmentd/environmentd.h"
#include "tests/sim/pgclient.h"
#include "tests/sim/seeds.h"
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    KEYS = 7,
    WRITE_EVERY_US = 20000,
    FAULTY_US = 4000000,
    SETTLE_US = 30000000,
    RETRY_US = 50000,
    ENV_RESTART_US = 80000,
};
#define SQL_ADDRESS "env:6875"

enum fate { FATE_PENDING, FATE_ACKNOWLEDGED, FATE_UNKNOWN, FATE_REFUSED };

/* A row we tried to insert, and perhaps to delete again. */
struct row {
    int64_t key, value;
    enum fate inserted;
    bool deleting;
    enum fate deleted;
};

struct update {
    uint64_t time;
    int64_t diff;
    int64_t id, key, value; /* of the table: id, k, v; of the view: -, k and a sum */
    int64_t count;
};

/* The state's hash from a time on. */
struct step {
    uint64_t time;
    uint64_t hash;
};

/* One subscription: buffers updates until a progress line closes them. */
struct subscriber {
    struct test *test;
    const char *query;
    bool table;
    struct pgclient *client;
    bool subscribed;
    struct update *updates;
    size_t updates_len, updates_cap;
    int64_t sums[KEYS], counts[KEYS];
    struct step *steps;
    size_t steps_len, steps_cap;
    uint64_t first, upper;
};

struct test {
    uint32_t scale, workers;
    struct world *world;
    struct sim_process *env_process;
    struct environmentd *env;
    struct orchestrator *orchestrator;
    uint64_t env_dead_since;
    struct io_loop *loop; /* the client's */
    struct io_timer timer;
    struct io_timer retry;
    struct pgclient *writer;
    bool writer_stands; /* the start-up is over: statements may be sent */
    enum { SETTING_UP, WRITING, VERIFYING, VERIFIED } stage;
    size_t setup_at;
    const char *looked_at; /* the view a statement reads */
    uint64_t looks;
    bool busy;
    bool quiet;
    size_t statement_row; /* row the statement under way is about */
    bool statement_delete;
    struct row *rows;
    size_t rows_len, rows_cap;
    struct subscriber table, view;
    uint64_t compared; /* closed timestamps are equal below */
    uint64_t comparisons;
    int64_t *found; /* times each id was seen in the end, or by a look */
    char failure[512];
};

static void fail(struct test *t, const char *what, const char *detail)
{
    if (t->failure[0] == '\0') {
        snprintf(t->failure, sizeof(t->failure), "%s%s%s (at %" PRIu64 " us)", what,
                 detail[0] != '\0' ? ": " : "", detail, sim_now_us(world_sim(t->world)));
    }
}

/* ---- comparing ------------------------------------------------------------------------------- */

static uint64_t state_hash(const struct subscriber *s)
{
    uint64_t hash = 0;
    for (uint64_t k = 0; k < KEYS; k++) {
        if (s->counts[k] != 0) {
            hash += hash_combine(hash_combine(k, (uint64_t)s->sums[k]), (uint64_t)s->counts[k]);
        }
    }
    return hash;
}

/* The hash in force at a time: of the last step at or before it. */
static uint64_t hash_at(const struct subscriber *s, uint64_t time)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < s->steps_len && s->steps[i].time <= time; i++) {
        hash = s->steps[i].hash;
    }
    return hash;
}

/* Forgets the steps that no comparison needs any more. */
static void trim(struct subscriber *s, uint64_t below)
{
    size_t drop = 0;
    while (drop + 1 < s->steps_len && s->steps[drop + 1].time < below) {
        drop++;
    }
    memmove(s->steps, s->steps + drop, (s->steps_len - drop) * sizeof(s->steps[0]));
    s->steps_len -= drop;
}

static void compare_at(struct test *t, uint64_t time)
{
    t->comparisons++;
    if (hash_at(&t->table, time) != hash_at(&t->view, time)) {
        char detail[64];
        snprintf(detail, sizeof(detail), "time %" PRIu64, time);
        fail(t, "the view differs from its recomputation", detail);
    }
}

static void compare(struct test *t)
{
    if (!t->table.subscribed || !t->view.subscribed || t->table.upper == 0 ||
        t->view.upper == 0) {
        return;
    }
    uint64_t from = t->table.first > t->view.first ? t->table.first : t->view.first;
    from = from > t->compared ? from : t->compared;
    uint64_t to = t->table.upper < t->view.upper ? t->table.upper : t->view.upper;
    if (to <= from) {
        return;
    }
    compare_at(t, from);
    const struct subscriber *both[] = {&t->table, &t->view};
    for (int s = 0; s < 2; s++) {
        for (size_t i = 0; i < both[s]->steps_len; i++) {
            if (both[s]->steps[i].time > from && both[s]->steps[i].time < to) {
                compare_at(t, both[s]->steps[i].time);
            }
        }
    }
    compare_at(t, to - 1);
    t->compared = to;
    trim(&t->table, to);
    trim(&t->view, to);
}

/* ---- subscribers ----------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    const struct update *x = a;
    const struct update *y = b;
    return x->time < y->time ? -1 : x->time > y->time;
}

static void apply(struct subscriber *s, const struct update *u)
{
    if (u->key < 0 || u->key >= KEYS) {
        fail(s->test, "a row nobody wrote", s->query);
        return;
    }
    s->sums[u->key] += u->diff * u->value;
    s->counts[u->key] += u->diff * u->count;
}

/* Everything below upper is complete. */
static void close_times(struct subscriber *s, uint64_t upper)
{
    if (upper < s->upper) {
        fail(s->test, "progress goes backwards", s->query);
    }
    qsort(s->updates, s->updates_len, sizeof(s->updates[0]), by_time);
    size_t at = 0;
    while (at < s->updates_len && s->updates[at].time < upper) {
        uint64_t time = s->updates[at].time;
        if (time < s->upper) {
            fail(s->test, "an update below the progress told before", s->query);
        }
        while (at < s->updates_len && s->updates[at].time == time) {
            apply(s, &s->updates[at++]);
        }
        *VEC_PUSH(s, steps) = (struct step){.time = time, .hash = state_hash(s)};
    }
    memmove(s->updates, s->updates + at, (s->updates_len - at) * sizeof(s->updates[0]));
    s->updates_len -= at;
    if (s->upper == 0) {
        s->first = upper > 0 ? upper - 1 : 0;
    }
    s->upper = upper;
    compare(s->test);
}

/* mz_timestamp, mz_progressed, mz_diff, columns */
static void on_line(void *arg, const char *line)
{
    struct subscriber *s = arg;
    char fields[6][64] = {{0}};
    size_t len = 0;
    for (const char *p = line; len < 6 && *p != '\0'; len++) {
        size_t n = strcspn(p, "\t");
        snprintf(fields[len], sizeof(fields[0]), "%.*s", (int)n, p);
        p += n + (p[n] == '\t' ? 1 : 0);
    }
    uint64_t time = strtoull(fields[0], NULL, 10);
    if (fields[1][0] == 't') {
        close_times(s, time);
        return;
    }
    struct update u = {.time = time, .diff = strtoll(fields[2], NULL, 10)};
    if (s->table) {
        u.id = strtoll(fields[3], NULL, 10);
        u.key = strtoll(fields[4], NULL, 10);
        u.value = strtoll(fields[5], NULL, 10);
        u.count = 1;
    } else {
        u.key = strtoll(fields[3], NULL, 10);
        u.count = strtoll(fields[4], NULL, 10);
        u.value = strtoll(fields[5], NULL, 10);
    }
    *VEC_PUSH(s, updates) = u;
}

static void subscriber_reset(struct subscriber *s)
{
    pgclient_close(s->client);
    s->client = NULL;
    s->subscribed = false;
    s->updates_len = s->steps_len = 0;
    s->first = s->upper = 0;
    memset(s->sums, 0, sizeof(s->sums));
    memset(s->counts, 0, sizeof(s->counts));
}

static void retry_later(struct test *t)
{
    io_timer_start(t->loop, &t->retry, io_now_us(t->loop) + RETRY_US);
}

/* Both start over together: their states are compared from then on. */
static void subscribers_restart(struct test *t)
{
    subscriber_reset(&t->table);
    subscriber_reset(&t->view);
    t->compared = 0;
    retry_later(t);
}

static void on_sub_ready(void *arg, const char *sqlstate, const char *message)
{
    struct subscriber *s = arg;
    if (!s->subscribed) {
        s->subscribed = true;
        pgclient_query(s->client, s->query);
        return;
    }
    bool transient = strcmp(sqlstate, "57P03") == 0 || strncmp(sqlstate, "57P01", 5) == 0 ||
                     strcmp(sqlstate, "08006") == 0;
    if (!transient) {
        fail(s->test, "a subscription ended", message);
    }
    subscribers_restart(s->test);
}

static void on_sub_closed(void *arg)
{
    struct subscriber *s = arg;
    s->client = NULL;
    subscribers_restart(s->test);
}

static const struct pgclient_handler subscriber_handler = {
    .ready = on_sub_ready, .line = on_line, .closed = on_sub_closed};

/* ---- the writer ------------------------------------------------------------------------------ */

static const char *const setup[] = {
    "CREATE TABLE t (id int8, k int8, v int8)",
    "CREATE MATERIALIZED VIEW m AS SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k",
    /* At rest, but for a look at one now and then. */
    "CREATE MATERIALIZED VIEW r1 AS SELECT id, k, v FROM t WHERE v % 2 = 0",
    "CREATE MATERIALIZED VIEW r2 AS SELECT DISTINCT id, k FROM r1",
    "CREATE MATERIALIZED VIEW r3 AS SELECT b.id FROM r2 a JOIN t b ON a.id = b.id",
};

/* ---- looks at views that rest ---------------------------------------------------------------- */

/* What was acknowledged before it was asked for has to be there; the rest may. */
static void look_ends(struct test *t)
{
    for (size_t id = 0; id < t->rows_len; id++) {
        const struct row *row = &t->rows[id];
        bool even = row->value % 2 == 0;
        bool must = even && row->inserted == FATE_ACKNOWLEDGED && !row->deleting;
        bool may = even && row->inserted != FATE_REFUSED && row->deleted != FATE_ACKNOWLEDGED;
        if (t->found[id] > 1 || (must && t->found[id] == 0) || (!may && t->found[id] > 0)) {
            char text[64];
            snprintf(text, sizeof(text), "%s row %zu %" PRId64 " times", t->looked_at, id,
                     t->found[id]);
            fail(t, "a view at rest is wrong", text);
        }
    }
    t->looks++;
}

static void look(struct test *t)
{
    static const char *const names[] = {"r1", "r2", "r3"};
    char sql[64];
    t->looked_at = names[sim_random(world_sim(t->world)) % ARRAY_LEN(names)];
    free(t->found);
    t->found = mem_zalloc((t->rows_len + 1) * sizeof(*t->found));
    snprintf(sql, sizeof(sql), "SELECT id FROM %s", t->looked_at);
    pgclient_query(t->writer, sql);
}

static void settle_statement(struct test *t, enum fate fate)
{
    if (t->stage != WRITING || !t->busy) {
        return;
    }
    if (t->looked_at != NULL) {
        if (fate == FATE_ACKNOWLEDGED) {
            look_ends(t);
        }
        t->looked_at = NULL;
        return;
    }
    struct row *row = &t->rows[t->statement_row];
    if (t->statement_delete) {
        row->deleted = fate;
    } else {
        row->inserted = fate;
    }
}

static void writer_next(struct test *t)
{
    char sql[160];
    struct sim *sim = world_sim(t->world);
    if (t->stage == SETTING_UP) {
        pgclient_query(t->writer, setup[t->setup_at]);
    } else if (t->stage == VERIFYING) {
        pgclient_query(t->writer, "SELECT id FROM t");
    } else if (sim_random(sim) % 8 == 0) {
        look(t);
    } else if (t->rows_len > 5 && sim_random(sim) % 3 == 0) {
        size_t at = sim_random(sim) % t->rows_len;
        if (t->rows[at].deleting) {
            return;
        }
        t->statement_row = at;
        t->statement_delete = true;
        t->rows[at].deleting = true;
        snprintf(sql, sizeof(sql), "DELETE FROM t WHERE id = %zu", at);
        pgclient_query(t->writer, sql);
    } else {
        struct row row = {.key = (int64_t)(sim_random(sim) % KEYS),
                          .value = (int64_t)(sim_random(sim) % 100)};
        t->statement_row = t->rows_len;
        t->statement_delete = false;
        *VEC_PUSH(t, rows) = row;
        snprintf(sql, sizeof(sql), "INSERT INTO t VALUES (%zu, %" PRId64 ", %" PRId64 ")",
                 t->statement_row, row.key, row.value);
        pgclient_query(t->writer, sql);
    }
    t->busy = true;
}

static void on_writer_ready(void *arg, const char *sqlstate, const char *message)
{
    struct test *t = arg;
    bool asked = t->busy;
    t->writer_stands = true;
    bool failed = sqlstate[0] != '\0';
    settle_statement(t, failed ? FATE_UNKNOWN : FATE_ACKNOWLEDGED);
    t->busy = false;
    if (!asked) {
        return;
    }
    bool there = strcmp(sqlstate, "42P07") == 0 || strcmp(sqlstate, "42710") == 0;
    if (failed && !there && sqlstate[0] != '5') {
        fail(t, sqlstate, message);
    }
    if (t->stage == SETTING_UP && (!failed || there)) {
        t->setup_at++;
        if (t->setup_at == ARRAY_LEN(setup)) {
            t->stage = WRITING;
            subscribers_restart(t);
        }
    } else if (t->stage == VERIFYING && !failed) {
        t->stage = VERIFIED;
    }
}

static void on_writer_row(void *arg, const char *const *values, size_t len)
{
    struct test *t = arg;
    uint64_t id = strtoull(values[0], NULL, 10);
    if ((t->stage != VERIFYING && t->looked_at == NULL) || id >= t->rows_len) {
        fail(t, "a row nobody inserted", values[0]);
        return;
    }
    t->found[id]++;
}

static void on_writer_closed(void *arg)
{
    struct test *t = arg;
    settle_statement(t, FATE_UNKNOWN);
    t->writer = NULL;
    t->writer_stands = false;
    t->busy = false;
    retry_later(t);
}

static const struct pgclient_handler writer_handler = {
    .ready = on_writer_ready, .row = on_writer_row, .closed = on_writer_closed};

/* ---- the client process ---------------------------------------------------------------------- */

static void on_retry(struct io_timer *timer)
{
    struct test *t = CONTAINER_OF(timer, struct test, retry);
    if (t->writer == NULL) {
        t->writer = pgclient_new(t->loop, SQL_ADDRESS, &writer_handler, t);
    }
    struct subscriber *both[] = {&t->table, &t->view};
    for (int i = 0; i < 2 && t->stage >= WRITING; i++) {
        if (both[i]->client == NULL) {
            both[i]->client = pgclient_new(t->loop, SQL_ADDRESS, &subscriber_handler, both[i]);
        }
    }
}

static void on_timer(struct io_timer *timer)
{
    struct test *t = CONTAINER_OF(timer, struct test, timer);
    bool wants = t->stage == SETTING_UP || t->stage == VERIFYING ||
                 (t->stage == WRITING && !t->quiet);
    if (t->writer_stands && !t->busy && wants) {
        if (t->stage == VERIFYING) {
            memset(t->found, 0, t->rows_len * sizeof(t->found[0]));
        }
        writer_next(t);
    }
    io_timer_start(t->loop, timer, io_now_us(t->loop) + WRITE_EVERY_US);
}

static void client_start(struct io_loop *loop, void *arg)
{
    struct test *t = arg;
    t->loop = loop;
    t->timer.fire = on_timer;
    t->retry.fire = on_retry;
    io_timer_start(loop, &t->timer, io_now_us(loop) + WRITE_EVERY_US);
    io_timer_start(loop, &t->retry, io_now_us(loop) + RETRY_US);
}

static void client_destroy(void *arg)
{
    struct test *t = arg;
    pgclient_close(t->writer);
    t->writer = NULL;
    subscriber_reset(&t->table);
    subscriber_reset(&t->view);
}

/* ---- environmentd ---------------------------------------------------------------------------- */

static void env_start(struct io_loop *loop, void *arg)
{
    struct test *t = arg;
    t->orchestrator = world_orchestrator_new(t->world, loop);
    const struct environmentd_config config = {
        .data_directory = "/env",
        .environment_id = "00112233-4455-6677-8899-aabbccddeeff",
        .sql_address = "0.0.0.0:6875",
        .storaged_image = "storaged",
        .computed_image = "computed",
        .storage_processes = t->scale,
        .storage_workers = t->workers,
        .carrier = "tcp",
        .tick_us = 20000,
        .trust_remote = true,
        .orchestrator = t->orchestrator,
    };
    err_t err = environmentd_start(loop, &config, &t->env);
    if (err != ERR_OK) {
        fail(t, "environmentd does not start", err_text(err));
        err_free(err);
        io_loop_stop(loop);
    }
}

static void env_destroy(void *arg)
{
    struct test *t = arg;
    environmentd_free(t->env);
    orchestrator_free(t->orchestrator);
    t->env = NULL;
    t->orchestrator = NULL;
}

static void env_launch(struct test *t)
{
    t->env_dead_since = 0;
    t->env_process =
        sim_process_start(world_sim(t->world), "env", "environmentd", env_start, env_destroy, t);
}

/* Advances the world; environmentd is restarted like everything else. */
static void run(struct test *t, uint64_t duration_us)
{
    struct sim *sim = world_sim(t->world);
    uint64_t end = sim_now_us(sim) + duration_us;
    while (sim_now_us(sim) < end && t->failure[0] == '\0') {
        world_run(t->world, 10000);
        if (sim_process_alive(t->env_process)) {
            continue;
        }
        if (t->env_dead_since == 0) {
            t->env_dead_since = sim_now_us(sim);
        } else if (sim_now_us(sim) - t->env_dead_since >= ENV_RESTART_US) {
            env_launch(t);
        }
    }
}

static void one_fault(struct test *t)
{
    struct sim *sim = world_sim(t->world);
    if (sim_random(sim) % 2 == 0) {
        world_random_fault_of(t->world, t->env_process, "env");
    } else {
        world_random_fault(t->world, "");
    }
}

/* ---- one seed -------------------------------------------------------------------------------- */

static void verify(struct test *t)
{
    for (size_t i = 0; i < t->rows_len && t->failure[0] == '\0'; i++) {
        const struct row *row = &t->rows[i];
        char detail[96];
        snprintf(detail, sizeof(detail), "id %zu is there %" PRId64 " times", i, t->found[i]);
        bool certain = row->inserted == FATE_ACKNOWLEDGED;
        bool gone = row->deleting && row->deleted == FATE_ACKNOWLEDGED;
        if (t->found[i] > 1) {
            fail(t, "a row was doubled", detail);
        } else if (certain && !row->deleting && t->found[i] != 1) {
            fail(t, "an acknowledged insert is lost", detail);
        } else if (gone && certain && t->found[i] != 0) {
            fail(t, "an acknowledged delete is undone", detail);
        }
    }
}

static void run_world(struct test *t)
{
    struct sim *sim = world_sim(t->world);
    run(t, 2000000);
    if (t->stage == SETTING_UP) {
        fail(t, "the set-up did not come to its end", "");
    }
    while (sim_now_us(sim) < FAULTY_US + 2000000 && t->failure[0] == '\0') {
        run(t, 20000 + sim_random(sim) % 500000);
        one_fault(t);
        run(t, sim_random(sim) % 100000);
        if (sim_random(sim) % 3 == 0) {
            world_heal(t->world);
        }
    }
    world_heal(t->world);
    t->quiet = true;
    run(t, SETTLE_US / 2);
    if (t->failure[0] == '\0' && t->looked_at != NULL) {
        fail(t, "a view at rest was never read", t->looked_at);
    }
    t->stage = VERIFYING;
    free(t->found);
    t->found = mem_zalloc((t->rows_len + 1) * sizeof(t->found[0]));
    run(t, SETTLE_US / 2);
    if (t->failure[0] == '\0' && t->stage != VERIFIED) {
        fail(t, "the last SELECT was never answered", "");
    }
    if (t->failure[0] == '\0' && (t->comparisons < 10 || t->rows_len < 5)) {
        fail(t, "too little happened", "");
    }
    verify(t);
}

static bool run_seed(struct seed *seed)
{
    struct test *t = MEM_NEW(struct test);
    t->scale = seed->scale;
    t->workers = seed->workers;
    t->table = (struct subscriber){
        .test = t, .table = true, .query = "COPY (SUBSCRIBE t WITH (PROGRESS)) TO STDOUT"};
    t->view = (struct subscriber){.test = t,
                                  .query = "COPY (SUBSCRIBE (SELECT k, n, s FROM m) "
                                           "WITH (PROGRESS)) TO STDOUT"};
    t->world = world_new(seed->number, seed->trace);
    env_launch(t);
    sim_process_start(world_sim(t->world), "client", "client", client_start, client_destroy, t);
    run_world(t);
    seed->hash = sim_trace_hash(world_sim(t->world));
    seed->counts = *world_counts(t->world);
    char numbers[160];
    snprintf(numbers, sizeof(numbers),
             "%zu rows, %" PRIu64 " comparisons, %" PRIu64 " looks, %" PRIu64 " faults, %" PRIu64
             " events", t->rows_len, t->comparisons, t->looks, world_faults(t->world),
             sim_events(world_sim(t->world)));
    seed_report(seed, "test_sim_sql", t->failure, numbers);
    bool ok = t->failure[0] == '\0';
    world_free(t->world);
    struct subscriber *both[] = {&t->table, &t->view};
    for (int i = 0; i < 2; i++) {
        free(both[i]->updates);
        free(both[i]->steps);
    }
    free(t->rows);
    free(t->found);
    free(t);
    return ok;
}

static void shape(uint64_t number, uint32_t *scale, uint32_t *workers)
{
    *scale = 1;
    *workers = number % 2 == 0 ? 1 : 2;
}

int main(int argc, char **argv)
{
    const struct seeds seeds = {.program = "test_sim_sql",
                                .count = 20,
                                .repeat_every = 20,
                                .shape = shape,
                                .run = run_seed};
    return seeds_main(&seeds, argc, argv);
}
