/* Plan nodes with their schemas filled in, so that tests read like plans. */
#include "tests/unit/core/engine/plans.h"

struct schema plan_schema(struct plan *p, const uint8_t *kinds, uint32_t cols)
{
    struct schema schema = {.cols = cols};
    schema.types = ARENA_ARRAY(&p->arena, struct type, cols + 1);
    for (uint32_t c = 0; c < cols; c++) {
        schema.types[c] = type_of((enum type_kind)kinds[c]);
    }
    return schema;
}

static uint32_t *copy_cols(struct plan *p, const uint32_t *cols, uint32_t len)
{
    return len == 0 ? NULL : arena_memdup(&p->arena, cols, len * sizeof(*cols));
}

static struct plan_node node_of(struct plan *p, enum plan_op op, const uint32_t *inputs,
                                uint32_t inputs_len)
{
    struct plan_node node = {.op = (uint8_t)op, .inputs_len = inputs_len};
    node.inputs = copy_cols(p, inputs, inputs_len);
    if (inputs_len > 0) {
        node.schema = p->nodes[inputs[0]].schema;
    }
    return node;
}

uint32_t plan_source(struct plan *p, uint64_t id, const uint8_t *kinds, uint32_t cols)
{
    struct plan_node node = node_of(p, PLAN_SOURCE, NULL, 0);
    node.schema = plan_schema(p, kinds, cols);
    node.import.id = id;
    return plan_add(p, &node);
}

uint32_t plan_index(struct plan *p, uint64_t id, const uint8_t *kinds, uint32_t cols)
{
    struct plan_node node = node_of(p, PLAN_INDEX, NULL, 0);
    node.schema = plan_schema(p, kinds, cols);
    node.import.id = id;
    return plan_add(p, &node);
}

uint32_t plan_variable(struct plan *p, const uint8_t *kinds, uint32_t cols)
{
    struct plan_node node = node_of(p, PLAN_VARIABLE, NULL, 0);
    node.schema = plan_schema(p, kinds, cols);
    return plan_add(p, &node);
}

uint32_t plan_fixpoint(struct plan *p, const uint32_t *variables, const uint32_t *bodies,
                       uint32_t len, uint64_t limit, bool limit_error)
{
    struct plan_node node = node_of(p, PLAN_FIXPOINT, bodies, len);
    node.schema = (struct schema){0};
    node.fixpoint = (struct plan_fixpoint){.variables = copy_cols(p, variables, len),
                                           .variables_len = len,
                                           .limit = limit,
                                           .limit_error = limit_error};
    return plan_add(p, &node);
}

uint32_t plan_leave(struct plan *p, uint32_t fixpoint, uint32_t binding)
{
    struct plan_node node = node_of(p, PLAN_LEAVE, &fixpoint, 1);
    node.schema = p->nodes[p->nodes[fixpoint].inputs[binding]].schema;
    node.leave.binding = binding;
    return plan_add(p, &node);
}

uint32_t plan_unary(struct plan *p, enum plan_op op, uint32_t input)
{
    struct plan_node node = node_of(p, op, &input, 1);
    return plan_add(p, &node);
}

uint32_t plan_union(struct plan *p, uint32_t a, uint32_t b)
{
    uint32_t inputs[] = {a, b};
    struct plan_node node = node_of(p, PLAN_UNION, inputs, 2);
    return plan_add(p, &node);
}

static struct schema both_schemas(struct plan *p, uint32_t left, uint32_t right)
{
    const struct schema *l = &p->nodes[left].schema;
    const struct schema *r = &p->nodes[right].schema;
    struct schema both = {.cols = l->cols + r->cols};
    both.types = ARENA_ARRAY(&p->arena, struct type, l->cols + r->cols + 1);
    memcpy(both.types, l->types, l->cols * sizeof(struct type));
    memcpy(both.types + l->cols, r->types, r->cols * sizeof(struct type));
    return both;
}

