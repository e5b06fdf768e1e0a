/*
 * The builder: columns that grow in memory of their own, then one copy into a batch.
 *
 * Invariant between rows: every column has as many values as the builder has rows. While a row is
 * under construction a column has that number or one more; batch_builder_end_row asserts that all
 * are there. Functions that append whole columns (mfp, rows_of) run ahead by n rows and end with
 * builder_end_rows.
 *
 * Equal contents appended in the same way give equal bytes: validity exists only from the first
 * NULL on, times and diffs only from the first that differs, NULL rows and padding are zero.
 * Consolidation and the tests rely on it.
 *
 * Memory grows by doubling and is kept over resets, so that a builder that is used over and over
 * stops allocating. One thread at a time; the owner's.
 */
#include "core/data/batch_internal.h"

enum { ROWS_CAP_MIN = 64, BYTES_CAP_MIN = 1024, VALUE_WORDS_MAX = 3 };

/*
 * kinds is copied. No memory for rows is allocated yet: many operators have an err builder that
 * stays empty for ever.
 */
struct batch_builder *batch_builder_new(const uint8_t *kinds, size_t cols)
{
    ASSERT(cols <= BATCH_COLS_MAX);
    struct batch_builder *b = MEM_NEW(struct batch_builder);
    b->col = mem_zalloc(cols * sizeof(struct build_col));
    b->cols = (uint32_t)cols;
    for (size_t c = 0; c < cols; c++) {
        ASSERT(type_kind_stored(kinds[c]));
        b->col[c].kind = kinds[c];
        b->col[c].width = (uint8_t)type_width(kinds[c]);
    }
    return b;
}

/* NULL is allowed. */
void batch_builder_free(struct batch_builder *b)
{
    if (b == NULL) {
        return;
    }
    for (uint32_t c = 0; c < b->cols; c++) {
        free(b->col[c].values);
        free(b->col[c].offsets);
        free(b->col[c].bytes);
        free(b->col[c].validity);
    }
    free(b->col);
    free(b->times);
    free(b->diffs);
    free(b->entries);
    free(b->table);
    free(b->hashes);
    free(b->records);
    free(b);
}

/* Forgets the rows, keeps the memory. */
void batch_builder_reset(struct batch_builder *b)
{
    for (uint32_t c = 0; c < b->cols; c++) {
        b->col[c].rows = 0;
        b->col[c].bytes_len = 0;
        b->col[c].has_nulls = false;
    }
    b->rows = 0;
    b->has_times = false;
    b->has_diffs = false;
}

uint32_t batch_builder_rows(const struct batch_builder *b)
{
    return b->rows;
}

/* ---- growing --------------------------------------------------------------------------------- */

/* Doubling makes appending a row constant on average. */
static size_t grown(size_t cap, size_t need, size_t cap_min)
{
    size_t want = cap < cap_min ? cap_min : cap;
    while (want < need) {
        want *= 2;
    }
    return want;
}

/*
 * Words beyond those in use are not initialised: validity_set and build_col_null write a word whole
 * when they come to its first bit.
 */
static void reserve_validity(struct build_col *c, size_t rows)
{
    ASSERT(c->rows <= BATCH_ROWS_MAX && type_kind_stored(c->kind));
    size_t words = (rows + 63) / 64;
    if (words > c->words_cap) {
        c->words_cap = grown(c->words_cap, words, 8);
        c->validity = mem_realloc(c->validity, c->words_cap * sizeof(uint64_t));
    }
}

/* One more than asked for, as offsets need one more than rows. */
void build_col_reserve(struct build_col *c, size_t n)
{
    ASSERT(c->rows <= BATCH_ROWS_MAX && type_kind_stored(c->kind));
    size_t rows = c->rows + n;
    ASSERT(rows <= BATCH_ROWS_MAX);
    if (rows + 1 > c->rows_cap) {
        c->rows_cap = grown(c->rows_cap, rows + 1, ROWS_CAP_MIN);
        if (c->width > 0) {
            c->values = mem_realloc(c->values, c->rows_cap * c->width);
        } else {
            c->offsets = mem_realloc(c->offsets, c->rows_cap * sizeof(uint32_t));
        }
    }
    if (c->width == 0 && c->rows == 0) {
        c->offsets[0] = 0;
    }
    if (c->has_nulls) {
        reserve_validity(c, rows);
    }
}

