/*
 * Emission: a physical rel DAG into the nodes of a plan. Chains of MAP, FILTER and PROJECT fuse
 * into one MFP; nodes that are equal are emitted once, so common subplans are shared.
 *
 *   PROJECT {2} over MAP {a + 1} over FILTER a > 1 over t    ->    MFP(t): filter a > 1, map a + 1
 *
 * Two ways of sharing: a rel reached twice is one node (done), and nodes with the same operator,
 * inputs, types and payload are one (equal), which finds the same join written in two places.
 * Inputs are nodes already when a node is compared, so whole subplans fold together from below. For
 * an incremental engine that is half the memory, not only half the work.
 *
 * A fused chain evaluates predicates as early as their columns allow (core/data/expr.h);
 * expressions that substitution would make too large begin an MFP of their own.
 *
 * Everything of the plan is copied into its arena: it outlives the planning context.
 */
#include "ctrl/adapter/sql/sql_internal.h"

/* One run. The maps are temporary; the plan is the caller's. */
struct emitter {
    struct arena *scratch;
    struct plan *plan;
    struct emit_reads *reads;
    struct u64map done;  /* rel -> node index + 1 */
    struct strmap equal; /* node content -> node index + 1 */
    struct u64map recursions; /* struct recursion -> its variables' nodes, then the fixpoint's */
};

static err_t emit(struct emitter *em, struct rel *rel, uint32_t *out);

/* ---- equal nodes are one --------------------------------------------------------------------- */

/* A value as bytes. Only the member of the union that the kind uses: the rest may be anything. */
static void key_datum(struct buf *key, const struct type *type, const struct datum *d)
{
    ASSERT(type->kind != TYPE_UNKNOWN);
    buf_append_byte(key, d->null ? 1 : 0);
    if (d->null) {
        return;
    }
    if (type_is_variable((enum type_kind)type->kind)) {
        buf_append_u32(key, d->len);
        buf_append(key, d->s, d->len);
    } else {
        /* The widest member; the rest of the union was zeroed or is not looked at. */
        struct datum clean = {0};
        switch (type->kind) {
        case TYPE_BOOL:
            clean.b = d->b;
            break;
        case TYPE_NUMERIC:
            clean.n = d->n;
            break;
        case TYPE_INTERVAL:
            clean.iv = d->iv;
            break;
        case TYPE_UUID:
            memcpy(clean.uuid, d->uuid, sizeof(clean.uuid));
            break;
        default:
            clean.i = d->i;
            break;
        }
        buf_append(key, &clean.uuid, sizeof(struct numeric) > 16 ? 24 : 16);
    }
}

/* Names and nullability do not change what an expression computes, so they are left out. */
static void key_expr(struct buf *key, const struct expr *e)
{
    ASSERT(e->nodes_len > 0);
    buf_append_u32(key, e->nodes_len);
    for (uint32_t i = 0; i < e->nodes_len; i++) {
        const struct expr_node *n = &e->nodes[i];
        buf_append_byte(key, n->kind);
        buf_append_byte(key, n->type.kind);
        buf_append_u32(key, n->column);
        buf_append_u32(key, n->func);
        buf_append_u32(key, n->args_len);
        buf_append(key, n->args, n->args_len * sizeof(n->args[0]));
        if (n->kind == EXPR_LITERAL) {
            key_datum(key, &n->type, &n->literal);
        }
    }
}

/* Everything that decides about the output. */
static void key_mfp(struct buf *key, const struct mfp *m)
{
    ASSERT(m->project_len == 0 || m->project != NULL);
    buf_append_u32(key, m->input_cols);
    buf_append_u32(key, m->maps_len);
    for (uint32_t i = 0; i < m->maps_len; i++) {
        key_expr(key, &m->maps[i]);
    }
    buf_append_u32(key, m->predicates_len);
    for (uint32_t i = 0; i < m->predicates_len; i++) {
        key_expr(key, &m->predicates[i]);
    }
    buf_append(key, m->project, m->project_len * sizeof(m->project[0]));
}

static void key_order(struct buf *key, const struct plan_order *order, uint32_t len)
{
    buf_append_u32(key, len);
    for (uint32_t i = 0; i < len; i++) {
        buf_append_u32(key, order[i].col * 4 + order[i].desc * 2 + order[i].nulls_first);
    }
}

/* Result types follow from the functions and arguments. */
static void key_aggs(struct buf *key, const struct plan_node *n)
{
    ASSERT(n->op == PLAN_REDUCE);
    for (uint32_t i = 0; i < n->reduce.aggs_len; i++) {
        const struct plan_agg *a = &n->reduce.aggs[i];
        buf_append_byte(key, a->func);
        buf_append_byte(key, (uint8_t)(a->distinct * 2 + a->has_filter));
        buf_append_u32(key, a->arg);
        buf_append_u32(key, a->arg2);
        buf_append_u32(key, a->filter);
        key_order(key, a->order, a->order_len);
    }
}