uint32_t plan_join(struct plan *p, enum plan_join_kind kind, uint32_t left, uint32_t right,
                   const uint32_t *left_keys, const uint32_t *right_keys, uint32_t keys_len,
                   bool null_equal)
{
    uint32_t inputs[] = {left, right};
    struct plan_node node = node_of(p, PLAN_JOIN, inputs, 2);
    node.join.kind = (uint8_t)kind;
    node.join.keys_len = keys_len;
    node.join.left_keys = copy_cols(p, left_keys, keys_len);
    node.join.right_keys = copy_cols(p, right_keys, keys_len);
    node.join.null_equal = null_equal;
    if (kind == PLAN_JOIN_INNER || kind == PLAN_JOIN_LEFT) {
        node.schema = both_schemas(p, left, right);
    }
    return plan_add(p, &node);
}

uint32_t plan_reduce(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                     const struct plan_agg *aggs, uint32_t aggs_len)
{
    struct plan_node node = node_of(p, PLAN_REDUCE, &input, 1);
    const struct schema *in = &p->nodes[input].schema;
    node.reduce.keys = copy_cols(p, keys, keys_len);
    node.reduce.keys_len = keys_len;
    node.reduce.aggs = ARENA_ARRAY(&p->arena, struct plan_agg, aggs_len + 1);
    node.reduce.aggs_len = aggs_len;
    node.schema = (struct schema){.cols = keys_len + aggs_len};
    node.schema.types = ARENA_ARRAY(&p->arena, struct type, keys_len + aggs_len + 1);
    for (uint32_t k = 0; k < keys_len; k++) {
        node.schema.types[k] = in->types[keys[k]];
    }
    for (uint32_t a = 0; a < aggs_len; a++) {
        node.reduce.aggs[a] = aggs[a];
        uint8_t kind = aggs[a].func == AGG_COUNT_ALL ? TYPE_INT8 : in->types[aggs[a].arg].kind;
        bool there = agg_result((enum agg_func)aggs[a].func, (enum type_kind)kind,
                                &node.reduce.aggs[a].type);
        ASSERT(there);
        node.schema.types[keys_len + a] = node.reduce.aggs[a].type;
    }
    return plan_add(p, &node);
}

uint32_t plan_arrange(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                      bool null_equal)
{
    struct plan_node node = node_of(p, PLAN_ARRANGE, &input, 1);
    node.arrange.keys = copy_cols(p, keys, keys_len);
    node.arrange.keys_len = keys_len;
    node.arrange.null_equal = null_equal;
    return plan_add(p, &node);
}

uint32_t plan_lookup(struct plan *p, uint32_t rows, uint32_t of, const uint32_t *keys,
                     uint32_t keys_len, bool null_equal)
{
    uint32_t inputs[] = {rows, of};
    struct plan_node node = node_of(p, PLAN_LOOKUP, inputs, 2);
    node.lookup.keys = copy_cols(p, keys, keys_len);
    node.lookup.keys_len = keys_len;
    node.lookup.null_equal = null_equal;
    node.schema = both_schemas(p, rows, of);
    return plan_add(p, &node);
}

void plan_index_keys(struct plan *p, uint32_t index, const uint32_t *keys, uint32_t keys_len)
{
    p->nodes[index].import.keys = copy_cols(p, keys, keys_len);
    p->nodes[index].import.keys_len = keys_len;
}

uint32_t plan_topk(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                   const struct plan_order *order, uint32_t order_len, int64_t offset,
                   int64_t limit)
{
    struct plan_node node = node_of(p, PLAN_TOPK, &input, 1);
    node.topk.keys = copy_cols(p, keys, keys_len);
    node.topk.keys_len = keys_len;
    node.topk.order =
        order_len == 0 ? NULL : arena_memdup(&p->arena, order, order_len * sizeof(*order));
    node.topk.order_len = order_len;
    node.topk.offset = offset;
    node.topk.limit = limit;
    return plan_add(p, &node);
}

uint32_t plan_temporal(struct plan *p, uint32_t input, const struct plan_temporal_bound *bounds,
                       uint32_t bounds_len, uint32_t cols)
{
    struct plan_node node = node_of(p, PLAN_TEMPORAL, &input, 1);
    node.schema.cols = cols;
    node.temporal.bounds = arena_memdup(&p->arena, bounds, bounds_len * sizeof(*bounds));
    node.temporal.bounds_len = bounds_len;
    return plan_add(p, &node);
}

