/*
 * The boundary's edges, on virtual time: refusals, fencing, hostile bytes, silence, pausing, giving
 * up, moving. One storage process, one compute process, and sometimes a stranger.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/boundary/log.h"

#include "core/base/log.h"
#include "core/io/sim.h"
#include "ring/frame/hello.h"

#include <stdio.h>

enum { SECOND = 1000 * 1000, END = 300, SOURCES = 8 };

struct scene {
    struct sim *sim;
    struct metrics_registry *storage_metrics;
    struct metrics_registry *compute_metrics;
    struct boundary_identity storage_id;
    struct boundary_identity compute_id;
    uint64_t tick_us;
    uint64_t since;
    struct boundary_server *servers[2];
    struct log_worker logs[2];
    struct boundary_client *client;
    struct io_loop *client_loop;
    struct sim_process *compute;
    struct log_reader readers[SOURCES + 1];
    size_t readers_len;
    void (*ready)(struct scene *s); /* on the client's loop */
    struct boundary_handler handler;
    size_t dones;
    /* the stranger */
    struct buf say;
    bool say_bytewise;
    bool leaves; /* having said it, in order */
    uint64_t say_every_us; /* not 0: a byte at a time, so far apart */
    size_t said;
    struct io_timer say_timer;
    struct buf heard;
    bool hung_up;
    struct io_stream *stream;
};

static void done(struct log_reader *r)
{
    ((struct scene *)r->ctx)->dones++;
}

static void serve(struct scene *s, struct io_loop *loop, int i, const char *address)
{
    struct boundary_server_config config = {.address = address, .self = s->storage_id,
                                            .workers = 1, .backend = &log_backend,
                                            .metrics = i == 0 ? s->storage_metrics : NULL};
    CU_ASSERT_PTR_NULL_FATAL(boundary_server_new(loop, &config, &s->servers[i]));
    s->logs[i] = (struct log_worker){.server = s->servers[i], .sources = SOURCES, .end = END,
                                     .tick_us = s->tick_us, .record_max = 3000,
                                     .since = s->since, .always_ready = true};
    log_worker_start(&s->logs[i], loop);
}

static void storage_start(struct io_loop *loop, void *arg)
{
    serve(arg, loop, 0, "h:2101");
    serve(arg, loop, 1, "h:3101");
}

static void storage_destroy(void *arg)
{
    struct scene *s = arg;
    for (int i = 0; i < 2; i++) {
        boundary_server_free(s->servers[i]);
        CU_ASSERT_EQUAL(s->logs[i].cursors, 0);
    }
}

static void directory(struct scene *s, const char *address)
{
    boundary_client_directory(s->client, &address, NULL, 1, 1);
}

static void subscribe(struct scene *s, uint64_t source, uint64_t as_of)
{
    struct log_reader *r = &s->readers[s->readers_len++];
    log_reader_init(r, source, 0, END, 3000);
    r->on_done = done;
    r->ctx = s;
    struct boundary_request request = log_request(r, as_of);
    r->sub = boundary_subscribe(s->client, 0, &request, &s->handler, r);
}

static void compute_start(struct io_loop *loop, void *arg)
{
    struct scene *s = arg;
    s->client_loop = loop;
    struct boundary_client_config config = {.self = s->compute_id, .workers = 1,
                                            .metrics = s->compute_metrics, .credit_bytes = 2000};
    CU_ASSERT_PTR_NULL_FATAL(boundary_client_new(loop, &config, &s->client));
    boundary_client_worker(s->client, 0, loop);
    directory(s, "h:2101");
    s->ready(s);
}

static void compute_destroy(void *arg)
{
    boundary_client_free(((struct scene *)arg)->client);
}

static int64_t gauge(struct metrics_registry *r, const char *name, const char *labels)
{
    return metric_value(metric_gauge(r, name, labels, ""));
}

static void scene_init(struct scene *s, void (*ready)(struct scene *s))
{
    log_configure(getenv("RING_LOG") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT,
                  "test");
    *s = (struct scene){.ready = ready, .handler = log_handler, .tick_us = 2000};
    s->storage_id = (struct boundary_identity){.environment = "0123456789abcde", .epoch = 5};
    s->compute_id = s->storage_id;
    struct sim_config config = sim_config_default(3);
    s->sim = sim_new(&config);
    s->storage_metrics = metrics_registry_new();
    s->compute_metrics = metrics_registry_new();
}

