/* Frames, the handshake's message, mailboxes. */
#include "tests/unit/harness.h"

#include "core/base/mem.h"
#include "ring/frame/frame.h"
#include "ring/frame/hello.h"
#include "ring/frame/mailbox.h"

#include <stdio.h>

struct sink {
    uint8_t place[4096];
    struct frame_header last;
    size_t frames;
    size_t stop_after;
    struct frame_parser *parser;
};

static err_t frame_place(void *arg, const struct frame_header *h, uint8_t **place)
{
    struct sink *sink = arg;
    if (h->length > sizeof(sink->place)) {
        return err_new(ERR_LIMIT, "too long for the test");
    }
    *place = sink->place;
    return ERR_OK;
}

static err_t frame_there(void *arg, const struct frame_header *h)
{
    struct sink *sink = arg;
    sink->last = *h;
    if (++sink->frames == sink->stop_after) {
        sink->parser->stop = true;
    }
    return ERR_OK;
}

static struct frame_header header(size_t len)
{
    return (struct frame_header){.kind = 19, .flags = FRAME_FIRST | FRAME_LAST, .from = 1,
                                 .to = 2, .stream = 3, .c = 4, .a = 5, .b = UINT64_MAX,
                                 .length = (uint32_t)len, .total = (uint32_t)len};
}

static void put(struct buf *out, size_t len)
{
    uint8_t payload[4096];
    uint8_t head[FRAME_HEADER_LEN];
    memset(payload, (int)len, sizeof(payload));
    struct frame_header h = header(len);
    frame_encode(head, &h, payload);
    buf_append(out, head, sizeof(head));
    buf_append(out, payload, len);
}

/* Every way of cutting three frames in two gives the same three frames. */
static void test_parse(void)
{
    struct buf bytes = {0};
    put(&bytes, 100);
    put(&bytes, 0);
    put(&bytes, 7);
    for (size_t cut = 0; cut <= bytes.len; cut++) {
        struct sink sink = {0};
        struct frame_parser parser = {.begin = frame_place, .end = frame_there, .arg = &sink};
        size_t used = 0;
        CU_ASSERT_PTR_NULL(frame_parse(&parser, bytes.data, cut, &used));
        CU_ASSERT_EQUAL(used, cut);
        CU_ASSERT_PTR_NULL(frame_parse(&parser, bytes.data + cut, bytes.len - cut, &used));
        CU_ASSERT_EQUAL(sink.frames, 3);
        CU_ASSERT_TRUE(frame_parser_clean(&parser));
        CU_ASSERT_EQUAL(sink.last.b, UINT64_MAX);
        CU_ASSERT_EQUAL(sink.last.length, 7);
        CU_ASSERT_EQUAL(sink.place[6], 7);
    }
    buf_free(&bytes);
}

static void test_stop(void)
{
    struct buf bytes = {0};
    put(&bytes, 10);
    put(&bytes, 20);
    struct sink sink = {.stop_after = 1};
    struct frame_parser parser = {.begin = frame_place, .end = frame_there, .arg = &sink};
    sink.parser = &parser;
    size_t used = 0;
    CU_ASSERT_PTR_NULL(frame_parse(&parser, bytes.data, bytes.len, &used));
    CU_ASSERT_EQUAL(used, FRAME_HEADER_LEN + 10);
    CU_ASSERT_EQUAL(sink.frames, 1);
    buf_free(&bytes);
}

