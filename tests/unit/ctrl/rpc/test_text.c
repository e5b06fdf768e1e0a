/* ctrl/rpc: timeouts, percent-encoding, base64, metadata lists, status codes. */
#include "ctrl/rpc/metadata.h"
#include "ctrl/rpc/rpc_internal.h"
#include "ctrl/rpc/text.h"
#include "tests/unit/harness.h"

static bool parse(const char *text, uint64_t *us)
{
    return rpc_timeout_parse(text, strlen(text), us);
}

static void test_timeout_parse(void)
{
    uint64_t us = 0;
    CU_ASSERT(parse("1S", &us) && us == 1000000);
    CU_ASSERT(parse("100m", &us) && us == 100000);
    CU_ASSERT(parse("7u", &us) && us == 7);
    CU_ASSERT(parse("1500n", &us) && us == 1);
    CU_ASSERT(parse("2M", &us) && us == 120000000);
    CU_ASSERT(parse("99999999H", &us) && us == 99999999ULL * 3600000000ULL);
    const char *bad[] = {"", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S", "1S ", "S1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CU_ASSERT_FALSE(parse(bad[i], &us));
    }
}

static void test_timeout_format_is_never_shorter(void)
{
    for (uint64_t us = 0; us < UINT64_MAX / 4; us = us * 3 + 1) {
        char text[12];
        rpc_timeout_format(us, text);
        CU_ASSERT(strlen(text) <= 9);
        uint64_t back = 0;
        CU_ASSERT_FATAL(parse(text, &back));
        if (us < 99999999ULL * 3600000000ULL) {
            CU_ASSERT(back >= us);
        }
    }
}

static void test_percent(void)
{
    struct buf encoded = {0};
    struct buf decoded = {0};
    const char *text = "\t\ntest with whitespace\r\nand Unicode BMP \xe2\x98\xba and 100%\n";
    rpc_percent_encode(&encoded, text);
    for (size_t i = 0; i < encoded.len; i++) {
        CU_ASSERT(encoded.data[i] >= 0x20 && encoded.data[i] <= 0x7e);
    }
    rpc_percent_decode(&decoded, (const char *)encoded.data, encoded.len);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&decoded), text);
    buf_clear(&decoded);
    rpc_percent_decode(&decoded, "%4%zz%4a%e2%", 12);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&decoded), "%4%zzJ\xe2%");
    buf_free(&encoded);
    buf_free(&decoded);
}

static void test_base64(void)
{
    uint8_t data[50];
    for (size_t len = 0; len < sizeof(data); len++) {
        data[len] = (uint8_t)(len * 37);
        struct buf encoded = {0};
        struct buf decoded = {0};
        rpc_base64_encode(&encoded, data, len);
        CU_ASSERT_EQUAL(encoded.len, (len * 4 + 2) / 3);
        CU_ASSERT(rpc_base64_decode(&decoded, buf_cstr(&encoded), encoded.len));
        CU_ASSERT_EQUAL_FATAL(decoded.len, len);
        CU_ASSERT(len == 0 || memcmp(decoded.data, data, len) == 0);
        buf_free(&encoded);
        buf_free(&decoded);
    }
    struct buf out = {0};
    CU_ASSERT(rpc_base64_decode(&out, "YWI=", 4));
    CU_ASSERT_FALSE(rpc_base64_decode(&out, "YW*=", 4));
    CU_ASSERT_FALSE(rpc_base64_decode(&out, "YWIxY", 5));
    CU_ASSERT_FALSE(rpc_base64_decode(&out, "Y\0Ix", 4));
    buf_free(&out);
}

static err_t add(struct rpc_metadata_list *list, const char *key, const char *value)
{
    return rpc_metadata_add(list, (struct rpc_metadata){key, value, strlen(value)});
}

static void expect_invalid(struct rpc_metadata_list *list, const char *key, const char *value)
{
    err_t err = add(list, key, value);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
}

static void test_metadata_to_send(void)
{
    struct rpc_metadata_list list = {0};
    CU_ASSERT_PTR_NULL(add(&list, "x-trace", "one"));
    CU_ASSERT_PTR_NULL(rpc_metadata_add(&list, (struct rpc_metadata){"x-data-bin", "\0\xff\n", 3}));
    CU_ASSERT_STRING_EQUAL(rpc_metadata_find(&list, "x-data-bin")->value, "AP8K");
    expect_invalid(&list, "", "v");
    expect_invalid(&list, "Upper", "v");
    expect_invalid(&list, ":path", "v");
    expect_invalid(&list, "grpc-status", "0");
    expect_invalid(&list, "sp ace", "v");
    expect_invalid(&list, "x", "line\r\nbreak");
    CU_ASSERT_EQUAL(list.entries_len, 2);
    rpc_metadata_free(&list);
}

