/*
 * tailrace-bench exchange, beyond the cases that links share: rounds of two workers. In a round
 * each worker has n keys (u64, drawn before), divides them by hash with what the engine uses
 * (batch_hash_rows, batch_split), sends the other's part as batches through the exchange, and adds
 * up what falls to itself from both. A round is over when the other's frontier for it is here,
 * which stands behind its data in the last message; then the next begins. With n = 0 a round is
 * the frontier alone: a barrier.
 *
 * The workers are two threads of a process, or two processes over shared memory or TCP. All is
 * checked by the sum and the count of the keys received, and each batch by the hash of one key.
 *
 * Floors of the same run: the loop that a programmer would write for one column of keys and nothing
 * else, on one thread and alone; memcpy; and a cache line's round trip.
 */
#include "bench/barrier.h"
#include "bench/cases.h"
#include "bench/link.h"
#include "bench/options.h"
#include "bench/report.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/data/batch.h"
#include "ring/carrier.h"
#include "ring/exchange/exchange.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    KEYS = 1 << 20,     /* drawn; rounds of fewer walk through them */
    SLICE = 16 * 1024,  /* rows divided at a time */
    WARM_UP_SHARE = 5,
    PATIENCE_S = 60,    /* a run that hangs is killed */
    SPIN_US = 10 * 1000 * 1000,
    SPIN_DEFAULT_US = 50, /* of a loop that nobody told (core/io/io.h) */
};

enum place { THREADS, PROCESSES_SHM, PROCESSES_TCP };

struct rounds_case {
    const char *title;
    uint32_t keys; /* of each worker in each round */
    uint32_t spin_us; /* how long workers look for work before they sleep, at most */
};

static const struct rounds_case cases[] = {
    {"1 M keys a round", KEYS, SPIN_US},
    {"1,000 keys a round", 1000, SPIN_US},
    {"10 keys a round", 10, SPIN_US},
    {"barrier, spinning", 0, SPIN_US},
    {"barrier, spinning as much as loops do", 0, SPIN_DEFAULT_US},
    {"barrier, parked", 0, 0},
};

/* What a worker says of itself, in memory that both processes see; read when it has ended. */
struct tally {
    uint64_t sent, sent_sum;         /* keys drawn for rounds, own part included */
    uint64_t received, received_sum; /* keys that fell to it */
    _Atomic uint64_t rounds; /* the other party looks at it, when it is over */
    uint64_t ns;                     /* of `timed` rounds behind the warm-up */
    uint64_t timed;
    struct hist hist;                /* of them, singly */
    char wrong[128];                 /* "": nothing */
};

struct run {
    const struct rounds_case *c;
    enum place place;
    uint64_t run_ns;
    char directory[160];
    char secret[192];
    char tcp[2][32];
    char local[2][224];
    struct tally *tally; /* [2], shared */
};

/* Begins every message; the batch follows at CARRIER_ALIGN. */
struct head {
    uint64_t round;
    uint32_t complete; /* nothing more of this round comes */
    uint32_t last;     /* nor another round */
    uint64_t batch;    /* bytes */
};

/* One worker, on its loop. */
struct party {
    struct run *run;
    struct exchange *x;
    uint32_t index; /* local */
    uint32_t self;  /* 0 or 1; 1 measures and decides when it is over */
    struct io_loop *loop;
    struct io_poller poller;
    struct tally *tally;
    uint64_t *keys;
    uint32_t at;   /* next key of the walk */
    uint64_t hashes[SLICE];
    struct batch_split *split;
    void *own; /* room for the own part of a slice */
    uint64_t round;
    uint32_t left; /* keys of this round not sent yet */
    bool formed, sending, sent, heard, last, ended;
    uint64_t start_ns, warm_ns, round_ns;
};

static void go_wrong(struct party *p, const char *what)
{
    if (p->tally->wrong[0] == '\0') {
        snprintf(p->tally->wrong, sizeof(p->tally->wrong), "worker %u: %s", p->self, what);
    }
}

/* ---- a round --------------------------------------------------------------------------------- */

static void take_batch(struct party *p, const void *data, size_t size)
{
    struct batch_col col;
    struct batch b;
    batch_view(data, size, &col, 1, &b);
    const uint64_t *keys = col.values;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < b.rows; i++) {
        sum += keys[i];
    }
    uint64_t hash;
    struct batch_col one = {.kind = TYPE_INT8, .values = keys + b.rows / 2};
    struct batch row = {.rows = 1, .cols = 1, .col = &one};
    batch_hash_rows(&row, (uint32_t[]){0}, 1, &hash);
    if (hash >> 63 != p->self) {
        go_wrong(p, "a key of the other worker's");
    }
    p->tally->received += b.rows;
    p->tally->received_sum += sum;
}

