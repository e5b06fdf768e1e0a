/*
 * Commands of the controller, and reconciliation: what survives a new session. Main loop only.
 *
 * When a session starts, the commands up to InitializationComplete say what must run. A dataflow
 * that already runs is kept when
 *
 *   - its plan is the same (plan_equal: everything but as_of and names),
 *   - all its exports are still there, and none is a subscription, which starts over anyway,
 *   - its history reaches back to the as_of asked for (since <= as_of),
 *   - everything it imports is kept too,
 *   - the controller did not ask for it anew: when it is not complete at as_of in some process,
 *     storage may not have what it needs next.
 *
 * The others are dropped first (memory), then the commands run in order and what is not there yet
 * is built. A decision is a function of history and commands only, so that all processes of a
 * replica, which are told the same commands, decide alike: workers exchange messages by incarnation
 * and would otherwise wait for each other for ever.
 *
 * Example: environmentd restarts while `v` runs at since 90, upper 120, and its subscription is
 * gone. It replays CreateDataflow(v, as_of = 100): kept, under the old incarnation. Had it asked
 * for as_of 80, `v` would be dropped and built again from storage at 80.
 */
#include "ctrl/computed/computed_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- dataflows and exports ------------------------------------------------------------------- */

static void flow_free(struct computed_flow *flow)
{
    plan_free(flow->plan);
    free(flow->sources);
    free(flow);
}

/* The id is free again. Nothing happens when it is not taken. */
static void export_forget(struct computed *computed, uint64_t id)
{
    struct computed_export *export = u64map_remove(&computed->exports, id);
    if (export != NULL) {
        free(export->uppers);
        free(export->follows);
        free(export);
    }
}

/* Workers hear of it in the order of orders: what a later command creates comes after. */
void computed_flow_drop(struct computed *computed, struct computed_flow *flow)
{
    ASSERT(u64map_get(&computed->flows, flow->id) == flow && flow->plan != NULL);
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        computed_worker_drop(&computed->workers[w], flow->incarnation);
    }
    for (uint32_t i = 0; i < flow->plan->exports_len; i++) {
        export_forget(computed, flow->plan->exports[i].id);
    }
    u64map_remove(&computed->flows, flow->id);
    u64map_remove(&computed->incarnations, flow->incarnation);
    flow_free(flow);
}

static int latest_first(const void *a, const void *b)
{
    const struct computed_flow *x = *(struct computed_flow *const *)a;
    const struct computed_flow *y = *(struct computed_flow *const *)b;
    return x->incarnation < y->incarnation ? 1 : x->incarnation > y->incarnation ? -1 : 0;
}

/*
 * Who imports goes before what it imports, which was made earlier: an importer that outlived it for
 * a moment would be fed on from a source whose columns nobody asks for any more.
 */
static void drop_flows(struct computed *computed, bool all)
{
    size_t at = 0, n = 0;
    uint64_t id;
    void *value;
    struct computed_flow **dropped =
        mem_alloc((computed->flows.len + 1) * sizeof(struct computed_flow *));
    while (u64map_next(&computed->flows, &at, &id, &value)) {
        struct computed_flow *flow = value;
        if (all || !flow->kept) {
            dropped[n++] = flow;
        }
    }
    ASSERT(n <= computed->flows.len);
    qsort(dropped, n, sizeof(dropped[0]), latest_first);
    for (size_t i = 0; i < n; i++) {
        computed_flow_drop(computed, dropped[i]);
    }
    free(dropped);
}

void computed_drop_everything(struct computed *computed)
{
    drop_flows(computed, true);
    ASSERT(computed->flows.len == 0);
    ASSERT(computed->exports.len == 0);
}

