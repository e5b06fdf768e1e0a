/*
 * Reduce, distinct and threshold of groups that are a few words: keys of one to four numbers,
 * dates, flags or (as their numbers in a dictionary) strings, and aggregates of such
 * (flat_state.h). The same operator as in op_reduce.c, with the same output, for the plans that
 * allow it; what differs is that nothing is done per row but loads, compares and stores.
 *
 * Rows are taken FLAT_ROWS at a time, all of one time: their keys are read a column at a time and
 * hashed, the cells they will touch are loaded, then the states change. The first change of a group
 * at a time keeps its image as it was and leaves a mark in its cell, the touched group's number.
 * When the time is complete the groups are looked up by hash and mark, again FLAT_ROWS at a time,
 * and what changed is put out a column at a time.
 *
 *   touched   hash, image before     one after another, 1 + image_words each
 *
 * Strings: a row at hand holds those of its key, a cell those of its own, an image those it shows.
 */
#include "core/engine/flat_state.h"

enum {
    FLAT_COLS_MAX = CELLS_KEYS_MAX + FLAT_AGGS_MAX,
    TOUCHED_KEPT = 1 << 18, /* groups: the list of a snapshot's is not kept */
};

/* Rows at hand, of one time. */
struct flat_block {
    struct flat_rows input;
    uint32_t rows[FLAT_ROWS];
    uint64_t column[FLAT_ROWS];
    uint64_t keys[FLAT_ROWS * CELLS_KEYS_MAX]; /* row after row */
    uint32_t nulls[FLAT_ROWS];
    uint64_t hash[FLAT_ROWS];
    uint32_t held[FLAT_ROWS * CELLS_KEYS_MAX]; /* strings of the keys */
    uint32_t held_len;
};

/* Output of a block of groups: at most an old and a new row each. */
struct flat_output {
    uint32_t len;
    uint64_t words[FLAT_COLS_MAX][2 * FLAT_ROWS];
    struct numeric *numerics[FLAT_COLS_MAX]; /* instead, of such columns: 2 * FLAT_ROWS */
    uint8_t nulls[FLAT_COLS_MAX][2 * FLAT_ROWS];
    int64_t diffs[2 * FLAT_ROWS];
    uint64_t *images;                          /* of the groups, after the time */
    uint32_t dropped[FLAT_ROWS * CELLS_KEYS_MAX]; /* strings of groups that are gone */
    uint32_t dropped_len;
};

struct flat {
    uint8_t op; /* PLAN_REDUCE, PLAN_DISTINCT or PLAN_THRESHOLD */
    uint32_t keys_len;
    uint32_t keys[CELLS_KEYS_MAX]; /* input columns */
    uint32_t strings;              /* a bit a key: its words are numbers in the dictionary */
    struct flat_layout layout;
    struct cells table;
    struct pool pool; /* of the layout's sets */
    struct dict dict;
    struct intake intake;
    bool flushing; /* the changes of time are in, touched groups are being looked at */
    uint64_t time;
    uint64_t *touched;
    size_t touched_len, touched_cap; /* groups */
    size_t flushed;
    struct flat_block block;
    struct flat_output out;
};

/* ---- taking rows ----------------------------------------------------------------------------- */

/* A column of strings as their numbers, held. Runs of one, as of a day, are looked up once. */
static void hold_strings(struct flat *flat, const struct batch_col *col)
{
    struct flat_block *block = &flat->block;
    struct datum last = {.null = true};
    for (uint32_t i = 0; i < block->input.len; i++) {
        struct datum d;
        batch_datum(col, block->rows[i], &d);
        if (d.null) {
            block->column[i] = 0;
        } else if (!last.null && d.len == last.len &&
                   (d.len == 0 || memcmp(d.s, last.s, d.len) == 0)) {
            block->column[i] = block->held[block->held_len - 1];
        } else {
            uint32_t number = dict_hold(&flat->dict, d.s, d.len);
            block->held[block->held_len++] = number;
            block->column[i] = number;
            last = d;
        }
    }
    ASSERT(block->held_len <= ARRAY_LEN(block->held));
}

