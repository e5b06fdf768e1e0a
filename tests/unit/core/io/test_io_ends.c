/* How streams begin and end, and back-pressure, on both implementations. */
#include "tests/unit/core/io/pair.h"

#include <stdio.h>
#include <string.h>

static char bytes[300000];

/* ---- io_stream_finish: everything queued arrives, then the end, in order --------------------- */

enum { FINISH_BYTES = 2000000 };

static void count_release(void *arg)
{
    (*(unsigned *)arg)++;
}

static void finish_ready(struct pair *pair)
{
    for (size_t sent = 0; sent < FINISH_BYTES; sent += 100000) {
        io_stream_write_ref(pair->client.stream, bytes, 100000, count_release, &pair->count);
    }
    io_stream_finish(pair->client.stream);
    io_stream_finish(pair->client.stream);                    /* once is enough */
    io_stream_write(pair->client.stream, "too late", 8);      /* dropped */
    io_stream_write(pair->server.stream, "thrown away", 11);  /* nobody there listens */
    pair->client.stream = NULL;
}

static void stop_when_closed(struct side *side)
{
    pair_stop(side->pair);
}

static void finish_check(struct pair *pair)
{
    CU_ASSERT(pair->server.got.len == FINISH_BYTES);
    CU_ASSERT(pair->server.closes == 1 && pair->server.reason == ERR_OK);
    CU_ASSERT(pair->client.closes == 0 && pair->client.got.len == 0);
    CU_ASSERT(pair->count == FINISH_BYTES / 100000);
}

static void finish(enum world_kind kind)
{
    struct pair pair = {.ready = finish_ready, .closed = stop_when_closed};
    pair_run(&pair, kind, finish_check);
}
ON_BOTH(finish)
ON_OLD(finish)

/* ---- io_stream_close drops what is queued and releases it at once ---------------------------- */

static void drop_ready(struct pair *pair)
{
    io_stream_pause(pair->server.stream);
    for (unsigned i = 0; i < 100; i++) {
        io_stream_write_ref(pair->client.stream, bytes, sizeof(bytes), count_release,
                            &pair->count);
    }
    CU_ASSERT(io_stream_pending(pair->client.stream) == 100 * sizeof(bytes));
}

static void drop_fire(struct io_timer *timer)
{
    struct pair *pair = CONTAINER_OF(timer, struct pair, timer);
    CU_ASSERT(pair->count < 100); /* the server reads nothing: the kernel's buffers are full */
    CU_ASSERT(io_stream_pending(pair->client.stream) > 0);
    CU_ASSERT(pair->server.got.len < sizeof(bytes));
    io_stream_close(pair->client.stream);
    CU_ASSERT(pair->count == 100);
    io_stream_resume(pair->server.stream);
}

static void drop_ready_timed(struct pair *pair)
{
    drop_ready(pair);
    pair->timer.fire = drop_fire;
    io_timer_start(pair->world.loop, &pair->timer, io_now_us(pair->world.loop) + 50000);
}

static void drop_check(struct pair *pair)
{
    CU_ASSERT(pair->server.closes == 1);
    CU_ASSERT(pair->server.got.len > 0 && pair->server.got.len < 100 * sizeof(bytes));
    CU_ASSERT(pair->client.closes == 0);
}

static void drop(enum world_kind kind)
{
    struct pair pair = {.ready = drop_ready_timed, .closed = stop_when_closed};
    pair_run(&pair, kind, drop_check);
}
ON_BOTH(drop)
ON_OLD(drop)

/* ---- a paused stream gets nothing, and everything after resume ------------------------------- */

static void pause_fire(struct io_timer *timer)
{
    struct pair *pair = CONTAINER_OF(timer, struct pair, timer);
    CU_ASSERT(pair->server.got.len == 0);
    CU_ASSERT(pair->server.closes == 0);
    io_stream_resume(pair->server.stream);
}

static void pause_ready(struct pair *pair)
{
    io_stream_write(pair->client.stream, bytes, 30000);
    io_stream_finish(pair->client.stream);
    io_stream_pause(pair->server.stream);
    pair->timer.fire = pause_fire;
    io_timer_start(pair->world.loop, &pair->timer, io_now_us(pair->world.loop) + 50000);
}

/* Pausing after each piece must lose none. */
static void pause_data(struct side *side)
{
    io_stream_pause(side->stream);
    if (side->pair->count++ % 2 == 0) {
        io_stream_resume(side->stream);
    } else {
        side->pair->timer.fire = pause_fire;
        struct io_loop *loop = io_stream_loop(side->stream);
        CU_ASSERT(loop == side->pair->world.loop);
        io_stream_resume(side->stream);
    }
}

