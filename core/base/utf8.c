/*
 * UTF-8: see utf8.h. Texts are mostly ASCII: eight bytes at a time are tested for that, and only
 * what is not goes through the table of the Unicode standard (3-7), which is short enough to be
 * written as conditions: only the second byte has bounds that depend on the first.
 */
#include "core/base/utf8.h"

#include "core/base/assert.h"

#include <stdint.h>
#include <string.h>

size_t utf8_sequence_len(const void *data, size_t left)
{
    ASSERT(left > 0);
    const uint8_t *p = data;
    uint8_t a = p[0];
    if (a < 0x80) {
        return 1;
    }
    if (a < 0xC2 || a > 0xF4) {
        return 0;
    }
    size_t len = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    if (len > left) {
        return 0;
    }
    /* E0 and F0: no overlong forms. ED: no surrogates. F4: nothing above U+10FFFF. */
    uint8_t low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : 0x80;
    uint8_t high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return len;
}

bool utf8_valid(const void *data, size_t len)
{
    const uint8_t *p = data;
    ASSERT(data != NULL || len == 0);
    size_t at = 0;
    while (at < len) {
        uint64_t word;
        if (len - at >= 8) {
            memcpy(&word, p + at, 8);
            if ((word & 0x8080808080808080ULL) == 0) {
                at += 8;
                continue;
            }
        }
        size_t step = utf8_sequence_len(p + at, len - at);
        if (step == 0) {
            return false;
        }
        at += step;
    }
    return true;
}

size_t utf8_chars(const void *data, size_t len)
{
    const uint8_t *p = data;
    ASSERT(data != NULL || len == 0);
    size_t chars = 0; /* every byte that does not continue one begins one */
    for (size_t i = 0; i < len; i++) {
        chars += (p[i] & 0xC0) != 0x80;
    }
    return chars;
}
