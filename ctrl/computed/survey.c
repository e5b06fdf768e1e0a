/*
 * Statistics of a worker's operators, on request: for tables of mz_internal and EXPLAIN ANALYZE.
 *
 * A survey walks over dataflows that the main loop named, a page of operators in a turn of the
 * worker's loop, so that 10,000 views hold up no data. It reads what the engine counts anyway.
 * Dataflows that are gone by then are passed over. Pages and the end are mail to the main loop, in
 * order. The first half of this file runs on the worker's loop (but for survey_run), the second on
 * the main loop.
 */
#include "ctrl/computed/computed_internal.h"

#include "core/base/mem.h"

enum { SURVEY_PAGE_ROWS = 512 }; /* a dataflow more is not begun when there are as many */

/* Linked in its worker from the order to the end. */
struct worker_survey {
    struct worker_survey *next;
    struct computed_worker *worker;
    struct io_task task; /* the next page */
    uint64_t number;
    uint64_t *incarnations; /* [len], owned */
    size_t len, at;
    uint64_t room; /* rows that may still be told */
};

/* ---- to the main loop ------------------------------------------------------------------------ */

/* Rows' texts are the engine's class names, which are constants of the program. */
struct survey_mail {
    struct mail mail;
    struct computed_worker *worker;
    uint64_t number;
    struct engine_operator_stats *rows;
    size_t rows_len, rows_cap;
    uint64_t omitted;
    bool end;
};

static void survey_run(struct mail *mail)
{
    struct survey_mail *m = CONTAINER_OF(mail, struct survey_mail, mail);
    ASSERT(m->number != 0);
    computed_on_stats(m->worker->owner, m->worker->global, m->number, m->rows, m->rows_len,
                      m->omitted);
    if (m->end) {
        computed_on_stats_end(m->worker->owner, m->number);
    }
}