static void pause_check(struct pair *pair)
{
    CU_ASSERT(pair->server.got.len == 30000);
    CU_ASSERT(memcmp(pair->server.got.data, bytes, 30000) == 0);
    CU_ASSERT(pair->server.reason == ERR_OK);
}

static void pause_resume(enum world_kind kind)
{
    struct pair pair = {.ready = pause_ready, .data = pause_data, .closed = stop_when_closed};
    pair_run(&pair, kind, pause_check);
}
ON_BOTH(pause_resume)
ON_OLD(pause_resume)

/* ---- paused in the middle of what arrives, resumed later ------------------------------------- */

enum { STASH_BYTES = 4000000 };

static void stash_fire(struct io_timer *timer)
{
    struct pair *pair = CONTAINER_OF(timer, struct pair, timer);
    io_stream_resume(pair->server.stream);
}

static void stash_ready(struct pair *pair)
{
    for (size_t sent = 0; sent < STASH_BYTES; sent += 100000) {
        io_stream_write_ref(pair->client.stream, bytes, 100000, NULL, NULL);
    }
    io_stream_finish(pair->client.stream);
    pair->timer.fire = stash_fire;
}

static void stash_data(struct side *side)
{
    struct pair *pair = side->pair;
    CU_ASSERT(pair->timer.heap_at == 0); /* nothing while paused */
    io_stream_pause(side->stream);
    io_timer_start(pair->world.loop, &pair->timer, io_now_us(pair->world.loop) + 200);
}

static void stash_check(struct pair *pair)
{
    CU_ASSERT_FATAL(pair->server.got.len == STASH_BYTES);
    for (size_t at = 0; at < STASH_BYTES; at += 100000) {
        CU_ASSERT(memcmp(pair->server.got.data + at, bytes, 100000) == 0);
    }
}

static void stash(enum world_kind kind)
{
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (char)(i * 7 + i / 251);
    }
    struct pair pair = {.ready = stash_ready, .data = stash_data, .closed = stop_when_closed};
    pair_run(&pair, kind, stash_check);
}
ON_BOTH(stash)
ON_OLD(stash)

/* ---- closing from inside callbacks ----------------------------------------------------------- */

static void close_in_data_ready(struct pair *pair)
{
    io_stream_write(pair->client.stream, bytes, 100);
    io_stream_write(pair->client.stream, bytes, 100);
}

static void close_in_data(struct side *side)
{
    io_stream_write_ref(side->stream, bytes, sizeof(bytes), count_release, &side->pair->count);
    io_stream_close(side->stream);
    io_stream_write(side->stream, "x", 1); /* until the callback returns it may be called */
    CU_ASSERT(io_stream_pending(side->stream) == 0);
    side->stream = NULL;
}

static void close_in_data_check(struct pair *pair)
{
    CU_ASSERT(pair->count == 1);
    CU_ASSERT(pair->server.closes == 0);
    CU_ASSERT(pair->client.closes == 1);
}

static void close_inside(enum world_kind kind)
{
    struct pair pair = {.ready = close_in_data_ready, .data = close_in_data,
                        .closed = stop_when_closed};
    pair_run(&pair, kind, close_in_data_check);
}
ON_BOTH(close_inside)

/* ---- drain comes once for each time the high water was passed -------------------------------- */

static void drain_ready(struct pair *pair)
{
    io_stream_set_high_water(pair->client.stream, 1000);
    io_stream_write(pair->client.stream, bytes, 900); /* below: no drain for these */
    CU_ASSERT(pair->client.drains == 0);
}

static void drain_data(struct side *side)
{
    struct pair *pair = side->pair;
    if (side->got.len == 900 && pair->count == 0) {
        pair->count = 1;
        CU_ASSERT(pair->client.drains == 0);
        io_stream_write(pair->client.stream, bytes, 600);
        io_stream_write(pair->client.stream, bytes, 600);
    }
}

static void drain_drain(struct side *side)
{
    CU_ASSERT(io_stream_pending(side->stream) == 0);
    if (side->drains == 1) {
        io_stream_write(side->stream, bytes, 1001);
    } else {
        pair_stop(side->pair);
    }
}

static void drain_check(struct pair *pair)
{
    CU_ASSERT(pair->client.drains == 2);
}

