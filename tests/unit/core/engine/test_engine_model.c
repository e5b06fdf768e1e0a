/*
 * The engine against the model: random plans, random updates with retractions at random times in
 * random batches over several storage parts, one to four workers with random delivery. At every
 * time the accumulated output must be what the plan means for the input up to that time; after
 * everything is retracted nothing may be left.
 */
#include "core/engine/engine_internal.h"
#include "tests/unit/core/engine/model.h"
#include "tests/unit/core/engine/plans.h"
#include "tests/unit/harness.h"

#include <stdio.h>

enum { SOURCES_MAX = 3, PARTS_MAX = 3, COLS = 6, TIMES = 12 };
enum { SUBSCRIBE_ID = 1, INDEX_ID = 2, DATAFLOW_ID = 7 };
enum { INDEXED_ID = 6, SOURCE_INDEX_ID = 3, MULTI_MAX = 4 };

/* Of the sources: of every sort, or of what is a word (the engine has operators of its own for
 * rows that are a few words). */
static const uint8_t mixed_kinds[COLS] = {TYPE_INT8,    TYPE_INT4,   TYPE_TEXT,
                                          TYPE_NUMERIC, TYPE_FLOAT8, TYPE_BOOL};
static const uint8_t word_kinds[COLS] = {TYPE_INT8, TYPE_INT4, TYPE_DATE,
                                         TYPE_INT2, TYPE_BOOL, TYPE_BOOL};
static const uint8_t *source_kinds = mixed_kinds; /* of the case that runs */
static uint64_t flat_ops; /* operators made for words, of all cases of a shape */
static uint64_t rested;   /* dataflows that were seen to rest */

/* Which operators a case uses, besides the sources. */
struct shape {
    const char *name;
    uint32_t depth;          /* operators */
    const enum plan_op *ops; /* to choose from */
    uint32_t ops_len;
    int join_kind;           /* 0: any */
    bool multi;              /* at the end a join of several inputs, by lookups */
    bool words;              /* sources of words, cut to a few columns; aggregates count */
    bool recursive;          /* the operators are a recursion's */
};

struct source_state {
    struct model_source model;
    uint32_t parts;
    uint64_t upper[PARTS_MAX];
    struct engine_clock *clock[PARTS_MAX]; /* of a clocked run, from the first update on */
};

struct run {
    struct rng rng;
    uint64_t plan_seed;
    const struct shape *shape;
    bool wild; /* negative accumulations too */
    struct replica *replica;
    uint32_t sources_len;
    struct source_state sources[SOURCES_MAX];
    struct plan *plan; /* a copy to look at */
    uint64_t as_of;
    bool lookups; /* the next plan made joins by lookups, not pair by pair */
    bool indexed; /* another dataflow has an index on each source, by index_key */
    bool index_dropped;
    bool clocked; /* sources follow clocks, nobody subscribes: dataflows rest, peeks wake them */
    uint64_t next_peek;
    uint32_t index_key[SOURCES_MAX];
};

/* ---- random plans ---------------------------------------------------------------------------- */

static uint32_t pick_cols(struct rng *rng, uint32_t of, uint32_t max, uint32_t *out)
{
    uint32_t n = (uint32_t)rng_below(rng, max + 1);
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (uint32_t)rng_below(rng, of);
    }
    return of == 0 ? 0 : n;
}

static uint32_t add_join(struct run *run, struct rng *rng, struct plan *p, uint32_t left,
                         uint32_t right)
{
    const struct schema *l = &p->nodes[left].schema;
    const struct schema *r = &p->nodes[right].schema;
    uint32_t keys[2][2];
    uint32_t n = 0;
    for (int attempt = 0; attempt < 12 && n < 2; attempt++) {
        uint32_t a = (uint32_t)rng_below(rng, l->cols + 1);
        uint32_t b = (uint32_t)rng_below(rng, r->cols + 1);
        if (a < l->cols && b < r->cols && l->types[a].kind == r->types[b].kind) {
            keys[0][n] = a;
            keys[1][n] = b;
            n++;
        }
    }
    enum plan_join_kind kind = run->shape->join_kind != 0
                                   ? (enum plan_join_kind)run->shape->join_kind
                                   : (enum plan_join_kind)(1 + rng_below(rng, 4));
    return plan_join(p, kind, left, right, keys[0], keys[1], n, rng_below(rng, 2) == 0);
}

/* A second argument and an order for those that have them. */
static bool complete_agg(struct rng *rng, struct plan *p, const struct schema *in,
                         struct plan_agg *agg)
{
    bool found = !agg_takes_two((enum agg_func)agg->func);
    for (uint32_t c = 0; c < in->cols && !found; c++) {
        found = in->types[c].kind == in->types[agg->arg].kind;
        agg->arg2 = c;
    }
    if (agg_is_ordered((enum agg_func)agg->func) && rng_below(rng, 3) > 0) {
        agg->order_len = 1 + (uint32_t)rng_below(rng, 2);
        agg->order = ARENA_ARRAY(&p->arena, struct plan_order, agg->order_len);
        for (uint32_t i = 0; i < agg->order_len; i++) {
            agg->order[i] = (struct plan_order){.col = (uint32_t)rng_below(rng, in->cols),
                                                .desc = rng_below(rng, 2) == 0,
                                                .nulls_first = rng_below(rng, 2) == 0};
        }
    }
    return found;
}

/* An aggregate that groups of words keep (flat_state.h), of whatever column. Half count. */
static void make_flat(struct rng *rng, const struct schema *in, struct plan_agg *agg)
{
    static const uint8_t funcs[] = {AGG_COUNT_ALL, AGG_COUNT, AGG_COUNT, AGG_COUNT, AGG_SUM,
                                    AGG_AVG,       AGG_MIN,   AGG_MAX};
    agg->func = funcs[rng_below(rng, ARRAY_LEN(funcs))];
    agg->distinct &= agg->func == AGG_COUNT;
    for (int i = 0; i < 4 && (in->types[agg->arg].kind == TYPE_NUMERIC ||
                              in->types[agg->arg].kind == TYPE_FLOAT8); i++) {
        agg->arg = (uint32_t)rng_below(rng, in->cols);
    }
}

static uint32_t add_reduce(struct rng *rng, struct plan *p, uint32_t input, bool words)
{
    const struct schema *in = &p->nodes[input].schema;
    uint32_t keys[3];
    uint32_t keys_len = pick_cols(rng, in->cols, words ? 3 : 2, keys);
    struct plan_agg aggs[5];
    uint32_t n = 0;
    bool flat = in->cols > 0 && (words || rng_below(rng, 2) == 0);
    for (int attempt = 0; attempt < 16 && n < 5; attempt++) {
        struct plan_agg agg = {.func = (uint8_t)(1 + rng_below(rng, AGG_MAX_FUNC)),
                               .distinct = rng_below(rng, 3) == 0,
                               .has_filter = rng_below(rng, 4) == 0};
        struct type type;
        agg.arg = in->cols > 0 ? (uint32_t)rng_below(rng, in->cols) : 0;
        agg.filter = in->cols > 0 ? (uint32_t)rng_below(rng, in->cols) : 0;
        if (flat) {
            make_flat(rng, in, &agg);
        }
        if (agg.func == AGG_COUNT_ALL) {
            agg.distinct = false;
        } else if (in->cols == 0 || !agg_result((enum agg_func)agg.func,
                                                (enum type_kind)in->types[agg.arg].kind, &type) ||
                   !complete_agg(rng, p, in, &agg)) {
            continue;
        }
        agg.has_filter &= in->cols > 0 && in->types[agg.filter].kind == TYPE_BOOL;
        aggs[n++] = agg;
    }
    return plan_reduce(p, input, keys, keys_len, aggs, n);
}

static uint32_t add_topk(struct rng *rng, struct plan *p, uint32_t input)
{
    const struct schema *in = &p->nodes[input].schema;
    uint32_t keys[1];
    uint32_t cols[2];
    uint32_t keys_len = pick_cols(rng, in->cols, 1, keys);
    struct plan_order order[2];
    uint32_t n = pick_cols(rng, in->cols, 2, cols);
    for (uint32_t i = 0; i < n; i++) {
        order[i] = (struct plan_order){.col = cols[i],
                                       .desc = rng_below(rng, 2) == 0,
                                       .nulls_first = rng_below(rng, 2) == 0};
    }
    int64_t limit = (int64_t)rng_below(rng, 6) - 1;
    limit = rng_below(rng, 6) == 0 ? 33 + (int64_t)rng_below(rng, 30) : limit; /* a large window */
    bool ties = limit >= 0 && rng_below(rng, 3) == 0;
    int64_t offset = ties ? 0 : (int64_t)rng_below(rng, 4);
    uint32_t node = plan_topk(p, input, keys, keys_len, order, n, offset, limit);
    p->nodes[node].topk.ties = ties;
    return node;
}

