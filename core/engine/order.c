/*
 * Order-preserving bytes: big endian, signs flipped, strings escaped, descending complemented.
 *
 * Each encoding ends by itself: fixed widths, or an end mark that is less than any byte of content.
 * So encodings of several columns compare column by column, and complementing all bytes of one
 * reverses its order without touching the others. NULL is a byte below or above the byte that says
 * "a value follows".
 */
#include "core/engine/order.h"

enum { NULL_FIRST = 0, NOT_NULL = 1, NULL_LAST = 2 };

/* memcmp compares the first byte first: it must be the most significant one. */
static void append_be64(struct buf *out, uint64_t v)
{
    v = __builtin_bswap64(v);
    buf_append(out, &v, sizeof(v));
}

/* Moves INT64_MIN to 0. */
static void append_signed(struct buf *out, int64_t v)
{
    append_be64(out, (uint64_t)v ^ (1ULL << 63));
}

/* IEEE order: flip all bits of negatives, the sign bit of the others. NaN is greatest, -0 is 0. */
static void append_double(struct buf *out, double f)
{
    uint64_t bits = UINT64_MAX;
    if (f == f) {
        f = f == 0 ? 0.0 : f;
        memcpy(&bits, &f, sizeof(bits));
        bits = (bits >> 63) != 0 ? ~bits : bits | (1ULL << 63);
    }
    append_be64(out, bits);
}

/* A 00 byte becomes 00 FF, the end is 00 00: a prefix sorts first. */
static void append_bytes(struct buf *out, const char *s, uint32_t len)
{
    while (len > 0) {
        const char *zero = memchr(s, 0, len);
        uint32_t plain = zero != NULL ? (uint32_t)(zero - s) + 1 : len;
        buf_append(out, s, plain);
        if (zero != NULL) {
            buf_append_byte(out, 0xff);
        }
        s += plain;
        len -= plain;
    }
    buf_append_u16(out, 0);
}

/*
 * Class, then for finite values the decimal exponent and the coefficient moved up to 38 digits, all
 * complemented for negatives. Infinities and NaN are classes of their own, in PostgreSQL's order:
 * -Infinity, numbers, Infinity, NaN.
 */
static void append_numeric(struct buf *out, const struct numeric *n)
{
    enum { MINUS_INFINITY, NEGATIVE, ZERO, POSITIVE, PLUS_INFINITY, NOT_A_NUMBER };
    static const uint8_t specials[] = {0, NOT_A_NUMBER, PLUS_INFINITY, MINUS_INFINITY};
    ASSERT(n->special < ARRAY_LEN(specials));
    if (n->special != 0) {
        buf_append_byte(out, specials[n->special]);
        return;
    }
    bool negative = n->hi < 0;
    unsigned __int128 coef = ((unsigned __int128)(uint64_t)n->hi << 64) | n->lo;
    coef = negative ? -coef : coef;
    if (coef == 0) {
        buf_append_byte(out, ZERO);
        return;
    }
    const unsigned __int128 ten18 = 1000000000000000000ULL;
    const unsigned __int128 full = ten18 * ten18 * 10; /* 10^37: 38 digits */
    int exponent = 38 - n->scale;                      /* value = 0.ddd * 10^exponent */
    ASSERT(n->scale >= 0 && n->scale <= 38);
    while (coef < full) {
        coef *= 10;
        exponent--;
    }
    uint8_t mask = negative ? 0xff : 0;
    buf_append_byte(out, negative ? NEGATIVE : POSITIVE);
    buf_append_byte(out, (uint8_t)(exponent + 64) ^ mask);
    append_be64(out, (uint64_t)(coef >> 64) ^ (negative ? UINT64_MAX : 0));
    append_be64(out, (uint64_t)coef ^ (negative ? UINT64_MAX : 0));
}

/* As PostgreSQL compares them: a month is 30 days, a day 24 hours. */
static void append_interval(struct buf *out, const struct interval *v)
{
    __int128 micros = ((__int128)v->months * 30 + v->days) * 86400000000LL + v->micros;
    append_signed(out, (int64_t)(micros >> 64));
    append_be64(out, (uint64_t)micros);
}

/* The common case: the mark and the value at once. */
static void append_word(int64_t value, bool desc, struct buf *out)
{
    uint64_t word = (uint64_t)value ^ (1ULL << 63);
    word = __builtin_bswap64(desc ? ~word : word);
    buf_reserve(out, 1 + sizeof(word));
    out->data[out->len] = NOT_NULL;
    memcpy(out->data + out->len + 1, &word, sizeof(word));
    out->len += 1 + sizeof(word);
}

/* Kinds whose datum is a signed word that orders as the value does. */
static bool is_signed(uint8_t kind)
{
    return kind == TYPE_INT2 || kind == TYPE_INT4 || kind == TYPE_INT8 || kind == TYPE_DATE ||
           kind == TYPE_TIMESTAMP || kind == TYPE_TIMESTAMPTZ;
}

/* The kinds left to default are stored as signed 64-bit integers. */
static void append_value(uint8_t kind, const struct datum *value, struct buf *out)
{
    switch (kind) {
    case TYPE_BOOL:
        buf_append_byte(out, value->b);
        break;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        append_double(out, value->f);
        break;
    case TYPE_NUMERIC:
        append_numeric(out, &value->n);
        break;
    case TYPE_INTERVAL:
        append_interval(out, &value->iv);
        break;
    case TYPE_UUID:
        buf_append(out, value->uuid, sizeof(value->uuid));
        break;
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_JSONB:
        append_bytes(out, value->s, value->len);
        break;
    default:
        append_signed(out, value->i);
        break;
    }
}

/* The NULL mark is not complemented: NULLS FIRST and DESC are independent. */
void order_encode(uint8_t kind, const struct datum *value, bool desc, bool nulls_first,
                  struct buf *out)
{
    ASSERT(kind > 0 && kind < TYPE_KIND_MAX);
    if (value->null) {
        buf_append_byte(out, nulls_first ? NULL_FIRST : NULL_LAST);
        return;
    }
    if (is_signed(kind)) {
        append_word(value->i, desc, out);
        return;
    }
    buf_append_byte(out, NOT_NULL);
    size_t from = out->len;
    append_value(kind, value, out);
    for (size_t i = from; desc && i < out->len; i++) {
        out->data[i] ^= 0xff;
    }
}

/* Must agree with batch_encode_row byte by byte: outputs of aggregates are compared as bytes. */
void order_append_datum(uint8_t kind, const struct datum *value, struct buf *out)
{
    float f4;
    buf_append_byte(out, value->null ? 0 : 1);
    if (value->null) {
        return;
    }
    switch (kind) {
    case TYPE_BOOL:
        buf_append_byte(out, value->b);
        break;
    case TYPE_FLOAT4:
        f4 = (float)value->f;
        buf_append(out, &f4, sizeof(f4));
        break;
    case TYPE_INT2:
    case TYPE_INT4:
        /* Little endian: the low bytes are the narrow value. */
        buf_append(out, &value->i, type_width((enum type_kind)kind));
        break;
    case TYPE_INT8:
    case TYPE_FLOAT8:
    case TYPE_NUMERIC:
    case TYPE_INTERVAL:
        buf_append(out, &value->i, type_width((enum type_kind)kind));
        break;
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_JSONB:
        buf_append_u32(out, value->len);
        buf_append(out, value->s, value->len);
        break;
    default:
        UNREACHABLE(); /* no aggregate computes another kind */
    }
}
