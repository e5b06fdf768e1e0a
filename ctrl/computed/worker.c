/*
 * A compute worker inside computed: its engine on its loop, orders from the main loop, news to it,
 * messages from other workers through the exchange. Everything here runs on the worker's loop but
 * for news_run and frontier_run (main loop) and the computed_worker_* functions that send orders
 * (main loop).
 *
 * Orders and news are mail: FIFO each way, so a drop comes after the create it is about, and a
 * worker's frontier after the subscription pieces below it. There is no order between what the main
 * loop hears from two workers, and none is relied upon.
 *
 * Frontiers move with every step of the engine, for each export: they are gathered during a turn of
 * the loop and sent as one message in its end (report_task), the last value of each.
 *
 * A lost generation (exchange_lost) empties the worker at once: the engine's state was built on
 * messages of processes that are gone. The main loop hears of it, drops what it knows and ends the
 * session. Orders that were on their way then meet an engine that does not know their dataflows,
 * which is no error.
 */
#include "ctrl/computed/computed_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>

/* ---- news to the main loop ------------------------------------------------------------------- */

enum news_kind { NEWS_PEEK_ROWS, NEWS_PEEK, NEWS_SUBSCRIBE, NEWS_FAILED, NEWS_FORMED, NEWS_LOST };

/* One event. Owned by the mailroom once sent; filled before, read after: never both at once. */
struct news_mail {
    struct mail mail;
    struct computed_worker *worker;
    enum news_kind kind;
    uint64_t id; /* peek, export, dataflow, generation */
    uint64_t incarnation; /* of the dataflow of a subscription */
    uint64_t lower, upper;
    struct buf ok; /* batch bytes */
    struct buf errs;
    err_t err;
};

/* On the main loop. */
static void news_run(struct mail *mail)
{
    ASSERT(mail->run == news_run);
    struct news_mail *m = CONTAINER_OF(mail, struct news_mail, mail);
    struct computed *computed = m->worker->owner;
    err_t err = m->err;
    m->err = ERR_OK;
    switch (m->kind) {
    case NEWS_PEEK_ROWS: computed_on_peek_rows(computed, m->id, &m->ok); break;
    case NEWS_PEEK: computed_on_peek(computed, m->id, &m->ok, err); break;
    case NEWS_SUBSCRIBE:
        computed_on_subscribe(computed, m->worker->global, m->incarnation, m->id, m->lower,
                              m->upper, &m->ok, &m->errs);
        break;
    case NEWS_FAILED: computed_on_failed(computed, m->id, err); break;
    case NEWS_FORMED: computed_on_formed(computed, m->worker->local, m->id); break;
    case NEWS_LOST:
        computed_on_lost(computed, m->worker->local, err_text(err));
        err_free(err);
        break;
    }
}

static void news_release(struct mail *mail)
{
    struct news_mail *m = CONTAINER_OF(mail, struct news_mail, mail);
    buf_free(&m->ok);
    buf_free(&m->errs);
    err_free(m->err);
}

static struct news_mail *news_new(struct computed_worker *worker, enum news_kind kind, uint64_t id)
{
    ASSERT(worker != NULL && worker->owner != NULL);
    struct news_mail *m = MEM_NEW(struct news_mail);
    m->worker = worker;
    m->kind = kind;
    m->id = id;
    return m;
}

static void news_send(struct news_mail *m)
{
    struct computed *computed = m->worker->owner;
    mail_send(&computed->mailroom, computed->loop, &m->mail, news_run, news_release);
}

/* Frontiers that moved during one turn of the worker's loop. */
struct frontier_mail {
    struct mail mail;
    struct computed_worker *worker;
    struct u64map at; /* export -> 1 + index in news */
    struct frontier_news *news;
    size_t news_len, news_cap;
    struct u64map sources_at; /* source -> 1 + index in sources */
    struct source_news {
        uint64_t id, upper;
    } *sources;
    size_t sources_len, sources_cap;
};

