/*
 * EXPLAIN: one tree per export, one node a line. A node with several users is printed where it is
 * met first, with a label, and referenced from then on. Example:
 *
 *   Export index u7 keys=(k)
 *     Reduce group=(k) aggregates=(count(*))
 *       Map/Filter/Project filter=(v > 3) project=(k)
 *         Source u1
 *
 * The plan must be valid. Any thread.
 */
#include "core/engine/plan_print.h"

struct printer {
    const struct plan *plan;
    struct buf *out;
    uint32_t *users;  /* per node */
    bool *printed;    /* per node */
    plan_note_fn note; /* what more there is to say of a line, or NULL */
    void *note_arg;
};

/* Deep plans would print quadratic amounts of blanks. */
enum { INDENT_MAX = 40, CONSTANT_ROWS_SHOWN = 20 };

static const char *const join_names[] = {
    [PLAN_JOIN_INNER] = "Inner", [PLAN_JOIN_LEFT] = "Left",
    [PLAN_JOIN_SEMI] = "Semi",   [PLAN_JOIN_ANTI] = "Anti",
};
static const char *const agg_names[] = {
    [AGG_COUNT_ALL] = "count", [AGG_COUNT] = "count",       [AGG_SUM] = "sum",
    [AGG_AVG] = "avg",         [AGG_MIN] = "min",           [AGG_MAX] = "max",
    [AGG_BOOL_AND] = "bool_and", [AGG_BOOL_OR] = "bool_or",
    [AGG_STRING_AGG] = "string_agg",
    [AGG_ARRAY_AGG] = "array_agg",
    [AGG_JSONB_AGG] = "jsonb_agg",
    [AGG_JSONB_OBJECT_AGG] = "jsonb_object_agg",
    [AGG_BIT_AND] = "bit_and",   [AGG_BIT_OR] = "bit_or",   [AGG_BIT_XOR] = "bit_xor",
    [AGG_VAR_POP] = "var_pop",   [AGG_VAR_SAMP] = "var_samp",
    [AGG_STDDEV_POP] = "stddev_pop", [AGG_STDDEV_SAMP] = "stddev_samp",
};

/* u: of the user's catalog; t: transient, made for one query. */
static void print_id(struct buf *out, uint64_t id)
{
    buf_printf(out, "%c%llu", (id & PLAN_ID_TRANSIENT) != 0 ? 't' : 'u',
               (unsigned long long)(id & ~PLAN_ID_TRANSIENT));
}

/* By name where the planner gave one. */
void plan_print_col(struct buf *out, const struct schema *schema, uint32_t col)
{
    ASSERT(col < schema->cols);
    if (schema->names != NULL && schema->names[col] != NULL) {
        buf_append_str(out, schema->names[col]);
    } else {
        buf_printf(out, "#%u", col);
    }
}

void plan_print_cols(struct buf *out, const struct schema *schema, const uint32_t *cols,
                       uint32_t len)
{
    buf_append_byte(out, '(');
    for (uint32_t i = 0; i < len; i++) {
        buf_append_str(out, i > 0 ? ", " : "");
        plan_print_col(out, schema, cols[i]);
    }
    buf_append_byte(out, ')');
}

/* A long list of rows is cut: EXPLAIN is for reading. */
static void print_constant(struct buf *out, const struct plan_node *node)
{
    ASSERT(node->op == PLAN_CONSTANT);
    buf_printf(out, "Constant rows=%u", node->constant.rows_len);
    for (uint32_t r = 0; r < node->constant.rows_len && r < CONSTANT_ROWS_SHOWN; r++) {
        buf_append_str(out, " (");
        for (uint32_t c = 0; c < node->schema.cols; c++) {
            const struct datum *d = &node->constant.rows[(size_t)r * node->schema.cols + c];
            buf_append_str(out, c > 0 ? ", " : "");
            if (d->null) {
                buf_append_str(out, "NULL");
            } else {
                datum_print(&node->schema.types[c], d, out);
            }
        }
        buf_append_byte(out, ')');
        if (node->constant.diffs[r] != 1) {
            buf_printf(out, "x%lld", (long long)node->constant.diffs[r]);
        }
    }
    buf_append_str(out, node->constant.rows_len > CONSTANT_ROWS_SHOWN ? " ..." : "");
}

