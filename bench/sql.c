/*
 * tailrace-bench sql: statements against a running environment, through libpq. In turn, several
 * times: fdatasync of this disk, single-row INSERTs, SELECTs of one row of an indexed materialized
 * view, and the same statements against PostgreSQL, where the view is a table kept by nobody.
 * Everything is closed loop; freshness (sql_freshness.c) is open loop.
 *
 * PostgreSQL is asked the same statements over the same library on the same machine. Where we have
 * a view that is kept up to date, it has a plain table of the same rows: it is spared the work
 * that a view is for, so the comparison of SELECTs is the strictest one.
 *
 * Row ids go on from run to run; the check at the end counts rows in the table, in the view, and
 * distinct ones: nothing may be lost or doubled by any of it.
 */
#include "bench/sql.h"

#include "bench/machine.h"
#include "core/base/mem.h"

#include <stdio.h>

enum { GROUPS = 100, SYNCS = 300, CONNECTIONS_MAX = 8 };

/* One of the two systems that are compared. */
struct peer {
    const char *name; /* in the report */
    const char *port;
    const char *user; /* who may make tables */
    bool live; /* has materialized views */
};

static const char *const set_up_live[] = {
    "DROP TABLE IF EXISTS bench_rows CASCADE",
    "CREATE TABLE bench_rows (id int8, grp int8, name text)",
    "CREATE MATERIALIZED VIEW bench_groups AS "
    "SELECT grp, count(*) AS rows, max(id) AS last FROM bench_rows GROUP BY grp",
    "CREATE INDEX bench_groups_index ON bench_groups (grp)",
};

static const char *const set_up_plain[] = {
    "DROP TABLE IF EXISTS bench_rows, bench_groups",
    "CREATE TABLE bench_rows (id int8, grp int8, name text)",
    "CREATE TABLE bench_groups (grp int8 PRIMARY KEY, rows int8, last int8)",
    "INSERT INTO bench_groups SELECT i, 1, i FROM generate_series(0, 99) AS i",
};

/* The tables anew. In the view each group has a row from the start, so that every SELECT finds
 * one. */
static bool set_up(PGconn *connection, const struct peer *peer, struct report *report)
{
    const char *const *statements = peer->live ? set_up_live : set_up_plain;
    bool ok = true;
    ASSERT(connection != NULL);
    for (size_t i = 0; i < 4 && ok; i++) {
        ok = sql_run(connection, statements[i], report);
    }
    char statement[128];
    for (int group = 0; group < GROUPS && ok && peer->live; group++) {
        snprintf(statement, sizeof(statement), "INSERT INTO bench_rows VALUES (%d, %d, 'first')",
                 group, group);
        ok = sql_run(connection, statement, report);
    }
    return ok;
}

/* Ids go on behind those of the set-up, groups in turn. */
static void insert_text(char *out, size_t size, uint64_t n)
{
    ASSERT(size > 0);
    snprintf(out, size, "INSERT INTO bench_rows VALUES (%llu, %llu, 'a name of some length')",
             (unsigned long long)(n + GROUPS), (unsigned long long)(n % GROUPS));
}

/* One row by the index. */
static void select_text(char *out, size_t size, uint64_t n)
{
    ASSERT(size > 0);
    snprintf(out, size, "SELECT rows FROM bench_groups WHERE grp = %llu",
             (unsigned long long)(n % GROUPS));
}

/* One connection, one statement at a time, for the given time. */
static void closed_loop(const struct options *options, PGconn *connection, const char *name,
                        void (*text)(char *, size_t, uint64_t), struct report *report)
{
    struct hist *hist = MEM_NEW(struct hist);
    char statement[128];
    uint64_t end = machine_now_ns() + (uint64_t)(options->seconds * 1e9);
    ASSERT(options->seconds > 0);
    for (uint64_t n = 0; machine_now_ns() < end && !report->wrong; n++) {
        text(statement, sizeof(statement), n);
        uint64_t start = machine_now_ns();
        sql_run(connection, statement, report);
        hist_add(hist, machine_now_ns() - start);
    }
    if (!report->wrong) {
        report_latency(report, name, hist);
        report_add(report, name, "a second", (double)hist->count * 1e9 / (double)hist->sum);
    }
    free(hist);
}

