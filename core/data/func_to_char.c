/*
 * to_char(timestamp, format): the patterns in common use; other characters are copied.
 *
 *   YYYY YYY YY Y        year, its last digits       2024 024 24 4
 *   Y,YYY                with a comma                2,024
 *   IYYY IYY IY I        year of the ISO week
 *   CC                   century                     21
 *   Q                    quarter                     1
 *   MONTH Month month    name, padded to 9           FEBRUARY
 *   MON Mon mon          three letters               FEB
 *   MM                   number                      02
 *   RM rm                Roman, padded to 4          II
 *   DAY Day day          name, padded to 9           THURSDAY
 *   DY Dy dy             three letters               THU
 *   DDD DD D             day of year, month, week    060 29 5 (Sunday is 1)
 *   IDDD ID              the same of the ISO week    060 4 (Monday is 1)
 *   WW W IW              week of year, month, ISO    09 5 09
 *   J                    Julian day                  2460370
 *   HH24 HH12 HH         hour                        13 01 01
 *   MI SS MS US          minute to microsecond       04 05 600 600000
 *   SSSSS SSSS           second of the day           47045
 *   AM PM A.M. P.M.      in the case of the pattern  PM
 *   BC AD B.C. A.D.      in the case of the pattern  AD
 *   TZ TZH TZM OF        zone: always UTC            UTC +00 00 +00
 *
 * The format is scanned once per row: at each place the longest pattern that fits is taken (the
 * table has longer names before their prefixes), else the character is copied. FM before a pattern
 * drops padding, TH behind one adds the ending of an ordinal (29TH, 29th), "quoted text" is copied
 * as it is. Names of months and days are English; the case of the pattern decides theirs.
 */
#include "core/data/datetime.h"
#include "core/data/kernel.h"
#include "core/data/time_fields.h"

#include <ctype.h>

/* A timestamp taken apart, once per row. */
struct moment {
    int64_t days;
    struct civil date;
    struct clock_time time;
    int iso_year;
    int iso_week;
    int weekday; /* Sunday is 0 */
    int of_year; /* 1..366 */
    bool with_zone;
};

/*
 * What a pattern puts out. Those of a year stand in the order year_value relies on: full, then with
 * ever fewer digits.
 */
enum pattern {
    PAT_NONE,
    PAT_YYYY, PAT_YYY, PAT_YY, PAT_Y, PAT_Y_YYY, PAT_IYYY, PAT_IYY, PAT_IY, PAT_I,
    PAT_MONTH, PAT_MON, PAT_MM, PAT_DAY, PAT_DY, PAT_DDD, PAT_IDDD, PAT_DD, PAT_D, PAT_ID,
    PAT_WW, PAT_IW, PAT_W, PAT_CC, PAT_J, PAT_Q, PAT_RM, PAT_HH24, PAT_HH12, PAT_MI, PAT_SSSSS,
    PAT_SS, PAT_MS, PAT_US, PAT_AM, PAT_AMDOT, PAT_BC, PAT_BCDOT, PAT_TZ, PAT_OF, PAT_TZH,
    PAT_TZM, PAT_FF,
};

