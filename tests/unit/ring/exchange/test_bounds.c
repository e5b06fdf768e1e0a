/*
 * What a worker keeps for others is bounded: it is told to wait, and told when it may go on; and
 * when it does not ask, the generation ends with a reason, everywhere, and the next one stands.
 *
 * All workers of a case are on one loop, so each step is known to have happened: the receiver takes
 * nothing while the sender's callback runs.
 */
#include "tests/unit/harness.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ring/exchange/internal.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PROCESSES_MAX = 2, WORKERS_MAX = 2, LIMIT_US = 60 * 1000 * 1000, BLOCK = 64 * 1024 };

struct stage;
struct worker {
    struct stage *stage;
    uint32_t process, index, global;
    uint64_t generation; /* formed, 0: not */
    uint32_t formed, lost, writable;
    uint64_t received, bytes, next; /* next: number expected */
    bool wrong;
    char reason[200];
};

struct stage {
    uint32_t processes, workers;
    size_t held_max;
    bool shm;
    bool either; /* shared memory, or TCP where that fails */
    char directory[64], secret[96], paths[PROCESSES_MAX][128];
    void (*script)(struct stage *s); /* all formed, and again after each loss */
    struct io_loop *loop;
    struct exchange *x[PROCESSES_MAX];
    struct worker worker[PROCESSES_MAX][WORKERS_MAX];
    struct io_timer limit, look;
    struct io_poller poller; /* of some */
    bool (*done)(struct stage *s); /* looked at every millisecond */
    bool timed_out;
    int phase;
    uint64_t sent;
    size_t pending_max;
};

/* ---- workers --------------------------------------------------------------------------------- */

static bool all_formed(const struct stage *s)
{
    for (uint32_t p = 0; p < s->processes; p++) {
        for (uint32_t i = 0; i < s->workers; i++) {
            if (s->worker[p][i].generation != s->worker[0][0].generation ||
                s->worker[p][i].generation == 0) {
                return false;
            }
        }
    }
    return true;
}

static void on_formed(void *ctx, uint64_t generation)
{
    struct worker *w = ctx;
    w->wrong |= generation <= w->generation;
    w->generation = generation;
    w->formed++;
    w->next = 0;
}

static void on_message(void *ctx, uint32_t from, const uint8_t *data, size_t len)
{
    struct worker *w = ctx;
    uint64_t number;
    memcpy(&number, data, sizeof(number));
    w->wrong |= number != w->next++ || len < sizeof(number);
    w->received++;
    w->bytes += len;
}

static void on_lost(void *ctx, const char *reason)
{
    struct worker *w = ctx;
    w->generation = 0;
    w->lost++;
    snprintf(w->reason, sizeof(w->reason), "%s", reason);
}

static void on_writable(void *ctx)
{
    struct worker *w = ctx;
    w->writable++;
    w->wrong |= !exchange_ready(w->stage->x[w->process], w->index);
}

static const struct exchange_handler handler = {.formed = on_formed, .message = on_message,
                                                .lost = on_lost, .writable = on_writable};

/* ---- the stage ------------------------------------------------------------------------------- */

static void process_start(struct stage *s, uint32_t p)
{
    const char *peers[] = {p > 0 ? exchange_address(s->x[0]) : "127.0.0.1:1", "127.0.0.1:1"};
    const char *paths[] = {s->paths[0], s->paths[1]};
    struct exchange_config config = {
        .process = p, .processes = s->processes, .workers_per_process = s->workers,
        .listen_address = "127.0.0.1:0", .peers = peers, .unix_paths = s->shm ? paths : NULL,
        .self = {.environment = "0123456789abcde", .process = p, .generation = 1, .epoch = 3,
                 .node_secret_path = s->shm ? s->secret : NULL},
        .carrier = s->either ? BOUNDARY_CARRIER_AUTO
                   : s->shm  ? BOUNDARY_CARRIER_SHM
                             : BOUNDARY_CARRIER_TCP,
        .held_max = s->held_max, .handler = &handler};
    CU_ASSERT_PTR_NULL_FATAL(exchange_new(s->loop, &config, &s->x[p]));
    for (uint32_t i = 0; i < s->workers; i++) {
        s->worker[p][i] = (struct worker){
            .stage = s, .process = p, .index = i, .global = p * s->workers + i};
        exchange_worker(s->x[p], i, s->loop, &s->worker[p][i]);
    }
}

