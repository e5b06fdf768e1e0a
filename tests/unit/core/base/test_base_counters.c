/* The counters file: written here, read as another process reads it, damaged in every byte. */
#include "tests/unit/harness.h"

#include "core/base/counters.h"
#include "core/base/metrics.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 8, HEAD_BYTES = 12288 };

static const struct counters_type session = {
    .name = "session", .ids = {"peer", "worker"}, .values = {"bytes", "credit"}, .gauges = 1 << 1};
static const struct counters_type loop = {.name = "loop", .ids = {"worker"}, .values = {"spins"}};

static void path_make(char path[64])
{
    snprintf(path, 64, "/dev/shm/test-counters-XXXXXX");
    int fd = mkstemp(path);
    CU_ASSERT_TRUE_FATAL(fd >= 0);
    close(fd);
}

static struct counters_slot *open_slot(struct counters *c, const struct counters_type *type,
                                       uint64_t a, uint64_t b)
{
    return counters_open(c, type, (uint64_t[COUNTERS_IDS]){a, b, 0});
}

static size_t count_open(const char *path)
{
    struct counters_view *view = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_view_open(path, &view));
    uint32_t at = 0;
    size_t n = 0;
    struct counters_reading r;
    while (counters_view_next(view, &at, &r)) {
        n++;
    }
    counters_view_close(view);
    return n;
}

static void test_read(void)
{
    char path[64];
    path_make(path);
    struct counters *c = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_new(path, SLOTS, &c));
    struct counters_slot *a = open_slot(c, &session, 7, 1);
    struct counters_slot *b = open_slot(c, &loop, 3, 0);
    counters_add(a, 0, 100);
    counters_add(a, 0, 23);
    counters_set(a, 1, 5);
    counters_add(b, 0, UINT64_MAX);
    struct counters_view *view = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_view_open(path, &view));
    struct counters_owner owner = counters_view_owner(view);
    CU_ASSERT_EQUAL(owner.pid, getpid());
    CU_ASSERT_TRUE(owner.alive && !owner.ended && owner.refused == 0);
    uint32_t at = 0;
    struct counters_reading r;
    CU_ASSERT_TRUE_FATAL(counters_view_next(view, &at, &r));
    CU_ASSERT_STRING_EQUAL(r.type, "session");
    CU_ASSERT_STRING_EQUAL(r.id_names[0], "peer");
    CU_ASSERT_STRING_EQUAL(r.value_names[1], "credit");
    CU_ASSERT_PTR_NULL(r.id_names[2]);
    CU_ASSERT_PTR_NULL(r.value_names[2]);
    CU_ASSERT_TRUE(r.ids[0] == 7 && r.ids[1] == 1 && r.values[0] == 123 && r.values[1] == 5);
    CU_ASSERT_TRUE_FATAL(counters_view_next(view, &at, &r));
    CU_ASSERT_STRING_EQUAL(r.type, "loop");
    CU_ASSERT_EQUAL(r.values[0], UINT64_MAX);
    CU_ASSERT_FALSE(counters_view_next(view, &at, &r));
    /* Live: what is added now is seen without opening the file again. */
    counters_add(a, 0, 1);
    at = 0;
    CU_ASSERT_TRUE(counters_view_next(view, &at, &r) && r.values[0] == 124);
    counters_close(c, a);
    CU_ASSERT_EQUAL(count_open(path), 1);
    counters_close(c, b);
    CU_ASSERT_EQUAL(count_open(path), 0);
    counters_free(c);
    CU_ASSERT_TRUE(counters_view_owner(view).ended);
    counters_view_close(view);
    unlink(path);
}

static void test_full(void)
{
    char path[64];
    path_make(path);
    struct counters *c = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_new(path, SLOTS, &c));
    struct counters_slot *slots[SLOTS + 2];
    for (uint64_t i = 0; i < SLOTS + 2; i++) {
        slots[i] = open_slot(c, &session, i, 0);
        counters_add(slots[i], 0, i); /* beyond the end as well: nobody sees it */
    }
    CU_ASSERT_EQUAL(count_open(path), SLOTS);
    counters_close(c, slots[3]);
    counters_close(c, slots[SLOTS]);
    CU_ASSERT_EQUAL(count_open(path), SLOTS - 1);
    slots[3] = open_slot(c, &loop, 99, 0); /* the place is used again, from zero */
    struct counters_view *view = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_view_open(path, &view));
    CU_ASSERT_EQUAL(counters_view_owner(view).refused, 2);
    struct counters_reading r;
    uint32_t at = 3;
    CU_ASSERT_TRUE_FATAL(counters_view_next(view, &at, &r));
    CU_ASSERT_TRUE(r.ids[0] == 99 && r.values[0] == 0 && strcmp(r.type, "loop") == 0);
    counters_view_close(view);
    counters_free(c);
    unlink(path);
}

/* Without counters, without a file: the callers do not care. */
static void test_none(void)
{
    struct counters_slot *slot = open_slot(NULL, &session, 1, 2);
    counters_add(slot, 0, 1);
    counters_close(NULL, slot);
    struct counters *c = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_new(NULL, 4, &c));
    slot = open_slot(c, &session, 1, 2);
    counters_add(slot, 0, 1);
    counters_free(c);
    err_t err = counters_new("/nonexistent/counters", 4, &c);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), "/nonexistent/counters"));
    err_free(err);
}