static void drain(enum world_kind kind)
{
    struct pair pair = {.ready = drain_ready, .data = drain_data, .drain = drain_drain};
    pair_run(&pair, kind, drain_check);
}
ON_BOTH(drain)

/* ---- connecting in vain ---------------------------------------------------------------------- */

struct refused {
    struct world world;
    struct io_stream *stream;
    struct io_stream *second;
    unsigned closes;
    unsigned releases;
    enum err_code code;
    const char *address;
};

static void refused_close(void *arg, err_t reason)
{
    struct refused *refused = arg;
    CU_ASSERT_FATAL(reason != ERR_OK);
    refused->code = err_code(reason);
    err_free(reason);
    refused->closes++;
    io_stream_close(refused->stream); /* harmless inside close */
    io_loop_stop(refused->world.loop);
}

static void refused_connected(void *arg, struct io_stream *stream)
{
    CU_FAIL("connected");
}

static const struct io_stream_handler refused_handler = {.close = refused_close};

static void refused_accepted(void *arg, struct io_stream *stream)
{
    CU_FAIL("accepted");
}

static void refused_start(struct io_loop *loop, void *arg)
{
    struct refused *refused = arg;
    char address[128];
    snprintf(address, sizeof(address), "%s", refused->address != NULL ? refused->address : "");
    if (refused->address == NULL) { /* a port that was free a moment ago */
        struct io_listener *listener;
        expect_ok(io_listen(loop, "127.0.0.1:0", refused_accepted, NULL, &listener));
        snprintf(address, sizeof(address), "%s", io_listener_address(listener));
        io_listener_close(listener);
    }
    expect_ok(io_connect(loop, address, &refused_handler, refused, refused_connected,
                         &refused->stream));
    io_stream_write_ref(refused->stream, bytes, 10, count_release, &refused->releases);
    expect_ok(io_connect(loop, address, &refused_handler, refused, refused_connected,
                         &refused->second));
    io_stream_close(refused->second); /* given up before it was decided */
    struct io_stream *none;
    expect_err(io_connect(loop, "nonsense", &refused_handler, refused, refused_connected, &none),
               ERR_INVALID);
    expect_err(io_connect(loop, "host:99999", &refused_handler, refused, refused_connected, &none),
               ERR_INVALID);
    CU_ASSERT(none == NULL);
}

static void refused(enum world_kind kind)
{
    struct refused refused = {0};
    world_run(&refused.world, kind, refused_start, &refused);
    CU_ASSERT(refused.closes == 1);
    CU_ASSERT(refused.releases == 1);
    CU_ASSERT(refused.code == ERR_UNAVAILABLE);
}
ON_BOTH(refused)

static void unknown_host(enum world_kind kind)
{
    struct refused refused = {.address = "no-such-host.invalid:1"};
    world_run(&refused.world, kind, refused_start, &refused);
    CU_ASSERT(refused.closes == 1);
    CU_ASSERT(refused.releases == 1);
    CU_ASSERT(refused.code == ERR_UNAVAILABLE);
}
ON_BOTH(unknown_host)

/* ---- a listener's address is free again after close; taken while it listens ------------------ */

static void relisten_start(struct io_loop *loop, void *arg)
{
    struct io_listener *first;
    struct io_listener *second = NULL;
    char address[128];
    expect_ok(io_listen(loop, "127.0.0.1:0", refused_accepted, NULL, &first));
    snprintf(address, sizeof(address), "%s", io_listener_address(first));
    expect_err(io_listen(loop, address, refused_accepted, NULL, &second), ERR_IO);
    CU_ASSERT(second == NULL);
    io_listener_close(first);
    expect_ok(io_listen(loop, address, refused_accepted, NULL, &second));
    expect_err(io_listen(loop, "not a name:1", refused_accepted, NULL, &first),
               io_env_simulated(io_loop_env(loop)) ? ERR_IO : ERR_INVALID);
    io_loop_stop(loop); /* second is closed with the loop */
}

static void relisten(enum world_kind kind)
{
    struct world world;
    world_run(&world, kind, relisten_start, NULL);
}
ON_BOTH(relisten)

/* ---- a loop that stops releases what is queued; its objects may still be closed -------------- */

struct stopping {
    struct world world;
    struct io_listener *listener;
    struct io_stream *client;
    struct io_stream *server;
    struct io_file *file;
    struct io_watch *watch;
    struct io_op op;
    struct io_timer timer;
    struct io_task task;
    struct io_poller poller;
    unsigned releases;
    bool in_start;
    char content[4096];
};

