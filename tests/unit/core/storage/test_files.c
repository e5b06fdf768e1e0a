/* File sources on a real disk: tailing, replacing, everything that can be wrong with a file. */
#include "core/base/hash.h"
#include "tests/unit/core/storage/storage_test.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct type types[TEST_COLS];
static const char *const names[TEST_COLS] = {"a", "b"};
static char base[256]; /* directory of the files, beside the worker's */

static void expect_ok(err_t err)
{
    if (err != ERR_OK) {
        fprintf(stderr, "unexpected: %s\n", err_text(err));
    }
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
}

static const char *path_of(const char *name)
{
    static char path[4][512];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof(path[at]), "%s/%s", base, name);
    return path[at];
}

/* The path is copied: one source of an id at a time. */
static struct storage_collection csv_source(uint64_t id, const char *path, bool tail)
{
    static char paths[8][512];
    snprintf(paths[id], sizeof(paths[id]), "%s", path);
    path = paths[id];
    types[0] = type_of(TYPE_INT8);
    types[1] = type_of(TYPE_TEXT);
    return (struct storage_collection){.id = id,
                                       .kind = STORAGE_FILE,
                                       .types = types,
                                       .names = names,
                                       .cols = TEST_COLS,
                                       .path = path,
                                       .format = STORAGE_CSV,
                                       .tail = tail,
                                       .csv_delimiter = ',',
                                       .csv_quote = '"'};
}

static void begin(const char *dir, char *worker_dir, size_t size)
{
    snprintf(base, sizeof(base), "%s/files", dir);
    CU_ASSERT_EQUAL(mkdir(base, 0700), 0);
    snprintf(worker_dir, size, "%s/worker", dir);
}

static bool state_is(struct storage_worker *s, uint64_t id, const char *const *want, size_t len)
{
    struct test_rows rows = {0};
    expect_ok(test_state(s, id, &rows));
    bool same = test_rows_len(&rows) == len;
    for (size_t i = 0; i < len && same; i++) {
        same = test_rows_get(&rows, want[i]) == 1;
    }
    test_rows_free(&rows);
    return same;
}

static void show(struct storage_worker *s, uint64_t id)
{
    struct test_rows rows = {0};
    expect_ok(test_state(s, id, &rows));
    test_rows_print(&rows);
    test_rows_free(&rows);
}

#define EXPECT_STATE(loop, s, id, ...)                                                             \
    do {                                                                                           \
        const char *const want_[] = {__VA_ARGS__};                                                 \
        TEST_WAIT(loop, state_is(s, id, want_, sizeof(want_) / sizeof(want_[0])));                 \
        if (!state_is(s, id, want_, sizeof(want_) / sizeof(want_[0]))) {                           \
            show(s, id);                                                                           \
        }                                                                                          \
    } while (0)

static void tail_body(struct io_loop *loop, const char *dir)
{
    char worker[256];
    begin(dir, worker, sizeof(worker));
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, worker, &host, NULL, &s));
    struct storage_collection c = csv_source(5, path_of("t.csv"), true);
    expect_ok(storage_run(s, &c));
    TEST_WAIT(loop, host.status == STORAGE_STALLED);
    CU_ASSERT_PTR_NOT_NULL(strstr(host.reason, "does not exist"));
    test_write_file(c.path, "1,one\n2,two\n3,th", false);
    EXPECT_STATE(loop, s, 5, "1,one", "2,two");
    TEST_WAIT(loop, host.status == STORAGE_RUNNING);
    test_write_file(c.path, "ree\n", true);
    EXPECT_STATE(loop, s, 5, "1,one", "2,two", "3,three");
    test_write_file(c.path, "4\n", true);
    char bad[600];
    snprintf(bad, sizeof(bad), "22P04|expected 2 fields, found 1|%s:4", c.path);
    EXPECT_STATE(loop, s, 5, "1,one", "2,two", "3,three", bad);
    test_write_file(c.path, "5,five\n", true);
    EXPECT_STATE(loop, s, 5, "1,one", "2,two", "3,three", bad, "5,five");
    /* A restart holds the same, and goes on. */
    storage_free(s);
    test_write_file(c.path, "6,six\n", true);
    expect_ok(test_open(loop, worker, &host, NULL, &s));
    EXPECT_STATE(loop, s, 5, "1,one", "2,two", "3,three", bad, "5,five", "6,six");
    /* The upper follows the clock. */
    uint64_t since = 0;
    uint64_t upper = 0;
    uint64_t now = io_now_us(loop);
    TEST_WAIT(loop, storage_frontiers(s, 5, &since, &upper) == ERR_OK && upper > now);
    storage_free(s);
}

