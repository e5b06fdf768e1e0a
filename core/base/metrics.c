/*
 * Process metrics: see metrics.h. Families (all metrics of one name) are kept in order of name and
 * metrics in order of registration, as the exposition format wants them together. The lock guards
 * the lists; they only grow, and a metric never moves, so that updates need no lock. An exposition
 * reads each value once: the buckets of one histogram may be a few observations apart from its sum.
 */
#include "core/base/metrics.h"

#include <pthread.h>

enum { COUNTERS_EXPOSED_MAX = 1000 }; /* of a kind */

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
    struct metric *next; /* of the same family, in order of registration */
    char *labels;
    _Atomic int64_t value; /* counter, gauge; histogram: sum in microseconds */
    /* Histogram: observations of at most 2^i microseconds (and more than 2^(i-1)), the last: of
     * more. Not cumulative, unlike what is exposed. NULL for the others. */
    _Atomic uint64_t *buckets;
};

/* All metrics of one name. */
struct family {
    struct family *next; /* the next name in byte order */
    char *name;
    char *help;
    enum metric_kind kind;
    struct metric *first;
    struct metric *last;
};

struct metrics_registry {
    pthread_mutex_t lock; /* guards the lists, not the values */
    struct family *families;
    struct counters *counters; /* set once, before there are threads */
};

struct metrics_registry *metrics_registry_new(void)
{
    struct metrics_registry *r = MEM_NEW(struct metrics_registry);
    ASSERT(pthread_mutex_init(&r->lock, NULL) == 0);
    return r;
}

/* Its metrics' pointers are void then: the registry outlives all who update. */
static void family_free(struct family *family)
{
    struct metric *m = family->first;
    while (m != NULL) {
        struct metric *next = m->next;
        free(m->labels);
        free(m->buckets);
        free(m);
        m = next;
    }
    free(family->name);
    free(family->help);
    free(family);
}

/* After the last thread that updates a metric has ended. */
void metrics_registry_free(struct metrics_registry *r)
{
    if (r == NULL) {
        return;
    }
    struct family *family = r->families;
    while (family != NULL) {
        struct family *next = family->next;
        family_free(family);
        family = next;
    }
    ASSERT(pthread_mutex_destroy(&r->lock) == 0); /* nobody is inside */
    counters_free(r->counters);
    free(r);
}

/* Takes the counters over; before there are threads, so that metrics_counters needs no lock. */
void metrics_attach(struct metrics_registry *r, struct counters *counters)
{
    ASSERT(r->counters == NULL && counters != NULL);
    r->counters = counters;
}

struct counters *metrics_counters(const struct metrics_registry *r)
{
    return r != NULL ? r->counters : NULL;
}

/* Under the lock. Made when it is the first of its name. */
static struct family *family_get(struct metrics_registry *r, const char *name, const char *help,
                                 enum metric_kind kind)
{
    struct family **at = &r->families;
    while (*at != NULL && strcmp((*at)->name, name) < 0) {
        at = &(*at)->next;
    }
    if (*at != NULL && strcmp((*at)->name, name) == 0) {
        ASSERT((*at)->kind == kind); /* one name, one kind */
        return *at;
    }
    struct family *family = MEM_NEW(struct family);
    family->name = mem_strdup(name);
    family->help = mem_strdup(help);
    family->kind = kind;
    family->next = *at;
    *at = family;
    return family;
}

/* The same name and labels are the same metric, whoever asks: modules need not share pointers. */
static struct metric *metric_get(struct metrics_registry *r, const char *name, const char *labels,
                                 const char *help, enum metric_kind kind)
{
    ASSERT(name[0] != '\0' && labels != NULL && strchr(help, '\n') == NULL);
    ASSERT(pthread_mutex_lock(&r->lock) == 0);
    struct family *family = family_get(r, name, help, kind);
    struct metric *m = family->first;
    while (m != NULL && strcmp(m->labels, labels) != 0) {
        m = m->next;
    }
    if (m == NULL) {
        m = MEM_NEW(struct metric);
        m->labels = mem_strdup(labels);
        if (kind == METRIC_HISTOGRAM) {
            m->buckets = mem_zalloc((METRIC_BUCKETS + 1) * sizeof(m->buckets[0]));
        }
        if (family->last != NULL) {
            family->last->next = m;
        } else {
            family->first = m;
        }
        family->last = m;
    }
    ASSERT(pthread_mutex_unlock(&r->lock) == 0);
    ASSERT((m->buckets != NULL) == (kind == METRIC_HISTOGRAM));
    return m;
}

