/*
 * A storage worker inside storaged: runs on the worker's loop, hears orders from the main loop and
 * sends it news, both as mail. Serves cursors to the boundary.
 *
 * Orders (storaged_worker_*) are called on the main loop and run here, in order: open, run,
 * compact, advance, wake, append, serve, announce. News (frontiers, statuses, answers) go the other
 * way. A mail owns what it carries until it is run or released, so that nothing leaks when a loop
 * stops with mail under way.
 *
 * Frontiers are gathered during a turn of the loop and sent once: however many collections a tick
 * moves, the main loop gets one mail and the controller one message.
 *
 * The boundary calls its backend on this loop, so cursors and shards are touched by one thread
 * only.
 */
#include "ctrl/storaged/storaged_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

/* ---- news to the main loop ------------------------------------------------------------------- */

/*
 * Frontiers that moved during one turn of the worker's loop. From the first frontier that moves in
 * a turn until the turn's end; then the main loop's.
 */
struct frontier_mail {
    struct mail mail;
    struct storaged_worker *worker;
    struct storaged_frontier *news;
    size_t news_len;
    size_t news_cap;
};

static void frontier_run(struct mail *mail)
{
    ASSERT(mail != NULL);
    struct frontier_mail *m = CONTAINER_OF(mail, struct frontier_mail, mail);
    struct storaged *storaged = m->worker->owner;
    for (size_t i = 0; i < m->news_len; i++) {
        storaged_on_frontier(storaged, m->worker->local, &m->news[i]);
    }
    storaged_frontiers_flush(storaged);
}

static void frontier_release(struct mail *mail)
{
    free(CONTAINER_OF(mail, struct frontier_mail, mail)->news);
}

/* The end of the turn: posted tasks run after the callbacks that were due. */
static void report_run(struct io_task *task)
{
    struct storaged_worker *worker = CONTAINER_OF(task, struct storaged_worker, report_task);
    struct frontier_mail *report = worker->report;
    ASSERT(report != NULL);
    worker->report = NULL;
    u64map_free(&worker->reported);
    mail_send(&worker->owner->mailroom, worker->owner->loop, &report->mail, frontier_run,
              frontier_release);
}

/*
 * Says where the collection is now, whatever moved: a later word replaces an earlier one of the
 * same turn.
 */
static void report_frontier(struct storaged_worker *worker, uint64_t id)
{
    ASSERT(worker->storage != NULL);
    uint64_t since = 0;
    uint64_t upper = 0;
    err_t err = storage_frontiers(worker->storage, id, &since, &upper);
    if (err != ERR_OK) { /* dropped: both frontiers are empty */
        err_free(err);
        since = upper = FRONTIER_EMPTY;
    }
    if (worker->report == NULL) {
        worker->report = MEM_NEW(struct frontier_mail);
        worker->report->worker = worker;
        worker->report_task.run = report_run;
        io_post(worker->loop, &worker->report_task);
    }
    const struct storaged_frontier news = {id, since, upper, storage_ready(worker->storage, id)};
    size_t place = (size_t)(uintptr_t)u64map_get(&worker->reported, id);
    if (place > 0) {
        ASSERT(place <= worker->report->news_len && worker->report->news[place - 1].id == id);
        worker->report->news[place - 1] = news;
        return;
    }
    *VEC_PUSH(worker->report, news) = news;
    u64map_put(&worker->reported, id, (void *)(uintptr_t)worker->report->news_len);
}

/* Readers are woken before the controller hears of it: their data is what the news is about. */
static void on_advanced(void *ctx, uint64_t collection, uint64_t upper)
{
    struct storaged_worker *worker = ctx;
    if (worker->storage == NULL) {
        return; /* storage_open is still recovering */
    }
    if (worker->boundary != NULL) {
        boundary_server_wake(worker->boundary, worker->global, collection, upper);
    }
    report_frontier(worker, collection);
}

/* A word about a collection's ingestion, with its texts; also on_active's, which needs no text. */
struct status_mail {
    struct mail mail;
    struct storaged_worker *worker;
    uint64_t id;
    enum storage_status status;
    char *reason;
    char *hint;
};

