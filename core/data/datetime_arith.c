/*
 * Arithmetic of timestamps and intervals. Months are added on the calendar (the day is cut to the
 * length of the month), then days, then microseconds, as PostgreSQL does.
 *
 *   '2024-01-31' + '1 mon 1 day'             2024-03-01
 *   '2024-03-31' - '1 mon'                   2024-02-29
 *   age('2024-03-01', '2024-01-31')          1 mon 1 day
 *   '2024-03-01' - '2024-01-31' (timestamp)  30 days
 *
 * Every result is checked against the range of its type; intermediate sums are formed in 128 bits
 * or checked step by step. Functions here keep no state; any thread.
 */
#include "core/data/datetime.h"

#include <math.h>

static const struct fault fault_subtract_infinite = {"22008",
                                                     "cannot subtract infinite timestamps"};
static const struct fault fault_date_for_timestamp = {"22008", "date out of range for timestamp"};

/* Infinity plus anything finite stays infinity. */
static bool is_infinite(int64_t ts)
{
    return ts == TS_INFINITY || ts == TS_NINFINITY;
}

/* Field by field: fields are never carried into each other. */
const struct fault *iv_add(const struct interval *a, const struct interval *b,
                           struct interval *out)
{
    bool over = __builtin_add_overflow(a->months, b->months, &out->months);
    over |= __builtin_add_overflow(a->days, b->days, &out->days);
    over |= __builtin_add_overflow(a->micros, b->micros, &out->micros);
    return over ? &fault_interval_range : NULL;
}

const struct fault *iv_sub(const struct interval *a, const struct interval *b,
                           struct interval *out)
{
    bool over = __builtin_sub_overflow(a->months, b->months, &out->months);
    over |= __builtin_sub_overflow(a->days, b->days, &out->days);
    over |= __builtin_sub_overflow(a->micros, b->micros, &out->micros);
    return over ? &fault_interval_range : NULL;
}

const struct fault *iv_neg(const struct interval *a, struct interval *out)
{
    struct interval zero = {0};
    return iv_sub(&zero, a, out);
}

/*
 * Rounds to microseconds a count of seconds (or days) that suffered from binary fractions.
 * PostgreSQL's TSROUND.
 */
static double round_micro(double v)
{
    return rint(v * 1e6) / 1e6;
}

/* False for NaN. */
static bool fits_int32(double v)
{
    return v >= (double)INT32_MIN && v <= (double)INT32_MAX;
}

/*
 * The parts of a scaled interval: whole months and days, remainders cascading down. Follows
 * interval_mul of PostgreSQL step by step, as each step rounds: 1.5 months are 1 month and 15 days,
 * 1.5 days are 1 day and 12 hours.
 */
static const struct fault *cascade(double months, double days, double micros, struct interval *out)
{
    if (!fits_int32(months) || !fits_int32(days)) {
        return &fault_interval_range;
    }
    int32_t whole_months = (int32_t)months;
    int32_t whole_days = (int32_t)days;
    double month_days = round_micro((months - whole_months) * 30);
    double seconds =
        round_micro((days - whole_days + month_days - (double)(int)month_days) * 86400);
    int64_t day_sum = whole_days;
    if (fabs(seconds) >= 86400) {
        day_sum += (int)(seconds / 86400);
        seconds -= (int)(seconds / 86400) * 86400.0;
    }
    day_sum += (int32_t)month_days;
    double time = rint(micros + seconds * 1e6);
    if (day_sum != (int32_t)day_sum || !(time >= -0x1p63 && time < 0x1p63)) {
        return &fault_interval_range;
    }
    *out = (struct interval){
        .months = whole_months, .days = (int32_t)day_sum, .micros = (int64_t)time};
    return NULL;
}

/* Also by a negative or fractional factor. */
const struct fault *iv_scale(const struct interval *a, double by, struct interval *out)
{
    return cascade(a->months * by, a->days * by, (double)a->micros * by, out);
}

const struct fault *iv_divide(const struct interval *a, double by, struct interval *out)
{
    if (by == 0) {
        return &fault_division_by_zero;
    }
    return cascade(a->months / by, a->days / by, (double)a->micros / by, out);
}

/* ---- timestamps ------------------------------------------------------------------------------ */

/* Of finite timestamps: the last int64 is infinity. */
static bool in_range(int128 ts)
{
    return ts >= TIMESTAMP_MIN && ts < INT64_MAX;
}

/*
 * '2024-01-31' + '1 mon' = '2024-02-29': the day is cut to the month. Each of the three steps is
 * checked: PostgreSQL fails where an intermediate date is out of range.
 */
