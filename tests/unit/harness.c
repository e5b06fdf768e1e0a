/* Runs the registered CUnit suites; exit status 1 when any assertion failed. */
#include "tests/unit/harness.h"

#include <CUnit/Basic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct test_suite *suites;

void test_suite_register(struct test_suite *suite)
{
    suite->next = suites;
    suites = suite;
}

static uint64_t scale_percent(void)
{
    const char *text = getenv("TAILRACE_TEST_SCALE");
    if (text != NULL) {
        return strtoull(text, NULL, 10);
    }
#if defined(__SANITIZE_THREAD__)
    return 10;
#else
    return 100;
#endif
}

uint64_t test_scaled(uint64_t cases)
{
    uint64_t scaled = cases * scale_percent() / 100;
    return scaled > 0 ? scaled : 1;
}

uint64_t test_stride(void)
{
    uint64_t percent = scale_percent();
    return percent == 0 || percent >= 100 ? 1 : 100 / percent;
}

static int selected(const char *name, int argc, char **argv)
{
    if (argc < 2) {
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        if (strstr(name, argv[i]) != NULL) {
            return 1;
        }
    }
    return 0;
}

static void add_suite(const struct test_suite *suite, int argc, char **argv)
{
    CU_pSuite cu_suite = CU_add_suite(suite->name, NULL, NULL);
    if (cu_suite == NULL) {
        fprintf(stderr, "cannot add suite %s: %s\n", suite->name, CU_get_error_msg());
        exit(2);
    }
    for (size_t i = 0; i < suite->cases_len; i++) {
        if (!selected(suite->cases[i].name, argc, argv)) {
            continue;
        }
        if (CU_add_test(cu_suite, suite->cases[i].name, suite->cases[i].run) == NULL) {
            fprintf(stderr, "cannot add test %s: %s\n", suite->cases[i].name, CU_get_error_msg());
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (struct test_suite *s = suites; s != NULL; s = s->next) {
            for (size_t i = 0; i < s->cases_len; i++) {
                printf("%s: %s\n", s->name, s->cases[i].name);
            }
        }
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 2;
    }
    for (struct test_suite *s = suites; s != NULL; s = s->next) {
        add_suite(s, argc, argv);
    }
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    unsigned failed = CU_get_number_of_failures();
    unsigned ran = CU_get_number_of_tests_run();
    CU_cleanup_registry();
    if (ran == 0) {
        fprintf(stderr, "no test selected\n");
        return 2;
    }
    return failed == 0 ? 0 : 1;
}
