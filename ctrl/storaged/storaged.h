/*
 * The storage runtime as a library, so that main(), tests and the simulator can host it: the
 * controller's commands (2100) drive storage workers, the boundary (2101) publishes what they hold.
 *
 * The calling loop is the main loop: it has the controller session, the network, and worker 0.
 * Further workers have threads and loops of their own. Storage is opened by the first controller
 * session (its epoch fences the directory); the boundary opens once that session has said which
 * collections exist, so that no subscriber is refused for one that was not yet named.
 */
#ifndef TAILRACE_CTRL_STORAGED_STORAGED_H
#define TAILRACE_CTRL_STORAGED_STORAGED_H

#include "core/base/metrics.h"
#include "ctrl/runtime/runtime.h"

struct storaged;

/*
 * From the command line (main.c) or a test. Global workers of this process are [process * workers,
 * (process + 1) * workers).
 */
struct storaged_config {
    const char *controller_address; /* "host:2100" */
    const char *storage_address;    /* "host:2101" */
    const char *storage_unix_path;  /* socket for shared memory, or NULL */
    const char *data_directory;
    const char *environment;        /* 32 hexadecimal digits */
    const char *node_secret_path;   /* or NULL: no shared memory */
    struct runtime_tls tls;
    const char *carrier;            /* auto, shm, tcp */
    uint32_t process;
    uint32_t processes;
    uint32_t workers;               /* of this process */
    uint64_t tick_us;               /* 0: default */
    struct metrics_registry *metrics; /* may be NULL */
};

/* Starts on the calling loop. The strings of config must outlive it. */
err_t storaged_start(struct io_loop *loop, const struct storaged_config *config,
                     struct storaged **out);
/*
 * Drains the controller port and stops the worker threads; done(arg) when only storaged_free is
 * left. Everything acknowledged is durable at any moment: nothing needs flushing. For SIGTERM. kill
 * -9 is as good: this only ends sessions with a reason.
 */
void storaged_stop(struct storaged *storaged, void (*done)(void *arg), void *arg);
/* Frees; worker threads must have stopped, or the env is dead. NULL is allowed. */
void storaged_free(struct storaged *storaged);
/* With the real port, when that was 0; "" before there is one. */
const char *storaged_controller_address(const struct storaged *storaged);
/* For health checks: a controller was here, and subscribers may come. */
bool storaged_ready(const struct storaged *storaged);
/* How many collections the main loop knows of: those that exist, and those being dropped. */
size_t storaged_collections(const struct storaged *storaged);

#endif
