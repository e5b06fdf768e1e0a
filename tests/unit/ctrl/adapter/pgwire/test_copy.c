/* COPY's formats: what PostgreSQL reads and writes, in any pieces, and what it refuses. */
#include "core/base/assert.h"
#include "ctrl/adapter/pgwire/copy.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static const struct copy_options text = {.delimiter = '\t', .null = "\\N"};
static const struct copy_options csv = {
    .csv = true, .delimiter = ',', .quote = '"', .escape = '"', .null = ""};

/* Records as "a|b;<NULL>|c;". */
static err_t record(void *arg, uint64_t line, const struct copy_field *fields, size_t fields_len)
{
    struct buf *out = arg;
    for (size_t i = 0; i < fields_len; i++) {
        if (i > 0) {
            buf_append_byte(out, '|');
        }
        if (fields[i].data == NULL) {
            buf_append_str(out, "<NULL>");
        } else {
            buf_append(out, fields[i].data, fields[i].len);
        }
    }
    buf_append_byte(out, ';');
    return ERR_OK;
}

static err_t read_pieces(const struct copy_options *options, const char *data, size_t len,
                         size_t piece, struct buf *out)
{
    struct copy_reader r;
    err_t err = ERR_OK;
    copy_reader_init(&r, options, 1000, record, out);
    for (size_t at = 0; at < len && err == ERR_OK; at += piece) {
        err = copy_reader_feed(&r, data + at, len - at < piece ? len - at : piece);
    }
    if (err == ERR_OK) {
        err = copy_reader_end(&r);
    }
    copy_reader_free(&r);
    return err;
}

static void expect(const struct copy_options *options, const char *data, const char *want)
{
    for (size_t piece = 1; piece <= strlen(data) + 1; piece++) {
        struct buf out = {0};
        err_t err = read_pieces(options, data, strlen(data), piece, &out);
        CU_ASSERT_PTR_NULL(err);
        err_free(err);
        CU_ASSERT_STRING_EQUAL(buf_cstr(&out), want);
        if (strcmp(buf_cstr(&out), want) != 0) {
            printf("piece %zu of [%s]: [%s], want [%s]\n", piece, data, buf_cstr(&out), want);
        }
        buf_free(&out);
    }
}

static void expect_error(const struct copy_options *options, const char *data, size_t len,
                         const char *sqlstate)
{
    struct buf out = {0};
    err_t err = read_pieces(options, data, len, 3, &out);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), sqlstate);
    err_free(err);
    buf_free(&out);
}

static void test_text(void)
{
    expect(&text, "a\tb\nc\td\n", "a|b;c|d;");
    expect(&text, "a\tb\r\nc\td", "a|b;c|d;");
    expect(&text, "\\N\tx\n\\\\N\t\\N\n", "<NULL>|x;\\N|<NULL>;");
    expect(&text, "tab\\there\tnl\\nx\n", "tab\there|nl\nx;");
    expect(&text, "oct\\101\\x42\\q\n", "octABq;");
    expect(&text, "a\\\tb\n", "a\tb;");
    expect(&text, "\n", ";");
    expect(&text, "\t\n", "|;");
    expect(&text, "a\n\\.\nafter\n", "a;");
    expect(&text, "lone\\\n", "lone\\;");
}

static void test_csv(void)
{
    expect(&csv, "a,b\n\"c,\"\"d\"\"\",e\n", "a|b;c,\"d\"|e;");
    expect(&csv, ",\"\"\n", "<NULL>|;");
    expect(&csv, "\"two\nlines\",x\r\ny,z\n", "two\nlines|x;y|z;");
    expect(&csv, "a,\n", "a|<NULL>;");
    expect(&csv, "pre\"quoted,\"post,z", "prequoted,post|z;");
    struct copy_options header = csv;
    header.header = true;
    expect(&header, "x,y\n1,2\n", "1|2;");
    struct copy_options odd = csv;
    odd.escape = '\\';
    odd.delimiter = ';';
    odd.null = "NULL";
    expect(&odd, "\"a\\\"b\";NULL;\"NULL\"\n", "a\"b|<NULL>|NULL;");
}

static void test_hostile(void)
{
    expect_error(&csv, "\"never closed\n", 14, "22P04");
    expect_error(&text, "bad\xff\n", 5, "22021");
    expect_error(&text, "nul\0x\n", 6, "22021");
    char *longest = mem_alloc(2000);
    memset(longest, 'x', 2000);
    expect_error(&text, longest, 2000, "54000");
    free(longest);
}

