/*
 * Physical joins: an inner join of many inputs becomes a tree of binary ones in a good order, and
 * what the engine's joins cannot do themselves (conditions other than equality of columns) is
 * expressed by those they can.
 *
 * Afterwards every JOIN has two inputs and predicates `left column = right column` only, of equal
 * kinds, either all plain or all null-safe.
 *
 *   t LEFT JOIN s ON t.a = s.x AND t.b < s.y
 *
 *   inner   = FILTER t.b < s.y over (t JOIN s ON t.a = s.x)
 *   result  = inner UNION ALL (t ANTI JOIN DISTINCT inner's t columns, as whole rows), padded
 *
 * Equal rows of t match alike, so comparing whole rows finds all copies of a matched row and no
 * other; the anti join passes the rest with its multiplicity. Semi and anti joins likewise.
 *
 * A join without keys whose one side is a few constant rows is written out as a sum of maps: it
 * would arrange and keep all of the other side for nothing.
 *
 * The order: greedy, connected inputs first, smaller ones first. There are no statistics (data is
 * not known when a view is made), so sizes are guessed from shapes. Every input of an incremental
 * join is arranged and kept, whatever the order; what the order decides is the size of the
 * intermediate results, and a cross join is what must be avoided.
 */
#include "ctrl/adapter/sql/sql_internal.h"

#include "ctrl/adapter/sql/typing.h"

enum {
    ARRANGED_WEIGHT = 3,
    JOIN_WORDS_MAX = 4, /* keys of a join that keeps words (op_join_is_flat) */
    LOOKUP_INPUTS_MAX = 12,
    STAGE_NODES = 4,
};

/* One run of the pass. Shared nodes are made physical once. */
struct phys {
    struct arena *arena;
    struct u64map memo;
    struct u64map rows; /* rel -> its estimate (a double in the arena) */
    struct u64map flat; /* rel -> is_flat, as 1 or 2 */
    double kept;        /* what the joins so far keep: rows, by their weight */
    uint32_t stages;    /* of lookups in joins of many inputs */
};

/* The predicates of a join of two relations, sorted into keys and the rest. */
struct keys {
    struct sxvec left, right; /* pairs: over the left, over the right columns */
    struct sxvec rest;        /* over the concatenation */
    bool null_safe;
};

static struct rel *phys(struct phys *p, struct rel *rel);
/* A guess at the number of rows: there are no statistics, only shapes. */
static double estimate(struct phys *p, const struct rel *rel);

/* Does the expression use columns of [from, to)? *outside: others, too. */
static bool uses_range(struct phys *p, const struct sx *sx, uint32_t width, uint32_t from,
                       uint32_t to, bool *outside)
{
    ASSERT(from <= to && to <= width);
    bool *used = ARENA_ARRAY(p->arena, bool, width + 1);
    bool inside = false;
    *outside = false;
    sx_columns(sx, used);
    for (uint32_t c = 0; c < width; c++) {
        bool in = c >= from && c < to;
        inside = inside || (used[c] && in);
        *outside = *outside || (used[c] && !in);
    }
    return inside;
}

/* 0: left side only, 1: right side only, -1: neither or both. */
static int side_of(struct phys *p, const struct sx *sx, uint32_t l, uint32_t width)
{
    ASSERT(l <= width);
    bool outside;
    if (uses_range(p, sx, width, 0, l, &outside) && !outside) {
        return 0;
    }
    if (uses_range(p, sx, width, l, width, &outside) && !outside) {
        return 1;
    }
    return -1;
}

/* Keys are compared as bytes, so both sides must be of one kind. NULL: there is no such cast. */
static struct sx *cast_to(struct phys *p, struct sx *sx, uint8_t kind)
{
    ASSERT(kind != TYPE_UNKNOWN && kind < TYPE_KIND_MAX);
    if (sx->type.kind == kind) {
        return sx;
    }
    const struct func *cast = cast_find((enum type_kind)sx->type.kind, (enum type_kind)kind);
    if (cast == NULL) {
        return NULL;
    }
    struct type type = type_of((enum type_kind)kind);
    type.nullable = sx->type.nullable;
    return sx_call(p->arena, cast, type, &sx, 1);
}

