/*
 * What lookups read: the rows of an input by key, arranged by this operator (PLAN_ARRANGE), or an
 * index of another dataflow (behind PLAN_INDEX), whose rows are there once for all who read them.
 *
 * A lookup holds the least time it may still read; since follows the least hold. It stays below the
 * frontier, so that "before t" and "through t" can be told apart at the times to come.
 *
 * Runs on the engine's thread only.
 */
#include "core/engine/index.h"

enum { MAINTAIN_BUDGET = 1024 };

struct arranged {
    struct arrange rows;
    struct hold *holds; /* of lookups */
    size_t holds_len, holds_cap;
    struct intake intake;
    uint32_t chunk, row; /* of the pass */
    struct probe probe;  /* of the chunk's next rows */
};

/* ---- holds ----------------------------------------------------------------------------------- */

const struct arrange *arranged_rows(const struct op *of)
{
    if (of->node->op == PLAN_INDEX) {
        return index_arrange(import_index(of), false);
    }
    ASSERT(of->node->op == PLAN_ARRANGE);
    return &((const struct arranged *)of->state)->rows;
}

/* At the first time nothing is complete yet: then since stays the as_of. */
static void update_since(struct op *op)
{
    struct arranged *arranged = op->state;
    uint64_t since = op->frontier > op->dataflow->as_of ? op->frontier - 1 : op->dataflow->as_of;
    for (size_t i = 0; i < arranged->holds_len; i++) {
        since = arranged->holds[i].time < since ? arranged->holds[i].time : since;
    }
    if (since > arranged->rows.since) {
        arrange_set_since(&arranged->rows, since);
        if (arranged->rows.dirty_len > 0) {
            op_activate(op);
        }
    }
}

static struct hold *find_hold(const struct arranged *arranged, const void *holder)
{
    for (size_t i = 0; i < arranged->holds_len; i++) {
        if (arranged->holds[i].holder == holder) {
            return &arranged->holds[i];
        }
    }
    return NULL;
}

void arranged_hold(struct op *of, const void *holder, uint64_t time)
{
    if (of->node->op == PLAN_INDEX) {
        index_move_hold(import_index(of), holder, time);
        return;
    }
    struct arranged *arranged = of->state;
    struct hold *hold = find_hold(arranged, holder);
    if (hold == NULL) {
        hold = VEC_PUSH(arranged, holds);
        *hold = (struct hold){.holder = holder};
    }
    ASSERT(time >= hold->time && time >= arranged->rows.since);
    hold->time = time;
    update_since(of);
}

void arranged_release(struct op *of, const void *holder)
{
    if (of->node->op == PLAN_INDEX) {
        index_release(import_index(of), holder);
        return;
    }
    struct arranged *arranged = of->state;
    struct hold *hold = find_hold(arranged, holder);
    ASSERT(hold != NULL); /* since op_make_lookup */
    *hold = arranged->holds[--arranged->holds_len];
}

/* ---- taking in ------------------------------------------------------------------------------- */

/* Rows with a NULL key match nothing, unless NULLs are equal, and need not be kept. */
static void insert_row(struct op *op, const struct batch *b, uint32_t row)
{
    struct arranged *arranged = op->state;
    const struct plan_node *node = op->node;
    ASSERT(arranged->probe.rows[arranged->probe.at] == row);
    if (!node->arrange.null_equal &&
        op_key_has_null(b, row, node->arrange.keys, node->arrange.keys_len)) {
        return;
    }
    struct probe_span key = probe_key(&arranged->probe);
    struct probe_span bytes = probe_bytes(&arranged->probe);
    arrange_insert(&arranged->rows, probe_hash(&arranged->probe), key.data, key.len, bytes.data,
                   bytes.len, batch_time(b, row), batch_diff(b, row));
}

/* True when out of fuel before the end. */
static bool run_pass(struct op *op)
{
    struct arranged *arranged = op->state;
    const struct chunk_list *list = &arranged->intake.list;
    const struct probe_spec spec = {
        .keys = op->node->arrange.keys, .keys_len = op->node->arrange.keys_len, .whole = true};
    ASSERT(arranged->intake.open && arranged->chunk <= list->chunks_len);
    for (; arranged->chunk < list->chunks_len; arranged->chunk++, arranged->row = 0) {
        const struct batch *b = &list->chunks[arranged->chunk]->batch;
        for (; arranged->row < b->rows; arranged->row++) {
            if (fuel_spend(op->engine, 1)) {
                return true;
            }
            if (probe_is_empty(&arranged->probe)) {
                probe_fill(&arranged->probe, b, arranged->row, &spec);
                probe_load_arranged(&arranged->probe, &arranged->rows);
            }
            insert_row(op, b, arranged->row);
            probe_next(&arranged->probe);
        }
        intake_drop(&arranged->intake, arranged->chunk);
    }
    return false;
}

static bool maintain(struct op *op)
{
    struct arranged *arranged = op->state;
    bool more = arrange_maintain(&arranged->rows, MAINTAIN_BUDGET);
    fuel_spend(op->engine, more ? MAINTAIN_BUDGET : 1);
    op->arranged_rows = arranged->rows.updates;
    return more;
}

/* The input's errors go along the path that begins with its rows, so here they are dropped. */
static bool arrange_work(struct op *op)
{
    struct arranged *arranged = op->state;
    chunk_list_clear(&op->ports[0].err);
    if (!arranged->intake.open) {
        if (!intake_open(&arranged->intake, op, INTAKE_CHUNKS) &&
            !intake_open_part(&arranged->intake, op, INTAKE_CHUNKS, EARLY_ROWS)) {
            return maintain(op);
        }
        arranged->chunk = arranged->row = 0;
    }
    if (run_pass(op)) {
        return true;
    }
    ASSERT(probe_is_empty(&arranged->probe));
    intake_close(&arranged->intake);
    if (!arranged->intake.part) {
        op_advance(op, arranged->intake.upper);
        update_since(op);
    }
    return maintain(op) || op_input_frontier(op) > op->frontier;
}

/* Lookups come behind in the plan and are freed before. */
static void arrange_release(struct op *op)
{
    struct arranged *arranged = op->state;
    ASSERT(arranged->holds_len == 0);
    arrange_free(&arranged->rows);
    intake_free(&arranged->intake);
    probe_free(&arranged->probe);
    free(arranged->holds);
    free(arranged);
}

void op_make_arrange(struct op *op)
{
    static const struct op_class class = {"arrange", arrange_work, arrange_release};
    struct arranged *arranged = MEM_NEW(struct arranged);
    const struct plan_node *node = op->node;
    ASSERT(op->ports_len == 1 && node->op == PLAN_ARRANGE && node->arrange.keys_len > 0);
    op->class = &class;
    op->state = arranged;
    arrange_init(&arranged->rows, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, node->arrange.keys, node->arrange.keys_len, false);
}
