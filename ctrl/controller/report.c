/*
 * Reports: what the processes count, asked of all that are concerned at once. environmentd's loop.
 *
 * A report is over when every process has answered, was lost, or the deadline has passed; a process
 * that did not answer has its reason in the report, and the others' numbers are there all the same.
 * Nothing here waits for a process, and what one sends is bounded: rows_max of each kind, counted
 * on receipt, whatever the process was asked for. The taker is called from the loop, never from
 * inside controller_report or a loss: the timer fires at once when nobody is missing any more.
 *
 * A Stats message of a report that is over finds nobody; it is no breach of the protocol.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>
#include <stdio.h>

/* One report under way. */
struct ctl_report {
    uint64_t id;
    struct controller *controller;
    struct controller_report *made; /* what the taker gets */
    uint32_t missing;               /* processes not yet settled */
    uint32_t rows_max;
    uint64_t timeout_us;
    struct io_timer timer;          /* the deadline, or now */
    controller_report_fn fn;
    void *arg;
};

/* ---- what the taker gets --------------------------------------------------------------------- */

static void table_free(struct controller_counters *table)
{
    free(table->name);
    for (uint32_t i = 0; i < table->ids_len; i++) {
        free(table->ids[i]);
    }
    for (uint32_t i = 0; i < table->values_len; i++) {
        free(table->values[i]);
    }
    free(table->numbers);
}

void controller_report_free(struct controller_report *report)
{
    for (size_t i = 0; report != NULL && i < report->processes_len; i++) {
        struct controller_process_report *p = &report->processes[i];
        for (size_t t = 0; t < p->counters_len; t++) {
            table_free(&p->counters[t]);
        }
        for (size_t o = 0; o < p->operators_len; o++) {
            free(p->operators[o].name);
        }
        free(p->counters);
        free(p->operators);
        free(p->collections);
        free(p->service);
        free(p->reason);
    }
    if (report != NULL) {
        free(report->processes);
        free(report);
    }
}

static void report_free(struct ctl_report *report)
{
    io_timer_cancel(report->controller->loop, &report->timer);
    controller_report_free(report->made);
    free(report);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* The process is settled: reason NULL says that it has answered. */
static void settle(struct ctl_report *report, struct controller_process_report *p,
                   const char *reason)
{
    ASSERT(report->missing > 0 && !p->settled);
    p->settled = true;
    p->answered = reason == NULL;
    p->reason = reason != NULL ? mem_strdup(reason) : NULL;
    if (--report->missing == 0) { /* from the loop: the taker may ask again, or drop anything */
        struct io_loop *loop = report->controller->loop;
        io_timer_start(loop, &report->timer, io_now_us(loop));
    }
}

static void add_process(struct ctl_report *report, struct ctl_conn *conn, uint64_t cluster,
                        uint32_t replica)
{
    struct controller_process_report *p = VEC_PUSH(report->made, processes);
    *p = (struct controller_process_report){.service = mem_strdup(conn->service),
                                            .cluster = cluster,
                                            .replica = replica,
                                            .process = conn->process};
    report->missing++;
}

/* Commands of both services are other messages with the same content. */
static void ask_storage(struct ctl_conn *conn, const tailrace_v1_ReportStats *question)
{
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_report_stats_tag;
    command.command.report_stats = *question;
    ctl_conn_send(conn, tailrace_v1_StorageCommand_fields, &command);
}

static void ask_compute(struct ctl_conn *conn, const tailrace_v1_ReportStats *question)
{
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_report_stats_tag;
    command.command.report_stats = *question;
    ctl_conn_send(conn, tailrace_v1_ComputeCommand_fields, &command);
}

static void ask(struct ctl_report *report, struct ctl_conn *conn, uint64_t cluster,
                uint32_t replica, const tailrace_v1_ReportStats *question)
{
    add_process(report, conn, cluster, replica);
    if (!conn->greeted) {
        settle(report, &report->made->processes[report->made->processes_len - 1],
               "it is not connected");
    } else if (cluster == 0) {
        ask_storage(conn, question);
    } else {
        ask_compute(conn, question);
    }
}

/* cluster 0: storage and all clusters. */
static void ask_all(struct ctl_report *report, uint64_t cluster,
                    const tailrace_v1_ReportStats *question)
{
    struct controller *c = report->controller;
    for (uint32_t p = 0; cluster == 0 && p < c->config.storage_processes; p++) {
        ask(report, &c->storage[p], 0, 0, question);
    }
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->clusters, &at, &id, &value)) {
        struct ctl_cluster *k = value;
        for (uint32_t r = 0; (cluster == 0 || cluster == id) && r < k->spec.replicas; r++) {
            for (uint32_t p = 0; p < k->spec.scale; p++) {
                ask(report, &k->replicas[r].conns[p], id, r, question);
            }
        }
    }
}

