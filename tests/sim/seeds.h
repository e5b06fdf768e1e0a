/*
 * What the programs of this folder share: flags, one world after another by seed, replay, the check
 * that a seed always gives the same run, and the count of what was done to the worlds.
 *
 *     PROGRAM [--seed N] [--seeds N] [--shape SxW] [--trace]
 */
#ifndef TAILRACE_TESTS_SIM_SEEDS_H
#define TAILRACE_TESTS_SIM_SEEDS_H

#include "tests/sim/world.h"

/* One run of one seed. */
struct seed {
    uint64_t number;
    uint32_t scale, workers; /* processes a service, workers a process */
    bool trace;
    /* Filled by the run: */
    uint64_t hash;           /* of everything that happened */
    struct world_counts counts;
};

struct seeds {
    const char *program;
    uint64_t count;        /* unless flags say otherwise */
    uint64_t repeat_every; /* every such seed is run twice and must do the same */
    /* The shape of a seed, unless flags name one. */
    void (*shape)(uint64_t number, uint32_t *scale, uint32_t *workers);
    bool (*run)(struct seed *seed); /* false: it failed, and said why */
};

/* The exit status of main(): 0 when every seed passed and, with many seeds, every kind of fault
 * hit something. */
int seeds_main(const struct seeds *seeds, int argc, char **argv);

/* One line about a seed: when it failed (with how to replay it), or is traced. */
void seed_report(const struct seed *seed, const char *program, const char *failure,
                 const char *numbers);

#endif
