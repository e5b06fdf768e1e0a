/*
 * EXPLAIN: one tree per export, one node a line. A node with several users is printed where it is
 * met first, with a label, and referenced from then on. Example:
 *
 *   Export index u7 keys=(k)
 *     Reduce group=(k) aggregates=(count(*))
 *       Map/Filter/Project filter=(v > 3) project=(k)
 *         Source u1 (t)
 *
 * A column is called as in the relation it comes from, as far as it is passed on unchanged, with
 * its number behind where a node has the name twice; a computed one is #n, its number in the node.
 *
 * The plan must be valid. Any thread.
 */
#include "core/engine/plan_print.h"

struct plan_printer {
    const struct plan *plan;
    struct buf *out;
    uint32_t *users;  /* per node */
    bool *printed;    /* per node */
    const struct plan_words *words; /* may be NULL */
    struct arena arena;
    struct schema *schemas; /* per node: as the node's, with the names that are known */
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
static void print_join(const struct plan_printer *p, const struct plan_node *node)
{
    ASSERT(node->join.kind < ARRAY_LEN(join_names) && join_names[node->join.kind] != NULL);
    struct buf *out = p->out;
    const struct schema *left = &p->schemas[node->inputs[0]];
    const struct schema *right = &p->schemas[node->inputs[1]];
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

/* The rows' columns on the left, those of what is looked up in on the right. */
static void print_lookup(const struct plan_printer *p, const struct plan_node *node)
{
    const struct plan_node *of = &p->plan->nodes[node->inputs[1]];
    const uint32_t *keys = of->op == PLAN_ARRANGE ? of->arrange.keys : of->import.keys;
    struct buf *out = p->out;
    buf_append_str(out, "Lookup on=(");
    for (uint32_t i = 0; i < node->lookup.keys_len; i++) {
        buf_append_str(out, i > 0 ? " AND " : "");
        plan_print_col(out, &p->schemas[node->inputs[0]], node->lookup.keys[i]);
        buf_append_str(out, node->lookup.null_equal ? " IS NOT DISTINCT FROM " : " = ");
        plan_print_col(out, &p->schemas[node->inputs[1]], keys[i]);
    }
    buf_printf(out, ")%s%s", node->lookup.before ? " before" : "",
               node->lookup.later ? " without snapshot" : "");
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

static void print_topk(struct buf *out, const struct plan_node *node, const struct schema *schema)
{
    buf_append_str(out, "TopK");
    if (node->topk.keys_len > 0) {
        buf_append_str(out, " group=");
        plan_print_cols(out, schema, node->topk.keys, node->topk.keys_len);
    }
    if (node->topk.order_len > 0) {
        buf_append_str(out, " order=(");
        plan_print_order(out, schema, node->topk.order, node->topk.order_len);
        buf_append_byte(out, ')');
    }
    if (node->topk.limit >= 0) {
        buf_printf(out, " limit=%lld%s", (long long)node->topk.limit,
                   node->topk.ties ? " with ties" : "");
    }
    if (node->topk.offset > 0) {
        buf_printf(out, " offset=%lld", (long long)node->topk.offset);
    }
}

static void print_fixpoint(struct buf *out, const struct plan_fixpoint *fixpoint)
{
    buf_append_str(out, "Fixpoint variables=(");
    for (uint32_t i = 0; i < fixpoint->variables_len; i++) {
        buf_printf(out, "%s$%u", i > 0 ? ", " : "", fixpoint->variables[i]);
    }
    buf_append_byte(out, ')');
    if (fixpoint->limit > 0) {
        buf_printf(out, " limit=%llu%s", (unsigned long long)fixpoint->limit,
                   fixpoint->limit_error ? " (error)" : "");
    }
}

/* FlatMap generate_series(a, b), unnest(c) with ordinality outer keep=(a) */
void plan_print_flat_map(struct buf *out, const struct plan_node *node, const struct schema *input)
{
    ASSERT(node->op == PLAN_FLAT_MAP);
    buf_append_str(out, "FlatMap ");
    for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
        const struct plan_table_call *call = &node->flat_map.calls[i];
        buf_printf(out, "%s%s", i > 0 ? ", " : "", table_func_by_id(call->func)->name);
        plan_print_cols(out, input, call->args, call->args_len);
    }
    buf_append_str(out, node->flat_map.ordinality ? " with ordinality" : "");
    buf_append_str(out, node->flat_map.outer ? " outer" : "");
    buf_append_str(out, " keep=");
    plan_print_cols(out, input, node->flat_map.keep, node->flat_map.keep_len);
}

/* "Temporal filter mz_now() <= a and mz_now() > b" */
static void print_temporal(struct buf *out, const struct plan_node *node,
                           const struct schema *input)
{
    static const char *const cmps[] = {[PLAN_TEMPORAL_BEFORE] = "<",
                                       [PLAN_TEMPORAL_UNTIL] = "<=",
                                       [PLAN_TEMPORAL_AFTER] = ">",
                                       [PLAN_TEMPORAL_FROM] = ">=",
                                       [PLAN_TEMPORAL_AT] = "="};
    ASSERT(node->op == PLAN_TEMPORAL && node->temporal.bounds_len > 0);
    buf_append_str(out, "Temporal filter");
    for (uint32_t i = 0; i < node->temporal.bounds_len; i++) {
        const struct plan_temporal_bound *bound = &node->temporal.bounds[i];
        ASSERT(bound->cmp > 0 && bound->cmp <= PLAN_TEMPORAL_CMP_MAX);
        buf_printf(out, "%s mz_now() %s ", i == 0 ? "" : " and", cmps[bound->cmp]);
        plan_print_col(out, input, bound->col);
    }
}

/* ---- names of columns ------------------------------------------------------------------------ */

/* What an import is called, and its columns; NULL: nobody knows. */
static const char *object_of(const struct plan_printer *p, uint64_t id,
                             const struct schema **columns)
{
    const struct schema *found = NULL;
    const char *name = p->words != NULL && p->words->object != NULL
                           ? p->words->object(p->words->arg, id, &found)
                           : NULL;
    if (columns != NULL) {
        *columns = name != NULL ? found : NULL;
    }
    return name;
}

/* The name of an input's column, or NULL. */
static const char *input_name(const struct plan_printer *p, const struct plan_node *node,
                              uint32_t input, uint32_t col)
{
    const struct schema *schema = &p->schemas[node->inputs[input]];
    return schema->names != NULL && col < schema->cols ? schema->names[col] : NULL;
}

/* Where a column of the output comes from unchanged, as far as the operator tells. */
static const char *passed_name(const struct plan_printer *p, const struct plan_node *node,
                               uint32_t col)
{
    uint32_t left;
    switch (node->op) {
    case PLAN_MFP: return input_name(p, node, 0, node->mfp.project[col]);
    case PLAN_REDUCE:
        return col < node->reduce.keys_len ? input_name(p, node, 0, node->reduce.keys[col]) : NULL;
    case PLAN_JOIN:
    case PLAN_LOOKUP:
        left = p->schemas[node->inputs[0]].cols;
        return col < left ? input_name(p, node, 0, col) : input_name(p, node, 1, col - left);
    case PLAN_ARRANGE:
    case PLAN_UNION:
    case PLAN_NEGATE:
    case PLAN_DISTINCT:
    case PLAN_THRESHOLD:
    case PLAN_TOPK:
    case PLAN_WINDOW:
    case PLAN_TEMPORAL: return input_name(p, node, 0, col);
    case PLAN_LEAVE: {
        const struct plan_node *fixpoint = &p->plan->nodes[node->inputs[0]];
        return input_name(p, fixpoint, node->leave.binding, col);
    }
    case PLAN_FLAT_MAP:
        return col < node->flat_map.keep_len ? input_name(p, node, 0, node->flat_map.keep[col])
                                             : NULL;
    default: return NULL;
    }
}

/* Two columns of one name would be taken for one. */
static void number_twins(struct plan_printer *p, const struct schema *schema)
{
    for (uint32_t i = 0; i < schema->cols; i++) {
        const char *name = schema->names[i];
        bool twin = false;
        for (uint32_t j = i + 1; name != NULL && j < schema->cols; j++) {
            if (schema->names[j] != NULL && strcmp(schema->names[j], name) == 0) {
                twin = true;
                schema->names[j] = arena_printf(&p->arena, "%s#%u", name, j);
            }
        }
        if (twin) {
            schema->names[i] = arena_printf(&p->arena, "%s#%u", name, i);
        }
    }
}

/* The node's own names first, then the relation's, then those that are passed on. */
static void name_columns(struct plan_printer *p, uint32_t index)
{
    const struct plan_node *node = &p->plan->nodes[index];
    struct schema *schema = &p->schemas[index];
    const struct schema *columns = NULL;
    if (node->op == PLAN_SOURCE || node->op == PLAN_INDEX) {
        object_of(p, node->import.id, &columns);
    }
    *schema = node->schema;
    schema->names = ARENA_ARRAY(&p->arena, const char *, schema->cols + 1);
    for (uint32_t c = 0; c < schema->cols; c++) {
        const char *own = node->schema.names != NULL ? node->schema.names[c] : NULL;
        schema->names[c] = own != NULL && own[0] != '\0' ? own
                           : columns != NULL && columns->cols == schema->cols
                               ? columns->names[c]
                               : passed_name(p, node, c);
    }
    number_twins(p, schema);
}

static void printer_init(struct plan_printer *p, const struct plan *plan,
                         const struct plan_words *words, struct buf *out)
{
    *p = (struct plan_printer){.plan = plan, .out = out, .words = words};
    p->schemas = ARENA_ARRAY(&p->arena, struct schema, plan->nodes_len + 1);
    p->users = ARENA_ARRAY(&p->arena, uint32_t, plan->nodes_len + 1);
    p->printed = ARENA_ARRAY(&p->arena, bool, plan->nodes_len + 1);
    for (uint32_t i = 0; i < plan->nodes_len; i++) { /* inputs come before their users */
        name_columns(p, i);
    }
}

/* ---- the tree -------------------------------------------------------------------------------- */

/* Distinct and threshold have nothing to say beyond their name. */
static void print_head(struct plan_printer *p, uint32_t index)
{
    ASSERT(index < p->plan->nodes_len);
    const struct plan_node *node = &p->plan->nodes[index];
    const struct schema *input =
        node->inputs_len > 0 ? &p->schemas[node->inputs[0]] : NULL;
    const char *object = NULL;
    switch (node->op) {
    case PLAN_SOURCE:
    case PLAN_INDEX:
        buf_append_str(p->out, node->op == PLAN_SOURCE ? "Source " : "Index ");
        print_id(p->out, node->import.id);
        object = object_of(p, node->import.id, NULL);
        if (object != NULL) {
            buf_printf(p->out, " (%s)", object);
        }
        break;
    case PLAN_ARRANGE:
        buf_append_str(p->out, "Arrange keys=");
        plan_print_cols(p->out, input, node->arrange.keys, node->arrange.keys_len);
        break;
    case PLAN_LOOKUP:
        print_lookup(p, node);
        break;
    case PLAN_CONSTANT:
        print_constant(p->out, node);
        break;
    case PLAN_MFP:
        buf_append_str(p->out, "Map/Filter/Project ");
        mfp_print(&node->mfp, (const char *const *)input->names, p->out);
        break;
    case PLAN_JOIN:
        print_join(p, node);
        break;
    case PLAN_REDUCE:
        print_reduce(p->out, node, input);
        break;
    case PLAN_WINDOW:
        plan_print_window(p->out, node, input);
        break;
    case PLAN_FLAT_MAP:
        plan_print_flat_map(p->out, node, input);
        break;
    case PLAN_TEMPORAL:
        print_temporal(p->out, node, input);
        break;
    case PLAN_TOPK:
        print_topk(p->out, node, input);
        break;
    case PLAN_VARIABLE:
        buf_printf(p->out, "Variable $%u", index);
        break;
    case PLAN_FIXPOINT:
        print_fixpoint(p->out, &node->fixpoint);
        break;
    case PLAN_LEAVE:
        buf_printf(p->out, "Leave $%u",
                   p->plan->nodes[node->inputs[0]].fixpoint.variables[node->leave.binding]);
        break;
    case PLAN_UNION:
        buf_append_str(p->out, node->sum.errors_once ? "Union errors of the first" : "Union");
        break;
    default:
        buf_append_str(p->out, node->op == PLAN_NEGATE     ? "Negate"
                               : node->op == PLAN_DISTINCT ? "Distinct"
                                                           : "Threshold");
        break;
    }
}

static void print_indent(struct plan_printer *p, uint32_t depth)
{
    static const char blanks[2 * INDENT_MAX + 1] = {[0 ... 2 * INDENT_MAX - 1] = ' '};
    buf_append(p->out, blanks, 2 * (size_t)(depth < INDENT_MAX ? depth : INDENT_MAX));
}

/* The end of a line. */
static void print_note(struct plan_printer *p, uint32_t op)
{
    if (p->words != NULL && p->words->note != NULL) {
        p->words->note(p->words->arg, op, p->out);
    }
    buf_append_byte(p->out, '\n');
}

/* Recursion is bounded by PLAN_NODES_MAX: inputs come before their users. */
static void print_tree(struct plan_printer *p, uint32_t index, uint32_t depth)
{
    const struct plan_node *node = &p->plan->nodes[index];
    ASSERT(index < p->plan->nodes_len);
    print_indent(p, depth);
    if (p->printed[index]) {
        bool variable = node->op == PLAN_VARIABLE; /* its name says it all */
        buf_printf(p->out, "%s $%u\n", variable ? "Variable" : "Get", index);
        return;
    }
    p->printed[index] = true;
    if (p->users[index] > 1 && node->op != PLAN_VARIABLE) {
        buf_printf(p->out, "$%u = ", index);
    }
    print_head(p, index);
    print_note(p, index);
    for (uint32_t i = 0; i < node->inputs_len; i++) {
        ASSERT(node->inputs[i] < index);
        print_tree(p, node->inputs[i], depth + 1);
    }
}

/* The line of an export. Its columns are called as the object's that it is, where that is known;
 * one without an id is a query's. */
static void print_export_head(struct plan_printer *p, const struct plan_export *export)
{
    ASSERT(export->node < p->plan->nodes_len);
    bool index = export->kind == PLAN_EXPORT_INDEX;
    const struct schema *node = &p->schemas[export->node];
    const struct schema *columns = NULL;
    const char *object = object_of(p, export->id, &columns);
    buf_append_str(p->out, index ? "Export index" : "Export subscribe");
    if (export->id != 0) {
        buf_append_byte(p->out, ' ');
        print_id(p->out, export->id);
    }
    if (object != NULL) {
        buf_printf(p->out, " (%s)", object);
    }
    if (index) {
        buf_append_str(p->out, " keys=");
        bool named = columns != NULL && columns->cols == node->cols;
        plan_print_cols(p->out, named ? columns : node, export->keys, export->keys_len);
    } else if (!export->snapshot) {
        buf_append_str(p->out, " without snapshot");
    }
    if (export->until != FRONTIER_EMPTY) {
        buf_printf(p->out, " until=%llu", (unsigned long long)export->until);
    }
}

static void print_export(struct plan_printer *p, const struct plan_export *export)
{
    print_export_head(p, export);
    print_note(p, p->plan->nodes_len + (uint32_t)(export - p->plan->exports));
    print_tree(p, export->node, 1);
}

struct plan_printer *plan_printer_new(const struct plan *plan, const struct plan_words *words)
{
    struct plan_printer *p = MEM_NEW(struct plan_printer);
    printer_init(p, plan, words, NULL);
    return p;
}

void plan_printer_line(struct plan_printer *p, uint32_t op, struct buf *out)
{
    ASSERT(op < p->plan->nodes_len + p->plan->exports_len);
    p->out = out;
    if (op < p->plan->nodes_len) {
        print_head(p, op);
    } else {
        print_export_head(p, &p->plan->exports[op - p->plan->nodes_len]);
    }
}

void plan_printer_free(struct plan_printer *p)
{
    if (p != NULL) {
        arena_free(&p->arena);
        free(p);
    }
}

void plan_print(const struct plan *plan, struct buf *out)
{
    plan_print_words(plan, NULL, out);
}

/* Users are counted first, so that the first mention of a shared node can carry its label. */
void plan_print_words(const struct plan *plan, const struct plan_words *words, struct buf *out)
{
    struct plan_printer p;
    printer_init(&p, plan, words, out);
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
    arena_free(&p.arena);
}
