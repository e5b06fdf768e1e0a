/*
 * From messages of another process to C structures: everything checked. See plan_codec.h.
 *
 * Two layers. Here: what the C structures cannot even express is refused (a kind beyond 8 bits
 * would wrap around, a literal of the wrong length would be read beyond its end, arrays of
 * different lengths could not be walked together). Then plan_validate, mfp_validate and
 * expr_validate check what the parts mean together. Nothing is looked at between the two.
 *
 * Counts are bounded before arrays of that size are made. nanopb has bounded them by the size of
 * the message already, so a small message cannot ask for much memory. Whatever was decoded when an
 * error is found hangs in the arena and goes with it.
 */
#include "ctrl/plan/plan_codec.h"

#include "core/base/mem.h"

/*
 * present: nanopb's flag of a sub-message; without one there is no type. UNKNOWN passes here, for
 * literals of statements; validation refuses it where data is meant.
 */
static err_t decode_type(bool present, const tailrace_v1_Type *message, struct type *out)
{
    STATIC_ASSERT(TYPE_KIND_MAX <= UINT8_MAX, "a kind fits its field");
    if (!present || message->kind == 0 || message->kind >= TYPE_KIND_MAX) {
        return err_new(ERR_PROTOCOL, "unknown type kind %u", present ? message->kind : 0);
    }
    *out = (struct type){.kind = (uint8_t)message->kind,
                         .nullable = message->nullable,
                         .typmod = message->typmod,
                         .oid = message->oid};
    return ERR_OK;
}

/* NULL for an empty list. */
static uint32_t *copy_u32(struct arena *arena, const uint32_t *in, size_t len)
{
    ASSERT(len == 0 || in != NULL);
    return len == 0 ? NULL : arena_memdup(arena, in, len * sizeof(in[0]));
}

/* nanopb leaves strings that were not sent NULL. */
static const char *copy_text(struct arena *arena, const char *text)
{
    return arena_strdup(arena, text != NULL ? text : "");
}

/* Names and types come in two lists of one length. */
err_t plan_codec_decode_schema(const tailrace_v1_Schema *message, struct arena *arena,
                               struct schema *out)
{
    if (message->types_count > BATCH_COLS_MAX || message->names_count != message->types_count) {
        return err_new(ERR_PROTOCOL, "schema of %u types and %u names", message->types_count,
                       message->names_count);
    }
    out->cols = message->types_count;
    out->types = ARENA_ARRAY(arena, struct type, out->cols);
    out->names = ARENA_ARRAY(arena, const char *, out->cols);
    for (uint32_t i = 0; i < out->cols; i++) {
        TRY(decode_type(true, &message->types[i], &out->types[i]));
        out->names[i] = copy_text(arena, message->names[i]);
    }
    return ERR_OK;
}

/* How many bytes a literal of a fixed kind has in a message; 0 for variable kinds. */
static size_t literal_size(enum type_kind kind)
{
    ASSERT(kind > 0 && kind < TYPE_KIND_MAX);
    switch (kind) {
    case TYPE_BOOL: return 1;
    case TYPE_NUMERIC: return sizeof(struct numeric);
    case TYPE_INTERVAL:
    case TYPE_UUID: return 16;
    default: return type_is_variable(kind) ? 0 : 8;
    }
}

/*
 * Copied, with a NUL behind it for good measure. Whether it is UTF-8 or JSON is expr_validate's
 * question. The bound keeps lengths within 32 bits with room to spare; frames are far smaller.
 */
static err_t decode_variable(enum type_kind kind, const struct rpc_bytes *bytes,
                             struct arena *arena, struct datum *out)
{
    ASSERT(type_is_variable(kind));
    if (bytes->len > UINT32_MAX / 2) {
        return err_new(ERR_PROTOCOL, "literal of %zu bytes", bytes->len);
    }
    out->s = arena_strndup(arena, bytes->len > 0 ? (const char *)bytes->data : "", bytes->len);
    out->len = (uint32_t)bytes->len;
    return ERR_OK;
}

