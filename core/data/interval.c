/*
 * Intervals: normal form and text input, in PostgreSQL's own form, SQL's and ISO 8601's.
 *
 *   1 year 2 mons 3 days 04:05:06.7     PostgreSQL
 *   @ 1 hour ago                        the same with signs turned
 *   1.5 months                          1 mon 15 days
 *   1-2 3 4:05:06                       SQL: years-months days time
 *   P1Y2M3DT4H5M6.7S                    ISO 8601
 *   5                                   seconds
 *   4:05                                4 hours 5 minutes; 4:05.5 is 4 minutes 5.5 seconds
 *
 * The input is a sequence of numbers, each followed by what it counts. Sums are kept in 128 bits,
 * so that no step can overflow, and checked once at the end. A unit may be given once only, as in
 * PostgreSQL; seen keeps what was. Fractions go down to the smaller fields.
 *
 * The normal form is for keys: intervals that SQL holds equal (1 mon, 30 days, 720:00:00) become
 * the same bytes. It prefers the larger fields, so it is also the form shown of a group's key.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/datetime.h"

#include <math.h>

/* As much as the field can take; what is left over goes to the next smaller field. */
static int64_t clamp32(int128 v)
{
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int64_t)v;
}

/* As many months as there are, the rest in days, the rest in microseconds. */
struct interval interval_normalize(const struct interval *v)
{
    int128 span = interval_span(v);
    int128 month = (int128)30 * MICROS_PER_DAY;
    int64_t months = clamp32(span / month);
    span -= months * month;
    int64_t days = clamp32(span / MICROS_PER_DAY);
    span -= (int128)days * MICROS_PER_DAY;
    /* The span of any interval is within what months, days and micros can hold at their ends. */
    ASSERT(span >= INT64_MIN && span <= INT64_MAX);
    return (struct interval){
        .months = (int32_t)months, .days = (int32_t)days, .micros = (int64_t)span};
}

/* ---- text input ------------------------------------------------------------------------------ */

/* From fine to coarse; the first five are exact multiples of a microsecond. */
enum unit {
    UNIT_MICRO,
    UNIT_MILLI,
    UNIT_SECOND,
    UNIT_MINUTE,
    UNIT_HOUR,
    UNIT_DAY,
    UNIT_WEEK,
    UNIT_MONTH,
    UNIT_YEAR,
    UNIT_DECADE,
    UNIT_CENTURY,
    UNIT_MILLENNIUM,
};

static const struct {
    const char *name;
    uint8_t unit;
} unit_names[] = {
    {"us", UNIT_MICRO},         {"usec", UNIT_MICRO},       {"usecs", UNIT_MICRO},
    {"microsecond", UNIT_MICRO}, {"microseconds", UNIT_MICRO}, {"microsecon", UNIT_MICRO},
    {"ms", UNIT_MILLI},         {"msec", UNIT_MILLI},       {"msecs", UNIT_MILLI},
    {"millisecond", UNIT_MILLI}, {"milliseconds", UNIT_MILLI}, {"millisecon", UNIT_MILLI},
    {"s", UNIT_SECOND},         {"sec", UNIT_SECOND},       {"secs", UNIT_SECOND},
    {"second", UNIT_SECOND},    {"seconds", UNIT_SECOND},   {"m", UNIT_MINUTE},
    {"min", UNIT_MINUTE},       {"mins", UNIT_MINUTE},      {"minute", UNIT_MINUTE},
    {"minutes", UNIT_MINUTE},   {"h", UNIT_HOUR},           {"hr", UNIT_HOUR},
    {"hrs", UNIT_HOUR},         {"hour", UNIT_HOUR},        {"hours", UNIT_HOUR},
    {"d", UNIT_DAY},            {"day", UNIT_DAY},          {"days", UNIT_DAY},
    {"w", UNIT_WEEK},           {"week", UNIT_WEEK},        {"weeks", UNIT_WEEK},
    {"mon", UNIT_MONTH},        {"mons", UNIT_MONTH},       {"month", UNIT_MONTH},
    {"months", UNIT_MONTH},     {"y", UNIT_YEAR},           {"yr", UNIT_YEAR},
    {"yrs", UNIT_YEAR},         {"year", UNIT_YEAR},        {"years", UNIT_YEAR},
    {"dec", UNIT_DECADE},       {"decs", UNIT_DECADE},      {"decade", UNIT_DECADE},
    {"decades", UNIT_DECADE},   {"c", UNIT_CENTURY},        {"cent", UNIT_CENTURY},
    {"century", UNIT_CENTURY},  {"centuries", UNIT_CENTURY}, {"mil", UNIT_MILLENNIUM},
    {"mils", UNIT_MILLENNIUM},  {"millennium", UNIT_MILLENNIUM},
    {"millennia", UNIT_MILLENNIUM},
};

