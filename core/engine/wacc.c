/*
 * Why parts can be put together: every operation is associative (sums, counts, bits, the better of
 * two), so a run may be divided anywhere. Sums of floats would not be if they were rounded on the
 * way, so they are kept as long integers, like a Kulisch accumulator (Kulisch, "Computer Arithmetic
 * and Validity", 2008): 272 bytes a row, and 816 for a variance.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/wacc.h"

#include "core/engine/acc.h"

#include <math.h>

typedef __int128 int128;
typedef unsigned __int128 uint128;

enum { SCALE_MAX = 38, CHUNK_DIGITS = 18 };
static const uint64_t chunk = 1000000000000000000ULL; /* 10^CHUNK_DIGITS */

/* ---- which ----------------------------------------------------------------------------------- */

static uint8_t sum_kind(uint8_t arg)
{
    switch (arg) {
    case TYPE_NUMERIC:
        return WACC_NUMERIC;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return WACC_FLOAT;
    case TYPE_INTERVAL:
        return WACC_INTERVAL;
    default:
        return WACC_INT;
    }
}

bool wacc_spec_of(const struct plan_agg *agg, uint8_t arg_kind, struct wacc_spec *out)
{
    *out = (struct wacc_spec){.func = agg->func,
                              .arg = agg->func == AGG_COUNT_ALL ? 0 : arg_kind,
                              .result = agg->type.kind,
                              .col = agg->arg,
                              .has_filter = agg->has_filter,
                              .filter = agg->filter};
    switch (agg->func) {
    case AGG_COUNT_ALL:
    case AGG_COUNT:
        out->kind = WACC_COUNT;
        break;
    case AGG_SUM:
    case AGG_AVG:
        out->kind = sum_kind(arg_kind);
        break;
    case AGG_MIN:
    case AGG_MAX:
        out->kind = WACC_BEST;
        break;
    case AGG_BOOL_AND:
    case AGG_BOOL_OR:
        out->kind = WACC_BOOL;
        break;
    case AGG_BIT_AND:
    case AGG_BIT_OR:
    case AGG_BIT_XOR:
        out->kind = WACC_BITS;
        break;
    case AGG_VAR_POP:
    case AGG_VAR_SAMP:
    case AGG_STDDEV_POP:
    case AGG_STDDEV_SAMP:
        out->kind = WACC_SQUARE;
        break;
    default:
        return false;
    }
    return !agg->distinct;
}

uint32_t wacc_size(const struct wacc_spec *spec)
{
    static const uint32_t parts[] = {
        [WACC_COUNT] = 0,
        [WACC_INT] = sizeof(int128),
        [WACC_NUMERIC] = sizeof(((struct wacc *)0)->numeric),
        [WACC_FLOAT] = offsetof(struct wacc, fixed.squares) - offsetof(struct wacc, fixed),
        [WACC_SQUARE] = sizeof(((struct wacc *)0)->fixed),
        [WACC_INTERVAL] = sizeof(((struct wacc *)0)->interval),
        [WACC_BEST] = 16,
        [WACC_BOOL] = 0,
        [WACC_BITS] = sizeof(((struct wacc *)0)->bits) + 8,
    };
    ASSERT(spec->kind > 0 && spec->kind < ARRAY_LEN(parts));
    ASSERT(parts[spec->kind] % 16 == 0);
    return (uint32_t)offsetof(struct wacc, sum) + parts[spec->kind];
}

void wacc_clear(const struct wacc_spec *spec, struct wacc *acc)
{
    memset(acc, 0, wacc_size(spec));
    if (spec->kind == WACC_BITS) {
        acc->bits.all = UINT64_MAX;
    }
}

/* Modulo 2^64: a partition of more copies than an int64_t holds shows no values (window.h). */
static int64_t plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static int128 wide_plus(int128 a, int128 b)
{
    return (int128)((uint128)a + (uint128)b);
}

/* ---- numerics -------------------------------------------------------------------------------- */