static void scene_start(struct scene *s)
{
    sim_process_start(s->sim, "h", "storage", storage_start, storage_destroy, s);
    if (s->ready != NULL) {
        s->compute = sim_process_start(s->sim, "c", "compute", compute_start, compute_destroy, s);
    }
}

static void run_for(struct scene *s, uint64_t us)
{
    sim_run_until(s->sim, sim_now_us(s->sim) + us);
}

static void scene_end(struct scene *s)
{
    for (size_t i = 0; i < s->readers_len; i++) {
        CU_ASSERT_STRING_EQUAL(s->readers[i].wrong, "");
    }
    sim_free(s->sim);
    metrics_registry_free(s->storage_metrics);
    metrics_registry_free(s->compute_metrics);
    buf_free(&s->say);
    buf_free(&s->heard);
}

/* ---- subscriptions --------------------------------------------------------------------------- */

static void ready_two(struct scene *s)
{
    subscribe(s, 0, 10);
    subscribe(s, 1, 10);
    boundary_sub_pause(s->readers[0].sub, true);
}

static void test_pause(void)
{
    struct scene s;
    scene_init(&s, ready_two);
    scene_start(&s);
    run_for(&s, 10 * SECOND);
    CU_ASSERT_TRUE(s.readers[1].done);
    CU_ASSERT_FALSE(s.readers[0].done);
    CU_ASSERT_TRUE(s.readers[0].bytes < 20000);
    boundary_sub_pause(s.readers[0].sub, false);
    run_for(&s, 10 * SECOND);
    CU_ASSERT_TRUE(s.readers[0].done);
    scene_end(&s);
}

static void data_then_give_up(void *arg, const struct boundary_chunk *chunk)
{
    struct log_reader *r = arg;
    log_handler.data(r, chunk);
    if (r->records > 20 * (r->source + 1) && r->sub != NULL) {
        boundary_unsubscribe(r->sub);
        r->sub = NULL;
    }
}

static void ready_many(struct scene *s)
{
    s->handler.data = data_then_give_up;
    for (uint64_t i = 0; i < SOURCES; i++) {
        subscribe(s, i, 1 + 20 * i);
    }
}

static void test_give_up(void)
{
    struct scene s;
    scene_init(&s, ready_many);
    scene_start(&s);
    run_for(&s, 30 * 1000);
    CU_ASSERT_TRUE(gauge(s.storage_metrics, "tailrace_boundary_subscriptions",
                         "worker=\"0\"") > 0);
    run_for(&s, 5 * SECOND);
    for (size_t i = 0; i < s.readers_len; i++) {
        CU_ASSERT_PTR_NULL(s.readers[i].sub);
    }
    CU_ASSERT_EQUAL(s.logs[0].cursors, 0);
    CU_ASSERT_EQUAL(gauge(s.storage_metrics, "tailrace_boundary_subscriptions",
                          "worker=\"0\""), 0);
    CU_ASSERT_EQUAL(gauge(s.compute_metrics, "tailrace_boundary_client_subscriptions",
                          "worker=\"0\""), 0);
    CU_ASSERT_EQUAL(gauge(s.storage_metrics, "tailrace_boundary_sessions", ""), 1);
    sim_process_kill(s.sim, s.compute);
    run_for(&s, SECOND);
    CU_ASSERT_EQUAL(gauge(s.storage_metrics, "tailrace_boundary_sessions", ""), 0);
    scene_end(&s);
}

static void ready_wrong(struct scene *s)
{
    subscribe(s, 99, 10); /* unknown */
    subscribe(s, 1, 10);  /* below since */
    subscribe(s, 2, 60);
}

