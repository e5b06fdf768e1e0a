/*
 * Operators and functions of jsonb. A jsonb is canonical text (json.h): values are taken out as
 * slices of it, and walking it is all there is; no tree is built.
 *
 *   '{"a": [1, 2]}' -> 'a'            [1, 2]
 *   '{"a": [1, 2]}' -> 'a' -> -1      2
 *   '{"a": "x"}' ->> 'a'              x        as text, without quotes
 *   '{"a": null}' ->> 'a'             NULL
 *   '{"a": [1, 2]}' #> '{a,1}'        2
 *   '[1, 2]' @> '2'                   true     an array contains a bare scalar
 *   '{"a": 1}' ? 'a'                  true
 *   to_jsonb(1.50), to_jsonb('x')     1.50, "x"
 *
 * Walking is linear in the text: -> 'k' on an object of n members reads it from the start. That is
 * the price for values that are moved, compared and hashed as bytes.
 */
#include "core/data/array.h"
#include "core/data/datetime.h"
#include "core/data/json.h"
#include "core/data/kernel.h"

#include <math.h>

/* Argument k of row i. */
static struct json json_arg(const struct call *c, uint32_t k, uint32_t i)
{
    struct slice s = ARG(c, k, struct slice, i);
    return (struct json){s.s, s.len};
}

/* ---- access ---------------------------------------------------------------------------------- */

/* Not found is NULL, not an error: as PostgreSQL. */
static void out_json(struct call *c, uint32_t i, bool found, struct json v)
{
    ASSERT(!found || v.len > 0);
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    if (found) {
        call_slice(c, i, v.s, v.len);
    } else {
        call_null(c, i);
    }
}

/* As text: strings without quotes and escapes, null as NULL. */
static void out_text(struct call *c, uint32_t i, bool found, struct json v)
{
    ASSERT(!found || v.len > 0);
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    if (!found || json_kind(v) == JSON_NULL) {
        call_null(c, i);
    } else if (json_kind(v) != JSON_STRING) {
        call_slice(c, i, v.s, v.len);
    } else {
        buf_clear(&c->ev->buf);
        json_append_unescaped(v, &c->ev->buf);
        call_text(c, i, c->ev->buf.data, c->ev->buf.len);
    }
}

/* out: how the value leaves, as jsonb (->) or text (->>). */
static void get_member(struct call *c, void (*out)(struct call *, uint32_t, bool, struct json))
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        struct slice key = ARG(c, 1, struct slice, i);
        struct json v = {0};
        bool found = json_object_get(json_arg(c, 0, i), key.s, key.len, &v);
        out(c, i, found, v);
    }
}

/* Negative indexes count from the end. */
static void get_element(struct call *c, void (*out)(struct call *, uint32_t, bool, struct json))
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, 0, i);
        int32_t index = ARG(c, 1, int32_t, i);
        /* PostgreSQL stores a bare scalar as an array of one, and it shows here. */
        bool found = json_kind(v) < JSON_ARRAY ? index == 0 || index == -1
                                               : json_array_get(v, index, &v);
        out(c, i, found, v);
    }
}

KERNEL(k_json_get, 2, 2, TYPE_JSONB, get_member(c, out_json))
KERNEL(k_json_get_text, 2, 2, TYPE_TEXT, get_member(c, out_text))
KERNEL(k_json_at, 2, 2, TYPE_JSONB, get_element(c, out_json))
KERNEL(k_json_at_text, 2, 2, TYPE_TEXT, get_element(c, out_text))

/* ---- paths ----------------------------------------------------------------------------------- */

/* An element of a path that is to index an array; false: no number, so nothing is found. */
static bool parse_index(const struct buf *text, int64_t *out)
{
    bool negative = text->len > 0 && text->data[0] == '-';
    size_t k = negative;
    int64_t v = 0;
    if (k == text->len || text->len > 11) {
        return false;
    }
    for (; k < text->len; k++) {
        if (text->data[k] < '0' || text->data[k] > '9') {
            return false;
        }
        v = v * 10 + (text->data[k] - '0');
    }
    *out = negative ? -v : v;
    return true;
}

static bool step_into(struct json *v, const struct buf *name)
{
    ASSERT(v->len > 0);
    struct json next;
    int64_t index;
    bool found = json_kind(*v) == JSON_ARRAY
                     ? parse_index(name, &index) && json_array_get(*v, index, &next)
                     : json_object_get(*v, (const char *)name->data, name->len, &next);
    if (found) {
        *v = next;
    }
    return found;
}

/*
 * #> and #>>. The whole path is parsed even when nothing is found any more: a malformed one is an
 * error for every row alike. A NULL in it finds nothing.
 */
static void get_path(struct call *c, void (*out)(struct call *, uint32_t, bool, struct json))
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    struct buf name = {0};
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, 0, i);
        struct slice path = ARG(c, 1, struct slice, i);
        struct array_reader reader = array_open(path.s, path.len);
        enum array_next next;
        bool found = true;
        while ((next = array_next(&reader, &name)) == ARRAY_ITEM) {
            found = found && step_into(&v, &name);
        }
        if (next == ARRAY_BAD || reader.nested) {
            call_failf(c, i, "22P02", "malformed array literal: \"%.*s\"", (int)path.len, path.s);
        } else {
            out(c, i, found && next == ARRAY_END, v);
        }
    }
    buf_free(&name);
}

