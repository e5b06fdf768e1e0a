/*
 * A batch: updates (row, time, diff) in columns, in one position-independent piece of memory. The
 * same bytes stand in a shared-memory block, a network frame and a file. Per column the layout of
 * Apache Arrow: validity bitmap (bit set = not null, absent when no null), values or 32-bit offsets
 * + bytes, each part 64-byte aligned within the batch, little endian. (Booleans are one byte each:
 * Arrow's Int8 layout; see docs/decisions.) time and diff are one constant or a column.
 *
 * For example three rows (int8, text) at one time, the second one with a NULL text:
 *
 *   header   rows 3, cols 2, flags DIFFS, time_const 7
 *   desc     {INT8, values_at 192}  {TEXT, has_nulls, validity_at 256, values_at 320, bytes_at 384}
 *   column 0 10 20 30
 *   column 1 validity 101b   offsets 0 2 2 5   bytes "abxyz"
 *   diffs    1 1 -1
 *
 * Batches are immutable once finished. A struct batch is a view: it points into bytes it does not
 * own. Everything in a view was validated by batch_open, so that readers need no checks.
 */
#ifndef TAILRACE_CORE_DATA_BATCH_H
#define TAILRACE_CORE_DATA_BATCH_H

#include "core/data/type.h"

enum {
    BATCH_COLS_MAX = 1600,
    BATCH_ROWS_MAX = 1 << 24,
    BATCH_ALIGN = 64,
};

/* A frontier is one u64 time, or empty. */
#define FRONTIER_EMPTY UINT64_MAX
#define TIME_MAX (UINT64_MAX - 1)

/*
 * A view of one column. Which pointers are set follows from the kind: values for fixed widths,
 * offsets and bytes for variable ones.
 */
struct batch_col {
    uint8_t kind;              /* enum type_kind */
    const uint64_t *validity;  /* NULL: no nulls */
    const void *values;        /* fixed width: rows * type_width */
    const uint32_t *offsets;   /* variable width: rows + 1, monotone */
    const uint8_t *bytes;      /* variable width */
};

/* A view of a batch; owns nothing. times and diffs are NULL when all rows have the same. */
struct batch {
    uint32_t rows;
    uint32_t cols;
    const struct batch_col *col;
    const uint64_t *times; /* NULL: time_const */
    const int64_t *diffs;  /* NULL: diff_const */
    uint64_t time_const;
    int64_t diff_const;
    const uint8_t *base;   /* the bytes */
    size_t size;
};

/*
 * Validates bytes from anywhere (lengths, alignment of base to 8, offsets monotone, booleans 0/1,
 * UTF-8 of TEXT, numeric form, column kinds equal to kinds[] when kinds is not NULL) and makes a
 * view. cols_out must have room for cols_cap columns. Errors: ERR_CORRUPT saying what and where.
 */
err_t batch_open(const void *data, size_t size, const uint8_t *kinds, size_t kinds_len,
                 struct batch_col *cols_out, size_t cols_cap, struct batch *out);
/*
 * The same of bytes that another process may write meanwhile: they are copied to `to` (size bytes,
 * aligned to 8), and the copy is validated. Only the columns with reads[c] are (NULL: all); of the
 * others nothing but their place is looked at, and their view has a kind and no memory.
 */
err_t batch_open_copy(const void *data, size_t size, const uint8_t *kinds, size_t kinds_len,
                      const bool *reads, void *to, struct batch_col *cols_out, size_t cols_cap,
                      struct batch *out);
/* The same without validation, for bytes this process made itself. */
void batch_view(const void *data, size_t size, struct batch_col *cols_out, size_t cols_cap,
                struct batch *out);

static inline uint64_t batch_time(const struct batch *b, uint32_t row)
{
    return b->times != NULL ? b->times[row] : b->time_const;
}

static inline int64_t batch_diff(const struct batch *b, uint32_t row)
{
    return b->diffs != NULL ? b->diffs[row] : b->diff_const;
}