static void test_refused(void)
{
    struct scene s;
    scene_init(&s, ready_wrong);
    s.since = 50;
    scene_start(&s);
    run_for(&s, 10 * SECOND);
    CU_ASSERT_EQUAL(s.readers[0].refused_code, ERR_NOT_FOUND);
    CU_ASSERT_EQUAL(s.readers[1].refused_code, ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL(strstr(s.readers[1].refused, "since is 50"));
    CU_ASSERT_TRUE(s.readers[2].done);
    CU_ASSERT_EQUAL(metric_value(metric_counter(s.compute_metrics,
                                                "tailrace_boundary_connects_total", "", "")), 1);
    boundary_unsubscribe(s.readers[0].sub);
    boundary_unsubscribe(s.readers[1].sub);
    scene_end(&s);
}

static void ready_one(struct scene *s)
{
    subscribe(s, 0, 10);
}

static void test_fenced(void)
{
    struct scene s;
    scene_init(&s, ready_one);
    s.compute_id.epoch = 4;
    scene_start(&s);
    run_for(&s, 3 * SECOND);
    CU_ASSERT_EQUAL(s.readers[0].refused_code, 0); /* the controller may renew it: */
    CU_ASSERT_EQUAL(s.readers[0].records, 0);
    CU_ASSERT_EQUAL(gauge(s.storage_metrics, "tailrace_boundary_sessions", ""), 0);
    boundary_client_set_epoch(s.client, 5);
    run_for(&s, 10 * SECOND);
    CU_ASSERT_TRUE(s.readers[0].done);
    scene_end(&s);

    scene_init(&s, ready_one);
    s.compute_id.environment[0] = 'x';
    scene_start(&s);
    run_for(&s, 3 * SECOND);
    CU_ASSERT_EQUAL(s.readers[0].refused_code, ERR_PERMISSION);
    scene_end(&s);

    scene_init(&s, ready_one); /* a newer epoch is fine */
    s.compute_id.epoch = 6;
    scene_start(&s);
    run_for(&s, 10 * SECOND);
    CU_ASSERT_TRUE(s.readers[0].done);
    scene_end(&s);
}

static void test_move(void)
{
    struct scene s;
    scene_init(&s, ready_one);
    scene_start(&s);
    for (int i = 0; i < 12; i++) {
        run_for(&s, 20 * 1000);
        directory(&s, i % 2 == 0 ? "h:3101" : "h:2101");
    }
    run_for(&s, 10 * SECOND);
    CU_ASSERT_TRUE(s.readers[0].done);
    CU_ASSERT_EQUAL(gauge(s.compute_metrics, "tailrace_boundary_client_sessions", ""), 1);
    scene_end(&s);
}

/* ---- strangers ------------------------------------------------------------------------------- */

static void stranger_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                          size_t fds_len)
{
    buf_append(&((struct scene *)arg)->heard, data, len);
}

static void stranger_closed(void *arg, err_t reason)
{
    struct scene *s = arg;
    s->hung_up = true;
    s->stream = NULL;
    err_free(reason);
}

static const struct io_stream_handler stranger = {.data = stranger_data,
                                                  .close = stranger_closed};

static void stranger_drips(struct io_timer *timer)
{
    struct scene *s = CONTAINER_OF(timer, struct scene, say_timer);
    if (s->stream == NULL || s->said == s->say.len) {
        return;
    }
    struct io_loop *loop = io_stream_loop(s->stream);
    io_stream_write(s->stream, s->say.data + s->said++, 1);
    io_timer_start(loop, timer, io_now_us(loop) + s->say_every_us);
}

static void stranger_connected(void *arg, struct io_stream *stream)
{
    struct scene *s = arg;
    if (s->say_every_us != 0) {
        s->say_timer.fire = stranger_drips;
        stranger_drips(&s->say_timer);
    } else if (s->say_bytewise) {
        for (size_t i = 0; i < s->say.len; i++) {
            io_stream_write(stream, s->say.data + i, 1);
        }
    } else {
        io_stream_write(stream, s->say.data, s->say.len);
    }
    if (s->leaves) {
        s->stream = NULL;
        io_stream_finish(stream);
    }
}

static void stranger_start(struct io_loop *loop, void *arg)
{
    struct scene *s = arg;
    CU_ASSERT_PTR_NULL_FATAL(io_connect(loop, "h:2101", &stranger, s, stranger_connected,
                                        &s->stream));
}

static void stranger_destroy(void *arg)
{
    io_stream_close(((struct scene *)arg)->stream);
}

static struct hello good_hello(void)
{
    struct hello h = {.version = HELLO_VERSION, .protocol = HELLO_BOUNDARY,
                      .role = HELLO_COMPUTE, .carriers = HELLO_TCP, .epoch = 5, .workers = 2};
    memcpy(h.environment, "0123456789abcde", 16);
    return h;
}

