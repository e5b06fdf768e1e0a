/*
 * Batches: random round trips against plain arrays of datums, hostile bytes, encoded rows, hashes,
 * consolidation against a naive model.
 */
#include "core/base/hash.h"
#include "core/data/batch.h"
#include "core/data/batch_internal.h"
#include "tests/unit/harness.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t seed;

static uint64_t next_random(void)
{
    seed += 0x9E3779B97F4A7C15ULL;
    return hash_u64(seed);
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(next_random() % n);
}

static const uint8_t all_kinds[] = {
    TYPE_BOOL,   TYPE_INT2, TYPE_INT4,  TYPE_INT8,     TYPE_FLOAT4,   TYPE_FLOAT8,
    TYPE_NUMERIC, TYPE_TEXT, TYPE_BYTEA, TYPE_DATE,     TYPE_TIMESTAMP, TYPE_TIMESTAMPTZ,
    TYPE_INTERVAL, TYPE_JSONB, TYPE_UUID, TYPE_OID,     TYPE_TIME,     TYPE_MZ_TIMESTAMP};

/* A datum of few distinct values, so that rows repeat. Variable bytes are static. */
static struct datum random_datum(uint8_t kind)
{
    static const char *const texts[] = {"", "a", "abc", "é", "日本語", "x y", "0123456789"};
    static const char *const jsons[] = {"null", "{}", "[1, 2.50]", "{\"a\": 1, \"bb\": \"x\"}",
                                        "\"\\u0001\"", "100", "1.0"};
    struct datum d = {0};
    uint32_t n = below(7);
    if (below(8) == 0) {
        d.null = true;
        return d;
    }
    switch (kind) {
    case TYPE_BOOL:
        d.b = n & 1;
        break;
    case TYPE_FLOAT4:
    case TYPE_FLOAT8:
        d.f = (double)n * 0.5 - 1;
        break;
    case TYPE_NUMERIC:
        d.n = (struct numeric){.lo = n * 10, .scale = (int16_t)(n % 3)};
        break;
    case TYPE_TEXT:
    case TYPE_BYTEA:
        d.s = texts[n];
        d.len = (uint32_t)strlen(texts[n]);
        break;
    case TYPE_JSONB:
        d.s = jsons[n];
        d.len = (uint32_t)strlen(jsons[n]);
        break;
    case TYPE_INTERVAL:
        d.iv = (struct interval){.months = (int32_t)n, .days = -(int32_t)n, .micros = n};
        break;
    case TYPE_UUID:
        d.uuid[3] = (uint8_t)n;
        break;
    default:
        d.i = n;
        break;
    }
    return d;
}

struct model {
    uint8_t kinds[8];
    uint32_t cols;
    uint32_t rows;
    struct datum *values; /* rows * cols */
    uint64_t *times;
    int64_t *diffs;
};

static void model_free(struct model *m)
{
    free(m->values);
    free(m->times);
    free(m->diffs);
}

static struct model random_model(uint32_t rows_max, uint32_t cols_max)
{
    struct model m = {.cols = below(cols_max + 1), .rows = below(rows_max + 1)};
    bool one_time = below(2);
    bool one_diff = below(2);
    m.values = mem_zalloc(((size_t)m.rows * m.cols + 1) * sizeof(struct datum));
    m.times = mem_zalloc((m.rows + 1) * sizeof(uint64_t));
    m.diffs = mem_zalloc((m.rows + 1) * sizeof(int64_t));
    for (uint32_t c = 0; c < m.cols; c++) {
        m.kinds[c] = all_kinds[below(ARRAY_LEN(all_kinds))];
    }
    for (uint32_t r = 0; r < m.rows; r++) {
        for (uint32_t c = 0; c < m.cols; c++) {
            m.values[r * m.cols + c] = random_datum(m.kinds[c]);
        }
        m.times[r] = one_time ? 5 : below(4);
        m.diffs[r] = one_diff ? 1 : (int64_t)below(5) - 2;
    }
    return m;
}

static struct batch_builder *build(const struct model *m)
{
    struct batch_builder *b = batch_builder_new(m->kinds, m->cols);
    for (uint32_t r = 0; r < m->rows; r++) {
        for (uint32_t c = 0; c < m->cols; c++) {
            batch_builder_datum(b, c, &m->values[r * m->cols + c]);
        }
        batch_builder_end_row(b, m->times[r], m->diffs[r]);
    }
    return b;
}

static bool same_bytes(uint8_t kind, const struct datum *a, const struct datum *b)
{
    if (a->null || b->null) {
        return a->null && b->null;
    }
    if (type_is_variable(kind)) {
        return a->len == b->len && (a->len == 0 || memcmp(a->s, b->s, a->len) == 0);
    }
    return datum_equal(kind, a, b);
}

