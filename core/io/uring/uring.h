/*
 * Module-private: the structures of the io_uring implementation. Everything here belongs to one
 * loop and is touched by its thread only, except: the task queue (any thread pushes), and the
 * environment's clock offset and list of loops (see there).
 *
 * Rules that every file here keeps:
 *
 *     requests   A struct uring_req is in the kernel at most once (active). Its memory stays until
 *                the last CQE of it came: closing cancels, and either waits (uring_wait) or leaves
 *                freeing to complete().
 *     callbacks  complete() may close anything, its own object included; nothing is used after a
 *                user's callback that the callback could have freed.
 *     SQEs       uring_sqe never fails: a full queue is submitted first. inflight counts what is
 *                still to come back, so that loop_close can wait for all of it.
 *     dead       After io_loop_set_dead no user callback runs, and a close frees at once.
 */
#ifndef TAILRACE_CORE_IO_URING_URING_H
#define TAILRACE_CORE_IO_URING_URING_H

#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/io/io_internal.h"

#include <liburing.h>
#include <pthread.h>

enum {
    URING_SQ_ENTRIES = 256,
    URING_CQ_ENTRIES = 4096,
    URING_RECV_BUFFERS = 32, /* power of two */
    URING_RECV_BUFFER_LEN = 64 * 1024,
    URING_CHUNK_LEN = 32 * 1024, /* of bytes copied by io_stream_write */
    URING_CHUNKS_SPARE = 16,
    URING_IOV = 64,          /* queued writes sent with one sendmsg */
    URING_SPIN_DEFAULT_US = 50,
};

/*
 * What an SQE's user_data points to: complete() gets every CQE of it. Operations on files have the
 * io_op there instead, told apart by the lowest bit; 0 is for results nobody asks for.
 */
struct uring_req {
    void (*complete)(struct uring_req *req, int res, uint32_t flags);
    bool active; /* in the kernel: a CQE without IORING_CQE_F_MORE is still to come */
};
#define URING_OP_TAG 1ULL

/* A completion copied out of the ring: its place there is given back before it is handled. */
struct uring_cqe {
    uint64_t user_data; /* see struct uring_req */
    int res; /* as the system call returns: negative is -errno */
    uint32_t flags;
};

/* A doubly linked ring with a head, for everything that is open on a loop. */
struct uring_link {
    struct uring_link *prev;
    struct uring_link *next;
};

/* The environment: any thread's, so its fields are atomic, constant, or under the lock. */
struct uring_env {
    struct io_env base;
    /* io_now_us is CLOCK_MONOTONIC plus this; only ever raised, so time never goes backwards. */
    _Atomic int64_t clock_offset_us;
    _Atomic int64_t clock_checked_us; /* monotonic time of the last look at the wall clock */
    char host_id[96]; /* constant once made */
    pthread_mutex_t lock;     /* guards loops */
    struct uring_loop *loops; /* all that ever ran; freed with the environment */
    unsigned disabled;        /* enum uring_feature, for tests of the fallbacks */
};

/* Features of newer kernels which the tests switch off, to run what older ones would. */
enum uring_feature {
    URING_FEATURE_DEFER = 1,     /* DEFER_TASKRUN */
    URING_FEATURE_BUF_RING = 2,  /* provided buffer rings */
    URING_FEATURE_MULTISHOT = 4, /* multishot accept and recv */
    URING_FEATURE_FUTEX = 8,     /* waiting for a futex */
};

/*
 * Vyukov's intrusive MPSC queue: producers exchange head; the loop follows next from tail. What the
 * loop has taken out and not yet run stands in a list of its own, so that it can be cancelled.
 */
struct uring_tasks {
    struct io_task *_Atomic head;
    struct io_task *tail;
    struct io_task stub; /* stands in when nothing else is queued */
    struct io_task *taken; /* the oldest; linked by next */
    struct io_task *taken_last;
};

