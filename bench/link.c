/*
 * Two processes for one run of a link. See link.h. The parent is never left waiting for a child
 * that died or for a mechanism that hangs: SIGCHLD and SIGALRM set link_interrupted, and blocking
 * calls return with EINTR because neither handler restarts them.
 *
 * A run's processes are the program's grandchildren at most: the program forks the measuring
 * process (parent), which forks the working one (child). PR_SET_PDEATHSIG takes them down with
 * their parents, so an interrupted bench leaves no spinning process behind. Results come back
 * through one shared page, written by the parent before it ends and read by the program after
 * that: the wait orders it.
 */
#include "bench/link.h"

#include "core/base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

volatile sig_atomic_t link_interrupted;

enum { STUCK_S = 60 }; /* a run with all its set-up takes seconds */

/* Async-signal-safe: it only sets a flag. */
static void on_signal(int signal)
{
    ASSERT(signal == SIGALRM || signal == SIGCHLD);
    link_interrupted = 1;
}

/* On: a death of a child and the end of the time interrupt what blocks. Off: as usual again, so
 * that the kill at the end of a run is no event. */
static void watch(bool on, unsigned seconds)
{
    struct sigaction action = {.sa_handler = on ? on_signal : SIG_DFL};
    ASSERT(on == (seconds > 0));
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGCHLD, &action, NULL);
    alarm(on ? seconds : 0);
}

/* Ends with this process, not after it. */
static void die_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* What both processes leave behind, in memory it shares with the program. */
struct outcome {
    struct load_figures figures;
    bool ended;       /* by itself: what follows is true */
    unsigned code; /* an enum err_code; 0: it went well */
    char text[512];
    char child[256]; /* what the child said when it ended by itself; it may end just after us */
};

/* The side that works until it is killed. It comes back from run only when something is wrong,
 * which it leaves in outcome->child for whoever asks why. */
static _Noreturn void child_main(struct link *link, struct outcome *outcome)
{
    ASSERT(link->ops->run != NULL);
    die_with_parent();
    watch(false, 0);
    machine_pin(link->ops->threads || link->shape->anywhere ? -1 : 1);
    struct load_figures *figures = MEM_NEW(struct load_figures);
    struct load load;
    link->parent = false;
    load_init(&load, link->shape, false, figures);
    size_t ballast = (size_t)link->shape->ballast_mib << 20;
    if (ballast > 0) {
        memset(mem_alloc(ballast), 1, ballast); /* held until the kill */
    }
    err_t err = link->ops->run(link, &load);
    const char *why = err != ERR_OK ? err_text(err) : load.torn ? "bytes were damaged" : "";
    snprintf(outcome->child, sizeof(outcome->child), "%s", why);
    _exit(1);
}

/* Was it a measurement? Damage is an error whoever caused it; losing messages is one only of
 * ours and of the floors: peers may by design, and their row says how many. */
static err_t judge(const struct link *link, const struct load *load)
{
    ASSERT(load->parent);
    if (load->torn) {
        return err_new(ERR_CORRUPT, "bytes were damaged or messages doubled");
    }
    if (load->figures->lost > 0 && link->ops->kind != LINK_PEER) {
        return err_new(ERR_CORRUPT, "%llu messages lost", (unsigned long long)load->figures->lost);
    }
    if (!load->over || load->figures->messages == 0) {
        return err_new(ERR_UNAVAILABLE, "%s", link_interrupted
                                                  ? "the other process ended, or nothing moved"
                                                  : "nothing arrived");
    }
    return ERR_OK;
}

/* The measuring side of a run, with the child under way. */
static err_t measure(struct link *link, pid_t child, struct load_figures *figures)
{
    struct load load;
    ASSERT(child > 0 && link->parent);
    load_init(&load, link->shape, true, figures);
    load.others[0] = child;
    load.others[1] = link->broker;
    machine_pin(link->ops->threads || link->shape->anywhere ? -1 : 0);
    err_t err = link->ops->run(link, &load);
    watch(false, 0); /* before the kill: that end is no surprise */
    return err == ERR_OK ? judge(link, &load) : err;
}

