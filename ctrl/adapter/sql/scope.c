/*
 * Joins within recursions: the engine has inner ones there only, so the others are made of them.
 *
 *   L SEMI JOIN R    L JOIN DISTINCT R's keys, L's columns
 *   L ANTI JOIN R    L - (L SEMI JOIN R)
 *   L LEFT JOIN R    L JOIN R + (L ANTI JOIN R, padded with NULLs)
 *
 * Runs behind phys.c: joins have two inputs and keys only. What depends on no variable is outside
 * of the recursion and stays as it is.
 */
#include "ctrl/adapter/sql/sql_internal.h"

struct scope_pass {
    struct arena *arena;
    struct u64map memo;   /* rel -> what became of it */
    struct u64map inside; /* rel -> 1: within no recursion, 2: within one */
};

/* What leaves a recursion is outside. */
static bool is_inside(struct scope_pass *p, const struct rel *rel)
{
    uint64_t key = (uint64_t)(uintptr_t)rel;
    uintptr_t known = (uintptr_t)u64map_get(&p->inside, key);
    if (known == 0) {
        bool inside = rel->kind == REL_VARIABLE;
        for (uint32_t i = 0; i < rel->inputs_len && rel->kind != REL_LEAVE; i++) {
            inside = is_inside(p, rel->inputs[i]) || inside;
        }
        known = inside ? 2 : 1;
        u64map_put(&p->inside, key, (void *)known);
    }
    return known == 2;
}

/* The left rows that have a partner. Without keys any row of the right side is one. */
static struct rel *semi(struct scope_pass *p, struct rel *left, struct rel *right,
                        struct sx *const *preds, uint32_t preds_len)
{
    ASSERT(preds_len == 0 || preds != NULL);
    struct arena *a = p->arena;
    uint32_t l = left->cols_len, total = l + right->cols_len, n = 0;
    bool *used = ARENA_ARRAY(a, bool, total + 1);
    uint32_t *map = ARENA_ARRAY(a, uint32_t, total + 1);
    uint32_t *cols = ARENA_ARRAY(a, uint32_t, total + 1);
    for (uint32_t i = 0; i < preds_len; i++) {
        sx_columns(preds[i], used);
    }
    for (uint32_t c = 0; c < total; c++) {
        map[c] = c < l ? c : l + n;
        if (c >= l && used[c]) {
            cols[n++] = c - l;
        }
    }
    if (n == 0) {
        struct sx *some = sx_bool(a, true);
        right = rel_map(a, right, &some, 1);
        cols[n++] = right->cols_len - 1;
    }
    struct sx **moved = ARENA_ARRAY(a, struct sx *, preds_len + 1);
    for (uint32_t i = 0; i < preds_len; i++) {
        moved[i] = sx_remap(a, preds[i], map);
    }
    struct rel *keys = rel_distinct(a, rel_project(a, right, cols, n));
    struct rel *join = rel_join2(a, REL_JOIN_INNER, left, keys, moved, preds_len);
    return rel_prefix(a, join, l);
}

static struct rel *anti(struct scope_pass *p, struct rel *left, struct rel *right,
                        struct sx *const *preds, uint32_t preds_len)
{
    struct rel *there = semi(p, left, right, preds, preds_len);
    return rel_union2(p->arena, left, rel_negate(p->arena, there));
}

static struct rel *left_join(struct scope_pass *p, const struct rel *rel)
{
    ASSERT(rel->join == REL_JOIN_LEFT && rel->inputs_len == 2);
    struct rel *left = rel->inputs[0], *right = rel->inputs[1];
    struct sxvec nulls = {0};
    for (uint32_t i = left->cols_len; i < rel->cols_len; i++) {
        sxvec_push(p->arena, &nulls, sx_null(p->arena, rel->types[i]));
    }
    struct rel *inner =
        rel_join2(p->arena, REL_JOIN_INNER, left, right, rel->sx, rel->sx_len);
    struct rel *alone = anti(p, left, right, rel->sx, rel->sx_len);
    return rel_union2(p->arena, inner, rel_map(p->arena, alone, nulls.items, nulls.len));
}

static struct rel *rewrite(struct scope_pass *p, struct rel *rel)
{
    uint64_t key = (uint64_t)(uintptr_t)rel;
    struct rel *out = u64map_get(&p->memo, key);
    if (out != NULL) {
        return out;
    }
    out = rel;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        struct rel *in = rewrite(p, rel->inputs[i]);
        if (in != rel->inputs[i]) {
            out = out != rel ? out : rel_copy(p->arena, rel);
            out->inputs[i] = in;
        }
    }
    if (rel->kind == REL_JOIN && rel->join != REL_JOIN_INNER && is_inside(p, rel)) {
        ASSERT(rel->inputs_len == 2 && rel->join != REL_JOIN_FULL);
        struct rel *left = out->inputs[0], *right = out->inputs[1];
        out = rel->join == REL_JOIN_LEFT ? left_join(p, out)
              : rel->join == REL_JOIN_SEMI
                  ? semi(p, left, right, out->sx, out->sx_len)
                  : anti(p, left, right, out->sx, out->sx_len);
    }
    ASSERT(out->cols_len == rel->cols_len);
    u64map_put(&p->memo, key, out);
    return out;
}

struct rel *rel_recursive_joins(struct arena *arena, struct rel *rel)
{
    struct scope_pass p = {.arena = arena};
    struct rel *out = rewrite(&p, rel);
    u64map_free(&p.memo);
    u64map_free(&p.inside);
    return out;
}
