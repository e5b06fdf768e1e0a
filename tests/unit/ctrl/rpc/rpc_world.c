/* See rpc_world.h. */
#include "tests/unit/ctrl/rpc/rpc_world.h"

#include "core/base/log.h"

enum { FLOOD_MESSAGES = 2000, FLOOD_SIZE = 10000 };

/* ---- the server's methods -------------------------------------------------------------------- */

struct served {
    struct world *world;
    struct rpc_call *call;
    size_t sent;
};

static void *served_open(void *arg, struct rpc_call *call)
{
    struct served *served = MEM_NEW(struct served);
    served->world = arg;
    served->call = call;
    served->world->server_opened++;
    return served;
}

static void served_close(void *arg, struct rpc_call *call, enum rpc_status status,
                         const char *message)
{
    struct served *served = arg;
    struct world *world = served->world;
    world->server_closed++;
    world->server_status = status;
    snprintf(world->server_text, sizeof(world->server_text), "%s", message);
    world->sink = world->sink == call ? NULL : world->sink;
    free(served);
}

static void echo_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    rpc_call_send(call, data, len);
}

static void echo_half_close(void *arg, struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, "");
}

static const struct rpc_handler echo = {
    .message = echo_message, .half_close = echo_half_close, .close = served_close};

static void *fail_open(void *arg, struct rpc_call *call)
{
    const char *status = rpc_call_metadata(call, "status", NULL);
    const char *text = rpc_call_metadata(call, "text-bin", NULL);
    void *served = served_open(arg, call);
    rpc_call_finish(call, status == NULL ? RPC_UNKNOWN : (enum rpc_status)strtol(status, NULL, 10),
                    text);
    return served;
}

static const struct rpc_handler fail = {.close = served_close};
static const struct rpc_handler silent = {.close = served_close};

static void flood_fill(struct served *served)
{
    static const uint8_t block[FLOOD_SIZE] = {1};
    while (served->sent < FLOOD_MESSAGES && !rpc_call_choked(served->call)) {
        rpc_call_send(served->call, block, sizeof(block));
        served->sent++;
        size_t pending = rpc_call_pending(served->call);
        if (pending > served->world->flood_pending_max) {
            served->world->flood_pending_max = pending;
        }
    }
    if (served->sent == FLOOD_MESSAGES) {
        rpc_call_finish(served->call, RPC_OK, "");
    }
}

static void *flood_open(void *arg, struct rpc_call *call)
{
    struct served *served = served_open(arg, call);
    flood_fill(served);
    return served;
}

static void flood_drain(void *arg, struct rpc_call *call)
{
    flood_fill(arg);
}

static const struct rpc_handler flood = {.drain = flood_drain, .close = served_close};

static void *sink_open(void *arg, struct rpc_call *call)
{
    struct world *world = arg;
    world->sink = call;
    rpc_call_pause(call);
    return served_open(arg, call);
}

static void sink_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct served *served = arg;
    served->world->sink_bytes += len;
}

static const struct rpc_handler sink = {
    .message = sink_message, .half_close = echo_half_close, .close = served_close};

static void add_methods(struct world *world)
{
    const struct rpc_method methods[] = {
        {"/t.T/Echo", &echo, served_open, world},     {"/t.T/Fail", &fail, fail_open, world},
        {"/t.T/Silent", &silent, served_open, world}, {"/t.T/Flood", &flood, flood_open, world},
        {"/t.T/Sink", &sink, sink_open, world},
    };
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        rpc_server_add_method(world->server, methods[i]);
    }
}

/* ---- the client's call ----------------------------------------------------------------------- */

static void call_headers(void *arg, struct rpc_call *call)
{
    ((struct world *)arg)->headers++;
}

static void call_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct world *world = arg;
    world->messages++;
    world->bytes += len;
    if (world->pause_client) {
        rpc_call_pause(call);
    }
    if (world->on_message != NULL) {
        world->on_message(world, data, len);
    }
}

static void call_close(void *arg, struct rpc_call *call, enum rpc_status status,
                       const char *message)
{
    struct world *world = arg;
    CU_ASSERT_FALSE(world->closed);
    world->closed = true;
    world->call = NULL;
    world->status = status;
    snprintf(world->text, sizeof(world->text), "%s", message);
    if (world->on_close != NULL) {
        world->on_close(world);
    } else {
        world_done(world);
    }
}

static const struct rpc_handler client = {
    .headers = call_headers, .message = call_message, .close = call_close};

void world_call_metadata(struct world *world, const char *path, uint64_t timeout_ms,
                         const struct rpc_metadata *metadata, size_t metadata_len)
{
    uint64_t deadline = timeout_ms == 0 ? 0 : io_now_us(world->loop) + timeout_ms * 1000;
    world->closed = false;
    err_t err = rpc_call_start(world->channel, path, deadline, metadata, metadata_len, &client,
                               world, &world->call);
    CU_ASSERT_PTR_NULL_FATAL(err);
}

void world_call(struct world *world, const char *path, uint64_t timeout_ms)
{
    world_call_metadata(world, path, timeout_ms, NULL, 0);
}

/* ---- the loop -------------------------------------------------------------------------------- */

void world_done(struct world *world)
{
    io_timer_cancel(world->loop, &world->limit);
    io_timer_cancel(world->loop, &world->later);
    rpc_channel_free(world->channel);
    world->channel = NULL;
    rpc_server_free(world->server);
    world->server = NULL;
    io_loop_stop(world->loop);
}

static void limit_fired(struct io_timer *timer)
{
    struct world *world = CONTAINER_OF(timer, struct world, limit);
    world->timed_out = true;
    world->on_close = NULL;
    world_done(world);
}

static void later_fired(struct io_timer *timer)
{
    struct world *world = CONTAINER_OF(timer, struct world, later);
    world->later_fn(world);
}

void world_later(struct world *world, uint64_t ms, void (*fn)(struct world *world))
{
    world->later.fire = later_fired;
    world->later_fn = fn;
    io_timer_start(world->loop, &world->later, io_now_us(world->loop) + ms * 1000);
}

static void world_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->loop = loop;
    world->limit.fire = limit_fired;
    io_timer_start(loop, &world->limit, io_now_us(loop) + 20000000);
    err_t err = rpc_server_new(loop, "127.0.0.1:0", NULL, world->server_options, &world->server);
    CU_ASSERT_PTR_NULL_FATAL(err);
    snprintf(world->address, sizeof(world->address), "%s", rpc_server_address(world->server));
    add_methods(world);
    err =
        rpc_channel_new(loop, world->address, NULL, NULL, world->channel_options, &world->channel);
    CU_ASSERT_PTR_NULL_FATAL(err);
    world->script(world);
}

void world_run(struct world *world, void (*script)(struct world *world))
{
    world->script = script;
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, world_start, world));
    io_env_free(env);
    CU_ASSERT_FALSE(world->timed_out);
}
