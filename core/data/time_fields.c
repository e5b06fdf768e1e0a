/*
 * Fields of dates, times and intervals, with PostgreSQL's result scales: seconds have six digits,
 * milliseconds three, everything else none.
 *
 * PostgreSQL counts years without a year 0: 1 BC is shown as -1, and decades, centuries and
 * millennia count accordingly on both sides. Inside, years are astronomical (0 is 1 BC), so each of
 * those has a formula for either side. Weeks are those of ISO 8601: they begin on Monday, and the
 * first one of a year holds its first Thursday.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/time_fields.h"

#include "core/data/datetime.h"
#include "core/data/numeric.h"

enum { JULIAN_OF_1970 = 2440588 };

/* PostgreSQL's abbreviations, all of them: some queries use "mons" and "yr". */
enum time_field time_field_of(const char *name, size_t len)
{
    static const struct {
        const char *name;
        uint8_t field;
    } names[] = {
        {"microseconds", FIELD_MICROSECOND}, {"microsecond", FIELD_MICROSECOND},
        {"usec", FIELD_MICROSECOND},         {"usecs", FIELD_MICROSECOND},
        {"us", FIELD_MICROSECOND},           {"milliseconds", FIELD_MILLISECOND},
        {"millisecond", FIELD_MILLISECOND},  {"msec", FIELD_MILLISECOND},
        {"msecs", FIELD_MILLISECOND},        {"ms", FIELD_MILLISECOND},
        {"second", FIELD_SECOND},            {"seconds", FIELD_SECOND},
        {"sec", FIELD_SECOND},               {"secs", FIELD_SECOND},
        {"s", FIELD_SECOND},                 {"minute", FIELD_MINUTE},
        {"minutes", FIELD_MINUTE},           {"min", FIELD_MINUTE},
        {"mins", FIELD_MINUTE},              {"m", FIELD_MINUTE},
        {"hour", FIELD_HOUR},                {"hours", FIELD_HOUR},
        {"hr", FIELD_HOUR},                  {"hrs", FIELD_HOUR},
        {"h", FIELD_HOUR},                   {"day", FIELD_DAY},
        {"days", FIELD_DAY},                 {"d", FIELD_DAY},
        {"week", FIELD_WEEK},                {"weeks", FIELD_WEEK},
        {"w", FIELD_WEEK},                   {"month", FIELD_MONTH},
        {"months", FIELD_MONTH},             {"mon", FIELD_MONTH},
        {"mons", FIELD_MONTH},               {"quarter", FIELD_QUARTER},
        {"qtr", FIELD_QUARTER},              {"year", FIELD_YEAR},
        {"years", FIELD_YEAR},               {"yr", FIELD_YEAR},
        {"yrs", FIELD_YEAR},                 {"y", FIELD_YEAR},
        {"decade", FIELD_DECADE},            {"decades", FIELD_DECADE},
        {"dec", FIELD_DECADE},               {"decs", FIELD_DECADE},
        {"century", FIELD_CENTURY},          {"centuries", FIELD_CENTURY},
        {"cent", FIELD_CENTURY},             {"c", FIELD_CENTURY},
        {"millennium", FIELD_MILLENNIUM},    {"millennia", FIELD_MILLENNIUM},
        {"mil", FIELD_MILLENNIUM},           {"mils", FIELD_MILLENNIUM},
        {"epoch", FIELD_EPOCH},              {"julian", FIELD_JULIAN},
        {"isoyear", FIELD_ISOYEAR},          {"dow", FIELD_DOW},
        {"isodow", FIELD_ISODOW},            {"doy", FIELD_DOY},
        {"timezone", FIELD_TIMEZONE},        {"timezone_h", FIELD_TIMEZONE_HOUR},
        {"timezone_hour", FIELD_TIMEZONE_HOUR}, {"timezone_m", FIELD_TIMEZONE_MINUTE},
        {"timezone_minute", FIELD_TIMEZONE_MINUTE},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i].name) == len && strncasecmp(names[i].name, name, len) == 0) {
            return names[i].field;
        }
    }
    return FIELD_UNKNOWN;
}

/* The order of enum time_field makes ranges of what belongs together. */
bool time_field_applies(enum time_field f, uint8_t kind)
{
    switch (kind) {
    case TYPE_DATE:
        return f >= FIELD_DAY && f < FIELD_TIMEZONE;
    case TYPE_TIME:
        return f <= FIELD_HOUR || f == FIELD_EPOCH;
    case TYPE_INTERVAL:
        return (f <= FIELD_MILLENNIUM && f != FIELD_WEEK) || f == FIELD_EPOCH;
    case TYPE_TIMESTAMP:
        return f < FIELD_TIMEZONE;
    default:
        return true;
    }
}

