/*
 * Boundary and exchange in the deterministic simulator: processes die between any two callbacks,
 * connections are cut at any byte, hosts are parted, for many seeds. RING_SEED replays one,
 * RING_SEEDS sets how many.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/boundary/log.h"
#include "tests/unit/ring/chopper.h"
#include "tests/unit/ring/exchange/worker.h"

#include "core/base/log.h"
#include "core/io/sim.h"

#include <stdio.h>

enum { PROCESSES = 3, WORKERS = 2, SOURCES = 3, SEEDS = 60, FAULTS = 30 };

struct world;

/* A process of either kind; each keeps what must survive its death outside of it. */
struct member {
    struct world *world;
    uint32_t p;
    char host[8];
    uint32_t generation;
    struct sim_process *process;
    void (*start)(struct io_loop *loop, void *arg);
    void (*destroy)(void *arg);
    /* exchange */
    struct exchange *x;
    struct talker talkers[WORKERS];
    /* boundary */
    struct boundary_server *server;
    struct log_worker logs[WORKERS];
    struct boundary_client *client;
    struct log_reader readers[WORKERS][PROCESSES * WORKERS * SOURCES];
    struct chopper *chopper;
};

struct world {
    struct sim *sim;
    struct member members[2 * PROCESSES];
    size_t members_len;
    uint64_t kills;
    uint64_t cuts;
    uint64_t resets;
};

static struct boundary_identity identity(const struct member *m)
{
    return (struct boundary_identity){.environment = "0123456789abcde", .process = m->p,
                                      .generation = m->generation, .epoch = 1};
}

static void member_start(struct member *m)
{
    char name[16];
    snprintf(name, sizeof(name), "m%u", m->generation);
    m->generation++;
    m->process = sim_process_start(m->world->sim, m->host, name, m->start, m->destroy, m);
}

/* ---- exchange -------------------------------------------------------------------------------- */

static void nothing(struct talker *t)
{
}

static void exchange_start(struct io_loop *loop, void *arg)
{
    static const char *const peers[PROCESSES] = {"h0:2102", "h1:2102", "h2:2102"};
    struct member *m = arg;
    struct exchange_config config = {.process = m->p, .processes = PROCESSES,
                                     .workers_per_process = WORKERS,
                                     .listen_address = peers[m->p], .peers = peers,
                                     .self = identity(m), .handler = &talk_handler};
    CU_ASSERT_PTR_NULL_FATAL(exchange_new(loop, &config, &m->x));
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct talker *t = &m->talkers[i];
        *t = (struct talker){.x = m->x, .index = i, .self = m->p * WORKERS + i,
                             .total = PROCESSES * WORKERS, .messages = 150, .len_max = 20000,
                             .on_done = nothing, .pause_us = 500};
        talker_start(t, loop);
    }
}

static void exchange_destroy(void *arg)
{
    struct member *m = arg;
    for (uint32_t i = 0; i < WORKERS; i++) {
        CU_ASSERT_STRING_EQUAL(m->talkers[i].wrong, "");
        talker_stop(&m->talkers[i]);
    }
    exchange_free(m->x);
    m->x = NULL;
}

static bool exchange_incomplete(void *arg)
{
    struct world *w = arg;
    for (size_t i = 0; i < w->members_len; i++) {
        for (uint32_t k = 0; k < WORKERS; k++) {
            const struct talker *t = &w->members[i].talkers[k];
            if (w->members[i].x == NULL || !talker_complete(t) ||
                t->generation != w->members[0].talkers[0].generation) {
                return true;
            }
        }
    }
    return false;
}

/* ---- boundary -------------------------------------------------------------------------------- */

static void storage_start(struct io_loop *loop, void *arg)
{
    struct member *m = arg;
    char address[32];
    snprintf(address, sizeof(address), "%s:2101", m->host);
    struct boundary_server_config config = {.address = address, .self = identity(m),
                                            .workers = WORKERS, .worker_base = m->p * WORKERS,
                                            .backend = &log_backend};
    CU_ASSERT_PTR_NULL_FATAL(boundary_server_new(loop, &config, &m->server));
    for (uint32_t i = 0; i < WORKERS; i++) {
        m->logs[i].server = m->server;
        log_worker_start(&m->logs[i], loop);
    }
}

