/*
 * Scalar expressions: construction with the obvious simplifications, comparison, rewriting.
 *
 * Expressions are immutable trees that may share parts. A constructor gives the simplest form it
 * can see at once (x AND true is x, NOT NOT x is x), with SQL's three values: x AND false is false
 * even when x is NULL, but x AND NULL is not NULL when x is false, so that stays. Folding with
 * evaluation is fold.c's.
 *
 * Two kinds of rewriting:
 *
 *   sx_rewrite     replaces nodes of one level: columns by columns (sx_remap), by expressions
 *                  (sx_subst: a predicate moved below a MAP), by columns further right (sx_shift)
 *   sx_map_outer   replaces references that leave an expression or a relation, wherever they are
 *                  nested: each relation inside is one level, the right side of a join one more
 *
 * Walks treat shared parts as often as they are reached. sx_measure counts the same way and
 * analysis bounds it, so no walk is longer than SX_SIZE_MAX nodes; what substitution makes is
 * measured again (size 0 in a copy: not known).
 *
 * Two references are the same column when level and col agree, wherever they stand: comparing
 * expressions of different scopes is the caller's mistake.
 */
#include "ctrl/adapter/sql/sql_internal.h"

/* No location: whoever makes it from the user's text adds one. */
struct sx *sx_new(struct arena *arena, enum sx_kind kind, struct type type)
{
    ASSERT(kind >= SX_COL && kind <= SX_TABLE);
    struct sx *sx = ARENA_NEW(arena, struct sx);
    sx->kind = (uint8_t)kind;
    sx->type = type;
    sx->location = -1;
    return sx;
}

struct sx *sx_col(struct arena *arena, uint32_t col, struct type type)
{
    struct sx *sx = sx_new(arena, SX_COL, type);
    sx->col = col;
    return sx;
}

/* A literal is nullable exactly when it is NULL: folding relies on it. */
struct sx *sx_lit(struct arena *arena, struct type type, struct datum value)
{
    type.nullable = value.null;
    struct sx *sx = sx_new(arena, SX_LIT, type);
    sx->lit = value;
    return sx;
}

struct sx *sx_bool(struct arena *arena, bool value)
{
    return sx_lit(arena, type_of(TYPE_BOOL), (struct datum){.b = value});
}

struct sx *sx_null(struct arena *arena, struct type type)
{
    return sx_lit(arena, type, (struct datum){.null = true});
}

/* The text is copied; datum texts need no NUL, this one has it. */
struct sx *sx_text(struct arena *arena, const char *text)
{
    struct datum d = {.len = (uint32_t)strlen(text)};
    d.s = arena_strdup(arena, text);
    return sx_lit(arena, type_of(TYPE_TEXT), d);
}

struct sx *sx_int8(struct arena *arena, int64_t value)
{
    return sx_lit(arena, type_of(TYPE_INT8), (struct datum){.i = value});
}

/* The arguments are of the function's kinds; check.c asserts it between the passes. */
struct sx *sx_call(struct arena *arena, const struct func *func, struct type type, struct sx **args,
                   uint32_t args_len)
{
    ASSERT(func != NULL);
    struct sx *sx = sx_new(arena, SX_CALL, type);
    sx->func = func;
    sx->args = arena_memdup(arena, args, args_len * sizeof(args[0]));
    sx->args_len = args_len;
    return sx;
}

bool sx_is_lit(const struct sx *sx)
{
    return sx->kind == SX_LIT;
}

/* The literal, not an expression that is always so: folding makes one of the other. */
bool sx_is_true(const struct sx *sx)
{
    return sx->kind == SX_LIT && sx->type.kind == TYPE_BOOL && !sx->lit.null && sx->lit.b;
}

static bool is_false(const struct sx *sx)
{
    return sx->kind == SX_LIT && sx->type.kind == TYPE_BOOL && !sx->lit.null && !sx->lit.b;
}

bool sx_is_false_or_null(const struct sx *sx)
{
    return sx->kind == SX_LIT && (sx->lit.null || (sx->type.kind == TYPE_BOOL && !sx->lit.b));
}

/* By name: operators are functions of the catalogue. */
bool sx_is_op(const struct sx *sx, const char *name)
{
    ASSERT(sx != NULL && name != NULL);
    return sx->kind == SX_CALL && strcmp(sx->func->name, name) == 0;
}

/* Flat: AND of AND is one node, up to the number of arguments the engine takes. Order stays, as
 * arguments behind one that decides are not evaluated. */
