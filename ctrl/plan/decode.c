/* From messages of another process to C structures: everything checked. See plan_codec.h. */
#include "ctrl/plan/plan_codec.h"

#include "core/base/mem.h"

static err_t decode_type(bool present, const tailrace_v1_Type *message, struct type *out)
{
    if (!present || message->kind == 0 || message->kind >= TYPE_KIND_MAX) {
        return err_new(ERR_PROTOCOL, "unknown type kind %u", present ? message->kind : 0);
    }
    *out = (struct type){.kind = (uint8_t)message->kind,
                         .nullable = message->nullable,
                         .typmod = message->typmod,
                         .oid = message->oid};
    return ERR_OK;
}

static uint32_t *copy_u32(struct arena *arena, const uint32_t *in, size_t len)
{
    return len == 0 ? NULL : arena_memdup(arena, in, len * sizeof(in[0]));
}

static const char *copy_text(struct arena *arena, const char *text)
{
    return arena_strdup(arena, text != NULL ? text : "");
}

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
    switch (kind) {
    case TYPE_BOOL: return 1;
    case TYPE_NUMERIC: return sizeof(struct numeric);
    case TYPE_INTERVAL:
    case TYPE_UUID: return 16;
    default: return type_is_variable(kind) ? 0 : 8;
    }
}

static err_t decode_variable(enum type_kind kind, const struct rpc_bytes *bytes,
                             struct arena *arena, struct datum *out)
{
    if (bytes->len > UINT32_MAX / 2) {
        return err_new(ERR_PROTOCOL, "literal of %zu bytes", bytes->len);
    }
    out->s = arena_strndup(arena, bytes->len > 0 ? (const char *)bytes->data : "", bytes->len);
    out->len = (uint32_t)bytes->len;
    return ERR_OK;
}

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

static err_t decode_exprs(const tailrace_v1_Expr *messages, uint32_t len, struct arena *arena,
                          struct expr **out)
{
    *out = ARENA_ARRAY(arena, struct expr, len);
    for (uint32_t i = 0; i < len; i++) {
        TRY(decode_expr(&messages[i], arena, &(*out)[i]));
    }
    return ERR_OK;
}

err_t plan_codec_decode_mfp(const tailrace_v1_Mfp *message, struct arena *arena, struct mfp *out)
{
    *out = (struct mfp){.input_cols = message->input_cols};
    out->maps_len = message->maps_count;
    TRY(decode_exprs(message->maps, out->maps_len, arena, &out->maps));
    out->predicates_len = message->predicates_count;
    TRY(decode_exprs(message->predicates, out->predicates_len, arena, &out->predicates));
    out->project_len = message->project_count;
    out->project = copy_u32(arena, message->project, message->project_count);
    return ERR_OK;
}

struct plan_order *plan_codec_decode_order(const tailrace_v1_Order *message, size_t len,
                                           struct arena *arena)
{
    struct plan_order *out = ARENA_ARRAY(arena, struct plan_order, len);
    for (size_t i = 0; i < len; i++) {
        out[i] = (struct plan_order){.col = message[i].col,
                                     .desc = message[i].desc,
                                     .nulls_first = message[i].nulls_first};
    }
    return out;
}

err_t plan_codec_open_batch(const struct rpc_bytes *bytes, const uint8_t *kinds, size_t kinds_len,
                            struct arena *arena, void **storage, struct batch *out)
{
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
        const tailrace_v1_Aggregate *m = &reduce->aggs[i];
        struct plan_agg *agg = &node->reduce.aggs[i];
        if (m->func == 0 || m->func > AGG_BOOL_OR) {
            return err_new(ERR_PROTOCOL, "unknown aggregate %u", m->func);
        }
        *agg = (struct plan_agg){.func = (uint8_t)m->func,
                                 .distinct = m->distinct,
                                 .has_filter = m->has_filter,
                                 .arg = m->arg,
                                 .filter = m->filter};
        TRY(decode_type(m->has_type, &m->type, &agg->type));
    }
    return ERR_OK;
}

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
    return ERR_OK;
}

static err_t decode_node(const tailrace_v1_Node *message, struct arena *arena,
                         struct plan_node *node)
{
    if (!message->has_schema || message->op == 0 || message->op > PLAN_TOPK) {
        return err_new(ERR_PROTOCOL, "malformed node (operator %u)", message->op);
    }
    node->op = (uint8_t)message->op;
    node->inputs_len = message->inputs_count;
    node->inputs = copy_u32(arena, message->inputs, message->inputs_count);
    TRY(plan_codec_decode_schema(&message->schema, arena, &node->schema));
    switch (node->op) {
    case PLAN_SOURCE:
    case PLAN_INDEX: node->import.id = message->import_id; return ERR_OK;
    case PLAN_CONSTANT: return decode_constant(message, arena, node);
    case PLAN_MFP:
        if (!message->has_mfp) {
            return err_new(ERR_PROTOCOL, "a map-filter-project without its program");
        }
        return plan_codec_decode_mfp(&message->mfp, arena, &node->mfp);
    case PLAN_JOIN: return decode_join(message, arena, node);
    case PLAN_REDUCE: return decode_reduce(message, arena, node);
    case PLAN_TOPK: return decode_topk(message, arena, node);
    default: return ERR_OK;
    }
}

static err_t decode_exports(const tailrace_v1_Plan *message, struct plan *plan)
{
    plan->exports_len = message->exports_count;
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

static err_t decode_into(const tailrace_v1_Plan *message, struct plan *plan)
{
    if (message->nodes_count > PLAN_NODES_MAX) {
        return err_new(ERR_PROTOCOL, "plan of %u nodes: at most %d", message->nodes_count,
                       PLAN_NODES_MAX);
    }
    plan->id = message->id;
    plan->name = arena_strdup(&plan->arena, message->name != NULL ? message->name : "");
    plan->as_of = message->as_of;
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

err_t plan_codec_decode(const tailrace_v1_Plan *message, struct plan **out)
{
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

err_t plan_codec_decode_err(const tailrace_v1_Error *message)
{
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
