/*
 * The machine and its floors. See machine.h.
 *
 * Pinning: the two sides of a case must be on CPUs of their own for spinning to make sense, and
 * the probe on the same two, or it would say nothing of the case. Placement: the host maps virtual
 * CPUs to threads of one core, to cores that share a cache, or to cores that do not, and changes
 * that while we run; nothing but the round trip of a line tells.
 *
 * Every probe is short (tens of milliseconds), since there are two around each run.
 */
#include "bench/machine.h"

#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct machine_clock machine_clock;

enum { CALIBRATE_NS = 20 * 1000 * 1000 };

/* Does the first line of /proc/cpuinfo that starts with key contain word? out: the line's value. */
static bool cpuinfo(const char *key, const char *word, char *out, size_t size)
{
    ASSERT(size > 0);
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (file == NULL) {
        return false;
    }
    char line[4096]; /* flags are long */
    bool found = false;
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) == 0 && colon != NULL) {
            colon[strcspn(colon, "\n\"\\")] = '\0';
            snprintf(out, size, "%s", colon + 2);
            found = strstr(colon, word) != NULL;
            break;
        }
    }
    fclose(file);
    return found;
}

void machine_clock_start(void)
{
    ASSERT(machine_clock.mult == 0); /* so that machine_now_ns asks the kernel below */
#ifdef __x86_64__
    char flags[4096];
    if (!cpuinfo("flags", " constant_tsc", flags, sizeof(flags)) ||
        strstr(flags, "nonstop_tsc") == NULL) {
        return;
    }
    uint64_t start_ns = machine_now_ns();
    uint64_t start_ticks = __rdtsc();
    uint64_t now_ns;
    do {
        now_ns = machine_now_ns();
    } while (now_ns - start_ns < CALIBRATE_NS);
    uint64_t ticks = __rdtsc() - start_ticks;
    machine_clock.base_ticks = start_ticks;
    machine_clock.base_ns = start_ns;
    machine_clock.mult = (uint64_t)(((unsigned __int128)(now_ns - start_ns) << 32) / ticks);
    ASSERT(machine_clock.mult > 0);
#endif
}