/* Longer names before their prefixes. cased: the case of the name decides that of the output. */
static const struct {
    const char *name;
    uint8_t pattern;
    bool cased;
} patterns[] = {
    {"Y,YYY", PAT_Y_YYY, false}, {"YYYY", PAT_YYYY, false},   {"YYY", PAT_YYY, false},
    {"YY", PAT_YY, false},       {"Y", PAT_Y, false},         {"IYYY", PAT_IYYY, false},
    {"IYY", PAT_IYY, false},     {"IY", PAT_IY, false},       {"IDDD", PAT_IDDD, false},
    {"ID", PAT_ID, false},       {"IW", PAT_IW, false},       {"I", PAT_I, false},
    {"MONTH", PAT_MONTH, true},  {"MON", PAT_MON, true},      {"MM", PAT_MM, false},
    {"MI", PAT_MI, false},       {"MS", PAT_MS, false},       {"DAY", PAT_DAY, true},
    {"DY", PAT_DY, true},        {"DDD", PAT_DDD, false},     {"DD", PAT_DD, false},
    {"D", PAT_D, false},         {"WW", PAT_WW, false},       {"W", PAT_W, false},
    {"CC", PAT_CC, false},       {"J", PAT_J, false},         {"Q", PAT_Q, false},
    {"RM", PAT_RM, true},        {"HH24", PAT_HH24, false},   {"HH12", PAT_HH12, false},
    {"HH", PAT_HH12, false},     {"SSSSS", PAT_SSSSS, false}, {"SSSS", PAT_SSSSS, false},
    {"SS", PAT_SS, false},       {"US", PAT_US, false},       {"A.M.", PAT_AMDOT, true},
    {"P.M.", PAT_AMDOT, true},   {"AM", PAT_AM, true},        {"PM", PAT_AM, true},
    {"B.C.", PAT_BCDOT, true},   {"A.D.", PAT_BCDOT, true},   {"BC", PAT_BC, true},
    {"AD", PAT_BC, true},        {"TZH", PAT_TZH, false},     {"TZM", PAT_TZM, false},
    {"TZ", PAT_TZ, true},        {"OF", PAT_OF, false},
};

static const char *const months[] = {"January", "February", "March",     "April",
                                     "May",     "June",     "July",      "August",
                                     "September", "October", "November", "December"};
static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const roman[] = {"I",   "II",   "III", "IV", "V",  "VI",
                                    "VII", "VIII", "IX",  "X",  "XI", "XII"};

/* ts is finite. */
static struct moment moment_of(int64_t ts, bool with_zone)
{
    struct moment m = {.with_zone = with_zone};
    m.days = floor_div(ts, MICROS_PER_DAY);
    m.date = civil_from_days(m.days);
    m.time = clock_from_micros(ts - m.days * MICROS_PER_DAY);
    m.iso_week = iso_week(m.days, &m.iso_year);
    m.weekday = (int)((m.days + 4) - floor_div(m.days + 4, 7) * 7);
    m.of_year = (int)(m.days - days_from_civil(m.date.year, 1, 1)) + 1;
    return m;
}

/* A name in the case of the pattern (MONTH, Month, month), padded to width. */
static void put_name(struct buf *out, const char *name, size_t len, const char *pattern,
                     size_t width)
{
    ASSERT(len > 0);
    bool first_upper = isupper((unsigned char)pattern[0]) != 0;
    bool all_upper = first_upper && isupper((unsigned char)pattern[1]) != 0;
    for (size_t k = 0; k < len; k++) {
        bool upper = all_upper || (first_upper && k == 0);
        int ch = upper ? toupper((unsigned char)name[k]) : tolower((unsigned char)name[k]);
        buf_append_byte(out, (uint8_t)ch);
    }
    for (size_t k = len; k < width; k++) {
        buf_append_byte(out, ' ');
    }
}

/*
 * 11 to 13 take th whatever their last digit: 11th, 111th, but 21st. FM drops the leading zeros,
 * but not digits.
 */
static void put_number(struct buf *out, int64_t v, int width, bool fill, bool th)
{
    static const char *const suffixes[] = {"TH", "ST", "ND", "RD"};
    buf_printf(out, "%0*lld", fill ? width : 0, (long long)v);
    if (th) {
        int64_t ones = v % 10;
        bool teen = v / 10 % 10 == 1;
        buf_append_str(out, suffixes[teen || ones > 3 || ones < 0 ? 0 : ones]);
    }
}

/* Years before 1 count as BC. */
static int shown(int year)
{
    return year > 0 ? year : 1 - year;
}

