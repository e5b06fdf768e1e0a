/*
 * Single values: validity, order, text input and output by kind.
 *
 * Everything is as PostgreSQL 15 does it, down to the SQLSTATE: literals of statements, COPY, files
 * and casts from text all come through datum_parse, results through datum_print. Settings are those
 * a fresh session has: DateStyle ISO, IntervalStyle postgres, extra_float_digits 1, bytea hex,
 * TimeZone UTC. tests/unit/core/data/test_oracle.c compares both directions with a server.
 *
 *   bool          t, f                   parses also yes, on, 1, and beginnings of words
 *   int, oid      42                     space around is ignored, digits beyond the range 22003
 *   numeric       1.50                   see numeric_text.c
 *   float         0.1, 1e+15, NaN        see float_text.c
 *   text          as it is               varchar(n) cuts blanks only
 *   bytea         \x6162                 parses also the form with escapes
 *   jsonb         {"a": 1}               see json_parse.c
 *   date, time    2024-02-29, 13:04:05   see datetime_parse.c
 *   interval      1 mon 02:00:00         see interval.c
 *   uuid          a0eebc99-...           parses braces, any grouping by four
 *
 * Functions here keep no state; any thread.
 */
#include "core/base/utf8.h"
#include "core/data/array.h"
#include "core/data/datetime.h"
#include "core/data/json.h"
#include "core/data/numeric.h"
#include "core/data/text.h"

#include <math.h>

/* ---- order ----------------------------------------------------------------------------------- */

/*
 * PostgreSQL's order, not IEEE's: NaN equals NaN and is above everything, so that there is a total
 * order to sort and index by.
 */
static int compare_floats(double a, double b)
{
    if (isnan(a) || isnan(b)) {
        return (int)isnan(a) - (int)isnan(b);
    }
    return a < b ? -1 : a > b;
}

/* Collation C: bytes decide, a prefix is less. */
static int compare_bytes(const struct datum *a, const struct datum *b)
{
    size_t len = a->len < b->len ? a->len : b->len;
    int r = len > 0 ? memcmp(a->s, b->s, len) : 0;
    if (r != 0) {
        return r;
    }
    return a->len < b->len ? -1 : a->len > b->len;
}

/*
 * jsonb and numeric have orders of their own; kinds left to default are signed integers of any
 * width.
 */
int datum_compare(enum type_kind kind, const struct datum *a, const struct datum *b)
{
    ASSERT(!a->null && !b->null);
    switch (kind) {
    case TYPE_BOOL:
        return (int)a->b - (int)b->b;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return compare_floats(a->f, b->f);
    case TYPE_NUMERIC:
        return numeric_compare(&a->n, &b->n);
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_UNKNOWN:
        return compare_bytes(a, b);
    case TYPE_INTERVAL: {
        int128 x = interval_span(&a->iv);
        int128 y = interval_span(&b->iv);
        return x < y ? -1 : x > y;
    }
    case TYPE_JSONB:
        return json_compare((struct json){a->s, a->len}, (struct json){b->s, b->len});
    case TYPE_UUID:
        return memcmp(a->uuid, b->uuid, 16);
    case TYPE_MZ_TIMESTAMP:
        return (uint64_t)a->i < (uint64_t)b->i ? -1 : (uint64_t)a->i > (uint64_t)b->i;
    default:
        return a->i < b->i ? -1 : a->i > b->i;
    }
}

/*
 * As IS NOT DISTINCT FROM: two NULLs are equal. Values that print differently may be equal (1.0,
 * 1.00).
 */
bool datum_equal(enum type_kind kind, const struct datum *a, const struct datum *b)
{
    if (a->null || b->null) {
        return a->null && b->null;
    }
    return datum_compare(kind, a, b) == 0;
}

/* ---- validity -------------------------------------------------------------------------------- */

