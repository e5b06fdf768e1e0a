/* Plans that together hold everything the plan language has: see sample_plans.h. */
#include "tests/unit/ctrl/plan/sample_plans.h"

#include "core/base/mem.h"

#include <stdio.h>

#define U32S(arena, ...)                                                                           \
    arena_memdup(arena, (const uint32_t[]){__VA_ARGS__},                                           \
                 sizeof((const uint32_t[]){__VA_ARGS__}))

struct datum sample_value(enum type_kind kind)
{
    struct datum d = {0};
    switch (kind) {
    case TYPE_BOOL: d.b = true; break;
    case TYPE_FLOAT4: d.f = 0.5; break;
    case TYPE_FLOAT8: d.f = -1e300; break;
    case TYPE_NUMERIC: d.n = (struct numeric){.lo = 12345, .scale = 3}; break;
    case TYPE_INTERVAL: d.iv = (struct interval){.months = -1, .days = 40, .micros = 1}; break;
    case TYPE_UUID: memcpy(d.uuid, "0123456789abcdef", 16); break;
    case TYPE_TEXT: d.s = "gr\xc3\xbc\xc3\x9f"; break;
    case TYPE_BYTEA: d.s = "\x01\xff\xfe"; break;
    case TYPE_JSONB: d.s = "{\"a\": [1, null]}"; break;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ: d.i = 1234567890123456; break;
    case TYPE_INT8: d.i = INT64_MIN; break;
    default: d.i = 12345; break;
    }
    if (type_is_variable(kind)) {
        d.len = (uint32_t)strlen(d.s);
    }
    return d;
}

/* Columns of these kinds, named c0, c1, ... */
static struct schema make_schema(struct arena *a, const uint8_t *kinds, uint32_t cols)
{
    struct schema schema = {.cols = cols};
    schema.types = ARENA_ARRAY(a, struct type, cols);
    schema.names = ARENA_ARRAY(a, const char *, cols);
    for (uint32_t c = 0; c < cols; c++) {
        char name[16];
        snprintf(name, sizeof(name), "c%u", c);
        schema.types[c] = type_of(kinds[c]);
        schema.names[c] = arena_strdup(a, name);
    }
    return schema;
}

#define SCHEMA(a, ...)                                                                             \
    make_schema(a, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static struct plan *make_plan(const char *name)
{
    struct plan *plan = plan_new();
    plan->id = 0x123456789;
    plan->name = arena_strdup(&plan->arena, name);
    plan->as_of = 77;
    return plan;
}

static struct plan_node node_of(struct plan *plan, uint8_t op, struct schema schema,
                                const uint32_t *inputs, uint32_t len)
{
    struct plan_node node = {.op = op, .schema = schema, .inputs_len = len};
    node.inputs = len == 0 ? NULL : arena_memdup(&plan->arena, inputs, len * sizeof(inputs[0]));
    return node;
}

#define NODE(plan, op, schema, ...)                                                                \
    node_of(plan, op, schema, (const uint32_t[]){__VA_ARGS__},                                     \
            (uint32_t)(sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)))

static uint32_t add_call(struct arena *a, struct expr *e, uint8_t kind, uint8_t result,
                         uint32_t *args, uint32_t args_len, uint32_t func)
{
    struct expr_node node = {.kind = kind,
                             .type = type_of(result),
                             .func = func,
                             .args = args,
                             .args_len = args_len};
    return expr_add(a, e, &node);
}

static uint32_t add_column(struct arena *a, struct expr *e, uint32_t column, uint8_t kind)
{
    struct expr_node node = {.kind = EXPR_COLUMN, .type = type_of(kind), .column = column};
    return expr_add(a, e, &node);
}

static uint32_t add_int(struct arena *a, struct expr *e, int64_t value, bool null)
{
    struct expr_node node = {.kind = EXPR_LITERAL, .type = type_of(TYPE_INT8)};
    node.literal = (struct datum){.i = null ? 0 : value, .null = null};
    return expr_add(a, e, &node);
}

