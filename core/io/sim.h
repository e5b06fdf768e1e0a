/*
 * The deterministic simulator: whole environments in one thread, on virtual time, from one seed.
 * The same seed, set-up and binary give the same trace hash. It implements core/io/io.h.
 *
 * A sim has hosts; a host has a disk (a file tree that survives process deaths) and runs
 * processes. Messages between processes on streams are delayed by random amounts (order is kept
 * within one stream, as TCP keeps it, and lost across streams), split and merged at any byte.
 * Faults: a process is killed between any two callbacks; unsynced writes of a killed *host* are
 * lost or torn at sector granularity; connections are cut at any byte; partitions; clock skew
 * between hosts; files can fail with EIO and ENOSPC.
 */
#ifndef TAILRACE_CORE_IO_SIM_H
#define TAILRACE_CORE_IO_SIM_H

#include "core/io/io.h"

struct sim;
struct sim_process;

/*
 * Virtual time starts at 0 (sim_now_us). The wall clock of a process (io_now_us) is 2026-01-01
 * plus virtual time plus the skew of its host, at most 5 ms.
 *
 * Addresses: "host:port" with the name of a simulated host; "127.0.0.1", "localhost", "0.0.0.0",
 * "[::]" and nothing mean the own host. What listens on 127.0.0.1 is reached from its host only.
 *
 * Disks are as strict as POSIX allows: the content of a file is durable after io_file_sync, its
 * name after io_dir_sync_sync of its directory (and the directory's own name after that of its
 * parent). After a failed sync what it was to write is lost with the power, also when a later
 * sync succeeds.
 *
 * Not simulated: Unix sockets, doorbells, processes and signals (ERR_UNSUPPORTED).
 */
struct sim_config {
    uint64_t seed;
    uint64_t delay_min_us; /* one-way network delay */
    uint64_t delay_max_us;
    uint64_t disk_min_us; /* duration of a file operation */
    uint64_t disk_max_us;
    bool trace;            /* print every event to stderr */
};
struct sim_config sim_config_default(uint64_t seed);

struct sim *sim_new(const struct sim_config *config);
void sim_free(struct sim *sim);

/*
 * Starts a process on a host: start(loop, arg) runs as its first event. destroy(arg) is called
 * when it died or stopped, to free its memory; every io call in it is a no-op on a dead env. Just
 * before, the release callbacks of its queued writes run. The main loop's io_loop_stop ends the
 * process. The handle is valid until sim_free.
 */
struct sim_process *sim_process_start(struct sim *sim, const char *host, const char *name,
                                      io_start_fn start, void (*destroy)(void *arg), void *arg);
/* kill -9: no further callback. Written data survives (the page cache is the host's). */
void sim_process_kill(struct sim *sim, struct sim_process *process);
bool sim_process_alive(const struct sim_process *process);
/* Power loss: kills every process of the host and drops or tears what was not synced. */
void sim_host_crash(struct sim *sim, const char *host);
/* Cuts every connection between two hosts and refuses new ones until healed. */
void sim_partition(struct sim *sim, const char *a, const char *b, bool cut);
/* Cuts every open connection of a process now. */
void sim_cut_connections(struct sim *sim, struct sim_process *process);
/* The next operations on a host's disk fail with this errno (0: heal). */
void sim_disk_fail(struct sim *sim, const char *host, int errno_value);

/* The test's own writes to a host's disk, seen by watches. */
err_t sim_file_write(struct sim *sim, const char *host, const char *path, const void *data,
                     size_t len, bool append);

/* Runs all events up to a virtual time (absolute). */
void sim_run_until(struct sim *sim, uint64_t virtual_us);
/* Runs events while go_on(arg), asked before each; true when it said no, false when nothing was
 * left to do before virtual time limit_us (absolute). */
bool sim_run_while(struct sim *sim, bool (*go_on)(void *arg), void *arg, uint64_t limit_us);
uint64_t sim_now_us(const struct sim *sim);
/* The test's own choices come from the same seed. */
uint64_t sim_random(struct sim *sim);
/* A hash of every event delivered so far: (time, process, kind, bytes). */
uint64_t sim_trace_hash(const struct sim *sim);
uint64_t sim_events(const struct sim *sim);

#endif
