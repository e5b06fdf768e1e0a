/*
 * What a good programmer would write by hand for one workload alone: a hash table of 64-bit keys
 * and a loop, one thread, the same rounds and the same output. It is the floor the engine is
 * compared with, and the independent model its answers are checked against at any scale.
 */
#ifndef TAILRACE_BENCH_LOOPS_H
#define TAILRACE_BENCH_LOOPS_H

#include "bench/workload.h"

struct loop;

struct loop *loop_new(enum workload_kind kind);
void loop_free(struct loop *loop);
/* One round, output included. */
void loop_run(struct loop *loop, const struct update *updates, size_t len);
struct outcome loop_outcome(const struct loop *loop);
uint64_t loop_memory(const struct loop *loop);

#endif