/*
 * Both sides of one kind, the one that loses nothing (int4 = int8 compares as int8); false when
 * there is none, and the equality is no key.
 */
static bool same_kind(struct phys *p, struct sx **a, struct sx **b)
{
    ASSERT(*a != NULL && *b != NULL);
    uint8_t ka = (*a)->type.kind, kb = (*b)->type.kind;
    if (ka == kb) {
        return true;
    }
    bool up = kind_can_coerce(ka, kb, CAST_IMPLICIT);
    if (!up && !kind_can_coerce(kb, ka, CAST_IMPLICIT)) {
        return false;
    }
    struct sx *x = cast_to(p, *a, up ? kb : ka), *y = cast_to(p, *b, up ? kb : ka);
    if (x == NULL || y == NULL) {
        return false;
    }
    *a = x;
    *b = y;
    return true;
}

/*
 * An equality of something on the left with something on the right. One that can fail is no
 * key: computing it for rows that never meet could raise an error nobody asked for.
 */
static bool is_key(struct phys *p, struct sx *sx, uint32_t l, uint32_t width, struct keys *out)
{
    ASSERT(l <= width);
    bool safe = sx_is_op(sx, "is_not_distinct_from");
    if ((!safe && !sx_is_op(sx, "=")) || sx->args_len != 2 || sx_can_fail(sx)) {
        return false;
    }
    int s0 = side_of(p, sx->args[0], l, width), s1 = side_of(p, sx->args[1], l, width);
    if (s0 < 0 || s1 < 0 || s0 == s1) {
        return false;
    }
    struct sx *left = sx->args[s0 == 0 ? 0 : 1], *right = sx->args[s0 == 0 ? 1 : 0];
    if (!same_kind(p, &left, &right)) {
        return false;
    }
    right = sx_shift(p->arena, right, -(int64_t)l);
    sxvec_push(p->arena, &out->left, left);
    sxvec_push(p->arena, &out->right, right);
    out->null_safe = out->null_safe || (safe && left->type.nullable && right->type.nullable);
    return true;
}

/* Is the i-th pair one that must not match NULLs though the join as a whole does? */
static bool plain_equal(struct sx *const *preds, uint32_t len, uint32_t i, struct phys *p,
                        uint32_t l, uint32_t width)
{
    ASSERT(l <= width);
    uint32_t seen = 0;
    for (uint32_t j = 0; j < len; j++) {
        struct keys one = {0};
        if (!is_key(p, preds[j], l, width, &one)) {
            continue;
        }
        if (seen++ == i) {
            return sx_is_op(preds[j], "=");
        }
    }
    return false;
}

/* A column for the key expression: itself, or one more map. */
static uint32_t key_column(struct phys *p, const struct rel *rel, struct sxvec *maps, struct sx *sx)
{
    ASSERT(sx->kind != SX_COL || sx->col < rel->cols_len);
    if (sx->kind == SX_COL) {
        return sx->col;
    }
    for (uint32_t i = 0; i < maps->len; i++) {
        if (sx_same(maps->items[i], sx)) {
            return rel->cols_len + i;
        }
    }
    sxvec_push(p->arena, maps, sx);
    return rel->cols_len + maps->len - 1;
}

/* Drops the key columns that were mapped on: left's l columns, then right's r. */
static struct rel *drop_maps(struct phys *p, struct rel *join, uint32_t l, uint32_t l_mapped,
                             uint32_t r)
{
    ASSERT(l <= l_mapped && l_mapped + r <= join->cols_len);
    uint32_t *cols = ARENA_ARRAY(p->arena, uint32_t, l + r);
    for (uint32_t i = 0; i < l + r; i++) {
        cols[i] = i < l ? i : l_mapped + (i - l);
    }
    return rel_project(p->arena, join, cols, l + r);
}

