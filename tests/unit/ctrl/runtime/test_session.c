/* The controller session over a real loopback connection: who is let in, who is put out, why. */
#include "ctrl/runtime/runtime.h"

#include "core/base/mem.h"
#include "proto/control.pb.h"
#include "tests/unit/harness.h"

#include <stdio.h>

#define ENVIRONMENT "00112233445566778899aabbccddeeff"
#define SESSION "/tailrace.v1.Storage/Session"

enum { LIMIT_US = 10000000, POLL_US = 1000 };

struct client {
    struct rpc_channel *channel;
    struct rpc_call *call;
    uint32_t messages;
    bool closed;
    enum rpc_status status;
    char text[256];
};

struct world;
/* A step is asked again and again until it says true; then comes the next. */
typedef bool (*step_fn)(struct world *world);

struct world {
    struct io_loop *loop;
    struct runtime *runtime;
    struct client clients[2];
    struct io_timer timer;
    const step_fn *steps;
    uint64_t started;
    bool timed_out, drained;
    /* what the handler saw */
    uint32_t hellos, commands, losts;
    uint64_t epoch, nonce;
};

/* ---- the runtime's side ---------------------------------------------------------------------- */

static void on_hello(void *ctx, uint64_t epoch, uint64_t nonce)
{
    struct world *world = ctx;
    world->hellos++;
    world->epoch = epoch;
    world->nonce = nonce;
    CU_ASSERT_TRUE(runtime_in_session(world->runtime));
    tailrace_v1_StorageResponse response = {0};
    response.which_response = tailrace_v1_StorageResponse_hello_tag;
    response.response.hello.nonce = nonce;
    runtime_send(world->runtime, tailrace_v1_StorageResponse_fields, &response);
}

/* AllowCompaction of collection 666 is an error. */
static err_t on_command(void *ctx, const uint8_t *data, size_t len)
{
    struct world *world = ctx;
    world->commands++;
    tailrace_v1_StorageCommand command;
    TRY(rpc_decode_pb(tailrace_v1_StorageCommand_fields, &command, data, len));
    bool bad = command.which_command == tailrace_v1_StorageCommand_allow_compaction_tag &&
               command.command.allow_compaction.id == 666;
    rpc_release_pb(tailrace_v1_StorageCommand_fields, &command);
    return bad ? err_new(ERR_PROTOCOL, "collection 666 is not for you") : ERR_OK;
}

static void on_lost(void *ctx)
{
    struct world *world = ctx;
    world->losts++;
    CU_ASSERT_FALSE(runtime_in_session(world->runtime));
}

static const struct runtime_handler handler = {on_hello, on_command, on_lost};

/* ---- the controller's side ------------------------------------------------------------------- */

static void client_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    ((struct client *)arg)->messages++;
}

static void client_close(void *arg, struct rpc_call *call, enum rpc_status status,
                         const char *message)
{
    struct client *client = arg;
    client->closed = true;
    client->call = NULL;
    client->status = status;
    snprintf(client->text, sizeof(client->text), "%s", message);
}

static const struct rpc_handler client_handler = {.message = client_message,
                                                  .close = client_close};

static void send_hello(struct world *world, int client, const char *environment, uint64_t epoch,
                       uint32_t version)
{
    struct client *c = &world->clients[client];
    if (c->call == NULL) {
        c->closed = false;
        c->text[0] = '\0';
        CU_ASSERT_PTR_NULL_FATAL(rpc_call_start(c->channel, SESSION, 0, NULL, 0, &client_handler,
                                                c, &c->call));
    }
    char text[64];
    snprintf(text, sizeof(text), "%s", environment);
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_hello_tag;
    command.command.hello = (tailrace_v1_Hello){
        .version = version, .environment = text, .epoch = epoch, .nonce = 1000 + epoch};
    CU_ASSERT_PTR_NULL(
        rpc_call_send_pb(c->call, tailrace_v1_StorageCommand_fields, &command));
}

