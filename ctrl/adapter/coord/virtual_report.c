/*
 * Tables of what the runtimes count: connections, subscriptions, loops (the counters file, see
 * core/base/counters.h), and operators of dataflows. Their rows come from the report that the
 * statement asked for (survey.c); without it, in a first plan, there are none.
 *
 * Who is meant is told by ids that join with the rest of the catalog: replica_id (in
 * mz_cluster_replicas; NULL: storage), process_id, source_id and object_id (mz_objects),
 * dataflow_id (mz_dataflows), id of an operator (mz_dataflow_operators). Names follow Materialize
 * where the meaning is the same.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/virtual_internal.h"

/* Operators have one number for joins: the dataflow's, with the node's behind. A dataflow's is its
 * incarnation, epoch << 40 and up: 50 bits of it, so that two are told apart unless 1,024 restarts
 * lie between them. */
enum { NODE_BITS = 13, DATAFLOW_BITS = 50 };
STATIC_ASSERT(CONTROLLER_OPERATORS_MAX <= 1 << NODE_BITS, "a node's number fits");
STATIC_ASSERT(NODE_BITS + DATAFLOW_BITS == 63, "an operator's number is a positive int8");

/* A count, or NULL where it is no number SQL has: FRONTIER_EMPTY above all. */
static void put(struct virtual_sink *sink, const char *column, uint64_t value)
{
    if (value > INT64_MAX) {
        virtual_null(sink, column);
    } else {
        virtual_int(sink, column, (int64_t)value);
    }
}

/* A column that counts: the name is a runtime's word, and ids are told by other means. */
static bool has_column(const struct virtual_sink *sink, const char *name)
{
    const struct schema *columns = &sink->relation->columns;
    size_t len = strlen(name);
    if (len >= 3 && strcmp(name + len - 3, "_id") == 0) {
        return false;
    }
    for (uint32_t i = 0; i < columns->cols; i++) {
        if (strcmp(columns->names[i], name) == 0) {
            return columns->types[i].kind == TYPE_INT8;
        }
    }
    return false;
}

static void put_replica(struct virtual_sink *sink, const char *column, uint64_t cluster,
                        uint32_t replica)
{
    if (cluster != 0) {
        virtual_printf(sink, column, "u%llu-%u", (unsigned long long)cluster, replica);
    } else {
        virtual_null(sink, column);
    }
}

/* Every row says first who counted. */
static void begin(struct virtual_sink *sink, const struct controller_process_report *p)
{
    virtual_begin(sink);
    put_replica(sink, "replica_id", p->cluster, p->replica);
    virtual_int(sink, "process_id", p->process);
}

/* ---- counters -------------------------------------------------------------------------------- */

/* What the ids of a slot mean is up to the table; values go to the columns of their names. A value
 * without a column is of another version, and is left out. */
typedef void (*ids_fn)(struct virtual_sink *sink, const struct controller_process_report *p,
                       const uint64_t ids[CONTROLLER_IDS_MAX]);

static void table_rows(struct virtual_sink *sink, const struct controller_process_report *p,
                       const struct controller_counters *table, ids_fn put_ids)
{
    size_t width = (size_t)table->ids_len + table->values_len;
    for (size_t row = 0; row < table->rows; row++) {
        const uint64_t *numbers = table->numbers + row * width;
        uint64_t ids[CONTROLLER_IDS_MAX] = {0};
        memcpy(ids, numbers, table->ids_len * sizeof(ids[0]));
        begin(sink, p);
        put_ids(sink, p, ids);
        for (uint32_t i = 0; i < table->values_len; i++) {
            if (has_column(sink, table->values[i])) {
                put(sink, table->values[i], numbers[table->ids_len + i]);
            }
        }
    }
}