static void check_equal(const struct model *m, const struct batch *b)
{
    CU_ASSERT_EQUAL_FATAL(b->rows, m->rows);
    CU_ASSERT_EQUAL_FATAL(b->cols, m->cols);
    bool same = true;
    for (uint32_t r = 0; r < m->rows; r++) {
        for (uint32_t c = 0; c < m->cols; c++) {
            struct datum d;
            batch_datum(&b->col[c], r, &d);
            same &= same_bytes(m->kinds[c], &d, &m->values[r * m->cols + c]);
        }
        same &= batch_time(b, r) == m->times[r] && batch_diff(b, r) == m->diffs[r];
    }
    CU_ASSERT(same);
}

static void *open_built(struct batch_builder *b, const struct model *m, struct batch_col *cols,
                        struct batch *out)
{
    size_t size;
    size_t want = batch_builder_size(b);
    void *bytes = batch_builder_finish_new(b, &size);
    CU_ASSERT_EQUAL(size, want);
    CU_ASSERT_EQUAL(size % BATCH_ALIGN, 0);
    err_t err = batch_open(bytes, size, m->kinds, m->cols, cols, 8, out);
    CU_ASSERT_PTR_NULL_FATAL(err);
    return bytes;
}

static void test_round_trip(void)
{
    seed = 11;
    for (int round = 0; round < 300; round++) {
        struct model m = random_model(round % 10 == 0 ? 700 : 70, 8);
        struct batch_builder *b = build(&m);
        struct batch_col cols[8];
        struct batch_col again_cols[8];
        struct batch batch;
        struct batch again;
        void *bytes = open_built(b, &m, cols, &batch);
        check_equal(&m, &batch);
        /* A builder that was reset gives the same bytes, through whole rows. */
        batch_builder_reset(b);
        uint32_t *sel = mem_zalloc((m.rows + 1) * sizeof(uint32_t));
        for (uint32_t r = 0; r < m.rows; r++) {
            sel[r] = r;
        }
        uint32_t half = m.rows / 2;
        batch_builder_rows_of(b, &batch, sel, half);
        batch_builder_rows_of(b, &batch, sel + half, m.rows - half);
        void *copy = open_built(b, &m, again_cols, &again);
        CU_ASSERT_EQUAL_FATAL(again.size, batch.size);
        CU_ASSERT(memcmp(copy, bytes, batch.size) == 0);
        free(copy);
        batch_builder_reset(b);
        batch_builder_rows_of(b, &batch, NULL, 0);
        copy = open_built(b, &m, again_cols, &again);
        CU_ASSERT(again.size == batch.size && memcmp(copy, bytes, batch.size) == 0);
        free(copy);
        free(sel);
        free(bytes);
        batch_builder_free(b);
        model_free(&m);
    }
}

/* ---- hostile bytes --------------------------------------------------------------------------- */

static uint64_t touch(const struct batch *b)
{
    uint64_t sum = 0;
    struct buf buf = {0};
    struct buf text = {0};
    uint64_t *hashes = mem_zalloc((b->rows + 1) * sizeof(uint64_t));
    batch_hash_rows(b, NULL, 0, hashes);
    for (uint32_t r = 0; r < b->rows; r++) {
        batch_encode_row(b, r, NULL, 0, true, &buf);
        sum += batch_time(b, r) + (uint64_t)batch_diff(b, r) + hashes[r];
        for (uint32_t c = 0; c < b->cols; c++) {
            struct type type = type_of(b->col[c].kind);
            struct datum d;
            batch_datum(&b->col[c], r, &d);
            if (!d.null) {
                buf_clear(&text);
                datum_print(&type, &d, &text);
                sum += datum_hash(type.kind, &d) + text.len;
                sum += (uint64_t)datum_compare(type.kind, &d, &d);
            }
        }
        sum += buf.len;
        buf_clear(&buf);
    }
    free(hashes);
    buf_free(&buf);
    buf_free(&text);
    return sum;
}

/* The same bytes copied, some of their columns only: what is read is checked and is the same. */
static void check_copy(const void *bytes, size_t len, const uint8_t *kinds, uint32_t cols_len,
                       const struct batch *whole)
{
    bool reads[8];
    bool all = below(3) == 0;
    struct batch_col cols[8];
    struct batch part;
    uint8_t *to = aligned_alloc(BATCH_ALIGN, (len + BATCH_ALIGN) / BATCH_ALIGN * BATCH_ALIGN);
    memset(to, 0xa5, len);
    for (uint32_t c = 0; c < 8; c++) {
        reads[c] = below(2) == 0;
    }
    err_t err =
        batch_open_copy(bytes, len, kinds, cols_len, all ? NULL : reads, to, cols, 8, &part);
    CU_ASSERT_FATAL(whole != NULL ? err == ERR_OK : !all || err != ERR_OK);
    if (err != ERR_OK) {
        CU_ASSERT_EQUAL(err_code(err), ERR_CORRUPT);
        err_free(err);
    }
    /* 64 and 40: the header and a descriptor; what lies behind them holds nothing of the memory. */
    size_t frame = whole != NULL ? 64 + 40UL * whole->cols : 0;
    for (size_t at = frame; at % BATCH_ALIGN != 0; at++) {
        CU_ASSERT_FATAL(to[at] == 0);
    }
    for (uint32_t c = 0; whole != NULL && c < whole->cols; c++) {
        CU_ASSERT_FATAL(cols[c].kind == whole->col[c].kind);
        bool there = all || reads[c];
        CU_ASSERT_FATAL(there || (cols[c].values == NULL && cols[c].offsets == NULL));
        for (uint32_t r = 0; there && r < whole->rows; r++) {
            struct datum a, b;
            batch_datum(&cols[c], r, &a);
            batch_datum(&whole->col[c], r, &b);
            CU_ASSERT_FATAL(a.null == b.null);
            CU_ASSERT_FATAL(a.null || datum_equal((enum type_kind)cols[c].kind, &a, &b));
        }
    }
    free(to);
}

