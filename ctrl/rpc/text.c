/* See text.h. */
#include "ctrl/rpc/text.h"

#include <stdio.h>

/* ---- timeouts -------------------------------------------------------------------------------- */

static const struct {
    char unit;
    uint64_t ns;
} units[] = {
    {'n', 1},          {'u', 1000},         {'m', 1000000},
    {'S', 1000000000}, {'M', 60000000000U}, {'H', 3600000000000U},
};

enum { TIMEOUT_DIGITS_MAX = 8 };

bool rpc_timeout_parse(const char *text, size_t len, uint64_t *out_us)
{
    ASSERT(text != NULL && out_us != NULL);
    if (len < 2 || len > TIMEOUT_DIGITS_MAX + 1) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < len - 1; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (units[i].unit == text[len - 1]) {
            /* 8 digits of hours are 3.6e20 ns, more than 64 bits: divide first where it is exact.
             */
            *out_us = units[i].ns >= 1000 ? value * (units[i].ns / 1000) : value / 1000;
            return true;
        }
    }
    return false;
}

/*
 * Rounded up: a server must not give up before its client does. 12 bytes: 8 digits, unit, NUL.
 * Beyond 99,999,999 hours the answer is that many.
 */
void rpc_timeout_format(uint64_t us, char out[12])
{
    static const struct {
        char unit;
        uint64_t us;
    } steps[] = {{'u', 1}, {'m', 1000}, {'S', 1000000}, {'M', 60000000}, {'H', 3600000000}};
    const uint64_t limit = 99999999;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        uint64_t n = us / steps[i].us + (us % steps[i].us != 0);
        if (n <= limit || i == ARRAY_LEN(steps) - 1) {
            int len = snprintf(out, 12, "%u%c", (unsigned)(n <= limit ? n : limit), steps[i].unit);
            ASSERT(len >= 2 && len < 12);
            return;
        }
    }
    UNREACHABLE();
}

/* ---- percent-encoding ------------------------------------------------------------------------ */

static const char hex_digits[] = "0123456789ABCDEF";

void rpc_percent_encode(struct buf *out, const char *text)
{
    ASSERT(out != NULL && text != NULL);
    for (const char *p = text; *p != '\0'; p++) {
        uint8_t c = (uint8_t)*p;
        if (c >= 0x20 && c <= 0x7e && c != '%') {
            buf_append_byte(out, c);
        } else {
            buf_append_byte(out, '%');
            buf_append_byte(out, (uint8_t)hex_digits[c >> 4]);
            buf_append_byte(out, (uint8_t)hex_digits[c & 15]);
        }
    }
}

/* 0 to 15, or -1. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void rpc_percent_decode(struct buf *out, const char *text, size_t len)
{
    ASSERT(out != NULL && text != NULL);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '%' && len - i > 2 && hex_value(text[i + 1]) >= 0 &&
            hex_value(text[i + 2]) >= 0) {
            buf_append_byte(out, (uint8_t)(hex_value(text[i + 1]) << 4 | hex_value(text[i + 2])));
            i += 2;
        } else {
            buf_append_byte(out, (uint8_t)text[i]);
        }
    }
}

/* ---- base64 ---------------------------------------------------------------------------------- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void rpc_base64_encode(struct buf *out, const uint8_t *data, size_t len)
{
    ASSERT(out != NULL && (data != NULL || len == 0));
    uint32_t bits = 0;
    unsigned bits_len = 0;
    for (size_t i = 0; i < len; i++) {
        bits = bits << 8 | data[i];
        bits_len += 8;
        while (bits_len >= 6) {
            bits_len -= 6;
            buf_append_byte(out, (uint8_t)base64_digits[bits >> bits_len & 63]);
        }
    }
    ASSERT(bits_len < 6);
    if (bits_len > 0) {
        buf_append_byte(out, (uint8_t)base64_digits[bits << (6 - bits_len) & 63]);
    }
}

/* RFC 4648, 4. Bits behind the last whole byte are dropped, as gRPC's own decoders do. */
bool rpc_base64_decode(struct buf *out, const char *text, size_t len)
{
    ASSERT(out != NULL);
    while (len > 0 && text[len - 1] == '=') {
        len--;
    }
    uint32_t bits = 0;
    unsigned bits_len = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digit = text[i] == '\0' ? NULL : strchr(base64_digits, text[i]);
        if (digit == NULL) {
            return false;
        }
        bits = bits << 6 | (uint32_t)(digit - base64_digits);
        bits_len += 6;
        if (bits_len >= 8) {
            bits_len -= 8;
            buf_append_byte(out, (uint8_t)(bits >> bits_len));
        }
    }
    return len % 4 != 1; /* one digit alone is 6 bits: no byte */
}
