/*
 * The engine inside environmentd: plans that read no collection (catalog tables, VALUES, series)
 * run here, in steps on the loop, so that they need no cluster. One worker, time 1.
 *
 * A query is a dataflow with one export, made complete at once (its inputs are constants), peeked
 * and dropped. The same operators as in computed run it, so there is one implementation of SQL's
 * semantics. The poller steps the engine while a query is under way and lets the loop sleep when
 * none is. Callbacks of the engine only note that a query is finished: the engine is on the stack
 * then; deliver() calls the readers once it has returned.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

enum { LOCAL_TIME = 1 };

static void on_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    UNREACHABLE(); /* one worker: there is nobody to send to */
}

/* Nobody waits for frontiers here: the peek answers when it can. */
static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    ASSERT(ctx != NULL);
}

static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    UNREACHABLE(); /* no such export is created here */
}

/* Only noted: the engine is on the stack, and must not be called from here. Takes err. The list is
 * delivered by on_poll. */
static void finished(struct local *local, struct read *r, err_t err)
{
    ASSERT(!r->borrowed || r->query != NULL);
    r->local_err = err;
    r->local_next = local->finished;
    local->finished = r;
}

/* rows is the engine's, valid during the call. */
static void on_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    ASSERT(rows == NULL || err == ERR_OK);
    struct local *local = ctx;
    struct read *r = u64map_remove(&local->reads, peek_id);
    if (r == NULL) {
        err_free(err); /* cancelled meanwhile */
        return;
    }
    if (err == ERR_OK && rows != NULL) {
        err = rowset_add_batch(r->rows, rows);
    }
    finished(local, r, err);
}

/* What does not fit is the answer then: the reader is told in the end. */
static void on_peek_rows(void *ctx, uint64_t peek_id, const struct batch *rows)
{
    struct local *local = ctx;
    struct read *r = u64map_get(&local->reads, peek_id);
    err_t err = r != NULL ? rowset_add_batch(r->rows, rows) : ERR_OK;
    if (err != ERR_OK) {
        u64map_remove(&local->reads, peek_id);
        finished(local, r, err);
    }
}

/* Not an error of a row (those come with the peek) but of the dataflow. */
static void on_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    struct local *local = ctx;
    struct read *r = u64map_remove(&local->reads, dataflow_id);
    if (r == NULL) {
        err_free(err);
        return;
    }
    finished(local, r, err);
}

static const struct engine_host host = {
    .send = on_send,
    .frontier = on_frontier,
    .subscribe = on_subscribe,
    .peek_rows = on_peek_rows,
    .peek_done = on_peek_done,
    .failed = on_failed,
};

/* True when there was any. done may start another read, which joins the list or the map. */
static bool deliver(struct local *local)
{
    bool any = local->finished != NULL;
    ASSERT(local->engine != NULL);
    while (local->finished != NULL) {
        struct read *r = local->finished;
        err_t err = r->local_err;
        local->finished = r->local_next;
        engine_drop(local->engine, r->transient);
        r->transient = 0;
        r->local = false;
        r->local_err = ERR_OK;
        read_finish(r, err); /* may free r, and start others */
    }
    return any;
}

/* True: call again without sleeping. */
static bool on_poll(struct io_poller *poller)
{
    struct local *local = CONTAINER_OF(poller, struct local, poller);
    bool more = engine_step(local->engine);
    return deliver(local) || more;
}

/* Before the loop sleeps: true keeps it awake. */
static bool on_arm(struct io_poller *poller)
{
    struct local *local = CONTAINER_OF(poller, struct local, poller);
    return local->finished != NULL || local->reads.len > 0;
}

/* The memory limit guards against a catalog query gone wild: it ends in an error, not the
 * process. */
void local_init(struct local *local, struct coord *coord)
{
    ASSERT(coord->loop != NULL);
    memset(local, 0, sizeof(*local));
    local->coord = coord;
    local->next_id = 1;
    const struct engine_config config = {
        .workers = 1,
        .loop = coord->loop,
        .host = &host,
        .ctx = local,
        .memory_limit = 4ULL * 1024 * 1024 * 1024,
    };
    local->engine = engine_new(&config);
    local->poller.poll = on_poll;
    local->poller.arm = on_arm;
    io_poller_add(coord->loop, &local->poller);
}

/* Reads are gone: sessions end before the coordinator. */
void local_free(struct local *local)
{
    ASSERT(local->reads.len == 0 && local->finished == NULL);
    io_poller_remove(local->coord->loop, &local->poller);
    engine_free(local->engine);
    u64map_free(&local->reads);
}

/* Takes the query's plan. Peek and dataflow share an id: each is used once. */
void local_start(struct local *local, struct read *r)
{
    struct plan *plan = r->query->plan;
    ASSERT(plan != NULL && plan->exports_len == 1 && !r->local);
    uint64_t id = local->next_id++;
    plan->id = id;
    plan->as_of = LOCAL_TIME;
    plan->exports[0].id = id;
    plan->exports[0].until = FRONTIER_EMPTY;
    r->query->plan = NULL; /* the engine takes it */
    err_t err = engine_create(local->engine, plan, NULL, 0);
    if (err != ERR_OK) {
        r->done(r->arg, err);
        return;
    }
    r->local = true;
    r->transient = id;
    u64map_put(&local->reads, id, r);
    const struct engine_peek peek = {
        .peek_id = id, .index_id = id, .time = LOCAL_TIME, .limit = -1};
    engine_peek(local->engine, &peek);
}

/* Whether it still runs or is finished and waits to be delivered. */
void local_cancel(struct local *local, struct read *r)
{
    ASSERT(r->local);
    struct read **p = &local->finished;
    while (*p != NULL && *p != r) {
        p = &(*p)->local_next;
    }
    if (*p == r) {
        *p = r->local_next;
    }
    u64map_remove(&local->reads, r->transient);
    err_free(r->local_err);
    engine_drop(local->engine, r->transient);
    r->transient = 0;
    r->local = false;
}