static void look(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, look);
    if (all_formed(s)) {
        s->script(s);
    }
    if (s->done(s)) {
        io_loop_stop(s->loop);
        return;
    }
    io_timer_start(s->loop, timer, io_now_us(s->loop) + 1000);
}

static void limit_reached(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, limit);
    s->timed_out = true;
    io_loop_stop(s->loop);
}

static void stage_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    s->loop = loop;
    s->limit.fire = limit_reached;
    s->look.fire = look;
    io_timer_start(loop, &s->limit, io_now_us(loop) + LIMIT_US);
    io_timer_start(loop, &s->look, io_now_us(loop) + 1000);
    for (uint32_t p = 0; p < s->processes; p++) {
        process_start(s, p);
    }
}

static void play(struct stage *s)
{
    struct io_env *env;
    char command[128];
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    snprintf(s->directory, sizeof(s->directory), "/tmp/test-bounds-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->directory));
    snprintf(s->secret, sizeof(s->secret), "%s/secret", s->directory);
    for (int p = 0; p < PROCESSES_MAX; p++) {
        snprintf(s->paths[p], sizeof(s->paths[p]), "unixpacket:%s/%d", s->directory, p);
    }
    FILE *f = fopen(s->secret, "w");
    fputs("a secret of this node", f);
    fclose(f);
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, stage_start, s));
    CU_ASSERT_FALSE(s->timed_out);
    for (uint32_t p = 0; p < s->processes; p++) {
        for (uint32_t i = 0; i < s->workers; i++) {
            CU_ASSERT_FALSE(s->worker[p][i].wrong);
            for (uint32_t k = 0; k < s->workers; k++) {
                CU_ASSERT_TRUE(inner_valid(s->x[p], i, k));
            }
        }
        exchange_free(s->x[p]);
    }
    io_env_free(env);
    snprintf(command, sizeof(command), "rm -rf %s", s->directory);
    CU_ASSERT_EQUAL(system(command), 0);
}

/* From worker 0, numbered; every third is built in place. */
static void send(struct stage *s, uint32_t to, size_t len)
{
    static uint8_t bytes[BLOCK];
    struct exchange_block block;
    uint64_t number = s->sent++;
    ASSERT(len >= sizeof(number) && len <= sizeof(bytes));
    if (number % 3 == 0) {
        exchange_reserve(s->x[0], 0, to, len, &block);
        memset(block.data, 7, len);
        memcpy(block.data, &number, sizeof(number));
        exchange_commit(s->x[0], 0, to, &block, len);
    } else {
        memcpy(bytes, &number, sizeof(number));
        exchange_send(s->x[0], 0, to, bytes, len);
    }
    size_t pending = exchange_pending(s->x[0], 0);
    s->pending_max = pending > s->pending_max ? pending : s->pending_max;
}

static uint32_t other(const struct stage *s)
{
    return s->processes > 1 ? s->workers : 1;
}

static struct worker *receiver(struct stage *s)
{
    return s->processes > 1 ? &s->worker[1][0] : &s->worker[0][1];
}

/* ---- a worker that asks ---------------------------------------------------------------------- */

enum { ASKING_MESSAGES = 3000 };

static void ask_script(struct stage *s)
{
    size_t sizes[] = {8, BLOCK, 30, 500, 41, 40, 4000};
    while (s->sent < ASKING_MESSAGES && exchange_ready(s->x[0], 0)) {
        send(s, other(s), sizes[s->sent % ARRAY_LEN(sizes)]);
    }
}

static bool ask_done(struct stage *s)
{
    return receiver(s)->received == ASKING_MESSAGES && exchange_pending(s->x[0], 0) == 0;
}

