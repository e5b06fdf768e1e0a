/*
 * Module-private: the structures of the simulator. Everything runs in one thread. A sim owns
 * hosts and processes; a process (which is its io_env) owns loops; a loop owns objects: streams,
 * listeners, files, watches.
 */
#ifndef TAILRACE_CORE_IO_SIM_SIM_INTERNAL_H
#define TAILRACE_CORE_IO_SIM_SIM_INTERNAL_H

#include "core/base/buf.h"
#include "core/base/map.h"
#include "core/base/mem.h"
#include "core/io/io_internal.h"
#include "core/io/sim.h"

/* The wall clock of a process starts here (2026-01-01) when virtual time is 0, plus its skew. */
#define SIM_EPOCH_US 1767225600000000ULL

enum sim_kind {
    SIM_START,
    SIM_TASK,
    SIM_TIMER,
    SIM_POLL,
    SIM_DIAL, /* a connection request reaches its host */
    SIM_CONNECTED,
    SIM_ACCEPT,
    SIM_SEND,
    SIM_RECEIVE,
    SIM_FILE,
    SIM_WATCH,
    SIM_THREAD_DONE,
};

struct sim_loop;

/* Something that happens at a virtual time; embedded in what it happens to. */
struct sim_event {
    uint64_t time;
    uint64_t seq;
    size_t heap_at; /* 1-based; 0: not queued */
    struct sim_loop *loop; /* NULL: happens in the network, to no process */
    enum sim_kind kind;
    void (*run)(struct sim_event *event);
};

struct sim_link {
    struct sim_link *prev;
    struct sim_link *next;
};

struct sim_object {
    struct sim_link link;
    bool shut_done;
    /* Lets go of the world (peers, disks, queued events); the memory stays. Runs once. */
    void (*shut)(struct sim_object *object);
    void (*free)(struct sim_object *object);
};

struct sim_loop {
    struct io_loop base;
    struct sim *sim;
    struct sim_process *process;
    struct sim_loop *next; /* of the process */
    struct sim_loop *owner; /* NULL: the main loop */
    bool stopping;
    io_start_fn start;
    void (*done)(void *arg);
    void *arg;
    struct sim_event start_event;
    struct sim_event done_event; /* runs on the owner */
    struct io_task *tasks_first;
    struct io_task *tasks_last;
    struct sim_event task_event; /* queued while there are tasks */
    struct sim_event poll_event;
    bool armed;
    struct sim_link timers;  /* struct sim_timer */
    struct sim_link objects; /* struct sim_object */
};

struct sim_process {
    struct io_env base;
    struct sim *sim;
    struct sim_host *host;
    struct sim_process *next;
    char *name;
    uint64_t number;
    uint64_t random;
    bool alive;
    bool dying; /* to be ended after the current event */
    bool ended;
    struct sim_loop *loops; /* newest first */
    void (*destroy)(void *arg);
    void *arg;
};

struct sim_disk;
struct sim_listener;

struct sim_host {
    char *name;
    struct sim_host *next;
    uint64_t number;
    int64_t skew_us;
    uint16_t next_port;
    struct sim_listener *listeners;
    struct sim_disk *disk;
};

struct sim {
    struct sim_config config;
    uint64_t random;
    uint64_t now;
    uint64_t seq;
    uint64_t events_run;
    uint64_t hash;
    bool delivering;
    struct sim_event **heap; /* 1-based */
    size_t heap_len;
    size_t heap_cap;
    struct sim_host *hosts;
    uint64_t hosts_len;
    struct sim_process *processes;
    uint64_t processes_len;
    struct sim_link streams;   /* struct sim_stream.all, in order of creation */
    struct strmap partitions; /* "a\nb" with a < b */
    struct sim_link graveyard; /* objects closed during the current event */
    bool reap;                 /* something died or stopped in the current event */
};

extern const struct io_backend sim_backend;

static inline struct sim_loop *sim_loop_of(struct io_loop *loop)
{
    return (struct sim_loop *)loop;
}

