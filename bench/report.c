/*
 * Tables and JSON. See report.h.
 *
 * Figures are few (hundreds), so everything is found by going through all of them: no index to
 * keep true. A table is made of what there is: columns are the metrics of the group in the order
 * in which they first came, rows its names in the same way. A goal is printed in the cell of its
 * figure, and "ok" or "--" behind it, so that a table can be read down one column.
 *
 * Medians rather than means: on a machine that others use, some runs are disturbed, and a median
 * of three forgets one of them. Ratios are added as figures of their own, run by run, because the
 * median of ratios is not the ratio of medians where the machine changes between runs.
 */
#include "bench/report.h"

#include "bench/machine.h"
#include "core/base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void report_init(struct report *report, const char *title)
{
    ASSERT(title != NULL);
    *report = (struct report){.title = title};
}

void report_free(struct report *report)
{
    ASSERT(report->curves_len <= report->curves_cap);
    for (size_t i = 0; i < report->figures_len; i++) {
        free(report->figures[i].name);
        free(report->figures[i].metric);
    }
    for (size_t i = 0; i < report->curves_len; i++) {
        free(report->curves[i].name);
        free(report->curves[i].hist);
    }
    for (size_t i = 0; i < report->groups_len; i++) {
        free(report->groups[i]);
    }
    free(report->figures);
    free(report->curves);
    free(report->groups);
}

/* ---- collecting ------------------------------------------------------------------------------ */

void report_group(struct report *report, const char *title)
{
    ASSERT(title != NULL);
    for (size_t i = 0; i < report->groups_len; i++) {
        if (strcmp(report->groups[i], title) == 0) {
            report->group = i;
            return;
        }
    }
    *VEC_PUSH(report, groups) = mem_strdup(title);
    report->group = report->groups_len - 1;
}

/* NULL: there is none yet. */
static struct figure *find(const struct report *report, size_t group, const char *name,
                           const char *metric)
{
    ASSERT(group < report->groups_len);
    for (size_t i = 0; i < report->figures_len; i++) {
        struct figure *f = &report->figures[i];
        if (f->group == group && strcmp(f->name, name) == 0 && strcmp(f->metric, metric) == 0) {
            return f;
        }
    }
    return NULL;
}

void report_add(struct report *report, const char *name, const char *metric, double value)
{
    ASSERT(name != NULL && metric != NULL);
    report_goal(report, name, metric, value, REPORT_NO_GOAL, 0);
}

void report_goal(struct report *report, const char *name, const char *metric, double value,
                 enum report_sense sense, double goal)
{
    if (report->groups_len == 0) {
        report_group(report, report->title);
    }
    ASSERT(report->group < report->groups_len);
    struct figure *figure = find(report, report->group, name, metric);
    if (figure == NULL) {
        figure = VEC_PUSH(report, figures);
        *figure = (struct figure){.group = report->group, .name = mem_strdup(name),
                                  .metric = mem_strdup(metric), .sense = sense, .goal = goal};
    }
    ASSERT(figure->values_len < REPORT_RUNS_MAX);
    ASSERT(figure->sense == sense);
    figure->values[figure->values_len++] = value;
}

void report_text(struct report *report, const char *name, const char *metric, const char *text)
{
    ASSERT(text != NULL);
    report_add(report, name, metric, 0);
    struct figure *figure = find(report, report->group, name, metric);
    bool same = figure->text == NULL || strcmp(figure->text, text) == 0;
    figure->text = same ? text : "mixed";
}

/* The row's durations of all runs together, made at the first. */
static struct hist *curve(struct report *report, const char *name)
{
    ASSERT(report->group < report->groups_len);
    for (size_t i = 0; i < report->curves_len; i++) {
        struct report_curve *c = &report->curves[i];
        if (c->group == report->group && strcmp(c->name, name) == 0) {
            return c->hist;
        }
    }
    struct report_curve *c = VEC_PUSH(report, curves);
    *c = (struct report_curve){.group = report->group, .name = mem_strdup(name),
                               .hist = MEM_NEW(struct hist)};
    return c->hist;
}