/*
 * The bytes are copied as they are: whether they are a value of the kind is checked by datum_valid,
 * in expr_validate.
 */
static err_t decode_literal(enum type_kind kind, const tailrace_v1_Literal *message,
                            struct arena *arena, struct datum *out)
{
    *out = (struct datum){.null = message->null};
    if (message->null) {
        return ERR_OK;
    }
    if (type_is_variable(kind)) {
        return decode_variable(kind, &message->value, arena, out);
    }
    if (message->value.len != literal_size(kind)) {
        return err_new(ERR_PROTOCOL, "literal of kind %d has %zu bytes", kind, message->value.len);
    }
    const uint8_t *bytes = message->value.data;
    ASSERT(bytes != NULL); /* the length was right, and no fixed kind has none */
    switch (kind) {
    case TYPE_BOOL: out->b = bytes[0] != 0; break;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8: memcpy(&out->f, bytes, 8); break;
    case TYPE_NUMERIC: memcpy(&out->n, bytes, sizeof(out->n)); break;
    case TYPE_INTERVAL: memcpy(&out->iv, bytes, sizeof(out->iv)); break;
    case TYPE_UUID: memcpy(out->uuid, bytes, 16); break;
    default: memcpy(&out->i, bytes, 8); break;
    }
    return ERR_OK;
}

/*
 * A literal that says neither NULL nor a value is NULL: proto3 cannot tell an empty message from an
 * absent one. Kind and number of arguments are bounded here, as both are narrowed or used as sizes;
 * what they refer to is expr_validate's question.
 */
static err_t decode_expr(const tailrace_v1_Expr *message, struct arena *arena, struct expr *out)
{
    out->nodes_len = message->nodes_count;
    out->nodes = ARENA_ARRAY(arena, struct expr_node, out->nodes_len);
    for (uint32_t i = 0; i < out->nodes_len; i++) {
        const tailrace_v1_ExprNode *m = &message->nodes[i];
        struct expr_node *node = &out->nodes[i];
        if (m->kind == 0 || m->kind > EXPR_COALESCE || m->args_count > EXPR_ARGS_MAX) {
            return err_new(ERR_PROTOCOL, "expression node of kind %u with %u arguments", m->kind,
                           m->args_count);
        }
        node->kind = (uint8_t)m->kind;
        TRY(decode_type(m->has_type, &m->type, &node->type));
        node->column = m->column;
        node->func = m->func;
        node->args_len = m->args_count;
        node->args = copy_u32(arena, m->args, m->args_count);
        if (m->kind == EXPR_LITERAL) {
            const tailrace_v1_Literal null_literal = {.null = true};
            TRY(decode_literal(node->type.kind, m->has_literal ? &m->literal : &null_literal,
                               arena, &node->literal));
        }
    }
    return ERR_OK;
}

/* The caller says how many: counts of messages fit 32 bits. */
static err_t decode_exprs(const tailrace_v1_Expr *messages, uint32_t len, struct arena *arena,
                          struct expr **out)
{
    *out = ARENA_ARRAY(arena, struct expr, len);
    ASSERT(len == 0 || messages != NULL);
    for (uint32_t i = 0; i < len; i++) {
        TRY(decode_expr(&messages[i], arena, &(*out)[i]));
    }
    return ERR_OK;
}

/* Stays unvalidated: it is meaningless without its input's types. */
err_t plan_codec_decode_mfp(const tailrace_v1_Mfp *message, struct arena *arena, struct mfp *out)
{
    ASSERT(arena != NULL && out != NULL);
    *out = (struct mfp){.input_cols = message->input_cols};
    out->maps_len = message->maps_count;
    TRY(decode_exprs(message->maps, out->maps_len, arena, &out->maps));
    out->predicates_len = message->predicates_count;
    TRY(decode_exprs(message->predicates, out->predicates_len, arena, &out->predicates));
    out->project_len = message->project_count;
    out->project = copy_u32(arena, message->project, message->project_count);
    return ERR_OK;
}