static void test_hostile(void)
{
    seed = 12;
    size_t refused = 0;
    size_t opened = 0;
    for (int round = 0; round < 200; round++) {
        struct model m = random_model(40, 8);
        struct batch_builder *b = build(&m);
        size_t size;
        uint8_t *bytes = batch_builder_finish_new(b, &size);
        struct batch_col cols[8];
        struct batch batch;
        for (int k = 0; k < 40; k++) {
            uint8_t *bad = aligned_alloc(BATCH_ALIGN, size);
            memcpy(bad, bytes, size);
            size_t len = below(4) == 0 ? below((uint32_t)size) : size;
            for (uint32_t n = below(4); n > 0 && len > 0; n--) {
                bool head = below(2) && len > 64;
                bad[below(head ? 64 : (uint32_t)len)] ^= (uint8_t)(1u << below(8));
            }
            const uint8_t *kinds = below(2) ? m.kinds : NULL;
            err_t err = batch_open(bad, len, kinds, m.cols, cols, 8, &batch);
            check_copy(bad, len, kinds, m.cols, err == ERR_OK ? &batch : NULL);
            if (err != ERR_OK) {
                CU_ASSERT_EQUAL(err_code(err), ERR_CORRUPT);
                refused++;
                err_free(err);
            } else {
                opened++;
                touch(&batch);
            }
            free(bad);
        }
        free(bytes);
        batch_builder_free(b);
        model_free(&m);
    }
    CU_ASSERT(refused > 2000);
    CU_ASSERT(opened > 500);
}

static void expect_refused(uint8_t kind, const void *value, size_t width)
{
    struct batch_builder *b = batch_builder_new(&kind, 1);
    struct datum d = {0};
    size_t size;
    struct batch_col col;
    struct batch batch;
    if (type_is_variable(kind)) {
        d.s = value;
        d.len = (uint32_t)width;
        batch_builder_datum(b, 0, &d);
        batch_builder_end_row(b, 0, 1);
    } else {
        batch_builder_datum(b, 0, &d);
        batch_builder_end_row(b, 0, 1);
    }
    uint8_t *bytes = batch_builder_finish_new(b, &size);
    if (!type_is_variable(kind)) {
        batch_view(bytes, size, &col, 1, &batch);
        memcpy((uint8_t *)bytes + ((const uint8_t *)col.values - bytes), value, width);
    }
    err_t err = batch_open(bytes, size, NULL, 0, &col, 1, &batch);
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
    free(bytes);
    batch_builder_free(b);
}

static void test_bad_values(void)
{
    uint8_t two = 2;
    int64_t too_many = 86400000001LL;
    int64_t negative = -1;
    int32_t date = INT32_MIN + 1;
    struct numeric special = {.special = 4};
    struct numeric scale = {.scale = 39};
    struct numeric huge = {.hi = INT64_MAX};
    expect_refused(TYPE_BOOL, &two, 1);
    expect_refused(TYPE_TIME, &too_many, 8);
    expect_refused(TYPE_OID, &negative, 8);
    expect_refused(TYPE_DATE, &date, 4);
    expect_refused(TYPE_NUMERIC, &special, sizeof(special));
    expect_refused(TYPE_NUMERIC, &scale, sizeof(scale));
    expect_refused(TYPE_NUMERIC, &huge, sizeof(huge));
    expect_refused(TYPE_TEXT, "\xff", 1);
    expect_refused(TYPE_TEXT, "a\0b", 3);
    expect_refused(TYPE_JSONB, "{\"a\":1}", 7);
    expect_refused(TYPE_JSONB, "", 0);
}

/* ---- encoded rows ---------------------------------------------------------------------------- */

