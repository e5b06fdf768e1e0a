/*
 * Inner joins within a recursion. Of each side the trail by iteration is kept: a row that comes
 * at iteration i meets all rows of its key on the other side, and the pair is at the later of the
 * two iterations. So a change of what entered (iteration 0) finds all iterations of a variable, and
 * its consequences are put out for each of them at once; later ones than the one at hand wait in
 * the users' ports.
 *
 * Resumes anywhere, even among the matches of one row.
 */
#include "core/engine/iterate.h"

#include <stdlib.h>

enum {
    OUT_BLOCK = 256,
    LATER_MAX = 1 << 15, /* pairs of later iterations that are gathered before they are put out */
    LATER_KEPT = 1 << 10,
};

/* Where an output column comes from. */
enum origin { FROM_KEY, FROM_LEFT, FROM_RIGHT };

struct origin_of {
    uint8_t origin; /* enum origin */
    uint8_t at;     /* which key, or which value of that side */
};

/*
 * A pair that is put out: its iteration and diff, NULLs of the key and both values, then the words
 * of the key (of flat rows only) and of both values. Those of bytes hold a reference.
 */
struct pair {
    uint64_t iteration;
    int64_t diff;
    uint32_t nulls[3];
    uint64_t words[CELLS_KEYS_MAX + 2 * ITERATE_VALUES_MAX];
};

struct iterate_join {
    bool flat;
    bool null_equal;
    struct iterate_input side[2];
    struct trail_form form[2];
    struct interns interns;
    struct cells table; /* of keys; payload: a trail of each side */
    struct pool pool;
    uint64_t entries;
    struct origin_of origin[ITERATE_COLS_MAX]; /* of each output column, when flat */
    struct iterate_feed feed;
    uint32_t match;    /* of the block's row at hand: matches put out */
    uint64_t base;
    uint32_t iteration;
    uint32_t out_len;
    uint64_t words[ITERATE_COLS_MAX][OUT_BLOCK];
    uint8_t nulls[ITERATE_COLS_MAX][OUT_BLOCK];
    int64_t diffs[OUT_BLOCK];
    struct pair *later;
    size_t later_len, later_cap;
    uint64_t later_bytes; /* as accounted */
};

/* ---- output ---------------------------------------------------------------------------------- */

static void emit_block(struct op *op, uint32_t iteration)
{
    struct iterate_join *join = op->state;
    if (join->out_len == 0) {
        return;
    }
    struct batch_builder *ok = op_ok(op);
    ASSERT(join->flat && join->out_len <= OUT_BLOCK);
    for (uint32_t c = 0; c < op->cols; c++) {
        batch_builder_words(ok, c, join->words[c], 1, join->nulls[c], join->out_len);
    }
    batch_builder_end_rows(ok, join->base + iteration, join->diffs, 1, join->out_len);
    join->out_len = 0;
    op_row_done(op);
}

static void put_flat(struct op *op, uint32_t iteration, int64_t diff,
                     const uint64_t *const words[3], const uint32_t nulls[3])
{
    struct iterate_join *join = op->state;
    uint32_t at = join->out_len++;
    ASSERT(at < OUT_BLOCK);
    for (uint32_t c = 0; c < op->cols; c++) {
        struct origin_of from = join->origin[c];
        join->words[c][at] = words[from.origin][from.at];
        join->nulls[c][at] = nulls[from.origin] >> from.at & 1;
    }
    join->diffs[at] = diff;
    if (join->out_len == OUT_BLOCK) {
        emit_block(op, iteration);
    }
}

static void put_bytes(struct op *op, uint32_t iteration, int64_t diff,
                      const uint64_t *const words[3])
{
    struct iterate_join *join = op->state;
    size_t col = 0;
    for (uint32_t s = 0; s < 2; s++) {
        uint32_t len;
        const uint8_t *bytes = interns_bytes(&join->interns, words[FROM_LEFT + s][0], &len);
        batch_decode_row(bytes, op->ports[s].kinds, op->ports[s].cols, op_ok(op), col);
        col += op->ports[s].cols;
    }
    batch_builder_end_row(op_ok(op), join->base + iteration, diff);
    op_row_done(op);
}

