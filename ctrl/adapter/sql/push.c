/*
 * Predicate pushdown and folding. Predicates go as far down as they may; inner joins are flattened
 * into one with all inputs; what is known to be empty vanishes; an outer join whose padded rows a
 * predicate rejects becomes an inner one.
 *
 *   FILTER b = 5 over (t JOIN s ON t.a = s.a)    ->   JOIN {t, FILTER b = 5 over s} on t.a = s.a
 *   FILTER y > 1 over (t LEFT JOIN s)            ->   inner join: y is NULL in padded rows
 *   x = y AND x = 5                              ->   also y = 5: the literal reaches both inputs
 *
 * Why rows and multiplicities stay what they are: a predicate looks at one row, so it may be asked
 * before any operator that passes rows through unchanged (distinct, threshold, negate, union),
 * before a MAP with the map's expressions put in, and before grouping operators when it is about
 * keys only, since then it keeps or drops groups as a whole. Where NULLs matter (outer joins) each
 * case says why.
 *
 * Errors: as in PostgreSQL the order in which conditions are evaluated is not defined, so one that
 * fails may be asked for rows that another one, or the join above, would have dropped.
 *
 * Recursive over the DAG: without predicates from above each node is pushed once (memo). With some,
 * a shared node is pushed anew for each user, as the users' predicates differ.
 */
#include "ctrl/adapter/sql/sql_internal.h"

enum { FOLD_ROWS_MAX = 4096, INPUTS_MAX = 64 };

/* One run of the pass. */
struct push {
    struct arena *arena;
    struct u64map memo; /* rel -> itself pushed without predicates from above */
};

static struct rel *push(struct push *p, struct rel *rel, struct sxvec preds);
static struct rel *push_constant(struct push *p, struct rel *rel, struct sxvec preds);

/* What could not go further down stays here. */
static struct rel *with_filter(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel != NULL && preds.len <= preds.cap);
    return rel_filter(p->arena, rel, preds.items, preds.len);
}

/* The operator over another input with the same columns. */
static struct rel *rebuilt(struct push *p, struct rel *rel, struct rel *in)
{
    ASSERT(rel->inputs_len == 1 && in->cols_len == rel->inputs[0]->cols_len);
    if (in == rel->inputs[0]) {
        return rel;
    }
    struct rel *copy = rel_copy(p->arena, rel);
    copy->inputs[0] = in;
    return copy;
}

/* Folded, split at AND, and not twice: joins and views often repeat a condition. */
static void add_pred(struct push *p, struct sxvec *preds, struct sx *sx)
{
    ASSERT(sx->type.kind == TYPE_BOOL);
    sx = sx_fold(p->arena, sx);
    struct sxvec parts = {0};
    sx_conjuncts(p->arena, sx, &parts);
    for (uint32_t i = 0; i < parts.len; i++) {
        bool known = false;
        for (uint32_t j = 0; j < preds->len && !known; j++) {
            known = sx_same(preds->items[j], parts.items[i]);
        }
        if (!known) {
            sxvec_push(p->arena, preds, parts.items[i]);
        }
    }
}

/* A literal false or NULL among conjuncts: no row passes. */
static bool rejects_all(const struct sxvec *preds)
{
    for (uint32_t i = 0; i < preds->len; i++) {
        if (sx_is_false_or_null(preds->items[i])) {
            return true;
        }
    }
    return false;
}

/* Which of the column ranges does an expression use? Bit i: [bounds[i], bounds[i + 1]). */
static uint64_t sides(struct push *p, const struct sx *sx, const uint32_t *bounds, uint32_t n)
{
    ASSERT(n <= 64);
    bool *used = ARENA_ARRAY(p->arena, bool, bounds[n] + 1);
    sx_columns(sx, used);
    uint64_t mask = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t c = bounds[i]; c < bounds[i + 1]; c++) {
            mask |= used[c] ? 1ULL << i : 0;
        }
    }
    return mask;
}

/* ---- unary operators ------------------------------------------------------------------------- */

/*
 * The map's expressions take their columns' places. A predicate that would become too large by that
 * stays above: it would be computed from columns there, and once.
 */
