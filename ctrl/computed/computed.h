/*
 * The compute runtime as a library, so that main(), tests and the simulator can host it: the
 * controller's commands (2100) create dataflows on every worker, their inputs come from storage
 * (2101), workers exchange data with each other (2102).
 *
 * The calling loop is the main loop: it has the controller session, the network, and worker 0.
 * Further workers have threads and loops of their own. State is rebuilt from storage: when the
 * generation of the replica's processes is lost, everything is dropped and the session ends, so
 * that the controller replays its history.
 */
#ifndef TAILRACE_CTRL_COMPUTED_COMPUTED_H
#define TAILRACE_CTRL_COMPUTED_COMPUTED_H

#include "core/base/metrics.h"
#include "ctrl/runtime/runtime.h"

struct computed;

/* Read by computed_start; strings must stay. */
struct computed_config {
    const char *controller_address; /* "host:2100" */
    const char *compute_address;    /* "host:2102"; unused with one process */
    const char *const *peers;       /* [processes] compute addresses, in order */
    const char *const *peer_sockets; /* [processes] unix paths for shared memory, or NULL */
    const char *environment;        /* 32 hexadecimal digits */
    const char *node_secret_path;   /* or NULL: no shared memory */
    struct runtime_tls tls;
    const char *carrier;            /* auto, shm, tcp */
    uint64_t service;               /* which replica this is: unique in the environment */
    uint32_t process;
    uint32_t processes;
    uint32_t workers;               /* of this process */
    uint64_t memory_limit;          /* bytes per dataflow and worker; 0: none */
    struct metrics_registry *metrics; /* may be NULL */
};

/* Starts on the calling loop. The strings of config must outlive it. */
err_t computed_start(struct io_loop *loop, const struct computed_config *config,
                     struct computed **out);
/* Drains the controller port and stops the worker threads; then done(arg). */
void computed_stop(struct computed *computed, void (*done)(void *arg), void *arg);
/* Frees; worker threads must have stopped, or the env is dead. NULL is allowed. */
void computed_free(struct computed *computed);
const char *computed_controller_address(const struct computed *computed);
bool computed_ready(const struct computed *computed);

#endif
