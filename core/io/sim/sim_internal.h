/*
 * Module-private: the structures of the simulator. Everything runs in one thread, so no field here
 * is shared between threads; what must be kept apart are processes, which see each other through
 * net.c and disk.c only. A sim owns hosts and processes; a process (which is its io_env) owns
 * loops; a loop owns objects: streams, listeners, files, watches.
 *
 * Times are virtual microseconds since the world began, unless a name says otherwise.
 *
 * Death. A process may be killed between any two events, and from inside its own callback. From
 * that moment its loops are dead (io_loop_dead): calls on them do nothing, and no callback runs.
 * Memory goes later, in sim_reap, when no event is on the stack. The two steps are separate
 * everywhere:
 *
 *     shut   lets go of the world: peers are told, disks are unlocked, queued events are cleared
 *     free   returns the memory, when nothing can still hold a pointer to it
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

/* What an event is, for the trace. The order is that of the names in trace_event. */
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
    uint64_t time; /* virtual; never before the time it was queued at */
    uint64_t seq;
    size_t heap_at; /* 1-based; 0: not queued */
    struct sim_loop *loop; /* NULL: happens in the network, to no process */
    enum sim_kind kind;
    void (*run)(struct sim_event *event); /* may free what the event is embedded in */
};

/* A ring with a head; next is NULL in what is in no ring. */
struct sim_link {
    struct sim_link *prev;
    struct sim_link *next;
};

/*
 * What is open on a loop. Freed by the owner's close (through the graveyard), or with its loop when
 * the owner did not close it: then its shut has run and its free follows in sim_loop_free.
 */
struct sim_object {
    struct sim_link link; /* of the loop, or the graveyard of the sim */
    bool shut_done; /* shut has run */
    /* Lets go of the world (peers, disks, queued events); the memory stays. Runs once. */
    void (*shut)(struct sim_object *object);
    void (*free)(struct sim_object *object);
};

/* One loop: of a process (its main loop) or of a thread that a loop has started (owner). */
struct sim_loop {
    struct io_loop base; /* first: io_loop * is sim_loop * */
    struct sim *sim;
    struct sim_process *process; /* whose loop it is */
    struct sim_loop *next; /* of the process */
    struct sim_loop *owner; /* NULL: the main loop */
    bool stopping; /* io_loop_stop was called: ends after the current event */
    io_start_fn start; /* runs as the first event */
    void (*done)(void *arg); /* of io_thread_start; NULL: nobody waits */
    void *arg;
    struct sim_event start_event; /* when the thread, or the process, begins */
    struct sim_event done_event; /* runs on the owner */
    struct io_task *tasks_first; /* posted and not yet run, oldest first */
    struct io_task *tasks_last; /* NULL exactly when tasks_first is */
    struct sim_event task_event; /* queued while there are tasks */
    struct sim_event poll_event; /* asks the pollers once more */
    bool armed; /* the pollers were armed, as before a sleep */
    struct sim_link timers;  /* struct sim_timer */
    struct sim_link objects; /* struct sim_object */
};

/*
 * A process. Killed (alive false, dying true), then ended by sim_reap (ended true): the entry stays
 * with the sim, so that a test may ask sim_process_alive at any time.
 */
struct sim_process {
    struct io_env base; /* first: io_env * is sim_process * */
    struct sim *sim;
    struct sim_host *host; /* where it runs; outlives it */
    struct sim_process *next;
    char *name;
    uint64_t number;
    uint64_t random;
    bool alive; /* false from the kill on, memory or not */
    bool dying; /* to be ended after the current event */
    bool ended; /* process_end has run */
    struct sim_loop *loops; /* newest first */
    void (*destroy)(void *arg); /* frees what the process had; also after a kill */
    void *arg;
};

struct sim_disk;
struct sim_listener;

/* A machine: a name, a clock, ports and a disk. Processes come and go on it. */
struct sim_host {
    char *name;
    struct sim_host *next;
    uint64_t number;
    int64_t skew_us; /* of its wall clock against the true time; >= 0 */
    uint16_t next_port; /* of clients and of listeners that ask for port 0 */
    struct sim_listener *listeners; /* of all its processes; a port is in here once */
    struct sim_disk *disk; /* survives its processes, and a loss of power in part */
};

/* The world. Made by sim_new from a seed; the same seed and program give the same run. */
struct sim {
    struct sim_config config; /* as given; delays and failure rates */
    uint64_t random;
    uint64_t now; /* virtual time; the time of the last event */
    uint64_t seq;
    uint64_t events_run; /* how many events there have been */
    uint64_t hash; /* of all events so far: equal runs have equal hashes */
    bool delivering; /* an event is on the stack: nothing is freed */
    struct sim_event **heap; /* 1-based */
    size_t heap_len; /* events queued */
    size_t heap_cap; /* slots allocated */
    struct sim_host *hosts; /* newest first; never removed */
    uint64_t hosts_len; /* the number of the newest */
    struct sim_process *processes; /* newest first; kept until the sim is freed */
    uint64_t processes_len; /* the number of the newest */
    struct sim_link streams;   /* struct sim_stream.all, in order of creation */
    struct strmap partitions; /* "a\nb" with a < b */
    struct sim_link graveyard; /* objects closed during the current event */
    bool reap;                 /* something died or stopped in the current event */
};

extern const struct io_backend sim_backend;

/* Only loops of this back-end get here: io.c calls through their own table. */
static inline struct sim_loop *sim_loop_of(struct io_loop *loop)
{
    return (struct sim_loop *)loop;
}

/* ---- sim.c ---- */
uint64_t sim_between(struct sim *sim, uint64_t min, uint64_t max); /* both inclusive */
/* Always draws one number, so that the choices behind it do not shift. */
bool sim_chance(struct sim *sim, unsigned percent);
struct sim_host *sim_host_get(struct sim *sim, const char *name); /* made when new */
struct sim_host *sim_host_find(struct sim *sim, const char *name);
/* Queues event at now + delay; it is moved when queued already. */
void sim_event_set(struct sim *sim, struct sim_event *event, uint64_t delay);
void sim_event_set_at(struct sim *sim, struct sim_event *event, uint64_t time);
/* Takes it out of the queue; nothing when it is not in it. */
void sim_event_clear(struct sim *sim, struct sim_event *event);
void sim_link_init(struct sim_link *head);
/* At the end; link is in no ring. */
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
/* After sim_loop_end, when the process has freed what is its own. */
void sim_loop_free(struct sim_loop *loop);
/* Runs the pollers until they find no more work, as a round of a real loop does. */
void sim_loop_polls(struct sim_loop *loop);
void sim_object_add(struct sim_loop *loop, struct sim_object *object,
                    void (*shut)(struct sim_object *), void (*free_fn)(struct sim_object *));
/* Shuts the object; it is freed after the current event. */
void sim_object_discard(struct sim_loop *loop, struct sim_object *object);
/* Lets go of the world, once; the memory stays. */
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
/* The power fails: both views become what is left. See disk.h. */
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
