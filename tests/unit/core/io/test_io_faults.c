/* The simulator's network and its processes: what each fault does, and what is not there. */
#include "tests/unit/core/io/world.h"

#include <stdio.h>
#include <string.h>

enum { SECOND = 1000 * 1000 };

/* A process that listens, or connects and sends numbered bytes; it records what happens to it. */
struct node {
    struct sim *sim;
    struct sim_process *process;
    struct io_loop *loop;
    const char *listen;
    const char *connect;
    struct io_listener *listener;
    struct io_stream *stream;
    unsigned accepted;
    unsigned connected;
    unsigned closed;
    unsigned destroyed;
    enum err_code reason; /* of the last close; 0: in order */
    uint64_t closed_at;
    size_t received;
    bool in_order; /* every byte received was the next one */
    void (*on_data)(struct node *node);
};

static void node_data(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct node *node = arg;
    CU_ASSERT(sim_process_alive(node->process));
    for (size_t i = 0; i < len; i++) {
        node->in_order &= data[i] == (uint8_t)(node->received + i);
    }
    node->received += len;
    if (node->on_data != NULL) {
        node->on_data(node);
    }
}

static void node_close(void *arg, err_t reason)
{
    struct node *node = arg;
    CU_ASSERT(sim_process_alive(node->process));
    node->closed++;
    node->closed_at = sim_now_us(node->sim);
    node->reason = reason != ERR_OK ? err_code(reason) : 0;
    node->stream = NULL;
    err_free(reason);
}

static const struct io_stream_handler node_handler = {.data = node_data, .close = node_close};

static void node_send(struct node *node, size_t len)
{
    uint8_t *bytes = mem_alloc(len);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)i;
    }
    io_stream_write_ref(node->stream, bytes, len, free, bytes);
}

static void node_accepted(void *arg, struct io_stream *stream)
{
    struct node *node = arg;
    node->accepted++;
    node->stream = stream;
    io_stream_set_handler(stream, &node_handler, node);
}

static void node_connected(void *arg, struct io_stream *stream)
{
    ((struct node *)arg)->connected++;
}

static void node_start(struct io_loop *loop, void *arg)
{
    struct node *node = arg;
    node->loop = loop;
    node->in_order = true;
    if (node->listen != NULL) {
        expect_ok(io_listen(loop, node->listen, node_accepted, node, &node->listener));
    }
    if (node->connect != NULL) {
        expect_ok(io_connect(loop, node->connect, &node_handler, node, node_connected,
                             &node->stream));
    }
}

static void node_destroy(void *arg)
{
    struct node *node = arg;
    node->destroyed++;
    CU_ASSERT(!sim_process_alive(node->process));
    io_stream_close(node->stream);
    io_listener_close(node->listener);
    node->stream = NULL;
    node->listener = NULL;
}

static void node_run(struct sim *sim, const char *host, struct node *node)
{
    node->sim = sim;
    node->closed = 0;
    node->process = sim_process_start(sim, host, host, node_start, node_destroy, node);
}

static struct sim *world_new(uint64_t seed)
{
    struct sim_config config = sim_config_default(seed);
    return sim_new(&config);
}

static void pass(struct sim *sim, uint64_t us)
{
    sim_run_until(sim, sim_now_us(sim) + us);
}

/* ---- partitions ------------------------------------------------------------------------------ */

static void partition(void)
{
    struct sim *sim = world_new(1);
    struct node server = {.listen = "0.0.0.0:1000"};
    struct node client = {.connect = "b:1000"};
    struct node other = {.connect = "b:1000"};
    node_run(sim, "b", &server);
    pass(sim, SECOND);
    node_run(sim, "a", &client);
    pass(sim, SECOND);
    CU_ASSERT(client.connected == 1 && server.accepted == 1);
    sim_partition(sim, "a", "b", true);
    pass(sim, SECOND);
    CU_ASSERT(client.closed == 1 && client.reason == ERR_CLOSED);
    CU_ASSERT(server.closed == 1 && server.reason == ERR_CLOSED);
    node_start(client.loop, &client); /* tries again, in vain */
    pass(sim, 2 * SECOND);
    CU_ASSERT(client.closed == 2 && client.reason == ERR_UNAVAILABLE && client.connected == 1);
    node_run(sim, "c", &other); /* others are not concerned */
    pass(sim, SECOND);
    CU_ASSERT(other.connected == 1 && other.closed == 0);
    sim_partition(sim, "b", "a", false);
    node_start(client.loop, &client);
    pass(sim, SECOND);
    CU_ASSERT(client.connected == 2);
    sim_free(sim);
    CU_ASSERT(client.destroyed == 1 && server.destroyed == 1 && other.destroyed == 1);
}

/* ---- addresses ------------------------------------------------------------------------------- */