static void put(struct op *op, uint32_t iteration, int64_t diff, const uint64_t *const words[3],
                const uint32_t nulls[3])
{
    const struct iterate_join *join = op->state;
    if (join->flat) {
        put_flat(op, iteration, diff, words, nulls);
    } else {
        put_bytes(op, iteration, diff, words);
    }
}

static void keep_later(struct iterate_join *join, uint32_t iteration, int64_t diff,
                       const uint64_t *const words[3], const uint32_t nulls[3])
{
    struct pair *pair = VEC_PUSH(join, later);
    uint64_t *at = pair->words;
    ASSERT(iteration > join->iteration);
    pair->iteration = iteration;
    pair->diff = diff;
    memcpy(pair->nulls, nulls, sizeof(pair->nulls));
    if (join->flat) {
        memcpy(at, words[FROM_KEY], join->side[0].key_words * sizeof(*at));
        at += join->side[0].key_words;
    }
    for (uint32_t s = 0; s < 2; s++) {
        if (!join->flat) {
            interns_retain(&join->interns, words[FROM_LEFT + s][0]);
        }
        memcpy(at, words[FROM_LEFT + s], join->side[s].words * sizeof(*at));
        at += join->side[s].words;
    }
}

static int compare_pairs(const void *pa, const void *pb)
{
    const struct pair *a = pa;
    const struct pair *b = pb;
    return a->iteration < b->iteration ? -1 : a->iteration > b->iteration;
}

/* The words of a pair that was kept. */
static void pair_words(const struct iterate_join *join, const struct pair *pair,
                       const uint64_t *words[3])
{
    words[FROM_KEY] = pair->words;
    words[FROM_LEFT] = pair->words + (join->flat ? join->side[0].key_words : 0);
    words[FROM_RIGHT] = words[FROM_LEFT] + join->side[0].words;
}

