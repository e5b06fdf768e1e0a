/*
 * Inner joins by lookups (PLAN_LOOKUP in core/engine/plan.h): no intermediate result is kept, and
 * an index of the cluster is read where it is.
 *
 *   t JOIN s ON t.a = s.a JOIN r ON s.b = r.b, with indexes on s(a), s(b), r(b)
 *
 *   t's rows:     s through t by a, r through t by b
 *   s's changes:  t before t by a, r through t by b      (only t is arranged anew)
 *   r's changes:  s before t by b, t before t by a
 *
 * One path an input, put together by a union. Each goes on to an input that an equality of columns
 * connects with what it has: one with a fitting index first, then the smaller one. The input whose
 * path carries the snapshot reads all others through t: one that is no index, whose rows come
 * anyway, while an index would be scanned for it; then the one with the fewest rows.
 *
 * An index fits when each of its keys equals a column the path has; other equalities become filters
 * behind the lookup, as do the predicates that stood between the index and the join. An input
 * counts as indexed only when every path finds a fitting index: then it is not arranged at all.
 *
 * In two steps, since projections are pruned in between: rel_lookup_join decides, before, and makes
 * one JOIN that knows its paths; rel_expand_lookups makes ARRANGE and LOOKUP of it.
 */
#include "ctrl/adapter/sql/sql_internal.h"

/* A stage of a path. */
struct step {
    uint32_t input;                /* what is looked up in */
    const struct sql_index *index; /* NULL: an arrangement of the plan's own */
    uint32_t *preds;               /* the join's equalities, in the order of the keys */
    uint32_t preds_len;
};

/* How a JOIN of many inputs is done. */
struct rel_lookups {
    const struct sql_index **index; /* by input: what its path begins with; NULL: no index */
    struct step **paths;            /* by input: a stage for each other input */
    uint32_t last;                  /* whose path has the snapshot */
};

/* ---- planning -------------------------------------------------------------------------------- */

/* An index import below predicates and projections only. */
struct lifted {
    struct rel *get;
    uint32_t *cols;     /* column -> the import's */
    struct sxvec preds; /* over the import's */
};

/* An equality of columns of two inputs; preds that are not one have no sides. */
struct edge {
    bool is_edge;
    uint32_t side[2]; /* inputs */
    uint32_t col[2];  /* of them */
};

struct planning {
    struct arena *arena;
    struct rel *const *inputs;
    const double *rows;
    uint32_t n;
    struct edge *edges; /* by predicate */
    uint32_t edges_len;
    struct lifted *lifted; /* by input */
    bool *indexed;         /* by input: still to be read from indexes only */
};

static bool lift(struct arena *arena, struct rel *rel, struct lifted *out)
{
    if (rel->kind == REL_GET && rel->is_index) {
        *out = (struct lifted){.get = rel, .cols = ARENA_ARRAY(arena, uint32_t, rel->cols_len)};
        for (uint32_t c = 0; c < rel->cols_len; c++) {
            out->cols[c] = c;
        }
        return true;
    }
    if ((rel->kind != REL_FILTER && rel->kind != REL_PROJECT) ||
        !lift(arena, rel->inputs[0], out)) {
        return false;
    }
    for (uint32_t i = 0; rel->kind == REL_FILTER && i < rel->sx_len; i++) {
        if (sx_has_now(rel->sx[i])) {
            return false;
        }
        sxvec_push(arena, &out->preds, sx_remap(arena, rel->sx[i], out->cols));
    }
    if (rel->kind == REL_PROJECT) {
        uint32_t *cols = ARENA_ARRAY(arena, uint32_t, rel->cols_len);
        for (uint32_t c = 0; c < rel->cols_len; c++) {
            cols[c] = out->cols[rel->cols[c]];
        }
        out->cols = cols;
    }
    return true;
}

/* Which input a column of the join is of; *col: there. */
static uint32_t input_of(struct rel *const *inputs, uint32_t col, uint32_t *out)
{
    uint32_t i = 0;
    for (; col >= inputs[i]->cols_len; i++) {
        col -= inputs[i]->cols_len;
    }
    ASSERT(col < inputs[i]->cols_len);
    *out = col;
    return i;
}