/* Any single bit flipped is noticed. */
static void test_flip(void)
{
    struct buf bytes = {0};
    put(&bytes, 33);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        struct sink sink = {0};
        struct frame_parser parser = {.begin = frame_place, .end = frame_there, .arg = &sink};
        size_t used = 0;
        bytes.data[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        err_t err = frame_parse(&parser, bytes.data, bytes.len, &used);
        CU_ASSERT_TRUE(err != ERR_OK || !frame_parser_clean(&parser));
        CU_ASSERT_EQUAL(sink.frames, 0);
        err_free(err);
        bytes.data[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    }
    buf_free(&bytes);
}

static size_t sealed_frame(uint8_t *out, const char *payload)
{
    struct frame_header h = header(strlen(payload));
    h.flags |= FRAME_SEALED;
    frame_encode(out, &h, payload);
    memcpy(out + FRAME_HEADER_LEN, payload, h.length);
    return FRAME_HEADER_LEN + h.length;
}

/* A payload without a checksum is taken where the stream is sealed, and its header has one. */
static void test_sealed(void)
{
    uint8_t bytes[FRAME_HEADER_LEN + 16];
    size_t len = sealed_frame(bytes, "0123456789");
    for (size_t bit = 0; bit <= FRAME_HEADER_LEN * 8; bit++) {
        bool whole = bit == FRAME_HEADER_LEN * 8;
        struct sink sink = {0};
        struct frame_parser parser = {.begin = frame_place, .end = frame_there, .arg = &sink,
                                      .sealed = true};
        size_t used = 0;
        bytes[bit / 8] ^= (uint8_t)(1 << (bit % 8)); /* whole: the payload's first */
        err_t err = frame_parse(&parser, bytes, len, &used);
        bytes[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        CU_ASSERT_EQUAL(sink.frames, whole ? 1 : 0);
        CU_ASSERT_TRUE(whole == (err == ERR_OK && frame_parser_clean(&parser)));
        err_free(err);
    }
    struct sink sink = {0};
    struct frame_parser parser = {.begin = frame_place, .end = frame_there, .arg = &sink};
    size_t used = 0;
    err_t err = frame_parse(&parser, bytes, len, &used);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "outside TLS"));
    err_free(err);
}

/* Bytes that are put where the parser wants them are taken like any others. */
static void test_in_place(void)
{
    struct buf bytes = {0};
    put(&bytes, 100);
    put(&bytes, 0);
    struct sink sink = {0};
    struct frame_parser parser = {.begin = frame_place, .end = frame_there, .arg = &sink};
    size_t used = 0;
    size_t room = 0;
    CU_ASSERT_PTR_NULL(frame_parser_place(&parser, &room));
    CU_ASSERT_PTR_NULL(frame_parse(&parser, bytes.data, FRAME_HEADER_LEN + 10, &used));
    for (size_t at = 10; at < 100; at += 45) {
        uint8_t *place = frame_parser_place(&parser, &room);
        CU_ASSERT_PTR_EQUAL_FATAL(place, sink.place + at);
        CU_ASSERT_EQUAL(room, 100 - at);
        memcpy(place, bytes.data + FRAME_HEADER_LEN + at, 45);
        CU_ASSERT_PTR_NULL(frame_parse(&parser, place, 45, &used));
    }
    CU_ASSERT_EQUAL(sink.frames, 1); /* so the checksum held */
    CU_ASSERT_PTR_NULL(frame_parser_place(&parser, &room));
    size_t taken = FRAME_HEADER_LEN + 100;
    CU_ASSERT_PTR_NULL(frame_parse(&parser, bytes.data + taken, bytes.len - taken, &used));
    CU_ASSERT_EQUAL(sink.frames, 2);
    CU_ASSERT_TRUE(frame_parser_clean(&parser));
    buf_free(&bytes);
}

static void put32(uint8_t *at, uint32_t v)
{
    memcpy(at, &v, sizeof(v));
}

static void expect_bad(size_t at, uint32_t value, const char *what)
{
    uint8_t head[FRAME_HEADER_LEN];
    struct frame_header h = header(10);
    uint32_t crc, want;
    frame_encode(head, &h, "0123456789");
    put32(head + at, value);
    err_t err = frame_decode(head, &h, &crc, &want);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), what));
    err_free(err);
}

