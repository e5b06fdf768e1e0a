/*
 * Columns as words, and consolidation of rows that are a few words.
 *
 * Most rows are one to four numbers, dates or flags. Such a row is a record of that many words and
 * its diff, and two rows are equal when their words are: no types, no lengths, no memcmp.
 *
 * Consolidation of many of them is a radix partition: records go to the partition their hash's top
 * bits name, so that equal ones meet in a partition that fits the second-level cache together with
 * its table; there each is looked up once. Beyond the caches a table over all rows would miss twice
 * a row instead. Within a partition the first record of a row stays and takes the diffs of the
 * others, in place:
 *
 *   records    a+1  b+1  a+2  b-1  c+1      kept   a+3  c+1
 *
 * Memory: one record a row. The order of the output is that of the partitions, and within one that
 * of first appearance: a function of the input alone. Input of up to PART_ROWS rows is one
 * partition.
 *
 * Functions here keep no state; scratch memory belongs to the builder. Any thread.
 */
#include "core/base/hash.h"
#include "core/data/batch_internal.h"

enum {
    RECORD_COLS_MAX = 4,
    RECORD_WORDS_MAX = RECORD_COLS_MAX + 1,
    PART_ROWS = 4096, /* 64 KiB of records of two words, and 32 KiB of table */
    BLOCK_ROWS = 256, /* as many rows' words and hashes stay in the first-level cache */
};

bool batch_kind_is_word(uint8_t kind)
{
    size_t width = type_width(kind);
    return width > 0 && width <= sizeof(uint64_t);
}

/* ---- columns as words ------------------------------------------------------------------------ */

#define LOAD_LOOP(type)                                                                            \
    for (size_t i = 0; i < n; i++) {                                                               \
        out[i] = ((const type *)c->values)[rows != NULL ? rows[i] : first + i];                    \
    }

/* The values of NULL rows are zero in all batches we make, but not in all that are valid. */
void batch_words(const struct batch_col *c, const uint32_t *rows, uint32_t first, size_t n,
                 uint64_t *out)
{
    ASSERT(batch_kind_is_word(c->kind));
    switch (type_width(c->kind)) {
    case 8:
        LOAD_LOOP(uint64_t);
        break;
    case 4:
        LOAD_LOOP(uint32_t);
        break;
    case 2:
        LOAD_LOOP(uint16_t);
        break;
    default:
        ASSERT(type_width(c->kind) == 1);
        LOAD_LOOP(uint8_t);
        break;
    }
    for (size_t i = 0; c->validity != NULL && i < n; i++) {
        out[i] = batch_is_null(c, rows != NULL ? rows[i] : first + (uint32_t)i) ? 0 : out[i];
    }
}

#define STORE_LOOP(type)                                                                           \
    for (size_t i = 0; i < n; i++) {                                                               \
        ((type *)to)[i] = (type)words[i * stride];                                                 \
    }

/* Without NULLs a loop of plain moves; NULLs go one by one, like everywhere in the builder. */
void batch_builder_words(struct batch_builder *b, size_t c, const uint64_t *words, size_t stride,
                         const uint8_t *nulls, size_t n)
{
    ASSERT(c < b->cols && stride > 0);
    struct build_col *col = &b->col[c];
    ASSERT(batch_kind_is_word(col->kind) && col->rows == b->rows);
    if (nulls != NULL && n > 0 && memchr(nulls, 1, n) != NULL) {
        for (size_t i = 0; i < n; i++) {
            if (nulls[i] != 0) {
                build_col_null(col);
            } else {
                build_col_fixed(col, &words[i * stride]); /* little endian: the low bytes */
            }
        }
        return;
    }
    build_col_reserve(col, n);
    uint8_t *to = col->values + (size_t)col->rows * col->width;
    switch (col->width) {
    case 8:
        STORE_LOOP(uint64_t);
        break;
    case 4:
        STORE_LOOP(uint32_t);
        break;
    case 2:
        STORE_LOOP(uint16_t);
        break;
    default:
        STORE_LOOP(uint8_t);
        break;
    }
    build_col_grew(col, n);
}

/* ---- records --------------------------------------------------------------------------------- */

/* Any good hash will do: it is seen nowhere but in the order of large outputs. */
static inline uint64_t record_hash(const uint64_t *words, uint32_t cols)
{
    uint64_t h = 0;
    for (uint32_t c = 0; c < cols; c++) {
        h = hash_u64((h ^ words[c]) + 0x9E3779B97F4A7C15ULL);
    }
    return h;
}

static inline bool same_words(const uint64_t *a, const uint64_t *b, uint32_t cols)
{
    uint64_t differ = 0;
    for (uint32_t c = 0; c < cols; c++) {
        differ |= a[c] ^ b[c];
    }
    return differ == 0;
}