/* Memory for bytes io_stream_write copied; of one segment of one stream at a time. */
struct uring_chunk {
    struct uring_chunk *next;
    size_t cap; /* bytes in data */
    size_t used; /* bytes written; only grows while a send may read */
    uint8_t data[];
};

/* A loop. Made by its starter, opened and run by its own thread, freed with the environment. */
struct uring_loop {
    struct io_loop base;
    struct uring_env *env;
    struct uring_loop *next_of_env;
    struct io_uring ring;
    bool ring_open; /* false before uring_loop_open and after the loop has ended */
    bool stop; /* io_loop_stop: the current round is the last */
    size_t inflight; /* requests in the kernel */

    struct uring_tasks tasks;
    _Atomic int sleeping; /* 1: whoever posts must end the sleep: uring_rouse */
    _Atomic uint32_t roused; /* grows with each rouse; what the loop waits for, by futex */
    int wake_fd; /* eventfd, where futexes will not do, else -1; others write to it */
    uint64_t wake_value; /* where the kernel reads the eventfd into; not looked at */
    struct uring_req wake_req; /* the wait or read that is always under way */

    struct io_timer **timers; /* binary heap, 1-based: timers[0] is unused */
    size_t timers_len; /* timers[1] to timers[timers_len] are armed */
    size_t timers_cap;

    /* CQEs taken out of the ring while waiting for a particular one, in order. */
    struct uring_cqe *deferred;
    size_t deferred_len;
    size_t deferred_cap;
    size_t deferred_at; /* the oldest that was not handled yet */

    /* Adaptive spin: see spin.c. Monotonic nanoseconds. */
    uint64_t spin_ns;       /* the most it may last */
    uint64_t idle_since;    /* 0 while busy */
    uint64_t idle_average;  /* how long a stretch without work has been of late */
    uint64_t crowded_until; /* others want this CPU: no spinning before */
    uint64_t switches;      /* of this thread, not wanted by it, when last looked at */
    _Atomic uint64_t rung_ns; /* when somebody last woke the sleeping loop; 0: it was looked at */
    bool futex;             /* the ring can wait for a futex */

    struct io_uring_buf_ring *buf_ring; /* NULL: not available */
    size_t buf_ring_len; /* bytes mapped */
    uint8_t *buf_memory; /* URING_RECV_BUFFERS buffers, the kernel's until it names one */
    bool multishot; /* until the kernel has refused it */
    uint64_t dry;   /* receives that found all buffers in use; for tests */
    struct uring_stream *warm; /* the one that is read by plain system calls; see recv.c */
    uint8_t *warm_buffer;      /* URING_RECV_BUFFER_LEN; NULL until there was one */

    struct uring_chunk *chunks; /* spare */
    size_t chunks_len; /* <= URING_CHUNKS_SPARE */

    struct uring_link objects;    /* struct uring_object: everything open */
    struct uring_stream *dirty;   /* streams to look at before the loop sleeps */
    struct uring_watcher *watcher; /* inotify, made with the first watch */
    struct uring_signals *signals; /* signalfd, made with the first io_signal_watch */
};

/* Every object open on a loop: what to do with it when the loop ends. */
struct uring_object {
    struct uring_link link;
    /* The loop ends: let go of the kernel's side, keep the memory. Requests complete before
     * the loop is gone. */
    void (*shut)(struct uring_object *object);
    /* The environment is freed and the owner has not closed it. */
    void (*free)(struct uring_object *object);
};

extern const struct io_backend uring_backend;

static inline struct uring_loop *uring_loop_of(struct io_loop *loop)
{
    return (struct uring_loop *)loop;
}

/* ---- env.c ---- */
/* CLOCK_MONOTONIC. Any thread. */
uint64_t uring_mono_ns(void);
/* For tests: behaves as an older kernel would (enum uring_feature). */
void uring_env_disable(struct io_env *env, unsigned features);