/* On the main loop: all of the worker's exports that moved, then one message to the controller. */
static void frontier_run(struct mail *mail)
{
    ASSERT(mail->run == frontier_run);
    struct frontier_mail *m = CONTAINER_OF(mail, struct frontier_mail, mail);
    struct computed *computed = m->worker->owner;
    for (size_t i = 0; i < m->sources_len; i++) {
        computed_on_source(computed, m->worker->local, m->sources[i].id, m->sources[i].upper);
    }
    for (size_t i = 0; i < m->news_len; i++) {
        computed_on_frontier(computed, m->worker->local, &m->news[i]);
    }
    computed_frontiers_flush(computed);
}

static void frontier_release(struct mail *mail)
{
    struct frontier_mail *m = CONTAINER_OF(mail, struct frontier_mail, mail);
    u64map_free(&m->at);
    u64map_free(&m->sources_at);
    free(m->news);
    free(m->sources);
}

/* In the end of the turn in which something moved. */
static void report_run(struct io_task *task)
{
    struct computed_worker *worker = CONTAINER_OF(task, struct computed_worker, report_task);
    struct frontier_mail *report = worker->report;
    ASSERT(report != NULL);
    worker->report = NULL;
    mail_send(&worker->owner->mailroom, worker->owner->loop, &report->mail, frontier_run,
              frontier_release);
}

/* ---- what the engine asks of its host -------------------------------------------------------- */

/* To another worker of the replica, in this process or another. */
static void host_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    ASSERT(dest < computed_workers_total(((struct computed_worker *)ctx)->owner));
    struct computed_worker *worker = ctx;
    exchange_send(worker->owner->exchange, worker->local, dest, payload, len);
}

/* A large payload is built where its receiver reads it. */
static void host_reserve(void *ctx, uint32_t dest, size_t len, struct engine_block *out)
{
    struct computed_worker *worker = ctx;
    struct exchange_block block;
    exchange_reserve(worker->owner->exchange, worker->local, dest, len, &block);
    ASSERT(block.len >= len);
    *out = (struct engine_block){.data = block.data, .len = len, .owner = block.owner};
}

static void host_commit(void *ctx, uint32_t dest, struct engine_block *block)
{
    struct computed_worker *worker = ctx;
    ASSERT(block->owner != NULL);
    struct exchange_block whole = {.data = block->data, .len = block->len, .owner = block->owner};
    exchange_commit(worker->owner->exchange, worker->local, dest, &whole, block->len);
}

/* The dataflow an export belongs to now; news of an earlier one is told apart by it. */
static uint64_t incarnation_of(const struct computed_worker *worker, uint64_t export_id)
{
    return (uintptr_t)u64map_get(&worker->exports, export_id);
}

static struct frontier_mail *report_of(struct computed_worker *worker)
{
    if (worker->report == NULL) {
        worker->report = MEM_NEW(struct frontier_mail);
        worker->report->worker = worker;
        worker->report_task.run = report_run;
        io_post(worker->loop, &worker->report_task);
    }
    ASSERT(worker->report->worker == worker);
    return worker->report;
}

/* What this turn says of an export; upper 0: nothing new but what is set now. */
static struct frontier_news *news_of(struct computed_worker *worker, uint64_t export_id)
{
    struct frontier_mail *report = report_of(worker);
    uintptr_t at = (uintptr_t)u64map_get(&report->at, export_id);
    if (at == 0) {
        *VEC_PUSH(report, news) = (struct frontier_news){.id = export_id};
        at = report->news_len;
        u64map_put(&report->at, export_id, (void *)at);
        ASSERT(at > 0 && report->news[at - 1].id == export_id);
    }
    uint64_t incarnation = incarnation_of(worker, export_id);
    if (report->news[at - 1].incarnation != incarnation) {
        report->news[at - 1] = (struct frontier_news){.id = export_id, .incarnation = incarnation};
    }
    return &report->news[at - 1];
}

