/*
 * COPY's text and CSV formats: see copy.h for the contract, copy_binary.c for the third format.
 *
 * Reading is in two steps. find_end looks for the end of a record, which needs only to know about
 * escapes and quotes; take_record then splits the whole record into fields. So fields never have to
 * be resumed in the middle, whatever the pieces in which bytes arrive. Unescaped text of a record
 * is in one buffer that is used again for the next: no allocation a field, none a record.
 */
#include "ctrl/adapter/pgwire/copy_internal.h"

#include "core/base/assert.h"
#include "core/base/utf8.h"

/* options->null is borrowed for the reader's life: it is part of the parsed statement. */
void copy_reader_init(struct copy_reader *r, const struct copy_options *options, size_t record_max,
                      copy_record_fn record, void *arg)
{
    ASSERT(options->binary || (options->delimiter != '\0' && options->null != NULL));
    ASSERT(!options->csv || options->binary || (options->quote != '\0' && options->escape != '\0'));
    memset(r, 0, sizeof(*r));
    r->options = *options;
    r->record = record;
    r->arg = arg;
    r->record_max = record_max;
    r->line = 1;
}

/* May be called at any moment: a COPY is abandoned as often as it ends. */
void copy_reader_free(struct copy_reader *r)
{
    buf_free(&r->pending);
    buf_free(&r->text);
    free(r->fields);
    r->fields = NULL;
}

/* Where it was is in r->line and r->text_at: the caller knows what the data is for. */
static err_t bad(const char *what)
{
    return err_sql(ERR_INVALID, "22P04", "%s", what);
}

/* Fields are collected as offsets into r->text first, since text moves while it grows. data is set
 * by fix_fields, once the text does not move any more. */
static void begin_field(struct copy_reader *r)
{
    struct copy_field *f = VEC_PUSH(r, fields);
    f->data = NULL;
    f->len = r->text.len; /* the start, until the record is complete */
}

/* A field's end is the start of the next: fields lie one behind the other in r->text. */
static void fix_fields(struct copy_reader *r, const bool *nulls)
{
    for (size_t i = 0; i < r->fields_len; i++) {
        size_t start = r->fields[i].len;
        size_t end = i + 1 < r->fields_len ? r->fields[i + 1].len : r->text.len;
        ASSERT(start <= end);
        r->fields[i].data = nulls[i] ? NULL : (const char *)r->text.data + start;
        r->fields[i].len = end - start;
    }
}

/* -1: none. */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The numeric escapes \ooo and \xhh at s[0] ('x' or a digit); how many characters they take. */
static size_t numeric_escape(const char *s, size_t len, uint8_t *out)
{
    size_t n = 0;
    unsigned v = 0;
    ASSERT(len > 0);
    if (s[0] == 'x') {
        for (n = 1; n < len && n < 3 && hex_digit(s[n]) >= 0; n++) {
            v = v * 16 + (unsigned)hex_digit(s[n]);
        }
        if (n == 1) {
            return 0;
        }
    } else {
        for (n = 0; n < len && n < 3 && s[n] >= '0' && s[n] <= '7'; n++) {
            v = v * 8 + (unsigned)(s[n] - '0');
        }
    }
    *out = (uint8_t)v;
    return n;
}

/* Appends one text-format field [s, s + len) with its backslashes resolved. Backslash sequences as
 * PostgreSQL's manual lists them (COPY, "Text Format"); an unknown one stands for the character
 * itself, and a backslash at the very end for itself. */
static void unescape(struct copy_reader *r, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] != '\\' || i + 1 == len) {
            buf_append_byte(&r->text, (uint8_t)s[i]);
            continue;
        }
        i++;
        static const char from[] = "bfnrtv";
        static const char to[] = "\b\f\n\r\t\v";
        const char *p = strchr(from, s[i]);
        uint8_t byte = (uint8_t)s[i];
        if (s[i] != '\0' && p != NULL) {
            byte = (uint8_t)to[p - from];
        } else if (s[i] == 'x' || (s[i] >= '0' && s[i] <= '7')) {
            size_t n = numeric_escape(s + i, len - i, &byte);
            /* "\x" without digits is an x. */
            i += n == 0 ? 0 : n - 1;
        }
        buf_append_byte(&r->text, byte);
    }
}

/* Splits a text-format line at unescaped delimiters. nulls grows with the fields. */
static void split_text(struct copy_reader *r, const char *s, size_t len, struct buf *nulls)
{
    size_t null_len = strlen(r->options.null);
    size_t start = 0;
    ASSERT(r->fields_len == 0);
    for (size_t i = 0; i <= len; i++) {
        if (i < len && s[i] == '\\') {
            i++; /* the next character is data, whatever it is */
            continue;
        }
        if (i < len && s[i] != r->options.delimiter) {
            continue;
        }
        size_t end = i < len ? i : len;
        /* Compared before escapes are resolved: "\\N" escaped is the text \N, not NULL. */
        bool null = end - start == null_len && memcmp(s + start, r->options.null, null_len) == 0;
        begin_field(r);
        buf_append_byte(nulls, null);
        if (!null) {
            unescape(r, s + start, end - start);
        }
        start = end + 1;
    }
    if (start <= len) { /* the line ended in a lone backslash */
        begin_field(r);
        buf_append_byte(nulls, 0);
        unescape(r, s + start, len - start);
    }
}

