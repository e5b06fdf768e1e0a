/*
 * Left, semi and anti joins. With p(t) = "the right rows of a key add up to more than zero at t",
 *
 *     semi: L where p        anti: L where not p        left: (L x R) + (L where not p), padded
 *
 * whose difference at time t is dL(t) under p(t), plus L(before t) where p changes. So a pass goes
 * through its times in order, and at each time: right changes first (and for left joins their
 * matches with L before t), then the keys whose p changed, then left changes.
 */
#include "core/engine/probe.h"

enum { MAINTAIN_BUDGET = 1024 };
enum stage { STAGE_GROUP, STAGE_RIGHT, STAGE_FLIPS, STAGE_LEFT };

struct touched {
    struct htable_entry *entry; /* of the right arrangement, pinned */
    bool present;              /* p before this time */
};

/*
 * All state of a pass lies here, so that work can stop between any two rows and go on in the next
 * step.
 */
struct outer {
    enum plan_join_kind kind;
    struct arrange left, right;
    const uint32_t *left_keys, *right_keys;
    uint32_t keys_len;
    bool null_equal;
    struct intake intake;
    enum stage stage;
    size_t left_at, left_end, right_at, right_end; /* refs of the time at hand */
    struct touched *touched;
    size_t touched_len, touched_cap;
    size_t flips_done;
    struct probe probe; /* of the next refs of the stage */
};

/*
 * p of the head of this file: a NULL entry is a key without right rows. net is the sum over all
 * times, which is the present one, as later times have not been taken in.
 */
static bool is_present(const struct htable_entry *entry)
{
    return entry != NULL && arrange_key(entry)->net > 0;
}