/* The next rows of the intake: their keys, hashes, and cells on the way. */
static void load_block(struct flat *flat)
{
    struct flat_block *block = &flat->block;
    uint32_t n = intake_take(&flat->intake, FLAT_ROWS, block->rows, &block->input.batch);
    const struct batch *b = block->input.batch;
    ASSERT(n > 0 && n <= FLAT_ROWS && b->rows >= n);
    block->input.len = n;
    block->input.rows = block->rows;
    memset(block->nulls, 0, n * sizeof(block->nulls[0]));
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        const struct batch_col *col = &b->col[flat->keys[k]];
        if ((flat->strings >> k & 1) != 0) {
            hold_strings(flat, col);
        } else {
            batch_words(col, block->rows, 0, n, block->column);
        }
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

/* Groups of counts of rows alone are seen as they are. */
static inline void image_of(struct flat *flat, const uint64_t *group, uint64_t *image)
{
    if (flat->layout.states_len == 0) {
        image[FLAT_ROW_COUNT] = group[FLAT_ROW_COUNT];
    } else {
        flat_image(&flat->layout, group, image);
    }
}

/* At a group's first change of a time: what it was, and the mark by which it is found again. */
static void touch(struct flat *flat, uint64_t *cell, uint64_t hash)
{
    ASSERT((cell[0] & CELL_MARK) == 0 && flat->touched_len < flat->touched_cap);
    uint64_t *touched = &flat->touched[flat->touched_len++ * (1 + flat->layout.image_words)];
    touched[0] = hash;
    image_of(flat, cells_payload(&flat->table, cell), touched + 1);
    cell[0] |= flat->touched_len;
}

/* The list is part of the operator's account, as what a time's changes need at most. */
static void resize_touched(struct op *op, size_t cap)
{
    struct flat *flat = op->state;
    size_t bytes = (1 + flat->layout.image_words) * sizeof(flat->touched[0]);
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

/* A group that was not there; its cell holds the strings of its key. */
static uint64_t *add_group(struct flat *flat, uint64_t hash, const uint64_t *key, uint32_t nulls)
{
    uint64_t *cell = cells_add(&flat->table, hash, key, nulls);
    flat_group_init(&flat->layout, cells_payload(&flat->table, cell));
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        if (((flat->strings & ~nulls) >> k & 1) != 0) {
            dict_ref(&flat->dict, (uint32_t)key[k]);
        }
    }
    return cell;
}

/* The group of the block's i-th row, found or added, and touched. */
static inline uint64_t *touch_group(struct flat *flat, uint32_t i)
{
    const struct flat_block *block = &flat->block;
    const uint64_t *key = &block->keys[i * flat->keys_len];
    uint64_t hash = block->hash[i];
    uint64_t *cell = cells_find(&flat->table, hash, key, block->nulls[i]);
    if (cell == NULL) {
        cell = add_group(flat, hash, key, block->nulls[i]);
    }
    if ((cell[0] & CELL_MARK) == 0) {
        touch(flat, cell, hash);
    }
    return cell;
}

/* Finds or adds the rows' groups and touches them. As cells move when one is added, those of a
 * block that added any are looked up once more. */
static void find_groups(struct flat *flat)
{
    struct flat_block *block = &flat->block;
    uint64_t before = flat->table.len;
    ASSERT(block->input.len > 0 && flat->layout.states_len > 0);
    for (int again = 0; again < 2; again++) {
        for (uint32_t i = 0; i < block->input.len; i++) {
            uint64_t *cell = touch_group(flat, i);
            block->input.groups[i] = cells_payload(&flat->table, cell);
        }
        if (flat->table.len == before) {
            return;
        }
        before = flat->table.len;
    }
}

/* The same where rows are all that is counted: a group's count changes as it is found. */
static void count_rows(struct flat *flat)
{
    struct flat_block *block = &flat->block;
    for (uint32_t i = 0; i < block->input.len; i++) {
        uint64_t *cell = touch_group(flat, i);
        cells_payload(&flat->table, cell)[FLAT_ROW_COUNT] +=
            (uint64_t)batch_diff(block->input.batch, block->rows[i]);
    }
}

static void take_block(struct op *op)
{
    struct flat *flat = op->state;
    struct flat_block *block = &flat->block;
    load_block(flat);
    reserve_touched(op, block->input.len);
    if (flat->layout.states_len == 0) {
        count_rows(flat);
    } else {
        find_groups(flat);
        flat_update(&flat->layout, &block->input);
    }
    for (uint32_t i = 0; i < block->held_len; i++) {
        dict_unref(&flat->dict, block->held[i]);
    }
    block->held_len = 0;
}

/* ---- putting out ----------------------------------------------------------------------------- */

/* What a group contributes, but for errors of its aggregates; as in op_reduce.c. */
static enum group_output output_of(const struct flat *flat, const uint64_t *image)
{
    int64_t rows = (int64_t)image[FLAT_ROW_COUNT];
    if (flat->op == PLAN_REDUCE && (rows < 0 || flat_is_negative(&flat->layout, image))) {
        return GROUP_ERROR;
    }
    return rows > 0 ? GROUP_ROW : GROUP_NOTHING;
}

/* A threshold keeps positive multiplicities as they are; distinct and reduce put out one row. */
static int64_t copies_of(const struct flat *flat, const uint64_t *image)
{
    return flat->op == PLAN_THRESHOLD ? (int64_t)image[FLAT_ROW_COUNT] : 1;
}

static void put_keys(struct flat *flat, const uint64_t *cell, uint32_t at)
{
    struct flat_output *out = &flat->out;
    uint32_t nulls = cells_nulls(cell);
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        out->words[k][at] = cell[1 + k];
        out->nulls[k][at] = nulls >> k & 1;
    }
}