/* A row whose bit is 0 is NULL; its value exists (zero, or no bytes) but means nothing. */
static inline bool batch_is_null(const struct batch_col *c, uint32_t row)
{
    return c->validity != NULL && ((c->validity[row >> 6] >> (row & 63)) & 1) == 0;
}

/*
 * One value; variable bytes point into the batch. The copy of variable bytes, if one is needed, is
 * the caller's.
 */
void batch_datum(const struct batch_col *c, uint32_t row, struct datum *out);

/*
 * Builder: appends rows, then finishes into one piece of memory. Reusable: batch_builder_reset
 * keeps its memory, so that steady state does not allocate. One owner, one thread. Rows are
 * appended value by value or whole; a finished batch is a copy.
 */
struct batch_builder;
struct batch_builder *batch_builder_new(const uint8_t *kinds, size_t cols);
void batch_builder_free(struct batch_builder *b);
void batch_builder_reset(struct batch_builder *b);
uint32_t batch_builder_rows(const struct batch_builder *b);
/* Bytes batch_builder_finish will need: exact. */
size_t batch_builder_size(const struct batch_builder *b);
/* Those of values of variable length alone: cheap enough to ask after each row. */
size_t batch_builder_bytes(const struct batch_builder *b);
/* Appends a value to column c of the row under construction; every column once, then end_row. */
void batch_builder_datum(struct batch_builder *b, size_t c, const struct datum *d);
void batch_builder_end_row(struct batch_builder *b, uint64_t time, int64_t diff);
/* Appends a whole row of a view, or rows chosen by sel (NULL: all), keeping time and diff. */
void batch_builder_row(struct batch_builder *b, const struct batch *from, uint32_t row);
void batch_builder_rows_of(struct batch_builder *b, const struct batch *from, const uint32_t *sel,
                           size_t sel_len);
/* Replaces times of all rows (a snapshot is stamped as_of). */
void batch_builder_set_time(struct batch_builder *b, uint64_t time);
/* Writes the batch to out (batch_builder_size bytes, 64-byte aligned). */
void batch_builder_finish(struct batch_builder *b, void *out);
/* The same into fresh memory (free with free()), 64-byte aligned. */
void *batch_builder_finish_new(struct batch_builder *b, size_t *size);

/*
 * A copy of what a view shows, in memory of its own like batch_builder_finish_new's: of the columns
 * with reads[c] (NULL: all), in their order.
 */
void *batch_copy_new(const struct batch *b, const bool *reads, size_t *size);

/*
 * Columns as words, for loops that take kinds of at most 8 bytes as what they are: bits. A value is
 * the low bytes of its word, the rest is zero. stride: in words, from one row's to the next.
 */
bool batch_kind_is_word(uint8_t kind);
/* The rows listed (NULL: n rows from first on). A NULL is 0, if there may be any. */
void batch_words(const struct batch_col *c, const uint32_t *rows, uint32_t first, size_t n,
                 uint64_t *out);
/* Appends n values to column c; nulls: one byte a row, or NULL when there are none. */
void batch_builder_words(struct batch_builder *b, size_t c, const uint64_t *words, size_t stride,
                         const uint8_t *nulls, size_t n);
/* The same of any kind, one by one; NULLs as they say. */
void batch_builder_data(struct batch_builder *b, size_t c, const struct datum *data, size_t n);
/* The same of any kind from the bytes of its representation, in one call or several; data NULL: a
 * NULL. */
struct batch_span {
    const void *data; /* not aligned */
    uint32_t len;     /* the width of a kind that has one */
};
void batch_builder_spans(struct batch_builder *b, size_t c, const struct batch_span *spans,
                         size_t n);
/* Ends n rows of one time, whose columns are all there. */
void batch_builder_end_rows(struct batch_builder *b, uint64_t time, const int64_t *diffs,
                            size_t stride, size_t n);

