/*
 * Interned bytes, blocks of rows: see iterate.h.
 */
#include "core/engine/iterate.h"

#include <stdlib.h>

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
static void load_columns(struct iterate_block *block, const uint32_t *cols, uint32_t cols_len,
                         uint32_t words, uint64_t *out, uint32_t *nulls)
{
    ASSERT(cols_len <= words || cols_len == 0);
    memset(nulls, 0, block->len * sizeof(*nulls));
    for (uint32_t c = 0; c < cols_len; c++) {
        const struct batch_col *col = &block->batch->col[cols[c]];
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

/* One word for the key, one for the whole row. */
static void load_bytes(struct iterate_block *block, const struct iterate_input *input,
                       struct interns *interns, struct buf *scratch)
{
    for (uint32_t i = 0; i < block->len; i++) {
        uint32_t row = block->rows[i];
        op_key_encode(block->batch, row, input->keys, input->keys_len, scratch);
        block->keys[i] = interns_word(interns, scratch->data, scratch->len);
        block->key_nulls[i] = op_key_has_null(block->batch, row, input->keys, input->keys_len);
        buf_clear(scratch);
        batch_encode_row(block->batch, row, NULL, 0, false, scratch);
        block->values[i] = interns_word(interns, scratch->data, scratch->len);
        block->nulls[i] = 0;
    }
}

void iterate_unload(struct iterate_block *block, const struct iterate_input inputs[],
                    struct interns *interns)
{
    for (uint32_t i = 0; interns != NULL && i < block->len; i++) {
        ASSERT(!inputs[block->port].flat);
        interns_release(interns, block->keys[i]);
        interns_release(interns, block->values[i]);
    }
    block->len = block->at = 0;
}

void iterate_load(struct iterate_block *block, const struct iterate_input inputs[],
                  struct intake *intake, struct interns *interns, struct buf *scratch)
{
    ASSERT(block->at == block->len);
    iterate_unload(block, inputs, interns);
    struct intake_ref first = intake_ref(intake);
    const struct iterate_input *input = &inputs[first.port];
    block->port = first.port;
    block->len = intake_take(intake, ITERATE_ROWS, block->rows, &block->batch);
    ASSERT(block->len > 0 && block->len <= ITERATE_ROWS);
    if (input->flat) {
        load_columns(block, input->keys, input->keys_len, input->key_words, block->keys,
                     block->key_nulls);
        load_columns(block, input->values, input->values_len, input->words, block->values,
                     block->nulls);
    } else {
        load_bytes(block, input, interns, scratch);
    }
    for (uint32_t i = 0; i < block->len; i++) {
        uint32_t nulls = input->flat ? block->key_nulls[i] : 0;
        block->hash[i] =
            cells_hash(&block->keys[i * input->key_words], input->key_words, nulls);
    }
}
