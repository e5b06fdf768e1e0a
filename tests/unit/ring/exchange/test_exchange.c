/* The exchange over real threads and sockets: several processes of a replica on one net loop. */
#include "tests/unit/harness.h"
#include "tests/unit/ring/chopper.h"
#include "tests/unit/ring/exchange/worker.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ring/exchange/internal.h"

#include <stdio.h>

enum { PROCESSES_MAX = 3, WORKERS_MAX = 3 };

struct world;
struct thread {
    struct world *world;
    struct talker talker;
    struct io_task done;
};

struct world {
    uint32_t processes;
    uint32_t workers;
    uint64_t messages;
    size_t len_max;
    size_t chop;
    size_t cuts_max;
    bool asleep;
    uint64_t pause_us;
    enum boundary_carrier carrier;
    char directory[64]; /* for sockets; "": none */
    char secret[80];
    struct io_loop *net;
    struct exchange *x[PROCESSES_MAX];
    struct chopper *choppers[PROCESSES_MAX];
    struct thread threads[PROCESSES_MAX][WORKERS_MAX];
    char ports[PROCESSES_MAX][64];
    size_t left;
    struct io_timer limit;
    struct io_timer calm;
    bool timed_out;
};

static void one_done(struct io_task *task)
{
    struct world *w = CONTAINER_OF(task, struct thread, done)->world;
    ASSERT(w->left > 0);
    if (--w->left == 0) {
        io_loop_stop(w->net);
    }
}

static void talker_done(struct talker *t)
{
    struct thread *thread = t->ctx;
    thread->done.run = one_done;
    io_post(thread->world->net, &thread->done);
}

static void thread_start(struct io_loop *loop, void *arg)
{
    talker_start(&((struct thread *)arg)->talker, loop);
}

static void limit_reached(struct io_timer *timer)
{
    struct world *w = CONTAINER_OF(timer, struct world, limit);
    w->timed_out = true;
    io_loop_stop(w->net);
}

static void calm_down(struct io_timer *timer)
{
    struct world *w = CONTAINER_OF(timer, struct world, calm);
    for (uint32_t p = 0; p < w->processes; p++) {
        if (w->choppers[p] != NULL && chopper_cuts(w->choppers[p]) >= w->cuts_max) {
            chopper_calm(w->choppers[p]);
        }
    }
    io_timer_start(w->net, timer, io_now_us(w->net) + 1000);
}

static void process_start(struct world *w, uint32_t p)
{
    const char *peers[PROCESSES_MAX];
    for (uint32_t i = 0; i < w->processes; i++) {
        peers[i] = i < p ? (w->choppers[i] != NULL ? chopper_address(w->choppers[i])
                                                   : exchange_address(w->x[i]))
                         : "127.0.0.1:1";
    }
    char paths[PROCESSES_MAX][96];
    const char *unix_paths[PROCESSES_MAX];
    for (uint32_t i = 0; i < w->processes; i++) {
        snprintf(paths[i], sizeof(paths[i]), "%s/x%u", w->directory, i);
        unix_paths[i] = paths[i];
    }
    bool local = w->directory[0] != '\0';
    struct exchange_config config = {
        .process = p,
        .processes = w->processes,
        .workers_per_process = w->workers,
        .listen_address = "127.0.0.1:0",
        .peers = peers,
        .self = {.environment = "0123456789abcde", .process = p, .generation = 1, .epoch = 3,
                 .node_secret_path = local ? w->secret : NULL},
        .unix_paths = local ? unix_paths : NULL,
        .carrier = w->carrier,
        .handler = &talk_handler,
    };
    CU_ASSERT_PTR_NULL_FATAL(exchange_new(w->net, &config, &w->x[p]));
    if (w->chop > 0) {
        CU_ASSERT_PTR_NULL_FATAL(chopper_new(w->net, "127.0.0.1:0", exchange_address(w->x[p]),
                                             w->chop, &w->choppers[p]));
    }
    for (uint32_t i = 0; i < w->workers; i++) {
        struct thread *t = &w->threads[p][i];
        t->world = w;
        t->talker = (struct talker){.x = w->x[p], .index = i, .self = p * w->workers + i,
                                    .total = w->processes * w->workers, .messages = w->messages,
                                    .len_max = w->len_max, .asleep = w->asleep,
                                    .pause_us = w->pause_us, .on_done = talker_done, .ctx = t};
        w->left++;
        CU_ASSERT_PTR_NULL_FATAL(io_thread_start(w->net, "worker", -1, thread_start, NULL, t));
    }
}

static void world_start(struct io_loop *loop, void *arg)
{
    struct world *w = arg;
    w->net = loop;
    w->limit.fire = limit_reached;
    io_timer_start(loop, &w->limit, io_now_us(loop) + 240 * 1000 * 1000);
    w->calm.fire = calm_down;
    io_timer_start(loop, &w->calm, io_now_us(loop) + 1000);
    for (uint32_t p = 0; p < w->processes; p++) {
        process_start(w, p);
    }
}

