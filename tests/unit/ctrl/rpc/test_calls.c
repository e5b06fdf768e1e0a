/* ctrl/rpc: calls between our client and our server, in order and out of order. */
#include "tests/unit/ctrl/rpc/rpc_world.h"

/* ---- plain calls ----------------------------------------------------------------------------- */

static void unary_script(struct world *world)
{
    world_call(world, "/t.T/Echo", 5000);
    rpc_call_send(world->call, "hello", 5);
    rpc_call_half_close(world->call);
}

static void test_unary(void)
{
    struct world world = {0};
    world_run(&world, unary_script);
    CU_ASSERT_EQUAL(world.status, RPC_OK);
    CU_ASSERT_STRING_EQUAL(world.text, "");
    CU_ASSERT_EQUAL(world.messages, 1);
    CU_ASSERT_EQUAL(world.bytes, 5);
    CU_ASSERT_EQUAL(world.headers, 1);
    CU_ASSERT_EQUAL(world.server_opened, 1);
    CU_ASSERT_EQUAL(world.server_closed, 1);
    CU_ASSERT_EQUAL(world.server_status, RPC_OK);
}

static void helper_done(void *arg, enum rpc_status status, const char *message,
                        const uint8_t *response, size_t len)
{
    struct world *world = arg;
    world->status = status;
    world->bytes = len;
    CU_ASSERT(len == 3 && memcmp(response, "abc", 3) == 0);
    world_done(world);
}

static void helper_script(struct world *world)
{
    CU_ASSERT_PTR_NULL(
        rpc_call_unary(world->channel, "/t.T/Echo", 0, "abc", 3, helper_done, world, NULL));
}

static void test_unary_helper(void)
{
    struct world world = {.status = RPC_UNKNOWN};
    world_run(&world, helper_script);
    CU_ASSERT_EQUAL(world.status, RPC_OK);
}

static void large_script(struct world *world)
{
    size_t len = 3000000;
    uint8_t *data = mem_zalloc(len);
    world_call(world, "/t.T/Echo", 0);
    rpc_call_send(world->call, data, len);
    rpc_call_send(world->call, data, 0);
    rpc_call_half_close(world->call);
    free(data);
}

static void test_large_and_empty(void)
{
    struct world world = {0};
    world_run(&world, large_script);
    CU_ASSERT_EQUAL(world.status, RPC_OK);
    CU_ASSERT_EQUAL(world.messages, 2);
    CU_ASSERT_EQUAL(world.bytes, 3000000);
}

static void ping_pong_message(struct world *world, const uint8_t *data, size_t len)
{
    if (world->messages == 1000) {
        rpc_call_half_close(world->call);
    } else {
        rpc_call_send(world->call, data, len + 1 > 100 ? 1 : len);
    }
}

static void ping_pong_script(struct world *world)
{
    world->on_message = ping_pong_message;
    world_call(world, "/t.T/Echo", 0);
    rpc_call_send(world->call, "x", 1);
}

static void test_ping_pong(void)
{
    struct world world = {0};
    world_run(&world, ping_pong_script);
    CU_ASSERT_EQUAL(world.status, RPC_OK);
    CU_ASSERT_EQUAL(world.messages, 1000);
}

static void status_script(struct world *world)
{
    const char *text = "100% wrong\n\xe2\x98\xba";
    struct rpc_metadata metadata[] = {{"status", "9", 1}, {"text-bin", text, strlen(text)}};
    world_call_metadata(world, "/t.T/Fail", 0, metadata, 2);
}

static void test_status_and_message(void)
{
    struct world world = {0};
    world_run(&world, status_script);
    CU_ASSERT_EQUAL(world.status, RPC_FAILED_PRECONDITION);
    CU_ASSERT_STRING_EQUAL(world.text, "100% wrong\n\xe2\x98\xba");
    CU_ASSERT_EQUAL(world.headers, 0); /* trailers only */
}

static void unknown_script(struct world *world)
{
    world_call(world, "/t.T/Nothing", 0);
}

