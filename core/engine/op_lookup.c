/*
 * A lookup: each row of a stream at t with the rows an arrangement has of its key, through t or
 * before t (plan.h says what joins are made of it). The row's diff times theirs, at t.
 *
 * The arrangement runs ahead: it has times the stream has not reached, and it is not this
 * operator's. So each of its updates is judged by its own time, and since is held below the times
 * still to be read. Why t's rule is exact although since moves: what is read at t >= frontier, and
 * since is at most frontier - 1; so updates that since has made one lie all before t, or, at the
 * as_of, before which there is nothing, all at it.
 *
 * Resumes anywhere. The list of a key may change between two steps: what is left of it when the
 * fuel ends among the matches of a row is copied.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/probe.h"

struct lookup {
    struct op *of;              /* what is looked up in: lives longer */
    const struct arrange *rows; /* its rows */
    struct intake intake;
    uint32_t chunk, row; /* of the pass */
    struct probe probe;  /* of the chunk's next rows */
    struct buf rest;     /* matches of the row at hand still to be put out; empty: all of them */
    size_t rest_at;
};

/* Updates from before the as_of count as at it. */
static bool is_visible(const struct op *op, uint64_t time, uint64_t at)
{
    uint64_t as_of = op->dataflow->as_of;
    if (op->node->lookup.before) {
        return (time > as_of ? time : as_of) < at;
    }
    return time <= at;
}

/* Rows are kept encoded and decoded on output: the columns of both in a row. */
static void emit_pair(struct op *op, const uint8_t *match, uint64_t time, int64_t diff)
{
    const struct lookup *lookup = op->state;
    const struct port *ports = op->ports;
    ASSERT(op->cols == ports[0].cols + ports[1].cols && time >= op->frontier);
    struct batch_builder *out = op_ok(op);
    batch_decode_row(probe_bytes(&lookup->probe).data, ports[0].kinds, ports[0].cols, out, 0);
    batch_decode_row(match, ports[1].kinds, ports[1].cols, out, ports[0].cols);
    batch_builder_end_row(out, time, diff);
    op_row_done(op);
}

/* The bytes of a list from at on; how far it came when the fuel ended before them, else len. */
static size_t emit_list(struct op *op, const uint8_t *list, size_t at, size_t len, uint64_t time,
                        int64_t diff)
{
    while (at < len) {
        const struct arrange_update *match = (const struct arrange_update *)(list + at);
        if (is_visible(op, match->time, time)) {
            /* Modulo 2^64, as all diffs are. */
            emit_pair(op, match->row, time, (int64_t)((uint64_t)diff * (uint64_t)match->diff));
        }
        at += arrange_update_size(match->len);
        if (fuel_spend(op->engine, 1)) {
            return at;
        }
    }
    ASSERT(at == len);
    return at;
}

/* No list is held from step to step by its address. */
static void keep_rest(struct op *op, const uint8_t *list, size_t len)
{
    struct lookup *lookup = op->state;
    ASSERT(lookup->rest.len == 0 && len > 0);
    buf_append(&lookup->rest, list, len);
    lookup->rest_at = 0;
    account_add(&op->account, (int64_t)len);
}

static void drop_rest(struct op *op)
{
    struct lookup *lookup = op->state;
    account_add(&op->account, -(int64_t)lookup->rest.len);
    buf_free(&lookup->rest);
    lookup->rest_at = 0;
}

/* The row's matches, from where it stopped; true when out of fuel amid them. */
static bool lookup_row(struct op *op, const struct batch *b, uint32_t row)
{
    struct lookup *lookup = op->state;
    const struct plan_node *node = op->node;
    uint64_t time = batch_time(b, row);
    int64_t diff = batch_diff(b, row);
    ASSERT(lookup->probe.rows[lookup->probe.at] == row);
    if (lookup->rest.len > 0) {
        lookup->rest_at = emit_list(op, lookup->rest.data, lookup->rest_at, lookup->rest.len,
                                    time, diff);
        if (lookup->rest_at < lookup->rest.len) {
            return true;
        }
        drop_rest(op);
        return false;
    }
    if ((node->lookup.later && time <= op->dataflow->as_of) ||
        (!node->lookup.null_equal &&
         op_key_has_null(b, row, node->lookup.keys, node->lookup.keys_len))) {
        return false;
    }
    struct probe_span bytes = probe_key(&lookup->probe);
    const struct htable_entry *entry =
        arrange_find(lookup->rows, probe_hash(&lookup->probe), bytes.data, bytes.len);
    if (entry == NULL) {
        return false;
    }
    const struct arrange_key *key = arrange_key(entry);
    size_t end = emit_list(op, key->data, 0, key->used, time, diff);
    if (end < key->used) {
        keep_rest(op, key->data + end, key->used - end);
    }
    return end < key->used;
}

