/*
 * Decimal arithmetic: see numeric.h. Everything that fits in 128 bits takes a short path; products,
 * dividends and aligned sums that do not go through 256-bit integers.
 *
 * A numeric is coefficient * 10^-scale with at most 38 digits, so a coefficient fits 127 bits, a
 * product of two 254, and a dividend moved up by 38 digits too. Results are formed exactly and then
 * brought to 38 digits in one place (num_fit, fit_256): first digits behind the scale's limit are
 * rounded away, then digits of the fraction as far as needed; whole digits never, that is an
 * overflow. Rounding happens once, on the exact result, half away from zero.
 *
 * Scales of results follow PostgreSQL: sums the larger scale, products the sum of the scales,
 * quotients at least 16 significant digits. Where PostgreSQL would give more than 38 digits we give
 * 38 (docs/decisions/0002).
 *
 * Special values come first in each operation: NaN swallows everything, infinities follow IEEE.
 * Functions here keep no state; any thread.
 */
#include "core/data/numeric.h"

const uint128 numeric_pow10[NUMERIC_DIGITS_MAX + 1] = {
    ((uint128)0x0ULL << 64) | 0x1ULL, /* 10^0 */
    ((uint128)0x0ULL << 64) | 0xaULL, /* 10^1 */
    ((uint128)0x0ULL << 64) | 0x64ULL, /* 10^2 */
    ((uint128)0x0ULL << 64) | 0x3e8ULL, /* 10^3 */
    ((uint128)0x0ULL << 64) | 0x2710ULL, /* 10^4 */
    ((uint128)0x0ULL << 64) | 0x186a0ULL, /* 10^5 */
    ((uint128)0x0ULL << 64) | 0xf4240ULL, /* 10^6 */
    ((uint128)0x0ULL << 64) | 0x989680ULL, /* 10^7 */
    ((uint128)0x0ULL << 64) | 0x5f5e100ULL, /* 10^8 */
    ((uint128)0x0ULL << 64) | 0x3b9aca00ULL, /* 10^9 */
    ((uint128)0x0ULL << 64) | 0x2540be400ULL, /* 10^10 */
    ((uint128)0x0ULL << 64) | 0x174876e800ULL, /* 10^11 */
    ((uint128)0x0ULL << 64) | 0xe8d4a51000ULL, /* 10^12 */
    ((uint128)0x0ULL << 64) | 0x9184e72a000ULL, /* 10^13 */
    ((uint128)0x0ULL << 64) | 0x5af3107a4000ULL, /* 10^14 */
    ((uint128)0x0ULL << 64) | 0x38d7ea4c68000ULL, /* 10^15 */
    ((uint128)0x0ULL << 64) | 0x2386f26fc10000ULL, /* 10^16 */
    ((uint128)0x0ULL << 64) | 0x16345785d8a0000ULL, /* 10^17 */
    ((uint128)0x0ULL << 64) | 0xde0b6b3a7640000ULL, /* 10^18 */
    ((uint128)0x0ULL << 64) | 0x8ac7230489e80000ULL, /* 10^19 */
    ((uint128)0x5ULL << 64) | 0x6bc75e2d63100000ULL, /* 10^20 */
    ((uint128)0x36ULL << 64) | 0x35c9adc5dea00000ULL, /* 10^21 */
    ((uint128)0x21eULL << 64) | 0x19e0c9bab2400000ULL, /* 10^22 */
    ((uint128)0x152dULL << 64) | 0x2c7e14af6800000ULL, /* 10^23 */
    ((uint128)0xd3c2ULL << 64) | 0x1bcecceda1000000ULL, /* 10^24 */
    ((uint128)0x84595ULL << 64) | 0x161401484a000000ULL, /* 10^25 */
    ((uint128)0x52b7d2ULL << 64) | 0xdcc80cd2e4000000ULL, /* 10^26 */
    ((uint128)0x33b2e3cULL << 64) | 0x9fd0803ce8000000ULL, /* 10^27 */
    ((uint128)0x204fce5eULL << 64) | 0x3e25026110000000ULL, /* 10^28 */
    ((uint128)0x1431e0faeULL << 64) | 0x6d7217caa0000000ULL, /* 10^29 */
    ((uint128)0xc9f2c9cd0ULL << 64) | 0x4674edea40000000ULL, /* 10^30 */
    ((uint128)0x7e37be2022ULL << 64) | 0xc0914b2680000000ULL, /* 10^31 */
    ((uint128)0x4ee2d6d415bULL << 64) | 0x85acef8100000000ULL, /* 10^32 */
    ((uint128)0x314dc6448d93ULL << 64) | 0x38c15b0a00000000ULL, /* 10^33 */
    ((uint128)0x1ed09bead87c0ULL << 64) | 0x378d8e6400000000ULL, /* 10^34 */
    ((uint128)0x13426172c74d82ULL << 64) | 0x2b878fe800000000ULL, /* 10^35 */
    ((uint128)0xc097ce7bc90715ULL << 64) | 0xb34b9f1000000000ULL, /* 10^36 */
    ((uint128)0x785ee10d5da46d9ULL << 64) | 0xf436a000000000ULL, /* 10^37 */
    ((uint128)0x4b3b4ca85a86c47aULL << 64) | 0x98a224000000000ULL, /* 10^38 */
};