static void test_limits(void)
{
    expect_bad(0, 0x20544547, "magic");                /* "GET " */
    expect_bad(4, FRAME_PAYLOAD_MAX + 1, "longer than the limit");
    expect_bad(4, UINT32_MAX, "longer than the limit");
    expect_bad(4, 11, "longer than its message");
    expect_bad(8, 0x0300, "unknown frame kind");       /* kind 0 */
    expect_bad(8, 0x0b13, "unknown frame kind");       /* flag 8 */
    expect_bad(8, 0x010313, "reserved");
    expect_bad(8, 0x0113, "disagree");                 /* not last, but whole */
    expect_bad(40, FRAME_MESSAGE_MAX + 1, "message longer");
    expect_bad(40, 11, "disagree");
}

static struct hello good(void)
{
    struct hello h = {.version = HELLO_VERSION, .protocol = HELLO_EXCHANGE,
                      .role = HELLO_COMPUTE, .carriers = 3, .process = 1,
                      .generation = 1ULL << 40, .epoch = 9, .nonce = 77, .challenge = 78,
                      .workers = 4, .worker_base = 4, .processes = 2, .formation = 12};
    memcpy(h.environment, "0123456789abcde", 16);
    hello_set_host(&h, "a-host");
    memset(h.proof, 7, sizeof(h.proof));
    return h;
}

static void test_hello(void)
{
    struct buf bytes = {0};
    struct hello h = good(), back;
    enum hello_refusal refusal = 0;
    hello_encode(&bytes, &h);
    CU_ASSERT_PTR_NULL(hello_decode(bytes.data, bytes.len, &back, &refusal));
    CU_ASSERT_EQUAL(back.generation, 1ULL << 40);
    CU_ASSERT_EQUAL(back.formation, 12);
    CU_ASSERT_STRING_EQUAL(back.host, "a-host");
    CU_ASSERT_TRUE(hello_proof_equal(back.proof, h.proof));
    for (size_t len = 0; len < bytes.len; len++) { /* truncated anywhere */
        err_t err = hello_decode(bytes.data, len, &back, &refusal);
        CU_ASSERT_PTR_NOT_NULL(err);
        err_free(err);
    }
    buf_append_byte(&bytes, 0); /* or too long */
    err_t err = hello_decode(bytes.data, bytes.len, &back, &refusal);
    CU_ASSERT_EQUAL(refusal, REFUSE_FRAME);
    err_free(err);
    buf_clear(&bytes);
    h.workers = 0;
    hello_encode(&bytes, &h);
    err = hello_decode(bytes.data, bytes.len, &back, &refusal);
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
    buf_free(&bytes);
}

static void expect_check(struct hello theirs, enum hello_refusal want)
{
    struct hello ours = good();
    enum hello_refusal refusal = 0;
    err_t err = hello_check(&theirs, &ours, HELLO_COMPUTE, &refusal);
    CU_ASSERT_PTR_NOT_NULL(err);
    CU_ASSERT_EQUAL(refusal, want);
    err_free(err);
}

static void test_check(void)
{
    struct hello h = good();
    h.protocol = HELLO_BOUNDARY;
    expect_check(h, REFUSE_PROTOCOL);
    h = good();
    h.environment[3] ^= 1;
    expect_check(h, REFUSE_ENVIRONMENT);
    h = good();
    h.role = HELLO_STORAGE;
    expect_check(h, REFUSE_ROLE);
    CU_ASSERT_STRING_EQUAL(hello_refusal_name(REFUSE_EPOCH), "epoch");
    CU_ASSERT_STRING_EQUAL(hello_refusal_name(99), "unknown");
}

static void test_proof(void)
{
    uint8_t a[HELLO_PROOF_LEN], b[HELLO_PROOF_LEN];
    const uint8_t *secret = (const uint8_t *)"secret";
    hello_prove(secret, 6, "x", 1, 2, a);
    hello_prove(secret, 6, "x", 1, 2, b);
    CU_ASSERT_TRUE(hello_proof_equal(a, b));
    hello_prove(secret, 6, "y", 1, 2, b); /* the other side's */
    CU_ASSERT_FALSE(hello_proof_equal(a, b));
    hello_prove(secret, 6, "x", 1, 3, b); /* replayed */
    CU_ASSERT_FALSE(hello_proof_equal(a, b));
    hello_prove(secret, 5, "x", 1, 2, b);
    CU_ASSERT_FALSE(hello_proof_equal(a, b));
}

