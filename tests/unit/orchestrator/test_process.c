/* orchestrator/process: real processes, started, killed, adopted and stopped. */
#include "core/base/buf.h"
#include "core/base/log.h"
#include "orchestrator/process/process.h"
#include "orchestrator/process/process_internal.h"
#include "tests/unit/harness.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { EVENTS_MAX = 64 };

struct seen {
    char service[32];
    uint32_t process;
    bool ready;
    char reason[200];
};

/* One orchestrator in a temporary folder; a test is a script of steps on the loop. */
struct world {
    struct io_loop *loop;
    char dir[64];
    struct orchestrator *o;
    struct process_orchestrator_config config;
    struct seen seen[EVENTS_MAX];
    size_t seen_len;
    struct io_timer limit;
    struct io_timer poll;
    bool (*until)(struct world *world);
    void (*then)(struct world *world);
    void (*script)(struct world *world);
    bool timed_out;
    const char *image;
    const char *args[4]; /* of the service, NULL ends */
    pid_t pid;           /* remembered between steps */
    pid_t pids[4];
    struct io_listener *taken;
    bool stopped;
};

/* ---- running --------------------------------------------------------------------------------- */

static void watch(void *arg, const struct orchestrator_event *event)
{
    struct world *world = arg;
    CU_ASSERT_FATAL(world->seen_len < EVENTS_MAX);
    struct seen *seen = &world->seen[world->seen_len++];
    snprintf(seen->service, sizeof(seen->service), "%s", event->service);
    snprintf(seen->reason, sizeof(seen->reason), "%s", event->reason);
    seen->process = event->process;
    seen->ready = event->state == ORCHESTRATOR_READY;
    CU_ASSERT(event->time_us > 0);
}

static void open_orchestrator(struct world *world)
{
    world->config.data_directory = world->dir;
    err_t err = process_orchestrator_new(world->loop, &world->config, &world->o);
    CU_ASSERT_PTR_NULL_FATAL(err);
    orchestrator_watch_services(world->o, watch, world);
}

static void quit(struct world *world)
{
    io_timer_cancel(world->loop, &world->limit);
    io_timer_cancel(world->loop, &world->poll);
    orchestrator_free(world->o);
    io_loop_stop(world->loop);
}

static void stopped(void *arg)
{
    struct world *world = arg;
    world->stopped = true;
    quit(world);
}

/* The usual last step: nothing may be left running. */
static void done(struct world *world)
{
    process_orchestrator_stop_all(world->o, stopped, world);
}

static void limit_fired(struct io_timer *timer)
{
    struct world *world = CONTAINER_OF(timer, struct world, limit);
    world->timed_out = true;
    done(world);
}

static void poll_fired(struct io_timer *timer)
{
    struct world *world = CONTAINER_OF(timer, struct world, poll);
    if (world->until == NULL || world->until(world)) {
        world->then(world);
    } else {
        io_timer_start(world->loop, timer, io_now_us(world->loop) + 2000);
    }
}

/* Goes on with then() once until() holds. */
static void wait_until(struct world *world, bool (*until)(struct world *world),
                       void (*then)(struct world *world))
{
    world->until = until;
    world->then = then;
    io_timer_start(world->loop, &world->poll, io_now_us(world->loop));
}

static void wait_ms(struct world *world, uint64_t ms, void (*then)(struct world *world))
{
    world->until = NULL;
    world->then = then;
    io_timer_start(world->loop, &world->poll, io_now_us(world->loop) + ms * 1000);
}

static void run_start(struct io_loop *loop, void *arg)
{
    struct world *world = arg;
    world->loop = loop;
    world->limit.fire = limit_fired;
    world->poll.fire = poll_fired;
    io_timer_start(loop, &world->limit, io_now_us(loop) + 20000000);
    open_orchestrator(world);
    world->script(world);
}

