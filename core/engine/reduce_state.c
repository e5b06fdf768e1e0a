/*
 * Accumulators of a group. Each can take a row back as well as add it, and says what is left, so a
 * group without rows can be told from one whose rows merely cancel.
 *
 * Every accumulator is a function of the multiset of its values alone, never of the order in which
 * they came: sums are exact, min, max and distinct keep all values. That is what makes retraction
 * exact and two workers agree. Counters are added modulo 2^64, 128-bit sums modulo 2^128: a
 * transient overflow within a batch goes away with the update that caused it.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/reduce_state.h"

#include "core/engine/acc.h"
#include "core/engine/acc_more.h"
#include "core/engine/collate.h"
#include "core/engine/order.h"

#include <math.h>

typedef __int128 int128;

/*
 * Sum and number of integers: a 64-bit value times a 64-bit diff fits 128 bits, and 2^127 / 2^63
 * rows would be needed to overflow.
 */
struct acc_int {
    int128 sum;
    int64_t n;
    int64_t pad;
};

/* Sum and number of numerics or floats. */
struct acc_sum {
    int64_t n;
    struct acc_exact exact;
};

/* Sums of the three fields of intervals, which PostgreSQL keeps apart too, and their number. */
struct acc_interval {
    int128 months, days, micros;
    int64_t n;
    int64_t pad;
};

/* How many of each: bool_and is "no false one", bool_or "any true one". */
struct acc_bool {
    int64_t yes, no;
};

/* at is an offset in the group; layouts are made of multiples of 8. */
static void *acc_of(const struct group *group, uint32_t at)
{
    ASSERT(at % 8 == 0);
    return (uint8_t *)group + at;
}

/* ---- layout ---------------------------------------------------------------------------------- */

/* plan_validate has checked that the aggregate exists over this kind. */
static enum acc_kind acc_kind_of(const struct plan_agg *agg, uint8_t arg_kind)
{
    switch (agg->func) {
    case AGG_COUNT_ALL:
        return agg->has_filter ? ACC_COUNT : ACC_NONE;
    case AGG_COUNT:
        return ACC_COUNT;
    case AGG_MIN:
    case AGG_MAX:
        return ACC_ORDER;
    case AGG_BOOL_AND:
    case AGG_BOOL_OR:
        return ACC_BOOL;
    case AGG_STRING_AGG:
    case AGG_ARRAY_AGG:
    case AGG_JSONB_AGG:
    case AGG_JSONB_OBJECT_AGG:
        return ACC_COLLATE;
    case AGG_BIT_AND:
    case AGG_BIT_OR:
    case AGG_BIT_XOR:
        return ACC_BITS;
    case AGG_VAR_POP:
    case AGG_VAR_SAMP:
    case AGG_STDDEV_POP:
    case AGG_STDDEV_SAMP:
        return ACC_SQUARE;
    default:
        break;
    }
    ASSERT(agg->func == AGG_SUM || agg->func == AGG_AVG);
    switch (arg_kind) {
    case TYPE_NUMERIC:
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return ACC_EXACT;
    case TYPE_INTERVAL:
        return ACC_INTERVAL;
    default:
        return ACC_INT;
    }
}

static uint32_t acc_size(enum acc_kind kind)
{
    static const uint32_t sizes[] = {
        [ACC_NONE] = 0,
        [ACC_COUNT] = sizeof(int64_t),
        [ACC_INT] = sizeof(struct acc_int),
        [ACC_EXACT] = sizeof(struct acc_sum),
        [ACC_INTERVAL] = sizeof(struct acc_interval),
        [ACC_BOOL] = sizeof(struct acc_bool),
        [ACC_ORDER] = sizeof(struct oset),
        [ACC_COLLATE] = sizeof(struct oset),
        [ACC_BITS] = sizeof(struct acc_bits),
        [ACC_SQUARE] = sizeof(struct acc_square),
    };
    ASSERT(kind < ARRAY_LEN(sizes));
    return sizes[kind];
}

/*
 * 128-bit sums want 16-byte alignment; groups are aligned so (pool.h, and the table's header of
 * 16).
 */
static uint32_t place(struct reduce_layout *layout, uint32_t size)
{
    uint32_t at = size >= 16 ? (layout->size + 15) & ~15u : layout->size;
    layout->size = at + size;
    ASSERT(at % 8 == 0 && size % 8 == 0);
    return at;
}

