/*
 * Collects figures and prints them: as a table for people, or as JSON. A figure belongs to a case
 * ("w1 load") and a metric ("p50 us"); added several times, once a run, its median is shown.
 */
#ifndef TAILRACE_BENCH_REPORT_H
#define TAILRACE_BENCH_REPORT_H

#include "bench/hist.h"

#include <stdbool.h>
#include <stddef.h>

enum { REPORT_RUNS_MAX = 32 };

struct figure {
    char *name; /* of the case */
    char *metric;
    double values[REPORT_RUNS_MAX];
    size_t values_len;
};

struct report {
    struct figure *figures; /* in order of first appearance */
    size_t figures_len, figures_cap;
    const char *title;
    bool wrong; /* some check failed: the program will say so and exit with 1 */
};

void report_init(struct report *report, const char *title);
void report_free(struct report *report);
void report_add(struct report *report, const char *name, const char *metric, double value);
/* p50, p99, p99.9 and max in microseconds. */
void report_latency(struct report *report, const char *name, const struct hist *hist);
/* A wrong result: said on stderr at once. */
void report_wrong(struct report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints the machine and every figure to stdout. */
void report_print(const struct report *report, bool json);

#endif
