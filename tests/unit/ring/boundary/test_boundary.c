/*
 * The storage boundary end to end, over real sockets and threads: several storage processes and
 * compute processes in one test, each with its worker loops, on one net loop.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/boundary/log.h"
#include "tests/unit/ring/chopper.h"

#include "core/base/hash.h"
#include "core/base/log.h"
#include "ring/boundary/server_internal.h"

#include <stdio.h>

enum { PROCESSES_MAX = 2, WORKERS_MAX = 2, SOURCES = 6, COPIES_MAX = 4,
       READERS_MAX = 64 * COPIES_MAX};

struct world;

/* A thread: a storage worker, or a compute worker with its readers. */
struct storage_thread {
    struct world *world;
    struct log_worker log;
};
struct compute_thread {
    struct world *world;
    struct boundary_client *client;
    uint32_t process;
    uint32_t index;
    struct io_loop *loop;
    struct log_reader readers[READERS_MAX];
    size_t readers_len;
    size_t left;
    struct mailbox_done {
        struct io_task task;
        struct world *world;
    } done;
};

struct world {
    uint32_t processes;
    uint32_t workers;
    uint64_t end;
    uint64_t tick_us;
    size_t record_max;
    size_t copies; /* readers of each source at each worker, who begin together; 0: one */
    size_t chop; /* bytes; 0: no proxy */
    size_t cuts_max; /* then no more, so that every reader gets to the end */
    uint64_t end_us; /* a session ends at some moment so often; 0: none does */
    size_t credit;
    size_t arena;
    struct tls_context *tls_server;
    struct tls_context *tls_client;
    enum boundary_carrier carrier;
    char directory[64]; /* for sockets; "" : none */
    char secret[80];
    struct metrics_registry *metrics;
    struct io_loop *net;
    struct boundary_server *servers[PROCESSES_MAX];
    struct boundary_client *clients[PROCESSES_MAX];
    struct chopper *choppers[PROCESSES_MAX];
    struct storage_thread storage[PROCESSES_MAX][WORKERS_MAX];
    struct compute_thread compute[PROCESSES_MAX][WORKERS_MAX];
    size_t computing; /* threads not done */
    struct io_timer limit;
    struct io_timer calm;
    bool timed_out;
    uint64_t cuts;
};

static struct boundary_identity identity(const struct world *w, uint32_t process)
{
    return (struct boundary_identity){.environment = "0123456789abcde", .process = process,
                                      .generation = 1, .epoch = 5,
                                      .node_secret_path = w->directory[0] != '\0' ? w->secret
                                                                                  : NULL};
}

static void storage_start(struct io_loop *loop, void *arg)
{
    struct storage_thread *t = arg;
    log_worker_start(&t->log, loop);
}

static void thread_done(struct io_task *task)
{
    struct mailbox_done *done = CONTAINER_OF(task, struct mailbox_done, task);
    ASSERT(done->world->computing > 0);
    if (--done->world->computing == 0) {
        io_loop_stop(done->world->net);
    }
}

static void reader_done(struct log_reader *r)
{
    struct compute_thread *t = r->ctx;
    ASSERT(t->left > 0);
    if (--t->left == 0) {
        t->done.world = t->world;
        t->done.task.run = thread_done;
        io_post(t->world->net, &t->done.task);
    }
}

/* Each compute thread reads every source of every storage worker. */
static void compute_start(struct io_loop *loop, void *arg)
{
    struct compute_thread *t = arg;
    struct world *w = t->world;
    t->loop = loop;
    size_t copies = w->copies > 0 ? w->copies : 1;
    boundary_client_worker(t->client, t->index, loop);
    for (uint32_t worker = 0; worker < w->processes * w->workers; worker++) {
        for (uint32_t source = 0; source < SOURCES * copies; source++) {
            struct log_reader *r = &t->readers[t->readers_len++];
            log_reader_init(r, source / copies, worker, w->end, w->record_max);
            r->on_done = reader_done;
            r->ctx = t;
        }
    }
    t->left = t->readers_len;
    for (size_t i = 0; i < t->readers_len; i++) {
        struct log_reader *r = &t->readers[i];
        struct boundary_request request = log_request(r, 1 + hash_u64(i / copies) % w->end);
        r->sub = boundary_subscribe(t->client, t->index, &request, &log_handler, r);
    }
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
        if (chopper_cuts(w->choppers[p]) >= w->cuts_max) {
            chopper_calm(w->choppers[p]);
        }
    }
    io_timer_start(w->net, timer, io_now_us(w->net) + 1000);
}