/* One CSV field from s[*at]; leaves *at at the delimiter or the end. RFC 4180 as PostgreSQL reads
 * it: quotes may begin anywhere in a field, and what is between them is data, delimiters and line
 * breaks included. Only a field without any quotes can be NULL. */
static err_t take_csv_field(struct copy_reader *r, const char *s, size_t len, size_t *at,
                            struct buf *nulls)
{
    const struct copy_options *o = &r->options;
    bool quoted = false;
    bool any_quotes = false;
    size_t from = r->text.len;
    ASSERT(*at <= len);
    begin_field(r);
    while (*at < len) {
        char c = s[*at];
        /* Inside quotes the escape character takes a quote or itself with it. */
        bool doubled = quoted && c == o->escape && *at + 1 < len &&
                       (s[*at + 1] == o->escape || s[*at + 1] == o->quote);
        if (doubled) {
            buf_append_byte(&r->text, (uint8_t)s[*at + 1]);
            *at += 2;
            continue;
        }
        if (c == o->quote) {
            quoted = !quoted;
            any_quotes = true;
        } else if (c == o->delimiter && !quoted) {
            break;
        } else {
            buf_append_byte(&r->text, (uint8_t)c);
        }
        (*at)++;
    }
    if (quoted) {
        return bad("unterminated CSV quoted field");
    }
    bool null = !any_quotes && r->text.len - from == strlen(o->null) &&
                (o->null[0] == '\0' ||
                 memcmp(r->text.data + from, o->null, strlen(o->null)) == 0);
    buf_append_byte(nulls, null);
    return ERR_OK;
}

/* An empty line is one empty field: a table of one column has such rows. */
static err_t split_csv(struct copy_reader *r, const char *s, size_t len, struct buf *nulls)
{
    size_t at = 0;
    ASSERT(r->fields_len == 0);
    for (;;) {
        TRY(take_csv_field(r, s, len, &at, nulls));
        if (at >= len) {
            return ERR_OK;
        }
        ASSERT(s[at] == r->options.delimiter);
        at++;
        if (at == len) { /* a delimiter at the very end: one more, empty field */
            return take_csv_field(r, s, len, &at, nulls);
        }
    }
}

/* A complete record, without its line break. Returns what the callback said, too: its error ends
 * the COPY. */
static err_t take_record(struct copy_reader *r, const char *s, size_t len)
{
    ASSERT(s != NULL || len == 0);
    if (len == 2 && s[0] == '\\' && s[1] == '.') {
        r->ended = true;
        return ERR_OK;
    }
    if (r->options.header && !r->header_seen) {
        r->header_seen = true;
        return ERR_OK;
    }
    struct buf nulls = {0};
    r->text_at = s;
    r->text_len = len;
    buf_clear(&r->text);
    buf_reserve(&r->text, 1); /* data of an empty first field must not look like NULL */
    r->fields_len = 0;
    err_t err = ERR_OK;
    if (r->options.csv) {
        err = split_csv(r, s, len, &nulls);
    } else {
        split_text(r, s, len, &nulls);
    }
    if (err == ERR_OK && (!utf8_valid(r->text.data, r->text.len) ||
                          memchr(r->text.data, '\0', r->text.len) != NULL)) {
        err = err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\"");
    }
    if (err == ERR_OK) {
        fix_fields(r, (const bool *)nulls.data);
        err = r->record(r->arg, r->line, r->fields, r->fields_len);
    }
    buf_free(&nulls);
    if (err == ERR_OK) {
        r->text_at = NULL;
    }
    return err;
}

/*
 * Looks for the end of the record from r->scanned on. In the text format a backslash takes the next
 * byte with it, in CSV line breaks inside quotes are data. True when one was found at *end.
 */
static bool find_end(struct copy_reader *r, size_t *end)
{
    const uint8_t *p = r->pending.data;
    const struct copy_options *o = &r->options;
    size_t i = r->scanned;
    ASSERT(r->scanned <= r->pending.len);
    for (; i < r->pending.len; i++) {
        if (!o->csv && p[i] == '\\') {
            if (i + 1 == r->pending.len) {
                break;
            }
            if (p[i + 1] != '\n' && p[i + 1] != '\r') {
                i++;
            }
        } else if (o->csv && p[i] == (uint8_t)o->escape && o->escape != o->quote && r->in_quotes) {
            if (i + 1 == r->pending.len) {
                break;
            }
            i++;
        } else if (o->csv && p[i] == (uint8_t)o->quote) {
            r->in_quotes = !r->in_quotes; /* a doubled quote flips twice */
        } else if (p[i] == '\n') {
            if (!r->in_quotes) {
                *end = i;
                return true;
            }
            r->lines_in++;
        }
    }
    r->scanned = i;
    return false;
}

