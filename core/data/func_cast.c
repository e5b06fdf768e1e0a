/*
 * Casts between kinds. Which may be applied where (implicit, assignment, explicit) is in func.c.
 *
 * Narrowing checks the range, never wraps. Each rounds as PostgreSQL does:
 *
 *   2.5::float8::int4      2     floats: halves to even
 *   2.5::numeric::int4     3     numeric: halves away from zero
 *   0.1::float4::float8    0.10000000149011612: exact, not pretty
 *   0.1::float8::numeric   0.1: through 15 digits
 *   300::int2              22003 smallint out of range
 *   'NaN'::float8::int4    22003 integer out of range
 *
 * Text to anything goes through datum_parse, anything to text through datum_print, so casts and
 * input agree by construction.
 */
#include "core/data/datetime.h"
#include "core/data/json.h"
#include "core/data/kernel.h"
#include "core/data/numeric.h"
#include "core/data/text.h"

#include <float.h>
#include <math.h>

typedef struct numeric num;
typedef struct interval iv;

static const struct fault fault_mz_range = {"22003", "mz_timestamp out of range"};

/* ---- integers and floats --------------------------------------------------------------------- */

PLAIN_UNARY(k_cast_int2_int4, int16_t, int32_t, x)
PLAIN_UNARY(k_cast_int2_int8, int16_t, int64_t, x)
PLAIN_UNARY(k_cast_int4_int8, int32_t, int64_t, x)
CHECKED_UNARY(k_cast_int4_int2, int32_t, int16_t, (int16_t)x, v != x, fault_int2_range)
CHECKED_UNARY(k_cast_int8_int2, int64_t, int16_t, (int16_t)x, v != x, fault_int2_range)
CHECKED_UNARY(k_cast_int8_int4, int64_t, int32_t, (int32_t)x, v != x, fault_int4_range)
PLAIN_UNARY(k_cast_int2_float4, int16_t, float, x)
PLAIN_UNARY(k_cast_int4_float4, int32_t, float, (float)x)
PLAIN_UNARY(k_cast_int8_float4, int64_t, float, (float)x)
PLAIN_UNARY(k_cast_int2_float8, int16_t, double, x)
PLAIN_UNARY(k_cast_int4_float8, int32_t, double, x)
PLAIN_UNARY(k_cast_int8_float8, int64_t, double, (double)x)
PLAIN_UNARY(k_cast_float4_float8, float, double, x)
PLAIN_UNARY(k_cast_bool_int4, uint8_t, int32_t, x)
PLAIN_UNARY(k_cast_int4_bool, int32_t, uint8_t, x != 0)
PLAIN_UNARY(k_cast_int2_numeric, int16_t, num, num_from_int(x))
PLAIN_UNARY(k_cast_int4_numeric, int32_t, num, num_from_int(x))
PLAIN_UNARY(k_cast_int8_numeric, int64_t, num, num_from_int(x))

/* An overflow or underflow that the value did not have before is an error. */
void k_cast_float8_float4(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_FLOAT4);
    FOR_ROWS(c, i) {
        double x = ARG(c, 0, double, i);
        float v = (float)x;
        ((float *)c->out)[i] = v;
        if (isinf(v) && !isinf(x)) {
            call_fail(c, i, &fault_float_overflow);
        } else if (v == 0 && x != 0) {
            call_fail(c, i, &fault_float_underflow);
        }
    }
}

/* Halves go to the even integer; the bounds are exact powers of two. */
#define FLOAT_TO_INT(name, F, T, min, end, fault)                                                  \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        FOR_ROWS(c, i) {                                                                           \
            double x = rint((double)ARG(c, 0, F, i));                                              \
            if (x >= (min) && x < (end)) {                                                         \
                ((T *)c->out)[i] = (T)x;                                                           \
            } else {                                                                               \
                call_fail(c, i, &(fault));                                                         \
            }                                                                                      \
        }                                                                                          \
    }

