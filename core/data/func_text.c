/*
 * Functions of text and bytea. Lengths and positions count characters, as in PostgreSQL, and start
 * at 1.
 *
 * Text in a batch is valid UTF-8 (batch_open saw to it), so characters are found by their first
 * byte and no decoder has to guard against bad input. Results are slices: pieces of an argument
 * where that will do (substr, trim, split_part), bump memory of the evaluator where bytes have to
 * be made. Nothing outlives the chunk.
 *
 * A result may have TEXT_BYTES_MAX bytes; a row that would need more fails with 54000. NULL
 * arguments do not arrive here except in concat and concat_ws, which are not strict.
 */
#include "core/base/utf8.h"
#include "core/data/kernel.h"
#include "core/data/text.h"

#include <openssl/evp.h>
#include <unicode/uchar.h>

static const struct fault fault_negative_length = {"22011",
                                                   "negative substring length not allowed"};
static const struct fault fault_too_large = {"54000", "requested length too large"};
static const struct fault fault_field_zero = {"22023", "field position must not be zero"};

/* Bytes of the character that starts at s; s is not at the end. */
static inline size_t char_len(const char *s)
{
    uint8_t c = (uint8_t)*s;
    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* The code point of a character of len bytes. */
static uint32_t decode_char(const char *s, size_t len)
{
    ASSERT(s != NULL || len == 0);
    uint8_t c = (uint8_t)s[0];
    if (len == 1) {
        return c;
    }
    uint32_t cp = c & (0x7Fu >> len);
    for (size_t i = 1; i < len; i++) {
        cp = cp << 6 | ((uint8_t)s[i] & 0x3F);
    }
    return cp;
}

/* Byte offset of the character number n (0-based), or len. */
static size_t offset_of(const char *s, size_t len, int64_t n)
{
    ASSERT(s != NULL || len == 0);
    size_t at = 0;
    while (n > 0 && at < len) {
        at += char_len(s + at);
        n--;
    }
    return at;
}

/* Signed: it is compared with numbers from SQL that may be negative. */
static int64_t count_chars(struct slice s)
{
    return (int64_t)utf8_chars(s.s, s.len);
}

/* Argument k of row i; constant arguments have one row. */
static struct slice text_arg(const struct call *c, uint32_t k, uint32_t i)
{
    return ARG(c, k, struct slice, i);
}

static void out_int4(struct call *c, uint32_t i, int64_t v)
{
    ((int32_t *)c->out)[i] = (int32_t)v;
}

/* Copies the evaluator's buffer, which the next row overwrites. */
static void out_scratch(struct call *c, uint32_t i)
{
    call_text(c, i, c->ev->buf.data, c->ev->buf.len);
}

/* ---- lengths --------------------------------------------------------------------------------- */

PLAIN_UNARY(k_char_length, struct slice, int32_t, (int32_t)utf8_chars(x.s, x.len))
PLAIN_UNARY(k_octet_length, struct slice, int32_t, (int32_t)x.len)
PLAIN_UNARY(k_bit_length, struct slice, int32_t, (int32_t)(x.len * 8))

/* ---- case ------------------------------------------------------------------------------------ */

/*
 * Eight bytes, of which those from first to last change their case. In every byte, without a carry
 * into the next: bit 7 of (b + 128 - first) says b >= first, of (b + 127 - last) b > last, for b
 * below 128; others are masked out.
 */
static uint64_t map_word(uint64_t word, char first, char last)
{
    const uint64_t ones = 0x0101010101010101ULL;
    uint64_t low = word & (ones * 0x7F);
    uint64_t from = low + ones * (0x80 - (uint64_t)first);
    uint64_t beyond = low + ones * (0x7F - (uint64_t)last);
    uint64_t inside = from & ~beyond & ~word & (ones * 0x80);
    return word ^ inside >> 2; /* 0x80 >> 2 is the bit of the case */
}

/* Maps ASCII; false when there are other bytes too. */
static bool map_ascii(char *to, struct slice s, char first, char last)
{
    uint64_t all = 0;
    size_t k = 0;
    for (; k + 8 <= s.len; k += 8) {
        uint64_t word;
        memcpy(&word, s.s + k, 8);
        all |= word;
        word = map_word(word, first, last);
        memcpy(to + k, &word, 8);
    }
    for (; k < s.len; k++) {
        char ch = s.s[k];
        all |= (uint8_t)ch;
        to[k] = ch >= first && ch <= last ? (char)(ch ^ 0x20) : ch;
    }
    return (all & 0x8080808080808080ULL) == 0;
}

/*
 * ASCII goes word by word; a string with any other character goes through Unicode's simple mapping,
 * in which one character becomes one (so the German sharp s stays).
 */
static void map_case(struct call *c, uint32_t i, struct slice s, UChar32 (*map)(UChar32),
                     char first, char last)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    char *copy = call_alloc(c, i, s.len);
    if (copy == NULL) {
        return;
    }
    if (map_ascii(copy, s, first, last)) {
        call_slice(c, i, copy, s.len);
        return;
    }
    struct buf *buf = &c->ev->buf;
    buf_clear(buf);
    for (size_t k = 0; k < s.len;) {
        size_t len = char_len(s.s + k);
        char put[4];
        buf_append(buf, put, utf8_put((uint32_t)map((UChar32)decode_char(s.s + k, len)), put));
        k += len;
    }
    out_scratch(c, i);
}

