/*
 * Validation of plans: everything the engine relies on is checked here, because plans arrive over
 * the network. After it, rendering may index and cast without further checks: inputs come before
 * their users, so there is no cycle; columns are in range; kinds agree wherever bytes are
 * reinterpreted; sizes are within the bounds of batches.
 *
 * Any thread. What depends on the state of a worker (does an index exist, is an id taken) is
 * checked by engine_create.
 */
#include "core/engine/plan_check.h"

/*
 * The SQL side of a type (OID, typmod) is only ever printed: the kind decides how bytes are read.
 */
static err_t check_schema(const struct schema *schema)
{
    CHECK(schema->cols <= BATCH_COLS_MAX, "%u columns, at most %d", schema->cols, BATCH_COLS_MAX);
    CHECK(schema->cols == 0 || schema->types != NULL, "columns without types");
    for (uint32_t i = 0; i < schema->cols; i++) {
        uint8_t kind = schema->types[i].kind;
        CHECK(kind > 0 && kind < TYPE_KIND_MAX && kind != TYPE_UNKNOWN,
              "column %u has no type of data (%u)", i, kind);
    }
    return ERR_OK;
}

/* what: names the list in the message. */
err_t plan_check_cols(const char *what, const uint32_t *cols, uint32_t len, uint32_t bound)
{
    CHECK(len <= BATCH_COLS_MAX, "%s: %u columns, at most %d", what, len, BATCH_COLS_MAX);
    CHECK(len == 0 || cols != NULL, "%s: columns missing", what);
    for (uint32_t i = 0; i < len; i++) {
        CHECK(cols[i] < bound, "%s: column %u of %u", what, cols[i], bound);
    }
    return ERR_OK;
}

/* a: the node's schema; b: what its operator produces. */
err_t plan_check_same_kinds(const struct schema *a, const struct schema *b)
{
    CHECK(a->cols == b->cols, "%u columns where %u are produced", a->cols, b->cols);
    for (uint32_t i = 0; i < a->cols; i++) {
        CHECK(a->types[i].kind == b->types[i].kind, "column %u is of another type", i);
    }
    return ERR_OK;
}

static err_t check_constant(const struct plan_node *node)
{
    uint32_t cols = node->schema.cols;
    CHECK(node->inputs_len == 0, "a constant has no input");
    CHECK(node->constant.rows_len <= BATCH_ROWS_MAX, "too many rows");
    CHECK(node->constant.rows_len == 0 || node->constant.diffs != NULL, "diffs missing");
    CHECK(node->constant.rows_len == 0 || cols == 0 || node->constant.rows != NULL,
          "rows missing");
    for (size_t r = 0; r < node->constant.rows_len; r++) {
        for (uint32_t c = 0; c < cols; c++) {
            CHECK(datum_valid(node->schema.types[c].kind, &node->constant.rows[r * cols + c]),
                  "row %zu, column %u is not a value of its type", r, c);
        }
    }
    return ERR_OK;
}

/* The program is checked against the input's types, and its output against the node's schema. */
static err_t check_mfp(const struct plan_node *node, const struct schema *input)
{
    struct arena arena = {0};
    struct type *output = NULL;
    err_t err = mfp_validate(&node->mfp, input->types, input->cols, &arena, &output);
    if (err == ERR_OK && node->mfp.input_cols != input->cols) {
        err = err_new(ERR_INVALID, "%u input columns of %u", node->mfp.input_cols, input->cols);
    }
    if (err == ERR_OK) {
        struct schema produced = {.cols = node->mfp.project_len, .types = output};
        err = plan_check_same_kinds(&node->schema, &produced);
    }
    arena_free(&arena);
    return err;
}

/* Columns of a to those of b, of one kind pairwise. */
static err_t check_keys(const uint32_t *a, const struct schema *a_schema, const uint32_t *b,
                        const struct schema *b_schema, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        CHECK(a_schema->types[a[i]].kind == b_schema->types[b[i]].kind,
              "keys %u are of different types", i);
    }
    return ERR_OK;
}

