/*
 * The simulator as a whole: a small service (numbers are appended to a file, synced, then
 * acknowledged) whose process is killed, or whose host loses power, at every single event, and
 * which must end with every number once and in order. And: the same seed gives the same run.
 */
#include "tests/unit/core/io/world.h"

#include <stdio.h>
#include <string.h>

enum {
    NUMBERS = 12,
    WINDOW = 3, /* numbers sent and not yet acknowledged */
    NUMBER_LEN = 8,
    RETRY_US = 20000,
};

static struct twins *twins_of_run;

/* What outlives processes: the test's own view. */
struct ledger {
    struct sim *sim;
    struct sim_process *server;
    struct sim_process *client;
    uint64_t acknowledged;
    unsigned servers_freed;
    unsigned servers_started;
    bool finished;
};

/* ---- the server ------------------------------------------------------------------------------ */

struct server {
    struct ledger *ledger;
    struct io_loop *loop;
    struct io_listener *listener;
    struct io_stream *stream;
    struct io_file *file;
    struct io_op op;
    uint64_t count;  /* numbers in the file */
    uint64_t synced; /* of these acknowledged */
    bool busy;
    struct buf in;
    struct buf out; /* being written */
};

static void server_free(void *arg)
{
    struct server *server = arg;
    server->ledger->servers_freed++;
    io_stream_close(server->stream);
    io_listener_close(server->listener);
    io_file_close(server->file);
    buf_free(&server->in);
    buf_free(&server->out);
    free(server);
}

static void server_write(struct server *server);

static void server_done(struct io_op *op, err_t err, size_t result)
{
    struct server *server = CONTAINER_OF(op, struct server, op);
    expect_ok(err);
    if (server->out.len > 0) { /* the write */
        server->count += server->out.len / NUMBER_LEN;
        buf_clear(&server->out);
        io_file_sync(server->file, op);
        return;
    }
    server->busy = false;
    if (server->stream != NULL) {
        io_stream_write(server->stream, &server->count, sizeof(server->count));
    }
    server_write(server);
}

/* Takes the numbers that follow on what there is; others were sent again needlessly. */
static void server_write(struct server *server)
{
    if (server->busy) {
        return;
    }
    while (server->in.len >= NUMBER_LEN) {
        uint64_t number;
        memcpy(&number, server->in.data, NUMBER_LEN);
        if (number == server->count + server->out.len / NUMBER_LEN + 1) {
            buf_append(&server->out, &number, NUMBER_LEN);
        }
        buf_consume(&server->in, NUMBER_LEN);
    }
    if (server->out.len > 0) {
        server->busy = true;
        io_file_write(server->file, server->count * NUMBER_LEN, server->out.data,
                      server->out.len, &server->op);
    }
}

static void server_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct server *server = arg;
    buf_append(&server->in, data, len);
    server_write(server);
}

static void server_close(void *arg, err_t reason)
{
    struct server *server = arg;
    err_free(reason);
    server->stream = NULL;
    buf_clear(&server->in);
}

static const struct io_stream_handler server_handler = {.data = server_data, .close = server_close};

static void server_accepted(void *arg, struct io_stream *stream)
{
    struct server *server = arg;
    io_stream_close(server->stream);
    buf_clear(&server->in);
    server->stream = stream;
    io_stream_set_handler(stream, &server_handler, server);
    if (!server->busy) {
        io_stream_write(stream, &server->count, sizeof(server->count));
    }
}

/* What is in order is kept; a torn tail is not. */
static void server_recover(struct server *server)
{
    uint64_t size;
    expect_ok(io_file_size_sync(server->file, &size));
    for (;;) {
        uint64_t number;
        size_t got;
        expect_ok(io_file_read_sync(server->file, server->count * NUMBER_LEN, &number,
                                    sizeof(number), &got));
        if (got < sizeof(number) || number != server->count + 1) {
            break;
        }
        server->count++;
    }
    expect_ok(io_file_truncate_sync(server->file, server->count * NUMBER_LEN));
    expect_ok(io_file_sync_sync(server->file));
    CU_ASSERT(server->count >= server->ledger->acknowledged);
}

static void server_start(struct io_loop *loop, void *arg)
{
    struct server *server = arg;
    server->loop = loop;
    server->op.done = server_done;
    server->ledger->servers_started++;
    expect_ok(io_mkdir_sync(loop, "/ledger", 0700));
    expect_ok(io_dir_sync_sync(loop, "/"));
    expect_ok(io_file_open(loop, "/ledger/numbers", IO_OPEN_READ | IO_OPEN_WRITE | IO_OPEN_CREATE,
                           &server->file));
    expect_ok(io_dir_sync_sync(loop, "/ledger"));
    server_recover(server);
    expect_ok(io_listen(loop, "0.0.0.0:7000", server_accepted, server, &server->listener));
}