/* Shared memory has no bytes in between that could be cut: all of a session is, at any moment. */
static void end_sessions(struct io_timer *timer)
{
    struct world *w = CONTAINER_OF(timer, struct world, calm);
    for (uint32_t p = 0; p < w->processes; p++) {
        struct boundary_server *server = w->servers[p];
        for (size_t i = 0; i < server->sessions_len; i++) {
            if (carrier_started(server->sessions[i]) &&
                w->cuts < w->cuts_max * w->processes) {
                w->cuts++;
                carrier_end_session(server->sessions[i], err_new(ERR_UNAVAILABLE, "cut"));
            }
        }
    }
    io_timer_start(w->net, timer,
                   io_now_us(w->net) + w->end_us / 2 + hash_u64(w->cuts) % w->end_us);
}

static void start_storage(struct world *w, uint32_t p)
{
    char unix_path[128];
    snprintf(unix_path, sizeof(unix_path), "unixpacket:%s/s%u", w->directory, p);
    struct boundary_server_config config = {
        .address = "127.0.0.1:0",
        .unix_path = w->directory[0] != '\0' ? unix_path : NULL,
        .tls = w->tls_server,
        .self = identity(w, p),
        .carrier = w->carrier,
        .workers = w->workers,
        .worker_base = p * w->workers,
        .backend = &log_backend,
        .metrics = w->metrics,
        .arena_bytes = w->arena,
    };
    err_t err = boundary_server_new(w->net, &config, &w->servers[p]);
    CU_ASSERT_PTR_NULL_FATAL(err);
    for (uint32_t i = 0; i < w->workers; i++) {
        struct storage_thread *t = &w->storage[p][i];
        t->world = w;
        t->log = (struct log_worker){.server = w->servers[p], .index = p * w->workers + i,
                                     .sources = SOURCES, .end = w->end, .tick_us = w->tick_us,
                                     .record_max = w->record_max};
        CU_ASSERT_PTR_NULL_FATAL(io_thread_start(w->net, "storage", -1, storage_start, NULL, t));
    }
}

static void start_compute(struct world *w, uint32_t p, const char *const *addresses,
                          const char *const *unix_paths)
{
    struct boundary_client_config config = {.self = identity(w, p), .tls = w->tls_client,
                                            .carrier = w->carrier, .workers = w->workers,
                                            .metrics = w->metrics, .credit_bytes = w->credit};
    CU_ASSERT_PTR_NULL_FATAL(boundary_client_new(w->net, &config, &w->clients[p]));
    for (uint32_t i = 0; i < w->workers; i++) {
        struct compute_thread *t = &w->compute[p][i];
        t->world = w;
        t->client = w->clients[p];
        t->process = p;
        t->index = i;
        w->computing++;
        CU_ASSERT_PTR_NULL_FATAL(io_thread_start(w->net, "compute", -1, compute_start, NULL, t));
    }
    boundary_client_directory(w->clients[p], addresses, unix_paths, w->processes, w->workers);
}

static void world_start(struct io_loop *loop, void *arg)
{
    struct world *w = arg;
    const char *addresses[PROCESSES_MAX];
    char paths[PROCESSES_MAX][128];
    const char *unix_paths[PROCESSES_MAX];
    w->net = loop;
    w->limit.fire = limit_reached;
    io_timer_start(loop, &w->limit, io_now_us(loop) + 120 * 1000 * 1000);
    for (uint32_t p = 0; p < w->processes; p++) {
        start_storage(w, p);
        addresses[p] = boundary_server_address(w->servers[p]);
        snprintf(paths[p], sizeof(paths[p]), "unixpacket:%s/s%u", w->directory, p);
        unix_paths[p] = w->directory[0] != '\0' ? paths[p] : NULL;
        if (w->chop > 0) {
            CU_ASSERT_PTR_NULL_FATAL(chopper_new(loop, "127.0.0.1:0", addresses[p], w->chop,
                                                 &w->choppers[p]));
            addresses[p] = chopper_address(w->choppers[p]);
        }
    }
    if (w->chop > 0) {
        w->calm.fire = calm_down;
        io_timer_start(loop, &w->calm, io_now_us(loop) + 1000);
    }
    if (w->end_us > 0) {
        w->calm.fire = end_sessions;
        io_timer_start(loop, &w->calm, io_now_us(loop) + w->end_us);
    }
    for (uint32_t p = 0; p < w->processes; p++) {
        start_compute(w, p, addresses, unix_paths);
    }
}

