/*
 * What the figures rest on: histograms say what was put into them, a load finds every lost, doubled
 * or torn message and measures no longer and no shorter than it promised, medians and goals are
 * what the words say.
 */
#include "tests/unit/harness.h"

#include "bench/load.h"
#include "bench/report.h"
#include "core/base/mem.h"

#include <string.h>

/* ---- histograms ------------------------------------------------------------------------------ */

static void test_hist_quantiles(void)
{
    struct hist *hist = MEM_NEW(struct hist);
    for (uint64_t v = 1; v <= 100000; v++) {
        hist_add(hist, v);
    }
    static const double shares[] = {0.001, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        double exact = shares[i] * 100000;
        double found = (double)hist_quantile(hist, shares[i]);
        CU_ASSERT_TRUE(found > exact * 0.984 - 1 && found < exact * 1.016 + 1);
    }
    CU_ASSERT_EQUAL(hist->max, 100000);
    CU_ASSERT_EQUAL(hist_quantile(hist, 1), 100000);
    free(hist);
}

static void test_hist_extremes(void)
{
    struct hist *hist = MEM_NEW(struct hist);
    CU_ASSERT_EQUAL(hist_quantile(hist, 0.5), 0); /* empty */
    hist_add(hist, 0);
    CU_ASSERT_EQUAL(hist_quantile(hist, 0.5), 0);
    hist_add(hist, UINT64_MAX);
    CU_ASSERT_EQUAL(hist->max, UINT64_MAX);
    CU_ASSERT_TRUE(hist_quantile(hist, 1) > UINT64_MAX / 64 * 63);
    free(hist);
}

static void test_hist_merge(void)
{
    struct hist *a = MEM_NEW(struct hist);
    struct hist *b = MEM_NEW(struct hist);
    struct hist *all = MEM_NEW(struct hist);
    for (uint64_t v = 1; v < 5000; v++) {
        hist_add(v % 3 == 0 ? a : b, v * v);
        hist_add(all, v * v);
    }
    hist_merge(a, b);
    CU_ASSERT_EQUAL(memcmp(a, all, sizeof(*a)), 0);
    free(a);
    free(b);
    free(all);
}

/* ---- loads ----------------------------------------------------------------------------------- */

enum { WORDS = 8 };

static const struct load_shape flood = {.pattern = LOAD_FLOOD, .wait = LOAD_SPIN,
                                        .bytes = WORDS * sizeof(uint64_t), .batch = 1,
                                        .run_ns = 1000 * 1000};

/* Both sides of a flood in this process. */
struct pair {
    struct load_figures *figures[2];
    struct load child;
    struct load parent;
};

static void pair_init(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        pair->figures[i] = MEM_NEW(struct load_figures);
    }
    load_init(&pair->child, &flood, false, pair->figures[0]);
    load_init(&pair->parent, &flood, true, pair->figures[1]);
}

static void pair_free(struct pair *pair)
{
    free(pair->figures[0]);
    free(pair->figures[1]);
}

static void test_load_whole(void)
{
    struct pair pair;
    uint64_t words[WORDS];
    pair_init(&pair);
    CU_ASSERT_TRUE(load_sends(&pair.child));
    CU_ASSERT_FALSE(load_sends(&pair.parent));
    for (int i = 0; i < 10; i++) {
        load_fill(&pair.child, words);
        load_take(&pair.parent, words);
    }
    CU_ASSERT_EQUAL(pair.parent.received, 10);
    CU_ASSERT_FALSE(pair.parent.torn);
    CU_ASSERT_EQUAL(pair.figures[1]->lost, 0);
    pair_free(&pair);
}

/* Each word in turn is one off: the message's number is another one, the rest does not add up. The
 * due time, word 1, is nobody's to check. */
static void test_load_torn(void)
{
    for (int bad = 2; bad < WORDS; bad++) {
        struct pair pair;
        uint64_t words[WORDS];
        pair_init(&pair);
        load_fill(&pair.child, words);
        words[bad]++;
        load_take(&pair.parent, words);
        CU_ASSERT_TRUE(pair.parent.torn);
        pair_free(&pair);
    }
}

