/*
 * The coordinator: start, ticks, compaction, and what the controllers report.
 *
 * The catalog says what there is; the controllers are told. At start everything is created again in
 * order of id, which is an order of dependence, and then controller_initialized lets the runtimes
 * drop what was not named. A dataflow is planned anew from its SQL each time: plans are not stored,
 * since they are a function of the catalog below the item's id (visible_below) and of the planner.
 * A runtime that still runs the same plan keeps it; after an upgrade with a better planner it is
 * replaced, which costs a rehydration and no correctness.
 *
 * Three things happen by the clock:
 *     each tick   tables are declared complete up to now, so that views over them move and reads
 *                 need not wait. One message, whatever the number of tables and views.
 *     each second history behind the compaction window is given up. Holds (transactions, dataflows
 *                 that hydrate) keep what they need: the controllers see to that.
 *     on demand   controllers report statuses and failures, which are kept for SQL to show.
 *
 * One loop; the struct is owned by environmentd. Sessions are owned by their connections and only
 * linked here.
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/adapter/coord/coord_internal.h"

enum {
    COORD_TICK_US = 5 * 1000,
    COORD_IDLE_TICK_US = 100 * 1000, /* when nobody reads or writes */
    COORD_BUSY_US = 200 * 1000,      /* so long after the last statement that did */
    COORD_WINDOW_US = 1000 * 1000,
    COORD_COMPACTION_US = 1000 * 1000,
};

/* ---- objects at the controllers -------------------------------------------------------------- */

uint64_t coord_transient_id(struct coord *coord)
{
    /* Unique over restarts: a running computed may still know those of an earlier epoch. */
    uint64_t epoch = catalog_epoch(coord->catalog) & 0x7fffff; /* 23 bits between the flag and n */
    uint64_t n = ++coord->next_transient;
    ASSERT(n < 1ULL << 40);
    return PLAN_ID_TRANSIENT | epoch << 40 | n;
}

/* The names SHOW and CREATE CLUSTER use. */
const struct coord_size *coord_size_of(const struct coord *coord, const char *name)
{
    ASSERT(name != NULL);
    for (size_t i = 0; i < coord->sizes_len; i++) {
        if (strcmp(coord->sizes[i].name, name) == 0) {
            return &coord->sizes[i];
        }
    }
    return NULL;
}

/* Starting the processes is the controller's and the orchestrator's business, in the background. */
err_t coord_create_cluster(struct coord *coord, const struct catalog_cluster *cluster)
{
    const struct controller_cluster_spec spec = {.id = cluster->id,
                                                 .name = cluster->name,
                                                 .scale = cluster->scale,
                                                 .workers = cluster->workers,
                                                 .replicas = cluster->replicas};
    ASSERT(cluster->id != 0 && coord->controller != NULL);
    return controller_cluster_create(coord->controller, &spec);
}

/* What storaged needs to know of a table or a file source. */
static err_t create_collection(struct coord *coord, const struct catalog_item *item)
{
    struct storage_collection c = {.id = item->id,
                                   .kind = STORAGE_TABLE,
                                   .types = item->columns.types,
                                   .names = (const char *const *)item->columns.names,
                                   .cols = item->columns.cols};
    ASSERT(item->columns.cols > 0);
    if (item->kind == CATALOG_SOURCE) {
        c.kind = STORAGE_FILE;
        c.path = item->source.path;
        c.format = item->source.format == SQL_FORMAT_CSV ? STORAGE_CSV : STORAGE_JSON_LINES;
        c.tail = item->source.tail;
        c.csv_header = item->source.header;
        c.csv_delimiter = item->source.delimiter;
        c.csv_quote = '"';
    }
    return controller_collection_create(coord->controller, &c);
}

/* Does it filter by the time, or read what does? */
static bool is_temporal(struct coord *coord, const struct plan *plan)
{
    bool temporal = false;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        temporal = temporal || node->op == PLAN_TEMPORAL ||
                   (node->op == PLAN_INDEX &&
                    u64map_get(&coord->temporal, node->import.id) != NULL);
    }
    return temporal;
}

