/* The controllers' test double: see local_controller.h. */
#include "tests/unit/ctrl/adapter/coord/local_controller.h"

#include "core/base/assert.h"
#include "core/base/map.h"
#include "core/engine/engine.h"

struct table {
    uint64_t id;
    bool source;    /* not readable, and nothing is written to it, until it is published */
    bool published;
    uint8_t kinds[64];
    size_t cols;
    struct batch_builder *rows; /* every update, with its time */
};

struct input {
    uint64_t collection;
    uint32_t index;
    uint64_t upper; /* fed so far */
};

struct dataflow {
    uint64_t id;
    uint64_t as_of;
    struct input inputs[16];
    size_t inputs_len;
};

struct pending_peek {
    controller_peek_fn fn;
    void *arg;
    struct batch **pieces; /* the answer */
    size_t pieces_len, pieces_cap;
    err_t err;
    bool done;
};

struct pending_append {
    void (*done)(void *arg, err_t err);
    void *arg;
    err_t err;
    struct pending_append *next;
};

struct subscriber {
    controller_subscribe_fn fn;
    void *arg;
};

/* The runtimes' answer to one question; there is one at a time in these tests. */
struct pending_report {
    uint64_t id; /* 0: none */
    controller_report_fn fn;
    void *arg;
    struct controller_report *made;
    struct io_timer timer;
};

struct controller {
    struct io_loop *loop;
    struct pending_report report;
    uint64_t next_report;
    struct u64map subscribers; /* export -> struct subscriber */
    size_t holds;
    size_t limit; /* bytes of an append; 0: none */
    uint64_t unholdable;
    struct engine *engine;
    struct io_poller poller;
    struct table **tables;
    size_t tables_len, tables_cap;
    struct dataflow **dataflows;
    size_t dataflows_len, dataflows_cap;
    struct u64map uppers; /* export -> upper, as a pointer */
    struct u64map peeks;
    uint64_t next_peek;
    uint64_t upper; /* of all tables */
    struct pending_append *appended, **appended_tail;
    struct io_timer deliver;
    uint32_t appends;
    uint32_t advances;
    uint32_t too_early;
    const char *refuse;
};

/* ---- the engine's host ----------------------------------------------------------------------- */

static void on_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    UNREACHABLE();
}

static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct controller *c = ctx;
    u64map_put(&c->uppers, export_id, (void *)(uintptr_t)upper);
}

static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    struct controller *c = ctx;
    struct subscriber *sub = u64map_get(&c->subscribers, export_id);
    ASSERT(lower <= upper);
    if (sub != NULL) {
        sub->fn(sub->arg, lower, upper, ok, ERR_OK);
    }
}

/* A copy, with the columns behind the view. */
static void keep_piece(struct pending_peek *p, const struct batch *rows)
{
    void *bytes = aligned_alloc(64, (rows->size + 63) / 64 * 64);
    struct batch *piece = mem_alloc(sizeof(*piece) + (rows->cols + 1) * sizeof(struct batch_col));
    ASSERT(bytes != NULL);
    memcpy(bytes, rows->base, rows->size);
    batch_view(bytes, rows->size, (struct batch_col *)(piece + 1), rows->cols, piece);
    *VEC_PUSH(p, pieces) = piece;
}

static void pieces_free(struct pending_peek *p)
{
    for (size_t i = 0; i < p->pieces_len; i++) {
        free((void *)(uintptr_t)p->pieces[i]->base);
        free(p->pieces[i]);
    }
    free(p->pieces);
}

static void on_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    struct controller *c = ctx;
    struct pending_peek *p = u64map_get(&c->peeks, peek_id);
    if (p == NULL) {
        err_free(err);
        return;
    }
    p->done = true;
    p->err = err;
    if (rows != NULL) {
        keep_piece(p, rows);
    }
}

static void on_peek_rows(void *ctx, uint64_t peek_id, const struct batch *rows)
{
    struct controller *c = ctx;
    struct pending_peek *p = u64map_get(&c->peeks, peek_id);
    if (p != NULL) {
        keep_piece(p, rows);
    }
}

static void on_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    err_free(err);
}

static const struct engine_host host = {.send = on_send,
                                        .frontier = on_frontier,
                                        .subscribe = on_subscribe,
                                        .peek_rows = on_peek_rows,
                                        .peek_done = on_peek_done,
                                        .failed = on_failed};