static void stopping_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                          size_t fds_len)
{
    CU_FAIL("data after stop");
}

static void stopping_close(void *arg, err_t reason)
{
    CU_FAIL("close after stop");
    err_free(reason);
}

static const struct io_stream_handler stopping_handler = {
    .data = stopping_data,
    .close = stopping_close,
};

static void stopping_op(struct io_op *op, err_t err, size_t result)
{
    CU_FAIL("completion after stop");
    err_free(err);
}

static void stopping_fire(struct io_timer *timer)
{
    CU_FAIL("timer after stop");
}

static void stopping_task(struct io_task *task)
{
    CU_FAIL("task after stop");
}

static bool stopping_poll(struct io_poller *poller)
{
    return false;
}

static void stopping_changed(void *arg)
{
    CU_FAIL("watch after stop");
}

/* Everything that can be called on what a stopped loop left. */
static void stopping_use(struct stopping *s)
{
    struct io_loop *loop = s->world.loop;
    CU_ASSERT(s->releases >= 1);
    unsigned before = s->releases;
    io_stream_write(s->client, "x", 1);
    io_stream_write_ref(s->client, "x", 1, count_release, &s->releases);
    CU_ASSERT(s->releases == before + 1);
    io_stream_pause(s->server);
    io_stream_resume(s->server);
    io_stream_finish(s->client);
    CU_ASSERT(io_loop_env(loop) != NULL);
    CU_ASSERT(io_now_us(loop) > 0);
    io_timer_cancel(loop, &s->timer);
    io_timer_start(loop, &s->timer, 0);
    io_task_cancel(loop, &s->task);
    io_post(loop, &s->task);
    io_poller_remove(loop, &s->poller);
    io_poller_add(loop, &s->poller);
    io_loop_stop(loop);
    struct io_file *file;
    uint64_t size;
    expect_err(io_file_open(loop, "/tmp/x", IO_OPEN_READ, &file), ERR_CANCELLED);
    expect_err(io_file_size_sync(s->file, &size), ERR_CANCELLED);
    expect_err(io_file_write_sync(s->file, 0, "x", 1), ERR_CANCELLED);
    io_file_write(s->file, 0, "x", 1, &s->op);
    io_listener_close(s->listener);
    io_stream_close(s->server);
    io_file_close(s->file);
    io_watch_close(s->watch);
}

static void stopping_now(struct stopping *s)
{
    struct io_loop *loop = s->world.loop;
    char path[128];
    snprintf(path, sizeof(path), "%s/file", s->world.dir);
    expect_ok(io_mkdir_sync(loop, s->world.dir, 0700));
    expect_ok(io_file_open(loop, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &s->file));
    expect_ok(io_watch_open(loop, path, stopping_changed, s, &s->watch));
    s->op.done = stopping_op;
    io_file_write(s->file, 0, s->content, sizeof(s->content), &s->op);
    s->timer.fire = stopping_fire;
    io_timer_start(loop, &s->timer, io_now_us(loop) + 1);
    s->task.run = stopping_task;
    io_post(loop, &s->task);
    s->poller.poll = stopping_poll;
    io_poller_add(loop, &s->poller);
    io_stream_write_ref(s->client, bytes, sizeof(bytes), count_release, &s->releases);
    io_loop_stop(loop);
}

static void stopping_accepted(void *arg, struct io_stream *stream)
{
    struct stopping *s = arg;
    s->server = stream;
    io_stream_set_handler(stream, &stopping_handler, s);
    stopping_now(s);
}

static void stopping_start(struct io_loop *loop, void *arg)
{
    struct stopping *s = arg;
    expect_ok(io_listen(loop, "127.0.0.1:0", stopping_accepted, s, &s->listener));
    expect_ok(io_connect(loop, io_listener_address(s->listener), &stopping_handler, s, NULL,
                         &s->client));
}

static void stopping(enum world_kind kind)
{
    struct stopping *s = MEM_NEW(struct stopping);
    world_run_then(&s->world, kind, stopping_start, (void (*)(void *))stopping_use, s);
    free(s);
}
ON_BOTH(stopping)
ON_OLD(stopping)

/* ---- back and forth, as fast as it goes: little messages, some large ones, pauses ------------ */

enum { BRISK_MESSAGES = 4000, BRISK_LARGE = 20000 };