/* Kinds whose equal values can have different bytes. */
static bool has_forms(uint8_t kind)
{
    return kind == TYPE_NUMERIC || kind == TYPE_FLOAT4 || kind == TYPE_FLOAT8 ||
           kind == TYPE_INTERVAL || kind == TYPE_JSONB;
}

/*
 * Offsets are fixed here once, so that an update costs no decision about layout. aggs must outlive
 * it: they are the plan's.
 */
void reduce_layout_init(struct reduce_layout *layout, const struct plan_agg *aggs,
                        uint32_t aggs_len, const uint8_t *input_kinds, const uint8_t *key_kinds,
                        uint32_t key_len)
{
    *layout = (struct reduce_layout){.aggs_len = aggs_len};
    for (uint32_t i = 0; i < key_len; i++) {
        layout->forms |= has_forms(key_kinds[i]);
    }
    layout->size = layout->forms ? sizeof(struct group) : offsetof(struct group, forms);
    layout->aggs = mem_zalloc(aggs_len * sizeof(*layout->aggs));
    for (uint32_t i = 0; i < aggs_len; i++) {
        struct agg_layout *agg = &layout->aggs[i];
        agg->agg = &aggs[i];
        agg->arg_kind = aggs[i].func == AGG_COUNT_ALL ? 0 : input_kinds[aggs[i].arg];
        agg->acc = acc_kind_of(&aggs[i], agg->arg_kind);
        agg->at = place(layout, acc_size(agg->acc));
        /* For the others it makes no difference. */
        agg->distinct = aggs[i].distinct && agg->acc != ACC_ORDER && agg->acc != ACC_BOOL &&
                        agg->acc != ACC_COLLATE;
        agg->set_at = agg->distinct ? place(layout, sizeof(struct oset)) : 0;
    }
    layout->size = (layout->size + 7) & ~7u;
    ASSERT(layout->size >= offsetof(struct group, forms));
}

void reduce_layout_free(struct reduce_layout *layout)
{
    free(layout->aggs);
    *layout = (struct reduce_layout){0};
}

/* ---- changing -------------------------------------------------------------------------------- */

static int64_t plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

/* Adds diff copies of a value that is not NULL. Not for ordered sets, which need its bytes. */
static void accumulate(const struct agg_layout *agg, struct group *group, struct pool *pool,
                       const struct datum *d, int64_t diff)
{
    void *acc = acc_of(group, agg->at);
    switch (agg->acc) {
    case ACC_COUNT:
        *(int64_t *)acc = plus(*(int64_t *)acc, diff);
        break;
    case ACC_INT: {
        struct acc_int *sum = acc;
        sum->sum += (int128)d->i * diff;
        sum->n = plus(sum->n, diff);
        break;
    }
    case ACC_EXACT: {
        struct acc_sum *sum = acc;
        sum->n = plus(sum->n, diff);
        if (agg->arg_kind == TYPE_NUMERIC) {
            acc_add_numeric(&sum->exact, pool, &d->n, diff);
        } else {
            acc_add_double(&sum->exact, pool, d->f, diff);
        }
        break;
    }
    case ACC_INTERVAL: {
        struct acc_interval *sum = acc;
        sum->n = plus(sum->n, diff);
        sum->months += (int128)d->iv.months * diff;
        sum->days += (int128)d->iv.days * diff;
        sum->micros += (int128)d->iv.micros * diff;
        break;
    }
    case ACC_BOOL: {
        int64_t *side = d->b ? &((struct acc_bool *)acc)->yes : &((struct acc_bool *)acc)->no;
        *side = plus(*side, diff);
        break;
    }
    case ACC_BITS:
        acc_bits_add(acc, d->i, diff);
        break;
    case ACC_SQUARE:
        acc_square_add(acc, pool, d->f, diff);
        break;
    default:
        UNREACHABLE();
    }
}

/* The value as an element of an ordered set: bytes of its order, then its encoding. */
static uint32_t encode_value(const struct batch *b, uint32_t row, const struct agg_layout *agg,
                             const struct datum *d, struct buf *out)
{
    buf_clear(out);
    order_encode(agg->arg_kind, d, false, false, out);
    uint32_t sort_len = (uint32_t)out->len;
    ASSERT(sort_len > 0);
    batch_encode_row(b, row, &agg->agg->arg, 1, false, out);
    return sort_len;
}