/* Chunk by chunk of one iteration each, so that no chunk has to be divided later. */
static void emit_later(struct op *op)
{
    struct iterate_join *join = op->state;
    emit_block(op, join->iteration);
    if (join->later_len == 0) {
        return;
    }
    qsort(join->later, join->later_len, sizeof(*join->later), compare_pairs);
    op_flush(op);
    for (size_t i = 0; i < join->later_len; i++) {
        const struct pair *pair = &join->later[i];
        const uint64_t *words[3];
        pair_words(join, pair, words);
        put(op, (uint32_t)pair->iteration, pair->diff, words, pair->nulls);
        for (uint32_t s = 0; s < 2 && !join->flat; s++) {
            interns_release(&join->interns, words[FROM_LEFT + s][0]);
        }
        if (i + 1 == join->later_len || pair[1].iteration != pair->iteration) {
            emit_block(op, (uint32_t)pair->iteration);
            op_flush(op);
        }
    }
    join->later_len = 0;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static uint64_t *find_cell(const struct iterate_join *join, uint32_t i)
{
    const struct iterate_block *block = &join->feed.block;
    uint32_t key_words = join->side[0].key_words;
    return cells_find(&join->table, block->hash[i], &block->keys[i * key_words],
                      join->flat ? block->key_nulls[i] : 0);
}

static struct trail *trail_of(const struct iterate_join *join, uint64_t *cell, uint32_t side)
{
    return (struct trail *)(void *)(cells_payload(&join->table, cell) + side);
}

/* Cells first, then the trails behind them: the misses of many rows overlap. */
static void load_block(struct iterate_join *join)
{
    const struct iterate_block *block = &join->feed.block;
    iterate_load(&join->feed);
    for (uint32_t i = 0; i < block->len; i++) {
        cells_load(&join->table, block->hash[i]);
    }
    for (uint32_t i = 0; i < block->len; i++) {
        uint64_t *cell = find_cell(join, i);
        for (uint32_t s = 0; s < 2 && cell != NULL; s++) {
            trail_load(*trail_of(join, cell, s));
        }
    }
}

/* The row at hand with an entry of the other side. */
static inline void put_match(struct op *op, const struct trail_entry *entry, int64_t diff)
{
    struct iterate_join *join = op->state;
    const struct iterate_block *block = &join->feed.block;
    uint32_t i = block->at;
    uint32_t own = FROM_LEFT + block->port;
    uint32_t other = FROM_LEFT + 1 - block->port;
    const uint64_t *words[3];
    uint32_t nulls[3];
    words[FROM_KEY] = &block->keys[i * join->side[0].key_words];
    words[own] = &block->values[i * join->side[block->port].words];
    words[other] = entry->values;
    nulls[FROM_KEY] = block->key_nulls[i];
    nulls[own] = block->nulls[i];
    nulls[other] = entry->nulls;
    int64_t pairs;
    if (__builtin_mul_overflow(diff, entry->diff, &pairs)) {
        scope_out_of_range(op);
        return;
    }
    if (entry->iteration <= join->iteration) {
        put(op, join->iteration, pairs, words, nulls);
    } else {
        keep_later(join, entry->iteration, pairs, words, nulls);
    }
}

/* The row joins the trail of its side; a key without any goes. */
static void keep_row(struct iterate_join *join, uint64_t *cell, int64_t diff)
{
    const struct iterate_block *block = &join->feed.block;
    uint32_t i = block->at;
    uint32_t port = block->port;
    uint32_t key_words = join->side[0].key_words;
    const uint64_t *key = &block->keys[i * key_words];
    if (cell == NULL) {
        cell = cells_add(&join->table, block->hash[i], key, join->flat ? block->key_nulls[i] : 0);
        interns_retain(join->flat ? NULL : &join->interns, key[0]);
    }
    struct trail *trail = trail_of(join, cell, port);
    trail_add(&join->form[port], trail, block->nulls[i], join->iteration, diff,
              &block->values[i * join->side[port].words]);
    if (trail_is_empty(*trail) && trail_is_empty(*trail_of(join, cell, 1 - port))) {
        cells_remove(&join->table, block->hash[i], cell);
        interns_release(join->flat ? NULL : &join->interns, key[0]);
    }
}

/* True when out of fuel amid the matches. A NULL key matches nothing unless NULLs are equal. */
static bool join_row(struct op *op)
{
    struct iterate_join *join = op->state;
    struct iterate_block *block = &join->feed.block;
    uint32_t i = block->at;
    int64_t diff = block->diffs[i];
    if ((block->key_nulls[i] != 0 && !join->null_equal) || diff == 0) {
        return false;
    }
    uint64_t *cell = find_cell(join, i);
    const struct trail_form *form = &join->form[1 - block->port];
    struct trail *others = cell != NULL ? trail_of(join, cell, 1 - block->port) : NULL;
    uint32_t len = others != NULL ? trail_matches(form, others, join->iteration) : 0;
    ASSERT(join->match <= len); /* that side has not changed since the last step */
    while (join->match < len) {
        struct trail_entry entry;
        trail_match(form, others, join->match++, &entry);
        put_match(op, &entry, diff);
        if (join->later_len >= LATER_MAX) {
            emit_later(op);
        }
        if (fuel_spend(op->engine, 1) && join->match < len) {
            return true;
        }
    }
    keep_row(join, cell, diff);
    join->match = 0;
    return false;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/* True when out of fuel before the end. */
static bool run_pass(struct op *op)
{
    struct iterate_join *join = op->state;
    struct iterate_block *block = &join->feed.block;
    for (;;) {
        for (; block->at < block->len; block->at++) {
            if (join_row(op)) {
                return true;
            }
        }
        if (iterate_is_done(&join->feed)) {
            return false;
        }
        if (fuel_spend(op->engine, ITERATE_ROWS)) {
            return true;
        }
        load_block(join);
    }
}

/* What much took is not kept. */
static void account_later(struct op *op)
{
    struct iterate_join *join = op->state;
    if (join->later_len == 0 && join->later_cap > LATER_KEPT) {
        free(join->later);
        join->later = NULL;
        join->later_cap = 0;
    }
    uint64_t bytes = join->later_cap * sizeof(*join->later);
    account_add(&op->account, (int64_t)bytes - (int64_t)join->later_bytes);
    join->later_bytes = bytes;
}

/* A pass is one iteration: frontiers in a scope stop at each that has anything to do. */
static bool join_work(struct op *op)
{
    struct iterate_join *join = op->state;
    op_forward_errors(op);
    if (!join->feed.intake.open) {
        if (!iterate_open(&join->feed, op, join->table.len)) {
            return false;
        }
        join->base = scope_base(op);
        ASSERT(join->feed.intake.upper > join->base);
        join->iteration = (uint32_t)(join->feed.intake.upper - 1 - join->base);
    }
    if (iterate_divide(&join->feed, op) || run_pass(op)) {
        account_later(op);
        return true;
    }
    emit_later(op);
    account_later(op);
    uint64_t upper = join->feed.intake.upper;
    iterate_close(&join->feed);
    op_advance(op, upper);
    op->arranged_rows = join->entries;
    return op_input_frontier(op) > op->frontier;
}

static void join_release(struct op *op)
{
    struct iterate_join *join = op->state;
    account_add(&op->account, -(int64_t)join->later_bytes);
    cells_clear(&join->table);
    pool_clear(&join->pool);
    interns_free(&join->interns);
    iterate_feed_free(&join->feed);
    free(join->later);
    free(join);
}

/* ---- which rows are words -------------------------------------------------------------------- */

static bool is_flat_side(const struct port *port, const uint32_t *keys, uint32_t keys_len)
{
    uint32_t values = 0;
    bool flat = keys_len <= CELLS_KEYS_MAX;
    for (uint32_t c = 0; flat && c < port->cols; c++) {
        bool is_key = cells_key_at(keys, keys_len, c) < keys_len;
        flat = is_key ? iterate_is_flat_key(port->kinds[c]) : batch_kind_is_word(port->kinds[c]);
        values += !is_key;
    }
    return flat && values <= ITERATE_VALUES_MAX;
}

/* One input's columns, in the output from first on. */
static void set_side(struct iterate_join *join, const struct port *port, uint32_t p,
                     const uint32_t *keys, uint32_t keys_len, uint32_t first)
{
    struct iterate_input *side = &join->side[p];
    *side = (struct iterate_input){
        .flat = join->flat, .keys = keys, .keys_len = keys_len, .key_words = 1, .words = 1};
    if (!join->flat) {
        return;
    }
    side->key_words = keys_len > 0 ? keys_len : 1;
    for (uint32_t c = 0; c < port->cols; c++) {
        uint32_t k = cells_key_at(keys, keys_len, c);
        struct origin_of from = {.origin = FROM_KEY, .at = (uint8_t)k};
        if (k == keys_len) {
            from.origin = p == 0 ? FROM_LEFT : FROM_RIGHT;
            from.at = (uint8_t)side->values_len;
            side->values[side->values_len++] = c;
        }
        ASSERT(first + c < ITERATE_COLS_MAX);
        join->origin[first + c] = from;
    }
    side->words = side->values_len;
}

void op_make_iterate_join(struct op *op)
{
    static const struct op_class class = {"join", join_work, join_release};
    struct iterate_join *join = MEM_NEW(struct iterate_join);
    const struct plan_node *node = op->node;
    const uint32_t *keys[2] = {node->join.left_keys, node->join.right_keys};
    uint32_t keys_len = node->join.keys_len;
    ASSERT(op->ports_len == 2 && node->join.kind == PLAN_JOIN_INNER && op->scope != NULL);
    op->class = &class;
    op->state = join;
    join->null_equal = node->join.null_equal;
    join->flat = op->cols <= ITERATE_COLS_MAX && is_flat_side(&op->ports[0], keys[0], keys_len) &&
                 is_flat_side(&op->ports[1], keys[1], keys_len);
    pool_init(&join->pool, &op->account);
    interns_init(&join->interns, &op->account);
    for (uint32_t p = 0; p < 2; p++) {
        set_side(join, &op->ports[p], p, keys[p], keys_len, p == 0 ? 0 : op->ports[0].cols);
        join->form[p] = (struct trail_form){.words = join->side[p].words,
                                           .interns = join->flat ? NULL : &join->interns,
                                           .pool = &join->pool,
                                           .len = &join->entries};
        engine_exchange_set_up(op, p, ROUTE_KEYS, keys[p], keys_len, false);
    }
    iterate_feed_init(&join->feed, join->side, 2, join->flat ? NULL : &join->interns,
                      &op->account);
    cells_init(&join->table, join->side[0].key_words, 2, &op->account);
}