/* lower('ÀB') = 'àb' */
void k_lower(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        map_case(c, i, text_arg(c, 0, i), u_tolower, 'A', 'Z');
    }
}

/* upper('àb') = 'ÀB' */
void k_upper(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        map_case(c, i, text_arg(c, 0, i), u_toupper, 'a', 'z');
    }
}

/* initcap('hELLO wORLD') = 'Hello World': a word is a run of letters and digits. */
void k_initcap(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct buf *buf = &c->ev->buf;
        bool inside = false;
        buf_clear(buf);
        for (size_t k = 0; k < s.len;) {
            size_t len = char_len(s.s + k);
            UChar32 cp = (UChar32)decode_char(s.s + k, len);
            char put[4];
            cp = inside ? u_tolower(cp) : u_toupper(cp);
            inside = u_isalnum(cp);
            buf_append(buf, put, utf8_put((uint32_t)cp, put));
            k += len;
        }
        out_scratch(c, i);
    }
}

/* ---- trimming -------------------------------------------------------------------------------- */

/* Sets are short: a linear search does. */
static bool has_char(struct slice set, const char *ch, size_t len)
{
    for (size_t k = 0; k < set.len; k += char_len(set.s + k)) {
        if (char_len(set.s + k) == len && memcmp(set.s + k, ch, len) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * trim(both 'xy' from 'yxTomxx') = 'Tom'; without a set, blanks only. From the right a character's
 * first byte is looked for backwards.
 */
static void trim(struct call *c, bool left, bool right)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    static const struct slice blank = {" ", 1};
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct slice set = c->args_len > 1 ? text_arg(c, 1, i) : blank;
        size_t from = 0;
        size_t to = s.len;
        while (left && from < to && has_char(set, s.s + from, char_len(s.s + from))) {
            from += char_len(s.s + from);
        }
        while (right && to > from) {
            size_t at = to - 1;
            while (((uint8_t)s.s[at] & 0xC0) == 0x80) {
                at--;
            }
            if (!has_char(set, s.s + at, to - at)) {
                break;
            }
            to = at;
        }
        call_slice(c, i, s.s + from, to - from);
    }
}

KERNEL(k_btrim, 1, 2, TYPE_TEXT, trim(c, true, true))
KERNEL(k_ltrim, 1, 2, TYPE_TEXT, trim(c, true, false))
KERNEL(k_rtrim, 1, 2, TYPE_TEXT, trim(c, false, true))

/* ---- parts ----------------------------------------------------------------------------------- */

/* Characters start..end (1-based, end excluded) of s. */
static struct slice cut(struct slice s, int64_t start, int64_t end)
{
    start = start < 1 ? 1 : start;
    if (end <= start) {
        return (struct slice){s.s, 0};
    }
    size_t from = offset_of(s.s, s.len, start - 1);
    size_t len = offset_of(s.s + from, s.len - from, end - start);
    return (struct slice){s.s + from, len};
}

/* substr('abcdef', -1, 4) = 'ab': positions before 1 exist, and hold nothing. */
void k_substr(struct call *c)
{
    ASSERT(c->args_len >= 2 && c->args_len <= 3);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        int64_t start = ARG(c, 1, int32_t, i);
        int64_t end = INT64_MAX;
        if (c->args_len > 2) {
            int64_t len = ARG(c, 2, int32_t, i);
            if (len < 0) {
                call_fail(c, i, &fault_negative_length);
                continue;
            }
            end = start + len;
        }
        s = cut(s, start, end);
        call_slice(c, i, s.s, s.len);
    }
}