static void say_frame(struct scene *s, struct frame_header h, const void *payload, size_t len)
{
    uint8_t head[FRAME_HEADER_LEN];
    h.length = h.total = (uint32_t)len;
    h.flags = FRAME_FIRST | FRAME_LAST;
    frame_encode(head, &h, payload);
    buf_append(&s->say, head, sizeof(head));
    buf_append(&s->say, payload, len);
}

static void say_hello(struct scene *s, const struct hello *hello)
{
    struct buf text = {0};
    hello_encode(&text, hello);
    say_frame(s, (struct frame_header){.kind = FRAME_HELLO}, text.data, text.len);
    buf_free(&text);
}

/* The kind of the n-th frame heard, or 0; its header in *h. */
static uint8_t heard_frame(const struct scene *s, size_t n, struct frame_header *h)
{
    size_t at = 0;
    uint32_t crc, want;
    for (;; n--) {
        if (s->heard.len - at < FRAME_HEADER_LEN ||
            frame_decode(s->heard.data + at, h, &crc, &want) != ERR_OK) {
            return 0;
        }
        if (n == 0) {
            return h->kind;
        }
        at += FRAME_HEADER_LEN + h->length;
    }
}

/* Plays what the stranger says to a server, and that the server then still serves others. */
static void play(struct scene *s, uint64_t us)
{
    scene_start(s);
    run_for(s, 10 * 1000);
    sim_process_start(s->sim, "x", "stranger", stranger_start, stranger_destroy, s);
    run_for(s, us);
}

static void expect_refusal(struct scene *s, enum hello_refusal refusal)
{
    struct frame_header h = {0};
    play(s, SECOND);
    CU_ASSERT_EQUAL(heard_frame(s, 0, &h), FRAME_REFUSE);
    CU_ASSERT_EQUAL(h.a, refusal);
    CU_ASSERT_TRUE(s->hung_up);
    CU_ASSERT_EQUAL(gauge(s->storage_metrics, "tailrace_boundary_sessions", ""), 0);
    scene_end(s);
}

static void test_bad_hello(void)
{
    struct scene s;
    struct hello h;
    scene_init(&s, NULL);
    h = good_hello();
    h.version = 99;
    say_hello(&s, &h);
    expect_refusal(&s, REFUSE_VERSION);

    scene_init(&s, NULL);
    h = good_hello();
    h.protocol = HELLO_EXCHANGE;
    say_hello(&s, &h);
    expect_refusal(&s, REFUSE_PROTOCOL);

    scene_init(&s, NULL);
    h = good_hello();
    h.role = HELLO_STORAGE;
    say_hello(&s, &h);
    expect_refusal(&s, REFUSE_ROLE);

    scene_init(&s, NULL);
    h = good_hello();
    h.carriers = 0;
    say_hello(&s, &h);
    expect_refusal(&s, REFUSE_CARRIER);

    scene_init(&s, NULL);
    s.say_bytewise = true;
    say_frame(&s, (struct frame_header){.kind = FRAME_HELLO}, "XXXXXXXXXXXXXXXXXXXX", 20);
    expect_refusal(&s, REFUSE_MAGIC);

    scene_init(&s, NULL);
    buf_append_str(&s.say, "GET / HTTP/1.1\r\nHost: tailrace\r\nUser-Agent: curl/7\r\n\r\n");
    expect_refusal(&s, REFUSE_FRAME);
}

static void test_stale_generation(void)
{
    struct scene s;
    scene_init(&s, ready_one);
    s.compute_id.generation = 7;
    struct hello h = good_hello();
    h.generation = 6;
    say_hello(&s, &h);
    struct frame_header frame = {0};
    scene_start(&s);
    run_for(&s, SECOND / 4);
    sim_process_start(s.sim, "x", "stranger", stranger_start, stranger_destroy, &s);
    run_for(&s, SECOND);
    CU_ASSERT_EQUAL(heard_frame(&s, 0, &frame), FRAME_REFUSE);
    CU_ASSERT_EQUAL(frame.a, REFUSE_GENERATION);
    CU_ASSERT_TRUE(s.hung_up);
    run_for(&s, 10 * SECOND);
    CU_ASSERT_TRUE(s.readers[0].done);
    scene_end(&s);
}

