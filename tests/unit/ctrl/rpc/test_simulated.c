/*
 * ctrl/rpc in the simulator: delays, cut connections, killed processes, hostile bytes. The client
 * keeps one echo stream open and numbers its messages; whatever happens, answers come in order and
 * without gaps, each call is closed exactly once, and nothing is leaked.
 */
#include "core/base/log.h"
#include "core/io/sim.h"
#include "ctrl/rpc/rpc.h"
#include "tests/unit/harness.h"

#include <stdio.h>

/* ---- the server process ---------------------------------------------------------------------- */

struct server {
    struct rpc_server *rpc;
    size_t open;
    size_t *opened; /* over all server processes */
    size_t *closed;
};

static void *echo_open(void *arg, struct rpc_call *call)
{
    struct server *server = arg;
    server->open++;
    ++*server->opened;
    return server;
}

static void echo_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    rpc_call_send(call, data, len);
}

static void echo_half_close(void *arg, struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, "");
}

static void echo_close(void *arg, struct rpc_call *call, enum rpc_status status,
                       const char *message)
{
    struct server *server = arg;
    server->open--;
    ++*server->closed;
}

static const struct rpc_handler echo = {
    .message = echo_message, .half_close = echo_half_close, .close = echo_close};

static void server_start(struct io_loop *loop, void *arg)
{
    struct server *server = arg;
    err_t err = rpc_server_new(loop, "server:2100", NULL, NULL, &server->rpc);
    CU_ASSERT_PTR_NULL_FATAL(err);
    rpc_server_add_method(
        server->rpc, (struct rpc_method){
                         .path = "/t.T/Echo", .handler = &echo, .open = echo_open, .arg = server});
}

static void server_destroy(void *arg)
{
    struct server *server = arg;
    rpc_server_free(server->rpc);
    CU_ASSERT_EQUAL(server->open, 0);
    free(server);
}

/* ---- the client process ---------------------------------------------------------------------- */

struct client {
    struct io_loop *loop;
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL between calls */
    struct io_timer timer;
    uint32_t sent; /* on this call */
    uint32_t received;
    uint64_t total; /* over all calls */
    size_t calls;
    size_t closes;
    bool wrong;
    bool stop; /* half closes the next time */
    bool finished;
    struct rpc_options options;
};

static void client_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct client *client = arg;
    uint32_t number;
    client->wrong = client->wrong || len < 4;
    memcpy(&number, data, 4);
    client->wrong = client->wrong || number != client->received || call != client->call;
    client->received++;
    client->total++;
}

static void client_close(void *arg, struct rpc_call *call, enum rpc_status status,
                         const char *message)
{
    struct client *client = arg;
    client->closes++;
    client->call = NULL;
    client->wrong = client->wrong || (status == RPC_OK && client->received != client->sent);
    client->wrong =
        client->wrong || (status != RPC_OK && status != RPC_UNAVAILABLE && status != RPC_CANCELLED);
    client->finished = client->stop && status == RPC_OK;
}

static const struct rpc_handler client_handler = {.message = client_message, .close = client_close};

static void client_tick(struct io_timer *timer)
{
    struct client *client = CONTAINER_OF(timer, struct client, timer);
    if (client->finished) {
        return;
    }
    if (client->call == NULL) {
        client->sent = client->received = 0;
        client->calls++;
        err_t err = rpc_call_start(client->channel, "/t.T/Echo", 0, NULL, 0, &client_handler,
                                   client, &client->call);
        CU_ASSERT_PTR_NULL_FATAL(err);
    }
    uint8_t message[3000] = {0};
    for (int i = 0; i < 5; i++) {
        memcpy(message, &client->sent, 4);
        rpc_call_send(client->call, message, 4 + client->sent * 7 % (sizeof(message) - 4));
        client->sent++;
    }
    if (client->stop) {
        rpc_call_half_close(client->call);
    } else {
        io_timer_start(client->loop, timer, io_now_us(client->loop) + 3000);
        return;
    }
    io_timer_start(client->loop, timer, io_now_us(client->loop) + 200000); /* if it gets lost */
}