static void export_add(struct computed *computed, const struct computed_flow *flow,
                       const struct plan_export *plan_export, uint64_t as_of)
{
    ASSERT(flow->incarnation != 0 && plan_export->node < flow->plan->nodes_len);
    struct computed_export *export = MEM_NEW(struct computed_export);
    export->id = plan_export->id;
    export->dataflow = flow->id;
    export->incarnation = flow->incarnation;
    export->kind = plan_export->kind;
    export->node = plan_export->node;
    export->since = as_of;
    export->uppers = mem_zalloc(computed->config.workers * sizeof(uint64_t));
    export->follows = mem_zalloc(computed->config.workers * sizeof(bool));
    ASSERT(u64map_put(&computed->exports, export->id, export) == NULL);
}

/* Ids and incarnations come from the controller: engines and workers rely on each being new. */
static err_t check_new_flow(struct computed *computed, const struct plan *plan,
                            uint64_t incarnation)
{
    if (u64map_get(&computed->flows, plan->id) != NULL) {
        return err_new(ERR_PROTOCOL, "dataflow %" PRIu64 " exists already", plan->id);
    }
    if (incarnation == 0 || computed_find_incarnation(computed, incarnation) != NULL) {
        return err_new(ERR_PROTOCOL, "dataflow %" PRIu64 " comes as incarnation %" PRIu64
                       ", which is %s", plan->id, incarnation,
                       incarnation == 0 ? "none" : "another's");
    }
    if (plan->exports_len == 0) { /* its last export's end would never end it */
        return err_new(ERR_PROTOCOL, "dataflow %" PRIu64 " exports nothing", plan->id);
    }
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        if (u64map_get(&computed->exports, plan->exports[i].id) != NULL) {
            return err_new(ERR_PROTOCOL, "export %" PRIu64 " exists already",
                           plan->exports[i].id);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (plan->exports[j].id == plan->exports[i].id) {
                return err_new(ERR_PROTOCOL, "export %" PRIu64 " named twice",
                               plan->exports[i].id);
            }
        }
    }
    return ERR_OK;
}

/*
 * data: the bytes of the command, which each worker decodes for itself: a plan is a tree of
 * pointers that no two threads should share. A kept dataflow is recognised and left alone.
 */
static err_t create_dataflow(struct computed *computed,
                             const tailrace_v1_CreateDataflow *message, const uint8_t *data,
                             size_t len)
{
    ASSERT(data != NULL && len > 0);
    if (!message->has_plan) {
        return err_new(ERR_PROTOCOL, "a dataflow without a plan");
    }
    struct computed_flow *running = u64map_get(&computed->flows, message->plan.id);
    if (running != NULL && running->kept) {
        running->kept = false;
        return ERR_OK;
    }
    struct plan *plan = NULL;
    TRY(plan_codec_decode(&message->plan, &plan));
    err_t err = check_new_flow(computed, plan, message->incarnation);
    if (err != ERR_OK) {
        plan_free(plan);
        return err;
    }
    struct computed_flow *flow = MEM_NEW(struct computed_flow);
    flow->id = plan->id;
    flow->incarnation = message->incarnation;
    flow->plan = plan;
    flow->exports_left = plan->exports_len;
    ASSERT(flow->exports_left > 0);
    computed_flow_sources(computed, flow);
    u64map_put(&computed->flows, flow->id, flow);
    u64map_put(&computed->incarnations, flow->incarnation, flow);
    for (uint32_t i = 0; i < plan->exports_len; i++) {
        export_add(computed, flow, &plan->exports[i], plan->as_of);
    }
    LOG_DEBUG("computed", "dataflow", LOG_U64("id", plan->id), LOG_STR("name", plan->name),
              LOG_U64("as_of", plan->as_of));
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        computed_worker_create(&computed->workers[w], flow->incarnation, data, len, plan->as_of);
    }
    return ERR_OK;
}

