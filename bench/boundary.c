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

enum { IDLE = 100 * 1000, ACTIVE = 10 * 1000, FAN = 64, BALLAST_MIB = 1024, BRIEF_SHARE = 100 };

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
        for (int i = 0; i < 2; i++) {
            double extra = i == 0 ? idle.idle : active.subscribers - 1;
            double shared = (double)f[i + 1].shared_bytes - (double)f[0].shared_bytes;
            double private = (double)f[i + 1].private_bytes - (double)f[0].private_bytes;
            report_add(report, names[i], "M msg/s", rate(&f[i + 1]));
            report_goal(report, names[i], "of one", rate(&f[i + 1]) / rate(&f[0]),
                        REPORT_AT_LEAST, i == 0 ? 0.95 : 0.9);
            report_goal(report, names[i], "shared B each", shared > 0 ? shared / extra : 0,
                        REPORT_AT_MOST, 200);
            report_add(report, names[i], "server's private B each", private / extra);
        }
    }
    free(f);
}

/* What one event costs the server when it has one and when it has many readers: a block built
 * once can serve them all. At a rate that both manage easily. */
static void fan_out(const struct options *options, struct report *report, const char *directory)
{
    struct load_shape shape = {.pattern = LOAD_PACED, .wait = LOAD_ADAPT, .bytes = 16 * 1024,
                               .interval_ns = 2000 * 1000, .subscribers = 1};
    struct load_shape wide = shape;
    struct load_figures *f = mem_zalloc(2 * sizeof(*f));
    wide.subscribers = FAN;
    report_group(report, "16 KiB, 500 a second, to all subscribers of a worker");
    if (run(options, report, directory, "1 subscriber", &link_many, shape, &f[0]) &&
        run(options, report, directory, "64 subscribers", &link_many, wide, &f[1])) {
        double one = (double)f[0].child_cpu_ns / (double)f[0].messages / 1e3;
        double all = (double)f[1].child_cpu_ns / ((double)f[1].messages / FAN) / 1e3;
        report_add(report, "1 subscriber", "server's CPU us/event", one);
        report_add(report, "64 subscribers", "server's CPU us/event", all);
        report_goal(report, "64 subscribers", "of one", all / one, REPORT_AT_MOST, 2);
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
    } extras[] = {{"many subscriptions", many}, {"fan-out", fan_out}, {"kill", deaths}};
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
