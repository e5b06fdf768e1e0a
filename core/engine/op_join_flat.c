/*
 * Inner equi-join whose keys are a few words: numbers, dates or flags. The same operator as in
 * op_join.c, for the plans that allow it. Columns that are words stand for themselves, all others
 * of a row are one object and its address a word (rest.h).
 *
 * A pass goes through its times in order, and at each time through the left changes, then the right
 * ones: dL_t x R(before t), L(through t) x dR_t, all of it at t. So what is kept of the inputs are
 * the rows of one moment, without times, keys only once, and values as words (kept.h): a third of
 * what an arrangement needs.
 *
 * Rows are taken FLAT_ROWS at a time: keys and values are read a column at a time, the cells and
 * then the lists behind them are loaded; then each row meets the other side's rows of its key and
 * joins its own side, in the same cell. Output is gathered as words and written a column at a time.
 * Resumes anywhere, even among the matches of one row.
 *
 * A large round of one time is divided by the keys' hash first (divide.h): each key still sees the
 * left changes, then the right ones.
 */
#include "core/engine/divide.h"
#include "core/engine/engine_internal.h"
#include "core/engine/kept.h"

enum {
    FLAT_ROWS = 64,
    OUT_BLOCK = 256,
    OUT_COLS_MAX = 2 * (CELLS_KEYS_MAX + KEPT_VALUES_MAX + REST_COLS_MAX),
    OUT_WORDS_MAX = CELLS_KEYS_MAX + 2 * KEPT_VALUES_MAX,
    DEAD_MAX = 256, /* rests of rows that are gone, which wait for the output */
    ROWS_FUEL_MAX = 1 << 20, /* more than any step has */
    DIVIDE_ROWS = 1 << 17, /* of one time, from which on dividing them pays */
    DIVIDE_PARTS = 16, /* of so many rows; a part's cells fit the second-level cache */
    FLAT_PART_ROWS = 2 * DIVIDE_ROWS, /* of an incomplete time: worth dividing */
};

/* Where an output column comes from. */
struct origin {
    uint8_t word;      /* which of an output row: those of key, left values, right values */
    uint8_t rest_cols; /* the word is a rest with so many values; 0: it is the value */
    uint8_t which;     /* of the rest's values */
};

/* An input: which of its columns are keys, which are words, and which are neither. */
struct flat_side {
    const uint32_t *keys;
    uint32_t values[KEPT_VALUES_MAX]; /* columns */
    uint32_t rest[REST_COLS_MAX];     /* columns */
    uint32_t plain_len, rest_len;
    uint32_t values_len; /* of a row as kept: plain ones, then a rest if there is one */
    uint32_t word;       /* of an output row: where its values begin */
};

/* Rows at hand: of one input, one chunk, one time. at: the next one to take. */
struct flat_block {
    uint32_t port;
    uint32_t len, at;
    uint64_t time;
    uint32_t rows[FLAT_ROWS];
    uint64_t column[FLAT_ROWS];
    uint64_t keys[FLAT_ROWS * CELLS_KEYS_MAX];    /* row after row */
    uint64_t values[FLAT_ROWS * KEPT_VALUES_MAX]; /* row after row */
    uint32_t key_nulls[FLAT_ROWS], nulls[FLAT_ROWS];
    int64_t diffs[FLAT_ROWS];
    uint64_t hash[FLAT_ROWS];
};

struct flat_output {
    uint32_t len;
    bool any_null;
    uint64_t words[OUT_WORDS_MAX][OUT_BLOCK];
    uint8_t nulls[OUT_WORDS_MAX][OUT_BLOCK]; /* valid when any_null */
    int64_t diffs[OUT_BLOCK];
};

struct flat_join {
    uint32_t keys_len;
    bool null_equal;
    uint32_t words_len; /* of an output row */
    struct flat_side side[2];
    struct kept kept; /* of both inputs, so far */
    struct origin origin[OUT_COLS_MAX]; /* of each output column */
    struct intake intake;
    struct divide divide;
    uint32_t count_chunk, count_row; /* of the pass, when rows to be divided are counted */
    struct flat_block block;
    uint32_t part, match; /* of the block's row at hand: which list, and its matches put out */
    struct flat_output out;
};

/* ---- output ---------------------------------------------------------------------------------- */

