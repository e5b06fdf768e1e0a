/*
 * tailrace-bench engine: each workload through the engine and through the hand-written loop, in
 * turn, several times. Their outcomes must agree with each other and, at scale 1, with the known
 * answers.
 *
 * Closed loop: a round is handed over when the one before it is done, because what is measured is
 * how long the engine takes for a round of that size; how long rounds wait in a queue at a given
 * rate follows from it. Rounds of one row show the cost of a round, rounds of thousands that of a
 * row.
 *
 * The loop gets the same updates in the same order and must come to the same outcome: a count, a
 * sum of signs, and an order-independent checksum over every record put out. Where the workload is
 * run whole the outcome is also known in advance, from a third implementation.
 */
#include "bench/dataflow.h"
#include "bench/loops.h"
#include "bench/machine.h"
#include "bench/options.h"
#include "bench/report.h"

#include "core/base/mem.h"

#include <stdio.h>

/* Who does the work: one of the two is set. */
struct target {
    struct dataflow_bench *engine; /* ours */
    struct loop *loop;             /* what a programmer would write for this one workload */
};

/* What came out so far, in numbers that do not depend on the order it came in. */
static struct outcome outcome_of(const struct target *target)
{
    ASSERT((target->engine != NULL) != (target->loop != NULL));
    return target->engine != NULL ? dataflow_bench_outcome(target->engine)
                                  : loop_outcome(target->loop);
}

/* Nanoseconds of one round. The engine's input is made into batches before the clock starts: it
 * gets batches in production too. */
static uint64_t run_round(struct target *target, const struct update *updates, size_t len)
{
    ASSERT(len > 0);
    if (target->engine != NULL) {
        dataflow_bench_prepare(target->engine, updates, len);
        uint64_t start = machine_now_ns();
        dataflow_bench_run(target->engine);
        return machine_now_ns() - start;
    }
    uint64_t start = machine_now_ns();
    loop_run(target->loop, updates, len);
    return machine_now_ns() - start;
}

/* What one phase of one run of one target gave. */
struct measure {
    struct hist hist; /* of rounds */
    double rate;      /* million updates a second */
    double mib;       /* held at the phase's end */
    double step_us;   /* engine: the longest step, of rounds that are not small */
    struct outcome outcome;
};

/* All phases in turn on the same state; the generator makes the same updates for both targets. */
static void run_target(const struct workload *workload, struct target *target,
                       struct measure *measures)
{
    struct generator generator;
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
            hist_add(&measure->hist, run_round(target, updates, phase->per_round));
        }
        measure->rate = (double)(phase->rounds * phase->per_round) * 1e3 /
                        (double)measure->hist.sum;
        uint64_t bytes = target->engine != NULL ? dataflow_bench_memory(target->engine)
                                                : loop_memory(target->loop);
        measure->mib = (double)bytes / 1048576;
        measure->step_us =
            target->engine != NULL ? (double)dataflow_bench_longest_step(target->engine) / 1e3 : 0;
        measure->outcome = outcome_of(target);
    }
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
    report_add(report, name, "engine MiB", engine->mib);
    report_add(report, name, "loop MiB", loop->mib);
}

/* Engine first, then the loop, each alone in memory. */
static void run_once(const struct workload *workload, uint32_t workers, struct io_loop *clock,
                     struct report *report)
{
    struct measure *engine = mem_zalloc(workload->phases_len * sizeof(*engine));
    struct measure *loop = mem_zalloc(workload->phases_len * sizeof(*loop));
    struct target target = {.engine = dataflow_bench_new(workload->kind, workers, clock)};
    ASSERT(workload->phases_len > 0);
    run_target(workload, &target, engine);
    dataflow_bench_free(target.engine);
    target = (struct target){.loop = loop_new(workload->kind)};
    run_target(workload, &target, loop);
    loop_free(target.loop);
    for (size_t p = 0; p < workload->phases_len; p++) {
        check(report, workload, p, &engine[p].outcome, &loop[p].outcome);
        add_figures(report, workload, p, &engine[p], &loop[p]);
    }
    free(engine);
    free(loop);
}

/* What runs inside the loop. */
struct session {
    const struct options *options;
    struct report *report;
};

/* All workloads asked for, from one call of the loop: it lends its clock, nothing else. */
static void run_all(struct io_loop *loop, void *arg)
{
    const struct session *session = arg;
    const struct options *options = session->options;
    bool found = false;
    ASSERT(options->runs >= 1);
    for (size_t w = 0; w < workloads_len; w++) {
        if (options->workload != NULL && strcmp(options->workload, workloads[w].group) != 0) {
            continue;
        }
        found = true;
        struct workload workload = workload_scaled(&workloads[w], options->scale);
        for (int run = 0; run < options->runs; run++) {
            run_once(&workload, (uint32_t)options->workers, loop, session->report);
        }
    }
    if (found) {
        report_add(session->report, "process", "peak MiB", machine_peak_mib());
    } else {
        report_wrong(session->report, "no workload %s", options->workload);
    }
    io_loop_stop(loop);
}

void bench_engine(const struct options *options, struct report *report)
{
    struct session session = {options, report};
    struct io_env *env = NULL;
    err_t err = io_env_new_real(&env);
    if (err == ERR_OK) {
        err = io_main(env, run_all, &session);
        io_env_free(env);
    }
    if (err != ERR_OK) {
        report_wrong(report, "%s", err_text(err));
        err_free(err);
    }
}
