/*
 * The process that orchestrates is killed with SIGKILL at random moments, again and again; a
 * successor takes over each time. At the end every wanted process runs exactly once.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "orchestrator/process/process.h"
#include "orchestrator/process/process_internal.h"
#include "tests/unit/harness.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVICES = 3, SCALE = 2, ROUNDS = 60 };

struct host {
    struct io_loop *loop;
    struct orchestrator *o;
    const char *dir;
    uint16_t base_port;
    bool last; /* ends in order, once everything runs */
    size_t ready;
    struct io_timer timer;
};

/* Nobody else sleeps exactly that long: the processes of this test are found by it. */
static void sleep_argument(const struct host *host, unsigned service, uint32_t process, char *out,
                           size_t size)
{
    snprintf(out, size, "%u.%u%02u", 5000 + host->base_port, service + 1, process);
}

static void make_args(void *arg, const struct orchestrator_assignment *assignment,
                      struct orchestrator_args *args)
{
    char text[64];
    sleep_argument(arg, (unsigned)(assignment->service[1] - '0'), assignment->process, text,
                   sizeof(text));
    orchestrator_args_add(args, "%s", text);
}

static void leave(struct io_timer *timer)
{
    struct host *host = CONTAINER_OF(timer, struct host, timer);
    orchestrator_free(host->o); /* what runs keeps running */
    io_loop_stop(host->loop);
}

static void watch(void *arg, const struct orchestrator_event *event)
{
    struct host *host = arg;
    host->ready += event->state == ORCHESTRATOR_READY;
    if (host->last && host->ready == SERVICES * SCALE) {
        host->timer.fire = leave;
        io_timer_start(host->loop, &host->timer, io_now_us(host->loop));
    }
}

static void host_start(struct io_loop *loop, void *arg)
{
    struct host *host = arg;
    host->loop = loop;
    struct process_orchestrator_config config = {
        .data_directory = host->dir, .base_port = host->base_port, .backoff_min_us = 5000};
    ASSERT(process_orchestrator_new(loop, &config, &host->o) == ERR_OK);
    orchestrator_watch_services(host->o, watch, host);
    for (unsigned i = 0; i < SERVICES; i++) {
        const char name[] = {'s', (char)('0' + i), '\0'};
        struct orchestrator_port port = {"p", 0};
        struct orchestrator_service_config service = {.image = "/bin/sleep",
                                                      .scale = SCALE,
                                                      .ports = &port,
                                                      .ports_len = 1,
                                                      .make_args = make_args,
                                                      .make_args_arg = host};
        ASSERT(orchestrator_ensure_service(host->o, name, &service) == ERR_OK);
    }
}

static void host_main(struct host *host)
{
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    struct io_env *env;
    ASSERT(io_env_new_real(&env) == ERR_OK);
    ASSERT(io_main(env, host_start, host) == ERR_OK);
    io_env_free(env);
    _exit(0);
}

/* Calls each(pid) for every process that sleeps so long; returns how many. */
static size_t each_sleeper(const char *argument, void (*each)(pid_t pid))
{
    DIR *proc = opendir("/proc");
    CU_ASSERT_PTR_NOT_NULL_FATAL(proc);
    size_t found = 0;
    struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        char path[300];
        char line[128] = "";
        snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
        FILE *f = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (f == NULL) {
            continue;
        }
        size_t len = fread(line, 1, sizeof(line) - 1, f);
        fclose(f);
        const size_t first = sizeof("/bin/sleep");
        if (len > first && strcmp(line, "/bin/sleep") == 0 && strcmp(line + first, argument) == 0) {
            found++;
            if (each != NULL) {
                each((pid_t)strtol(entry->d_name, NULL, 10));
            }
        }
    }
    closedir(proc);
    return found;
}

static void kill_sleeper(pid_t pid)
{
    kill(pid, SIGKILL);
}

/* One life of the orchestrating process: killed after that long, or 0: until everything runs. */
static void live(struct host *host, unsigned kill_after_us)
{
    host->last = kill_after_us == 0;
    pid_t pid = fork();
    CU_ASSERT_FATAL(pid >= 0);
    if (pid == 0) {
        host_main(host);
    }
    int status;
    if (!host->last) {
        usleep(kill_after_us);
        kill(pid, SIGKILL);
    }
    CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
    CU_ASSERT(!host->last || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

static void test_killed_at_random(void)
{
    char dir[] = "/tmp/tailrace-crash-XXXXXX";
    CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
    struct host host = {.dir = dir, .base_port = (uint16_t)(33000 + getpid() % 10000)};
    unsigned seed = (unsigned)getpid();
    for (int round = 0; round < ROUNDS; round++) {
        if (round % 3 == 0) { /* some of them have died meanwhile */
            char argument[64];
            sleep_argument(&host, (unsigned)round % SERVICES, 0, argument, sizeof(argument));
            each_sleeper(argument, kill_sleeper);
        }
        live(&host, 1000 + (unsigned)rand_r(&seed) % 30000);
    }
    live(&host, 0);
    for (unsigned service = 0; service < SERVICES; service++) {
        for (uint32_t process = 0; process < SCALE; process++) {
            char argument[64];
            sleep_argument(&host, service, process, argument, sizeof(argument));
            size_t found = each_sleeper(argument, kill_sleeper);
            CU_ASSERT_EQUAL(found, 1);
            if (found != 1) {
                printf("%zu processes /bin/sleep %s\n", found, argument);
            }
        }
    }
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    CU_ASSERT_EQUAL(system(command), 0);
}

static const struct test_case cases[] = {
    {"killed at random, every process runs once", test_killed_at_random},
};
TEST_SUITE("orchestrator/crash", cases)