/* false: the pattern is a number. */
static bool put_words(struct buf *out, enum pattern p, const char *name, bool fill,
                      const struct moment *m)
{
    ASSERT(m->weekday >= 0 && m->weekday < 7 && m->date.month >= 1 && m->date.month <= 12);
    const char *day = days[m->weekday];
    const char *month = months[m->date.month - 1];
    bool pm = m->time.hour >= 12;
    bool bc = m->date.year <= 0;
    bool upper = isupper((unsigned char)name[0]) != 0;
    switch (p) {
    case PAT_MONTH:
        put_name(out, month, strlen(month), name, fill ? 9 : 0);
        return true;
    case PAT_MON:
        put_name(out, month, 3, name, 0);
        return true;
    case PAT_DAY:
        put_name(out, day, strlen(day), name, fill ? 9 : 0);
        return true;
    case PAT_DY:
        put_name(out, day, 3, name, 0);
        return true;
    case PAT_RM: {
        const char *r = roman[m->date.month - 1];
        put_name(out, r, strlen(r), upper ? "XX" : "xx", fill ? 4 : 0);
        return true;
    }
    case PAT_AM:
        buf_append_str(out, upper ? (pm ? "PM" : "AM") : pm ? "pm" : "am");
        return true;
    case PAT_AMDOT:
        buf_append_str(out, upper ? (pm ? "P.M." : "A.M.") : pm ? "p.m." : "a.m.");
        return true;
    case PAT_BC:
        buf_append_str(out, upper ? (bc ? "BC" : "AD") : bc ? "bc" : "ad");
        return true;
    case PAT_BCDOT:
        buf_append_str(out, upper ? (bc ? "B.C." : "A.D.") : bc ? "b.c." : "a.d.");
        return true;
    case PAT_TZ:
        buf_append_str(out, !m->with_zone ? "" : upper ? "UTC" : "utc");
        return true;
    case PAT_OF:
    case PAT_TZH:
        buf_append_str(out, "+00");
        return true;
    case PAT_TZM:
        buf_append_str(out, "00");
        return true;
    default:
        return false;
    }
}

/* A number and how many digits it is padded to; 0: none. */
struct value {
    int64_t v;
    int width;
};

/* YYY is the year modulo 1000, and so on. */
static struct value year_value(enum pattern p, const struct moment *m)
{
    static const int moduli[] = {1, 1000, 100, 10};
    bool iso = p >= PAT_IYYY;
    int digits_cut = (int)(iso ? p - PAT_IYYY : p - PAT_YYYY);
    ASSERT(digits_cut >= 0 && digits_cut < (int)ARRAY_LEN(moduli));
    int year = shown(iso ? m->iso_year : m->date.year);
    if (digits_cut == 0) {
        return (struct value){year, 4};
    }
    return (struct value){year % moduli[digits_cut], 4 - digits_cut};
}

static struct value clock_value(enum pattern p, const struct clock_time *t)
{
    switch (p) {
    case PAT_HH24:
        return (struct value){t->hour, 2};
    case PAT_HH12:
        return (struct value){t->hour % 12 == 0 ? 12 : t->hour % 12, 2};
    case PAT_MI:
        return (struct value){t->minute, 2};
    case PAT_SS:
        return (struct value){t->second, 2};
    case PAT_SSSSS:
        return (struct value){t->hour * 3600 + t->minute * 60 + t->second, 0};
    case PAT_MS:
        return (struct value){t->micros / 1000, 3};
    default:
        return (struct value){t->micros, 6};
    }
}

