/*
 * How far exports are complete, towards the controller. Main loop.
 *
 * Workers say two things once a turn of their loops: how far the feeds of each source are, and what
 * changed at single exports. An export whose dataflow rests follows its sources: its upper is
 * theirs, and nobody mentions it until updates come. So a report costs what changed and how many
 * sources there are, not how many exports; the controller is told in the same way, and computes an
 * export's upper when it wants to know.
 *
 * What an export follows are the sources that its dataflow reads, also through indexes; of these a
 * worker has the parts it reads. Those it has no feed of are another worker's, who is bounded by
 * them. An export that is busy with what a source brought may be taken for complete by the source's
 * upper before its worker says that it does not follow: whoever reads it waits until it is.
 */
#include "core/base/mem.h"
#include "ctrl/computed/computed_internal.h"

/* ---- sources --------------------------------------------------------------------------------- */

/* Where a worker's feeds of a source are; FRONTIER_EMPTY: it has none. */
static uint64_t fed_upper(const struct computed *computed, uint64_t source, uint32_t local)
{
    const struct computed_progress *p = u64map_get(&computed->sources, source);
    return p != NULL && p->uppers[local] != 0 ? p->uppers[local] : FRONTIER_EMPTY;
}

/* Of all workers of the process; 0: none has a feed. */
static uint64_t process_upper(const struct computed *computed, const struct computed_progress *p)
{
    uint64_t upper = FRONTIER_EMPTY;
    bool any = false;
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        any = any || p->uppers[w] != 0;
        upper = p->uppers[w] != 0 && p->uppers[w] < upper ? p->uppers[w] : upper;
    }
    return any ? upper : 0;
}

static void mark_source(struct computed *computed, struct computed_progress *p)
{
    if (!p->moved) {
        p->moved = true;
        *VEC_PUSH(computed, sources_moved) = p->id;
    }
}

void computed_on_source(struct computed *computed, uint32_t local, uint64_t id, uint64_t upper)
{
    ASSERT(local < computed->config.workers);
    struct computed_progress *p = u64map_get(&computed->sources, id);
    if (p == NULL && upper == 0) {
        return;
    }
    if (p == NULL) {
        p = MEM_NEW(struct computed_progress);
        p->id = id;
        p->uppers = mem_zalloc(computed->config.workers * sizeof(uint64_t));
        u64map_put(&computed->sources, id, p);
    }
    p->uppers[local] = upper;
    mark_source(computed, p);
}

void computed_sources_lost(struct computed *computed, uint32_t local)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->sources, &at, &id, &value)) {
        struct computed_progress *p = value;
        p->uppers[local] = 0;
        mark_source(computed, p);
    }
}

static void progress_free(struct computed_progress *p)
{
    free(p->uppers);
    free(p);
}

void computed_sources_free(struct computed *computed)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->sources, &at, &id, &value)) {
        progress_free(value);
    }
    u64map_free(&computed->sources);
    free(computed->sources_moved);
}

/* One that nobody feeds any more is told once more, and forgotten. */
static void tell_source(struct computed *computed, struct computed_progress *p,
                        tailrace_v1_Frontiers *out)
{
    uint64_t upper = process_upper(computed, p);
    if (out != NULL && upper != p->upper_sent) {
        p->upper_sent = upper;
        out->sources[out->sources_count++] = (tailrace_v1_Frontier){.id = p->id, .upper = upper};
    }
    if (upper == 0) {
        ASSERT(!p->moved);
        u64map_remove(&computed->sources, p->id);
        progress_free(p);
    }
}

/* ---- exports --------------------------------------------------------------------------------- */

static void source_add(struct computed_flow *flow, uint64_t id)
{
    for (size_t i = 0; i < flow->sources_len; i++) {
        if (flow->sources[i] == id) {
            return;
        }
    }
    *VEC_PUSH(flow, sources) = id;
}

void computed_flow_sources(struct computed *computed, struct computed_flow *flow)
{
    ASSERT(flow->sources_len == 0);
    for (uint32_t i = 0; i < flow->plan->nodes_len; i++) {
        const struct plan_node *node = &flow->plan->nodes[i];
        if (node->op == PLAN_SOURCE) {
            source_add(flow, node->import.id);
        }
        const struct computed_export *export =
            node->op == PLAN_INDEX ? u64map_get(&computed->exports, node->import.id) : NULL;
        const struct computed_flow *from =
            export != NULL ? u64map_get(&computed->flows, export->dataflow) : NULL;
        for (size_t s = 0; from != NULL && s < from->sources_len; s++) {
            source_add(flow, from->sources[s]);
        }
    }
}

/* Of one worker: what it said, or what it follows. */
static uint64_t worker_upper(const struct computed *computed, const struct computed_export *export,
                             uint32_t local)
{
    const struct computed_flow *flow = u64map_get(&computed->flows, export->dataflow);
    if (!export->follows[local] || flow == NULL) {
        return export->uppers[local];
    }
    uint64_t upper = FRONTIER_EMPTY;
    for (size_t i = 0; i < flow->sources_len; i++) {
        uint64_t fed = fed_upper(computed, flow->sources[i], local);
        upper = fed < upper ? fed : upper;
    }
    return upper > export->uppers[local] ? upper : export->uppers[local];
}

