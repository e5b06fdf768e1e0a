/*
 * Roots, exponentials, logarithms and powers of numeric. PostgreSQL computes them to a scale that
 * gives at least 16 significant digits; the same scale is chosen here, and the value computed in
 * 113-bit floating point (about 34 digits), integer powers in 38 decimal digits.
 *
 *   sqrt(2)           1.414213562373095
 *   exp(1.0)          2.7182818284590452
 *   ln(2.0)           0.6931471805599453
 *   power(2, 0.5)     1.4142135623730951
 *   power(1.1, 100)   13780.6123398222
 *
 * The scales come from PostgreSQL's estimates of the result's weight (estimate_ln_dweight and its
 * like), which must be followed even where they are off by one, as the number of digits shown
 * depends on them. Where a result needs more digits than the 33 we compute exactly, the last ones
 * may differ from PostgreSQL's.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/numeric.h"

#include <math.h>

/* glibc's, declared here because clang's view of math.h hides them. */
extern __float128 expf128(__float128 x);
extern __float128 logf128(__float128 x);
extern __float128 floorf128(__float128 x);

static const struct fault fault_sqrt_negative = {"2201F",
                                                 "cannot take square root of a negative number"};
static const struct fault fault_ln_zero = {"2201E", "cannot take logarithm of zero"};
static const struct fault fault_ln_negative = {
    "2201E", "cannot take logarithm of a negative number"};
static const struct fault fault_zero_power = {
    "2201F", "zero raised to a negative power is undefined"};
static const struct fault fault_negative_power = {
    "2201F", "a negative number raised to a non-integer power yields a complex result"};

/* Of a finite number; without its sign. */
static uint128 magnitude(const struct numeric *n)
{
    int128 c = numeric_coef(n);
    return c < 0 ? -(uint128)c : (uint128)c;
}

/* Exact up to 10^38, correct to 113 bits above. */
static __float128 pow10_float(int n)
{
    ASSERT(n >= 0);
    __float128 r = 1;
    for (; n > NUMERIC_DIGITS_MAX; n -= NUMERIC_DIGITS_MAX) {
        r *= (__float128)numeric_pow10[NUMERIC_DIGITS_MAX];
    }
    return r * (__float128)numeric_pow10[n];
}

/* One rounding: both operands are exact to 113 bits or nearly so. */
static __float128 to_float128(const struct numeric *n)
{
    return (__float128)numeric_coef(n) / (__float128)numeric_pow10[n->scale];
}

/*
 * v at this scale, the scale lowered until the digits fit. The + 1 leaves room for the rounding:
 * 9.99.. may become 10.
 */
static const struct fault *from_float128(__float128 v, int scale, struct numeric *out)
{
    ASSERT(scale >= 0);
    bool negative = v < 0;
    __float128 m = negative ? -v : v;
    __float128 limit = (__float128)numeric_pow10[NUMERIC_DIGITS_MAX];
    if (m >= limit) {
        return &fault_numeric_overflow;
    }
    scale = scale > NUMERIC_SCALE_MAX ? NUMERIC_SCALE_MAX : scale;
    while (scale > 0 && m * pow10_float(scale) + 1 >= limit) {
        scale--;
    }
    uint128 coef = (uint128)floorf128(m * pow10_float(scale) + (__float128)0.5);
    return num_fit(negative, coef, scale, out);
}

/* PostgreSQL's bounds of a display scale. */
static int result_scale(int significant, int scale_min)
{
    int scale = significant > scale_min ? significant : scale_min;
    return scale < 0 ? 0 : scale > 1000 ? 1000 : scale;
}

/* The weight of the first digit of base 10000, as PostgreSQL's var->weight. */
static int weight_of(const struct numeric *n)
{
    ASSERT(n->scale >= 0 && n->scale <= NUMERIC_SCALE_MAX);
    uint128 m = magnitude(n);
    if (m == 0) {
        return 0;
    }
    int exponent = u128_digits(m) - 1 - n->scale;
    return exponent >= 0 ? exponent / 4 : -((3 - exponent) / 4);
}

