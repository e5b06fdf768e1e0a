/*
 * Sums as wide integers: what was added is taken away exactly, and rounding happens once, on
 * reading. A float is a 53-bit integer times a power of two; parts of 32 exponents keep the
 * integers narrow.
 */
#include "core/engine/acc.h"

#include <math.h>

typedef __int128 int128;
typedef unsigned __int128 uint128;

enum {
    EXPONENT_BITS = 32,   /* a float part holds multiples of 2^(32 * tag - 1074) */
    EXPONENT_MIN = -1074, /* of the least denormal */
    WORDS = 40,           /* 2,560 bits: every finite double, times any count */
    FLOAT_TAG_MAX = 64,
    SCALE_MAX = 38, /* of numeric: data_internal.h is not ours to include */
};

STATIC_ASSERT((FLOAT_TAG_MAX + 1) * EXPONENT_BITS + 192 <= WORDS * 64, "the largest part fits");
STATIC_ASSERT(SCALE_MAX <= FLOAT_TAG_MAX, "a scale is a tag");
static const uint128 ten38 = (uint128)10000000000000000000ULL * 10000000000000000000ULL;

/* sum += value * diff; |value| < 2^127, so a product takes 190 bits and never overflows alone. */
static void part_add(struct acc_part *part, int128 value, int64_t diff)
{
    ASSERT(part->tag >= 0);
    bool negative = (value < 0) != (diff < 0);
    uint128 v = value < 0 ? -(uint128)value : (uint128)value;
    uint64_t d = diff < 0 ? -(uint64_t)diff : (uint64_t)diff;
    uint128 low = (uint128)(uint64_t)v * d;
    uint128 high = (uint128)(uint64_t)(v >> 64) * d + (uint64_t)(low >> 64);
    uint64_t product[3] = {(uint64_t)low, (uint64_t)high, (uint64_t)(high >> 64)};
    uint128 carry = negative ? 1 : 0; /* -x is ~x + 1 */
    for (int i = 0; i < 3; i++) {
        carry += (uint128)part->sum[i] + (negative ? ~product[i] : product[i]);
        part->sum[i] = (uint64_t)carry;
        carry >>= 64;
    }
    part->count = (int64_t)((uint64_t)part->count + (uint64_t)diff);
}

/*
 * Parts are few: a scale or an exponent range each, and values of one column are alike. A part of
 * zero is removed, so that an empty sum holds no memory.
 */
static void add(struct acc_exact *acc, struct pool *pool, int32_t tag, int128 value, int64_t diff)
{
    struct acc_part **at = &acc->parts;
    ASSERT(tag >= 0 && tag <= FLOAT_TAG_MAX);
    while (*at != NULL && (*at)->tag < tag) {
        at = &(*at)->next;
    }
    if (*at == NULL || (*at)->tag != tag) {
        struct acc_part *part = pool_alloc(pool, sizeof(*part));
        *part = (struct acc_part){.next = *at, .tag = tag};
        *at = part;
    }
    struct acc_part *part = *at;
    part_add(part, value, diff);
    if (part->count == 0 && part->sum[0] == 0 && part->sum[1] == 0 && part->sum[2] == 0) {
        ASSERT(*at == part);
        *at = part->next;
        pool_free(pool, part, sizeof(*part));
    }
}

/*
 * A part per scale: adding 1.10 and taking it away again leaves no trace of its scale, which the
 * sum's display scale would otherwise keep.
 */
void acc_add_numeric(struct acc_exact *acc, struct pool *pool, const struct numeric *n,
                     int64_t diff)
{
    int64_t *special[] = {NULL, &acc->nan, &acc->plus_inf, &acc->minus_inf};
    ASSERT(n->special < ARRAY_LEN(special));
    if (n->special != 0) {
        *special[n->special] = (int64_t)((uint64_t)*special[n->special] + (uint64_t)diff);
        return;
    }
    ASSERT(n->scale >= 0 && n->scale <= SCALE_MAX);
    add(acc, pool, n->scale, (int128)(((uint128)(uint64_t)n->hi << 64) | n->lo), diff);
}

