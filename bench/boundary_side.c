/* One process of the boundary bench. See boundary.h. */
#include "bench/boundary.h"

#include "bench/machine.h"
#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { WARM_UP_NS = 200 * 1000 * 1000 };

struct side {
    const struct side_config *config;
    struct side_result *result;
    struct io_loop *loop;
    struct boundary_server *server;
    struct boundary_client *client;
    struct boundary_sub *sub;
    struct boundary_handler handler;
    uint8_t *record;
    uint64_t produced; /* PING: records that may be read */
    uint64_t started_ns;
    uint64_t sent_ns;
    err_t err;
};

/* A reader of this side's log: record i is [i, i + 1). */
struct cursor {
    struct side *side;
    uint64_t at;
    bool flood;
};

/* ---- the log this side serves ---------------------------------------------------------------- */

static err_t open_cursor(void *ctx, const struct boundary_request *request, void **out)
{
    struct cursor *cursor = MEM_NEW(struct cursor);
    cursor->side = ctx;
    cursor->flood = request->source == SIDE_FLOOD;
    cursor->at = request->resume ? request->resume_from : request->as_of;
    *out = cursor;
    return ERR_OK;
}

static err_t next_chunk(void *ctx, size_t max_bytes, struct boundary_chunk *out, bool *more)
{
    struct cursor *cursor = ctx;
    struct side *side = cursor->side;
    *out = (struct boundary_chunk){.lower = cursor->at, .upper = cursor->at};
    *more = false;
    if (!cursor->flood && cursor->at >= side->produced) {
        return ERR_OK;
    }
    out->upper = ++cursor->at;
    out->ok = side->record;
    out->ok_len = side->config->record_bytes;
    *more = true;
    return ERR_OK;
}

static void close_cursor(void *ctx)
{
    free(ctx);
}

static const struct boundary_backend backend = {
    .open = open_cursor,
    .next = next_chunk,
    .close = close_cursor,
};

/* ---- what it reads --------------------------------------------------------------------------- */

static void produce(struct side *side)
{
    side->produced++;
    boundary_server_wake(side->server, 0, SIDE_PING);
}

/* The first side begins to count after the warm-up and stops when the time is over. */
static void measure(struct side *side, size_t bytes)
{
    uint64_t now = machine_now_ns();
    if (side->started_ns == 0) {
        side->started_ns = now + WARM_UP_NS;
    }
    if (now >= side->started_ns) {
        side->result->records++;
        side->result->bytes += bytes;
        side->result->ns = now - side->started_ns;
        if (side->sent_ns != 0 && side->config->source == SIDE_PING) {
            hist_add(&side->result->round_trips, now - side->sent_ns);
        }
        if (side->result->ns >= side->config->run_ns) {
            io_loop_stop(side->loop);
            return;
        }
    }
    side->sent_ns = now;
}

static void on_data(void *arg, const struct boundary_chunk *chunk)
{
    struct side *side = arg;
    if (chunk->upper == chunk->lower || chunk->ok_len == 0) {
        return;
    }
    ASSERT(chunk->ok_len == side->config->record_bytes);
    if (side->config->first) {
        measure(side, chunk->ok_len);
    }
    if (side->config->source == SIDE_PING) {
        produce(side);
    }
}

static void on_reset(void *arg)
{
    UNREACHABLE(); /* every record is complete */
}

static void on_refused(void *arg, err_t err)
{
    struct side *side = arg;
    side->err = err;
    io_loop_stop(side->loop);
}

/* ---- start ----------------------------------------------------------------------------------- */

static err_t start_server(struct side *side, const struct boundary_identity *self)
{
    const struct side_config *config = side->config;
    char unix_path[160];
    snprintf(unix_path, sizeof(unix_path), "unixpacket:%s/%d", config->directory, config->first);
    struct boundary_server_config server = {
        .address = "127.0.0.1:0",
        .unix_path = config->shm ? unix_path : NULL,
        .self = *self,
        .carrier = config->shm ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .workers = 1,
        .backend = &backend,
    };
    TRY(boundary_server_new(side->loop, &server, &side->server));
    boundary_server_worker(side->server, 0, side->loop, side);
    return ERR_OK;
}

/* Tells the other side this one's address, and hears its: both wait, once. */
static err_t trade_addresses(struct side *side, char *theirs, size_t size)
{
    char ours[64] = {0};
    ASSERT(size == sizeof(ours));
    snprintf(ours, sizeof(ours), "%s", boundary_server_address(side->server));
    if (write(side->config->channel, ours, sizeof(ours)) != (ssize_t)sizeof(ours) ||
        read(side->config->channel, theirs, size) != (ssize_t)size) {
        return err_errno(errno, "trading addresses");
    }
    theirs[size - 1] = '\0';
    return ERR_OK;
}

static err_t start_side(struct side *side)
{
    const struct side_config *config = side->config;
    char secret[160];
    snprintf(secret, sizeof(secret), "%s/secret", config->directory);
    struct boundary_identity self = {.environment = "tailrace-bench!", .service = config->first,
                                     .generation = 1, .epoch = 1, .node_secret_path = secret};
    TRY(start_server(side, &self));
    char address[64];
    TRY(trade_addresses(side, address, sizeof(address)));
    char unix_path[160];
    snprintf(unix_path, sizeof(unix_path), "unixpacket:%s/%d", config->directory, !config->first);
    struct boundary_client_config client = {
        .self = self,
        .carrier = config->shm ? BOUNDARY_CARRIER_SHM : BOUNDARY_CARRIER_TCP,
        .workers = 1,
    };
    TRY(boundary_client_new(side->loop, &client, &side->client));
    boundary_client_worker(side->client, 0, side->loop);
    const char *addresses[] = {address};
    const char *unix_paths[] = {config->shm ? unix_path : NULL};
    boundary_client_directory(side->client, addresses, unix_paths, 1, 1);
    struct boundary_request request = {.dataflow = 1, .source = config->source, .as_of = 0};
    side->handler = (struct boundary_handler){on_data, on_reset, on_refused};
    /* Only the first side reads a flood. */
    if (config->first || config->source == SIDE_PING) {
        side->sub = boundary_subscribe(side->client, 0, &request, &side->handler, side);
    }
    if (config->first) {
        produce(side); /* the ball */
    }
    return ERR_OK;
}

static void start(struct io_loop *loop, void *arg)
{
    struct side *side = arg;
    side->loop = loop;
    side->err = start_side(side);
    if (side->err != ERR_OK) {
        io_loop_stop(loop);
    }
}

err_t side_run(const struct side_config *config, struct side_result *result)
{
    struct side side = {.config = config, .result = result};
    side.record = mem_zalloc(config->record_bytes);
    struct io_env *env;
    err_t err = io_env_new_real(&env);
    if (err == ERR_OK) {
        err = io_main(env, start, &side);
        boundary_client_free(side.client);
        boundary_server_free(side.server);
        io_env_free(env);
    }
    if (err == ERR_OK) {
        err = side.err;
    } else {
        err_free(side.err);
    }
    free(side.record);
    return err;
}