/* ---- square root ----------------------------------------------------------------------------- */

/* floor(sqrt(v)) by Newton's method from above. */
static uint128 isqrt(uint128 v)
{
    if (v == 0) {
        return 0;
    }
    uint128 x = (uint128)sqrtl((long double)v) + 2;
    for (;;) {
        uint128 y = (x + v / x) / 2;
        if (y >= x) {
            return x;
        }
        x = y;
    }
}

/*
 * Exact when the coefficient, moved up to twice the result's scale, has at most 38 digits; else in
 * floating point, to 34 digits.
 */
const struct fault *num_sqrt(const struct numeric *a, struct numeric *out)
{
    ASSERT(out != NULL);
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    if (num_sign(a) < 0) {
        return &fault_sqrt_negative;
    }
    if (a->special != NUMERIC_FINITE) {
        *out = *a;
        return NULL;
    }
    int half = (weight_of(a) + 1) * 4 / 2 - 1;
    int scale = result_scale(16 - half, a->scale);
    uint128 m = magnitude(a);
    int shift = 2 * scale - a->scale;
    if (shift >= 0 && u128_digits(m) + shift <= NUMERIC_DIGITS_MAX) {
        uint128 v = m * numeric_pow10[shift];
        uint128 root = isqrt(v);
        root += v - root * root > root; /* beyond the half */
        return num_fit(false, root, scale, out);
    }
    /* One Newton step makes the long double root good to 113 bits. */
    __float128 v = to_float128(a);
    __float128 x = (__float128)sqrtl((long double)v);
    if (x != 0) {
        x = (x + v / x) / 2;
        x = (x + v / x) / 2;
    }
    return from_float128(x, scale, out);
}

/* ---- exp and ln ------------------------------------------------------------------------------ */

/*
 * 0.434.. is log10(e): the decimal weight of the result decides its scale. An argument beyond 2,000
 * overflows or vanishes anyway.
 */
const struct fault *num_exp(const struct numeric *a, struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    if (a->special != NUMERIC_FINITE) {
        *out = a->special == NUMERIC_NINF ? numeric_make(0, 0) : *a;
        return NULL;
    }
    double weight = num_to_double(a) * 0.434294481903252;
    weight = weight > 2000 ? 2000 : weight < -2000 ? -2000 : weight;
    int scale = result_scale(16 - (int)weight, a->scale);
    return from_float128(expf128(to_float128(a)), scale, out);
}

/*
 * The first digits of base 10000: the value is about *digits * 10^*exponent. Enough for a logarithm
 * that is only used to choose a scale.
 */
static void first_digits(const struct numeric *a, double *digits, int *exponent)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    uint128 m = magnitude(a);
    int weight = weight_of(a);
    int unit = weight * 4 - 4; /* two digits of base 10000 */
    int shift = -unit - a->scale;
    if (shift >= 0) {
        *digits = (double)m * (double)pow10_float(shift);
    } else {
        *digits = -shift > NUMERIC_DIGITS_MAX ? 0 : (double)(m / numeric_pow10[-shift]);
    }
    *exponent = unit;
}

/*
 * estimate_ln_dweight: the decimal weight of ln(a). Near 1 the logarithm is about x - 1, which may
 * be tiny: there it is counted from the difference.
 */
static int ln_weight(const struct numeric *a)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    static const struct numeric low = {.lo = 9, .scale = 1};
    static const struct numeric high = {.lo = 11, .scale = 1};
    if (num_sign(a) <= 0) {
        return 0;
    }
    if (numeric_compare(a, &low) >= 0 && numeric_compare(a, &high) <= 0) {
        struct numeric one = numeric_make(1, 0);
        struct numeric x;
        if (num_sub(a, &one, &x) != NULL || num_sign(&x) == 0) {
            return 0;
        }
        return u128_digits(magnitude(&x)) - 1 - x.scale;
    }
    double digits;
    int exponent;
    first_digits(a, &digits, &exponent);
    double ln = log(digits) + exponent * 2.302585092994046;
    return (int)log10(fabs(ln));
}

