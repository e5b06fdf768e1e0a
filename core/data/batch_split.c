/*
 * Dividing a batch among workers: each row goes to one of several parts, and each part becomes a
 * batch of its own, written where it will be sent from. Three passes, all by columns:
 *
 *   1. the part of each row from its hash, and how many rows each part gets;
 *   2. per part, the bytes of variable columns, and whether there are NULLs or differing times: now
 *      the size and the layout of every part are known, and the caller finds it a place;
 *   3. in tiles of TILE rows: the tile's row numbers are ordered by part, then each column's values
 *      are copied part after part. A tile of a column stays in the first cache while all parts take
 *      theirs from it, and each place is written from front to back, a run at a time: the effect of
 *      write-combining buffers without their copies.
 *
 * Rows keep their order within a part. A part's bytes are those that a builder would have made of
 * the same rows: no validity without NULLs, no column of times or diffs that are all equal, padding
 * zero.
 *
 * One owner, one thread; memory is kept from batch to batch.
 */
#include "core/data/batch_internal.h"

enum { TILE = 4096, LANES = 4 /* counters of a part, so that rows in a row do not wait */ };

/* A part's column: where its next value goes. */
struct split_col {
    uint8_t *values;
    uint32_t *offsets;
    uint8_t *bytes;
    uint64_t *validity; /* NULL: no NULLs */
    uint64_t bytes_len; /* of the whole, from pass 2 */
    uint64_t bytes_at;  /* written so far */
    bool has_nulls;
};

struct split_part {
    uint32_t rows;
    uint32_t filled;  /* of them, written */
    uint32_t first;   /* row of the batch; only if rows > 0 */
    bool has_times;   /* and diffs: they differ within the part */
    bool has_diffs;
    uint64_t *times;  /* where they go, or NULL */
    int64_t *diffs;
};

struct batch_split {
    const struct batch *b; /* between begin and write */
    uint32_t parts;
    uint16_t *to; /* [rows]: the part of each row */
    size_t to_cap;
    struct split_part *part;
    struct split_col *col; /* [parts][cols] */
    uint32_t *counts;      /* [LANES][parts] */
    uint32_t *starts;      /* [parts + 1]: of a tile's rows in order */
    size_t part_cap, col_cap;
    uint32_t order[TILE];
};

struct batch_split *batch_split_new(void)
{
    return MEM_NEW(struct batch_split);
}

void batch_split_free(struct batch_split *s)
{
    if (s == NULL) {
        return;
    }
    free(s->to);
    free(s->part);
    free(s->col);
    free(s->counts);
    free(s->starts);
    free(s);
}

static void reserve(struct batch_split *s, uint32_t rows, uint32_t parts, uint32_t cols)
{
    if (rows > s->to_cap) {
        s->to_cap = rows * 2UL;
        s->to = mem_realloc(s->to, s->to_cap * sizeof(s->to[0]));
    }
    if (parts > s->part_cap) {
        s->part_cap = parts;
        s->part = mem_realloc(s->part, parts * sizeof(s->part[0]));
        s->counts = mem_realloc(s->counts, parts * LANES * sizeof(s->counts[0]));
        s->starts = mem_realloc(s->starts, (parts + 1) * sizeof(s->starts[0]));
    }
    size_t cells = (size_t)parts * cols;
    if (cells > s->col_cap) {
        s->col_cap = cells;
        s->col = mem_realloc(s->col, cells * sizeof(s->col[0]));
    }
}

/* ---- 1: parts and counts --------------------------------------------------------------------- */

/* The upper half of the hash scaled to the number of parts: no division, and the lower bits, which
 * hash tables look at, stay independent of the part. */
static void find_parts(const uint64_t *restrict hashes, uint32_t rows, uint32_t parts,
                       uint16_t *restrict to)
{
    for (uint32_t i = 0; i < rows; i++) {
        to[i] = (uint16_t)((hashes[i] >> 32) * parts >> 32);
    }
}

/* Of two parts one is counted by adding up. */
static uint32_t count_ones(const uint16_t *to, uint32_t rows)
{
    uint32_t ones = 0;
    for (uint32_t i = 0; i < rows; i++) {
        ones += to[i];
    }
    return ones;
}

