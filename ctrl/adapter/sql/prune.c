/*
 * Projection pushdown: no operator carries columns that nobody above it needs, so that arrangements
 * hold no more than they must. In an incremental engine that is memory for ever, not only work.
 *
 *   SELECT count(*) FROM t JOIN s ON t.a = s.x
 *
 *   t arrives at the join as {a}, s as {x}; behind it nothing is left but the count's rows
 *
 * Two passes over the DAG in one order, inputs before users. Backwards: what each node's users need
 * together (need), so that a shared node is narrowed once, for all of them. Forwards: new nodes
 * with the needed columns, each remembering where its old columns went (at).
 *
 * Dropping a column is right where rows are passed through: multiplicities are counts, and rows
 * that become equal just add up. It would be wrong where rows are told apart as wholes: DISTINCT
 * and THRESHOLD need all columns; TOPK breaks ties by the whole row, but among rows that differ in
 * nobody's columns any choice is the same to see; REDUCE needs its keys, read or not.
 */
#include "ctrl/adapter/sql/sql_internal.h"

/* A node of the old DAG and what became of it. */
struct pruned {
    struct rel *rel;
    bool *need;
    struct rel *out;
    uint32_t *at; /* old column -> new column; UINT32_MAX: gone */
};

/* One run; nodes in an order in which inputs come before their users. */
struct prune {
    struct arena *arena;
    struct u64map index;   /* rel -> its struct pruned */
    struct pruned **nodes; /* inputs before users */
    size_t nodes_len, nodes_cap;
};

/* Every node was visited. */
static struct pruned *find(struct prune *p, const struct rel *rel)
{
    struct pruned *node = u64map_get(&p->index, (uint64_t)(uintptr_t)rel);
    ASSERT(node != NULL);
    return node;
}

/* Inputs before users: one order serves both passes. */
static void visit(struct prune *p, struct rel *rel)
{
    ASSERT(rel != NULL);
    uint64_t key = (uint64_t)(uintptr_t)rel;
    if (u64map_get(&p->index, key) != NULL) {
        return;
    }
    struct pruned *node = ARENA_NEW(p->arena, struct pruned);
    node->rel = rel;
    node->need = ARENA_ARRAY(p->arena, bool, rel->cols_len + 1);
    u64map_put(&p->index, key, node);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        visit(p, rel->inputs[i]);
    }
    *VEC_PUSH(p, nodes) = node;
}

/* The root, and operators that look at whole rows. */
static void need_all(struct pruned *node)
{
    ASSERT(node->need != NULL);
    memset(node->need, 1, node->rel->cols_len);
}

/* ---- what is needed -------------------------------------------------------------------------- */

/* What is needed of the output and what the predicates use, by input. */
static void need_join(struct prune *p, const struct pruned *n)
{
    const struct rel *rel = n->rel;
    uint32_t total = 0, at = 0;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        total += rel->inputs[i]->cols_len;
    }
    bool *used = ARENA_ARRAY(p->arena, bool, total + 1);
    ASSERT(rel->cols_len <= total);
    memcpy(used, n->need, rel->cols_len);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        sx_columns(rel->sx[i], used);
    }
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        struct pruned *in = find(p, rel->inputs[i]);
        for (uint32_t c = 0; c < in->rel->cols_len; c++, at++) {
            in->need[c] = in->need[c] || used[at];
        }
    }
}

/* Keys decide about groups, so they stay even when nobody reads them. */
static void need_reduce(struct prune *p, const struct pruned *n)
{
    ASSERT(n->rel->kind == REL_REDUCE);
    const struct rel *rel = n->rel;
    struct pruned *in = find(p, rel->inputs[0]);
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        in->need[rel->cols[i]] = true;
    }
    for (uint32_t i = 0; i < rel->aggs_len; i++) {
        if (n->need[rel->keys_len + i]) {
            struct plan_agg agg = rel->aggs[i];
            for (uint32_t k = 0, *col; (col = plan_agg_col(&agg, k)) != NULL; k++) {
                in->need[*col] = true;
            }
        }
    }
}

