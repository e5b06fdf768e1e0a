/*
 * Statistics on request: the counters of the process, and how many rows each worker holds of each
 * collection (for the estimates of hydration). The first half runs on a worker's loop, the second
 * on the main loop; between them goes mail. A worker's part is one pass over its collections, which
 * only reads sizes.
 */
#include "ctrl/storaged/storaged_internal.h"

#include "core/base/mem.h"

/* The order and its answer: sent to the worker, and by it a second one back. */
struct survey_mail {
    struct mail mail;
    struct storaged_worker *worker;
    uint64_t number;
    uint64_t omitted;
    uint32_t rows_max;
    tailrace_v1_CollectionStats *rows;
    size_t rows_len, rows_cap;
};

static void survey_release(struct mail *mail)
{
    free(CONTAINER_OF(mail, struct survey_mail, mail)->rows);
}

static struct survey_mail *survey_new(struct storaged_worker *worker, uint64_t number)
{
    ASSERT(number != 0);
    struct survey_mail *m = MEM_NEW(struct survey_mail);
    m->worker = worker;
    m->number = number;
    return m;
}

/* On the main loop: the worker's part. */
static void answer_run(struct mail *mail)
{
    struct survey_mail *m = CONTAINER_OF(mail, struct survey_mail, mail);
    struct stats *stats = &m->worker->owner->stats;
    tailrace_v1_Stats page = {.collections = m->rows,
                              .collections_count = (pb_size_t)m->rows_len,
                              .omitted = m->omitted};
    if (m->rows_len > 0 || m->omitted > 0) {
        stats_page(stats, m->number, &page);
    }
    stats_part(stats, m->number);
}

/* What storage calls for each collection. */
static void collect(void *arg, uint64_t id, uint64_t since, uint64_t upper, uint64_t rows,
                    uint64_t bytes)
{
    struct survey_mail *answer = arg;
    if (answer->rows_len >= answer->rows_max) {
        answer->omitted++;
        return;
    }
    *VEC_PUSH(answer, rows) = (tailrace_v1_CollectionStats){
        .id = id, .worker = answer->worker->global, .rows = rows};
}

/* On the worker's loop. Storage that is not open yet holds nothing. */
static void order_run(struct mail *mail)
{
    struct survey_mail *m = CONTAINER_OF(mail, struct survey_mail, mail);
    struct storaged_worker *worker = m->worker;
    struct survey_mail *answer = survey_new(worker, m->number);
    answer->rows_max = m->rows_max;
    if (worker->storage != NULL) {
        storage_collections(worker->storage, collect, answer);
    }
    mail_send(&worker->owner->mailroom, worker->owner->loop, &answer->mail, answer_run,
              survey_release);
}

/* ---- the main loop --------------------------------------------------------------------------- */

static void send_stats(void *ctx, const tailrace_v1_Stats *page)
{
    const struct storaged *storaged = ctx;
    tailrace_v1_StorageResponse response = {0};
    response.which_response = tailrace_v1_StorageResponse_stats_tag;
    response.response.stats = *page;
    runtime_send(storaged->runtime, tailrace_v1_StorageResponse_fields, &response);
}

void storaged_stats_init(struct storaged *storaged)
{
    stats_init(&storaged->stats, storaged->loop, metrics_counters(storaged->config.metrics),
               send_stats, storaged);
}

void storaged_report_stats(struct storaged *storaged, const tailrace_v1_ReportStats *question)
{
    uint32_t workers = question->operators ? storaged->config.workers : 0;
    uint64_t number = stats_ask(&storaged->stats, question, workers);
    for (uint32_t w = 0; number != 0 && w < workers; w++) {
        struct storaged_worker *worker = &storaged->workers[w];
        ASSERT(worker->loop != NULL);
        struct survey_mail *m = survey_new(worker, number);
        m->rows_max = question->rows_max / workers + 1;
        mail_send(&storaged->mailroom, worker->loop, &m->mail, order_run, survey_release);
    }
}
