/*
 * Reduce, distinct and threshold: state per group, no replay of its rows.
 *
 * A pass goes through its times in order. At each time the first change to a group saves what the
 * group puts out before; when all changes of the time are in, groups whose output is now another
 * retract the old one and add the new one. So output is minimal, and a group's transient states
 * (negative counts while a batch's changes come in any order) are never seen.
 */
#include "core/engine/probe.h"
#include "core/engine/reduce_state.h"

/* How many groups ahead of the one that is flushed are loaded: a large time has left the caches. */
enum { FLUSH_AHEAD = 16 };

/*
 * A group that changed at the time at hand, with its output before. The entry does not move and is
 * not removed before the time is flushed.
 */
struct touched {
    struct htable_entry *entry;
    enum group_output output; /* before this time */
    int64_t copies;
    size_t at, len;           /* in reduce->old */
};

/*
 * The state of the pass (time, flushing, touched, flushed) lets work stop between any two rows or
 * groups.
 */
struct reduce {
    struct reduce_layout layout;
    uint8_t op;            /* PLAN_REDUCE, PLAN_DISTINCT or PLAN_THRESHOLD */
    uint32_t *keys;        /* input columns */
    uint32_t keys_len;
    struct htable table;
    struct pool pool;
    struct intake intake;
    struct probe probe;    /* of the intake's next rows */
    bool flushing;         /* the changes of time are in, touched groups are being looked at */
    uint64_t time;
    struct touched *touched;
    size_t touched_len, touched_cap;
    size_t flushed;
    struct buf old;        /* outputs before this time, one after another */
    struct buf form, fresh;
    struct reduce_scratch scratch;
};

/* ---- the output of a group ------------------------------------------------------------------- */

/* A threshold keeps positive multiplicities as they are; distinct and reduce put out one row. */
static int64_t copies_of(const struct reduce *reduce, const struct group *group)
{
    if (reduce->op == PLAN_THRESHOLD) {
        return group->count;
    }
    return 1;
}

/*
 * Appends the output row (or "sqlstate NUL message") and says what it is. A distinct or threshold
 * of a negative count is nothing; an aggregate of it is an error, as no SQL result could be right.
 */
static enum group_output compute(const struct reduce *reduce, const struct htable_entry *entry,
                                 int64_t *copies, struct buf *out)
{
    const struct group *group = htable_payload(entry);
    const char *sqlstate = NULL;
    const char *message = NULL;
    bool strict = reduce->op == PLAN_REDUCE;
    *copies = 1;
    size_t start = out->len;
    ASSERT(entry->key_len <= UINT32_MAX / 2);
    bool negative = strict && reduce_is_negative(&reduce->layout, group);
    if (group->count <= 0 && !negative) {
        return GROUP_NOTHING;
    }
    const struct oset_node *form = reduce->layout.forms ? oset_first(&group->forms) : NULL;
    if (form != NULL) {
        buf_append(out, form->bytes, form->len);
    } else {
        buf_append(out, htable_key(&reduce->table, entry), entry->key_len);
    }
    if (negative) {
        sqlstate = "XX000";
        message = REDUCE_NEGATIVE;
    } else if (strict) {
        reduce_result(&reduce->layout, group, out, &sqlstate, &message);
    }
    if (sqlstate != NULL) {
        out->len = start;
        buf_append(out, sqlstate, strlen(sqlstate) + 1);
        buf_append(out, message, strlen(message) + 1);
        return GROUP_ERROR;
    }
    *copies = copies_of(reduce, group);
    return GROUP_ROW;
}

static void emit(struct op *op, enum group_output output, const uint8_t *data, int64_t diff)
{
    ASSERT(output != GROUP_ERROR || data != NULL); /* a row of no columns has no bytes */
    const struct reduce *reduce = op->state;
    if (output == GROUP_ROW) {
        batch_decode_row(data, op->kinds, op->cols, op_ok(op), 0);
        batch_builder_end_row(op_ok(op), reduce->time, diff);
        op_row_done(op);
    } else if (output == GROUP_ERROR) {
        const char *sqlstate = (const char *)data;
        const char *name = op->dataflow->plan->name;
        op_error(op, sqlstate, sqlstate + strlen(sqlstate) + 1, name != NULL ? name : "",
                 reduce->time, diff);
    }
}

