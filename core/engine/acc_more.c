/*
 * Bits are counted each: a value taken back takes its bits with it. Variances come from the exact
 * sums of the values and of their squares. PostgreSQL adds up squared distances from a running mean
 * (Youngs and Cramer), which depends on the order of the rows and cannot be taken back; ours is at
 * least as close to the true value, and the same whatever the history:
 *
 *   n * variance = sum(x^2) - sum(x)^2 / n
 *
 * x^2 is exact as the sum of two doubles (x*x rounded, and what rounding lost, by one fused
 * multiplication). The subtraction cancels as many bits as the mean is larger than the deviation,
 * squared; it is done in 113 bits, so that a mean 2^30 times the deviation leaves a full double.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/acc_more.h"

#include <math.h>

/* ---- bits ------------------------------------------------------------------------------------ */

/* Modulo 2^64, as all counters: transient overflow goes away with the update that caused it. */
void acc_bits_add(struct acc_bits *acc, int64_t value, int64_t diff)
{
    acc->n = (int64_t)((uint64_t)acc->n + (uint64_t)diff);
    for (uint64_t left = (uint64_t)value; left != 0; left &= left - 1) {
        int64_t *ones = &acc->ones[__builtin_ctzll(left)];
        *ones = (int64_t)((uint64_t)*ones + (uint64_t)diff);
    }
}

bool acc_bits_is_empty(const struct acc_bits *acc)
{
    bool empty = acc->n == 0;
    for (uint32_t i = 0; i < 64 && empty; i++) {
        empty = acc->ones[i] == 0;
    }
    return empty;
}

/* Values were sign-extended, so the bits above the type's width are those of its sign. */
void acc_bits_result(const struct acc_bits *acc, uint8_t func, uint8_t kind, struct datum *out)
{
    ASSERT(func == AGG_BIT_AND || func == AGG_BIT_OR || func == AGG_BIT_XOR);
    ASSERT(kind == TYPE_INT2 || kind == TYPE_INT4 || kind == TYPE_INT8);
    uint64_t bits = 0;
    for (uint32_t i = 0; i < 64; i++) {
        int64_t ones = acc->ones[i];
        bool set = func == AGG_BIT_AND  ? ones == acc->n
                   : func == AGG_BIT_OR ? ones != 0
                                        : (ones & 1) != 0;
        bits |= (uint64_t)set << i;
    }
    out->null = acc->n == 0;
    out->i = (int64_t)bits;
}

/* ---- squares --------------------------------------------------------------------------------- */

/* An infinite square of a finite value is counted as an infinity among the squares alone. */
void acc_square_add(struct acc_square *acc, struct pool *pool, double f, int64_t diff)
{
    acc->n = (int64_t)((uint64_t)acc->n + (uint64_t)diff);
    acc_add_double(&acc->sum, pool, f, diff);
    double square = f * f;
    acc_add_double(&acc->squares, pool, square, diff);
    if (isfinite(square)) {
        acc_add_double(&acc->squares, pool, fma(f, f, -square), diff);
    }
}

static bool exact_is_empty(const struct acc_exact *acc)
{
    return acc->nan == 0 && acc->plus_inf == 0 && acc->minus_inf == 0 && acc->parts == NULL;
}

bool acc_square_is_empty(const struct acc_square *acc)
{
    return acc->n == 0 && exact_is_empty(&acc->sum) && exact_is_empty(&acc->squares);
}

/*
 * var_pop of one value is 0, var_samp NULL; of NaN and infinities NaN, as PostgreSQL. Not as there,
 * a value whose square is too large for a double is an error even if the variance is not: of
 * {1e200, 1e200} it is 0 in PostgreSQL and over a window (wacc.c).
 */
bool acc_square_result(const struct acc_square *acc, uint8_t func, struct datum *out)
{
    ASSERT(func >= AGG_VAR_POP && func <= AGG_STDDEV_SAMP);
    bool sample = func == AGG_VAR_SAMP || func == AGG_STDDEV_SAMP;
    out->null = acc->n <= (sample ? 1 : 0);
    if (out->null) {
        return true;
    }
    if (acc->sum.nan != 0 || acc->sum.plus_inf != 0 || acc->sum.minus_inf != 0) {
        out->f = NAN;
        return true;
    }
    if (acc->squares.plus_inf != 0) {
        return false;
    }
    __float128 sum = acc_quad(&acc->sum), n = (__float128)acc->n;
    __float128 left = acc_quad(&acc->squares) - sum * sum / n;
    left = left < 0 ? 0 : left;
    double variance = (double)(left / (sample ? n - 1 : n));
    out->f = func >= AGG_STDDEV_POP ? sqrt(variance) : variance;
    return isfinite(out->f);
}