/* A week belongs to the year of its Thursday. */
int iso_week(int64_t days, int *year)
{
    int64_t weekday = (days + 3) - floor_div(days + 3, 7) * 7; /* Monday is 0 */
    struct civil thursday = civil_from_days(days - weekday + 3);
    *year = thursday.year;
    int64_t first = days_from_civil(thursday.year, 1, 1);
    return (int)((days - weekday + 3 - first) / 7) + 1;
}

/* There is no year 0: astronomical 0 is 1 BC, shown as -1. */
static int64_t shown_year(int64_t year)
{
    return year > 0 ? year : year - 1;
}

/* Decade 199 is 1990 to 1999, decade 0 begins with 1 BC, decade -1 is 11 BC to 2 BC. */
static int64_t decade_of(int64_t year)
{
    return year >= 0 ? year / 10 : -((8 - (year - 1)) / 10);
}

/* 1..100 are the first, 100 BC..1 BC the century -1. */
static int64_t century_of(int64_t year)
{
    return year > 0 ? (year + 99) / 100 : -((99 - (year - 1)) / 100);
}

static int64_t millennium_of(int64_t year)
{
    return year > 0 ? (year + 999) / 1000 : -((999 - (year - 1)) / 1000);
}

/*
 * Second holds the whole of the minute, milliseconds and microseconds too: extract(ms from
 * '00:00:01.5') is 1500.000.
 */
void extract_clock(enum time_field f, int64_t of_day, struct numeric *out)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    int64_t in_minute = of_day % (60 * MICROS_PER_SEC);
    switch (f) {
    case FIELD_MICROSECOND:
        *out = num_from_int(in_minute);
        break;
    case FIELD_MILLISECOND:
        *out = numeric_make(in_minute, 3);
        break;
    case FIELD_SECOND:
        *out = numeric_make(in_minute, 6);
        break;
    case FIELD_MINUTE:
        *out = num_from_int(of_day / (60 * MICROS_PER_SEC) % 60);
        break;
    case FIELD_HOUR:
        *out = num_from_int(of_day / (3600 * MICROS_PER_SEC));
        break;
    default:
        ASSERT(f == FIELD_EPOCH);
        *out = numeric_make(of_day, 6);
        break;
    }
}

/* Of the fields that are whole days or more. */
static int64_t date_field(enum time_field f, int64_t days)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    struct civil c = civil_from_days(days);
    int iso_year;
    int week = iso_week(days, &iso_year);
    int64_t weekday = (days + 4) - floor_div(days + 4, 7) * 7; /* Sunday is 0 */
    switch (f) {
    case FIELD_DAY:
        return c.day;
    case FIELD_WEEK:
        return week;
    case FIELD_MONTH:
        return c.month;
    case FIELD_QUARTER:
        return (c.month - 1) / 3 + 1;
    case FIELD_YEAR:
        return shown_year(c.year);
    case FIELD_DECADE:
        return decade_of(c.year);
    case FIELD_CENTURY:
        return century_of(c.year);
    case FIELD_MILLENNIUM:
        return millennium_of(c.year);
    case FIELD_JULIAN:
        return days + JULIAN_OF_1970;
    case FIELD_ISOYEAR:
        return shown_year(iso_year);
    case FIELD_DOW:
        return weekday;
    case FIELD_ISODOW:
        return weekday == 0 ? 7 : weekday;
    case FIELD_DOY:
        return days - days_from_civil(c.year, 1, 1) + 1;
    case FIELD_EPOCH:
        return days * 86400;
    default:
        return 0; /* the time zone is UTC */
    }
}

void extract_date(enum time_field f, int64_t days, struct numeric *out)
{
    *out = num_from_int(date_field(f, days));
}

/* Days of a Julian date begin at midnight here, as in PostgreSQL, not at noon. */
void extract_timestamp(enum time_field f, int64_t ts, struct numeric *out)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    int64_t days = floor_div(ts, MICROS_PER_DAY);
    int64_t of_day = ts - days * MICROS_PER_DAY;
    if (f == FIELD_EPOCH) {
        *out = numeric_make(ts, 6);
    } else if (f <= FIELD_HOUR) {
        extract_clock(f, of_day, out);
    } else if (f == FIELD_JULIAN) {
        struct numeric part = num_from_int(of_day);
        struct numeric day = num_from_int(MICROS_PER_DAY);
        struct numeric whole = num_from_int(days + JULIAN_OF_1970);
        struct numeric fraction;
        const struct fault *fault = num_div(&part, &day, &fraction);
        fault = fault != NULL ? fault : num_add(&whole, &fraction, out);
        ASSERT(fault == NULL);
    } else {
        extract_date(f, days, out);
    }
}

