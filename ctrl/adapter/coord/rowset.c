/*
 * The rows of a result: collected with multiplicities, sorted, cut, projected, taken one by one.
 *
 * Rows come as batches whose diff is how often the row is in the result; several workers may each
 * give parts of one row's count, some negative, so they are added up where one is not positive.
 * Finishing follows SQL's order: ORDER BY over the rows as they came (the columns sorted by need
 * not be in the result), then OFFSET and LIMIT counting each copy, then the projection.
 *
 *     rows (a, 2) (b, 1) (c, 3)   offset 1, limit 4   ->   a b c c
 *
 * Bounded by max_bytes while it collects: a result too large for the answer is an error, not an
 * exhausted machine.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord_internal.h"

/* Owned by the read, then by the portal. Until rowset_finish rows gather in builder, from then on
 * they are in batch, which lies in bytes; one of the two is there. */
struct rowset {
    struct arena arena;
    struct type *types;
    uint32_t types_len;
    struct plan_order *order;
    uint32_t order_len;
    int64_t limit, offset;
    uint32_t *project;
    uint32_t project_len;
    size_t max_bytes;
    struct batch_builder *builder; /* until finished */
    void *bytes;                   /* from then on */
    struct batch batch;
    struct batch_col *cols;
    uint32_t *sorted;   /* rows in order; NULL: as they are */
    uint64_t rows;      /* to be taken, in all */
    uint64_t taken;
    uint32_t at;        /* in sorted */
    uint64_t copies;    /* of the row at `at` still to be taken; 0: not looked at yet */
};

/* No order, no cut, all columns. */
struct rowset_spec rowset_plain(const struct type *types, uint32_t types_len, size_t max_bytes)
{
    ASSERT(types != NULL || types_len == 0);
    return (struct rowset_spec){
        .types = types, .types_len = types_len, .limit = -1, .max_bytes = max_bytes};
}

/* The spec may point into a plan that is freed before the rows are taken: all of it is copied. */
struct rowset *rowset_new(const struct rowset_spec *spec)
{
    struct rowset *rs = MEM_NEW(struct rowset);
    struct arena *a = &rs->arena;
    ASSERT(spec->types_len <= BATCH_COLS_MAX);
    rs->types_len = spec->types_len;
    rs->types = ARENA_ARRAY(a, struct type, spec->types_len + 1);
    uint8_t *kinds = ARENA_ARRAY(a, uint8_t, spec->types_len + 1);
    for (uint32_t i = 0; i < spec->types_len; i++) {
        rs->types[i] = spec->types[i];
        kinds[i] = spec->types[i].kind;
        ASSERT(kinds[i] != 0);
    }
    rs->order_len = spec->order_len;
    rs->order = ARENA_ARRAY(a, struct plan_order, spec->order_len + 1);
    for (uint32_t i = 0; i < spec->order_len; i++) {
        ASSERT(spec->order[i].col < spec->types_len);
        rs->order[i] = spec->order[i];
    }
    bool all = spec->project == NULL;
    rs->project_len = all ? spec->types_len : spec->project_len;
    rs->project = ARENA_ARRAY(a, uint32_t, rs->project_len + 1);
    for (uint32_t i = 0; i < rs->project_len; i++) {
        rs->project[i] = all ? i : spec->project[i];
        ASSERT(rs->project[i] < spec->types_len);
    }
    rs->limit = spec->limit;
    rs->offset = spec->offset;
    rs->max_bytes = spec->max_bytes;
    rs->cols = ARENA_ARRAY(a, struct batch_col, spec->types_len + 1);
    rs->builder = batch_builder_new(kinds, spec->types_len);
    return rs;
}

/* NULL is fine: a portal without rows has none. */
void rowset_free(struct rowset *rs)
{
    if (rs == NULL) {
        return;
    }
    if (rs->builder != NULL) {
        batch_builder_free(rs->builder);
    }
    free(rs->bytes);
    free(rs->sorted);
    arena_free(&rs->arena);
    free(rs);
}

