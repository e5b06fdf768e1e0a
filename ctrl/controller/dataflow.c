/*
 * Dataflows and their exports: when they start (as_of), what they hold of their imports, how far
 * they may be compacted, what happens when they fail. environmentd's loop.
 *
 * as_of. A dataflow starts at one time for all its imports. It must be at or beyond the since of
 * each (earlier history is gone) and should be as late as all are complete, so that little is read:
 *
 *     import t   since 100          upper 250
 *     import v   since 180   upper 240            -> as_of 239
 *
 * A time the adapter fixed (a read) is taken if it is not below since; else the dataflow is
 * refused. Until every import is known (storage has said how far it is) the dataflow waits, and
 * what is asked of it with it (peek.c).
 *
 * Holds. A dataflow needs of each import everything from its own since on: that is where it would
 * be created again. A replica that is behind needs more: what it has not yet taken in. An import is
 * compacted to the smallest of what its readers want and all holds (controller_min_hold), never
 * further: the since promised to one dataflow is never taken back.
 *
 * Replicas. Each starts a dataflow at a time of its own (replica_as_of): where its processes still
 * run it, else the latest time that serves everybody. An export can be read from where the earliest
 * replica begins (raise_since).
 *
 * Failure. A dataflow that failed on every replica is over: its peeks are refused, its subscribers
 * and the adapter are told, from the loop. It is dropped by the adapter like any other.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>

/* Frontiers are ordered as numbers: FRONTIER_EMPTY, the largest, is the latest of all. */
static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Each import once, however often the plan reads it. Ids of collections and of indexes are one
 * space, so the operator tells them apart. */
static bool first_read(const struct plan *plan, uint32_t at)
{
    const struct plan_node *node = &plan->nodes[at];
    for (uint32_t i = 0; i < at; i++) {
        if (plan->nodes[i].op == node->op && plan->nodes[i].import.id == node->import.id) {
            return false;
        }
    }
    return node->op == PLAN_SOURCE || node->op == PLAN_INDEX;
}

static void readers_add(struct ctl_dataflow *dataflow)
{
    struct controller *c = dataflow->cluster->controller;
    const struct plan *plan = dataflow->plan;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (!first_read(plan, i)) {
            continue;
        }
        struct u64map *map = &c->readers[plan->nodes[i].op == PLAN_INDEX];
        struct ctl_readers *readers = u64map_get(map, plan->nodes[i].import.id);
        if (readers == NULL) {
            readers = MEM_NEW(struct ctl_readers);
            u64map_put(map, plan->nodes[i].import.id, readers);
        }
        *VEC_PUSH(readers, flows) = dataflow;
    }
}

/* From the end: those of single queries, which come and go, are there. */
static void reader_remove(struct u64map *map, uint64_t id, const struct ctl_dataflow *dataflow)
{
    struct ctl_readers *readers = u64map_get(map, id);
    for (size_t i = readers != NULL ? readers->flows_len : 0; i-- > 0;) {
        if (readers->flows[i] == dataflow) {
            readers->flows[i] = readers->flows[--readers->flows_len];
            break;
        }
    }
    if (readers != NULL && readers->flows_len == 0) {
        u64map_remove(map, id);
        free(readers->flows);
        free(readers);
    }
}

/* Also of one that was never added. */
static void readers_remove(const struct ctl_dataflow *dataflow)
{
    struct controller *c = dataflow->cluster->controller;
    const struct plan *plan = dataflow->plan;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (first_read(plan, i)) {
            reader_remove(&c->readers[plan->nodes[i].op == PLAN_INDEX], plan->nodes[i].import.id,
                          dataflow);
        }
    }
}

/* ---- as_of ----------------------------------------------------------------------------------- */

/* since and upper of an import; false when it is not known yet; ERR_NOT_FOUND when it is none. */
static err_t import_frontiers(const struct controller *c, const struct plan_node *node,
                              bool *known, uint64_t *since, uint64_t *upper)
{
    ASSERT(node->op == PLAN_SOURCE || node->op == PLAN_INDEX);
    if (node->op == PLAN_SOURCE) {
        const struct ctl_collection *collection = storage_collection(c, node->import.id);
        if (collection == NULL) {
            return err_new(ERR_NOT_FOUND, "no collection %" PRIu64, node->import.id);
        }
        *known = storage_collection_known(collection);
        *since = storage_collection_since(c, collection);
        *upper = collection->upper;
        return ERR_OK;
    }
    struct ctl_export *export = u64map_get(&c->exports, node->import.id);
    if (export == NULL || export->kind != PLAN_EXPORT_INDEX) {
        return err_new(ERR_NOT_FOUND, "no index %" PRIu64, node->import.id);
    }
    *known = export->dataflow->as_of_known;
    *since = export->since;
    *upper = max_u64(progress_upper(export), export->since + 1);
    ASSERT(*since < *upper || export->since == FRONTIER_EMPTY);
    return ERR_OK;
}