/* A left join without keys is still named by its kind. */
static void print_join(struct buf *out, const struct plan *plan, const struct plan_node *node)
{
    ASSERT(node->join.kind < ARRAY_LEN(join_names) && join_names[node->join.kind] != NULL);
    const struct schema *left = &plan->nodes[node->inputs[0]].schema;
    const struct schema *right = &plan->nodes[node->inputs[1]].schema;
    if (node->join.keys_len == 0 && node->join.kind == PLAN_JOIN_INNER) {
        buf_append_str(out, "CrossJoin");
        return;
    }
    buf_printf(out, "%sJoin on=(", join_names[node->join.kind]);
    for (uint32_t i = 0; i < node->join.keys_len; i++) {
        buf_append_str(out, i > 0 ? " AND " : "");
        plan_print_col(out, left, node->join.left_keys[i]);
        buf_append_str(out, node->join.null_equal ? " IS NOT DISTINCT FROM " : " = ");
        plan_print_col(out, right, node->join.right_keys[i]);
    }
    buf_append_byte(out, ')');
}

/* a desc nulls first, b asc nulls last */
void plan_print_order(struct buf *out, const struct schema *schema,
                        const struct plan_order *order, uint32_t len)
{
    ASSERT(len == 0 || order != NULL);
    for (uint32_t i = 0; i < len; i++) {
        buf_append_str(out, i > 0 ? ", " : "");
        plan_print_col(out, schema, order[i].col);
        buf_printf(out, " %s nulls %s", order[i].desc ? "desc" : "asc",
                   order[i].nulls_first ? "first" : "last");
    }
}

void plan_print_agg(struct buf *out, const struct plan_agg *agg, const struct schema *input)
{
    ASSERT(agg->func < ARRAY_LEN(agg_names) && agg_names[agg->func] != NULL);
    buf_printf(out, "%s(%s", agg_names[agg->func], agg->distinct ? "distinct " : "");
    if (agg->func == AGG_COUNT_ALL) {
        buf_append_byte(out, '*');
    } else {
        plan_print_col(out, input, agg->arg);
    }
    if (agg_takes_two((enum agg_func)agg->func)) {
        buf_append_str(out, ", ");
        plan_print_col(out, input, agg->arg2);
    }
    if (agg->order_len > 0) {
        buf_append_str(out, " order by ");
        plan_print_order(out, input, agg->order, agg->order_len);
    }
    buf_append_byte(out, ')');
    if (agg->has_filter) {
        buf_append_str(out, " filter ");
        plan_print_col(out, input, agg->filter);
    }
}

static void print_reduce(struct buf *out, const struct plan_node *node, const struct schema *input)
{
    buf_append_str(out, "Reduce group=");
    plan_print_cols(out, input, node->reduce.keys, node->reduce.keys_len);
    buf_append_str(out, " aggregates=(");
    for (uint32_t i = 0; i < node->reduce.aggs_len; i++) {
        buf_append_str(out, i > 0 ? ", " : "");
        plan_print_agg(out, &node->reduce.aggs[i], input);
    }
    buf_append_byte(out, ')');
}

static void print_topk(struct buf *out, const struct plan_node *node)
{
    buf_append_str(out, "TopK");
    if (node->topk.keys_len > 0) {
        buf_append_str(out, " group=");
        plan_print_cols(out, &node->schema, node->topk.keys, node->topk.keys_len);
    }
    if (node->topk.order_len > 0) {
        buf_append_str(out, " order=(");
        plan_print_order(out, &node->schema, node->topk.order, node->topk.order_len);
        buf_append_byte(out, ')');
    }
    if (node->topk.limit >= 0) {
        buf_printf(out, " limit=%lld", (long long)node->topk.limit);
    }
    if (node->topk.offset > 0) {
        buf_printf(out, " offset=%lld", (long long)node->topk.offset);
    }
}

