/*
 * Loops for kernels, and the declaration of every kernel of the catalogue. Module-private.
 *
 * The dense loops (no selection) have no branch in their body, read contiguous arrays and never
 * alias their result, so that the compiler turns them into vector code. Checks accumulate in a
 * flag; only when it is set a second, slow pass finds the rows. For example
 *
 *   CHECKED_BINARY(k_add_int4, int32_t, int32_t, int32_t, (int32_t)((int64_t)x + y),
 *                  (int64_t)x + y != v, fault_int4_range)
 *
 * adds two columns in one loop and looks for rows that overflow only if any did. Which macro for
 * what:
 *
 *   PLAIN_UNARY, PLAIN_BINARY       cannot fail
 *   CHECKED_UNARY, CHECKED_BINARY   fail by a condition on x, y and the result
 *   FAULTY_UNARY, FAULTY_BINARY     a function on single values that returns a fault
 *   KERNEL                          a loop that several kernels share, with parameters
 *
 * Names in capitals with a trailing underscore are the macros' own.
 */
#ifndef TAILRACE_CORE_DATA_KERNEL_H
#define TAILRACE_CORE_DATA_KERNEL_H

#include "core/data/vec.h"

#define F(id, kernel, name, flags, result, ...) void kernel(struct call *c);
#include "core/data/func_list.inc"
#undef F

/*
 * body: computes v (R) from x (A); a[], r[] are the columns. Two loops: one for any selection or a
 * constant, and a dense one that the compiler can vectorise.
 */
#define UNARY_LOOP(c, A, R, body)                                                                  \
    do {                                                                                           \
        const A *restrict a_ = (c)->args[0].values;                                                \
        R *restrict r_ = (c)->out;                                                                 \
        uint32_t am_ = (c)->args[0].mask;                                                          \
        if ((c)->sel != NULL || am_ == 0) {                                                        \
            FOR_ROWS(c, i_) {                                                                      \
                const A x = a_[i_ & am_];                                                          \
                R v;                                                                               \
                body;                                                                              \
                r_[i_] = v;                                                                        \
            }                                                                                      \
        } else {                                                                                   \
            for (uint32_t i_ = 0; i_ < (c)->n; i_++) {                                             \
                const A x = a_[i_];                                                                \
                R v;                                                                               \
                body;                                                                              \
                r_[i_] = v;                                                                        \
            }                                                                                      \
        }                                                                                          \
    } while (0)

#define BINARY_DENSE_(n, x_def, y_def, R, body)                                                    \
    for (uint32_t i_ = 0; i_ < (n); i_++) {                                                        \
        x_def;                                                                                     \
        y_def;                                                                                     \
        R v;                                                                                       \
        body;                                                                                      \
        r_[i_] = v;                                                                                \
    }

/*
 * body: computes v (R) from x (A) and y (B). The constant sides are hoisted out of the dense loops:
 * column + 1 reads one array.
 */
#define BINARY_LOOP(c, A, B, R, body)                                                              \
    do {                                                                                           \
        const A *restrict a_ = (c)->args[0].values;                                                \
        const B *restrict b_ = (c)->args[1].values;                                                \
        R *restrict r_ = (c)->out;                                                                 \
        uint32_t am_ = (c)->args[0].mask;                                                          \
        uint32_t bm_ = (c)->args[1].mask;                                                          \
        if ((c)->sel != NULL || (am_ | bm_) == 0) {                                                \
            FOR_ROWS(c, i_) {                                                                      \
                const A x = a_[i_ & am_];                                                          \
                const B y = b_[i_ & bm_];                                                          \
                R v;                                                                               \
                body;                                                                              \
                r_[i_] = v;                                                                        \
            }                                                                                      \
        } else if (am_ == 0) {                                                                     \
            const A x = a_[0];                                                                     \
            BINARY_DENSE_((c)->n, , const B y = b_[i_], R, body)                                   \
        } else if (bm_ == 0) {                                                                     \
            const B y = b_[0];                                                                     \
            BINARY_DENSE_((c)->n, const A x = a_[i_], , R, body)                                   \
        } else {                                                                                   \
            BINARY_DENSE_((c)->n, const A x = a_[i_], const B y = b_[i_], R, body)                 \
        }                                                                                          \
    } while (0)

/*
 * v = calc(x, y); rows where bad(x, y, v) holds fail. bad must be computable without branches from
 * x, y and v: it runs for every row. The second pass only happens when some row failed.
 */
#define CHECKED_BINARY(name, A, B, R, calc, bad, fault)                                            \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        int64_t bad_ = 0;                                                                          \
        BINARY_LOOP(c, A, B, R, v = (calc); bad_ |= (bad));                                        \
        if (__builtin_expect(bad_ != 0, 0)) {                                                      \
            FOR_ROWS(c, i) {                                                                       \
                const A x = ARG(c, 0, A, i);                                                       \
                const B y = ARG(c, 1, B, i);                                                       \
                const R v = ((const R *)c->out)[i];                                                \
                if (bad) {                                                                         \
                    call_fail(c, i, &(fault));                                                     \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

/* As CHECKED_BINARY. bad may ignore v. */
#define CHECKED_UNARY(name, A, R, calc, bad, fault)                                                \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        int64_t bad_ = 0;                                                                          \
        UNARY_LOOP(c, A, R, v = (calc); bad_ |= (bad));                                            \
        if (__builtin_expect(bad_ != 0, 0)) {                                                      \
            FOR_ROWS(c, i) {                                                                       \
                const A x = ARG(c, 0, A, i);                                                       \
                const R v = ((const R *)c->out)[i];                                                \
                (void)v;                                                                           \
                if (bad) {                                                                         \
                    call_fail(c, i, &(fault));                                                     \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

/* A kernel that is a function of the call with parameters. kind: of the result; 0: any. */
#define KERNEL(name, args_min, args_max, kind, body)                                               \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        ASSERT(c->args_len >= (args_min) && c->args_len <= (args_max) && c->n <= VEC_ROWS);        \
        ASSERT((kind) == 0 || c->out_kind == (kind));                                              \
        body;                                                                                      \
    }

/* For what cannot fail. */
#define PLAIN_UNARY(name, A, R, calc)                                                              \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        UNARY_LOOP(c, A, R, v = (calc));                                                           \
    }

#define PLAIN_BINARY(name, A, B, R, calc)                                                          \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        BINARY_LOOP(c, A, B, R, v = (calc));                                                       \
    }

/*
 * call: an expression of type const struct fault * that fills *v from *x (and *y). For functions on
 * single values that return a fault: numeric, dates, intervals.
 */
#define FAULTY_UNARY(name, A, R, expression)                                                       \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        FOR_ROWS(c, i) {                                                                           \
            const A *x = &ARG(c, 0, A, i);                                                         \
            R *v = (R *)c->out + i;                                                                \
            call_check(c, i, (expression));                                                        \
        }                                                                                          \
    }

#define FAULTY_BINARY(name, A, B, R, expression)                                                   \
    void name(struct call *c)                                                                      \
    {                                                                                              \
        FOR_ROWS(c, i) {                                                                           \
            const A *x = &ARG(c, 0, A, i);                                                         \
            const B *y = &ARG(c, 1, B, i);                                                         \
            R *v = (R *)c->out + i;                                                                \
            call_check(c, i, (expression));                                                        \
        }                                                                                          \
    }

#endif