/*
 * The imports' common window: [since, upper). as_of given: it must be at or beyond since. Chosen:
 * the latest time all imports are complete at, so that little history is read.
 */
static err_t choose_as_of(const struct controller *c, struct ctl_dataflow *dataflow, bool *known)
{
    ASSERT(!dataflow->as_of_known);
    uint64_t since = 0;
    uint64_t upper = FRONTIER_EMPTY;
    *known = true;
    for (uint32_t i = 0; i < dataflow->plan->nodes_len; i++) {
        const struct plan_node *node = &dataflow->plan->nodes[i];
        if (node->op != PLAN_SOURCE && node->op != PLAN_INDEX) {
            continue;
        }
        bool import_known = false;
        uint64_t import_since = 0;
        uint64_t import_upper = 0;
        TRY(import_frontiers(c, node, &import_known, &import_since, &import_upper));
        *known = *known && import_known;
        since = max_u64(since, import_since);
        upper = min_u64(upper, import_upper);
    }
    uint64_t wanted = dataflow->plan->as_of;
    if (wanted != 0 && wanted < since) {
        return err_new(ERR_INVALID,
                       "cannot read at time %" PRIu64 ": history is kept from %" PRIu64
                       " on (complete below %" PRIu64 ")",
                       wanted, since, upper);
    }
    if (wanted != 0) {
        /* Not before the imports are known either: storage refuses whom it does not run yet. */
        dataflow->as_of = wanted;
    } else {
        bool complete = upper == FRONTIER_EMPTY || upper == 0;
        dataflow->as_of = complete ? since : max_u64(since, upper - 1);
    }
    return ERR_OK;
}

/* as_of is decided, for ever: replicas that are ready build it now, others with their replay. */
static void start(struct ctl_dataflow *dataflow)
{
    ASSERT(!dataflow->as_of_known && !dataflow->failed);
    dataflow->as_of_known = true;
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        struct ctl_export *export = dataflow->exports[i];
        if (export != NULL) {
            export->since = export->since_wanted = dataflow->as_of;
        }
    }
    for (uint32_t r = 0; r < dataflow->cluster->spec.replicas; r++) {
        if (dataflow->cluster->replicas[r].ready) {
            dataflow_send(dataflow, &dataflow->cluster->replicas[r]);
        }
    }
    peek_dataflow_started(dataflow->cluster->controller, dataflow);
}

/*
 * True when no dataflow of the cluster waits any more. In order of creation: an index comes before
 * the views that import it.
 */
static bool cluster_try_start(struct controller *c, struct ctl_cluster *cluster)
{
    ASSERT(cluster->controller == c);
    if (!cluster->waiting) {
        return true;
    }
    bool waiting = false;
    for (struct ctl_dataflow *d = cluster->first; d != NULL; d = d->next) {
        if (d->as_of_known || d->failed) {
            continue;
        }
        bool known = false;
        err_t err = choose_as_of(c, d, &known);
        if (err != ERR_OK) {
            dataflow_failed(d, UINT32_MAX, err);
        } else if (known) {
            start(d);
        } else {
            waiting = true;
        }
    }
    cluster->waiting = waiting;
    return !waiting;
}

/* Something became known: starts the dataflows that waited for it. */
void dataflow_try_start(struct controller *c)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->clusters, &at, &id, &value)) {
        struct ctl_cluster *cluster = value;
        bool all = cluster_try_start(c, cluster);
        if (all && c->initialized && !cluster->announced) {
            cluster->announced = true;
            compute_announce(cluster);
        }
    }
}

/* ---- sending --------------------------------------------------------------------------------- */

/*
 * Which storage workers hold parts of what it reads: all for a file source, worker 0 for a table.
 */
