/*
 * core/io: the one interface between Tailrace and the world. Clocks, timers, randomness, files,
 * sockets, threads and processes go through it, and no other module calls the OS for them. Two
 * implementations: the kernel through io_uring (uring/), and a deterministic simulator (sim/).
 *
 * The model. A process of ours is an io_env. It has one or more loops; a loop belongs to one
 * thread and runs callbacks, never two at once. Everything is asynchronous unless the name ends
 * in _sync (small control-plane file operations; never on a data path). A callback is never run
 * from inside the call that asked for it: it always comes from the loop. Objects belong to the
 * loop they were made on and are used from its thread only; the exceptions say so.
 *
 * In the simulator every env and loop of every process lives in one thread, time is virtual, and
 * a process may die between any two callbacks: from then on its operations do nothing and no
 * callback of it runs, until its owner frees it.
 */
#ifndef TAILRACE_CORE_IO_IO_H
#define TAILRACE_CORE_IO_IO_H

#include "core/base/counters.h"
#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct io_env;
struct io_loop;

/* ---- environment ---------------------------------------------------------------------------- */

/* The real world of this OS process. Free it last with io_env_free. */
err_t io_env_new_real(struct io_env **out);
void io_env_free(struct io_env *env);
/* True in the simulator (no TLS, no shared memory there: bytes of other processes are plain). */
bool io_env_simulated(const struct io_env *env);
/*
 * Memory of IO_LARGE_PAGE bytes (zero, aligned to as many), which the system backs by one large
 * page if it can: that costs a hundredth of the faults, and fewer misses. Not from the allocator,
 * whose own words would break it up. Any thread, in a simulation too. Memory exhaustion aborts.
 */
enum { IO_LARGE_PAGE = 2 * 1024 * 1024 };
void *io_large_page_new(void);
void io_large_page_free(void *page);
/* Cryptographic randomness (real) or the seeded stream (sim). Any thread. */
void io_random(struct io_env *env, void *out, size_t len);
uint64_t io_random_u64(struct io_env *env);
/* Identity of the host: boot id and hostname hash (real), the simulated host's name (sim). */
const char *io_host_id(struct io_env *env);

/* ---- loops and threads ---------------------------------------------------------------------- */

typedef void (*io_start_fn)(struct io_loop *loop, void *arg);

/*
 * Makes a loop on the calling thread, runs start(loop, arg), then runs the loop until
 * io_loop_stop. For main(). In the simulator main loops are made by the simulator (sim.h).
 */
err_t io_main(struct io_env *env, io_start_fn start, void *arg);

/*
 * A further thread with a loop of its own: start(loop, arg) runs there first. The simulator makes
 * a further loop in its one thread. done(arg) runs on the calling loop after the thread's loop was
 * stopped and its thread joined. cpu: pin to this CPU, or -1.
 */
err_t io_thread_start(struct io_loop *owner, const char *name, int cpu, io_start_fn start,
                      void (*done)(void *arg), void *arg);

/*
 * Ends the loop after the current callback; everything still open on it is closed (queued writes
 * are released), no further callback runs, and threads it started are stopped and joined. The loop
 * and what was open on it stay valid memory until io_env_free, every call on them does nothing or
 * gives ERR_CANCELLED, and close calls free the object: so the code that frees a daemon need not
 * ask whether its loop still runs. When the loop of io_main or of a simulated process stops, the
 * process ends.
 */
void io_loop_stop(struct io_loop *loop);
struct io_env *io_loop_env(struct io_loop *loop);

/* Wall clock, microseconds since 1970; never goes backwards within a process. Loop's thread. */
uint64_t io_now_us(struct io_loop *loop);
/* Monotonic nanoseconds, for measuring. */
uint64_t io_mono_ns(struct io_loop *loop);

/*
 * A task is embedded by its owner; post() makes run(task) be called once on the target loop. It may
 * be posted again from inside run. Posting a task that is still queued is an error (asserted).
 * io_post: ANY thread of the same env; FIFO per (poster, target) pair. Wait-free for the poster
 * (an MPSC list: Vyukov 2010) and wakes the loop only when it sleeps.
 */