/* The size of what was collected, which is close to what will be sent. */
static err_t check_size(const struct rowset *rs, size_t more)
{
    if (more > rs->max_bytes) {
        return err_hint(err_sql(ERR_LIMIT, "54000", "result exceeds the limit of %zu bytes",
                                rs->max_bytes),
                        "Restrict the query, or raise --max-result-bytes.");
    }
    return ERR_OK;
}

/* Diffs are kept as they are; a row may still be cancelled by another worker's part. */
err_t rowset_add_batch(struct rowset *rs, const struct batch *batch)
{
    ASSERT(rs->builder != NULL && batch->cols == rs->types_len);
    size_t have = batch_builder_size(rs->builder);
    TRY(check_size(rs, have + batch->size));
    if ((uint64_t)batch_builder_rows(rs->builder) + batch->rows > BATCH_ROWS_MAX) {
        return err_sql(ERR_LIMIT, "54000", "result has more than %d distinct rows", BATCH_ROWS_MAX);
    }
    batch_builder_rows_of(rs->builder, batch, NULL, 0);
    return ERR_OK;
}

/* Once, so its diff is 1. */
err_t rowset_add_row(struct rowset *rs, const struct datum *row)
{
    ASSERT(rs->builder != NULL);
    uint32_t rows = batch_builder_rows(rs->builder);
    if (rows >= BATCH_ROWS_MAX) {
        return err_sql(ERR_LIMIT, "54000", "result has more than %d rows", BATCH_ROWS_MAX);
    }
    TRY(check_size(rs, batch_builder_size(rs->builder)));
    for (uint32_t i = 0; i < rs->types_len; i++) {
        batch_builder_datum(rs->builder, i, &row[i]);
    }
    batch_builder_end_row(rs->builder, 0, 1);
    return ERR_OK;
}

/* ORDER BY: NULLS FIRST or LAST per column, DESC turned around, each column's own comparison. */
static int compare_rows(const void *pa, const void *pb, void *arg)
{
    const struct rowset *rs = arg;
    uint32_t a = *(const uint32_t *)pa;
    uint32_t b = *(const uint32_t *)pb;
    ASSERT(arg != NULL);
    for (uint32_t i = 0; i < rs->order_len; i++) {
        const struct plan_order *o = &rs->order[i];
        struct datum da;
        struct datum db;
        batch_datum(&rs->cols[o->col], a, &da);
        batch_datum(&rs->cols[o->col], b, &db);
        if (da.null || db.null) {
            if (da.null != db.null) {
                return da.null == o->nulls_first ? -1 : 1;
            }
            continue;
        }
        int c = datum_compare((enum type_kind)rs->types[o->col].kind, &da, &db);
        if (c != 0) {
            return o->desc ? -c : c;
        }
    }
    return a < b ? -1 : a > b; /* stable, hence deterministic */
}

/* Adds up multiplicities of equal rows: parts of workers may cancel each other. */
static void consolidate(struct rowset *rs)
{
    uint8_t *kinds = ARENA_ARRAY(&rs->arena, uint8_t, rs->types_len + 1);
    ASSERT(rs->bytes != NULL);
    for (uint32_t i = 0; i < rs->types_len; i++) {
        kinds[i] = rs->types[i].kind;
    }
    struct batch_builder *out = batch_builder_new(kinds, rs->types_len);
    const struct batch *in[1] = {&rs->batch};
    size_t size = 0;
    batch_consolidate(in, 1, 0, out);
    void *bytes = batch_builder_finish_new(out, &size);
    batch_builder_free(out);
    free(rs->bytes);
    rs->bytes = bytes;
    batch_view(bytes, size, rs->cols, rs->types_len, &rs->batch);
}

