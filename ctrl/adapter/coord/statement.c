/*
 * One statement: what it is, who does it, how its rows go out, and how it ends. The continuation
 * between two callbacks is session->run.state; every way out is statement_complete or
 * statement_fail, which run exactly once per statement.
 *
 *     NONE -> BUSY -+-> NONE                                 SET, CREATE, BEGIN...
 *                   +-> [WAIT ->] READ -> SEND -> NONE       SELECT, COPY TO, FETCH
 *                   +-> SURVEY -> (as above)                 SELECT of what runtimes count
 *                   +-> [WAIT ->] READ -> SURVEY -> SEND -> NONE    EXPLAIN ANALYZE of a query
 *                   +-> [WAIT ->] SUBSCRIBE -> NONE          SUBSCRIBE, until it is cancelled
 *                   +-> READ -> NONE                         INSERT ... VALUES
 *                   +-> LOCK -> READ -> COMMIT -> NONE       UPDATE, DELETE (change.c)
 *                   +-> COPY_IN -> NONE                      COPY FROM
 * and COMMIT may stand before the end of any of them, where an implicit transaction ends.
 *
 * Functions that start something return an error only when nothing was started; once the state has
 * moved, the callbacks own the ending. After statement_complete or statement_fail nothing of the
 * run may be touched: the next statement may already be under way.
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

#include <stdio.h>

/* ---- ends ------------------------------------------------------------------------------------ */

/* Takes err. The statement must be running; it is over when this returns. */
void statement_fail(struct session *s, err_t err)
{
    ASSERT(err != ERR_OK && s->run.state != RUN_NONE);
    session_statement_done(s, err);
}

/* The tag was made; what had to be committed is. */
static void send_complete(struct session *s)
{
    ASSERT(s->run.tag[0] != '\0');
    pgwire_send_command_complete(s->conn, s->run.tag);
    session_statement_done(s, ERR_OK);
}

/* The implicit transaction of the last statement of a script. */
static void on_committed(struct session *s, err_t err)
{
    ASSERT(s->run.state == RUN_COMMIT);
    if (err != ERR_OK) {
        statement_fail(s, err);
    } else {
        send_complete(s);
    }
}

/* tag is copied, or is run.tag itself. */
void statement_complete(struct session *s, const char *tag)
{
    ASSERT(s->run.state != RUN_NONE);
    if (tag != s->run.tag) {
        snprintf(s->run.tag, sizeof(s->run.tag), "%s", tag);
    }
    /* A client that is told "INSERT 0 1" relies on it: commit first, unless more follows in the
     * same implicit transaction, whose end then says how it went. */
    bool last = s->script_run && s->script_at + 1 == s->script->script->stmts_len;
    if (last && !transact_in_block(s) && !write_set_empty(&s->tx.writes)) {
        s->run.state = RUN_COMMIT;
        transact_commit(s, on_committed);
        return;
    }
    send_complete(s);
}

/* By the client, or by statement_timeout. What was handed to the writer cannot be taken back: the
 * client gets its regular answer, which is the truth. Takes err. */