/* Any columns: the caller checks them against what it orders. */
struct plan_order *plan_codec_decode_order(const tailrace_v1_Order *message, size_t len,
                                           struct arena *arena)
{
    ASSERT(len == 0 || message != NULL);
    struct plan_order *out = ARENA_ARRAY(arena, struct plan_order, len);
    for (size_t i = 0; i < len; i++) {
        out[i] = (struct plan_order){.col = message[i].col,
                                     .desc = message[i].desc,
                                     .nulls_first = message[i].nulls_first};
    }
    return out;
}

/* The copy is aligned for columns, and nobody else can change it while it is checked. */
err_t plan_codec_open_batch(const struct rpc_bytes *bytes, const uint8_t *kinds, size_t kinds_len,
                            struct arena *arena, void **storage, struct batch *out)
{
    ASSERT(kinds_len <= BATCH_COLS_MAX && storage != NULL);
    size_t padded = (bytes->len + BATCH_ALIGN - 1) / BATCH_ALIGN * BATCH_ALIGN;
    void *copy = aligned_alloc(BATCH_ALIGN, padded == 0 ? BATCH_ALIGN : padded);
    if (copy == NULL) {
        return err_new(ERR_LIMIT, "no memory for a batch of %zu bytes", bytes->len);
    }
    if (bytes->len > 0) {
        memcpy(copy, bytes->data, bytes->len);
    }
    struct batch_col *cols = ARENA_ARRAY(arena, struct batch_col, kinds_len + 1);
    err_t err = batch_open(copy, bytes->len, kinds, kinds_len, cols, kinds_len, out);
    if (err != ERR_OK) {
        free(copy);
        return err;
    }
    *storage = copy;
    return ERR_OK;
}

/*
 * kinds are those of the node's own schema, so the batch cannot have others. Strings are copied out
 * of it, as it is freed.
 */
static err_t decode_constant(const tailrace_v1_Node *message, struct arena *arena,
                             struct plan_node *node)
{
    uint32_t cols = node->schema.cols;
    if (!message->has_constant) {
        return err_new(ERR_PROTOCOL, "a constant without rows");
    }
    uint8_t *kinds = ARENA_ARRAY(arena, uint8_t, cols + 1);
    for (uint32_t c = 0; c < cols; c++) {
        kinds[c] = node->schema.types[c].kind;
    }
    void *storage = NULL;
    struct batch batch;
    ASSERT(cols <= BATCH_COLS_MAX); /* decode_schema refuses more */
    TRY(plan_codec_open_batch(&message->constant.data, kinds, cols, arena, &storage, &batch));
    node->constant.rows_len = batch.rows;
    node->constant.rows = ARENA_ARRAY(arena, struct datum, (size_t)batch.rows * cols);
    node->constant.diffs = ARENA_ARRAY(arena, int64_t, batch.rows);
    for (uint32_t r = 0; r < batch.rows; r++) {
        node->constant.diffs[r] = batch_diff(&batch, r);
        for (uint32_t c = 0; c < cols; c++) {
            struct datum *d = &node->constant.rows[(size_t)r * cols + c];
            batch_datum(&batch.col[c], r, d);
            if (!d->null && type_is_variable(kinds[c])) {
                d->s = arena_strndup(arena, d->s, d->len);
            }
        }
    }
    free(storage);
    return ERR_OK;
}

/* The kind is compared before it is narrowed to 8 bits. */
static err_t decode_join(const tailrace_v1_Node *message, struct arena *arena,
                         struct plan_node *node)
{
    const tailrace_v1_Join *join = &message->join;
    if (!message->has_join || join->kind > PLAN_JOIN_ANTI ||
        join->left_keys_count != join->right_keys_count) {
        return err_new(ERR_PROTOCOL, "malformed join");
    }
    node->join.kind = (uint8_t)join->kind;
    node->join.keys_len = join->left_keys_count;
    node->join.left_keys = copy_u32(arena, join->left_keys, join->left_keys_count);
    node->join.right_keys = copy_u32(arena, join->right_keys, join->right_keys_count);
    node->join.null_equal = join->null_equal;
    return ERR_OK;
}

