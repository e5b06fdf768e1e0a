/*
 * What a good programmer would write by hand for one Nexmark query over a stream that only grows: a
 * hash table and a loop over the columns, one thread, the same rounds, the changes of each round
 * put out. The floor the engine is compared with, for Q3, Q4 and Q17.
 */
#ifndef TAILRACE_BENCH_NEXMARK_LOOPS_H
#define TAILRACE_BENCH_NEXMARK_LOOPS_H

#include "bench/nexmark/flow.h"

struct nexmark_loop;

/* NULL: there is no loop for this query. */
struct nexmark_loop *nexmark_loop_new(const char *query);
void nexmark_loop_free(struct nexmark_loop *loop);
void nexmark_loop_run(struct nexmark_loop *loop, const struct nexmark_rounds *rounds, size_t round);
/* Without the checksum over whole rows, which only the engine's batches have. */
struct nexmark_outcome nexmark_loop_outcome(const struct nexmark_loop *loop);

#endif
