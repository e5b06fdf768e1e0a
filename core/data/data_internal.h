/*
 * Shared between the files of core/data; nobody outside includes it: numbers behind types, the ways
 * in which a row can fail, and the forms of values the batch files check.
 */
#ifndef TAILRACE_CORE_DATA_DATA_INTERNAL_H
#define TAILRACE_CORE_DATA_DATA_INTERNAL_H

#include "core/data/batch.h"

enum {
    OID_CHAR = 18,
    OID_NAME = 19,
    OID_BPCHAR = 1042,
    OID_VARCHAR = 1043,
    OID_NUMERIC = 1700,
    TYPMOD_HEADER = 4, /* PostgreSQL's VARHDRSZ, added to every length typmod */
};

/*
 * numeric(p,s): ((p << 16) | s in 11 bits, two's complement) + 4, since PostgreSQL 15. 1 to 1000 in
 * PostgreSQL; more than 38 are accepted and never reached.
 */
static inline int typmod_precision(int32_t typmod)
{
    return ((typmod - TYPMOD_HEADER) >> 16) & 0xffff;
}

/* Eleven bits with a sign: -1000 to 1000. */
static inline int typmod_scale(int32_t typmod)
{
    return (((typmod - TYPMOD_HEADER) & 0x7ff) ^ 1024) - 1024;
}

/* A way an operation on a row can fail; all are static and constant, so failing costs nothing. */
struct fault {
    const char *sqlstate;
    const char *message;
};
extern const struct fault fault_division_by_zero;  /* 22012 */
extern const struct fault fault_numeric_overflow;  /* 22003, as are the next */
extern const struct fault fault_int2_range;
extern const struct fault fault_int4_range;
extern const struct fault fault_int8_range;
extern const struct fault fault_float_overflow;
extern const struct fault fault_float_underflow;
extern const struct fault fault_oid_range;
extern const struct fault fault_date_range;        /* 22008, as are the next */
extern const struct fault fault_timestamp_range;
extern const struct fault fault_interval_range;
/* ERR_INVALID with the fault's SQLSTATE and message; NULL stays NULL. */
err_t fault_err(const struct fault *fault);

/* May this kind stand in a batch? */
bool type_kind_stored(uint8_t kind);
/* Writes a fixed-width datum, not null, in its column's representation. */
void datum_store(uint8_t kind, const struct datum *d, void *to);
/* "integer": for messages. */
const char *type_kind_name(uint8_t kind);

/*
 * Writes a code point (valid, not a surrogate) as UTF-8; returns its bytes, 1 to 4. out has room
 * for 4.
 */
static inline size_t utf8_put(uint32_t cp, char *out)
{
    ASSERT(cp <= 0x10FFFF && (cp < 0xD800 || cp > 0xDFFF));
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

/* ---- numeric --------------------------------------------------------------------------------- */

typedef __int128 int128;
typedef unsigned __int128 uint128;

enum { NUMERIC_DIGITS_MAX = 38, NUMERIC_SCALE_MAX = 38 };
enum { NUMERIC_FINITE, NUMERIC_NAN, NUMERIC_INF, NUMERIC_NINF };

/* The coefficient with its sign, from the two halves. */
static inline int128 numeric_coef(const struct numeric *n)
{
    return (int128)(((uint128)(uint64_t)n->hi << 64) | n->lo);
}

/* A finite number; the caller has made sure that it fits. */
static inline struct numeric numeric_make(int128 coef, int scale)
{
    return (struct numeric){.lo = (uint64_t)(uint128)coef,
                            .hi = (int64_t)((uint128)coef >> 64),
                            .scale = (int16_t)scale};
}

/*
 * Is every field in its range? For bytes from outside. NaN and the infinities have no digits and no
 * scale.
 */
bool numeric_valid(const struct numeric *n);
/* Equal numbers become equal bytes: trailing zeros of the fraction go. */
struct numeric numeric_normalize(const struct numeric *n);
int numeric_compare(const struct numeric *a, const struct numeric *b);

/* ---- interval -------------------------------------------------------------------------------- */

/*
 * The length that orders intervals: months of 30 days, days of 24 hours, in microseconds. Fits 128
 * bits whatever the fields: about 2^78.
 */
static inline int128 interval_span(const struct interval *v)
{
    return ((int128)v->months * 30 + v->days) * 86400000000LL + v->micros;
}

/* Equal intervals (1 mon = 30 days) become equal bytes. */
struct interval interval_normalize(const struct interval *v);

/* ---- time ------------------------------------------------------------------------------------ */

#define MICROS_PER_SEC 1000000LL
#define MICROS_PER_DAY 86400000000LL
/*
 * PostgreSQL's range: 4714-11-24 BC (day 0 of the Julian count) up to, but not with,
 * 5874898-01-01. Timestamps end where the microseconds since 1970 leave an int64, in January 294247
 * (PostgreSQL, which counts from 2000, goes on to the end of 294276).
 */
#define DATE_MIN (-2440588)
#define DATE_END 2145042906
#define TIMESTAMP_MIN (DATE_MIN * MICROS_PER_DAY)

/* The infinities are the ends of the 32-bit range. */
static inline bool date_valid(int64_t days)
{
    return (days >= DATE_MIN && days < DATE_END) || days == INT32_MIN || days == INT32_MAX;
}

/* INT64_MAX, infinity, passes as any large number does. */
static inline bool timestamp_valid(int64_t micros)
{
    return micros == INT64_MIN || micros >= TIMESTAMP_MIN;
}

/* ---- jsonb ----------------------------------------------------------------------------------- */

struct json_parser;
/* Is this the canonical text of a jsonb? For bytes from outside. p is scratch. */
bool json_is_canonical(struct json_parser *p, const char *s, size_t len);
/* Appends the text with numbers stripped of trailing zeros: equal jsonb, equal bytes. */
void json_append_normalized(const char *s, size_t len, struct buf *out);

#endif