/*
 * Offsets are 32 bits wide: a column holds at most 4 GiB of bytes. A batch of 2^24 rows could in
 * principle be asked for more; callers flush at OUT_BYTES or refuse values long before.
 */
void build_col_reserve_bytes(struct build_col *c, size_t len)
{
    ASSERT(c->rows <= BATCH_ROWS_MAX && type_kind_stored(c->kind));
    size_t need = c->bytes_len + len;
    ASSERT(need <= UINT32_MAX);
    if (need > c->bytes_cap) {
        c->bytes_cap = grown(c->bytes_cap, need, BYTES_CAP_MIN);
        c->bytes = mem_realloc(c->bytes, c->bytes_cap);
    }
}

/*
 * Sets bits [from, from + n) to one; words beyond are not yet initialised. Whole words at a time
 * where the range covers them.
 */
static void validity_set(uint64_t *validity, size_t from, size_t n)
{
    for (size_t i = from; i < from + n;) {
        if ((i & 63) == 0) {
            size_t left = from + n - i;
            validity[i >> 6] = left >= 64 ? UINT64_MAX : (1ULL << left) - 1;
            i += left >= 64 ? 64 : left;
        } else {
            validity[i >> 6] |= 1ULL << (i & 63);
            i++;
        }
    }
}

/* A column without NULLs so far has no validity to extend. */
void build_col_grew(struct build_col *c, size_t n)
{
    if (c->has_nulls) {
        reserve_validity(c, c->rows + n);
        validity_set(c->validity, c->rows, n);
    }
    c->rows += (uint32_t)n;
}

/* The first NULL of a column makes its validity, with all rows before valid. */
void build_col_null(struct build_col *c)
{
    ASSERT(c->rows <= BATCH_ROWS_MAX && type_kind_stored(c->kind));
    build_col_reserve(c, 1);
    if (!c->has_nulls) {
        c->has_nulls = true;
        reserve_validity(c, c->rows + 1);
        validity_set(c->validity, 0, c->rows);
    }
    if ((c->rows & 63) == 0) {
        c->validity[c->rows >> 6] = 0;
    }
    if (c->width > 0) {
        memset(c->values + (size_t)c->rows * c->width, 0, c->width);
    } else {
        c->offsets[c->rows + 1] = c->offsets[c->rows];
    }
    c->rows++;
}

/* The value is copied as it stands in the column: its kind's representation. */
void build_col_fixed(struct build_col *c, const void *value)
{
    ASSERT(c->width > 0 && c->rows < BATCH_ROWS_MAX);
    if (c->rows + 1 >= c->rows_cap || c->has_nulls) {
        build_col_reserve(c, 1);
    }
    uint8_t *to = c->values + (size_t)c->rows * c->width;
    switch (c->width) { /* constants: plain moves */
    case 8:
        memcpy(to, value, 8);
        break;
    case 4:
        memcpy(to, value, 4);
        break;
    default:
        memcpy(to, value, c->width);
        break;
    }
    if (c->has_nulls) {
        build_col_grew(c, 1);
    } else {
        c->rows++;
    }
}

/* The offsets of row r end where those of row r + 1 begin. */
void build_col_bytes(struct build_col *c, const void *data, size_t len)
{
    ASSERT(c->rows <= BATCH_ROWS_MAX && type_kind_stored(c->kind));
    ASSERT(c->width == 0);
    build_col_reserve(c, 1);
    build_col_reserve_bytes(c, len);
    if (len > 0) {
        memcpy(c->bytes + c->bytes_len, data, len);
    }
    c->bytes_len += len;
    c->offsets[c->rows + 1] = (uint32_t)c->bytes_len;
    build_col_grew(c, 1);
}

/* ---- single values --------------------------------------------------------------------------- */

/* d is a valid value of the column's kind (datum_valid): text is UTF-8, numbers are in range. */
static void append_datum(struct build_col *col, const struct datum *d)
{
    if (d->null) {
        build_col_null(col);
        return;
    }
    if (col->width == 0) {
        build_col_bytes(col, d->s, d->len);
        return;
    }
    uint64_t value[VALUE_WORDS_MAX];
    datum_store(col->kind, d, value);
    build_col_fixed(col, value);
}

