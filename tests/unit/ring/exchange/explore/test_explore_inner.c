/*
 * The lanes between workers of one process (ring/exchange/inner.c, and a worker's turn, worker.c)
 * under every schedule within bounds, by the explorer of ring/shm: see shm/explore/explorer.h. Two
 * or three workers, each a thread, with the code as it is; below it a loop that is a queue of tasks
 * and a sleep, above it handlers that count. Then the same with faults, which must be found.
 *
 * A message says its number and its generation, and its bytes follow from them.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/shm/explore/explorer.h"

#include "ring/exchange/internal.h"

#include <stdio.h>
#include <string.h>

#define SCHEDULES_MIN 300000ULL
#define SCHEDULES_EACH 60000ULL /* of one scenario, in order, */
#define RANDOM_EACH 30000ULL    /* and drawn at random besides */

enum { WORKERS_MAX = EXPLORE_THREADS, TASKS = 8, PIECE = 100 };

/* A worker's loop: who posts makes the word grow, whoever sleeps compares it. */
struct io_loop {
    uint32_t posted;
    uint32_t run;
    struct io_task *tasks[TASKS];
    struct io_poller *poller;
};

struct hearer {
    uint64_t next[WORKERS_MAX]; /* by sender: number expected */
    uint32_t got;               /* in all */
    uint32_t generation;        /* heard formed */
    uint32_t answers;           /* sends one back for each, to whom it came from */
    uint32_t answered;
    size_t answer_len;          /* bytes */
};

static struct io_loop loops[WORKERS_MAX];
static struct hearer hearers[WORKERS_MAX];
static struct exchange exchange;
static uint32_t workers;
static void (*take_item)(void *arg, struct mailbox_item *item); /* a worker's */

/* ---- what lies below ------------------------------------------------------------------------- */

/* Atomic with everything before it: the real one is a compare-exchange with release. */
void io_post(struct io_loop *loop, struct io_task *task)
{
    explore_point();
    if (loop->posted - loop->run == TASKS || task->queued != 0) {
        explore_fail("a task was posted twice");
    }
    task->queued = 1;
    loop->tasks[loop->posted % TASKS] = task;
    loop->posted++;
    explore_wake(&loop->posted);
}

void io_task_cancel(struct io_loop *loop, struct io_task *task)
{
    UNREACHABLE();
}

void io_poller_add(struct io_loop *loop, struct io_poller *poller)
{
    loop->poller = poller;
}

void io_poller_remove(struct io_loop *loop, struct io_poller *poller)
{
    UNREACHABLE();
}

/* From the net loop comes only what the threads say here. */
struct mailbox *mailbox_new(struct io_loop *loop, void (*take)(void *, struct mailbox_item *),
                            void (*after)(void *), void *arg)
{
    take_item = take;
    return NULL;
}

void mailbox_put(struct mailbox *box, struct mailbox_item *item)
{
    ASSERT(CONTAINER_OF(item, struct net_item, item)->kind == ITEM_REGISTERED);
}

void mailbox_free(struct mailbox *box, void (*drop)(struct mailbox_item *))
{
    UNREACHABLE();
}

struct net_item *exchange_item_new(enum net_item_kind kind)
{
    UNREACHABLE();
}

void exchange_item_free(struct mailbox_item *item)
{
}

bool shm_pool_reserve(struct shm_pool *pool, uint32_t worker, size_t len,
                      struct carrier_block *out)
{
    UNREACHABLE();
}

void shm_pool_trim(struct shm_pool *pool, uint32_t worker, struct carrier_block *block, size_t len)
{
    UNREACHABLE();
}

void shm_pool_release(struct shm_pool *pool, uint32_t worker, struct carrier_block *block)
{
    UNREACHABLE();
}

void shm_pool_worker(struct shm_pool *pool, uint32_t worker, struct io_loop *loop,
                     void (*roomy)(void *arg), void *arg)
{
    UNREACHABLE();
}

/* No other processes. */
void lanes_init(struct exchange_worker *w)
{
}

void lanes_free(struct exchange_worker *w)
{
    UNREACHABLE();
}

void lanes_commit(struct exchange_worker *w, uint32_t to, struct piece *piece)
{
    UNREACHABLE();
}