static void send_compaction(struct world *world, int client, uint64_t id)
{
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_allow_compaction_tag;
    command.command.allow_compaction.id = id;
    CU_ASSERT_PTR_NULL(rpc_call_send_pb(world->clients[client].call,
                                        tailrace_v1_StorageCommand_fields, &command));
}

static void start_call(struct world *world, int client)
{
    struct client *c = &world->clients[client];
    CU_ASSERT_PTR_NULL_FATAL(
        rpc_call_start(c->channel, SESSION, 0, NULL, 0, &client_handler, c, &c->call));
}

static bool ended(const struct world *world, int client, enum rpc_status status, const char *word)
{
    const struct client *c = &world->clients[client];
    if (!c->closed) {
        return false;
    }
    CU_ASSERT_EQUAL(c->status, status);
    if (strstr(c->text, word) == NULL) {
        printf("\"%s\" lacks \"%s\"\n", c->text, word);
        CU_FAIL("text of the status");
    }
    return true;
}

/* ---- running --------------------------------------------------------------------------------- */

static void on_timer(struct io_timer *timer)
{
    struct world *world = CONTAINER_OF(timer, struct world, timer);
    while (*world->steps != NULL && (*world->steps)(world)) {
        world->steps++;
    }
    uint64_t now = io_now_us(world->loop);
    world->timed_out = *world->steps != NULL && now > world->started + LIMIT_US;
    if (*world->steps == NULL || world->timed_out) {
        io_loop_stop(world->loop);
        return;
    }
    io_timer_start(world->loop, timer, now + POLL_US);
}

static void start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->loop = loop;
    const struct runtime_config config = {.loop = loop,
                                          .address = "127.0.0.1:0",
                                          .environment = ENVIRONMENT,
                                          .session_path = SESSION,
                                          .handler = &handler,
                                          .ctx = world};
    CU_ASSERT_PTR_NULL_FATAL(runtime_new(&config, &world->runtime));
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_PTR_NULL_FATAL(rpc_channel_new(loop, runtime_address(world->runtime), NULL,
                                                 NULL, NULL, &world->clients[i].channel));
    }
    world->started = io_now_us(loop);
    world->timer.fire = on_timer;
    io_timer_start(loop, &world->timer, world->started);
}

static struct world run(const step_fn *steps)
{
    struct world world = {.steps = steps};
    struct io_env *env = NULL;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, start, &world));
    for (int i = 0; i < 2; i++) {
        rpc_channel_free(world.clients[i].channel);
    }
    runtime_free(world.runtime);
    io_env_free(env);
    CU_ASSERT_FALSE(world.timed_out);
    return world;
}

#define RUN(...) run((const step_fn[]){__VA_ARGS__, NULL})

/* ---- steps ----------------------------------------------------------------------------------- */

static bool hello_5(struct world *world)
{
    send_hello(world, 0, ENVIRONMENT, 5, RUNTIME_PROTOCOL_VERSION);
    return true;
}

static bool hello_5_other(struct world *world)
{
    send_hello(world, 1, ENVIRONMENT, 5, RUNTIME_PROTOCOL_VERSION);
    return true;
}

static bool hello_4_other(struct world *world)
{
    send_hello(world, 1, ENVIRONMENT, 4, RUNTIME_PROTOCOL_VERSION);
    return true;
}

static bool hello_6_other(struct world *world)
{
    send_hello(world, 1, ENVIRONMENT, 6, RUNTIME_PROTOCOL_VERSION);
    return true;
}

static bool greeted(struct world *world)
{
    return world->clients[0].messages == 1;
}

static bool greeted_other(struct world *world)
{
    return world->clients[1].messages == 1;
}

static bool wrong_environment(struct world *world)
{
    send_hello(world, 0, "ffeeddccbbaa99887766554433221100", 9, RUNTIME_PROTOCOL_VERSION);
    return true;
}

static bool no_environment(struct world *world)
{
    send_hello(world, 0, "", 9, RUNTIME_PROTOCOL_VERSION);
    return true;
}

static bool wrong_version(struct world *world)
{
    send_hello(world, 0, ENVIRONMENT, 9, RUNTIME_PROTOCOL_VERSION + 1);
    return true;
}