struct io_task {
    struct io_task *_Atomic next; /* owned by the loop while queued */
    void (*run)(struct io_task *task);
    _Atomic int queued;
};
void io_post(struct io_loop *loop, struct io_task *task);
/*
 * Takes a task back: afterwards it is not queued and will not run, and its memory may be freed.
 * Nothing happens when it is not queued. On the loop's own thread, or when the loop has stopped and
 * its thread was joined; nobody may be posting the same task at the same time. Tasks still queued
 * when a loop stops are taken back then. Costs a walk over the queue.
 */
void io_task_cancel(struct io_loop *loop, struct io_task *task);

/* One-shot timers, embedded; start again to re-arm; cancel is safe when not armed. */
struct io_timer {
    void (*fire)(struct io_timer *timer);
    uint64_t deadline_us; /* io_now_us clock */
    size_t heap_at;       /* owned by the loop; 0 when not armed */
};
void io_timer_start(struct io_loop *loop, struct io_timer *timer, uint64_t deadline_us);
void io_timer_cancel(struct io_loop *loop, struct io_timer *timer);

/*
 * Pollers: work that does not arrive as a callback (shared-memory rings, an engine with steps to
 * run). poll() returns true when it did something: the loop then goes round again without
 * sleeping, and spins adaptively before it sleeps. Before sleeping the loop calls
 * arm() on each poller, which publishes "I am asleep" to its peers and returns true when work
 * turned up meanwhile; on waking it calls disarm(). arm/disarm may be NULL.
 *
 * brief: a call takes microseconds at most. While the loop spins, only brief pollers are asked; a
 * round of everything follows as soon as one found work, unless all pollers are brief: then they
 * are asked again first, so that a message goes there and back without the rest of the round.
 */
struct io_poller {
    bool (*poll)(struct io_poller *poller);
    bool (*arm)(struct io_poller *poller);
    void (*disarm)(struct io_poller *poller);
    bool brief;
    struct io_poller *next;
};
void io_poller_add(struct io_loop *loop, struct io_poller *poller);
void io_poller_remove(struct io_loop *loop, struct io_poller *poller);
/*
 * How long the loop may look for work before it sleeps (default 50 us; 0: not at all). It does so
 * while work comes often: when the stretches without work were of late shorter than twice what it
 * costs to be woken, which the loop measures. Where others want the CPU it yields, or sleeps.
 */
void io_loop_set_spin(struct io_loop *loop, uint32_t max_us);
/* Someone else rang for this loop at that time (io_mono_ns), and now it is awake: how long that
 * took is the cost of a wake. */
void io_loop_note_wake(struct io_loop *loop, uint64_t rung_ns);

/* What a loop has done so far. Written by its thread, read by any (relaxed: they order nothing). */
struct io_loop_counters {
    _Atomic uint64_t spins;  /* times it looked for work instead of sleeping */
    _Atomic uint64_t yields; /* of the CPU while spinning */
    _Atomic uint64_t sleeps;
    _Atomic uint64_t wake_ns; /* what a wake costs, of late; shown as wake_cost */
};
const struct io_loop_counters *io_loop_counters(const struct io_loop *loop);
/* From now on the loop counts in a slot of counters (NULL: nothing changes), of type "loop" and
 * with this id; they outlive the loop. Once, on the loop's thread, before others look. */
void io_loop_publish(struct io_loop *loop, struct counters *counters, uint64_t id);

/*
 * A doorbell another process can ring: an eventfd the loop watches. ring(bell) runs on the loop.
 * fd() is passed to peers. Real env only: ERR_UNSUPPORTED in the simulator.
 */
struct io_bell;
err_t io_bell_open(struct io_loop *loop, void (*ring)(void *arg), void *arg, struct io_bell **out);
int io_bell_fd(const struct io_bell *bell);
void io_bell_close(struct io_bell *bell);

/*
 * A word of shared memory, mapped read-only perhaps, which another process changes and then wakes.
 * arm(seen), from a poller's arm, makes the loop's next sleep end when the word is not seen any
 * more; woken(arg) then runs on the loop. ERR_UNSUPPORTED in the simulator and before Linux 6.7:
 * use a doorbell then.
 */