/* ---- loop.c ---- */
/* Memory only; any thread. The environment owns it. */
struct uring_loop *uring_loop_new(struct uring_env *env);
err_t uring_loop_open(struct uring_loop *loop); /* the ring; on the thread that will run it */
void uring_loop_run(struct uring_loop *loop);   /* until stopped; closes everything */
/* With the environment: after the loop's thread is gone. */
void uring_loop_free(struct uring_loop *loop);
void uring_object_add(struct uring_loop *loop, struct uring_object *object,
                      void (*shut)(struct uring_object *), void (*free_fn)(struct uring_object *));
/* Closed: the loop does not know it any more. The memory is the caller's. */
void uring_object_remove(struct uring_object *object);
/* An SQE that is certain to be submitted before the loop sleeps. */
struct io_uring_sqe *uring_sqe(struct uring_loop *loop, struct uring_req *req);
/* The same for an operation on a file; its user_data has URING_OP_TAG. */
struct io_uring_sqe *uring_sqe_op(struct uring_loop *loop, struct io_op *op);
/* Asks the kernel to give up a request; its own CQE still comes. */
void uring_cancel(struct uring_loop *loop, struct uring_req *req);
/*
 * Blocks until over(arg): CQEs for which mine(arg, user_data) are handled at once, all others are
 * kept for later. For closing what the kernel still holds memory of.
 */
void uring_wait(struct uring_loop *loop, bool (*mine)(void *arg, uint64_t user_data),
                bool (*over)(void *arg), void *arg);
/* Blocks until the request is no longer active. */
void uring_wait_req(struct uring_loop *loop, struct uring_req *req);

/* ---- spin.c ---- */
/* Work was done: remembers how long there was none. */
void uring_idle_end(struct uring_loop *loop);
/* Looks for work instead of sleeping; false: it is time to sleep. */
bool uring_spin(struct uring_loop *loop);
/* The loop was woken by what was rung at that time. */
void uring_note_wake(struct io_loop *loop, uint64_t rung_ns);

/* ---- timers.c ---- */
/* The deadline is in the timer; it must not be armed. */
void uring_timer_start(struct io_loop *loop, struct io_timer *timer);
void uring_timer_cancel(struct io_loop *loop, struct io_timer *timer);
/* Fires what is due; true when there was any. */
bool uring_timers_run(struct uring_loop *loop);

/* ---- tasks.c ---- */
void uring_tasks_init(struct uring_tasks *tasks);
/* Any thread; the task must not be queued. */
void uring_tasks_push(struct uring_tasks *tasks, struct io_task *task);
/* The loop's thread. NULL: empty, or a push is half done. */
struct io_task *uring_tasks_pop(struct uring_tasks *tasks);
/* Takes back a task; nothing when it is not queued. Not while the loop might run it. */
void uring_tasks_cancel(struct uring_tasks *tasks, struct io_task *task);
/* For going to sleep: ordered against pushes, see tasks.c. */
bool uring_tasks_empty(struct uring_tasks *tasks);

/* ---- thread.c ---- */
err_t uring_thread_start(struct io_loop *owner, const char *name, int cpu, io_start_fn start,
                         void (*done)(void *arg), void *arg);

/* ---- file.c, fs.c ---- */
err_t uring_file_open(struct io_loop *loop, const char *path, int flags, struct io_file **out);
void uring_file_close(struct io_file *file);
void uring_file_read(struct io_file *file, uint64_t offset, void *data, size_t len,
                     struct io_op *op);
void uring_file_write(struct io_file *file, uint64_t offset, const void *data, size_t len,
                      struct io_op *op);
void uring_file_sync(struct io_file *file, struct io_op *op);
/* From dispatch: a completion of an operation on a file. */
void uring_op_complete(struct uring_loop *loop, struct io_op *op, int res);
err_t uring_file_read_sync(struct io_file *file, uint64_t offset, void *data, size_t len,
                           size_t *result);
