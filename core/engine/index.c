/*
 * Index exports: the arrangement, who holds it, who follows it.
 *
 * Two sinces: the logical one is what allow_compaction gave; reads below are refused. The one of
 * the arrangement (physical) is never beyond it, nor beyond what a scan in progress or a pending
 * peek needs, nor beyond the last complete time: so times at or after the frontier keep apart from
 * those before, which is what lets a scan tell what a later follower will be sent.
 */
#include "core/base/hash.h"
#include "core/engine/index.h"

enum { MAINTAIN_BUDGET = 1024 };

/* ---- since ----------------------------------------------------------------------------------- */

/* Called whenever one of its limits moved: the frontier, a hold, a peek, the controller's wish. */
void index_update_since(struct index_op *index)
{
    uint64_t frontier = index->op->frontier;
    uint64_t since = index->since;
    uint64_t complete = frontier > 0 ? frontier - 1 : 0;
    since = complete < since ? complete : since;
    for (size_t i = 0; i < index->holds_len; i++) {
        since = index->holds[i].time < since ? index->holds[i].time : since;
    }
    uint64_t peeks = peek_hold(index);
    since = peeks < since ? peeks : since;
    ASSERT(since <= index->since && index->ok.since == index->err.since);
    if (since > index->ok.since) {
        arrange_set_since(&index->ok, since);
        arrange_set_since(&index->err, since);
        ASSERT(since < frontier || frontier == 0); /* a follower's times stay apart */
    }
}

struct op *index_find(struct engine *engine, uint64_t id)
{
    return u64map_get(&engine->indexes, id);
}

uint64_t index_since(const struct op *op)
{
    return ((const struct index_op *)op->state)->since;
}

uint64_t index_frontier(const struct op *op)
{
    return op->frontier;
}

uint64_t index_upper(const struct op *op)
{
    const struct index_op *index = op->state;
    if (index->intake.open) {
        return index->intake.upper;
    }
    return index->intake.parts ? op->frontier + 1 : op->frontier;
}

/*
 * Earlier than before is ignored: since only moves forward. The index runs to compact what it now
 * may.
 */
void index_set_since(struct op *op, uint64_t since)
{
    struct index_op *index = op->state;
    if (since > index->since) {
        index->since = since;
        index_update_since(index);
        op_activate(op);
    }
}

/* A holder holds once; holder is only compared, never followed. */
void index_hold(struct op *op, const void *holder, uint64_t time)
{
    ASSERT(holder != NULL);
    struct index_op *index = op->state;
    ASSERT(time >= index->ok.since && !index->closed);
    *VEC_PUSH(index, holds) = (struct hold){.holder = holder, .time = time};
}

/* Without a hold nothing happens: imports release when they are done and again when freed. */
void index_release(struct op *op, const void *holder)
{
    struct index_op *index = op->state;
    for (size_t i = 0; i < index->holds_len; i++) {
        if (index->holds[i].holder == holder) {
            index->holds[i] = index->holds[--index->holds_len];
            index_update_since(index);
            op_activate(op);
            return;
        }
    }
}

/* No maintenance is asked for when nothing waits for it. */
void index_move_hold(struct op *op, const void *holder, uint64_t time)
{
    struct index_op *index = op->state;
    struct hold *hold = NULL;
    for (size_t i = 0; i < index->holds_len && hold == NULL; i++) {
        hold = index->holds[i].holder == holder ? &index->holds[i] : NULL;
    }
    if (hold == NULL) {
        index_hold(op, holder, time);
        return;
    }
    ASSERT(time >= hold->time);
    hold->time = time;
    index_update_since(index);
    if (index->ok.dirty_len > 0 || index->err.dirty_len > 0) {
        op_activate(op);
    }
}

const uint32_t *index_keys(const struct op *op, uint32_t *len)
{
    const struct plan_export *export = ((const struct index_op *)op->state)->export;
    *len = export->keys_len;
    return export->keys;
}

struct arrange *index_arrange(struct op *op, bool err)
{
    struct index_op *index = op->state;
    return err ? &index->err : &index->ok;
}

/* ---- followers ------------------------------------------------------------------------------- */

void index_follow(struct op *op, struct op *follower)
{
    ASSERT(follower->dataflow != op->dataflow);
    struct index_op *index = op->state;
    ASSERT(!index->closed && follower->ports_len == 1);
    *VEC_PUSH(index, followers) = follower;
}

/*
 * A follower that is not there would be a bug of the import. Order is kept: it decides the order of
 * delivery.
 */
void index_unfollow(struct op *op, struct op *follower)
{
    struct index_op *index = op->state;
    for (size_t i = 0; i < index->followers_len; i++) {
        if (index->followers[i] == follower) {
            index->followers_now -= i < index->followers_now;
            memmove(&index->followers[i], &index->followers[i + 1],
                    (--index->followers_len - i) * sizeof(index->followers[0]));
            return;
        }
    }
    UNREACHABLE();
}

