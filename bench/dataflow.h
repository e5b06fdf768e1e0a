/*
 * One workload's dataflow on one or two workers, each an engine on a thread of its own: source(s)
 * -> operator -> subscribe. A round is prepared (its batches are built) and then run: handed to
 * engine_input at one time, and stepped until the output's frontier has passed that time. Only the
 * second half is timed.
 */
#ifndef TAILRACE_BENCH_DATAFLOW_H
#define TAILRACE_BENCH_DATAFLOW_H

#include "bench/workload.h"
#include "core/io/io.h"

struct dataflow_bench;

enum { DATAFLOW_WORKERS_MAX = 2 };

/* loop: whose clock the first worker's steps are bounded by, as in production. */
struct dataflow_bench *dataflow_bench_new(enum workload_kind kind, uint32_t workers,
                                          struct io_loop *loop);
void dataflow_bench_free(struct dataflow_bench *bench);
void dataflow_bench_prepare(struct dataflow_bench *bench, const struct update *updates, size_t len);
void dataflow_bench_run(struct dataflow_bench *bench);
struct outcome dataflow_bench_outcome(const struct dataflow_bench *bench);
/* Nanoseconds of CPU, since it was last asked for. */
uint64_t dataflow_bench_longest_step(struct dataflow_bench *bench);
/* Bytes the engines hold. */
uint64_t dataflow_bench_memory(const struct dataflow_bench *bench);

#endif