static struct sx *boolean2(struct arena *arena, enum sx_kind kind, struct sx *a, struct sx *b)
{
    ASSERT(a->type.kind == TYPE_BOOL && b->type.kind == TYPE_BOOL);
    struct type type = type_of(TYPE_BOOL);
    type.nullable = a->type.nullable || b->type.nullable;
    struct sx *sx = sx_new(arena, kind, type);
    struct sxvec args = {0};
    struct sx *both[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        if (both[i]->kind == kind && both[i]->args_len + args.len < EXPR_ARGS_MAX - 1) {
            for (uint32_t j = 0; j < both[i]->args_len; j++) {
                sxvec_push(arena, &args, both[i]->args[j]);
            }
        } else {
            sxvec_push(arena, &args, both[i]);
        }
    }
    sx->args = args.items;
    sx->args_len = args.len;
    sx->location = a->location;
    return sx;
}

/* true is neutral, false decides whatever the other side is. */
struct sx *sx_and(struct arena *arena, struct sx *a, struct sx *b)
{
    ASSERT(a != NULL && b != NULL);
    if (sx_is_true(a) || is_false(b)) {
        return b;
    }
    if (sx_is_true(b) || is_false(a)) {
        return a;
    }
    return boolean2(arena, SX_AND, a, b);
}

/* false is neutral, true decides. */
struct sx *sx_or(struct arena *arena, struct sx *a, struct sx *b)
{
    ASSERT(a != NULL && b != NULL);
    if (sx_is_true(a) || is_false(b)) {
        return a;
    }
    if (sx_is_true(b) || is_false(a)) {
        return b;
    }
    return boolean2(arena, SX_OR, a, b);
}

/* NOT and IS NULL. */
static struct sx *unary(struct arena *arena, enum sx_kind kind, struct sx *a, bool nullable)
{
    ASSERT(a != NULL);
    struct type type = type_of(TYPE_BOOL);
    type.nullable = nullable;
    struct sx *sx = sx_new(arena, kind, type);
    sx->args = ARENA_ARRAY(arena, struct sx *, 1);
    sx->args[0] = a;
    sx->args_len = 1;
    sx->location = a->location;
    return sx;
}

/* NOT NULL is NULL; comparisons are not turned around, NaN and NULL make no difference then. */
struct sx *sx_not(struct arena *arena, struct sx *a)
{
    ASSERT(a->type.kind == TYPE_BOOL);
    if (a->kind == SX_NOT) {
        return a->args[0];
    }
    if (sx_is_true(a) || is_false(a)) {
        return sx_bool(arena, !a->lit.b);
    }
    if (a->kind == SX_LIT && a->lit.null) {
        return a;
    }
    return unary(arena, SX_NOT, a, a->type.nullable);
}

/*
 * Only literals are decided here: IS NULL of what cannot be NULL may still have to fail (fold.c).
 */
struct sx *sx_is_null(struct arena *arena, struct sx *a)
{
    if (a->kind == SX_LIT) {
        return sx_bool(arena, a->lit.null);
    }
    return unary(arena, SX_IS_NULL, a, false);
}

/* An argument that cannot be NULL hides what follows. */
struct sx *sx_coalesce(struct arena *arena, struct sx *a, struct sx *b)
{
    ASSERT(a->type.kind == b->type.kind);
    if (!a->type.nullable) {
        return a;
    }
    if (a->kind == SX_LIT && a->lit.null) {
        return b;
    }
    struct type type = a->type;
    type.nullable = b->type.nullable;
    struct sx *sx = sx_new(arena, SX_COALESCE, type);
    sx->args = ARENA_ARRAY(arena, struct sx *, 2);
    sx->args[0] = a;
    sx->args[1] = b;
    sx->args_len = 2;
    return sx;
}

/* CASE WHEN when THEN then ELSE otherwise END */
struct sx *sx_if(struct arena *arena, struct sx *when, struct sx *then, struct sx *otherwise)
{
    ASSERT(when->type.kind == TYPE_BOOL && then->type.kind == otherwise->type.kind);
    struct type type = then->type;
    type.nullable = then->type.nullable || otherwise->type.nullable;
    struct sx *sx = sx_new(arena, SX_CASE, type);
    sx->args = ARENA_ARRAY(arena, struct sx *, 3);
    sx->args[0] = when;
    sx->args[1] = then;
    sx->args[2] = otherwise;
    sx->args_len = 3;
    return sx;
}

