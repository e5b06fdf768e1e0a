/*
 * How far exports are complete, as replicas say. environmentd's loop.
 *
 * A process says how far it was fed of each source, and names single exports only when updates came
 * to them; one that rests follows the sources its dataflow reads (ctrl/computed/progress.c). So a
 * tick costs as many numbers as there are sources, and an export's upper is computed when somebody
 * wants to know: the least over the sources, the processes of a replica; the best replica's.
 *
 * Compaction goes the same way: only an export to which updates came has history to give up. It is
 * in a list until its since has passed them (`changed`), and what reads it too: else a quiet view
 * would hold back the busy one it reads. What is quiet, and reads what is quiet, keeps its since,
 * and with it its sources': there is nothing between the two that could be compacted.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/mem.h"

/* ---- what follows what ----------------------------------------------------------------------- */

static void source_add(struct ctl_dataflow *dataflow, uint64_t id)
{
    for (size_t i = 0; i < dataflow->sources_len; i++) {
        if (dataflow->sources[i] == id) {
            return;
        }
    }
    *VEC_PUSH(dataflow, sources) = id;
}

void progress_sources(const struct controller *c, struct ctl_dataflow *dataflow)
{
    const struct plan *plan = dataflow->plan;
    ASSERT(dataflow->sources_len == 0);
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        if (node->op == PLAN_SOURCE) {
            source_add(dataflow, node->import.id);
        }
        const struct ctl_export *from =
            node->op == PLAN_INDEX ? u64map_get(&c->exports, node->import.id) : NULL;
        for (size_t s = 0; from != NULL && s < from->dataflow->sources_len; s++) {
            source_add(dataflow, from->dataflow->sources[s]);
        }
    }
}

/* Of one process. A source it has not named is read by others. */
static uint64_t process_upper(const struct ctl_export *export, uint32_t replica, uint32_t process)
{
    const struct ctl_export_replica *there = &export->replicas[replica];
    const struct u64map *fed = &export->cluster->replicas[replica].sources[process];
    if (!there->follows[process]) {
        return there->uppers[process];
    }
    uint64_t upper = FRONTIER_EMPTY;
    for (size_t i = 0; i < export->dataflow->sources_len; i++) {
        uint64_t at = (uintptr_t)u64map_get(fed, export->dataflow->sources[i]);
        upper = at != 0 && at < upper ? at : upper;
    }
    return upper > there->uppers[process] ? upper : there->uppers[process];
}

/* The meet over the replica's processes; 0 while one has said nothing. */
uint64_t progress_replica_upper(const struct ctl_export *export, uint32_t replica)
{
    ASSERT(replica < export->cluster->spec.replicas);
    uint64_t upper = FRONTIER_EMPTY;
    for (uint32_t p = 0; p < export->cluster->spec.scale; p++) {
        uint64_t one = process_upper(export, replica, p);
        upper = one < upper ? one : upper;
    }
    return upper;
}

uint64_t progress_upper(struct ctl_export *export)
{
    for (uint32_t r = 0; r < export->cluster->spec.replicas; r++) {
        uint64_t upper = progress_replica_upper(export, r);
        export->upper = upper > export->upper ? upper : export->upper;
    }
    return export->upper;
}

/* ---- what may be compacted ------------------------------------------------------------------- */

/* Transient exports are dropped before there is anything to compact. */
static void note_changed(struct ctl_export *export, uint64_t upper)
{
    struct controller *c = export->cluster->controller;
    if (export->kind != PLAN_EXPORT_INDEX || (export->id & PLAN_ID_TRANSIENT) != 0) {
        return;
    }
    if (export->changed == 0) {
        ASSERT(export->changed_prev == NULL && export->changed_next == NULL);
        export->changed_prev = c->changed_last;
        *(c->changed_last != NULL ? &c->changed_last->changed_next : &c->changed_first) = export;
        c->changed_last = export;
    }
    upper = upper > 0 ? upper : 1; /* 0: it is not in the list */
    export->changed = upper > export->changed ? upper : export->changed;
}