/* A materialized view or an index: one dataflow that keeps one arrangement. */
static err_t create_dataflow(struct coord *coord, const struct catalog_item *item)
{
    struct session *s = coord->system;
    const struct catalog_item *of = item->kind == CATALOG_INDEX
                                        ? catalog_item_id(coord->catalog, item->on)
                                        : item;
    const struct catalog_cluster *k = catalog_cluster_id(coord->catalog, item->cluster);
    struct arena arena = {0};
    struct sql_context cx;
    struct sql_relation *rel = NULL;
    struct sql_query *query = NULL;
    ASSERT(item->cluster != 0);
    ASSERT(of != NULL);
    if (k == NULL) {
        return err_new(ERR_CORRUPT, "cluster %llu of %s is not in the catalog",
                       (unsigned long long)item->cluster, item->name);
    }
    TRY(vars_set(s, "cluster", k->name, false));
    s->visible_below = item->id; /* as it was when it was created: same plan, same dataflow */
    names_context(s, &cx);
    names_relation(s, of, &arena, &rel);
    if (of == item) {
        rel->indexes_len = 0; /* it must not read itself */
    }
    err_t err = sql_plan_view(&cx, item->definition, rel, item->keys, item->keys_len, &query);
    s->visible_below = 0;
    arena_free(&arena);
    TRY(err);
    struct plan *plan = query->plan;
    ASSERT(plan != NULL && plan->exports_len == 1);
    query->plan = NULL;
    sql_query_free(query);
    if (is_temporal(coord, plan)) {
        u64map_put(&coord->temporal, item->id, coord);
    }
    plan->id = item->id;
    plan->name = arena_strdup(&plan->arena, item->name);
    plan->memory_limit = item->memory_limit;
    plan->as_of = 0; /* the controller knows what can be read */
    plan->exports[0].id = item->id;
    plan->exports[0].until = FRONTIER_EMPTY;
    return controller_dataflow_create(coord->controller, item->cluster, plan);
}

err_t coord_create_item(struct coord *coord, const struct catalog_item *item)
{
    ASSERT(coord->controller != NULL);
    switch (item->kind) {
    case CATALOG_TABLE:
    case CATALOG_SOURCE: return create_collection(coord, item);
    case CATALOG_VIEW: return ERR_OK;
    case CATALOG_MATERIALIZED_VIEW:
    case CATALOG_INDEX: return create_dataflow(coord, item);
    }
    UNREACHABLE();
}

/* NULL: nothing had been reported. */
static void status_free(struct collection_status *st)
{
    if (st != NULL) {
        free(st->reason);
        free(st->hint);
        free(st);
    }
}

/* item may be a copy with just id, kind and cluster: the catalog's is gone by then. */
void coord_drop_item(struct coord *coord, const struct catalog_item *item)
{
    ASSERT(item->id != 0 && coord->controller != NULL);
    switch (item->kind) {
    case CATALOG_TABLE:
    case CATALOG_SOURCE:
        controller_collection_drop(coord->controller, item->id);
        status_free(u64map_remove(&coord->statuses, item->id));
        break;
    case CATALOG_VIEW: break;
    case CATALOG_MATERIALIZED_VIEW:
    case CATALOG_INDEX:
        controller_export_drop(coord->controller, item->cluster, item->id);
        free(u64map_remove(&coord->failures, item->id));
        u64map_remove(&coord->temporal, item->id);
        break;
    }
}

/* ---- ticks ----------------------------------------------------------------------------------- */

/* How long after a tick the next one comes, if nobody asks for it before. */
static uint64_t pace_of(const struct coord *coord, bool busy)
{
    uint64_t pace = coord->config.tick_us;
    return !busy && pace < COORD_IDLE_TICK_US ? COORD_IDLE_TICK_US : pace;
}

