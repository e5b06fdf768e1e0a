/*
 * Processes: started with posix_spawn with no descriptor but the standard three, watched through a
 * pidfd, which also makes sure that a signal never reaches another process of the same number.
 */
#include "core/io/uring/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/*
 * A child, or an adopted process of a predecessor. The owner has it until io_process_release; a
 * child stays here after that until it was reaped.
 */
struct uring_process {
    struct io_process base;
    struct uring_object object;
    struct uring_loop *loop;
    struct uring_req req; /* a poll of pidfd: readable when the process has ended */
    int pidfd; /* names the process even when its number was reused */
    bool child;    /* ours: to be reaped */
    bool released; /* by its owner; kept to reap the child */
    io_exit_fn exited;
    void *arg;
};

/* ---- what the kernel says of a process ------------------------------------------------------- */

/* A file of /proc, which is short and comes whole. */
static err_t small_read(const char *path, char *out, size_t cap)
{
    ASSERT(cap > 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return err_errno(errno, "opening %s", path);
    }
    ssize_t got = read(fd, out, cap - 1);
    int error = errno;
    close(fd);
    if (got < 0) {
        return err_errno(error, "reading %s", path);
    }
    out[got] = '\0';
    return ERR_OK;
}

/* When a process was started: with its number this names it for good. */
static err_t start_ticks_read(pid_t pid, uint64_t *out)
{
    ASSERT(pid > 0);
    char path[64];
    char text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    TRY(small_read(path, text, sizeof(text)));
    /* The second field is the name in parentheses, and may hold anything; field 22 is wanted. */
    const char *at = strrchr(text, ')');
    ASSERT(strlen(text) < sizeof(text));
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at == NULL) {
        return err_new(ERR_IO, "%s has no start time", path);
    }
    *out = strtoull(at + 1, NULL, 10);
    return ERR_OK;
}

/* Follows links on both sides. */
static err_t executable_check(pid_t pid, const char *executable)
{
    ASSERT(pid > 0);
    char path[64];
    char target[PATH_MAX + 16];
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    ssize_t got = readlink(path, target, sizeof(target) - 1);
    if (got < 0) {
        return err_errno(errno, "executable of process %d", (int)pid);
    }
    target[got] = '\0';
    /* The file may have been replaced by a newer version meanwhile. */
    ASSERT((size_t)got < sizeof(target));
    char *deleted = strstr(target, " (deleted)");
    if (deleted != NULL && deleted[10] == '\0') {
        *deleted = '\0';
    }
    char resolved[PATH_MAX];
    if (strcmp(target, executable) == 0 ||
        (realpath(executable, resolved) != NULL && strcmp(target, resolved) == 0)) {
        return ERR_OK;
    }
    return err_new(ERR_NOT_FOUND, "process %d runs %s, not %s", (int)pid, target, executable);
}

/* ---- watching -------------------------------------------------------------------------------- */

/* The process itself is not touched. */
static void process_free(struct uring_object *object)
{
    struct uring_process *process = CONTAINER_OF(object, struct uring_process, object);
    close(process->pidfd);
    free(process);
}

/* The loop ends, the process does not: a child outlives us, an adopted one did before. */
static void process_shut(struct uring_object *object)
{
    struct uring_process *process = CONTAINER_OF(object, struct uring_process, object);
    uring_cancel(process->loop, &process->req);
}

static void process_arm(struct uring_process *process)
{
    ASSERT(process->pidfd >= 0);
    struct io_uring_sqe *sqe = uring_sqe(process->loop, &process->req);
    io_uring_prep_poll_add(sqe, process->pidfd, POLLIN);
    io_uring_sqe_set_data(sqe, &process->req);
}

/* The process has ended: a child is reaped, also one nobody asks for any more. */
static void process_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_process *process = CONTAINER_OF(req, struct uring_process, req);
    if (io_loop_dead(process->base.loop)) {
        return;
    }
    int status = -1;
    bool ended = res >= 0;
    /* A child that cannot be reaped yet is polled again. */
    if (ended && process->child) {
        ended = waitpid(process->base.pid, &status, WNOHANG) != 0;
    }
    if (process->released && (ended || !process->child)) {
        uring_object_remove(&process->object);
        process_free(&process->object);
    } else if (!ended) {
        process_arm(process);
    } else {
        process->exited(process->arg, status);
    }
}

/* Takes pidfd. The poll is armed at once: a process that has ended already completes it. */
static struct uring_process *process_new(struct io_loop *loop, pid_t pid, int pidfd, bool child,
                                         io_exit_fn exited, void *arg)
{
    ASSERT(pid > 0 && pidfd >= 0);
    struct uring_process *process = MEM_NEW(struct uring_process);
    process->base.loop = loop;
    process->base.pid = pid;
    process->loop = uring_loop_of(loop);
    process->req.complete = process_complete;
    process->pidfd = pidfd;
    process->child = child;
    process->exited = exited;
    process->arg = arg;
    uring_object_add(process->loop, &process->object, process_shut, process_free);
    process_arm(process);
    return process;
}

/* ---- starting -------------------------------------------------------------------------------- */

/* Standard input reads nothing; output is appended to the given files. */
static int actions_fill(posix_spawn_file_actions_t *actions, const struct io_process_spec *spec)
{
    int append = O_WRONLY | O_CREAT | O_APPEND;
    int error = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (error == 0 && spec->stdout_path != NULL) {
        error = posix_spawn_file_actions_addopen(actions, 1, spec->stdout_path, append, 0600);
    }
    if (error == 0 && spec->stderr_path != NULL) {
        error = posix_spawn_file_actions_addopen(actions, 2, spec->stderr_path, append, 0600);
    }
    return error;
}

