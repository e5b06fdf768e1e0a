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
 * A format is scanned once, into pieces that a node keeps as long as the format stays the same: at
 * each place the longest pattern that fits is taken (the table has longer names before their
 * prefixes), else the character is copied. FM before a pattern drops padding, TH behind one adds
 * the ending of an ordinal (29TH, 29th), "quoted text" is copied as it is. Names of months and days
 * are English; the case of the pattern decides theirs.
 *
 *     FMDDth "of" Month   ->   {DD, not padded, th}  {" of "}  {Month}
 */
#include "core/data/datetime.h"
#include "core/data/kernel.h"
#include "core/data/time_fields.h"

#include <ctype.h>

/* A timestamp taken apart. */
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
    PAT_TZM,
};

/* Longer names before their prefixes. */
static const struct {
    const char *name;
    uint8_t pattern;
} patterns[] = {
    {"Y,YYY", PAT_Y_YYY}, {"YYYY", PAT_YYYY}, {"YYY", PAT_YYY}, {"YY", PAT_YY}, {"Y", PAT_Y},
    {"IYYY", PAT_IYYY}, {"IYY", PAT_IYY}, {"IY", PAT_IY}, {"IDDD", PAT_IDDD}, {"ID", PAT_ID},
    {"IW", PAT_IW}, {"I", PAT_I}, {"MONTH", PAT_MONTH}, {"MON", PAT_MON}, {"MM", PAT_MM},
    {"MI", PAT_MI}, {"MS", PAT_MS}, {"DAY", PAT_DAY}, {"DY", PAT_DY}, {"DDD", PAT_DDD},
    {"DD", PAT_DD}, {"D", PAT_D}, {"WW", PAT_WW}, {"W", PAT_W}, {"CC", PAT_CC}, {"J", PAT_J},
    {"Q", PAT_Q}, {"RM", PAT_RM}, {"HH24", PAT_HH24}, {"HH12", PAT_HH12}, {"HH", PAT_HH12},
    {"SSSSS", PAT_SSSSS}, {"SSSS", PAT_SSSSS}, {"SS", PAT_SS}, {"US", PAT_US}, {"A.M.", PAT_AMDOT},
    {"P.M.", PAT_AMDOT}, {"AM", PAT_AM}, {"PM", PAT_AM}, {"B.C.", PAT_BCDOT}, {"A.D.", PAT_BCDOT},
    {"BC", PAT_BC}, {"AD", PAT_BC}, {"TZH", PAT_TZH}, {"TZM", PAT_TZM}, {"TZ", PAT_TZ},
    {"OF", PAT_OF},
};

static const char *const months[] = {"January", "February", "March",     "April",
                                     "May",     "June",     "July",      "August",
                                     "September", "October", "November", "December"};
static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const roman[] = {"I",   "II",   "III", "IV", "V",  "VI",
                                    "VII", "VIII", "IX",  "X",  "XI", "XII"};

/* ts is finite. */
static struct moment moment_of(int64_t ts, bool with_zone, bool iso)
{
    struct moment m = {.with_zone = with_zone};
    m.days = floor_div(ts, MICROS_PER_DAY);
    m.date = civil_from_days(m.days);
    m.time = clock_from_micros(ts - m.days * MICROS_PER_DAY);
    if (iso) {
        m.iso_week = iso_week(m.days, &m.iso_year);
    }
    m.weekday = (int)((m.days + 4) - floor_div(m.days + 4, 7) * 7);
    m.of_year = (int)(m.days - days_from_civil(m.date.year, 1, 1)) + 1;
    return m;
}

enum letters { LOWER, CAPITAL, UPPER }; /* month, Month, MONTH */

/* One pattern of a format, or text to copy. */
struct piece {
    uint8_t pattern; /* enum pattern; PAT_NONE: text */
    bool fill;       /* pad; FM says not to */
    uint8_t letters; /* enum letters: of the pattern */
    uint8_t ending;  /* of an ordinal: 0 none, 1 TH, 2 th */
    uint32_t text;   /* where in the format's texts, and how much of them */
    uint32_t text_len;
};

/* The last format a node was given. */
struct format {
    struct kernel_state state;
    char *source;
    size_t source_len;
    struct piece *pieces;
    size_t pieces_len, pieces_cap;
    struct buf texts;
    bool iso; /* some piece needs the ISO week or its year, which cost more than all else */
    int64_t unit; /* microseconds: moments of one such span, from midnight on, look alike */
};

/* A name in the case of the pattern, padded to width. */
static void put_name(struct buf *out, const char *name, size_t len, uint8_t letters, size_t width)
{
    ASSERT(len > 0 && letters <= UPPER);
    for (size_t k = 0; k < len; k++) {
        bool upper = letters == UPPER || (letters == CAPITAL && k == 0);
        int ch = upper ? toupper((unsigned char)name[k]) : tolower((unsigned char)name[k]);
        buf_append_byte(out, (uint8_t)ch);
    }
    for (size_t k = len; k < width; k++) {
        buf_append_byte(out, ' ');
    }
}

