/*
 * The command line of tailrace-bench: the same flags for every subcommand. Texts point into argv.
 * Filled once, then read only.
 */
#ifndef TAILRACE_BENCH_OPTIONS_H
#define TAILRACE_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct options {
    const char *workload; /* engine: NULL means all */
    double scale;         /* of rows, keys and rounds; 1: the workload as defined */
    int runs;             /* medians of so many */
    int workers;          /* engine: threads of all processes */
    int processes;        /* engine */
    bool json;            /* instead of tables */
    const char *host;     /* of environmentd and PostgreSQL */
    const char *port;          /* of environmentd */
    const char *postgres_port; /* NULL: without PostgreSQL */
    const char *directory;     /* on the disk to probe, and for sockets */
    double seconds;            /* of each timed loop */
    bool priority;             /* before everybody else on this machine */
    uint64_t messages;         /* count */
    const char *plot;          /* a file to draw into; NULL: none */
    const char *answers;       /* nexmark: a directory for events and answers; NULL: none */
    const char *link;          /* ring: only links whose name contains this; NULL: all.
                        * engine: "tcp" between processes */
    const char *only_case;     /* ring, boundary: the same of cases' titles */
};

/* False: usage was printed; *status is what main returns. argv[0] is the subcommand. */
bool options_parse(int argc, char **argv, struct options *out, int *status);

struct report;
/* The subcommands. They add figures and say what was wrong. */
void bench_exchange(const struct options *options, struct report *report);
void bench_count(const struct options *options, struct report *report);
void bench_ring(const struct options *options, struct report *report);
void bench_window(const struct options *options, struct report *report);
void bench_graph(const struct options *options, struct report *report);
void bench_nexmark(const struct options *options, struct report *report);
void bench_engine(const struct options *options, struct report *report);
void bench_boundary(const struct options *options, struct report *report);
void bench_sql(const struct options *options, struct report *report);

#endif