/* An empty string may have no address. */
static bool bytes_valid(enum type_kind kind, const struct datum *d)
{
    if (d->len > 0 && d->s == NULL) {
        return false;
    }
    if (kind == TYPE_TEXT) {
        return utf8_valid(d->s, d->len) && (d->len == 0 || memchr(d->s, 0, d->len) == NULL);
    }
    if (kind == TYPE_JSONB) {
        struct json_parser scratch = {0};
        bool canonical = d->s != NULL && json_is_canonical(&scratch, d->s, d->len);
        json_parser_free(&scratch);
        return canonical;
    }
    return true;
}

bool datum_valid(enum type_kind kind, const struct datum *d)
{
    ASSERT(kind > 0 && kind < TYPE_KIND_MAX);
    if (d->null) {
        return true;
    }
    switch (kind) {
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_JSONB:
        return bytes_valid(kind, d);
    case TYPE_NUMERIC:
        return numeric_valid(&d->n);
    case TYPE_INT2:
        return d->i == (int16_t)d->i;
    case TYPE_INT4:
        return d->i == (int32_t)d->i;
    case TYPE_DATE:
        return date_valid(d->i);
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        return timestamp_valid(d->i);
    case TYPE_TIME:
        return d->i >= 0 && d->i <= MICROS_PER_DAY;
    case TYPE_OID:
        return d->i >= 0 && d->i <= UINT32_MAX;
    default:
        return true;
    }
}

/* ---- text input ------------------------------------------------------------------------------ */

/* A value from outside may be at most 4 GiB: callers bound their input far below. */
static void set_bytes(struct arena *arena, const void *s, size_t len, struct datum *out)
{
    ASSERT(len <= UINT32_MAX);
    out->s = arena_memdup(arena, s, len);
    out->len = (uint32_t)len;
}

/*
 * varchar(n) refuses what does not fit unless only blanks would be lost; "char" keeps one
 * character.
 */
static err_t parse_array(const struct type *element, const char *s, size_t len,
                         struct arena *arena, struct datum *out)
{
    struct buf text = {0};
    err_t err = array_convert(s, len, element, &text);
    if (err == ERR_OK) {
        set_bytes(arena, buf_cstr(&text), text.len, out);
    }
    buf_free(&text);
    return err;
}

static err_t parse_text(const struct type *type, const char *s, size_t len, struct arena *arena,
                        struct datum *out)
{
    ASSERT(s != NULL || len == 0);
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    size_t fits;
    struct type element;
    TRY(text_check(s, len));
    uint32_t oid = type_array_of(type_element_of(type->oid)) == type->oid
                       ? type_element_of(type->oid)
                       : 0; /* int2vector and its like have a form of their own */
    if (oid != 0 && type_of_oid(oid, -1, &element)) {
        return parse_array(&element, s, len, arena, out);
    }
    TRY(text_fit(type->oid, type->typmod, false, s, len, &fits));
    if (type->oid == OID_CHAR && fits > 1) {
        fits = 1;
        while (fits < len && ((uint8_t)s[fits] & 0xC0) == 0x80) {
            fits++;
        }
    }
    set_bytes(arena, s, fits, out);
    return ERR_OK;
}

/* The typmod rounds, and then refuses what has too many whole digits: 22003. */
static err_t parse_numeric(const struct type *type, const char *s, size_t len, struct datum *out)
{
    ASSERT(s != NULL || len == 0);
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    bool ok;
    struct text_span t = text_trim(s, len);
    const struct fault *fault = num_parse(t.s, t.len, &out->n, &ok);
    if (fault == NULL && !ok) {
        return err_sql(ERR_INVALID, "22P02", "invalid input syntax for type numeric: \"%.*s\"",
                       (int)len, s);
    }
    TRY(fault_err(fault));
    return num_apply_typmod(type->typmod, &out->n);
}

/* Both of PostgreSQL's forms: \x6162 and the older one with escapes. */
static err_t parse_bytea(const char *s, size_t len, struct arena *arena, struct datum *out)
{
    ASSERT(s != NULL || len == 0);
    struct buf buf = {0};
    err_t err = bytea_parse(s, len, &buf);
    if (err == ERR_OK) {
        set_bytes(arena, buf.data, buf.len, out);
    }
    buf_free(&buf);
    return err;
}

