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
    TRY(report_take(message, report->rows_max, p));
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