/* The deadline has passed, or everybody is settled. */
static void finish(struct io_timer *timer)
{
    struct ctl_report *report = CONTAINER_OF(timer, struct ctl_report, timer);
    struct controller *c = report->controller;
    for (size_t i = 0; i < report->made->processes_len; i++) {
        struct controller_process_report *p = &report->made->processes[i];
        if (!p->settled) {
            char reason[64];
            snprintf(reason, sizeof(reason), "no answer within %" PRIu64 " ms",
                     report->timeout_us / 1000);
            p->settled = true;
            p->reason = mem_strdup(reason);
        }
    }
    u64map_remove(&c->reports, report->id);
    struct controller_report *made = report->made;
    report->made = NULL;
    controller_report_fn fn = report->fn;
    void *arg = report->arg;
    report_free(report);
    fn(arg, made);
}

uint64_t controller_report(struct controller *c, const struct controller_question *question,
                           controller_report_fn fn, void *arg)
{
    ASSERT(fn != NULL && question->rows_max > 0 && question->timeout_us > 0);
    struct ctl_report *report = MEM_NEW(struct ctl_report);
    report->id = ++c->next_report;
    report->controller = c;
    report->made = MEM_NEW(struct controller_report);
    report->rows_max = question->rows_max;
    report->timeout_us = question->timeout_us;
    report->timer.fire = finish;
    report->fn = fn;
    report->arg = arg;
    io_timer_start(c->loop, &report->timer, io_now_us(c->loop) + question->timeout_us);
    u64map_put(&c->reports, report->id, report);
    const tailrace_v1_ReportStats message = {.id = report->id,
                                             .counters = question->counters,
                                             .operators = question->operators,
                                             .dataflow = question->dataflow,
                                             .rows_max = question->rows_max};
    report->missing = 1; /* ours: a report is not over while it is being made */
    ask_all(report, question->cluster, &message);
    if (--report->missing == 0) {
        io_timer_start(c->loop, &report->timer, io_now_us(c->loop));
    }
    return report->id;
}

