/*
 * Sessions: the requests pgwire hands over, and the things a session owns: prepared statements,
 * portals, the script of a simple query.
 *
 * One request at a time (pgwire sees to it), one statement at a time (struct run). Two protocols
 * lead to statements:
 *     simple    on_query parses a script; step() runs its statements one after the other, in one
 *               implicit transaction; its end commits and answers
 *     extended  Parse makes a prepared statement, Bind a portal of it, Execute runs the portal;
 *               Sync ends the implicit transaction. Each is a request of its own
 * SQL's PREPARE, DECLARE and EXECUTE meet the same objects: a prepared statement has one name space
 * for both, and so have portals and cursors, as in PostgreSQL.
 *
 * Ownership. A parsed script is shared by its prepared statements (script_ref), a prepared
 * statement by its portals: each may be closed while the other is in use. A portal owns its
 * arguments and its result. The running statement marks the portals it uses as busy; they outlive
 * it. Everything ends with the session, which may be in the middle of anything (session_free).
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

/* ---- what statements are made of ------------------------------------------------------------- */

/* Takes the script. Statements point into it, so it lives as long as any of them. */
struct script_ref *script_ref_new(struct sql_script *script)
{
    struct script_ref *ref = MEM_NEW(struct script_ref);
    ASSERT(script != NULL);
    ref->refs = 1;
    ref->script = script;
    return ref;
}

void script_ref_drop(struct script_ref *ref)
{
    ASSERT(ref->refs > 0);
    if (--ref->refs == 0) {
        sql_script_free(ref->script);
        free(ref);
    }
}

/* One reference is the caller's. stmt is one of the script's statements, or NULL for an empty
 * query. */
struct prepared *prepared_new(struct script_ref *script, const struct sql_stmt *stmt)
{
    struct prepared *p = MEM_NEW(struct prepared);
    ASSERT(script != NULL && script->refs > 0);
    p->refs = 1;
    p->script = script;
    script->refs++;
    p->stmt = stmt;
    return p;
}

void prepared_drop(struct prepared *p)
{
    ASSERT(p->refs > 0);
    if (--p->refs > 0) {
        return;
    }
    if (p->description != NULL) {
        sql_description_free(p->description);
    }
    script_ref_drop(p->script);
    free(p->declared);
    free(p);
}

/* Keeps the prepared statement alive, also when the client closes it by name. */
struct portal *portal_new(struct session *s, const char *name, struct prepared *prepared)
{
    struct portal *p = MEM_NEW(struct portal);
    ASSERT(s != NULL && prepared->refs > 0);
    p->session = s;
    p->name = name != NULL ? mem_strdup(name) : NULL;
    p->prepared = prepared;
    prepared->refs++;
    return p;
}

