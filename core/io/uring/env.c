/*
 * The real environment: clocks, randomness, identity of the host, the table of functions.
 *
 * io_now_us. Users compare times of one process and write them to disk, so time must not go back;
 * but it should be the wall clock. It is CLOCK_MONOTONIC plus an offset that is only ever raised:
 * the wall clock is followed when it is set forward, and outrun when it is set back. Any thread;
 * two relaxed atomics, argued in clock_follow.
 */
#include "core/io/uring/uring.h"

#include "core/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* How late a wall clock that was set forward may be noticed. */
enum { CLOCK_CHECK_US = 100 * 1000 };

/* A clock of the kernel in nanoseconds; these clocks cannot fail. */
static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;
    ASSERT(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* Twice as much is mapped, and what lies outside of the aligned half goes back. A kernel without
 * large pages refuses the advice, and nothing is lost. */
void *io_large_page_new(void)
{
    uint8_t *start = mmap(NULL, 2 * (size_t)IO_LARGE_PAGE, PROT_READ | PROT_WRITE,
                          MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE, -1, 0);
    ASSERT(start != MAP_FAILED);
    size_t before = -(uintptr_t)start % IO_LARGE_PAGE;
    uint8_t *page = start + before;
    size_t behind = IO_LARGE_PAGE - before;
    ASSERT(before == 0 || munmap(start, before) == 0);
    ASSERT(munmap(page + IO_LARGE_PAGE, behind) == 0);
    (void)madvise(page, IO_LARGE_PAGE, MADV_HUGEPAGE);
    return page;
}

void io_large_page_free(void *page)
{
    ASSERT(page != NULL && (uintptr_t)page % IO_LARGE_PAGE == 0);
    ASSERT(munmap(page, IO_LARGE_PAGE) == 0);
}

/* Stops while the machine sleeps, and is the same in all threads. */
uint64_t uring_mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/*
 * Follows the wall clock when it is ahead of ours (it was set, or the machine slept); when it was
 * set back ours goes on as it was. Any thread.
 */
static void clock_follow(struct uring_env *env, int64_t mono_us)
{
    int64_t behind = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000) - mono_us;
    /* Relaxed, here and in now_us: the offset publishes nothing but itself, and coherence alone
     * keeps a thread that learnt of a later time from reading an older offset. */
    int64_t offset = atomic_load_explicit(&env->clock_offset_us, memory_order_relaxed);
    while (behind > offset) {
        if (atomic_compare_exchange_weak_explicit(&env->clock_offset_us, &offset, behind,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            break;
        }
    }
    atomic_store_explicit(&env->clock_checked_us, mono_us, memory_order_relaxed);
}

/* Two relaxed loads and one look at the clock, which needs no system call. */
static uint64_t now_us(struct io_loop *loop)
{
    struct uring_env *env = uring_loop_of(loop)->env;
    int64_t mono_us = (int64_t)(uring_mono_ns() / 1000);
    /* Relaxed: a hint when to look at the wall clock again; pairs with clock_follow. */
    if (mono_us - atomic_load_explicit(&env->clock_checked_us, memory_order_relaxed) >
        CLOCK_CHECK_US) {
        clock_follow(env, mono_us);
    }
    /* Relaxed: pairs with clock_follow, see there. */
    return (uint64_t)(mono_us +
                      atomic_load_explicit(&env->clock_offset_us, memory_order_relaxed));
}

static uint64_t mono_ns(struct io_loop *loop)
{
    return uring_mono_ns();
}

/* The kernel's generator; it blocks only before it was seeded, early in boot. */
static void env_random(struct io_env *env, void *out, size_t len)
{
    ASSERT(out != NULL || len == 0);
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0) {
            ASSERT(errno == EINTR);
            continue;
        }
        at += got;
        len -= (size_t)got;
    }
}

/* The boot id tells reboots apart, the name tells containers on one kernel apart. */
static void host_id_read(struct uring_env *env)
{
    char boot[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t got = read(fd, boot, sizeof(boot) - 1);
        boot[got > 0 ? got : 0] = '\0';
        close(fd);
    }
    boot[strcspn(boot, "\n")] = '\0';
    char name[256] = "";
    if (gethostname(name, sizeof(name) - 1) != 0) {
        name[0] = '\0';
    }
    snprintf(env->host_id, sizeof(env->host_id), "%s-%016llx", boot,
             (unsigned long long)hash_bytes(name, strlen(name)));
}

/* The same for every process of this boot in this container; others differ. */
static const char *env_host_id(struct io_env *base)
{
    return ((struct uring_env *)base)->host_id;
}

/* One per process: signal dispositions are the process'. */
err_t io_env_new_real(struct io_env **out)
{
    struct uring_env *env = MEM_NEW(struct uring_env);
    env->base.backend = &uring_backend;
    ASSERT(pthread_mutex_init(&env->lock, NULL) == 0);
    clock_follow(env, (int64_t)(uring_mono_ns() / 1000));
    host_id_read(env);
    /* A peer that closed, or a log nobody reads, is an error to handle and no reason to die. */
    (void)signal(SIGPIPE, SIG_IGN);
    *out = &env->base;
    return ERR_OK;
}

