/*
 * Text input of dates, times and timestamps in ISO 8601 and its SQL relatives:
 *
 *   [date] [T] [time] [zone] [BC | AD]
 *
 *   2024-02-29                 20240229             240229
 *   2024-02-29 13:04:05.6+02   20240229T130405Z     2024-02-29 1:04 pm
 *   0044-03-15 BC              infinity             epoch
 *
 * One pass from left to right, without going back. Every field is checked for its range when it is
 * complete, the date at the end, since BC decides about leap years. The forms that depend on
 * DateStyle (1/8/1999, "January 8") are refused: they mean different days to different people.
 * Fractions of a second are rounded to microseconds as PostgreSQL rounds them, through binary
 * floating point.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/datetime.h"

#include <math.h>

struct scan { /* a position in the text: never beyond end */
    const char *at;
    const char *end;
};

/* What has been read so far; unset fields are zero. */
struct fields {
    int64_t year;
    int month;
    int day;
    bool has_date;
    bool has_time;
    bool has_zone;
    bool bc;
    int64_t micros; /* of the day */
    int64_t zone;   /* seconds east of UTC */
    int special;    /* -1, 1: infinities; 2: epoch */
};

/*
 * How parsing ended. BAD_SYNTAX is 22007, BAD_FIELD 22008, BAD_ZONE 22009; NOT_CONSTANT is a value
 * relative to the clock, which a maintained view cannot have.
 */
enum verdict { PARSED, BAD_SYNTAX, BAD_FIELD, BAD_ZONE, NOT_CONSTANT };

static bool at_digit(const struct scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static bool take_char(struct scan *s, char c)
{
    if (s->at < s->end && *s->at == c) {
        s->at++;
        return true;
    }
    return false;
}

/* The characters of C's isspace. */
static void skip_spaces(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || (*s->at >= '\t' && *s->at <= '\r'))) {
        s->at++;
    }
}

/*
 * Digits as a number; returns how many there were (0: none). At most 9 count. A number of more than
 * 9 digits becomes one that no field allows.
 */
static int take_number(struct scan *s, int64_t *out)
{
    ASSERT(s->at <= s->end);
    int len = 0;
    int64_t v = 0;
    while (at_digit(s)) {
        v = len < 9 ? v * 10 + (*s->at - '0') : INT32_MAX;
        len++;
        s->at++;
    }
    *out = v;
    return len;
}

/* Only a whole word: "z" does not take the beginning of "zone". */
static bool take_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(s->end - s->at) < len || strncasecmp(s->at, word, len) != 0) {
        return false;
    }
    bool ends = (size_t)(s->end - s->at) == len ||
                !((s->at[len] | 0x20) >= 'a' && (s->at[len] | 0x20) <= 'z');
    if (ends) {
        s->at += len;
    }
    return ends;
}

/* One digit or two: 2024-2-9 is fine. */
static bool take_digits2(struct scan *s, int *out)
{
    ASSERT(s->at <= s->end);
    int64_t v;
    int len = take_number(s, &v);
    *out = (int)v;
    return len == 1 || len == 2;
}

/*
 * A fraction of a second in microseconds, rounded as PostgreSQL does: in binary, halves to even. Up
 * to 1,000,000: .9999999 is a whole second, which carries over.
 */
static int64_t take_fraction(struct scan *s)
{
    ASSERT(s->at <= s->end);
    char text[32] = "0.";
    size_t len = 2;
    for (; at_digit(s); s->at++) {
        if (len < sizeof(text) - 1) {
            text[len++] = *s->at;
        }
    }
    text[len] = '\0';
    return (int64_t)rint(strtod(text, NULL) * 1e6);
}

/* ---- date ------------------------------------------------------------------------------------ */

/* 2024-02-29, 20240229 or 240229, whose two-digit years are 1970 to 2069. */
static enum verdict parse_date_part(struct scan *s, struct fields *f)
{
    ASSERT(s->at <= s->end);
    int64_t v;
    int len = take_number(s, &v);
    bool dash = s->at < s->end && *s->at == '-';
    if ((len == 8 || len == 6) && !dash) { /* 20240229, 240229 */
        f->year = v / 10000;
        f->month = (int)(v / 100 % 100);
        f->day = (int)(v % 100);
        if (len == 6) {
            f->year += f->year < 70 ? 2000 : 1900;
        }
        f->has_date = true;
        return PARSED;
    }
    if (len < 3 || !take_char(s, '-')) {
        return BAD_SYNTAX;
    }
    f->year = v;
    if (!take_digits2(s, &f->month) || !take_char(s, '-') || !take_digits2(s, &f->day)) {
        return BAD_SYNTAX;
    }
    f->has_date = true;
    return PARSED;
}

