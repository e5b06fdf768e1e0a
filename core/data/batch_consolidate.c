/*
 * Consolidation by hashing, for rows of any kind; those that are a few words go their own way
 * (batch_words.c). One open-addressing table over the distinct (row, time) pairs, in the
 * order they are first seen, so that the output is a function of the input alone. The table holds
 * indexes of entries; rows are compared only when 64-bit hashes agree.
 *
 *   in    (a, t1, +1) (b, t1, +1) (a, t1, +2) (b, t1, -1) (a, t2, -1)
 *   out   (a, t1, +3) (a, t2, -1)
 *
 * Why not sort: a sort moves every row log n times, and most input here is either small or mostly
 * distinct. The entries are 40 bytes and the table 8 to 16 bytes a row; beyond the caches each row
 * costs one or two misses. The hash of the row is computed a column at a time before the table is
 * touched.
 *
 * Diffs are added modulo 2^64: sums that overflow on the way come right in the end. The scratch
 * memory belongs to the builder that takes the output. Its owner's thread only.
 */
#include "core/base/hash.h"
#include "core/data/batch_internal.h"

/* By bytes: 1.0 and 1.00 are different rows here, since a reader would see the difference. */
static bool same_value(const struct batch_col *a, uint32_t i, const struct batch_col *b,
                       uint32_t j)
{
    bool null = batch_is_null(a, i);
    if (null != batch_is_null(b, j)) {
        return false;
    }
    if (null) {
        return true;
    }
    size_t width = type_width(a->kind);
    if (width > 0) {
        return memcmp((const uint8_t *)a->values + i * width,
                      (const uint8_t *)b->values + j * width, width) == 0;
    }
    uint32_t len = a->offsets[i + 1] - a->offsets[i];
    return len == b->offsets[j + 1] - b->offsets[j] &&
           memcmp(a->bytes + a->offsets[i], b->bytes + b->offsets[j], len) == 0;
}

/* Only called when 64-bit hashes agree, so it nearly always says yes. */
static bool same_row(const struct batch *a, uint32_t i, const struct batch *b, uint32_t j)
{
    ASSERT(b->rows <= BATCH_ROWS_MAX && b->cols <= BATCH_COLS_MAX);
    for (uint32_t c = 0; c < a->cols; c++) {
        if (!same_value(&a->col[c], i, &b->col[c], j)) {
            return false;
        }
    }
    return true;
}

/* At most half full: linear probing stays short. */
static size_t slots_of(size_t rows)
{
    size_t slots = 16;
    while (slots < rows * 2) {
        slots *= 2;
    }
    return slots;
}

/* Table and entries belong to the builder, which keeps them for the next call. */
static void reserve_scratch(struct batch_builder *out, size_t rows, size_t rows_max)
{
    if (rows > out->entries_cap) {
        out->entries_cap = rows;
        out->entries = mem_realloc(out->entries, rows * sizeof(out->entries[0]));
    }
    size_t slots = slots_of(rows);
    if (slots > out->table_cap) {
        out->table_cap = slots;
        out->table = mem_realloc(out->table, slots * sizeof(out->table[0]));
    }
    if (rows_max > out->hashes_cap) {
        out->hashes_cap = rows_max;
        out->hashes = mem_realloc(out->hashes, rows_max * sizeof(out->hashes[0]));
    }
    memset(out->table, 0xff, slots * sizeof(out->table[0]));
}

/*
 * Adds a row of in[which]; returns the number of entries. The diffs are added modulo 2^64. Equal
 * rows of one time have one row_hash.
 */
static size_t add_row(struct batch_builder *out, const struct batch *const *in, uint32_t which,
                      uint32_t row, uint64_t row_hash, uint64_t time, size_t len, size_t mask)
{
    ASSERT((mask & (mask + 1)) == 0 && len <= mask);
    const struct batch *b = in[which];
    uint64_t hash = hash_combine(row_hash, time);
    size_t slot = hash & mask;
    struct consol_entry *e = NULL;
    for (; out->table[slot] != UINT32_MAX; slot = (slot + 1) & mask) {
        struct consol_entry *at = &out->entries[out->table[slot]];
        if (at->hash == hash && at->time == time && same_row(in[at->batch], at->row, b, row)) {
            e = at;
            break;
        }
    }
    if (e == NULL) {
        out->table[slot] = (uint32_t)len;
        e = &out->entries[len++];
        *e = (struct consol_entry){.hash = hash, .time = time, .batch = which, .row = row};
    }
    e->diff = (int64_t)((uint64_t)e->diff + (uint64_t)batch_diff(b, row));
    return len;
}

/*
 * By time, then in order of first appearance (batch, row). A total order: the output does not
 * depend on how qsort treats equals.
 */