static void test_metadata_received(void)
{
    struct rpc_metadata_list list = {0};
    CU_ASSERT_PTR_NULL(rpc_metadata_receive(&list, "a-bin", 5, "AP8K", 4));
    const struct rpc_entry *entry = rpc_metadata_find(&list, "a-bin");
    CU_ASSERT_PTR_NOT_NULL_FATAL(entry);
    CU_ASSERT_EQUAL(entry->value_len, 3);
    err_t err = rpc_metadata_receive(&list, "b-bin", 5, "!!", 2);
    CU_ASSERT(err != NULL && err_code(err) == ERR_PROTOCOL);
    err_free(err);
    err = ERR_OK;
    size_t accepted = 0;
    while (err == ERR_OK) {
        err = rpc_metadata_receive(&list, "key", 3, "value", 5);
        accepted += err == ERR_OK;
    }
    CU_ASSERT_EQUAL(err_code(err), ERR_LIMIT);
    CU_ASSERT_EQUAL(accepted, RPC_METADATA_ENTRIES_MAX - 1);
    err_free(err);
    rpc_metadata_free(&list);
}

static void test_metadata_bytes_limit(void)
{
    struct rpc_metadata_list list = {0};
    char *big = mem_alloc(RPC_METADATA_BYTES_MAX + 8);
    memset(big, 'A', RPC_METADATA_BYTES_MAX + 8);
    err_t err = rpc_metadata_receive(&list, "k", 1, big, RPC_METADATA_BYTES_MAX);
    CU_ASSERT(err != NULL && err_code(err) == ERR_LIMIT);
    err_free(err);
    err = rpc_metadata_receive(&list, "k-bin", 5, big, RPC_METADATA_BYTES_MAX + 8);
    CU_ASSERT(err != NULL && err_code(err) == ERR_LIMIT);
    err_free(err);
    CU_ASSERT_EQUAL(list.entries_len, 0);
    free(big);
    rpc_metadata_free(&list);
}

static void test_status_round_trip(void)
{
    for (int code = ERR_INTERNAL; code <= ERR_IO; code++) {
        err_t err = err_new((enum err_code)code, "text");
        enum rpc_status status = rpc_status_of(err);
        CU_ASSERT(status > RPC_OK && status <= RPC_UNAUTHENTICATED);
        err_free(err);
    }
    for (int status = RPC_CANCELLED; status <= RPC_UNAUTHENTICATED; status++) {
        err_t err = rpc_status_err((enum rpc_status)status, "why");
        CU_ASSERT_PTR_NOT_NULL_FATAL(err);
        CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "why"));
        CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), rpc_status_name((enum rpc_status)status)));
        err_free(err);
    }
    CU_ASSERT_PTR_NULL(rpc_status_err(RPC_OK, ""));
    CU_ASSERT_EQUAL(rpc_status_of(NULL), RPC_OK);
    err_t who = err_sql(ERR_PERMISSION, "28000", "who are you");
    CU_ASSERT_EQUAL(rpc_status_of(who), RPC_UNAUTHENTICATED);
    err_free(who);
    CU_ASSERT_STRING_EQUAL(rpc_status_name((enum rpc_status)99), "UNKNOWN");
}

static void test_http_and_reset_mapping(void)
{
    CU_ASSERT_EQUAL(rpc_status_of_http(404), RPC_UNIMPLEMENTED);
    CU_ASSERT_EQUAL(rpc_status_of_http(503), RPC_UNAVAILABLE);
    CU_ASSERT_EQUAL(rpc_status_of_http(299), RPC_UNKNOWN);
    CU_ASSERT_EQUAL(rpc_status_of_reset(NGHTTP2_REFUSED_STREAM), RPC_UNAVAILABLE);
    CU_ASSERT_EQUAL(rpc_status_of_reset(NGHTTP2_CANCEL), RPC_CANCELLED);
    CU_ASSERT_EQUAL(rpc_status_of_reset(12345), RPC_INTERNAL);
}

static const struct test_case cases[] = {
    {"timeouts are parsed", test_timeout_parse},
    {"timeouts are never shortened", test_timeout_format_is_never_shorter},
    {"percent-encoding", test_percent},
    {"base64", test_base64},
    {"metadata to send", test_metadata_to_send},
    {"metadata received", test_metadata_received},
    {"metadata bytes are limited", test_metadata_bytes_limit},
    {"status codes and errors", test_status_round_trip},
    {"HTTP and reset codes", test_http_and_reset_mapping},
};
TEST_SUITE("ctrl/rpc/text", cases)