void lanes_formed(struct exchange_worker *w)
{
}

void lanes_lost(struct exchange_worker *w)
{
}

bool lanes_acknowledge(struct exchange_worker *w)
{
    return false;
}

void lanes_flush(struct exchange_worker *w)
{
    UNREACHABLE();
}

/* ---- messages -------------------------------------------------------------------------------- */

struct text {
    uint64_t number;
    uint64_t generation;
    uint8_t rest[PIECE - 16];
};
STATIC_ASSERT((int)PIECE > (int)INNER_BYTES && sizeof(struct text) >= PIECE,
              "one that lies in a piece");

static void send(uint32_t from, uint32_t to, uint64_t number, size_t len)
{
    struct text text = {number, hearers[from].generation, {0}};
    ASSERT(len >= 16 && len <= PIECE);
    memset(text.rest, (int)number + 1, sizeof(text.rest));
    exchange_send(&exchange, from, to, &text, len);
}

static void check_rest(const uint8_t *data, uint64_t number, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (data[i] != (uint8_t)(number + 1)) {
            explore_fail("message %llu is torn at byte %zu", (unsigned long long)number, i);
        }
    }
}

static void on_message(void *ctx, uint32_t from, const uint8_t *data, size_t len)
{
    struct hearer *r = ctx;
    struct text head;
    memcpy(&head, data, 16);
    if (head.number != r->next[from] || head.generation != r->generation) {
        explore_fail("message %llu of generation %llu came as %llu of %u",
                     (unsigned long long)head.number, (unsigned long long)head.generation,
                     (unsigned long long)r->next[from], r->generation);
    }
    check_rest(data, head.number, 16, 16 + (len - 16) / 2);
    if (len > INNER_BYTES) {
        explore_point(); /* a callback takes its time: the piece must stay what it is */
    }
    check_rest(data, head.number, 16 + (len - 16) / 2, len);
    r->next[from]++;
    r->got++;
    if (r->answers > 0) {
        send((uint32_t)(r - hearers), from, r->answered++, r->answer_len);
    }
}

static void on_formed(void *ctx, uint64_t generation)
{
    struct hearer *r = ctx;
    r->generation = (uint32_t)generation;
    memset(r->next, 0, sizeof(r->next));
}

static void on_lost(void *ctx, const char *reason)
{
}

static void on_writable(void *ctx)
{
}

static const struct exchange_handler handler = {.formed = on_formed, .message = on_message,
                                                .lost = on_lost, .writable = on_writable};

/* ---- a worker's loop ------------------------------------------------------------------------- */

static bool run_tasks(struct io_loop *loop)
{
    bool any = false;
    while (loop->run != loop->posted) {
        struct io_task *task = loop->tasks[loop->run++ % TASKS];
        task->queued = 0;
        task->run(task);
        any = true;
    }
    return any;
}

static void turn(uint32_t i)
{
    struct io_loop *loop = &loops[i];
    const uint32_t *words[] = {&loop->posted};
    bool any = run_tasks(loop);
    any |= loop->poller->poll(loop->poller);
    if (any) {
        return;
    }
    size_t backlogs = exchange.workers[i].backlogs;
    /* What waited for lines may have got them as it armed: whoever waits for that goes on. */
    if (!loop->poller->arm(loop->poller) && exchange.workers[i].backlogs == backlogs) {
        explore_sleep(words, &loop->run, 1);
    }
    loop->poller->disarm(loop->poller);
}

static void take(uint32_t i, enum net_item_kind kind, uint64_t generation)
{
    struct net_item item = {.kind = kind, .generation = generation};
    take_item(&exchange.workers[i], &item.item);
}

/* Each turn ends by saying what was taken. */
static void hear_until(uint32_t i, uint32_t messages)
{
    while (hearers[i].got < messages) {
        turn(i);
    }
}

/* What it sent has all got a line; who reads takes the rest. */
static void sent(uint32_t i)
{
    exchange_flush(&exchange, i);
    while (exchange.workers[i].backlogs > 0) {
        turn(i);
    }
}

/* ---- before and after each schedule ---------------------------------------------------------- */