/* One slice of the round's keys; complete: it is the last one. */
static void send_slice(struct party *p, uint32_t n)
{
    struct batch_col col = {.kind = TYPE_INT8, .values = p->keys + p->at};
    struct batch b = {.rows = n, .cols = 1, .col = &col, .time_const = p->round, .diff_const = 1};
    struct exchange_block block = {0};
    void *places[2] = {0};
    uint32_t other = 1 - p->self;
    ASSERT(n > 0 && n <= SLICE && p->at + n <= KEYS);
    batch_hash_rows(&b, (uint32_t[]){0}, 1, p->hashes);
    batch_split_begin(p->split, &b, p->hashes, 2);
    places[p->self] = batch_split_rows(p->split, p->self) > 0 ? p->own : NULL;
    size_t own = batch_split_size(p->split, p->self);
    size_t size = batch_split_rows(p->split, other) > 0 ? batch_split_size(p->split, other) : 0;
    exchange_reserve(p->x, p->index, other, CARRIER_ALIGN + size, &block);
    places[other] = size > 0 ? block.data + CARRIER_ALIGN : NULL;
    batch_split_write(p->split, places);
    p->left -= n;
    p->at += n;
    *(struct head *)block.data = (struct head){
        .round = p->round, .complete = p->left == 0, .last = p->last, .batch = size};
    exchange_commit(p->x, p->index, other, &block, CARRIER_ALIGN + size);
    if (places[p->self] != NULL) {
        take_batch(p, p->own, own);
    }
}

/* Sends what there is room for; true when the round's part is out. */
static bool send_round(struct party *p)
{
    if (p->run->c->keys == 0) {
        struct head head = {.round = p->round, .complete = 1, .last = p->last};
        exchange_send(p->x, p->index, 1 - p->self, &head, sizeof(head));
        return true;
    }
    while (p->left > 0) {
        if (!exchange_ready(p->x, p->index)) {
            return false;
        }
        send_slice(p, p->left < SLICE ? p->left : SLICE);
    }
    return true;
}

static void begin_round(struct party *p)
{
    uint64_t now = machine_now_ns();
    if (p->self == 1) { /* it measures, and says when it is enough */
        if (p->warm_ns == 0 && now - p->start_ns >= p->run->run_ns / WARM_UP_SHARE) {
            p->warm_ns = now;
            p->tally->timed = 0;
            hist_clear(&p->tally->hist);
        }
        p->last = p->warm_ns != 0 && now - p->warm_ns >= p->run->run_ns;
    }
    p->round_ns = now;
    p->round++;
    p->left = p->run->c->keys;
    p->sending = true;
    p->sent = p->heard = false;
    p->at = p->at + p->left > KEYS ? 0 : p->at;
    p->tally->sent += p->left;
    for (uint32_t i = 0; p->run->c->keys < SLICE && i < p->left; i++) {
        p->tally->sent_sum += p->keys[p->at + i];
    }
}

static void end_round(struct party *p)
{
    uint64_t now = machine_now_ns();
    /* Release: pairs with the acquire in is_over; the tally is whole. */
    atomic_fetch_add_explicit(&p->tally->rounds, 1, memory_order_release);
    p->tally->timed++;
    p->tally->ns = now - p->warm_ns;
    hist_add(&p->tally->hist, now - p->round_ns);
    p->sending = false;
    p->ended = p->last;
}

/* Who measures stays until the other has done its last round as well, and then takes it along. */
static bool is_over(const struct party *p)
{
    /* Acquire: pairs with the release in end_round. */
    return p->self == 1 &&
           atomic_load_explicit(&p->run->tally[0].rounds, memory_order_acquire) ==
               p->tally->rounds;
}

/* Brief only for small rounds, but then it matters. */
static bool party_poll(struct io_poller *poller)
{
    struct party *p = CONTAINER_OF(poller, struct party, poller);
    if (p->ended && is_over(p)) {
        io_loop_stop(p->loop);
    }
    if (!p->formed || p->ended) {
        return p->ended && p->self == 1;
    }
    bool any = false;
    if (!p->sending) {
        begin_round(p);
    }
    if (!p->sent) {
        p->sent = send_round(p);
        exchange_flush(p->x, p->index);
        any = true;
    }
    if (p->sent && p->heard) {
        end_round(p);
        any = true;
    }
    return any;
}