/* A time of day gives all of these; a fraction of a second, those of the second. */
enum {
    SECOND_UNITS = 1 << UNIT_MICRO | 1 << UNIT_MILLI | 1 << UNIT_SECOND,
    CLOCK_UNITS = SECOND_UNITS | 1 << UNIT_MINUTE | 1 << UNIT_HOUR,
};

/* BAD_SYNTAX is 22007; BAD_FIELD, a field out of its range, 22008. */
enum verdict { PARSED, BAD_SYNTAX, BAD_FIELD };

/*
 * Sums while parsing; 128 bits, checked at the end. Exact whatever the input: each number has at
 * most 19 digits, and text is bounded.
 */
struct sums {
    int128 months;
    int128 days;
    int128 micros;
};

/* A number with its fraction, which keeps the sign. whole and fraction both carry the sign. */
struct number {
    int64_t whole;
    double fraction;
    bool negative;
    bool has_point;
    bool is_signed;
};

/* A position in the text, never beyond end, and what was read so far. */
struct scan {
    const char *at;
    const char *end;
    struct sums sum;
    uint32_t seen; /* units, as bits: each may be given once */
};

static bool is_digit_at(const struct scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

/* ASCII only: bytes from 128 on are negative chars and fail both comparisons. */
static bool is_alpha_at(const struct scan *s)
{
    return s->at < s->end && (*s->at | 0x20) >= 'a' && (*s->at | 0x20) <= 'z';
}

static bool is_char_at(const struct scan *s, char c)
{
    return s->at < s->end && *s->at == c;
}

static void skip_spaces(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || (*s->at >= '\t' && *s->at <= '\r'))) {
        s->at++;
    }
}

/* False when it does not fit 64 bits. */
static bool take_whole(struct scan *s, int64_t *out)
{
    ASSERT(s->at <= s->end);
    int64_t v = 0;
    while (is_digit_at(s)) {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->at - '0', &v)) {
            return false;
        }
        s->at++;
    }
    *out = v;
    return true;
}

/* Behind the point; digits beyond what a double can tell apart are dropped. */
static double take_fraction(struct scan *s)
{
    ASSERT(s->at <= s->end);
    char text[64] = "0.";
    size_t len = 2;
    for (; is_digit_at(s); s->at++) {
        if (len < sizeof(text) - 1) {
            text[len++] = *s->at;
        }
    }
    text[len] = '\0';
    return strtod(text, NULL);
}

/* -1.5 has whole -1 and fraction -0.5; -.5 has only the fraction, and negative. */
static enum verdict take_number(struct scan *s, struct number *n)
{
    ASSERT(s->at <= s->end);
    *n = (struct number){0};
    if (is_char_at(s, '-') || is_char_at(s, '+')) {
        n->negative = *s->at == '-';
        n->is_signed = true;
        s->at++;
        skip_spaces(s);
    }
    if (!is_digit_at(s) && !is_char_at(s, '.')) {
        return BAD_SYNTAX;
    }
    if (!take_whole(s, &n->whole)) {
        return BAD_FIELD;
    }
    if (is_char_at(s, '.')) {
        s->at++;
        n->has_point = true;
        n->fraction = take_fraction(s);
    }
    if (n->negative) {
        n->whole = -n->whole;
        n->fraction = -n->fraction;
    }
    return PARSED;
}

/* scale: days of the unit. */
static void add_days_fraction(struct sums *sum, double fraction, int scale)
{
    fraction *= scale;
    int64_t days = (int64_t)fraction;
    sum->days += days;
    sum->micros += (int64_t)rint((fraction - (double)days) * (double)MICROS_PER_DAY);
}

static void add_micros(struct sums *sum, const struct number *n, int64_t unit)
{
    sum->micros += (int128)n->whole * unit + (int64_t)rint(n->fraction * (double)unit);
}