const struct fault *timestamp_add(int64_t ts, const struct interval *v, int64_t *out)
{
    if (is_infinite(ts)) {
        *out = ts;
        return NULL;
    }
    int64_t days = floor_div(ts, MICROS_PER_DAY);
    int64_t of_day = ts - days * MICROS_PER_DAY;
    if (v->months != 0) {
        struct civil c = civil_from_days(days);
        int64_t month = (int64_t)c.month - 1 + v->months;
        int64_t year = c.year + floor_div(month, 12);
        int in_year = (int)(month - floor_div(month, 12) * 12) + 1;
        int last = days_in_month(year, in_year);
        days = days_from_civil(year, in_year, c.day < last ? c.day : last);
    }
    int128 shifted = (int128)days * MICROS_PER_DAY + of_day;
    if (!in_range(shifted)) {
        return &fault_timestamp_range;
    }
    shifted += (int128)v->days * MICROS_PER_DAY;
    if (!in_range(shifted)) {
        return &fault_timestamp_range;
    }
    shifted += v->micros;
    if (!in_range(shifted)) {
        return &fault_timestamp_range;
    }
    *out = (int64_t)shifted;
    return NULL;
}

/* 36:00:00 becomes 1 day 12:00:00; both fields get the same sign. */
struct interval interval_justify_hours(struct interval v)
{
    int64_t whole = v.micros / MICROS_PER_DAY;
    v.micros -= whole * MICROS_PER_DAY;
    v.days = (int32_t)(v.days + whole);
    if (v.days > 0 && v.micros < 0) {
        v.micros += MICROS_PER_DAY;
        v.days--;
    } else if (v.days < 0 && v.micros > 0) {
        v.micros -= MICROS_PER_DAY;
        v.days++;
    }
    return v;
}

/* Days and time; never months, as their length is not known any more. */
const struct fault *timestamp_diff(int64_t a, int64_t b, struct interval *out)
{
    if (is_infinite(a) || is_infinite(b)) {
        return &fault_subtract_infinite;
    }
    int64_t micros;
    if (__builtin_sub_overflow(a, b, &micros)) {
        return &fault_interval_range;
    }
    *out = interval_justify_hours((struct interval){.micros = micros});
    return NULL;
}

/*
 * Borrows for a negative field from the next higher one. At most a few times: fields differ by less
 * than two units.
 */
static void borrow(int64_t *field, int64_t *higher, int64_t unit)
{
    ASSERT(unit > 0);
    while (*field < 0) {
        *field += unit;
        (*higher)--;
    }
}

/* As a human counts: full years and months, then days of the earlier date's month, then time. */
const struct fault *timestamp_age(int64_t a, int64_t b, struct interval *out)
{
    if (is_infinite(a) || is_infinite(b)) {
        return &fault_timestamp_range;
    }
    bool negative = a < b;
    int64_t later = negative ? b : a;
    int64_t earlier = negative ? a : b;
    int64_t later_days = floor_div(later, MICROS_PER_DAY);
    int64_t earlier_days = floor_div(earlier, MICROS_PER_DAY);
    struct civil x = civil_from_days(later_days);
    struct civil y = civil_from_days(earlier_days);
    int64_t micros =
        later - later_days * MICROS_PER_DAY - (earlier - earlier_days * MICROS_PER_DAY);
    int64_t days = x.day - y.day;
    int64_t months = ((int64_t)x.year - y.year) * 12 + x.month - y.month;
    borrow(&micros, &days, MICROS_PER_DAY);
    borrow(&days, &months, days_in_month(y.year, y.month));
    ASSERT(months >= 0 && months <= INT32_MAX);
    int sign = negative ? -1 : 1;
    *out = (struct interval){.months = (int32_t)months * sign,
                             .days = (int32_t)days * sign,
                             .micros = micros * sign};
    return NULL;
}

/* Dates go further than timestamps: the later ones fail. */
const struct fault *date_to_timestamp(int64_t days, int64_t *out)
{
    if (days == DATE_INFINITY || days == DATE_NINFINITY) {
        *out = days > 0 ? TS_INFINITY : TS_NINFINITY;
        return NULL;
    }
    int128 micros = (int128)days * MICROS_PER_DAY;
    if (!in_range(micros)) {
        return &fault_date_for_timestamp;
    }
    *out = (int64_t)micros;
    return NULL;
}

/* Rounds towards the past, before 1970 too. */
int64_t timestamp_to_date(int64_t ts)
{
    if (is_infinite(ts)) {
        return ts > 0 ? DATE_INFINITY : DATE_NINFINITY;
    }
    return floor_div(ts, MICROS_PER_DAY);
}