/* Called from inside engine_step, possibly many times a step. */
static void host_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct computed_worker *worker = ctx;
    struct frontier_news *news = news_of(worker, export_id);
    news->upper = upper;
    news->follows = false;
    struct computed_dataflow *dataflow = u64map_get(&worker->dataflows, news->incarnation);
    if (dataflow != NULL && upper > dataflow->as_of) {
        dataflow->hydrated = true;
    }
}

static void host_follows(void *ctx, uint64_t export_id, bool changed)
{
    struct frontier_news *news = news_of(ctx, export_id);
    news->follows = true;
    news->changed = news->changed || changed;
}

void worker_report_source(struct computed_worker *worker, uint64_t source, uint64_t upper)
{
    struct frontier_mail *report = report_of(worker);
    uintptr_t at = (uintptr_t)u64map_get(&report->sources_at, source);
    if (at == 0) {
        *VEC_PUSH(report, sources) = (struct source_news){.id = source};
        at = report->sources_len;
        u64map_put(&report->sources_at, source, (void *)at);
    }
    ASSERT(report->sources[at - 1].id == source);
    report->sources[at - 1].upper = upper;
}

/* The engine's batch is valid during the call only; no rows are no bytes. */
static void batch_copy(const struct batch *batch, struct buf *out)
{
    if (batch != NULL && batch->rows > 0) {
        buf_append(out, batch->base, batch->size);
    }
}

static void host_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                           const struct batch *ok, const struct batch *err)
{
    ASSERT(lower <= upper);
    struct news_mail *m = news_new(ctx, NEWS_SUBSCRIBE, export_id);
    m->incarnation = incarnation_of(ctx, export_id);
    m->lower = lower;
    m->upper = upper;
    batch_copy(ok, &m->ok);
    batch_copy(err, &m->errs);
    news_send(m);
}

/* Pieces go ahead of the last one. */
static void host_peek_rows(void *ctx, uint64_t peek_id, const struct batch *rows)
{
    struct news_mail *m = news_new(ctx, NEWS_PEEK_ROWS, peek_id);
    batch_copy(rows, &m->ok);
    news_send(m);
}

/* Takes err. Rows of this worker's part of the index. */
static void host_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    ASSERT(rows == NULL || err == ERR_OK);
    struct news_mail *m = news_new(ctx, NEWS_PEEK, peek_id);
    batch_copy(rows, &m->ok);
    m->err = err;
    news_send(m);
}

/* Not in worker->dataflows: it is being dropped, or created and not subscribed yet. */
static void host_restarted(void *ctx, uint64_t dataflow_id)
{
    struct computed_worker *worker = ctx;
    struct computed_dataflow *dataflow = u64map_get(&worker->dataflows, dataflow_id);
    if (dataflow != NULL) {
        worker_inputs_restart(worker, dataflow);
    }
}

static void host_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    ASSERT(err != ERR_OK);
    worker_dataflow_failed(ctx, dataflow_id, err);
}

static const struct engine_host worker_host = {.send = host_send,
                                               .reserve = host_reserve,
                                               .commit = host_commit,
                                               .frontier = host_frontier,
                                               .follows = host_follows,
                                               .subscribe = host_subscribe,
                                               .peek_rows = host_peek_rows,
                                               .peek_done = host_peek_done,
                                               .restarted = host_restarted,
                                               .failed = host_failed};

void worker_dataflow_failed(struct computed_worker *worker, uint64_t dataflow, err_t err)
{
    struct news_mail *m = news_new(worker, NEWS_FAILED, dataflow);
    m->err = err;
    news_send(m);
}

/* ---- the engine's loop ----------------------------------------------------------------------- */

/* One step of bounded length; true: go round again without sleeping. */
static bool worker_poll(struct io_poller *poller)
{
    ASSERT(poller->poll == worker_poll);
    struct computed_worker *worker = CONTAINER_OF(poller, struct computed_worker, poller);
    if (!exchange_ready(worker->owner->exchange, worker->local)) {
        return false; /* the others have not taken what there is: their taking it wakes this loop */
    }
    bool more = engine_step(worker->engine);
    exchange_flush(worker->owner->exchange, worker->local);
    worker_inputs_unpause(worker);
    return more;
}

