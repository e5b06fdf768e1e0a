/*
 * Reading and writing arrays as text. The reader is a state machine over what stands between the
 * elements, so that a malformed text is noticed where it goes wrong and nothing is remembered but
 * the position. Any thread.
 */
#include "core/data/array.h"

#include <strings.h>

/* What was read last. */
enum { AT_START, AT_OPEN, AT_COMMA, AT_ITEM, AT_END };

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* "...": at is on the quote. */
static enum array_next read_quoted(struct array_reader *r, struct buf *item)
{
    ASSERT(r->s[r->at] == '"');
    for (r->at++; r->at < r->len && r->s[r->at] != '"'; r->at++) {
        r->at += r->s[r->at] == '\\' ? 1 : 0;
        if (r->at < r->len) {
            buf_append_byte(item, (uint8_t)r->s[r->at]);
        }
    }
    if (r->at >= r->len) {
        return ARRAY_BAD;
    }
    r->at++;
    return ARRAY_ITEM;
}

/* Up to the comma or brace; blanks at the end do not count unless a backslash stands before. */
static enum array_next read_bare(struct array_reader *r, struct buf *item)
{
    size_t kept = 0;
    bool escaped = false;
    for (; r->at < r->len && r->s[r->at] != ',' && r->s[r->at] != '}'; r->at++) {
        char c = r->s[r->at];
        if (c == '"' || c == '{') {
            return ARRAY_BAD;
        }
        bool escape = c == '\\' && r->at + 1 < r->len;
        r->at += escape ? 1 : 0;
        escaped = escaped || escape;
        buf_append_byte(item, (uint8_t)r->s[r->at]);
        kept = escape || !is_blank(c) ? item->len : kept;
    }
    ASSERT(kept <= item->len);
    item->len = kept;
    bool null = !escaped && kept == 4 && strncasecmp((const char *)item->data, "null", 4) == 0;
    return null ? ARRAY_NULL : kept == 0 ? ARRAY_BAD : ARRAY_ITEM;
}

/* A brace or a comma, as far as it may stand where it does; false: it may not. */
static bool read_mark(struct array_reader *r, char c)
{
    bool first = r->state == AT_OPEN || r->state == AT_COMMA;
    if (c == '{' && (r->state == AT_START || first) && r->depth < ARRAY_DEPTH_MAX) {
        r->depth++;
        r->nested = r->nested || r->depth > 1;
        r->state = AT_OPEN;
    } else if (c == '}' && (r->state == AT_OPEN || r->state == AT_ITEM)) {
        r->depth--;
        r->state = r->depth == 0 ? AT_END : AT_ITEM;
    } else if (c == ',' && r->state == AT_ITEM) {
        r->state = AT_COMMA;
    } else {
        return false;
    }
    r->at++;
    return true;
}

enum array_next array_next(struct array_reader *r, struct buf *item)
{
    ASSERT(r->at <= r->len && r->depth <= ARRAY_DEPTH_MAX);
    buf_clear(item);
    for (;;) {
        while (r->at < r->len && is_blank(r->s[r->at])) {
            r->at++;
        }
        if (r->at == r->len) {
            return r->state == AT_END ? ARRAY_END : ARRAY_BAD;
        }
        char c = r->s[r->at];
        if (c == '{' || c == '}' || c == ',') {
            if (!read_mark(r, c)) {
                return ARRAY_BAD;
            }
            continue;
        }
        if (r->state != AT_OPEN && r->state != AT_COMMA) {
            return ARRAY_BAD;
        }
        r->state = AT_ITEM;
        return c == '"' ? read_quoted(r, item) : read_bare(r, item);
    }
}

/* Quoted when empty, NULL in any case, or holding what the format means by itself. */
static bool needs_quotes(const char *s, size_t len)
{
    bool quotes = len == 0 || (len == 4 && strncasecmp(s, "null", 4) == 0);
    for (size_t i = 0; i < len && !quotes; i++) {
        quotes = s[i] == '"' || s[i] == '\\' || s[i] == '{' || s[i] == '}' || s[i] == ',' ||
                 is_blank(s[i]);
    }
    return quotes;
}

void array_append(const char *s, size_t len, struct buf *out)
{
    ASSERT(len == 0 || s != NULL);
    if (!needs_quotes(s, len)) {
        buf_append(out, s, len);
        return;
    }
    buf_append_byte(out, '"');
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"' || s[i] == '\\') {
            buf_append_byte(out, '\\');
        }
        buf_append_byte(out, (uint8_t)s[i]);
    }
    buf_append_byte(out, '"');
}

/* One element as its type prints it. */
static err_t convert_item(const struct type *element, struct buf *item, struct buf *out)
{
    struct arena arena = {0};
    struct datum d;
    err_t err = datum_parse(element, buf_cstr(item), item->len, &arena, &d);
    if (err == ERR_OK) {
        buf_clear(item);
        datum_print(element, &d, item);
        array_append(buf_cstr(item), item->len, out);
    }
    arena_free(&arena);
    return err;
}

err_t array_convert(const char *s, size_t len, const struct type *element, struct buf *out)
{
    ASSERT(len == 0 || s != NULL);
    struct array_reader reader = array_open(s, len);
    struct buf item = {0};
    size_t start = out->len;
    enum array_next next = ARRAY_END;
    err_t err = ERR_OK;
    while (err == ERR_OK && (next = array_next(&reader, &item)) != ARRAY_END &&
           next != ARRAY_BAD) {
        buf_append_byte(out, out->len == start ? '{' : ',');
        if (next == ARRAY_NULL) {
            buf_append_str(out, "NULL");
        } else {
            err = convert_item(element, &item, out);
        }
    }
    buf_free(&item);
    if (err == ERR_OK && next == ARRAY_BAD) {
        err = err_sql(ERR_INVALID, "22P02", "malformed array literal: \"%.*s\"",
                      (int)array_shown(s, len), s);
    }
    if (err == ERR_OK && reader.nested) {
        out->len = start;
        buf_append(out, s, len);
    } else if (err == ERR_OK) {
        buf_append_str(out, out->len == start ? "{}" : "}");
    }
    return err;
}