static void run(struct world *world, void (*script)(struct world *world))
{
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    world->script = script;
    world->config.base_port = world->config.base_port == 0 ? (uint16_t)(20000 + getpid() % 10000)
                                                           : world->config.base_port;
    snprintf(world->dir, sizeof(world->dir), "/tmp/tailrace-orch-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(world->dir));
    struct io_env *env;
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL(io_main(env, run_start, world));
    io_env_free(env);
    CU_ASSERT_FALSE(world->timed_out);
    CU_ASSERT(world->stopped);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", world->dir);
    CU_ASSERT_EQUAL(system(command), 0);
}

/* ---- the service ----------------------------------------------------------------------------- */

static void make_args(void *arg, const struct orchestrator_assignment *assignment,
                      struct orchestrator_args *args)
{
    struct world *world = arg;
    for (size_t i = 0; i < ARRAY_LEN(world->args) && world->args[i] != NULL; i++) {
        orchestrator_args_add(args, "%s", world->args[i]);
    }
    CU_ASSERT_STRING_EQUAL(assignment->listen[0],
                           assignment->peer(assignment->peer_arg, assignment->process, "p"));
}

static err_t try_ensure_limited(struct world *world, const char *service, uint32_t scale,
                                uint64_t memory, uint64_t cpu_milli)
{
    struct orchestrator_port ports[] = {{"p", 0}, {"q", 0}};
    struct orchestrator_service_config config = {.image = world->image,
                                                 .scale = scale,
                                                 .ports = ports,
                                                 .ports_len = 2,
                                                 .memory_limit = memory,
                                                 .cpu_limit_milli = cpu_milli,
                                                 .make_args = make_args,
                                                 .make_args_arg = world};
    return orchestrator_ensure_service(world->o, service, &config);
}

static err_t try_ensure(struct world *world, const char *service, uint32_t scale)
{
    return try_ensure_limited(world, service, scale, 0, 0);
}

static void ensure(struct world *world, const char *service, uint32_t scale)
{
    err_t err = try_ensure(world, service, scale);
    CU_ASSERT_PTR_NULL_FATAL(err);
}

static bool read_record(struct world *world, const char *service, uint32_t process,
                        struct po_record *record)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/orchestrator/%s-%u.process", world->dir, service, process);
    err_t err = po_record_read(world->loop, path, record);
    bool ok = err == ERR_OK;
    err_free(err);
    return ok;
}

/* The pid on record, 0 without a record. */
static pid_t pid_of(struct world *world, const char *service, uint32_t process)
{
    struct po_record record;
    if (!read_record(world, service, process, &record)) {
        return 0;
    }
    pid_t pid = record.pid;
    po_record_free(&record);
    return pid;
}

static bool lives(pid_t pid)
{
    char path[64];
    char state = 'Z';
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        return false;
    }
    int got = fscanf(f, "%*d (%*[^)]) %c", &state);
    fclose(f);
    return got == 1 && state != 'Z';
}

static size_t count(const struct world *world, bool ready)
{
    size_t n = 0;
    for (size_t i = 0; i < world->seen_len; i++) {
        n += world->seen[i].ready == ready;
    }
    return n;
}

static bool one_ready(struct world *world)
{
    return count(world, true) >= 1;
}

static bool two_ready(struct world *world)
{
    return count(world, true) >= 2;
}

static void use_sleep(struct world *world)
{
    world->image = "/bin/sleep";
    world->args[0] = "1000";
}

/* ---- start, list, drop ----------------------------------------------------------------------- */

static bool count_service(void *arg, const char *service, uint32_t scale)
{
    size_t *n = arg;
    (*n)++;
    CU_ASSERT_STRING_EQUAL(service, "s");
    CU_ASSERT_EQUAL(scale, 2);
    return true;
}

static bool both_dead(struct world *world)
{
    return !lives(world->pids[0]) && !lives(world->pids[1]) && pid_of(world, "s", 0) == 0 &&
           pid_of(world, "s", 1) == 0;
}

static void dropped(struct world *world)
{
    size_t n = 0;
    orchestrator_list_services(world->o, count_service, &n);
    CU_ASSERT_EQUAL(n, 0);
    CU_ASSERT_PTR_NULL(orchestrator_address(world->o, "s", 0, "p"));
    struct po_record record;
    CU_ASSERT_FALSE(read_record(world, "s", 1, &record));
    done(world);
}