static void encode_sources(const struct controller *c, const struct plan *plan,
                           struct arena *arena, tailrace_v1_CreateDataflow *out)
{
    ASSERT(out->sources_count == 0);
    uint32_t all = c->config.storage_processes * c->config.storage_workers;
    out->sources = ARENA_ARRAY(arena, tailrace_v1_SourceParts, plan->nodes_len);
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (plan->nodes[i].op != PLAN_SOURCE) {
            continue;
        }
        const struct ctl_collection *collection =
            storage_collection(c, plan->nodes[i].import.id);
        if (collection == NULL) {
            continue; /* dropped: the runtime refuses, the dataflow fails */
        }
        tailrace_v1_SourceParts *parts = &out->sources[out->sources_count++];
        parts->id = collection->id;
        parts->workers_count = (pb_size_t)(collection->kind == STORAGE_TABLE ? 1 : all);
        parts->workers = ARENA_ARRAY(arena, uint32_t, parts->workers_count);
        for (uint32_t w = 0; w < parts->workers_count; w++) {
            parts->workers[w] = w;
        }
    }
}

/*
 * Does the replica go on with what its processes run already? Then at a time they can still be read
 * at and storage still has the history after. All processes have to, so it is decided here, by what
 * each said in its Hello: by itself one that reads no part of a source does not know that another
 * was not fed. Subscriptions are never gone on with, nor a dataflow that lacks an export somewhere,
 * nor what imports one that begins anew.
 */
static bool running_as_of(const struct controller *c, const struct ctl_dataflow *dataflow,
                          const struct ctl_replica *replica, uint64_t *as_of)
{
    ASSERT(dataflow->as_of_known);
    uint64_t since = 0;
    uint64_t upper = FRONTIER_EMPTY;
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        const struct ctl_export *export = dataflow->exports[i];
        const struct ctl_running *running =
            export != NULL ? u64map_get(&replica->running, export->id) : NULL;
        if (running == NULL || export->kind == PLAN_EXPORT_SUBSCRIBE ||
            running->processes != replica->cluster->spec.scale) {
            return false;
        }
        since = max_u64(since, running->since);
        upper = min_u64(upper, running->upper);
    }
    for (uint32_t i = 0; i < dataflow->plan->nodes_len; i++) {
        const struct plan_node *node = &dataflow->plan->nodes[i];
        const struct ctl_collection *collection =
            node->op == PLAN_SOURCE ? storage_collection(c, node->import.id) : NULL;
        const struct ctl_export *index =
            node->op == PLAN_INDEX ? u64map_get(&c->exports, node->import.id) : NULL;
        if (collection != NULL) {
            since = max_u64(since, storage_collection_since(c, collection));
        }
        if (node->op == PLAN_INDEX &&
            (index == NULL || !index->replicas[replica->index].goes_on)) {
            return false;
        }
    }
    *as_of = since;
    return since < upper;
}

/* Where a replica starts a dataflow that it does not go on with. */
static uint64_t replica_as_of(const struct ctl_dataflow *dataflow,
                              const struct ctl_replica *replica)
{
    ASSERT(dataflow->cluster == replica->cluster);
    uint64_t as_of = dataflow->as_of;
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        const struct ctl_export *export = dataflow->exports[i];
        if (export == NULL) {
            continue;
        }
        if (export->kind == PLAN_EXPORT_SUBSCRIBE && export->started) {
            as_of = max_u64(as_of, export->emitted - 1);
        } else {
            as_of = max_u64(as_of, export->since);
        }
    }
    return as_of;
}

/* Reads can be served from where the earliest replica begins. */
static void raise_since(struct ctl_export *export)
{
    ASSERT(export->replicas != NULL);
    uint64_t earliest = FRONTIER_EMPTY;
    for (uint32_t r = 0; r < export->cluster->spec.replicas; r++) {
        earliest = min_u64(earliest, export->replicas[r].as_of);
    }
    if (earliest != FRONTIER_EMPTY) {
        export->since = max_u64(export->since, earliest);
    }
}

/* FRONTIER_EMPTY: the export is dropped. */
static void encode_compaction(uint64_t export_id, uint64_t frontier, struct buf *out)
{
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_allow_compaction_tag;
    command.command.allow_compaction =
        (tailrace_v1_AllowCompaction){.id = export_id, .frontier = frontier};
    err_t err = rpc_pb_encode(tailrace_v1_ComputeCommand_fields, &command, out);
    ASSERT(err == ERR_OK);
}

