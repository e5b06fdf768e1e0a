/* What only the real implementation has: processes, signals, doorbells, descriptors in messages. */
#include "tests/unit/core/io/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- processes ------------------------------------------------------------------------------- */

struct running {
    struct world world;
    struct io_process *process;
    struct io_process *adopted;
    const char *script;
    int signal;
    int status;
    int adopted_status;
    unsigned exits;
    char out[160];
    struct io_timer timer;
    unsigned tries;
};

enum { TRIES = 500 }; /* of 10 ms, on a busy machine */

static bool try_again(struct running *running)
{
    if (running->tries++ == TRIES) {
        return false;
    }
    io_timer_start(running->world.loop, &running->timer, io_now_us(running->world.loop) + 10000);
    return true;
}

static void running_over(struct running *running)
{
    unsigned wanted = running->adopted != NULL ? 2 : 1;
    if (++running->exits == wanted) {
        io_process_release(running->process);
        io_process_release(running->adopted);
        io_loop_stop(running->world.loop);
    }
}

static void running_exited(void *arg, int status)
{
    struct running *running = arg;
    running->status = status;
    running_over(running);
}

static void running_start(struct io_loop *loop, void *arg)
{
    struct running *running = arg;
    const char *const argv[] = {"/bin/sh", "-c", running->script, NULL};
    snprintf(running->out, sizeof(running->out), "%s/out", running->world.dir);
    struct io_process_spec spec = {.argv = argv, .stdout_path = running->out,
                                   .stderr_path = running->out, .new_session = true};
    expect_ok(io_process_start(loop, &spec, running_exited, running, &running->process));
    CU_ASSERT(io_process_pid(running->process) > 0);
    CU_ASSERT(io_process_start_ticks(running->process) > 0);
    if (running->signal != 0) {
        expect_ok(io_process_signal(running->process, running->signal));
    }
}

static void exit_status(void)
{
    struct running running = {.script = "exit 7"};
    world_run(&running.world, WORLD_REAL, running_start, &running);
    CU_ASSERT(WIFEXITED(running.status) && WEXITSTATUS(running.status) == 7);
}

static void killed_status(void)
{
    struct running running = {.script = "sleep 100", .signal = SIGKILL};
    world_run(&running.world, WORLD_REAL, running_start, &running);
    CU_ASSERT(WIFSIGNALED(running.status) && WTERMSIG(running.status) == SIGKILL);
}

static void output_start(struct io_loop *loop, void *arg)
{
    struct running *running = arg;
    char path[128];
    snprintf(path, sizeof(path), "%s/out", running->world.dir);
    expect_ok(io_write_whole_sync(loop, path, "before\n", 7, 0600));
    /* A descriptor of ours that a child must not inherit, and a blocked signal. */
    struct io_file *file;
    expect_ok(io_file_open(loop, path, IO_OPEN_READ, &file));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    running_start(loop, arg);
}

static void output_check(void *arg)
{
    struct running *running = arg;
    char text[4096];
    int fd = open(running->out, O_RDONLY);
    ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    CU_ASSERT_FATAL(got > 0);
    text[got] = '\0';
    /* Appended; only the three standard descriptors and the one ls reads with; nothing blocked. */
    CU_ASSERT(strcmp(text, "before\nout\nerr\n0\n1\n2\n3\nSigBlk:\t0000000000000000\n") == 0);
}

static void output_and_descriptors(void)
{
    struct running running = {.script = "echo out; echo err >&2; ls /proc/self/fd; "
                                        "grep SigBlk /proc/self/status"};
    world_run_then(&running.world, WORLD_REAL, output_start, output_check, &running);
    CU_ASSERT(running.status == 0);
}

static void missing_start(struct io_loop *loop, void *arg)
{
    const char *const argv[] = {"/no/such/program", NULL};
    struct io_process_spec spec = {.argv = argv};
    struct io_process *process;
    expect_err(io_process_start(loop, &spec, running_exited, NULL, &process), ERR_NOT_FOUND);
    CU_ASSERT(process == NULL);
    io_loop_stop(loop);
}

