/* ctrl/rpc/pb: encoding and decoding round trips, and what hostile bytes get. */
#include "ctrl/rpc/pb.h"
#include "tests/unit/harness.h"

#include "proto/test_messages.pb.h"

#define FIELDS tailrace_test_Node_fields

static void put_varint(struct buf *b, uint64_t v)
{
    while (v >= 0x80) {
        buf_append_byte(b, (uint8_t)(v | 0x80));
        v >>= 7;
    }
    buf_append_byte(b, (uint8_t)v);
}

static void expect_refused(const void *data, size_t len, const char *reason)
{
    tailrace_test_Node node = {0};
    err_t err = rpc_decode_pb(FIELDS, &node, data, len);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), reason));
    if (strstr(err_text(err), reason) == NULL) {
        printf("got: %s\n", err_text(err));
    }
    err_free(err);
}

static void test_round_trip(void)
{
    size_t payload_len = 300000; /* more than nanopb's own 16-bit sizes could hold */
    uint8_t *payload = mem_alloc(payload_len);
    memset(payload, 0xa5, payload_len);
    uint64_t numbers[] = {0, 1, UINT64_MAX};
    tailrace_test_Node children[2] = {{.name = "left"}, {.name = "right"}};
    children[1].payload = (struct rpc_bytes){payload, 3};
    tailrace_test_Node node = {.name = "root",
                               .children = children,
                               .children_count = 2,
                               .numbers = numbers,
                               .numbers_count = 3,
                               .payload = {payload, payload_len},
                               .which_choice = tailrace_test_Node_leaf_tag,
                               .choice.leaf.yes = true,
                               .has_maybe = true,
                               .maybe = 7};
    struct buf out = {0};
    CU_ASSERT_PTR_NULL_FATAL(rpc_pb_encode(FIELDS, &node, &out));
    tailrace_test_Node back = {0};
    CU_ASSERT_PTR_NULL_FATAL(rpc_decode_pb(FIELDS, &back, out.data, out.len));
    CU_ASSERT_STRING_EQUAL(back.name, "root");
    CU_ASSERT_EQUAL_FATAL(back.children_count, 2);
    CU_ASSERT_STRING_EQUAL(back.children[0].name, "left");
    CU_ASSERT_EQUAL(back.children[1].payload.len, 3);
    CU_ASSERT_EQUAL_FATAL(back.numbers_count, 3);
    CU_ASSERT_EQUAL(back.numbers[2], UINT64_MAX);
    CU_ASSERT_EQUAL_FATAL(back.payload.len, payload_len);
    CU_ASSERT_EQUAL(memcmp(back.payload.data, payload, payload_len), 0);
    CU_ASSERT(back.payload.data > out.data && back.payload.data < out.data + out.len);
    CU_ASSERT_EQUAL(back.which_choice, tailrace_test_Node_leaf_tag);
    CU_ASSERT(back.choice.leaf.yes && back.has_maybe && back.maybe == 7);
    rpc_release_pb(FIELDS, &back);
    CU_ASSERT_PTR_NULL(back.name);
    buf_free(&out);
    free(payload);
}

static void test_every_truncation_is_refused(void)
{
    tailrace_test_Node child = {.name = "child"};
    uint64_t numbers[] = {300, 70000};
    tailrace_test_Node node = {.name = "root",
                               .children = &child,
                               .children_count = 1,
                               .numbers = numbers,
                               .numbers_count = 2,
                               .which_choice = tailrace_test_Node_text_tag,
                               .choice.text = "text"};
    struct buf out = {0};
    CU_ASSERT_PTR_NULL_FATAL(rpc_pb_encode(FIELDS, &node, &out));
    size_t refused = 0;
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *exact = mem_alloc(len); /* so that a read past the end is seen */
        memcpy(exact, out.data, len);
        tailrace_test_Node back = {0};
        err_t err = rpc_decode_pb(FIELDS, &back, exact, len);
        if (err == ERR_OK) {
            rpc_release_pb(FIELDS, &back);
        } else {
            refused++;
        }
        err_free(err);
        free(exact);
    }
    CU_ASSERT(refused >= out.len - 5); /* cuts between fields are messages too */
    buf_free(&out);
}

static void test_depth(void)
{
    struct buf out = {0};
    for (int depth = 0; depth < 50000; depth++) {
        struct buf outer = {0};
        if (depth > 200) {
            break;
        }
        put_varint(&outer, 2 << 3 | 2);
        put_varint(&outer, out.len);
        buf_append(&outer, out.data == NULL ? (const uint8_t *)"" : out.data, out.len);
        buf_free(&out);
        out = outer;
    }
    expect_refused(out.data, out.len, "nested too deeply");
    buf_free(&out);
}

static void test_memory(void)
{
    /* Two bytes for each node that takes a hundred: the amplification must be bounded. */
    struct buf inner = {0};
    for (int i = 0; i < 60000; i++) {
        put_varint(&inner, 2 << 3 | 2);
        put_varint(&inner, 0);
    }
    struct buf out = {0};
    for (int i = 0; i < 10; i++) {
        put_varint(&out, 2 << 3 | 2);
        put_varint(&out, inner.len);
        buf_append(&out, inner.data, inner.len);
    }
    expect_refused(out.data, out.len, "too much memory");
    buf_free(&inner);
    buf_free(&out);
}

static void test_text_is_checked(void)
{
    expect_refused("\x0a\x02\xff\xfe", 4, "not valid UTF-8");
    expect_refused("\x0a\x03"
                   "a\0b",
                   5, "NUL byte");
}

static void test_broken_wire(void)
{
    expect_refused("\x0a\x7f", 2, "passes the end");
    expect_refused("\x0b", 1, "wrong wire type");
    expect_refused("\x7b", 1, "wire type is unknown"); /* a group of an unknown field */
    expect_refused("\x00", 1, "tag is broken");
    expect_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11, "tag is broken");
    expect_refused("\x20\x01", 2, "wrong wire type"); /* the payload as a number */
    expect_refused("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, "passes the end");
    expect_refused("\x38", 1, "cut short");
}

static void test_unknown_fields_are_skipped(void)
{
    const char bytes[] = "\xf8\x06\x01\x0a\x01x\xfa\x06\x03"
                         "abc";
    tailrace_test_Node node = {0};
    CU_ASSERT_PTR_NULL_FATAL(
        rpc_decode_pb(FIELDS, &node, (const uint8_t *)bytes, sizeof(bytes) - 1));
    CU_ASSERT_STRING_EQUAL(node.name, "x");
    rpc_release_pb(FIELDS, &node);
}

static void test_empty(void)
{
    tailrace_test_Node node = {0};
    CU_ASSERT_PTR_NULL_FATAL(rpc_decode_pb(FIELDS, &node, NULL, 0));
    CU_ASSERT_PTR_NULL(node.name);
    rpc_release_pb(FIELDS, &node);
}

static const struct test_case cases[] = {
    {"round trip", test_round_trip},
    {"every truncation is refused or a message", test_every_truncation_is_refused},
    {"depth is bounded", test_depth},
    {"memory is bounded", test_memory},
    {"text is checked", test_text_is_checked},
    {"broken wire format", test_broken_wire},
    {"unknown fields are skipped", test_unknown_fields_are_skipped},
    {"empty message", test_empty},
};
TEST_SUITE("ctrl/rpc/pb", cases)
