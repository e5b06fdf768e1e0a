/*
 * One Nexmark query as a running dataflow: planned from its SQL by the real planner over a catalog
 * of the four tables, subscribed to, and driven round by round on the calling thread.
 */
#ifndef TAILRACE_BENCH_NEXMARK_FLOW_H
#define TAILRACE_BENCH_NEXMARK_FLOW_H

#include "bench/nexmark/rounds.h"
#include "core/base/err.h"

#include <stdio.h>

/* What came out so far. */
struct nexmark_outcome {
    uint64_t updates;  /* consolidated, of each round */
    int64_t rows;      /* net: what the answer has now */
    uint64_t ints;     /* of multiplicity times the sum of the row's bigint columns */
    uint64_t checksum; /* of multiplicity times the row's hash: independent of rounds and order */
};

struct nexmark_flow;

/* An error of the planner, with its position, when the SQL is beyond it. answers (may be NULL): a
 * line is written for each update, its multiplicity and then its values, separated by tabs. */
err_t nexmark_flow_new(const char *sql, FILE *answers, struct nexmark_flow **out);
void nexmark_flow_free(struct nexmark_flow *flow);
/* Hands over one round and steps until the output's frontier has passed it; rounds in turn. An
 * error: the dataflow failed, or what came out was an error of the query. */
err_t nexmark_flow_run(struct nexmark_flow *flow, const struct nexmark_rounds *rounds,
                       size_t round);
struct nexmark_outcome nexmark_flow_outcome(const struct nexmark_flow *flow);
uint64_t nexmark_flow_memory(const struct nexmark_flow *flow);

#endif
