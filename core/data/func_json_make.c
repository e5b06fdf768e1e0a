/*
 * Functions that make jsonb of values and of other jsonb. What they put together is text that may
 * have keys in any order, or twice; json_parse makes the canonical text of it, where the last of
 * equal keys wins, as in PostgreSQL. What only leaves parts of canonical text out is canonical
 * already.
 */
#include "core/data/json.h"
#include "core/data/kernel.h"

static struct json json_arg(const struct call *c, uint32_t k, uint32_t i)
{
    struct slice s = ARG(c, k, struct slice, i);
    return (struct json){s.s, s.len};
}

static void append_arg(struct call *c, uint32_t k, uint32_t i, struct buf *text, struct buf *out)
{
    ASSERT(k < c->args_len);
    struct datum d = {.null = true};
    if (!arg_is_null(c, k, i)) {
        vec_datum(&c->args[k], c->arg_kinds[k], i, &d);
    }
    json_append_value(c->arg_kinds[k], &d, text, out);
}

/* JSON of our own making, which need not be canonical: keys in any order, repeated ones. */
static void out_parsed(struct call *c, uint32_t i, struct json_parser *parser,
                       const struct buf *json)
{
    err_t err = json_parse(parser, (const char *)json->data, json->len);
    if (err != ERR_OK) {
        call_fail_err(c, i, err);
    } else {
        call_text(c, i, parser->out.data, parser->out.len);
    }
}

/* jsonb_build_array(a, ...) */
void k_json_build_array(struct call *c)
{
    ASSERT(c->args_len >= 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_JSONB);
    struct json_parser parser = {0};
    struct buf text = {0}, out = {0};
    FOR_ROWS(c, i) {
        buf_clear(&out);
        for (uint32_t k = 0; k < c->args_len; k++) {
            buf_append_byte(&out, k == 0 ? '[' : ',');
            append_arg(c, k, i, &text, &out);
        }
        buf_append_byte(&out, ']');
        out_parsed(c, i, &parser, &out);
    }
    buf_free(&out);
    buf_free(&text);
    json_parser_free(&parser);
}

/* One object of a row; false when a key is NULL, and the row has failed. */
static bool build_object(struct call *c, uint32_t i, struct buf *text, struct buf *out)
{
    buf_clear(out);
    for (uint32_t k = 0; k < c->args_len; k += 2) {
        struct datum key;
        if (arg_is_null(c, k, i)) {
            call_failf(c, i, "22023", "argument %u: key must not be null", k + 1);
            return false;
        }
        vec_datum(&c->args[k], c->arg_kinds[k], i, &key);
        buf_clear(text);
        if (c->arg_kinds[k] == TYPE_BOOL) {
            buf_append_str(text, key.b ? "true" : "false");
        } else {
            json_print_scalar(c->arg_kinds[k], &key, text);
        }
        buf_append_byte(out, k == 0 ? '{' : ',');
        json_append_escaped((const char *)text->data, text->len, out);
        buf_append_byte(out, ':');
        append_arg(c, k + 1, i, text, out);
    }
    buf_append_byte(out, '}');
    return true;
}

/* jsonb_build_object(key, value, ...): keys are written as text. */
void k_json_build_object(struct call *c)
{
    ASSERT(c->args_len >= 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_JSONB);
    struct json_parser parser = {0};
    struct buf text = {0}, out = {0};
    FOR_ROWS(c, i) {
        if (c->args_len % 2 != 0) {
            call_failf(c, i, "22023", "argument list must have even number of elements");
        } else if (build_object(c, i, &text, &out)) {
            out_parsed(c, i, &parser, &out);
        }
    }
    buf_free(&out);
    buf_free(&text);
    json_parser_free(&parser);
}

/* ---- changing -------------------------------------------------------------------------------- */

/* What stands between the brackets; a scalar or, among arrays, an object is one element. */
static struct json inside(struct json v, enum json_kind of)
{
    ASSERT(of == JSON_ARRAY || of == JSON_OBJECT);
    return json_kind(v) == of ? (struct json){v.s + 1, v.len - 2} : v;
}

/*
 * a || b: of two objects all members, b's where both have one; of anything else an array of the
 * elements, as PostgreSQL's jsonb_concat has it.
 */