static struct rel *push_map(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_MAP);
    struct rel *in = rel->inputs[0];
    struct sx **exprs = ARENA_ARRAY(p->arena, struct sx *, rel->cols_len);
    for (uint32_t i = 0; i < in->cols_len; i++) {
        exprs[i] = sx_col(p->arena, i, in->types[i]);
    }
    struct sx **maps = ARENA_ARRAY(p->arena, struct sx *, rel->sx_len);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        maps[i] = sx_fold(p->arena, rel->sx[i]);
        exprs[in->cols_len + i] = maps[i];
    }
    struct sxvec below = {0}, above = {0};
    for (uint32_t i = 0; i < preds.len; i++) {
        struct sx *sx = sx_subst(p->arena, preds.items[i], exprs);
        if (sx_measure(sx) > SX_SUBST_MAX) {
            sxvec_push(p->arena, &above, preds.items[i]);
        } else {
            add_pred(p, &below, sx);
        }
    }
    struct rel *out = rel_map(p->arena, push(p, in, below), maps, rel->sx_len);
    if (rel_is_empty(out->inputs[0])) {
        return rel_empty(p->arena, out->types, out->cols_len);
    }
    return with_filter(p, out, above);
}

/* Columns by their old numbers. */
static struct rel *push_project(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_PROJECT);
    struct sxvec below = {0};
    for (uint32_t i = 0; i < preds.len; i++) {
        add_pred(p, &below, sx_remap(p->arena, preds.items[i], rel->cols));
    }
    struct rel *in = push(p, rel->inputs[0], below);
    if (rel_is_empty(in)) {
        return rel_empty(p->arena, rel->types, rel->cols_len);
    }
    return rel_project(p->arena, in, rel->cols, rel->cols_len);
}

/* column op literal of integers, with the literal on the right: row_number() <= 3. */
static bool bounds_column(const struct sx *sx, uint32_t col, int64_t *most, bool *exact)
{
    static const struct {
        const char *op, *swapped;
        int64_t less;
        bool exact; /* rows up to the bound are all that pass */
    } ops[] = {{"<=", ">=", 0, true}, {"<", ">", 1, true}, {"=", "=", 0, false}};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        for (int swap = 0; swap < 2 && sx->args_len == 2; swap++) {
            const struct sx *a = sx->args[swap], *lit = sx->args[1 - swap];
            bool ints = lit->type.kind == TYPE_INT4 || lit->type.kind == TYPE_INT8;
            if (sx_is_op(sx, swap != 0 ? ops[i].swapped : ops[i].op) && a->kind == SX_COL &&
                a->col == col && lit->kind == SX_LIT && ints && lit->lit.i > INT64_MIN) {
                *most = lit->lit.i - ops[i].less;
                *exact = ops[i].exact || *most == 1;
                return true;
            }
        }
    }
    return false;
}

/* Functions whose values for the first rows of a partition do not depend on the others. */
static bool is_of_first_rows(const struct plan_window_call *call)
{
    return call->func <= PLAN_WINDOW_DENSE_RANK ||
           (call->func == PLAN_WINDOW_LAG && call->n >= 0 && !call->n_of_row);
}

/* The least k of the predicates func() <= k, INT64_MAX when there is none; those that say no more
 * are gone. */
static int64_t take_bounds(const struct rel *rel, enum plan_window_func func, struct sxvec *preds)
{
    uint32_t width = rel->inputs[0]->cols_len, kept = 0;
    int64_t limit = INT64_MAX;
    for (uint32_t i = 0; i < preds->len; i++) {
        bool gone = false;
        for (uint32_t c = 0; c < rel->calls_len; c++) {
            int64_t most;
            bool exact;
            if (rel->calls[c].func == func &&
                bounds_column(preds->items[i], width + c, &most, &exact)) {
                limit = most < limit ? most : limit;
                gone = exact;
            }
        }
        preds->items[kept] = preds->items[i];
        kept += gone ? 0 : 1;
    }
    preds->len = kept;
    return limit < 0 ? 0 : limit;
}

