/*
 * Views of batches: layout, validation of bytes from anywhere, access to single values.
 *
 * Bytes arrive from shared memory, sockets and disks. batch_open is the one place that looks at
 * them with suspicion: afterwards a view is trusted, and no reader checks again. Two ideas keep the
 * check small. First, no offset from outside is ever followed: the place of every part is computed
 * from rows, kinds and byte counts, and a batch that says anything else is refused. Second, what
 * readers rely on about values (offsets monotone, text UTF-8, numbers in range) is checked column
 * by column in loops without calls.
 *
 * The caller must own the bytes while it validates and reads: memory a peer can still write is
 * copied first.
 *
 * Functions here keep no state; any thread.
 */
#include "core/data/batch.h"

#include "core/base/utf8.h"
#include "core/data/batch_internal.h"
#include "core/data/json.h"

const uint8_t batch_err_kinds[ERR_COLS] = {
    [ERR_COL_SQLSTATE] = TYPE_TEXT, [ERR_COL_MESSAGE] = TYPE_TEXT, [ERR_COL_CONTEXT] = TYPE_TEXT};

STATIC_ASSERT(sizeof(struct batch_desc) == 40, "descriptors are part of the format");
STATIC_ASSERT(BATCH_ROWS_MAX <= UINT32_MAX / 8, "row numbers and byte counts of a column fit");
STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "batches are little endian");

/*
 * The order of parts within a column: validity, then values or offsets, then bytes. A part that is
 * absent has place 0, which no part can have, as the header lies there.
 */
void batch_layout_column(struct batch_layout *layout, uint32_t rows, struct batch_desc *desc)
{
    ASSERT(layout->at % BATCH_ALIGN == 0);
    ASSERT(type_kind_stored((uint8_t)desc->kind));
    size_t width = type_width(desc->kind);
    desc->validity_at = desc->has_nulls ? layout_take(layout, validity_len(rows)) : 0;
    if (width > 0) {
        desc->values_at = layout_take(layout, (uint64_t)rows * width);
        desc->bytes_at = 0;
    } else {
        desc->values_at = layout_take(layout, ((uint64_t)rows + 1) * sizeof(uint32_t));
        desc->bytes_at = layout_take(layout, desc->bytes_len);
    }
}

/* The descriptors are trusted here: checked before, or written by our own builder. */
static void view_column(const uint8_t *base, const struct batch_desc *desc, struct batch_col *out)
{
    bool fixed = type_width(desc->kind) > 0;
    *out = (struct batch_col){.kind = (uint8_t)desc->kind};
    if (desc->has_nulls) {
        out->validity = (const uint64_t *)(base + desc->validity_at);
    }
    if (fixed) {
        out->values = base + desc->values_at;
    } else {
        out->offsets = (const uint32_t *)(base + desc->values_at);
        out->bytes = base + desc->bytes_at;
    }
}

/* Costs a few moves per column: views are made freely. */
void batch_view(const void *data, size_t size, struct batch_col *cols_out, size_t cols_cap,
                struct batch *out)
{
    const struct batch_header *h = data;
    const struct batch_desc *desc = (const struct batch_desc *)(h + 1);
    ASSERT((uintptr_t)data % 8 == 0 && size >= sizeof(*h));
    ASSERT(h->magic == BATCH_MAGIC && h->size == size && h->cols <= cols_cap);
    const uint8_t *base = data;
    for (uint32_t c = 0; c < h->cols; c++) {
        view_column(base, &desc[c], &cols_out[c]);
    }
    *out = (struct batch){
        .rows = h->rows,
        .cols = h->cols,
        .col = cols_out,
        .times = h->flags & BATCH_TIMES ? (const uint64_t *)(base + h->times_at) : NULL,
        .diffs = h->flags & BATCH_DIFFS ? (const int64_t *)(base + h->diffs_at) : NULL,
        .time_const = h->time_const,
        .diff_const = h->diff_const,
        .base = base,
        .size = size,
    };
}

