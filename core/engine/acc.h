/*
 * Exact sums under retraction: what was added and taken away again leaves no trace, in any order.
 * Integers are summed in 128 bits; numerics per display scale and floats per exponent range in
 * 192-bit integers, so the sum is the exact one, rounded once when read (and the same on every
 * worker). Special values (NaN, infinities) are counted beside.
 */
#ifndef TAILRACE_CORE_ENGINE_ACC_H
#define TAILRACE_CORE_ENGINE_ACC_H

#include "core/data/type.h"
#include "core/engine/pool.h"

struct acc_part {
    struct acc_part *next; /* by tag, ascending */
    int32_t tag;           /* numeric: the scale; float: the exponent range */
    int32_t pad;
    int64_t count;         /* values, with multiplicity */
    uint64_t sum[3];       /* two's complement */
};

/* Sum of NUMERIC, FLOAT4 or FLOAT8. */
struct acc_exact {
    int64_t nan, plus_inf, minus_inf;
    struct acc_part *parts;
};

/* diff copies of the value (negative: taken away). */
void acc_add_numeric(struct acc_exact *acc, struct pool *pool, const struct numeric *n,
                     int64_t diff);
void acc_add_double(struct acc_exact *acc, struct pool *pool, double f, int64_t diff);
/* False when the value does not fit the type (SQLSTATE 22003). */
bool acc_numeric(const struct acc_exact *acc, struct numeric *out);
bool acc_double(const struct acc_exact *acc, double *out);
/* The sum of floats without special values to 113 bits: for what is computed further with it. */
__float128 acc_quad(const struct acc_exact *acc);
void acc_clear(struct acc_exact *acc, struct pool *pool);

/* A 128-bit integer as a numeric of scale 0; false beyond 38 digits. */
bool acc_int_numeric(__int128 value, struct numeric *out);

#endif
