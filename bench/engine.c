/*
 * tailrace-bench engine: each workload through the engine and through the hand-written loop, in
 * turn, several times. Their outcomes must agree with each other and, at scale 1, with the known
 * answers.
 *
 * Closed loop: a round is handed over when the one before it is done, because what is measured is
 * how long the engine takes for a round of that size; how long rounds wait in a queue at a given
 * rate follows from it. Rounds of one row show the cost of a round, rounds of thousands that of a
 * row. Of several workers the round is over when it is over on all of them (replica.c).
 *
 * The loop gets the same updates in the same order and must come to the same outcome: a count, a
 * sum of signs, and an order-independent checksum over every record put out. Where the workload is
 * run whole the outcome is also known in advance, from a third implementation.
 */
#include "bench/link.h"
#include "bench/loops.h"
#include "bench/machine.h"
#include "bench/options.h"
#include "bench/replica.h"
#include "bench/report.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>

/* The hand-written loop through all phases, one after the other on the same state. */
static void run_loop(const struct workload *workload, struct measure *measures)
{
    struct generator generator;
    struct loop *loop = loop_new(workload->kind);
    ASSERT(workload->phases_len > 0);
    generator_init(&generator, workload);
    size_t most = 0;
    for (size_t p = 0; p < workload->phases_len; p++) {
        most = workload->phases[p].per_round > most ? workload->phases[p].per_round : most;
    }
    struct update *updates = mem_alloc(most * sizeof(*updates));
    for (size_t p = 0; p < workload->phases_len; p++) {
        const struct phase *phase = &workload->phases[p];
        struct measure *measure = &measures[p];
        hist_clear(&measure->hist);
        for (size_t round = 0; round < phase->rounds; round++) {
            for (size_t i = 0; i < phase->per_round; i++) {
                generator_next(&generator, p == 0, &updates[i]);
            }
            uint64_t start = machine_now_ns();
            loop_run(loop, updates, phase->per_round);
            hist_add(&measure->hist, machine_now_ns() - start);
        }
        measure->rate = (double)(phase->rounds * phase->per_round) * 1e3 /
                        (double)measure->hist.sum;
        measure->mib = (double)loop_memory(loop) / 1048576;
        measure->outcome = loop_outcome(loop);
    }
    loop_free(loop);
    free(updates);
}

/* Engine and loop must agree, and both with what is known of the workload. */
static void check(struct report *report, const struct workload *workload, size_t p,
                  const struct outcome *engine, const struct outcome *loop)
{
    const struct phase *phase = &workload->phases[p];
    ASSERT(p < workload->phases_len);
    /* The loop does not cancel within a round of the join. */
    bool fewer = workload->kind == WORKLOAD_JOIN;
    if (engine->net != loop->net || engine->checksum != loop->checksum ||
        (fewer ? engine->updates > loop->updates : engine->updates != loop->updates)) {
        report_wrong(report, "%s, %s: engine %llu updates, net %lld, %016llx; loop %llu, %lld, "
                     "%016llx", workload->name, phase->name,
                     (unsigned long long)engine->updates, (long long)engine->net,
                     (unsigned long long)engine->checksum, (unsigned long long)loop->updates,
                     (long long)loop->net, (unsigned long long)loop->checksum);
    }
    const struct outcome *expected = &phase->expected;
    if (phase->checked &&
        (engine->updates != expected->updates || engine->net != expected->net ||
         engine->checksum != expected->checksum)) {
        report_wrong(report, "%s, %s: %llu updates, net %lld, %016llx; known: %llu, %lld, %016llx",
                     workload->name, phase->name, (unsigned long long)engine->updates,
                     (long long)engine->net, (unsigned long long)engine->checksum,
                     (unsigned long long)expected->updates, (long long)expected->net,
                     (unsigned long long)expected->checksum);
    }
}

/* A row a phase. */
static void add_figures(struct report *report, const struct workload *workload, size_t p,
                        const struct measure *engine, const struct measure *loop)
{
    char name[64];
    ASSERT(p < workload->phases_len);
    ASSERT(loop->rate > 0);
    snprintf(name, sizeof(name), "%s, %s", workload->name, workload->phases[p].name);
    report_add(report, name, "M updates/s", engine->rate);
    report_add(report, name, "loop M/s", loop->rate);
    report_add(report, name, "of loop", engine->rate / loop->rate);
    report_latency(report, name, &engine->hist);
    report_add(report, name, "loop p50 us", (double)hist_quantile(&loop->hist, 0.5) / 1e3);
    report_add(report, name, "longest step us", engine->step_us);
    report_add(report, name, "busy ns", engine->busy_ns);
    report_add(report, name, "engine MiB", engine->mib);
    report_add(report, name, "loop MiB", loop->mib);
}

/* Engine first, then the loop, each alone in memory. */
static void run_once(const struct workload *workload, const struct replica_shape *shape,
                     struct report *report)
{
    struct measure *engine = mem_zalloc(workload->phases_len * sizeof(*engine));
    struct measure *loop = mem_zalloc(workload->phases_len * sizeof(*loop));
    ASSERT(workload->phases_len > 0);
    err_t err = replica_run(shape, workload, engine);
    if (err == ERR_OK) {
        run_loop(workload, loop);
    } else {
        report_wrong(report, "%s: %s", workload->name, err_text(err));
    }
    for (size_t p = 0; p < workload->phases_len && err == ERR_OK; p++) {
        check(report, workload, p, &engine[p].outcome, &loop[p].outcome);
        add_figures(report, workload, p, &engine[p], &loop[p]);
    }
    err_free(err);
    free(engine);
    free(loop);
}

static void run_all(const struct options *options, const struct replica_shape *shape,
                    struct report *report)
{
    bool found = false;
    ASSERT(options->runs >= 1);
    for (size_t w = 0; w < workloads_len; w++) {
        if (options->workload != NULL && strcmp(options->workload, workloads[w].group) != 0) {
            continue;
        }
        found = true;
        struct workload workload = workload_scaled(&workloads[w], options->scale);
        for (int run = 0; run < options->runs; run++) {
            run_once(&workload, shape, report);
        }
    }
    if (found) {
        report_add(report, "process", "peak MiB", machine_peak_mib());
    } else {
        report_wrong(report, "no workload %s", options->workload);
    }
}

void bench_engine(const struct options *options, struct report *report)
{
    char directory[160];
    struct replica_shape shape = {.workers = (uint32_t)options->workers,
                                  .processes = (uint32_t)options->processes,
                                  .tcp = options->link != NULL && strcmp(options->link, "tcp") == 0,
                                  .directory = directory};
    if (shape.workers % shape.processes != 0) {
        report_wrong(report, "%u workers cannot be in %u processes", shape.workers,
                     shape.processes);
        return;
    }
    snprintf(directory, sizeof(directory), "%s/tailrace-bench-XXXXXX", options->directory);
    if (mkdtemp(directory) == NULL) {
        report_wrong(report, "no temporary directory in %s", options->directory);
        return;
    }
    run_all(options, &shape, report);
    link_remove_directory(directory);
}