/* Rows in words of the validity bitmap are not shifted, hence the multiple of 64. */
void batch_slice(const struct batch *b, uint32_t first, uint32_t n, struct batch_col *cols_out,
                 struct batch *out)
{
    ASSERT(first % 64 == 0 && (uint64_t)first + n <= b->rows);
    for (uint32_t c = 0; c < b->cols; c++) {
        const struct batch_col *from = &b->col[c];
        size_t width = type_width(from->kind);
        cols_out[c] = (struct batch_col){
            .kind = from->kind,
            .validity = from->validity != NULL ? from->validity + first / 64 : NULL,
            .values = from->values != NULL ? (const uint8_t *)from->values + first * width : NULL,
            .offsets = from->offsets != NULL ? from->offsets + first : NULL,
            .bytes = from->bytes,
        };
    }
    *out = *b;
    out->rows = n;
    out->col = cols_out;
    out->times = b->times != NULL ? b->times + first : NULL;
    out->diffs = b->diffs != NULL ? b->diffs + first : NULL;
    out->base = NULL;
    out->size = 0;
}

/* ---- validation ------------------------------------------------------------------------------ */

/*
 * Bounds the number of columns before the descriptors are read, and that of rows before any product
 * is formed. h->size must equal the length received: a batch is never part of a larger piece.
 */
static err_t check_header(const struct batch_header *h, size_t size, size_t cols_cap)
{
    if (h->magic != BATCH_MAGIC) {
        return err_new(ERR_CORRUPT, "batch: bad magic %08x", h->magic);
    }
    if (h->size != size) {
        return err_new(ERR_CORRUPT, "batch: says %llu bytes, there are %zu",
                       (unsigned long long)h->size, size);
    }
    if (h->rows > BATCH_ROWS_MAX || h->cols > BATCH_COLS_MAX || h->cols > cols_cap) {
        return err_new(ERR_CORRUPT, "batch: %u rows of %u columns", h->rows, h->cols);
    }
    if ((h->flags & ~(uint32_t)(BATCH_TIMES | BATCH_DIFFS)) != 0 || h->zero != 0) {
        return err_new(ERR_CORRUPT, "batch: unknown flags %x", h->flags);
    }
    if (size - sizeof(*h) < h->cols * sizeof(struct batch_desc)) {
        return err_new(ERR_CORRUPT, "batch: %zu bytes cannot hold %u columns", size, h->cols);
    }
    return ERR_OK;
}

/* Every descriptor is compared in full, so that equal contents have one encoding only. */
static bool same_places(const struct batch_desc *a, const struct batch_desc *b)
{
    return a->validity_at == b->validity_at && a->values_at == b->values_at &&
           a->bytes_at == b->bytes_at;
}

/*
 * The layout of all parts must be the one a builder would have made, and end at size. With at most
 * 1600 columns of at most 2^24 rows of 24 bytes the sum stays far below 2^64, so the walk cannot
 * wrap around. It stops at the first column that does not fit in size.
 */
static err_t check_layout(const struct batch_header *h, const struct batch_desc *desc, size_t size)
{
    struct batch_layout layout = {
        batch_align(sizeof(*h) + h->cols * sizeof(struct batch_desc))};
    for (uint32_t c = 0; c < h->cols; c++) {
        struct batch_desc want = desc[c];
        if (want.kind >= TYPE_KIND_MAX || !type_kind_stored((uint8_t)want.kind)) {
            return err_new(ERR_CORRUPT, "batch: column %u has unknown kind %u", c, want.kind);
        }
        bool fixed = type_width(want.kind) > 0;
        if (want.has_nulls > 1 || want.bytes_len > UINT32_MAX || (fixed && want.bytes_len > 0)) {
            return err_new(ERR_CORRUPT, "batch: column %u is malformed", c);
        }
        batch_layout_column(&layout, h->rows, &want);
        if (!same_places(&want, &desc[c]) || layout.at > size) {
            return err_new(ERR_CORRUPT, "batch: column %u is not where it must be", c);
        }
    }
    uint64_t len = (uint64_t)h->rows * 8;
    uint64_t times_at = h->flags & BATCH_TIMES ? layout_take(&layout, len) : 0;
    uint64_t diffs_at = h->flags & BATCH_DIFFS ? layout_take(&layout, len) : 0;
    if (h->times_at != times_at || h->diffs_at != diffs_at || layout.at != size) {
        return err_new(ERR_CORRUPT, "batch: %u rows do not make %zu bytes", h->rows, size);
    }
    return ERR_OK;
}

/*
 * No branch in the loop: one flag for all rows. Monotone from 0 to bytes_len means that each value
 * lies within the bytes.
 */
