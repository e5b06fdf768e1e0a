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
/* Does one random fault to a random process of a random service (of those named by prefix);
 * prints nothing, the trace hash tells. Returns what it did. */
enum world_fault world_random_fault(struct world *world, const char *service_prefix);
/* kill -9 of one process (world_run starts it again); false when it does not live. */
bool world_kill(struct world *world, const char *service, uint32_t process);
/* The storaged in storage process i as it lives now, for looking at; NULL when it does not. */
struct storaged;
const struct storaged *world_storaged(const struct world *world, uint32_t process);
/* Ends every partition. */
void world_heal(struct world *world);
uint64_t world_faults(const struct world *world);

#endif
