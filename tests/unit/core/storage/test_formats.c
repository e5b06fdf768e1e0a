/* CSV and JSON lines: tables of inputs and what must come out. */
#include "core/storage/csv.h"
#include "core/storage/jsonl.h"
#include "core/storage/rows.h"
#include "tests/unit/harness.h"

#include <stdio.h>

/* Records as text: fields joined with '|', quoted ones in <>; "#" blank, "!" unterminated. */
static void csv_text_of(const char *in, size_t len, bool end, char quote, struct buf *out,
                        size_t *taken)
{
    struct csv_parser parser = {.delimiter = ',', .quote = quote};
    size_t at = 0;
    for (;;) {
        size_t consumed = 0;
        uint64_t lines = 0;
        enum csv_result result =
            csv_next(&parser, in + at, len - at, end, &consumed, &lines);
        if (result == CSV_INCOMPLETE) {
            break;
        }
        CU_ASSERT_FATAL(consumed > 0 && at + consumed <= len);
        at += consumed;
        for (size_t i = 0; result == CSV_RECORD && i < parser.field_len; i++) {
            const struct csv_field *f = &parser.field[i];
            buf_printf(out, "%s%s%.*s%s", i > 0 ? "|" : "", f->quoted ? "<" : "", (int)f->len,
                       csv_text(&parser, i), f->quoted ? ">" : "");
        }
        buf_append_str(out, result == CSV_BLANK ? "#" : result == CSV_UNTERMINATED ? "!" : "");
        buf_printf(out, "/%llu;", (unsigned long long)lines);
    }
    *taken = at;
    csv_free(&parser);
}

static void test_csv(void)
{
    static const struct {
        const char *in;
        bool end;
        const char *out;
        size_t left;
    } cases[] = {
        {"", true, "", 0},
        {"a,b\n", false, "a|b/1;", 0},
        {"a,b\r\nc,d\r\n", false, "a|b/1;c|d/1;", 0},
        {"a,b", false, "", 3},
        {"a,b", true, "a|b/1;", 0},
        {"a,b\nc", false, "a|b/1;", 1},
        {"\n", false, "#/1;", 0},
        {"\r\n", false, "#/1;", 0},
        {",\n", false, "|/1;", 0},
        {",,\n", false, "||/1;", 0},
        {"\"\",a\n", false, "<>|a/1;", 0},
        {"\"a,b\",c\n", false, "<a,b>|c/1;", 0},
        {"\"a\"\"b\"\n", false, "<a\"b>/1;", 0},
        {"\"a\nb\",c\nd,e\n", false, "<a\nb>|c/2;d|e/1;", 0},
        {"\"a\r\nb\"\r\n", false, "<a\r\nb>/2;", 0},
        {"\"a\n", false, "", 3},
        {"\"a\nb,c\n", true, "!/1;b|c/1;", 0},
        {"x\"y,z\"w,v\n", false, "<xy,zw>|v/1;", 0},
        {"\"a\"b\n", false, "<ab>/1;", 0},
        {"a\rb\n", false, "a\rb/1;", 0},
        {"\"\"\"\"\n", false, "<\">/1;", 0},
        {"\xff\xfe,1\n", false, "\xff\xfe|1/1;", 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf out = {0};
        size_t taken = 0;
        size_t len = strlen(cases[i].in);
        csv_text_of(cases[i].in, len, cases[i].end, '"', &out, &taken);
        if (strcmp(buf_cstr(&out), cases[i].out) != 0) {
            fprintf(stderr, "case %zu: got %s\n", i, buf_cstr(&out));
        }
        CU_ASSERT_STRING_EQUAL(buf_cstr(&out), cases[i].out);
        CU_ASSERT_EQUAL(len - taken, cases[i].left);
        buf_free(&out);
    }
    struct buf out = {0};
    size_t taken = 0;
    csv_text_of("\"a,b\n", 5, false, '\0', &out, &taken); /* no quoting at all */
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "\"a|b/1;");
    buf_free(&out);
}