/* The same for bytea, where characters are bytes. */
void k_substr_bytes(struct call *c)
{
    ASSERT(c->args_len >= 2 && c->args_len <= 3);
    ASSERT(c->out_kind == TYPE_BYTEA);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        int64_t start = ARG(c, 1, int32_t, i);
        int64_t end = (int64_t)s.len + 1;
        if (c->args_len > 2) {
            int64_t len = ARG(c, 2, int32_t, i);
            if (len < 0) {
                call_fail(c, i, &fault_negative_length);
                continue;
            }
            end = start + len < end ? start + len : end;
        }
        start = start < 1 ? 1 : start;
        call_slice(c, i, s.s + (start < end ? start - 1 : 0),
                   start < end ? (size_t)(end - start) : 0);
    }
}

/* left('abcde', 2) = 'ab', left('abcde', -2) = 'abc' */
void k_left(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        int64_t n = ARG(c, 1, int32_t, i);
        n = n < 0 ? count_chars(s) + n : n;
        s = cut(s, 1, n + 1);
        call_slice(c, i, s.s, s.len);
    }
}

/* right('abcde', 2) = 'de', right('abcde', -2) = 'cde' */
void k_right(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        int64_t n = ARG(c, 1, int32_t, i);
        int64_t skip = n < 0 ? -n : count_chars(s) - n;
        s = cut(s, skip + 1, INT64_MAX);
        call_slice(c, i, s.s, s.len);
    }
}

/* From a byte offset; an empty string is found at once, at the end too. */
static const char *find(struct slice s, size_t from, struct slice what)
{
    ASSERT(s.len == 0 || s.s != NULL);
    if (from > s.len) {
        return NULL;
    }
    return what.len == 0 ? s.s + from : memmem(s.s + from, s.len - from, what.s, what.len);
}

/* strpos(string, substring); position() has the same order of arguments once parsed. */
void k_strpos(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_INT4);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        const char *at = find(s, 0, text_arg(c, 1, i));
        out_int4(c, i, at == NULL ? 0 : (int64_t)utf8_chars(s.s, (size_t)(at - s.s)) + 1);
    }
}

/* starts_with('alphabet', 'alph') = true */
void k_starts_with(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_BOOL);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct slice p = text_arg(c, 1, i);
        ((uint8_t *)c->out)[i] = p.len <= s.len && (p.len == 0 || memcmp(s.s, p.s, p.len) == 0);
    }
}

static int64_t count_fields(struct slice s, struct slice by)
{
    ASSERT(by.len > 0); /* an empty delimiter would be found for ever */
    int64_t n = 1;
    size_t at = 0;
    const char *hit;
    while ((hit = find(s, at, by)) != NULL) {
        n++;
        at = (size_t)(hit - s.s) + by.len;
    }
    return n;
}

/* Field n (1-based, from the end when negative); the delimiter is not empty. */
static struct slice field(struct slice s, struct slice by, int64_t n)
{
    ASSERT(by.len > 0 && n != 0);
    n = n < 0 ? count_fields(s, by) + n + 1 : n;
    size_t at = 0;
    for (int64_t k = 1; n >= 1; k++) {
        const char *hit = find(s, at, by);
        size_t end = hit != NULL ? (size_t)(hit - s.s) : s.len;
        if (k == n) {
            return (struct slice){s.s + at, end - at};
        }
        if (hit == NULL) {
            break;
        }
        at = end + by.len;
    }
    return (struct slice){s.s, 0};
}