static void status_run(struct mail *mail)
{
    struct status_mail *m = CONTAINER_OF(mail, struct status_mail, mail);
    storaged_on_status(m->worker->owner, m->worker->local, m->id, m->status, m->reason, m->hint);
}

/* The texts are copies: the worker's own may change before the main loop reads them. */
static void status_release(struct mail *mail)
{
    struct status_mail *m = CONTAINER_OF(mail, struct status_mail, mail);
    free(m->reason);
    free(m->hint);
}

static void on_status(void *ctx, uint64_t collection, enum storage_status status,
                      const char *reason, const char *hint)
{
    ASSERT(status <= STORAGE_DROPPED && ctx != NULL);
    struct storaged_worker *worker = ctx;
    struct status_mail *m = MEM_NEW(struct status_mail);
    m->worker = worker;
    m->id = collection;
    m->status = status;
    m->reason = mem_strdup(reason != NULL ? reason : "");
    m->hint = mem_strdup(hint != NULL ? hint : "");
    mail_send(&worker->owner->mailroom, worker->owner->loop, &m->mail, status_run,
              status_release);
}

static void active_run(struct mail *mail)
{
    struct status_mail *m = CONTAINER_OF(mail, struct status_mail, mail);
    storaged_on_active(m->worker->owner, m->worker->local);
}

/* See storaged_on_active; called a few times a second at most. */
static void on_active(void *ctx)
{
    ASSERT(ctx != NULL);
    struct storaged_worker *worker = ctx;
    struct status_mail *m = MEM_NEW(struct status_mail);
    m->worker = worker;
    mail_send(&worker->owner->mailroom, worker->owner->loop, &m->mail, active_run,
              status_release);
}

static const struct storage_host worker_host = {
    .advanced = on_advanced, .status = on_status, .active = on_active};

/* ---- orders from the main loop --------------------------------------------------------------- */

/* An order, and the answer to it on the way back. */
struct worker_mail {
    struct mail mail;
    struct storaged_worker *worker;
    uint64_t id;
    uint64_t time; /* or epoch, since, upper */
    err_t err;
    struct run_order *run;
    struct append_order *append;
    struct boundary_server *server;
    struct worker_mail *next_appending; /* of the worker, while storage_append holds the answer */
};

/* Whatever the mail still owns: orders that ran have taken their part out. */
static void worker_mail_release(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    err_free(m->err);
    if (m->run != NULL) {
        arena_free(&m->run->arena);
        free(m->run);
    }
    append_order_free(m->append);
}

/* Answers are mails of the same kind, made on the worker. */
static struct worker_mail *order_new(struct storaged_worker *worker)
{
    ASSERT(worker->owner != NULL);
    struct worker_mail *m = MEM_NEW(struct worker_mail);
    m->worker = worker;
    return m;
}

static void order_send(struct worker_mail *m, mail_fn run)
{
    ASSERT(m->worker->loop != NULL && run != NULL);
    mail_send(&m->worker->owner->mailroom, m->worker->loop, &m->mail, run, worker_mail_release);
}

static void answer_send(struct worker_mail *m, mail_fn run)
{
    ASSERT(run != NULL);
    struct storaged *storaged = m->worker->owner;
    mail_send(&storaged->mailroom, storaged->loop, &m->mail, run, worker_mail_release);
}

/* On the main loop. */
static void opened_run(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    err_t err = m->err;
    m->err = ERR_OK;
    storaged_on_opened(m->worker->owner, err, m->time);
}

/*
 * Opening is synchronous: recovery reads the log. A second attempt after another worker's failure
 * finds this one open.
 */
static void open_run(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    struct storaged_worker *worker = m->worker;
    const struct storaged_config *config = &worker->owner->config;
    struct storage_config storage = {
        .loop = worker->loop,
        .directory = worker->directory,
        .worker = worker->global,
        .workers = config->processes * config->workers,
        .epoch = m->time,
        .host = &worker_host,
        .ctx = worker,
        .metrics = config->metrics,
        .tick_us = config->tick_us,
    };
    struct worker_mail *answer = order_new(worker);
    ASSERT(m->time > 0); /* epochs begin at 1 */
    if (worker->storage == NULL) {
        answer->err = storage_open(&storage, &worker->storage);
    }
    answer->err = err_wrap(answer->err, "opening storage worker %u in %s", worker->global,
                           worker->directory);
    if (answer->err == ERR_OK) {
        answer->time = storage_last_append(worker->storage);
    }
    answer_send(answer, opened_run);
}