/* Fractions of years are rounded to months, those of months and weeks go to days and time. */
static void add_unit(struct sums *sum, const struct number *n, enum unit unit)
{
    static const int64_t micros[] = {1, 1000, MICROS_PER_SEC, 60 * MICROS_PER_SEC,
                                     3600 * MICROS_PER_SEC};
    static const int months[] = {
        [UNIT_YEAR] = 12, [UNIT_DECADE] = 120, [UNIT_CENTURY] = 1200, [UNIT_MILLENNIUM] = 12000};
    switch (unit) {
    case UNIT_DAY:
        sum->days += n->whole;
        sum->micros += (int64_t)rint(n->fraction * (double)MICROS_PER_DAY);
        break;
    case UNIT_WEEK:
        sum->days += (int128)n->whole * 7;
        add_days_fraction(sum, n->fraction, 7);
        break;
    case UNIT_MONTH:
        sum->months += n->whole;
        add_days_fraction(sum, n->fraction, 30);
        break;
    case UNIT_YEAR:
    case UNIT_DECADE:
    case UNIT_CENTURY:
    case UNIT_MILLENNIUM:
        sum->months += (int128)n->whole * months[unit] + (int64_t)rint(n->fraction * months[unit]);
        break;
    default:
        add_micros(sum, n, micros[unit]);
        break;
    }
}

/* Singular, plural and the usual abbreviations, in any case. */
static bool find_unit(const char *word, size_t len, enum unit *out)
{
    for (size_t i = 0; i < ARRAY_LEN(unit_names); i++) {
        if (strlen(unit_names[i].name) == len && strncasecmp(unit_names[i].name, word, len) == 0) {
            *out = unit_names[i].unit;
            return true;
        }
    }
    return false;
}

/* hour:minute[:second[.fraction]], or minute:second.fraction. n is the first number. */
static enum verdict parse_clock(struct scan *s, const struct number *n)
{
    ASSERT(s->at <= s->end);
    int64_t parts[3] = {n->negative ? -n->whole : n->whole};
    int len = 1;
    double fraction = 0;
    bool point = false;
    while (len < 3 && is_char_at(s, ':')) {
        s->at++;
        if (!is_digit_at(s) || !take_whole(s, &parts[len++])) {
            return BAD_SYNTAX;
        }
    }
    if (is_char_at(s, '.')) {
        s->at++;
        point = true;
        fraction = take_fraction(s);
    }
    if (point && len == 2) {
        parts[2] = parts[1];
        parts[1] = parts[0];
        parts[0] = 0;
    }
    if (parts[1] > 59 || parts[2] > 60) {
        return BAD_FIELD;
    }
    if ((s->seen & CLOCK_UNITS) != 0) {
        return BAD_SYNTAX;
    }
    s->seen |= CLOCK_UNITS;
    int128 micros = ((int128)parts[0] * 3600 + parts[1] * 60 + parts[2]) * MICROS_PER_SEC +
                    (int64_t)rint(fraction * (double)MICROS_PER_SEC);
    s->sum.micros += n->negative ? -micros : micros;
    return PARSED;
}

/* years-months 1-2 is one year and two months; the sign counts for both. */
static enum verdict parse_years_months(struct scan *s, const struct number *n)
{
    ASSERT(s->at <= s->end);
    int64_t months;
    s->at++;
    if (!is_digit_at(s) || !take_whole(s, &months)) {
        return BAD_SYNTAX;
    }
    if (months > 11) {
        return BAD_FIELD;
    }
    s->sum.months += (int128)n->whole * 12 + (n->negative ? -months : months);
    return PARSED;
}

/*
 * A number and what it counts; what follows decides. What follows the number decides: a colon, a
 * hyphen and a digit, a word, or nothing (seconds).
 */