static void addresses(void)
{
    struct sim *sim = world_new(2);
    struct node local = {.listen = "127.0.0.1:1000"};
    struct node open = {.listen = "b:1001"};
    struct node inside = {.connect = "localhost:1000"};
    struct node outside = {.connect = "b:1000"};
    struct node named = {.connect = "b:1001"};
    struct node nowhere = {.connect = "nobody:1"};
    node_run(sim, "b", &local);
    node_run(sim, "b", &open);
    pass(sim, SECOND);
    node_run(sim, "b", &inside);
    node_run(sim, "a", &outside);
    node_run(sim, "a", &named);
    node_run(sim, "a", &nowhere);
    pass(sim, SECOND);
    CU_ASSERT(inside.connected == 1);
    CU_ASSERT(outside.closed == 1 && outside.reason == ERR_UNAVAILABLE);
    CU_ASSERT(named.connected == 1);
    CU_ASSERT(nowhere.closed == 1 && nowhere.reason == ERR_UNAVAILABLE);
    CU_ASSERT(strcmp(io_listener_address(open.listener), "b:1001") == 0);
    CU_ASSERT(strncmp(io_stream_peer(open.stream), "a:", 2) == 0);
    CU_ASSERT(strcmp(io_stream_peer(named.stream), "b:1001") == 0);
    CU_ASSERT(strcmp(io_host_id(io_loop_env(open.loop)), "b") == 0);
    struct io_listener *none;
    expect_err(io_listen(open.loop, "a:1", node_accepted, NULL, &none), ERR_IO);
    expect_err(io_listen(open.loop, "0.0.0.0:1001", node_accepted, NULL, &none), ERR_IO);
    sim_process_kill(sim, open.process); /* its port is free again */
    expect_ok(io_listen(local.loop, "0.0.0.0:1001", node_accepted, NULL, &none));
    sim_free(sim);
}

/* ---- a reset loses the last bytes, from any one on; what arrives is in order ----------------- */

static void cut_anywhere(void)
{
    bool lengths[64] = {false};
    unsigned different = 0;
    for (uint64_t seed = 0; seed < 80; seed++) {
        struct sim *sim = world_new(seed);
        struct node server = {.listen = "0.0.0.0:1000"};
        struct node client = {.connect = "b:1000"};
        node_run(sim, "b", &server);
        pass(sim, 10000);
        node_run(sim, "a", &client);
        while (client.connected == 0) {
            pass(sim, 10);
        }
        node_send(&client, 63);
        pass(sim, 1000); /* on the wire, or partly there */
        sim_cut_connections(sim, client.process);
        pass(sim, SECOND);
        CU_ASSERT(client.closed == 1 && server.closed == 1);
        CU_ASSERT(client.reason == ERR_CLOSED && server.reason == ERR_CLOSED);
        CU_ASSERT(server.in_order && server.received <= 63);
        different += lengths[server.received] ? 0 : 1;
        lengths[server.received] = true;
        sim_free(sim);
    }
    CU_ASSERT(different > 10);
}

/* ---- the deaths of processes and hosts, as their peers see them ------------------------------ */

static void deaths(void)
{
    unsigned orderly = 0;
    unsigned reset = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim *sim = world_new(seed);
        struct node server = {.listen = "0.0.0.0:1000"};
        struct node client = {.connect = "b:1000"};
        node_run(sim, "b", &server);
        pass(sim, SECOND);
        node_run(sim, "a", &client);
        pass(sim, SECOND);
        uint64_t then = sim_now_us(sim);
        bool power = seed % 2 == 0;
        if (power) {
            sim_host_crash(sim, "b");
        } else {
            sim_process_kill(sim, server.process);
        }
        CU_ASSERT(server.destroyed == 1 && server.closed == 0);
        pass(sim, 20 * SECOND);
        CU_ASSERT(client.closed == 1);
        if (power) {
            CU_ASSERT(client.reason == ERR_TIMEOUT);
            CU_ASSERT(client.closed_at - then > SECOND / 2);
        } else {
            CU_ASSERT(client.closed_at - then < SECOND / 2);
            orderly += client.reason == 0 ? 1 : 0;
            reset += client.reason == ERR_CLOSED ? 1 : 0;
        }
        sim_free(sim);
    }
    CU_ASSERT(orderly > 0 && reset > 0);
}

/* ---- killed from inside a callback of its own, and of another -------------------------------- */

static struct node *other_node;

static void kill_itself(struct node *node)
{
    sim_process_kill(node->sim, node->process);
    CU_ASSERT(!sim_process_alive(node->process));
    CU_ASSERT(node->destroyed == 0); /* not before the callback has returned */
    io_stream_write(node->stream, "x", 1);
    io_stream_close(node->stream);
    node->stream = NULL;
    struct io_stream *none;
    expect_err(io_connect(node->loop, "b:1000", &node_handler, node, NULL, &none), ERR_CANCELLED);
}