static struct schema project(struct plan *p, const struct type *types, const uint32_t *cols,
                             uint32_t len)
{
    struct schema schema = {.cols = len, .types = ARENA_ARRAY(&p->arena, struct type, len + 1)};
    for (uint32_t c = 0; c < len; c++) {
        schema.types[c] = types[cols[c]];
    }
    return schema;
}

uint32_t plan_project(struct plan *p, uint32_t input, const uint32_t *cols, uint32_t cols_len)
{
    struct plan_node node = node_of(p, PLAN_MFP, &input, 1);
    const struct schema in = p->nodes[input].schema;
    node.mfp = (struct mfp){
        .input_cols = in.cols, .project = copy_cols(p, cols, cols_len), .project_len = cols_len};
    node.schema = project(p, in.types, cols, cols_len);
    return plan_add(p, &node);
}

uint32_t plan_filter(struct plan *p, uint32_t input, uint32_t col, const uint32_t *cols,
                     uint32_t cols_len)
{
    struct plan_node node = node_of(p, PLAN_MFP, &input, 1);
    const struct schema in = p->nodes[input].schema;
    struct expr *predicate = ARENA_NEW(&p->arena, struct expr);
    struct expr_node column = {.kind = EXPR_COLUMN, .column = col, .type = in.types[col]};
    uint32_t a = expr_add(&p->arena, predicate, &column);
    struct expr_node is_null = {
        .kind = EXPR_IS_NULL, .type = type_of(TYPE_BOOL), .args = &a, .args_len = 1};
    uint32_t b = expr_add(&p->arena, predicate, &is_null);
    struct expr_node not = {
        .kind = EXPR_NOT, .type = type_of(TYPE_BOOL), .args = &b, .args_len = 1};
    expr_add(&p->arena, predicate, &not);
    node.mfp = (struct mfp){.input_cols = in.cols,
                            .predicates = predicate,
                            .predicates_len = 1,
                            .project = copy_cols(p, cols, cols_len),
                            .project_len = cols_len};
    node.schema = project(p, in.types, cols, cols_len);
    return plan_add(p, &node);
}

/* Appends literal op col (INT8), or col op literal. */
static uint32_t append_call(struct plan *p, uint32_t input, uint32_t col, const char *op,
                            int64_t literal, bool literal_first)
{
    static const uint8_t int8s[] = {TYPE_INT8, TYPE_INT8};
    struct plan_node node = node_of(p, PLAN_MFP, &input, 1);
    const struct schema in = p->nodes[input].schema;
    struct expr *map = ARENA_NEW(&p->arena, struct expr);
    struct expr_node number = {
        .kind = EXPR_LITERAL, .type = type_of(TYPE_INT8), .literal = {.i = literal}};
    struct expr_node column = {.kind = EXPR_COLUMN, .column = col, .type = in.types[col]};
    uint32_t args[2];
    args[literal_first ? 0 : 1] = expr_add(&p->arena, map, &number);
    args[literal_first ? 1 : 0] = expr_add(&p->arena, map, &column);
    const struct func *func = func_find(op, int8s, 2);
    ASSERT(func != NULL);
    struct expr_node call = {.kind = EXPR_CALL,
                             .type = type_of(TYPE_INT8),
                             .func = func->id,
                             .args = args,
                             .args_len = 2};
    expr_add(&p->arena, map, &call);
    uint32_t cols[64];
    struct type types[64];
    for (uint32_t c = 0; c <= in.cols; c++) {
        cols[c] = c;
        types[c] = c < in.cols ? in.types[c] : type_of(TYPE_INT8);
    }
    node.mfp = (struct mfp){.input_cols = in.cols,
                            .maps = map,
                            .maps_len = 1,
                            .project = copy_cols(p, cols, in.cols + 1),
                            .project_len = in.cols + 1};
    node.schema = project(p, types, cols, in.cols + 1);
    return plan_add(p, &node);
}

uint32_t plan_divide(struct plan *p, uint32_t input, uint32_t col)
{
    return append_call(p, input, col, "/", 10, true);
}

uint32_t plan_plus(struct plan *p, uint32_t input, uint32_t col, int64_t addend)
{
    return append_call(p, input, col, "+", addend, false);
}

