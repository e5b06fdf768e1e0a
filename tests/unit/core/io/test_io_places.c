/*
 * Receiving into places the owner names: messages of a length and that many bytes, which are wanted
 * in a buffer of ours. They come whole and in order, over pauses too; many of the bytes of large
 * ones were put there and not copied; and the memory is ours again once the stream is closed.
 */
#include "tests/unit/core/io/world.h"

#include <string.h>

enum { MESSAGES = 120, LENGTH_MAX = 400 * 1000, HEAD = 4 };

struct scene {
    struct world world;
    struct io_listener *listener;
    struct io_stream *sender;
    struct io_stream *receiver;
    struct io_timer timer;
    uint64_t random[2]; /* the sender's and the receiver's: the same numbers */
    uint32_t sent;
    uint32_t received;
    uint8_t head[HEAD]; /* of the message that is coming */
    size_t head_len;
    size_t len;
    size_t at;
    size_t placed;
    size_t total;
    bool finish; /* else close */
    bool over;
    uint8_t bytes[LENGTH_MAX]; /* what every message consists of, up to its length */
    uint8_t place[LENGTH_MAX];
};

/* Every fourth is small; what a length is depends on the one before only. */
static uint32_t next_length(uint64_t *random)
{
    *random = *random * 6364136223846793005ULL + 1442695040888963407ULL;
    uint32_t r = (uint32_t)(*random >> 33);
    return r % 4 == 0 ? r / 4 % 3000 : r / 4 % LENGTH_MAX;
}

static void feed(struct scene *s)
{
    while (s->sent < MESSAGES && io_stream_pending(s->sender) < 1000000) {
        uint32_t len = next_length(&s->random[0]);
        io_stream_write(s->sender, &len, HEAD);
        io_stream_write_ref(s->sender, s->bytes, len, NULL, NULL);
        s->sent++;
    }
}

static void sender_drain(void *arg)
{
    feed(arg);
}

static void sender_close(void *arg, err_t reason)
{
    struct scene *s = arg;
    CU_ASSERT_TRUE(s->over); /* the receiver goes in the middle of a message */
    err_free(reason);
    s->sender = NULL;
}

static const struct io_stream_handler sender = {.drain = sender_drain, .close = sender_close};

static void end(struct scene *s)
{
    if (s->sender != NULL) {
        io_stream_close(s->sender);
    }
    io_listener_close(s->listener);
    io_loop_stop(s->world.loop);
}

/* Nobody wrote there since the stream was let go. */
static void look(struct io_timer *timer)
{
    struct scene *s = CONTAINER_OF(timer, struct scene, timer);
    for (size_t i = 0; i < LENGTH_MAX; i++) {
        CU_ASSERT_FATAL(s->place[i] == 0xAA);
    }
    end(s);
}

/* A message has begun, and its bytes are being received into their place. */
static void let_go(struct io_timer *timer)
{
    struct scene *s = CONTAINER_OF(timer, struct scene, timer);
    CU_ASSERT_EQUAL(s->head_len, HEAD);
    CU_ASSERT_TRUE(s->at > 0 && s->at < s->len);
    s->over = true;
    if (s->finish) {
        io_stream_finish(s->receiver);
    } else {
        io_stream_close(s->receiver);
    }
    memset(s->place, 0xAA, sizeof(s->place));
    io_stream_write_ref(s->sender, s->bytes, LENGTH_MAX / 2, NULL, NULL);
    timer->fire = look;
    io_timer_start(s->world.loop, timer, io_now_us(s->world.loop) + 30000);
}

static void begin_last(struct scene *s)
{
    uint32_t len = LENGTH_MAX;
    io_stream_write(s->sender, &len, HEAD);
    io_stream_write_ref(s->sender, s->bytes, 50000, NULL, NULL);
    s->timer.fire = let_go;
    io_timer_start(s->world.loop, &s->timer, io_now_us(s->world.loop) + 50000);
}

static void resume(struct io_timer *timer)
{
    io_stream_resume(CONTAINER_OF(timer, struct scene, timer)->receiver);
}

static void message_there(struct scene *s)
{
    CU_ASSERT(memcmp(s->place, s->bytes, s->len) == 0);
    CU_ASSERT_EQUAL(s->len, next_length(&s->random[1]));
    memset(s->place, 0, s->len);
    s->total += s->len;
    s->head_len = s->at = 0;
    if (++s->received == MESSAGES) {
        begin_last(s);
    }
}

/* Sometimes amid a message, while its rest is on the way. */
static void maybe_pause(struct scene *s)
{
    if (s->received < MESSAGES && s->received % 8 == 7 && s->timer.heap_at == 0) {
        io_stream_pause(s->receiver);
        s->timer.fire = resume;
        io_timer_start(s->world.loop, &s->timer, io_now_us(s->world.loop) + 500);
    }
}

static void receive(void *arg, const uint8_t *data, size_t len, const int *fds, size_t fds_len)
{
    struct scene *s = arg;
    while (len > 0) {
        size_t take;
        if (s->head_len < HEAD) {
            take = HEAD - s->head_len < len ? HEAD - s->head_len : len;
            memcpy(s->head + s->head_len, data, take);
            s->head_len += take;
            uint32_t length;
            memcpy(&length, s->head, HEAD);
            s->len = length;
        } else {
            take = s->len - s->at < len ? s->len - s->at : len;
            s->placed += data == s->place + s->at ? take : 0;
            if (data != s->place + s->at) {
                memcpy(s->place + s->at, data, take);
            }
            s->at += take;
        }
        CU_ASSERT_FATAL(s->head_len < HEAD || s->len <= LENGTH_MAX);
        data += take;
        len -= take;
        if (s->head_len == HEAD && s->at == s->len) {
            message_there(s);
        }
    }
    maybe_pause(s);
}

static uint8_t *place(void *arg, size_t *len)
{
    struct scene *s = arg;
    *len = s->len - s->at;
    return s->head_len == HEAD ? s->place + s->at : NULL;
}

static void receiver_close(void *arg, err_t reason)
{
    expect_ok(reason);
    CU_FAIL("the sender does not close first");
}

static const struct io_stream_handler receiver = {
    .data = receive, .close = receiver_close, .place = place};

static void accepted(void *arg, struct io_stream *stream)
{
    struct scene *s = arg;
    s->receiver = stream;
    io_stream_set_handler(stream, &receiver, s);
    feed(s);
}

static void start(struct io_loop *loop, void *arg)
{
    struct scene *s = arg;
    expect_ok(io_listen(loop, "127.0.0.1:0", accepted, s, &s->listener));
    expect_ok(io_connect(loop, io_listener_address(s->listener), &sender, s, NULL, &s->sender));
}

static void play(enum world_kind kind, bool finish)
{
    struct scene *s = MEM_NEW(struct scene);
    s->finish = finish;
    for (size_t i = 0; i < LENGTH_MAX; i++) {
        s->bytes[i] = (uint8_t)(i * 2654435761U >> 13);
    }
    world_run(&s->world, kind, start, s);
    CU_ASSERT_EQUAL(s->received, MESSAGES);
    CU_ASSERT_TRUE(s->over);
    CU_ASSERT_EQUAL(s->placed > s->total / 4, kind != WORLD_SIM); /* the simulator copies */
    free(s);
}

static void places(enum world_kind kind)
{
    play(kind, false);
    play(kind, true);
}
ON_BOTH(places)
ON_OLD(places)

static const struct test_case cases[] = {
    {"places, real", places_real},
    {"places, old", places_old},
    {"places, sim", places_sim},
};
TEST_SUITE("core/io/places", cases)
