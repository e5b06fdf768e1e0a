/*
 * Binary floating point to and from text. Output is the shortest decimal that reads back as the
 * same value, in PostgreSQL's layout (extra_float_digits = 1): 15 digits (6 for float4) always
 * survive, so at most three precisions need to be tried.
 *
 *   0.1           0.1        and not 0.1000000000000000055
 *   1e15          1e+15
 *   123456789     123456789
 *   1.5e-5        1.5e-05
 *   NaN, -Infinity
 *
 * PostgreSQL uses Ryu; printf and strtod of glibc round correctly, so trying gives the same digits,
 * except for decimals exactly half way between two floats, which Ryu as PostgreSQL uses it avoids:
 * see reads_back. Functions here keep no state; any thread.
 */
#include "core/data/text.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>

/* glibc's, declared here because clang's view of stdlib.h hides it. */
extern __float128 strtof128(const char *s, char **end);

/*
 * Does the text read back as v > 0, whatever the reader does with ties? As PostgreSQL, we refuse a
 * decimal exactly half way to a neighbour (1e23 is one). The rounding of exact ties is where
 * readers differ: some round to even, some do not.
 */
static bool reads_back(const char *text, double v, bool single)
{
    if (single ? strtof(text, NULL) != (float)v : strtod(text, NULL) != v) {
        return false;
    }
    double below = single ? (double)nextafterf((float)v, 0) : nextafter(v, 0);
    double above = single ? (double)nextafterf((float)v, INFINITY) : nextafter(v, INFINITY);
    if (isinf(above)) {
        return true;
    }
    __float128 exact = strtof128(text, NULL);
    return exact * 2 != (__float128)v + below && exact * 2 != (__float128)v + above;
}

/*
 * Digits and exponent of v > 0: v = 0.d1d2d3... * 10^*point. Returns how many digits. 15 (6) digits
 * are tried first, 17 (9) always do. printf rounds correctly in glibc, so the first that reads back
 * is the shortest of its length, and nearest to the value.
 */
static int shortest(double v, bool single, char *digits, int *point)
{
    char text[40];
    int first = single ? FLT_DIG : DBL_DIG;
    int last = single ? FLT_DECIMAL_DIG : DBL_DECIMAL_DIG;
    ASSERT(v > 0 && !isinf(v));
    if (v < (single ? (double)FLT_MIN : DBL_MIN)) {
        first = 1; /* subnormal: fewer digits than usual may do */
    }
    for (int n = first; n <= last; n++) {
        snprintf(text, sizeof(text), "%.*e", n - 1, v);
        if (reads_back(text, v, single)) {
            break;
        }
    }
    int len = 0;
    const char *s = text;
    for (; *s != 'e'; s++) {
        if (*s != '.') {
            digits[len++] = *s;
        }
    }
    while (len > 1 && digits[len - 1] == '0') {
        len--;
    }
    *point = (int)strtol(s + 1, NULL, 10) + 1;
    return len;
}

/*
 * 123.45 and 0.00012: digits around a point somewhere between four zeros and the precision. point:
 * how many digits stand before it; 0 or less: zeros follow it.
 */
static size_t put_fixed(char *out, const char *digits, int len, int point)
{
    ASSERT(len > 0 && point > -5 && point < 20);
    size_t at = 0;
    if (point <= 0) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = point; i < 0; i++) {
            out[at++] = '0';
        }
    }
    for (int i = 0; i < len || i < point; i++) {
        if (i == point && i > 0) {
            out[at++] = '.';
        }
        out[at++] = i < len ? digits[i] : '0';
    }
    return at;
}

/* 1.5e-07: at least two digits of exponent, as printf. */
static size_t put_exponent(char *out, const char *digits, int len, int exponent)
{
    ASSERT(len > 0 && exponent > -400 && exponent < 400);
    size_t at = 0;
    out[at++] = digits[0];
    if (len > 1) {
        out[at++] = '.';
        memcpy(out + at, digits + 1, (size_t)(len - 1));
        at += (size_t)(len - 1);
    }
    int size = abs(exponent);
    out[at++] = 'e';
    out[at++] = exponent < 0 ? '-' : '+';
    if (size >= 100) {
        out[at++] = (char)('0' + size / 100);
    }
    out[at++] = (char)('0' + size / 10 % 10);
    out[at++] = (char)('0' + size % 10);
    ASSERT(at < FLOAT_TEXT_MAX);
    return at;
}

/* PostgreSQL changes to exponents at 1e15 (float4: 1e6) and below 1e-4. */
size_t float_print(double v, bool single, char *out)
{
    char digits[24];
    size_t at = 0;
    int point;
    if (isnan(v)) {
        memcpy(out, "NaN", 3);
        return 3;
    }
    if (signbit(v)) {
        out[at++] = '-';
        v = -v;
    }
    if (isinf(v)) {
        memcpy(out + at, "Infinity", 8);
        return at + 8;
    }
    if (v == 0) {
        out[at++] = '0';
        return at;
    }
    int len = shortest(v, single, digits, &point);
    int exponent = point - 1;
    if (exponent < -4 || exponent >= (single ? FLT_DIG : DBL_DIG)) {
        return at + put_exponent(out + at, digits, len, exponent);
    }
    return at + put_fixed(out + at, digits, len, point);
}

/* ---- input ----------------------------------------------------------------------------------- */

/* Infinity and NaN in any case, with the sign where it makes sense. */
static bool special_value(const char *s, size_t len, double *out)
{
    bool sign = len > 0 && (*s == '-' || *s == '+');
    const char *body = s + sign;
    size_t body_len = len - sign;
    bool inf = (body_len == 8 && strncasecmp(body, "infinity", 8) == 0) ||
               (body_len == 3 && strncasecmp(body, "inf", 3) == 0);
    if (inf) {
        *out = sign && *s == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    if (body_len == 3 && strncasecmp(body, "nan", 3) == 0) {
        *out = (double)NAN;
        return true;
    }
    return false;
}

/*
 * Hexadecimal floats, which strtod would take, are taken too: PostgreSQL does. ERANGE with a value
 * that is neither 0 nor infinite is a denormal, which is fine.
 */
err_t float_parse(const char *s, size_t len, bool single, double *out)
{
    ASSERT(s != NULL || len == 0);
    const char *type = single ? "real" : "double precision";
    struct text_span t = text_trim(s, len);
    if (special_value(t.s, t.len, out)) {
        return ERR_OK;
    }
    /* strtod wants a terminator; numbers longer than this are cut nowhere but refused. */
    char *copy = mem_strndup(t.s, t.len);
    char *end = copy;
    errno = 0;
    bool starts = t.len > 0 && strchr("+-.0123456789", t.s[0]) != NULL;
    double v = !starts ? 0 : single ? (double)strtof(copy, &end) : strtod(copy, &end);
    int error = errno;
    bool whole = t.len > 0 && end == copy + t.len && strlen(copy) == t.len && isfinite(v);
    bool word = end == copy + t.len && error != ERANGE && !isfinite(v);
    free(copy);
    if (error == ERANGE && (v == 0 || !isfinite(v))) {
        return err_sql(ERR_INVALID, "22003", "\"%.*s\" is out of range for type %s", (int)t.len,
                       t.s, type);
    }
    if (!whole || word) {
        return err_sql(ERR_INVALID, "22P02", "invalid input syntax for type %s: \"%.*s\"", type,
                       (int)len, s);
    }
    *out = v;
    return ERR_OK;
}
