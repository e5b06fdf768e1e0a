/*
 * Input of integers, booleans, uuids and bytea; lengths of varchar and char.
 *
 * Each parser takes bytes that need not end, ignores the space PostgreSQL ignores, and fails with
 * the SQLSTATE and message PostgreSQL has: 22P02 for what is no such value, 22003 for what is out
 * of range.
 *
 *   varchar(3)    'ab '  ab_   'abc  ' abc    'abcd' 22001, or abc by an explicit cast
 *   char(3)       'a'    a     stored without padding: it counts nowhere but in output
 *   name          cut to 63 bytes, between characters
 *
 * (_ is a blank.) Functions here keep no state; any thread.
 */
#include "core/data/text.h"

#include "core/base/utf8.h"

/*
 * A number that is too long is out of range, not bad syntax: the digits are read to the end first.
 */
err_t int_parse(const char *s, size_t len, int64_t min, int64_t max, const char *type,
                int64_t *out)
{
    ASSERT(s != NULL || len == 0);
    struct text_span t = text_trim(s, len);
    bool negative = t.len > 0 && *t.s == '-';
    size_t i = t.len > 0 && (*t.s == '-' || *t.s == '+');
    int64_t v = 0;
    bool over = false;
    bool bad = i == t.len;
    for (; i < t.len && !bad; i++) {
        bad = t.s[i] < '0' || t.s[i] > '9';
        int digit = t.s[i] - '0';
        /* Accumulated negatively: the range of the negatives is the larger one. */
        over |= __builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, digit, &v);
    }
    if (bad) {
        return err_sql(ERR_INVALID, "22P02", "invalid input syntax for type %s: \"%.*s\"", type,
                       (int)len, s);
    }
    over |= !negative && v == INT64_MIN;
    v = negative || over ? v : -v;
    if (over || v < min || v > max) {
        return err_sql(ERR_INVALID, "22003", "value \"%.*s\" is out of range for type %s",
                       (int)len, s, type);
    }
    *out = v;
    return ERR_OK;
}

/* At least len_min characters of the word: "t", "tr", "tru" are all true. */
static bool prefix_of(const char *word, const char *s, size_t len, size_t len_min)
{
    return len >= len_min && len <= strlen(word) && strncasecmp(s, word, len) == 0;
}

/* "o" alone is refused: it could be on or off. */
err_t bool_parse(const char *s, size_t len, bool *out)
{
    ASSERT(s != NULL || len == 0);
    struct text_span t = text_trim(s, len);
    bool yes = prefix_of("true", t.s, t.len, 1) || prefix_of("yes", t.s, t.len, 1) ||
               prefix_of("on", t.s, t.len, 2) || prefix_of("1", t.s, t.len, 1);
    bool no = prefix_of("false", t.s, t.len, 1) || prefix_of("no", t.s, t.len, 1) ||
              prefix_of("off", t.s, t.len, 2) || prefix_of("0", t.s, t.len, 1);
    if (!yes && !no) {
        return err_sql(ERR_INVALID, "22P02", "invalid input syntax for type boolean: \"%.*s\"",
                       (int)len, s);
    }
    *out = yes;
    return ERR_OK;
}

/* ---- uuid and bytea -------------------------------------------------------------------------- */

/* Its value, or -1. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* PostgreSQL takes braces, and hyphens after any four digits. */
static bool scan_uuid(const char *s, size_t len, uint8_t out[16])
{
    if (len >= 2 && s[0] == '{') {
        if (s[len - 1] != '}') {
            return false;
        }
        s++;
        len -= 2;
    }
    size_t at = 0;
    for (int i = 0; i < 16; i++) {
        if (at + 2 > len || hex_digit(s[at]) < 0 || hex_digit(s[at + 1]) < 0) {
            return false;
        }
        out[i] = (uint8_t)(hex_digit(s[at]) << 4 | hex_digit(s[at + 1]));
        at += 2;
        if (at < len && s[at] == '-' && i % 2 == 1 && i < 15) {
            at++;
        }
    }
    return at == len;
}

err_t uuid_parse(const char *s, size_t len, uint8_t out[16])
{
    ASSERT(s != NULL || len == 0);
    if (!scan_uuid(s, len, out)) {
        return err_sql(ERR_INVALID, "22P02", "invalid input syntax for type uuid: \"%.*s\"",
                       (int)len, s);
    }
    return ERR_OK;
}

/* 8-4-4-4-12 digits in lower case. */
void uuid_print(const uint8_t uuid[16], struct buf *out)
{
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            buf_append_byte(out, '-');
        }
        hex_encode(uuid + i, 1, out);
    }
}

/* Lower case, two digits a byte. */
void hex_encode(const uint8_t *data, size_t len, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    buf_reserve(out, len * 2);
    for (size_t i = 0; i < len; i++) {
        buf_append_byte(out, (uint8_t)digits[data[i] >> 4]);
        buf_append_byte(out, (uint8_t)digits[data[i] & 15]);
    }
}

