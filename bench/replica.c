/*
 * The workers of a replica, driven through a workload. See replica.h.
 *
 * Each worker is a poller on a loop of its own, as in computed: a step of its engine, then a flush
 * of the exchange; between steps the loop takes what others have sent. It draws the same updates as
 * all others and keeps its share. A round:
 *
 *   prepare   its batches are built; then the worker counts itself as prepared
 *   ready     until all are
 *   run       input, steps, until the frontier of its own output has passed
 *   done      it has counted itself as done, and waits until all have
 *
 * The first worker takes the time from "all are prepared" to "all are done". Both counts lie in
 * memory that all processes share and are no part of what is measured: a cache line there and back.
 *
 * A lone worker has neither counts nor exchange to wait for and goes through its rounds without
 * coming back to its loop.
 *
 * Processes but the first are forked for a run and end with it; the first one looks now and then
 * whether they are still there. (Their exchange would wait for them to come back.)
 */
#include "bench/replica.h"

#include "bench/dataflow.h"
#include "bench/link.h"
#include "bench/machine.h"
#include "core/base/mem.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SPIN_US = 10 * 1000 * 1000, /* loops look for work as long as it comes often */
    LOOKS = 32,                 /* for the others, before the loop has its turn, */
    PATIENCE = 20,              /* and so many turns before somebody else may have the CPU */
    WRONG_BYTES = 256,
    WATCH_US = 50 * 1000,
};

/* Written by one worker each; read by the program when all have ended. */
struct share {
    _Alignas(64) struct outcome outcome[WORKLOAD_PHASES_MAX];
    uint64_t bytes[WORKLOAD_PHASES_MAX];
    struct dataflow_times times[WORKLOAD_PHASES_MAX];
    char wrong[WRONG_BYTES]; /* "": nothing */
};

/* In memory of all processes. */
struct shared {
    _Alignas(64) _Atomic uint64_t prepared; /* workers that were, of all rounds together */
    _Alignas(64) _Atomic uint64_t done;
    struct share share[REPLICA_WORKERS_MAX];
};

enum state { FORMING, PREPARE, READY, RUN, DONE, FINISHED };

struct replica;
struct member {
    struct replica *replica;
    uint32_t index; /* in the process */
    uint32_t worker;
    struct io_loop *loop;
    struct io_poller poller;
    struct io_task stop; /* of the process, when something is wrong */
    struct dataflow_bench *dataflow;
    struct generator generator;
    enum state state;
    size_t phase, round;
    uint64_t rounds; /* before this one */
    uint64_t start_ns;
    uint32_t waited; /* turns */
};

struct replica {
    struct replica_shape shape;
    const struct workload *workload;
    struct measure *measures; /* histograms are filled by the first worker */
    struct shared *shared;
    uint32_t process;
    uint32_t threads; /* workers of a process */
    struct io_loop *net; /* of this process, and its first worker's */
    struct exchange *exchange;
    struct member members[REPLICA_WORKERS_MAX]; /* of this process */
    char secret[192];
    char tcp[REPLICA_WORKERS_MAX][32];
    char local[REPLICA_WORKERS_MAX][224];
    struct io_timer watch;
    pid_t pids[REPLICA_WORKERS_MAX]; /* 0: it has ended */
};

static char *wrong_of(const struct replica *replica, uint32_t worker)
{
    ASSERT(worker < replica->shape.workers);
    return replica->shared->share[worker].wrong;
}

static void stop_run(struct io_task *task)
{
    io_loop_stop(CONTAINER_OF(task, struct member, stop)->replica->net);
}

/* This process ends, and then the others, as they notice. */
static void go_wrong(struct member *m, const char *what)
{
    char *wrong = wrong_of(m->replica, m->worker);
    if (wrong[0] == '\0') {
        snprintf(wrong, WRONG_BYTES, "%s", what);
        m->stop.run = stop_run;
        io_post(m->replica->net, &m->stop);
    }
}

/* ---- a worker's rounds ----------------------------------------------------------------------- */

/* Have all workers counted themselves, for this round too? */
static bool all(const struct member *m, const _Atomic uint64_t *count)
{
    /* Acquire: pairs with the release in count_self. */
    return atomic_load_explicit(count, memory_order_acquire) >=
           (m->rounds + 1) * m->replica->shape.workers;
}

static void count_self(_Atomic uint64_t *count)
{
    /* Release: pairs with the acquire in all; what this worker has done is there. */
    atomic_fetch_add_explicit(count, 1, memory_order_release);
}