const struct fault fault_division_by_zero = {"22012", "division by zero"};
const struct fault fault_numeric_overflow = {"22003", "value overflows numeric format"};
const struct fault fault_int2_range = {"22003", "smallint out of range"};
const struct fault fault_int4_range = {"22003", "integer out of range"};
const struct fault fault_int8_range = {"22003", "bigint out of range"};
const struct fault fault_float_overflow = {"22003", "value out of range: overflow"};
const struct fault fault_float_underflow = {"22003", "value out of range: underflow"};
const struct fault fault_oid_range = {"22003", "OID out of range"};
const struct fault fault_date_range = {"22008", "date out of range"};
const struct fault fault_timestamp_range = {"22008", "timestamp out of range"};
const struct fault fault_interval_range = {"22008", "interval out of range"};

/* ERR_INVALID: an error of the row, not of the system. */
err_t fault_err(const struct fault *fault)
{
    return fault == NULL ? ERR_OK : err_sql(ERR_INVALID, fault->sqlstate, "%s", fault->message);
}

/* ---- 256 bits -------------------------------------------------------------------------------- */

/* An unsigned integer of 256 bits. Only what is needed: no signs, no shifts. */
struct u256 {
    uint128 lo;
    uint128 hi;
};

/* Schoolbook, in 64-bit limbs. mid cannot overflow: three values below 2^64. */
static struct u256 u256_mul(uint128 a, uint128 b)
{
    uint64_t a0 = (uint64_t)a;
    uint64_t a1 = (uint64_t)(a >> 64);
    uint64_t b0 = (uint64_t)b;
    uint64_t b1 = (uint64_t)(b >> 64);
    uint128 p00 = (uint128)a0 * b0;
    uint128 p01 = (uint128)a0 * b1;
    uint128 p10 = (uint128)a1 * b0;
    uint128 p11 = (uint128)a1 * b1;
    uint128 mid = (p00 >> 64) + (uint64_t)p01 + (uint64_t)p10;
    return (struct u256){.lo = mid << 64 | (uint64_t)p00,
                         .hi = p11 + (p01 >> 64) + (p10 >> 64) + (mid >> 64)};
}

static int u256_cmp(struct u256 a, struct u256 b)
{
    if (a.hi != b.hi) {
        return a.hi < b.hi ? -1 : 1;
    }
    return a.lo < b.lo ? -1 : a.lo > b.lo;
}

/* The callers' sums stay below 2^255. */
static struct u256 u256_add(struct u256 a, struct u256 b)
{
    struct u256 r = {.lo = a.lo + b.lo, .hi = a.hi + b.hi};
    r.hi += r.lo < a.lo;
    return r;
}

/* b is not greater than a. */
static struct u256 u256_sub(struct u256 a, struct u256 b)
{
    ASSERT(u256_cmp(a, b) >= 0);
    return (struct u256){.lo = a.lo - b.lo, .hi = a.hi - b.hi - (a.lo < b.lo)};
}

