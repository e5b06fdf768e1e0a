/* The model: nested loops over consolidated relations. Slow, and short enough to be believed. */
#include "tests/unit/core/engine/model.h"

#include <math.h>
#include <stdio.h>

/* A relation: consolidated rows with multiplicities, and its errors. */
struct rel {
    struct view ok, err;
    struct batch_builder *ok_rows, *err_rows;
    const uint8_t *kinds;
    uint32_t cols;
};

struct model {
    const struct plan *plan;
    const struct model_source *sources;
    uint64_t time;
    struct rel *rels;
    uint8_t **kinds;
    const uint32_t *scopes; /* per node */
    uint32_t *source;       /* per node: its number among the sources */
};

static uint32_t rows(const struct rel *rel)
{
    return rel->ok.batch.rows;
}

static int64_t count(const struct rel *rel, uint32_t row)
{
    return batch_diff(&rel->ok.batch, row);
}

static struct datum at(const struct rel *rel, uint32_t row, uint32_t col)
{
    struct datum d;
    batch_datum(&rel->ok.batch.col[col], row, &d);
    return d;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static bool same_value(uint8_t kind, const struct datum *a, const struct datum *b)
{
    if (a->null || b->null) {
        return a->null == b->null;
    }
    return datum_compare((enum type_kind)kind, a, b) == 0;
}

static bool same_key(const struct rel *a, uint32_t i, const uint32_t *a_cols, const struct rel *b,
                     uint32_t j, const uint32_t *b_cols, uint32_t len, bool null_equal)
{
    for (uint32_t k = 0; k < len; k++) {
        struct datum x = at(a, i, a_cols[k]);
        struct datum y = at(b, j, b_cols[k]);
        if ((!null_equal && (x.null || y.null)) || !same_value(a->kinds[a_cols[k]], &x, &y)) {
            return false;
        }
    }
    return true;
}

static void raw(const struct rel *rel, uint32_t row, const uint32_t *cols, uint32_t len,
                struct buf *out)
{
    buf_clear(out);
    if (cols == NULL || len > 0) {
        batch_encode_row(&rel->ok.batch, row, cols, len, false, out);
    }
}

static int compare_bytes(const struct buf *a, const struct buf *b)
{
    size_t len = a->len < b->len ? a->len : b->len;
    int order = len > 0 ? memcmp(a->data, b->data, len) : 0;
    return order != 0 ? order : a->len < b->len ? -1 : a->len > b->len;
}

/* Bytes of the given columns: -1, 0, 1. */
static int compare_raw(const struct rel *rel, uint32_t i, uint32_t j, const uint32_t *cols,
                       uint32_t len)
{
    struct buf a = {0};
    struct buf b = {0};
    raw(rel, i, cols, len, &a);
    raw(rel, j, cols, len, &b);
    int order = compare_bytes(&a, &b);
    buf_free(&a);
    buf_free(&b);
    return order;
}

/* ---- output ---------------------------------------------------------------------------------- */

static void put(struct rel *out, uint32_t first, const struct rel *from, uint32_t row)
{
    for (uint32_t c = 0; c < from->cols; c++) {
        struct datum d = at(from, row, c);
        batch_builder_datum(out->ok_rows, first + c, &d);
    }
}

static void end(struct rel *out, int64_t n)
{
    batch_builder_end_row(out->ok_rows, 0, n);
}

static void put_errors(struct rel *out, const char *sqlstate, const char *message,
                       const char *context, int64_t n)
{
    const char *texts[] = {sqlstate, message, context};
    for (uint32_t c = 0; c < 3; c++) {
        struct datum d = {.s = texts[c], .len = (uint32_t)strlen(texts[c])};
        batch_builder_datum(out->err_rows, c, &d);
    }
    batch_builder_end_row(out->err_rows, 0, n);
}

static void put_error(struct rel *out, const char *sqlstate, const char *message,
                      const char *context)
{
    put_errors(out, sqlstate, message, context, 1);
}

static void consolidate(struct batch_builder **rows_of, struct view *view, const uint8_t *kinds,
                        uint32_t cols)
{
    batch_builder_set_time(*rows_of, 0);
    *view = view_of(*rows_of, cols);
    const struct batch *one = &view->batch;
    struct batch_builder *out = batch_builder_new(kinds, cols);
    batch_consolidate(&one, 1, 0, out);
    view_free(view);
    batch_builder_free(*rows_of);
    *rows_of = out;
    *view = view_of(out, cols);
}

/* ---- operators ------------------------------------------------------------------------------- */

static void copy_until(struct batch_builder *from, uint32_t cols, uint64_t time, uint64_t as_of,
                       struct batch_builder *to)
{
    struct view view = view_of(from, cols);
    for (uint32_t i = 0; i < view.batch.rows; i++) {
        uint64_t t = batch_time(&view.batch, i);
        if ((t > as_of ? t : as_of) <= time) {
            batch_builder_row(to, &view.batch, i);
        }
    }
    view_free(&view);
}

static void eval_constant(const struct plan_node *node, struct rel *out)
{
    for (uint32_t r = 0; r < node->constant.rows_len; r++) {
        for (uint32_t c = 0; c < node->schema.cols; c++) {
            batch_builder_datum(out->ok_rows, c,
                                &node->constant.rows[(size_t)r * node->schema.cols + c]);
        }
        end(out, node->constant.diffs[r]);
    }
}

static int64_t matches(const struct plan_node *node, const struct rel *left, uint32_t i,
                       const struct rel *right)
{
    int64_t net = 0;
    for (uint32_t j = 0; j < rows(right); j++) {
        if (same_key(left, i, node->join.left_keys, right, j, node->join.right_keys,
                     node->join.keys_len, node->join.null_equal)) {
            net += count(right, j);
        }
    }
    return net;
}

static void eval_join(const struct plan_node *node, const struct rel *left,
                      const struct rel *right, struct rel *out)
{
    bool pairs = node->join.kind == PLAN_JOIN_INNER || node->join.kind == PLAN_JOIN_LEFT;
    for (uint32_t i = 0; i < rows(left); i++) {
        for (uint32_t j = 0; pairs && j < rows(right); j++) {
            if (same_key(left, i, node->join.left_keys, right, j, node->join.right_keys,
                         node->join.keys_len, node->join.null_equal)) {
                put(out, 0, left, i);
                put(out, left->cols, right, j);
                end(out, count(left, i) * count(right, j));
            }
        }
        bool present = matches(node, left, i, right) > 0;
        if (node->join.kind == PLAN_JOIN_INNER || present != (node->join.kind == PLAN_JOIN_SEMI)) {
            continue;
        }
        put(out, 0, left, i);
        struct datum null = {.null = true};
        for (uint32_t c = left->cols; c < out->cols; c++) {
            batch_builder_datum(out->ok_rows, c, &null);
        }
        end(out, count(left, i));
    }
}

struct group {
    const struct rel *in;
    const uint32_t *keys;
    uint32_t keys_len;
    uint32_t *members;
    uint32_t members_len;
};

static int64_t group_count(const struct group *g)
{
    int64_t n = 0;
    for (uint32_t m = 0; m < g->members_len; m++) {
        n += count(g->in, g->members[m]);
    }
    return n;
}

/* Net count of the members that have the same bytes in these columns as member m. */
static int64_t form_count(const struct group *g, uint32_t m, const uint32_t *cols, uint32_t len,
                          const bool *chosen)
{
    int64_t n = 0;
    for (uint32_t k = 0; k < g->members_len; k++) {
        if ((chosen == NULL || chosen[k]) &&
            compare_raw(g->in, g->members[k], g->members[m], cols, len) == 0) {
            n += count(g->in, g->members[k]);
        }
    }
    return n;
}

/* The member with the least form of the key that has a positive count, or any. */
static uint32_t form_member(const struct group *g)
{
    int64_t best = -1;
    for (uint32_t m = 0; m < g->members_len; m++) {
        if (form_count(g, m, g->keys, g->keys_len, NULL) > 0 &&
            (best < 0 || compare_raw(g->in, g->members[m], g->members[best], g->keys,
                                     g->keys_len) < 0)) {
            best = m;
        }
    }
    return best < 0 ? 0 : (uint32_t)best;
}

static bool forms_negative(const struct group *g)
{
    for (uint32_t m = 0; m < g->members_len; m++) {
        if (form_count(g, m, g->keys, g->keys_len, NULL) < 0) {
            return true;
        }
    }
    return false;
}

static bool *choose(const struct group *g, const struct plan_agg *agg)
{
    bool *chosen = mem_zalloc(g->members_len);
    for (uint32_t m = 0; m < g->members_len; m++) {
        chosen[m] = true;
        if (agg->has_filter) {
            struct datum d = at(g->in, g->members[m], agg->filter);
            chosen[m] = !d.null && d.b;
        }
        bool keeps_nulls = agg->func == AGG_COUNT_ALL || agg->func == AGG_ARRAY_AGG;
        if (!keeps_nulls && at(g->in, g->members[m], agg->arg).null) {
            chosen[m] = false;
        }
    }
    return chosen;
}

static bool keeps_values(const struct plan_agg *agg)
{
    bool order = agg->func == AGG_MIN || agg->func == AGG_MAX;
    bool booleans = agg->func == AGG_BOOL_AND || agg->func == AGG_BOOL_OR;
    bool collated = agg_is_ordered((enum agg_func)agg->func);
    return order || (agg->distinct && !booleans && !collated);
}

static bool values_negative(const struct group *g, const struct plan_agg *agg)
{
    bool *chosen = choose(g, agg);
    bool negative = false;
    for (uint32_t m = 0; keeps_values(agg) && m < g->members_len; m++) {
        negative |= chosen[m] && form_count(g, m, &agg->arg, 1, chosen) < 0;
    }
    free(chosen);
    return negative;
}

/* How often member m counts: with DISTINCT once for the least form of each value. */
static int64_t weight(const struct group *g, const struct plan_agg *agg, uint32_t m,
                      const bool *chosen)
{
    const struct rel *in = g->in;
    if (!chosen[m]) {
        return 0;
    }
    if (!agg->distinct || agg->func == AGG_BOOL_AND || agg->func == AGG_BOOL_OR) {
        return count(in, g->members[m]);
    }
    if (form_count(g, m, &agg->arg, 1, chosen) <= 0) {
        return 0;
    }
    struct datum own = at(in, g->members[m], agg->arg);
    for (uint32_t k = 0; k < g->members_len; k++) {
        struct datum other = at(in, g->members[k], agg->arg);
        if (!chosen[k] || k == m || !same_value(in->kinds[agg->arg], &own, &other) ||
            form_count(g, k, &agg->arg, 1, chosen) <= 0) {
            continue;
        }
        int order = compare_raw(in, g->members[k], g->members[m], &agg->arg, 1);
        if (order < 0 || (order == 0 && k < m)) {
            return 0;
        }
    }
    return 1;
}

/* Net count of a value's form, at its first member; 0 at the others. */
static int64_t first_form(const struct group *g, const struct plan_agg *agg, uint32_t m,
                          const bool *chosen)
{
    for (uint32_t k = 0; k < m; k++) {
        if (chosen[k] && compare_raw(g->in, g->members[k], g->members[m], &agg->arg, 1) == 0) {
            return 0;
        }
    }
    return chosen[m] ? form_count(g, m, &agg->arg, 1, chosen) : 0;
}

static bool add_numeric(struct numeric *sum, const struct numeric *n, int64_t times)
{
    err_t err = ERR_OK;
    for (int64_t i = 0; i < (times < 0 ? -times : times) && err == ERR_OK; i++) {
        err = times > 0 ? numeric_add(sum, n, sum) : numeric_sub(sum, n, sum);
    }
    err_free(err);
    return err == ERR_OK;
}

/* Sum over members, as a datum of the result kind of sum; the values are small. */
static int64_t sum_of(const struct group *g, const struct plan_agg *agg, const bool *chosen,
                      struct datum *out)
{
    uint8_t kind = g->in->kinds[agg->arg];
    int64_t n = 0;
    __int128 ints = 0;
    __float128 floats = 0;
    struct numeric numerics = {0};
    for (uint32_t m = 0; m < g->members_len; m++) {
        /* Values that cancel leave no trace, not even of their scale. */
        int64_t w = agg->distinct ? weight(g, agg, m, chosen) : first_form(g, agg, m, chosen);
        struct datum d = at(g->in, g->members[m], agg->arg);
        n += w;
        if (w == 0) {
            continue;
        }
        if (kind == TYPE_NUMERIC) {
            ASSERT(add_numeric(&numerics, &d.n, w));
        } else if (kind == TYPE_FLOAT8) {
            floats += (__float128)d.f * w;
        } else {
            ints += (__int128)d.i * w;
        }
    }
    if (kind == TYPE_FLOAT8) {
        out->f = (double)floats;
    } else if (kind == TYPE_NUMERIC || kind == TYPE_INT8) {
        out->n = kind == TYPE_NUMERIC ? numerics : numeric_from_int128(ints);
    } else {
        out->i = (int64_t)ints;
    }
    return n;
}

static void best_of(const struct group *g, const struct plan_agg *agg, const bool *chosen,
                    struct datum *out)
{
    const struct rel *in = g->in;
    int64_t best = -1;
    for (uint32_t m = 0; m < g->members_len; m++) {
        if (!chosen[m] || form_count(g, m, &agg->arg, 1, chosen) <= 0) {
            continue;
        }
        if (best >= 0) {
            struct datum a = at(in, g->members[m], agg->arg);
            struct datum b = at(in, g->members[best], agg->arg);
            int order = datum_compare((enum type_kind)in->kinds[agg->arg], &a, &b);
            order = order != 0 ? order
                               : compare_raw(in, g->members[m], g->members[best], &agg->arg, 1);
            if (agg->func == AGG_MIN ? order >= 0 : order <= 0) {
                continue;
            }
        }
        best = m;
    }
    out->null = best < 0;
    if (best >= 0) {
        *out = at(in, g->members[best], agg->arg);
    }
}

/* ---- values in an order ---------------------------------------------------------------------- */

static int compare_by(const struct rel *in, const struct plan_order *order, uint32_t i, uint32_t j)
{
    struct datum a = at(in, i, order->col);
    struct datum b = at(in, j, order->col);
    if (a.null || b.null) {
        return a.null == b.null ? 0 : a.null == order->nulls_first ? -1 : 1;
    }
    int c = datum_compare((enum type_kind)in->kinds[order->col], &a, &b);
    return order->desc ? -c : c;
}

/* By ORDER BY, or by the arguments when there is none; all: to the last byte. */
static int compare_elements(const struct group *g, const struct plan_agg *agg, uint32_t a,
                            uint32_t b, bool all)
{
    uint32_t args[] = {agg->arg, agg->arg2};
    uint32_t len = agg_takes_two((enum agg_func)agg->func) ? 2 : 1;
    uint32_t i = g->members[a], j = g->members[b];
    int c = 0;
    for (uint32_t k = 0; k < agg->order_len && c == 0; k++) {
        c = compare_by(g->in, &agg->order[k], i, j);
    }
    for (uint32_t k = 0; k < len && c == 0 && agg->order_len == 0; k++) {
        c = compare_by(g->in, &(struct plan_order){.col = args[k]}, i, j);
    }
    return c != 0 || !all ? c : compare_raw(g->in, i, j, args, len);
}

static int64_t element_count(const struct group *g, const struct plan_agg *agg, uint32_t m,
                             const bool *chosen)
{
    int64_t n = 0;
    for (uint32_t k = 0; k < g->members_len; k++) {
        if (chosen[k] && compare_elements(g, agg, k, m, true) == 0) {
            n += count(g->in, g->members[k]);
        }
    }
    return n;
}

static bool elements_negative(const struct group *g, const struct plan_agg *agg)
{
    bool *chosen = choose(g, agg);
    bool negative = false;
    for (uint32_t m = 0; agg_is_ordered((enum agg_func)agg->func) && m < g->members_len; m++) {
        negative |= chosen[m] && element_count(g, agg, m, chosen) < 0;
    }
    free(chosen);
    return negative;
}

/* The least member that is not done; members_len: none. */
static uint32_t next_element(const struct group *g, const struct plan_agg *agg, const bool *left)
{
    uint32_t best = g->members_len;
    for (uint32_t m = 0; m < g->members_len; m++) {
        if (left[m] &&
            (best == g->members_len || compare_elements(g, agg, m, best, true) < 0)) {
            best = m;
        }
    }
    return best;
}

static void append_element(const struct group *g, const struct plan_agg *agg, uint32_t m,
                           bool first, struct buf *out)
{
    struct datum d = at(g->in, g->members[m], agg->arg);
    if (agg->func == AGG_STRING_AGG) {
        struct datum by = at(g->in, g->members[m], agg->arg2);
        buf_append(out, by.s, first || by.null ? 0 : by.len);
        buf_append(out, d.s, d.len);
        return;
    }
    /* Of the values of these tests only the empty string needs quotes. */
    struct type type = type_of((enum type_kind)g->in->kinds[agg->arg]);
    buf_append_str(out, first ? "" : ",");
    if (d.null) {
        buf_append_str(out, "NULL");
    } else if (type.kind == TYPE_TEXT && d.len == 0) {
        buf_append_str(out, "\"\"");
    } else {
        datum_print(&type, &d, out);
    }
}

/* out->s stays in text, which is the caller's. */
static void collate(const struct group *g, const struct plan_agg *agg, const bool *chosen,
                    struct buf *text, struct datum *out)
{
    bool *left = mem_alloc(g->members_len + 1);
    memcpy(left, chosen, g->members_len);
    uint32_t before = g->members_len;
    bool array = agg->func == AGG_ARRAY_AGG, any = false;
    buf_append_str(text, array ? "{" : "");
    for (uint32_t m; (m = next_element(g, agg, left)) < g->members_len;) {
        int64_t n = element_count(g, agg, m, chosen);
        for (uint32_t k = 0; k < g->members_len; k++) {
            left[k] = left[k] && compare_elements(g, agg, k, m, true) != 0;
        }
        if (n > 0 && agg->distinct) {
            n = before < g->members_len && compare_elements(g, agg, before, m, false) == 0 ? 0 : 1;
            before = m;
        }
        for (int64_t i = 0; i < n; i++) {
            append_element(g, agg, m, !any, text);
            any = true;
        }
    }
    buf_append_str(text, array ? "}" : "");
    *out = (struct datum){.null = !any, .s = (char *)text->data, .len = (uint32_t)text->len};
    free(left);
}

static void bits(const struct group *g, const struct plan_agg *agg, const bool *chosen,
                 struct datum *out)
{
    int64_t n = 0, ones[64] = {0};
    for (uint32_t m = 0; m < g->members_len; m++) {
        int64_t w = weight(g, agg, m, chosen);
        n += w;
        for (uint32_t i = 0; i < 64; i++) {
            ones[i] += (at(g->in, g->members[m], agg->arg).i >> i & 1) * w;
        }
    }
    uint64_t value = 0;
    for (uint32_t i = 0; i < 64; i++) {
        bool set = agg->func == AGG_BIT_AND  ? ones[i] == n
                   : agg->func == AGG_BIT_OR ? ones[i] != 0
                                             : (ones[i] & 1) != 0;
        value |= (uint64_t)set << i;
    }
    *out = (struct datum){.null = n == 0, .i = (int64_t)value};
}

/* In 113 bits: far more than the few values of these tests have. */
static void variance(const struct group *g, const struct plan_agg *agg, const bool *chosen,
                     struct datum *out)
{
    __float128 sum = 0, squares = 0;
    int64_t n = 0;
    for (uint32_t m = 0; m < g->members_len; m++) {
        int64_t w = weight(g, agg, m, chosen);
        __float128 f = chosen[m] ? at(g->in, g->members[m], agg->arg).f : 0;
        n += w;
        sum += f * w;
        squares += f * f * w;
    }
    bool sample = agg->func == AGG_VAR_SAMP || agg->func == AGG_STDDEV_SAMP;
    *out = (struct datum){.null = n <= (sample ? 1 : 0)};
    if (!out->null) {
        __float128 left = squares - sum * sum / n;
        out->f = left < 0 ? 0 : (double)(left / (sample ? n - 1 : n));
        out->f = agg->func >= AGG_STDDEV_POP ? sqrt(out->f) : out->f;
    }
}

/* text keeps the bytes of a value that is made here. */
static void aggregate(const struct group *g, const struct plan_agg *agg, struct buf *text,
                      struct datum *out)
{
    bool *chosen = choose(g, agg);
    int64_t yes = 0;
    int64_t no = 0;
    *out = (struct datum){0};
    switch (agg->func) {
    case AGG_COUNT_ALL:
    case AGG_COUNT:
        for (uint32_t m = 0; m < g->members_len; m++) {
            out->i += weight(g, agg, m, chosen);
        }
        break;
    case AGG_SUM:
    case AGG_AVG: {
        int64_t n = sum_of(g, agg, chosen, out);
        out->null = n == 0;
        if (agg->func == AGG_AVG && n != 0) {
            uint8_t kind = g->in->kinds[agg->arg];
            struct numeric by = numeric_from_int128(n);
            if (kind == TYPE_FLOAT8) {
                out->f /= (double)n;
            } else {
                bool narrow = kind == TYPE_INT4 || kind == TYPE_INT2;
                struct numeric sum = narrow ? numeric_from_int128(out->i) : out->n;
                ASSERT(numeric_div(&sum, &by, &out->n) == ERR_OK);
            }
        }
        break;
    }
    case AGG_MIN:
    case AGG_MAX:
        best_of(g, agg, chosen, out);
        break;
    case AGG_STRING_AGG:
    case AGG_ARRAY_AGG:
        collate(g, agg, chosen, text, out);
        break;
    case AGG_BIT_AND:
    case AGG_BIT_OR:
    case AGG_BIT_XOR:
        bits(g, agg, chosen, out);
        break;
    case AGG_VAR_POP:
    case AGG_VAR_SAMP:
    case AGG_STDDEV_POP:
    case AGG_STDDEV_SAMP:
        variance(g, agg, chosen, out);
        break;
    default:
        for (uint32_t m = 0; m < g->members_len; m++) {
            struct datum d = at(g->in, g->members[m], agg->arg);
            *(d.b ? &yes : &no) += weight(g, agg, m, chosen);
        }
        out->null = yes == 0 && no == 0;
        out->b = agg->func == AGG_BOOL_AND ? no == 0 : yes != 0;
        break;
    }
    free(chosen);
}

static void reduce_group(const struct model *model, const struct plan_node *node,
                         const struct group *g, struct rel *out)
{
    int64_t n = group_count(g);
    bool negative = n < 0 || forms_negative(g);
    bool forms = false;
    for (uint32_t k = 0; k < g->keys_len; k++) {
        uint8_t kind = g->in->kinds[g->keys[k]];
        forms |= kind == TYPE_NUMERIC || kind == TYPE_FLOAT8;
    }
    negative = n < 0 || (forms && negative);
    for (uint32_t a = 0; a < node->reduce.aggs_len; a++) {
        negative |= values_negative(g, &node->reduce.aggs[a]);
        negative |= elements_negative(g, &node->reduce.aggs[a]);
    }
    if (negative) {
        put_error(out, "XX000", "invalid data: a row was retracted more often than inserted",
                  model->plan->name);
        return;
    }
    if (n == 0) {
        return;
    }
    uint32_t form = g->members[form_member(g)];
    for (uint32_t k = 0; k < g->keys_len; k++) {
        struct datum d = at(g->in, form, g->keys[k]);
        batch_builder_datum(out->ok_rows, k, &d);
    }
    for (uint32_t a = 0; a < node->reduce.aggs_len; a++) {
        struct datum d;
        struct buf text = {0};
        aggregate(g, &node->reduce.aggs[a], &text, &d);
        batch_builder_datum(out->ok_rows, g->keys_len + a, &d);
        buf_free(&text);
    }
    end(out, 1);
}

struct place {
    const struct rel *in;
    const struct plan_node *node;
};
static struct place sort_place; /* qsort has no argument */

/* By the order's columns alone: peers are equal. */
static int compare_peers(uint32_t i, uint32_t j)
{
    const struct rel *in = sort_place.in;
    for (uint32_t k = 0; k < sort_place.node->topk.order_len; k++) {
        const struct plan_order *order = &sort_place.node->topk.order[k];
        struct datum a = at(in, i, order->col);
        struct datum b = at(in, j, order->col);
        if (a.null || b.null) {
            if (a.null != b.null) {
                return a.null == order->nulls_first ? -1 : 1;
            }
            continue;
        }
        int c = datum_compare((enum type_kind)in->kinds[order->col], &a, &b);
        if (c != 0) {
            return order->desc ? -c : c;
        }
    }
    return 0;
}

static int compare_order(const void *pa, const void *pb)
{
    uint32_t i = *(const uint32_t *)pa;
    uint32_t j = *(const uint32_t *)pb;
    int c = compare_peers(i, j);
    return c != 0 ? c : compare_raw(sort_place.in, i, j, NULL, 0);
}

/* ---- windows --------------------------------------------------------------------------------- */

/* A partition: the member at each position, copies one after another. */
struct window_rows {
    const struct plan_node *node;
    const struct rel *in;
    uint32_t *at;
    int64_t *first, *behind; /* of the peers of each, as positions */
    int64_t len;
};

static int compare_window(const void *pa, const void *pb)
{
    uint32_t i = *(const uint32_t *)pa;
    uint32_t j = *(const uint32_t *)pb;
    for (uint32_t k = 0; k < sort_place.node->window.order_len; k++) {
        int c = compare_by(sort_place.in, &sort_place.node->window.order[k], i, j);
        if (c != 0) {
            return c;
        }
    }
    return compare_raw(sort_place.in, i, j, NULL, 0);
}

static bool are_peers(const struct window_rows *w, int64_t a, int64_t b)
{
    bool peers = true;
    for (uint32_t k = 0; k < w->node->window.order_len; k++) {
        peers &= compare_by(w->in, &w->node->window.order[k], w->at[a], w->at[b]) == 0;
    }
    return peers;
}

static void find_peers(struct window_rows *w)
{
    for (int64_t p = 0; p < w->len; p++) {
        w->first[p] = p > 0 && are_peers(w, p - 1, p) ? w->first[p - 1] : p;
    }
    for (int64_t p = w->len; p-- > 0;) {
        bool last = p + 1 == w->len || w->first[p + 1] != w->first[p];
        w->behind[p] = last ? p + 1 : w->behind[p + 1];
    }
}

/* Does the row at q lie before (-1), at (0) or behind (1) the bound of the row at p? */
static int compare_bound(const struct window_rows *w, int64_t q, int64_t p, uint32_t col)
{
    const struct plan_order *order = &w->node->window.order[0];
    struct datum bound = at(w->in, w->at[p], col);
    struct datum d = at(w->in, w->at[q], order->col);
    if (bound.null) {
        bound = at(w->in, w->at[p], order->col);
    }
    if (bound.null || d.null) {
        return bound.null == d.null ? 0 : d.null == order->nulls_first ? -1 : 1;
    }
    int c = datum_compare((enum type_kind)w->in->kinds[col], &d, &bound);
    return order->desc ? -c : c;
}

static int64_t groups_away(const struct window_rows *w, int64_t p, int64_t n)
{
    for (; n < 0 && p >= 0; n++) {
        p = w->first[p] - 1;
    }
    for (; n > 0 && p < w->len; n--) {
        p = w->behind[p];
    }
    return p;
}

/* Is the row at q within the bound (as start or end) of the row at p? other: the row whose group a
 * bound by groups counts to. */
static bool within_bound(const struct window_rows *w, const struct plan_frame *f, bool end,
                         int64_t q, int64_t p, int64_t other)
{
    const struct plan_bound *b = end ? &f->end : &f->start;
    __int128 sign = end ? -1 : 1, n = b->kind == PLAN_BOUND_OFFSET ? b->offset : 0;
    if (b->kind == PLAN_BOUND_UNBOUNDED) {
        return true;
    }
    if (f->mode == PLAN_FRAME_ROWS) {
        return sign * (q - (p + n)) >= 0;
    }
    if (b->kind == PLAN_BOUND_VALUE) {
        return sign * compare_bound(w, q, p, b->col) >= 0;
    }
    if (other < 0 || other >= w->len) {
        return (other < 0) != end;
    }
    return end ? q < w->behind[other] : q >= w->first[other];
}

static int64_t counted_to(const struct window_rows *w, const struct plan_bound *b, int64_t p)
{
    return groups_away(w, p, b->kind == PLAN_BOUND_OFFSET ? b->offset : 0);
}

/* The positions of the frame of the row at p, in order. */
static int64_t frame_of(const struct window_rows *w, const struct plan_frame *f, int64_t p,
                        int64_t *out)
{
    int64_t n = 0;
    bool groups = f->mode == PLAN_FRAME_GROUPS;
    int64_t from = groups ? counted_to(w, &f->start, p) : p;
    int64_t to = groups ? counted_to(w, &f->end, p) : p;
    for (int64_t q = 0; q < w->len; q++) {
        bool peer = q >= w->first[p] && q < w->behind[p];
        bool out_of = (f->exclude == PLAN_EXCLUDE_CURRENT && q == p) ||
                      (f->exclude == PLAN_EXCLUDE_GROUP && peer) ||
                      (f->exclude == PLAN_EXCLUDE_TIES && peer && q != p);
        if (!out_of && within_bound(w, f, false, q, p, from) &&
            within_bound(w, f, true, q, p, to)) {
            out[n++] = q;
        }
    }
    return n;
}

/* Sums of what a frame holds; the values are small. */
struct frame_sums {
    int64_t n, ints, yes;
    uint64_t all, any, odd;
    __float128 floats, squares;
    struct numeric numerics;
    struct datum best;
};

static void add_to_frame(const struct plan_agg *agg, uint8_t kind, const struct datum *d,
                         struct frame_sums *s)
{
    bool better = s->n == 0;
    if (!better && (agg->func == AGG_MIN || agg->func == AGG_MAX)) {
        int c = datum_compare((enum type_kind)kind, d, &s->best);
        better = agg->func == AGG_MIN ? c < 0 : c > 0;
    }
    s->best = better ? *d : s->best;
    s->n++;
    if (kind == TYPE_NUMERIC) {
        ASSERT(add_numeric(&s->numerics, &d->n, 1));
    } else if (kind == TYPE_FLOAT8) {
        s->floats += d->f;
        s->squares += (__float128)d->f * d->f;
    } else if (kind == TYPE_BOOL) {
        s->yes += d->b;
    } else if (kind != TYPE_TEXT) {
        s->ints += d->i;
        s->all &= (uint64_t)d->i;
        s->any |= (uint64_t)d->i;
        s->odd ^= (uint64_t)d->i;
    }
}

static void frame_sum(const struct plan_agg *agg, uint8_t kind, const struct frame_sums *s,
                      struct datum *out)
{
    struct numeric by = numeric_from_int128(s->n);
    struct numeric sum = kind == TYPE_NUMERIC ? s->numerics : numeric_from_int128(s->ints);
    if (kind == TYPE_FLOAT8) {
        out->f = agg->func == AGG_AVG ? (double)(s->floats / s->n) : (double)s->floats;
    } else if (agg->func == AGG_AVG) {
        ASSERT(numeric_div(&sum, &by, &out->n) == ERR_OK);
    } else if (agg->type.kind == TYPE_NUMERIC) {
        out->n = sum;
    } else {
        out->i = s->ints;
    }
}

static void frame_result(const struct plan_agg *agg, uint8_t kind, const struct frame_sums *s,
                         struct datum *out)
{
    bool sample = agg->func == AGG_VAR_SAMP || agg->func == AGG_STDDEV_SAMP;
    bool counts = agg->func == AGG_COUNT_ALL || agg->func == AGG_COUNT;
    *out = (struct datum){.null = s->n == 0 && !counts};
    if (out->null) {
        return;
    }
    if (counts) {
        out->i = s->n;
    } else if (agg->func == AGG_SUM || agg->func == AGG_AVG) {
        frame_sum(agg, kind, s, out);
    } else if (agg->func == AGG_MIN || agg->func == AGG_MAX) {
        *out = s->best;
    } else if (agg->func == AGG_BOOL_AND || agg->func == AGG_BOOL_OR) {
        out->b = agg->func == AGG_BOOL_AND ? s->yes == s->n : s->yes > 0;
    } else if (agg->func >= AGG_VAR_POP) {
        out->null = sample && s->n == 1;
        __float128 left = s->squares - s->floats * s->floats / s->n;
        out->f = (double)(left / (sample ? s->n - 1 : s->n));
        out->f = agg->func >= AGG_STDDEV_POP ? sqrt(out->f) : out->f;
    } else {
        out->i = (int64_t)(agg->func == AGG_BIT_AND  ? s->all
                           : agg->func == AGG_BIT_OR ? s->any
                                                     : s->odd);
    }
}

static void frame_agg(const struct window_rows *w, const struct plan_agg *agg,
                      const int64_t *frame, int64_t len, struct datum *out)
{
    uint8_t kind = agg->func == AGG_COUNT_ALL ? TYPE_INT8 : w->in->kinds[agg->arg];
    struct frame_sums s = {.all = UINT64_MAX};
    for (int64_t i = 0; i < len; i++) {
        uint32_t row = w->at[frame[i]];
        struct datum d = {.i = 1};
        struct datum passes = {.b = true};
        if (agg->has_filter) {
            passes = at(w->in, row, agg->filter);
        }
        if (agg->func != AGG_COUNT_ALL) {
            d = at(w->in, row, agg->arg);
        }
        if (!d.null && !passes.null && passes.b) {
            add_to_frame(agg, kind, &d, &s);
        }
    }
    frame_result(agg, kind, &s, out);
}

static int64_t bucket(int64_t p, int64_t len, int64_t n)
{
    int64_t b = 0;
    for (int64_t at_row = 0; at_row <= p; b++) {
        at_row += len / n + (b < len % n ? 1 : 0);
    }
    return b;
}

static void rank_of(const struct window_rows *w, const struct plan_window_call *call, int64_t p,
                    struct datum *out)
{
    int64_t groups = 0;
    for (int64_t q = 0; q <= p; q = w->behind[q]) {
        groups++;
    }
    switch (call->func) {
    case PLAN_WINDOW_ROW_NUMBER:
        out->i = p + 1;
        break;
    case PLAN_WINDOW_RANK:
        out->i = w->first[p] + 1;
        break;
    case PLAN_WINDOW_DENSE_RANK:
        out->i = groups;
        break;
    case PLAN_WINDOW_PERCENT_RANK:
        out->f = w->len == 1 ? 0 : (double)w->first[p] / (double)(w->len - 1);
        break;
    case PLAN_WINDOW_CUME_DIST:
        out->f = (double)w->behind[p] / (double)w->len;
        break;
    default:
        out->i = bucket(p, w->len, call->n);
        break;
    }
}

static void call_value(const struct window_rows *w, const struct plan_window_call *call, int64_t p,
                       struct datum *out)
{
    *out = (struct datum){0};
    if (call->func == PLAN_WINDOW_LAG) {
        struct datum by = {.i = call->n};
        if (call->n_of_row) {
            by = at(w->in, w->at[p], call->n_col);
        }
        if (by.null) {
            out->null = true;
            return;
        }
        int64_t n = call->n_of_row && call->n < 0 ? -(by.i + (by.i == INT64_MIN)) : by.i;
        int64_t q = n > w->len || n < -w->len ? -1 : p - n;
        bool inside = q >= 0 && q < w->len;
        *out = inside               ? at(w->in, w->at[q], call->arg)
               : call->has_fallback ? at(w->in, w->at[p], call->fallback)
                                    : (struct datum){.null = true};
        return;
    }
    if (!plan_window_has_frame(call->func)) {
        rank_of(w, call, p, out);
        return;
    }
    int64_t *frame = mem_alloc((size_t)(w->len + 1) * sizeof(*frame));
    int64_t len = frame_of(w, &call->frame, p, frame);
    int64_t index = call->func == PLAN_WINDOW_FIRST_VALUE  ? 0
                    : call->func == PLAN_WINDOW_LAST_VALUE ? len - 1
                                                           : call->n - 1;
    if (call->func == PLAN_WINDOW_AGG) {
        frame_agg(w, &call->agg, frame, len, out);
    } else if (index >= 0 && index < len) {
        *out = at(w->in, w->at[frame[index]], call->arg);
    } else {
        out->null = true;
    }
    free(frame);
}

static void window_group(const struct model *model, const struct plan_node *node,
                         const struct group *g, struct rel *out)
{
    sort_place = (struct place){g->in, node};
    qsort(g->members, g->members_len, sizeof(uint32_t), compare_window);
    struct window_rows w = {.node = node, .in = g->in};
    bool negative = false;
    for (uint32_t m = 0; m < g->members_len; m++) {
        int64_t n = count(g->in, g->members[m]);
        negative |= n < 0;
        w.len += n < 0 ? 0 : n;
    }
    w.at = mem_alloc((size_t)(w.len + 1) * sizeof(*w.at));
    int64_t p = 0;
    for (uint32_t m = 0; m < g->members_len; m++) {
        for (int64_t i = 0; i < count(g->in, g->members[m]); i++) {
            w.at[p++] = g->members[m];
        }
    }
    w.first = mem_alloc((size_t)(w.len + 1) * sizeof(*w.first));
    w.behind = mem_alloc((size_t)(w.len + 1) * sizeof(*w.behind));
    find_peers(&w);
    for (p = 0; p < w.len; p++) {
        put(out, 0, g->in, w.at[p]);
        for (uint32_t c = 0; c < node->window.calls_len; c++) {
            struct datum d;
            call_value(&w, &node->window.calls[c], p, &d);
            batch_builder_datum(out->ok_rows, g->in->cols + c, &d);
        }
        end(out, 1);
    }
    if (negative) {
        put_error(out, "XX000", "invalid data: a row was retracted more often than inserted",
                  model->plan->name);
    }
    free(w.first);
    free(w.behind);
    free(w.at);
}

static void topk_group(const struct model *model, const struct plan_node *node,
                       const struct group *g, struct rel *out)
{
    sort_place = (struct place){g->in, node};
    qsort(g->members, g->members_len, sizeof(uint32_t), compare_order);
    bool negative = false;
    uint32_t last = UINT32_MAX; /* with ties: the last row taken */
    int64_t skip = node->topk.offset;
    int64_t left = node->topk.limit < 0 ? INT64_MAX : node->topk.limit;
    for (uint32_t m = 0; m < g->members_len; m++) {
        int64_t n = count(g->in, g->members[m]);
        negative |= n < 0;
        n = n < 0 ? 0 : n;
        int64_t skipped = n < skip ? n : skip;
        skip -= skipped;
        int64_t take = n - skipped < left ? n - skipped : left;
        if (node->topk.ties && n > 0) {
            bool peer = last != UINT32_MAX && compare_peers(last, g->members[m]) == 0;
            take = left > 0 || peer ? n : 0;
            last = take > 0 ? g->members[m] : last;
        }
        left -= take < left ? take : left;
        if (take > 0) {
            put(out, 0, g->in, g->members[m]);
            end(out, take);
        }
    }
    if (negative) {
        put_error(out, "XX000", "invalid data: a row was retracted more often than inserted",
                  model->plan->name);
    }
}

static void unique_group(const struct plan_node *node, const struct group *g, struct rel *out)
{
    int64_t n = group_count(g);
    if (n > 0) {
        put(out, 0, g->in, g->members[form_member(g)]);
        end(out, node->op == PLAN_DISTINCT ? 1 : n);
    }
}

/* Calls the operator's function for every group of its input. */
static void eval_groups(const struct model *model, const struct plan_node *node,
                        const struct rel *in, struct rel *out)
{
    uint32_t all[64];
    for (uint32_t c = 0; c < ARRAY_LEN(all); c++) {
        all[c] = c;
    }
    struct group g = {.in = in, .keys = all, .keys_len = in->cols};
    if (node->op == PLAN_REDUCE) {
        g.keys = node->reduce.keys;
        g.keys_len = node->reduce.keys_len;
    } else if (node->op == PLAN_TOPK) {
        g.keys = node->topk.keys;
        g.keys_len = node->topk.keys_len;
    } else if (node->op == PLAN_WINDOW) {
        g.keys = node->window.keys;
        g.keys_len = node->window.keys_len;
    }
    bool *done = mem_zalloc(rows(in));
    g.members = mem_alloc(rows(in) * sizeof(uint32_t));
    for (uint32_t i = 0; i < rows(in); i++) {
        if (done[i]) {
            continue;
        }
        g.members_len = 0;
        for (uint32_t j = i; j < rows(in); j++) {
            if (same_key(in, i, g.keys, in, j, g.keys, g.keys_len, true)) {
                g.members[g.members_len++] = j;
                done[j] = true;
            }
        }
        if (node->op == PLAN_REDUCE) {
            reduce_group(model, node, &g, out);
        } else if (node->op == PLAN_TOPK) {
            topk_group(model, node, &g, out);
        } else if (node->op == PLAN_WINDOW) {
            window_group(model, node, &g, out);
        } else {
            unique_group(node, &g, out);
        }
    }
    free(done);
    free(g.members);
}

/* The next row of all functions side by side; NULLs of those at their end. */
static err_t flat_next(const struct plan_node *node, struct table_call **calls,
                       struct datum *given, bool *any)
{
    *any = false;
    for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
        uint32_t cols = table_func_by_id(node->flat_map.calls[i].func)->cols_len;
        bool more;
        TRY(table_call_next(calls[i], given, &more));
        for (uint32_t c = 0; c < cols && !more; c++) {
            given[c] = (struct datum){.null = true};
        }
        *any = *any || more;
        given += cols;
    }
    return ERR_OK;
}