static void test_tail(void)
{
    test_run(tail_body);
}

/* Follows a source with a cursor and checks that each step comes at exactly one time. */
static void replace_body(struct io_loop *loop, const char *dir)
{
    char worker[256];
    begin(dir, worker, sizeof(worker));
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, worker, &host, NULL, &s));
    struct storage_collection c = csv_source(1, path_of("r.csv"), true);
    test_write_file(c.path, "1,a\n2,b\n3,c\n3,c\n", false);
    expect_ok(storage_run(s, &c));
    struct test_rows rows = {0};
    TEST_WAIT(loop, (test_rows_free(&rows), expect_ok(test_state(s, 1, &rows)),
                     test_rows_get(&rows, "3,c") == 2));
    test_rows_free(&rows);
    struct storage_cursor *cursor = NULL;
    uint64_t since = 0;
    uint64_t upper = 0;
    expect_ok(storage_frontiers(s, 1, &since, &upper));
    expect_ok(storage_cursor_open(s, 1, 0, &upper, &cursor));
    /* Replaced by renaming: one row stays, one goes, one loses a copy, one comes. */
    test_write_file(path_of("new"), "4,d\n3,c\n1,a\n", false);
    CU_ASSERT_EQUAL(rename(path_of("new"), c.path), 0);
    TEST_WAIT(loop, (expect_ok(test_drain(cursor, 1 << 20, &rows, false)), rows.updates > 0));
    CU_ASSERT_EQUAL(rows.updates, 3);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "2,b"), -1);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "3,c"), -1);
    CU_ASSERT_EQUAL(test_rows_get(&rows, "4,d"), 1);
    test_rows_free(&rows);
    EXPECT_STATE(loop, s, 1, "4,d", "3,c", "1,a");
    /* Rewritten in place, with the same size. */
    test_pause(loop, 100000);
    test_write_file(c.path, "4,d\n9,c\n1,a\n", false);
    EXPECT_STATE(loop, s, 1, "4,d", "9,c", "1,a");
    /* Rewritten in place at once after an append, longer. */
    test_write_file(c.path, "7,x\n7,y\n7,z\n8,w\n", false);
    EXPECT_STATE(loop, s, 1, "7,x", "7,y", "7,z", "8,w");
    /* Cut short, and to nothing. */
    CU_ASSERT_EQUAL(truncate(c.path, 8), 0);
    EXPECT_STATE(loop, s, 1, "7,x", "7,y");
    CU_ASSERT_EQUAL(truncate(c.path, 0), 0);
    TEST_WAIT(loop, state_is(s, 1, NULL, 0));
    test_write_file(c.path, "1,a\n", true);
    EXPECT_STATE(loop, s, 1, "1,a");
    /* While nobody runs. */
    storage_cursor_close(cursor);
    storage_free(s);
    test_write_file(path_of("new"), "2,b\nbroken\n", false);
    CU_ASSERT_EQUAL(rename(path_of("new"), c.path), 0);
    expect_ok(test_open(loop, worker, &host, NULL, &s));
    char bad[600];
    snprintf(bad, sizeof(bad), "22P04|expected 2 fields, found 1|%s:2", c.path);
    EXPECT_STATE(loop, s, 1, "2,b", bad);
    /* A bad line vanishes with the line. */
    test_write_file(path_of("new"), "2,b\n", false);
    CU_ASSERT_EQUAL(rename(path_of("new"), c.path), 0);
    EXPECT_STATE(loop, s, 1, "2,b");
    storage_free(s);
}

