/*
 * INSERT, UPDATE, DELETE, TRUNCATE. The planner turns each into a query whose rows say what to
 * write. An INSERT that reads no table joins the transaction's writes. Everything else reads and
 * then writes under the write lock (see write.c), as a transaction of its own.
 *
 * What the query gives per row, n being the table's columns:
 *     INSERT   the new row                       -> (+new)
 *     DELETE   the old row                       -> (-old)
 *     UPDATE   the old row, then the new one     -> (-old, +new)
 * and behind that the columns of RETURNING. A row that is in the table twice comes twice, and both
 * are changed.
 *
 * Ways through this file:
 *     change_start -> start -> start_read -> on_rows -> finish                  plain INSERT
 *     change_start -> start -> wait_for_lock -> on_granted -> start_read -> on_rows -> on_written
 * Constraints (NOT NULL, lengths) are checked on the way into the write set, so a statement that
 * fails has written nothing: in an implicit transaction the set is thrown away, in a block the
 * block has failed.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

#include <stdio.h>

/* Also of a statement that never planned. */
void change_stop(struct session *s)
{
    if (s->write != NULL) {
        sql_write_free(s->write);
        s->write = NULL;
    }
}

/* The session keeps the plan: rows come later. A plan from before a wait is dropped. mz_now: 0 when
 * the time of the read is not known yet. */
static err_t plan(struct session *s, const struct sql_stmt *stmt, uint64_t mz_now)
{
    struct portal *p = s->run.portal;
    struct sql_context cx;
    ASSERT(s->run.portal != NULL);
    names_context(s, &cx);
    cx.param_types = p->param_types;
    cx.params = p->params;
    cx.params_len = p->params_len;
    cx.mz_now = mz_now > 0 ? mz_now : cx.mz_now;
    change_stop(s);
    survey_begin(s);
    return sql_plan_write(&cx, stmt, &s->write);
}

/* Again, with the time of the read for mz_now(). It must not need other inputs for that: those of
 * the first plan decided about the time. */
static err_t plan_at(struct session *s, uint64_t mz_now)
{
    struct sql_write *first = s->write;
    s->write = NULL;
    err_t err = plan(s, s->run.portal->prepared->stmt, mz_now);
    if (err == ERR_OK && !read_needs_no_more(s->write->query, first->query)) {
        err = err_sql(ERR_UNAVAILABLE, "40001", "what the statement reads depends on mz_now()");
    }
    sql_write_free(first);
    return err;
}

/* Time 0: the append gives all rows theirs. Returns about the bytes the row takes. */
static size_t add_row(struct batch_builder *b, const struct sql_relation *rel,
                      const struct datum *row, int64_t diff)
{
    size_t bytes = 0;
    ASSERT(diff == 1 || diff == -1);
    for (uint32_t i = 0; i < rel->columns.cols; i++) {
        bool variable = type_is_variable((enum type_kind)rel->columns.types[i].kind);
        bytes += 8 + (variable && !row[i].null ? row[i].len : 0);
        batch_builder_datum(b, i, &row[i]);
    }
    batch_builder_end_row(b, 0, diff);
    return bytes;
}

/* What one row of the query means for the table. */
static err_t apply_row(const struct sql_write *w, struct batch_builder *b, const struct datum *row,
                       size_t *bytes)
{
    uint32_t cols = w->relation->columns.cols;
    ASSERT(b != NULL && bytes != NULL);
    switch (w->kind) {
    case SQL_WRITE_INSERT:
        TRY(sql_check_row(w->relation, row));
        *bytes += add_row(b, w->relation, row, 1);
        return ERR_OK;
    case SQL_WRITE_DELETE: *bytes += add_row(b, w->relation, row, -1); return ERR_OK;
    case SQL_WRITE_UPDATE:
        TRY(sql_check_row(w->relation, row + cols));
        *bytes += add_row(b, w->relation, row, -1);
        *bytes += add_row(b, w->relation, row + cols, 1);
        return ERR_OK;
    default: UNREACHABLE();
    }
}

