/*
 * Further accumulators that can take a value back: bits, and squares for variances of floats.
 * Like those of acc.h they are functions of the multiset of their values alone.
 */
#ifndef TAILRACE_CORE_ENGINE_ACC_MORE_H
#define TAILRACE_CORE_ENGINE_ACC_MORE_H

#include "core/data/expr.h"
#include "core/engine/acc.h"

/* For bit_and, bit_or, bit_xor: how many values have each bit. */
struct acc_bits {
    int64_t n;
    int64_t pad;
    int64_t ones[64];
};

void acc_bits_add(struct acc_bits *acc, int64_t value, int64_t diff);
bool acc_bits_is_empty(const struct acc_bits *acc);
/* func: one of the three; NULL without values. kind: INT2, INT4 or INT8. */
void acc_bits_result(const struct acc_bits *acc, uint8_t func, uint8_t kind, struct datum *out);

/* For var_pop and its like over floats. */
struct acc_square {
    int64_t n;
    int64_t pad;
    struct acc_exact sum;
    struct acc_exact squares;
};

void acc_square_add(struct acc_square *acc, struct pool *pool, double f, int64_t diff);
bool acc_square_is_empty(const struct acc_square *acc);
/* False when a square of a finite value is beyond the type (22003). */
bool acc_square_result(const struct acc_square *acc, uint8_t func, struct datum *out);

#endif
