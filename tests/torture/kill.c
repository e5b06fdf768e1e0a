/*
 * kill -9 of either side of the storage boundary over shared memory, at any instant: the other side
 * notices and lets go of everything, and the next process takes over where the log stands.
 *
 * The witness file holds what must survive, outside of both processes. A producer writes down how
 * far it has published before anybody may see it; a consumer writes down what it has seen behind
 * each chunk. The log is a function of its position (tests/unit/ring/boundary/log.h), so a reader
 * that goes on from the witness knows which record must come next: none is lost, doubled or torn,
 * over all lives of a process.
 *
 * Processes are forked by the nursery, a process without loops or threads which was forked first.
 */
#include "tests/torture/torture.h"

#include "tests/unit/ring/boundary/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SOURCES = 4, RECORD_MAX = 60000, POLL_US = 50 };
#define END 100000000ULL /* never reached */

/* How far a reader has come; two of them, so that one is whole at every instant. */
struct place {
    uint64_t upper;
    uint64_t time;
    uint64_t index;
    uint64_t records;
};

struct witness {
    _Atomic uint64_t published; /* by the producers: nothing at or above it was seen */
    struct {
        _Atomic uint64_t turn; /* places[turn % 2] holds */
        struct place places[2];
    } seen[SOURCES];
    _Atomic uint32_t wrong; /* a consumer that was killed had found something */
};

struct stage {
    char directory[64];
    char secret[80];
    char path[80];
    bool reading; /* the child reads, and is killed */
    uint64_t cycles;
    struct witness *witness;
    int nursery; /* commands and answers */
    pid_t nursery_pid;
    pid_t child;
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
    uint64_t *notice_us; /* by cycle */
    uint64_t kills;
    uint64_t fds;        /* before the first session */
    bool timed_out;
    bool leaked;
    bool unknown; /* more was seen than what the witness says was published */
};

static struct stage *stage; /* for the backend and the handler, which know their own data only */

/* ---- the witness ----------------------------------------------------------------------------- */

static struct witness *witness_map(const char *directory)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/witness", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    ASSERT(fd >= 0 && ftruncate(fd, sizeof(struct witness)) == 0);
    struct witness *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ASSERT(w != MAP_FAILED);
    close(fd);
    /* Relaxed: nobody else is there yet. */
    atomic_store_explicit(&w->published, 1, memory_order_relaxed);
    return w;
}

/* Before a chunk is handed out. */
static err_t witnessed_next(void *cursor, size_t max_bytes, struct boundary_room *room,
                            struct boundary_chunk *out, bool *more)
{
    err_t err = log_backend.next(cursor, max_bytes, room, out, more);
    struct witness *w = stage->witness;
    /* Relaxed, both: one producer writes at a time; who reads it looks after the producer's death,
     * or after a message that was published later. */
    if (err == ERR_OK && out->upper != UINT64_MAX &&
        out->upper > atomic_load_explicit(&w->published, memory_order_relaxed)) {
        atomic_store_explicit(&w->published, out->upper, memory_order_relaxed);
    }
    return err;
}

static void witnessed_data(void *arg, const struct boundary_chunk *chunk)
{
    struct log_reader *r = arg;
    log_handler.data(r, chunk);
    struct witness *w = stage->witness;
    /* Relaxed: only this process writes; release below: the place, then that it holds. */
    if (r->wrong[0] != '\0') {
        atomic_store_explicit(&w->wrong, 1, memory_order_relaxed);
    }
    if (r->upper > atomic_load_explicit(&w->published, memory_order_relaxed)) {
        stage->unknown = true;
        atomic_store_explicit(&w->wrong, 1, memory_order_relaxed);
    }
    uint64_t turn = atomic_load_explicit(&w->seen[r->source].turn, memory_order_relaxed) + 1;
    w->seen[r->source].places[turn % 2] = (struct place){.upper = r->upper, .time = r->kept_time,
                                                         .index = r->kept_index,
                                                         .records = r->records};
    atomic_store_explicit(&w->seen[r->source].turn, turn, memory_order_release);
}

/* What the last consumer has written down. */
static struct place seen(const struct witness *w, uint32_t source)
{
    /* Acquire: pairs with the release in witnessed_data. */
    uint64_t turn = atomic_load_explicit(&w->seen[source].turn, memory_order_acquire);
    return w->seen[source].places[turn % 2];
}

static void witnessed_reset(void *arg)
{
    log_handler.reset(arg);
}

static void witnessed_refused(void *arg, err_t err)
{
    log_handler.refused(arg, err);
}

static const struct boundary_handler witnessed_handler = {
    .data = witnessed_data,
    .reset = witnessed_reset,
    .refused = witnessed_refused,
};

/* ---- the two sides --------------------------------------------------------------------------- */

static struct boundary_identity identity(const struct stage *s, uint64_t generation)
{
    return (struct boundary_identity){.environment = "0123456789abcde", .epoch = 1,
                                      .generation = generation,
                                      .node_secret_path = s->secret};
}

