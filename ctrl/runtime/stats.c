/*
 * Answers to ReportStats: see stats.h. Main loop only.
 *
 * A question holds a position in the counters file and how many parts are missing; the walk over
 * the file is one of the parts. Slots that open behind the position while the walk is under way are
 * not told: they were not there when the question came.
 */
#include "ctrl/runtime/stats.h"

#include "core/base/mem.h"
#include "ctrl/plan/plan_codec.h"

/* One question under way. */
struct stats_question {
    struct stats *stats;
    struct io_task task; /* the next page of counters */
    uint64_t number;     /* here */
    uint64_t id;         /* the controller's */
    uint32_t parts;      /* not yet complete */
    uint32_t rows_max;
    uint32_t at, end;    /* slots [at, end) are still to be looked at */
    uint32_t told[COUNTERS_TYPES_MAX]; /* rows of each type, by the order they were met in */
    const char *types[COUNTERS_TYPES_MAX];
};

/* A page of counters being filled: a table a type. Names are the counters' own. */
struct page {
    tailrace_v1_CounterTable tables[COUNTERS_TYPES_MAX];
    struct numbers {
        uint64_t *items;
        size_t items_len, items_cap;
    } numbers[COUNTERS_TYPES_MAX];
    char *ids[COUNTERS_TYPES_MAX][COUNTERS_IDS];
    char *values[COUNTERS_TYPES_MAX][COUNTERS_VALUES];
    uint32_t rows;
    uint64_t omitted;
};

/* nanopb wants char * and only reads. */
static char *borrow(const char *text)
{
    union {
        const char *in;
        char *out;
    } u = {.in = text};
    return u.out;
}

/* Which of the question's types the reading is of; types are met in any order and never go. */
static uint32_t type_of_reading(struct stats_question *q, const struct counters_reading *reading)
{
    uint32_t at = 0;
    while (q->types[at] != NULL && q->types[at] != reading->type) {
        at++;
        ASSERT(at < COUNTERS_TYPES_MAX); /* the file has no more */
    }
    q->types[at] = reading->type;
    return at;
}

/* The names of a type, once a page. */
static void describe(struct page *page, uint32_t type, const struct counters_reading *reading)
{
    tailrace_v1_CounterTable *table = &page->tables[type];
    ASSERT(table->name == NULL);
    table->name = borrow(reading->type);
    table->ids = page->ids[type];
    for (int i = 0; i < COUNTERS_IDS && reading->id_names[i] != NULL; i++) {
        page->ids[type][table->ids_count++] = borrow(reading->id_names[i]);
    }
    table->values = page->values[type];
    for (int i = 0; i < COUNTERS_VALUES && reading->value_names[i] != NULL; i++) {
        page->values[type][table->values_count++] = borrow(reading->value_names[i]);
    }
}

static void add_reading(struct stats_question *q, struct page *page,
                        const struct counters_reading *reading)
{
    uint32_t type = type_of_reading(q, reading);
    if (q->told[type] >= q->rows_max) {
        page->omitted++;
        return;
    }
    q->told[type]++;
    page->rows++;
    tailrace_v1_CounterTable *table = &page->tables[type];
    if (table->name == NULL) {
        describe(page, type, reading);
    }
    for (size_t i = 0; i < table->ids_count; i++) {
        *VEC_PUSH(&page->numbers[type], items) = reading->ids[i];
    }
    for (size_t i = 0; i < table->values_count; i++) {
        *VEC_PUSH(&page->numbers[type], items) = reading->values[i];
    }
}

/* Sends the page, if there is anything in it, and frees it. */
static void page_send(struct stats_question *q, struct page *page)
{
    tailrace_v1_CounterTable tables[COUNTERS_TYPES_MAX];
    tailrace_v1_Stats message = {
        .id = q->id, .counters = tables, .omitted = page->omitted};
    for (uint32_t t = 0; t < COUNTERS_TYPES_MAX; t++) {
        if (page->tables[t].name != NULL) {
            ASSERT(page->numbers[t].items_len > 0);
            page->tables[t].numbers = page->numbers[t].items;
            page->tables[t].numbers_count = (pb_size_t)page->numbers[t].items_len;
            tables[message.counters_count++] = page->tables[t];
        }
    }
    if (message.counters_count > 0 || message.omitted > 0) {
        q->stats->send(q->stats->ctx, &message);
    }
    for (uint32_t t = 0; t < COUNTERS_TYPES_MAX; t++) {
        free(page->numbers[t].items);
    }
}