static void key_bound(struct buf *key, const struct plan_bound *bound)
{
    buf_append_byte(key, bound->kind);
    buf_append_u64(key, (uint64_t)bound->offset);
    buf_append_u32(key, bound->kind == PLAN_BOUND_VALUE ? bound->col : 0);
}

static void key_call(struct buf *key, const struct plan_window_call *call)
{
    struct plan_window_call copy = *call;
    buf_append_byte(key, call->func);
    buf_append_byte(key, call->has_fallback);
    buf_append_byte(key, call->n_of_row);
    buf_append_u64(key, (uint64_t)call->n);
    buf_append_byte(key, call->agg.func);
    buf_append_byte(key, call->agg.has_filter);
    buf_append_byte(key, (uint8_t)(call->frame.mode * 8 + call->frame.exclude));
    key_bound(key, &call->frame.start);
    key_bound(key, &call->frame.end);
    for (uint32_t i = 0, *col; (col = plan_window_col(&copy, i)) != NULL; i++) {
        buf_append_u32(key, *col);
    }
}

static void key_lookup(struct buf *key, const struct plan_node *n)
{
    if (n->op == PLAN_ARRANGE) {
        buf_append(key, n->arrange.keys, n->arrange.keys_len * sizeof(uint32_t));
        return;
    }
    ASSERT(n->op == PLAN_LOOKUP);
    buf_append_byte(key, (uint8_t)(n->lookup.before * 2 + n->lookup.later));
    buf_append(key, n->lookup.keys, n->lookup.keys_len * sizeof(uint32_t));
}

static void key_bounds(struct buf *key, const struct plan_node *n)
{
    ASSERT(n->op == PLAN_TEMPORAL);
    for (uint32_t i = 0; i < n->temporal.bounds_len; i++) {
        buf_append_byte(key, n->temporal.bounds[i].cmp);
        buf_append_u32(key, n->temporal.bounds[i].col);
    }
}

/* What tells nodes of one operator apart, beside their inputs and types. */
static void key_payload(struct buf *key, const struct plan_node *n)
{
    ASSERT(n->op >= PLAN_SOURCE && n->op <= PLAN_OP_MAX);
    switch (n->op) {
    case PLAN_SOURCE:
    case PLAN_INDEX:
        buf_append_u64(key, n->import.id);
        break;
    case PLAN_CONSTANT:
        for (uint32_t i = 0; i < n->constant.rows_len; i++) {
            buf_append_u64(key, (uint64_t)n->constant.diffs[i]);
            for (uint32_t c = 0; c < n->schema.cols; c++) {
                key_datum(key, &n->schema.types[c],
                          &n->constant.rows[(size_t)i * n->schema.cols + c]);
            }
        }
        break;
    case PLAN_MFP:
        key_mfp(key, &n->mfp);
        break;
    case PLAN_JOIN:
        buf_append_byte(key, n->join.kind);
        buf_append_byte(key, n->join.null_equal);
        buf_append(key, n->join.left_keys, n->join.keys_len * sizeof(uint32_t));
        buf_append(key, n->join.right_keys, n->join.keys_len * sizeof(uint32_t));
        break;
    case PLAN_ARRANGE:
    case PLAN_LOOKUP:
        key_lookup(key, n);
        break;
    case PLAN_REDUCE:
        buf_append_u32(key, n->reduce.keys_len);
        buf_append(key, n->reduce.keys, n->reduce.keys_len * sizeof(uint32_t));
        key_aggs(key, n);
        break;
    case PLAN_TOPK:
        buf_append_u32(key, n->topk.keys_len);
        buf_append(key, n->topk.keys, n->topk.keys_len * sizeof(uint32_t));
        key_order(key, n->topk.order, n->topk.order_len);
        buf_append_u64(key, (uint64_t)n->topk.limit);
        buf_append_byte(key, n->topk.ties);
        buf_append_u64(key, (uint64_t)n->topk.offset);
        break;
    case PLAN_LEAVE:
        buf_append_u32(key, n->leave.binding);
        break;
    case PLAN_TEMPORAL:
        key_bounds(key, n);
        break;
    case PLAN_WINDOW:
        buf_append_u32(key, n->window.keys_len);
        buf_append(key, n->window.keys, n->window.keys_len * sizeof(uint32_t));
        key_order(key, n->window.order, n->window.order_len);
        for (uint32_t i = 0; i < n->window.calls_len; i++) {
            key_call(key, &n->window.calls[i]);
        }
        break;
    case PLAN_UNION: buf_append_byte(key, n->sum.errors_once); break;
    case PLAN_FLAT_MAP:
        buf_append_u32(key, n->flat_map.keep_len);
        buf_append(key, n->flat_map.keep, n->flat_map.keep_len * sizeof(uint32_t));
        buf_append_byte(key, n->flat_map.ordinality);
        buf_append_byte(key, n->flat_map.outer);
        for (uint32_t i = 0; i < n->flat_map.calls_len; i++) { /* arguments: as func has them */
            const struct plan_table_call *call = &n->flat_map.calls[i];
            buf_append_u32(key, call->func);
            buf_append(key, call->args, call->args_len * sizeof(uint32_t));
        }
        break;
    default:
        break;
    }
}

