/*
 * Reduce, distinct and threshold of groups that are a few words: keys of one to four numbers, dates
 * or flags, and counts. The same operator as in op_reduce.c, with the same output, for the plans
 * that allow it; what differs is that nothing is done per row but loads, compares and stores.
 *
 * Rows are taken FLAT_ROWS at a time, all of one time: their keys are read a column at a time and
 * hashed, the cells they will touch are loaded, then the counts change. The first change of a group
 * at a time keeps its counts as they were (struct touched's words) and leaves a mark in its cell,
 * the touched group's number. When the time is complete the groups are looked up by hash and mark,
 * again FLAT_ROWS at a time, and what changed is put out a column at a time.
 *
 *   touched   hash, states before     one after another, 1 + states words each
 *   states    rows of the group, then one count for each count(x) or count(*) with a filter
 */
#include "core/engine/cells.h"
#include "core/engine/reduce_state.h"

enum {
    FLAT_ROWS = 64, /* cells of so many rows stay in the first-level cache until they are used */
    FLAT_AGGS_MAX = 6,
    FLAT_STATES_MAX = 1 + FLAT_AGGS_MAX,
    FLAT_COLS_MAX = CELLS_KEYS_MAX + FLAT_AGGS_MAX,
    TOUCHED_KEPT = 1 << 18, /* groups: the list of a snapshot's is not kept */
};

/* What a group counts besides its rows: those that pass the filter and have a value. */
struct flat_count {
    bool has_arg, has_filter;
    uint32_t arg, filter; /* input columns */
};

/* Rows at hand, of one time. */
struct flat_block {
    const struct batch *batch;
    uint32_t len;
    uint32_t rows[FLAT_ROWS];
    uint64_t column[FLAT_ROWS];
    uint64_t keys[FLAT_ROWS * CELLS_KEYS_MAX]; /* row after row */
    uint32_t nulls[FLAT_ROWS];
    uint64_t hash[FLAT_ROWS];
};

/* Output of a block of groups: at most an old and a new row each. */
struct flat_output {
    uint32_t len;
    uint64_t words[FLAT_COLS_MAX][2 * FLAT_ROWS];
    uint8_t nulls[CELLS_KEYS_MAX][2 * FLAT_ROWS]; /* of the key columns */
    int64_t diffs[2 * FLAT_ROWS];
};

struct flat {
    uint8_t op; /* PLAN_REDUCE, PLAN_DISTINCT or PLAN_THRESHOLD */
    uint32_t keys_len, aggs_len;
    uint32_t keys[CELLS_KEYS_MAX];         /* input columns */
    uint32_t agg_state[FLAT_AGGS_MAX];     /* which state an aggregate shows */
    struct flat_count counts[FLAT_AGGS_MAX]; /* of the states from 1 on */
    uint32_t states;
    struct cells table;
    struct intake intake;
    bool flushing; /* the changes of time are in, touched groups are being looked at */
    uint64_t time;
    uint64_t *touched; /* (1 + states) words each */
    size_t touched_len, touched_cap; /* groups */
    size_t flushed;
    struct flat_block block;
    struct flat_output out;
};

/* ---- taking rows ----------------------------------------------------------------------------- */

