/*
 * Types and single values: expectations taken from PostgreSQL 15, form by form. The oracle test
 * covers random values; this one runs everywhere and documents what is meant.
 */
#include "core/data/type.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <stdlib.h>

/* out: the text printed, or "!SQLSTATE". */
struct expectation {
    const char *type;
    int32_t typmod;
    const char *in;
    const char *out;
};

#define NUMERIC_MOD(p, s) (((p) << 16 | ((s) & 0x7ff)) + 4)

static const struct expectation expectations[] = {
    {"bool", -1, " TRUE ", "t"},
    {"bool", -1, "of", "f"},
    {"bool", -1, "o", "!22P02"},
    {"bool", -1, "", "!22P02"},
    {"int2", -1, "32768", "!22003"},
    {"int4", -1, " -2147483648 ", "-2147483648"},
    {"int4", -1, "1.0", "!22P02"},
    {"int8", -1, "9223372036854775808", "!22003"},
    {"int8", -1, "-9223372036854775808", "-9223372036854775808"},
    {"oid", -1, "4294967295", "4294967295"},
    {"oid", -1, "-1", "4294967295"},
    {"float8", -1, "1e15", "1e+15"},
    {"float8", -1, "123456789012345", "123456789012345"},
    {"float8", -1, "0.0001", "0.0001"},
    {"float8", -1, "0.00001", "1e-05"},
    {"float8", -1, "1e23", "9.999999999999999e+22"},
    {"float8", -1, "5e-324", "5e-324"},
    {"float8", -1, "0.1", "0.1"},
    {"float8", -1, "-0", "-0"},
    {"float8", -1, "1e400", "!22003"},
    {"float8", -1, "1e-400", "!22003"},
    {"float8", -1, "-inf", "-Infinity"},
    {"float8", -1, "nan", "NaN"},
    {"float8", -1, "1x", "!22P02"},
    {"float4", -1, "1e6", "1e+06"},
    {"float4", -1, "16777216", "1.6777216e+07"},
    {"numeric", -1, "1.10", "1.10"},
    {"numeric", -1, "-0.0", "0.0"},
    {"numeric", -1, "1e-5", "0.00001"},
    {"numeric", -1, "1.5e3", "1500"},
    {"numeric", -1, ".5", "0.5"},
    {"numeric", -1, "NaN", "NaN"},
    {"numeric", -1, "-Infinity", "-Infinity"},
    {"numeric", -1, "99999999999999999999999999999999999999",
     "99999999999999999999999999999999999999"},
    {"numeric", -1, "100000000000000000000000000000000000000", "!22003"},
    {"numeric", -1, "0.1234567890123456789012345678901234567890",
     "0.12345678901234567890123456789012345679"},
    {"numeric", -1, "1.2.3", "!22P02"},
    {"numeric", -1, "", "!22P02"},
    {"numeric", NUMERIC_MOD(5, 2), "123.456", "123.46"},
    {"numeric", NUMERIC_MOD(5, 2), "999.995", "!22003"},
    {"numeric", NUMERIC_MOD(3, -2), "12345", "12300"},
    {"numeric", NUMERIC_MOD(2, 4), "0.00995", "!22003"},
    {"numeric", NUMERIC_MOD(2, 4), "0.0099", "0.0099"},
    {"varchar", 3 + 4, "abc", "abc"},
    {"varchar", 3 + 4, "abcd", "!22001"},
    {"varchar", 3 + 4, "abc  ", "abc"},
    {"varchar", 2 + 4, "日本", "日本"},
    {"bpchar", 4 + 4, "ab", "ab  "},
    {"bpchar", 4 + 4, "abcde", "!22001"},
    {"name", -1, "short", "short"},
    {"text", -1, "\xff", "!22021"},
    {"bytea", -1, "\\xDEADbeef", "\\xdeadbeef"},
    {"bytea", -1, "a\\000\\\\", "\\x61005c"},
    {"bytea", -1, "\\x1", "!22023"},
    {"bytea", -1, "\\9", "!22P02"},
    {"date", -1, "2024-02-29", "2024-02-29"},
    {"date", -1, "20240229", "2024-02-29"},
    {"date", -1, "2023-02-29", "!22008"},
    {"date", -1, "0044-03-15 BC", "0044-03-15 BC"},
    {"date", -1, "0000-01-01", "!22008"},
    {"date", -1, "5874897-12-31", "5874897-12-31"},
    {"date", -1, "5874898-01-01", "!22008"},
    {"date", -1, "4714-11-24 BC", "4714-11-24 BC"},
    {"date", -1, "4714-11-23 BC", "!22008"},
    {"date", -1, "now", "!22007"},
    {"date", -1, "-infinity", "-infinity"},
    {"date", -1, "January 8, 1999", "!22007"},
    {"timestamp", -1, "2024-02-29T13:04:05.678901Z", "2024-02-29 13:04:05.678901"},
    {"timestamp", -1, "2024-02-29 24:00:00", "2024-03-01 00:00:00"},
    {"timestamp", -1, "2024-02-29", "2024-02-29 00:00:00"},
    {"timestamp", -1, "2024-02-29 25:00", "!22008"},
    {"timestamp", -1, "1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"},
    {"timestamp", -1, "epoch", "1970-01-01 00:00:00"},
    {"timestamp", 0, "2024-01-01 00:00:00.5", "2024-01-01 00:00:01"},
    {"timestamp", 3, "2024-01-01 00:00:00.1239", "2024-01-01 00:00:00.124"},
    {"timestamptz", -1, "2024-02-29 13:04:05+02", "2024-02-29 11:04:05+00"},
    {"timestamptz", -1, "2024-02-29 13:04:05 -07:30", "2024-02-29 20:34:05+00"},
    {"timestamptz", -1, "2024-02-29 13:04:05+16", "!22009"},
    {"timestamptz", -1, "2024-02-29 13:04:05 Europe/Rome", "!22007"},
    {"time", -1, "13:04:05.5", "13:04:05.5"},
    {"time", -1, "24:00:00", "24:00:00"},
    {"time", -1, "24:00:01", "!22008"},
    {"interval", -1, "1 day 02:03:04", "1 day 02:03:04"},
    {"interval", -1, "1 year 2 mons -3 days -04:05:06.7", "1 year 2 mons -3 days -04:05:06.7"},
    {"interval", -1, "-1 year +1 day", "-1 years +1 day"},
    {"interval", -1, "P1Y2M3DT4H5M6S", "1 year 2 mons 3 days 04:05:06"},
    {"interval", -1, "1.5 months", "1 mon 15 days"},
    {"interval", -1, "0", "00:00:00"},
    {"interval", -1, "1 fortnight", "!22007"},
    {"interval", -1, "200000000 years", "!22015"},
    {"jsonb", -1, "{\"b\":1,\"a\":[1.50,1e2],\"aa\":null,\"b\":true}",
     "{\"a\": [1.50, 100], \"b\": true, \"aa\": null}"},
    {"jsonb", -1, "\"\\u00e9\\n\\ud83d\\ude00\"", "\"é\\n😀\""},
    {"jsonb", -1, "\"\\u0000\"", "!22P05"},
    {"jsonb", -1, "\"\\ud83d\"", "!22P02"},
    {"jsonb", -1, "{\"a\":}", "!22P02"},
    {"jsonb", -1, "01", "!22P02"},
    {"jsonb", -1, "[1,]", "!22P02"},
    {"jsonb", -1, "1e200000", "!22003"},
    {"uuid", -1, "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
    {"uuid", -1, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "!22P02"},
    {"mz_timestamp", -1, "18446744073709551615", "18446744073709551615"},
    {"mz_timestamp", -1, "18446744073709551616", "!22P02"},
};

static void check_text(const struct expectation *e)
{
    struct arena arena = {0};
    struct buf out = {0};
    struct type type;
    struct datum d;
    CU_ASSERT_FATAL(type_of_name(e->type, e->typmod, &type));
    err_t err = datum_parse(&type, e->in, strlen(e->in), &arena, &d);
    if (err != ERR_OK) {
        buf_printf(&out, "!%s", err_sqlstate(err));
    } else {
        datum_print(&type, &d, &out);
    }
    if (strcmp(buf_cstr(&out), e->out) != 0) {
        printf("\n  %s '%s': %s, expected %s\n", e->type, e->in, buf_cstr(&out), e->out);
        CU_FAIL("text of a value");
    }
    if (err == ERR_OK) {
        /* Binary there and back. */
        struct buf wire = {0};
        struct datum again;
        datum_send(&type, &d, &wire);
        err_t recv = datum_recv(&type, wire.data, wire.len, &arena, &again);
        CU_ASSERT_PTR_NULL(recv);
        CU_ASSERT(datum_equal(type.kind, &d, &again));
        buf_clear(&out);
        datum_print(&type, &again, &out);
        CU_ASSERT_STRING_EQUAL(buf_cstr(&out), e->out);
        /* Too short and too long are refused where the length is fixed. */
        if (!type_is_variable(type.kind) && type.kind != TYPE_MZ_TIMESTAMP) {
            recv = datum_recv(&type, wire.data, wire.len - 1, &arena, &again);
            CU_ASSERT_PTR_NOT_NULL(recv);
            err_free(recv);
        }
        buf_free(&wire);
    }
    err_free(err);
    buf_free(&out);
    arena_free(&arena);
}

static void test_text(void)
{
    for (size_t i = 0; i < ARRAY_LEN(expectations); i++) {
        check_text(&expectations[i]);
    }
}

/* In ascending order; equal neighbours marked. */
static void test_order(void)
{
    static const struct {
        const char *type;
        const char *values[12];
    } orders[] = {
        {"float8", {"-Infinity", "-1", "-0", "=0", "1", "Infinity", "NaN"}},
        {"numeric",
         {"-Infinity", "-1.5", "-1", "0", "=0.00", "0.001", "1", "10", "Infinity", "NaN"}},
        {"text", {"", "A", "B", "a", "aa", "b", "é"}},
        {"date", {"-infinity", "0044-03-15 BC", "1970-01-01", "2024-01-01", "infinity"}},
        {"interval",
         {"-1 day", "0", "1 sec", "1 day", "=24:00:00", "29 days", "1 mon", "=30 days"}},
        {"jsonb", {"[]", "null", "\"a\"", "\"b\"", "1", "=1.0", "2", "false", "true", "[1]", "{}"}},
        {"bool", {"f", "t"}},
        {"uuid", {"00000000-0000-0000-0000-000000000001", "f0000000-0000-0000-0000-000000000000"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        struct arena arena = {0};
        struct type type;
        struct datum last;
        CU_ASSERT_FATAL(type_of_name(orders[i].type, -1, &type));
        for (size_t k = 0; k < 12 && orders[i].values[k] != NULL; k++) {
            const char *text = orders[i].values[k];
            bool equal = *text == '=';
            struct datum d;
            text += equal;
            CU_ASSERT_PTR_NULL_FATAL(datum_parse(&type, text, strlen(text), &arena, &d));
            if (k > 0) {
                int r = datum_compare(type.kind, &last, &d);
                CU_ASSERT(equal ? r == 0 : r < 0);
                CU_ASSERT(equal ? datum_compare(type.kind, &d, &last) == 0
                                : datum_compare(type.kind, &d, &last) > 0);
                CU_ASSERT(!equal || datum_hash(type.kind, &d) == datum_hash(type.kind, &last));
            }
            last = d;
        }
        arena_free(&arena);
    }
}

static void test_names(void)
{
    static const struct {
        uint32_t oid;
        int32_t typmod;
        const char *format;
        uint8_t kind;
    } expected[] = {
        {1043, 14, "character varying(10)", TYPE_TEXT},
        {1043, -1, "character varying", TYPE_TEXT},
        {1042, 5, "character(1)", TYPE_TEXT},
        {1042, -1, "bpchar", TYPE_TEXT},
        {1700, NUMERIC_MOD(10, 2), "numeric(10,2)", TYPE_NUMERIC},
        {1700, NUMERIC_MOD(3, -2), "numeric(3,-2)", TYPE_NUMERIC},
        {1114, 3, "timestamp(3) without time zone", TYPE_TIMESTAMP},
        {1184, -1, "timestamp with time zone", TYPE_TIMESTAMPTZ},
        {20, -1, "bigint", TYPE_INT8},
        {701, -1, "double precision", TYPE_FLOAT8},
    };
    struct type type;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct arena arena = {0};
        CU_ASSERT_FATAL(type_of_oid(expected[i].oid, expected[i].typmod, &type));
        CU_ASSERT_EQUAL(type.kind, expected[i].kind);
        CU_ASSERT_STRING_EQUAL(type_format(&arena, &type), expected[i].format);
        arena_free(&arena);
    }
    CU_ASSERT_FALSE(type_of_oid(999999, -1, &type));
    CU_ASSERT_FALSE(type_of_name("nonsense", -1, &type));
    for (uint8_t kind = 1; kind < TYPE_KIND_MAX; kind++) {
        CU_ASSERT_EQUAL(type_of(kind).kind, kind);
    }
}

static void test_messages(void)
{
    static const struct {
        const char *type;
        int32_t typmod;
        const char *in;
        const char *message;
        const char *detail;
    } expected[] = {
        {"int4", -1, "x", "invalid input syntax for type integer: \"x\"", ""},
        {"int4", -1, "3000000000", "value \"3000000000\" is out of range for type integer", ""},
        {"varchar", 7, "abcd", "value too long for type character varying(3)", ""},
        {"numeric", NUMERIC_MOD(4, 2), "100", "numeric field overflow",
         "A field with precision 4, scale 2 must round to an absolute value less than 10^2."},
        {"date", -1, "2024-13-01", "date/time field value out of range: \"2024-13-01\"", ""},
        {"float8", -1, "1e999", "\"1e999\" is out of range for type double precision", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        struct arena arena = {0};
        struct type type;
        struct datum d;
        CU_ASSERT_FATAL(type_of_name(expected[i].type, expected[i].typmod, &type));
        err_t err = datum_parse(&type, expected[i].in, strlen(expected[i].in), &arena, &d);
        CU_ASSERT_PTR_NOT_NULL_FATAL(err);
        CU_ASSERT_STRING_EQUAL(err_message(err), expected[i].message);
        CU_ASSERT_STRING_EQUAL(err_detail_get(err), expected[i].detail);
        err_free(err);
        arena_free(&arena);
    }
}

/* Deep nesting is an error, not a crash. */
static void test_json_depth(void)
{
    struct arena arena = {0};
    struct type type = type_of(TYPE_JSONB);
    struct datum d;
    struct buf text = {0};
    for (int i = 0; i < 100000; i++) {
        buf_append_byte(&text, '[');
    }
    err_t err = datum_parse(&type, (const char *)text.data, text.len, &arena, &d);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), "54001");
    err_free(err);
    buf_free(&text);
    arena_free(&arena);
}

static void test_recv_hostile(void)
{
    static const struct {
        uint8_t kind;
        uint8_t bytes[16];
        size_t len;
        const char *sqlstate;
    } bad[] = {
        {TYPE_NUMERIC, {0, 9, 0, 0, 0, 0, 0, 0}, 8, "22P03"},
        {TYPE_NUMERIC, {0, 1, 0, 0, 0x12, 0, 0, 0, 0, 1}, 10, "22P03"},
        {TYPE_NUMERIC, {0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10}, 10, "22P03"},
        {TYPE_NUMERIC, {0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1}, 10, "22003"},
        {TYPE_TIMESTAMP, {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, 8, "22008"},
        {TYPE_TIMESTAMP, {0x80, 0, 0, 0, 0, 0, 0, 1}, 8, "22008"},
        {TYPE_DATE, {0x80, 0, 0, 1}, 4, "22008"},
        {TYPE_TIME, {0xff, 0, 0, 0, 0, 0, 0, 0}, 8, "22008"},
        {TYPE_JSONB, {2, '1'}, 2, "22P03"},
        {TYPE_JSONB, {1, '{'}, 2, "22P02"},
        {TYPE_TEXT, {0xC3}, 1, "22021"},
        {TYPE_INT4, {0, 0, 0, 0, 0}, 5, "22P03"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct arena arena = {0};
        struct type type = type_of(bad[i].kind);
        struct datum d;
        err_t err = datum_recv(&type, bad[i].bytes, bad[i].len, &arena, &d);
        CU_ASSERT_PTR_NOT_NULL_FATAL(err);
        CU_ASSERT_STRING_EQUAL(err_sqlstate(err), bad[i].sqlstate);
        err_free(err);
        arena_free(&arena);
    }
}

static struct numeric number(const char *text)
{
    struct type type = type_of(TYPE_NUMERIC);
    struct datum d;
    CU_ASSERT_PTR_NULL_FATAL(datum_parse(&type, text, strlen(text), NULL, &d));
    return d.n;
}

/* Arithmetic for aggregates, at the limits of 38 digits. */
static void test_numeric_limits(void)
{
    struct type type = type_of(TYPE_NUMERIC);
    struct numeric max = number("99999999999999999999999999999999999999");
    struct numeric one = number("1");
    struct numeric three = number("3.0");
    struct datum d = {0};
    struct buf out = {0};
    err_t err = numeric_add(&max, &one, &d.n);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), "22003");
    err_free(err);
    CU_ASSERT_PTR_NULL(numeric_div(&one, &three, &d.n));
    datum_print(&type, &d, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "0.33333333333333333333");
    /* Only digits of the fraction go: six of them would not fit. */
    struct numeric wide = number("1234567890123456789.125");
    buf_clear(&out);
    CU_ASSERT_PTR_NULL(numeric_mul(&wide, &wide, &d.n));
    datum_print(&type, &d, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "1524157875323883675327693971281054718.3");
    d.n = numeric_from_int128(-((__int128)1 << 100));
    buf_clear(&out);
    datum_print(&type, &d, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "-1267650600228229401496703205376");
    buf_free(&out);
}

/* What PostgreSQL's array_send gives, in hexadecimal. */
static void test_array_send(void)
{
    static const struct {
        uint32_t oid;
        const char *text, *bytes;
    } cases_of[] = {
        {1007, "{1,NULL,-3}",
         "00000001" "00000001" "00000017" "00000003" "00000001"
         "00000004" "00000001" "ffffffff" "00000004" "fffffffd"},
        {1007, "{}", "00000000" "00000000" "00000017"},
        {1009, "{a,\"b \\\"c,\",\"NULL\",\"\"}",
         "00000001" "00000000" "00000019" "00000004" "00000001"
         "00000001" "61" "00000005" "622022632c" "00000004" "4e554c4c" "00000000"},
        {1000, "{t,f}", "00000001" "00000000" "00000010" "00000002" "00000001"
                        "00000001" "01" "00000001" "00"},
        {22, "1 2", "312032"},       /* int2vector is a text of the catalog */
        {1007, "{1,x}", "7b312c787d"}, /* no array of integers: as it is */
        {1007, "{{1},{2}}", "7b7b317d2c7b327d7d"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases_of); i++) {
        struct type type = type_of(TYPE_TEXT);
        type.oid = cases_of[i].oid;
        struct datum d = {.s = cases_of[i].text, .len = (uint32_t)strlen(cases_of[i].text)};
        struct buf wire = {0}, hex = {0};
        datum_send(&type, &d, &wire);
        for (size_t b = 0; b < wire.len; b++) {
            buf_printf(&hex, "%02x", wire.data[b]);
        }
        CU_ASSERT_STRING_EQUAL(buf_cstr(&hex), cases_of[i].bytes);
        buf_free(&wire);
        buf_free(&hex);
    }
}

static const struct test_case cases[] = {
    {"type_text", test_text},         {"type_order", test_order},
    {"type_names", test_names},       {"type_messages", test_messages},
    {"json_depth", test_json_depth},  {"recv_hostile", test_recv_hostile},
    {"numeric_limits", test_numeric_limits}, {"array_send", test_array_send},
};
TEST_SUITE("core/data types", cases)
