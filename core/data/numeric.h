/*
 * Decimal arithmetic as PostgreSQL's numeric does it, within 38 digits: results round half away
 * from zero, result scales follow PostgreSQL's rules; when a result does not fit, digits of the
 * fraction go first, and only when whole digits would be lost it is an overflow. Module-private.
 */
#ifndef TAILRACE_CORE_DATA_NUMERIC_H
#define TAILRACE_CORE_DATA_NUMERIC_H

#include "core/data/data_internal.h"

/* Passes a fault on, like TRY. */
#define TRY_FAULT(expression)                                                                      \
    do {                                                                                           \
        const struct fault *try_fault_ = (expression);                                             \
        if (__builtin_expect(try_fault_ != NULL, 0)) {                                             \
            return try_fault_;                                                                     \
        }                                                                                          \
    } while (0)

extern const uint128 numeric_pow10[NUMERIC_DIGITS_MAX + 1];

/* Decimal digits of v; 0 for 0. */
int u128_digits(uint128 v);

const struct fault *num_add(const struct numeric *a, const struct numeric *b, struct numeric *out);
const struct fault *num_sub(const struct numeric *a, const struct numeric *b, struct numeric *out);
const struct fault *num_mul(const struct numeric *a, const struct numeric *b, struct numeric *out);
/* 22012 for a divisor of zero. */
const struct fault *num_div(const struct numeric *a, const struct numeric *b, struct numeric *out);
const struct fault *num_mod(const struct numeric *a, const struct numeric *b, struct numeric *out);
struct numeric num_neg(const struct numeric *a);
struct numeric num_abs(const struct numeric *a);
int num_sign(const struct numeric *a); /* -1, 0, 1; NaN counts as positive */

/* ROUND: half away from zero; TRUNC: towards zero; CEIL and FLOOR: up and down. */
enum num_rounding { NUM_ROUND, NUM_TRUNC, NUM_CEIL, NUM_FLOOR };
/* To this many digits behind the point (negative: before); result scale is max(scale, 0). */
const struct fault *num_round(const struct numeric *a, int scale, enum num_rounding how,
                              struct numeric *out);

/* Each fails with SQLSTATE 2201F or 2201E where there is no real result. */
const struct fault *num_sqrt(const struct numeric *a, struct numeric *out);
const struct fault *num_exp(const struct numeric *a, struct numeric *out);
const struct fault *num_ln(const struct numeric *a, struct numeric *out);
const struct fault *num_power(const struct numeric *a, const struct numeric *b,
                              struct numeric *out);

struct numeric num_from_int(int64_t v);
/* 15 (float8) or 6 (float4) significant digits, as PostgreSQL casts. */
const struct fault *num_from_double(double v, int digits, struct numeric *out);
/* Rounded; false when it does not fit an int64. Finite numbers only. */
bool num_to_int64(const struct numeric *a, int64_t *out);
/* Correctly rounded. */
double num_to_double(const struct numeric *a);

/* Text: NULL fault and *ok false is a syntax error. */
const struct fault *num_parse(const char *s, size_t len, struct numeric *out, bool *ok);
enum { NUM_TEXT_MAX = 48 };
/* Writes at most NUM_TEXT_MAX characters, not terminated; returns how many. */
size_t num_print(const struct numeric *n, char *out);
/* Rounds to numeric(precision, scale) of the typmod and checks the precision. */
err_t num_apply_typmod(int32_t typmod, struct numeric *n);

/*
 * coef (128 bits and sign) * 10^-scale as a numeric, scale any: rounds if it must. The one place
 * where a result is brought to 38 digits.
 */
const struct fault *num_fit(bool negative, uint128 coef, int scale, struct numeric *out);

#endif
