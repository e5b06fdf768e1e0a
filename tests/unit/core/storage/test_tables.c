/* Tables on a real disk: appends, uppers, restart, cursors, compaction, fencing, drops. */
#include "tests/unit/core/storage/storage_test.h"

#include <stdio.h>

static void expect_ok(err_t err)
{
    if (err != ERR_OK) {
        fprintf(stderr, "unexpected: %s\n", err_text(err));
    }
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
}

static void expect(err_t err, enum err_code code)
{
    CU_ASSERT_PTR_NOT_NULL(err);
    if (err != ERR_OK) {
        CU_ASSERT_EQUAL(err_code(err), code);
    }
    err_free(err);
}

static void append_and_wait(struct io_loop *loop, struct storage_worker *s, uint64_t id,
                            uint64_t time, int64_t a, const char *b, int64_t diff)
{
    struct test_append answer;
    test_append_row(s, id, time, a, b, diff, &answer);
    CU_ASSERT_FALSE(answer.done); /* never from inside the call */
    TEST_WAIT(loop, answer.done);
    expect_ok(answer.err);
}

static uint64_t upper_of(struct storage_worker *s, uint64_t id)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    expect_ok(storage_frontiers(s, id, &since, &upper));
    return upper;
}

static void append_body(struct io_loop *loop, const char *dir)
{
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    struct storage_collection t = test_table(7);
    expect_ok(storage_run(s, &t));
    expect_ok(storage_run(s, &t)); /* the same again */
    struct storage_collection other = t;
    other.cols = 1;
    expect(storage_run(s, &other), ERR_EXISTS);
    append_and_wait(loop, s, 7, 100, 1, "one", 1);
    CU_ASSERT_EQUAL(upper_of(s, 7), 101);
    CU_ASSERT_EQUAL(storage_last_append(s), 100);
    append_and_wait(loop, s, 7, 101, 2, NULL, 3);
    append_and_wait(loop, s, 7, 200, 1, "one", -1);
    struct test_rows rows = {0};
    expect_ok(test_state(s, 7, &rows));
    CU_ASSERT_EQUAL(test_rows_len(&rows), 1);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "2,\\N"), 3);
    test_rows_free(&rows);
    /* The history, from a snapshot in the middle. */
    struct storage_cursor *cursor = NULL;
    expect_ok(storage_cursor_open(s, 7, 100, NULL, &cursor));
    expect_ok(test_drain(cursor, 1 << 20, &rows, true));
    CU_ASSERT_EQUAL(test_rows_get(&rows, "1,one@100"), 1);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "2,\\N@101"), 3);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "1,one@200"), -1);
    CU_ASSERT_EQUAL(rows.lower, 201);
    /* It goes on with what comes. */
    append_and_wait(loop, s, 7, 300, 5, "five", 1);
    expect_ok(test_drain(cursor, 1 << 20, &rows, true));
    CU_ASSERT_EQUAL(test_rows_get(&rows, "5,five@300"), 1);
    CU_ASSERT_EQUAL(rows.lower, 301);
    test_rows_free(&rows);
    storage_cursor_close(cursor);
    storage_free(s);
}

static void test_append(void)
{
    test_run(append_body);
}

