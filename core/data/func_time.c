/*
 * Functions and operators of dates, times and intervals; to_char is in func_to_char.c.
 *
 * The arithmetic lives in datetime_arith.c and time_fields.c on single values; here it is applied
 * to rows. Infinite dates and timestamps go through most functions unchanged, as in PostgreSQL.
 * There is no session time zone: a timestamptz is shown in and taken apart as UTC.
 */
#include "core/data/datetime.h"
#include "core/data/kernel.h"
#include "core/data/numeric.h"
#include "core/data/time_fields.h"

#include <math.h>

typedef struct interval iv;

/* Of a timestamp. */
static bool is_infinite(int64_t ts)
{
    return ts == TS_INFINITY || ts == TS_NINFINITY;
}

static bool date_infinite(int64_t days)
{
    return days == DATE_INFINITY || days == DATE_NINFINITY;
}

/* ---- operators ------------------------------------------------------------------------------- */

static const struct fault fault_subtract_dates = {"22008", "cannot subtract infinite dates"};
static const struct fault fault_stride_months = {
    "0A000", "timestamps cannot be binned into intervals containing months or years"};
static const struct fault fault_stride = {"22008", "stride must be greater than zero"};

/* Days are added to the count of days: no calendar is needed. */
static const struct fault *date_plus(int64_t date, int64_t days, int32_t *out)
{
    if (date_infinite(date)) {
        *out = (int32_t)date;
        return NULL;
    }
    int64_t sum = date + days;
    if (sum < DATE_MIN || sum >= DATE_END) {
        return &fault_date_range;
    }
    *out = (int32_t)sum;
    return NULL;
}

/* An integer, not an interval: as PostgreSQL. */
static const struct fault *date_minus_date(int64_t a, int64_t b, int32_t *out)
{
    if (date_infinite(a) || date_infinite(b)) {
        return &fault_subtract_dates;
    }
    *out = (int32_t)(a - b);
    return NULL;
}

/* The result is a timestamp. */
static const struct fault *date_plus_interval(int64_t date, const iv *v, bool minus, int64_t *out)
{
    int64_t ts = 0;
    iv amount = *v;
    TRY_FAULT(date_to_timestamp(date, &ts));
    if (minus) {
        TRY_FAULT(iv_neg(v, &amount));
    }
    return timestamp_add(ts, &amount, out);
}

/* date + time is the timestamp of that moment. */
static const struct fault *date_plus_time(int64_t date, int64_t time, int64_t *out)
{
    iv amount = {.micros = time};
    return date_plus_interval(date, &amount, false, out);
}

/* ts + (-v), field by field: months are subtracted on the calendar. */
static const struct fault *timestamp_minus(int64_t ts, const iv *v, int64_t *out)
{
    iv amount;
    TRY_FAULT(iv_neg(v, &amount));
    return timestamp_add(ts, &amount, out);
}

/* Times of day wrap around midnight. */
static int64_t time_plus(int64_t time, int64_t micros)
{
    int64_t sum = time + micros % MICROS_PER_DAY;
    return sum - floor_div(sum, MICROS_PER_DAY) * MICROS_PER_DAY;
}