static void engine_make(struct computed_worker *worker)
{
    ASSERT(worker->global < computed_workers_total(worker->owner));
    const struct engine_config config = {
        .worker = worker->global,
        .workers = computed_workers_total(worker->owner),
        .loop = worker->loop,
        .host = &worker_host,
        .ctx = worker,
        .memory_limit = worker->owner->config.memory_limit,
    };
    worker->engine = engine_new(&config);
}

/* Unsubscribes from storage with each input. */
static void dataflows_free(struct computed_worker *worker)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&worker->dataflows, &at, &id, &value)) {
        worker_inputs_free(value);
    }
    u64map_free(&worker->dataflows);
    u64map_free(&worker->exports);
}

static void exchange_formed(void *worker_ctx, uint64_t generation)
{
    news_send(news_new(worker_ctx, NEWS_FORMED, generation));
}

/*
 * Bytes of another process, or of another worker of this one. What the engine refuses means that
 * the two disagree about the replica's state: the generation is given up.
 */
static void exchange_message(void *worker_ctx, uint32_t from, const uint8_t *data, size_t len)
{
    ASSERT(from < computed_workers_total(((struct computed_worker *)worker_ctx)->owner));
    struct computed_worker *worker = worker_ctx;
    err_t err = engine_receive(worker->engine, from, data, len);
    if (err != ERR_OK) {
        LOG_ERROR("computed", "message of another worker refused", LOG_U64("from", from),
                  LOG_ERR(err));
        struct news_mail *m = news_new(worker, NEWS_LOST, 0);
        m->err = err_wrap(err, "worker %u", from);
        news_send(m);
    }
}

/* The state built on the generation's messages goes at once; the main loop hears of it. */
static void exchange_lost(void *worker_ctx, const char *reason)
{
    ASSERT(((struct computed_worker *)worker_ctx)->engine != NULL);
    struct computed_worker *worker = worker_ctx;
    dataflows_free(worker);
    engine_free(worker->engine);
    engine_make(worker);
    struct news_mail *m = news_new(worker, NEWS_LOST, 0);
    m->err = err_new(ERR_UNAVAILABLE, "%s", reason);
    news_send(m);
}

const struct exchange_handler computed_exchange_handler = {
    .formed = exchange_formed, .message = exchange_message, .lost = exchange_lost};

/* ---- orders ---------------------------------------------------------------------------------- */

/* What the main loop asks for. id and time mean what the order says. */
struct order_mail {
    struct mail mail;
    struct computed_worker *worker;
    uint64_t id;
    uint64_t time;
    struct buf message; /* bytes of the command, or none */
};

static void order_release(struct mail *mail)
{
    buf_free(&CONTAINER_OF(mail, struct order_mail, mail)->message);
}

static void order_send(struct computed_worker *worker, mail_fn run, uint64_t id, uint64_t time,
                       const uint8_t *message, size_t len)
{
    ASSERT(worker->loop != NULL && run != NULL);
    struct order_mail *m = MEM_NEW(struct order_mail);
    m->worker = worker;
    m->id = id;
    m->time = time;
    buf_append(&m->message, message, len);
    mail_send(&worker->owner->mailroom, worker->loop, &m->mail, run, order_release);
}

/* The first order of every worker. */
static void start_run(struct mail *mail)
{
    struct computed_worker *worker = CONTAINER_OF(mail, struct order_mail, mail)->worker;
    ASSERT(worker->engine == NULL && !worker->polling);
    engine_make(worker);
    boundary_client_worker(worker->owner->boundary, worker->local, worker->loop);
    exchange_worker(worker->owner->exchange, worker->local, worker->loop, worker);
    worker->poller = (struct io_poller){.poll = worker_poll};
    io_poller_add(worker->loop, &worker->poller);
    worker->polling = true;
}

void computed_worker_start(struct computed_worker *worker)
{
    order_send(worker, start_run, 0, 0, NULL, 0);
}

