/*
 * tailrace-bench: one subcommand per family of workloads.
 *
 * One thread, apart from what a subcommand starts. The clock is set up before anything else, so
 * that every process forked later counts in the same nanoseconds; --priority before that, since it
 * may fork: the parent then only waits for the exit code.
 *
 * Exit codes: 0 all went well; 1 some answer was wrong or something could not be measured (the
 * report is printed all the same); 2 the command line makes no sense.
 */
#include "bench/machine.h"
#include "bench/options.h"
#include "bench/plot.h"
#include "bench/report.h"
#include "core/base/assert.h"
#include "core/base/log.h"
#include "core/base/mem.h"

#include <stdio.h>
#include <string.h>

/* A family of cases; it fills the report and says in it what was wrong. */
struct subcommand {
    const char *name;  /* argv[1] */
    const char *title; /* first line of its report */
    void (*run)(const struct options *options, struct report *report);
};

static const struct subcommand subcommands[] = {
    {"ring", "ring: carriers, floors and peers between two processes", bench_ring},
    {"engine", "engine: closed loop", bench_engine},
    {"nexmark", "nexmark: one worker, closed loop, events made beforehand", bench_nexmark},
    {"window", "window: one row of a partition of a million changes", bench_window},
    {"graph", "graph: recursions over a graph whose edges change", bench_graph},
    {"boundary", "boundary: storage to compute between two processes", bench_boundary},
    {"exchange", "exchange: workers of a replica in two processes", bench_exchange},
    {"count", "count: both sides in one process", bench_count},
    {"sql", "sql: one environment", bench_sql},
};

/* NULL: no such subcommand. */
static const struct subcommand *find(const char *name)
{
    ASSERT(name != NULL);
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++) {
        if (strcmp(subcommands[i].name, name) == 0) {
            return &subcommands[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct options options;
    int status = 0;
    const struct subcommand *subcommand = argc > 1 ? find(argv[1]) : NULL;
    int skip = subcommand != NULL ? 1 : 0;
    ASSERT(argc > 0);
    if (!options_parse(argc - skip, argv + skip, &options, &status)) {
        return status;
    }
    if (subcommand == NULL) {
        fprintf(stderr, "tailrace-bench: which? See tailrace-bench --help.\n");
        return 2;
    }
    machine_clock_start();
    mem_steady(); /* as the daemons */
    mem_keep(MEM_KEPT);
    err_t err = options.priority ? machine_priority() : ERR_OK;
    if (err != ERR_OK) {
        fprintf(stderr, "tailrace-bench: --priority: %s\n", err_text(err));
        err_free(err);
        return 2;
    }
    log_configure(LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT, "tailrace-bench");
    struct report report;
    report_init(&report, subcommand->title);
    subcommand->run(&options, &report);
    if (options.plot != NULL) {
        err = plot_write(&report, options.plot);
        if (err != ERR_OK) {
            report_wrong(&report, "%s: %s", options.plot, err_text(err));
            err_free(err);
        }
    }
    report_print(&report, options.json); /* last: it says whether all went well */
    status = report.wrong ? 1 : 0;
    report_free(&report);
    return status;
}
