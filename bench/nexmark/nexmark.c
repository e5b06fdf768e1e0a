/*
 * tailrace-bench nexmark: each query over the same stream, in rounds of a thousand and of fifty
 * thousand events; closed loop, one worker, events made beforehand.
 *
 * Q3, Q4 and Q17 run beside a loop written by hand (loops.h), which must come to the same rows.
 *
 * Answers are checked three ways: both sizes of rounds must come to the same answer (by an
 * order-independent checksum over its rows), at 100,000 and 1,000,000 events it must have the rows
 * it is known to have, and --answers writes it out so that another database can be asked the same
 * (tests/nexmark does).
 */
#include "bench/hist.h"
#include "bench/machine.h"
#include "bench/nexmark/loops.h"
#include "bench/options.h"
#include "bench/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS = 1000000 }; /* at scale 1 */

static const uint64_t round_sizes[] = {1000, 50000};
enum { SIZES = sizeof(round_sizes) / sizeof(round_sizes[0]) };

/* What all queries share. */
struct setting {
    const struct options *options;
    struct report *report;
    uint64_t events;
    struct nexmark_rounds *rounds[SIZES];
};

/* One run of one query. */
struct measure {
    struct hist hist;
    struct nexmark_outcome outcome;
    double mib;
};

/* All rounds; the clock runs while the engine works. */
static err_t run_rounds(struct nexmark_flow *flow, const struct nexmark_rounds *rounds,
                        struct measure *out)
{
    hist_clear(&out->hist);
    for (size_t round = 0; round < rounds->len; round++) {
        uint64_t begin = machine_now_ns();
        TRY(nexmark_flow_run(flow, rounds, round));
        hist_add(&out->hist, machine_now_ns() - begin);
    }
    out->outcome = nexmark_flow_outcome(flow);
    out->mib = (double)nexmark_flow_memory(flow) / 1048576;
    return ERR_OK;
}

static err_t run_query(const struct nexmark_query *query, const struct nexmark_rounds *rounds,
                       FILE *answers, struct measure *out)
{
    struct nexmark_flow *flow;
    TRY(nexmark_flow_new(query->sql, answers, &flow));
    err_t err = run_rounds(flow, rounds, out);
    nexmark_flow_free(flow);
    return err;
}

/* False: there is no loop for this query. */
static bool run_loop(const struct nexmark_query *query, const struct nexmark_rounds *rounds,
                     struct measure *out)
{
    struct nexmark_loop *loop = nexmark_loop_new(query->name);
    if (loop == NULL) {
        return false;
    }
    hist_clear(&out->hist);
    for (size_t round = 0; round < rounds->len; round++) {
        uint64_t begin = machine_now_ns();
        nexmark_loop_run(loop, rounds, round);
        hist_add(&out->hist, machine_now_ns() - begin);
    }
    out->outcome = nexmark_loop_outcome(loop);
    nexmark_loop_free(loop);
    return true;
}

/* 0: the number of rows is not known for this many events. */
static uint64_t known_rows(const struct nexmark_query *query, uint64_t events)
{
    return events == 100000 ? query->rows_100k : events == 1000000 ? query->rows_1m : 0;
}

static void check(struct setting *setting, const struct nexmark_query *query,
                  const struct measure *measures)
{
    uint64_t known = known_rows(query, setting->events);
    const struct nexmark_outcome *first = &measures[0].outcome;
    if (known != 0 && first->rows != (int64_t)known) {
        report_wrong(setting->report, "%s: %lld rows instead of %llu", query->name,
                     (long long)first->rows, (unsigned long long)known);
    }
    for (int s = 1; s < SIZES; s++) {
        const struct nexmark_outcome *other = &measures[s].outcome;
        if (other->rows != first->rows || other->checksum != first->checksum) {
            report_wrong(setting->report, "%s: rounds of %llu and of %llu events differ: %lld rows "
                         "%016llx, %lld rows %016llx", query->name,
                         (unsigned long long)round_sizes[0], (unsigned long long)round_sizes[s],
                         (long long)first->rows, (unsigned long long)first->checksum,
                         (long long)other->rows, (unsigned long long)other->checksum);
        }
    }
}

/* "q3, rounds of 1000" */
static void row_name(const struct nexmark_query *query, int size, char name[64])
{
    snprintf(name, 64, "%s, rounds of %llu", query->name, (unsigned long long)round_sizes[size]);
}

/* Beside the engine's run just done: over the same rounds, and it must have the same answer. */
static void compare_loop(struct setting *setting, const struct nexmark_query *query, int size,
                         const struct measure *engine)
{
    char name[64];
    struct measure loop;
    const struct nexmark_outcome *ours = &engine->outcome, *theirs = &loop.outcome;
    if (!run_loop(query, setting->rounds[size], &loop)) {
        return;
    }
    row_name(query, size, name);
    if (ours->rows != theirs->rows || ours->updates != theirs->updates ||
        ours->ints != theirs->ints) {
        report_wrong(setting->report, "%s: engine %llu updates, %lld rows, sum %016llx; loop %llu, "
                     "%lld, %016llx", name, (unsigned long long)ours->updates,
                     (long long)ours->rows, (unsigned long long)ours->ints,
                     (unsigned long long)theirs->updates, (long long)theirs->rows,
                     (unsigned long long)theirs->ints);
    }
    ASSERT(loop.hist.sum > 0 && engine->hist.sum > 0);
    report_add(setting->report, name, "loop M/s",
               (double)setting->events * 1e3 / (double)loop.hist.sum);
    report_add(setting->report, name, "of loop",
               (double)loop.hist.sum / (double)engine->hist.sum);
}