/* A greeted peer breaks the protocol: it is told goodbye, and its session is freed. */
static void expect_goodbye(struct scene *s)
{
    struct frame_header h = {0};
    play(s, SECOND);
    CU_ASSERT_EQUAL(heard_frame(s, 0, &h), FRAME_WELCOME);
    CU_ASSERT_EQUAL(heard_frame(s, 1, &h), FRAME_GOODBYE);
    CU_ASSERT_TRUE(s->hung_up);
    CU_ASSERT_EQUAL(gauge(s->storage_metrics, "tailrace_boundary_sessions", ""), 0);
    CU_ASSERT_EQUAL(gauge(s->storage_metrics, "tailrace_boundary_subscriptions",
                          "worker=\"0\""), 0);
    scene_end(s);
}

static void greet(struct scene *s)
{
    struct hello h = good_hello();
    scene_init(s, NULL);
    say_hello(s, &h);
}

static void say_subscribe(struct scene *s, uint32_t stream)
{
    struct buf text = {0};
    buf_append_u64(&text, 1);
    buf_append_u64(&text, 2);
    buf_append_u32(&text, 0);
    buf_append_u32(&text, 0);
    buf_append_u64(&text, 50);
    buf_append_u64(&text, 0);
    say_frame(s, (struct frame_header){.kind = 16, .stream = stream, .a = 10}, text.data,
              text.len);
    buf_free(&text);
}

static void test_bad_messages(void)
{
    struct scene s;
    greet(&s);
    say_frame(&s, (struct frame_header){.kind = 16, .stream = 1}, "short", 5);
    expect_goodbye(&s);

    greet(&s); /* no such worker */
    say_frame(&s, (struct frame_header){.kind = 16, .to = 7}, "", 0);
    expect_goodbye(&s);

    greet(&s); /* unknown kind */
    say_frame(&s, (struct frame_header){.kind = 77}, "", 0);
    expect_goodbye(&s);

    greet(&s); /* HELLO twice */
    struct hello h = good_hello();
    say_hello(&s, &h);
    expect_goodbye(&s);

    greet(&s); /* garbage */
    buf_append(&s.say, "0123456789012345678901234567890123456789012345678901234567890", 60);
    expect_goodbye(&s);

    greet(&s); /* wrong checksum */
    say_subscribe(&s, 1);
    s.say.data[s.say.len - 1] ^= 1;
    expect_goodbye(&s);

    greet(&s); /* one byte more than a frame may have, and no byte of it follows */
    say_frame(&s, (struct frame_header){.kind = 16}, "", 0);
    uint32_t beyond = FRAME_PAYLOAD_MAX + 1;
    memcpy(s.say.data + s.say.len - FRAME_HEADER_LEN + 4, &beyond, sizeof(beyond));
    memcpy(s.say.data + s.say.len - FRAME_HEADER_LEN + 40, &beyond, sizeof(beyond));
    expect_goodbye(&s);

    greet(&s); /* a payload without a checksum, as only TLS makes good for */
    uint8_t head[FRAME_HEADER_LEN];
    frame_encode(head, &(struct frame_header){.kind = 16, .length = 5, .total = 5,
                                              .flags = FRAME_FLAGS | FRAME_SEALED}, "short");
    buf_append(&s.say, head, sizeof(head));
    buf_append(&s.say, "short", 5);
    expect_goodbye(&s);
}

/* What a session that hangs in the middle of something holds is freed with it. */
static void expect_silence_ends(struct scene *s)
{
    play(s, 9 * SECOND);
    CU_ASSERT_FALSE(s->hung_up);
    run_for(s, 4 * SECOND);
    CU_ASSERT_TRUE(s->hung_up);
    CU_ASSERT_EQUAL(gauge(s->storage_metrics, "tailrace_boundary_sessions", ""), 0);
    scene_end(s);
}

