/* What a runtime says it counts is checked: shapes, names, bounds, page after page. */
#include "core/base/mem.h"
#include "ctrl/controller/controller_internal.h"
#include "tests/unit/harness.h"

enum { ROWS_MAX = 3 };

/* A part of a report, fed with pages. */
struct part {
    struct controller_report *report;
    struct controller_process_report *p;
};

static struct part part_new(void)
{
    struct part part = {.report = MEM_NEW(struct controller_report)};
    part.p = VEC_PUSH(part.report, processes);
    *part.p = (struct controller_process_report){.service = mem_strdup("storage")};
    return part;
}

static void accepts(struct part *part, const tailrace_v1_Stats *page)
{
    err_t err = report_take(page, ROWS_MAX, part->p);
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
}

static void refuses(struct part *part, const tailrace_v1_Stats *page, const char *text)
{
    err_t err = report_take(page, ROWS_MAX, part->p);
    CU_ASSERT_FATAL(err != ERR_OK);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), text));
    err_free(err);
}

/* A page with one table of one id and one value a row. */
static void table_page(struct part *part, const char *name, uint64_t *numbers, size_t len,
                       const char *refused)
{
    char *ids[] = {(char[]){"worker"}};
    char *values[] = {(char[]){"spins"}};
    char copy[64];
    snprintf(copy, sizeof(copy), "%s", name);
    tailrace_v1_CounterTable table = {.name = copy, .ids = ids, .ids_count = 1, .values = values,
                                      .values_count = 1, .numbers = numbers,
                                      .numbers_count = (pb_size_t)len};
    const tailrace_v1_Stats page = {.counters = &table, .counters_count = 1, .omitted = 2};
    if (refused == NULL) {
        accepts(part, &page);
    } else {
        refuses(part, &page, refused);
    }
}

static void test_tables(void)
{
    struct part part = part_new();
    uint64_t numbers[] = {0, 10, 1, 11, 2, 12, 3, 13};
    table_page(&part, "loop", numbers, 2, NULL);
    table_page(&part, "loop", numbers + 2, 4, NULL);
    CU_ASSERT_EQUAL(part.p->counters_len, 1);
    CU_ASSERT_EQUAL(part.p->counters[0].rows, 3);
    CU_ASSERT_EQUAL(part.p->counters[0].numbers[5], 12);
    CU_ASSERT_EQUAL(part.p->omitted, 4);
    table_page(&part, "loop", numbers, 2, "more rows");
    table_page(&part, "other", numbers, 8, "more rows");
    table_page(&part, "other", numbers, 3, "3 numbers in rows of 2");
    table_page(&part, "", numbers, 2, "without a name");
    table_page(&part, "Other", numbers, 2, "without a name");
    table_page(&part, "a name that is longer than names are", numbers, 2, "without a name");
    for (char name[] = "b"; part.p->counters_len < CONTROLLER_TABLES_MAX; name[0]++) {
        table_page(&part, name, numbers, 2, NULL);
    }
    table_page(&part, "z", numbers, 2, "types of counters");
    controller_report_free(part.report);
}

static void test_shapes(void)
{
    struct part part = part_new();
    uint64_t numbers[64] = {0};
    table_page(&part, "loop", numbers, 2, NULL);
    char name[] = "n";
    char *names[16];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        names[i] = name;
    }
    tailrace_v1_CounterTable table = {.name = (char[]){"loop"}, .values = names, .values_count = 2,
                                      .numbers = numbers, .numbers_count = 2};
    const tailrace_v1_Stats page = {.counters = &table, .counters_count = 1};
    refuses(&part, &page, "change their shape");
    table.name = (char[]){"wide"};
    table.values_count = 13;
    table.numbers_count = 13;
    refuses(&part, &page, "numbers of a kind");
    table.values_count = 0;
    table.ids = names;
    table.ids_count = 4;
    refuses(&part, &page, "numbers of a kind");
    table.ids_count = 0;
    table.numbers_count = 0;
    refuses(&part, &page, "rows of 0");
    table.values_count = 1;
    names[0] = (char[]){"\n"};
    refuses(&part, &page, "no name");
    controller_report_free(part.report);
}

static void test_operators(void)
{
    struct part part = part_new();
    tailrace_v1_OperatorStats rows[ROWS_MAX + CONTROLLER_WORKERS_MAX + 1];
    char name[] = "map/filter/project";
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        rows[i] = (tailrace_v1_OperatorStats){.dataflow = 5, .node = (uint32_t)i,
                                              .name = name};
    }
    tailrace_v1_Stats page = {.operators = rows, .operators_count = ARRAY_LEN(rows)};
    refuses(&part, &page, "more rows");
    page.operators_count = 2;
    accepts(&part, &page);
    CU_ASSERT_EQUAL(part.p->operators_len, 2);
    CU_ASSERT_EQUAL(part.p->operators[1].node, 1);
    page.operators_count = ARRAY_LEN(rows) - 1;
    refuses(&part, &page, "more rows"); /* with those there */
    page.operators_count = 1;
    rows[0].node = CONTROLLER_OPERATORS_MAX;
    refuses(&part, &page, "operator");
    rows[0].node = 0;
    rows[0].name = NULL;
    refuses(&part, &page, "operator");
    tailrace_v1_CollectionStats collections[ROWS_MAX + CONTROLLER_WORKERS_MAX + 1] = {{.id = 1}};
    page = (tailrace_v1_Stats){.collections = collections,
                               .collections_count = ARRAY_LEN(collections)};
    refuses(&part, &page, "more rows");
    page.collections_count = 1;
    accepts(&part, &page);
    CU_ASSERT_EQUAL(part.p->collections_len, 1);
    controller_report_free(part.report);
}

static const struct test_case cases[] = {
    {"tables", test_tables},
    {"shapes", test_shapes},
    {"operators", test_operators},
};
TEST_SUITE("controller/report", cases)