static void test_encode(void)
{
    seed = 13;
    for (int round = 0; round < 100; round++) {
        struct model m = random_model(50, 8);
        struct batch_builder *b = build(&m);
        struct batch_col cols[8];
        struct batch_col again_cols[8];
        struct batch batch;
        struct batch again;
        void *bytes = open_built(b, &m, cols, &batch);
        struct batch_builder *out = batch_builder_new(m.kinds, m.cols);
        struct buf row = {0};
        for (uint32_t r = 0; r < m.rows; r++) {
            buf_clear(&row);
            batch_encode_row(&batch, r, NULL, 0, false, &row);
            CU_ASSERT_EQUAL(batch_decode_row(row.data, m.kinds, m.cols, out, 0), row.len);
            batch_builder_end_row(out, m.times[r], m.diffs[r]);
            size_t at = 0;
            for (uint32_t c = 0; c < m.cols; c++) {
                struct datum d;
                at += batch_decode_datum(row.data + at, m.kinds[c], &d);
                CU_ASSERT(same_bytes(m.kinds[c], &d, &m.values[r * m.cols + c]));
            }
            CU_ASSERT_EQUAL(at, row.len);
        }
        void *copy = open_built(out, &m, again_cols, &again);
        CU_ASSERT(again.size == batch.size && memcmp(copy, bytes, again.size) == 0);
        free(copy);
        free(bytes);
        buf_free(&row);
        batch_builder_free(out);
        batch_builder_free(b);
        model_free(&m);
    }
}

/* Any rows and columns of a batch at once: the same bytes as one row after another. */
static void encode_block(const struct batch *batch, const uint32_t *cols, size_t cols_len,
                         bool canonical)
{
    uint32_t rows[64];
    uint32_t ends[64];
    struct buf block = {0};
    struct buf one = {0};
    buf_append_str(&block, "before"); /* it appends */
    buf_append_str(&one, "before");
    for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
        rows[i] = below(batch->rows);
    }
    uint32_t len = below(ARRAY_LEN(rows) + 1);
    batch_encode_rows(batch, rows, len, cols, cols_len, canonical, &block, ends);
    for (uint32_t i = 0; i < len; i++) {
        batch_encode_row(batch, rows[i], cols, cols_len, canonical, &one);
        CU_ASSERT_EQUAL(ends[i], one.len);
    }
    CU_ASSERT_FATAL(block.len == one.len && memcmp(block.data, one.data, one.len) == 0);
    buf_free(&block);
    buf_free(&one);
}

static void test_encode_rows(void)
{
    seed = 17;
    for (int round = 0; round < 400; round++) {
        struct model m = random_model(70, 8);
        if (m.rows == 0) {
            model_free(&m);
            continue;
        }
        bool nulls = below(2);
        for (size_t i = 0; i < (size_t)m.rows * m.cols && !nulls; i++) {
            m.values[i].null = false;
            while (m.values[i].s == NULL && type_is_variable(m.kinds[i % m.cols])) {
                m.values[i] = random_datum(m.kinds[i % m.cols]);
            }
        }
        struct batch_builder *b = build(&m);
        struct batch_col cols[8];
        struct batch batch;
        void *bytes = open_built(b, &m, cols, &batch);
        uint32_t chosen[4] = {0};
        for (uint32_t i = 0; i < ARRAY_LEN(chosen) && m.cols > 0; i++) {
            chosen[i] = below(m.cols);
        }
        for (int canonical = 0; canonical < 2; canonical++) {
            encode_block(&batch, NULL, 0, canonical == 1);
            encode_block(&batch, chosen, m.cols > 0 ? below(ARRAY_LEN(chosen) + 1) : 0,
                         canonical == 1);
        }
        free(bytes);
        batch_builder_free(b);
        model_free(&m);
    }
}