/* A node of its own. 54001 when the engine's bound on operators is reached. */
static err_t append_node(struct emitter *em, const struct plan_node *node, uint32_t *out)
{
    if (em->plan->nodes_len >= PLAN_NODES_MAX) {
        return err_sql(ERR_LIMIT, "54001", "the plan has more than %d operators", PLAN_NODES_MAX);
    }
    *out = plan_add(em->plan, node);
    return ERR_OK;
}

/* The node's index: of an equal one already there, or a new one. 54001 when the engine's bound on
 * operators is reached. */
static err_t add_node(struct emitter *em, const struct plan_node *node, uint32_t *out)
{
    ASSERT(node->inputs_len <= PLAN_INPUTS_MAX);
    struct buf key = {0}, hex = {0};
    buf_append_byte(&key, node->op);
    buf_append_u32(&key, node->schema.cols);
    for (uint32_t i = 0; i < node->schema.cols; i++) {
        buf_append_byte(&key, node->schema.types[i].kind);
    }
    buf_append_u32(&key, node->inputs_len);
    buf_append(&key, node->inputs, node->inputs_len * sizeof(node->inputs[0]));
    key_payload(&key, node);
    for (size_t i = 0; i < key.len; i++) {
        /* Map keys are C strings: two letters a byte. */
        buf_append_byte(&hex, (uint8_t)('a' + (key.data[i] >> 4)));
        buf_append_byte(&hex, (uint8_t)('a' + (key.data[i] & 15)));
    }
    uintptr_t known = (uintptr_t)strmap_get(&em->equal, buf_cstr(&hex));
    err_t err = ERR_OK;
    if (known != 0) {
        *out = (uint32_t)(known - 1);
    } else {
        err = append_node(em, node, out);
        if (err == ERR_OK) {
            strmap_put(&em->equal, buf_cstr(&hex), (void *)((uintptr_t)*out + 1));
        }
    }
    buf_free(&key);
    buf_free(&hex);
    return err;
}

/* Kinds and nullability; names are for the result only. */
static struct schema schema_of(struct emitter *em, const struct rel *rel)
{
    struct schema s = {.cols = rel->cols_len};
    s.types = arena_memdup(&em->plan->arena, rel->types, rel->cols_len * sizeof(rel->types[0]));
    return s;
}

/* Lists of the plan live in its arena. */
static uint32_t *copy_cols(struct emitter *em, const uint32_t *cols, uint32_t len)
{
    return arena_memdup(&em->plan->arena, cols, len * sizeof(cols[0]));
}

/* ---- MFP ------------------------------------------------------------------------------------- */

/* A chain over its base: what comes out, over base's columns, and which rows. */
struct fused {
    struct rel *base;
    struct sx **exprs; /* output columns over base's */
    uint32_t exprs_len;
    struct sxvec preds;
};

/* Nothing fused: the relation's own columns. */
static void fuse_base(struct arena *scratch, struct rel *rel, struct fused *out)
{
    *out = (struct fused){.base = rel, .exprs_len = rel->cols_len};
    out->exprs = ARENA_ARRAY(scratch, struct sx *, rel->cols_len);
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        out->exprs[i] = sx_col(scratch, i, rel->types[i]);
    }
}

/* The expressions of a MAP or FILTER over the base; false when they become too large. One that was
 * too large before is taken: it can be no smaller. */
static bool fuse_exprs(struct arena *scratch, struct rel *rel, struct sx **exprs, struct fused *out)
{
    ASSERT(rel->kind == REL_MAP || rel->kind == REL_FILTER);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        struct sx *sx = sx_subst(scratch, rel->sx[i], out->exprs);
        if (sx_measure(sx) > SX_SUBST_MAX && sx_measure(sx) > sx_measure(rel->sx[i])) {
            return false;
        }
        sx = sx_fold(scratch, sx);
        if (rel->kind == REL_MAP) {
            exprs[rel->inputs[0]->cols_len + i] = sx;
        } else {
            sxvec_push(scratch, &out->preds, sx);
        }
    }
    return true;
}

