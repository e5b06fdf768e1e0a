/*
 * One process: started, watched, started again after a growing pause when it ends by itself, and
 * stopped with SIGTERM, then SIGKILL. Everything goes through po_process_converge, which compares
 * what is with what is wanted. environmentd's loop.
 *
 *     IDLE --start--> RUNNING --stop--> STOPPING --exit--> IDLE
 *       ^                |
 *       +--- exit, back_off (the timer is armed)
 *
 * The timer is armed in IDLE while it waits for its next start, and in STOPPING for SIGKILL; in
 * RUNNING never. A process that is not wanted and idle is forgotten: po_process_converge may free
 * it.
 *
 * What is told to the watcher is a pair (ready, reason), queued when it changes.
 */
#include "core/base/buf.h"
#include "core/base/log.h"
#include "orchestrator/process/process_internal.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

static void timer_fired(struct io_timer *timer);

/* Idle, wanted by nobody yet. */
struct po_process *po_process_new(struct po_service *service, uint32_t index)
{
    ASSERT(service != NULL && service->owner != NULL);
    struct po_process *process = MEM_NEW(struct po_process);
    process->service = service;
    process->index = index;
    process->timer.fire = timer_fired;
    process->backoff_us = service->owner->backoff_min_us;
    process->reason = mem_strdup("");
    return process;
}

/* Memory only: a process that runs goes on, and is found again by its record. */
void po_process_free(struct po_process *process)
{
    ASSERT(process != NULL);
    io_timer_cancel(process->service->owner->loop, &process->timer);
    if (process->os != NULL) {
        io_process_release(process->os);
    }
    po_record_free(&process->record);
    orchestrator_args_free(&process->wanted_args);
    free(process->reason);
    free(process);
}

/* The caller frees it. */
static char *path_in(const struct po_process *process, const char *folder, const char *suffix)
{
    ASSERT(folder != NULL && suffix != NULL);
    struct buf text = {0};
    buf_printf(&text, "%s/%s%s-%u%s", process->service->owner->directory, folder,
               process->service->name, process->index, suffix);
    char *path = mem_strdup(buf_cstr(&text));
    buf_free(&text);
    return path;
}

char *po_record_path(const struct po_process *process)
{
    return path_in(process, "", ".process");
}

char *po_log_path(const struct po_process *process)
{
    return path_in(process, "logs/", ".log");
}

/* A record that cannot be written is no reason not to run. */
static void write_record(struct po_process *process)
{
    ASSERT(process->record.executable != NULL);
    char *path = po_record_path(process);
    err_t err = po_record_write(process->service->owner->loop, path, &process->record);
    if (err != ERR_OK) { /* the process is found by its command line then */
        LOG_ERROR("orchestrator", "a process is not recorded", LOG_STR("path", path), LOG_ERR(err));
        err_free(err);
    }
    free(path);
}

/* ---- events ---------------------------------------------------------------------------------- */

/* Not queued while nobody watches: a new watcher is told how everything is then. */
void po_process_tell(struct po_process *process)
{
    ASSERT(process->reason != NULL);
    struct process_orchestrator *owner = process->service->owner;
    process->told = true;
    if (owner->watch == NULL) {
        return;
    }
    struct po_event *event = VEC_PUSH(owner, events);
    event->service = mem_strdup(process->service->name);
    event->process = process->index;
    event->ready = process->ready;
    event->reason = mem_strdup(process->reason);
    event->time_us = io_now_us(owner->loop);
    io_timer_start(owner->loop, &owner->events_timer, event->time_us);
}

/* reason NULL: ready. */
static void set_ready(struct po_process *process, const char *reason)
{
    bool ready = reason == NULL;
    if (process->told && process->ready == ready &&
        strcmp(process->reason, ready ? "" : reason) == 0) {
        return;
    }
    process->ready = ready;
    free(process->reason);
    process->reason = mem_strdup(ready ? "" : reason);
    po_process_tell(process);
}

/* ---- the end of a process -------------------------------------------------------------------- */

