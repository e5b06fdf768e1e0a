/* Streams on both implementations: echo, back-pressure, ends of every kind. */
#include "tests/unit/core/io/world.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- echo: many writes of all sizes, copied and borrowed, come back in order ----------------- */

enum { ECHO_BYTES = 6 * 1000 * 1000 };

struct echo {
    struct world world;
    const char *address;
    char path[128];
    struct io_listener *listener;
    struct io_stream *server;
    struct io_stream *client;
    uint8_t *sent;
    size_t sent_len;
    size_t released;
    size_t borrowed;
    size_t received;
    bool drained;
    bool server_closed;
    uint64_t random;
};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return *state >> 33;
}

static void echo_released(void *arg)
{
    ((struct echo *)arg)->released++;
}

/* Writes pieces of the bytes until back-pressure says stop. */
static void echo_feed(struct echo *echo)
{
    while (echo->sent_len < ECHO_BYTES && io_stream_pending(echo->client) < 300000) {
        size_t len = next_random(&echo->random) % 10 == 0 ? next_random(&echo->random) % 200000
                                                          : next_random(&echo->random) % 300;
        size_t left = ECHO_BYTES - echo->sent_len;
        len = len < left ? len : left;
        if (next_random(&echo->random) % 2 == 0) {
            io_stream_write(echo->client, echo->sent + echo->sent_len, len);
        } else {
            echo->borrowed++;
            io_stream_write_ref(echo->client, echo->sent + echo->sent_len, len, echo_released,
                                echo);
        }
        echo->sent_len += len;
    }
}

static void echo_server_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                             size_t fds_len)
{
    struct echo *echo = arg;
    CU_ASSERT(fds_len == 0);
    io_stream_write(echo->server, data, len);
    if (io_stream_pending(echo->server) > 1000000) {
        io_stream_pause(echo->server);
    }
}

static void echo_server_drain(void *arg)
{
    struct echo *echo = arg;
    io_stream_resume(echo->server);
}

static void echo_server_close(void *arg, err_t reason)
{
    struct echo *echo = arg;
    expect_ok(reason);
    echo->server_closed = true;
    io_loop_stop(echo->world.loop);
}

static const struct io_stream_handler echo_server = {
    .data = echo_server_data,
    .drain = echo_server_drain,
    .close = echo_server_close,
};

static void echo_client_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                             size_t fds_len)
{
    struct echo *echo = arg;
    CU_ASSERT_FATAL(echo->received + len <= ECHO_BYTES);
    CU_ASSERT(memcmp(data, echo->sent + echo->received, len) == 0);
    echo->received += len;
    if (echo->received == ECHO_BYTES) {
        io_stream_close(echo->client);
        echo->client = NULL;
        io_listener_close(echo->listener);
    }
}

static void echo_client_drain(void *arg)
{
    struct echo *echo = arg;
    CU_ASSERT(io_stream_pending(echo->client) == 0);
    echo->drained = true;
    echo_feed(echo);
}

static void echo_client_close(void *arg, err_t reason)
{
    expect_ok(reason);
    CU_FAIL("the server closed");
}

static const struct io_stream_handler echo_client = {
    .data = echo_client_data,
    .drain = echo_client_drain,
    .close = echo_client_close,
};

static void echo_accepted(void *arg, struct io_stream *stream)
{
    struct echo *echo = arg;
    CU_ASSERT(echo->server == NULL);
    CU_ASSERT(strlen(io_stream_peer(stream)) > 0);
    CU_ASSERT(strcmp(io_stream_peer_name(stream), "") == 0);
    echo->server = stream;
    io_stream_set_handler(stream, &echo_server, echo);
    io_stream_set_high_water(stream, 500000);
}

static void echo_connected(void *arg, struct io_stream *stream)
{
    struct echo *echo = arg;
    CU_ASSERT(stream == echo->client);
    io_stream_set_high_water(stream, 100000);
    echo_feed(echo);
}

static void echo_start(struct io_loop *loop, void *arg)
{
    struct echo *echo = arg;
    if (echo->address == NULL) {
        snprintf(echo->path, sizeof(echo->path), "unix:%s/socket", echo->world.dir);
        echo->address = echo->path;
    }
    expect_ok(io_listen(loop, echo->address, echo_accepted, echo, &echo->listener));
    expect_ok(io_connect(loop, io_listener_address(echo->listener), &echo_client, echo,
                         echo_connected, &echo->client));
}