/* Substitutes a chain of MAP, FILTER and PROJECT into expressions over what stands below it. A
 * filter below a map is a predicate like one above: both are over base's columns afterwards. */
static void fuse(struct arena *scratch, struct rel *rel, struct fused *out)
{
    if (rel->kind != REL_MAP && rel->kind != REL_FILTER && rel->kind != REL_PROJECT) {
        fuse_base(scratch, rel, out);
        return;
    }
    struct rel *in = rel->inputs[0];
    struct sx **exprs = ARENA_ARRAY(scratch, struct sx *, rel->cols_len);
    fuse(scratch, in, out);
    ASSERT(out->exprs_len == in->cols_len);
    if (rel->kind == REL_PROJECT) {
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            exprs[i] = out->exprs[rel->cols[i]];
        }
    } else {
        if (!fuse_exprs(scratch, rel, exprs, out)) {
            /* One MFP ends here, the next begins: over columns nothing grows. */
            fuse_base(scratch, in, out);
            bool fits = fuse_exprs(scratch, rel, exprs, out);
            ASSERT(fits);
        }
        memcpy(exprs, out->exprs, in->cols_len * sizeof(exprs[0]));
    }
    out->exprs = exprs;
    out->exprs_len = rel->cols_len;
}

/* Columns are projected as they are; every other expression becomes one map, shared by equals. */
static err_t build_mfp(struct arena *scratch, struct arena *arena, const struct fused *f,
                       struct mfp *m)
{
    ASSERT(f->base != NULL);
    struct sxvec maps = {0};
    *m = (struct mfp){.input_cols = f->base->cols_len, .project_len = f->exprs_len};
    m->project = ARENA_ARRAY(arena, uint32_t, f->exprs_len);
    for (uint32_t i = 0; i < f->exprs_len; i++) {
        struct sx *sx = f->exprs[i];
        if (sx->kind == SX_COL) {
            m->project[i] = sx->col;
            continue;
        }
        /* Few maps: looking through them is cheaper than a table. */
        uint32_t at = 0;
        while (at < maps.len &&
               (maps.items[at]->type.oid != sx->type.oid || !sx_same(maps.items[at], sx))) {
            at++;
        }
        if (at == maps.len) {
            sxvec_push(scratch, &maps, sx);
        }
        m->project[i] = f->base->cols_len + at;
    }
    m->maps = ARENA_ARRAY(arena, struct expr, maps.len);
    m->maps_len = maps.len;
    for (uint32_t i = 0; i < maps.len; i++) {
        TRY(sx_emit(arena, maps.items[i], &m->maps[i]));
    }
    m->predicates = ARENA_ARRAY(arena, struct expr, f->preds.len);
    for (uint32_t i = 0; i < f->preds.len; i++) {
        if (!sx_is_true(f->preds.items[i])) {
            TRY(sx_emit(arena, f->preds.items[i], &m->predicates[m->predicates_len++]));
        }
    }
    return ERR_OK;
}

/* The whole chain for a peek, whose base is the index. */
err_t rel_mfp(struct arena *scratch, struct arena *arena, struct rel *rel, struct rel **base,
              struct mfp *out)
{
    ASSERT(rel != NULL && base != NULL);
    struct fused f;
    fuse(scratch, rel, &f);
    *base = f.base;
    return build_mfp(scratch, arena, &f, out);
}

/* Whoever reads a chain that changes nothing reads its input. */
static err_t emit_fused(struct emitter *em, const struct fused *f, uint32_t *out)
{
    uint32_t in = 0;
    TRY(emit(em, f->base, &in));
    struct plan_node node = {.op = PLAN_MFP, .inputs_len = 1};
    node.schema = (struct schema){.cols = f->exprs_len};
    node.schema.types = ARENA_ARRAY(&em->plan->arena, struct type, f->exprs_len);
    for (uint32_t i = 0; i < f->exprs_len; i++) {
        node.schema.types[i] = f->exprs[i]->type;
    }
    node.inputs = copy_cols(em, &in, 1);
    TRY(build_mfp(em->scratch, &em->plan->arena, f, &node.mfp));
    bool identity = node.mfp.predicates_len == 0 && node.mfp.maps_len == 0 &&
                    node.mfp.project_len == f->base->cols_len;
    for (uint32_t i = 0; i < node.mfp.project_len && identity; i++) {
        identity = node.mfp.project[i] == i;
    }
    if (identity) {
        *out = in;
        return ERR_OK;
    }
    return add_node(em, &node, out);
}