/* A row of an arrangement weighs about as much as three that a join keeps whose keys are words. */
static double weight(const struct rel *left, const uint32_t *keys, uint32_t keys_len)
{
    bool words = keys_len > 0 && keys_len <= JOIN_WORDS_MAX;
    for (uint32_t i = 0; i < keys_len; i++) {
        uint8_t kind = left->types[keys[i]].kind;
        words = words && batch_kind_is_word(kind) && kind != TYPE_FLOAT4 && kind != TYPE_FLOAT8;
    }
    return words ? 1 : ARRANGED_WEIGHT;
}

/* A join on the keys alone, with the columns of left and right (or left only). The engine treats
 * NULL keys all alike or all apart: when some pair is null-safe the whole join is, and the plain
 * pairs lose the right side's NULLs before. Anti joins too: a right row with a NULL under plain
 * equality matches nothing, so it may be missing. */
static struct rel *key_join(struct phys *p, enum rel_join kind, struct rel *left, struct rel *right,
                            const struct keys *k, const bool *no_nulls)
{
    ASSERT(k->left.len == k->right.len && k->rest.len <= k->rest.cap);
    struct arena *a = p->arena;
    struct sxvec lmaps = {0}, rmaps = {0}, preds = {0}, not_null = {0};
    uint32_t n = k->left.len;
    uint32_t *lcols = ARENA_ARRAY(a, uint32_t, n), *rcols = ARENA_ARRAY(a, uint32_t, n);
    for (uint32_t i = 0; i < n; i++) {
        struct sx *l = k->left.items[i], *r = k->right.items[i];
        lcols[i] = key_column(p, left, &lmaps, l);
        rcols[i] = key_column(p, right, &rmaps, r);
        /* A NULL of the right side matches nothing under plain equality: it may as well go. */
        if (k->null_safe && no_nulls[i] && l->type.nullable && r->type.nullable) {
            sxvec_push(a, &not_null, sx_not(a, sx_is_null(a, r)));
        }
    }
    struct rel *l = rel_map(a, left, lmaps.items, lmaps.len);
    struct rel *r = rel_filter(a, right, not_null.items, not_null.len);
    r = rel_map(a, r, rmaps.items, rmaps.len);
    for (uint32_t i = 0; i < n; i++) {
        struct sx *x = sx_col(a, lcols[i], l->types[lcols[i]]);
        struct sx *y = sx_col(a, l->cols_len + rcols[i], r->types[rcols[i]]);
        sxvec_push(a, &preds, sx_equal(a, x, y, k->null_safe));
    }
    struct rel *join = rel_join2(a, kind, l, r, preds.items, preds.len);
    p->kept += weight(l, lcols, n) * (estimate(p, l) + estimate(p, r));
    bool narrow = kind == REL_JOIN_SEMI || kind == REL_JOIN_ANTI;
    return drop_maps(p, join, left->cols_len, l->cols_len, narrow ? 0 : right->cols_len);
}

/* Rows of left that also are (SEMI) or are not (ANTI) among those of matched's left columns. */
static struct rel *by_whole_row(struct phys *p, enum rel_join kind, struct rel *left,
                                struct rel *matched)
{
    ASSERT(kind == REL_JOIN_SEMI || kind == REL_JOIN_ANTI);
    struct arena *a = p->arena;
    struct keys k = {0};
    struct rel *rows = rel_distinct(a, rel_prefix(a, matched, left->cols_len));
    for (uint32_t i = 0; i < left->cols_len; i++) {
        sxvec_push(a, &k.left, sx_col(a, i, left->types[i]));
        sxvec_push(a, &k.right, sx_col(a, i, rows->types[i]));
        k.null_safe = k.null_safe || left->types[i].nullable;
    }
    bool *no_nulls = ARENA_ARRAY(a, bool, left->cols_len + 1);
    return key_join(p, kind, left, rows, &k, no_nulls);
}

/* Rows of a constant that a join without keys is written out for: so many maps. */
enum { WRITTEN_OUT_MAX = 16 };

/* A few rows, each once. */
static bool is_few_rows(const struct rel *rel)
{
    bool few = rel->kind == REL_CONSTANT && rel->rows_len > 0 && rel->rows_len <= WRITTEN_OUT_MAX;
    for (uint32_t i = 0; few && rel->diffs != NULL && i < rel->rows_len; i++) {
        few = rel->diffs[i] == 1;
    }
    return few;
}

