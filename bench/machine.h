/* What the figures are relative to: the machine's description, and probes of its floors. */
#ifndef TAILRACE_BENCH_MACHINE_H
#define TAILRACE_BENCH_MACHINE_H

#include "bench/hist.h"
#include "core/base/err.h"

#include <stddef.h>

struct machine {
    char cpu[96];
    char kernel[64];
    int cpus;
    double load; /* of the last minute: who else is running */
};

void machine_describe(struct machine *machine);

/* Monotonic nanoseconds. */
uint64_t machine_now_ns(void);

/* Median round trip of one cache line between two spinning threads, nanoseconds. */
uint64_t machine_ping_pong_ns(void);

/* Writes of 512 bytes, each followed by fdatasync, within a temporary file of directory that has
 * its blocks already, as a preallocated log has: the least a durable write costs. */
err_t machine_sync_probe(const char *directory, size_t count, struct hist *hist);

/* Largest resident size of this process so far, MiB. */
double machine_peak_mib(void);

#endif