FLOAT_TO_INT(k_cast_float4_int2, float, int16_t, -0x1p15, 0x1p15, fault_int2_range)
FLOAT_TO_INT(k_cast_float4_int4, float, int32_t, -0x1p31, 0x1p31, fault_int4_range)
FLOAT_TO_INT(k_cast_float4_int8, float, int64_t, -0x1p63, 0x1p63, fault_int8_range)
FLOAT_TO_INT(k_cast_float8_int2, double, int16_t, -0x1p15, 0x1p15, fault_int2_range)
FLOAT_TO_INT(k_cast_float8_int4, double, int32_t, -0x1p31, 0x1p31, fault_int4_range)
FLOAT_TO_INT(k_cast_float8_int8, double, int64_t, -0x1p63, 0x1p63, fault_int8_range)

/* ---- numeric --------------------------------------------------------------------------------- */

/* false: the row failed. type: its SQL name, for the message. */
static bool numeric_to_int(struct call *c, uint32_t i, const num *n, int64_t min, int64_t max,
                           const struct fault *range, const char *type, int64_t *out)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    if (n->special != NUMERIC_FINITE) {
        call_failf(c, i, "0A000", "cannot convert %s to %s",
                   n->special == NUMERIC_NAN ? "NaN" : "infinity", type);
        return false;
    }
    if (!num_to_int64(n, out) || *out < min || *out > max) {
        call_fail(c, i, range);
        return false;
    }
    return true;
}

/* Of a failed row 0 is stored: nobody looks at it. */
static void store_int(struct call *c, uint32_t i, const num *n)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    int64_t v = 0;
    switch (c->out_kind) {
    case TYPE_INT2:
        numeric_to_int(c, i, n, INT16_MIN, INT16_MAX, &fault_int2_range, "smallint", &v);
        ((int16_t *)c->out)[i] = (int16_t)v;
        break;
    case TYPE_INT4:
        numeric_to_int(c, i, n, INT32_MIN, INT32_MAX, &fault_int4_range, "integer", &v);
        ((int32_t *)c->out)[i] = (int32_t)v;
        break;
    default:
        ASSERT(c->out_kind == TYPE_INT8);
        numeric_to_int(c, i, n, INT64_MIN, INT64_MAX, &fault_int8_range, "bigint", &v);
        ((int64_t *)c->out)[i] = v;
        break;
    }
}

/* For all integer widths; the result's kind says which. */
void k_cast_numeric_int(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    FOR_ROWS(c, i) {
        store_int(c, i, &ARG(c, 0, num, i));
    }
}

static float numeric_to_float(const num *n)
{
    char text[NUM_TEXT_MAX + 1];
    text[num_print(n, text)] = '\0';
    return strtof(text, NULL); /* not through double: that would round twice */
}

PLAIN_UNARY(k_cast_numeric_float4, num, float, numeric_to_float(&x))
PLAIN_UNARY(k_cast_numeric_float8, num, double, num_to_double(&x))
FAULTY_UNARY(k_cast_float4_numeric, float, num, num_from_double((double)*x, FLT_DIG, v))
FAULTY_UNARY(k_cast_float8_numeric, double, num, num_from_double(*x, DBL_DIG, v))

/* ---- oid and mz_timestamp -------------------------------------------------------------------- */

PLAIN_UNARY(k_cast_int2_oid, int16_t, int64_t, (int64_t)(uint32_t)(int32_t)x)
PLAIN_UNARY(k_cast_int4_oid, int32_t, int64_t, (int64_t)(uint32_t)x)
CHECKED_UNARY(k_cast_int8_oid, int64_t, int64_t, x, x < 0 || x > UINT32_MAX, fault_oid_range)
PLAIN_UNARY(k_cast_oid_int4, int64_t, int32_t, (int32_t)(uint32_t)x)
CHECKED_UNARY(k_cast_int4_mz, int32_t, int64_t, x, x < 0, fault_mz_range)
CHECKED_UNARY(k_cast_int8_mz, int64_t, int64_t, x, x < 0, fault_mz_range)
CHECKED_UNARY(k_cast_mz_ts, int64_t, int64_t, x, x < 0, fault_timestamp_range)

void k_cast_numeric_mz(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_MZ_TIMESTAMP);
    FOR_ROWS(c, i) {
        int64_t v = 0;
        numeric_to_int(c, i, &ARG(c, 0, num, i), 0, INT64_MAX, &fault_mz_range, "mz_timestamp",
                       &v);
        ((int64_t *)c->out)[i] = v;
    }
}

PLAIN_UNARY(k_cast_mz_numeric, uint64_t, num, numeric_make((int128)x, 0))

