/*
 * Queries: which time they read at, and how their rows are got.
 *
 * The time. A read that begins now must see every write acknowledged before (the oracle's read
 * time R covers them) and must not go back behind an earlier read (R again). Beyond that the
 * freshest answer that needs no waiting is best: the greatest time complete in all inputs, that is
 * min(upper) - 1. So time = max(R, min(upper) - 1), never below what the inputs can still be read
 * at. The oracle then observes the time: R moves up to it before the answer leaves.
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

enum { READ_ATTEMPTS = 5 };

/* The rowset finishes what the workers cannot: order, limit and offset over all of them. */
struct read *read_new(struct coord *coord, struct sql_query *query, read_done_fn done, void *arg)
{
    ASSERT(query != NULL && done != NULL);
    struct read *r = MEM_NEW(struct read);
    r->coord = coord;
    r->query = query;
    r->done = done;
    r->arg = arg;
    const struct rowset_spec spec = {
        .types = query->types,
        .types_len = query->types_len,
        .order = query->order,
        .order_len = query->order_len,
        .limit = query->limit,
        .offset = query->offset,
        .project = query->project,
        .project_len = query->project_len,
        .max_bytes = coord->config.max_result_bytes,
    };
    r->rows = rowset_new(&spec);
    return r;
}

/* Constants are here already, catalog tables are read in this process. */
bool read_needs_cluster(const struct sql_query *query)
{
    return query->kind != SQL_QUERY_CONSTANT && !query->catalog_only;
}

static bool contains(const uint64_t *all, uint32_t all_len, const uint64_t *some, uint32_t some_len)
{
    bool contained = true;
    for (uint32_t i = 0; i < some_len && contained; i++) {
        contained = false;
        for (uint32_t j = 0; j < all_len; j++) {
            contained = contained || all[j] == some[i];
        }
    }
    return contained;
}

bool read_needs_no_more(const struct sql_query *a, const struct sql_query *b)
{
    return contains(b->collections, b->collections_len, a->collections, a->collections_len) &&
           contains(b->indexes, b->indexes_len, a->indexes, a->indexes_len);
}

/* Takes the frontiers of one input into account. */
static void meet(uint64_t since, uint64_t upper, uint64_t *min_upper, uint64_t *max_since)
{
    *min_upper = upper < *min_upper ? upper : *min_upper;
    *max_since = since > *max_since ? since : *max_since;
}

/* A failed dataflow is told instead of waited for: its frontier will never move. */
static err_t gather_frontiers(struct coord *coord, const struct sql_query *query, uint64_t cluster,
                              uint64_t *min_upper, uint64_t *max_since)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    ASSERT(coord->controller != NULL);
    for (uint32_t i = 0; i < query->collections_len; i++) {
        uint64_t id = query->collections[i];
        if (!controller_collection_frontiers(coord->controller, id, &since, &upper)) {
            return err_new(ERR_INTERNAL, "collection u%llu is not known to the storage controller",
                           (unsigned long long)id);
        }
        meet(since, upper, min_upper, max_since);
    }
    for (uint32_t i = 0; i < query->indexes_len; i++) {
        uint64_t id = query->indexes[i];
        const char *failure = u64map_get(&coord->failures, id);
        if (failure != NULL) {
            return err_sql(ERR_UNAVAILABLE, "57P03", "the dataflow of u%llu has failed: %s",
                           (unsigned long long)id, failure);
        }
        if (!controller_index_frontiers(coord->controller, cluster, id, &since, &upper)) {
            return err_new(ERR_INTERNAL, "index u%llu is not known to the compute controller",
                           (unsigned long long)id);
        }
        meet(since, upper, min_upper, max_since);
    }
    return ERR_OK;
}

/* upper 0 is "nothing reported yet"; a frontier once reported never goes back to it. A source is
 * known when what its files held at first is published: a read before would see part of it. */
bool read_inputs_known(struct coord *coord, const struct sql_query *query, uint64_t cluster)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    ASSERT(coord->controller != NULL);
    for (uint32_t i = 0; i < query->collections_len; i++) {
        uint64_t id = query->collections[i];
        if (controller_collection_frontiers(coord->controller, id, &since, &upper) &&
            (upper == 0 || controller_collection_ready(coord->controller, id) == 0)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < query->indexes_len; i++) {
        uint64_t id = query->indexes[i];
        bool failed = u64map_get(&coord->failures, id) != NULL;
        if (!failed && controller_index_frontiers(coord->controller, cluster, id, &since, &upper) &&
            upper == 0) {
            return false;
        }
    }
    return true;
}