static void missing_program(void)
{
    struct world world;
    world_run(&world, WORLD_REAL, missing_start, NULL);
}

static void adopted_exited(void *arg, int status)
{
    struct running *running = arg;
    running->adopted_status = status;
    running_over(running);
}

static void adopt_fire(struct io_timer *timer)
{
    struct running *running = CONTAINER_OF(timer, struct running, timer);
    struct io_loop *loop = running->world.loop;
    pid_t pid = io_process_pid(running->process);
    uint64_t ticks = io_process_start_ticks(running->process);
    struct io_process *none;
    err_t err = io_process_adopt(loop, pid, "/bin/sleep", ticks, adopted_exited, running,
                                 &running->adopted);
    if (err != ERR_OK && try_again(running)) { /* the shell has not become a sleep yet */
        err_free(err);
        return;
    }
    expect_ok(err);
    expect_err(io_process_adopt(loop, pid, "/bin/sleep", ticks + 1, adopted_exited, running,
                                &none), ERR_NOT_FOUND);
    expect_err(io_process_adopt(loop, pid, "/bin/true", ticks, adopted_exited, running, &none),
               ERR_NOT_FOUND);
    CU_ASSERT(none == NULL);
    CU_ASSERT(io_process_start_ticks(running->adopted) == ticks);
    expect_ok(io_process_signal(running->adopted, SIGTERM));
}

static void adopt_start(struct io_loop *loop, void *arg)
{
    struct running *running = arg;
    running_start(loop, arg);
    running->timer.fire = adopt_fire;
    io_timer_start(loop, &running->timer, io_now_us(loop) + 10000);
}

static void adopt(void)
{
    struct running running = {.script = "exec sleep 100"};
    world_run(&running.world, WORLD_REAL, adopt_start, &running);
    CU_ASSERT(running.exits == 2);
    CU_ASSERT(WIFSIGNALED(running.status) && WTERMSIG(running.status) == SIGTERM);
    CU_ASSERT(running.adopted_status == -1);
}

static void released_exited(void *arg, int status)
{
    CU_FAIL("told of a process that was released");
}

static void released_fire(struct io_timer *timer)
{
    struct running *running = CONTAINER_OF(timer, struct running, timer);
    /* The child ends, and is reaped although nobody asks for its status. */
    siginfo_t info;
    bool gone = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
    if (gone || !try_again(running)) {
        CU_ASSERT(gone);
        io_loop_stop(running->world.loop);
    }
}

static void released_start(struct io_loop *loop, void *arg)
{
    struct running *running = arg;
    const char *const argv[] = {"/bin/sh", "-c", "exit 0", NULL};
    struct io_process_spec spec = {.argv = argv};
    expect_ok(io_process_start(loop, &spec, released_exited, running, &running->process));
    io_process_release(running->process);
    running->timer.fire = released_fire;
    io_timer_start(loop, &running->timer, io_now_us(loop) + 10000);
}

static void released(void)
{
    struct running running = {0};
    world_run(&running.world, WORLD_REAL, released_start, &running);
}

/* ---- signals --------------------------------------------------------------------------------- */

struct signals {
    struct world world;
    unsigned hup;
    unsigned usr;
};

static void hup_caught(void *arg, int number)
{
    struct signals *signals = arg;
    CU_ASSERT(number == SIGHUP);
    signals->hup++;
    CU_ASSERT(kill(getpid(), SIGUSR1) == 0);
}

static void usr_caught(void *arg, int number)
{
    struct signals *signals = arg;
    CU_ASSERT(number == SIGUSR1);
    signals->usr++;
    io_loop_stop(signals->world.loop);
}