/*
 * Nodes of the tree, remembered in the node. Saturates: shared parts may count exponentially often.
 */
uint32_t sx_measure(struct sx *sx)
{
    if (sx->size == 0) {
        uint64_t size = 1;
        for (uint32_t i = 0; i < sx->args_len; i++) {
            size += sx_measure(sx->args[i]);
        }
        sx->size = size > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)size;
    }
    ASSERT(sx->size > 0);
    return sx->size;
}

/* The leftmost location in a call: an operator's own is between its arguments. */
int sx_location(const struct sx *sx)
{
    int location = sx->location;
    for (uint32_t i = 0; sx->kind == SX_CALL && i < sx->args_len; i++) {
        int arg = sx_location(sx->args[i]);
        location = arg >= 0 && (arg < location || location < 0) ? arg : location;
    }
    return location;
}

/* The comparison for the kind, or the one for any kind. */
static const struct func *find_equal(const char *name, uint8_t kind)
{
    uint8_t args[2] = {kind, kind};
    const struct func *func = func_find(name, args, 2);
    if (func == NULL) {
        args[0] = args[1] = 0;
        func = func_find(name, args, 2);
    }
    ASSERT(func != NULL);
    return func;
}

/* Both sides are of one kind. The null-safe form is never NULL itself. */
struct sx *sx_equal(struct arena *arena, struct sx *a, struct sx *b, bool null_safe)
{
    ASSERT(a->type.kind == b->type.kind);
    struct type type = type_of(TYPE_BOOL);
    type.nullable = !null_safe && (a->type.nullable || b->type.nullable);
    const struct func *func = find_equal(null_safe ? "is_not_distinct_from" : "=", a->type.kind);
    struct sx *args[2] = {a, b};
    return sx_call(arena, func, type, args, 2);
}

static bool same_bound(const struct plan_bound *a, const struct plan_bound *b)
{
    return a->kind == b->kind && a->offset == b->offset;
}

/* All but the args. */
static bool same_window(const struct sx_window *a, const struct sx_window *b)
{
    const struct plan_window_call *x = &a->call, *y = &b->call;
    bool same = x->func == y->func && x->n == y->n && x->has_fallback == y->has_fallback &&
                x->n_of_row == y->n_of_row &&
                x->agg.func == y->agg.func && x->agg.has_filter == y->agg.has_filter &&
                x->frame.mode == y->frame.mode && x->frame.exclude == y->frame.exclude &&
                same_bound(&x->frame.start, &y->frame.start) &&
                same_bound(&x->frame.end, &y->frame.end) && a->keys_len == b->keys_len &&
                a->order_len == b->order_len;
    for (uint32_t i = 0; same && i < a->order_len; i++) {
        same = a->order[i].desc == b->order[i].desc &&
               a->order[i].nulls_first == b->order[i].nulls_first;
    }
    return same;
}

/* Same value for the same row: types of literals count, locations do not. Relabelling does not
 * change a value. False is always safe: it costs a second computation. */
bool sx_same(const struct sx *a, const struct sx *b)
{
    ASSERT(a != NULL && b != NULL);
    if (a == b) {
        return true;
    }
    if (a->kind == SX_RELABEL) {
        return sx_same(a->args[0], b);
    }
    if (b->kind == SX_RELABEL) {
        return sx_same(a, b->args[0]);
    }
    if (a->kind != b->kind || a->type.kind != b->type.kind || a->args_len != b->args_len ||
        a->col != b->col || a->level != b->level || a->func != b->func || a->sub != b->sub ||
        a->table != b->table) {
        return false;
    }
    if (a->kind == SX_LIT) {
        if (a->lit.null || b->lit.null) {
            return a->lit.null == b->lit.null;
        }
        if (a->type.kind == TYPE_NUMERIC && a->lit.n.scale != b->lit.n.scale) {
            return false; /* 1.0 and 1.00 print differently */
        }
        if (a->type.kind == TYPE_UNKNOWN) {
            return a->lit.len == b->lit.len && memcmp(a->lit.s, b->lit.s, a->lit.len) == 0;
        }
        return datum_equal(a->type.kind, &a->lit, &b->lit);
    }
    if (a->kind == SX_AGG && (a->agg.func != b->agg.func || a->agg.distinct != b->agg.distinct ||
                              a->agg.has_filter != b->agg.has_filter ||
                              a->agg.order_len != b->agg.order_len)) {
        return false;
    }
    if (a->kind == SX_WINDOW && !same_window(a->window, b->window)) {
        return false;
    }
    for (uint32_t i = 0; i < a->agg.order_len; i++) {
        if (a->agg.order[i].desc != b->agg.order[i].desc ||
            a->agg.order[i].nulls_first != b->agg.order[i].nulls_first) {
            return false;
        }
    }
    for (uint32_t i = 0; i < a->args_len; i++) {
        if (!sx_same(a->args[i], b->args[i])) {
            return false;
        }
    }
    return true;
}