/* Null-safe equality that no NULL can reach is equality. */
static struct edge edge_of(const struct planning *p, const struct sx *sx)
{
    struct edge edge = {0};
    bool safe = sx_is_op(sx, "is_not_distinct_from");
    if ((!safe && !sx_is_op(sx, "=")) || sx->args_len != 2 || sx->args[0]->kind != SX_COL ||
        sx->args[1]->kind != SX_COL || sx->args[0]->type.kind != sx->args[1]->type.kind) {
        return edge;
    }
    for (int s = 0; s < 2; s++) {
        edge.side[s] = input_of(p->inputs, sx->args[s]->col, &edge.col[s]);
    }
    bool nulls = p->inputs[edge.side[0]]->types[edge.col[0]].nullable &&
                 p->inputs[edge.side[1]]->types[edge.col[1]].nullable;
    edge.is_edge = edge.side[0] != edge.side[1] && !(safe && nulls);
    return edge;
}

/* The first equality of the input's column (of the import's, when lifted) with what is there. */
static uint32_t edge_to(const struct planning *p, const bool *there, uint32_t input, uint32_t col,
                        bool of_import)
{
    for (uint32_t i = 0; i < p->edges_len; i++) {
        const struct edge *e = &p->edges[i];
        for (int s = 0; e->is_edge && s < 2; s++) {
            uint32_t own = of_import && e->side[s] == input ? p->lifted[input].cols[e->col[s]]
                                                            : e->col[s];
            if (e->side[s] == input && there[e->side[1 - s]] && own == col) {
                return i;
            }
        }
    }
    return UINT32_MAX;
}

/* CREATE INDEX takes a column twice. */
static uint32_t distinct_keys(const struct sql_index *index)
{
    uint32_t distinct = 0;
    for (uint32_t k = 0; k < index->keys_len; k++) {
        bool seen = false;
        for (uint32_t j = 0; j < k && !seen; j++) {
            seen = index->keys[j] == index->keys[k];
        }
        distinct += seen ? 0 : 1;
    }
    return distinct;
}

/* Of the indexes that fit the one with the most columns: it finds the fewest rows. */
static void choose_index(const struct planning *p, const bool *there, struct step *step)
{
    const struct sql_relation *relation = p->lifted[step->input].get->relation;
    ASSERT(!there[step->input] && step->index == NULL);
    for (uint32_t i = 0; i < relation->indexes_len; i++) {
        const struct sql_index *index = &relation->indexes[i];
        uint32_t *preds = ARENA_ARRAY(p->arena, uint32_t, index->keys_len);
        bool fits = step->index == NULL || distinct_keys(index) > distinct_keys(step->index);
        for (uint32_t k = 0; fits && k < index->keys_len; k++) {
            preds[k] = edge_to(p, there, step->input, index->keys[k], true);
            fits = preds[k] != UINT32_MAX;
        }
        if (fits && index->keys_len > 0) {
            step->index = index;
            step->preds = preds;
            step->preds_len = index->keys_len;
        }
    }
}

/* All columns that equal something there, in their order: so that paths share arrangements. */
static void choose_keys(const struct planning *p, const bool *there, struct step *step)
{
    uint32_t cols = p->inputs[step->input]->cols_len;
    ASSERT(!there[step->input] && step->preds_len == 0);
    step->preds = ARENA_ARRAY(p->arena, uint32_t, cols);
    for (uint32_t c = 0; c < cols; c++) {
        uint32_t pred = edge_to(p, there, step->input, c, false);
        if (pred != UINT32_MAX) {
            step->preds[step->preds_len++] = pred;
        }
    }
}

/* Whether a is the better next stage. */
static bool is_better(const struct planning *p, const struct step *a, const struct step *b)
{
    if ((a->index != NULL) != (b->index != NULL)) {
        return a->index != NULL;
    }
    return p->rows[a->input] < p->rows[b->input];
}

/* False when some input is not connected by equalities. */
static bool plan_path(const struct planning *p, uint32_t path, struct step *steps)
{
    bool *there = ARENA_ARRAY(p->arena, bool, p->n);
    there[path] = true;
    for (uint32_t done = 0; done + 1 < p->n; done++) {
        struct step best = {.input = UINT32_MAX};
        for (uint32_t i = 0; i < p->n; i++) {
            struct step step = {.input = i};
            if (there[i]) {
                continue;
            }
            if (p->indexed[i]) {
                choose_index(p, there, &step);
            }
            if (step.index == NULL) {
                choose_keys(p, there, &step);
            }
            if (step.preds_len > 0 && (best.input == UINT32_MAX || is_better(p, &step, &best))) {
                best = step;
            }
        }
        if (best.input == UINT32_MAX) {
            return false;
        }
        there[best.input] = true;
        steps[done] = best;
    }
    return true;
}