/* An errno value. */
static int attributes_fill(posix_spawnattr_t *attributes, const struct io_process_spec *spec)
{
    /* The child starts with no signal blocked, and none ignored that we ignore. */
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    flags |= spec->new_session ? POSIX_SPAWN_SETSID : 0;
    sigset_t set;
    sigemptyset(&set);
    int error = posix_spawnattr_setsigmask(attributes, &set);
    sigaddset(&set, SIGPIPE);
    error = error == 0 ? posix_spawnattr_setsigdefault(attributes, &set) : error;
    return error == 0 ? posix_spawnattr_setflags(attributes, flags) : error;
}

/*
 * Ours are close-on-exec already; this is for those we ourselves inherited. They are marked, not
 * closed in the child before exec: an advisory lock of ours stays held until the child shows its
 * own command line, which is how orchestrator/process finds what a killed predecessor started.
 */
static int descriptors_mark(void)
{
    return close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 ? 0 : errno;
}

/* An errno value; 0 when the process runs, or at least exists. */
static int spawn(const struct io_process_spec *spec, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ASSERT(posix_spawn_file_actions_init(&actions) == 0);
    ASSERT(posix_spawnattr_init(&attributes) == 0);
    int error = actions_fill(&actions, spec);
    error = error == 0 ? attributes_fill(&attributes, spec) : error;
    error = error == 0 ? descriptors_mark() : error;
    if (error == 0) {
        char *const *argv = (char *const *)(uintptr_t)spec->argv;
        char *const *envp = spec->envp != NULL ? (char *const *)(uintptr_t)spec->envp : environ;
        error = posix_spawn(pid, spec->argv[0], &actions, &attributes, argv, envp);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error;
}

/* All failures up to exec are errors here: glibc's posix_spawn waits for it. */
err_t uring_process_start(struct io_loop *loop, const struct io_process_spec *spec,
                          io_exit_fn exited, void *arg, struct io_process **out)
{
    ASSERT(spec != NULL && spec->argv[0] != NULL);
    *out = NULL;
    pid_t pid;
    int error = spawn(spec, &pid);
    if (error != 0) {
        return err_errno(error, "starting %s", spec->argv[0]);
    }
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        err_t err = err_errno(errno, "watching process %d", (int)pid);
        kill(pid, SIGKILL); /* ours and not reaped: the number is still its own */
        waitpid(pid, NULL, 0);
        return err;
    }
    struct uring_process *process = process_new(loop, pid, pidfd, true, exited, arg);
    *out = &process->base;
    /* A child that ended at once is a zombie still, and has its entry. */
    return start_ticks_read(pid, &process->base.start_ticks);
}

/* The same process, and the program we think it is. */
static err_t adopt_check(pid_t pid, const char *executable, uint64_t start_ticks)
{
    uint64_t ticks;
    TRY(start_ticks_read(pid, &ticks));
    if (ticks != start_ticks) {
        return err_new(ERR_NOT_FOUND, "process %d is another one by now", (int)pid);
    }
    return executable_check(pid, executable);
}

/*
 * For what a killed predecessor started. Its exit is seen through the pidfd, its status is not:
 * only a parent may wait for it.
 */
err_t uring_process_adopt(struct io_loop *loop, pid_t pid, const char *executable,
                          uint64_t start_ticks, io_exit_fn exited, void *arg,
                          struct io_process **out)
{
    *out = NULL;
    /* The descriptor first: what is checked then cannot change its identity any more. */
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        return err_new(ERR_NOT_FOUND, "process %d is gone", (int)pid);
    }
    err_t err = adopt_check(pid, executable, start_ticks);
    if (err != ERR_OK) {
        close(pidfd);
        return err;
    }
    struct uring_process *process = process_new(loop, pid, pidfd, false, exited, arg);
    process->base.start_ticks = start_ticks;
    *out = &process->base;
    return ERR_OK;
}

err_t uring_process_signal(struct io_process *base, int signal_number)
{
    struct uring_process *process = (struct uring_process *)base;
    if (pidfd_send_signal(process->pidfd, signal_number, NULL, 0) != 0) {
        return err_errno(errno, "signalling process %d", (int)base->pid);
    }
    return ERR_OK;
}

/*
 * prlimit goes by number, so the descriptor is asked first whether the process still is. A child's
 * number cannot be taken in between, since only we reap it; an adopted one's could, if it ended in
 * these microseconds and all other numbers were used up. The soft limit alone is set: a hard one
 * could not be raised again.
 */
err_t uring_process_limit_memory(struct io_process *base, uint64_t bytes)
{
    struct uring_process *process = (struct uring_process *)base;
    struct rlimit limit;
    bool ok = pidfd_send_signal(process->pidfd, 0, NULL, 0) == 0 &&
              prlimit(base->pid, RLIMIT_DATA, NULL, &limit) == 0;
    if (ok) {
        limit.rlim_cur = bytes == 0 || bytes > limit.rlim_max ? limit.rlim_max : bytes;
        ok = prlimit(base->pid, RLIMIT_DATA, &limit, NULL) == 0;
    }
    if (!ok) {
        return err_errno(errno, "limiting the memory of process %d", (int)base->pid);
    }
    return ERR_OK;
}

/* A child stays watched, so that it is reaped and its number freed. */
void uring_process_release(struct io_process *base)
{
    struct uring_process *process = (struct uring_process *)base;
    ASSERT(!process->released);
    if (!io_loop_dead(base->loop) && process->req.active) {
        process->released = true;
        if (!process->child) {
            uring_cancel(process->loop, &process->req);
        }
        return; /* process_complete frees it; a child is reaped then */
    }
    uring_object_remove(&process->object);
    process_free(&process->object);
}