static void reset(uint32_t n, uint32_t lines, bool formed)
{
    explore_share_heap();
    memset(loops, 0, sizeof(loops));
    memset(hearers, 0, sizeof(hearers));
    workers = n;
    exchange = (struct exchange){
        .config = {.processes = 1, .workers_per_process = n, .handler = &handler,
                   .held_max = EXCHANGE_HELD_MAX},
        .total = n,
    };
    exchange.workers = explore_alloc(n * sizeof(exchange.workers[0]));
    memset(exchange.workers, 0, n * sizeof(exchange.workers[0]));
    inner_new(&exchange);
    exchange.inner_lines = lines; /* fewer than there is room for */
    for (uint32_t i = 0; i < n; i++) {
        exchange_worker_init(&exchange, i);
        exchange_worker(&exchange, i, &loops[i], &hearers[i]);
        if (formed) {
            take(i, ITEM_FORMED, 1);
        }
    }
}

/* Everything that was read comes back, and the numbers of both sides fit together. */
static void check(void)
{
    for (uint32_t i = 0; i < workers; i++) {
        struct exchange_worker *w = &exchange.workers[i];
        inner_relieve(w);
        if (w->pending != 0 || w->backlogs != 0 || w->touched_len != 0) {
            explore_fail("worker %u keeps %zu bytes", i, w->pending);
        }
        for (uint32_t k = 0; k < workers; k++) {
            if (!inner_valid(&exchange, i, k)) {
                explore_fail("the lane from %u to %u is not valid", i, k);
            }
        }
    }
}

/* ---- scenarios ------------------------------------------------------------------------------- */

/* In place, in two batches, to one who sleeps. */
static void small_reset(void)
{
    reset(2, 4, true);
}

static void small_run(uint32_t i)
{
    if (i == 0) {
        send(0, 1, 0, 16);
        exchange_flush(&exchange, 0);
        send(0, 1, 1, INNER_BYTES);
        send(0, 1, 2, 16);
        sent(0);
    } else {
        hear_until(1, 3);
    }
}

/* Pieces, used again as soon as they come back. */
static void pieces_run(uint32_t i)
{
    if (i == 0) {
        for (uint64_t n = 0; n < 4; n++) {
            send(0, 1, n, n == 2 ? 16 : PIECE);
            exchange_flush(&exchange, 0);
            inner_relieve(&exchange.workers[0]);
        }
        sent(0);
    } else {
        hear_until(1, 4);
    }
}

/* More than the ring has lines: the sender waits for room, asleep. */
static void full_reset(void)
{
    reset(2, 2, true);
}

static void full_run(uint32_t i)
{
    if (i == 0) {
        for (uint64_t n = 0; n < 5; n++) {
            send(0, 1, n, n % 2 == 0 ? 16 : PIECE);
        }
        sent(0);
    } else {
        hear_until(1, 5);
    }
}

/* Each is answered, and both sleep in turns. */
static void answers_reset(void)
{
    reset(2, 4, true);
    hearers[1].answers = 1;
    hearers[1].answer_len = 16;
}

static void answers_run(uint32_t i)
{
    if (i == 0) {
        for (uint32_t n = 0; n < 2; n++) {
            send(0, 1, n, n == 0 ? 16 : PIECE);
            exchange_flush(&exchange, 0);
            hear_until(0, n + 1);
        }
    } else {
        hear_until(1, 2);
    }
}

/* Two ring one bell. */
static void bell_reset(void)
{
    reset(3, 4, true);
}

static void bell_run(uint32_t i)
{
    if (i > 0) {
        send(i, 0, 0, 16);
        exchange_flush(&exchange, i);
        send(i, 0, 1, 16);
        sent(i);
    } else {
        hear_until(0, 4);
    }
}

/* What comes before its generation stands here waits in its lane. */
static void ahead_reset(void)
{
    reset(2, 2, false);
}

static void ahead_run(uint32_t i)
{
    take(i, ITEM_FORMED, 1);
    if (i == 0) {
        send(0, 1, 0, 16);
        exchange_flush(&exchange, 0);
        take(0, ITEM_LOST, 1);
        take(0, ITEM_FORMED, 2);
        for (uint64_t n = 0; n < 3; n++) {
            send(0, 1, n, n == 1 ? PIECE : 16);
        }
        sent(0);
    } else {
        turn(1);
        uint32_t before = hearers[1].got; /* 0 or 1 of the first generation */
        take(1, ITEM_LOST, 1);
        explore_point();
        take(1, ITEM_FORMED, 2);
        hear_until(1, before + 3);
    }
}