/* ---- random windows -------------------------------------------------------------------------- */

/* What bounds may refer to: columns of the input that are the ordered one plus something. */
struct window_choice {
    struct rng *rng;
    const struct schema *in;
    uint32_t order_len;
    bool values;           /* the last three columns are the order's one less, itself, plus one */
    uint32_t first_value;
};

static struct plan_bound random_bound(const struct window_choice *c, uint8_t mode, bool end)
{
    struct rng *rng = c->rng;
    struct plan_bound bound = {.kind = (uint8_t)(1 + rng_below(rng, 3))};
    if (mode == PLAN_FRAME_RANGE && bound.kind == PLAN_BOUND_OFFSET) {
        bound.kind = c->values ? PLAN_BOUND_VALUE : PLAN_BOUND_CURRENT;
        bound.col = c->first_value + (uint32_t)rng_below(rng, 2) + (end ? 1 : 0);
    }
    bound.offset = (int64_t)rng_below(rng, 6) - 3;
    if (rng_below(rng, 30) == 0) {
        bound.offset = rng_below(rng, 2) == 0 ? INT64_MIN : INT64_MAX;
    }
    return bound;
}

static void random_frame(const struct window_choice *c, struct plan_frame *frame)
{
    frame->mode = (uint8_t)(1 + rng_below(c->rng, 3));
    frame->exclude = (uint8_t)(rng_below(c->rng, 3) > 0 ? 1 : 1 + rng_below(c->rng, 4));
    frame->start = random_bound(c, frame->mode, false);
    frame->end = random_bound(c, frame->mode, true);
}

static bool random_window_agg(const struct window_choice *c, struct plan_window_call *call)
{
    struct plan_agg agg = {.func = (uint8_t)(1 + rng_below(c->rng, AGG_MAX_FUNC))};
    agg.arg = (uint32_t)rng_below(c->rng, c->in->cols);
    agg.filter = (uint32_t)rng_below(c->rng, c->in->cols);
    agg.has_filter = rng_below(c->rng, 3) == 0 && c->in->types[agg.filter].kind == TYPE_BOOL;
    uint8_t kind = agg.func == AGG_COUNT_ALL ? TYPE_INT8 : c->in->types[agg.arg].kind;
    bool there = agg_result((enum agg_func)agg.func, (enum type_kind)kind, &agg.type);
    call->agg = agg;
    call->type = agg.type;
    return there && !agg_is_ordered((enum agg_func)agg.func);
}

/* False when the dice made none. */
static bool random_call(const struct window_choice *c, struct plan_window_call *call)
{
    struct rng *rng = c->rng;
    *call = (struct plan_window_call){.func = (uint8_t)(1 + rng_below(rng, PLAN_WINDOW_AGG))};
    call->func = rng_below(rng, 3) == 0 ? PLAN_WINDOW_AGG : call->func;
    call->n = 1 + (int64_t)rng_below(rng, 3);
    call->arg = call->fallback = (uint32_t)rng_below(rng, c->in->cols);
    call->type = type_of(TYPE_INT8);
    if (call->func == PLAN_WINDOW_PERCENT_RANK || call->func == PLAN_WINDOW_CUME_DIST) {
        call->type = type_of(TYPE_FLOAT8);
    } else if (call->func == PLAN_WINDOW_NTILE) {
        call->type = type_of(TYPE_INT4);
    } else if (call->func == PLAN_WINDOW_LAG) {
        call->n -= rng_below(rng, 2) == 0 ? 4 : 1;
        call->has_fallback = rng_below(rng, 2) == 0;
        call->n_col = (uint32_t)rng_below(rng, c->in->cols);
        call->n_of_row = c->in->types[call->n_col].kind == TYPE_INT8 && rng_below(rng, 2) == 0;
        call->n = !call->n_of_row ? call->n : rng_below(rng, 2) == 0 ? 1 : -1;
    }
    if (plan_window_has_arg(call->func)) {
        call->type = c->in->types[call->arg];
    }
    if (plan_window_has_frame(call->func)) {
        random_frame(c, &call->frame);
    }
    return call->func != PLAN_WINDOW_AGG || random_window_agg(c, call);
}

static uint32_t add_window(struct rng *rng, struct plan *p, uint32_t input)
{
    uint32_t keys[1], cols[2];
    uint32_t of = p->nodes[input].schema.cols;
    uint32_t keys_len = pick_cols(rng, of, 1, keys);
    uint32_t order_len = pick_cols(rng, of, 2, cols);
    struct window_choice choice = {.rng = rng, .order_len = order_len};
    struct plan_order order[2] = {0};
    for (uint32_t i = 0; i < order_len; i++) {
        order[i] = (struct plan_order){.col = cols[i],
                                       .desc = rng_below(rng, 2) == 0,
                                       .nulls_first = rng_below(rng, 2) == 0};
    }
    if (order_len == 1 && of < 12 && p->nodes[input].schema.types[cols[0]].kind == TYPE_INT8) {
        int64_t one = order[0].desc ? -1 : 1;
        choice.values = true;
        choice.first_value = of;
        for (int64_t i = -1; i <= 1; i++) {
            input = plan_plus(p, input, cols[0], i * one);
        }
    }
    struct plan_window_call calls[4];
    uint32_t n = 0, most = 1 + (uint32_t)rng_below(rng, 4);
    struct schema in = p->nodes[input].schema;
    choice.in = &in;
    for (int attempt = 0; attempt < 12 && n < most && in.cols > 0; attempt++) {
        n += random_call(&choice, &calls[n]) ? 1 : 0;
    }
    return plan_window(p, input, keys, keys_len, order, order_len, calls, n);
}

static int find_col(const struct plan *p, uint32_t node, uint8_t kind)
{
    const struct schema *schema = &p->nodes[node].schema;
    for (uint32_t c = 0; c < schema->cols; c++) {
        if (schema->types[c].kind == kind) {
            return (int)c;
        }
    }
    return -1;
}

static uint32_t add_mfp(struct rng *rng, struct plan *p, uint32_t input)
{
    uint32_t cols[8];
    uint32_t of = p->nodes[input].schema.cols;
    int divisor = find_col(p, input, TYPE_INT8);
    if (divisor >= 0 && of < 12 && rng_below(rng, 2) == 0) {
        return plan_divide(p, input, (uint32_t)divisor);
    }
    uint32_t n = pick_cols(rng, of, 7, cols);
    return of == 0 ? plan_unary(p, PLAN_NEGATE, input)
                   : plan_filter(p, input, (uint32_t)rng_below(rng, of), cols, n);
}

/* Functions whose arguments can be found among the columns; none: the input itself. */
static uint32_t add_flat_map(struct rng *rng, struct plan *p, uint32_t input)
{
    struct schema in = p->nodes[input].schema;
    struct plan_table_call calls[3];
    uint32_t args[3][TABLE_FUNC_ARGS_MAX];
    uint32_t n = 0, most = 1 + (uint32_t)rng_below(rng, 3);
    for (int attempt = 0; attempt < 24 && n < most && in.cols > 0; attempt++) {
        const struct table_func *func = table_func_by_id(1 + (uint32_t)rng_below(rng, 20));
        ASSERT(func != NULL);
        bool found = true;
        for (uint32_t a = 0; a < func->args_len && found; a++) {
            args[n][a] = (uint32_t)rng_below(rng, in.cols);
            for (uint32_t c = 0; c < in.cols && in.types[args[n][a]].kind != func->args[a]; c++) {
                args[n][a] = (args[n][a] + 1) % in.cols;
            }
            found = in.types[args[n][a]].kind == func->args[a];
        }
        calls[n] =
            (struct plan_table_call){.func = func->id, .args = args[n], .args_len = func->args_len};
        n += found ? 1 : 0;
    }
    return n == 0 ? input
                  : plan_flat_map(p, input, calls, n, rng_below(rng, 2) == 0,
                                  rng_below(rng, 3) == 0, TYPE_TEXT);
}

