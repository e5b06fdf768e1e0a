/*
 * Why parts can be put together: every operation is associative (sums, counts, bits, the better of
 * two), so a run may be divided anywhere. Sums of floats in 113 bits are not quite, so they are
 * only put together along a tree whose shape is a function of its content (wtree.h): the same rows
 * give the same sum whatever their history.
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
        [WACC_FLOAT] = sizeof(__float128),
        [WACC_SQUARE] = sizeof(((struct wacc *)0)->quad),
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

/* ---- numerics -------------------------------------------------------------------------------- */

static void words_add(uint64_t *to, const uint64_t *words)
{
    uint128 carry = 0;
    for (int i = 0; i < WACC_WORDS; i++) {
        carry += (uint128)to[i] + words[i];
        to[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

static void words_negate(uint64_t *words)
{
    uint64_t carry = 1;
    for (int i = 0; i < WACC_WORDS; i++) {
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
        *special[n->special] += copies;
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
        words_negate(words);
    }
    words_add(acc->numeric.words, words);
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
        words_negate(words);
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
        acc->sum += (int128)value->i * copies;
        break;
    case WACC_NUMERIC:
        add_numeric(acc, &value->n, copies);
        break;
    case WACC_FLOAT:
        acc->quad.sum += (__float128)value->f * copies;
        acc->specials += isfinite(value->f) ? 0 : copies;
        break;
    case WACC_SQUARE:
        acc->quad.sum += (__float128)value->f * copies;
        acc->quad.squares += (__float128)value->f * value->f * copies;
        acc->specials += isfinite(value->f) ? 0 : copies;
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
        acc->specials += value->b ? copies : 0;
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
    acc->n += copies;
}

static void merge_numeric(struct wacc *acc, const struct wacc *other)
{
    words_add(acc->numeric.words, other->numeric.words);
    acc->numeric.plus_inf += other->numeric.plus_inf;
    acc->numeric.minus_inf += other->numeric.minus_inf;
    if (acc->numeric.scale < other->numeric.scale) {
        acc->numeric.scale = other->numeric.scale;
    }
}

/* Of equal values (1.0 and 1.00) the earlier row's is kept. */
void wacc_merge(const struct wacc_spec *spec, struct wacc *acc, const struct wacc *other)
{
    ASSERT(acc->n >= 0 && other->n >= 0);
    if (other->n == 0) {
        return;
    }
    switch (spec->kind) {
    case WACC_INT:
        acc->sum += other->sum;
        break;
    case WACC_NUMERIC:
        merge_numeric(acc, other);
        break;
    case WACC_SQUARE:
        acc->quad.squares += other->quad.squares;
        acc->quad.sum += other->quad.sum;
        break;
    case WACC_FLOAT:
        acc->quad.sum += other->quad.sum;
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
    acc->specials += other->specials;
    acc->n += other->n;
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
    __float128 sum = spec->func == AGG_AVG ? acc->quad.sum / acc->n : acc->quad.sum;
    out->f = spec->result == TYPE_FLOAT4 ? (double)(float)sum : (double)sum;
    return isfinite(out->f) || acc->specials > 0 ||
           range_error(sqlstate, message, "22003", "value out of range: overflow");
}

/* As acc_square_result has it. */
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
    __float128 left = acc->quad.squares - acc->quad.sum * acc->quad.sum / n;
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