static void flat_rows(const struct model *model, const struct plan_node *node,
                      const struct rel *in, uint32_t row, struct table_call **calls,
                      struct rel *out)
{
    uint32_t first = node->flat_map.keep_len;
    uint32_t width = out->cols - first - (node->flat_map.ordinality ? 1 : 0);
    bool any = true;
    for (int64_t ordinal = 1; any; ordinal++) {
        struct datum given[64];
        err_t err = flat_next(node, calls, given, &any);
        if (err != ERR_OK) {
            put_errors(out, err_sqlstate(err), err_message(err), model->plan->name,
                       count(in, row));
            err_free(err);
            break;
        }
        if (!any && (ordinal > 1 || !node->flat_map.outer)) {
            break;
        }
        for (uint32_t c = 0; c < first; c++) {
            struct datum d = at(in, row, node->flat_map.keep[c]);
            batch_builder_datum(out->ok_rows, c, &d);
        }
        for (uint32_t c = 0; c < width; c++) {
            batch_builder_datum(out->ok_rows, first + c, &given[c]);
        }
        if (node->flat_map.ordinality) {
            struct datum d = {.i = ordinal, .null = !any};
            batch_builder_datum(out->ok_rows, first + width, &d);
        }
        end(out, count(in, row));
    }
}

static void eval_flat_map(const struct model *model, const struct plan_node *node,
                          const struct rel *in, struct rel *out)
{
    for (uint32_t row = 0; row < rows(in); row++) {
        struct table_call *calls[8];
        uint32_t col = node->flat_map.keep_len;
        for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
            const struct plan_table_call *call = &node->flat_map.calls[i];
            struct datum args[TABLE_FUNC_ARGS_MAX];
            for (uint32_t a = 0; a < call->args_len; a++) {
                args[a] = at(in, row, call->args[a]);
            }
            calls[i] = table_call_new(table_func_by_id(call->func), out->kinds[col]);
            table_call_start(calls[i], args);
            col += table_func_by_id(call->func)->cols_len;
        }
        flat_rows(model, node, in, row, calls, out);
        for (uint32_t i = 0; i < node->flat_map.calls_len; i++) {
            table_call_free(calls[i]);
        }
    }
}