static void server_launch(struct ledger *ledger)
{
    struct server *server = MEM_NEW(struct server);
    server->ledger = ledger;
    ledger->server = sim_process_start(ledger->sim, "s", "server", server_start, server_free,
                                       server);
}

/* ---- the client ------------------------------------------------------------------------------ */

struct client {
    struct ledger *ledger;
    struct io_loop *loop;
    struct io_stream *stream;
    struct io_timer retry;
    struct buf in;
    uint64_t sent;
};

static void client_free(void *arg)
{
    struct client *client = arg;
    io_stream_close(client->stream);
    buf_free(&client->in);
    free(client);
}

static void client_send(struct client *client, uint64_t acknowledged)
{
    while (client->sent < NUMBERS && client->sent < acknowledged + WINDOW) {
        client->sent++;
        io_stream_write(client->stream, &client->sent, sizeof(client->sent));
    }
}

static void client_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct client *client = arg;
    struct ledger *ledger = client->ledger;
    buf_append(&client->in, data, len);
    while (client->in.len >= NUMBER_LEN) {
        uint64_t count;
        memcpy(&count, client->in.data, NUMBER_LEN);
        buf_consume(&client->in, NUMBER_LEN);
        CU_ASSERT(count >= ledger->acknowledged);
        ledger->acknowledged = count;
        client->sent = client->sent < count ? count : client->sent;
        client_send(client, count);
    }
    ledger->finished = ledger->acknowledged == NUMBERS;
}

static void client_dial(struct client *client);

static void client_retry(struct io_timer *timer)
{
    client_dial(CONTAINER_OF(timer, struct client, retry));
}

static void client_close(void *arg, err_t reason)
{
    struct client *client = arg;
    err_free(reason);
    client->stream = NULL;
    io_timer_start(client->loop, &client->retry, io_now_us(client->loop) + RETRY_US);
}

static const struct io_stream_handler client_handler = {.data = client_data, .close = client_close};

static void client_dial(struct client *client)
{
    client->sent = 0;
    buf_clear(&client->in);
    expect_ok(io_connect(client->loop, "s:7000", &client_handler, client, NULL, &client->stream));
}

static void client_start(struct io_loop *loop, void *arg)
{
    struct client *client = arg;
    client->loop = loop;
    client->retry.fire = client_retry;
    client_dial(client);
}

static void client_launch(struct ledger *ledger)
{
    struct client *client = MEM_NEW(struct client);
    client->ledger = ledger;
    ledger->client = sim_process_start(ledger->sim, "c", "client", client_start, client_free,
                                       client);
}

/* ---- the hash covers what is carried, and events of one time keep their order ---------------- */

struct twins {
    struct io_loop *loop;
    struct io_listener *listener;
    struct io_stream *stream;
    struct io_timer timers[20];
    unsigned fired;
    char byte;
};

static void twins_fire(struct io_timer *timer)
{
    struct twins *twins = twins_of_run;
    CU_ASSERT(timer == &twins->timers[twins->fired]); /* as they were started */
    twins->fired++;
}

static void twins_accepted(void *arg, struct io_stream *stream)
{
    /* Nobody listens to it: the bytes arrive all the same. */
}

static void twins_start(struct io_loop *loop, void *arg)
{
    struct twins *twins = arg;
    twins_of_run = twins;
    for (size_t i = 0; i < ARRAY_LEN(twins->timers); i++) {
        twins->timers[i].fire = twins_fire;
        io_timer_start(loop, &twins->timers[i], io_now_us(loop) + 1000);
    }
    expect_ok(io_listen(loop, "0.0.0.0:1", twins_accepted, NULL, &twins->listener));
    expect_ok(io_connect(loop, "0.0.0.0:1", NULL, NULL, NULL, &twins->stream));
    io_stream_write(twins->stream, &twins->byte, 1);
}

static void hash_and_order(void)
{
    uint64_t hashes[2];
    for (size_t i = 0; i < 2; i++) {
        struct sim_config config = sim_config_default(5);
        struct sim *sim = sim_new(&config);
        struct twins twins = {.byte = i == 0 ? 'a' : 'b'};
        sim_process_start(sim, "h", "twins", twins_start, NULL, &twins);
        sim_run_until(sim, 100000);
        CU_ASSERT(twins.fired == ARRAY_LEN(twins.timers));
        hashes[i] = sim_trace_hash(sim);
        sim_free(sim);
    }
    CU_ASSERT(hashes[0] != hashes[1]); /* the same events, another byte */
}

