/*
 * What a process says of itself, taken into its part of a report. Every name, shape and count is
 * checked, and what is kept is bounded by rows_max: the process is another one, and may be broken.
 * No state but the part: a function of the message, for the fuzzer as well.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/mem.h"

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

static err_t take_table(uint32_t rows_max, struct controller_process_report *p,
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
    if (rows > rows_max || table->rows + rows > rows_max) {
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
static err_t check_rows(uint32_t rows_max, size_t there, size_t more)
{
    size_t max = (size_t)rows_max + CONTROLLER_WORKERS_MAX;
    return there <= max && more <= max - there
               ? ERR_OK
               : err_new(ERR_PROTOCOL, "statistics of more rows than asked for");
}

static err_t take_operators(uint32_t rows_max, struct controller_process_report *p,
                            const tailrace_v1_Stats *message)
{
    TRY(check_rows(rows_max, p->operators_len, message->operators_count));
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
                                         .bytes = from->bytes,
                                         .dataflow_bytes = from->dataflow_bytes};
    }
    return ERR_OK;
}

static err_t take_collections(uint32_t rows_max, struct controller_process_report *p,
                              const tailrace_v1_Stats *message)
{
    TRY(check_rows(rows_max, p->collections_len, message->collections_count));
    for (size_t i = 0; i < message->collections_count; i++) {
        const tailrace_v1_CollectionStats *from = &message->collections[i];
        *VEC_PUSH(p, collections) = (struct controller_collection_rows){
            .id = from->id, .worker = from->worker, .rows = from->rows};
    }
    return ERR_OK;
}

err_t report_take(const tailrace_v1_Stats *message, uint32_t rows_max,
                  struct controller_process_report *p)
{
    ASSERT(rows_max > 0 && !p->settled);
    for (size_t i = 0; i < message->counters_count; i++) {
        TRY(take_table(rows_max, p, &message->counters[i]));
    }
    TRY(take_operators(rows_max, p, message));
    TRY(take_collections(rows_max, p, message));
    p->omitted += message->omitted;
    return ERR_OK;
}