static void eval_linear(const struct plan_node *node, const struct rel *in, struct rel *out)
{
    if (node->op == PLAN_MFP) {
        struct mfp_prog *prog = mfp_compile(&node->mfp, in->kinds, "test");
        mfp_run(prog, &in->ok.batch, 0, out->ok_rows, out->err_rows);
        mfp_prog_free(prog);
        return;
    }
    for (uint32_t i = 0; i < rows(in); i++) {
        put(out, 0, in, i);
        end(out, node->op == PLAN_NEGATE ? -count(in, i) : count(in, i));
    }
}

static bool bound_holds(const struct plan_temporal_bound *bound, uint64_t time, struct datum d)
{
    int64_t now = (int64_t)time;
    if (d.null) {
        return false;
    }
    switch (bound->cmp) {
    case PLAN_TEMPORAL_BEFORE: return now < d.i;
    case PLAN_TEMPORAL_UNTIL: return now <= d.i;
    case PLAN_TEMPORAL_AFTER: return now > d.i;
    case PLAN_TEMPORAL_FROM: return now >= d.i;
    default: return now == d.i;
    }
}

static void eval_temporal(const struct plan_node *node, uint64_t time, const struct rel *in,
                          struct rel *out)
{
    for (uint32_t i = 0; i < rows(in); i++) {
        bool there = true;
        for (uint32_t k = 0; k < node->temporal.bounds_len; k++) {
            const struct plan_temporal_bound *bound = &node->temporal.bounds[k];
            there &= bound_holds(bound, time, at(in, i, bound->col));
        }
        for (uint32_t c = 0; there && c < out->cols; c++) {
            struct datum d = at(in, i, c);
            batch_builder_datum(out->ok_rows, c, &d);
        }
        if (there) {
            end(out, count(in, i));
        }
    }
}