static void refusal_body(struct io_loop *loop, const char *dir)
{
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    struct storage_collection t = test_table(1);
    expect_ok(storage_run(s, &t));
    append_and_wait(loop, s, 1, 50, 1, "x", 1);
    struct test_append answer;
    test_append_row(s, 1, 50, 1, "x", 1, &answer);
    TEST_WAIT(loop, answer.done);
    expect(answer.err, ERR_FENCED);
    test_append_row(s, 2, 60, 1, "x", 1, &answer);
    TEST_WAIT(loop, answer.done);
    expect(answer.err, ERR_NOT_FOUND);
    storage_advance_tables(s, 1000);
    test_append_row(s, 1, 999, 1, "x", 1, &answer);
    TEST_WAIT(loop, answer.done);
    expect(answer.err, ERR_FENCED);
    TEST_WAIT(loop, upper_of(s, 1) == 1000);
    struct storage_cursor *cursor = NULL;
    expect(storage_cursor_open(s, 9, 50, NULL, &cursor), ERR_NOT_FOUND);
    expect_ok(storage_allow_compaction(s, 1, 900));
    expect(storage_cursor_open(s, 1, 899, NULL, &cursor), ERR_INVALID);
    uint64_t resume = 899;
    expect(storage_cursor_open(s, 1, 0, &resume, &cursor), ERR_INVALID);
    resume = 900;
    expect_ok(storage_cursor_open(s, 1, 0, &resume, &cursor));
    /* Dropped: its cursors say so, its name is free. */
    expect_ok(storage_allow_compaction(s, 1, FRONTIER_EMPTY));
    CU_ASSERT_EQUAL(host.status, STORAGE_DROPPED);
    struct storage_chunk chunk;
    bool more = true;
    expect(storage_cursor_next(cursor, 1024, NULL, &chunk, &more), ERR_NOT_FOUND);
    storage_cursor_close(cursor);
    expect_ok(storage_run(s, &t));
    struct test_rows rows = {0};
    expect_ok(test_state(s, 1, &rows));
    CU_ASSERT_EQUAL(test_rows_len(&rows), 0);
    storage_free(s);
    test_rows_free(&rows);
    /* The records of the dropped one stay dropped. */
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    expect_ok(test_state(s, 1, &rows));
    CU_ASSERT_EQUAL(test_rows_len(&rows), 0);
    test_rows_free(&rows);
    storage_free(s);
}

static void test_refusals(void)
{
    test_run(refusal_body);
}

static void restart_body(struct io_loop *loop, const char *dir)
{
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    struct test_rows before = {0};
    struct test_rows after = {0};
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    struct storage_collection t = test_table(3);
    struct storage_collection u = test_table(4);
    expect_ok(storage_run(s, &t));
    expect_ok(storage_run(s, &u));
    uint64_t published = 0;
    for (int round = 0; round < 6; round++) {
        uint64_t time = upper_of(s, 3) + 10;
        CU_ASSERT(time > published);
        append_and_wait(loop, s, 3, time, round, "row", 1);
        storage_advance_tables(s, time + 100);
        TEST_WAIT(loop, upper_of(s, 3) >= time + 100);
        published = upper_of(s, 4);
        CU_ASSERT_EQUAL(published, upper_of(s, 3));
        struct storage_cursor *cursor = NULL;
        expect_ok(storage_cursor_open(s, 3, 0, NULL, &cursor));
        expect_ok(test_drain(cursor, 1, &before, true));
        storage_cursor_close(cursor);
        storage_free(s);
        expect_ok(test_open(loop, dir, &host, NULL, &s));
        CU_ASSERT(upper_of(s, 3) >= published);
        CU_ASSERT_EQUAL(storage_last_append(s), time);
        expect_ok(storage_cursor_open(s, 3, 0, NULL, &cursor));
        expect_ok(test_drain(cursor, 1 << 20, &after, true));
        storage_cursor_close(cursor);
        CU_ASSERT(test_rows_equal(&before, &after));
        CU_ASSERT_EQUAL(test_rows_len(&before), (size_t)round + 1);
        test_rows_free(&before);
        test_rows_free(&after);
    }
    storage_free(s);
}

static void test_restart(void)
{
    test_run(restart_body);
}

