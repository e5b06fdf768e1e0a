/* See pair.h. */
#include "tests/unit/core/io/pair.h"

#include <stdio.h>
#include <unistd.h>

static void side_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct side *side = arg;
    CU_ASSERT(len > 0);
    buf_append(&side->got, data, len);
    for (size_t i = 0; i < fds_len; i++) {
        CU_ASSERT_FATAL(side->fds_len < 4);
        side->fds[side->fds_len++] = fds[i];
    }
    if (side->pair->data != NULL) {
        side->pair->data(side);
    }
}

static void side_drain(void *arg)
{
    struct side *side = arg;
    side->drains++;
    if (side->pair->drain != NULL) {
        side->pair->drain(side);
    }
}

static void side_close(void *arg, err_t reason)
{
    struct side *side = arg;
    CU_ASSERT(side->closes == 0);
    side->closes++;
    side->stream = NULL;
    side->reason = reason;
    if (side->pair->closed != NULL) {
        side->pair->closed(side);
    }
}

static const struct io_stream_handler handler = {
    .data = side_data,
    .drain = side_drain,
    .close = side_close,
};

static void pair_ready(struct pair *pair)
{
    if (++pair->sides_ready == 2 && pair->ready != NULL) {
        pair->ready(pair);
    }
}

static void pair_accepted(void *arg, struct io_stream *stream)
{
    struct pair *pair = arg;
    pair->server.stream = stream;
    io_stream_set_handler(stream, &handler, &pair->server);
    pair_ready(pair);
}

static void pair_connected(void *arg, struct io_stream *stream)
{
    struct side *side = arg;
    CU_ASSERT(stream == side->stream);
    pair_ready(side->pair);
}

static void pair_start(struct io_loop *loop, void *arg)
{
    struct pair *pair = arg;
    char path[128];
    const char *address = pair->address != NULL ? pair->address : "127.0.0.1:0";
    if (strchr(address, ':')[1] == '\0') {
        snprintf(path, sizeof(path), "%s%s/socket", address, pair->world.dir);
        address = path;
    }
    expect_ok(io_listen(loop, address, pair_accepted, pair, &pair->listener));
    expect_ok(io_connect(loop, io_listener_address(pair->listener), &handler, &pair->client,
                         pair_connected, &pair->client.stream));
}

void pair_stop(struct pair *pair)
{
    io_loop_stop(pair->world.loop);
}

void pair_run(struct pair *pair, enum world_kind kind, void (*check)(struct pair *pair))
{
    pair->client.pair = pair->server.pair = pair;
    world_run(&pair->world, kind, pair_start, pair);
    check(pair);
    struct side *const sides[] = {&pair->client, &pair->server};
    for (size_t i = 0; i < 2; i++) {
        buf_free(&sides[i]->got);
        err_free(sides[i]->reason);
        for (size_t j = 0; j < sides[i]->fds_len; j++) {
            close(sides[i]->fds[j]);
        }
    }
}