/* frexp and ldexp are exact. low counts the exponent from the least denormal's. */
void acc_add_double(struct acc_exact *acc, struct pool *pool, double f, int64_t diff)
{
    int64_t *special = isnan(f) ? &acc->nan : isinf(f) ? (f > 0 ? &acc->plus_inf
                                                                : &acc->minus_inf)
                                                       : NULL;
    if (special != NULL) {
        *special = (int64_t)((uint64_t)*special + (uint64_t)diff);
        return;
    }
    int exponent;
    int64_t mantissa = (int64_t)ldexp(frexp(f, &exponent), 53); /* f = mantissa * 2^(exponent-53) */
    int low = exponent - 53 - EXPONENT_MIN;
    if (low < 0) { /* a denormal: its low bits are zero */
        mantissa >>= -low;
        low = 0;
    }
    low = mantissa == 0 ? 0 : low;
    int tag = low / EXPONENT_BITS;
    ASSERT(tag >= 0);
    ASSERT(tag <= FLOAT_TAG_MAX);
    add(acc, pool, tag, (int128)((uint128)(int128)mantissa << (low % EXPONENT_BITS)), diff);
}

/*
 * NaN and infinities decide the sum when there are any. numeric.special codes, 0: finite. As IEEE
 * and PostgreSQL: infinity minus infinity is NaN.
 */
static int special_of(const struct acc_exact *acc)
{
    if (acc->nan != 0 || (acc->plus_inf != 0 && acc->minus_inf != 0)) {
        return 1;
    }
    return acc->plus_inf != 0 ? 2 : acc->minus_inf != 0 ? 3 : 0;
}

/* 38 digits: the bound of the type (docs/decisions/0002). */
static bool fits_numeric(int128 v)
{
    return (v < 0 ? -(uint128)v : (uint128)v) < ten38;
}

static struct numeric make_numeric(int128 coef, int scale)
{
    ASSERT(scale >= 0 && scale <= SCALE_MAX);
    return (struct numeric){.lo = (uint64_t)(uint128)coef,
                            .hi = (int64_t)(coef >> 64),
                            .scale = (int16_t)scale};
}

bool acc_int_numeric(int128 value, struct numeric *out)
{
    *out = make_numeric(value, 0);
    return fits_numeric(value);
}

/*
 * The scale of the sum is the largest of its values', as numeric_add has it. Overflow of an
 * intermediate step is overflow of the sum: all parts have to fit its scale.
 */
bool acc_numeric(const struct acc_exact *acc, struct numeric *out)
{
    *out = (struct numeric){.special = (uint16_t)special_of(acc)};
    if (out->special != 0) {
        return true;
    }
    int scale = 0;
    for (const struct acc_part *part = acc->parts; part != NULL; part = part->next) {
        scale = part->tag;
    }
    int128 total = 0;
    for (const struct acc_part *part = acc->parts; part != NULL; part = part->next) {
        int128 v = (int128)(((uint128)part->sum[1] << 64) | part->sum[0]);
        if (part->sum[2] != (v < 0 ? UINT64_MAX : 0)) {
            return false;
        }
        for (int i = part->tag; i < scale; i++) {
            if (__builtin_mul_overflow(v, 10, &v)) {
                return false;
            }
        }
        if (__builtin_add_overflow(total, v, &total)) {
            return false;
        }
    }
    *out = make_numeric(total, scale);
    return fits_numeric(total);
}

/*
 * words += part's sum * 2^(32 * tag), sign-extended. Two's complement: the sign fills the words
 * above the part's three.
 */
static void add_words(uint64_t *words, const struct acc_part *part)
{
    ASSERT(part->tag >= 0 && part->tag <= FLOAT_TAG_MAX);
    unsigned at = (unsigned)part->tag * EXPONENT_BITS / 64;
    unsigned shift = (unsigned)part->tag * EXPONENT_BITS % 64; /* 0 or 32 */
    uint64_t fill = (part->sum[2] >> 63) != 0 ? UINT64_MAX : 0;
    uint64_t below = 0;
    uint128 carry = 0;
    for (unsigned i = 0; at + i < WORDS; i++) {
        uint64_t word = i < 3 ? part->sum[i] : fill;
        uint64_t shifted = shift == 0 ? word : (word << shift) | (below >> (64 - shift));
        below = word;
        carry += (uint128)words[at + i] + shifted;
        words[at + i] = (uint64_t)carry;
        carry >>= 64;
    }
}