/* ---- runs ------------------------------------------------------------------------------------ */

enum harm { HARM_NONE, HARM_KILL, HARM_POWER, HARM_CUT, HARM_PARTITION };

struct until_event {
    struct sim *sim;
    uint64_t event;
};

static bool before_event(void *arg)
{
    struct until_event *until = arg;
    return sim_events(until->sim) < until->event;
}

static bool not_finished(void *arg)
{
    return !((struct ledger *)arg)->finished;
}

static void do_harm(struct ledger *ledger, enum harm harm)
{
    switch (harm) {
    case HARM_NONE:
        break;
    case HARM_KILL:
        sim_process_kill(ledger->sim, ledger->server);
        CU_ASSERT(!sim_process_alive(ledger->server));
        server_launch(ledger);
        break;
    case HARM_POWER:
        sim_host_crash(ledger->sim, "s");
        CU_ASSERT(!sim_process_alive(ledger->server));
        server_launch(ledger);
        break;
    case HARM_CUT:
        sim_cut_connections(ledger->sim, ledger->client);
        break;
    case HARM_PARTITION:
        sim_partition(ledger->sim, "c", "s", true);
        sim_run_until(ledger->sim, sim_now_us(ledger->sim) + 100000);
        CU_ASSERT(sim_process_alive(ledger->server));
        sim_partition(ledger->sim, "c", "s", false);
        break;
    }
}

/* Runs the ledger with one harm after so many events; returns the number of events there were. */
static uint64_t ledger_run(uint64_t seed, enum harm harm, uint64_t at, uint64_t *hash)
{
    struct sim_config config = sim_config_default(seed);
    struct ledger ledger = {.sim = sim_new(&config)};
    server_launch(&ledger);
    client_launch(&ledger);
    struct until_event until = {ledger.sim, at};
    uint64_t limit = 60ULL * 1000 * 1000;
    sim_run_while(ledger.sim, before_event, &until, limit);
    do_harm(&ledger, harm);
    CU_ASSERT(sim_run_while(ledger.sim, not_finished, &ledger, limit));
    CU_ASSERT(ledger.acknowledged == NUMBERS);
    CU_ASSERT(sim_process_alive(ledger.client));
    uint64_t events = sim_events(ledger.sim);
    if (hash != NULL) {
        *hash = sim_trace_hash(ledger.sim);
    }
    sim_free(ledger.sim);
    bool one_died = harm == HARM_KILL || harm == HARM_POWER;
    CU_ASSERT(ledger.servers_freed == (one_died ? 2 : 1));
    return events;
}

static void same_seed_same_run(void)
{
    uint64_t first;
    uint64_t again;
    uint64_t other;
    uint64_t events = ledger_run(1, HARM_NONE, 0, &first);
    CU_ASSERT(ledger_run(1, HARM_NONE, 0, &again) == events);
    CU_ASSERT(first == again);
    ledger_run(2, HARM_NONE, 0, &other);
    CU_ASSERT(first != other);
    events = ledger_run(3, HARM_POWER, 20, &first);
    CU_ASSERT(ledger_run(3, HARM_POWER, 20, &again) == events);
    CU_ASSERT(first == again);
}

static void harm_everywhere(enum harm harm)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        uint64_t events = ledger_run(seed, HARM_NONE, 0, NULL);
        CU_ASSERT(events > 30);
        for (uint64_t at = 0; at <= events; at++) {
            ledger_run(seed, harm, at, NULL);
        }
    }
}

static void kill_at_every_event(void)
{
    harm_everywhere(HARM_KILL);
}

static void power_loss_at_every_event(void)
{
    harm_everywhere(HARM_POWER);
}

static void cut_at_every_event(void)
{
    harm_everywhere(HARM_CUT);
}

static void partition_at_every_event(void)
{
    harm_everywhere(HARM_PARTITION);
}

static const struct test_case cases[] = {
    {"the same seed gives the same run", same_seed_same_run},
    {"hash and order of events", hash_and_order},
    {"kill at every event", kill_at_every_event},
    {"power loss at every event", power_loss_at_every_event},
    {"connections cut at every event", cut_at_every_event},
    {"partition at every event", partition_at_every_event},
};
TEST_SUITE("core/io/sim", cases)
