/*
 * Two storaged of two workers each in the simulator, driven through the storage controller: what is
 * dropped is forgotten, a source tells when its files' first content is published, the worst worker
 * tells how a source is, and quiet sources follow busy ones.
 */
#include "core/base/mem.h"
#include "ctrl/controller/controller.h"
#include "ctrl/storaged/storaged.h"
#include "tests/sim/world.h"
#include "tests/unit/harness.h"

#include <stdio.h>

enum { PROCESSES = 2, IDS = 400 };

struct env {
    struct world *world;
    struct sim_process *process;
    struct io_loop *loop;
    struct orchestrator *orchestrator;
    struct controller *controller;
    uint64_t epoch;
    struct io_task task;
    void (*step)(struct env *env);
    uint64_t ready[IDS];
    uint64_t actives;
    enum storage_status status[IDS];
    char reason[IDS][128];
    uint64_t appended;
};

static void on_ready(void *ctx, uint64_t id, uint64_t ready)
{
    struct env *env = ctx;
    CU_ASSERT_EQUAL(env->ready[id], 0); /* once */
    env->ready[id] = ready;
}

static void on_status(void *ctx, uint64_t id, enum storage_status status, const char *reason,
                      const char *hint)
{
    struct env *env = ctx;
    CU_ASSERT_FATAL(id < IDS);
    env->status[id] = status;
    snprintf(env->reason[id], sizeof(env->reason[id]), "%s", reason);
}

static void on_active(void *ctx)
{
    struct env *env = ctx;
    env->actives++;
}

static const struct controller_events events = {
    .storage_ready = on_ready, .storage_status = on_status, .storage_active = on_active};

static void env_start(struct io_loop *loop, void *arg)
{
    struct env *env = arg;
    env->loop = loop;
    env->orchestrator = world_orchestrator_new(env->world, loop);
    const struct controller_config config = {.loop = loop,
                                             .orchestrator = env->orchestrator,
                                             .environment = "00112233445566778899aabbccddeeff",
                                             .epoch = ++env->epoch,
                                             .storaged_image = "storaged",
                                             .computed_image = "computed",
                                             .data_directory = "/data",
                                             .storage_processes = PROCESSES,
                                             .storage_workers = 2,
                                             .carrier = "tcp",
                                             .events = &events,
                                             .ctx = env};
    CU_ASSERT_PTR_NULL_FATAL(controller_new(&config, &env->controller));
    if (env->step != NULL) {
        env->step(env); /* what the catalog holds */
        env->step = NULL;
    }
    controller_initialized(env->controller);
}

static void env_destroy(void *arg)
{
    struct env *env = arg;
    controller_free(env->controller);
    orchestrator_free(env->orchestrator);
    env->controller = NULL;
}

static void run(struct env *env, uint64_t us)
{
    world_run(env->world, us);
}

static void env_open(struct env *env)
{
    memset(env->ready, 0, sizeof(env->ready));
    env->process = sim_process_start(world_sim(env->world), "env", "environmentd", env_start,
                                     env_destroy, env);
    run(env, 1000000);
}

static struct env *env_new(uint64_t seed)
{
    struct env *env = MEM_NEW(struct env);
    env->world = world_new(seed, false);
    env_open(env);
    return env;
}

static void env_free(struct env *env)
{
    world_free(env->world);
    free(env);
}

static void run_step(struct io_task *task)
{
    struct env *env = CONTAINER_OF(task, struct env, task);
    void (*step)(struct env *env) = env->step;
    env->step = NULL;
    step(env);
}

