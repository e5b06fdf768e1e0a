/* See storage_test.h. */
#include "tests/unit/core/storage/storage_test.h"

#include <ftw.h>
#include <stdio.h>
#include <ucontext.h>
#include <unistd.h>

/* ---- coroutine ------------------------------------------------------------------------------- */

enum { STACK_BYTES = 1 << 20 };

static struct {
    ucontext_t loop_context;
    ucontext_t body_context;
    void (*body)(struct io_loop *loop, const char *dir);
    struct io_loop *loop;
    const char *dir;
    struct io_timer timer;
    bool ended;
} co;

static void resume(struct io_timer *timer)
{
    swapcontext(&co.loop_context, &co.body_context);
    if (co.ended) {
        io_loop_stop(co.loop);
    }
}

static void entry(void)
{
    co.body(co.loop, co.dir);
    co.ended = true;
    swapcontext(&co.body_context, &co.loop_context);
}

void test_pause(struct io_loop *loop, uint64_t us)
{
    io_timer_start(loop, &co.timer, io_now_us(loop) + us);
    swapcontext(&co.body_context, &co.loop_context);
}

static void start(struct io_loop *loop, void *arg)
{
    co.loop = loop;
    co.timer = (struct io_timer){.fire = resume};
    io_timer_start(loop, &co.timer, io_now_us(loop));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void test_run(void (*body)(struct io_loop *loop, const char *dir))
{
    char dir[] = "/tmp/tailrace-storage-XXXXXX";
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    struct io_env *env = NULL;
    err_t err = io_env_new_real(&env);
    CU_ASSERT_PTR_NULL_FATAL(err);
    void *stack = mem_alloc(STACK_BYTES);
    co.body = body;
    co.dir = dir;
    co.ended = false;
    getcontext(&co.body_context);
    co.body_context.uc_stack.ss_sp = stack;
    co.body_context.uc_stack.ss_size = STACK_BYTES;
    co.body_context.uc_link = NULL;
    makecontext(&co.body_context, entry, 0);
    err = io_main(env, start, NULL);
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
    io_env_free(env);
    free(stack);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- worker ---------------------------------------------------------------------------------- */

static void advanced(void *ctx, uint64_t collection, uint64_t upper)
{
    struct test_host *host = ctx;
    host->advanced++;
    host->upper = upper;
}

static void status(void *ctx, uint64_t collection, enum storage_status s, const char *reason,
                   const char *hint)
{
    struct test_host *host = ctx;
    host->status = s;
    snprintf(host->reason, sizeof(host->reason), "%s", reason);
    snprintf(host->hint, sizeof(host->hint), "%s", hint);
}

const struct storage_host test_host_table = {.advanced = advanced, .status = status};

err_t test_open(struct io_loop *loop, const char *dir, struct test_host *host,
                const struct test_config *config, struct storage_worker **out)
{
    struct storage_config c = {.loop = loop,
                               .directory = dir,
                               .workers = 1,
                               .epoch = 1,
                               .host = &test_host_table,
                               .ctx = host,
                               .tick_us = 2000};
    if (config != NULL) {
        c.epoch = config->epoch != 0 ? config->epoch : 1;
        c.segment_bytes = config->segment_bytes;
        c.memory_tail_bytes = config->memory_tail_bytes;
        c.worker = config->worker;
        c.workers = config->workers != 0 ? config->workers : 1;
    }
    return storage_open(&c, out);
}

struct storage_collection test_table(uint64_t id)
{
    static struct type types[TEST_COLS];
    static const char *const names[TEST_COLS] = {"a", "b"};
    types[0] = type_of(TYPE_INT8);
    types[1] = type_of(TYPE_TEXT);
    return (struct storage_collection){
        .id = id, .kind = STORAGE_TABLE, .types = types, .names = names, .cols = TEST_COLS};
}

void test_batch(struct batch *out, struct batch_col *cols, void **data, const int64_t *a,
                const char *const *b, const int64_t *diffs, size_t rows)
{
    static const uint8_t kinds[TEST_COLS] = {TYPE_INT8, TYPE_TEXT};
    struct batch_builder *builder = batch_builder_new(kinds, TEST_COLS);
    for (size_t i = 0; i < rows; i++) {
        struct datum d = {.i = a[i]};
        batch_builder_datum(builder, 0, &d);
        d = (struct datum){.null = b[i] == NULL, .s = b[i]};
        d.len = b[i] != NULL ? (uint32_t)strlen(b[i]) : 0;
        batch_builder_datum(builder, 1, &d);
        batch_builder_end_row(builder, 0, diffs[i]);
    }
    size_t size = 0;
    *data = batch_builder_finish_new(builder, &size);
    batch_view(*data, size, cols, TEST_COLS, out);
    batch_builder_free(builder);
}

void test_append_done(void *arg, err_t err)
{
    struct test_append *answer = arg;
    answer->done = true;
    answer->err = err;
}

void test_append_row(struct storage_worker *storage, uint64_t id, uint64_t time, int64_t a,
                     const char *b, int64_t diff, struct test_append *answer)
{
    struct batch batch;
    struct batch_col cols[TEST_COLS];
    void *data = NULL;
    test_batch(&batch, cols, &data, &a, &b, &diff, 1);
    struct storage_write write = {.id = id, .batch = &batch};
    *answer = (struct test_append){0};
    storage_append(storage, time, &write, 1, test_append_done, answer);
    free(data);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static const int64_t BIAS = 1LL << 40;

void test_rows_free(struct test_rows *rows)
{
    strmap_free(&rows->sums);
    *rows = (struct test_rows){0};
}

int64_t test_rows_get(const struct test_rows *rows, const char *text)
{
    void *value = strmap_get(&rows->sums, text);
    return value != NULL ? (int64_t)(intptr_t)value - BIAS : 0;
}

void test_rows_add(struct test_rows *rows, const char *text, int64_t diff)
{
    int64_t sum = test_rows_get(rows, text) + diff;
    if (sum == 0) {
        strmap_remove(&rows->sums, text);
    } else {
        strmap_put(&rows->sums, text, (void *)(intptr_t)(sum + BIAS));
    }
}

static void add_batch(struct test_rows *rows, const void *data, size_t len, bool err, bool at,
                      const struct storage_chunk *chunk)
{
    struct batch batch;
    struct batch_col cols[64];
    err_t bad = batch_open(data, len, err ? batch_err_kinds : NULL, err ? ERR_COLS : 0, cols, 64,
                           &batch);
    CU_ASSERT_PTR_NULL_FATAL(bad);
    CU_ASSERT(batch.rows > 0);
    struct buf text = {0};
    for (uint32_t row = 0; row < batch.rows; row++) {
        buf_clear(&text);
        for (uint32_t c = 0; c < batch.cols; c++) {
            struct datum d;
            struct type type = type_of(batch.col[c].kind);
            batch_datum(&batch.col[c], row, &d);
            if (c > 0) {
                buf_append_byte(&text, err ? '|' : ',');
            }
            if (d.null) {
                buf_append_str(&text, "\\N");
            } else {
                datum_print(&type, &d, &text);
            }
        }
        uint64_t time = batch_time(&batch, row);
        CU_ASSERT(time >= chunk->lower);
        CU_ASSERT(chunk->upper == chunk->lower || time < chunk->upper);
        if (at) {
            buf_printf(&text, "@%llu", (unsigned long long)time);
        }
        test_rows_add(rows, buf_cstr(&text), batch_diff(&batch, row));
        rows->updates++;
    }
    buf_free(&text);
}

void test_rows_chunk(struct test_rows *rows, const struct storage_chunk *chunk, bool at)
{
    CU_ASSERT(rows->lower == 0 || chunk->lower == rows->lower);
    CU_ASSERT(chunk->lower <= chunk->upper);
    rows->lower = chunk->upper;
    rows->chunks++;
    if (chunk->ok != NULL) {
        add_batch(rows, chunk->ok, chunk->ok_len, false, at, chunk);
    }
    if (chunk->err != NULL) {
        add_batch(rows, chunk->err, chunk->err_len, true, at, chunk);
    }
}

size_t test_rows_len(const struct test_rows *rows)
{
    return rows->sums.len;
}

bool test_rows_equal(const struct test_rows *a, const struct test_rows *b)
{
    size_t at = 0;
    const char *key = NULL;
    void *value = NULL;
    bool equal = a->sums.len == b->sums.len;
    while (equal && strmap_next(&a->sums, &at, &key, &value)) {
        equal = strmap_get(&b->sums, key) == value;
    }
    return equal;
}

void test_rows_print(const struct test_rows *rows)
{
    size_t at = 0;
    const char *key = NULL;
    void *value = NULL;
    while (strmap_next(&rows->sums, &at, &key, &value)) {
        fprintf(stderr, "  %s: %+lld\n", key, (long long)((int64_t)(intptr_t)value - BIAS));
    }
}

err_t test_drain(struct storage_cursor *cursor, size_t max_bytes, struct test_rows *rows, bool at)
{
    bool more = true;
    while (more) {
        struct storage_chunk chunk;
        TRY(storage_cursor_next(cursor, max_bytes, NULL, &chunk, &more));
        CU_ASSERT(more || (chunk.ok == NULL && chunk.err == NULL && chunk.lower == chunk.upper));
        if (more) {
            test_rows_chunk(rows, &chunk, at);
        }
    }
    return ERR_OK;
}

err_t test_state(struct storage_worker *storage, uint64_t id, struct test_rows *rows)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    TRY(storage_frontiers(storage, id, &since, &upper));
    struct storage_cursor *cursor = NULL;
    uint64_t as_of = upper == 0 ? 0 : upper == FRONTIER_EMPTY ? TIME_MAX - 1 : upper - 1;
    TRY(storage_cursor_open(storage, id, as_of, NULL, &cursor));
    err_t err = test_drain(cursor, 1 << 16, rows, false);
    storage_cursor_close(cursor);
    return err;
}

void test_write_file(const char *path, const char *text, bool append)
{
    FILE *f = fopen(path, append ? "a" : "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    fputs(text, f);
    fclose(f);
}
