/*
 * numeric to and from text, binary floating point, and typmods.
 *
 *   1.50              1.50          the scale is kept
 *   -.5  5.           -0.5  5
 *   1e3  1.5e-3       1000  0.0015
 *   NaN -inf          NaN  -Infinity
 *   numeric(5,2)      123.456 becomes 123.46; 1234 fails with 22003
 *   numeric(3,-2)     12345 becomes 12300
 *
 * Input reads any number of digits and any exponent: digits beyond the 38 that count only decide
 * about rounding, and an exponent beyond an int is an overflow whatever the digits are. Output
 * prints every digit of the scale. Conversions from floats go through their shortest usual digits
 * (15 for float8, 6 for float4), as PostgreSQL's do, so 0.1::float8::numeric is 0.1.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/numeric.h"

#include <math.h>
#include <stdio.h>

/* Beyond this (half of an int, as in PostgreSQL) an exponent overflows, whatever follows it. */
enum { EXPONENT_MAX = INT32_MAX / 2 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* In any case. */
static bool word_is(const char *s, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(s, word, len) == 0;
}

/* NaN takes no sign, infinity does. */
static bool parse_special(const char *s, size_t len, struct numeric *out)
{
    bool sign = len > 0 && (*s == '+' || *s == '-');
    bool negative = sign && *s == '-';
    const char *body = sign ? s + 1 : s;
    size_t body_len = sign ? len - 1 : len;
    if (!sign && word_is(s, len, "nan")) {
        *out = (struct numeric){.special = NUMERIC_NAN};
        return true;
    }
    if (word_is(body, body_len, "infinity") || word_is(body, body_len, "inf")) {
        *out = (struct numeric){.special = negative ? NUMERIC_NINF : NUMERIC_INF};
        return true;
    }
    return false;
}

/* The digits of a literal while they are read. Only the first 39 significant ones are kept: more
 * cannot be represented, and the next decides rounding. */
struct digits {
    uint128 coef;
    int len;       /* significant digits in coef */
    int dropped;   /* digits after those */
    int first_dropped;
    int scale;     /* digits behind the point, all of them */
    bool any;
};

/* Leading zeros do not count as significant. */
static void add_digit(struct digits *d, char c)
{
    d->any = true;
    if (d->len == NUMERIC_DIGITS_MAX) {
        if (d->dropped == 0) {
            d->first_dropped = c - '0';
        }
        d->dropped++;
        return;
    }
    d->coef = d->coef * 10 + (uint128)(c - '0');
    d->len += d->coef != 0;
}

/*
 * True without doing anything when there is none. Clamped just beyond EXPONENT_MAX, so that the
 * caller sees that it was too large.
 */
static bool parse_exponent(const char **at, const char *end, int *out)
{
    *out = 0;
    const char *s = *at;
    if (s == end || (*s != 'e' && *s != 'E')) {
        return true;
    }
    s++;
    while (s < end && (*s == ' ' || (*s >= '\t' && *s <= '\r'))) {
        s++; /* PostgreSQL reads the exponent with strtol */
    }
    bool negative = s < end && *s == '-';
    if (s < end && (*s == '-' || *s == '+')) {
        s++;
    }
    if (s == end || !is_digit(*s)) {
        return false;
    }
    int64_t e = 0;
    while (s < end && is_digit(*s)) {
        e = e > EXPONENT_MAX ? e : e * 10 + (*s - '0');
        s++;
    }
    e = e > EXPONENT_MAX ? EXPONENT_MAX + 1 : e;
    *out = (int)(negative ? -e : e);
    *at = s;
    return true;
}

/* More than 38 whole digits overflow, unless all of them are zero. */
static const struct fault *finish(const struct digits *d, bool negative, int exponent,
                                  struct numeric *out)
{
    uint128 coef = d->coef;
    int scale = d->scale - exponent - d->dropped;
    if (d->dropped > 0) {
        if (scale < 0) {
            return &fault_numeric_overflow;
        }
        coef += d->first_dropped >= 5;
    }
    if (coef == 0) {
        /* 0e-5 keeps its zeros, 0e5 has none. */
        int zeros = d->scale - exponent;
        zeros = zeros < 0 ? 0 : zeros > NUMERIC_SCALE_MAX ? NUMERIC_SCALE_MAX : zeros;
        *out = numeric_make(0, zeros);
        return NULL;
    }
    if (scale > 2000) {
        *out = numeric_make(0, NUMERIC_SCALE_MAX);
        return NULL;
    }
    return num_fit(negative, coef, scale, out);
}

/* A syntax error is not a fault: the caller names the type in its message. */
const struct fault *num_parse(const char *s, size_t len, struct numeric *out, bool *ok)
{
    const char *end = s + len;
    *ok = true;
    if (parse_special(s, len, out)) {
        return NULL;
    }
    *ok = false;
    bool negative = s < end && *s == '-';
    if (s < end && (*s == '-' || *s == '+')) {
        s++;
    }
    struct digits d = {0};
    bool point = false;
    for (; s < end && (is_digit(*s) || (*s == '.' && !point)); s++) {
        if (*s == '.') {
            point = true;
            continue;
        }
        add_digit(&d, *s);
        d.scale += point && d.scale < 1000000;
    }
    int exponent = 0;
    if (!d.any || !parse_exponent(&s, end, &exponent)) {
        return NULL;
    }
    bool beyond = exponent > EXPONENT_MAX || exponent < -EXPONENT_MAX;
    *ok = s == end || beyond;
    if (s != end) {
        return beyond ? &fault_numeric_overflow : NULL;
    }
    return finish(&d, negative, exponent, out);
}

/*
 * From the last digit to the first, point and sign included. Once the rest fits 64 bits the
 * divisions are cheap.
 */
size_t num_print(const struct numeric *n, char *out)
{
    ASSERT(n->scale >= 0 && n->scale <= NUMERIC_SCALE_MAX);
    static const char *const specials[] = {"", "NaN", "Infinity", "-Infinity"};
    if (n->special != NUMERIC_FINITE) {
        size_t len = strlen(specials[n->special]);
        memcpy(out, specials[n->special], len);
        return len;
    }
    int128 c = numeric_coef(n);
    uint128 m = c < 0 ? -(uint128)c : (uint128)c;
    char digits[NUM_TEXT_MAX];
    int at = NUM_TEXT_MAX;
    int scale = n->scale;
    for (int i = 0; m != 0 || i <= scale; i++) {
        if (i == scale && scale > 0) {
            digits[--at] = '.';
        }
        ASSERT(at > 1);
        if (m <= UINT64_MAX) {
            digits[--at] = (char)('0' + (uint64_t)m % 10);
            m = (uint64_t)m / 10;
        } else {
            digits[--at] = (char)('0' + (int)(m % 10));
            m /= 10;
        }
    }
    if (c < 0) {
        digits[--at] = '-';
    }
    memcpy(out, digits + at, (size_t)(NUM_TEXT_MAX - at));
    return (size_t)(NUM_TEXT_MAX - at);
}

/* ---- floating point -------------------------------------------------------------------------- */

/*
 * The nearest double. Small numbers take one correctly rounded division (both operands are exact);
 * others are read by strtod, which rounds correctly.
 */
double num_to_double(const struct numeric *a)
{
    ASSERT(a->scale >= 0 && a->scale <= NUMERIC_SCALE_MAX);
    static const double exact[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (a->special != NUMERIC_FINITE) {
        return a->special == NUMERIC_NAN ? (double)NAN
               : a->special == NUMERIC_INF ? (double)INFINITY : -(double)INFINITY;
    }
    int128 c = numeric_coef(a);
    int128 exact_max = (int128)1 << 53;
    if (c >= -exact_max && c <= exact_max && a->scale < (int)ARRAY_LEN(exact)) {
        return (double)(int64_t)c / exact[a->scale]; /* both exact: one rounding */
    }
    char text[NUM_TEXT_MAX + 1];
    text[num_print(a, text)] = '\0';
    return strtod(text, NULL);
}

/* A float's infinity is a numeric's infinity. */
const struct fault *num_from_double(double v, int digits, struct numeric *out)
{
    ASSERT(digits == 6 || digits == 15);
    if (isnan(v)) {
        *out = (struct numeric){.special = NUMERIC_NAN};
        return NULL;
    }
    if (isinf(v)) {
        *out = (struct numeric){.special = v > 0 ? NUMERIC_INF : NUMERIC_NINF};
        return NULL;
    }
    char text[64];
    int len = snprintf(text, sizeof(text), "%.*g", digits, v);
    bool ok;
    const struct fault *fault = num_parse(text, (size_t)len, out, &ok);
    ASSERT(ok);
    return fault;
}

/* ---- typmod ---------------------------------------------------------------------------------- */

/* PostgreSQL's message, with its detail. */
static err_t field_overflow(int precision, int scale)
{
    err_t err = err_sql(ERR_INVALID, "22003", "numeric field overflow");
    int whole = precision - scale;
    return err_detail(err,
                      "A field with precision %d, scale %d must round to an absolute value less "
                      "than %s%d.",
                      precision, scale, whole != 0 ? "10^" : "", whole != 0 ? whole : 1);
}

/* Without typmod anything goes; NaN goes anywhere. */
err_t num_apply_typmod(int32_t typmod, struct numeric *n)
{
    if (typmod < TYPMOD_HEADER || n->special == NUMERIC_NAN) {
        return ERR_OK;
    }
    int precision = typmod_precision(typmod);
    int scale = typmod_scale(typmod);
    if (n->special != NUMERIC_FINITE) {
        return err_detail(err_sql(ERR_INVALID, "22003", "numeric field overflow"),
                          "A field with precision %d, scale %d cannot hold an infinite value.",
                          precision, scale);
    }
    struct numeric rounded;
    if (num_round(n, scale, NUM_ROUND, &rounded) != NULL) {
        return field_overflow(precision, scale);
    }
    int128 c = numeric_coef(&rounded);
    uint128 m = c < 0 ? -(uint128)c : (uint128)c;
    /* Digits of the whole part: at most precision - scale (the scale may be negative). */
    if (m != 0 && u128_digits(m) - rounded.scale > precision - scale) {
        return field_overflow(precision, scale);
    }
    *n = rounded;
    return ERR_OK;
}
