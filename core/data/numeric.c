/*
 * Decimal arithmetic: see numeric.h. Everything that fits in 128 bits takes a short path; products,
 * dividends and aligned sums that do not go through 256-bit integers.
 */
#include "core/data/numeric.h"

const uint128 numeric_pow10[NUMERIC_DIGITS_MAX + 1] = {
    ((uint128)0x0ULL << 64) | 0x1ULL,
    ((uint128)0x0ULL << 64) | 0xaULL,
    ((uint128)0x0ULL << 64) | 0x64ULL,
    ((uint128)0x0ULL << 64) | 0x3e8ULL,
    ((uint128)0x0ULL << 64) | 0x2710ULL,
    ((uint128)0x0ULL << 64) | 0x186a0ULL,
    ((uint128)0x0ULL << 64) | 0xf4240ULL,
    ((uint128)0x0ULL << 64) | 0x989680ULL,
    ((uint128)0x0ULL << 64) | 0x5f5e100ULL,
    ((uint128)0x0ULL << 64) | 0x3b9aca00ULL,
    ((uint128)0x0ULL << 64) | 0x2540be400ULL,
    ((uint128)0x0ULL << 64) | 0x174876e800ULL,
    ((uint128)0x0ULL << 64) | 0xe8d4a51000ULL,
    ((uint128)0x0ULL << 64) | 0x9184e72a000ULL,
    ((uint128)0x0ULL << 64) | 0x5af3107a4000ULL,
    ((uint128)0x0ULL << 64) | 0x38d7ea4c68000ULL,
    ((uint128)0x0ULL << 64) | 0x2386f26fc10000ULL,
    ((uint128)0x0ULL << 64) | 0x16345785d8a0000ULL,
    ((uint128)0x0ULL << 64) | 0xde0b6b3a7640000ULL,
    ((uint128)0x0ULL << 64) | 0x8ac7230489e80000ULL,
    ((uint128)0x5ULL << 64) | 0x6bc75e2d63100000ULL,
    ((uint128)0x36ULL << 64) | 0x35c9adc5dea00000ULL,
    ((uint128)0x21eULL << 64) | 0x19e0c9bab2400000ULL,
    ((uint128)0x152dULL << 64) | 0x2c7e14af6800000ULL,
    ((uint128)0xd3c2ULL << 64) | 0x1bcecceda1000000ULL,
    ((uint128)0x84595ULL << 64) | 0x161401484a000000ULL,
    ((uint128)0x52b7d2ULL << 64) | 0xdcc80cd2e4000000ULL,
    ((uint128)0x33b2e3cULL << 64) | 0x9fd0803ce8000000ULL,
    ((uint128)0x204fce5eULL << 64) | 0x3e25026110000000ULL,
    ((uint128)0x1431e0faeULL << 64) | 0x6d7217caa0000000ULL,
    ((uint128)0xc9f2c9cd0ULL << 64) | 0x4674edea40000000ULL,
    ((uint128)0x7e37be2022ULL << 64) | 0xc0914b2680000000ULL,
    ((uint128)0x4ee2d6d415bULL << 64) | 0x85acef8100000000ULL,
    ((uint128)0x314dc6448d93ULL << 64) | 0x38c15b0a00000000ULL,
    ((uint128)0x1ed09bead87c0ULL << 64) | 0x378d8e6400000000ULL,
    ((uint128)0x13426172c74d82ULL << 64) | 0x2b878fe800000000ULL,
    ((uint128)0xc097ce7bc90715ULL << 64) | 0xb34b9f1000000000ULL,
    ((uint128)0x785ee10d5da46d9ULL << 64) | 0xf436a000000000ULL,
    ((uint128)0x4b3b4ca85a86c47aULL << 64) | 0x98a224000000000ULL,
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

err_t fault_err(const struct fault *fault)
{
    return fault == NULL ? ERR_OK : err_sql(ERR_INVALID, fault->sqlstate, "%s", fault->message);
}

/* ---- 256 bits -------------------------------------------------------------------------------- */

struct u256 {
    uint128 lo;
    uint128 hi;
};

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

static struct u256 u256_add(struct u256 a, struct u256 b)
{
    struct u256 r = {.lo = a.lo + b.lo, .hi = a.hi + b.hi};
    r.hi += r.lo < a.lo;
    return r;
}

static struct u256 u256_sub(struct u256 a, struct u256 b)
{
    return (struct u256){.lo = a.lo - b.lo, .hi = a.hi - b.hi - (a.lo < b.lo)};
}

/* Shift and subtract, a bit at a time: rare enough. b is not 0 and less than 2^255. */
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

/* a / d, rounded half up. */
static struct u256 u256_div_round(struct u256 a, struct u256 d)
{
    struct u256 rem;
    struct u256 q = u256_divmod(a, d, &rem);
    if (u256_cmp(rem, u256_sub(d, rem)) >= 0) {
        q = u256_add(q, (struct u256){.lo = 1});
    }
    return q;
}

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

static struct u256 pow10_256(int n)
{
    ASSERT(n >= 0 && n <= 2 * NUMERIC_DIGITS_MAX);
    if (n <= NUMERIC_DIGITS_MAX) {
        return (struct u256){.lo = numeric_pow10[n]};
    }
    return u256_mul(numeric_pow10[NUMERIC_DIGITS_MAX], numeric_pow10[n - NUMERIC_DIGITS_MAX]);
}

/* Finite, and the coefficient fits 64 bits: nearly all numbers there are. */
static inline bool is_small(const struct numeric *n)
{
    return n->special == NUMERIC_FINITE && n->hi == (int64_t)n->lo >> 63;
}

/* ---- making numbers -------------------------------------------------------------------------- */

static struct numeric special(int which)
{
    return (struct numeric){.special = (uint16_t)which};
}

static struct numeric make_signed(bool negative, uint128 coef, int scale)
{
    ASSERT(coef < numeric_pow10[NUMERIC_DIGITS_MAX]);
    return numeric_make(negative ? -(int128)coef : (int128)coef, scale);
}

/* Rounds away as many digits of the fraction as it takes to fit. */
static const struct fault *fit_256(bool negative, struct u256 coef, int scale, struct numeric *out)
{
    struct u256 limit = {.lo = numeric_pow10[NUMERIC_DIGITS_MAX]};
    int drop = scale > NUMERIC_SCALE_MAX ? scale - NUMERIC_SCALE_MAX : 0;
    struct u256 q = coef;
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

static uint128 magnitude(const struct numeric *n)
{
    int128 c = numeric_coef(n);
    return c < 0 ? -(uint128)c : (uint128)c;
}

struct numeric num_from_int(int64_t v)
{
    return numeric_make(v, 0);
}

bool numeric_valid(const struct numeric *n)
{
    uint128 m = magnitude(n);
    if (n->zero != 0 || n->special > NUMERIC_NINF || n->scale < 0 ||
        n->scale > NUMERIC_SCALE_MAX || m >= numeric_pow10[NUMERIC_DIGITS_MAX]) {
        return false;
    }
    return n->special == NUMERIC_FINITE || (m == 0 && n->scale == 0);
}

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

static const struct fault *add_wide(const struct numeric *a, const struct numeric *b, int scale,
                                    struct numeric *out)
{
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

const struct fault *num_sub(const struct numeric *a, const struct numeric *b, struct numeric *out)
{
    struct numeric minus = num_neg(b);
    return num_add(a, &minus, out);
}

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

/* PostgreSQL counts in digits of base 10000: the weight of the first one, and the digit. */
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

static int clamp_scale(int scale, int scale_min)
{
    scale = scale > scale_min ? scale : scale_min;
    return scale < 0 ? 0 : scale > 1000 ? 1000 : scale;
}

/* select_div_scale: at least 16 significant digits, and the scales of the arguments. */
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
 * bits the result would have more than 38 digits, so the scale is lowered first.
 */
static const struct fault *div_finite(const struct numeric *a, const struct numeric *b, int scale,
                                      struct numeric *out)
{
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
