/*
 * A controller gone mad against real storaged and computed (in the simulator): sessions of damaged
 * commands, one after another. A session may end with an error; the process lives on, and greets
 * the next one.
 */
#include "core/base/mem.h"
#include "core/io/sim.h"
#include "core/storage/storage.h"
#include "ctrl/computed/computed.h"
#include "ctrl/plan/plan_codec.h"
#include "ctrl/storaged/storaged.h"
#include "tests/unit/ctrl/plan/sample_plans.h"
#include "tests/unit/harness.h"

#include <stdio.h>

#define ENVIRONMENT "00112233445566778899aabbccddeeff"

enum { ROUNDS = 400, ROUND_US = 30000, COMMANDS_MAX = 16 };

struct world {
    struct sim *sim;
    bool storage;
    struct storaged *storaged;
    struct computed *computed;
    struct sim_process *target;
    struct io_loop *loop; /* of the controller */
    struct rpc_channel *channel;
    struct rpc_call *call;
    struct io_timer timer;
    struct buf commands[COMMANDS_MAX]; /* well formed */
    size_t commands_len;
    uint64_t rounds, greetings, ends;
};

/* ---- the process under attack ---------------------------------------------------------------- */

static void target_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    const struct storaged_config storage = {.controller_address = "target:2100",
                                            .storage_address = "target:2101",
                                            .data_directory = "/data",
                                            .environment = ENVIRONMENT,
                                            .carrier = "tcp",
                                            .processes = 1,
                                            .workers = 2,
                                            .tick_us = 20000};
    static const char *const peers[] = {"target:2102"};
    const struct computed_config compute = {.controller_address = "target:2100",
                                            .compute_address = "target:2102",
                                            .environment = ENVIRONMENT,
                                            .carrier = "tcp",
                                            .service = 1,
                                            .processes = 1,
                                            .workers = 2,
                                            .peers = peers};
    err_t err = world->storage ? storaged_start(loop, &storage, &world->storaged)
                               : computed_start(loop, &compute, &world->computed);
    CU_ASSERT_PTR_NULL_FATAL(err);
}

static void target_destroy(void *arg)
{
    struct world *world = arg;
    storaged_free(world->storaged);
    computed_free(world->computed);
}

/* ---- commands -------------------------------------------------------------------------------- */

static void add_compute(struct world *world, const tailrace_v1_ComputeCommand *command)
{
    ASSERT(world->commands_len < COMMANDS_MAX);
    struct buf *out = &world->commands[world->commands_len++];
    CU_ASSERT_PTR_NULL_FATAL(rpc_pb_encode(tailrace_v1_ComputeCommand_fields, command, out));
}

enum { PARTS_MAX = 4000 };

/* parts_len storage workers hold the source: 0, 1, ... or, repeated, the worker 0 each time. */
static void add_dataflow_of(struct world *world, struct plan *plan, uint64_t incarnation,
                            uint32_t parts_len, bool repeated)
{
    struct arena arena = {0};
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_create_dataflow_tag;
    command.command.create_dataflow.has_plan = true;
    command.command.create_dataflow.incarnation = incarnation;
    plan->id += world->commands_len;
    plan_codec_encode(plan, &arena, &command.command.create_dataflow.plan);
    static uint32_t workers[PARTS_MAX];
    ASSERT(parts_len <= PARTS_MAX);
    for (uint32_t i = 0; i < parts_len; i++) {
        workers[i] = repeated ? 0 : i;
    }
    tailrace_v1_SourceParts parts = {
        .id = 7, .workers_count = (pb_size_t)parts_len, .workers = workers};
    command.command.create_dataflow.sources_count = 1;
    command.command.create_dataflow.sources = &parts;
    add_compute(world, &command);
    arena_free(&arena);
    plan_free(plan);
}

static void add_dataflow(struct world *world, struct plan *plan)
{
    add_dataflow_of(world, plan, 1 + world->commands_len, 2, false);
}

/* The plan with an index over its first node. */
static struct plan *indexed(struct plan *plan, uint64_t id)
{
    plan->exports_len = 1;
    plan->exports = ARENA_ARRAY(&plan->arena, struct plan_export, 1);
    plan->exports[0] = (struct plan_export){
        .kind = PLAN_EXPORT_INDEX, .id = id, .node = 0, .until = FRONTIER_EMPTY};
    return plan;
}

/* An index (id 50) over a constant: it can be read. */
static struct plan *readable(void)
{
    return indexed(sample_plan_constant(), 50);
}