static void add_figures(struct setting *setting, const struct nexmark_query *query,
                        const struct measure *measures)
{
    struct report *report = setting->report;
    for (int s = 0; s < SIZES; s++) {
        char name[64];
        row_name(query, s, name);
        const struct measure *m = &measures[s];
        ASSERT(m->hist.sum > 0);
        report_add(report, name, "M events/s", (double)setting->events * 1e3 / (double)m->hist.sum);
        report_latency(report, name, &m->hist);
        report_add(report, name, "engine MiB", m->mib);
        report_add(report, name, "updates out", (double)m->outcome.updates);
        report_add(report, name, "rows", (double)m->outcome.rows);
        compare_loop(setting, query, s, m);
    }
}

/* DIR/q3.tsv; NULL when --answers was not given. */
static err_t open_answers(const struct options *options, const char *name, FILE **out)
{
    char path[512];
    *out = NULL;
    if (options->answers == NULL) {
        return ERR_OK;
    }
    int len = snprintf(path, sizeof(path), "%s/%s", options->answers, name);
    if (len < 0 || (size_t)len >= sizeof(path)) {
        return err_new(ERR_LIMIT, "--answers: the path is too long");
    }
    *out = fopen(path, "we");
    return *out == NULL ? err_errno(errno, path) : ERR_OK;
}

static err_t close_answers(FILE *file)
{
    if (file != NULL && fclose(file) != 0) {
        return err_errno(errno, "writing answers");
    }
    return ERR_OK;
}

/* Answers are written by a run of their own: what is measured does not print. */
static err_t write_answers(struct setting *setting, const struct nexmark_query *query)
{
    char name[32];
    FILE *file;
    struct measure unused;
    snprintf(name, sizeof(name), "%s.tsv", query->name);
    TRY(open_answers(setting->options, name, &file));
    if (file == NULL) {
        return ERR_OK;
    }
    err_t err = run_query(query, setting->rounds[0], file, &unused);
    err_t closed = close_answers(file);
    if (err != ERR_OK) {
        err_free(closed);
        return err;
    }
    return closed;
}

static void bench_query(struct setting *setting, const struct nexmark_query *query)
{
    struct measure measures[SIZES];
    for (int run = 0; run < setting->options->runs; run++) {
        for (int s = 0; s < SIZES; s++) {
            err_t err = run_query(query, setting->rounds[s], NULL, &measures[s]);
            if (err != ERR_OK) {
                report_wrong(setting->report, "%s: %s", query->name, err_text(err));
                err_free(err);
                return;
            }
        }
        check(setting, query, measures);
        add_figures(setting, query, measures);
    }
    err_t err = write_answers(setting, query);
    if (err != ERR_OK) {
        report_wrong(setting->report, "%s: %s", query->name, err_text(err));
        err_free(err);
    }
}

/* The events themselves, for another database: DIR/events.json. */
static err_t write_events(const struct setting *setting, const struct nexmark *nexmark)
{
    FILE *file;
    struct nexmark_event event;
    char line[NEXMARK_JSON_MAX];
    TRY(open_answers(setting->options, "events.json", &file));
    for (uint64_t n = 0; file != NULL && n < setting->events; n++) {
        nexmark_event(nexmark, n, &event);
        fwrite(line, 1, nexmark_json(&event, line), file); /* fclose tells of errors */
    }
    return close_answers(file);
}

static void run_all(struct setting *setting)
{
    bool found = false;
    for (size_t q = 0; q < nexmark_queries_len; q++) {
        const struct nexmark_query *query = &nexmark_queries[q];
        const char *wanted = setting->options->workload;
        if (wanted == NULL || strcmp(wanted, query->name) == 0) {
            found = true;
            bench_query(setting, query);
        }
    }
    if (!found) {
        report_wrong(setting->report, "no query %s", setting->options->workload);
    }
}

void bench_nexmark(const struct options *options, struct report *report)
{
    struct setting setting = {.options = options, .report = report};
    struct nexmark *nexmark = nexmark_new(&(struct nexmark_config){.wide_times = false});
    setting.events = (uint64_t)(EVENTS * options->scale + 0.5);
    err_t err = write_events(&setting, nexmark);
    if (err != ERR_OK) {
        report_wrong(report, "%s", err_text(err));
        err_free(err);
    }
    for (int s = 0; s < SIZES; s++) {
        setting.rounds[s] = nexmark_rounds_new(nexmark, setting.events, round_sizes[s]);
    }
    run_all(&setting);
    for (int s = 0; s < SIZES; s++) {
        nexmark_rounds_free(setting.rounds[s]);
    }
    nexmark_free(nexmark);
}
