/*
 * A simulated world for whole-system tests: hosts on which an orchestrator starts real storaged and
 * computed (as libraries), restarts what died, and survives the death of environmentd. One host a
 * process: storage-0, cluster-2-replica-0-1, ...
 */
#ifndef TAILRACE_TESTS_SIM_WORLD_H
#define TAILRACE_TESTS_SIM_WORLD_H

#include "core/io/sim.h"
#include "orchestrator/orchestrator.h"

struct world;

struct world *world_new(uint64_t seed, bool trace);
void world_free(struct world *world);
struct sim *world_sim(struct world *world);

/* Processes of this compute service that start from now on have so little memory a dataflow. */
void world_limit_memory(struct world *world, const char *service, uint64_t bytes);

/* The orchestrator as environmentd sees it, on its loop; freed by orchestrator_free. Services live
 * on when it goes. */
struct orchestrator *world_orchestrator_new(struct world *world, struct io_loop *loop);

/* Advances virtual time, restarting dead processes restart_us after their death. */
void world_run(struct world *world, uint64_t duration_us);

enum world_fault { WORLD_KILL, WORLD_POWER_LOSS, WORLD_CUT, WORLD_PARTITION, WORLD_FAULTS };
enum world_target { WORLD_ENVIRONMENTD, WORLD_STORAGED, WORLD_COMPUTED, WORLD_TARGETS };
const char *world_fault_name(enum world_fault fault);
const char *world_target_name(enum world_target target);

/* What was done to the processes of a world. */
struct world_counts {
    uint64_t hits[WORLD_FAULTS][WORLD_TARGETS]; /* faults of processes that lived */
    bool possible[WORLD_TARGETS];               /* it was tried: all faults should hit in time */
    uint64_t restarts;                          /* of dead processes */
};
const struct world_counts *world_counts(const struct world *world);
void world_counts_add(struct world_counts *sum, const struct world_counts *counts);

/* Does one random fault to a random process of a random service (of those named by prefix);
 * prints nothing, the trace hash tells. Returns what it did, WORLD_FAULTS: nothing was hit. */
enum world_fault world_random_fault(struct world *world, const char *service_prefix);
/* A random fault of a process that is not the orchestrator's: environmentd. */
enum world_fault world_random_fault_of(struct world *world, struct sim_process *process,
                                       const char *host);
/* kill -9 of one process (world_run starts it again); false when it does not live. */
bool world_kill(struct world *world, const char *service, uint32_t process);
/* The storaged in storage process i as it lives now, for looking at; NULL when it does not. */
struct storaged;
const struct storaged *world_storaged(const struct world *world, uint32_t process);
/* Ends every partition. */
void world_heal(struct world *world);
uint64_t world_faults(const struct world *world); /* hits of all kinds */

#endif