/*
 * Space between bytes is allowed, within a byte it is not. The message quotes the whole character
 * at fault, which may have several bytes.
 */
err_t hex_decode(const char *s, size_t len, struct buf *out)
{
    ASSERT(s != NULL || len == 0);
    for (size_t i = 0; i < len;) {
        if (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
            i++;
            continue;
        }
        int hi = hex_digit(s[i]);
        int lo = i + 1 < len ? hex_digit(s[i + 1]) : 0;
        if (hi < 0 || lo < 0) {
            const char *at = hi < 0 ? s + i : s + i + 1;
            size_t n = 1;
            while (n < 4 && at + n < s + len && ((uint8_t)at[n] & 0xC0) == 0x80) {
                n++;
            }
            return err_sql(ERR_INVALID, "22023", "invalid hexadecimal digit: \"%.*s\"", (int)n,
                           at);
        }
        if (i + 1 >= len) {
            return err_sql(ERR_INVALID, "22023", "invalid hexadecimal data: odd number of digits");
        }
        buf_append_byte(out, (uint8_t)(hi << 4 | lo));
        i += 2;
    }
    return ERR_OK;
}

static bool octal(char c, char max)
{
    return c >= '0' && c <= max;
}

/* The older form: \\ is a backslash, \ooo a byte in octal, anything else itself. */
err_t bytea_parse(const char *s, size_t len, struct buf *out)
{
    ASSERT(s != NULL || len == 0);
    if (len >= 2 && s[0] == '\\' && s[1] == 'x') {
        return hex_decode(s + 2, len - 2, out);
    }
    for (size_t i = 0; i < len;) {
        if (s[i] != '\\') {
            buf_append_byte(out, (uint8_t)s[i++]);
        } else if (i + 1 < len && s[i + 1] == '\\') {
            buf_append_byte(out, '\\');
            i += 2;
        } else if (i + 3 < len && octal(s[i + 1], '3') && octal(s[i + 2], '7') &&
                   octal(s[i + 3], '7')) {
            buf_append_byte(out, (uint8_t)((s[i + 1] - '0') << 6 | (s[i + 2] - '0') << 3 |
                                           (s[i + 3] - '0')));
            i += 4;
        } else {
            return err_sql(ERR_INVALID, "22P02", "invalid input syntax for type bytea");
        }
    }
    return ERR_OK;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* For text from outside that becomes a value: files, COPY, parameters. */
err_t text_check(const char *s, size_t len)
{
    ASSERT(s != NULL || len == 0);
    const char *nul = len > 0 ? memchr(s, 0, len) : NULL;
    if (nul != NULL) {
        return err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\": 0x00");
    }
    if (!utf8_valid(s, len)) {
        return err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\"");
    }
    return ERR_OK;
}

/* Bytes of the first n characters. s is valid UTF-8. */
static size_t prefix_bytes(const char *s, size_t len, size_t n)
{
    ASSERT(s != NULL || len == 0);
    size_t at = 0;
    while (at < len && n > 0) {
        at++;
        while (at < len && ((uint8_t)s[at] & 0xC0) == 0x80) {
            at++;
        }
        n--;
    }
    return at;
}

/* Only blanks: PostgreSQL does not count other space as padding. */
static size_t without_blanks(const char *s, size_t len)
{
    ASSERT(s != NULL || len == 0);
    while (len > 0 && s[len - 1] == ' ') {
        len--;
    }
    return len;
}

/*
 * Blanks that do not fit are cut silently, as SQL demands; anything else only by an explicit cast.
 */
err_t text_fit(uint32_t oid, int32_t typmod, bool explicit_cast, const char *s, size_t len,
               size_t *out)
{
    enum { NAME_BYTES_MAX = 63 };
    *out = len;
    if (oid == OID_NAME && len > NAME_BYTES_MAX) {
        size_t at = NAME_BYTES_MAX;
        while (at > 0 && ((uint8_t)s[at] & 0xC0) == 0x80) {
            at--;
        }
        *out = at;
    }
    if (typmod >= TYPMOD_HEADER && (oid == OID_VARCHAR || oid == OID_BPCHAR)) {
        int n = typmod - TYPMOD_HEADER;
        size_t fits = prefix_bytes(s, len, (size_t)n);
        if (!explicit_cast && without_blanks(s, len) > fits) {
            return err_sql(ERR_INVALID, "22001", "value too long for type character%s(%d)",
                           oid == OID_VARCHAR ? " varying" : "", n);
        }
        *out = fits;
    }
    if (oid == OID_BPCHAR) {
        /* The padding of char(n) is not stored: it never counts, except where it is printed. */
        *out = without_blanks(s, *out);
    }
    return ERR_OK;
}