static void test_expose(void)
{
    struct metrics_registry *registry = metrics_registry_new();
    struct counters *c = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_new(NULL, 4, &c));
    metrics_attach(registry, c);
    CU_ASSERT_PTR_EQUAL(metrics_counters(registry), c);
    CU_ASSERT_PTR_NULL(metrics_counters(NULL));
    for (uint64_t i = 0; i < 3; i++) {
        counters_set(open_slot(c, &session, i, 4), 1, 10 + i);
    }
    struct buf out = {0};
    counters_expose(c, 2, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out),
                           "# HELP tailrace_session_bytes_total Of each session, as in the "
                           "counters file.\n"
                           "# TYPE tailrace_session_bytes_total counter\n"
                           "tailrace_session_bytes_total{peer=\"0\",worker=\"4\"} 0\n"
                           "tailrace_session_bytes_total{peer=\"1\",worker=\"4\"} 0\n"
                           "# HELP tailrace_session_credit Of each session, as in the counters "
                           "file.\n"
                           "# TYPE tailrace_session_credit gauge\n"
                           "tailrace_session_credit{peer=\"0\",worker=\"4\"} 10\n"
                           "tailrace_session_credit{peer=\"1\",worker=\"4\"} 11\n"
                           "# HELP tailrace_session_left_out How many of them are not shown "
                           "here.\n"
                           "# TYPE tailrace_session_left_out gauge\n"
                           "tailrace_session_left_out 1\n");
    buf_clear(&out);
    metrics_expose(registry, &out);
    CU_ASSERT_PTR_NOT_NULL(strstr(buf_cstr(&out), "tailrace_session_credit{peer=\"2\""));
    buf_free(&out);
    metrics_registry_free(registry);
}

struct churn {
    struct counters *c;
    _Atomic bool stop;
};

/* Opens and closes slots whose two values always say the same as their id. */
static void *churn_run(void *arg)
{
    struct churn *churn = arg;
    for (uint64_t i = 1; !atomic_load_explicit(&churn->stop, memory_order_relaxed); i++) {
        struct counters_slot *slot = open_slot(churn->c, &session, i, i);
        counters_set(slot, 0, i);
        counters_close(churn->c, slot);
    }
    return NULL;
}

/* No reading mixes two lives of a slot. */
static void test_torn(void)
{
    char path[64];
    path_make(path);
    struct churn churn = {0};
    CU_ASSERT_PTR_NULL_FATAL(counters_new(path, 1, &churn.c));
    counters_close(churn.c, open_slot(churn.c, &session, 0, 0));
    pthread_t thread;
    CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, churn_run, &churn), 0);
    struct counters_view *view = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_view_open(path, &view));
    size_t seen = 0;
    for (int i = 0; seen < 1000 && i < 50000000; i++) {
        struct counters_reading r;
        uint32_t at = 0;
        if (counters_view_next(view, &at, &r)) {
            seen++;
            CU_ASSERT_TRUE_FATAL(r.ids[0] == r.ids[1]);
            CU_ASSERT_TRUE_FATAL(r.values[0] == r.ids[0] || r.values[0] == 0);
        }
    }
    atomic_store_explicit(&churn.stop, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    printf(" [%zu seen]", seen);
    CU_ASSERT_TRUE(seen > 0);
    counters_view_close(view);
    counters_free(churn.c);
    unlink(path);
}

/* Reads a file whatever it holds; in a child, so that a crash is a failure and not the end. */
static void read_damaged(const char *path, const uint8_t *bytes, size_t len)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    CU_ASSERT_TRUE_FATAL(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    close(fd);
    struct counters_view *view = NULL;
    err_t err = counters_view_open(path, &view);
    if (err != ERR_OK) {
        err_free(err);
        return;
    }
    uint32_t at = 0;
    size_t n = 0;
    struct counters_reading r;
    while (counters_view_next(view, &at, &r)) {
        n++;
        CU_ASSERT_TRUE_FATAL(strlen(r.type) < COUNTERS_NAME_MAX);
    }
    CU_ASSERT_TRUE(n <= SLOTS);
    counters_view_owner(view);
    counters_view_close(view);
}

static void test_damaged(void)
{
    char path[64];
    path_make(path);
    struct counters *c = NULL;
    CU_ASSERT_PTR_NULL_FATAL(counters_new(path, SLOTS, &c));
    open_slot(c, &session, 1, 2);
    open_slot(c, &loop, 1, 2);
    counters_free(c);
    static uint8_t good[HEAD_BYTES + SLOTS * sizeof(struct counters_slot)];
    static uint8_t bad[sizeof(good)];
    FILE *file = fopen(path, "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_EQUAL_FATAL(fread(good, 1, sizeof(good), file), sizeof(good));
    fclose(file);
    for (size_t i = 0; i < sizeof(good); i += i < 1024 || i >= HEAD_BYTES ? 1 : 61) {
        for (int value = 0; value < 256; value += 85) {
            memcpy(bad, good, sizeof(good));
            bad[i] = (uint8_t)value;
            read_damaged(path, bad, sizeof(bad));
        }
    }
    for (size_t len = 0; len < sizeof(good); len += 97) { /* cut short */
        read_damaged(path, good, len);
    }
    unlink(path);
}

static const struct test_case cases[] = {
    {"read live", test_read},         {"a full file", test_full},
    {"nowhere to count", test_none},  {"exposition", test_expose},
    {"no torn reading", test_torn},   {"damaged files", test_damaged},
};
TEST_SUITE("core/base counters", cases)