/* left's columns, then right's. */
static err_t check_pairs(const struct plan_node *node, const struct schema *left,
                         const struct schema *right)
{
    CHECK(node->schema.cols == left->cols + right->cols, "%u columns where %u are produced",
          node->schema.cols, left->cols + right->cols);
    for (uint32_t i = 0; i < node->schema.cols; i++) {
        uint8_t kind = i < left->cols ? left->types[i].kind : right->types[i - left->cols].kind;
        CHECK(node->schema.types[i].kind == kind, "column %u is of another type", i);
    }
    return ERR_OK;
}

/*
 * Keys are compared as bytes, so both sides must be of one kind: casts are the planner's business.
 */
static err_t check_join(const struct plan_node *node, const struct schema *left,
                        const struct schema *right)
{
    CHECK(node->join.kind >= PLAN_JOIN_INNER && node->join.kind <= PLAN_JOIN_ANTI,
          "unknown kind of join %u", node->join.kind);
    TRY(plan_check_cols("left keys", node->join.left_keys, node->join.keys_len, left->cols));
    TRY(plan_check_cols("right keys", node->join.right_keys, node->join.keys_len, right->cols));
    TRY(check_keys(node->join.left_keys, left, node->join.right_keys, right,
                   node->join.keys_len));
    if (node->join.kind == PLAN_JOIN_SEMI || node->join.kind == PLAN_JOIN_ANTI) {
        return plan_check_same_kinds(&node->schema, left);
    }
    return check_pairs(node, left, right);
}

static err_t check_arrange(const struct plan_node *node, const struct schema *input)
{
    CHECK(node->arrange.keys_len > 0, "an arrangement without keys");
    TRY(plan_check_cols("keys", node->arrange.keys, node->arrange.keys_len, input->cols));
    return plan_check_same_kinds(&node->schema, input);
}

static err_t check_lookup(const struct plan *plan, const struct plan_node *node)
{
    const struct plan_node *rows = &plan->nodes[node->inputs[0]];
    const struct plan_node *of = &plan->nodes[node->inputs[1]];
    CHECK(of->op == PLAN_ARRANGE || of->op == PLAN_INDEX, "a lookup in node %u",
          node->inputs[1]);
    bool own = of->op == PLAN_ARRANGE;
    const uint32_t *keys = own ? of->arrange.keys : of->import.keys;
    uint32_t keys_len = own ? of->arrange.keys_len : of->import.keys_len;
    CHECK(keys_len > 0 && keys_len == node->lookup.keys_len, "%u keys where %u are arranged",
          node->lookup.keys_len, keys_len);
    CHECK(!own || of->arrange.null_equal || !node->lookup.null_equal, "rows of NULL keys missing");
    TRY(plan_check_cols("keys", node->lookup.keys, keys_len, rows->schema.cols));
    TRY(check_keys(node->lookup.keys, &rows->schema, keys, &of->schema, keys_len));
    return check_pairs(node, &rows->schema, &of->schema);
}

/* Who reads an arrangement as rows would find none. */
static err_t check_uses(const struct plan *plan, const struct plan_node *node)
{
    for (uint32_t i = 0; i < node->inputs_len; i++) {
        CHECK(plan->nodes[node->inputs[i]].op != PLAN_ARRANGE ||
                  (node->op == PLAN_LOOKUP && i == 1),
              "input %u is only to be looked up in", node->inputs[i]);
    }
    return ERR_OK;
}

err_t plan_check_order(const struct plan_order *order, uint32_t len, const struct schema *input)
{
    CHECK(len <= BATCH_COLS_MAX, "too many order columns");
    CHECK(len == 0 || order != NULL, "order columns missing");
    for (uint32_t i = 0; i < len; i++) {
        CHECK(order[i].col < input->cols, "order by column %u of %u", order[i].col, input->cols);
    }
    return ERR_OK;
}

/*
 * Whether the function takes this kind, and the type of its result, is the catalogue's knowledge.
 */