/* Bounds a few times beyond the input's own, so that windows are open, over and still to come. */
static void add_temporal(struct rng *rng, struct plan *p, uint32_t input)
{
    struct plan_temporal_bound bounds[3];
    uint32_t n = 1 + (uint32_t)rng_below(rng, 3);
    uint32_t cols = p->nodes[input].schema.cols;
    int value = find_col(p, input, TYPE_INT8);
    if (value < 0 || cols > 12) {
        return;
    }
    uint32_t node = input;
    for (uint32_t i = 0; i < n; i++) {
        bounds[i].col = p->nodes[node].schema.cols;
        bounds[i].cmp = (uint8_t)(1 + rng_below(rng, PLAN_TEMPORAL_CMP_MAX));
        node = plan_plus(p, node, (uint32_t)value, (int64_t)rng_below(rng, 2 * TIMES) - 4);
    }
    plan_temporal(p, node, bounds, n, rng_below(rng, 4) == 0 ? cols + n : cols);
}

static uint32_t add_constant(struct rng *rng, struct plan *p)
{
    struct plan_node node = {.op = PLAN_CONSTANT};
    node.schema = plan_schema(p, source_kinds, COLS);
    node.constant.rows_len = (uint32_t)rng_below(rng, 4);
    node.constant.rows =
        ARENA_ARRAY(&p->arena, struct datum, node.constant.rows_len * COLS + 1);
    node.constant.diffs = ARENA_ARRAY(&p->arena, int64_t, node.constant.rows_len + 1);
    for (uint32_t r = 0; r < node.constant.rows_len; r++) {
        node.constant.diffs[r] = 1 + (int64_t)rng_below(rng, 2);
        for (uint32_t c = 0; c < COLS; c++) {
            node.constant.rows[r * COLS + c].null = true;
        }
        node.constant.rows[r * COLS] = (struct datum){.i = (int64_t)rng_below(rng, 4)};
    }
    return plan_add(p, &node);
}

static bool same_kinds(const struct plan *p, uint32_t a, uint32_t b)
{
    const struct schema *x = &p->nodes[a].schema;
    const struct schema *y = &p->nodes[b].schema;
    bool same = x->cols == y->cols;
    for (uint32_t c = 0; same && c < x->cols; c++) {
        same = x->types[c].kind == y->types[c].kind;
    }
    return same;
}

static void add_op(struct run *run, struct rng *rng, struct plan *p, uint32_t *joins)
{
    uint32_t input = (uint32_t)rng_below(rng, p->nodes_len);
    input = rng_below(rng, 2) == 0 ? p->nodes_len - 1 : input;
    uint32_t other = (uint32_t)rng_below(rng, p->nodes_len);
    enum plan_op op = run->shape->ops[rng_below(rng, run->shape->ops_len)];
    switch (op) {
    case PLAN_JOIN:
        if (*joins < 2 && p->nodes[input].schema.cols + p->nodes[other].schema.cols <= 16) {
            add_join(run, rng, p, input, other);
            (*joins)++;
        }
        break;
    case PLAN_REDUCE:
        add_reduce(rng, p, input, run->shape->words);
        break;
    case PLAN_TOPK:
        add_topk(rng, p, input);
        break;
    case PLAN_WINDOW:
        if (p->nodes[input].schema.cols <= 12) {
            add_window(rng, p, input);
        }
        break;
    case PLAN_FLAT_MAP:
        if (p->nodes[input].schema.cols <= 9) {
            add_flat_map(rng, p, input);
        }
        break;
    case PLAN_UNION:
        plan_union(p, input, same_kinds(p, input, other) ? other : input);
        p->nodes[p->nodes_len - 1].sum.errors_once = rng_below(rng, 3) == 0;
        break;
    case PLAN_MFP:
        add_mfp(rng, p, input);
        break;
    case PLAN_TEMPORAL:
        add_temporal(rng, p, input);
        break;
    case PLAN_CONSTANT:
        add_constant(rng, p);
        break;
    default:
        plan_unary(p, op, input);
        break;
    }
}

/* ---- joins of several inputs ----------------------------------------------------------------- */

/* Each input but the first is connected with one before it. */
struct multi {
    uint32_t n;
    uint32_t inputs[MULTI_MAX];        /* nodes */
    uint32_t peer[MULTI_MAX];          /* which input it is connected with, */
    uint32_t keys[MULTI_MAX][2];       /* the columns of that, and of itself */
    bool null_equal[MULTI_MAX];
    uint32_t order[MULTI_MAX];         /* a permutation: who reads whom before its time */
    uint32_t base[MULTI_MAX];          /* first column in the output */
};

static bool connect(struct rng *rng, const struct plan *p, struct multi *m, uint32_t input)
{
    const struct schema *own = &p->nodes[input].schema;
    for (int attempt = 0; attempt < 12 && own->cols > 0; attempt++) {
        uint32_t peer = (uint32_t)rng_below(rng, m->n);
        const struct schema *other = &p->nodes[m->inputs[peer]].schema;
        uint32_t a = (uint32_t)rng_below(rng, other->cols + 1);
        uint32_t b = (uint32_t)rng_below(rng, own->cols);
        if (a < other->cols && other->types[a].kind == own->types[b].kind) {
            m->peer[m->n] = peer;
            m->keys[m->n][0] = a;
            m->keys[m->n][1] = b;
            m->null_equal[m->n] = rng_below(rng, 2) == 0;
            m->inputs[m->n++] = input;
            return true;
        }
    }
    return false;
}

/* False when too few inputs have columns in common. */
static bool random_multi(struct rng *rng, const struct plan *p, struct multi *m)
{
    *m = (struct multi){.n = 1, .inputs = {(uint32_t)rng_below(rng, p->nodes_len)}};
    uint32_t want = 2 + (uint32_t)rng_below(rng, MULTI_MAX - 1);
    uint32_t cols = p->nodes[m->inputs[0]].schema.cols;
    for (int attempt = 0; attempt < 8 && m->n < want; attempt++) {
        uint32_t input = (uint32_t)rng_below(rng, p->nodes_len);
        m->base[m->n] = cols;
        if (cols + p->nodes[input].schema.cols <= 26 && connect(rng, p, m, input)) {
            cols += p->nodes[input].schema.cols;
        }
    }
    for (uint32_t i = 0; i < m->n; i++) { /* Fisher and Yates, from the inside */
        uint32_t j = (uint32_t)rng_below(rng, i + 1);
        m->order[i] = m->order[j];
        m->order[j] = i;
    }
    return m->n >= 2;
}

static void join_pairs(struct plan *p, const struct multi *m)
{
    uint32_t node = m->inputs[0];
    for (uint32_t i = 1; i < m->n; i++) {
        uint32_t left = m->base[m->peer[i]] + m->keys[i][0];
        node = plan_join(p, PLAN_JOIN_INNER, node, m->inputs[i], &left, &m->keys[i][1], 1,
                         m->null_equal[i]);
    }
}

/* The rows of an input by key: the index on it when there is such a one, else arranged here. */
static uint32_t arranged_by(struct run *run, struct plan *p, uint32_t input, uint32_t key)
{
    if (!run->indexed || input >= run->sources_len || run->index_key[input] != key) {
        return plan_arrange(p, input, &key, 1, true);
    }
    uint32_t node = plan_index(p, SOURCE_INDEX_ID + input, source_kinds, COLS);
    plan_index_keys(p, node, &key, 1);
    return node;
}

/* Looks up the input at the other end of an edge of which one end is there; true when it did. */
static bool extend_path(struct run *run, struct plan *p, const struct multi *m, uint32_t path,
                        uint32_t edge, uint32_t *at, uint32_t *node)
{
    uint32_t ends[2] = {m->peer[edge], edge};
    for (int from = 0; from < 2; from++) {
        uint32_t here = ends[from], next = ends[1 - from];
        if (at[here] == UINT32_MAX || at[next] != UINT32_MAX) {
            continue;
        }
        uint32_t key = at[here] + m->keys[edge][from];
        uint32_t width = p->nodes[*node].schema.cols;
        uint32_t of = arranged_by(run, p, m->inputs[next], m->keys[edge][1 - from]);
        *node = plan_lookup(p, *node, of, &key, 1, m->null_equal[edge]);
        p->nodes[*node].lookup.before = m->order[next] > m->order[path];
        p->nodes[*node].lookup.later = m->order[path] != m->n - 1;
        at[next] = width;
        return true;
    }
    return false;
}