static void check_reader(const struct log_reader *r)
{
    CU_ASSERT_STRING_EQUAL(r->wrong, "");
    CU_ASSERT_STRING_EQUAL(r->refused, "");
    CU_ASSERT_TRUE(r->done);
    CU_ASSERT_EQUAL(r->at_time, r->end + 1);
    CU_ASSERT_TRUE(r->records > r->end);
}

/* Runs the world until every reader has read everything; frees it; checks what was left behind. */
static void world_run(struct world *w)
{
    struct io_env *env;
    w->metrics = metrics_registry_new();
    log_configure(getenv("RING_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR,
                  LOG_FORMAT_LOGFMT, "test");
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, world_start, w));
    CU_ASSERT_FALSE(w->timed_out);
    uint64_t resets = 0;
    uint64_t records = 0;
    for (uint32_t p = 0; p < w->processes; p++) {
        for (uint32_t i = 0; i < w->workers; i++) {
            struct compute_thread *t = &w->compute[p][i];
            for (size_t k = 0; k < t->readers_len; k++) {
                check_reader(&t->readers[k]);
                resets += t->readers[k].resets;
                records += t->readers[k].records;
            }
        }
        w->cuts += w->choppers[p] != NULL ? chopper_cuts(w->choppers[p]) : 0;
        chopper_free(w->choppers[p]);
        boundary_client_free(w->clients[p]);
    }
    for (uint32_t p = 0; p < w->processes; p++) {
        boundary_server_free(w->servers[p]);
        for (uint32_t i = 0; i < w->workers; i++) {
            CU_ASSERT_EQUAL(w->storage[p][i].log.cursors, 0);
        }
    }
    io_env_free(env);
    metrics_registry_free(w->metrics);
    printf(" [%llu records, %llu cuts, %llu resets]", (unsigned long long)records,
           (unsigned long long)w->cuts, (unsigned long long)resets);
}

static void world_run_shm(struct world *w)
{
    snprintf(w->directory, sizeof(w->directory), "/tmp/test-ring-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(w->directory));
    snprintf(w->secret, sizeof(w->secret), "%s/secret", w->directory);
    FILE *f = fopen(w->secret, "w");
    fputs("a secret of this node", f);
    fclose(f);
    w->carrier = BOUNDARY_CARRIER_SHM;
    world_run(w);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", w->directory);
    CU_ASSERT_EQUAL(system(command), 0);
}

static void test_shm_one(void)
{
    struct world w = {.processes = 1, .workers = 1, .end = test_scaled(2000), .tick_us = 200,
                      .record_max = 5000};
    world_run_shm(&w);
}

static void test_shm_two_by_two(void)
{
    struct world w = {.processes = 2, .workers = 2, .end = test_scaled(2000), .tick_us = 300,
                      .record_max = 20000};
    world_run_shm(&w);
}

static void test_shm_small_arena(void)
{
    struct world w = {.processes = 1, .workers = 2, .end = test_scaled(3000), .tick_us = 0,
                      .arena = 1, .record_max = 400000};
    world_run_shm(&w);
}

/* Chunks shared by several, and others too large for the arena, wait for room on the same lanes. */
static void test_shm_small_arena_shared(void)
{
    struct world w = {.processes = 1, .workers = 2, .end = test_scaled(1000), .tick_us = 0,
                      .arena = 1, .record_max = 150000, .copies = 4};
    world_run_shm(&w);
}

/* Chunks are gathered, shared and in blocks as a session ends: nothing is lost or seen twice. */
static void test_shm_cut(void)
{
    struct world w = {.processes = 2, .workers = 2, .end = test_scaled(3000), .tick_us = 500,
                      .record_max = 3000, .end_us = 20000, .cuts_max = 50, .copies = 2,
                      .credit = 100000};
    world_run_shm(&w);
    CU_ASSERT_TRUE(w.cuts >= 50);
}

/* A CA and two certificates, as files in the world's directory. */
static void world_run_tls(struct world *w)
{
    static const char script[] =
        "set -e; cd %s; new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'; "
        "$new -x509 -keyout ca.key -out ca.pem -subj /CN=ca -days 2; for i in server client; do "
        "$new -keyout $i.key -out $i.csr -subj /CN=$i; openssl x509 -req -in $i.csr -CA ca.pem "
        "-CAkey ca.key -CAcreateserial -out $i.pem -days 2; chmod 600 $i.key; done";
    char directory[64] = "/tmp/test-ring-XXXXXX";
    char command[1024];
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(directory));
    snprintf(command, sizeof(command), script, directory);
    char shell[1100];
    snprintf(shell, sizeof(shell), "( %s ) >/dev/null 2>&1", command);
    CU_ASSERT_EQUAL_FATAL(system(shell), 0);
    struct tls_context *contexts[2];
    for (int i = 0; i < 2; i++) {
        char pem[96], key[96], ca[96];
        snprintf(pem, sizeof(pem), "%s/%s.pem", directory, i == 0 ? "server" : "client");
        snprintf(key, sizeof(key), "%s/%s.key", directory, i == 0 ? "server" : "client");
        snprintf(ca, sizeof(ca), "%s/ca.pem", directory);
        struct tls_config config = {.certificate_path = pem, .key_path = key, .ca_path = ca,
                                    .require_peer = i == 0};
        CU_ASSERT_PTR_NULL_FATAL(tls_context_new(&config, i == 0, &contexts[i]));
    }
    w->tls_server = contexts[0];
    w->tls_client = contexts[1];
    world_run(w);
    tls_context_free(contexts[0]);
    tls_context_free(contexts[1]);
    snprintf(shell, sizeof(shell), "rm -rf %s", directory);
    CU_ASSERT_EQUAL(system(shell), 0);
}