err_t plan_check_agg(const struct plan_agg *agg, const struct schema *input)
{
    struct type result = {0};
    CHECK(agg->func >= AGG_COUNT_ALL && agg->func <= AGG_MAX_FUNC, "unknown aggregate %u",
          agg->func);
    CHECK(agg->func == AGG_COUNT_ALL || agg->arg < input->cols, "argument %u of %u columns",
          agg->arg, input->cols);
    uint8_t kind = agg->func == AGG_COUNT_ALL ? TYPE_INT8 : input->types[agg->arg].kind;
    CHECK(agg_result((enum agg_func)agg->func, (enum type_kind)kind, &result),
          "no aggregate %u over type %u", agg->func, kind);
    CHECK(agg->type.kind == result.kind, "aggregate %u gives type %u, not %u", agg->func,
          result.kind, agg->type.kind);
    CHECK(!agg->distinct || agg->func != AGG_COUNT_ALL, "count(distinct *)");
    CHECK(!agg_takes_two((enum agg_func)agg->func) ||
              (agg->arg2 < input->cols && input->types[agg->arg2].kind == kind),
          "the second argument is of another type");
    CHECK(agg->order_len == 0 || agg_is_ordered((enum agg_func)agg->func),
          "aggregate %u has no order", agg->func);
    TRY(plan_check_order(agg->order, agg->order_len, input));
    CHECK(!agg->has_filter ||
              (agg->filter < input->cols && input->types[agg->filter].kind == TYPE_BOOL),
          "the filter is not a boolean column");
    return ERR_OK;
}

/* The output is fixed: the key columns, then one column an aggregate. */
static err_t check_reduce(const struct plan_node *node, const struct schema *input)
{
    uint32_t keys_len = node->reduce.keys_len;
    TRY(plan_check_cols("group", node->reduce.keys, keys_len, input->cols));
    CHECK(node->reduce.aggs_len <= BATCH_COLS_MAX, "too many aggregates");
    CHECK(node->reduce.aggs_len == 0 || node->reduce.aggs != NULL, "aggregates missing");
    CHECK(node->schema.cols == keys_len + node->reduce.aggs_len,
          "%u columns where %u are produced", node->schema.cols,
          keys_len + node->reduce.aggs_len);
    for (uint32_t i = 0; i < keys_len; i++) {
        CHECK(node->schema.types[i].kind == input->types[node->reduce.keys[i]].kind,
              "column %u is of another type", i);
    }
    for (uint32_t i = 0; i < node->reduce.aggs_len; i++) {
        TRY(err_wrap(plan_check_agg(&node->reduce.aggs[i], input), "aggregate %u", i));
        CHECK(node->schema.types[keys_len + i].kind == node->reduce.aggs[i].type.kind,
              "column %u is of another type", keys_len + i);
    }
    return ERR_OK;
}

/* Limit and offset are used in sums: the operator guards those, not this check. */
static err_t check_topk(const struct plan_node *node, const struct schema *input)
{
    TRY(plan_check_cols("partition", node->topk.keys, node->topk.keys_len, input->cols));
    TRY(plan_check_order(node->topk.order, node->topk.order_len, input));
    CHECK(node->topk.limit >= -1, "negative limit");
    CHECK(node->topk.offset >= 0, "negative offset");
    CHECK(!node->topk.ties || (node->topk.limit >= 0 && node->topk.offset == 0),
          "ties without a limit, or with an offset");
    return plan_check_same_kinds(&node->schema, input);
}

/* A function of the catalogue over columns of its kinds; *cols moves behind its own. */
static err_t check_table_call(const struct plan_node *node, const struct plan_table_call *call,
                              const struct schema *input, uint32_t *cols)
{
    const struct table_func *func = table_func_by_id(call->func);
    CHECK(func != NULL, "unknown set-returning function %u", call->func);
    CHECK(call->args_len == func->args_len, "%s of %u arguments", func->name, call->args_len);
    TRY(plan_check_cols("arguments", call->args, call->args_len, input->cols));
    for (uint32_t i = 0; i < func->args_len; i++) {
        CHECK(input->types[call->args[i]].kind == func->args[i],
              "argument %u of %s is of another type", i, func->name);
    }
    for (uint32_t i = 0; i < func->cols_len; i++, (*cols)++) {
        CHECK(*cols < node->schema.cols, "the columns of %s are missing", func->name);
        CHECK(func->cols[i] == 0 || node->schema.types[*cols].kind == func->cols[i],
              "column %u is of another type", *cols);
    }
    return ERR_OK;
}