/* Whether maps and filters that become one with a filter on top, which may come first, can fail. */
static bool chain_can_fail(const struct rel *rel)
{
    bool fails = false;
    for (; rel->kind == REL_MAP || rel->kind == REL_FILTER || rel->kind == REL_PROJECT;
         rel = rel->inputs[0]) {
        for (uint32_t i = 0; i < rel->sx_len; i++) {
            fails = fails || sx_can_fail(rel->sx[i]);
        }
    }
    return fails;
}

/*
 * Every row of rel with every row of a constant: the sum over the constant's rows of rel with that
 * row's values mapped on. A join would arrange and keep all of rel; this keeps nothing. preds are
 * over left's columns and then right's, one of which is the constant. rel's errors come by all
 * arms, and go on once; so predicates stand behind the sum if they may fail, or would keep some of
 * rel's errors from some of the arms.
 */
static struct rel *written_out(struct phys *p, struct rel *left, struct rel *right,
                               struct sx *const *preds, uint32_t preds_len)
{
    struct arena *a = p->arena;
    bool first = is_few_rows(left); /* the constant's columns come first */
    const struct rel *few = first ? left : right;
    struct rel *rel = first ? right : left;
    struct rel *out = NULL;
    uint32_t width = few->cols_len + rel->cols_len;
    uint32_t *cols = ARENA_ARRAY(a, uint32_t, width);
    struct sxvec within = {0}, behind = {0};
    bool fails = chain_can_fail(rel);
    for (uint32_t i = 0; i < preds_len; i++) {
        sxvec_push(a, fails || sx_can_fail(preds[i]) ? &behind : &within, preds[i]);
    }
    for (uint32_t c = 0; c < width; c++) {
        cols[c] = !first             ? c
                  : c < few->cols_len ? rel->cols_len + c
                                      : c - few->cols_len;
    }
    for (uint32_t row = 0; row < few->rows_len; row++) {
        struct sx **values = ARENA_ARRAY(a, struct sx *, few->cols_len + 1);
        for (uint32_t c = 0; c < few->cols_len; c++) {
            values[c] = sx_lit(a, few->types[c], few->rows[(size_t)row * few->cols_len + c]);
        }
        struct rel *one = rel_map(a, rel, values, few->cols_len);
        one = rel_filter(a, rel_project(a, one, cols, width), within.items, within.len);
        if (out == NULL) {
            out = one;
        } else {
            out = rel_union2(a, out, one);
            out->errors_once = true;
        }
    }
    ASSERT(out != NULL && out->cols_len == left->cols_len + right->cols_len);
    return rel_filter(a, out, behind.items, behind.len);
}

static bool is_flat(struct phys *p, const struct rel *rel);

/* Operators that a change goes through once, from the inputs on. */
static bool is_flat_node(struct phys *p, const struct rel *rel)
{
    switch (rel->kind) {
    case REL_GET:
    case REL_CONSTANT:
    case REL_MAP:
    case REL_FILTER:
    case REL_PROJECT:
    case REL_JOIN:
    case REL_REDUCE:
    case REL_DISTINCT:
    case REL_THRESHOLD:
    case REL_NEGATE:
    case REL_UNION:
    case REL_TOPK:
    case REL_WINDOW:
    case REL_FLAT_MAP:
        break;
    default: /* recursion, whose iterations lookups cannot tell apart */
        return false;
    }
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        if (!is_flat(p, rel->inputs[i])) {
            return false;
        }
    }
    return true;
}

/* Whether it may be an input of a join by lookups. */
static bool is_flat(struct phys *p, const struct rel *rel)
{
    uintptr_t known = (uintptr_t)u64map_get(&p->flat, (uint64_t)(uintptr_t)rel);
    if (known == 0) {
        known = is_flat_node(p, rel) ? 1 : 2;
        u64map_put(&p->flat, (uint64_t)(uintptr_t)rel, (void *)known);
    }
    return known == 1;
}

