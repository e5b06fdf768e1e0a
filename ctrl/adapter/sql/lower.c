/*
 * Decorrelation: from trees whose expressions hold subqueries and outer references to DAGs without.
 * Any subquery can be treated alike (Neumann and Kemper, "Unnesting Arbitrary Queries", BTW 2015):
 * lower(rel, outer) computes rel for every row of the set `outer` at once and gives outer's columns
 * followed by rel's. A subquery is lowered over the distinct values of just the columns it refers
 * to, and its result is joined back on them, NULLs matching NULLs.
 *
 *   SELECT a, (SELECT max(y) FROM s WHERE s.x < t.a) FROM t
 *
 *   domain = DISTINCT t.a                                  the values the subquery sees
 *   values = domain CROSS s, x < a, GROUP BY a: max(y)     its answer for each of them
 *   result = t LEFT JOIN values ON t.a IS NOT DISTINCT FROM values.a
 *
 * Why that is right: `outer` is a set, so rel's multiplicities for one outer row are those it has
 * alone; the join back is on all columns of the domain, so that every row of t meets the answer for
 * its own values and no other, as often as it is there itself. NULL is a value of the domain like
 * any other, hence the null-safe comparison. README.md argues it operator by operator.
 *
 * Three shapes, frequent in practice, get by without the domain: EXISTS in a predicate becomes a
 * semi join or, negated, an anti join, with the subquery's condition as its own (exists_filter); an
 * aggregate over equalities is grouped by them once (grouped_column); what is not correlated is
 * computed once (lower's memo).
 *
 * Entry point: rel_lower, called by query.c for every statement and by ddl.c for every view. One
 * planning context, one thread; all nodes are in its arena and immutable once built.
 */
#include "ctrl/adapter/sql/sql_internal.h"

/* An outer reference and the column of `outer` that has its value. `level` counts as seen from the
 * relation being lowered: 1 is the nearest scope around it. */
struct binding {
    uint32_t level, col;
    uint32_t at;
};

struct bindings {
    struct binding *items;
    size_t items_len, items_cap;
};

/* One rel_lower at work. The memo is keyed by address: the same node is the same subplan. */
struct lo {
    struct az *az;
    struct arena *arena;
    struct u64map memo; /* uncorrelated rel -> its lowering */
};

/*
 * What an expression of a relation sees while it is lowered: level 0 are the columns of that
 * relation's input, which stand behind `offset` columns of outer; other levels are bound columns.
 */
struct frame {
    uint32_t offset;
    const struct bindings *outer;
};

static err_t lower(struct lo *lo, struct rel *rel, struct rel *outer,
                   const struct bindings *bindings, struct rel **out);
static err_t lower_sx(struct lo *lo, struct sx *sx, const struct frame *frame, struct rel **cur,
                      struct sx **out);

/* UINT32_MAX when the reference is not bound: the caller knows that it must be. */
static uint32_t lookup(const struct bindings *b, uint32_t level, uint32_t col)
{
    for (size_t i = 0; i < b->items_len; i++) {
        if (b->items[i].level == level && b->items[i].col == col) {
            return b->items[i].at;
        }
    }
    return UINT32_MAX;
}

/* from, from + 1, ...: column lists that change nothing are the most frequent ones. */
static uint32_t *range(struct lo *lo, uint32_t from, uint32_t len)
{
    uint32_t *cols = ARENA_ARRAY(lo->arena, uint32_t, len);
    for (uint32_t i = 0; i < len; i++) {
        cols[i] = from + i;
    }
    return cols;
}

/*
 * left columns [0, keep) and the last `tail` ones. The first `keep` columns and the last `tail`
 * ones: what a join appended in between goes.
 */
static struct rel *cut(struct lo *lo, struct rel *rel, uint32_t keep, uint32_t tail)
{
    ASSERT(keep + tail <= rel->cols_len);
    uint32_t *cols = ARENA_ARRAY(lo->arena, uint32_t, keep + tail);
    for (uint32_t i = 0; i < keep; i++) {
        cols[i] = i;
    }
    for (uint32_t i = 0; i < tail; i++) {
        cols[keep + i] = rel->cols_len - tail + i;
    }
    return rel_project(lo->arena, rel, cols, keep + tail);
}

/* a's columns at cols_a[] are those of b at cols_b[], NULLs alike, b standing behind a. Where
 * neither can be NULL plain equality says the same, and joins on it are cheaper. */
static void match_columns(struct lo *lo, struct sxvec *preds, const struct rel *a,
                          const uint32_t *cols_a, const struct rel *b, const uint32_t *cols_b,
                          uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        uint32_t ca = cols_a[i], cb = cols_b[i];
        ASSERT(ca < a->cols_len && cb < b->cols_len);
        struct sx *l = sx_col(lo->arena, ca, a->types[ca]);
        struct sx *r = sx_col(lo->arena, a->cols_len + cb, b->types[cb]);
        bool plain = !l->type.nullable && !r->type.nullable;
        sxvec_push(lo->arena, preds, sx_equal(lo->arena, l, r, !plain));
    }
}

/* The unit relation is neutral: uncorrelated queries stay free of it. */
static struct rel *cross(struct lo *lo, struct rel *a, struct rel *b)
{
    ASSERT(a != NULL && b != NULL);
    if (rel_is_unit(a)) {
        return b;
    }
    if (rel_is_unit(b)) {
        return a;
    }
    return rel_join2(lo->arena, REL_JOIN_INNER, a, b, NULL, 0);
}

/* ---- subqueries over the values they refer to ------------------------------------------------ */

/* A subquery lowered over its domain: what make_branch gives and everybody else joins back. */
struct branch {
    struct rel *rel; /* key columns, then the subquery's */
    uint32_t *keys;  /* columns of the relation branched from */
    uint32_t keys_len;
};

/* The walk over a subquery's references: which columns of the relation it hangs on it needs. */
struct collect {
    struct lo *lo;
    const struct frame *frame;
    struct bindings inner; /* the subquery's references, at: index into the keys */
    uint32_t *keys;
    size_t keys_len, keys_cap;
};

/* Each column once as a key, each reference bound to its key. */
static void collect_ref(void *arg, uint32_t level, uint32_t col, struct type type)
{
    ASSERT(level >= 1);
    struct collect *c = arg;
    (void)type;
    if (lookup(&c->inner, level, col) != UINT32_MAX) {
        return;
    }
    uint32_t at = level == 1 ? c->frame->offset + col : lookup(c->frame->outer, level - 1, col);
    ASSERT(at != UINT32_MAX);
    size_t key = 0;
    while (key < c->keys_len && c->keys[key] != at) {
        key++;
    }
    if (key == c->keys_len) {
        *VEC_PUSH(c, keys) = at;
    }
    *VEC_PUSH(&c->inner, items) = (struct binding){.level = level, .col = col, .at = (uint32_t)key};
}

/* The subquery for every distinct combination of the values it refers to. Without references the
 * domain is the unit relation: one row, no columns, so that the join back is a cross join. */