uint32_t plan_window(struct plan *p, uint32_t input, const uint32_t *keys, uint32_t keys_len,
                     const struct plan_order *order, uint32_t order_len,
                     const struct plan_window_call *calls, uint32_t calls_len)
{
    struct plan_node node = node_of(p, PLAN_WINDOW, &input, 1);
    const struct schema in = p->nodes[input].schema;
    node.window.keys = copy_cols(p, keys, keys_len);
    node.window.keys_len = keys_len;
    node.window.order = arena_memdup(&p->arena, order, order_len * sizeof(*order));
    node.window.order_len = order_len;
    node.window.calls = arena_memdup(&p->arena, calls, calls_len * sizeof(*calls));
    node.window.calls_len = calls_len;
    node.schema = (struct schema){.cols = in.cols + calls_len};
    node.schema.types = ARENA_ARRAY(&p->arena, struct type, in.cols + calls_len + 1);
    memcpy(node.schema.types, in.types, in.cols * sizeof(struct type));
    for (uint32_t i = 0; i < calls_len; i++) {
        node.schema.types[in.cols + i] = calls[i].type;
    }
    return plan_add(p, &node);
}

uint32_t plan_flat_map(struct plan *p, uint32_t input, const struct plan_table_call *calls,
                       uint32_t calls_len, bool ordinality, bool outer, uint8_t element)
{
    struct plan_node node = node_of(p, PLAN_FLAT_MAP, &input, 1);
    const struct schema in = p->nodes[input].schema;
    uint8_t kinds[128];
    uint32_t cols = in.cols;
    ASSERT(in.cols + calls_len * TABLE_FUNC_COLS_MAX < ARRAY_LEN(kinds));
    node.flat_map.keep = ARENA_ARRAY(&p->arena, uint32_t, in.cols + 1);
    for (uint32_t c = 0; c < in.cols; c++) {
        node.flat_map.keep[c] = c;
        kinds[c] = in.types[c].kind;
    }
    node.flat_map.keep_len = in.cols;
    node.flat_map.calls = arena_memdup(&p->arena, calls, calls_len * sizeof(*calls));
    node.flat_map.calls_len = calls_len;
    for (uint32_t i = 0; i < calls_len; i++) {
        const struct table_func *func = table_func_by_id(calls[i].func);
        node.flat_map.calls[i].args = copy_cols(p, calls[i].args, calls[i].args_len);
        for (uint32_t c = 0; c < func->cols_len; c++) {
            kinds[cols++] = func->cols[c] != 0 ? func->cols[c] : element;
        }
    }
    node.flat_map.ordinality = ordinality;
    node.flat_map.outer = outer;
    if (ordinality) {
        kinds[cols++] = TYPE_INT8;
    }
    node.schema = plan_schema(p, kinds, cols);
    return plan_add(p, &node);
}

static struct plan_export *add_export(struct plan *p)
{
    struct plan_export *exports =
        ARENA_ARRAY(&p->arena, struct plan_export, p->exports_len + 1);
    if (p->exports_len > 0) {
        memcpy(exports, p->exports, p->exports_len * sizeof(*exports));
    }
    p->exports = exports;
    return &p->exports[p->exports_len++];
}

void plan_export_index(struct plan *p, uint64_t id, uint32_t node, const uint32_t *keys,
                       uint32_t keys_len)
{
    *add_export(p) = (struct plan_export){.kind = PLAN_EXPORT_INDEX,
                                          .id = id,
                                          .node = node,
                                          .keys = copy_cols(p, keys, keys_len),
                                          .keys_len = keys_len,
                                          .until = FRONTIER_EMPTY};
}

void plan_export_subscribe(struct plan *p, uint64_t id, uint32_t node, bool snapshot,
                           uint64_t until)
{
    *add_export(p) = (struct plan_export){.kind = PLAN_EXPORT_SUBSCRIBE,
                                          .id = id,
                                          .node = node,
                                          .snapshot = snapshot,
                                          .until = until};
}

uint8_t *plan_kinds(const struct plan *p, uint32_t node)
{
    const struct schema *schema = &p->nodes[node].schema;
    uint8_t *kinds = mem_alloc(schema->cols + 1);
    for (uint32_t c = 0; c < schema->cols; c++) {
        kinds[c] = schema->types[c].kind;
    }
    return kinds;
}