/* The controller may forget the id when all processes have said so. */
static void report_dropped(struct computed *computed, uint64_t id)
{
    ASSERT(computed->runtime != NULL);
    tailrace_v1_Frontier frontier = {
        .id = id, .upper = FRONTIER_EMPTY, .since = FRONTIER_EMPTY};
    tailrace_v1_ComputeResponse response = {0};
    response.which_response = tailrace_v1_ComputeResponse_frontiers_tag;
    response.response.frontiers.frontiers_count = 1;
    response.response.frontiers.frontiers = &frontier;
    runtime_send(computed->runtime, tailrace_v1_ComputeResponse_fields, &response);
}

/*
 * The flow ends with its last export; before that its other exports go on and only this one's
 * arrangement is let go (a since of FRONTIER_EMPTY).
 */
static void export_drop(struct computed *computed, struct computed_export *export)
{
    struct computed_flow *flow = u64map_get(&computed->flows, export->dataflow);
    ASSERT(flow != NULL && flow->exports_left > 0);
    report_dropped(computed, export->id);
    flow->exports_left--;
    if (flow->exports_left == 0) {
        computed_flow_drop(computed, flow);
        return;
    }
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        computed_worker_compact(&computed->workers[w], export->id, FRONTIER_EMPTY);
    }
    export_forget(computed, export->id);
}

/* Since only grows; a smaller one is an answer that was overtaken. */
static void allow_compaction(struct computed *computed, uint64_t id, uint64_t frontier)
{
    struct computed_export *export = u64map_get(&computed->exports, id);
    if (export == NULL) {
        return; /* dropped before: compaction of what is gone */
    }
    if (frontier == FRONTIER_EMPTY) {
        export_drop(computed, export);
        return;
    }
    if (frontier <= export->since) {
        return;
    }
    export->since = frontier;
    ASSERT(export->since != FRONTIER_EMPTY);
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        computed_worker_compact(&computed->workers[w], id, frontier);
    }
}

/* ---- peeks ----------------------------------------------------------------------------------- */

/* The parts of a peek that depend on the index: its program and its keys. */
static err_t check_peek(struct computed *computed, const tailrace_v1_Peek *message)
{
    struct computed_export *export = u64map_get(&computed->exports, message->index);
    if (export == NULL || export->kind != PLAN_EXPORT_INDEX) {
        return err_new(ERR_NOT_FOUND, "no index %" PRIu64 " on this cluster", message->index);
    }
    struct computed_flow *flow = u64map_get(&computed->flows, export->dataflow);
    ASSERT(flow != NULL && export->node < flow->plan->nodes_len);
    const struct schema *schema = &flow->plan->nodes[export->node].schema;
    struct arena arena = {0};
    struct mfp mfp;
    struct type *output = schema->types;
    uint32_t cols = schema->cols;
    err_t err = ERR_OK;
    if (message->has_mfp) {
        err = plan_codec_decode_mfp(&message->mfp, &arena, &mfp);
        if (err == ERR_OK) {
            err = mfp_validate(&mfp, schema->types, schema->cols, &arena, &output);
            cols = mfp.project_len;
        }
    }
    for (size_t i = 0; err == ERR_OK && i < message->order_count; i++) {
        if (message->order[i].col >= cols) {
            err = err_new(ERR_PROTOCOL, "peek orders by column %u of %u", message->order[i].col,
                          cols);
        }
    }
    for (uint32_t i = 0; err == ERR_OK && i < flow->plan->exports_len; i++) {
        const struct plan_export *e = &flow->plan->exports[i];
        if (e->id != export->id || !message->has_keys) {
            continue;
        }
        bool same = e->keys_len == message->key_kinds_count;
        for (uint32_t k = 0; same && k < e->keys_len; k++) {
            same = schema->types[e->keys[k]].kind == message->key_kinds[k];
        }
        if (!same) {
            err = err_new(ERR_PROTOCOL, "peek keys are not of the index's key columns");
        }
    }
    arena_free(&arena);
    return err;
}

