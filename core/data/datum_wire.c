/*
 * PostgreSQL's binary formats, network byte order: what drivers send and want in binary mode.
 *
 *   bool                 1 byte, 0 or 1
 *   int2, int4, int8     2, 4, 8 bytes
 *   oid                  4 bytes, unsigned
 *   float4, float8       IEEE bits
 *   numeric              4 words, then digits of base 10000; see send_numeric
 *   date                 4 bytes, days since 2000-01-01
 *   time                 8 bytes, microseconds
 *   timestamp(tz)        8 bytes, microseconds since 2000-01-01
 *   interval             microseconds (8), days (4), months (4)
 *   uuid                 16 bytes
 *   text, bytea          the bytes
 *   jsonb                version byte 1, then the text
 *   arrays               dimensions, has NULLs, element OID, length, 1; then length (-1: NULL) and
 *                        bytes of each element; see send_array
 *   mz_timestamp         its text: drivers do not know the type
 *
 * Sending trusts the value; receiving trusts nothing: lengths, ranges and forms are checked, with
 * SQLSTATE 22P03 for bytes that are no value of the type.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/array.h"
#include "core/data/datetime.h"
#include "core/data/json.h"
#include "core/data/numeric.h"
#include "core/data/text.h"

enum { NUMERIC_SIGN_NEG = 0x4000, NUMERIC_SIGN_NAN = 0xC000, NUMERIC_SIGN_PINF = 0xD000,
       NUMERIC_SIGN_NINF = 0xF000, NBASE = 10000, NBASE_DIGITS = 4 };

/* The low width bytes of v, the most significant one first. */
static void put_be(struct buf *out, uint64_t v, int width)
{
    ASSERT(width > 0 && width <= 8);
    for (int i = width - 1; i >= 0; i--) {
        buf_append_byte(out, (uint8_t)(v >> (i * 8)));
    }
}

/* Past the end of the input: zeros, and the reader remembers that it failed. */
static uint64_t take_be(struct reader *r, int width)
{
    ASSERT(width > 0 && width <= 8);
    uint64_t v = 0;
    for (int i = 0; i < width; i++) {
        v = v << 8 | reader_u8(r);
    }
    return v;
}

/* ---- numeric --------------------------------------------------------------------------------- */

/*
 * The coefficient is cut into base-10000 digits aligned at the decimal point: padded on the right
 * so that the fraction is a multiple of four digits. The header is four 16-bit numbers: how many
 * digits, the weight of the first one (its power of 10000), the sign, the display scale. 1234.5 is
 * 2 digits, weight 0, scale 1: 1234 5000. Zeros at both ends are not sent. Zero has no digits at
 * all, but keeps its scale.
 */
static void send_numeric(const struct numeric *n, struct buf *out)
{
    ASSERT(n->scale >= 0 && n->scale <= NUMERIC_SCALE_MAX);
    static const uint16_t signs[] = {0, NUMERIC_SIGN_NAN, NUMERIC_SIGN_PINF, NUMERIC_SIGN_NINF};
    if (n->special != NUMERIC_FINITE) {
        put_be(out, 0, 4); /* no digits, weight 0 */
        put_be(out, signs[n->special], 2);
        put_be(out, 0, 2);
        return;
    }
    int128 c = numeric_coef(n);
    uint128 m = c < 0 ? -(uint128)c : (uint128)c;
    int pad = (NBASE_DIGITS - n->scale % NBASE_DIGITS) % NBASE_DIGITS;
    uint16_t digits[12];
    int len = 0;
    /* The lowest digit takes the padding, so that nothing exceeds 128 bits. */
    uint128 low_unit = numeric_pow10[NBASE_DIGITS - pad];
    digits[len++] = (uint16_t)((uint128)(m % low_unit) * numeric_pow10[pad]);
    for (m /= low_unit; m != 0; m /= NBASE) {
        digits[len++] = (uint16_t)(m % NBASE);
    }
    int weight = len - 1 - (n->scale + pad) / NBASE_DIGITS;
    int low = 0;
    while (low < len && digits[low] == 0) {
        low++;
    }
    while (len > low && digits[len - 1] == 0) {
        len--;
        weight--;
    }
    put_be(out, (uint64_t)(len - low), 2);
    put_be(out, (uint64_t)(len == low ? 0 : weight), 2);
    put_be(out, c < 0 ? NUMERIC_SIGN_NEG : 0, 2);
    put_be(out, (uint64_t)n->scale, 2);
    for (int i = len - 1; i >= low; i--) {
        put_be(out, digits[i], 2);
    }
}