/* case when not (#0 is null or #0 = 5) and true-ish then #0 + 5 else coalesce(null, #0) end */
static struct expr every_kind(struct arena *a)
{
    static const uint8_t ints[] = {TYPE_INT8, TYPE_INT8};
    struct expr e = {0};
    uint32_t column = add_column(a, &e, 0, TYPE_INT8);
    uint32_t five = add_int(a, &e, 5, false);
    uint32_t none = add_int(a, &e, 0, true);
    uint32_t is_null = add_call(a, &e, EXPR_IS_NULL, TYPE_BOOL, U32S(a, column), 1, 0);
    uint32_t equal = add_call(a, &e, EXPR_CALL, TYPE_BOOL, U32S(a, column, five), 2,
                              func_find("=", ints, 2)->id);
    uint32_t either = add_call(a, &e, EXPR_OR, TYPE_BOOL, U32S(a, is_null, equal), 2, 0);
    uint32_t not = add_call(a, &e, EXPR_NOT, TYPE_BOOL, U32S(a, either), 1, 0);
    uint32_t both = add_call(a, &e, EXPR_AND, TYPE_BOOL, U32S(a, not, not), 2, 0);
    uint32_t sum = add_call(a, &e, EXPR_CALL, TYPE_INT8, U32S(a, column, five), 2,
                            func_find("+", ints, 2)->id);
    uint32_t coalesce = add_call(a, &e, EXPR_COALESCE, TYPE_INT8, U32S(a, none, column), 2, 0);
    add_call(a, &e, EXPR_CASE, TYPE_INT8, U32S(a, both, sum, coalesce), 3, 0);
    return e;
}

static struct expr greater_than_zero(struct arena *a)
{
    static const uint8_t ints[] = {TYPE_INT8, TYPE_INT8};
    struct expr e = {0};
    uint32_t column = add_column(a, &e, 0, TYPE_INT8);
    uint32_t zero = add_int(a, &e, 0, false);
    add_call(a, &e, EXPR_CALL, TYPE_BOOL, U32S(a, column, zero), 2, func_find(">", ints, 2)->id);
    return e;
}

static uint32_t add_mfp(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node node = NODE(plan, PLAN_MFP, SCHEMA(a, TYPE_INT8, TYPE_TEXT), input);
    node.mfp = (struct mfp){.input_cols = 2, .maps_len = 1, .predicates_len = 1,
                            .project_len = 2};
    node.mfp.maps = ARENA_ARRAY(a, struct expr, 1);
    node.mfp.maps[0] = every_kind(a);
    node.mfp.predicates = ARENA_ARRAY(a, struct expr, 1);
    node.mfp.predicates[0] = greater_than_zero(a);
    node.mfp.project = U32S(a, 2, 1);
    return plan_add(plan, &node);
}

static uint32_t add_joins(struct plan *plan, uint32_t left, uint32_t right)
{
    struct arena *a = &plan->arena;
    uint32_t last = left;
    for (uint8_t kind = PLAN_JOIN_INNER; kind <= PLAN_JOIN_ANTI; kind++) {
        bool wide = kind == PLAN_JOIN_INNER || kind == PLAN_JOIN_LEFT;
        struct schema schema = wide ? SCHEMA(a, TYPE_INT8, TYPE_TEXT, TYPE_INT8, TYPE_TEXT)
                                    : SCHEMA(a, TYPE_INT8, TYPE_TEXT);
        struct plan_node node = NODE(plan, PLAN_JOIN, schema, left, right);
        node.join.kind = kind;
        node.join.keys_len = kind == PLAN_JOIN_LEFT ? 2 : 1;
        node.join.left_keys = U32S(a, 0, 1);
        node.join.right_keys = U32S(a, 0, 1);
        node.join.null_equal = kind == PLAN_JOIN_ANTI;
        last = plan_add(plan, &node);
    }
    return last;
}