/* Not while it runs: abandon_statement lets go of it first. */
void portal_free(struct portal *p)
{
    ASSERT(!p->busy);
    rowset_free(p->rows);
    if (p->subscription != NULL) {
        subscription_free(p->subscription);
    }
    if (p->copied != NULL) {
        script_ref_drop(p->copied);
    }
    prepared_drop(p->prepared);
    arena_free(&p->arena);
    free(p->name);
    free(p);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* statement_timeout or a FETCH's own: the latter is not an error, it gives what there is. */
static void on_timeout(struct io_timer *timer)
{
    struct session *s = CONTAINER_OF(timer, struct session, timeout);
    if (s->run.state == RUN_SUBSCRIBE && s->run.fetch_deadline != 0) {
        subscription_pump(s);
    } else if (s->run.state != RUN_NONE) {
        statement_cancel(s, err_sql(ERR_TIMEOUT, "57014",
                                    "canceling statement due to statement timeout"));
    }
}

/* RUN_WAIT's look whether frontiers are known by now. */
static void on_retry(struct io_timer *timer)
{
    statement_retry(CONTAINER_OF(timer, struct session, retry));
}

/* user and database were checked by the caller, or are the system's own. */
struct session *session_new(struct coord *coord, struct pgwire_conn *conn, const char *user,
                            const char *database)
{
    struct session *s = MEM_NEW(struct session);
    ASSERT(user != NULL && database != NULL);
    s->coord = coord;
    s->conn = conn;
    s->user = mem_strdup(user);
    s->vars = mem_zalloc(vars_count() * sizeof(*s->vars));
    s->tx.status = 'I';
    s->tx.began_us = (int64_t)io_now_us(coord->loop);
    s->timeout.fire = on_timeout;
    s->retry.fire = on_retry;
    err_t err = vars_set(s, "database", database, false);
    ASSERT(err == ERR_OK);
    s->next = coord->sessions;
    if (s->next != NULL) {
        s->next->prev = s;
    }
    coord->sessions = s;
    return s;
}

/* One at a time from the beginning: removing invalidates the iteration. */
static void drop_portals(struct session *s)
{
    for (;;) {
        size_t at = 0;
        const char *name;
        void *value;
        if (!strmap_next(&s->portals, &at, &name, &value)) {
            return;
        }
        struct portal *p = value;
        strmap_remove(&s->portals, p->name);
        portal_free(p);
    }
}

/* Portals may still hold some of them; the last reference frees. */
static void drop_prepared(struct session *s)
{
    size_t at = 0;
    const char *name;
    void *value;
    while (strmap_next(&s->prepared, &at, &name, &value)) {
        prepared_drop(value);
    }
    strmap_free(&s->prepared);
}

/* Lets go of everything the statement under way holds, without a word to the client. */
static void abandon_statement(struct session *s)
{
    struct portal *p = s->run.portal;
    ASSERT(s->run.state == RUN_NONE || s->run.portal != NULL);
    io_timer_cancel(s->coord->loop, &s->timeout);
    statement_wait_end(s);
    survey_end(s);
    read_free(s->read);
    s->read = NULL;
    write_abandon(s->coord, &s->job);
    s->after_commit = NULL;
    change_stop(s);
    copy_in_free(s);
    buf_free(&s->run.explained);
    if (p != NULL) {
        p->busy = false;
        if (s->run.source != NULL) {
            s->run.source->busy = false;
        }
        if (p->name == NULL) {
            portal_free(p);
        }
    }
    memset(&s->run, 0, sizeof(s->run));
}

/* The connection is gone: nothing more is said to the client. A commit that flies is applied. */
void session_free(struct session *s)
{
    struct coord *coord = s->coord;
    ASSERT(s->coord != NULL);
    s->conn = NULL;
    abandon_statement(s);
    transact_rollback(s);
    drop_portals(s);
    drop_prepared(s);
    if (s->script != NULL) {
        script_ref_drop(s->script);
    }
    strmap_free(&s->portals);
    buf_free(&s->copy_line);
    buf_free(&s->copy_field);
    u64map_free(&s->tx.holds);
    vars_free(s);
    if (s->prev != NULL) {
        s->prev->next = s->next;
    } else {
        ASSERT(coord->sessions == s);
        coord->sessions = s->next;
    }
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    free(s->user);
    free(s);
}

/* For the system's session, which has no client, a notice goes to the log. Takes err. */
void session_notice(struct session *s, const char *severity, err_t err)
{
    ASSERT(err != ERR_OK);
    if (s->conn != NULL) {
        pgwire_send_notice(s->conn, severity, err);
    } else {
        LOG_INFO("coord", "notice", LOG_ERR(err));
    }
    err_free(err);
}

/* ---- simple query ---------------------------------------------------------------------------- */

/* The answer to the whole query. The error, if any, is that of the statement that stopped it. */
static void end_script(struct session *s, err_t err)
{
    ASSERT(s->script_run && s->script != NULL);
    script_ref_drop(s->script);
    s->script = NULL;
    s->script_run = false;
    pgwire_done(s->conn, err); /* last: the next request may begin in here */
}

/* The implicit transaction of the script is over: only now is the client told that all is well. */
static void on_script_committed(struct session *s, err_t err)
{
    end_script(s, err);
}

/* The next statement of the script; behind the last one the implicit transaction commits. */
static void step_once(struct session *s)
{
    struct sql_script *script = s->script->script;
    ASSERT(s->script_run && s->run.state == RUN_NONE);
    if (s->script_at < script->stmts_len) {
        struct prepared *prepared = prepared_new(s->script, script->stmts[s->script_at]);
        struct portal *p = portal_new(s, NULL, prepared);
        prepared_drop(prepared);
        statement_start(s, p, -1, true);
    } else if (!transact_in_block(s)) {
        transact_commit(s, on_script_committed);
    } else {
        end_script(s, ERR_OK);
    }
}

/* A statement may end while it is being started: a loop here instead of ever deeper calls. */
static void step(struct session *s)
{
    s->again = true;
    if (s->stepping) {
        return;
    }
    s->stepping = true;
    while (s->again) {
        s->again = false;
        step_once(s);
    }
    s->stepping = false;
}

/* In a block the transaction waits for ROLLBACK and its cursors stay; an implicit one is over at
 * once. What was to be written is forgotten either way. */
static void mark_failed(struct session *s)
{
    ASSERT(s->conn != NULL);
    if (transact_in_block(s)) {
        s->tx.status = 'E';
        pgwire_set_transaction(s->conn, 'E');
        write_set_clear(&s->tx.writes);
    } else {
        transact_rollback(s);
    }
}

/* A script is parsed as a whole first: a syntax error anywhere runs nothing, as in PostgreSQL. */
static void on_query(void *session, const char *text, size_t len)
{
    struct session *s = session;
    struct sql_script *script = NULL;
    ASSERT(s->run.state == RUN_NONE && !s->script_run);
    err_t err = sql_parse(text, len, &script);
    if (err != ERR_OK) {
        mark_failed(s);
        pgwire_done(s->conn, err);
        return;
    }
    if (script->stmts_len == 0) {
        sql_script_free(script);
        pgwire_send_empty_query(s->conn);
        pgwire_done(s->conn, ERR_OK);
        return;
    }
    s->script = script_ref_new(script);
    s->script_at = 0;
    s->script_run = true;
    step(s);
}

/* Everything the statement held is let go of before the protocol goes on, for the next statement
 * may begin inside pgwire_done or step. Takes err. */
void session_statement_done(struct session *s, err_t err)
{
    bool failed = err != ERR_OK;
    ASSERT(s->run.state != RUN_NONE && s->conn != NULL);
    if (s->coord->statements != NULL) {
        metric_add(s->coord->statements, 1);
        metric_add(s->coord->failed, failed ? 1 : 0);
        metric_observe_us(s->coord->query_seconds,
                          (io_mono_ns(s->coord->loop) - s->run.began_ns) / 1000);
    }
    abandon_statement(s);
    if (failed) {
        mark_failed(s);
    }
    if (!s->script_run) {
        pgwire_done(s->conn, err);
    } else if (failed) {
        end_script(s, err);
    } else {
        s->script_at++;
        step(s);
    }
}

/* ---- extended query -------------------------------------------------------------------------- */

/* In a failed block only COMMIT and ROLLBACK may even be prepared. */
static err_t check_not_failed(struct session *s, const struct sql_stmt *stmt)
{
    bool ends = stmt != NULL && (stmt->kind == SQL_COMMIT || stmt->kind == SQL_ROLLBACK);
    ASSERT(s->tx.status == 'I' || s->tx.status == 'T' || s->tx.status == 'E');
    if (s->tx.status == 'E' && !ends) {
        return err_sql(ERR_INVALID, "25P02", "current transaction is aborted, commands ignored "
                                             "until end of transaction block");
    }
    return ERR_OK;
}

/* Asks the planner what a statement takes and gives, or answers for those it does not know. */
static err_t describe_statement(struct session *s, const struct sql_stmt *stmt,
                                const struct type *types, uint32_t types_len,
                                struct sql_description **out)
{
    struct sql_context cx;
    ASSERT(stmt != NULL && out != NULL);
    names_context(s, &cx);
    cx.param_types = types;
    cx.params_len = types_len;
    if (stmt->kind == SQL_FETCH) {
        struct portal *cursor = strmap_get(&s->portals, stmt->cursor.name);
        if (cursor != NULL && cursor->prepared->stmt != NULL) {
            return describe_statement(s, cursor->prepared->stmt, NULL, 0, out);
        }
    } else if (stmt->kind == SQL_EXECUTE) {
        struct prepared *p = strmap_get(&s->prepared, stmt->prepare.name);
        if (p != NULL && p->stmt != NULL) {
            TRY(describe_statement(s, p->stmt, p->declared, p->declared_len, out));
            (*out)->params_len = 0;
            return ERR_OK;
        }
    }
    return sql_describe(&cx, stmt, out);
}

/* Names and types: what a client that described the statement relies on. */
static bool same_columns(const struct schema *a, const struct schema *b)
{
    if (a->cols != b->cols) {
        return false;
    }
    for (uint32_t i = 0; i < a->cols; i++) {
        if (a->types[i].oid != b->types[i].oid || strcmp(a->names[i], b->names[i]) != 0) {
            return false;
        }
    }
    return true;
}

/* Sees to it that p->description is there and true of the present catalog. */
static err_t prepared_describe(struct session *s, struct prepared *p)
{
    uint64_t version = catalog_version(s->coord->catalog);
    ASSERT(p->refs > 0);
    if (p->stmt == NULL || (p->description != NULL && p->version == version)) {
        return ERR_OK;
    }
    struct sql_description *fresh = NULL;
    TRY(describe_statement(s, p->stmt, p->declared, p->declared_len, &fresh));
    if (p->description != NULL && !same_columns(&fresh->columns, &p->description->columns)) {
        sql_description_free(fresh);
        return err_sql(ERR_INVALID, "0A000", "cached plan must not change result type");
    }
    if (p->description != NULL) {
        sql_description_free(p->description);
    }
    p->description = fresh;
    p->version = version;
    return ERR_OK;
}

/* Parameter types a driver gives by oid; where it gives none the planner infers them. */
static err_t declare_params(struct prepared *p, const uint32_t *oids, size_t len)
{
    ASSERT(p->declared == NULL && len <= PGWIRE_PARAMS_MAX);
    p->declared = mem_zalloc((len + 1) * sizeof(*p->declared));
    p->declared_len = (uint32_t)len;
    for (size_t i = 0; i < len; i++) {
        /* 0 and 705 (unknown): the planner finds out. */
        if (oids[i] != 0 && oids[i] != 705 && !type_of_oid(oids[i], -1, &p->declared[i])) {
            return err_sql(ERR_UNSUPPORTED, "0A000", "parameter $%zu has type %u, which is not "
                           "supported", i + 1, oids[i]);
        }
    }
    return ERR_OK;
}

/* Parse takes at most one statement; none is an empty query, which has its own answer. */
static err_t parse_one(struct session *s, const char *text, size_t len, struct prepared **out)
{
    struct sql_script *script = NULL;
    TRY(sql_parse(text, len, &script));
    struct script_ref *ref = script_ref_new(script);
    err_t err = ERR_OK;
    if (script->stmts_len > 1) {
        err = err_sql(ERR_INVALID, "42601",
                      "cannot insert multiple commands into a prepared statement");
    }
    const struct sql_stmt *stmt = script->stmts_len > 0 ? script->stmts[0] : NULL;
    if (err == ERR_OK) {
        err = check_not_failed(s, stmt);
    }
    if (err == ERR_OK) {
        *out = prepared_new(ref, stmt);
    }
    script_ref_drop(ref);
    return err;
}

/* The unnamed statement is replaced silently, a named one must be closed first. Described at once,
 * so that errors come with Parse, where drivers expect them. */
static err_t do_parse(struct session *s, const char *name, const char *text, size_t len,
                      const uint32_t *oids, size_t oids_len)
{
    struct prepared *p = NULL;
    if (name[0] != '\0' && strmap_get(&s->prepared, name) != NULL) {
        return err_sql(ERR_EXISTS, "42P05", "prepared statement \"%s\" already exists", name);
    }
    TRY(parse_one(s, text, len, &p));
    err_t err = declare_params(p, oids, oids_len);
    if (err == ERR_OK) {
        err = prepared_describe(s, p);
    }
    if (err != ERR_OK) {
        prepared_drop(p);
        return err;
    }
    struct prepared *old = strmap_put(&s->prepared, name, p);
    if (old != NULL) {
        prepared_drop(old);
    }
    pgwire_send_parse_complete(s->conn);
    return ERR_OK;
}

/* The end of every short request. */
static void finish_request(struct session *s, err_t err)
{
    ASSERT(s->run.state == RUN_NONE);
    if (err != ERR_OK) {
        mark_failed(s);
    }
    pgwire_done(s->conn, err);
}

/* Short requests end within their handler. */
static void on_parse(void *session, const char *name, const char *text, size_t len,
                     const uint32_t *oids, size_t oids_len)
{
    struct session *s = session;
    ASSERT(s->run.state == RUN_NONE);
    finish_request(s, do_parse(s, name, text, len, oids, oids_len));
}

/* 26000 whichever way it was prepared. */
static err_t find_prepared(struct session *s, const char *name, struct prepared **out)
{
    *out = strmap_get(&s->prepared, name);
    if (*out == NULL) {
        return name[0] == '\0'
                   ? err_sql(ERR_NOT_FOUND, "26000", "unnamed prepared statement does not exist")
                   : err_sql(ERR_NOT_FOUND, "26000", "prepared statement \"%s\" does not exist",
                             name);
    }
    return ERR_OK;
}

/* The protocol's rule: no format means text, one is for all, else one each. */
static int16_t format_at(const int16_t *formats, size_t len, size_t i)
{
    ASSERT(len <= 1 || i < len);
    return len == 0 ? 0 : formats[len == 1 ? 0 : i];
}

/* Values are copied into the portal's arena; a value that does not parse names its parameter. */
static err_t bind_params(struct portal *p, const struct pgwire_bind *bind,
                         const struct sql_description *d)
{
    uint32_t want = d != NULL ? d->params_len : 0;
    ASSERT(p->params == NULL);
    if (bind->params_len != want) {
        return err_sql(ERR_PROTOCOL, "08P01", "bind message supplies %zu parameters, but prepared "
                       "statement \"%s\" requires %u", bind->params_len, bind->statement, want);
    }
    p->params_len = want;
    p->params = ARENA_ARRAY(&p->arena, struct datum, want + 1);
    p->param_types = ARENA_ARRAY(&p->arena, struct type, want + 1);
    for (uint32_t i = 0; i < want; i++) {
        const struct pgwire_param *in = &bind->params[i];
        const struct type *type = &d->params[i];
        p->param_types[i] = *type;
        if (in->len < 0) {
            p->params[i].null = true;
            continue;
        }
        err_t err;
        if (format_at(bind->param_formats, bind->param_formats_len, i) == 1) {
            err = datum_recv(type, in->data, (size_t)in->len, &p->arena, &p->params[i]);
        } else {
            err = datum_parse(type, (const char *)in->data, (size_t)in->len, &p->arena,
                              &p->params[i]);
        }
        TRY(err_wrap(err, "parameter $%u", i + 1));
    }
    return ERR_OK;
}

/* Checked against the columns as described; FETCH learns its columns later (see announce). */
static err_t bind_formats(struct portal *p, const struct pgwire_bind *bind,
                          const struct sql_description *d)
{
    uint32_t cols = d != NULL ? d->columns.cols : 0;
    ASSERT(p->formats == NULL);
    if (bind->result_formats_len > 1 && bind->result_formats_len != cols) {
        return err_sql(ERR_PROTOCOL, "08P01",
                       "bind message has %zu result formats but query has %u columns",
                       bind->result_formats_len, cols);
    }
    p->formats_len = bind->result_formats_len;
    p->formats = ARENA_ARRAY(&p->arena, int16_t, bind->result_formats_len + 1);
    for (size_t i = 0; i < bind->result_formats_len; i++) {
        p->formats[i] = bind->result_formats[i];
    }
    if (cols > 0) {
        portal_set_columns(p, &d->columns);
    }
    return ERR_OK;
}

/* A failed Bind leaves the old portal of that name as it was. */
static err_t do_bind(struct session *s, const struct pgwire_bind *bind)
{
    struct prepared *prepared = NULL;
    TRY(find_prepared(s, bind->statement, &prepared));
    TRY(check_not_failed(s, prepared->stmt));
    TRY(prepared_describe(s, prepared));
    struct portal *old = strmap_get(&s->portals, bind->portal);
    if (old != NULL && bind->portal[0] != '\0') {
        return err_sql(ERR_EXISTS, "42P03", "cursor \"%s\" already exists", bind->portal);
    }
    struct portal *p = portal_new(s, bind->portal, prepared);
    err_t err = bind_params(p, bind, prepared->description);
    if (err == ERR_OK) {
        err = bind_formats(p, bind, prepared->description);
    }
    if (err != ERR_OK) {
        portal_free(p);
        return err;
    }
    if (old != NULL) {
        strmap_remove(&s->portals, bind->portal);
        portal_free(old);
    }
    strmap_put(&s->portals, bind->portal, p);
    pgwire_send_bind_complete(s->conn);
    return ERR_OK;
}

/* Copies what it keeps: bind's arrays end with this call. */
static void on_bind(void *session, const struct pgwire_bind *bind)
{
    struct session *s = session;
    ASSERT(((struct session *)session)->run.state == RUN_NONE);
    finish_request(s, do_bind(s, bind));
}

/* A cursor of DECLARE is found as well: Execute may fetch from it by name. */
static err_t find_portal(struct session *s, const char *name, struct portal **out)
{
    ASSERT(name != NULL);
    *out = strmap_get(&s->portals, name);
    return *out == NULL ? err_sql(ERR_NOT_FOUND, "34000", "portal \"%s\" does not exist", name)
                        : ERR_OK;
}

/* RowDescription, or NoData for a statement without rows. */
static void send_columns(struct session *s, const struct schema *columns, const int16_t *formats)
{
    ASSERT(s->conn != NULL);
    if (columns == NULL || columns->cols == 0) {
        pgwire_send_no_data(s->conn);
    } else {
        pgwire_send_row_description(s->conn, columns->names, columns->types, columns->cols,
                                    formats);
    }
}

/* Of a statement: its parameters, then its columns in text; of a portal: its columns as bound. */
static err_t do_describe(struct session *s, char kind, const char *name)
{
    if (kind == 'P') {
        struct portal *portal = NULL;
        TRY(find_portal(s, name, &portal));
        send_columns(s, &portal->columns, portal->column_formats);
        return ERR_OK;
    }
    struct prepared *p = NULL;
    TRY(find_prepared(s, name, &p));
    TRY(prepared_describe(s, p));
    const struct sql_description *d = p->description;
    pgwire_send_parameter_description(s->conn, d != NULL ? d->params : NULL,
                                      d != NULL ? d->params_len : 0);
    send_columns(s, d != NULL ? &d->columns : NULL, NULL);
    return ERR_OK;
}

static void on_describe(void *session, char kind, const char *name)
{
    struct session *s = session;
    ASSERT(kind == 'S' || kind == 'P');
    finish_request(s, do_describe(s, kind, name));
}

/* 0 is the protocol's "no limit". A portal that was suspended goes on where it stopped. */
static void on_execute(void *session, const char *name, uint32_t max_rows)
{
    ASSERT(((struct session *)session)->run.state == RUN_NONE);
    struct session *s = session;
    struct portal *p = NULL;
    err_t err = find_portal(s, name, &p);
    if (err != ERR_OK) {
        finish_request(s, err);
        return;
    }
    if (p->prepared->stmt == NULL) {
        pgwire_send_empty_query(s->conn);
        finish_request(s, ERR_OK);
        return;
    }
    statement_start(s, p, max_rows == 0 ? -1 : (int64_t)max_rows, false);
}

/* Closing what does not exist is no error. */
static void on_close_object(void *session, char kind, const char *name)
{
    struct session *s = session;
    ASSERT(kind == 'S' || kind == 'P');
    if (kind == 'S') {
        struct prepared *p = strmap_remove(&s->prepared, name);
        if (p != NULL) {
            prepared_drop(p);
        }
    } else {
        struct portal *p = strmap_remove(&s->portals, name);
        if (p != NULL) {
            portal_free(p);
        }
    }
    pgwire_send_close_complete(s->conn);
    finish_request(s, ERR_OK);
}

/* Portals end with the transaction, prepared statements do not. */
static void on_sync_committed(struct session *s, err_t err)
{
    ASSERT(s->tx.status == 'I');
    drop_portals(s);
    pgwire_done(s->conn, err);
}

/* The end of an implicit transaction: here its writes become durable, so here a client that
 * pipelined INSERTs learns whether they are. */
static void on_sync(void *session)
{
    struct session *s = session;
    ASSERT(s->run.state == RUN_NONE);
    if (transact_in_block(s)) {
        pgwire_done(s->conn, ERR_OK);
    } else {
        transact_commit(s, on_sync_committed);
    }
}

/* Only between pgwire_send_copy_in and the statement's end. */
static void on_copy_data(void *session, const uint8_t *data, size_t len)
{
    copy_in_data(session, data, len);
}

/* failure: what the client said when it gave up; NULL when all data came. */
static void on_copy_end(void *session, const char *failure)
{
    copy_in_end(session, failure);
}

/* Comes on another connection, at any moment; nothing may be running any more. */
static void on_cancel(void *session)
{
    struct session *s = session;
    if (s->run.state != RUN_NONE) {
        statement_cancel(s, err_sql(ERR_CANCELLED, "57014",
                                    "canceling statement due to user request"));
    }
}

/* pgwire refused a message by itself. */
static void on_failed(void *session)
{
    mark_failed(session);
}

/* Only these two states send more than a bounded answer. */
static void on_drained(void *session)
{
    struct session *s = session;
    if (s->run.state == RUN_SEND) {
        statement_send(s);
    } else if (s->run.state == RUN_SUBSCRIBE) {
        subscription_pump(s);
    }
}

/* ---- who may come in ------------------------------------------------------------------------- */

/* The peer's address is the kernel's word, not the client's. */
static bool is_loopback(struct coord *coord, const char *peer)
{
    ASSERT(peer != NULL);
    return io_env_simulated(io_loop_env(coord->loop)) || strncmp(peer, "127.", 4) == 0 ||
           strncmp(peer, "[::1]", 5) == 0 || strncmp(peer, "[::ffff:127.", 12) == 0 ||
           strncmp(peer, "unix:", 5) == 0;
}

/* One password for all roles, checked by SCRAM; without one, only this host may come in unless told
 * otherwise. Nothing is said here about whether the role exists. */
static err_t on_authenticate(void *ctx, const struct pgwire_startup *startup,
                             const struct scram_verifier **scram)
{
    struct coord *coord = ctx;
    ASSERT(scram != NULL && startup->user != NULL);
    *scram = NULL;
    if (coord->has_verifier) {
        *scram = &coord->verifier;
        return ERR_OK;
    }
    if (!coord->config.trust_remote && !is_loopback(coord, startup->peer)) {
        return err_hint(err_sql(ERR_PERMISSION, "28000", "no password is configured, so clients "
                                "are accepted from this host only, not from %s", startup->peer),
                        "Start environmentd with --sql-password-file.");
    }
    return ERR_OK;
}

/* "-c name=value -c ..." of the options parameter, and --name=value. */
static err_t apply_options(struct session *s, const char *options)
{
    char *copy = mem_strdup(options);
    err_t err = ERR_OK;
    char *save = NULL;
    ASSERT(options != NULL);
    for (char *word = strtok_r(copy, " ", &save); word != NULL && err == ERR_OK;
         word = strtok_r(NULL, " ", &save)) {
        if (strcmp(word, "-c") == 0) {
            continue;
        }
        word += strncmp(word, "--", 2) == 0 || strncmp(word, "-c", 2) == 0 ? 2 : 0;
        char *value = strchr(word, '=');
        if (value == NULL) {
            err = err_sql(ERR_INVALID, "42601", "invalid startup option \"%s\"", word);
        } else {
            *value = '\0';
            err = vars_set(s, word, value + 1, false);
        }
    }
    free(copy);
    return err;
}

/* As SET would: an unknown variable refuses the connection, as in PostgreSQL. */
static err_t apply_startup(struct session *s, const struct pgwire_startup *startup)
{
    for (size_t i = 0; i < startup->settings_len; i++) {
        const struct pgwire_setting *setting = &startup->settings[i];
        if (strcmp(setting->name, "options") == 0) {
            TRY(apply_options(s, setting->value));
        } else {
            TRY(vars_set(s, setting->name, setting->value, false));
        }
    }
    return ERR_OK;
}

/* The client is who it says. Checks what it wants to use, and makes its session. */
static err_t on_open(void *ctx, struct pgwire_conn *conn, const struct pgwire_startup *startup,
                     void **session)
{
    struct coord *coord = ctx;
    struct buf reason = {0}; /* why we cannot serve yet */
    *session = NULL;
    if (!coord_ready(coord, &reason)) {
        err_t err = err_sql(ERR_UNAVAILABLE, "57P03", "the database system is starting up: %s",
                            buf_cstr(&reason));
        buf_free(&reason);
        return err;
    }
    if (catalog_role(coord->catalog, startup->user) == NULL) {
        return err_hint(err_sql(ERR_PERMISSION, "28000", "role \"%s\" does not exist",
                                startup->user), "Connect as user tailrace.");
    }
    /* Without a database the client's library asks for one named like the user. */
    if (catalog_database(coord->catalog, startup->database) == NULL) {
        return err_sql(ERR_NOT_FOUND, "3D000", "database \"%s\" does not exist",
                       startup->database);
    }
    struct session *s = session_new(coord, conn, startup->user, startup->database);
    s->pid = startup->pid;
    err_t err = apply_startup(s, startup);
    if (err != ERR_OK) {
        session_free(s);
        return err;
    }
    vars_report(s);
    *session = s;
    return ERR_OK;
}

/* Runs once for each session that on_open made. */
static void on_close(void *session)
{
    session_free(session);
}

const struct pgwire_backend coord_pgwire_backend = {
    .authenticate = on_authenticate,
    .open = on_open,
    .close = on_close,
    .query = on_query,
    .parse = on_parse,
    .bind = on_bind,
    .describe = on_describe,
    .execute = on_execute,
    .close_object = on_close_object,
    .sync = on_sync,
    .copy_data = on_copy_data,
    .copy_end = on_copy_end,
    .cancel = on_cancel,
    .failed = on_failed,
    .drained = on_drained,
};
