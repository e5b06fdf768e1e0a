/*
 * Several storage processes behind one client, on virtual time: it connects to those that have a
 * worker it reads, when it reads it, and subscribes to no other one; what it gives up leaves
 * nothing behind. Counters of both sides say so.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/boundary/log.h"

#include "core/base/log.h"
#include "core/io/sim.h"

#include <stdio.h>

enum { SECOND = 1000 * 1000, PROCESSES = 3, WORKERS = 2, ALL = PROCESSES * WORKERS, END = 200 };

struct storage {
    struct town *town;
    uint32_t index;
    struct metrics_registry *metrics;
    struct boundary_server *server;
    struct log_worker logs[WORKERS];
};

struct town {
    struct sim *sim;
    struct storage storages[PROCESSES];
    struct metrics_registry *metrics; /* the client's */
    struct boundary_client *client;
    struct sim_process *compute;
    struct log_reader readers[ALL]; /* by storage worker; sub is NULL: none */
};

static const char *const addresses[PROCESSES] = {"h0:2101", "h1:2101", "h2:2101"};
static const char *const hosts[PROCESSES] = {"h0", "h1", "h2"};
static const struct boundary_identity self = {.environment = "0123456789abcde", .epoch = 1};

static void storage_start(struct io_loop *loop, void *arg)
{
    struct storage *s = arg;
    struct boundary_server_config config = {
        .address = addresses[s->index], .self = self, .workers = WORKERS,
        .worker_base = s->index * WORKERS, .backend = &log_backend, .metrics = s->metrics};
    config.self.process = s->index;
    CU_ASSERT_PTR_NULL_FATAL(boundary_server_new(loop, &config, &s->server));
    for (uint32_t i = 0; i < WORKERS; i++) {
        s->logs[i] = (struct log_worker){.server = s->server, .index = s->index * WORKERS + i,
                                         .sources = 1, .end = END, .tick_us = 1000,
                                         .record_max = 1000, .always_ready = true};
        log_worker_start(&s->logs[i], loop);
    }
}

static void storage_destroy(void *arg)
{
    struct storage *s = arg;
    boundary_server_free(s->server);
}

static void compute_start(struct io_loop *loop, void *arg)
{
    struct town *t = arg;
    struct boundary_client_config config = {.self = self, .workers = 1, .metrics = t->metrics};
    CU_ASSERT_PTR_NULL_FATAL(boundary_client_new(loop, &config, &t->client));
    boundary_client_worker(t->client, 0, loop);
    boundary_client_directory(t->client, addresses, NULL, PROCESSES, WORKERS);
}

static void compute_destroy(void *arg)
{
    boundary_client_free(((struct town *)arg)->client);
}

static void town_start(struct town *t)
{
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    *t = (struct town){.metrics = metrics_registry_new()};
    struct sim_config config = sim_config_default(7);
    t->sim = sim_new(&config);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        t->storages[i] = (struct storage){.town = t, .index = i,
                                          .metrics = metrics_registry_new()};
        sim_process_start(t->sim, hosts[i], "storage", storage_start, storage_destroy,
                          &t->storages[i]);
    }
    t->compute = sim_process_start(t->sim, "c", "compute", compute_start, compute_destroy, t);
    sim_run_until(t->sim, SECOND / 10);
}

static void town_end(struct town *t)
{
    sim_free(t->sim);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        metrics_registry_free(t->storages[i].metrics);
    }
    metrics_registry_free(t->metrics);
}

static void reader_done(struct log_reader *r)
{
    /* The test looks at r->done. */
}

static void subscribe(struct town *t, uint32_t worker)
{
    struct log_reader *r = &t->readers[worker];
    log_reader_init(r, 0, worker, END, 1000);
    r->on_done = reader_done;
    struct boundary_request request = log_request(r, 1);
    r->sub = boundary_subscribe(t->client, 0, &request, &log_handler, r);
}

static void give_up(struct town *t, uint32_t worker)
{
    boundary_unsubscribe(t->readers[worker].sub);
    t->readers[worker].sub = NULL;
}

static int64_t gauge(struct metrics_registry *r, const char *name, const char *labels)
{
    return metric_value(metric_gauge(r, name, labels, ""));
}

/* sessions: bit i: with process i. Each worker serves its reader, if there is one, nobody else. */
static void expect(struct town *t, uint32_t sessions)
{
    int64_t readers = 0;
    sim_run_until(t->sim, sim_now_us(t->sim) + SECOND);
    CU_ASSERT_EQUAL(gauge(t->metrics, "tailrace_boundary_client_sessions", ""),
                    __builtin_popcount(sessions));
    for (uint32_t i = 0; i < ALL; i++) {
        struct storage *s = &t->storages[i / WORKERS];
        const struct log_reader *r = &t->readers[i];
        char labels[32];
        snprintf(labels, sizeof(labels), "worker=\"%u\"", i);
        CU_ASSERT_EQUAL(gauge(s->metrics, "tailrace_boundary_sessions", ""),
                        sessions >> s->index & 1);
        CU_ASSERT_EQUAL(gauge(s->metrics, "tailrace_boundary_subscriptions", labels),
                        r->sub != NULL);
        CU_ASSERT_EQUAL(s->logs[i % WORKERS].cursors, r->sub != NULL);
        CU_ASSERT_STRING_EQUAL(r->wrong, "");
        readers += r->sub != NULL;
    }
    CU_ASSERT_EQUAL(gauge(t->metrics, "tailrace_boundary_client_subscriptions", "worker=\"0\""),
                    readers);
}

static void test_only_consumed(void)
{
    struct town t;
    town_start(&t);
    expect(&t, 0); /* a directory alone is no reason to connect */
    subscribe(&t, 1);
    subscribe(&t, 4);
    expect(&t, 1 << 0 | 1 << 2);
    CU_ASSERT_TRUE(t.readers[1].done && t.readers[4].done);
    subscribe(&t, 3);
    expect(&t, 1 << 0 | 1 << 1 | 1 << 2);
    CU_ASSERT_TRUE(t.readers[3].done);
    /* Sessions stay: they cost a heartbeat. Nothing of the subscriptions does. */
    give_up(&t, 1);
    give_up(&t, 4);
    expect(&t, 1 << 0 | 1 << 1 | 1 << 2);
    give_up(&t, 3);
    expect(&t, 1 << 0 | 1 << 1 | 1 << 2);
    town_end(&t);
}

/* Without a word: everything it had is gone as soon as its silence is noticed. */
static void test_killed(void)
{
    struct town t;
    town_start(&t);
    for (uint32_t i = 0; i < ALL; i++) {
        subscribe(&t, i);
    }
    expect(&t, (1 << PROCESSES) - 1);
    sim_process_kill(t.sim, t.compute);
    sim_run_until(t.sim, sim_now_us(t.sim) + 15 * SECOND);
    for (uint32_t i = 0; i < ALL; i++) {
        struct storage *s = &t.storages[i / WORKERS];
        char labels[32];
        snprintf(labels, sizeof(labels), "worker=\"%u\"", i);
        CU_ASSERT_EQUAL(gauge(s->metrics, "tailrace_boundary_sessions", ""), 0);
        CU_ASSERT_EQUAL(gauge(s->metrics, "tailrace_boundary_subscriptions", labels), 0);
        CU_ASSERT_EQUAL(s->logs[i % WORKERS].cursors, 0);
    }
    town_end(&t);
}

static const struct test_case cases[] = {
    {"connects and subscribes to what is consumed", test_only_consumed},
    {"a client that is killed leaves nothing", test_killed},
};
TEST_SUITE("ring/boundary directory", cases)