/* Every process' counters of a type. */
static void counters(struct virtual_sink *sink, const char *type, ids_fn put_ids)
{
    const struct controller_report *report = survey_need(sink->session, SURVEY_COUNTERS);
    for (size_t i = 0; report != NULL && i < report->processes_len; i++) {
        const struct controller_process_report *p = &report->processes[i];
        for (size_t t = 0; t < p->counters_len; t++) {
            if (strcmp(p->counters[t].name, type) == 0) {
                table_rows(sink, p, &p->counters[t], put_ids);
            }
        }
    }
}

static void loop_ids(struct virtual_sink *sink, const struct controller_process_report *p,
                     const uint64_t ids[CONTROLLER_IDS_MAX])
{
    put(sink, "worker_id", ids[0]);
}

void virtual_mz_loop_counters(struct virtual_sink *sink)
{
    counters(sink, "loop", loop_ids);
}

/* A peer's service is 0 for storage, else cluster << 8 | replica (ctrl/controller/services.c). */
static void connection_ids(struct virtual_sink *sink, const char *transport,
                           const uint64_t ids[CONTROLLER_IDS_MAX])
{
    virtual_text(sink, "transport", transport);
    put_replica(sink, "peer_replica_id", ids[0] >> 8, (uint32_t)(ids[0] & 0xFF));
    put(sink, "peer_process_id", ids[1]);
    put(sink, "worker_id", ids[2]);
}

static void shm_ids(struct virtual_sink *sink, const struct controller_process_report *p,
                    const uint64_t ids[CONTROLLER_IDS_MAX])
{
    connection_ids(sink, "shm", ids);
}

static void tcp_ids(struct virtual_sink *sink, const struct controller_process_report *p,
                    const uint64_t ids[CONTROLLER_IDS_MAX])
{
    connection_ids(sink, "tcp", ids);
}

void virtual_mz_connection_counters(struct virtual_sink *sink)
{
    counters(sink, "session_shm", shm_ids);
    counters(sink, "session_tcp", tcp_ids);
}

static void source_ids(struct virtual_sink *sink, const struct controller_process_report *p,
                       const uint64_t ids[CONTROLLER_IDS_MAX])
{
    virtual_id(sink, "source_id", ids[0]);
    put(sink, "worker_id", ids[1]);
}

void virtual_mz_source_counters(struct virtual_sink *sink)
{
    counters(sink, "source", source_ids);
}

/* Storage's side: the reader is a process of the dataflow's replica, and a worker in it. */
static void subscription_ids(struct virtual_sink *sink, const struct controller_process_report *p,
                             const uint64_t ids[CONTROLLER_IDS_MAX])
{
    put(sink, "dataflow_id", ids[0]);
    virtual_id(sink, "source_id", ids[1]);
    put(sink, "reader_process_id", ids[2] >> 16);
    put(sink, "reader_worker_id", ids[2] & 0xFFFF);
}

void virtual_mz_subscription_counters(struct virtual_sink *sink)
{
    counters(sink, "subscription", subscription_ids);
}

/* Compute's side of the same subscriptions. */
static void reader_ids(struct virtual_sink *sink, const struct controller_process_report *p,
                       const uint64_t ids[CONTROLLER_IDS_MAX])
{
    put(sink, "dataflow_id", ids[0]);
    virtual_id(sink, "source_id", ids[1]);
    put(sink, "storage_worker_id", ids[2]);
}

void virtual_mz_reader_counters(struct virtual_sink *sink)
{
    counters(sink, "reader", reader_ids);
}

/* Which processes the other tables of this statement are of. */
void virtual_mz_introspection_answers(struct virtual_sink *sink)
{
    const struct controller_report *report =
        survey_need(sink->session, SURVEY_COUNTERS | SURVEY_OPERATORS);
    for (size_t i = 0; report != NULL && i < report->processes_len; i++) {
        const struct controller_process_report *p = &report->processes[i];
        begin(sink, p);
        virtual_text(sink, "service", p->service);
        virtual_bool(sink, "answered", p->answered);
        virtual_text(sink, "reason", p->reason);
        put(sink, "rows_omitted", p->omitted);
    }
}