/* A wait(2) status in words; an adopted process leaves none. */
static void describe_status(int status, char *out, size_t size)
{
    ASSERT(size > 0);
    if (status == -1) {
        snprintf(out, size, "ended");
    } else if (WIFSIGNALED(status)) {
        snprintf(out, size, "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    } else {
        snprintf(out, size, "ended with status %d", WEXITSTATUS(status));
    }
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Waits before the next start; the pause doubles with each failure in a row. */
static void back_off(struct po_process *process, const char *what)
{
    ASSERT(process->os == NULL && what != NULL);
    struct process_orchestrator *owner = process->service->owner;
    uint64_t pause = process->backoff_us;
    process->backoff_us = min_u64(pause * 2, owner->backoff_max_us);
    process->state = PO_IDLE;
    io_timer_start(owner->loop, &process->timer, io_now_us(owner->loop) + pause);
    char reason[256];
    snprintf(reason, sizeof(reason), "%s; starting again in %" PRIu64 " ms", what, pause / 1000);
    LOG_WARN("orchestrator", "process is down", LOG_STR("service", process->service->name),
             LOG_U64("process", process->index), LOG_STR("reason", reason));
    set_ready(process, reason);
}

/* It has ended: as we told it to, or by itself. On the loop, once, whatever ended it. */
static void exited(void *arg, int status)
{
    struct po_process *process = arg;
    struct process_orchestrator *owner = process->service->owner;
    ASSERT(process->os != NULL && process->state != PO_IDLE);
    io_process_release(process->os);
    process->os = NULL;
    process->record.pid = 0;
    io_timer_cancel(owner->loop, &process->timer);
    if (process->state == PO_STOPPING) {
        process->state = PO_IDLE;
        po_process_converge(process);
        return;
    }
    if (process->service->image == NULL && !process->is_wanted) {
        process->state = PO_IDLE; /* left by a predecessor: it is up to the next ensure or drop */
        return;
    }
    if (io_now_us(owner->loop) - process->started_us >= owner->healthy_us) {
        process->backoff_us = owner->backoff_min_us;
    }
    char what[128];
    describe_status(status, what, sizeof(what));
    back_off(process, what);
}

/* ---- starting -------------------------------------------------------------------------------- */

/* argv without the wrapper is what /proc shows of the process: its hash identifies it. */
static const char **make_argv(const struct po_process *process, size_t *wrapper_len)
{
    ASSERT(process->service->image != NULL);
    const struct process_orchestrator *owner = process->service->owner;
    size_t words = 0;
    while (owner->wrapper[words] != NULL) {
        words++;
    }
    const char **argv =
        mem_alloc((words + process->wanted_args.args_len + 2) * sizeof(const char *));
    memcpy(argv, owner->wrapper, words * sizeof(const char *));
    *wrapper_len = words;
    argv[words++] = process->service->image;
    for (size_t i = 0; i < process->wanted_args.args_len; i++) {
        argv[words++] = process->wanted_args.args[i];
    }
    argv[words] = NULL;
    return argv;
}

/* A session of its own: it outlives us, and a terminal's Ctrl-C does not reach it. */
static err_t spawn(struct po_process *process)
{
    ASSERT(process->os == NULL);
    struct process_orchestrator *owner = process->service->owner;
    size_t wrapper_len;
    const char **argv = make_argv(process, &wrapper_len);
    char *log = po_log_path(process);
    process->record.pid = 0;
    process->record.start_ticks = 0;
    process->record.arguments = po_arguments_hash(argv + wrapper_len);
    free(process->record.executable);
    process->record.executable = mem_strdup(process->service->image);
    write_record(process); /* the intention */
    struct io_process_spec spec = {
        .argv = argv, .stdout_path = log, .stderr_path = log, .new_session = true};
    err_t err = io_process_start(owner->loop, &spec, exited, process, &process->os);
    if (err != ERR_OK && process->os != NULL) { /* it runs, but cannot be looked after */
        err_free(io_process_signal(process->os, SIGKILL));
        io_process_release(process->os);
        process->os = NULL;
    }
    free(log);
    free(argv);
    return err;
}

/* Failure is not the end of the process, but is said: it may run with more than it was given. */
void po_process_limit(struct po_process *process)
{
    if (process->os == NULL) {
        return;
    }
    err_t err = io_process_limit_memory(process->os, process->service->memory_limit);
    if (err != ERR_OK) {
        LOG_ERROR("orchestrator", "memory is not limited",
                  LOG_STR("service", process->service->name), LOG_U64("process", process->index),
                  LOG_ERR(err));
        err_free(err);
    }
}

/* Running or waiting for the next try: there is no third outcome. */
static void start(struct po_process *process)
{
    struct process_orchestrator *owner = process->service->owner;
    ASSERT(process->state == PO_IDLE && process->os == NULL && process->is_wanted);
    err_t err = spawn(process);
    if (err != ERR_OK) {
        back_off(process, err_text(err));
        err_free(err);
        return;
    }
    process->state = PO_RUNNING;
    po_process_limit(process);
    process->started_us = io_now_us(owner->loop);
    process->record.pid = io_process_pid(process->os);
    process->record.start_ticks = io_process_start_ticks(process->os);
    write_record(process);
    LOG_INFO("orchestrator", "process started", LOG_STR("service", process->service->name),
             LOG_U64("process", process->index), LOG_U64("pid", (uint64_t)process->record.pid));
    set_ready(process, NULL);
}

/* ---- stopping -------------------------------------------------------------------------------- */

/* Asks it to end. Its exit comes as an event, or SIGKILL helps after the grace. */
static void stop(struct po_process *process)
{
    struct process_orchestrator *owner = process->service->owner;
    ASSERT(process->state == PO_RUNNING && process->os != NULL);
    process->state = PO_STOPPING;
    err_free(io_process_signal(process->os, SIGTERM)); /* already gone: its exit follows */
    io_timer_start(owner->loop, &process->timer, io_now_us(owner->loop) + owner->stop_grace_us);
    set_ready(process,
              process->is_wanted ? "stopping, to be started with new arguments" : "stopping");
}

/* The grace is over, or the pause. */
static void timer_fired(struct io_timer *timer)
{
    struct po_process *process = CONTAINER_OF(timer, struct po_process, timer);
    if (process->state == PO_STOPPING) {
        LOG_WARN("orchestrator", "process does not stop and is killed",
                 LOG_STR("service", process->service->name), LOG_U64("process", process->index));
        err_free(io_process_signal(process->os, SIGKILL));
        return;
    }
    ASSERT(process->state == PO_IDLE);
    po_process_converge(process);
}

/* Nothing runs and nothing should: no trace is left but the log. */
static void forget(struct po_process *process)
{
    ASSERT(process->state == PO_IDLE && process->os == NULL);
    struct io_loop *loop = process->service->owner->loop;
    char *path = po_record_path(process);
    err_t err = io_unlink_sync(loop, path);
    if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND) {
        LOG_WARN("orchestrator", "a record stays behind", LOG_STR("path", path), LOG_ERR(err));
    }
    err_free(err);
    free(path);
    po_service_forget(process);
}

void po_process_converge(struct po_process *process)
{
    switch (process->state) {
    case PO_RUNNING:
        if (!process->is_wanted || process->record.arguments != process->wanted) {
            stop(process);
        } else {
            set_ready(process, NULL);
        }
        break;
    case PO_STOPPING:
        break; /* its exit brings us back here */
    case PO_IDLE:
        io_timer_cancel(process->service->owner->loop, &process->timer);
        if (process->is_wanted) {
            start(process);
        } else {
            forget(process);
        }
        break;
    }
}

/* ---- adoption -------------------------------------------------------------------------------- */

/*
 * core/io checks executable and start time against the living process of that number. The wrapper,
 * if there is one, may be what runs: a debugger that stays around its child.
 */
static err_t try_adopt(struct po_process *process, const char *executable)
{
    ASSERT(process->record.pid > 0);
    return io_process_adopt(process->service->owner->loop, process->record.pid, executable,
                            process->record.start_ticks, exited, process, &process->os);
}

void po_process_adopt(struct po_process *process)
{
    struct process_orchestrator *owner = process->service->owner;
    ASSERT(process->state == PO_IDLE && process->os == NULL);
    /* The predecessor may have died between starting it and writing down its pid. */
    if (process->record.pid == 0 &&
        !po_find_process(owner->loop, process->record.arguments, &process->record.pid,
                         &process->record.start_ticks)) {
        return;
    }
    err_t err = try_adopt(process, process->record.executable);
    if (err != ERR_OK && owner->wrapper[0] != NULL) {
        err_free(err);
        err = try_adopt(process, owner->wrapper[0]);
    }
    if (err != ERR_OK) {
        LOG_INFO("orchestrator", "a recorded process has ended",
                 LOG_STR("service", process->service->name), LOG_U64("process", process->index),
                 LOG_ERR(err));
        err_free(err);
        process->record.pid = 0;
        return;
    }
    process->state = PO_RUNNING;
    process->started_us = 0; /* long ago: its next failure counts as the first */
    LOG_INFO("orchestrator", "process adopted", LOG_STR("service", process->service->name),
             LOG_U64("process", process->index), LOG_U64("pid", (uint64_t)process->record.pid));
}