/*
 * WHERE row_number() <= k keeps the first k rows of each partition: a top-k below the window does,
 * and the window has no more than those to number. rank() <= k keeps the peers of the k-th as well.
 */
static struct rel *limit_window(struct push *p, const struct rel *rel, struct rel *in,
                                struct sxvec *preds)
{
    ASSERT(rel->kind == REL_WINDOW);
    for (uint32_t i = 0; i < rel->calls_len; i++) {
        if (!is_of_first_rows(&rel->calls[i])) {
            return in;
        }
    }
    for (int ties = 1; ties >= 0; ties--) {
        enum plan_window_func func = ties ? PLAN_WINDOW_RANK : PLAN_WINDOW_ROW_NUMBER;
        if (ties && rel->order_len == 0) {
            continue; /* all are first */
        }
        int64_t limit = take_bounds(rel, func, preds);
        if (limit < INT64_MAX) {
            in = rel_topk(p->arena, in, rel->cols, rel->keys_len, rel->order, rel->order_len,
                          limit, 0);
            in->ties = ties && limit > 0;
        }
    }
    return in;
}

/*
 * Predicates on key columns only may go below a grouping or a top-k by those keys: they keep or
 * drop whole groups. One without columns would drop the only group of a reduction without keys as
 * well, but the reduction would then still have to exist for an empty input, so it stays.
 */
static struct rel *push_grouped(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_REDUCE || rel->kind == REL_TOPK || rel->kind == REL_WINDOW);
    struct sxvec above = {0}, below = {0};
    bool reduce = rel->kind == REL_REDUCE;
    for (uint32_t i = 0; i < preds.len; i++) {
        bool *used = ARENA_ARRAY(p->arena, bool, rel->cols_len + 1);
        sx_columns(preds.items[i], used);
        bool keys_only = rel->keys_len > 0;
        for (uint32_t c = 0; c < rel->cols_len; c++) {
            bool key = reduce && c < rel->keys_len;
            for (uint32_t k = 0; !reduce && k < rel->keys_len; k++) {
                key = key || rel->cols[k] == c;
            }
            keys_only = keys_only && (!used[c] || key);
        }
        if (!keys_only) {
            sxvec_push(p->arena, &above, preds.items[i]);
        } else {
            struct sx *sx = preds.items[i];
            add_pred(p, &below, reduce ? sx_remap(p->arena, sx, rel->cols) : sx);
        }
    }
    struct rel *in = push(p, rel->inputs[0], below);
    if (rel_is_empty(in)) {
        return rel_empty(p->arena, rel->types, rel->cols_len);
    }
    if (rel->kind == REL_WINDOW) {
        in = limit_window(p, rel, in, &above);
    }
    return with_filter(p, rebuilt(p, rel, in), above);
}

/*
 * What is asked of kept columns alone goes below: then rows that are not wanted are never made.
 * Functions of constants are computed now, as long as that is little.
 */
static struct rel *push_flat_map(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_FLAT_MAP);
    struct sxvec above = {0}, below = {0};
    for (uint32_t i = 0; i < preds.len; i++) {
        bool *used = ARENA_ARRAY(p->arena, bool, rel->cols_len + 1);
        bool given = rel->keys_len == 0;
        sx_columns(preds.items[i], used);
        for (uint32_t c = rel->keys_len; c < rel->cols_len; c++) {
            given = given || used[c];
        }
        if (given) {
            sxvec_push(p->arena, &above, preds.items[i]);
        } else {
            add_pred(p, &below, sx_remap(p->arena, preds.items[i], rel->cols));
        }
    }
    struct rel *in = push(p, rel->inputs[0], below);
    if (rel_is_empty(in)) {
        return rel_empty(p->arena, rel->types, rel->cols_len);
    }
    struct rel *out = rebuilt(p, rel, in), *rows = NULL;
    err_t err = query_constant_rows(p->arena, out, FOLD_ROWS_MAX, &rows);
    if (err != ERR_OK) { /* the query's, if the row is asked for */
        err_free(err);
        rows = NULL;
    }
    return rows != NULL ? push_constant(p, rows, above) : with_filter(p, out, above);
}

