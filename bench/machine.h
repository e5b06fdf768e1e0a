/*
 * What the figures are relative to: the machine's description, its clock, and probes of its floors.
 *
 * The clock is the time-stamp counter where it is constant (9 ns a reading instead of 22), scaled
 * once at start to CLOCK_MONOTONIC; processes forked later share the scale, so a time taken in one
 * may be subtracted from a time taken in another. Any thread.
 */
#ifndef TAILRACE_BENCH_MACHINE_H
#define TAILRACE_BENCH_MACHINE_H

#include "bench/hist.h"
#include "core/base/err.h"

#include <stddef.h>
#include <time.h>
#ifdef __x86_64__
#include <x86intrin.h>
#endif

struct machine {
    char cpu[96];    /* as /proc/cpuinfo names it */
    char kernel[64]; /* release */
    int cpus;        /* online */
    double load; /* of the last minute: who else is running */
};

void machine_describe(struct machine *machine);

/* Written by machine_clock_start alone, before any other thread or process. */
struct machine_clock {
    uint64_t mult; /* nanoseconds per tick, times 2^32; 0: ask the kernel */
    uint64_t base_ticks;
    uint64_t base_ns;
};
extern struct machine_clock machine_clock;

/* Measures the counter's rate for 20 ms; first thing in main. */
void machine_clock_start(void);

/* Monotonic nanoseconds. */
static inline uint64_t machine_now_ns(void)
{
#ifdef __x86_64__
    if (machine_clock.mult != 0) {
        uint64_t ticks = __rdtsc() - machine_clock.base_ticks;
        return machine_clock.base_ns +
               (uint64_t)((unsigned __int128)ticks * machine_clock.mult >> 32);
    }
#endif
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Nanoseconds this thread has had a CPU for: what others do on it does not count. A call of the
 * kernel. */
static inline uint64_t machine_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Tells the CPU that this is a spinning loop. */
static inline void machine_relax(void)
{
#ifdef __x86_64__
    _mm_pause();
#endif
}

/*
 * The round trip of one cache line between two spinning threads, each round timed for itself as
 * the cases are. The host moves virtual CPUs about: this says where they are now.
 */
struct machine_line {
    double p50_ns;
    double p99_ns;
};
struct machine_line machine_probe_line(void);
/* "siblings" (one core), "near" (one cache), "far", by the round trip. */
const char *machine_placement(double line_ns);
/* Bytes copied a second from one warm MiB to another, GB/s. */
double machine_probe_memcpy(void);

/* Keeps the calling thread, and who it forks, on the index-th CPU it may use; -1: on all of them.
 * Without effect where there is but one. */
void machine_pin(int index);

/* From now on this process, in a session of its own, runs before everybody else's. For figures on
 * a machine that others use too. */
err_t machine_priority(void);

/* Writes of 512 bytes, each followed by fdatasync, within a temporary file of directory that has
 * its blocks already, as a preallocated log has: the least a durable write costs. */
err_t machine_sync_probe(const char *directory, size_t count, struct hist *hist);

/* Largest resident size of this process so far, MiB. */
double machine_peak_mib(void);

#endif
