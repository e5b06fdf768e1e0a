/*
 * Rows as bytes and as hashes.
 *
 * An encoded row is, column by column, a byte that says NULL (0) or not (1), then the value: fixed
 * kinds in their column's representation, variable ones behind a length of 32 bits. For example
 * (7::int4, NULL, 'ab') is
 *
 *   01 07 00 00 00   00   01 02 00 00 00 61 62
 *
 * so the encoding needs no types to be compared and delimits itself. Two forms: raw keeps a value
 * exactly; canonical maps values that SQL holds equal to equal bytes, for keys of joins, groups and
 * distinct, so that comparing, hashing and routing keys needs no types either.
 *
 * The hash of a row decides which worker it goes to: every node must compute the same, whatever its
 * build. So hashes are defined on values (the canonical form), byte order is fixed, and the
 * constants below are part of the protocol.
 *
 * Functions here keep no state; any thread.
 */
#include "core/base/hash.h"
#include "core/data/batch_internal.h"

#include <math.h>

/* The hash of NULL, and the start of a row's hash. Part of routing: equal on every node. */
#define HASH_NULL 0x9AE16A3B2F90404FULL
#define HASH_START 0xC3A5C85C97CB3127ULL

/* All NaN are one value in SQL, and -0 = 0. */
static double canonical_double(double f)
{
    if (isnan(f)) {
        return (double)NAN;
    }
    return f == 0 ? 0.0 : f;
}

/* The same for float4, which has its own bytes. */
static float canonical_float(float f)
{
    if (isnan(f)) {
        return NAN;
    }
    return f == 0 ? 0.0f : f;
}

/* Kinds of fixed width whose equal values can have different bytes. */
static bool has_forms(uint8_t kind)
{
    return kind == TYPE_FLOAT4 || kind == TYPE_FLOAT8 || kind == TYPE_NUMERIC ||
           kind == TYPE_INTERVAL;
}

/*
 * A fixed-width value in canonical form; returns where it is: in place, or in scratch. scratch: 32
 * bytes. Integers, dates and uuids are canonical as they are.
 */
static const void *canonical_fixed(uint8_t kind, const void *value, void *scratch)
{
    switch (kind) {
    case TYPE_FLOAT4: {
        float f = canonical_float(*(const float *)value);
        return memcpy(scratch, &f, sizeof(f));
    }
    case TYPE_FLOAT8: {
        double f = canonical_double(*(const double *)value);
        return memcpy(scratch, &f, sizeof(f));
    }
    case TYPE_NUMERIC: {
        struct numeric n = numeric_normalize(value);
        return memcpy(scratch, &n, sizeof(n));
    }
    case TYPE_INTERVAL: {
        struct interval v = interval_normalize(value);
        return memcpy(scratch, &v, sizeof(v));
    }
    default:
        return value;
    }
}

/*
 * The length is written first and mended when the normal form is shorter. Text and bytea are equal
 * exactly when their bytes are.
 */
static void encode_variable(const struct batch_col *c, uint32_t row, bool canonical,
                            struct buf *out)
{
    const uint8_t *data = c->bytes + c->offsets[row];
    uint32_t len = c->offsets[row + 1] - c->offsets[row];
    size_t at = out->len;
    buf_append_u32(out, len);
    if (canonical && c->kind == TYPE_JSONB) {
        json_append_normalized((const char *)data, len, out);
        len = (uint32_t)(out->len - at - sizeof(len));
        memcpy(out->data + at, &len, sizeof(len));
    } else {
        buf_append(out, data, len);
    }
}

/*
 * Appends to out. cols NULL: all columns, and cols_len does not count. Canonical encodings of one
 * kind are equal exactly when the values are equal in SQL.
 */
void batch_encode_row(const struct batch *b, uint32_t row, const uint32_t *cols, size_t cols_len,
                      bool canonical, struct buf *out)
{
    ASSERT(b->rows <= BATCH_ROWS_MAX && b->cols <= BATCH_COLS_MAX);
    ASSERT(row < b->rows);
    uint64_t scratch[4];
    size_t n = cols != NULL ? cols_len : b->cols;
    for (size_t i = 0; i < n; i++) {
        const struct batch_col *c = &b->col[cols != NULL ? cols[i] : i];
        bool null = batch_is_null(c, row);
        buf_append_byte(out, null ? 0 : 1);
        if (null) {
            continue;
        }
        size_t width = type_width(c->kind);
        if (width == 0) {
            encode_variable(c, row, canonical, out);
            continue;
        }
        const void *value = (const uint8_t *)c->values + (size_t)row * width;
        if (canonical) {
            value = canonical_fixed(c->kind, value, scratch);
        }
        buf_append(out, value, width);
    }
}