/* Several connections with one SELECT under way on each: how many answers a second. */
static void many_selects(const struct options *options, const struct peer *peer,
                         struct report *report)
{
    PGconn *connections[CONNECTIONS_MAX] = {NULL};
    char statement[128];
    bool ok = true;
    ASSERT(peer->port != NULL);
    for (int i = 0; i < CONNECTIONS_MAX && ok; i++) {
        connections[i] = sql_connect(options, peer->port, peer->user, report);
        ok = connections[i] != NULL;
    }
    uint64_t answers = 0;
    uint64_t start = machine_now_ns();
    uint64_t end = start + (uint64_t)(options->seconds * 1e9);
    while (ok && machine_now_ns() < end) {
        for (uint64_t i = 0; i < CONNECTIONS_MAX; i++) {
            select_text(statement, sizeof(statement), answers + i);
            ok &= PQsendQuery(connections[i], statement) == 1;
        }
        for (int i = 0; i < CONNECTIONS_MAX && ok; i++) {
            PGresult *result;
            while ((result = PQgetResult(connections[i])) != NULL) {
                ok &= PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
                answers++;
                PQclear(result);
            }
        }
    }
    char name[64];
    snprintf(name, sizeof(name), "%s SELECT, %d at once", peer->name, CONNECTIONS_MAX);
    if (ok) {
        report_add(report, name, "a second",
                   (double)answers * 1e9 / (double)(machine_now_ns() - start));
    } else {
        report_wrong(report, "%s failed", name);
    }
    for (int i = 0; i < CONNECTIONS_MAX; i++) {
        PQfinish(connections[i]);
    }
}

/* Nothing is lost or doubled: the view counts what the table holds. */
static void check(PGconn *connection, struct report *report)
{
    ASSERT(!report->wrong);
    long long rows = sql_number(connection, "SELECT count(*) FROM bench_rows", report);
    long long counted = sql_number(connection, "SELECT sum(rows) FROM bench_groups", report);
    long long distinct = sql_number(connection, "SELECT count(DISTINCT id) FROM bench_rows",
                                    report);
    if (rows != counted || rows < GROUPS || distinct > rows) {
        report_wrong(report, "%lld rows in the table, %lld in the view", rows, counted);
    }
}

/* INSERTs before SELECTs, so that both systems read what they were just given. */
static void run_peer(const struct options *options, const struct peer *peer, PGconn *connection,
                     struct report *report)
{
    char name[64];
    ASSERT(connection != NULL);
    snprintf(name, sizeof(name), "%s INSERT", peer->name);
    closed_loop(options, connection, name, insert_text, report);
    snprintf(name, sizeof(name), "%s SELECT", peer->name);
    closed_loop(options, connection, name, select_text, report);
}

/* The floor of an INSERT, in the same run. */
static void sync_probe(const struct options *options, struct report *report)
{
    struct hist *hist = MEM_NEW(struct hist);
    err_t err = machine_sync_probe(options->directory, SYNCS, hist);
    if (err == ERR_OK) {
        report_latency(report, "fdatasync", hist);
        report_add(report, "fdatasync", "a second", (double)hist->count * 1e9 /
                                                        (double)hist->sum);
    } else {
        report_wrong(report, "%s", err_text(err));
        err_free(err);
    }
    free(hist);
}

/* Statements of both systems in turn, then the rate on several connections, then freshness. */
void bench_sql(const struct options *options, struct report *report)
{
    const struct peer peers[] = {
        {"tailrace", options->port, "tailrace", true},
        {"postgres", options->postgres_port, "postgres", false},
    };
    size_t peers_len = options->postgres_port != NULL ? 2 : 1;
    PGconn *connections[2] = {NULL};
    ASSERT(options->runs >= 1);
    for (size_t i = 0; i < peers_len && !report->wrong; i++) {
        connections[i] = sql_connect(options, peers[i].port, peers[i].user, report);
        if (connections[i] != NULL) {
            set_up(connections[i], &peers[i], report);
        }
    }
    for (int run = 0; run < options->runs && !report->wrong; run++) {
        sync_probe(options, report);
        for (size_t i = 0; i < peers_len && !report->wrong; i++) {
            run_peer(options, &peers[i], connections[i], report);
        }
    }
    for (int run = 0; run < options->runs && !report->wrong; run++) {
        for (size_t i = 0; i < peers_len && !report->wrong; i++) {
            many_selects(options, &peers[i], report);
        }
    }
    if (!report->wrong) {
        check(connections[0], report);
        sql_freshness(options, report);
    }
    for (size_t i = 0; i < peers_len; i++) {
        PQfinish(connections[i]);
    }
}