/* ---- time ------------------------------------------------------------------------------------ */

/* Microseconds since midnight, for times before 1970 too. */
static int64_t clock_of(int64_t ts)
{
    return ts - floor_div(ts, MICROS_PER_DAY) * MICROS_PER_DAY;
}

FAULTY_UNARY(k_cast_date_ts, int32_t, int64_t, date_to_timestamp(*x, v))
PLAIN_UNARY(k_cast_ts_date, int64_t, int32_t, (int32_t)timestamp_to_date(x))
PLAIN_UNARY(k_cast_time_interval, int64_t, iv, ((iv){.micros = x}))
PLAIN_UNARY(k_cast_interval_time, iv, int64_t, clock_of(x.micros))

/* The time of an infinite timestamp is NULL. */
void k_cast_ts_time(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TIME);
    FOR_ROWS(c, i) {
        int64_t ts = ARG(c, 0, int64_t, i);
        if (ts == TS_INFINITY || ts == TS_NINFINITY) {
            call_null(c, i);
        } else {
            ((int64_t *)c->out)[i] = clock_of(ts);
        }
    }
}

/* ---- text ------------------------------------------------------------------------------------ */

/* The words of SQL, not the letters of bool's text output. */
void k_cast_bool_text(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        bool b = ARG(c, 0, uint8_t, i);
        call_slice(c, i, b ? "true" : "false", b ? 4 : 5);
    }
}

void k_cast_to_text(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    struct type type = type_of(c->arg_kinds[0]);
    FOR_ROWS(c, i) {
        struct datum d;
        vec_datum(&c->args[0], c->arg_kinds[0], i, &d);
        buf_clear(&c->ev->buf);
        datum_print(&type, &d, &c->ev->buf);
        call_text(c, i, c->ev->buf.data, c->ev->buf.len);
    }
}

/* Fixed-width results need no memory; the arena stays empty for them. */
void k_cast_from_text(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    struct type type = type_of(c->out_kind);
    struct arena arena = {0};
    FOR_ROWS(c, i) {
        struct slice s = ARG(c, 0, struct slice, i);
        struct datum d;
        err_t err = datum_parse(&type, s.s, s.len, &arena, &d);
        if (err != ERR_OK) {
            call_fail_err(c, i, err);
        } else {
            call_datum(c, i, &d);
        }
    }
    arena_free(&arena);
}

/* ---- jsonb ----------------------------------------------------------------------------------- */

/* Fails the row when the value is of another kind than wanted. */
static bool json_is(struct call *c, uint32_t i, struct json v, enum json_kind want)
{
    ASSERT(v.len > 0 && v.s != NULL);
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    enum json_kind kind = json_kind(v);
    if (kind == want) {
        return true;
    }
    call_failf(c, i, "22023", "cannot cast jsonb %s to type %s",
               kind == JSON_NUMBER  ? "numeric"
               : kind == JSON_ARRAY ? "array"
                                    : json_kind_name(kind),
               type_kind_name(c->out_kind));
    return false;
}

static struct json json_arg(const struct call *c, uint32_t i)
{
    struct slice s = ARG(c, 0, struct slice, i);
    return (struct json){s.s, s.len};
}

/* Only the values true and false: a string 'true' is refused. */
void k_cast_jsonb_bool(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_BOOL);
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, i);
        if (json_is(c, i, v, JSON_BOOL)) {
            ((uint8_t *)c->out)[i] = v.s[0] == 't';
        }
    }
}

void k_cast_jsonb_number(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, i);
        struct numeric n = {0};
        bool ok = false;
        if (!json_is(c, i, v, JSON_NUMBER)) {
            continue;
        }
        const struct fault *fault = num_parse(v.s, v.len, &n, &ok);
        if (fault != NULL) {
            call_fail(c, i, fault);
            continue;
        }
        ASSERT(ok);
        switch (c->out_kind) {
        case TYPE_NUMERIC:
            ((struct numeric *)c->out)[i] = n;
            break;
        case TYPE_FLOAT4:
            ((float *)c->out)[i] = numeric_to_float(&n);
            break;
        case TYPE_FLOAT8:
            ((double *)c->out)[i] = num_to_double(&n);
            break;
        default:
            store_int(c, i, &n);
            break;
        }
    }
}