static void make_compute(struct world *world)
{
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_create_instance_tag;
    command.command.create_instance.has_storage = true;
    add_compute(world, &command);
    add_dataflow(world, readable());
    add_dataflow(world, sample_plan_operators());
    add_dataflow(world, indexed(sample_plan_literals(), 51));
    command = (tailrace_v1_ComputeCommand){0};
    command.which_command = tailrace_v1_ComputeCommand_peek_tag;
    command.command.peek = (tailrace_v1_Peek){.id = 1, .index = 50, .time = 80, .limit = -1};
    add_compute(world, &command);
    command = (tailrace_v1_ComputeCommand){0};
    command.which_command = tailrace_v1_ComputeCommand_initialization_complete_tag;
    add_compute(world, &command);
    command = (tailrace_v1_ComputeCommand){0};
    command.which_command = tailrace_v1_ComputeCommand_allow_compaction_tag;
    command.command.allow_compaction.id = 50;
    command.command.allow_compaction.frontier = 79;
    add_compute(world, &command);
    command = (tailrace_v1_ComputeCommand){0};
    command.which_command = tailrace_v1_ComputeCommand_cancel_peek_tag;
    command.command.cancel_peek.id = 1;
    add_compute(world, &command);
}

/* Well formed, and yet no controller says it: one part many times, incarnations that are taken or
 * none. */
static void make_contradictions(struct world *world)
{
    tailrace_v1_ComputeCommand command = {0};
    command.which_command = tailrace_v1_ComputeCommand_create_instance_tag;
    add_compute(world, &command);
    command.which_command = tailrace_v1_ComputeCommand_initialization_complete_tag;
    add_compute(world, &command);
    add_dataflow_of(world, sample_plan_operators(), 900, PARTS_MAX, true);
    add_dataflow_of(world, readable(), 900, 1, false);
    add_dataflow_of(world, indexed(sample_plan_literals(), 51), 900, 1, false);
    add_dataflow_of(world, indexed(sample_plan_literals(), 52), 0, 1, false);
    add_dataflow_of(world, sample_plan_literals(), 901, 1, false); /* exports nothing */
    command = (tailrace_v1_ComputeCommand){0};
    command.which_command = tailrace_v1_ComputeCommand_peek_tag;
    command.command.peek = (tailrace_v1_Peek){.id = 1, .index = 50, .time = 80, .limit = -1};
    add_compute(world, &command);
}

static void add_storage(struct world *world, const tailrace_v1_StorageCommand *command)
{
    ASSERT(world->commands_len < COMMANDS_MAX);
    struct buf *out = &world->commands[world->commands_len++];
    CU_ASSERT_PTR_NULL_FATAL(rpc_pb_encode(tailrace_v1_StorageCommand_fields, command, out));
}

static void add_run(struct world *world, uint64_t id, enum storage_kind kind)
{
    struct arena arena = {0};
    struct plan *plan = sample_plan_operators();
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_run_tag;
    command.command.run.id = id;
    command.command.run.kind = kind;
    command.command.run.has_schema = true;
    plan_codec_encode_schema(&plan->nodes[0].schema, &arena, &command.command.run.schema);
    char path[] = "/nowhere/file.csv";
    command.command.run.has_file = kind != STORAGE_TABLE;
    command.command.run.file.path = path;
    command.command.run.file.format = STORAGE_CSV;
    command.command.run.file.csv_delimiter = ',';
    command.command.run.file.csv_quote = '"';
    add_storage(world, &command);
    arena_free(&arena);
    plan_free(plan);
}

static void add_append(struct world *world)
{
    static const uint8_t kinds[] = {TYPE_INT8, TYPE_TEXT};
    struct batch_builder *builder = batch_builder_new(kinds, 2);
    batch_builder_datum(builder, 0, &(struct datum){.i = 1});
    batch_builder_datum(builder, 1, &(struct datum){.s = "text", .len = 4});
    batch_builder_end_row(builder, 0, 1);
    size_t size = 0;
    void *bytes = batch_builder_finish_new(builder, &size);
    tailrace_v1_TableWrite write = {.id = 7, .has_batch = true};
    write.batch.data = (struct rpc_bytes){bytes, size};
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_append_tag;
    command.command.append.time = 1000;
    command.command.append.writes_count = 1;
    command.command.append.writes = &write;
    add_storage(world, &command);
    batch_builder_free(builder);
    free(bytes);
}

static void make_storage(struct world *world)
{
    add_run(world, 7, STORAGE_TABLE);
    add_run(world, 8, STORAGE_FILE);
    tailrace_v1_StorageCommand command = {0};
    command.which_command = tailrace_v1_StorageCommand_initialization_complete_tag;
    add_storage(world, &command);
    add_append(world);
    command = (tailrace_v1_StorageCommand){0};
    command.which_command = tailrace_v1_StorageCommand_advance_tables_tag;
    command.command.advance_tables.upper = 2000;
    add_storage(world, &command);
    command = (tailrace_v1_StorageCommand){0};
    command.which_command = tailrace_v1_StorageCommand_allow_compaction_tag;
    command.command.allow_compaction.id = 7;
    command.command.allow_compaction.frontier = 1500;
    add_storage(world, &command);
}