static void started(struct world *world)
{
    size_t n = 0;
    orchestrator_list_services(world->o, count_service, &n);
    CU_ASSERT_EQUAL(n, 1);
    CU_ASSERT_STRING_EQUAL(world->seen[0].service, "s");
    world->pids[0] = pid_of(world, "s", 0);
    world->pids[1] = pid_of(world, "s", 1);
    CU_ASSERT(lives(world->pids[0]) && lives(world->pids[1]));
    const char *addresses[] = {
        orchestrator_address(world->o, "s", 0, "p"), orchestrator_address(world->o, "s", 0, "q"),
        orchestrator_address(world->o, "s", 1, "p"), orchestrator_address(world->o, "s", 1, "q")};
    for (size_t i = 0; i < 4; i++) {
        CU_ASSERT_PTR_NOT_NULL_FATAL(addresses[i]);
        CU_ASSERT_EQUAL(strncmp(addresses[i], "127.0.0.1:", 10), 0);
        for (size_t j = 0; j < i; j++) {
            CU_ASSERT_STRING_NOT_EQUAL(addresses[i], addresses[j]);
        }
    }
    CU_ASSERT_PTR_NULL(orchestrator_address(world->o, "s", 2, "p"));
    CU_ASSERT_PTR_NULL(orchestrator_address(world->o, "s", 0, "z"));
    CU_ASSERT_PTR_NULL(orchestrator_drop_service(world->o, "s"));
    CU_ASSERT_PTR_NULL(orchestrator_drop_service(world->o, "nothing"));
    wait_until(world, both_dead, dropped);
}

static void start_script(struct world *world)
{
    use_sleep(world);
    ensure(world, "s", 2);
    CU_ASSERT_EQUAL(world->seen_len, 0); /* events come from the loop */
    wait_until(world, two_ready, started);
}

static void test_start_and_drop(void)
{
    struct world world = {0};
    run(&world, start_script);
    CU_ASSERT_EQUAL(count(&world, false), 2); /* stopping, twice */
}

/* ---- failures -------------------------------------------------------------------------------- */

static void crash_looped(struct world *world)
{
    /* Pauses of 20, 40, 80, 160, 320 ms: five starts within 400 ms, not fifty. */
    CU_ASSERT(count(world, false) >= 3 && count(world, false) <= 6);
    bool doubled = false;
    for (size_t i = 0; i < world->seen_len; i++) {
        if (!world->seen[i].ready) {
            CU_ASSERT_PTR_NOT_NULL(strstr(world->seen[i].reason, "ended with status 1"));
            doubled = doubled || strstr(world->seen[i].reason, "in 80 ms") != NULL;
        }
    }
    CU_ASSERT(doubled);
    done(world);
}

static void crash_loop_script(struct world *world)
{
    world->image = "/bin/false";
    ensure(world, "s", 1);
    wait_ms(world, 400, crash_looped);
}

static void test_back_off(void)
{
    struct world world = {.config = {.backoff_min_us = 20000}};
    run(&world, crash_loop_script);
}

static void killed_restarted(struct world *world)
{
    pid_t pid = pid_of(world, "s", 0);
    CU_ASSERT(pid != world->pid && lives(pid));
    bool told = false;
    for (size_t i = 0; i < world->seen_len; i++) {
        told = told || strstr(world->seen[i].reason, "killed by signal 9") != NULL;
    }
    CU_ASSERT(told);
    done(world);
}

static void kill_it(struct world *world)
{
    world->pid = pid_of(world, "s", 0);
    CU_ASSERT_EQUAL(kill(world->pid, SIGKILL), 0);
    wait_until(world, two_ready, killed_restarted);
}

static void kill_script(struct world *world)
{
    use_sleep(world);
    ensure(world, "s", 1);
    wait_until(world, one_ready, kill_it);
}

static void test_killed_is_restarted(void)
{
    struct world world = {.config = {.backoff_min_us = 20000}};
    run(&world, kill_script);
}

static bool one_not_ready(struct world *world)
{
    return count(world, false) >= 1;
}

static void missing_told(struct world *world)
{
    CU_ASSERT_PTR_NOT_NULL(strstr(world->seen[0].reason, "/nowhere/storaged"));
    done(world);
}

static void missing_script(struct world *world)
{
    world->image = "/nowhere/storaged";
    ensure(world, "s", 1);
    wait_until(world, one_not_ready, missing_told);
}

static void test_missing_executable(void)
{
    struct world world = {0};
    run(&world, missing_script);
}

static bool pid_dead(struct world *world)
{
    return !lives(world->pid);
}

static void stubborn_drop(struct world *world)
{
    world->pid = pid_of(world, "s", 0);
    CU_ASSERT_PTR_NULL(orchestrator_drop_service(world->o, "s"));
    wait_until(world, pid_dead, done);
}

static void stubborn_started(struct world *world)
{
    wait_ms(world, 200, stubborn_drop); /* until it ignores SIGTERM */
}

static void stubborn_script(struct world *world)
{
    world->image = "/bin/sh";
    world->args[0] = "-c";
    world->args[1] = "trap '' TERM; while :; do sleep 0.05; done";
    ensure(world, "s", 1);
    wait_until(world, one_ready, stubborn_started);
}

