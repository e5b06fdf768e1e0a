/*
 * The one main() of every unit test program. A test file lists its cases:
 *
 *     static const struct test_case cases[] = {{"name", function}, ...};
 *     TEST_SUITE("core/base", cases)
 *
 * Run with arguments to select cases by substring; --list prints them.
 */
#ifndef TAILRACE_TESTS_UNIT_HARNESS_H
#define TAILRACE_TESTS_UNIT_HARNESS_H

#include <CUnit/CUnit.h>
#include <stddef.h>
#include <stdint.h>

struct test_case {
    const char *name;
    void (*run)(void);
};

struct test_suite {
    const char *name;
    const struct test_case *cases;
    size_t cases_len;
    struct test_suite *next;
};

/*
 * How many of so many random cases to run: TAILRACE_TEST_SCALE percent of them (more than 100 for
 * long runs), at least one. Unless set: all, but a tenth under the thread sanitizer, which is ten
 * to twenty times slower; the other builds run all of them.
 */
uint64_t test_scaled(uint64_t cases);
/* The same for a test that goes through everything: the step, 1 when all cases are run. */
uint64_t test_stride(void);

/* Called before main by TEST_SUITE; a program may hold several suites. */
void test_suite_register(struct test_suite *suite);

#define TEST_SUITE(suite_name, suite_cases)                                                        \
    static struct test_suite test_suite_here = {suite_name, suite_cases,                           \
                                                sizeof(suite_cases) / sizeof(suite_cases[0]),      \
                                                NULL};                                             \
    __attribute__((constructor)) static void test_suite_here_register(void)                        \
    {                                                                                              \
        test_suite_register(&test_suite_here);                                                     \
    }

#endif