static err_t check_offsets(const struct batch_col *c, uint32_t rows, uint64_t bytes_len)
{
    uint32_t wrong = c->offsets[0] != 0;
    for (uint32_t i = 0; i < rows; i++) {
        wrong |= c->offsets[i] > c->offsets[i + 1];
    }
    if (wrong || c->offsets[rows] != bytes_len) {
        return err_new(ERR_CORRUPT, "offsets are not monotone");
    }
    return ERR_OK;
}

/*
 * One string of valid UTF-8 whose every offset is a character boundary is valid throughout. A NUL
 * would end the string in PostgreSQL's wire protocol and in the C libraries behind functions.
 */
static err_t check_text(const struct batch_col *c, uint32_t rows, size_t bytes_len)
{
    if (!utf8_valid(c->bytes, bytes_len) || memchr(c->bytes, 0, bytes_len) != NULL) {
        return err_new(ERR_CORRUPT, "text is not UTF-8");
    }
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t at = c->offsets[i];
        if (at < bytes_len && (c->bytes[at] & 0xC0) == 0x80) {
            return err_new(ERR_CORRUPT, "text of row %u is cut within a character", i);
        }
    }
    return ERR_OK;
}

/*
 * Canonical text is compared and hashed as bytes: two forms of one value would be two keys. A NULL
 * row has no bytes, like any other variable kind.
 */
static err_t check_json(const struct batch_col *c, uint32_t rows)
{
    struct json_parser scratch = {0};
    err_t err = ERR_OK;
    for (uint32_t i = 0; i < rows && err == ERR_OK; i++) {
        const char *s = (const char *)c->bytes + c->offsets[i];
        uint32_t len = c->offsets[i + 1] - c->offsets[i];
        if (batch_is_null(c, i) ? len != 0 : !json_is_canonical(&scratch, s, len)) {
            err = err_new(ERR_CORRUPT, "row %u is not canonical JSON", i);
        }
    }
    json_parser_free(&scratch);
    return err;
}

/*
 * condition: of x, one value. The values of NULL rows are checked like all others: our builders
 * write zero there, which is valid in every kind.
 */