void batch_builder_datum(struct batch_builder *b, size_t c, const struct datum *d)
{
    ASSERT(c < b->cols && b->col[c].rows == b->rows);
    append_datum(&b->col[c], d);
}

void batch_builder_data(struct batch_builder *b, size_t c, const struct datum *data, size_t n)
{
    ASSERT(c < b->cols && b->col[c].rows == b->rows);
    for (size_t i = 0; i < n; i++) {
        append_datum(&b->col[c], &data[i]);
    }
}

/* Without NULLs the memory is reserved once. */
static void append_spans(struct build_col *col, const struct batch_span *spans, size_t n,
                         size_t bytes)
{
    ASSERT(col->width == 0);
    build_col_reserve(col, n);
    build_col_reserve_bytes(col, bytes);
    uint32_t *offset = &col->offsets[col->rows + 1];
    for (size_t i = 0; i < n; i++) {
        if (spans[i].len > 0) {
            memcpy(col->bytes + col->bytes_len, spans[i].data, spans[i].len);
        }
        col->bytes_len += spans[i].len;
        offset[i] = (uint32_t)col->bytes_len;
    }
    build_col_grew(col, n);
}

void batch_builder_spans(struct batch_builder *b, size_t c, const struct batch_span *spans,
                         size_t n)
{
    ASSERT(c < b->cols && b->col[c].rows >= b->rows);
    struct build_col *col = &b->col[c];
    bool any_null = false;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        any_null |= spans[i].data == NULL;
        bytes += spans[i].len;
    }
    if (col->width == 0 && !any_null) {
        append_spans(col, spans, n, bytes);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        ASSERT(spans[i].data == NULL || col->width == 0 || spans[i].len == col->width);
        if (spans[i].data == NULL) {
            build_col_null(col);
        } else if (col->width > 0) {
            build_col_fixed(col, spans[i].data);
        } else {
            build_col_bytes(col, spans[i].data, spans[i].len);
        }
    }
}

static void reserve_times(struct batch_builder *b, size_t rows)
{
    if (rows > b->times_cap) {
        b->times_cap = grown(b->times_cap, rows, ROWS_CAP_MIN);
        b->times = mem_realloc(b->times, b->times_cap * sizeof(uint64_t));
    }
}

static void reserve_diffs(struct batch_builder *b, size_t rows)
{
    if (rows > b->diffs_cap) {
        b->diffs_cap = grown(b->diffs_cap, rows, ROWS_CAP_MIN);
        b->diffs = mem_realloc(b->diffs, b->diffs_cap * sizeof(int64_t));
    }
}

/* While all times are equal there is one; the first other one writes them all out. */
static void append_time(struct batch_builder *b, uint64_t time)
{
    if (b->rows == 0) {
        b->time_const = time;
    }
    if (!b->has_times) {
        if (time == b->time_const) {
            return;
        }
        reserve_times(b, b->rows + 1);
        for (uint32_t i = 0; i < b->rows; i++) {
            b->times[i] = b->time_const;
        }
        b->has_times = true;
    }
    reserve_times(b, b->rows + 1);
    b->times[b->rows] = time;
}

/* As append_time. */
static void append_diff(struct batch_builder *b, int64_t diff)
{
    if (b->rows == 0) {
        b->diff_const = diff;
    }
    if (!b->has_diffs) {
        if (diff == b->diff_const) {
            return;
        }
        reserve_diffs(b, b->rows + 1);
        for (uint32_t i = 0; i < b->rows; i++) {
            b->diffs[i] = b->diff_const;
        }
        b->has_diffs = true;
    }
    reserve_diffs(b, b->rows + 1);
    b->diffs[b->rows] = diff;
}

/* Does not look at the columns: for loops that have checked them once. */
void builder_end_one(struct batch_builder *b, uint64_t time, int64_t diff)
{
    append_time(b, time);
    append_diff(b, diff);
    b->rows++;
}

/* Each column must have got its value, by whatever function. */
void batch_builder_end_row(struct batch_builder *b, uint64_t time, int64_t diff)
{
    ASSERT(time <= TIME_MAX && b->rows < BATCH_ROWS_MAX);
    for (uint32_t c = 0; c < b->cols; c++) {
        ASSERT(b->col[c].rows == b->rows + 1);
    }
    builder_end_one(b, time, diff);
}