/* Stored as canonical text: see json_parse.c. */
static err_t parse_jsonb(const char *s, size_t len, struct arena *arena, struct datum *out)
{
    ASSERT(s != NULL || len == 0);
    struct json_parser parser = {0};
    err_t err = json_parse(&parser, s, len);
    if (err == ERR_OK) {
        set_bytes(arena, parser.out.data, parser.out.len, out);
    }
    json_parser_free(&parser);
    return err;
}

/* Milliseconds or microseconds are not ours to interpret: an unsigned number. */
static err_t parse_mz_timestamp(const char *s, size_t len, struct datum *out)
{
    ASSERT(s != NULL || len == 0);
    struct text_span t = text_trim(s, len);
    uint64_t v = 0;
    bool bad = t.len == 0;
    for (size_t i = 0; i < t.len && !bad; i++) {
        bad = t.s[i] < '0' || t.s[i] > '9' || __builtin_mul_overflow(v, 10, &v) ||
              __builtin_add_overflow(v, (uint64_t)(t.s[i] - '0'), &v);
    }
    if (bad) {
        return err_sql(ERR_INVALID, "22P02",
                       "invalid input syntax for type mz_timestamp: \"%.*s\"", (int)len, s);
    }
    out->i = (int64_t)v;
    return ERR_OK;
}

/* oid takes negative numbers as PostgreSQL does: modulo 2^32. */
static err_t parse_oid(const char *s, size_t len, struct datum *out)
{
    TRY(int_parse(s, len, INT32_MIN, UINT32_MAX, "oid", &out->i));
    out->i = (int64_t)(uint32_t)out->i;
    return ERR_OK;
}

/* Fractions beyond the typmod's precision are rounded, not refused. */
static err_t parse_temporal(const struct type *type, const char *s, size_t len, struct datum *out)
{
    ASSERT(s != NULL || len == 0);
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    int precision = type->typmod;
    switch (type->kind) {
    case TYPE_DATE:
        return date_parse(s, len, &out->i);
    case TYPE_TIME:
        TRY(time_parse(s, len, &out->i));
        out->i = micros_round(out->i, precision);
        return ERR_OK;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        TRY(timestamp_parse(s, len, type->kind == TYPE_TIMESTAMPTZ, &out->i));
        out->i = timestamp_round(out->i, precision);
        return ERR_OK;
    default:
        TRY(interval_parse(s, len, &out->iv));
        /* interval(p): the precision is in the low half; 0xffff is none. */
        out->iv.micros = micros_round(out->iv.micros, precision < 0 ? -1 : precision & 0xffff);
        return ERR_OK;
    }
}

/*
 * The text need not end in NUL. Space around it is ignored where PostgreSQL ignores it: everywhere
 * but in text, bytea, jsonb's strings and uuid.
 */
err_t datum_parse(const struct type *type, const char *text, size_t len, struct arena *arena,
                  struct datum *out)
{
    ASSERT(text != NULL || len == 0);
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    *out = (struct datum){0};
    switch (type->kind) {
    case TYPE_BOOL:
        return bool_parse(text, len, &out->b);
    case TYPE_INT2:
        return int_parse(text, len, INT16_MIN, INT16_MAX, "smallint", &out->i);
    case TYPE_INT4:
        return int_parse(text, len, INT32_MIN, INT32_MAX, "integer", &out->i);
    case TYPE_INT8:
        return int_parse(text, len, INT64_MIN, INT64_MAX, "bigint", &out->i);
    case TYPE_OID:
        return parse_oid(text, len, out);
    case TYPE_MZ_TIMESTAMP:
        return parse_mz_timestamp(text, len, out);
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return float_parse(text, len, type->kind == TYPE_FLOAT4, &out->f);
    case TYPE_NUMERIC:
        return parse_numeric(type, text, len, out);
    case TYPE_TEXT:
    case TYPE_UNKNOWN:
        return parse_text(type, text, len, arena, out);
    case TYPE_BYTEA:
        return parse_bytea(text, len, arena, out);
    case TYPE_JSONB:
        return parse_jsonb(text, len, arena, out);
    case TYPE_UUID:
        return uuid_parse(text, len, out->uuid);
    default:
        return parse_temporal(type, text, len, out);
    }
}