static void test_replace(void)
{
    test_run(replace_body);
}

static void trouble_body(struct io_loop *loop, const char *dir)
{
    char worker[256];
    begin(dir, worker, sizeof(worker));
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, worker, &host, NULL, &s));
    struct storage_collection c = csv_source(1, path_of("f"), true);
    CU_ASSERT_EQUAL(mkdir(c.path, 0700), 0);
    expect_ok(storage_run(s, &c));
    TEST_WAIT(loop, host.status == STORAGE_STALLED && strstr(host.reason, "not a file") != NULL);
    CU_ASSERT_EQUAL(rmdir(c.path), 0);
    test_write_file(c.path, "1,a\n", false);
    EXPECT_STATE(loop, s, 1, "1,a");
    TEST_WAIT(loop, host.status == STORAGE_RUNNING);
    /* Binary from the middle of an append on. */
    FILE *f = fopen(c.path, "a");
    fwrite("2,b\n3,\0\1\2\n4,d\n", 1, 15, f);
    fclose(f);
    EXPECT_STATE(loop, s, 1, "1,a", "2,b");
    TEST_WAIT(loop, host.status == STORAGE_STALLED && strstr(host.reason, "zero byte") != NULL);
    test_pause(loop, 300000);
    CU_ASSERT_EQUAL(host.status, STORAGE_STALLED);
    /* A directory in its place: what was ingested stays. */
    CU_ASSERT_EQUAL(unlink(c.path), 0);
    TEST_WAIT(loop, strstr(host.reason, "does not exist") != NULL);
    CU_ASSERT_EQUAL(mkdir(c.path, 0700), 0);
    TEST_WAIT(loop, strstr(host.reason, "not a file") != NULL);
    EXPECT_STATE(loop, s, 1, "1,a", "2,b");
    CU_ASSERT_EQUAL(rmdir(c.path), 0);
    test_write_file(c.path, "2,b\n3,c\n", false);
    EXPECT_STATE(loop, s, 1, "2,b", "3,c");
    TEST_WAIT(loop, host.status == STORAGE_RUNNING);
    /* A wrong header. */
    struct storage_collection h = csv_source(2, path_of("h"), true);
    h.csv_header = true;
    test_write_file(h.path, "a,c\n1,x\n", false);
    expect_ok(storage_run(s, &h));
    TEST_WAIT(loop, host.status == STORAGE_STALLED &&
                        strstr(host.reason, "column 2 of the header is \"c\"") != NULL);
    test_write_file(h.path, "a,b\n1,x\n", false);
    EXPECT_STATE(loop, s, 2, "1,x");
    TEST_WAIT(loop, host.status == STORAGE_RUNNING);
    /* Descriptions that make no sense. */
    struct storage_collection bad = csv_source(3, "/tmp/*/x", true);
    err_t err = storage_run(s, &bad);
    CU_ASSERT_EQUAL(err_code(err), ERR_UNSUPPORTED);
    err_free(err);
    bad = csv_source(3, "", true);
    err = storage_run(s, &bad);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
    bad = csv_source(3, "x", true);
    bad.csv_delimiter = '"';
    err = storage_run(s, &bad);
    CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
    err_free(err);
    expect_ok(storage_allow_compaction(s, 2, FRONTIER_EMPTY));
    CU_ASSERT_EQUAL(host.status, STORAGE_DROPPED);
    storage_free(s);
}

static void test_trouble(void)
{
    test_run(trouble_body);
}

