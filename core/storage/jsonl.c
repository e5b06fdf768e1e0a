/*
 * JSON lines: see jsonl.h. jansson validates the line and decodes escapes; the values' text is then
 * found by a walk over the same bytes, which is why the walk may assert what it finds: jansson has
 * accepted it. Numbers are taken as they are written, as 0.1 would not survive a double, nor
 * 12345678901234567890 an int64.
 *
 * Example, columns n int8, j jsonb, s text: {"n": 1e2, "j": {"a":[1]}, "s": "x\n"} gives n `1e2`, j
 * `{"a":[1]}`, s `x` and a line feed. A member without a column is passed over; a column without a
 * member is NULL.
 */
#include "core/storage/jsonl.h"

#include <jansson.h>

void jsonl_init(struct jsonl_parser *parser, const struct type *types, const char *const *names,
                size_t cols)
{
    ASSERT(cols > 0);
    *parser = (struct jsonl_parser){.types = types, .names = names, .cols = cols};
    parser->value = mem_zalloc(cols * sizeof(parser->value[0]));
}

void jsonl_free(struct jsonl_parser *parser)
{
    free(parser->value);
    buf_free(&parser->text);
    *parser = (struct jsonl_parser){0};
}

const char *jsonl_text(const struct jsonl_parser *parser, size_t col)
{
    ASSERT(col < parser->cols && !parser->value[col].null);
    return (const char *)parser->text.data + parser->value[col].at;
}

/* ---- a walk over text that jansson has accepted ---------------------------------------------- */

/* JSON's white space, not the locale's. */
static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t skip_space(const char *s, size_t len, size_t at)
{
    ASSERT(s != NULL);
    while (at < len && is_space(s[at])) {
        at++;
    }
    return at;
}

/* Behind the string that begins at the quote at. */
static size_t skip_string(const char *s, size_t len, size_t at)
{
    ASSERT(at < len && s[at] == '"');
    for (at++; at < len && s[at] != '"'; at++) {
        at += s[at] == '\\';
    }
    return at + 1;
}

/* Behind the value that begins at at. */
static size_t skip_value(const char *s, size_t len, size_t at)
{
    ASSERT(at < len);
    size_t depth = 0;
    do {
        char c = s[at];
        if (c == '"') {
            at = skip_string(s, len, at);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']' || is_space(c))) {
            break; /* behind a number or a word */
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        at++;
        if (depth == 0 && (c == '}' || c == ']')) {
            break;
        }
    } while (at < len && (depth > 0 || s[at - 1] != '"'));
    return at;
}

/*
 * The text of a string's JSON (with its quotes), appended to out. Most strings have no escape and
 * are copied as they are.
 */
static err_t decode_string(const char *s, size_t len, struct buf *out)
{
    ASSERT(len >= 2 && s[0] == '"' && s[len - 1] == '"');
    if (memchr(s, '\\', len) == NULL) {
        buf_append(out, s + 1, len - 2);
        return ERR_OK;
    }
    json_error_t why;
    json_t *string = json_loadb(s, len, JSON_DECODE_ANY, &why);
    if (string == NULL) {
        return err_sql(ERR_INVALID, "22P02", "invalid JSON: %s", why.text);
    }
    buf_append(out, json_string_value(string), json_string_length(string));
    json_decref(string);
    return ERR_OK;
}

/* ---- members --------------------------------------------------------------------------------- */

/*
 * The column of the name whose JSON is s; cols: none. scratch is left as it was. The number of
 * columns is small: comparing names beats hashing them. Names may have escapes, too.
 */
static err_t find_column(struct jsonl_parser *parser, const char *s, size_t len, size_t *col)
{
    size_t before = parser->text.len;
    TRY(decode_string(s, len, &parser->text));
    const char *name = (const char *)parser->text.data + before;
    size_t name_len = parser->text.len - before;
    for (*col = 0; *col < parser->cols; (*col)++) {
        const char *mine = parser->names[*col];
        if (strlen(mine) == name_len && memcmp(mine, name, name_len) == 0) {
            break;
        }
    }
    parser->text.len = before;
    return ERR_OK;
}

/* null is NULL for every type, also jsonb: as in PostgreSQL's json_populate_record. */
static err_t set_value(struct jsonl_parser *parser, size_t col, const char *s, size_t len)
{
    ASSERT(col < parser->cols && len > 0);
    struct jsonl_value *value = &parser->value[col];
    *value = (struct jsonl_value){.null = len == 4 && memcmp(s, "null", 4) == 0,
                                  .at = parser->text.len};
    if (s[0] == '"' && parser->types[col].kind != TYPE_JSONB) {
        TRY(decode_string(s, len, &parser->text));
    } else {
        buf_append(&parser->text, s, len);
    }
    value->len = (uint32_t)(parser->text.len - value->at);
    return ERR_OK;
}

/* One object, whose braces jansson has matched. */
static err_t walk(struct jsonl_parser *parser, const char *s, size_t len)
{
    ASSERT(len >= 2);
    size_t at = skip_space(s, len, 0) + 1; /* the brace */
    for (;;) {
        at = skip_space(s, len, at);
        if (at < len && s[at] == ',') {
            at = skip_space(s, len, at + 1);
        }
        if (at >= len || s[at] != '"') {
            return ERR_OK; /* the closing brace */
        }
        size_t name_end = skip_string(s, len, at);
        size_t col = 0;
        TRY(find_column(parser, s + at, name_end - at, &col));
        at = skip_space(s, len, skip_space(s, len, name_end) + 1); /* the colon */
        ASSERT(at < len);
        size_t end = skip_value(s, len, at);
        if (col < parser->cols) {
            TRY(set_value(parser, col, s + at, end - at));
        }
        at = end;
    }
}

/* Duplicate names: the last one counts, as for PostgreSQL's jsonb. */
err_t jsonl_parse(struct jsonl_parser *parser, const char *line, size_t len)
{
    ASSERT(parser->cols > 0);
    buf_clear(&parser->text);
    buf_reserve(&parser->text, len + 1);
    for (size_t c = 0; c < parser->cols; c++) {
        parser->value[c] = (struct jsonl_value){.null = true};
    }
    json_error_t why;
    json_t *root = json_loadb(line, len, JSON_DECODE_INT_AS_REAL, &why);
    if (root == NULL) {
        return err_sql(ERR_INVALID, "22P02", "invalid JSON: %s", why.text);
    }
    bool object = json_is_object(root);
    json_decref(root);
    if (!object) {
        return err_sql(ERR_INVALID, "22P02", "a line must be a JSON object");
    }
    /* One column of type jsonb named data, and no such member wanted: it gets the whole line. */
    if (parser->cols == 1 && parser->types[0].kind == TYPE_JSONB &&
        strcmp(parser->names[0], "data") == 0) {
        parser->value[0] = (struct jsonl_value){.len = (uint32_t)len};
        buf_append(&parser->text, line, len);
        return ERR_OK;
    }
    return walk(parser, line, len);
}
