/*
 * Goodbyes that cross a call: a client that says GOAWAY while its call runs, and a server that goes
 * away after that. The client is nghttp2 itself, since our channels send no GOAWAY of their own.
 */
#include "tests/unit/ctrl/rpc/rpc_world.h"

#include <nghttp2/nghttp2.h>

struct client {
    struct world *world;
    struct io_stream *stream;
    nghttp2_session *http2;
    int32_t call;
    int32_t goodbyes[4]; /* the last stream each GOAWAY of the server named */
    int goodbyes_len;
    int goodbyes_due;
    bool half_close; /* the request ends with the next look */
    bool call_over;
    uint32_t call_error;
    bool drained;
};

/* Everything nghttp2 has to say, to the server. */
static void client_flush(struct client *c)
{
    const uint8_t *data;
    ssize_t len;
    while (c->stream != NULL && (len = nghttp2_session_mem_send(c->http2, &data)) > 0) {
        io_stream_write(c->stream, data, (size_t)len);
    }
}

static void client_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct client *c = arg;
    CU_ASSERT_EQUAL(nghttp2_session_mem_recv(c->http2, data, len), (ssize_t)len);
    client_flush(c);
}

static void client_closed(void *arg, err_t reason)
{
    struct client *c = arg;
    c->stream = NULL;
    err_free(reason);
}

static const struct io_stream_handler client_handler = {.data = client_data,
                                                        .close = client_closed};

static int on_frame(nghttp2_session *http2, const nghttp2_frame *frame, void *user)
{
    struct client *c = user;
    if (frame->hd.type == NGHTTP2_GOAWAY && c->goodbyes_len < (int)ARRAY_LEN(c->goodbyes)) {
        c->goodbyes[c->goodbyes_len++] = frame->goaway.last_stream_id;
    }
    return 0;
}

static int on_close(nghttp2_session *http2, int32_t stream, uint32_t error, void *user)
{
    struct client *c = user;
    if (stream == c->call) {
        c->call_over = true;
        c->call_error = error;
    }
    return 0;
}

/* No message at all: the request is open until half_close. */
static ssize_t read_body(nghttp2_session *http2, int32_t stream, uint8_t *buf, size_t len,
                         uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct client *c = user;
    if (!c->half_close) {
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return 0;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)name, .value = (uint8_t *)value,
                        .namelen = strlen(name), .valuelen = strlen(value)};
}

static void client_connected(void *arg, struct io_stream *stream)
{
    struct client *c = arg;
    const nghttp2_nv headers[] = {
        header(":method", "POST"),  header(":scheme", "http"),
        header(":path", "/t.T/Echo"), header(":authority", "test"),
        header("te", "trailers"),   header("content-type", "application/grpc"),
    };
    nghttp2_data_provider body = {.read_callback = read_body};
    nghttp2_session_callbacks *callbacks;
    CU_ASSERT_EQUAL_FATAL(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    CU_ASSERT_EQUAL_FATAL(nghttp2_session_client_new(&c->http2, callbacks, c), 0);
    nghttp2_session_callbacks_del(callbacks);
    CU_ASSERT_EQUAL(nghttp2_submit_settings(c->http2, NGHTTP2_FLAG_NONE, NULL, 0), 0);
    c->call = nghttp2_submit_request(c->http2, NULL, headers, ARRAY_LEN(headers), &body, NULL);
    CU_ASSERT_TRUE(c->call > 0);
    client_flush(c);
}

static struct client the_client; /* of the case that runs */

static void look(struct world *world);

static void client_drained(void *arg)
{
    struct client *c = &the_client;
    CU_ASSERT_TRUE(c->call_over); /* the call that ran came first */
    c->drained = true;
}

/* The server has said goodbye and the call still runs: now it ends, in order. */
static void finish(struct world *world)
{
    struct client *c = &the_client;
    CU_ASSERT_FALSE(c->drained);
    CU_ASSERT_FALSE(c->call_over);
    CU_ASSERT_EQUAL(world->server_closed, 0);
    c->half_close = true;
    CU_ASSERT_EQUAL(nghttp2_session_resume_data(c->http2, c->call), 0);
    client_flush(c);
    world_later(world, 5, look);
}

static void look(struct world *world)
{
    struct client *c = &the_client;
    if (!c->half_close && c->goodbyes_len == c->goodbyes_due) {
        finish(world);
    } else if (c->drained) {
        if (c->stream != NULL) { /* the server closes it, or is about to */
            io_stream_close(c->stream);
            c->stream = NULL;
        }
        world_done(world);
    } else {
        world_later(world, 5, look); /* world_run limits how long */
    }
}

/* The call runs; the client's goodbye, if any, is on its way before the server's begins. */
static void drain_now(struct world *world)
{
    CU_ASSERT_EQUAL(world->server_opened, 1);
    CU_ASSERT_EQUAL(the_client.goodbyes_len, 0);
    rpc_server_drain(world->server, client_drained, world);
    world_later(world, 5, look);
}

static void goodbye_now(struct world *world)
{
    struct client *c = &the_client;
    CU_ASSERT_EQUAL(world->server_opened, 1);
    CU_ASSERT_EQUAL(nghttp2_submit_goaway(c->http2, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL,
                                          0), 0);
    client_flush(c);
    world_later(world, 50, drain_now);
}

static void connect_client(struct world *world)
{
    the_client = (struct client){.world = world};
    CU_ASSERT_PTR_NULL_FATAL(io_connect(world->loop, world->address, &client_handler, &the_client,
                                        client_connected, &the_client.stream));
}

static void server_script(struct world *world)
{
    connect_client(world);
    the_client.goodbyes_due = 2; /* that it will go, then which call was the last it took */
    world_later(world, 50, drain_now);
}

static void both_script(struct world *world)
{
    connect_client(world);
    the_client.goodbyes_due = 1; /* no new calls can come: only which was the last */
    world_later(world, 50, goodbye_now);
}

static void play(void (*script)(struct world *world))
{
    /* No PING but the drain's own: the answer to another one would hide that it sent none. */
    struct rpc_options options = {.keepalive_us = 3600ULL * 1000 * 1000};
    struct world world = {.server_options = &options};
    struct client *c = &the_client;
    world_run(&world, script);
    CU_ASSERT_FALSE(world.timed_out);
    CU_ASSERT_EQUAL(world.server_closed, 1);
    CU_ASSERT_EQUAL(world.server_status, RPC_OK);
    CU_ASSERT_TRUE(c->call_over);
    CU_ASSERT_EQUAL(c->call_error, NGHTTP2_NO_ERROR);
    CU_ASSERT_EQUAL(c->goodbyes_len, c->goodbyes_due);
    CU_ASSERT_TRUE(c->goodbyes_due == 1 || c->goodbyes[0] == INT32_MAX);
    CU_ASSERT_EQUAL(c->goodbyes[c->goodbyes_due - 1], c->call);
    nghttp2_session_del(c->http2);
}

static void test_server_goes_away(void)
{
    play(server_script);
}

/* A server once took the client's goodbye for its own: it said nothing and never went away. */
static void test_both_go_away(void)
{
    play(both_script);
}

static const struct test_case cases[] = {
    {"the server goes away while a call runs", test_server_goes_away},
    {"so does the client before it", test_both_go_away},
};
TEST_SUITE("ctrl/rpc, goodbyes", cases)
