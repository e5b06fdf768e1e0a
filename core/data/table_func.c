/*
 * The set-returning functions. Each is a step: from the position in its arguments to the next row
 * or the end. Positions are a number or an offset in a text, so resting costs nothing.
 *
 * Any thread; a call is used by one at a time.
 */
#include "core/data/table_func.h"

#include "core/data/array.h"
#include "core/data/datetime.h"
#include "core/data/json.h"
#include "core/data/numeric.h"
#include "core/data/regex.h"

/* Which arguments there are follows from func; the rest is scratch and position. */
struct table_call {
    const struct table_func *func;
    err_t (*step)(struct table_call *call, struct datum *row, bool *more);
    struct type element; /* unnest */
    struct datum args[TABLE_FUNC_ARGS_MAX];
    bool started; /* a row was taken */
    bool done;
    struct datum next; /* generate_series */
    size_t at;         /* offset in the first argument: what was taken lies before */
    size_t from, last; /* regular expressions: where to look on, where the last match ended */
    struct array_reader reader;
    struct regex re;
    struct buf text, more_text; /* of values that are no slices of an argument */
    struct arena arena;         /* of unnest's element */
};

static err_t end_of(bool *more)
{
    *more = false;
    return ERR_OK;
}

static struct datum slice_datum(const char *s, size_t len)
{
    ASSERT(len <= UINT32_MAX);
    return (struct datum){.s = s, .len = (uint32_t)len};
}

static struct datum buf_datum(const struct buf *buf)
{
    static const char empty[] = "";
    return slice_datum(buf->len > 0 ? (const char *)buf->data : empty, buf->len);
}

/* ---- generate_series ------------------------------------------------------------------------- */

/* The step, when none is written: 1. */
static int64_t int_step(const struct table_call *call)
{
    return call->func->args_len == 3 ? call->args[2].i : 1;
}

static err_t zero_step(void)
{
    return err_sql(ERR_INVALID, "22023", "step size cannot equal zero");
}

/* Inclusive; a value that leaves the type ends the series, as it lies beyond any bound. */
static err_t series_int(struct table_call *call, struct datum *row, bool *more)
{
    int64_t step = int_step(call);
    struct datum *next = &call->next;
    if (step == 0) {
        return zero_step();
    }
    bool over = false;
    if (!call->started) {
        *next = call->args[0];
    } else {
        over = __builtin_add_overflow(next->i, step, &next->i);
    }
    if (over || (step > 0 ? next->i > call->args[1].i : next->i < call->args[1].i)) {
        return end_of(more);
    }
    row->i = next->i;
    return ERR_OK;
}

/* PostgreSQL's words; what: of which argument. */
static err_t check_finite(const struct numeric *n, const char *what)
{
    if (n->special == NUMERIC_FINITE) {
        return ERR_OK;
    }
    return err_sql(ERR_INVALID, "22023", "%s cannot be %s", what,
                   n->special == NUMERIC_NAN ? "NaN" : "infinity");
}

static err_t series_numeric(struct table_call *call, struct datum *row, bool *more)
{
    static const struct numeric one = {.lo = 1}, zero = {0};
    const struct numeric *step = call->func->args_len == 3 ? &call->args[2].n : &one;
    struct datum *next = &call->next;
    if (!call->started) {
        TRY(check_finite(&call->args[0].n, "start value"));
        TRY(check_finite(&call->args[1].n, "stop value"));
        TRY(check_finite(step, "step size"));
        if (numeric_compare(step, &zero) == 0) {
            return zero_step();
        }
        *next = call->args[0];
    } else {
        TRY(numeric_add(&next->n, step, &next->n));
    }
    int order = numeric_compare(&next->n, &call->args[1].n);
    if (numeric_compare(step, &zero) > 0 ? order > 0 : order < 0) {
        return end_of(more);
    }
    row->n = next->n;
    return ERR_OK;
}

