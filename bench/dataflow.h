/*
 * One worker's part of a workload's dataflow: source(s) -> operator -> subscribe, in an engine of
 * its own. A round is prepared (its batches are built), begun (handed to engine_input at one time),
 * and stepped until the output's frontier has passed that time. Preparing is not timed.
 *
 * One thread: the worker's. replica.c has the workers' threads and processes.
 */
#ifndef TAILRACE_BENCH_DATAFLOW_H
#define TAILRACE_BENCH_DATAFLOW_H

#include "bench/workload.h"
#include "core/io/io.h"
#include "ring/exchange/exchange.h"

struct dataflow_bench;

/* Where it runs. All workers make the same calls. */
struct dataflow_place {
    uint32_t worker; /* of all of the replica */
    uint32_t workers;
    uint32_t index;            /* within the process */
    struct io_loop *loop;      /* whose clock bounds the steps, as in production */
    struct exchange *exchange; /* NULL: there is one worker */
};

struct dataflow_bench *dataflow_bench_new(enum workload_kind kind,
                                          const struct dataflow_place *place);
void dataflow_bench_free(struct dataflow_bench *bench);
/* Draws a round of len updates and keeps this worker's share. load: of the first phase. */
void dataflow_bench_prepare(struct dataflow_bench *bench, struct generator *generator, bool load,
                            size_t len);
void dataflow_bench_begin(struct dataflow_bench *bench);
/* One step of the engine; true: there is more to do at once. */
bool dataflow_bench_step(struct dataflow_bench *bench);
/* Is the round over on this worker? Once it is, the next one may be prepared. */
bool dataflow_bench_ends(struct dataflow_bench *bench);
/* From another worker. */
err_t dataflow_bench_receive(struct dataflow_bench *bench, uint32_t from, const uint8_t *data,
                             size_t len);
/* Of this worker: a row is put out by one of them, so theirs add up. */
struct outcome dataflow_bench_outcome(const struct dataflow_bench *bench);
/* Nanoseconds of CPU since they were last asked for, of rounds that are not small. */
struct dataflow_times {
    uint64_t longest_ns; /* step */
    uint64_t busy_ns;    /* all steps, input and messages of others: all but waiting */
};
struct dataflow_times dataflow_bench_times(struct dataflow_bench *bench);
/* Bytes the engine holds. */
uint64_t dataflow_bench_memory(const struct dataflow_bench *bench);

#endif