/* True when all have. Waiting is brief; the loop has its turn in between, as others may need it. */
static bool wait_for(struct member *m, const _Atomic uint64_t *count)
{
    for (int i = 0; i < LOOKS; i++) {
        if (all(m, count)) {
            m->waited = 0;
            return true;
        }
        machine_relax();
    }
    if (m->waited++ >= PATIENCE) {
        sched_yield();
    }
    return false;
}

/* At the end of a phase. */
static void leave_phase(struct member *m, size_t phase)
{
    struct share *share = &m->replica->shared->share[m->worker];
    ASSERT(phase < m->replica->workload->phases_len);
    share->outcome[phase] = dataflow_bench_outcome(m->dataflow);
    share->bytes[phase] = dataflow_bench_memory(m->dataflow);
    share->times[phase] = dataflow_bench_times(m->dataflow);
}

/* Builds the next round's batches; behind the last round there is only the waiting for all. */
static void prepare(struct member *m)
{
    const struct workload *workload = m->replica->workload;
    ASSERT(m->state == PREPARE && m->phase < workload->phases_len);
    if (m->round == workload->phases[m->phase].rounds) {
        leave_phase(m, m->phase);
        m->phase++;
        m->round = 0;
    }
    m->state = m->phase == workload->phases_len ? FINISHED : READY;
    if (m->state == READY) {
        dataflow_bench_prepare(m->dataflow, &m->generator, m->phase == 0,
                               workload->phases[m->phase].per_round);
    }
    count_self(&m->replica->shared->prepared);
}

static void end_round(struct member *m)
{
    ASSERT(m->state == DONE);
    if (m->worker == 0) {
        hist_add(&m->replica->measures[m->phase].hist, machine_now_ns() - m->start_ns);
    }
    m->round++;
    m->rounds++;
    m->state = PREPARE;
}

/* A step, as computed makes it. True: there is more to do. */
static bool run(struct member *m)
{
    struct exchange *x = m->replica->exchange;
    bool more;
    ASSERT(m->state == RUN);
    if (x != NULL && !exchange_ready(x, m->index)) {
        return false; /* the others have not taken what there is: their taking it wakes this loop */
    }
    do {
        more = dataflow_bench_step(m->dataflow);
    } while (x == NULL && !dataflow_bench_ends(m->dataflow));
    if (x != NULL) {
        exchange_flush(x, m->index);
    }
    if (x == NULL || dataflow_bench_ends(m->dataflow)) {
        count_self(&m->replica->shared->done);
        m->state = DONE;
        more = true;
    }
    return more;
}

/* True: go on at once, or come back; it did something, or waits for what its loop cannot see. */
static bool member_poll(struct io_poller *poller)
{
    struct member *m = CONTAINER_OF(poller, struct member, poller);
    struct shared *shared = m->replica->shared;
    switch (m->state) {
    case FORMING:
        return false;
    case PREPARE:
        prepare(m);
        return true;
    case READY:
        if (wait_for(m, &shared->prepared)) {
            m->start_ns = machine_now_ns();
            dataflow_bench_begin(m->dataflow);
            m->state = RUN;
            return run(m);
        }
        return true;
    case RUN:
        return run(m);
    case DONE:
        if (wait_for(m, &shared->done)) {
            end_round(m);
        }
        return true;
    case FINISHED:
        if (wait_for(m, &shared->prepared) && m->index == 0) {
            io_loop_stop(m->loop); /* and with it the process's other workers */
        }
        return true;
    }
    UNREACHABLE();
}

/* ---- the exchange's callbacks ---------------------------------------------------------------- */

static void on_formed(void *ctx, uint64_t generation)
{
    struct member *m = ctx;
    ASSERT(generation > 0 && m->state == FORMING);
    m->state = PREPARE;
}

static void on_message(void *ctx, uint32_t from, const uint8_t *data, size_t len)
{
    struct member *m = ctx;
    ASSERT(from < m->replica->shape.workers && m->state != FORMING);
    err_t err = dataflow_bench_receive(m->dataflow, from, data, len);
    if (err != ERR_OK) {
        go_wrong(m, err_text(err));
        err_free(err);
    }
}

/* Nobody restarts here. Who is through may be left by those who are too. */
static void on_lost(void *ctx, const char *reason)
{
    struct member *m = ctx;
    if (m->state != FINISHED) {
        go_wrong(m, reason);
    }
}

static const struct exchange_handler handler = {
    .formed = on_formed, .message = on_message, .lost = on_lost};

/* ---- life ------------------------------------------------------------------------------------ */

