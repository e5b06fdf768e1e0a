/*
 * Many subscriptions on one connection, on virtual time: several of one source share its chunks
 * and their messages, also over several connections, and 100,000 of many sources cost what they
 * hold and no more.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/boundary/log.h"

#include "core/base/log.h"
#include "core/io/sim.h"
#include "ring/boundary/server_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { SECOND = 1000 * 1000, RECORD_MAX = 3000, PROCESSES_MAX = 4 };

/* A compute process with every processes-th of the readers. */
struct compute {
    struct crowd *crowd;
    struct boundary_client *client;
    uint32_t index;
};

struct crowd {
    struct sim *sim;
    struct metrics_registry *metrics;
    struct boundary_server *server;
    struct compute computes[PROCESSES_MAX];
    uint32_t processes; /* 0: one */
    struct log_worker log;
    uint32_t sources;
    uint32_t readers_len;
    uint64_t end;
    uint64_t tick_us;
    size_t credit;
    bool whole;     /* see struct log_worker */
    bool scattered; /* each reader begins at another time */
    struct log_reader *readers;
    uint32_t dones;
};

static const struct boundary_identity self = {.environment = "0123456789abcde", .epoch = 1};

static void storage_start(struct io_loop *loop, void *arg)
{
    struct crowd *c = arg;
    struct boundary_server_config config = {.address = "h:2101", .self = self, .workers = 1,
                                            .backend = &log_backend, .metrics = c->metrics};
    CU_ASSERT_PTR_NULL_FATAL(boundary_server_new(loop, &config, &c->server));
    c->log = (struct log_worker){.server = c->server, .sources = c->sources, .end = c->end,
                                 .tick_us = c->tick_us, .record_max = RECORD_MAX,
                                 .whole = c->whole, .always_ready = true};
    log_worker_start(&c->log, loop);
}

static void storage_destroy(void *arg)
{
    struct crowd *c = arg;
    boundary_server_free(c->server);
    CU_ASSERT_EQUAL(c->log.cursors, 0);
}

static void reader_done(struct log_reader *r)
{
    ((struct crowd *)r->ctx)->dones++;
}

static void compute_start(struct io_loop *loop, void *arg)
{
    struct compute *compute = arg;
    struct crowd *c = compute->crowd;
    struct boundary_client_config config = {.self = self, .workers = 1, .metrics = c->metrics,
                                            .credit_bytes = c->credit};
    config.self.process = compute->index;
    CU_ASSERT_PTR_NULL_FATAL(boundary_client_new(loop, &config, &compute->client));
    boundary_client_worker(compute->client, 0, loop);
    const char *address = "h:2101";
    boundary_client_directory(compute->client, &address, NULL, 1, 1);
    for (uint32_t i = compute->index; i < c->readers_len; i += c->processes) {
        struct log_reader *r = &c->readers[i];
        log_reader_init(r, i % c->sources, 0, c->end, RECORD_MAX);
        r->on_done = reader_done;
        r->ctx = c;
        struct boundary_request request = log_request(r, c->scattered ? 1 + i % c->end : 1);
        r->sub = boundary_subscribe(compute->client, 0, &request, &log_handler, r);
    }
}

static void compute_destroy(void *arg)
{
    boundary_client_free(((struct compute *)arg)->client);
}

static void crowd_start(struct crowd *c)
{
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    struct sim_config config = sim_config_default(11);
    c->sim = sim_new(&config);
    c->metrics = metrics_registry_new();
    c->readers = calloc(c->readers_len, sizeof(c->readers[0]));
    CU_ASSERT_PTR_NOT_NULL_FATAL(c->readers);
    sim_process_start(c->sim, "h", "storage", storage_start, storage_destroy, c);
    c->processes = c->processes > 0 ? c->processes : 1;
    for (uint32_t i = 0; i < c->processes; i++) {
        c->computes[i] = (struct compute){.crowd = c, .index = i};
        sim_process_start(c->sim, "c", "compute", compute_start, compute_destroy,
                          &c->computes[i]);
    }
}