/* The aggregates of a group that is a row; an error when they do not fit their types. */
static bool put_aggs(struct flat *flat, const uint64_t *image, uint32_t at, const char **sqlstate,
                     const char **message)
{
    struct flat_output *out = &flat->out;
    struct datum data[FLAT_AGGS_MAX];
    if (!flat_result(&flat->layout, image, data, sqlstate, message)) {
        return false;
    }
    for (uint32_t a = 0; a < flat->layout.aggs_len; a++) {
        uint32_t c = flat->keys_len + a;
        out->nulls[c][at] = data[a].null;
        out->words[c][at] = (uint64_t)data[a].i;
        if (out->numerics[c] != NULL) {
            out->numerics[c][at] = data[a].n;
        }
    }
    return true;
}

/* What a group is before or after a time; a row lies in the output, at. */
struct side {
    enum group_output output;
    uint32_t at;
    const char *sqlstate, *message; /* of an error */
};

static struct side side_of(struct flat *flat, const uint64_t *cell, const uint64_t *image)
{
    struct side side = {output_of(flat, image), flat->out.len, "XX000", REDUCE_NEGATIVE};
    ASSERT(side.at < ARRAY_LEN(flat->out.diffs));
    if (side.output == GROUP_ROW) {
        if (put_aggs(flat, image, side.at, &side.sqlstate, &side.message)) {
            put_keys(flat, cell, side.at);
            flat->out.diffs[side.at] = 1;
            flat->out.len++;
        } else {
            side.output = GROUP_ERROR;
        }
    }
    return side;
}

/* Rows of one group: do they agree in all aggregates? */
static bool same_rows(const struct flat *flat, uint32_t a, uint32_t b)
{
    const struct flat_output *out = &flat->out;
    bool same = true;
    ASSERT(a < b && b < out->len);
    for (uint32_t c = flat->keys_len; same && c < flat->keys_len + flat->layout.aggs_len; c++) {
        const struct numeric *numerics = out->numerics[c];
        bool null = out->nulls[c][a] != 0;
        bool equal = numerics != NULL
                         ? memcmp(&numerics[a], &numerics[b], sizeof(numerics[0])) == 0
                         : out->words[c][a] == out->words[c][b];
        same = null == (out->nulls[c][b] != 0) && (null || equal);
    }
    return same;
}

