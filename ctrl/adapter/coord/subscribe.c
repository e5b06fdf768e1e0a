/*
 * SUBSCRIBE: the changes of a query as rows, for as long as the client listens. Changes arrive in
 * abutting chunks [lower, upper); they wait here until the statement (SUBSCRIBE itself, COPY of it,
 * or a FETCH from its cursor) can send them. What waits is bounded: a client that falls further
 * behind loses the subscription with a clear error, nobody else notices.
 *
 * A row out is: mz_timestamp, [mz_progressed with PROGRESS], mz_diff, the columns. Rows of a chunk
 * are sent in order of time. With PROGRESS a row of NULLs says that no change before its time will
 * come any more.
 *
 * Life: subscription_open makes a transient dataflow with one subscribe export; on_changes takes
 * chunks as the controller merges them; subscription_free drops the export. The subscription is
 * the portal's, so it goes on between the FETCHes of a cursor, and what changes meanwhile waits.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

enum { SUBSCRIPTION_MAX_BYTES = 256 * 1024 * 1024 };

/* Changes not yet sent. */
struct chunk {
    struct chunk *next;
    uint64_t upper;
    void *bytes;
    size_t size;
    struct batch batch;
    struct batch_col *cols;
    uint32_t *order; /* rows by time */
    uint32_t at;
};

/* Owned by its portal. cols counts the query's columns; the result has two or three more before
 * them. */
struct subscription {
    struct session *session;
    struct sql_query *query; /* owned, for its types */
    uint64_t cluster;
    uint64_t export_id;
    uint64_t until;
    uint32_t cols; /* data columns */
    bool progress;
    bool over;     /* no more chunks will come */
    err_t err;     /* why, when it went wrong */
    struct chunk *first, **last;
    size_t bytes;
    struct io_timer wake;
};

/* Out of the list already. */
static void chunk_free(struct chunk *chunk)
{
    free(chunk->bytes);
    free(chunk->cols);
    free(chunk->order);
    free(chunk);
}

/* By time, then as they came. */
static int compare_times(const void *pa, const void *pb, void *arg)
{
    const struct chunk *chunk = arg;
    uint32_t a = *(const uint32_t *)pa;
    uint32_t b = *(const uint32_t *)pb;
    uint64_t ta = batch_time(&chunk->batch, a);
    uint64_t tb = batch_time(&chunk->batch, b);
    if (ta != tb) {
        return ta < tb ? -1 : 1;
    }
    return a < b ? -1 : a > b;
}

/* The controller's rows end with its call, so they are copied, once, as one block. */
static struct chunk *chunk_new(const struct subscription *sub, uint64_t upper,
                               const struct batch *rows)
{
    struct chunk *chunk = MEM_NEW(struct chunk);
    ASSERT(sub->cols <= BATCH_COLS_MAX);
    chunk->upper = upper;
    if (rows == NULL || rows->rows == 0) {
        return chunk;
    }
    ASSERT(rows->cols == sub->cols);
    chunk->size = rows->size;
    chunk->bytes = aligned_alloc(BATCH_ALIGN, (rows->size + BATCH_ALIGN - 1) & ~(size_t)63);
    ASSERT(chunk->bytes != NULL);
    memcpy(chunk->bytes, rows->base, rows->size);
    chunk->cols = mem_alloc((rows->cols + 1) * sizeof(*chunk->cols));
    batch_view(chunk->bytes, chunk->size, chunk->cols, rows->cols, &chunk->batch);
    chunk->order = mem_alloc(rows->rows * sizeof(*chunk->order));
    for (uint32_t i = 0; i < rows->rows; i++) {
        chunk->order[i] = i;
    }
    qsort_r(chunk->order, rows->rows, sizeof(*chunk->order), compare_times, chunk);
    return chunk;
}

/* From the loop: several chunks that come in one go are sent in one go. */
static void wake_soon(struct subscription *sub)
{
    struct io_loop *loop = sub->session->coord->loop;
    io_timer_start(loop, &sub->wake, io_now_us(loop));
}

/* Only when the statement waits for this very subscription; else the rows wait for the next
 * FETCH. */
static void on_wake(struct io_timer *timer)
{
    struct subscription *sub = CONTAINER_OF(timer, struct subscription, wake);
    struct session *s = sub->session;
    if (s->run.state == RUN_SUBSCRIBE && s->run.source->subscription == sub) {
        subscription_pump(s);
    }
}

/*
 * Progress without rows moves the last chunk's upper when its own progress was not sent yet: a
 * client that does not read makes one row of progress wait, not one a tick. False: a chunk is
 * needed.
 */
static bool advance_last(struct subscription *sub, uint64_t upper)
{
    if (sub->first == NULL) {
        return false;
    }
    struct chunk *last = CONTAINER_OF(sub->last, struct chunk, next);
    ASSERT(last->next == NULL && last->upper <= upper);
    if (last->at > last->batch.rows) {
        return false;
    }
    last->upper = upper;
    return true;
}