static bool deliver_peek(struct controller *c)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->peeks, &at, &id, &value)) {
        struct pending_peek *p = value;
        if (p->done) {
            u64map_remove(&c->peeks, id);
            p->fn(p->arg, (const struct batch **)p->pieces, p->pieces_len, p->err);
            pieces_free(p);
            free(p);
            return true;
        }
    }
    return false;
}

static bool on_poll(struct io_poller *poller)
{
    struct controller *c = CONTAINER_OF(poller, struct controller, poller);
    bool more = engine_step(c->engine);
    return deliver_peek(c) || more;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static struct table *find_table(const struct controller *c, uint64_t id)
{
    for (size_t i = 0; i < c->tables_len; i++) {
        if (c->tables[i]->id == id) {
            return c->tables[i];
        }
    }
    return NULL;
}

/* The table's updates with from <= time, those before as_of moved up to it. */
static void *updates(struct table *t, uint64_t from, uint64_t as_of, size_t *size)
{
    struct batch_col cols[64];
    struct batch all;
    size_t all_size = 0;
    void *bytes = batch_builder_finish_new(t->rows, &all_size);
    batch_view(bytes, all_size, cols, 64, &all);
    struct batch_builder *out = batch_builder_new(t->kinds, t->cols);
    struct batch_builder *kept = batch_builder_new(t->kinds, t->cols);
    batch_builder_rows_of(kept, &all, NULL, 0);
    for (uint32_t row = 0; row < all.rows; row++) {
        if (batch_time(&all, row) >= from) {
            uint64_t time = batch_time(&all, row);
            for (size_t i = 0; i < t->cols; i++) {
                struct datum d;
                batch_datum(&cols[i], row, &d);
                batch_builder_datum(out, i, &d);
            }
            batch_builder_end_row(out, time > as_of ? time : as_of, batch_diff(&all, row));
        }
    }
    batch_builder_free(t->rows);
    t->rows = kept;
    free(bytes);
    void *result = batch_builder_finish_new(out, size);
    batch_builder_free(out);
    return result;
}

static void feed(struct controller *c, struct dataflow *d, struct input *in)
{
    struct table *t = find_table(c, in->collection);
    bool readable = t != NULL && (!t->source || t->published);
    if (!readable || c->upper <= in->upper || c->upper <= d->as_of) {
        return;
    }
    struct batch_col cols[64];
    struct batch view;
    size_t size = 0;
    void *bytes = updates(t, in->upper, d->as_of, &size);
    batch_view(bytes, size, cols, 64, &view);
    engine_input(c->engine, d->id, in->index, 0, in->upper, c->upper, &view, NULL);
    in->upper = c->upper;
    free(bytes);
}

static void feed_all(struct controller *c)
{
    for (size_t i = 0; i < c->dataflows_len; i++) {
        for (size_t j = 0; j < c->dataflows[i]->inputs_len; j++) {
            feed(c, c->dataflows[i], &c->dataflows[i]->inputs[j]);
        }
    }
}

static void on_deliver(struct io_timer *timer)
{
    struct controller *c = CONTAINER_OF(timer, struct controller, deliver);
    while (c->appended != NULL) {
        struct pending_append *a = c->appended;
        c->appended = a->next;
        if (c->appended == NULL) {
            c->appended_tail = &c->appended;
        }
        a->done(a->arg, a->err);
        free(a);
    }
}

/* ---- controller.h ---------------------------------------------------------------------------- */

struct controller *local_controller_new(struct io_loop *loop)
{
    struct controller *c = MEM_NEW(struct controller);
    const struct engine_config config = {.workers = 1, .loop = loop, .host = &host, .ctx = c};
    c->loop = loop;
    c->engine = engine_new(&config);
    c->poller.poll = on_poll;
    c->appended_tail = &c->appended;
    c->deliver.fire = on_deliver;
    c->upper = 1;
    io_poller_add(loop, &c->poller);
    return c;
}

void controller_free(struct controller *c)
{
    ASSERT(c->report.id == 0);
    io_poller_remove(c->loop, &c->poller);
    io_timer_cancel(c->loop, &c->deliver);
    engine_free(c->engine);
    for (size_t i = 0; i < c->tables_len; i++) {
        batch_builder_free(c->tables[i]->rows);
        free(c->tables[i]);
    }
    for (size_t i = 0; i < c->dataflows_len; i++) {
        free(c->dataflows[i]);
    }
    while (c->appended != NULL) {
        struct pending_append *a = c->appended;
        c->appended = a->next;
        err_free(a->err);
        free(a);
    }
    ASSERT(c->peeks.len == 0 && c->subscribers.len == 0 && c->holds == 0);
    u64map_free(&c->subscribers);
    free(c->tables);
    free(c->dataflows);
    u64map_free(&c->uppers);
    u64map_free(&c->peeks);
    free(c);
}

void local_controller_refuse(struct controller *c, uint32_t too_early, const char *sqlstate)
{
    c->too_early = too_early;
    c->refuse = sqlstate;
}

uint32_t local_controller_appends(const struct controller *c)
{
    return c->appends;
}

uint32_t local_controller_advances(const struct controller *c)
{
    return c->advances;
}

size_t local_controller_dataflows(const struct controller *c)
{
    return c->dataflows_len;
}

void local_controller_publish(struct controller *c)
{
    for (size_t i = 0; i < c->tables_len; i++) {
        c->tables[i]->published = true;
    }
    feed_all(c);
}

void local_controller_limit(struct controller *c, size_t bytes)
{
    c->limit = bytes;
}

size_t local_controller_holds(const struct controller *c)
{
    return c->holds;
}

void local_controller_compacted(struct controller *c, uint64_t id)
{
    c->unholdable = id;
}

void controller_initialized(struct controller *c)
{
    ASSERT(c != NULL);
}

err_t controller_collection_create(struct controller *c,
                                   const struct storage_collection *collection)
{
    struct table *t = MEM_NEW(struct table);
    t->id = collection->id;
    t->source = collection->kind == STORAGE_FILE;
    t->cols = collection->cols;
    for (size_t i = 0; i < t->cols; i++) {
        t->kinds[i] = collection->types[i].kind;
    }
    t->rows = batch_builder_new(t->kinds, t->cols);
    *VEC_PUSH(c, tables) = t;
    return ERR_OK;
}

void controller_collection_drop(struct controller *c, uint64_t id)
{
    for (size_t i = 0; i < c->tables_len; i++) {
        if (c->tables[i]->id == id) {
            batch_builder_free(c->tables[i]->rows);
            free(c->tables[i]);
            c->tables[i] = c->tables[--c->tables_len];
            return;
        }
    }
}

void controller_append(struct controller *c, uint64_t time, const struct storage_write *writes,
                       size_t writes_len, void (*done)(void *arg, err_t err), void *arg)
{
    struct pending_append *a = MEM_NEW(struct pending_append);
    size_t bytes = 0;
    a->done = done;
    a->arg = arg;
    for (size_t i = 0; i < writes_len; i++) {
        bytes += writes[i].batch->size;
    }
    if (c->too_early > 0) {
        c->too_early--;
        a->err = err_new(ERR_FENCED, "too early");
    } else if (c->limit != 0 && bytes > c->limit) {
        a->err = err_sql(ERR_LIMIT, "54000", "too much");
    } else if (c->refuse != NULL) {
        a->err = err_sql(ERR_NO_SPACE, c->refuse, "refused");
    } else {
        ASSERT(time >= c->upper);
        for (size_t i = 0; i < writes_len; i++) {
            struct table *t = find_table(c, writes[i].id);
            const struct batch *b = writes[i].batch;
            for (uint32_t row = 0; row < b->rows; row++) {
                for (size_t j = 0; j < t->cols; j++) {
                    struct datum d;
                    batch_datum(&b->col[j], row, &d);
                    batch_builder_datum(t->rows, j, &d);
                }
                batch_builder_end_row(t->rows, time, batch_diff(b, row));
            }
        }
        c->upper = time + 1;
        c->appends++;
        feed_all(c);
    }
    *c->appended_tail = a;
    c->appended_tail = &a->next;
    io_timer_start(c->loop, &c->deliver, io_now_us(c->loop) + 100);
}

void controller_advance_tables(struct controller *c, uint64_t upper)
{
    if (upper > c->upper) {
        c->upper = upper;
        c->advances++;
        feed_all(c);
    }
}

bool controller_collection_frontiers(const struct controller *c, uint64_t id, uint64_t *since,
                                     uint64_t *upper)
{
    *since = 0;
    struct table *t = find_table(c, id);
    *upper = t != NULL && t->source && !t->published ? 0 : c->upper;
    return t != NULL;
}

err_t controller_cluster_create(struct controller *c, const struct controller_cluster_spec *spec)
{
    ASSERT(spec->id != 0);
    return ERR_OK;
}

/* Sources of the tests hold no files: ready as soon as they are there. */
uint64_t controller_collection_ready(const struct controller *c, uint64_t id)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    return controller_collection_frontiers(c, id, &since, &upper) ? 1 : 0;
}