/* Again with fewer indexed inputs until every path finds its indexes. */
static bool plan_paths(struct planning *p, struct rel_lookups *out)
{
    bool again = true;
    while (again) {
        again = false;
        for (uint32_t i = 0; i < p->n; i++) {
            out->index[i] = NULL;
        }
        for (uint32_t i = 0; i < p->n; i++) {
            if (!plan_path(p, i, out->paths[i])) {
                return false;
            }
            for (uint32_t s = 0; s + 1 < p->n; s++) {
                const struct step *step = &out->paths[i][s];
                again = again || (p->indexed[step->input] && step->index == NULL);
                p->indexed[step->input] = step->index != NULL && p->indexed[step->input];
                out->index[step->input] = step->index;
            }
        }
    }
    return true;
}

static uint32_t choose_last(const struct planning *p)
{
    uint32_t last = 0;
    for (uint32_t i = 1; i < p->n; i++) {
        bool other = p->indexed[i] != p->indexed[last];
        last = (other ? p->indexed[last] : p->rows[i] < p->rows[last]) ? i : last;
    }
    return last;
}

/* The column of an input that a key of the stage is. */
static uint32_t key_col(const struct planning *p, const struct step *step, uint32_t k)
{
    const struct edge *e = &p->edges[step->preds[k]];
    ASSERT(e->is_edge && (e->side[0] == step->input || e->side[1] == step->input));
    return e->col[e->side[1] == step->input ? 1 : 0];
}

static bool same_keys(const struct planning *p, const struct step *a, const struct step *b)
{
    bool same = a->input == b->input && a->preds_len == b->preds_len;
    for (uint32_t k = 0; same && k < a->preds_len; k++) {
        same = key_col(p, a, k) == key_col(p, b, k);
    }
    return same;
}

/* Rows to be kept in arrangements of the plan's own: each of them once. */
static double rows_arranged(const struct planning *p, const struct rel_lookups *l)
{
    double rows = 0;
    uint32_t stages = p->n * (p->n - 1);
    for (uint32_t i = 0; i < stages; i++) {
        const struct step *step = &l->paths[i / (p->n - 1)][i % (p->n - 1)];
        bool known = step->index != NULL;
        for (uint32_t j = 0; j < i && !known; j++) {
            known = same_keys(p, step, &l->paths[j / (p->n - 1)][j % (p->n - 1)]);
        }
        rows += known ? 0 : p->rows[step->input];
    }
    return rows;
}

/* The join over the imports themselves, and above it the columns that were asked for. */
static struct rel *build_join(const struct planning *p, struct sx *const *preds,
                              struct rel_lookups *l)
{
    struct arena *a = p->arena;
    struct sxvec all = {0}, lifted = {0};
    uint32_t width = 0, total = 0, at = 0;
    struct rel **inputs = ARENA_ARRAY(a, struct rel *, p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        inputs[i] = p->indexed[i] ? p->lifted[i].get : p->inputs[i];
        width += inputs[i]->cols_len;
        total += p->inputs[i]->cols_len;
    }
    uint32_t *map = ARENA_ARRAY(a, uint32_t, total);
    struct rel *join = rel_new(a, REL_JOIN, width);
    width = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        for (uint32_t c = 0; c < p->inputs[i]->cols_len; c++) {
            map[at++] = width + (p->indexed[i] ? p->lifted[i].cols[c] : c);
        }
        for (uint32_t k = 0; p->indexed[i] && k < p->lifted[i].preds.len; k++) {
            sxvec_push(a, &lifted, sx_shift(a, p->lifted[i].preds.items[k], width));
        }
        memcpy(join->types + width, inputs[i]->types,
               inputs[i]->cols_len * sizeof(join->types[0]));
        width += inputs[i]->cols_len;
    }
    for (uint32_t i = 0; i < p->edges_len; i++) { /* in their order: stages count them */
        sxvec_push(a, &all, sx_remap(a, preds[i], map));
    }
    for (uint32_t i = 0; i < lifted.len; i++) {
        sxvec_push(a, &all, lifted.items[i]);
    }
    ASSERT(width == join->cols_len && at == total);
    join->join = REL_JOIN_INNER;
    join->inputs = inputs;
    join->inputs_len = p->n;
    join->sx = all.items;
    join->sx_len = all.len;
    join->lookups = l;
    return rel_project(a, join, map, total);
}

