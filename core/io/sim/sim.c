/*
 * The simulator's core: virtual time, the queue of events, hosts and processes.
 *
 * Determinism rests on this: events are ordered by (time, sequence), every choice comes from one
 * generator in the order of events, and nothing depends on addresses, on real time, or on the order
 * of a hash table. What user code could still do to break it (read the real clock, use real random
 * numbers) tests/tidy forbids outside core/io.
 *
 * One event is one callback of a real process: between any two of them the world may take a process
 * away. deliver is the whole of it:
 *
 *     take the earliest event; time stands at it
 *     trace it; run it
 *     let the pollers of its loop run, as a real loop does in the same round
 *     reap: free what was closed, end what died
 *
 * Entry points: sim_new, sim_process_start, sim_run_until, sim_run_while, and the faults
 * (sim_process_kill, sim_host_crash, sim_disk_fail, sim_partition, sim_cut_connections).
 */
#include "core/io/sim/sim_internal.h"

#include "core/base/hash.h"

#include <stdio.h>

/* Clocks of hosts differ by at most this, as with NTP on a local network. */
enum { SKEW_MAX_US = 5000 };

/* ---- chance ---------------------------------------------------------------------------------- */

/* One generator for all choices: their order is the order of events. */
uint64_t sim_random(struct sim *sim)
{
    sim->random += 0x9E3779B97F4A7C15ULL; /* splitmix64 */
    return hash_u64(sim->random);
}

/*
 * The remainder favours small numbers by range / 2^64: far below what a test could notice. A range
 * of 0 is all 64 bits, max - min + 1 having wrapped.
 */
uint64_t sim_between(struct sim *sim, uint64_t min, uint64_t max)
{
    ASSERT(min <= max);
    uint64_t range = max - min + 1;
    return range == 0 ? sim_random(sim) : min + sim_random(sim) % range;
}

/* True so many times in a hundred. */
bool sim_chance(struct sim *sim, unsigned percent)
{
    ASSERT(percent <= 100);
    return sim_random(sim) % 100 < percent;
}

/* ---- the queue of events --------------------------------------------------------------------- */

/* Sequence numbers differ, so the order is total. */
static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->time != b->time ? a->time < b->time : a->seq < b->seq;
}

/* The event knows its place, so that it can be moved and taken out without a search. */
static void heap_put(struct sim *sim, size_t at, struct sim_event *event)
{
    ASSERT(at >= 1 && at <= sim->heap_len);
    sim->heap[at] = event;
    event->heap_at = at;
}

/* Restores the order after this place got an earlier event. */
static void heap_up(struct sim *sim, size_t at)
{
    ASSERT(at >= 1 && at <= sim->heap_len);
    struct sim_event *event = sim->heap[at];
    while (at > 1 && earlier(event, sim->heap[at / 2])) {
        heap_put(sim, at, sim->heap[at / 2]);
        at /= 2;
    }
    heap_put(sim, at, event);
}

/* Restores the order after this place got a later event. */
static void heap_down(struct sim *sim, size_t at)
{
    ASSERT(at >= 1 && at <= sim->heap_len);
    struct sim_event *event = sim->heap[at];
    for (size_t child = at * 2; child <= sim->heap_len; child = at * 2) {
        if (child < sim->heap_len && earlier(sim->heap[child + 1], sim->heap[child])) {
            child++;
        }
        if (!earlier(sim->heap[child], event)) {
            break;
        }
        heap_put(sim, at, sim->heap[child]);
        at = child;
    }
    heap_put(sim, at, event);
}

/*
 * Nothing when it is not queued. The last event takes its place, and may have to go either way: it
 * comes from another branch of the heap.
 */
void sim_event_clear(struct sim *sim, struct sim_event *event)
{
    size_t at = event->heap_at;
    if (at == 0) {
        return;
    }
    ASSERT(at <= sim->heap_len && sim->heap[at] == event);
    struct sim_event *last = sim->heap[sim->heap_len];
    sim->heap_len--;
    event->heap_at = 0;
    if (last != event) {
        heap_put(sim, at, last);
        heap_up(sim, at);
        heap_down(sim, last->heap_at);
        ASSERT(last->heap_at >= 1 && last->heap_at <= sim->heap_len);
    }
}