void storaged_worker_open(struct storaged_worker *worker, uint64_t epoch)
{
    struct worker_mail *m = order_new(worker);
    m->time = epoch;
    order_send(m, open_run);
}

/*
 * A refusal shows as the collection's status: the catalog has it, and its user asks why it is
 * empty.
 */
static void run_run(struct mail *mail)
{
    ASSERT(mail != NULL);
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    err_t err = storage_run(m->worker->storage, &m->run->collection);
    if (err != ERR_OK) {
        LOG_ERROR("storaged", "collection refused", LOG_U64("id", m->run->collection.id),
                  LOG_ERR(err));
        on_status(m->worker, m->run->collection.id, STORAGE_STALLED, err_text(err),
                  err_hint_get(err));
        err_free(err);
        return;
    }
    report_frontier(m->worker, m->run->collection.id);
}

/* Takes over order. */
void storaged_worker_run(struct storaged_worker *worker, struct run_order *order)
{
    ASSERT(order != NULL);
    struct worker_mail *m = order_new(worker);
    m->run = order;
    order_send(m, run_run);
}

/*
 * Unknown ids are dropped already. The frontier is reported in any case: that is how the main loop
 * learns that a part is gone.
 */
static void compact_run(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    err_t err = storage_allow_compaction(m->worker->storage, m->id, m->time);
    if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND) {
        LOG_WARN("storaged", "compaction refused", LOG_U64("id", m->id), LOG_ERR(err));
    }
    err_free(err);
    report_frontier(m->worker, m->id);
}

void storaged_worker_compact(struct storaged_worker *worker, uint64_t id, uint64_t since)
{
    struct worker_mail *m = order_new(worker);
    m->id = id;
    m->time = since;
    order_send(m, compact_run);
}

/* Bounded by the main loop; a promise that is behind is no error. */
static void advance_run(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    storage_advance_tables(m->worker->storage, m->time);
}

void storaged_worker_advance(struct storaged_worker *worker, uint64_t upper)
{
    struct worker_mail *m = order_new(worker);
    m->time = upper;
    order_send(m, advance_run);
}

static void wake_run(struct mail *mail)
{
    struct storaged_worker *worker = CONTAINER_OF(mail, struct worker_mail, mail)->worker;
    if (worker->storage != NULL) { /* another worker may be open before this one */
        storage_wake(worker->storage);
    }
}

void storaged_worker_wake(struct storaged_worker *worker)
{
    order_send(order_new(worker), wake_run);
}

void append_order_free(struct append_order *order)
{
    ASSERT(order == NULL || order->storage != NULL || order->writes_len == 0);
    if (order == NULL) {
        return;
    }
    for (size_t i = 0; i < order->writes_len; i++) {
        free(order->storage[i]);
    }
    arena_free(&order->arena);
    free(order);
}

static void appended_run(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    err_t err = m->err;
    m->err = ERR_OK;
    storaged_on_appended(m->worker->owner, m->time, err);
}

/*
 * storage_append holds `arg` until it calls done: the answer message itself. The answer is unlinked
 * before it is sent: from then on the mail is the mailroom's.
 */
static void append_done(void *arg, err_t err)
{
    struct worker_mail *answer = arg;
    struct worker_mail **at = &answer->worker->appending;
    while (*at != answer) {
        ASSERT(*at != NULL);
        at = &(*at)->next_appending;
    }
    *at = answer->next_appending;
    answer->err = err;
    answer_send(answer, appended_run);
}

/* The batches live until the mail is released, after this returns: storage_append copies them. */
static void append_run(struct mail *mail)
{
    ASSERT(mail != NULL);
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    struct worker_mail *answer = order_new(m->worker);
    answer->time = m->append->time;
    answer->next_appending = m->worker->appending;
    m->worker->appending = answer;
    storage_append(m->worker->storage, m->append->time, m->append->writes, m->append->writes_len,
                   append_done, answer);
}

