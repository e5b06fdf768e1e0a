/*
 * Freshness: one connection inserts at a steady rate, another one hears a materialized view's
 * changes through COPY (SUBSCRIBE ...). Open loop: a row's clock starts when its INSERT was due,
 * not when it was sent, so a stall is counted against every row that waited for it.
 *
 * Two threads. The inserting one keeps its times and owns the report; the reading one owns the
 * histogram, what it heard and why it failed, until it is joined. The reader needs only a row's id
 * to know when it was due: ids are handed out in order, so many an INSERT, at a fixed period.
 *
 * A row counts as fresh when the view's change that contains it has reached the client, not when
 * the INSERT was answered: that is what somebody who watches a view waits for.
 */
#include "bench/sql.h"

#include "bench/machine.h"
#include "core/base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { KEYS = 5000, ROWS_PER_INSERT_MAX = 100 };

struct freshness {
    const struct options *options;
    struct report *report; /* the inserting thread's, until the reader is joined */
    uint64_t rows_per_insert; /* constant from here to start_ns */
    uint64_t inserts;         /* in the whole run */
    uint64_t period_ns;       /* between two due times */
    uint64_t start_ns;        /* when the first INSERT was due; inserter's, before the first */
    uint64_t heard;         /* reader's */
    bool failed;            /* reader's */
    char why[160];          /* reader's: what it did not understand, or what the server said */
    struct hist *hist;      /* reader's */
    _Atomic bool listening; /* reader -> inserter: the subscription stands */
    PGconn *reader;
};

static const char *const set_up[] = {
    "DROP TABLE IF EXISTS bench_events CASCADE",
    "CREATE TABLE bench_events (id int8, k int8)",
    "CREATE MATERIALIZED VIEW bench_latest AS "
    "SELECT k, count(*) AS n, max(id) AS last FROM bench_events GROUP BY k",
};

/* A line "time diff k n last": the row with id `last` has arrived. */
static void hear(struct freshness *f, const char *line, uint64_t now)
{
    unsigned long long time, k, n, last;
    int diff;
    ASSERT(f->rows_per_insert > 0);
    if (sscanf(line, "%llu\t%d\t%llu\t%llu\t%llu", &time, &diff, &k, &n, &last) != 5) {
        f->failed = true;
        snprintf(f->why, sizeof(f->why), "not a change: %s", line);
        return;
    }
    if (diff <= 0) {
        return;
    }
    uint64_t due = f->start_ns + last / f->rows_per_insert * f->period_ns;
    hist_add(f->hist, now > due ? now - due : 0);
    f->heard++;
}

/* The reader's thread. What it hears is counted against the due time of the newest row a change
 * speaks of: an older row of the same key within one change is not heard singly. */
static void *listen(void *arg)
{
    struct freshness *f = arg;
    PGresult *result =
        PQexec(f->reader, "COPY (SUBSCRIBE bench_latest WITH (SNAPSHOT = false)) TO STDOUT");
    ASSERT(f->inserts > 0);
    f->failed = PQresultStatus(result) != PGRES_COPY_OUT;
    snprintf(f->why, sizeof(f->why), "%s", PQresultErrorMessage(result));
    PQclear(result);
    /* Pairs with the acquire in measure: start_ns is written only after it. */
    atomic_store_explicit(&f->listening, true, memory_order_release);
    uint64_t expected = f->inserts * f->rows_per_insert;
    while (!f->failed && f->heard < expected) {
        char *line = NULL;
        int len = PQgetCopyData(f->reader, &line, 0);
        if (len <= 0) {
            f->failed = true;
            result = PQgetResult(f->reader);
            snprintf(f->why, sizeof(f->why), "the subscription ended (%d): %s", len,
                     PQresultErrorMessage(result));
            PQclear(result);
            break;
        }
        hear(f, line, machine_now_ns());
        PQfreemem(line);
    }
    return NULL;
}