/*
 * Rows that go with the time, without a change of an input, would go from the paths one by one and
 * meet other inputs' changes of that time twice: such predicates stand below all of it or above.
 */
struct rel *rel_lookup_join(struct arena *arena, struct rel *const *inputs, const double *rows,
                            uint32_t n, struct sx *const *preds, uint32_t preds_len,
                            struct lookup_cost *cost)
{
    ASSERT(n >= 2);
    struct sxvec fixed = {0}, moving = {0};
    for (uint32_t i = 0; i < preds_len; i++) {
        sxvec_push(arena, sx_has_now(preds[i]) ? &moving : &fixed, preds[i]);
    }
    struct planning p = {
        .arena = arena, .inputs = inputs, .rows = rows, .n = n, .edges_len = fixed.len};
    p.edges = ARENA_ARRAY(arena, struct edge, fixed.len);
    p.lifted = ARENA_ARRAY(arena, struct lifted, n);
    p.indexed = ARENA_ARRAY(arena, bool, n);
    for (uint32_t i = 0; i < fixed.len; i++) {
        p.edges[i] = edge_of(&p, fixed.items[i]);
    }
    struct rel_lookups *l = ARENA_NEW(arena, struct rel_lookups);
    l->index = ARENA_ARRAY(arena, const struct sql_index *, n);
    l->paths = ARENA_ARRAY(arena, struct step *, n);
    for (uint32_t i = 0; i < n; i++) {
        p.indexed[i] = lift(arena, inputs[i], &p.lifted[i]);
        l->paths[i] = ARENA_ARRAY(arena, struct step, n - 1);
    }
    if (!plan_paths(&p, l)) {
        return NULL;
    }
    l->last = choose_last(&p);
    *cost = (struct lookup_cost){.rows = rows_arranged(&p, l)};
    for (uint32_t i = 0; i < n; i++) {
        cost->indexed += p.indexed[i] ? 1 : 0;
    }
    return rel_filter(arena, build_join(&p, fixed.items, l), moving.items, moving.len);
}

bool rel_reads_index(const struct rel *join, uint32_t input)
{
    ASSERT(join->lookups != NULL && input < join->inputs_len);
    return join->lookups->index[input] != NULL;
}

/* ---- expansion ------------------------------------------------------------------------------- */

struct expansion {
    struct arena *arena;
    struct u64map memo; /* rel -> what it became */
};

/* A path under construction. */
struct path {
    struct arena *arena;
    const struct rel *join;
    const bool *need; /* columns of the join */
    uint32_t *base;   /* first column of each input */
    struct rel *cur;
    uint32_t *at;     /* column of the join -> column of cur; UINT32_MAX: not there */
    bool *applied;    /* by predicate */
};

static struct rel *expand(struct expansion *e, struct rel *rel);

/* The import of an index that is looked up in, or begins a path. */
static struct rel *get_by(struct arena *arena, const struct rel *get, const struct sql_index *index)
{
    ASSERT(get->kind == REL_GET && get->is_index);
    struct rel *copy = rel_copy(arena, get);
    copy->id = index->id;
    return copy;
}

static struct rel *arrange(struct path *p, struct rel *in, uint32_t *keys, uint32_t keys_len)
{
    ASSERT(keys_len > 0 && in->cols_len > 0);
    struct rel *rel = rel_new(p->arena, REL_ARRANGE, in->cols_len);
    memcpy(rel->types, in->types, in->cols_len * sizeof(in->types[0]));
    rel->inputs = ARENA_ARRAY(p->arena, struct rel *, 1);
    rel->inputs[0] = in;
    rel->inputs_len = 1;
    rel->cols = keys;
    rel->keys_len = keys_len;
    return rel;
}

static struct rel *lookup(struct path *p, struct rel *of, uint32_t *keys, uint32_t keys_len)
{
    ASSERT(of->kind == REL_ARRANGE || of->kind == REL_GET);
    struct rel *rel = rel_new(p->arena, REL_LOOKUP, p->cur->cols_len + of->cols_len);
    memcpy(rel->types, p->cur->types, p->cur->cols_len * sizeof(rel->types[0]));
    memcpy(rel->types + p->cur->cols_len, of->types, of->cols_len * sizeof(rel->types[0]));
    rel->inputs = ARENA_ARRAY(p->arena, struct rel *, 2);
    rel->inputs[0] = p->cur;
    rel->inputs[1] = of;
    rel->inputs_len = 2;
    rel->cols = keys;
    rel->keys_len = keys_len;
    return rel;
}

