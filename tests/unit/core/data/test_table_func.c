/*
 * Set-returning functions: the rows each gives, the error where it ends, and that a call may be
 * started anew at any row. Arrays as text: what is read back is what was written.
 */
#include "core/data/array.h"
#include "core/data/table_func.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <sys/resource.h>

static const struct table_func *find(const char *name, uint8_t args_len, uint8_t first)
{
    const struct table_func *func;
    for (uint32_t id = 1; (func = table_func_by_id(id)) != NULL; id++) {
        if (strcmp(func->name, name) == 0 && func->args_len == args_len &&
            func->args[0] == first) {
            return func;
        }
    }
    return NULL;
}

/* Rows as texts joined by ';', columns by '|', an error as its SQLSTATE. */
static void take_rows(struct table_call *call, const struct table_func *func, const uint8_t *kinds,
                      struct buf *out)
{
    bool more = true;
    while (more && out->len < 4096) {
        struct datum row[TABLE_FUNC_COLS_MAX];
        err_t err = table_call_next(call, row, &more);
        if (err != ERR_OK) {
            CU_ASSERT_FALSE(more);
            buf_printf(out, "!%s", err_sqlstate(err));
            err_free(err);
            return;
        }
        for (uint32_t c = 0; more && c < func->cols_len; c++) {
            struct type type = type_of((enum type_kind)kinds[c]);
            if (row[c].null) {
                buf_append_str(out, "NULL");
            } else {
                datum_print(&type, &row[c], out);
            }
            buf_append_byte(out, c + 1 < func->cols_len ? '|' : ';');
        }
    }
}

struct expectation {
    const char *name;
    uint8_t element; /* of unnest */
    uint8_t kinds[TABLE_FUNC_ARGS_MAX];
    const char *args[TABLE_FUNC_ARGS_MAX]; /* NULL: SQL's NULL */
    const char *want;
};

static void check(const struct expectation *e)
{
    uint8_t len = 0;
    while (len < TABLE_FUNC_ARGS_MAX && e->kinds[len] != 0) {
        len++;
    }
    const struct table_func *func = find(e->name, len, e->kinds[0]);
    CU_ASSERT_PTR_NOT_NULL_FATAL(func);
    struct arena arena = {0};
    struct datum args[TABLE_FUNC_ARGS_MAX] = {0};
    for (uint8_t i = 0; i < len; i++) {
        struct type type = type_of((enum type_kind)e->kinds[i]);
        args[i].null = e->args[i] == NULL;
        if (e->args[i] != NULL) {
            CU_ASSERT_PTR_NULL_FATAL(
                datum_parse(&type, e->args[i], strlen(e->args[i]), &arena, &args[i]));
        }
    }
    uint8_t kinds[TABLE_FUNC_COLS_MAX] = {func->cols[0] == 0 ? e->element : func->cols[0],
                                          func->cols[1]};
    struct table_call *call = table_call_new(func, kinds[0]);
    struct buf out = {0};
    for (int round = 0; round < 3; round++) { /* the second one is given up after its first row */
        struct datum row[TABLE_FUNC_COLS_MAX];
        bool more;
        buf_clear(&out);
        table_call_start(call, args);
        if (round == 1) {
            err_free(table_call_next(call, row, &more));
            continue;
        }
        take_rows(call, func, kinds, &out);
        if (strcmp(buf_cstr(&out), e->want) != 0) {
            fprintf(stderr, "%s: have %s, want %s\n", e->name, buf_cstr(&out), e->want);
        }
        CU_ASSERT_STRING_EQUAL(buf_cstr(&out), e->want);
        CU_ASSERT_PTR_NULL(table_call_next(call, row, &more));
        CU_ASSERT_FALSE(more);
    }
    buf_free(&out);
    table_call_free(call);
    arena_free(&arena);
}

#define I4 TYPE_INT4
#define I8 TYPE_INT8
#define NUM TYPE_NUMERIC
#define TS TYPE_TIMESTAMP
#define IV TYPE_INTERVAL
#define TXT TYPE_TEXT
#define JSN TYPE_JSONB