static void run_until_done(struct crowd *c)
{
    for (int i = 0; i < 600 && c->dones < c->readers_len; i++) {
        sim_run_until(c->sim, sim_now_us(c->sim) + SECOND / 10);
    }
    CU_ASSERT_EQUAL(c->dones, c->readers_len);
}

static uint64_t counted(struct crowd *c, const char *name)
{
    const char *label = "worker=\"0\"";
    return (uint64_t)metric_value(strstr(name, "_total") != NULL
                                      ? metric_counter(c->metrics, name, label, "")
                                      : metric_gauge(c->metrics, name, label, ""));
}

/* Everybody read what there was; giving all up leaves nothing. */
static void crowd_end(struct crowd *c)
{
    for (uint32_t i = 0; i < c->readers_len; i++) {
        CU_ASSERT_STRING_EQUAL(c->readers[i].wrong, "");
        CU_ASSERT_TRUE(c->readers[i].done);
        boundary_unsubscribe(c->readers[i].sub);
    }
    sim_run_until(c->sim, sim_now_us(c->sim) + SECOND);
    CU_ASSERT_EQUAL(c->log.cursors, 0);
    CU_ASSERT_EQUAL(counted(c, "tailrace_boundary_subscriptions"), 0);
    CU_ASSERT_EQUAL(counted(c, "tailrace_boundary_client_subscriptions"), 0);
    sim_free(c->sim);
    metrics_registry_free(c->metrics);
    free(c->readers);
}

/* What went to all compute processes. */
static uint64_t messages_out(const struct crowd *c)
{
    uint64_t n = 0;
    CU_ASSERT_EQUAL(c->server->sessions_len, c->processes);
    for (size_t i = 0; i < c->server->sessions_len; i++) {
        /* Relaxed: one thread. */
        n += atomic_load_explicit(&carrier_counters(c->server->sessions[i], 0)->messages_out,
                                  memory_order_relaxed);
    }
    return n;
}

/* Readers who keep up: nearly every chunk is made once, and sent once to each process. */
static void keep_up(uint32_t processes, uint32_t readers)
{
    struct crowd c = {.sources = 1, .readers_len = readers, .end = 2000, .tick_us = 2000,
                      .processes = processes, .whole = true};
    crowd_start(&c);
    run_until_done(&c);
    uint64_t chunks = counted(&c, "tailrace_boundary_sent_chunks_total");
    uint64_t shared = counted(&c, "tailrace_boundary_shared_chunks_total");
    uint64_t messages = messages_out(&c);
    printf(" [%llu chunks, %llu shared, %llu messages]", (unsigned long long)chunks,
           (unsigned long long)shared, (unsigned long long)messages);
    CU_ASSERT_TRUE(shared > chunks / 10 * 9);
    CU_ASSERT_TRUE(messages < chunks / readers * processes * 3);
    crowd_end(&c);
}

static void test_shared(void)
{
    keep_up(1, 64);
}

static void test_shared_by_processes(void)
{
    keep_up(4, 64);
}

/* Who gives up amid the others, and who comes later, changes nothing for them. */
static void test_come_and_go(void)
{
    struct crowd c = {.sources = 1, .readers_len = 16, .end = 2000, .tick_us = 2000};
    crowd_start(&c);
    sim_run_until(c.sim, SECOND / 20);
    for (uint32_t i = 0; i < 200; i++) {
        struct log_reader *r = &c.readers[i % 8 * 2];
        boundary_unsubscribe(r->sub);
        log_reader_init(r, 0, 0, c.end, RECORD_MAX);
        r->on_done = reader_done;
        r->ctx = &c;
        struct boundary_request request = log_request(r, 1);
        r->sub = boundary_subscribe(c.computes[0].client, 0, &request, &log_handler, r);
        sim_run_until(c.sim, sim_now_us(c.sim) + 300);
    }
    run_until_done(&c);
    crowd_end(&c);
}

