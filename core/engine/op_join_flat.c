/*
 * Inner equi-join of rows that are a few words. The same operator as in op_join.c, for the plans
 * that allow it: both inputs' columns are numbers, dates or flags, and there is a key.
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
    OUT_COLS_MAX = 2 * (CELLS_KEYS_MAX + KEPT_VALUES_MAX),
    SORTED_FUEL_MAX = 1 << 20, /* more than any step has */
    DIVIDE_ROWS = 1 << 17, /* of one time, from which on dividing them pays */
    DIVIDE_PARTS = 16, /* of so many rows; a part's cells fit the second-level cache */
    FLAT_PART_ROWS = 2 * DIVIDE_ROWS, /* of an incomplete time: worth dividing */
};

/* Where an output column comes from. */
enum origin { FROM_KEY, FROM_LEFT, FROM_RIGHT };

struct origin_of {
    uint8_t origin; /* enum origin */
    uint8_t at;     /* which key, or which value of that side */
};

/* An input: which of its columns are keys, and which are not. */
struct flat_side {
    const uint32_t *keys;
    uint32_t values[KEPT_VALUES_MAX]; /* columns */
    uint32_t values_len;
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
    uint64_t words[OUT_COLS_MAX][OUT_BLOCK];
    uint8_t nulls[OUT_COLS_MAX][OUT_BLOCK]; /* valid when any_null */
    int64_t diffs[OUT_BLOCK];
};

struct flat_join {
    uint32_t keys_len;
    bool null_equal;
    struct flat_side side[2];
    struct kept kept; /* of both inputs, so far */
    struct origin_of origin[OUT_COLS_MAX]; /* of each output column */
    struct intake intake;
    struct divide divide;
    uint32_t count_chunk, count_row; /* of the pass, when rows to be divided are counted */
    struct flat_block block;
    uint32_t match; /* of the block's row at hand: matches put out */
    struct flat_output out;
};

/* ---- output ---------------------------------------------------------------------------------- */

/* What was gathered becomes columns of the operator's output. */
static void emit_block(struct op *op)
{
    struct flat_join *join = op->state;
    struct flat_output *out = &join->out;
    if (out->len == 0) {
        return;
    }
    struct batch_builder *ok = op_ok(op);
    ASSERT(out->len <= OUT_BLOCK && join->block.time >= op->frontier);
    for (uint32_t c = 0; c < op->cols; c++) {
        batch_builder_words(ok, c, out->words[c], 1, out->any_null ? out->nulls[c] : NULL,
                            out->len);
    }
    batch_builder_end_rows(ok, join->block.time, out->diffs, 1, out->len);
    out->len = 0;
    out->any_null = false;
    op_row_done(op);
}

/* NULLs of an output row; nulls: of the key, the left and the right values. */
static void put_nulls(struct op *op, const uint32_t nulls[3])
{
    struct flat_join *join = op->state;
    struct flat_output *out = &join->out;
    ASSERT(op->cols <= OUT_COLS_MAX && out->len < OUT_BLOCK);
    if (!out->any_null) {
        for (uint32_t c = 0; c < op->cols; c++) {
            memset(out->nulls[c], 0, out->len);
        }
        out->any_null = true;
    }
    for (uint32_t c = 0; c < op->cols; c++) {
        struct origin_of from = join->origin[c];
        out->nulls[c][out->len] = nulls[from.origin] >> from.at & 1;
    }
}

