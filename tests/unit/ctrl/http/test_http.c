/* The HTTP server: its three paths, and what it does with bytes that are no HTTP. */
#include "core/base/assert.h"
#include "ctrl/http/http.h"
#include "tests/unit/ctrl/adapter/memory_stream.h"
#include "tests/unit/harness.h"

#include <stdio.h>

struct world {
    struct http_server *server;
    struct io_loop *loop;
    struct metrics_registry *registry;
    bool ready;
};

static bool is_ready(void *ctx, struct buf *reason)
{
    struct world *w = ctx;
    if (!w->ready) {
        buf_append_str(reason, "warming up");
    }
    return w->ready;
}

/* Sends bytes in pieces; the answer must contain every text, and the stream be open or closed. */
static void ask(struct world *w, const char *request, size_t piece, bool closed, const char *want,
                const char *also)
{
    struct memory_stream *s = memory_stream_new(w->loop);
    size_t len = strlen(request);
    http_server_accept(w->server, &s->base);
    for (size_t at = 0; at < len; at += piece) {
        memory_stream_feed(s, request + at, len - at < piece ? len - at : piece);
    }
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstr(&s->out), want));
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstr(&s->out), also));
    if (strstr(buf_cstr(&s->out), want) == NULL) {
        printf("to [%.60s]: [%s], want [%s]\n", request, buf_cstr(&s->out), want);
    }
    CU_ASSERT_EQUAL(s->closed, closed);
    memory_stream_hang_up(s);
    memory_stream_free(s);
}

static void paths(struct io_loop *loop, void *arg)
{
    struct world *w = arg;
    w->loop = loop;
    w->registry = metrics_registry_new();
    metric_add(metric_counter(w->registry, "tailrace_test_things_total", "", "Things."), 3);
    const struct http_config config = {.loop = loop,
                                       .address = "127.0.0.1:0",
                                       .registry = w->registry,
                                       .ready = is_ready,
                                       .ctx = w};
    err_t err = http_server_new(&config, &w->server);
    CU_ASSERT_PTR_NULL_FATAL(err);
    ask(w, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 1000, false, "HTTP/1.1 200 OK",
        "tailrace_test_things_total 3");
    ask(w, "GET /api/livez HTTP/1.1\r\n\r\n", 1, false, "HTTP/1.1 200 OK", "alive");
    ask(w, "GET /api/readyz HTTP/1.1\r\n\r\n", 7, false, "HTTP/1.1 503", "warming up");
    w->ready = true;
    ask(w, "GET /api/readyz?verbose HTTP/1.1\r\n\r\n", 7, false, "HTTP/1.1 200", "ready");
    ask(w, "HEAD /api/livez HTTP/1.1\r\n\r\n", 99, false, "Content-Length: 6", "\r\n\r\n");
    ask(w, "GET / HTTP/1.0\n\n", 99, true, "HTTP/1.1 404", "Connection: close");
    ask(w, "GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", 99, true, "404", "");
    ask(w, "POST /metrics HTTP/1.1\r\n\r\n", 99, false, "HTTP/1.1 405", "Allow: GET, HEAD");
    ask(w, "GET /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 99, true, "HTTP/1.1 413", "");
    ask(w, "GET /api/livez HTTP/1.1\r\n\r\nGET /nope HTTP/1.1\r\n\r\n", 99, false, "alive", "404");
}

static void hostile(struct world *w)
{
    static const char *const bad[] = {
        "\x16\x03\x01\x02\n", "GET\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET / HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.1\r\n folded\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET x HTTP/1.1\r\n\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\n: empty\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ask(w, bad[i], 3, true, "HTTP/1.1 400", "Connection: close");
    }
    char *longest = mem_zalloc(20000);
    memset(longest, 'a', 19999);
    ask(w, longest, 4000, true, "HTTP/1.1 431", "");
    free(longest);
}

/* Asks and asks and takes no answer: the questions wait, in their order. */
static void deaf(struct world *w)
{
    struct memory_stream *s = memory_stream_new(w->loop);
    http_server_accept(w->server, &s->base);
    const char *request = "GET /api/livez HTTP/1.1\r\n\r\n";
    s->pending = 1 << 20;
    for (int i = 0; i < 2; i++) { /* the second as a delivery that was under way */
        memory_stream_feed(s, request, strlen(request));
    }
    CU_ASSERT_EQUAL(s->out.len, 0);
    CU_ASSERT_TRUE(s->paused);
    s->pending = 0;
    s->base.handler->drain(s->base.arg);
    CU_ASSERT_FALSE(s->paused);
    const char *first = strstr(buf_cstr(&s->out), "alive");
    CU_ASSERT_PTR_NOT_NULL_FATAL(first);
    CU_ASSERT_PTR_NOT_NULL(strstr(first + 1, "alive"));
    memory_stream_hang_up(s);
    memory_stream_free(s);
}

static void finish(void *arg)
{
    struct world *w = arg;
    hostile(w);
    deaf(w);
    http_server_free(w->server);
    metrics_registry_free(w->registry);
}

static void test_server(void)
{
    struct world w = {0};
    run_in_sim(paths, finish, &w, 1000);
}

struct idle {
    struct world w;
    struct memory_stream *stream;
};

static void stay_silent(struct io_loop *loop, void *arg)
{
    struct idle *idle = arg;
    const struct http_config config = {.loop = loop, .address = "127.0.0.1:0"};
    err_t err = http_server_new(&config, &idle->w.server);
    CU_ASSERT_PTR_NULL_FATAL(err);
    idle->stream = memory_stream_new(loop);
    http_server_accept(idle->w.server, &idle->stream->base);
}

static void after_silence(void *arg)
{
    struct idle *idle = arg;
    CU_ASSERT_TRUE(idle->stream->closed);
    http_server_free(idle->w.server);
    memory_stream_free(idle->stream);
}

static void test_idle(void)
{
    struct idle idle = {0};
    run_in_sim(stay_silent, after_silence, &idle, 31 * 1000 * 1000);
}

struct drip {
    struct idle idle;
    struct io_timer timer;
};

/* One more byte of a head that never ends, each ten seconds. */
static void drip_fired(struct io_timer *timer)
{
    struct drip *drip = CONTAINER_OF(timer, struct drip, timer);
    if (!drip->idle.stream->closed) {
        memory_stream_feed(drip->idle.stream, "G", 1);
        io_timer_start(drip->idle.w.loop, timer, io_now_us(drip->idle.w.loop) + 10000000);
    }
}

static void start_dripping(struct io_loop *loop, void *arg)
{
    struct drip *drip = arg;
    stay_silent(loop, &drip->idle);
    drip->idle.w.loop = loop;
    drip->timer.fire = drip_fired;
    io_timer_start(loop, &drip->timer, io_now_us(loop) + 10000000);
}

static void after_drips(void *arg)
{
    after_silence(&((struct drip *)arg)->idle);
}

/* Bytes that make no request do not keep a connection. */
static void test_drip(void)
{
    struct drip drip = {0};
    run_in_sim(start_dripping, after_drips, &drip, 45 * 1000 * 1000);
}

static const struct test_case cases[] = {
    {"paths and bad requests", test_server},
    {"idle connections are closed", test_idle},
    {"a byte now and then keeps no connection", test_drip},
};
TEST_SUITE("http", cases)
