/*
 * The queue of writes to tables. All writes pass here, in one order:
 *
 * Group commit. While an append is under way, jobs gather; when it is durable, everything that
 * waits goes into the next append, at one time from the oracle. A client is told after its append
 * was acknowledged and the oracle observed the time: any read that begins afterwards sees it.
 *
 * Read, then write. UPDATE, DELETE and INSERT ... SELECT ask for the lock. It is granted when the
 * job is first in the queue and nothing flies; until the job's own append is done nothing else is
 * appended. So what it read at the oracle's read time is still true at its write time.
 *
 * A job is IDLE -> QUEUED -> FLYING -> IDLE, or, with the lock, IDLE -> QUEUED -> GRANTED -> FLYING
 * -> IDLE. It is embedded in its owner, who may forget it at any moment (write_abandon): a session
 * that is cancelled or gone. What flies then is still applied; only nobody is told.
 *
 * Starvation: jobs are taken in order, a waiting lock stops later plain writes, so it gets its turn
 * after the append under way; while it reads, writers wait for it. That is the price of UPDATE.
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

enum {
    WRITE_GROUP_BYTES = 8 * 1024 * 1024, /* an append is not made larger than this by grouping */
    WRITE_ATTEMPTS = 20,                 /* times refused as too early before we give up */
};

/* ---- sets ------------------------------------------------------------------------------------ */

struct batch_builder *write_set_table(struct write_set *set, uint64_t id, const struct schema *s)
{
    for (size_t i = 0; i < set->tables_len; i++) {
        if (set->tables[i].id == id) {
            return set->tables[i].rows;
        }
    }
    uint8_t kinds[BATCH_COLS_MAX];
    ASSERT(s->cols <= BATCH_COLS_MAX);
    for (uint32_t i = 0; i < s->cols; i++) {
        kinds[i] = s->types[i].kind;
    }
    struct write_table *t = VEC_PUSH(set, tables);
    t->id = id;
    t->rows = batch_builder_new(kinds, s->cols);
    return t->rows;
}

/* A table may be there without rows: an UPDATE that matched nothing. */
bool write_set_empty(const struct write_set *set)
{
    for (size_t i = 0; i < set->tables_len; i++) {
        if (batch_builder_rows(set->tables[i].rows) > 0) {
            return false;
        }
    }
    return true;
}

/* As the batches will be, headers included: what counts against limits. */
size_t write_set_bytes(const struct write_set *set)
{
    size_t bytes = 0;
    ASSERT(set != NULL);
    for (size_t i = 0; i < set->tables_len; i++) {
        bytes += batch_builder_size(set->tables[i].rows);
    }
    return bytes;
}

/*
 * A transaction's writes are one append, and an append is one message: what would not fit is
 * refused here, while only its own transaction is hurt. more: what the transaction holds besides
 * the set.
 */
err_t write_set_check(const struct coord *coord, const struct write_set *set, size_t more)
{
    size_t limit = coord->config.max_copy_bytes;
    size_t bytes = write_set_bytes(set) + more;
    ASSERT(limit > 0);
    if (bytes <= limit) {
        return ERR_OK;
    }
    err_t err = err_sql(ERR_LIMIT, "54000",
                        "a transaction may write at most %zu bytes, this one has reached %zu",
                        limit, bytes);
    return err_hint(err, "Write in several transactions (COPY the data in parts), or start "
                         "environmentd with a larger --max-write-bytes.");
}

/* Safe on a zeroed one. */
void write_set_clear(struct write_set *set)
{
    for (size_t i = 0; i < set->tables_len; i++) {
        batch_builder_free(set->tables[i].rows);
    }
    free(set->tables);
    memset(set, 0, sizeof(*set));
}

/* Moves everything of from into set; from is empty afterwards. */
static void set_merge(struct write_set *set, struct write_set *from)
{
    ASSERT(set != from);
    for (size_t i = 0; i < from->tables_len; i++) {
        struct write_table *mine = NULL;
        for (size_t j = 0; j < set->tables_len && mine == NULL; j++) {
            mine = set->tables[j].id == from->tables[i].id ? &set->tables[j] : NULL;
        }
        if (mine == NULL) {
            *VEC_PUSH(set, tables) = from->tables[i];
            from->tables[i].rows = NULL;
            continue;
        }
        struct batch_col cols[BATCH_COLS_MAX];
        struct batch view;
        size_t size = 0;
        void *bytes = batch_builder_finish_new(from->tables[i].rows, &size);
        batch_view(bytes, size, cols, BATCH_COLS_MAX, &view);
        batch_builder_rows_of(mine->rows, &view, NULL, 0);
        free(bytes);
        batch_builder_free(from->tables[i].rows);
        from->tables[i].rows = NULL;
    }
    free(from->tables);
    memset(from, 0, sizeof(*from));
}