static err_t decode_arrange(const tailrace_v1_Node *message, struct arena *arena,
                            struct plan_node *node)
{
    const tailrace_v1_Arrange *arrange = &message->arrange;
    if (!message->has_arrange) {
        return err_new(ERR_PROTOCOL, "an arrangement without keys");
    }
    node->arrange.keys = copy_u32(arena, arrange->keys, arrange->keys_count);
    node->arrange.keys_len = arrange->keys_count;
    node->arrange.null_equal = arrange->null_equal;
    return ERR_OK;
}

static err_t decode_lookup(const tailrace_v1_Node *message, struct arena *arena,
                           struct plan_node *node)
{
    const tailrace_v1_Lookup *lookup = &message->lookup;
    if (!message->has_lookup) {
        return err_new(ERR_PROTOCOL, "a lookup without keys");
    }
    node->lookup.keys = copy_u32(arena, lookup->keys, lookup->keys_count);
    node->lookup.keys_len = lookup->keys_count;
    node->lookup.null_equal = lookup->null_equal;
    node->lookup.before = lookup->before;
    node->lookup.later = lookup->later;
    return ERR_OK;
}

/*
 * Function numbers are bounded before they are narrowed; whether there is such an aggregate over
 * the column is plan_validate's question.
 */
static err_t decode_agg(const tailrace_v1_Aggregate *m, struct arena *arena, struct plan_agg *agg)
{
    STATIC_ASSERT(AGG_MAX_FUNC <= UINT8_MAX, "a function fits its field");
    if (m->func == 0 || m->func > AGG_MAX_FUNC) {
        return err_new(ERR_PROTOCOL, "unknown aggregate %u", m->func);
    }
    *agg = (struct plan_agg){.func = (uint8_t)m->func,
                             .distinct = m->distinct,
                             .has_filter = m->has_filter,
                             .arg = m->arg,
                             .arg2 = m->arg2,
                             .filter = m->filter,
                             .order_len = m->order_count};
    agg->order = plan_codec_decode_order(m->order, m->order_count, arena);
    return decode_type(m->has_type, &m->type, &agg->type);
}

static err_t decode_reduce(const tailrace_v1_Node *message, struct arena *arena,
                           struct plan_node *node)
{
    const tailrace_v1_Reduce *reduce = &message->reduce;
    if (!message->has_reduce) {
        return err_new(ERR_PROTOCOL, "a reduce without keys and aggregates");
    }
    node->reduce.keys_len = reduce->keys_count;
    node->reduce.keys = copy_u32(arena, reduce->keys, reduce->keys_count);
    node->reduce.aggs_len = reduce->aggs_count;
    node->reduce.aggs = ARENA_ARRAY(arena, struct plan_agg, reduce->aggs_count);
    for (uint32_t i = 0; i < node->reduce.aggs_len; i++) {
        TRY(decode_agg(&reduce->aggs[i], arena, &node->reduce.aggs[i]));
    }
    return ERR_OK;
}

static err_t decode_bound(bool there, const tailrace_v1_Bound *m, struct plan_bound *bound)
{
    if (!there || m->kind > PLAN_BOUND_VALUE) {
        return err_new(ERR_PROTOCOL, "malformed bound of a frame");
    }
    *bound = (struct plan_bound){.kind = (uint8_t)m->kind, .offset = m->offset, .col = m->col};
    return ERR_OK;
}