/* Values SQL holds equal have one canonical encoding, one hash, and different raw bytes. */
static void test_canonical(void)
{
    static const struct {
        uint8_t kind;
        const char *a;
        const char *b;
    } pairs[] = {
        {TYPE_NUMERIC, "1.0", "1.000"},       {TYPE_NUMERIC, "0.00", "0"},
        {TYPE_NUMERIC, "100", "100.0"},       {TYPE_FLOAT8, "0", "-0"},
        {TYPE_FLOAT4, "0", "-0"},             {TYPE_INTERVAL, "1 mon", "30 days"},
        {TYPE_INTERVAL, "1 day", "24:00:00"}, {TYPE_JSONB, "[1.0, \"1.0\"]", "[1, \"1.0\"]"},
        {TYPE_JSONB, "{\"a\": 2.50}", "{\"a\": 2.5}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        struct arena arena = {0};
        struct type type = type_of(pairs[i].kind);
        struct batch_builder *b = batch_builder_new(&pairs[i].kind, 1);
        const char *texts[] = {pairs[i].a, pairs[i].b};
        struct datum d[2];
        for (int k = 0; k < 2; k++) {
            err_t err = datum_parse(&type, texts[k], strlen(texts[k]), &arena, &d[k]);
            CU_ASSERT_PTR_NULL_FATAL(err);
            batch_builder_datum(b, 0, &d[k]);
            batch_builder_end_row(b, 0, 1);
        }
        size_t size;
        void *bytes = batch_builder_finish_new(b, &size);
        struct batch_col col;
        struct batch batch;
        uint64_t hashes[2];
        struct buf rows[2] = {0};
        struct buf raw[2] = {0};
        batch_view(bytes, size, &col, 1, &batch);
        batch_hash_rows(&batch, NULL, 0, hashes);
        for (uint32_t k = 0; k < 2; k++) {
            batch_encode_row(&batch, k, NULL, 0, true, &rows[k]);
            batch_encode_row(&batch, k, NULL, 0, false, &raw[k]);
        }
        CU_ASSERT_EQUAL(hashes[0], hashes[1]);
        CU_ASSERT(rows[0].len == rows[1].len &&
                  memcmp(rows[0].data, rows[1].data, rows[0].len) == 0);
        CU_ASSERT(raw[0].len != raw[1].len || memcmp(raw[0].data, raw[1].data, raw[0].len) != 0);
        CU_ASSERT(datum_equal(pairs[i].kind, &d[0], &d[1]));
        CU_ASSERT_EQUAL(datum_hash(pairs[i].kind, &d[0]), datum_hash(pairs[i].kind, &d[1]));
        for (int k = 0; k < 2; k++) {
            buf_free(&rows[k]);
            buf_free(&raw[k]);
        }
        free(bytes);
        batch_builder_free(b);
        arena_free(&arena);
    }
}

/* No column means no column, whatever cols points to. */
static void test_no_columns(void)
{
    uint8_t kind = TYPE_INT4;
    struct batch_builder *b = batch_builder_new(&kind, 1);
    for (int64_t v = 0; v < 3; v++) {
        batch_builder_datum(b, 0, &(struct datum){.i = v});
        batch_builder_end_row(b, 0, 1);
    }
    size_t size;
    void *bytes = batch_builder_finish_new(b, &size);
    struct batch_col col;
    struct batch batch;
    uint32_t none = 0;
    uint64_t hashes[3];
    struct buf row = {0};
    batch_view(bytes, size, &col, 1, &batch);
    batch_hash_rows(&batch, &none, 0, hashes);
    batch_encode_row(&batch, 1, &none, 0, true, &row);
    CU_ASSERT(hashes[0] == hashes[1] && hashes[1] == hashes[2]);
    CU_ASSERT_EQUAL(row.len, 0);
    buf_free(&row);
    free(bytes);
    batch_builder_free(b);
}

/* ---- consolidation --------------------------------------------------------------------------- */

/* Adds up the diffs of (encoded row, time) over all batches. */
static int64_t naive_diff(const struct batch *const *in, size_t in_len, uint64_t advance_to,
                          const struct buf *row, uint64_t time)
{
    int64_t sum = 0;
    struct buf other = {0};
    for (size_t i = 0; i < in_len; i++) {
        for (uint32_t r = 0; r < in[i]->rows; r++) {
            uint64_t t = batch_time(in[i], r);
            buf_clear(&other);
            batch_encode_row(in[i], r, NULL, 0, false, &other);
            if ((t < advance_to ? advance_to : t) == time && other.len == row->len &&
                (row->len == 0 || memcmp(other.data, row->data, row->len) == 0)) {
                sum += batch_diff(in[i], r);
            }
        }
    }
    buf_free(&other);
    return sum;
}

static uint64_t total_of(const struct batch *const *in, size_t in_len)
{
    uint64_t n = 0;
    for (size_t i = 0; i < in_len; i++) {
        for (uint32_t r = 0; r < in[i]->rows; r++) {
            n += (uint64_t)batch_diff(in[i], r);
        }
    }
    return n;
}

static void check_consolidated(const struct batch *const *in, size_t in_len, uint64_t advance_to,
                               const struct batch *out)
{
    struct buf row = {0};
    uint64_t last = 0;
    for (uint32_t r = 0; r < out->rows; r++) {
        uint64_t time = batch_time(out, r);
        buf_clear(&row);
        batch_encode_row(out, r, NULL, 0, false, &row);
        CU_ASSERT(time >= last && time >= advance_to);
        CU_ASSERT_NOT_EQUAL(batch_diff(out, r), 0);
        CU_ASSERT_EQUAL(naive_diff(in, in_len, advance_to, &row, time), batch_diff(out, r));
        /* Each (row, time) once. */
        const struct batch *self = out;
        CU_ASSERT_EQUAL(naive_diff(&self, 1, 0, &row, time), batch_diff(out, r));
        last = time;
    }
    const struct batch *self = out;
    CU_ASSERT_EQUAL(total_of(&self, 1), total_of(in, in_len));
    buf_free(&row);
}

static void test_consolidate(void)
{
    seed = 14;
    for (int round = 0; round < 60; round++) {
        struct model m[3];
        struct batch_builder *b[3];
        struct batch_col cols[3][8];
        struct batch batch[3];
        void *bytes[3];
        const struct batch *in[3];
        for (int i = 0; i < 3; i++) {
            if (i == 0) {
                m[0] = random_model(60, 2);
            } else { /* the same columns in all: some of the first one's rows */
                m[i] = m[0];
                m[i].rows = m[0].rows == 0 ? 0 : below(m[0].rows + 1);
            }
            b[i] = build(&m[i]);
            bytes[i] = open_built(b[i], &m[i], cols[i], &batch[i]);
            in[i] = &batch[i];
        }
        struct batch_builder *out = batch_builder_new(m[0].kinds, m[0].cols);
        for (uint64_t advance_to = 0; advance_to < 8; advance_to += 2) {
            struct batch_col out_cols[8];
            struct batch result;
            size_t size;
            batch_builder_reset(out);
            batch_consolidate(in, 3, advance_to, out);
            void *done = batch_builder_finish_new(out, &size);
            CU_ASSERT_PTR_NULL_FATAL(batch_open(done, size, m[0].kinds, m[0].cols, out_cols, 8,
                                                &result));
            check_consolidated(in, 3, advance_to, &result);
            free(done);
        }
        batch_builder_free(out);
        for (int i = 0; i < 3; i++) {
            free(bytes[i]);
            batch_builder_free(b[i]);
        }
        model_free(&m[0]);
    }
}

/* Rows of up to four words: column 0 below WIDE, the others below 3; so a row has a number. */
enum { WIDE = 5000, ROW_NUMBERS = WIDE * 27, WORD_TIMES = 3 };

static const uint8_t word_kinds[4][4] = {{TYPE_INT8, TYPE_BOOL, TYPE_INT2, TYPE_DATE},
                                         {TYPE_INT4, TYPE_INT8, TYPE_BOOL, TYPE_INT2},
                                         {TYPE_FLOAT8, TYPE_INT4, TYPE_INT8, TYPE_INT8},
                                         {TYPE_INT2, TYPE_INT2, TYPE_TIME, TYPE_FLOAT4}};

static double word_of(const struct batch_col *c, uint32_t row)
{
    struct datum d;
    batch_datum(c, row, &d);
    bool is_float = c->kind == TYPE_FLOAT4 || c->kind == TYPE_FLOAT8;
    return c->kind == TYPE_BOOL ? d.b : is_float ? d.f : (double)d.i;
}

static void append_words(struct batch_builder *b, const uint8_t *kinds, uint32_t cols,
                         uint32_t rows, uint64_t time, uint32_t heavy, int64_t *sums)
{
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t number = 0;
        bool same = below(100) < heavy; /* many equal rows: one partition much larger */
        for (uint32_t c = 0; c < cols; c++) {
            bool two = kinds[c] == TYPE_BOOL;
            uint32_t v = same ? 1 : below(c == 0 ? WIDE : two ? 2 : 3);
            bool is_float = kinds[c] == TYPE_FLOAT4 || kinds[c] == TYPE_FLOAT8;
            struct datum d = {.i = v};
            d = two ? (struct datum){.b = v != 0} : is_float ? (struct datum){.f = v} : d;
            batch_builder_datum(b, c, &d);
            number = c == 0 ? v : number * 3 + v;
        }
        int64_t diff = (int64_t)below(5) - 2;
        batch_builder_end_row(b, time, diff);
        sums[time % WORD_TIMES * ROW_NUMBERS + number] += diff;
    }
}