/* A join of two by lookups where that spares an arrangement: when one of them is an index. */
static struct rel *lookup_columns(struct phys *p, struct rel *left, struct rel *right,
                                  struct sx *const *preds, uint32_t len)
{
    struct rel *inputs[2] = {left, right};
    double rows[2] = {estimate(p, left), estimate(p, right)};
    struct lookup_cost cost;
    if (!is_flat(p, left) || !is_flat(p, right)) {
        return NULL;
    }
    struct rel *join = rel_lookup_join(p->arena, inputs, rows, 2, preds, len, &cost);
    if (join == NULL || cost.indexed == 0) {
        return NULL;
    }
    p->kept += ARRANGED_WEIGHT * cost.rows;
    return join;
}

/*
 * The same where an index's column equals an expression of the other side, or a column of another
 * kind: mapped on there, it is a column. A side that gets one is read as an index no more.
 */
static struct rel *lookup_binary(struct phys *p, struct rel *left, struct rel *right,
                                 struct sx *const *preds, uint32_t len)
{
    struct rel *join = lookup_columns(p, left, right, preds, len);
    struct arena *a = p->arena;
    struct sxvec maps[2] = {0};
    uint32_t l = left->cols_len, width = l + right->cols_len;
    uint32_t (*cols)[2] = arena_alloc(a, (len + 1UL) * sizeof(*cols)); /* of keys, by side */
    struct sx **mapped = ARENA_ARRAY(a, struct sx *, len + 1);
    for (uint32_t i = 0; join == NULL && i < len; i++) {
        struct keys k = {0};
        mapped[i] = NULL;
        if (is_key(p, preds[i], l, width, &k) && !k.null_safe) {
            cols[i][0] = key_column(p, left, &maps[0], k.left.items[0]);
            cols[i][1] = key_column(p, right, &maps[1], k.right.items[0]);
        } else {
            mapped[i] = preds[i];
        }
    }
    if (join != NULL || maps[0].len + maps[1].len == 0) {
        return join;
    }
    struct rel *x = rel_map(a, left, maps[0].items, maps[0].len);
    struct rel *y = rel_map(a, right, maps[1].items, maps[1].len);
    uint32_t *moved = ARENA_ARRAY(a, uint32_t, width);
    for (uint32_t c = 0; c < width; c++) {
        moved[c] = c < l ? c : c + maps[0].len;
    }
    for (uint32_t i = 0; i < len; i++) {
        mapped[i] = mapped[i] != NULL
                        ? sx_remap(a, mapped[i], moved)
                        : sx_equal(a, sx_col(a, cols[i][0], x->types[cols[i][0]]),
                                   sx_col(a, x->cols_len + cols[i][1], y->types[cols[i][1]]),
                                   false);
    }
    join = lookup_columns(p, x, y, mapped, len);
    return join == NULL ? NULL : drop_maps(p, join, l, x->cols_len, right->cols_len);
}

/*
 * The engine joins on keys; the rest of the condition is a filter above, or for outer, semi and
 * anti joins a second look at which left rows found a partner (README).
 */
