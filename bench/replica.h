/*
 * A workload on all workers of a replica: threads of one process, or of several over shared memory
 * or TCP, with the exchange between them as in computed.
 */
#ifndef TAILRACE_BENCH_REPLICA_H
#define TAILRACE_BENCH_REPLICA_H

#include "bench/hist.h"
#include "bench/workload.h"
#include "core/base/err.h"

enum { REPLICA_WORKERS_MAX = 8 };

struct replica_shape {
    uint32_t workers;   /* of the replica, a multiple of processes */
    uint32_t processes;
    bool tcp;           /* between processes, instead of shared memory */
    const char *directory; /* for sockets; used with several processes alone */
};

/* What one phase of one run gave. */
struct measure {
    struct hist hist; /* of rounds */
    double rate;      /* million updates a second */
    double mib;       /* held at the phase's end */
    double step_us;   /* engine: the longest step, of rounds that are not small */
    double busy_ns;   /* engine, the same: CPU time of all workers for an update, waiting aside */
    struct outcome outcome;
};

/* All phases in turn, a measure each. Call it from no loop: it makes its own. */
err_t replica_run(const struct replica_shape *shape, const struct workload *workload,
                  struct measure *measures);

#endif
