/* The controllers in the simulator, step by step: see controller_world.h. */
#include "tests/unit/ctrl/controller/controller_world.h"

#include "core/base/mem.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static void on_failed(void *ctx, uint64_t cluster, uint64_t dataflow, err_t err)
{
    struct cw *cw = ctx;
    cw->failures++;
    snprintf(cw->failure, sizeof(cw->failure), "%s", err_text(err));
    if (cw->failed_events_drop) {
        controller_export_drop(cw->controller, cluster, INDEX);
    }
}

static const struct controller_events events = {.dataflow_failed = on_failed};

static void env_start(struct io_loop *loop, void *arg)
{
    struct cw *cw = arg;
    cw->loop = loop;
    cw->orchestrator = world_orchestrator_new(cw->world, loop);
    const struct controller_config config = {
        .loop = loop,
        .orchestrator = cw->orchestrator,
        .environment = "00112233445566778899aabbccddeeff",
        .epoch = cw->epoch,
        .storaged_image = "storaged",
        .computed_image = "computed",
        .data_directory = "/data",
        .storage_processes = 1,
        .storage_workers = 1,
        .carrier = "tcp",
        .events = &events,
        .ctx = cw,
    };
    CU_ASSERT_PTR_NULL_FATAL(controller_new(&config, &cw->controller));
    static const char *const names[] = {"k", "v"};
    const struct type types[] = {type_of(TYPE_INT8), type_of(TYPE_INT8)};
    const struct storage_collection table = {
        .id = TABLE, .kind = STORAGE_TABLE, .types = types, .names = names, .cols = 2};
    CU_ASSERT_PTR_NULL_FATAL(controller_collection_create(cw->controller, &table));
    const struct controller_cluster_spec cluster = {.id = CLUSTER,
                                                    .name = "c",
                                                    .scale = cw->config.scale,
                                                    .workers = cw->config.workers,
                                                    .replicas = cw->config.replicas};
    CU_ASSERT_PTR_NULL_FATAL(controller_cluster_create(cw->controller, &cluster));
    cw->setup(cw);
    controller_initialized(cw->controller);
}

static void env_destroy(void *arg)
{
    struct cw *cw = arg;
    controller_free(cw->controller);
    orchestrator_free(cw->orchestrator);
    cw->controller = NULL;
}

static void env_run(struct cw *cw)
{
    cw->epoch++;
    cw->process = sim_process_start(world_sim(cw->world), "env", "environmentd", env_start,
                                    env_destroy, cw);
}

struct cw *cw_new(uint64_t seed, const struct cw_config *config, void (*setup)(struct cw *cw))
{
    struct cw *cw = MEM_NEW(struct cw);
    cw->world = world_new(seed, false);
    cw->config = *config;
    cw->setup = setup;
    env_run(cw);
    cw_run(cw, 1000000);
    return cw;
}

void cw_free(struct cw *cw)
{
    world_free(cw->world);
    free(cw);
}

static void run_step(struct io_task *task)
{
    struct cw *cw = CONTAINER_OF(task, struct cw, task);
    void (*step)(struct cw *cw) = cw->step;
    cw->step = NULL;
    cw->asked_inside = true;
    step(cw);
    cw->asked_inside = false;
}

void cw_do(struct cw *cw, void (*step)(struct cw *cw))
{
    ASSERT(cw->step == NULL);
    cw->step = step;
    cw->task = (struct io_task){.run = run_step};
    io_post(cw->loop, &cw->task);
    for (int i = 0; i < 1000 && cw->step != NULL; i++) {
        cw_run(cw, 100);
    }
    CU_ASSERT_PTR_NULL_FATAL(cw->step);
}

void cw_run(struct cw *cw, uint64_t us)
{
    world_run(cw->world, us);
}

void cw_restart(struct cw *cw)
{
    sim_process_kill(world_sim(cw->world), cw->process);
    cw_run(cw, 1000);
    env_run(cw);
    cw_run(cw, 1000000);
}

void cw_kill(struct cw *cw, uint32_t replica, uint32_t process)
{
    char name[64];
    snprintf(name, sizeof(name), "cluster-%d-replica-%u", CLUSTER, replica);
    CU_ASSERT_TRUE_FATAL(world_kill(cw->world, name, process));
}

/* ---- writing --------------------------------------------------------------------------------- */

static void on_appended(void *arg, err_t err)
{
    struct cw *cw = arg;
    CU_ASSERT_PTR_NULL_FATAL(err);
    cw->appended++;
}

void cw_write(struct cw *cw, int64_t key, int64_t value, int64_t diff)
{
    uint64_t now = io_now_us(cw->loop);
    cw->time = now > cw->time ? now : cw->time + 1;
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_INT8};
    struct batch_builder *builder = batch_builder_new(kinds, 2);
    batch_builder_datum(builder, 0, &(struct datum){.i = key});
    batch_builder_datum(builder, 1, &(struct datum){.i = value});
    batch_builder_end_row(builder, 0, diff);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(builder, &size);
    struct batch_col cols[2];
    struct batch view;
    batch_view(bytes, size, cols, 2, &view);
    const struct storage_write write = {.id = TABLE, .batch = &view};
    controller_append(cw->controller, cw->time, &write, 1, on_appended, cw);
    controller_advance_tables(cw->controller, cw->time + 1);
    batch_builder_free(builder);
    free(bytes);
}

void cw_advance(struct cw *cw)
{
    uint64_t now = io_now_us(cw->loop);
    cw->time = now > cw->time ? now : cw->time + 1;
    controller_advance_tables(cw->controller, cw->time + 1);
}

/* ---- plans ----------------------------------------------------------------------------------- */