static err_t bad_numeric(const char *what)
{
    return err_sql(ERR_INVALID, "22P03", "invalid %s in external \"numeric\" value", what);
}

/* NaN and the infinities have codes in the sign's place. */
static err_t recv_special(uint16_t sign, struct numeric *out)
{
    if (sign == NUMERIC_SIGN_NAN || sign == NUMERIC_SIGN_PINF || sign == NUMERIC_SIGN_NINF) {
        *out = (struct numeric){.special = sign == NUMERIC_SIGN_NAN    ? NUMERIC_NAN
                                           : sign == NUMERIC_SIGN_PINF ? NUMERIC_INF
                                                                       : NUMERIC_NINF};
        return ERR_OK;
    }
    return bad_numeric("sign");
}

/* Through text: the digits, then the exponent of the last of them. */
static err_t recv_numeric(struct reader *r, struct numeric *out)
{
    uint16_t len = (uint16_t)take_be(r, 2);
    int weight = (int16_t)take_be(r, 2);
    uint16_t sign = (uint16_t)take_be(r, 2);
    uint16_t scale = (uint16_t)take_be(r, 2);
    if (r->failed || reader_left(r) < (size_t)len * 2) {
        return bad_numeric("length");
    }
    if (sign != 0 && sign != NUMERIC_SIGN_NEG) {
        return recv_special(sign, out);
    }
    struct buf text = {0};
    buf_printf(&text, "%s0", sign != 0 ? "-" : "");
    bool bad = scale > 0x3fff;
    for (uint16_t i = 0; i < len; i++) {
        uint16_t digit = (uint16_t)take_be(r, 2);
        bad |= digit >= NBASE;
        buf_printf(&text, "%04u", digit);
    }
    buf_printf(&text, "e%d", (weight + 1 - len) * NBASE_DIGITS);
    bool ok = true;
    const struct fault *fault = NULL;
    if (!bad) {
        fault = num_parse((const char *)text.data, text.len, out, &ok);
    }
    buf_free(&text);
    if (bad || !ok) {
        return bad_numeric("digit");
    }
    if (fault == NULL) {
        struct numeric n = *out;
        fault = num_round(&n, scale, NUM_TRUNC, out);
    }
    return fault_err(fault);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Bits, not digits: NaN payloads and -0 survive. */
static void send_float(const struct datum *d, bool single, struct buf *out)
{
    float f4 = (float)d->f;
    uint32_t bits4;
    uint64_t bits8;
    memcpy(&bits4, &f4, sizeof(bits4));
    memcpy(&bits8, &d->f, sizeof(bits8));
    put_be(out, single ? bits4 : bits8, single ? 4 : 8);
}

/* The infinities are the ends of the range on both sides. */
static int64_t shift_epoch(int64_t ts)
{
    return ts == TS_INFINITY || ts == TS_NINFINITY ? ts : ts - PG_EPOCH_MICROS;
}

/* ---- arrays ---------------------------------------------------------------------------------- */

/* False when an item is no value of the element type. */
static bool send_item(const struct type *element, struct buf *item, struct buf *out)
{
    struct arena arena = {0};
    struct datum d;
    err_t err = datum_parse(element, buf_cstr(item), item->len, &arena, &d);
    bool ok = err == ERR_OK;
    size_t at = out->len;
    if (ok) {
        put_be(out, 0, 4);
        datum_send(element, &d, out);
        uint32_t len = __builtin_bswap32((uint32_t)(out->len - at - 4));
        memcpy(out->data + at, &len, sizeof(len));
    }
    err_free(err);
    arena_free(&arena);
    return ok;
}

/* The items of {...}; returns how many, or -1: more dimensions, or nothing array_agg writes. */
static int64_t send_items(const struct type *element, const struct datum *d, bool *nulls,
                          struct buf *out)
{
    struct buf item = {0};
    struct array_reader reader = array_open(d->s, d->len);
    enum array_next next;
    int64_t n = 0;
    bool ok = true;
    while (ok && (next = array_next(&reader, &item)) != ARRAY_END) {
        ok = next != ARRAY_BAD && !reader.nested;
        n++;
        if (ok && next == ARRAY_NULL) {
            put_be(out, UINT32_MAX, 4);
            *nulls = true;
        } else if (ok) {
            ok = send_item(element, &item, out);
        }
    }
    buf_free(&item);
    return ok ? n : -1;
}

/*
 * One dimension from 1 on, as array_agg makes; none when it is empty. False, and nothing is sent,
 * for what only looks like an array: int2vector and its like are texts in the catalog.
 */
static bool send_array(const struct type *type, const struct datum *d, struct buf *out)
{
    uint32_t oid = type_element_of(type->oid);
    struct type element;
    if (oid == 0 || !type_of_oid(oid, -1, &element)) {
        return false;
    }
    size_t start = out->len;
    bool nulls = false;
    static const uint8_t head[20] = {0};
    buf_append(out, head, sizeof(head));
    int64_t n = send_items(&element, d, &nulls, out);
    out->len = n <= 0 ? start : out->len;
    if (n < 0) {
        return false;
    }
    struct buf fields = {0};
    put_be(&fields, n > 0 ? 1 : 0, 4);
    put_be(&fields, nulls, 4);
    put_be(&fields, oid, 4);
    put_be(&fields, (uint64_t)n, 4);
    put_be(&fields, 1, 4);
    if (n > 0) {
        ASSERT(fields.len == sizeof(head));
        memcpy(out->data + start, fields.data, fields.len);
    } else {
        buf_append(out, fields.data, 12);
    }
    buf_free(&fields);
    return true;
}

/* ---- any value ------------------------------------------------------------------------------- */

/*
 * text, jsonb and bytea go as their bytes; jsonb behind a version byte. Appends the value without
 * its length: the message has a field for that.
 */
void datum_send(const struct type *type, const struct datum *d, struct buf *out)
{
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    ASSERT(!d->null);
    switch (type->kind) {
    case TYPE_BOOL:
        buf_append_byte(out, d->b);
        break;
    case TYPE_INT2:
        put_be(out, (uint64_t)d->i, 2);
        break;
    case TYPE_INT4:
    case TYPE_OID:
        put_be(out, (uint64_t)d->i, 4);
        break;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        send_float(d, type->kind == TYPE_FLOAT4, out);
        break;
    case TYPE_NUMERIC:
        send_numeric(&d->n, out);
        break;
    case TYPE_DATE: {
        bool finite = d->i != DATE_INFINITY && d->i != DATE_NINFINITY;
        put_be(out, (uint64_t)(finite ? d->i - PG_EPOCH_DAYS : d->i), 4);
        break;
    }
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        put_be(out, (uint64_t)shift_epoch(d->i), 8);
        break;
    case TYPE_INTERVAL:
        put_be(out, (uint64_t)d->iv.micros, 8);
        put_be(out, (uint32_t)d->iv.days, 4);
        put_be(out, (uint32_t)d->iv.months, 4);
        break;
    case TYPE_UUID:
        buf_append(out, d->uuid, 16);
        break;
    case TYPE_JSONB:
        buf_append_byte(out, 1); /* version */
        buf_append(out, d->s, d->len);
        break;
    case TYPE_BYTEA:
        buf_append(out, d->s, d->len);
        break;
    case TYPE_TEXT:
        if (!send_array(type, d, out)) {
            datum_print(type, d, out);
        }
        break;
    case TYPE_UNKNOWN:
    case TYPE_MZ_TIMESTAMP: /* has no binary format of its own */
        datum_print(type, d, out);
        break;
    default:
        put_be(out, (uint64_t)d->i, 8);
        break;
    }
}

/* ---- receiving ------------------------------------------------------------------------------- */

/* Every pattern of bits is a float. */
static err_t recv_float(struct reader *r, bool single, double *out)
{
    uint64_t bits = take_be(r, single ? 4 : 8);
    uint32_t bits4 = (uint32_t)bits;
    float f4;
    memcpy(&f4, &bits4, sizeof(f4));
    memcpy(out, &bits, sizeof(*out));
    if (single) {
        *out = (double)f4;
    }
    return ERR_OK;
}

/* The bounds are checked after the epochs are made one. */
static err_t recv_date(struct reader *r, int64_t *out)
{
    int64_t v = (int32_t)take_be(r, 4);
    *out = v == DATE_INFINITY || v == DATE_NINFINITY ? v : v + PG_EPOCH_DAYS;
    return date_valid(*out) ? ERR_OK : fault_err(&fault_date_range);
}

/* The sum may not hit the code of an infinity: that would turn a finite value into one. */
static err_t recv_timestamp(struct reader *r, int precision, int64_t *out)
{
    int64_t v = (int64_t)take_be(r, 8);
    if (v == TS_INFINITY || v == TS_NINFINITY) {
        *out = v;
        return ERR_OK;
    }
    if (__builtin_add_overflow(v, PG_EPOCH_MICROS, out) || *out == TS_INFINITY ||
        !timestamp_valid(*out)) {
        return fault_err(&fault_timestamp_range);
    }
    *out = timestamp_round(*out, precision);
    return ERR_OK;
}

/* Missing bytes are noticed by the caller, once, after the value was taken apart. */
static err_t recv_fixed(const struct type *type, struct reader *r, struct datum *out)
{
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    switch (type->kind) {
    case TYPE_BOOL:
        out->b = reader_u8(r) != 0;
        return ERR_OK;
    case TYPE_INT2:
        out->i = (int16_t)take_be(r, 2);
        return ERR_OK;
    case TYPE_INT4:
        out->i = (int32_t)take_be(r, 4);
        return ERR_OK;
    case TYPE_OID:
        out->i = (int64_t)take_be(r, 4);
        return ERR_OK;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return recv_float(r, type->kind == TYPE_FLOAT4, &out->f);
    case TYPE_NUMERIC:
        TRY(recv_numeric(r, &out->n));
        return num_apply_typmod(type->typmod, &out->n);
    case TYPE_DATE:
        return recv_date(r, &out->i);
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        return recv_timestamp(r, type->typmod, &out->i);
    case TYPE_INTERVAL:
        out->iv.micros = (int64_t)take_be(r, 8);
        out->iv.days = (int32_t)take_be(r, 4);
        out->iv.months = (int32_t)take_be(r, 4);
        return ERR_OK;
    case TYPE_UUID: {
        const void *bytes = reader_bytes(r, 16);
        if (bytes != NULL) {
            memcpy(out->uuid, bytes, 16);
        }
        return ERR_OK;
    }
    default:
        out->i = (int64_t)take_be(r, 8);
        if (type->kind == TYPE_TIME && (out->i < 0 || out->i > MICROS_PER_DAY)) {
            return err_sql(ERR_INVALID, "22008", "time out of range");
        }
        return ERR_OK;
    }
}

/* The whole input must be the value: bytes left over are an error. */
err_t datum_recv(const struct type *type, const uint8_t *data, size_t len, struct arena *arena,
                 struct datum *out)
{
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    *out = (struct datum){0};
    switch (type->kind) {
    case TYPE_TEXT:
    case TYPE_UNKNOWN:
    case TYPE_MZ_TIMESTAMP: /* has no binary format of its own */
        return datum_parse(type, (const char *)data, len, arena, out);
    case TYPE_BYTEA:
        out->s = arena_memdup(arena, data, len);
        out->len = (uint32_t)len;
        return ERR_OK;
    case TYPE_JSONB:
        if (len == 0 || data[0] != 1) {
            return err_sql(ERR_INVALID, "22P03", "unsupported jsonb version number %d",
                           len == 0 ? 0 : data[0]);
        }
        return datum_parse(type, (const char *)data + 1, len - 1, arena, out);
    default: {
        struct reader r = reader_of(data, len);
        TRY(recv_fixed(type, &r, out));
        if (r.failed || reader_left(&r) != 0) {
            return err_sql(ERR_INVALID, "22P03", "incorrect binary data format for type %s",
                           type_kind_name(type->kind));
        }
        return ERR_OK;
    }
    }
}