static void test_bad_subscriptions(void)
{
    struct scene s;
    struct frame_header h = {0};
    greet(&s);
    s.tick_us = 1000 * SECOND; /* no data meanwhile */
    say_subscribe(&s, 1);
    say_subscribe(&s, 2);
    say_frame(&s, (struct frame_header){.kind = 17, .stream = 9}, "", 0); /* unknown: ignored */
    play(&s, SECOND);
    CU_ASSERT_EQUAL(heard_frame(&s, 0, &h), FRAME_WELCOME);
    CU_ASSERT_FALSE(s.hung_up);
    CU_ASSERT_EQUAL(gauge(s.storage_metrics, "tailrace_boundary_subscriptions",
                          "worker=\"0\""), 2);
    scene_end(&s);

    greet(&s);
    s.tick_us = 1000 * SECOND;
    say_subscribe(&s, 1);
    say_subscribe(&s, 1); /* duplicate */
    expect_goodbye(&s);

    greet(&s);
    s.tick_us = 1000 * SECOND;
    say_subscribe(&s, 1);
    say_frame(&s, (struct frame_header){.kind = 18, .stream = 1, .a = 9}, "", 0); /* credit down */
    expect_goodbye(&s);
}

static void test_silence(void)
{
    struct scene s;
    scene_init(&s, NULL); /* says nothing at all */
    buf_append(&s.say, "", 1);
    s.say.len = 0;
    play(&s, 4 * SECOND);
    CU_ASSERT_FALSE(s.hung_up);
    run_for(&s, 3 * SECOND);
    CU_ASSERT_TRUE(s.hung_up);
    scene_end(&s);

    greet(&s); /* greets, then neither speaks nor pings */
    expect_silence_ends(&s);

    greet(&s); /* half a header, half a payload, and one of two fragments */
    say_frame(&s, (struct frame_header){.kind = 16, .stream = 1}, "a payload", 9);
    s.say.len -= 9 + FRAME_HEADER_LEN / 2;
    expect_silence_ends(&s);

    greet(&s);
    say_subscribe(&s, 1);
    s.say.len -= 7;
    expect_silence_ends(&s);

    greet(&s);
    uint8_t head[FRAME_HEADER_LEN];
    frame_encode(head, &(struct frame_header){.kind = 16, .flags = FRAME_FIRST, .length = 5,
                                              .total = FRAME_MESSAGE_MAX}, "first");
    buf_append(&s.say, head, sizeof(head));
    buf_append(&s.say, "first", 5);
    expect_silence_ends(&s);
}

/* An end in order between two bytes of a frame, and between two frames of a message. */
static void test_leaves(void)
{
    for (size_t whole = 0; whole < 2; whole++) {
        struct scene s;
        greet(&s);
        uint8_t head[FRAME_HEADER_LEN];
        frame_encode(head, &(struct frame_header){.kind = 16, .flags = FRAME_FIRST, .length = 5,
                                                  .total = 10}, "first");
        buf_append(&s.say, head, sizeof(head));
        buf_append(&s.say, "first", whole ? 5 : 4);
        s.leaves = true;
        play(&s, SECOND);
        CU_ASSERT_EQUAL(gauge(s.storage_metrics, "tailrace_boundary_sessions", ""), 0);
        scene_end(&s);
    }
}

/* Each byte comes in time, the handshake does not. */
static void test_drip(void)
{
    struct scene s;
    greet(&s);
    s.say_every_us = SECOND / 10;
    play(&s, 4 * SECOND);
    CU_ASSERT_FALSE(s.hung_up);
    CU_ASSERT_TRUE(s.said < s.say.len);
    run_for(&s, 2 * SECOND);
    CU_ASSERT_TRUE(s.hung_up);
    CU_ASSERT_EQUAL(gauge(s.storage_metrics, "tailrace_boundary_sessions", ""), 0);
    scene_end(&s);
}

static const struct test_case cases[] = {
    {"a paused subscription stalls itself alone", test_pause},
    {"giving up frees everything", test_give_up},
    {"refusals", test_refused},
    {"fencing", test_fenced},
    {"moving storage", test_move},
    {"bad handshakes", test_bad_hello},
    {"stale generation", test_stale_generation},
    {"bad messages", test_bad_messages},
    {"bad subscriptions", test_bad_subscriptions},
    {"silence", test_silence},
    {"an end inside a message", test_leaves},
    {"a handshake a byte at a time", test_drip},
};
TEST_SUITE("ring/boundary edges", cases)