/* A column for a bound: one that is there anyway, or one more behind them. */
static err_t bound_column(struct emitter *em, struct fused *f, struct sx *bound, uint32_t *col)
{
    for (uint32_t i = 0; i < f->exprs_len; i++) {
        if (sx_same(f->exprs[i], bound) && f->exprs[i]->type.kind == bound->type.kind) {
            *col = i;
            return ERR_OK;
        }
    }
    if (f->exprs_len >= BATCH_COLS_MAX) {
        return err_hint(err_sql(ERR_LIMIT, "54011",
                                "%u columns and the bounds of mz_now() are more than %d",
                                f->exprs_len, BATCH_COLS_MAX),
                        "Select fewer columns.");
    }
    struct sx **exprs = ARENA_ARRAY(em->scratch, struct sx *, f->exprs_len + 1);
    if (f->exprs_len > 0) {
        memcpy(exprs, f->exprs, f->exprs_len * sizeof(exprs[0]));
    }
    exprs[f->exprs_len] = bound;
    f->exprs = exprs;
    *col = f->exprs_len++;
    return ERR_OK;
}

/* Takes the conditions with mz_now() out of the chain, as bounds of a temporal filter over it. */
static err_t take_bounds(struct emitter *em, struct fused *f, struct plan_node *node)
{
    uint32_t kept = 0;
    node->temporal.bounds =
        ARENA_ARRAY(&em->plan->arena, struct plan_temporal_bound, f->preds.len);
    for (uint32_t i = 0; i < f->preds.len; i++) {
        struct sx *pred = f->preds.items[i], *bound = NULL;
        uint8_t cmp = 0;
        if (!sx_has_now(pred)) {
            f->preds.items[kept++] = pred;
            continue;
        }
        if (!sx_temporal(pred, &cmp, &bound)) {
            return sx_now_refused();
        }
        struct plan_temporal_bound *to = &node->temporal.bounds[node->temporal.bounds_len++];
        to->cmp = cmp;
        TRY(bound_column(em, f, bound, &to->col));
    }
    f->preds.len = kept;
    return ERR_OK;
}

static err_t emit_mfp(struct emitter *em, struct rel *rel, uint32_t *out)
{
    ASSERT(rel->inputs_len == 1);
    struct fused f;
    fuse(em->scratch, rel, &f);
    struct plan_node node = {.op = PLAN_TEMPORAL, .inputs_len = 1, .schema = schema_of(em, rel)};
    TRY(take_bounds(em, &f, &node));
    uint32_t in = 0;
    TRY(emit_fused(em, &f, &in));
    if (node.temporal.bounds_len == 0) {
        *out = in;
        return ERR_OK;
    }
    node.inputs = copy_cols(em, &in, 1);
    return add_node(em, &node, out);
}

/* ---- the other operators --------------------------------------------------------------------- */

/* Notes what is read: the session takes holds on it before the plan is sent. */
static err_t emit_get(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_GET);
    struct plan_node node = {.op = rel->is_index ? PLAN_INDEX : PLAN_SOURCE,
                             .schema = schema_of(em, rel)};
    node.import.id = rel->id;
    for (uint32_t i = 0; rel->is_index && i < rel->relation->indexes_len; i++) {
        const struct sql_index *index = &rel->relation->indexes[i];
        if (index->id == rel->id) {
            node.import.keys = copy_cols(em, index->keys, index->keys_len);
            node.import.keys_len = index->keys_len;
        }
    }
    idset_add(rel->is_index ? &em->reads->indexes : &em->reads->collections, rel->id);
    return add_node(em, &node, out);
}

/* Rows are copied: the plan outlives the planning context. */
static err_t emit_constant(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_CONSTANT);
    struct arena *a = &em->plan->arena;
    struct plan_node node = {.op = PLAN_CONSTANT, .schema = schema_of(em, rel)};
    size_t cells = (size_t)rel->rows_len * rel->cols_len;
    node.constant.rows = arena_memdup(a, rel->rows, cells * sizeof(rel->rows[0]));
    node.constant.rows_len = rel->rows_len;
    node.constant.diffs = ARENA_ARRAY(a, int64_t, rel->rows_len);
    for (uint32_t i = 0; i < rel->rows_len; i++) {
        node.constant.diffs[i] = rel->diffs == NULL ? 1 : rel->diffs[i];
    }
    for (size_t i = 0; i < cells; i++) {
        struct datum *d = &node.constant.rows[i];
        uint8_t kind = rel->types[i % rel->cols_len].kind;
        if (!d->null && type_is_variable((enum type_kind)kind)) {
            d->s = arena_memdup(a, d->s, d->len);
        }
    }
    return add_node(em, &node, out);
}