static const struct explore_scenario scenarios[] = {
    {"small", 2, 0, small_reset, small_run, check},
    {"pieces", 2, 0, small_reset, pieces_run, check},
    {"full ring", 2, 0, full_reset, full_run, check},
    {"answers", 2, 0, answers_reset, answers_run, check},
    {"two ring one bell", 3, 0, bell_reset, bell_run, check},
    {"generations", 2, 0, ahead_reset, ahead_run, check},
};

/* ---- tests ----------------------------------------------------------------------------------- */

static struct explore_result run(const struct explore_scenario *s, const struct explore_bounds *b)
{
    struct explore_result r = explore(s, b);
    if (r.failure[0] != '\0') {
        printf("\n  %s: %s\n  schedule: %s\n", s->name, r.failure, r.schedule);
    }
    CU_ASSERT_STRING_EQUAL(r.failure, "");
    return r;
}

/* All with two preemptions, then those of three, as many as there is time for. */
static uint64_t in_order(const struct explore_scenario *s)
{
    struct explore_result two = run(s, &(struct explore_bounds){.preemptions = 2,
                                                               .schedules = SCHEDULES_EACH});
    struct explore_result three = run(s, &(struct explore_bounds){.preemptions = 3,
                                                                 .schedules = SCHEDULES_EACH});
    printf("\n  %-18s %6llu with two preemptions%s, %6llu with three%s", s->name,
           (unsigned long long)two.schedules, two.complete ? ", all" : "",
           (unsigned long long)three.full, three.complete ? ", all" : "");
    return two.schedules + three.full;
}

static void test_in_order(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        sum += in_order(&scenarios[i]);
    }
    printf("\n  %llu in sum ", (unsigned long long)sum);
    CU_ASSERT_TRUE(sum >= SCHEDULES_MIN);
}

static void test_at_random(void)
{
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        run(&scenarios[i], &(struct explore_bounds){.preemptions = 8, .schedules = RANDOM_EACH,
                                                    .random = 1 + i});
    }
}

static void expect_found(size_t scenario, enum explore_fault fault, const void *blind,
                         const char *what)
{
    struct explore_result r = {0};
    for (uint32_t n = 1; n <= 3 && r.failure[0] == '\0'; n++) {
        r = explore(&scenarios[scenario],
                    &(struct explore_bounds){.preemptions = n, .schedules = SCHEDULES_EACH,
                                             .fault = fault, .blind = blind});
    }
    printf("\n  %-18s %-18s after %llu: %s", what, scenarios[scenario].name,
           (unsigned long long)r.schedules, r.failure);
    CU_ASSERT_STRING_NOT_EQUAL(r.failure, "");
}

static void test_faults(void)
{
    enum { SMALL, PIECES, FULL, ANSWERS, BELL };
    static const size_t sleepers[] = {SMALL, PIECES, FULL, ANSWERS, BELL};
    for (size_t i = 0; i < ARRAY_LEN(sleepers); i++) {
        expect_found(sleepers[i], EXPLORE_NO_FENCE, NULL, "no fence");
        expect_found(sleepers[i], EXPLORE_PLAIN_RELEASE, NULL, "no release");
    }
    /* Memory lies at the same place in every schedule of a scenario. */
    run(&scenarios[FULL], &(struct explore_bounds){.preemptions = 0});
    expect_found(FULL, EXPLORE_BLIND, &exchange.inner_ends[0].blocked, "deaf to the blocked");
    run(&scenarios[SMALL], &(struct explore_bounds){.preemptions = 0});
    expect_found(SMALL, EXPLORE_BLIND, &exchange.inner_ends[1].sleeping, "deaf to sleepers");
}

static const struct test_case cases[] = {
    {"every schedule within bounds", test_in_order},
    {"schedules at random", test_at_random},
    {"faults are found", test_faults},
};
TEST_SUITE("ring/exchange explored", cases)