/* Decimal, with zeros up to so many characters, the sign included. */
static void put_digits(struct buf *out, int64_t v, int width)
{
    char digits[24];
    int at = sizeof(digits);
    uint64_t rest = v < 0 ? -(uint64_t)v : (uint64_t)v;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    ASSERT(width < (int)sizeof(digits));
    while ((int)sizeof(digits) - at < width - (v < 0)) {
        digits[--at] = '0';
    }
    if (v < 0) {
        digits[--at] = '-';
    }
    buf_append(out, digits + at, sizeof(digits) - (size_t)at);
}

/*
 * 11 to 13 take th whatever their last digit: 11th, 111th, but 21st. FM drops the leading zeros,
 * but not digits.
 */
static void put_number(struct buf *out, int64_t v, int width, const struct piece *piece)
{
    static const char *const endings[][4] = {{"TH", "ST", "ND", "RD"}, {"th", "st", "nd", "rd"}};
    put_digits(out, v, piece->fill ? width : 0);
    if (piece->ending > 0) {
        int64_t ones = v % 10;
        bool teen = v / 10 % 10 == 1;
        buf_append(out, endings[piece->ending - 1][teen || ones > 3 || ones < 0 ? 0 : ones], 2);
    }
}

/* Years before 1 count as BC. */
static int shown(int year)
{
    return year > 0 ? year : 1 - year;
}

