/*
 * Hostile messages of the controller protocol against the plan codec: what decodes is valid, says
 * the same after another round trip, prints, and (programs) runs over a row of NULLs and one of
 * zeros. The first byte chooses plan, peek, mfp or error. Seeds: tests/unit/ctrl/plan/plan_corpus.
 */
#include "core/base/mem.h"
#include "ctrl/plan/plan_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run_mfp(const struct mfp *mfp, const uint8_t *kinds, const uint8_t *out_kinds)
{
    struct batch_builder *rows = batch_builder_new(kinds, mfp->input_cols);
    for (int null = 0; null < 2; null++) {
        for (uint32_t c = 0; c < mfp->input_cols; c++) {
            struct datum d = {.null = null != 0};
            if (type_is_variable(kinds[c])) {
                d.s = "0";
                d.len = 1;
            }
            batch_builder_datum(rows, c, &d);
        }
        batch_builder_end_row(rows, 1, 1);
    }
    size_t size = 0;
    void *bytes = batch_builder_finish_new(rows, &size);
    struct batch_col *cols = mem_alloc((mfp->input_cols + 1) * sizeof(cols[0]));
    struct batch view;
    batch_view(bytes, size, cols, mfp->input_cols, &view);
    struct batch_builder *ok = batch_builder_new(out_kinds, mfp->project_len);
    struct batch_builder *err = batch_builder_new(batch_err_kinds, ERR_COLS);
    struct mfp_prog *prog = mfp_compile(mfp, kinds, "fuzz");
    mfp_run(prog, &view, 0, ok, err);
    ASSERT(batch_builder_rows(ok) + batch_builder_rows(err) <= 2);
    mfp_prog_free(prog);
    batch_builder_free(ok);
    batch_builder_free(err);
    batch_builder_free(rows);
    free(cols);
    free(bytes);
}

/* Over input columns of each kind in turn. */
static void fuzz_mfp(const tailrace_v1_Mfp *message)
{
    struct arena arena = {0};
    struct mfp mfp;
    err_t err = plan_codec_decode_mfp(message, &arena, &mfp);
    if (err == ERR_OK && mfp.input_cols <= 64) {
        struct type *input = ARENA_ARRAY(&arena, struct type, mfp.input_cols + 1);
        uint8_t *kinds = ARENA_ARRAY(&arena, uint8_t, mfp.input_cols + 1);
        for (uint32_t c = 0; c < mfp.input_cols; c++) {
            /* The first two as in the seeds, then one of every kind that is stored. */
            static const uint8_t first[] = {TYPE_INT8, TYPE_TEXT};
            kinds[c] = c < 2 ? first[c] : (uint8_t)(c % (TYPE_UNKNOWN - 1) + 1);
            input[c] = type_of(kinds[c]);
        }
        struct type *output = NULL;
        err = mfp_validate(&mfp, input, mfp.input_cols, &arena, &output);
        if (err == ERR_OK) {
            uint8_t *out_kinds = ARENA_ARRAY(&arena, uint8_t, mfp.project_len + 1);
            for (uint32_t c = 0; c < mfp.project_len; c++) {
                out_kinds[c] = output[c].kind;
            }
            run_mfp(&mfp, kinds, out_kinds);
        }
    }
    err_free(err);
    arena_free(&arena);
}

static struct buf encode(const struct plan *plan)
{
    struct arena arena = {0};
    struct buf buf = {0};
    tailrace_v1_Plan message;
    plan_codec_encode(plan, &arena, &message);
    ASSERT(rpc_pb_encode(tailrace_v1_Plan_fields, &message, &buf) == ERR_OK);
    arena_free(&arena);
    return buf;
}

static void fuzz_plan(const tailrace_v1_Plan *message)
{
    struct plan *plan = NULL;
    err_t err = plan_codec_decode(message, &plan);
    if (err != ERR_OK) {
        err_free(err);
        return;
    }
    ASSERT(plan_validate(plan) == ERR_OK);
    struct buf once = encode(plan);
    tailrace_v1_Plan again;
    ASSERT(rpc_decode_pb(tailrace_v1_Plan_fields, &again, once.data, once.len) == ERR_OK);
    struct plan *second = NULL;
    ASSERT(plan_codec_decode(&again, &second) == ERR_OK);
    rpc_release_pb(tailrace_v1_Plan_fields, &again);
    struct buf twice = encode(second);
    ASSERT(once.len == twice.len &&
           (once.len == 0 || memcmp(once.data, twice.data, once.len) == 0));
    struct buf text = {0};
    plan_print(plan, &text);
    buf_free(&text);
    buf_free(&once);
    buf_free(&twice);
    plan_free(plan);
    plan_free(second);
}

static void fuzz_peek(const tailrace_v1_Peek *peek)
{
    struct arena arena = {0};
    uint8_t *kinds = ARENA_ARRAY(&arena, uint8_t, peek->key_kinds_count + 1);
    for (uint32_t i = 0; i < peek->key_kinds_count; i++) {
        kinds[i] = (uint8_t)peek->key_kinds[i];
    }
    void *storage = NULL;
    struct batch keys;
    if (peek->has_keys && peek->key_kinds_count <= BATCH_COLS_MAX) {
        err_free(plan_codec_open_batch(&peek->keys.data, kinds, peek->key_kinds_count, &arena,
                                       &storage, &keys));
        free(storage);
    }
    plan_codec_decode_order(peek->order, peek->order_count, &arena);
    fuzz_mfp(&peek->mfp);
    arena_free(&arena);
}

union any {
    tailrace_v1_Plan plan;
    tailrace_v1_Peek peek;
    tailrace_v1_Mfp mfp;
    tailrace_v1_Error error;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const pb_msgdesc_t *const types[] = {tailrace_v1_Plan_fields, tailrace_v1_Peek_fields,
                                                tailrace_v1_Mfp_fields, tailrace_v1_Error_fields};
    if (size == 0) {
        return 0;
    }
    size_t type = data[0] % ARRAY_LEN(types);
    union any message;
    err_t err = rpc_decode_pb(types[type], &message, data + 1, size - 1);
    if (err != ERR_OK) {
        err_free(err);
        return 0;
    }
    switch (type) {
    case 0: fuzz_plan(&message.plan); break;
    case 1: fuzz_peek(&message.peek); break;
    case 2: fuzz_mfp(&message.mfp); break;
    default: err_free(plan_codec_decode_err(&message.error)); break;
    }
    rpc_release_pb(types[type], &message);
    return 0;
}