static void on_message(void *ctx, uint32_t from, const uint8_t *data, size_t len)
{
    struct party *p = ctx;
    struct head head;
    if (len < sizeof(head)) {
        go_wrong(p, "a message cut short");
        return;
    }
    memcpy(&head, data, sizeof(head));
    if (p->sending && p->sent && p->heard) { /* the other knows already that this round is over */
        end_round(p);
    }
    if (from != 1 - p->self || head.round != p->round + (p->sending ? 0 : 1)) {
        go_wrong(p, "a message out of its round");
    }
    if (!p->sending) {
        begin_round(p);
    }
    if (head.batch > 0) {
        take_batch(p, data + CARRIER_ALIGN, head.batch);
    }
    p->heard |= head.complete != 0;
    p->last |= p->self == 0 && head.last != 0;
}

static void on_formed(void *ctx, uint64_t generation)
{
    struct party *p = ctx;
    p->formed = true;
    p->start_ns = machine_now_ns();
}

static void on_lost(void *ctx, const char *reason)
{
    struct party *p = ctx;
    if (!p->ended) {
        go_wrong(p, reason);
    }
    io_loop_stop(p->loop);
}

static const struct exchange_handler handler = {
    .formed = on_formed, .message = on_message, .lost = on_lost};

/* ---- a run ----------------------------------------------------------------------------------- */

static struct party *party_new(struct run *run, uint32_t self)
{
    struct party *p = MEM_NEW(struct party);
    uint64_t state = self + 1;
    p->run = run;
    p->self = self;
    p->index = run->place == THREADS ? self : 0;
    p->tally = &run->tally[self];
    p->split = batch_split_new();
    p->keys = aligned_alloc(BATCH_ALIGN, KEYS * sizeof(uint64_t));
    p->own = aligned_alloc(BATCH_ALIGN, SLICE * sizeof(uint64_t) + 4 * BATCH_ALIGN);
    ASSERT(p->keys != NULL && p->own != NULL);
    for (uint32_t i = 0; i < KEYS; i++) {
        p->keys[i] = hash_u64(state += 0x9E3779B97F4A7C15ULL);
    }
    return p;
}

static void party_start(struct party *p, struct io_loop *loop)
{
    p->loop = loop;
    io_loop_set_spin(loop, p->run->c->spin_us);
    exchange_worker(p->x, p->index, loop, p);
    p->poller = (struct io_poller){.poll = party_poll, .brief = true};
    io_poller_add(loop, &p->poller);
}

static void thread_start(struct io_loop *loop, void *arg)
{
    machine_pin(0);
    party_start(arg, loop);
}

static void main_start(struct io_loop *loop, void *arg)
{
    struct party *p = arg;
    struct run *run = p->run;
    const char *peers[] = {run->tcp[0], run->tcp[1]};
    const char *paths[] = {run->local[0], run->local[1]};
    bool threads = run->place == THREADS;
    struct exchange_config config = {
        .process = threads ? 0 : p->self, .processes = threads ? 1 : 2,
        .workers_per_process = threads ? 2 : 1, .listen_address = run->tcp[p->self],
        .peers = peers, .unix_paths = run->place == PROCESSES_SHM ? paths : NULL,
        .self = {.environment = "tailrace-bench!", .service = 1,
                 .process = threads ? 0 : p->self, .generation = 1, .epoch = 1,
                 .node_secret_path = run->secret},
        .carrier = run->place == PROCESSES_SHM ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .handler = &handler};
    err_t err = exchange_new(loop, &config, &p->x);
    if (err == ERR_OK && threads) {
        struct party *other = party_new(run, 0);
        other->x = p->x;
        err = io_thread_start(loop, "worker", -1, thread_start, NULL, other);
    }
    if (err != ERR_OK) {
        go_wrong(p, err_text(err));
        err_free(err);
        io_loop_stop(loop);
        return;
    }
    party_start(p, loop);
}

/* A process of the run; what it made goes with it. */
static void process_main(struct run *run, uint32_t self)
{
    struct io_env *env;
    struct party *p = party_new(run, self);
    machine_pin((int)self);
    alarm(PATIENCE_S);
    err_t err = io_env_new_real(&env);
    err = err != ERR_OK ? err : io_main(env, main_start, p);
    if (err != ERR_OK) {
        go_wrong(p, err_text(err));
    }
    _exit(0);
}