void controller_wake(struct controller *c)
{
    /* Tables follow the oracle here. */
}

bool controller_cluster_ready(const struct controller *c, uint64_t id)
{
    return id != 0;
}

void controller_cluster_drop(struct controller *c, uint64_t id)
{
    ASSERT(id != 0);
}

err_t controller_dataflow_create(struct controller *c, uint64_t cluster, struct plan *plan)
{
    struct dataflow *d = MEM_NEW(struct dataflow);
    uint32_t parts[16];
    d->id = plan->id;
    plan->as_of = plan->as_of != 0 ? plan->as_of : c->upper;
    d->as_of = plan->as_of;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (plan->nodes[i].op == PLAN_SOURCE) {
            parts[d->inputs_len] = 1;
            d->inputs[d->inputs_len] = (struct input){.collection = plan->nodes[i].import.id,
                                                      .index = (uint32_t)d->inputs_len};
            d->inputs_len++;
        }
    }
    size_t inputs = d->inputs_len;
    err_t err = engine_create(c->engine, plan, parts, inputs);
    if (err != ERR_OK) {
        free(d);
        return err;
    }
    *VEC_PUSH(c, dataflows) = d;
    feed_all(c);
    return ERR_OK;
}

void controller_export_drop(struct controller *c, uint64_t cluster, uint64_t export_id)
{
    free(u64map_remove(&c->subscribers, export_id));
    for (size_t i = 0; i < c->dataflows_len; i++) {
        if (c->dataflows[i]->id == export_id) {
            engine_drop(c->engine, export_id);
            free(c->dataflows[i]);
            c->dataflows[i] = c->dataflows[--c->dataflows_len];
            return;
        }
    }
}