static void test_stubborn_is_killed(void)
{
    struct world world = {.config = {.stop_grace_us = 100000}};
    run(&world, stubborn_script);
}

/* ---- restarts of environmentd ---------------------------------------------------------------- */

static void reopen(struct world *world)
{
    orchestrator_free(world->o);
    memset(world->seen, 0, sizeof(world->seen));
    world->seen_len = 0;
    open_orchestrator(world);
}

static void replaced(struct world *world)
{
    pid_t pid = pid_of(world, "s", 0);
    CU_ASSERT(pid != world->pid && lives(pid) && !lives(world->pid));
    done(world);
}

static void adopted(struct world *world)
{
    CU_ASSERT_EQUAL(pid_of(world, "s", 0), world->pid);
    CU_ASSERT(lives(world->pid));
    char before[64];
    snprintf(before, sizeof(before), "%s", orchestrator_address(world->o, "s", 0, "p"));
    world->args[0] = "1001"; /* something else is wanted now */
    ensure(world, "s", 1);
    CU_ASSERT_STRING_EQUAL(before, orchestrator_address(world->o, "s", 0, "p"));
    wait_until(world, two_ready, replaced);
}

static void adopt(struct world *world)
{
    world->pid = pid_of(world, "s", 0);
    char before[64];
    snprintf(before, sizeof(before), "%s", orchestrator_address(world->o, "s", 0, "q"));
    reopen(world);
    ensure(world, "s", 1);
    CU_ASSERT_STRING_EQUAL(before, orchestrator_address(world->o, "s", 0, "q"));
    wait_until(world, one_ready, adopted);
}

static void adopt_script(struct world *world)
{
    use_sleep(world);
    ensure(world, "s", 1);
    wait_until(world, one_ready, adopt);
}

static void test_adoption(void)
{
    struct world world = {0};
    run(&world, adopt_script);
}

static void adopted_restarted(struct world *world)
{
    CU_ASSERT(lives(pid_of(world, "s", 0)));
    CU_ASSERT(pid_of(world, "s", 0) != world->pid);
    done(world);
}

static void kill_adopted(struct world *world)
{
    CU_ASSERT_EQUAL(pid_of(world, "s", 0), world->pid);
    CU_ASSERT_EQUAL(kill(world->pid, SIGKILL), 0);
    wait_until(world, two_ready, adopted_restarted);
}

/* The predecessor died between starting the process and writing down its pid. */
static void adopt_without_pid(struct world *world)
{
    struct po_record record;
    CU_ASSERT_FATAL(read_record(world, "s", 0, &record));
    world->pid = record.pid;
    record.pid = 0;
    char path[128];
    snprintf(path, sizeof(path), "%s/orchestrator/s-0.process", world->dir);
    CU_ASSERT_PTR_NULL_FATAL(po_record_write(world->loop, path, &record));
    record.pid = world->pid; /* what the successor will find and write only when it changes */
    reopen(world);
    CU_ASSERT_PTR_NULL_FATAL(po_record_write(world->loop, path, &record));
    po_record_free(&record);
    ensure(world, "s", 1);
    wait_until(world, one_ready, kill_adopted);
}

static void adopt_without_pid_script(struct world *world)
{
    world->image = "/bin/sleep";
    world->args[0] = "987.125"; /* nobody else sleeps that long */
    ensure(world, "s", 1);
    wait_until(world, one_ready, adopt_without_pid);
}

static void test_adoption_without_pid(void)
{
    struct world world = {.config = {.backoff_min_us = 20000}};
    run(&world, adopt_without_pid_script);
}

static void not_mistaken(struct world *world)
{
    CU_ASSERT(lives(getpid())); /* who has the pid on record was left alone */
    CU_ASSERT(pid_of(world, "s", 0) != getpid());
    done(world);
}

static void recycled_script(struct world *world)
{
    use_sleep(world);
    struct po_record record = {.pid = getpid(), .start_ticks = 1, .executable = "/bin/sleep"};
    char path[128];
    snprintf(path, sizeof(path), "%s/orchestrator/s-0.process", world->dir);
    CU_ASSERT_PTR_NULL_FATAL(po_record_write(world->loop, path, &record));
    snprintf(path, sizeof(path), "%s/orchestrator/t-0.process", world->dir);
    CU_ASSERT_PTR_NULL_FATAL(io_write_whole_sync(world->loop, path, "garbage", 7, 0600));
    reopen(world);
    ensure(world, "s", 1);
    ensure(world, "t", 1);
    wait_until(world, two_ready, not_mistaken);
}