/* In an arrangement of the plan's own, and in an index. */
static void add_lookups(struct plan *plan, uint32_t input, uint32_t index)
{
    struct arena *a = &plan->arena;
    struct plan_node arrange = NODE(plan, PLAN_ARRANGE, SCHEMA(a, TYPE_INT8, TYPE_TEXT), input);
    arrange.arrange.keys = U32S(a, 1, 0);
    arrange.arrange.keys_len = 2;
    arrange.arrange.null_equal = true;
    struct plan_node lookup = NODE(plan, PLAN_LOOKUP,
                                   SCHEMA(a, TYPE_INT8, TYPE_TEXT, TYPE_INT8, TYPE_TEXT), input,
                                   plan_add(plan, &arrange));
    lookup.lookup.keys = U32S(a, 1, 0);
    lookup.lookup.keys_len = 2;
    lookup.lookup.null_equal = lookup.lookup.before = true;
    plan_add(plan, &lookup);
    struct plan_node other = NODE(plan, PLAN_LOOKUP, lookup.schema, input, index);
    other.lookup.keys = U32S(a, 0);
    other.lookup.keys_len = 1;
    other.lookup.later = true;
    plan_add(plan, &other);
}

static uint32_t add_reduce(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    static const uint8_t funcs[] = {AGG_COUNT_ALL, AGG_COUNT, AGG_SUM, AGG_AVG, AGG_MIN, AGG_MAX};
    uint8_t kinds[1 + ARRAY_LEN(funcs)] = {TYPE_TEXT};
    struct plan_agg *aggs = ARENA_ARRAY(a, struct plan_agg, ARRAY_LEN(funcs));
    for (size_t i = 0; i < ARRAY_LEN(funcs); i++) {
        aggs[i] = (struct plan_agg){.func = funcs[i], .distinct = funcs[i] == AGG_SUM};
        ASSERT(agg_result(funcs[i], TYPE_INT8, &aggs[i].type));
        kinds[1 + i] = aggs[i].type.kind;
    }
    struct plan_node node =
        NODE(plan, PLAN_REDUCE, make_schema(a, kinds, ARRAY_LEN(kinds)), input);
    node.reduce.keys = U32S(a, 1);
    node.reduce.keys_len = 1;
    node.reduce.aggs = aggs;
    node.reduce.aggs_len = ARRAY_LEN(funcs);
    return plan_add(plan, &node);
}

static uint32_t add_filtered_reduce(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node map = NODE(plan, PLAN_MFP, SCHEMA(a, TYPE_BOOL), input);
    map.mfp = (struct mfp){.input_cols = 2, .maps_len = 1, .project_len = 1};
    map.mfp.maps = ARENA_ARRAY(a, struct expr, 1);
    map.mfp.maps[0] = greater_than_zero(a);
    map.mfp.project = U32S(a, 2);
    struct plan_node node = NODE(plan, PLAN_REDUCE, SCHEMA(a, TYPE_BOOL, TYPE_BOOL),
                                 plan_add(plan, &map));
    node.reduce.aggs_len = 2;
    node.reduce.aggs = ARENA_ARRAY(a, struct plan_agg, 2);
    node.reduce.aggs[0] = (struct plan_agg){.func = AGG_BOOL_AND, .has_filter = true};
    node.reduce.aggs[1] = (struct plan_agg){.func = AGG_BOOL_OR};
    node.reduce.aggs[0].type = node.reduce.aggs[1].type = type_of(TYPE_BOOL);
    return plan_add(plan, &node);
}