static err_t make_branch(struct lo *lo, struct rel *cur, const struct frame *frame, struct rel *sub,
                         struct branch *out)
{
    ASSERT(frame->offset <= cur->cols_len);
    ASSERT(out != NULL);
    struct collect c = {.lo = lo, .frame = frame};
    rel_free_refs(sub, collect_ref, &c);
    out->keys_len = (uint32_t)c.keys_len;
    out->keys = arena_memdup(lo->arena, c.keys, c.keys_len * sizeof(c.keys[0]));
    struct rel *domain = rel_unit(lo->arena);
    if (c.keys_len > 0) {
        domain = rel_distinct(lo->arena, rel_project(lo->arena, cur, out->keys, out->keys_len));
    }
    err_t err = lower(lo, sub, domain, &c.inner, &out->rel);
    free(c.keys);
    free(c.inner.items);
    return err;
}

/* The predicates that join a branch back to where it came from. `right` begins with b's keys; it
 * may be b->rel itself or what was made of it. */
static struct sxvec branch_preds(struct lo *lo, const struct rel *cur, const struct branch *b,
                                 const struct rel *right)
{
    ASSERT(b->keys_len <= right->cols_len);
    struct sxvec preds = {0};
    match_columns(lo, &preds, cur, b->keys, right, range(lo, 0, b->keys_len), b->keys_len);
    return preds;
}

/* One row per key for which the subquery has rows; without keys: one row or none (a count
 * without groups has no row for an empty input, see REL_REDUCE). */
static struct rel *branch_exists(struct lo *lo, const struct branch *b)
{
    if (b->keys_len == 0) {
        struct plan_agg count = {.func = AGG_COUNT_ALL, .type = type_of(TYPE_INT8)};
        count.type.nullable = false;
        return rel_reduce(lo->arena, b->rel, NULL, 0, &count, 1);
    }
    return rel_distinct(lo->arena, rel_prefix(lo->arena, b->rel, b->keys_len));
}

/*
 * EXISTS as a value, in a select list or under OR. true is joined back where there is a row and the
 * padding of a left join, NULL, becomes false: it never is NULL itself.
 */
static err_t exists_column(struct lo *lo, struct rel *sub, const struct frame *frame,
                           struct rel **cur, struct sx **out)
{
    ASSERT(sub != NULL && *cur != NULL);
    struct branch b;
    TRY(make_branch(lo, *cur, frame, sub, &b));
    struct rel *some = rel_prefix(lo->arena, branch_exists(lo, &b), b.keys_len);
    struct sx *yes = sx_bool(lo->arena, true);
    some = rel_map(lo->arena, some, &yes, 1);
    struct sxvec preds = branch_preds(lo, *cur, &b, some);
    uint32_t width = (*cur)->cols_len;
    struct rel *join = rel_join2(lo->arena, REL_JOIN_LEFT, *cur, some, preds.items, preds.len);
    *cur = cut(lo, join, width, 1);
    *out = sx_coalesce(lo->arena, sx_col(lo->arena, width, (*cur)->types[width]),
                       sx_bool(lo->arena, false));
    return ERR_OK;
}

/*
 * A subquery as conditions over something that refers to nothing outside:
 *
 *   SELECT y + 1 FROM s WHERE s.x = t.a AND s.y > 5
 *
 *   base = s WHERE y > 5     exprs = {y + 1}     preds = {x = t.a}
 */
struct stripped {
    struct rel *base;
    struct sx **exprs;  /* the subquery's columns over base's */
    struct sxvec preds; /* correlated: level 0 is base, 1 the relation filtered */
};

/*
 * False when something other than filters, maps and projections stands between the references and
 * what is uncorrelated: an aggregate, a top-k, a DISTINCT mean something per outer row.
 */
static bool strip(struct lo *lo, struct rel *rel, struct stripped *out)
{
    ASSERT(out != NULL);
    if (!rel_is_correlated(rel)) {
        out->base = rel;
        out->exprs = ARENA_ARRAY(lo->arena, struct sx *, rel->cols_len);
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            out->exprs[i] = sx_col(lo->arena, i, rel->types[i]);
        }
        return true;
    }
    if (rel->kind != REL_FILTER && rel->kind != REL_PROJECT && rel->kind != REL_MAP) {
        return false;
    }
    struct rel *in = rel->inputs[0];
    if (rel->kind == REL_FILTER && !rel_is_correlated(in)) {
        /* Keep below what is uncorrelated: it is evaluated once. */
        for (uint32_t i = 0; i < rel->sx_len; i++) {
            struct rel *one = rel_filter1(lo->arena, in, rel->sx[i]);
            in = rel_is_correlated(one) ? in : one;
        }
    }
    if (!strip(lo, in, out)) {
        return false;
    }
    if (rel->kind == REL_PROJECT) {
        struct sx **exprs = ARENA_ARRAY(lo->arena, struct sx *, rel->cols_len);
        for (uint32_t i = 0; i < rel->cols_len; i++) {
            exprs[i] = out->exprs[rel->cols[i]];
        }
        out->exprs = exprs;
        return true;
    }
    struct sx **exprs = ARENA_ARRAY(lo->arena, struct sx *, rel->cols_len);
    memcpy(exprs, out->exprs, in->cols_len * sizeof(exprs[0]));
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        struct sx *sx = rel->sx[i];
        /* Those that went below the base are done. */
        bool below = rel->kind == REL_FILTER && in != rel->inputs[0] &&
                     !rel_is_correlated(rel_filter1(lo->arena, rel->inputs[0], sx));
        if (below) {
            continue;
        }
        /* Its own subqueries would have to be lowered over the join: the general way does that. */
        if (sx_has_subquery(sx)) {
            return false;
        }
        sx = sx_subst(lo->arena, sx, out->exprs);
        if (rel->kind == REL_FILTER) {
            sxvec_push(lo->arena, &out->preds, sx);
        } else {
            exprs[in->cols_len + i] = sx;
        }
    }
    out->exprs = exprs;
    return true;
}

/*
 * Moves a stripped predicate onto left ++ base: level 0 is base there, level 1 the left side's own
 * columns, higher ones are bound.
 */
struct link {
    struct lo *lo;
    const struct frame *frame;
    uint32_t width; /* of the left side */
};

/* See struct link; the walk ends at columns. */
static struct sx *link_fn(void *arg, struct sx *sx)
{
    struct link *l = arg;
    if (sx->kind != SX_COL) {
        return NULL;
    }
    uint32_t at = sx->level == 0   ? l->width + sx->col
                  : sx->level == 1 ? l->frame->offset + sx->col
                                   : lookup(l->frame->outer, sx->level - 1, sx->col);
    ASSERT(at != UINT32_MAX);
    return sx_col(l->lo->arena, at, sx->type);
}

/*
 * An aggregate over a filter whose outer references are `local = outer` only, so that grouping by
 * the local sides gives the answer for every outer value at once.
 */
struct grouped {
    struct stripped in;
    struct rel *global;
    struct sx *value; /* the subquery's column: level 0 is the aggregates */
    struct sxvec local, outer;
};

/* Which sides an expression of a stripped subquery looks at. */
struct ref_kinds {
    bool local, outer;
};