/* The encoded length of rows that all have the same; 0 when they differ or need more than moves. */
static size_t fixed_stride(const struct batch *b, const uint32_t *cols, size_t cols_len,
                           bool canonical)
{
    size_t stride = 0;
    for (size_t i = 0; i < cols_len; i++) {
        const struct batch_col *c = &b->col[cols != NULL ? cols[i] : i];
        size_t width = type_width(c->kind);
        if (width == 0 || c->validity != NULL || (canonical && has_forms(c->kind))) {
            return 0;
        }
        stride += 1 + width;
    }
    return stride;
}

/* One column of rows of the same length. Widths are constants in each case: plain moves. */
static void encode_fixed(const struct batch_col *c, const uint32_t *rows, uint32_t rows_len,
                         size_t stride, uint8_t *to)
{
    const uint8_t *values = c->values;
    size_t width = type_width(c->kind);
    switch (width) {
    case 4:
        for (uint32_t i = 0; i < rows_len; i++, to += stride) {
            to[0] = 1;
            memcpy(to + 1, values + (size_t)rows[i] * 4, 4);
        }
        break;
    case 8:
        for (uint32_t i = 0; i < rows_len; i++, to += stride) {
            to[0] = 1;
            memcpy(to + 1, values + (size_t)rows[i] * 8, 8);
        }
        break;
    default:
        for (uint32_t i = 0; i < rows_len; i++, to += stride) {
            to[0] = 1;
            memcpy(to + 1, values + rows[i] * width, width);
        }
        break;
    }
}

/* Whether canonical forms are the bytes as they stand. */
static bool keeps_bytes(const struct batch *b, const uint32_t *cols, size_t cols_len,
                        bool canonical)
{
    for (size_t i = 0; canonical && i < cols_len; i++) {
        uint8_t kind = b->col[cols != NULL ? cols[i] : i].kind;
        if (has_forms(kind) || kind == TYPE_JSONB) {
            return false;
        }
    }
    return true;
}

enum { ENCODE_BLOCK = 64 };

/* Adds what a column's values take to the rows' lengths. */
static void add_lengths(const struct batch_col *c, const uint32_t *rows, uint32_t n, size_t *lens)
{
    size_t width = type_width(c->kind);
    for (uint32_t i = 0; i < n; i++) {
        size_t len = width > 0 ? width
                               : sizeof(uint32_t) + c->offsets[rows[i] + 1] - c->offsets[rows[i]];
        lens[i] += 1 + (batch_is_null(c, rows[i]) ? 0 : len);
    }
}

/* Writes a column's values at the rows' places, which move on. */
static void put_column(const struct batch_col *c, const uint32_t *rows, uint32_t n, uint8_t **to)
{
    size_t width = type_width(c->kind);
    const uint8_t *values = c->values;
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *at = to[i];
        uint32_t row = rows[i];
        bool null = batch_is_null(c, row);
        *at++ = !null;
        if (null) {
            to[i] = at;
        } else if (width == 8) {
            memcpy(at, values + (size_t)row * 8, 8);
            to[i] = at + 8;
        } else if (width > 0) {
            memcpy(at, values + row * width, width);
            to[i] = at + width;
        } else {
            uint32_t len = c->offsets[row + 1] - c->offsets[row];
            memcpy(at, &len, sizeof(len));
            if (len > 0) {
                memcpy(at + sizeof(len), c->bytes + c->offsets[row], len);
            }
            to[i] = at + sizeof(len) + len;
        }
    }
}

/* A block of rows of different lengths: the lengths first, then the values, a column at a time. */
static void encode_block(const struct batch *b, const uint32_t *rows, uint32_t n,
                         const uint32_t *cols, size_t cols_len, struct buf *out, uint32_t *ends)
{
    size_t lens[ENCODE_BLOCK] = {0}, total = 0;
    uint8_t *to[ENCODE_BLOCK];
    ASSERT(n <= ENCODE_BLOCK);
    for (size_t i = 0; i < cols_len; i++) {
        add_lengths(&b->col[cols != NULL ? cols[i] : i], rows, n, lens);
    }
    for (uint32_t i = 0; i < n; i++) {
        total += lens[i];
    }
    buf_reserve(out, total);
    for (uint32_t i = 0; i < n; i++) {
        to[i] = out->data + out->len;
        out->len += lens[i];
        ASSERT(out->len <= UINT32_MAX);
        ends[i] = (uint32_t)out->len;
    }
    for (size_t i = 0; i < cols_len; i++) {
        put_column(&b->col[cols != NULL ? cols[i] : i], rows, n, to);
    }
    ASSERT(n == 0 || to[n - 1] == out->data + out->len);
}