struct io_futex;
bool io_loop_has_futex(struct io_loop *loop);
err_t io_futex_open(struct io_loop *loop, const _Atomic uint32_t *word, void (*woken)(void *arg),
                    void *arg, struct io_futex **out);
void io_futex_arm(struct io_futex *futex, uint32_t seen);
void io_futex_close(struct io_futex *futex);
/* Ends the sleep of whoever waits for this word. Any thread. */
void io_futex_wake(const _Atomic uint32_t *word);

/* ---- streams: TCP and Unix sockets, and layers over them (TLS) ------------------------------- */

/*
 * Addresses are text: "host:port", "[v6]:port", ":0" (any free port), "unix:/path" (stream),
 * "unixpacket:/path" (SEQPACKET, message boundaries kept, carries file descriptors).
 */
struct io_stream;

struct io_stream_handler {
    /* Bytes arrived; valid during the call. The callee takes all of them. fds (SEQPACKET only)
     * become the callee's. */
    void (*data)(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len);
    /* All written bytes left our buffers after io_stream_pending had passed high_water. */
    void (*drain)(void *arg);
    /* The stream ended: reason NULL when the peer closed in order. Called exactly once, last,
     * also after a failed connect, but not after io_stream_close. Owns reason. The stream is
     * freed after this returns. */
    void (*close)(void *arg, err_t reason);
    /* May be NULL. Where the next bytes are wanted, at most *len of them; NULL: nowhere. The stream
     * may put them there, and calls data with that place next, or with a copy, if it was paused
     * meanwhile; until then, or until the stream is closed, it stays valid. */
    uint8_t *(*place)(void *arg, size_t *len);
};

typedef void (*io_connect_fn)(void *arg, struct io_stream *stream);

/*
 * Connects; connected(arg, stream) runs once established, or handler->close with the reason.
 * Set arg and handler in the returned stream before returning to the loop.
 */
err_t io_connect(struct io_loop *loop, const char *address, const struct io_stream_handler *handler,
                 void *arg, io_connect_fn connected, struct io_stream **out);
/* Replaces handler and arg: for layering and for accepted streams. */
void io_stream_set_handler(struct io_stream *stream, const struct io_stream_handler *handler,
                           void *arg);
/* Queues a copy of the bytes. Fails never: errors come through close. */
void io_stream_write(struct io_stream *stream, const void *data, size_t len);
/* Queues bytes without a copy: release(arg) runs when they are no longer needed, also on close. */
void io_stream_write_ref(struct io_stream *stream, const void *data, size_t len,
                         void (*release)(void *arg), void *arg);
/* SEQPACKET: one message with descriptors (duplicated at once; the caller keeps its own). */
void io_stream_write_fds(struct io_stream *stream, const void *data, size_t len, const int *fds,
                         size_t fds_len);
/* Bytes queued and not yet taken by the kernel. */
size_t io_stream_pending(const struct io_stream *stream);
/* Calls handler->drain when pending falls to zero after having passed this many bytes (64 KiB
 * unless set). */
void io_stream_set_high_water(struct io_stream *stream, size_t bytes);
/* Stops and restarts delivery of data (back-pressure to the peer). */
void io_stream_pause(struct io_stream *stream);
void io_stream_resume(struct io_stream *stream);
/* Closes now; unsent bytes are dropped, no further callback runs. */
void io_stream_close(struct io_stream *stream);
/* Sends what is queued, then closes; no further data callbacks; close() is not called. */
void io_stream_finish(struct io_stream *stream);
/* "peer address", for messages; valid while the stream lives. */
const char *io_stream_peer(const struct io_stream *stream);
struct io_loop *io_stream_loop(const struct io_stream *stream);
/* Unix sockets: process id and user id of the peer, from the kernel. */
err_t io_stream_peer_cred(const struct io_stream *stream, pid_t *pid, uid_t *uid);
/* Is every byte that is delivered authenticated (TLS)? */
bool io_stream_sealed(const struct io_stream *stream);
/* Authenticated name of a TLS peer's certificate, "" when the stream is not TLS. */
const char *io_stream_peer_name(const struct io_stream *stream);