/*
 * Shift and subtract, a bit at a time: rare enough. b is not 0 and less than 2^255. 256 rounds; the
 * short path covers the rest.
 */
static struct u256 u256_divmod(struct u256 a, struct u256 b, struct u256 *rem)
{
    ASSERT((b.lo | b.hi) != 0 && b.hi >> 127 == 0);
    struct u256 q = {0};
    struct u256 r = {0};
    if (a.hi == 0 && b.hi == 0) {
        *rem = (struct u256){.lo = a.lo % b.lo};
        return (struct u256){.lo = a.lo / b.lo};
    }
    for (int i = 255; i >= 0; i--) {
        uint128 bit = i >= 128 ? a.hi >> (i - 128) & 1 : a.lo >> i & 1;
        r.hi = r.hi << 1 | r.lo >> 127;
        r.lo = r.lo << 1 | bit;
        if (u256_cmp(r, b) >= 0) {
            r = u256_sub(r, b);
            if (i >= 128) {
                q.hi |= (uint128)1 << (i - 128);
            } else {
                q.lo |= (uint128)1 << i;
            }
        }
    }
    *rem = r;
    return q;
}

/*
 * a / d, rounded half up. The comparison of the remainder with what is missing to d avoids doubling
 * it, which could overflow.
 */
static struct u256 u256_div_round(struct u256 a, struct u256 d)
{
    struct u256 rem;
    struct u256 q = u256_divmod(a, d, &rem);
    if (u256_cmp(rem, u256_sub(d, rem)) >= 0) {
        q = u256_add(q, (struct u256){.lo = 1});
    }
    return q;
}