/* The plan names exports that were dropped since: the replica forgets them again. */
static void send_drops(const struct ctl_dataflow *dataflow, struct ctl_replica *replica)
{
    ASSERT(dataflow->exports_left <= dataflow->exports_len);
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        if (dataflow->exports[i] != NULL) {
            continue;
        }
        struct buf bytes = {0};
        encode_compaction(dataflow->plan->exports[i].id, FRONTIER_EMPTY, &bytes);
        for (uint32_t p = 0; p < dataflow->cluster->spec.scale; p++) {
            ctl_conn_send_bytes(&replica->conns[p], &bytes);
        }
        buf_free(&bytes);
    }
}

/*
 * Creates the dataflow on one replica: an incarnation of its own, for all its processes. Reports of
 * an earlier incarnation are void from here on. A subscription that has handed something on must
 * not send its snapshot again.
 */
void dataflow_send(struct ctl_dataflow *dataflow, struct ctl_replica *replica)
{
    ASSERT(dataflow->as_of_known);
    struct controller *c = dataflow->cluster->controller;
    uint64_t as_of = 0;
    bool goes_on = running_as_of(c, dataflow, replica, &as_of);
    as_of = goes_on ? as_of : replica_as_of(dataflow, replica);
    struct arena arena = {0};
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_create_dataflow_tag;
    tailrace_v1_CreateDataflow *create = &command.command.create_dataflow;
    create->has_plan = true;
    plan_codec_encode(dataflow->plan, &arena, &create->plan);
    create->plan.as_of = as_of;
    create->incarnation = ++c->next_incarnation;
    create->anew = !goes_on;
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        struct ctl_export *export = dataflow->exports[i];
        if (export == NULL) {
            continue;
        }
        struct ctl_export_replica *state = &export->replicas[replica->index];
        state->as_of = as_of;
        state->failed = false;
        state->goes_on = goes_on;
        memset(state->uppers, 0, dataflow->cluster->spec.scale * sizeof(uint64_t));
        memset(state->follows, 0, dataflow->cluster->spec.scale * sizeof(bool));
        raise_since(export);
        if (export->kind == PLAN_EXPORT_SUBSCRIBE) {
            subscribe_reset(export, replica->index);
            create->plan.exports[i].snapshot =
                create->plan.exports[i].snapshot && !export->started;
        }
    }
    encode_sources(c, dataflow->plan, &arena, create);
    struct buf bytes = {0};
    err_t err = rpc_pb_encode(tailrace_v1_ComputeCommand_fields, &command, &bytes);
    arena_free(&arena);
    if (err != ERR_OK) {
        dataflow_failed(dataflow, replica->index, err);
    } else {
        for (uint32_t p = 0; p < dataflow->cluster->spec.scale; p++) {
            ctl_conn_send_bytes(&replica->conns[p], &bytes);
        }
        send_drops(dataflow, replica);
    }
    buf_free(&bytes);
}

/* ---- creation and end ------------------------------------------------------------------------ */

/* A subscription finds its receiver, which was named before (controller_subscribe). */
static struct ctl_export *export_new(struct controller *c, struct ctl_dataflow *dataflow,
                                     const struct plan_export *from)
{
    ASSERT(from->id != 0 && from->node < dataflow->plan->nodes_len);
    struct ctl_cluster *cluster = dataflow->cluster;
    struct ctl_export *export = MEM_NEW(struct ctl_export);
    export->id = from->id;
    export->dataflow = dataflow;
    export->cluster = cluster;
    export->kind = from->kind;
    export->node = from->node;
    export->replicas = mem_zalloc((cluster->spec.replicas + 1) * sizeof(export->replicas[0]));
    export->subs = mem_zalloc((cluster->spec.replicas + 1) * sizeof(export->subs[0]));
    for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
        export->replicas[r].as_of = FRONTIER_EMPTY;
        export->replicas[r].uppers = mem_zalloc(cluster->spec.scale * sizeof(uint64_t));
        export->replicas[r].follows = mem_zalloc(cluster->spec.scale * sizeof(bool));
        export->subs[r].uppers = mem_zalloc(cluster_workers(cluster) * sizeof(uint64_t));
    }
    struct ctl_receiver *receiver = u64map_remove(&c->receivers, from->id);
    if (receiver != NULL) {
        export->fn = receiver->fn;
        export->fn_arg = receiver->arg;
        free(receiver);
    }
    u64map_put(&c->exports, export->id, export);
    return export;
}