static struct sx *note_ref(void *arg, struct sx *sx)
{
    struct ref_kinds *r = arg;
    if (sx->kind == SX_COL) {
        r->local = r->local || sx->level == 0;
        r->outer = r->outer || sx->level > 0;
    }
    return NULL;
}

/* A stripped condition: level 0 is the base, anything above is outside. */
static struct ref_kinds ref_kinds(struct lo *lo, struct sx *sx)
{
    struct ref_kinds r = {false, false};
    sx_rewrite(lo->arena, sx, note_ref, &r);
    return r;
}

/* local = outer, either way round. Kinds must agree (groups are compared as bytes) and neither may
 * fail: a group's key is computed for rows no outer row would ask for. */
static bool split_equality(struct lo *lo, struct sx *pred, struct grouped *out)
{
    ASSERT(pred->type.kind == TYPE_BOOL);
    if (!sx_is_op(pred, "=") || pred->args[0]->type.kind != pred->args[1]->type.kind ||
        sx_can_fail(pred)) {
        return false;
    }
    struct ref_kinds a = ref_kinds(lo, pred->args[0]), b = ref_kinds(lo, pred->args[1]);
    bool first = a.local && !a.outer && !b.local && b.outer;
    bool second = b.local && !b.outer && !a.local && a.outer;
    if (!first && !second) {
        return false;
    }
    sxvec_push(lo->arena, &out->local, pred->args[first ? 0 : 1]);
    sxvec_push(lo->arena, &out->outer, pred->args[first ? 1 : 0]);
    return true;
}

/*
 * The subquery's column over its aggregation (coalesce(max(y), 0) + 1); false when it is something
 * else.
 */
static bool over_aggregates(struct lo *lo, struct rel *sub, struct grouped *out)
{
    ASSERT(sub->cols_len == 1);
    out->value = sx_col(lo->arena, 0, sub->types[0]);
    while (sub->kind == REL_MAP || sub->kind == REL_PROJECT) {
        struct rel *in = sub->inputs[0];
        struct sx **exprs = ARENA_ARRAY(lo->arena, struct sx *, sub->cols_len);
        for (uint32_t i = 0; i < sub->cols_len; i++) {
            bool mapped = sub->kind == REL_MAP && i >= in->cols_len;
            uint32_t col = sub->kind == REL_PROJECT ? sub->cols[i] : i;
            exprs[i] = mapped ? sub->sx[i - in->cols_len] : sx_col(lo->arena, col, in->types[col]);
        }
        out->value = sx_subst(lo->arena, out->value, exprs);
        sub = in;
    }
    out->global = sub;
    return sub->kind == REL_GLOBAL && !sx_has_subquery(out->value);
}

/*
 * Aggregates whose arguments look outside, (SELECT sum(s.y * t.a) ...), have another answer for
 * each outer row and take the general way.
 */