/*
 * Tables are complete up to the clock whether or not anybody writes: readers need not wait. Each
 * tick travels through storage to the replicas and back, which an idle environment should not pay
 * 200 times a second. Nothing waits for a tick there: an append completes its own time, a read
 * takes the time its inputs are complete at, and one that must go beyond makes the environment busy
 * (coord_busy) before it waits.
 */
static void on_tick(struct io_timer *timer)
{
    struct coord *coord = CONTAINER_OF(timer, struct coord, tick);
    ASSERT(coord->started);
    uint64_t now = io_now_us(coord->loop);
    coord->ticked_us = now;
    if (catalog_count(coord->catalog, CATALOG_TABLE) > 0) {
        controller_advance_tables(coord->controller, oracle_close_time(coord->oracle));
    }
    coord->next_tick_us = now + pace_of(coord, now < coord->busy_until_us);
    io_timer_start(coord->loop, timer, coord->next_tick_us);
}

/* Whoever says so may wait for a tick: the next one comes as soon as ticks may. */
void coord_busy(struct coord *coord)
{
    uint64_t now = io_now_us(coord->loop);
    coord->busy_until_us = now + COORD_BUSY_US;
    if (!coord->started) {
        return;
    }
    controller_wake(coord->controller); /* quiet sources advance closely, too */
    uint64_t next = coord->ticked_us + coord->config.tick_us;
    next = next > now ? next : now;
    if (next < coord->next_tick_us) {
        coord->next_tick_us = next;
        io_timer_start(coord->loop, &coord->tick, next);
    }
}

/* upper - 1 is the last complete time; a read at it, and for the window before it, stays
 * possible. */
static void compact(void *arg, uint64_t cluster, uint64_t id, uint64_t since, uint64_t upper)
{
    struct coord *coord = arg;
    uint64_t window = coord->config.compaction_window_us;
    ASSERT(id != 0);
    if (upper == FRONTIER_EMPTY) {
        return; /* complete: it does not grow any more */
    }
    uint64_t until = upper > window + 1 ? upper - 1 - window : 0;
    if (until > since) {
        controller_allow_compaction(coord->controller, cluster, id, until);
    }
}

/* History behind the window is given up; the controllers' holds keep what is still read. */
static void on_compaction(struct io_timer *timer)
{
    struct coord *coord = CONTAINER_OF(timer, struct coord, compaction);
    controller_each_changed(coord->controller, compact, coord);
    io_timer_start(coord->loop, timer, io_now_us(coord->loop) + COORD_COMPACTION_US);
}

/* ---- what the controllers report ------------------------------------------------------------- */

/* The latest word of a collection's ingestion, for mz_source_statuses and for reads that wait. */
static void on_storage_status(void *ctx, uint64_t collection, enum storage_status status,
                              const char *reason, const char *hint)
{
    struct coord *coord = ctx;
    struct collection_status *st = MEM_NEW(struct collection_status);
    ASSERT(collection != 0);
    const struct collection_status *old = u64map_get(&coord->statuses, collection);
    bool same = old != NULL && old->status == status;
    st->status = status;
    st->since_us = same ? old->since_us : io_now_us(coord->loop);
    st->reason = mem_strdup(reason != NULL ? reason : "");
    st->hint = mem_strdup(hint != NULL ? hint : "");
    status_free(u64map_put(&coord->statuses, collection, st));
    if (status == STORAGE_STALLED || status == STORAGE_PAUSED) {
        LOG_WARN("coord", "a source does not make progress", LOG_U64("id", collection),
                 LOG_STR("reason", st->reason), LOG_STR("hint", st->hint));
    }
}

/* For operators who read logs; SQL shows the same from the controllers (mz_processes). */
static void on_replica_status(void *ctx, uint64_t cluster, uint32_t replica, uint32_t process,
                              bool ready, const char *reason)
{
    LOG_INFO("coord", ready ? "replica process ready" : "replica process not ready",
             LOG_U64("cluster", cluster), LOG_U64("replica", replica),
             LOG_U64("process", process), LOG_STR("reason", reason != NULL ? reason : ""));
}