/*
 * Predicates as soon as all their columns are there; those that may fail at the end of the path
 * (last), behind all others: then each path fails for the rows of the whole join, and errors that
 * came by one path go by another.
 */
static void filter(struct path *p, bool last)
{
    struct sxvec ready = {0};
    for (uint32_t i = 0; i < p->join->sx_len; i++) {
        bool *used = ARENA_ARRAY(p->arena, bool, p->join->cols_len + 1);
        bool all = !p->applied[i] && sx_can_fail(p->join->sx[i]) == last;
        sx_columns(p->join->sx[i], used);
        for (uint32_t c = 0; c < p->join->cols_len && all; c++) {
            all = !used[c] || p->at[c] != UINT32_MAX;
        }
        if (all) {
            p->applied[i] = true;
            sxvec_push(p->arena, &ready, sx_remap(p->arena, p->join->sx[i], p->at));
        }
    }
    p->cur = rel_filter(p->arena, p->cur, ready.items, ready.len);
}

/* Only what is still asked for goes on, but one column at least. */
static void narrow(struct path *p)
{
    uint32_t total = p->join->cols_len, len = 0;
    bool *used = ARENA_ARRAY(p->arena, bool, total + 1);
    uint32_t *cols = ARENA_ARRAY(p->arena, uint32_t, total + 1);
    memcpy(used, p->need, total);
    for (uint32_t i = 0; i < p->join->sx_len; i++) {
        if (!p->applied[i]) {
            sx_columns(p->join->sx[i], used);
        }
    }
    for (uint32_t c = 0; c < total; c++) {
        if (used[c] && p->at[c] != UINT32_MAX) {
            cols[len++] = p->at[c];
        }
    }
    if (len == 0 || len == p->cur->cols_len) {
        return;
    }
    p->cur = rel_project(p->arena, p->cur, cols, len);
    len = 0;
    for (uint32_t c = 0; c < total; c++) {
        bool stays = used[c] && p->at[c] != UINT32_MAX;
        p->at[c] = stays ? len++ : UINT32_MAX;
    }
}

/* The key columns of a stage: of the path, and of what is looked up in. */
static void stage_keys(const struct path *p, const struct step *step, uint32_t *from, uint32_t *to)
{
    uint32_t base = p->base[step->input];
    uint32_t end = base + p->join->inputs[step->input]->cols_len;
    for (uint32_t k = 0; k < step->preds_len; k++) {
        const struct sx *sx = p->join->sx[step->preds[k]];
        uint32_t a = sx->args[0]->col, b = sx->args[1]->col;
        bool first = a >= base && a < end;
        from[k] = p->at[first ? b : a];
        to[k] = (first ? a : b) - base;
        ASSERT(from[k] != UINT32_MAX && to[k] < end - base);
        p->applied[step->preds[k]] = true;
    }
}

/* Inputs are numbered with the last one at the end: who is behind is read before the time. */
static uint32_t rank(const struct rel_lookups *l, uint32_t input)
{
    return input == l->last ? UINT32_MAX : input;
}

static void add_stage(struct expansion *e, struct path *p, uint32_t path, const struct step *step)
{
    const struct rel_lookups *l = p->join->lookups;
    uint32_t *from = ARENA_ARRAY(p->arena, uint32_t, step->preds_len);
    uint32_t *to = ARENA_ARRAY(p->arena, uint32_t, step->preds_len);
    stage_keys(p, step, from, to);
    struct rel *in = p->join->inputs[step->input];
    struct rel *of = step->index != NULL ? get_by(p->arena, in, step->index)
                                         : arrange(p, expand(e, in), to, step->preds_len);
    uint32_t width = p->cur->cols_len;
    p->cur = lookup(p, of, from, step->preds_len);
    p->cur->before = rank(l, step->input) > rank(l, path);
    p->cur->later = path != l->last;
    for (uint32_t c = 0; c < in->cols_len; c++) {
        p->at[p->base[step->input] + c] = width + c;
    }
    filter(p, false);
    narrow(p);
}