/* From the changes of one input to rows of all, with the columns in the order of the inputs. */
static uint32_t make_path(struct run *run, struct plan *p, const struct multi *m, uint32_t path)
{
    uint32_t at[MULTI_MAX], project[32], cols = 0;
    uint32_t input = m->inputs[path];
    bool index = run->indexed && input < run->sources_len && m->order[path] % 2 == 0;
    uint32_t node = index ? plan_index(p, SOURCE_INDEX_ID + input, source_kinds, COLS) : input;
    memset(at, 0xFF, sizeof(at));
    at[path] = 0;
    for (uint32_t done = 1; done < m->n;) {
        for (uint32_t edge = 1; edge < m->n; edge++) {
            done += extend_path(run, p, m, path, edge, at, &node) ? 1 : 0;
        }
    }
    for (uint32_t i = 0; i < m->n; i++) {
        for (uint32_t c = 0; c < p->nodes[m->inputs[i]].schema.cols; c++) {
            project[cols++] = at[i] + c;
        }
    }
    return plan_project(p, node, project, cols);
}

static void add_multi(struct run *run, struct rng *rng, struct plan *p)
{
    struct multi m;
    if (!random_multi(rng, p, &m)) {
        return;
    }
    if (!run->lookups) {
        join_pairs(p, &m);
        return;
    }
    uint32_t all = make_path(run, p, &m, 0);
    for (uint32_t i = 1; i < m.n; i++) {
        uint32_t path = make_path(run, p, &m, i);
        all = plan_union(p, all, path);
    }
}

/* The indexes that joins of the other dataflow may read. */
static struct plan *make_indexes(void *arg)
{
    struct run *run = arg;
    struct plan *p = plan_new();
    p->id = INDEXED_ID;
    p->name = arena_strdup(&p->arena, "indexes");
    for (uint32_t s = 0; s < run->sources_len; s++) {
        uint32_t source = plan_source(p, 100 + s, source_kinds, COLS);
        plan_export_index(p, SOURCE_INDEX_ID + s, source, &run->index_key[s], 1);
    }
    return p;
}

/* ---- random recursions ----------------------------------------------------------------------- */

/* Columns of a node with the kinds of a schema, chosen among those that have them. */
static bool choose_cols(struct rng *rng, const struct schema *from, const struct schema *want,
                        uint32_t *cols)
{
    bool found = true;
    for (uint32_t c = 0; c < want->cols && found; c++) {
        uint32_t start = from->cols > 0 ? (uint32_t)rng_below(rng, from->cols) : 0;
        found = false;
        for (uint32_t i = 0; i < from->cols && !found; i++) {
            cols[c] = (start + i) % from->cols;
            found = from->types[cols[c]].kind == want->types[c].kind;
        }
    }
    return found && from->cols > 0;
}

/* Of the latest node with such columns, from some node on back. */
static uint32_t add_body(struct rng *rng, struct plan *p, uint32_t variable)
{
    const struct schema want = p->nodes[variable].schema;
    uint32_t cols[COLS];
    uint32_t node = p->nodes_len - 1 - (uint32_t)rng_below(rng, 2);
    while (!choose_cols(rng, &p->nodes[node].schema, &want, cols)) {
        node--; /* the variable itself has them */
    }
    uint32_t of = p->nodes[node].schema.cols;
    uint32_t body = plan_filter(p, node, (uint32_t)rng_below(rng, of), cols, want.cols);
    if (choose_cols(rng, &p->nodes[0].schema, &want, cols) && rng_below(rng, 4) > 0) {
        uint32_t seed = plan_filter(p, 0, (uint32_t)rng_below(rng, COLS), cols, want.cols);
        body = plan_union(p, body, seed);
    }
    static const enum plan_op last[] = {PLAN_DISTINCT, PLAN_DISTINCT, PLAN_DISTINCT,
                                        PLAN_THRESHOLD, PLAN_NEGATE};
    return plan_unary(p, last[rng_below(rng, 5)], body);
}

/* Variables, operators upon them, bodies. Most of these never end by themselves. */
static void add_recursion(struct run *run, struct rng *rng, struct plan *p, uint32_t *joins)
{
    uint32_t variables[2], bodies[2];
    uint32_t n = 1 + (uint32_t)rng_below(rng, 2);
    uint32_t base = (uint32_t)rng_below(rng, p->nodes_len);
    uint8_t *base_kinds = plan_kinds(p, base);
    uint32_t cols = p->nodes[base].schema.cols;
    uint32_t most = cols < 3 ? cols : 3;
    bool sets = true;
    for (uint32_t k = 0; k < n; k++) {
        uint32_t of = most == 0 ? 0 : 1 + (uint32_t)rng_below(rng, most);
        variables[k] = plan_variable(p, base_kinds + rng_below(rng, cols - of + 1), of);
    }
    free(base_kinds);
    for (uint32_t i = 0; i < run->shape->depth; i++) {
        add_op(run, rng, p, joins);
    }
    for (uint32_t k = 0; k < n; k++) {
        bodies[k] = p->nodes[variables[k]].schema.cols > 0 ? add_body(rng, p, variables[k])
                                                           : variables[k];
        sets &= p->nodes[bodies[k]].op == PLAN_DISTINCT;
    }
    /* Multiplicities multiply with each iteration unless they are cut. */
    uint64_t limit = 1 + rng_below(rng, sets ? 5 : 2);
    uint32_t fixpoint = plan_fixpoint(p, variables, bodies, n, limit, rng_below(rng, 3) == 0);
    for (uint32_t k = n; k-- > 0;) {
        plan_leave(p, fixpoint, k);
    }
}

static struct plan *make_plan(void *arg)
{
    struct run *run = arg;
    struct rng rng = {run->plan_seed};
    struct plan *p = plan_new();
    uint32_t joins = 0;
    p->id = DATAFLOW_ID;
    p->name = arena_strdup(&p->arena, "test");
    p->as_of = run->as_of;
    for (uint32_t s = 0; s < run->sources_len; s++) {
        plan_source(p, 100 + s, source_kinds, COLS);
    }
    for (uint32_t s = 0; s < run->sources_len && run->shape->words; s++) {
        uint32_t cols[4];
        uint32_t n = pick_cols(&rng, COLS, 4, cols);
        plan_filter(p, s, (uint32_t)rng_below(&rng, COLS), cols, n);
    }
    for (uint32_t i = 0; i < run->shape->depth && !run->shape->recursive; i++) {
        add_op(run, &rng, p, &joins);
    }
    if (run->shape->multi) {
        add_multi(run, &rng, p);
    }
    if (run->shape->recursive) {
        add_recursion(run, &rng, p, &joins);
    }
    uint32_t last = p->nodes_len - 1;
    uint32_t key[1] = {0};
    plan_export_subscribe(p, SUBSCRIBE_ID, last, true, FRONTIER_EMPTY);
    plan_export_index(p, INDEX_ID, last, key, p->nodes[last].schema.cols > 0 ? 1 : 0);
    return p;
}

/* ---- random input ---------------------------------------------------------------------------- */

static void random_row(struct rng *rng, struct batch_builder *out)
{
    static const char *const texts[] = {"", "a", "b", "ab"};
    /* 1, 1.0, 1.00, 2.5, -2.5, 0.00 */
    static const struct numeric numerics[] = {
        {.lo = 1}, {.lo = 10, .scale = 1}, {.lo = 100, .scale = 2}, {.lo = 25, .scale = 1},
        {.lo = (uint64_t)-25, .hi = -1, .scale = 1}, {.scale = 2}};
    static const double floats[] = {0.0, -0.0, 1.25, -3.5};
    struct datum d[COLS] = {
        {.i = (int64_t)rng_below(rng, 4)},
        {.i = (int64_t)rng_below(rng, 3) - 1},
        {.s = texts[rng_below(rng, 4)]},
        {.n = numerics[rng_below(rng, 6)]},
        {.f = floats[rng_below(rng, 4)]},
        {.b = rng_below(rng, 2) == 0},
    };
    d[2].len = (uint32_t)strlen(d[2].s);
    if (source_kinds == word_kinds) {
        d[2] = (struct datum){.i = (int64_t)rng_below(rng, 3) - 1};
        d[3] = (struct datum){.i = (int64_t)rng_below(rng, 2) * -300};
        d[4] = (struct datum){.b = rng_below(rng, 2) == 0};
    }
    for (uint32_t c = 0; c < COLS; c++) {
        d[c].null = rng_below(rng, 6) == 0;
        batch_builder_datum(out, c, &d[c]);
    }
}