/* phys.c left nothing but equalities of one left and one right column. */
static err_t emit_join(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->inputs_len == 2);
    uint32_t inputs[2], l = rel->inputs[0]->cols_len;
    TRY(emit(em, rel->inputs[0], &inputs[0]));
    TRY(emit(em, rel->inputs[1], &inputs[1]));
    struct plan_node node = {.op = PLAN_JOIN, .inputs_len = 2, .schema = schema_of(em, rel)};
    static const uint8_t kinds[] = {[REL_JOIN_INNER] = PLAN_JOIN_INNER,
                                    [REL_JOIN_LEFT] = PLAN_JOIN_LEFT,
                                    [REL_JOIN_SEMI] = PLAN_JOIN_SEMI,
                                    [REL_JOIN_ANTI] = PLAN_JOIN_ANTI};
    /* The same names on both sides; FULL is gone since lowering. */
    node.join.kind = kinds[rel->join];
    node.inputs = copy_cols(em, inputs, 2);
    node.join.keys_len = rel->sx_len;
    node.join.left_keys = ARENA_ARRAY(&em->plan->arena, uint32_t, rel->sx_len);
    node.join.right_keys = ARENA_ARRAY(&em->plan->arena, uint32_t, rel->sx_len);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        const struct sx *sx = rel->sx[i];
        ASSERT(sx->kind == SX_CALL && sx->args_len == 2 && sx->args[0]->kind == SX_COL &&
               sx->args[1]->kind == SX_COL);
        node.join.left_keys[i] = sx->args[0]->col;
        ASSERT(sx->args[1]->col >= l);
        node.join.right_keys[i] = sx->args[1]->col - l;
        /* The same for all pairs: phys.c saw to it. */
        node.join.null_equal = sx_is_op(sx, "is_not_distinct_from");
    }
    return add_node(em, &node, out);
}

/* lookup.c joins by plain equality: NULLs match nothing. */
static err_t emit_arrange(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->keys_len > 0);
    uint32_t in = 0;
    TRY(emit(em, rel->inputs[0], &in));
    struct plan_node node = {.op = PLAN_ARRANGE, .inputs_len = 1, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, &in, 1);
    node.arrange.keys = copy_cols(em, rel->cols, rel->keys_len);
    node.arrange.keys_len = rel->keys_len;
    return add_node(em, &node, out);
}

static err_t emit_lookup(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->inputs_len == 2 && rel->keys_len > 0);
    uint32_t inputs[2];
    TRY(emit(em, rel->inputs[0], &inputs[0]));
    TRY(emit(em, rel->inputs[1], &inputs[1]));
    struct plan_node node = {.op = PLAN_LOOKUP, .inputs_len = 2, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, inputs, 2);
    node.lookup.keys = copy_cols(em, rel->cols, rel->keys_len);
    node.lookup.keys_len = rel->keys_len;
    node.lookup.before = rel->before;
    node.lookup.later = rel->later;
    return add_node(em, &node, out);
}

/* Aggregation; without aggregates grouping is DISTINCT. */
static err_t emit_reduce(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_REDUCE && rel->keys_len + rel->aggs_len > 0);
    uint32_t in = 0;
    TRY(emit(em, rel->inputs[0], &in));
    struct plan_node node = {.inputs_len = 1, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, &in, 1);
    if (rel->aggs_len == 0) {
        /* Grouping alone is DISTINCT of the key columns. */
        struct rel *keys = rel_project(em->scratch, rel->inputs[0], rel->cols, rel->keys_len);
        TRY(emit(em, keys, &node.inputs[0]));
        node.op = PLAN_DISTINCT;
        return add_node(em, &node, out);
    }
    node.op = PLAN_REDUCE;
    node.reduce.keys = copy_cols(em, rel->cols, rel->keys_len);
    node.reduce.keys_len = rel->keys_len;
    node.reduce.aggs =
        arena_memdup(&em->plan->arena, rel->aggs, rel->aggs_len * sizeof(rel->aggs[0]));
    node.reduce.aggs_len = rel->aggs_len;
    for (uint32_t i = 0; i < rel->aggs_len; i++) {
        node.reduce.aggs[i] = agg_remap(&em->plan->arena, &rel->aggs[i], NULL, 0);
    }
    return add_node(em, &node, out);
}