/* false: the pattern is a number. */
static bool put_words(struct buf *out, const struct piece *piece, const struct moment *m)
{
    ASSERT(m->weekday >= 0 && m->weekday < 7 && m->date.month >= 1 && m->date.month <= 12);
    const char *day = days[m->weekday];
    const char *month = months[m->date.month - 1];
    bool pm = m->time.hour >= 12;
    bool bc = m->date.year <= 0;
    bool upper = piece->letters != LOWER;
    switch (piece->pattern) {
    case PAT_MONTH:
        put_name(out, month, strlen(month), piece->letters, piece->fill ? 9 : 0);
        return true;
    case PAT_MON:
        put_name(out, month, 3, piece->letters, 0);
        return true;
    case PAT_DAY:
        put_name(out, day, strlen(day), piece->letters, piece->fill ? 9 : 0);
        return true;
    case PAT_DY:
        put_name(out, day, 3, piece->letters, 0);
        return true;
    case PAT_RM: {
        const char *r = roman[m->date.month - 1];
        put_name(out, r, strlen(r), upper ? UPPER : LOWER, piece->fill ? 4 : 0);
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

/* ---- scanning a format ----------------------------------------------------------------------- */

/* 0: none, the character stands for itself. */
static size_t match_pattern(struct slice f, size_t at, uint8_t *p)
{
    for (size_t k = 0; k < ARRAY_LEN(patterns); k++) {
        size_t len = strlen(patterns[k].name);
        if (f.len - at >= len && strncasecmp(f.s + at, patterns[k].name, len) == 0) {
            *p = patterns[k].pattern;
            return len;
        }
    }
    return 0;
}

/* One more byte of text: of the piece before, if that is text. */
static void add_text(struct format *format, char byte)
{
    struct piece *last = format->pieces_len > 0 ? &format->pieces[format->pieces_len - 1] : NULL;
    if (last == NULL || last->pattern != PAT_NONE) {
        last = VEC_PUSH(format, pieces);
        last->text = (uint32_t)format->texts.len;
    }
    buf_append_byte(&format->texts, (uint8_t)byte);
    last->text_len++;
}

/* Quoted text; returns the offset behind it. A quote that is not closed ends with the format. */
static size_t scan_quoted(struct format *format, struct slice f, size_t at)
{
    ASSERT(f.s[at] == '"');
    for (at++; at < f.len && f.s[at] != '"'; at++) {
        at += f.s[at] == '\\' && at + 1 < f.len;
        add_text(format, f.s[at]);
    }
    return at < f.len ? at + 1 : at;
}

/* A character that is no pattern, or an escaped quote. */
static size_t scan_text(struct format *format, struct slice f, size_t at)
{
    at += f.s[at] == '\\' && at + 1 < f.len && f.s[at + 1] == '"';
    add_text(format, f.s[at]);
    return at + 1;
}

/* Words take no ending: TH behind one is text. */
static bool is_word(uint8_t p)
{
    return p == PAT_MONTH || p == PAT_MON || p == PAT_DAY || p == PAT_DY || p == PAT_RM ||
           (p >= PAT_AM && p <= PAT_TZM);
}

static bool is_iso(uint8_t p)
{
    return (p >= PAT_IYYY && p <= PAT_I) || p == PAT_IDDD || p == PAT_IW;
}

/* Moments that a pattern shows alike, in microseconds; a divisor of the day's. */
static int64_t unit_of(uint8_t p)
{
    switch (p) {
    case PAT_US:
        return 1;
    case PAT_MS:
        return MICROS_PER_SEC / 1000;
    case PAT_SS:
    case PAT_SSSSS:
        return MICROS_PER_SEC;
    case PAT_MI:
        return 60 * MICROS_PER_SEC;
    case PAT_HH24:
    case PAT_HH12:
    case PAT_AM:
    case PAT_AMDOT:
        return 3600 * MICROS_PER_SEC;
    default:
        return MICROS_PER_DAY;
    }
}

/* A pattern of so many characters at `at`; returns the offset behind it and its ending. */
static size_t scan_pattern(struct format *format, struct slice f, size_t at, size_t len,
                           uint8_t pattern, bool fill)
{
    struct piece *piece = VEC_PUSH(format, pieces);
    bool first = isupper((unsigned char)f.s[at]) != 0;
    bool second = len > 1 && isupper((unsigned char)f.s[at + 1]) != 0;
    *piece = (struct piece){.pattern = pattern, .fill = fill,
                            .letters = first && second ? UPPER : first ? CAPITAL : LOWER};
    format->iso = format->iso || is_iso(pattern);
    format->unit = unit_of(pattern) < format->unit ? unit_of(pattern) : format->unit;
    at += len;
    if (!is_word(pattern) && f.len - at >= 2 && strncasecmp(f.s + at, "TH", 2) == 0) {
        piece->ending = f.s[at] == 't' ? 2 : 1;
        at += 2;
    }
    return at;
}

static void scan(struct format *format, struct slice f)
{
    size_t at = 0;
    format->pieces_len = 0;
    format->iso = false;
    format->unit = MICROS_PER_DAY;
    buf_clear(&format->texts);
    while (at < f.len) {
        bool fill = f.len - at <= 2 || strncasecmp(f.s + at, "FM", 2) != 0;
        at += fill ? 0 : 2;
        uint8_t pattern = PAT_NONE;
        size_t len = match_pattern(f, at, &pattern);
        at = len > 0            ? scan_pattern(format, f, at, len, pattern, fill)
             : f.s[at] == '"'   ? scan_quoted(format, f, at)
                                : scan_text(format, f, at);
    }
}

static void format_free(struct kernel_state *state)
{
    struct format *format = (struct format *)state;
    free(format->source);
    free(format->pieces);
    buf_free(&format->texts);
    free(format);
}

/* The format f scanned, now or for an earlier row. */
static const struct format *format_of(struct call *c, struct slice f)
{
    struct format *format = *c->state;
    if (format == NULL) {
        format = MEM_NEW(struct format);
        format->state.free = format_free;
        *c->state = format;
    }
    if (format->source == NULL || format->source_len != f.len ||
        memcmp(format->source, f.s, f.len) != 0) {
        free(format->source);
        format->source = mem_strndup(f.s, f.len);
        format->source_len = f.len;
        scan(format, f);
    }
    return format;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static void put_piece(struct buf *out, const struct format *format, const struct piece *piece,
                      const struct moment *m)
{
    if (piece->pattern == PAT_NONE) {
        ASSERT(piece->text + piece->text_len <= format->texts.len);
        buf_append(out, format->texts.data + piece->text, piece->text_len);
        return;
    }
    if (put_words(out, piece, m)) {
        return;
    }
    if (piece->pattern == PAT_Y_YYY) {
        int year = shown(m->date.year);
        put_digits(out, year / 1000, 0);
        buf_append_byte(out, ',');
        put_digits(out, year % 1000, 3);
        return;
    }
    struct value v = number_value((enum pattern)piece->pattern, m);
    put_number(out, v.v, v.width, piece);
}

static void put_moment(struct call *c, uint32_t i, const struct format *format, int64_t ts)
{
    struct moment m = moment_of(ts, c->arg_kinds[0] == TYPE_TIMESTAMPTZ, format->iso);
    buf_clear(&c->ev->buf);
    for (size_t k = 0; k < format->pieces_len; k++) {
        put_piece(&c->ev->buf, format, &format->pieces[k], &m);
    }
    call_text(c, i, c->ev->buf.data, c->ev->buf.len);
}

/*
 * An empty format or an infinite timestamp gives NULL, as in PostgreSQL. Moments that follow each
 * other mostly lie in one span of the format's unit (a day, a minute): their text is made once.
 */
void k_to_char_timestamp(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    struct slice *out = c->out;
    int64_t from = 0, unit = 0; /* the span of the row before; 0: none */
    uint32_t before = 0;
    FOR_ROWS(c, i) {
        int64_t ts = ARG(c, 0, int64_t, i);
        struct slice f = ARG(c, 1, struct slice, i);
        if (f.len == 0 || ts == TS_INFINITY || ts == TS_NINFINITY) {
            call_null(c, i);
            continue;
        }
        if ((uint64_t)ts - (uint64_t)from < (uint64_t)unit) {
            out[i] = out[before];
            continue;
        }
        const struct format *format = format_of(c, f);
        put_moment(c, i, format, ts);
        if (arg_is_const(c, 1) && c->ev->buf.len <= TEXT_BYTES_MAX) { /* else the row failed */
            unit = format->unit;
            from = floor_div(ts, unit) * unit;
            before = i;
        }
    }
}