/* Modulo 2^64, as all diffs are. */
static int64_t product(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* The row at hand with one of the other side's. */
static inline void put_pair(struct op *op, const uint64_t *match, int64_t diff)
{
    struct flat_join *join = op->state;
    struct flat_output *out = &join->out;
    const struct flat_block *block = &join->block;
    uint32_t i = block->at;
    ASSERT(i < block->len && out->len < OUT_BLOCK);
    uint32_t left = block->port == 0 ? FROM_LEFT : FROM_RIGHT; /* the own side */
    uint32_t right = FROM_LEFT + FROM_RIGHT - left;
    const uint64_t *words[3];
    words[FROM_KEY] = &block->keys[i * join->keys_len];
    words[left] = &block->values[i * join->side[block->port].values_len];
    words[right] = match + 1;
    for (uint32_t c = 0; c < op->cols; c++) {
        out->words[c][out->len] = words[join->origin[c].origin][join->origin[c].at];
    }
    if ((block->key_nulls[i] | block->nulls[i] | kept_nulls(match)) != 0 || out->any_null) {
        uint32_t nulls[3];
        nulls[FROM_KEY] = block->key_nulls[i];
        nulls[left] = block->nulls[i];
        nulls[right] = kept_nulls(match);
        put_nulls(op, nulls);
    }
    out->diffs[out->len++] = product(diff, kept_diff(match));
    if (out->len == OUT_BLOCK) {
        emit_block(op);
    }
}

/* ---- a block --------------------------------------------------------------------------------- */

/* Some columns of the block's rows as words, row after row, and their NULLs as bits. */
static void load_columns(struct flat_block *block, const struct batch *batch, const uint32_t *cols,
                         uint32_t cols_len, uint64_t *words, uint32_t *nulls)
{
    ASSERT(block->len <= FLAT_ROWS && cols_len <= KEPT_VALUES_MAX);
    memset(nulls, 0, block->len * sizeof(*nulls));
    for (uint32_t c = 0; c < cols_len; c++) {
        const struct batch_col *col = &batch->col[cols[c]];
        batch_words(col, block->rows, 0, block->len, block->column);
        for (uint32_t i = 0; i < block->len; i++) {
            words[i * cols_len + c] = block->column[i];
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
    ASSERT(block->at == block->len && join->match == 0);
    struct intake_ref first = intake_ref(&join->intake);
    block->port = first.port;
    block->time = first.time;
    block->len = intake_take(&join->intake, FLAT_ROWS, block->rows, &batch);
    block->at = 0;
    const struct flat_side *own = &join->side[block->port];
    load_columns(block, batch, own->keys, join->keys_len, block->keys, block->key_nulls);
    load_columns(block, batch, own->values, own->values_len, block->values, block->nulls);
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
                 block->key_nulls);
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
        ASSERT(block->at == block->len && join->match == 0);
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

/*
 * One row: its matches, then it joins its side. True when out of fuel amid the matches. Rows with a
 * NULL key match nothing, unless the plan says that NULLs are equal, and need not be kept.
 */
static bool join_row(struct op *op)
{
    struct flat_join *join = op->state;
    struct flat_block *block = &join->block;
    uint32_t i = block->at;
    int64_t diff = block->diffs[i];
    if (block->key_nulls[i] != 0 && !join->null_equal) {
        return false;
    }
    struct kept_span matches = {0};
    uint64_t *cell = find_cell(join, i);
    if (cell != NULL) {
        matches = kept_of(&join->kept, cell, 1 - block->port);
    }
    size_t stride = 1 + join->side[1 - block->port].values_len;
    ASSERT(join->match <= matches.len); /* that side has not changed since the last step */
    while (join->match < matches.len) {
        put_pair(op, matches.row + join->match * stride, diff);
        join->match++;
        if (fuel_spend(op->engine, 1) && join->match < matches.len) {
            return true;
        }
    }
    const struct kept_key key = {block->hash[i], &block->keys[i * join->keys_len],
                                 block->key_nulls[i]};
    kept_change(&join->kept, block->port, &key, cell,
                &block->values[i * join->side[block->port].values_len], block->nulls[i], diff);
    if (join->kept.sorted > 0) {
        uint64_t sorted = join->kept.sorted;
        fuel_spend(op->engine, sorted < SORTED_FUEL_MAX ? (uint32_t)sorted : SORTED_FUEL_MAX);
        join->kept.sorted = 0;
    }
    join->match = 0;
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
        if (done || (!divided && intake_ref(&join->intake).time != block->time)) {
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
    ASSERT(join->out.len == 0 && join->block.at == join->block.len && join->match == 0);
    ASSERT(join->divide.phase == DIVIDE_NONE);
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

/* Words; keys of kinds whose equal values are equal words; few enough values. */
static bool is_flat_side(const struct port *port, const uint32_t *keys, uint32_t keys_len)
{
    uint32_t values = 0;
    for (uint32_t c = 0; c < port->cols; c++) {
        bool is_float = port->kinds[c] == TYPE_FLOAT4 || port->kinds[c] == TYPE_FLOAT8;
        bool is_key = cells_key_at(keys, keys_len, c) < keys_len;
        if (!batch_kind_is_word(port->kinds[c]) || (is_key && is_float)) {
            return false;
        }
        values += !is_key;
    }
    return values <= KEPT_VALUES_MAX;
}

bool op_join_is_flat(const struct op *op)
{
    const struct plan_node *node = op->node;
    uint32_t keys_len = node->join.keys_len;
    return node->join.kind == PLAN_JOIN_INNER && keys_len >= 1 && keys_len <= CELLS_KEYS_MAX &&
           op->cols <= OUT_COLS_MAX &&
           is_flat_side(&op->ports[0], node->join.left_keys, keys_len) &&
           is_flat_side(&op->ports[1], node->join.right_keys, keys_len);
}

/* One input's columns, in the output from first on. */
static void set_side(struct flat_join *join, const struct port *port, uint32_t p,
                     const uint32_t *keys, uint32_t first)
{
    struct flat_side *side = &join->side[p];
    ASSERT(p < 2 && first + port->cols <= OUT_COLS_MAX);
    side->keys = keys;
    for (uint32_t c = 0; c < port->cols; c++) {
        uint32_t k = cells_key_at(keys, join->keys_len, c);
        struct origin_of from = {.origin = FROM_KEY, .at = (uint8_t)k};
        if (k == join->keys_len) {
            from.origin = p == 0 ? FROM_LEFT : FROM_RIGHT;
            from.at = (uint8_t)side->values_len;
            side->values[side->values_len++] = c;
        }
        join->origin[first + c] = from;
    }
    ASSERT(side->values_len <= KEPT_VALUES_MAX);
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
    for (uint32_t p = 0; p < 2; p++) {
        set_side(join, &op->ports[p], p, keys[p], p == 0 ? 0 : op->ports[0].cols);
        engine_exchange_set_up(op, p, ROUTE_KEYS, keys[p], join->keys_len, false);
    }
    const uint32_t values[2] = {join->side[0].values_len, join->side[1].values_len};
    kept_init(&join->kept, join->keys_len, values, &op->account);
    divide_init(&join->divide, join->keys_len, values, &op->account);
}