/* Distinct and threshold have nothing to say beyond their name. */
static void print_head(struct printer *p, uint32_t index)
{
    ASSERT(index < p->plan->nodes_len);
    const struct plan_node *node = &p->plan->nodes[index];
    const struct schema *input =
        node->inputs_len > 0 ? &p->plan->nodes[node->inputs[0]].schema : NULL;
    switch (node->op) {
    case PLAN_SOURCE:
    case PLAN_INDEX:
        buf_append_str(p->out, node->op == PLAN_SOURCE ? "Source " : "Index ");
        print_id(p->out, node->import.id);
        break;
    case PLAN_CONSTANT:
        print_constant(p->out, node);
        break;
    case PLAN_MFP:
        buf_append_str(p->out, "Map/Filter/Project ");
        mfp_print(&node->mfp, input->names, p->out);
        break;
    case PLAN_JOIN:
        print_join(p->out, p->plan, node);
        break;
    case PLAN_REDUCE:
        print_reduce(p->out, node, input);
        break;
    case PLAN_WINDOW:
        plan_print_window(p->out, node, input);
        break;
    case PLAN_TOPK:
        print_topk(p->out, node);
        break;
    default:
        buf_append_str(p->out, node->op == PLAN_UNION      ? "Union"
                               : node->op == PLAN_NEGATE   ? "Negate"
                               : node->op == PLAN_DISTINCT ? "Distinct"
                                                           : "Threshold");
        break;
    }
}

static void print_indent(struct printer *p, uint32_t depth)
{
    static const char blanks[2 * INDENT_MAX + 1] = {[0 ... 2 * INDENT_MAX - 1] = ' '};
    buf_append(p->out, blanks, 2 * (size_t)(depth < INDENT_MAX ? depth : INDENT_MAX));
}

/* The end of a line. */
static void print_note(struct printer *p, uint32_t op)
{
    if (p->note != NULL) {
        p->note(p->note_arg, op, p->out);
    }
    buf_append_byte(p->out, '\n');
}

/* Recursion is bounded by PLAN_NODES_MAX: inputs come before their users. */
static void print_tree(struct printer *p, uint32_t index, uint32_t depth)
{
    const struct plan_node *node = &p->plan->nodes[index];
    ASSERT(index < p->plan->nodes_len);
    print_indent(p, depth);
    if (p->printed[index]) {
        buf_printf(p->out, "Get $%u\n", index);
        return;
    }
    p->printed[index] = true;
    if (p->users[index] > 1) {
        buf_printf(p->out, "$%u = ", index);
    }
    print_head(p, index);
    print_note(p, index);
    for (uint32_t i = 0; i < node->inputs_len; i++) {
        ASSERT(node->inputs[i] < index);
        print_tree(p, node->inputs[i], depth + 1);
    }
}

static void print_export(struct printer *p, const struct plan_export *export)
{
    ASSERT(export->node < p->plan->nodes_len);
    bool index = export->kind == PLAN_EXPORT_INDEX;
    buf_append_str(p->out, index ? "Export index " : "Export subscribe ");
    print_id(p->out, export->id);
    if (index) {
        buf_append_str(p->out, " keys=");
        plan_print_cols(p->out, &p->plan->nodes[export->node].schema, export->keys,
                        export->keys_len);
    } else if (!export->snapshot) {
        buf_append_str(p->out, " without snapshot");
    }
    if (export->until != FRONTIER_EMPTY) {
        buf_printf(p->out, " until=%llu", (unsigned long long)export->until);
    }
    print_note(p, p->plan->nodes_len + (uint32_t)(export - p->plan->exports));
    print_tree(p, export->node, 1);
}

void plan_print_node(const struct plan *plan, uint32_t node, struct buf *out)
{
    struct printer p = {.plan = plan, .out = out};
    print_head(&p, node);
}

void plan_print(const struct plan *plan, struct buf *out)
{
    plan_print_noted(plan, NULL, NULL, out);
}

/* Users are counted first, so that the first mention of a shared node can carry its label. */
void plan_print_noted(const struct plan *plan, plan_note_fn note, void *arg, struct buf *out)
{
    struct printer p = {.plan = plan, .out = out, .note = note, .note_arg = arg};
    p.users = mem_zalloc(sizeof(*p.users) * plan->nodes_len);
    p.printed = mem_zalloc(sizeof(*p.printed) * plan->nodes_len);
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        for (uint32_t j = 0; j < plan->nodes[i].inputs_len; j++) {
            p.users[plan->nodes[i].inputs[j]]++;
        }
    }
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        p.users[plan->exports[i].node]++;
    }
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        print_export(&p, &plan->exports[i]);
    }
    for (uint32_t i = plan->nodes_len; i-- > 0;) {
        if (!p.printed[i]) { /* a query still without exports, or a node nobody reads */
            print_tree(&p, i, 0);
        }
    }
    free(p.users);
    free(p.printed);
}
