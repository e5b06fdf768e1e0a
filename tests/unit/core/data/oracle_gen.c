/* Random values as text: small ones, extremes, and the forms each type can be written in. */
#include "tests/unit/core/data/oracle_gen.h"

#include "core/base/hash.h"

#include <stdio.h>

uint64_t rng_next(struct rng *r)
{
    r->state += 0x9E3779B97F4A7C15ULL;
    return hash_u64(r->state);
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(rng_next(r) % n);
}

#define PICK(r, list) ((list)[rng_below((r), ARRAY_LEN(list))])

static void gen_digits(struct rng *r, int len, struct buf *out)
{
    for (int i = 0; i < len; i++) {
        buf_append_byte(out, (uint8_t)('0' + rng_below(r, 10)));
    }
}

static void gen_int(struct rng *r, int64_t min, int64_t max, struct buf *out)
{
    int64_t v = 0;
    switch (rng_below(r, 6)) {
    case 0:
        v = min + rng_below(r, 3);
        break;
    case 1:
        v = max - (int64_t)rng_below(r, 3);
        break;
    case 2:
        v = (int64_t)rng_next(r) >> rng_below(r, 63);
        v = v < min || v > max ? v % 1000 : v;
        break;
    default:
        v = (int64_t)rng_below(r, 41) - 20;
        break;
    }
    buf_printf(out, "%lld", (long long)v);
}

static void gen_numeric(struct rng *r, struct buf *out)
{
    static const char *const special[] = {"NaN", "Infinity", "-Infinity", "0", "0.00", "-0.0",
                                          "1e10", "1.5e-7", "99999.99995", "1e-15", "2", "-1"};
    if (rng_below(r, 6) == 0) {
        buf_append_str(out, PICK(r, special));
        return;
    }
    if (rng_below(r, 2) == 0) {
        buf_append_byte(out, '-');
    }
    buf_append_byte(out, (uint8_t)('0' + rng_below(r, 10)));
    gen_digits(r, (int)rng_below(r, rng_below(r, 4) == 0 ? 18 : 5), out);
    if (rng_below(r, 3) != 0) {
        buf_append_byte(out, '.');
        gen_digits(r, 1 + (int)rng_below(r, rng_below(r, 4) == 0 ? 17 : 5), out);
    }
}

static void gen_float(struct rng *r, bool single, struct buf *out)
{
    static const char *const special[] = {
        "NaN", "Infinity", "-Infinity", "0", "-0", "1e15", "123456789012345678", "1e-5", "0.0001",
        "1e23", "5e-324", "1.7976931348623157e308", "0.1", "2.5", "-2.5", "3.5", "1e-300",
        "9007199254740993", "1e300", "100000", "1000000", "33554432", "2.2250738585072014e-308"};
    static const char *const special4[] = {
        "NaN", "Infinity", "-Infinity", "0", "-0", "1e6", "123456", "1234567", "1e-5", "0.0001",
        "1e23", "1e-45", "3.4028235e38", "0.1", "2.5", "-2.5", "16777217", "1e-38", "33554432"};
    if (rng_below(r, 4) == 0) {
        buf_append_str(out, single ? PICK(r, special4) : PICK(r, special));
        return;
    }
    if (rng_below(r, 3) == 0) {
        uint64_t bits = rng_next(r);
        uint32_t bits4 = (uint32_t)bits;
        double d;
        float f;
        memcpy(&d, &bits, sizeof(d));
        memcpy(&f, &bits4, sizeof(f));
        buf_printf(out, "%.17g", single ? (double)f : d);
        return;
    }
    buf_printf(out, "%s%u.%u", rng_below(r, 2) ? "-" : "", rng_below(r, 1000),
               rng_below(r, 10000));
}

static void gen_text(struct rng *r, struct buf *out)
{
    static const char *const pieces[] = {"a", "b", "abc", " ", "  ", "%", "_", "\\", "é", "ß",
                                         "日本", "Ä", "X", "1", "-", ".", "foo", "BAR", "'", "\"",
                                         "😀", ",", "ab", "\n", "/", "(", "$"};
    uint32_t n = rng_below(r, 7);
    for (uint32_t i = 0; i < n; i++) {
        buf_append_str(out, PICK(r, pieces));
    }
}