/* By reference: however many follow, the rows are there once. */
static void tell_followers(struct index_op *index, const struct chunk_list *list, bool err)
{
    for (size_t f = 0; f < index->followers_now; f++) {
        for (size_t i = 0; i < list->chunks_len; i++) {
            op_port_push(index->followers[f], 0, chunk_ref(list->chunks[i]), err);
        }
    }
}

/* ---- taking in ------------------------------------------------------------------------------- */

/* Changes at or beyond until are of no interest to anybody. */
static void insert_row(struct index_op *index, const struct batch *b, uint32_t row)
{
    const struct plan_export *export = index->export;
    uint64_t time = batch_time(b, row);
    ASSERT(time >= index->op->frontier);
    if (time >= export->until) {
        return;
    }
    struct probe_span key = probe_key(&index->probe);
    struct probe_span bytes = probe_bytes(&index->probe);
    arrange_insert(&index->ok, probe_hash(&index->probe), key.data, key.len, bytes.data,
                   bytes.len, time, batch_diff(b, row));
}

/*
 * Keyed by the whole row, so that copies of an error add up. Errors are few: this is not fuelled.
 */
static void insert_errors(struct index_op *index, const struct chunk_list *list)
{
    ASSERT(index->intake.open);
    for (size_t c = 0; c < list->chunks_len; c++) {
        const struct batch *b = &list->chunks[c]->batch;
        for (uint32_t row = 0; row < b->rows; row++) {
            buf_clear(&index->row);
            batch_encode_row(b, row, NULL, 0, false, &index->row);
            uint64_t time = batch_time(b, row);
            if (time < index->export->until) {
                const struct buf *bytes = &index->row;
                arrange_insert(&index->err, hash_bytes(bytes->data, bytes->len), bytes->data,
                               bytes->len, bytes->data, bytes->len, time, batch_diff(b, row));
            }
        }
    }
}

/* Complete at until: then the frontier is empty for the host. */
static void report(struct index_op *index)
{
    uint64_t frontier = index->op->frontier;
    frontier = frontier >= index->export->until ? FRONTIER_EMPTY : frontier;
    index->reported = true;
    op_export_report(index->op, index->export->id, frontier);
}

/*
 * All of a pass is in: the frontier moves here and at the followers. Only now: half a pass would
 * show readers half of a time's changes.
 */
static void finish_pass(struct index_op *index)
{
    struct op *op = index->op;
    struct chunk_list errors = {0};
    ASSERT(index->intake.open && index->intake.upper > op->frontier);
    op_port_take(op, &op->ports[0], true, index->intake.upper, &errors);
    insert_errors(index, &errors);
    bool changed = index->intake.list.chunks_len > 0 || errors.chunks_len > 0;
    tell_followers(index, &index->intake.list, false);
    tell_followers(index, &errors, true);
    chunk_list_free(&errors);
    op->frontier = index->intake.upper;
    intake_close(&index->intake);
    for (size_t f = 0; f < index->followers_len; f++) {
        /* One at rest asks when it is awake, unless it was just given something. */
        if (!index->followers[f]->dataflow->rests || changed) {
            op_port_set_frontier(index->followers[f], 0, op->frontier);
        }
        if (f >= index->followers_now) {
            op_activate(index->followers[f]); /* what it was made to scan is there */
        }
    }
    op->arranged_rows = index->ok.updates + index->err.updates;
    index_update_since(index);
    report(index);
}

static void fill_probe(struct index_op *index)
{
    const struct probe_spec spec = {
        .keys = index->export->keys, .keys_len = index->export->keys_len, .whole = true};
    probe_fill_next(&index->probe, &index->intake, &spec);
    probe_load_arranged(&index->probe, &index->ok);
}

/*
 * A follower is told of whole passes, and not of parts. Who comes between two parts waits for the
 * end of their time, as for that of a pass, and finds it in the arrangement; and so do all when a
 * snapshot begins to come, since there is nothing before it that they could find twice.
 */
static bool begin_part(struct index_op *index)
{
    struct intake *intake = &index->intake;
    struct op *op = index->op;
    bool first = !intake->parts;
    bool snapshot = op->frontier == op->dataflow->as_of;
    if (first && index->followers_len > 0 && !snapshot) {
        return false;
    }
    if (!intake_open_part(intake, op, INTAKE_BY_TIME, EARLY_ROWS)) {
        return false;
    }
    for (size_t f = 0; first && f < index->followers_len; f++) {
        import_begin(index->followers[f]);
    }
    index->followers_now = 0;
    return true;
}