/* Aggregates with a second argument and with an order. */
static uint32_t add_ordered_reduce(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node node =
        NODE(plan, PLAN_REDUCE, SCHEMA(a, TYPE_INT8, TYPE_TEXT, TYPE_TEXT, TYPE_INT8), input);
    node.reduce.keys = U32S(a, 0);
    node.reduce.keys_len = 1;
    node.reduce.aggs_len = 3;
    node.reduce.aggs = ARENA_ARRAY(a, struct plan_agg, 3);
    struct plan_agg *aggs = node.reduce.aggs;
    aggs[0] = (struct plan_agg){.func = AGG_STRING_AGG, .arg = 1, .arg2 = 1, .order_len = 1};
    aggs[0].order = ARENA_ARRAY(a, struct plan_order, 1);
    aggs[0].order[0] = (struct plan_order){.col = 0, .desc = true, .nulls_first = true};
    aggs[1] = (struct plan_agg){.func = AGG_ARRAY_AGG, .distinct = true};
    aggs[2] = (struct plan_agg){.func = AGG_BIT_XOR};
    aggs[0].type = aggs[1].type = type_of(TYPE_TEXT);
    aggs[2].type = type_of(TYPE_INT8);
    return plan_add(plan, &node);
}

/* Every function, and frames of each kind; returns the node. */
static uint32_t add_window(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node node = NODE(plan, PLAN_WINDOW,
                                 SCHEMA(a, TYPE_INT8, TYPE_TEXT, TYPE_INT8, TYPE_TEXT, TYPE_TEXT,
                                        TYPE_NUMERIC, TYPE_INT4),
                                 input);
    node.window.keys = U32S(a, 1);
    node.window.keys_len = 1;
    node.window.order_len = 1;
    node.window.order = ARENA_ARRAY(a, struct plan_order, 1);
    node.window.order[0] = (struct plan_order){.col = 0, .desc = true};
    node.window.calls_len = 5;
    struct plan_window_call *calls = ARENA_ARRAY(a, struct plan_window_call, 5);
    node.window.calls = calls;
    calls[0] = (struct plan_window_call){.func = PLAN_WINDOW_DENSE_RANK};
    calls[1] = (struct plan_window_call){
        .func = PLAN_WINDOW_LAG, .arg = 1, .n = -3, .has_fallback = true, .fallback = 1};
    calls[2] = (struct plan_window_call){
        .func = PLAN_WINDOW_NTH_VALUE, .arg = 1, .n = 1, .n_of_row = true, .n_col = 0,
        .frame = {.mode = PLAN_FRAME_GROUPS, .exclude = PLAN_EXCLUDE_TIES,
                  .start = {.kind = PLAN_BOUND_OFFSET, .offset = -2},
                  .end = {.kind = PLAN_BOUND_UNBOUNDED}}};
    calls[3] = (struct plan_window_call){
        .func = PLAN_WINDOW_AGG, .agg = {.func = AGG_SUM, .type = type_of(TYPE_NUMERIC)},
        .frame = {.mode = PLAN_FRAME_RANGE, .exclude = PLAN_EXCLUDE_NONE,
                  .start = {.kind = PLAN_BOUND_VALUE, .col = 0},
                  .end = {.kind = PLAN_BOUND_CURRENT}}};
    calls[4] = (struct plan_window_call){.func = PLAN_WINDOW_NTILE, .n = 7};
    for (uint32_t i = 0; i < 5; i++) {
        calls[i].type = type_of((enum type_kind)node.schema.types[2 + i].kind);
    }
    return plan_add(plan, &node);
}

/* Two functions in lockstep, everything that can be said of a flat map. */
static uint32_t add_flat_map(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node node = NODE(plan, PLAN_FLAT_MAP,
                                 SCHEMA(a, TYPE_TEXT, TYPE_INT8, TYPE_DATE, TYPE_INT8), input);
    node.flat_map.keep = U32S(a, 1);
    node.flat_map.keep_len = 1;
    node.flat_map.calls_len = 2;
    node.flat_map.calls = ARENA_ARRAY(a, struct plan_table_call, 2);
    node.flat_map.calls[0] = (struct plan_table_call){.func = 4, .args_len = 3}; /* a series */
    node.flat_map.calls[0].args = U32S(a, 0, 0, 0);
    node.flat_map.calls[1] = (struct plan_table_call){.func = 9, .args_len = 1}; /* unnest */
    node.flat_map.calls[1].args = U32S(a, 1);
    node.flat_map.ordinality = node.flat_map.outer = true;
    return plan_add(plan, &node);
}