static void env_do(struct env *env, void (*step)(struct env *env))
{
    env->step = step;
    env->task = (struct io_task){.run = run_step};
    io_post(env->loop, &env->task);
    for (int i = 0; i < 1000 && env->step != NULL; i++) {
        run(env, 100);
    }
    CU_ASSERT_PTR_NULL_FATAL(env->step);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void create(struct env *env, uint64_t id, const char *path)
{
    static const char *const names[] = {"a", "b"};
    const struct type types[] = {type_of(TYPE_INT8), type_of(TYPE_TEXT)};
    const struct storage_collection c = {.id = id,
                                         .kind = path == NULL ? STORAGE_TABLE : STORAGE_FILE,
                                         .types = types,
                                         .names = names,
                                         .cols = 2,
                                         .path = path,
                                         .format = STORAGE_CSV,
                                         .tail = true,
                                         .csv_delimiter = ',',
                                         .csv_quote = '"'};
    CU_ASSERT_PTR_NULL_FATAL(controller_collection_create(env->controller, &c));
}

static void write_file(struct env *env, const char *path, const char *text, size_t times)
{
    struct buf all = {0};
    for (size_t i = 0; i < times; i++) {
        buf_append_str(&all, text);
    }
    for (uint32_t p = 0; p < PROCESSES; p++) { /* on a disk that every process sees */
        char host[32];
        snprintf(host, sizeof(host), "storage-%u", p);
        err_t err = sim_file_write(world_sim(env->world), host, path, all.data, all.len, true);
        CU_ASSERT_PTR_NULL(err);
        err_free(err);
    }
    buf_free(&all);
}

static size_t known(const struct env *env, uint32_t process)
{
    const struct storaged *storaged = world_storaged(env->world, process);
    CU_ASSERT_PTR_NOT_NULL_FATAL(storaged);
    return storaged_collections(storaged);
}

static uint64_t upper_of(const struct env *env, uint64_t id)
{
    uint64_t since = 0;
    uint64_t upper = 0;
    CU_ASSERT_TRUE(controller_collection_frontiers(env->controller, id, &since, &upper));
    return upper;
}

/* ---- drops ----------------------------------------------------------------------------------- */

static void create_many(struct env *env)
{
    for (uint64_t id = 1; id < IDS; id++) {
        create(env, id, id % 2 == 0 ? "/files/*.csv" : NULL);
    }
}

static void drop_most(struct env *env)
{
    for (uint64_t id = 3; id < IDS; id++) {
        controller_collection_drop(env->controller, id);
    }
}

static void create_two(struct env *env)
{
    create(env, 1, NULL);
    create(env, 2, "/files/*.csv");
}

static void drops_are_forgotten(void)
{
    struct env *env = env_new(1);
    env_do(env, create_many);
    run(env, 2000000);
    CU_ASSERT_EQUAL(known(env, 0), IDS - 1);
    CU_ASSERT_EQUAL(known(env, 1), IDS / 2 - 1); /* no tables */
    env_do(env, drop_most);
    run(env, 2000000);
    CU_ASSERT_EQUAL(known(env, 0), 2);
    CU_ASSERT_EQUAL(known(env, 1), 1);
    /* Those a new session does not name go in the same way. */
    env_do(env, drop_most);
    sim_process_kill(world_sim(env->world), env->process);
    run(env, 1000);
    env->step = create_two;
    env_open(env);
    CU_ASSERT_EQUAL(known(env, 0), 2);
    sim_process_kill(world_sim(env->world), env->process);
    run(env, 1000);
    env_open(env); /* names nothing */
    run(env, 1000000);
    CU_ASSERT_EQUAL(known(env, 0), 0);
    CU_ASSERT_EQUAL(known(env, 1), 0);
    env_free(env);
}

/* ---- the first content ----------------------------------------------------------------------- */

static void create_sources(struct env *env)
{
    create(env, 1, "/files/large.csv");
    create(env, 2, "/files/missing.csv");
    create(env, 3, "/files/empty.csv");
    create(env, 4, NULL);
}

/* Ready comes with the last of the file, not with its first commit, and not never. */
static void ready_when_read(void)
{
    struct env *env = env_new(2);
    write_file(env, "/files/large.csv", "1,something to make the line longer\n", 200000);
    write_file(env, "/files/empty.csv", "", 1);
    env_do(env, create_sources);
    run(env, 5000000);
    for (uint64_t id = 1; id <= 4; id++) {
        CU_ASSERT(env->ready[id] > 0);
        CU_ASSERT(id == 4 || upper_of(env, id) >= env->ready[id]);
        CU_ASSERT_EQUAL(controller_collection_ready(env->controller, id), env->ready[id]);
    }
    CU_ASSERT(env->ready[1] > env->ready[2]); /* the last commit's time; nothing was waited for */
    CU_ASSERT_EQUAL(env->ready[2], 1);
    CU_ASSERT_EQUAL(env->ready[3], 1);
    /* Three of four workers have nothing to do with the file that is missing. */
    CU_ASSERT_EQUAL(env->status[1], STORAGE_RUNNING);
    CU_ASSERT_EQUAL(env->status[2], STORAGE_STALLED);
    CU_ASSERT_PTR_NOT_NULL(strstr(env->reason[2], "/files/missing.csv does not exist"));
    write_file(env, "/files/missing.csv", "1,x\n", 1);
    run(env, 2000000);
    CU_ASSERT_EQUAL(env->status[2], STORAGE_RUNNING);
    env_free(env);
}

/* ---- following ------------------------------------------------------------------------------- */

/* Quiet sources advance seldom; closely once data comes to another, on whatever process. */
static void quiet_follow_busy(void)
{
    struct env *env = env_new(3);
    write_file(env, "/files/large.csv", "1,x\n", 1);
    write_file(env, "/files/missing.csv", "1,x\n", 1);
    env_do(env, create_sources);
    run(env, 5000000);
    uint64_t idle_lag = 0;
    for (int i = 0; i < 50; i++) {
        run(env, 20000);
        uint64_t lag = io_now_us(env->loop) - upper_of(env, 2);
        idle_lag = lag > idle_lag ? lag : idle_lag;
    }
    CU_ASSERT(idle_lag > 60000);  /* it is idle */
    CU_ASSERT(idle_lag < 400000); /* and goes on */
    uint64_t actives = env->actives;
    uint64_t busy_lag = 0;
    for (int i = 0; i < 50; i++) {
        write_file(env, "/files/large.csv", "2,y\n", 1);
        run(env, 20000);
        uint64_t lag = io_now_us(env->loop) - upper_of(env, 2);
        busy_lag = i > 10 && lag > busy_lag ? lag : busy_lag;
    }
    CU_ASSERT(env->actives > actives);
    CU_ASSERT(busy_lag < idle_lag);
    CU_ASSERT(busy_lag < 80000); /* of virtual time: four ticks of this world */
    env_free(env);
}

/* ---- a controller that errs ------------------------------------------------------------------ */

static void advance_beyond(struct env *env)
{
    controller_advance_tables(env->controller, UINT64_MAX / 2 + 1000);
}

/* A promise beyond all clocks ends the session, not the process. */
static void mad_promise(void)
{
    struct env *env = env_new(4);
    env_do(env, create_sources);
    run(env, 1000000);
    const struct storaged *before = world_storaged(env->world, 0);
    env_do(env, advance_beyond);
    run(env, 1000000);
    CU_ASSERT_PTR_EQUAL(world_storaged(env->world, 0), before);
    CU_ASSERT_EQUAL(upper_of(env, 4), 0);
    env_free(env);
}

static const struct test_case cases[] = {
    {"drops are forgotten", drops_are_forgotten},
    {"ready when the first content is published", ready_when_read},
    {"quiet sources follow busy ones", quiet_follow_busy},
    {"a promise beyond all clocks", mad_promise},
};
TEST_SUITE("ctrl/storaged", cases)