static uint64_t world_run(struct world *w)
{
    struct io_env *env;
    log_configure(getenv("RING_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR,
                  LOG_FORMAT_LOGFMT, "test");
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, world_start, w));
    CU_ASSERT_FALSE(w->timed_out);
    uint64_t bytes = 0;
    uint64_t cuts = 0;
    for (uint32_t p = 0; p < w->processes; p++) {
        for (uint32_t i = 0; i < w->workers; i++) {
            struct talker *t = &w->threads[p][i].talker;
            CU_ASSERT_STRING_EQUAL(t->wrong, "");
            CU_ASSERT_TRUE(talker_complete(t));
            CU_ASSERT_EQUAL(t->formed_times, 1);
            CU_ASSERT_EQUAL(t->lost_times, 0);
            bytes += t->bytes;
        }
        cuts += w->choppers[p] != NULL ? chopper_cuts(w->choppers[p]) : 0;
        chopper_free(w->choppers[p]);
        exchange_free(w->x[p]);
    }
    io_env_free(env);
    printf(" [%llu bytes, %llu cuts]", (unsigned long long)bytes, (unsigned long long)cuts);
    return cuts;
}

static void world_run_shm(struct world *w)
{
    snprintf(w->directory, sizeof(w->directory), "/tmp/test-ring-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(w->directory));
    snprintf(w->secret, sizeof(w->secret), "%s/secret", w->directory);
    FILE *f = fopen(w->secret, "w");
    fputs("a secret of this node", f);
    fclose(f);
    world_run(w);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", w->directory);
    CU_ASSERT_EQUAL(system(command), 0);
}

static void test_shm(void)
{
    struct world w = {.processes = 2, .workers = 2, .messages = test_scaled(10000),
                      .len_max = 200000,
                      .carrier = BOUNDARY_CARRIER_SHM};
    world_run_shm(&w);
}

static void test_shm_three(void)
{
    struct world w = {.processes = 3, .workers = 2, .messages = test_scaled(5000), .len_max = 5000};
    world_run_shm(&w);
}

static void test_shm_big(void)
{
    struct world w = {.processes = 2, .workers = 1, .messages = test_scaled(200),
                      .len_max = 40 << 20,
                      .carrier = BOUNDARY_CARRIER_SHM};
    world_run_shm(&w);
}

static void test_one_process(void)
{
    struct world w = {.processes = 1, .workers = 3, .messages = test_scaled(20000),
                      .len_max = 5000};
    world_run(&w);
}

/* Workers that sleep whenever they may: a wake that is lost would hang it. */
static void test_asleep(void)
{
    struct world w = {.processes = 1, .workers = 3, .messages = test_scaled(50000),
                      .len_max = 50000, .asleep = true};
    world_run(&w);
    struct world paced = {.processes = 1, .workers = 3, .messages = test_scaled(4000),
                          .len_max = 3000, .asleep = true, .pause_us = 100};
    world_run(&paced);
}

static void test_alone(void)
{
    struct world w = {.processes = 1, .workers = 1, .messages = test_scaled(20000),
                      .len_max = 5000};
    world_run(&w);
}

static void test_two_by_two(void)
{
    struct world w = {.processes = 2, .workers = 2, .messages = test_scaled(10000),
                      .len_max = 200000};
    world_run(&w);
}

static void test_three_by_two(void)
{
    struct world w = {.processes = 3, .workers = 2, .messages = test_scaled(3000), .len_max = 5000};
    world_run(&w);
}

static void test_big(void)
{
    struct world w = {.processes = 2, .workers = 1, .messages = test_scaled(200),
                      .len_max = 20 << 20};
    world_run(&w);
}

static void test_cut(void)
{
    struct world w = {.processes = 3, .workers = 2, .messages = test_scaled(3000),
                      .len_max = 100000,
                      .chop = 2000000 / test_stride(), .cuts_max = 100};
    CU_ASSERT_TRUE(world_run(&w) >= 100);
}

/* Process 1 of two, told to form a generation after which none can be counted. */
static void test_generation_range(void)
{
    uint64_t nonces[2] = {0};
    uint64_t said[2] = {11, 22};
    struct exchange_peer peers[2] = {0};
    struct exchange x = {.config = {.process = 1, .processes = 2}, .nonce = 22, .nonces = nonces,
                         .peers = peers, .generation = 3};
    peers[0].x = &x;
    peers[0].carrier = (struct carrier *)&x; /* there is one; a refusal does not use it */
    peers[0].nonce = 12;                     /* not the one of FORM: READY does not follow */
    struct carrier_message form = {.kind = EXCHANGE_FORM, .a = UINT64_MAX,
                                   .data = (const uint8_t *)said, .len = sizeof(said)};
    err_t err = formation_message(&x, &peers[0], &form);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    err_free(err);
    CU_ASSERT_EQUAL(x.generation, 3);
    CU_ASSERT_FALSE(x.forming);
    form.a = EXCHANGE_GENERATION_MAX;
    err = formation_message(&x, &peers[0], &form);
    CU_ASSERT_PTR_NULL_FATAL(err);
    CU_ASSERT_EQUAL(x.generation, EXCHANGE_GENERATION_MAX);
    CU_ASSERT_TRUE(x.forming);
}

/* ---- a peer whose handshake claims too much ------------------------------------------------- */

/* Process 0 of two is an exchange, process 1 a bare dialer. */
struct claim {
    struct io_loop *loop;
    struct exchange *x;
    struct dialer *dialer;
    struct talker talker;
    struct io_timer limit;
    uint64_t formation;
    bool greeted;
    char reason[256];
};

static void claim_hello(void *arg, struct hello *hello)
{
    struct claim *c = arg;
    *hello = (struct hello){.version = HELLO_VERSION, .protocol = HELLO_EXCHANGE,
                            .role = HELLO_COMPUTE, .process = 1, .generation = 1,
                            .epoch = 3, .nonce = 77, .workers = 1,
                            .worker_base = 1, .processes = 2,
                            .formation = c->formation};
    memcpy(hello->environment, "0123456789abcde", sizeof(hello->environment));
    hello_set_host(hello, io_host_id(io_loop_env(c->loop)));
}

static err_t claim_check(void *arg, const struct hello *ours, const struct hello *theirs,
                         const char *peer_name)
{
    return ERR_OK;
}

static void claim_greeted(void *arg, const struct greeted *greeted)
{
    struct claim *c = arg;
    c->greeted = true;
    io_stream_close(greeted->stream);
    io_loop_stop(c->loop);
}

static void claim_failed(void *arg, err_t reason, bool for_good)
{
    struct claim *c = arg;
    bool starting = strstr(err_text(reason), "still starting") != NULL;
    if (!starting) {
        snprintf(c->reason, sizeof(c->reason), "%s", err_text(reason));
        io_loop_stop(c->loop);
    }
    err_free(reason);
}

static void claim_limit(struct io_timer *timer)
{
    io_loop_stop(CONTAINER_OF(timer, struct claim, limit)->loop);
}

static void claim_start(struct io_loop *loop, void *arg)
{
    struct claim *c = arg;
    const char *peers[] = {"127.0.0.1:1", "127.0.0.1:1"};
    c->loop = loop;
    c->limit.fire = claim_limit;
    io_timer_start(loop, &c->limit, io_now_us(loop) + 10 * 1000 * 1000);
    struct exchange_config config = {
        .processes = 2, .workers_per_process = 1, .listen_address = "127.0.0.1:0", .peers = peers,
        .self = {.environment = "0123456789abcde", .generation = 1, .epoch = 3},
        .handler = &talk_handler};
    CU_ASSERT_PTR_NULL_FATAL(exchange_new(loop, &config, &c->x));
    c->talker = (struct talker){.x = c->x, .total = 2};
    exchange_worker(c->x, 0, loop, &c->talker);
    struct dialer_config dialer = {.loop = loop, .address = exchange_address(c->x), .arg = c,
                                   .hello = claim_hello, .check = claim_check,
                                   .done = claim_greeted, .failed = claim_failed};
    c->dialer = dialer_new(&dialer);
    dialer_start(c->dialer);
}

static void claim_run(struct claim *c)
{
    struct io_env *env;
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, claim_start, c));
    dialer_free(c->dialer);
    exchange_free(c->x);
    io_env_free(env);
}

/* A generation beyond all that can be counted is refused, with the reason; the last one is not. */
static void test_hello_generation(void)
{
    struct claim too_high = {.formation = EXCHANGE_GENERATION_MAX + 1};
    claim_run(&too_high);
    CU_ASSERT_FALSE(too_high.greeted);
    CU_ASSERT_PTR_NOT_NULL(strstr(too_high.reason, "claims generation 9223372036854775808"));
    struct claim highest = {.formation = EXCHANGE_GENERATION_MAX};
    claim_run(&highest);
    CU_ASSERT_TRUE(highest.greeted);
    CU_ASSERT_STRING_EQUAL(highest.reason, "");
}

static const struct test_case cases[] = {
    {"generation out of range", test_generation_range},
    {"generation out of range in a handshake", test_hello_generation},
    {"one process, asleep", test_asleep},
    {"alone", test_alone},
    {"one process", test_one_process},
    {"tcp 2x2", test_two_by_two},
    {"tcp 3x2", test_three_by_two},
    {"tcp big messages", test_big},
    {"tcp cut at random bytes", test_cut},
    {"shm 2x2", test_shm},
    {"shm 3x2", test_shm_three},
    {"shm big messages", test_shm_big},
};
TEST_SUITE("ring/exchange", cases)
