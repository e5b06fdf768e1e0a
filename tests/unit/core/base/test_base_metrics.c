/* Metrics: the exposition, byte by byte, and updates from several threads. */
#include "core/base/metrics.h"
#include "tests/unit/harness.h"

#include <pthread.h>
#include <string.h>

static void exposition(void)
{
    struct metrics_registry *r = metrics_registry_new();
    struct metric *b = metric_counter(r, "tailrace_b_total", "worker=\"0\"", "Second by name.");
    struct metric *a = metric_gauge(r, "tailrace_a", "", "First by name.");
    struct metric *b1 = metric_counter(r, "tailrace_b_total", "worker=\"1\"", "ignored");
    CU_ASSERT(metric_counter(r, "tailrace_b_total", "worker=\"0\"", "again") == b);
    CU_ASSERT(b != b1);
    metric_add(b, 3);
    metric_add(b, 4);
    metric_set(a, -5);
    CU_ASSERT(metric_value(b) == 7 && metric_value(a) == -5 && metric_value(b1) == 0);
    struct buf out = {0};
    metrics_expose(r, &out);
    CU_ASSERT(strcmp(buf_cstr(&out), "# HELP tailrace_a First by name.\n"
                                     "# TYPE tailrace_a gauge\n"
                                     "tailrace_a -5\n"
                                     "# HELP tailrace_b_total Second by name.\n"
                                     "# TYPE tailrace_b_total counter\n"
                                     "tailrace_b_total{worker=\"0\"} 7\n"
                                     "tailrace_b_total{worker=\"1\"} 0\n") == 0);
    buf_free(&out);
    metrics_registry_free(r);
    metrics_registry_free(NULL);
}

static void line_is(struct buf *out, const char *line)
{
    bool there = strstr(buf_cstr(out), line) != NULL;
    if (!there) {
        fprintf(stderr, "missing: %s in\n%s", line, buf_cstr(out));
    }
    CU_ASSERT(there);
}

static void histogram(void)
{
    struct metrics_registry *r = metrics_registry_new();
    struct metric *h = metric_histogram(r, "tailrace_h_seconds", "", "Times.");
    struct metric *l = metric_histogram(r, "tailrace_h_seconds", "op=\"x\"", "Times.");
    metric_observe_us(h, 0);
    metric_observe_us(h, 1);
    metric_observe_us(h, 2);
    metric_observe_us(h, 3);
    metric_observe_us(h, 4);
    metric_observe_us(h, 5);
    metric_observe_us(h, 1ULL << 40); /* above every bucket */
    metric_observe_us(l, 1000000);
    metric_observe_us(l, 123456789001); /* the sum keeps its microseconds */
    struct buf out = {0};
    metrics_expose(r, &out);
    line_is(&out, "# TYPE tailrace_h_seconds histogram\n");
    line_is(&out, "tailrace_h_seconds_bucket{le=\"1e-06\"} 2\n");
    line_is(&out, "tailrace_h_seconds_bucket{le=\"2e-06\"} 3\n"); /* le: at most */
    line_is(&out, "tailrace_h_seconds_bucket{le=\"4e-06\"} 5\n");
    line_is(&out, "tailrace_h_seconds_bucket{le=\"8e-06\"} 6\n");
    line_is(&out, "tailrace_h_seconds_bucket{le=\"+Inf\"} 7\n");
    line_is(&out, "tailrace_h_seconds_count 7\n");
    line_is(&out, "tailrace_h_seconds_bucket{op=\"x\",le=\"+Inf\"} 2\n");
    line_is(&out, "tailrace_h_seconds_sum{op=\"x\"} 123457.789001\n");
    line_is(&out, "tailrace_h_seconds_bucket{op=\"x\",le=\"1.048576\"} 1\n");
    buf_free(&out);
    metrics_registry_free(r);
}

enum { THREADS = 4, ADDS = 20000 };

static void *add_many(void *arg)
{
    struct metrics_registry *r = arg;
    struct metric *m = metric_counter(r, "tailrace_shared_total", "", "Shared.");
    struct metric *h = metric_histogram(r, "tailrace_shared_seconds", "", "Shared.");
    for (int i = 0; i < ADDS; i++) {
        metric_add(m, 1);
        metric_observe_us(h, (uint64_t)i);
    }
    return NULL;
}

static void threads(void)
{
    struct metrics_registry *r = metrics_registry_new();
    pthread_t ids[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CU_ASSERT_FATAL(pthread_create(&ids[i], NULL, add_many, r) == 0);
    }
    struct buf out = {0};
    metrics_expose(r, &out); /* while they are being updated */
    for (int i = 0; i < THREADS; i++) {
        pthread_join(ids[i], NULL);
    }
    CU_ASSERT(metric_value(metric_counter(r, "tailrace_shared_total", "", "")) == THREADS * ADDS);
    buf_clear(&out);
    metrics_expose(r, &out);
    line_is(&out, "tailrace_shared_seconds_count 80000\n");
    buf_free(&out);
    metrics_registry_free(r);
}

static const struct test_case cases[] = {
    {"exposition", exposition},
    {"histogram", histogram},
    {"updates from several threads", threads},
};
TEST_SUITE("core/base/metrics", cases)
