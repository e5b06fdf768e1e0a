/*
 * kill -9 of either side of a session over shared memory, again and again: the other side notices,
 * frees everything, and the next process takes over where the log stands. Children are forked
 * before any loop exists and wait for a word on a pipe.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/boundary/log.h"

#include "core/base/log.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLS = 20, SOURCES = 4, RECORD_MAX = 60000 };
#define END 100000000ULL /* never reached */

struct child {
    pid_t pid;
    int go; /* writing a u64 starts it: the upper its log begins with */
};

struct stage {
    char directory[64];
    char secret[80];
    char path[80];
    bool kill_server;
    struct child children[KILLS];
    int at; /* child alive */
    struct io_loop *loop;
    struct metrics_registry *metrics;
    struct metric *sessions;
    struct boundary_server *server;
    struct boundary_client *client;
    struct log_worker log;
    struct log_reader readers[SOURCES];
    struct io_timer timer;
    struct io_timer limit;
    uint64_t records_then;
    uint64_t killed_ns; /* 0: the child is to live still */
    uint64_t random;
    uint64_t notice_max_us;
    uint64_t notice_sum_us;
    int kills;
    bool timed_out;
    bool leaked;
};

static struct boundary_identity identity(const struct stage *s, uint64_t generation)
{
    return (struct boundary_identity){.environment = "0123456789abcde", .epoch = 1,
                                      .generation = generation,
                                      .node_secret_path = s->secret};
}

static void done(struct log_reader *r)
{
}

static void serve(struct stage *s, struct io_loop *loop, uint64_t upper)
{
    struct boundary_server_config config = {
        .address = "127.0.0.1:0", .unix_path = s->path, .self = identity(s, 1),
        .carrier = BOUNDARY_CARRIER_SHM, .workers = 1, .backend = &log_backend,
        .metrics = s->metrics, .arena_bytes = 1 << 20};
    err_t err = boundary_server_new(loop, &config, &s->server);
    for (int i = 0; i < 2000 && err != ERR_OK; i++) {
        /* The kernel takes a dead process's io_uring down later, and a listening socket with it. */
        err_free(err);
        usleep(1000);
        err = boundary_server_new(loop, &config, &s->server);
    }
    ASSERT(err == ERR_OK);
    s->log = (struct log_worker){.server = s->server, .sources = SOURCES, .end = END,
                                 .tick_us = 100, .record_max = RECORD_MAX, .upper = upper,
                                 .always_ready = true};
    log_worker_start(&s->log, loop);
}

static void read_all(struct stage *s, struct io_loop *loop, uint64_t generation, uint64_t as_of)
{
    static const char *const address = "127.0.0.1:1";
    const char *path = s->path;
    struct boundary_client_config config = {.self = identity(s, generation),
                                            .carrier = BOUNDARY_CARRIER_SHM, .workers = 1,
                                            .metrics = s->metrics};
    err_t err = boundary_client_new(loop, &config, &s->client);
    ASSERT(err == ERR_OK);
    boundary_client_worker(s->client, 0, loop);
    for (uint32_t i = 0; i < SOURCES; i++) {
        log_reader_init(&s->readers[i], i, 0, END, RECORD_MAX);
        s->readers[i].on_done = done;
        struct boundary_request request = log_request(&s->readers[i], as_of);
        s->readers[i].sub = boundary_subscribe(s->client, 0, &request, &log_handler,
                                               &s->readers[i]);
    }
    boundary_client_directory(s->client, &address, &path, 1, 1);
}

/* ---- children -------------------------------------------------------------------------------- */

static uint64_t child_upper;

static void child_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    if (s->kill_server) {
        serve(s, loop, child_upper);
    } else {
        read_all(s, loop, child_upper, 1); /* any growing number */
    }
}

static void child_run(struct stage *s, int in)
{
    struct io_env *env;
    if (read(in, &child_upper, sizeof(child_upper)) == sizeof(child_upper)) {
        s->metrics = NULL;
        err_t err = io_env_new_real(&env);
        ASSERT(err == ERR_OK);
        err_free(io_main(env, child_start, s));
    }
    _exit(0);
}

static void children_fork(struct stage *s)
{
    for (int i = 0; i < KILLS; i++) {
        int ends[2];
        CU_ASSERT_EQUAL_FATAL(pipe(ends), 0);
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            close(ends[1]);
            for (int k = 0; k < i; k++) {
                close(s->children[k].go);
            }
            child_run(s, ends[0]);
        }
        close(ends[0]);
        s->children[i] = (struct child){.pid = pid, .go = ends[1]};
    }
}

/* ---- parent ---------------------------------------------------------------------------------- */

static bool mapped(void)
{
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        found |= strstr(line, "tailrace-ring") != NULL;
    }
    fclose(f);
    return found;
}