void report_latency(struct report *report, const char *name, const struct hist *hist)
{
    ASSERT(hist->count > 0);
    report_add(report, name, "p50 us", (double)hist_quantile(hist, 0.50) / 1e3);
    report_add(report, name, "p99 us", (double)hist_quantile(hist, 0.99) / 1e3);
    report_add(report, name, "p99.9 us", (double)hist_quantile(hist, 0.999) / 1e3);
    report_add(report, name, "max us", (double)hist->max / 1e3);
    hist_merge(curve(report, name), hist);
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

/* ---- what the values say --------------------------------------------------------------------- */

/* For qsort; figures are never NaN. */
static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Least, median and largest of the runs. Of an even number the median is the mean of the middle
 * two. */
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
    ASSERT(*low <= *median && *median <= *high);
}

double report_median(const struct figure *figure)
{
    double low, median, high;
    summary(figure, &low, &median, &high);
    return median;
}

bool report_met(const struct figure *figure)
{
    ASSERT(figure->sense != REPORT_NO_GOAL);
    double median = report_median(figure);
    return figure->sense == REPORT_AT_MOST ? median <= figure->goal : median >= figure->goal;
}

/* ---- the table ------------------------------------------------------------------------------- */

/* "12.3", or with a goal "0.93 >=1.5 -": the sign at the end says whether it is met. */
static void cell(const struct figure *figure, char *out, size_t size)
{
    if (figure->text != NULL) {
        snprintf(out, size, "%s", figure->text);
        return;
    }
    double value = report_median(figure);
    int digits = value >= 1000 || value == 0 ? 0 : value >= 100 ? 1 : value >= 1 ? 2 : 3;
    int len = snprintf(out, size, "%.*f", digits, value);
    ASSERT(len > 0 && (size_t)len < size);
    if (figure->sense != REPORT_NO_GOAL) {
        snprintf(out + len, size - (size_t)len, " %s%g %s",
                 figure->sense == REPORT_AT_MOST ? "<=" : ">=", figure->goal,
                 report_met(figure) ? "ok" : "--");
    }
}

/* Is figure i the first of its group with that name (or that metric)? */
static bool first_of(const struct report *report, size_t i, bool name)
{
    const struct figure *f = &report->figures[i];
    ASSERT(i < report->figures_len);
    for (size_t j = 0; j < i; j++) {
        const struct figure *g = &report->figures[j];
        if (g->group == f->group && strcmp(name ? g->name : g->metric,
                                           name ? f->name : f->metric) == 0) {
            return false;
        }
    }
    return true;
}

/* Columns of a group: figures that are the first with their metric, and how wide each must be. */
struct column {
    const char *metric;
    int width;
};

enum { COLUMNS_MAX = 24, CELL_MAX = 64, NAME_MIN = 18 };

/* Rows need not have the same metrics: a column is there when any row has it. */
static size_t columns_of(const struct report *report, size_t group, struct column *columns)
{
    size_t len = 0;
    ASSERT(group < report->groups_len);
    for (size_t i = 0; i < report->figures_len && len < COLUMNS_MAX; i++) {
        if (report->figures[i].group == group && first_of(report, i, false)) {
            columns[len++] = (struct column){.metric = report->figures[i].metric};
        }
    }
    for (size_t c = 0; c < len; c++) {
        columns[c].width = (int)strlen(columns[c].metric);
        for (size_t i = 0; i < report->figures_len; i++) {
            const struct figure *f = &report->figures[i];
            if (f->group == group && strcmp(f->metric, columns[c].metric) == 0) {
                char text[CELL_MAX];
                cell(f, text, sizeof(text));
                int width = (int)strlen(text);
                columns[c].width = width > columns[c].width ? width : columns[c].width;
            }
        }
    }
    return len;
}

