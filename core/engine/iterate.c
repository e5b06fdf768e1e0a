/*
 * Interned bytes, blocks of rows: see iterate.h.
 */
#include "core/engine/iterate.h"

#include <stdlib.h>

enum {
    DIVIDE_ROWS = 1 << 14, /* of a pass, from which on dividing them pays */
    DIVIDE_PARTS = 8,      /* of so many rows; a part's cells fit the second-level cache */
    DIVIDE_SHARE = 8,      /* of all cells: then a page of the table is met by many rows */
};

/* ---- bytes as words -------------------------------------------------------------------------- */

void interns_init(struct interns *interns, struct account *account)
{
    pool_init(&interns->pool, account);
    htable_init(&interns->table, sizeof(uint64_t), &interns->pool, account);
}

void interns_free(struct interns *interns)
{
    htable_clear(&interns->table);
    pool_clear(&interns->pool);
}

static struct htable_entry *entry_of(uint64_t word)
{
    ASSERT(word != 0 && word % 8 == 0);
    return (struct htable_entry *)(uintptr_t)word;
}

uint64_t interns_word(struct interns *interns, const void *bytes, size_t len)
{
    uint64_t hash = hash_bytes(bytes, len);
    struct htable_entry *entry = htable_find(&interns->table, hash, bytes, len);
    if (entry == NULL) {
        entry = htable_add(&interns->table, hash, bytes, len);
    }
    ++*(uint64_t *)htable_payload(entry);
    return (uint64_t)(uintptr_t)entry;
}

void interns_retain(struct interns *interns, uint64_t word)
{
    if (interns != NULL) {
        uint64_t *refs = htable_payload(entry_of(word));
        ASSERT(*refs > 0);
        ++*refs;
    }
}

void interns_release(struct interns *interns, uint64_t word)
{
    if (interns != NULL) {
        uint64_t *refs = htable_payload(entry_of(word));
        ASSERT(*refs > 0);
        if (--*refs == 0) {
            htable_remove(&interns->table, entry_of(word));
        }
    }
}

const uint8_t *interns_bytes(const struct interns *interns, uint64_t word, uint32_t *len)
{
    const struct htable_entry *entry = entry_of(word);
    *len = entry->key_len;
    return htable_key(&interns->table, entry);
}

/* ---- rows of a port -------------------------------------------------------------------------- */

bool iterate_is_flat_key(uint8_t kind)
{
    return batch_kind_is_word(kind) && kind != TYPE_FLOAT4 && kind != TYPE_FLOAT8;
}

/* Some columns of the block's rows as words, row after row of `words` each; NULLs as bits. */
static void load_columns(struct iterate_block *block, const struct batch *batch,
                         const uint32_t *cols, uint32_t cols_len, uint32_t words, uint64_t *out,
                         uint32_t *nulls)
{
    ASSERT(cols_len <= words || cols_len == 0);
    memset(nulls, 0, block->len * sizeof(*nulls));
    for (uint32_t c = 0; c < cols_len; c++) {
        const struct batch_col *col = &batch->col[cols[c]];
        batch_words(col, block->rows, 0, block->len, block->column);
        for (uint32_t i = 0; i < block->len; i++) {
            out[i * words + c] = block->column[i];
        }
        for (uint32_t i = 0; col->validity != NULL && i < block->len; i++) {
            nulls[i] |= (uint32_t)batch_is_null(col, block->rows[i]) << c;
        }
    }
    for (uint32_t i = 0; cols_len == 0 && words == 1 && i < block->len; i++) {
        out[i] = 0; /* no key column: one key */
    }
}

static void load_keys(struct iterate_block *block, const struct iterate_input *input,
                      const struct batch *batch)
{
    load_columns(block, batch, input->keys, input->keys_len, input->key_words, block->keys,
                 block->key_nulls);
}

/* One word for the key, one for the whole row. */
static void load_bytes(struct iterate_feed *feed, const struct iterate_input *input,
                       const struct batch *batch)
{
    struct iterate_block *block = &feed->block;
    struct buf *scratch = &feed->scratch;
    for (uint32_t i = 0; i < block->len; i++) {
        uint32_t row = block->rows[i];
        op_key_encode(batch, row, input->keys, input->keys_len, scratch);
        block->keys[i] = interns_word(feed->interns, scratch->data, scratch->len);
        block->key_nulls[i] = op_key_has_null(batch, row, input->keys, input->keys_len);
        buf_clear(scratch);
        batch_encode_row(batch, row, NULL, 0, false, scratch);
        block->values[i] = interns_word(feed->interns, scratch->data, scratch->len);
        block->nulls[i] = 0;
    }
}

static void unload(struct iterate_feed *feed)
{
    struct iterate_block *block = &feed->block;
    for (uint32_t i = 0; feed->interns != NULL && i < block->len; i++) {
        ASSERT(!feed->inputs[block->port].flat);
        interns_release(feed->interns, block->keys[i]);
        interns_release(feed->interns, block->values[i]);
    }
    block->len = block->at = 0;
}

static void hash_keys(struct iterate_feed *feed)
{
    struct iterate_block *block = &feed->block;
    const struct iterate_input *input = &feed->inputs[block->port];
    for (uint32_t i = 0; i < block->len; i++) {
        uint32_t nulls = input->flat ? block->key_nulls[i] : 0;
        block->hash[i] = cells_hash(&block->keys[i * input->key_words], input->key_words, nulls);
    }
}