/* The bytes of rests in a row of what was gathered. */
static size_t rest_bytes(const struct flat_join *join, uint32_t row)
{
    size_t bytes = 0;
    for (uint32_t p = 0; p < 2; p++) {
        const struct flat_side *side = &join->side[p];
        if (side->rest_len > 0) {
            uint64_t word = join->out.words[side->word + side->plain_len][row];
            bytes += rest_size(rest_of(word), side->rest_len);
        }
    }
    return bytes;
}

/*
 * How many of the rows from first on go out at once: all, unless their texts are long (*long_rows).
 * This is the first look at them: that many misses are under way together.
 */
static uint32_t rows_at_once(const struct flat_join *join, uint32_t first, bool *long_rows)
{
    uint32_t end = first;
    size_t bytes = 0;
    *long_rows = false;
    if (join->side[0].rest_len + join->side[1].rest_len == 0) {
        return join->out.len - first;
    }
    while (end < join->out.len && bytes < OUT_BYTES) {
        bytes += rest_bytes(join, end++);
    }
    *long_rows = bytes >= OUT_BYTES;
    return end - first;
}

static void emit_rows(struct op *op, uint32_t first, uint32_t n)
{
    struct flat_join *join = op->state;
    const struct flat_output *out = &join->out;
    struct batch_builder *ok = op_ok(op);
    ASSERT(n > 0 && first + n <= out->len);
    for (uint32_t c = 0; c < op->cols; c++) {
        struct origin from = join->origin[c];
        const uint64_t *words = &out->words[from.word][first];
        if (from.rest_cols > 0) {
            rest_put(ok, c, words, n, from.rest_cols, from.which);
        } else {
            const uint8_t *nulls = out->any_null ? &out->nulls[from.word][first] : NULL;
            batch_builder_words(ok, c, words, 1, nulls, n);
        }
    }
    batch_builder_end_rows(ok, join->block.time, &out->diffs[first], 1, n);
}

/*
 * What was gathered becomes columns of the operator's output. Nothing else refers to rows that are
 * gone.
 */
static void emit_block(struct op *op)
{
    struct flat_join *join = op->state;
    struct flat_output *out = &join->out;
    ASSERT(out->len <= OUT_BLOCK && (out->len == 0 || join->block.time >= op->frontier));
    for (uint32_t first = 0; first < out->len;) {
        bool long_rows;
        uint32_t n = rows_at_once(join, first, &long_rows);
        emit_rows(op, first, n);
        first += n;
        if (long_rows) { /* op_row_done looks at the bytes of many rows only */
            op_flush(op);
        } else {
            op_row_done(op);
        }
    }
    out->len = 0;
    out->any_null = false;
    kept_bury(&join->kept);
}

/* The bits of some words of the rows from first on. */
static void put_nulls(struct flat_output *out, uint32_t word, uint32_t words_len, uint32_t bits,
                      uint32_t first, uint32_t n)
{
    ASSERT(out->any_null && word + words_len <= OUT_WORDS_MAX && first + n <= OUT_BLOCK);
    for (uint32_t w = 0; w < words_len; w++) {
        memset(&out->nulls[word + w][first], bits >> w & 1, n);
    }
}

/* NULLs of the rows from first on; matches: the other side's rows. */
static void put_all_nulls(struct flat_join *join, const uint64_t *matches, size_t stride,
                          uint32_t first, uint32_t n)
{
    struct flat_output *out = &join->out;
    const struct flat_block *block = &join->block;
    const struct flat_side *own = &join->side[block->port];
    const struct flat_side *other = &join->side[1 - block->port];
    if (!out->any_null) {
        out->any_null = true;
        put_nulls(out, 0, join->words_len, 0, 0, first);
    }
    put_nulls(out, 0, join->keys_len, block->key_nulls[block->at], first, n);
    put_nulls(out, own->word, own->values_len, block->nulls[block->at], first, n);
    for (uint32_t m = 0; m < n; m++) {
        put_nulls(out, other->word, other->values_len, kept_nulls(matches + m * stride),
                  first + m, 1);
    }
}

