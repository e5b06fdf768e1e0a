/*
 * Records to rows: see rows.h. A record that does not fit its columns becomes a row of the error
 * twin (sqlstate, message, "path:line"), with diff +1 like any row: so it vanishes when its line
 * does, by the same arithmetic. What makes the rest of the file meaningless (a wrong header, a zero
 * byte, a line without an end) is an error of the call instead, and stops the file there.
 *
 * SQLSTATEs are those PostgreSQL's COPY would give: 22P04 for a wrong number of fields or a
 * malformed file, 23502 for NOT NULL, 22021 for invalid UTF-8, and the types' own.
 */
#include "core/storage/rows.h"

#include "core/base/utf8.h"

enum { LINE_BYTES_MAX = CSV_RECORD_MAX + (1 << 20), BOM_BYTES = 3 };

/* desc must outlive the parser. */
void rows_init(struct rows_parser *parser, const struct storage_collection *desc)
{
    *parser = (struct rows_parser){.desc = desc};
    parser->csv.delimiter = desc->csv_delimiter;
    parser->csv.quote = desc->csv_quote;
    jsonl_init(&parser->jsonl, desc->types, desc->names, desc->cols);
    parser->datums = mem_zalloc(desc->cols * sizeof(parser->datums[0]));
    uint8_t *kinds = mem_alloc(desc->cols);
    for (size_t c = 0; c < desc->cols; c++) {
        kinds[c] = desc->types[c].kind;
    }
    parser->builder[STREAM_OK] = batch_builder_new(kinds, desc->cols);
    parser->builder[STREAM_ERR] = batch_builder_new(batch_err_kinds, ERR_COLS);
    free(kinds);
}

void rows_free(struct rows_parser *parser)
{
    csv_free(&parser->csv);
    jsonl_free(&parser->jsonl);
    for (int s = 0; s < STREAMS; s++) {
        batch_builder_free(parser->builder[s]);
    }
    arena_free(&parser->arena);
    free(parser->datums);
}

size_t rows_built(const struct rows_parser *parser)
{
    ASSERT(parser->desc != NULL);
    size_t size = 0;
    for (int s = 0; s < STREAMS; s++) {
        struct batch_builder *b = parser->builder[s];
        size += batch_builder_rows(b) > 0 ? batch_builder_size(b) : 0;
    }
    return size;
}

void rows_reset(struct rows_parser *parser)
{
    for (int s = 0; s < STREAMS; s++) {
        batch_builder_reset(parser->builder[s]);
    }
}

/* ---- one record ------------------------------------------------------------------------------ */

/* One column of the error twin. */
static void put_text(struct batch_builder *b, size_t col, const char *s, size_t len)
{
    ASSERT(col < ERR_COLS);
    struct datum d = {.len = (uint32_t)len, .s = s};
    batch_builder_datum(b, col, &d);
}

/* The error twin's row of a bad record. Takes over err. */
static void put_error(struct rows_parser *parser, const struct rows_place *place, uint64_t line,
                      err_t err)
{
    ASSERT(err != ERR_OK && line > 0);
    struct batch_builder *b = parser->builder[STREAM_ERR];
    struct buf context = {0};
    buf_printf(&context, "%s:%llu", place->path, (unsigned long long)line);
    const char *message = err_text(err);
    /* A message may quote bytes of the file. */
    bool clean = utf8_valid(message, strlen(message));
    put_text(b, ERR_COL_SQLSTATE, err_sqlstate(err), strlen(err_sqlstate(err)));
    put_text(b, ERR_COL_MESSAGE, clean ? message : "malformed record",
             clean ? strlen(message) : 16);
    put_text(b, ERR_COL_CONTEXT, (const char *)context.data, context.len);
    batch_builder_end_row(b, 0, 1);
    buf_free(&context);
    err_free(err);
}

/* The datum's memory is the parser's text or its arena, both until the end of the call. */
static err_t put_value(struct rows_parser *parser, size_t col, bool null, const char *text,
                       size_t len)
{
    ASSERT(col < parser->desc->cols);
    const struct type *type = &parser->desc->types[col];
    struct datum *d = &parser->datums[col];
    *d = (struct datum){.null = null};
    if (null && !type->nullable) {
        return err_sql(ERR_INVALID, "23502",
                       "null value in column \"%s\" violates not-null constraint",
                       parser->desc->names[col]);
    }
    if (null) {
        return ERR_OK;
    }
    return err_wrap(datum_parse(type, text, len, &parser->arena, d), "column \"%s\"",
                    parser->desc->names[col]);
}