/* Rounds of all keys at once sum them up but once: the walk covers them whole. */
static void finish_sums(const struct run *run)
{
    for (uint32_t i = 0; run->c->keys >= SLICE && i < 2; i++) {
        uint64_t state = i + 1;
        uint64_t sum = 0;
        for (uint32_t k = 0; k < KEYS; k++) {
            sum += hash_u64(state += 0x9E3779B97F4A7C15ULL);
        }
        ASSERT(run->c->keys == KEYS);
        run->tally[i].sent_sum = sum * run->tally[i].rounds;
    }
}

static const char *check(const struct run *run)
{
    const struct tally *t = run->tally;
    for (uint32_t i = 0; i < 2; i++) {
        if (t[i].wrong[0] != '\0') {
            return t[i].wrong;
        }
    }
    if (t[0].rounds == 0 || t[0].rounds != t[1].rounds) {
        return "it was not finished";
    }
    if (t[0].received + t[1].received != t[0].sent + t[1].sent ||
        t[0].received_sum + t[1].received_sum != t[0].sent_sum + t[1].sent_sum) {
        return "keys were lost, doubled or changed";
    }
    return NULL;
}

/* Both sides, each pinned; NULL when all is well. */
static const char *play(struct run *run)
{
    pid_t pids[2] = {-1, -1};
    memset(run->tally, 0, 2 * sizeof(run->tally[0]));
    for (uint32_t self = run->place == THREADS ? 1 : 0; self < 2; self++) {
        pids[self] = fork();
        if (pids[self] == 0) {
            process_main(run, self);
        }
    }
    waitpid(pids[1], NULL, 0);
    if (pids[0] > 0) { /* done as well, and waiting for the other to come back */
        kill(pids[0], SIGKILL);
        waitpid(pids[0], NULL, 0);
    }
    finish_sums(run);
    return check(run);
}

/* ---- floors ---------------------------------------------------------------------------------- */

/* What somebody would write who has one column of keys and two workers. M keys/s of one thread. */
static double by_hand(const struct options *options)
{
    uint64_t *keys = mem_alloc(KEYS * sizeof(uint64_t));
    uint64_t *out[2];
    uint64_t sum = 0;
    uint64_t keys_done = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        keys[i] = hash_u64(i);
    }
    for (int i = 0; i < 2; i++) {
        out[i] = mem_zalloc(KEYS * sizeof(uint64_t));
    }
    uint64_t begin = machine_now_ns();
    uint64_t end = begin;
    for (; end - begin < (uint64_t)(options->seconds * 1e9); end = machine_now_ns()) {
        uint32_t len[2] = {0, 0};
        for (uint32_t i = 0; i < KEYS; i++) {
            uint32_t to = (uint32_t)(hash_u64(keys[i]) >> 63);
            out[to][len[to]++] = keys[i];
        }
        for (int k = 0; k < 2; k++) {
            for (uint32_t i = 0; i < len[k]; i++) {
                sum += out[k][i];
            }
        }
        keys_done += KEYS;
    }
    __asm__ volatile("" ::"r"(sum));
    free(keys);
    free(out[0]);
    free(out[1]);
    return (double)keys_done * 1e3 / (double)(end - begin);
}

/* ---- the report ------------------------------------------------------------------------------ */

/* Million keys a second of both workers, or the length of a round. */
static double add_figures(struct report *report, const struct run *run, const char *row)
{
    const struct tally *t = &run->tally[1];
    double per_round = (double)t->ns / (double)t->timed;
    double rate = 2e3 * run->c->keys / per_round;
    if (run->c->keys > 0) {
        bool goal = run->place == THREADS && run->c->keys == KEYS;
        report_goal(report, row, "M keys/s", rate, goal ? REPORT_AT_LEAST : REPORT_NO_GOAL, 450);
    }
    bool barrier = run->c->keys == 0 && run->place == THREADS;
    bool parked = run->c->spin_us == 0;
    report_goal(report, row, "p50 us", (double)hist_quantile(&t->hist, 0.5) / 1e3,
                barrier && !parked ? REPORT_AT_MOST : REPORT_NO_GOAL, 2);
    report_add(report, row, "p99 us", (double)hist_quantile(&t->hist, 0.99) / 1e3);
    report_goal(report, row, "max us", (double)hist_quantile(&t->hist, 1) / 1e3,
                barrier && parked ? REPORT_AT_MOST : REPORT_NO_GOAL, 20);
    return rate;
}