/* From here on news of these exports carry this incarnation. */
static void stamp_exports(struct computed_worker *worker, struct computed_dataflow *dataflow,
                          const struct plan *plan)
{
    ASSERT(dataflow->id != 0 && dataflow->exports == NULL);
    dataflow->exports = mem_zalloc(plan->exports_len * sizeof(dataflow->exports[0]));
    dataflow->exports_len = plan->exports_len;
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        dataflow->exports[i] = plan->exports[i].id;
        u64map_put(&worker->exports, plan->exports[i].id, (void *)(uintptr_t)dataflow->id);
    }
}

/* Unless a later incarnation has taken an id over. */
static void forget_exports(struct computed_worker *worker,
                           const struct computed_dataflow *dataflow)
{
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        if (incarnation_of(worker, dataflow->exports[i]) == dataflow->id) {
            u64map_remove(&worker->exports, dataflow->exports[i]);
        }
    }
}

/*
 * The order of steps: inputs are counted first, because the engine must know how many parts will
 * feed each source; exports are stamped before engine_create, which may tell frontiers at once; the
 * subscriptions come last, when there is somewhere to put their data.
 */
static err_t create(struct computed_worker *worker, const tailrace_v1_CreateDataflow *message,
                    uint64_t as_of, struct arena *arena)
{
    ASSERT(message->incarnation != 0);
    struct plan *plan = NULL;
    TRY(plan_codec_decode(&message->plan, &plan));
    plan->as_of = as_of;
    plan->id = message->incarnation;
    uint32_t *parts = NULL;
    size_t parts_len = 0;
    struct computed_dataflow *dataflow = MEM_NEW(struct computed_dataflow);
    dataflow->id = plan->id;
    dataflow->as_of = as_of;
    err_t err =
        worker_inputs_plan(worker, dataflow, plan, message, &parts, &parts_len, arena);
    stamp_exports(worker, dataflow, plan);
    if (err == ERR_OK) {
        err = engine_create(worker->engine, plan, parts, parts_len);
    } else {
        plan_free(plan);
    }
    if (err != ERR_OK) {
        forget_exports(worker, dataflow);
        worker_inputs_free(dataflow);
        return err;
    }
    ASSERT(u64map_put(&worker->dataflows, dataflow->id, dataflow) == NULL);
    worker_inputs_subscribe(worker, dataflow);
    return ERR_OK;
}

/* A dataflow that cannot be created here failed: the controller hears it like any later failure. */
static void create_run(struct mail *mail)
{
    struct order_mail *m = CONTAINER_OF(mail, struct order_mail, mail);
    tailrace_v1_ComputeCommand command;
    err_t err = rpc_decode_pb(tailrace_v1_ComputeCommand_fields, &command, m->message.data,
                              m->message.len);
    if (err == ERR_OK) {
        struct arena arena = {0};
        err = create(m->worker, &command.command.create_dataflow, m->time, &arena);
        arena_free(&arena);
        rpc_release_pb(tailrace_v1_ComputeCommand_fields, &command);
    }
    if (err != ERR_OK) {
        worker_dataflow_failed(m->worker, m->id, err);
    }
}

void computed_worker_create(struct computed_worker *worker, uint64_t incarnation,
                            const uint8_t *message, size_t len, uint64_t as_of)
{
    ASSERT(incarnation != 0 && len > 0);
    order_send(worker, create_run, incarnation, as_of, message, len);
}

/* Also for one that was never created here, or went with its generation. */
static void drop_run(struct mail *mail)
{
    struct order_mail *m = CONTAINER_OF(mail, struct order_mail, mail);
    struct computed_dataflow *dataflow = u64map_remove(&m->worker->dataflows, m->id);
    if (dataflow != NULL) {
        forget_exports(m->worker, dataflow);
        worker_inputs_free(dataflow);
    }
    engine_drop(m->worker->engine, m->id);
}

void computed_worker_drop(struct computed_worker *worker, uint64_t incarnation)
{
    ASSERT(incarnation != 0);
    order_send(worker, drop_run, incarnation, 0, NULL, 0);
}