#define CHECK_ROWS(type, condition, what)                                                          \
    do {                                                                                           \
        const type *v_ = c->values;                                                                \
        for (uint32_t i = 0; i < rows; i++) {                                                      \
            type x = v_[i];                                                                        \
            if (!(condition)) {                                                                    \
                return err_new(ERR_CORRUPT, what " of row %u is out of range", i);                 \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/* Kinds whose every bit pattern is a value (integers, floats, uuid, intervals) need no check. */
static err_t check_fixed(const struct batch_col *c, uint32_t rows)
{
    switch (c->kind) {
    case TYPE_BOOL:
        CHECK_ROWS(uint8_t, x <= 1, "boolean");
        break;
    case TYPE_NUMERIC:
        CHECK_ROWS(struct numeric, numeric_valid(&x), "numeric");
        break;
    case TYPE_DATE:
        CHECK_ROWS(int32_t, date_valid(x), "date");
        break;
    case TYPE_TIMESTAMP:
    case TYPE_TIMESTAMPTZ:
        CHECK_ROWS(int64_t, timestamp_valid(x), "timestamp");
        break;
    case TYPE_TIME:
        CHECK_ROWS(int64_t, x >= 0 && x <= MICROS_PER_DAY, "time");
        break;
    case TYPE_OID:
        CHECK_ROWS(int64_t, x >= 0 && x <= UINT32_MAX, "oid");
        break;
    default:
        break;
    }
    return ERR_OK;
}

/* bytes_len is the descriptor's: the layout has shown that so many bytes are there. */
static err_t check_column(const struct batch_col *c, uint32_t rows, uint64_t bytes_len)
{
    ASSERT(rows <= BATCH_ROWS_MAX);
    if (!type_is_variable(c->kind)) {
        return check_fixed(c, rows);
    }
    TRY(check_offsets(c, rows, bytes_len));
    if (c->kind == TYPE_TEXT) {
        return check_text(c, rows, bytes_len);
    }
    return c->kind == TYPE_JSONB ? check_json(c, rows) : ERR_OK;
}

/* The largest u64 is the empty frontier: an update at it would never be complete. */
static err_t check_times(const struct batch *b)
{
    ASSERT(b->rows <= BATCH_ROWS_MAX && b->cols <= BATCH_COLS_MAX);
    for (uint32_t i = 0; i < b->rows; i++) {
        if (batch_time(b, i) > TIME_MAX) {
            return err_new(ERR_CORRUPT, "batch: row %u has no time", i);
        }
    }
    return ERR_OK;
}

/* Header and descriptors, before anything else is looked at. */
static err_t check_frame(const void *data, size_t size, size_t cols_cap, const uint8_t *kinds,
                         size_t kinds_len)
{
    const struct batch_header *h = data;
    const struct batch_desc *desc = (const struct batch_desc *)(h + 1);
    TRY(check_layout(h, desc, size));
    if (kinds != NULL && h->cols != kinds_len) {
        return err_new(ERR_CORRUPT, "batch: %u columns where there must be %zu", h->cols,
                       kinds_len);
    }
    for (uint32_t c = 0; kinds != NULL && c < h->cols; c++) {
        if (kinds[c] != desc[c].kind) {
            return err_new(ERR_CORRUPT, "batch: column %u is of kind %u, must be %u", c,
                           desc[c].kind, kinds[c]);
        }
    }
    ASSERT(h->cols <= cols_cap);
    return ERR_OK;
}

/* Values and times of a batch whose frame is right. */
static err_t check_content(const void *data, const bool *reads, struct batch_col *cols,
                           const struct batch *b)
{
    const struct batch_header *h = data;
    const struct batch_desc *desc = (const struct batch_desc *)(h + 1);
    for (uint32_t c = 0; c < b->cols; c++) {
        if (reads != NULL && !reads[c]) {
            cols[c] = (struct batch_col){.kind = cols[c].kind};
            continue;
        }
        TRY(err_wrap(check_column(&cols[c], b->rows, desc[c].bytes_len), "batch column %u", c));
    }
    return check_times(b);
}

static err_t check_start(const void *data, size_t size)
{
    if ((uintptr_t)data % 8 != 0 || size < sizeof(struct batch_header)) {
        return err_new(ERR_CORRUPT, "batch: %zu bytes, %s", size,
                       size < sizeof(struct batch_header) ? "less than a header"
                                                          : "not aligned to 8");
    }
    return ERR_OK;
}

/*
 * The order matters: each check relies on those before. What it returns on error is unspecified in
 * cols_out and out.
 */
err_t batch_open(const void *data, size_t size, const uint8_t *kinds, size_t kinds_len,
                 struct batch_col *cols_out, size_t cols_cap, struct batch *out)
{
    TRY(check_start(data, size));
    TRY(check_header(data, size, cols_cap));
    TRY(check_frame(data, size, cols_cap, kinds, kinds_len));
    batch_view(data, size, cols_out, cols_cap, out);
    return check_content(data, NULL, cols_out, out);
}

/* The columns that are read, and what stands behind the columns; by the copy's own frame. */
static void copy_columns(const uint8_t *from, const bool *reads, uint8_t *to)
{
    const struct batch_header *h = (const struct batch_header *)to;
    const struct batch_desc *desc = (const struct batch_desc *)(h + 1);
    uint64_t frame = sizeof(*h) + h->cols * sizeof(struct batch_desc);
    struct batch_layout layout = {batch_align(frame)};
    /* The copy may be passed on as it is: no byte of it is what the memory held before. */
    memset(to + frame, 0, layout.at - frame);
    for (uint32_t c = 0; c < h->cols; c++) {
        struct batch_desc place = desc[c];
        uint64_t start = layout.at;
        batch_layout_column(&layout, h->rows, &place);
        ASSERT(layout.at <= h->size);
        if (reads == NULL || reads[c]) {
            memcpy(to + start, from + start, layout.at - start);
        }
    }
    memcpy(to + layout.at, from + layout.at, h->size - layout.at);
}

/* What a NULL's place holds is no value, but is compared and hashed where columns are taken as
 * words or bytes: it becomes the zero that our builders write. */
static void clear_nulls(const struct batch_desc *desc, uint32_t rows, uint8_t *to)
{
    size_t width = type_width((uint8_t)desc->kind);
    const uint64_t *validity = (const uint64_t *)(to + desc->validity_at);
    ASSERT(width > 0 && desc->has_nulls == 1);
    for (uint32_t first = 0; first < rows; first += 64) {
        uint32_t end = rows - first < 64 ? rows : first + 64;
        for (uint32_t i = first; validity[first / 64] != UINT64_MAX && i < end; i++) {
            if ((validity[first / 64] >> (i % 64) & 1) == 0) {
                memset(to + desc->values_at + i * width, 0, width);
            }
        }
    }
}

/* Nothing is read from data twice: what was checked is what is used. */
err_t batch_open_copy(const void *data, size_t size, const uint8_t *kinds, size_t kinds_len,
                      const bool *reads, void *to, struct batch_col *cols_out, size_t cols_cap,
                      struct batch *out)
{
    struct batch_header *h = to;
    TRY(check_start(to, size));
    memcpy(h, data, sizeof(*h));
    TRY(check_header(h, size, cols_cap));
    memcpy(h + 1, (const uint8_t *)data + sizeof(*h), h->cols * sizeof(struct batch_desc));
    TRY(check_frame(to, size, cols_cap, kinds, kinds_len));
    copy_columns(data, reads, to);
    batch_view(to, size, cols_out, cols_cap, out);
    TRY(check_content(to, reads, cols_out, out));
    const struct batch_desc *desc = (const struct batch_desc *)(h + 1);
    for (uint32_t c = 0; c < h->cols; c++) {
        bool read = reads == NULL || reads[c];
        if (read && desc[c].has_nulls && type_width((uint8_t)desc[c].kind) > 0) {
            clear_nulls(&desc[c], h->rows, to);
        }
    }
    return ERR_OK;
}

/* ---- access ---------------------------------------------------------------------------------- */

/*
 * For single values (printing, constants, keys of state). Loops over columns read the values
 * directly.
 */
void batch_datum(const struct batch_col *c, uint32_t row, struct datum *out)
{
    ASSERT(type_kind_stored(c->kind));
    *out = (struct datum){0};
    if (batch_is_null(c, row)) {
        out->null = true;
        return;
    }
    switch (c->kind) {
    case TYPE_BOOL:
        out->b = ((const uint8_t *)c->values)[row] != 0;
        break;
    case TYPE_INT2:
        out->i = ((const int16_t *)c->values)[row];
        break;
    case TYPE_INT4:
    case TYPE_DATE:
        out->i = ((const int32_t *)c->values)[row];
        break;
    case TYPE_FLOAT4:
        out->f = (double)((const float *)c->values)[row];
        break;
    case TYPE_FLOAT8:
        out->f = ((const double *)c->values)[row];
        break;
    case TYPE_NUMERIC:
        out->n = ((const struct numeric *)c->values)[row];
        break;
    case TYPE_INTERVAL:
        out->iv = ((const struct interval *)c->values)[row];
        break;
    case TYPE_UUID:
        memcpy(out->uuid, (const uint8_t *)c->values + (size_t)row * 16, 16);
        break;
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_JSONB:
        out->s = (const char *)c->bytes + c->offsets[row];
        out->len = c->offsets[row + 1] - c->offsets[row];
        break;
    default:
        ASSERT(type_width(c->kind) == 8);
        out->i = ((const int64_t *)c->values)[row];
        break;
    }
}

/*
 * The inverse of batch_datum for fixed widths: narrows where a column is narrower than the datum.
 * The value is in range, or it would not be a datum of its kind.
 */
void datum_store(uint8_t kind, const struct datum *d, void *to)
{
    ASSERT(!d->null && type_width(kind) > 0);
    switch (kind) {
    case TYPE_BOOL:
        *(uint8_t *)to = d->b;
        break;
    case TYPE_INT2: {
        int16_t v = (int16_t)d->i;
        ASSERT(v == d->i);
        memcpy(to, &v, sizeof(v));
        break;
    }
    case TYPE_INT4:
    case TYPE_DATE: {
        int32_t v = (int32_t)d->i;
        ASSERT(v == d->i);
        memcpy(to, &v, sizeof(v));
        break;
    }
    case TYPE_FLOAT4: {
        float v = (float)d->f;
        memcpy(to, &v, sizeof(v));
        break;
    }
    default:
        /* The other members of the union are the column's representation. */
        memcpy(to, (const uint8_t *)d + offsetof(struct datum, i), type_width(kind));
        break;
    }
}