/* With months in it the step is not a number of microseconds: each value is made of the last. */
static err_t series_time(struct table_call *call, struct datum *row, bool *more)
{
    const struct interval *step = &call->args[2].iv;
    int128 sign = interval_span(step);
    struct datum *next = &call->next;
    if (sign == 0) {
        return zero_step();
    }
    if (!call->started) {
        *next = call->args[0];
        if (next->i == TS_INFINITY || next->i == TS_NINFINITY) {
            return err_sql(ERR_INVALID, "22023", "start value cannot be infinity");
        }
    } else {
        TRY(fault_err(timestamp_add(next->i, step, &next->i)));
    }
    if (sign > 0 ? next->i > call->args[1].i : next->i < call->args[1].i) {
        return end_of(more);
    }
    row->i = next->i;
    return ERR_OK;
}

/* ---- unnest ---------------------------------------------------------------------------------- */

/* A text is its element as it stands; other types are read from theirs. */
static err_t unnest(struct table_call *call, struct datum *row, bool *more)
{
    const struct datum *array = &call->args[0];
    if (!call->started) {
        call->reader = array_open(array->s, array->len);
    }
    enum array_next next = array_next(&call->reader, &call->text);
    if (next == ARRAY_END) {
        return end_of(more);
    }
    if (next == ARRAY_BAD) {
        return err_sql(ERR_INVALID, "22P02", "malformed array literal: \"%.*s\"",
                       (int)array_shown(array->s, array->len), array->s);
    }
    row->null = next == ARRAY_NULL;
    if (row->null) {
        return ERR_OK;
    }
    if (call->element.kind == TYPE_TEXT) {
        *row = buf_datum(&call->text);
        return ERR_OK;
    }
    arena_free(&call->arena);
    return datum_parse(&call->element, buf_cstr(&call->text), call->text.len, &call->arena, row);
}

/* ---- jsonb ----------------------------------------------------------------------------------- */

/* Strings without quotes and escapes, null as NULL. */
static void json_as_text(struct json v, struct buf *buf, struct datum *out)
{
    enum json_kind kind = json_kind(v);
    if (kind == JSON_NULL) {
        out->null = true;
    } else if (kind != JSON_STRING) {
        *out = slice_datum(v.s, v.len);
    } else {
        buf_clear(buf);
        json_append_unescaped(v, buf);
        *out = buf_datum(buf);
    }
}

static struct json json_of(const struct datum *d)
{
    return (struct json){d->s, d->len};
}

static err_t json_elements(struct table_call *call, struct datum *row, bool *more)
{
    struct json all = json_of(&call->args[0]), value;
    if (json_kind(all) != JSON_ARRAY) {
        return err_sql(ERR_INVALID, "22023", "cannot extract elements from %s",
                       json_kind(all) == JSON_OBJECT ? "an object" : "a scalar");
    }
    if (!json_next(all, &call->at, NULL, &value)) {
        return end_of(more);
    }
    if (call->func->cols[0] == TYPE_TEXT) {
        json_as_text(value, &call->text, row);
    } else {
        *row = slice_datum(value.s, value.len);
    }
    return ERR_OK;
}

static err_t json_each(struct table_call *call, struct datum *row, bool *more)
{
    struct json all = json_of(&call->args[0]), key, value;
    if (json_kind(all) != JSON_OBJECT) {
        return err_sql(ERR_INVALID, "22023", "cannot call %s on a non-object", call->func->name);
    }
    if (!json_next(all, &call->at, &key, &value)) {
        return end_of(more);
    }
    json_as_text(key, &call->text, &row[0]);
    if (call->func->cols[1] == TYPE_TEXT) {
        json_as_text(value, &call->more_text, &row[1]);
    } else {
        row[1] = slice_datum(value.s, value.len);
    }
    return ERR_OK;
}