/* However the bytes arrive, the records are the same. */
static void test_csv_split(void)
{
    static const char text[] = "a,\"b\nc\"\r\n\"\"\"\",d\n\n\"e,f\",g\r\nlast,one";
    struct buf whole = {0};
    size_t taken = 0;
    csv_text_of(text, sizeof(text) - 1, true, '"', &whole, &taken);
    for (size_t cut = 0; cut < sizeof(text); cut++) {
        struct buf parts = {0};
        csv_text_of(text, cut, false, '"', &parts, &taken);
        csv_text_of(text + taken, sizeof(text) - 1 - taken, true, '"', &parts, &taken);
        CU_ASSERT_STRING_EQUAL(buf_cstr(&whole), buf_cstr(&parts));
        buf_free(&parts);
    }
    buf_free(&whole);
}

static void test_jsonl(void)
{
    static const struct {
        const char *in;
        const char *out; /* NULL: an error */
    } cases[] = {
        {"{}", "-|-|-"},
        {"{\"a\":1,\"b\":\"x\",\"j\":[1, 2]}", "1|x|[1, 2]"},
        {" { \"a\" : 1.10 , \"b\" : null } ", "1.10|-|-"},
        {"{\"b\":\"q\\\"\\u00e9\\n\"}", "-|q\"\xc3\xa9\n|-"},
        {"{\"j\":\"s\"}", "-|-|\"s\""},
        {"{\"j\":{\"k\":\"}\",\"l\":[{}]},\"a\":-3e5}", "-3e5|-|{\"k\":\"}\",\"l\":[{}]}"},
        {"{\"a\":1,\"a\":2}", "2|-|-"},
        {"{\"\\u0061\":7}", "7|-|-"},
        {"{\"z\":{\"a\":1},\"b\":true}", "-|true|-"},
        {"{\"a\":123456789012345678901234567890}", "123456789012345678901234567890|-|-"},
        {"{\"b\":\"\"}", "-||-"},
        {"{\"b\":{\"x\" : 1}}", "-|{\"x\" : 1}|-"},
        {"[1]", NULL},
        {"1", NULL},
        {"{\"a\":1", NULL},
        {"{\"a\":1}}", NULL},
        {"{a:1}", NULL},
        {"{\"a\":01}", NULL},
        {"{\"b\":\"\\ud800\"}", NULL},
        {"{\"b\":\"\\u0000\"}", NULL},
        {"", NULL},
    };
    struct type types[3] = {type_of(TYPE_NUMERIC), type_of(TYPE_TEXT), type_of(TYPE_JSONB)};
    const char *const names[3] = {"a", "b", "j"};
    struct jsonl_parser parser;
    jsonl_init(&parser, types, names, 3);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        err_t err = jsonl_parse(&parser, cases[i].in, strlen(cases[i].in));
        struct buf out = {0};
        for (size_t c = 0; c < 3 && err == ERR_OK; c++) {
            const struct jsonl_value *v = &parser.value[c];
            buf_printf(&out, "%s%.*s", c > 0 ? "|" : "", v->null ? 1 : (int)v->len,
                       v->null ? "-" : jsonl_text(&parser, c));
        }
        CU_ASSERT_EQUAL(err == ERR_OK, cases[i].out != NULL);
        if (err == ERR_OK && cases[i].out != NULL) {
            CU_ASSERT_STRING_EQUAL(buf_cstr(&out), cases[i].out);
        }
        err_free(err);
        buf_free(&out);
    }
    jsonl_free(&parser);
}

static void rows_text(const struct rows_parser *parser, int stream, struct buf *out)
{
    size_t size = 0;
    struct batch batch;
    struct batch_col cols[8];
    void *data = batch_builder_finish_new(parser->builder[stream], &size);
    batch_view(data, size, cols, 8, &batch);
    for (uint32_t row = 0; row < batch.rows; row++) {
        for (uint32_t c = 0; c < batch.cols; c++) {
            struct datum d;
            struct type type = type_of(cols[c].kind);
            batch_datum(&cols[c], row, &d);
            buf_append_str(out, c > 0 ? "|" : "");
            if (d.null) {
                buf_append_str(out, "\\N");
            } else {
                datum_print(&type, &d, out);
            }
        }
        buf_append_str(out, ";");
    }
    free(data);
}