/* split_part('a,b,c', ',', -1) = 'c'; an empty delimiter makes one field of the whole. */
void k_split_part(struct call *c)
{
    ASSERT(c->args_len == 3 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct slice by = text_arg(c, 1, i);
        int32_t n = ARG(c, 2, int32_t, i);
        if (n == 0) {
            call_fail(c, i, &fault_field_zero);
            continue;
        }
        if (by.len == 0) {
            call_slice(c, i, s.s, n == 1 || n == -1 ? s.len : 0);
            continue;
        }
        struct slice part = field(s, by, n);
        call_slice(c, i, part.s, part.len);
    }
}

/* ---- building -------------------------------------------------------------------------------- */

/*
 * replace('abcabc', 'b', '') = 'acac'. The search stops once the result is too long anyway: the row
 * fails in out_scratch.
 */
void k_replace(struct call *c)
{
    ASSERT(c->args_len == 3 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct slice from = text_arg(c, 1, i);
        struct slice to = text_arg(c, 2, i);
        const char *hit = from.len > 0 ? find(s, 0, from) : NULL;
        if (hit == NULL) {
            call_slice(c, i, s.s, s.len);
            continue;
        }
        struct buf *buf = &c->ev->buf;
        size_t at = 0;
        buf_clear(buf);
        for (; hit != NULL; hit = find(s, at, from)) {
            buf_append(buf, s.s + at, (size_t)(hit - s.s) - at);
            buf_append(buf, to.s, to.len);
            at = (size_t)(hit - s.s) + from.len;
            if (buf->len > TEXT_BYTES_MAX) {
                break;
            }
        }
        buf_append(buf, s.s + at, s.len - at);
        out_scratch(c, i);
    }
}

/*
 * lpad('hi', 5, 'xy') = 'xyxhi'; a string that is longer is cut on the right by both. Four bytes a
 * character bound the result before it is made.
 */
static void pad(struct call *c, bool left)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    static const struct slice blank = {" ", 1};
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct slice fill = c->args_len > 2 ? text_arg(c, 2, i) : blank;
        int64_t want = ARG(c, 1, int32_t, i);
        int64_t have = count_chars(s);
        want = want < 0 ? 0 : want;
        if (want * 4 > TEXT_BYTES_MAX) {
            call_fail(c, i, &fault_too_large);
            continue;
        }
        struct slice kept = want < have ? cut(s, 1, want + 1) : s;
        struct buf *buf = &c->ev->buf;
        buf_clear(buf);
        if (!left) {
            buf_append(buf, kept.s, kept.len);
        }
        int64_t missing = fill.len > 0 ? want - have : 0;
        for (size_t at = 0; missing > 0; missing--) {
            size_t len = char_len(fill.s + at);
            buf_append(buf, fill.s + at, len);
            at = at + len < fill.len ? at + len : 0;
        }
        if (left) {
            buf_append(buf, kept.s, kept.len);
        }
        out_scratch(c, i);
    }
}

KERNEL(k_lpad, 2, 3, TYPE_TEXT, pad(c, true))
KERNEL(k_rpad, 2, 3, TYPE_TEXT, pad(c, false))

/* The product is formed in 128 bits: both factors come from the user. */
void k_repeat(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        int64_t n = ARG(c, 1, int32_t, i);
        n = n < 0 ? 0 : n;
        if ((int128)s.len * n > TEXT_BYTES_MAX) {
            call_fail(c, i, &fault_too_large);
            continue;
        }
        char *copy = call_alloc(c, i, s.len * (size_t)n);
        if (copy == NULL) {
            continue;
        }
        for (int64_t k = 0; k < n && s.len > 0; k++) {
            memcpy(copy + (size_t)k * s.len, s.s, s.len);
        }
        call_slice(c, i, copy, s.len * (size_t)n);
    }
}

