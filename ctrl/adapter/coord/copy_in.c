/*
 * COPY table FROM STDIN: records become rows of the transaction's writes.
 *
 * The statement stays in RUN_COPY_IN while messages of data come (copy_in_data) until the client
 * says that it was all (copy_in_end) or gives up. Rows gather in a set of the COPY's own and join
 * the transaction's at the end: a COPY that fails half-way leaves the transaction as it was.
 *
 * All of a COPY is appended at one time, with everything else its transaction wrote: readers see
 * all of it or nothing. That is why it is gathered in memory, and why there is a limit: an append
 * is one message to storaged.
 */
#include "core/base/assert.h"
#include "core/base/utf8.h"
#include "ctrl/adapter/coord/coord_internal.h"

#include <stdio.h>

enum { COPY_RECORD_MAX = 64 * 1024 * 1024 };

/* The COPY under way; the session's. row and arena are used again for each record. */
struct copy_in {
    struct session *session;
    struct sql_copy_target *target;
    struct copy_reader reader;
    struct write_set set;
    struct batch_builder *rows;
    struct datum *row;
    struct arena arena; /* of the row under way */
    const char *column; /* being converted, and its field; NULL: none */
    const struct copy_field *value;
    size_t bytes;       /* taken since the limit was looked at */
    uint64_t count;
};

/* In any state, also when there is none. */
void copy_in_free(struct session *s)
{
    struct copy_in *c = s->copy_in;
    if (c == NULL) {
        return;
    }
    copy_reader_free(&c->reader);
    write_set_clear(&c->set);
    sql_copy_target_free(c->target);
    arena_free(&c->arena);
    free(c->row);
    free(c);
    s->copy_in = NULL;
}

/* Fields to the columns the statement named; the others keep their defaults. */
static err_t convert(struct copy_in *c, const struct copy_field *fields)
{
    const struct sql_relation *rel = c->target->relation;
    ASSERT(c->target->columns_len == 0 || fields != NULL);
    for (uint32_t i = 0; i < c->target->columns_len; i++) {
        uint32_t col = c->target->columns[i];
        const struct type *type = &rel->columns.types[col];
        struct datum *d = &c->row[col];
        memset(d, 0, sizeof(*d));
        if (fields[i].data == NULL) {
            d->null = true;
            continue;
        }
        c->column = rel->columns.names[col];
        c->value = &fields[i];
        TRY(c->reader.options.binary
                ? datum_recv(type, (const uint8_t *)fields[i].data, fields[i].len, &c->arena, d)
                : datum_parse(type, fields[i].data, fields[i].len, &c->arena, d));
        c->column = NULL;
        c->bytes += 8 + fields[i].len;
    }
    return ERR_OK;
}

/* PostgreSQL's messages: too many, and the first column that is missing. */
static err_t check_fields(struct copy_in *c, size_t fields_len)
{
    const struct sql_relation *rel = c->target->relation;
    size_t want = c->target->columns_len;
    ASSERT(c->target->relation != NULL);
    if (fields_len == want) {
        return ERR_OK;
    }
    if (c->reader.options.binary) {
        return err_sql(ERR_INVALID, "22P04", "row field count is %zu, expected %zu", fields_len,
                       want);
    }
    if (fields_len > want) {
        return err_sql(ERR_INVALID, "22P04", "extra data after last expected column");
    }
    return err_sql(ERR_INVALID, "22P04", "missing data for column \"%s\"",
                   rel->columns.names[c->target->columns[fields_len]]);
}

/* The limit is looked at each megabyte: looking costs a walk over the columns. */
static err_t check_size(struct copy_in *c)
{
    if (c->bytes < WRITE_CHECK_BYTES) {
        return ERR_OK;
    }
    c->bytes = 0;
    return write_set_check(c->session->coord, &c->set, write_set_bytes(&c->session->tx.writes));
}

/* One record to one row of the set. An error stops the COPY, and nothing of it is written. */
static err_t on_record(void *arg, uint64_t line, const struct copy_field *fields,
                       size_t fields_len)
{
    struct copy_in *c = arg;
    const struct sql_relation *rel = c->target->relation;
    ASSERT(line > 0 && c->rows != NULL);
    /* An empty line of a table without columns, or of one column. */
    if (fields_len == 1 && c->target->columns_len == 0 && fields[0].len == 0) {
        fields_len = 0;
    }
    TRY(check_fields(c, fields_len));
    memcpy(c->row, c->target->defaults, rel->columns.cols * sizeof(*c->row));
    TRY(convert(c, fields));
    TRY(sql_check_row(rel, c->row));
    for (uint32_t i = 0; i < rel->columns.cols; i++) {
        batch_builder_datum(c->rows, i, &c->row[i]);
    }
    batch_builder_end_row(c->rows, 0, 1);
    c->count++;
    if (c->arena.used > 1024 * 1024) {
        arena_free(&c->arena);
    }
    return check_size(c);
}

/* PostgreSQL shows so many bytes of a line or a value in an error's context. */
enum { COPY_CONTEXT_BYTES = 100 };

/* Cuts at a character, not in the middle of one. */
static int shown(const char *text, size_t len)
{
    size_t n = len < COPY_CONTEXT_BYTES ? len : COPY_CONTEXT_BYTES;
    while (n > 0 && n < len && ((uint8_t)text[n] & 0xc0) == 0x80) {
        n--;
    }
    return (int)n;
}

/*
 * Where in the data it was, as PostgreSQL's CONTEXT has it:
 *     COPY t, line 3, column a: "x"     a value that does not convert
 *     COPY t, line 3: "1<tab>2<tab>3"   a line that does not fit
 *     COPY t, line 3, column a          in the binary format
 */