static void on_changes(void *arg, uint64_t lower, uint64_t upper, const struct batch *ok,
                       err_t err)
{
    struct subscription *sub = arg;
    ASSERT(err != ERR_OK || lower <= upper);
    if (sub->over) {
        err_free(err);
        return;
    }
    if (err == ERR_OK && sub->bytes > SUBSCRIPTION_MAX_BYTES) {
        err = err_hint(err_sql(ERR_LIMIT, "53400", "the subscription fell more than %d MiB behind",
                               SUBSCRIPTION_MAX_BYTES / (1024 * 1024)),
                       "Read faster, or subscribe to less.");
    }
    if (err != ERR_OK) {
        sub->err = err;
        sub->over = true;
    } else {
        bool rows = ok != NULL && ok->rows > 0;
        if (rows || (sub->progress && !advance_last(sub, upper))) {
            struct chunk *chunk = chunk_new(sub, upper, ok);
            sub->bytes += chunk->size;
            *sub->last = chunk;
            sub->last = &chunk->next;
        }
        sub->over = upper >= sub->until;
        if (!rows && !sub->progress && !sub->over) {
            return;
        }
    }
    wake_soon(sub);
}

/* Named to the controller before the dataflow exists: the first chunk must not be missed. */
static err_t create(struct session *s, struct subscription *sub, uint64_t time)
{
    struct plan *plan = sub->query->plan;
    ASSERT(sub->export_id != 0);
    ASSERT(plan != NULL && plan->exports_len == 1);
    plan->id = sub->export_id;
    plan->as_of = time;
    plan->exports[0].id = sub->export_id;
    plan->exports[0].until = sub->until;
    sub->query->plan = NULL;
    controller_subscribe(s->coord->controller, sub->export_id, on_changes, sub);
    return controller_dataflow_create(s->coord->controller, sub->cluster, plan);
}

/* The columns as the planner describes them to Parse, so that both agree. */
static err_t describe(struct session *s, struct portal *p, const struct sql_stmt *stmt)
{
    struct sql_context cx;
    struct sql_description *d = NULL;
    names_context(s, &cx);
    cx.param_types = p->param_types;
    cx.params_len = p->params_len;
    TRY(sql_describe(&cx, stmt, &d));
    portal_set_columns(p, &d->columns);
    sql_description_free(d);
    return ERR_OK;
}

/* Takes the query. The snapshot is read at the same time a SELECT would be. */
err_t subscription_open(struct session *s, struct portal *p, struct sql_query *query,
                        const struct sql_stmt *stmt)
{
    uint64_t time = 0;
    err_t err = query->plan == NULL ? err_sql(ERR_UNSUPPORTED, "0A000",
                                              "SUBSCRIBE needs a query over a relation")
                                    : ERR_OK;
    struct subscription *sub = MEM_NEW(struct subscription);
    ASSERT(p->subscription == NULL);
    sub->session = s;
    sub->query = query;
    sub->last = &sub->first;
    sub->wake.fire = on_wake;
    sub->progress = stmt->subscribe.progress;
    sub->cols = query->types_len;
    sub->until = query->has_up_to ? query->up_to : FRONTIER_EMPTY;
    sub->cluster = names_cluster(s, vars_get(s, "cluster"), err == ERR_OK ? &err : NULL);
    if (err == ERR_OK) {
        err = transact_enter_read(s);
    }
    if (err == ERR_OK) {
        err = describe(s, p, stmt);
    }
    if (err == ERR_OK) {
        err = read_choose_time(s->coord, query, sub->cluster, &time);
    }
    if (err == ERR_OK && time >= sub->until) {
        err = err_sql(ERR_INVALID, "22023", "UP TO %llu is not after AS OF %llu",
                      (unsigned long long)sub->until, (unsigned long long)time);
    }
    if (err == ERR_OK) {
        ASSERT(p->columns.cols == sub->cols + 2 + (sub->progress ? 1 : 0));
        sub->export_id = coord_transient_id(s->coord);
        err = create(s, sub, time);
    }
    if (err != ERR_OK) {
        sub->export_id = 0;
        subscription_free(sub);
        return err;
    }
    p->subscription = sub;
    p->opened = true;
    subscription_pump(s);
    return ERR_OK;
}

/* The dataflow goes with it; a change that is on its way finds no receiver and is dropped. */
void subscription_free(struct subscription *sub)
{
    struct coord *coord = sub->session->coord;
    ASSERT(sub->session != NULL);
    io_timer_cancel(coord->loop, &sub->wake);
    if (sub->export_id != 0) {
        controller_export_drop(coord->controller, sub->cluster, sub->export_id);
    }
    while (sub->first != NULL) {
        struct chunk *chunk = sub->first;
        sub->first = chunk->next;
        chunk_free(chunk);
    }
    err_free(sub->err);
    sql_query_free(sub->query);
    free(sub);
}

