/*
 * From C structures to messages: see plan_codec.h. Nothing can fail here: the structures are our
 * own and valid, and arenas do not run out. The messages are shallow: arrays of numbers, names and
 * literal bytes point into the plan, which must outlive them; only what differs in form is built in
 * the arena.
 *
 * Equal plans give equal bytes (protobuf fields in order, rows in order): the tests compare them.
 */
#include "ctrl/plan/plan_codec.h"

#include "core/base/mem.h"

/* All four fields: kind for computing, the others for the user. */
static tailrace_v1_Type encode_type(const struct type *type)
{
    return (tailrace_v1_Type){
        .kind = type->kind, .nullable = type->nullable, .typmod = type->typmod, .oid = type->oid};
}

/* nanopb writes through non-const pointers and only reads behind them when encoding. */
static char *borrow_text(const char *text)
{
    ASSERT(text != NULL);
    union {
        const char *in;
        char *out;
    } text_of = {.in = text};
    return text_of.out;
}

void plan_codec_encode_schema(const struct schema *schema, struct arena *arena,
                              tailrace_v1_Schema *out)
{
    *out = (tailrace_v1_Schema){0};
    ASSERT(schema->cols <= BATCH_COLS_MAX && (schema->cols == 0 || schema->types != NULL));
    out->types_count = out->names_count = (pb_size_t)schema->cols;
    out->types = ARENA_ARRAY(arena, tailrace_v1_Type, schema->cols);
    out->names = ARENA_ARRAY(arena, char *, schema->cols);
    for (uint32_t i = 0; i < schema->cols; i++) {
        out->types[i] = encode_type(&schema->types[i]);
        const char *name = schema->names != NULL ? schema->names[i] : NULL;
        out->names[i] = borrow_text(name != NULL ? name : "");
    }
}

/*
 * The bytes of a literal: its kind's member of struct datum, or the variable bytes. Little endian,
 * as both ends are (batch.c asserts it):
 *
 *   bool                    1 byte
 *   numeric                 struct numeric, 24 bytes
 *   interval, uuid          16 bytes
 *   float4, float8          a double, 8 bytes
 *   integers, dates, times  int64_t, 8 bytes
 *   text, bytea, jsonb      the bytes
 */
static struct rpc_bytes encode_datum(enum type_kind kind, const struct datum *d,
                                     struct arena *arena)
{
    ASSERT(!d->null && kind > 0 && kind < TYPE_UNKNOWN);
    switch (kind) {
    case TYPE_BOOL: {
        uint8_t *byte = arena_alloc(arena, 1);
        *byte = d->b ? 1 : 0;
        return (struct rpc_bytes){byte, 1};
    }
    case TYPE_FLOAT4:
    case TYPE_FLOAT8: return (struct rpc_bytes){arena_memdup(arena, &d->f, 8), 8};
    case TYPE_NUMERIC:
        return (struct rpc_bytes){arena_memdup(arena, &d->n, sizeof(d->n)), sizeof(d->n)};
    case TYPE_INTERVAL:
        return (struct rpc_bytes){arena_memdup(arena, &d->iv, sizeof(d->iv)), sizeof(d->iv)};
    case TYPE_UUID: return (struct rpc_bytes){arena_memdup(arena, d->uuid, 16), 16};
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_JSONB: return (struct rpc_bytes){(const uint8_t *)d->s, d->len};
    default: return (struct rpc_bytes){arena_memdup(arena, &d->i, 8), 8};
    }
}

/*
 * Only literals carry a value, and a NULL carries none. args are borrowed: nanopb writes them as
 * they stand.
 */