static void test_rows(void)
{
    struct type types[2] = {type_of(TYPE_INT4), type_of(TYPE_TEXT)};
    types[0].nullable = false;
    const char *const names[2] = {"n", "t"};
    struct storage_collection desc = {.id = 1,
                                      .kind = STORAGE_FILE,
                                      .types = types,
                                      .names = names,
                                      .cols = 2,
                                      .path = "f.csv",
                                      .format = STORAGE_CSV,
                                      .csv_header = true,
                                      .csv_delimiter = ',',
                                      .csv_quote = '"'};
    struct rows_parser parser;
    rows_init(&parser, &desc);
    static const char text[] = "\xEF\xBB\xBFn,t\n1,one\n2,\nx,bad\n3,\"\"\n,null\n4,a,b\n\n"
                               "5,\xff\n99999999999,big\n6,\"two\nlines\"\n7";
    struct rows_place place = {.path = "f.csv", .first = true};
    size_t consumed = 0;
    uint64_t lines = 0;
    err_t err = rows_parse(&parser, &place, (const uint8_t *)text, sizeof(text) - 1, false,
                           &consumed, &lines);
    CU_ASSERT_PTR_NULL(err);
    CU_ASSERT_EQUAL(consumed, sizeof(text) - 2);
    CU_ASSERT_EQUAL(lines, 12);
    struct buf out = {0};
    rows_text(&parser, STREAM_OK, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "1|one;2|\\N;3|;6|two\nlines;");
    buf_clear(&out);
    rows_text(&parser, STREAM_ERR, &out);
    const char *errors = buf_cstr(&out);
    CU_ASSERT_PTR_NOT_NULL(strstr(errors, "22P02|"));
    CU_ASSERT_PTR_NOT_NULL(strstr(errors, "|f.csv:4;"));
    CU_ASSERT_PTR_NOT_NULL(strstr(errors, "23502|null value in column \"n\""));
    CU_ASSERT_PTR_NOT_NULL(strstr(errors, "22P04|expected 2 fields, found 3|f.csv:7;"));
    CU_ASSERT_PTR_NOT_NULL(strstr(errors, "22021|"));
    CU_ASSERT_PTR_NOT_NULL(strstr(errors, "22003|"));
    rows_reset(&parser);
    /* A zero byte: what stands before it counts, the rest is refused. */
    place.first = false;
    err = rows_parse(&parser, &place, (const uint8_t *)"8,x\n9\0,y\n", 10, true, &consumed, &lines);
    CU_ASSERT_PTR_NOT_NULL(err);
    CU_ASSERT_EQUAL(consumed, 4);
    err_free(err);
    place.first = true;
    err = rows_parse(&parser, &place, (const uint8_t *)"n,u\n", 4, true, &consumed, &lines);
    CU_ASSERT_PTR_NOT_NULL(err);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_message(err), "column 2 of the header is \"u\""));
    err_free(err);
    rows_free(&parser);
    buf_free(&out);
}

static void test_rows_data_column(void)
{
    struct type types[1] = {type_of(TYPE_JSONB)};
    const char *const names[1] = {"data"};
    struct storage_collection desc = {.id = 1,
                                      .kind = STORAGE_FILE,
                                      .types = types,
                                      .names = names,
                                      .cols = 1,
                                      .path = "f",
                                      .format = STORAGE_JSON_LINES};
    struct rows_parser parser;
    rows_init(&parser, &desc);
    struct rows_place place = {.path = "f", .first = true};
    static const char text[] = "{\"b\":1,\"a\":[]}\r\n\n  \nnope\n{\"x\":\"y\"}";
    size_t consumed = 0;
    uint64_t lines = 0;
    err_t err = rows_parse(&parser, &place, (const uint8_t *)text, sizeof(text) - 1, true,
                           &consumed, &lines);
    CU_ASSERT_PTR_NULL(err);
    CU_ASSERT_EQUAL(consumed, sizeof(text) - 1);
    struct buf out = {0};
    rows_text(&parser, STREAM_OK, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "{\"a\": [], \"b\": 1};{\"x\": \"y\"};");
    buf_clear(&out);
    rows_text(&parser, STREAM_ERR, &out);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstr(&out), "|f:4;"));
    buf_free(&out);
    rows_free(&parser);
}

static const struct test_case cases[] = {
    {"csv records", test_csv}, {"csv cut anywhere", test_csv_split}, {"json lines", test_jsonl},
    {"rows and errors", test_rows}, {"json into one column", test_rows_data_column},
};
TEST_SUITE("core/storage formats", cases)