/* One row of the result: mz_timestamp, [mz_progressed], mz_diff, the columns. */
static void fill_row(const struct subscription *sub, const struct chunk *chunk, struct datum *out)
{
    uint32_t at = 0;
    bool row = chunk->at < chunk->batch.rows;
    uint32_t index = row ? chunk->order[chunk->at] : 0;
    ASSERT(chunk->at <= chunk->batch.rows);
    memset(out, 0, (sub->cols + 3) * sizeof(*out));
    out[at++].i = (int64_t)(row ? batch_time(&chunk->batch, index) : chunk->upper);
    if (sub->progress) {
        out[at++].b = !row;
    }
    out[at].null = !row;
    out[at++].i = row ? batch_diff(&chunk->batch, index) : 0;
    for (uint32_t i = 0; i < sub->cols; i++) {
        if (row) {
            batch_datum(&chunk->cols[i], index, &out[at + i]);
        } else {
            out[at + i].null = true;
        }
    }
}

/* The next row; false when none waits. The last upper of a finished one is no progress. */
static bool next_row(struct subscription *sub, struct datum *out)
{
    ASSERT(sub->first != NULL || sub->bytes == 0);
    while (sub->first != NULL) {
        struct chunk *chunk = sub->first;
        bool row = chunk->at < chunk->batch.rows;
        bool progress = sub->progress && chunk->upper != FRONTIER_EMPTY &&
                        chunk->at == chunk->batch.rows;
        if (row || progress) {
            fill_row(sub, chunk, out);
            chunk->at++;
            return true;
        }
        sub->first = chunk->next;
        if (sub->first == NULL) {
            sub->last = &sub->first;
        }
        ASSERT(sub->bytes >= chunk->size);
        sub->bytes -= chunk->size;
        chunk_free(chunk);
    }
    return false;
}

/* The first time a statement comes to this subscription: from now on only the client's reading, or
 * a FETCH's own limit, bounds it. */
static err_t announce(struct session *s, struct subscription *sub)
{
    struct run *run = &s->run;
    ASSERT(run->source->subscription == sub);
    if (run->state == RUN_SUBSCRIBE) {
        return ERR_OK;
    }
    run->state = RUN_SUBSCRIBE;
    io_timer_cancel(s->coord->loop, &s->timeout);
    if (run->fetch_deadline != 0) {
        io_timer_start(s->coord->loop, &s->timeout, run->fetch_deadline);
    }
    return statement_announce(s);
}

/* Sends what waits; true when the statement's limit is reached. */
static bool send_waiting(struct session *s, struct subscription *sub)
{
    struct datum *row = mem_alloc((sub->cols + 4) * sizeof(*row));
    bool limited = false;
    ASSERT(s->run.state == RUN_SUBSCRIBE);
    while (!limited && pgwire_writable(s->conn)) {
        limited = s->run.max_rows >= 0 && s->run.sent >= (uint64_t)s->run.max_rows;
        if (limited || !next_row(sub, row)) {
            break;
        }
        statement_send_one(s, row);
    }
    free(row);
    return limited;
}

/* A FETCH is over once it has rows and none waits, or when its time is. */
static bool fetch_over(const struct session *s, const struct subscription *sub)
{
    ASSERT(s->run.state == RUN_SUBSCRIBE);
    if (s->run.portal == s->run.source) {
        return false;
    }
    if (s->run.sent > 0 && sub->first == NULL) {
        return true;
    }
    return s->run.fetch_deadline != 0 &&
           io_now_us(s->coord->loop) >= s->run.fetch_deadline;
}

/* The wait is over for this FETCH, not for the cursor: the next one waits again. */
err_t subscription_give_up(struct session *s)
{
    struct portal *cursor = s->run.source;
    const struct sql_stmt *stmt = cursor->prepared->stmt;
    ASSERT(s->run.state == RUN_WAIT && stmt->kind == SQL_SUBSCRIBE);
    statement_wait_end(s);
    TRY(describe(s, cursor, stmt));
    s->run.state = RUN_SUBSCRIBE;
    TRY(statement_announce(s));
    statement_rows_over(s, true);
    return ERR_OK;
}

/* Runs whenever there may be something to do: rows came, the socket drained, time is up. Ends the
 * statement at most once. */
void subscription_pump(struct session *s)
{
    struct subscription *sub = s->run.source->subscription;
    ASSERT(sub != NULL && sub->session == s);
    err_t err = announce(s, sub);
    if (err != ERR_OK) {
        statement_fail(s, err);
        return;
    }
    bool limited = send_waiting(s, sub);
    if (limited || fetch_over(s, sub)) {
        statement_rows_over(s, !limited);
        return;
    }
    if (sub->over && sub->first == NULL) {
        if (sub->err != ERR_OK) {
            statement_fail(s, err_copy(sub->err));
        } else {
            statement_rows_over(s, true);
        }
        return;
    }
    pgwire_flush(s->conn);
}