/* Partition, order, limit and offset as they are. */
static err_t emit_topk(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_TOPK);
    uint32_t in = 0;
    TRY(emit(em, rel->inputs[0], &in));
    struct plan_node node = {.op = PLAN_TOPK, .inputs_len = 1, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, &in, 1);
    node.topk.keys = copy_cols(em, rel->cols, rel->keys_len);
    node.topk.keys_len = rel->keys_len;
    node.topk.order =
        arena_memdup(&em->plan->arena, rel->order, rel->order_len * sizeof(rel->order[0]));
    node.topk.order_len = rel->order_len;
    node.topk.limit = rel->limit;
    node.topk.offset = rel->offset;
    node.topk.ties = rel->ties;
    return add_node(em, &node, out);
}

static err_t emit_window(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_WINDOW);
    uint32_t in = 0;
    TRY(emit(em, rel->inputs[0], &in));
    struct plan_node node = {.op = PLAN_WINDOW, .inputs_len = 1, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, &in, 1);
    node.window.keys = copy_cols(em, rel->cols, rel->keys_len);
    node.window.keys_len = rel->keys_len;
    node.window.order =
        arena_memdup(&em->plan->arena, rel->order, rel->order_len * sizeof(rel->order[0]));
    node.window.order_len = rel->order_len;
    node.window.calls =
        arena_memdup(&em->plan->arena, rel->calls, rel->calls_len * sizeof(rel->calls[0]));
    node.window.calls_len = rel->calls_len;
    return add_node(em, &node, out);
}

static err_t emit_flat_map(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_FLAT_MAP);
    uint32_t in = 0;
    TRY(emit(em, rel->inputs[0], &in));
    struct plan_node node = {.op = PLAN_FLAT_MAP, .inputs_len = 1, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, &in, 1);
    node.flat_map.keep = copy_cols(em, rel->cols, rel->keys_len);
    node.flat_map.keep_len = rel->keys_len;
    node.flat_map.calls = tables_remap(&em->plan->arena, rel->tables, rel->tables_len, NULL, 0);
    node.flat_map.calls_len = rel->tables_len;
    node.flat_map.ordinality = rel->ordinality;
    node.flat_map.outer = rel->outer;
    return add_node(em, &node, out);
}

/* A union's inputs while they are collected. */
struct input_list {
    uint32_t *nodes;
    size_t nodes_len, nodes_cap;
};

/*
 * UNION ALL of many arms parses as a left-deep tree: one operator takes them all, up to the
 * engine's bound. `after` counts arms passed on the way down to the first that still need a place.
 * Of arms that have the same errors those of the first go on, however they are put together.
 */
static err_t union_inputs(struct emitter *em, struct rel *rel, uint32_t after,
                          struct input_list *list)
{
    ASSERT(rel->kind == REL_UNION);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        struct rel *in = rel->inputs[i];
        uint32_t behind = after + rel->inputs_len - 1 - i;
        if (in->kind == REL_UNION && in->errors_once == rel->errors_once &&
            list->nodes_len + in->inputs_len + behind <= PLAN_INPUTS_MAX) {
            TRY(union_inputs(em, in, behind, list));
        } else {
            uint32_t node = 0;
            TRY(emit(em, in, &node));
            *VEC_PUSH(list, nodes) = node;
        }
        ASSERT(list->nodes_len + behind <= PLAN_INPUTS_MAX);
    }
    return ERR_OK;
}

/* One operator for a tree of unions. */
static err_t emit_union(struct emitter *em, struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_UNION && rel->inputs_len >= 1);
    struct input_list list = {0};
    err_t err = union_inputs(em, rel, 0, &list);
    if (err == ERR_OK) {
        struct plan_node node = {.op = PLAN_UNION, .schema = schema_of(em, rel)};
        node.sum.errors_once = rel->errors_once;
        node.inputs = copy_cols(em, list.nodes, (uint32_t)list.nodes_len);
        node.inputs_len = (uint32_t)list.nodes_len;
        err = add_node(em, &node, out);
    }
    free(list.nodes);
    return err;
}

/* DISTINCT, THRESHOLD, NEGATE: the input and nothing else. */
static err_t emit_unary(struct emitter *em, const struct rel *rel, uint8_t op, uint32_t *out)
{
    ASSERT(rel->inputs_len == 1);
    uint32_t in = 0;
    TRY(emit(em, rel->inputs[0], &in));
    struct plan_node node = {.op = op, .inputs_len = 1, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, &in, 1);
    return add_node(em, &node, out);
}

/*
 * Variables first, as each body may refer to all of them. A recursion is emitted once, whatever
 * copies of it there are: its variables are nodes of their own, which nothing else equals.
 */
