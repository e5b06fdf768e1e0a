/*
 * What a statement waits for, in words. A read waits until its inputs are complete beyond its time;
 * what holds them back may be far below: a view over a view over a source whose file is not there.
 * From the inputs of the query we go down, along what each object is defined over, to those that
 * are behind while nothing below them is: they are the cause. The same text serves the error of a
 * statement that is cancelled or times out, and mz_sessions while it waits.
 *
 *     source "later" (stalled since 2026-11-21 12:00:01.5+00: /data/later.csv does not exist)
 *     materialized view "m" (being computed on cluster "default")
 *
 * Runs on the adapter's loop; reads the catalog, the controllers' frontiers and the statuses that
 * were reported, changes nothing. The cost is one visit for each object below the query.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

enum { BLOCKED_NAMED_MAX = 5 }; /* causes named; people read this */

/* One look: what waits for which time, and what was found so far. */
struct look {
    const struct coord *coord;
    uint64_t time;       /* complete through it is enough; 0: anything reported is */
    struct u64map seen;  /* item id -> itself, so that each is looked at once */
    struct buf *out;
    size_t causes;       /* found; the first few are named */
    const char *hint;    /* what to do about the last one, or NULL */
};

/* As SQL prints a timestamptz. */
static void append_time(struct buf *out, uint64_t us)
{
    const struct type type = type_of(TYPE_TIMESTAMPTZ);
    const struct datum d = {.i = (int64_t)us};
    datum_print(&type, &d, out);
}

/* Begins a cause: 'source "s"'. False: enough were named. */
static bool begin_cause(struct look *l, const struct catalog_item *item)
{
    l->causes++;
    if (l->causes > BLOCKED_NAMED_MAX) {
        return false;
    }
    buf_printf(l->out, "%s%s \"%s\"", l->causes > 1 ? ", " : "", catalog_kind_name(item->kind),
               item->name);
    return true;
}

/* A table or source that is behind is always a cause: nothing is below it. */
static void look_at_collection(struct look *l, const struct catalog_item *item)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    ASSERT(item->kind == CATALOG_TABLE || item->kind == CATALOG_SOURCE);
    controller_collection_frontiers(l->coord->controller, item->id, &since, &upper);
    if (upper > l->time || !begin_cause(l, item)) {
        return;
    }
    const struct collection_status *st = u64map_get(&l->coord->statuses, item->id);
    if (st == NULL) {
        buf_append_str(l->out, " (storage has not reported it yet)");
        return;
    }
    buf_printf(l->out, " (%s since ", storage_status_name(st->status));
    append_time(l->out, st->since_us);
    buf_printf(l->out, "%s%s)", st->reason[0] != '\0' ? ": " : "", st->reason);
    l->hint = st->hint[0] != '\0' ? st->hint : l->hint;
}

static void look_at(struct look *l, uint64_t id);

/* A maintained object that is behind: because of something below, else because of its cluster. */
static void look_at_dataflow(struct look *l, const struct catalog_item *item)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    size_t before = l->causes;
    ASSERT(item->cluster != 0);
    if (controller_index_frontiers(l->coord->controller, item->cluster, item->id, &since,
                                   &upper) && upper > l->time) {
        return;
    }
    if (item->on != 0) {
        look_at(l, item->on);
    }
    for (size_t i = 0; i < item->depends_len; i++) {
        look_at(l, item->depends[i]);
    }
    if (l->causes > before || !begin_cause(l, item)) {
        return;
    }
    const struct catalog_cluster *k = catalog_cluster_id(l->coord->catalog, item->cluster);
    bool ready = controller_cluster_ready(l->coord->controller, item->cluster);
    buf_printf(l->out, ready ? " (being computed on cluster \"%s\")"
                             : " (no replica of cluster \"%s\" is ready)",
               k != NULL ? k->name : "?");
}

/* Views are passed through: they hold nothing and are never behind. */
static void look_at(struct look *l, uint64_t id)
{
    const struct catalog_item *item = catalog_item_id(l->coord->catalog, id);
    if (item == NULL || u64map_get(&l->seen, id) != NULL) {
        return; /* dropped meanwhile, or known */
    }
    u64map_put(&l->seen, id, (void *)item);
    switch (item->kind) {
    case CATALOG_TABLE:
    case CATALOG_SOURCE: look_at_collection(l, item); break;
    case CATALOG_VIEW:
        for (size_t i = 0; i < item->depends_len; i++) {
            look_at(l, item->depends[i]);
        }
        break;
    case CATALOG_MATERIALIZED_VIEW:
    case CATALOG_INDEX: look_at_dataflow(l, item); break;
    }
}

/* A read whose inputs are all complete still waits for the dataflow that computes it. */
static void describe_query(struct look *l, const struct sql_query *query, uint64_t cluster)
{
    for (uint32_t i = 0; i < query->collections_len; i++) {
        look_at(l, query->collections[i]);
    }
    for (uint32_t i = 0; i < query->indexes_len; i++) {
        look_at(l, query->indexes[i]);
    }
    if (l->causes > BLOCKED_NAMED_MAX) {
        buf_printf(l->out, " and %zu more", l->causes - BLOCKED_NAMED_MAX);
    }
    if (l->causes == 0) {
        const struct catalog_cluster *k = catalog_cluster_id(l->coord->catalog, cluster);
        bool ready = controller_cluster_ready(l->coord->controller, cluster);
        buf_printf(l->out, ready ? "its result to be computed on cluster \"%s\""
                                 : "a replica of cluster \"%s\" to be ready",
                   k != NULL ? k->name : "?");
    }
}

/* Also called for sessions of others (mz_sessions), hence const and without side effects. */
const char *blocked_describe(const struct session *s, struct buf *out)
{
    struct look l = {.coord = s->coord, .out = out};
    const struct session *holder;
    switch (s->run.state) {
    case RUN_WAIT:
        if (s->wait.source != 0) {
            source_wait_describe(s, out);
            break;
        }
        describe_query(&l, s->wait.query, s->wait.cluster);
        break;
    case RUN_READ:
        if (!read_needs_cluster(s->read->query)) {
            return NULL;
        }
        l.time = s->read->time;
        describe_query(&l, s->read->query, s->read->cluster);
        break;
    case RUN_LOCK:
        holder = write_holder(s->coord);
        if (holder == NULL) {
            buf_append_str(out, "writes before it");
        } else {
            buf_printf(out, "the change that session %u makes", holder->pid);
        }
        break;
    case RUN_SURVEY: buf_append_str(out, "the runtimes to say what they count"); break;
    case RUN_COMMIT: buf_append_str(out, "its writes to be durable"); break;
    default: break;
    }
    u64map_free(&l.seen);
    return l.hint;
}

/* An error of a statement that waited for nothing stays as it is. */
err_t blocked_explain(const struct session *s, err_t err)
{
    struct buf text = {0};
    ASSERT(err != ERR_OK);
    const char *hint = blocked_describe(s, &text);
    if (text.len > 0) {
        err = err_detail(err, "The statement waited for %s.", buf_cstr(&text));
    }
    if (hint != NULL) {
        err = err_hint(err, "%s", hint);
    }
    buf_free(&text);
    return err;
}