/* ---- the queue ------------------------------------------------------------------------------- */

/* From the loop and not from here: the caller may be about to queue more, which then share the
 * append. */
static void pump_soon(struct writer *w)
{
    io_timer_start(w->coord->loop, &w->pump, io_now_us(w->coord->loop));
}

/* At the tail: writes become durable in the order they were asked for. */
static void enqueue(struct writer *w, struct write_job *job)
{
    ASSERT(job->state == WRITE_IDLE && (job->locks || job->done != NULL));
    job->state = WRITE_QUEUED;
    job->next = NULL;
    *w->tail = job;
    w->tail = &job->next;
    pump_soon(w);
}

/* The tail is a pointer to the last next, so an empty queue's tail is the head itself. */
static struct write_job *dequeue(struct writer *w)
{
    struct write_job *job = w->head;
    ASSERT(job != NULL && job->state == WRITE_QUEUED);
    w->head = job->next;
    if (w->head == NULL) {
        w->tail = &w->head;
    }
    job->next = NULL;
    return job;
}

/* Lists are short: one entry a session that writes at this moment. */
static bool remove_from(struct write_job **list, struct write_job *job)
{
    for (struct write_job **p = list; *p != NULL; p = &(*p)->next) {
        if (*p == job) {
            *p = job->next;
            return true;
        }
    }
    return false;
}

static void append_group(struct writer *w);

/* Everybody whose rows were in the append gets a copy of its outcome. Takes err. */
static void tell(struct writer *w, err_t err)
{
    struct write_job *list = w->flying;
    ASSERT(!w->in_flight);
    w->flying = NULL;
    while (list != NULL) {
        struct write_job *job = list;
        list = job->next;
        ASSERT(job->state == WRITE_FLYING);
        job->next = NULL;
        job->state = WRITE_IDLE;
        if (w->holder == job) {
            w->holder = NULL;
        }
        w->flying = list; /* done may abandon another of them, which unlinks it there */
        job->done(job, err_copy(err));
        list = w->flying;
    }
    err_free(err);
}

/* Acknowledged to clients only once the oracle knows the time: their next read must see it. */
static void group_done(struct writer *w, err_t err)
{
    struct coord *coord = w->coord;
    uint64_t rows = 0;
    ASSERT(w->in_flight);
    for (size_t i = 0; i < w->group.tables_len; i++) {
        rows += batch_builder_rows(w->group.tables[i].rows);
    }
    write_set_clear(&w->group);
    w->in_flight = false;
    if (err == ERR_OK) {
        err = oracle_observe(coord->oracle, w->time);
    }
    if (err == ERR_OK && coord->commits != NULL) {
        metric_add(coord->commits, 1);
        metric_add(coord->rows_written, rows);
    }
    tell(w, err);
    pump_soon(w);
}

/* ERR_FENCED is storaged's "too early". Anything else is final for this group. */
static void on_appended(void *arg, err_t err)
{
    struct writer *w = arg;
    ASSERT(w->in_flight);
    if (err == ERR_OK || err_code(err) != ERR_FENCED || ++w->attempts >= WRITE_ATTEMPTS) {
        group_done(w, err);
        return;
    }
    /* A table is already complete beyond this time (it was advanced before a restart): later. */
    err_free(err);
    for (size_t i = 0; i < w->group.tables_len; i++) {
        uint64_t since = 0;
        uint64_t upper = 0;
        if (controller_collection_frontiers(w->coord->controller, w->group.tables[i].id, &since,
                                            &upper) && upper < TIME_MAX / 2) {
            err_t ahead = oracle_observe(w->coord->oracle, upper);
            if (ahead != ERR_OK) {
                group_done(w, ahead);
                return;
            }
        }
    }
    append_group(w);
}

/* Hands w->group to the controller at a new time. */
static void append_group(struct writer *w)
{
    ASSERT(w->in_flight && w->group.tables_len > 0);
    coord_busy(w->coord);
    err_t err = oracle_write_time(w->coord->oracle, &w->time);
    if (err != ERR_OK) {
        group_done(w, err);
        return;
    }
    size_t n = w->group.tables_len;
    struct storage_write *writes = mem_zalloc(n * sizeof(*writes));
    struct batch *views = mem_zalloc(n * sizeof(*views));
    struct batch_col *cols = mem_alloc(n * BATCH_COLS_MAX * sizeof(*cols));
    void **bytes = mem_zalloc(n * sizeof(*bytes));
    for (size_t i = 0; i < n; i++) {
        size_t size = 0;
        bytes[i] = batch_builder_finish_new(w->group.tables[i].rows, &size);
        batch_view(bytes[i], size, cols + i * BATCH_COLS_MAX, BATCH_COLS_MAX, &views[i]);
        writes[i] = (struct storage_write){.id = w->group.tables[i].id, .batch = &views[i]};
    }
    controller_append(w->coord->controller, w->time, writes, n, on_appended, w);
    for (size_t i = 0; i < n; i++) {
        free(bytes[i]);
    }
    free(bytes);
    free(cols);
    free(views);
    free(writes);
}