void statement_cancel(struct session *s, err_t err)
{
    ASSERT(err != ERR_OK);
    if (s->job.state == WRITE_FLYING || (s->job.state == WRITE_QUEUED && !s->job.locks)) {
        err_free(err); /* it will be durable in a moment: too late to take back */
        return;
    }
    statement_fail(s, blocked_explain(s, err));
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* May run again with other columns (a cursor's FETCH): the arena keeps the old ones until the
 * portal goes. */
void portal_set_columns(struct portal *p, const struct schema *columns)
{
    uint32_t n = columns->cols;
    struct arena *a = &p->arena;
    ASSERT(columns->cols <= PGWIRE_PARAMS_MAX);
    p->columns.cols = n;
    p->columns.types = ARENA_ARRAY(a, struct type, n + 1);
    p->columns.names = ARENA_ARRAY(a, const char *, n + 1);
    p->column_formats = ARENA_ARRAY(a, int16_t, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        p->columns.types[i] = columns->types[i];
        p->columns.names[i] = arena_strdup(a, columns->names[i]);
        if (p->formats_len > 0) {
            p->column_formats[i] = p->formats[p->formats_len == 1 ? 0 : i];
        }
    }
}

/* What comes before the first row: the binary format's header, or with HEADER the columns' names as
 * a record in the format of the data. */
static void begin_copy(struct session *s)
{
    const struct schema *columns = &s->run.portal->columns;
    const struct copy_options *copy = &s->run.copy;
    struct buf *line = &s->copy_line;
    pgwire_send_copy_out(s->conn, columns->cols, copy->binary);
    buf_clear(line);
    if (copy->binary) {
        copy_write_binary_header(line);
    } else if (copy->header) {
        for (uint32_t i = 0; i < columns->cols; i++) {
            const char *name = columns->names[i];
            copy_write_field(copy, i == 0, name, strlen(name), line);
        }
        buf_append_byte(line, '\n');
    }
    if (line->len > 0) {
        pgwire_send_copy_data(s->conn, line->data, line->len);
    }
}

err_t statement_announce(struct session *s)
{
    struct run *run = &s->run;
    struct portal *p = run->portal;
    ASSERT(run->source != NULL);
    if (p != run->source) {
        /* FETCH: the cursor's columns in the formats asked of the FETCH. */
        if (p->formats_len > 1 && p->formats_len != run->source->columns.cols) {
            return err_sql(ERR_PROTOCOL, "08P01", "result formats do not match the cursor");
        }
        portal_set_columns(p, &run->source->columns);
    }
    if (run->copy_out) {
        begin_copy(s);
    } else if (run->describe) {
        pgwire_send_row_description(s->conn, p->columns.names, p->columns.types, p->columns.cols,
                                    p->column_formats);
    }
    run->describe = false;
    return ERR_OK;
}

/* Values in their text form, then escaped as the format says; NULL is the format's. */
static void text_record(struct session *s, const struct schema *columns, const struct datum *row)
{
    struct buf *field = &s->copy_field;
    ASSERT(!s->run.copy.binary);
    for (uint32_t i = 0; i < columns->cols; i++) {
        buf_clear(field);
        buf_reserve(field, 1); /* an empty text is not NULL */
        if (!row[i].null) {
            datum_print(&columns->types[i], &row[i], field);
        }
        copy_write_field(&s->run.copy, i == 0, row[i].null ? NULL : (const char *)field->data,
                         field->len, &s->copy_line);
    }
    buf_append_byte(&s->copy_line, '\n');
}

/* NULL is a length of -1, without bytes. */
static void binary_record(struct session *s, const struct schema *columns, const struct datum *row)
{
    struct buf *field = &s->copy_field;
    ASSERT(columns->cols <= INT16_MAX);
    copy_write_binary_count((int16_t)columns->cols, &s->copy_line);
    for (uint32_t i = 0; i < columns->cols; i++) {
        buf_clear(field);
        buf_reserve(field, 1);
        if (!row[i].null) {
            datum_send(&columns->types[i], &row[i], field);
        }
        copy_write_binary_field(row[i].null ? NULL : field->data, field->len, &s->copy_line);
    }
}

/* The buffers are the session's: they are used again for each row. */
static void send_copy(struct session *s, const struct datum *row)
{
    ASSERT(s->run.copy_out);
    buf_clear(&s->copy_line);
    if (s->run.copy.binary) {
        binary_record(s, &s->run.portal->columns, row);
    } else {
        text_record(s, &s->run.portal->columns, row);
    }
    pgwire_send_copy_data(s->conn, s->copy_line.data, s->copy_line.len);
}

void statement_send_one(struct session *s, const struct datum *row)
{
    const struct portal *p = s->run.portal;
    if (s->run.copy_out) {
        send_copy(s, row);
    } else {
        pgwire_send_row(s->conn, p->columns.types, row, p->columns.cols, p->column_formats);
    }
    s->run.sent++;
}

/* What PostgreSQL says: the number of rows sent, not of those there are. */
static const char *rows_tag(struct session *s)
{
    struct run *run = &s->run;
    const struct sql_stmt *stmt = run->portal->prepared->stmt;
    unsigned long long n = run->sent;
    ASSERT(s->run.portal->prepared->stmt != NULL);
    switch (stmt->kind) {
    case SQL_SELECT:
    case SQL_SUBSCRIBE: snprintf(run->tag, sizeof(run->tag), "SELECT %llu", n); break;
    case SQL_FETCH: snprintf(run->tag, sizeof(run->tag), "FETCH %llu", n); break;
    case SQL_COPY_TO: snprintf(run->tag, sizeof(run->tag), "COPY %llu", n); break;
    case SQL_INSERT:
    case SQL_UPDATE:
    case SQL_DELETE: /* RETURNING: the tag was made with the change, by the first Execute */
        snprintf(run->tag, sizeof(run->tag), "%s", run->portal->tag);
        break;
    case SQL_SHOW_OBJECTS: snprintf(run->tag, sizeof(run->tag), "SELECT %llu", n); break;
    default: snprintf(run->tag, sizeof(run->tag), "%s", stmt->tag); break;
    }
    return run->tag;
}

/* The binary format has an end of its own, before CopyDone. */
static void end_copy(struct session *s)
{
    if (s->run.copy.binary) {
        buf_clear(&s->copy_line);
        copy_write_binary_end(&s->copy_line);
        pgwire_send_copy_data(s->conn, s->copy_line.data, s->copy_line.len);
    }
    pgwire_send_copy_done(s->conn);
}

/* Only the extended protocol suspends: FETCH with a count is complete when it has its rows. */
void statement_rows_over(struct session *s, bool exhausted)
{
    ASSERT(s->run.state == RUN_SEND || s->run.state == RUN_SUBSCRIBE);
    if (s->run.copy_out) {
        end_copy(s);
    }
    if (s->coord->rows_sent != NULL) {
        metric_add(s->coord->rows_sent, s->run.sent);
    }
    if (!exhausted && s->run.suspends) {
        pgwire_send_portal_suspended(s->conn);
        session_statement_done(s, ERR_OK);
        return;
    }
    statement_complete(s, rows_tag(s));
}

/* Sends until the client's socket is full, then returns; on_drained comes back here. A result is
 * all there when its first row goes out, so nothing can fail in the middle of it, and the timeout
 * ends: a slow client is not a slow statement. */
void statement_send(struct session *s)
{
    struct run *run = &s->run;
    struct rowset *rows = run->source->rows;
    ASSERT(rows != NULL);
    if (run->state != RUN_SEND) {
        err_t err = statement_announce(s);
        if (err != ERR_OK) {
            statement_fail(s, err);
            return;
        }
        ASSERT(rowset_width(rows) == run->portal->columns.cols);
        run->state = RUN_SEND;
        io_timer_cancel(s->coord->loop, &s->timeout);
    }
    struct datum *row = mem_alloc((rowset_width(rows) + 1) * sizeof(*row));
    bool more = true;
    while (pgwire_writable(s->conn)) {
        if (run->max_rows >= 0 && run->sent >= (uint64_t)run->max_rows) {
            more = false;
            break;
        }
        if (!rowset_next(rows, row)) {
            more = false;
            break;
        }
        statement_send_one(s, row);
    }
    free(row);
    if (!more) {
        /* PostgreSQL suspends when the limit is reached, even if that was the last row. */
        bool limited = run->max_rows >= 0 && run->sent >= (uint64_t)run->max_rows;
        statement_rows_over(s, !limited);
    } else {
        pgwire_flush(s->conn);
    }
}

/* For answers made here: SHOW, EXPLAIN. The portal gets the columns. */
struct rowset *statement_text_rows(struct portal *p, const char *const *names, uint32_t cols)
{
    struct type types[8];
    ASSERT(cols <= ARRAY_LEN(types));
    for (uint32_t i = 0; i < cols; i++) {
        types[i] = type_of(TYPE_TEXT);
    }
    const struct schema columns = {.cols = cols, .types = types, .names = (const char **)names};
    portal_set_columns(p, &columns);
    const struct rowset_spec spec = rowset_plain(types, cols, SIZE_MAX);
    return rowset_new(&spec);
}

/* NULL is SQL's NULL. The texts are copied. */
void statement_add_text(struct rowset *rs, const char *const *values, uint32_t cols)
{
    struct datum row[8];
    ASSERT(rs != NULL);
    ASSERT(cols <= ARRAY_LEN(row));
    memset(row, 0, sizeof(row));
    for (uint32_t i = 0; i < cols; i++) {
        row[i].null = values[i] == NULL;
        row[i].s = values[i];
        row[i].len = values[i] != NULL ? (uint32_t)strlen(values[i]) : 0;
    }
    err_t err = rowset_add_row(rs, row);
    ASSERT(err == ERR_OK); /* no limit was set */
}

/* The portal's rows were made here: sends them. */
static void send_made(struct session *s, struct rowset *rows)
{
    ASSERT(s->run.portal->rows == NULL);
    struct portal *p = s->run.portal;
    err_t err = rowset_finish(rows);
    ASSERT(err == ERR_OK);
    p->rows = rows;
    p->opened = true;
    statement_send(s);
}

/* ---- queries --------------------------------------------------------------------------------- */

/* As names_context, with the portal's arguments. */
static void context_of(struct session *s, const struct portal *p, struct sql_context *cx)
{
    names_context(s, cx);
    cx->param_types = p->param_types;
    cx->params = p->params;
    cx->params_len = p->params_len;
}

void statement_arm_timeout(struct session *s)
{
    uint64_t limit = vars_duration_us(s, "statement_timeout");
    if (limit > 0) {
        io_timer_start(s->coord->loop, &s->timeout, io_now_us(s->coord->loop) + limit);
    }
}

/* The rows move from the read to the portal, where a cursor keeps them between FETCHes. */
static void on_read(void *arg, err_t err)
{
    struct session *s = arg;
    struct read *r = s->read;
    struct portal *p = s->run.source;
    ASSERT(arg != NULL);
    ASSERT(r != NULL && p != NULL);
    if (err == ERR_OK && p->prepared->stmt->kind == SQL_EXPLAIN) {
        analyze_answered(s);
        return;
    }
    p->rows = r->rows;
    r->rows = NULL;
    s->read = NULL;
    read_free(r);
    if (err != ERR_OK) {
        rowset_free(p->rows);
        p->rows = NULL;
        statement_fail(s, err);
        return;
    }
    p->opened = true;
    statement_send(s);
}

enum { STATEMENT_WAIT_MIN_US = 1000, STATEMENT_WAIT_MAX_US = 50 * 1000 };
enum { SETTLE_ATTEMPTS = 4 };

/* Doubling up to 50 ms: what comes at once is seen at once, what takes minutes costs little. */
static void look_again(struct session *s)
{
    struct io_loop *loop = s->coord->loop;
    struct wait *w = &s->wait;
    ASSERT(w->delay_us >= STATEMENT_WAIT_MIN_US);
    io_timer_start(loop, &s->retry, io_now_us(loop) + w->delay_us);
    w->delay_us = w->delay_us * 2 < STATEMENT_WAIT_MAX_US ? w->delay_us * 2
                                                          : STATEMENT_WAIT_MAX_US;
}

/* Frontiers are unknown for a moment after a creation or a restart, until the runtimes report; for
 * a source, until what was in its file when it was created is published. */
void statement_wait(struct session *s, struct sql_query *query, bool owned, uint64_t cluster,
                    err_t (*again)(struct session *s))
{
    ASSERT(s->run.state != RUN_NONE && s->read == NULL);
    ASSERT(query != NULL && s->wait.query == NULL);
    statement_wait_begin(s, (struct wait){.query = query,
                                          .owned = owned ? query : NULL,
                                          .cluster = cluster,
                                          .version = catalog_version(s->coord->catalog),
                                          .again = again});
}

void statement_wait_begin(struct session *s, struct wait wait)
{
    ASSERT((wait.query != NULL) != (wait.source != 0));
    if (s->run.state != RUN_WAIT && s->run.state != RUN_LOCK && s->run.state != RUN_SURVEY) {
        statement_arm_timeout(s); /* from when it began to wait, not from each look */
    }
    s->run.state = RUN_WAIT;
    s->wait = wait;
    s->wait.delay_us = STATEMENT_WAIT_MIN_US;
    look_again(s);
}

void statement_wait_end(struct session *s)
{
    io_timer_cancel(s->coord->loop, &s->retry);
    sql_query_free(s->wait.owned);
    memset(&s->wait, 0, sizeof(s->wait));
}

/* The timer of RUN_WAIT. A catalog that has changed since may have dropped what we wait for: then
 * it is planned again, which tells. */
void statement_retry(struct session *s)
{
    const struct wait *w = &s->wait;
    bool same = w->version == catalog_version(s->coord->catalog);
    ASSERT(s->run.state == RUN_WAIT);
    if (w->source != 0) {
        if (!source_wait_look(s)) {
            look_again(s);
        }
        return;
    }
    ASSERT(w->query != NULL);
    if (s->run.fetch_deadline != 0 && io_now_us(s->coord->loop) >= s->run.fetch_deadline) {
        err_t err = subscription_give_up(s);
        if (err != ERR_OK) {
            statement_fail(s, err);
        }
        return;
    }
    if (same && !read_inputs_known(s->coord, w->query, w->cluster)) {
        coord_busy(s->coord); /* what we wait for may take a tick or two */
        look_again(s);
        return;
    }
    err_t (*again)(struct session *) = w->again;
    statement_wait_end(s);
    err_t err = again(s);
    if (err != ERR_OK) {
        statement_fail(s, err);
    }
}

static err_t run_rows(struct session *s);

static void limit_memory(struct session *s, struct sql_query *query)
{
    if (query->plan != NULL) {
        query->plan->memory_limit = vars_size(s, "dataflow_memory_limit");
    }
}

/*
 * Chooses the query's time. When mz_now() is part of it, it is planned again with that time; should
 * it then read something else, another time is chosen for that.
 */
static err_t settle_time(struct session *s, struct sql_context *cx, const struct sql_stmt *stmt,
                         struct sql_query **query, uint64_t *time)
{
    for (int attempt = 0; attempt < SETTLE_ATTEMPTS; attempt++) {
        struct sql_query *again = NULL;
        TRY(transact_read_time(s, *query, time));
        if (!(*query)->needs_now || cx->mz_now == read_time_as_now(*time)) {
            return ERR_OK;
        }
        cx->mz_now = read_time_as_now(*time);
        TRY(sql_plan_query(cx, stmt, &again));
        bool settled = read_needs_no_more(again, *query);
        sql_query_free(*query);
        *query = again;
        if (settled) {
            return ERR_OK;
        }
    }
    return err_sql(ERR_UNAVAILABLE, "40001", "what the query reads depends on mz_now()");
}

/* Plans and starts the query of run.source; its rows then go out. */
static err_t open_query(struct session *s, struct portal *p, const struct sql_stmt *stmt)
{
    struct sql_context cx;
    struct sql_query *query = NULL;
    uint64_t time = 0;
    ASSERT(p->rows == NULL && p->subscription == NULL);
    context_of(s, p, &cx);
    survey_begin(s);
    TRY(sql_plan_query(&cx, stmt, &query));
    err_t err = ERR_OK;
    if (survey_lacks(s)) {
        sql_query_free(query);
        statement_arm_timeout(s);
        survey_ask(s, 0, 0, run_rows);
        return ERR_OK;
    }
    uint64_t cluster = names_cluster(s, vars_get(s, "cluster"), NULL);
    if (read_needs_cluster(query) && !read_inputs_known(s->coord, query, cluster)) {
        statement_wait(s, query, true, cluster, run_rows);
        return ERR_OK;
    }
    if (stmt->kind == SQL_SUBSCRIBE) {
        limit_memory(s, query);
        return subscription_open(s, p, query, stmt);
    }
    if (read_needs_cluster(query)) {
        err = transact_enter_read(s);
        if (err == ERR_OK) {
            err = settle_time(s, &cx, stmt, &query, &time);
        }
    }
    if (err != ERR_OK) {
        sql_query_free(query);
        return err;
    }
    bool explains = p->prepared->stmt->kind == SQL_EXPLAIN;
    if (!explains && (p->columns.cols == 0 || p->formats_len <= 1)) {
        portal_set_columns(p, &query->columns);
    }
    if (s->run.state != RUN_WAIT && s->run.state != RUN_SURVEY) {
        statement_arm_timeout(s);
    }
    limit_memory(s, query);
    s->run.state = RUN_READ;
    s->read = read_new(s->coord, query, on_read, s);
    s->read->retimable = !transact_in_block(s) && !query->has_as_of && !query->needs_now;
    if (explains) {
        analyze_read(s, &cx);
    }
    read_start(s->read, s->tx.cluster, time);
    return ERR_OK;
}

/* The rows of run.source go out, from where they are or from the beginning. */
static err_t run_rows(struct session *s)
{
    struct portal *p = s->run.source;
    const struct sql_stmt *stmt = p->prepared->stmt;
    ASSERT(s->run.source != NULL);
    p->busy = true;
    if (p->opened && p->subscription != NULL) {
        subscription_pump(s);
        return ERR_OK;
    }
    if (p->opened) {
        statement_send(s);
        return ERR_OK;
    }
    if (stmt->kind == SQL_COPY_TO) {
        stmt = p->copied != NULL ? p->copied->script->stmts[0] : stmt->inner;
    } else if (stmt->kind == SQL_EXPLAIN) {
        stmt = stmt->inner;
    }
    return open_query(s, p, stmt);
}

/* COPY t (columns) TO: the SELECT of those columns. COPY of a table goes through the planner as any
 * query: "SELECT a, b FROM db.schema.t". */
static err_t select_of_table(struct session *s, const struct sql_stmt *stmt,
                             struct script_ref **out)
{
    struct sql_context cx;
    struct sql_copy_target *target = NULL;
    struct buf text = {0};
    ASSERT(stmt->kind == SQL_COPY_TO && stmt->inner == NULL);
    names_context(s, &cx);
    TRY(sql_plan_copy(&cx, stmt, &target));
    const struct sql_relation *rel = target->relation;
    struct arena *a = &target->arena;
    for (uint32_t i = 0; i < target->columns_len; i++) {
        buf_printf(&text, "%s %s", i == 0 ? "SELECT" : ",",
                   sql_quote_ident(a, rel->columns.names[target->columns[i]]));
    }
    buf_printf(&text, "%s FROM ", target->columns_len == 0 ? "SELECT" : "");
    if (rel->database != NULL) {
        buf_printf(&text, "%s.", sql_quote_ident(a, rel->database));
    }
    buf_printf(&text, "%s.%s", sql_quote_ident(a, rel->schema), sql_quote_ident(a, rel->name));
    struct sql_script *script = NULL;
    err_t err = sql_parse(buf_cstr(&text), text.len, &script);
    if (err == ERR_OK) {
        ASSERT(script->stmts_len == 1);
        *out = script_ref_new(script);
    }
    buf_free(&text);
    sql_copy_target_free(target);
    return err;
}

/* The options are the statement's: they live as long as the portal. */
static err_t start_copy_to(struct session *s, const struct sql_stmt *stmt)
{
    TRY(copy_in_options(stmt, &s->run.copy));
    if (stmt->inner == NULL && s->run.portal->copied == NULL) {
        TRY(select_of_table(s, stmt, &s->run.portal->copied));
    }
    s->run.copy_out = true;
    return run_rows(s);
}

/* ---- statements that answer at once ---------------------------------------------------------- */

/* SHOW ALL lists what SET knows. */
static err_t do_show(struct session *s, const struct sql_stmt *stmt)
{
    const char *name = stmt->variable.name;
    ASSERT(stmt->variable.name != NULL);
    if (strcmp(name, "all") == 0) {
        static const char *const names[] = {"name", "setting", "description"};
        struct rowset *rows = statement_text_rows(s->run.portal, names, 3);
        for (size_t i = 0; i < vars_count(); i++) {
            const char *const values[] = {vars_name(i), vars_at(s, i), vars_description(i)};
            statement_add_text(rows, values, 3);
        }
        send_made(s, rows);
        return ERR_OK;
    }
    const char *value = vars_get(s, name);
    if (value == NULL) {
        return err_sql(ERR_NOT_FOUND, "42704", "unrecognized configuration parameter \"%s\"", name);
    }
    struct rowset *rows = statement_text_rows(s->run.portal, &name, 1);
    statement_add_text(rows, &value, 1);
    send_made(s, rows);
    return ERR_OK;
}

/* psql prints it as it stands. */
void statement_send_lines(struct session *s, const struct buf *text)
{
    static const char *const names[] = {"QUERY PLAN"};
    struct rowset *rows = statement_text_rows(s->run.portal, names, 1);
    char *save = NULL;
    char *all = mem_strndup((const char *)text->data, text->len);
    for (char *line = strtok_r(all, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        const char *value = line;
        statement_add_text(rows, &value, 1);
    }
    free(all);
    send_made(s, rows);
}

/* What runs is asked of the controller, everything else is planned as it would run now. */
static err_t do_explain(struct session *s, const struct sql_stmt *stmt)
{
    struct sql_context cx;
    struct buf text = {0};
    if (stmt->explain.stage == SQL_EXPLAIN_ANALYZE && stmt->explain.of_object) {
        statement_arm_timeout(s);
        return analyze_start(s);
    }
    if (stmt->explain.stage == SQL_EXPLAIN_ANALYZE) {
        if (stmt->inner->kind != SQL_SELECT) {
            return err_sql(ERR_UNSUPPORTED, "0A000", "EXPLAIN ANALYZE of %s is not supported",
                           stmt->inner->tag);
        }
        return run_rows(s);
    }
    context_of(s, s->run.portal, &cx);
    bool index = stmt->explain.of_object && stmt->object == SQL_OBJECT_INDEX;
    err_t err = index ? analyze_plan(s, &text) : sql_explain(&cx, stmt, &text);
    if (err == ERR_OK) {
        statement_send_lines(s, &text);
    }
    buf_free(&text);
    return err;
}

/* The text as it was given, from the catalog. */
static err_t do_show_create(struct session *s, const struct sql_stmt *stmt)
{
    static const char *const names[] = {"name", "create_sql"};
    const struct catalog_item *item = NULL;
    TRY(ddl_find(s, &stmt->name, &item));
    if (item == NULL) {
        return err_sql(ERR_NOT_FOUND, "42P01", "relation \"%s\" does not exist", stmt->name.name);
    }
    const struct catalog_schema *schema = catalog_schema_id(s->coord->catalog, item->schema);
    const struct catalog_database *db = catalog_database_id(s->coord->catalog, schema->database);
    struct buf full = {0};
    buf_printf(&full, "%s.%s.%s", db->name, schema->name, item->name);
    struct rowset *rows = statement_text_rows(s->run.portal, names, 2);
    const char *const values[] = {buf_cstr(&full), item->create_sql};
    statement_add_text(rows, values, 2);
    buf_free(&full);
    send_made(s, rows);
    return ERR_OK;
}

/* SET of a cluster that does not exist is a notice, as in Materialize: it may be created next. A
 * database must exist, for names could not be resolved in it. */
static err_t do_set(struct session *s, const struct sql_stmt *stmt)
{
    const char *name = stmt->variable.name;
    ASSERT(stmt->variable.name != NULL);
    if (strcmp(name, "all") == 0 && stmt->variable.value == NULL) {
        vars_reset_all(s);
        return ERR_OK;
    }
    if (stmt->variable.local && !transact_in_block(s)) {
        session_notice(s, "WARNING", err_sql(ERR_INVALID, "25P01",
                                             "SET LOCAL can only be used in transaction blocks"));
        return ERR_OK;
    }
    if (strcmp(name, "cluster") == 0 && stmt->variable.value != NULL &&
        names_cluster(s, stmt->variable.value, NULL) == 0) {
        session_notice(s, "NOTICE", err_sql(ERR_NOT_FOUND, "42704",
                                            "cluster \"%s\" does not exist",
                                            stmt->variable.value));
    }
    if (strcmp(name, "database") == 0 && stmt->variable.value != NULL &&
        catalog_database(s->coord->catalog, stmt->variable.value) == NULL) {
        return err_sql(ERR_NOT_FOUND, "3D000", "database \"%s\" does not exist",
                       stmt->variable.value);
    }
    return vars_set(s, name, stmt->variable.value, stmt->variable.local);
}

/* Types that are not given are inferred when it is described or executed. The statement shares the
 * script it was written in. */
static err_t do_prepare(struct session *s, const struct sql_stmt *stmt)
{
    const char *name = stmt->prepare.name;
    ASSERT(stmt->prepare.name != NULL);
    if (strmap_get(&s->prepared, name) != NULL) {
        return err_sql(ERR_EXISTS, "42P05", "prepared statement \"%s\" already exists", name);
    }
    ASSERT(stmt->inner != NULL);
    struct prepared *p = prepared_new(s->run.portal->prepared->script, stmt->inner);
    p->declared_len = stmt->prepare.types_len;
    p->declared = mem_zalloc((p->declared_len + 1) * sizeof(*p->declared));
    for (uint32_t i = 0; i < p->declared_len; i++) {
        p->declared[i] = stmt->prepare.types[i];
    }
    strmap_put(&s->prepared, name, p);
    return ERR_OK;
}

/* name NULL: all. */
static err_t do_deallocate(struct session *s, const char *name)
{
    if (name != NULL) {
        struct prepared *p = strmap_remove(&s->prepared, name);
        if (p == NULL) {
            return err_sql(ERR_NOT_FOUND, "26000", "prepared statement \"%s\" does not exist",
                           name);
        }
        prepared_drop(p);
        return ERR_OK;
    }
    size_t at = 0;
    const char *key;
    void *value;
    while (strmap_next(&s->prepared, &at, &key, &value)) {
        prepared_drop(value);
    }
    strmap_free(&s->prepared);
    memset(&s->prepared, 0, sizeof(s->prepared));
    return ERR_OK;
}

/* Nothing runs yet: the query starts with the first FETCH, at the transaction's time. Arguments of
 * the DECLARE (extended protocol) are copied, they end with its portal. */
static err_t do_declare(struct session *s, const struct sql_stmt *stmt)
{
    const char *name = stmt->cursor.name;
    ASSERT(stmt->cursor.name != NULL && stmt->inner != NULL);
    if (!transact_in_block(s)) {
        return err_sql(ERR_INVALID, "25P01",
                       "DECLARE CURSOR can only be used in transaction blocks");
    }
    if (strmap_get(&s->portals, name) != NULL) {
        return err_sql(ERR_EXISTS, "42P03", "cursor \"%s\" already exists", name);
    }
    struct portal *p = s->run.portal;
    struct prepared *inner = prepared_new(p->prepared->script, stmt->inner);
    struct portal *cursor = portal_new(s, name, inner);
    prepared_drop(inner);
    cursor->cursor = true;
    cursor->params_len = p->params_len;
    cursor->params = arena_memdup(&cursor->arena, p->params, p->params_len * sizeof(*p->params));
    cursor->param_types = arena_memdup(&cursor->arena, p->param_types,
                                       p->params_len * sizeof(*p->param_types));
    for (uint32_t i = 0; i < p->params_len; i++) {
        if (type_is_variable((enum type_kind)p->param_types[i].kind) && !p->params[i].null) {
            cursor->params[i].s = arena_strndup(&cursor->arena, p->params[i].s, p->params[i].len);
        }
    }
    strmap_put(&s->portals, name, cursor);
    return ERR_OK;
}

/* Portals of the extended protocol are not cursors of SQL. */
static err_t do_close(struct session *s, const struct sql_stmt *stmt)
{
    if (stmt->cursor.name == NULL) {
        return ERR_OK; /* all: they end with the transaction */
    }
    struct portal *p = strmap_get(&s->portals, stmt->cursor.name);
    if (p == NULL || !p->cursor) {
        return err_sql(ERR_NOT_FOUND, "34000", "cursor \"%s\" does not exist", stmt->cursor.name);
    }
    strmap_remove(&s->portals, stmt->cursor.name);
    portal_free(p);
    return ERR_OK;
}

/* Option names are lower case by now; NULL when it is not given. */
static const char *option_value(const struct sql_options *options, const char *name)
{
    for (uint32_t i = 0; i < options->len; i++) {
        if (strcmp(options->items[i].name, name) == 0) {
            return options->items[i].value;
        }
    }
    return NULL;
}

/* FETCH ... WITH (timeout = '1s') bounds the wait for rows of a subscription. A month is 30 days,
 * as PostgreSQL has it when it turns intervals into seconds. */
static err_t fetch_timeout(struct session *s, const struct sql_stmt *stmt)
{
    ASSERT(s->run.fetch_deadline == 0);
    const char *text = option_value(&stmt->cursor.options, "timeout");
    if (text == NULL) {
        return ERR_OK;
    }
    struct type type = type_of(TYPE_INTERVAL);
    struct arena arena = {0};
    struct datum d;
    err_t err = datum_parse(&type, text, strlen(text), &arena, &d);
    arena_free(&arena);
    TRY(err);
    int64_t us = d.iv.micros + ((int64_t)d.iv.days + (int64_t)d.iv.months * 30) * 86400000000LL;
    if (us < 0) {
        return err_sql(ERR_INVALID, "22023", "timeout must not be negative");
    }
    s->run.fetch_deadline = io_now_us(s->coord->loop) + (uint64_t)us;
    return ERR_OK;
}

/* run.source becomes the cursor: its rows go out under this statement's name and formats. */
static err_t do_fetch(struct session *s, const struct sql_stmt *stmt)
{
    ASSERT(stmt->cursor.name != NULL && stmt->cursor.count >= 0);
    struct portal *cursor = strmap_get(&s->portals, stmt->cursor.name);
    if (cursor == NULL || !cursor->cursor) {
        return err_sql(ERR_NOT_FOUND, "34000", "cursor \"%s\" does not exist", stmt->cursor.name);
    }
    TRY(fetch_timeout(s, stmt));
    s->run.source = cursor;
    s->run.suspends = false;
    s->run.max_rows = stmt->cursor.count == INT64_MAX ? -1 : stmt->cursor.count;
    return run_rows(s);
}

static err_t dispatch(struct session *s);

/* EXECUTE: the portal becomes the prepared statement with its arguments, and is run as that. */
static err_t do_execute(struct session *s, const struct sql_stmt *stmt)
{
    ASSERT(stmt->prepare.name != NULL);
    struct portal *p = s->run.portal;
    struct prepared *prepared = strmap_get(&s->prepared, stmt->prepare.name);
    if (prepared == NULL || prepared->stmt == NULL) {
        return err_sql(ERR_NOT_FOUND, "26000", "prepared statement \"%s\" does not exist",
                       stmt->prepare.name);
    }
    struct sql_context cx;
    struct sql_description *d = NULL;
    names_context(s, &cx);
    cx.param_types = prepared->declared;
    cx.params_len = prepared->declared_len;
    TRY(sql_describe(&cx, prepared->stmt, &d));
    context_of(s, p, &cx);
    struct datum *args = NULL;
    err_t err = sql_execute_args(&cx, stmt, d->params, d->params_len, &p->arena, &args);
    if (err == ERR_OK) {
        p->params = args;
        p->params_len = d->params_len;
        p->param_types = arena_memdup(&p->arena, d->params, d->params_len * sizeof(*d->params));
        prepared->refs++;
        prepared_drop(p->prepared);
        p->prepared = prepared;
    }
    sql_description_free(d);
    TRY(err);
    return dispatch(s);
}

/* ---- transactions ---------------------------------------------------------------------------- */

/* A second BEGIN is a warning: PostgreSQL's clients rely on it. */
static err_t do_begin(struct session *s)
{
    if (transact_in_block(s)) {
        session_notice(s, "WARNING", err_sql(ERR_INVALID, "25001",
                                             "there is already a transaction in progress"));
        return ERR_OK;
    }
    return transact_begin(s, false);
}

/* An error means that nothing of the transaction was written. */
static void on_commit(struct session *s, err_t err)
{
    ASSERT(s->run.state == RUN_COMMIT);
    if (err != ERR_OK) {
        statement_fail(s, err);
    } else {
        statement_complete(s, "COMMIT");
    }
}

/* COMMIT of a failed transaction rolls back, and its tag says so. */
static err_t do_commit(struct session *s)
{
    if (s->tx.status == 'E') {
        transact_rollback(s);
        statement_complete(s, "ROLLBACK");
        return ERR_OK;
    }
    if (!transact_in_block(s)) {
        session_notice(s, "WARNING", err_sql(ERR_INVALID, "25P01",
                                             "there is no transaction in progress"));
    }
    s->run.state = RUN_COMMIT;
    transact_commit(s, on_commit);
    return ERR_OK;
}

/* Always succeeds; outside a transaction with a warning. */
static err_t do_rollback(struct session *s)
{
    if (!transact_in_block(s)) {
        session_notice(s, "WARNING", err_sql(ERR_INVALID, "25P01",
                                             "there is no transaction in progress"));
    }
    transact_rollback(s);
    return ERR_OK;
}

/* DISCARD ALL: what connection poolers send between two clients. */
static err_t do_discard(struct session *s)
{
    if (transact_in_block(s)) {
        return err_sql(ERR_INVALID, "25001", "DISCARD ALL cannot run inside a transaction block");
    }
    vars_reset_all(s);
    return do_deallocate(s, NULL);
}

/* ---- dispatch -------------------------------------------------------------------------------- */

/* Statements that define: not in a transaction block, since they cannot be taken back. */
static err_t do_definition(struct session *s, const struct sql_stmt *stmt)
{
    ASSERT(stmt->tag != NULL);
    if (transact_in_block(s)) {
        return err_sql(ERR_INVALID, "25001", "%s cannot run inside a transaction block",
                       stmt->tag);
    }
    switch (stmt->kind) {
    case SQL_DROP: return ddl_drop(s, stmt);
    case SQL_COMMENT: return ddl_comment(s, stmt);
    default: return ddl_create(s, stmt);
    }
}

/* Statements that are over when they return. */
static err_t dispatch_short(struct session *s, const struct sql_stmt *stmt)
{
    switch (stmt->kind) {
    case SQL_SET: return do_set(s, stmt);
    case SQL_DISCARD: return do_discard(s);
    case SQL_BEGIN: return do_begin(s);
    case SQL_ROLLBACK: return do_rollback(s);
    case SQL_DECLARE: return do_declare(s, stmt);
    case SQL_CLOSE: return do_close(s, stmt);
    case SQL_PREPARE: return do_prepare(s, stmt);
    case SQL_DEALLOCATE: return do_deallocate(s, stmt->prepare.name);
    case SQL_CREATE_TABLE:
    case SQL_CREATE_SOURCE:
    case SQL_CREATE_VIEW:
    case SQL_CREATE_MATERIALIZED_VIEW:
    case SQL_CREATE_INDEX:
    case SQL_CREATE_CLUSTER:
    case SQL_CREATE_SCHEMA:
    case SQL_CREATE_DATABASE:
    case SQL_DROP:
    case SQL_COMMENT: return do_definition(s, stmt);
    default:
        return err_sql(ERR_UNSUPPORTED, "0A000", "%s is not supported",
                       stmt->tag != NULL ? stmt->tag : "this statement");
    }
}

/* Either the statement is over when this returns ERR_OK, or its state says what it waits for. */
static err_t dispatch(struct session *s)
{
    const struct sql_stmt *stmt = s->run.portal->prepared->stmt;
    if (s->run.portal->opened && stmt->kind != SQL_COPY_TO) {
        return run_rows(s); /* it was suspended: a change is not made again */
    }
    switch (stmt->kind) {
    case SQL_SELECT:
    case SQL_SHOW_OBJECTS:
    case SQL_SUBSCRIBE: return run_rows(s);
    case SQL_FETCH: return do_fetch(s, stmt);
    case SQL_COPY_TO: return start_copy_to(s, stmt);
    case SQL_COPY_FROM: copy_in_start(s, stmt); return ERR_OK;
    case SQL_INSERT:
    case SQL_UPDATE:
    case SQL_DELETE:
    case SQL_TRUNCATE: change_start(s, stmt); return ERR_OK;
    case SQL_SHOW: return do_show(s, stmt);
    case SQL_SHOW_CREATE: return do_show_create(s, stmt);
    case SQL_EXPLAIN: return do_explain(s, stmt);
    case SQL_EXECUTE: return do_execute(s, stmt);
    case SQL_COMMIT: return do_commit(s);
    case SQL_EMPTY:
        pgwire_send_empty_query(s->conn);
        session_statement_done(s, ERR_OK);
        return ERR_OK;
    default: break;
    }
    TRY(dispatch_short(s, stmt));
    if (s->run.source_made != 0 && source_wait_start(s, s->run.source_made)) {
        return ERR_OK;
    }
    statement_complete(s, stmt->tag);
    return ERR_OK;
}

/* Every error that was returned rather than handled ends here. */
static void dispatch_or_fail(struct session *s)
{
    ASSERT(s->run.state == RUN_BUSY);
    err_t err = dispatch(s);
    if (err != ERR_OK) {
        statement_fail(s, err);
    }
}

/* What was written earlier in the implicit transaction is durable: the statement may see it. */
static void on_flushed(struct session *s, err_t err)
{
    ASSERT(s->run.state == RUN_COMMIT);
    if (err != ERR_OK) {
        statement_fail(s, err);
    } else {
        s->run.state = RUN_BUSY;
        dispatch_or_fail(s);
    }
}

/* In an implicit transaction, all but further writes first commit what was written. */
static bool commits_first(const struct session *s, const struct sql_stmt *stmt)
{
    return !transact_in_block(s) && !write_set_empty(&s->tx.writes) && stmt->kind != SQL_INSERT &&
           stmt->kind != SQL_COPY_FROM && stmt->kind != SQL_EXECUTE && stmt->kind != SQL_SET;
}

/* The portal may be used by this statement only until it ends. describe: RowDescription goes out
 * before the rows, which only the simple protocol wants. */
void statement_start(struct session *s, struct portal *p, int64_t max_rows, bool describe)
{
    const struct sql_stmt *stmt = p->prepared->stmt;
    ASSERT(s->run.state == RUN_NONE && s->read == NULL && stmt != NULL);
    s->run = (struct run){
        .state = RUN_BUSY,
        .portal = p,
        .source = p,
        .describe = describe,
        .max_rows = max_rows,
        .suspends = max_rows >= 0,
        .began_ns = io_mono_ns(s->coord->loop),
    };
    p->busy = true;
    if (s->tx.status == 'E' && stmt->kind != SQL_COMMIT && stmt->kind != SQL_ROLLBACK) {
        statement_fail(s, err_sql(ERR_INVALID, "25P02", "current transaction is aborted, commands "
                                  "ignored until end of transaction block"));
        return;
    }
    if (!transact_in_block(s)) {
        s->tx.began_us = (int64_t)io_now_us(s->coord->loop);
    }
    if (commits_first(s, stmt)) {
        s->run.state = RUN_COMMIT;
        transact_commit(s, on_flushed);
        return;
    }
    dispatch_or_fail(s);
}