/* Constant diffs are one number for the whole batch. */
static bool all_positive(const struct rowset *rs)
{
    ASSERT(rs->builder == NULL);
    if (rs->batch.diffs == NULL) {
        return rs->batch.rows == 0 || rs->batch.diff_const > 0;
    }
    for (uint32_t i = 0; i < rs->batch.rows; i++) {
        if (rs->batch.diffs[i] <= 0) {
            return false;
        }
    }
    return true;
}

/* Advances past the rows OFFSET skips and counts what LIMIT leaves. A row may be in the result many
 * times: OFFSET may end in the middle of its copies. */
static void cut(struct rowset *rs, uint64_t total)
{
    uint64_t offset = rs->offset > 0 ? (uint64_t)rs->offset : 0;
    ASSERT(rs->taken == 0 && rs->at == 0);
    rs->rows = total > offset ? total - offset : 0;
    if (rs->limit >= 0 && (uint64_t)rs->limit < rs->rows) {
        rs->rows = (uint64_t)rs->limit;
    }
    while (offset > 0 && rs->at < rs->batch.rows) {
        uint32_t row = rs->sorted != NULL ? rs->sorted[rs->at] : rs->at;
        uint64_t copies = (uint64_t)batch_diff(&rs->batch, row);
        if (copies > offset) {
            rs->copies = copies - offset;
            return;
        }
        offset -= copies;
        rs->at++;
    }
}

/* Consolidation only where a diff is not positive: usually each row came once, from one worker. */
err_t rowset_finish(struct rowset *rs)
{
    ASSERT(rs->builder != NULL && rs->bytes == NULL);
    size_t size = 0;
    rs->bytes = batch_builder_finish_new(rs->builder, &size);
    batch_builder_free(rs->builder);
    rs->builder = NULL;
    batch_view(rs->bytes, size, rs->cols, rs->types_len, &rs->batch);
    if (!all_positive(rs)) {
        consolidate(rs);
        if (!all_positive(rs)) {
            return err_sql(ERR_INTERNAL, "XX000", "the result holds a row fewer than zero times");
        }
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < rs->batch.rows; i++) {
        total += (uint64_t)batch_diff(&rs->batch, i);
    }
    if (rs->order_len > 0 && rs->batch.rows > 1) {
        rs->sorted = mem_alloc(rs->batch.rows * sizeof(*rs->sorted));
        for (uint32_t i = 0; i < rs->batch.rows; i++) {
            rs->sorted[i] = i;
        }
        qsort_r(rs->sorted, rs->batch.rows, sizeof(*rs->sorted), compare_rows, rs);
    }
    cut(rs, total);
    return ERR_OK;
}

/* True also for an empty one. */
bool rowset_at_end(const struct rowset *rs)
{
    ASSERT(rs->builder == NULL);
    return rs->taken >= rs->rows;
}

/* What OFFSET and LIMIT leave, counting copies. */
uint64_t rowset_rows(const struct rowset *rs)
{
    ASSERT(rs->builder == NULL);
    return rs->rows;
}

/* Columns of a row that rowset_next gives, known before finishing. */
uint32_t rowset_width(const struct rowset *rs)
{
    ASSERT(rs != NULL);
    return rs->project_len;
}

/* Datums of variable width point into the rowset. */
bool rowset_next(struct rowset *rs, struct datum *out)
{
    if (rowset_at_end(rs)) {
        return false;
    }
    ASSERT(rs->at < rs->batch.rows);
    uint32_t row = rs->sorted != NULL ? rs->sorted[rs->at] : rs->at;
    if (rs->copies == 0) {
        rs->copies = (uint64_t)batch_diff(&rs->batch, row);
    }
    for (uint32_t i = 0; i < rs->project_len; i++) {
        batch_datum(&rs->cols[rs->project[i]], row, &out[i]);
    }
    if (--rs->copies == 0) {
        rs->at++;
    }
    rs->taken++;
    return true;
}