static bool is_grouped(struct lo *lo, struct rel *sub, struct grouped *out)
{
    if (!over_aggregates(lo, sub, out) || !rel_is_correlated(out->global->inputs[0]) ||
        !strip(lo, out->global->inputs[0], &out->in)) {
        return false;
    }
    for (uint32_t i = 0; i < out->in.preds.len; i++) {
        if (!split_equality(lo, out->in.preds.items[i], out)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < out->global->aggs_len; i++) {
        struct plan_agg agg = out->global->aggs[i];
        for (uint32_t k = 0, *col; (col = plan_agg_col(&agg, k)) != NULL; k++) {
            if (ref_kinds(lo, out->in.exprs[*col]).outer) {
                return false;
            }
        }
    }
    return out->local.len > 0;
}

/* base grouped by the local sides: keys, then the aggregates. Arguments and filters that are
 * expressions become columns first, as reduce takes columns only. */
static err_t grouped_rel(struct lo *lo, const struct grouped *g, struct rel **out)
{
    ASSERT(g->local.len > 0 && g->local.len == g->outer.len);
    static const struct bindings none;
    struct rel *base = NULL;
    TRY(lower(lo, g->in.base, rel_unit(lo->arena), &none, &base));
    uint32_t n = g->global->aggs_len, k = g->local.len;
    struct sxvec maps = {0};
    uint32_t *keys = ARENA_ARRAY(lo->arena, uint32_t, k);
    for (uint32_t i = 0; i < k; i++) {
        keys[i] = base->cols_len + maps.len;
        sxvec_push(lo->arena, &maps, g->local.items[i]);
    }
    struct plan_agg *aggs = arena_memdup(lo->arena, g->global->aggs, n * sizeof(aggs[0]));
    for (uint32_t i = 0; i < n; i++) {
        aggs[i] = agg_remap(lo->arena, &aggs[i], NULL, 0); /* a copy */
        for (uint32_t c = 0, *col; (col = plan_agg_col(&aggs[i], c)) != NULL; c++) {
            sxvec_push(lo->arena, &maps, g->in.exprs[*col]);
            *col = base->cols_len + maps.len - 1;
        }
    }
    struct rel *mapped = rel_map(lo->arena, base, maps.items, maps.len);
    *out = rel_reduce(lo->arena, mapped, keys, k, aggs, n);
    return ERR_OK;
}

/* Puts the joined aggregates into the subquery's expression over them. */
struct value_map {
    struct lo *lo;
    const struct frame *frame;
    const struct grouped *g;
    uint32_t first; /* column of the first aggregate */
    const struct rel *cur;
};

/* Counts of nothing are 0 where the join found no group. */
static struct sx *value_fn(void *arg, struct sx *sx)
{
    struct value_map *v = arg;
    if (sx->kind != SX_COL) {
        return NULL;
    }
    struct arena *a = v->lo->arena;
    if (sx->level > 0) {
        uint32_t at = sx->level == 1 ? v->frame->offset + sx->col
                                     : lookup(v->frame->outer, sx->level - 1, sx->col);
        ASSERT(at != UINT32_MAX);
        return sx_col(a, at, sx->type);
    }
    uint32_t at = v->first + sx->col;
    uint8_t func = v->g->global->aggs[sx->col].func;
    struct sx *col = sx_col(a, at, v->cur->types[at]);
    bool count = func == AGG_COUNT || func == AGG_COUNT_ALL;
    return count ? sx_coalesce(a, col, sx_int8(a, 0)) : col;
}

/*
 * (SELECT max(y) FROM s WHERE s.x = t.a): s grouped by x once, then joined to t. No row of s means
 * no group, and the join's NULLs (and 0 for counts) are the aggregates of nothing.
 */
static err_t grouped_column(struct lo *lo, const struct grouped *g, const struct frame *frame,
                            struct rel **cur, struct sx **out)
{
    ASSERT(g->global->kind == REL_GLOBAL);
    struct rel *groups = NULL;
    TRY(grouped_rel(lo, g, &groups));
    uint32_t width = (*cur)->cols_len, n = g->global->aggs_len;
    struct link link = {.lo = lo, .frame = frame, .width = width};
    struct sxvec preds = {0};
    for (uint32_t i = 0; i < g->local.len; i++) {
        struct sx *l = sx_rewrite(lo->arena, g->outer.items[i], link_fn, &link);
        struct sx *r = sx_col(lo->arena, width + i, groups->types[i]);
        sxvec_push(lo->arena, &preds, sx_equal(lo->arena, l, r, false));
    }
    struct rel *join = rel_join2(lo->arena, REL_JOIN_LEFT, *cur, groups, preds.items, preds.len);
    *cur = cut(lo, join, width, n);
    struct value_map v = {.lo = lo, .frame = frame, .g = g, .first = width, .cur = *cur};
    *out = sx_rewrite(lo->arena, g->value, value_fn, &v);
    return ERR_OK;
}

/* Has the relation at most one row, whatever its input? Then a scalar subquery needs no check.
 * False is always safe. */
static bool at_most_one(const struct rel *rel)
{
    switch (rel->kind) {
    case REL_GLOBAL:
        return true;
    case REL_CONSTANT:
        return rel->rows_len <= 1;
    case REL_TOPK:
        return rel->limit >= 0 && rel->limit <= 1 && rel->keys_len == 0 && !rel->ties;
    case REL_MAP:
    case REL_FILTER:
    case REL_PROJECT:
    case REL_DISTINCT:
        return at_most_one(rel->inputs[0]);
    case REL_JOIN:
        return rel->join == REL_JOIN_INNER && at_most_one(rel->inputs[0]) &&
               at_most_one(rel->inputs[1]);
    default:
        return false;
    }
}

/*
 * count > 1 raises 21000. raise_if(count > 1, ...): 21000 when it is so, else true, so that it
 * serves as a filter that keeps everything. The error appears only while some key really has two
 * rows.
 */
static struct sx *single_row(struct lo *lo, uint32_t count_col)
{
    uint8_t kinds[3] = {TYPE_BOOL, TYPE_TEXT, TYPE_TEXT};
    const struct func *raise = func_find("raise_if", kinds, 3);
    uint8_t ints[2] = {TYPE_INT8, TYPE_INT8};
    const struct func *more = func_find(">", ints, 2);
    if (more == NULL) {
        ints[0] = ints[1] = 0;
        more = func_find(">", ints, 2);
    }
    ASSERT(raise != NULL && more != NULL);
    struct type flag = type_of(TYPE_BOOL);
    flag.nullable = false;
    struct type count = type_of(TYPE_INT8);
    count.nullable = false;
    struct sx *operands[2] = {sx_col(lo->arena, count_col, count), sx_int8(lo->arena, 1)};
    struct sx *args[3] = {
        sx_call(lo->arena, more, flag, operands, 2), sx_text(lo->arena, "21000"),
        sx_text(lo->arena, "more than one row returned by a subquery used as an expression")};
    return sx_call(lo->arena, raise, flag, args, 3);
}

/* Keys and value, one row per key; more rows are an error. min() picks the one value there is (NULL
 * when it is NULL); kinds without an order take a top-1 instead. */
static struct rel *checked_scalar(struct lo *lo, const struct branch *b)
{
    ASSERT(b->rel->cols_len == b->keys_len + 1);
    struct arena *a = lo->arena;
    uint32_t k = b->keys_len;
    struct type value = b->rel->types[k], min;
    struct plan_agg aggs[2] = {{.func = AGG_COUNT_ALL, .type = type_of(TYPE_INT8)}};
    aggs[0].type.nullable = false;
    uint32_t *keys = range(lo, 0, k);
    /* count and min in one reduction: no second arrangement of the subquery. */
    if (agg_result(AGG_MIN, (enum type_kind)value.kind, &min) && min.kind == value.kind) {
        aggs[1] = (struct plan_agg){.func = AGG_MIN, .arg = k, .type = value};
        aggs[1].type.nullable = true;
        struct rel *reduced = rel_reduce(a, b->rel, keys, k, aggs, 2);
        return cut(lo, rel_filter1(a, reduced, single_row(lo, k)), k, 1);
    }
    struct rel *counted =
        rel_filter1(a, rel_reduce(a, b->rel, keys, k, aggs, 1), single_row(lo, k));
    struct rel *first = rel_topk(a, b->rel, keys, k, NULL, 0, 1, 0);
    struct sxvec preds = {0};
    match_columns(lo, &preds, first, keys, counted, keys, k);
    return rel_join2(a, REL_JOIN_SEMI, first, counted, preds.items, preds.len);
}

/*
 * A scalar subquery as a new column of *cur: no row gives NULL, which is the left join's padding.
 */
static err_t scalar_column(struct lo *lo, struct sx *sx, const struct frame *frame,
                           struct rel **cur, struct sx **out)
{
    ASSERT(sx->kind == SX_SCALAR && sx->sub->cols_len == 1);
    struct branch b;
    struct grouped g = {0};
    if (is_grouped(lo, sx->sub, &g)) {
        return grouped_column(lo, &g, frame, cur, out);
    }
    TRY(make_branch(lo, *cur, frame, sx->sub, &b));
    struct rel *value = at_most_one(sx->sub) ? b.rel : checked_scalar(lo, &b);
    struct sxvec preds = branch_preds(lo, *cur, &b, value);
    uint32_t width = (*cur)->cols_len;
    struct rel *join = rel_join2(lo->arena, REL_JOIN_LEFT, *cur, value, preds.items, preds.len);
    *cur = cut(lo, join, width, 1);
    *out = sx_col(lo->arena, width, (*cur)->types[width]);
    return ERR_OK;
}

/* ---- expressions ----------------------------------------------------------------------------- */

/* The column that has the reference's value now. Analysis resolved the name, so it is there. */
static struct sx *bound_column(struct lo *lo, const struct sx *sx, const struct frame *frame)
{
    uint32_t at =
        sx->level == 0 ? frame->offset + sx->col : lookup(frame->outer, sx->level, sx->col);
    ASSERT(at != UINT32_MAX);
    struct sx *col = sx_col(lo->arena, at, sx->type);
    col->location = sx->location;
    return col;
}

/*
 * The expression over *cur. Subqueries inside append a column each to *cur; columns there before
 * keep their places, so that expressions lowered earlier stay valid. A subquery under CASE or OR is
 * computed whether its branch is taken or not; an error in it is then the statement's.
 */
static err_t lower_sx(struct lo *lo, struct sx *sx, const struct frame *frame, struct rel **cur,
                      struct sx **out)
{
    switch (sx->kind) {
    case SX_COL:
        *out = bound_column(lo, sx, frame);
        return ERR_OK;
    case SX_LIT:
    case SX_PARAM:
    case SX_NOW:
        *out = sx;
        return ERR_OK;
    case SX_EXISTS:
        return exists_column(lo, sx->sub, frame, cur, out);
    case SX_SCALAR:
        return scalar_column(lo, sx, frame, cur, out);
    default:
        break;
    }
    ASSERT(sx->kind != SX_AGG);
    struct sx *copy = arena_memdup(lo->arena, sx, sizeof(*sx));
    copy->args = ARENA_ARRAY(lo->arena, struct sx *, sx->args_len);
    for (uint32_t i = 0; i < sx->args_len; i++) {
        TRY(lower_sx(lo, sx->args[i], frame, cur, &copy->args[i]));
    }
    *out = copy;
    return ERR_OK;
}

/* ---- predicates ------------------------------------------------------------------------------ */

/* Keeps the rows of *cur for which the subquery has (or has not) rows. A stripped subquery's
 * conditions are the join's own; any other one is joined on its domain. Multiplicities of *cur
 * stay: a semi join passes each row as often as it is there, however many partners it has. */
static err_t exists_filter(struct lo *lo, struct rel *sub, bool not, const struct frame *frame,
                           struct rel **cur)
{
    ASSERT(sub != NULL && *cur != NULL);
    enum rel_join kind = not ? REL_JOIN_ANTI : REL_JOIN_SEMI;
    struct stripped s = {0};
    if (rel_is_correlated(sub) && strip(lo, sub, &s)) {
        struct rel *base = NULL;
        static const struct bindings none;
        TRY(lower(lo, s.base, rel_unit(lo->arena), &none, &base));
        struct link link = {.lo = lo, .frame = frame, .width = (*cur)->cols_len};
        for (uint32_t i = 0; i < s.preds.len; i++) {
            s.preds.items[i] = sx_rewrite(lo->arena, s.preds.items[i], link_fn, &link);
        }
        *cur = rel_join2(lo->arena, kind, *cur, base, s.preds.items, s.preds.len);
        return ERR_OK;
    }
    struct branch b;
    TRY(make_branch(lo, *cur, frame, sub, &b));
    struct rel *some = branch_exists(lo, &b);
    struct sxvec preds = branch_preds(lo, *cur, &b, some);
    *cur = rel_join2(lo->arena, kind, *cur, some, preds.items, preds.len);
    return ERR_OK;
}

/* CASE WHEN d THEN true WHEN u THEN NULL ELSE false END and its mirror image: see any_case. */
static bool is_any_case(const struct sx *sx, bool *all)
{
    if (sx->kind != SX_CASE || sx->args_len != 5 || sx->type.kind != TYPE_BOOL ||
        sx->args[1]->kind != SX_LIT || sx->args[3]->kind != SX_LIT || sx->args[4]->kind != SX_LIT ||
        sx->args[1]->lit.null || !sx->args[3]->lit.null || sx->args[4]->lit.null ||
        sx->args[1]->lit.b == sx->args[4]->lit.b) {
        return false;
    }
    *all = !sx->args[1]->lit.b;
    return true;
}

/*
 * One conjunct. A predicate keeps a row when it is true, so `unknown` may be taken for false here:
 * IN and ANY lose their branch for NULL (is_any_case), NOT IN turns into two anti joins:
 *
 *   a NOT IN (SELECT x FROM s)   ->   NOT EXISTS (x = a)  AND  NOT EXISTS (a or x is NULL)
 */
static err_t lower_filter(struct lo *lo, struct sx *pred, const struct frame *frame,
                          struct rel **cur)
{
    ASSERT(pred->type.kind == TYPE_BOOL);
    bool not = pred->kind == SX_NOT, all = false;
    struct sx *inner = not ? pred->args[0] : pred;
    if (inner->kind == SX_EXISTS) {
        return exists_filter(lo, inner->sub, not, frame, cur);
    }
    if (is_any_case(inner, &all) && sx_has_subquery(inner)) {
        struct sxvec parts = {0};
        if (all == not ) {
            sx_conjuncts(lo->arena, inner->args[0], &parts);
        } else {
            sx_conjuncts(lo->arena, sx_not(lo->arena, inner->args[0]), &parts);
            sx_conjuncts(lo->arena, sx_not(lo->arena, inner->args[2]), &parts);
        }
        for (uint32_t i = 0; i < parts.len; i++) {
            TRY(lower_filter(lo, parts.items[i], frame, cur));
        }
        return ERR_OK;
    }
    uint32_t width = (*cur)->cols_len;
    struct sx *sx = NULL;
    TRY(lower_sx(lo, pred, frame, cur, &sx));
    *cur = rel_prefix(lo->arena, rel_filter1(lo->arena, *cur, sx), width);
    return ERR_OK;
}

/* Plain predicates first: they are cheap and make the rest smaller. */
static err_t lower_filters(struct lo *lo, struct sx **preds, uint32_t len,
                           const struct frame *frame, struct rel **cur)
{
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < len; i++) {
            if (sx_has_subquery(preds[i]) == (pass == 1)) {
                TRY(lower_filter(lo, preds[i], frame, cur));
            }
        }
    }
    return ERR_OK;
}