static void random_error(struct rng *rng, struct batch_builder *out)
{
    const char *texts[] = {"22012", rng_below(rng, 2) == 0 ? "bad row" : "worse row", "source"};
    for (uint32_t c = 0; c < 3; c++) {
        struct datum d = {.s = texts[c], .len = (uint32_t)strlen(texts[c])};
        batch_builder_datum(out, c, &d);
    }
}

/* The accumulated content, consolidated. */
static struct batch_builder *accumulated(struct batch_builder *all, const uint8_t *kinds,
                                         uint32_t cols)
{
    struct view view = view_of(all, cols);
    const struct batch *one = &view.batch;
    struct batch_builder *out = batch_builder_new(kinds, cols);
    batch_consolidate(&one, 1, TIME_MAX - 1, out);
    view_free(&view);
    return out;
}

/* Retracts one row that is there; false when there is none. */
static bool random_retraction(struct run *run, struct source_state *s, struct batch_builder *out,
                              uint64_t time)
{
    struct batch_builder *now = accumulated(s->model.ok, source_kinds, COLS);
    struct view view = view_of(now, COLS);
    uint32_t rows = view.batch.rows;
    if (rows > 0) {
        uint32_t row = (uint32_t)rng_below(&run->rng, rows);
        for (uint32_t c = 0; c < COLS; c++) {
            struct datum d;
            batch_datum(&view.batch.col[c], row, &d);
            batch_builder_datum(out, c, &d);
            batch_builder_datum(s->model.ok, c, &d);
        }
        int64_t diff = rng_below(&run->rng, 2) == 0 ? -1 : -batch_diff(&view.batch, row);
        batch_builder_end_row(out, time, diff);
        batch_builder_end_row(s->model.ok, time, diff);
    }
    view_free(&view);
    batch_builder_free(now);
    return rows > 0;
}

/* Times do not go back, so a retraction is never before its insertion. */
static void random_changes(struct run *run, struct source_state *s, struct batch_builder *ok,
                           uint64_t time)
{
    struct rng *rng = &run->rng;
    /* Now and then more than an operator takes at once; a retraction looks at all rows. */
    enum plan_op op = run->shape->ops[0];
    bool blocks = op == PLAN_REDUCE || op == PLAN_DISTINCT || op == PLAN_TOPK;
    bool many = run->shape->depth == 1 && blocks && rng_below(rng, 12) == 0;
    uint32_t n = (uint32_t)rng_below(rng, many ? 200 : 5);
    for (uint32_t i = 0; i < n; i++) {
        if (!run->wild && rng_below(rng, many ? 10 : 2) == 0) {
            random_retraction(run, s, ok, time);
            continue;
        }
        struct rng copy = *rng;
        random_row(rng, ok);
        random_row(&copy, s->model.ok);
        int64_t diff = 1 + (int64_t)rng_below(rng, 2);
        diff = run->wild && rng_below(rng, 5) < 2 ? -diff : diff;
        batch_builder_end_row(ok, time, diff);
        batch_builder_end_row(s->model.ok, time, diff);
    }
}

/* Some of the runs: rows as a snapshot comes, in pieces that complete nothing; steps in between. */
static void feed_pieces(struct run *run, struct worker *worker, uint64_t id, uint32_t source,
                        uint32_t part, const struct batch *rows)
{
    uint64_t lower = run->sources[source].upper[part];
    uint32_t sel[8];
    for (uint32_t from = 0; from < rows->rows;) {
        uint32_t n = 0;
        for (uint32_t max = 1 + (uint32_t)rng_below(&run->rng, 8); n < max; n++) {
            if (from + n == rows->rows ||
                (batch_time(rows, from + n) > run->as_of && n > 0)) { /* of one time, at first */
                break;
            }
            sel[n] = from + n;
        }
        struct batch_builder *piece = batch_builder_new(source_kinds, COLS);
        batch_builder_rows_of(piece, rows, sel, n);
        struct view view = view_of(piece, COLS);
        engine_input(worker->engine, id, source, part, lower, lower, &view.batch, NULL);
        replica_stir(run->replica, (uint32_t)rng_below(&run->rng, 8));
        view_free(&view);
        batch_builder_free(piece);
        from += n;
    }
}

/* From now on the part's followers are given everything through a clock. */
static void start_clock(struct run *run, uint32_t source, uint32_t part)
{
    struct source_state *s = &run->sources[source];
    struct engine *engine = run->replica->worker[(source + part) % run->replica->workers].engine;
    s->clock[part] = engine_clock_new(engine, s->upper[part]);
    for (uint64_t id = INDEXED_ID; id <= DATAFLOW_ID; id++) {
        engine_clock_join(s->clock[part], id, source, part);
    }
}

static struct chunk *chunk_of(struct engine *engine, const struct batch *b, const uint8_t *kinds)
{
    struct chunk *chunk = NULL;
    if (b->rows > 0) {
        err_t err = engine_rows_open(engine, b->base, b->size, kinds, b->cols, NULL, &chunk);
        CU_ASSERT_FATAL(err == ERR_OK);
    }
    return chunk;
}

static void feed_clock(struct run *run, uint32_t source, uint32_t part, uint64_t upper,
                       const struct view *views)
{
    struct engine *engine = run->replica->worker[(source + part) % run->replica->workers].engine;
    struct chunk *ok = chunk_of(engine, &views[0].batch, source_kinds);
    struct chunk *err = chunk_of(engine, &views[1].batch, batch_err_kinds);
    engine_clock_input(run->sources[source].clock[part], upper, ok, err);
    engine_rows_free(ok);
    engine_rows_free(err);
}

static void feed(struct run *run, uint32_t source, uint32_t part, uint64_t upper,
                 struct batch_builder *ok, struct batch_builder *err)
{
    struct source_state *s = &run->sources[source];
    struct worker *worker = &run->replica->worker[(source + part) % run->replica->workers];
    struct view views[2] = {view_of(ok, COLS), view_of(err, ERR_COLS)};
    bool pieces = rng_below(&run->rng, 3) == 0;
    bool clocked = s->clock[part] != NULL;
    if (clocked) {
        feed_clock(run, source, part, upper, views);
    }
    for (uint64_t id = INDEXED_ID; !clocked && id <= DATAFLOW_ID; id++) { /* that are there */
        if (pieces) {
            feed_pieces(run, worker, id, source, part, &views[0].batch);
        }
        engine_input(worker->engine, id, source, part, s->upper[part], upper,
                     !pieces && views[0].batch.rows > 0 ? &views[0].batch : NULL,
                     views[1].batch.rows > 0 ? &views[1].batch : NULL);
        replica_stir(run->replica, run->indexed ? (uint32_t)rng_below(&run->rng, 4) : 0);
    }
    s->upper[part] = upper;
    if (run->clocked && !clocked && rng_below(&run->rng, 2) == 0) {
        start_clock(run, source, part);
    }
    view_free(&views[0]);
    view_free(&views[1]);
    batch_builder_reset(ok);
    batch_builder_reset(err);
}

/*
 * All parts at times [from, to): the changes of a source at a time go to a part of their own
 * choosing, so that insertions and retractions of a row meet from different workers.
 */
static void feed_times(struct run *run, uint64_t from, uint64_t to)
{
    struct batch_builder *ok[SOURCES_MAX][PARTS_MAX];
    struct batch_builder *err[SOURCES_MAX][PARTS_MAX];
    for (uint32_t s = 0; s < run->sources_len; s++) {
        struct source_state *state = &run->sources[s];
        for (uint32_t p = 0; p < state->parts; p++) {
            ok[s][p] = batch_builder_new(source_kinds, COLS);
            err[s][p] = batch_builder_new(batch_err_kinds, ERR_COLS);
        }
        for (uint64_t t = from; t < to; t++) {
            random_changes(run, state, ok[s][rng_below(&run->rng, state->parts)], t);
            if (rng_below(&run->rng, 8) == 0) {
                int64_t diff = rng_below(&run->rng, 2) == 0 ? 1 : -1;
                struct batch_builder *to_part = err[s][rng_below(&run->rng, state->parts)];
                struct rng copy = run->rng;
                random_error(&run->rng, to_part);
                random_error(&copy, state->model.err);
                batch_builder_end_row(to_part, t, diff);
                batch_builder_end_row(state->model.err, t, diff);
            }
        }
    }
    for (uint32_t s = 0; s < run->sources_len; s++) {
        for (uint32_t p = 0; p < run->sources[s].parts; p++) {
            feed(run, s, p, to, ok[s][p], err[s][p]);
            batch_builder_free(ok[s][p]);
            batch_builder_free(err[s][p]);
            replica_stir(run->replica, (uint32_t)rng_below(&run->rng, 6));
        }
    }
}