/* By bisection of the table of powers. */
int u128_digits(uint128 v)
{
    int lo = 0;
    int hi = NUMERIC_DIGITS_MAX + 1;
    while (lo < hi) { /* the first power greater than v */
        int mid = (lo + hi) / 2;
        if (mid <= NUMERIC_DIGITS_MAX && numeric_pow10[mid] <= v) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Up to 10^76, which has 253 bits. */
static struct u256 pow10_256(int n)
{
    ASSERT(n >= 0 && n <= 2 * NUMERIC_DIGITS_MAX);
    if (n <= NUMERIC_DIGITS_MAX) {
        return (struct u256){.lo = numeric_pow10[n]};
    }
    return u256_mul(numeric_pow10[NUMERIC_DIGITS_MAX], numeric_pow10[n - NUMERIC_DIGITS_MAX]);
}

/*
 * Finite, and the coefficient fits 64 bits: nearly all numbers there are. The high half is the sign
 * of the low one.
 */
static inline bool is_small(const struct numeric *n)
{
    return n->special == NUMERIC_FINITE && n->hi == (int64_t)n->lo >> 63;
}

/* ---- making numbers -------------------------------------------------------------------------- */

static struct numeric special(int which)
{
    ASSERT(which > NUMERIC_FINITE && which <= NUMERIC_NINF);
    return (struct numeric){.special = (uint16_t)which};
}

/* There is no negative zero: -0 is 0. */
static struct numeric make_signed(bool negative, uint128 coef, int scale)
{
    ASSERT(coef < numeric_pow10[NUMERIC_DIGITS_MAX]);
    return numeric_make(negative ? -(int128)coef : (int128)coef, scale);
}

/*
 * Rounds away as many digits of the fraction as it takes to fit. Each try divides the exact
 * coefficient anew, so that no digit is rounded twice. Usually the first or second try fits.
 */
static const struct fault *fit_256(bool negative, struct u256 coef, int scale, struct numeric *out)
{
    struct u256 limit = {.lo = numeric_pow10[NUMERIC_DIGITS_MAX]};
    int drop = scale > NUMERIC_SCALE_MAX ? scale - NUMERIC_SCALE_MAX : 0;
    struct u256 q = coef;
    ASSERT(scale >= 0);
    for (;; drop++) {
        if (drop > 2 * NUMERIC_DIGITS_MAX) {
            q = (struct u256){0};
        } else if (drop > 0) {
            q = u256_div_round(coef, pow10_256(drop));
        }
        if (u256_cmp(q, limit) < 0) {
            break;
        }
        if (drop >= scale) {
            return &fault_numeric_overflow;
        }
    }
    *out = make_signed(negative, q.lo, scale - drop);
    return NULL;
}

/* A negative scale stands for zeros before the point. */
const struct fault *num_fit(bool negative, uint128 coef, int scale, struct numeric *out)
{
    if (scale < 0) {
        int up = -scale;
        if (coef != 0 && (up > NUMERIC_DIGITS_MAX || u128_digits(coef) + up > NUMERIC_DIGITS_MAX)) {
            return &fault_numeric_overflow;
        }
        *out = make_signed(negative, coef == 0 ? 0 : coef * numeric_pow10[up], 0);
        return NULL;
    }
    if (coef < numeric_pow10[NUMERIC_DIGITS_MAX] && scale <= NUMERIC_SCALE_MAX) {
        *out = make_signed(negative, coef, scale);
        return NULL;
    }
    return fit_256(negative, (struct u256){.lo = coef}, scale, out);
}

/* Of a finite number; without its sign. */
static uint128 magnitude(const struct numeric *n)
{
    int128 c = numeric_coef(n);
    return c < 0 ? -(uint128)c : (uint128)c;
}

/* Scale 0. */
struct numeric num_from_int(int64_t v)
{
    return numeric_make(v, 0);
}

/* Whatever the bytes: nothing here overflows. */
bool numeric_valid(const struct numeric *n)
{
    uint128 m = magnitude(n);
    if (n->zero != 0 || n->special > NUMERIC_NINF || n->scale < 0 ||
        n->scale > NUMERIC_SCALE_MAX || m >= numeric_pow10[NUMERIC_DIGITS_MAX]) {
        return false;
    }
    return n->special == NUMERIC_FINITE || (m == 0 && n->scale == 0);
}

/* While the coefficient fits 64 bits the divisions are much cheaper; few have more. */
struct numeric numeric_normalize(const struct numeric *n)
{
    ASSERT(n->scale >= 0 && n->scale <= NUMERIC_SCALE_MAX);
    if (n->special != NUMERIC_FINITE || n->scale == 0) {
        return *n;
    }
    int128 c = numeric_coef(n);
    int scale = n->scale;
    if (c == 0) {
        return numeric_make(0, 0);
    }
    while (scale > 0 && (int64_t)c == c && (int64_t)c % 10 == 0) {
        c = (int64_t)c / 10;
        scale--;
    }
    while (scale > 0 && c % 10 == 0) {
        c /= 10;
        scale--;
    }
    return numeric_make(c, scale);
}

int num_sign(const struct numeric *a)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    if (a->special != NUMERIC_FINITE) {
        return a->special == NUMERIC_NINF ? -1 : 1;
    }
    int128 c = numeric_coef(a);
    return c < 0 ? -1 : c > 0;
}

/* Zero stays zero, NaN stays NaN. */
struct numeric num_neg(const struct numeric *a)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    if (a->special == NUMERIC_INF || a->special == NUMERIC_NINF) {
        return special(a->special == NUMERIC_INF ? NUMERIC_NINF : NUMERIC_INF);
    }
    return a->special == NUMERIC_NAN ? *a : numeric_make(-numeric_coef(a), a->scale);
}

struct numeric num_abs(const struct numeric *a)
{
    return a->special != NUMERIC_NAN && num_sign(a) < 0 ? num_neg(a) : *a;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* -infinity < finite < infinity < NaN */
static int rank(const struct numeric *n)
{
    static const int ranks[] = {
        [NUMERIC_NINF] = 0, [NUMERIC_FINITE] = 1, [NUMERIC_INF] = 2, [NUMERIC_NAN] = 3};
    return ranks[n->special];
}

/* Different scales are brought to the larger one in 256 bits: exact. 1.0 and 1.00 are equal. */
int numeric_compare(const struct numeric *a, const struct numeric *b)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    if (a->scale == b->scale && is_small(a) && is_small(b)) {
        return ((int64_t)a->lo > (int64_t)b->lo) - ((int64_t)a->lo < (int64_t)b->lo);
    }
    if ((a->special | b->special) != 0) {
        return rank(a) - rank(b);
    }
    int128 x = numeric_coef(a);
    int128 y = numeric_coef(b);
    if (a->scale == b->scale) {
        return x < y ? -1 : x > y;
    }
    int sx = x < 0 ? -1 : x > 0;
    int sy = y < 0 ? -1 : y > 0;
    if (sx != sy) {
        return sx < sy ? -1 : 1;
    }
    struct u256 m = {.lo = magnitude(a)};
    struct u256 n = {.lo = magnitude(b)};
    if (a->scale < b->scale) {
        m = u256_mul(m.lo, numeric_pow10[b->scale - a->scale]);
    } else {
        n = u256_mul(n.lo, numeric_pow10[a->scale - b->scale]);
    }
    return sx < 0 ? u256_cmp(n, m) : u256_cmp(m, n);
}