static void gen_bytea(struct rng *r, struct buf *out)
{
    static const char *const escaped[] = {"abc", "\\\\", "\\001\\377", "a\\134b", ""};
    if (rng_below(r, 5) == 0) {
        buf_append_str(out, PICK(r, escaped));
        return;
    }
    buf_append_str(out, "\\x");
    for (uint32_t n = rng_below(r, 9); n > 0; n--) {
        buf_printf(out, "%02x", rng_below(r, 256));
    }
}

static void gen_date(struct rng *r, struct buf *out)
{
    static const char *const special[] = {"infinity", "-infinity", "epoch", "2000-02-29",
                                          "1999-12-31", "0001-01-01", "0044-03-15 BC",
                                          "4714-11-24 BC", "20240229", "1582-10-15", "2021-1-3",
                                          "0004-02-29 BC"};
    if (rng_below(r, 5) == 0) {
        buf_append_str(out, PICK(r, special));
        return;
    }
    uint32_t year = rng_below(r, 5) == 0 ? 1 + rng_below(r, 9998) : 1960 + rng_below(r, 80);
    buf_printf(out, "%04u-%02u-%02u", year, 1 + rng_below(r, 12), 1 + rng_below(r, 28));
    if (rng_below(r, 20) == 0) {
        buf_append_str(out, " BC");
    }
}

static void gen_clock(struct rng *r, struct buf *out)
{
    static const char *const special[] = {"24:00:00", "00:00:00", "23:59:60", "23:59:59.999999",
                                          "12:34", "1:02:03", "12:00 am", "11:30 PM",
                                          "23:59:59.9999999", "00:00:00.0000005"};
    if (rng_below(r, 6) == 0) {
        buf_append_str(out, PICK(r, special));
        return;
    }
    buf_printf(out, "%02u:%02u:%02u", rng_below(r, 24), rng_below(r, 60), rng_below(r, 60));
    if (rng_below(r, 2)) {
        buf_append_byte(out, '.');
        gen_digits(r, 1 + (int)rng_below(r, 7), out);
    }
}

static void gen_timestamp(struct rng *r, struct buf *out)
{
    static const char *const special[] = {"infinity", "-infinity", "epoch",
                                          "2024-02-29T13:04:05Z", "0044-03-15 12:00:00 BC",
                                          "20240229T130405", "2024-02-29 13:04:05 UTC"};
    static const char *const zones[] = {"", "", "", "Z", "+00", "+02", "-07:30", "+0530", " UTC",
                                        "+15:59"};
    if (rng_below(r, 6) == 0) {
        buf_append_str(out, PICK(r, special));
        return;
    }
    uint32_t year = rng_below(r, 5) == 0 ? 1 + rng_below(r, 9998) : 1960 + rng_below(r, 80);
    buf_printf(out, "%04u-%02u-%02u", year, 1 + rng_below(r, 12), 1 + rng_below(r, 28));
    if (rng_below(r, 5) != 0) {
        buf_append_str(out, rng_below(r, 4) ? " " : "T");
        size_t before = out->len;
        gen_clock(r, out);
        /* "12:00 am+02" PostgreSQL reads as a zone named "am". */
        if (memchr(out->data + before, 'm', out->len - before) == NULL &&
            memchr(out->data + before, 'M', out->len - before) == NULL) {
            buf_append_str(out, PICK(r, zones));
        }
    }
}

static void gen_interval(struct rng *r, struct buf *out)
{
    static const char *const special[] = {
        "P1Y2M3DT4H5M6S", "P1W", "PT-1.5S", "P-1Y", "1-2", "1 year 2 mons ago", "@ 1 minute",
        "1.5 years", "1.5 months", "1.5 weeks", "0.3 days", "100", "3 04:05:06", "0", "04:05",
        "-1-2 +3 -4:05:06", "P0.5M", "2 decades", "1 century", "1.234567 sec", "PT36H",
        "1 mon -30 days", "-00:00:01.5", "1 day 25:00:00", "12 us", "1.5 ms", "1h 30m"};
    static const char *const units[] = {"year", "years", "mon", "month", "day", "days", "hour",
                                        "minutes", "sec", "week", "h", "min", "s", "y", "d"};
    if (rng_below(r, 3) == 0) {
        buf_append_str(out, PICK(r, special));
        return;
    }
    for (uint32_t n = 1 + rng_below(r, 3); n > 0; n--) {
        buf_printf(out, "%s%d %s", out->len > 0 ? " " : "", (int)rng_below(r, 120) - 40,
                   PICK(r, units));
    }
    if (rng_below(r, 2)) {
        buf_append_str(out, rng_below(r, 3) ? " " : " -");
        buf_printf(out, "%02u:%02u:%02u", rng_below(r, 40), rng_below(r, 60), rng_below(r, 60));
        if (rng_below(r, 2)) {
            buf_append_byte(out, '.');
            gen_digits(r, 1 + (int)rng_below(r, 6), out);
        }
    }
}