static void signals_start(struct io_loop *loop, void *arg)
{
    expect_ok(io_signal_watch(loop, SIGHUP, hup_caught, arg));
    expect_ok(io_signal_watch(loop, SIGUSR1, usr_caught, arg));
    CU_ASSERT(kill(getpid(), SIGHUP) == 0);
}

static void signals(void)
{
    struct signals signals = {0};
    world_run(&signals.world, WORLD_REAL, signals_start, &signals);
    CU_ASSERT(signals.hup == 1 && signals.usr == 1);
}

/* ---- doorbells ------------------------------------------------------------------------------- */

struct bells {
    struct world world;
    struct io_bell *bell;
    unsigned rings;
    struct io_timer timer;
};

static void ring_it(const struct io_bell *bell)
{
    CU_ASSERT(eventfd_write(io_bell_fd(bell), 1) == 0);
}

static void bell_fire(struct io_timer *timer)
{
    ring_it(CONTAINER_OF(timer, struct bells, timer)->bell);
}

static void bell_rang(void *arg)
{
    struct bells *bells = arg;
    if (++bells->rings == 3) {
        io_bell_close(bells->bell);
        io_loop_stop(bells->world.loop);
        return;
    }
    io_timer_start(bells->world.loop, &bells->timer, io_now_us(bells->world.loop) + 1000);
}

static void bells_start(struct io_loop *loop, void *arg)
{
    struct bells *bells = arg;
    bells->timer.fire = bell_fire;
    expect_ok(io_bell_open(loop, bell_rang, bells, &bells->bell));
    ring_it(bells->bell);
    ring_it(bells->bell); /* rings before the loop looks are one */
}

static void bells(void)
{
    struct bells bells = {0};
    world_run(&bells.world, WORLD_REAL, bells_start, &bells);
    CU_ASSERT(bells.rings == 3);
}

/* ---- words of shared memory ------------------------------------------------------------------ */

struct words {
    struct world world;
    struct io_futex *futex;
    _Atomic uint32_t *word; /* shared */
    const _Atomic uint32_t *seen; /* the same, mapped read-only */
    struct io_poller poller;
    unsigned woken;
    bool armed_late; /* the word changed before the loop slept */
};

static void *words_ring(void *arg)
{
    struct words *words = arg;
    usleep(20 * 1000);
    atomic_fetch_add_explicit(words->word, 1, memory_order_relaxed);
    io_futex_wake(words->word);
    return NULL;
}

static bool words_poll(struct io_poller *poller)
{
    return false;
}

static bool words_arm(struct io_poller *poller)
{
    struct words *words = CONTAINER_OF(poller, struct words, poller);
    if (words->futex != NULL) {
        uint32_t seen = atomic_load_explicit(words->seen, memory_order_relaxed);
        io_futex_arm(words->futex, words->armed_late ? seen - 1 : seen);
    }
    return false;
}

static void words_woken(void *arg)
{
    struct words *words = arg;
    if (++words->woken == 1) {
        words->armed_late = true; /* the wait ends at once */
        return;
    }
    io_futex_close(words->futex);
    words->futex = NULL;
    io_loop_stop(words->world.loop);
}

static void words_start(struct io_loop *loop, void *arg)
{
    struct words *words = arg;
    err_t err = io_futex_open(loop, words->seen, words_woken, words, &words->futex);
    if (err != ERR_OK) { /* an older kernel */
        CU_ASSERT(err_code(err) == ERR_UNSUPPORTED);
        err_free(err);
        words->woken = 2;
        io_loop_stop(loop);
        return;
    }
    words->poller = (struct io_poller){.brief = true, .poll = words_poll, .arm = words_arm};
    io_poller_add(loop, &words->poller);
}