/* Times and diffs stay constants as long as they can; then they are written in one go. */
static void append_rows(struct batch_builder *b, uint64_t time, const int64_t *diffs,
                        size_t stride, size_t n)
{
    ASSERT(time <= TIME_MAX && stride > 0 && b->rows + n <= BATCH_ROWS_MAX);
    size_t at = 0;
    while (at < n && !(b->has_diffs && (b->has_times || time == b->time_const))) {
        builder_end_one(b, time, diffs[at * stride]);
        at++;
    }
    if (at == n) {
        return;
    }
    uint32_t rows = b->rows + (uint32_t)(n - at);
    reserve_diffs(b, rows);
    for (size_t i = b->rows; i < rows; i++, at++) {
        b->diffs[i] = diffs[at * stride];
    }
    if (b->has_times) {
        reserve_times(b, rows);
        for (size_t i = b->rows; i < rows; i++) {
            b->times[i] = time;
        }
    }
    b->rows = rows;
}

void batch_builder_end_rows(struct batch_builder *b, uint64_t time, const int64_t *diffs,
                            size_t stride, size_t n)
{
    for (uint32_t c = 0; c < b->cols; c++) {
        ASSERT(b->col[c].rows == b->rows + n);
    }
    append_rows(b, time, diffs, stride, n);
}

