/*
 * Feeds gnuplot. See plot.h.
 *
 * gnuplot reads one script from a pipe: for each chart the settings, the plot command, then the
 * data of its lines in order, each ended by a line "e". Settings stay in force from chart to
 * chart, so each kind of chart undoes what the other kind sets. Latencies are drawn over 1 / (1 -
 * share) on a logarithmic axis, which spreads the tail: 10 is the 90th percentile, 1000 the
 * 99.9th; a point is drawn for every tenth more, as far as there are values to tell.
 */
#include "bench/plot.h"

#include "bench/link.h"
#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PLOT_WIDTH = 900, PLOT_HEIGHT = 520 }; /* of one chart */

/* The column that becomes bars; in GB/s the large messages would hide the small ones. */
static const char rate_metric[] = "M msg/s";

/* Groups without durations have no latency chart. */
static bool has_curves(const struct report *report, size_t group)
{
    ASSERT(group < report->groups_len);
    for (size_t i = 0; i < report->curves_len; i++) {
        if (report->curves[i].group == group) {
            return true;
        }
    }
    return false;
}

/* The one metric that is drawn as bars. */
static bool is_rate(const struct figure *figure, size_t group)
{
    return figure->group == group && strcmp(figure->metric, rate_metric) == 0;
}

/* Groups without rates have no bars. */
static bool has_rates(const struct report *report, size_t group)
{
    ASSERT(group < report->groups_len);
    for (size_t i = 0; i < report->figures_len; i++) {
        if (is_rate(&report->figures[i], group)) {
            return true;
        }
    }
    return false;
}

/* Names and titles are ours, but a quote must not end a string of gnuplot's. */
static void put_text(FILE *out, const char *text)
{
    ASSERT(text != NULL);
    for (; *text != '\0'; text++) {
        fputc(*text == '"' || *text == '\\' ? '\'' : *text, out);
    }
}

/* x: 1 / (1 - share): 2 is the median, 100 the 99th percentile. */
static void put_curve(FILE *out, const struct hist *hist)
{
    ASSERT(hist->count > 0);
    for (double x = 1.1; x <= (double)hist->count && x <= 1e6; x *= 1.1) {
        fprintf(out, "%g %g\n", x, (double)hist_quantile(hist, 1 - 1 / x) / 1e3);
    }
    fprintf(out, "e\n");
}

/* One chart: a line a row. Data follow the plot command, each ended by "e". */
static void put_curves(FILE *out, const struct report *report, size_t group)
{
    ASSERT(has_curves(report, group));
    fprintf(out, "set logscale xy; set style data lines; set xlabel \"percentile\"; "
                 "set ylabel \"microseconds\"; unset yrange; set key outside; set grid; "
                 "set xtics (\"50\" 2, \"90\" 10, \"99\" 100, \"99.9\" 1000, \"99.99\" 10000, "
                 "\"99.999\" 100000) norotate; set title \"");
    put_text(out, report->groups[group]);
    fprintf(out, "\"\nplot ");
    bool first = true;
    for (size_t i = 0; i < report->curves_len; i++) {
        if (report->curves[i].group == group) {
            fprintf(out, "%s'-' title \"", first ? "" : ", ");
            put_text(out, report->curves[i].name);
            fprintf(out, "\" linewidth 2");
            first = false;
        }
    }
    fprintf(out, "\n");
    for (size_t i = 0; i < report->curves_len; i++) {
        if (report->curves[i].group == group) {
            put_curve(out, report->curves[i].hist);
        }
    }
}

/* One chart: medians of a row's runs, on a logarithmic axis since peers differ by powers of ten. */
static void put_rates(FILE *out, const struct report *report, size_t group)
{
    ASSERT(has_rates(report, group));
    fprintf(out, "unset logscale x; set logscale y; set style fill solid 0.6; set boxwidth 0.7; "
                 "unset xlabel; set ylabel \"million messages a second\"; unset key; set grid y; "
                 "set xtics auto rotate by -30; set title \"");
    put_text(out, report->groups[group]);
    fprintf(out, "\"\nplot '-' using 0:2:xtic(1) with boxes\n");
    for (size_t i = 0; i < report->figures_len; i++) {
        if (is_rate(&report->figures[i], group)) {
            fprintf(out, "\"");
            put_text(out, report->figures[i].name);
            fprintf(out, "\" %g\n", report_median(&report->figures[i]));
        }
    }
    fprintf(out, "e\n");
}

/* The whole script: two charts a line. */
static void put_all(FILE *out, const struct report *report, const char *path, size_t charts)
{
    size_t rows = (charts + 1) / 2;
    const char *ending = strrchr(path, '.');
    bool png = ending != NULL && strcmp(ending, ".png") == 0;
    ASSERT(charts > 0);
    fprintf(out, "set terminal %s size %d,%zu\nset output \"", png ? "pngcairo" : "svg",
            charts > 1 ? 2 * PLOT_WIDTH : PLOT_WIDTH, rows * PLOT_HEIGHT);
    put_text(out, path);
    fprintf(out, "\"\nset multiplot layout %zu,%d\n", rows, charts > 1 ? 2 : 1);
    for (size_t group = 0; group < report->groups_len; group++) {
        if (has_curves(report, group)) {
            put_curves(out, report, group);
        }
        if (has_rates(report, group)) {
            put_rates(out, report, group);
        }
    }
    fprintf(out, "unset multiplot\n");
}

err_t plot_write(const struct report *report, const char *path)
{
    size_t charts = 0;
    ASSERT(path != NULL);
    for (size_t group = 0; group < report->groups_len; group++) {
        charts += (has_curves(report, group) ? 1 : 0) + (has_rates(report, group) ? 1 : 0);
    }
    if (charts == 0) {
        return err_new(ERR_INVALID, "nothing to plot");
    }
    if (!link_program("gnuplot")) {
        return err_new(ERR_UNSUPPORTED, "gnuplot is not installed (scripts/install-deps --bench)");
    }
    /* Where it cannot write the file it writes to its output, which is the report's. */
    FILE *gnuplot = popen("exec gnuplot >/dev/null", "we");
    if (gnuplot == NULL) {
        return err_errno(errno, "starting gnuplot");
    }
    put_all(gnuplot, report, path, charts);
    int status = pclose(gnuplot);
    return status == 0 ? ERR_OK : err_new(ERR_IO, "gnuplot ended with status %d", status);
}
