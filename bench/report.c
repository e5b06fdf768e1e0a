/* Tables and JSON. See report.h. */
#include "bench/report.h"

#include "bench/machine.h"
#include "core/base/mem.h"

#include <stdarg.h>
#include <stdio.h>

void report_init(struct report *report, const char *title)
{
    *report = (struct report){.title = title};
}

void report_free(struct report *report)
{
    for (size_t i = 0; i < report->figures_len; i++) {
        free(report->figures[i].name);
        free(report->figures[i].metric);
    }
    free(report->figures);
}

static struct figure *find(const struct report *report, const char *name, const char *metric)
{
    for (size_t i = 0; i < report->figures_len; i++) {
        struct figure *f = &report->figures[i];
        if (strcmp(f->name, name) == 0 && strcmp(f->metric, metric) == 0) {
            return f;
        }
    }
    return NULL;
}

void report_add(struct report *report, const char *name, const char *metric, double value)
{
    struct figure *figure = find(report, name, metric);
    if (figure == NULL) {
        figure = VEC_PUSH(report, figures);
        figure->name = mem_strdup(name);
        figure->metric = mem_strdup(metric);
    }
    ASSERT(figure->values_len < REPORT_RUNS_MAX);
    figure->values[figure->values_len++] = value;
}

void report_latency(struct report *report, const char *name, const struct hist *hist)
{
    ASSERT(hist->count > 0);
    report_add(report, name, "p50 us", (double)hist_quantile(hist, 0.50) / 1e3);
    report_add(report, name, "p99 us", (double)hist_quantile(hist, 0.99) / 1e3);
    report_add(report, name, "p99.9 us", (double)hist_quantile(hist, 0.999) / 1e3);
    report_add(report, name, "max us", (double)hist->max / 1e3);
}

void report_wrong(struct report *report, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "WRONG: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    report->wrong = true;
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summary(const struct figure *figure, double *low, double *median, double *high)
{
    double sorted[REPORT_RUNS_MAX];
    size_t n = figure->values_len;
    ASSERT(n > 0 && n <= REPORT_RUNS_MAX);
    memcpy(sorted, figure->values, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_double);
    *low = sorted[0];
    *high = sorted[n - 1];
    *median = n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static void print_number(double value)
{
    int digits = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 1 ? 2 : 3;
    printf(" %12.*f", value == 0 ? 0 : digits, value);
}

/* The end of the run of figures that belong to one case. */
static size_t case_end(const struct report *report, size_t from)
{
    size_t to = from;
    while (to < report->figures_len &&
           strcmp(report->figures[to].name, report->figures[from].name) == 0) {
        to++;
    }
    return to;
}

static bool same_metrics(const struct report *report, size_t a, size_t b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (strcmp(report->figures[a + i].metric, report->figures[b + i].metric) != 0) {
            return false;
        }
    }
    return true;
}

/* A line a case; a new head line when the metrics change. */
static void print_table(const struct report *report)
{
    struct machine machine;
    machine_describe(&machine);
    printf("%s\n%s, %d CPUs, Linux %s, load %.1f\n", report->title, machine.cpu, machine.cpus,
           machine.kernel, machine.load);
    size_t last = 0;
    size_t last_len = 0;
    for (size_t at = 0; at < report->figures_len;) {
        size_t len = case_end(report, at) - at;
        if (len != last_len || !same_metrics(report, at, last, len)) {
            printf("\n%-26s", "");
            for (size_t i = 0; i < len; i++) {
                printf(" %12s", report->figures[at + i].metric);
            }
            printf("\n");
        }
        printf("%-26s", report->figures[at].name);
        for (size_t i = 0; i < len; i++) {
            double low, median, high;
            summary(&report->figures[at + i], &low, &median, &high);
            print_number(median);
        }
        printf("\n");
        last = at;
        last_len = len;
        at += len;
    }
}

static void print_json(const struct report *report)
{
    struct machine machine;
    machine_describe(&machine);
    printf("{\"title\": \"%s\", \"correct\": %s,\n \"machine\": {\"cpu\": \"%s\", \"cpus\": %d, "
           "\"kernel\": \"%s\", \"load\": %.2f},\n \"figures\": [",
           report->title, report->wrong ? "false" : "true", machine.cpu, machine.cpus,
           machine.kernel, machine.load);
    for (size_t i = 0; i < report->figures_len; i++) {
        const struct figure *f = &report->figures[i];
        double low, median, high;
        summary(f, &low, &median, &high);
        printf("%s\n  {\"case\": \"%s\", \"metric\": \"%s\", \"median\": %.6g, \"min\": %.6g, "
               "\"max\": %.6g, \"runs\": %zu}",
               i == 0 ? "" : ",", f->name, f->metric, median, low, high, f->values_len);
    }
    printf("\n]}\n");
}

void report_print(const struct report *report, bool json)
{
    if (json) {
        print_json(report);
    } else {
        print_table(report);
    }
    fflush(stdout);
}