/* Sent to every worker with a local id: the controller's may come again in another session. */
static err_t peek(struct computed *computed, const tailrace_v1_Peek *message, const uint8_t *data,
                  size_t len)
{
    ASSERT(computed->config.workers > 0);
    uint64_t local = ++computed->next_peek;
    struct computed_peek *pending = MEM_NEW(struct computed_peek);
    pending->id = message->id;
    pending->waiting = computed->config.workers;
    u64map_put(&computed->peeks, local, pending);
    err_t err = check_peek(computed, message);
    if (err != ERR_OK) {
        pending->waiting = 1;
        computed_on_peek(computed, local, NULL, err);
        return ERR_OK;
    }
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        computed_worker_peek(&computed->workers[w], local, data, len);
    }
    return ERR_OK;
}

/* Workers forget it and say so; their answers are what ends it here. */
static void cancel_peek(struct computed *computed, uint64_t id)
{
    size_t at = 0;
    uint64_t local;
    void *value;
    while (u64map_next(&computed->peeks, &at, &local, &value)) {
        const struct computed_peek *peek = value;
        for (uint32_t w = 0; peek->id == id && w < computed->config.workers; w++) {
            computed_worker_cancel(&computed->workers[w], local);
        }
    }
}

/* ---- commands -------------------------------------------------------------------------------- */

/* A process that has no address yet is "", and is tried again with the next directory. */
static void set_directory(struct computed *computed, const tailrace_v1_StorageDirectory *message)
{
    struct arena arena = {0};
    const char **addresses = ARENA_ARRAY(&arena, const char *, message->processes_count + 1);
    const char **sockets = ARENA_ARRAY(&arena, const char *, message->processes_count + 1);
    for (size_t i = 0; i < message->processes_count; i++) {
        const tailrace_v1_StorageProcess *process = &message->processes[i];
        addresses[i] = process->address != NULL ? process->address : "";
        bool has_socket = process->unix_path != NULL && process->unix_path[0] != '\0';
        sockets[i] = has_socket ? process->unix_path : NULL;
    }
    boundary_client_directory(computed->boundary, addresses, sockets, message->processes_count,
                              message->workers_per_process);
    arena_free(&arena);
}

/*
 * CreateInstance and UpdateStorage only say where storage is: cluster and replica are in the flags.
 */
static err_t handle(struct computed *computed, const tailrace_v1_ComputeCommand *command,
                    const uint8_t *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    switch (command->which_command) {
    case tailrace_v1_ComputeCommand_create_instance_tag:
        if (command->command.create_instance.has_storage) {
            set_directory(computed, &command->command.create_instance.storage);
        }
        return ERR_OK;
    case tailrace_v1_ComputeCommand_update_storage_tag:
        set_directory(computed, &command->command.update_storage);
        return ERR_OK;
    case tailrace_v1_ComputeCommand_create_dataflow_tag:
        return create_dataflow(computed, &command->command.create_dataflow, data, len);
    case tailrace_v1_ComputeCommand_allow_compaction_tag:
        allow_compaction(computed, command->command.allow_compaction.id,
                         command->command.allow_compaction.frontier);
        return ERR_OK;
    case tailrace_v1_ComputeCommand_peek_tag:
        return peek(computed, &command->command.peek, data, len);
    case tailrace_v1_ComputeCommand_cancel_peek_tag:
        cancel_peek(computed, command->command.cancel_peek.id);
        return ERR_OK;
    case tailrace_v1_ComputeCommand_initialization_complete_tag: return ERR_OK;
    case tailrace_v1_ComputeCommand_report_stats_tag:
        computed_report_stats(computed, &command->command.report_stats);
        return ERR_OK;
    default:
        return err_new(ERR_PROTOCOL, "unexpected compute command %u", command->which_command);
    }
}

