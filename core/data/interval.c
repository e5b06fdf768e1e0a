/* Intervals as values: their normal form. Text and arithmetic are in datetime files. */
#include "core/data/data_internal.h"

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