/* Only what is not quoted can be NULL, as for COPY. */
static err_t put_csv(struct rows_parser *parser)
{
    const struct storage_collection *desc = parser->desc;
    const struct csv_parser *csv = &parser->csv;
    const char *null = desc->csv_null != NULL ? desc->csv_null : "";
    size_t null_len = strlen(null);
    if (csv->field_len != desc->cols) {
        return err_sql(ERR_INVALID, "22P04", "expected %zu fields, found %zu", desc->cols,
                       csv->field_len);
    }
    for (size_t c = 0; c < desc->cols; c++) {
        const struct csv_field *field = &csv->field[c];
        const char *text = csv_text(csv, c);
        bool is_null =
            !field->quoted && field->len == null_len && memcmp(text, null, null_len) == 0;
        TRY(put_value(parser, c, is_null, text, field->len));
    }
    return ERR_OK;
}

static err_t put_jsonl(struct rows_parser *parser, const char *line, size_t len)
{
    TRY(jsonl_parse(&parser->jsonl, line, len));
    for (size_t c = 0; c < parser->desc->cols; c++) {
        const struct jsonl_value *value = &parser->jsonl.value[c];
        const char *text = value->null ? "" : jsonl_text(&parser->jsonl, c);
        TRY(put_value(parser, c, value->null, text, value->len));
    }
    return ERR_OK;
}

/* The row of the values parsed, or the error's. */
static void put_row(struct rows_parser *parser, const struct rows_place *place, uint64_t line,
                    err_t err)
{
    ASSERT(line > 0);
    if (err != ERR_OK) {
        put_error(parser, place, line, err);
        return;
    }
    struct batch_builder *b = parser->builder[STREAM_OK];
    for (size_t c = 0; c < parser->desc->cols; c++) {
        batch_builder_datum(b, c, &parser->datums[c]);
    }
    batch_builder_end_row(b, 0, 1);
}

static err_t check_utf8(const uint8_t *data, size_t len)
{
    return utf8_valid(data, len)
               ? ERR_OK
               : err_sql(ERR_INVALID, "22021", "invalid byte sequence for encoding \"UTF8\"");
}

/* ---- records --------------------------------------------------------------------------------- */

/*
 * Names are compared exactly, as COPY ... HEADER MATCH does: a file with its columns in another
 * order must not be read as if it were not.
 */
static err_t check_header(const struct rows_parser *parser, const char *path)
{
    const struct csv_parser *csv = &parser->csv;
    const struct storage_collection *desc = parser->desc;
    const char *hint = "Create the source with the columns of the file, or without a header.";
    if (csv->field_len != desc->cols) {
        return err_hint(err_sql(ERR_INVALID, "22P04", "%s: the header has %zu columns, not %zu",
                                path, csv->field_len, desc->cols),
                        "%s", hint);
    }
    for (size_t c = 0; c < desc->cols; c++) {
        const char *name = desc->names[c];
        uint32_t len = csv->field[c].len;
        if (len != strlen(name) || memcmp(csv_text(csv, c), name, len) != 0) {
            bool clean = len < 100 && utf8_valid(csv_text(csv, c), len);
            return err_hint(err_sql(ERR_INVALID, "22P04",
                                    "%s: column %zu of the header is \"%.*s\", not \"%s\"", path,
                                    c + 1, clean ? (int)len : 0, csv_text(csv, c), name),
                            "%s", hint);
        }
    }
    return ERR_OK;
}

