/*
 * What the two implementations of io.h share: one table of functions, and the first members of
 * every object. io.c turns a call of io.h into a call through the table of the object's loop; it
 * answers itself for loops that have stopped, so that no implementation sees a call on one,
 * except to free an object.
 */
#ifndef TAILRACE_CORE_IO_IO_INTERNAL_H
#define TAILRACE_CORE_IO_IO_INTERNAL_H

#include "core/io/io.h"

#include <pthread.h>
#include <stdatomic.h>

struct io_backend {
    bool simulated;

    void (*env_free)(struct io_env *env);
    void (*random)(struct io_env *env, void *out, size_t len);
    const char *(*host_id)(struct io_env *env);
    err_t (*main)(struct io_env *env, io_start_fn start, void *arg);

    err_t (*thread_start)(struct io_loop *owner, const char *name, int cpu, io_start_fn start,
                          void (*done)(void *arg), void *arg);
    void (*loop_stop)(struct io_loop *loop);
    void (*set_spin)(struct io_loop *loop, uint32_t max_us);
    void (*note_wake)(struct io_loop *loop, uint64_t rung_ns);
    uint64_t (*now_us)(struct io_loop *loop);
    uint64_t (*mono_ns)(struct io_loop *loop);
    void (*post)(struct io_loop *loop, struct io_task *task); /* any thread, also when dead */
    void (*task_cancel)(struct io_loop *loop, struct io_task *task); /* also when dead */
    void (*timer_start)(struct io_loop *loop, struct io_timer *timer);
    void (*timer_cancel)(struct io_loop *loop, struct io_timer *timer);
    void (*pollers_changed)(struct io_loop *loop);

    err_t (*bell_open)(struct io_loop *loop, void (*ring)(void *arg), void *arg,
                       struct io_bell **out);
    int (*bell_fd)(const struct io_bell *bell);
    void (*bell_close)(struct io_bell *bell);
    bool (*has_futex)(struct io_loop *loop);
    err_t (*futex_open)(struct io_loop *loop, const _Atomic uint32_t *word,
                        void (*woken)(void *arg), void *arg, struct io_futex **out);
    void (*futex_arm)(struct io_futex *futex, uint32_t seen);
    void (*futex_close)(struct io_futex *futex);

    err_t (*connect)(struct io_loop *loop, const char *address,
                     const struct io_stream_handler *handler, void *arg, io_connect_fn connected,
                     struct io_stream **out);
    err_t (*listen)(struct io_loop *loop, const char *address, io_accept_fn accepted, void *arg,
                    struct io_listener **out);
    const char *(*listener_address)(const struct io_listener *listener);
    void (*listener_close)(struct io_listener *listener);

    err_t (*file_open)(struct io_loop *loop, const char *path, int flags, struct io_file **out);
    void (*file_close)(struct io_file *file);
    void (*file_read)(struct io_file *file, uint64_t offset, void *data, size_t len,
                      struct io_op *op);
    void (*file_write)(struct io_file *file, uint64_t offset, const void *data, size_t len,
                       struct io_op *op);
    void (*file_sync)(struct io_file *file, struct io_op *op);
    err_t (*file_read_sync)(struct io_file *file, uint64_t offset, void *data, size_t len,
                            size_t *result);
    err_t (*file_write_sync)(struct io_file *file, uint64_t offset, const void *data, size_t len);
    err_t (*file_sync_sync)(struct io_file *file);
    err_t (*file_truncate_sync)(struct io_file *file, uint64_t size);
    err_t (*file_stat_sync)(struct io_file *file, struct io_stat *out);
    err_t (*file_lock_sync)(struct io_file *file, bool *locked);
    void (*file_unlock_sync)(struct io_file *file);

    err_t (*stat)(struct io_loop *loop, const char *path, struct io_stat *out);
    err_t (*mkdir)(struct io_loop *loop, const char *path, int mode);
    err_t (*rename)(struct io_loop *loop, const char *from, const char *to);
    err_t (*unlink)(struct io_loop *loop, const char *path);
    err_t (*chmod)(struct io_loop *loop, const char *path, int mode);
    err_t (*dir_sync)(struct io_loop *loop, const char *path);
    err_t (*dir_list)(struct io_loop *loop, const char *path,
                      err_t (*each)(void *arg, const char *name), void *arg);

    err_t (*watch_open)(struct io_loop *loop, const char *path, void (*changed)(void *arg),
                        void *arg, struct io_watch **out);
    void (*watch_close)(struct io_watch *watch);

    err_t (*process_start)(struct io_loop *loop, const struct io_process_spec *spec,
                           io_exit_fn exited, void *arg, struct io_process **out);
    err_t (*process_adopt)(struct io_loop *loop, pid_t pid, const char *executable,
                           uint64_t start_ticks, io_exit_fn exited, void *arg,
                           struct io_process **out);
    err_t (*process_signal)(struct io_process *process, int signal_number);
    err_t (*process_limit_memory)(struct io_process *process, uint64_t bytes);
    void (*process_release)(struct io_process *process);
    err_t (*signal_watch)(struct io_loop *loop, int signal_number,
                          void (*caught)(void *arg, int signal_number), void *arg);
};

/* What every implementation's environment begins with. */
struct io_env {
    const struct io_backend *backend;
};

/* What every implementation's loop begins with. */
struct io_loop {
    const struct io_backend *backend;
    struct io_env *env;
    /* Set by the loop's own thread when it ends. Relaxed: whoever uses its objects afterwards has
     * joined that thread; sync file calls of other threads only choose which error they give. */
    _Atomic bool dead;
    pthread_t thread; /* the only one that may use the loop; constant once it runs */
    struct io_poller *pollers;
    size_t lasting; /* of them, those that are not brief */
    struct io_loop_counters *counters; /* own_counters, or a slot that others see */
    struct io_loop_counters own_counters;
    struct io_poller *poller_next; /* of the one being polled; fixed up by removal */
};

/* Every object starts like this; process carries what its two getters answer. */
struct io_bell {
    struct io_loop *loop;
};
struct io_futex {
    struct io_loop *loop;
};
struct io_listener {
    struct io_loop *loop;
};
struct io_file {
    struct io_loop *loop;
};
struct io_watch {
    struct io_loop *loop;
};
struct io_process {
    struct io_loop *loop;
    pid_t pid;
    uint64_t start_ticks;
};

static inline bool io_loop_dead(const struct io_loop *loop)
{
    /* Pairs with the store in io_loop_set_dead; publishes nothing. */
    return atomic_load_explicit(&loop->dead, memory_order_relaxed);
}

static inline void io_loop_set_dead(struct io_loop *loop)
{
    /* Pairs with the load in io_loop_dead; see the field. */
    atomic_store_explicit(&loop->dead, true, memory_order_relaxed);
}

/* True on the loop's own thread; anywhere once it has stopped, for its thread is joined then. */
static inline bool io_loop_here(const struct io_loop *loop)
{
    return io_loop_dead(loop) || pthread_equal(loop->thread, pthread_self()) != 0;
}

/* Polls every poller once, or every brief one; true when one did something. */
bool io_loop_poll(struct io_loop *loop, bool brief_only);

static inline void io_loop_count(_Atomic uint64_t *counter)
{
    /* Relaxed, both: one writer, see struct io_loop_counters. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Stream defaults: high water where drain starts to be called. */
enum { IO_STREAM_HIGH_WATER = 64 * 1024 };

#endif