static bool refused_environment(struct world *world)
{
    return ended(world, 0, RPC_PERMISSION_DENIED, "belongs to environment " ENVIRONMENT);
}

static bool refused_version(struct world *world)
{
    return ended(world, 0, RPC_UNIMPLEMENTED, "controller protocol version 2");
}

static bool refused_epoch(struct world *world)
{
    return ended(world, 1, RPC_FAILED_PRECONDITION,
                 "epoch 4 is stale: a controller of epoch 5 took over");
}

static bool first_is_no_hello(struct world *world)
{
    start_call(world, 0);
    send_compaction(world, 0, 1);
    send_hello(world, 0, ENVIRONMENT, 5, RUNTIME_PROTOCOL_VERSION); /* too late */
    return true;
}

static bool refused_first(struct world *world)
{
    return world->clients[0].closed &&
           strstr(world->clients[0].text, "must be Hello") != NULL;
}

static bool garbage(struct world *world)
{
    start_call(world, 0);
    rpc_call_send(world->clients[0].call, "\xff\xff\xff\xff", 4);
    return true;
}

static bool refused_garbage(struct world *world)
{
    return world->clients[0].closed && strstr(world->clients[0].text, "malformed") != NULL;
}

static bool replaced(struct world *world)
{
    return ended(world, 0, RPC_FAILED_PRECONDITION, "a newer session took over");
}

static bool two_commands(struct world *world)
{
    send_compaction(world, 0, 1);
    send_compaction(world, 0, 2);
    return true;
}

static bool two_seen(struct world *world)
{
    return world->commands == 2;
}

static bool bad_command(struct world *world)
{
    send_compaction(world, 0, 666);
    send_compaction(world, 0, 3); /* never looked at */
    return true;
}

static bool ended_by_command(struct world *world)
{
    return world->clients[0].closed &&
           strstr(world->clients[0].text, "collection 666 is not for you") != NULL;
}

static bool half_close(struct world *world)
{
    rpc_call_half_close(world->clients[0].call);
    return true;
}

static bool ended_in_order(struct world *world)
{
    return ended(world, 0, RPC_OK, "") && world->losts == 1;
}

static bool cancel(struct world *world)
{
    rpc_call_cancel(world->clients[0].call);
    return true;
}

static bool lost_one(struct world *world)
{
    return world->losts == 1;
}

static bool end_it(struct world *world)
{
    runtime_end_session(world->runtime, err_new(ERR_UNAVAILABLE, "the disk is on fire"));
    runtime_end_session(world->runtime, err_new(ERR_INTERNAL, "no session, nothing happens"));
    return true;
}

static bool ended_by_runtime(struct world *world)
{
    return ended(world, 0, RPC_UNAVAILABLE, "the disk is on fire");
}

static void on_drained(void *arg)
{
    ((struct world *)arg)->drained = true;
}

static bool drain(struct world *world)
{
    runtime_drain(world->runtime, on_drained, world);
    return true;
}

static bool drained(struct world *world)
{
    return world->drained && ended(world, 0, RPC_UNAVAILABLE, "shutting down");
}

