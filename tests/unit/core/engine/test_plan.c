/* Plans: what validation refuses, EXPLAIN, equality. */
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static const uint8_t kinds[] = {TYPE_INT8, TYPE_TEXT, TYPE_BOOL, TYPE_NUMERIC};
static const uint32_t col0[] = {0};
static const uint32_t col1[] = {1};

enum { SOURCE, FILTER, JOIN, REDUCE, TOPK, UNION, CONSTANT, TEMPORAL, ARRANGE, INDEX,
       LOOKUP, BEFORE, EXPORTS };

/* One of everything. */
static struct plan *example(uint64_t transient)
{
    struct plan *p = plan_new();
    static const uint32_t all[] = {0, 1, 2, 3};
    struct plan_agg aggs[] = {{.func = AGG_COUNT_ALL},
                              {.func = AGG_SUM, .arg = 3, .distinct = true},
                              {.func = AGG_MAX, .arg = 1, .has_filter = true, .filter = 2}};
    struct plan_order order = {.col = 1, .desc = true, .nulls_first = true};
    p->name = arena_strdup(&p->arena, "example");
    p->as_of = 5;
    plan_source(p, 1, kinds, 4);
    plan_filter(p, SOURCE, 0, all, 4);
    plan_join(p, PLAN_JOIN_INNER, SOURCE, FILTER, col0, col0, 1, false);
    plan_reduce(p, JOIN, col0, 1, aggs, 3);
    plan_topk(p, SOURCE, col1, 1, &order, 1, 2, 3);
    plan_union(p, SOURCE, TOPK);
    struct plan_node constant = {.op = PLAN_CONSTANT};
    constant.schema = plan_schema(p, kinds, 1);
    constant.constant.rows = ARENA_ARRAY(&p->arena, struct datum, 2);
    constant.constant.diffs = ARENA_ARRAY(&p->arena, int64_t, 2);
    constant.constant.rows_len = 2;
    constant.constant.rows[0].i = 42;
    constant.constant.rows[1].null = true;
    constant.constant.diffs[0] = 1;
    constant.constant.diffs[1] = 3;
    plan_add(p, &constant);
    static const struct plan_temporal_bound bounds[] = {{PLAN_TEMPORAL_FROM, 0},
                                                        {PLAN_TEMPORAL_BEFORE, 0}};
    plan_temporal(p, SOURCE, bounds, 2, 3);
    plan_arrange(p, FILTER, col0, 1, false);
    plan_index(p, 2, kinds, 4);
    plan_index_keys(p, INDEX, col1, 1);
    plan_lookup(p, SOURCE, ARRANGE, col0, 1, false);
    plan_lookup(p, SOURCE, INDEX, col1, 1, true);
    p->nodes[BEFORE].lookup.before = p->nodes[BEFORE].lookup.later = true;
    plan_export_index(p, 9, REDUCE, col0, 1);
    plan_export_subscribe(p, PLAN_ID_TRANSIENT | transient, UNION, false, 100);
    return p;
}