/* W and WW count weeks from the first of the month and of the year; IW is the ISO week. */
static struct value number_value(enum pattern p, const struct moment *m)
{
    int year = m->date.year;
    switch (p) {
    case PAT_MM:
        return (struct value){m->date.month, 2};
    case PAT_DDD:
        return (struct value){m->of_year, 3};
    case PAT_IDDD:
        return (struct value){(m->iso_week - 1) * 7 + (m->weekday == 0 ? 7 : m->weekday), 3};
    case PAT_DD:
        return (struct value){m->date.day, 2};
    case PAT_D:
        return (struct value){m->weekday + 1, 0};
    case PAT_ID:
        return (struct value){m->weekday == 0 ? 7 : m->weekday, 0};
    case PAT_WW:
        return (struct value){(m->of_year - 1) / 7 + 1, 2};
    case PAT_IW:
        return (struct value){m->iso_week, 2};
    case PAT_W:
        return (struct value){(m->date.day - 1) / 7 + 1, 0};
    case PAT_CC:
        return (struct value){year > 0 ? (year - 1) / 100 + 1 : year / 100 - 1,
                              year >= 0 ? 2 : 3};
    case PAT_J:
        return (struct value){m->days + 2440588, 0};
    case PAT_Q:
        return (struct value){(m->date.month - 1) / 3 + 1, 0};
    default:
        return p <= PAT_I ? year_value(p, m) : clock_value(p, &m->time);
    }
}

/* 0: none, the character stands for itself. */
static size_t match_pattern(struct slice f, size_t at, enum pattern *p)
{
    for (size_t k = 0; k < ARRAY_LEN(patterns); k++) {
        size_t len = strlen(patterns[k].name);
        if (f.len - at >= len && strncasecmp(f.s + at, patterns[k].name, len) == 0) {
            *p = (enum pattern)patterns[k].pattern;
            return len;
        }
    }
    *p = PAT_NONE;
    return 0;
}

/* Quoted text; returns the offset behind it. A quote that is not closed ends with the format. */
static size_t put_quoted(struct buf *out, struct slice f, size_t at)
{
    for (at++; at < f.len && f.s[at] != '"'; at++) {
        at += f.s[at] == '\\' && at + 1 < f.len;
        buf_append_byte(out, (uint8_t)f.s[at]);
    }
    return at + 1;
}

/* th in lower case makes the ending so. */
static void format_moment(struct buf *out, struct slice f, const struct moment *m)
{
    size_t at = 0;
    while (at < f.len) {
        enum pattern p;
        bool fill = true;
        if (f.s[at] == '"') {
            at = put_quoted(out, f, at);
            continue;
        }
        if (f.len - at > 2 && strncasecmp(f.s + at, "FM", 2) == 0) {
            fill = false;
            at += 2;
        }
        size_t len = match_pattern(f, at, &p);
        if (len == 0) {
            if (at < f.len && f.s[at] == '\\' && at + 1 < f.len && f.s[at + 1] == '"') {
                at++;
            }
            if (at < f.len) {
                buf_append_byte(out, (uint8_t)f.s[at++]);
            }
            continue;
        }
        const char *name = f.s + at;
        at += len;
        bool th = f.len - at >= 2 && strncasecmp(f.s + at, "TH", 2) == 0;
        if (put_words(out, p, name, fill, m)) {
            continue;
        }
        if (p == PAT_Y_YYY) {
            int year = shown(m->date.year);
            buf_printf(out, "%d,%03d", year / 1000, year % 1000);
        } else {
            struct value v = number_value(p, m);
            size_t before = out->len;
            put_number(out, v.v, v.width, fill, th);
            if (th && f.s[at] == 't') {
                for (size_t k = out->len - 2; k > before && k < out->len; k++) {
                    out->data[k] = (uint8_t)tolower(out->data[k]);
                }
            }
        }
        at += th ? 2 : 0;
    }
}

/* An empty format or an infinite timestamp gives NULL, as in PostgreSQL. */
void k_to_char_timestamp(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        int64_t ts = ARG(c, 0, int64_t, i);
        struct slice f = ARG(c, 1, struct slice, i);
        if (f.len == 0 || ts == TS_INFINITY || ts == TS_NINFINITY) {
            call_null(c, i);
            continue;
        }
        struct moment m = moment_of(ts, c->arg_kinds[0] == TYPE_TIMESTAMPTZ);
        buf_clear(&c->ev->buf);
        format_moment(&c->ev->buf, f, &m);
        call_text(c, i, c->ev->buf.data, c->ev->buf.len);
    }
}
