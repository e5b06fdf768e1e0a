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