FAULTY_BINARY(k_date_add_int, int32_t, int32_t, int32_t, date_plus(*x, *y, v))
FAULTY_BINARY(k_int_add_date, int32_t, int32_t, int32_t, date_plus(*y, *x, v))
FAULTY_BINARY(k_date_sub_int, int32_t, int32_t, int32_t, date_plus(*x, -(int64_t)*y, v))
FAULTY_BINARY(k_date_sub_date, int32_t, int32_t, int32_t, date_minus_date(*x, *y, v))
FAULTY_BINARY(k_date_add_interval, int32_t, iv, int64_t, date_plus_interval(*x, y, false, v))
FAULTY_BINARY(k_interval_add_date, iv, int32_t, int64_t, date_plus_interval(*y, x, false, v))
FAULTY_BINARY(k_date_sub_interval, int32_t, iv, int64_t, date_plus_interval(*x, y, true, v))
FAULTY_BINARY(k_date_add_time, int32_t, int64_t, int64_t, date_plus_time(*x, *y, v))
FAULTY_BINARY(k_time_add_date, int64_t, int32_t, int64_t, date_plus_time(*y, *x, v))
FAULTY_BINARY(k_ts_add_interval, int64_t, iv, int64_t, timestamp_add(*x, y, v))
FAULTY_BINARY(k_interval_add_ts, iv, int64_t, int64_t, timestamp_add(*y, x, v))
FAULTY_BINARY(k_ts_sub_interval, int64_t, iv, int64_t, timestamp_minus(*x, y, v))
FAULTY_BINARY(k_ts_sub_ts, int64_t, int64_t, iv, timestamp_diff(*x, *y, v))
FAULTY_BINARY(k_age, int64_t, int64_t, iv, timestamp_age(*x, *y, v))
FAULTY_BINARY(k_add_interval, iv, iv, iv, iv_add(x, y, v))
FAULTY_BINARY(k_sub_interval, iv, iv, iv, iv_sub(x, y, v))
FAULTY_UNARY(k_neg_interval, iv, iv, iv_neg(x, v))
FAULTY_BINARY(k_interval_mul, iv, double, iv, iv_scale(x, *y, v))
FAULTY_BINARY(k_mul_interval, double, iv, iv, iv_scale(y, *x, v))
FAULTY_BINARY(k_interval_div, iv, double, iv, iv_divide(x, *y, v))
PLAIN_BINARY(k_time_add_interval, int64_t, iv, int64_t, time_plus(x, y.micros))
PLAIN_BINARY(k_interval_add_time, iv, int64_t, int64_t, time_plus(y, x.micros))
PLAIN_BINARY(k_time_sub_interval, int64_t, iv, int64_t, time_plus(x, -(y.micros % MICROS_PER_DAY)))
PLAIN_BINARY(k_time_sub_time, int64_t, int64_t, iv, ((iv){.micros = x - y}))
PLAIN_UNARY(k_isfinite_date, int32_t, uint8_t, !date_infinite(x))
PLAIN_UNARY(k_isfinite_ts, int64_t, uint8_t, !is_infinite(x))

/* ---- justify --------------------------------------------------------------------------------- */

/* 24 hours become a day. */
static const struct fault *justify_hours(const iv *x, iv *v)
{
    int64_t days = x->days + x->micros / MICROS_PER_DAY;
    if (days != (int32_t)days) {
        return &fault_interval_range;
    }
    *v = interval_justify_hours(*x);
    return NULL;
}

/* 30 days become a month. */
static const struct fault *justify_days(const iv *x, iv *v)
{
    int64_t months = (int64_t)x->months + x->days / 30;
    int64_t days = x->days % 30;
    if (months > 0 && days < 0) {
        days += 30;
        months--;
    } else if (months < 0 && days > 0) {
        days -= 30;
        months++;
    }
    if (months != (int32_t)months) {
        return &fault_interval_range;
    }
    *v = (iv){.months = (int32_t)months, .days = (int32_t)days, .micros = x->micros};
    return NULL;
}

/*
 * All fields of one sign, hours below 24 and days below 30. Sums are formed in 128 bits; months are
 * checked at the end, days cannot overflow any more.
 */
static const struct fault *justify_interval(const iv *x, iv *v)
{
    int128 days = (int128)x->days + x->micros / MICROS_PER_DAY;
    int64_t micros = x->micros % MICROS_PER_DAY;
    int128 months = x->months + days / 30;
    days %= 30;
    if (months > 0 && (days < 0 || (days == 0 && micros < 0))) {
        days += 30;
        months--;
    } else if (months < 0 && (days > 0 || (days == 0 && micros > 0))) {
        days -= 30;
        months++;
    }
    if (days > 0 && micros < 0) {
        micros += MICROS_PER_DAY;
        days--;
    } else if (days < 0 && micros > 0) {
        micros -= MICROS_PER_DAY;
        days++;
    }
    if (months != (int32_t)months) {
        return &fault_interval_range;
    }
    *v = (iv){.months = (int32_t)months, .days = (int32_t)days, .micros = micros};
    return NULL;
}