static void copy_rel(const struct rel *from, struct rel *out)
{
    batch_builder_rows_of(out->ok_rows, &from->ok.batch, NULL, 0);
}

static void eval_node(struct model *model, uint32_t index)
{
    const struct plan_node *node = &model->plan->nodes[index];
    struct rel *out = &model->rels[index];
    uint8_t *kinds = mem_alloc(node->schema.cols + 1);
    for (uint32_t c = 0; c < node->schema.cols; c++) {
        kinds[c] = node->schema.types[c].kind;
    }
    model->kinds[index] = kinds;
    out->kinds = kinds;
    out->cols = node->schema.cols;
    out->ok_rows = batch_builder_new(kinds, out->cols);
    out->err_rows = batch_builder_new(batch_err_kinds, ERR_COLS);
    uint64_t as_of = model->plan->as_of;
    const struct rel *in = node->inputs_len > 0 ? &model->rels[node->inputs[0]] : NULL;
    switch (node->op) {
    case PLAN_SOURCE: {
        const struct model_source *s = &model->sources[model->source[index]];
        copy_until(s->ok, out->cols, model->time, as_of, out->ok_rows);
        copy_until(s->err, ERR_COLS, model->time, as_of, out->err_rows);
        break;
    }
    case PLAN_CONSTANT:
        eval_constant(node, out);
        break;
    case PLAN_JOIN:
        eval_join(node, in, &model->rels[node->inputs[1]], out);
        break;
    case PLAN_TEMPORAL:
        eval_temporal(node, model->time, in, out);
        break;
    case PLAN_MFP:
    case PLAN_NEGATE:
    case PLAN_UNION:
        for (uint32_t i = 0; i < node->inputs_len; i++) {
            eval_linear(node, &model->rels[node->inputs[i]], out);
        }
        break;
    case PLAN_FLAT_MAP:
        eval_flat_map(model, node, in, out);
        break;
    case PLAN_VARIABLE: /* eval_scope fills it */
    case PLAN_FIXPOINT:
        break;
    case PLAN_LEAVE:
        in = &model->rels[model->plan->nodes[node->inputs[0]].inputs[node->leave.binding]];
        copy_rel(in, out);
        break;
    default:
        eval_groups(model, node, in, out);
        break;
    }
    bool once = node->op == PLAN_UNION && node->sum.errors_once;
    for (uint32_t i = 0; i < (once ? 1 : node->inputs_len); i++) {
        batch_builder_rows_of(out->err_rows, &model->rels[node->inputs[i]].err.batch, NULL, 0);
    }
    consolidate(&out->ok_rows, &out->ok, kinds, out->cols);
    consolidate(&out->err_rows, &out->err, batch_err_kinds, ERR_COLS);
}

