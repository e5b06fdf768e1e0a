/* Bounds: what is too large is refused alone, what is large is cut, and nobody else pays for it. */
#include "tests/unit/core/storage/storage_test.h"

#include <stdio.h>

enum { MIB = 1 << 20 };

static void expect_ok(err_t err)
{
    if (err != ERR_OK) {
        fprintf(stderr, "unexpected: %s\n", err_text(err));
    }
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
}

static void expect_limit(err_t err, const char *sqlstate, const char *part)
{
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_LIMIT);
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), sqlstate);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), part));
    CU_ASSERT_STRING_NOT_EQUAL(err_hint_get(err), "");
    err_free(err);
}

/* Rows (first + i, text) as a batch, the texts of bytes[i] bytes each. */
struct big_batch {
    struct batch batch;
    struct batch_col cols[TEST_COLS];
    void *data;
};

static void big_batch(struct big_batch *out, int64_t first, const size_t *bytes, size_t rows)
{
    static const uint8_t kinds[TEST_COLS] = {TYPE_INT8, TYPE_TEXT};
    struct batch_builder *builder = batch_builder_new(kinds, TEST_COLS);
    for (size_t i = 0; i < rows; i++) {
        char *text = mem_alloc(bytes[i] + 1);
        memset(text, 'a' + (char)(i % 26), bytes[i]);
        struct datum d = {.i = first + (int64_t)i};
        batch_builder_datum(builder, 0, &d);
        d = (struct datum){.s = text, .len = (uint32_t)bytes[i]};
        batch_builder_datum(builder, 1, &d);
        batch_builder_end_row(builder, 0, 1);
        free(text);
    }
    size_t size = 0;
    out->data = batch_builder_finish_new(builder, &size);
    batch_view(out->data, size, out->cols, TEST_COLS, &out->batch);
    batch_builder_free(builder);
}

/* Reads all from the cursor; no chunk is much longer than max plus a row. */
static uint64_t count_rows(struct storage_cursor *cursor, size_t max, size_t row)
{
    uint64_t rows = 0;
    bool more = true;
    while (more) {
        struct storage_chunk chunk;
        expect_ok(storage_cursor_next(cursor, max, NULL, &chunk, &more));
        CU_ASSERT(chunk.ok_len < 2 * max + 2 * row);
        if (chunk.ok_len > 0) {
            struct batch batch;
            struct batch_col cols[TEST_COLS];
            batch_view((void *)chunk.ok, chunk.ok_len, cols, TEST_COLS, &batch);
            rows += batch.rows;
        }
    }
    return rows;
}

/* Many large appends at once, with small ones between: each is answered, in groups of a bound. */
static void many_body(struct io_loop *loop, const char *dir)
{
    enum { APPENDS = 12 };
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    struct metrics_registry *metrics = metrics_registry_new();
    struct storage_config config = {.loop = loop,
                                    .directory = dir,
                                    .workers = 1,
                                    .epoch = 1,
                                    .host = &test_host_table,
                                    .ctx = &host,
                                    .metrics = metrics};
    expect_ok(storage_open(&config, &s));
    struct metric *commits =
        metric_counter(metrics, "tailrace_storage_commits_total", "worker=\"0\"",
                       "Commit groups made durable.");
    struct storage_collection t = test_table(1);
    expect_ok(storage_run(s, &t));
    const size_t bytes = 7 * MIB;
    struct big_batch big;
    big_batch(&big, 1, &bytes, 1);
    struct storage_write write = {.id = 1, .batch = &big.batch};
    struct test_append large[APPENDS] = {{0}};
    struct test_append small[APPENDS];
    for (int i = 0; i < APPENDS; i++) {
        storage_append(s, 10 + 2 * (uint64_t)i, &write, 1, test_append_done, &large[i]);
        test_append_row(s, 1, 11 + 2 * (uint64_t)i, 1000 + i, "small", 1, &small[i]);
    }
    for (int i = 0; i < APPENDS; i++) {
        TEST_WAIT(loop, large[i].done && small[i].done);
        expect_ok(large[i].err);
        expect_ok(small[i].err);
    }
    /* 84 MiB in groups of at most 16; the first one went alone. */
    CU_ASSERT(metric_value(commits) >= 6);
    CU_ASSERT(metric_value(commits) < 2 * APPENDS);
    storage_free(s);
    metrics_registry_free(metrics);
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    struct storage_cursor *cursor = NULL;
    uint64_t resume = 1;
    expect_ok(storage_cursor_open(s, 1, 0, &resume, &cursor));
    CU_ASSERT_EQUAL(count_rows(cursor, MIB, bytes), 2 * APPENDS);
    storage_cursor_close(cursor);
    CU_ASSERT_EQUAL(storage_last_append(s), 11 + 2 * (APPENDS - 1));
    storage_free(s);
    free(big.data);
}