static enum verdict parse_part(struct scan *s)
{
    ASSERT(s->at <= s->end);
    struct number n;
    enum verdict v = take_number(s, &n);
    if (v != PARSED) {
        return v;
    }
    if (is_char_at(s, ':')) {
        return n.has_point ? BAD_SYNTAX : parse_clock(s, &n);
    }
    if (is_char_at(s, '-') && !n.has_point && s->at + 1 < s->end && s->at[1] >= '0' &&
        s->at[1] <= '9') {
        return parse_years_months(s, &n);
    }
    skip_spaces(s);
    enum unit unit = UNIT_SECOND;
    if (is_alpha_at(s)) {
        const char *word = s->at;
        while (is_alpha_at(s)) {
            s->at++;
        }
        if (!find_unit(word, (size_t)(s->at - word), &unit)) {
            return BAD_SYNTAX;
        }
    } else if (s->at < s->end) {
        unit = UNIT_DAY; /* "3 04:05:06": the days before a time */
        const char *look = s->at;
        look += *look == '-' || *look == '+';
        while (look < s->end && *look >= '0' && *look <= '9') {
            look++;
        }
        if (look == s->end || *look != ':') {
            return BAD_SYNTAX;
        }
    }
    uint32_t gives = unit == UNIT_SECOND && n.fraction != 0 ? SECOND_UNITS : 1u << unit;
    if ((s->seen & gives) != 0) {
        return BAD_SYNTAX;
    }
    s->seen |= gives;
    add_unit(&s->sum, &n, unit);
    return PARSED;
}

static bool take_ago(struct scan *s)
{
    ASSERT(s->at <= s->end);
    if (s->end - s->at >= 3 && strncasecmp(s->at, "ago", 3) == 0) {
        s->at += 3;
        return true;
    }
    return false;
}

/* A leading @ is noise; "ago" at the end turns all signs. */
static enum verdict parse_verbose(struct scan *s)
{
    ASSERT(s->at <= s->end);
    bool any = false;
    for (;;) {
        skip_spaces(s);
        if (is_char_at(s, '@')) {
            s->at++;
            continue;
        }
        if (s->at == s->end) {
            return any ? PARSED : BAD_SYNTAX;
        }
        if (any && take_ago(s)) {
            skip_spaces(s);
            s->sum.months = -s->sum.months;
            s->sum.days = -s->sum.days;
            s->sum.micros = -s->sum.micros;
            return s->at == s->end ? PARSED : BAD_SYNTAX;
        }
        enum verdict v = parse_part(s);
        if (v != PARSED) {
            return v;
        }
        any = true;
    }
}

/* Letters stand behind their numbers; M is months before the T and minutes after it. */
static enum verdict parse_iso(struct scan *s)
{
    ASSERT(is_char_at(s, 'P'));
    ASSERT(s->at <= s->end);
    static const char date_letters[] = "YMWD";
    static const uint8_t date_units[] = {UNIT_YEAR, UNIT_MONTH, UNIT_WEEK, UNIT_DAY};
    static const char time_letters[] = "HMS";
    static const uint8_t time_units[] = {UNIT_HOUR, UNIT_MINUTE, UNIT_SECOND};
    bool time = false;
    bool any = false;
    s->at++;
    while (s->at < s->end) {
        if (is_char_at(s, 'T') && !time) {
            time = true;
            s->at++;
            continue;
        }
        struct number n;
        enum verdict v = take_number(s, &n);
        if (v != PARSED || s->at == s->end) {
            return v != PARSED ? v : BAD_SYNTAX;
        }
        const char *letters = time ? time_letters : date_letters;
        const char *found = *s->at != '\0' ? strchr(letters, *s->at) : NULL;
        if (found == NULL) {
            return BAD_SYNTAX;
        }
        add_unit(&s->sum, &n, (time ? time_units : date_units)[found - letters]);
        s->at++;
        any = true;
    }
    return any ? PARSED : BAD_SYNTAX;
}

/* Sums that do not fit their fields are 22015, interval field overflow. */
err_t interval_parse(const char *text, size_t len, struct interval *out)
{
    ASSERT(text != NULL || len == 0);
    struct scan s = {.at = text, .end = text + len};
    skip_spaces(&s);
    enum verdict v = is_char_at(&s, 'P') ? parse_iso(&s) : parse_verbose(&s);
    const struct sums *sum = &s.sum;
    bool fits = sum->months == (int32_t)sum->months && sum->days == (int32_t)sum->days &&
                sum->micros == (int64_t)sum->micros;
    int n = len > 1000 ? 1000 : (int)len;
    if (v == BAD_SYNTAX) {
        return err_sql(ERR_INVALID, "22007", "invalid input syntax for type interval: \"%.*s\"", n,
                       text);
    }
    if (v == BAD_FIELD || !fits) {
        return err_sql(ERR_INVALID, v == BAD_FIELD ? "22008" : "22015",
                       "interval field value out of range: \"%.*s\"", n, text);
    }
    *out = (struct interval){.months = (int32_t)sum->months,
                             .days = (int32_t)sum->days,
                             .micros = (int64_t)sum->micros};
    return ERR_OK;
}
