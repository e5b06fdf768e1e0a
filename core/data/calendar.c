/*
 * The proleptic Gregorian calendar, and text output of dates and times. Civil dates from day
 * counts: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
 *
 * Days are counted from 1970-01-01, years astronomically: the year before 1 is 0, printed as 1 BC.
 * All divisions of times round towards the past (floor_div), so the moments before 1970 need no
 * cases of their own. Output is that of DateStyle ISO and IntervalStyle postgres.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/datetime.h"

/*
 * Years begin in March, so that the leap day is the last of a year and the lengths of months follow
 * one formula; 400 years (an era) have 146,097 days.
 */
int64_t days_from_civil(int64_t year, int month, int day)
{
    ASSERT(month >= 1 && month <= 12);
    int64_t y = year - (month <= 2);
    int64_t era = floor_div(y, 400);
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return era * 146097 + day_of_era - 719468;
}

/*
 * The inverse. doe, yoe and doy are the day of the era, the year of the era and the day of the year
 * that begins in March.
 */
struct civil civil_from_days(int64_t days)
{
    int64_t z = days + 719468;
    int64_t era = floor_div(z, 146097);
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int month = (int)(mp < 10 ? mp + 3 : mp - 9);
    return (struct civil){.year = (int)(yoe + era * 400 + (month <= 2)),
                          .month = month,
                          .day = (int)(doy - (153 * mp + 2) / 5 + 1)};
}

/* Astronomical years: year 0 is leap, as are -4 and -400. */
int days_in_month(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    ASSERT(month >= 1 && month <= 12);
    return days[month - 1] + (month == 2 && leap);
}

/* 24:00:00 is a time of day in PostgreSQL. */
struct clock_time clock_from_micros(int64_t of_day)
{
    ASSERT(of_day >= 0 && of_day <= MICROS_PER_DAY);
    int64_t seconds = of_day / MICROS_PER_SEC;
    return (struct clock_time){.hour = (int)(seconds / 3600),
                               .minute = (int)(seconds / 60 % 60),
                               .second = (int)(seconds % 60),
                               .micros = (int)(of_day % MICROS_PER_SEC)};
}

/* ---- output ---------------------------------------------------------------------------------- */

/* With zeros to width; more digits than that are all printed. */
static void put_padded(struct buf *out, uint32_t v, int width)
{
    ASSERT(width >= 0 && width <= 10);
    char digits[10];
    int at = 10;
    while (v != 0 || width > 10 - at) {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    }
    buf_append(out, digits + at, (size_t)(10 - at));
}

/* Years before 1 are shown as years BC, without their sign: the caller adds the letters. */
static void put_civil(struct buf *out, struct civil c)
{
    put_padded(out, (uint32_t)(c.year > 0 ? c.year : 1 - c.year), 4);
    buf_append_byte(out, '-');
    put_padded(out, (uint32_t)c.month, 2);
    buf_append_byte(out, '-');
    put_padded(out, (uint32_t)c.day, 2);
}

/* ".5": no trailing zeros, nothing at all for 0. Up to six digits: micros is below 1,000,000. */
static void put_fraction(struct buf *out, uint32_t micros)
{
    ASSERT(micros < MICROS_PER_SEC);
    int width = 6;
    if (micros == 0) {
        return;
    }
    while (micros % 10 == 0) {
        micros /= 10;
        width--;
    }
    buf_append_byte(out, '.');
    put_padded(out, micros, width);
}

/* 13:04:05.6 */
void time_print(int64_t micros, struct buf *out)
{
    struct clock_time t = clock_from_micros(micros);
    put_padded(out, (uint32_t)t.hour, 2);
    buf_append_byte(out, ':');
    put_padded(out, (uint32_t)t.minute, 2);
    buf_append_byte(out, ':');
    put_padded(out, (uint32_t)t.second, 2);
    put_fraction(out, (uint32_t)t.micros);
}