/* An error ends the session: the controller and this process disagree about what runs here. */
err_t computed_run_command(struct computed *computed, const uint8_t *data, size_t len)
{
    tailrace_v1_ComputeCommand command;
    TRY(rpc_decode_pb(tailrace_v1_ComputeCommand_fields, &command, data, len));
    err_t err = handle(computed, &command, data, len);
    rpc_release_pb(tailrace_v1_ComputeCommand_fields, &command);
    return err;
}

/* ---- reconciliation -------------------------------------------------------------------------- */

/* Commands come in the order of creation, so imports were marked before. */
static bool imports_kept(const struct computed *computed, const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (plan->nodes[i].op != PLAN_INDEX) {
            continue;
        }
        struct computed_export *export =
            u64map_get(&computed->exports, plan->nodes[i].import.id);
        if (export == NULL) {
            return false;
        }
        struct computed_flow *flow = u64map_get(&computed->flows, export->dataflow);
        if (flow == NULL || !flow->kept) {
            return false;
        }
    }
    return true;
}

static bool compatible(const struct computed *computed, const struct computed_flow *flow,
                       const struct plan *wanted)
{
    ASSERT(flow->plan != NULL && wanted != NULL);
    if (flow->failed || flow->exports_left != flow->plan->exports_len ||
        !plan_equal(flow->plan, wanted)) {
        return false;
    }
    for (uint32_t i = 0; i < flow->plan->exports_len; i++) {
        struct computed_export *export =
            u64map_get(&computed->exports, flow->plan->exports[i].id);
        if (export == NULL || export->kind == PLAN_EXPORT_SUBSCRIBE ||
            export->since > wanted->as_of) {
            return false;
        }
    }
    return imports_kept(computed, flow->plan);
}

/* Marks the running dataflow a command asks for, if it can stay; notes the session's first
 * incarnation. */
static err_t mark_kept(struct computed *computed, const struct buf *message, uint64_t *first)
{
    tailrace_v1_ComputeCommand command;
    TRY(rpc_decode_pb(tailrace_v1_ComputeCommand_fields, &command, message->data, message->len));
    err_t err = ERR_OK;
    if (command.which_command == tailrace_v1_ComputeCommand_create_dataflow_tag) {
        uint64_t incarnation = command.command.create_dataflow.incarnation;
        bool anew = command.command.create_dataflow.anew;
        *first = incarnation < *first ? incarnation : *first;
        struct plan *wanted = NULL;
        err = plan_codec_decode(&command.command.create_dataflow.plan, &wanted);
        ASSERT((err == ERR_OK) == (wanted != NULL));
        if (err == ERR_OK) {
            struct computed_flow *flow = u64map_get(&computed->flows, wanted->id);
            if (flow != NULL && !anew && compatible(computed, flow, wanted)) {
                flow->kept = true;
            }
            plan_free(wanted);
        }
    }
    rpc_release_pb(tailrace_v1_ComputeCommand_fields, &command);
    return err;
}

/*
 * Two passes over the commands: the first only marks, so that memory is free before anything is
 * built. Messages between workers for incarnations before the session's first that are not kept
 * will never find their dataflow and are forgotten.
 */
err_t computed_reconcile(struct computed *computed)
{
    ASSERT(computed->formed && computed->waiting_complete && !computed->initializing);
    size_t before = computed->flows.len;
    uint64_t first = UINT64_MAX;
    for (size_t i = 0; i < computed->waiting_len; i++) {
        TRY(mark_kept(computed, &computed->waiting[i], &first));
    }
    drop_flows(computed, false);
    for (uint32_t w = 0; first != UINT64_MAX && w < computed->config.workers; w++) {
        computed_worker_forget_before(&computed->workers[w], first);
    }
    LOG_INFO("computed", "reconciled", LOG_U64("running", before),
             LOG_U64("kept", computed->flows.len), LOG_U64("commands", computed->waiting_len));
    for (size_t i = 0; i < computed->waiting_len; i++) {
        TRY(computed_run_command(computed, computed->waiting[i].data, computed->waiting[i].len));
    }
    return ERR_OK;
}