/* ---- joins ----------------------------------------------------------------------------------- */

/*
 * The columns of left that have no partner in matched (whose first columns are left's), padded. The
 * rows of left that have no partner in matched (whose first columns are left's), padded with NULLs.
 * Compared as whole rows: equal rows have the same partners, so all copies of a row are matched or
 * none is.
 */
static struct rel *unmatched(struct lo *lo, struct rel *left, struct rel *matched)
{
    ASSERT(left->cols_len <= matched->cols_len);
    uint32_t n = left->cols_len;
    struct sxvec preds = {0}, nulls = {0};
    uint32_t *cols = range(lo, 0, n);
    match_columns(lo, &preds, left, cols, matched, cols, n);
    struct rel *partners = rel_distinct(lo->arena, rel_prefix(lo->arena, matched, n));
    struct rel *alone = rel_join2(lo->arena, REL_JOIN_ANTI, left, partners, preds.items, preds.len);
    for (uint32_t i = n; i < matched->cols_len; i++) {
        sxvec_push(lo->arena, &nulls, sx_null(lo->arena, matched->types[i]));
    }
    return rel_map(lo->arena, alone, nulls.items, nulls.len);
}

/*
 * References of an ON condition over left ++ right: o columns of outer, l of the left relation, k
 * key columns of the right branch, then the right relation's own.
 */
struct on {
    struct lo *lo;
    uint32_t o, l, k;
    const struct bindings *outer;
};

/* See struct on; a reference to the left side is level 0 in ON, as the scope has both sides. */
static struct sx *on_fn(void *arg, struct sx *sx)
{
    struct on *on = arg;
    if (sx->kind != SX_COL) {
        return NULL;
    }
    uint32_t at = sx->level > 0     ? lookup(on->outer, sx->level, sx->col)
                  : sx->col < on->l ? on->o + sx->col
                                    : on->o + sx->col + on->k;
    ASSERT(at != UINT32_MAX);
    return sx_col(on->lo->arena, at, sx->type);
}

/*
 * Does some predicate hold a subquery? Those cannot be a join's condition: they need columns first.
 */
static bool any_subquery(struct sx *const *preds, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        if (sx_has_subquery(preds[i])) {
            return true;
        }
    }
    return false;
}

/* LEFT JOIN whose condition has subqueries: the inner join, filtered, gives the matches; the
 * left rows that are not among them are padded. */