static void count_rows(struct batch_split *s, uint32_t rows)
{
    uint32_t parts = s->parts;
    if (parts == 2) {
        s->part[1].rows = count_ones(s->to, rows);
        s->part[0].rows = rows - s->part[1].rows;
        return;
    }
    memset(s->counts, 0, (size_t)parts * LANES * sizeof(s->counts[0]));
    for (uint32_t i = 0; i < rows; i++) {
        s->counts[i % LANES * parts + s->to[i]]++;
    }
    for (uint32_t p = 0; p < parts; p++) {
        for (uint32_t lane = 0; lane < LANES; lane++) {
            s->part[p].rows += s->counts[lane * parts + p];
        }
    }
}

/* ---- 2: sizes -------------------------------------------------------------------------------- */

static void measure_column(struct batch_split *s, const struct batch_col *from, uint32_t c)
{
    const struct batch *b = s->b;
    ASSERT(c < b->cols);
    for (uint32_t i = 0; type_width(from->kind) == 0 && i < b->rows; i++) {
        s->col[(size_t)s->to[i] * b->cols + c].bytes_len +=
            from->offsets[i + 1] - from->offsets[i];
    }
    for (uint32_t i = 0; from->validity != NULL && i < b->rows; i++) {
        s->col[(size_t)s->to[i] * b->cols + c].has_nulls |= batch_is_null(from, i);
    }
}

/* Whether times and diffs differ within a part: looks until that is known of all that have rows,
 * which is soon where they do. A batch with one of each needs no look. */
static void measure_times(struct batch_split *s)
{
    const struct batch *b = s->b;
    uint32_t unknown = 0;
    for (uint32_t p = 0; p < s->parts; p++) {
        unknown += s->part[p].rows > 0 ? (b->times != NULL) + (b->diffs != NULL) : 0;
    }
    for (uint32_t i = 0; unknown > 0 && i < b->rows; i++) {
        struct split_part *part = &s->part[s->to[i]];
        if (part->filled == 0) {
            part->filled = 1;
            part->first = i;
        }
        if (!part->has_times && batch_time(b, i) != batch_time(b, part->first)) {
            part->has_times = true;
            unknown--;
        }
        if (!part->has_diffs && batch_diff(b, i) != batch_diff(b, part->first)) {
            part->has_diffs = true;
            unknown--;
        }
    }
    for (uint32_t p = 0; p < s->parts; p++) {
        s->part[p].filled = 0;
    }
}

void batch_split_begin(struct batch_split *s, const struct batch *b, const uint64_t *hashes,
                       uint32_t parts)
{
    ASSERT(parts > 1 && parts <= BATCH_PARTS_MAX && b->rows > 0);
    reserve(s, b->rows, parts, b->cols);
    s->b = b;
    s->parts = parts;
    memset(s->part, 0, parts * sizeof(s->part[0]));
    if (b->cols > 0) { /* else there is no memory, and memset may not be given NULL */
        memset(s->col, 0, (size_t)parts * b->cols * sizeof(s->col[0]));
    }
    find_parts(hashes, b->rows, parts, s->to);
    count_rows(s, b->rows);
    for (uint32_t c = 0; c < b->cols; c++) {
        measure_column(s, &b->col[c], c);
    }
    measure_times(s);
}

uint32_t batch_split_rows(const struct batch_split *s, uint32_t part)
{
    ASSERT(s->b != NULL && part < s->parts);
    return s->part[part].rows;
}

static struct batch_desc desc_of(const struct batch_split *s, uint32_t part, uint32_t c)
{
    const struct split_col *col = &s->col[(size_t)part * s->b->cols + c];
    return (struct batch_desc){.kind = s->b->col[c].kind, .has_nulls = col->has_nulls,
                               .bytes_len = col->bytes_len};
}

static uint64_t head_len(const struct batch *b)
{
    return sizeof(struct batch_header) + b->cols * sizeof(struct batch_desc);
}

size_t batch_split_size(const struct batch_split *s, uint32_t part)
{
    ASSERT(s->b != NULL && part < s->parts);
    const struct split_part *p = &s->part[part];
    struct batch_layout layout = {batch_align(head_len(s->b))};
    for (uint32_t c = 0; c < s->b->cols; c++) {
        struct batch_desc desc = desc_of(s, part, c);
        batch_layout_column(&layout, p->rows, &desc);
    }
    layout_take(&layout, p->has_times ? (uint64_t)p->rows * 8 : 0);
    layout_take(&layout, p->has_diffs ? (uint64_t)p->rows * 8 : 0);
    return layout.at;
}

