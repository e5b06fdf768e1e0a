/*
 * Aggregates that can be put together from parts: of a run of rows from those of its halves. Window
 * frames are answered so, from a tree that keeps one for each subtree. Unlike the accumulators of
 * reduce nothing is ever taken back, so min and max cost no more than a sum; what is kept is a
 * function of the rows of the run, in their order.
 *
 * All sums are exact, those of floats too: a row's value is a function of its frame's rows alone,
 * however a tree divides the frame, and so is taken back as it was put out. Floats are rounded in
 * the result only.
 */
#ifndef TAILRACE_CORE_ENGINE_WACC_H
#define TAILRACE_CORE_ENGINE_WACC_H

#include "core/engine/plan.h"

enum wacc_kind {
    WACC_COUNT = 1,
    WACC_INT,
    WACC_NUMERIC,
    WACC_FLOAT,
    WACC_SQUARE, /* variances of floats */
    WACC_INTERVAL,
    WACC_BEST,   /* min, max */
    WACC_BOOL,
    WACC_BITS,
};

/* A numeric sum as an integer of 10^-38: 128 bits of coefficient, 127 of shift, 63 of copies. */
enum { WACC_WORDS = 5 };

/*
 * Sums of doubles as an integer of 2^-1074, of their squares as one of 2^-2148: any of them is one,
 * 2098 and 4196 bits long, and 63 bits of copies and a sign are added to that.
 */
enum { WACC_SUM_WORDS = 34, WACC_SQUARE_WORDS = 68 };

/*
 * The accumulator of one run. Only wacc_size bytes of it exist in a tree; the members of the union
 * by kind.
 */
struct wacc {
    int64_t n; /* values, not NULL and past the filter, with their copies */
    int64_t specials; /* SQUARE: not finite; BOOL: true; FLOAT, NUMERIC: NaN */
    union {
        __int128 sum;
        struct {
            uint64_t words[WACC_WORDS]; /* two's complement, least first */
            int64_t plus_inf, minus_inf;
            int64_t scale; /* the largest */
        } numeric;
        struct {
            int64_t plus_inf, minus_inf; /* FLOAT */
            uint64_t sum[WACC_SUM_WORDS]; /* two's complement, least first */
            uint64_t squares[WACC_SQUARE_WORDS]; /* SQUARE */
        } fixed;
        struct {
            __int128 months, days, micros;
        } interval;
        const struct datum *best; /* in a node of the tree; n > 0 */
        struct {
            uint64_t all, any, odd;
        } bits;
    };
};

/* One aggregate of a window, resolved: fixed when its operator is made. */
struct wacc_spec {
    uint8_t kind;   /* enum wacc_kind */
    uint8_t func;   /* enum agg_func */
    uint8_t arg;    /* enum type_kind; 0: count(*) */
    uint8_t result; /* enum type_kind */
    uint32_t col;   /* of the argument */
    bool has_filter;
    uint32_t filter;
};

/* Which aggregates can be kept so; false: not this one. plan_validate has checked the rest. */
bool wacc_spec_of(const struct plan_agg *agg, uint8_t arg_kind, struct wacc_spec *out);
uint32_t wacc_size(const struct wacc_spec *spec);
/* No rows. */
void wacc_clear(const struct wacc_spec *spec, struct wacc *acc);
/* Appends copies of one value; NULL: none. The value must outlive the accumulator. */
void wacc_add(const struct wacc_spec *spec, struct wacc *acc, const struct datum *value,
              int64_t copies);
/* Appends the run of another. */
void wacc_merge(const struct wacc_spec *spec, struct wacc *acc, const struct wacc *other);
/* False when the value does not fit the type: *sqlstate and *message say so. */
bool wacc_result(const struct wacc_spec *spec, const struct wacc *acc, struct datum *out,
                 const char **sqlstate, const char **message);

#endif