/* On the worker's loop. */
static void member_start(struct io_loop *loop, void *arg)
{
    struct member *m = arg;
    struct replica *replica = m->replica;
    m->loop = loop;
    io_loop_set_spin(loop, SPIN_US);
    m->dataflow = dataflow_bench_new(
        replica->workload->kind,
        &(struct dataflow_place){.worker = m->worker, .workers = replica->shape.workers,
                                 .index = m->index, .loop = loop,
                                 .exchange = replica->exchange});
    generator_init(&m->generator, replica->workload);
    m->state = replica->exchange != NULL ? FORMING : PREPARE;
    if (replica->exchange != NULL) {
        exchange_worker(replica->exchange, m->index, loop, m);
    }
    m->poller = (struct io_poller){.poll = member_poll};
    io_poller_add(loop, &m->poller);
}

static err_t make_exchange(struct replica *replica, struct io_loop *loop)
{
    const char *peers[REPLICA_WORKERS_MAX];
    const char *paths[REPLICA_WORKERS_MAX];
    ASSERT(replica->exchange == NULL && replica->shape.workers > 1);
    for (uint32_t p = 0; p < replica->shape.processes; p++) {
        peers[p] = replica->tcp[p];
        paths[p] = replica->local[p];
    }
    struct exchange_config config = {
        .process = replica->process, .processes = replica->shape.processes,
        .workers_per_process = replica->threads, .listen_address = replica->tcp[replica->process],
        .peers = peers, .unix_paths = replica->shape.tcp ? NULL : paths,
        .self = {.environment = "tailrace-bench!", .service = 1, .process = replica->process,
                 .generation = 1, .epoch = 1, .node_secret_path = replica->secret},
        .carrier = replica->shape.tcp ? BOUNDARY_CARRIER_TCP : BOUNDARY_CARRIER_SHM,
        .handler = &handler};
    return exchange_new(loop, &config, &replica->exchange);
}

/* Has a process ended before its time? */
static void on_watch(struct io_timer *timer)
{
    struct replica *replica = CONTAINER_OF(timer, struct replica, watch);
    for (uint32_t p = 1; p < replica->shape.processes; p++) {
        int status = 0;
        if (replica->pids[p] > 0 && waitpid(replica->pids[p], &status, WNOHANG) > 0) {
            replica->pids[p] = 0;
            if (status != 0 || replica->members[0].state != FINISHED) {
                go_wrong(&replica->members[0], "a process has ended");
            }
        }
    }
    io_timer_start(replica->net, timer, io_now_us(replica->net) + WATCH_US);
}

/* The process's first loop; its other workers' threads. */
static void process_start(struct io_loop *loop, void *arg)
{
    struct replica *replica = arg;
    replica->net = loop;
    for (uint32_t i = 0; i < replica->threads; i++) {
        replica->members[i] = (struct member){.replica = replica, .index = i,
                                              .worker = replica->process * replica->threads + i};
    }
    err_t err = replica->shape.workers > 1 ? make_exchange(replica, loop) : ERR_OK;
    for (uint32_t i = 1; i < replica->threads && err == ERR_OK; i++) {
        err = io_thread_start(loop, "worker", -1, member_start, NULL, &replica->members[i]);
    }
    if (err != ERR_OK) {
        go_wrong(&replica->members[0], err_text(err));
        err_free(err);
        return;
    }
    member_start(loop, &replica->members[0]);
    if (replica->process == 0 && replica->shape.processes > 1) {
        replica->watch.fire = on_watch;
        io_timer_start(loop, &replica->watch, io_now_us(loop) + WATCH_US);
    }
}

/* One process of the replica, from its beginning to its end. */
static void process_run(struct replica *replica)
{
    struct io_env *env = NULL;
    err_t err = io_env_new_real(&env);
    if (err == ERR_OK) {
        err = io_main(env, process_start, replica);
    }
    if (err != ERR_OK) {
        snprintf(wrong_of(replica, replica->process * replica->threads), WRONG_BYTES, "%s",
                 err_text(err));
        err_free(err);
    }
    for (uint32_t i = 0; i < replica->threads; i++) {
        if (replica->members[i].dataflow != NULL) {
            dataflow_bench_free(replica->members[i].dataflow);
        }
    }
    if (replica->exchange != NULL) {
        exchange_free(replica->exchange);
    }
    if (env != NULL) {
        io_env_free(env);
    }
}

/* Processes but the first; they go with this one. */
static err_t start_others(struct replica *replica)
{
    for (uint32_t p = 1; p < replica->shape.processes; p++) {
        replica->pids[p] = fork();
        if (replica->pids[p] < 0) {
            return err_new(ERR_UNAVAILABLE, "cannot fork");
        }
        if (replica->pids[p] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            replica->process = p;
            process_run(replica);
            _exit(0);
        }
    }
    return ERR_OK;
}