static void once_body(struct io_loop *loop, const char *dir)
{
    char worker[256];
    begin(dir, worker, sizeof(worker));
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    expect_ok(test_open(loop, worker, &host, NULL, &s));
    /* A file big enough for several commits, its last line without an end. */
    enum { LINES = 60000 };
    FILE *f = fopen(path_of("big.jsonl"), "w");
    for (int i = 0; i < LINES; i++) {
        fprintf(f, "{\"a\": %d, \"b\": \"some text to make it longer\"}%s", i,
                i + 1 < LINES ? "\n" : "");
    }
    fclose(f);
    struct storage_collection c = csv_source(1, path_of("big.jsonl"), false);
    c.format = STORAGE_JSON_LINES;
    expect_ok(storage_run(s, &c));
    uint64_t since = 0;
    uint64_t upper = 0;
    /* Interrupted in the middle, it neither loses nor doubles a line. */
    for (int round = 0; round < 3 && upper != FRONTIER_EMPTY; round++) {
        test_pause(loop, 30000);
        storage_free(s);
        expect_ok(test_open(loop, worker, &host, NULL, &s));
        expect_ok(storage_frontiers(s, 1, &since, &upper));
    }
    TEST_WAIT(loop, storage_frontiers(s, 1, &since, &upper) == ERR_OK && upper == FRONTIER_EMPTY);
    struct test_rows rows = {0};
    expect_ok(test_state(s, 1, &rows));
    CU_ASSERT_EQUAL(test_rows_len(&rows), LINES);
    CU_ASSERT_EQUAL(rows.updates, LINES);
    test_rows_free(&rows);
    /* A cursor sees the end. */
    struct storage_cursor *cursor = NULL;
    expect_ok(storage_cursor_open(s, 1, 0, NULL, &cursor));
    expect_ok(test_drain(cursor, 1 << 16, &rows, false));
    CU_ASSERT_EQUAL(rows.lower, FRONTIER_EMPTY);
    CU_ASSERT_EQUAL(rows.updates, LINES);
    storage_cursor_close(cursor);
    test_rows_free(&rows);
    /* It stays sealed. */
    test_write_file(c.path, "\n{\"a\": 1}\n", true);
    storage_free(s);
    expect_ok(test_open(loop, worker, &host, NULL, &s));
    expect_ok(storage_frontiers(s, 1, &since, &upper));
    CU_ASSERT_EQUAL(upper, FRONTIER_EMPTY);
    test_pause(loop, 50000);
    expect_ok(test_state(s, 1, &rows));
    CU_ASSERT_EQUAL(test_rows_len(&rows), LINES);
    test_rows_free(&rows);
    storage_free(s);
}

static void test_once(void)
{
    test_run(once_body);
}

/* Two workers share a pattern: together they hold every file once. */
static void glob_body(struct io_loop *loop, const char *dir)
{
    char worker[2][256];
    begin(dir, worker[0], sizeof(worker[0]));
    snprintf(worker[1], sizeof(worker[1]), "%s/worker1", dir);
    struct test_host host[2] = {{0}, {0}};
    struct storage_worker *s[2] = {NULL, NULL};
    char pattern[300];
    snprintf(pattern, sizeof(pattern), "%s", path_of("*.csv"));
    struct storage_collection c = csv_source(1, pattern, true);
    for (uint32_t w = 0; w < 2; w++) {
        struct test_config config = {.worker = w, .workers = 2};
        expect_ok(test_open(loop, worker[w], &host[w], &config, &s[w]));
        expect_ok(storage_run(s[w], &c));
    }
    TEST_WAIT(loop, host[0].status == STORAGE_STALLED && host[1].status == STORAGE_STALLED);
    struct test_rows model = {0};
    struct test_rows both = {0};
    for (int i = 0; i < 8; i++) {
        char name[20];
        char text[40];
        snprintf(name, sizeof(name), "f%d.csv", i);
        snprintf(text, sizeof(text), "%d,x\n%d,y\n", i, i);
        test_write_file(path_of(name), text, false);
        snprintf(text, sizeof(text), "%d,x", i);
        test_rows_add(&model, text, 1);
        snprintf(text, sizeof(text), "%d,y", i);
        test_rows_add(&model, text, 1);
    }
    test_write_file(path_of("other.txt"), "9,z\n", false);
    TEST_WAIT(loop, (test_rows_free(&both), expect_ok(test_state(s[0], 1, &both)), both.lower = 0,
                     expect_ok(test_state(s[1], 1, &both)), test_rows_equal(&both, &model)));
    CU_ASSERT_EQUAL(host[0].status, STORAGE_RUNNING);
    /* One file is replaced and one goes. */
    test_write_file(path_of("f3.csv"), "3,w\n", false);
    CU_ASSERT_EQUAL(unlink(path_of("f4.csv")), 0);
    test_rows_add(&model, "3,x", -1);
    test_rows_add(&model, "3,y", -1);
    test_rows_add(&model, "3,w", 1);
    test_rows_add(&model, "4,x", -1);
    test_rows_add(&model, "4,y", -1);
    TEST_WAIT(loop, (test_rows_free(&both), expect_ok(test_state(s[0], 1, &both)), both.lower = 0,
                     expect_ok(test_state(s[1], 1, &both)), test_rows_equal(&both, &model)));
    test_rows_free(&both);
    test_rows_free(&model);
    storage_free(s[0]);
    storage_free(s[1]);
}