/* Subqueries' own expressions are not looked into. */
bool sx_has_subquery(const struct sx *sx)
{
    ASSERT(sx != NULL);
    if (sx->kind == SX_EXISTS || sx->kind == SX_SCALAR) {
        return true;
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        if (sx_has_subquery(sx->args[i])) {
            return true;
        }
    }
    return false;
}

static bool is_integer(uint8_t kind)
{
    return kind == TYPE_INT2 || kind == TYPE_INT4 || kind == TYPE_INT8;
}

/*
 * A remainder or quotient of integers by a literal cannot fail: zero is refused, and so is -1, by
 * which the smallest integer cannot be divided.
 */
static bool divides_by_literal(const struct sx *sx)
{
    if ((!sx_is_op(sx, "%") && !sx_is_op(sx, "/")) || sx->args[1]->kind != SX_LIT) {
        return false;
    }
    const struct datum *by = &sx->args[1]->lit;
    return is_integer(sx->func->args[0]) && is_integer(sx->func->args[1]) && !by->null &&
           by->i != 0 && by->i != -1;
}

/*
 * May evaluating it raise an error (division, a cast from text)? Then it must not be computed for
 * rows that the statement would not have computed it for. Volatile ones alike.
 */
bool sx_can_fail(const struct sx *sx)
{
    ASSERT(sx != NULL);
    if (sx->kind == SX_CALL && (sx->func->flags & (FUNC_CAN_FAIL | FUNC_VOLATILE)) != 0 &&
        !divides_by_literal(sx)) {
        return true;
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        if (sx_can_fail(sx->args[i])) {
            return true;
        }
    }
    return false;
}

/* Doubling in the arena: what it grew out of is garbage until the arena goes. */
void sxvec_push(struct arena *arena, struct sxvec *vec, struct sx *sx)
{
    ASSERT(sx != NULL && vec->len <= vec->cap);
    if (vec->len == vec->cap) {
        uint32_t cap = vec->cap == 0 ? 4 : vec->cap * 2;
        struct sx **items = ARENA_ARRAY(arena, struct sx *, cap);
        if (vec->len > 0) {
            memcpy(items, vec->items, vec->len * sizeof(items[0]));
        }
        vec->items = items;
        vec->cap = cap;
    }
    vec->items[vec->len++] = sx;
}

/* NOT (a OR b) is two conjuncts, too: semi and anti joins want them apart. true has none. */
void sx_conjuncts(struct arena *arena, struct sx *sx, struct sxvec *out)
{
    ASSERT(sx->type.kind == TYPE_BOOL);
    if (sx->kind == SX_AND) {
        for (uint32_t i = 0; i < sx->args_len; i++) {
            sx_conjuncts(arena, sx->args[i], out);
        }
    } else if (sx->kind == SX_NOT && sx->args[0]->kind == SX_OR) {
        for (uint32_t i = 0; i < sx->args[0]->args_len; i++) {
            sx_conjuncts(arena, sx_not(arena, sx->args[0]->args[i]), out);
        }
    } else if (!sx_is_true(sx)) {
        sxvec_push(arena, out, sx);
    }
}

/* ---- rewriting ------------------------------------------------------------------------------- */

/* Top down: fn decides before its arguments are seen; what it returns is not entered again. */
struct sx *sx_rewrite(struct arena *arena, struct sx *sx, sx_fn fn, void *arg)
{
    ASSERT(sx != NULL && fn != NULL);
    struct sx *replaced = fn(arg, sx);
    if (replaced != NULL) {
        return replaced;
    }
    struct sx *copy = NULL;
    for (uint32_t i = 0; i < sx->args_len; i++) {
        struct sx *a = sx_rewrite(arena, sx->args[i], fn, arg);
        if (a != sx->args[i]) {
            if (copy == NULL) {
                copy = arena_memdup(arena, sx, sizeof(*sx));
                copy->size = 0;
                copy->args = arena_memdup(arena, sx->args, sx->args_len * sizeof(sx->args[0]));
            }
            copy->args[i] = a;
        }
    }
    return copy != NULL ? copy : sx;
}