static void encode_expr(const struct expr *expr, struct arena *arena, tailrace_v1_Expr *out)
{
    ASSERT(expr->nodes_len > 0 && expr->nodes_len <= EXPR_NODES_MAX);
    *out = (tailrace_v1_Expr){.nodes_count = (pb_size_t)expr->nodes_len};
    out->nodes = ARENA_ARRAY(arena, tailrace_v1_ExprNode, expr->nodes_len);
    for (uint32_t i = 0; i < expr->nodes_len; i++) {
        const struct expr_node *node = &expr->nodes[i];
        ASSERT(node->args_len <= EXPR_ARGS_MAX);
        tailrace_v1_ExprNode *m = &out->nodes[i];
        m->kind = node->kind;
        m->has_type = true;
        m->type = encode_type(&node->type);
        m->column = node->column;
        m->func = node->func;
        m->args_count = (pb_size_t)node->args_len;
        m->args = node->args;
        if (node->kind == EXPR_LITERAL) {
            m->has_literal = true;
            m->literal.null = node->literal.null;
            if (!node->literal.null) {
                m->literal.value = encode_datum(node->type.kind, &node->literal, arena);
            }
        }
    }
}

/* An array in the arena; the nodes' arguments stay where they are. */
static tailrace_v1_Expr *encode_exprs(const struct expr *exprs, uint32_t len, struct arena *arena)
{
    tailrace_v1_Expr *out = ARENA_ARRAY(arena, tailrace_v1_Expr, len);
    for (uint32_t i = 0; i < len; i++) {
        encode_expr(&exprs[i], arena, &out[i]);
    }
    return out;
}

/* project and the expressions' arguments are borrowed from the mfp. */
void plan_codec_encode_mfp(const struct mfp *mfp, struct arena *arena, tailrace_v1_Mfp *out)
{
    ASSERT(mfp->input_cols <= BATCH_COLS_MAX && mfp->project_len <= BATCH_COLS_MAX);
    ASSERT(mfp->maps_len <= BATCH_COLS_MAX && mfp->predicates_len <= BATCH_COLS_MAX);
    *out = (tailrace_v1_Mfp){.input_cols = mfp->input_cols};
    out->maps_count = (pb_size_t)mfp->maps_len;
    out->maps = encode_exprs(mfp->maps, mfp->maps_len, arena);
    out->predicates_count = (pb_size_t)mfp->predicates_len;
    out->predicates = encode_exprs(mfp->predicates, mfp->predicates_len, arena);
    out->project_count = (pb_size_t)mfp->project_len;
    out->project = mfp->project;
}

tailrace_v1_Order *plan_codec_encode_order(const struct plan_order *order, size_t len,
                                           struct arena *arena)
{
    ASSERT(len == 0 || order != NULL);
    tailrace_v1_Order *out = ARENA_ARRAY(arena, tailrace_v1_Order, len);
    for (size_t i = 0; i < len; i++) {
        out[i] = (tailrace_v1_Order){
            .col = order[i].col, .desc = order[i].desc, .nulls_first = order[i].nulls_first};
    }
    return out;
}

/*
 * Constant rows travel as one batch: its decoder already checks everything. The time is of no
 * meaning: constants stand at the as_of of whoever renders them.
 */
static void encode_constant(const struct plan_node *node, struct arena *arena,
                            tailrace_v1_Node *out)
{
    ASSERT(node->op == PLAN_CONSTANT && node->constant.rows_len <= BATCH_ROWS_MAX);
    uint32_t cols = node->schema.cols;
    uint8_t *kinds = ARENA_ARRAY(arena, uint8_t, cols + 1);
    for (uint32_t c = 0; c < cols; c++) {
        kinds[c] = node->schema.types[c].kind;
    }
    struct batch_builder *builder = batch_builder_new(kinds, cols);
    for (uint32_t r = 0; r < node->constant.rows_len; r++) {
        for (uint32_t c = 0; c < cols; c++) {
            batch_builder_datum(builder, c, &node->constant.rows[(size_t)r * cols + c]);
        }
        batch_builder_end_row(builder, 0, node->constant.diffs[r]);
    }
    size_t size = 0;
    void *bytes = batch_builder_finish_new(builder, &size);
    batch_builder_free(builder);
    out->has_constant = true;
    out->constant.data = (struct rpc_bytes){arena_memdup(arena, bytes, size), size};
    free(bytes);
}