/* What is written reads back as it was. */
static void test_round_trip(void)
{
    static const char *const values[] = {"",     "plain", "a\tb\nc\\d\r\b\f\v", "\\N", "\"q\",x",
                                         "\\.", "NULL",  " space ",            NULL};
    const struct copy_options *const all[] = {&text, &csv};
    for (size_t o = 0; o < ARRAY_LEN(all); o++) {
        struct buf line = {0};
        struct buf want = {0};
        struct buf got = {0};
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
            copy_write_field(all[o], i == 0, values[i],
                             values[i] != NULL ? strlen(values[i]) : 0, &line);
            buf_printf(&want, "%s%s", i > 0 ? "|" : "", values[i] != NULL ? values[i] : "<NULL>");
        }
        buf_append_byte(&line, '\n');
        buf_append_byte(&want, ';');
        err_t err = read_pieces(all[o], (const char *)line.data, line.len, 1, &got);
        CU_ASSERT_PTR_NULL(err);
        err_free(err);
        CU_ASSERT_STRING_EQUAL(buf_cstr(&got), buf_cstr(&want));
        buf_free(&line);
        buf_free(&want);
        buf_free(&got);
    }
}

/* ---- binary ---------------------------------------------------------------------------------- */

static const struct copy_options binary = {.binary = true};
#define HEADER "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"

static void expect_binary(const char *data, size_t len, const char *want)
{
    for (size_t piece = 1; piece <= len; piece++) {
        struct buf out = {0};
        err_t err = read_pieces(&binary, data, len, piece, &out);
        CU_ASSERT_PTR_NULL(err);
        err_free(err);
        CU_ASSERT_STRING_EQUAL(buf_cstr(&out), want);
        buf_free(&out);
    }
}

static void test_binary(void)
{
#define BINARY(data, want) expect_binary(data, sizeof(data) - 1, want)
    BINARY(HEADER "\377\377", "");
    BINARY(HEADER "\0\2\0\0\0\3abc\377\377\377\377\0\0\377\377", "abc|<NULL>;;");
    BINARY(HEADER "\0\1\0\0\0\0\0\1\0\0\0\1x", ";x;"); /* the end marker may be missing */
    BINARY("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\2zz\0\1\0\0\0\1x\377\377", "x;");
#undef BINARY
}

static void test_binary_errors(void)
{
    static const struct {
        const char *data;
        size_t len;
        const char *sqlstate;
    } cases[] = {
#define CASE(text, sqlstate) {text, sizeof(text) - 1, sqlstate}
        CASE("1\t2\n", "22P04"),
        CASE("PGCOPY", "22P04"),
        CASE("PGCOPY\n\377\r\n\0\0\1\0\0\0\0\0\0", "22P04"), /* a critical flag */
        CASE("PGCOPY\n\377\r\n\0\0\0\0\0\377\0\0\0", "22P04"),
        CASE(HEADER "\0\1\0\0\0\5abc", "22P04"),
        CASE(HEADER "\0\1\377\377\377\376", "22P04"),
        CASE(HEADER "\0\1\177\377\377\377", "22P04"),
        CASE(HEADER "\377\376", "22P04"),
        CASE(HEADER "\0", "22P04"),
        CASE(HEADER "\377\377x", "22P04"),
        CASE(HEADER "\0\3\0\0\3\0", "22P04"), /* a record of 768 bytes and more, cut off */
#undef CASE
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_error(&binary, cases[i].data, cases[i].len, cases[i].sqlstate);
    }
}

static void test_binary_round_trip(void)
{
    struct buf data = {0};
    copy_write_binary_header(&data);
    copy_write_binary_count(3, &data);
    copy_write_binary_field("ab", 2, &data);
    copy_write_binary_field(NULL, 0, &data);
    copy_write_binary_field("", 0, &data);
    copy_write_binary_end(&data);
    expect_binary((const char *)data.data, data.len, "ab|<NULL>|;");
    buf_free(&data);
}

static const struct test_case cases[] = {
    {"text", test_text},
    {"csv", test_csv},
    {"hostile", test_hostile},
    {"round trip", test_round_trip},
    {"binary", test_binary},
    {"binary errors", test_binary_errors},
    {"binary round trip", test_binary_round_trip},
};
TEST_SUITE("pgwire/copy", cases)