static void test_unknown_method(void)
{
    struct world world = {0};
    world_run(&world, unknown_script);
    CU_ASSERT_EQUAL(world.status, RPC_UNIMPLEMENTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(world.text, "/t.T/Nothing"));
    CU_ASSERT_EQUAL(world.server_opened, 0);
}

/* ---- deadlines and cancellation -------------------------------------------------------------- */

static void deadline_script(struct world *world)
{
    world_call(world, "/t.T/Silent", 50);
}

static void test_deadline(void)
{
    struct world world = {0};
    world_run(&world, deadline_script);
    CU_ASSERT_EQUAL(world.status, RPC_DEADLINE_EXCEEDED);
}

static void wait_for_server_close(struct world *world)
{
    if (world->server_closed < world->server_opened || world->server_opened == 0) {
        world_later(world, 2, wait_for_server_close);
        return;
    }
    world_done(world);
}

static void cancel_now(struct world *world)
{
    rpc_call_cancel(world->call);
    rpc_call_cancel(world->call);
    CU_ASSERT_FALSE(world->closed); /* never from inside the call */
}

static void cancel_script(struct world *world)
{
    world->on_close = wait_for_server_close;
    world_call(world, "/t.T/Silent", 0);
    world_later(world, 30, cancel_now);
}

static void test_cancel_reaches_server(void)
{
    struct world world = {0};
    world_run(&world, cancel_script);
    CU_ASSERT_EQUAL(world.status, RPC_CANCELLED);
    CU_ASSERT_EQUAL(world.server_closed, 1);
    CU_ASSERT_EQUAL(world.server_status, RPC_CANCELLED);
}

static void cancel_early_script(struct world *world)
{
    world_call(world, "/t.T/Echo", 0);
    cancel_now(world);
}

static void test_cancel_while_connecting(void)
{
    struct world world = {0};
    world_run(&world, cancel_early_script);
    CU_ASSERT_EQUAL(world.status, RPC_CANCELLED);
}

static void cancel_inside_message(struct world *world, const uint8_t *data, size_t len)
{
    rpc_call_cancel(world->call);
}

static void cancel_inside_script(struct world *world)
{
    world->on_message = cancel_inside_message;
    world_call(world, "/t.T/Flood", 0);
}

static void test_cancel_inside_message(void)
{
    struct world world = {0};
    world_run(&world, cancel_inside_script);
    CU_ASSERT_EQUAL(world.status, RPC_CANCELLED);
    CU_ASSERT_EQUAL(world.messages, 1);
}

static void free_inside_message(struct world *world, const uint8_t *data, size_t len)
{
    world->on_close = wait_for_server_close;
    rpc_channel_free(world->channel);
    world->channel = NULL;
    CU_ASSERT(world->closed);
}

static void free_inside_script(struct world *world)
{
    world->on_message = free_inside_message;
    world_call(world, "/t.T/Flood", 0);
}

static void test_free_channel_inside_message(void)
{
    struct world world = {0};
    world_run(&world, free_inside_script);
    CU_ASSERT_EQUAL(world.status, RPC_CANCELLED);
    CU_ASSERT_EQUAL(world.server_status, RPC_UNAVAILABLE);
}

static void abandon_now(struct world *world)
{
    rpc_call_abandon(world->call);
    wait_for_server_close(world);
}

static void abandon_script(struct world *world)
{
    world_call(world, "/t.T/Flood", 0);
    world->pause_client = true;
    world_later(world, 30, abandon_now);
}

static void test_abandon(void)
{
    struct world world = {0};
    world_run(&world, abandon_script);
    CU_ASSERT_FALSE(world.closed);
    CU_ASSERT_EQUAL(world.server_status, RPC_CANCELLED);
}

static void abandon_early_script(struct world *world)
{
    world_call(world, "/t.T/Echo", 0);
    rpc_call_abandon(world->call);
    world_later(world, 30, world_done);
}

static void test_abandon_while_connecting(void)
{
    struct world world = {0};
    world_run(&world, abandon_early_script);
    CU_ASSERT_FALSE(world.closed);
    CU_ASSERT_EQUAL(world.server_opened, 0);
}

