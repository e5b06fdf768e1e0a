/*
 * A compute worker inside computed: its engine on its loop, orders from the main loop, news to it,
 * messages from other workers through the exchange.
 */
#include "ctrl/computed/computed_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>

/* ---- news to the main loop ------------------------------------------------------------------- */

enum news_kind { NEWS_PEEK, NEWS_SUBSCRIBE, NEWS_FAILED, NEWS_FORMED, NEWS_LOST };

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

static void news_run(struct mail *mail)
{
    struct news_mail *m = CONTAINER_OF(mail, struct news_mail, mail);
    struct computed *computed = m->worker->owner;
    err_t err = m->err;
    m->err = ERR_OK;
    switch (m->kind) {
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
    struct frontier_news {
        uint64_t id, incarnation, upper;
    } *news;
    size_t news_len, news_cap;
};

static void frontier_run(struct mail *mail)
{
    struct frontier_mail *m = CONTAINER_OF(mail, struct frontier_mail, mail);
    struct computed *computed = m->worker->owner;
    for (size_t i = 0; i < m->news_len; i++) {
        computed_on_frontier(computed, m->worker->local, m->news[i].incarnation, m->news[i].id,
                             m->news[i].upper);
    }
    computed_frontiers_flush(computed);
}

static void frontier_release(struct mail *mail)
{
    struct frontier_mail *m = CONTAINER_OF(mail, struct frontier_mail, mail);
    u64map_free(&m->at);
    free(m->news);
}

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

static void host_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    struct computed_worker *worker = ctx;
    exchange_send(worker->owner->exchange, worker->local, dest, payload, len);
}

/* The dataflow an export belongs to now; news of an earlier one is told apart by it. */
static uint64_t incarnation_of(const struct computed_worker *worker, uint64_t export_id)
{
    return (uintptr_t)u64map_get(&worker->exports, export_id);
}

static void host_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct computed_worker *worker = ctx;
    if (worker->report == NULL) {
        worker->report = MEM_NEW(struct frontier_mail);
        worker->report->worker = worker;
        worker->report_task.run = report_run;
        io_post(worker->loop, &worker->report_task);
    }
    struct frontier_mail *report = worker->report;
    uintptr_t at = (uintptr_t)u64map_get(&report->at, export_id);
    if (at == 0) {
        *VEC_PUSH(report, news) = (struct frontier_news){.id = export_id};
        at = report->news_len;
        u64map_put(&report->at, export_id, (void *)at);
    }
    report->news[at - 1].upper = upper;
    report->news[at - 1].incarnation = incarnation_of(worker, export_id);
}

static void batch_copy(const struct batch *batch, struct buf *out)
{
    if (batch != NULL && batch->rows > 0) {
        buf_append(out, batch->base, batch->size);
    }
}

static void host_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                           const struct batch *ok, const struct batch *err)
{
    struct news_mail *m = news_new(ctx, NEWS_SUBSCRIBE, export_id);
    m->incarnation = incarnation_of(ctx, export_id);
    m->lower = lower;
    m->upper = upper;
    batch_copy(ok, &m->ok);
    batch_copy(err, &m->errs);
    news_send(m);
}

static void host_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    struct news_mail *m = news_new(ctx, NEWS_PEEK, peek_id);
    batch_copy(rows, &m->ok);
    m->err = err;
    news_send(m);
}

static void host_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    worker_dataflow_failed(ctx, dataflow_id, err);
}

static const struct engine_host worker_host = {.send = host_send,
                                               .frontier = host_frontier,
                                               .subscribe = host_subscribe,
                                               .peek_done = host_peek_done,
                                               .failed = host_failed};

void worker_dataflow_failed(struct computed_worker *worker, uint64_t dataflow, err_t err)
{
    struct news_mail *m = news_new(worker, NEWS_FAILED, dataflow);
    m->err = err;
    news_send(m);
}

/* ---- the engine's loop ----------------------------------------------------------------------- */

static bool worker_poll(struct io_poller *poller)
{
    struct computed_worker *worker = CONTAINER_OF(poller, struct computed_worker, poller);
    return engine_step(worker->engine);
}

static void engine_make(struct computed_worker *worker)
{
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

static void exchange_message(void *worker_ctx, uint32_t from, const uint8_t *data, size_t len)
{
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

struct order_mail {
    struct mail mail;
    struct computed_worker *worker;
    uint64_t id;
    uint64_t time;
    struct buf message;
};

static void order_release(struct mail *mail)
{
    buf_free(&CONTAINER_OF(mail, struct order_mail, mail)->message);
}

static void order_send(struct computed_worker *worker, mail_fn run, uint64_t id, uint64_t time,
                       const uint8_t *message, size_t len)
{
    struct order_mail *m = MEM_NEW(struct order_mail);
    m->worker = worker;
    m->id = id;
    m->time = time;
    buf_append(&m->message, message, len);
    mail_send(&worker->owner->mailroom, worker->loop, &m->mail, run, order_release);
}

static void start_run(struct mail *mail)
{
    struct computed_worker *worker = CONTAINER_OF(mail, struct order_mail, mail)->worker;
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

static void stamp_exports(struct computed_worker *worker, struct computed_dataflow *dataflow,
                          const struct plan *plan)
{
    dataflow->exports = mem_zalloc(plan->exports_len * sizeof(dataflow->exports[0]));
    dataflow->exports_len = plan->exports_len;
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        dataflow->exports[i] = plan->exports[i].id;
        u64map_put(&worker->exports, plan->exports[i].id, (void *)(uintptr_t)dataflow->id);
    }
}

static void forget_exports(struct computed_worker *worker,
                           const struct computed_dataflow *dataflow)
{
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        if (incarnation_of(worker, dataflow->exports[i]) == dataflow->id) {
            u64map_remove(&worker->exports, dataflow->exports[i]);
        }
    }
}

static err_t create(struct computed_worker *worker, const tailrace_v1_CreateDataflow *message,
                    uint64_t as_of, struct arena *arena)
{
    struct plan *plan = NULL;
    TRY(plan_codec_decode(&message->plan, &plan));
    plan->as_of = as_of;
    plan->id = message->incarnation;
    uint32_t *parts = NULL;
    size_t parts_len = 0;
    struct computed_dataflow *dataflow = MEM_NEW(struct computed_dataflow);
    dataflow->id = plan->id;
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
    worker_inputs_subscribe(worker, dataflow, as_of);
    return ERR_OK;
}

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
    order_send(worker, create_run, incarnation, as_of, message, len);
}

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

static err_t peek(struct computed_worker *worker, uint64_t local_id,
                  const tailrace_v1_Peek *message, struct arena *arena)
{
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
    order_send(worker, peek_run, id, 0, message, len);
}

static void cancel_run(struct mail *mail)
{
    struct order_mail *m = CONTAINER_OF(mail, struct order_mail, mail);
    engine_peek_cancel(m->worker->engine, m->id);
}

void computed_worker_cancel(struct computed_worker *worker, uint64_t peek_id)
{
    order_send(worker, cancel_run, peek_id, 0, NULL, 0);
}

void computed_worker_free(struct computed_worker *worker)
{
    if (worker->report != NULL) {
        io_task_cancel(worker->loop, &worker->report_task);
        u64map_free(&worker->report->at);
        free(worker->report->news);
        free(worker->report);
    }
    if (worker->polling) {
        io_poller_remove(worker->loop, &worker->poller);
    }
    dataflows_free(worker);
    free(worker->scratch_ok.data);
    free(worker->scratch_err.data);
    if (worker->engine != NULL) {
        engine_free(worker->engine);
    }
}