/* arg and filter are sent even where they do not count: zero. */
static tailrace_v1_Aggregate encode_agg(const struct plan_agg *agg, struct arena *arena)
{
    ASSERT(agg->func > 0 && agg->func <= AGG_MAX_FUNC);
    return (tailrace_v1_Aggregate){
        .func = agg->func,
        .distinct = agg->distinct,
        .has_filter = agg->has_filter,
        .arg = agg->arg,
        .arg2 = agg->arg2,
        .filter = agg->filter,
        .order_count = (pb_size_t)agg->order_len,
        .order = plan_codec_encode_order(agg->order, agg->order_len, arena),
        .has_type = true,
        .type = encode_type(&agg->type)};
}

static void encode_reduce(const struct plan_node *node, struct arena *arena, tailrace_v1_Node *out)
{
    ASSERT(node->op == PLAN_REDUCE);
    out->has_reduce = true;
    out->reduce.keys_count = (pb_size_t)node->reduce.keys_len;
    out->reduce.keys = node->reduce.keys;
    out->reduce.aggs_count = (pb_size_t)node->reduce.aggs_len;
    out->reduce.aggs = ARENA_ARRAY(arena, tailrace_v1_Aggregate, node->reduce.aggs_len);
    for (uint32_t i = 0; i < node->reduce.aggs_len; i++) {
        out->reduce.aggs[i] = encode_agg(&node->reduce.aggs[i], arena);
    }
}

static tailrace_v1_Bound encode_bound(const struct plan_bound *bound)
{
    return (tailrace_v1_Bound){.kind = bound->kind, .offset = bound->offset, .col = bound->col};
}

static tailrace_v1_WindowCall encode_call(const struct plan_window_call *call, struct arena *arena)
{
    ASSERT(call->func > 0 && call->func <= PLAN_WINDOW_AGG);
    tailrace_v1_WindowCall out = {.func = call->func,
                                  .has_fallback = call->has_fallback,
                                  .arg = call->arg,
                                  .fallback = call->fallback,
                                  .n = call->n,
                                  .n_of_row = call->n_of_row,
                                  .n_col = call->n_col,
                                  .has_type = true,
                                  .type = encode_type(&call->type)};
    if (call->func == PLAN_WINDOW_AGG) {
        out.has_agg = true;
        out.agg = encode_agg(&call->agg, arena);
    }
    if (plan_window_has_frame(call->func)) {
        out.has_frame = true;
        out.frame = (tailrace_v1_Frame){.mode = call->frame.mode,
                                        .exclude = call->frame.exclude,
                                        .has_start = true,
                                        .start = encode_bound(&call->frame.start),
                                        .has_end = true,
                                        .end = encode_bound(&call->frame.end)};
    }
    return out;
}

static void encode_window(const struct plan_node *node, struct arena *arena, tailrace_v1_Node *out)
{
    ASSERT(node->op == PLAN_WINDOW);
    out->has_window = true;
    out->window.keys_count = (pb_size_t)node->window.keys_len;
    out->window.keys = node->window.keys;
    out->window.order_count = (pb_size_t)node->window.order_len;
    out->window.order =
        plan_codec_encode_order(node->window.order, node->window.order_len, arena);
    out->window.calls_count = (pb_size_t)node->window.calls_len;
    out->window.calls = ARENA_ARRAY(arena, tailrace_v1_WindowCall, node->window.calls_len);
    for (uint32_t i = 0; i < node->window.calls_len; i++) {
        out->window.calls[i] = encode_call(&node->window.calls[i], arena);
    }
}

