/*
 * Hostile Stats: what a runtime says it counts, page after page, into one part of a report. However
 * the pages contradict each other, what is kept is bounded and consistent. The input is a sequence
 * of messages, each behind its length in two bytes.
 */
#include "core/base/mem.h"
#include "ctrl/controller/controller_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS_MAX = 50 };

static void check(const struct controller_process_report *p)
{
    ASSERT(p->counters_len <= CONTROLLER_TABLES_MAX);
    for (size_t i = 0; i < p->counters_len; i++) {
        const struct controller_counters *table = &p->counters[i];
        ASSERT(table->rows <= ROWS_MAX && strlen(table->name) < CONTROLLER_NAME_MAX);
        ASSERT(table->ids_len <= CONTROLLER_IDS_MAX && table->values_len <= CONTROLLER_VALUES_MAX);
        uint64_t sum = 0;
        for (size_t n = 0; n < table->rows * (table->ids_len + table->values_len); n++) {
            sum += table->numbers[n]; /* all are there to be read */
        }
        ASSERT(table->rows > 0 || sum == 0);
    }
    ASSERT(p->operators_len <= ROWS_MAX + CONTROLLER_WORKERS_MAX);
    ASSERT(p->collections_len <= ROWS_MAX + CONTROLLER_WORKERS_MAX);
    for (size_t i = 0; i < p->operators_len; i++) {
        ASSERT(p->operators[i].node < CONTROLLER_OPERATORS_MAX);
        ASSERT(strlen(p->operators[i].name) < CONTROLLER_NAME_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct controller_report *report = MEM_NEW(struct controller_report);
    struct controller_process_report *p = VEC_PUSH(report, processes);
    *p = (struct controller_process_report){.service = mem_strdup("fuzz")};
    err_t err = ERR_OK;
    while (err == ERR_OK && size >= 2) {
        size_t len = (size_t)data[0] | (size_t)data[1] << 8;
        data += 2;
        size -= 2;
        len = len < size ? len : size;
        tailrace_v1_Stats message;
        err = rpc_decode_pb(tailrace_v1_Stats_fields, &message, data, len);
        if (err == ERR_OK) {
            err = report_take(&message, ROWS_MAX, p);
            rpc_release_pb(tailrace_v1_Stats_fields, &message);
        }
        check(p);
        data += len;
        size -= len;
    }
    err_free(err);
    controller_report_free(report);
    return 0;
}
