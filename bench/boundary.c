/*
 * tailrace-bench boundary, beyond the cases that links share: many subscriptions on a connection,
 * fan-out, and the death of the other side.
 *
 * Each of these is a pair of runs in the same minute, and the figure is the one divided by the
 * other: what a hundred thousand idle subscriptions, or sixty-four readers instead of one, change.
 * A run that fails leaves its row out, and the bench fails.
 *
 * Shared memory only: many subscriptions are a matter of the protocol above the carriers, and a
 * death over TCP is told by the kernel.
 */
#include "bench/cases.h"
#include "bench/link.h"
#include "bench/options.h"
#include "bench/report.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDLE = 100 * 1000, ACTIVE = 10 * 1000, FAN = 64, SPREAD = 8, VICTIMS = 3,
       BALLAST_MIB = 1024, HELD_MIB = 4096, BRIEF_SHARE = 100 };

/* Runs one; false when it went wrong, which the report knows then. */
static bool run(const struct options *options, struct report *report, const char *directory,
                const char *name, const struct link_ops *link, struct load_shape shape,
                struct load_figures *figures)
{
    ASSERT(name[0] != '\0');
    shape.run_ns = (uint64_t)(options->seconds * 1e9);
    err_t err = link_run(link, &shape, directory, figures);
    if (err != ERR_OK) {
        report_wrong(report, "%s: %s", name, err_text(err));
        err_free(err);
    }
    return err == ERR_OK;
}

/* Million messages a second. */
static double rate(const struct load_figures *f)
{
    ASSERT(f->messages > 0 && f->ns > 0);
    return (double)f->messages * 1e3 / (double)f->ns;
}

/* Of both processes, in seconds a million messages. */
static double cpu(const struct load_figures *f)
{
    ASSERT(f->messages > 0);
    return (double)f->cpu_ns / (double)f->messages / 1e3;
}

/* Brief runs, of tests, make do with fewer. */
static uint32_t share(const struct options *options, uint32_t number)
{
    ASSERT(number >= BRIEF_SHARE);
    return options->seconds < 0.2 ? number / BRIEF_SHARE : number;
}

/* Idle subscriptions must cost nothing and active ones share what one has. The first row is the
 * measure of the others, taken in the same run. */
static void many(const struct options *options, struct report *report, const char *directory)
{
    struct load_shape shape = {.pattern = LOAD_FLOOD, .wait = LOAD_ADAPT, .bytes = 1024,
                               .batch = 1, .subscribers = 1};
    struct load_figures *f = mem_zalloc(3 * sizeof(*f));
    struct load_shape idle = shape;
    struct load_shape active = shape;
    char names[2][64];
    ASSERT(options->seconds > 0);
    idle.idle = share(options, IDLE);
    active.subscribers = share(options, ACTIVE);
    snprintf(names[0], sizeof(names[0]), "and %u idle ones", idle.idle);
    snprintf(names[1], sizeof(names[1]), "%u active ones", active.subscribers);
    report_group(report, "1 KiB as fast as it goes, many subscriptions");
    if (run(options, report, directory, "one subscription", &link_many, shape, &f[0]) &&
        run(options, report, directory, names[0], &link_many, idle, &f[1]) &&
        run(options, report, directory, names[1], &link_many, active, &f[2])) {
        report_add(report, "one subscription", "M msg/s", rate(&f[0]));
        report_add(report, "one subscription", "CPU s/M msg", cpu(&f[0]));
        for (int i = 0; i < 2; i++) {
            double extra = i == 0 ? idle.idle : active.subscribers - 1;
            double shared = (double)f[i + 1].shared_bytes - (double)f[0].shared_bytes;
            double private = (double)f[i + 1].private_bytes - (double)f[0].private_bytes;
            report_add(report, names[i], "M msg/s", rate(&f[i + 1]));
            report_add(report, names[i], "CPU s/M msg", cpu(&f[i + 1]));
            report_goal(report, names[i], "of one", rate(&f[i + 1]) / rate(&f[0]),
                        REPORT_AT_LEAST, i == 0 ? 0.95 : 0.9);
            report_goal(report, names[i], "shared B each", shared > 0 ? shared / extra : 0,
                        REPORT_AT_MOST, 200);
            report_add(report, names[i], "server's private B each", private / extra);
        }
    }
    free(f);
}

/* One row of fan-out: what an event costs the server with so many subscriptions on each of so many
 * connections; 0 when it went wrong. */
static double event_cost(const struct options *options, struct report *report,
                         const char *directory, const char *name, const struct link_ops *link,
                         uint32_t connections, uint32_t subscribers)
{
    struct load_shape shape = {.pattern = LOAD_PACED, .wait = LOAD_ADAPT, .bytes = 16 * 1024,
                               .interval_ns = 2000 * 1000, .subscribers = subscribers,
                               .readers = connections - 1};
    struct load_figures *f = mem_zalloc(sizeof(*f));
    double cost = 0;
    if (run(options, report, directory, name, link, shape, f)) {
        cost = (double)f->child_cpu_ns / ((double)f->messages / subscribers) / 1e3;
        report_add(report, name, "server's CPU us/event", cost);
    }
    free(f);
    return cost;
}