/* Fields of the interval as it is stored: 25 hours are hour 25, not a day. */
void extract_interval(enum time_field f, const struct interval *v, struct numeric *out)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    int64_t years = v->months / 12;
    switch (f) {
    case FIELD_EPOCH: {
        /* A year has 365.25 days, a month 30. */
        int128 quarter_days =
            (int128)years * 1461 + (int128)(v->months % 12) * 120 + (int128)v->days * 4;
        *out = numeric_make(quarter_days * (MICROS_PER_DAY / 4) + v->micros, 6);
        return;
    }
    case FIELD_HOUR:
        *out = num_from_int(v->micros / (3600 * MICROS_PER_SEC));
        return;
    case FIELD_DAY:
        *out = num_from_int(v->days);
        return;
    case FIELD_MONTH:
        *out = num_from_int(v->months % 12);
        return;
    case FIELD_QUARTER:
        *out = num_from_int(v->months % 12 / 3 + 1);
        return;
    case FIELD_YEAR:
    case FIELD_DECADE:
    case FIELD_CENTURY:
    case FIELD_MILLENNIUM: {
        static const int units[] = {1, 10, 100, 1000};
        *out = num_from_int(years / units[f - FIELD_YEAR]);
        return;
    }
    default:
        extract_clock(f, v->micros, out);
        return;
    }
}

/* The others have no value at infinity: NULL. */
bool extract_infinite(enum time_field f, bool positive, struct numeric *out)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    bool grows = f == FIELD_YEAR || f == FIELD_DECADE || f == FIELD_CENTURY ||
                 f == FIELD_MILLENNIUM || f == FIELD_EPOCH || f == FIELD_JULIAN ||
                 f == FIELD_ISOYEAR;
    *out = (struct numeric){.special = positive ? NUMERIC_INF : NUMERIC_NINF};
    return grows;
}

/* ---- truncation ------------------------------------------------------------------------------ */

/* Of the unit that holds the day. */
static int64_t first_day(enum time_field f, int64_t days)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    struct civil c = civil_from_days(days);
    int64_t year = c.year;
    switch (f) {
    case FIELD_DAY:
        return days;
    case FIELD_WEEK:
        return days - ((days + 3) - floor_div(days + 3, 7) * 7);
    case FIELD_MONTH:
        return days_from_civil(year, c.month, 1);
    case FIELD_QUARTER:
        return days_from_civil(year, (c.month - 1) / 3 * 3 + 1, 1);
    case FIELD_DECADE:
        year = year > 0 ? year / 10 * 10 : -((8 - (year - 1)) / 10) * 10;
        break;
    case FIELD_CENTURY:
        year = year > 0 ? (year + 99) / 100 * 100 - 99 : -((99 - (year - 1)) / 100) * 100 + 1;
        break;
    case FIELD_MILLENNIUM:
        year = year > 0 ? (year + 999) / 1000 * 1000 - 999
                        : -((999 - (year - 1)) / 1000) * 1000 + 1;
        break;
    default:
        ASSERT(f == FIELD_YEAR);
        break;
    }
    return days_from_civil(year, 1, 1);
}

static const int64_t clock_units[] = {
    [FIELD_MICROSECOND] = 1,
    [FIELD_MILLISECOND] = 1000,
    [FIELD_SECOND] = MICROS_PER_SEC,
    [FIELD_MINUTE] = 60 * MICROS_PER_SEC,
    [FIELD_HOUR] = 3600 * MICROS_PER_SEC,
};

/* The first days of PostgreSQL's range are in a century that begins before it. */
const struct fault *truncate_timestamp(enum time_field f, int64_t ts, int64_t *out)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    if (f <= FIELD_HOUR) {
        *out = floor_div(ts, clock_units[f]) * clock_units[f];
        return NULL;
    }
    int128 micros = (int128)first_day(f, floor_div(ts, MICROS_PER_DAY)) * MICROS_PER_DAY;
    if (micros < TIMESTAMP_MIN) {
        return &fault_timestamp_range;
    }
    *out = (int64_t)micros;
    return NULL;
}

/* Towards zero; smaller fields become 0. */
struct interval truncate_interval(enum time_field f, const struct interval *v)
{
    ASSERT(f > FIELD_UNKNOWN && f <= FIELD_TIMEZONE_MINUTE);
    static const int month_units[] = {
        [FIELD_MONTH] = 1,      [FIELD_QUARTER] = 3,    [FIELD_YEAR] = 12,
        [FIELD_DECADE] = 120,   [FIELD_CENTURY] = 1200, [FIELD_MILLENNIUM] = 12000,
    };
    struct interval r = *v;
    if (f <= FIELD_HOUR) {
        r.micros = r.micros / clock_units[f] * clock_units[f];
        return r;
    }
    r.micros = 0;
    if (f == FIELD_DAY) {
        return r;
    }
    r.days = 0;
    r.months = r.months / month_units[f] * month_units[f];
    return r;
}