void controller_each_changed(struct controller *c, controller_changed_fn each, void *arg)
{
}

void controller_allow_compaction(struct controller *c, uint64_t cluster, uint64_t export_id,
                                 uint64_t since)
{
    ASSERT(since > 0);
}

bool controller_index_frontiers(const struct controller *c, uint64_t cluster, uint64_t index,
                                uint64_t *since, uint64_t *upper)
{
    *upper = (uint64_t)(uintptr_t)u64map_get(&c->uppers, index);
    for (size_t i = 0; i < c->dataflows_len; i++) {
        if (c->dataflows[i]->id == index) {
            *since = c->dataflows[i]->as_of;
            return true;
        }
    }
    return false;
}

void controller_subscribe(struct controller *c, uint64_t export_id, controller_subscribe_fn fn,
                          void *arg)
{
    struct subscriber *sub = MEM_NEW(struct subscriber);
    ASSERT(fn != NULL);
    *sub = (struct subscriber){fn, arg};
    free(u64map_put(&c->subscribers, export_id, sub));
}

uint64_t controller_peek(struct controller *c, const struct controller_peek *peek,
                         controller_peek_fn fn, void *arg)
{
    struct pending_peek *p = MEM_NEW(struct pending_peek);
    p->fn = fn;
    p->arg = arg;
    uint64_t id = ++c->next_peek;
    u64map_put(&c->peeks, id, p);
    const struct engine_peek request = {.peek_id = id,
                                        .index_id = peek->index,
                                        .time = peek->time,
                                        .keys = peek->keys,
                                        .mfp = peek->mfp,
                                        .order = peek->order,
                                        .order_len = peek->order_len,
                                        .limit = peek->limit};
    engine_peek(c->engine, &request);
    return id;
}