void machine_describe(struct machine *machine)
{
    ASSERT(machine != NULL);
    *machine = (struct machine){.cpus = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    snprintf(machine->cpu, sizeof(machine->cpu), "unknown CPU");
    cpuinfo("model name", "", machine->cpu, sizeof(machine->cpu));
    struct utsname names;
    if (uname(&names) == 0) {
        snprintf(machine->kernel, sizeof(machine->kernel), "%.60s", names.release);
    }
    if (getloadavg(&machine->load, 1) != 1) {
        machine->load = 0;
    }
}

double machine_peak_mib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

enum { LINE_ROUNDS = 40000, LINE_WARM_UP = 2000 };

/* Two lines on pages of their own neighbours: prefetchers fetch lines in pairs. */
struct line {
    _Alignas(128) _Atomic uint64_t there;
    _Alignas(128) _Atomic uint64_t back;
};

/* The other thread: sends each number back. */
static void *line_answer(void *arg)
{
    struct line *line = arg;
    machine_pin(1);
    for (uint64_t i = 1; i <= LINE_ROUNDS; i++) {
        /* Pairs with the release in machine_probe_line; publishes nothing but itself. */
        while (atomic_load_explicit(&line->there, memory_order_acquire) != i) {
        }
        /* Pairs with the acquire in machine_probe_line. */
        atomic_store_explicit(&line->back, i, memory_order_release);
    }
    return NULL;
}

struct machine_line machine_probe_line(void)
{
    struct line line = {0};
    struct hist hist;
    hist_clear(&hist);
    pthread_t thread;
    machine_pin(0);
    int rc = pthread_create(&thread, NULL, line_answer, &line);
    ASSERT(rc == 0);
    uint64_t start = machine_now_ns();
    for (uint64_t i = 1; i <= LINE_ROUNDS; i++) {
        /* Pairs with the acquire in line_answer. */
        atomic_store_explicit(&line.there, i, memory_order_release);
        /* Pairs with the release in line_answer. */
        while (atomic_load_explicit(&line.back, memory_order_acquire) != i) {
        }
        uint64_t now = machine_now_ns();
        if (i > LINE_WARM_UP) {
            hist_add(&hist, now - start);
        }
        start = now;
    }
    pthread_join(thread, NULL);
    machine_pin(-1);
    return (struct machine_line){.p50_ns = (double)hist_quantile(&hist, 0.5),
                                 .p99_ns = (double)hist_quantile(&hist, 0.99)};
}

const char *machine_placement(double line_ns)
{
    ASSERT(line_ns >= 0);
    return line_ns < 95 ? "siblings" : line_ns < 250 ? "near" : "far";
}

double machine_probe_memcpy(void)
{
    enum { BYTES = 1 << 20, ROUNDS = 100 };
    uint8_t *from = mem_zalloc(BYTES);
    uint8_t *to = mem_zalloc(BYTES);
    uint64_t start = 0;
    for (int i = 0; i <= ROUNDS; i++) {
        if (i == 1) {
            start = machine_now_ns(); /* the first round is the warm-up */
        }
        memcpy(to, from, BYTES);
        /* The compiler must think that the copy is looked at. */
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    double ns = (double)(machine_now_ns() - start);
    free(from);
    free(to);
    return ns > 0 ? (double)BYTES * ROUNDS / ns : 0;
}

void machine_pin(int index)
{
    static cpu_set_t allowed; /* of the process at its first call */
    static bool known;
    if (!known) {
        known = sched_getaffinity(0, sizeof(allowed), &allowed) == 0;
    }
    if (!known || CPU_COUNT(&allowed) < 2) {
        return;
    }
    cpu_set_t set = allowed;
    if (index >= 0) {
        CPU_ZERO(&set);
        int skip = index % CPU_COUNT(&allowed);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &allowed) && skip-- == 0) {
                CPU_SET(cpu, &set);
            }
        }
    }
    ASSERT(CPU_COUNT(&set) >= 1);
    /* Refused (a container's rule): then it is not pinned, which the placement tells. */
    (void)sched_setaffinity(0, sizeof(set), &set);
}

/* A group leader may not make a session: its child does the work then, and it waits. */
static void new_session(void)
{
    if (setsid() >= 0) {
        return;
    }
    pid_t child = fork();
    if (child > 0) {
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    (void)setsid(); /* the parent itself where fork failed: then nothing is won, or lost */
}

err_t machine_priority(void)
{
    new_session();
    if (setpriority(PRIO_PROCESS, 0, -20) != 0) {
        return err_errno(errno, "nice -20");
    }
    /* With autogroups, nice counts only among the processes of a session; this is the session's. */
    FILE *file = fopen("/proc/self/autogroup", "we");
    if (file != NULL) {
        fprintf(file, "-20");
        if (fclose(file) != 0) {
            return err_errno(errno, "/proc/self/autogroup");
        }
    }
    return ERR_OK;
}

err_t machine_sync_probe(const char *directory, size_t count, struct hist *hist)
{
    int fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT(count > 0);
    if (fd < 0) {
        return err_errno(errno, "temporary file in %s", directory);
    }
    char block[512] = {1};
    err_t err = ERR_OK;
    /* First pass: the blocks get their places. Second: they are overwritten, which is timed. */
    for (size_t i = 0; i < 2 * count && err == ERR_OK; i++) {
        uint64_t start = machine_now_ns();
        off_t at = (off_t)(i % count * sizeof(block));
        if (pwrite(fd, block, sizeof(block), at) != (ssize_t)sizeof(block) ||
            (i + 1 >= count && fdatasync(fd) != 0)) {
            err = err_errno(errno, "write and fdatasync in %s", directory);
        }
        if (i >= count) {
            hist_add(hist, machine_now_ns() - start);
        }
    }
    close(fd);
    return err;
}
