/* The floor of two workers that wait for each other asleep. */
#ifndef TAILRACE_BENCH_BARRIER_H
#define TAILRACE_BENCH_BARRIER_H

#include "bench/hist.h"

/* Barriers of two threads, each pinned, by bare futex calls, for about so long. */
void barrier_futex(uint64_t run_ns, struct hist *hist);
/* The same by eventfds. */
void barrier_eventfd(uint64_t run_ns, struct hist *hist);

#endif