static err_t left_with_subqueries(struct lo *lo, struct rel *rel, struct rel *left,
                                  const struct branch *b, const struct bindings *outer,
                                  struct rel **out)
{
    ASSERT(rel->join == REL_JOIN_LEFT);
    uint32_t o = left->cols_len - rel->inputs[0]->cols_len, r = rel->inputs[1]->cols_len;
    struct sxvec keys = branch_preds(lo, left, b, b->rel);
    struct rel *joined = rel_join2(lo->arena, REL_JOIN_INNER, left, b->rel, keys.items, keys.len);
    joined = cut(lo, joined, left->cols_len, r);
    struct frame frame = {.offset = o, .outer = outer};
    TRY(lower_filters(lo, rel->sx, rel->sx_len, &frame, &joined));
    *out = rel_union2(lo->arena, joined, unmatched(lo, left, joined));
    return ERR_OK;
}

/* A left join, and the right rows that found no partner padded on the left. Both sides are lowered
 * over the same outer (neither may refer to the other, check_lateral saw to that) and matched on
 * it. The condition is used twice: as it stands, and with the sides' columns swapped for the anti
 * join. */
static err_t lower_full(struct lo *lo, struct rel *rel, struct rel *outer,
                        const struct bindings *bindings, struct rel **out)
{
    ASSERT(rel->join == REL_JOIN_FULL);
    struct arena *a = lo->arena;
    uint32_t o = outer->cols_len, l = rel->inputs[0]->cols_len, r = rel->inputs[1]->cols_len;
    if (any_subquery(rel->sx, rel->sx_len)) {
        return AZ_UNSUPPORTED(lo->az, -1,
                              "subqueries in the condition of a FULL JOIN are not supported");
    }
    struct rel *left = NULL, *right = NULL;
    TRY(lower(lo, rel->inputs[0], outer, bindings, &left));
    TRY(lower(lo, rel_shift_levels(a, rel->inputs[1], -1), outer, bindings, &right));
    struct sxvec preds = {0};
    match_columns(lo, &preds, left, range(lo, 0, o), right, range(lo, 0, o), o);
    struct on on = {.lo = lo, .o = o, .l = l, .k = o, .outer = bindings};
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        sxvec_push(a, &preds, sx_rewrite(a, rel->sx[i], on_fn, &on));
    }
    struct rel *with_left = rel_join2(a, REL_JOIN_LEFT, left, right, preds.items, preds.len);
    with_left = cut(lo, with_left, o + l, r);
    /*
     * The same condition seen from the right: (o left columns l, o right columns r) become
     * (o r, o l).
     */
    uint32_t *swap = ARENA_ARRAY(a, uint32_t, o + l + o + r);
    for (uint32_t i = 0; i < o + l + o + r; i++) {
        swap[i] = i < o + l ? o + r + i : i - (o + l);
    }
    struct sx **back = ARENA_ARRAY(a, struct sx *, preds.len);
    for (uint32_t i = 0; i < preds.len; i++) {
        back[i] = sx_remap(a, preds.items[i], swap);
    }
    struct rel *alone = rel_join2(a, REL_JOIN_ANTI, right, left, back, preds.len);
    struct sxvec nulls = {0};
    for (uint32_t i = 0; i < l; i++) {
        sxvec_push(a, &nulls, sx_null(a, left->types[o + i]));
    }
    alone = rel_map(a, alone, nulls.items, nulls.len);
    /* alone is (o, r, l padded): put left before right again. */
    uint32_t *cols = ARENA_ARRAY(a, uint32_t, o + l + r);
    for (uint32_t i = 0; i < o + l + r; i++) {
        cols[i] = i < o ? i : i < o + l ? o + r + (i - o) : i - l;
    }
    *out = rel_union2(a, with_left, rel_project(a, alone, cols, o + l + r));
    return ERR_OK;
}

/* Does the relation say for one row around it what it has, without looking at any collection? */
static bool is_rowwise(const struct rel *rel)
{
    while (rel->kind == REL_MAP || rel->kind == REL_FILTER || rel->kind == REL_PROJECT ||
           rel->kind == REL_FLAT_MAP) {
        rel = rel->inputs[0];
    }
    return rel_is_unit(rel);
}

/* The right side of a LEFT JOIN ... ON true as what also has a row of NULLs where it had none;
 * NULL: it is more than set-returning functions. */
static struct rel *outer_flat_map(struct lo *lo, struct rel *rel)
{
    if (rel->kind == REL_PROJECT) {
        struct rel *in = outer_flat_map(lo, rel->inputs[0]);
        return in == NULL ? NULL : rel_project(lo->arena, in, rel->cols, rel->cols_len);
    }
    bool plain = rel->kind == REL_FLAT_MAP && rel->keys_len == 0;
    const struct rel *below = plain ? rel->inputs[0] : NULL;
    while (below != NULL && below->kind == REL_MAP) {
        below = below->inputs[0];
    }
    return below != NULL && rel_is_unit(below) ? rel_flat_map_outer(lo->arena, rel) : NULL;
}

/*
 * A LATERAL right side that is a function of the left row alone goes on top of the left side: no
 * domain, no join. That `outer` is no set there does no harm, as nothing looks at two rows.
 * NULL: it is none.
 */
static struct rel *rowwise_side(struct lo *lo, const struct rel *rel)
{
    struct rel *right = rel->inputs[1];
    if (rel->sx_len > 1 || (rel->sx_len == 1 && !sx_is_true(rel->sx[0])) ||
        !rel_is_correlated(right)) {
        return NULL;
    }
    if (rel->join == REL_JOIN_LEFT) {
        return outer_flat_map(lo, right);
    }
    return rel->join == REL_JOIN_INNER && is_rowwise(right) ? right : NULL;
}

/* The right side over the left one's rows: their columns, then its own. */
static err_t lower_rowwise(struct lo *lo, struct rel *right, struct rel *left, uint32_t o,
                           const struct bindings *bindings, struct rel **out)
{
    ASSERT(o <= left->cols_len);
    struct frame frame = {.offset = o, .outer = bindings};
    struct collect c = {.lo = lo, .frame = &frame};
    rel_free_refs(right, collect_ref, &c);
    for (size_t i = 0; i < c.inner.items_len; i++) { /* all of left is there, not only keys */
        c.inner.items[i].at = c.keys[c.inner.items[i].at];
    }
    err_t err = lower(lo, right, left, &c.inner, out);
    free(c.keys);
    free(c.inner.items);
    return err;
}

/*
 * Every right side is a branch of its left side; one that does not refer to it has no keys, which
 * makes LATERAL and plain joins one case. ON's columns are moved to where the branch has them.
 */