/* count bits from bit low on; they may lie across two words. */
static uint64_t bits_at(const uint64_t *words, int low, int count)
{
    ASSERT(low >= 0 && low / 64 < WORDS && count > 0 && count < 64);
    uint64_t v = words[low / 64] >> (low % 64);
    if (low % 64 != 0 && low / 64 + 1 < WORDS) {
        v |= words[low / 64 + 1] << (64 - low % 64);
    }
    return v & ((1ULL << count) - 1);
}

/* Is any bit below the given one set? For rounding to even. */
static bool any_below(const uint64_t *words, int bit)
{
    ASSERT(bit >= 0 && bit < WORDS * 64);
    for (int i = 0; i < bit / 64; i++) {
        if (words[i] != 0) {
            return true;
        }
    }
    return bit % 64 != 0 && (words[bit / 64] & ((1ULL << (bit % 64)) - 1)) != 0;
}

/*
 * The magnitude (units of 2^-1074) rounded to the nearest double, ties to even. Below 53 bits the
 * number is exact, denormals too. ldexp of a mantissa that rounded up to 2^53 is exact as well.
 */
static double round_words(const uint64_t *words)
{
    int top = WORDS - 1;
    while (top >= 0 && words[top] == 0) {
        top--;
    }
    if (top < 0) {
        return 0;
    }
    int high = top * 64 + 63 - __builtin_clzll(words[top]);
    if (high < 53) {
        return ldexp((double)words[0], EXPONENT_MIN);
    }
    int low = high - 52;
    ASSERT(low >= 1);
    uint64_t mantissa = bits_at(words, low, 53);
    bool half = bits_at(words, low - 1, 1) != 0;
    if (half && ((mantissa & 1) != 0 || any_below(words, low - 1))) {
        mantissa++;
    }
    return ldexp((double)mantissa, low + EXPONENT_MIN);
}

/*
 * Negatives are rounded by magnitude, so that x and -x round alike. False: beyond the largest
 * double.
 */
bool acc_double(const struct acc_exact *acc, double *out)
{
    static const double specials[] = {0, NAN, INFINITY, -INFINITY};
    *out = specials[special_of(acc)];
    if (special_of(acc) != 0) {
        return true;
    }
    uint64_t words[WORDS] = {0};
    for (const struct acc_part *part = acc->parts; part != NULL; part = part->next) {
        add_words(words, part);
    }
    bool negative = (words[WORDS - 1] >> 63) != 0;
    uint64_t carry = 1;
    for (int i = 0; negative && i < WORDS; i++) {
        words[i] = ~words[i] + carry;
        carry = carry != 0 && words[i] == 0;
    }
    double f = round_words(words);
    *out = negative ? -f : f;
    return !isinf(f);
}

/* 2^exponent, which is within the type's normal range. */
static __float128 power_of_two(int exponent)
{
    ASSERT(exponent > -16382 && exponent < 16384);
    uint128 bits = (uint128)(uint64_t)(exponent + 16383) << 112;
    __float128 f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* Part by part from the least: each step rounds to 113 bits at most. */
__float128 acc_quad(const struct acc_exact *acc)
{
    ASSERT(special_of(acc) == 0);
    __float128 total = 0;
    for (const struct acc_part *part = acc->parts; part != NULL; part = part->next) {
        __float128 high = (__float128)(int64_t)part->sum[2] * power_of_two(128);
        __float128 middle = (__float128)part->sum[1] * power_of_two(64);
        total += (high + middle + part->sum[0]) *
                 power_of_two(part->tag * EXPONENT_BITS + EXPONENT_MIN);
    }
    return total;
}

void acc_clear(struct acc_exact *acc, struct pool *pool)
{
    ASSERT(acc != NULL && pool != NULL);
    while (acc->parts != NULL) {
        struct acc_part *next = acc->parts->next;
        pool_free(pool, acc->parts, sizeof(*acc->parts));
        acc->parts = next;
    }
}
