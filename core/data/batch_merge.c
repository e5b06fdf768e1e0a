/*
 * Consolidation in steps, for more rows than may be taken in one go.
 *
 * Rows are dealt out to partitions by their hash, slice by slice, first counted and then placed;
 * equal rows meet in a partition. Then partition after partition is added up, a slice of it at a
 * time together with what the slices before came to: so a row that makes up half of the input costs
 * no step more than another one does.
 *
 *     count      rows -> how many each partition gets
 *     place      rows -> records (words and diff) or references (batch, row), by partition
 *     add up     slice by slice of a partition -> consolidated rows, appended to out
 *
 * Rows of one time that are a few words are placed as records (batch_words.c), and their batches
 * are not looked at any more; of others the hashes are kept from the first pass, and references are
 * placed with them.
 *
 * One owner, one thread.
 */
#include "core/base/hash.h"
#include "core/data/batch_internal.h"

enum {
    SLICE_ROWS = 2048, /* of a step; a multiple of 64, as slices want */
    ROW_BYTES = 4096,  /* longer rows count as several when partitions are cut */
};

enum merge_phase { MERGE_COUNT, MERGE_PLACE, MERGE_ADD, MERGE_DONE };

struct batch_merge {
    uint8_t *kinds;
    uint32_t cols;
    enum merge_phase phase;
    bool one_time;          /* else times take part in the hashes */
    bool words;             /* records, not references */
    uint64_t time;          /* of all records */
    const struct batch *const *in;
    size_t in_len;
    size_t at;              /* batch of in */
    uint32_t row;           /* of it */
    size_t rows;            /* in all */
    size_t done;            /* rows of the phase that are done */
    uint32_t part_bits;
    size_t part;            /* that is added up */
    size_t kept;            /* records it has come to; of references, rows of sum */
    size_t ends[1 << BATCH_PART_BITS_MAX];
    uint64_t *records;      /* [rows * (cols + 1)] */
    uint64_t *hashes;       /* [rows], of the input's rows */
    uint64_t *refs;         /* [rows]: batch << 32 | row */
    uint64_t *ref_hashes;   /* [rows], of the references */
    struct batch_builder *slice; /* rows of references, gathered */
    void *sum;              /* the batch the partition's slices have come to; NULL: none */
    struct batch_col *views; /* [2 * cols]: of sum and slice */
};

struct batch_merge *batch_merge_new(const uint8_t *kinds, size_t cols)
{
    ASSERT(cols <= BATCH_COLS_MAX);
    struct batch_merge *m = MEM_NEW(struct batch_merge);
    m->cols = (uint32_t)cols;
    m->kinds = mem_alloc(cols);
    memcpy(m->kinds, kinds, cols);
    m->phase = MERGE_DONE;
    return m;
}

/* What the rows took is not kept: it is much, and seldom. */
static void release(struct batch_merge *m)
{
    free(m->records);
    free(m->hashes);
    free(m->refs);
    free(m->ref_hashes);
    free(m->sum);
    m->records = m->hashes = m->refs = m->ref_hashes = NULL;
    m->sum = NULL;
}

void batch_merge_free(struct batch_merge *m)
{
    if (m == NULL) {
        return;
    }
    release(m);
    batch_builder_free(m->slice);
    free(m->kinds);
    free(m->views);
    free(m);
}

void batch_merge_begin(struct batch_merge *m, const struct batch *const *in, size_t in_len,
                       bool one_time)
{
    ASSERT(m->phase == MERGE_DONE && m->records == NULL && m->refs == NULL);
    m->in = in;
    m->in_len = in_len;
    m->words = m->one_time = one_time;
    m->rows = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < in_len; i++) {
        bytes += in[i]->size;
        ASSERT(in[i]->cols == m->cols && in[i]->rows > 0);
        m->words = m->words && batch_words_are(in[i]);
        m->rows += in[i]->rows;
    }
    ASSERT(m->rows > 0 && in_len < UINT32_MAX);
    m->time = batch_time(in[0], 0);
    size_t part_rows = bytes / ROW_BYTES > m->rows ? bytes / ROW_BYTES : m->rows;
    m->part_bits = batch_part_bits(m->words ? m->rows : part_rows);
    memset(m->ends, 0, ((size_t)1 << m->part_bits) * sizeof(m->ends[0]));
    m->at = m->row = 0;
    m->done = 0;
    m->phase = MERGE_COUNT;
    if (m->words) {
        m->records = mem_alloc(m->rows * (m->cols + 1) * sizeof(uint64_t));
    } else {
        m->hashes = mem_alloc(m->rows * sizeof(uint64_t));
        m->refs = mem_alloc(m->rows * sizeof(uint64_t));
        m->ref_hashes = mem_alloc(m->rows * sizeof(uint64_t));
    }
}

size_t batch_merge_bytes(const struct batch_merge *m)
{
    size_t words = m->words ? m->cols + 1UL : 3;
    return m->phase == MERGE_DONE ? 0 : m->rows * words * sizeof(uint64_t);
}

static uint32_t part_of(const struct batch_merge *m, uint64_t hash)
{
    return m->part_bits == 0 ? 0 : (uint32_t)(hash >> (64 - m->part_bits));
}