/* Every row once, with the sum it must have; afterwards nothing is left over. */
static void check_words(const struct batch *out, bool ordered, int64_t *sums)
{
    uint64_t last = 0;
    for (uint32_t r = 0; r < out->rows; r++) {
        uint32_t number = 0;
        for (uint32_t c = 0; c < out->cols; c++) {
            uint32_t v = (uint32_t)word_of(&out->col[c], r);
            number = c == 0 ? v : number * 3 + v;
        }
        uint64_t time = batch_time(out, r);
        int64_t *sum = &sums[time % WORD_TIMES * ROW_NUMBERS + number];
        CU_ASSERT((time >= last || !ordered) && batch_diff(out, r) != 0);
        CU_ASSERT_EQUAL(batch_diff(out, r), *sum);
        *sum = 0;
        last = time;
    }
    for (uint32_t i = 0; i < WORD_TIMES * ROW_NUMBERS; i++) {
        CU_ASSERT_EQUAL(sums[i], 0);
    }
}

/* No step takes or puts out more than a few thousand rows, however many are equal. */
static void merge_in_steps(const struct batch *const *in, size_t in_len, bool one_time,
                           const uint8_t *kinds, struct batch_builder *out)
{
    const struct batch *some[WORD_TIMES];
    size_t len = 0;
    uint64_t rows = 0;
    uint64_t taken = 0;
    for (size_t i = 0; i < in_len; i++) {
        if (in[i]->rows > 0) {
            some[len++] = in[i];
            rows += in[i]->rows;
        }
    }
    if (len == 0) {
        return;
    }
    struct batch_merge *merge = batch_merge_new(kinds, in[0]->cols);
    batch_merge_begin(merge, some, len, one_time);
    bool more = true;
    while (more) {
        uint32_t work = 0;
        uint32_t before = batch_builder_rows(out);
        more = batch_merge_step(merge, out, &work);
        CU_ASSERT(work <= 4096 && batch_builder_rows(out) - before <= 16384);
        taken += work;
    }
    CU_ASSERT_EQUAL(taken, 3 * rows);
    batch_merge_begin(merge, some, len, one_time); /* left unfinished: nothing leaks */
    batch_merge_free(merge);
}

