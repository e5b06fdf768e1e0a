/*
 * One side of the boundary bench: a process that serves a synthetic log to the other and reads the
 * other's, on one loop, as the processes of an environment do. Source PING of each side moves by
 * one record when a record of the other's arrives, so records go back and forth; source FLOOD has
 * as many records as its reader takes.
 */
#ifndef TAILRACE_BENCH_BOUNDARY_H
#define TAILRACE_BENCH_BOUNDARY_H

#include "bench/hist.h"
#include "ring/boundary/boundary.h"

enum { SIDE_PING = 1, SIDE_FLOOD = 2 };

struct side_config {
    bool first;             /* this side measures and stops its loop; the other serves */
    bool shm;               /* else TCP on the loopback */
    const char *directory;  /* for sockets and the node secret */
    int channel;            /* a socket to the other side, for its address */
    uint64_t source;
    size_t record_bytes;
    uint64_t run_ns;
};

struct side_result {
    struct hist round_trips;
    uint64_t records;
    uint64_t bytes;
    uint64_t ns;
};

/* Runs until measured (the first side) or for ever (the other: it is killed). */
err_t side_run(const struct side_config *config, struct side_result *result);

#endif
