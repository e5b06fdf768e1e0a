/* Seeds one after another: see seeds.h. */
#include "tests/sim/seeds.h"

#include "core/base/assert.h"
#include "core/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COVERAGE_SEEDS = 10 }; /* from so many on every kind of fault must have hit */

struct flags {
    uint64_t first, count;
    unsigned scale, workers; /* 0: by seed */
    bool trace;
};

static bool parse(const struct seeds *seeds, int argc, char **argv, struct flags *flags)
{
    ASSERT(seeds->count > 0 && seeds->repeat_every > 0);
    *flags = (struct flags){.first = 1, .count = seeds->count};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--seed") == 0 && more) {
            flags->first = strtoull(argv[++i], NULL, 10);
            flags->count = 1;
        } else if (strcmp(argv[i], "--seeds") == 0 && more) {
            flags->count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--shape") == 0 && more) {
            if (sscanf(argv[++i], "%ux%u", &flags->scale, &flags->workers) != 2) {
                return false;
            }
        } else if (strcmp(argv[i], "--trace") == 0) {
            flags->trace = true;
        } else {
            return false;
        }
    }
    return true;
}

static bool run_one(const struct seeds *seeds, const struct flags *flags, uint64_t number,
                    struct world_counts *counts)
{
    struct seed seed = {.number = number, .trace = flags->trace};
    seeds->shape(number, &seed.scale, &seed.workers);
    seed.scale = flags->scale != 0 ? flags->scale : seed.scale;
    seed.workers = flags->workers != 0 ? flags->workers : seed.workers;
    struct seed again = seed;
    if (!seeds->run(&seed)) {
        return false;
    }
    world_counts_add(counts, &seed.counts);
    if (number % seeds->repeat_every != 0 || flags->trace) {
        return true;
    }
    bool ok = seeds->run(&again);
    if (seed.hash != again.hash) {
        printf("seed %" PRIu64 " is not deterministic\n", number);
    }
    return ok && seed.hash == again.hash;
}

/* Prints what the seeds did; false when a kind of fault never hit anything: then what they prove
 * about it is nothing. */
static bool covered(const struct world_counts *counts, uint64_t seeds)
{
    bool all = true;
    for (int f = 0; f < WORLD_FAULTS; f++) {
        for (int target = 0; target < WORLD_TARGETS; target++) {
            uint64_t hits = counts->hits[f][target];
            printf("%s%s %s %" PRIu64, f + target > 0 ? ", " : "faults: ",
                   world_target_name((enum world_target)target),
                   world_fault_name((enum world_fault)f), hits);
            all = all && (hits > 0 || !counts->possible[target]);
        }
    }
    printf("; restarts %" PRIu64 "\n", counts->restarts);
    all = all && counts->restarts > 0;
    if (!all && seeds >= COVERAGE_SEEDS) {
        printf("a kind of fault never hit anything\n");
    }
    return all || seeds < COVERAGE_SEEDS;
}

int seeds_main(const struct seeds *seeds, int argc, char **argv)
{
    struct flags flags;
    if (!parse(seeds, argc, argv, &flags)) {
        fprintf(stderr, "usage: %s [--seed N] [--seeds N] [--shape SxW] [--trace]\n",
                seeds->program);
        return 2;
    }
    log_configure(flags.trace ? LOG_LEVEL_DEBUG : LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "sim");
    struct world_counts counts = {0};
    uint64_t failed = 0;
    for (uint64_t number = flags.first; number < flags.first + flags.count; number++) {
        failed += run_one(seeds, &flags, number, &counts) ? 0 : 1;
    }
    bool all = covered(&counts, flags.count);
    printf("%" PRIu64 " seeds, %" PRIu64 " failed\n", flags.count, failed);
    return failed == 0 && all ? 0 : 1;
}

void seed_report(const struct seed *seed, const char *program, const char *failure,
                 const char *numbers)
{
    bool ok = failure[0] == '\0';
    if (ok && !seed->trace) {
        return;
    }
    printf("seed %" PRIu64 " (%ux%u): %s; %s, trace %016" PRIx64 "\n", seed->number, seed->scale,
           seed->workers, ok ? "ok" : failure, numbers, seed->hash);
    if (!ok) {
        printf("replay: %s --seed %" PRIu64 " --shape %ux%u --trace\n", program, seed->number,
               seed->scale, seed->workers);
    }
}