void controller_peek_cancel(struct controller *c, uint64_t peek_id)
{
    struct pending_peek *p = u64map_remove(&c->peeks, peek_id);
    if (p != NULL) {
        engine_peek_cancel(c->engine, peek_id);
        err_free(p->err);
        pieces_free(p);
        free(p);
    }
}

err_t controller_hold(struct controller *c, uint64_t cluster_or_0, uint64_t id, uint64_t time,
                      uint64_t *hold)
{
    if (id == c->unholdable) {
        return err_new(ERR_INVALID, "since is beyond");
    }
    c->holds++;
    *hold = id;
    return ERR_OK;
}

void controller_hold_release(struct controller *c, uint64_t hold)
{
    ASSERT(hold != 0 && c->holds > 0);
    c->holds--;
}

void controller_processes(const struct controller *c,
                          void (*each)(void *arg, const struct controller_process_info *info),
                          void *arg)
{
    const struct controller_process_info info = {
        .service = "storage", .address = "memory", .connected = true};
    each(arg, &info);
}

/* ---- reports --------------------------------------------------------------------------------- */

void controller_report_free(struct controller_report *report)
{
    for (size_t i = 0; report != NULL && i < report->processes_len; i++) {
        struct controller_process_report *p = &report->processes[i];
        for (size_t t = 0; t < p->counters_len; t++) {
            free(p->counters[t].name);
            free(p->counters[t].ids[0]);
            for (uint32_t v = 0; v < p->counters[t].values_len; v++) {
                free(p->counters[t].values[v]);
            }
            free(p->counters[t].numbers);
        }
        free(p->counters);
        free(p->service);
        free(p->reason);
    }
    if (report != NULL) {
        free(report->processes);
        free(report);
    }
}

static void on_report(struct io_timer *timer)
{
    struct pending_report *r = CONTAINER_OF(timer, struct pending_report, timer);
    struct controller_report *made = r->made;
    r->id = 0;
    r->made = NULL;
    r->fn(r->arg, made);
}

/* Process 0 has a loop that spun seven times, and more rows than it may tell; it also tells of
 * values that no runtime has, named as columns of another type and an id. Process 1 is silent, so
 * that the answer takes as long as may be waited. */
uint64_t controller_report(struct controller *c, const struct controller_question *question,
                           controller_report_fn fn, void *arg)
{
    ASSERT(c->report.id == 0);
    c->report = (struct pending_report){.id = ++c->next_report, .fn = fn, .arg = arg};
    c->report.made = MEM_NEW(struct controller_report);
    for (uint32_t i = 0; i < 2; i++) {
        *VEC_PUSH(c->report.made, processes) = (struct controller_process_report){
            .service = mem_strdup("storage"), .process = i, .settled = true, .answered = i == 0,
            .omitted = i == 0 ? 5 : 0, .reason = i == 0 ? NULL : mem_strdup("it is silent")};
    }
    if (question->counters) {
        struct controller_process_report *p = &c->report.made->processes[0];
        struct controller_counters *table = VEC_PUSH(p, counters);
        *table = (struct controller_counters){.name = mem_strdup("loop"), .ids_len = 1,
                                              .values_len = 3, .rows = 1};
        table->ids[0] = mem_strdup("worker");
        table->values[0] = mem_strdup("spins");
        table->values[1] = mem_strdup("replica_id");
        table->values[2] = mem_strdup("worker_id");
        table->numbers = mem_zalloc(4 * sizeof(uint64_t));
        table->numbers[1] = 7;
        table->numbers[2] = table->numbers[3] = 9;
    }
    c->report.timer.fire = on_report;
    io_timer_start(c->loop, &c->report.timer, io_now_us(c->loop) + question->timeout_us);
    return c->report.id;
}

void controller_report_cancel(struct controller *c, uint64_t id)
{
    if (c->report.id == id) {
        io_timer_cancel(c->loop, &c->report.timer);
        controller_report_free(c->report.made);
        c->report = (struct pending_report){0};
    }
}

const struct plan *controller_plan(const struct controller *c, uint64_t cluster, uint64_t dataflow)
{
    return NULL; /* engines take them */
}

void controller_hydrations(const struct controller *c,
                           void (*each)(void *arg, const struct controller_hydration *one),
                           void *arg)
{
    ASSERT(each != NULL); /* no replicas here */
}