void storaged_worker_append(struct storaged_worker *worker, struct append_order *order)
{
    ASSERT(order != NULL && worker->global == 0);
    struct worker_mail *m = order_new(worker);
    m->append = order;
    order_send(m, append_run);
}

/*
 * From now on subscribers may come to this worker. Storage is open by then: the boundary opens
 * after a session's commands, which wait for it.
 */
static void serve_run(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    struct storaged_worker *worker = m->worker;
    worker->boundary = m->server;
    ASSERT(worker->boundary != NULL && worker->storage != NULL);
    boundary_server_worker(m->server, worker->global, worker->loop, worker);
}

void storaged_worker_serve(struct storaged_worker *worker, struct boundary_server *server)
{
    struct worker_mail *m = order_new(worker);
    m->server = server;
    order_send(m, serve_run);
}

/* Sizes are for metrics; nobody asks here. */
static void announce_one(void *arg, uint64_t id, uint64_t since, uint64_t upper, uint64_t rows,
                         uint64_t bytes)
{
    report_frontier(arg, id);
}

static void announce_run(struct mail *mail)
{
    struct worker_mail *m = CONTAINER_OF(mail, struct worker_mail, mail);
    storage_collections(m->worker->storage, announce_one, m->worker);
}

/* A new session hears every frontier again. */
void storaged_worker_announce(struct storaged_worker *worker)
{
    order_send(order_new(worker), announce_run);
}

/* On the main loop, when the worker's thread is gone: nobody runs here any more. */
void storaged_worker_free(struct storaged_worker *worker)
{
    if (worker->report != NULL) {
        io_task_cancel(worker->loop, &worker->report_task);
        free(worker->report->news);
        free(worker->report);
    }
    u64map_free(&worker->reported);
    storage_free(worker->storage);
    while (worker->appending != NULL) { /* storage went without an answer */
        struct worker_mail *answer = worker->appending;
        worker->appending = answer->next_appending;
        free(answer);
    }
    free(worker->directory);
}

/* ---- cursors for the boundary ---------------------------------------------------------------- */

/* worker_ctx is what serve_run gave the boundary. Refusals go to the subscriber as they are. */
static err_t backend_open(void *worker_ctx, const struct boundary_request *request, void **cursor)
{
    struct storaged_worker *worker = worker_ctx;
    ASSERT(request->worker == worker->global);
    struct storage_cursor *opened = NULL;
    TRY(storage_cursor_open(worker->storage, request->source, request->as_of,
                            request->resume ? &request->resume_from : NULL, &opened));
    *cursor = opened;
    ASSERT(opened != NULL);
    return ERR_OK;
}

/* Of storage_place: straight into what is sent. */
static void take_room(void *arg, size_t ok_len, size_t err_len, uint8_t **ok, uint8_t **err)
{
    struct boundary_room *room = arg;
    *ok = boundary_room_take(room, ok_len, err_len, err);
}

/*
 * Pointers of the chunk are valid until the next call on the cursor: the boundary copies or sends
 * first.
 */
static err_t backend_next(void *cursor, size_t max_bytes, struct boundary_room *room,
                          struct boundary_chunk *out, bool *more)
{
    ASSERT(cursor != NULL && max_bytes > 0);
    struct storage_chunk chunk = {0};
    const struct storage_place place = {.take = take_room, .arg = room};
    TRY(storage_cursor_next(cursor, max_bytes, &place, &chunk, more));
    *out = (struct boundary_chunk){.lower = chunk.lower,
                                   .upper = chunk.upper,
                                   .ok = chunk.ok,
                                   .ok_len = chunk.ok_len,
                                   .err = chunk.err,
                                   .err_len = chunk.err_len};
    return ERR_OK;
}

static void backend_close(void *cursor)
{
    storage_cursor_close(cursor);
}

static bool backend_skip(void *cursor, uint64_t lower, uint64_t upper)
{
    return storage_cursor_skip(cursor, lower, upper);
}

const struct boundary_backend storaged_boundary_backend = {.open = backend_open,
                                                           .next = backend_next,
                                                           .close = backend_close,
                                                           .skip = backend_skip};
