/*
 * The timing wheel against a plain list: times near and far, turned by steps of every size. What
 * comes out is what is due, all of it and nothing else, and memory goes with the rows.
 */
#include "core/engine/wheel.h"
#include "tests/unit/core/engine/host.h"
#include "tests/unit/harness.h"

enum { COLS = 2 };

static const uint8_t kinds[COLS] = {TYPE_INT8, TYPE_TEXT};

/* Updates of one kind of row: the first column says which. */
struct held {
    uint64_t time;
    int64_t row, diff;
};

struct world {
    struct rng rng;
    struct account account;
    struct wheel wheel;
    struct held *held;
    size_t held_len, held_cap;
    struct batch_builder *rows;
};

static void set_up(struct world *w, uint64_t seed, uint64_t base)
{
    *w = (struct world){.rng = {seed}};
    w->rows = batch_builder_new(kinds, COLS);
    wheel_init(&w->wheel, kinds, COLS, &w->account, base);
}

static void tear_down(struct world *w)
{
    wheel_free(&w->wheel);
    CU_ASSERT_EQUAL(w->account.bytes, 0);
    batch_builder_free(w->rows);
    free(w->held);
}

static void put(struct world *w, uint64_t time, int64_t row, int64_t diff)
{
    struct datum d[COLS] = {{.i = row}, {.s = "text", .len = (uint32_t)(row & 3)}};
    batch_builder_datum(w->rows, 0, &d[0]);
    batch_builder_datum(w->rows, 1, &d[1]);
    batch_builder_end_row(w->rows, time, diff);
    *VEC_PUSH(w, held) = (struct held){time, row, diff};
}

/* What was put goes to the wheel. */
static void add(struct world *w)
{
    struct view view = view_of(w->rows, COLS);
    uint32_t n = view.batch.rows;
    uint32_t *sel = mem_alloc(n * sizeof(sel[0]));
    for (uint32_t i = 0; i < n; i++) {
        sel[i] = i;
    }
    wheel_add(&w->wheel, &view.batch, sel, n);
    free(sel);
    view_free(&view);
    batch_builder_reset(w->rows);
}

/* Of a row at a time; what came out is taken off. */
static void take_off(struct world *w, const struct batch *b, uint64_t upper)
{
    for (uint32_t i = 0; i < b->rows; i++) {
        struct datum d;
        batch_datum(&b->col[0], i, &d);
        CU_ASSERT_FATAL(batch_time(b, i) < upper);
        *VEC_PUSH(w, held) = (struct held){batch_time(b, i), d.i, -batch_diff(b, i)};
    }
}