/* RETURNING's rows become the portal's. */
static struct rowset *returning_rows(struct session *s)
{
    const struct sql_write *w = s->write;
    ASSERT(s->write != NULL);
    if (w->returning.cols == 0) {
        return NULL;
    }
    portal_set_columns(s->run.portal, &w->returning);
    const struct rowset_spec spec = rowset_plain(w->returning.types, w->returning.cols,
                                                 s->coord->config.max_result_bytes);
    return rowset_new(&spec);
}

/* Rows go straight from the result to the write set; only RETURNING's are kept besides. The limit
 * is looked at each megabyte, for it costs a walk over the columns, and at the end. */
static err_t collect(struct session *s, struct rowset *rows, struct write_set *set,
                     struct rowset *returning, uint64_t *count)
{
    const struct sql_write *w = s->write;
    uint32_t width = rowset_width(rows);
    uint32_t images = w->kind == SQL_WRITE_UPDATE ? 2 : 1;
    uint32_t behind = images * w->relation->columns.cols;
    ASSERT(width == behind + w->returning.cols);
    struct datum *row = mem_alloc((width + 1) * sizeof(*row));
    size_t bytes = 0; /* since the limit was looked at */
    struct batch_builder *b = write_set_table(set, w->relation->id, &w->relation->columns);
    err_t err = ERR_OK;
    while (err == ERR_OK && rowset_next(rows, row)) {
        err = apply_row(w, b, row, &bytes);
        if (err == ERR_OK && returning != NULL) {
            err = rowset_add_row(returning, row + behind);
        }
        (*count)++;
        if (err == ERR_OK && bytes >= WRITE_CHECK_BYTES) {
            err = write_set_check(s->coord, set, 0);
            bytes = 0;
        }
    }
    free(row);
    return err == ERR_OK ? write_set_check(s->coord, set, 0) : err;
}

/* "INSERT 0 3": the 0 was an oid once. */
static void make_tag(struct session *s, uint64_t count)
{
    static const char *const verbs[] = {[SQL_WRITE_INSERT] = "INSERT 0",
                                        [SQL_WRITE_UPDATE] = "UPDATE",
                                        [SQL_WRITE_DELETE] = "DELETE"};
    const struct sql_stmt *stmt = s->run.portal->prepared->stmt;
    ASSERT(s->write != NULL);
    if (stmt->kind == SQL_TRUNCATE) {
        snprintf(s->run.tag, sizeof(s->run.tag), "TRUNCATE TABLE");
    } else {
        snprintf(s->run.tag, sizeof(s->run.tag), "%s %llu", verbs[s->write->kind],
                 (unsigned long long)count);
    }
}

/* The change is recorded; RETURNING's rows go out before the tag. */
static void finish(struct session *s)
{
    ASSERT(s->run.tag[0] != '\0');
    if (s->run.portal->rows != NULL) {
        s->run.portal->opened = true;
        s->run.portal->tag = arena_strdup(&s->run.portal->arena, s->run.tag);
        s->run.state = RUN_BUSY;
        statement_send(s);
    } else {
        statement_complete(s, s->run.tag);
    }
}

/* Durable, and visible to every read that begins from now on. */
static void on_written(struct write_job *job, err_t err)
{
    struct session *s = CONTAINER_OF(job, struct session, job);
    ASSERT(s->run.state == RUN_COMMIT);
    if (err != ERR_OK) {
        statement_fail(s, err);
    } else {
        finish(s);
    }
}

/* The query's rows are there: into the write set, and on. */
static void on_rows(void *arg, err_t err)
{
    struct session *s = arg;
    struct read *r = s->read;
    bool locked = s->job.state == WRITE_GRANTED;
    struct write_set *set = locked ? &s->job.set : &s->tx.writes;
    uint64_t count = 0;
    ASSERT(arg != NULL);
    s->read = NULL;
    struct rowset *returning = err == ERR_OK ? returning_rows(s) : NULL;
    if (err == ERR_OK) {
        err = collect(s, r->rows, set, returning, &count);
    }
    if (err == ERR_OK && returning != NULL) {
        err = rowset_finish(returning);
    }
    read_free(r);
    if (err != ERR_OK) {
        rowset_free(returning);
        statement_fail(s, err); /* a failed statement fails its transaction: no partial writes */
        return;
    }
    s->run.portal->rows = returning;
    make_tag(s, count);
    if (!locked) {
        finish(s);
    } else if (write_set_empty(&s->job.set)) {
        write_release(s->coord, &s->job);
        finish(s);
    } else {
        s->run.state = RUN_COMMIT;
        s->job.done = on_written;
        write_submit(s->coord, &s->job);
    }
}