/* The answer is another one when only the time is. */
static bool depends_on_now(struct coord *coord, const struct sql_query *query)
{
    bool depends = query->needs_now;
    for (uint32_t i = 0; i < query->indexes_len; i++) {
        depends = depends || u64map_get(&coord->temporal, query->indexes[i]) != NULL;
    }
    return depends;
}

/* AS OF is taken at its word when history reaches back to it, and may lie in the future: the read
 * then waits. Otherwise see the head of this file. */
err_t read_choose_time(struct coord *coord, const struct sql_query *query, uint64_t cluster,
                       uint64_t *time)
{
    ASSERT(query != NULL && time != NULL);
    uint64_t min_upper = FRONTIER_EMPTY;
    uint64_t max_since = 0;
    uint64_t t = oracle_read_time(coord->oracle);
    coord_busy(coord);
    TRY(gather_frontiers(coord, query, cluster, &min_upper, &max_since));
    if (query->has_as_of) {
        if (query->as_of < max_since) {
            return err_sql(ERR_INVALID, "22023",
                           "AS OF %llu is no longer readable: history begins at %llu",
                           (unsigned long long)query->as_of, (unsigned long long)max_since);
        }
        *time = query->as_of;
        return ERR_OK;
    }
    if (min_upper != FRONTIER_EMPTY && min_upper > t + 1) {
        t = min_upper - 1;
    }
    if (max_since != FRONTIER_EMPTY && max_since > t) {
        t = max_since;
    }
    if (min_upper == FRONTIER_EMPTY && depends_on_now(coord, query)) {
        uint64_t now = io_now_us(coord->loop);
        t = now > t ? now : t;
    } else if (min_upper == FRONTIER_EMPTY && query->collections_len + query->indexes_len > 0) {
        /* All inputs are complete, whatever their times: the end sees everything, and no later
         * write can come between. The oracle does not follow there. */
        *time = TIME_MAX - 1;
        return ERR_OK;
    }
    *time = t > 0 ? t : 1;
    return oracle_observe(coord->oracle, *time);
}

/* The engine knows nothing of how a query is written. */
static err_t with_hint(err_t err)
{
    if (err != ERR_OK && strcmp(err_sqlstate(err), "54000") == 0 &&
        strncmp(err_message(err), "a recursive query did not end",
                strlen("a recursive query did not end")) == 0) {
        return err_hint(err, "Does it give rows that are new for ever? UNION or DISTINCT end a "
                             "recursion that comes to rows it had. Another limit is set by WITH "
                             "MUTUALLY RECURSIVE (RETURN AT RECURSION LIMIT n).");
    }
    return err;
}

void read_finish(struct read *r, err_t err)
{
    ASSERT(r->peek == 0 && !r->local);
    err = with_hint(err);
    if (err == ERR_OK) {
        err = rowset_finish(r->rows);
    }
    r->done(r->arg, err); /* may free r */
}

/* The dataflow has given its answer, or nobody wants it any more. */
static void drop_transient(struct read *r)
{
    if (r->transient != 0 && r->coord->controller != NULL) {
        controller_export_drop(r->coord->controller, r->cluster, r->transient);
        r->transient = 0;
    }
}

/* fast: straight from an existing index, with the query's filter and projection pushed to the
 * workers; else the export of a dataflow that has done all that. */
static void start_peek(struct read *r, uint64_t index, bool fast);

/*
 * After a restart of environmentd an index that was kept may only be readable from later on than
 * was known when the time was chosen. Then another time is as good, unless it was fixed.
 */
static bool peek_again(struct read *r, const struct err *err)
{
    if (err == NULL || err_code(err) != ERR_UNAVAILABLE || !r->retimable ||
        r->query->kind != SQL_QUERY_PEEK || ++r->attempts > READ_ATTEMPTS) {
        return false;
    }
    uint64_t time = 0;
    err_t again = read_choose_time(r->coord, r->query, r->cluster, &time);
    if (again != ERR_OK) {
        err_free(again); /* the first error is the one to tell */
        return false;
    }
    r->time = time > r->time ? time : r->time;
    start_peek(r, r->query->peek.index_id, true);
    return true;
}

/* rows are views that end with this call; the rowset copies. */
static void on_peek(void *arg, const struct batch *const *rows, size_t rows_len, err_t err)
{
    struct read *r = arg;
    ASSERT(r->peek != 0 && (err == ERR_OK || rows_len == 0));
    r->peek = 0;
    if (peek_again(r, err)) {
        err_free(err);
        return;
    }
    for (size_t i = 0; i < rows_len && err == ERR_OK; i++) {
        err = rowset_add_batch(r->rows, rows[i]);
    }
    if (!r->keeps || err != ERR_OK) {
        drop_transient(r);
    }
    read_finish(r, err);
}