/*
 * A stream implementation is a table: sockets in uring/, the simulated network in sim/, TLS in
 * tls.h all fill one; every implementation's struct begins with struct io_stream.
 */
struct io_stream_ops {
    /* Queues a copy; NULL: io_stream_write copies and calls write_ref. */
    void (*write)(struct io_stream *s, const void *data, size_t len);
    void (*write_ref)(struct io_stream *s, const void *data, size_t len, void (*release)(void *),
                      void *arg);
    void (*write_fds)(struct io_stream *s, const void *data, size_t len, const int *fds,
                      size_t fds_len);
    size_t (*pending)(const struct io_stream *s);
    void (*pause)(struct io_stream *s, bool paused);
    void (*close)(struct io_stream *s, bool flush);
    const char *(*peer)(const struct io_stream *s);
    const char *(*peer_name)(const struct io_stream *s);
    err_t (*peer_cred)(const struct io_stream *s, pid_t *pid, uid_t *uid);
};
struct io_stream {
    const struct io_stream_ops *ops;
    struct io_loop *loop;
    const struct io_stream_handler *handler;
    void *arg;
    size_t high_water;
    bool sealed; /* constant; see io_stream_sealed */
};

struct io_listener;
/* accepted(arg, stream): the callee owns the stream and sets its handler before returning. */
typedef void (*io_accept_fn)(void *arg, struct io_stream *stream);
err_t io_listen(struct io_loop *loop, const char *address, io_accept_fn accepted, void *arg,
                struct io_listener **out);
/* The address bound, with the real port. */
const char *io_listener_address(const struct io_listener *listener);
void io_listener_close(struct io_listener *listener);

/* ---- files ---------------------------------------------------------------------------------- */

struct io_file;
enum io_open_flags {
    IO_OPEN_READ = 1,
    IO_OPEN_WRITE = 2,
    IO_OPEN_CREATE = 4,
    IO_OPEN_EXCLUSIVE = 8, /* with CREATE: fail when it exists */
    IO_OPEN_TRUNCATE = 16,
    /* Bypass the page cache where the file system can. Memory, offsets and lengths of reads and
     * writes must then be multiples of 4096. */
    IO_OPEN_DIRECT = 32,
};

/* Permissions 0600. Opening is synchronous; reads and writes are not. */
err_t io_file_open(struct io_loop *loop, const char *path, int flags, struct io_file **out);
/* done of operations under way does not run, and their memory is not touched after this returns:
 * it waits for what the kernel has already begun. */
void io_file_close(struct io_file *file);

/*
 * An asynchronous operation, embedded by its owner, not touched until done runs. Writes are whole:
 * short writes are continued inside. err NULL and result = bytes (reads stop short at the end).
 */
struct io_op {
    void (*done)(struct io_op *op, err_t err, size_t result); /* owns err */
    void *internal[8];
};
void io_file_read(struct io_file *file, uint64_t offset, void *data, size_t len, struct io_op *op);
void io_file_write(struct io_file *file, uint64_t offset, const void *data, size_t len,
                   struct io_op *op);
/* fdatasync: everything written (completed) before is durable when done runs without error. */
void io_file_sync(struct io_file *file, struct io_op *op);

/* Synchronous control-plane operations. Any loop thread. */
err_t io_file_read_sync(struct io_file *file, uint64_t offset, void *data, size_t len,
                        size_t *result);
err_t io_file_write_sync(struct io_file *file, uint64_t offset, const void *data, size_t len);
err_t io_file_sync_sync(struct io_file *file);
err_t io_file_truncate_sync(struct io_file *file, uint64_t size);
err_t io_file_size_sync(struct io_file *file, uint64_t *size);
/*
 * An exclusive advisory lock on the file, not waited for: *locked is false while another open file
 * (of any process, this one included) holds it. Let go by unlock, by io_file_close and by the death
 * of the process.
 */