static void storage_destroy(void *arg)
{
    struct member *m = arg;
    boundary_server_free(m->server);
    m->server = NULL;
    for (uint32_t i = 0; i < WORKERS; i++) {
        CU_ASSERT_EQUAL(m->logs[i].cursors, 0);
        log_worker_stop(&m->logs[i]);
    }
}

static void reader_done(struct log_reader *r)
{
}

static void compute_start(struct io_loop *loop, void *arg)
{
    static const char *const addresses[PROCESSES] = {"h0:2101", "h1:2101", "h2:2101"};
    struct member *m = arg;
    struct boundary_client_config config = {.self = identity(m), .workers = WORKERS,
                                            .credit_bytes = 3000};
    CU_ASSERT_PTR_NULL_FATAL(boundary_client_new(loop, &config, &m->client));
    for (uint32_t i = 0; i < WORKERS; i++) {
        boundary_client_worker(m->client, i, loop);
        for (uint32_t k = 0; k < PROCESSES * WORKERS * SOURCES; k++) {
            struct log_reader *r = &m->readers[i][k];
            log_reader_init(r, k % SOURCES, k / SOURCES, 400, 3000);
            r->on_done = reader_done;
            struct boundary_request request = log_request(r, 1 + sim_random(m->world->sim) % 400);
            r->sub = boundary_subscribe(m->client, i, &request, &log_handler, r);
        }
    }
    boundary_client_directory(m->client, addresses, NULL, PROCESSES, WORKERS);
}

static void compute_destroy(void *arg)
{
    struct member *m = arg;
    for (uint32_t i = 0; i < WORKERS; i++) {
        for (uint32_t k = 0; k < PROCESSES * WORKERS * SOURCES; k++) {
            CU_ASSERT_STRING_EQUAL(m->readers[i][k].wrong, "");
            m->world->resets += m->readers[i][k].resets;
        }
    }
    boundary_client_free(m->client);
    m->client = NULL;
}