static void encode_flat_map(const struct plan_node *node, struct arena *arena,
                            tailrace_v1_Node *out)
{
    ASSERT(node->op == PLAN_FLAT_MAP);
    out->has_flat_map = true;
    out->flat_map.keep_count = (pb_size_t)node->flat_map.keep_len;
    out->flat_map.keep = node->flat_map.keep;
    out->flat_map.ordinality = node->flat_map.ordinality;
    out->flat_map.outer = node->flat_map.outer;
    out->flat_map.calls_count = (pb_size_t)node->flat_map.calls_len;
    out->flat_map.calls = ARENA_ARRAY(arena, tailrace_v1_TableCall, node->flat_map.calls_len);
    for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
        const struct plan_table_call *call = &node->flat_map.calls[i];
        out->flat_map.calls[i] = (tailrace_v1_TableCall){
            .func = call->func, .args_count = (pb_size_t)call->args_len, .args = call->args};
    }
}

/* Both lists of keys have the same length; the message states it twice, and decoding insists. */
static void encode_join(const struct plan_node *node, tailrace_v1_Node *out)
{
    ASSERT(node->op == PLAN_JOIN && node->join.kind >= PLAN_JOIN_INNER);
    out->has_join = true;
    out->join.kind = node->join.kind;
    out->join.left_keys_count = out->join.right_keys_count = (pb_size_t)node->join.keys_len;
    out->join.left_keys = node->join.left_keys;
    out->join.right_keys = node->join.right_keys;
    out->join.null_equal = node->join.null_equal;
}

/* limit -1 means none on the wire too. */
static void encode_topk(const struct plan_node *node, struct arena *arena, tailrace_v1_Node *out)
{
    ASSERT(node->op == PLAN_TOPK && node->topk.limit >= -1);
    out->has_topk = true;
    out->topk.keys_count = (pb_size_t)node->topk.keys_len;
    out->topk.keys = node->topk.keys;
    out->topk.order_count = (pb_size_t)node->topk.order_len;
    out->topk.order = plan_codec_encode_order(node->topk.order, node->topk.order_len, arena);
    out->topk.limit = node->topk.limit;
    out->topk.offset = node->topk.offset;
    out->topk.ties = node->topk.ties;
}

static void encode_temporal(const struct plan_node *node, struct arena *arena,
                            tailrace_v1_Node *out)
{
    ASSERT(node->op == PLAN_TEMPORAL);
    out->has_temporal = true;
    out->temporal.bounds_count = (pb_size_t)node->temporal.bounds_len;
    out->temporal.bounds =
        ARENA_ARRAY(arena, tailrace_v1_TemporalBound, node->temporal.bounds_len);
    for (uint32_t i = 0; i < node->temporal.bounds_len; i++) {
        const struct plan_temporal_bound *bound = &node->temporal.bounds[i];
        out->temporal.bounds[i] =
            (tailrace_v1_TemporalBound){.cmp = bound->cmp, .col = bound->col};
    }
}

/*
 * Operators without parameters are their number, inputs and schema. One sub-message per operator
 * that has parameters; has_ flags say which is there.
 */