err_t uring_file_write_sync(struct io_file *file, uint64_t offset, const void *data, size_t len);
err_t uring_file_sync_sync(struct io_file *file);
err_t uring_file_truncate_sync(struct io_file *file, uint64_t size);
err_t uring_file_stat_sync(struct io_file *file, struct io_stat *out);
struct stat;
err_t uring_file_lock_sync(struct io_file *file, bool *locked);
void uring_file_unlock_sync(struct io_file *file);
/* What the kernel says, in io.h's terms. */
void uring_stat_fill(const struct stat *st, struct io_stat *out);
err_t uring_stat(struct io_loop *loop, const char *path, struct io_stat *out);
err_t uring_mkdir(struct io_loop *loop, const char *path, int mode);
err_t uring_rename(struct io_loop *loop, const char *from, const char *to);
err_t uring_unlink(struct io_loop *loop, const char *path);
err_t uring_chmod(struct io_loop *loop, const char *path, int mode);
err_t uring_dir_sync(struct io_loop *loop, const char *path);
err_t uring_dir_list(struct io_loop *loop, const char *path,
                     err_t (*each)(void *arg, const char *name), void *arg);

/* ---- stream.c, connect.c, listen.c ---- */
err_t uring_connect(struct io_loop *loop, const char *address,
                    const struct io_stream_handler *handler, void *arg, io_connect_fn connected,
                    struct io_stream **out);
err_t uring_listen(struct io_loop *loop, const char *address, io_accept_fn accepted, void *arg,
                   struct io_listener **out);
const char *uring_listener_address(const struct io_listener *listener);
void uring_listener_close(struct io_listener *listener);
/* Looks at every stream marked dirty: delivers, arms, sends. True when a callback ran. */
bool uring_streams_run(struct uring_loop *loop);

/* ---- watch.c, process.c, signal.c ---- */
err_t uring_watch_open(struct io_loop *loop, const char *path, void (*changed)(void *arg),
                       void *arg, struct io_watch **out);
void uring_watch_close(struct io_watch *watch);
err_t uring_process_start(struct io_loop *loop, const struct io_process_spec *spec,
                          io_exit_fn exited, void *arg, struct io_process **out);
err_t uring_process_adopt(struct io_loop *loop, pid_t pid, const char *executable,
                          uint64_t start_ticks, io_exit_fn exited, void *arg,
                          struct io_process **out);
err_t uring_process_signal(struct io_process *process, int signal_number);
err_t uring_process_limit_memory(struct io_process *process, uint64_t bytes);
void uring_process_release(struct io_process *process);
err_t uring_signal_watch(struct io_loop *loop, int signal_number,
                         void (*caught)(void *arg, int signal_number), void *arg);
err_t uring_bell_open(struct io_loop *loop, void (*ring)(void *arg), void *arg,
                      struct io_bell **out);
int uring_bell_fd(const struct io_bell *bell);
void uring_bell_close(struct io_bell *bell);

/* ---- recv.c ---- */
/* Reads what has come on the warm stream; true when there was anything. */
bool uring_warm_look(struct uring_loop *loop);
/* Before the loop sleeps: what comes for the stream is to end the sleep. */
void uring_warm_end(struct uring_loop *loop);

/* ---- futex.c ---- */
/* Asks the ring whether it can wait for a futex (Linux 6.7). */
void uring_futex_probe(struct uring_loop *loop);
bool uring_has_futex(struct io_loop *loop);
err_t uring_futex_open(struct io_loop *loop, const _Atomic uint32_t *word,
                       void (*woken)(void *arg), void *arg, struct io_futex **out);
void uring_futex_arm(struct io_futex *futex, uint32_t seen);
void uring_futex_close(struct io_futex *futex);
/* Makes the request a wait for loop->roused, a word of this process alone. */
void uring_futex_prep_roused(struct uring_loop *loop, struct io_uring_sqe *sqe);
/* Any thread: ends the sleep that the loop is in, or about to begin. */
void uring_rouse(struct uring_loop *loop);

#endif