static uint64_t progress(const struct stage *s)
{
    if (!s->kill_server) {
        return s->log.upper; /* what matters is that it is being read: see go_on */
    }
    uint64_t records = 0;
    for (int i = 0; i < SOURCES; i++) {
        records += s->readers[i].records;
    }
    return records;
}

static void release_child(struct stage *s)
{
    uint64_t word = 1 + (uint64_t)s->at;
    for (int i = 0; s->kill_server && i < SOURCES; i++) {
        word = s->readers[i].upper > word ? s->readers[i].upper : word;
    }
    s->records_then = progress(s);
    s->killed_ns = 0;
    CU_ASSERT_EQUAL(write(s->children[s->at].go, &word, sizeof(word)), sizeof(word));
}

static void kill_child(struct stage *s)
{
    s->killed_ns = io_mono_ns(s->loop);
    kill(s->children[s->at].pid, SIGKILL);
    s->kills++;
}

static void noticed(struct stage *s)
{
    uint64_t us = (io_mono_ns(s->loop) - s->killed_ns) / 1000;
    s->notice_sum_us += us;
    s->notice_max_us = us > s->notice_max_us ? us : s->notice_max_us;
    s->leaked |= mapped() || s->log.cursors != 0;
    /* It was noticed before the process has gone; the next one needs its socket's name. */
    CU_ASSERT_EQUAL(waitpid(s->children[s->at].pid, NULL, 0), s->children[s->at].pid);
    s->children[s->at].pid = 0;
    if (++s->at == KILLS) {
        io_loop_stop(s->loop);
        return;
    }
    release_child(s);
}

static void go_on(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, timer);
    io_timer_start(s->loop, timer, io_now_us(s->loop) + 100);
    bool connected = metric_value(s->sessions) > 0;
    if (s->killed_ns != 0) {
        if (!connected) {
            noticed(s);
        }
        return;
    }
    s->random = s->random * 6364136223846793005ULL + 1442695040888963407ULL;
    bool flowing = s->kill_server ? progress(s) > s->records_then + 300
                                  : connected && s->log.cursors == SOURCES;
    if (flowing && (s->random >> 40) % 40 == 0) { /* some milliseconds later, any instant */
        kill_child(s);
    }
}

static void limit_reached(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, limit);
    s->timed_out = true;
    io_loop_stop(s->loop);
}

static void parent_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    s->loop = loop;
    if (s->kill_server) {
        read_all(s, loop, 1, 1);
    } else {
        serve(s, loop, 1);
    }
    s->sessions = metric_gauge(s->metrics, s->kill_server ? "tailrace_boundary_client_sessions"
                                                          : "tailrace_boundary_sessions", "", "");
    s->timer.fire = go_on;
    s->limit.fire = limit_reached;
    io_timer_start(loop, &s->timer, io_now_us(loop) + 1000);
    io_timer_start(loop, &s->limit, io_now_us(loop) + 60 * 1000 * 1000);
    release_child(s);
}

static void stage_run(bool kill_server)
{
    struct stage *s = MEM_NEW(struct stage);
    struct io_env *env;
    log_configure(getenv("RING_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT,
                  "test");
    snprintf(s->directory, sizeof(s->directory), "/tmp/test-ring-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(s->directory));
    snprintf(s->secret, sizeof(s->secret), "%s/secret", s->directory);
    snprintf(s->path, sizeof(s->path), "%s/s", s->directory);
    FILE *f = fopen(s->secret, "w");
    fputs("secret", f);
    fclose(f);
    s->kill_server = kill_server;
    s->random = 42;
    children_fork(s);
    s->metrics = metrics_registry_new();
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, parent_start, s));
    CU_ASSERT_FALSE(s->timed_out);
    CU_ASSERT_FALSE(s->leaked);
    CU_ASSERT_EQUAL(s->kills, KILLS);
    CU_ASSERT_TRUE(s->notice_max_us < 1000 * 1000);
    for (int i = 0; i < SOURCES; i++) {
        CU_ASSERT_STRING_EQUAL(s->readers[i].wrong, "");
    }
    boundary_client_free(s->client);
    boundary_server_free(s->server);
    for (int i = 0; i < KILLS; i++) {
        close(s->children[i].go);
        if (s->children[i].pid != 0) {
            kill(s->children[i].pid, SIGKILL);
            waitpid(s->children[i].pid, NULL, 0);
        }
    }
    io_env_free(env);
    metrics_registry_free(s->metrics);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", s->directory);
    CU_ASSERT_EQUAL(system(command), 0);
    printf(" [%d kills, noticed after %llu us, at most %llu]", s->kills,
           (unsigned long long)(s->notice_sum_us / KILLS), (unsigned long long)s->notice_max_us);
    free(s);
}

static void test_server_killed(void)
{
    stage_run(true);
}

static void test_client_killed(void)
{
    stage_run(false);
}

static const struct test_case cases[] = {
    {"kill -9 of the producer", test_server_killed},
    {"kill -9 of the consumer", test_client_killed},
};
TEST_SUITE("ring/shm kill", cases)
