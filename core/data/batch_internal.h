/*
 * The layout of a batch's bytes and of the builder, shared by the batch files and by the mfp
 * evaluator, which appends whole columns.
 *
 *     struct batch_header, 64 bytes
 *     struct batch_desc[cols]
 *     for each column, each part 64-byte aligned: validity (if any null), values or offsets, bytes
 *     times (unless constant), diffs (unless constant)
 *
 * The place of every part follows from rows, cols, kinds, flags and byte counts; the offsets
 * written in the descriptors are redundant, and batch_open insists that they agree.
 */
#ifndef TAILRACE_CORE_DATA_BATCH_INTERNAL_H
#define TAILRACE_CORE_DATA_BATCH_INTERNAL_H

#include "core/data/data_internal.h"

#define BATCH_MAGIC 0x31425254u /* "TRB1" */

enum { BATCH_TIMES = 1, BATCH_DIFFS = 2 };

/*
 * The first 64 bytes of every batch. All fields are checked by batch_open; zero must be zero, so
 * that a later version can give it a meaning.
 */
struct batch_header {
    uint32_t magic;
    uint32_t rows;
    uint32_t cols;
    uint32_t flags;      /* BATCH_TIMES, BATCH_DIFFS: a column, else constant */
    uint64_t size;       /* of the whole batch */
    uint64_t time_const; /* 0 when there is a column */
    int64_t diff_const;
    uint64_t times_at;
    uint64_t diffs_at;
    uint64_t zero;
};
STATIC_ASSERT(sizeof(struct batch_header) == BATCH_ALIGN, "the header is one cache line");

/* One per column, behind the header. */
struct batch_desc {
    uint32_t kind;
    uint32_t has_nulls;
    uint64_t validity_at; /* 0 when absent */
    uint64_t values_at;   /* fixed width: values; variable: offsets */
    uint64_t bytes_at;    /* 0 for fixed width */
    uint64_t bytes_len;
};

/*
 * Where things go while a layout is walked. at is an offset from the start of the batch, always
 * 64-byte aligned.
 */
struct batch_layout {
    uint64_t at;
};

/* No overflow: sizes are bounded by check_header. */
static inline uint64_t batch_align(uint64_t n)
{
    return (n + BATCH_ALIGN - 1) & ~(uint64_t)(BATCH_ALIGN - 1);
}

/* Reserves len bytes, 64-byte aligned; returns where they start. */
static inline uint64_t layout_take(struct batch_layout *layout, uint64_t len)
{
    uint64_t at = layout->at;
    layout->at = batch_align(at + len);
    return at;
}

/* Whole words of 64 rows. */
static inline uint64_t validity_len(uint32_t rows)
{
    return ((uint64_t)rows + 63) / 64 * 8;
}

/* batch_hash_rows, canonical or of the bytes as they are. */
void batch_hash_columns(const struct batch *b, const uint32_t *cols, size_t cols_len,
                        bool canonical, uint64_t *out);

/*
 * Consolidation of rows that are words (batch_words.c), all taken to be of one time; false: some
 * are not, nothing was done.
 */
bool batch_consolidate_words(const struct batch *const *in, size_t in_len, uint64_t time,
                             struct batch_builder *out);

/* Of any rows: those that are named (batch << 32 | row). Equal ones of one time have one hash. */
void batch_consolidate_refs(const struct batch *const *in, const uint64_t *refs,
                            const uint64_t *hashes, size_t n, struct batch_builder *out);

/*
 * Its parts, for who does it in steps (batch_merge.c). A record is a row's words and its diff; ends
 * has a place a partition, of which there are 1 << part_bits. Rows are counted first (records
 * NULL), then batch_parts_begin turns the counts into where each partition begins, then the records
 * are written and each partition's place ends as its end.
 */
enum { BATCH_PART_BITS_MAX = 11 };
bool batch_words_are(const struct batch *b);
uint32_t batch_part_bits(size_t rows);
void batch_words_partition(const struct batch *b, uint32_t first, uint32_t n, uint32_t part_bits,
                           size_t *ends, uint64_t *records);
/* Returns how many rows there are. */
size_t batch_parts_begin(size_t *ends, uint32_t part_bits);
/* Adds up records in place; returns how many are left. The table is out's. */
size_t batch_words_add_up(struct batch_builder *out, uint64_t *records, size_t n);
void batch_words_append(struct batch_builder *out, const uint64_t *records, size_t n,
                        uint64_t time);

/* Fills the places in desc (kind, has_nulls and bytes_len are given) and moves the layout on. */
void batch_layout_column(struct batch_layout *layout, uint32_t rows, struct batch_desc *desc);

/* ---- builder --------------------------------------------------------------------------------- */

/* A column under construction; owned by its builder. Capacities are in units of what they count. */
struct build_col {
    uint8_t kind;
    uint8_t width;       /* 0: variable */
    bool has_nulls;      /* validity is kept from the first null on */
    uint32_t rows;       /* values appended: the builder's rows, or one more */
    uint8_t *values;     /* fixed width */
    uint32_t *offsets;   /* variable: rows + 1 */
    uint8_t *bytes;
    uint64_t *validity;
    size_t rows_cap;     /* of values or offsets, in rows */
    size_t bytes_len;
    size_t bytes_cap;
    size_t words_cap;    /* of validity */
};

/*
 * One distinct (row, time) of a consolidation. batch and row say where its first appearance stands,
 * for comparing and for the output.
 */
struct consol_entry {
    uint64_t hash;
    uint64_t time;
    int64_t diff;
    uint32_t batch;
    uint32_t row;
};

/* See the head of batch_builder.c for what holds between calls. */
struct batch_builder {
    struct build_col *col;
    uint32_t cols;
    uint32_t rows;
    bool has_times;
    bool has_diffs;
    uint64_t time_const; /* of all rows, while !has_times and rows > 0 */
    int64_t diff_const;
    uint64_t *times;
    int64_t *diffs;
    size_t times_cap;
    size_t diffs_cap;
    /* Scratch of batch_consolidate into this builder, kept so that steady state does not
     * allocate. */
    struct consol_entry *entries;
    size_t entries_cap;
    uint32_t *table;
    size_t table_cap;
    uint64_t *hashes;
    size_t hashes_cap;
    uint64_t *records; /* words of rows, then their diff */
    size_t records_cap;
};

/* Room for n more rows in column c. */
void build_col_reserve(struct build_col *c, size_t n);
/* Room for len more bytes of a variable kind. */
void build_col_reserve_bytes(struct build_col *c, size_t len);
void build_col_null(struct build_col *c);
/* width bytes, or len bytes of a variable kind. */
void build_col_fixed(struct build_col *c, const void *value);
void build_col_bytes(struct build_col *c, const void *data, size_t len);
/* Marks that values were appended up to c->rows + n, all valid (validity is extended). */
void build_col_grew(struct build_col *c, size_t n);
/* Appends the values of rows sel (NULL: 0..n-1) of another batch's column. */
void build_col_append(struct build_col *to, const struct batch_col *from, const uint32_t *sel,
                      size_t n);
/* One time and diff, when the columns are already ahead. */
void builder_end_one(struct batch_builder *b, uint64_t time, int64_t diff);
/* Appends n times and diffs, after the columns. times/diffs NULL: the constants. */
void builder_end_rows(struct batch_builder *b, const uint64_t *times, const int64_t *diffs,
                      uint64_t time_const, int64_t diff_const, const uint32_t *sel, size_t n);

#endif