static void export_free(struct controller *c, struct ctl_export *export)
{
    ASSERT(u64map_get(&c->exports, export->id) == export);
    u64map_remove(&c->exports, export->id);
    progress_settled(export);
    subscribe_free(export);
    for (uint32_t r = 0; r < export->cluster->spec.replicas; r++) {
        free(export->replicas[r].uppers);
        free(export->replicas[r].follows);
    }
    free(export->replicas);
    free(export);
}

/* Memory only; the plan is the dataflow's. */
void dataflow_free(struct ctl_dataflow *dataflow)
{
    ASSERT(dataflow->cluster != NULL);
    struct controller *c = dataflow->cluster->controller;
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        if (dataflow->exports[i] != NULL) {
            export_free(c, dataflow->exports[i]);
        }
    }
    readers_remove(dataflow);
    free(dataflow->exports);
    free(dataflow->sources);
    plan_free(dataflow->plan);
    free(dataflow);
}

static void cluster_append(struct ctl_cluster *cluster, struct ctl_dataflow *dataflow)
{
    ASSERT(dataflow->next == NULL && dataflow->prev == NULL);
    ASSERT((cluster->first == NULL) == (cluster->last == NULL));
    dataflow->prev = cluster->last;
    *(cluster->last != NULL ? &cluster->last->next : &cluster->first) = dataflow;
    cluster->last = dataflow;
}

static void cluster_remove(struct ctl_cluster *cluster, struct ctl_dataflow *dataflow)
{
    ASSERT(dataflow->prev != NULL || cluster->first == dataflow);
    ASSERT(dataflow->next != NULL || cluster->last == dataflow);
    *(dataflow->prev != NULL ? &dataflow->prev->next : &cluster->first) = dataflow->next;
    *(dataflow->next != NULL ? &dataflow->next->prev : &cluster->last) = dataflow->prev;
    dataflow->prev = dataflow->next = NULL;
}

/* Checked first, so that a refusal leaves nothing behind. */
err_t controller_dataflow_create(struct controller *c, uint64_t cluster_id, struct plan *plan)
{
    ASSERT(plan != NULL && plan->exports_len > 0);
    struct ctl_cluster *cluster = u64map_get(&c->clusters, cluster_id);
    if (cluster == NULL) {
        plan_free(plan);
        return err_new(ERR_NOT_FOUND, "no cluster %" PRIu64, cluster_id);
    }
    struct ctl_dataflow *dataflow = MEM_NEW(struct ctl_dataflow);
    dataflow->cluster = cluster;
    dataflow->id = plan->id;
    dataflow->plan = plan;
    bool known = false;
    err_t err = choose_as_of(c, dataflow, &known);
    for (uint32_t i = 0; err == ERR_OK && i < plan->exports_len; i++) {
        if (u64map_get(&c->exports, plan->exports[i].id) != NULL) {
            err = err_new(ERR_EXISTS, "export %" PRIu64 " exists already", plan->exports[i].id);
        }
    }
    if (err != ERR_OK) {
        dataflow_free(dataflow);
        return err;
    }
    progress_sources(c, dataflow);
    dataflow->exports_len = dataflow->exports_left = plan->exports_len;
    dataflow->exports = mem_zalloc(plan->exports_len * sizeof(dataflow->exports[0]));
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        dataflow->exports[i] = export_new(c, dataflow, &plan->exports[i]);
    }
    cluster_append(cluster, dataflow);
    readers_add(dataflow);
    if (known) {
        start(dataflow);
    } else {
        cluster->waiting = true;
    }
    return ERR_OK;
}

/* To the replicas that have their history; others are created at or beyond it. */
static void send_compaction(struct ctl_export *export, uint64_t frontier)
{
    ASSERT(export->id != 0 && frontier > 0);
    struct buf bytes = {0};
    encode_compaction(export->id, frontier, &bytes);
    compute_broadcast(export->cluster, &bytes);
    buf_free(&bytes);
}

/*
 * The replicas that are ready are told now; others are told with the history, if the dataflow still
 * has another export (send_drops), else they never hear of it.
 */
