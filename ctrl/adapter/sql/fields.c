/*
 * INTERVAL '1' DAY, INTERVAL '1-2' YEAR TO MONTH: fields give a bare number its unit and cut what
 * is finer than the last of them.
 *
 *   INTERVAL '90' MINUTE             90 minutes
 *   INTERVAL '1 day 5:30' HOUR       1 day 5:00:00     cut, not rounded
 *   INTERVAL '2:30' MINUTE TO SECOND 00:02:30          not 2 hours 30
 *
 * As PostgreSQL's interval_in and AdjustIntervalForTypmod do it; coarser fields are kept even when
 * they are not named. The fields are a mask in the type's typmod, next to the precision of seconds.
 */
#include "ctrl/adapter/sql/typing.h"

#include <ctype.h>

/* PostgreSQL's bits of the fields in an interval's typmod. */
enum {
    FIELD_MONTH = 1 << 1,
    FIELD_YEAR = 1 << 2,
    FIELD_DAY = 1 << 3,
    FIELD_HOUR = 1 << 10,
    FIELD_MINUTE = 1 << 11,
    FIELD_SECOND = 1 << 12,
    FIELDS_ALL = 0x7fff,
};

#define MICROS_SECOND 1000000LL

static const struct {
    int bit;
    const char *unit;
    int64_t micros; /* 0: not a unit of time of day */
} fields[] = {
    /* finest first */
    {FIELD_SECOND, "second", 1},
    {FIELD_MINUTE, "minute", 60 * MICROS_SECOND},
    {FIELD_HOUR, "hour", 3600 * MICROS_SECOND},
    {FIELD_DAY, "day", 0},
    {FIELD_MONTH, "month", 0},
    {FIELD_YEAR, "year", 0},
};

/*
 * Mask in the upper half, precision (0 to 6, 0xffff: not said) in the lower, as PostgreSQL packs
 * it.
 */
int32_t interval_typmod(int mask, bool precise, int precision)
{
    STATIC_ASSERT(FIELDS_ALL <= INT16_MAX, "a typmod with fields is not negative");
    return (int32_t)(((uint32_t)(mask & FIELDS_ALL) << 16) |
                     (precise ? (uint32_t)(precision > 6 ? 6 : precision) : 0xffffU));
}

bool interval_has_fields(const struct type *type)
{
    return type->kind == TYPE_INTERVAL && type->typmod >= 0 && (type->typmod >> 16) != FIELDS_ALL;
}

/* The finest field of the mask. */
static size_t finest(int mask)
{
    size_t i = 0;
    while (i < ARRAY_LEN(fields) - 1 && (mask & fields[i].bit) == 0) {
        i++;
    }
    return i;
}

/* "5", "-5", "1.5": a number that needs a unit. */
static bool bare_number(const char *s)
{
    bool digits = false, point = false;
    s += *s == '-' || *s == '+' ? 1 : 0;
    for (; *s != '\0'; s++) {
        digits = digits || isdigit((unsigned char)*s);
        if (!isdigit((unsigned char)*s) && (*s != '.' || point)) {
            return false;
        }
        point = point || *s == '.';
    }
    return digits;
}

/* Drops what is finer than the field. */
static void cut(struct interval *v, size_t field)
{
    ASSERT(field < ARRAY_LEN(fields));
    if (fields[field].micros > 0) {
        v->micros -= v->micros % fields[field].micros;
        return;
    }
    v->micros = 0;
    if (fields[field].bit != FIELD_DAY) {
        v->days = 0;
    }
    if (fields[field].bit == FIELD_YEAR) {
        v->months -= v->months % 12;
    }
}

/*
 * PostgreSQL reads a bare number as of the finest field and "2:30" as minutes and seconds when
 * hours are not among the fields; everything else as an interval without fields.
 */
err_t interval_parse_fields(struct arena *arena, const struct type *type, const char *text,
                            struct datum *out)
{
    ASSERT(interval_has_fields(type));
    int mask = type->typmod >> 16;
    size_t field = finest(mask);
    struct type plain = type_of(TYPE_INTERVAL);
    const char *s = text;
    while (isspace((unsigned char)*s)) {
        s++;
    }
    if (bare_number(s)) {
        text = arena_printf(arena, "%s %s", s, fields[field].unit);
    } else if (mask == (FIELD_MINUTE | FIELD_SECOND) && strchr(s, ':') == strrchr(s, ':') &&
               strchr(s, ':') != NULL && *s != '-') {
        text = arena_printf(arena, "00:%s", s);
    }
    TRY(datum_parse(&plain, text, strlen(text), arena, out));
    cut(&out->iv, field);
    return ERR_OK;
}
