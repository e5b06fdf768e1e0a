/*
 * batch_open on arbitrary bytes; what it accepts is then read, printed, hashed, encoded, built
 * again and consolidated: nothing of that may depend on more than batch_open promised.
 */
#include "core/data/batch.h"
#include "core/data/expr.h"

#include <stdlib.h>

enum { COLS_MAX = 64, ROWS_SHOWN = 64 };

static void touch_rows(const struct batch *b)
{
    struct buf text = {0};
    struct buf row = {0};
    for (uint32_t r = 0; r < b->rows && r < ROWS_SHOWN; r++) {
        buf_clear(&row);
        batch_encode_row(b, r, NULL, 0, true, &row);
        for (uint32_t c = 0; c < b->cols; c++) {
            struct type type = type_of(b->col[c].kind);
            struct datum d;
            batch_datum(&b->col[c], r, &d);
            if (!d.null) {
                buf_clear(&text);
                datum_print(&type, &d, &text);
                datum_send(&type, &d, &text);
                if (datum_compare(type.kind, &d, &d) != 0) {
                    abort();
                }
                (void)datum_hash(type.kind, &d);
            }
        }
    }
    buf_free(&text);
    buf_free(&row);
}

static void rebuild(const struct batch *b)
{
    uint8_t kinds[COLS_MAX];
    struct batch_col cols[COLS_MAX];
    struct batch again;
    for (uint32_t c = 0; c < b->cols; c++) {
        kinds[c] = b->col[c].kind;
    }
    struct batch_builder *out = batch_builder_new(kinds, b->cols);
    batch_builder_rows_of(out, b, NULL, 0);
    size_t size;
    void *bytes = batch_builder_finish_new(out, &size);
    err_t err = batch_open(bytes, size, kinds, b->cols, cols, COLS_MAX, &again);
    if (err != ERR_OK) {
        abort(); /* what we build from an accepted batch must be accepted */
    }
    batch_builder_reset(out);
    const struct batch *in[] = {b, &again};
    batch_consolidate(in, 2, 7, out);
    free(bytes);
    batch_builder_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_col cols[COLS_MAX];
    struct batch batch;
    void *copy = aligned_alloc(BATCH_ALIGN, (size + BATCH_ALIGN) / BATCH_ALIGN * BATCH_ALIGN);
    memcpy(copy, data, size);
    err_t err = batch_open(copy, size, NULL, 0, cols, COLS_MAX, &batch);
    if (err == ERR_OK) {
        uint64_t *hashes = mem_alloc((batch.rows + 1) * sizeof(uint64_t));
        batch_hash_rows(&batch, NULL, 0, hashes);
        free(hashes);
        touch_rows(&batch);
        rebuild(&batch);
    }
    err_free(err);
    free(copy);
    return 0;
}