static void free_rel(struct model *model, uint32_t index)
{
    struct rel *rel = &model->rels[index];
    view_free(&rel->ok);
    view_free(&rel->err);
    batch_builder_free(rel->ok_rows);
    batch_builder_free(rel->err_rows);
    free(model->kinds[index]);
    *rel = (struct rel){0};
    model->kinds[index] = NULL;
}

/* A variable becomes what its body gave; true when that is news. */
static bool assign(struct model *model, uint32_t variable, uint32_t body)
{
    struct rel *to = &model->rels[variable];
    struct rel *from = &model->rels[body];
    bool same = same_rows(to->ok_rows, from->ok_rows, to->kinds, to->cols);
    struct batch_builder *fresh = batch_builder_new(to->kinds, to->cols);
    batch_builder_rows_of(fresh, &from->ok.batch, NULL, 0);
    view_free(&to->ok);
    batch_builder_free(to->ok_rows);
    to->ok_rows = fresh;
    consolidate(&to->ok_rows, &to->ok, to->kinds, to->cols);
    return !same;
}

/* Iteration by iteration, all nodes of the scope from scratch. */
static void eval_scope(struct model *model, uint32_t index)
{
    const struct plan_node *node = &model->plan->nodes[index];
    const struct plan_fixpoint *fixpoint = &node->fixpoint;
    bool changed = true;
    for (uint64_t i = 0; changed && (fixpoint->limit == 0 || i < fixpoint->limit); i++) {
        for (uint32_t n = 0; n < index; n++) {
            if (model->scopes[n] == index && model->plan->nodes[n].op != PLAN_VARIABLE) {
                free_rel(model, n);
                eval_node(model, n);
            }
        }
        changed = false;
        for (uint32_t k = 0; k < node->inputs_len; k++) {
            changed |= assign(model, fixpoint->variables[k], node->inputs[k]);
        }
    }
    free_rel(model, index);
    eval_node(model, index);
    if (changed && fixpoint->limit_error) {
        struct rel *rel = &model->rels[index];
        char text[128];
        snprintf(text, sizeof(text), "a recursive query did not end within %llu iterations",
                 (unsigned long long)fixpoint->limit);
        view_free(&rel->err);
        put_error(rel, "54000", text, model->plan->name);
        consolidate(&rel->err_rows, &rel->err, batch_err_kinds, ERR_COLS);
    }
}