static void client_start(struct io_loop *loop, void *arg)
{
    struct client *client = arg;
    client->loop = loop;
    client->timer.fire = client_tick;
    err_t err =
        rpc_channel_new(loop, "server:2100", NULL, NULL, &client->options, &client->channel);
    CU_ASSERT_PTR_NULL_FATAL(err);
    io_timer_start(loop, &client->timer, io_now_us(loop));
}

static void client_destroy(void *arg)
{
    struct client *client = arg;
    rpc_channel_free(client->channel);
    CU_ASSERT_PTR_NULL(client->call);
}

/* ---- runs with faults ------------------------------------------------------------------------ */

struct outcome {
    uint64_t hash;
    uint64_t total;
    size_t calls;
};

static struct sim_process *start_server(struct sim *sim, size_t *opened, size_t *closed)
{
    struct server *server = MEM_NEW(struct server);
    server->opened = opened;
    server->closed = closed;
    return sim_process_start(sim, "server", "server", server_start, server_destroy, server);
}

static struct outcome faulty_run(uint64_t seed)
{
    struct sim_config config = sim_config_default(seed);
    struct sim *sim = sim_new(&config);
    size_t opened = 0;
    size_t closed = 0;
    struct client client = {0};
    struct sim_process *server = start_server(sim, &opened, &closed);
    struct sim_process *process =
        sim_process_start(sim, "client", "client", client_start, client_destroy, &client);
    for (int round = 0; round < 20; round++) {
        sim_run_until(sim, sim_now_us(sim) + 1000 + sim_random(sim) % 30000);
        switch (sim_random(sim) % 4) {
        case 0:
            sim_process_kill(sim, server);
            sim_run_until(sim, sim_now_us(sim) + sim_random(sim) % 10000);
            server = start_server(sim, &opened, &closed);
            break;
        case 1:
            sim_cut_connections(sim, process);
            break;
        default:
            break;
        }
    }
    client.stop = true;
    sim_run_until(sim, sim_now_us(sim) + 5000000);
    struct outcome outcome = {sim_trace_hash(sim), client.total, client.calls};
    CU_ASSERT_FALSE(client.wrong);
    CU_ASSERT(client.finished);
    CU_ASSERT_EQUAL(client.calls, client.closes);
    sim_free(sim);
    CU_ASSERT_EQUAL(opened, closed);
    return outcome;
}

static void test_faults(void)
{
    uint64_t total = 0;
    size_t calls = 0;
    uint64_t seeds = test_scaled(200);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct outcome outcome = faulty_run(seed);
        total += outcome.total;
        calls += outcome.calls;
    }
    CU_ASSERT(total > 100 * seeds);
    CU_ASSERT(calls > 5 * seeds); /* faults did break calls */
}

static void test_same_seed_same_trace(void)
{
    for (uint64_t seed = 500; seed < 510; seed++) {
        struct outcome first = faulty_run(seed);
        struct outcome second = faulty_run(seed);
        CU_ASSERT_EQUAL(first.hash, second.hash);
        CU_ASSERT_EQUAL(first.total, second.total);
    }
}

/* A partition sends nothing, not even a reset: only the keep-alive notices. */
static void test_partition_is_noticed(void)
{
    struct sim_config config = sim_config_default(7);
    struct sim *sim = sim_new(&config);
    size_t opened = 0;
    size_t closed = 0;
    struct client client = {.options = {.keepalive_us = 1000000, .keepalive_wait_us = 500000}};
    start_server(sim, &opened, &closed);
    sim_process_start(sim, "client", "client", client_start, client_destroy, &client);
    sim_run_until(sim, 100000);
    CU_ASSERT_EQUAL(client.closes, 0);
    sim_partition(sim, "client", "server", true);
    sim_run_until(sim, 3000000);
    CU_ASSERT(client.closes >= 1);
    sim_partition(sim, "client", "server", false);
    sim_run_until(sim, 20000000);
    client.stop = true;
    sim_run_until(sim, 30000000);
    CU_ASSERT(client.finished);
    CU_ASSERT_FALSE(client.wrong);
    sim_free(sim);
}

