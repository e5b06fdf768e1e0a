/*
 * Helpers for the tests of core/storage: a body that runs on a real loop as a coroutine (so that a
 * test reads from top to bottom and waits where it must), a worker with its host, and shards as
 * text.
 */
#ifndef TAILRACE_TESTS_UNIT_CORE_STORAGE_STORAGE_TEST_H
#define TAILRACE_TESTS_UNIT_CORE_STORAGE_STORAGE_TEST_H

#include "core/base/buf.h"
#include "core/base/map.h"
#include "core/storage/storage.h"
#include "tests/unit/harness.h"

enum { TEST_COLS = 2 };

/* What a host is told. */
struct test_host {
    uint64_t advanced; /* calls */
    uint64_t upper;    /* of the last call */
    enum storage_status status;
    char reason[256];
    char hint[256];
};

struct test_config {
    uint64_t epoch; /* 0: 1 */
    uint64_t segment_bytes;
    uint64_t memory_tail_bytes;
    uint32_t worker;
    uint32_t workers; /* 0: 1 */
};

/* Runs body on a real loop, with a fresh directory that is removed afterwards. */
void test_run(void (*body)(struct io_loop *loop, const char *dir));
/* Lets the loop run. Inside a body only. */
void test_pause(struct io_loop *loop, uint64_t us);
#define TEST_WAIT(loop, condition)                                                                 \
    do {                                                                                           \
        uint64_t until_ = io_now_us(loop) + 10000000;                                              \
        while (!(condition) && io_now_us(loop) < until_) {                                         \
            test_pause(loop, 500);                                                                 \
        }                                                                                          \
        CU_ASSERT(condition);                                                                      \
    } while (0)

extern const struct storage_host test_host_table;
err_t test_open(struct io_loop *loop, const char *dir, struct test_host *host,
                const struct test_config *config, struct storage_worker **out);
/* (a int8, b text), nullable. */
struct storage_collection test_table(uint64_t id);
/* One row as a batch; free(data). */
void test_batch(struct batch *out, struct batch_col *cols, void **data, const int64_t *a,
                const char *const *b, const int64_t *diffs, size_t rows);

/* An append that was asked for: done is set when it was answered. */
struct test_append {
    bool done;
    err_t err;
};
void test_append_done(void *arg, err_t err);
void test_append_row(struct storage_worker *storage, uint64_t id, uint64_t time, int64_t a,
                     const char *b, int64_t diff, struct test_append *answer);

/* Adds "a,b@time" -> diff (both streams; errors as "sqlstate|message|context") to a map's sums. */
struct test_rows {
    struct strmap sums; /* text -> diff + TEST_BIAS */
    uint64_t lower;     /* the next chunk must begin here; 0 at first */
    uint64_t chunks;
    uint64_t updates;
};
void test_rows_free(struct test_rows *rows);
void test_rows_add(struct test_rows *rows, const char *text, int64_t diff);
/* Adds a chunk; times shown when at is true. Checks that chunks abut. */
void test_rows_chunk(struct test_rows *rows, const struct storage_chunk *chunk, bool at);
bool test_rows_equal(const struct test_rows *a, const struct test_rows *b);
int64_t test_rows_get(const struct test_rows *rows, const char *text);
size_t test_rows_len(const struct test_rows *rows);
void test_rows_print(const struct test_rows *rows);

/* Reads everything there is of a cursor (with *more false at the end). */
err_t test_drain(struct storage_cursor *cursor, size_t max_bytes, struct test_rows *rows, bool at);
/* The state at upper - 1. */
err_t test_state(struct storage_worker *storage, uint64_t id, struct test_rows *rows);

void test_write_file(const char *path, const char *text, bool append);

#endif