static void gen_json(struct rng *r, int depth, struct buf *out)
{
    static const char *const scalars[] = {
        "null", "true", "false", "0", "1", "-1", "1.50", "1e3", "-0.0", "1.5e-3", "12.5E1",
        "\"\"", "\"a\"", "\"b\\n\\\"\"", "\"\\u00e9\"", "\"\\ud83d\\ude00\"", "\"é\"",
        "\"a\\/b\"", "100000000000000000000", "\"\\u0001\"", "1.0", "\"10\"", "2"};
    static const char *const keys[] = {"a", "b", "aa", "c", "\\u0061", "key", "é", "", "1"};
    uint32_t what = depth > 3 ? 0 : rng_below(r, 4);
    if (what < 2) {
        buf_append_str(out, PICK(r, scalars));
        return;
    }
    bool object = what == 2;
    buf_append_str(out, object ? "{" : "[");
    for (uint32_t n = rng_below(r, 4), i = 0; i < n; i++) {
        buf_append_str(out, i > 0 ? " ,\n" : " ");
        if (object) {
            buf_printf(out, "\"%s\" : ", PICK(r, keys));
        }
        gen_json(r, depth + 1, out);
    }
    buf_append_str(out, object ? "}" : "]");
}

static void gen_uuid(struct rng *r, struct buf *out)
{
    buf_printf(out, "%08x-%04x-%04x-%04x-%08x%04x", (unsigned)rng_next(r), rng_below(r, 65536),
               rng_below(r, 65536), rng_below(r, 3), (unsigned)rng_next(r), rng_below(r, 4));
    if (rng_below(r, 8) == 0) {
        buf_clear(out);
        buf_append_str(out, "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}");
    }
}

static void gen_plain(struct rng *r, uint8_t kind, struct buf *out)
{
    static const char *const bools[] = {"t", "f", "true", "false", "yes", "no", "on", "off", "1",
                                        "0", "TRUE", " tr "};
    switch (kind) {
    case TYPE_BOOL:
        buf_append_str(out, PICK(r, bools));
        break;
    case TYPE_INT2:
        gen_int(r, INT16_MIN, INT16_MAX, out);
        break;
    case TYPE_INT4:
        gen_int(r, INT32_MIN, INT32_MAX, out);
        break;
    case TYPE_INT8:
        gen_int(r, INT64_MIN, INT64_MAX, out);
        break;
    case TYPE_OID:
        gen_int(r, 0, UINT32_MAX, out);
        if (out->data[0] == '-') {
            out->data[0] = '1';
        }
        break;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        gen_float(r, kind == TYPE_FLOAT4, out);
        break;
    case TYPE_NUMERIC:
        gen_numeric(r, out);
        break;
    case TYPE_BYTEA:
        gen_bytea(r, out);
        break;
    case TYPE_DATE:
        gen_date(r, out);
        break;
    case TYPE_TIME:
        gen_clock(r, out);
        break;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        gen_timestamp(r, out);
        break;
    case TYPE_INTERVAL:
        gen_interval(r, out);
        break;
    case TYPE_JSONB:
        gen_json(r, 0, out);
        break;
    case TYPE_UUID:
        gen_uuid(r, out);
        break;
    default:
        gen_text(r, out);
        break;
    }
}

void gen_value(struct rng *r, uint8_t kind, bool hostile, struct buf *out)
{
    static const char junk[] = " x-+.:0919eET\"{}[],\\BC";
    buf_clear(out);
    gen_plain(r, kind, out);
    if (!hostile || rng_below(r, 4) != 0 || out->len == 0) {
        return;
    }
    uint32_t at = rng_below(r, (uint32_t)out->len);
    if ((out->data[at] & 0x80) == 0) {
        out->data[at] = (uint8_t)junk[rng_below(r, sizeof(junk) - 1)];
    }
}

/* ---- arguments that suit a function ---------------------------------------------------------- */

static void gen_pattern(struct rng *r, struct buf *out)
{
    static const char *const pieces[] = {"%", "_", "a", "b", "abc", "\\%", "é", "foo", "X", "\\_"};
    for (uint32_t n = rng_below(r, 5); n > 0; n--) {
        buf_append_str(out, PICK(r, pieces));
    }
}