/* Characters change places, the bytes of each stay in order. */
void k_reverse(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        char *copy = call_alloc(c, i, s.len);
        if (copy == NULL) {
            continue;
        }
        for (size_t at = 0; at < s.len;) {
            size_t len = char_len(s.s + at);
            memcpy(copy + s.len - at - len, s.s + at, len);
            at += len;
        }
        call_slice(c, i, copy, s.len);
    }
}

/* text || text, bytea || bytea */
void k_concat2(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_BYTEA || c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice a = text_arg(c, 0, i);
        struct slice b = text_arg(c, 1, i);
        if (a.len + b.len > TEXT_BYTES_MAX) {
            call_fail(c, i, &fault_too_large);
            continue;
        }
        char *copy = call_alloc(c, i, a.len + b.len);
        if (copy == NULL) {
            continue;
        }
        if (a.len > 0) {
            memcpy(copy, a.s, a.len);
        }
        if (b.len > 0) {
            memcpy(copy + a.len, b.s, b.len);
        }
        call_slice(c, i, copy, a.len + b.len);
    }
}

/*
 * concat(any, ...) skips NULLs; with from 1, concat_ws(separator, any, ...). Any types: values are
 * printed as text. Stops early once the result is too long anyway.
 */
static void concat_all(struct call *c, uint32_t from)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        if (from == 1 && arg_is_null(c, 0, i)) {
            call_null(c, i);
            continue;
        }
        struct buf *buf = &c->ev->buf;
        bool first = true;
        buf_clear(buf);
        for (uint32_t k = from; k < c->args_len && buf->len <= TEXT_BYTES_MAX; k++) {
            struct datum d;
            vec_datum(&c->args[k], c->arg_kinds[k], i, &d);
            if (d.null) {
                continue;
            }
            if (!first && from == 1) {
                buf_append(buf, text_arg(c, 0, i).s, text_arg(c, 0, i).len);
            }
            struct type type = type_of(c->arg_kinds[k]);
            datum_print(&type, &d, buf);
            first = false;
        }
        out_scratch(c, i);
    }
}

KERNEL(k_concat, 1, EXPR_ARGS_MAX, TYPE_TEXT, concat_all(c, 0))
KERNEL(k_concat_ws, 2, EXPR_ARGS_MAX, TYPE_TEXT, concat_all(c, 1))

/*
 * overlay('Txxxxas' placing 'hom' from 2 for 4) = 'Thomas'; the length is that of the new text by
 * default.
 */
void k_overlay(struct call *c)
{
    ASSERT(c->args_len >= 3 && c->args_len <= 4);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct slice with = text_arg(c, 1, i);
        int64_t start = ARG(c, 2, int32_t, i);
        int64_t len = c->args_len > 3 ? ARG(c, 3, int32_t, i) : count_chars(with);
        if (start <= 0) {
            call_fail(c, i, &fault_negative_length);
            continue;
        }
        struct slice head = cut(s, 1, start);
        struct slice tail = cut(s, start + len, INT64_MAX);
        struct buf *buf = &c->ev->buf;
        buf_clear(buf);
        buf_append(buf, head.s, head.len);
        buf_append(buf, with.s, with.len);
        buf_append(buf, tail.s, tail.len);
        out_scratch(c, i);
    }
}

/*
 * translate('12345', '143', 'ax') = 'a2x5': the n-th character of the second argument becomes the
 * n-th of the third, or goes when there is none.
 */
void k_translate(struct call *c)
{
    ASSERT(c->args_len == 3 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        struct slice from = text_arg(c, 1, i);
        struct slice to = text_arg(c, 2, i);
        struct buf *buf = &c->ev->buf;
        buf_clear(buf);
        for (size_t at = 0; at < s.len;) {
            size_t len = char_len(s.s + at);
            size_t f = 0;
            size_t t = 0;
            while (f < from.len &&
                   (char_len(from.s + f) != len || memcmp(from.s + f, s.s + at, len) != 0)) {
                f += char_len(from.s + f);
                t += t < to.len ? char_len(to.s + t) : 0;
            }
            if (f >= from.len) {
                buf_append(buf, s.s + at, len);
            } else if (t < to.len) {
                buf_append(buf, to.s + t, char_len(to.s + t));
            }
            at += len;
        }
        out_scratch(c, i);
    }
}