/* The output: kept columns, then those of each function, then the ordinality. */
static err_t check_flat_map(const struct plan_node *node, const struct schema *input)
{
    uint32_t cols = node->flat_map.keep_len;
    TRY(plan_check_cols("kept", node->flat_map.keep, cols, input->cols));
    CHECK(node->flat_map.calls_len > 0 && node->flat_map.calls_len <= BATCH_COLS_MAX,
          "%u functions", node->flat_map.calls_len);
    CHECK(node->flat_map.calls != NULL, "functions missing");
    CHECK(cols <= node->schema.cols, "kept columns are missing");
    for (uint32_t i = 0; i < cols; i++) {
        CHECK(node->schema.types[i].kind == input->types[node->flat_map.keep[i]].kind,
              "column %u is of another type", i);
    }
    for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
        TRY(err_wrap(check_table_call(node, &node->flat_map.calls[i], input, &cols),
                     "function %u", i));
    }
    if (node->flat_map.ordinality) {
        CHECK(cols < node->schema.cols && node->schema.types[cols].kind == TYPE_INT8,
              "the ordinality is no column of the right type");
        cols++;
    }
    CHECK(cols == node->schema.cols, "%u columns where %u are produced", node->schema.cols, cols);
    return ERR_OK;
}

/* The output is the input's first columns: bounds that nobody reads stand behind them. */
static err_t check_temporal(const struct plan_node *node, const struct schema *input)
{
    CHECK(node->temporal.bounds_len > 0 && node->temporal.bounds_len <= BATCH_COLS_MAX,
          "%u bounds", node->temporal.bounds_len);
    CHECK(node->temporal.bounds != NULL, "bounds missing");
    for (uint32_t i = 0; i < node->temporal.bounds_len; i++) {
        const struct plan_temporal_bound *bound = &node->temporal.bounds[i];
        CHECK(bound->cmp > 0 && bound->cmp <= PLAN_TEMPORAL_CMP_MAX, "unknown comparison %u",
              bound->cmp);
        CHECK(bound->col < input->cols, "bound %u of %u columns", bound->col, input->cols);
        CHECK(plan_temporal_takes(input->types[bound->col].kind), "bound %u is no time", i);
    }
    CHECK(node->schema.cols <= input->cols, "%u columns of %u", node->schema.cols, input->cols);
    struct schema first = {.cols = node->schema.cols, .types = input->types};
    return plan_check_same_kinds(&node->schema, &first);
}

/* How many inputs an operator takes; a union any number but zero. */
static uint32_t inputs_of(uint8_t op, uint32_t given)
{
    switch (op) {
    case PLAN_SOURCE:
    case PLAN_INDEX:
    case PLAN_CONSTANT:
    case PLAN_VARIABLE:
        return 0;
    case PLAN_JOIN:
    case PLAN_LOOKUP:
        return 2;
    case PLAN_UNION:
    case PLAN_FIXPOINT:
        return given > 0 ? given : 1;
    default:
        return 1;
    }
}

static err_t check_union(const struct plan *plan, const struct plan_node *node)
{
    for (uint32_t i = 0; i < node->inputs_len; i++) {
        TRY(err_wrap(plan_check_same_kinds(&node->schema, &plan->nodes[node->inputs[i]].schema),
                     "input %u", i));
    }
    return ERR_OK;
}

