/*
 * Bytes of a file to rows: CSV or JSON lines, values by the types of the columns, what does not fit
 * to the error twin with file and line. Module-private.
 */
#ifndef TAILRACE_CORE_STORAGE_ROWS_H
#define TAILRACE_CORE_STORAGE_ROWS_H

#include "core/storage/csv.h"
#include "core/storage/jsonl.h"
#include "core/storage/part.h"
#include "core/storage/storage.h"

/* Of one source; parses one record after the other, gathering rows until rows_reset. */
struct rows_parser {
    const struct storage_collection *desc;
    struct csv_parser csv;
    struct jsonl_parser jsonl;
    struct datum *datums;
    struct arena arena; /* of one call */
    struct batch_builder *builder[STREAMS]; /* rows at time 0, diff 1 */
};

/* Where in which file the bytes are. */
struct rows_place {
    const char *path;
    bool first;     /* the bytes begin the file */
    uint64_t lines; /* before them */
};

void rows_init(struct rows_parser *parser, const struct storage_collection *desc);
void rows_free(struct rows_parser *parser);
/*
 * Takes the complete records of data. end: the file ends here. *consumed bytes and *lines were
 * taken, also when an error is returned: then what follows is not something to go on with (a wrong
 * header, a binary file, a line without an end); the error says what, its hint what to do.
 */
err_t rows_parse(struct rows_parser *parser, const struct rows_place *place, const uint8_t *data,
                 size_t len, bool end, size_t *consumed, uint64_t *lines);
/* Bytes the builders would need. */
size_t rows_built(const struct rows_parser *parser);
void rows_reset(struct rows_parser *parser);

#endif