static void survey_release(struct mail *mail)
{
    free(CONTAINER_OF(mail, struct survey_mail, mail)->rows);
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void survey_free(struct worker_survey *survey)
{
    io_task_cancel(survey->worker->loop, &survey->task);
    free(survey->incarnations);
    free(survey);
}

static void unlink_survey(struct worker_survey *survey)
{
    struct worker_survey **at = &survey->worker->surveys;
    while (*at != survey) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = survey->next;
}

/* What the engine calls for each operator of a dataflow. */
struct collector {
    struct worker_survey *survey;
    struct survey_mail *mail;
};

static void collect(void *arg, const struct engine_operator_stats *stats)
{
    struct collector *c = arg;
    if (c->survey->room == 0) {
        c->mail->omitted++;
        return;
    }
    c->survey->room--;
    *VEC_PUSH(c->mail, rows) = *stats;
}

/* One page; past rows_max only the number of operators is told. */
static void page(struct io_task *task)
{
    struct worker_survey *survey = CONTAINER_OF(task, struct worker_survey, task);
    struct computed_worker *worker = survey->worker;
    struct survey_mail *m = MEM_NEW(struct survey_mail);
    m->worker = worker;
    m->number = survey->number;
    struct collector collector = {.survey = survey, .mail = m};
    while (survey->at < survey->len && m->rows_len + m->omitted < SURVEY_PAGE_ROWS) {
        engine_dataflow_stats(worker->engine, survey->incarnations[survey->at++], collect,
                              &collector);
    }
    m->end = survey->at == survey->len;
    if (m->end) {
        unlink_survey(survey);
        survey_free(survey);
    } else {
        io_post(worker->loop, &survey->task);
    }
    mail_send(&worker->owner->mailroom, worker->owner->loop, &m->mail, survey_run,
              survey_release);
}

struct order_survey {
    struct mail mail;
    struct worker_survey *survey; /* NULL once it is the worker's */
};

static void begin(struct mail *mail)
{
    struct order_survey *order = CONTAINER_OF(mail, struct order_survey, mail);
    struct worker_survey *survey = order->survey;
    ASSERT(survey->worker->engine != NULL); /* start came before */
    order->survey = NULL;
    survey->next = survey->worker->surveys;
    survey->worker->surveys = survey;
    survey->task.run = page;
    io_post(survey->worker->loop, &survey->task);
}

static void order_release(struct mail *mail)
{
    struct order_survey *order = CONTAINER_OF(mail, struct order_survey, mail);
    if (order->survey != NULL) { /* it never arrived: its task was never posted */
        free(order->survey->incarnations);
        free(order->survey);
    }
}

void computed_worker_survey(struct computed_worker *worker, uint64_t number,
                            const uint64_t *incarnations, size_t len, uint32_t rows_max)
{
    ASSERT(number != 0 && worker->loop != NULL);
    struct worker_survey *survey = MEM_NEW(struct worker_survey);
    survey->worker = worker;
    survey->number = number;
    survey->incarnations = mem_alloc((len + 1) * sizeof(incarnations[0]));
    if (len > 0) {
        memcpy(survey->incarnations, incarnations, len * sizeof(incarnations[0]));
    }
    survey->len = len;
    survey->room = rows_max;
    struct order_survey *order = MEM_NEW(struct order_survey);
    order->survey = survey;
    mail_send(&worker->owner->mailroom, worker->loop, &order->mail, begin, order_release);
}

void worker_surveys_free(struct computed_worker *worker)
{
    while (worker->surveys != NULL) {
        struct worker_survey *survey = worker->surveys;
        worker->surveys = survey->next;
        survey_free(survey);
    }
}

/* ---- the main loop --------------------------------------------------------------------------- */

static void send_stats(void *ctx, const tailrace_v1_Stats *page_message)
{
    const struct computed *computed = ctx;
    tailrace_v1_ComputeResponse response = {0};
    response.which_response = tailrace_v1_ComputeResponse_stats_tag;
    response.response.stats = *page_message;
    runtime_send(computed->runtime, tailrace_v1_ComputeResponse_fields, &response);
}

void computed_stats_init(struct computed *computed)
{
    stats_init(&computed->stats, computed->loop, metrics_counters(computed->config.metrics),
               send_stats, computed);
}

/* The incarnations asked for: one, or all that run here. Free with free(). */
static uint64_t *asked_for(struct computed *computed, uint64_t dataflow, size_t *len)
{
    uint64_t *all = mem_alloc((computed->flows.len + 1) * sizeof(all[0]));
    size_t at = 0;
    uint64_t id;
    void *value;
    *len = 0;
    while (u64map_next(&computed->flows, &at, &id, &value)) {
        const struct computed_flow *flow = value;
        if (dataflow == 0 || dataflow == flow->id) {
            all[(*len)++] = flow->incarnation;
        }
    }
    ASSERT(*len <= computed->flows.len);
    return all;
}

/* In any state of the process: also one that is initialising, or whose replica has not formed, can
 * say what it counts. */
void computed_report_stats(struct computed *computed, const tailrace_v1_ReportStats *question)
{
    uint32_t workers = question->operators ? computed->config.workers : 0;
    uint64_t number = stats_ask(&computed->stats, question, workers);
    if (number == 0 || workers == 0) {
        return;
    }
    size_t len = 0;
    uint64_t *incarnations = asked_for(computed, question->dataflow, &len);
    for (uint32_t w = 0; w < workers; w++) {
        computed_worker_survey(&computed->workers[w], number, incarnations, len,
                               question->rows_max / workers + 1);
    }
    free(incarnations);
}

/* By incarnation: a survey meets thousands of dataflows. Free the map. */
static struct u64map flows_by_incarnation(struct computed *computed)
{
    struct u64map out = {0};
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->flows, &at, &id, &value)) {
        u64map_put(&out, ((struct computed_flow *)value)->incarnation, value);
    }
    return out;
}

/* A worker's page. Rows of dataflows that were dropped meanwhile are left out: nobody could say
 * whose they are. */
void computed_on_stats(struct computed *computed, uint32_t worker, uint64_t number,
                       const struct engine_operator_stats *rows, size_t len, uint64_t omitted)
{
    struct u64map flows = flows_by_incarnation(computed);
    tailrace_v1_Stats message = {.omitted = omitted};
    message.operators = mem_zalloc((len + 1) * sizeof(message.operators[0]));
    for (size_t i = 0; i < len; i++) {
        const struct computed_flow *flow = u64map_get(&flows, rows[i].dataflow_id);
        if (flow == NULL) {
            continue;
        }
        union {
            const char *in;
            char *out; /* nanopb only reads it */
        } name = {.in = rows[i].op};
        message.operators[message.operators_count++] = (tailrace_v1_OperatorStats){
            .dataflow = flow->id,
            .incarnation = flow->incarnation,
            .worker = worker,
            .node = rows[i].node,
            .name = name.out,
            .rows_in = rows[i].rows_in,
            .rows_out = rows[i].rows_out,
            .batches = rows[i].batches,
            .schedules = rows[i].schedules,
            .elapsed_ns = rows[i].busy_ns,
            .arranged_rows = rows[i].arranged_rows,
            .bytes = rows[i].arranged_bytes,
            .dataflow_bytes = rows[i].dataflow_bytes,
        };
    }
    if (message.operators_count > 0 || omitted > 0) {
        stats_page(&computed->stats, number, &message);
    }
    free(message.operators);
    u64map_free(&flows);
}

void computed_on_stats_end(struct computed *computed, uint64_t number)
{
    stats_part(&computed->stats, number);
}