static void test_print(void)
{
    struct plan *p = example(7);
    struct buf out = {0};
    CU_ASSERT_PTR_NULL(plan_validate(p));
    plan_print(p, &out);
    const char *text = buf_cstr(&out);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Export index u9 keys=(#0)\n  Reduce group=(#0) "
                                        "aggregates=(count(*), sum(distinct #3), "
                                        "max(#1) filter #2)\n"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "Lookup on=(#1 IS NOT DISTINCT FROM #1) before without snapshot\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "InnerJoin on=(#0 = #0)\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "$0 = Source u1\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Get $0\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Export subscribe t7 without snapshot until=100\n"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "TopK group=(#1) order=(#1 desc nulls first) limit=3 offset=2\n"));
    CU_ASSERT_PTR_NOT_NULL(
        strstr(text, "Temporal filter mz_now() >= #0 and mz_now() < #0\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "Constant rows=2 (42) (NULL)x3\n"));
    /* Each node once: as many heads as nodes, the rest are references. */
    CU_ASSERT_PTR_NULL(strstr(strstr(text, "Source u1") + 1, "Source u1"));
    buf_free(&out);
    plan_free(p);
}

static void note(void *arg, uint32_t op, struct buf *out)
{
    buf_printf(out, " [%u]", op);
}

/* Source u1 is orders(id, customer, total, state); nothing else is known. */
static const char *object(void *arg, uint64_t id, const struct schema **columns)
{
    *columns = arg;
    return id == 1 ? "orders" : NULL;
}

/* Names of a relation's columns follow them through the plan; twins are told apart. */
static void test_words(void)
{
    struct plan *p = example(7);
    const char *names[] = {"id", "customer", "total", "state"};
    struct type types[4] = {{0}};
    struct schema columns = {.cols = 4, .types = types, .names = names};
    const struct plan_words words = {.note = note, .object = object, .arg = &columns};
    struct buf out = {0};
    plan_print_words(p, &words, &out);
    const char *text = buf_cstr(&out);
    static const char *const pieces[] = {
        "Export index u9 keys=(id#0) [12]\n",
        "Reduce group=(id#0) aggregates=(count(*), sum(distinct state#3), max(customer#1) filter "
        "total#2) [3]\n",
        "InnerJoin on=(id = id) [2]\n",
        "$0 = Source u1 (orders) [0]\n",
        "TopK group=(customer) order=(customer desc nulls first) limit=3 offset=2 [4]\n"};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        if (strstr(text, pieces[i]) == NULL) {
            fprintf(stderr, "no \"%s\" in\n%s", pieces[i], text);
            CU_FAIL("the words differ");
        }
    }
    struct plan_printer *printer = plan_printer_new(p, &words);
    buf_clear(&out);
    plan_printer_line(printer, JOIN, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "InnerJoin on=(id = id)");
    buf_clear(&out);
    plan_printer_line(printer, EXPORTS, &out);
    CU_ASSERT_STRING_EQUAL(buf_cstr(&out), "Export index u9 keys=(id#0)");
    plan_printer_free(printer);
    buf_free(&out);
    plan_free(p);
}

static void test_equal(void)
{
    struct plan *a = example(7);
    struct plan *b = example(8); /* transient ids do not matter */
    b->as_of = 99;
    CU_ASSERT(plan_equal(a, b));
    b->nodes[SOURCE].import.id = 2;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[SOURCE].import.id = 1;
    b->nodes[CONSTANT].constant.rows[0].i = 43;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[CONSTANT].constant.rows[0].i = 42;
    b->nodes[REDUCE].reduce.aggs[1].distinct = false;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[REDUCE].reduce.aggs[1].distinct = true;
    b->nodes[TOPK].topk.limit = 4;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[TOPK].topk.limit = 3;
    b->nodes[TOPK].topk.ties = true;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[TOPK].topk.ties = false;
    b->nodes[TEMPORAL].temporal.bounds[1].cmp = PLAN_TEMPORAL_UNTIL;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[TEMPORAL].temporal.bounds[1].cmp = PLAN_TEMPORAL_BEFORE;
    b->nodes[BEFORE].lookup.before = false;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[BEFORE].lookup.before = true;
    b->nodes[INDEX].import.keys_len = 0;
    CU_ASSERT(!plan_equal(a, b));
    b->nodes[INDEX].import.keys_len = 1;
    b->exports[0].keys_len = 0;
    CU_ASSERT(!plan_equal(a, b));
    b->exports[0].keys_len = 1;
    CU_ASSERT(plan_equal(a, b));
    plan_free(a);
    plan_free(b);
}

static void break_lookups(struct plan *p, int how)
{
    struct plan_node *n = p->nodes;
    switch (how) {
    case 52: n[LOOKUP].inputs[1] = SOURCE; break;            /* nothing arranged */
    case 53: n[LOOKUP].inputs[0] = ARRANGE; break;           /* no rows */
    case 54: n[UNION].inputs[1] = n[LOOKUP].inputs[1]; break;
    case 55: n[LOOKUP].lookup.keys[0] = 4; break;
    case 56: n[LOOKUP].lookup.keys[0] = 1; break;            /* text = int8 */
    case 57: n[LOOKUP].lookup.keys_len = 0; break;
    case 58: n[LOOKUP].lookup.null_equal = true; break;      /* those are not kept */
    case 59: n[LOOKUP].schema.cols = 7; break;
    case 60: n[ARRANGE].arrange.keys[0] = 4; break;
    case 61: n[ARRANGE].arrange.keys_len = 0; break;
    case 62: n[INDEX].import.keys[0] = 4; break;
    case 63: n[INDEX].import.keys_len = 0; break;            /* and a lookup in it */
    case 64: p->exports[0].node = ARRANGE; break;
    case 65: n[BEFORE].inputs_len = 1; break;
    default: break;
    }
}

/* Every way to be wrong, one at a time. */
static void break_plan(struct plan *p, int how)
{
    struct plan_node *n = p->nodes;
    switch (how) {
    case 0: n[FILTER].inputs[0] = FILTER; break;             /* a cycle */
    case 1: n[FILTER].inputs[0] = 4000000000u; break;        /* out of range */
    case 2: n[SOURCE].op = 0; break;
    case 3: n[SOURCE].op = 200; break;
    case 4: n[JOIN].inputs_len = 1; break;
    case 5: n[JOIN].join.kind = 9; break;
    case 6: n[JOIN].join.left_keys[0] = 4; break;
    case 7: n[JOIN].join.right_keys[0] = 1; break;           /* int8 = text */
    case 8: n[JOIN].schema.cols = 7; break;
    case 9: n[REDUCE].reduce.keys[0] = 100; break;
    case 10: n[REDUCE].reduce.aggs[0].func = 77; break;
    case 11: n[REDUCE].reduce.aggs[1].arg = 1; break;        /* sum(text) */
    case 12: n[REDUCE].reduce.aggs[2].filter = 0; break;     /* filter int8 */
    case 13: n[REDUCE].reduce.aggs[1].type.kind = TYPE_TEXT; break;
    case 14: n[REDUCE].schema.types[0].kind = TYPE_BOOL; break;
    case 15: n[TOPK].topk.order[0].col = 4; break;
    case 16: n[TOPK].topk.offset = -1; break;
    case 17: n[TOPK].topk.limit = -2; break;
    case 18: n[TOPK].topk.keys[0] = 4; break;
    case 19: n[UNION].inputs_len = 0; break;
    case 20: n[UNION].inputs_len = PLAN_INPUTS_MAX + 1; break;
    case 21: n[UNION].inputs[1] = REDUCE; break;             /* other columns */
    case 22: n[CONSTANT].constant.rows_len = BATCH_ROWS_MAX + 1; break;
    case 23: n[CONSTANT].constant.diffs = NULL; break;
    case 24: n[SOURCE].schema.types[1].kind = TYPE_UNKNOWN; break;
    case 25: n[SOURCE].schema.types[1].kind = 0; break;
    case 26: n[SOURCE].schema.cols = BATCH_COLS_MAX + 1; break;
    case 27: p->exports[0].node = p->nodes_len; break;
    case 28: p->exports[0].keys[0] = 4; break;
    case 29: p->exports[1].id = p->exports[0].id; break;
    case 30: p->exports[0].kind = 3; break;
    case 31: p->as_of = FRONTIER_EMPTY; break;
    case 32: n[FILTER].mfp.project[0] = 4; break;
    case 33: n[FILTER].mfp.input_cols = 3; break;
    case 34: n[FILTER].mfp.predicates[0].nodes[1].args[0] = 1; break; /* refers to itself */
    case 35: n[JOIN].inputs = NULL; break;
    case 36: n[REDUCE].reduce.aggs[0].distinct = true; break;
    case 37: p->nodes_len = PLAN_NODES_MAX + 1; break;
    case 38: n[CONSTANT].schema.types[0].kind = TYPE_INT2;   /* 42 fits... */
             n[CONSTANT].constant.rows[0].i = 70000; break;  /* ...this does not */
    case 39: n[REDUCE].reduce.aggs[1].order_len = 1; break;  /* a sum has no order */
    case 40: n[REDUCE].reduce.aggs[2] = (struct plan_agg){
                 .func = AGG_STRING_AGG, .arg = 1, .arg2 = 0, .type = type_of(TYPE_TEXT)};
             break;                                          /* text, int8 */
    case 41: n[REDUCE].reduce.aggs[2] = (struct plan_agg){
                 .func = AGG_STRING_AGG, .arg = 1, .arg2 = 9, .type = type_of(TYPE_TEXT)};
             break;
    case 42: n[REDUCE].reduce.aggs[2] = (struct plan_agg){
                 .func = AGG_ARRAY_AGG, .arg = 1, .order_len = 1, .type = type_of(TYPE_TEXT),
                 .order = ARENA_ARRAY(&p->arena, struct plan_order, 1)};
             n[REDUCE].reduce.aggs[2].order[0].col = 100; break;
    case 43: n[TEMPORAL].temporal.bounds_len = 0; break;
    case 44: n[TEMPORAL].temporal.bounds = NULL; break;
    case 45: n[TEMPORAL].temporal.bounds[0].col = 1; break;  /* text is no time */
    case 46: n[TEMPORAL].temporal.bounds[0].col = 4; break;
    case 47: n[TEMPORAL].temporal.bounds[1].cmp = 0; break;
    case 48: n[TEMPORAL].temporal.bounds[1].cmp = PLAN_TEMPORAL_CMP_MAX + 1; break;
    case 49: n[TEMPORAL].schema.cols = 5; break;
    case 50: n[TEMPORAL].schema.types = n[TEMPORAL].schema.types + 1; break; /* text for int8 */
    case 51: p->nodes_len = 0; p->exports_len = 0; break;    /* nothing to run */
    case 66: n[TOPK].topk.ties = true; break;                /* with an offset */
    case 67: n[TOPK].topk.ties = true;
             n[TOPK].topk.offset = 0;
             n[TOPK].topk.limit = -1; break;
    default: break_lookups(p, how); break;
    }
}

static void test_hostile(void)
{
    for (int how = 0; how <= 67; how++) {
        struct plan *p = example(7);
        break_plan(p, how);
        err_t err = plan_validate(p);
        CU_ASSERT(err != ERR_OK);
        if (err == ERR_OK) {
            fprintf(stderr, "accepted: %d\n", how);
        } else {
            CU_ASSERT_EQUAL(err_code(err), ERR_INVALID);
        }
        err_free(err);
        plan_free(p);
    }
}

/* ---- windows --------------------------------------------------------------------------------- */

/* Over columns as kinds: a rank, a lag with a fallback, a sum over a frame of values. */
static struct plan *window_example(void)
{
    static const uint32_t key[] = {1};
    static const struct plan_order order[] = {{.col = 0, .desc = true, .nulls_first = true}};
    struct plan *p = plan_new();
    p->as_of = 1;
    plan_source(p, 1, kinds, 4);
    const struct plan_frame values = {
        .mode = PLAN_FRAME_RANGE,
        .exclude = PLAN_EXCLUDE_TIES,
        .start = {.kind = PLAN_BOUND_VALUE, .col = 0},
        .end = {.kind = PLAN_BOUND_UNBOUNDED}};
    struct plan_window_call calls[] = {
        {.func = PLAN_WINDOW_RANK, .type = type_of(TYPE_INT8)},
        {.func = PLAN_WINDOW_LAG, .arg = 1, .has_fallback = true, .fallback = 1, .n = 2,
         .type = p->nodes[0].schema.types[1]},
        {.func = PLAN_WINDOW_AGG, .agg = {.func = AGG_COUNT_ALL, .type = type_of(TYPE_INT8)},
         .frame = values, .type = type_of(TYPE_INT8)},
        {.func = PLAN_WINDOW_NTILE, .n = 4, .type = type_of(TYPE_INT4)}};
    plan_window(p, 0, key, 1, order, 1, calls, 4);
    plan_export_subscribe(p, 1, 1, true, FRONTIER_EMPTY);
    return p;
}

static void test_window(void)
{
    struct plan *p = window_example(), *q = window_example();
    struct buf out = {0};
    err_t err = plan_validate(p);
    CU_ASSERT_PTR_NULL(err);
    err_free(err);
    plan_print(p, &out);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(buf_cstr(&out), "Window partition=(#1) order=(#0 desc nulls first) functions=("
                               "rank(), lag(#1, 2, #1), count(*) range between #0 and unbounded "
                               "following exclude ties, ntile(4))\n"));
    CU_ASSERT(plan_equal(p, q));
    q->nodes[1].window.calls[2].frame.end.kind = PLAN_BOUND_CURRENT;
    CU_ASSERT(!plan_equal(p, q));
    buf_free(&out);
    plan_free(p);
    plan_free(q);
}

static void break_window(struct plan *p, int how)
{
    struct plan_node *n = &p->nodes[1];
    struct plan_window_call *calls = n->window.calls;
    switch (how) {
    case 0: n->window.keys[0] = 4; break;
    case 1: n->window.order[0].col = 4; break;
    case 2: calls[0].func = 0; break;
    case 3: calls[0].func = 99; break;
    case 4: calls[0].type.kind = TYPE_INT4; n->schema.types[4].kind = TYPE_INT4; break;
    case 5: calls[1].arg = 4; break;
    case 6: calls[1].fallback = 0; break;                /* another type */
    case 7: calls[1].fallback = 4; break;
    case 8: calls[0].has_fallback = true; break;         /* of a rank */
    case 9: calls[2].frame.mode = 0; break;
    case 10: calls[2].frame.mode = 9; break;
    case 11: calls[2].frame.mode = PLAN_FRAME_ROWS; break; /* bounded by a value */
    case 12: calls[2].frame.exclude = 0; break;
    case 13: calls[2].frame.exclude = 9; break;
    case 14: calls[2].frame.start.kind = 0; break;
    case 15: calls[2].frame.end.kind = 9; break;
    case 16: calls[2].frame.start.col = 1; break;        /* text for int8 */
    case 17: calls[2].frame.start.col = 4; break;
    case 18: calls[2].frame.start.kind = PLAN_BOUND_OFFSET; break; /* of a range */
    case 19: n->window.order_len = 0; break;             /* a value to compare with nothing */
    case 20: calls[2].agg.func = AGG_STRING_AGG; break;
    case 21: calls[2].agg.func = AGG_ARRAY_AGG; break;
    case 22: calls[2].agg.has_filter = true; break;      /* by int8 */
    case 23: calls[2].agg = (struct plan_agg){.func = AGG_COUNT, .distinct = true,
                                              .type = type_of(TYPE_INT8)}; break;
    case 24: calls[3].n = 0; break;
    case 25: calls[3].n = INT64_MIN; break;
    case 26: n->schema.cols = 7; break;
    case 27: n->schema.types[0].kind = TYPE_BOOL; break;
    case 28: n->window.calls = NULL; break;
    case 29: n->window.calls_len = BATCH_COLS_MAX + 1; break;
    case 31: calls[0].n_of_row = true; break;            /* a rank counts nothing */
    case 32: calls[1].n_of_row = true; break;            /* twice a column */
    case 33: calls[1].n_of_row = true; calls[1].n = 1; calls[1].n_col = 1; break; /* text */
    case 34: calls[1].n_of_row = true; calls[1].n = 1; calls[1].n_col = 4; break;
    case 30: n->window.keys = NULL; break;
    default: break;
    }
}

static void test_hostile_window(void)
{
    for (int how = 0; how <= 34; how++) {
        struct plan *p = window_example();
        break_window(p, how);
        err_t err = plan_validate(p);
        if (err == ERR_OK) {
            fprintf(stderr, "accepted: %d\n", how);
        }
        CU_ASSERT(err != ERR_OK && err_code(err) == ERR_INVALID);
        err_free(err);
        plan_free(p);
    }
}

/* ---- recursion ------------------------------------------------------------------------------- */

enum { R_EDGES, R_A, R_B, R_STEP, R_UNION, R_DISTINCT, R_OTHER, R_FIXPOINT, R_LEAVE, R_LEAVE_B };

/* a = distinct(edges + b), b = what a gave in the same iteration. */
static struct plan *recursion_example(void)
{
    static const uint32_t variables[] = {R_A, R_B};
    static const uint32_t bodies[] = {R_DISTINCT, R_OTHER};
    static const uint32_t all[] = {0, 1, 2, 3};
    struct plan *p = plan_new();
    p->as_of = 1;
    plan_source(p, 1, kinds, 4);
    plan_variable(p, kinds, 4);
    plan_variable(p, kinds, 4);
    plan_filter(p, R_B, 0, all, 4);
    plan_union(p, R_EDGES, R_STEP);
    plan_unary(p, PLAN_DISTINCT, R_UNION);
    plan_union(p, R_DISTINCT, R_A);
    plan_fixpoint(p, variables, bodies, 2, 100, true);
    plan_leave(p, R_FIXPOINT, 0);
    plan_leave(p, R_FIXPOINT, 1);
    plan_export_index(p, 9, R_LEAVE, col0, 1);
    plan_export_subscribe(p, 1, R_LEAVE_B, true, FRONTIER_EMPTY);
    return p;
}

static void test_recursion(void)
{
    struct plan *p = recursion_example(), *q = recursion_example();
    struct buf out = {0};
    uint32_t scopes[10];
    err_t err = plan_validate(p);
    CU_ASSERT_PTR_NULL_FATAL(err);
    plan_print(p, &out);
    const char *text = buf_cstr(&out);
    CU_ASSERT_PTR_NOT_NULL(strstr(
        text, "  Leave $1\n    $7 = Fixpoint variables=($1, $2) limit=100 (error)\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "        Get $5\n        Variable $1\n"));
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "  Leave $2\n    Get $7\n"));
    CU_ASSERT_PTR_NULL(strstr(text, "$2 = "));
    plan_scopes(p, scopes);
    for (uint32_t i = 0; i < 10; i++) {
        bool inside = i >= R_A && i <= R_OTHER;
        CU_ASSERT_EQUAL(scopes[i], inside ? R_FIXPOINT : UINT32_MAX);
    }
    CU_ASSERT(plan_equal(p, q));
    q->nodes[R_FIXPOINT].fixpoint.limit = 99;
    CU_ASSERT(!plan_equal(p, q));
    q->nodes[R_FIXPOINT].fixpoint.limit = 100;
    q->nodes[R_LEAVE].leave.binding = 1;
    CU_ASSERT(!plan_equal(p, q));
    buf_free(&out);
    plan_free(p);
    plan_free(q);
}

/* Those behind RECURSION_WRONG: valid, and not supported. */
enum { RECURSION_WRONG = 16, RECURSION_UNSUPPORTED = 20 };

/* A second recursion, of unions with 255 inputs from outside each. */
static void enter_often(struct plan *p)
{
    static const uint32_t all[] = {0, 1, 2, 3};
    uint32_t variable = plan_variable(p, kinds, 4);
    uint32_t body = plan_filter(p, variable, 0, all, 4);
    for (int i = 0; i < 17; i++) {
        uint32_t last = body;
        body = plan_union(p, last, R_EDGES);
        struct plan_node *node = &p->nodes[body];
        node->inputs_len = PLAN_INPUTS_MAX;
        node->inputs = ARENA_ARRAY(&p->arena, uint32_t, PLAN_INPUTS_MAX);
        node->inputs[0] = last;
    }
    plan_fixpoint(p, &variable, &body, 1, 0, false);
}

static void break_recursion(struct plan *p, int how)
{
    static const uint32_t other[] = {R_LEAVE_B + 1};
    struct plan_node *n = p->nodes;
    struct plan_fixpoint *fixpoint = &n[R_FIXPOINT].fixpoint;
    switch (how) {
    case 0: fixpoint->variables[1] = R_A; break;             /* twice; one is left over */
    case 1: fixpoint->variables[1] = R_EDGES; break;
    case 2: fixpoint->variables[1] = R_FIXPOINT; break;
    case 3: fixpoint->variables[1] = UINT32_MAX; break;
    case 4: fixpoint->variables_len = 1; break;
    case 5: fixpoint->variables = NULL; break;
    case 6: n[R_FIXPOINT].schema = n[R_EDGES].schema; break;
    case 7: n[R_A].schema.cols = 3; break;                   /* not as its body */
    case 8: n[R_FIXPOINT].inputs_len = 0; fixpoint->variables_len = 0; break;
    case 9: n[R_LEAVE].leave.binding = 2; break;
    case 10: n[R_LEAVE].inputs[0] = R_DISTINCT; break;
    case 11: n[R_LEAVE].schema.cols = 3; break;
    case 12: p->exports[0].node = R_DISTINCT; break;         /* from inside */
    case 13: p->exports[0].node = R_FIXPOINT; break;
    case 14: plan_unary(p, PLAN_NEGATE, R_A); break;         /* behind its fixpoint */
    case 15: plan_unary(p, PLAN_NEGATE, R_FIXPOINT); break;
    case 16:                                                 /* entered at too many places */
        enter_often(p);
        break;
    case 17:                                                 /* a scope on another's variables */
        plan_variable(p, kinds, 4);
        n = p->nodes;
        n[R_B] = n[R_EDGES];                                 /* of the second one only */
        n[R_FIXPOINT].inputs_len = n[R_FIXPOINT].fixpoint.variables_len = 1;
        n[R_LEAVE_B].leave.binding = 0;
        p->exports_len = 1;
        plan_union(p, R_LEAVE_B + 1, R_LEAVE);
        plan_fixpoint(p, other, other, 1, 0, false);
        CU_ASSERT_PTR_NULL(plan_validate(p));                /* so far it depends on its result */
        n = p->nodes;
        n[R_LEAVE_B + 3].inputs[0] = R_OTHER;
        break;
    case 18:
        n[R_STEP] = (struct plan_node){.op = PLAN_WINDOW, .inputs = n[R_STEP].inputs,
                                       .inputs_len = 1, .schema = n[R_STEP].schema};
        n[R_STEP].window.order = NULL;
        break;
    case 19:
    case 20:                                                 /* joins that look for what is not */
        n[R_OTHER] = (struct plan_node){.op = PLAN_JOIN, .inputs = n[R_OTHER].inputs,
                                        .inputs_len = 2, .schema = n[R_OTHER].schema};
        n[R_OTHER].join.kind = how == 19 ? PLAN_JOIN_SEMI : PLAN_JOIN_ANTI;
        break;
    default: break;
    }
}

static void test_hostile_recursion(void)
{
    for (int how = 0; how <= RECURSION_UNSUPPORTED; how++) {
        struct plan *p = recursion_example();
        break_recursion(p, how);
        err_t err = plan_validate(p);
        enum err_code code = how <= RECURSION_WRONG ? ERR_INVALID : ERR_UNSUPPORTED;
        if (err == ERR_OK || err_code(err) != code) {
            fprintf(stderr, "%d: %s\n", how, err == ERR_OK ? "accepted" : err_text(err));
        }
        CU_ASSERT(err != ERR_OK && err_code(err) == code);
        err_free(err);
        plan_free(p);
    }
}

static void test_deep(void)
{
    struct plan *p = plan_new();
    plan_source(p, 1, kinds, 4);
    while (p->nodes_len < PLAN_NODES_MAX) {
        plan_unary(p, PLAN_NEGATE, p->nodes_len - 1);
    }
    plan_export_subscribe(p, 1, p->nodes_len - 1, true, FRONTIER_EMPTY);
    CU_ASSERT_PTR_NULL(plan_validate(p));
    struct buf out = {0};
    plan_print(p, &out);
    CU_ASSERT(out.len < PLAN_NODES_MAX * 100);
    buf_free(&out);
    plan_free(p);
}

static const struct test_case cases[] = {
    {"print", test_print},
    {"words", test_words},
    {"equal", test_equal},
    {"hostile", test_hostile},
    {"window", test_window},
    {"hostile_window", test_hostile_window},
    {"recursion", test_recursion},
    {"hostile_recursion", test_hostile_recursion},
    {"deep", test_deep},
};
TEST_SUITE("core/engine plans", cases)