/* True when out of fuel before the end. */
static bool run_pass(struct op *op)
{
    struct lookup *lookup = op->state;
    const struct chunk_list *list = &lookup->intake.list;
    const struct probe_spec spec = {
        .keys = op->node->lookup.keys, .keys_len = op->node->lookup.keys_len, .whole = true};
    ASSERT(lookup->intake.open && lookup->chunk <= list->chunks_len);
    for (; lookup->chunk < list->chunks_len; lookup->chunk++, lookup->row = 0) {
        const struct batch *b = &list->chunks[lookup->chunk]->batch;
        for (; lookup->row < b->rows; lookup->row++) {
            if (fuel_spend(op->engine, 1)) {
                return true;
            }
            if (probe_is_empty(&lookup->probe)) {
                probe_fill(&lookup->probe, b, lookup->row, &spec);
                probe_load_arranged(&lookup->probe, lookup->rows);
            }
            if (lookup_row(op, b, lookup->row)) {
                return true;
            }
            probe_next(&lookup->probe);
        }
    }
    return false;
}

/* Strictly before the frontier lies what "before" may ask for; but nothing before the as_of. */
static void move_hold(struct op *op)
{
    struct lookup *lookup = op->state;
    uint64_t as_of = op->dataflow->as_of;
    arranged_hold(lookup->of, op, op->frontier > as_of ? op->frontier - 1 : as_of);
}

/* A pass reaches as far as both the stream and what it is looked up in. */
static bool lookup_work(struct op *op)
{
    struct lookup *lookup = op->state;
    ASSERT(op->ports[1].ok.chunks_len == 0 && op->ports[1].err.chunks_len == 0);
    op_forward_errors(op);
    if (!lookup->intake.open) {
        if (!intake_open(&lookup->intake, op, INTAKE_CHUNKS)) {
            return false;
        }
        lookup->chunk = lookup->row = 0;
    }
    if (run_pass(op)) {
        return true;
    }
    uint64_t upper = lookup->intake.upper;
    ASSERT(probe_is_empty(&lookup->probe) && lookup->rest.len == 0);
    intake_close(&lookup->intake);
    op_advance(op, upper);
    move_hold(op);
    return op_input_frontier(op) > op->frontier;
}

static void lookup_release(struct op *op)
{
    struct lookup *lookup = op->state;
    arranged_release(lookup->of, op);
    drop_rest(op);
    intake_free(&lookup->intake);
    probe_free(&lookup->probe);
    free(lookup);
}

/*
 * The stream is fed by the hash of its keys, which is how the arrangement's rows were: so what
 * belongs together is on one worker. Of the arrangement only the frontier comes through the port.
 */
void op_make_lookup(struct op *op)
{
    static const struct op_class class = {"lookup", lookup_work, lookup_release};
    struct lookup *lookup = MEM_NEW(struct lookup);
    const struct plan_node *node = op->node;
    struct op *of = &op->dataflow->ops[node->inputs[1]];
    ASSERT(op->ports_len == 2 && node->op == PLAN_LOOKUP && node->lookup.keys_len > 0);
    op->class = &class;
    op->state = lookup;
    lookup->of = of;
    lookup->rows = arranged_rows(of);
    struct user *user = &of->users[of->users_len - 1]; /* set up last: the second port */
    ASSERT(user->op == op && user->port == 1);
    user->frontier_only = true;
    move_hold(op);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, node->lookup.keys, node->lookup.keys_len, false);
}