/* ---- operators ------------------------------------------------------------------------------- */

typedef void (*operator_fn)(struct virtual_sink *sink, const struct controller_process_report *p,
                            const struct controller_operator *o, void *arg);

/* Every operator on every worker; arg is row's. */
static void operators(struct virtual_sink *sink, operator_fn row, void *arg)
{
    const struct controller_report *report = survey_need(sink->session, SURVEY_OPERATORS);
    for (size_t i = 0; report != NULL && i < report->processes_len; i++) {
        const struct controller_process_report *p = &report->processes[i];
        for (size_t o = 0; o < p->operators_len; o++) {
            row(sink, p, &p->operators[o], arg);
        }
    }
}

static uint64_t operator_id(const struct controller_operator *o)
{
    ASSERT(o->node < CONTROLLER_OPERATORS_MAX);
    uint64_t dataflow = o->incarnation & ((UINT64_C(1) << DATAFLOW_BITS) - 1);
    return dataflow << NODE_BITS | o->node;
}

static void begin_operator(struct virtual_sink *sink, const struct controller_process_report *p,
                           const struct controller_operator *o)
{
    begin(sink, p);
    put(sink, "worker_id", o->worker);
    put(sink, "id", operator_id(o));
}

/* The plan's name for people; a transient dataflow's is the query's. */
static const struct plan *plan_of(const struct virtual_sink *sink,
                                  const struct controller_process_report *p,
                                  const struct controller_operator *o)
{
    return controller_plan(sink->session->coord->controller, p->cluster, o->dataflow);
}

/* An item's own id; a dataflow of a query or subscription is nobody's. */
static void put_object(struct virtual_sink *sink, uint64_t dataflow)
{
    if ((dataflow & PLAN_ID_TRANSIENT) == 0) {
        virtual_id(sink, "object_id", dataflow);
    }
}

static void dataflow_row(struct virtual_sink *sink, const struct controller_process_report *p,
                         const struct controller_operator *o, void *arg)
{
    if (o->node != 0) {
        return; /* every dataflow has a first operator */
    }
    const struct plan *plan = plan_of(sink, p, o);
    begin(sink, p);
    put(sink, "worker_id", o->worker);
    put(sink, "id", o->incarnation);
    put_object(sink, o->dataflow);
    virtual_text(sink, "name", plan != NULL && plan->name != NULL ? plan->name : "");
    put(sink, "size", o->dataflow_bytes);
    put(sink, "memory_limit",
        plan != NULL && plan->memory_limit > 0 ? plan->memory_limit : FRONTIER_EMPTY);
}

void virtual_mz_dataflows(struct virtual_sink *sink)
{
    operators(sink, dataflow_row, NULL);
}

/* The rows of a dataflow follow each other: its plan is made ready for printing once. */
struct describer {
    const struct plan *plan;
    struct plan_printer *printer;
    struct plan_words words;
};

static void operator_row(struct virtual_sink *sink, const struct controller_process_report *p,
                         const struct controller_operator *o, void *arg)
{
    struct describer *d = arg;
    const struct plan *plan = plan_of(sink, p, o);
    if (plan != d->plan) {
        plan_printer_free(d->printer);
        d->printer = plan != NULL ? plan_printer_new(plan, &d->words) : NULL;
        d->plan = plan;
    }
    begin_operator(sink, p, o);
    put(sink, "dataflow_id", o->incarnation);
    virtual_int(sink, "node", o->node);
    virtual_text(sink, "name", o->name);
    if (plan != NULL && o->node < plan->nodes_len + plan->exports_len) {
        struct buf text = {0};
        plan_printer_line(d->printer, o->node, &text);
        virtual_text(sink, "description", buf_cstr(&text));
        buf_free(&text);
    }
}

