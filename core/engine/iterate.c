/*
 * Interned bytes, histories, blocks of rows: see iterate.h.
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

/* ---- histories ------------------------------------------------------------------------------- */

enum {
    HIST_CAP_MIN = 2,
    HIST_SCAN = 12, /* entries up to which an addition looks for an equal one */
};

static size_t hist_bytes(const struct hist_form *form, uint32_t cap)
{
    return sizeof(struct hist) + cap * hist_stride(form) * sizeof(uint64_t);
}

/* Of a size class of the pool, so that nothing of its memory is left unused. */
static uint32_t cap_for(const struct hist_form *form, uint32_t len)
{
    size_t bytes = pool_usable(hist_bytes(form, len < HIST_CAP_MIN ? HIST_CAP_MIN : len));
    size_t cap = (bytes - sizeof(struct hist)) / (hist_stride(form) * sizeof(uint64_t));
    ASSERT(cap >= len && cap < UINT32_MAX / 2);
    return (uint32_t)cap;
}

static struct hist *resize(const struct hist_form *form, struct hist *old, uint32_t len)
{
    uint32_t cap = cap_for(form, len);
    struct hist *hist = pool_alloc(form->pool, hist_bytes(form, cap));
    *hist = (struct hist){.cap = cap};
    if (old != NULL) {
        ASSERT(old->len <= cap);
        memcpy(hist, old, hist_bytes(form, old->len));
        hist->cap = cap;
        pool_free(form->pool, old, hist_bytes(form, old->cap));
    }
    return hist;
}

void hist_free(const struct hist_form *form, struct hist *hist)
{
    if (hist == NULL) {
        return;
    }
    for (uint32_t i = 0; form->interns != NULL && i < hist->len; i++) {
        interns_release(form->interns, hist_at(form, hist, i)[2]);
    }
    *form->len -= hist->len;
    pool_free(form->pool, hist, hist_bytes(form, hist->cap));
}

/* By value, then NULLs, then iteration. */
static int compare_entries(const void *pa, const void *pb, void *arg)
{
    const struct hist_form *form = arg;
    const uint64_t *a = pa;
    const uint64_t *b = pb;
    for (uint32_t w = 0; w < form->words; w++) {
        if (a[2 + w] != b[2 + w]) {
            return a[2 + w] < b[2 + w] ? -1 : 1;
        }
    }
    return a[0] < b[0] ? -1 : a[0] > b[0];
}

/* The unsorted end of a history among the rest: sorted by itself, then merged from behind. */
static void merge(const struct hist_form *form, struct hist *hist)
{
    size_t stride = hist_stride(form);
    size_t size = stride * sizeof(uint64_t);
    uint32_t fresh = hist->len - hist->sorted;
    uint64_t few[HIST_SCAN * (2 + ITERATE_VALUES_MAX)];
    uint64_t *end = fresh <= HIST_SCAN ? few : mem_alloc(fresh * size);
    void *form_arg = (void *)(uintptr_t)form;
    memcpy(end, hist->row + hist->sorted * stride, fresh * size);
    if (fresh > 1) {
        qsort_r(end, fresh, size, compare_entries, form_arg);
    }
    uint32_t i = hist->sorted;
    uint32_t j = fresh;
    for (uint32_t to = hist->len; j > 0; to--) {
        ASSERT(to == i + j);
        bool old = i > 0 && compare_entries(hist->row + (i - 1) * stride, end + (j - 1) * stride,
                                            form_arg) > 0;
        const uint64_t *from = old ? hist->row + --i * stride : end + --j * stride;
        memcpy(hist->row + (to - 1) * stride, from, size);
    }
    if (end != few) {
        free(end);
    }
}

/* Equal neighbours become one, or nothing. */
static void add_up(const struct hist_form *form, struct hist *hist)
{
    size_t stride = hist_stride(form);
    uint32_t len = 0;
    for (uint32_t i = 0; i < hist->len;) {
        uint64_t *first = hist->row + i * stride;
        uint32_t end = i;
        int64_t diff = 0;
        while (end < hist->len && hist->row[end * stride] == first[0] &&
               cells_same_key(hist->row + end * stride + 2, first + 2, form->words)) {
            diff = hist_plus(diff, hist_diff(hist->row + end * stride));
            end++;
        }
        uint32_t kept = diff != 0;
        for (uint32_t e = i + kept; form->interns != NULL && e < end; e++) {
            interns_release(form->interns, first[2]);
        }
        first[1] = (uint64_t)diff;
        if (kept != 0 && len != i) {
            memcpy(hist->row + len * stride, first, stride * sizeof(uint64_t));
        }
        len += kept;
        i = end;
    }
    *form->len -= hist->len - len;
    hist->len = hist->sorted = len;
}

struct hist *hist_settle(const struct hist_form *form, struct hist *hist)
{
    if (hist == NULL || hist->sorted == hist->len) {
        return hist;
    }
    merge(form, hist);
    add_up(form, hist);
    if (hist->len == 0) {
        hist_free(form, hist);
        return NULL;
    }
    return hist;
}

/* Adds to an equal entry of a short history; false: there is none. */
static bool add_to_equal(const struct hist_form *form, struct hist **at, uint64_t head,
                         int64_t diff, const uint64_t *values)
{
    struct hist *hist = *at;
    size_t stride = hist_stride(form);
    for (uint32_t i = 0; i < hist->len; i++) {
        uint64_t *entry = hist->row + i * stride;
        if (entry[0] != head || !cells_same_key(entry + 2, values, form->words)) {
            continue;
        }
        entry[1] = (uint64_t)hist_plus(hist_diff(entry), diff);
        if (entry[1] != 0) {
            return true;
        }
        if (form->interns != NULL) {
            interns_release(form->interns, entry[2]);
        }
        size_t behind = (hist->len - i - 1) * stride * sizeof(uint64_t);
        memmove(entry, entry + stride, behind);
        hist->len--;
        hist->sorted -= i < hist->sorted;
        --*form->len;
        if (hist->len == 0) {
            hist_free(form, hist);
            *at = NULL;
        }
        return true;
    }
    return false;
}

struct hist *hist_add(const struct hist_form *form, struct hist *hist, uint32_t nulls,
                      uint32_t iteration, int64_t diff, const uint64_t *values)
{
    uint64_t head = (uint64_t)nulls << 32 | iteration;
    if (diff == 0) {
        return hist;
    }
    if (hist == NULL) {
        hist = resize(form, NULL, 1);
    }
    hist->net = hist_plus(hist->net, diff);
    if (hist->len > 0 && hist->len <= HIST_SCAN && add_to_equal(form, &hist, head, diff, values)) {
        return hist;
    }
    if (hist->len == hist->cap) {
        hist = resize(form, hist, hist->len * 2);
    }
    uint64_t *entry = hist->row + hist->len * hist_stride(form);
    entry[0] = head;
    entry[1] = (uint64_t)diff;
    memcpy(entry + 2, values, form->words * sizeof(uint64_t));
    interns_retain(form->interns, form->words > 0 ? values[0] : 0);
    hist->len++;
    ++*form->len;
    /* A long one is added up when half of it is new, which is O(log n) an addition, and when all
     * of it may have gone. */
    bool due = hist->len > HIST_SCAN && hist->len - hist->sorted > hist->sorted;
    return due || hist->net == 0 ? hist_settle(form, hist) : hist;
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