static void append_negated(struct batch_builder *all, const uint8_t *kinds, uint32_t cols,
                           uint64_t time, struct batch_builder *out)
{
    struct batch_builder *now = accumulated(all, kinds, cols);
    struct view view = view_of(now, cols);
    struct batch_builder *both[] = {out, all};
    for (int i = 0; i < 2; i++) {
        for (uint32_t row = 0; row < view.batch.rows; row++) {
            for (uint32_t c = 0; c < cols; c++) {
                struct datum d;
                batch_datum(&view.batch.col[c], row, &d);
                batch_builder_datum(both[i], c, &d);
            }
            batch_builder_end_row(both[i], time, -batch_diff(&view.batch, row));
        }
    }
    view_free(&view);
    batch_builder_free(now);
}

static void retract_all(struct run *run, uint64_t time)
{
    struct batch_builder *ok = batch_builder_new(source_kinds, COLS);
    struct batch_builder *err = batch_builder_new(batch_err_kinds, ERR_COLS);
    for (uint32_t s = 0; s < run->sources_len; s++) {
        struct source_state *state = &run->sources[s];
        append_negated(state->model.ok, source_kinds, COLS, time, ok);
        append_negated(state->model.err, batch_err_kinds, ERR_COLS, time, err);
        for (uint32_t p = 0; p < state->parts; p++) {
            feed(run, s, p, time + 1, ok, err);
        }
    }
    batch_builder_free(ok);
    batch_builder_free(err);
}

/* ---- checks ---------------------------------------------------------------------------------- */

static void check_peek(struct run *run, uint64_t time, uint64_t id);

static void check_time(struct run *run, uint64_t time)
{
    if (run->clocked) {
        check_peek(run, time, ++run->next_peek);
        return;
    }
    uint32_t node = run->plan->exports[0].node;
    uint8_t *kinds = plan_kinds(run->plan, node);
    uint32_t cols = run->plan->nodes[node].schema.cols;
    struct model_source sources[SOURCES_MAX];
    for (uint32_t s = 0; s < run->sources_len; s++) {
        sources[s] = run->sources[s].model;
    }
    struct model_result want = model_eval(run->plan, node, sources, time);
    struct batch_builder *ok =
        replica_output(run->replica, SUBSCRIBE_ID, time, false, kinds, cols);
    struct batch_builder *err =
        replica_output(run->replica, SUBSCRIBE_ID, time, true, batch_err_kinds, ERR_COLS);
    bool same = same_rows(want.ok, ok, kinds, cols) &&
                same_rows(want.err, err, batch_err_kinds, ERR_COLS);
    if (!same) {
        struct buf text = {0};
        plan_print(run->plan, &text);
        fprintf(stderr, "\n%s: seed %llu, %u workers, time %llu, as of %llu\n%s\n",
                run->shape->name, (unsigned long long)run->plan_seed, run->replica->workers,
                (unsigned long long)time, (unsigned long long)run->as_of, buf_cstr(&text));
        print_rows("want", want.ok, kinds, cols);
        print_rows("have", ok, kinds, cols);
        print_rows("want errors", want.err, batch_err_kinds, ERR_COLS);
        print_rows("have errors", err, batch_err_kinds, ERR_COLS);
        buf_free(&text);
    }
    CU_ASSERT_FATAL(same);
    batch_builder_free(ok);
    batch_builder_free(err);
    model_free(&want);
    free(kinds);
}

/* A peek at a time gives what the model says, or the least error. */
static void check_peek(struct run *run, uint64_t time, uint64_t id)
{
    uint32_t node = run->plan->exports[0].node;
    uint8_t *kinds = plan_kinds(run->plan, node);
    uint32_t cols = run->plan->nodes[node].schema.cols;
    struct model_source sources[SOURCES_MAX];
    for (uint32_t s = 0; s < run->sources_len; s++) {
        sources[s] = run->sources[s].model;
    }
    struct engine_peek ask = {.peek_id = id, .index_id = INDEX_ID, .time = time, .limit = -1};
    struct peek_result *peek = replica_peek(run->replica, &ask, kinds, cols);
    replica_settle(run->replica);
    CU_ASSERT_FATAL(peek->answers == run->replica->workers);
    struct model_result want = model_eval(run->plan, node, sources, time);
    struct view errors = view_of(want.err, ERR_COLS);
    struct view rows = view_of(want.ok, cols);
    bool bad = false;
    for (uint32_t i = 0; i < errors.batch.rows; i++) {
        bad |= batch_diff(&errors.batch, i) > 0;
    }
    for (uint32_t i = 0; i < rows.batch.rows; i++) {
        bad |= batch_diff(&rows.batch, i) < 0;
    }
    CU_ASSERT_FATAL(bad == (peek->error != NULL));
    CU_ASSERT_FATAL(bad || same_rows(want.ok, peek->rows, kinds, cols));
    view_free(&errors);
    view_free(&rows);
    model_free(&want);
    free(kinds);
}

static void count_arranged(void *arg, const struct engine_operator_stats *stats)
{
    *(uint64_t *)arg += stats->arranged_rows;
}

static bool has_constant(const struct plan *p)
{
    for (uint32_t i = 0; i < p->nodes_len; i++) {
        if (p->nodes[i].op == PLAN_CONSTANT && p->nodes[i].constant.rows_len > 0) {
            return true;
        }
    }
    return false;
}

/* No source above the node: it is complete from the start. */
static bool has_constant_input(const struct plan *p, uint32_t node)
{
    bool constant = p->nodes[node].op != PLAN_SOURCE;
    for (uint32_t i = 0; i < p->nodes[node].inputs_len; i++) {
        constant &= has_constant_input(p, p->nodes[node].inputs[i]);
    }
    return constant;
}

/* ---- a case ---------------------------------------------------------------------------------- */

static uint32_t parts_of(void *arg, uint32_t worker, uint32_t source)
{
    struct run *run = arg;
    uint32_t n = 0;
    for (uint32_t p = 0; p < run->sources[source].parts; p++) {
        n += (source + p) % run->replica->workers == worker;
    }
    return n;
}

static void count_flat(const struct run *run)
{
    const struct dataflow *dataflow =
        engine_exchange_find(run->replica->worker[0].engine, DATAFLOW_ID);
    for (uint32_t i = 0; i < run->plan->nodes_len; i++) {
        enum plan_op op = run->plan->nodes[i].op;
        bool reduces = op == PLAN_REDUCE || op == PLAN_DISTINCT || op == PLAN_THRESHOLD;
        flat_ops += reduces && op_reduce_is_flat(&dataflow->ops[i]);
        flat_ops += op == PLAN_JOIN && !run->shape->multi && op_join_is_flat(&dataflow->ops[i]);
    }
}

static bool is_temporal(const struct plan *p)
{
    bool found = false;
    for (uint32_t i = 0; i < p->nodes_len; i++) {
        found |= p->nodes[i].op == PLAN_TEMPORAL;
    }
    return found;
}

static void check_all(struct run *run, uint64_t last)
{
    for (uint64_t t = run->as_of; t <= last; t++) {
        check_time(run, t);
    }
}

static void feed_nothing(struct run *run, uint64_t upper)
{
    struct batch_builder *none[2] = {batch_builder_new(source_kinds, COLS),
                                     batch_builder_new(batch_err_kinds, ERR_COLS)};
    for (uint32_t s = 0; s < run->sources_len; s++) {
        for (uint32_t p = 0; p < run->sources[s].parts; p++) {
            feed(run, s, p, upper, none[0], none[1]);
        }
    }
    batch_builder_free(none[0]);
    batch_builder_free(none[1]);
    replica_settle(run->replica);
}

