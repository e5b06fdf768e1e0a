/*
 * The process backend: services as operating system processes of this host, supervised.
 *
 * memory_limit of a service is enforced (RLIMIT_DATA: private memory, not rings shared with peers):
 * a process beyond it fails to allocate, ends and is started again. It is not part of the command
 * line: a change reaches living processes at once. cpu_limit_milli is refused (ERR_UNSUPPORTED):
 * a share of the CPU needs a control group, which this backend has no right to make; put the whole
 * environment into one (systemd's CPUQuota) or use a backend with containers.
 */
#ifndef TAILRACE_ORCHESTRATOR_PROCESS_PROCESS_H
#define TAILRACE_ORCHESTRATOR_PROCESS_PROCESS_H

#include "core/io/io.h"
#include "orchestrator/orchestrator.h"

/* Zero (NULL) means the default named in the comment. */
struct process_orchestrator_config {
    const char *data_directory; /* state is kept in <data_directory>/orchestrator/; required */
    const char *listen_host;    /* "127.0.0.1" */
    /* Where the search for free ports starts. 0: a service of one process gets the conventional
     * numbers (the hints) where they are free, others are searched from 2100 upward. */
    uint16_t base_port;
    const char *const *wrapper; /* words put before the executable, NULL ends; none */
    uint64_t backoff_min_us;    /* 100 ms; doubles for each failure in a row */
    uint64_t backoff_max_us;    /* 10 s */
    uint64_t healthy_us;        /* running this long resets the back-off; 10 s */
    uint64_t stop_grace_us;     /* from SIGTERM to SIGKILL; 5 s */
    uint64_t log_bytes;         /* a process's log is rotated beyond this size; 16 MiB */
    uint64_t log_look_us;       /* how often sizes of logs are looked at; 10 s */
};

/*
 * Reads what a predecessor left; its living processes are adopted. ERR_UNAVAILABLE when another
 * one uses the directory (after trying for a second). The owner frees it with orchestrator_free.
 */
err_t process_orchestrator_new(struct io_loop *loop,
                               const struct process_orchestrator_config *config,
                               struct orchestrator **out);

/*
 * Stops every process of every service (SIGTERM, SIGKILL after the grace) and forgets them;
 * stopped(arg) runs when the last is gone. For a whole environment that goes down in order.
 */
void process_orchestrator_stop_all(struct orchestrator *o, void (*stopped)(void *arg), void *arg);

#endif