static void export_end(struct controller *c, struct ctl_export *export)
{
    struct ctl_dataflow *dataflow = export->dataflow;
    send_compaction(export, FRONTIER_EMPTY);
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        if (dataflow->exports[i] == export) {
            dataflow->exports[i] = NULL;
        }
    }
    export_free(c, export);
    dataflow->exports_left--;
    ASSERT(dataflow->exports_left < dataflow->exports_len);
    if (dataflow->exports_left == 0) {
        cluster_remove(dataflow->cluster, dataflow);
        dataflow_free(dataflow);
    }
}

static bool is_read(const struct controller *c, const struct ctl_export *export)
{
    const struct ctl_readers *readers = u64map_get(&c->readers[1], export->id);
    return export->kind == PLAN_EXPORT_INDEX && readers != NULL && readers->flows_len > 0;
}

/* A dropped export of the cluster that nobody reads any more. */
static struct ctl_export *find_unread(const struct ctl_cluster *cluster)
{
    for (struct ctl_dataflow *d = cluster->first; d != NULL; d = d->next) {
        for (uint32_t i = 0; i < d->exports_len; i++) {
            struct ctl_export *export = d->exports[i];
            if (export != NULL && export->dropped && !is_read(cluster->controller, export)) {
                return export;
            }
        }
    }
    return NULL;
}

/* The end of one may be the end of another, which it read. */
static void end_unread(struct ctl_cluster *cluster)
{
    struct ctl_export *export;
    while (cluster->lingering > 0 && (export = find_unread(cluster)) != NULL) {
        cluster->lingering--;
        export_end(cluster->controller, export);
    }
}

/*
 * An index that dataflows read goes on for them, also on replicas that start anew: nobody else sees
 * it, and it is compacted as far as they allow.
 */
void controller_export_drop(struct controller *c, uint64_t cluster_id, uint64_t export_id)
{
    ASSERT(export_id != 0);
    struct ctl_export *export = u64map_get(&c->exports, export_id);
    if (export == NULL || export->cluster->spec.id != cluster_id || export->dropped) {
        return;
    }
    struct ctl_cluster *cluster = export->cluster;
    peek_fail_index(c, cluster_id, export_id,
                    err_new(ERR_NOT_FOUND, "the index was dropped while it was read"));
    if (is_read(c, export)) {
        export->dropped = true;
        export->since_wanted = TIME_MAX;
        cluster->lingering++;
        return;
    }
    export_end(c, export);
    end_unread(cluster);
}

/* ---- failure --------------------------------------------------------------------------------- */

/* A dataflow that failed everywhere; told from the loop, where receivers may drop anything. */
struct ctl_failure {
    struct ctl_failure *next;
    uint64_t cluster, dataflow;
    err_t err;
};

/* By ids: between the failure and its telling, it may have been dropped and another one created. */
static struct ctl_dataflow *find_failed(const struct controller *c,
                                        const struct ctl_failure *failure)
{
    ASSERT(failure->dataflow != 0);
    const struct ctl_cluster *cluster = u64map_get(&c->clusters, failure->cluster);
    struct ctl_dataflow *d = cluster != NULL ? cluster->first : NULL;
    while (d != NULL && (d->id != failure->dataflow || !d->failed)) {
        d = d->next;
    }
    return d;
}

/* Subscribers first, each once; then the adapter. */
static void tell_failure(struct controller *c, const struct ctl_failure *failure)
{
    ASSERT(failure->err != ERR_OK);
    const struct ctl_dataflow *dataflow = find_failed(c, failure);
    if (dataflow == NULL) {
        return; /* dropped meanwhile */
    }
    /* Every callback may drop the dataflow: only ids outlive one. */
    struct arena arena = {0};
    uint32_t len = dataflow->plan->exports_len;
    uint64_t *ids = ARENA_ARRAY(&arena, uint64_t, len + 1);
    for (uint32_t i = 0; i < len; i++) {
        ids[i] = dataflow->plan->exports[i].id;
    }
    for (uint32_t i = 0; i < len; i++) {
        struct ctl_export *export = u64map_get(&c->exports, ids[i]);
        if (export == NULL || !export->dataflow->failed || export->fn == NULL ||
            export->ended) {
            continue;
        }
        export->ended = true;
        export->fn(export->fn_arg, export->emitted, export->emitted, NULL,
                   err_copy(failure->err));
    }
    arena_free(&arena);
    if (c->config.events->dataflow_failed != NULL) {
        c->config.events->dataflow_failed(c->config.ctx, failure->cluster, failure->dataflow,
                                          failure->err);
    }
}