/* Operators that treat equal rows alike: filtering before or after is the same. For threshold that
 * is so because a predicate drops all copies of a row, positive and negative, or none. */
static struct rel *push_through(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_DISTINCT || rel->kind == REL_THRESHOLD || rel->kind == REL_NEGATE);
    struct rel *in = push(p, rel->inputs[0], preds);
    return rel_is_empty(in) ? in : rebuilt(p, rel, in);
}

/* Each arm is filtered; arms that are empty go, and a union of one arm with them. */
static struct rel *push_union(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_UNION);
    struct rel *out = rel_copy(p->arena, rel);
    out->inputs_len = 0;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        struct rel *in = push(p, rel->inputs[i], preds);
        if (!rel_is_empty(in)) {
            out->inputs[out->inputs_len++] = in;
        }
    }
    if (out->inputs_len == 0) {
        return rel_empty(p->arena, rel->types, rel->cols_len);
    }
    return out->inputs_len == 1 ? out->inputs[0] : out;
}

/* The rows of a small constant that satisfy the predicates, computed now. Catalog queries live from
 * it: their tables are constants. */
static struct rel *push_constant(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_CONSTANT);
    if (preds.len == 0 || rel->rows_len > FOLD_ROWS_MAX) {
        return with_filter(p, rel, preds);
    }
    struct rel *out = rel_copy(p->arena, rel);
    out->rows = ARENA_ARRAY(p->arena, struct datum, (size_t)rel->rows_len * rel->cols_len);
    out->diffs = rel->diffs == NULL ? NULL : ARENA_ARRAY(p->arena, int64_t, rel->rows_len);
    out->rows_len = 0;
    struct sx **row = ARENA_ARRAY(p->arena, struct sx *, rel->cols_len);
    for (uint32_t r = 0; r < rel->rows_len; r++) {
        const struct datum *values =
            rel->cols_len == 0 ? NULL : &rel->rows[(size_t)r * rel->cols_len];
        for (uint32_t c = 0; c < rel->cols_len; c++) {
            row[c] = sx_lit(p->arena, rel->types[c], values[c]);
        }
        bool keep = true;
        for (uint32_t i = 0; i < preds.len && keep; i++) {
            struct sx *sx = sx_fold(p->arena, sx_subst(p->arena, preds.items[i], row));
            if (sx->kind != SX_LIT) {
                return with_filter(p, rel, preds); /* it fails: at run time, if at all */
            }
            keep = sx_is_true(sx);
        }
        if (keep) {
            if (rel->cols_len > 0) {
                memcpy(out->rows + (size_t)out->rows_len * rel->cols_len, values,
                       rel->cols_len * sizeof(values[0]));
            }
            if (out->diffs != NULL) {
                out->diffs[out->rows_len] = rel->diffs[r];
            }
            out->rows_len++;
        }
    }
    return out;
}

/* ---- joins ----------------------------------------------------------------------------------- */

/* The inputs of nested inner joins, in the order of their columns. */
struct flat {
    struct rel *inputs[INPUTS_MAX];
    uint32_t len;
    struct sxvec preds; /* over the columns of all inputs together */
};

/*
 * Collects the inputs of nested inner joins and their predicates over all columns:
 *
 *     (a JOIN b ON p) JOIN c ON q   ->   {a, b, c}, {p, q}
 *
 * Joins come as left-deep trees, so the walk goes down to the first input before it has taken any:
 * `after` reserves the places of those it passed on the way. What does not fit stays a join of its
 * own, one input of this one.
 */
static void flatten(struct push *p, struct rel *rel, uint32_t base, uint32_t after,
                    struct flat *out)
{
    ASSERT(out->len + 1 + after <= INPUTS_MAX);
    bool filter = rel->kind == REL_FILTER && rel->inputs[0]->kind == REL_JOIN &&
                  rel->inputs[0]->join == REL_JOIN_INNER;
    bool join = rel->kind == REL_JOIN && rel->join == REL_JOIN_INNER &&
                out->len + rel->inputs_len + after <= INPUTS_MAX;
    if (!filter && !join) {
        out->inputs[out->len++] = rel;
        return;
    }
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        add_pred(p, &out->preds, sx_shift(p->arena, rel->sx[i], base));
    }
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        flatten(p, rel->inputs[i], base, after + rel->inputs_len - 1 - i, out);
        base += rel->inputs[i]->cols_len;
    }
}