/* One record of CSV. *size 0: none is complete. */
static err_t next_csv(struct rows_parser *parser, const struct rows_place *place,
                      const uint8_t *data, size_t len, bool end, bool header, uint64_t line,
                      size_t *size, uint64_t *lines)
{
    enum csv_result result = csv_next(&parser->csv, (const char *)data, len, end, size, lines);
    if (result == CSV_INCOMPLETE) {
        return ERR_OK;
    }
    if (header) {
        return check_header(parser, place->path);
    }
    if (result == CSV_UNTERMINATED) {
        put_error(parser, place, line + 1,
                  err_sql(ERR_INVALID, "22P04", "unterminated quoted field"));
        return ERR_OK;
    }
    if (result == CSV_BLANK && parser->desc->cols > 1) {
        return ERR_OK;
    }
    err_t err = check_utf8(data, *size);
    if (err == ERR_OK) {
        err = put_csv(parser);
    }
    put_row(parser, place, line + 1, err);
    return ERR_OK;
}

static void next_jsonl(struct rows_parser *parser, const struct rows_place *place,
                       const uint8_t *data, size_t len, bool end, uint64_t line, size_t *size,
                       uint64_t *lines)
{
    const uint8_t *eol = memchr(data, '\n', len);
    *size = eol != NULL ? (size_t)(eol - data) + 1 : end ? len : 0;
    *lines = *size > 0;
    size_t text = eol != NULL ? *size - 1 : *size;
    text -= text > 0 && data[text - 1] == '\r';
    size_t blank = 0;
    while (blank < text && (data[blank] == ' ' || data[blank] == '\t')) {
        blank++;
    }
    if (blank == text) {
        return;
    }
    err_t err = check_utf8(data, text);
    if (err == ERR_OK) {
        err = put_jsonl(parser, (const char *)data, text);
    }
    put_row(parser, place, line + 1, err);
}

/* A byte order mark at the very beginning is no content. */
static err_t take_records(struct rows_parser *parser, const struct rows_place *place,
                          const uint8_t *data, size_t len, bool end, size_t *consumed,
                          uint64_t *lines)
{
    ASSERT(*consumed == 0 && *lines == 0);
    static const uint8_t bom[BOM_BYTES] = {0xEF, 0xBB, 0xBF};
    bool csv = parser->desc->format == STORAGE_CSV;
    bool header = csv && parser->desc->csv_header && place->first;
    size_t at = place->first && len >= BOM_BYTES && memcmp(data, bom, BOM_BYTES) == 0 ? BOM_BYTES
                                                                                      : 0;
    err_t err = ERR_OK;
    while (at < len && err == ERR_OK) {
        size_t size = 0;
        uint64_t its_lines = 0;
        uint64_t line = place->lines + *lines;
        if (csv) {
            err = next_csv(parser, place, data + at, len - at, end, header, line, &size,
                           &its_lines);
        } else {
            next_jsonl(parser, place, data + at, len - at, end, line, &size, &its_lines);
        }
        if (size == 0 || err != ERR_OK) {
            break;
        }
        header = false;
        at += size;
        ASSERT(at <= len);
        *consumed = at;
        *lines += its_lines;
    }
    if (end && err == ERR_OK && at == len) {
        *consumed = len; /* nothing but a byte order mark */
    }
    return err;
}

/*
 * A zero byte is in no text: what stands before it is taken, and the error says in which line it
 * is.
 */
err_t rows_parse(struct rows_parser *parser, const struct rows_place *place, const uint8_t *data,
                 size_t len, bool end, size_t *consumed, uint64_t *lines)
{
    *consumed = 0;
    *lines = 0;
    const uint8_t *nul = len > 0 ? memchr(data, '\0', len) : NULL;
    size_t clean = nul != NULL ? (size_t)(nul - data) : len;
    err_t err = take_records(parser, place, data, clean, end && nul == NULL, consumed, lines);
    arena_free(&parser->arena);
    if (err == ERR_OK && nul != NULL) {
        err = err_hint(err_sql(ERR_INVALID, "22P04",
                               "%s is not text: line %llu contains a zero byte",
                               place->path, (unsigned long long)(place->lines + *lines + 1)),
                       "Replace the file: ingestion goes on by itself.");
    } else if (err == ERR_OK && len - *consumed > LINE_BYTES_MAX) {
        err = err_hint(err_sql(ERR_LIMIT, "22P04", "%s: line %llu is longer than %d MiB",
                               place->path, (unsigned long long)(place->lines + *lines + 1),
                               LINE_BYTES_MAX >> 20),
                       "Break the line up, or replace the file: ingestion goes on by itself.");
    }
    return err;
}
