/*
 * The text and CSV formats of COPY: bytes to records of fields and back, as PostgreSQL 15 reads and
 * writes them. Streaming: a record may arrive in any number of pieces. Pure: no I/O.
 */
#ifndef TAILRACE_CTRL_ADAPTER_PGWIRE_COPY_H
#define TAILRACE_CTRL_ADAPTER_PGWIRE_COPY_H

#include "core/base/buf.h"
#include "core/base/err.h"

struct copy_options {
    bool csv;
    bool header;      /* the first line has names: skipped when read, written when written */
    char delimiter;   /* between fields */
    char quote;       /* CSV */
    char escape;      /* CSV */
    const char *null; /* the text of NULL */
};

/* One field, unescaped; data NULL: NULL. */
struct copy_field {
    const char *data;
    size_t len;
};

/* Fields valid during the call. line: number of the record's first line, from 1. */
typedef err_t (*copy_record_fn)(void *arg, uint64_t line, const struct copy_field *fields,
                                size_t fields_len);

/* The state between two pieces of data. The owner's, who calls from one thread. */
struct copy_reader {
    struct copy_options options;
    copy_record_fn record; /* runs inside copy_reader_feed and copy_reader_end */
    void *arg;
    size_t record_max;  /* bytes of one record */
    struct buf pending; /* the record under way */
    size_t scanned;     /* bytes of pending known to hold no end of record */
    bool in_quotes;     /* at scanned, CSV */
    uint64_t line;      /* of the record under way */
    uint64_t lines_in;  /* line breaks inside it */
    bool header_seen;
    bool ended;         /* after the end marker "\." */
    struct copy_field *fields;
    size_t fields_len, fields_cap;
    struct buf text;    /* unescaped fields of one record */
};

void copy_reader_init(struct copy_reader *r, const struct copy_options *options, size_t record_max,
                      copy_record_fn record, void *arg);
/* 22P04 with line; stops at the first error, also of record. */
err_t copy_reader_feed(struct copy_reader *r, const void *data, size_t len);
/* The data is complete: a last record without a line break counts. */
err_t copy_reader_end(struct copy_reader *r);
void copy_reader_free(struct copy_reader *r);

/* Appends one field, with the delimiter before it unless first. data NULL: NULL. */
void copy_write_field(const struct copy_options *options, bool first, const char *data, size_t len,
                      struct buf *out);

#endif
