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

/* Fields to the columns the statement named; the others keep their defaults. The error's context is
 * PostgreSQL's: where to look in the file. */
static err_t convert(struct copy_in *c, uint64_t line, const struct copy_field *fields)
{
    const struct sql_relation *rel = c->target->relation;
    ASSERT(c->target->columns_len > 0 || fields != NULL);
    for (uint32_t i = 0; i < c->target->columns_len; i++) {
        uint32_t col = c->target->columns[i];
        struct datum *d = &c->row[col];
        memset(d, 0, sizeof(*d));
        if (fields[i].data == NULL) {
            d->null = true;
            continue;
        }
        err_t err = datum_parse(&rel->columns.types[col], fields[i].data, fields[i].len, &c->arena,
                                d);
        if (err != ERR_OK) {
            return err_detail(err, "COPY %s, line %llu, column %s", rel->name,
                              (unsigned long long)line, rel->columns.names[col]);
        }
    }
    return ERR_OK;
}

/* PostgreSQL's two messages: too many, and the first column that is missing. */
static err_t check_fields(struct copy_in *c, uint64_t line, size_t fields_len)
{
    const struct sql_relation *rel = c->target->relation;
    err_t err = ERR_OK;
    ASSERT(c->target->relation != NULL);
    if (fields_len > c->target->columns_len) {
        err = err_sql(ERR_INVALID, "22P04", "extra data after last expected column");
    } else if (fields_len < c->target->columns_len) {
        err = err_sql(ERR_INVALID, "22P04", "missing data for column \"%s\"",
                      rel->columns.names[c->target->columns[fields_len]]);
    }
    return err == ERR_OK ? ERR_OK
                         : err_detail(err, "COPY %s, line %llu", rel->name,
                                      (unsigned long long)line);
}

/* One record to one row of the set. An error stops the COPY, and nothing of it is written. */
static err_t on_record(void *arg, uint64_t line, const struct copy_field *fields,
                       size_t fields_len)
{
    struct copy_in *c = arg;
    const struct sql_relation *rel = c->target->relation;
    static const struct copy_field empty = {"", 0};
    ASSERT(arg != NULL);
    /* An empty line of a table without columns, or of one column. */
    if (fields_len == 1 && c->target->columns_len == 0 && fields[0].len == 0) {
        fields_len = 0;
        fields = &empty;
    }
    TRY(check_fields(c, line, fields_len));
    memcpy(c->row, c->target->defaults, rel->columns.cols * sizeof(*c->row));
    TRY(convert(c, line, fields));
    TRY(sql_check_row(rel, c->row));
    for (uint32_t i = 0; i < rel->columns.cols; i++) {
        batch_builder_datum(c->rows, i, &c->row[i]);
    }
    batch_builder_end_row(c->rows, 0, 1);
    c->count++;
    if (c->arena.used > 1024 * 1024) {
        arena_free(&c->arena);
    }
    if ((c->count & 1023) == 0 &&
        batch_builder_size(c->rows) > c->session->coord->config.max_copy_bytes) {
        return err_hint(err_sql(ERR_LIMIT, "54000", "a COPY may bring at most %zu bytes",
                                c->session->coord->config.max_copy_bytes),
                        "Split the data into several COPY statements.");
    }
    return ERR_OK;
}

/* Everything that can be wrong with the statement is told before the client sends data. */
static err_t start(struct session *s, const struct sql_stmt *stmt)
{
    struct portal *p = s->run.portal;
    struct sql_context cx;
    if (stmt->copy.binary) {
        return err_sql(ERR_UNSUPPORTED, "0A000", "COPY in binary format is not supported");
    }
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
    const struct copy_options options = {.csv = stmt->copy.csv,
                                         .header = stmt->copy.header,
                                         .delimiter = stmt->copy.delimiter,
                                         .quote = stmt->copy.quote,
                                         .escape = stmt->copy.escape,
                                         .null = stmt->copy.null};
    c->session = s;
    c->row = mem_zalloc((rel->columns.cols + 1) * sizeof(*c->row));
    c->rows = write_set_table(&c->set, rel->id, &rel->columns);
    copy_reader_init(&c->reader, &options, COPY_RECORD_MAX, on_record, c);
    s->copy_in = c;
    s->run.state = RUN_COPY_IN;
    pgwire_send_copy_in(s->conn, c->target->columns_len);
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
        statement_fail(s, err);
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
        statement_fail(s, err);
        return;
    }
    join(s, c);
    snprintf(s->run.tag, sizeof(s->run.tag), "COPY %llu", (unsigned long long)c->count);
    copy_in_free(s);
    s->run.state = RUN_BUSY;
    statement_complete(s, s->run.tag);
}