/* ---- sums and products ----------------------------------------------------------------------- */

/*
 * For different scales: 99999999999999999999999999999999999999 + 0.1 has 39 digits and is rounded
 * back to 38.
 */
static const struct fault *add_wide(const struct numeric *a, const struct numeric *b, int scale,
                                    struct numeric *out)
{
    ASSERT(scale >= a->scale && scale >= b->scale && scale <= NUMERIC_SCALE_MAX);
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    struct u256 m = u256_mul(magnitude(a), numeric_pow10[scale - a->scale]);
    struct u256 n = u256_mul(magnitude(b), numeric_pow10[scale - b->scale]);
    bool a_neg = numeric_coef(a) < 0;
    bool b_neg = numeric_coef(b) < 0;
    if (a_neg == b_neg) {
        return fit_256(a_neg, u256_add(m, n), scale, out);
    }
    if (u256_cmp(m, n) >= 0) {
        return fit_256(a_neg, u256_sub(m, n), scale, out);
    }
    return fit_256(b_neg, u256_sub(n, m), scale, out);
}

/* Infinity and its opposite make NaN. */
const struct fault *num_add(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    if (a->scale == b->scale && is_small(a) && is_small(b)) {
        *out = numeric_make((int128)(int64_t)a->lo + (int64_t)b->lo, a->scale);
        return NULL;
    }
    if ((a->special | b->special) != 0) {
        bool nan = a->special == NUMERIC_NAN || b->special == NUMERIC_NAN ||
                   (a->special != 0 && b->special != 0 && a->special != b->special);
        *out = nan ? special(NUMERIC_NAN) : a->special != 0 ? *a : *b;
        return NULL;
    }
    if (a->scale == b->scale) {
        /* Two numbers below 10^38 cannot overflow 128 bits. */
        int128 sum = numeric_coef(a) + numeric_coef(b);
        return num_fit(sum < 0, sum < 0 ? -(uint128)sum : (uint128)sum, a->scale, out);
    }
    return add_wide(a, b, a->scale > b->scale ? a->scale : b->scale, out);
}

/* a + -b: the scales are the same. */
const struct fault *num_sub(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    struct numeric minus = num_neg(b);
    return num_add(a, &minus, out);
}

/* Zero times infinity is NaN. 0.10 * 0.20 = 0.0200: the scales add up. */
const struct fault *num_mul(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    if (a->scale + b->scale <= NUMERIC_SCALE_MAX && is_small(a) && is_small(b)) {
        /* 2^126 is less than 10^38. */
        *out = numeric_make((int128)(int64_t)a->lo * (int64_t)b->lo, a->scale + b->scale);
        return NULL;
    }
    if ((a->special | b->special) != 0) {
        int sign = num_sign(a) * num_sign(b);
        bool nan = a->special == NUMERIC_NAN || b->special == NUMERIC_NAN || sign == 0;
        *out = special(nan ? NUMERIC_NAN : sign > 0 ? NUMERIC_INF : NUMERIC_NINF);
        return NULL;
    }
    bool negative = (numeric_coef(a) < 0) != (numeric_coef(b) < 0);
    struct u256 p = u256_mul(magnitude(a), magnitude(b));
    int scale = a->scale + b->scale;
    return p.hi == 0 ? num_fit(negative, p.lo, scale, out) : fit_256(negative, p, scale, out);
}

/* ---- quotients ------------------------------------------------------------------------------- */