/* What one chunk costs does not grow with the subscriptions of its source. */
static void test_ten_thousand_of_one(void)
{
    struct crowd c = {.sources = 1, .readers_len = 10000, .end = 20, .tick_us = 20000};
    crowd_start(&c);
    run_until_done(&c);
    CU_ASSERT_EQUAL(counted(&c, "tailrace_boundary_subscriptions"), 10000);
    crowd_end(&c);
}

/* Readers who come at any time, with so little credit that they fall apart: still exact. */
static void test_scattered(void)
{
    struct crowd c = {.sources = 3, .readers_len = 60, .end = 500, .tick_us = 1000,
                      .credit = 9000, .scattered = true};
    crowd_start(&c);
    run_until_done(&c);
    uint64_t shared = counted(&c, "tailrace_boundary_shared_chunks_total");
    printf(" [%llu shared]", (unsigned long long)shared);
    CU_ASSERT_TRUE(shared > 0);
    crowd_end(&c);
}

/* One stops reading while the rest goes on; what was kept for it does not pile up. */
static void test_one_stalled(void)
{
    struct crowd c = {.sources = 1, .readers_len = 8, .end = 3000, .tick_us = 1000,
                      .credit = 100000};
    crowd_start(&c);
    sim_run_until(c.sim, SECOND / 10);
    boundary_sub_pause(c.readers[3].sub, true);
    for (int i = 0; i < 300 && c.dones < c.readers_len - 1; i++) {
        sim_run_until(c.sim, sim_now_us(c.sim) + SECOND / 10);
    }
    CU_ASSERT_EQUAL(c.dones, c.readers_len - 1);
    CU_ASSERT_FALSE(c.readers[3].done);
    boundary_sub_pause(c.readers[3].sub, false);
    run_until_done(&c);
    crowd_end(&c);
}

/* Nobody waits for new records here. One that comes some chunks behind the others would stay so, if
 * it were served one for each of theirs: each would be made and sent for it alone, for ever. */
static void test_catches_up(void)
{
    struct crowd c = {.sources = 1, .readers_len = 16, .end = 60000, .credit = 1 << 30,
                      .whole = true};
    crowd_start(&c);
    while (c.readers[0].upper < 5000) {
        sim_run_until(c.sim, sim_now_us(c.sim) + 100);
    }
    struct log_reader *r = &c.readers[1];
    boundary_unsubscribe(r->sub);
    log_reader_init(r, 0, 0, c.end, RECORD_MAX);
    r->on_done = reader_done;
    r->ctx = &c;
    struct boundary_request request = log_request(r, c.readers[0].upper);
    r->sub = boundary_subscribe(c.computes[0].client, 0, &request, &log_handler, r);
    while (r->upper < c.readers[0].upper - 1000) {
        sim_run_until(c.sim, sim_now_us(c.sim) + 100);
    }
    CU_ASSERT_FALSE_FATAL(c.readers[0].done);
    uint64_t chunks = counted(&c, "tailrace_boundary_sent_chunks_total");
    uint64_t messages = messages_out(&c);
    run_until_done(&c);
    chunks = counted(&c, "tailrace_boundary_sent_chunks_total") - chunks;
    messages = messages_out(&c) - messages;
    printf(" [then %llu chunks, %llu messages]", (unsigned long long)chunks,
           (unsigned long long)messages);
    CU_ASSERT_TRUE(messages < chunks / c.readers_len * 2);
    crowd_end(&c);
}

/* As many as an environment of thousands of views has: subscribed, read and given up. */
static void test_hundred_thousand(void)
{
    struct crowd c = {.sources = 50000, .readers_len = 100000, .end = 3, .tick_us = 50000};
    crowd_start(&c);
    sim_run_until(c.sim, SECOND / 50);
    run_until_done(&c);
    CU_ASSERT_EQUAL(counted(&c, "tailrace_boundary_subscriptions"), 100000);
    crowd_end(&c);
}

static void wake(struct crowd *c, uint64_t first, uint64_t last, uint64_t upper)
{
    c->log.upper = upper;
    for (uint64_t i = first; i <= last; i++) {
        boundary_server_wake(c->server, 0, i, upper);
    }
}