/* The next rows as they come. */
static void take_block(struct iterate_feed *feed)
{
    struct iterate_block *block = &feed->block;
    const struct batch *batch;
    block->port = intake_ref(&feed->intake).port;
    block->len = intake_take(&feed->intake, ITERATE_ROWS, block->rows, &batch);
    block->at = 0;
    ASSERT(block->len > 0 && block->len <= ITERATE_ROWS);
    const struct iterate_input *input = &feed->inputs[block->port];
    if (input->flat) {
        load_keys(block, input, batch);
        load_columns(block, batch, input->values, input->values_len, input->words, block->values,
                     block->nulls);
    } else {
        load_bytes(feed, input, batch);
    }
    for (uint32_t i = 0; i < block->len; i++) {
        block->diffs[i] = batch_diff(batch, block->rows[i]);
    }
    hash_keys(feed);
}

/* ---- a large pass ---------------------------------------------------------------------------- */

static struct divide_rows rows_of(struct iterate_block *block)
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

/* Of the next rows only the keys are looked at; false: there are none. */
static bool count_block(struct iterate_feed *feed)
{
    struct iterate_block *block = &feed->block;
    const struct intake *intake = &feed->intake;
    if (feed->count_chunk == intake->list.chunks_len) {
        return false;
    }
    const struct batch *batch = &intake->list.chunks[feed->count_chunk]->batch;
    uint32_t left = batch->rows - feed->count_row;
    block->port = feed->count_chunk >= intake->port_start[1];
    block->len = left < ITERATE_ROWS ? left : ITERATE_ROWS;
    for (uint32_t i = 0; i < block->len; i++) {
        block->rows[i] = feed->count_row + i;
    }
    load_keys(block, &feed->inputs[block->port], batch);
    hash_keys(feed);
    divide_count(&feed->divide, block->port, block->hash, block->len);
    feed->count_row += block->len;
    if (feed->count_row == batch->rows) {
        feed->count_chunk++;
        feed->count_row = 0;
    }
    return true;
}

bool iterate_divide(struct iterate_feed *feed, struct op *op)
{
    while (feed->divide.phase == DIVIDE_COUNT) {
        if (!count_block(feed)) {
            divide_counted(&feed->divide);
        }
        feed->block.len = 0;
        if (fuel_spend(op->engine, ITERATE_ROWS / 2)) {
            return true;
        }
    }
    while (feed->divide.phase == DIVIDE_PLACE) {
        take_block(feed);
        struct divide_rows rows = rows_of(&feed->block);
        divide_place(&feed->divide, &rows);
        feed->block.len = 0;
        if (fuel_spend(op->engine, ITERATE_ROWS / 2)) {
            return true;
        }
    }
    return false;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

void iterate_feed_init(struct iterate_feed *feed, const struct iterate_input *inputs,
                       uint32_t inputs_len, struct interns *interns, struct account *account)
{
    ASSERT(inputs_len == 1 || inputs_len == 2);
    const struct iterate_input *last = &inputs[inputs_len - 1];
    const uint32_t words[2] = {inputs[0].words, last->words};
    ASSERT(inputs[0].key_words == last->key_words);
    ASSERT(inputs[0].flat == last->flat && inputs[0].flat == (interns == NULL));
    feed->inputs = inputs;
    feed->interns = interns;
    divide_init(&feed->divide, inputs[0].key_words, words, account);
}

void iterate_feed_free(struct iterate_feed *feed)
{
    divide_clear(&feed->divide);
    intake_free(&feed->intake);
    buf_free(&feed->scratch);
}

bool iterate_open(struct iterate_feed *feed, struct op *op, uint64_t cells)
{
    struct intake *intake = &feed->intake;
    uint64_t enough = op->engine->config.divide_rows;
    enough = enough > 0 ? enough : DIVIDE_ROWS;
    if (!intake_open(intake, op, INTAKE_BY_TIME)) {
        return false;
    }
    bool large = intake->refs_len >= enough && intake->refs_len >= cells / DIVIDE_SHARE;
    if (large && feed->interns == NULL) {
        ASSERT(intake->plain); /* as all is of one iteration */
        divide_begin(&feed->divide, &intake->list, enough / DIVIDE_PARTS);
        feed->count_chunk = feed->count_row = feed->part = 0;
    }
    return true;
}

bool iterate_is_done(const struct iterate_feed *feed)
{
    return feed->divide.phase == DIVIDE_NONE && intake_is_done(&feed->intake);
}

bool iterate_is_part_done(const struct iterate_feed *feed)
{
    return feed->divide.phase == DIVIDE_TAKE ? divide_part(&feed->divide) != feed->part
                                             : iterate_is_done(feed);
}

void iterate_load(struct iterate_feed *feed)
{
    struct iterate_block *block = &feed->block;
    ASSERT(block->at == block->len && !iterate_is_done(feed));
    unload(feed);
    if (feed->divide.phase == DIVIDE_NONE) {
        take_block(feed);
        return;
    }
    struct divide_rows rows = rows_of(block);
    feed->part = divide_part(&feed->divide);
    divide_take(&feed->divide, ITERATE_ROWS, &rows);
    block->port = rows.port;
    block->len = rows.len;
    hash_keys(feed);
}

void iterate_close(struct iterate_feed *feed)
{
    ASSERT(iterate_is_done(feed));
    unload(feed);
    intake_close(&feed->intake);
}