/* What waking costs here at all; the p50 of bare futexes. */
static double add_bare(struct report *report, const struct run *run)
{
    static const char *const rows[] = {"bare eventfd, two threads", "bare futex, two threads"};
    struct hist *hist = MEM_NEW(struct hist);
    double p50 = 0;
    for (int i = 0; i < 2; i++) {
        (i == 0 ? barrier_eventfd : barrier_futex)(run->run_ns, hist);
        p50 = (double)hist_quantile(hist, 0.5) / 1e3;
        report_add(report, rows[i], "p50 us", p50);
        report_add(report, rows[i], "p99 us", (double)hist_quantile(hist, 0.99) / 1e3);
        report_add(report, rows[i], "max us", (double)hist_quantile(hist, 1) / 1e3);
    }
    free(hist);
    return p50;
}

static void add_case(const struct options *options, struct report *report, struct run *run)
{
    static const char *const rows[] = {[THREADS] = "two threads",
                                       [PROCESSES_SHM] = "two processes, shm",
                                       [PROCESSES_TCP] = "two processes, tcp"};
    double rates[3] = {0};
    char title[128];
    snprintf(title, sizeof(title), "rounds of two workers: %s", run->c->title);
    report_group(report, title);
    if (run->c->keys == KEYS) {
        report_add(report, "by hand, one thread, alone", "M keys/s", by_hand(options));
    }
    double bare_us = run->c->spin_us == 0 ? add_bare(report, run) : 0;
    for (int place = THREADS; place <= PROCESSES_TCP; place++) {
        run->place = (enum place)place;
        const char *wrong = play(run);
        if (wrong != NULL) {
            report_wrong(report, "%s, %s: %s", run->c->title, rows[place], wrong);
            continue;
        }
        rates[place] = add_figures(report, run, rows[place]);
        if (bare_us > 0) {
            report_add(report, rows[place], "of futex",
                       (double)hist_quantile(&run->tally[1].hist, 0.5) / 1e3 / bare_us);
        }
        if (place != THREADS && run->c->keys > 0 && rates[THREADS] > 0) {
            bool goal = place == PROCESSES_SHM && run->c->keys == KEYS;
            report_goal(report, rows[place], "of threads", rates[place] / rates[THREADS],
                        goal ? REPORT_AT_LEAST : REPORT_NO_GOAL, 0.9);
        }
    }
}

/* Addresses are new for each case, as sockets outlive processes. */
static err_t find_addresses(struct run *run, unsigned serial)
{
    snprintf(run->secret, sizeof(run->secret), "%s/secret", run->directory);
    for (int i = 0; i < 2; i++) {
        snprintf(run->tcp[i], sizeof(run->tcp[i]), "127.0.0.1:%d", link_free_port());
        snprintf(run->local[i], sizeof(run->local[i]), "unixpacket:%s/rounds%u-%d",
                 run->directory, serial, i);
    }
    return link_write_secret(run->secret);
}

static void rounds(const struct options *options, struct report *report, struct run *run)
{
    unsigned serial = 0;
    for (int i = 0; i < options->runs; i++) {
        for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
            if (options->only_case != NULL && !strstr(cases[c].title, options->only_case)) {
                continue;
            }
            run->c = &cases[c];
            err_t err = find_addresses(run, serial++);
            if (err != ERR_OK) {
                report_wrong(report, "%s", err_text(err));
                err_free(err);
                return;
            }
            add_case(options, report, run);
        }
    }
}

void bench_exchange(const struct options *options, struct report *report)
{
    struct run run = {.run_ns = (uint64_t)(options->seconds * 1e9)};
    ASSERT(options->runs >= 1);
    bench_links(options, report, LINK_EXCHANGE);
    snprintf(run.directory, sizeof(run.directory), "%s/tailrace-bench-XXXXXX",
             options->directory);
    run.tally = mmap(NULL, 2 * sizeof(struct tally), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mkdtemp(run.directory) == NULL || run.tally == MAP_FAILED) {
        report_wrong(report, "no temporary directory in %s", options->directory);
        return;
    }
    rounds(options, report, &run);
    munmap(run.tally, 2 * sizeof(struct tally));
    link_remove_directory(run.directory);
}
