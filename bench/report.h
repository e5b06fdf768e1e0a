/*
 * Collects figures and prints them: as tables for people, as JSON, and as plots (plot.c). A figure
 * belongs to a group (one table), a row ("plain ring") and a metric (a column: "p50 us"); added
 * several times, once a run, its median is shown. A metric may have a goal, which is printed beside
 * it: how a figure stands is seen where it stands.
 *
 * One thread. Titles of groups, rows and metrics are copied.
 */
#ifndef TAILRACE_BENCH_REPORT_H
#define TAILRACE_BENCH_REPORT_H

#include "bench/hist.h"

#include <stdbool.h>
#include <stddef.h>

enum { REPORT_RUNS_MAX = 32 };

enum report_sense { REPORT_NO_GOAL, REPORT_AT_MOST, REPORT_AT_LEAST };

/* One cell of a table: all runs' values of one metric of one row. */
struct figure {
    size_t group; /* index */
    char *name;   /* of the row */
    char *metric;
    double values[REPORT_RUNS_MAX]; /* one a run */
    size_t values_len;
    enum report_sense sense; /* of the goal */
    double goal;
    const char *text; /* instead of values: a word (static), "mixed" when runs differ */
};

/* Every duration a row's runs counted, for the plot. */
struct report_curve {
    size_t group;
    char *name;
    struct hist *hist;
};

/* Everything one subcommand has to say; printed once, at the end. */
struct report {
    struct figure *figures; /* in order of first appearance */
    size_t figures_len, figures_cap;
    char **groups;
    size_t groups_len, groups_cap;
    size_t group; /* the one being filled */
    struct report_curve *curves;
    size_t curves_len, curves_cap;
    const char *title;
    bool wrong; /* some check failed: the program will say so and exit with 1 */
};

void report_init(struct report *report, const char *title);
void report_free(struct report *report);
/* What is added from now on belongs to this table; naming it again goes on with it. */
void report_group(struct report *report, const char *title);
void report_add(struct report *report, const char *name, const char *metric, double value);
/* The same, with the goal it is held against. */
void report_goal(struct report *report, const char *name, const char *metric, double value,
                 enum report_sense sense, double goal);
/* A word instead of a number (static text). */
void report_text(struct report *report, const char *name, const char *metric, const char *text);
/* p50, p99, p99.9 and max in microseconds, and a curve. */
void report_latency(struct report *report, const char *name, const struct hist *hist);
/* A wrong result: said on stderr at once. */
void report_wrong(struct report *report, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints the machine and every figure to stdout. */
void report_print(const struct report *report, bool json);
double report_median(const struct figure *figure);
bool report_met(const struct figure *figure);

#endif