/* Modulo 2^64, as all diffs are. */
static int64_t product(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* Words of the row at hand that are the same in each of its pairs. */
static inline void put_same(struct flat_output *out, uint32_t word, const uint64_t *values,
                            uint32_t values_len, uint32_t first, uint32_t n)
{
    for (uint32_t v = 0; v < values_len; v++) {
        uint64_t *to = &out->words[word + v][first];
        for (uint32_t m = 0; m < n; m++) {
            to[m] = values[v];
        }
    }
}

/* The row at hand with the next n of the other side's, a column at a time. */
static inline void put_pairs(struct op *op, const uint64_t *matches, uint32_t n)
{
    struct flat_join *join = op->state;
    struct flat_output *out = &join->out;
    const struct flat_block *block = &join->block;
    const struct flat_side *own = &join->side[block->port];
    const struct flat_side *other = &join->side[1 - block->port];
    size_t stride = 1 + other->values_len;
    uint32_t i = block->at;
    uint32_t first = out->len;
    ASSERT(i < block->len && n > 0 && first + n <= OUT_BLOCK);
    put_same(out, 0, &block->keys[i * join->keys_len], join->keys_len, first, n);
    put_same(out, own->word, &block->values[i * own->values_len], own->values_len, first, n);
    for (uint32_t v = 0; v < other->values_len; v++) {
        uint64_t *to = &out->words[other->word + v][first];
        for (uint32_t m = 0; m < n; m++) {
            to[m] = matches[m * stride + 1 + v];
        }
    }
    uint32_t nulls = block->key_nulls[i] | block->nulls[i];
    for (uint32_t m = 0; m < n; m++) {
        out->diffs[first + m] = product(block->diffs[i], kept_diff(matches + m * stride));
        nulls |= kept_nulls(matches + m * stride);
    }
    if (nulls != 0 || out->any_null) {
        put_all_nulls(join, matches, stride, first, n);
    }
    out->len += n;
    if (out->len == OUT_BLOCK) {
        emit_block(op);
    }
}

/* ---- a block --------------------------------------------------------------------------------- */

/*
 * Some columns of the block's rows as words, row after row with stride words each, and their NULLs
 * as bits.
 */
static void load_columns(struct flat_block *block, const struct batch *batch, const uint32_t *cols,
                         uint32_t cols_len, uint64_t *words, size_t stride, uint32_t *nulls)
{
    ASSERT(block->len <= FLAT_ROWS && cols_len <= stride && stride <= KEPT_VALUES_MAX);
    memset(nulls, 0, block->len * sizeof(*nulls));
    for (uint32_t c = 0; c < cols_len; c++) {
        const struct batch_col *col = &batch->col[cols[c]];
        batch_words(col, block->rows, 0, block->len, block->column);
        for (uint32_t i = 0; i < block->len; i++) {
            words[i * stride + c] = block->column[i];
        }
        for (uint32_t i = 0; col->validity != NULL && i < block->len; i++) {
            nulls[i] |= (uint32_t)batch_is_null(col, block->rows[i]) << c;
        }
    }
}

/* The cell of a row's key, or NULL. */
static uint64_t *find_cell(const struct flat_join *join, uint32_t i)
{
    const struct flat_block *block = &join->block;
    return cells_find(&join->kept.table, block->hash[i], &block->keys[i * join->keys_len],
                      block->key_nulls[i]);
}

static void hash_keys(struct flat_join *join)
{
    struct flat_block *block = &join->block;
    for (uint32_t i = 0; i < block->len; i++) {
        block->hash[i] =
            cells_hash(&block->keys[i * join->keys_len], join->keys_len, block->key_nulls[i]);
    }
}

/* The next rows of the pass as they come. */
static void take_block(struct flat_join *join)
{
    struct flat_block *block = &join->block;
    const struct batch *batch;
    ASSERT(block->at == block->len && join->part == 0 && join->match == 0);
    struct intake_ref first = intake_ref(&join->intake);
    block->port = first.port;
    block->time = first.time;
    block->len = intake_take(&join->intake, FLAT_ROWS, block->rows, &batch);
    block->at = 0;
    const struct flat_side *own = &join->side[block->port];
    load_columns(block, batch, own->keys, join->keys_len, block->keys, join->keys_len,
                 block->key_nulls);
    load_columns(block, batch, own->values, own->plain_len, block->values, own->values_len,
                 block->nulls);
    if (own->rest_len > 0) {
        rest_make(&join->kept.pool, batch, own->rest, own->rest_len, block->rows, block->len,
                  &block->values[own->plain_len], own->values_len);
    }
    for (uint32_t i = 0; i < block->len; i++) {
        block->diffs[i] = batch_diff(batch, block->rows[i]);
    }
    hash_keys(join);
}

/* In waves, so that the misses of many rows overlap: cells, then the lists behind them. */
static void load_cells(struct flat_join *join)
{
    const struct flat_block *block = &join->block;
    for (uint32_t i = 0; i < block->len; i++) {
        cells_load(&join->kept.table, block->hash[i]);
    }
    for (uint32_t i = 0; i < block->len; i++) {
        uint64_t *cell = find_cell(join, i);
        if (cell != NULL) {
            kept_load(&join->kept, cell, 0);
            kept_load(&join->kept, cell, 1);
        }
    }
}

/* ---- a large round --------------------------------------------------------------------------- */

static struct divide_rows rows_of(struct flat_block *block)
{
    return (struct divide_rows){.port = block->port,
                                .len = block->len,
                                .hash = block->hash,
                                .keys = block->keys,
                                .values = block->values,
                                .key_nulls = block->key_nulls,
                                .nulls = block->nulls,
                                .diffs = block->diffs};
}

/* One time, and so many rows that a line of the table is met by several of them. */
static bool is_large_round(const struct op *op, uint64_t enough)
{
    const struct flat_join *join = op->state;
    const struct chunk_list *list = &join->intake.list;
    size_t rows = join->intake.refs_len;
    if (rows < enough || rows < join->kept.table.len / 4) {
        return false;
    }
    for (size_t i = 0; i < list->chunks_len; i++) {
        const struct chunk *chunk = list->chunks[i];
        if (chunk->time_min != chunk->time_max || chunk->time_min != list->chunks[0]->time_min) {
            return false;
        }
    }
    ASSERT(rows > 0 && join->intake.plain);
    return true;
}

/* Of the next rows only the keys are looked at; false: there are none. */
static bool count_block(struct flat_join *join)
{
    struct flat_block *block = &join->block;
    const struct intake *intake = &join->intake;
    if (join->count_chunk == intake->list.chunks_len) {
        return false;
    }
    const struct batch *batch = &intake->list.chunks[join->count_chunk]->batch;
    uint32_t left = batch->rows - join->count_row;
    block->port = join->count_chunk >= intake->port_start[1];
    block->len = block->at = left < FLAT_ROWS ? left : FLAT_ROWS;
    for (uint32_t i = 0; i < block->len; i++) {
        block->rows[i] = join->count_row + i;
    }
    load_columns(block, batch, join->side[block->port].keys, join->keys_len, block->keys,
                 join->keys_len, block->key_nulls);
    hash_keys(join);
    divide_count(&join->divide, block->port, block->hash, block->len);
    join->count_row += block->len;
    if (join->count_row == batch->rows) {
        join->count_chunk++;
        join->count_row = 0;
    }
    return true;
}

/* True when out of fuel before all rows are divided. No row is left in the block. */
static bool divide_pass(struct op *op)
{
    struct flat_join *join = op->state;
    struct divide *divide = &join->divide;
    while (divide->phase == DIVIDE_COUNT) {
        if (!count_block(join)) {
            divide_counted(divide);
        }
        if (fuel_spend(op->engine, FLAT_ROWS)) {
            return true;
        }
    }
    while (divide->phase == DIVIDE_PLACE) {
        take_block(join);
        struct divide_rows rows = rows_of(&join->block);
        divide_place(divide, &rows);
        join->block.at = join->block.len;
        if (fuel_spend(op->engine, FLAT_ROWS)) {
            return true;
        }
    }
    return false;
}

/* The next rows of the pass: as they were divided, or as they come. */
static void load_block(struct flat_join *join)
{
    struct flat_block *block = &join->block;
    if (join->divide.phase == DIVIDE_NONE) {
        take_block(join);
    } else {
        ASSERT(block->at == block->len && join->part == 0 && join->match == 0);
        struct divide_rows rows = rows_of(block);
        block->time = join->divide.time;
        divide_take(&join->divide, FLAT_ROWS, &rows);
        block->port = rows.port;
        block->len = rows.len;
        block->at = 0;
        hash_keys(join);
    }
    load_cells(join);
}

/* ---- a row ----------------------------------------------------------------------------------- */

/* The row's matches from where it stopped; true when out of fuel amid them. */
static bool put_matches(struct op *op, uint64_t *cell)
{
    struct flat_join *join = op->state;
    uint32_t other = 1 - join->block.port;
    size_t stride = 1 + join->side[other].values_len;
    uint32_t parts = kept_parts(&join->kept, cell, other);
    for (uint32_t next; join->part < parts; join->part = next, join->match = 0) {
        uint64_t one[1 + KEPT_VALUES_MAX];
        struct kept_span matches = kept_part(&join->kept, cell, other, join->part, &next, one);
        ASSERT(join->match <= matches.len); /* that side has not changed since the last step */
        while (join->match < matches.len) {
            uint32_t left = matches.len - join->match;
            uint32_t room = OUT_BLOCK - join->out.len;
            uint32_t n = left < room ? left : room;
            put_pairs(op, matches.row + join->match * stride, n);
            join->match += n;
            if (fuel_spend(op->engine, n) && (join->match < matches.len || next < parts)) {
                return true;
            }
        }
    }
    return false;
}

/*
 * One row: its matches, then it joins its side. True when out of fuel amid the matches. Rows with a
 * NULL key match nothing, unless the plan says that NULLs are equal, and need not be kept.
 */
static bool join_row(struct op *op)
{
    struct flat_join *join = op->state;
    struct flat_block *block = &join->block;
    uint32_t i = block->at;
    const uint64_t *values = &block->values[i * join->side[block->port].values_len];
    if (block->key_nulls[i] != 0 && !join->null_equal) {
        kept_drop(&join->kept, block->port, values);
        return false;
    }
    uint64_t *cell = find_cell(join, i);
    if (cell != NULL && put_matches(op, cell)) {
        return true;
    }
    const struct kept_key key = {block->hash[i], &block->keys[i * join->keys_len],
                                 block->key_nulls[i]};
    kept_change(&join->kept, block->port, &key, cell, values, block->nulls[i], block->diffs[i]);
    if (join->kept.gone_through > 0) {
        uint64_t rows = join->kept.gone_through;
        fuel_spend(op->engine, rows < ROWS_FUEL_MAX ? (uint32_t)rows : ROWS_FUEL_MAX);
        join->kept.gone_through = 0;
    }
    join->part = join->match = 0;
    return false;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/* True when out of fuel before the end. What was gathered is of one time: that of the block. */
static bool run_pass(struct op *op)
{
    struct flat_join *join = op->state;
    struct flat_block *block = &join->block;
    ASSERT(join->intake.open);
    for (;;) {
        for (; block->at < block->len; block->at++) {
            if (join_row(op)) {
                return true;
            }
        }
        bool divided = join->divide.phase == DIVIDE_TAKE; /* all of one time */
        bool done = !divided && intake_is_done(&join->intake);
        if (done || (!divided && intake_ref(&join->intake).time != block->time) ||
            join->kept.dead_len > DEAD_MAX) {
            emit_block(op);
        }
        if (done) {
            return false;
        }
        if (fuel_spend(op->engine, FLAT_ROWS)) {
            return true;
        }
        load_block(join);
    }
}

static bool flat_work(struct op *op)
{
    struct flat_join *join = op->state;
    struct intake *intake = &join->intake;
    op_forward_errors(op);
    if (!intake->open) {
        if (!intake_open(intake, op, INTAKE_BY_TIME) &&
            !intake_open_part(intake, op, INTAKE_BY_TIME, FLAT_PART_ROWS)) {
            return false;
        }
        uint64_t enough = op->engine->config.divide_rows;
        enough = enough > 0 ? enough : DIVIDE_ROWS;
        if (is_large_round(op, enough)) {
            divide_begin(&join->divide, &intake->list, enough / DIVIDE_PARTS);
            join->count_chunk = join->count_row = 0;
        }
    }
    if (divide_pass(op) || run_pass(op)) {
        return true;
    }
    ASSERT(join->out.len == 0 && join->block.at == join->block.len);
    ASSERT(join->part == 0 && join->match == 0 && join->divide.phase == DIVIDE_NONE);
    intake_close(intake);
    op->arranged_rows = join->kept.len;
    if (!intake->part) {
        op_advance(op, intake->upper);
    }
    return op_input_frontier(op) > op->frontier;
}

static void flat_release(struct op *op)
{
    struct flat_join *join = op->state;
    kept_free(&join->kept);
    divide_clear(&join->divide);
    intake_free(&join->intake);
    free(join);
}

/* ---- which plans ----------------------------------------------------------------------------- */

/* Keys are words, of kinds whose equal values are equal words; not too many columns beside them. */
static bool is_flat_side(const struct port *port, const uint32_t *keys, uint32_t keys_len)
{
    for (uint32_t k = 0; k < keys_len; k++) {
        uint8_t kind = port->kinds[keys[k]];
        if (!batch_kind_is_word(kind) || kind == TYPE_FLOAT4 || kind == TYPE_FLOAT8) {
            return false;
        }
    }
    return port->cols <= REST_COLS_MAX;
}

bool op_join_is_flat(const struct op *op)
{
    const struct plan_node *node = op->node;
    uint32_t keys_len = node->join.keys_len;
    return node->join.kind == PLAN_JOIN_INNER && keys_len >= 1 && keys_len <= CELLS_KEYS_MAX &&
           is_flat_side(&op->ports[0], node->join.left_keys, keys_len) &&
           is_flat_side(&op->ports[1], node->join.right_keys, keys_len);
}

/* Columns that are no keys and words: more than may stand by themselves go to the rest. */
static void divide_columns(struct flat_side *side, const struct port *port, uint32_t keys_len)
{
    uint32_t words = 0;
    uint32_t others = 0;
    for (uint32_t c = 0; c < port->cols; c++) {
        bool is_key = cells_key_at(side->keys, keys_len, c) < keys_len;
        bool is_word = batch_kind_is_word(port->kinds[c]);
        words += !is_key && is_word;
        others += !is_key && !is_word;
    }
    uint32_t room = KEPT_VALUES_MAX - (others > 0 || words > KEPT_VALUES_MAX);
    for (uint32_t c = 0; c < port->cols; c++) {
        if (cells_key_at(side->keys, keys_len, c) < keys_len) {
            continue;
        }
        if (batch_kind_is_word(port->kinds[c]) && side->plain_len < room) {
            side->values[side->plain_len++] = c;
        } else {
            side->rest[side->rest_len++] = c;
        }
    }
    side->values_len = side->plain_len + (side->rest_len > 0);
    ASSERT(side->values_len <= KEPT_VALUES_MAX && side->rest_len <= REST_COLS_MAX);
}

/* Which word of an output row an input's column is, or is in. */
static struct origin origin_of(const struct flat_side *side, uint32_t keys_len, uint32_t col)
{
    uint32_t k = cells_key_at(side->keys, keys_len, col);
    if (k < keys_len) {
        return (struct origin){.word = (uint8_t)k};
    }
    uint32_t v = cells_key_at(side->values, side->plain_len, col);
    uint32_t r = cells_key_at(side->rest, side->rest_len, col);
    struct origin from = {.word = (uint8_t)(side->word + v)};
    if (v == side->plain_len) {
        ASSERT(r < side->rest_len);
        from.rest_cols = (uint8_t)side->rest_len;
        from.which = (uint8_t)r;
    }
    return from;
}

/* To the outside it is a join like others; both ports are fed by the hash of the key columns. */
void op_make_join_flat(struct op *op)
{
    static const struct op_class class = {"join", flat_work, flat_release};
    struct flat_join *join = MEM_NEW(struct flat_join);
    const struct plan_node *node = op->node;
    const uint32_t *keys[2] = {node->join.left_keys, node->join.right_keys};
    ASSERT(op->ports_len == 2 && op_join_is_flat(op));
    op->class = &class;
    op->state = join;
    join->keys_len = node->join.keys_len;
    join->null_equal = node->join.null_equal;
    join->words_len = join->keys_len;
    for (uint32_t p = 0, first = 0; p < 2; p++) {
        struct flat_side *side = &join->side[p];
        const struct port *port = &op->ports[p];
        side->keys = keys[p];
        side->word = join->words_len;
        divide_columns(side, port, join->keys_len);
        join->words_len += side->values_len;
        for (uint32_t c = 0; c < port->cols; c++) {
            join->origin[first++] = origin_of(side, join->keys_len, c);
        }
        ASSERT(first <= OUT_COLS_MAX && join->words_len <= OUT_WORDS_MAX);
        engine_exchange_set_up(op, p, ROUTE_KEYS, keys[p], join->keys_len, false);
    }
    const uint32_t values[2] = {join->side[0].values_len, join->side[1].values_len};
    const uint32_t rest[2] = {join->side[0].rest_len, join->side[1].rest_len};
    kept_init(&join->kept, join->keys_len, values, rest, &op->account);
    if (op->engine->config.part_rows > 0) {
        join->kept.part_max = op->engine->config.part_rows;
    }
    divide_init(&join->divide, join->keys_len, values, &op->account);
}