/* ---- 3: writing ------------------------------------------------------------------------------ */

static void zero_padding(uint8_t *base, uint64_t at, uint64_t len)
{
    memset(base + at + len, 0, batch_align(at + len) - (at + len));
}

/* A column's places, and what of it does not come from rows. */
static void open_column(struct split_col *col, uint8_t *base, uint32_t rows,
                        const struct batch_desc *desc)
{
    size_t width = type_width(desc->kind);
    if (desc->has_nulls) {
        col->validity = (uint64_t *)(base + desc->validity_at);
        memset(col->validity, 0, validity_len(rows));
        zero_padding(base, desc->validity_at, validity_len(rows));
    }
    if (width > 0) {
        col->values = base + desc->values_at;
        zero_padding(base, desc->values_at, (uint64_t)rows * width);
        return;
    }
    col->offsets = (uint32_t *)(base + desc->values_at);
    col->offsets[0] = 0;
    col->bytes = base + desc->bytes_at;
    zero_padding(base, desc->values_at, ((uint64_t)rows + 1) * sizeof(uint32_t));
    zero_padding(base, desc->bytes_at, desc->bytes_len);
}

/* Header and descriptors; where everything else goes. */
static void open_part(struct batch_split *s, uint32_t part, uint8_t *base)
{
    const struct batch *b = s->b;
    struct split_part *p = &s->part[part];
    struct batch_header *h = (struct batch_header *)base;
    struct batch_desc *desc = (struct batch_desc *)(h + 1);
    struct batch_layout layout = {batch_align(head_len(b))};
    ASSERT((uintptr_t)base % 8 == 0 && p->rows > 0 && p->filled == 0);
    memset(base + head_len(b), 0, layout.at - head_len(b));
    for (uint32_t c = 0; c < b->cols; c++) {
        desc[c] = desc_of(s, part, c);
        batch_layout_column(&layout, p->rows, &desc[c]);
        open_column(&s->col[(size_t)part * b->cols + c], base, p->rows, &desc[c]);
    }
    *h = (struct batch_header){.magic = BATCH_MAGIC, .rows = p->rows, .cols = b->cols};
    uint64_t len = (uint64_t)p->rows * 8;
    if (p->has_times) {
        h->flags |= BATCH_TIMES;
        h->times_at = layout_take(&layout, len);
        p->times = (uint64_t *)(base + h->times_at);
        zero_padding(base, h->times_at, len);
    } else {
        h->time_const = batch_time(b, p->first);
    }
    if (p->has_diffs) {
        h->flags |= BATCH_DIFFS;
        h->diffs_at = layout_take(&layout, len);
        p->diffs = (int64_t *)(base + h->diffs_at);
        zero_padding(base, h->diffs_at, len);
    } else {
        h->diff_const = batch_diff(b, p->first);
    }
    h->size = layout.at;
    ASSERT(h->size == batch_split_size(s, part));
}

/* Two parts, without a branch: both places are written, one of them counts. */
static void order_two(struct batch_split *s, uint32_t from, uint32_t n)
{
    uint32_t ones[TILE];
    uint32_t at[2] = {0, 0};
    const uint16_t *to = s->to + from;
    for (uint32_t i = 0; i < n; i++) {
        s->order[at[0]] = from + i;
        ones[at[1]] = from + i;
        at[0] += to[i] ^ 1U;
        at[1] += to[i];
    }
    ASSERT(at[0] + at[1] == n);
    memcpy(s->order + at[0], ones, at[1] * sizeof(ones[0]));
    s->starts[0] = 0;
    s->starts[1] = at[0];
    s->starts[2] = n;
}