static void fencing_body(struct io_loop *loop, const char *dir)
{
    struct test_host host = {0};
    struct storage_worker *old = NULL;
    struct storage_worker *new = NULL;
    struct storage_worker *none = NULL;
    struct test_config two = {.epoch = 2};
    expect_ok(test_open(loop, dir, &host, NULL, &old));
    struct storage_collection t = test_table(1);
    expect_ok(storage_run(old, &t));
    append_and_wait(loop, old, 1, 10, 1, "x", 1);
    test_pause(loop, 20000);
    expect_ok(test_open(loop, dir, &host, &two, &new));
    expect(test_open(loop, dir, &host, NULL, &none), ERR_FENCED);
    /* The old one writes, but does not acknowledge. */
    struct test_append answer;
    test_append_row(old, 1, 20, 2, "old", 1, &answer);
    TEST_WAIT(loop, answer.done);
    expect(answer.err, ERR_FENCED);
    CU_ASSERT_EQUAL(upper_of(old, 1), 11);
    test_append_row(old, 1, 21, 2, "old", 1, &answer);
    TEST_WAIT(loop, answer.done);
    expect(answer.err, ERR_FENCED);
    uint64_t time = upper_of(new, 1) + 5;
    append_and_wait(loop, new, 1, time, 3, "new", 1);
    storage_free(old);
    storage_free(new);
    expect_ok(test_open(loop, dir, &host, &two, &new));
    struct test_rows rows = {0};
    expect_ok(test_state(new, 1, &rows));
    CU_ASSERT_EQUAL(test_rows_get(&rows, "1,x"), 1);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "3,new"), 1);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "2,old"), 0);
    test_rows_free(&rows);
    storage_free(new);
}

static void test_fencing(void)
{
    test_run(fencing_body);
}

/* 20 appends of 2 kB rows to table 1, all waiting for each other's syncs. */
static void churn_round(struct io_loop *loop, struct storage_worker *s, int round,
                        struct test_rows *model)
{
    static char text[2000];
    struct test_append answers[20];
    for (int i = 0; i < 20; i++) {
        uint64_t time = upper_of(s, 1) + 1 + (uint64_t)i;
        memset(text, 'z', sizeof(text) - 1);
        snprintf(text, 20, "%d", i);
        text[strlen(text)] = 'z';
        test_append_row(s, 1, time, round % 7, text, 1, &answers[i]);
        struct buf key = {0};
        buf_printf(&key, "%d,%s", round % 7, text);
        test_rows_add(model, buf_cstr(&key), 1);
        buf_free(&key);
    }
    for (int i = 0; i < 20; i++) {
        TEST_WAIT(loop, answers[i].done);
        expect_ok(answers[i].err);
    }
}

static void expect_state(struct storage_worker *s, const struct test_rows *model)
{
    struct test_rows now = {0};
    expect_ok(test_state(s, 1, &now));
    CU_ASSERT(test_rows_equal(&now, model));
    test_rows_free(&now);
}

static uint64_t log_bytes(const char *dir)
{
    uint64_t bytes = 0;
    struct buf command = {0};
    buf_printf(&command, "du -sb %s/log", dir);
    FILE *p = popen(buf_cstr(&command), "r");
    CU_ASSERT_EQUAL(fscanf(p, "%lu", &bytes), 1);
    pclose(p);
    buf_free(&command);
    return bytes;
}

/* Many commits, small segments, little memory: compactions, spills, deletions of segments. */
static void churn_body(struct io_loop *loop, const char *dir)
{
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    struct test_config config = {.segment_bytes = 200000, .memory_tail_bytes = 4096};
    struct test_rows model = {0};
    struct test_rows live = {0};
    expect_ok(test_open(loop, dir, &host, &config, &s));
    struct storage_collection t = test_table(1);
    struct storage_collection u = test_table(2);
    expect_ok(storage_run(s, &t));
    expect_ok(storage_run(s, &u));
    struct storage_cursor *tail = NULL;
    expect_ok(storage_cursor_open(s, 1, 0, NULL, &tail));
    append_and_wait(loop, s, 2, upper_of(s, 2) + 1, -1, "pins the log", 1);
    for (int round = 0; round < 60; round++) {
        churn_round(loop, s, round, &model);
        expect_ok(test_drain(tail, 1 << 20, &live, false));
        if (round >= 30) {
            expect_ok(storage_allow_compaction(s, 1, upper_of(s, 1) - 1));
        }
        if (round % 10 == 9) {
            test_pause(loop, 250000);
            expect_state(s, &model);
            CU_ASSERT(test_rows_equal(&live, &model));
        }
        if (round % 20 == 19) {
            storage_cursor_close(tail);
            storage_free(s);
            expect_ok(test_open(loop, dir, &host, &config, &s));
            expect_state(s, &model);
            uint64_t resume = live.lower;
            expect_ok(storage_cursor_open(s, 1, 0, &resume, &tail));
            expect_ok(test_drain(tail, 4096, &live, false));
            CU_ASSERT(test_rows_equal(&live, &model));
        }
    }
    struct test_rows pinned = {0};
    expect_ok(test_state(s, 2, &pinned));
    CU_ASSERT_EQUAL(test_rows_get(&pinned, "-1,pins the log"), 1);
    /* 2.4 MB went through a log of 200 kB segments, and most of it is gone. */
    test_pause(loop, 500000);
    append_and_wait(loop, s, 1, upper_of(s, 1) + 1, -1, "may begin a segment", 1);
    test_pause(loop, 100000);
    CU_ASSERT(log_bytes(dir) < 2000000);
    storage_cursor_close(tail);
    storage_free(s);
    test_rows_free(&pinned);
    test_rows_free(&model);
    test_rows_free(&live);
}