static void test_recycled_pid_and_broken_record(void)
{
    struct world world = {0};
    run(&world, recycled_script);
}

static bool list_leftover(void *arg, const char *service, uint32_t scale)
{
    CU_ASSERT_STRING_EQUAL(service, "s");
    ++*(size_t *)arg;
    return true;
}

static void second_script(struct world *world)
{
    struct orchestrator *second = NULL;
    err_t err = process_orchestrator_new(world->loop, &world->config, &second);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_EQUAL(err_code(err), ERR_UNAVAILABLE);
    err_free(err);
    done(world);
}

static void test_one_orchestrator_a_directory(void)
{
    struct world world = {0};
    run(&world, second_script);
}

static void leftover(struct world *world)
{
    world->pid = pid_of(world, "s", 0);
    reopen(world);
    size_t n = 0;
    orchestrator_list_services(world->o, list_leftover, &n);
    CU_ASSERT_EQUAL(n, 1);
    CU_ASSERT(lives(world->pid));
    CU_ASSERT_PTR_NULL(orchestrator_drop_service(world->o, "s"));
    wait_until(world, pid_dead, done);
}

static void leftover_script(struct world *world)
{
    use_sleep(world);
    ensure(world, "s", 1);
    wait_until(world, one_ready, leftover);
}

static void test_leftover_is_listed_and_dropped(void)
{
    struct world world = {0};
    run(&world, leftover_script);
}

/* ---- changes --------------------------------------------------------------------------------- */

static bool scaled_down(struct world *world)
{
    return !lives(world->pids[2]) && !lives(world->pids[1]) && pid_of(world, "s", 1) == 0;
}

static void scaled(struct world *world)
{
    CU_ASSERT_EQUAL(pid_of(world, "s", 0), world->pids[0]); /* the first was not touched */
    CU_ASSERT_PTR_NULL(orchestrator_address(world->o, "s", 1, "p"));
    done(world);
}

static bool three_ready(struct world *world)
{
    return count(world, true) >= 3;
}

static void scale_down(struct world *world)
{
    for (uint32_t i = 0; i < 3; i++) {
        world->pids[i] = pid_of(world, "s", i);
    }
    ensure(world, "s", 1);
    wait_until(world, scaled_down, scaled);
}

static void scale_script(struct world *world)
{
    use_sleep(world);
    ensure(world, "s", 3);
    wait_until(world, three_ready, scale_down);
}

static void test_scale_down(void)
{
    struct world world = {0};
    run(&world, scale_script);
}

static bool revived(struct world *world)
{
    pid_t pid = pid_of(world, "s", 0);
    return pid != 0 && pid != world->pid && lives(pid);
}

static void drop_and_ensure(struct world *world)
{
    world->pid = pid_of(world, "s", 0);
    CU_ASSERT_PTR_NULL(orchestrator_drop_service(world->o, "s"));
    ensure(world, "s", 1); /* while the old process is still on its way out */
    wait_until(world, revived, done);
}

static void revive_script(struct world *world)
{
    use_sleep(world);
    ensure(world, "s", 1);
    wait_until(world, one_ready, drop_and_ensure);
}

static void test_ensure_after_drop(void)
{
    struct world world = {0};
    run(&world, revive_script);
}

static void no_streams(void *arg, struct io_stream *stream)
{
    io_stream_close(stream);
}

static void taken_script(struct world *world)
{
    char address[64];
    snprintf(address, sizeof(address), "127.0.0.1:%u", world->config.base_port);
    CU_ASSERT_PTR_NULL_FATAL(io_listen(world->loop, address, no_streams, NULL, &world->taken));
    use_sleep(world);
    ensure(world, "s", 2);
    for (uint32_t i = 0; i < 2; i++) {
        CU_ASSERT_STRING_NOT_EQUAL(orchestrator_address(world->o, "s", i, "p"), address);
        CU_ASSERT_STRING_NOT_EQUAL(orchestrator_address(world->o, "s", i, "q"), address);
    }
    io_listener_close(world->taken);
    wait_until(world, two_ready, done);
}

static void test_taken_port_is_skipped(void)
{
    struct world world = {.config = {.base_port = (uint16_t)(31000 + getpid() % 1000)}};
    run(&world, taken_script);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* RLIMIT_DATA as the kernel has it; 0 when there is none. */
static uint64_t data_limit(pid_t pid)
{
    char path[64];
    char line[256];
    unsigned long long limit = 0;
    snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "Max data size %llu", &limit) == 1) {
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return limit;
}