uint64_t computed_export_upper(const struct computed *computed,
                               const struct computed_export *export)
{
    ASSERT(export->uppers != NULL && computed->config.workers > 0);
    uint64_t upper = FRONTIER_EMPTY;
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        uint64_t one = worker_upper(computed, export, w);
        upper = one < upper ? one : upper;
    }
    return upper;
}

/* Notes that an export has something to tell; twice is once. */
static void mark_moved(struct computed *computed, struct computed_export *export)
{
    if (!export->moved) {
        export->moved = true;
        *VEC_PUSH(computed, moved) = export->id;
    }
}

/*
 * One worker's frontier of an export: monotone within an incarnation, so that news that were
 * overtaken on their way change nothing.
 */
void computed_on_frontier(struct computed *computed, uint32_t local,
                          const struct frontier_news *news)
{
    ASSERT(local < computed->config.workers);
    struct computed_export *export = u64map_get(&computed->exports, news->id);
    if (export == NULL || export->incarnation != news->incarnation) {
        return;
    }
    uint64_t *upper = &export->uppers[local];
    *upper = news->upper > *upper ? news->upper : *upper;
    export->follows[local] = news->follows;
    export->changed = export->changed || news->changed;
    mark_moved(computed, export);
}

/* One export's frontier, if this session has not heard it and cannot know it. */
static void tell_export(struct computed *computed, struct computed_export *export,
                        tailrace_v1_Frontiers *out)
{
    uint64_t upper = computed_export_upper(computed, export);
    bool follows = true;
    for (uint32_t w = 0; w < computed->config.workers; w++) {
        follows = follows && export->follows[w];
    }
    bool known = export->sent && follows == export->follows_sent && !export->changed &&
                 (follows || upper == export->upper_sent);
    if (upper == 0 || known) {
        return;
    }
    out->frontiers[out->frontiers_count++] = (tailrace_v1_Frontier){.id = export->id,
                                                                    .upper = upper,
                                                                    .since = export->since,
                                                                    .follows = follows,
                                                                    .changed = export->changed};
    export->sent = true;
    export->upper_sent = upper;
    export->follows_sent = follows;
    export->changed = false;
}

/* ---- telling --------------------------------------------------------------------------------- */

static void take_sources(struct computed *computed, tailrace_v1_Frontiers *out)
{
    for (size_t i = 0; i < computed->sources_moved_len; i++) {
        struct computed_progress *p =
            u64map_get(&computed->sources, computed->sources_moved[i]);
        if (p != NULL && p->moved) {
            p->moved = false;
            tell_source(computed, p, out);
        }
    }
    computed->sources_moved_len = 0;
}

static void take_exports(struct computed *computed, tailrace_v1_Frontiers *out)
{
    for (size_t i = 0; i < computed->moved_len; i++) {
        struct computed_export *export = u64map_get(&computed->exports, computed->moved[i]);
        if (export == NULL || !export->moved) {
            continue; /* dropped meanwhile, perhaps created again */
        }
        export->moved = false;
        if (out != NULL) {
            tell_export(computed, export, out);
        }
    }
    computed->moved_len = 0;
}

/*
 * What moved since it was last told, in one message: workers report once a turn of their loops, so
 * this is at most as often. Without a session that has said what must run, nobody hears it: the
 * next one is told of everything.
 */
void computed_frontiers_flush(struct computed *computed)
{
    bool heard = !computed->initializing && runtime_in_session(computed->runtime);
    tailrace_v1_ComputeResponse response = {0};
    response.which_response = tailrace_v1_ComputeResponse_frontiers_tag;
    tailrace_v1_Frontiers *out = &response.response.frontiers;
    out->frontiers = mem_zalloc((computed->moved_len + 1) * sizeof(out->frontiers[0]));
    out->sources = mem_zalloc((computed->sources_moved_len + 1) * sizeof(out->sources[0]));
    size_t most = computed->moved_len;
    take_sources(computed, heard ? out : NULL);
    take_exports(computed, heard ? out : NULL);
    ASSERT(out->frontiers_count <= most);
    if (out->frontiers_count + out->sources_count > 0) {
        runtime_send(computed->runtime, tailrace_v1_ComputeResponse_fields, &response);
    }
    free(out->frontiers);
    free(out->sources);
}

void computed_frontiers_forget_session(struct computed *computed)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->exports, &at, &id, &value)) {
        ((struct computed_export *)value)->sent = false;
    }
    at = 0;
    while (u64map_next(&computed->sources, &at, &id, &value)) {
        ((struct computed_progress *)value)->upper_sent = 0;
    }
}

void computed_frontiers_tell_all(struct computed *computed)
{
    ASSERT(!computed->initializing);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&computed->exports, &at, &id, &value)) {
        mark_moved(computed, value);
    }
    at = 0;
    while (u64map_next(&computed->sources, &at, &id, &value)) {
        mark_source(computed, value);
    }
    computed_frontiers_flush(computed);
}