/*
 * Of the elements that SQL holds equal only the first counts; a change may make another the first.
 * (They differ in form only, but the form of a sum follows the forms of its values.) First
 * appearance and last disappearance are what counts: between those the accumulator is left alone.
 */
static void update_distinct(const struct agg_layout *agg, struct group *group, struct pool *pool,
                            const struct batch *b, uint32_t row, const struct datum *d,
                            int64_t diff, struct reduce_scratch *scratch)
{
    ASSERT(agg->set_at > 0 && agg->arg_kind != 0);
    struct oset *set = acc_of(group, agg->set_at);
    ASSERT(agg->distinct && agg->acc != ACC_ORDER);
    uint32_t sort_len = encode_value(b, row, agg, d, &scratch->value);
    const uint8_t *sort = scratch->value.data;
    const struct oset_node *first = oset_first_of(set, sort, sort_len);
    bool had = first != NULL;
    buf_clear(&scratch->before);
    if (had) {
        buf_append(&scratch->before, first->bytes + sort_len, first->len - sort_len);
    }
    oset_update(set, pool, sort, (uint32_t)scratch->value.len, sort_len, diff);
    first = oset_first_of(set, sort, sort_len);
    if (had && first != NULL && first->len - sort_len == scratch->before.len &&
        memcmp(first->bytes + sort_len, scratch->before.data, scratch->before.len) == 0) {
        return;
    }
    struct datum value;
    if (had) {
        batch_decode_datum(scratch->before.data, agg->arg_kind, &value);
        accumulate(agg, group, pool, &value, -1);
    }
    if (first != NULL) {
        batch_decode_datum(first->bytes + sort_len, agg->arg_kind, &value);
        accumulate(agg, group, pool, &value, 1);
    }
}

/* FILTER (WHERE ...): the planner made the condition a column; NULL is not true. */
static bool passes_filter(const struct plan_agg *agg, const struct batch *b, uint32_t row)
{
    if (!agg->has_filter) {
        return true;
    }
    const struct batch_col *col = &b->col[agg->filter];
    return !batch_is_null(col, row) && ((const uint8_t *)col->values)[row] != 0;
}

