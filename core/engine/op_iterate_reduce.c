/*
 * Reduce, distinct, threshold and top-k within a recursion. Of each key the trail of its input
 * and of its output by iteration is kept. A key that changes at iteration i is looked at again at i
 * and then at every later iteration at which its input has a trail: what its rows through that
 * iteration give is compared with what was put out through it, and the difference is put out there.
 * So an earlier time's iterations are corrected where they differ, and nowhere else.
 *
 * The values of a key are gone through each time it is looked at, its entries only while they are
 * few (trail_sums.c). Keys and values that are words, and counts, minima, maxima and sums of them,
 * are taken as they are; all else is decoded and left to the accumulators of reduce_state.c and to
 * ordered sets.
 */
#include "core/engine/iterate.h"
#include "core/engine/order.h"
#include "core/engine/oset.h"
#include "core/engine/reduce_state.h"

enum {
    OUT_BLOCK = 256,
    AHEAD = 8,
    LISTS_KEPT = 1 << 16,
    FLAT_COST = 16, /* rows of words that are gone through for a unit of work */
};

/* In place of NULLs of an output: an error of the group. Of bytes: "sqlstate NUL message NUL". */
#define OUT_NEGATIVE (1u << 31)
#define OUT_RANGE (1u << 30)
#define OUT_BYTES_ERROR (1u << 29)
#define OUT_ERRORS (OUT_NEGATIVE | OUT_RANGE | OUT_BYTES_ERROR)

/* A key to be looked at again at a later iteration. */
struct agenda_item {
    uint32_t iteration;
    uint32_t nulls;
    uint64_t hash;
    uint64_t key[CELLS_KEYS_MAX];
};

/* What a key that is words has to put out. */
struct change {
    uint32_t nulls;
    int64_t diff;
    uint64_t words[ITERATE_VALUES_MAX];
};

/* Of groups that are words. */
struct flat_sums {
    int64_t rows, values; /* all; those that are not NULL */
    uint64_t min, max;    /* words */
    int64_t least, most;  /* the same as values */
    bool any;             /* there is a value */
    bool range;           /* more rows than can be counted */
    bool negative;        /* a value was retracted more often than inserted */
    __int128 sum;
};

/* What groups that are bytes are computed with. */
struct byte_groups {
    struct reduce_layout layout;
    struct pool pool;  /* empty between two groups */
    struct group *group;
    struct batch_builder *rows;
    struct reduce_scratch scratch;
    struct buf out;
    int64_t low, high; /* the window of a top-k */
};

struct iterate_reduce {
    uint8_t op; /* PLAN_REDUCE, PLAN_DISTINCT, PLAN_THRESHOLD or PLAN_TOPK */
    bool flat;
    struct iterate_input input;
    uint32_t *keys;
    struct interns interns;
    struct trail_form in, out, fresh_form;
    uint64_t entries, fresh_entries;
    struct cells table; /* of keys; payload: trail of input, of output */
    struct pool pool;
    uint8_t kind;       /* of the value, when flat */
    struct byte_groups bytes;
    struct iterate_feed feed;
    struct buf scratch;
    bool flushing;     /* the touched keys are looked at */
    bool agenda_taken; /* and so are those of the agenda, as the last of the pass */
    uint64_t base;
    uint32_t iteration;
    uint64_t *touched; /* hashes; a cell's mark is 1 + its number here */
    size_t touched_len, touched_cap;
    size_t flushed;
    uint32_t cost; /* of the key at hand, in units of work: rows of bytes are decoded */
    struct agenda_item *agenda; /* a heap, the least iteration first */
    size_t agenda_len, agenda_cap;
    uint64_t lists_bytes; /* of the two lists, as accounted */
    struct trail fresh; /* of the key at hand: what it has to put out; of bytes */
    struct change *changes; /* of words; hardly ever more than two */
    size_t changes_len, changes_cap;
    uint32_t out_len;
    uint64_t words[CELLS_KEYS_MAX + ITERATE_VALUES_MAX][OUT_BLOCK];
    uint8_t nulls[CELLS_KEYS_MAX + ITERATE_VALUES_MAX][OUT_BLOCK];
    int64_t diffs[OUT_BLOCK];
};

/* ---- the agenda ------------------------------------------------------------------------------ */