static void kill_other(struct node *node)
{
    if (sim_process_alive(other_node->process)) {
        sim_process_kill(node->sim, other_node->process);
        CU_ASSERT(other_node->destroyed == 0); /* the event comes to its end first */
    }
}

static void stop_itself(struct node *node)
{
    io_loop_stop(node->loop);
    io_stream_close(node->stream); /* a process frees its things before it ends */
    io_listener_close(node->listener);
    node->stream = NULL;
    node->listener = NULL;
}

static void killed_inside(void)
{
    void (*const ways[])(struct node *node) = {kill_itself, kill_other, stop_itself};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        for (uint64_t seed = 0; seed < 20; seed++) {
            struct sim *sim = world_new(seed);
            struct node server = {.listen = "0.0.0.0:1000", .on_data = ways[i]};
            struct node client = {.connect = "b:1000"};
            other_node = &client;
            node_run(sim, "b", &server);
            pass(sim, SECOND);
            node_run(sim, "a", &client);
            pass(sim, SECOND);
            node_send(&client, 100000);
            pass(sim, SECOND);
            struct node *dead = ways[i] == kill_other ? &client : &server;
            struct node *alive = ways[i] == kill_other ? &server : &client;
            CU_ASSERT(dead->destroyed == 1 && dead->closed == 0);
            CU_ASSERT(alive->destroyed == 0 && alive->closed == 1);
            sim_free(sim);
            CU_ASSERT(alive->destroyed == 1);
        }
    }
}

/* ---- running, time, and what there is not ---------------------------------------------------- */

static bool always(void *arg)
{
    return true;
}

static void running(void)
{
    struct sim *sim = world_new(3);
    CU_ASSERT(sim_now_us(sim) == 0 && sim_events(sim) == 0);
    sim_run_until(sim, 5 * SECOND);
    CU_ASSERT(sim_now_us(sim) == 5 * SECOND);
    CU_ASSERT(!sim_run_while(sim, always, NULL, 10 * SECOND)); /* nothing to do */
    struct node a = {.listen = "0.0.0.0:1"};
    struct node b = {.listen = "0.0.0.0:1"};
    node_run(sim, "a", &a);
    node_run(sim, "b", &b);
    pass(sim, SECOND);
    uint64_t here = io_now_us(a.loop);
    uint64_t there = io_now_us(b.loop);
    CU_ASSERT((here > there ? here - there : there - here) <= 5000);
    pass(sim, SECOND);
    CU_ASSERT(io_now_us(a.loop) == here + SECOND);
    CU_ASSERT(io_mono_ns(a.loop) > SECOND);
    CU_ASSERT(io_random_u64(io_loop_env(a.loop)) != io_random_u64(io_loop_env(b.loop)));
    CU_ASSERT(sim_random(sim) != sim_random(sim));
    sim_free(sim);
}

static void unsupported(void)
{
    struct sim *sim = world_new(4);
    struct node a = {.listen = "0.0.0.0:1"};
    node_run(sim, "a", &a);
    pass(sim, SECOND);
    struct io_bell *bell;
    struct io_process *process;
    struct io_listener *listener;
    struct io_stream *stream;
    const char *const argv[] = {"/bin/true", NULL};
    struct io_process_spec spec = {.argv = argv};
    void (*ring)(void *) = free;
    io_exit_fn exited = (io_exit_fn)(void (*)(void))free;
    expect_err(io_bell_open(a.loop, ring, NULL, &bell), ERR_UNSUPPORTED);
    expect_err(io_process_start(a.loop, &spec, exited, NULL, &process), ERR_UNSUPPORTED);
    expect_err(io_process_adopt(a.loop, 1, "/x", 1, exited, NULL, &process), ERR_UNSUPPORTED);
    expect_err(io_signal_watch(a.loop, 15, (void (*)(void *, int))exited, NULL), ERR_UNSUPPORTED);
    expect_err(io_listen(a.loop, "unix:/x", node_accepted, NULL, &listener), ERR_UNSUPPORTED);
    expect_err(io_connect(a.loop, "unixpacket:/x", NULL, NULL, NULL, &stream), ERR_UNSUPPORTED);
    expect_err(io_main(io_loop_env(a.loop), node_start, NULL), ERR_UNSUPPORTED);
    sim_free(sim);
}

static const struct test_case cases[] = {
    {"partition", partition},
    {"addresses", addresses},
    {"connections cut at any byte", cut_anywhere},
    {"deaths as peers see them", deaths},
    {"killed inside a callback", killed_inside},
    {"running and time", running},
    {"not in the simulator", unsupported},
};
TEST_SUITE("core/io/faults", cases)