/* Partition and order decide about the functions that are read. */
static void need_window(struct prune *p, const struct pruned *n)
{
    ASSERT(n->rel->kind == REL_WINDOW);
    const struct rel *rel = n->rel;
    struct pruned *in = find(p, rel->inputs[0]);
    bool any = false;
    for (uint32_t i = 0; i < in->rel->cols_len; i++) {
        in->need[i] = in->need[i] || n->need[i];
    }
    for (uint32_t i = 0; i < rel->calls_len; i++) {
        if (n->need[in->rel->cols_len + i]) {
            struct plan_window_call call = rel->calls[i];
            for (uint32_t k = 0, *col; (col = plan_window_col(&call, k)) != NULL; k++) {
                in->need[*col] = true;
            }
            any = true;
        }
    }
    for (uint32_t i = 0; any && i < rel->keys_len; i++) {
        in->need[rel->cols[i]] = true;
    }
    for (uint32_t i = 0; any && i < rel->order_len; i++) {
        in->need[rel->order[i].col] = true;
    }
}

/* All functions decide how many rows there are, whether their columns are read or not. */
static void need_flat_map(struct prune *p, const struct pruned *n)
{
    ASSERT(n->rel->kind == REL_FLAT_MAP);
    const struct rel *rel = n->rel;
    struct pruned *in = find(p, rel->inputs[0]);
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        in->need[rel->cols[i]] = in->need[rel->cols[i]] || n->need[i];
    }
    for (uint32_t i = 0; i < rel->tables_len; i++) {
        for (uint32_t a = 0; a < rel->tables[i].args_len; a++) {
            in->need[rel->tables[i].args[a]] = true;
        }
    }
}

/* From a node's needs to its inputs': marks are added, other users may have left some. */
static void need_inputs(struct prune *p, const struct pruned *n)
{
    ASSERT(n->need != NULL);
    const struct rel *rel = n->rel;
    struct pruned *in = rel->inputs_len > 0 ? find(p, rel->inputs[0]) : NULL;
    switch (rel->kind) {
    case REL_PROJECT:
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            in->need[rel->cols[i]] = in->need[rel->cols[i]] || n->need[i];
        }
        break;
    case REL_MAP:
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            if (n->need[i] && i < in->rel->cols_len) {
                in->need[i] = true;
            } else if (n->need[i]) {
                sx_columns(rel->sx[i - in->rel->cols_len], in->need);
            }
        }
        break;
    case REL_FILTER:
    case REL_TOPK:
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            in->need[i] = in->need[i] || n->need[i];
        }
        for (uint32_t i = 0; i < rel->sx_len; i++) {
            sx_columns(rel->sx[i], in->need);
        }
        for (uint32_t i = 0; i < rel->keys_len; i++) {
            in->need[rel->cols[i]] = true;
        }
        for (uint32_t i = 0; i < rel->order_len; i++) {
            in->need[rel->order[i].col] = true;
        }
        break;
    case REL_NEGATE:
    case REL_UNION:
        for (uint32_t k = 0; k < rel->inputs_len; k++) {
            struct pruned *one = find(p, rel->inputs[k]);
            for (uint32_t i = 0; i < rel->cols_len; i++) {
                one->need[i] = one->need[i] || n->need[i];
            }
        }
        break;
    case REL_DISTINCT:
    case REL_THRESHOLD:
        need_all(in);
        break;
    case REL_FIXPOINT: /* a body's column nobody reads may still decide what the next one gives */
        for (uint32_t i = 0; i < rel->inputs_len; i++) {
            need_all(find(p, rel->inputs[i]));
        }
        break;
    case REL_JOIN:
        need_join(p, n);
        break;
    case REL_REDUCE:
        need_reduce(p, n);
        break;
    case REL_WINDOW:
        need_window(p, n);
        break;
    case REL_FLAT_MAP:
        need_flat_map(p, n);
        break;
    default:
        break;
    }
}

/* A relation without columns is awkward to carry (batches, arrangements): keep one. */
static void need_one(struct pruned *n)
{
    ASSERT(n->need != NULL);
    bool any = false;
    for (uint32_t i = 0; i < n->rel->cols_len; i++) {
        any = any || n->need[i];
    }
    if (!any && n->rel->cols_len > 0) {
        n->need[0] = true;
    }
}

/* ---- new nodes ------------------------------------------------------------------------------- */

/* The input's surviving columns that `want` marks, in order; at: old -> new. */
static struct rel *narrow(struct prune *p, const struct pruned *in, const bool *want, uint32_t *at)
{
    ASSERT(in->out != NULL);
    uint32_t *cols = ARENA_ARRAY(p->arena, uint32_t, in->rel->cols_len);
    uint32_t n = 0;
    for (uint32_t i = 0; i < in->rel->cols_len; i++) {
        at[i] = UINT32_MAX;
        if (want[i]) {
            ASSERT(in->at[i] != UINT32_MAX);
            at[i] = n;
            cols[n++] = in->at[i];
        }
    }
    return rel_project(p->arena, in->out, cols, n);
}