/* One of the three: map, exprs, or delta. */
struct remap {
    struct arena *arena;
    const uint32_t *map;
    struct sx *const *exprs;
    int64_t delta;
};

/* Columns of outer levels are not this input's. */
static struct sx *remap_fn(void *arg, struct sx *sx)
{
    struct remap *r = arg;
    if (sx->kind != SX_COL || sx->level != 0) {
        return NULL;
    }
    if (r->exprs != NULL) {
        return r->exprs[sx->col];
    }
    uint32_t col = r->map != NULL ? r->map[sx->col] : (uint32_t)(sx->col + r->delta);
    ASSERT(col != UINT32_MAX);
    if (col == sx->col) {
        return sx;
    }
    struct sx *copy = arena_memdup(r->arena, sx, sizeof(*sx));
    copy->col = col;
    return copy;
}

/* UINT32_MAX in the map: a column that is gone, and which nobody may ask for. */
struct sx *sx_remap(struct arena *arena, struct sx *sx, const uint32_t *map)
{
    ASSERT(map != NULL);
    struct remap r = {.arena = arena, .map = map};
    return sx_rewrite(arena, sx, remap_fn, &r);
}

/* Columns moved by delta: the other side of a join, and back. */
struct sx *sx_shift(struct arena *arena, struct sx *sx, int64_t delta)
{
    ASSERT(sx != NULL);
    struct remap r = {.arena = arena, .delta = delta};
    return sx_rewrite(arena, sx, remap_fn, &r);
}

/* Columns replaced by what computes them, once per use. */
struct sx *sx_subst(struct arena *arena, struct sx *sx, struct sx *const *exprs)
{
    ASSERT(exprs != NULL);
    struct remap r = {.arena = arena, .exprs = exprs};
    return sx_rewrite(arena, sx, remap_fn, &r);
}

/* used has room for all columns of the input; marks are added. */
void sx_columns(const struct sx *sx, bool *used)
{
    ASSERT(sx != NULL && used != NULL);
    if (sx->kind == SX_COL && sx->level == 0) {
        used[sx->col] = true;
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        sx_columns(sx->args[i], used);
    }
}

/* ---- references that leave a subquery -------------------------------------------------------- */

static void sx_free_refs(const struct sx *sx, uint32_t depth, free_fn fn, void *arg);

/* depth: how many scopes lie between the relation and where the walk began. */
static void rel_free_refs_at(const struct rel *rel, uint32_t depth, free_fn fn, void *arg)
{
    ASSERT(rel != NULL && fn != NULL);
    if (rel->closed) {
        return;
    }
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        bool lateral = rel->kind == REL_JOIN && i > 0;
        rel_free_refs_at(rel->inputs[i], depth + (lateral ? 1 : 0), fn, arg);
    }
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        sx_free_refs(rel->sx[i], depth, fn, arg);
    }
}

static void sx_free_refs(const struct sx *sx, uint32_t depth, free_fn fn, void *arg)
{
    ASSERT(sx != NULL);
    if (sx->kind == SX_COL && sx->level > depth) {
        fn(arg, sx->level - depth, sx->col, sx->type);
    }
    if (sx->sub != NULL) {
        rel_free_refs_at(sx->sub, depth + 1, fn, arg);
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        sx_free_refs(sx->args[i], depth, fn, arg);
    }
}

/* Every reference once per mention; callers that want each column once remember them. */
void rel_free_refs(const struct rel *rel, free_fn fn, void *arg)
{
    rel_free_refs_at(rel, 0, fn, arg);
}

/* A walk of rel_map_outer or sx_map_outer; depth grows and shrinks with the nesting. */
struct outer_map {
    struct arena *arena;
    outer_fn fn;
    void *arg;
    uint32_t depth; /* references of a level above it leave */
    uint32_t base;  /* added to levels the callback sees: 1 from inside a rel, 0 from an sx */
};

static struct rel *rel_map_at(struct outer_map *m, struct rel *rel);

static struct sx *raise_level(struct arena *arena, struct sx *sx, uint32_t by);

/*
 * A reference that leaves is shown to fn as from the beginning of the walk, and its replacement
 * moved to where the reference stands.
 */