void virtual_mz_dataflow_operators(struct virtual_sink *sink)
{
    struct describer d = {.words = {.object = names_object, .arg = sink->session}};
    operators(sink, operator_row, &d);
    plan_printer_free(d.printer);
}

static void elapsed_row(struct virtual_sink *sink, const struct controller_process_report *p,
                        const struct controller_operator *o, void *arg)
{
    begin_operator(sink, p, o);
    put(sink, "elapsed_ns", o->elapsed_ns);
    put(sink, "schedules", o->schedules);
}

void virtual_mz_scheduling_elapsed_per_worker(struct virtual_sink *sink)
{
    operators(sink, elapsed_row, NULL);
}

static void rows_row(struct virtual_sink *sink, const struct controller_process_report *p,
                     const struct controller_operator *o, void *arg)
{
    begin_operator(sink, p, o);
    put(sink, "rows_in", o->rows_in);
    put(sink, "rows_out", o->rows_out);
    put(sink, "batches", o->batches);
}

void virtual_mz_operator_rows_per_worker(struct virtual_sink *sink)
{
    operators(sink, rows_row, NULL);
}

/* Operators that keep rows; the others' state is nothing, or a page under way. */
static void arrangement_row(struct virtual_sink *sink, const struct controller_process_report *p,
                            const struct controller_operator *o, void *arg)
{
    if (o->arranged_rows == 0 && o->bytes == 0) {
        return;
    }
    begin_operator(sink, p, o);
    put(sink, "operator_id", operator_id(o));
    put(sink, "records", o->arranged_rows);
    put(sink, "size", o->bytes);
}

void virtual_mz_arrangement_sizes_per_worker(struct virtual_sink *sink)
{
    operators(sink, arrangement_row, NULL);
}

/* ---- over workers ---------------------------------------------------------------------------- */

/* An operator's numbers on one replica, all workers together. */
struct operator_sum {
    const struct controller_process_report *process; /* the first that had it */
    struct controller_operator total;
};

static int by_operator(const void *pa, const void *pb)
{
    const struct operator_sum *a = pa;
    const struct operator_sum *b = pb;
    uint64_t ka[5] = {a->process->cluster, a->process->replica, a->total.dataflow,
                      a->total.incarnation, a->total.node};
    uint64_t kb[5] = {b->process->cluster, b->process->replica, b->total.dataflow,
                      b->total.incarnation, b->total.node};
    for (size_t i = 0; i < ARRAY_LEN(ka); i++) {
        if (ka[i] != kb[i]) {
            return ka[i] < kb[i] ? -1 : 1;
        }
    }
    return 0;
}

/* Sorted and summed; free with free(). Names are the report's. */
static struct operator_sum *sum_workers(const struct controller_report *report, size_t *len)
{
    size_t all = 0;
    for (size_t i = 0; i < report->processes_len; i++) {
        all += report->processes[i].operators_len;
    }
    struct operator_sum *sums = mem_alloc((all + 1) * sizeof(*sums));
    size_t at = 0;
    for (size_t i = 0; i < report->processes_len; i++) {
        const struct controller_process_report *p = &report->processes[i];
        for (size_t o = 0; o < p->operators_len; o++) {
            sums[at++] = (struct operator_sum){.process = p, .total = p->operators[o]};
        }
    }
    ASSERT(at == all);
    qsort(sums, all, sizeof(*sums), by_operator);
    *len = 0;
    for (size_t i = 0; i < all; i++) {
        if (*len == 0 || by_operator(&sums[*len - 1], &sums[i]) != 0) {
            sums[(*len)++] = sums[i];
            continue;
        }
        struct controller_operator *total = &sums[*len - 1].total;
        total->rows_in += sums[i].total.rows_in;
        total->rows_out += sums[i].total.rows_out;
        total->batches += sums[i].total.batches;
        total->schedules += sums[i].total.schedules;
        total->elapsed_ns += sums[i].total.elapsed_ns;
        total->arranged_rows += sums[i].total.arranged_rows;
        total->bytes += sums[i].total.bytes;
        total->dataflow_bytes += sums[i].total.dataflow_bytes;
    }
    return sums;
}

