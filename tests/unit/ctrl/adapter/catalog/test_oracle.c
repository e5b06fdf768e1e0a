/* The timestamp oracle: one order, also over restarts and when the clock goes back. */
#include "ctrl/adapter/catalog/catalog.h"
#include "tests/unit/ctrl/adapter/memory_stream.h"
#include "tests/unit/harness.h"

static struct oracle *open_oracle(struct io_loop *loop, uint64_t epoch)
{
    struct oracle *o = NULL;
    err_t err = oracle_open(loop, "oracle", epoch, &o);
    CU_ASSERT_PTR_NULL_FATAL(err);
    return o;
}

static uint64_t write_time(struct oracle *o)
{
    uint64_t t = 0;
    err_t err = oracle_write_time(o, &t);
    CU_ASSERT_PTR_NULL_FATAL(err);
    return t;
}

static void order(struct io_loop *loop, void *arg)
{
    struct oracle *o = open_oracle(loop, 1);
    uint64_t a = write_time(o);
    uint64_t b = write_time(o);
    CU_ASSERT_TRUE(b > a);
    CU_ASSERT_TRUE(oracle_read_time(o) < a); /* not acknowledged yet */
    CU_ASSERT_PTR_NULL(oracle_observe(o, b));
    CU_ASSERT_EQUAL(oracle_read_time(o), b);
    CU_ASSERT_PTR_NULL(oracle_observe(o, a)); /* late news changes nothing */
    CU_ASSERT_EQUAL(oracle_read_time(o), b);
    uint64_t closed = oracle_close_time(o);
    CU_ASSERT_TRUE(closed > b);
    CU_ASSERT_TRUE(write_time(o) >= closed);
    CU_ASSERT_PTR_NULL(oracle_observe(o, closed + 50));
    CU_ASSERT_TRUE(write_time(o) > closed + 50);
    oracle_free(o);
}

static void test_order(void)
{
    run_in_sim(order, NULL, NULL, 1000);
}

/* Times given out far ahead of the clock stand for a clock that was set back. */
static void restart(struct io_loop *loop, void *arg)
{
    uint64_t last = 0;
    for (uint64_t epoch = 1; epoch <= 5; epoch++) {
        struct oracle *o = open_oracle(loop, epoch);
        uint64_t t = write_time(o);
        CU_ASSERT_TRUE(t > last);
        CU_ASSERT_TRUE(oracle_read_time(o) >= last || last == 0);
        last = t + 10 * 1000 * 1000;
        CU_ASSERT_PTR_NULL(oracle_observe(o, last));
        oracle_free(o);
    }
}

static void test_restart(void)
{
    run_in_sim(restart, NULL, NULL, 1000);
}

/* A torn slot is ignored: the other slots hold older bounds, and the clock covers the rest. */
static void damage(struct io_loop *loop, void *arg)
{
    struct oracle *o = open_oracle(loop, 1);
    uint64_t t = write_time(o);
    CU_ASSERT_PTR_NULL(oracle_observe(o, t + 5000000));
    oracle_free(o);
    struct io_file *file = NULL;
    CU_ASSERT_PTR_NULL_FATAL(io_file_open(loop, "oracle", IO_OPEN_READ | IO_OPEN_WRITE, &file));
    uint8_t junk[512];
    memset(junk, 0x5a, sizeof(junk));
    CU_ASSERT_PTR_NULL(io_file_write_sync(file, 1024, junk, sizeof(junk)));
    io_file_close(file);
    o = open_oracle(loop, 2);
    CU_ASSERT_TRUE(write_time(o) > t + 5000000);
    oracle_free(o);
}

static void test_damage(void)
{
    run_in_sim(damage, NULL, NULL, 1000);
}

struct ticking {
    struct io_loop *loop;
    struct oracle *oracle;
    struct io_timer timer;
    uint64_t last;
    int left;
};

static void on_tick(struct io_timer *timer)
{
    struct ticking *t = CONTAINER_OF(timer, struct ticking, timer);
    uint64_t now = write_time(t->oracle);
    CU_ASSERT_TRUE(now > t->last);
    t->last = now;
    if (--t->left > 0) {
        io_timer_start(t->loop, timer, io_now_us(t->loop) + 20 * 1000);
    }
}

static void start_ticking(struct io_loop *loop, void *arg)
{
    struct ticking *t = arg;
    t->loop = loop;
    t->oracle = open_oracle(loop, 1);
    t->timer.fire = on_tick;
    io_timer_start(loop, &t->timer, io_now_us(loop));
}

static void stop_ticking(void *arg)
{
    struct ticking *t = arg;
    CU_ASSERT_EQUAL(t->left, 0);
    oracle_free(t->oracle);
}

/* In steady use the bound moves ahead in the background. */
static void test_background(void)
{
    struct ticking t = {.left = 100};
    run_in_sim(start_ticking, stop_ticking, &t, 10 * 1000 * 1000);
}

static const struct test_case cases[] = {
    {"order", test_order},
    {"restart", test_restart},
    {"damage", test_damage},
    {"background", test_background},
};
TEST_SUITE("catalog/oracle", cases)