static struct sx *sx_map_at(struct outer_map *m, struct sx *sx)
{
    ASSERT(sx != NULL && m->depth >= m->base);
    if (sx->kind == SX_COL) {
        if (sx->level + 1 <= m->depth) {
            return sx;
        }
        struct sx *r = m->fn(m->arg, sx, sx->level - m->depth + m->base);
        return r == NULL ? sx : raise_level(m->arena, r, m->depth - m->base);
    }
    struct sx *copy = NULL;
    struct rel *sub = sx->sub;
    if (sub != NULL) {
        m->depth++;
        sub = rel_map_at(m, sub);
        m->depth--;
    }
    if (sub != sx->sub) {
        copy = arena_memdup(m->arena, sx, sizeof(*sx));
        copy->size = 0;
        copy->sub = sub;
        copy->args = arena_memdup(m->arena, sx->args, sx->args_len * sizeof(sx->args[0]));
    }
    for (uint32_t i = 0; i < sx->args_len; i++) {
        struct sx *a = sx_map_at(m, sx->args[i]);
        if (a != sx->args[i]) {
            if (copy == NULL) {
                copy = arena_memdup(m->arena, sx, sizeof(*sx));
                copy->size = 0; /* a replacement may be larger than a column */
                copy->args = arena_memdup(m->arena, sx->args, sx->args_len * sizeof(sx->args[0]));
            }
            copy->args[i] = a;
        }
    }
    return copy != NULL ? copy : sx;
}

/* Copies only what changes on the way to it; closed relations refer to nothing. */
static struct rel *rel_map_at(struct outer_map *m, struct rel *rel)
{
    ASSERT(rel != NULL && m->depth >= 1);
    struct rel *copy = NULL;
    if (rel->closed) {
        return rel;
    }
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        uint32_t lateral = rel->kind == REL_JOIN && i > 0 ? 1 : 0;
        m->depth += lateral;
        struct rel *in = rel_map_at(m, rel->inputs[i]);
        m->depth -= lateral;
        if (in != rel->inputs[i]) {
            copy = copy != NULL ? copy : rel_copy(m->arena, rel);
            copy->inputs[i] = in;
        }
    }
    for (uint32_t i = 0; i < rel->sx_len; i++) {
        struct sx *sx = sx_map_at(m, rel->sx[i]);
        if (sx != rel->sx[i]) {
            copy = copy != NULL ? copy : rel_copy(m->arena, rel);
            copy->sx[i] = sx;
        }
    }
    return copy != NULL ? copy : rel;
}

/*
 * Inside a rel, a reference of level l (seen from the rel's own expressions) leaves when l >= 1.
 * depth counts 1 there, so that the test in sx_map_at is the same for both entry points.
 */
struct rel *rel_map_outer(struct arena *arena, struct rel *rel, outer_fn fn, void *arg)
{
    struct outer_map m = {.arena = arena, .fn = fn, .arg = arg, .depth = 1, .base = 1};
    return rel_map_at(&m, rel);
}

/* For an expression its own input is outside as well: level 0. */
struct sx *sx_map_outer(struct arena *arena, struct sx *sx, outer_fn fn, void *arg)
{
    struct outer_map m = {.arena = arena, .fn = fn, .arg = arg};
    return sx_map_at(&m, sx);
}

/* References moved by so many scopes. */
struct shift_levels {
    struct arena *arena;
    int64_t by;
};

static struct sx *shift_level(void *arg, struct sx *col, uint32_t level)
{
    const struct shift_levels *s = arg;
    ASSERT(level + s->by >= 0);
    struct sx *copy = arena_memdup(s->arena, col, sizeof(*col));
    copy->level = (uint32_t)(level + s->by);
    return copy;
}

/* A relation moved under so many more scopes, or out of some. */
struct rel *rel_shift_levels(struct arena *arena, struct rel *rel, int64_t by)
{
    struct shift_levels s = {.arena = arena, .by = by};
    return by == 0 ? rel : rel_map_outer(arena, rel, shift_level, &s);
}

struct sx *sx_shift_levels(struct arena *arena, struct sx *sx, int64_t by)
{
    struct shift_levels s = {.arena = arena, .by = by};
    return by == 0 ? sx : sx_map_outer(arena, sx, shift_level, &s);
}

/* A replacement made for the outside, moved `by` subqueries deeper. */
static struct sx *raise_level(struct arena *arena, struct sx *sx, uint32_t by)
{
    return sx_shift_levels(arena, sx, by);
}