static struct rel *binary(struct phys *p, enum rel_join kind, struct rel *left, struct rel *right,
                          struct sx *const *preds, uint32_t len)
{
    ASSERT(kind != REL_JOIN_FULL);
    struct arena *a = p->arena;
    struct rel *looked_up =
        kind == REL_JOIN_INNER ? lookup_binary(p, left, right, preds, len) : NULL;
    if (looked_up != NULL) {
        return looked_up;
    }
    uint32_t l = left->cols_len, width = l + right->cols_len;
    struct keys k = {0};
    for (uint32_t i = 0; i < len; i++) {
        if (!is_key(p, preds[i], l, width, &k)) {
            sxvec_push(a, &k.rest, preds[i]);
        }
    }
    if (kind == REL_JOIN_INNER && k.left.len == 0 && (is_few_rows(left) || is_few_rows(right))) {
        return written_out(p, left, right, preds, len);
    }
    bool *no_nulls = ARENA_ARRAY(a, bool, k.left.len + 1);
    for (uint32_t i = 0; k.null_safe && i < k.left.len; i++) {
        no_nulls[i] = plain_equal(preds, len, i, p, l, width);
    }
    /* Everything is a key: the engine's own join. */
    if (k.rest.len == 0) {
        return key_join(p, kind, left, right, &k, no_nulls);
    }
    /* The matches, with the rest of the condition on top. */
    struct rel *inner = key_join(p, REL_JOIN_INNER, left, right, &k, no_nulls);
    inner = rel_filter(a, inner, k.rest.items, k.rest.len);
    if (kind == REL_JOIN_INNER) {
        return inner;
    }
    if (kind != REL_JOIN_LEFT) {
        return by_whole_row(p, kind, left, inner);
    }
    struct rel *alone = by_whole_row(p, REL_JOIN_ANTI, left, inner);
    struct sxvec nulls = {0};
    for (uint32_t i = l; i < width; i++) {
        sxvec_push(a, &nulls, sx_null(a, inner->types[i]));
    }
    return rel_union2(a, inner, rel_map(a, alone, nulls.items, nulls.len));
}

/* ---- the order of inner joins ---------------------------------------------------------------- */

/* An equality with a literal keeps little, any other condition some. */
static double estimate_filter(struct phys *p, const struct rel *rel)
{
    ASSERT(rel->kind == REL_FILTER);
    double rows = estimate(p, rel->inputs[0]);
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        const struct sx *sx = rel->sx[i];
        bool equal =
            sx_is_op(sx, "=") && (sx->args[0]->kind == SX_LIT || sx->args[1]->kind == SX_LIT);
        rows *= equal ? 0.01 : 0.4;
    }
    return rows;
}

/*
 * Stored relations count as a million rows, whatever they have: only the order of magnitude between
 * a constant, a filtered and a whole relation decides.
 */
static double estimate_node(struct phys *p, const struct rel *rel)
{
    ASSERT(rel->kind >= REL_GET && rel->kind <= REL_LEAVE);
    double rows = 1;
    switch (rel->kind) {
    case REL_CONSTANT:
        return rel->rows_len;
    case REL_GET:
    case REL_VARIABLE:
        return 1e6;
    case REL_FILTER:
        return estimate_filter(p, rel);
    case REL_REDUCE:
        return rel->keys_len == 0 ? 1 : estimate(p, rel->inputs[0]) * 0.3;
    case REL_DISTINCT:
        return estimate(p, rel->inputs[0]) * 0.3;
    case REL_TOPK:
        if (rel->keys_len == 0 && rel->limit >= 0) {
            return (double)rel->limit;
        }
        return estimate(p, rel->inputs[0]) * 0.3;
    case REL_FLAT_MAP:
        return estimate(p, rel->inputs[0]) * 10;
    case REL_JOIN:
    case REL_UNION:
        for (uint32_t i = 0; i < rel->inputs_len; i++) {
            bool narrow = rel->kind == REL_JOIN && rel->join != REL_JOIN_INNER && i > 0;
            double one = narrow ? 0 : estimate(p, rel->inputs[i]);
            rows = one > rows ? one : rows;
        }
        return rows;
    default:
        return rel->inputs_len > 0 ? estimate(p, rel->inputs[0]) : 1;
    }
}

/* Each node once: shared subplans would be walked for every user. */
static double estimate(struct phys *p, const struct rel *rel)
{
    uint64_t key = (uint64_t)(uintptr_t)rel;
    double *known = u64map_get(&p->rows, key);
    if (known == NULL) {
        known = ARENA_NEW(p->arena, double);
        *known = estimate_node(p, rel);
        u64map_put(&p->rows, key, known);
    }
    return *known;
}

/* A join order under construction: `cur` has what is joined so far. */
struct order {
    struct phys *p;
    struct rel *rel; /* the n-ary join */
    struct rel **inputs;
    double *rows;
    uint32_t *base; /* first column of each input in the n-ary join */
    bool *joined, *applied;
    struct rel *cur;
    uint32_t *at; /* column of the n-ary join -> column of cur; UINT32_MAX: not there yet */
};