/* Numbers are bounded before they are narrowed; plan_validate asks whether they make sense. */
static err_t decode_call(const tailrace_v1_WindowCall *m, struct arena *arena,
                         struct plan_window_call *call)
{
    STATIC_ASSERT(PLAN_WINDOW_AGG <= UINT8_MAX, "a function fits its field");
    if (m->func == 0 || m->func > PLAN_WINDOW_AGG) {
        return err_new(ERR_PROTOCOL, "unknown window function %u", m->func);
    }
    *call = (struct plan_window_call){.func = (uint8_t)m->func,
                                      .has_fallback = m->has_fallback,
                                      .arg = m->arg,
                                      .fallback = m->fallback,
                                      .n = m->n,
                                      .n_of_row = m->n_of_row,
                                      .n_col = m->n_col};
    TRY(decode_type(m->has_type, &m->type, &call->type));
    if (call->func == PLAN_WINDOW_AGG) {
        if (!m->has_agg) {
            return err_new(ERR_PROTOCOL, "a window without its aggregate");
        }
        TRY(decode_agg(&m->agg, arena, &call->agg));
    }
    if (plan_window_has_frame(call->func)) {
        const tailrace_v1_Frame *frame = &m->frame;
        if (!m->has_frame || frame->mode > PLAN_FRAME_GROUPS ||
            frame->exclude > PLAN_EXCLUDE_TIES) {
            return err_new(ERR_PROTOCOL, "malformed frame");
        }
        call->frame.mode = (uint8_t)frame->mode;
        call->frame.exclude = (uint8_t)frame->exclude;
        TRY(decode_bound(frame->has_start, &frame->start, &call->frame.start));
        TRY(decode_bound(frame->has_end, &frame->end, &call->frame.end));
    }
    return ERR_OK;
}

static err_t decode_window(const tailrace_v1_Node *message, struct arena *arena,
                           struct plan_node *node)
{
    const tailrace_v1_Window *window = &message->window;
    if (!message->has_window) {
        return err_new(ERR_PROTOCOL, "a window without functions");
    }
    node->window.keys_len = window->keys_count;
    node->window.keys = copy_u32(arena, window->keys, window->keys_count);
    node->window.order_len = window->order_count;
    node->window.order = plan_codec_decode_order(window->order, window->order_count, arena);
    node->window.calls_len = window->calls_count;
    node->window.calls = ARENA_ARRAY(arena, struct plan_window_call, window->calls_count);
    for (uint32_t i = 0; i < node->window.calls_len; i++) {
        TRY(decode_call(&window->calls[i], arena, &node->window.calls[i]));
    }
    return ERR_OK;
}

/* Which functions there are, and over what, is plan_validate's question. */
static err_t decode_flat_map(const tailrace_v1_Node *message, struct arena *arena,
                             struct plan_node *node)
{
    const tailrace_v1_FlatMap *m = &message->flat_map;
    if (!message->has_flat_map) {
        return err_new(ERR_PROTOCOL, "a flat map without functions");
    }
    node->flat_map.keep_len = m->keep_count;
    node->flat_map.keep = copy_u32(arena, m->keep, m->keep_count);
    node->flat_map.ordinality = m->ordinality;
    node->flat_map.outer = m->outer;
    node->flat_map.calls_len = m->calls_count;
    node->flat_map.calls = ARENA_ARRAY(arena, struct plan_table_call, m->calls_count);
    for (uint32_t i = 0; i < m->calls_count; i++) {
        node->flat_map.calls[i] = (struct plan_table_call){
            .func = m->calls[i].func,
            .args = copy_u32(arena, m->calls[i].args, m->calls[i].args_count),
            .args_len = m->calls[i].args_count};
    }
    return ERR_OK;
}

/* Without order the rows' own bytes decide: allowed. */
static err_t decode_topk(const tailrace_v1_Node *message, struct arena *arena,
                         struct plan_node *node)
{
    const tailrace_v1_TopK *topk = &message->topk;
    if (!message->has_topk) {
        return err_new(ERR_PROTOCOL, "a top-k without order and limit");
    }
    node->topk.keys_len = topk->keys_count;
    node->topk.keys = copy_u32(arena, topk->keys, topk->keys_count);
    node->topk.order_len = topk->order_count;
    node->topk.order = plan_codec_decode_order(topk->order, topk->order_count, arena);
    node->topk.limit = topk->limit;
    node->topk.offset = topk->offset;
    node->topk.ties = topk->ties;
    return ERR_OK;
}

