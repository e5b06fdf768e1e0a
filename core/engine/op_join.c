/*
 * Inner equi-join (without keys: cross join). Both inputs are arranged by key. In a pass over
 * [frontier, upper) with changes dL and dR the output is
 *
 *     dL x R(before the pass), then  L(after the pass) x dR
 *
 * each pair at the later of its two times. That is the whole difference, because the output is
 * bilinear; no order of times within the pass is needed. Resumes anywhere, even among the matches
 * of one row.
 */
#include "core/engine/probe.h"

enum { MAINTAIN_BUDGET = 1024 };

/* Where the pass is lets work stop after any match and go on there in the next step. */
struct join {
    struct arrange side[2];
    const uint32_t *keys[2];
    uint32_t keys_len;
    bool null_equal;
    struct intake intake;
    /* Where the pass is: the input, its chunk and row, and the matches emitted for that row. */
    uint32_t port, chunk, row;
    uint32_t matches_done;
    size_t match_at;
    struct probe probe; /* of the chunk's next rows */
};

/* ---- output ---------------------------------------------------------------------------------- */

/* Rows are kept encoded and decoded on output: the columns of both sides in a row. */
static void emit_pair(struct op *op, const uint8_t *left, const uint8_t *right, uint64_t time,
                      int64_t diff)
{
    ASSERT(op->cols == op->ports[0].cols + op->ports[1].cols && time >= op->frontier);
    struct batch_builder *out = op_ok(op);
    batch_decode_row(left, op->ports[0].kinds, op->ports[0].cols, out, 0);
    batch_decode_row(right, op->ports[1].kinds, op->ports[1].cols, out, op->ports[0].cols);
    batch_builder_end_row(out, time, diff);
    op_row_done(op);
}

