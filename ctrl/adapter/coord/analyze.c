/*
 * EXPLAIN ANALYZE: the plan of an index, a materialized view or a query as the replicas have it,
 * each line with what the operator counted since it was created there. A query is read as any
 * other (open_query), but its rows stay here and its dataflow goes when that was told.
 *
 *     Replica r1: 2 workers, 13.1 ms, 26 kB
 *     Export index u7 keys=(k)  [in 40, out 0 in 0 batches; 0.4 ms in 12 runs; keeps 5 rows, 2 kB]
 *       Reduce group=(k) ...  [in 1000, out 40 in 8 batches; 9.0 ms in 20 runs; ...; skew 1.3 time]
 *
 * in and out are updates, not net rows; runs are schedulings; skew is the busiest worker's share
 * over the mean of all, and shown where it is above 1. Totals are over the workers of a replica; a
 * replica that did not answer has a line that says why.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

#include <inttypes.h>

/* One operator on a replica: sums, and the largest of a worker. */
struct measure {
    uint64_t workers; /* that told of it */
    uint64_t rows_in, rows_out, batches, schedules, elapsed_ns, arranged_rows, bytes;
    uint64_t rows_in_max, elapsed_ns_max, bytes_max;
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void add(struct measure *m, const struct controller_operator *o)
{
    m->workers++;
    m->rows_in += o->rows_in;
    m->rows_out += o->rows_out;
    m->batches += o->batches;
    m->schedules += o->schedules;
    m->elapsed_ns += o->elapsed_ns;
    m->arranged_rows += o->arranged_rows;
    m->bytes += o->bytes;
    m->rows_in_max = larger(m->rows_in_max, o->rows_in);
    m->elapsed_ns_max = larger(m->elapsed_ns_max, o->elapsed_ns);
    m->bytes_max = larger(m->bytes_max, o->bytes);
}

/* ---- text ------------------------------------------------------------------------------------ */

static void print_bytes(struct buf *out, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1000;
        unit++;
    }
    buf_printf(out, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

/* " 1.9 time" when the busiest worker has more than an even share. */
static void print_skew(struct buf *out, const char *what, uint64_t max, uint64_t sum,
                       uint64_t workers, bool *any)
{
    double skew = sum > 0 ? (double)max * (double)workers / (double)sum : 1;
    if (workers > 1 && skew >= 1.05) {
        buf_printf(out, "%s %.1f %s", *any ? "," : "; skew", skew, what);
        *any = true;
    }
}

/* What plan_print_words is given: names are the session's. */
struct words_arg {
    struct session *session;
    const struct measure *measures;
};

static const char *object(void *arg, uint64_t id, const struct schema **columns)
{
    return names_object(((struct words_arg *)arg)->session, id, columns);
}

static void note(void *arg, uint32_t op, struct buf *out)
{
    const struct measure *m = &((const struct words_arg *)arg)->measures[op];
    bool skewed = false;
    if (m->workers == 0) {
        buf_append_str(out, "  [not told]");
        return;
    }
    buf_printf(out, "  [in %" PRIu64 ", out %" PRIu64 " in %" PRIu64 " batches; %.3f ms in %" PRIu64
               " runs", m->rows_in, m->rows_out, m->batches, (double)m->elapsed_ns / 1e6,
               m->schedules);
    if (m->arranged_rows > 0 || m->bytes > 0) {
        buf_printf(out, "; keeps %" PRIu64 " rows, ", m->arranged_rows);
        print_bytes(out, m->bytes);
    }
    print_skew(out, "time", m->elapsed_ns_max, m->elapsed_ns, m->workers, &skewed);
    print_skew(out, "rows", m->rows_in_max, m->rows_in, m->workers, &skewed);
    print_skew(out, "memory", m->bytes_max, m->bytes, m->workers, &skewed);
    buf_append_byte(out, ']');
}

/* All processes of one replica, or why there is nothing to show. */
static void print_replica(struct session *s, uint32_t replica, const struct plan *plan,
                          struct buf *out)
{
    const struct controller_report *report = s->survey.report;
    uint32_t ops = plan->nodes_len + plan->exports_len;
    struct measure *measures = mem_zalloc((ops + 1) * sizeof(measures[0]));
    struct measure total = {0};
    uint64_t bytes = 0; /* batches under way included */
    const char *missing = NULL;
    for (size_t i = 0; i < report->processes_len; i++) {
        const struct controller_process_report *p = &report->processes[i];
        if (p->replica != replica || p->cluster == 0) {
            continue;
        }
        missing = p->answered ? missing : p->reason;
        for (size_t o = 0; o < p->operators_len; o++) {
            const struct controller_operator *op = &p->operators[o];
            if (op->dataflow == plan->id && op->node < ops) {
                add(&measures[op->node], op);
                add(&total, op);
                bytes += op->node == 0 ? op->dataflow_bytes : 0;
            }
        }
    }
    buf_printf(out, "Replica r%u: %" PRIu64 " worker%s, %.3f ms, ", replica + 1,
               measures[0].workers, measures[0].workers == 1 ? "" : "s",
               (double)total.elapsed_ns / 1e6);
    print_bytes(out, bytes);
    buf_printf(out, "%s%s\n", missing != NULL ? "; incomplete: " : "",
               missing != NULL ? missing : "");
    if (total.workers > 0) {
        struct words_arg arg = {.session = s, .measures = measures};
        const struct plan_words words = {.note = note, .object = object, .arg = &arg};
        plan_print_words(plan, &words, out);
    }
    free(measures);
}

/* ---- the statement --------------------------------------------------------------------------- */

/* The index or materialized view, and its plan; who has no dataflow is told so. */
static err_t find(struct session *s, const struct catalog_item **item, const struct plan **plan)
{
    const struct sql_stmt *stmt = s->run.portal->prepared->stmt;
    const char *kind = stmt->object == SQL_OBJECT_INDEX ? "index" : "materialized view";
    TRY(ddl_find(s, &stmt->name, item));
    if (*item == NULL) {
        return err_sql(ERR_NOT_FOUND, "42P01", "relation \"%s\" does not exist", stmt->name.name);
    }
    if ((*item)->kind != (stmt->object == SQL_OBJECT_INDEX ? CATALOG_INDEX
                                                           : CATALOG_MATERIALIZED_VIEW)) {
        return err_sql(ERR_INVALID, "42809", "\"%s\" is not %s %s", stmt->name.name,
                       kind[0] == 'i' ? "an" : "a", kind);
    }
    *plan = controller_plan(s->coord->controller, (*item)->cluster, (*item)->id);
    return *plan != NULL ? ERR_OK
                         : err_sql(ERR_UNAVAILABLE, "57P03", "no dataflow of \"%s\" runs",
                                   stmt->name.name);
}

static void print_replicas(struct session *s, uint64_t cluster, const struct plan *plan,
                           struct buf *out)
{
    const struct catalog_cluster *k = catalog_cluster_id(s->coord->catalog, cluster);
    uint32_t replicas = k != NULL ? k->replicas : 0;
    for (uint32_t r = 0; r < replicas; r++) {
        print_replica(s, r, plan, out);
    }
    if (replicas == 0) {
        buf_append_str(out, "The cluster has no replicas\n");
    }
}

/* The answers are there. The object may have been dropped while they were on their way. */
static err_t show(struct session *s)
{
    const struct catalog_item *item = NULL;
    const struct plan *plan = NULL;
    TRY(find(s, &item, &plan));
    struct buf text = {0};
    print_replicas(s, item->cluster, plan, &text);
    statement_send_lines(s, &text);
    buf_free(&text);
    return ERR_OK;
}

err_t analyze_start(struct session *s)
{
    const struct catalog_item *item = NULL;
    const struct plan *plan = NULL;
    TRY(find(s, &item, &plan));
    survey_begin(s);
    survey_need(s, SURVEY_OPERATORS);
    survey_ask(s, item->cluster, item->id, show);
    return ERR_OK;
}

err_t analyze_plan(struct session *s, struct buf *out)
{
    const struct catalog_item *item = NULL;
    const struct plan *plan = NULL;
    TRY(find(s, &item, &plan));
    const struct plan_words words = {.object = names_object, .arg = s};
    plan_print_words(plan, &words, out);
    return ERR_OK;
}

/* ---- of a query ------------------------------------------------------------------------------ */

/* Lookups, constants and what runs in this process have no counts: their plan is all there is. */
void analyze_read(struct session *s, const struct sql_context *cx)
{
    struct read *r = s->read;
    ASSERT(r != NULL && s->run.explained.len == 0);
    r->keeps = read_needs_cluster(r->query) && r->query->kind == SQL_QUERY_DATAFLOW;
    if (r->keeps) {
        sql_explain_finish(r->query, &s->run.explained);
    } else {
        sql_explain_query(cx, r->query, &s->run.explained);
    }
}

/* The read and its dataflow end before the lines go out: a slow client holds up neither. */
static void send_explained(struct session *s)
{
    struct buf text = s->run.explained;
    s->run.explained = (struct buf){0};
    read_free(s->read);
    s->read = NULL;
    statement_send_lines(s, &text);
    buf_free(&text);
}

/* Dropping the cluster takes the dataflow with it. */
static err_t show_query(struct session *s)
{
    const struct read *r = s->read;
    ASSERT(r != NULL && r->keeps);
    const struct plan *plan = controller_plan(s->coord->controller, r->cluster, r->transient);
    if (plan == NULL) {
        return err_sql(ERR_UNAVAILABLE, "57P03", "the query's dataflow no longer runs");
    }
    print_replicas(s, r->cluster, plan, &s->run.explained);
    send_explained(s);
    return ERR_OK;
}

/* Tables of what runtimes count may have been read: that report is not about this dataflow. */
void analyze_answered(struct session *s)
{
    struct read *r = s->read;
    struct buf text = {0};
    ASSERT(r != NULL && r->rows != NULL);
    ASSERT(s->run.state == RUN_READ);
    uint64_t took = io_mono_ns(s->coord->loop) - s->run.began_ns;
    buf_printf(&text, "Query: %" PRIu64 " rows in %.3f ms\n", rowset_rows(r->rows),
               (double)took / 1e6);
    buf_append(&text, s->run.explained.data, s->run.explained.len);
    buf_free(&s->run.explained);
    s->run.explained = text;
    rowset_free(r->rows);
    r->rows = NULL;
    if (!r->keeps) {
        send_explained(s);
        return;
    }
    survey_end(s);
    survey_begin(s);
    survey_need(s, SURVEY_OPERATORS);
    survey_ask(s, r->cluster, r->transient, show_query);
}