/* The usual batch has one time and one diff: then nothing is written per row. */
void builder_end_rows(struct batch_builder *b, const uint64_t *times, const int64_t *diffs,
                      uint64_t time_const, int64_t diff_const, const uint32_t *sel, size_t n)
{
    for (uint32_t c = 0; c < b->cols; c++) {
        ASSERT(b->col[c].rows == b->rows + n);
    }
    ASSERT(b->rows + n <= BATCH_ROWS_MAX);
    bool constant = times == NULL && diffs == NULL && !b->has_times && !b->has_diffs &&
                    (b->rows == 0 || (b->time_const == time_const && b->diff_const == diff_const));
    if (constant && n > 0) {
        b->time_const = time_const;
        b->diff_const = diff_const;
        b->rows += (uint32_t)n;
        return;
    }
    if (times == NULL && diffs != NULL && sel == NULL) {
        append_rows(b, time_const, diffs, 1, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t row = sel != NULL ? sel[i] : i;
        append_time(b, times != NULL ? times[row] : time_const);
        append_diff(b, diffs != NULL ? diffs[row] : diff_const);
        b->rows++;
    }
}

/* ---- rows of other batches ------------------------------------------------------------------- */

/*
 * Sizes are compile-time constants in each case, so that the copies become plain moves. sel: rows
 * of from, in any order, also more than once.
 */
static void gather(uint8_t *restrict to, const uint8_t *restrict from, size_t width,
                   const uint32_t *sel, size_t n)
{
    switch (width) {
    case 1:
        for (size_t i = 0; i < n; i++) {
            to[i] = from[sel[i]];
        }
        break;
    case 4:
        for (size_t i = 0; i < n; i++) {
            memcpy(to + i * 4, from + (size_t)sel[i] * 4, 4);
        }
        break;
    case 8:
        for (size_t i = 0; i < n; i++) {
            memcpy(to + i * 8, from + (size_t)sel[i] * 8, 8);
        }
        break;
    default:
        for (size_t i = 0; i < n; i++) {
            memcpy(to + i * width, from + (size_t)sel[i] * width, width);
        }
        break;
    }
}

/*
 * Two passes: the bytes are summed first, so that memory is reserved once. Without sel the bytes
 * are one copy and only the offsets move.
 */
static void append_bytes_of(struct build_col *to, const struct batch_col *from,
                            const uint32_t *sel, size_t n)
{
    ASSERT(to->rows <= BATCH_ROWS_MAX && type_kind_stored(to->kind));
    size_t total = 0;
    for (size_t i = 0; i < n; i++) {
        size_t row = sel != NULL ? sel[i] : i;
        total += from->offsets[row + 1] - from->offsets[row];
    }
    build_col_reserve_bytes(to, total);
    if (sel == NULL && total > 0) {
        memcpy(to->bytes + to->bytes_len, from->bytes + from->offsets[0], total);
    }
    size_t at = to->bytes_len;
    for (size_t i = 0; i < n; i++) {
        size_t row = sel != NULL ? sel[i] : i;
        size_t len = from->offsets[row + 1] - from->offsets[row];
        if (sel != NULL && len > 0) {
            memcpy(to->bytes + at, from->bytes + from->offsets[row], len);
        }
        at += len;
        to->offsets[to->rows + i + 1] = (uint32_t)at;
    }
    to->bytes_len = at;
}

/* Columns with NULLs go row by row; those without, which are most, a column at a time. */
void build_col_append(struct build_col *to, const struct batch_col *from, const uint32_t *sel,
                      size_t n)
{
    ASSERT(to->rows <= BATCH_ROWS_MAX && type_kind_stored(to->kind));
    ASSERT(to->kind == from->kind);
    if (from->validity != NULL) {
        for (size_t i = 0; i < n; i++) {
            uint32_t row = sel != NULL ? sel[i] : (uint32_t)i;
            if (batch_is_null(from, row)) {
                build_col_null(to);
            } else if (to->width > 0) {
                build_col_fixed(to, (const uint8_t *)from->values + (size_t)row * to->width);
            } else {
                build_col_bytes(to, from->bytes + from->offsets[row],
                                from->offsets[row + 1] - from->offsets[row]);
            }
        }
        return;
    }
    build_col_reserve(to, n);
    if (to->width == 0) {
        append_bytes_of(to, from, sel, n);
    } else {
        uint8_t *at = to->values + (size_t)to->rows * to->width;
        if (sel != NULL) {
            gather(at, from->values, to->width, sel, n);
        } else if (n > 0) {
            memcpy(at, from->values, n * to->width);
        }
    }
    build_col_grew(to, n);
}

/* Both have the same kinds: asserted column by column. */
void batch_builder_rows_of(struct batch_builder *b, const struct batch *from, const uint32_t *sel,
                           size_t sel_len)
{
    ASSERT(from->rows <= BATCH_ROWS_MAX && from->cols <= BATCH_COLS_MAX);
    ASSERT(b->cols == from->cols);
    size_t n = sel != NULL ? sel_len : from->rows;
    for (uint32_t c = 0; c < b->cols; c++) {
        build_col_append(&b->col[c], &from->col[c], sel, n);
    }
    builder_end_rows(b, from->times, from->diffs, from->time_const, from->diff_const, sel, n);
}

void batch_builder_row(struct batch_builder *b, const struct batch *from, uint32_t row)
{
    ASSERT(row < from->rows);
    batch_builder_rows_of(b, from, &row, 1);
}

/* For all rows so far; later rows bring their own. */
void batch_builder_set_time(struct batch_builder *b, uint64_t time)
{
    ASSERT(time <= TIME_MAX);
    b->has_times = false;
    b->time_const = time;
}

/* ---- finishing ------------------------------------------------------------------------------- */

/* The places follow from batch_layout_column. */
static struct batch_desc desc_of(const struct build_col *c)
{
    return (struct batch_desc){
        .kind = c->kind, .has_nulls = c->has_nulls, .bytes_len = c->bytes_len};
}

/* Walks the columns, not the rows. */
size_t batch_builder_bytes(const struct batch_builder *b)
{
    size_t len = 0;
    for (uint32_t c = 0; c < b->cols; c++) {
        len += b->col[c].bytes_len;
    }
    return len;
}

size_t batch_builder_size(const struct batch_builder *b)
{
    struct batch_layout layout = {
        batch_align(sizeof(struct batch_header) + b->cols * sizeof(struct batch_desc))};
    for (uint32_t c = 0; c < b->cols; c++) {
        struct batch_desc desc = desc_of(&b->col[c]);
        batch_layout_column(&layout, b->rows, &desc);
    }
    if (b->has_times) {
        layout_take(&layout, (uint64_t)b->rows * 8);
    }
    if (b->has_diffs) {
        layout_take(&layout, (uint64_t)b->rows * 8);
    }
    return layout.at;
}

/* Copies a part and zeroes its padding, so that equal batches are equal bytes. */
static void write_part(uint8_t *base, uint64_t at, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(base + at, data, len);
    }
    memset(base + at + len, 0, batch_align(at + len) - (at + len));
}

