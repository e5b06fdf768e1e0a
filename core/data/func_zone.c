/*
 * AT TIME ZONE: timezone(zone, timestamp). The zones are those of the tz database, by ICU, which
 * knows their rules for the past and for ever; a name counts in any case, as in PostgreSQL.
 *
 *     timestamp -> timestamptz    the instant at which clocks there show it
 *     timestamptz -> timestamp    what clocks there show at that instant
 *
 * A time that clocks skip in spring is taken as if they had not yet been changed, one they show
 * twice in autumn is the second (PostgreSQL's DetermineTimeZoneOffset). Abbreviations (CET, PST)
 * are offsets in PostgreSQL and zones with summer time in ICU, so they are refused.
 *
 * A node keeps the calendar of the zone it used last; calendars are not shared between threads.
 */
#include "core/data/datetime.h"
#include "core/data/kernel.h"

#include <ctype.h>
#include <unicode/ucal.h>
#include <unicode/uenum.h>
#include <unicode/ustring.h>

enum { ZONE_NAME_MAX = 64 };

struct zone {
    struct kernel_state state;
    UCalendar *calendar; /* NULL: UTC */
    char name[ZONE_NAME_MAX];
    size_t name_len;
};

static void zone_free(struct kernel_state *state)
{
    struct zone *z = (struct zone *)state;
    ucal_close(z->calendar);
    free(z);
}

static bool is_utc(struct slice name)
{
    static const char *const names[] = {"utc",       "gmt", "z",       "zulu", "etc/utc", "etc/gmt",
                                        "universal", "uct", "etc/uct", "+00",  "+00:00"};
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        if (strlen(names[k]) == name.len && strncasecmp(names[k], name.s, name.len) == 0) {
            return true;
        }
    }
    return false;
}

/* Up to five letters: an abbreviation, or one of ICU's old names for a zone. */
static bool is_abbreviation(struct slice name)
{
    bool letters = name.len <= 5;
    for (size_t k = 0; k < name.len && letters; k++) {
        letters = isalpha((unsigned char)name.s[k]) != 0;
    }
    return letters;
}

/* ICU's spelling of the name into id; false: there is no such zone. */
static bool find_id(struct slice name, UChar id[ZONE_NAME_MAX])
{
    ASSERT(name.len < ZONE_NAME_MAX);
    UErrorCode status = U_ZERO_ERROR;
    UEnumeration *all = ucal_openTimeZones(&status);
    bool found = false;
    while (U_SUCCESS(status) && !found) {
        int32_t len = 0;
        const char *one = uenum_next(all, &len, &status);
        if (one == NULL || U_FAILURE(status)) {
            break;
        }
        found = (size_t)len == name.len && strncasecmp(one, name.s, name.len) == 0;
        if (found) {
            u_charsToUChars(one, id, len + 1);
        }
    }
    uenum_close(all);
    return found;
}

/* The zone of row i, or NULL and the row failed. */
static struct zone *zone_of_row(struct call *c, uint32_t i, struct slice name)
{
    struct zone *z = *c->state;
    if (z != NULL && z->name_len == name.len && memcmp(z->name, name.s, name.len) == 0) {
        return z;
    }
    UChar id[ZONE_NAME_MAX];
    UCalendar *calendar = NULL;
    bool utc = is_utc(name), known = utc;
    if (!utc && is_abbreviation(name)) {
        call_failf(c, i, "0A000", "time zone abbreviation \"%.*s\" is not supported",
                   (int)name.len, name.s);
        return NULL;
    }
    if (!utc && name.len < ZONE_NAME_MAX && find_id(name, id)) {
        UErrorCode status = U_ZERO_ERROR;
        calendar = ucal_open(id, -1, "", UCAL_GREGORIAN, &status);
        known = U_SUCCESS(status);
    }
    if (!known) {
        call_failf(c, i, "22023", "time zone \"%.*s\" not recognized", (int)name.len, name.s);
        return NULL;
    }
    if (z == NULL) {
        z = MEM_NEW(struct zone);
        z->state.free = zone_free;
        *c->state = z;
    }
    ucal_close(z->calendar);
    z->calendar = calendar;
    memcpy(z->name, name.s, name.len);
    z->name_len = name.len;
    return z;
}

/* Microseconds east of UTC at an instant, or (local) at what clocks there show. */
static bool offset_at(const struct zone *z, int64_t micros, bool local, int64_t *out)
{
    *out = 0;
    if (z->calendar == NULL) {
        return true;
    }
    UErrorCode status = U_ZERO_ERROR;
    int64_t millis = micros / 1000 - (micros % 1000 < 0 ? 1 : 0);
    int32_t raw = 0, summer = 0;
    ucal_setMillis(z->calendar, (UDate)millis, &status);
    if (local) {
        /* ICU takes the calendar's time for a local one here. */
        ucal_getTimeZoneOffsetFromLocal(z->calendar, UCAL_TZ_LOCAL_FORMER, UCAL_TZ_LOCAL_LATTER,
                                        &raw, &summer, &status);
    } else {
        raw = ucal_get(z->calendar, UCAL_ZONE_OFFSET, &status);
        summer = ucal_get(z->calendar, UCAL_DST_OFFSET, &status);
    }
    *out = ((int64_t)raw + summer) * 1000;
    return U_SUCCESS(status);
}

void k_timezone(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TIMESTAMP || c->out_kind == TYPE_TIMESTAMPTZ);
    bool local = c->out_kind == TYPE_TIMESTAMPTZ;
    FOR_ROWS(c, i) {
        int64_t t = ARG(c, 1, int64_t, i), offset = 0;
        int64_t *out = (int64_t *)c->out + i;
        struct zone *z = zone_of_row(c, i, ARG(c, 0, struct slice, i));
        *out = t;
        if (z == NULL || t == TS_INFINITY || t == TS_NINFINITY) {
            continue;
        }
        bool known = offset_at(z, t, local, &offset);
        bool over = local ? __builtin_sub_overflow(t, offset, out)
                          : __builtin_add_overflow(t, offset, out);
        if (!known || over || *out < TIMESTAMP_MIN || *out == TS_INFINITY) {
            call_failf(c, i, "22008", "timestamp out of range");
        }
    }
}