static void begin_sum(struct virtual_sink *sink, const struct operator_sum *sum)
{
    virtual_begin(sink);
    put_replica(sink, "replica_id", sum->process->cluster, sum->process->replica);
}

void virtual_mz_scheduling_elapsed(struct virtual_sink *sink)
{
    const struct controller_report *report = survey_need(sink->session, SURVEY_OPERATORS);
    size_t len = 0;
    struct operator_sum *sums = report != NULL ? sum_workers(report, &len) : NULL;
    for (size_t i = 0; i < len; i++) {
        begin_sum(sink, &sums[i]);
        put(sink, "id", operator_id(&sums[i].total));
        put(sink, "elapsed_ns", sums[i].total.elapsed_ns);
        put(sink, "schedules", sums[i].total.schedules);
    }
    free(sums);
}

void virtual_mz_arrangement_sizes(struct virtual_sink *sink)
{
    const struct controller_report *report = survey_need(sink->session, SURVEY_OPERATORS);
    size_t len = 0;
    struct operator_sum *sums = report != NULL ? sum_workers(report, &len) : NULL;
    for (size_t i = 0; i < len; i++) {
        if (sums[i].total.arranged_rows > 0 || sums[i].total.bytes > 0) {
            begin_sum(sink, &sums[i]);
            put(sink, "operator_id", operator_id(&sums[i].total));
            put(sink, "records", sums[i].total.arranged_rows);
            put(sink, "size", sums[i].total.bytes);
        }
    }
    free(sums);
}

/* ---- hydration ------------------------------------------------------------------------------- */

struct hydration_rows {
    struct virtual_sink *sink;
    const struct controller_report *report;
    struct operator_sum *sums; /* of the report, sorted: a dataflow's follow each other */
    size_t sums_len;
};

/* Compares as by_operator does, less than a dataflow's incarnation and node. */
static int against_dataflow(const struct operator_sum *sum, const struct controller_hydration *one,
                            uint64_t dataflow)
{
    uint64_t ka[3] = {sum->process->cluster, sum->process->replica, sum->total.dataflow};
    uint64_t kb[3] = {one->cluster, one->replica, dataflow};
    for (size_t i = 0; i < ARRAY_LEN(ka); i++) {
        if (ka[i] != kb[i]) {
            return ka[i] < kb[i] ? -1 : 1;
        }
    }
    return 0;
}