/* ---- sim.c ---- */
uint64_t sim_between(struct sim *sim, uint64_t min, uint64_t max); /* both inclusive */
bool sim_chance(struct sim *sim, unsigned percent);
struct sim_host *sim_host_get(struct sim *sim, const char *name); /* made when new */
struct sim_host *sim_host_find(struct sim *sim, const char *name);
/* Queues event at now + delay; it is moved when queued already. */
void sim_event_set(struct sim *sim, struct sim_event *event, uint64_t delay);
void sim_event_set_at(struct sim *sim, struct sim_event *event, uint64_t time);
void sim_event_clear(struct sim *sim, struct sim_event *event);
void sim_link_init(struct sim_link *head);
void sim_link_add(struct sim_link *head, struct sim_link *link);
void sim_link_remove(struct sim_link *link);
/* Adds to the trace hash what an event carried. */
void sim_trace_bytes(struct sim *sim, const void *data, size_t len);
/* Frees what closed during the event; ends what died. */
void sim_reap(struct sim *sim);

/* ---- loop.c ---- */
struct sim_loop *sim_loop_new(struct sim_process *process, struct sim_loop *owner,
                              io_start_fn start, void *arg);
/* No callback runs any more; everything open on it, and the loops it started, is shut. */
void sim_loop_end(struct sim_loop *loop);
void sim_loop_free(struct sim_loop *loop);
void sim_loop_polls(struct sim_loop *loop);
void sim_object_add(struct sim_loop *loop, struct sim_object *object,
                    void (*shut)(struct sim_object *), void (*free_fn)(struct sim_object *));
/* Shuts the object; it is freed after the current event. */
void sim_object_discard(struct sim_loop *loop, struct sim_object *object);
void sim_object_shut(struct sim_object *object);

/* ---- net.c ---- */
err_t sim_connect(struct io_loop *loop, const char *address,
                  const struct io_stream_handler *handler, void *arg, io_connect_fn connected,
                  struct io_stream **out);
err_t sim_listen(struct io_loop *loop, const char *address, io_accept_fn accepted, void *arg,
                 struct io_listener **out);
const char *sim_listener_address(const struct io_listener *listener);
void sim_listener_close(struct io_listener *listener);
/* Cuts every connection for which chosen(arg, a, b) holds of its two processes. */
void sim_net_cut(struct sim *sim,
                 bool (*chosen)(void *arg, struct sim_process *a, struct sim_process *b),
                 void *arg);
/* The host lost power: what its processes had open ends without a word to the peers, who notice
 * much later. Called before the processes end. */
void sim_net_host_gone(struct sim *sim, struct sim_host *host);
bool sim_partitioned(struct sim *sim, const char *a, const char *b);

/* ---- disk.c ---- */
struct sim_disk *sim_disk_new(struct sim *sim);
void sim_disk_free(struct sim_disk *disk);
void sim_disk_crash(struct sim_disk *disk);
void sim_disk_set_error(struct sim_disk *disk, int errno_value);

/* ---- file.c ---- */
err_t sim_file_open(struct io_loop *loop, const char *path, int flags, struct io_file **out);
void sim_file_close(struct io_file *file);
void sim_file_read(struct io_file *file, uint64_t offset, void *data, size_t len,
                   struct io_op *op);
void sim_file_write_op(struct io_file *file, uint64_t offset, const void *data, size_t len,
                       struct io_op *op);
void sim_file_sync(struct io_file *file, struct io_op *op);
err_t sim_file_read_sync(struct io_file *file, uint64_t offset, void *data, size_t len,
                         size_t *result);
err_t sim_file_write_sync(struct io_file *file, uint64_t offset, const void *data, size_t len);
err_t sim_file_sync_sync(struct io_file *file);
err_t sim_file_truncate_sync(struct io_file *file, uint64_t size);
err_t sim_file_stat_sync(struct io_file *file, struct io_stat *out);
err_t sim_file_lock_sync(struct io_file *file, bool *locked);
void sim_file_unlock_sync(struct io_file *file);
err_t sim_stat(struct io_loop *loop, const char *path, struct io_stat *out);
err_t sim_mkdir(struct io_loop *loop, const char *path, int mode);
err_t sim_rename(struct io_loop *loop, const char *from, const char *to);
err_t sim_unlink(struct io_loop *loop, const char *path);
err_t sim_chmod(struct io_loop *loop, const char *path, int mode);
err_t sim_dir_sync(struct io_loop *loop, const char *path);
err_t sim_dir_list(struct io_loop *loop, const char *path,
                   err_t (*each)(void *arg, const char *name), void *arg);
err_t sim_watch_open(struct io_loop *loop, const char *path, void (*changed)(void *arg), void *arg,
                     struct io_watch **out);
void sim_watch_close(struct io_watch *watch);

#endif