static void nothing(struct io_task *task)
{
    task->run = NULL;
}

/* A loop that sleeps does not see what it was told from outside. */
static void run_on(struct crowd *c)
{
    struct io_task task = {.run = nothing};
    io_post(c->log.loop, &task);
    sim_run_until(c->sim, sim_now_us(c->sim) + SECOND);
    CU_ASSERT_PTR_NULL(task.run);
}

/* One of its subscriptions may be sent nothing more. */
static void take_credit(struct source *source)
{
    struct sub *sub = source->first;
    CU_ASSERT_TRUE_FATAL(sub->used > 0 && sub->state == SUB_IDLE);
    sub->granted = sub->used;
}

static uint32_t readers_at(const struct crowd *c, uint64_t source, uint64_t upper)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->readers_len; i++) {
        n += c->readers[i].source == source && c->readers[i].upper == upper;
    }
    return n;
}

static bool no_poll(struct io_poller *poller)
{
    return false;
}

/* A poll leaves a chunk of source 0 to be sent to two of its readers, kept for the third one, which
 * has no credit; and in the queue, as its work is done, readers of other sources, who go before the
 * next poll. Then nobody is in the queue, but there are those to send to. */
static void test_queue_goes(void)
{
    enum { SOURCES = 52, LAST = SOURCES - 1, UPPER = 20 };
    struct crowd c = {.sources = SOURCES, .readers_len = 3 * SOURCES, .end = 2 * UPPER,
                      .tick_us = 3600UL * SECOND, .credit = 1 << 20, .whole = true};
    crowd_start(&c);
    sim_run_until(c.sim, SECOND / 10);
    wake(&c, 0, LAST, UPPER);
    run_on(&c);
    wake(&c, 1, LAST, UPPER + 1);
    run_on(&c);
    CU_ASSERT_EQUAL(readers_at(&c, 0, UPPER), 3);
    CU_ASSERT_EQUAL(readers_at(&c, LAST, UPPER + 1), 3);
    struct server_worker *w = &c.server->workers[0];
    bool (*poll)(struct io_poller *poller) = w->poller.poll;
    take_credit(u64map_get(&w->sources, 0));
    wake(&c, 0, LAST, UPPER + 1);
    CU_ASSERT_TRUE(poll(&w->poller)); /* source 0 is asked once more, behind the others */
    wake(&c, 1, LAST, UPPER + 1);
    CU_ASSERT_TRUE(poll(&w->poller));
    CU_ASSERT_TRUE(w->casts != NULL && w->run.first != NULL);
    w->poller.poll = no_poll;
    for (uint32_t i = 0; i < c.readers_len; i++) {
        if (c.readers[i].source != 0) {
            boundary_unsubscribe(c.readers[i].sub);
        }
    }
    sim_run_until(c.sim, sim_now_us(c.sim) + SECOND);
    CU_ASSERT_EQUAL(c.log.cursors, 3);
    CU_ASSERT_TRUE(w->casts != NULL && w->run.first == NULL);
    w->poller.poll = poll;
    run_on(&c);
    CU_ASSERT_EQUAL(readers_at(&c, 0, UPPER + 1), 2);
    sim_free(c.sim);
    metrics_registry_free(c.metrics);
    free(c.readers);
}

static const struct test_case cases[] = {
    {"64 readers share chunks", test_shared},
    {"64 readers in 4 processes share chunks", test_shared_by_processes},
    {"readers come and go", test_come_and_go},
    {"10,000 readers of one source", test_ten_thousand_of_one},
    {"scattered readers are exact", test_scattered},
    {"one stalled reader stalls alone", test_one_stalled},
    {"who comes behind catches up", test_catches_up},
    {"what is for several is sent when the queue goes", test_queue_goes},
    {"100,000 subscriptions on one connection", test_hundred_thousand},
};
TEST_SUITE("ring/boundary fan-out", cases)
