/*
 * SQL types and single values. A type is a kind (how values are laid out and compared) plus what
 * the SQL user sees of it (PostgreSQL's type OID and typmod: varchar(10) is kind TEXT, OID 1043).
 *
 * Everything below the planner works on kinds. A datum is one value outside of a batch: a literal,
 * a parameter, a field on its way to or from the wire; in batches values stand in columns
 * (batch.h).
 */
#ifndef TAILRACE_CORE_DATA_TYPE_H
#define TAILRACE_CORE_DATA_TYPE_H

#include "core/base/arena.h"
#include "core/base/buf.h"
#include "core/base/err.h"

/* The numbers are part of the wire and disk format: never reuse one. */
enum type_kind {
    TYPE_BOOL = 1,        /* 1 byte, 0 or 1 */
    TYPE_INT2 = 2,        /* int16_t */
    TYPE_INT4 = 3,        /* int32_t */
    TYPE_INT8 = 4,        /* int64_t */
    TYPE_FLOAT4 = 5,      /* float */
    TYPE_FLOAT8 = 6,      /* double */
    TYPE_NUMERIC = 7,     /* struct numeric, 24 bytes */
    TYPE_TEXT = 8,        /* UTF-8, variable; also varchar, bpchar, name */
    TYPE_BYTEA = 9,       /* variable */
    TYPE_DATE = 10,       /* int32_t days since 1970-01-01; INT32_MIN/MAX = -infinity/infinity */
    TYPE_TIMESTAMP = 11,  /* int64_t microseconds since 1970-01-01; INT64_MIN/MAX = infinities */
    TYPE_TIMESTAMPTZ = 12,/* the same, UTC */
    TYPE_INTERVAL = 13,   /* struct interval, 16 bytes */
    TYPE_JSONB = 14,      /* variable: canonical text exactly as PostgreSQL prints a jsonb */
    TYPE_UUID = 15,       /* 16 bytes */
    TYPE_OID = 16,        /* uint32_t stored as int64_t; for pg_catalog */
    TYPE_TIME = 17,       /* int64_t microseconds of the day */
    TYPE_MZ_TIMESTAMP = 18, /* uint64_t engine time stored as int64_t */
    TYPE_UNKNOWN = 19,    /* the type of an untyped literal in a statement; never in a batch */
    TYPE_KIND_MAX = 20,
};

/*
 * What a column is. Two types of the same kind are computed alike; OID and typmod matter only at
 * the edges: input, output, casts.
 */
struct type {
    uint8_t kind;    /* enum type_kind */
    bool nullable;
    int32_t typmod;  /* as PostgreSQL's atttypmod; -1: none */
    uint32_t oid;    /* PostgreSQL type OID for the SQL user */
};

/*
 * value = coefficient * 10^-scale. coefficient is 128-bit two's complement, |coefficient| < 10^38;
 * 0 <= scale <= 38 is the display scale (1.10 keeps its zero). special: 0 finite, 1 NaN,
 * 2 infinity, 3 -infinity (then the rest is zero). Equality and hashing ignore trailing zeros
 * through numeric_normalize; the bytes of a stored value keep them.
 */
struct numeric {
    uint64_t lo;
    int64_t hi;
    int16_t scale;
    uint16_t special;
    uint32_t zero; /* always 0 */
};

/*
 * Three fields, never mixed: a month has 28 to 31 days, and a day may have 23 hours elsewhere.
 * Ordered and compared as if months had 30 days and days 24 hours.
 */
struct interval {
    int32_t months;
    int32_t days;
    int64_t micros;
};

/* One value. Which member: by the kind of its type; variable kinds point to memory not owned. */
struct datum {
    bool null;
    uint32_t len; /* bytes of s */
    union {
        bool b;
        int64_t i; /* INT2..INT8, DATE, TIME, TIMESTAMP(TZ), OID, MZ_TIMESTAMP */
        double f;  /* FLOAT4, FLOAT8 */
        struct numeric n;
        struct interval iv;
        uint8_t uuid[16];
        const char *s; /* TEXT, BYTEA, JSONB */
    };
};

/* Width in bytes of a fixed-width kind in a column; 0 for variable-width kinds. */
size_t type_width(enum type_kind kind);
bool type_is_variable(enum type_kind kind);
/* A type of this kind, nullable, with PostgreSQL's usual OID and no typmod. */
struct type type_of(enum type_kind kind);
/* By PostgreSQL OID (varchar 1043, bpchar 1042, name 19 -> TEXT...); false when unknown. */
bool type_of_oid(uint32_t oid, int32_t typmod, struct type *out);
/* By SQL name as libpg_query spells it after pg_catalog. ("int4", "varchar", "timestamptz"). */
bool type_of_name(const char *name, int32_t typmod, struct type *out);
/* "character varying(10)", "numeric(10,2)", as format_type() prints it; from the arena. */
const char *type_format(struct arena *arena, const struct type *type);

/* OIDs of array types and their elements; 0: none. Arrays are TEXT, in PostgreSQL's format. */
uint32_t type_array_of(uint32_t element);
uint32_t type_element_of(uint32_t array);

/*
 * Is it a value of its type? Ranges, UTF-8 without NUL, canonical jsonb, the form of numerics. For
 * values from outside; NULL is a value of every type.
 */
bool datum_valid(enum type_kind kind, const struct datum *d);

/* Total order of PostgreSQL's btree (NaN highest, -0 = 0, text by bytes = collation C); NULLs are
 * the caller's. Both of this kind. */
int datum_compare(enum type_kind kind, const struct datum *a, const struct datum *b);
bool datum_equal(enum type_kind kind, const struct datum *a, const struct datum *b);
/* Equal datums hash alike (numeric 1.0 and 1.00; 0.0 and -0.0). */
uint64_t datum_hash(enum type_kind kind, const struct datum *d);

/*
 * Text input as PostgreSQL's input functions do it (SQLSTATE 22P02, 22003, 22007, 22008, 22001...),
 * result's variable bytes from the arena; typmod is applied. Text output as its output functions
 * (DateStyle ISO, IntervalStyle postgres, extra_float_digits 1, bytea hex, TimeZone UTC).
 */
err_t datum_parse(const struct type *type, const char *text, size_t len, struct arena *arena,
                  struct datum *out);
void datum_print(const struct type *type, const struct datum *d, struct buf *out);
/* PostgreSQL's binary wire format (network byte order), for pgwire. */
err_t datum_recv(const struct type *type, const uint8_t *data, size_t len, struct arena *arena,
                 struct datum *out);
void datum_send(const struct type *type, const struct datum *d, struct buf *out);

/*
 * Arithmetic with PostgreSQL's result scales, for aggregates (22003, 22008, 22012). out may be one
 * of the arguments. numeric_from_int128 takes |v| < 10^38.
 */
err_t numeric_add(const struct numeric *a, const struct numeric *b, struct numeric *out);
err_t numeric_sub(const struct numeric *a, const struct numeric *b, struct numeric *out);
err_t numeric_mul(const struct numeric *a, const struct numeric *b, struct numeric *out);
err_t numeric_div(const struct numeric *a, const struct numeric *b, struct numeric *out);
struct numeric numeric_from_int128(__int128 v);
err_t interval_add(const struct interval *a, const struct interval *b, struct interval *out);
err_t interval_sub(const struct interval *a, const struct interval *b, struct interval *out);
err_t interval_div(const struct interval *a, double by, struct interval *out);

#endif