/* A column without rows still has its one offset, 0. */
static void write_column(uint8_t *base, const struct build_col *c, const struct batch_desc *desc)
{
    ASSERT(c->rows <= BATCH_ROWS_MAX && type_kind_stored(c->kind));
    uint32_t zero = 0;
    if (desc->has_nulls) {
        write_part(base, desc->validity_at, c->validity, validity_len(c->rows));
    }
    if (c->width > 0) {
        write_part(base, desc->values_at, c->values, (size_t)c->rows * c->width);
        return;
    }
    const uint32_t *offsets = c->rows == 0 ? &zero : c->offsets;
    write_part(base, desc->values_at, offsets, ((size_t)c->rows + 1) * sizeof(uint32_t));
    write_part(base, desc->bytes_at, c->bytes, c->bytes_len);
}

/* The builder keeps its rows: call reset for the next batch. */
void batch_builder_finish(struct batch_builder *b, void *out)
{
    ASSERT((uintptr_t)out % BATCH_ALIGN == 0);
    uint8_t *base = out;
    struct batch_header *h = out;
    struct batch_desc *desc = (struct batch_desc *)(h + 1);
    uint64_t head = sizeof(*h) + b->cols * sizeof(*desc);
    struct batch_layout layout = {batch_align(head)};
    memset(base + head, 0, layout.at - head);
    for (uint32_t c = 0; c < b->cols; c++) {
        ASSERT(b->col[c].rows == b->rows);
        desc[c] = desc_of(&b->col[c]);
        batch_layout_column(&layout, b->rows, &desc[c]);
        write_column(base, &b->col[c], &desc[c]);
    }
    *h = (struct batch_header){.magic = BATCH_MAGIC, .rows = b->rows, .cols = b->cols};
    size_t len = (size_t)b->rows * 8;
    if (b->has_times) {
        h->flags |= BATCH_TIMES;
        h->times_at = layout_take(&layout, len);
        write_part(base, h->times_at, b->times, len);
    } else {
        h->time_const = b->rows > 0 ? b->time_const : 0;
    }
    if (b->has_diffs) {
        h->flags |= BATCH_DIFFS;
        h->diffs_at = layout_take(&layout, len);
        write_part(base, h->diffs_at, b->diffs, len);
    } else {
        h->diff_const = b->rows > 0 ? b->diff_const : 0;
    }
    h->size = layout.at;
    ASSERT(h->size % BATCH_ALIGN == 0 && h->size == batch_builder_size(b));
}

/* The size is a multiple of the alignment, as aligned_alloc wants it. */
void *batch_builder_finish_new(struct batch_builder *b, size_t *size)
{
    size_t len = batch_builder_size(b);
    void *out = aligned_alloc(BATCH_ALIGN, len);
    ASSERT(out != NULL);
    batch_builder_finish(b, out);
    *size = len;
    return out;
}

/* The view's column as a builder would hold it: only to be read. */
static struct build_col column_of_view(const struct batch_col *from, uint32_t rows)
{
    bool fixed = type_width(from->kind) > 0;
    ASSERT(fixed || from->offsets[0] == 0);
    return (struct build_col){.kind = from->kind,
                              .width = (uint8_t)type_width(from->kind),
                              .has_nulls = from->validity != NULL,
                              .rows = rows,
                              .values = (uint8_t *)from->values,
                              .offsets = (uint32_t *)from->offsets,
                              .bytes = (uint8_t *)from->bytes,
                              .validity = (uint64_t *)from->validity,
                              .bytes_len = fixed ? 0 : from->offsets[rows]};
}

/* A builder is made up whose columns are the view's, and finished: finishing only reads. */
void *batch_copy_new(const struct batch *b, const bool *reads, size_t *size)
{
    ASSERT(b->rows <= BATCH_ROWS_MAX && b->cols <= BATCH_COLS_MAX);
    struct build_col *cols = mem_zalloc(b->cols * sizeof(*cols));
    uint32_t taken = 0;
    for (uint32_t c = 0; c < b->cols; c++) {
        if (reads == NULL || reads[c]) {
            cols[taken++] = column_of_view(&b->col[c], b->rows);
        }
    }
    struct batch_builder all = {.col = cols,
                                .cols = taken,
                                .rows = b->rows,
                                .has_times = b->times != NULL,
                                .has_diffs = b->diffs != NULL,
                                .time_const = b->time_const,
                                .diff_const = b->diff_const,
                                .times = (uint64_t *)b->times,
                                .diffs = (int64_t *)b->diffs};
    void *copy = batch_builder_finish_new(&all, size);
    free(cols);
    return copy;
}