FAULTY_UNARY(k_justify_hours, iv, iv, justify_hours(x, v))
FAULTY_UNARY(k_justify_days, iv, iv, justify_days(x, v))
FAULTY_UNARY(k_justify_interval, iv, iv, justify_interval(x, v))

/* ---- making ---------------------------------------------------------------------------------- */

/* Negative years are BC; there is no year 0. */
void k_make_date(struct call *c)
{
    ASSERT(c->args_len == 3 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_DATE);
    FOR_ROWS(c, i) {
        int32_t year = ARG(c, 0, int32_t, i);
        int32_t month = ARG(c, 1, int32_t, i);
        int32_t day = ARG(c, 2, int32_t, i);
        int64_t y = year < 0 ? (int64_t)year + 1 : year;
        bool ok = year != 0 && month >= 1 && month <= 12 && day >= 1 &&
                  day <= days_in_month(y, month);
        if (!ok) {
            call_failf(c, i, "22008", "date field value out of range: %d-%02d-%02d", year, month,
                       day);
            continue;
        }
        int64_t days = days_from_civil(y, month, day);
        if (days < DATE_MIN || days >= DATE_END) {
            call_failf(c, i, "22008", "date out of range: %d-%02d-%02d", year, month, day);
            continue;
        }
        ((int32_t *)c->out)[i] = (int32_t)days;
    }
}

/* Seconds since 1970 as a double: infinities are timestamps too. */
void k_to_timestamp(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TIMESTAMPTZ);
    FOR_ROWS(c, i) {
        double seconds = ARG(c, 0, double, i);
        int64_t *out = (int64_t *)c->out + i;
        if (isnan(seconds)) {
            call_failf(c, i, "22008", "timestamp cannot be NaN");
        } else if (isinf(seconds)) {
            *out = seconds > 0 ? TS_INFINITY : TS_NINFINITY;
        } else {
            /* Rounded relative to PostgreSQL's epoch, as PostgreSQL does. */
            double micros = rint((seconds - PG_EPOCH_DAYS * 86400.0) * 1e6);
            if (!(micros > (double)TIMESTAMP_MIN - (double)PG_EPOCH_MICROS &&
                  micros < 0x1p63 - (double)PG_EPOCH_MICROS)) {
                call_failf(c, i, "22008", "timestamp out of range: \"%g\"", seconds);
                continue;
            }
            *out = (int64_t)micros + PG_EPOCH_MICROS;
        }
    }
}

/* timestamp(3): what the planner puts around values on their way into such a column. */
void k_timestamp_typmod(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TIMESTAMP || c->out_kind == TYPE_TIMESTAMPTZ);
    FOR_ROWS(c, i) {
        ((int64_t *)c->out)[i] =
            timestamp_round(ARG(c, 0, int64_t, i), ARG(c, 1, int32_t, i));
    }
}

void k_time_typmod(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TIME);
    FOR_ROWS(c, i) {
        ((int64_t *)c->out)[i] = micros_round(ARG(c, 0, int64_t, i), ARG(c, 1, int32_t, i));
    }
}

/* interval(3); the fields of the typmod (year to month) are the planner's business. */
void k_interval_typmod(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_INTERVAL);
    FOR_ROWS(c, i) {
        iv v = ARG(c, 0, iv, i);
        int32_t typmod = ARG(c, 1, int32_t, i);
        v.micros = micros_round(v.micros, typmod < 0 ? -1 : typmod & 0xffff);
        ((iv *)c->out)[i] = v;
    }
}