static void test_many(void)
{
    test_run(many_body);
}

/* A refused append is refused alone, with the limit in its message; its neighbours are durable. */
static void refused_body(struct io_loop *loop, const char *dir)
{
    enum { WRITES = 30 };
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    struct storage_collection t = test_table(1);
    expect_ok(storage_run(s, &t));
    const size_t sizes[3] = {100, 32 * MIB + 1, 100};
    struct big_batch row;
    big_batch(&row, 1, sizes, 3);
    const size_t half = 10 * MIB;
    const size_t halves[2] = {half, half};
    struct big_batch part;
    big_batch(&part, 1, halves, 2);
    struct storage_write one = {.id = 1, .batch = &row.batch};
    struct storage_write all[WRITES]; /* 600 MiB: refused before any of it is copied */
    for (int i = 0; i < WRITES; i++) {
        all[i] = (struct storage_write){.id = 1, .batch = &part.batch};
    }
    struct test_append first;
    struct test_append last;
    struct test_append long_row = {0};
    struct test_append too_much = {0};
    test_append_row(s, 1, 10, 1, "first", 1, &first);
    storage_append(s, 11, &one, 1, test_append_done, &long_row);
    storage_append(s, 12, all, WRITES, test_append_done, &too_much);
    test_append_row(s, 1, 13, 2, "last", 1, &last);
    TEST_WAIT(loop, first.done && last.done && long_row.done && too_much.done);
    expect_ok(first.err);
    expect_ok(last.err);
    expect_limit(long_row.err, "54000", "the limit is 32 MiB");
    expect_limit(too_much.err, "53400", "512 MiB");
    struct test_rows rows = {0};
    expect_ok(test_state(s, 1, &rows));
    CU_ASSERT_EQUAL(test_rows_len(&rows), 2);
    test_rows_free(&rows);
    storage_free(s);
    free(row.data);
    free(part.data);
}

static void test_refused(void)
{
    test_run(refused_body);
}

/* Long rows among short ones, at one time: chunks of a snapshot and of changes stay short. */
static void chunks_body(struct io_loop *loop, const char *dir)
{
    enum { LONG = 24, ROWS = 6000 };
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    struct storage_collection t = test_table(1);
    expect_ok(storage_run(s, &t));
    size_t *sizes = mem_alloc(ROWS * sizeof(*sizes));
    for (size_t i = 0; i < ROWS; i++) {
        sizes[i] = i < LONG ? MIB : 10;
    }
    struct big_batch big;
    big_batch(&big, 1, sizes, ROWS);
    struct storage_write write = {.id = 1, .batch = &big.batch};
    struct test_append answer = {0};
    storage_append(s, 10, &write, 1, test_append_done, &answer);
    TEST_WAIT(loop, answer.done);
    expect_ok(answer.err);
    struct storage_cursor *cursor = NULL;
    uint64_t resume = 1;
    expect_ok(storage_cursor_open(s, 1, 0, &resume, &cursor));
    CU_ASSERT_EQUAL(count_rows(cursor, MIB, MIB), ROWS);
    storage_cursor_close(cursor);
    expect_ok(storage_cursor_open(s, 1, 10, NULL, &cursor));
    CU_ASSERT_EQUAL(count_rows(cursor, MIB, MIB), ROWS);
    storage_cursor_close(cursor);
    storage_free(s);
    free(sizes);
    free(big.data);
}

static void test_chunks(void)
{
    test_run(chunks_body);
}

static const struct test_case cases[] = {
    {"large appends are cut into groups", test_many},
    {"what is too large is refused alone", test_refused},
    {"chunks of long rows stay short", test_chunks},
};
TEST_SUITE("core/storage bounds", cases)