/* Exactly the needed columns of a relation that has (at least) those. */
static void exactly(struct prune *p, struct pruned *n, struct rel *rel, const uint32_t *at)
{
    struct pruned wide = {.rel = n->rel, .out = rel, .at = (uint32_t *)at};
    n->out = narrow(p, &wide, n->need, n->at);
}

/* Only the expressions somebody needs. */
static void build_map(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->sx_len > 0);
    const struct rel *rel = n->rel;
    const struct pruned *in = find(p, rel->inputs[0]);
    uint32_t *at = ARENA_ARRAY(p->arena, uint32_t, rel->cols_len);
    struct sxvec maps = {0};
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        at[i] = UINT32_MAX;
        if (i < in->rel->cols_len) {
            at[i] = in->at[i];
        } else if (n->need[i]) {
            at[i] = in->out->cols_len + maps.len;
            sxvec_push(p->arena, &maps, sx_remap(p->arena, rel->sx[i - in->rel->cols_len], in->at));
        }
    }
    exactly(p, n, rel_map(p->arena, in->out, maps.items, maps.len), at);
}

/* A projection does the pruning itself. */
static void build_project(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->kind == REL_PROJECT);
    const struct pruned *in = find(p, n->rel->inputs[0]);
    uint32_t *cols = ARENA_ARRAY(p->arena, uint32_t, n->rel->cols_len);
    uint32_t len = 0;
    for (uint32_t i = 0; i < n->rel->cols_len; i++) {
        n->at[i] = UINT32_MAX;
        if (n->need[i]) {
            n->at[i] = len;
            cols[len++] = in->at[n->rel->cols[i]];
        }
    }
    n->out = rel_project(p->arena, in->out, cols, len);
}

/*
 * Filter and top-k: the columns they look at are there, and go behind them when nobody else needs
 * them.
 */
static void build_filter(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->kind == REL_FILTER || n->rel->kind == REL_TOPK);
    const struct pruned *in = find(p, n->rel->inputs[0]);
    struct rel *out = rel_copy(p->arena, n->rel);
    out->inputs[0] = in->out;
    out->cols_len = in->out->cols_len;
    out->types = in->out->types;
    for (uint32_t i = 0; i < out->sx_len; i++) {
        out->sx[i] = sx_remap(p->arena, out->sx[i], in->at);
    }
    if (out->kind == REL_TOPK) {
        out->cols = arena_memdup(p->arena, out->cols, out->keys_len * sizeof(out->cols[0]));
        out->order = arena_memdup(p->arena, out->order, out->order_len * sizeof(out->order[0]));
    }
    for (uint32_t i = 0; i < out->keys_len; i++) {
        out->cols[i] = in->at[out->cols[i]];
    }
    for (uint32_t i = 0; i < out->order_len; i++) {
        out->order[i].col = in->at[out->order[i].col];
    }
    exactly(p, n, out, in->at);
}

/* Inner joins of any number of inputs; others pad one side, which rel_join2 knows. */
static struct rel *join_of(struct prune *p, const struct rel *rel, struct rel **inputs,
                           struct sx **preds)
{
    if (rel->join != REL_JOIN_INNER) {
        return rel_join2(p->arena, (enum rel_join)rel->join, inputs[0], inputs[1], preds,
                         rel->sx_len);
    }
    uint32_t width = 0, at = 0;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        width += inputs[i]->cols_len;
    }
    struct rel *out = rel_copy(p->arena, rel);
    out->inputs = inputs;
    out->sx = preds;
    out->cols_len = width;
    out->types = ARENA_ARRAY(p->arena, struct type, width);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        for (uint32_t c = 0; c < inputs[i]->cols_len; c++) {
            out->types[at++] = inputs[i]->types[c];
        }
    }
    return out;
}

