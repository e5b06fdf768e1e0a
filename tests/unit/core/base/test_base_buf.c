/* Buffers, readers of bytes from outside, arenas. */
#include "core/base/arena.h"
#include "core/base/buf.h"
#include "tests/unit/harness.h"

#include <stdint.h>
#include <string.h>

static void append_and_consume(void)
{
    struct buf buf = {0};
    CU_ASSERT(strcmp(buf_cstr(&buf), "") == 0 && buf.len == 0);
    buf_append(&buf, NULL, 0);
    buf_append(&buf, "abc", 3);
    buf_append_byte(&buf, 'd');
    buf_append_str(&buf, "ef");
    buf_printf(&buf, "-%d-%s", 42, "x");
    CU_ASSERT(strcmp(buf_cstr(&buf), "abcdef-42-x") == 0);
    CU_ASSERT(buf.len == 11);
    buf_consume(&buf, 0);
    buf_consume(&buf, 3);
    CU_ASSERT(strcmp(buf_cstr(&buf), "def-42-x") == 0);
    buf_consume(&buf, buf.len);
    CU_ASSERT(buf.len == 0);
    for (int i = 0; i < 100000; i++) {
        buf_append_byte(&buf, (uint8_t)i);
    }
    CU_ASSERT(buf.len == 100000);
    for (int i = 0; i < 100000; i += 997) {
        CU_ASSERT(buf.data[i] == (uint8_t)i);
    }
    buf_clear(&buf);
    CU_ASSERT(buf.len == 0 && buf.cap >= 100000);
    buf_free(&buf);
    CU_ASSERT(buf.data == NULL && buf.cap == 0);
}

static void integers(void)
{
    struct buf buf = {0};
    buf_append_byte(&buf, 0x01);
    buf_append_u16(&buf, 0x0302);
    buf_append_u32(&buf, 0x07060504);
    buf_append_u64(&buf, 0x0F0E0D0C0B0A0908ULL);
    CU_ASSERT_FATAL(buf.len == 15);
    for (size_t i = 0; i < buf.len; i++) {
        CU_ASSERT(buf.data[i] == i + 1); /* little-endian */
    }
    struct reader r = reader_of(buf.data, buf.len);
    CU_ASSERT(reader_u8(&r) == 0x01);
    CU_ASSERT(reader_u16(&r) == 0x0302);
    CU_ASSERT(reader_u32(&r) == 0x07060504);
    CU_ASSERT(reader_left(&r) == 8);
    CU_ASSERT(reader_u64(&r) == 0x0F0E0D0C0B0A0908ULL);
    CU_ASSERT(!r.failed && reader_left(&r) == 0);
    buf_free(&buf);
}

/* Every truncation of a message fails, stays failed, and never reads past the end (ASan). */
static void truncated(void)
{
    for (size_t len = 0; len < 15; len++) {
        uint8_t *data = mem_zalloc(len);
        struct reader r = reader_of(data, len);
        reader_u64(&r);
        reader_u32(&r);
        reader_u16(&r);
        reader_u8(&r);
        CU_ASSERT(r.failed);
        CU_ASSERT(reader_u8(&r) == 0);
        CU_ASSERT(reader_bytes(&r, 0) == NULL);
        CU_ASSERT(r.at <= len);
        free(data);
    }
    uint8_t bytes[4] = {1, 2, 3, 4};
    struct reader r = reader_of(bytes, 4);
    CU_ASSERT(reader_bytes(&r, SIZE_MAX) == NULL); /* lengths from outside may be anything */
    CU_ASSERT(r.failed && r.at == 0);
    r = reader_of(bytes, 4);
    CU_ASSERT(reader_bytes(&r, 4) == bytes);
    CU_ASSERT(reader_bytes(&r, 0) == bytes + 4);
    CU_ASSERT(!r.failed);
}

static void arena(void)
{
    struct arena arena = {0};
    char *strings[500];
    for (int i = 0; i < 500; i++) {
        strings[i] = arena_printf(&arena, "string %d", i);
        CU_ASSERT((uintptr_t)strings[i] % 16 == 0);
        uint8_t *zero = arena_alloc(&arena, (size_t)i);
        for (int j = 0; j < i; j++) {
            CU_ASSERT(zero[j] == 0);
            zero[j] = 0xFF;
        }
    }
    uint8_t *large = arena_alloc(&arena, 100000); /* larger than a chunk */
    memset(large, 1, 100000);
    CU_ASSERT(arena.used >= 100000);
    for (int i = 0; i < 500; i++) {
        char expected[32];
        snprintf(expected, sizeof(expected), "string %d", i);
        CU_ASSERT(strcmp(strings[i], expected) == 0);
    }
    CU_ASSERT(strcmp(arena_strdup(&arena, "abc"), "abc") == 0);
    CU_ASSERT(strcmp(arena_strndup(&arena, "abcdef", 3), "abc") == 0);
    CU_ASSERT(memcmp(arena_memdup(&arena, "x\0y", 3), "x\0y", 3) == 0);
    struct pair {
        int a;
        int b;
    } *pairs = ARENA_ARRAY(&arena, struct pair, 10);
    CU_ASSERT(pairs[9].a == 0 && ARENA_NEW(&arena, struct pair)->b == 0);
    arena_free(&arena);
    CU_ASSERT(arena.chunks == NULL && arena.used == 0);
    arena_free(&arena);
}

struct numbers {
    int *items;
    size_t items_len;
    size_t items_cap;
};

static void vectors(void)
{
    struct numbers n = {0};
    for (int i = 0; i < 1000; i++) {
        int *item = VEC_PUSH(&n, items);
        CU_ASSERT(*item == 0);
        *item = i;
    }
    CU_ASSERT(n.items_len == 1000 && n.items_cap >= 1000);
    CU_ASSERT(n.items[0] == 0 && n.items[999] == 999);
    free(n.items);
}

static const struct test_case cases[] = {
    {"append and consume", append_and_consume},
    {"integers", integers},
    {"truncated input", truncated},
    {"arena", arena},
    {"vectors", vectors},
};
TEST_SUITE("core/base/buf", cases)
