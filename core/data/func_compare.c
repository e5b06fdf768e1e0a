/*
 * Comparison operators of every kind, and IS [NOT] DISTINCT FROM.
 *
 * One macro writes the six operators of a pair of kinds. Integers of different widths compare after
 * C's promotions, which are exact; floats of different widths as doubles. All results are bytes 0
 * or 1. Comparisons never fail.
 *
 * The orders are PostgreSQL's, so that ORDER BY, min, max and indexes agree with it: NaN is equal
 * to itself and above all numbers, -0 equals 0, text goes by bytes (collation C), intervals count
 * months as 30 days, jsonb has its own (json.h). They are the orders of datum_compare as well;
 * test_oracle.c holds both to a server.
 */
#include "core/data/json.h"
#include "core/data/kernel.h"

#define ORDERED_OPS(suffix, A, B)                                                                  \
    PLAIN_BINARY(k_eq_##suffix, A, B, uint8_t, x == y)                                             \
    PLAIN_BINARY(k_ne_##suffix, A, B, uint8_t, x != y)                                             \
    PLAIN_BINARY(k_lt_##suffix, A, B, uint8_t, x < y)                                              \
    PLAIN_BINARY(k_le_##suffix, A, B, uint8_t, x <= y)                                             \
    PLAIN_BINARY(k_gt_##suffix, A, B, uint8_t, x > y)                                              \
    PLAIN_BINARY(k_ge_##suffix, A, B, uint8_t, x >= y)

/* NaN equals NaN and is greater than everything else. */
#define FLOAT_EQ (((double)x == (double)y) | ((x != x) & (y != y)))
#define FLOAT_LT (((double)x < (double)y) | ((y != y) & (x == x)))
#define FLOAT_GT (((double)x > (double)y) | ((x != x) & (y == y)))
#define FLOAT_OPS(suffix, A, B)                                                                    \
    PLAIN_BINARY(k_eq_##suffix, A, B, uint8_t, FLOAT_EQ)                                           \
    PLAIN_BINARY(k_ne_##suffix, A, B, uint8_t, !FLOAT_EQ)                                          \
    PLAIN_BINARY(k_lt_##suffix, A, B, uint8_t, FLOAT_LT)                                           \
    PLAIN_BINARY(k_le_##suffix, A, B, uint8_t, !FLOAT_GT)                                          \
    PLAIN_BINARY(k_gt_##suffix, A, B, uint8_t, FLOAT_GT)                                           \
    PLAIN_BINARY(k_ge_##suffix, A, B, uint8_t, !FLOAT_LT)

/* compare: of x and y, less than, equal to or greater than 0. */
#define COMPARE_OPS(suffix, T, compare)                                                            \
    PLAIN_BINARY(k_eq_##suffix, T, T, uint8_t, compare(&x, &y) == 0)                               \
    PLAIN_BINARY(k_ne_##suffix, T, T, uint8_t, compare(&x, &y) != 0)                               \
    PLAIN_BINARY(k_lt_##suffix, T, T, uint8_t, compare(&x, &y) < 0)                                \
    PLAIN_BINARY(k_le_##suffix, T, T, uint8_t, compare(&x, &y) <= 0)                               \
    PLAIN_BINARY(k_gt_##suffix, T, T, uint8_t, compare(&x, &y) > 0)                                \
    PLAIN_BINARY(k_ge_##suffix, T, T, uint8_t, compare(&x, &y) >= 0)

/* So that the loops can treat it as a value. */
struct uuid {
    uint8_t bytes[16];
};

/* Bytes in order: as PostgreSQL sorts them. */
static inline int compare_uuid(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a, b, sizeof(*a));
}

/* text and bytea: by bytes, a prefix first (collation C). */
static inline int compare_slice(const struct slice *a, const struct slice *b)
{
    size_t len = a->len < b->len ? a->len : b->len;
    int r = len > 0 ? memcmp(a->s, b->s, len) : 0;
    return r != 0 ? r : (a->len > b->len) - (a->len < b->len);
}

/* Cheaper than compare_slice == 0: lengths decide most. */
static inline bool equal_slice(const struct slice *a, const struct slice *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->s, b->s, a->len) == 0);
}

/* A month counts 30 days: '1 mon' = '30 days'. */
static inline int compare_interval(const struct interval *a, const struct interval *b)
{
    int128 x = interval_span(a);
    int128 y = interval_span(b);
    return (x > y) - (x < y);
}

/* PostgreSQL's btree order of jsonb. */
static inline int compare_json(const struct slice *a, const struct slice *b)
{
    return json_compare((struct json){a->s, a->len}, (struct json){b->s, b->len});
}

ORDERED_OPS(bool, uint8_t, uint8_t)
ORDERED_OPS(int2, int16_t, int16_t)
ORDERED_OPS(int24, int16_t, int32_t)
ORDERED_OPS(int28, int16_t, int64_t)
ORDERED_OPS(int42, int32_t, int16_t)
ORDERED_OPS(int4, int32_t, int32_t)
ORDERED_OPS(int48, int32_t, int64_t)
ORDERED_OPS(int82, int64_t, int16_t)
ORDERED_OPS(int84, int64_t, int32_t)
ORDERED_OPS(int8, int64_t, int64_t)
ORDERED_OPS(uint8, uint64_t, uint64_t)
FLOAT_OPS(float4, float, float)
FLOAT_OPS(float48, float, double)
FLOAT_OPS(float84, double, float)
FLOAT_OPS(float8, double, double)
COMPARE_OPS(numeric, struct numeric, numeric_compare)
COMPARE_OPS(interval, struct interval, compare_interval)
COMPARE_OPS(uuid, struct uuid, compare_uuid)
COMPARE_OPS(json, struct slice, compare_json)
PLAIN_BINARY(k_eq_bytes, struct slice, struct slice, uint8_t, equal_slice(&x, &y))
PLAIN_BINARY(k_ne_bytes, struct slice, struct slice, uint8_t, !equal_slice(&x, &y))
PLAIN_BINARY(k_lt_bytes, struct slice, struct slice, uint8_t, compare_slice(&x, &y) < 0)
PLAIN_BINARY(k_le_bytes, struct slice, struct slice, uint8_t, compare_slice(&x, &y) <= 0)
PLAIN_BINARY(k_gt_bytes, struct slice, struct slice, uint8_t, compare_slice(&x, &y) > 0)
PLAIN_BINARY(k_ge_bytes, struct slice, struct slice, uint8_t, compare_slice(&x, &y) >= 0)

/* Not strict: NULL is a value like any other here, and the result is never NULL. */
static void distinct(struct call *c, bool negate)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        struct datum a;
        struct datum b;
        vec_datum(&c->args[0], c->arg_kinds[0], i, &a);
        vec_datum(&c->args[1], c->arg_kinds[1], i, &b);
        ((uint8_t *)c->out)[i] = datum_equal(c->arg_kinds[0], &a, &b) == negate;
    }
}

KERNEL(k_is_distinct, 2, 2, TYPE_BOOL, distinct(c, false))
KERNEL(k_is_not_distinct, 2, 2, TYPE_BOOL, distinct(c, true))