/* ---- a time ---------------------------------------------------------------------------------- */

/*
 * At the group's first change of a time its output is kept. Later changes of the same time find it
 * marked and cost no more than a lookup.
 */
static struct group *touch(struct reduce *reduce)
{
    uint64_t hash = probe_hash(&reduce->probe);
    struct probe_span key = probe_key(&reduce->probe);
    struct htable_entry *entry = htable_find(&reduce->table, hash, key.data, key.len);
    if (entry == NULL) {
        entry = htable_add(&reduce->table, hash, key.data, key.len);
    }
    struct group *group = htable_payload(entry);
    if (group->touched == 0) {
        struct touched *touched = VEC_PUSH(reduce, touched);
        touched->entry = entry;
        touched->at = reduce->old.len;
        touched->output = compute(reduce, entry, &touched->copies, &reduce->old);
        touched->len = reduce->old.len - touched->at;
        group->touched = 1;
    }
    return group;
}

static void take_row(struct reduce *reduce, const struct batch *b, uint32_t row)
{
    ASSERT(!reduce->flushing && !probe_is_empty(&reduce->probe));
    int64_t diff = batch_diff(b, row);
    struct group *group = touch(reduce);
    group->count = (int64_t)((uint64_t)group->count + (uint64_t)diff);
    if (reduce->layout.forms) {
        buf_clear(&reduce->form);
        batch_encode_row(b, row, reduce->keys, reduce->keys_len, false, &reduce->form);
        oset_update(&group->forms, &reduce->pool, reduce->form.data, (uint32_t)reduce->form.len, 0,
                    diff);
    }
    reduce_update(&reduce->layout, group, &reduce->pool, b, row, diff, &reduce->scratch);
}

/*
 * Puts out the difference a group's changes made. Equal outputs cancel here, before anything is
 * emitted: a change that makes no difference is not seen.
 */
static void flush_group(struct op *op, const struct touched *touched)
{
    struct reduce *reduce = op->state;
    struct group *group = htable_payload(touched->entry);
    const uint8_t *old = reduce->old.data + touched->at;
    int64_t copies;
    ASSERT(touched->at + touched->len <= reduce->old.len && reduce->flushing);
    ASSERT(group->touched == 1);
    group->touched = 0;
    buf_clear(&reduce->fresh);
    enum group_output output = compute(reduce, touched->entry, &copies, &reduce->fresh);
    bool same = output == touched->output && reduce->fresh.len == touched->len &&
                (touched->len == 0 || memcmp(reduce->fresh.data, old, touched->len) == 0);
    if (!same) {
        emit(op, touched->output, old, -touched->copies);
        emit(op, output, reduce->fresh.data, copies);
    } else if (copies != touched->copies) {
        emit(op, output, old, copies - touched->copies);
    }
    if (reduce_is_empty(&reduce->layout, group)) {
        htable_remove(&reduce->table, touched->entry);
    }
}