/* column = literal, either way round. */
static bool column_literal(const struct sx *sx, const struct sx **col, const struct sx **lit)
{
    ASSERT(col != NULL && lit != NULL);
    if (!sx_is_op(sx, "=") || sx->args_len != 2) {
        return false;
    }
    bool swap = sx->args[0]->kind == SX_LIT;
    *col = sx->args[swap ? 1 : 0];
    *lit = sx->args[swap ? 0 : 1];
    return (*col)->kind == SX_COL && (*lit)->kind == SX_LIT;
}

/* x = y and x = 5 imply y = 5: the literal reaches every input of the join. It grows the list while
 * walking it, so chains are followed; bounded, as every pair could imply another. */
static void spread_literals(struct push *p, struct sxvec *preds)
{
    for (uint32_t i = 0; i < preds->len && preds->len < 256; i++) {
        const struct sx *col = NULL, *lit = NULL;
        if (!column_literal(preds->items[i], &col, &lit)) {
            continue;
        }
        for (uint32_t j = 0; j < preds->len; j++) {
            struct sx *e = preds->items[j];
            if (!sx_is_op(e, "=") || e->args[0]->kind != SX_COL || e->args[1]->kind != SX_COL) {
                continue;
            }
            for (int s = 0; s < 2; s++) {
                struct sx *other = e->args[1 - s];
                if (e->args[s]->col == col->col && other->type.kind == lit->type.kind) {
                    struct sx *copy = arena_memdup(p->arena, lit, sizeof(*lit));
                    add_pred(p, preds, sx_equal(p->arena, other, copy, false));
                }
            }
        }
    }
}

/*
 * Predicates on one input go there; those that connect inputs stay for the join order, and one
 * without columns goes to the first input: it decides about all rows wherever it is asked.
 */
static struct rel *push_inner(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->join == REL_JOIN_INNER);
    struct flat flat = {.len = 0};
    uint32_t bounds[INPUTS_MAX + 1] = {0};
    struct sxvec mine[INPUTS_MAX], cross = {0};
    flatten(p, rel, 0, 0, &flat);
    uint32_t n = flat.len;
    for (uint32_t i = 0; i < preds.len; i++) {
        add_pred(p, &flat.preds, preds.items[i]);
    }
    spread_literals(p, &flat.preds);
    for (uint32_t i = 0; i < n; i++) {
        bounds[i + 1] = bounds[i] + flat.inputs[i]->cols_len;
        mine[i] = (struct sxvec){0};
    }
    ASSERT(bounds[n] == rel->cols_len);
    for (uint32_t i = 0; i < flat.preds.len; i++) {
        struct sx *sx = flat.preds.items[i];
        uint64_t mask = sides(p, sx, bounds, n);
        if ((mask & (mask - 1)) != 0) {
            sxvec_push(p->arena, &cross, sx);
            continue;
        }
        uint32_t at = mask == 0 ? 0 : (uint32_t)__builtin_ctzll(mask);
        sxvec_push(p->arena, &mine[at], sx_shift(p->arena, sx, -(int64_t)bounds[at]));
    }
    struct rel *out = rel_copy(p->arena, rel);
    out->inputs = ARENA_ARRAY(p->arena, struct rel *, n);
    out->inputs_len = n;
    for (uint32_t i = 0; i < n; i++) {
        out->inputs[i] = push(p, flat.inputs[i], mine[i]);
        if (rel_is_empty(out->inputs[i])) {
            return rel_empty(p->arena, rel->types, rel->cols_len);
        }
    }
    out->sx = cross.items;
    out->sx_len = cross.len;
    return out;
}

/* Is the predicate false or NULL whenever these columns are all NULL? Then no padded row passes it,
 * and an outer join with it above is an inner one. Folding decides: y > 1 becomes NULL, coalesce(y,
 * 0) = 0 true, and y IS NULL true. */