/* times: 1 or WORD_TIMES, a batch each, ascending; the output already holds a row or none. */
static void consolidate_words(uint32_t rows, uint32_t cols, const uint8_t *kinds, uint32_t times,
                              uint32_t heavy, bool steps, int64_t *sums)
{
    struct batch_builder *b[WORD_TIMES];
    struct batch_col batch_cols[WORD_TIMES][4];
    struct batch batch[WORD_TIMES];
    const struct batch *in[WORD_TIMES];
    void *bytes[WORD_TIMES];
    for (uint32_t i = 0; i < WORD_TIMES; i++) {
        size_t size;
        b[i] = batch_builder_new(kinds, cols);
        append_words(b[i], kinds, cols, i == 1 ? rows / 7 : rows, times == 1 ? 4 : 3 + i, heavy,
                     sums);
        bytes[i] = batch_builder_finish_new(b[i], &size);
        batch_view(bytes[i], size, batch_cols[i], 4, &batch[i]);
        in[i] = &batch[i];
    }
    struct batch_builder *out = batch_builder_new(kinds, cols);
    if (times == 1) { /* the way that is meant to be taken, taken for sure */
        CU_ASSERT_TRUE(batch_consolidate_words(in, WORD_TIMES, 4, out));
        batch_builder_reset(out);
    }
    if (steps) {
        merge_in_steps(in, WORD_TIMES, times == 1, kinds, out);
    } else {
        batch_consolidate(in, WORD_TIMES, 0, out);
    }
    size_t size;
    void *done = batch_builder_finish_new(out, &size);
    struct batch_col out_cols[4];
    struct batch result;
    CU_ASSERT_PTR_NULL_FATAL(batch_open(done, size, kinds, cols, out_cols, 4, &result));
    check_words(&result, !steps, sums);
    free(done);
    batch_builder_free(out);
    for (uint32_t i = 0; i < WORD_TIMES; i++) {
        free(bytes[i]);
        batch_builder_free(b[i]);
    }
}

static void test_consolidate_words(void)
{
    seed = 15;
    int64_t *sums = calloc(WORD_TIMES * (size_t)ROW_NUMBERS, sizeof(*sums));
    CU_ASSERT_PTR_NOT_NULL_FATAL(sums);
    for (uint32_t round = 0; round < 48; round++) {
        uint32_t rows = round % 3 == 0 ? below(40) : below(24000); /* one partition, or up to 16 */
        consolidate_words(rows, 1 + round % 4, word_kinds[round / 4 % 4],
                          round % 2 == 0 ? 1 : WORD_TIMES, round % 5 == 0 ? 90 : 1, round >= 24,
                          sums);
    }
    free(sums);
}

/* A column nobody reads has no memory, nor has a slice of it. */
static void test_slice_unread(void)
{
    struct batch_col unread = {.kind = TYPE_INT4};
    struct batch batch = {.rows = 100, .cols = 1, .col = &unread};
    struct batch_col col;
    struct batch slice;
    batch_slice(&batch, 64, 36, &col, &slice);
    CU_ASSERT(slice.rows == 36 && col.kind == TYPE_INT4);
    CU_ASSERT(col.values == NULL && col.validity == NULL && col.offsets == NULL);
}

static void test_set_time(void)
{
    uint8_t kind = TYPE_INT4;
    struct batch_builder *b = batch_builder_new(&kind, 1);
    for (int64_t v = 0; v < 100; v++) {
        batch_builder_datum(b, 0, &(struct datum){.i = v});
        batch_builder_end_row(b, (uint64_t)v, 1);
    }
    batch_builder_set_time(b, 77);
    size_t size;
    void *bytes = batch_builder_finish_new(b, &size);
    struct batch_col col;
    struct batch batch;
    CU_ASSERT_PTR_NULL_FATAL(batch_open(bytes, size, &kind, 1, &col, 1, &batch));
    CU_ASSERT_PTR_NULL(batch.times);
    CU_ASSERT_EQUAL(batch_time(&batch, 50), 77);
    CU_ASSERT_EQUAL(batch_diff(&batch, 50), 1);
    free(bytes);
    batch_builder_free(b);
}