/* The next rows of the intake: their keys, hashes, and cells on the way. */
static void load_block(struct flat *flat)
{
    struct flat_block *block = &flat->block;
    uint32_t n = intake_take(&flat->intake, FLAT_ROWS, block->rows, &block->batch);
    const struct batch *b = block->batch;
    ASSERT(n > 0 && n <= FLAT_ROWS && b->rows >= n);
    block->len = n;
    memset(block->nulls, 0, n * sizeof(block->nulls[0]));
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        const struct batch_col *col = &b->col[flat->keys[k]];
        batch_words(col, block->rows, 0, n, block->column);
        for (uint32_t i = 0; i < n; i++) {
            block->keys[i * flat->keys_len + k] = block->column[i];
        }
        for (uint32_t i = 0; col->validity != NULL && i < n; i++) {
            block->nulls[i] |= (uint32_t)batch_is_null(col, block->rows[i]) << k;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        block->hash[i] =
            cells_hash(&block->keys[i * flat->keys_len], flat->keys_len, block->nulls[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        cells_load(&flat->table, block->hash[i]);
    }
}

/* Modulo 2^64, as all diffs are. */
static int64_t plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static bool counts_row(const struct flat_count *count, const struct batch *b, uint32_t row)
{
    if (count->has_arg && batch_is_null(&b->col[count->arg], row)) {
        return false;
    }
    const struct batch_col *filter = &b->col[count->filter];
    return !count->has_filter ||
           (!batch_is_null(filter, row) && ((const uint8_t *)filter->values)[row] != 0);
}

/* At a group's first change of a time: what it was, and the mark by which it is found again. */
static void touch(struct flat *flat, uint64_t *cell, uint64_t hash)
{
    ASSERT((cell[0] & CELL_MARK) == 0 && flat->touched_len < flat->touched_cap);
    uint64_t *touched = &flat->touched[flat->touched_len++ * (1 + flat->states)];
    touched[0] = hash;
    memcpy(touched + 1, cells_payload(&flat->table, cell), flat->states * sizeof(*touched));
    cell[0] |= flat->touched_len;
}

/* The list is part of the operator's account, as what a time's changes need at most. */
static void resize_touched(struct op *op, size_t cap)
{
    struct flat *flat = op->state;
    size_t bytes = (1 + flat->states) * sizeof(flat->touched[0]);
    ASSERT(flat->touched_len <= cap);
    if (cap == 0) {
        free(flat->touched);
        flat->touched = NULL;
    } else {
        flat->touched = mem_realloc(flat->touched, cap * bytes);
    }
    account_add(&op->account, ((int64_t)cap - (int64_t)flat->touched_cap) * (int64_t)bytes);
    flat->touched_cap = cap;
}

static void reserve_touched(struct op *op, uint32_t n)
{
    struct flat *flat = op->state;
    ASSERT(flat->touched_len + n <= CELL_MARK);
    if (flat->touched_len + n > flat->touched_cap) {
        resize_touched(op, (flat->touched_len + n) * 2);
    }
}

static void take_block(struct op *op)
{
    struct flat *flat = op->state;
    struct flat_block *block = &flat->block;
    load_block(flat);
    const struct batch *b = block->batch;
    uint32_t n = block->len;
    reserve_touched(op, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t *key = &block->keys[i * flat->keys_len];
        uint64_t hash = block->hash[i];
        uint64_t *cell = cells_find(&flat->table, hash, key, block->nulls[i]);
        if (cell == NULL) {
            cell = cells_add(&flat->table, hash, key, block->nulls[i]);
        }
        if ((cell[0] & CELL_MARK) == 0) {
            touch(flat, cell, hash);
        }
        int64_t diff = batch_diff(b, block->rows[i]);
        int64_t *states = (int64_t *)cells_payload(&flat->table, cell);
        states[0] = plus(states[0], diff);
        for (uint32_t s = 1; s < flat->states; s++) {
            if (counts_row(&flat->counts[s - 1], b, block->rows[i])) {
                states[s] = plus(states[s], diff);
            }
        }
    }
}

/* ---- putting out ----------------------------------------------------------------------------- */

/* What a group of these states contributes; as in op_reduce.c. */
static enum group_output output_of(const struct flat *flat, const int64_t *states)
{
    if (states[0] > 0) {
        return GROUP_ROW;
    }
    return states[0] < 0 && flat->op == PLAN_REDUCE ? GROUP_ERROR : GROUP_NOTHING;
}

/* A threshold keeps positive multiplicities as they are; distinct and reduce put out one row. */
static int64_t copies_of(const struct flat *flat, const int64_t *states)
{
    return flat->op == PLAN_THRESHOLD ? states[0] : 1;
}

static void put_row(struct flat *flat, const uint64_t *cell, const int64_t *states, int64_t diff)
{
    struct flat_output *out = &flat->out;
    uint32_t at = out->len++;
    uint32_t nulls = cells_nulls(cell);
    ASSERT(at < ARRAY_LEN(out->diffs) && diff != 0);
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        out->words[k][at] = cell[1 + k];
        out->nulls[k][at] = nulls >> k & 1;
    }
    for (uint32_t a = 0; a < flat->aggs_len; a++) {
        out->words[flat->keys_len + a][at] = (uint64_t)states[flat->agg_state[a]];
    }
    out->diffs[at] = diff;
}

static void put(struct op *op, enum group_output output, const uint64_t *cell,
                const int64_t *states, int64_t sign)
{
    struct flat *flat = op->state;
    if (output == GROUP_ROW) {
        put_row(flat, cell, states, sign * copies_of(flat, states));
    } else if (output == GROUP_ERROR) {
        const char *name = op->dataflow->plan->name;
        op_error(op, "XX000", REDUCE_NEGATIVE, name != NULL ? name : "", flat->time, sign);
    }
}

/* Only what a reader could see counts: the aggregates' states, not the others. */
static bool same_row(const struct flat *flat, const int64_t *a, const int64_t *b)
{
    bool same = true;
    for (uint32_t i = 0; i < flat->aggs_len; i++) {
        same &= a[flat->agg_state[i]] == b[flat->agg_state[i]];
    }
    return same;
}

/* The difference a group's changes made: equal outputs cancel before anything is put out. */
static void flush_group(struct op *op, uint64_t *cell, const int64_t *old)
{
    struct flat *flat = op->state;
    const int64_t *states = (int64_t *)cells_payload(&flat->table, cell);
    enum group_output before = output_of(flat, old);
    enum group_output after = output_of(flat, states);
    ASSERT((cell[0] & CELL_MARK) == 0); /* the next change of the group is its first again */
    if (before != after || (after == GROUP_ROW && !same_row(flat, old, states))) {
        put(op, before, cell, old, -1);
        put(op, after, cell, states, 1);
    } else if (after == GROUP_ROW && copies_of(flat, states) != copies_of(flat, old)) {
        put_row(flat, cell, states, plus(copies_of(flat, states), -copies_of(flat, old)));
    }
}

static bool is_empty(const struct flat *flat, const int64_t *states)
{
    int64_t any = 0;
    for (uint32_t s = 0; s < flat->states; s++) {
        any |= states[s];
    }
    return any == 0;
}

/* Rows of a block become columns of the operator's output. */
static void emit_block(struct op *op)
{
    struct flat *flat = op->state;
    struct flat_output *out = &flat->out;
    struct batch_builder *ok = op_ok(op);
    ASSERT(out->len <= 2 * FLAT_ROWS && flat->time >= op->frontier);
    for (uint32_t c = 0; c < op->cols; c++) {
        batch_builder_words(ok, c, out->words[c], 1, c < flat->keys_len ? out->nulls[c] : NULL,
                            out->len);
    }
    batch_builder_end_rows(ok, flat->time, out->diffs, 1, out->len);
    out->len = 0;
    op_row_done(op);
}

/* The next touched groups; those that are left with nothing go. */
static void flush_block(struct op *op)
{
    struct flat *flat = op->state;
    size_t left = flat->touched_len - flat->flushed;
    size_t n = left < FLAT_ROWS ? left : FLAT_ROWS;
    size_t stride = 1 + flat->states;
    ASSERT(n > 0 && flat->out.len == 0 && flat->flushing);
    const uint64_t *touched = &flat->touched[flat->flushed * stride];
    size_t ahead = left < 2 * FLAT_ROWS ? left : 2 * FLAT_ROWS;
    for (size_t i = flat->flushed == 0 ? 0 : n; i < ahead; i++) {
        cells_load(&flat->table, touched[i * stride]);
    }
    for (size_t i = 0; i < n; i++, touched += stride) {
        uint64_t *cell =
            cells_find_mark(&flat->table, touched[0], (uint32_t)(flat->flushed + i + 1));
        cell[0] &= ~CELL_MARK;
        flush_group(op, cell, (const int64_t *)touched + 1);
        if (is_empty(flat, (int64_t *)cells_payload(&flat->table, cell))) {
            cells_remove(&flat->table, touched[0], cell);
        }
    }
    flat->flushed += n;
    emit_block(op);
}

/* True when out of fuel before the end. */
static bool flush_time(struct op *op)
{
    struct flat *flat = op->state;
    while (flat->flushed < flat->touched_len) {
        if (fuel_spend(op->engine, FLAT_ROWS)) {
            return true;
        }
        flush_block(op);
    }
    flat->touched_len = 0;
    flat->flushed = 0;
    flat->flushing = false;
    if (flat->touched_cap > TOUCHED_KEPT) {
        resize_touched(op, 0);
    }
    return false;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/*
 * A time ends when the intake's next rows have another one; then its groups are flushed. True when
 * out of fuel before the end.
 */
static bool run_pass(struct op *op)
{
    struct flat *flat = op->state;
    const struct intake *intake = &flat->intake;
    ASSERT(intake->open);
    for (;;) {
        if (flat->flushing && flush_time(op)) {
            return true;
        }
        bool done = intake_is_done(intake);
        if (done && flat->touched_len == 0) {
            return false;
        }
        uint64_t time = done ? 0 : intake_ref(intake).time;
        if (flat->touched_len > 0 && (done || time != flat->time)) {
            flat->flushing = true;
            continue;
        }
        if (fuel_spend(op->engine, FLAT_ROWS)) {
            return true;
        }
        ASSERT(time >= op->frontier && time < intake->upper);
        flat->time = time;
        take_block(op);
        /* Groups are forgotten only when a time is flushed: each touched one has its cell. */
        ASSERT(flat->touched_len <= flat->table.len);
    }
}

/* More to do at once when the inputs' frontier moved on while this pass was divided among steps. */
static bool flat_work(struct op *op)
{
    struct flat *flat = op->state;
    op_forward_errors(op);
    if (!flat->intake.open && !intake_open(&flat->intake, op, INTAKE_BY_TIME)) {
        return false;
    }
    if (run_pass(op)) {
        return true;
    }
    uint64_t upper = flat->intake.upper;
    ASSERT(flat->touched_len == 0 && !flat->flushing && flat->out.len == 0);
    intake_close(&flat->intake);
    op_advance(op, upper);
    op->arranged_rows = flat->table.len;
    return op_input_frontier(op) > op->frontier;
}

static void flat_release(struct op *op)
{
    struct flat *flat = op->state;
    cells_clear(&flat->table);
    intake_free(&flat->intake);
    flat->touched_len = 0;
    resize_touched(op, 0);
    free(flat);
}

/* ---- which plans ----------------------------------------------------------------------------- */

/* Floats have several forms of zero and NaN: their keys are not their words. */
static bool is_flat_key(uint8_t kind)
{
    return batch_kind_is_word(kind) && kind != TYPE_FLOAT4 && kind != TYPE_FLOAT8;
}

/* Counts of rows or of values; distinct ones need the values. */
static bool is_flat_agg(const struct plan_agg *agg)
{
    return agg->func == AGG_COUNT_ALL || (agg->func == AGG_COUNT && !agg->distinct);
}

bool op_reduce_is_flat(const struct op *op)
{
    const struct plan_node *node = op->node;
    bool all = node->op != PLAN_REDUCE;
    uint32_t keys_len = all ? op->cols : node->reduce.keys_len;
    bool flat = keys_len <= CELLS_KEYS_MAX && (all || node->reduce.aggs_len <= FLAT_AGGS_MAX);
    for (uint32_t k = 0; flat && k < keys_len; k++) {
        flat = is_flat_key(op->kinds[k]);
    }
    for (uint32_t a = 0; flat && !all && a < node->reduce.aggs_len; a++) {
        flat = is_flat_agg(&node->reduce.aggs[a]);
    }
    return flat;
}

/* count(*) is the group's number of rows; every other count gets a state of its own. */
static void set_aggs(struct flat *flat, const struct plan_node *node)
{
    flat->states = 1;
    flat->aggs_len = node->op == PLAN_REDUCE ? node->reduce.aggs_len : 0;
    for (uint32_t a = 0; a < flat->aggs_len; a++) {
        const struct plan_agg *agg = &node->reduce.aggs[a];
        bool has_arg = agg->func == AGG_COUNT;
        if (has_arg || agg->has_filter) {
            flat->counts[flat->states - 1] = (struct flat_count){.has_arg = has_arg,
                                                                 .has_filter = agg->has_filter,
                                                                 .arg = agg->arg,
                                                                 .filter = agg->filter};
            flat->agg_state[a] = flat->states++;
        }
    }
    ASSERT(flat->aggs_len <= FLAT_AGGS_MAX && flat->states <= FLAT_STATES_MAX);
}

/* To the outside it is the operator the plan names. */
void op_make_reduce_flat(struct op *op)
{
    static const struct op_class reduce_class = {"reduce", flat_work, flat_release};
    static const struct op_class distinct_class = {"distinct", flat_work, flat_release};
    static const struct op_class threshold_class = {"threshold", flat_work, flat_release};
    const struct plan_node *node = op->node;
    struct flat *flat = MEM_NEW(struct flat);
    ASSERT(op->ports_len == 1 && op_reduce_is_flat(op));
    op->class = node->op == PLAN_REDUCE     ? &reduce_class
                : node->op == PLAN_DISTINCT ? &distinct_class
                                            : &threshold_class;
    op->state = flat;
    flat->op = node->op;
    flat->keys_len = node->op == PLAN_REDUCE ? node->reduce.keys_len : op->cols;
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        flat->keys[k] = node->op == PLAN_REDUCE ? node->reduce.keys[k] : k;
    }
    set_aggs(flat, node);
    ASSERT(op->cols == flat->keys_len + flat->aggs_len);
    cells_init(&flat->table, flat->keys_len, flat->states, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, flat->keys, flat->keys_len, false);
}