static void words(void)
{
    struct words words = {0};
    int fd = memfd_create("words", MFD_CLOEXEC);
    CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, 4096) == 0);
    words.word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    words.seen = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CU_ASSERT_FATAL(words.word != MAP_FAILED && words.seen != MAP_FAILED);
    pthread_t ringer;
    CU_ASSERT_FATAL(pthread_create(&ringer, NULL, words_ring, &words) == 0);
    world_run(&words.world, WORLD_REAL, words_start, &words);
    CU_ASSERT(pthread_join(ringer, NULL) == 0);
    CU_ASSERT(words.woken == 2);
    munmap(words.word, 4096);
    munmap((void *)(uintptr_t)words.seen, 4096);
    close(fd);
}

/* ---- descriptors in messages, message boundaries, credentials -------------------------------- */

static void packets_ready(struct pair *pair)
{
    int pipe_fds[2];
    CU_ASSERT_FATAL(pipe(pipe_fds) == 0);
    CU_ASSERT(write(pipe_fds[1], "through a pipe", 14) == 14);
    io_stream_write(pair->client.stream, "one", 3);
    io_stream_write_fds(pair->client.stream, "two", 3, pipe_fds, 2);
    close(pipe_fds[0]); /* duplicated at once */
    close(pipe_fds[1]);
    io_stream_write(pair->client.stream, "three", 5);
    io_stream_pause(pair->server.stream);
    io_stream_resume(pair->server.stream);
    pid_t pid;
    uid_t uid;
    expect_ok(io_stream_peer_cred(pair->server.stream, &pid, &uid));
    CU_ASSERT(pid == getpid() && uid == getuid());
}

static void packets_data(struct side *side)
{
    struct pair *pair = side->pair;
    static const size_t lens[] = {3, 6, 11};
    CU_ASSERT(side->got.len == lens[pair->count]); /* one message a call */
    CU_ASSERT(side->fds_len == (pair->count >= 1 ? 2 : 0));
    if (pair->count == 0) { /* the message with descriptors waits a while */
        io_stream_pause(side->stream);
        io_stream_resume(side->stream);
    }
    if (++pair->count == 3) {
        char text[14];
        CU_ASSERT(read(side->fds[0], text, sizeof(text)) == 14);
        CU_ASSERT(memcmp(text, "through a pipe", 14) == 0);
        CU_ASSERT((fcntl(side->fds[0], F_GETFD) & FD_CLOEXEC) != 0);
        io_stream_close(pair->client.stream);
    }
}

static void packets_closed(struct side *side)
{
    CU_ASSERT(side == &side->pair->server);
    pair_stop(side->pair);
}

static void packets_check(struct pair *pair)
{
    CU_ASSERT(pair->count == 3);
    CU_ASSERT(memcmp(pair->server.got.data, "onetwothree", 11) == 0);
    CU_ASSERT(pair->server.reason == ERR_OK);
}

static void packets(void)
{
    struct pair pair = {.address = "unixpacket:", .ready = packets_ready, .data = packets_data,
                        .closed = packets_closed};
    pair_run(&pair, WORLD_REAL, packets_check);
}

/* Descriptors that arrive at a paused stream which is then closed must not leak. */
static int fds_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    }
    return count;
}

static void held_fire(struct io_timer *timer)
{
    pair_stop(CONTAINER_OF(timer, struct pair, timer));
}

static void held_ready(struct pair *pair)
{
    int fd = 0;
    io_stream_write_fds(pair->client.stream, "x", 1, &fd, 1);
    io_stream_write_fds(pair->client.stream, "y", 1, &fd, 1);
    io_stream_pause(pair->server.stream);
    pair->timer.fire = held_fire;
    io_timer_start(pair->world.loop, &pair->timer, io_now_us(pair->world.loop) + 20000);
}

static void held_check(struct pair *pair)
{
    CU_ASSERT(pair->server.got.len == 0);
}

static void descriptors_not_leaked(void)
{
    int before = fds_open();
    struct pair pair = {.address = "unixpacket:", .ready = held_ready};
    pair_run(&pair, WORLD_REAL, held_check);
    CU_ASSERT(fds_open() == before);
}

