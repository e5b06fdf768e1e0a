/*
 * CSV: splits bytes into records and records into fields (RFC 4180, as PostgreSQL reads it: a quote
 * anywhere in a field switches quoting, a doubled quote is a quote, records may span lines, a
 * carriage return before the line's end is not part of it). Module-private.
 */
#ifndef TAILRACE_CORE_STORAGE_CSV_H
#define TAILRACE_CORE_STORAGE_CSV_H

#include "core/base/buf.h"

struct csv_field {
    size_t at; /* of its text in the parser's buffer */
    uint32_t len;
    bool quoted; /* it cannot be the text of NULL */
};

struct csv_parser {
    char delimiter;
    char quote; /* '\0': none */
    struct csv_field *field;
    size_t field_len; /* of the record split last */
    size_t field_cap;
    struct buf text; /* its fields' content, without quotes, one behind the other */
};

enum csv_result {
    CSV_RECORD,       /* a record; fields hold it */
    CSV_BLANK,        /* an empty line */
    CSV_INCOMPLETE,   /* more bytes are needed */
    CSV_UNTERMINATED, /* a quoted field never ends; only the first line was consumed */
};

enum { CSV_RECORD_MAX = 16 << 20 }; /* bytes; a longer quoted record counts as unterminated */

/*
 * The first record of data. *consumed and *lines (line ends in it) count it with its line end; both
 * are 0 when incomplete. end: no bytes will follow, so a record may lack its line end.
 */
enum csv_result csv_next(struct csv_parser *parser, const char *data, size_t len, bool end,
                         size_t *consumed, uint64_t *lines);
const char *csv_text(const struct csv_parser *parser, size_t field);
void csv_free(struct csv_parser *parser);

#endif