static void test_load_lost_and_doubled(void)
{
    struct pair pair;
    uint64_t words[WORDS];
    pair_init(&pair);
    for (int i = 0; i < 10; i++) {
        load_fill(&pair.child, words);
        if (i != 3 && i != 4) {
            load_take(&pair.parent, words);
        }
    }
    CU_ASSERT_EQUAL(pair.figures[1]->lost, 2);
    CU_ASSERT_FALSE(pair.parent.torn);
    load_take(&pair.parent, words); /* the last one again */
    CU_ASSERT_TRUE(pair.parent.torn);
    pair_free(&pair);
}

/* A warm-up first, then as long as promised, also when the first look at the clock comes late. */
static void test_load_clock(void)
{
    struct pair pair;
    pair_init(&pair);
    struct load *load = &pair.parent;
    uint64_t run = flood.run_ns;
    load_clock(load, 1000);
    CU_ASSERT_FALSE(load->counting);
    load->received = 100;
    load_clock(load, 1000 + 50 * run);
    CU_ASSERT_TRUE(load->counting);
    load->received = 150;
    load_clock(load, 1000 + 51 * run - 1);
    CU_ASSERT_FALSE(load->over);
    load_clock(load, 1000 + 51 * run);
    CU_ASSERT_TRUE(load->over);
    CU_ASSERT_EQUAL(pair.figures[1]->messages, 50);
    CU_ASSERT_EQUAL(pair.figures[1]->ns, run);
    pair_free(&pair);
}

/* Due times do not wait for anybody: after a stall several are due at once. */
static void test_load_due(void)
{
    struct load_shape paced = {.pattern = LOAD_PACED, .bytes = 64, .interval_ns = 100};
    struct load_figures *figures = MEM_NEW(struct load_figures);
    struct load load;
    int due = 0;
    load_init(&load, &paced, false, figures);
    CU_ASSERT_TRUE(load_due(&load, 5000));
    load.due_ns += paced.interval_ns;
    CU_ASSERT_FALSE(load_due(&load, 5099));
    for (; load_due(&load, 5500); load.due_ns += paced.interval_ns) {
        due++;
    }
    CU_ASSERT_EQUAL(due, 5);
    free(figures);
}

/* ---- the machine's clock --------------------------------------------------------------------- */

static void test_clock(void)
{
    uint64_t before = machine_now_ns();
    machine_clock_start();
    uint64_t start = machine_now_ns();
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t kernel = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    CU_ASSERT_TRUE(start >= before);
    /* One scale and one origin: within a second even if this process was put aside between. */
    CU_ASSERT_TRUE(kernel + 1000000000u > start && start + 1000000000u > kernel);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = machine_now_ns();
        CU_ASSERT_TRUE_FATAL(now >= start);
        start = now;
    }
}

/* ---- reports --------------------------------------------------------------------------------- */

static void test_report_goals(void)
{
    struct report report;
    report_init(&report, "test");
    static const double values[] = {5, 1, 3};
    report_group(&report, "a");
    for (size_t i = 0; i < 3; i++) {
        report_goal(&report, "row", "at most", values[i], REPORT_AT_MOST, 3);
        report_goal(&report, "row", "at least", values[i], REPORT_AT_LEAST, 3.5);
    }
    report_group(&report, "b"); /* another table: another figure of the same name */
    report_add(&report, "row", "at most", 100);
    report_group(&report, "a");
    report_text(&report, "row", "placed", "near");
    report_text(&report, "row", "placed", "far");
    CU_ASSERT_EQUAL_FATAL(report.figures_len, 4);
    CU_ASSERT_EQUAL(report_median(&report.figures[0]), 3);
    CU_ASSERT_TRUE(report_met(&report.figures[0]));
    CU_ASSERT_FALSE(report_met(&report.figures[1]));
    CU_ASSERT_EQUAL(report_median(&report.figures[2]), 100);
    CU_ASSERT_STRING_EQUAL(report.figures[3].text, "mixed");
    report_free(&report);
}

static const struct test_case cases[] = {
    {"quantiles", test_hist_quantiles},
    {"least and largest values", test_hist_extremes},
    {"merging", test_hist_merge},
    {"a load that arrives whole", test_load_whole},
    {"a torn message", test_load_torn},
    {"lost and doubled messages", test_load_lost_and_doubled},
    {"the length of a run", test_load_clock},
    {"due times", test_load_due},
    {"the clock", test_clock},
    {"medians, goals, groups", test_report_goals},
};
TEST_SUITE("bench", cases)