static err_t emit_fixpoint(struct emitter *em, struct rel *rel, uint32_t *out)
{
    ASSERT(rel->kind == REL_FIXPOINT);
    struct recursion *r = rel->recursion;
    uint32_t *variables = u64map_get(&em->recursions, (uint64_t)(uintptr_t)r);
    if (variables != NULL) {
        *out = variables[r->len];
        return ERR_OK;
    }
    struct arena *a = &em->plan->arena;
    variables = ARENA_ARRAY(a, uint32_t, r->len + 1);
    u64map_put(&em->recursions, (uint64_t)(uintptr_t)r, variables);
    for (uint32_t i = 0; i < r->len; i++) {
        struct plan_node variable = {.op = PLAN_VARIABLE, .schema = schema_of(em, rel->inputs[i])};
        TRY(append_node(em, &variable, &variables[i]));
    }
    uint32_t *bodies = ARENA_ARRAY(a, uint32_t, r->len);
    for (uint32_t i = 0; i < r->len; i++) {
        TRY(emit(em, rel->inputs[i], &bodies[i]));
    }
    struct plan_node node = {.op = PLAN_FIXPOINT, .inputs = bodies, .inputs_len = r->len};
    node.fixpoint = (struct plan_fixpoint){.variables = variables,
                                           .variables_len = r->len,
                                           .limit = r->limit,
                                           .limit_error = r->limit_error};
    TRY(append_node(em, &node, out));
    variables[r->len] = *out;
    return ERR_OK;
}

static err_t emit_variable(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    const uint32_t *variables = u64map_get(&em->recursions, (uint64_t)(uintptr_t)rel->recursion);
    ASSERT(variables != NULL && rel->binding < rel->recursion->len);
    *out = variables[rel->binding];
    return ERR_OK;
}

static err_t emit_leave(struct emitter *em, const struct rel *rel, uint32_t *out)
{
    ASSERT(rel->inputs_len == 1 && rel->inputs[0]->kind == REL_FIXPOINT);
    uint32_t in = 0;
    TRY(emit(em, rel->inputs[0], &in));
    struct plan_node node = {.op = PLAN_LEAVE, .inputs_len = 1, .schema = schema_of(em, rel)};
    node.inputs = copy_cols(em, &in, 1);
    node.leave.binding = rel->binding;
    return add_node(em, &node, out);
}

/* By kind; others were lowered. */
static err_t emit_node(struct emitter *em, struct rel *rel, uint32_t *out)
{
    switch (rel->kind) {
    case REL_GET:
        return emit_get(em, rel, out);
    case REL_CONSTANT:
        return emit_constant(em, rel, out);
    case REL_MAP:
    case REL_FILTER:
    case REL_PROJECT:
        return emit_mfp(em, rel, out);
    case REL_JOIN:
        return emit_join(em, rel, out);
    case REL_ARRANGE:
        return emit_arrange(em, rel, out);
    case REL_LOOKUP:
        return emit_lookup(em, rel, out);
    case REL_REDUCE:
        return emit_reduce(em, rel, out);
    case REL_TOPK:
        return emit_topk(em, rel, out);
    case REL_WINDOW:
        return emit_window(em, rel, out);
    case REL_FLAT_MAP:
        return emit_flat_map(em, rel, out);
    case REL_UNION:
        return emit_union(em, rel, out);
    case REL_DISTINCT:
        return emit_unary(em, rel, PLAN_DISTINCT, out);
    case REL_THRESHOLD:
        return emit_unary(em, rel, PLAN_THRESHOLD, out);
    case REL_NEGATE:
        return emit_unary(em, rel, PLAN_NEGATE, out);
    case REL_VARIABLE:
        return emit_variable(em, rel, out);
    case REL_FIXPOINT:
        return emit_fixpoint(em, rel, out);
    case REL_LEAVE:
        return emit_leave(em, rel, out);
    default:
        UNREACHABLE();
    }
}

/* Inputs before users, each once. */
static err_t emit(struct emitter *em, struct rel *rel, uint32_t *out)
{
    uint64_t key = (uint64_t)(uintptr_t)rel;
    uintptr_t known = (uintptr_t)u64map_get(&em->done, key);
    if (known != 0) {
        *out = (uint32_t)(known - 1);
        return ERR_OK;
    }
    TRY(emit_node(em, rel, out));
    ASSERT(*out < em->plan->nodes_len);
    u64map_put(&em->done, key, (void *)((uintptr_t)*out + 1));
    return ERR_OK;
}

/* On an error the plan is half built and the caller's to free. */
err_t rel_emit(struct arena *scratch, struct rel *rel, struct plan *plan, uint32_t *node,
               struct emit_reads *reads)
{
    ASSERT(plan != NULL && reads != NULL);
    struct emitter em = {.scratch = scratch, .plan = plan, .reads = reads};
    err_t err = emit(&em, rel, node);
    u64map_free(&em.done);
    u64map_free(&em.recursions);
    strmap_free(&em.equal);
    return err;
}
