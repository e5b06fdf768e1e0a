/* UTF-8: the table of well-formed sequences, exhaustively at its borders. */
#include "core/base/mem.h"
#include "core/base/utf8.h"
#include "tests/unit/harness.h"

#include <stdint.h>
#include <string.h>

static void table(void)
{
    static const struct {
        const char *bytes;
        bool valid;
    } rows[] = {
        {"", true},
        {"plain ascii, longer than a word", true},
        {"\xC2\x80", true},          {"\xDF\xBF", true},
        {"\xC0\x80", false},         {"\xC1\xBF", false}, /* overlong */
        {"\xE0\xA0\x80", true},      {"\xE0\x9F\xBF", false},
        {"\xED\x9F\xBF", true},      {"\xED\xA0\x80", false}, /* surrogates */
        {"\xED\xBF\xBF", false},     {"\xEE\x80\x80", true},
        {"\xEF\xBF\xBF", true},      {"\xF0\x90\x80\x80", true},
        {"\xF0\x8F\xBF\xBF", false}, {"\xF4\x8F\xBF\xBF", true},
        {"\xF4\x90\x80\x80", false}, {"\xF5\x80\x80\x80", false},
        {"\xFF", false},             {"\x80", false},
        {"\xE2\x82", false},         {"\xE2\x82\xAC", true},
        {"\xE2\x82\xACx\xE2\x82", false},
        {"12345678\xC2", false},     {"1234567\xC2\xA9", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = strlen(rows[i].bytes);
        char *exact = mem_alloc(len); /* reading past the end is seen by ASan */
        memcpy(exact, rows[i].bytes, len);
        CU_ASSERT(utf8_valid(exact, len) == rows[i].valid);
        free(exact);
    }
    CU_ASSERT(utf8_valid("\0a", 2));
}

static size_t encode(uint32_t c, uint8_t *out)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    out[0] = (uint8_t)(lead[len] | c);
    return len;
}

/* Every code point, surrogates and those beyond the last included. */
static void all_code_points(void)
{
    unsigned wrong = 0;
    for (uint32_t c = 0; c < 0x120000; c++) {
        uint8_t bytes[4];
        size_t len = encode(c, bytes);
        bool expected = (c < 0xD800 || c > 0xDFFF) && c <= 0x10FFFF;
        wrong += utf8_valid(bytes, len) != expected ? 1 : 0;
        wrong += len > 1 && utf8_valid(bytes, len - 1) ? 1 : 0;
    }
    CU_ASSERT(wrong == 0);
}

static void characters(void)
{
    CU_ASSERT(utf8_chars("", 0) == 0);
    CU_ASSERT(utf8_chars("abc", 3) == 3);
    CU_ASSERT(utf8_chars("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10) == 4);
}

static const struct test_case cases[] = {
    {"table of sequences", table},
    {"every code point", all_code_points},
    {"counting characters", characters},
};
TEST_SUITE("core/base/utf8", cases)