static int compare_entries(const void *pa, const void *pb)
{
    const struct consol_entry *a = pa;
    const struct consol_entry *b = pb;
    if (a->time != b->time) {
        return a->time < b->time ? -1 : 1;
    }
    if (a->batch != b->batch) {
        return a->batch < b->batch ? -1 : 1;
    }
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Appends entries that lie in one batch, a column at a time. sel is scratch for their rows. */
static void append_run(struct batch_builder *out, const struct batch *from,
                       const struct consol_entry *e, size_t n, uint32_t *sel)
{
    ASSERT(from->rows <= BATCH_ROWS_MAX && from->cols <= BATCH_COLS_MAX);
    for (size_t i = 0; i < n; i++) {
        sel[i] = e[i].row;
    }
    for (uint32_t c = 0; c < out->cols; c++) {
        build_col_append(&out->col[c], &from->col[c], sel, n);
    }
    for (size_t i = 0; i < n; i++) {
        builder_end_one(out, e[i].time, e[i].diff);
    }
}

/* Entries are in order of first appearance unless times differ, so runs of one batch are long. */
static void append_entries(struct batch_builder *out, const struct batch *const *in, size_t len)
{
    const struct consol_entry *e = out->entries;
    uint32_t *sel = out->table; /* done with, and at least as long as the entries */
    for (size_t first = 0; first < len;) {
        size_t end = first + 1;
        while (end < len && e[end].batch == e[first].batch) {
            end++;
        }
        append_run(out, in[e[first].batch], e + first, end - first, sel);
        first = end;
    }
}

/* What does not add up to nothing, by time. */
static void append_kept(struct batch_builder *out, const struct batch *const *in, size_t len)
{
    size_t kept = 0;
    bool sorted = true;
    for (size_t i = 0; i < len; i++) {
        if (out->entries[i].diff != 0) {
            out->entries[kept] = out->entries[i];
            sorted &= kept == 0 || out->entries[kept - 1].time <= out->entries[kept].time;
            kept++;
        }
    }
    if (!sorted) {
        qsort(out->entries, kept, sizeof(out->entries[0]), compare_entries);
    }
    append_entries(out, in, kept);
    ASSERT(out->rows >= kept);
}

/* Any rows at all, of any times. */
static void consolidate_rows(const struct batch *const *in, size_t in_len, uint64_t advance_to,
                             size_t rows, struct batch_builder *out)
{
    size_t rows_max = 0;
    for (size_t i = 0; i < in_len; i++) {
        rows_max = in[i]->rows > rows_max ? in[i]->rows : rows_max;
    }
    reserve_scratch(out, rows, rows_max);
    size_t mask = slots_of(rows) - 1;
    size_t len = 0;
    for (uint32_t i = 0; i < in_len; i++) {
        batch_hash_columns(in[i], NULL, 0, false, out->hashes);
        for (uint32_t row = 0; row < in[i]->rows; row++) {
            uint64_t time = batch_time(in[i], row);
            time = time < advance_to ? advance_to : time;
            len = add_row(out, in, i, row, out->hashes[row], time, len, mask);
        }
    }
    append_kept(out, in, len);
}

void batch_consolidate_refs(const struct batch *const *in, const uint64_t *refs,
                            const uint64_t *hashes, size_t n, struct batch_builder *out)
{
    reserve_scratch(out, n, 0);
    size_t mask = slots_of(n) - 1;
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t which = (uint32_t)(refs[i] >> 32);
        uint32_t row = (uint32_t)refs[i];
        uint64_t time = batch_time(in[which], row);
        len = add_row(out, in, which, row, hashes[i], time, len, mask);
    }
    append_kept(out, in, len);
}

/* Whether all rows have one time, times before advance_to counting as that; which: *time. */
static bool has_one_time(const struct batch *b, uint64_t advance_to, uint64_t *time)
{
    ASSERT(b->rows > 0);
    *time = batch_time(b, 0) < advance_to ? advance_to : batch_time(b, 0);
    for (uint32_t row = 1; b->times != NULL && row < b->rows; row++) {
        uint64_t other = b->times[row] < advance_to ? advance_to : b->times[row];
        if (other != *time) {
            return false;
        }
    }
    return true;
}

/*
 * The end of the run of batches from first on that have one time, the same one; first itself when
 * that batch has several. *time only counts when a batch of the run has rows.
 */
static size_t run_of_one_time(const struct batch *const *in, size_t first, size_t in_len,
                              uint64_t advance_to, uint64_t *time)
{
    size_t end = first;
    bool any = false;
    for (; end < in_len; end++) {
        uint64_t other;
        if (in[end]->rows == 0) {
            continue;
        }
        if (!has_one_time(in[end], advance_to, &other) || (any && other != *time)) {
            break;
        }
        any = true;
        *time = other;
    }
    return end;
}

/* Chunks that arrive round by round: runs of one time each, in the order of their times. */
static bool in_runs(const struct batch *const *in, size_t in_len, uint64_t advance_to)
{
    uint64_t last = 0;
    for (size_t first = 0; first < in_len;) {
        uint64_t time = last + 1;
        size_t end = run_of_one_time(in, first, in_len, advance_to, &time);
        if (end == first || (first > 0 && time <= last)) {
            return false;
        }
        last = time;
        first = end;
    }
    return true;
}

static size_t rows_of(const struct batch *const *in, size_t in_len, const struct batch_builder *out)
{
    size_t rows = 0;
    for (size_t i = 0; i < in_len; i++) {
        ASSERT(in[i]->cols == out->cols);
        rows += in[i]->rows;
    }
    ASSERT(rows < UINT32_MAX && in_len < UINT32_MAX);
    return rows;
}

/*
 * In and out may not overlap: out must be another builder than those the views were made from.
 * Runs of one time cannot meet each other's rows: each is consolidated by itself, as words if its
 * rows are some.
 */
void batch_consolidate(const struct batch *const *in, size_t in_len, uint64_t advance_to,
                       struct batch_builder *out)
{
    bool runs = in_runs(in, in_len, advance_to);
    for (size_t first = 0; first < in_len;) {
        uint64_t time = 0;
        size_t end = runs ? run_of_one_time(in, first, in_len, advance_to, &time) : in_len;
        size_t rows = rows_of(in + first, end - first, out);
        if (rows > 0 && !(runs && batch_consolidate_words(in + first, end - first, time, out))) {
            consolidate_rows(in + first, end - first, advance_to, rows, out);
        }
        first = end;
    }
}