static struct schema make_schema(struct arena *a)
{
    static const char *const names[] = {"k", "v"};
    struct schema schema = {.cols = 2, .types = ARENA_ARRAY(a, struct type, 2)};
    schema.types[0] = schema.types[1] = type_of(TYPE_INT8);
    schema.names = arena_memdup(a, names, sizeof(names));
    return schema;
}

/* 100 / v */
static struct expr division(struct arena *a)
{
    static const uint8_t ints[] = {TYPE_INT8, TYPE_INT8};
    struct expr e = {0};
    struct expr_node hundred = {.kind = EXPR_LITERAL, .type = type_of(TYPE_INT8)};
    hundred.literal.i = 100;
    struct expr_node column = {.kind = EXPR_COLUMN, .type = type_of(TYPE_INT8), .column = 1};
    uint32_t args[] = {expr_add(a, &e, &hundred), expr_add(a, &e, &column)};
    struct expr_node call = {.kind = EXPR_CALL,
                             .type = type_of(TYPE_INT8),
                             .func = func_find("/", ints, 2)->id,
                             .args = args,
                             .args_len = 2};
    expr_add(a, &e, &call);
    return e;
}

static struct plan *make_plan(uint64_t id, uint64_t source_id, bool divide)
{
    struct plan *plan = plan_new();
    struct arena *a = &plan->arena;
    struct plan_node source = {.op = PLAN_SOURCE, .import.id = source_id,
                               .schema = make_schema(a)};
    struct plan_node node = {.op = PLAN_MFP, .inputs_len = 1, .schema = make_schema(a)};
    node.inputs = ARENA_ARRAY(a, uint32_t, 1);
    node.inputs[0] = plan_add(plan, &source);
    node.mfp = (struct mfp){.input_cols = 2, .project_len = 2};
    node.mfp.project = ARENA_ARRAY(a, uint32_t, 2);
    node.mfp.project[1] = 1;
    if (divide) {
        node.mfp.maps_len = 1;
        node.mfp.maps = ARENA_ARRAY(a, struct expr, 1);
        node.mfp.maps[0] = division(a);
        node.mfp.project[1] = 2;
    }
    plan_add(plan, &node);
    plan->id = id;
    plan->name = arena_strdup(a, "test");
    plan->exports = ARENA_ARRAY(a, struct plan_export, 2);
    plan->exports_len = 1;
    plan->exports[0] = (struct plan_export){.id = id, .node = 1, .until = FRONTIER_EMPTY};
    return plan;
}

struct plan *cw_index_plan(uint64_t id, uint64_t as_of, bool divide)
{
    struct plan *plan = make_plan(id, TABLE, divide);
    plan->as_of = as_of;
    plan->exports[0].kind = PLAN_EXPORT_INDEX;
    plan->exports[0].keys = ARENA_ARRAY(&plan->arena, uint32_t, 1);
    plan->exports[0].keys_len = 1;
    return plan;
}

struct plan *cw_subscribe_plan(uint64_t id, uint64_t source, bool divide)
{
    struct plan *plan = make_plan(id, source, divide);
    plan->exports[0].kind = PLAN_EXPORT_SUBSCRIBE;
    plan->exports[0].snapshot = true;
    return plan;
}

void cw_create(struct cw *cw, struct plan *plan)
{
    err_t err = controller_dataflow_create(cw->controller, CLUSTER, plan);
    if (err != ERR_OK) {
        printf("%s\n", err_text(err));
    }
    CU_ASSERT_PTR_NULL_FATAL(err);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void add_rows(const struct batch *batch, int64_t *rows, int64_t *sum)
{
    for (uint32_t row = 0; row < batch->rows; row++) {
        struct datum value;
        batch_datum(&batch->col[1], row, &value);
        *rows += batch_diff(batch, row);
        *sum += batch_diff(batch, row) * value.i;
    }
}

static void on_subscribe(void *arg, uint64_t lower, uint64_t upper, const struct batch *ok,
                         err_t err)
{
    struct cw_sub *sub = arg;
    CU_ASSERT_STRING_EQUAL(sub->error, ""); /* nothing follows an error */
    if (err != ERR_OK) {
        snprintf(sub->error, sizeof(sub->error), "%s %s", err_sqlstate(err), err_text(err));
        err_free(err);
        return;
    }
    sub->gaps += lower != sub->upper || upper <= lower ? 1 : 0;
    sub->upper = upper;
    sub->pieces++;
    if (ok != NULL) {
        add_rows(ok, &sub->rows, &sub->sum);
    }
}

void cw_subscribe(struct cw *cw, uint64_t id, struct cw_sub *sub)
{
    *sub = (struct cw_sub){0};
    controller_subscribe(cw->controller, id, on_subscribe, sub);
}

static void on_peek(void *arg, const struct batch *const *rows, size_t rows_len, err_t err)
{
    struct cw_peek *peek = arg;
    peek->answers++;
    peek->inside = peek->cw->asked_inside;
    if (err != ERR_OK) {
        snprintf(peek->error, sizeof(peek->error), "%s", err_text(err));
        err_free(err);
    }
    for (size_t i = 0; i < rows_len; i++) {
        add_rows(rows[i], &peek->rows, &peek->sum);
    }
    if (peek->drops) {
        controller_export_drop(peek->cw->controller, CLUSTER, INDEX);
    }
}

void cw_peek(struct cw *cw, uint64_t index, uint64_t time, struct cw_peek *out)
{
    bool drops = out->drops;
    *out = (struct cw_peek){.cw = cw, .drops = drops};
    const struct controller_peek peek = {
        .cluster = CLUSTER, .index = index, .time = time, .limit = -1};
    out->id = controller_peek(cw->controller, &peek, on_peek, out);
}