/* Addresses are new for each run, as sockets outlive processes. */
static err_t find_addresses(struct replica *replica)
{
    static unsigned serial;
    serial++;
    snprintf(replica->secret, sizeof(replica->secret), "%s/secret", replica->shape.directory);
    for (uint32_t p = 0; p < replica->shape.processes; p++) {
        snprintf(replica->tcp[p], sizeof(replica->tcp[p]), "127.0.0.1:%d", link_free_port());
        snprintf(replica->local[p], sizeof(replica->local[p]), "unixpacket:%s/replica%u-%u",
                 replica->shape.directory, serial, p);
    }
    return link_write_secret(replica->secret);
}

/* What the workers left, added up. */
static void collect(const struct replica *replica)
{
    for (size_t p = 0; p < replica->workload->phases_len; p++) {
        const struct phase *phase = &replica->workload->phases[p];
        struct measure *measure = &replica->measures[p];
        uint64_t bytes = 0;
        struct dataflow_times times = {0};
        measure->outcome = (struct outcome){0};
        for (uint32_t w = 0; w < replica->shape.workers; w++) {
            const struct share *share = &replica->shared->share[w];
            measure->outcome.updates += share->outcome[p].updates;
            measure->outcome.net += share->outcome[p].net;
            measure->outcome.checksum += share->outcome[p].checksum;
            bytes += share->bytes[p];
            uint64_t longest = share->times[p].longest_ns;
            times.longest_ns = longest > times.longest_ns ? longest : times.longest_ns;
            times.busy_ns += share->times[p].busy_ns;
        }
        ASSERT(measure->hist.count == phase->rounds);
        double updates = (double)(phase->rounds * phase->per_round);
        measure->rate = updates * 1e3 / (double)measure->hist.sum;
        measure->mib = (double)bytes / 1048576;
        measure->step_us = (double)times.longest_ns / 1e3;
        measure->busy_ns = (double)times.busy_ns / updates;
    }
}

/* Waits for the other processes, or ends them; what any of all had to say. */
static err_t end_processes(struct replica *replica, bool kill_them)
{
    struct buf wrong = {0};
    for (uint32_t p = 1; p < replica->shape.processes; p++) {
        int status = 0;
        if (replica->pids[p] <= 0) {
            continue;
        }
        if (kill_them) {
            kill(replica->pids[p], SIGKILL);
        }
        waitpid(replica->pids[p], &status, 0);
        if (status != 0 && !kill_them) {
            buf_printf(&wrong, "process %u ended with status %d; ", p, status);
        }
    }
    for (uint32_t w = 0; w < replica->shape.workers; w++) {
        if (wrong_of(replica, w)[0] != '\0') {
            buf_printf(&wrong, "worker %u: %s; ", w, wrong_of(replica, w));
        }
    }
    err_t err = wrong.len > 0 ? err_new(ERR_UNAVAILABLE, "%s", buf_cstr(&wrong)) : ERR_OK;
    buf_free(&wrong);
    return err;
}

static err_t run_processes(struct replica *replica)
{
    if (replica->shape.processes > 1) {
        TRY(find_addresses(replica));
        err_t err = start_others(replica);
        if (err != ERR_OK) {
            err_free(end_processes(replica, true));
            return err;
        }
    }
    process_run(replica);
    bool bad = false;
    for (uint32_t i = 0; i < replica->threads; i++) {
        bad |= wrong_of(replica, i)[0] != '\0';
    }
    return end_processes(replica, bad);
}

err_t replica_run(const struct replica_shape *shape, const struct workload *workload,
                  struct measure *measures)
{
    ASSERT(shape->processes >= 1 && shape->workers % shape->processes == 0 &&
           shape->workers >= 1 && shape->workers <= REPLICA_WORKERS_MAX);
    struct replica *replica = MEM_NEW(struct replica);
    replica->shape = *shape;
    replica->workload = workload;
    replica->measures = measures;
    replica->threads = shape->workers / shape->processes;
    replica->shared = mmap(NULL, sizeof(*replica->shared), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (replica->shared == MAP_FAILED) {
        free(replica);
        return err_new(ERR_UNAVAILABLE, "no memory that processes share");
    }
    for (size_t p = 0; p < workload->phases_len; p++) {
        hist_clear(&measures[p].hist);
    }
    err_t err = run_processes(replica);
    if (err == ERR_OK) {
        collect(replica);
    }
    munmap(replica->shared, sizeof(*replica->shared));
    free(replica);
    return err;
}