/* Modulo 2^64, as all diffs are. */
static int64_t product(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* right NULL: padded with NULLs, or not part of the output (semi, anti). */
static void emit(struct op *op, const uint8_t *left, const uint8_t *right, uint64_t time,
                 int64_t diff)
{
    struct batch_builder *out = op_ok(op);
    uint32_t left_cols = op->ports[0].cols;
    ASSERT(left_cols <= op->cols && time >= op->frontier);
    batch_decode_row(left, op->ports[0].kinds, left_cols, out, 0);
    if (right != NULL) {
        batch_decode_row(right, op->ports[1].kinds, op->ports[1].cols, out, left_cols);
    }
    struct datum null = {.null = true};
    for (uint32_t c = left_cols; right == NULL && c < op->cols; c++) {
        batch_builder_datum(out, c, &null);
    }
    batch_builder_end_row(out, time, diff);
    op_row_done(op);
    fuel_spend(op->engine, 1);
}

/* ---- the three stages of a time -------------------------------------------------------------- */

/* The right side's entry of the row's key, pinned until its flip was looked at. */
static void touch(struct outer *outer, uint64_t hash, struct probe_span key)
{
    ASSERT(outer->stage == STAGE_RIGHT);
    struct htable_entry *entry =
        arrange_find(&outer->right, hash, key.data, key.len);
    if (entry != NULL && (entry->flags & ARRANGE_PINNED) != 0) {
        return;
    }
    entry = arrange_pin(&outer->right, hash, key.data, key.len);
    *VEC_PUSH(outer, touched) = (struct touched){.entry = entry, .present = is_present(entry)};
}

/* For left joins dR x L(before the time) goes out here; the padded rows follow from the flips. */
static void take_right(struct op *op, const struct intake_ref *ref)
{
    struct outer *outer = op->state;
    const struct batch *b = intake_batch(&outer->intake, ref);
    int64_t diff = batch_diff(b, ref->row);
    if (!outer->null_equal && op_key_has_null(b, ref->row, outer->right_keys, outer->keys_len)) {
        return;
    }
    uint64_t hash = probe_hash(&outer->probe);
    struct probe_span key = probe_key(&outer->probe);
    struct probe_span bytes = probe_bytes(&outer->probe);
    if (outer->kind == PLAN_JOIN_LEFT) { /* the others need only how many there are */
        const struct htable_entry *entry = arrange_find(&outer->left, hash, key.data, key.len);
        const struct arrange_key *left = entry != NULL ? arrange_key(entry) : NULL;
        const struct arrange_update *match = left != NULL ? arrange_first(left) : NULL;
        for (uint32_t i = 0; left != NULL && i < left->count; i++, match = arrange_next(match)) {
            emit(op, match->row, bytes.data, ref->time, product(diff, match->diff));
        }
    }
    touch(outer, hash, key);
    arrange_insert(&outer->right, hash, key.data, key.len, bytes.data,
                   bytes.len, ref->time, diff);
}

/*
 * All right changes of the time are in: only now is it known whether the key came to have rows,
 * lost them, or merely changed some. Its left rows lie before this time (STAGE_LEFT comes later).
 */
static void flip(struct op *op, const struct touched *touched, uint64_t time)
{
    struct outer *outer = op->state;
    struct htable_entry *entry = touched->entry;
    bool present = is_present(entry);
    ASSERT((entry->flags & ARRANGE_PINNED) != 0);
    const struct htable_entry *left =
        present != touched->present
            ? arrange_find(&outer->left, entry->hash, htable_key(&outer->right.table, entry),
                           entry->key_len)
            : NULL;
    if (left != NULL) {
        const struct arrange_key *key = arrange_key(left);
        const struct arrange_update *row = arrange_first(key);
        bool add = present == (outer->kind == PLAN_JOIN_SEMI);
        for (uint32_t i = 0; i < key->count; i++, row = arrange_next(row)) {
            emit(op, row->row, NULL, time, product(row->diff, add ? 1 : -1));
        }
    }
    arrange_unpin(&outer->right, entry);
}

/* Against the right side of this time, which is complete. */
static void take_left(struct op *op, const struct intake_ref *ref)
{
    ASSERT(((struct outer *)op->state)->touched_len == 0); /* all flips are known */
    struct outer *outer = op->state;
    const struct batch *b = intake_batch(&outer->intake, ref);
    int64_t diff = batch_diff(b, ref->row);
    struct probe_span bytes = probe_bytes(&outer->probe);
    if (!outer->null_equal && op_key_has_null(b, ref->row, outer->left_keys, outer->keys_len)) {
        if (outer->kind != PLAN_JOIN_SEMI) {
            emit(op, bytes.data, NULL, ref->time, diff);
        }
        return;
    }
    uint64_t hash = probe_hash(&outer->probe);
    struct probe_span key = probe_key(&outer->probe);
    const struct htable_entry *entry = arrange_find(&outer->right, hash, key.data, key.len);
    const struct arrange_key *right = entry != NULL ? arrange_key(entry) : NULL;
    const struct arrange_update *match = right != NULL ? arrange_first(right) : NULL;
    bool pairs = outer->kind == PLAN_JOIN_LEFT && right != NULL;
    for (uint32_t i = 0; pairs && i < right->count; i++, match = arrange_next(match)) {
        emit(op, bytes.data, match->row, ref->time, product(diff, match->diff));
    }
    if (is_present(entry) == (outer->kind == PLAN_JOIN_SEMI)) {
        emit(op, bytes.data, NULL, ref->time, diff);
    }
    arrange_insert(&outer->left, hash, key.data, key.len, bytes.data,
                   bytes.len, ref->time, diff);
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/* The refs of the next time: the left ones, then the right ones. */
static void find_group(struct outer *outer)
{
    struct intake *intake = &outer->intake;
    uint64_t time = intake->refs[intake->at].time;
    /* All that is arranged counts at this time: earlier times need not be told apart. */
    arrange_set_since(&outer->left, time);
    arrange_set_since(&outer->right, time);
    outer->left_at = intake->at;
    while (intake->at < intake->refs_len && intake->refs[intake->at].time == time &&
           intake->refs[intake->at].port == 0) {
        intake->at++;
    }
    outer->left_end = outer->right_at = intake->at;
    while (intake->at < intake->refs_len && intake->refs[intake->at].time == time) {
        ASSERT(intake->refs[intake->at].port == 1);
        intake->at++;
    }
    outer->right_end = intake->at;
    ASSERT(outer->left_at <= outer->left_end && outer->left_end <= outer->right_end);
    ASSERT(outer->right_end > outer->left_at);
}

/* Of refs [from, to), all of one port. Of the right side only left joins keep the rows. */
static void fill_probe(struct outer *outer, size_t from, size_t to)
{
    const struct intake_ref *refs = &outer->intake.refs[from];
    bool right = refs->port == 1;
    ASSERT(from < to && refs->port == outer->intake.refs[to - 1].port);
    const struct probe_spec spec = {.keys = right ? outer->right_keys : outer->left_keys,
                                    .keys_len = outer->keys_len,
                                    .whole = !right || outer->kind == PLAN_JOIN_LEFT};
    probe_fill_refs(&outer->probe, &outer->intake, refs, to - from, &spec);
    probe_load_arranged(&outer->probe, &outer->left);
    probe_load_arranged(&outer->probe, &outer->right);
}

/* One row or key of the stage at hand; false when the stage is through. */
static bool run_one(struct op *op)
{
    struct outer *outer = op->state;
    const struct intake_ref *refs = outer->intake.refs;
    switch (outer->stage) {
    case STAGE_RIGHT:
        if (outer->right_at < outer->right_end) {
            if (probe_is_empty(&outer->probe)) {
                fill_probe(outer, outer->right_at, outer->right_end);
            }
            take_right(op, &refs[outer->right_at++]);
            probe_next(&outer->probe);
            return true;
        }
        return false;
    case STAGE_FLIPS:
        if (outer->flips_done < outer->touched_len) {
            flip(op, &outer->touched[outer->flips_done++], refs[outer->right_end - 1].time);
            return true;
        }
        outer->touched_len = outer->flips_done = 0;
        return false;
    case STAGE_LEFT:
        if (outer->left_at < outer->left_end) {
            if (probe_is_empty(&outer->probe)) {
                fill_probe(outer, outer->left_at, outer->left_end);
            }
            take_left(op, &refs[outer->left_at++]);
            probe_next(&outer->probe);
            return true;
        }
        return false;
    default:
        return false;
    }
}

/*
 * True when out of fuel before the end. Stages follow each other for one time, then the next time's
 * refs are looked for.
 */
static bool run_pass(struct op *op)
{
    struct outer *outer = op->state;
    for (;;) {
        if (outer->stage == STAGE_GROUP) {
            if (outer->intake.at == outer->intake.refs_len) {
                return false;
            }
            find_group(outer);
            outer->stage = STAGE_RIGHT;
        }
        if (fuel_spend(op->engine, 1)) {
            return true;
        }
        if (!run_one(op)) {
            outer->stage = outer->stage == STAGE_LEFT ? STAGE_GROUP : outer->stage + 1;
        }
    }
}

/* Between passes. True when more is due. */
static bool maintain(struct op *op)
{
    struct outer *outer = op->state;
    bool more = arrange_maintain(&outer->left, MAINTAIN_BUDGET);
    more |= arrange_maintain(&outer->right, MAINTAIN_BUDGET);
    fuel_spend(op->engine, more ? MAINTAIN_BUDGET : 1);
    op->arranged_rows = outer->left.updates + outer->right.updates;
    return more;
}

/*
 * An arrangement's since follows the times of the pass (find_group), not the frontier: it is the
 * same once a pass is through, and no reader but this operator exists.
 */
static bool outer_work(struct op *op)
{
    struct outer *outer = op->state;
    op_forward_errors(op);
    if (!outer->intake.open && !intake_open(&outer->intake, op, INTAKE_REFS)) {
        return maintain(op);
    }
    if (run_pass(op)) {
        return true;
    }
    uint64_t upper = outer->intake.upper;
    ASSERT(outer->touched_len == 0 && outer->stage == STAGE_GROUP);
    ASSERT(probe_is_empty(&outer->probe));
    intake_close(&outer->intake);
    op_advance(op, upper);
    return maintain(op) || op_input_frontier(op) > op->frontier;
}

static void outer_release(struct op *op)
{
    struct outer *outer = op->state;
    arrange_free(&outer->left);
    arrange_free(&outer->right);
    intake_free(&outer->intake);
    free(outer->touched);
    probe_free(&outer->probe);
    free(outer);
}

/*
 * Semi and anti joins keep of the right side only how many rows a key has: their rows are stored as
 * no bytes.
 */
void op_make_outer(struct op *op)
{
    ASSERT(op->ports_len == 2 && op->node->join.kind != PLAN_JOIN_INNER);
    static const struct op_class class = {"outer join", outer_work, outer_release};
    struct outer *outer = MEM_NEW(struct outer);
    const struct plan_node *node = op->node;
    op->class = &class;
    op->state = outer;
    outer->kind = (enum plan_join_kind)node->join.kind;
    outer->keys_len = node->join.keys_len;
    outer->left_keys = node->join.left_keys;
    outer->right_keys = node->join.right_keys;
    outer->null_equal = node->join.null_equal;
    arrange_init(&outer->left, &op->account);
    arrange_init(&outer->right, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, outer->left_keys, outer->keys_len, false);
    engine_exchange_set_up(op, 1, ROUTE_KEYS, outer->right_keys, outer->keys_len, false);
}