static err_t decode_recursion(const tailrace_v1_Node *message, struct arena *arena,
                              struct plan_node *node)
{
    const tailrace_v1_Fixpoint *fixpoint = &message->fixpoint;
    if (node->op == PLAN_LEAVE) {
        node->leave.binding = message->leave.binding;
        return message->has_leave ? ERR_OK
                                  : err_new(ERR_PROTOCOL, "a leave without its variable");
    }
    if (!message->has_fixpoint) {
        return err_new(ERR_PROTOCOL, "a fixpoint without variables");
    }
    node->fixpoint = (struct plan_fixpoint){
        .variables = copy_u32(arena, fixpoint->variables, fixpoint->variables_count),
        .variables_len = fixpoint->variables_count,
        .limit = fixpoint->limit,
        .limit_error = fixpoint->limit_error};
    return ERR_OK;
}

static err_t decode_temporal(const tailrace_v1_Node *message, struct arena *arena,
                             struct plan_node *node)
{
    const tailrace_v1_Temporal *temporal = &message->temporal;
    if (!message->has_temporal) {
        return err_new(ERR_PROTOCOL, "a temporal filter without bounds");
    }
    node->temporal.bounds_len = temporal->bounds_count;
    node->temporal.bounds =
        ARENA_ARRAY(arena, struct plan_temporal_bound, temporal->bounds_count);
    for (uint32_t i = 0; i < node->temporal.bounds_len; i++) {
        const tailrace_v1_TemporalBound *m = &temporal->bounds[i];
        if (m->cmp == 0 || m->cmp > PLAN_TEMPORAL_CMP_MAX) {
            return err_new(ERR_PROTOCOL, "unknown comparison with the time %u", m->cmp);
        }
        node->temporal.bounds[i] =
            (struct plan_temporal_bound){.cmp = (uint8_t)m->cmp, .col = m->col};
    }
    return ERR_OK;
}

/*
 * op and schema first: the parts of some operators depend on the schema. A part that the operator
 * does not have is ignored, one it lacks is an error.
 */
static err_t decode_node(const tailrace_v1_Node *message, struct arena *arena,
                         struct plan_node *node)
{
    STATIC_ASSERT(PLAN_OP_MAX <= UINT8_MAX, "an operator fits its field");
    if (!message->has_schema || message->op == 0 || message->op > PLAN_OP_MAX) {
        return err_new(ERR_PROTOCOL, "malformed node (operator %u)", message->op);
    }
    node->op = (uint8_t)message->op;
    node->inputs_len = message->inputs_count;
    node->inputs = copy_u32(arena, message->inputs, message->inputs_count);
    TRY(plan_codec_decode_schema(&message->schema, arena, &node->schema));
    switch (node->op) {
    case PLAN_SOURCE: node->import.id = message->import_id; return ERR_OK;
    case PLAN_INDEX:
        node->import.id = message->import_id;
        node->import.keys = copy_u32(arena, message->import_keys, message->import_keys_count);
        node->import.keys_len = message->import_keys_count;
        return ERR_OK;
    case PLAN_ARRANGE: return decode_arrange(message, arena, node);
    case PLAN_LOOKUP: return decode_lookup(message, arena, node);
    case PLAN_CONSTANT: return decode_constant(message, arena, node);
    case PLAN_MFP:
        if (!message->has_mfp) {
            return err_new(ERR_PROTOCOL, "a map-filter-project without its program");
        }
        return plan_codec_decode_mfp(&message->mfp, arena, &node->mfp);
    case PLAN_UNION: node->sum.errors_once = message->errors_once; return ERR_OK;
    case PLAN_JOIN: return decode_join(message, arena, node);
    case PLAN_REDUCE: return decode_reduce(message, arena, node);
    case PLAN_TOPK: return decode_topk(message, arena, node);
    case PLAN_WINDOW: return decode_window(message, arena, node);
    case PLAN_FIXPOINT:
    case PLAN_LEAVE: return decode_recursion(message, arena, node);
    case PLAN_FLAT_MAP: return decode_flat_map(message, arena, node);
    case PLAN_TEMPORAL: return decode_temporal(message, arena, node);
    default: return ERR_OK;
    }
}

