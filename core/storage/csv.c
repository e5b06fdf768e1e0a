/*
 * CSV records and fields: see csv.h. Two passes: find_end looks for the line end outside of quotes
 * with memchr, which is fast for the lines that have none; split then copies the fields without
 * their quotes. As PostgreSQL's COPY does, a quote is recognised anywhere in a field: `a"b,c"d` is
 * the one field `ab,cd`.
 *
 * Example, delimiter comma, quote double: `1,"say ""hi""",,"",x` has the fields `1`, `say "hi"`,
 * (empty, not quoted: NULL by default), (empty, quoted: the empty string), `x`.
 */
#include "core/storage/csv.h"

/* Length of the first record with its line end, 0 when there is none yet; quotes switch. */
static size_t find_end(const struct csv_parser *parser, const char *data, size_t len,
                       uint64_t *lines, bool *open)
{
    ASSERT(data != NULL || len == 0);
    size_t at = 0;
    *open = false;
    *lines = 0;
    while (at < len) {
        const char *eol = memchr(data + at, '\n', len - at);
        size_t stop = eol != NULL ? (size_t)(eol - data) : len;
        const char *quote = NULL;
        while (parser->quote != '\0' && at < stop &&
               (quote = memchr(data + at, parser->quote, stop - at)) != NULL) {
            *open = !*open;
            at = (size_t)(quote - data) + 1;
            ASSERT(at <= stop);
        }
        if (eol == NULL) {
            return 0;
        }
        (*lines)++;
        at = stop + 1;
        if (!*open) {
            return at;
        }
    }
    return 0;
}

/* A doubled quote counts only inside of quotes: outside it opens and closes an empty quotation. */
static void split(struct csv_parser *parser, const char *data, size_t len)
{
    buf_clear(&parser->text);
    buf_reserve(&parser->text, len);
    parser->field_len = 0;
    struct csv_field *field = VEC_PUSH(parser, field);
    ASSERT(field->at == 0);
    bool quoting = false;
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (c == parser->quote && c != '\0') {
            field->quoted = true;
            if (quoting && i + 1 < len && data[i + 1] == c) {
                buf_append_byte(&parser->text, (uint8_t)c);
                i++;
            } else {
                quoting = !quoting;
            }
        } else if (c == parser->delimiter && !quoting) {
            field->len = (uint32_t)(parser->text.len - field->at);
            field = VEC_PUSH(parser, field);
            field->at = parser->text.len;
        } else {
            buf_append_byte(&parser->text, (uint8_t)c);
        }
    }
    field->len = (uint32_t)(parser->text.len - field->at);
    ASSERT(parser->text.len <= len);
}

/*
 * An unterminated quote is only known to be one at the end of the file or at the bound: then the
 * first line alone is given up, and the next record begins behind it.
 */
enum csv_result csv_next(struct csv_parser *parser, const char *data, size_t len, bool end,
                         size_t *consumed, uint64_t *lines)
{
    ASSERT(parser->delimiter != parser->quote && parser->delimiter != '\n');
    bool open = false;
    size_t size = find_end(parser, data, len, lines, &open);
    *consumed = size;
    ASSERT(size <= len);
    if (size == 0) {
        if (open && (end || len > CSV_RECORD_MAX)) {
            const char *eol = memchr(data, '\n', len);
            *consumed = eol != NULL ? (size_t)(eol - data) + 1 : len;
            *lines = 1;
            return CSV_UNTERMINATED;
        }
        if (!end || len == 0) {
            *lines = 0;
            return CSV_INCOMPLETE;
        }
        *consumed = len;
        *lines = 1;
        size = len;
    }
    /* The line end is not content. */
    size -= size > 0 && data[size - 1] == '\n';
    size -= size > 0 && data[size - 1] == '\r';
    split(parser, data, size);
    return size == 0 ? CSV_BLANK : CSV_RECORD;
}

const char *csv_text(const struct csv_parser *parser, size_t field)
{
    ASSERT(field < parser->field_len);
    return (const char *)parser->text.data + parser->field[field].at;
}

void csv_free(struct csv_parser *parser)
{
    free(parser->field);
    buf_free(&parser->text);
    *parser = (struct csv_parser){0};
}