/* From the loop; each may create, drop or fail others. */
static void failures_run(struct io_task *task)
{
    ASSERT(task->run == failures_run);
    struct controller *c = CONTAINER_OF(task, struct controller, failures_task);
    while (c->failures != NULL) {
        struct ctl_failure *failure = c->failures;
        c->failures = failure->next;
        tell_failure(c, failure);
        err_free(failure->err);
        free(failure);
    }
}

/* Those not told yet are not told. */
void failures_free(struct controller *c)
{
    io_task_cancel(c->loop, &c->failures_task);
    while (c->failures != NULL) {
        struct ctl_failure *failure = c->failures;
        c->failures = failure->next;
        err_free(failure->err);
        free(failure);
    }
}

/* Told in the order of failures. */
static void failure_post(struct controller *c, const struct ctl_dataflow *dataflow, err_t err)
{
    ASSERT(err != ERR_OK && dataflow->failed);
    struct ctl_failure *failure = MEM_NEW(struct ctl_failure);
    *failure = (struct ctl_failure){
        .cluster = dataflow->cluster->spec.id, .dataflow = dataflow->id, .err = err};
    struct ctl_failure **at = &c->failures;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = failure;
    io_task_cancel(c->loop, &c->failures_task); /* it may wait already */
    c->failures_task.run = failures_run;
    io_post(c->loop, &c->failures_task);
}

/* replica UINT32_MAX: it never started. Owns err. Runs no callback: dataflow lives on. */
void dataflow_failed(struct ctl_dataflow *dataflow, uint32_t replica, err_t err)
{
    ASSERT(err != ERR_OK);
    struct controller *c = dataflow->cluster->controller;
    bool everywhere = true;
    for (uint32_t i = 0; replica != UINT32_MAX && i < dataflow->exports_len; i++) {
        struct ctl_export *export = dataflow->exports[i];
        if (export == NULL) {
            continue;
        }
        export->replicas[replica].failed = true;
        for (uint32_t r = 0; r < dataflow->cluster->spec.replicas; r++) {
            everywhere = everywhere && export->replicas[r].failed;
        }
    }
    if (!everywhere || dataflow->failed) {
        err_free(err);
        return;
    }
    dataflow->failed = true;
    ASSERT(dataflow->plan != NULL);
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        if (dataflow->exports[i] != NULL) {
            peek_fail_index(c, dataflow->cluster->spec.id, dataflow->exports[i]->id,
                            err_copy(err));
        }
    }
    failure_post(c, dataflow, err);
}

/* ---- holds and compaction -------------------------------------------------------------------- */

/*
 * The least over its exports and over replicas that are behind; a replica that has said nothing
 * needs everything from its as_of on.
 */
uint64_t dataflow_hold(const struct ctl_dataflow *dataflow)
{
    ASSERT(dataflow->exports_left > 0);
    if (!dataflow->as_of_known) {
        return 0; /* still to be chosen: keep everything */
    }
    uint64_t hold = FRONTIER_EMPTY;
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        const struct ctl_export *export = dataflow->exports[i];
        if (export == NULL) {
            continue;
        }
        bool subscribed = export->kind == PLAN_EXPORT_SUBSCRIBE;
        uint64_t since = subscribed && export->started ? export->emitted - 1 : export->since;
        hold = min_u64(hold, since);
        for (uint32_t r = 0; r < dataflow->cluster->spec.replicas; r++) {
            const struct ctl_export_replica *replica = &export->replicas[r];
            if (replica->as_of == FRONTIER_EMPTY || replica->failed) {
                continue;
            }
            uint64_t upper = progress_replica_upper(export, r);
            hold = min_u64(hold, upper > replica->as_of ? upper - 1 : replica->as_of);
        }
    }
    return hold;
}

/* The smallest of what is wanted, explicit holds, and what dataflows need of a collection (cluster
 * 0) or index. */
uint64_t controller_min_hold(const struct controller *c, uint64_t cluster_id, uint64_t id,
                             uint64_t wanted, uint64_t enough)
{
    ASSERT(id != 0);
    uint64_t hold = wanted;
    size_t at = 0;
    uint64_t key;
    void *value;
    while (u64map_next(&c->holds, &at, &key, &value)) {
        const struct ctl_hold *h = value;
        if (h->cluster == cluster_id && h->target == id) {
            hold = min_u64(hold, h->time);
        }
    }
    const struct ctl_readers *readers = u64map_get(&c->readers[cluster_id != 0], id);
    for (size_t i = 0; readers != NULL && i < readers->flows_len && hold > enough; i++) {
        const struct ctl_dataflow *d = readers->flows[i];
        if (!d->failed && d->exports_left > 0) {
            hold = min_u64(hold, dataflow_hold(d));
        }
    }
    return hold;
}