/* Aggregates other than count(*) pass over NULL, as SQL says. */
void reduce_update(const struct reduce_layout *layout, struct group *group, struct pool *pool,
                   const struct batch *b, uint32_t row, int64_t diff,
                   struct reduce_scratch *scratch)
{
    ASSERT(row < b->rows);
    for (uint32_t i = 0; i < layout->aggs_len; i++) {
        const struct agg_layout *agg = &layout->aggs[i];
        struct datum d = {0};
        if (agg->acc == ACC_NONE || !passes_filter(agg->agg, b, row)) {
            continue;
        }
        if (agg->acc == ACC_COLLATE) {
            collate_update(agg->agg, acc_of(group, agg->at), pool, b, row, diff, &scratch->value);
            continue;
        }
        if (agg->arg_kind != 0) {
            batch_datum(&b->col[agg->agg->arg], row, &d);
            if (d.null) {
                continue;
            }
        }
        if (agg->distinct) {
            update_distinct(agg, group, pool, b, row, &d, diff, scratch);
        } else if (agg->acc == ACC_ORDER) {
            uint32_t sort_len = encode_value(b, row, agg, &d, &scratch->value);
            oset_update(acc_of(group, agg->at), pool, scratch->value.data,
                        (uint32_t)scratch->value.len, sort_len, diff);
        } else {
            accumulate(agg, group, pool, &d, diff);
        }
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

/*
 * All of the accumulator is zero, so forgetting it and starting again from zero is the same. A
 * count of zero alone would not do: +1 of one value and -1 of another leave a sum.
 */
static bool acc_is_empty(const struct agg_layout *agg, const struct group *group)
{
    const void *acc = acc_of(group, agg->at);
    switch (agg->acc) {
    case ACC_NONE:
        return true;
    case ACC_COUNT:
        return *(const int64_t *)acc == 0;
    case ACC_INT:
        return ((const struct acc_int *)acc)->n == 0 && ((const struct acc_int *)acc)->sum == 0;
    case ACC_EXACT: {
        const struct acc_sum *sum = acc;
        return sum->n == 0 && sum->exact.nan == 0 && sum->exact.plus_inf == 0 &&
               sum->exact.minus_inf == 0 && sum->exact.parts == NULL;
    }
    case ACC_INTERVAL: {
        const struct acc_interval *sum = acc;
        return sum->n == 0 && sum->months == 0 && sum->days == 0 && sum->micros == 0;
    }
    case ACC_BOOL:
        return ((const struct acc_bool *)acc)->yes == 0 && ((const struct acc_bool *)acc)->no == 0;
    case ACC_ORDER:
    case ACC_COLLATE:
        return ((const struct oset *)acc)->root == NULL;
    case ACC_BITS:
        return acc_bits_is_empty(acc);
    case ACC_SQUARE:
        return acc_square_is_empty(acc);
    }
    UNREACHABLE();
}

/* Only then may the group be forgotten: a later update would otherwise start from a wrong state. */
bool reduce_is_empty(const struct reduce_layout *layout, const struct group *group)
{
    if (group->count != 0 || (layout->forms && group->forms.root != NULL)) {
        return false;
    }
    for (uint32_t i = 0; i < layout->aggs_len; i++) {
        const struct agg_layout *agg = &layout->aggs[i];
        const struct oset *set = agg->distinct ? acc_of(group, agg->set_at) : NULL;
        if (!acc_is_empty(agg, group) || (set != NULL && set->root != NULL)) {
            return false;
        }
    }
    return true;
}

/* Always false, so that callers can return it. */
static bool range_error(const char **sqlstate, const char **message, const char *text)
{
    *sqlstate = "22003";
    *message = text;
    return false;
}

/* sum of int2 and int4 is bigint, of bigint numeric: as PostgreSQL has it. */
static bool int_result(const struct plan_agg *agg, int128 sum, struct datum *out,
                       const char **sqlstate, const char **message)
{
    if (agg->type.kind == TYPE_INT8) {
        out->i = (int64_t)sum;
        return out->i == sum || range_error(sqlstate, message, "bigint out of range");
    }
    return acc_int_numeric(sum, &out->n) ||
           range_error(sqlstate, message, "value overflows numeric format");
}

/* A float4 result is rounded from the exact sum, and overflows on its own bound. */
static bool exact_result(const struct agg_layout *agg, const struct acc_sum *sum,
                         struct datum *out, const char **sqlstate, const char **message)
{
    if (agg->arg_kind == TYPE_NUMERIC) {
        return acc_numeric(&sum->exact, &out->n) ||
               range_error(sqlstate, message, "value overflows numeric format");
    }
    bool fits = acc_double(&sum->exact, &out->f);
    if (agg->agg->type.kind == TYPE_FLOAT4 && isfinite(out->f)) {
        fits = isfinite((float)out->f);
    }
    return fits || range_error(sqlstate, message, "value out of range: overflow");
}

/* SQLSTATE 22008 is PostgreSQL's for datetime fields. */
static bool interval_result(const struct acc_interval *sum, struct datum *out,
                            const char **sqlstate, const char **message)
{
    out->iv = (struct interval){.months = (int32_t)sum->months,
                                .days = (int32_t)sum->days,
                                .micros = (int64_t)sum->micros};
    bool fits = out->iv.months == sum->months && out->iv.days == sum->days &&
                out->iv.micros == sum->micros;
    *sqlstate = fits ? *sqlstate : "22008";
    *message = fits ? *message : "interval out of range";
    return fits;
}

/*
 * The average from the sum in *out. n may be negative or any number in a group that is invalid
 * anyway; it is never 0 here.
 */
static bool divide(const struct plan_agg *agg, int64_t n, struct datum *out,
                   const char **sqlstate, const char **message)
{
    ASSERT(n != 0);
    err_t err = ERR_OK;
    if (agg->type.kind == TYPE_NUMERIC) {
        struct numeric by;
        acc_int_numeric(n, &by);
        struct numeric sum = out->n;
        err = numeric_div(&sum, &by, &out->n);
    } else if (agg->type.kind == TYPE_INTERVAL) {
        struct interval sum = out->iv;
        err = interval_div(&sum, (double)n, &out->iv);
    } else {
        out->f /= (double)n;
    }
    if (err != ERR_OK) {
        err_free(err);
        return range_error(sqlstate, message, "average out of range");
    }
    return true;
}

/* SQL's sum and avg of no values are NULL, not 0. */
bool reduce_int_sum(const struct plan_agg *agg, __int128 sum, int64_t n, struct datum *out,
                    const char **sqlstate, const char **message)
{
    out->null = n == 0;
    return n == 0 || (int_result(agg, sum, out, sqlstate, message) &&
                      (agg->func != AGG_AVG || divide(agg, n, out, sqlstate, message)));
}

/* A sum or average of any kind. */
static bool sum_result(const struct agg_layout *agg, const struct group *group, struct datum *out,
                       const char **sqlstate, const char **message)
{
    const void *acc = acc_of(group, agg->at);
    if (agg->acc == ACC_INT) {
        const struct acc_int *sum = acc;
        return reduce_int_sum(agg->agg, sum->sum, sum->n, out, sqlstate, message);
    }
    bool interval = agg->acc == ACC_INTERVAL;
    int64_t n = interval ? ((const struct acc_interval *)acc)->n : ((const struct acc_sum *)acc)->n;
    out->null = n == 0;
    if (n == 0) {
        return true;
    }
    bool ok = interval ? interval_result(acc, out, sqlstate, message)
                       : exact_result(agg, acc, out, sqlstate, message);
    return ok && (agg->agg->func != AGG_AVG || divide(agg->agg, n, out, sqlstate, message));
}

/* NULL when there is no value at all. */
static void bool_result(const struct agg_layout *agg, const struct acc_bool *acc,
                        struct datum *out)
{
    out->null = acc->yes == 0 && acc->no == 0;
    out->b = agg->agg->func == AGG_BOOL_AND ? acc->no == 0 : acc->yes != 0;
}

/* The value's own encoding stands behind its sort bytes: it is copied, not converted. */
static void order_result(const struct agg_layout *agg, const struct oset *set, struct buf *out)
{
    ASSERT(agg->acc == ACC_ORDER);
    const struct oset_node *node =
        agg->agg->func == AGG_MIN ? oset_first(set) : oset_last(set);
    if (node == NULL) {
        buf_append_byte(out, 0);
    } else {
        buf_append(out, node->bytes + node->sort_len, node->len - node->sort_len);
    }
}

/* The type's nullability plays no role: the encoding of a row says NULL by itself. */
static bool agg_result_of(const struct agg_layout *agg, const struct group *group, struct buf *out,
                          const char **sqlstate, const char **message)
{
    struct datum d = {0};
    bool ok = true;
    switch (agg->acc) {
    case ACC_NONE:
        d.i = group->count;
        break;
    case ACC_COUNT:
        d.i = *(const int64_t *)acc_of(group, agg->at);
        break;
    case ACC_BOOL:
        bool_result(agg, acc_of(group, agg->at), &d);
        break;
    case ACC_ORDER:
        order_result(agg, acc_of(group, agg->at), out);
        return true;
    case ACC_COLLATE:
        return collate_result(agg->agg, agg->arg_kind, acc_of(group, agg->at), out, sqlstate,
                              message);
    case ACC_BITS:
        acc_bits_result(acc_of(group, agg->at), agg->agg->func, agg->arg_kind, &d);
        break;
    case ACC_SQUARE:
        ok = acc_square_result(acc_of(group, agg->at), agg->agg->func, &d) ||
             range_error(sqlstate, message, "value out of range: overflow");
        break;
    default:
        ok = sum_result(agg, group, &d, sqlstate, message);
        break;
    }
    if (ok) {
        order_append_datum(agg->agg->type.kind, &d, out);
    }
    return ok;
}

/*
 * Ordered sets know it of single values: a group may have as many rows as it lost, and still hold
 * one value more and another less than it should.
 */
bool reduce_is_negative(const struct reduce_layout *layout, const struct group *group)
{
    bool negative = group->count < 0 || (layout->forms && group->forms.negative > 0);
    for (uint32_t i = 0; i < layout->aggs_len; i++) {
        const struct agg_layout *agg = &layout->aggs[i];
        bool ordered = agg->acc == ACC_ORDER || agg->acc == ACC_COLLATE;
        const struct oset *set = agg->distinct ? acc_of(group, agg->set_at)
                                 : ordered     ? acc_of(group, agg->at)
                                               : NULL;
        negative |= set != NULL && set->negative > 0;
    }
    return negative;
}

/* The first aggregate that fails decides the group's error. */
bool reduce_result(const struct reduce_layout *layout, const struct group *group, struct buf *out,
                   const char **sqlstate, const char **message)
{
    ASSERT(group->count > 0);
    for (uint32_t i = 0; i < layout->aggs_len; i++) {
        if (!agg_result_of(&layout->aggs[i], group, out, sqlstate, message)) {
            return false;
        }
    }
    return true;
}
