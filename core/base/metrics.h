/*
 * Counters, gauges and histograms of one process, in the Prometheus text exposition format.
 * Registration happens at set-up under a lock; updating is a relaxed atomic add on memory the
 * caller holds, from any thread. Metrics live until metrics_registry_free.
 */
#ifndef TAILRACE_CORE_BASE_METRICS_H
#define TAILRACE_CORE_BASE_METRICS_H

#include "core/base/buf.h"
#include "core/base/counters.h"

#include <stdatomic.h>

struct metrics_registry;
struct metric;

/* The largest bucket with a bound: 2^27 us, 134 s. */
enum { METRIC_BUCKETS = 28 };

struct metrics_registry *metrics_registry_new(void);
void metrics_registry_free(struct metrics_registry *registry);

/*
 * A metric of that name and label set; the same call twice returns the same metric.
 * name: tailrace_<module>_<what>_<unit>[_total]; labels: "worker=\"0\",source=\"u3\"" or "".
 */
struct metric *metric_counter(struct metrics_registry *r, const char *name, const char *labels,
                              const char *help);
struct metric *metric_gauge(struct metrics_registry *r, const char *name, const char *labels,
                            const char *help);
/* Buckets are powers of two of microseconds, exposed in seconds; name ends in _seconds. */
struct metric *metric_histogram(struct metrics_registry *r, const char *name, const char *labels,
                                const char *help);

/* Counters only ever rise; a gauge is set, or raised and lowered by adding (two's complement). */
void metric_add(struct metric *m, uint64_t n);
void metric_set(struct metric *m, int64_t value);
void metric_observe_us(struct metric *m, uint64_t microseconds);
int64_t metric_value(const struct metric *m);

/* Counters to be shown with the metrics, and freed with them. At set-up, once. */
void metrics_attach(struct metrics_registry *r, struct counters *counters);
/* Those attached, or NULL; r may be NULL. Any thread. */
struct counters *metrics_counters(const struct metrics_registry *r);

/* Appends the exposition of every metric, grouped by name, and of the counters attached (the first
 * 1,000 of a kind; it says how many were left out) to out. Any thread. */
void metrics_expose(struct metrics_registry *r, struct buf *out);

#endif
