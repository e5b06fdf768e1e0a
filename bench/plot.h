/* A report as a picture, drawn by gnuplot. */
#ifndef TAILRACE_BENCH_PLOT_H
#define TAILRACE_BENCH_PLOT_H

#include "bench/report.h"
#include "core/base/err.h"

/*
 * Writes path, whose ending chooses SVG or PNG: for each group with curves its latencies by
 * percentile (both axes logarithmic: a straight line to the right is a tail that does not grow),
 * for each group with rates a bar a row. ERR_UNSUPPORTED without gnuplot.
 */
err_t plot_write(const struct report *report, const char *path);

#endif