static void ask(uint32_t processes, bool shm)
{
    struct stage s = {.processes = processes, .workers = processes > 1 ? 1 : 2, .shm = shm,
                      .script = ask_script, .done = ask_done};
    play(&s);
    CU_ASSERT_EQUAL(s.sent, ASKING_MESSAGES);
    CU_ASSERT_TRUE(s.worker[0][0].writable > 0);
    CU_ASSERT_TRUE(s.pending_max > BLOCK);
    CU_ASSERT_TRUE(s.pending_max <= EXCHANGE_READY_BYTES + BLOCK + sizeof(struct piece));
    CU_ASSERT_EQUAL(s.worker[0][0].lost, 0);
}

static void test_ask_inner(void)
{
    ask(1, false);
}

static void test_ask_tcp(void)
{
    ask(2, false);
}

static void test_ask_shm(void)
{
    ask(2, true);
}

/* ---- a worker that does not ask ------------------------------------------------------------- */

enum { HELD_MAX = 1 << 20 };

/* Twice as much as may be kept, in one go; then, in the next generation, a message that arrives. */
static void flood_script(struct stage *s)
{
    if (s->phase == 0) {
        s->phase = 1;
        for (int i = 0; i < 2 * HELD_MAX / BLOCK; i++) {
            send(s, other(s), BLOCK);
        }
    } else if (s->phase == 1 && s->worker[0][0].formed == 2) {
        s->phase = 2;
        s->sent = 0;
        receiver(s)->received = 0;
        send(s, other(s), 100);
    }
}

static bool flood_done(struct stage *s)
{
    return s->phase == 2 && receiver(s)->received == 1;
}

static void flood(uint32_t processes, bool shm)
{
    struct stage s = {.processes = processes, .workers = processes > 1 ? 1 : 2, .shm = shm,
                      .held_max = HELD_MAX, .script = flood_script, .done = flood_done};
    play(&s);
    CU_ASSERT_TRUE(s.pending_max <= HELD_MAX + BLOCK + sizeof(struct piece));
    for (uint32_t p = 0; p < s.processes; p++) {
        for (uint32_t i = 0; i < s.workers; i++) {
            CU_ASSERT_EQUAL(s.worker[p][i].lost, 1);
            CU_ASSERT_EQUAL(s.worker[p][i].formed, 2);
        }
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(s.worker[0][0].reason, "worker 0 keeps"));
    CU_ASSERT_PTR_NOT_NULL(strstr(s.worker[0][0].reason, "more than 1048576"));
}

static void test_flood_inner(void)
{
    flood(1, false);
}

static void test_flood_tcp(void)
{
    flood(2, false);
}

static void test_flood_shm(void)
{
    flood(2, true);
}

/* ---- a peer that is ahead -------------------------------------------------------------------- */

/* Messages of a generation that never comes to stand here: kept up to the bound, then the session
 * ends and they go with it. The lane is made by hand, the peer lies. */
static void test_early(void)
{
    struct stage s = {.processes = 2, .workers = 1, .held_max = HELD_MAX};
    uint8_t bytes[BLOCK] = {0};
    struct exchange x = {.config = {.processes = 2, .workers_per_process = 1,
                                    .held_max = HELD_MAX, .handler = &handler},
                         .total = 2};
    struct exchange_worker w = {.x = &x, .ctx = &s.worker[0][0]};
    struct hello theirs = {.worker_base = 1, .workers = 1};
    struct carrier c = {.theirs = theirs};
    lanes_init(&w);
    w.lanes[1].carrier = &c;
    err_t err = ERR_OK;
    int taken = 0;
    while (err == ERR_OK && taken < 100) {
        struct carrier_message m = {.kind = EXCHANGE_DATA, .a = (uint64_t)taken + 1, .b = 5,
                                    .data = bytes, .len = sizeof(bytes)};
        err = exchange_host.message(&w, &c, 0, 0, &m);
        taken += err == ERR_OK ? 1 : 0;
    }
    CU_ASSERT_EQUAL(err_code(err), ERR_LIMIT);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "of generation 5, which does not stand here"));
    err_free(err);
    CU_ASSERT_EQUAL(taken, HELD_MAX / BLOCK - 1);
    CU_ASSERT_TRUE(w.lanes[1].early_bytes > 0 && w.lanes[1].early_bytes <= HELD_MAX);
    exchange_host.close(&w, &c, 0);
    CU_ASSERT_EQUAL(w.lanes[1].early_bytes, 0);
    CU_ASSERT_PTR_NULL(w.lanes[1].early);
    lanes_free(&w);
}