static bool same_sides(const struct flat *flat, const struct side *a, const struct side *b)
{
    if (a->output != b->output) {
        return false;
    }
    return a->output == GROUP_ROW     ? same_rows(flat, a->at, b->at)
           : a->output == GROUP_ERROR ? strcmp(a->message, b->message) == 0
                                      : true;
}

static void put_error(struct op *op, const struct side *side, int64_t diff)
{
    const struct flat *flat = op->state;
    const char *name = op->dataflow->plan->name;
    if (side->output == GROUP_ERROR) {
        op_error(op, side->sqlstate, side->message, name != NULL ? name : "", flat->time, diff);
    }
}

/* As readers would see it; where rows are all that is counted, without a call. */
static bool same_image(const struct flat *flat, const uint64_t *a, const uint64_t *b)
{
    if (flat->layout.states_len == 0) {
        return flat->layout.aggs_len == 0 || a[FLAT_ROW_COUNT] == b[FLAT_ROW_COUNT];
    }
    return flat_image_same(&flat->layout, a, b);
}

/* A row whose aggregates are words of the image. */
static void put_plain(struct flat *flat, const uint64_t *cell, const uint64_t *image, int64_t diff)
{
    struct flat_output *out = &flat->out;
    const struct flat_layout *layout = &flat->layout;
    uint32_t at = out->len++;
    ASSERT(layout->plain && at < ARRAY_LEN(out->diffs) && diff != 0);
    put_keys(flat, cell, at);
    for (uint32_t a = 0; a < layout->aggs_len; a++) {
        out->words[flat->keys_len + a][at] = image[layout->agg_shown[a]];
    }
    out->diffs[at] = diff;
}

static void put_plain_side(struct op *op, const uint64_t *cell, const uint64_t *image,
                           enum group_output output, int64_t sign)
{
    struct flat *flat = op->state;
    if (output == GROUP_ROW) {
        put_plain(flat, cell, image, (int64_t)((uint64_t)copies_of(flat, image) * (uint64_t)sign));
    } else if (output == GROUP_ERROR) {
        const struct side side = {output, 0, "XX000", REDUCE_NEGATIVE};
        put_error(op, &side, sign);
    }
}

/* The difference a group's changes made, where what images show is what is put out. */
static void flush_plain(struct op *op, const uint64_t *cell, const uint64_t *old,
                        const uint64_t *image, bool same)
{
    struct flat *flat = op->state;
    enum group_output before = output_of(flat, old);
    enum group_output after = output_of(flat, image);
    uint64_t more = (uint64_t)copies_of(flat, image) - (uint64_t)copies_of(flat, old);
    if (before != after || (after == GROUP_ROW && !same)) {
        put_plain_side(op, cell, old, before, -1);
        put_plain_side(op, cell, image, after, 1);
    } else if (after == GROUP_ROW && more != 0) {
        put_plain(flat, cell, image, (int64_t)more);
    }
}

/* The same with aggregates that are computed from the image: equal ones cancel, and may fail. */
static void flush_computed(struct op *op, const uint64_t *cell, const uint64_t *old,
                           const uint64_t *image, bool same)
{
    struct flat *flat = op->state;
    ASSERT(flat->op == PLAN_REDUCE); /* a row has one copy */
    if (same && output_of(flat, old) == output_of(flat, image)) {
        return;
    }
    struct side before = side_of(flat, cell, old);
    struct side after = side_of(flat, cell, image);
    if (same_sides(flat, &before, &after)) {
        flat->out.len = before.at;
        return;
    }
    if (before.output == GROUP_ROW) {
        flat->out.diffs[before.at] = -1;
    }
    put_error(op, &before, -1);
    put_error(op, &after, 1);
}