/* ---- extract, date_part ---------------------------------------------------------------------- */

/* known: a field, but not of this type. */
static void bad_field(struct call *c, uint32_t i, bool known, uint8_t kind)
{
    struct slice name = ARG(c, 0, struct slice, i);
    call_failf(c, i, known ? "0A000" : "22023", "unit \"%.*s\" not %s for type %s", (int)name.len,
               name.s, known ? "supported" : "recognized", type_kind_name(kind));
}

/* The date as a timestamp; false: the row failed. */
static bool date_arg(struct call *c, uint32_t i, int64_t *ts)
{
    const struct fault *fault = date_to_timestamp(ARG(c, 1, int32_t, i), ts);
    call_check(c, i, fault);
    return fault == NULL;
}

/*
 * Of a date or timestamp; kind tells which fields there are. false: NULL, or the row failed. Fields
 * of infinite values that do not grow are NULL.
 */
static bool extract_point(struct call *c, uint32_t i, uint8_t kind, enum time_field f, int64_t v,
                          struct numeric *out)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    bool date = kind == TYPE_DATE;
    if (f != FIELD_UNKNOWN && (date ? date_infinite(v) : is_infinite(v)) &&
        (!date || time_field_applies(f, kind))) {
        if (!extract_infinite(f, v > 0, out)) {
            call_null(c, i);
            return false;
        }
        return true;
    }
    if (f == FIELD_UNKNOWN || !time_field_applies(f, kind)) {
        bad_field(c, i, f != FIELD_UNKNOWN, kind);
        return false;
    }
    if (date) {
        extract_date(f, v, out);
    } else {
        extract_timestamp(f, v, out);
    }
    return true;
}

/*
 * false: NULL, or the row failed. The planner passes the field's name as text, as the parser found
 * it.
 */
static bool extract_row(struct call *c, uint32_t i, struct numeric *out)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    struct slice name = ARG(c, 0, struct slice, i);
    enum time_field f = time_field_of(name.s, name.len);
    uint8_t kind = c->arg_kinds[1];
    int64_t v = 0;
    switch (kind) {
    case TYPE_DATE:
        if (c->out_kind == TYPE_NUMERIC) {
            return extract_point(c, i, kind, f, ARG(c, 1, int32_t, i), out);
        }
        /* date_part of a date is that of the timestamp, with its fields. */
        return date_arg(c, i, &v) && extract_point(c, i, TYPE_TIMESTAMP, f, v, out);
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        return extract_point(c, i, kind, f, ARG(c, 1, int64_t, i), out);
    default:
        if (f == FIELD_UNKNOWN || !time_field_applies(f, kind)) {
            bad_field(c, i, f != FIELD_UNKNOWN, kind);
            return false;
        }
        if (kind == TYPE_TIME) {
            extract_clock(f, ARG(c, 1, int64_t, i), out);
        } else {
            extract_interval(f, &ARG(c, 1, iv, i), out);
        }
        return true;
    }
}

/* A numeric, since PostgreSQL 14. */
void k_extract(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_NUMERIC);
    FOR_ROWS(c, i) {
        extract_row(c, i, (struct numeric *)c->out + i);
    }
}

/*
 * date_part computes in binary, which rounds at other places than one division of the exact value:
 * seconds and the parts of an interval are summed, the epoch is first made a double. n is what
 * extract would give.
 */
static double binary_part(const struct call *c, uint32_t i, enum time_field f,
                          const struct numeric *n)
{
    if (n->special == NUMERIC_FINITE && f == FIELD_SECOND) {
        int64_t micros = (int64_t)n->lo;
        return (double)(micros / MICROS_PER_SEC) + (double)(micros % MICROS_PER_SEC) / 1e6;
    }
    if (n->special == NUMERIC_FINITE && f == FIELD_EPOCH) {
        if (c->arg_kinds[1] != TYPE_INTERVAL) {
            return (double)(int64_t)n->lo / 1e6;
        }
        const iv *v = &ARG(c, 1, iv, i);
        double seconds = (double)v->micros / 1e6;
        seconds += 365.25 * 86400 * (v->months / 12);
        seconds += 30.0 * 86400 * (v->months % 12);
        return seconds + 86400.0 * v->days;
    }
    return num_to_double(n);
}