/*
 * PostgreSQL counts in digits of base 10000: the weight of the first one, and the digit. Returns
 * that first digit, 1..9999, or 0 for zero. 123.45 has weight 0 and first digit 123; 0.05 has
 * weight -1 and first digit 500.
 */
static int first_digit(const struct numeric *n, int *weight)
{
    ASSERT(n->scale >= 0 && n->scale <= NUMERIC_SCALE_MAX);
    uint128 m = magnitude(n);
    if (m == 0) {
        *weight = 0;
        return 0;
    }
    int digits = u128_digits(m);
    int exponent = digits - 1 - n->scale;
    *weight = exponent >= 0 ? exponent / 4 : -((3 - exponent) / 4);
    int take = exponent - *weight * 4 + 1;
    return (int)(take <= digits ? m / numeric_pow10[digits - take]
                                : m * numeric_pow10[take - digits]);
}

/* NUMERIC_MIN_DISPLAY_SCALE and NUMERIC_MAX_DISPLAY_SCALE of PostgreSQL. */
static int clamp_scale(int scale, int scale_min)
{
    scale = scale > scale_min ? scale : scale_min;
    return scale < 0 ? 0 : scale > 1000 ? 1000 : scale;
}

/*
 * select_div_scale: at least 16 significant digits, and the scales of the arguments. The quotient's
 * first digit may be one place lower when the dividend's is not greater.
 */
static int div_scale(const struct numeric *a, const struct numeric *b)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    int a_weight;
    int b_weight;
    int a_first = first_digit(a, &a_weight);
    int b_first = first_digit(b, &b_weight);
    int weight = a_weight - b_weight - (a_first <= b_first);
    return clamp_scale(16 - weight * 4, a->scale > b->scale ? a->scale : b->scale);
}

/*
 * |a| / |b| at result scale: the dividend is multiplied by 10^shift. When that does not fit 256
 * bits the result would have more than 38 digits, so the scale is lowered first. spare is how far
 * the dividend can be moved up before the quotient has more than 38 digits.
 */
static const struct fault *div_finite(const struct numeric *a, const struct numeric *b, int scale,
                                      struct numeric *out)
{
    ASSERT(num_sign(b) != 0 && scale >= 0);
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    bool negative = (numeric_coef(a) < 0) != (numeric_coef(b) < 0);
    uint128 m = magnitude(a);
    uint128 d = magnitude(b);
    if (scale > NUMERIC_SCALE_MAX) {
        scale = NUMERIC_SCALE_MAX;
    }
    int shift = scale + b->scale - a->scale;
    int spare = NUMERIC_DIGITS_MAX - (u128_digits(m) - u128_digits(d));
    if (shift > spare) {
        scale -= shift - spare;
        shift = spare;
        if (scale < 0) {
            return &fault_numeric_overflow;
        }
    }
    struct u256 divisor = {.lo = d};
    struct u256 dividend = {.lo = m};
    if (shift >= 0 && shift <= NUMERIC_DIGITS_MAX) {
        dividend = u256_mul(m, numeric_pow10[shift]);
    } else if (shift > 0) {
        /* by spare, the product has at most 76 digits, which 256 bits hold. */
        struct u256 high = u256_mul(m, numeric_pow10[shift - NUMERIC_DIGITS_MAX]);
        ASSERT(high.hi == 0);
        dividend = u256_mul(high.lo, numeric_pow10[NUMERIC_DIGITS_MAX]);
    } else {
        divisor = u256_mul(d, numeric_pow10[-shift]);
    }
    return fit_256(negative, u256_div_round(dividend, divisor), scale, out);
}

/* Infinity by a finite number is infinity; a finite number by infinity is 0. */
static const struct fault *div_special(const struct numeric *a, const struct numeric *b,
                                       struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    bool both = a->special != NUMERIC_FINITE && b->special != NUMERIC_FINITE;
    if (a->special == NUMERIC_NAN || b->special == NUMERIC_NAN || both) {
        *out = special(NUMERIC_NAN);
        return NULL;
    }
    if (a->special == NUMERIC_FINITE) {
        *out = numeric_make(0, 0);
        return NULL;
    }
    int sign = num_sign(a) * num_sign(b);
    if (sign == 0) {
        return &fault_division_by_zero;
    }
    *out = special(sign > 0 ? NUMERIC_INF : NUMERIC_NINF);
    return NULL;
}