/* Whether node and keys exist is plan_validate's question. */
static err_t decode_exports(const tailrace_v1_Plan *message, struct plan *plan)
{
    plan->exports_len = message->exports_count;
    ASSERT(plan->exports == NULL);
    plan->exports = ARENA_ARRAY(&plan->arena, struct plan_export, message->exports_count);
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        const tailrace_v1_Export *m = &message->exports[i];
        if (m->kind != PLAN_EXPORT_INDEX && m->kind != PLAN_EXPORT_SUBSCRIBE) {
            return err_new(ERR_PROTOCOL, "export %u of unknown kind %u", i, m->kind);
        }
        plan->exports[i] = (struct plan_export){
            .kind = (uint8_t)m->kind,
            .id = m->id,
            .node = m->node,
            .keys_len = m->keys_count,
            .keys = copy_u32(&plan->arena, m->keys, m->keys_count),
            .snapshot = m->snapshot,
            .until = m->until};
    }
    return ERR_OK;
}

/*
 * The number of nodes is checked first: plan_add asserts it. as_of, inputs, columns and types are
 * judged at the end, by plan_validate, for plans from anywhere alike.
 */
static err_t decode_into(const tailrace_v1_Plan *message, struct plan *plan)
{
    ASSERT(plan->nodes_len == 0);
    if (message->nodes_count > PLAN_NODES_MAX) {
        return err_new(ERR_PROTOCOL, "plan of %u nodes: at most %d", message->nodes_count,
                       PLAN_NODES_MAX);
    }
    plan->id = message->id;
    plan->name = arena_strdup(&plan->arena, message->name != NULL ? message->name : "");
    plan->as_of = message->as_of;
    plan->memory_limit = message->memory_limit;
    for (uint32_t i = 0; i < message->nodes_count; i++) {
        struct plan_node node = {0};
        err_t err = decode_node(&message->nodes[i], &plan->arena, &node);
        if (err != ERR_OK) {
            return err_wrap(err, "node %u", i);
        }
        plan_add(plan, &node);
    }
    TRY(decode_exports(message, plan));
    return plan_validate(plan);
}

/* *out is only set when the plan is good. */
err_t plan_codec_decode(const tailrace_v1_Plan *message, struct plan **out)
{
    ASSERT(message != NULL && out != NULL);
    struct plan *plan = plan_new();
    err_t err = decode_into(message, plan);
    if (err != ERR_OK) {
        plan_free(plan);
        return err_wrap(err, "plan of dataflow %llu", (unsigned long long)message->id);
    }
    *out = plan;
    return ERR_OK;
}

/* It goes on to SQL clients as it is. */
static bool sqlstate_well_formed(const char *text)
{
    return strlen(text) == 5 &&
           strspn(text, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5;
}

/* The texts go through %s, never as formats: they come from outside. */
err_t plan_codec_decode_err(const tailrace_v1_Error *message)
{
    ASSERT(message != NULL);
    const char *sqlstate = message->sqlstate != NULL ? message->sqlstate : "";
    bool known = message->code >= ERR_INTERNAL && message->code <= ERR_IO;
    err_t err = err_sql(known ? (enum err_code)message->code : ERR_INTERNAL,
                        sqlstate_well_formed(sqlstate) ? sqlstate : "XX000", "%s",
                        message->message != NULL ? message->message : "unnamed error");
    if (message->detail != NULL && message->detail[0] != '\0') {
        err_detail(err, "%s", message->detail);
    }
    if (message->hint != NULL && message->hint[0] != '\0') {
        err_hint(err, "%s", message->hint);
    }
    return err;
}