/* ---- hostile bytes --------------------------------------------------------------------------- */

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"

struct attacker {
    const char *bytes;
    size_t len;
    size_t repeat;
    struct io_stream *stream;
    size_t received;
    bool connected;
    bool closed;
};

static void attacker_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                          size_t fds_len)
{
    ((struct attacker *)arg)->received += len;
}

static void attacker_close(void *arg, err_t reason)
{
    struct attacker *attacker = arg;
    err_free(reason);
    attacker->closed = true;
    attacker->stream = NULL;
}

static const struct io_stream_handler attacker_handler = {.data = attacker_data,
                                                          .close = attacker_close};

static void attacker_connected(void *arg, struct io_stream *stream)
{
    struct attacker *attacker = arg;
    attacker->connected = true;
    io_stream_write(stream, PREFACE SETTINGS, sizeof(PREFACE SETTINGS) - 1);
    for (size_t i = 0; i <= attacker->repeat; i++) {
        io_stream_write(stream, attacker->bytes, attacker->len);
    }
}

static void attacker_start(struct io_loop *loop, void *arg)
{
    struct attacker *attacker = arg;
    err_t err = io_connect(loop, "server:2100", &attacker_handler, attacker, attacker_connected,
                           &attacker->stream);
    CU_ASSERT_PTR_NULL_FATAL(err);
}

static void attacker_destroy(void *arg)
{
    struct attacker *attacker = arg;
    io_stream_close(attacker->stream);
}

/* The server must close on the attacker, and go on serving others. */
static void attack(const char *bytes, size_t len, size_t repeat, bool must_close)
{
    struct sim_config config = sim_config_default(len + repeat);
    struct sim *sim = sim_new(&config);
    size_t opened = 0;
    size_t closed = 0;
    struct client client = {0};
    struct attacker attacker = {.bytes = bytes, .len = len, .repeat = repeat};
    start_server(sim, &opened, &closed);
    sim_run_until(sim, 10000); /* it listens */
    sim_process_start(sim, "client", "client", client_start, client_destroy, &client);
    sim_process_start(sim, "attacker", "attacker", attacker_start, attacker_destroy, &attacker);
    sim_run_until(sim, 1000000);
    CU_ASSERT(attacker.connected);
    CU_ASSERT_EQUAL(attacker.closed, must_close);
    CU_ASSERT_EQUAL(client.closes, 0);
    client.stop = true;
    sim_run_until(sim, 2000000);
    CU_ASSERT(client.finished);
    sim_free(sim);
    CU_ASSERT_EQUAL(opened, closed);
}

/* HEADERS of stream 1: POST /t.T/Echo, content-type application/grpc, with literal fields. */
#define FIELD(name, name_len, value, value_len) "\0" name_len name value_len value
#define REQUEST_FIELDS                       \
    FIELD(":method", "\7", "POST", "\4")     \
    FIELD(":scheme", "\7", "http", "\4")     \
    FIELD(":path", "\5", "/t.T/Echo", "\11") \
    FIELD("content-type", "\14", "application/grpc", "\20")
#define REQUEST_LEN (sizeof(REQUEST_FIELDS) - 1)

static size_t put_frame(char *out, char type, char flags, char stream, const char *body, size_t len)
{
    const char head[9] = {
        (char)(len >> 16), (char)(len >> 8), (char)len, type, flags, 0, 0, 0, stream};
    memcpy(out, head, 9);
    memcpy(out + 9, body, len);
    return len + 9;
}