static void series(void)
{
    static const struct expectation all[] = {
        {"generate_series", 0, {I4, I4}, {"1", "3"}, "1;2;3;"},
        {"generate_series", 0, {I4, I4}, {"3", "1"}, ""},
        {"generate_series", 0, {I4, I4}, {"3", NULL}, ""},
        {"generate_series", 0, {I4, I4, I4}, {"5", "-1", "-3"}, "5;2;-1;"},
        {"generate_series", 0, {I4, I4, I4}, {"1", "2", "0"}, "!22023"},
        {"generate_series", 0, {I4, I4, I4}, {"2147483646", "2147483647", "2"}, "2147483646;"},
        {"generate_series", 0, {I8, I8}, {"9223372036854775806", "9223372036854775807"},
         "9223372036854775806;9223372036854775807;"},
        {"generate_series", 0, {I8, I8, I8},
         {"-9223372036854775807", "-9223372036854775808", "-5"}, "-9223372036854775807;"},
        {"generate_series", 0, {NUM, NUM, NUM}, {"0.5", "2", "0.75"}, "0.5;1.25;2.00;"},
        {"generate_series", 0, {NUM, NUM}, {"1", "NaN"}, "!22023"},
        {"generate_series", 0, {NUM, NUM, NUM}, {"1", "2", "0.0"}, "!22023"},
        {"generate_series", 0, {TS, TS, IV}, {"2020-01-31", "2020-04-01", "1 month"},
         "2020-01-31 00:00:00;2020-02-29 00:00:00;2020-03-29 00:00:00;"},
        {"generate_series", 0, {TS, TS, IV}, {"2020-01-02", "2020-01-01", "-12 hours"},
         "2020-01-02 00:00:00;2020-01-01 12:00:00;2020-01-01 00:00:00;"},
        {"generate_series", 0, {TS, TS, IV}, {"2020-01-02", "2020-01-01", "0"}, "!22023"},
        {"generate_series", 0, {TS, TS, IV}, {"infinity", "infinity", "1 day"}, "!22023"},
        {"generate_series", 0, {TS, TS, IV}, {"294200-01-01", "infinity", "90 years"},
         "294200-01-01 00:00:00;!22008"},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        check(&all[i]);
    }
}

static void parts(void)
{
    static const struct expectation all[] = {
        {"unnest", I4, {TXT}, {"{1,NULL,3}"}, "1;NULL;3;"},
        {"unnest", I4, {TXT}, {"{{1,2},{3,4}}"}, "1;2;3;4;"},
        {"unnest", I4, {TXT}, {"{1,x}"}, "1;!22P02"},
        {"unnest", TXT, {TXT}, {"{a,\"b,\\\"c\", null ,\"NULL\", d e }"}, "a;b,\"c;NULL;NULL;d e;"},
        {"unnest", TXT, {TXT}, {"{}"}, ""},
        {"unnest", TXT, {TXT}, {"{a"}, "a;!22P02"},
        {"unnest", TXT, {TXT}, {"{a,}"}, "a;!22P02"},
        {"unnest", TXT, {TXT}, {"a"}, "!22P02"},
        {"unnest", TXT, {TXT}, {"{a}x"}, "a;!22P02"},
        {"jsonb_array_elements", 0, {JSN}, {"[1, \"a\", null, [2]]"}, "1;\"a\";null;[2];"},
        {"jsonb_array_elements", 0, {JSN}, {"[]"}, ""},
        {"jsonb_array_elements", 0, {JSN}, {"{}"}, "!22023"},
        {"jsonb_array_elements_text", 0, {JSN}, {"[1, \"a\\n\", null]"}, "1;a\n;NULL;"},
        {"jsonb_each", 0, {JSN}, {"{\"b\": [1], \"a\": null}"}, "a|null;b|[1];"},
        {"jsonb_each_text", 0, {JSN}, {"{\"b\": \"x\", \"a\": null}"}, "a|NULL;b|x;"},
        {"jsonb_each", 0, {JSN}, {"[1]"}, "!22023"},
        {"jsonb_object_keys", 0, {JSN}, {"{\"b\": 1, \"a\\\"\": 2}"}, "b;a\";"},
        {"jsonb_object_keys", 0, {JSN}, {"1"}, "!22023"},
        {"string_to_table", 0, {TXT, TXT}, {"a,b,,c,", ","}, "a;b;;c;;"},
        {"string_to_table", 0, {TXT, TXT}, {"aéb", NULL}, "a;é;b;"},
        {"string_to_table", 0, {TXT, TXT}, {"abc", ""}, "abc;"},
        {"string_to_table", 0, {TXT, TXT}, {"", ","}, ""},
        {"string_to_table", 0, {TXT, TXT}, {NULL, ","}, ""},
        {"string_to_table", 0, {TXT, TXT, TXT}, {"a-b--", "-", ""}, "a;b;NULL;NULL;"},
        {"regexp_split_to_table", 0, {TXT, TXT}, {"a1b22c", "[0-9]+"}, "a;b;c;"},
        {"regexp_split_to_table", 0, {TXT, TXT}, {"the fox", "\\s*"}, "t;h;e;f;o;x;"},
        {"regexp_split_to_table", 0, {TXT, TXT}, {"", "x"}, ";"},
        {"regexp_split_to_table", 0, {TXT, TXT, TXT}, {"aXbxc", "x", "i"}, "a;b;c;"},
        {"regexp_split_to_table", 0, {TXT, TXT, TXT}, {"axb", "x", "g"}, "!22023"},
        {"regexp_split_to_table", 0, {TXT, TXT}, {"axb", "("}, "!2201B"},
        {"regexp_matches", 0, {TXT, TXT}, {"foobar", "o(.)(x)?"}, "{o,NULL};"},
        {"regexp_matches", 0, {TXT, TXT, TXT}, {"a b", ".", "g"}, "{a};{\" \"};{b};"},
        {"regexp_matches", 0, {TXT, TXT, TXT}, {"ab", "x*", "g"}, "{\"\"};{\"\"};{\"\"};"},
        {"regexp_matches", 0, {TXT, TXT, TXT}, {"ab", "a", "q"}, "!22023"},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        check(&all[i]);
    }
}