/* ---- set-ups that come to nothing ------------------------------------------------------------ */

/* Once the old session is gone on both sides: when the acceptor has the next one, and the one that
 * dials has not read the answer yet. */
static bool give_up_amid(struct io_poller *poller)
{
    struct stage *s = CONTAINER_OF(poller, struct stage, poller);
    bool accepted = s->x[0]->peers[1].carrier != NULL;
    bool connected = s->x[1]->peers[0].carrier != NULL;
    if (s->phase == 1 && !accepted && !connected) {
        s->phase = 2;
    } else if (s->phase == 2 && accepted) {
        CU_ASSERT_FALSE(connected);
        s->phase = 3;
        formation_give_up(s->x[1], s->x[1]->generation, "as asked");
    }
    return false;
}

/* A cut ends no generation: so it stands while the next session is greeted. */
static void give_up_script(struct stage *s)
{
    if (s->phase == 0) {
        s->phase = 1;
        s->poller.poll = give_up_amid;
        io_poller_add(s->loop, &s->poller);
        carrier_end_session(s->x[1]->peers[0].carrier, err_new(ERR_UNAVAILABLE, "cut"));
    } else if (s->phase == 3 && s->worker[0][0].formed == 2) {
        s->phase = 4;
    }
}

static bool give_up_done(struct stage *s)
{
    if (s->phase < 4) {
        return false;
    }
    CU_ASSERT_STRING_EQUAL(carrier_name(s->x[1]->peers[0].carrier), "shm");
    CU_ASSERT_STRING_EQUAL(carrier_name(s->x[0]->peers[1].carrier), "shm");
    io_poller_remove(s->loop, &s->poller);
    return true;
}

/* It says nothing about shared memory that a process gave up its generation meanwhile. */
static void test_give_up_amid(void)
{
    struct stage s = {.processes = 2, .workers = 1, .shm = true, .either = true,
                      .script = give_up_script, .done = give_up_done};
    play(&s);
    CU_ASSERT_EQUAL(s.worker[1][0].lost, 1);
    CU_ASSERT_EQUAL(s.worker[1][0].formed, 2);
}

static void no_memory_script(struct stage *s)
{
    s->phase = 1;
}

static bool no_memory_done(struct stage *s)
{
    if (s->phase == 0) {
        return false;
    }
    CU_ASSERT_STRING_EQUAL(carrier_name(s->x[1]->peers[0].carrier), "tcp");
    return true;
}

/* Where its memory cannot be made, TCP does. */
static void test_no_memory(void)
{
    struct rlimit was;
    struct stage s = {.processes = 2, .workers = 1, .shm = true, .either = true,
                      .script = no_memory_script, .done = no_memory_done};
    CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_FSIZE, &was), 0);
    struct rlimit none = {.rlim_cur = 4096, .rlim_max = was.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_FSIZE, &none), 0);
    play(&s);
    CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &was), 0);
    CU_ASSERT_EQUAL(s.worker[1][0].lost, 0);
}

static const struct test_case cases[] = {
    {"asks, within a process", test_ask_inner},
    {"asks, over tcp", test_ask_tcp},
    {"asks, over shm", test_ask_shm},
    {"does not ask, within a process", test_flood_inner},
    {"does not ask, over tcp", test_flood_tcp},
    {"does not ask, over shm", test_flood_shm},
    {"a peer that is ahead", test_early},
    {"a generation given up amid a greeting", test_give_up_amid},
    {"no shared memory to be had", test_no_memory},
};
TEST_SUITE("ring/exchange, bounds", cases)
