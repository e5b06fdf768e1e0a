/*
 * Interned bytes, trails, blocks of rows: see iterate.h.
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

/* ---- trails ------------------------------------------------------------------------------- */

enum {
    TRAIL_CAP_MIN = 1,
    TRAIL_SCAN = 12, /* entries up to which an addition looks for an equal one */
};

static size_t trail_bytes(const struct trail_form *form, uint32_t cap)
{
    return sizeof(struct trail) + cap * trail_stride(form) * sizeof(uint64_t);
}

/* Of a size class of the pool, so that nothing of its memory is left unused. */
static uint32_t cap_for(const struct trail_form *form, uint32_t len)
{
    size_t bytes = pool_usable(trail_bytes(form, len < TRAIL_CAP_MIN ? TRAIL_CAP_MIN : len));
    size_t cap = (bytes - sizeof(struct trail)) / (trail_stride(form) * sizeof(uint64_t));
    ASSERT(cap >= len && cap < UINT32_MAX / 2);
    return (uint32_t)cap;
}

static struct trail *resize(const struct trail_form *form, struct trail *old, uint32_t len)
{
    uint32_t cap = cap_for(form, len);
    struct trail *trail = pool_alloc(form->pool, trail_bytes(form, cap));
    *trail = (struct trail){.cap = cap};
    if (old != NULL) {
        ASSERT(old->len <= cap);
        memcpy(trail, old, trail_bytes(form, old->len));
        trail->cap = cap;
        pool_free(form->pool, old, trail_bytes(form, old->cap));
    }
    return trail;
}

void trail_free(const struct trail_form *form, struct trail *trail)
{
    if (trail == NULL) {
        return;
    }
    for (uint32_t i = 0; form->interns != NULL && i < trail->len; i++) {
        interns_release(form->interns, trail_at(form, trail, i)[2]);
    }
    *form->len -= trail->len;
    pool_free(form->pool, trail, trail_bytes(form, trail->cap));
}

/* By value, then NULLs, then iteration. */
static int compare_entries(const void *pa, const void *pb, void *arg)
{
    const struct trail_form *form = arg;
    const uint64_t *a = pa;
    const uint64_t *b = pb;
    for (uint32_t w = 0; w < form->words; w++) {
        if (a[2 + w] != b[2 + w]) {
            return a[2 + w] < b[2 + w] ? -1 : 1;
        }
    }
    return a[0] < b[0] ? -1 : a[0] > b[0];
}

/* The unsorted end of a trail among the rest: sorted by itself, then merged from behind. */
static void merge(const struct trail_form *form, struct trail *trail)
{
    size_t stride = trail_stride(form);
    size_t size = stride * sizeof(uint64_t);
    uint32_t fresh = trail->len - trail->sorted;
    uint64_t few[TRAIL_SCAN * (2 + ITERATE_VALUES_MAX)];
    uint64_t *end = fresh <= TRAIL_SCAN ? few : mem_alloc(fresh * size);
    void *form_arg = (void *)(uintptr_t)form;
    memcpy(end, trail->row + trail->sorted * stride, fresh * size);
    if (fresh > 1) {
        qsort_r(end, fresh, size, compare_entries, form_arg);
    }
    uint32_t i = trail->sorted;
    uint32_t j = fresh;
    for (uint32_t to = trail->len; j > 0; to--) {
        ASSERT(to == i + j);
        bool old = i > 0 && compare_entries(trail->row + (i - 1) * stride, end + (j - 1) * stride,
                                            form_arg) > 0;
        const uint64_t *from = old ? trail->row + --i * stride : end + --j * stride;
        memcpy(trail->row + (to - 1) * stride, from, size);
    }
    if (end != few) {
        free(end);
    }
}

/* Equal neighbours become one, or nothing. */
static void add_up(const struct trail_form *form, struct trail *trail)
{
    size_t stride = trail_stride(form);
    uint32_t len = 0;
    for (uint32_t i = 0; i < trail->len;) {
        uint64_t *first = trail->row + i * stride;
        uint32_t end = i;
        int64_t diff = 0;
        while (end < trail->len && trail->row[end * stride] == first[0] &&
               cells_same_key(trail->row + end * stride + 2, first + 2, form->words)) {
            diff = trail_plus(diff, trail_diff(trail->row + end * stride));
            end++;
        }
        uint32_t kept = diff != 0;
        for (uint32_t e = i + kept; form->interns != NULL && e < end; e++) {
            interns_release(form->interns, first[2]);
        }
        first[1] = (uint64_t)diff;
        if (kept != 0 && len != i) {
            memcpy(trail->row + len * stride, first, stride * sizeof(uint64_t));
        }
        len += kept;
        i = end;
    }
    *form->len -= trail->len - len;
    trail->len = trail->sorted = len;
}

struct trail *trail_settle(const struct trail_form *form, struct trail *trail)
{
    if (trail == NULL || trail->sorted == trail->len) {
        return trail;
    }
    merge(form, trail);
    add_up(form, trail);
    if (trail->len == 0) {
        trail_free(form, trail);
        return NULL;
    }
    return trail;
}

/* Adds to an equal entry of a short history; false: there is none. */
static bool add_to_equal(const struct trail_form *form, struct trail **at, uint64_t head,
                         int64_t diff, const uint64_t *values)
{
    struct trail *trail = *at;
    size_t stride = trail_stride(form);
    for (uint32_t i = 0; i < trail->len; i++) {
        uint64_t *entry = trail->row + i * stride;
        if (entry[0] != head || !cells_same_key(entry + 2, values, form->words)) {
            continue;
        }
        entry[1] = (uint64_t)trail_plus(trail_diff(entry), diff);
        if (entry[1] != 0) {
            return true;
        }
        if (form->interns != NULL) {
            interns_release(form->interns, entry[2]);
        }
        size_t behind = (trail->len - i - 1) * stride * sizeof(uint64_t);
        memmove(entry, entry + stride, behind);
        trail->len--;
        trail->sorted -= i < trail->sorted;
        --*form->len;
        if (trail->len == 0) {
            trail_free(form, trail);
            *at = NULL;
        }
        return true;
    }
    return false;
}

struct trail *trail_add(const struct trail_form *form, struct trail *trail, uint32_t nulls,
                      uint32_t iteration, int64_t diff, const uint64_t *values)
{
    uint64_t head = (uint64_t)nulls << 32 | iteration;
    if (diff == 0) {
        return trail;
    }
    if (trail == NULL) {
        trail = resize(form, NULL, 1);
    }
    trail->net = trail_plus(trail->net, diff);
    if (trail->len > 0 && trail->len <= TRAIL_SCAN &&
        add_to_equal(form, &trail, head, diff, values)) {
        return trail;
    }
    if (trail->len == trail->cap) {
        trail = resize(form, trail, trail->len * 2);
    }
    uint64_t *entry = trail->row + trail->len * trail_stride(form);
    entry[0] = head;
    entry[1] = (uint64_t)diff;
    memcpy(entry + 2, values, form->words * sizeof(uint64_t));
    interns_retain(form->interns, form->words > 0 ? values[0] : 0);
    trail->len++;
    ++*form->len;
    /* Added up when half of it is new, which is O(log n) an addition: if it is long, or if all of
     * it may have gone. Before, something is left: a new entry takes back one sorted at most. */
    bool fresh = trail->len - trail->sorted >= trail->sorted;
    bool due = fresh && (trail->len > TRAIL_SCAN || trail->net == 0);
    return due ? trail_settle(form, trail) : trail;
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
