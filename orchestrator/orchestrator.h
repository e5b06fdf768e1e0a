/*
 * Where processes come from. environmentd asks for services by name; a backend makes them exist
 * (operating system processes, Kubernetes pods, processes of the simulator) and tells how they are.
 * Nothing here is about an operating system, so that a test can be a backend too.
 *
 * A service is `scale` like processes, numbered from 0. All calls and events are on one loop, and
 * no event runs from inside a call. Strings passed in are copied; strings passed out are valid
 * until the next call.
 */
#ifndef TAILRACE_ORCHESTRATOR_ORCHESTRATOR_H
#define TAILRACE_ORCHESTRATOR_ORCHESTRATOR_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A named port of every process of a service. */
struct orchestrator_port {
    const char *name; /* "controller", "storage", "compute", "internal-http" */
    uint16_t hint;    /* the conventional number, used when it can be; 0: any */
};

struct orchestrator_label {
    const char *key;
    const char *value;
};

/* What a process is told when its arguments are made. */
struct orchestrator_assignment {
    const char *service;
    uint32_t process; /* its number */
    uint32_t scale;
    const struct orchestrator_port *ports;
    size_t ports_len;
    const char *const *listen; /* [ports_len]: where this process listens, "host:port" */
    /* peer(peer_arg, process, port): address of a port of any process of the service. */
    const char *(*peer)(const void *peer_arg, uint32_t process, const char *port);
    const void *peer_arg;
};

/* The arguments of one process, malloc'ed one by one by orchestrator_args_add. */
struct orchestrator_args {
    char **args;
    size_t args_len;
    size_t args_cap;
};
void orchestrator_args_add(struct orchestrator_args *args, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void orchestrator_args_free(struct orchestrator_args *args);

struct orchestrator_service_config {
    const char *image; /* executable (process backend) or container image */
    uint32_t scale;    /* processes, 1..256 */
    const struct orchestrator_port *ports;
    size_t ports_len;
    const struct orchestrator_label *labels;
    size_t labels_len;
    uint64_t cpu_limit_milli;      /* thousandths of a CPU; 0: none */
    uint64_t memory_limit;         /* bytes; 0: none */
    const char *availability_zone; /* "" or NULL: any */
    /* Appends the arguments (without argv[0]) for an assignment. Called whenever a process may
     * start, from the backend's callbacks too: arg must live until the service is dropped. The
     * same assignment must give the same arguments: a difference is a change of the service. */
    void (*make_args)(void *arg, const struct orchestrator_assignment *assignment,
                      struct orchestrator_args *args);
    void *make_args_arg;
};

enum orchestrator_state {
    ORCHESTRATOR_READY,     /* the process runs */
    ORCHESTRATOR_NOT_READY, /* it does not (yet, any more); reason says why */
};

struct orchestrator_event {
    const char *service;
    uint32_t process;
    enum orchestrator_state state;
    const char *reason; /* "" when ready */
    uint64_t time_us;   /* io_now_us clock */
};

typedef void (*orchestrator_watch_fn)(void *arg, const struct orchestrator_event *event);
/* One service in a listing; return false to stop. */
typedef bool (*orchestrator_list_fn)(void *arg, const char *service, uint32_t scale);

/* The table a backend fills; its struct begins with struct orchestrator. */
struct orchestrator;
struct orchestrator_ops {
    err_t (*ensure_service)(struct orchestrator *o, const char *service,
                            const struct orchestrator_service_config *config);
    err_t (*drop_service)(struct orchestrator *o, const char *service);
    void (*list_services)(struct orchestrator *o, orchestrator_list_fn each, void *arg);
    void (*watch_services)(struct orchestrator *o, orchestrator_watch_fn watch, void *arg);
    const char *(*address)(struct orchestrator *o, const char *service, uint32_t process,
                           const char *port);
    void (*free)(struct orchestrator *o);
};
struct orchestrator {
    const struct orchestrator_ops *ops;
};

/*
 * Creates the service, or changes it into this: processes whose image or arguments differ are
 * replaced, living ones that are as wanted are kept (also those of a predecessor of this process).
 * service: letters, digits, '-', '_' and '.', 1..64. Addresses are known when it returns; that
 * processes run comes as events. ERR_INVALID on a config that cannot be.
 */
err_t orchestrator_ensure_service(struct orchestrator *o, const char *service,
                                  const struct orchestrator_service_config *config);
/* Stops and forgets the service. ok when there is none of that name. */
err_t orchestrator_drop_service(struct orchestrator *o, const char *service);
/* Every service there is, also what a predecessor left and nobody ensured yet; by name. */
void orchestrator_list_services(struct orchestrator *o, orchestrator_list_fn each, void *arg);
/*
 * Calls watch(arg, event) for the present state of every process and then for each change.
 * One watcher; a second call replaces it, NULL ends it.
 */
void orchestrator_watch_services(struct orchestrator *o, orchestrator_watch_fn watch, void *arg);
/* "host:port" of a named port of a process; NULL when there is no such service or port. */
const char *orchestrator_address(struct orchestrator *o, const char *service, uint32_t process,
                                 const char *port);
/* Forgets everything and frees; what runs keeps running, for a successor to adopt. */
void orchestrator_free(struct orchestrator *o);

#endif