/* A record ends at "\n"; a "\r" before it belongs to the line break. PostgreSQL also accepts "\r"
 * alone, which nobody has written since 2001. */
static err_t end_record(struct copy_reader *r, size_t start, size_t end)
{
    const char *s = (const char *)r->pending.data + start;
    size_t len = end - start;
    ASSERT(start <= end && end <= r->pending.len);
    if (len > 0 && s[len - 1] == '\r') {
        len--;
    }
    TRY(take_record(r, s, len));
    r->line += 1 + r->lines_in;
    r->lines_in = 0;
    return ERR_OK;
}

/* Bytes may be cut anywhere, in the middle of an escape or of a character. r->scanned remembers how
 * far was looked, so that a long record which arrives in many pieces is scanned once. */
err_t copy_reader_feed(struct copy_reader *r, const void *data, size_t len)
{
    ASSERT(r->record != NULL);
    if (r->options.binary && len > 0) {
        buf_append(&r->pending, data, len);
        return copy_binary_take(r);
    }
    if (r->ended || len == 0) {
        return ERR_OK;
    }
    buf_append(&r->pending, data, len);
    size_t start = 0;
    size_t end;
    while (!r->ended && find_end(r, &end)) {
        TRY(end_record(r, start, end));
        start = end + 1;
        r->scanned = start;
    }
    buf_consume(&r->pending, start);
    ASSERT(r->scanned >= start);
    r->scanned -= start;
    if (r->ended) {
        buf_clear(&r->pending);
        r->scanned = 0;
    }
    /* What is left is one record without an end: a file that is not what its format says would
     * otherwise be gathered whole. */
    if (r->pending.len > r->record_max) {
        return err_sql(ERR_LIMIT, "54000", "a COPY record is longer than %zu bytes", r->record_max);
    }
    return ERR_OK;
}

err_t copy_reader_end(struct copy_reader *r)
{
    ASSERT(r->record != NULL);
    if (r->options.binary) {
        return copy_binary_end(r);
    }
    if (r->ended || r->pending.len == 0) {
        return ERR_OK;
    }
    r->ended = true;
    return end_record(r, 0, r->pending.len);
}

/* What is escaped is exactly what unescape() resolves. */
static void write_text(const struct copy_options *o, const char *data, size_t len, struct buf *out)
{
    static const char special[] = "\b\f\n\r\t\v";
    for (size_t i = 0; i < len; i++) {
        const char *p = memchr(special, data[i], sizeof(special) - 1);
        if (p != NULL) {
            buf_append_byte(out, '\\');
            buf_append_byte(out, (uint8_t)"bfnrtv"[p - special]);
            continue;
        }
        if (data[i] == '\\' || data[i] == o->delimiter) {
            buf_append_byte(out, '\\');
        }
        buf_append_byte(out, (uint8_t)data[i]);
    }
}

/* Quoted only where it matters, as PostgreSQL does: a plain number stays plain. */
static bool needs_quotes(const struct copy_options *o, const char *data, size_t len)
{
    ASSERT(o->csv);
    if (len == strlen(o->null) && memcmp(data, o->null, len) == 0) {
        return true; /* else it would read as NULL */
    }
    if (len == 2 && memcmp(data, "\\.", 2) == 0) {
        return true;
    }
    for (size_t i = 0; i < len; i++) {
        if (data[i] == o->delimiter || data[i] == o->quote || data[i] == '\n' || data[i] == '\r') {
            return true;
        }
    }
    return false;
}

/* Quotes inside are preceded by the escape character, which is a quote unless ESCAPE says
 * otherwise. */
static void write_csv(const struct copy_options *o, const char *data, size_t len, struct buf *out)
{
    ASSERT(o->csv);
    if (!needs_quotes(o, data, len)) {
        buf_append(out, data, len);
        return;
    }
    buf_append_byte(out, (uint8_t)o->quote);
    for (size_t i = 0; i < len; i++) {
        if (data[i] == o->quote || data[i] == o->escape) {
            buf_append_byte(out, (uint8_t)o->escape);
        }
        buf_append_byte(out, (uint8_t)data[i]);
    }
    buf_append_byte(out, (uint8_t)o->quote);
}

/* The caller ends the line. */
void copy_write_field(const struct copy_options *options, bool first, const char *data, size_t len,
                      struct buf *out)
{
    ASSERT(options->delimiter != '\0');
    if (!first) {
        buf_append_byte(out, (uint8_t)options->delimiter);
    }
    if (data == NULL) {
        buf_append_str(out, options->null);
    } else if (options->csv) {
        write_csv(options, data, len, out);
    } else {
        write_text(options, data, len, out);
    }
}