err_t io_file_lock_sync(struct io_file *file, bool *locked);
void io_file_unlock_sync(struct io_file *file);

enum io_file_kind { IO_KIND_FILE, IO_KIND_DIRECTORY, IO_KIND_OTHER };
struct io_stat {
    enum io_file_kind kind;
    uint64_t size;
    uint64_t inode;    /* identity: changes when the file was replaced */
    uint64_t mtime_ns;
};
err_t io_stat_sync(struct io_loop *loop, const char *path, struct io_stat *out); /* NOT_FOUND */
err_t io_file_stat_sync(struct io_file *file, struct io_stat *out);
/* Parents too; fine when it is there already. */
err_t io_mkdir_sync(struct io_loop *loop, const char *path, int mode);
/* The same, and the directory and every parent's entry are durable when it returns. */
err_t io_mkdir_durable_sync(struct io_loop *loop, const char *path, int mode);
err_t io_rename_sync(struct io_loop *loop, const char *from, const char *to);
err_t io_unlink_sync(struct io_loop *loop, const char *path);
/* Makes creations, renames and removals in the directory durable. */
err_t io_dir_sync_sync(struct io_loop *loop, const char *path);
/* Calls each(arg, name) for every entry but . and .., in byte order of the names. */
err_t io_dir_list_sync(struct io_loop *loop, const char *path,
                       err_t (*each)(void *arg, const char *name), void *arg);
/* Whole small files (<= max_len bytes); write = temporary + sync + rename + directory sync. A crash
 * may leave the temporary, named <path>.tmp-<16 hex digits>, to be ignored. */
err_t io_read_whole_sync(struct io_loop *loop, const char *path, size_t max_len, uint8_t **data,
                         size_t *len);
err_t io_write_whole_sync(struct io_loop *loop, const char *path, const void *data, size_t len,
                          int mode);

/*
 * Watches a file or directory for change (inotify; the simulator tells of simulated changes).
 * changed(arg) may come without a change and may merge several: look again, compare.
 */
struct io_watch;
err_t io_watch_open(struct io_loop *loop, const char *path, void (*changed)(void *arg), void *arg,
                    struct io_watch **out);
void io_watch_close(struct io_watch *watch);

/* ---- processes and signals (real env; the simulator's processes are started through sim.h) --- */

struct io_process;
struct io_process_spec {
    const char *const *argv; /* argv[0] is the executable's path; NULL ends */
    const char *const *envp; /* NULL: inherit */
    const char *stderr_path; /* append to this file; NULL: inherit */
    const char *stdout_path; /* append; NULL: inherit */
    bool new_session;        /* setsid: survives the parent, not killed with its terminal */
};
/* exited(arg, status): wait(2) status, or -1 when the process was adopted (status unknown). */
typedef void (*io_exit_fn)(void *arg, int status);
err_t io_process_start(struct io_loop *loop, const struct io_process_spec *spec, io_exit_fn exited,
                       void *arg, struct io_process **out);
/*
 * Takes over a living process that is not our child (a predecessor started it), recognised by pid,
 * executable path and start time (clock ticks since boot, field 22 of /proc/pid/stat).
 */
err_t io_process_adopt(struct io_loop *loop, pid_t pid, const char *executable,
                       uint64_t start_ticks, io_exit_fn exited, void *arg, struct io_process **out);
pid_t io_process_pid(const struct io_process *process);
uint64_t io_process_start_ticks(const struct io_process *process);
err_t io_process_signal(struct io_process *process, int signal_number);
/* Bytes of private memory it may have from now on (RLIMIT_DATA), 0: what the system allows; beyond,
 * its allocations fail. */
err_t io_process_limit_memory(struct io_process *process, uint64_t bytes);
/* Stops watching; the process lives on. */
void io_process_release(struct io_process *process);

/* caught(arg, signal) on the loop for SIGTERM, SIGINT, SIGHUP...; one handler a signal. To be
 * called before threads are started: they inherit that the signal is blocked. */
err_t io_signal_watch(struct io_loop *loop, int signal_number,
                      void (*caught)(void *arg, int signal_number), void *arg);

#endif