/* Modulo 2^64, as all diffs are. */
static int64_t product(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/*
 * Emits the row's matches on the other side from where it stopped; true when out of fuel.
 * matches_done and match_at say how far the row at hand has come: match_at is where the next one
 * lies in the key's list. The list does not change meanwhile, as the row joins its own side only
 * afterwards.
 */
static bool emit_matches(struct op *op, const struct htable_entry *entry, uint64_t time,
                         int64_t diff)
{
    struct join *join = op->state;
    const struct arrange_key *key = arrange_key(entry);
    ASSERT(join->matches_done <= key->count && join->match_at <= key->used);
    while (join->matches_done < key->count) {
        const struct arrange_update *match =
            (const struct arrange_update *)(key->data + join->match_at);
        const uint8_t *own = probe_bytes(&join->probe).data;
        uint64_t at = match->time > time ? match->time : time;
        emit_pair(op, join->port == 0 ? own : match->row, join->port == 0 ? match->row : own, at,
                  product(diff, match->diff));
        join->match_at += arrange_update_size(match->len);
        join->matches_done++;
        if (fuel_spend(op->engine, 1) && join->matches_done < key->count) {
            return true;
        }
    }
    return false;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/*
 * One row: its matches, then it joins its side. True when out of fuel amid the matches. Rows with a
 * NULL key match nothing, unless the plan says that NULLs are equal, and need not be kept.
 */
static bool join_row(struct op *op, const struct batch *b, uint32_t row)
{
    struct join *join = op->state;
    const uint32_t *keys = join->keys[join->port];
    ASSERT(join->port < 2 && row < b->rows && join->probe.rows[join->probe.at] == row);
    if (!join->null_equal && op_key_has_null(b, row, keys, join->keys_len)) {
        return false;
    }
    uint64_t hash = probe_hash(&join->probe);
    struct probe_span key = probe_key(&join->probe);
    struct probe_span bytes = probe_bytes(&join->probe);
    uint64_t time = batch_time(b, row);
    int64_t diff = batch_diff(b, row);
    const struct htable_entry *entry =
        arrange_find(&join->side[1 - join->port], hash, key.data, key.len);
    if (entry != NULL && emit_matches(op, entry, time, diff)) {
        return true;
    }
    arrange_insert(&join->side[join->port], hash, key.data, key.len, bytes.data, bytes.len, time,
                   diff);
    join->matches_done = 0;
    join->match_at = 0;
    return false;
}

/* A row looks into the other side and is added to its own. */
static void fill_probe(struct join *join, const struct batch *b)
{
    ASSERT(join->matches_done == 0 && join->row < b->rows);
    const struct probe_spec spec = {
        .keys = join->keys[join->port], .keys_len = join->keys_len, .whole = true};
    probe_fill(&join->probe, b, join->row, &spec);
    probe_load_arranged(&join->probe, &join->side[0]);
    probe_load_arranged(&join->probe, &join->side[1]);
}

/*
 * Left changes first, each against the old right side; then right changes against the new left
 * side.
 */
static bool run_pass(struct op *op)
{
    struct join *join = op->state;
    struct intake *intake = &join->intake;
    ASSERT(intake->open && join->port <= 2);
    for (; join->port < 2; join->port++, join->chunk = 0) {
        uint32_t first = intake->port_start[join->port];
        uint32_t end = intake->port_start[join->port + 1];
        for (; first + join->chunk < end; join->chunk++, join->row = 0) {
            const struct batch *b = &intake->list.chunks[first + join->chunk]->batch;
            for (; join->row < b->rows; join->row++) {
                if (fuel_spend(op->engine, 1)) {
                    return true;
                }
                if (probe_is_empty(&join->probe)) {
                    fill_probe(join, b);
                }
                if (join_row(op, b, join->row)) {
                    return true;
                }
                probe_next(&join->probe);
            }
            intake_drop(intake, first + join->chunk);
        }
    }
    return false;
}

/*
 * The empty frontier is no time: an arrangement nobody will change is compacted to the last time.
 */
static void advance_since(struct join *join, uint64_t since)
{
    since = since > TIME_MAX ? TIME_MAX : since;
    for (int s = 0; s < 2; s++) {
        if (since > join->side[s].since) {
            arrange_set_since(&join->side[s], since);
        }
    }
}

/* Between passes: compaction of keys that had changes at several times. True when more is due. */
static bool maintain(struct op *op)
{
    struct join *join = op->state;
    bool more = arrange_maintain(&join->side[0], MAINTAIN_BUDGET);
    more |= arrange_maintain(&join->side[1], MAINTAIN_BUDGET);
    fuel_spend(op->engine, more ? MAINTAIN_BUDGET : 1);
    op->arranged_rows = join->side[0].updates + join->side[1].updates;
    return more;
}

/*
 * The frontier moves only when the whole pass is through: until then its output may lie anywhere in
 * [frontier, upper).
 */
static bool join_work(struct op *op)
{
    struct join *join = op->state;
    op_forward_errors(op);
    if (!join->intake.open) {
        if (!intake_open(&join->intake, op, INTAKE_CHUNKS) &&
            !intake_open_part(&join->intake, op, INTAKE_CHUNKS, EARLY_ROWS)) {
            return maintain(op);
        }
        /* What is arranged lies before the pass's first time: it need not be told apart. */
        advance_since(join, intake_first_time(&join->intake));
        join->port = join->chunk = join->row = 0;
    }
    if (run_pass(op)) {
        return true;
    }
    ASSERT(join->matches_done == 0 && probe_is_empty(&join->probe));
    uint64_t upper = join->intake.upper;
    intake_close(&join->intake);
    if (!join->intake.part) {
        op_advance(op, upper);
        advance_since(join, upper);
    }
    return maintain(op) || op_input_frontier(op) > op->frontier;
}

static void join_release(struct op *op)
{
    struct join *join = op->state;
    arrange_free(&join->side[0]);
    arrange_free(&join->side[1]);
    intake_free(&join->intake);
    probe_free(&join->probe);
    free(join);
}

/*
 * Both ports are fed by the hash of the key columns, so that matches meet on one worker. Without
 * key columns all rows go to one worker (route_rows).
 */
void op_make_join(struct op *op)
{
    ASSERT(op->ports_len == 2 && op->node->join.kind == PLAN_JOIN_INNER);
    static const struct op_class class = {"join", join_work, join_release};
    struct join *join = MEM_NEW(struct join);
    const struct plan_node *node = op->node;
    op->class = &class;
    op->state = join;
    join->keys_len = node->join.keys_len;
    join->keys[0] = node->join.left_keys;
    join->keys[1] = node->join.right_keys;
    join->null_equal = node->join.null_equal;
    for (uint32_t p = 0; p < 2; p++) {
        arrange_init(&join->side[p], &op->account);
        engine_exchange_set_up(op, p, ROUTE_KEYS, join->keys[p], join->keys_len, false);
    }
}