/* A pattern and a text that make a match remember very much: PCRE2 would take gigabytes. */
static void hungry_pattern(void)
{
    enum { GROUPS = 200, LETTERS = 1000000 };
    const struct table_func *func = table_func_by_id(1);
    for (uint32_t id = 2; strcmp(func->name, "regexp_matches") != 0; id++) {
        func = table_func_by_id(id);
    }
    struct buf text = {0}, pattern = {0};
    struct rusage usage;
    struct datum row;
    bool more;
    for (uint32_t i = 0; i < LETTERS; i++) {
        buf_append_byte(&text, 'a');
    }
    buf_append_str(&pattern, "(?:a");
    for (uint32_t i = 0; i < GROUPS; i++) {
        buf_append_str(&pattern, "|(x)");
    }
    buf_append_str(&pattern, ")*[cd]");
    struct datum args[] = {{.s = buf_cstr(&text), .len = (uint32_t)text.len},
                           {.s = buf_cstr(&pattern), .len = (uint32_t)pattern.len}};
    struct table_call *call = table_call_new(func, TYPE_TEXT);
    table_call_start(call, args);
    err_t err = table_call_next(call, &row, &more);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), "2201B");
    CU_ASSERT_EQUAL(getrusage(RUSAGE_SELF, &usage), 0);
    CU_ASSERT(usage.ru_maxrss < 1024L * 1024); /* KiB */
    CU_ASSERT(table_call_work(call) > 100000);
    CU_ASSERT_EQUAL(table_call_work(call), 0);
    err_free(err);
    table_call_free(call);
    buf_free(&text);
    buf_free(&pattern);
}

static void arrays(void)
{
    static const char *const items[] = {"", "a", "null", "a b", "x,y", "{}", "q\"\\", " "};
    struct buf text = {0}, item = {0};
    buf_append_byte(&text, '{');
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        buf_append_str(&text, i > 0 ? "," : "");
        array_append(items[i], strlen(items[i]), &text);
    }
    char shown[103];
    memset(shown, 'a', 99);
    memcpy(shown + 99, "\xC3\xA9\xC3\xA9", 4); /* the cut would be within the first */
    CU_ASSERT_EQUAL(array_shown(shown, sizeof(shown)), 99);
    CU_ASSERT_EQUAL(array_shown(shown, 3), 3);
    buf_append_byte(&text, '}');
    struct array_reader reader = array_open((const char *)text.data, text.len);
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        CU_ASSERT_EQUAL_FATAL(array_next(&reader, &item), ARRAY_ITEM);
        CU_ASSERT_STRING_EQUAL(buf_cstr(&item), items[i]);
    }
    CU_ASSERT_EQUAL(array_next(&reader, &item), ARRAY_END);
    CU_ASSERT_FALSE(reader.nested);
    for (size_t cut = 0; cut < text.len; cut++) { /* no part of it is an array */
        reader = array_open((const char *)text.data, cut);
        enum array_next next;
        while ((next = array_next(&reader, &item)) == ARRAY_ITEM || next == ARRAY_NULL) {
        }
        CU_ASSERT_EQUAL(next, ARRAY_BAD);
    }
    buf_free(&text);
    buf_free(&item);
}

static const struct test_case cases[] = {
    {"series", series}, {"parts", parts}, {"hungry pattern", hungry_pattern}, {"arrays", arrays}};
TEST_SUITE("core/data set-returning functions", cases)