/* Errors of SQLSTATE 2201E: zero and negative numbers have none. */
const struct fault *num_ln(const struct numeric *a, struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    if (a->special == NUMERIC_NAN || a->special == NUMERIC_INF) {
        *out = *a;
        return NULL;
    }
    int sign = num_sign(a);
    if (sign <= 0) {
        return sign == 0 ? &fault_ln_zero : &fault_ln_negative;
    }
    int scale = result_scale(16 - ln_weight(a), a->scale);
    return from_float128(logf128(to_float128(a)), scale, out);
}

/* ---- power ----------------------------------------------------------------------------------- */

/* A decimal of up to 38 digits and a free exponent: coef * 10^exponent. */
struct decimal {
    struct numeric coef; /* scale 0..37 after normalising: see decimal_mul */
    int exponent;
};

/* Keeps the mantissa between 1 and 10 so that products lose no significant digits. */
static struct decimal decimal_of(const struct numeric *n)
{
    ASSERT(n->scale >= 0 && n->scale <= NUMERIC_SCALE_MAX);
    int digits = u128_digits(magnitude(n));
    ASSERT(digits > 0);
    struct decimal d = {.coef = *n, .exponent = digits - 1 - n->scale};
    d.coef.scale = (int16_t)(digits - 1);
    return d;
}

/* Each product is rounded to 38 digits: after 31 squarings about 37 are right. */
static struct decimal decimal_mul(const struct decimal *a, const struct decimal *b)
{
    struct numeric product;
    const struct fault *fault = num_mul(&a->coef, &b->coef, &product);
    ASSERT(fault == NULL); /* below 100 */
    struct decimal d = decimal_of(&product);
    d.exponent += a->exponent + b->exponent;
    return d;
}

/* The one rounding to the result's scale. */
static const struct fault *decimal_round(const struct decimal *d, int scale, struct numeric *out)
{
    struct numeric n = d->coef;
    int128 c = numeric_coef(&n);
    bool negative = c < 0;
    int have = n.scale - d->exponent; /* digits behind the point */
    if (have > scale) {
        int drop = have - scale;
        uint128 m = magnitude(&n);
        if (drop > NUMERIC_DIGITS_MAX) {
            *out = numeric_make(0, scale > NUMERIC_SCALE_MAX ? NUMERIC_SCALE_MAX : scale);
            return NULL;
        }
        uint128 unit = numeric_pow10[drop];
        uint128 q = m / unit + (m % unit >= unit - m % unit && m % unit != 0);
        return num_fit(negative, q, scale, out);
    }
    TRY_FAULT(num_fit(negative, magnitude(&n), have, out));
    struct numeric exact = *out;
    return num_round(&exact, scale, NUM_ROUND, out);
}

/* By squaring. Stops early once the result can only overflow or vanish. */
static const struct fault *power_int(const struct numeric *base, int64_t exp, int scale,
                                     struct numeric *out)
{
    ASSERT(base->scale >= 0 && base->scale <= NUMERIC_SCALE_MAX);
    struct numeric one = numeric_make(1, 0);
    if (num_sign(base) == 0) {
        *out = numeric_make(exp == 0, 0);
        struct numeric n = *out;
        return exp < 0 ? &fault_division_by_zero : num_round(&n, scale, NUM_ROUND, out);
    }
    struct decimal x = decimal_of(base);
    struct decimal r = decimal_of(&one);
    for (uint64_t e = exp < 0 ? -(uint64_t)exp : (uint64_t)exp; e != 0; e >>= 1) {
        if (e & 1) {
            r = decimal_mul(&r, &x);
        }
        if (e > 1) {
            x = decimal_mul(&x, &x);
        }
        if (r.exponent > 100000 || r.exponent < -100000) {
            break;
        }
    }
    if (exp < 0) {
        /* 1 / r, r between 1 and 10: the quotient has 37 digits. */
        struct numeric wide = numeric_make((int128)numeric_pow10[36], 36);
        TRY_FAULT(num_div(&wide, &r.coef, &one));
        int exponent = -r.exponent;
        r = decimal_of(&one);
        r.exponent += exponent;
    }
    if (r.exponent > NUMERIC_DIGITS_MAX) {
        return &fault_numeric_overflow;
    }
    return decimal_round(&r, scale, out);
}