/* 2024-02-29, 0044-03-15 BC */
void date_print(int64_t days, struct buf *out)
{
    if (days == DATE_INFINITY || days == DATE_NINFINITY) {
        buf_append_str(out, days > 0 ? "infinity" : "-infinity");
        return;
    }
    struct civil c = civil_from_days(days);
    put_civil(out, c);
    if (c.year <= 0) {
        buf_append_str(out, " BC");
    }
}

/*
 * between: what stands between date and time; zone: the suffix of a timestamptz, whose session zone
 * is UTC.
 */
static void print_timestamp(int64_t micros, bool with_zone, const char *between, const char *zone,
                            struct buf *out)
{
    if (micros == TS_INFINITY || micros == TS_NINFINITY) {
        buf_append_str(out, micros > 0 ? "infinity" : "-infinity");
        return;
    }
    int64_t days = floor_div(micros, MICROS_PER_DAY);
    struct civil c = civil_from_days(days);
    put_civil(out, c);
    buf_append_str(out, between);
    time_print(micros - days * MICROS_PER_DAY, out);
    if (with_zone) {
        buf_append_str(out, zone);
    }
    if (c.year <= 0) {
        buf_append_str(out, " BC");
    }
}

void timestamp_print(int64_t micros, bool with_zone, struct buf *out)
{
    print_timestamp(micros, with_zone, " ", "+00", out);
}

void timestamp_print_iso(int64_t micros, bool with_zone, struct buf *out)
{
    print_timestamp(micros, with_zone, "T", "+00:00", out);
}

/*
 * One "-1 years" part of an interval; after a negative part a positive one shows its sign. value 0
 * prints nothing: an interval shows only the fields it has.
 */
static void put_part(struct buf *out, int64_t value, const char *unit, bool *first, bool *negative)
{
    if (value == 0) {
        return;
    }
    buf_printf(out, "%s%s%lld %s%s", *first ? "" : " ", *negative && value > 0 ? "+" : "",
               (long long)value, unit, value != 1 ? "s" : "");
    *negative = value < 0;
    *first = false;
}

/* PostgreSQL's own style: 1 year 2 mons -3 days +04:05:06. Nothing but zero is 00:00:00. */
void interval_print(const struct interval *v, struct buf *out)
{
    bool first = true;
    bool negative = false;
    put_part(out, v->months / 12, "year", &first, &negative);
    put_part(out, v->months % 12, "mon", &first, &negative);
    put_part(out, v->days, "day", &first, &negative);
    if (!first && v->micros == 0) {
        return;
    }
    uint64_t micros = v->micros < 0 ? -(uint64_t)v->micros : (uint64_t)v->micros;
    uint64_t seconds = micros / MICROS_PER_SEC;
    buf_printf(out, "%s%s%02llu:%02u:%02u", first ? "" : " ",
               v->micros < 0 ? "-" : negative ? "+" : "", (unsigned long long)(seconds / 3600),
               (unsigned)(seconds / 60 % 60), (unsigned)(seconds % 60));
    put_fraction(out, (uint32_t)(micros % MICROS_PER_SEC));
}

/* ---- precision ------------------------------------------------------------------------------- */

/* Halves away from zero; at the ends of the range nothing is rounded rather than overflowing. */
int64_t micros_round(int64_t micros, int precision)
{
    static const int64_t units[] = {1000000, 100000, 10000, 1000, 100, 10, 1};
    if (precision < 0 || precision >= 6) {
        return micros;
    }
    int64_t unit = units[precision];
    int64_t half = unit / 2;
    if (micros > INT64_MAX - half || micros < INT64_MIN + half + 1) {
        return micros;
    }
    return micros >= 0 ? (micros + half) / unit * unit : -((-micros + half) / unit * unit);
}

/* PostgreSQL rounds halves away from its own epoch. */
int64_t timestamp_round(int64_t micros, int precision)
{
    if (micros == TS_INFINITY || micros == TS_NINFINITY) {
        return micros;
    }
    return micros_round(micros - PG_EPOCH_MICROS, precision) + PG_EPOCH_MICROS;
}