static uint32_t add_topk(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node node = NODE(plan, PLAN_TOPK, SCHEMA(a, TYPE_INT8, TYPE_TEXT), input);
    node.topk.keys = U32S(a, 1);
    node.topk.keys_len = 1;
    node.topk.order_len = 2;
    node.topk.order = ARENA_ARRAY(a, struct plan_order, 2);
    node.topk.order[0] = (struct plan_order){.col = 0, .desc = true};
    node.topk.order[1] = (struct plan_order){.col = 1, .nulls_first = true};
    node.topk.limit = 9;
    node.topk.ties = true;
    return plan_add(plan, &node);
}

/* A recursion over two variables; returns what leaves it first. */
static uint32_t add_recursion(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node variable = {.op = PLAN_VARIABLE, .schema = SCHEMA(a, TYPE_INT8, TYPE_TEXT)};
    uint32_t one = plan_add(plan, &variable);
    uint32_t two = plan_add(plan, &variable);
    struct plan_node sum =
        NODE(plan, PLAN_UNION, SCHEMA(a, TYPE_INT8, TYPE_TEXT), input, one, two);
    uint32_t all = plan_add(plan, &sum);
    struct plan_node distinct = NODE(plan, PLAN_DISTINCT, SCHEMA(a, TYPE_INT8, TYPE_TEXT), all);
    uint32_t body = plan_add(plan, &distinct);
    struct plan_node fixpoint = NODE(plan, PLAN_FIXPOINT, (struct schema){0}, body, all);
    fixpoint.fixpoint = (struct plan_fixpoint){
        .variables = U32S(a, one, two), .variables_len = 2, .limit = 7, .limit_error = true};
    uint32_t whole = plan_add(plan, &fixpoint);
    struct plan_node leave = NODE(plan, PLAN_LEAVE, SCHEMA(a, TYPE_INT8, TYPE_TEXT), whole);
    leave.leave.binding = 1;
    plan_add(plan, &leave);
    leave.leave.binding = 0;
    return plan_add(plan, &leave);
}

static void add_temporal(struct plan *plan, uint32_t input)
{
    struct arena *a = &plan->arena;
    struct plan_node node = NODE(plan, PLAN_TEMPORAL, SCHEMA(a, TYPE_INT8), input);
    node.temporal.bounds_len = 2;
    node.temporal.bounds = ARENA_ARRAY(a, struct plan_temporal_bound, 2);
    node.temporal.bounds[0].cmp = PLAN_TEMPORAL_UNTIL;
    node.temporal.bounds[1].cmp = PLAN_TEMPORAL_AFTER;
    plan_add(plan, &node);
}

static void add_exports(struct plan *plan, uint32_t index, uint32_t subscribe)
{
    struct arena *a = &plan->arena;
    plan->exports_len = 2;
    plan->exports = ARENA_ARRAY(a, struct plan_export, 2);
    plan->exports[0] = (struct plan_export){.kind = PLAN_EXPORT_INDEX, .id = 50, .node = index,
                                            .until = FRONTIER_EMPTY};
    plan->exports[0].keys = U32S(a, 0);
    plan->exports[0].keys_len = 1;
    plan->exports[1] = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                            .id = PLAN_ID_TRANSIENT | 1,
                                            .node = subscribe,
                                            .snapshot = true,
                                            .until = 99};
}