KERNEL(k_json_path, 2, 2, TYPE_JSONB, get_path(c, out_json))
KERNEL(k_json_path_text, 2, 2, TYPE_TEXT, get_path(c, out_text))

/* ---- tests ----------------------------------------------------------------------------------- */

/* '{"a":1,"b":2}' @> '{"b":2}' */
void k_json_contains(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_BOOL);
    FOR_ROWS(c, i) {
        ((uint8_t *)c->out)[i] = json_contains(json_arg(c, 0, i), json_arg(c, 1, i));
    }
}

/* The same the other way round: <@. */
void k_json_contained(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_BOOL);
    FOR_ROWS(c, i) {
        ((uint8_t *)c->out)[i] = json_contains(json_arg(c, 1, i), json_arg(c, 0, i));
    }
}

/* jsonb ? text: a key of the object, or a string of the array (or the string itself). */
void k_json_exists(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_BOOL);
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, 0, i);
        struct slice key = ARG(c, 1, struct slice, i);
        struct json value;
        size_t at = 0;
        bool found = false;
        if (json_kind(v) == JSON_STRING) {
            found = json_string_equal(v, key.s, key.len);
        } else if (json_kind(v) == JSON_ARRAY) {
            while (!found && json_next(v, &at, NULL, &value)) {
                found = json_kind(value) == JSON_STRING && json_string_equal(value, key.s, key.len);
            }
        } else {
            found = json_object_get(v, key.s, key.len, &value);
        }
        ((uint8_t *)c->out)[i] = found;
    }
}

/* jsonb_typeof('[1]') = 'array' */
void k_json_typeof(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_TEXT);
    FOR_ROWS(c, i) {
        const char *name = json_kind_name(json_kind(json_arg(c, 0, i)));
        call_slice(c, i, name, strlen(name));
    }
}

/* Only arrays have one: others fail with 22023. */
void k_json_array_length(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_INT4);
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, 0, i);
        enum json_kind kind = json_kind(v);
        if (kind == JSON_ARRAY) {
            ((int32_t *)c->out)[i] = (int32_t)json_count(v);
        } else {
            call_failf(c, i, "22023", "cannot get array length of a %s",
                       kind == JSON_OBJECT ? "non-array" : "scalar");
        }
    }
}

/* ---- making ---------------------------------------------------------------------------------- */

/* NaN and infinities are no JSON numbers: they become strings. */
static bool is_number(uint8_t kind, const struct datum *d)
{
    switch (kind) {
    case TYPE_INT2:
    case TYPE_INT4:
    case TYPE_INT8:
        return true;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return isfinite(d->f);
    case TYPE_NUMERIC:
        return d->n.special == NUMERIC_FINITE;
    default:
        return false;
    }
}

/* Timestamps in ISO 8601 with a T, everything else as text output has it. */
void json_print_scalar(uint8_t kind, const struct datum *d, struct buf *out)
{
    struct type type = type_of(kind);
    if (kind == TYPE_TIMESTAMP || kind == TYPE_TIMESTAMPTZ) {
        timestamp_print_iso(d->i, kind == TYPE_TIMESTAMPTZ, out);
    } else {
        datum_print(&type, d, out);
    }
}

void json_append_value(uint8_t kind, const struct datum *d, struct buf *text, struct buf *out)
{
    if (d->null) {
        buf_append_str(out, "null");
        return;
    }
    if (kind == TYPE_BOOL) {
        buf_append_str(out, d->b ? "true" : "false");
        return;
    }
    buf_clear(text);
    json_print_scalar(kind, d, text);
    if (kind == TYPE_JSONB || is_number(kind, d)) {
        buf_append(out, text->data, text->len);
    } else {
        json_append_escaped((const char *)text->data, text->len, out);
    }
}

/* Numbers go through the parser, which brings them to canonical form (1e3 is 1000). */
static void to_jsonb_row(struct call *c, uint32_t i, struct json_parser *parser, struct buf *text)
{
    ASSERT(c->n <= VEC_ROWS && c->out != NULL);
    struct buf *out = &c->ev->buf;
    struct datum d;
    vec_datum(&c->args[0], c->arg_kinds[0], i, &d);
    buf_clear(out);
    json_append_value(c->arg_kinds[0], &d, text, out);
    err_t err = json_parse(parser, (const char *)out->data, out->len);
    if (err != ERR_OK) {
        call_fail_err(c, i, err);
    } else {
        call_text(c, i, parser->out.data, parser->out.len);
    }
}

void k_to_jsonb(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_JSONB);
    struct json_parser parser = {0};
    struct buf text = {0};
    FOR_ROWS(c, i) {
        to_jsonb_row(c, i, &parser, &text);
    }
    buf_free(&text);
    json_parser_free(&parser);
}