/* ---- text output ----------------------------------------------------------------------------- */

/* Two digits at a time would be faster; printing is never what takes the time. */
static void print_int(int64_t v, struct buf *out)
{
    char digits[24];
    int at = 24;
    uint64_t m = v < 0 ? -(uint64_t)v : (uint64_t)v;
    do {
        digits[--at] = (char)('0' + m % 10);
        m /= 10;
    } while (m != 0);
    if (v < 0) {
        digits[--at] = '-';
    }
    buf_append(out, digits + at, (size_t)(24 - at));
}

/* char(n) is printed with the blanks it was stored without. */
static void print_text(const struct type *type, const struct datum *d, struct buf *out)
{
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    buf_append(out, d->s, d->len);
    if (type->oid != OID_BPCHAR || type->typmod < TYPMOD_HEADER) {
        return;
    }
    size_t chars = utf8_chars(d->s, d->len);
    for (; chars < (size_t)(type->typmod - TYPMOD_HEADER); chars++) {
        buf_append_byte(out, ' ');
    }
}

/*
 * Appends. The value must be valid for its kind, which everything that came through a batch, a
 * parse or datum_valid is.
 */
void datum_print(const struct type *type, const struct datum *d, struct buf *out)
{
    ASSERT(type->kind > 0 && type->kind < TYPE_KIND_MAX);
    char text[NUM_TEXT_MAX];
    ASSERT(!d->null);
    switch (type->kind) {
    case TYPE_BOOL:
        buf_append_byte(out, d->b ? 't' : 'f');
        break;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        buf_append(out, text, float_print(d->f, type->kind == TYPE_FLOAT4, text));
        break;
    case TYPE_NUMERIC:
        buf_append(out, text, num_print(&d->n, text));
        break;
    case TYPE_TEXT:
    case TYPE_UNKNOWN:
        print_text(type, d, out);
        break;
    case TYPE_JSONB:
        buf_append(out, d->s, d->len);
        break;
    case TYPE_BYTEA:
        buf_append(out, "\\x", 2);
        hex_encode((const uint8_t *)d->s, d->len, out);
        break;
    case TYPE_DATE:
        date_print(d->i, out);
        break;
    case TYPE_TIME:
        time_print(d->i, out);
        break;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        timestamp_print(d->i, type->kind == TYPE_TIMESTAMPTZ, out);
        break;
    case TYPE_INTERVAL:
        interval_print(&d->iv, out);
        break;
    case TYPE_UUID:
        uuid_print(d->uuid, out);
        break;
    case TYPE_MZ_TIMESTAMP:
        buf_printf(out, "%llu", (unsigned long long)d->i);
        break;
    default:
        print_int(d->i, out);
        break;
    }
}

/* ---- arithmetic for aggregates --------------------------------------------------------------- */

/* The public forms of arithmetic give errors instead of faults; aggregates use them. */
err_t numeric_add(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    return fault_err(num_add(a, b, out));
}

err_t numeric_sub(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    return fault_err(num_sub(a, b, out));
}

err_t numeric_mul(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    return fault_err(num_mul(a, b, out));
}

err_t numeric_div(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    return fault_err(num_div(a, b, out));
}

struct numeric numeric_from_int128(__int128 v)
{
    ASSERT(v < (int128)numeric_pow10[NUMERIC_DIGITS_MAX]);
    ASSERT(v > -(int128)numeric_pow10[NUMERIC_DIGITS_MAX]);
    struct numeric out;
    bool negative = v < 0;
    const struct fault *fault = num_fit(negative, negative ? -(uint128)v : (uint128)v, 0, &out);
    ASSERT(fault == NULL);
    return out;
}

err_t interval_add(const struct interval *a, const struct interval *b, struct interval *out)
{
    return fault_err(iv_add(a, b, out));
}

err_t interval_sub(const struct interval *a, const struct interval *b, struct interval *out)
{
    return fault_err(iv_sub(a, b, out));
}

err_t interval_div(const struct interval *a, double by, struct interval *out)
{
    return fault_err(iv_divide(a, by, out));
}