/* The operator's number first: everything after it relies on it. */
static err_t check_node(const struct plan *plan, uint32_t index)
{
    ASSERT(index < plan->nodes_len);
    const struct plan_node *node = &plan->nodes[index];
    CHECK(node->op >= PLAN_SOURCE && node->op <= PLAN_OP_MAX, "unknown operator %u", node->op);
    TRY(check_schema(&node->schema));
    CHECK(node->inputs_len <= PLAN_INPUTS_MAX, "%u inputs, at most %d", node->inputs_len,
          PLAN_INPUTS_MAX);
    CHECK(node->inputs_len == inputs_of(node->op, node->inputs_len), "%u inputs",
          node->inputs_len);
    CHECK(node->inputs_len == 0 || node->inputs != NULL, "inputs missing");
    for (uint32_t i = 0; i < node->inputs_len; i++) {
        CHECK(node->inputs[i] < index, "input %u does not come before it", node->inputs[i]);
    }
    TRY(check_uses(plan, node));
    const struct schema *input =
        node->inputs_len > 0 ? &plan->nodes[node->inputs[0]].schema : NULL;
    switch (node->op) {
    case PLAN_SOURCE:
        return ERR_OK;
    case PLAN_INDEX:
        return plan_check_cols("index keys", node->import.keys, node->import.keys_len,
                               node->schema.cols);
    case PLAN_ARRANGE:
        return check_arrange(node, input);
    case PLAN_LOOKUP:
        return check_lookup(plan, node);
    case PLAN_CONSTANT:
        return check_constant(node);
    case PLAN_MFP:
        return check_mfp(node, input);
    case PLAN_JOIN:
        return check_join(node, input, &plan->nodes[node->inputs[1]].schema);
    case PLAN_REDUCE:
        return check_reduce(node, input);
    case PLAN_TOPK:
        return check_topk(node, input);
    case PLAN_WINDOW:
        return plan_check_window(node, input);
    case PLAN_VARIABLE:
        return ERR_OK; /* plan_check_scopes sees to the rest */
    case PLAN_FIXPOINT:
        return plan_check_fixpoint(plan, index);
    case PLAN_LEAVE:
        return plan_check_leave(plan, node);
    case PLAN_FLAT_MAP:
        return check_flat_map(node, input);
    case PLAN_TEMPORAL:
        return check_temporal(node, input);
    case PLAN_UNION:
    case PLAN_NEGATE:
    case PLAN_DISTINCT:
    case PLAN_THRESHOLD: /* as their inputs */
        return check_union(plan, node);
    default:
        return err_new(ERR_INVALID, "unknown operator %u", node->op);
    }
}

/* Ids of one plan must differ: they are keys in the engine's maps. */
static err_t check_export(const struct plan *plan, uint32_t index)
{
    ASSERT(index < plan->exports_len);
    const struct plan_export *export = &plan->exports[index];
    CHECK(export->kind == PLAN_EXPORT_INDEX || export->kind == PLAN_EXPORT_SUBSCRIBE,
          "unknown kind %u", export->kind);
    CHECK(export->node < plan->nodes_len, "node %u of %u", export->node, plan->nodes_len);
    CHECK(plan->nodes[export->node].op != PLAN_ARRANGE, "node %u is only to be looked up in",
          export->node);
    if (export->kind == PLAN_EXPORT_INDEX) {
        TRY(plan_check_cols("index keys", export->keys, export->keys_len,
                       plan->nodes[export->node].schema.cols));
    }
    for (uint32_t i = 0; i < index; i++) {
        CHECK(plan->exports[i].id != export->id, "the id of export %u again", i);
    }
    return ERR_OK;
}

err_t plan_validate(const struct plan *plan)
{
    CHECK(plan->nodes_len <= PLAN_NODES_MAX, "%u nodes, at most %d", plan->nodes_len,
          PLAN_NODES_MAX);
    CHECK(plan->exports_len <= PLAN_NODES_MAX, "%u exports, at most %d", plan->exports_len,
          PLAN_NODES_MAX);
    CHECK(plan->nodes_len > 0 && plan->nodes != NULL, "nodes missing");
    CHECK(plan->exports_len == 0 || plan->exports != NULL, "exports missing");
    CHECK(plan->as_of != FRONTIER_EMPTY, "the dataflow has no as_of");
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        TRY(err_wrap(check_node(plan, i), "plan node %u", i));
    }
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        TRY(err_wrap(check_export(plan, i), "plan export %u", i));
    }
    return plan_check_scopes(plan);
}