static void gen_regex(struct rng *r, struct buf *out)
{
    static const char *const patterns[] = {"a", "^a", "b$", "a.*b", "[a-c]+", "(a|b)c", "\\d+",
                                           "^$", "foo|bar", "é", "x?", ".", "a{2}", "(a)(b)",
                                           "[^a]", "\\s", "(f)oo", "", "b*", "$", "^"};
    buf_append_str(out, PICK(r, patterns));
}

static const char *const fields[] = {
    "year", "month", "day", "hour", "minute", "second", "milliseconds", "microseconds", "epoch",
    "dow", "isodow", "doy", "week", "quarter", "decade", "century", "millennium", "isoyear",
    "julian", "YEAR", "nonsense", "timezone"};

static const char *const formats[] = {
    "YYYY-MM-DD HH24:MI:SS", "YY Y YYY", "Month Mon MON mon", "Day DAY Dy D ID", "DDD DD",
    "HH12:MI AM", "MS US SSSS", "WW IW W", "IYYY Q CC", "FMMonth FMDD, YYYY", "DDth DDTH",
    "\"quoted\" YYYY", "J", "am PM a.m.", "BC", "FMHH24:FMMI", "Y,YYY", "TZ OF", "RM rm",
    "DDth \"of\" FMMonth", "FM\"a\"DD", "\\\"YYYY\\\"", "\"\"Q\"", "FMDDDth J", "xFMHH24"};

static bool is(const struct func *f, const char *name)
{
    return strcmp(f->name, name) == 0;
}

static bool gen_special(struct rng *r, const struct func *f, uint32_t arg, struct buf *out)
{
    static const char *const paths[] = {"{a}", "{a,b}", "{0}", "{a,0}", "{-1}", "{}", "{aa,\"b\"}",
                                        "{1,a}"};
    static const char *const codecs[] = {"hex", "base64", "escape", "HEX", "rot13"};
    static const char *const flags[] = {"g", "i", "gi", "", "n", "z"};
    static const char *const keys[] = {"a", "b", "aa", "key", "é", "", "1", "10"};
    bool like = is(f, "~~") || is(f, "!~~") || is(f, "~~*") || is(f, "!~~*");
    bool regex = is(f, "~") || is(f, "~*") || is(f, "!~") || is(f, "!~*") ||
                 is(f, "regexp_replace") || (is(f, "substring") && f->args[1] == TYPE_TEXT);
    if (arg == 1 && like) {
        gen_pattern(r, out);
    } else if (arg == 1 && regex) {
        gen_regex(r, out);
    } else if (arg == 3 && is(f, "regexp_replace")) {
        buf_append_str(out, PICK(r, flags));
    } else if (arg == 0 && (is(f, "extract") || is(f, "date_part") || is(f, "date_trunc"))) {
        buf_append_str(out, PICK(r, fields));
    } else if (arg == 1 && is(f, "to_char")) {
        buf_append_str(out, PICK(r, formats));
    } else if (arg == 0 && is(f, "timezone")) {
        buf_append_str(out, "UTC");
    } else if (arg == 1 && (is(f, "#>") || is(f, "#>>"))) {
        buf_append_str(out, PICK(r, paths));
    } else if (arg == 1 && (is(f, "encode") || is(f, "decode"))) {
        buf_append_str(out, PICK(r, codecs));
    } else if (arg == 1 && f->args[0] == TYPE_JSONB && f->args[1] == TYPE_TEXT) {
        buf_append_str(out, PICK(r, keys));
    } else {
        return false;
    }
    return true;
}

void gen_arg(struct rng *r, const struct func *f, uint32_t arg, uint8_t kind, struct buf *out)
{
    buf_clear(out);
    if (gen_special(r, f, arg, out)) {
        return;
    }
    bool length = kind == TYPE_INT4 && arg > 0 && f->args[0] == TYPE_TEXT;
    bool digits = (is(f, "round") || is(f, "trunc")) && arg == 1;
    if (length || digits || is(f, "make_date")) {
        int range = is(f, "make_date") && arg == 0 ? 3000 : 16;
        buf_printf(out, "%d", (int)rng_below(r, (uint32_t)range) - 3);
        return;
    }
    if ((f->flags & FUNC_CAST) != 0 && kind == TYPE_TEXT) {
        gen_value(r, f->result, true, out);
        return;
    }
    gen_value(r, kind, false, out);
}