static void flush_group(struct op *op, uint64_t *cell, const uint64_t *old, uint64_t *image)
{
    struct flat *flat = op->state;
    ASSERT((cell[0] & CELL_MARK) == 0); /* the next change of the group is its first again */
    image_of(flat, cells_payload(&flat->table, cell), image);
    bool same = same_image(flat, old, image);
    if (flat->layout.plain) {
        flush_plain(op, cell, old, image, same);
    } else {
        flush_computed(op, cell, old, image, same);
    }
}

/* A column that is not of words: rows from to end - 1 of the block. */
static void emit_data(struct flat *flat, struct batch_builder *ok, uint32_t c, uint32_t from,
                      uint32_t end)
{
    const struct flat_output *out = &flat->out;
    struct datum data[2 * FLAT_ROWS];
    bool numeric = out->numerics[c] != NULL;
    ASSERT(out->len <= ARRAY_LEN(data) && from < end && end <= out->len);
    for (uint32_t i = from; i < end; i++) {
        data[i] = (struct datum){.null = out->nulls[c][i] != 0};
        if (!data[i].null && numeric) {
            data[i].n = out->numerics[c][i];
        } else if (!data[i].null) {
            struct dict_string s = dict_string(&flat->dict, (uint32_t)out->words[c][i]);
            data[i].s = s.data;
            data[i].len = s.len;
        }
    }
    batch_builder_data(ok, c, data + from, end - from);
}

/* The end of the rows from from on whose strings are OUT_BYTES together; one row at least. */
static uint32_t block_end(const struct op *op, uint32_t from)
{
    const struct flat *flat = op->state;
    const struct flat_output *out = &flat->out;
    size_t bytes[2 * FLAT_ROWS] = {0};
    size_t total = 0;
    ASSERT(from < out->len && out->len <= ARRAY_LEN(bytes));
    for (uint32_t c = 0; c < op->cols; c++) {
        bool string = !batch_kind_is_word(op->kinds[c]) && out->numerics[c] == NULL;
        for (uint32_t i = from; string && i < out->len; i++) {
            bool null = out->nulls[c][i] != 0;
            size_t len = null ? 0 : dict_string(&flat->dict, (uint32_t)out->words[c][i]).len;
            bytes[i] += len;
            total += len;
        }
    }
    uint32_t end = total < OUT_BYTES ? out->len : from;
    for (size_t sum = 0; end < out->len && sum < OUT_BYTES; end++) {
        sum += bytes[end];
    }
    return end;
}

/* Rows of a block become columns of the operator's output, which is put out between long ones. */
static void emit_block(struct op *op)
{
    struct flat *flat = op->state;
    struct flat_output *out = &flat->out;
    struct batch_builder *ok = op_ok(op);
    ASSERT(out->len <= 2 * FLAT_ROWS && flat->time >= op->frontier);
    for (uint32_t from = 0, end; from < out->len; from = end) {
        end = block_end(op, from);
        for (uint32_t c = 0; c < op->cols; c++) {
            if (!batch_kind_is_word(op->kinds[c])) {
                emit_data(flat, ok, c, from, end);
            } else {
                bool nulls = c < flat->keys_len || !flat->layout.plain;
                batch_builder_words(ok, c, out->words[c] + from, 1,
                                    nulls ? out->nulls[c] + from : NULL, end - from);
            }
        }
        batch_builder_end_rows(ok, flat->time, out->diffs + from, 1, end - from);
        op_row_done(op);
        if (end < out->len) {
            op_flush(op);
        }
    }
    out->len = 0;
}

/* A group without rows goes; its strings stay until the block is put out. */
static void drop_group(struct flat *flat, uint64_t hash, uint64_t *cell)
{
    struct flat_output *out = &flat->out;
    uint32_t strings = flat->strings & ~cells_nulls(cell);
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        if ((strings >> k & 1) != 0) {
            out->dropped[out->dropped_len++] = (uint32_t)cell[1 + k];
        }
    }
    ASSERT(out->dropped_len <= ARRAY_LEN(out->dropped));
    cells_remove(&flat->table, hash, cell);
}