/* ---- back-pressure --------------------------------------------------------------------------- */

static void resume_client(struct world *world)
{
    CU_ASSERT_EQUAL(world->messages, 1);
    world->pause_client = false;
    rpc_call_resume(world->call);
}

static void flood_script(struct world *world)
{
    world->pause_client = true;
    world_call(world, "/t.T/Flood", 0);
    world_later(world, 100, resume_client);
}

static void test_server_is_held_back(void)
{
    struct rpc_options options = {.send_high = 65536};
    struct world world = {.server_options = &options};
    world_run(&world, flood_script);
    CU_ASSERT_EQUAL(world.status, RPC_OK);
    CU_ASSERT_EQUAL(world.messages, 2000);
    CU_ASSERT(world.flood_pending_max < 65536 + 20000);
}

static void resume_sink(struct world *world)
{
    CU_ASSERT_PTR_NOT_NULL_FATAL(world->sink);
    CU_ASSERT_EQUAL(world->sink_bytes, 0);
    /* All but one window of it waits at the sender. */
    CU_ASSERT(rpc_call_pending(world->call) >= 2000000 - 256 * 1024);
    CU_ASSERT(rpc_call_choked(world->call));
    rpc_call_resume(world->sink);
}

static void sink_script(struct world *world)
{
    uint8_t *data = mem_zalloc(10000);
    world_call(world, "/t.T/Sink", 0);
    for (int i = 0; i < 200; i++) {
        rpc_call_send(world->call, data, 10000);
    }
    rpc_call_half_close(world->call);
    free(data);
    world_later(world, 100, resume_sink);
}

static void test_client_is_held_back(void)
{
    struct world world = {0};
    world_run(&world, sink_script);
    CU_ASSERT_EQUAL(world.status, RPC_OK);
    CU_ASSERT_EQUAL(world.sink_bytes, 2000000);
}

static void many_done(void *arg, enum rpc_status status, const char *message,
                      const uint8_t *response, size_t len)
{
    struct world *world = arg;
    CU_ASSERT_EQUAL(status, RPC_OK);
    world->messages++;
    if (world->messages == 500) {
        world_done(world);
    }
}

static void many_script(struct world *world)
{
    for (int i = 0; i < 500; i++) {
        CU_ASSERT_PTR_NULL(
            rpc_call_unary(world->channel, "/t.T/Echo", 0, "x", 1, many_done, world, NULL));
    }
}

static void test_more_calls_than_the_server_takes_at_once(void)
{
    struct rpc_options options = {.calls_max = 10};
    struct world world = {.server_options = &options};
    world_run(&world, many_script);
    CU_ASSERT_EQUAL(world.messages, 500);
    CU_ASSERT_EQUAL(world.server_closed, 500);
}

/* ---- connections ----------------------------------------------------------------------------- */

static void kill_server(struct world *world)
{
    rpc_server_free(world->server);
    world->server = NULL;
}

static void lost_script(struct world *world)
{
    world_call(world, "/t.T/Silent", 0);
    world_later(world, 30, kill_server);
}

static void test_connection_lost(void)
{
    struct world world = {0};
    world_run(&world, lost_script);
    CU_ASSERT_EQUAL(world.status, RPC_UNAVAILABLE);
    CU_ASSERT_EQUAL(world.server_status, RPC_UNAVAILABLE);
    CU_ASSERT_STRING_EQUAL(world.server_text, "the server stopped");
}

static void again_closed(struct world *world)
{
    if (world->headers == 0) {
        CU_ASSERT_EQUAL(world->status, RPC_UNAVAILABLE);
        CU_ASSERT_PTR_NOT_NULL(strstr(world->text, world->address));
        world_done(world);
    }
}

static void refused_script(struct world *world)
{
    rpc_server_free(world->server);
    world->server = NULL;
    world->on_close = again_closed;
    world_call(world, "/t.T/Echo", 0);
}

static void test_connection_refused(void)
{
    struct world world = {0};
    world_run(&world, refused_script);
    CU_ASSERT(world.closed);
}