static void test_churn(void)
{
    test_run(churn_body);
}

static void big_body(struct io_loop *loop, const char *dir)
{
    enum { ROWS = 20000 };
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, dir, &host, NULL, &s));
    struct storage_collection t = test_table(1);
    expect_ok(storage_run(s, &t));
    int64_t *a = mem_alloc(ROWS * sizeof(*a));
    int64_t *diffs = mem_alloc(ROWS * sizeof(*diffs));
    const char **b = mem_alloc(ROWS * sizeof(*b));
    for (int i = 0; i < ROWS; i++) {
        a[i] = i;
        b[i] = "some text in a row";
        diffs[i] = 1;
    }
    struct batch batch;
    struct batch_col cols[TEST_COLS];
    void *data = NULL;
    test_batch(&batch, cols, &data, a, b, diffs, ROWS);
    struct storage_write writes[2] = {{.id = 1, .batch = &batch}, {.id = 1, .batch = &batch}};
    struct test_append answer = {0};
    struct test_append small;
    append_and_wait(loop, s, 1, 5, -1, "first", 1);
    storage_append(s, 10, writes, 2, test_append_done, &answer);
    test_append_row(s, 1, 11, -2, "last", 1, &small);
    TEST_WAIT(loop, small.done);
    expect_ok(answer.err);
    expect_ok(small.err);
    /* One time, many chunks; none much larger than asked for. */
    struct storage_cursor *cursor = NULL;
    uint64_t resume = 1;
    expect_ok(storage_cursor_open(s, 1, 0, &resume, &cursor));
    struct test_rows rows = {0};
    struct storage_chunk chunk;
    bool more = true;
    while (more) {
        expect_ok(storage_cursor_next(cursor, 100000, NULL, &chunk, &more));
        CU_ASSERT(chunk.ok_len < 130000);
        if (more) {
            test_rows_chunk(&rows, &chunk, true);
        }
    }
    CU_ASSERT_EQUAL(rows.updates, 2 * ROWS + 2);
    CU_ASSERT(rows.chunks > 10);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "19999,some text in a row@10"), 2);
    CU_ASSERT_EQUAL(rows.lower, 12);
    storage_cursor_close(cursor);
    test_rows_free(&rows);
    expect_ok(test_state(s, 1, &rows));
    CU_ASSERT_EQUAL(test_rows_len(&rows), ROWS + 2);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "123,some text in a row"), 2);
    test_rows_free(&rows);
    free(a);
    free(b);
    free(diffs);
    free(data);
    storage_free(s);
}

static void test_big(void)
{
    test_run(big_body);
}

static const struct test_case cases[] = {
    {"append, read, follow", test_append},   {"refusals and drops", test_refusals},
    {"restart keeps history", test_restart}, {"fencing by epoch", test_fencing},
    {"churn and compaction", test_churn},    {"one big append", test_big},
};
TEST_SUITE("core/storage tables", cases)