/*
 * Consolidation: equal (row bytes, time) are added up, zero diffs vanish. Rows are equal when every
 * value has the same bytes. Appends to out. Order of output: by time, then unspecified but
 * deterministic. Times below advance_to are first moved up to it (compaction; 0: none).
 */
void batch_consolidate(const struct batch *const *in, size_t in_len, uint64_t advance_to,
                       struct batch_builder *out);

/*
 * The same in steps of a bounded number of rows, for input of any length; the order of output is
 * unspecified but deterministic. Each batch of in has rows; they stay as they are until the last
 * step. one_time: all rows have the same. A step appends what is final, some thousands of rows at
 * most; *work: rows it took. False: that was the last one.
 */
struct batch_merge;
struct batch_merge *batch_merge_new(const uint8_t *kinds, size_t cols);
void batch_merge_free(struct batch_merge *m);
void batch_merge_begin(struct batch_merge *m, const struct batch *const *in, size_t in_len,
                       bool one_time);
bool batch_merge_step(struct batch_merge *m, struct batch_builder *out, uint32_t *work);
/* Bytes it holds between begin and the last step. */
size_t batch_merge_bytes(const struct batch_merge *m);

/* A view of n rows of another one, from first on, a multiple of 64; cols_out has room for its
 * columns. It has no bytes of its own: base is NULL. */
void batch_slice(const struct batch *b, uint32_t first, uint32_t n, struct batch_col *cols_out,
                 struct batch *out);

/*
 * Rows as compact bytes (for arrangements, hashing, exchange): per column a null byte and the
 * value; equal bytes <=> equal rows. cols: which columns, in order (NULL: all). With canonical,
 * values that SQL holds equal get equal bytes (numeric without trailing zeros, -0.0 as 0.0, NaNs
 * alike): for keys of joins, groups and distinct.
 */
void batch_encode_row(const struct batch *b, uint32_t row, const uint32_t *cols, size_t cols_len,
                      bool canonical, struct buf *out);
/* The rows listed, one after another; ends[i]: the length of out behind the i-th. */
void batch_encode_rows(const struct batch *b, const uint32_t *rows, uint32_t rows_len,
                       const uint32_t *cols, size_t cols_len, bool canonical, struct buf *out,
                       uint32_t *ends);
/* Decodes encoded values of these kinds into the builder's columns first_col...; the bytes are our
 * own, so malformed input is asserted. Returns bytes consumed. */
size_t batch_decode_row(const uint8_t *data, const uint8_t *kinds, size_t kinds_len,
                        struct batch_builder *out, size_t first_col);
/* One encoded column as a datum; variable bytes point into data. Returns bytes consumed. */
size_t batch_decode_datum(const uint8_t *data, uint8_t kind, struct datum *out);
/* Hash of key columns, canonical: decides the worker in an exchange, so equal on every node. */
void batch_hash_rows(const struct batch *b, const uint32_t *cols, size_t cols_len, uint64_t *out);

/*
 * Divides a batch (at least one row) by hash: row i goes to part hash * parts / 2^64. Begin, ask
 * for rows and sizes, then write: each part with rows and a place (not NULL, 8-byte aligned, that
 * many bytes) becomes the batch a builder would make of its rows, in their order. The batch must
 * stay until then. Memory is kept for the next one.
 */
enum { BATCH_PARTS_MAX = 65535 };
struct batch_split;
struct batch_split *batch_split_new(void);
void batch_split_free(struct batch_split *s);
void batch_split_begin(struct batch_split *s, const struct batch *b, const uint64_t *hashes,
                       uint32_t parts);
uint32_t batch_split_rows(const struct batch_split *s, uint32_t part);
size_t batch_split_size(const struct batch_split *s, uint32_t part);
void batch_split_write(struct batch_split *s, void *const *places);

/* The error twin's rows: one schema for all. */
enum { ERR_COL_SQLSTATE, ERR_COL_MESSAGE, ERR_COL_CONTEXT, ERR_COLS };
extern const uint8_t batch_err_kinds[ERR_COLS]; /* TEXT, TEXT, TEXT */

#endif