static void test_tls(void)
{
    struct world w = {.processes = 1, .workers = 2, .end = test_scaled(2000), .tick_us = 200,
                      .record_max = 100000};
    world_run_tls(&w);
}

static void test_tls_cut(void)
{
    struct world w = {.processes = 2, .workers = 2, .end = test_scaled(1500), .tick_us = 500,
                      .record_max = 3000, .chop = 2000000 / test_stride(), .credit = 100000,
                      .cuts_max = 100};
    world_run_tls(&w);
    CU_ASSERT_TRUE(w.cuts >= 200);
}

static void test_tcp_one(void)
{
    struct world w = {.processes = 1, .workers = 1, .end = test_scaled(2000), .tick_us = 200,
                      .record_max = 5000};
    world_run(&w);
}

static void test_tcp_two_workers(void)
{
    struct world w = {.processes = 1, .workers = 2, .end = test_scaled(2000), .tick_us = 200,
                      .record_max = 100000};
    world_run(&w);
}

static void test_tcp_two_by_two(void)
{
    struct world w = {.processes = 2, .workers = 2, .end = test_scaled(1500), .tick_us = 500,
                      .record_max = 3000};
    world_run(&w);
}

static void test_tcp_backlog(void)
{
    struct world w = {.processes = 1, .workers = 2, .end = test_scaled(3000), .tick_us = 0,
                      .credit = 20000,
                      .record_max = 400000};
    world_run(&w);
}

static void test_tcp_cut(void)
{
    struct world w = {.processes = 2, .workers = 2, .end = test_scaled(3000), .tick_us = 500,
                      .record_max = 3000, .chop = 2000000 / test_stride(), .credit = 100000,
                      .cuts_max = 150};
    world_run(&w);
    CU_ASSERT_TRUE(w.cuts >= 300);
}

static const struct test_case cases[] = {
    {"tcp 1x1", test_tcp_one},
    {"tcp 1x2", test_tcp_two_workers},
    {"tcp 2x2", test_tcp_two_by_two},
    {"tcp backlog, small credit", test_tcp_backlog},
    {"tcp cut at random bytes", test_tcp_cut},
    {"tls 1x2", test_tls},
    {"tls cut at random bytes", test_tls_cut},
    {"shm 1x1", test_shm_one},
    {"shm 2x2", test_shm_two_by_two},
    {"shm cut at random moments", test_shm_cut},
    {"shm small arena", test_shm_small_arena},
    {"shm small arena, shared", test_shm_small_arena_shared},
};
TEST_SUITE("ring/boundary", cases)