/* Cells without a figure stay empty. */
static void print_row(const struct report *report, size_t group, const char *name, int name_width,
                      const struct column *columns, size_t columns_len)
{
    ASSERT(columns_len <= COLUMNS_MAX);
    printf("%-*s", name_width, name);
    for (size_t c = 0; c < columns_len; c++) {
        char text[CELL_MAX] = "";
        const struct figure *f = find(report, group, name, columns[c].metric);
        if (f != NULL) {
            cell(f, text, sizeof(text));
        }
        printf("  %*s", columns[c].width, text);
    }
    printf("\n");
}

/* Rows in the order in which they were first added. */
static void print_group(const struct report *report, size_t group)
{
    struct column columns[COLUMNS_MAX];
    size_t columns_len = columns_of(report, group, columns);
    int name_width = NAME_MIN;
    ASSERT(group < report->groups_len);
    for (size_t i = 0; i < report->figures_len; i++) {
        int width = (int)strlen(report->figures[i].name);
        if (report->figures[i].group == group && width > name_width) {
            name_width = width;
        }
    }
    printf("\n%s\n%*s", report->groups[group], name_width, "");
    for (size_t c = 0; c < columns_len; c++) {
        printf("  %*s", columns[c].width, columns[c].metric);
    }
    printf("\n");
    for (size_t i = 0; i < report->figures_len; i++) {
        if (report->figures[i].group == group && first_of(report, i, true)) {
            print_row(report, group, report->figures[i].name, name_width, columns, columns_len);
        }
    }
}

/* And how many goals are met, as the last line. */
static void print_table(const struct report *report)
{
    struct machine machine;
    machine_describe(&machine);
    printf("%s\n%s, %d CPUs, Linux %s, load %.1f\n", report->title, machine.cpu, machine.cpus,
           machine.kernel, machine.load);
    for (size_t group = 0; group < report->groups_len; group++) {
        print_group(report, group);
    }
    size_t goals = 0;
    size_t met = 0;
    for (size_t i = 0; i < report->figures_len; i++) {
        if (report->figures[i].sense != REPORT_NO_GOAL) {
            goals++;
            met += report_met(&report->figures[i]) ? 1 : 0;
        }
    }
    if (goals > 0) {
        printf("\n%zu of %zu goals are met (ok; others: --).\n", met, goals);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------ */

/* JSON has no word for what is not finite. */
static void print_number(const char *name, double value)
{
    if (isfinite(value)) {
        printf(", \"%s\": %.6g", name, value);
    } else {
        printf(", \"%s\": null", name);
    }
}

/* An object a figure, with all that the table rounds away. */
static void print_figure(const struct report *report, const struct figure *f)
{
    double low, median, high;
    ASSERT(f->group < report->groups_len);
    if (f->text != NULL) {
        printf("{\"group\": \"%s\", \"case\": \"%s\", \"metric\": \"%s\", \"text\": \"%s\"}",
               report->groups[f->group], f->name, f->metric, f->text);
        return;
    }
    summary(f, &low, &median, &high);
    printf("{\"group\": \"%s\", \"case\": \"%s\", \"metric\": \"%s\"", report->groups[f->group],
           f->name, f->metric);
    print_number("median", median);
    print_number("min", low);
    print_number("max", high);
    printf(", \"runs\": %zu", f->values_len);
    if (f->sense != REPORT_NO_GOAL) {
        printf(", \"goal\": \"%s %g\", \"met\": %s", f->sense == REPORT_AT_MOST ? "<=" : ">=",
               f->goal, report_met(f) ? "true" : "false");
    }
    printf("}");
}

/* Names are ours and need no escaping; the CPU's was cleaned when it was read. */
static void print_json(const struct report *report)
{
    struct machine machine;
    machine_describe(&machine);
    printf("{\"title\": \"%s\", \"correct\": %s,\n \"machine\": {\"cpu\": \"%s\", \"cpus\": %d, "
           "\"kernel\": \"%s\", \"load\": %.2f},\n \"figures\": [",
           report->title, report->wrong ? "false" : "true", machine.cpu, machine.cpus,
           machine.kernel, machine.load);
    for (size_t i = 0; i < report->figures_len; i++) {
        printf("%s\n  ", i == 0 ? "" : ",");
        print_figure(report, &report->figures[i]);
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