/* Neither the end of the log nor a refusal may come. */
static void done(struct log_reader *r)
{
    atomic_store_explicit(&stage->witness->wrong, 1, memory_order_relaxed); /* relaxed: a flag */
    fprintf(stderr, "source %llu: refused: %s\n", (unsigned long long)r->source, r->refused);
}

static void serve(struct stage *s, struct io_loop *loop)
{
    static struct boundary_backend backend;
    backend = log_backend;
    backend.next = witnessed_next;
    struct boundary_server_config config = {
        .address = "127.0.0.1:0", .unix_path = s->path, .self = identity(s, 1),
        .carrier = BOUNDARY_CARRIER_SHM, .workers = 1, .backend = &backend,
        .metrics = s->metrics, .arena_bytes = 1 << 20};
    err_t err = boundary_server_new(loop, &config, &s->server);
    for (int i = 0; i < 5000 && err != ERR_OK; i++) {
        /* The kernel takes a dead process's io_uring down later, and a listening socket with it. */
        err_free(err);
        usleep(1000);
        err = boundary_server_new(loop, &config, &s->server);
    }
    ASSERT(err == ERR_OK);
    /* Relaxed: who wrote it is dead. */
    uint64_t upper = atomic_load_explicit(&s->witness->published, memory_order_relaxed);
    s->log = (struct log_worker){.server = s->server, .sources = SOURCES, .end = END,
                                 .tick_us = 100, .record_max = RECORD_MAX, .upper = upper,
                                 .always_ready = true};
    log_worker_start(&s->log, loop);
}

static void subscribe(struct stage *s, uint32_t i)
{
    struct log_reader *r = &s->readers[i];
    struct place place = seen(s->witness, i);
    log_reader_init(r, i, 0, END, RECORD_MAX);
    r->on_done = done;
    struct boundary_request request = log_request(r, 1);
    if (place.upper > 0) {
        request.resume = true;
        request.resume_from = r->upper = place.upper;
        r->at_time = r->kept_time = place.time;
        r->at_index = r->kept_index = place.index;
        r->records = place.records;
    }
    r->sub = boundary_subscribe(s->client, 0, &request, &witnessed_handler, r);
}

static void read_all(struct stage *s, struct io_loop *loop, uint64_t generation)
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
        subscribe(s, i);
    }
    boundary_client_directory(s->client, &address, &path, 1, 1);
}

/* ---- children -------------------------------------------------------------------------------- */

static uint64_t generation;

static void child_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    if (s->reading) {
        read_all(s, loop, generation);
    } else {
        serve(s, loop);
    }
}

static void child_run(struct stage *s)
{
    struct io_env *env;
    s->metrics = NULL;
    err_t err = io_env_new_real(&env);
    ASSERT(err == ERR_OK);
    err_free(io_main(env, child_start, s));
    _exit(0);
}

/* Each command is the number of the next child: waits for the one before, which was killed. */
static void nursery_run(struct stage *s, int commands)
{
    pid_t child = 0;
    while (read(commands, &generation, sizeof(generation)) == sizeof(generation)) {
        if (child != 0) {
            ASSERT(waitpid(child, NULL, 0) == child);
        }
        child = fork();
        if (child == 0) {
            close(commands);
            child_run(s);
        }
        ASSERT(child > 0 && write(commands, &child, sizeof(child)) == sizeof(child));
    }
    if (child != 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    _exit(0);
}

static void nursery_start(struct stage *s)
{
    int ends[2];
    ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    fflush(NULL);
    s->nursery_pid = fork();
    ASSERT(s->nursery_pid >= 0);
    if (s->nursery_pid == 0) {
        close(ends[0]);
        nursery_run(s, ends[1]);
    }
    close(ends[1]);
    s->nursery = ends[0];
}

/* ---- the survivor ---------------------------------------------------------------------------- */

/* Mappings of sessions, the peer's pool among them. Only a server has a pool of its own. */
static uint64_t mappings(const struct stage *s)
{
    char line[512];
    uint64_t n = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    ASSERT(f != NULL);
    while (fgets(line, sizeof(line), f) != NULL) {
        n += strstr(line, "tailrace-ring") != NULL ? 1 : 0;
        n += !s->reading && strstr(line, "tailrace-pool") != NULL ? 1 : 0;
    }
    fclose(f);
    return n;
}

static uint64_t descriptors(void)
{
    uint64_t n = 0;
    DIR *d = opendir("/proc/self/fd");
    ASSERT(d != NULL);
    while (readdir(d) != NULL) {
        n++;
    }
    closedir(d);
    return n;
}

static uint64_t progress(const struct stage *s)
{
    uint64_t records = 0;
    for (uint32_t i = 0; i < SOURCES; i++) {
        records += s->reading ? seen(s->witness, i).records : s->readers[i].records;
    }
    return records;
}

static void next_child(struct stage *s)
{
    uint64_t number = 1 + s->kills;
    s->records_then = progress(s);
    s->killed_ns = 0;
    ASSERT(write(s->nursery, &number, sizeof(number)) == sizeof(number));
    ASSERT(read(s->nursery, &s->child, sizeof(s->child)) == sizeof(s->child));
}

static void noticed(struct stage *s)
{
    s->notice_us[s->kills++] = (io_mono_ns(s->loop) - s->killed_ns) / 1000;
    s->leaked |= mappings(s) != 0 || s->log.cursors != 0;
    if (s->kills == s->cycles) {
        io_timer_cancel(s->loop, &s->timer);
        io_loop_stop(s->loop);
        return;
    }
    next_child(s);
}

static void go_on(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, timer);
    io_timer_start(s->loop, timer, io_now_us(s->loop) + POLL_US);
    bool connected = metric_value(s->sessions) > 0;
    if (s->killed_ns != 0) {
        if (!connected) {
            noticed(s);
        }
        return;
    }
    s->random = s->random * 6364136223846793005ULL + 1442695040888963407ULL;
    /* Some records in, any instant. */
    if (connected && progress(s) > s->records_then && (s->random >> 40) % 20 == 0) {
        s->killed_ns = io_mono_ns(s->loop);
        ASSERT(kill(s->child, SIGKILL) == 0);
        io_timer_start(s->loop, &s->limit, io_now_us(s->loop) + 60 * 1000 * 1000);
    }
}