/* Does some predicate need exactly inputs already joined and this one? */
static bool connects(const struct order *o, uint32_t input)
{
    ASSERT(input < o->rel->inputs_len);
    for (uint32_t i = 0; i < o->rel->sx_len; i++) {
        bool *used = ARENA_ARRAY(o->p->arena, bool, o->rel->cols_len + 1);
        bool mine = false, present = false, missing = false;
        sx_columns(o->rel->sx[i], used);
        for (uint32_t c = 0; c < o->rel->cols_len; c++) {
            bool here = c >= o->base[input] && c < o->base[input] + o->inputs[input]->cols_len;
            mine = mine || (used[c] && here);
            present = present || (used[c] && !here && o->at[c] != UINT32_MAX);
            missing = missing || (used[c] && !here && o->at[c] == UINT32_MAX);
        }
        if (mine && present && !missing && !o->applied[i]) {
            return true;
        }
    }
    return false;
}

/* Connected inputs first, small ones first: a cross join only when nothing else is left. */
static uint32_t choose(const struct order *o)
{
    uint32_t best = UINT32_MAX;
    bool best_connected = false;
    for (uint32_t i = 0; i < o->rel->inputs_len; i++) {
        if (o->joined[i]) {
            continue;
        }
        bool connected = o->cur != NULL && connects(o, i);
        bool better = best == UINT32_MAX || (connected && !best_connected) ||
                      (connected == best_connected && o->rows[i] < o->rows[best]);
        if (better) {
            best = i;
            best_connected = connected;
        }
    }
    ASSERT(best != UINT32_MAX);
    return best;
}

/* The predicates all of whose columns are there once the input is joined. */
static struct sxvec ready(struct order *o)
{
    struct sxvec out = {0};
    for (uint32_t i = 0; i < o->rel->sx_len; i++) {
        bool *used = ARENA_ARRAY(o->p->arena, bool, o->rel->cols_len + 1);
        bool all = !o->applied[i];
        sx_columns(o->rel->sx[i], used);
        for (uint32_t c = 0; c < o->rel->cols_len && all; c++) {
            all = !used[c] || o->at[c] != UINT32_MAX;
        }
        if (all) {
            o->applied[i] = true;
            sxvec_push(o->p->arena, &out, sx_remap(o->p->arena, o->rel->sx[i], o->at));
        }
    }
    return out;
}

/* Its columns get their places first, then the predicates that became complete are the join's. */
static void join_next(struct order *o, uint32_t next)
{
    ASSERT(!o->joined[next]);
    struct rel *in = o->inputs[next];
    uint32_t width = o->cur == NULL ? 0 : o->cur->cols_len;
    for (uint32_t c = 0; c < in->cols_len; c++) {
        o->at[o->base[next] + c] = width + c;
    }
    o->joined[next] = true;
    struct sxvec preds = ready(o);
    if (o->cur == NULL) {
        o->cur = rel_filter(o->p->arena, in, preds.items, preds.len);
    } else {
        o->cur = binary(o->p, REL_JOIN_INNER, o->cur, in, preds.items, preds.len);
    }
}

/*
 * Three inputs or more by lookups, without intermediate results, or NULL: when every input is an
 * index that fits, or less is kept than a chain of pairs would keep. Stages go with the square of
 * the inputs: once they may fill the plan, there are chains.
 */
static struct rel *lookup_all(const struct order *o, double chain)
{
    struct phys *p = o->p;
    struct rel **inputs = ARENA_ARRAY(p->arena, struct rel *, o->rel->inputs_len);
    double *rows = ARENA_ARRAY(p->arena, double, o->rel->inputs_len);
    struct lookup_cost cost;
    uint32_t n = 0;
    bool flat = true;
    for (uint32_t i = 0; i < o->rel->inputs_len; i++) {
        if (!rel_is_unit(o->inputs[i])) {
            inputs[n] = o->inputs[i];
            rows[n++] = o->rows[i];
            flat = flat && is_flat(p, o->inputs[i]);
        }
    }
    uint32_t stages = p->stages + n * n;
    if (n < 3 || n > LOOKUP_INPUTS_MAX || !flat || stages * STAGE_NODES > PLAN_NODES_MAX) {
        return NULL;
    }
    struct rel *join =
        rel_lookup_join(p->arena, inputs, rows, n, o->rel->sx, o->rel->sx_len, &cost);
    if (join == NULL || (cost.indexed < n && ARRANGED_WEIGHT * cost.rows >= chain)) {
        return NULL;
    }
    p->stages = stages;
    return join;
}

