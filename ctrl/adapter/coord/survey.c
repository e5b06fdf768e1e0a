/*
 * Statements that read what the runtimes count: tables of mz_internal, EXPLAIN ANALYZE.
 *
 * Rows of catalog tables are taken when a statement is planned, but these are elsewhere. So it is
 * planned twice: fillers of the first plan note what they lack (survey_need), the processes are
 * asked, and the second plan finds their answers in the session. A process that does not answer in
 * time holds up nothing: its rows are missing, a warning says which process and why, and
 * mz_introspection_answers has it too. The answers are kept until the statement ends, so that all
 * tables of one statement are of one moment.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

#include <inttypes.h>

/* Before each planning: what the plan needs is found out anew. */
void survey_begin(struct session *s)
{
    ASSERT(s->survey.id == 0);
    s->survey.wanted = 0;
}

/* Called while planning, by fillers of tables. */
const struct controller_report *survey_need(struct session *s, unsigned what)
{
    ASSERT(what != 0);
    s->survey.wanted |= what;
    return (s->survey.have & what) == what ? s->survey.report : NULL;
}

bool survey_lacks(const struct session *s)
{
    return (s->survey.wanted & ~s->survey.have) != 0;
}

void survey_end(struct session *s)
{
    if (s->survey.id != 0) {
        controller_report_cancel(s->coord->controller, s->survey.id);
    }
    controller_report_free(s->survey.report);
    memset(&s->survey, 0, sizeof(s->survey));
}

/* "storage process 0", "process 1 of replica r2 of cluster "c"". */
static void name_process(const struct coord *coord, const struct controller_process_report *p,
                         struct buf *out)
{
    if (p->cluster == 0) {
        buf_printf(out, "storage process %u", p->process);
        return;
    }
    const struct catalog_cluster *k = catalog_cluster_id(coord->catalog, p->cluster);
    buf_printf(out, "process %u of replica r%u of cluster \"%s\"", p->process, p->replica + 1,
               k != NULL ? k->name : "?");
}

/* What is missing from the rows, as the client is told: each process once. */
static void tell_missing(struct session *s, const struct controller_process_report *p)
{
    struct buf name = {0};
    name_process(s->coord, p, &name);
    if (!p->answered) {
        session_notice(s, "WARNING",
                       err_hint(err_sql(ERR_UNAVAILABLE, "01000",
                                        "%s is not in the rows: %s", buf_cstr(&name),
                                        p->reason != NULL ? p->reason : "it was not asked"),
                                "SET introspection_timeout gives it longer; "
                                "mz_internal.mz_processes says which processes are connected."));
    }
    if (p->omitted > 0) {
        session_notice(s, "NOTICE",
                       err_hint(err_sql(ERR_LIMIT, "01000",
                                        "%s has %" PRIu64 " more rows, which are left out",
                                        buf_cstr(&name), p->omitted),
                                "SET introspection_rows raises how many of a kind are shown."));
    }
    buf_free(&name);
}

/* From the loop. The statement is planned again, or fails. */
static void on_report(void *arg, struct controller_report *report)
{
    struct session *s = arg;
    struct survey *survey = &s->survey;
    ASSERT(s->run.state == RUN_SURVEY && survey->report == NULL);
    survey->id = 0;
    survey->report = report;
    survey->have = survey->wanted;
    for (size_t i = 0; i < report->processes_len; i++) {
        tell_missing(s, &report->processes[i]);
    }
    err_t err = survey->again(s);
    if (err != ERR_OK) {
        statement_fail(s, err);
    }
}

/* How many rows of a kind a process may tell; the variable was checked to be a number. */
static uint32_t rows_max(const struct session *s)
{
    enum { ROWS_MAX = 1000000 };
    long n = strtol(vars_get(s, "introspection_rows"), NULL, 10);
    return n < 1 ? 1 : n > ROWS_MAX ? ROWS_MAX : (uint32_t)n;
}

void survey_ask(struct session *s, uint64_t cluster, uint64_t dataflow,
                err_t (*again)(struct session *s))
{
    struct survey *survey = &s->survey;
    ASSERT(survey_lacks(s) && survey->id == 0);
    controller_report_free(survey->report);
    survey->report = NULL;
    survey->wanted |= survey->have;
    survey->have = 0;
    survey->again = again;
    uint64_t timeout = vars_duration_us(s, "introspection_timeout");
    const struct controller_question question = {
        .counters = (survey->wanted & SURVEY_COUNTERS) != 0,
        .operators = (survey->wanted & SURVEY_OPERATORS) != 0,
        .cluster = cluster,
        .dataflow = dataflow,
        .rows_max = rows_max(s),
        .timeout_us = timeout > 0 ? timeout : 1, /* 0: only who answers at once */
    };
    s->run.state = RUN_SURVEY;
    survey->id = controller_report(s->coord->controller, &question, on_report, s);
}