struct model_result model_eval(const struct plan *plan, uint32_t node,
                               const struct model_source *sources, uint64_t time)
{
    struct model model = {.plan = plan, .sources = sources, .time = time};
    model.rels = mem_zalloc(plan->nodes_len * sizeof(struct rel));
    model.kinds = mem_zalloc(plan->nodes_len * sizeof(uint8_t *));
    uint32_t *scopes = mem_alloc(plan->nodes_len * sizeof(uint32_t));
    uint32_t *source = mem_zalloc(plan->nodes_len * sizeof(uint32_t));
    plan_scopes(plan, scopes);
    model.scopes = scopes;
    model.source = source;
    uint32_t sources_len = 0;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        source[i] = sources_len;
        sources_len += plan->nodes[i].op == PLAN_SOURCE;
    }
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        eval_node(&model, i);
        if (plan->nodes[i].op == PLAN_FIXPOINT) {
            eval_scope(&model, i);
        }
    }
    struct model_result result = {.ok = model.rels[node].ok_rows, .err = model.rels[node].err_rows};
    model.rels[node].ok_rows = model.rels[node].err_rows = NULL;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        free_rel(&model, i);
    }
    free(scopes);
    free(source);
    free(model.rels);
    free(model.kinds);
    return result;
}

void model_free(struct model_result *result)
{
    batch_builder_free(result->ok);
    batch_builder_free(result->err);
}