/* The chain of pairs. Unit inputs add nothing. */
static void join_chain(struct order *o)
{
    for (uint32_t i = 0; i < o->rel->inputs_len; i++) {
        if (!rel_is_unit(o->inputs[i])) {
            join_next(o, choose(o));
        } else {
            o->joined[i] = true;
        }
    }
}

/* The columns are put back into their order at the end. */
static struct rel *inner(struct phys *p, struct rel *rel)
{
    ASSERT(rel->join == REL_JOIN_INNER && rel->inputs_len > 0);
    struct order o = {.p = p, .rel = rel};
    uint32_t n = rel->inputs_len;
    o.inputs = ARENA_ARRAY(p->arena, struct rel *, n);
    o.rows = ARENA_ARRAY(p->arena, double, n);
    o.base = ARENA_ARRAY(p->arena, uint32_t, n);
    o.joined = ARENA_ARRAY(p->arena, bool, n);
    o.applied = ARENA_ARRAY(p->arena, bool, rel->sx_len + 1);
    o.at = ARENA_ARRAY(p->arena, uint32_t, rel->cols_len);
    memset(o.at, 0xff, rel->cols_len * sizeof(o.at[0]));
    uint32_t base = 0;
    for (uint32_t i = 0; i < n; i++) {
        o.rows[i] = estimate(p, rel->inputs[i]);
        o.inputs[i] = phys(p, rel->inputs[i]);
        o.base[i] = base;
        base += rel->inputs[i]->cols_len;
    }
    double before = p->kept;
    join_chain(&o);
    struct rel *all = lookup_all(&o, p->kept - before);
    if (all != NULL) {
        return all;
    }
    if (o.cur == NULL) {
        return rel_filter(p->arena, rel_unit(p->arena), rel->sx, rel->sx_len);
    }
    return rel_project(p->arena, o.cur, o.at, rel->cols_len);
}

/* LEFT, SEMI and ANTI keep their two sides: nothing may move across them. */
static struct rel *phys_join(struct phys *p, struct rel *rel)
{
    if (rel->join == REL_JOIN_INNER) {
        return inner(p, rel);
    }
    struct rel *left = phys(p, rel->inputs[0]), *right = phys(p, rel->inputs[1]);
    return binary(p, (enum rel_join)rel->join, left, right, rel->sx, rel->sx_len);
}

/* Operators other than joins stay as they are over physical inputs. */
static struct rel *phys_node(struct phys *p, struct rel *rel)
{
    if (rel->kind == REL_JOIN) {
        return phys_join(p, rel);
    }
    struct rel *copy = NULL;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        struct rel *in = phys(p, rel->inputs[i]);
        if (in != rel->inputs[i]) {
            copy = copy != NULL ? copy : rel_copy(p->arena, rel);
            copy->inputs[i] = in;
        }
    }
    return copy != NULL ? copy : rel;
}

/* Columns stay what they are: only how they come about changes. */
static struct rel *phys(struct phys *p, struct rel *rel)
{
    uint64_t key = (uint64_t)(uintptr_t)rel;
    struct rel *out = u64map_get(&p->memo, key);
    if (out == NULL) {
        out = phys_node(p, rel);
        u64map_put(&p->memo, key, out);
    }
    ASSERT(out->cols_len == rel->cols_len);
    return out;
}

struct rel *rel_physical(struct arena *arena, struct rel *rel)
{
    struct phys p = {.arena = arena};
    struct rel *out = phys(&p, rel);
    u64map_free(&p.memo);
    u64map_free(&p.rows);
    u64map_free(&p.flat);
    return out;
}
