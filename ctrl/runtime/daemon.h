/*
 * The skeleton of a runtime's process: flags, logs, signals, metrics over HTTP, and the order in
 * which things start and end. storaged and computed fill the table and are thin otherwise.
 *
 * Order of a life, all on the main loop: daemon_main parses the flags, io_main makes the loop,
 * signals are watched and HTTP listens, then ops->start. SIGTERM or SIGINT: ops->stop, and when
 * that is done the loop ends; a second signal ends it at once. ops->free runs last, when no loop
 * runs and all threads are joined, whatever the way here: it must take a start that failed half
 * way.
 *
 * Exit status: 0 after an orderly end, 1 when it could not start, 2 when the flags were wrong.
 */
#ifndef TAILRACE_CTRL_RUNTIME_DAEMON_H
#define TAILRACE_CTRL_RUNTIME_DAEMON_H

#include "core/base/metrics.h"
#include "ctrl/options/options.h"
#include "ctrl/runtime/runtime.h"

struct http_server;

/* Flags both runtimes have. */
struct daemon_flags {
    const char *controller_address; /* "host:2100": the gRPC server */
    const char *http_address; /* NULL or "": no HTTP */
    const char *environment; /* 32 hexadecimal digits */
    const char *node_secret_path; /* NULL: no shared memory with peers */
    const char *counters_path; /* NULL: counters are shown over HTTP only */
    struct runtime_tls tls;
    const char *carrier; /* auto, shm, tcp */
    uint64_t process, processes, workers; /* options.h has no smaller integers */
};

struct daemon;
struct daemon_ops {
    const char *name;
    const char *summary;
    /* After the flags are parsed: starts on the loop. */
    err_t (*start)(struct daemon *daemon, struct io_loop *loop);
    /* Stops in order; done(arg) when only free is left. Called only after a successful start. */
    void (*stop)(struct daemon *daemon, void (*done)(void *arg), void *arg);
    bool (*ready)(struct daemon *daemon);
    void (*free)(struct daemon *daemon);
};

/*
 * Embedded first in the process's own structure. Main loop's only, but for what ops->start hands to
 * threads.
 */
struct daemon {
    const struct daemon_ops *ops;
    struct daemon_flags flags;
    struct metrics_registry *metrics;
    const char *log_level; /* as given; parsed once */
    const char *log_format;
    struct io_loop *loop; /* NULL until io_main has made it */
    struct http_server *http;
    bool started; /* ops->start succeeded: ops->stop may be called */
    bool stopping; /* ops->stop was called */
    int exit_status; /* of the process */
};

/* The whole of main(): options are the process's own flags, beside the common ones. */
int daemon_main(struct daemon *daemon, const struct option *options, size_t options_len, int argc,
                char **argv);

#endif