static void echo_run(enum world_kind kind, const char *address)
{
    struct echo echo = {.address = address, .sent = mem_alloc(ECHO_BYTES), .random = 7};
    for (size_t i = 0; i < ECHO_BYTES; i++) {
        echo.sent[i] = (uint8_t)next_random(&echo.random);
    }
    world_run(&echo.world, kind, echo_start, &echo);
    CU_ASSERT(echo.received == ECHO_BYTES);
    CU_ASSERT(echo.released == echo.borrowed && echo.borrowed > 100);
    CU_ASSERT(echo.drained);
    CU_ASSERT(echo.server_closed);
    free(echo.sent);
}

static void echo_tcp(enum world_kind kind)
{
    echo_run(kind, "127.0.0.1:0");
}
ON_BOTH(echo_tcp)
ON_OLD(echo_tcp)

static void echo_unix_real(void)
{
    echo_run(WORLD_REAL, NULL);
}

static void echo_v6_real(void)
{
    echo_run(WORLD_REAL, "[::1]:0");
}

/* ---- many streams at once: more than there are receive buffers ------------------------------- */

enum { MANY = 120, MANY_BYTES = 150000 };

struct many;
struct many_side {
    struct many *many;
    struct io_stream *stream;
    size_t got;
};
struct many {
    struct world world;
    struct io_listener *listener;
    struct many_side clients[MANY];
    struct many_side servers[MANY];
    unsigned accepted;
    unsigned finished;
    unsigned closed;
    uint8_t bytes[MANY_BYTES];
};

static void many_stop(struct many *many)
{
    if (many->finished == MANY && many->closed == MANY) {
        io_loop_stop(many->world.loop);
    }
}

static void many_check(struct many_side *side, const uint8_t *data, size_t len)
{
    CU_ASSERT_FATAL(side->got + len <= MANY_BYTES);
    CU_ASSERT(memcmp(data, side->many->bytes + side->got, len) == 0);
    side->got += len;
}

static void many_server_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                             size_t fds_len)
{
    struct many_side *side = arg;
    many_check(side, data, len);
    io_stream_write(side->stream, data, len);
}

static void many_client_data(void *arg, const uint8_t *data, size_t len, const int *fds,
                             size_t fds_len)
{
    struct many_side *side = arg;
    many_check(side, data, len);
    if (side->got == MANY_BYTES) {
        io_stream_finish(side->stream);
        side->many->finished++;
        many_stop(side->many);
    }
}

static void many_server_close(void *arg, err_t reason)
{
    struct many_side *side = arg;
    expect_ok(reason);
    CU_ASSERT(side->got == MANY_BYTES);
    side->many->closed++;
    many_stop(side->many);
}

static void many_client_close(void *arg, err_t reason)
{
    expect_ok(reason);
    CU_FAIL("closed early");
}

static const struct io_stream_handler many_server = {
    .data = many_server_data,
    .close = many_server_close,
};
static const struct io_stream_handler many_client = {
    .data = many_client_data,
    .close = many_client_close,
};

static void many_accepted(void *arg, struct io_stream *stream)
{
    struct many *many = arg;
    CU_ASSERT_FATAL(many->accepted < MANY);
    struct many_side *side = &many->servers[many->accepted++];
    side->many = many;
    side->stream = stream;
    io_stream_set_handler(stream, &many_server, side);
    if (many->accepted == MANY) {
        io_listener_close(many->listener); /* from inside its own callback */
    }
}

static void many_start(struct io_loop *loop, void *arg)
{
    struct many *many = arg;
    expect_ok(io_listen(loop, "127.0.0.1:0", many_accepted, many, &many->listener));
    for (size_t i = 0; i < MANY; i++) {
        struct many_side *side = &many->clients[i];
        side->many = many;
        expect_ok(io_connect(loop, io_listener_address(many->listener), &many_client, side, NULL,
                             &side->stream));
        io_stream_write_ref(side->stream, many->bytes, MANY_BYTES, NULL, NULL);
    }
}

static void many_streams(enum world_kind kind)
{
    struct many *many = MEM_NEW(struct many);
    uint64_t random = 3;
    for (size_t i = 0; i < MANY_BYTES; i++) {
        many->bytes[i] = (uint8_t)next_random(&random);
    }
    world_run(&many->world, kind, many_start, many);
    CU_ASSERT(many->finished == MANY);
    free(many);
}
ON_BOTH(many_streams)
ON_OLD(many_streams)

static const struct test_case cases[] = {
    {"echo tcp real", echo_tcp_real},
    {"echo tcp on an old kernel", echo_tcp_old},
    {"echo tcp sim", echo_tcp_sim},
    {"many streams, real", many_streams_real},
    {"many streams, old", many_streams_old},
    {"many streams, sim", many_streams_sim},
    {"echo unix", echo_unix_real},
    {"echo ipv6", echo_v6_real},
};
TEST_SUITE("core/io/streams", cases)