void batch_encode_rows(const struct batch *b, const uint32_t *rows, uint32_t rows_len,
                       const uint32_t *cols, size_t cols_len, bool canonical, struct buf *out,
                       uint32_t *ends)
{
    size_t n = cols != NULL ? cols_len : b->cols;
    size_t stride = fixed_stride(b, cols, n, canonical);
    if (stride == 0 && keeps_bytes(b, cols, n, canonical)) {
        for (uint32_t i = 0; i < rows_len; i += ENCODE_BLOCK) {
            uint32_t some = rows_len - i < ENCODE_BLOCK ? rows_len - i : ENCODE_BLOCK;
            encode_block(b, rows + i, some, cols, n, out, ends + i);
        }
        return;
    }
    if (stride == 0) {
        for (uint32_t i = 0; i < rows_len; i++) {
            batch_encode_row(b, rows[i], cols, cols_len, canonical, out);
            ASSERT(out->len <= UINT32_MAX);
            ends[i] = (uint32_t)out->len;
        }
        return;
    }
    buf_reserve(out, stride * rows_len);
    uint8_t *to = out->data + out->len;
    for (size_t i = 0; i < n; i++) {
        const struct batch_col *c = &b->col[cols != NULL ? cols[i] : i];
        encode_fixed(c, rows, rows_len, stride, to);
        to += 1 + type_width(c->kind);
    }
    for (uint32_t i = 0; i < rows_len; i++) {
        out->len += stride;
        ends[i] = (uint32_t)out->len;
    }
}

/*
 * Only for raw encodings: canonical ones have lost the form. The row is not ended: the caller gives
 * its time and diff.
 */
size_t batch_decode_row(const uint8_t *data, const uint8_t *kinds, size_t kinds_len,
                        struct batch_builder *out, size_t first_col)
{
    ASSERT(first_col + kinds_len <= out->cols);
    size_t at = 0;
    for (size_t i = 0; i < kinds_len; i++) {
        struct build_col *c = &out->col[first_col + i];
        ASSERT(c->kind == kinds[i] && c->rows == out->rows);
        uint8_t mark = data[at++];
        ASSERT(mark <= 1);
        if (mark == 0) {
            build_col_null(c);
        } else if (c->width > 0) {
            build_col_fixed(c, data + at);
            at += c->width;
        } else {
            uint32_t len;
            memcpy(&len, data + at, sizeof(len));
            build_col_bytes(c, data + at + sizeof(len), len);
            at += sizeof(len) + len;
        }
    }
    return at;
}

/* Variable values point into data: valid as long as it is. */
size_t batch_decode_datum(const uint8_t *data, uint8_t kind, struct datum *out)
{
    ASSERT(data[0] <= 1);
    if (data[0] == 0) {
        *out = (struct datum){.null = true};
        return 1;
    }
    size_t width = type_width(kind);
    if (width == 0) {
        uint32_t len;
        memcpy(&len, data + 1, sizeof(len));
        *out = (struct datum){.len = len, .s = (const char *)data + 1 + sizeof(len)};
        return 1 + sizeof(len) + len;
    }
    /* Encoded values are not aligned. */
    uint64_t value[4];
    ASSERT(width <= sizeof(value));
    memcpy(value, data + 1, width);
    struct batch_col c = {.kind = kind, .values = value};
    batch_datum(&c, 0, out);
    return 1 + width;
}

/* ---- hashes ---------------------------------------------------------------------------------- */

/*
 * Values of up to 8 bytes as one zero-extended word, so an int4 and an int8 of the same value hash
 * alike if it is not negative. Nobody relies on that; keys are of one kind.
 */
static uint64_t hash_fixed(const void *value, size_t width)
{
    ASSERT(width > 0 && width <= 24);
    uint64_t words[3] = {0};
    memcpy(words, value, width);
    if (width <= 8) {
        return hash_u64(words[0]);
    }
    uint64_t h = hash_combine(words[0], words[1]);
    return width > 16 ? hash_combine(h, words[2]) : h;
}

static uint64_t hash_json(const void *data, size_t len, struct buf *scratch)
{
    buf_clear(scratch);
    json_append_normalized(data, len, scratch);
    return hash_bytes(scratch->data, scratch->len);
}

/* Column by column, the loops of the common kinds without a branch per value. */
#define HASH_LOOP(value)                                                                           \
    for (uint32_t i = 0; i < rows; i++) {                                                          \
        uint64_t h_ = (value);                                                                     \
        out[i] = hash_combine(out[i], batch_is_null(c, i) ? HASH_NULL : h_);                       \
    }