/* A slice of a batch whose rows are to be references. */
static void deal(struct batch_merge *m, const struct batch *b, uint32_t first, uint32_t n)
{
    uint64_t *hashes = m->hashes + m->done;
    if (m->phase == MERGE_COUNT) {
        struct batch_col *cols = mem_alloc((b->cols + 1UL) * sizeof(*cols));
        struct batch slice;
        batch_slice(b, first, n, cols, &slice);
        batch_hash_columns(&slice, NULL, 0, false, hashes);
        free(cols);
        for (uint32_t i = 0; i < n && !m->one_time; i++) {
            hashes[i] = hash_combine(hashes[i], batch_time(&slice, i));
        }
        for (uint32_t i = 0; i < n; i++) {
            m->ends[part_of(m, hashes[i])]++;
        }
        return;
    }
    ASSERT(m->phase == MERGE_PLACE);
    for (uint32_t i = 0; i < n; i++) {
        size_t at = m->ends[part_of(m, hashes[i])]++;
        m->refs[at] = (uint64_t)m->at << 32 | (first + i);
        m->ref_hashes[at] = hashes[i];
    }
}

/* Counts or places the next slice. */
static uint32_t next_slice(struct batch_merge *m)
{
    const struct batch *b = m->in[m->at];
    uint32_t n = b->rows - m->row < SLICE_ROWS ? b->rows - m->row : (uint32_t)SLICE_ROWS;
    if (m->words) {
        batch_words_partition(b, m->row, n, m->part_bits, m->ends,
                              m->phase == MERGE_PLACE ? m->records : NULL);
    } else {
        deal(m, b, m->row, n);
    }
    m->done += n;
    m->row += n;
    if (m->row == b->rows) {
        m->at++;
        m->row = 0;
    }
    if (m->at == m->in_len) {
        ASSERT(m->done == m->rows);
        bool placed = m->phase == MERGE_PLACE;
        size_t all = placed ? m->rows : batch_parts_begin(m->ends, m->part_bits);
        ASSERT(all == m->rows);
        m->phase = placed ? MERGE_ADD : MERGE_PLACE;
        m->at = m->part = m->kept = 0;
        m->done = 0;
    }
    return n;
}

/* The next records join those the partition has come to, and are added up with them. */
static void add_records(struct batch_merge *m, size_t n, bool last, struct batch_builder *out)
{
    size_t stride = m->cols + 1;
    size_t first = m->part > 0 ? m->ends[m->part - 1] : 0;
    uint64_t *records = m->records + first * stride;
    ASSERT(first + m->kept <= m->done);
    memmove(records + m->kept * stride, m->records + m->done * stride,
            n * stride * sizeof(*records));
    m->kept = batch_words_add_up(out, records, m->kept + n);
    if (last) {
        batch_words_append(out, records, m->kept, m->time);
    }
}

/* The rows of n references; they go by batch, since slices were placed in order. */
static void gather(struct batch_merge *m, size_t n)
{
    uint32_t sel[SLICE_ROWS];
    const uint64_t *refs = m->refs + m->done;
    ASSERT(n > 0 && n <= SLICE_ROWS);
    for (size_t i = 0; i < n;) {
        uint64_t batch = refs[i] >> 32;
        size_t len = 0;
        for (; i < n && refs[i] >> 32 == batch; i++) {
            sel[len++] = (uint32_t)refs[i];
        }
        batch_builder_rows_of(m->slice, m->in[batch], sel, len);
    }
}

/* A partition that is taken at once, as most are, is added up where its rows lie. */
static void add_refs(struct batch_merge *m, size_t n, bool last, struct batch_builder *out)
{
    if (last && m->sum == NULL) {
        batch_consolidate_refs(m->in, m->refs + m->done, m->ref_hashes + m->done, n, out);
        return;
    }
    if (m->slice == NULL) {
        m->slice = batch_builder_new(m->kinds, m->cols);
        m->views = mem_alloc((2UL * m->cols + 1) * sizeof(m->views[0]));
    }
    gather(m, n);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(m->slice, &size);
    batch_builder_reset(m->slice);
    struct batch in[2];
    const struct batch *views[2] = {&in[0], &in[1]};
    batch_view(bytes, size, m->views, m->cols, &in[0]);
    if (m->sum != NULL) {
        batch_view(m->sum, m->kept, m->views + m->cols, m->cols, &in[1]);
    }
    batch_consolidate(views, m->sum != NULL ? 2 : 1, 0, last ? out : m->slice);
    free(bytes);
    free(m->sum);
    m->sum = NULL;
    if (!last) {
        m->sum = batch_builder_finish_new(m->slice, &m->kept); /* its size */
        batch_builder_reset(m->slice);
    }
}

/* Partitions without rows are passed over. */
static uint32_t next_sum(struct batch_merge *m, struct batch_builder *out)
{
    while (m->ends[m->part] == m->done) {
        m->part++;
        m->kept = 0;
        ASSERT(m->part < (size_t)1 << m->part_bits);
    }
    size_t left = m->ends[m->part] - m->done;
    bool last = left <= (m->sum == NULL ? 2UL * SLICE_ROWS : SLICE_ROWS);
    size_t n = last ? left : SLICE_ROWS;
    if (m->words) {
        add_records(m, n, last, out);
    } else {
        add_refs(m, n, last, out);
    }
    m->done += n;
    return (uint32_t)n;
}

bool batch_merge_step(struct batch_merge *m, struct batch_builder *out, uint32_t *work)
{
    ASSERT(m->phase != MERGE_DONE);
    *work = m->phase == MERGE_ADD ? next_sum(m, out) : next_slice(m);
    if (m->phase == MERGE_ADD && m->done == m->rows) {
        release(m);
        m->phase = MERGE_DONE;
    }
    return m->phase != MERGE_DONE;
}