void k_json_concat(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_JSONB);
    struct json_parser parser = {0};
    struct buf out = {0};
    FOR_ROWS(c, i) {
        struct json a = json_arg(c, 0, i), b = json_arg(c, 1, i);
        bool objects = json_kind(a) == JSON_OBJECT && json_kind(b) == JSON_OBJECT;
        enum json_kind of = objects ? JSON_OBJECT : JSON_ARRAY;
        a = inside(a, of);
        b = inside(b, of);
        buf_clear(&out);
        buf_append_byte(&out, objects ? '{' : '[');
        buf_append(&out, a.s, a.len);
        buf_append_str(&out, a.len > 0 && b.len > 0 ? "," : "");
        buf_append(&out, b.s, b.len);
        buf_append_byte(&out, objects ? '}' : ']');
        out_parsed(c, i, &parser, &out);
    }
    buf_free(&out);
    json_parser_free(&parser);
}

/* Appends an element, or a member when key has a length, behind those before. */
static void append_item(struct buf *out, struct json key, struct json value)
{
    ASSERT(out->len > 0 && value.len > 0);
    buf_append_str(out, out->len > 1 ? ", " : "");
    if (key.len > 0) {
        buf_append(out, key.s, key.len);
        buf_append_str(out, ": ");
    }
    buf_append(out, value.s, value.len);
}

/* jsonb - text: without the member of that key, or the strings that equal it. */
void k_json_delete_key(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_JSONB);
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, 0, i), key = {NULL, 0}, value;
        struct slice name = ARG(c, 1, struct slice, i);
        bool object = json_kind(v) == JSON_OBJECT;
        if (!object && json_kind(v) != JSON_ARRAY) {
            call_failf(c, i, "22023", "cannot delete from scalar");
            continue;
        }
        struct buf *out = &c->ev->buf;
        size_t at = 0;
        buf_clear(out);
        buf_append_byte(out, object ? '{' : '[');
        while (json_next(v, &at, object ? &key : NULL, &value)) {
            bool drop = object ? json_string_equal(key, name.s, name.len)
                               : json_kind(value) == JSON_STRING &&
                                     json_string_equal(value, name.s, name.len);
            if (!drop) {
                append_item(out, key, value);
            }
        }
        buf_append_byte(out, object ? '}' : ']');
        call_text(c, i, out->data, out->len);
    }
}

/* jsonb - integer: without that element; negative counts from the end. */
void k_json_delete_at(struct call *c)
{
    ASSERT(c->args_len == 2 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_JSONB);
    FOR_ROWS(c, i) {
        struct json v = json_arg(c, 0, i), none = {NULL, 0}, value;
        if (json_kind(v) != JSON_ARRAY) {
            call_failf(c, i, "22023", json_kind(v) == JSON_OBJECT
                                          ? "cannot delete from object using integer index"
                                          : "cannot delete from scalar");
            continue;
        }
        int64_t index = ARG(c, 1, int32_t, i), count = (int64_t)json_count(v), n = 0;
        index += index < 0 ? count : 0;
        struct buf *out = &c->ev->buf;
        size_t at = 0;
        buf_clear(out);
        buf_append_byte(out, '[');
        for (; json_next(v, &at, NULL, &value); n++) {
            if (n != index) {
                append_item(out, none, value);
            }
        }
        buf_append_byte(out, ']');
        call_text(c, i, out->data, out->len);
    }
}

/* Members whose value is null go, at every depth; nulls in arrays stay. */
static void strip_nulls(struct json v, uint32_t depth, struct buf *out)
{
    ASSERT(depth <= JSON_DEPTH_MAX);
    if (json_kind(v) < JSON_ARRAY) {
        buf_append(out, v.s, v.len);
        return;
    }
    bool object = json_kind(v) == JSON_OBJECT, first = true;
    struct json key = {NULL, 0}, value;
    size_t at = 0;
    buf_append_byte(out, object ? '{' : '[');
    while (json_next(v, &at, object ? &key : NULL, &value)) {
        if (object && json_kind(value) == JSON_NULL) {
            continue;
        }
        buf_append_str(out, first ? "" : ", ");
        if (object) {
            buf_append(out, key.s, key.len);
            buf_append_str(out, ": ");
        }
        strip_nulls(value, depth + 1, out);
        first = false;
    }
    buf_append_byte(out, object ? '}' : ']');
}

void k_json_strip_nulls(struct call *c)
{
    ASSERT(c->args_len == 1 && c->n <= VEC_ROWS);
    ASSERT(c->out_kind == TYPE_JSONB);
    FOR_ROWS(c, i) {
        buf_clear(&c->ev->buf);
        strip_nulls(json_arg(c, 0, i), 0, &c->ev->buf);
        call_text(c, i, c->ev->buf.data, c->ev->buf.len);
    }
}