static err_t json_keys(struct table_call *call, struct datum *row, bool *more)
{
    struct json all = json_of(&call->args[0]), key, value;
    if (json_kind(all) != JSON_OBJECT) {
        return err_sql(ERR_INVALID, "22023", "cannot call jsonb_object_keys on %s",
                       json_kind(all) == JSON_ARRAY ? "an array" : "a scalar");
    }
    if (!json_next(all, &call->at, &key, &value)) {
        return end_of(more);
    }
    json_as_text(key, &call->text, row);
    return ERR_OK;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* Where the piece that starts at call->at ends, and where the next one starts (behind the end:
 * there is none). */
static size_t piece_end(const struct table_call *call, size_t *next)
{
    const struct datum *text = &call->args[0], *by = &call->args[1];
    ASSERT(call->at <= text->len);
    const char *from = text->s + call->at, *end = text->s + text->len;
    *next = (size_t)text->len + 1;
    if (by->null) { /* character by character */
        size_t len = call->at < text->len ? regex_char_len(from) : 0;
        *next = call->at + len < text->len ? call->at + len : *next;
        return call->at + len;
    }
    const char *found = by->len == 0 ? NULL : memmem(from, (size_t)(end - from), by->s, by->len);
    if (found == NULL) {
        return text->len;
    }
    *next = (size_t)(found - text->s) + by->len;
    return (size_t)(found - text->s);
}

/* string_to_table(text, delimiter [, null]): no delimiter cuts between characters, an empty one
 * nowhere. */
static err_t split_string(struct table_call *call, struct datum *row, bool *more)
{
    const struct datum *text = &call->args[0];
    if (text->null || text->len == 0 || call->at > text->len) {
        return end_of(more);
    }
    size_t next;
    size_t end = piece_end(call, &next);
    *row = slice_datum(text->s + call->at, end - call->at);
    call->at = next;
    if (call->func->args_len == 3 && !call->args[2].null) {
        const struct datum *null = &call->args[2];
        row->null = row->len == null->len && memcmp(row->s, null->s, row->len) == 0;
    }
    return ERR_OK;
}

/* Compiles the pattern, once for equal ones; *all: the flag g. */
static err_t open_regex(struct table_call *call, bool *all)
{
    const struct datum *pattern = &call->args[1], *flags = &call->args[2];
    uint32_t options = REGEX_DEFAULT;
    char message[REGEX_MESSAGE_MAX];
    *all = false;
    if (call->func->args_len == 3 &&
        !regex_flags((struct slice){flags->s, flags->len}, &options, all)) {
        return err_sql(ERR_INVALID, "22023", "invalid regular expression option in \"%.*s\"",
                       (int)flags->len, flags->s);
    }
    if (!regex_set(&call->re, (struct slice){pattern->s, pattern->len}, options, message)) {
        return err_sql(ERR_INVALID, "2201B", "invalid regular expression: %s", message);
    }
    return ERR_OK;
}

/* The next match from call->from on, which moves behind it; NULL: there is none. */
static err_t next_match(struct table_call *call, const PCRE2_SIZE **match)
{
    struct slice text = {call->args[0].s, call->args[0].len};
    *match = NULL;
    if (call->from > text.len) {
        return ERR_OK;
    }
    int found = regex_find(&call->re, text, call->from);
    if (found < 0) {
        return err_sql(ERR_INVALID, "2201B", "regular expression is too complex for the text");
    }
    if (found == 1) {
        *match = pcre2_get_ovector_pointer(call->re.match);
        call->from = regex_after(&call->re, text);
    }
    return ERR_OK;
}

/*
 * regexp_split_to_table: what lies between the matches. Empty matches at the ends of the text and
 * right behind another match cut nothing.
 */
static err_t split_regex(struct table_call *call, struct datum *row, bool *more)
{
    const struct datum *text = &call->args[0];
    bool all;
    TRY(open_regex(call, &all));
    if (all) {
        return err_sql(ERR_INVALID, "22023",
                       "regexp_split_to_table() does not support the \"global\" option");
    }
    if (call->at > text->len) {
        return end_of(more);
    }
    const PCRE2_SIZE *match = NULL;
    for (;;) {
        TRY(next_match(call, &match));
        if (match == NULL) {
            *row = slice_datum(text->s + call->at, text->len - call->at);
            call->at = (size_t)text->len + 1;
            return ERR_OK;
        }
        bool cuts = match[0] < text->len && match[1] > call->last && match[0] >= call->at;
        call->last = match[1];
        if (cuts) {
            ASSERT(match[1] <= text->len);
            *row = slice_datum(text->s + call->at, match[0] - call->at);
            call->at = match[1];
            return ERR_OK;
        }
    }
}

/* regexp_matches: an array of the groups, or of the match when there are none. */
static err_t match_regex(struct table_call *call, struct datum *row, bool *more)
{
    const PCRE2_SIZE *match = NULL;
    bool all;
    TRY(open_regex(call, &all));
    if (call->started && !all) {
        return end_of(more);
    }
    TRY(next_match(call, &match));
    if (match == NULL) {
        return end_of(more);
    }
    uint32_t count = pcre2_get_ovector_count(call->re.match);
    buf_clear(&call->text);
    for (uint32_t group = count > 1 ? 1 : 0; group < count; group++) {
        buf_append_byte(&call->text, call->text.len == 0 ? '{' : ',');
        if (match[2 * group] == PCRE2_UNSET) {
            buf_append_str(&call->text, "NULL");
        } else {
            array_append(call->args[0].s + match[2 * group],
                         match[2 * group + 1] - match[2 * group], &call->text);
        }
        if (call->text.len > TEXT_BYTES_MAX) {
            return err_sql(ERR_LIMIT, "54000", "array of matches is too long");
        }
    }
    buf_append_byte(&call->text, '}');
    *row = buf_datum(&call->text);
    return ERR_OK;
}

/* ---- the catalogue --------------------------------------------------------------------------- */

typedef err_t (*step_fn)(struct table_call *call, struct datum *row, bool *more);

#define SERIES(n, kind, step_kind, step)                                                           \
    {{.id = (n), .name = "generate_series", .args_len = 3, .cols_len = 1,                          \
      .args = {kind, kind, step_kind}, .cols = {kind}}, step}
#define SERIES2(n, kind, step)                                                                     \
    {{.id = (n), .name = "generate_series", .args_len = 2, .cols_len = 1, .args = {kind, kind},    \
      .cols = {kind}}, step}
#define JSON_EACH(n, function, kind)                                                               \
    {{.id = (n), .name = function, .args_len = 1, .cols_len = 2,                                   \
      .nullable = (kind) == TYPE_TEXT, .args = {TYPE_JSONB}, .cols = {TYPE_TEXT, kind},            \
      .names = {"key", "value"}}, json_each}
#define TEXTS(n, function, len, oid, step)                                                         \
    {{.id = (n), .name = function, .args_len = (len), .cols_len = 1,                               \
      .args = {TYPE_TEXT, TYPE_TEXT, TYPE_TEXT}, .cols = {TYPE_TEXT}, .array = (oid)}, step}
#define SPLIT(n, len)                                                                              \
    {{.id = (n), .name = "string_to_table", .args_len = (len), .cols_len = 1, .not_strict = true,  \
      .nullable = (len) == 3,                                                                      \
      .args = {TYPE_TEXT, TYPE_TEXT, TYPE_TEXT}, .cols = {TYPE_TEXT}}, split_string}

enum { OID_TEXT_ARRAY = 1009 };

static const struct entry {
    struct table_func func;
    step_fn step;
} entries[] = {
    SERIES2(1, TYPE_INT4, series_int),
    SERIES(2, TYPE_INT4, TYPE_INT4, series_int),
    SERIES2(3, TYPE_INT8, series_int),
    SERIES(4, TYPE_INT8, TYPE_INT8, series_int),
    SERIES2(5, TYPE_NUMERIC, series_numeric),
    SERIES(6, TYPE_NUMERIC, TYPE_NUMERIC, series_numeric),
    SERIES(7, TYPE_TIMESTAMP, TYPE_INTERVAL, series_time),
    SERIES(8, TYPE_TIMESTAMPTZ, TYPE_INTERVAL, series_time),
    {{.id = 9, .name = "unnest", .args_len = 1, .cols_len = 1, .nullable = true,
      .args = {TYPE_TEXT}}, unnest},
    {{.id = 10, .name = "jsonb_array_elements", .args_len = 1, .cols_len = 1,
      .args = {TYPE_JSONB}, .cols = {TYPE_JSONB}, .names = {"value"}}, json_elements},
    {{.id = 11, .name = "jsonb_array_elements_text", .args_len = 1, .cols_len = 1, .nullable = true,
      .args = {TYPE_JSONB}, .cols = {TYPE_TEXT}, .names = {"value"}}, json_elements},
    JSON_EACH(12, "jsonb_each", TYPE_JSONB),
    JSON_EACH(13, "jsonb_each_text", TYPE_TEXT),
    {{.id = 14, .name = "jsonb_object_keys", .args_len = 1, .cols_len = 1, .args = {TYPE_JSONB},
      .cols = {TYPE_TEXT}}, json_keys},
    TEXTS(15, "regexp_split_to_table", 2, 0, split_regex),
    TEXTS(16, "regexp_split_to_table", 3, 0, split_regex),
    TEXTS(17, "regexp_matches", 2, OID_TEXT_ARRAY, match_regex),
    TEXTS(18, "regexp_matches", 3, OID_TEXT_ARRAY, match_regex),
    SPLIT(19, 2),
    SPLIT(20, 3),
};

/* Ids are places. */
const struct table_func *table_func_by_id(uint32_t id)
{
    if (id == 0 || id > ARRAY_LEN(entries)) {
        return NULL;
    }
    ASSERT(entries[id - 1].func.id == id);
    return &entries[id - 1].func;
}

/* ---- calls ----------------------------------------------------------------------------------- */

struct table_call *table_call_new(const struct table_func *func, uint8_t first)
{
    ASSERT(func != NULL && table_func_by_id(func->id) == func);
    ASSERT(func->cols[0] == 0 || func->cols[0] == first);
    struct table_call *call = MEM_NEW(struct table_call);
    call->func = func;
    call->step = entries[func->id - 1].step;
    call->element = type_of((enum type_kind)first);
    call->done = true;
    return call;
}

void table_call_free(struct table_call *call)
{
    if (call == NULL) {
        return;
    }
    regex_clear(&call->re);
    buf_free(&call->text);
    buf_free(&call->more_text);
    arena_free(&call->arena);
    free(call);
}

void table_call_start(struct table_call *call, const struct datum *args)
{
    ASSERT(call->func->args_len <= TABLE_FUNC_ARGS_MAX);
    call->done = false;
    call->started = false;
    call->at = call->from = call->last = 0;
    for (uint32_t i = 0; i < call->func->args_len; i++) {
        call->args[i] = args[i];
        if (type_is_variable((enum type_kind)call->func->args[i]) && args[i].len == 0) {
            call->args[i].s = ""; /* an empty text may have no address */
        }
        call->done = call->done || (args[i].null && !call->func->not_strict);
    }
}

err_t table_call_next(struct table_call *call, struct datum *row, bool *more)
{
    ASSERT(row != NULL && more != NULL);
    *more = !call->done;
    if (call->done) {
        return ERR_OK;
    }
    for (uint32_t c = 0; c < call->func->cols_len; c++) {
        row[c] = (struct datum){0};
    }
    err_t err = call->step(call, row, more);
    call->started = true;
    call->done = err != ERR_OK || !*more;
    *more = !call->done;
    return err;
}

/* A step of a match, or a byte of one, is about ten nanoseconds at most. */
uint32_t table_call_work(struct table_call *call)
{
    enum { BYTES_PER_UNIT = 32, WORK_MAX = 1 << 20 };
    uint64_t units = call->re.work / BYTES_PER_UNIT;
    ASSERT(call->func != NULL);
    call->re.work = 0;
    return units < WORK_MAX ? (uint32_t)units : (uint32_t)WORK_MAX;
}