/* The needed columns of the join, in their order, for the changes of one input. */
static struct rel *make_path(struct expansion *e, const struct rel *join, const bool *need,
                             uint32_t *base, uint32_t path)
{
    const struct rel_lookups *l = join->lookups;
    struct path p = {.arena = e->arena, .join = join, .need = need, .base = base};
    uint32_t *cols = ARENA_ARRAY(e->arena, uint32_t, join->cols_len + 1), len = 0;
    p.at = ARENA_ARRAY(e->arena, uint32_t, join->cols_len + 1);
    p.applied = ARENA_ARRAY(e->arena, bool, join->sx_len + 1);
    memset(p.at, 0xff, join->cols_len * sizeof(p.at[0]));
    struct rel *in = join->inputs[path];
    p.cur = l->index[path] != NULL ? get_by(e->arena, in, l->index[path]) : expand(e, in);
    for (uint32_t c = 0; c < in->cols_len; c++) {
        p.at[base[path] + c] = c;
    }
    filter(&p, false);
    narrow(&p);
    for (uint32_t s = 0; s + 1 < join->inputs_len; s++) {
        add_stage(e, &p, path, &l->paths[path][s]);
    }
    filter(&p, true);
    for (uint32_t c = 0; c < join->cols_len; c++) {
        if (need[c]) {
            ASSERT(p.at[c] < p.cur->cols_len);
            cols[len++] = p.at[c];
        }
    }
    for (uint32_t i = 0; i < join->sx_len; i++) {
        ASSERT(p.applied[i]);
    }
    return rel_project(e->arena, p.cur, cols, len);
}

/* need: of the join's columns; what comes out has those. */
static struct rel *expand_join(struct expansion *e, const struct rel *join, const bool *need)
{
    uint32_t *base = ARENA_ARRAY(e->arena, uint32_t, join->inputs_len);
    for (uint32_t i = 1; i < join->inputs_len; i++) {
        base[i] = base[i - 1] + join->inputs[i - 1]->cols_len;
    }
    struct rel *all = make_path(e, join, need, base, 0);
    for (uint32_t i = 1; i < join->inputs_len; i++) {
        all = rel_union2(e->arena, all, make_path(e, join, need, base, i));
    }
    return all;
}

/* A projection says which columns of the join below it are needed. */
static struct rel *expand_project(struct expansion *e, struct rel *rel)
{
    const struct rel *join = rel->inputs[0];
    bool *need = ARENA_ARRAY(e->arena, bool, join->cols_len + 1);
    uint32_t *at = ARENA_ARRAY(e->arena, uint32_t, join->cols_len + 1), len = 0;
    uint32_t *cols = ARENA_ARRAY(e->arena, uint32_t, rel->cols_len);
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        need[rel->cols[i]] = true;
    }
    for (uint32_t c = 0; c < join->cols_len; c++) {
        at[c] = len;
        len += need[c] ? 1 : 0;
    }
    for (uint32_t i = 0; i < rel->cols_len; i++) {
        cols[i] = at[rel->cols[i]];
    }
    return rel_project(e->arena, expand_join(e, join, need), cols, rel->cols_len);
}

static bool is_lookup_join(const struct rel *rel)
{
    return rel->kind == REL_JOIN && rel->lookups != NULL;
}

static struct rel *expand_node(struct expansion *e, struct rel *rel)
{
    if (rel->kind == REL_PROJECT && is_lookup_join(rel->inputs[0]) && rel->cols_len > 0) {
        return expand_project(e, rel);
    }
    if (is_lookup_join(rel)) {
        bool *need = ARENA_ARRAY(e->arena, bool, rel->cols_len + 1);
        memset(need, 1, rel->cols_len);
        return expand_join(e, rel, need);
    }
    struct rel *copy = NULL;
    for (uint32_t i = 0; i < rel->inputs_len; i++) {
        struct rel *in = expand(e, rel->inputs[i]);
        if (in != rel->inputs[i]) {
            copy = copy != NULL ? copy : rel_copy(e->arena, rel);
            copy->inputs[i] = in;
        }
    }
    return copy != NULL ? copy : rel;
}

static struct rel *expand(struct expansion *e, struct rel *rel)
{
    uint64_t key = (uint64_t)(uintptr_t)rel;
    struct rel *out = u64map_get(&e->memo, key);
    if (out == NULL) {
        out = expand_node(e, rel);
        u64map_put(&e->memo, key, out);
    }
    ASSERT(out->cols_len == rel->cols_len);
    return out;
}

struct rel *rel_expand_lookups(struct arena *arena, struct rel *rel)
{
    struct expansion e = {.arena = arena};
    struct rel *out = expand(&e, rel);
    u64map_free(&e.memo);
    return out;
}