/* The scratch buffer is only used for jsonb. */
static void hash_variable(const struct batch_col *c, uint32_t rows, bool canonical, uint64_t *out)
{
    struct buf scratch = {0};
    if (canonical && c->kind == TYPE_JSONB) {
        HASH_LOOP(hash_json(c->bytes + c->offsets[i], c->offsets[i + 1] - c->offsets[i],
                            &scratch));
    } else {
        HASH_LOOP(hash_bytes(c->bytes + c->offsets[i], c->offsets[i + 1] - c->offsets[i]));
    }
    buf_free(&scratch);
}

/*
 * Words without NULLs, which most keys are: eight at a time where the processor multiplies so many.
 * The compiler makes the vectors; the two functions differ in what it may use.
 */
#define HASH_WORDS                                                                                 \
    for (uint32_t i = 0; i < rows; i++) {                                                          \
        out[i] = hash_combine(out[i], hash_u64(v[i]));                                             \
    }

static void hash_words_plain(const uint64_t *restrict v, uint32_t rows, uint64_t *restrict out)
{
    HASH_WORDS;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512dq,avx512vl,prefer-vector-width=512"))) static void
hash_words_wide(const uint64_t *restrict v, uint32_t rows, uint64_t *restrict out)
{
    HASH_WORDS;
}
#endif

static void hash_words(const uint64_t *v, uint32_t rows, uint64_t *out)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        hash_words_wide(v, rows, out);
        return;
    }
#endif
    hash_words_plain(v, rows, out);
}

/* One loop per width; kinds whose equal values differ in bytes go through their canonical form. */
static void hash_column(const struct batch_col *c, uint32_t rows, bool canonical, uint64_t *out)
{
    size_t width = type_width(c->kind);
    uint64_t scratch[4];
    bool special = canonical && has_forms(c->kind);
    const uint8_t *v = c->values;
    if (width == 0) {
        hash_variable(c, rows, canonical, out);
    } else if (special) {
        HASH_LOOP(hash_fixed(canonical_fixed(c->kind, v + (size_t)i * width, scratch), width));
    } else if (width == 8 && c->validity == NULL) {
        hash_words(c->values, rows, out);
    } else if (width == 8) {
        HASH_LOOP(hash_u64(((const uint64_t *)c->values)[i]));
    } else if (width == 4) {
        HASH_LOOP(hash_u64(((const uint32_t *)c->values)[i]));
    } else {
        HASH_LOOP(hash_fixed(v + (size_t)i * width, width));
    }
}

/* canonical false hashes the bytes as they stand, for consolidation, which compares them so. */
void batch_hash_columns(const struct batch *b, const uint32_t *cols, size_t cols_len,
                        bool canonical, uint64_t *out)
{
    ASSERT(b->rows <= BATCH_ROWS_MAX && b->cols <= BATCH_COLS_MAX);
    for (uint32_t i = 0; i < b->rows; i++) {
        out[i] = HASH_START;
    }
    size_t n = cols != NULL ? cols_len : b->cols;
    for (size_t i = 0; i < n; i++) {
        hash_column(&b->col[cols != NULL ? cols[i] : i], b->rows, canonical, out);
    }
}

/* cols_len 0 with cols NULL: the whole row. out has room for b->rows hashes. */
void batch_hash_rows(const struct batch *b, const uint32_t *cols, size_t cols_len, uint64_t *out)
{
    batch_hash_columns(b, cols, cols_len, true, out);
}

/* Agrees with datum_equal: equal datums, equal hashes. Not the hash that routes rows. */
uint64_t datum_hash(enum type_kind kind, const struct datum *d)
{
    if (d->null) {
        return HASH_NULL;
    }
    uint64_t scratch[4];
    switch (kind) {
    case TYPE_BOOL:
        return hash_u64(d->b);
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        return hash_fixed(canonical_fixed(TYPE_FLOAT8, &d->f, scratch), 8);
    case TYPE_NUMERIC:
    case TYPE_INTERVAL:
        return hash_fixed(canonical_fixed(kind, &d->n, scratch), type_width(kind));
    case TYPE_UUID:
        return hash_fixed(d->uuid, 16);
    case TYPE_TEXT:
    case TYPE_BYTEA:
    case TYPE_UNKNOWN:
        return hash_bytes(d->s, d->len);
    case TYPE_JSONB: {
        struct buf buf = {0};
        uint64_t h = hash_json(d->s, d->len, &buf);
        buf_free(&buf);
        return h;
    }
    default:
        return hash_u64((uint64_t)d->i);
    }
}