/* SELECT 1, VALUES: the planner has computed them. */
static err_t constant_rows(struct read *r)
{
    const struct sql_query *q = r->query;
    ASSERT(r->query->kind == SQL_QUERY_CONSTANT);
    for (uint32_t i = 0; i < q->constant.rows_len; i++) {
        TRY(rowset_add_row(r->rows, q->constant.rows + (size_t)i * q->types_len));
    }
    return ERR_OK;
}

/* Literal keys of a fast-path peek as a batch; NULL when the whole index is read. */
static void *key_batch(const struct sql_query *q, struct batch_col *cols, struct batch *out)
{
    ASSERT(q->kind == SQL_QUERY_PEEK);
    if (q->peek.keys == NULL) {
        return NULL;
    }
    uint8_t kinds[BATCH_COLS_MAX];
    ASSERT(q->peek.key_cols <= BATCH_COLS_MAX);
    for (uint32_t i = 0; i < q->peek.key_cols; i++) {
        kinds[i] = q->peek.key_types[i].kind;
    }
    struct batch_builder *b = batch_builder_new(kinds, q->peek.key_cols);
    for (uint32_t row = 0; row < q->peek.keys_len; row++) {
        for (uint32_t i = 0; i < q->peek.key_cols; i++) {
            batch_builder_datum(b, i, &q->peek.keys[(size_t)row * q->peek.key_cols + i]);
        }
        batch_builder_end_row(b, 0, 1);
    }
    size_t size = 0;
    void *bytes = batch_builder_finish_new(b, &size);
    batch_builder_free(b);
    batch_view(bytes, size, cols, q->peek.key_cols, out);
    return bytes;
}

/* How many rows of each worker can matter: what LIMIT and OFFSET take together. -1: no limit. With
 * an order each worker gives its first rows, and the rowset picks among them. */
static int64_t peek_limit(const struct sql_query *q)
{
    int64_t offset = q->offset > 0 ? q->offset : 0;
    return q->limit < 0 || q->limit > INT64_MAX - offset ? -1 : q->limit + offset;
}

static void start_peek(struct read *r, uint64_t index, bool fast)
{
    ASSERT(r->peek == 0 && index != 0);
    const struct sql_query *q = r->query;
    struct batch keys;
    struct batch_col cols[BATCH_COLS_MAX];
    void *key_bytes = fast ? key_batch(q, cols, &keys) : NULL;
    const struct controller_peek peek = {
        .cluster = r->cluster,
        .index = index,
        .time = r->time,
        .keys = key_bytes != NULL ? &keys : NULL,
        .mfp = fast ? &q->peek.mfp : NULL,
        .order = q->order,
        .order_len = q->order_len,
        .limit = peek_limit(q),
    };
    r->peek = controller_peek(r->coord->controller, &peek, on_peek, r);
    ASSERT(r->peek != 0);
    free(key_bytes);
}

/* A dataflow for one answer: it reads at one time and is dropped with the answer. */
static err_t start_dataflow(struct read *r)
{
    struct coord *coord = r->coord;
    struct plan *plan = r->query->plan;
    ASSERT(r->transient == 0);
    ASSERT(plan != NULL && plan->exports_len == 1);
    uint64_t id = coord_transient_id(coord);
    plan->id = id;
    plan->as_of = r->time;
    plan->exports[0].id = id;
    plan->exports[0].until = FRONTIER_EMPTY;
    r->query->plan = NULL; /* the controller takes it */
    TRY(controller_dataflow_create(coord->controller, r->cluster, plan));
    r->transient = id;
    start_peek(r, id, false);
    return ERR_OK;
}

/* time is not used by constants and catalog tables. */
void read_start(struct read *r, uint64_t cluster, uint64_t time)
{
    ASSERT(r->peek == 0 && !r->local);
    r->cluster = cluster;
    r->time = time;
    err_t err = ERR_OK;
    if (r->query->kind == SQL_QUERY_CONSTANT) {
        read_finish(r, constant_rows(r));
        return;
    }
    if (r->query->catalog_only) {
        local_start(&r->coord->local, r);
        return;
    }
    ASSERT(r->coord->controller != NULL && time > 0);
    if (r->query->kind == SQL_QUERY_PEEK) {
        start_peek(r, r->query->peek.index_id, true);
    } else {
        err = start_dataflow(r);
    }
    if (err != ERR_OK) {
        read_finish(r, err);
    }
}

/* At any moment: before, during or after. */
void read_free(struct read *r)
{
    if (r == NULL) {
        return;
    }
    if (r->peek != 0) {
        controller_peek_cancel(r->coord->controller, r->peek);
    }
    if (r->local) {
        local_cancel(&r->coord->local, r);
    }
    drop_transient(r);
    rowset_free(r->rows);
    if (!r->borrowed) {
        sql_query_free(r->query);
    }
    free(r);
}