/* By machine_now_ns, as everything here: the kernel's clock runs apart from it by some ppm. */
static void sleep_until(uint64_t ns)
{
    uint64_t now = machine_now_ns();
    if (now < ns) {
        struct timespec t = {.tv_sec = (time_t)((ns - now) / 1000000000),
                             .tv_nsec = (long)((ns - now) % 1000000000)};
        nanosleep(&t, NULL);
    }
}

/* Statement n, of rows_per_insert rows. */
static bool insert(struct freshness *f, PGconn *writer, uint64_t n)
{
    char statement[64 + ROWS_PER_INSERT_MAX * 32];
    size_t len = (size_t)snprintf(statement, sizeof(statement), "INSERT INTO bench_events VALUES");
    ASSERT(f->rows_per_insert <= ROWS_PER_INSERT_MAX);
    for (uint64_t i = 0; i < f->rows_per_insert; i++) {
        uint64_t id = n * f->rows_per_insert + i;
        len += (size_t)snprintf(statement + len, sizeof(statement) - len, "%s (%llu, %llu)",
                                i == 0 ? "" : ",", (unsigned long long)id,
                                (unsigned long long)(id % KEYS));
        ASSERT(len < sizeof(statement));
    }
    return sql_run(writer, statement, f->report);
}

/* The inserting thread: it keeps its times whatever the server does, as long as it answers. */
static void measure(struct freshness *f, PGconn *writer, const char *name)
{
    ASSERT(f->period_ns > 0);
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, listen, f);
    ASSERT(rc == 0);
    /* Pairs with the release in listen. */
    while (!atomic_load_explicit(&f->listening, memory_order_acquire)) {
        usleep(1000);
    }
    usleep(300 * 1000); /* the subscription is answered before it is rendered */
    f->start_ns = machine_now_ns();
    bool ok = true;
    for (uint64_t n = 0; n < f->inserts && ok; n++) {
        sleep_until(f->start_ns + n * f->period_ns);
        ok = insert(f, writer, n);
    }
    if (!ok) {
        PQfinish(writer); /* the reader would wait for ever */
        fprintf(stderr, "an INSERT failed: giving up\n");
        _exit(1);
    }
    pthread_join(thread, NULL);
    if (f->failed) {
        report_wrong(f->report, "%s: after %llu rows: %s", name, (unsigned long long)f->heard,
                     f->why);
        return;
    }
    report_latency(f->report, name, f->hist);
    report_add(f->report, name, "rows", (double)f->heard);
}

/* One rate, on a table and a view of their own. */
static void run_rate(const struct options *options, struct report *report, uint64_t per_second,
                     uint64_t rows)
{
    struct freshness f = {.options = options, .report = report, .rows_per_insert = rows};
    ASSERT(per_second > 0 && rows > 0);
    ASSERT(rows <= ROWS_PER_INSERT_MAX);
    f.period_ns = 1000000000 * rows / per_second;
    f.inserts = (uint64_t)(options->seconds * 1e9) / f.period_ns + 1;
    f.hist = MEM_NEW(struct hist);
    f.reader = sql_connect(options, options->port, "tailrace", report);
    PGconn *writer = sql_connect(options, options->port, "tailrace", report);
    bool ok = f.reader != NULL && writer != NULL;
    for (size_t i = 0; i < sizeof(set_up) / sizeof(set_up[0]) && ok; i++) {
        ok = sql_run(writer, set_up[i], report);
    }
    if (ok) {
        char name[64];
        snprintf(name, sizeof(name), "freshness, %llu rows/s",
                 (unsigned long long)per_second);
        measure(&f, writer, name);
    }
    PQfinish(f.reader);
    PQfinish(writer);
    free(f.hist);
}

void sql_freshness(const struct options *options, struct report *report)
{
    static const uint64_t rates[][2] = {{100, 1}, {1000, 10}, {10000, 100}};
    ASSERT(options->runs >= 1);
    for (int run = 0; run < options->runs && !report->wrong; run++) {
        for (size_t i = 0; i < 3 && !report->wrong; i++) {
            run_rate(options, report, rates[i][0], rates[i][1]);
        }
    }
}