/*
 * Division by zero is an error even of zero; NaN by zero is NaN. 1 / 3 = 0.33333333333333333333, 10
 * / 4 = 2.5000000000000000: at least 16 significant digits.
 */
const struct fault *num_div(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    if ((a->special | b->special) != 0) {
        return div_special(a, b, out);
    }
    if (num_sign(b) == 0) {
        return &fault_division_by_zero;
    }
    return div_finite(a, b, div_scale(a, b), out);
}

/* The sign is the dividend's. Exact: both sides at one scale, in integers. */
const struct fault *num_mod(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(b->scale >= 0 && b->scale <= NUMERIC_SCALE_MAX);
    if ((a->special | b->special) != 0) {
        bool nan = a->special == NUMERIC_NAN || b->special == NUMERIC_NAN;
        if (!nan && b->special == NUMERIC_FINITE && num_sign(b) == 0) {
            return &fault_division_by_zero;
        }
        nan |= a->special != NUMERIC_FINITE;
        *out = nan ? special(NUMERIC_NAN) : *a; /* finite % infinity is itself */
        return NULL;
    }
    if (num_sign(b) == 0) {
        return &fault_division_by_zero;
    }
    int scale = a->scale > b->scale ? a->scale : b->scale;
    struct u256 m = u256_mul(magnitude(a), numeric_pow10[scale - a->scale]);
    struct u256 n = u256_mul(magnitude(b), numeric_pow10[scale - b->scale]);
    struct u256 rem;
    u256_divmod(m, n, &rem);
    return fit_256(numeric_coef(a) < 0, rem, scale, out);
}

/* ---- rounding -------------------------------------------------------------------------------- */

/* Of m in units, cut down by 10^drop digits. */
static uint128 cut(uint128 m, int drop, bool negative, enum num_rounding how)
{
    ASSERT(drop >= 0);
    if (drop > NUMERIC_DIGITS_MAX) {
        bool away = how == NUM_CEIL ? !negative : how == NUM_FLOOR && negative;
        return m != 0 && away;
    }
    uint128 unit = numeric_pow10[drop];
    uint128 q = m / unit;
    uint128 rem = m % unit;
    switch (how) {
    case NUM_ROUND:
        return q + (rem >= unit - rem && rem != 0);
    case NUM_CEIL:
        return q + (rem != 0 && !negative);
    case NUM_FLOOR:
        return q + (rem != 0 && negative);
    default:
        return q;
    }
}

/*
 * A scale beyond the number's own adds zeros: round(1.5, 3) = 1.500. round(2.5) = 3, round(-2.5) =
 * -3, round(1234, -2) = 1200.
 */
const struct fault *num_round(const struct numeric *a, int scale, enum num_rounding how,
                              struct numeric *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    if (a->special != NUMERIC_FINITE) {
        *out = *a;
        return NULL;
    }
    scale = scale > 2000 ? 2000 : scale < -2000 ? -2000 : scale;
    bool negative = numeric_coef(a) < 0;
    uint128 m = magnitude(a);
    if (scale >= a->scale) {
        if (scale > NUMERIC_SCALE_MAX) {
            scale = NUMERIC_SCALE_MAX;
        }
        struct u256 wide = u256_mul(m, numeric_pow10[scale - a->scale]);
        return fit_256(negative, wide, scale, out);
    }
    uint128 q = cut(m, a->scale - scale, negative, how);
    return num_fit(negative, q, scale, out);
}

/* Halves away from zero, as PostgreSQL's cast. */
bool num_to_int64(const struct numeric *a, int64_t *out)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    ASSERT(a->special == NUMERIC_FINITE);
    bool negative = numeric_coef(a) < 0;
    uint128 q = cut(magnitude(a), a->scale, negative, NUM_ROUND);
    if (q > (uint128)INT64_MAX + negative) {
        return false;
    }
    *out = (int64_t)(negative ? -(uint64_t)q : (uint64_t)q);
    return true;
}