/* A socket file that nobody listens on is replaced; one in use, or another file, is not. */
static void stale_accepted(void *arg, struct io_stream *stream)
{
    CU_FAIL("accepted");
}

static void stale_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    struct io_listener *first;
    struct io_listener *second;
    char address[128];
    char kept[128];
    snprintf(address, sizeof(address), "unix:%s/s", world->dir);
    snprintf(kept, sizeof(kept), "%s/kept", world->dir);
    expect_ok(io_listen(loop, address, stale_accepted, NULL, &first));
    expect_err(io_listen(loop, address, stale_accepted, NULL, &second), ERR_IO);
    struct stat st;
    CU_ASSERT(stat(address + 5, &st) == 0 && (st.st_mode & 0777) == 0600);
    CU_ASSERT(link(address + 5, kept) == 0);
    io_listener_close(first);
    CU_ASSERT(stat(address + 5, &st) != 0 && errno == ENOENT); /* nothing is left behind */
    CU_ASSERT(rename(kept, address + 5) == 0); /* as a killed process leaves it */
    expect_ok(io_listen(loop, address, stale_accepted, NULL, &first));
    io_listener_close(first);
    expect_ok(io_write_whole_sync(loop, address + 5, "data", 4, 0600));
    expect_err(io_listen(loop, address, stale_accepted, NULL, &second), ERR_IO);
    char long_address[300];
    memset(long_address, 'a', sizeof(long_address));
    memcpy(long_address, "unix:/", 6);
    long_address[299] = '\0';
    expect_err(io_listen(loop, long_address, stale_accepted, NULL, &second), ERR_INVALID);
    io_loop_stop(loop);
}

static void stale_socket(void)
{
    struct world world;
    world_run(&world, WORLD_REAL, stale_start, &world);
}

/* As the sockets of a killed process, which go some milliseconds after it. */
static void *linger(void *arg)
{
    usleep(150 * 1000);
    close(*(int *)arg);
    return NULL;
}

static void lingering_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof(un.sun_path), "%s/lingers", world->dir);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    CU_ASSERT(bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(fd, 8) == 0);
    pthread_t thread;
    CU_ASSERT_FATAL(pthread_create(&thread, NULL, linger, &fd) == 0);
    char address[160];
    snprintf(address, sizeof(address), "unixpacket:%s", un.sun_path);
    struct io_listener *listener;
    expect_ok(io_listen(loop, address, stale_accepted, NULL, &listener));
    pthread_join(thread, NULL);
    io_listener_close(listener);
    io_loop_stop(loop);
}

static void lingering_socket(void)
{
    struct world world;
    world_run(&world, WORLD_REAL, lingering_start, &world);
}

static void pause_over(struct io_timer *timer)
{
    struct pair *pair = CONTAINER_OF(timer, struct pair, timer);
    CU_ASSERT(pair->server.got.len == 0);
    io_stream_resume(pair->server.stream);
}

/* ---- a message that arrives just when the stream is paused ----------------------------------- */

static void late_pause_ready(struct pair *pair)
{
    int fd = 0;
    io_stream_set_high_water(pair->client.stream, 0);
    io_stream_write_fds(pair->client.stream, "m", 1, &fd, 1);
}

/* Sent, so received; but the server has not been told yet. */
static void late_pause_drain(struct side *side)
{
    struct pair *pair = side->pair;
    if (pair->server.got.len == 0 && pair->count++ == 0) {
        io_stream_pause(pair->server.stream);
        pair->timer.fire = pause_over;
        io_timer_start(pair->world.loop, &pair->timer, io_now_us(pair->world.loop) + 10000);
    }
}

static void late_pause_data(struct side *side)
{
    CU_ASSERT(side->fds_len == 1);
    pair_stop(side->pair);
}