/* Kept until the object is dropped: queries then read what is below it. A transient dataflow's
 * error goes to whoever reads it. */
static void on_dataflow_failed(void *ctx, uint64_t cluster, uint64_t dataflow, err_t err)
{
    struct coord *coord = ctx;
    ASSERT(err != ERR_OK);
    LOG_ERROR("coord", "a dataflow failed", LOG_U64("cluster", cluster), LOG_U64("id", dataflow),
              LOG_ERR(err));
    if ((dataflow & PLAN_ID_TRANSIENT) == 0 &&
        catalog_item_id(coord->catalog, dataflow) != NULL) {
        free(u64map_put(&coord->failures, dataflow, mem_strdup(err_text(err))));
    }
}

/* Whoever reads from now on sees what the source's files held, also through views. */
static void on_storage_ready(void *ctx, uint64_t collection, uint64_t ready)
{
    struct coord *coord = ctx;
    ASSERT(ready > 0 && collection != 0);
    err_t err = coord->oracle != NULL && ready > 1 ? oracle_observe(coord->oracle, ready - 1)
                                                   : ERR_OK;
    if (err != ERR_OK) {
        LOG_ERROR("coord", "the oracle cannot follow a source", LOG_U64("id", collection),
                  LOG_ERR(err));
        err_free(err);
    }
}

/* Data came: views over it and tables are complete only as far as the tables are. */
static void on_storage_active(void *ctx)
{
    coord_busy(ctx);
}

const struct controller_events coord_controller_events = {
    .storage_ready = on_storage_ready,
    .storage_active = on_storage_active,
    .storage_status = on_storage_status,
    .replica_status = on_replica_status,
    .dataflow_failed = on_dataflow_failed,
};

/* ---- life ------------------------------------------------------------------------------------ */

/* Without a registry every pointer stays NULL, and nothing is counted. */
static void register_metrics(struct coord *coord, struct metrics_registry *r)
{
    coord->statements = metric_counter(r, "tailrace_coord_statements_total", "",
                                       "Statements finished.");
    coord->failed = metric_counter(r, "tailrace_coord_statements_failed_total", "",
                                   "Statements that ended in an error.");
    coord->rows_sent = metric_counter(r, "tailrace_coord_rows_sent_total", "",
                                      "Rows sent to clients.");
    coord->rows_written = metric_counter(r, "tailrace_coord_rows_written_total", "",
                                         "Row changes appended to tables.");
    coord->commits = metric_counter(r, "tailrace_coord_commits_total", "",
                                    "Appends to tables; each may hold many transactions.");
    coord->query_seconds = metric_histogram(r, "tailrace_coord_statement_seconds", "",
                                            "From a statement's start to its end.");
}

/* The names are the configuration's, which may be gone by the time someone creates a cluster. */
static void copy_sizes(struct coord *coord, const struct coord_config *config)
{
    ASSERT(coord->sizes == NULL);
    coord->sizes = mem_zalloc((config->sizes_len + 1) * sizeof(*coord->sizes));
    coord->sizes_len = config->sizes_len;
    for (size_t i = 0; i < config->sizes_len; i++) {
        coord->sizes[i] = config->sizes[i];
        coord->sizes[i].name = mem_strdup(config->sizes[i].name);
    }
}

/* The password is turned into a verifier at once and not kept. */
static err_t init_in(struct coord *coord, const struct coord_config *config)
{
    if (config->password != NULL) {
        uint8_t salt[SCRAM_SALT_LEN];
        io_random(io_loop_env(config->loop), salt, sizeof(salt));
        TRY(scram_verifier_make(config->password, salt, SCRAM_ITERATIONS, &coord->verifier));
        coord->has_verifier = true;
        coord->config.password = NULL;
    }
    return virtual_init(coord);
}