static int compare_held(const void *pa, const void *pb)
{
    const struct held *a = pa;
    const struct held *b = pb;
    if (a->time != b->time) {
        return a->time < b->time ? -1 : 1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Adds up; nothing before upper may be left. */
static void settle(struct world *w, uint64_t upper)
{
    size_t kept = 0;
    qsort(w->held, w->held_len, sizeof(w->held[0]), compare_held);
    for (size_t i = 0; i < w->held_len; i++) {
        if (kept > 0 && compare_held(&w->held[kept - 1], &w->held[i]) == 0) {
            w->held[kept - 1].diff += w->held[i].diff;
        } else {
            w->held[kept++] = w->held[i];
        }
        kept -= w->held[kept - 1].diff == 0;
    }
    w->held_len = kept;
    CU_ASSERT_FATAL(kept == 0 || w->held[0].time >= upper);
}

static void drain(struct world *w, uint64_t upper)
{
    struct chunk *out;
    uint32_t rows;
    while (wheel_turn(&w->wheel, upper, &out, &rows)) {
        chunk_unref(out);
    }
    w->held_len = 0;
}

static void turn_to(struct world *w, uint64_t upper)
{
    struct chunk *out;
    uint32_t rows;
    while (wheel_turn(&w->wheel, upper, &out, &rows)) {
        CU_ASSERT(out == NULL || rows > 0);
        if (out != NULL) {
            take_off(w, &out->batch, upper);
        }
        chunk_unref(out);
    }
    settle(w, upper);
    CU_ASSERT_FATAL(w->wheel.rows >= w->held_len);
}

/* A distance with any number of bits. */
static uint64_t distance(struct rng *rng, uint32_t bits)
{
    return rng_next(rng) >> (64 - 1 - rng_below(rng, bits));
}

static void random_run(uint64_t seed, uint64_t base, uint32_t bits)
{
    struct world w;
    uint64_t now = base;
    set_up(&w, seed, base);
    for (int round = 0; round < 60; round++) {
        uint64_t n = rng_below(&w.rng, 200);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t ahead = distance(&w.rng, bits);
            uint64_t time = ahead > TIME_MAX - now ? TIME_MAX : now + ahead;
            bool again = w.held_len > 0 && rng_below(&w.rng, 3) == 0;
            struct held h = again ? w.held[rng_below(&w.rng, w.held_len)]
                                  : (struct held){time, (int64_t)rng_below(&w.rng, 50), -1};
            put(&w, h.time < now ? now : h.time, h.row, h.diff > 0 ? -1 : 1);
        }
        add(&w);
        uint64_t step = distance(&w.rng, bits);
        now = step > TIME_MAX - now ? TIME_MAX : now + step;
        turn_to(&w, now);
    }
    turn_to(&w, FRONTIER_EMPTY);
    CU_ASSERT_EQUAL(w.held_len, 0);
    CU_ASSERT_EQUAL(w.wheel.rows, 0);
    CU_ASSERT_EQUAL(w.account.bytes, 0);
    tear_down(&w);
}

static void test_random(void)
{
    for (uint64_t seed = 1; seed <= test_scaled(40) + 4; seed++) {
        random_run(seed, seed % 3 == 0 ? 1732000000000000 : seed, 1 + seed % 60);
    }
    random_run(99, TIME_MAX - 1000, 9);
}

/* Rows that are taken back before their time leave nothing, in whatever order. */
static void test_taken_back(void)
{
    enum { ROWS = 20000 };
    struct world w;
    set_up(&w, 1, 5);
    for (int64_t i = 0; i < ROWS; i++) {
        put(&w, 1000000 + (uint64_t)i * 37, i, -1);
    }
    add(&w);
    CU_ASSERT_EQUAL(w.wheel.rows, ROWS);
    uint64_t full = w.account.bytes;
    CU_ASSERT(full >= ROWS * 16 && full < ROWS * 64);
    for (int64_t i = ROWS; i-- > 0;) {
        put(&w, 1000000 + (uint64_t)i * 37, i, 1);
        if (i % 100 == 0) {
            add(&w);
        }
        if (i == ROWS / 2) {
            CU_ASSERT(w.account.bytes < full + full / 2);
        }
    }
    CU_ASSERT_EQUAL(w.wheel.rows, 0);
    CU_ASSERT_EQUAL(w.account.bytes, 0);
    turn_to(&w, 2000000);
    tear_down(&w);
}

/* The first n of many updates at as many times, in pieces. */
static void put_many(struct world *w, int64_t many, int64_t n, int64_t kinds_of_rows, int64_t diff)
{
    for (int64_t i = 0; i < n; i++) {
        put(w, (1ULL << 40) + (uint64_t)(i * 7919 % many) * 1000, i % kinds_of_rows, diff);
        if (i % 1000 == 999) {
            add(w);
            w->held_len = 0;
        }
    }
}

/* More rows than are consolidated at once, all different or alike but for their times, taken back
 * in the order they came. */
static void taken_back_later(int64_t kinds_of_rows)
{
    enum { ROWS = 8 * WHEEL_TIDY_ROWS / 1000 * 1000 };
    struct world w;
    set_up(&w, 3, 5);
    put_many(&w, ROWS, ROWS, kinds_of_rows, -1);
    CU_ASSERT_EQUAL(w.wheel.rows, ROWS);
    put_many(&w, ROWS, ROWS, kinds_of_rows, 1);
    CU_ASSERT_EQUAL(w.wheel.rows, 0);
    CU_ASSERT_EQUAL(w.account.bytes, 0);
    put_many(&w, ROWS, ROWS, kinds_of_rows, -1);
    put_many(&w, ROWS, ROWS / 10 / 1000 * 1000, kinds_of_rows, 1);
    struct chunk *out;
    uint32_t rows;
    uint64_t came = 0;
    while (wheel_turn(&w.wheel, TIME_MAX, &out, &rows)) { /* in steps that are not long */
        CU_ASSERT(rows <= WHEEL_TIDY_ROWS);
        came += out != NULL ? out->batch.rows : 0;
        chunk_unref(out);
    }
    CU_ASSERT_EQUAL(came, ROWS - ROWS / 10 / 1000 * 1000);
    CU_ASSERT_EQUAL(w.account.bytes, 0);
    tear_down(&w);
}

static void test_taken_back_later(void)
{
    taken_back_later(1 << 20);
    taken_back_later(1);
}

/* Given up while a slot is consolidated. */
static void test_given_up(void)
{
    struct world w;
    struct chunk *out;
    uint32_t rows;
    set_up(&w, 4, 5);
    put_many(&w, 100000, 100000, 7, -1);
    put_many(&w, 100000, 1000, 7, 1);
    for (int i = 0; i < 5; i++) {
        CU_ASSERT(wheel_turn(&w.wheel, TIME_MAX, &out, &rows) && out == NULL);
    }
    tear_down(&w);
}

/* A window that moves along keeps its rows and no more. */
static void test_bounded(void)
{
    enum { WINDOW = 1 << 20, STEP = 1 << 10, PER_STEP = 50 };
    struct world w;
    uint64_t most = 0;
    set_up(&w, 2, 0);
    for (uint64_t now = 0; now < 8ULL * WINDOW; now += STEP) {
        for (int64_t i = 0; i < PER_STEP; i++) {
            put(&w, now + WINDOW + rng_below(&w.rng, STEP), i, -1);
        }
        add(&w);
        drain(&w, now);
        most = w.wheel.rows > most ? w.wheel.rows : most;
    }
    CU_ASSERT(most >= WINDOW / STEP * PER_STEP);
    CU_ASSERT(most <= (WINDOW / STEP + 2) * PER_STEP);
    drain(&w, FRONTIER_EMPTY);
    CU_ASSERT_EQUAL(w.account.bytes, 0);
    tear_down(&w);
}

static const struct test_case cases[] = {
    {"random", test_random},
    {"taken back", test_taken_back},
    {"taken back later", test_taken_back_later},
    {"given up", test_given_up},
    {"bounded", test_bounded},
};
TEST_SUITE("core/engine timing wheel", cases)