/* The last page, which says so; err (may be ERR_OK, is taken) is why there is no better answer. */
static void send_last(struct stats *stats, uint64_t id, err_t err)
{
    struct arena arena = {0};
    tailrace_v1_Stats message = {.id = id, .last = true, .has_error = err != ERR_OK};
    if (err != ERR_OK) {
        plan_codec_encode_err(err, &arena, &message.error);
    }
    stats->send(stats->ctx, &message);
    arena_free(&arena);
    err_free(err);
}

static void question_free(struct stats_question *q)
{
    io_task_cancel(q->stats->loop, &q->task);
    free(q);
}

/* The walk's next piece; the whole of the question may end here. */
static void walk(struct io_task *task)
{
    struct stats_question *q = CONTAINER_OF(task, struct stats_question, task);
    struct page page = {0};
    uint32_t end = q->end - q->at > STATS_PAGE_SLOTS ? q->at + STATS_PAGE_SLOTS : q->end;
    struct counters_reading reading;
    while (page.rows < STATS_PAGE_ROWS &&
           counters_next(q->stats->counters, &q->at, end, &reading)) {
        add_reading(q, &page, &reading);
    }
    ASSERT(q->at <= end && page.rows <= STATS_PAGE_ROWS);
    page_send(q, &page);
    if (q->at < q->end) {
        io_post(q->stats->loop, &q->task);
    } else {
        stats_part(q->stats, q->number);
    }
}

void stats_init(struct stats *stats, struct io_loop *loop, struct counters *counters,
                stats_send_fn send, void *ctx)
{
    ASSERT(loop != NULL && send != NULL);
    *stats = (struct stats){.loop = loop, .counters = counters, .send = send, .ctx = ctx};
}

/* The walk counts as a part, also over no counters: the answer never comes from inside the call. */
uint64_t stats_ask(struct stats *stats, const tailrace_v1_ReportStats *question, uint32_t parts)
{
    ASSERT(stats->loop != NULL);
    if (stats->questions.len >= STATS_QUESTIONS_MAX) {
        send_last(stats, question->id,
                  err_new(ERR_LIMIT, "%d questions for statistics are under way already",
                          STATS_QUESTIONS_MAX));
        return 0;
    }
    struct stats_question *q = MEM_NEW(struct stats_question);
    q->stats = stats;
    q->number = ++stats->next;
    q->id = question->id;
    q->parts = parts + 1;
    q->rows_max = question->rows_max;
    q->end = question->counters ? counters_used(stats->counters) : 0;
    q->task.run = walk;
    u64map_put(&stats->questions, q->number, q);
    io_post(stats->loop, &q->task);
    return q->number;
}

void stats_page(struct stats *stats, uint64_t number, tailrace_v1_Stats *page)
{
    const struct stats_question *q = u64map_get(&stats->questions, number);
    if (q != NULL) {
        page->id = q->id;
        page->last = false;
        stats->send(stats->ctx, page);
    }
}

void stats_part(struct stats *stats, uint64_t number)
{
    struct stats_question *q = u64map_get(&stats->questions, number);
    if (q == NULL) {
        return; /* of an earlier session */
    }
    ASSERT(q->parts > 0);
    if (--q->parts == 0) {
        u64map_remove(&stats->questions, number);
        send_last(stats, q->id, ERR_OK);
        question_free(q);
    }
}

void stats_clear(struct stats *stats)
{
    size_t at = 0;
    uint64_t number;
    void *value;
    while (u64map_next(&stats->questions, &at, &number, &value)) {
        question_free(value);
    }
    u64map_free(&stats->questions);
}