static err_t with_context(struct copy_in *c, err_t err)
{
    const struct copy_reader *r = &c->reader;
    const char *name = c->target->relation->name;
    unsigned long long line = (unsigned long long)r->line;
    ASSERT(err != ERR_OK);
    if (r->options.binary) {
        return c->column != NULL ? err_wrap(err, "COPY %s, line %llu, column %s", name, line,
                                            c->column)
                                 : err_wrap(err, "COPY %s, line %llu", name, line);
    }
    bool value = c->column != NULL;
    const char *text = value ? c->value->data : r->text_at;
    size_t len = value ? c->value->len : r->text_len;
    if (text == NULL || !utf8_valid(text, len)) {
        return err_wrap(err, "COPY %s, line %llu", name, line);
    }
    int n = shown(text, len);
    const char *more = (size_t)n < len ? "..." : "";
    return value ? err_wrap(err, "COPY %s, line %llu, column %s: \"%.*s%s\"", name, line,
                            c->column, n, text, more)
                 : err_wrap(err, "COPY %s, line %llu: \"%.*s%s\"", name, line, n, text, more);
}

/* Also of COPY TO: what the statement says, checked for what the parser cannot know. */
err_t copy_in_options(const struct sql_stmt *stmt, struct copy_options *out)
{
    ASSERT(stmt->kind == SQL_COPY_FROM || stmt->kind == SQL_COPY_TO);
    if (stmt->copy.binary && stmt->copy.header) {
        return err_sql(ERR_INVALID, "42601", "cannot specify HEADER in BINARY mode");
    }
    *out = (struct copy_options){.csv = stmt->copy.csv,
                                 .binary = stmt->copy.binary,
                                 .header = stmt->copy.header,
                                 .delimiter = stmt->copy.delimiter,
                                 .quote = stmt->copy.quote,
                                 .escape = stmt->copy.escape,
                                 .null = stmt->copy.null};
    return ERR_OK;
}

/* Everything that can be wrong with the statement is told before the client sends data. */
static err_t start(struct session *s, const struct sql_stmt *stmt)
{
    struct portal *p = s->run.portal;
    struct sql_context cx;
    struct copy_options options;
    TRY(copy_in_options(stmt, &options));
    TRY(transact_enter_write(s));
    names_context(s, &cx);
    cx.param_types = p->param_types;
    cx.params = p->params;
    cx.params_len = p->params_len;
    struct copy_in *c = MEM_NEW(struct copy_in);
    err_t err = sql_plan_copy(&cx, stmt, &c->target);
    if (err != ERR_OK) {
        free(c);
        return err;
    }
    const struct sql_relation *rel = c->target->relation;
    ASSERT(rel != NULL && rel->kind == SQL_REL_TABLE);
    c->session = s;
    c->row = mem_zalloc((rel->columns.cols + 1) * sizeof(*c->row));
    c->rows = write_set_table(&c->set, rel->id, &rel->columns);
    copy_reader_init(&c->reader, &options, COPY_RECORD_MAX, on_record, c);
    s->copy_in = c;
    s->run.state = RUN_COPY_IN;
    pgwire_send_copy_in(s->conn, c->target->columns_len, options.binary);
    return ERR_OK;
}

/* From here on messages go to copy_in_data, until the statement is over. */
void copy_in_start(struct session *s, const struct sql_stmt *stmt)
{
    ASSERT(s->copy_in == NULL);
    err_t err = start(s, stmt);
    if (err != ERR_OK) {
        statement_fail(s, err);
    }
}

/* After an error the client's remaining messages are dropped by pgwire. */
void copy_in_data(struct session *s, const uint8_t *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    ASSERT(s->run.state == RUN_COPY_IN && s->copy_in != NULL);
    err_t err = copy_reader_feed(&s->copy_in->reader, data, len);
    if (err != ERR_OK) {
        statement_fail(s, with_context(s->copy_in, err));
    }
}

/* The rows join what the transaction has written so far. */
static void join(struct session *s, struct copy_in *c)
{
    ASSERT(batch_builder_rows(c->rows) == c->count);
    const struct sql_relation *rel = c->target->relation;
    struct batch_builder *into = write_set_table(&s->tx.writes, rel->id, &rel->columns);
    struct batch_col cols[BATCH_COLS_MAX];
    struct batch view;
    size_t size = 0;
    void *bytes = batch_builder_finish_new(c->rows, &size);
    batch_view(bytes, size, cols, BATCH_COLS_MAX, &view);
    batch_builder_rows_of(into, &view, NULL, 0);
    free(bytes);
}

/* failure: the client's words. The rows are the transaction's now; whether they are durable the
 * statement's end or the transaction's tells. */
void copy_in_end(struct session *s, const char *failure)
{
    struct copy_in *c = s->copy_in;
    ASSERT(s->run.state == RUN_COPY_IN && c != NULL);
    if (failure != NULL) {
        statement_fail(s, err_sql(ERR_CANCELLED, "57014", "COPY from stdin failed: %s", failure));
        return;
    }
    err_t err = copy_reader_end(&c->reader);
    if (err != ERR_OK) {
        statement_fail(s, with_context(c, err));
        return;
    }
    err = write_set_check(s->coord, &c->set, write_set_bytes(&s->tx.writes));
    if (err != ERR_OK) {
        statement_fail(s, err);
        return;
    }
    join(s, c);
    snprintf(s->run.tag, sizeof(s->run.tag), "COPY %llu", (unsigned long long)c->count);
    copy_in_free(s);
    s->run.state = RUN_BUSY;
    statement_complete(s, s->run.tag);
}
