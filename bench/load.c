/*
 * When counting begins and ends, and the CPU time between. See load.h.
 *
 * When counting begins and ends. The first message begins the warm-up: connecting and faulting
 * memory in are over then. The warm-up ends at the first look at the clock after its time, and
 * everything counted so far is forgotten; from there the run is run_ns long, whenever that was. In
 * a flood the clock is looked at once in so many messages, which are a quarter of a MiB together,
 * at most 1,024: often enough to end in time, seldom enough to cost nothing.
 *
 * CPU time is read from outside, by the clocks of the processes: a child that is killed has
 * nothing to report, and a broker would not know how.
 */
#include "bench/load.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_BYTES = 256 * 1024 }; /* received between two looks at the clock */

void load_init(struct load *load, const struct load_shape *shape, bool parent,
               struct load_figures *figures)
{
    ASSERT(shape->bytes >= LOAD_BYTES_MIN && shape->bytes <= LOAD_BYTES_MAX);
    ASSERT(shape->bytes % sizeof(load_pair) == 0);
    ASSERT(shape->pattern != LOAD_FLOOD || shape->batch > 0);
    ASSERT(shape->pattern != LOAD_PACED || shape->interval_ns > 0);
    *load = (struct load){.shape = shape, .parent = parent, .figures = figures};
    memset(figures, 0, sizeof(*figures));
    for (uint64_t i = 2; i < shape->bytes / sizeof(uint64_t); i++) {
        load->base_sum += i;
    }
    uint64_t every = 1;
    while (every * shape->bytes < LOOK_BYTES && every < 1024) {
        every *= 2;
    }
    load->count_mask = every - 1;
    ASSERT((every & load->count_mask) == 0);
}

/* CPU time of a process, all its threads, so far; 0 for no process. */
static uint64_t cpu_of(pid_t pid)
{
    struct timespec t = {0};
    clockid_t id;
    if (pid == 0 || clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) != 0) {
        return 0;
    }
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Both processes and the broker between them: what a message costs the machine, not one side. */
static uint64_t cpu_ns(const struct load *load)
{
    ASSERT(load->parent);
    return cpu_of(getpid()) + cpu_of(load->others[0]) + cpu_of(load->others[1]);
}

/* What the child has resident, in /proc's words. */
static void memory_of(pid_t pid, struct load_figures *figures)
{
    char path[64];
    char line[128];
    unsigned long long kib;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1) {
            figures->private_bytes = kib * 1024;
        } else if (sscanf(line, "RssShmem: %llu kB", &kib) == 1) {
            figures->shared_bytes = kib * 1024;
        }
    }
    fclose(file);
}

/* KILL: in full flight, at an instruction nobody chose. */
static void kill_child(struct load *load)
{
    ASSERT(load->parent && load->shape->pattern == LOAD_KILL);
    if (load->killed_ns == 0 && load->others[0] != 0) {
        load->killed_ns = machine_now_ns();
        kill(load->others[0], SIGKILL);
        load->figures->messages = load->received;
    }
}

void load_clock(struct load *load, uint64_t now)
{
    ASSERT(load->parent);
    if (load->begin_ns == 0) { /* the first message has come: now the warm-up begins */
        load->begin_ns = now + load->shape->run_ns / LOAD_WARM_UP_SHARE;
    }
    if (load->shape->pattern == LOAD_KILL) {
        if (now >= load->begin_ns) {
            kill_child(load);
        }
        return;
    }
    if (!load->counting && now >= load->begin_ns) {
        uint64_t lost = load->figures->lost;
        memset(load->figures, 0, sizeof(*load->figures));
        load->figures->lost = lost; /* a lost one is one too many, whenever it was */
        load->begin_ns = now; /* perhaps well after it was due: the run is as long as promised */
        load->end_ns = now + load->shape->run_ns;
        load->cpu_begin_ns = cpu_ns(load);
        load->child_cpu_begin_ns = cpu_of(load->others[0]);
        load->received_begin = load->received;
        load->counting = true;
    } else if (load->counting && now >= load->end_ns && !load->over) {
        load->figures->ns = now - load->begin_ns;
        load->figures->messages = load->received - load->received_begin;
        load->figures->cpu_ns = cpu_ns(load) - load->cpu_begin_ns;
        load->figures->child_cpu_ns = cpu_of(load->others[0]) - load->child_cpu_begin_ns;
        memory_of(load->others[0], load->figures);
        load->over = true;
    }
}