static bool boundary_incomplete(void *arg)
{
    struct world *w = arg;
    for (size_t p = PROCESSES; p < w->members_len; p++) {
        for (uint32_t i = 0; i < WORKERS; i++) {
            for (uint32_t k = 0; k < PROCESSES * WORKERS * SOURCES; k++) {
                const struct log_reader *r = &w->members[p].readers[i][k];
                if (w->members[p].client == NULL || !r->done || r->at_time != r->end + 1) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void fault(struct world *w)
{
    struct sim *sim = w->sim;
    struct member *m = &w->members[sim_random(sim) % w->members_len];
    struct member *other = &w->members[sim_random(sim) % w->members_len];
    switch (sim_random(sim) % 4) {
    case 0:
        if (m->process != NULL && sim_process_alive(m->process)) {
            sim_process_kill(sim, m->process);
            w->kills++;
        } else {
            member_start(m);
        }
        break;
    case 1:
        if (m->process != NULL && sim_process_alive(m->process)) {
            sim_cut_connections(sim, m->process);
            w->cuts++;
        }
        break;
    default:
        if (m != other) {
            sim_partition(sim, m->host, other->host, sim_random(sim) % 2 == 0);
        }
        break;
    }
}

static void heal(struct world *w)
{
    for (size_t i = 0; i < w->members_len; i++) {
        for (size_t k = 0; k < w->members_len; k++) {
            if (i != k) {
                sim_partition(w->sim, w->members[i].host, w->members[k].host, false);
            }
        }
        if (!sim_process_alive(w->members[i].process)) {
            member_start(&w->members[i]);
        }
    }
}

/* Faults for a while, then peace, in which everything must come to its end. */
static uint64_t world_run(struct world *w, uint64_t seed, bool (*incomplete)(void *arg))
{
    struct sim_config config = sim_config_default(seed);
    config.trace = getenv("RING_TRACE") != NULL;
    w->sim = sim_new(&config);
    for (size_t i = 0; i < w->members_len; i++) {
        w->members[i].world = w;
        member_start(&w->members[i]);
    }
    for (int i = 0; i < FAULTS; i++) {
        sim_run_until(w->sim, sim_now_us(w->sim) + 1000 + sim_random(w->sim) % 60000);
        fault(w);
    }
    heal(w);
    bool stuck = !sim_run_while(w->sim, incomplete, w, sim_now_us(w->sim) + 120 * 1000 * 1000);
    if (stuck) {
        fprintf(stderr, "seed %llu: not complete; RING_SEED=%llu replays it\n",
                (unsigned long long)seed, (unsigned long long)seed);
    }
    CU_ASSERT_FALSE(stuck);
    uint64_t hash = sim_trace_hash(w->sim);
    sim_free(w->sim);
    return hash;
}

static uint64_t exchange_run(uint64_t seed, uint64_t *kills)
{
    struct world *w = MEM_NEW(struct world);
    w->members_len = PROCESSES;
    for (uint32_t p = 0; p < PROCESSES; p++) {
        struct member *m = &w->members[p];
        m->p = p;
        snprintf(m->host, sizeof(m->host), "h%u", p);
        m->start = exchange_start;
        m->destroy = exchange_destroy;
    }
    uint64_t hash = world_run(w, seed, exchange_incomplete);
    *kills += w->kills;
    free(w);
    return hash;
}

static uint64_t boundary_run(uint64_t seed, uint64_t *kills, uint64_t *resets)
{
    struct world *w = MEM_NEW(struct world);
    w->members_len = 2 * PROCESSES;
    for (uint32_t i = 0; i < 2 * PROCESSES; i++) {
        struct member *m = &w->members[i];
        bool storage = i < PROCESSES;
        m->p = i % PROCESSES;
        snprintf(m->host, sizeof(m->host), "%c%u", storage ? 'h' : 'c', m->p);
        m->start = storage ? storage_start : compute_start;
        m->destroy = storage ? storage_destroy : compute_destroy;
        for (uint32_t k = 0; k < WORKERS; k++) {
            m->logs[k] = (struct log_worker){.index = m->p * WORKERS + k, .sources = SOURCES,
                                             .end = 400, .tick_us = 5000, .record_max = 3000};
        }
    }
    uint64_t hash = world_run(w, seed, boundary_incomplete);
    *kills += w->kills;
    *resets += w->resets;
    free(w);
    return hash;
}

static void quiet(void)
{
    log_configure(getenv("RING_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT,
                  "test");
}

static void seeds(uint64_t *first, uint64_t *last)
{
    const char *one = getenv("RING_SEED");
    *first = one != NULL ? strtoull(one, NULL, 10) : 1;
    const char *many = getenv("RING_SEEDS");
    *last = one != NULL ? *first : many != NULL ? strtoull(many, NULL, 10) : test_scaled(SEEDS);
}

static void test_exchange(void)
{
    uint64_t first, last, kills = 0;
    quiet();
    seeds(&first, &last);
    for (uint64_t seed = first; seed <= last; seed++) {
        exchange_run(seed, &kills);
    }
    printf(" [%llu kills]", (unsigned long long)kills);
}

static void test_boundary(void)
{
    uint64_t first, last, kills = 0, resets = 0;
    quiet();
    seeds(&first, &last);
    for (uint64_t seed = first; seed <= last; seed++) {
        boundary_run(seed, &kills, &resets);
    }
    printf(" [%llu kills, %llu resets]", (unsigned long long)kills, (unsigned long long)resets);
}

static void test_same_seed(void)
{
    uint64_t kills = 0, resets = 0;
    quiet();
    CU_ASSERT_EQUAL(exchange_run(7, &kills), exchange_run(7, &kills));
    CU_ASSERT_EQUAL(boundary_run(7, &kills, &resets), boundary_run(7, &kills, &resets));
    CU_ASSERT_NOT_EQUAL(exchange_run(7, &kills), exchange_run(8, &kills));
}

/* ---- every byte ------------------------------------------------------------------------------ */

enum { EVERY_BYTE = 3000, EVERY_END = 60 };

static void chopper_start(struct io_loop *loop, void *arg)
{
    struct member *m = arg;
    CU_ASSERT_PTR_NULL_FATAL(chopper_new(loop, "x0:2101", "h0:2101", 0, &m->chopper));
    chopper_every_byte(m->chopper, test_scaled(EVERY_BYTE));
}

static void chopper_destroy(void *arg)
{
    struct member *m = arg;
    CU_ASSERT_EQUAL(chopper_cuts(m->chopper), test_scaled(EVERY_BYTE));
    chopper_free(m->chopper);
}

/* One worker that reads all of one storage process, through the chopper. */
static void lone_start(struct io_loop *loop, void *arg)
{
    static const char *const address = "x0:2101";
    struct member *m = arg;
    struct boundary_client_config config = {.self = identity(m), .workers = 1,
                                            .credit_bytes = 300};
    CU_ASSERT_PTR_NULL_FATAL(boundary_client_new(loop, &config, &m->client));
    boundary_client_worker(m->client, 0, loop);
    for (uint32_t k = 0; k < WORKERS * SOURCES; k++) {
        struct log_reader *r = &m->readers[0][k];
        log_reader_init(r, k % SOURCES, k / SOURCES, EVERY_END, 64);
        r->on_done = reader_done;
        struct boundary_request request = log_request(r, 1);
        r->sub = boundary_subscribe(m->client, 0, &request, &log_handler, r);
    }
    boundary_client_directory(m->client, &address, NULL, 1, WORKERS);
}

/* The readers were checked by who waited for them. */
static void lone_destroy(void *arg)
{
    struct member *m = arg;
    boundary_client_free(m->client);
    m->client = NULL;
}

static bool every_byte_incomplete(void *arg)
{
    struct world *w = arg;
    const struct chopper *c = w->members[1].chopper;
    bool done = c != NULL && chopper_cuts(c) == test_scaled(EVERY_BYTE);
    for (uint32_t k = 0; k < WORKERS * SOURCES; k++) {
        const struct log_reader *r = &w->members[2].readers[0][k];
        done &= r->done && r->at_time == r->end + 1;
    }
    return !done;
}

/* The log grows as slowly as that takes, so that there is always something under way. */
static void test_every_byte(void)
{
    struct world *w = MEM_NEW(struct world);
    struct sim_config config = sim_config_default(1);
    quiet();
    w->members_len = 3;
    w->members[0] = (struct member){.host = "h0", .start = storage_start,
                                    .destroy = storage_destroy};
    w->members[1] = (struct member){.host = "x0", .start = chopper_start,
                                    .destroy = chopper_destroy};
    w->members[2] = (struct member){.host = "c0", .start = lone_start, .destroy = lone_destroy};
    for (uint32_t k = 0; k < WORKERS; k++) {
        w->members[0].logs[k] = (struct log_worker){.index = k, .sources = SOURCES,
                                                    .end = EVERY_END, .tick_us = 200 * 1000 * 1000,
                                                    .record_max = 64};
    }
    w->sim = sim_new(&config);
    for (size_t i = 0; i < w->members_len; i++) {
        w->members[i].world = w;
        member_start(&w->members[i]);
    }
    CU_ASSERT_TRUE(sim_run_while(w->sim, every_byte_incomplete, w,
                                 sim_now_us(w->sim) + 24ULL * 3600 * 1000 * 1000));
    for (uint32_t k = 0; k < WORKERS * SOURCES; k++) {
        CU_ASSERT_STRING_EQUAL(w->members[2].readers[0][k].wrong, "");
        w->resets += w->members[2].readers[0][k].resets;
    }
    printf(" [%llu cuts, %llu resets]", (unsigned long long)chopper_cuts(w->members[1].chopper),
           (unsigned long long)w->resets);
    sim_free(w->sim);
    free(w);
}

static const struct test_case cases[] = {
    {"exchange under faults", test_exchange},
    {"boundary under faults", test_boundary},
    {"same seed, same trace", test_same_seed},
    {"boundary cut at every byte", test_every_byte},
};
TEST_SUITE("ring/sim", cases)
