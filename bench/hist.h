/*
 * A histogram of durations in log-linear buckets (the layout of HdrHistogram, which Debian has for
 * Java and Go only): 64 to each power of two, so a quantile is exact to 1.6 %; the largest value is
 * kept exactly. Constant memory, no allocation per value. One thread.
 */
#ifndef TAILRACE_BENCH_HIST_H
#define TAILRACE_BENCH_HIST_H

#include <stdint.h>

enum { HIST_SUB = 64, HIST_BUCKETS = HIST_SUB * 59 };

struct hist { /* one owner, one thread */
    uint64_t count, sum, max; /* of nanoseconds */
    uint64_t buckets[HIST_BUCKETS];
};

void hist_clear(struct hist *hist);
void hist_add(struct hist *hist, uint64_t ns);
/* Adds another one's values. */
void hist_merge(struct hist *hist, const struct hist *other);
/* The value (nanoseconds) that the given share of all values does not exceed; 0 when empty. */
uint64_t hist_quantile(const struct hist *hist, double share);

#endif
