/*
 * Bytes of a hostile HTTP/2 peer against ctrl/rpc, in the simulator, which delays and splits them.
 * The first byte chooses the side (bit 0: the bytes come from a server and meet our client) and
 * the seed; the peer's preface and SETTINGS are sent for it, so that mutations reach what follows.
 */
#include "core/base/log.h"
#include "core/io/sim.h"
#include "ctrl/rpc/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define SETTINGS "\0\0\0\4\0\0\0\0\0"

struct fuzz {
    struct io_loop *loop;
    const uint8_t *data;
    size_t size;
    struct rpc_server *server;
    struct rpc_channel *channel;
    struct rpc_call *call;
    struct io_listener *listener;
    struct io_stream *stream; /* the hostile end */
    bool from_server;
    size_t open; /* calls our side has to close */
};

/* ---- our side -------------------------------------------------------------------------------- */

static void *echo_open(void *arg, struct rpc_call *call)
{
    struct fuzz *fuzz = arg;
    fuzz->open++;
    return fuzz;
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
    struct fuzz *fuzz = arg;
    ASSERT(fuzz->open > 0);
    fuzz->open--;
    fuzz->call = NULL;
}

static const struct rpc_handler echo = {
    .message = echo_message, .half_close = echo_half_close, .close = echo_close};

static void start_server(struct fuzz *fuzz)
{
    err_t err = rpc_server_new(fuzz->loop, "host:1", NULL, NULL, &fuzz->server);
    ASSERT(err == ERR_OK);
    rpc_server_add_method(
        fuzz->server,
        (struct rpc_method){.path = "/t.T/Echo", .handler = &echo, .open = echo_open, .arg = fuzz});
}

static void start_client(struct fuzz *fuzz)
{
    err_t err = rpc_channel_new(fuzz->loop, "host:2", NULL, NULL, NULL, &fuzz->channel);
    ASSERT(err == ERR_OK);
    err = rpc_call_start(fuzz->channel, "/t.T/Echo", 0, NULL, 0, &echo, fuzz, &fuzz->call);
    ASSERT(err == ERR_OK);
    fuzz->open++;
    rpc_call_send(fuzz->call, "hello", 5);
}

/* ---- the hostile side ------------------------------------------------------------------------ */

static void drop_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
}

static void drop_close(void *arg, err_t reason)
{
    struct fuzz *fuzz = arg;
    fuzz->stream = NULL;
    err_free(reason);
}

static const struct io_stream_handler drop = {.data = drop_data, .close = drop_close};

static void speak(void *arg, struct io_stream *stream)
{
    struct fuzz *fuzz = arg;
    fuzz->stream = stream;
    io_stream_set_handler(stream, &drop, fuzz);
    if (fuzz->from_server) {
        io_stream_write(stream, SETTINGS, sizeof(SETTINGS) - 1);
    } else {
        io_stream_write(stream, PREFACE SETTINGS, sizeof(PREFACE SETTINGS) - 1);
    }
    io_stream_write(stream, fuzz->data, fuzz->size);
}

static void start(struct io_loop *loop, void *arg)
{
    struct fuzz *fuzz = arg;
    fuzz->loop = loop;
    err_t err;
    if (fuzz->from_server) {
        err = io_listen(loop, "host:2", speak, fuzz, &fuzz->listener);
        start_client(fuzz);
    } else {
        start_server(fuzz);
        err = io_connect(loop, "host:1", &drop, fuzz, speak, &fuzz->stream);
    }
    ASSERT(err == ERR_OK);
}

static void destroy(void *arg)
{
    struct fuzz *fuzz = arg;
    rpc_server_free(fuzz->server);
    rpc_channel_free(fuzz->channel);
    io_stream_close(fuzz->stream);
    if (fuzz->listener != NULL) {
        io_listener_close(fuzz->listener);
    }
    ASSERT(fuzz->open == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "fuzz");
    struct sim_config config = sim_config_default(data[0]);
    struct sim *sim = sim_new(&config);
    struct fuzz fuzz = {.data = data + 1, .size = size - 1, .from_server = (data[0] & 1) != 0};
    sim_process_start(sim, "host", "process", start, destroy, &fuzz);
    sim_run_until(sim, 2000000);
    sim_free(sim);
    return 0;
}