/* For tests, before the first loop is opened. */
void uring_env_disable(struct io_env *env, unsigned features)
{
    ASSERT(env->backend == &uring_backend);
    ((struct uring_env *)env)->disabled = features;
}

/* Also what was left open on loops that have ended. */
static void env_free(struct io_env *base)
{
    struct uring_env *env = (struct uring_env *)base;
    while (env->loops != NULL) {
        struct uring_loop *loop = env->loops;
        env->loops = loop->next_of_env;
        uring_loop_free(loop);
    }
    ASSERT(pthread_mutex_destroy(&env->lock) == 0);
    free(env);
}

/* The calling thread becomes the loop's thread until the loop is stopped. */
static err_t env_main(struct io_env *base, io_start_fn start, void *arg)
{
    struct uring_loop *loop = uring_loop_new((struct uring_env *)base);
    TRY(uring_loop_open(loop));
    start(&loop->base, arg);
    uring_loop_run(loop);
    return ERR_OK;
}

/* Seen when the current callback has returned. */
static void loop_stop(struct io_loop *loop)
{
    uring_loop_of(loop)->stop = true;
}

/* 0: sleep at once. */
static void set_spin(struct io_loop *loop, uint32_t max_us)
{
    uring_loop_of(loop)->spin_ns = max_us * 1000ULL;
}

static void pollers_changed(struct io_loop *loop)
{
    /* The loop looks at its pollers in every round, and this round is not over. */
}

/* Any thread: see tasks.c for the order of the memory accesses. */
static void post(struct io_loop *base, struct io_task *task)
{
    struct uring_loop *loop = uring_loop_of(base);
    if (io_loop_dead(base)) {
        return; /* nobody takes tasks any more */
    }
    uring_tasks_push(&loop->tasks, task);
    /* Pairs with the store in loop_sleep: all four of (push exchanges head, this load) and (store
     * sleeping, load head) are seq_cst, so either the loop sees the task or we see it asleep. */
    if (atomic_load_explicit(&loop->sleeping, memory_order_seq_cst) != 0 &&
        atomic_exchange_explicit(&loop->sleeping, 0, memory_order_seq_cst) != 0) {
        /* Relaxed: a measurement; pairs with loop_sleep, which may see it one sleep late. */
        atomic_store_explicit(&loop->rung_ns, uring_mono_ns(), memory_order_relaxed);
        uring_rouse(loop);
    }
}

/* From the loop's own thread, or when the loop has ended. */
static void task_cancel(struct io_loop *base, struct io_task *task)
{
    struct uring_loop *loop = uring_loop_of(base);
    /* The lock: several threads may take their tasks back from a loop that has stopped. */
    ASSERT(pthread_mutex_lock(&loop->env->lock) == 0);
    uring_tasks_cancel(&loop->tasks, task);
    ASSERT(pthread_mutex_unlock(&loop->env->lock) == 0);
}

const struct io_backend uring_backend = {
    .simulated = false,
    .env_free = env_free,
    .random = env_random,
    .host_id = env_host_id,
    .main = env_main,
    .thread_start = uring_thread_start,
    .loop_stop = loop_stop,
    .set_spin = set_spin,
    .note_wake = uring_note_wake,
    .now_us = now_us,
    .mono_ns = mono_ns,
    .post = post,
    .task_cancel = task_cancel,
    .timer_start = uring_timer_start,
    .timer_cancel = uring_timer_cancel,
    .pollers_changed = pollers_changed,
    .bell_open = uring_bell_open,
    .bell_fd = uring_bell_fd,
    .bell_close = uring_bell_close,
    .has_futex = uring_has_futex,
    .futex_open = uring_futex_open,
    .futex_arm = uring_futex_arm,
    .futex_close = uring_futex_close,
    .connect = uring_connect,
    .listen = uring_listen,
    .listener_address = uring_listener_address,
    .listener_close = uring_listener_close,
    .file_open = uring_file_open,
    .file_close = uring_file_close,
    .file_read = uring_file_read,
    .file_write = uring_file_write,
    .file_sync = uring_file_sync,
    .file_read_sync = uring_file_read_sync,
    .file_write_sync = uring_file_write_sync,
    .file_sync_sync = uring_file_sync_sync,
    .file_truncate_sync = uring_file_truncate_sync,
    .file_stat_sync = uring_file_stat_sync,
    .file_lock_sync = uring_file_lock_sync,
    .file_unlock_sync = uring_file_unlock_sync,
    .stat = uring_stat,
    .mkdir = uring_mkdir,
    .rename = uring_rename,
    .unlink = uring_unlink,
    .chmod = uring_chmod,
    .dir_sync = uring_dir_sync,
    .dir_list = uring_dir_list,
    .watch_open = uring_watch_open,
    .watch_close = uring_watch_close,
    .process_start = uring_process_start,
    .process_adopt = uring_process_adopt,
    .process_signal = uring_process_signal,
    .process_limit_memory = uring_process_limit_memory,
    .process_release = uring_process_release,
    .signal_watch = uring_signal_watch,
};
