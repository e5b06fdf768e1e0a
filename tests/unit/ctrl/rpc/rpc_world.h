/*
 * A server and a channel to it on one real loop, for tests of ctrl/rpc. The server offers
 *   /t.T/Echo    answers every message with itself, ends when the client ends
 *   /t.T/Fail    ends with the status and message of the metadata "status" and "text"
 *   /t.T/Silent  never answers
 *   /t.T/Flood   sends messages of 10,000 bytes as long as it is not choked, 2,000 in all
 *   /t.T/Sink    reads nothing until it is told to (world.sink), then counts
 */
#ifndef TAILRACE_TESTS_UNIT_CTRL_RPC_RPC_WORLD_H
#define TAILRACE_TESTS_UNIT_CTRL_RPC_RPC_WORLD_H

#include "ctrl/rpc/rpc.h"
#include "tests/unit/harness.h"

#include <stdio.h>

struct world {
    struct io_loop *loop;
    struct rpc_server *server;
    struct rpc_channel *channel;
    const struct rpc_options *server_options;
    const struct rpc_options *channel_options;
    void (*script)(struct world *world);
    struct io_timer limit;
    struct io_timer later;
    void (*later_fn)(struct world *world);
    char address[128];
    bool timed_out;

    /* what the server saw */
    size_t server_opened;
    size_t server_closed;
    enum rpc_status server_status;
    char server_text[256];
    size_t flood_pending_max;
    struct rpc_call *sink; /* the paused call */
    size_t sink_bytes;

    /* the client's one call, when it uses world_call */
    struct rpc_call *call;
    size_t messages;
    size_t bytes;
    size_t headers;
    bool closed;
    enum rpc_status status;
    char text[256];
    bool pause_client;
    void (*on_message)(struct world *world, const uint8_t *data, size_t len);
    void (*on_close)(struct world *world);
};

/* Runs script(world) on a loop with server and channel, until world_done or 20 s. */
void world_run(struct world *world, void (*script)(struct world *world));
/* Ends the run. */
void world_done(struct world *world);
/* Calls fn from the loop in that many milliseconds. */
void world_later(struct world *world, uint64_t ms, void (*fn)(struct world *world));
/* Starts world->call; its close calls world->on_close, or world_done without one. */
void world_call(struct world *world, const char *path, uint64_t timeout_ms);
void world_call_metadata(struct world *world, const char *path, uint64_t timeout_ms,
                         const struct rpc_metadata *metadata, size_t metadata_len);

#endif