/* Strings that only the output of these groups needed. */
static void release_strings(struct flat *flat, const uint64_t *touched, size_t n)
{
    struct flat_output *out = &flat->out;
    for (size_t i = 0; flat->layout.strings && i < n; i++) {
        flat_image_release(&flat->layout, touched + i * (1 + flat->layout.image_words) + 1);
        flat_image_release(&flat->layout, out->images + i * flat->layout.image_words);
    }
    for (uint32_t i = 0; i < out->dropped_len; i++) {
        dict_unref(&flat->dict, out->dropped[i]);
    }
    out->dropped_len = 0;
}

/* The next touched groups; those that are left with nothing go. */
static void flush_block(struct op *op)
{
    struct flat *flat = op->state;
    size_t left = flat->touched_len - flat->flushed;
    size_t n = left < FLAT_ROWS ? left : FLAT_ROWS;
    size_t stride = 1 + flat->layout.image_words;
    ASSERT(n > 0 && flat->out.len == 0 && flat->flushing);
    const uint64_t *touched = &flat->touched[flat->flushed * stride];
    size_t ahead = left < 2 * FLAT_ROWS ? left : 2 * FLAT_ROWS;
    for (size_t i = flat->flushed == 0 ? 0 : n; i < ahead; i++) {
        cells_load(&flat->table, touched[i * stride]);
    }
    for (size_t i = 0; i < n; i++) {
        const uint64_t *old = touched + i * stride;
        uint64_t *cell = cells_find_mark(&flat->table, old[0], (uint32_t)(flat->flushed + i + 1));
        cell[0] &= ~CELL_MARK;
        flush_group(op, cell, old + 1, flat->out.images + i * flat->layout.image_words);
        if (flat_group_is_empty(&flat->layout, cells_payload(&flat->table, cell))) {
            drop_group(flat, old[0], cell);
        }
    }
    flat->flushed += n;
    emit_block(op);
    release_strings(flat, touched, n);
}

/* Fuel of a block: a unit a row and state. */
static uint32_t block_units(const struct flat *flat)
{
    return FLAT_ROWS * (1 + flat->layout.states_len);
}