/* Keys that nobody reads go behind the join. An index that is looked up in is what it is. */
static void build_join(struct prune *p, struct pruned *n)
{
    const struct rel *rel = n->rel;
    uint32_t total = 0, width = 0, k = 0;
    struct rel **inputs = ARENA_ARRAY(p->arena, struct rel *, rel->inputs_len);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        total += rel->inputs[i]->cols_len;
    }
    uint32_t *at = ARENA_ARRAY(p->arena, uint32_t, total);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        const struct pruned *in = find(p, rel->inputs[i]);
        bool whole = rel->lookups != NULL && rel_reads_index(rel, i);
        inputs[i] = whole ? in->rel : in->out;
        for (uint32_t c = 0; c < in->rel->cols_len; c++, k++) {
            uint32_t col = whole ? c : in->at[c];
            at[k] = col == UINT32_MAX ? col : width + col;
        }
        width += inputs[i]->cols_len;
    }
    struct sx **preds = ARENA_ARRAY(p->arena, struct sx *, rel->sx_len);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        preds[i] = sx_remap(p->arena, rel->sx[i], at);
    }
    exactly(p, n, join_of(p, rel, inputs, preds), at);
}

/* All keys, only the aggregates that are read. */
static void build_reduce(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->kind == REL_REDUCE);
    const struct rel *rel = n->rel;
    const struct pruned *in = find(p, rel->inputs[0]);
    uint32_t *keys = ARENA_ARRAY(p->arena, uint32_t, rel->keys_len);
    uint32_t *at = ARENA_ARRAY(p->arena, uint32_t, rel->cols_len);
    struct plan_agg *aggs = ARENA_ARRAY(p->arena, struct plan_agg, rel->aggs_len);
    uint32_t len = 0;
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        keys[i] = in->at[rel->cols[i]];
        at[i] = i;
    }
    for (uint32_t i = 0; i < rel->aggs_len; i++) {
        at[rel->keys_len + i] = UINT32_MAX;
        if (n->need[rel->keys_len + i]) {
            at[rel->keys_len + i] = rel->keys_len + len;
            aggs[len++] = agg_remap(p->arena, &rel->aggs[i], in->at, 0);
        }
    }
    exactly(p, n, rel_reduce(p->arena, in->out, keys, rel->keys_len, aggs, len), at);
}

/* UNION, NEGATE: every input with just the needed columns, in the same order. */
static void build_each(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->inputs_len >= 1);
    struct rel *out = rel_copy(p->arena, n->rel);
    for (uint32_t k = 0; k < n->rel->inputs_len; k++) {
        out->inputs[k] = narrow(p, find(p, n->rel->inputs[k]), n->need, n->at);
    }
    uint32_t len = 0;
    for (uint32_t i = 0; i < n->rel->cols_len; i++) {
        if (n->need[i]) {
            out->types[len++] = n->rel->types[i];
        }
    }
    out->cols_len = len;
    n->out = out;
}

/* Rows are told apart by all their columns here. */
static void build_whole(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->kind == REL_DISTINCT || n->rel->kind == REL_THRESHOLD);
    const struct pruned *in = find(p, n->rel->inputs[0]);
    uint32_t *at = ARENA_ARRAY(p->arena, uint32_t, n->rel->cols_len);
    struct rel *out = rel_copy(p->arena, n->rel);
    out->inputs[0] = narrow(p, in, in->need, at);
    exactly(p, n, out, at);
}

/* Only the functions that are read; none: no window. */
static void build_window(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->kind == REL_WINDOW);
    const struct rel *rel = n->rel;
    const struct pruned *in = find(p, rel->inputs[0]);
    uint32_t width = in->rel->cols_len, len = 0;
    uint32_t *keys = ARENA_ARRAY(p->arena, uint32_t, rel->keys_len);
    uint32_t *at = ARENA_ARRAY(p->arena, uint32_t, rel->cols_len);
    struct plan_order *order = ARENA_ARRAY(p->arena, struct plan_order, rel->order_len);
    struct plan_window_call *calls = ARENA_ARRAY(p->arena, struct plan_window_call, rel->calls_len);
    memcpy(at, in->at, width * sizeof(at[0]));
    for (uint32_t i = 0; i < rel->calls_len; i++) {
        at[width + i] = UINT32_MAX;
        if (n->need[width + i]) {
            at[width + i] = in->out->cols_len + len;
            calls[len++] = call_remap(&rel->calls[i], in->at, 0);
        }
    }
    for (uint32_t i = 0; len > 0 && i < rel->keys_len; i++) {
        keys[i] = in->at[rel->cols[i]];
    }
    for (uint32_t i = 0; len > 0 && i < rel->order_len; i++) {
        order[i] = rel->order[i];
        order[i].col = in->at[rel->order[i].col];
    }
    exactly(p, n,
            rel_window(p->arena, in->out, keys, rel->keys_len, order, rel->order_len, calls, len),
            at);
}

