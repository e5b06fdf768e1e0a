/*
 * The skeleton of a runtime's process: flags, logs, signals, metrics over HTTP, and the order in
 * which things start and end. storaged and computed fill the table and are thin otherwise.
 */
#ifndef TAILRACE_CTRL_RUNTIME_DAEMON_H
#define TAILRACE_CTRL_RUNTIME_DAEMON_H

#include "core/base/metrics.h"
#include "ctrl/options/options.h"
#include "ctrl/runtime/runtime.h"

struct http_server;

/* Flags both runtimes have. */
struct daemon_flags {
    const char *controller_address;
    const char *http_address;
    const char *environment;
    const char *node_secret_path;
    struct runtime_tls tls;
    const char *carrier;
    uint64_t process, processes, workers;
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

/* Embedded first in the process's own structure. */
struct daemon {
    const struct daemon_ops *ops;
    struct daemon_flags flags;
    struct metrics_registry *metrics;
    const char *log_level;
    const char *log_format;
    struct io_loop *loop;
    struct http_server *http;
    bool started;
    bool stopping;
    int exit_status;
};

/* The whole of main(): options are the process's own flags, beside the common ones. */
int daemon_main(struct daemon *daemon, const struct option *options, size_t options_len, int argc,
                char **argv);

#endif