/* The job's rows join the group; the job waits in flying for its outcome. */
static void fly(struct writer *w, struct write_job *job)
{
    ASSERT(job->state == WRITE_QUEUED || job->state == WRITE_GRANTED);
    set_merge(&w->group, &job->set);
    job->state = WRITE_FLYING;
    job->next = w->flying;
    w->flying = job;
}

/* The one place that decides what happens next. A holder, or an append under way, comes back here
 * when it is done. */
static void on_pump(struct io_timer *timer)
{
    struct writer *w = CONTAINER_OF(timer, struct writer, pump);
    if (w->in_flight || w->holder != NULL || w->head == NULL) {
        return;
    }
    if (w->head->locks) {
        struct write_job *job = dequeue(w);
        w->holder = job;
        job->state = WRITE_GRANTED;
        job->granted(job);
        return;
    }
    /* A large one flies alone: were it refused, nobody else's write would be. */
    size_t bytes = 0;
    while (w->head != NULL && !w->head->locks) {
        bytes += write_set_bytes(&w->head->set);
        if (w->flying != NULL && bytes > WRITE_GROUP_BYTES) {
            break;
        }
        fly(w, dequeue(w));
    }
    ASSERT(w->flying != NULL);
    w->in_flight = true;
    w->attempts = 0;
    append_group(w);
}

/* The job's set is taken; job->done is called once, from the loop, unless it is abandoned. */
void write_submit(struct coord *coord, struct write_job *job)
{
    struct writer *w = &coord->writer;
    ASSERT(!write_set_empty(&job->set));
    if (job->state != WRITE_GRANTED) {
        ASSERT(job->state == WRITE_IDLE);
        job->locks = false;
        enqueue(w, job);
        return;
    }
    ASSERT(w->holder == job && !w->in_flight);
    fly(w, job);
    w->in_flight = true;
    w->attempts = 0;
    append_group(w);
}

/* The set must be empty: it is filled while the lock is held. */
void write_lock(struct coord *coord, struct write_job *job)
{
    ASSERT(job->granted != NULL);
    ASSERT(job->state == WRITE_IDLE && write_set_empty(&job->set));
    job->locks = true;
    enqueue(&coord->writer, job);
}

/* Nothing was to be written after all, or the statement failed. */
void write_release(struct coord *coord, struct write_job *job)
{
    ASSERT(job->state == WRITE_GRANTED && coord->writer.holder == job);
    coord->writer.holder = NULL;
    job->state = WRITE_IDLE;
    write_set_clear(&job->set);
    pump_soon(&coord->writer);
}

/* Every job that locks is a session's. */
const struct session *write_holder(const struct coord *coord)
{
    const struct write_job *job = coord->writer.holder;
    return job != NULL ? CONTAINER_OF(job, struct session, job) : NULL;
}

/* Leaves the queue consistent in each state. Jobs behind a lock that goes are pumped. */
void write_abandon(struct coord *coord, struct write_job *job)
{
    struct writer *w = &coord->writer;
    switch (job->state) {
    case WRITE_IDLE: break;
    case WRITE_QUEUED:
        remove_from(&w->head, job);
        w->tail = &w->head;
        while (*w->tail != NULL) {
            w->tail = &(*w->tail)->next;
        }
        break;
    case WRITE_GRANTED: write_release(coord, job); break;
    case WRITE_FLYING: {
        bool was = remove_from(&w->flying, job);
        ASSERT(was);
        if (w->holder == job) {
            w->holder = NULL; /* in_flight keeps the others out until it is applied */
        }
        break;
    }
    }
    job->state = WRITE_IDLE;
    job->next = NULL;
    write_set_clear(&job->set);
}

/* Zeroed is idle. */
void writer_init(struct writer *w, struct coord *coord)
{
    ASSERT(coord->loop != NULL);
    memset(w, 0, sizeof(*w));
    w->coord = coord;
    w->tail = &w->head;
    w->pump.fire = on_pump;
}

/* Sessions are gone, and with them their jobs; what still flies is the controller's to finish. */
void writer_free(struct writer *w)
{
    ASSERT(w->head == NULL && w->holder == NULL && w->flying == NULL);
    io_timer_cancel(w->coord->loop, &w->pump);
    write_set_clear(&w->group);
}