/* ---- codes ----------------------------------------------------------------------------------- */

/* The code point of the first character, 0 for the empty string. */
void k_ascii(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_INT4);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        out_int4(c, i, s.len == 0 ? 0 : decode_char(s.s, char_len(s.s)));
    }
}

/* The inverse; surrogates and NUL are no characters of a text. */
void k_chr(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        int32_t cp = ARG(c, 0, int32_t, i);
        if (cp < 0) {
            call_failf(c, i, "22023", "character number must be positive");
        } else if (cp == 0) {
            call_failf(c, i, "54000", "null character not permitted");
        } else if (cp > 0x10FFFF) {
            call_failf(c, i, "54000", "requested character too large for encoding: %d", cp);
        } else if (cp >= 0xD800 && cp < 0xE000) {
            call_failf(c, i, "54000", "requested character not valid for encoding: %d", cp);
        } else {
            char *s = eval_alloc(c->ev, 4);
            call_slice(c, i, s, utf8_put((uint32_t)cp, s));
        }
    }
}

/* In hexadecimal, as PostgreSQL has it. Not for security. */
void k_md5(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned len = 0;
        int done = EVP_Digest(s.s, s.len, digest, &len, EVP_md5(), NULL);
        if (done != 1) {
            call_failf(c, i, "XX000", "could not compute MD5 hash");
            continue;
        }
        buf_clear(&c->ev->buf);
        hex_encode(digest, len, &c->ev->buf);
        out_scratch(c, i);
    }
}

/* Negative numbers as two's complement of their own width: to_hex(-1) = 'ffffffff'. */
void k_to_hex_int4(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        buf_clear(&c->ev->buf);
        buf_printf(&c->ev->buf, "%x", (unsigned)ARG(c, 0, int32_t, i));
        out_scratch(c, i);
    }
}

void k_to_hex_int8(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        buf_clear(&c->ev->buf);
        buf_printf(&c->ev->buf, "%llx", (unsigned long long)ARG(c, 0, int64_t, i));
        out_scratch(c, i);
    }
}

/* ---- encode and decode ----------------------------------------------------------------------- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* RFC 2045: lines of 76 characters. */
static void base64_encode(struct slice s, struct buf *out)
{
    size_t line = 0;
    for (size_t k = 0; k < s.len; k += 3) {
        size_t have = s.len - k < 3 ? s.len - k : 3;
        uint32_t v = (uint32_t)(uint8_t)s.s[k] << 16;
        v |= have > 1 ? (uint32_t)(uint8_t)s.s[k + 1] << 8 : 0;
        v |= have > 2 ? (uint32_t)(uint8_t)s.s[k + 2] : 0;
        if (line == 76) {
            buf_append_byte(out, '\n');
            line = 0;
        }
        for (size_t d = 0; d < 4; d++) {
            buf_append_byte(out, d <= have ? (uint8_t)base64_digits[v >> (18 - 6 * d) & 63] : '=');
        }
        line += 4;
    }
}

/* Space is skipped, padding is required, and nothing may follow it: as strict as PostgreSQL. */
static err_t base64_decode(struct slice s, struct buf *out)
{
    uint32_t v = 0;
    int have = 0;
    int end = 0;
    for (size_t k = 0; k < s.len; k++) {
        char ch = s.s[k];
        if (ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r') {
            continue;
        }
        const char *digit = ch != '\0' && ch != '=' ? strchr(base64_digits, ch) : NULL;
        if (ch == '=') {
            if (have < 2) {
                return err_sql(ERR_INVALID, "22023",
                               "unexpected \"=\" while decoding base64 sequence");
            }
            end++;
        } else if (digit == NULL || end > 0) {
            return err_sql(ERR_INVALID, "22023",
                           "invalid symbol \"%.*s\" found while decoding base64 sequence",
                           (int)char_len(s.s + k), s.s + k);
        }
        v = v << 6 | (digit != NULL ? (uint32_t)(digit - base64_digits) : 0);
        if (++have == 4) {
            char bytes[3] = {(char)(v >> 16), (char)(v >> 8), (char)v};
            buf_append(out, bytes, (size_t)(3 - (end > 2 ? 2 : end)));
            have = 0;
            v = 0;
        }
    }
    if (have != 0) {
        return err_hint(err_sql(ERR_INVALID, "22023", "invalid base64 end sequence"),
                        "Input data is missing padding, is truncated, or is otherwise "
                        "corrupted.");
    }
    return ERR_OK;
}