static bool rejects_nulls(struct push *p, struct sx *pred, const struct rel *join, uint32_t from)
{
    ASSERT(from <= join->cols_len);
    struct sx **exprs = ARENA_ARRAY(p->arena, struct sx *, join->cols_len);
    for (uint32_t i = 0; i < join->cols_len; i++) {
        exprs[i] =
            i < from ? sx_col(p->arena, i, join->types[i]) : sx_null(p->arena, join->types[i]);
    }
    struct sx *sx = sx_fold(p->arena, sx_subst(p->arena, pred, exprs));
    return sx_is_false_or_null(sx);
}

/*
 * WHERE on left columns goes left: it keeps or drops a left row with all its matches. WHERE on
 * right columns stays above the padding. ON over right columns alone goes right: rows it drops
 * there could not match. ON over left columns may not move, it decides about padding only; an ON
 * that is never true leaves all left rows padded.
 */
static struct rel *push_left(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->join == REL_JOIN_LEFT);
    struct arena *a = p->arena;
    uint32_t l = rel->inputs[0]->cols_len, bounds[3] = {0, l, rel->cols_len};
    struct sxvec left = {0}, right = {0}, on = {0}, above = {0};
    for (uint32_t i = 0; i < preds.len; i++) {
        if (rejects_nulls(p, preds.items[i], rel, l)) {
            struct rel *inner = rel_copy(a, rel);
            inner->join = REL_JOIN_INNER;
            return push_inner(p, inner, preds);
        }
    }
    for (uint32_t i = 0; i < preds.len; i++) {
        uint64_t mask = sides(p, preds.items[i], bounds, 2);
        sxvec_push(a, mask <= 1 ? &left : &above, preds.items[i]);
    }
    /* An ON that is constant: true says nothing, false or NULL that no row matches. */
    bool never = false;
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        struct sx *sx = sx_fold(a, rel->sx[i]);
        never = never || sx_is_false_or_null(sx);
        if (sx_is_true(sx)) {
            continue;
        }
        if (sides(p, sx, bounds, 2) == 2) {
            add_pred(p, &right, sx_shift(a, sx, -(int64_t)l));
        } else {
            sxvec_push(a, &on, sx);
        }
    }
    struct rel *lrel = push(p, rel->inputs[0], left);
    struct rel *rrel = push(p, rel->inputs[1], right);
    if (rel_is_empty(lrel)) {
        return rel_empty(a, rel->types, rel->cols_len);
    }
    if (never || rel_is_empty(rrel)) {
        struct sxvec nulls = {0};
        for (uint32_t i = l; i < rel->cols_len; i++) {
            sxvec_push(a, &nulls, sx_null(a, rel->types[i]));
        }
        return with_filter(p, rel_map(a, lrel, nulls.items, nulls.len), above);
    }
    return with_filter(p, rel_join2(a, REL_JOIN_LEFT, lrel, rrel, on.items, on.len), above);
}

/* The output is left's columns: all predicates from above go left. The join's own condition over
 * left columns moves there for a semi join only: an anti join keeps the rows for which it is not
 * true. */
static struct rel *push_semi(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->inputs_len == 2);
    struct arena *a = p->arena;
    uint32_t l = rel->inputs[0]->cols_len;
    uint32_t bounds[3] = {0, l, l + rel->inputs[1]->cols_len};
    struct sxvec right = {0}, on = {0};
    bool semi = rel->join == REL_JOIN_SEMI;
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        struct sx *sx = sx_fold(a, rel->sx[i]);
        uint64_t mask = sides(p, sx, bounds, 2);
        /*
         * Without columns it empties the right side or does nothing: right for both kinds of join.
         */
        if (mask == 2 || (mask == 0 && !sx_is_true(sx))) {
            add_pred(p, &right, sx_shift(a, sx, mask == 0 ? 0 : -(int64_t)l));
        } else if (mask == 1 && semi) {
            add_pred(p, &preds, sx);
        } else if (mask != 0) {
            sxvec_push(a, &on, sx);
        }
    }
    struct rel *lrel = push(p, rel->inputs[0], preds);
    struct rel *rrel = push(p, rel->inputs[1], right);
    if (rel_is_empty(lrel) || (rel_is_empty(rrel) && semi)) {
        return rel_empty(a, rel->types, rel->cols_len);
    }
    if (rel_is_empty(rrel)) {
        return lrel;
    }
    return rel_join2(a, (enum rel_join)rel->join, lrel, rrel, on.items, on.len);
}