/* What one event costs the server when it has one and when it has many readers: a block built
 * once can serve them all. At a rate that both manage easily. Over several connections there are as
 * many processes to wake, whatever they read: so the base there has one reader in each. */
static void fan_out(const struct options *options, struct report *report, const char *directory)
{
    static const struct {
        const char *name;
        const struct link_ops *link;
        uint32_t connections;
        uint32_t subscribers; /* on each */
        int base; /* the row to compare with; -1: it is one itself */
    } rows[] = {{"1 subscriber", &link_many, 1, 1, -1},
                {"64 subscribers", &link_many, 1, FAN, 0},
                {"8 on 8 connections", &link_many, SPREAD, 1, -1},
                {"64 on 8 connections", &link_many, SPREAD, FAN / SPREAD, 2},
                {"1 subscriber, tcp", &link_many_tcp, 1, 1, -1},
                {"64 subscribers, tcp", &link_many_tcp, 1, FAN, 4}};
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    double costs[ROWS];
    report_group(report, "fan-out: 16 KiB, 500 a second, to all subscribers of a worker");
    for (int i = 0; i < ROWS; i++) {
        int base = rows[i].base;
        ASSERT(base < i);
        costs[i] = event_cost(options, report, directory, rows[i].name, rows[i].link,
                              rows[i].connections, rows[i].subscribers);
        if (base >= 0 && costs[base] > 0 && costs[i] > 0) {
            report_goal(report, rows[i].name, "of one each", costs[i] / costs[base],
                        REPORT_AT_MOST, 2);
        }
    }
}

/* Others go on while a reader dies that holds as much as it can: a quarter of the pool each, a
 * gibibyte. */
static void gaps(const struct options *options, struct report *report, const char *directory)
{
    struct load_shape shape = {.pattern = LOAD_PACED, .wait = LOAD_ADAPT, .bytes = 16 * 1024,
                               .interval_ns = 200 * 1000, .subscribers = 1, .readers = 1,
                               .victims = VICTIMS, .arena_mib = share(options, HELD_MIB)};
    struct load_figures *f = mem_zalloc(sizeof(*f));
    ASSERT(shape.victims < 4); /* or nothing is left for the others */
    report_group(report, "kill -9 of a reader: gaps between the others' deliveries, 200 us apart");
    if (run(options, report, directory, "gaps", &link_many, shape, f)) {
        const char *name = "one that holds much";
        report_add(report, name, "MiB", (double)f->held_bytes / VICTIMS / (1 << 20));
        report_add(report, name, "longest gap ms", (double)f->gap_quiet_ns / 1e6);
        report_goal(report, name, "as one dies", (double)f->gap_kill_ns / 1e6, REPORT_AT_MOST, 1);
    }
    free(f);
}

/* The sender is killed while it sends. Noticed: the session is over for the host. Freed: the
 * loop's next turn after the session and its mappings are gone. The kernel takes a big process's
 * memory away first, which must not delay either. */
static void deaths(const struct options *options, struct report *report, const char *directory)
{
    struct load_figures *f = mem_zalloc(sizeof(*f));
    ASSERT(options->seconds > 0);
    report_group(report, "kill -9 of the sender in full flight, over shared memory");
    for (int big = 0; big < 2; big++) {
        struct load_shape shape = {.pattern = LOAD_KILL, .wait = LOAD_ADAPT, .bytes = 1024,
                                   .batch = 8,
                                   .ballast_mib = big ? share(options, BALLAST_MIB) : 0};
        char name[64];
        snprintf(name, sizeof(name), big ? "one that holds %u MiB" : "a small one",
                 shape.ballast_mib);
        if (run(options, report, directory, name, &link_shm, shape, f)) {
            report_goal(report, name, "noticed ms", (double)f->notice_ns / 1e6, REPORT_AT_MOST, 1);
            report_goal(report, name, "freed ms", (double)f->reclaim_ns / 1e6, REPORT_AT_MOST,
                        200);
        }
    }
    free(f);
}

void bench_boundary(const struct options *options, struct report *report)
{
    static const struct {
        const char *title; /* for --case */
        void (*run)(const struct options *options, struct report *report, const char *directory);
    } extras[] = {{"many subscriptions", many}, {"fan-out", fan_out}, {"kill", deaths},
                  {"kill, gaps", gaps}};
    char directory[160];
    ASSERT(options->runs >= 1);
    bench_links(options, report, LINK_BOUNDARY);
    snprintf(directory, sizeof(directory), "%s/tailrace-bench-XXXXXX", options->directory);
    if (mkdtemp(directory) == NULL) {
        report_wrong(report, "no temporary directory in %s", options->directory);
        return;
    }
    for (int i = 0; i < options->runs; i++) {
        for (size_t k = 0; k < sizeof(extras) / sizeof(extras[0]); k++) {
            if (options->only_case == NULL || strstr(extras[k].title, options->only_case)) {
                extras[k].run(options, report, directory);
            }
        }
    }
    link_remove_directory(directory);
}