/* At the end, as BC is only known then: 0044 BC is the astronomical year -43. */
static enum verdict check_date(struct fields *f)
{
    if (f->year <= 0 || f->month < 1 || f->month > 12 || f->day < 1 || f->day > 31) {
        return BAD_FIELD;
    }
    if (f->bc) {
        f->year = 1 - f->year;
    }
    return f->day <= days_in_month(f->year, f->month) ? PARSED : BAD_FIELD;
}

/* ---- time and zone --------------------------------------------------------------------------- */

/*
 * Seconds may be 60: PostgreSQL takes it as the next minute. 24:00:00 is allowed, nothing beyond.
 */
static enum verdict finish_time(struct scan *s, struct fields *f, int hour, int minute, int second)
{
    ASSERT(s->at <= s->end);
    int64_t fraction = take_char(s, '.') ? take_fraction(s) : 0;
    skip_spaces(s);
    bool am = take_word(s, "am");
    bool pm = !am && take_word(s, "pm");
    if (am || pm) {
        if (hour > 12) {
            return BAD_FIELD;
        }
        hour = hour % 12 + (pm ? 12 : 0);
    }
    if (hour > 24 || minute > 59 || second > 60) {
        return BAD_FIELD;
    }
    f->micros = ((int64_t)hour * 3600 + minute * 60 + second) * MICROS_PER_SEC + fraction;
    f->has_time = true;
    return f->micros <= MICROS_PER_DAY ? PARSED : BAD_FIELD;
}

/* 13:04, 13:04:05.6, 1304, 130405, 1:04 pm */
static enum verdict parse_time_part(struct scan *s, struct fields *f)
{
    ASSERT(s->at <= s->end);
    int64_t v;
    int minute = 0;
    int second = 0;
    int len = take_number(s, &v);
    if ((len == 4 || len == 6) && !(s->at < s->end && *s->at == ':')) { /* 1304, 130405 */
        int64_t hms = len == 4 ? v * 100 : v;
        return finish_time(s, f, (int)(hms / 10000), (int)(hms / 100 % 100), (int)(hms % 100));
    }
    if (len < 1 || len > 2 || !take_char(s, ':') || !take_digits2(s, &minute)) {
        return BAD_SYNTAX;
    }
    if (take_char(s, ':') && !take_digits2(s, &second)) {
        return BAD_SYNTAX;
    }
    return finish_time(s, f, (int)v, minute, second);
}

/* +02, +0230, +02:30:15; east is positive. */
static enum verdict parse_offset(struct scan *s, struct fields *f)
{
    ASSERT(s->at < s->end);
    ASSERT(s->at <= s->end);
    bool west = *s->at++ == '-';
    int64_t hour;
    int minute = 0;
    int second = 0;
    int len = take_number(s, &hour);
    if (len == 3 || len == 4) { /* +0530 */
        minute = (int)(hour % 100);
        hour /= 100;
    } else if (len < 1 || len > 2) {
        return BAD_SYNTAX;
    }
    if (take_char(s, ':') && !take_digits2(s, &minute)) {
        return BAD_SYNTAX;
    }
    if (take_char(s, ':') && !take_digits2(s, &second)) {
        return BAD_SYNTAX;
    }
    if (hour > 15 || minute > 59 || second > 59) {
        return BAD_ZONE;
    }
    f->zone = hour * 3600 + minute * 60 + second;
    f->zone = west ? -f->zone : f->zone;
    f->has_zone = true;
    return PARSED;
}

/*
 * Names other than UTC's would need the zones' history: they are left over and refused as syntax.
 */
static enum verdict parse_zone(struct scan *s, struct fields *f)
{
    ASSERT(s->at <= s->end);
    if (s->at == s->end) {
        return PARSED;
    }
    if (*s->at == '+' || *s->at == '-') {
        return parse_offset(s, f);
    }
    f->has_zone |= take_word(s, "utc") || take_word(s, "gmt") || take_word(s, "zulu") ||
                   take_word(s, "z") || take_word(s, "ut");
    return PARSED;
}

/* infinity, -infinity and epoch stand for a whole value. */
static bool parse_special(struct scan *s, struct fields *f)
{
    if (take_word(s, "infinity") || take_word(s, "+infinity")) {
        f->special = 1;
    } else if (take_word(s, "-infinity")) {
        f->special = -1;
    } else if (take_word(s, "epoch")) {
        f->special = 2;
    }
    return f->special != 0;
}

static enum verdict parse_words(struct scan *s)
{
    ASSERT(s->at <= s->end);
    static const char *const clock_words[] = {"now", "today", "tomorrow", "yesterday"};
    for (size_t i = 0; i < ARRAY_LEN(clock_words); i++) {
        if (take_word(s, clock_words[i])) {
            return NOT_CONSTANT;
        }
    }
    return BAD_SYNTAX;
}