struct plan *sample_plan_operators(void)
{
    struct plan *plan = make_plan("every operator");
    struct arena *a = &plan->arena;
    struct plan_node source = {.op = PLAN_SOURCE, .import.id = 7};
    source.schema = SCHEMA(a, TYPE_INT8, TYPE_TEXT);
    struct plan_node index = {.op = PLAN_INDEX, .import.id = 8};
    index.schema = SCHEMA(a, TYPE_INT8, TYPE_TEXT);
    index.import.keys = U32S(a, 0);
    index.import.keys_len = 1;
    uint32_t left = plan_add(plan, &source);
    uint32_t right = plan_add(plan, &index);
    uint32_t mfp = add_mfp(plan, left);
    uint32_t joined = add_joins(plan, mfp, right);
    struct plan_node negate = NODE(plan, PLAN_NEGATE, SCHEMA(a, TYPE_INT8, TYPE_TEXT), right);
    uint32_t negated = plan_add(plan, &negate);
    struct plan_node sum =
        NODE(plan, PLAN_UNION, SCHEMA(a, TYPE_INT8, TYPE_TEXT), joined, negated, left);
    sum.sum.errors_once = true;
    uint32_t all = plan_add(plan, &sum);
    struct plan_node distinct = NODE(plan, PLAN_DISTINCT, SCHEMA(a, TYPE_INT8, TYPE_TEXT), all);
    struct plan_node threshold = NODE(plan, PLAN_THRESHOLD, SCHEMA(a, TYPE_INT8, TYPE_TEXT),
                                      plan_add(plan, &distinct));
    uint32_t topk = add_topk(plan, add_recursion(plan, plan_add(plan, &threshold)));
    add_filtered_reduce(plan, topk);
    add_ordered_reduce(plan, topk);
    add_window(plan, topk);
    add_lookups(plan, mfp, right);
    add_flat_map(plan, topk);
    add_temporal(plan, topk);
    add_exports(plan, topk, add_reduce(plan, topk));
    return plan;
}

struct plan *sample_plan_constant(void)
{
    struct plan *plan = make_plan("constant");
    struct arena *a = &plan->arena;
    uint8_t kinds[TYPE_UNKNOWN - 1];
    uint32_t cols = ARRAY_LEN(kinds);
    for (uint32_t c = 0; c < cols; c++) {
        kinds[c] = (uint8_t)(c + 1);
    }
    struct plan_node node = {.op = PLAN_CONSTANT, .schema = make_schema(a, kinds, cols)};
    node.constant.rows_len = 2;
    node.constant.rows = ARENA_ARRAY(a, struct datum, 2 * (size_t)cols);
    node.constant.diffs = ARENA_ARRAY(a, int64_t, 2);
    node.constant.diffs[0] = -3;
    node.constant.diffs[1] = INT64_MAX;
    for (uint32_t c = 0; c < cols; c++) {
        node.constant.rows[c] = sample_value((enum type_kind)kinds[c]);
        node.constant.rows[cols + c] = (struct datum){.null = true};
    }
    plan_add(plan, &node);
    struct plan_node nothing = {.op = PLAN_CONSTANT, .schema = {0}};
    plan_add(plan, &nothing);
    return plan;
}

struct plan *sample_plan_literals(void)
{
    struct plan *plan = make_plan("literals");
    struct arena *a = &plan->arena;
    struct plan_node source = {.op = PLAN_SOURCE, .import.id = 7};
    source.schema = SCHEMA(a, TYPE_INT8);
    uint8_t kinds[2 * (TYPE_UNKNOWN - 1)];
    uint32_t cols = ARRAY_LEN(kinds);
    struct mfp mfp = {.input_cols = 1, .maps_len = cols, .project_len = cols};
    mfp.maps = ARENA_ARRAY(a, struct expr, cols);
    mfp.project = ARENA_ARRAY(a, uint32_t, cols);
    for (uint32_t c = 0; c < cols; c++) {
        kinds[c] = (uint8_t)(c / 2 + 1);
        struct expr_node literal = {.kind = EXPR_LITERAL, .type = type_of(kinds[c])};
        literal.literal =
            c % 2 == 0 ? sample_value((enum type_kind)kinds[c]) : (struct datum){.null = true};
        mfp.maps[c] = (struct expr){0};
        expr_add(a, &mfp.maps[c], &literal);
        mfp.project[c] = 1 + c;
    }
    struct plan_node node =
        NODE(plan, PLAN_MFP, make_schema(a, kinds, cols), plan_add(plan, &source));
    node.mfp = mfp;
    plan_add(plan, &node);
    return plan;
}

struct plan *sample_plan_empty(void)
{
    return make_plan("");
}