/* ---- mailboxes ------------------------------------------------------------------------------- */

enum { SENDERS = 3, ITEMS = 50000 };

struct parcel {
    struct mailbox_item item;
    uint32_t sender;
    uint64_t number;
};

struct post {
    struct io_loop *loop;
    struct mailbox *box;
    struct mailbox *left;
    struct sender {
        struct post *post;
        uint32_t index;
        uint64_t sent;
        struct io_poller poller;
    } senders[SENDERS];
    uint64_t got[SENDERS];
    uint64_t total;
    bool disorder;
    bool afters;
};

static bool send_some(struct io_poller *poller)
{
    struct sender *s = CONTAINER_OF(poller, struct sender, poller);
    if (s->sent == ITEMS) {
        return false;
    }
    for (int i = 0; i < 16 && s->sent < ITEMS; i++) {
        struct parcel *p = MEM_NEW(struct parcel);
        p->sender = s->index;
        p->number = s->sent++;
        mailbox_put(s->post->box, &p->item);
    }
    return true;
}

static void sender_start(struct io_loop *loop, void *arg)
{
    struct sender *s = arg;
    s->poller.poll = send_some;
    io_poller_add(loop, &s->poller);
}

static void parcel_drop(struct mailbox_item *item)
{
    free(CONTAINER_OF(item, struct parcel, item));
}

static void parcel_take(void *arg, struct mailbox_item *item)
{
    struct post *post = arg;
    struct parcel *p = CONTAINER_OF(item, struct parcel, item);
    post->disorder |= p->number != post->got[p->sender]++;
    free(p);
    if (++post->total == SENDERS * ITEMS) {
        io_loop_stop(post->loop);
    }
}

static void parcel_after(void *arg)
{
    ((struct post *)arg)->afters = true;
}

static void never(void *arg, struct mailbox_item *item)
{
    CU_FAIL("an item of a mailbox that was freed");
}

static void post_start(struct io_loop *loop, void *arg)
{
    struct post *post = arg;
    post->loop = loop;
    post->box = mailbox_new(loop, parcel_take, parcel_after, post);
    for (uint32_t i = 0; i < SENDERS; i++) {
        post->senders[i].post = post;
        post->senders[i].index = i;
        CU_ASSERT_PTR_NULL(io_thread_start(loop, "sender", -1, sender_start, NULL,
                                           &post->senders[i]));
    }
    struct mailbox *other = mailbox_new(loop, never, NULL, post); /* freed with items in it */
    for (int i = 0; i < 3; i++) {
        mailbox_put(other, &MEM_NEW(struct parcel)->item);
    }
    mailbox_free(other, parcel_drop);
    post->left = mailbox_new(loop, never, NULL, post); /* freed after the loop has stopped */
}

static void test_mailbox(void)
{
    struct io_env *env;
    struct post *post = MEM_NEW(struct post);
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, post_start, post));
    CU_ASSERT_EQUAL(post->total, SENDERS * ITEMS);
    CU_ASSERT_FALSE(post->disorder);
    CU_ASSERT_TRUE(post->afters);
    mailbox_put(post->left, &MEM_NEW(struct parcel)->item);
    mailbox_free(post->left, parcel_drop);
    mailbox_free(post->box, parcel_drop);
    io_env_free(env);
    free(post);
}

static const struct test_case cases[] = {
    {"parse at every cut", test_parse},
    {"parse stops when told", test_stop},
    {"every flipped bit is noticed", test_flip},
    {"sealed", test_sealed},
    {"in place", test_in_place},
    {"limits", test_limits},
    {"hello", test_hello},
    {"checks", test_check},
    {"proof of the node", test_proof},
    {"mailbox", test_mailbox},
};
TEST_SUITE("ring/frame", cases)