/* True when out of fuel before the end. */
static bool flush_time(struct op *op)
{
    struct reduce *reduce = op->state;
    while (reduce->flushed < reduce->touched_len) {
        if (fuel_spend(op->engine, 1)) {
            return true;
        }
        if (reduce->flushed + FLUSH_AHEAD < reduce->touched_len) {
            __builtin_prefetch(reduce->touched[reduce->flushed + FLUSH_AHEAD].entry);
        }
        flush_group(op, &reduce->touched[reduce->flushed++]);
    }
    reduce->touched_len = 0;
    reduce->flushed = 0;
    buf_clear(&reduce->old);
    reduce->flushing = false;
    return false;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

static void fill_probe(struct reduce *reduce)
{
    ASSERT(reduce->intake.open);
    const struct probe_spec spec = {.keys = reduce->keys, .keys_len = reduce->keys_len};
    probe_fill_next(&reduce->probe, &reduce->intake, &spec);
    probe_load(&reduce->probe, &reduce->table);
}

/* True when out of fuel before the end. */
static bool run_pass(struct op *op)
{
    ASSERT(((struct reduce *)op->state)->intake.open);
    struct reduce *reduce = op->state;
    struct intake *intake = &reduce->intake;
    for (;;) {
        if (reduce->flushing && flush_time(op)) {
            return true;
        }
        bool done = intake_is_done(intake);
        if (done && reduce->touched_len == 0) {
            return false;
        }
        struct intake_ref ref = {0};
        if (!done) {
            ref = intake_ref(intake);
        }
        if (done && intake->part) {
            return false; /* more of this time comes */
        }
        if (reduce->touched_len > 0 && (done || ref.time != reduce->time)) {
            reduce->flushing = true;
            continue;
        }
        if (fuel_spend(op->engine, 1)) {
            return true;
        }
        if (probe_is_empty(&reduce->probe)) {
            fill_probe(reduce);
        }
        reduce->time = ref.time;
        take_row(reduce, intake_batch(intake, &ref), ref.row);
        intake_next(intake);
        probe_next(&reduce->probe);
    }
}

/* More to do at once when the inputs' frontier moved on while this pass was divided among steps. */
static bool reduce_work(struct op *op)
{
    struct reduce *reduce = op->state;
    op_forward_errors(op);
    struct intake *intake = &reduce->intake;
    if (!intake->open && !intake_open(intake, op, INTAKE_BY_TIME) &&
        !intake_open_part(intake, op, INTAKE_BY_TIME, EARLY_ROWS)) {
        return false;
    }
    if (run_pass(op)) {
        return true;
    }
    ASSERT(!reduce->flushing && probe_is_empty(&reduce->probe));
    intake_close(intake);
    op->arranged_rows = reduce->table.len;
    if (!intake->part) {
        ASSERT(reduce->touched_len == 0);
        op_advance(op, intake->upper);
    }
    return op_input_frontier(op) > op->frontier;
}

static void reduce_release(struct op *op)
{
    struct reduce *reduce = op->state;
    htable_clear(&reduce->table);
    pool_clear(&reduce->pool);
    reduce_layout_free(&reduce->layout);
    intake_free(&reduce->intake);
    free(reduce->keys);
    free(reduce->touched);
    buf_free(&reduce->old);
    probe_free(&reduce->probe);
    buf_free(&reduce->form);
    buf_free(&reduce->fresh);
    buf_free(&reduce->scratch.value);
    buf_free(&reduce->scratch.before);
    free(reduce);
}

/* Distinct and threshold are reductions by all columns. */
static void set_keys(struct reduce *reduce, const struct op *op)
{
    const struct plan_node *node = op->node;
    bool all = node->op != PLAN_REDUCE;
    reduce->keys_len = all ? op->cols : node->reduce.keys_len;
    ASSERT(reduce->keys_len <= BATCH_COLS_MAX);
    reduce->keys = mem_alloc(reduce->keys_len * sizeof(uint32_t));
    for (uint32_t i = 0; i < reduce->keys_len; i++) {
        reduce->keys[i] = all ? i : node->reduce.keys[i];
    }
}

/*
 * Errors of aggregates name the plan; groups live in the operator's own pool, so that dropping it
 * costs nothing per group.
 */
void op_make_reduce(struct op *op)
{
    ASSERT(op->ports_len == 1);
    static const struct op_class reduce_class = {"reduce", reduce_work, reduce_release};
    static const struct op_class distinct_class = {"distinct", reduce_work, reduce_release};
    static const struct op_class threshold_class = {"threshold", reduce_work, reduce_release};
    const struct plan_node *node = op->node;
    struct reduce *reduce = MEM_NEW(struct reduce);
    bool aggregates = node->op == PLAN_REDUCE;
    op->class = aggregates                   ? &reduce_class
                : node->op == PLAN_DISTINCT ? &distinct_class
                                            : &threshold_class;
    op->state = reduce;
    reduce->op = node->op;
    set_keys(reduce, op);
    reduce_layout_init(&reduce->layout, aggregates ? node->reduce.aggs : NULL,
                       aggregates ? node->reduce.aggs_len : 0, op->ports[0].kinds, op->kinds,
                       reduce->keys_len);
    pool_init(&reduce->pool, &op->account);
    htable_init(&reduce->table, reduce->layout.size, &reduce->pool, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, reduce->keys, reduce->keys_len, false);
}