/* Decides the sign of a power of a negative number. */
static bool is_odd_integer(const struct numeric *b)
{
    struct numeric n = numeric_normalize(b);
    return n.special == NUMERIC_FINITE && n.scale == 0 && (n.lo & 1) != 0;
}

/*
 * Whole exponents multiply exactly, others go through exp(y * ln x). The base of those is positive,
 * or the exponent a whole number beyond 32 bits.
 */
static const struct fault *power_finite(const struct numeric *a, const struct numeric *b,
                                        struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    struct numeric whole = numeric_normalize(b);
    int64_t exp = 0;
    if (whole.scale == 0 && num_to_int64(&whole, &exp) && exp == (int32_t)exp) {
        return power_int(a, exp, result_scale(16, a->scale), out);
    }
    if (num_sign(a) < 0 && whole.scale > 0) {
        return &fault_negative_power;
    }
    if (num_sign(a) == 0) {
        struct numeric zero = numeric_make(0, 0);
        return num_round(&zero, 16, NUM_ROUND, out);
    }
    bool negative = num_sign(a) < 0 && is_odd_integer(b);
    struct numeric base = num_abs(a);
    __float128 ln = logf128(to_float128(&base)) * to_float128(b);
    double weight = (double)ln * 0.434294481903252;
    if (fabs(weight) > 1000) {
        if (weight > 0) {
            return &fault_numeric_overflow;
        }
        *out = numeric_make(0, NUMERIC_SCALE_MAX);
        return NULL;
    }
    int scale_min = a->scale > b->scale ? a->scale : b->scale;
    __float128 power = expf128(ln);
    return from_float128(negative ? -power : power, result_scale(16 - (int)weight, scale_min), out);
}

/*
 * POSIX's rules for pow() with infinities. 1 to any power and anything to the power of 0 is 1, even
 * of NaN.
 */
static const struct fault *power_special(const struct numeric *a, const struct numeric *b,
                                         struct numeric *out)
{
    ASSERT((a->special | b->special) != 0);
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    struct numeric one = numeric_make(1, 0);
    struct numeric infinity = {.special = NUMERIC_INF};
    struct numeric nan = {.special = NUMERIC_NAN};
    bool b_zero = b->special == NUMERIC_FINITE && num_sign(b) == 0;
    bool a_one = a->special == NUMERIC_FINITE && numeric_compare(a, &one) == 0;
    if (a_one || b_zero) {
        *out = one;
        return NULL;
    }
    if (a->special == NUMERIC_NAN || b->special == NUMERIC_NAN) {
        *out = nan;
        return NULL;
    }
    if (num_sign(a) == 0) {
        *out = numeric_make(0, 0);
        return num_sign(b) < 0 ? &fault_zero_power : NULL;
    }
    if (b->special != NUMERIC_FINITE) {
        struct numeric size = num_abs(a);
        int order = numeric_compare(&size, &one);
        bool grows = (order > 0) == (num_sign(b) > 0);
        *out = order == 0 ? one : grows ? infinity : numeric_make(0, 0);
        return NULL;
    }
    if (a->special == NUMERIC_NINF && numeric_normalize(b).scale > 0) {
        return &fault_negative_power;
    }
    if (num_sign(b) < 0) {
        *out = numeric_make(0, 0);
        return NULL;
    }
    *out = a->special == NUMERIC_NINF && is_odd_integer(b) ? *a : infinity;
    return NULL;
}

/* 0 to a negative power is an error of its own (2201F). */
const struct fault *num_power(const struct numeric *a, const struct numeric *b,
                              struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    if ((a->special | b->special) != 0) {
        return power_special(a, b, out);
    }
    if (num_sign(a) == 0 && num_sign(b) < 0) {
        return &fault_zero_power;
    }
    return power_finite(a, b, out);
}
