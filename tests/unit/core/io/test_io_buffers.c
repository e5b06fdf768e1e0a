/*
 * The buffers a loop provides for what arrives: more arrives at once than there are, so that the
 * kernel finds none; nothing may be lost or come in another order, and the buffers must be back
 * afterwards. The same without them, as on older kernels.
 */
#include "tests/unit/core/io/world.h"

#include "core/io/uring/uring.h"

#include <string.h>

/* Each stream has two buffers' worth under way when the loop looks: four times as many as there
 * are. Then the same again, which finds them all back. */
enum {
    STREAMS = 2 * URING_RECV_BUFFERS,
    BYTES = 2 * URING_RECV_BUFFER_LEN,
    BURSTS = 3,
};

struct burst;

struct receiver {
    struct burst *burst;
    struct io_stream *stream; /* NULL: not accepted yet */
    size_t got; /* of this burst */
};

struct burst {
    struct world world;
    struct io_listener *listener;
    struct io_stream *senders[STREAMS];
    struct receiver receivers[STREAMS];
    size_t accepted;
    size_t done; /* receivers that have all of this burst */
    size_t bursts;
    uint8_t bytes[BYTES];
};

static void send_burst(struct burst *b)
{
    b->done = 0;
    for (size_t i = 0; i < STREAMS; i++) {
        b->receivers[i].got = 0;
        io_stream_write_ref(b->senders[i], b->bytes, BYTES, NULL, NULL);
    }
}

/* The closed senders end the receivers, which nobody waits for. */
static void finish(struct burst *b)
{
    for (size_t i = 0; i < STREAMS; i++) {
        io_stream_close(b->senders[i]);
        io_stream_close(b->receivers[i].stream);
    }
    io_listener_close(b->listener);
    io_loop_stop(b->world.loop);
}

static void receive(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct receiver *r = arg;
    struct burst *b = r->burst;
    CU_ASSERT_FATAL(r->got + len <= BYTES);
    CU_ASSERT(memcmp(data, b->bytes + r->got, len) == 0);
    r->got += len;
    if (r->got < BYTES || ++b->done < STREAMS) {
        return;
    }
    if (++b->bursts == BURSTS) {
        finish(b);
    } else {
        send_burst(b);
    }
}

static void closed(void *arg, err_t reason)
{
    expect_ok(reason);
    CU_FAIL("nobody closes");
}

static const struct io_stream_handler handler = {.data = receive, .close = closed};

static void accepted(void *arg, struct io_stream *stream)
{
    struct burst *b = arg;
    CU_ASSERT_FATAL(b->accepted < STREAMS);
    struct receiver *r = &b->receivers[b->accepted++];
    *r = (struct receiver){.burst = b, .stream = stream};
    io_stream_set_handler(stream, &handler, r);
    if (b->accepted == STREAMS) {
        send_burst(b);
    }
}

static void start(struct io_loop *loop, void *arg)
{
    struct burst *b = arg;
    char address[96];
    snprintf(address, sizeof(address), "unix:%s/socket", b->world.dir); /* takes a burst at once */
    expect_ok(io_listen(loop, address, accepted, b, &b->listener));
    for (size_t i = 0; i < STREAMS; i++) {
        expect_ok(io_connect(loop, address, &handler, b, NULL, &b->senders[i]));
    }
}

static uint64_t dry;
static void look(void *arg)
{
    dry = ((struct uring_loop *)((struct burst *)arg)->world.loop)->dry;
}

static void play(enum world_kind kind)
{
    struct burst *b = MEM_NEW(struct burst);
    for (size_t i = 0; i < BYTES; i++) {
        b->bytes[i] = (uint8_t)(i * 2654435761U >> 11);
    }
    world_run_then(&b->world, kind, start, look, b);
    CU_ASSERT_EQUAL(b->bursts, BURSTS);
    free(b);
}

static void test_dry(void)
{
    play(WORLD_REAL);
    CU_ASSERT_TRUE(dry > 0); /* or this shows nothing */
}

static void test_dry_singly(void)
{
    play(WORLD_REAL_MIDDLE);
    CU_ASSERT_TRUE(dry > 0);
}

static void test_none(void)
{
    play(WORLD_REAL_OLD);
    CU_ASSERT_EQUAL(dry, 0);
}

static const struct test_case cases[] = {
    {"more than there are buffers", test_dry},
    {"without multishot", test_dry_singly},
    {"without provided buffers", test_none},
};
TEST_SUITE("core/io/buffers", cases)
