/*
 * Arithmetic and mathematical functions of numbers.
 *
 * Integer operators compute without branches and collect overflow in a flag; only when it is set
 * are the rows looked for (kernel.h). Results have the wider of the two types, as in PostgreSQL:
 * int2 + int4 is int4, and overflows as int4 does. Floats follow PostgreSQL rather than IEEE: a
 * finite operation that gives an infinity, or zero from what is not zero, fails instead of
 * returning it.
 *
 *   2147483647 + 1       22003 integer out of range
 *   -7 / 2, -7 % 2       -3, -1: towards zero, as C
 *   1e308 * 10           22003 value out of range: overflow
 *   1 / 0                22012 division by zero
 *   5.5 % 2.5            0.5
 *
 * Functions of numeric live in numeric.c and numeric_math.c; here they are only applied to rows.
 */
#include "core/data/kernel.h"
#include "core/data/numeric.h"

#include <float.h>
#include <math.h>

static const struct fault fault_sqrt = {"2201F", "cannot take square root of a negative number"};
static const struct fault fault_ln_zero = {"2201E", "cannot take logarithm of zero"};
static const struct fault fault_ln_negative = {
    "2201E", "cannot take logarithm of a negative number"};
static const struct fault fault_zero_power = {
    "2201F", "zero raised to a negative power is undefined"};
static const struct fault fault_complex = {
    "2201F", "a negative number raised to a non-integer power yields a complex result"};

/* ---- integers -------------------------------------------------------------------------------- */