/* Never before now: what is late happens next. */
void sim_event_set_at(struct sim *sim, struct sim_event *event, uint64_t time)
{
    ASSERT(event->loop == NULL || !io_loop_dead(&event->loop->base));
    ASSERT(event->run != NULL);
    sim_event_clear(sim, event);
    event->time = time < sim->now ? sim->now : time;
    event->seq = ++sim->seq; /* also when moved: it queues anew behind its equals */
    vec_grow((void **)&sim->heap, &sim->heap_cap, sim->heap_len + 1, sizeof(sim->heap[0]));
    sim->heap_len++;
    heap_put(sim, sim->heap_len, event);
    heap_up(sim, sim->heap_len);
}

/* The common case; delays come from sim_between. */
void sim_event_set(struct sim *sim, struct sim_event *event, uint64_t delay)
{
    sim_event_set_at(sim, event, sim->now + delay);
}

/* ---- lists --------------------------------------------------------------------------------- */

/* An empty ring: the head refers to itself. */
void sim_link_init(struct sim_link *head)
{
    head->prev = head->next = head;
}

/* At the end. */
void sim_link_add(struct sim_link *head, struct sim_link *link)
{
    ASSERT(link->next == NULL);
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

/* Both pointers are cleared: sim_link_add asserts that nothing is in two rings. */
void sim_link_remove(struct sim_link *link)
{
    ASSERT(link->next != NULL && link->prev != NULL);
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

/* ---- running --------------------------------------------------------------------------------- */

/* So that two runs differ in their hash as soon as one byte does that a process was given. */
void sim_trace_bytes(struct sim *sim, const void *data, size_t len)
{
    sim->hash = hash_combine(sim->hash, hash_bytes(data, len));
}

/* Into the hash, and printed when asked for. */
static void trace_event(struct sim *sim, const struct sim_event *event)
{
    ASSERT(event->kind <= SIM_THREAD_DONE);
    static const char *const names[] = {"start", "task", "timer", "poll", "dial", "connected",
                                        "accept", "send", "receive", "file", "watch", "joined"};
    STATIC_ASSERT(ARRAY_LEN(names) == SIM_THREAD_DONE + 1, "one name a kind");
    const struct sim_process *process = event->loop != NULL ? event->loop->process : NULL;
    sim->events_run++;
    sim->hash = hash_combine(sim->hash, event->time);
    sim->hash = hash_combine(sim->hash, process != NULL ? process->number : 0);
    sim->hash = hash_combine(sim->hash, (uint64_t)event->kind);
    if (sim->config.trace) {
        fprintf(stderr, "sim %10llu.%06llu #%llu %s %s\n",
                (unsigned long long)(event->time / 1000000),
                (unsigned long long)(event->time % 1000000), (unsigned long long)sim->events_run,
                process != NULL ? process->name : "network", names[event->kind]);
    }
}

/* Runs the earliest event, then what it led to without time passing. */
static void deliver(struct sim *sim)
{
    ASSERT(sim->heap_len > 0 && sim->heap[1]->heap_at == 1);
    struct sim_event *event = sim->heap[1];
    struct sim_loop *loop = event->loop; /* before it runs: the event may be gone after */
    ASSERT(event->time >= sim->now && !sim->delivering);
    ASSERT(loop == NULL || !io_loop_dead(&loop->base));
    sim_event_clear(sim, event);
    sim->now = event->time;
    trace_event(sim, event);
    sim->delivering = true;
    event->run(event); /* may free what it is embedded in */
    if (loop != NULL) {
        sim_loop_polls(loop);
    }
    sim->delivering = false;
    sim_reap(sim);
}

/* Time stands at the given point afterwards, whether or not anything happened. */
void sim_run_until(struct sim *sim, uint64_t virtual_us)
{
    ASSERT(!sim->delivering);
    while (sim->heap_len > 0 && sim->heap[1]->time <= virtual_us) {
        deliver(sim);
    }
    if (sim->now < virtual_us) {
        sim->now = virtual_us;
    }
}

/*
 * False: the world fell silent, or the limit came first. In a test both mean that what it waits for
 * will not happen, and virtual time makes the limit cost nothing.
 */
bool sim_run_while(struct sim *sim, bool (*go_on)(void *arg), void *arg, uint64_t limit_us)
{
    ASSERT(go_on != NULL && !sim->delivering);
    while (go_on(arg)) {
        if (sim->heap_len == 0 || sim->heap[1]->time > limit_us) {
            return false;
        }
        deliver(sim);
    }
    return true;
}

uint64_t sim_now_us(const struct sim *sim)
{
    return sim->now;
}

uint64_t sim_trace_hash(const struct sim *sim)
{
    return sim->hash;
}

uint64_t sim_events(const struct sim *sim)
{
    return sim->events_run;
}

/* ---- hosts and processes --------------------------------------------------------------------- */

/* Worlds have a handful of hosts. */
struct sim_host *sim_host_find(struct sim *sim, const char *name)
{
    struct sim_host *host = sim->hosts;
    while (host != NULL && strcmp(host->name, name) != 0) {
        host = host->next;
    }
    return host;
}

/* Hosts come into being when they are first named. */
struct sim_host *sim_host_get(struct sim *sim, const char *name)
{
    struct sim_host *host = sim_host_find(sim, name);
    if (host == NULL) {
        host = MEM_NEW(struct sim_host);
        host->name = mem_strdup(name);
        host->number = ++sim->hosts_len;
        /* Ahead only: a process' clock must not show a time before the epoch of the world. */
        host->skew_us = (int64_t)sim_between(sim, 0, SKEW_MAX_US);
        host->next_port = 30000;
        host->disk = sim_disk_new(sim);
        host->next = sim->hosts;
        sim->hosts = host;
    }
    return host;
}

/* The first event of the process comes a moment later. */
struct sim_process *sim_process_start(struct sim *sim, const char *host, const char *name,
                                      io_start_fn start, void (*destroy)(void *arg), void *arg)
{
    ASSERT(start != NULL);
    struct sim_process *process = MEM_NEW(struct sim_process);
    process->base.backend = &sim_backend;
    process->sim = sim;
    process->host = sim_host_get(sim, host);
    process->name = mem_strdup(name);
    process->number = ++sim->processes_len;
    process->random = sim_random(sim); /* the seed of its own generator, see env_random */
    process->alive = true;
    process->destroy = destroy;
    process->arg = arg;
    process->next = sim->processes;
    sim->processes = process;
    struct sim_loop *loop = sim_loop_new(process, NULL, start, arg);
    sim_event_set(sim, &loop->start_event, sim_between(sim, 0, 1000));
    return process;
}

/* False from the kill on, also while its memory still is. */
bool sim_process_alive(const struct sim_process *process)
{
    return process->alive;
}

/* Loops first, so that what is queued is given back while its owner's memory is there. */
static void process_end(struct sim_process *process)
{
    ASSERT(!process->alive && !process->ended);
    ASSERT(!process->sim->delivering);
    process->ended = true;
    for (struct sim_loop *loop = process->loops; loop != NULL; loop = loop->next) {
        sim_loop_end(loop);
    }
    /* As a real process' memory would go, but in order, so that leaks are seen: the user's code
     * frees its own, on loops that are dead, and then we free what it left open. */
    if (process->destroy != NULL) {
        process->destroy(process->arg);
    }
    while (process->loops != NULL) {
        struct sim_loop *loop = process->loops;
        process->loops = loop->next;
        sim_loop_free(loop);
    }
}

/* From inside a callback too: its event comes to its end, with every call a no-op. */
void sim_process_kill(struct sim *sim, struct sim_process *process)
{
    ASSERT(process->sim == sim);
    if (!process->alive) {
        return;
    }
    process->alive = false;
    process->dying = true;
    for (struct sim_loop *loop = process->loops; loop != NULL; loop = loop->next) {
        io_loop_set_dead(&loop->base);
    }
    sim->reap = true;
    if (!sim->delivering) {
        sim_reap(sim);
    }
}

/* Nothing of the event that has just ended looks at these any more. */
static void graveyard_empty(struct sim *sim)
{
    ASSERT(!sim->delivering);
    while (sim->graveyard.next != &sim->graveyard) {
        struct sim_object *object = CONTAINER_OF(sim->graveyard.next, struct sim_object, link);
        sim_link_remove(&object->link);
        object->free(object);
    }
}

/*
 * After every event. Repeats while something new died: the end of a process may stop another's
 * thread, or discard objects. Processes are never taken out of the list here, so walking it is safe
 * while they end.
 */
void sim_reap(struct sim *sim)
{
    ASSERT(!sim->delivering);
    graveyard_empty(sim);
    while (sim->reap) {
        sim->reap = false;
        for (struct sim_process *process = sim->processes; process != NULL;
             process = process->next) {
            if (process->dying) {
                process->dying = false;
                process_end(process);
            }
            for (struct sim_loop *loop = process->loops; loop != NULL; loop = loop->next) {
                if (!loop->stopping || io_loop_dead(&loop->base)) {
                    continue;
                }
                /* The main loop has stopped: that is the orderly exit of the process. */
                if (loop->owner == NULL) {
                    sim_process_kill(sim, process); /* ended in the next round */
                    break;
                }
                sim_loop_end(loop);
                sim_event_set(sim, &loop->done_event, sim_between(sim, 1, 50));
            }
        }
        graveyard_empty(sim);
    }
}

/* ---- faults ---------------------------------------------------------------------------------- */

/* The processes' last words are not sent, their last writes not made. */
void sim_host_crash(struct sim *sim, const char *name)
{
    struct sim_host *host = sim_host_get(sim, name);
    sim_net_host_gone(sim, host);
    for (struct sim_process *process = sim->processes; process != NULL; process = process->next) {
        if (process->host == host) {
            sim_process_kill(sim, process);
        }
    }
    sim_disk_crash(host->disk);
}

/* 0 heals it. ENOSPC, EDQUOT and EROFS fail writing alone, every other error all operations. */
void sim_disk_fail(struct sim *sim, const char *host, int errno_value)
{
    sim_disk_set_error(sim_host_get(sim, host)->disk, errno_value);
}

static bool of_process(void *arg, struct sim_process *a, struct sim_process *b)
{
    return a == arg || b == arg;
}

/* The process lives on, and may connect again at once. */
void sim_cut_connections(struct sim *sim, struct sim_process *process)
{
    ASSERT(process->sim == sim);
    sim_net_cut(sim, of_process, process);
}

/* Argument of of_hosts. */
struct host_pair {
    const char *a;
    const char *b;
};

/* In either direction. */
static bool of_hosts(void *arg, struct sim_process *a, struct sim_process *b)
{
    const struct host_pair *pair = arg;
    const char *an = a->host->name;
    const char *bn = b->host->name;
    return (strcmp(an, pair->a) == 0 && strcmp(bn, pair->b) == 0) ||
           (strcmp(an, pair->b) == 0 && strcmp(bn, pair->a) == 0);
}

/* The same for both orders of the two. */
static void pair_key(struct buf *key, const char *a, const char *b)
{
    bool ordered = strcmp(a, b) < 0;
    buf_printf(key, "%s\n%s", ordered ? a : b, ordered ? b : a);
}

/* A host always reaches itself. */
bool sim_partitioned(struct sim *sim, const char *a, const char *b)
{
    struct buf key = {0};
    pair_key(&key, a, b);
    bool cut = strmap_get(&sim->partitions, buf_cstr(&key)) != NULL;
    buf_free(&key);
    return cut;
}

/* The hosts need not exist yet. */
void sim_partition(struct sim *sim, const char *a, const char *b, bool cut)
{
    ASSERT(strcmp(a, b) != 0);
    struct buf key = {0};
    pair_key(&key, a, b);
    ASSERT(key.len > 0);
    if (cut) {
        strmap_put(&sim->partitions, buf_cstr(&key), sim);
        struct host_pair pair = {a, b};
        sim_net_cut(sim, of_hosts, &pair);
    } else {
        strmap_remove(&sim->partitions, buf_cstr(&key));
    }
    buf_free(&key);
}

/* ---- a world --------------------------------------------------------------------------------- */

/*
 * Delays of a local network and of a disk, wide enough that what usually comes first sometimes
 * comes second.
 */
struct sim_config sim_config_default(uint64_t seed)
{
    return (struct sim_config){.seed = seed,
                               .delay_min_us = 50,
                               .delay_max_us = 2000,
                               .disk_min_us = 20,
                               .disk_max_us = 3000};
}

struct sim *sim_new(const struct sim_config *config)
{
    ASSERT(config != NULL);
    ASSERT(config->delay_min_us <= config->delay_max_us);
    ASSERT(config->disk_min_us <= config->disk_max_us);
    struct sim *sim = MEM_NEW(struct sim);
    sim->config = *config;
    sim->random = hash_u64(config->seed + 1);
    sim_link_init(&sim->graveyard);
    sim_link_init(&sim->streams);
    return sim;
}

/* Processes that still live are killed, and free themselves. */
void sim_free(struct sim *sim)
{
    if (sim == NULL) {
        return;
    }
    ASSERT(!sim->delivering);
    for (struct sim_process *process = sim->processes; process != NULL; process = process->next) {
        sim_process_kill(sim, process);
    }
    while (sim->processes != NULL) {
        struct sim_process *process = sim->processes;
        sim->processes = process->next;
        free(process->name);
        free(process);
    }
    while (sim->hosts != NULL) {
        struct sim_host *host = sim->hosts;
        sim->hosts = host->next;
        ASSERT(host->listeners == NULL);
        sim_disk_free(host->disk);
        free(host->name);
        free(host);
    }
    /* Every event belongs to something that has just been freed, so none can be left. */
    ASSERT(sim->heap_len == 0);
    strmap_free(&sim->partitions);
    free(sim->heap);
    free(sim);
}
