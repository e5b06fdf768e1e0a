/*
 * The Nexmark stream is the one of the Rust crate `nexmark` 0.2 byte for byte: digests of its JSON
 * lines were taken from that crate. Where times are in 64 bits everything but times and what
 * depends on them stays the same.
 */
#include "tests/unit/harness.h"

#include "bench/nexmark/stream.h"
#include "core/base/mem.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

static struct nexmark *stream(bool wide_times)
{
    return nexmark_new(&(struct nexmark_config){.wide_times = wide_times});
}

/* SHA-256 of the first so many events as lines of JSON, in hexadecimal. */
static void digest_of(const struct nexmark *nexmark, uint64_t events, char hex[65])
{
    unsigned char digest[32];
    struct nexmark_event event;
    char line[NEXMARK_JSON_MAX];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    CU_ASSERT_EQUAL_FATAL(EVP_DigestInit_ex(hash, EVP_sha256(), NULL), 1);
    for (uint64_t n = 0; n < events; n++) {
        nexmark_event(nexmark, n, &event);
        EVP_DigestUpdate(hash, line, nexmark_json(&event, line));
    }
    CU_ASSERT_EQUAL_FATAL(EVP_DigestFinal_ex(hash, digest, NULL), 1);
    EVP_MD_CTX_free(hash);
    for (int i = 0; i < 32; i++) {
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
}

static void test_digests(void)
{
    static const struct {
        uint64_t events;
        const char *digest;
    } known[] = {
        {100, "678ad2c97f730f10f5d2f63994bf10d56f57fd88ab01054130af5bc4147b40d0"},
        {10000, "65a1e49765ce0bdf6395e17ff03b4d81ea6fd6d2e11bc3621cbd69b44019a90f"},
        {1000000, "a78bf65deedd6e3ac62f1314a88eb651cb2d043a28b3af014a278aecbe995061"},
    };
    struct nexmark *nexmark = stream(false);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        char hex[65];
        digest_of(nexmark, known[i].events, hex);
        CU_ASSERT_STRING_EQUAL(hex, known[i].digest);
    }
    nexmark_free(nexmark);
}

/* Far enough for hot ids, leads and single precision to have shown any difference. */
static void test_sum(void)
{
    struct nexmark *nexmark = stream(false);
    struct nexmark_event event;
    uint64_t sum = 0;
    for (uint64_t n = 0; n < 5000000; n++) {
        nexmark_event(nexmark, n, &event);
        sum += event.kind == NEXMARK_BID ? event.bid.price + event.extra.len : 0;
    }
    CU_ASSERT_EQUAL(sum, 33286467470863u);
    nexmark_free(nexmark);
}

static void test_times(void)
{
    struct nexmark *narrow = stream(false), *wide = stream(true);
    struct nexmark_event a, b;
    for (uint64_t n = 0; n < 100000; n++) {
        nexmark_event(narrow, n, &a);
        nexmark_event(wide, n, &b);
        CU_ASSERT_EQUAL_FATAL(a.kind, b.kind);
        CU_ASSERT_TRUE_FATAL(a.time_ms <= b.time_ms + 1 && b.time_ms <= a.time_ms + 1);
        CU_ASSERT_TRUE_FATAL(a.kind != NEXMARK_BID || a.bid.price == b.bid.price);
    }
    /* Single precision has run out of bits here; the other mode keeps ten events a millisecond. */
    uint64_t far = (uint64_t)1 << 33;
    nexmark_event(narrow, far, &a);
    nexmark_event(narrow, far + 100, &b);
    CU_ASSERT_EQUAL(a.time_ms, b.time_ms);
    nexmark_event(wide, far, &a);
    nexmark_event(wide, far + 100, &b);
    CU_ASSERT_EQUAL(b.time_ms - a.time_ms, 10);
    nexmark_free(narrow);
    nexmark_free(wide);
}

/* An interval and a base of one's own. */
static void test_config(void)
{
    struct nexmark *nexmark = nexmark_new(
        &(struct nexmark_config){.base_ms = 1500, .interval_us = 2000, .wide_times = true});
    struct nexmark_event event;
    nexmark_event(nexmark, 0, &event);
    CU_ASSERT_EQUAL(event.time_ms, 1500);
    CU_ASSERT_EQUAL(event.kind, NEXMARK_PERSON);
    nexmark_event(nexmark, 3, &event);
    CU_ASSERT_EQUAL(event.time_ms, 1506);
    CU_ASSERT_EQUAL(event.kind, NEXMARK_AUCTION);
    CU_ASSERT_TRUE(event.auction.expires_ms > event.time_ms);
    CU_ASSERT_EQUAL(nexmark_kind_of(4), NEXMARK_BID);
    CU_ASSERT_EQUAL(nexmark_kind_of(50), NEXMARK_PERSON);
    nexmark_free(nexmark);
}

static const struct test_case cases[] = {
    {"digests of the stream", test_digests},
    {"a sum over five million events", test_sum},
    {"times in 64 bits", test_times},
    {"interval and base", test_config},
};
TEST_SUITE("bench/nexmark", cases)