static void late_pause_check(struct pair *pair)
{
    CU_ASSERT(pair->server.got.len == 1);
}

static void late_pause(void)
{
    struct pair pair = {.address = "unixpacket:", .ready = late_pause_ready,
                        .drain = late_pause_drain, .data = late_pause_data};
    pair_run(&pair, WORLD_REAL, late_pause_check);
}

/* ---- a message larger than we take is an error of the peer ----------------------------------- */

static char large[100000];

static void large_ready(struct pair *pair)
{
    int fd = 0;
    io_stream_write_fds(pair->client.stream, large, sizeof(large), &fd, 1);
}

static void large_closed(struct side *side)
{
    if (side == &side->pair->server) {
        pair_stop(side->pair);
    }
}

static void large_check(struct pair *pair)
{
    CU_ASSERT_FATAL(pair->server.reason != ERR_OK);
    CU_ASSERT(err_code(pair->server.reason) == ERR_PROTOCOL);
    CU_ASSERT(pair->server.got.len == 0);
}

static void large_message(void)
{
    int before = fds_open();
    struct pair pair = {.address = "unixpacket:", .ready = large_ready, .closed = large_closed};
    pair_run(&pair, WORLD_REAL, large_check);
    CU_ASSERT(fds_open() == before);
}

/* ---- out of descriptors: accepting goes on when there are some again ------------------------- */

struct crowded {
    struct world world;
    struct io_listener *listener;
    struct io_stream *client;
    struct io_timer timer;
    int fds[1024];
    size_t fds_len;
    bool accepted;
};

static void crowded_accepted(void *arg, struct io_stream *stream)
{
    struct crowded *crowded = arg;
    CU_ASSERT(crowded->fds_len == 0); /* not before there was one */
    crowded->accepted = true;
    io_loop_stop(crowded->world.loop);
}

static void crowded_fire(struct io_timer *timer)
{
    struct crowded *crowded = CONTAINER_OF(timer, struct crowded, timer);
    CU_ASSERT(!crowded->accepted);
    while (crowded->fds_len > 0) {
        close(crowded->fds[--crowded->fds_len]);
    }
}

static void crowded_start(struct io_loop *loop, void *arg)
{
    struct crowded *crowded = arg;
    expect_ok(io_listen(loop, "127.0.0.1:0", crowded_accepted, crowded, &crowded->listener));
    expect_ok(io_connect(loop, io_listener_address(crowded->listener), NULL, NULL, NULL,
                         &crowded->client));
    for (int fd = dup(0); fd >= 0; fd = dup(0)) {
        CU_ASSERT_FATAL(crowded->fds_len < 1024);
        crowded->fds[crowded->fds_len++] = fd;
    }
    CU_ASSERT(errno == EMFILE);
    crowded->timer.fire = crowded_fire;
    io_timer_start(loop, &crowded->timer, io_now_us(loop) + 50000);
}

static void out_of_descriptors(void)
{
    struct rlimit old;
    CU_ASSERT(getrlimit(RLIMIT_NOFILE, &old) == 0);
    struct rlimit small = {512, old.rlim_max};
    CU_ASSERT(setrlimit(RLIMIT_NOFILE, &small) == 0);
    struct crowded *crowded = MEM_NEW(struct crowded);
    world_run(&crowded->world, WORLD_REAL, crowded_start, crowded);
    CU_ASSERT(crowded->accepted);
    free(crowded);
    CU_ASSERT(setrlimit(RLIMIT_NOFILE, &old) == 0);
}

/* ---- names that are looked up ---------------------------------------------------------------- */

static void looked_up_connected(void *arg, struct io_stream *stream)
{
    struct crowded *crowded = arg;
    crowded->accepted = true;
    io_loop_stop(crowded->world.loop);
}

static void looked_up_accepted(void *arg, struct io_stream *stream)
{
    io_stream_close(stream);
}