/* Kept columns that nobody reads are not copied into every row; nor is an ordinality made. */
static void build_flat_map(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->kind == REL_FLAT_MAP);
    const struct rel *rel = n->rel;
    const struct pruned *in = find(p, rel->inputs[0]);
    uint32_t *kept = ARENA_ARRAY(p->arena, uint32_t, rel->keys_len);
    uint32_t *at = ARENA_ARRAY(p->arena, uint32_t, rel->cols_len);
    uint32_t len = 0, counter = rel->cols_len - 1;
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        at[i] = UINT32_MAX;
        if (n->need[i]) {
            at[i] = len;
            kept[len++] = in->at[rel->cols[i]];
        }
    }
    for (uint32_t i = rel->keys_len; i < rel->cols_len; i++) {
        at[i] = len + i - rel->keys_len;
    }
    struct plan_table_call *tables =
        tables_remap(p->arena, rel->tables, rel->tables_len, in->at, 0);
    struct rel *out = rel_flat_map(p->arena, in->out, kept, len, tables, rel->tables_len,
                                   rel->types + rel->keys_len);
    out = rel->outer ? rel_flat_map_outer(p->arena, out) : out;
    if (rel->ordinality && n->need[counter]) {
        out = rel_flat_map_ordinality(p->arena, out);
    } else if (rel->ordinality) {
        at[counter] = UINT32_MAX;
    }
    exactly(p, n, out, at);
}

/* Bodies keep their columns as they are: they are those of the variables. */
static void build_fixpoint(struct prune *p, struct pruned *n)
{
    ASSERT(n->rel->kind == REL_FIXPOINT);
    struct rel **bodies = ARENA_ARRAY(p->arena, struct rel *, n->rel->inputs_len);
    for (uint32_t i = 0; i < n->rel->inputs_len; i++) {
        const struct pruned *body = find(p, n->rel->inputs[i]);
        uint32_t *at = ARENA_ARRAY(p->arena, uint32_t, body->rel->cols_len);
        bodies[i] = narrow(p, body, body->need, at);
        ASSERT(bodies[i]->cols_len == body->rel->cols_len);
    }
    n->out = rel_fixpoint(p->arena, n->rel->recursion, bodies);
}

/* Inputs are built already. */
static void build(struct prune *p, struct pruned *n)
{
    ASSERT(n->out == NULL);
    n->at = ARENA_ARRAY(p->arena, uint32_t, n->rel->cols_len);
    uint32_t *same = ARENA_ARRAY(p->arena, uint32_t, n->rel->cols_len);
    for (uint32_t i = 0; i < n->rel->cols_len; i++) {
        same[i] = i;
    }
    switch (n->rel->kind) {
    case REL_MAP:
        build_map(p, n);
        break;
    case REL_PROJECT:
        build_project(p, n);
        break;
    case REL_FILTER:
    case REL_TOPK:
        build_filter(p, n);
        break;
    case REL_JOIN:
        build_join(p, n);
        break;
    case REL_REDUCE:
        build_reduce(p, n);
        break;
    case REL_WINDOW:
        build_window(p, n);
        break;
    case REL_FLAT_MAP:
        build_flat_map(p, n);
        break;
    case REL_FIXPOINT:
        build_fixpoint(p, n);
        break;
    case REL_LEAVE:
        exactly(p, n, rel_leave(p->arena, find(p, n->rel->inputs[0])->out, n->rel), same);
        break;
    case REL_UNION:
    case REL_NEGATE:
        build_each(p, n);
        break;
    case REL_DISTINCT:
    case REL_THRESHOLD:
        build_whole(p, n);
        break;
    default:
        exactly(p, n, n->rel, same);
        break;
    }
}

/* The root keeps all columns: they are the answer. */
struct rel *rel_prune(struct arena *arena, struct rel *rel)
{
    struct prune p = {.arena = arena};
    visit(&p, rel);
    need_all(find(&p, rel));
    for (size_t i = p.nodes_len; i-- > 0;) {
        need_one(p.nodes[i]);
        need_inputs(&p, p.nodes[i]);
    }
    for (size_t i = 0; i < p.nodes_len; i++) {
        build(&p, p.nodes[i]);
    }
    struct rel *out = find(&p, rel)->out;
    ASSERT(out->cols_len == rel->cols_len);
    u64map_free(&p.index);
    free(p.nodes);
    return out;
}
