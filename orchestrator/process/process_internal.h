/*
 * Inside orchestrator/process: what is kept of each process, in memory and on disk. Everything
 * lives on environmentd's loop; records and logs are also read by a successor, see README.md.
 */
#ifndef TAILRACE_ORCHESTRATOR_PROCESS_PROCESS_INTERNAL_H
#define TAILRACE_ORCHESTRATOR_PROCESS_PROCESS_INTERNAL_H

#include "core/io/io.h"
#include "orchestrator/orchestrator.h"

#include <sys/types.h>

/* A named port of one process: chosen once, kept as long as the service. */
struct po_port {
    char *name;
    uint16_t number;
    char *address; /* "host:port" */
};

/*
 * The record of one process: a small text file that outlives environmentd. It is written before
 * the process is started (pid 0: the intention) and again when it runs, so that at no moment a
 * process runs that no record leads to.
 */
struct po_record {
    pid_t pid;            /* 0: none, or not yet known */
    uint64_t start_ticks; /* with pid: which process of that number */
    char *executable;
    uint64_t arguments;    /* hash of the command line, see po_arguments_hash */
    struct po_port *ports; /* without addresses */
    size_t ports_len;
    size_t ports_cap;
};
err_t po_record_write(struct io_loop *loop, const char *path, const struct po_record *record);
/* ERR_CORRUPT when it is not a record. The caller frees it. */
err_t po_record_read(struct io_loop *loop, const char *path, struct po_record *out);
void po_record_free(struct po_record *record);

/* "service-3.process" taken apart; false when it is not the name of a record. */
bool po_record_name_parse(const char *file, char service[65], uint32_t *process);

/* The same value for an argument vector and for /proc/<pid>/cmdline of its process. */
uint64_t po_arguments_hash(const char *const *argv);
/* A living process whose command line has this hash; false when there is none. */
bool po_find_process(struct io_loop *loop, uint64_t arguments, pid_t *pid, uint64_t *start_ticks);

/* True when nothing listens on host:port now. */
bool po_port_is_free(struct io_loop *loop, const char *host, uint16_t port);

/* Cuts the log when it is longer than max, see logs.c; failures are logged. */
void po_log_rotate(struct io_loop *loop, const char *path, uint64_t max);

/* ---- supervision ----------------------------------------------------------------------------- */

enum po_state {
    PO_IDLE, /* does not run; the timer is armed when it waits to start again */
    PO_RUNNING,
    PO_STOPPING, /* was told to end; the timer is for SIGKILL */
};

struct po_service;

/* One process of a service. */
struct po_process {
    struct po_service *service; /* owner */
    uint32_t index; /* number in the service */
    enum po_state state;
    struct po_record record; /* what runs, or ran last; its ports */
    struct io_process *os;   /* NULL when idle */
    struct io_timer timer;
    uint64_t started_us;
    uint64_t backoff_us;                  /* before the next start after a failure */
    struct orchestrator_args wanted_args; /* without wrapper and executable */
    uint64_t wanted;                      /* hash of what should run */
    bool is_wanted;                       /* false: to be stopped and forgotten */
    bool told;                            /* the state below was queued as an event */
    bool ready;
    char *reason; /* why it is not ready, "" when it is */
};

/* What was asked for, and the processes there are. Owned by the orchestrator. */
struct po_service {
    char *name;
    char *image; /* NULL: left by a predecessor, nobody asked for it yet */
    uint32_t scale;
    uint64_t memory_limit; /* bytes a process; 0: none */
    struct orchestrator_port *ports; /* names owned */
    size_t ports_len;
    struct po_process **processes; /* in no order; may be more than scale for a while */
    size_t processes_len;
    size_t processes_cap;
    bool dropped; /* goes when its last process has */
    struct process_orchestrator *owner;
};

/* An event that waits to be told from the loop. */
struct po_event {
    char *service;
    uint32_t process;
    bool ready;
    char *reason;
    uint64_t time_us;
};

/* The backend. Owns services, they their processes. */
struct process_orchestrator {
    struct orchestrator base;
    struct io_loop *loop;
    char *directory;      /* <data_directory>/orchestrator */
    struct io_file *lock; /* held as long as we live */
    char *listen_host;
    char **wrapper;     /* NULL ends */
    uint16_t base_port; /* 0: conventional numbers first */
    uint64_t backoff_min_us; /* of the config, with defaults */
    uint64_t backoff_max_us;
    uint64_t healthy_us;
    uint64_t stop_grace_us;
    uint64_t log_bytes;
    uint64_t log_look_us;
    struct io_timer logs_timer; /* for their sizes */
    struct po_service **services; /* by name */
    size_t services_len;
    size_t services_cap;
    orchestrator_watch_fn watch; /* NULL: nobody */
    void *watch_arg;
    struct po_event *events;
    size_t events_len;
    size_t events_cap;
    struct io_timer events_timer; /* events wait, or everything has stopped */
    void (*stopped)(void *arg);
    void *stopped_arg;
};

struct po_process *po_process_new(struct po_service *service, uint32_t index);
/* Frees memory; what runs keeps running. */
void po_process_free(struct po_process *process);
/* Makes one step towards what is wanted: start, stop, or forget (then *process is gone). */
void po_process_converge(struct po_process *process);
/* Takes over what the record says, when it lives. */
void po_process_adopt(struct po_process *process);
/* The caller frees it. */
char *po_record_path(const struct po_process *process);
char *po_log_path(const struct po_process *process);
/* Tells the kernel what the process may have, when it runs. */
void po_process_limit(struct po_process *process);
/* Queues the present state for the watcher. */
void po_process_tell(struct po_process *process);

/* Called by supervision when a process is forgotten: frees it, and the service after its last. */
void po_service_forget(struct po_process *process);

#endif