/* Plans nothing yet: the controllers come with coord_start. */
err_t coord_new(const struct coord_config *config, struct coord **out)
{
    ASSERT(config->loop != NULL && config->catalog != NULL && config->oracle != NULL);
    struct coord *coord = MEM_NEW(struct coord);
    *out = NULL;
    coord->config = *config;
    coord->loop = config->loop;
    coord->catalog = config->catalog;
    coord->oracle = config->oracle;
    struct coord_config *c = &coord->config;
    c->tick_us = c->tick_us != 0 ? c->tick_us : COORD_TICK_US;
    c->compaction_window_us = c->compaction_window_us != 0 ? c->compaction_window_us
                                                           : COORD_WINDOW_US;
    c->max_result_bytes = c->max_result_bytes != 0 ? c->max_result_bytes : 192ULL << 20;
    c->max_copy_bytes = c->max_copy_bytes != 0 ? c->max_copy_bytes : 192ULL << 20;
    coord->tick.fire = on_tick;
    coord->compaction.fire = on_compaction;
    copy_sizes(coord, config);
    writer_init(&coord->writer, coord);
    local_init(&coord->local, coord);
    coord->system = session_new(coord, NULL, "tailrace", "tailrace");
    if (config->metrics != NULL) {
        register_metrics(coord, config->metrics);
    }
    err_t err = init_in(coord, config);
    if (err != ERR_OK) {
        coord_free(coord);
        return err;
    }
    *out = coord;
    return ERR_OK;
}

/* What is left is memory: sessions are gone, jobs with them. */
void coord_free(struct coord *coord)
{
    if (coord == NULL) {
        return;
    }
    io_timer_cancel(coord->loop, &coord->tick);
    io_timer_cancel(coord->loop, &coord->compaction);
    session_free(coord->system);
    ASSERT(coord->sessions == NULL);
    writer_free(&coord->writer);
    local_free(&coord->local);
    virtual_free(coord);
    size_t at = 0;
    uint64_t key;
    void *value;
    while (u64map_next(&coord->statuses, &at, &key, &value)) {
        status_free(value);
    }
    for (at = 0; u64map_next(&coord->failures, &at, &key, &value);) {
        free(value);
    }
    u64map_free(&coord->statuses);
    u64map_free(&coord->failures);
    u64map_free(&coord->temporal);
    for (size_t i = 0; i < coord->sizes_len; i++) {
        free((char *)coord->sizes[i].name);
    }
    free(coord->sizes);
    free(coord);
}

void coord_start(struct coord *coord, struct controller *controller)
{
    const struct catalog_cluster *cluster;
    const struct catalog_item *item;
    ASSERT(!coord->started && controller != NULL);
    coord->controller = controller;
    for (size_t i = 0; (cluster = catalog_cluster_at(coord->catalog, i)) != NULL; i++) {
        err_t err = coord_create_cluster(coord, cluster);
        if (err != ERR_OK) {
            LOG_ERROR("coord", "a cluster cannot be started", LOG_STR("name", cluster->name),
                      LOG_ERR(err));
            err_free(err);
        }
    }
    for (size_t i = 0; (item = catalog_item_at(coord->catalog, i)) != NULL; i++) {
        err_t err = coord_create_item(coord, item);
        if (err != ERR_OK) {
            LOG_ERROR("coord", "an object cannot be started", LOG_STR("name", item->name),
                      LOG_U64("id", item->id), LOG_ERR(err));
            free(u64map_put(&coord->failures, item->id, mem_strdup(err_text(err))));
            err_free(err);
        }
    }
    controller_initialized(controller);
    coord->started = true;
    uint64_t now = io_now_us(coord->loop);
    io_timer_start(coord->loop, &coord->tick, now);
    io_timer_start(coord->loop, &coord->compaction, now + COORD_COMPACTION_US);
    LOG_INFO("coord", "ready", LOG_U64("epoch", catalog_epoch(coord->catalog)),
             LOG_STR("environment", catalog_environment_text(coord->catalog)));
}

/* For /api/readyz, and for clients that come too early. */
bool coord_ready(struct coord *coord, struct buf *reason)
{
    ASSERT(reason != NULL);
    if (!coord->started) {
        buf_append_str(reason, "the catalog is being loaded");
        return false;
    }
    return true;
}