static err_t lower_join(struct lo *lo, struct rel *rel, struct rel *outer,
                        const struct bindings *bindings, struct rel **out)
{
    ASSERT(rel->inputs_len == 2);
    if (rel->join == REL_JOIN_FULL) {
        return lower_full(lo, rel, outer, bindings, out);
    }
    struct arena *a = lo->arena;
    struct rel *left = NULL;
    TRY(lower(lo, rel->inputs[0], outer, bindings, &left));
    uint32_t o = outer->cols_len, r = rel->inputs[1]->cols_len;
    struct frame frame = {.offset = o, .outer = bindings};
    struct branch b;
    struct rel *rowwise = rowwise_side(lo, rel);
    if (rowwise != NULL) {
        return lower_rowwise(lo, rowwise, left, o, bindings, out);
    }
    TRY(make_branch(lo, left, &frame, rel->inputs[1], &b));
    if (rel->join == REL_JOIN_LEFT && any_subquery(rel->sx, rel->sx_len)) {
        return left_with_subqueries(lo, rel, left, &b, bindings, out);
    }
    struct sxvec preds = branch_preds(lo, left, &b, b.rel);
    struct on on = {
        .lo = lo, .o = o, .l = rel->inputs[0]->cols_len, .k = b.keys_len, .outer = bindings};
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        sxvec_push(a, &preds, sx_rewrite(a, rel->sx[i], on_fn, &on));
    }
    if (rel->join == REL_JOIN_INNER && preds.len == 0) {
        *out = cross(lo, left, b.rel);
        return ERR_OK;
    }
    struct rel *join = rel_join2(a, (enum rel_join)rel->join, left, b.rel, preds.items, preds.len);
    *out = cut(lo, join, left->cols_len, r);
    return ERR_OK;
}

/* ---- the other operators --------------------------------------------------------------------- */

/*
 * Expressions are lowered one after another over a relation that may grow by subqueries' columns;
 * the cut drops those again.
 */
static err_t lower_map(struct lo *lo, struct rel *rel, struct rel *outer,
                       const struct bindings *bindings, struct rel **out)
{
    ASSERT(rel->kind == REL_MAP && rel->inputs_len == 1);
    struct rel *cur = NULL;
    TRY(lower(lo, rel->inputs[0], outer, bindings, &cur));
    uint32_t o = outer->cols_len, width = cur->cols_len;
    struct frame frame = {.offset = o, .outer = bindings};
    struct sx **sx = ARENA_ARRAY(lo->arena, struct sx *, rel->sx_len);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        TRY(lower_sx(lo, rel->sx[i], &frame, &cur, &sx[i]));
    }
    *out = cut(lo, rel_map(lo->arena, cur, sx, rel->sx_len), width, rel->sx_len);
    return ERR_OK;
}

/*
 * Outer columns become further group keys: each outer row has groups of its own. Reduce compares
 * keys with NULL equal to NULL, as GROUP BY and the domain both want it.
 */
static struct rel *shifted_reduce(struct lo *lo, const struct rel *rel, struct rel *in, uint32_t o)
{
    ASSERT(in->cols_len >= o + rel->keys_len);
    uint32_t *keys = range(lo, 0, o + rel->keys_len);
    struct plan_agg *aggs = arena_memdup(lo->arena, rel->aggs, rel->aggs_len * sizeof(aggs[0]));
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        keys[o + i] = o + rel->cols[i];
    }
    for (uint32_t i = 0; i < rel->aggs_len; i++) {
        aggs[i] = agg_remap(lo->arena, &rel->aggs[i], NULL, o);
    }
    return rel_reduce(lo->arena, in, keys, o + rel->keys_len, aggs, rel->aggs_len);
}

/*
 * Aggregation without GROUP BY has a row for an empty input too: NULLs, and 0 for counts. That is
 * a left join of the outer rows with the aggregates, counts made 0 where there was no partner.
 */
static err_t lower_global(struct lo *lo, struct rel *rel, struct rel *outer,
                          const struct bindings *bindings, struct rel **out)
{
    ASSERT(rel->kind == REL_GLOBAL && rel->keys_len == 0);
    struct arena *a = lo->arena;
    struct rel *in = NULL;
    TRY(lower(lo, rel->inputs[0], outer, bindings, &in));
    uint32_t o = outer->cols_len, n = rel->aggs_len;
    if (n == 0) {
        *out = outer; /* SELECT 1 ... HAVING: one row whatever the input */
        return ERR_OK;
    }
    struct rel *reduced = shifted_reduce(lo, rel, in, o);
    struct sxvec preds = {0};
    match_columns(lo, &preds, outer, range(lo, 0, o), reduced, range(lo, 0, o), o);
    struct rel *join = rel_join2(a, REL_JOIN_LEFT, outer, reduced, preds.items, preds.len);
    uint32_t *cols = range(lo, 0, o + n);
    struct sxvec maps = {0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = o + o + i;
        cols[o + i] = at;
        if (rel->aggs[i].func == AGG_COUNT || rel->aggs[i].func == AGG_COUNT_ALL) {
            cols[o + i] = join->cols_len + maps.len;
            struct sx *count = sx_col(a, at, join->types[at]);
            sxvec_push(a, &maps, sx_coalesce(a, count, sx_int8(a, 0)));
        }
    }
    *out = rel_project(a, rel_map(a, join, maps.items, maps.len), cols, o + n);
    return ERR_OK;
}

/*
 * Each outer row has a top of its own: outer's columns are further partition keys.
 */
static err_t lower_topk(struct lo *lo, struct rel *rel, struct rel *in, uint32_t o,
                        struct rel **out)
{
    ASSERT(in->cols_len == o + rel->cols_len);
    ASSERT(rel->kind == REL_TOPK);
    uint32_t *keys = range(lo, 0, o + rel->keys_len);
    struct plan_order *order =
        arena_memdup(lo->arena, rel->order, rel->order_len * sizeof(order[0]));
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        keys[o + i] = o + rel->cols[i];
    }
    for (uint32_t i = 0; i < rel->order_len; i++) {
        order[i].col += o;
    }
    *out = rel_topk(lo->arena, in, keys, o + rel->keys_len, order, rel->order_len, rel->limit,
                    rel->offset);
    (*out)->ties = rel->ties;
    return ERR_OK;
}

/* Likewise: each outer row has partitions of its own. */
static err_t lower_window(struct lo *lo, struct rel *rel, struct rel *in, uint32_t o,
                          struct rel **out)
{
    ASSERT(in->cols_len == o + rel->inputs[0]->cols_len);
    ASSERT(rel->kind == REL_WINDOW);
    uint32_t *keys = range(lo, 0, o + rel->keys_len);
    struct plan_order *order =
        arena_memdup(lo->arena, rel->order, rel->order_len * sizeof(order[0]));
    struct plan_window_call *calls =
        ARENA_ARRAY(lo->arena, struct plan_window_call, rel->calls_len);
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        keys[o + i] = o + rel->cols[i];
    }
    for (uint32_t i = 0; i < rel->order_len; i++) {
        order[i].col += o;
    }
    for (uint32_t i = 0; i < rel->calls_len; i++) {
        calls[i] = call_remap(&rel->calls[i], NULL, o);
    }
    *out = rel_window(lo->arena, in, keys, o + rel->keys_len, order, rel->order_len, calls,
                      rel->calls_len);
    return ERR_OK;
}

/* Row by row, so each outer row has the functions' rows of its own: its columns are kept. */
static struct rel *lower_flat_map(struct lo *lo, const struct rel *rel, struct rel *in, uint32_t o)
{
    ASSERT(rel->kind == REL_FLAT_MAP && in->cols_len == o + rel->inputs[0]->cols_len);
    uint32_t *kept = range(lo, 0, o + rel->keys_len);
    for (uint32_t i = 0; i < rel->keys_len; i++) {
        kept[o + i] = o + rel->cols[i];
    }
    struct plan_table_call *tables = tables_remap(lo->arena, rel->tables, rel->tables_len, NULL, o);
    struct rel *out = rel_flat_map(lo->arena, in, kept, o + rel->keys_len, tables, rel->tables_len,
                                   rel->types + rel->keys_len);
    out = rel->outer ? rel_flat_map_outer(lo->arena, out) : out;
    return rel->ordinality ? rel_flat_map_ordinality(lo->arena, out) : out;
}