/* A dataflow's operators on one's replica; *len 0: nobody told of any. */
static const struct operator_sum *sums_of(const struct hydration_rows *h,
                                          const struct controller_hydration *one,
                                          uint64_t dataflow, size_t *len)
{
    size_t from = 0, to = h->sums_len;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (against_dataflow(&h->sums[middle], one, dataflow) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    ASSERT(from == to && from <= h->sums_len);
    *len = 0;
    while (from + *len < h->sums_len &&
           against_dataflow(&h->sums[from + *len], one, dataflow) == 0) {
        ++*len;
    }
    return &h->sums[from];
}

/* What a replica has taken in of a dataflow's inputs, and holds. */
struct progress {
    uint64_t rows, bytes;
    bool known; /* a process of the replica told */
};

static struct progress progress_of(const struct hydration_rows *h, const struct plan *plan,
                                   const struct controller_hydration *one)
{
    size_t len;
    const struct operator_sum *sums = sums_of(h, one, one->dataflow, &len);
    struct progress out = {.known = len > 0};
    for (size_t i = 0; i < len; i++) {
        const struct controller_operator *op = &sums[i].total;
        bool import = op->node < plan->nodes_len && plan->nodes[op->node].inputs_len == 0;
        out.rows += import ? op->rows_out : 0;
        out.bytes += op->node == 0 ? op->dataflow_bytes : 0;
    }
    return out;
}

/* Rows of a table or source, as storage told; false: it did not. */
static bool stored_rows(const struct controller_report *report, uint64_t id, uint64_t *rows)
{
    bool known = false;
    for (size_t i = 0; i < report->processes_len; i++) {
        const struct controller_process_report *p = &report->processes[i];
        for (size_t c = 0; p->cluster == 0 && c < p->collections_len; c++) {
            if (p->collections[c].id == id) {
                *rows += p->collections[c].rows;
                known = true;
            }
        }
    }
    return known;
}

/* Rows of an index that is imported, on the same replica: what its export operator keeps. */
static bool indexed_rows(const struct hydration_rows *h, const struct controller_hydration *one,
                         uint64_t index, uint64_t *rows)
{
    const struct plan *plan =
        controller_plan(h->sink->session->coord->controller, one->cluster, index);
    size_t len;
    const struct operator_sum *sums = sums_of(h, one, index, &len);
    bool known = false;
    for (size_t i = 0; plan != NULL && i < len; i++) {
        if (sums[i].total.node >= plan->nodes_len) {
            *rows += sums[i].total.arranged_rows;
            known = true;
        }
    }
    return known;
}

/* How many rows the inputs have now: a snapshot reads about as many. */
static bool estimate(const struct hydration_rows *h, const struct plan *plan,
                     const struct controller_hydration *one, uint64_t *rows)
{
    bool known = true;
    *rows = 0;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        if (node->op == PLAN_SOURCE) {
            known = stored_rows(h->report, node->import.id, rows) && known;
        } else if (node->op == PLAN_INDEX) {
            known = indexed_rows(h, one, node->import.id, rows) && known;
        } else if (node->op == PLAN_CONSTANT) {
            *rows += node->constant.rows_len;
        }
    }
    return known;
}

/* Of the input; what is made of it may take longer, so only what is complete is all of it. */
static uint64_t percent(uint64_t rows, uint64_t expected, bool hydrated)
{
    if (hydrated) {
        return 100;
    }
    uint64_t done = expected > 0 ? (uint64_t)((double)rows / (double)expected * 100) : 0;
    return done < 99 ? done : 99;
}

static void hydration_row(void *arg, const struct controller_hydration *one)
{
    const struct hydration_rows *h = arg;
    struct virtual_sink *sink = h->sink;
    const struct plan *plan =
        controller_plan(sink->session->coord->controller, one->cluster, one->dataflow);
    if (plan == NULL || (one->index & PLAN_ID_TRANSIENT) != 0) {
        return; /* of a query */
    }
    virtual_begin(sink);
    virtual_id(sink, "object_id", one->index);
    put_replica(sink, "replica_id", one->cluster, one->replica);
    virtual_bool(sink, "hydrated", one->hydrated);
    virtual_text(sink, "status", one->failed ? "failed" : !one->ready ? "replica not ready"
                                 : one->hydrated ? "hydrated" : "hydrating");
    struct progress progress = progress_of(h, plan, one);
    uint64_t expected = 0;
    bool estimated = estimate(h, plan, one, &expected);
    put(sink, "rows", progress.known ? progress.rows : FRONTIER_EMPTY);
    put(sink, "rows_estimate", estimated ? expected : FRONTIER_EMPTY);
    put(sink, "bytes", progress.known ? progress.bytes : FRONTIER_EMPTY);
    put(sink, "percent", progress.known && estimated
                             ? percent(progress.rows, expected, one->hydrated)
                             : FRONTIER_EMPTY);
}

void virtual_mz_hydration_statuses(struct virtual_sink *sink)
{
    struct hydration_rows h = {.sink = sink,
                               .report = survey_need(sink->session, SURVEY_OPERATORS)};
    if (h.report != NULL) {
        h.sums = sum_workers(h.report, &h.sums_len);
        controller_hydrations(sink->session->coord->controller, hydration_row, &h);
        free(h.sums);
    }
}