/* The rows [from, from + n) by part, in their order within each; starts: where each part begins. */
static void order_tile(struct batch_split *s, uint32_t from, uint32_t n)
{
    ASSERT(n > 0 && n <= TILE && from + n <= s->b->rows);
    if (s->parts == 2) {
        order_two(s, from, n);
        return;
    }
    const uint16_t *to = s->to + from;
    uint32_t *next = s->counts;
    memset(next, 0, s->parts * sizeof(next[0]));
    for (uint32_t i = 0; i < n; i++) {
        next[to[i]]++;
    }
    uint32_t at = 0;
    for (uint32_t p = 0; p < s->parts; p++) {
        s->starts[p] = at;
        at += next[p];
        next[p] = s->starts[p];
    }
    s->starts[s->parts] = at;
    for (uint32_t i = 0; i < n; i++) {
        s->order[next[to[i]]++] = from + i;
    }
}

/* Widths are constants in each case, so that the copies become plain moves. */
static void gather(uint8_t *restrict to, const uint8_t *restrict from, size_t width,
                   const uint32_t *restrict rows, uint32_t n)
{
    switch (width) {
    case 8:
        for (uint32_t i = 0; i < n; i++) {
            memcpy(to + (size_t)i * 8, from + (size_t)rows[i] * 8, 8);
        }
        break;
    case 4:
        for (uint32_t i = 0; i < n; i++) {
            memcpy(to + (size_t)i * 4, from + (size_t)rows[i] * 4, 4);
        }
        break;
    case 1:
        for (uint32_t i = 0; i < n; i++) {
            to[i] = from[rows[i]];
        }
        break;
    default:
        for (uint32_t i = 0; i < n; i++) {
            memcpy(to + i * width, from + rows[i] * width, width);
        }
        break;
    }
}

static void gather_bytes(struct split_col *col, const struct batch_col *from, uint32_t filled,
                         const uint32_t *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t begin = from->offsets[rows[i]];
        uint32_t len = from->offsets[rows[i] + 1] - begin;
        if (len > 0) {
            memcpy(col->bytes + col->bytes_at, from->bytes + begin, len);
        }
        col->bytes_at += len;
        col->offsets[filled + i + 1] = (uint32_t)col->bytes_at;
    }
    ASSERT(col->bytes_at <= col->bytes_len);
}

static void write_validity(struct split_col *col, const struct batch_col *from, uint32_t filled,
                           const uint32_t *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = filled + i;
        col->validity[at >> 6] |= (uint64_t)!batch_is_null(from, rows[i]) << (at & 63);
    }
}

/* One part's rows of the tile. */
static void write_run(struct batch_split *s, uint32_t part, const uint32_t *rows, uint32_t n)
{
    const struct batch *b = s->b;
    struct split_part *p = &s->part[part];
    ASSERT(p->filled + n <= p->rows);
    for (uint32_t c = 0; c < b->cols; c++) {
        struct split_col *col = &s->col[(size_t)part * b->cols + c];
        size_t width = type_width(b->col[c].kind);
        if (col->validity != NULL) {
            write_validity(col, &b->col[c], p->filled, rows, n);
        }
        if (width > 0) {
            gather(col->values + p->filled * width, b->col[c].values, width, rows, n);
        } else {
            gather_bytes(col, &b->col[c], p->filled, rows, n);
        }
    }
    if (p->times != NULL) {
        gather((uint8_t *)(p->times + p->filled), (const uint8_t *)b->times, 8, rows, n);
    }
    if (p->diffs != NULL) {
        gather((uint8_t *)(p->diffs + p->filled), (const uint8_t *)b->diffs, 8, rows, n);
    }
    p->filled += n;
}

void batch_split_write(struct batch_split *s, void *const *places)
{
    ASSERT(s->b != NULL);
    for (uint32_t p = 0; p < s->parts; p++) {
        if (places[p] != NULL) {
            open_part(s, p, places[p]);
        }
    }
    for (uint32_t from = 0; from < s->b->rows; from += TILE) {
        uint32_t n = s->b->rows - from < TILE ? s->b->rows - from : TILE;
        order_tile(s, from, n);
        for (uint32_t p = 0; p < s->parts; p++) {
            uint32_t run = s->starts[p + 1] - s->starts[p];
            if (places[p] != NULL && run > 0) {
                write_run(s, p, s->order + s->starts[p], run);
            }
        }
    }
    for (uint32_t p = 0; p < s->parts; p++) {
        ASSERT(places[p] == NULL || s->part[p].filled == s->part[p].rows);
    }
    s->b = NULL;
}
