/*
 * Small text helpers shared by the input and output functions. Module-private.
 *
 * Parsers take a pointer and a length, never a terminated string: text comes from frames, files and
 * columns. Errors name the SQL type and quote the input, as PostgreSQL's do.
 */
#ifndef TAILRACE_CORE_DATA_TEXT_H
#define TAILRACE_CORE_DATA_TEXT_H

#include "core/data/data_internal.h"

/* A piece of somebody else's bytes. */
struct text_span {
    const char *s;
    size_t len;
};

/* C's isspace in the C locale, as PostgreSQL's scanners. */
static inline bool text_is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Without the space around it. */
static inline struct text_span text_trim(const char *s, size_t len)
{
    while (len > 0 && text_is_space(*s)) {
        s++;
        len--;
    }
    while (len > 0 && text_is_space(s[len - 1])) {
        len--;
    }
    return (struct text_span){s, len};
}

enum { FLOAT_TEXT_MAX = 32 };
/* Writes at most FLOAT_TEXT_MAX characters, not terminated; returns how many. */
size_t float_print(double v, bool single, char *out);
/* Rounded to the nearest value of the type; 22003 when that is infinite, or 0 for what is not. */
err_t float_parse(const char *s, size_t len, bool single, double *out);

/* Signed decimal within [min, max]; type names it in errors. */
err_t int_parse(const char *s, size_t len, int64_t min, int64_t max, const char *type,
                int64_t *out);
/* Any unambiguous beginning of true, false, yes, no, on, off; 1 and 0. */
err_t bool_parse(const char *s, size_t len, bool *out);
err_t uuid_parse(const char *s, size_t len, uint8_t out[16]);
/* Appends the bytes. Both forms: \x6162 and with escapes. */
err_t bytea_parse(const char *s, size_t len, struct buf *out);
err_t hex_decode(const char *s, size_t len, struct buf *out);
/* Appends two digits a byte. */
void hex_encode(const uint8_t *data, size_t len, struct buf *out);
void uuid_print(const uint8_t uuid[16], struct buf *out);
/* UTF-8 without NUL, or 22021. */
err_t text_check(const char *s, size_t len);
/*
 * varchar(n), char(n), name: the length that fits, or 22001. explicit_cast cuts silently. *out: how
 * many of the bytes are kept.
 */
err_t text_fit(uint32_t oid, int32_t typmod, bool explicit_cast, const char *s, size_t len,
               size_t *out);

#endif