/* Under the lock the read's time may move: nothing is written meanwhile, so any time from the
 * oracle's on sees the same rows. */
static err_t start_read(struct session *s)
{
    uint64_t time = 0;
    uint64_t cluster = 0;
    err_t err = ERR_OK;
    struct sql_query *query = s->write->query;
    ASSERT(s->read == NULL);
    if (read_needs_cluster(query)) {
        cluster = names_cluster(s, vars_get(s, "cluster"), &err);
        TRY(err);
        if (!read_inputs_known(s->coord, query, cluster)) {
            statement_wait(s, query, false, cluster, start_read);
            return ERR_OK;
        }
        TRY(read_choose_time(s->coord, query, cluster, &time));
        if (query->needs_now) {
            TRY(plan_at(s, read_time_as_now(time)));
            query = s->write->query;
        }
    }
    if (query->plan != NULL) {
        query->plan->memory_limit = vars_size(s, "dataflow_memory_limit");
    }
    s->run.state = RUN_READ;
    s->read = read_new(s->coord, query, on_rows, s);
    s->read->borrowed = true;
    s->read->retimable = !query->needs_now; /* no write can come in between: the lock is ours */
    read_start(s->read, cluster, time);
    return ERR_OK;
}

/* The statement timeout goes on counting: the client does not care what we wait for. */
static void on_granted(struct write_job *job)
{
    struct session *s = CONTAINER_OF(job, struct session, job);
    ASSERT(s->run.state == RUN_LOCK);
    /* Planned again: the catalog may have changed while we waited. */
    err_t err = plan(s, s->run.portal->prepared->stmt, 0);
    if (err == ERR_OK && survey_lacks(s)) { /* nobody is asked while the lock is held */
        err = err_sql(ERR_UNAVAILABLE, "40001",
                      "what the statement reads was defined anew while it waited");
    }
    if (err == ERR_OK) {
        err = start_read(s);
    }
    if (err != ERR_OK) {
        statement_fail(s, err);
    }
}

/* An UPDATE behind a long one waits here, cancellable. */
static void wait_for_lock(struct session *s)
{
    ASSERT(s->job.state == WRITE_IDLE);
    if (s->run.state != RUN_SURVEY) {
        statement_arm_timeout(s);
    }
    s->run.state = RUN_LOCK;
    s->job.granted = on_granted;
    write_lock(s->coord, &s->job);
}

/* What the implicit transaction wrote before is durable: the statement sees it. */
static void on_flushed(struct session *s, err_t err)
{
    if (err != ERR_OK) {
        statement_fail(s, err);
    } else {
        wait_for_lock(s);
    }
}

/* The plan tells whether the lock is needed; it is planned again once the lock is there. */
static err_t start(struct session *s)
{
    const struct sql_stmt *stmt = s->run.portal->prepared->stmt;
    TRY(transact_enter_write(s));
    TRY(plan(s, stmt, 0));
    if (survey_lacks(s)) {
        statement_arm_timeout(s);
        survey_ask(s, 0, 0, start);
        return ERR_OK;
    }
    if (s->write->kind == SQL_WRITE_INSERT && !read_needs_cluster(s->write->query)) {
        return start_read(s);
    }
    if (transact_in_block(s)) {
        return err_sql(ERR_INVALID, "25001",
                       "%s that reads tables cannot run inside a transaction block", stmt->tag);
    }
    if (!write_set_empty(&s->tx.writes)) {
        s->run.state = RUN_COMMIT;
        transact_commit(s, on_flushed);
    } else {
        wait_for_lock(s);
    }
    return ERR_OK;
}

/* The end is statement_complete or statement_fail, maybe before this returns. */
void change_start(struct session *s, const struct sql_stmt *stmt)
{
    ASSERT(s->write == NULL && s->job.state == WRITE_IDLE);
    ASSERT(stmt == s->run.portal->prepared->stmt);
    err_t err = start(s);
    if (err != ERR_OK) {
        statement_fail(s, err);
    }
}