static void test_not_http2(void)
{
    attack("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, 0, true);
    attack("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, 0, true);
}

static void test_bad_frames(void)
{
    attack("\0\0\4\0\0\0\0\0\0oops", 13, 0, true);                 /* DATA on stream 0 */
    attack("\0\0\1\4\0\0\0\0\0x", 10, 0, true);                    /* SETTINGS of 1 byte */
    attack("\0\0\4\10\0\0\0\0\0\0\0\0\0", 13, 0, true);            /* WINDOW_UPDATE of 0 */
    attack("\0\0\5\1\4\0\0\0\1\xff\xff\xff\xff\xff", 14, 0, true); /* broken HPACK */
    attack("\0\0\0\11\0\0\0\0\1", 9, 0, true);                     /* CONTINUATION alone */
}

static void test_floods(void)
{
    attack("\0\0\10\6\0\0\0\0\0pingpong", 17, 500, false);  /* each is answered */
    attack("\0\0\10\6\0\0\0\0\0pingpong", 17, 50000, true); /* more than answers may queue */
    attack("\0\0\0\4\0\0\0\0\0", 9, 50000, true);
}

static void test_bad_messages(void)
{
    static const struct {
        const char *data;
        size_t len;
    } bodies[] = {
        {"\2\0\0\0\0", 5},         /* unknown flag */
        {"\1\0\0\0\1x", 6},        /* compressed */
        {"\0\x7f\xff\xff\xff", 5}, /* 2 GiB */
        {"\0\0\0\0\x09short", 10}, /* cut, then the stream ends */
        {"\0\0", 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        char bytes[512];
        size_t len = put_frame(bytes, 1, 4, 1, REQUEST_FIELDS, REQUEST_LEN);
        len += put_frame(bytes + len, 0, 1, 1, bodies[i].data, bodies[i].len);
        attack(bytes, len, 0, false); /* the call fails, the connection is fine */
    }
}

static void test_resets(void)
{
    char bytes[512];
    size_t len = put_frame(bytes, 1, 4, 1, REQUEST_FIELDS, REQUEST_LEN);
    len += put_frame(bytes + len, 3, 0, 1, "\0\0\0\10", 4);
    attack(bytes, len, 0, false);
    len = put_frame(bytes, 3, 0, 1, "\0\0\0\10", 4); /* of a stream that never was */
    attack(bytes, len, 0, true);
}

static void test_not_grpc(void)
{
    char bytes[512];
    const char get[] = FIELD(":method", "\7", "GET", "\3") FIELD(":scheme", "\7", "http", "\4")
        FIELD(":path", "\5", "/t.T/Echo", "\11");
    size_t len = put_frame(bytes, 1, 5, 1, get, sizeof(get) - 1);
    attack(bytes, len, 0, false);
    const char text[] = FIELD(":method", "\7", "POST", "\4") FIELD(":scheme", "\7", "http", "\4")
        FIELD(":path", "\5", "/t.T/Echo", "\11") FIELD("content-type", "\14", "text/plain", "\12");
    len = put_frame(bytes, 1, 5, 1, text, sizeof(text) - 1);
    attack(bytes, len, 0, false);
}

static void test_silent_connection_is_closed(void)
{
    struct sim_config config = sim_config_default(3);
    struct sim *sim = sim_new(&config);
    size_t opened = 0;
    size_t closed = 0;
    struct attacker attacker = {.bytes = "", .len = 0};
    struct server *server = MEM_NEW(struct server);
    server->opened = &opened;
    server->closed = &closed;
    sim_process_start(sim, "server", "server", server_start, server_destroy, server);
    sim_run_until(sim, 10000);
    sim_process_start(sim, "attacker", "attacker", attacker_start, attacker_destroy, &attacker);
    sim_run_until(sim, 9000000);
    CU_ASSERT_FALSE(attacker.closed);
    sim_run_until(sim, 40000000); /* never answers a PING */
    CU_ASSERT(attacker.closed);
    sim_free(sim);
}

/* ---- health ---------------------------------------------------------------------------------- */

struct watcher {
    struct server server;
    size_t opened;
    size_t closed;
    struct rpc_channel *channel;
    struct rpc_call *call;
    struct io_timer timer;
    int step;
    enum rpc_status status;
    bool drained;
    char states[16]; /* the status of each message */
    size_t states_len;
};

static void watch_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct watcher *watcher = arg;
    CU_ASSERT_FATAL(watcher->states_len < sizeof(watcher->states) - 1);
    watcher->states[watcher->states_len++] = len == 2 ? (char)('0' + data[1]) : '?';
}

static void watch_close(void *arg, struct rpc_call *call, enum rpc_status status,
                        const char *message)
{
    struct watcher *watcher = arg;
    watcher->call = NULL;
    watcher->status = status;
}

static const struct rpc_handler watch_handler = {.message = watch_message, .close = watch_close};

static void watch_drained(void *arg)
{
    ((struct watcher *)arg)->drained = true;
}

static void watch_step(struct io_timer *timer)
{
    struct watcher *watcher = CONTAINER_OF(timer, struct watcher, timer);
    struct rpc_server *server = watcher->server.rpc;
    switch (watcher->step++) {
    case 0:
        rpc_server_set_health(server, "s", true);
        rpc_server_set_health(server, "other", false);
        break;
    case 1:
        rpc_server_set_health(server, "s", true); /* no change, no message */
        rpc_server_set_health(server, "s", false);
        break;
    case 2:
        rpc_server_set_health(server, "s", true);
        break;
    default:
        rpc_server_drain(server, watch_drained, watcher);
        return;
    }
    io_timer_start(rpc_call_loop(watcher->call), timer,
                   io_now_us(rpc_call_loop(watcher->call)) + 1000000);
}

static void watcher_start(struct io_loop *loop, void *arg)
{
    struct watcher *watcher = arg;
    watcher->server.opened = &watcher->opened;
    watcher->server.closed = &watcher->closed;
    server_start(loop, &watcher->server);
    CU_ASSERT_PTR_NULL_FATAL(
        rpc_channel_new(loop, "server:2100", NULL, NULL, NULL, &watcher->channel));
    CU_ASSERT_PTR_NULL_FATAL(rpc_call_start(watcher->channel, "/grpc.health.v1.Health/Watch", 0,
                                            NULL, 0, &watch_handler, watcher, &watcher->call));
    rpc_call_send(watcher->call, "\n\1s", 3);
    rpc_call_half_close(watcher->call);
    watcher->timer.fire = watch_step;
    io_timer_start(loop, &watcher->timer, io_now_us(loop) + 1000000);
}

static void watcher_destroy(void *arg)
{
    struct watcher *watcher = arg;
    rpc_channel_free(watcher->channel);
    rpc_server_free(watcher->server.rpc);
}

static void test_health_watch(void)
{
    struct sim_config config = sim_config_default(9);
    struct sim *sim = sim_new(&config);
    struct watcher watcher = {0};
    sim_process_start(sim, "server", "both", watcher_start, watcher_destroy, &watcher);
    sim_run_until(sim, 8000000);
    /* SERVICE_UNKNOWN, SERVING, NOT_SERVING, SERVING, and NOT_SERVING when the server drains */
    CU_ASSERT_STRING_EQUAL(watcher.states, "31212");
    CU_ASSERT_EQUAL(watcher.status, RPC_UNAVAILABLE);
    CU_ASSERT(watcher.drained); /* a watcher does not hold it up */
    sim_free(sim);
}

static const struct test_case cases[] = {
    {"200 runs with faults", test_faults},
    {"the same seed gives the same trace", test_same_seed_same_trace},
    {"a partition is noticed", test_partition_is_noticed},
    {"not HTTP/2", test_not_http2},
    {"bad frames", test_bad_frames},
    {"floods", test_floods},
    {"bad messages", test_bad_messages},
    {"resets", test_resets},
    {"HTTP/2 that is not gRPC", test_not_grpc},
    {"a silent connection is closed", test_silent_connection_is_closed},
    {"health is watched, also while draining", test_health_watch},
};
TEST_SUITE("ctrl/rpc/simulated", cases)