/* A replica starts all exports of a dataflow at one time: not beyond what its subscriptions were
 * told, or they would miss changes. */
static uint64_t sibling_hold(const struct ctl_dataflow *dataflow)
{
    ASSERT(dataflow->exports_len > 0);
    uint64_t hold = FRONTIER_EMPTY;
    for (uint32_t i = 0; i < dataflow->exports_len; i++) {
        const struct ctl_export *export = dataflow->exports[i];
        if (export != NULL && export->kind == PLAN_EXPORT_SUBSCRIBE && !export->ended) {
            hold = min_u64(hold, export->started ? export->emitted - 1 : export->since);
        }
    }
    return hold;
}

/* As far as the adapter wants and every hold allows. */
void export_compact(struct ctl_export *export)
{
    ASSERT(export->cluster == export->dataflow->cluster);
    uint64_t since = controller_min_hold(export->cluster->controller, export->cluster->spec.id,
                                         export->id, export->since_wanted, export->since);
    if (export->kind == PLAN_EXPORT_INDEX) {
        since = min_u64(since, sibling_hold(export->dataflow));
    }
    if (since > export->since && export->dataflow->as_of_known) {
        export->since = since;
        send_compaction(export, since);
    }
}

/* Nobody else asks for indexes that were dropped: those who read them do. */
static void compact_dropped(const struct ctl_dataflow *reader)
{
    const struct plan *plan = reader->plan;
    for (uint32_t i = 0; reader->cluster->lingering > 0 && i < plan->nodes_len; i++) {
        struct ctl_export *export =
            plan->nodes[i].op == PLAN_INDEX
                ? u64map_get(&reader->cluster->controller->exports, plan->nodes[i].import.id)
                : NULL;
        if (export != NULL && export->dropped) {
            ASSERT(export->dataflow != reader);
            export_compact(export);
            compact_dropped(export->dataflow); /* earlier ones only: no index reads a later one */
        }
    }
}

/*
 * Wishes only grow; what holds keep back is given up by a later call, which the adapter makes once
 * a second for everything.
 */
void controller_allow_compaction(struct controller *c, uint64_t cluster, uint64_t id,
                                 uint64_t since)
{
    if (cluster == 0) {
        struct ctl_collection *collection = storage_collection(c, id);
        if (collection != NULL) {
            collection->since_wanted = max_u64(collection->since_wanted, since);
            storage_compact(c, collection);
        }
        return;
    }
    struct ctl_export *export = u64map_get(&c->exports, id);
    if (export != NULL && export->cluster->spec.id == cluster) {
        export->since_wanted = max_u64(export->since_wanted, since);
        export_compact(export);
        compact_dropped(export->dataflow);
    }
}

/* A hold is looked at whenever something is to be compacted: taking one costs nothing. */
err_t controller_hold(struct controller *c, uint64_t cluster, uint64_t id, uint64_t time,
                      uint64_t *hold)
{
    ASSERT(hold != NULL && id != 0);
    uint64_t since = 0;
    uint64_t upper = 0;
    bool found = cluster == 0 ? controller_collection_frontiers(c, id, &since, &upper)
                              : controller_index_frontiers(c, cluster, id, &since, &upper);
    if (!found) {
        return err_new(ERR_NOT_FOUND, "nothing to hold: no collection or index %" PRIu64, id);
    }
    if (time < since) {
        return err_new(ERR_INVALID, "cannot hold at %" PRIu64 ": compacted up to %" PRIu64, time,
                       since);
    }
    struct ctl_hold *h = MEM_NEW(struct ctl_hold);
    *h = (struct ctl_hold){
        .id = ++c->next_hold, .cluster = cluster, .target = id, .time = time};
    u64map_put(&c->holds, h->id, h);
    *hold = h->id;
    return ERR_OK;
}

/* What it kept goes with the next compaction. */
void controller_hold_release(struct controller *c, uint64_t hold)
{
    free(u64map_remove(&c->holds, hold));
}