/*
 * ALL counts multiplicities: EXCEPT ALL is what remains positive of l - r, INTERSECT ALL what
 * EXCEPT ALL took away, l - (l - r). Without ALL, NULLs are equal and rows are told apart once.
 */
static struct rel *lower_set(struct lo *lo, uint8_t set, struct rel *l, struct rel *r)
{
    ASSERT(l->cols_len == r->cols_len);
    struct arena *a = lo->arena;
    if (set == REL_EXCEPT_ALL || set == REL_INTERSECT_ALL) {
        struct rel *rest = rel_threshold(a, rel_union2(a, l, rel_negate(a, r)));
        return set == REL_EXCEPT_ALL ? rest : rel_union2(a, l, rel_negate(a, rest));
    }
    struct sxvec preds = {0};
    uint32_t *cols = range(lo, 0, l->cols_len);
    match_columns(lo, &preds, l, cols, r, cols, l->cols_len);
    enum rel_join join = set == REL_EXCEPT ? REL_JOIN_ANTI : REL_JOIN_SEMI;
    return rel_distinct(a, rel_join2(a, join, l, r, preds.items, preds.len));
}

/*
 * UNION and set operations: both arms over the same outer, whose columns are part of the rows and
 * so keep outer rows apart.
 */
static err_t lower_both(struct lo *lo, struct rel *rel, struct rel *outer,
                        const struct bindings *bindings, struct rel **out)
{
    ASSERT(rel->inputs_len == 2);
    struct rel *l = NULL, *r = NULL;
    TRY(lower(lo, rel->inputs[0], outer, bindings, &l));
    TRY(lower(lo, rel->inputs[1], outer, bindings, &r));
    *out = rel->kind == REL_UNION ? rel_union2(lo->arena, l, r) : lower_set(lo, rel->set, l, r);
    return ERR_OK;
}

/* Outer's columns stay in front. */
static err_t lower_project(struct lo *lo, struct rel *rel, struct rel *in, uint32_t o,
                           struct rel **out)
{
    ASSERT(in->cols_len == o + rel->inputs[0]->cols_len);
    uint32_t *cols = range(lo, 0, o + rel->cols_len);
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        cols[o + i] = o + rel->cols[i];
    }
    *out = rel_project(lo->arena, in, cols, o + rel->cols_len);
    return ERR_OK;
}

/* Bodies refer to nothing outside, and nothing outside to them but through what leaves. */
static err_t lower_fixpoint(struct lo *lo, struct rel *rel, struct rel **out)
{
    static const struct bindings none;
    struct rel **bodies = ARENA_ARRAY(lo->arena, struct rel *, rel->inputs_len);
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        ASSERT(!rel_is_correlated(rel->inputs[i]));
        TRY(lower(lo, rel->inputs[i], rel_unit(lo->arena), &none, &bodies[i]));
    }
    *out = rel_fixpoint(lo->arena, rel->recursion, bodies);
    return ERR_OK;
}

/* One operator; see README.md, "Why decorrelation is right", for the induction. */
static err_t lower_node(struct lo *lo, struct rel *rel, struct rel *outer,
                        const struct bindings *bindings, struct rel **out)
{
    struct rel *in = NULL;
    uint32_t o = outer->cols_len;
    struct frame frame = {.offset = o, .outer = bindings};
    switch (rel->kind) {
    case REL_GET:
    case REL_CONSTANT:
    case REL_VARIABLE:
        *out = cross(lo, outer, rel);
        return ERR_OK;
    case REL_FIXPOINT:
        return lower_fixpoint(lo, rel, out);
    case REL_MAP:
        return lower_map(lo, rel, outer, bindings, out);
    case REL_JOIN:
        return lower_join(lo, rel, outer, bindings, out);
    case REL_GLOBAL:
        return lower_global(lo, rel, outer, bindings, out);
    case REL_UNION:
    case REL_SET:
        return lower_both(lo, rel, outer, bindings, out);
    default:
        break;
    }
    TRY(lower(lo, rel->inputs[0], outer, bindings, &in));
    switch (rel->kind) {
    case REL_FILTER:
        TRY(lower_filters(lo, rel->sx, rel->sx_len, &frame, &in));
        *out = in;
        return ERR_OK;
    case REL_PROJECT:
        return lower_project(lo, rel, in, o, out);
    case REL_REDUCE:
        *out = shifted_reduce(lo, rel, in, o);
        return ERR_OK;
    case REL_DISTINCT:
        *out = rel_distinct(lo->arena, in);
        return ERR_OK;
    case REL_TOPK:
        return lower_topk(lo, rel, in, o, out);
    case REL_WINDOW:
        return lower_window(lo, rel, in, o, out);
    case REL_FLAT_MAP:
        *out = lower_flat_map(lo, rel, in, o);
        return ERR_OK;
    case REL_LEAVE:
        ASSERT(o == 0 && in->kind == REL_FIXPOINT);
        *out = rel_leave(lo->arena, in, rel);
        return ERR_OK;
    default:
        UNREACHABLE();
    }
}

/*
 * Uncorrelated parts are lowered over nothing, once, and crossed with outer: a view used by ten
 * subqueries is one subplan. Recursion is bounded by az_enter (54001).
 */
static err_t lower(struct lo *lo, struct rel *rel, struct rel *outer,
                   const struct bindings *bindings, struct rel **out)
{
    TRY(az_enter(lo->az));
    err_t err = ERR_OK;
    static const struct bindings none;
    if (!rel_is_correlated(rel)) {
        /* The same for every outer row: computed once. */
        struct rel *alone = u64map_get(&lo->memo, (uint64_t)(uintptr_t)rel);
        if (alone == NULL) {
            err = lower_node(lo, rel, rel_unit(lo->arena), &none, &alone);
            if (err == ERR_OK) {
                u64map_put(&lo->memo, (uint64_t)(uintptr_t)rel, alone);
            }
        }
        if (err == ERR_OK) {
            *out = cross(lo, outer, alone);
        }
    } else {
        err = lower_node(lo, rel, outer, bindings, out);
    }
    az_leave(lo->az);
    ASSERT(err != ERR_OK || (*out)->cols_len == outer->cols_len + rel->cols_len);
    return err;
}

/* The root refers to nothing outside, so outer is the unit relation and vanishes in cross(). */
err_t rel_lower(struct az *az, struct rel *rel, struct rel **out)
{
    ASSERT(!rel_is_correlated(rel));
    struct lo lo = {.az = az, .arena = az->arena};
    static const struct bindings none;
    err_t err = lower(&lo, rel, rel_unit(az->arena), &none, out);
    u64map_free(&lo.memo);
    return err;
}