/* A block of rows as records, and what partition each goes to. */
struct block {
    uint64_t words[BLOCK_ROWS * RECORD_WORDS_MAX];
    uint64_t column[BLOCK_ROWS];
    uint32_t part[BLOCK_ROWS];
};

static inline __attribute__((always_inline)) void
load_block(struct block *block, const struct batch *b, uint32_t first, uint32_t n,
           uint32_t part_bits, uint32_t cols)
{
    ASSERT(n <= BLOCK_ROWS && first + n <= b->rows && cols == b->cols);
    for (uint32_t c = 0; c < cols; c++) {
        batch_words(&b->col[c], NULL, first, n, block->column);
        for (uint32_t i = 0; i < n; i++) {
            block->words[i * (cols + 1) + c] = block->column[i];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *record = &block->words[i * (cols + 1)];
        record[cols] = (uint64_t)batch_diff(b, first + i);
        block->part[i] =
            part_bits == 0 ? 0 : (uint32_t)(record_hash(record, cols) >> (64 - part_bits));
    }
}

static inline __attribute__((always_inline)) void
partition(const struct batch *b, uint32_t first, uint32_t n, uint32_t part_bits, size_t *ends,
          uint64_t *records, uint32_t cols)
{
    uint32_t stride = cols + 1;
    struct block block;
    for (uint32_t end = first + n; first < end; first += n) {
        n = end - first < BLOCK_ROWS ? end - first : BLOCK_ROWS;
        load_block(&block, b, first, n, part_bits, cols);
        for (uint32_t i = 0; i < n; i++) {
            size_t at = ends[block.part[i]]++;
            if (records != NULL) {
                memcpy(&records[at * stride], &block.words[i * stride], stride * 8UL);
            }
        }
    }
}

/* As in add_up_part: with a constant number of columns nothing is called per record. */
void batch_words_partition(const struct batch *b, uint32_t first, uint32_t n, uint32_t part_bits,
                           size_t *ends, uint64_t *records)
{
    ASSERT(first + n <= b->rows && part_bits <= BATCH_PART_BITS_MAX);
    switch (b->cols) {
    case 1:
        partition(b, first, n, part_bits, ends, records, 1);
        break;
    case 2:
        partition(b, first, n, part_bits, ends, records, 2);
        break;
    case 3:
        partition(b, first, n, part_bits, ends, records, 3);
        break;
    default:
        ASSERT(b->cols == RECORD_COLS_MAX);
        partition(b, first, n, part_bits, ends, records, RECORD_COLS_MAX);
        break;
    }
}

size_t batch_parts_begin(size_t *ends, uint32_t part_bits)
{
    size_t sum = 0;
    for (size_t p = 0; p < (size_t)1 << part_bits; p++) {
        size_t len = ends[p];
        ends[p] = sum;
        sum += len;
    }
    return sum;
}

uint32_t batch_part_bits(size_t rows)
{
    uint32_t part_bits = 0;
    while (part_bits < BATCH_PART_BITS_MAX && rows >> part_bits > PART_ROWS) {
        part_bits++;
    }
    return part_bits;
}

/* ---- one partition --------------------------------------------------------------------------- */

/* The table of a partition: numbers of its records, at most half full. */
struct slots {
    uint32_t *at; /* UINT32_MAX: empty */
    size_t mask;
};

/* The place of a record equal to this one, or the empty one where it belongs. */
static inline uint32_t *find_slot(const struct slots *slots, const uint64_t *records,
                                  const uint64_t *record, uint32_t cols)
{
    size_t slot = record_hash(record, cols) & slots->mask;
    while (slots->at[slot] != UINT32_MAX &&
           !same_words(&records[slots->at[slot] * (size_t)(cols + 1)], record, cols)) {
        slot = (slot + 1) & slots->mask;
    }
    return &slots->at[slot];
}

/* Empty, with room for so many distinct records. */
static struct slots make_slots(struct batch_builder *out, size_t records)
{
    size_t cap = 16;
    while (cap < records * 2) {
        cap *= 2;
    }
    if (cap > out->table_cap) {
        out->table_cap = cap;
        out->table = mem_realloc(out->table, cap * sizeof(out->table[0]));
    }
    memset(out->table, 0xff, cap * sizeof(out->table[0]));
    return (struct slots){.at = out->table, .mask = cap - 1};
}

/*
 * Adds up n records in place; returns how many are left. A partition may be far larger than the
 * others when many rows are equal: so the table grows with what is distinct, not with the rows.
 */
static inline __attribute__((always_inline)) size_t
add_up(struct batch_builder *out, uint64_t *records, size_t n, uint32_t cols)
{
    size_t stride = cols + 1;
    size_t len = 0;
    struct slots slots = make_slots(out, n < PART_ROWS ? n : PART_ROWS);
    for (size_t i = 0; i < n; i++) {
        uint64_t *record = &records[i * stride];
        uint32_t *slot = find_slot(&slots, records, record, cols);
        if (*slot != UINT32_MAX) {
            records[*slot * stride + cols] += record[cols];
            continue;
        }
        *slot = (uint32_t)len;
        if (len < i) {
            memcpy(&records[len * stride], record, stride * sizeof(*record));
        }
        len++;
        if (len * 2 > slots.mask && i + 1 < n) {
            slots = make_slots(out, len * 2);
            for (size_t j = 0; j < len; j++) {
                *find_slot(&slots, records, &records[j * stride], cols) = (uint32_t)j;
            }
        }
    }
    return len;
}

/* The number of columns is a constant in each case, so that a record is a few moves. */
static size_t add_up_part(struct batch_builder *out, uint64_t *records, size_t n, uint32_t cols)
{
    switch (cols) {
    case 1:
        return add_up(out, records, n, 1);
    case 2:
        return add_up(out, records, n, 2);
    case 3:
        return add_up(out, records, n, 3);
    default:
        ASSERT(cols == RECORD_COLS_MAX);
        return add_up(out, records, n, RECORD_COLS_MAX);
    }
}

size_t batch_words_add_up(struct batch_builder *out, uint64_t *records, size_t n)
{
    size_t stride = out->cols + 1;
    size_t len = add_up_part(out, records, n, out->cols);
    size_t kept = 0;
    while (kept < len && records[kept * stride + out->cols] != 0) {
        kept++; /* most have nothing to cancel: they stay where they are */
    }
    for (size_t i = kept; i < len; i++) {
        if (records[i * stride + out->cols] != 0) {
            memmove(&records[kept * stride], &records[i * stride], stride * sizeof(*records));
            kept++;
        }
    }
    return kept;
}

void batch_words_append(struct batch_builder *out, const uint64_t *records, size_t n,
                        uint64_t time)
{
    size_t stride = out->cols + 1;
    for (uint32_t c = 0; c < out->cols; c++) {
        batch_builder_words(out, c, records + c, stride, NULL, n);
    }
    batch_builder_end_rows(out, time, (const int64_t *)records + out->cols, stride, n);
}

/* All partitions, one after another, are moved together. */
static size_t add_up_all(struct batch_builder *out, const size_t *ends, uint32_t part_bits)
{
    size_t stride = out->cols + 1;
    uint64_t *records = out->records;
    size_t kept = 0;
    size_t first = 0;
    for (size_t p = 0; p < (size_t)1 << part_bits; p++) {
        ASSERT(first <= ends[p] && kept <= first);
        size_t len = batch_words_add_up(out, &records[first * stride], ends[p] - first);
        memmove(&records[kept * stride], &records[first * stride],
                len * stride * sizeof(*records));
        kept += len;
        first = ends[p];
    }
    return kept;
}

bool batch_words_are(const struct batch *b)
{
    bool words = b->cols >= 1 && b->cols <= RECORD_COLS_MAX;
    for (uint32_t c = 0; words && c < b->cols; c++) {
        words = batch_kind_is_word(b->col[c].kind) && b->col[c].validity == NULL;
    }
    return words;
}

/* Rows with NULLs, or of wider columns, are left to the general way. */
bool batch_consolidate_words(const struct batch *const *in, size_t in_len, uint64_t time,
                             struct batch_builder *out)
{
    size_t rows = 0;
    for (size_t i = 0; i < in_len; i++) {
        if (!batch_words_are(in[i])) {
            return false;
        }
        ASSERT(in[i]->cols == out->cols);
        rows += in[i]->rows;
    }
    ASSERT(rows < UINT32_MAX);
    uint32_t part_bits = batch_part_bits(rows);
    size_t stride = out->cols + 1;
    if (rows * stride > out->records_cap) {
        free(out->records); /* nothing in it is worth copying */
        out->records_cap = rows * stride;
        out->records = mem_alloc(rows * stride * sizeof(out->records[0]));
    }
    size_t ends[(1 << BATCH_PART_BITS_MAX)] = {0};
    for (int pass = part_bits == 0; pass < 2; pass++) {
        for (size_t i = 0; i < in_len; i++) {
            batch_words_partition(in[i], 0, in[i]->rows, part_bits, ends,
                                  pass == 1 ? out->records : NULL);
        }
        size_t all = pass == 0 ? batch_parts_begin(ends, part_bits) : rows;
        ASSERT(all == rows);
    }
    ASSERT(ends[((size_t)1 << part_bits) - 1] == rows);
    batch_words_append(out, out->records, add_up_all(out, ends, part_bits), time);
    return true;
}