/* Times at which nothing comes in: what temporal filters let go goes by itself. */
static uint64_t pass_quietly(struct run *run, uint64_t last)
{
    uint64_t quiet = last + 1 + rng_below(&run->rng, 2 * TIMES);
    feed_nothing(run, quiet + 1);
    for (uint64_t t = last + 1; t <= quiet; t++) {
        check_time(run, t);
    }
    return quiet;
}

/* Nodes that no export needs may be behind when the exports are complete; planners make none. */
static bool has_useless(const struct plan *p)
{
    bool used[PLAN_NODES_MAX] = {0};
    used[p->exports[0].node] = true;
    for (uint32_t n = p->nodes_len; n-- > 0;) {
        for (uint32_t i = 0; used[n] && i < p->nodes[n].inputs_len; i++) {
            used[p->nodes[n].inputs[i]] = true;
        }
    }
    bool useless = false;
    for (uint32_t n = 0; n < p->nodes_len; n++) {
        useless |= !used[n];
    }
    return useless;
}

static void finish(struct run *run, uint64_t last)
{
    struct replica *r = run->replica;
    bool temporal = is_temporal(run->plan);
    last = temporal ? pass_quietly(run, last) : last;
    retract_all(run, last + 1);
    replica_settle(r);
    check_time(run, last + 1);
    if (temporal) { /* opposites of different workers wait for their time */
        feed_nothing(run, last + 4 * TIMES);
        last += 4 * TIMES - 2;
        check_time(run, last + 1);
    }
    for (uint32_t w = 0; w < r->workers; w++) {
        engine_allow_compaction(r->worker[w].engine, INDEX_ID, last + 1);
        for (uint32_t s = 0; s < run->sources_len; s++) { /* unknown ones are ignored */
            engine_allow_compaction(r->worker[w].engine, SOURCE_INDEX_ID + s, last + 1);
        }
    }
    replica_settle(r);
    uint64_t arranged = 0;
    for (uint32_t w = 0; w < r->workers; w++) {
        engine_stats(r->worker[w].engine, count_arranged, &arranged);
    }
    bool leaves = has_constant(run->plan) || (run->clocked && has_useless(run->plan));
    if (arranged > 0 && !leaves) {
        fprintf(stderr, "%s: seed %llu, %u workers: %llu left\n", run->shape->name,
                (unsigned long long)run->plan_seed, r->workers, (unsigned long long)arranged);
    }
    CU_ASSERT_FATAL(arranged == 0 || leaves);
    feed_nothing(run, FRONTIER_EMPTY);
    if (!run->clocked) {
        CU_ASSERT_FATAL(replica_frontier(r, SUBSCRIBE_ID) == FRONTIER_EMPTY);
        CU_ASSERT_FATAL(replica_frontier(r, INDEX_ID) == FRONTIER_EMPTY);
    }
    for (uint32_t s = 0; s < run->sources_len; s++) {
        for (uint32_t p = 0; p < run->sources[s].parts; p++) {
            engine_clock_free(run->sources[s].clock[p]);
        }
    }
    replica_drop(r, DATAFLOW_ID);
    replica_settle(r);
    replica_drop(r, INDEXED_ID);
    replica_settle(r);
    for (uint32_t w = 0; w < r->workers; w++) {
        CU_ASSERT_FATAL(engine_memory(r->worker[w].engine) == 0);
    }
}

/* Half of the runs: the indexes are there before, with some history, partly compacted. */
static void start_indexes(struct run *run)
{
    run->indexed = run->shape->multi && rng_below(&run->rng, 2) == 0;
    for (uint32_t s = 0; s < run->sources_len; s++) {
        run->index_key[s] = (uint32_t)rng_below(&run->rng, 3);
    }
    if (!run->indexed) {
        return;
    }
    CU_ASSERT_FATAL(replica_create(run->replica, make_indexes, run, parts_of, run->sources_len) ==
                    ERR_OK);
    if (rng_below(&run->rng, 2) == 0) {
        feed_times(run, 0, 1 + rng_below(&run->rng, 6));
        replica_settle(run->replica);
    }
    for (uint32_t s = 0; s < run->sources_len; s++) {
        uint64_t since = rng_below(&run->rng, run->as_of + 1);
        for (uint32_t w = 0; w < run->replica->workers; w++) {
            engine_allow_compaction(run->replica->worker[w].engine, SOURCE_INDEX_ID + s, since);
        }
    }
}

/* What the indexes heard before this dataflow was there, all through one part. */
static void catch_up(struct run *run)
{
    for (uint32_t s = 0; s < run->sources_len; s++) {
        struct source_state *state = &run->sources[s];
        struct view views[2] = {view_of(state->model.ok, COLS),
                                view_of(state->model.err, ERR_COLS)};
        for (uint32_t p = 0; p < state->parts && state->upper[p] > 0; p++) {
            bool first = p == 0;
            engine_input(run->replica->worker[(s + p) % run->replica->workers].engine,
                         DATAFLOW_ID, s, p, 0, state->upper[p],
                         first && views[0].batch.rows > 0 ? &views[0].batch : NULL,
                         first && views[1].batch.rows > 0 ? &views[1].batch : NULL);
            replica_stir(run->replica, (uint32_t)rng_below(&run->rng, 6));
            if (state->clock[p] != NULL) {
                engine_clock_join(state->clock[p], DATAFLOW_ID, s, p);
            }
        }
        view_free(&views[0]);
        view_free(&views[1]);
    }
}

/* Nobody subscribes in a clocked run. */
static void unsubscribe(struct run *run)
{
    for (uint32_t w = 0; run->clocked && w < run->replica->workers; w++) {
        engine_allow_compaction(run->replica->worker[w].engine, SUBSCRIBE_ID, FRONTIER_EMPTY);
    }
}

/* When nothing is left to do every worker's dataflow rests, once all its inputs have clocks. */
static void check_rest(struct run *run)
{
    bool all = run->clocked;
    for (uint32_t s = 0; s < run->sources_len; s++) {
        for (uint32_t p = 0; p < run->sources[s].parts; p++) {
            all = all && run->sources[s].clock[p] != NULL &&
                  run->sources[s].upper[p] > run->as_of;
        }
    }
    for (uint32_t w = 0; all && w < run->replica->workers; w++) {
        const struct dataflow *dataflow =
            engine_exchange_find(run->replica->worker[w].engine, DATAFLOW_ID);
        /* On a worker without clocks nobody would tell a temporal filter that it is due. */
        bool sleeps = dataflow->rests || is_temporal(run->plan);
        if (!sleeps) {
            fprintf(stderr, "%s: seed %llu, worker %u of %u is awake\n", run->shape->name,
                    (unsigned long long)run->plan_seed, w, run->replica->workers);
        }
        CU_ASSERT_FATAL(sleeps);
        rested += dataflow->rests;
    }
}

/* The readers hold what they need, whatever the controller allows and drops. */
static void trouble_indexes(struct run *run, uint64_t time)
{
    if (!run->indexed || run->index_dropped) {
        return;
    }
    uint32_t s = (uint32_t)rng_below(&run->rng, run->sources_len);
    for (uint32_t w = 0; w < run->replica->workers; w++) {
        engine_allow_compaction(run->replica->worker[w].engine, SOURCE_INDEX_ID + s, time);
    }
    if (run->lookups && rng_below(&run->rng, 8) == 0) {
        run->index_dropped = true;
        replica_drop(run->replica, INDEXED_ID);
    }
}

