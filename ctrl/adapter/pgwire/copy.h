/*
 * The formats of COPY (text, CSV, binary): bytes to records of fields and back, as PostgreSQL 15
 * reads and writes them. Streaming: a record may arrive in any number of pieces. Pure: no I/O.
 */
#ifndef TAILRACE_CTRL_ADAPTER_PGWIRE_COPY_H
#define TAILRACE_CTRL_ADAPTER_PGWIRE_COPY_H

#include "core/base/buf.h"
#include "core/base/err.h"

struct copy_options {
    bool csv;
    bool binary;      /* then nothing else here matters */
    bool header;      /* the first line has names: skipped when read, written when written */
    char delimiter;   /* between fields */
    char quote;       /* CSV */
    char escape;      /* CSV */
    const char *null; /* the text of NULL */
};

/* One field, unescaped, or the binary form of its value; data NULL: NULL. */
struct copy_field {
    const char *data;
    size_t len;
};

/* Fields valid during the call. line: number of the record's first line, from 1; in the binary
 * format the number of the record. */
typedef err_t (*copy_record_fn)(void *arg, uint64_t line, const struct copy_field *fields,
                                size_t fields_len);

/* The state between two pieces of data. The owner's, who calls from one thread. */
struct copy_reader {
    struct copy_options options;
    copy_record_fn record; /* runs inside copy_reader_feed and copy_reader_end */
    void *arg;
    size_t record_max;  /* bytes of one record */
    struct buf pending; /* the record under way */
    size_t scanned;     /* bytes of pending known to hold no end of record; binary: those needed */
    bool in_quotes;     /* at scanned, CSV */
    uint64_t line;      /* of the record under way */
    uint64_t lines_in;  /* line breaks inside it */
    bool header_seen;
    bool ended;         /* after the end marker "\." */
    const char *text_at; /* the record's text while its callback runs, or it failed; else NULL */
    size_t text_len;
    struct copy_field *fields;
    size_t fields_len, fields_cap;
    struct buf text;    /* unescaped fields of one record */
};

void copy_reader_init(struct copy_reader *r, const struct copy_options *options, size_t record_max,
                      copy_record_fn record, void *arg);
/* Stops at the first error, also of record; r->line then is the record's. */
err_t copy_reader_feed(struct copy_reader *r, const void *data, size_t len);
/* The data is complete: a last record without a line break counts. */
err_t copy_reader_end(struct copy_reader *r);
void copy_reader_free(struct copy_reader *r);

/* Appends one field, with the delimiter before it unless first. data NULL: NULL. */
void copy_write_field(const struct copy_options *options, bool first, const char *data, size_t len,
                      struct buf *out);

/* The binary format: a header, for each record its number of fields and the fields, an end. data
 * NULL: NULL. */
void copy_write_binary_header(struct buf *out);
void copy_write_binary_count(int16_t fields, struct buf *out);
void copy_write_binary_field(const void *data, size_t len, struct buf *out);
void copy_write_binary_end(struct buf *out);

#endif