/* One value, with nothing behind it. */
static enum verdict parse_fields(struct scan *s, struct fields *f)
{
    ASSERT(s->at <= s->end);
    skip_spaces(s);
    if (parse_special(s, f)) {
        skip_spaces(s);
        return s->at == s->end ? PARSED : BAD_SYNTAX;
    }
    if (!at_digit(s)) {
        return parse_words(s);
    }
    enum verdict v = parse_date_part(s, f);
    if (v != PARSED) {
        return v;
    }
    bool t = take_char(s, 'T') || take_char(s, 't');
    skip_spaces(s);
    if (t || at_digit(s)) {
        v = parse_time_part(s, f);
        if (v != PARSED) {
            return v;
        }
    }
    skip_spaces(s);
    v = parse_zone(s, f);
    if (v != PARSED) {
        return v;
    }
    skip_spaces(s);
    f->bc = take_word(s, "bc");
    if (!f->bc) {
        take_word(s, "ad");
    }
    skip_spaces(s);
    return s->at == s->end ? check_date(f) : BAD_SYNTAX;
}

/* ---- entry points ---------------------------------------------------------------------------- */

/* The text is quoted, at most 1,000 bytes of it. */
static err_t verdict_err(enum verdict v, const char *type, const char *s, size_t len)
{
    int n = len > 1000 ? 1000 : (int)len;
    switch (v) {
    case BAD_FIELD:
        return err_sql(ERR_INVALID, "22008", "date/time field value out of range: \"%.*s\"", n, s);
    case BAD_ZONE:
        return err_sql(ERR_INVALID, "22009", "time zone displacement out of range: \"%.*s\"", n,
                       s);
    case NOT_CONSTANT:
        return err_hint(err_sql(ERR_INVALID, "22007", "invalid input syntax for type %s: \"%.*s\"",
                                type, n, s),
                        "A value relative to the clock is not a constant: write the date itself, "
                        "or use mz_now().");
    default:
        return err_sql(ERR_INVALID, "22007", "invalid input syntax for type %s: \"%.*s\"", type, n,
                       s);
    }
}

/* A time in the text is read, checked and forgotten, as PostgreSQL does. */
err_t date_parse(const char *s, size_t len, int64_t *out)
{
    ASSERT(s != NULL || len == 0);
    struct scan scan = {s, s + len};
    struct fields f = {0};
    enum verdict v = parse_fields(&scan, &f);
    if (v != PARSED) {
        return verdict_err(v, "date", s, len);
    }
    if (f.special != 0) {
        *out = f.special == 2 ? 0 : f.special > 0 ? DATE_INFINITY : DATE_NINFINITY;
        return ERR_OK;
    }
    *out = days_from_civil(f.year, f.month, f.day);
    if (*out < DATE_MIN || *out >= DATE_END) {
        return err_sql(ERR_INVALID, "22008", "date out of range: \"%.*s\"", (int)len, s);
    }
    return ERR_OK;
}

/*
 * Without zone a zone in the text is read and ignored; with zone it is subtracted, and none means
 * UTC.
 */
err_t timestamp_parse(const char *s, size_t len, bool with_zone, int64_t *out)
{
    ASSERT(s != NULL || len == 0);
    struct scan scan = {s, s + len};
    struct fields f = {0};
    const char *type = with_zone ? "timestamp with time zone" : "timestamp";
    enum verdict v = parse_fields(&scan, &f);
    if (v != PARSED) {
        return verdict_err(v, type, s, len);
    }
    if (f.special != 0) {
        *out = f.special == 2 ? 0 : f.special > 0 ? TS_INFINITY : TS_NINFINITY;
        return ERR_OK;
    }
    int128 micros = (int128)days_from_civil(f.year, f.month, f.day) * MICROS_PER_DAY + f.micros;
    if (with_zone) {
        micros -= f.zone * MICROS_PER_SEC;
    }
    if (micros < TIMESTAMP_MIN || micros >= INT64_MAX) {
        return err_sql(ERR_INVALID, "22008", "timestamp out of range: \"%.*s\"", (int)len, s);
    }
    *out = (int64_t)micros;
    return ERR_OK;
}

err_t time_parse(const char *s, size_t len, int64_t *out)
{
    ASSERT(s != NULL || len == 0);
    struct scan scan = {s, s + len};
    struct fields f = {0};
    skip_spaces(&scan);
    enum verdict v = at_digit(&scan) ? parse_time_part(&scan, &f) : parse_words(&scan);
    if (v == PARSED) {
        skip_spaces(&scan);
        v = parse_zone(&scan, &f);
        skip_spaces(&scan);
    }
    if (v == PARSED && scan.at != scan.end) {
        v = BAD_SYNTAX;
    }
    if (v != PARSED) {
        return verdict_err(v, "time", s, len);
    }
    *out = f.micros;
    return ERR_OK;
}