void controller_report_cancel(struct controller *c, uint64_t id)
{
    struct ctl_report *report = u64map_remove(&c->reports, id);
    if (report != NULL) {
        report_free(report);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

/* A name as counters and operators have it: short, and nothing that surprises who prints it. */
static bool is_name(const char *name)
{
    size_t len = name != NULL ? strlen(name) : 0;
    return len > 0 && len < CONTROLLER_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_ -/") == len;
}

static err_t check_names(char *const *names, size_t len, size_t max)
{
    if (len > max) {
        return err_new(ERR_PROTOCOL, "counters with %zu numbers of a kind", len);
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_name(names[i])) {
            return err_new(ERR_PROTOCOL, "a counter's name is no name");
        }
    }
    return ERR_OK;
}

/* The table of that name, made when it is new; ERR_PROTOCOL when it had another shape before. */
static err_t table_of(struct controller_process_report *p, const tailrace_v1_CounterTable *message,
                      struct controller_counters **out)
{
    for (size_t i = 0; i < p->counters_len; i++) {
        struct controller_counters *table = &p->counters[i];
        if (strcmp(table->name, message->name) == 0) {
            *out = table;
            return table->ids_len == message->ids_count &&
                           table->values_len == message->values_count
                       ? ERR_OK
                       : err_new(ERR_PROTOCOL, "counters %s change their shape", table->name);
        }
    }
    if (p->counters_len == CONTROLLER_TABLES_MAX) {
        return err_new(ERR_PROTOCOL, "more than %d types of counters", CONTROLLER_TABLES_MAX);
    }
    struct controller_counters *table = VEC_PUSH(p, counters);
    *table = (struct controller_counters){.name = mem_strdup(message->name)};
    for (; table->ids_len < message->ids_count; table->ids_len++) {
        table->ids[table->ids_len] = mem_strdup(message->ids[table->ids_len]);
    }
    for (; table->values_len < message->values_count; table->values_len++) {
        table->values[table->values_len] = mem_strdup(message->values[table->values_len]);
    }
    *out = table;
    return ERR_OK;
}

static err_t take_table(const struct ctl_report *report, struct controller_process_report *p,
                        const tailrace_v1_CounterTable *message)
{
    if (!is_name(message->name)) {
        return err_new(ERR_PROTOCOL, "counters without a name");
    }
    TRY(check_names(message->ids, message->ids_count, CONTROLLER_IDS_MAX));
    TRY(check_names(message->values, message->values_count, CONTROLLER_VALUES_MAX));
    size_t width = (size_t)message->ids_count + message->values_count;
    if (width == 0 || message->numbers_count % width != 0) {
        return err_new(ERR_PROTOCOL, "counters %s: %u numbers in rows of %zu", message->name,
                       (unsigned)message->numbers_count, width);
    }
    struct controller_counters *table = NULL;
    TRY(table_of(p, message, &table));
    size_t rows = message->numbers_count / width;
    if (rows > report->rows_max || table->rows + rows > report->rows_max) {
        return err_new(ERR_PROTOCOL, "counters %s: more rows than asked for", message->name);
    }
    table->numbers = mem_realloc(table->numbers,
                                 (table->rows + rows + 1) * width * sizeof(table->numbers[0]));
    if (rows > 0) {
        memcpy(table->numbers + table->rows * width, message->numbers,
               rows * width * sizeof(table->numbers[0]));
    }
    table->rows += rows;
    return ERR_OK;
}

/* Workers round up what they may tell: each one row more than its share. */
static err_t check_rows(const struct ctl_report *report, size_t there, size_t more)
{
    size_t max = (size_t)report->rows_max + CONTROLLER_WORKERS_MAX;
    return there <= max && more <= max - there
               ? ERR_OK
               : err_new(ERR_PROTOCOL, "statistics of more rows than asked for");
}

static err_t take_operators(const struct ctl_report *report, struct controller_process_report *p,
                            const tailrace_v1_Stats *message)
{
    TRY(check_rows(report, p->operators_len, message->operators_count));
    for (size_t i = 0; i < message->operators_count; i++) {
        const tailrace_v1_OperatorStats *from = &message->operators[i];
        if (!is_name(from->name) || from->node >= CONTROLLER_OPERATORS_MAX) {
            return err_new(ERR_PROTOCOL, "statistics of operator %u without a name", from->node);
        }
        *VEC_PUSH(p, operators) =
            (struct controller_operator){.dataflow = from->dataflow,
                                         .incarnation = from->incarnation,
                                         .worker = from->worker,
                                         .node = from->node,
                                         .name = mem_strdup(from->name),
                                         .rows_in = from->rows_in,
                                         .rows_out = from->rows_out,
                                         .batches = from->batches,
                                         .schedules = from->schedules,
                                         .elapsed_ns = from->elapsed_ns,
                                         .arranged_rows = from->arranged_rows,
                                         .bytes = from->bytes};
    }
    return ERR_OK;
}

static err_t take_collections(const struct ctl_report *report,
                              struct controller_process_report *p,
                              const tailrace_v1_Stats *message)
{
    TRY(check_rows(report, p->collections_len, message->collections_count));
    for (size_t i = 0; i < message->collections_count; i++) {
        const tailrace_v1_CollectionStats *from = &message->collections[i];
        *VEC_PUSH(p, collections) = (struct controller_collection_rows){
            .id = from->id, .worker = from->worker, .rows = from->rows};
    }
    return ERR_OK;
}

static struct controller_process_report *process_of(struct ctl_report *report,
                                                    const char *service, uint32_t process)
{
    for (size_t i = 0; i < report->made->processes_len; i++) {
        struct controller_process_report *p = &report->made->processes[i];
        if (p->process == process && strcmp(p->service, service) == 0) {
            return p;
        }
    }
    return NULL;
}

/* The end of a process's answer, or its refusal. */
static void take_last(struct ctl_report *report, struct controller_process_report *p,
                      const tailrace_v1_Stats *message)
{
    if (!message->has_error) {
        settle(report, p, NULL);
        return;
    }
    err_t err = plan_codec_decode_err(&message->error);
    settle(report, p, err_text(err));
    err_free(err);
}

err_t report_response(struct ctl_conn *conn, const tailrace_v1_Stats *message)
{
    struct ctl_report *report = u64map_get(&conn->controller->reports, message->id);
    struct controller_process_report *p =
        report != NULL ? process_of(report, conn->service, conn->process) : NULL;
    if (p == NULL || p->settled) {
        return ERR_OK; /* over, or of an earlier session */
    }
    for (size_t i = 0; i < message->counters_count; i++) {
        TRY(take_table(report, p, &message->counters[i]));
    }
    TRY(take_operators(report, p, message));
    TRY(take_collections(report, p, message));
    p->omitted += message->omitted;
    if (message->last) {
        take_last(report, p, message);
    }
    return ERR_OK;
}

/* ---- losses ---------------------------------------------------------------------------------- */

void report_lost(struct controller *c, const char *service, uint32_t process,
                 const char *reason)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->reports, &at, &id, &value)) {
        struct ctl_report *report = value;
        for (size_t i = 0; i < report->made->processes_len; i++) {
            struct controller_process_report *p = &report->made->processes[i];
            if (!p->settled && strcmp(p->service, service) == 0 &&
                (process == UINT32_MAX || process == p->process)) {
                settle(report, p, reason);
            }
        }
    }
}

/* No callback is made any more. */
void report_free_all(struct controller *c)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->reports, &at, &id, &value)) {
        report_free(value);
    }
    u64map_free(&c->reports);
}