/* FULL was lowered to other joins. */
static struct rel *push_join(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->join != REL_JOIN_FULL);
    switch (rel->join) {
    case REL_JOIN_INNER:
        return push_inner(p, rel, preds);
    case REL_JOIN_LEFT:
        return push_left(p, rel, preds);
    default:
        return push_semi(p, rel, preds);
    }
}

/* The filter itself disappears: its conjuncts travel with those from above. */
static struct rel *push_filter(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_FILTER);
    struct sxvec all = {0};
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        add_pred(p, &all, rel->sx[i]);
    }
    for (uint32_t i = 0; i < preds.len; i++) {
        add_pred(p, &all, preds.items[i]);
    }
    return push(p, rel->inputs[0], all);
}

/*
 * Nothing is pushed into a recursion: a condition on its result says nothing about the rows its
 * result is made from. What its bodies say themselves is pushed within them.
 */
static struct rel *push_fixpoint(struct push *p, struct rel *rel)
{
    ASSERT(rel->kind == REL_FIXPOINT);
    struct rel **bodies = ARENA_ARRAY(p->arena, struct rel *, rel->inputs_len);
    struct sxvec none = {0};
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        bodies[i] = push(p, rel->inputs[i], none);
    }
    return rel_fixpoint(p->arena, rel->recursion, bodies);
}

static struct rel *push_leave(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind == REL_LEAVE);
    struct sxvec none = {0};
    return with_filter(p, rel_leave(p->arena, push(p, rel->inputs[0], none), rel), preds);
}

/* preds: over the columns of rel, all of them to hold above it. */
static struct rel *push_node(struct push *p, struct rel *rel, struct sxvec preds)
{
    ASSERT(rel->kind != REL_GLOBAL && rel->kind != REL_SET);
    switch (rel->kind) {
    case REL_FILTER:
        return push_filter(p, rel, preds);
    case REL_MAP:
        return push_map(p, rel, preds);
    case REL_PROJECT:
        return push_project(p, rel, preds);
    case REL_JOIN:
        return push_join(p, rel, preds);
    case REL_REDUCE:
    case REL_TOPK:
    case REL_WINDOW:
        return push_grouped(p, rel, preds);
    case REL_FLAT_MAP:
        return push_flat_map(p, rel, preds);
    case REL_DISTINCT:
    case REL_THRESHOLD:
    case REL_NEGATE:
        return push_through(p, rel, preds);
    case REL_UNION:
        return push_union(p, rel, preds);
    case REL_CONSTANT:
        return push_constant(p, rel, preds);
    case REL_FIXPOINT:
        return push_fixpoint(p, rel);
    case REL_LEAVE:
        return push_leave(p, rel, preds);
    default:
        return with_filter(p, rel, preds);
    }
}

/* Every relation comes through here, so emptiness is noticed at each level. */
static struct rel *push(struct push *p, struct rel *rel, struct sxvec preds)
{
    if (rejects_all(&preds)) {
        return rel_empty(p->arena, rel->types, rel->cols_len);
    }
    if (preds.len > 0) {
        return push_node(p, rel, preds);
    }
    uint64_t key = (uint64_t)(uintptr_t)rel;
    struct rel *out = u64map_get(&p->memo, key);
    if (out == NULL) {
        out = push_node(p, rel, preds);
        u64map_put(&p->memo, key, out);
    }
    ASSERT(out->cols_len == rel->cols_len);
    return out;
}

/* The root has no predicates from above. */
struct rel *rel_push_filters(struct arena *arena, struct rel *rel)
{
    struct push p = {.arena = arena};
    struct sxvec none = {0};
    struct rel *out = push(&p, rel, none);
    u64map_free(&p.memo);
    return out;
}