static void encode_node(const struct plan_node *node, struct arena *arena, tailrace_v1_Node *out)
{
    ASSERT(node->op >= PLAN_SOURCE && node->op <= PLAN_OP_MAX);
    ASSERT(node->inputs_len <= PLAN_INPUTS_MAX);
    *out = (tailrace_v1_Node){.op = node->op};
    out->inputs_count = (pb_size_t)node->inputs_len;
    out->inputs = node->inputs;
    out->has_schema = true;
    plan_codec_encode_schema(&node->schema, arena, &out->schema);
    switch (node->op) {
    case PLAN_SOURCE: out->import_id = node->import.id; break;
    case PLAN_INDEX:
        out->import_id = node->import.id;
        out->import_keys = node->import.keys;
        out->import_keys_count = (pb_size_t)node->import.keys_len;
        break;
    case PLAN_ARRANGE:
        out->has_arrange = true;
        out->arrange = (tailrace_v1_Arrange){.keys = node->arrange.keys,
                                             .keys_count = (pb_size_t)node->arrange.keys_len,
                                             .null_equal = node->arrange.null_equal};
        break;
    case PLAN_LOOKUP:
        out->has_lookup = true;
        out->lookup = (tailrace_v1_Lookup){.keys = node->lookup.keys,
                                           .keys_count = (pb_size_t)node->lookup.keys_len,
                                           .null_equal = node->lookup.null_equal,
                                           .before = node->lookup.before,
                                           .later = node->lookup.later};
        break;
    case PLAN_CONSTANT: encode_constant(node, arena, out); break;
    case PLAN_MFP:
        out->has_mfp = true;
        plan_codec_encode_mfp(&node->mfp, arena, &out->mfp);
        break;
    case PLAN_UNION: out->errors_once = node->sum.errors_once; break;
    case PLAN_JOIN: encode_join(node, out); break;
    case PLAN_REDUCE: encode_reduce(node, arena, out); break;
    case PLAN_TOPK: encode_topk(node, arena, out); break;
    case PLAN_WINDOW: encode_window(node, arena, out); break;
    case PLAN_FIXPOINT:
        out->has_fixpoint = true;
        out->fixpoint.variables_count = (pb_size_t)node->fixpoint.variables_len;
        out->fixpoint.variables = node->fixpoint.variables;
        out->fixpoint.limit = node->fixpoint.limit;
        out->fixpoint.limit_error = node->fixpoint.limit_error;
        break;
    case PLAN_LEAVE:
        out->has_leave = true;
        out->leave.binding = node->leave.binding;
        break;
    case PLAN_FLAT_MAP: encode_flat_map(node, arena, out); break;
    case PLAN_TEMPORAL: encode_temporal(node, arena, out); break;
    default: break;
    }
}

/* The plan need not be validated before, but must be well formed: decoding will validate it. */
void plan_codec_encode(const struct plan *plan, struct arena *arena, tailrace_v1_Plan *out)
{
    ASSERT(plan->nodes_len <= PLAN_NODES_MAX);
    *out = (tailrace_v1_Plan){
        .id = plan->id, .as_of = plan->as_of, .memory_limit = plan->memory_limit};
    out->name = borrow_text(plan->name != NULL ? plan->name : "");
    out->nodes_count = (pb_size_t)plan->nodes_len;
    out->nodes = ARENA_ARRAY(arena, tailrace_v1_Node, plan->nodes_len);
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        encode_node(&plan->nodes[i], arena, &out->nodes[i]);
    }
    out->exports_count = (pb_size_t)plan->exports_len;
    out->exports = ARENA_ARRAY(arena, tailrace_v1_Export, plan->exports_len);
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        const struct plan_export *e = &plan->exports[i];
        ASSERT(e->kind == PLAN_EXPORT_INDEX || e->kind == PLAN_EXPORT_SUBSCRIBE);
        out->exports[i] = (tailrace_v1_Export){.kind = e->kind,
                                               .id = e->id,
                                               .node = e->node,
                                               .keys_count = (pb_size_t)e->keys_len,
                                               .keys = e->keys,
                                               .snapshot = e->snapshot,
                                               .until = e->until};
    }
}

/* Texts are copied: an err_t is often freed before its message is sent. */
void plan_codec_encode_err(err_t err, struct arena *arena, tailrace_v1_Error *out)
{
    ASSERT(err != NULL);
    ASSERT(arena != NULL && out != NULL);
    *out = (tailrace_v1_Error){.code = err_code(err)};
    out->sqlstate = arena_strdup(arena, err_sqlstate(err));
    out->message = arena_strdup(arena, err_text(err));
    out->detail = arena_strdup(arena, err_detail_get(err));
    out->hint = arena_strdup(arena, err_hint_get(err));
}
