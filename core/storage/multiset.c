/*
 * Rows and their sums: see multiset.h. Open addressing with linear probing, no removal: a row whose
 * sum is zero stays, and is left out by who reads. At most half full, a power of two, so probes are
 * short and a mask does. Rows are compared by their encoded bytes after their whole hash: equal
 * bytes are equal rows, because the encoding is canonical (batch_encode_row).
 */
#include "core/storage/multiset.h"

#include "core/base/hash.h"

void multiset_init(struct multiset *set, const uint8_t *kinds, size_t kinds_len)
{
    ASSERT(kinds_len > 0 && kinds != NULL);
    *set = (struct multiset){.kinds_len = kinds_len};
    set->kinds = mem_alloc(kinds_len);
    memcpy(set->kinds, kinds, kinds_len);
}

void multiset_free(struct multiset *set)
{
    free(set->kinds);
    free(set->row);
    free(set->table);
    buf_free(&set->bytes);
    buf_free(&set->scratch);
    *set = (struct multiset){0};
}

static void grow_table(struct multiset *set)
{
    size_t cap = set->table_cap == 0 ? 1024 : set->table_cap * 2;
    ASSERT((cap & (cap - 1)) == 0 && set->row_len * 2 <= cap);
    uint32_t *table = mem_zalloc(cap * sizeof(*table));
    for (size_t i = 0; i < set->row_len; i++) {
        size_t at = set->row[i].hash & (cap - 1);
        while (table[at] != 0) {
            at = (at + 1) & (cap - 1);
        }
        table[at] = (uint32_t)i + 1;
    }
    free(set->table);
    set->table = table;
    set->table_cap = cap;
}

/* The row equal to the encoded bytes in scratch, or NULL; *slot is where it stands or belongs. */
static struct multiset_row *find(struct multiset *set, uint64_t hash, size_t *slot)
{
    ASSERT(set->table_cap > 0 && set->row_len * 2 <= set->table_cap);
    size_t at = hash & (set->table_cap - 1);
    while (set->table[at] != 0) {
        struct multiset_row *row = &set->row[set->table[at] - 1];
        if (row->hash == hash && row->len == set->scratch.len &&
            memcmp(set->bytes.data + row->at, set->scratch.data, row->len) == 0) {
            break;
        }
        at = (at + 1) & (set->table_cap - 1);
    }
    *slot = at;
    return set->table[at] == 0 ? NULL : &set->row[set->table[at] - 1];
}

void multiset_add(struct multiset *set, const struct batch *batch, uint32_t row, int64_t diff)
{
    ASSERT(batch->cols == set->kinds_len && row < batch->rows);
    ASSERT(set->row_len < UINT32_MAX);
    if ((set->row_len + 1) * 2 > set->table_cap) {
        grow_table(set);
    }
    buf_clear(&set->scratch);
    batch_encode_row(batch, row, NULL, 0, false, &set->scratch);
    uint64_t hash = hash_bytes(set->scratch.data, set->scratch.len);
    size_t slot = 0;
    struct multiset_row *found = find(set, hash, &slot);
    if (found != NULL) {
        found->diff += diff;
        return;
    }
    struct multiset_row *fresh = VEC_PUSH(set, row);
    *fresh = (struct multiset_row){.hash = hash,
                                   .at = set->bytes.len,
                                   .len = (uint32_t)set->scratch.len,
                                   .diff = diff};
    set->table[slot] = (uint32_t)set->row_len;
    ASSERT(set->row_len * 2 <= set->table_cap);
    buf_append(&set->bytes, set->scratch.data, set->scratch.len);
}

int64_t multiset_take(struct multiset *set, const struct batch *batch, uint32_t row)
{
    ASSERT(batch->cols == set->kinds_len && row < batch->rows);
    if (set->row_len == 0) {
        return 0;
    }
    buf_clear(&set->scratch);
    batch_encode_row(batch, row, NULL, 0, false, &set->scratch);
    size_t slot = 0;
    struct multiset_row *found =
        find(set, hash_bytes(set->scratch.data, set->scratch.len), &slot);
    if (found == NULL) {
        return 0;
    }
    int64_t diff = found->diff;
    found->diff = 0;
    return diff;
}

void multiset_emit(const struct multiset *set, size_t i, uint64_t time, struct batch_builder *out)
{
    ASSERT(i < set->row_len);
    const struct multiset_row *row = &set->row[i];
    size_t used = batch_decode_row(set->bytes.data + row->at, set->kinds, set->kinds_len, out, 0);
    ASSERT(used == row->len);
    batch_builder_end_row(out, time, row->diff);
}
