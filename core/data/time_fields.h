/* Fields of dates, times and intervals: extract and date_trunc. Module-private. */
#ifndef TAILRACE_CORE_DATA_TIME_FIELDS_H
#define TAILRACE_CORE_DATA_TIME_FIELDS_H

#include "core/data/data_internal.h"

/* Those up to FIELD_MILLENNIUM can be truncated to, from fine to coarse. */
enum time_field {
    FIELD_UNKNOWN, /* no such name: 22023 */
    FIELD_MICROSECOND,
    FIELD_MILLISECOND,
    FIELD_SECOND,
    FIELD_MINUTE,
    FIELD_HOUR,
    FIELD_DAY,
    FIELD_WEEK, /* of ISO 8601 */
    FIELD_MONTH,
    FIELD_QUARTER, /* 1..4 */
    FIELD_YEAR,
    FIELD_DECADE, /* the year divided by 10 */
    FIELD_CENTURY, /* the 20th ends with the year 2000 */
    FIELD_MILLENNIUM, /* the 2nd ends with the year 2000 */
    FIELD_EPOCH, /* seconds since 1970 */
    FIELD_JULIAN, /* days since 4714-11-24 BC */
    FIELD_ISOYEAR, /* the year the ISO week belongs to */
    FIELD_DOW, /* Sunday is 0 */
    FIELD_ISODOW, /* Monday is 1, Sunday 7 */
    FIELD_DOY, /* 1..366 */
    FIELD_TIMEZONE, /* seconds; always 0: the zone is UTC */
    FIELD_TIMEZONE_HOUR,
    FIELD_TIMEZONE_MINUTE,
};

/* By any of PostgreSQL's names, in any case. */
enum time_field time_field_of(const char *name, size_t len);
/* Does extract() know this field of this kind? If not: 0A000. */
bool time_field_applies(enum time_field f, uint8_t kind);
/* Of finite values; the field must apply. */
void extract_timestamp(enum time_field f, int64_t ts, struct numeric *out);
void extract_date(enum time_field f, int64_t days, struct numeric *out);
void extract_clock(enum time_field f, int64_t of_day, struct numeric *out);
void extract_interval(enum time_field f, const struct interval *v, struct numeric *out);
/* false: NULL. Fields that grow for ever are infinite. */
bool extract_infinite(enum time_field f, bool positive, struct numeric *out);
/* To the start of the unit, in UTC. */
const struct fault *truncate_timestamp(enum time_field f, int64_t ts, int64_t *out);
struct interval truncate_interval(enum time_field f, const struct interval *v);
/* ISO 8601: the week and the year it belongs to (astronomical). */
int iso_week(int64_t days, int *year);

#endif