static void run_case(const struct shape *shape, uint64_t seed, uint32_t workers, bool wild)
{
    struct run run = {.rng = {seed * 1000003}, .plan_seed = seed, .shape = shape, .wild = wild};
    run.replica = replica_new(workers, seed, 0);
    run.as_of = rng_below(&run.rng, 4);
    run.sources_len = 1 + (uint32_t)rng_below(&run.rng, SOURCES_MAX);
    for (uint32_t s = 0; s < run.sources_len; s++) {
        run.sources[s].parts = 1 + (uint32_t)rng_below(&run.rng, PARTS_MAX);
        run.sources[s].model.ok = batch_builder_new(source_kinds, COLS);
        run.sources[s].model.err = batch_builder_new(batch_err_kinds, ERR_COLS);
    }
    run.plan = make_plan(&run);
    run.lookups = true; /* from now on, where the shape has them */
    run.clocked = seed % 2 == 0;
    start_indexes(&run);
    uint32_t node = run.plan->exports[0].node;
    uint8_t *kinds = plan_kinds(run.plan, node);
    replica_register(run.replica, SUBSCRIBE_ID, kinds, run.plan->nodes[node].schema.cols);
    err_t err = replica_create(run.replica, make_plan, &run, parts_of, run.sources_len);
    if (err != ERR_OK) {
        fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, err_text(err));
    }
    CU_ASSERT_FATAL(err == ERR_OK);
    count_flat(&run);
    unsubscribe(&run);
    catch_up(&run);
    uint64_t t = run.sources[0].upper[0];
    while (t < TIMES) {
        uint64_t next = t + 1 + rng_below(&run.rng, 4);
        feed_times(&run, t, next);
        t = next;
        trouble_indexes(&run, next);
        if (rng_below(&run.rng, 4) == 0) {
            replica_settle(run.replica);
            check_rest(&run);
        }
        if (run.clocked && t > run.as_of && rng_below(&run.rng, 4) == 0) {
            check_time(&run, run.as_of + rng_below(&run.rng, t - run.as_of));
        }
    }
    replica_settle(run.replica);
    uint64_t frontier = replica_frontier(run.replica, SUBSCRIBE_ID);
    if (!run.clocked && frontier != t && frontier != FRONTIER_EMPTY) {
        fprintf(stderr, "%s: seed %llu, %u workers: frontier %llu of %llu\n", shape->name,
                (unsigned long long)seed, workers, (unsigned long long)frontier,
                (unsigned long long)t);
    }
    check_rest(&run);
    CU_ASSERT_FATAL(run.clocked || frontier == t ||
                    (frontier == FRONTIER_EMPTY && has_constant_input(run.plan, node)));
    check_all(&run, t - 1);
    for (int i = 0; i < 2; i++) {
        check_peek(&run, run.as_of + rng_below(&run.rng, t - run.as_of), 1000 + (uint64_t)i);
    }
    finish(&run, t - 1);
    CU_ASSERT_FATAL(run.replica->failures == 0);
    for (uint32_t s = 0; s < run.sources_len; s++) {
        batch_builder_free(run.sources[s].model.ok);
        batch_builder_free(run.sources[s].model.err);
    }
    replica_free(run.replica);
    plan_free(run.plan);
    free(kinds);
}

static void run_shape(const struct shape *shape, uint64_t cases)
{
    static const uint32_t workers[] = {1, 2, 4};
    /* At least one of each number of workers, delivered both ways. */
    cases = test_scaled(cases) > 6 ? test_scaled(cases) : 6;
    source_kinds = shape->words ? word_kinds : mixed_kinds;
    flat_ops = rested = 0;
    for (uint64_t seed = 1; seed <= cases; seed++) {
        run_case(shape, seed, workers[seed % 3], seed % 2 == 0);
    }
    CU_ASSERT(rested > 0);
    CU_ASSERT(!shape->words || shape->recursive || flat_ops >= cases / 2);
}

#define SHAPE_OF(function, label, d, cases, join, of_words, ...)                                 \
    static void function(void)                                                                     \
    {                                                                                              \
        static const enum plan_op ops[] = {__VA_ARGS__};                                           \
        static const struct shape shape = {.name = label,                                          \
                                           .depth = d,                                             \
                                           .ops = ops,                                             \
                                           .ops_len = ARRAY_LEN(ops),                              \
                                           .join_kind = join,                                      \
                                           .words = of_words};                                     \
        run_shape(&shape, cases);                                                                  \
    }
#define SHAPE(function, label, d, cases, join, ...)                                                \
    SHAPE_OF(function, label, d, cases, join, false, __VA_ARGS__)

SHAPE(test_sources, "sources", 0, 20, 0, PLAN_NEGATE)
SHAPE(test_union, "union, negate", 3, 40, 0, PLAN_UNION, PLAN_NEGATE, PLAN_CONSTANT)
SHAPE(test_mfp, "mfp", 2, 40, 0, PLAN_MFP)
SHAPE(test_join, "inner join", 1, 80, PLAN_JOIN_INNER, PLAN_JOIN)
SHAPE(test_left, "left join", 1, 80, PLAN_JOIN_LEFT, PLAN_JOIN)
SHAPE(test_semi, "semi join", 1, 80, PLAN_JOIN_SEMI, PLAN_JOIN)
SHAPE(test_anti, "anti join", 1, 80, PLAN_JOIN_ANTI, PLAN_JOIN)
SHAPE(test_reduce, "reduce", 1, 400, 0, PLAN_REDUCE)
SHAPE(test_distinct, "distinct", 1, 60, 0, PLAN_DISTINCT)
SHAPE(test_threshold, "threshold", 1, 60, 0, PLAN_THRESHOLD)
SHAPE(test_topk, "topk", 1, 200, 0, PLAN_TOPK)
SHAPE(test_window, "window", 1, 600, 0, PLAN_WINDOW)
SHAPE(test_flat_map, "flat map", 2, 300, 0, PLAN_FLAT_MAP)
SHAPE(test_temporal, "temporal filter", 1, 200, 0, PLAN_TEMPORAL)
SHAPE(test_deep, "deep", 5, 150, 0, PLAN_UNION, PLAN_NEGATE, PLAN_MFP, PLAN_JOIN, PLAN_REDUCE,
      PLAN_DISTINCT, PLAN_THRESHOLD, PLAN_TOPK, PLAN_WINDOW, PLAN_FLAT_MAP, PLAN_CONSTANT,
      PLAN_TEMPORAL)
static void test_multi(void)
{
    static const enum plan_op ops[] = {PLAN_MFP, PLAN_NEGATE, PLAN_DISTINCT};
    static const struct shape shape = {
        .name = "join by lookups", .depth = 1, .ops = ops, .ops_len = 3, .multi = true};
    run_shape(&shape, 120);
}

SHAPE_OF(test_word_reduce, "reduce of words", 1, 300, 0, true, PLAN_REDUCE)
SHAPE_OF(test_word_distinct, "distinct of words", 1, 100, 0, true, PLAN_DISTINCT, PLAN_THRESHOLD)
SHAPE_OF(test_word_join, "inner join of words", 1, 200, PLAN_JOIN_INNER, true, PLAN_JOIN)
SHAPE_OF(test_word_deep, "deep, of words", 5, 150, 0, true, PLAN_UNION, PLAN_NEGATE, PLAN_JOIN,
         PLAN_REDUCE, PLAN_DISTINCT, PLAN_THRESHOLD, PLAN_TEMPORAL)

static const enum plan_op recursive_ops[] = {PLAN_UNION,  PLAN_NEGATE,   PLAN_MFP, PLAN_JOIN,
                                             PLAN_REDUCE, PLAN_DISTINCT, PLAN_THRESHOLD,
                                             PLAN_FLAT_MAP, PLAN_TOPK};

static void test_recursion(void)
{
    static const struct shape shape = {.name = "recursion",
                                       .depth = 4,
                                       .ops = recursive_ops,
                                       .ops_len = ARRAY_LEN(recursive_ops),
                                       .join_kind = PLAN_JOIN_INNER,
                                       .recursive = true};
    run_shape(&shape, 300);
}

static void test_word_recursion(void)
{
    static const struct shape shape = {.name = "recursion of words",
                                       .depth = 4,
                                       .ops = recursive_ops,
                                       .ops_len = ARRAY_LEN(recursive_ops) - 1,
                                       .join_kind = PLAN_JOIN_INNER,
                                       .words = true,
                                       .recursive = true};
    run_shape(&shape, 300);
}

static const struct test_case cases[] = {
    {"recursion", test_recursion},
    {"word_recursion", test_word_recursion},
    {"sources", test_sources},
    {"union", test_union},
    {"mfp", test_mfp},
    {"inner_join", test_join},
    {"left_join", test_left},
    {"semi_join", test_semi},
    {"anti_join", test_anti},
    {"reduce", test_reduce},
    {"distinct", test_distinct},
    {"threshold", test_threshold},
    {"topk", test_topk},
    {"window", test_window},
    {"flat_map", test_flat_map},
    {"temporal", test_temporal},
    {"deep", test_deep},
    {"multi", test_multi},
    {"word_reduce", test_word_reduce},
    {"word_distinct", test_word_distinct},
    {"word_join", test_word_join},
    {"word_deep", test_word_deep},
};
TEST_SUITE("core/engine against the model", cases)
