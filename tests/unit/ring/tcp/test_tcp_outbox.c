/*
 * What a TCP session sends next: urgent messages before data that is under way, streams in turns,
 * and within a stream nothing overtakes anything. The stream is a recorder of frames.
 */
#include "tests/unit/harness.h"

#include "core/base/mem.h"
#include "ring/frame/frame.h"
#include "ring/tcp/outbox.h"

enum { LARGE = 3 * FRAME_FRAGMENT, FRAMES_MAX = 64 };

/* A stream that takes everything at once. */
struct recorder {
    struct io_stream base;
    struct buf bytes;
    struct frame_header frames[FRAMES_MAX];
    uint32_t len;
    uint8_t *place; /* of a payload, which is not looked at */
};

static void record(struct io_stream *s, const void *data, size_t len)
{
    buf_append(&CONTAINER_OF(s, struct recorder, base)->bytes, data, len);
}

static void record_ref(struct io_stream *s, const void *data, size_t len, void (*release)(void *),
                       void *arg)
{
    record(s, data, len);
    release(arg);
}

static const struct io_stream_ops ops = {.write = record, .write_ref = record_ref};

static err_t frame_begin(void *arg, const struct frame_header *h, uint8_t **place)
{
    struct recorder *r = arg;
    r->place = mem_realloc(r->place, h->length);
    *place = r->place;
    return ERR_OK;
}

static err_t frame_end(void *arg, const struct frame_header *h)
{
    struct recorder *r = arg;
    CU_ASSERT_FATAL(r->len < FRAMES_MAX);
    r->frames[r->len++] = *h;
    return ERR_OK;
}

static void put(struct outbox *outbox, uint32_t stream, uint64_t number, uint8_t flags, size_t len)
{
    struct carrier_message m = {.kind = FRAME_KIND_USER, .flags = flags, .stream = stream,
                                .a = number};
    struct carrier_node *node = carrier_node_new(CARRIER_NODE_MESSAGE, 0, 0, &m, len);
    if (len > 0) {
        memset(carrier_node_data(node), (int)number, len);
    }
    outbox_put(outbox, node);
}

static void send_frames(struct outbox *outbox, struct recorder *r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        CU_ASSERT_TRUE(outbox_send(outbox, &r->base));
    }
}

static void expect(struct recorder *r, const uint64_t *numbers, uint32_t len)
{
    size_t used = 0;
    struct frame_parser parser = {.begin = frame_begin, .end = frame_end, .arg = r};
    CU_ASSERT_PTR_NULL_FATAL(frame_parse(&parser, r->bytes.data, r->bytes.len, &used));
    CU_ASSERT_TRUE(frame_parser_clean(&parser));
    CU_ASSERT_EQUAL(r->len, len);
    for (uint32_t i = 0; i < len && i < r->len; i++) {
        CU_ASSERT_EQUAL(r->frames[i].a, numbers[i]);
    }
}

/* On a loop, since streams belong to one. */
static void play(struct io_loop *loop, void *arg)
{
    void (*script)(struct outbox *outbox, struct recorder *r) = *(void (**)(struct outbox *,
                                                                            struct recorder *))arg;
    struct outbox *outbox = MEM_NEW(struct outbox);
    struct recorder *r = MEM_NEW(struct recorder);
    r->base = (struct io_stream){.ops = &ops, .loop = loop};
    script(outbox, r);
    CU_ASSERT_EQUAL(outbox->bytes, 0);
    outbox_free(outbox);
    buf_free(&r->bytes);
    free(r->place);
    free(r);
    free(outbox);
    io_loop_stop(loop);
}

static void run(void (*script)(struct outbox *outbox, struct recorder *r))
{
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, play, &script));
    io_env_free(env);
}

/* Three fragments of data; a word of progress comes after the first. */
static void overtake(struct outbox *outbox, struct recorder *r)
{
    put(outbox, 1, 1, 0, LARGE);
    send_frames(outbox, r, 1);
    put(outbox, 2, 2, CARRIER_URGENT, 0);
    put(outbox, 3, 3, CARRIER_URGENT, 100);
    send_frames(outbox, r, 4);
    outbox_flush(outbox, &r->base);
    expect(r, (uint64_t[]){1, 2, 3, 1, 1}, 5);
}

static void test_overtake(void)
{
    run(overtake);
}

/* Its own stream's data goes first, whatever the flag says. */
static void in_order(struct outbox *outbox, struct recorder *r)
{
    put(outbox, 1, 1, 0, LARGE);
    put(outbox, 1, 2, CARRIER_URGENT, 0);
    put(outbox, 1, 3, 0, 10);
    put(outbox, 1, 4, CARRIER_URGENT, 0);
    send_frames(outbox, r, 6);
    outbox_flush(outbox, &r->base);
    expect(r, (uint64_t[]){1, 1, 1, 2, 3, 4}, 6);
}

static void test_in_order(void)
{
    run(in_order);
}

/* A stream with little to say waits for one frame of each of the others, not for their messages. */
static void turns(struct outbox *outbox, struct recorder *r)
{
    put(outbox, 1, 1, 0, LARGE);
    put(outbox, 2, 2, 0, LARGE);
    put(outbox, 3, 3, 0, 100);
    send_frames(outbox, r, 7);
    outbox_flush(outbox, &r->base);
    expect(r, (uint64_t[]){1, 2, 3, 1, 2, 1, 2}, 7);
}

static void test_turns(void)
{
    run(turns);
}

static const struct test_case cases[] = {
    {"urgent messages overtake data", test_overtake},
    {"within a stream nothing does", test_in_order},
    {"streams take turns", test_turns},
};
TEST_SUITE("ring/tcp, outbox", cases)