static void reconnected(struct world *world)
{
    CU_ASSERT_EQUAL(world->status, RPC_OK);
    world_done(world);
}

static void reconnect_now(struct world *world)
{
    CU_ASSERT_EQUAL(world->status, RPC_UNAVAILABLE);
    CU_ASSERT_FALSE(rpc_channel_connected(world->channel));
    err_t err = rpc_server_new(world->loop, world->address, NULL, NULL, &world->server);
    CU_ASSERT_PTR_NULL_FATAL(err);
    world->on_close = reconnected;
    world_call(world, "/grpc.health.v1.Health/Check", 0);
    rpc_call_send(world->call, "", 0);
    rpc_call_half_close(world->call);
}

static void reconnect_script(struct world *world)
{
    world->on_close = reconnect_now;
    world_call(world, "/t.T/Silent", 0);
    world_later(world, 30, kill_server);
}

static void test_channel_reconnects(void)
{
    struct world world = {0};
    world_run(&world, reconnect_script);
    CU_ASSERT_EQUAL(world.messages, 1);
}

static void drained(void *arg)
{
    struct world *world = arg;
    CU_ASSERT(world->closed); /* the open call came first */
    world_done(world);
}

static void finish_call(struct world *world)
{
    rpc_call_half_close(world->call);
}

static void call_refused(void *arg, enum rpc_status status, const char *message,
                         const uint8_t *response, size_t len)
{
    struct world *world = arg;
    CU_ASSERT_EQUAL(status, RPC_UNAVAILABLE); /* nobody listens any more */
    world->sink_bytes++;
}

static void call_during_drain(struct world *world)
{
    CU_ASSERT_PTR_NULL(
        rpc_call_unary(world->channel, "/t.T/Echo", 0, "x", 1, call_refused, world, NULL));
    world_later(world, 50, finish_call);
}

static void drain_now(struct world *world)
{
    rpc_server_drain(world->server, drained, world);
    world_later(world, 50, call_during_drain);
}

static void drain_closed(struct world *world)
{
    CU_ASSERT_EQUAL(world->status, RPC_OK);
}

static void drain_script(struct world *world)
{
    world->on_close = drain_closed;
    world_call(world, "/t.T/Echo", 0);
    rpc_call_send(world->call, "x", 1);
    world_later(world, 30, drain_now);
}

static void test_drain(void)
{
    struct world world = {0};
    world_run(&world, drain_script);
    CU_ASSERT_EQUAL(world.messages, 1);
    CU_ASSERT_EQUAL(world.sink_bytes, 1);
    CU_ASSERT_EQUAL(world.server_status, RPC_OK);
}

static void drain_idle_script(struct world *world)
{
    world->closed = true;
    rpc_server_drain(world->server, drained, world);
}

static void test_drain_idle(void)
{
    struct world world = {0};
    world_run(&world, drain_idle_script);
}

static const struct test_case cases[] = {
    {"unary", test_unary},
    {"unary helper", test_unary_helper},
    {"large and empty messages", test_large_and_empty},
    {"ping-pong", test_ping_pong},
    {"status and message", test_status_and_message},
    {"unknown method", test_unknown_method},
    {"deadline", test_deadline},
    {"cancel reaches the server", test_cancel_reaches_server},
    {"cancel while connecting", test_cancel_while_connecting},
    {"cancel inside a message", test_cancel_inside_message},
    {"free the channel inside a message", test_free_channel_inside_message},
    {"abandon", test_abandon},
    {"abandon while connecting", test_abandon_while_connecting},
    {"a slow client holds the server back", test_server_is_held_back},
    {"a slow server holds the client back", test_client_is_held_back},
    {"more calls than taken at once", test_more_calls_than_the_server_takes_at_once},
    {"connection lost", test_connection_lost},
    {"connection refused", test_connection_refused},
    {"the channel reconnects", test_channel_reconnects},
    {"drain", test_drain},
    {"drain without connections", test_drain_idle},
};
TEST_SUITE("ctrl/rpc/calls", cases)