/* The older form of extract: a double. */
void k_date_part(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_FLOAT8);
    FOR_ROWS(c, i) {
        struct slice name = ARG(c, 0, struct slice, i);
        struct numeric n = {0};
        if (extract_row(c, i, &n)) {
            ((double *)c->out)[i] = binary_part(c, i, time_field_of(name.s, name.len), &n);
        }
    }
}

/* ---- date_trunc, date_bin -------------------------------------------------------------------- */

/* PostgreSQL knows epoch, dow and their like as fields but not as units. */
static bool is_unit(enum time_field f)
{
    return f != FIELD_UNKNOWN && (f <= FIELD_MILLENNIUM || f >= FIELD_TIMEZONE);
}

/* date_trunc('week', ts): the Monday before, at midnight. */
void k_date_trunc(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TIMESTAMP || c->out_kind == TYPE_TIMESTAMPTZ);
    FOR_ROWS(c, i) {
        struct slice name = ARG(c, 0, struct slice, i);
        int64_t ts = ARG(c, 1, int64_t, i);
        int64_t *out = (int64_t *)c->out + i;
        enum time_field f = time_field_of(name.s, name.len);
        *out = ts;
        if (is_infinite(ts)) {
            continue;
        }
        if (!is_unit(f) || f > FIELD_MILLENNIUM) {
            bad_field(c, i, is_unit(f), c->arg_kinds[1]);
        } else {
            call_check(c, i, truncate_timestamp(f, ts, out));
        }
    }
}

/* An interval has no weeks. */
void k_date_trunc_interval(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_INTERVAL);
    FOR_ROWS(c, i) {
        struct slice name = ARG(c, 0, struct slice, i);
        enum time_field f = time_field_of(name.s, name.len);
        if (!is_unit(f) || f > FIELD_MILLENNIUM || f == FIELD_WEEK) {
            bad_field(c, i, is_unit(f), TYPE_INTERVAL);
        } else {
            ((iv *)c->out)[i] = truncate_interval(f, &ARG(c, 1, iv, i));
        }
    }
}

/*
 * The start of the bin that holds ts, bins being strides from origin in both directions. Strides of
 * months have no fixed length: 0A000. The sum is formed in 128 bits.
 */
static const struct fault *bin(const iv *stride, int64_t ts, int64_t origin, int64_t *out)
{
    *out = ts;
    if (is_infinite(ts)) {
        return NULL;
    }
    if (is_infinite(origin)) {
        return &fault_timestamp_range;
    }
    if (stride->months != 0) {
        return &fault_stride_months;
    }
    int128 step = (int128)stride->days * MICROS_PER_DAY + stride->micros;
    if (step <= 0) {
        return &fault_stride;
    }
    int128 diff = (int128)ts - origin;
    int128 rest = diff % step;
    int128 start = origin + diff - rest - (rest < 0 ? step : 0);
    if (start < TIMESTAMP_MIN) {
        return &fault_timestamp_range;
    }
    *out = (int64_t)start;
    return NULL;
}

/* date_bin('15 min', ts, origin) */
void k_date_bin(struct call *c)
{
    ASSERT(c->args_len == 3 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TIMESTAMP || c->out_kind == TYPE_TIMESTAMPTZ);
    FOR_ROWS(c, i) {
        call_check(c, i, bin(&ARG(c, 0, iv, i), ARG(c, 1, int64_t, i), ARG(c, 2, int64_t, i),
                             (int64_t *)c->out + i));
    }
}