/* ---- the mad controller ---------------------------------------------------------------------- */

static void on_message(void *arg, struct rpc_call *call, const uint8_t *data, size_t len)
{
    struct world *world = arg;
    world->greetings++;
}

static void on_close(void *arg, struct rpc_call *call, enum rpc_status status, const char *message)
{
    struct world *world = arg;
    world->call = NULL;
    world->ends++;
}

static const struct rpc_handler handler = {.message = on_message, .close = on_close};

static void send_hello(struct world *world)
{
    char environment[] = ENVIRONMENT;
    tailrace_v1_StorageCommand command = {0}; /* Hello is the same in both services */
    command.which_command = tailrace_v1_StorageCommand_hello_tag;
    command.command.hello = (tailrace_v1_Hello){
        .version = 1, .environment = environment, .epoch = 1, .nonce = world->rounds};
    CU_ASSERT_PTR_NULL(
        rpc_call_send_pb(world->call, tailrace_v1_StorageCommand_fields, &command));
}

static void send_whole(struct world *world, size_t i)
{
    rpc_call_send(world->call, world->commands[i].data, world->commands[i].len);
}

/* The i-th command with up to three bytes changed, cut short, left out, or twice. */
static void send_damaged(struct world *world, size_t i)
{
    const struct buf *command = &world->commands[i];
    uint8_t *copy = mem_alloc(command->len + 1);
    memcpy(copy, command->data, command->len);
    size_t len = command->len;
    uint64_t how = sim_random(world->sim) % 6;
    for (uint64_t n = 0; how < 3 && n <= how && len > 0; n++) {
        copy[sim_random(world->sim) % len] = (uint8_t)sim_random(world->sim);
    }
    if (how == 3) {
        len = sim_random(world->sim) % (len + 1);
    }
    if (how != 4) {
        rpc_call_send(world->call, copy, len);
    }
    if (how == 5) {
        rpc_call_send(world->call, copy, len);
    }
    free(copy);
}

static void on_timer(struct io_timer *timer)
{
    struct world *world = CONTAINER_OF(timer, struct world, timer);
    world->rounds++;
    if (world->call != NULL) {
        rpc_call_abandon(world->call);
    }
    const char *path = world->storage ? "/tailrace.v1.Storage/Session"
                                      : "/tailrace.v1.Compute/Session";
    CU_ASSERT_PTR_NULL_FATAL(rpc_call_start(world->channel, path, 0, NULL, 0, &handler, world,
                                            &world->call));
    send_hello(world);
    size_t damaged = sim_random(world->sim) % world->commands_len;
    for (size_t i = 0; i < world->commands_len && world->rounds < ROUNDS; i++) {
        if (i == damaged) {
            send_damaged(world, i);
        } else {
            send_whole(world, i);
        }
    }
    if (world->rounds == ROUNDS) {
        world->greetings = 0;
        return; /* the last session behaves */
    }
    io_timer_start(world->loop, timer, io_now_us(world->loop) + ROUND_US);
}

static void controller_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->loop = loop;
    CU_ASSERT_PTR_NULL_FATAL(
        rpc_channel_new(loop, "target:2100", NULL, NULL, NULL, &world->channel));
    world->timer.fire = on_timer;
    io_timer_start(loop, &world->timer, io_now_us(loop) + 500000);
}

static void controller_destroy(void *arg)
{
    rpc_channel_free(((struct world *)arg)->channel);
}

static void attack(bool storage, void (*make)(struct world *world), uint64_t seed)
{
    struct world world = {.storage = storage};
    struct sim_config config = sim_config_default(seed);
    world.sim = sim_new(&config);
    make(&world);
    world.target =
        sim_process_start(world.sim, "target", "target", target_start, target_destroy, &world);
    sim_process_start(world.sim, "env", "env", controller_start, controller_destroy, &world);
    sim_run_until(world.sim, 2000000 + (uint64_t)ROUNDS * ROUND_US);
    CU_ASSERT_TRUE(sim_process_alive(world.target));
    CU_ASSERT_EQUAL(world.rounds, ROUNDS);
    CU_ASSERT(world.ends > 10);      /* some sessions were ended */
    CU_ASSERT(world.greetings > 0); /* the last one was welcomed */
    sim_free(world.sim);
    for (size_t i = 0; i < world.commands_len; i++) {
        buf_free(&world.commands[i]);
    }
}

static void against_storaged(void)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        attack(true, make_storage, seed);
    }
}

static void against_computed(void)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        attack(false, make_compute, seed);
        attack(false, make_contradictions, seed);
    }
}

static const struct test_case cases[] = {
    {"against storaged", against_storaged},
    {"against computed", against_computed},
};
TEST_SUITE("ctrl/runtime hostile", cases)