static bool begin_pass(struct index_op *index)
{
    struct intake *intake = &index->intake;
    bool parts = intake->parts;
    if (!intake_open(intake, index->op, INTAKE_BY_TIME)) {
        return begin_part(index);
    }
    index->followers_now = parts ? 0 : index->followers_len;
    intake->keep = index->followers_now > 0; /* they get the chunks in the end */
    return true;
}

/* True when out of fuel before the end. */
static bool take_in(struct index_op *index)
{
    struct intake *intake = &index->intake;
    if (!intake->open && !begin_pass(index)) {
        return false;
    }
    while (!intake_is_done(intake)) {
        if (fuel_spend(index->op->engine, 1)) {
            return true;
        }
        if (probe_is_empty(&index->probe)) {
            fill_probe(index);
        }
        struct intake_ref ref = intake_ref(intake);
        insert_row(index, intake_batch(intake, &ref), ref.row);
        intake_next(intake);
        probe_next(&index->probe);
    }
    if (intake->part) {
        intake_close(intake);
    } else {
        finish_pass(index);
    }
    return false;
}

/*
 * Taking in goes before reading, and both before maintenance, which can wait. A peek that runs out
 * of fuel lets the index take in more before it goes on: its time is held, so the answer does not
 * change.
 */
static bool index_work(struct op *op)
{
    struct index_op *index = op->state;
    if (!index->reported) {
        report(index);
    }
    if (take_in(index) || peek_serve(index)) {
        return true;
    }
    bool more = arrange_maintain(&index->ok, MAINTAIN_BUDGET);
    more |= arrange_maintain(&index->err, MAINTAIN_BUDGET);
    fuel_spend(op->engine, more ? MAINTAIN_BUDGET : 1);
    op->arranged_rows = index->ok.updates + index->err.updates;
    return more || op_input_frontier(op) > op->frontier;
}

/* Followers and holds belong to importers, which are freed before (dataflow_free). */
static void index_free(struct op *op)
{
    struct index_op *index = op->state;
    index_close(op, ERR_NOT_FOUND, "the index was dropped");
    ASSERT(index->followers_len == 0 && index->holds_len == 0);
    arrange_free(&index->ok);
    arrange_free(&index->err);
    intake_free(&index->intake);
    probe_free(&index->probe);
    buf_free(&index->row);
    free(index->holds);
    free(index->followers);
    free(index->peeks);
    free(index);
}

/*
 * Rows are fed by key, errors too: so a key's rows are on one worker, where a peek by key finds
 * them.
 */
void op_make_index(struct op *op, const struct plan_export *export)
{
    static const struct op_class class = {"index", index_work, index_free};
    struct index_op *index = MEM_NEW(struct index_op);
    index->op = op;
    index->export = export;
    index->types = op->dataflow->plan->nodes[export->node].schema.types;
    index->since = op->dataflow->as_of;
    ASSERT(export->keys_len <= BATCH_COLS_MAX);
    arrange_init(&index->ok, &op->account);
    arrange_init(&index->err, &op->account);
    op->class = &class;
    op->state = index;
    engine_exchange_set_up(op, 0, ROUTE_KEYS, export->keys, export->keys_len, true);
}

/* Who waits for the end of a time's parts goes on waiting, so that time ends a pass. */
void index_clear(struct op *op)
{
    struct index_op *index = op->state;
    bool parts = index->intake.parts;
    ASSERT(op->frontier == op->dataflow->as_of);
    for (int err = 0; err < 2; err++) {
        struct arrange *arrange = err ? &index->err : &index->ok;
        uint64_t since = arrange->since;
        arrange_free(arrange);
        arrange_init(arrange, &op->account);
        arrange_set_since(arrange, since);
    }
    intake_free(&index->intake);
    probe_free(&index->probe);
    index->intake.parts = parts;
    index->followers_now = 0;
}

void index_restart(struct op *op)
{
    struct index_op *index = op->state;
    const struct plan_export *export = index->export;
    ASSERT(index->op == op && index->ok.table.len == 0);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, export->keys, export->keys_len, true);
}

/* A failed dataflow takes its importers along; a dropped one lives on for them, until it fails. */
void index_close(struct op *op, enum err_code code, const char *why)
{
    ASSERT(code != 0 && why != NULL);
    struct index_op *index = op->state;
    peek_close(index, code, why);
    if (op->dataflow->failed != ERR_OK) {
        for (size_t f = 0; f < index->followers_len; f++) {
            op_fail(index->followers[f], err_new(ERR_UNAVAILABLE, "%s", why));
        }
    }
    index->closed = true;
    if (index->since < TIME_MAX) { /* nobody allows compaction any more: what is held decides */
        index->since = TIME_MAX;
        index_update_since(index);
    }
}