static void looked_up_start(struct io_loop *loop, void *arg)
{
    struct crowded *crowded = arg;
    expect_ok(io_listen(loop, "*:0", looked_up_accepted, crowded, &crowded->listener));
    const char *address = io_listener_address(crowded->listener);
    CU_ASSERT(strncmp(address, "0.0.0.0:", 8) == 0);
    char name[64]; /* the resolver knows this form, the numeric parser does not */
    snprintf(name, sizeof(name), "127.1:%s", address + 8);
    expect_ok(io_connect(loop, name, NULL, crowded, looked_up_connected, &crowded->client));
}

static void looked_up(void)
{
    struct crowded *crowded = MEM_NEW(struct crowded);
    world_run(&crowded->world, WORLD_REAL, looked_up_start, crowded);
    CU_ASSERT(crowded->accepted);
    free(crowded);
}

/* ---- io_uring is forbidden: a clear error, and nothing leaks --------------------------------- */

static void forbid_io_uring(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        _exit(2);
    }
}

static void never_start(struct io_loop *loop, void *arg)
{
    _exit(3);
}

static void forbidden(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        forbid_io_uring();
        struct io_env *env;
        err_t err = io_env_new_real(&env);
        err = err == ERR_OK ? io_main(env, never_start, NULL) : err;
        bool good = err != ERR_OK && err_code(err) == ERR_PERMISSION &&
                    strstr(err_hint_get(err), "seccomp") != NULL;
        io_env_free(env);
        _exit(good ? 0 : 1);
    }
    int status;
    CU_ASSERT(waitpid(pid, &status, 0) == pid);
    CU_ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- processes that outlive the loop, or were given up --------------------------------------- */

static void left_start(struct io_loop *loop, void *arg)
{
    struct running *running = arg;
    const char *const argv[] = {"/bin/sleep", "1000", NULL};
    struct io_process_spec spec = {.argv = argv};
    struct io_process *adopted;
    expect_ok(io_process_start(loop, &spec, released_exited, running, &running->process));
    pid_t pid = io_process_pid(running->process);
    expect_ok(io_process_adopt(loop, pid, "/bin/sleep", io_process_start_ticks(running->process),
                               released_exited, running, &adopted));
    io_process_release(adopted);
    expect_err(io_process_adopt(loop, 1 << 30, "/bin/sleep", 1, released_exited, running,
                                &adopted), ERR_NOT_FOUND);
    running->status = (int)pid;
    io_loop_stop(loop);
}

static void left_then(void *arg)
{
    struct running *running = arg;
    expect_err(io_process_signal(running->process, SIGKILL), ERR_CANCELLED);
    io_process_release(running->process);
}

static void left_running(void)
{
    struct running running = {0};
    world_run_then(&running.world, WORLD_REAL, left_start, left_then, &running);
    CU_ASSERT(kill(running.status, 0) == 0); /* lives on */
    CU_ASSERT(kill(running.status, SIGKILL) == 0);
    CU_ASSERT(waitpid(running.status, NULL, 0) == running.status);
}

static const struct test_case cases[] = {
    {"exit status", exit_status},
    {"killed status", killed_status},
    {"output and descriptors of a child", output_and_descriptors},
    {"missing program", missing_program},
    {"adopted process", adopt},
    {"released process", released},
    {"signals", signals},
    {"doorbells", bells},
    {"a word of shared memory ends the sleep", words},
    {"a word of shared memory ends the sleep", words},
    {"messages with descriptors", packets},
    {"descriptors are not leaked", descriptors_not_leaked},
    {"stale socket files", stale_socket},
    {"a killed process' socket goes a little later", lingering_socket},
    {"message at the moment of pausing", late_pause},
    {"message that is too large", large_message},
    {"out of descriptors", out_of_descriptors},
    {"name that is looked up", looked_up},
    {"io_uring forbidden", forbidden},
    {"process left running", left_running},
};
TEST_SUITE("core/io/os", cases)