/* Computed in 64 bits, checked by whether the result survives narrowing. */
#define NARROW_OPS(suffix, A, B, R, fault)                                                         \
    CHECKED_BINARY(k_add_##suffix, A, B, R, (R)((int64_t)x + y), (int64_t)x + y != v, fault)       \
    CHECKED_BINARY(k_sub_##suffix, A, B, R, (R)((int64_t)x - y), (int64_t)x - y != v, fault)       \
    CHECKED_BINARY(k_mul_##suffix, A, B, R, (R)((int64_t)x * y), (int64_t)x * y != v, fault)

/* 64-bit sums overflow when the sign of the result is wrong; products are checked in 128 bits. */
#define WIDE_OPS(suffix, A, B)                                                                     \
    CHECKED_BINARY(k_add_##suffix, A, B, int64_t,                                                  \
                   (int64_t)((uint64_t)(int64_t)x + (uint64_t)(int64_t)y),                         \
                   (((int64_t)x ^ v) & ((int64_t)y ^ v)) < 0, fault_int8_range)                    \
    CHECKED_BINARY(k_sub_##suffix, A, B, int64_t,                                                  \
                   (int64_t)((uint64_t)(int64_t)x - (uint64_t)(int64_t)y),                         \
                   (((int64_t)x ^ (int64_t)y) & ((int64_t)x ^ v)) < 0, fault_int8_range)           \
    CHECKED_BINARY(k_mul_##suffix, A, B, int64_t,                                                  \
                   (int64_t)((uint64_t)(int64_t)x * (uint64_t)(int64_t)y),                         \
                   (int128)x * y != v, fault_int8_range)

/* Division needs a branch a row anyway: by zero it fails, by -1 the least number overflows. */
#define DIVIDE_OPS(suffix, A, B, R, fault)                                                         \
    void k_div_##suffix(struct call *c)                                                            \
    {                                                                                              \
        FOR_ROWS(c, i) {                                                                           \
            A x = ARG(c, 0, A, i);                                                                 \
            B y = ARG(c, 1, B, i);                                                                 \
            R *v = (R *)c->out + i;                                                                \
            if (y == 0) {                                                                          \
                call_fail(c, i, &fault_division_by_zero);                                          \
            } else if (y == -1) { /* MIN / -1 traps */                                             \
                call_check(c, i, __builtin_sub_overflow(0, x, v) ? &(fault) : NULL);               \
            } else {                                                                               \
                *v = (R)((R)x / (R)y);                                                             \
            }                                                                                      \
        }                                                                                          \
    }

/* The sign is that of the dividend, as in C. */
#define MODULO(suffix, T)                                                                          \
    void k_mod_##suffix(struct call *c)                                                            \
    {                                                                                              \
        FOR_ROWS(c, i) {                                                                           \
            T x = ARG(c, 0, T, i);                                                                 \
            T y = ARG(c, 1, T, i);                                                                 \
            if (y == 0) {                                                                          \
                call_fail(c, i, &fault_division_by_zero);                                          \
            } else {                                                                               \
                ((T *)c->out)[i] = (T)(y == -1 ? 0 : x % y); /* MIN % -1 traps */                  \
            }                                                                                      \
        }                                                                                          \
    }

NARROW_OPS(int2, int16_t, int16_t, int16_t, fault_int2_range)
NARROW_OPS(int4, int32_t, int32_t, int32_t, fault_int4_range)
NARROW_OPS(int24, int16_t, int32_t, int32_t, fault_int4_range)
NARROW_OPS(int42, int32_t, int16_t, int32_t, fault_int4_range)
WIDE_OPS(int8, int64_t, int64_t)
WIDE_OPS(int28, int16_t, int64_t)
WIDE_OPS(int82, int64_t, int16_t)
WIDE_OPS(int48, int32_t, int64_t)
WIDE_OPS(int84, int64_t, int32_t)
DIVIDE_OPS(int2, int16_t, int16_t, int16_t, fault_int2_range)
DIVIDE_OPS(int4, int32_t, int32_t, int32_t, fault_int4_range)
DIVIDE_OPS(int24, int16_t, int32_t, int32_t, fault_int4_range)
DIVIDE_OPS(int42, int32_t, int16_t, int32_t, fault_int4_range)
DIVIDE_OPS(int8, int64_t, int64_t, int64_t, fault_int8_range)
DIVIDE_OPS(int28, int16_t, int64_t, int64_t, fault_int8_range)
DIVIDE_OPS(int82, int64_t, int16_t, int64_t, fault_int8_range)
DIVIDE_OPS(int48, int32_t, int64_t, int64_t, fault_int8_range)
DIVIDE_OPS(int84, int64_t, int32_t, int64_t, fault_int8_range)
MODULO(int2, int16_t)
MODULO(int4, int32_t)
MODULO(int8, int64_t)

/* -x and abs(x) overflow for the least number only. */
#define NEGATE(suffix, T, U, MIN, fault)                                                           \
    CHECKED_UNARY(k_neg_##suffix, T, T, (T)(0 - (U)x), x == (MIN), fault)                          \
    CHECKED_UNARY(k_abs_##suffix, T, T, x < 0 ? (T)(0 - (U)x) : x, x == (MIN), fault)

NEGATE(int2, int16_t, uint16_t, INT16_MIN, fault_int2_range)
NEGATE(int4, int32_t, uint32_t, INT32_MIN, fault_int4_range)
NEGATE(int8, int64_t, uint64_t, INT64_MIN, fault_int8_range)

/* Shifts by more than the width wrap, as on the processors PostgreSQL runs on. */
#define BIT_OPS(suffix, T, U)                                                                      \
    PLAIN_BINARY(k_and_##suffix, T, T, T, (T)(x & y))                                              \
    PLAIN_BINARY(k_or_##suffix, T, T, T, (T)(x | y))                                               \
    PLAIN_BINARY(k_xor_##suffix, T, T, T, (T)(x ^ y))                                              \
    PLAIN_BINARY(k_shl_##suffix, T, int32_t, T, (T)((U)x << (y & (int)(sizeof(T) * 8 - 1))))       \
    PLAIN_BINARY(k_shr_##suffix, T, int32_t, T, (T)(x >> (y & (int)(sizeof(T) * 8 - 1))))          \
    PLAIN_UNARY(k_not_##suffix, T, T, (T)~x)

BIT_OPS(int4, int32_t, uint32_t)
BIT_OPS(int8, int64_t, uint64_t)

/* ---- floats ---------------------------------------------------------------------------------- */

#define FINITE(v, max) (fabs((double)(v)) <= (max))
/* An infinite result of finite arguments. NaN is none. */
#define OVERFLOWED(max) (!FINITE(v, max) & (v == v) & FINITE(x, max) & FINITE(y, max))

/* Products and quotients can underflow too; sums cannot. */
#define FLOAT_OPS(suffix, A, B, R, max)                                                            \
    CHECKED_BINARY(k_add_##suffix, A, B, R, (R)x + (R)y, OVERFLOWED(max), fault_float_overflow)    \
    CHECKED_BINARY(k_sub_##suffix, A, B, R, (R)x - (R)y, OVERFLOWED(max), fault_float_overflow)    \
    void k_mul_##suffix(struct call *c)                                                            \
    {                                                                                              \
        int64_t bad = 0;                                                                           \
        BINARY_LOOP(c, A, B, R, v = (R)x * (R)y;                                                   \
                    bad |= OVERFLOWED(max) | ((v == 0) & (x != 0) & (y != 0)));                    \
        if (bad != 0) {                                                                            \
            FOR_ROWS(c, i) {                                                                       \
                const A x = ARG(c, 0, A, i);                                                       \
                const B y = ARG(c, 1, B, i);                                                       \
                const R v = ((const R *)c->out)[i];                                                \
                if (OVERFLOWED(max)) {                                                             \
                    call_fail(c, i, &fault_float_overflow);                                        \
                } else if (v == 0 && x != 0 && y != 0) {                                           \
                    call_fail(c, i, &fault_float_underflow);                                       \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    void k_div_##suffix(struct call *c)                                                            \
    {                                                                                              \
        FOR_ROWS(c, i) {                                                                           \
            R x = (R)ARG(c, 0, A, i);                                                              \
            R y = (R)ARG(c, 1, B, i);                                                              \
            R v = x / y;                                                                           \
            ((R *)c->out)[i] = v;                                                                  \
            if (y == 0 && x == x) {                                                                \
                call_fail(c, i, &fault_division_by_zero);                                          \
            } else if (!FINITE(v, max) && v == v && FINITE(x, max)) {                              \
                call_fail(c, i, &fault_float_overflow);                                            \
            } else if (v == 0 && x != 0 && FINITE(y, max)) {                                       \
                call_fail(c, i, &fault_float_underflow);                                           \
            }                                                                                      \
        }                                                                                          \
    }

FLOAT_OPS(float4, float, float, float, (double)FLT_MAX)
FLOAT_OPS(float8, double, double, double, DBL_MAX)
FLOAT_OPS(float48, float, double, double, DBL_MAX)
FLOAT_OPS(float84, double, float, double, DBL_MAX)
PLAIN_UNARY(k_neg_float4, float, float, -x)
PLAIN_UNARY(k_neg_float8, double, double, -x)
PLAIN_UNARY(k_abs_float4, float, float, fabsf(x))
PLAIN_UNARY(k_abs_float8, double, double, fabs(x))
PLAIN_UNARY(k_round_float8, double, double, rint(x))
PLAIN_UNARY(k_ceil_float8, double, double, ceil(x))
PLAIN_UNARY(k_floor_float8, double, double, floor(x))
PLAIN_UNARY(k_trunc_float8, double, double, trunc(x))
PLAIN_UNARY(k_sign_float8, double, double, x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0)
CHECKED_UNARY(k_sqrt_float8, double, double, sqrt(x), x < 0, fault_sqrt)

/* exp(-Infinity) is 0 without complaint. */
static const struct fault *exp_float8(double x, double *v)
{
    *v = exp(x);
    if (isinf(*v) && !isinf(x)) {
        return &fault_float_overflow;
    }
    return *v == 0 && !isinf(x) ? &fault_float_underflow : NULL;
}

/* log_of: log or log10. */
static const struct fault *ln_float8(double x, double *v, double (*log_of)(double))
{
    if (x == 0) {
        return &fault_ln_zero;
    }
    if (x < 0) {
        return &fault_ln_negative;
    }
    *v = log_of(x);
    return NULL;
}

/* C's pow() with PostgreSQL's errors in front: infinite arguments follow POSIX. */
static const struct fault *power_float8(double x, double y, double *v)
{
    if (x == 0 && y < 0) {
        return &fault_zero_power;
    }
    if (x < 0 && isfinite(y) && floor(y) != y) {
        return &fault_complex;
    }
    *v = pow(x, y);
    if (isfinite(x) && isfinite(y)) {
        if (isinf(*v)) {
            return &fault_float_overflow;
        }
        if (*v == 0 && x != 0) {
            return &fault_float_underflow;
        }
    }
    return NULL;
}

FAULTY_UNARY(k_exp_float8, double, double, exp_float8(*x, v))
FAULTY_UNARY(k_ln_float8, double, double, ln_float8(*x, v, log))
FAULTY_UNARY(k_log10_float8, double, double, ln_float8(*x, v, log10))
FAULTY_BINARY(k_power_float8, double, double, double, power_float8(*x, *y, v))

/* ---- numeric --------------------------------------------------------------------------------- */

typedef struct numeric num;

FAULTY_BINARY(k_add_numeric, num, num, num, num_add(x, y, v))
FAULTY_BINARY(k_sub_numeric, num, num, num, num_sub(x, y, v))
FAULTY_BINARY(k_mul_numeric, num, num, num, num_mul(x, y, v))
FAULTY_BINARY(k_div_numeric, num, num, num, num_div(x, y, v))
FAULTY_BINARY(k_mod_numeric, num, num, num, num_mod(x, y, v))
FAULTY_BINARY(k_power_numeric, num, num, num, num_power(x, y, v))
FAULTY_BINARY(k_round2_numeric, num, int32_t, num, num_round(x, *y, NUM_ROUND, v))
FAULTY_BINARY(k_trunc2_numeric, num, int32_t, num, num_round(x, *y, NUM_TRUNC, v))
FAULTY_UNARY(k_round_numeric, num, num, num_round(x, 0, NUM_ROUND, v))
FAULTY_UNARY(k_trunc_numeric, num, num, num_round(x, 0, NUM_TRUNC, v))
FAULTY_UNARY(k_ceil_numeric, num, num, num_round(x, 0, NUM_CEIL, v))
FAULTY_UNARY(k_floor_numeric, num, num, num_round(x, 0, NUM_FLOOR, v))
FAULTY_UNARY(k_sqrt_numeric, num, num, num_sqrt(x, v))
FAULTY_UNARY(k_exp_numeric, num, num, num_exp(x, v))
FAULTY_UNARY(k_ln_numeric, num, num, num_ln(x, v))
/* scale(numeric): digits behind the point. */
void k_scale_numeric(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_INT4);
    FOR_ROWS(c, i) {
        struct numeric x = ARG(c, 0, struct numeric, i);
        if (x.special == NUMERIC_FINITE) {
            ((int32_t *)c->out)[i] = x.scale;
        } else {
            call_null(c, i);
        }
    }
}

PLAIN_UNARY(k_neg_numeric, num, num, num_neg(&x))
PLAIN_UNARY(k_abs_numeric, num, num, num_abs(&x))
PLAIN_UNARY(k_sign_numeric, num, num,
            x.special == NUMERIC_NAN ? x : numeric_make(num_sign(&x), 0))

/* ---- polymorphic ----------------------------------------------------------------------------- */

/* Unary plus, and casts that change nothing but the kind. NULLs are the caller's: strict. */
void k_identity(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    size_t width = type_is_variable(c->out_kind) ? sizeof(struct slice) : type_width(c->out_kind);
    const uint8_t *from = c->args[0].values;
    uint8_t *to = c->out;
    FOR_ROWS(c, i) {
        memcpy(to + i * width, from + (i & c->args[0].mask) * width, width);
    }
}

/*
 * The greatest (sign 1) or least (-1) of the arguments that are not NULL. greatest(NULL, 1, 2) = 2;
 * NULL only when all are. Not strict.
 */
static void pick(struct call *c, int sign)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        struct datum best = {.null = true};
        for (uint32_t k = 0; k < c->args_len; k++) {
            struct datum d;
            vec_datum(&c->args[k], c->out_kind, i, &d);
            if (!d.null &&
                (best.null || datum_compare(c->out_kind, &d, &best) * sign > 0)) {
                best = d;
            }
        }
        call_datum(c, i, &best);
    }
}

KERNEL(k_greatest, 1, EXPR_ARGS_MAX, 0, pick(c, 1))
KERNEL(k_least, 1, EXPR_ARGS_MAX, 0, pick(c, -1))

/* A SQLSTATE is five digits or capital letters: anything else is "internal error". */
static void copy_sqlstate(struct slice from, char to[6])
{
    bool ok = from.len == 5;
    for (size_t k = 0; ok && k < 5; k++) {
        char ch = from.s[k];
        ok = (ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z');
    }
    memcpy(to, ok ? from.s : "XX000", 5);
    to[5] = '\0';
}

/*
 * raise_if(condition, sqlstate, message): an error on demand, else true. Made by the planner, for
 * instance for scalar subqueries: more than one row is 21000.
 */
void k_raise_if(struct call *c)
{
    ASSERT(c->args_len == 3 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_BOOL);
    FOR_ROWS(c, i) {
        struct slice state = ARG(c, 1, struct slice, i);
        struct slice message = ARG(c, 2, struct slice, i);
        if (ARG(c, 0, uint8_t, i)) {
            char sqlstate[6];
            copy_sqlstate(state, sqlstate);
            call_failf(c, i, sqlstate, "%.*s", (int)message.len, message.s);
        }
        ((uint8_t *)c->out)[i] = 1;
    }
}

/* numeric(numeric, typmod) */
void k_numeric_typmod(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_NUMERIC);
    FOR_ROWS(c, i) {
        struct numeric n = ARG(c, 0, struct numeric, i);
        err_t err = num_apply_typmod(ARG(c, 1, int32_t, i), &n);
        ((struct numeric *)c->out)[i] = n;
        if (err != ERR_OK) {
            call_fail_err(c, i, err);
        }
    }
}
