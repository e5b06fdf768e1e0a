/*
 * Dates, times and intervals: the proleptic Gregorian calendar, text input and output, arithmetic.
 * Timestamps are microseconds since 1970-01-01, UTC. Module-private.
 */
#ifndef TAILRACE_CORE_DATA_DATETIME_H
#define TAILRACE_CORE_DATA_DATETIME_H

#include "core/data/data_internal.h"

#define TS_INFINITY INT64_MAX
#define TS_NINFINITY INT64_MIN
#define DATE_INFINITY INT32_MAX
#define DATE_NINFINITY INT32_MIN
/* Days and microseconds from 1970-01-01 to PostgreSQL's epoch, 2000-01-01. */
#define PG_EPOCH_DAYS 10957
#define PG_EPOCH_MICROS (PG_EPOCH_DAYS * MICROS_PER_DAY)

/*
 * A day of the proleptic Gregorian calendar: the one that is extended to before 1582, as PostgreSQL
 * does.
 */
struct civil {
    int year;  /* astronomical: 0 is 1 BC */
    int month; /* 1..12 */
    int day;   /* 1..31 */
};

/* A time of day; hour may be 24 when the rest is 0. */
struct clock_time {
    int hour;
    int minute;
    int second;
    int micros;
};

/* Days since 1970-01-01. month must be 1..12; day may be any, it is only added. */
int64_t days_from_civil(int64_t year, int month, int day);
struct civil civil_from_days(int64_t days);
/* 28 to 31. */
int days_in_month(int64_t year, int month);
/* A finite timestamp taken apart; *days: since 1970. */
struct clock_time clock_from_micros(int64_t of_day);
/*
 * Rounds towards minus infinity, where C rounds towards 0: the microseconds before 1970 belong to
 * the day before.
 */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    ASSERT(b > 0);
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

/* Text input; errors carry SQLSTATEs 22007, 22008, 22009. */
err_t date_parse(const char *s, size_t len, int64_t *out);
err_t time_parse(const char *s, size_t len, int64_t *out);
err_t timestamp_parse(const char *s, size_t len, bool with_zone, int64_t *out);
err_t interval_parse(const char *s, size_t len, struct interval *out);

/* Text output. Each appends; infinities by name, years before 1 with BC. */
void date_print(int64_t days, struct buf *out);
void time_print(int64_t micros, struct buf *out);
void timestamp_print(int64_t micros, bool with_zone, struct buf *out);
void interval_print(const struct interval *v, struct buf *out);
/* ISO 8601 with T, as to_jsonb writes it. */
void timestamp_print_iso(int64_t micros, bool with_zone, struct buf *out);

/* Rounds to timestamp(precision), 0..6; -1 leaves it. */
int64_t timestamp_round(int64_t micros, int precision);
/* To seconds with that many digits. */
int64_t micros_round(int64_t micros, int precision);

/* ---- arithmetic ------------------------------------------------------------------------------ */

/* NULL or fault_interval_range, 22008; out may be one of the arguments. */
const struct fault *iv_add(const struct interval *a, const struct interval *b,
                                 struct interval *out);
const struct fault *iv_sub(const struct interval *a, const struct interval *b,
                                 struct interval *out);
const struct fault *iv_neg(const struct interval *a, struct interval *out);
const struct fault *iv_scale(const struct interval *a, double by, struct interval *out);
const struct fault *iv_divide(const struct interval *a, double by, struct interval *out);
/* Faults: the result, or a step on the way, is out of the range of timestamps. */
const struct fault *timestamp_add(int64_t ts, const struct interval *v, int64_t *out);
const struct fault *timestamp_diff(int64_t a, int64_t b, struct interval *out);
const struct fault *timestamp_age(int64_t a, int64_t b, struct interval *out);
const struct fault *date_to_timestamp(int64_t days, int64_t *out);
int64_t timestamp_to_date(int64_t ts);
/* Whole days of the time go to the days; both get the same sign. */
struct interval interval_justify_hours(struct interval v);

#endif
