/*
 * Writes seeds for fuzz_plan into a folder: the encoded sample plans, an mfp, a peek and an error,
 * each behind the byte that tells the fuzzer what it is.
 *
 *     plan_corpus tests/fuzz/corpus/fuzz_plan
 */
#include "core/base/mem.h"
#include "ctrl/plan/plan_codec.h"
#include "tests/unit/ctrl/plan/sample_plans.h"

#include <stdio.h>

static int write_seed(const char *folder, const char *name, uint8_t type,
                      const pb_msgdesc_t *fields, const void *message)
{
    struct buf buf = {0};
    buf_append(&buf, &type, 1);
    ASSERT(rpc_pb_encode(fields, message, &buf) == ERR_OK);
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    bool ok = file != NULL && fwrite(buf.data, 1, buf.len, file) == buf.len;
    ok = file != NULL && fclose(file) == 0 && ok;
    buf_free(&buf);
    if (!ok) {
        perror(path);
    }
    return ok ? 0 : 1;
}

static int write_plan(const char *folder, const char *name, struct plan *plan)
{
    struct arena arena = {0};
    tailrace_v1_Plan message;
    plan_codec_encode(plan, &arena, &message);
    int failed = write_seed(folder, name, 0, tailrace_v1_Plan_fields, &message);
    arena_free(&arena);
    plan_free(plan);
    return failed;
}

static int write_parts(const char *folder)
{
    struct plan *plan = sample_plan_operators();
    struct arena arena = {0};
    const struct plan_order order = {.col = 1, .desc = true};
    tailrace_v1_Peek peek = {.id = 1, .index = 2, .time = 3, .has_mfp = true, .limit = -1};
    plan_codec_encode_mfp(&plan->nodes[2].mfp, &arena, &peek.mfp);
    peek.order_count = 1;
    peek.order = plan_codec_encode_order(&order, 1, &arena);
    uint32_t kinds[] = {TYPE_INT8};
    peek.key_kinds = kinds;
    peek.key_kinds_count = 1;
    static const uint8_t kind = TYPE_INT8;
    struct batch_builder *builder = batch_builder_new(&kind, 1);
    batch_builder_datum(builder, 0, &(struct datum){.i = 7});
    batch_builder_end_row(builder, 0, 1);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(builder, &size);
    batch_builder_free(builder);
    peek.has_keys = true;
    peek.keys.data = (struct rpc_bytes){bytes, size};
    int failed = write_seed(folder, "peek", 1, tailrace_v1_Peek_fields, &peek);
    failed |= write_seed(folder, "mfp", 2, tailrace_v1_Mfp_fields, &peek.mfp);
    err_t err = err_sql(ERR_INVALID, "22012", "division by zero");
    err_detail(err, "a detail");
    tailrace_v1_Error error;
    plan_codec_encode_err(err, &arena, &error);
    failed |= write_seed(folder, "error", 3, tailrace_v1_Error_fields, &error);
    err_free(err);
    free(bytes);
    arena_free(&arena);
    plan_free(plan);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: plan_corpus FOLDER\n");
        return 2;
    }
    int failed = write_plan(argv[1], "operators", sample_plan_operators());
    failed |= write_plan(argv[1], "constant", sample_plan_constant());
    failed |= write_plan(argv[1], "literals", sample_plan_literals());
    failed |= write_plan(argv[1], "empty", sample_plan_empty());
    return failed | write_parts(argv[1]);
}