static void agenda_push(struct iterate_reduce *reduce, const struct agenda_item *item)
{
    size_t at = reduce->agenda_len;
    (void)VEC_PUSH(reduce, agenda);
    while (at > 0 && reduce->agenda[(at - 1) / 2].iteration > item->iteration) {
        reduce->agenda[at] = reduce->agenda[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    reduce->agenda[at] = *item;
}

static struct agenda_item agenda_pop(struct iterate_reduce *reduce)
{
    ASSERT(reduce->agenda_len > 0);
    struct agenda_item first = reduce->agenda[0];
    struct agenda_item last = reduce->agenda[--reduce->agenda_len];
    size_t at = 0;
    for (size_t child = 1; child < reduce->agenda_len; child = 2 * at + 1) {
        child += child + 1 < reduce->agenda_len &&
                 reduce->agenda[child + 1].iteration < reduce->agenda[child].iteration;
        if (reduce->agenda[child].iteration >= last.iteration) {
            break;
        }
        reduce->agenda[at] = reduce->agenda[child];
        at = child;
    }
    if (reduce->agenda_len > 0) {
        reduce->agenda[at] = last;
    }
    return first;
}

/* ---- what a group of words gives ------------------------------------------------------------- */

/* The value of a word as its kind orders it. */
static int64_t value_of(uint8_t kind, uint64_t word)
{
    switch (type_width(kind)) {
    case 8:
        return (int64_t)word;
    case 4:
        return (int32_t)word;
    case 2:
        return (int16_t)word;
    default:
        return (int64_t)word; /* a flag */
    }
}

static void add_value(const struct iterate_reduce *reduce, struct flat_sums *sums,
                      const struct trail_entry *entry)
{
    int64_t net = entry->diff;
    sums->range |= __builtin_add_overflow(sums->rows, net, &sums->rows);
    if (reduce->in.words == 0 || entry->nulls != 0 || net == 0) {
        return;
    }
    uint64_t word = entry->values[0];
    int64_t value = value_of(reduce->kind, word);
    sums->values = trail_plus(sums->values, net);
    sums->sum += (__int128)value * net;
    if (net < 0) {
        sums->negative = true;
        return;
    }
    if (!sums->any || value < sums->least) {
        sums->least = value;
        sums->min = word;
    }
    if (!sums->any || value > sums->most) {
        sums->most = value;
        sums->max = word;
    }
    sums->any = true;
}

static void put_fresh(struct iterate_reduce *reduce, uint32_t nulls, const uint64_t *words,
                      int64_t copies)
{
    if (!reduce->flat) {
        trail_add(&reduce->fresh_form, &reduce->fresh, nulls, 0, copies, words);
        return;
    }
    for (size_t i = 0; i < reduce->changes_len; i++) {
        struct change *change = &reduce->changes[i];
        if (change->nulls == nulls && cells_same_key(change->words, words, reduce->out.words)) {
            change->diff = trail_plus(change->diff, copies);
            return;
        }
    }
    struct change *change = VEC_PUSH(reduce, changes);
    change->nulls = nulls;
    change->diff = copies;
    memcpy(change->words, words, reduce->out.words * sizeof(*words));
}

/* The aggregates of a group with rows. */
static void put_aggregates(struct op *op, const struct flat_sums *sums)
{
    struct iterate_reduce *reduce = op->state;
    const struct plan_node *node = op->node;
    uint64_t words[ITERATE_VALUES_MAX] = {0};
    uint32_t nulls = 0;
    for (uint32_t a = 0; a < node->reduce.aggs_len; a++) {
        bool null = false;
        switch (node->reduce.aggs[a].func) {
        case AGG_COUNT_ALL:
            words[a] = (uint64_t)sums->rows;
            break;
        case AGG_COUNT:
            words[a] = (uint64_t)sums->values;
            break;
        case AGG_MIN:
        case AGG_MAX:
            null = !sums->any;
            words[a] = null ? 0 : node->reduce.aggs[a].func == AGG_MIN ? sums->min : sums->max;
            break;
        default:
            ASSERT(node->reduce.aggs[a].func == AGG_SUM);
            null = sums->values == 0;
            words[a] = null ? 0 : (uint64_t)(int64_t)sums->sum;
            if (sums->sum > INT64_MAX || sums->sum < INT64_MIN) {
                memset(words, 0, sizeof(words));
                put_fresh(reduce, OUT_RANGE, words, 1);
                return;
            }
            break;
        }
        nulls |= (uint32_t)null << a;
    }
    put_fresh(reduce, nulls, words, 1);
}

static bool has_order(const struct plan_node *node)
{
    bool any = false;
    for (uint32_t a = 0; node->op == PLAN_REDUCE && a < node->reduce.aggs_len; a++) {
        any |= node->reduce.aggs[a].func == AGG_MIN || node->reduce.aggs[a].func == AGG_MAX;
    }
    return any;
}

static void put_flat_result(struct op *op, const struct flat_sums *sums)
{
    struct iterate_reduce *reduce = op->state;
    static const uint64_t none[ITERATE_VALUES_MAX];
    bool aggregates = reduce->op == PLAN_REDUCE;
    if (sums->range) {
        put_fresh(reduce, OUT_RANGE, none, 1);
    } else if (aggregates && (sums->rows < 0 || (sums->negative && has_order(op->node)))) {
        put_fresh(reduce, OUT_NEGATIVE, none, 1);
    } else if (sums->rows > 0 && aggregates) {
        put_aggregates(op, sums);
    } else if (sums->rows > 0) {
        put_fresh(reduce, 0, none, reduce->op == PLAN_THRESHOLD ? sums->rows : 1);
    }
}

/* Returns the next iteration at which the rows change. */
static uint32_t evaluate_flat(struct op *op, struct trail *in)
{
    struct iterate_reduce *reduce = op->state;
    struct flat_sums group = {0};
    struct trail_sums sums;
    if (trail_is_wide(*in)) {
        trail_sums(&reduce->in, in, reduce->iteration, &sums);
        while (trail_sums_next(&sums)) {
            add_value(reduce, &group, &sums.value);
        }
    } else {
        struct trail_entry entry = {.values = &entry.value};
        const uint64_t *entries = trail_narrow(in, &sums.cost);
        sums.next = UINT32_MAX;
        for (uint32_t at = 0; at < sums.cost;) {
            entry.diff = trail_narrow_next(entries, sums.cost, &at, reduce->iteration, &sums.next,
                                           &entry.value);
            add_value(reduce, &group, &entry);
        }
    }
    put_flat_result(op, &group);
    reduce->cost += sums.cost / FLAT_COST;
    return sums.next;
}

/* ---- what a group of bytes gives ------------------------------------------------------------- */

static void put_bytes(struct iterate_reduce *reduce, uint32_t nulls, const void *data, size_t len,
                      int64_t copies)
{
    uint64_t word = interns_word(&reduce->interns, data, len);
    put_fresh(reduce, nulls, &word, copies);
    interns_release(&reduce->interns, word);
}

static void put_error(struct iterate_reduce *reduce, const char *sqlstate, const char *message)
{
    struct buf *out = &reduce->bytes.out;
    buf_clear(out);
    buf_append(out, sqlstate, strlen(sqlstate) + 1);
    buf_append(out, message, strlen(message) + 1);
    put_bytes(reduce, OUT_BYTES_ERROR, out->data, out->len, 1);
}

/* The key's bytes: in the least form that is there, as in op_reduce.c; then the aggregates. */
static void put_group(struct op *op, const struct group *group, uint64_t key)
{
    struct iterate_reduce *reduce = op->state;
    struct byte_groups *bytes = &reduce->bytes;
    const char *sqlstate = NULL;
    const char *message = NULL;
    uint32_t len;
    const uint8_t *data = interns_bytes(&reduce->interns, key, &len);
    const struct oset_node *form = bytes->layout.forms ? oset_first(&group->forms) : NULL;
    if (reduce->op == PLAN_REDUCE && reduce_is_negative(&bytes->layout, group)) {
        put_error(reduce, "XX000", REDUCE_NEGATIVE);
        return;
    }
    if (group->count <= 0) {
        return;
    }
    buf_clear(&bytes->out);
    buf_append(&bytes->out, form != NULL ? form->bytes : data, form != NULL ? form->len : len);
    if (reduce->op == PLAN_REDUCE) {
        reduce_result(&bytes->layout, group, &bytes->out, &sqlstate, &message);
    }
    if (sqlstate != NULL) {
        put_error(reduce, sqlstate, message);
        return;
    }
    put_bytes(reduce, 0, bytes->out.data, bytes->out.len,
              reduce->op == PLAN_THRESHOLD ? group->count : 1);
}

/* False: more rows than can be counted. */
static bool update_group(struct iterate_reduce *reduce, const struct batch *b)
{
    struct byte_groups *bytes = &reduce->bytes;
    struct group *group = bytes->group;
    bool range = false;
    memset(group, 0, bytes->layout.size);
    for (uint32_t row = 0; row < b->rows; row++) {
        int64_t diff = batch_diff(b, row);
        range |= __builtin_add_overflow(group->count, diff, &group->count);
        if (bytes->layout.forms) {
            buf_clear(&reduce->scratch);
            batch_encode_row(b, row, reduce->keys, reduce->input.keys_len, false,
                             &reduce->scratch);
            oset_update(&group->forms, &bytes->pool, reduce->scratch.data,
                        (uint32_t)reduce->scratch.len, 0, diff);
        }
        reduce_update(&bytes->layout, group, &bytes->pool, b, row, diff, &bytes->scratch);
    }
    return !range;
}

static void put_window_row(void *arg, const struct oset_node *node, int64_t copies)
{
    struct iterate_reduce *reduce = arg;
    put_bytes(reduce, 0, node->bytes + node->sort_len, node->len - node->sort_len, copies);
}

/* Ties are broken by the row's bytes, so the window is a function of the rows. */
static void put_window(struct op *op, const struct batch *b)
{
    struct iterate_reduce *reduce = op->state;
    const struct plan_node *node = op->node;
    struct oset rows = {0};
    for (uint32_t row = 0; row < b->rows; row++) {
        struct buf *element = &reduce->scratch;
        buf_clear(element);
        for (uint32_t i = 0; i < node->topk.order_len; i++) {
            const struct plan_order *order = &node->topk.order[i];
            struct datum d;
            batch_datum(&b->col[order->col], row, &d);
            order_encode(b->col[order->col].kind, &d, order->desc, order->nulls_first, element);
        }
        uint32_t sort_len = (uint32_t)element->len;
        batch_encode_row(b, row, NULL, 0, false, element);
        oset_update(&rows, &reduce->bytes.pool, element->data, (uint32_t)element->len, sort_len,
                    batch_diff(b, row));
    }
    if (rows.negative > 0) {
        put_error(reduce, "XX000", REDUCE_NEGATIVE);
    }
    int64_t high = reduce->bytes.high;
    if (node->topk.ties && high > 0) {
        high = oset_rank_peers(&rows, high - 1);
    }
    oset_range(&rows, reduce->bytes.low, high, put_window_row, reduce);
}

/* Returns as evaluate_flat. */
static uint32_t evaluate_bytes(struct op *op, struct trail *in, uint64_t key)
{
    struct iterate_reduce *reduce = op->state;
    struct byte_groups *bytes = &reduce->bytes;
    struct trail_sums sums;
    trail_sums(&reduce->in, in, reduce->iteration, &sums);
    while (trail_sums_next(&sums)) {
        if (sums.value.diff != 0) {
            uint32_t len;
            const uint8_t *row = interns_bytes(&reduce->interns, sums.value.values[0], &len);
            batch_decode_row(row, op->ports[0].kinds, op->ports[0].cols, bytes->rows, 0);
            batch_builder_end_row(bytes->rows, 0, sums.value.diff);
        }
    }
    reduce->cost += sums.cost;
    struct chunk *rows =
        chunk_from_builder(bytes->rows, op->ports[0].cols, &op->dataflow->account);
    if (rows == NULL) {
        return sums.next;
    }
    if (reduce->op == PLAN_TOPK) {
        put_window(op, &rows->batch);
    } else if (update_group(reduce, &rows->batch)) {
        put_group(op, bytes->group, key);
    } else {
        put_error(reduce, "22003", "bigint out of range");
    }
    pool_clear(&bytes->pool);
    chunk_unref(rows);
    return sums.next;
}

/* ---- putting out ----------------------------------------------------------------------------- */

static void emit_block(struct op *op)
{
    struct iterate_reduce *reduce = op->state;
    if (reduce->out_len == 0) {
        return;
    }
    struct batch_builder *ok = op_ok(op);
    for (uint32_t c = 0; c < op->cols; c++) {
        batch_builder_words(ok, c, reduce->words[c], 1, reduce->nulls[c], reduce->out_len);
    }
    batch_builder_end_rows(ok, reduce->base + reduce->iteration, reduce->diffs, 1,
                           reduce->out_len);
    reduce->out_len = 0;
    op_row_done(op);
}

static void emit_flat(struct op *op, const uint64_t *cell, const struct change *change)
{
    struct iterate_reduce *reduce = op->state;
    uint32_t keys_len = reduce->input.keys_len;
    uint32_t at = reduce->out_len++;
    uint32_t key_nulls = cells_nulls(cell);
    ASSERT(at < OUT_BLOCK && op->cols == keys_len + reduce->out.words);
    for (uint32_t k = 0; k < keys_len; k++) {
        reduce->words[k][at] = cell[1 + k];
        reduce->nulls[k][at] = key_nulls >> k & 1;
    }
    for (uint32_t a = 0; a < reduce->out.words; a++) {
        reduce->words[keys_len + a][at] = change->words[a];
        reduce->nulls[keys_len + a][at] = change->nulls >> a & 1;
    }
    reduce->diffs[at] = change->diff;
    if (reduce->out_len == OUT_BLOCK) {
        emit_block(op);
    }
}

static void emit_error(struct op *op, uint32_t nulls, const uint64_t *words, int64_t diff)
{
    struct iterate_reduce *reduce = op->state;
    const char *name = op->dataflow->plan->name;
    const char *sqlstate = "XX000";
    const char *message = REDUCE_NEGATIVE;
    uint32_t len;
    if (nulls == OUT_RANGE) {
        sqlstate = "22003";
        message = "bigint out of range";
    } else if (nulls == OUT_BYTES_ERROR) {
        sqlstate = (const char *)interns_bytes(&reduce->interns, words[0], &len);
        message = sqlstate + strlen(sqlstate) + 1;
    }
    op_error(op, sqlstate, message, name != NULL ? name : "", reduce->base + reduce->iteration,
             diff);
}

static void emit_bytes(struct op *op, const struct trail_entry *entry)
{
    struct iterate_reduce *reduce = op->state;
    uint32_t len;
    if ((entry->nulls & OUT_ERRORS) != 0) {
        emit_error(op, entry->nulls, entry->values, entry->diff);
        return;
    }
    const uint8_t *row = interns_bytes(&reduce->interns, entry->values[0], &len);
    batch_decode_row(row, op->kinds, op->cols, op_ok(op), 0);
    batch_builder_end_row(op_ok(op), reduce->base + reduce->iteration, entry->diff);
    op_row_done(op);
}

static struct trail *trail_of(const struct iterate_reduce *reduce, uint64_t *cell, uint32_t which)
{
    return (struct trail *)(void *)(cells_payload(&reduce->table, cell) + which);
}

/* A key that has no history any more goes. */
static void release_cell(struct iterate_reduce *reduce, uint64_t hash, uint64_t *cell)
{
    if (trail_is_empty(*trail_of(reduce, cell, 0)) && trail_is_empty(*trail_of(reduce, cell, 1))) {
        interns_release(reduce->flat ? NULL : &reduce->interns, cell[1]);
        cells_remove(&reduce->table, hash, cell);
    }
}

static void schedule(struct iterate_reduce *reduce, uint64_t hash, const uint64_t *cell,
                     uint32_t iteration)
{
    struct agenda_item item = {
        .iteration = iteration, .nulls = cells_nulls(cell), .hash = hash};
    memcpy(item.key, cell + 1, reduce->table.keys * sizeof(item.key[0]));
    agenda_push(reduce, &item);
}

/* What is to be put out, in changes, is put out and joins the trail of the output. */
static void flush_words(struct op *op, const uint64_t *cell, struct trail *out)
{
    struct iterate_reduce *reduce = op->state;
    for (size_t i = 0; i < reduce->changes_len; i++) {
        const struct change *change = &reduce->changes[i];
        if (change->diff == 0) {
            continue;
        }
        if ((change->nulls & OUT_ERRORS) != 0) {
            emit_error(op, change->nulls, change->words, change->diff);
        } else {
            emit_flat(op, cell, change);
        }
        trail_add(&reduce->out, out, change->nulls, reduce->iteration, change->diff,
                  change->words);
    }
    reduce->changes_len = 0;
}

static void flush_bytes(struct op *op, struct trail *out)
{
    struct iterate_reduce *reduce = op->state;
    trail_settle(&reduce->fresh_form, &reduce->fresh);
    for (uint32_t i = 0, len = trail_len(reduce->fresh); i < len; i++) {
        struct trail_entry entry;
        trail_at(&reduce->out, &reduce->fresh, i, &entry);
        emit_bytes(op, &entry);
        trail_add(&reduce->out, out, entry.nulls, reduce->iteration, entry.diff, entry.values);
    }
    trail_free(&reduce->fresh_form, &reduce->fresh);
}

/* The only entry of the output says what the rows give. */
static bool is_said(const struct iterate_reduce *reduce, uint64_t entry)
{
    const struct change *change = &reduce->changes[0];
    ASSERT(reduce->flat && reduce->out.words <= 1);
    return trail_narrow_iteration(entry) <= reduce->iteration &&
           trail_narrow_diff(entry) == change->diff && change->nulls == 0 &&
           (reduce->out.words == 0 || change->words[0] == trail_narrow_value(entry));
}

/* What was put out through this iteration is taken back. */
static void take_before(struct iterate_reduce *reduce, struct trail *out,
                        struct trail_sums *before)
{
    trail_sums(&reduce->out, out, reduce->iteration, before);
    while (trail_sums_next(before)) {
        if (before->value.diff != 0) {
            put_fresh(reduce, before->value.nulls, before->value.values,
                      trail_minus(before->value.diff));
        }
    }
}

/* The difference between what the key's rows give at this iteration and what was put out. */
static void flush_key(struct op *op, uint64_t hash, uint64_t *cell)
{
    struct iterate_reduce *reduce = op->state;
    struct trail *in = trail_of(reduce, cell, 0);
    struct trail *out = trail_of(reduce, cell, 1);
    struct trail_sums before;
    uint32_t next = UINT32_MAX;
    ASSERT(trail_is_empty(reduce->fresh) && reduce->changes_len == 0);
    ASSERT((cell[0] & CELL_MARK) == 0);
    if (!trail_is_empty(*in)) {
        next = reduce->flat ? evaluate_flat(op, in) : evaluate_bytes(op, in, cell[1]);
    }
    uint64_t one = trail_is_wide(*out) ? 0 : out->word;
    if (one % 2 == 1 && reduce->changes_len == 1 && is_said(reduce, one)) {
        reduce->changes_len = 0; /* as it mostly is */
        before.cost = 1;
    } else {
        take_before(reduce, out, &before);
    }
    reduce->cost += before.cost / (reduce->flat ? FLAT_COST : 1);
    if (reduce->flat) {
        flush_words(op, cell, out);
    } else {
        flush_bytes(op, out);
    }
    if (next != UINT32_MAX) {
        schedule(reduce, hash, cell, next);
    }
    release_cell(reduce, hash, cell);
}

/* Keys ahead of the one at hand: their cells, then the trails behind them. */
static void load_ahead(struct iterate_reduce *reduce)
{
    size_t far = reduce->flushed + 2 * AHEAD;
    size_t near = reduce->flushed + AHEAD;
    if (far < reduce->touched_len) {
        cells_load(&reduce->table, reduce->touched[far]);
    }
    if (near < reduce->touched_len) {
        uint64_t *cell = cells_find_mark(&reduce->table, reduce->touched[near],
                                         (uint32_t)near + 1);
        trail_load(*trail_of(reduce, cell, 0));
        trail_load(*trail_of(reduce, cell, 1));
    }
}

/* True when out of fuel before the end. */
static bool flush_touched(struct op *op)
{
    struct iterate_reduce *reduce = op->state;
    while (reduce->flushed < reduce->touched_len) {
        load_ahead(reduce);
        uint64_t hash = reduce->touched[reduce->flushed++];
        uint64_t *cell = cells_find_mark(&reduce->table, hash, (uint32_t)reduce->flushed);
        cell[0] &= ~CELL_MARK;
        reduce->cost = 1;
        flush_key(op, hash, cell);
        if (fuel_spend(op->engine, reduce->cost)) {
            return true;
        }
    }
    reduce->touched_len = reduce->flushed = 0;
    reduce->flushing = false;
    return false;
}

/* ---- taking rows ----------------------------------------------------------------------------- */

static void touch(struct iterate_reduce *reduce, uint64_t *cell, uint64_t hash)
{
    if ((cell[0] & CELL_MARK) == 0) {
        *VEC_PUSH(reduce, touched) = hash;
        ASSERT(reduce->touched_len <= CELL_MARK);
        cell[0] |= reduce->touched_len;
    }
}

static void take_block(struct op *op)
{
    struct iterate_reduce *reduce = op->state;
    struct iterate_block *block = &reduce->feed.block;
    uint32_t key_words = reduce->input.key_words;
    iterate_load(&reduce->feed);
    for (uint32_t i = 0; i < block->len; i++) {
        cells_load(&reduce->table, block->hash[i]);
    }
    for (uint32_t i = 0; i < block->len; i++) {
        uint64_t *cell = cells_find(&reduce->table, block->hash[i], &block->keys[i * key_words],
                                    reduce->flat ? block->key_nulls[i] : 0);
        if (cell != NULL) {
            trail_load(*trail_of(reduce, cell, 0));
        }
    }
    for (; block->at < block->len; block->at++) {
        uint32_t i = block->at;
        int64_t diff = block->diffs[i];
        const uint64_t *key = &block->keys[i * key_words];
        uint32_t nulls = reduce->flat ? block->key_nulls[i] : 0;
        if (diff == 0) {
            continue;
        }
        uint64_t *cell = cells_find(&reduce->table, block->hash[i], key, nulls);
        if (cell == NULL) {
            cell = cells_add(&reduce->table, block->hash[i], key, nulls);
            interns_retain(reduce->flat ? NULL : &reduce->interns, key[0]);
        }
        touch(reduce, cell, block->hash[i]);
        trail_add(&reduce->in, trail_of(reduce, cell, 0), block->nulls[i], reduce->iteration, diff,
                  &block->values[i * reduce->input.words]);
    }
}

/* Keys whose iteration has come. One that went meanwhile has nothing to put out. */
static void take_agenda(struct iterate_reduce *reduce)
{
    while (reduce->agenda_len > 0 && reduce->agenda[0].iteration <= reduce->iteration) {
        struct agenda_item item = agenda_pop(reduce);
        uint64_t *cell = cells_find(&reduce->table, item.hash, item.key, item.nulls);
        if (cell != NULL) {
            touch(reduce, cell, item.hash);
        }
    }
}

/* True when out of fuel before the end. Keys are looked at when all their rows are there. */
static bool run_pass(struct op *op)
{
    struct iterate_reduce *reduce = op->state;
    struct iterate_feed *feed = &reduce->feed;
    for (;;) {
        if (reduce->flushing && flush_touched(op)) {
            return true;
        }
        if (iterate_is_done(feed) && reduce->agenda_taken) {
            emit_block(op);
            return false;
        }
        if (iterate_is_done(feed)) {
            take_agenda(reduce);
            reduce->agenda_taken = true;
        } else if (fuel_spend(op->engine, ITERATE_ROWS)) {
            return true;
        } else {
            take_block(op);
        }
        reduce->flushing = reduce->agenda_taken ||
                           (!iterate_is_done(feed) && iterate_is_part_done(feed));
    }
}

/* The lists are part of the operator's account; those of a large time are not kept. */
static void account_lists(struct op *op)
{
    struct iterate_reduce *reduce = op->state;
    if (reduce->touched_len == 0 && reduce->touched_cap > LISTS_KEPT) {
        free(reduce->touched);
        reduce->touched = NULL;
        reduce->touched_cap = 0;
    }
    if (reduce->agenda_len == 0 && reduce->agenda_cap > LISTS_KEPT) {
        free(reduce->agenda);
        reduce->agenda = NULL;
        reduce->agenda_cap = 0;
    }
    uint64_t bytes = reduce->touched_cap * sizeof(*reduce->touched) +
                     reduce->agenda_cap * sizeof(*reduce->agenda);
    account_add(&op->account, (int64_t)bytes - (int64_t)reduce->lists_bytes);
    reduce->lists_bytes = bytes;
}

/* A pass is one iteration: frontiers in a scope stop at each that has anything to do. */
static bool reduce_work(struct op *op)
{
    struct iterate_reduce *reduce = op->state;
    op_forward_errors(op);
    if (!reduce->feed.intake.open) {
        if (!iterate_open(&reduce->feed, op, reduce->table.len)) {
            return false;
        }
        reduce->agenda_taken = false;
        reduce->base = scope_base(op);
        ASSERT(reduce->feed.intake.upper > reduce->base);
        reduce->iteration = (uint32_t)(reduce->feed.intake.upper - 1 - reduce->base);
    }
    bool more = iterate_divide(&reduce->feed, op) || run_pass(op);
    account_lists(op);
    if (more) {
        return true;
    }
    uint64_t upper = reduce->feed.intake.upper;
    iterate_close(&reduce->feed);
    op->pending = reduce->agenda_len > 0 ? reduce->base + reduce->agenda[0].iteration
                                         : FRONTIER_EMPTY;
    ASSERT(op->pending >= upper);
    op_advance(op, upper);
    op->arranged_rows = reduce->entries;
    return op_input_frontier(op) > op->frontier;
}

static void reduce_release(struct op *op)
{
    struct iterate_reduce *reduce = op->state;
    struct byte_groups *bytes = &reduce->bytes;
    account_add(&op->account, -(int64_t)reduce->lists_bytes);
    cells_clear(&reduce->table);
    pool_clear(&reduce->pool);
    interns_free(&reduce->interns);
    iterate_feed_free(&reduce->feed);
    pool_clear(&bytes->pool);
    reduce_layout_free(&bytes->layout);
    batch_builder_free(bytes->rows);
    free(bytes->group);
    buf_free(&bytes->out);
    buf_free(&bytes->scratch.value);
    buf_free(&bytes->scratch.before);
    buf_free(&reduce->scratch);
    free(reduce->keys);
    free(reduce->touched);
    free(reduce->changes);
    free(reduce->agenda);
    free(reduce);
}

/* ---- which plans ----------------------------------------------------------------------------- */

/* Counts, minima, maxima and narrow sums of one column. */
static bool is_flat_agg(const struct op *op, const struct plan_agg *agg, uint32_t col)
{
    if (agg->distinct || agg->has_filter) {
        return false;
    }
    uint8_t kind = agg->func == AGG_COUNT_ALL ? 0 : op->ports[0].kinds[agg->arg];
    switch (agg->func) {
    case AGG_COUNT_ALL:
        return true;
    case AGG_COUNT:
    case AGG_MIN:
    case AGG_MAX:
        return agg->arg == col && iterate_is_flat_key(kind);
    case AGG_SUM:
        return agg->arg == col && (kind == TYPE_INT2 || kind == TYPE_INT4) &&
               agg->type.kind == TYPE_INT8;
    default:
        return false;
    }
}

/* The column the aggregates are of, or UINT32_MAX. */
static uint32_t agg_col(const struct plan_node *node)
{
    for (uint32_t a = 0; a < node->reduce.aggs_len; a++) {
        if (node->reduce.aggs[a].func != AGG_COUNT_ALL) {
            return node->reduce.aggs[a].arg;
        }
    }
    return UINT32_MAX;
}

static bool is_flat(const struct op *op, const struct iterate_reduce *reduce)
{
    const struct plan_node *node = op->node;
    bool flat = node->op != PLAN_TOPK && reduce->input.keys_len <= CELLS_KEYS_MAX;
    for (uint32_t k = 0; flat && k < reduce->input.keys_len; k++) {
        flat = iterate_is_flat_key(op->ports[0].kinds[reduce->keys[k]]);
    }
    if (node->op == PLAN_REDUCE) {
        flat = flat && node->reduce.aggs_len <= ITERATE_VALUES_MAX;
        uint32_t col = agg_col(node);
        for (uint32_t a = 0; flat && a < node->reduce.aggs_len; a++) {
            flat = is_flat_agg(op, &node->reduce.aggs[a], col);
        }
    }
    return flat;
}

/* Distinct and threshold are reductions by all columns. */
static void set_keys(struct iterate_reduce *reduce, const struct op *op)
{
    const struct plan_node *node = op->node;
    const uint32_t *keys = node->op == PLAN_REDUCE ? node->reduce.keys
                           : node->op == PLAN_TOPK ? node->topk.keys
                                                   : NULL;
    uint32_t keys_len = node->op == PLAN_REDUCE ? node->reduce.keys_len
                        : node->op == PLAN_TOPK ? node->topk.keys_len
                                                : op->cols;
    reduce->keys = mem_alloc(keys_len * sizeof(uint32_t));
    for (uint32_t k = 0; k < keys_len; k++) {
        reduce->keys[k] = keys != NULL ? keys[k] : k;
    }
    reduce->input.keys = reduce->keys;
    reduce->input.keys_len = keys_len;
}

static void set_flat(struct iterate_reduce *reduce, const struct op *op)
{
    const struct plan_node *node = op->node;
    struct iterate_input *input = &reduce->input;
    uint32_t col = node->op == PLAN_REDUCE ? agg_col(node) : UINT32_MAX;
    input->flat = true;
    input->key_words = input->keys_len > 0 ? input->keys_len : 1;
    if (col != UINT32_MAX) {
        input->values[0] = col;
        input->values_len = input->words = 1;
        reduce->kind = op->ports[0].kinds[col];
    }
    reduce->in.words = input->words;
    reduce->out.words = node->op == PLAN_REDUCE ? node->reduce.aggs_len : 0;
}

static void set_bytes(struct iterate_reduce *reduce, const struct op *op)
{
    const struct plan_node *node = op->node;
    struct byte_groups *bytes = &reduce->bytes;
    bool aggregates = node->op == PLAN_REDUCE;
    reduce->input.key_words = reduce->input.words = 1;
    reduce->in.words = reduce->out.words = 1;
    reduce->in.interns = reduce->out.interns = &reduce->interns;
    if (node->op == PLAN_TOPK) {
        int64_t offset = node->topk.offset;
        int64_t limit = node->topk.limit;
        bytes->low = offset;
        bytes->high = limit < 0 || limit > INT64_MAX - offset ? INT64_MAX : offset + limit;
    } else {
        reduce_layout_init(&bytes->layout, aggregates ? node->reduce.aggs : NULL,
                           aggregates ? node->reduce.aggs_len : 0, op->ports[0].kinds, op->kinds,
                           reduce->input.keys_len);
        bytes->group = mem_zalloc(bytes->layout.size);
    }
    bytes->rows = batch_builder_new(op->ports[0].kinds, op->ports[0].cols);
}

void op_make_iterate_reduce(struct op *op)
{
    static const struct op_class classes[] = {
        [PLAN_REDUCE] = {"reduce", reduce_work, reduce_release},
        [PLAN_DISTINCT] = {"distinct", reduce_work, reduce_release},
        [PLAN_THRESHOLD] = {"threshold", reduce_work, reduce_release},
        [PLAN_TOPK] = {"top-k", reduce_work, reduce_release},
    };
    struct iterate_reduce *reduce = MEM_NEW(struct iterate_reduce);
    ASSERT(op->ports_len == 1 && op->scope != NULL);
    ASSERT(op->node->op < ARRAY_LEN(classes) && classes[op->node->op].work != NULL);
    op->class = &classes[op->node->op];
    op->state = reduce;
    reduce->op = op->node->op;
    pool_init(&reduce->pool, &op->account);
    pool_init(&reduce->bytes.pool, &op->account);
    interns_init(&reduce->interns, &op->account);
    set_keys(reduce, op);
    reduce->flat = is_flat(op, reduce);
    if (reduce->flat) {
        set_flat(reduce, op);
    } else {
        set_bytes(reduce, op);
    }
    reduce->in.pool = reduce->out.pool = &reduce->pool;
    reduce->in.len = reduce->out.len = &reduce->entries;
    reduce->fresh_form = reduce->out;
    reduce->fresh_form.len = &reduce->fresh_entries;
    iterate_feed_init(&reduce->feed, &reduce->input, 1, reduce->flat ? NULL : &reduce->interns,
                      &op->account);
    cells_init(&reduce->table, reduce->input.key_words, 2, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, reduce->keys, reduce->input.keys_len, false);
}