void progress_settled(struct ctl_export *export)
{
    struct controller *c = export->cluster->controller;
    if (export->changed == 0) {
        return;
    }
    *(export->changed_prev != NULL ? &export->changed_prev->changed_next : &c->changed_first) =
        export->changed_next;
    *(export->changed_next != NULL ? &export->changed_next->changed_prev : &c->changed_last) =
        export->changed_prev;
    export->changed_prev = export->changed_next = NULL;
    export->changed = 0;
}

/* What reads an index holds it, and by it what the index reads, also if it was not told of any of
 * the index's updates: they left the index as it was. */
static void note_readers(const struct controller *c, const struct ctl_export *export)
{
    const struct ctl_readers *readers = u64map_get(&c->readers[1], export->id);
    for (size_t i = 0; readers != NULL && i < readers->flows_len; i++) {
        const struct ctl_dataflow *reader = readers->flows[i];
        for (uint32_t e = 0; e < reader->exports_len; e++) {
            if (reader->exports[e] != NULL && reader->exports[e]->since < export->changed) {
                note_changed(reader->exports[e], export->changed);
            }
        }
    }
}

/* Readers come behind what they read, or in the next round. */
void controller_each_changed(struct controller *c, controller_changed_fn each, void *arg)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->collections, &at, &id, &value)) {
        const struct ctl_collection *collection = value;
        each(arg, 0, id, storage_collection_since(c, collection), collection->upper);
    }
    for (struct ctl_export *next, *export = c->changed_first; export != NULL; export = next) {
        uint64_t upper = progress_upper(export);
        each(arg, export->cluster->spec.id, export->id, export->since, upper);
        note_readers(c, export);
        next = export->changed_next;
        if (export->since >= export->changed || upper == FRONTIER_EMPTY) {
            progress_settled(export);
        }
    }
}

/* ---- what replicas say ----------------------------------------------------------------------- */

void progress_forget(struct ctl_replica *replica)
{
    for (uint32_t p = 0; replica->sources != NULL && p < replica->cluster->spec.scale; p++) {
        u64map_free(&replica->sources[p]);
    }
}

/* Only what exists: a process cannot make us keep more. */
static void on_source(struct controller *c, struct u64map *fed, const tailrace_v1_Frontier *f)
{
    if (f->upper == 0) {
        u64map_remove(fed, f->id);
    } else if (storage_collection(c, f->id) != NULL) {
        u64map_put(fed, f->id, (void *)(uintptr_t)f->upper);
    }
}

/* From one process, about any number of exports. Frontiers only grow within a session. */
void progress_take(struct ctl_replica *replica, uint32_t process,
                   const tailrace_v1_Frontiers *message)
{
    struct controller *c = replica->cluster->controller;
    ASSERT(process < replica->cluster->spec.scale);
    c->reported += message->sources_count + message->frontiers_count;
    for (size_t i = 0; i < message->sources_count; i++) {
        on_source(c, &replica->sources[process], &message->sources[i]);
    }
    for (size_t i = 0; i < message->frontiers_count; i++) {
        const tailrace_v1_Frontier *f = &message->frontiers[i];
        struct ctl_export *export = u64map_get(&c->exports, f->id);
        if (export == NULL || export->cluster != replica->cluster) {
            continue; /* dropped meanwhile */
        }
        struct ctl_export_replica *there = &export->replicas[replica->index];
        uint64_t *reported = &there->uppers[process];
        *reported = f->upper > *reported ? f->upper : *reported;
        there->follows[process] = f->follows;
        if (!f->follows || f->changed) {
            /* One that reads no part of its sources does not know how far they are. */
            bool knows = f->upper != FRONTIER_EMPTY;
            note_changed(export, knows ? f->upper
                                       : progress_replica_upper(export, replica->index));
        }
    }
}