/* Every part is, byte for byte, what a builder makes of the rows whose hashes say so. */
static void check_split(const struct model *m, const struct batch *b, struct batch_split *split,
                        const uint64_t *hashes, uint32_t parts)
{
    void **places = mem_zalloc(parts * sizeof(void *));
    uint32_t *sel = mem_alloc(b->rows * sizeof(uint32_t));
    uint32_t left_out = below(parts + 1); /* somebody's rows are not wanted, or all are */
    batch_split_begin(split, b, hashes, parts);
    for (uint32_t p = 0; p < parts; p++) {
        if (p != left_out && batch_split_rows(split, p) > 0) {
            size_t size = batch_split_size(split, p);
            places[p] = aligned_alloc(BATCH_ALIGN, size);
            memset(places[p], 0xAA, size);
        }
    }
    uint32_t rows = 0;
    for (uint32_t p = 0; p < parts; p++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < b->rows; i++) {
            if ((uint32_t)((hashes[i] >> 32) * parts >> 32) == p) {
                sel[n++] = i;
            }
        }
        CU_ASSERT_EQUAL_FATAL(batch_split_rows(split, p), n);
        rows += n;
    }
    CU_ASSERT_EQUAL(rows, b->rows);
    batch_split_write(split, places);
    for (uint32_t p = 0; p < parts; p++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < b->rows; i++) {
            if ((uint32_t)((hashes[i] >> 32) * parts >> 32) == p) {
                sel[n++] = i;
            }
        }
        if (places[p] != NULL) {
            size_t size;
            struct batch_builder *builder = batch_builder_new(m->kinds, m->cols);
            batch_builder_rows_of(builder, b, sel, n);
            void *want = batch_builder_finish_new(builder, &size);
            CU_ASSERT_EQUAL(memcmp(want, places[p], size), 0);
            free(want);
            batch_builder_free(builder);
        }
        free(places[p]);
    }
    free(sel);
    free(places);
}

static void test_split(void)
{
    struct batch_split *split = batch_split_new();
    for (int round = 0; round < 120; round++) {
        struct model m = random_model(round % 10 == 0 ? 20000 : 200, 8);
        struct batch_builder *builder = build(&m);
        struct batch_col cols[8];
        struct batch b;
        void *bytes = open_built(builder, &m, cols, &b);
        uint64_t *hashes = mem_alloc((m.rows + 1) * sizeof(uint64_t));
        for (uint32_t i = 0; i < m.rows; i++) {
            hashes[i] = round % 7 == 0 ? UINT64_MAX : next_random();
        }
        if (m.rows > 0) {
            uint32_t parts[] = {2, 3, 2 + below(16), 256, 2 + below(1000)};
            check_split(&m, &b, split, hashes, parts[below(ARRAY_LEN(parts))]);
        }
        free(hashes);
        free(bytes);
        batch_builder_free(builder);
        model_free(&m);
    }
    batch_split_free(split);
}

/* What stands in a NULL's place does not come in: else two NULLs would be two values. */
static void test_under_null(void)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT2, TYPE_BOOL};
    enum { ROWS = 130 };
    struct batch_builder *b = batch_builder_new(kinds, 3);
    for (int64_t i = 0; i < ROWS; i++) {
        for (size_t c = 0; c < 3; c++) {
            struct datum d = {.null = i % 3 == (int64_t)c};
            d.i = d.null || kinds[c] == TYPE_BOOL ? 0 : i;
            batch_builder_datum(b, c, &d);
        }
        batch_builder_end_row(b, 1, 1);
    }
    size_t len;
    uint8_t *bytes = batch_builder_finish_new(b, &len);
    struct batch_col cols[3];
    struct batch view;
    CU_ASSERT_FATAL(batch_open(bytes, len, kinds, 3, cols, 3, &view) == ERR_OK);
    uint8_t *copy = aligned_alloc(64, (len + 63) / 64 * 64);
    memcpy(copy, bytes, len);
    for (uint32_t row = 0; row < ROWS; row++) {
        size_t c = row % 3;
        size_t width = type_width(kinds[c]);
        size_t at = (size_t)((const uint8_t *)cols[c].values - bytes) + row * width;
        memset(copy + at, 1, width);
    }
    uint8_t *to = aligned_alloc(64, (len + 63) / 64 * 64);
    CU_ASSERT(batch_open_copy(copy, len, kinds, 3, NULL, to, cols, 3, &view) == ERR_OK);
    CU_ASSERT(memcmp(to, bytes, len) == 0);
    free(to);
    free(copy);
    free(bytes);
    batch_builder_free(b);
}

static const struct test_case cases[] = {
    {"batch_split", test_split},
    {"batch_under_null", test_under_null},
    {"batch_round_trip", test_round_trip},   {"batch_hostile", test_hostile},
    {"batch_bad_values", test_bad_values},   {"batch_encode", test_encode},
    {"batch_canonical", test_canonical},     {"batch_no_columns", test_no_columns},
    {"batch_slice_unread", test_slice_unread},
    {"batch_consolidate", test_consolidate}, {"batch_set_time", test_set_time},
    {"batch_encode_rows", test_encode_rows}, {"batch_consolidate_words", test_consolidate_words},
};
TEST_SUITE("core/data batch", cases)