enum { SMALL = 64 << 20 };

/* A lower limit reaches the process that runs. */
static void limited(struct world *world)
{
    pid_t pid = pid_of(world, "s", 0);
    CU_ASSERT_EQUAL(data_limit(pid), 2 * SMALL);
    CU_ASSERT_PTR_NULL(try_ensure_limited(world, "s", 1, SMALL, 0));
    CU_ASSERT_EQUAL(pid_of(world, "s", 0), pid);
    CU_ASSERT_EQUAL(data_limit(pid), SMALL);
    CU_ASSERT_PTR_NULL(try_ensure_limited(world, "s", 1, 3 * SMALL, 0)); /* raised again */
    CU_ASSERT_EQUAL(data_limit(pid), 3 * SMALL);
    err_t err = try_ensure_limited(world, "s", 1, SMALL, 500);
    CU_ASSERT_EQUAL(err_code(err), ERR_UNSUPPORTED);
    CU_ASSERT_STRING_NOT_EQUAL(err_hint_get(err), "");
    err_free(err);
    CU_ASSERT(lives(pid));
    done(world);
}

static void limit_script(struct world *world)
{
    use_sleep(world);
    CU_ASSERT_PTR_NULL(try_ensure_limited(world, "s", 1, 2 * SMALL, 0));
    wait_until(world, one_ready, limited);
}

static void test_limits(void)
{
    struct world world = {0};
    run(&world, limit_script);
}

/* Needs 200 MB where it may have 64: it ends by itself, again and again. */
static bool fell(struct world *world)
{
    for (size_t i = 0; i < world->seen_len; i++) {
        if (strstr(world->seen[i].reason, "ended with status 7") != NULL) {
            return true;
        }
    }
    return false;
}

static void hungry_script(struct world *world)
{
    world->image = "/bin/sh";
    world->args[0] = "-c";
    world->args[1] = "sleep 0.2; /usr/bin/python3 -c 'bytearray(200 << 20)' || exit 7; sleep 99";
    CU_ASSERT_PTR_NULL(try_ensure_limited(world, "s", 1, SMALL, 0));
    wait_until(world, fell, done);
}

static void test_memory_limit_is_felt(void)
{
    struct world world = {0};
    run(&world, hungry_script);
    CU_ASSERT_TRUE(fell(&world));
}

/* ---- logs ------------------------------------------------------------------------------------ */

static uint64_t file_size(const struct world *world, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/orchestrator/logs/%s", world->dir, name);
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        return 0;
    }
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fclose(f);
    return size > 0 ? (uint64_t)size : 0;
}

/* Rotated, and written to again from its start. */
static bool rotated(struct world *world)
{
    return file_size(world, "s-0.log.1") > 10000;
}

static void log_checked(struct world *world)
{
    CU_ASSERT(lives(pid_of(world, "s", 0)));
    CU_ASSERT_EQUAL(count(world, false), 0); /* the writer notices nothing */
    done(world);
}

static void log_script(struct world *world)
{
    world->image = "/bin/sh";
    world->args[0] = "-c";
    world->args[1] = "while true; do echo a line of some length in the log; sleep 0.001; done";
    ensure(world, "s", 1);
    wait_until(world, rotated, log_checked);
}

static void test_log_rotation(void)
{
    struct world world = {.config = {.log_bytes = 10000, .log_look_us = 20000}};
    run(&world, log_script);
}

static const struct test_case cases[] = {
    {"limits", test_limits},
    {"a memory limit is felt", test_memory_limit_is_felt},
    {"logs are rotated", test_log_rotation},
    {"start, list, drop", test_start_and_drop},
    {"back-off", test_back_off},
    {"killed is restarted", test_killed_is_restarted},
    {"missing executable", test_missing_executable},
    {"stubborn is killed", test_stubborn_is_killed},
    {"adoption", test_adoption},
    {"adoption without a pid", test_adoption_without_pid},
    {"a recycled pid and a broken record", test_recycled_pid_and_broken_record},
    {"one orchestrator a directory", test_one_orchestrator_a_directory},
    {"what a predecessor left is listed and dropped", test_leftover_is_listed_and_dropped},
    {"scale down", test_scale_down},
    {"ensure after drop", test_ensure_after_drop},
    {"a taken port is skipped", test_taken_port_is_skipped},
};
TEST_SUITE("orchestrator/process", cases)