/* True when out of fuel before the end. */
static bool flush_time(struct op *op)
{
    struct flat *flat = op->state;
    while (flat->flushed < flat->touched_len) {
        if (fuel_spend(op->engine, block_units(flat))) {
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
        if (done && intake->part) {
            return false; /* more of this time comes */
        }
        uint64_t time = done ? 0 : intake_ref(intake).time;
        if (flat->touched_len > 0 && (done || time != flat->time)) {
            flat->flushing = true;
            continue;
        }
        if (fuel_spend(op->engine, block_units(flat))) {
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
    struct intake *intake = &flat->intake;
    if (!intake->open && !intake_open(intake, op, INTAKE_BY_TIME) &&
        !intake_open_part(intake, op, INTAKE_BY_TIME, EARLY_ROWS)) {
        return false;
    }
    if (run_pass(op)) {
        return true;
    }
    ASSERT(!flat->flushing && flat->out.len == 0);
    intake_close(intake);
    if (!intake->part) {
        ASSERT(flat->touched_len == 0);
        op_advance(op, intake->upper);
    }
    op->arranged_rows = flat->table.len;
    for (uint32_t m = 0; m < flat->layout.members_len; m++) {
        op->arranged_rows += flat->layout.members[m].table.len;
    }
    return op_input_frontier(op) > op->frontier;
}

static void flat_release(struct op *op)
{
    struct flat *flat = op->state;
    cells_clear(&flat->table);
    flat_layout_free(&flat->layout);
    dict_free(&flat->dict);
    pool_clear(&flat->pool);
    intake_free(&flat->intake);
    flat->touched_len = 0;
    resize_touched(op, 0);
    for (uint32_t c = 0; c < op->cols; c++) {
        free(flat->out.numerics[c]);
    }
    free(flat->out.images);
    free(flat);
}

/* ---- which plans ----------------------------------------------------------------------------- */

/*
 * Floats have several forms of zero and NaN: their keys are not their words. Strings have one;
 * where there are no aggregates, whole rows of them are cheaper as bytes (op_reduce.c).
 */
static bool is_flat_key(uint8_t kind, bool strings)
{
    return (batch_kind_is_word(kind) && kind != TYPE_FLOAT4 && kind != TYPE_FLOAT8) ||
           (strings && (kind == TYPE_TEXT || kind == TYPE_BYTEA));
}

bool op_reduce_is_flat(const struct op *op)
{
    const struct plan_node *node = op->node;
    bool all = node->op != PLAN_REDUCE;
    uint32_t keys_len = all ? op->cols : node->reduce.keys_len;
    bool flat = keys_len <= CELLS_KEYS_MAX && (all || node->reduce.aggs_len <= FLAT_AGGS_MAX);
    for (uint32_t k = 0; flat && k < keys_len; k++) {
        flat = is_flat_key(op->kinds[k], !all);
    }
    for (uint32_t a = 0; flat && !all && a < node->reduce.aggs_len; a++) {
        flat = flat_agg_fits(&node->reduce.aggs[a], op->ports[0].kinds);
    }
    return flat;
}

static void set_keys(struct flat *flat, const struct op *op)
{
    const struct plan_node *node = op->node;
    bool all = node->op != PLAN_REDUCE;
    flat->keys_len = all ? op->cols : node->reduce.keys_len;
    ASSERT(flat->keys_len <= CELLS_KEYS_MAX);
    for (uint32_t k = 0; k < flat->keys_len; k++) {
        flat->keys[k] = all ? k : node->reduce.keys[k];
        flat->strings |= (uint32_t)!batch_kind_is_word(op->kinds[k]) << k;
    }
}

static void set_output(struct flat *flat, const struct op *op)
{
    flat->out.images = mem_alloc(FLAT_ROWS * flat->layout.image_words * sizeof(uint64_t));
    for (uint32_t c = 0; c < op->cols; c++) {
        if (op->kinds[c] == TYPE_NUMERIC) {
            flat->out.numerics[c] = mem_alloc(2 * FLAT_ROWS * sizeof(struct numeric));
        }
    }
}

/* To the outside it is the operator the plan names. */
void op_make_reduce_flat(struct op *op)
{
    static const struct op_class reduce_class = {"reduce", flat_work, flat_release};
    static const struct op_class distinct_class = {"distinct", flat_work, flat_release};
    static const struct op_class threshold_class = {"threshold", flat_work, flat_release};
    const struct plan_node *node = op->node;
    struct flat *flat = MEM_NEW(struct flat);
    bool aggregates = node->op == PLAN_REDUCE;
    ASSERT(op->ports_len == 1 && op_reduce_is_flat(op));
    op->class = aggregates                  ? &reduce_class
                : node->op == PLAN_DISTINCT ? &distinct_class
                                            : &threshold_class;
    op->state = flat;
    flat->op = node->op;
    set_keys(flat, op);
    pool_init(&flat->pool, &op->account);
    dict_init(&flat->dict, &op->account);
    flat_layout_init(&flat->layout, aggregates ? node->reduce.aggs : NULL,
                     aggregates ? node->reduce.aggs_len : 0, op->ports[0].kinds, &flat->pool,
                     &flat->dict, &op->account);
    set_output(flat, op);
    ASSERT(op->cols == flat->keys_len + flat->layout.aggs_len);
    cells_init(&flat->table, flat->keys_len, flat->layout.group_words, &op->account);
    engine_exchange_set_up(op, 0, ROUTE_KEYS, flat->keys, flat->keys_len, false);
}