static void test_glob(void)
{
    test_run(glob_body);
}

/* Random edits of a file, restarts and compactions, against the file itself. */
static void random_body(struct io_loop *loop, const char *dir)
{
    char worker[256];
    begin(dir, worker, sizeof(worker));
    struct test_host host = {0};
    struct storage_worker *s = NULL;
    struct test_config config = {.segment_bytes = 30000, .memory_tail_bytes = 2000};
    expect_ok(test_open(loop, worker, &host, &config, &s));
    struct storage_collection c = csv_source(1, path_of("x.csv"), true);
    expect_ok(storage_run(s, &c));
    char line[64][24];
    size_t lines = 0;
    uint64_t seed = 12345;
    for (int round = 0; round < 40; round++) {
        seed = hash_u64(seed);
        bool append = seed % 3 != 0;
        size_t keep = append ? lines : (seed >> 8) % (lines + 1);
        size_t add = lines < 50 ? 1 + (seed >> 16) % 10 : 0;
        for (size_t i = keep; i < keep + add && i < 64; i++) {
            snprintf(line[i], sizeof(line[i]), "%llu,r",
                     (unsigned long long)(hash_u64(seed + i) % 20));
        }
        size_t next = keep + add < 64 ? keep + add : 64;
        FILE *f = fopen(append ? c.path : path_of("new"), append ? "a" : "w");
        for (size_t i = append ? lines : 0; i < next; i++) {
            fprintf(f, "%s\n", line[i]);
        }
        fclose(f);
        if (!append) {
            CU_ASSERT_EQUAL(rename(path_of("new"), c.path), 0);
        }
        lines = next;
        struct test_rows model = {0};
        struct test_rows now = {0};
        for (size_t i = 0; i < lines; i++) {
            test_rows_add(&model, line[i], 1);
        }
        if (round % 7 == 6) {
            storage_free(s);
            expect_ok(test_open(loop, worker, &host, &config, &s));
        }
        TEST_WAIT(loop, (test_rows_free(&now), expect_ok(test_state(s, 1, &now)),
                         test_rows_equal(&now, &model)));
        uint64_t since = 0;
        uint64_t upper = 0;
        expect_ok(storage_frontiers(s, 1, &since, &upper));
        expect_ok(storage_allow_compaction(s, 1, upper - 1));
        test_rows_free(&now);
        test_rows_free(&model);
    }
    storage_free(s);
}

static void test_random(void)
{
    test_run(random_body);
}

static const struct test_case cases[] = {
    {"tail", test_tail},          {"replace, rewrite, truncate", test_replace},
    {"trouble", test_trouble},    {"one-shot, interrupted", test_once},
    {"pattern and workers", test_glob}, {"random edits", test_random},
};
TEST_SUITE("core/storage files", cases)