/* The bytea form with backslashes: bytes that are no ASCII in octal. */
static void escape_encode(struct slice s, struct buf *out)
{
    for (size_t k = 0; k < s.len; k++) {
        uint8_t b = (uint8_t)s.s[k];
        if (b == 0 || b >= 0x80) {
            buf_printf(out, "\\%03o", b);
        } else {
            if (b == '\\') {
                buf_append_byte(out, '\\');
            }
            buf_append_byte(out, b);
        }
    }
}

enum codec { CODEC_HEX, CODEC_BASE64, CODEC_ESCAPE, CODEC_UNKNOWN };

/* Names are not case sensitive. */
static enum codec codec_of(struct slice name)
{
    static const char *const names[] = {"hex", "base64", "escape"};
    for (int k = 0; k < CODEC_UNKNOWN; k++) {
        if (strlen(names[k]) == name.len && strncasecmp(names[k], name.s, name.len) == 0) {
            return (enum codec)k;
        }
    }
    return CODEC_UNKNOWN;
}

/* 22023, as PostgreSQL. */
static err_t unknown_codec(struct slice name)
{
    return err_sql(ERR_INVALID, "22023", "unrecognized encoding: \"%.*s\"", (int)name.len, name.s);
}

/* encode('\x6162', 'hex') = '6162' */
static err_t encode(struct slice s, struct slice name, struct buf *out)
{
    switch (codec_of(name)) {
    case CODEC_HEX:
        hex_encode((const uint8_t *)s.s, s.len, out);
        return ERR_OK;
    case CODEC_BASE64:
        base64_encode(s, out);
        return ERR_OK;
    case CODEC_ESCAPE:
        escape_encode(s, out);
        return ERR_OK;
    default:
        return unknown_codec(name);
    }
}

/* The inverse of encode, for text from users: it may fail. */
static err_t decode(struct slice s, struct slice name, struct buf *out)
{
    switch (codec_of(name)) {
    case CODEC_HEX:
        return hex_decode(s.s, s.len, out);
    case CODEC_BASE64:
        return base64_decode(s, out);
    case CODEC_ESCAPE:
        return bytea_parse(s.s, s.len, out);
    default:
        return unknown_codec(name);
    }
}

/* encode and decode differ in the direction only. */
static void convert(struct call *c, err_t (*how)(struct slice, struct slice, struct buf *))
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        buf_clear(&c->ev->buf);
        err_t err = how(text_arg(c, 0, i), text_arg(c, 1, i), &c->ev->buf);
        if (err != ERR_OK) {
            call_fail_err(c, i, err);
        } else {
            out_scratch(c, i);
        }
    }
}

KERNEL(k_encode, 2, 2, TYPE_TEXT, convert(c, encode))
KERNEL(k_decode, 2, 2, TYPE_BYTEA, convert(c, decode))

/* ---- lengths of varchar and char ------------------------------------------------------------- */

/*
 * varchar(text, typmod, explicit): what the planner puts around values on their way into a column
 * of limited length.
 */
static void fit(struct call *c, uint32_t oid)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        struct slice s = text_arg(c, 0, i);
        size_t len = 0;
        err_t err = text_fit(oid, ARG(c, 1, int32_t, i), ARG(c, 2, uint8_t, i), s.s, s.len, &len);
        if (err != ERR_OK) {
            call_fail_err(c, i, err);
        } else {
            call_slice(c, i, s.s, len);
        }
    }
}

KERNEL(k_varchar_typmod, 3, 3, TYPE_TEXT, fit(c, OID_VARCHAR))
KERNEL(k_bpchar_typmod, 3, 3, TYPE_TEXT, fit(c, OID_BPCHAR))