static void words_add(uint64_t *to, const uint64_t *words, uint32_t len)
{
    uint128 carry = 0;
    for (uint32_t i = 0; i < len; i++) {
        carry += (uint128)to[i] + words[i];
        to[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

static void words_negate(uint64_t *words, uint32_t len)
{
    uint64_t carry = 1;
    for (uint32_t i = 0; i < len; i++) {
        words[i] = ~words[i] + carry;
        carry = carry != 0 && words[i] == 0;
    }
}

/* The magnitude stays below 2^319: see the bound at WACC_WORDS. */
static void words_multiply(uint64_t *words, uint64_t by)
{
    uint128 carry = 0;
    for (int i = 0; i < WACC_WORDS; i++) {
        carry += (uint128)words[i] * by;
        words[i] = (uint64_t)carry;
        carry >>= 64;
    }
    ASSERT(carry == 0);
}

static void words_divide(uint64_t *words, uint64_t by)
{
    uint128 rest = 0;
    for (int i = WACC_WORDS - 1; i >= 0; i--) {
        rest = (rest << 64) | words[i];
        words[i] = (uint64_t)(rest / by);
        rest %= by;
    }
    ASSERT(rest == 0); /* no value had more digits */
}

static uint64_t power_of_ten(int64_t digits)
{
    ASSERT(digits >= 0 && digits <= CHUNK_DIGITS);
    uint64_t power = 1;
    for (int64_t i = 0; i < digits; i++) {
        power *= 10;
    }
    return power;
}

static void add_numeric(struct wacc *acc, const struct numeric *n, int64_t copies)
{
    int64_t *special[] = {NULL, &acc->specials, &acc->numeric.plus_inf, &acc->numeric.minus_inf};
    ASSERT(n->special < ARRAY_LEN(special) && copies > 0);
    if (n->special != 0) {
        *special[n->special] = plus(*special[n->special], copies);
        return;
    }
    bool negative = n->hi < 0;
    uint128 coef = ((uint128)(uint64_t)n->hi << 64) | n->lo;
    coef = negative ? -coef : coef;
    uint64_t words[WACC_WORDS] = {(uint64_t)coef, (uint64_t)(coef >> 64)};
    for (int64_t digits = SCALE_MAX - n->scale; digits > 0; digits -= CHUNK_DIGITS) {
        words_multiply(words, digits < CHUNK_DIGITS ? power_of_ten(digits) : chunk);
    }
    words_multiply(words, (uint64_t)copies);
    if (negative) {
        words_negate(words, WACC_WORDS);
    }
    words_add(acc->numeric.words, words, WACC_WORDS);
    acc->numeric.scale = acc->numeric.scale > n->scale ? acc->numeric.scale : n->scale;
}

/* As acc_numeric: infinity minus infinity is NaN, and the scale that of the longest value. */
static bool numeric_result(const struct wacc *acc, struct numeric *out)
{
    bool plus = acc->numeric.plus_inf > 0, minus = acc->numeric.minus_inf > 0;
    *out = (struct numeric){0};
    if (acc->specials > 0 || plus || minus) {
        out->special = acc->specials > 0 || (plus && minus) ? 1 : plus ? 2 : 3;
        return true;
    }
    uint64_t words[WACC_WORDS];
    memcpy(words, acc->numeric.words, sizeof(words));
    bool negative = words[WACC_WORDS - 1] >> 63 != 0;
    if (negative) {
        words_negate(words, WACC_WORDS);
    }
    for (int64_t digits = SCALE_MAX - acc->numeric.scale; digits > 0; digits -= CHUNK_DIGITS) {
        words_divide(words, digits < CHUNK_DIGITS ? power_of_ten(digits) : chunk);
    }
    int128 value = (int128)(((uint128)words[1] << 64) | words[0]);
    if (words[2] != 0 || words[3] != 0 || words[4] != 0 || value < 0) {
        return false;
    }
    bool fits = acc_int_numeric(negative ? -value : value, out);
    out->scale = (int16_t)acc->numeric.scale;
    return fits;
}

/* ---- floats ---------------------------------------------------------------------------------- */

/* Adds coef * copies * 2^shift, or takes it away. coef is below 2^106. */
static void fixed_add(uint64_t *to, uint32_t len, bool negative, uint128 coef, uint64_t copies,
                      uint32_t shift)
{
    uint128 low = (uint128)(uint64_t)coef * copies;
    uint128 high = (coef >> 64) * copies + (low >> 64);
    uint64_t product[] = {0, (uint64_t)low, (uint64_t)high, (uint64_t)(high >> 64), 0};
    uint32_t bits = shift % 64, at = shift / 64;
    uint64_t carry = negative;
    ASSERT(coef >> 106 == 0 && at < len);
    /* Once the product is through and no carry is left, the words above stay. */
    for (uint32_t i = 0; at + i < len && (i < 4 || carry != negative); i++) {
        uint64_t word = 0;
        if (i < 4) {
            word = bits == 0 ? product[i + 1]
                             : product[i + 1] << bits | product[i] >> (64 - bits);
        }
        uint128 sum = (uint128)to[at + i] + (negative ? ~word : word) + carry;
        to[at + i] = (uint64_t)sum;
        carry = (uint64_t)(sum >> 64);
    }
}

/* value is coef * 2^(shift - 1074). */
static void add_float(const struct wacc_spec *spec, struct wacc *acc, double value, int64_t copies)
{
    ASSERT(copies > 0);
    if (!isfinite(value)) {
        bool special = isnan(value) || spec->kind == WACC_SQUARE;
        int64_t *of = special    ? &acc->specials
                      : value > 0 ? &acc->fixed.plus_inf
                                  : &acc->fixed.minus_inf;
        *of = plus(*of, copies);
        return;
    }
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    uint32_t exponent = (uint32_t)(bits >> 52) & 0x7FF;
    uint64_t coef = (bits & ((1ULL << 52) - 1)) | (uint64_t)(exponent != 0) << 52;
    uint32_t shift = exponent == 0 ? 0 : exponent - 1;
    fixed_add(acc->fixed.sum, WACC_SUM_WORDS, bits >> 63 != 0, coef, (uint64_t)copies, shift);
    if (spec->kind == WACC_SQUARE) {
        fixed_add(acc->fixed.squares, WACC_SQUARE_WORDS, false, (uint128)coef * coef,
                  (uint64_t)copies, 2 * shift);
    }
}

static void merge_float(const struct wacc_spec *spec, struct wacc *acc, const struct wacc *other)
{
    acc->fixed.plus_inf = plus(acc->fixed.plus_inf, other->fixed.plus_inf);
    acc->fixed.minus_inf = plus(acc->fixed.minus_inf, other->fixed.minus_inf);
    words_add(acc->fixed.sum, other->fixed.sum, WACC_SUM_WORDS);
    if (spec->kind == WACC_SQUARE) {
        words_add(acc->fixed.squares, other->fixed.squares, WACC_SQUARE_WORDS);
    }
}

/* 2^exponent, by its bits in IEEE's binary128. (clang knows no scalbnf128.) */
static __float128 quad_power(int exponent)
{
    ASSERT(exponent > -16382 && exponent < 16383); /* a normal number */
    uint128 bits = (uint128)(uint32_t)(exponent + 16383) << 112;
    __float128 power;
    STATIC_ASSERT(sizeof(power) == sizeof(bits), "binary128");
    memcpy(&power, &bits, sizeof(power));
    return power;
}

/*
 * The integer times 2^exponent, in 113 bits. It is rounded to odd, so that rounding once more, to a
 * double, gives the double next to the exact sum (Boldo and Melquiond, 2008).
 */
static __float128 fixed_quad(const uint64_t *from, uint32_t len, int exponent)
{
    uint64_t words[WACC_SQUARE_WORDS];
    ASSERT(len <= ARRAY_LEN(words));
    memcpy(words, from, len * sizeof(*words));
    bool negative = words[len - 1] >> 63 != 0, rest = false;
    if (negative) {
        words_negate(words, len);
    }
    uint32_t top = len - 1;
    while (top > 1 && words[top] == 0) {
        top--;
    }
    for (uint32_t i = 0; i + 2 < top && !rest; i++) {
        rest = words[i] != 0;
    }
    uint128 value = (uint128)words[top] << 64 | words[top - 1];
    int shift = (int)(top - 1) * 64 + exponent, up = 0;
    /* The word below fills what the highest one leaves free. */
    if (top > 1) {
        up = __builtin_clzll(words[top]);
        value = value << up | (up != 0 ? words[top - 2] >> (64 - up) : 0);
        rest |= words[top - 2] << up != 0;
    }
    uint128 cut = value >> 113 != 0 ? ((uint128)1 << 15) - 1 : 0;
    bool inexact = (value & cut) != 0 || rest;
    value = (value & ~cut) | (inexact ? cut + 1 : 0);
    __float128 quad = (__float128)value * quad_power(shift - up);
    return negative ? -quad : quad;
}

/* ---- runs ------------------------------------------------------------------------------------ */

static bool is_better(const struct wacc_spec *spec, const struct datum *a, const struct datum *b)
{
    int order = datum_compare((enum type_kind)spec->arg, a, b);
    return spec->func == AGG_MIN ? order < 0 : order > 0;
}

void wacc_add(const struct wacc_spec *spec, struct wacc *acc, const struct datum *value,
              int64_t copies)
{
    ASSERT(copies >= 0);
    if (value->null || copies == 0) {
        return;
    }
    switch (spec->kind) {
    case WACC_INT:
        acc->sum = wide_plus(acc->sum, (int128)value->i * copies);
        break;
    case WACC_NUMERIC:
        add_numeric(acc, &value->n, copies);
        break;
    case WACC_FLOAT:
    case WACC_SQUARE:
        add_float(spec, acc, value->f, copies);
        break;
    case WACC_INTERVAL:
        acc->interval.months += (int128)value->iv.months * copies;
        acc->interval.days += (int128)value->iv.days * copies;
        acc->interval.micros += (int128)value->iv.micros * copies;
        break;
    case WACC_BEST:
        acc->best = acc->n == 0 || is_better(spec, value, acc->best) ? value : acc->best;
        break;
    case WACC_BOOL:
        acc->specials = plus(acc->specials, value->b ? copies : 0);
        break;
    case WACC_BITS:
        acc->bits.all &= (uint64_t)value->i;
        acc->bits.any |= (uint64_t)value->i;
        acc->bits.odd ^= copies % 2 != 0 ? (uint64_t)value->i : 0;
        break;
    default:
        ASSERT(spec->kind == WACC_COUNT);
        break;
    }
    acc->n = plus(acc->n, copies);
}

static void merge_numeric(struct wacc *acc, const struct wacc *other)
{
    words_add(acc->numeric.words, other->numeric.words, WACC_WORDS);
    acc->numeric.plus_inf = plus(acc->numeric.plus_inf, other->numeric.plus_inf);
    acc->numeric.minus_inf = plus(acc->numeric.minus_inf, other->numeric.minus_inf);
    if (acc->numeric.scale < other->numeric.scale) {
        acc->numeric.scale = other->numeric.scale;
    }
}

/* Of equal values (1.0 and 1.00) the earlier row's is kept. */
void wacc_merge(const struct wacc_spec *spec, struct wacc *acc, const struct wacc *other)
{
    if (other->n == 0) {
        return;
    }
    switch (spec->kind) {
    case WACC_INT:
        acc->sum = wide_plus(acc->sum, other->sum);
        break;
    case WACC_NUMERIC:
        merge_numeric(acc, other);
        break;
    case WACC_FLOAT:
    case WACC_SQUARE:
        merge_float(spec, acc, other);
        break;
    case WACC_INTERVAL:
        acc->interval.months += other->interval.months;
        acc->interval.days += other->interval.days;
        acc->interval.micros += other->interval.micros;
        break;
    case WACC_BEST:
        acc->best = acc->n == 0 || is_better(spec, other->best, acc->best) ? other->best
                                                                          : acc->best;
        break;
    case WACC_BITS:
        acc->bits.all &= other->bits.all;
        acc->bits.any |= other->bits.any;
        acc->bits.odd ^= other->bits.odd;
        break;
    default:
        break;
    }
    acc->specials = plus(acc->specials, other->specials);
    acc->n = plus(acc->n, other->n);
}

/* ---- results --------------------------------------------------------------------------------- */

/* Always false, so that callers can return it. */
static bool range_error(const char **sqlstate, const char **message, const char *state,
                        const char *text)
{
    *sqlstate = state;
    *message = text;
    return false;
}

static bool interval_result(const struct wacc *acc, struct datum *out)
{
    out->iv = (struct interval){.months = (int32_t)acc->interval.months,
                                .days = (int32_t)acc->interval.days,
                                .micros = (int64_t)acc->interval.micros};
    return out->iv.months == acc->interval.months && out->iv.days == acc->interval.days &&
           out->iv.micros == acc->interval.micros;
}

/* The average from the sum in *out, as reduce divides. */
static bool divide(const struct wacc_spec *spec, int64_t n, struct datum *out)
{
    ASSERT(n > 0);
    err_t err = ERR_OK;
    if (spec->result == TYPE_NUMERIC) {
        struct numeric by, sum = out->n;
        acc_int_numeric(n, &by);
        err = numeric_div(&sum, &by, &out->n);
    } else {
        ASSERT(spec->result == TYPE_INTERVAL);
        struct interval sum = out->iv;
        err = interval_div(&sum, (double)n, &out->iv);
    }
    bool ok = err == ERR_OK;
    err_free(err);
    return ok;
}

static bool float_result(const struct wacc_spec *spec, const struct wacc *acc, struct datum *out,
                         const char **sqlstate, const char **message)
{
    bool up = acc->fixed.plus_inf > 0, down = acc->fixed.minus_inf > 0;
    if (acc->specials > 0 || up || down) {
        out->f = acc->specials > 0 || (up && down) ? NAN : up ? INFINITY : -INFINITY;
        return true;
    }
    __float128 sum = fixed_quad(acc->fixed.sum, WACC_SUM_WORDS, -1074);
    sum = spec->func == AGG_AVG ? sum / acc->n : sum;
    out->f = spec->result == TYPE_FLOAT4 ? (double)(float)sum : (double)sum;
    return isfinite(out->f) ||
           range_error(sqlstate, message, "22003", "value out of range: overflow");
}

/*
 * The formula of acc_more.c, with one difference: a square that is too large for a double is no
 * error here, only a variance that is.
 */
static bool square_result(const struct wacc_spec *spec, const struct wacc *acc, struct datum *out,
                          const char **sqlstate, const char **message)
{
    bool sample = spec->func == AGG_VAR_SAMP || spec->func == AGG_STDDEV_SAMP;
    out->null = acc->n <= (sample ? 1 : 0);
    if (out->null || acc->specials > 0) {
        out->f = NAN;
        return true;
    }
    __float128 n = (__float128)acc->n;
    __float128 sum = fixed_quad(acc->fixed.sum, WACC_SUM_WORDS, -1074);
    __float128 squares = fixed_quad(acc->fixed.squares, WACC_SQUARE_WORDS, -2148);
    __float128 left = squares - sum * sum / n;
    left = left < 0 ? 0 : left;
    double variance = (double)(left / (sample ? n - 1 : n));
    out->f = spec->func >= AGG_STDDEV_POP ? sqrt(variance) : variance;
    return isfinite(out->f) ||
           range_error(sqlstate, message, "22003", "value out of range: overflow");
}

static bool sum_result(const struct wacc_spec *spec, const struct wacc *acc, struct datum *out,
                       const char **sqlstate, const char **message)
{
    bool ok = true;
    if (spec->kind == WACC_INT && spec->result == TYPE_INT8) {
        out->i = (int64_t)acc->sum;
        return out->i == acc->sum ||
               range_error(sqlstate, message, "22003", "bigint out of range");
    }
    if (spec->kind == WACC_INTERVAL) {
        ok = interval_result(acc, out);
    } else if (spec->kind == WACC_INT) {
        ok = acc_int_numeric(acc->sum, &out->n);
    } else {
        ok = numeric_result(acc, &out->n);
    }
    if (!ok) {
        return spec->kind == WACC_INTERVAL
                   ? range_error(sqlstate, message, "22008", "interval out of range")
                   : range_error(sqlstate, message, "22003", "value overflows numeric format");
    }
    return spec->func != AGG_AVG || divide(spec, acc->n, out) ||
           range_error(sqlstate, message, "22003", "average out of range");
}

/* NULL over no values, but for counts. */
bool wacc_result(const struct wacc_spec *spec, const struct wacc *acc, struct datum *out,
                 const char **sqlstate, const char **message)
{
    ASSERT(acc->n >= 0);
    *out = (struct datum){.null = acc->n == 0 && spec->kind != WACC_COUNT};
    if (out->null) {
        return true;
    }
    switch (spec->kind) {
    case WACC_COUNT:
        out->i = acc->n;
        return true;
    case WACC_BEST:
        *out = *acc->best;
        return true;
    case WACC_BOOL:
        out->b = spec->func == AGG_BOOL_AND ? acc->specials == acc->n : acc->specials > 0;
        return true;
    case WACC_BITS:
        out->i = (int64_t)(spec->func == AGG_BIT_AND  ? acc->bits.all
                           : spec->func == AGG_BIT_OR ? acc->bits.any
                                                      : acc->bits.odd);
        return true;
    case WACC_FLOAT:
        return float_result(spec, acc, out, sqlstate, message);
    case WACC_SQUARE:
        return square_result(spec, acc, out, sqlstate, message);
    default:
        return sum_result(spec, acc, out, sqlstate, message);
    }
}