static bool send_without_session(struct world *world)
{
    tailrace_v1_StorageResponse response = {0};
    runtime_send(world->runtime, tailrace_v1_StorageResponse_fields, &response);
    return true;
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void accepted(void)
{
    struct world world = RUN(send_without_session, hello_5, greeted, two_commands, two_seen,
                             half_close, ended_in_order);
    CU_ASSERT_EQUAL(world.hellos, 1);
    CU_ASSERT_EQUAL(world.epoch, 5);
    CU_ASSERT_EQUAL(world.nonce, 1005);
}

static void strangers(void)
{
    struct world world = RUN(wrong_environment, refused_environment, no_environment,
                             refused_environment, wrong_version, refused_version, hello_5,
                             greeted);
    /* epoch 9 of the refused was not taken over: epoch 5 is welcome */
    CU_ASSERT_EQUAL(world.hellos, 1);
    CU_ASSERT_EQUAL(world.losts, 0);
}

static void stale_epoch(void)
{
    struct world world = RUN(hello_5, greeted, hello_4_other, refused_epoch, two_commands,
                             two_seen); /* the session was not disturbed */
    CU_ASSERT_EQUAL(world.hellos, 1);
    CU_ASSERT_EQUAL(world.losts, 0);
}

/* The epoch outlives its session. */
static void stale_epoch_later(void)
{
    struct world world = RUN(hello_5, greeted, cancel, lost_one, hello_4_other, refused_epoch);
    CU_ASSERT_EQUAL(world.hellos, 1);
}

static void no_hello_first(void)
{
    struct world world = RUN(first_is_no_hello, refused_first, hello_5_other, greeted_other);
    CU_ASSERT_PTR_NOT_NULL(strstr(world.clients[0].text, "must be Hello"));
    CU_ASSERT_EQUAL(world.hellos, 1);
    CU_ASSERT_EQUAL(world.commands, 0);
}

static void malformed(void)
{
    struct world world = RUN(garbage, refused_garbage, hello_5_other, greeted_other);
    CU_ASSERT_EQUAL(world.hellos, 1);
}

static void newer_replaces_older(void)
{
    struct world world = RUN(hello_5, greeted, hello_6_other, greeted_other, replaced);
    CU_ASSERT_EQUAL(world.hellos, 2);
    CU_ASSERT_EQUAL(world.epoch, 6);
    CU_ASSERT_EQUAL(world.losts, 0); /* hello says it */
}

/* The same controller after a cut connection this side has not noticed yet. */
static void same_epoch_replaces(void)
{
    struct world world = RUN(hello_5, greeted, hello_5_other, greeted_other, replaced);
    CU_ASSERT_EQUAL(world.hellos, 2);
}

static void command_fails(void)
{
    struct world world = RUN(hello_5, greeted, bad_command, ended_by_command, hello_5_other,
                             greeted_other);
    CU_ASSERT_EQUAL(world.commands, 1);
    CU_ASSERT_EQUAL(world.losts, 1);
    CU_ASSERT_EQUAL(world.hellos, 2);
}

static void runtime_ends(void)
{
    struct world world = RUN(hello_5, greeted, end_it, ended_by_runtime);
    CU_ASSERT_EQUAL(world.losts, 1);
}

static void drains(void)
{
    RUN(hello_5, greeted, drain, drained);
}

static void parsing(void)
{
    uint8_t id[16];
    CU_ASSERT_PTR_NULL(runtime_environment_parse(ENVIRONMENT, id));
    CU_ASSERT_EQUAL(id[1], 0x11);
    CU_ASSERT_EQUAL(id[15], 0xff);
    static const char *const bad[] = {"", "0011", ENVIRONMENT "00",
                                      "00112233445566778899AABBCCDDEEFF",
                                      "0011223344556677 899aabbccddeeff",
                                      "g0112233445566778899aabbccddeeff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        err_t err = runtime_environment_parse(bad[i], id);
        CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
        err_free(err);
    }
    int carrier = -1;
    CU_ASSERT_PTR_NULL(runtime_carrier_parse("tcp", &carrier));
    CU_ASSERT_EQUAL(carrier, 2);
    err_t err = runtime_carrier_parse("pigeon", &carrier);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
    struct tls_context *tls = NULL;
    const struct runtime_tls half = {.certificate = "cert"};
    err = runtime_tls_context(&half, true, "h2", &tls);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
}

static const struct test_case cases[] = {
    {"accepted", accepted},
    {"strangers", strangers},
    {"stale epoch", stale_epoch},
    {"stale epoch later", stale_epoch_later},
    {"no hello first", no_hello_first},
    {"malformed", malformed},
    {"newer replaces older", newer_replaces_older},
    {"same epoch replaces", same_epoch_replaces},
    {"command fails", command_fails},
    {"runtime ends", runtime_ends},
    {"drains", drains},
    {"parsing", parsing},
};
TEST_SUITE("ctrl/runtime session", cases)