static void forget_run(struct mail *mail)
{
    struct order_mail *m = CONTAINER_OF(mail, struct order_mail, mail);
    engine_forget_before(m->worker->engine, m->id);
}

void computed_worker_forget_before(struct computed_worker *worker, uint64_t incarnation)
{
    order_send(worker, forget_run, incarnation, 0, NULL, 0);
}

static void compact_run(struct mail *mail)
{
    struct order_mail *m = CONTAINER_OF(mail, struct order_mail, mail);
    engine_allow_compaction(m->worker->engine, m->id, m->time);
}

void computed_worker_compact(struct computed_worker *worker, uint64_t export_id, uint64_t since)
{
    order_send(worker, compact_run, export_id, since, NULL, 0);
}

/*
 * The program was validated by the main loop (check_peek); keys are checked here, against the index
 * as this engine has it.
 */
static err_t peek(struct computed_worker *worker, uint64_t local_id,
                  const tailrace_v1_Peek *message, struct arena *arena)
{
    ASSERT(local_id != 0);
    struct engine_peek peek = {.peek_id = local_id,
                               .index_id = message->index,
                               .time = message->time,
                               .limit = message->limit,
                               .order_len = message->order_count};
    struct mfp mfp;
    if (message->has_mfp) {
        TRY(plan_codec_decode_mfp(&message->mfp, arena, &mfp));
        peek.mfp = &mfp;
    }
    peek.order = plan_codec_decode_order(message->order, message->order_count, arena);
    void *storage = NULL;
    struct batch keys;
    if (message->has_keys) {
        uint8_t *kinds = ARENA_ARRAY(arena, uint8_t, message->key_kinds_count + 1);
        for (size_t i = 0; i < message->key_kinds_count; i++) {
            kinds[i] = (uint8_t)message->key_kinds[i];
        }
        TRY(plan_codec_open_batch(&message->keys.data, kinds, message->key_kinds_count, arena,
                                  &storage, &keys));
        peek.keys = &keys;
    }
    engine_peek(worker->engine, &peek);
    free(storage);
    return ERR_OK;
}

static void peek_run(struct mail *mail)
{
    struct order_mail *m = CONTAINER_OF(mail, struct order_mail, mail);
    tailrace_v1_ComputeCommand command;
    err_t err = rpc_decode_pb(tailrace_v1_ComputeCommand_fields, &command, m->message.data,
                              m->message.len);
    if (err == ERR_OK) {
        struct arena arena = {0};
        err = peek(m->worker, m->id, &command.command.peek, &arena);
        arena_free(&arena);
        rpc_release_pb(tailrace_v1_ComputeCommand_fields, &command);
    }
    if (err != ERR_OK) {
        host_peek_done(m->worker, m->id, NULL, err);
    }
}

void computed_worker_peek(struct computed_worker *worker, uint64_t id, const uint8_t *message,
                          size_t len)
{
    ASSERT(id != 0 && len > 0);
    order_send(worker, peek_run, id, 0, message, len);
}

static void cancel_run(struct mail *mail)
{
    struct order_mail *m = CONTAINER_OF(mail, struct order_mail, mail);
    engine_peek_cancel(m->worker->engine, m->id);
}

void computed_worker_cancel(struct computed_worker *worker, uint64_t peek_id)
{
    ASSERT(peek_id != 0);
    order_send(worker, cancel_run, peek_id, 0, NULL, 0);
}

/* The loop has stopped or is this thread's own. */
void computed_worker_free(struct computed_worker *worker)
{
    ASSERT(worker->owner != NULL);
    if (worker->polling) {
        io_poller_remove(worker->loop, &worker->poller);
    }
    worker_surveys_free(worker);
    dataflows_free(worker); /* tells that its feeds go */
    if (worker->report != NULL) {
        io_task_cancel(worker->loop, &worker->report_task);
        frontier_release(&worker->report->mail);
        free(worker->report);
    }
    ASSERT(worker->sources.len == 0);
    u64map_free(&worker->sources);
    free(worker->paused);
    if (worker->engine != NULL) {
        engine_free(worker->engine);
    }
}