/* A process of its own too: libraries keep threads and connections that must not outlive a run. */
static _Noreturn void parent_main(struct link *link, struct outcome *outcome)
{
    die_with_parent();
    watch(true, STUCK_S + (unsigned)(link->shape->run_ns / 1000000000u));
    pid_t child = fork();
    if (child == 0) {
        child_main(link, outcome);
    }
    err_t err = child < 0 ? err_errno(errno, "fork") : measure(link, child, &outcome->figures);
    watch(false, 0);
    link_kill(child);
    if (err != ERR_OK) {
        outcome->code = err_code(err);
        snprintf(outcome->text, sizeof(outcome->text), "%s%s%s", err_text(err),
                 outcome->child[0] != '\0' ? "; the other process: " : "", outcome->child);
    }
    outcome->ended = true;
    _exit(0);
}

/* Forks the measuring process and takes its outcome out of the memory they share. */
static err_t run_apart(struct link *link, struct load_figures *figures)
{
    struct outcome *outcome = mmap(NULL, sizeof(*outcome), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(link->parent);
    if (outcome == MAP_FAILED) {
        return err_errno(errno, "mmap");
    }
    fflush(NULL); /* or the processes would print it again */
    pid_t parent = fork();
    if (parent == 0) {
        parent_main(link, outcome);
    }
    err_t err = parent < 0 ? err_errno(errno, "fork") : ERR_OK;
    while (parent > 0 && waitpid(parent, NULL, 0) < 0 && errno == EINTR) {
    }
    if (err == ERR_OK && !outcome->ended) {
        err = err_new(ERR_INTERNAL, "the measuring process died");
    } else if (err == ERR_OK && outcome->code != 0) {
        err = err_new((enum err_code)outcome->code, "%s", outcome->text);
    }
    *figures = outcome->figures;
    munmap(outcome, sizeof(*outcome));
    return err;
}

err_t link_run(const struct link_ops *ops, const struct load_shape *shape, const char *directory,
               struct load_figures *figures)
{
    static unsigned serial;
    struct link link = {.ops = ops, .shape = shape, .directory = directory, .serial = serial++,
                        .parent = true};
    ASSERT(ops->fits == NULL || ops->fits(shape));
    err_t err = ops->open != NULL ? ops->open(&link) : ERR_OK;
    if (err == ERR_OK) {
        err = run_apart(&link, figures);
    }
    if (ops->close != NULL) {
        ops->close(&link);
    }
    return err;
}

/* The whole path of a program, in out. Daemons live in /usr/sbin, which need not be in PATH. */
static bool find_program(const char *name, char *path, size_t size)
{
    const char *from = getenv("PATH");
    char places[4096];
    ASSERT(name[0] != '\0' && strchr(name, '/') == NULL);
    snprintf(places, sizeof(places), "%s:/usr/sbin:/usr/local/sbin", from != NULL ? from : "");
    char *rest = places;
    for (char *place = strsep(&rest, ":"); place != NULL; place = strsep(&rest, ":")) {
        snprintf(path, size, "%s/%s", place, name);
        if (*place != '\0' && access(path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

bool link_program(const char *name)
{
    char path[4096 + 128];
    return find_program(name, path, sizeof(path));
}

pid_t link_spawn(char *const argv[])
{
    char path[4096 + 128];
    ASSERT(argv[0] != NULL);
    if (!find_program(argv[0], path, sizeof(path))) {
        return -1;
    }
    machine_pin(-1);
    pid_t pid = fork();
    if (pid == 0) {
        die_with_parent();
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null >= 0) {
            dup2(null, 0);
            dup2(null, 1);
            dup2(null, 2);
        }
        execv(path, argv);
        _exit(127);
    }
    return pid;
}

void link_kill(pid_t pid)
{
    if (pid > 0) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
}

err_t link_write_secret(const char *path)
{
    static const char bytes[] = "0123456789abcdef0123456789abcdef";
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT(path != NULL);
    if (fd < 0) {
        return err_errno(errno, "%s", path);
    }
    ssize_t n = write(fd, bytes, sizeof(bytes) - 1);
    close(fd);
    return n == (ssize_t)sizeof(bytes) - 1 ? ERR_OK : err_new(ERR_IO, "%s: short write", path);
}

/* nftw's callback; a file that cannot be removed stays, in a directory named as temporary. */
static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *at)
{
    ASSERT(path != NULL);
    return remove(path);
}

void link_remove_directory(const char *path)
{
    ASSERT(path[0] == '/');
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS); /* what stays is in a temporary one */
}

int link_free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 &&
                getsockname(fd, (struct sockaddr *)&at, &len) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return good ? ntohs(at.sin_port) : -1;
}