/* On io_uring one of the two is read without a request by and by, see recv.c. */
static struct {
    size_t due[2]; /* bytes that the client and the server have got when the next one is whole */
    bool close;    /* else it ends in order */
    struct side *paused;
} brisk;

static size_t brisk_len(unsigned n)
{
    return n % 500 == 499 ? BRISK_LARGE : 8;
}

/* Message number count, to the other side. */
static void brisk_send(struct pair *pair, struct side *from)
{
    size_t len = brisk_len(pair->count);
    memset(bytes, (int)(pair->count & 0x7F), len);
    brisk.due[from == &pair->client] += len;
    io_stream_write(from->stream, bytes, len);
}

static void brisk_go_on(struct io_timer *timer)
{
    io_stream_resume(brisk.paused->stream);
}

static void brisk_data(struct side *side)
{
    struct pair *pair = side->pair;
    size_t due = brisk.due[side == &pair->server];
    size_t len = brisk_len(pair->count);
    CU_ASSERT_FATAL(side->got.len <= due);
    if (side->got.len < due) {
        return;
    }
    for (size_t i = due - len; i < due; i++) {
        CU_ASSERT_FATAL(side->got.data[i] == (pair->count & 0x7F));
    }
    pair->count++;
    if (pair->count == BRISK_MESSAGES) {
        (brisk.close ? io_stream_close : io_stream_finish)(side->stream);
        side->stream = NULL;
        return;
    }
    brisk_send(pair, side);
    if (pair->count % 300 == 0) { /* the answer has to wait */
        io_stream_pause(side->stream);
        brisk.paused = side;
        pair->timer.fire = brisk_go_on;
        io_timer_start(pair->world.loop, &pair->timer, io_now_us(pair->world.loop) + 200);
    }
}

static void brisk_ready(struct pair *pair)
{
    brisk_send(pair, &pair->client);
}

static void brisk_check(struct pair *pair)
{
    CU_ASSERT_EQUAL(pair->count, BRISK_MESSAGES);
    CU_ASSERT_EQUAL(pair->server.closes + pair->client.closes, 1);
    CU_ASSERT_EQUAL(pair->client.got.len, brisk.due[0]);
    CU_ASSERT_EQUAL(pair->server.got.len, brisk.due[1]);
}

static void brisk_end(enum world_kind kind, bool close)
{
    struct pair pair = {.ready = brisk_ready, .data = brisk_data, .closed = stop_when_closed};
    memset(&brisk, 0, sizeof(brisk));
    brisk.close = close;
    pair_run(&pair, kind, brisk_check);
}

static void brisk_finish(enum world_kind kind)
{
    brisk_end(kind, false);
}
ON_BOTH(brisk_finish)
ON_OLD(brisk_finish)

static void brisk_close(enum world_kind kind)
{
    brisk_end(kind, true);
}
ON_BOTH(brisk_close)
ON_OLD(brisk_close)

static const struct test_case cases[] = {
    {"finish sends everything, real", finish_real},
    {"finish sends everything, old", finish_old},
    {"finish sends everything, sim", finish_sim},
    {"close drops and releases, real", drop_real},
    {"close drops and releases, old", drop_old},
    {"close drops and releases, sim", drop_sim},
    {"pause and resume, real", pause_resume_real},
    {"pause and resume, old", pause_resume_old},
    {"pause and resume, sim", pause_resume_sim},
    {"pause while data arrives, real", stash_real},
    {"pause while data arrives, old", stash_old},
    {"pause while data arrives, sim", stash_sim},
    {"close inside data, real", close_inside_real},
    {"close inside data, sim", close_inside_sim},
    {"drain, real", drain_real},
    {"drain, sim", drain_sim},
    {"connection refused, real", refused_real},
    {"connection refused, sim", refused_sim},
    {"unknown host, real", unknown_host_real},
    {"unknown host, sim", unknown_host_sim},
    {"addresses are freed, real", relisten_real},
    {"addresses are freed, sim", relisten_sim},
    {"back and forth, then the end, real", brisk_finish_real},
    {"back and forth, then the end, old", brisk_finish_old},
    {"back and forth, then the end, sim", brisk_finish_sim},
    {"back and forth, then closed, real", brisk_close_real},
    {"back and forth, then closed, old", brisk_close_old},
    {"back and forth, then closed, sim", brisk_close_sim},
    {"objects of a stopped loop, real", stopping_real},
    {"objects of a stopped loop, old", stopping_old},
    {"objects of a stopped loop, sim", stopping_sim},
};
TEST_SUITE("core/io/ends", cases)
