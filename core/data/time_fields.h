/* Fields of dates, times and intervals: extract and date_trunc. Module-private. */
#ifndef TAILRACE_CORE_DATA_TIME_FIELDS_H
#define TAILRACE_CORE_DATA_TIME_FIELDS_H

#include "core/data/data_internal.h"

/* Those up to FIELD_MILLENNIUM can be truncated to, from fine to coarse. */
enum time_field {
    FIELD_UNKNOWN,
    FIELD_MICROSECOND,
    FIELD_MILLISECOND,
    FIELD_SECOND,
    FIELD_MINUTE,
    FIELD_HOUR,
    FIELD_DAY,
    FIELD_WEEK,
    FIELD_MONTH,
    FIELD_QUARTER,
    FIELD_YEAR,
    FIELD_DECADE,
    FIELD_CENTURY,
    FIELD_MILLENNIUM,
    FIELD_EPOCH,
    FIELD_JULIAN,
    FIELD_ISOYEAR,
    FIELD_DOW,
    FIELD_ISODOW,
    FIELD_DOY,
    FIELD_TIMEZONE,
    FIELD_TIMEZONE_HOUR,
    FIELD_TIMEZONE_MINUTE,
};

enum time_field time_field_of(const char *name, size_t len);
bool time_field_applies(enum time_field f, uint8_t kind);
void extract_timestamp(enum time_field f, int64_t ts, struct numeric *out);
void extract_date(enum time_field f, int64_t days, struct numeric *out);
void extract_clock(enum time_field f, int64_t of_day, struct numeric *out);
void extract_interval(enum time_field f, const struct interval *v, struct numeric *out);
/* false: NULL. Fields that grow for ever are infinite. */
bool extract_infinite(enum time_field f, bool positive, struct numeric *out);
const struct fault *truncate_timestamp(enum time_field f, int64_t ts, int64_t *out);
struct interval truncate_interval(enum time_field f, const struct interval *v);
/* ISO 8601: the week and the year it belongs to (astronomical). */
int iso_week(int64_t days, int *year);

#endif