static void limit_reached(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, limit);
    s->timed_out = true;
    io_loop_stop(s->loop);
}

static void survivor_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    s->loop = loop;
    if (s->reading) {
        serve(s, loop);
    } else {
        read_all(s, loop, 1);
    }
    s->sessions = metric_gauge(s->metrics, s->reading ? "tailrace_boundary_sessions"
                                                      : "tailrace_boundary_client_sessions",
                               "", "");
    s->timer.fire = go_on;
    s->limit.fire = limit_reached;
    s->fds = descriptors();
    io_timer_start(loop, &s->timer, io_now_us(loop) + 1000);
    io_timer_start(loop, &s->limit, io_now_us(loop) + 60 * 1000 * 1000);
    next_child(s);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static bool judge(struct stage *s)
{
    bool right = !s->timed_out && !s->leaked && !s->unknown && s->kills == s->cycles;
    /* Relaxed: everybody else is dead. */
    right = right && atomic_load_explicit(&s->witness->wrong, memory_order_relaxed) == 0;
    for (uint32_t i = 0; !s->reading && i < SOURCES; i++) {
        right = right && s->readers[i].wrong[0] == '\0';
    }
    /* Two more at most: a connection being tried, and its timer's. */
    uint64_t fds = descriptors();
    right = right && fds <= s->fds + 2;
    qsort(s->notice_us, s->kills, sizeof(s->notice_us[0]), by_value);
    printf("%llu kills of the %s, %llu records; noticed and all let go after %llu us (median), "
           "%llu (99 %%), %llu (most); descriptors %llu, then %llu%s%s%s\n",
           (unsigned long long)s->kills, s->reading ? "consumer" : "producer",
           (unsigned long long)progress(s), (unsigned long long)s->notice_us[s->kills / 2],
           (unsigned long long)s->notice_us[s->kills * 99 / 100],
           (unsigned long long)(s->kills > 0 ? s->notice_us[s->kills - 1] : 0),
           (unsigned long long)s->fds, (unsigned long long)fds, s->timed_out ? "; stuck" : "",
           s->leaked ? "; leaked" : "", s->unknown ? "; unknown to the witness" : "");
    return right;
}

static struct stage *stage_new(const struct torture_options *options, bool reading)
{
    struct stage *s = MEM_NEW(struct stage);
    snprintf(s->directory, sizeof(s->directory), "/tmp/torture-XXXXXX");
    ASSERT(mkdtemp(s->directory) != NULL);
    snprintf(s->secret, sizeof(s->secret), "%s/secret", s->directory);
    snprintf(s->path, sizeof(s->path), "%s/s", s->directory);
    FILE *f = fopen(s->secret, "w");
    ASSERT(f != NULL && fputs("secret", f) >= 0 && fclose(f) == 0);
    s->reading = reading;
    s->cycles = options->cycles;
    s->random = options->seed;
    s->notice_us = mem_zalloc(sizeof(s->notice_us[0]) * (options->cycles + 1));
    s->witness = witness_map(s->directory);
    return s;
}

static void stage_free(struct stage *s)
{
    char command[128];
    close(s->nursery);
    waitpid(s->nursery_pid, NULL, 0);
    munmap(s->witness, sizeof(*s->witness));
    snprintf(command, sizeof(command), "rm -rf %s", s->directory);
    ASSERT(system(command) == 0);
    free(s->notice_us);
    free(s);
}

bool torture_kill(const struct torture_options *options, bool reading)
{
    struct io_env *env;
    struct stage *s = stage = stage_new(options, reading);
    nursery_start(s);
    s->metrics = metrics_registry_new();
    err_t err = io_env_new_real(&env);
    ASSERT(err == ERR_OK);
    err = io_main(env, survivor_start, s);
    ASSERT(err == ERR_OK);
    bool right = judge(s);
    boundary_client_free(s->client);
    boundary_server_free(s->server);
    io_env_free(env);
    metrics_registry_free(s->metrics);
    stage_free(s);
    return right;
}