struct metric *metric_counter(struct metrics_registry *r, const char *name, const char *labels,
                              const char *help)
{
    return metric_get(r, name, labels, help, METRIC_COUNTER);
}

struct metric *metric_gauge(struct metrics_registry *r, const char *name, const char *labels,
                            const char *help)
{
    return metric_get(r, name, labels, help, METRIC_GAUGE);
}

struct metric *metric_histogram(struct metrics_registry *r, const char *name, const char *labels,
                                const char *help)
{
    return metric_get(r, name, labels, help, METRIC_HISTOGRAM);
}

/* Updates and reads, any thread. Relaxed throughout: a value publishes nothing but itself. */
void metric_add(struct metric *m, uint64_t n)
{
    atomic_fetch_add_explicit(&m->value, (int64_t)n, memory_order_relaxed);
}

void metric_set(struct metric *m, int64_t value)
{
    atomic_store_explicit(&m->value, value, memory_order_relaxed);
}

int64_t metric_value(const struct metric *m)
{
    return atomic_load_explicit(&m->value, memory_order_relaxed);
}

/* Powers of two from 1 us: two atomic additions, and half a bucket of error at most. */
void metric_observe_us(struct metric *m, uint64_t microseconds)
{
    ASSERT(m->buckets != NULL);
    /* The smallest i with microseconds <= 2^i. */
    int bucket = microseconds <= 1 ? 0 : 64 - __builtin_clzll(microseconds - 1);
    if (bucket > METRIC_BUCKETS) {
        bucket = METRIC_BUCKETS;
    }
    atomic_fetch_add_explicit(&m->buckets[bucket], 1, memory_order_relaxed);
    metric_add(m, microseconds);
}

/* Prometheus's buckets are cumulative, in seconds, and end with +Inf, which equals the count. */
static void expose_histogram(const struct family *family, const struct metric *m, struct buf *out)
{
    ASSERT(m->buckets != NULL);
    const char *comma = m->labels[0] != '\0' ? "," : "";
    uint64_t total = 0;
    for (int i = 0; i < METRIC_BUCKETS; i++) {
        total += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
        buf_printf(out, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", family->name, m->labels, comma,
                   (double)(1ULL << i) / 1e6, (unsigned long long)total);
    }
    total += atomic_load_explicit(&m->buckets[METRIC_BUCKETS], memory_order_relaxed);
    buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", family->name, m->labels, comma,
               (unsigned long long)total);
    const char *open = m->labels[0] != '\0' ? "{" : "";
    const char *close = m->labels[0] != '\0' ? "}" : "";
    buf_printf(out, "%s_sum%s%s%s %.15g\n", family->name, open, m->labels, close,
               (double)metric_value(m) / 1e6);
    buf_printf(out, "%s_count%s%s%s %llu\n", family->name, open, m->labels, close,
               (unsigned long long)total);
}

/* HELP and TYPE once, then a line for each metric: the order Prometheus asks for. */
static void expose_family(const struct family *family, struct buf *out)
{
    static const char *const kinds[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"};
    ASSERT(family->first != NULL && family->kind < ARRAY_LEN(kinds));
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
               kinds[family->kind]);
    for (const struct metric *m = family->first; m != NULL; m = m->next) {
        if (family->kind == METRIC_HISTOGRAM) {
            expose_histogram(family, m, out);
            continue;
        }
        buf_append_str(out, family->name);
        if (m->labels[0] != '\0') {
            buf_printf(out, "{%s}", m->labels);
        }
        buf_printf(out, " %lld\n", (long long)metric_value(m));
    }
}

/* Any thread. Registrations wait meanwhile, updates do not. */
void metrics_expose(struct metrics_registry *r, struct buf *out)
{
    ASSERT(pthread_mutex_lock(&r->lock) == 0);
    for (const struct family *family = r->families; family != NULL; family = family->next) {
        expose_family(family, out);
    }
    ASSERT(pthread_mutex_unlock(&r->lock) == 0);
    counters_expose(r->counters, COUNTERS_EXPOSED_MAX, out);
}
