/*
 * Simulated loops: posts, timers, pollers, threads; and the table of functions. A loop is a part of
 * a process to which events happen one at a time.
 *
 * What a real loop does in one round is spread over events here, so that a kill, or another loop's
 * event, may come between any two steps that a real machine could separate: one posted task, one
 * timer, one delivery of bytes is one event each. The pollers run after every event of their loop:
 * a real one looks at them in every round, and what they watch (shared memory) can only have
 * changed in an event.
 *
 * Threads of a process are loops that share nothing but what their code shares. Since events of
 * different loops interleave in random order, races between messages show; races between memory
 * accesses do not, these are ThreadSanitizer's (tests with the real back-end).
 */
#include "core/io/sim/sim_internal.h"

enum {
    POLLS_AT_ONCE = 1000, /* of pollers that keep finding work, before others have their turn */
    POST_MAX_US = 3,      /* a task runs 1 us to this after it was posted */
};

/* An armed timer. Apart from io_timer, whose size is the other implementation's choice. */
struct sim_timer {
    struct sim_link link; /* of the loop */
    struct sim_event event;
    struct io_timer *timer; /* its owner's */
};

/* ---- objects --------------------------------------------------------------------------------- */

void sim_object_add(struct sim_loop *loop, struct sim_object *object,
                    void (*shut)(struct sim_object *), void (*free_fn)(struct sim_object *))
{
    ASSERT(shut != NULL && free_fn != NULL && !object->shut_done);
    object->shut = shut;
    object->free = free_fn;
    sim_link_add(&loop->objects, &object->link);
}

/* Once, whoever comes first: the owner or the end of the loop. */
void sim_object_shut(struct sim_object *object)
{
    ASSERT(object->shut != NULL);
    if (!object->shut_done) {
        object->shut_done = true;
        object->shut(object);
    }
}

/*
 * The owner has closed it. Not freed here: the call may come from a callback of the object itself,
 * whose frames still use it. The graveyard is emptied when the event is over.
 */
void sim_object_discard(struct sim_loop *loop, struct sim_object *object)
{
    sim_object_shut(object);
    if (io_loop_dead(&loop->base)) {
        return; /* freed when the process ends */
    }
    sim_link_remove(&object->link);
    sim_link_add(&loop->sim->graveyard, &object->link);
    if (!loop->sim->delivering) {
        sim_reap(loop->sim);
    }
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* One task an event, so that a kill may come between any two. */
static void tasks_run(struct sim_event *event)
{
    struct sim_loop *loop = event->loop;
    struct io_task *task = loop->tasks_first;
    ASSERT(task != NULL && loop->tasks_last != NULL);
    /* Relaxed, here and below: one thread; the field is atomic for the other implementation. */
    loop->tasks_first = atomic_load_explicit(&task->next, memory_order_relaxed);
    if (loop->tasks_first == NULL) {
        loop->tasks_last = NULL;
    } else {
        sim_event_set(loop->sim, event, sim_between(loop->sim, 0, 1));
    }
    atomic_store_explicit(&task->queued, 0, memory_order_relaxed);
    task->run(task);
}

/* From any loop of any process' own; all share the one thread. */
static void post(struct io_loop *base, struct io_task *task)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (io_loop_dead(base)) {
        return;
    }
    int was = atomic_exchange_explicit(&task->queued, 1, memory_order_relaxed);
    ASSERT(was == 0);
    atomic_store_explicit(&task->next, NULL, memory_order_relaxed);
    if (loop->tasks_last == NULL) {
        loop->tasks_first = task;
        sim_event_set(loop->sim, &loop->task_event, sim_between(loop->sim, 1, POST_MAX_US));
    } else {
        atomic_store_explicit(&loop->tasks_last->next, task, memory_order_relaxed);
    }
    loop->tasks_last = task;
}

/* Also on a loop that was killed and has not been ended yet. */
static void task_cancel(struct io_loop *base, struct io_task *task)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (atomic_load_explicit(&task->queued, memory_order_relaxed) == 0) {
        return;
    }
    struct io_task *before = NULL;
    struct io_task *at = loop->tasks_first;
    while (at != task) {
        ASSERT(at != NULL);
        before = at;
        at = atomic_load_explicit(&at->next, memory_order_relaxed);
    }
    struct io_task *after = atomic_load_explicit(&task->next, memory_order_relaxed);
    if (before == NULL) {
        loop->tasks_first = after;
    } else {
        atomic_store_explicit(&before->next, after, memory_order_relaxed);
    }
    loop->tasks_last = after == NULL ? before : loop->tasks_last;
    if (loop->tasks_first == NULL) {
        sim_event_clear(loop->sim, &loop->task_event);
    }
    atomic_store_explicit(&task->queued, 0, memory_order_relaxed);
}

/* ---- timers ---------------------------------------------------------------------------------- */

/* Disarms. */
static void timer_free(struct sim_loop *loop, struct sim_timer *entry)
{
    ASSERT(entry->timer->heap_at == (size_t)(uintptr_t)entry);
    sim_event_clear(loop->sim, &entry->event);
    sim_link_remove(&entry->link);
    entry->timer->heap_at = 0;
    free(entry);
}

/* Disarmed first: the callback may start it again. */
static void timer_run(struct sim_event *event)
{
    struct sim_timer *entry = CONTAINER_OF(event, struct sim_timer, event);
    struct io_timer *timer = entry->timer;
    timer_free(event->loop, entry);
    timer->fire(timer);
}

/* From virtual time to the wall clock of the process. */
static int64_t clock_offset(const struct sim_loop *loop)
{
    return (int64_t)SIM_EPOCH_US + loop->process->host->skew_us;
}

/* heap_at holds the entry's address: to the owner it only says armed or not. */
static void timer_start(struct io_loop *base, struct io_timer *timer)
{
    ASSERT(timer->heap_at == 0);
    struct sim_loop *loop = sim_loop_of(base);
    struct sim_timer *entry = MEM_NEW(struct sim_timer);
    entry->timer = timer;
    entry->event = (struct sim_event){.loop = loop, .kind = SIM_TIMER, .run = timer_run};
    sim_link_add(&loop->timers, &entry->link);
    timer->heap_at = (size_t)(uintptr_t)entry;
    uint64_t offset = (uint64_t)clock_offset(loop);
    uint64_t at = timer->deadline_us > offset ? timer->deadline_us - offset : 0;
    sim_event_set_at(loop->sim, &entry->event, at);
}

/* io.c calls this for armed timers only. */
static void timer_cancel(struct io_loop *base, struct io_timer *timer)
{
    struct sim_timer *entry = (struct sim_timer *)(uintptr_t)timer->heap_at;
    ASSERT(entry->timer == timer && entry->event.loop == sim_loop_of(base));
    timer_free(sim_loop_of(base), entry);
}

/* ---- pollers --------------------------------------------------------------------------------- */

/* False when work turned up meanwhile. */
static bool pollers_arm(struct sim_loop *loop)
{
    ASSERT(!loop->armed);
    bool quiet = true;
    for (struct io_poller *at = loop->base.pollers; at != NULL; at = at->next) {
        if (at->arm != NULL && at->arm(at)) {
            quiet = false;
        }
    }
    loop->armed = true;
    return quiet;
}

/* As after a wake. */
static void pollers_disarm(struct sim_loop *loop)
{
    if (!loop->armed) {
        return;
    }
    loop->armed = false;
    for (struct io_poller *at = loop->base.pollers; at != NULL; at = at->next) {
        if (at->disarm != NULL) {
            at->disarm(at);
        }
    }
}

/* After every event of the loop: until the pollers find no more work, or it is enough. */
void sim_loop_polls(struct sim_loop *loop)
{
    if (loop->base.pollers == NULL || io_loop_dead(&loop->base) || loop->stopping) {
        return;
    }
    pollers_disarm(loop);
    for (int i = 0; i < POLLS_AT_ONCE; i++) {
        bool worked = io_loop_poll(&loop->base, false);
        if (io_loop_dead(&loop->base) || loop->stopping) {
            return;
        }
        if (!worked && pollers_arm(loop)) {
            return;
        }
        pollers_disarm(loop);
    }
    sim_event_set(loop->sim, &loop->poll_event, 1);
}

static void poll_run(struct sim_event *event)
{
    ASSERT(event->kind == SIM_POLL);
    /* The pollers run after every event, so after this one. */
}

/* A new poller is asked soon, also when nothing else happens. */
static void pollers_changed(struct io_loop *base)
{
    struct sim_loop *loop = sim_loop_of(base);
    sim_event_set(loop->sim, &loop->poll_event, 0);
}

/* ---- loops and threads ----------------------------------------------------------------------- */

/* The first thing that happens to a process or a thread. */
static void start_run(struct sim_event *event)
{
    ASSERT(event->kind == SIM_START);
    event->loop->start(&event->loop->base, event->loop->arg);
}

/* On the owner's loop; the thread's own is dead. */
static void done_run(struct sim_event *event)
{
    struct sim_loop *loop = CONTAINER_OF(event, struct sim_loop, done_event);
    if (loop->done != NULL) {
        loop->done(loop->arg);
    }
}

/* The caller sets when it starts. */
struct sim_loop *sim_loop_new(struct sim_process *process, struct sim_loop *owner,
                              io_start_fn start, void *arg)
{
    ASSERT(start != NULL && (owner == NULL || owner->process == process));
    struct sim_loop *loop = MEM_NEW(struct sim_loop);
    loop->base.backend = &sim_backend;
    loop->base.env = &process->base;
    loop->base.thread = pthread_self(); /* the one thread of the simulator */
    loop->base.counters = &loop->base.own_counters;
    loop->sim = process->sim;
    loop->process = process;
    loop->owner = owner;
    loop->start = start;
    loop->arg = arg;
    loop->start_event = (struct sim_event){.loop = loop, .kind = SIM_START, .run = start_run};
    loop->task_event = (struct sim_event){.loop = loop, .kind = SIM_TASK, .run = tasks_run};
    loop->poll_event = (struct sim_event){.loop = loop, .kind = SIM_POLL, .run = poll_run};
    loop->done_event = (struct sim_event){.loop = owner, .kind = SIM_THREAD_DONE,
                                          .run = done_run};
    sim_link_init(&loop->timers);
    sim_link_init(&loop->objects);
    loop->next = process->loops;
    process->loops = loop;
    return loop;
}

/* A further loop of the process; cpu and name mean nothing here. */
static err_t thread_start(struct io_loop *base, const char *name, int cpu, io_start_fn start,
                          void (*done)(void *arg), void *arg)
{
    struct sim_loop *owner = sim_loop_of(base);
    struct sim_loop *loop = sim_loop_new(owner->process, owner, start, arg);
    loop->done = done;
    sim_event_set(loop->sim, &loop->start_event, sim_between(loop->sim, 1, 50));
    return ERR_OK;
}

/*
 * Tasks are forgotten, timers disarmed, objects shut: after this no pointer of the world leads into
 * memory that the process owns, so that the process may free it. Threads of the loop end with it,
 * as the real ones are joined. Idempotent: a thread may have been ended before its process is.
 */
void sim_loop_end(struct sim_loop *loop)
{
    ASSERT(loop->process->sim == loop->sim);
    struct sim *sim = loop->sim;
    io_loop_set_dead(&loop->base);
    sim_event_clear(sim, &loop->start_event);
    sim_event_clear(sim, &loop->task_event);
    sim_event_clear(sim, &loop->poll_event);
    for (struct io_task *task = loop->tasks_first; task != NULL;) {
        struct io_task *next = atomic_load_explicit(&task->next, memory_order_relaxed);
        atomic_store_explicit(&task->queued, 0, memory_order_relaxed);
        task = next;
    }
    loop->tasks_first = loop->tasks_last = NULL;
    while (loop->timers.next != &loop->timers) {
        timer_free(loop, CONTAINER_OF(loop->timers.next, struct sim_timer, link));
    }
    for (struct sim_link *at = loop->objects.next; at != &loop->objects; at = at->next) {
        sim_object_shut(CONTAINER_OF(at, struct sim_object, link));
    }
    for (struct sim_loop *other = loop->process->loops; other != NULL; other = other->next) {
        if (other->owner == loop) {
            sim_event_clear(sim, &other->done_event);
            sim_loop_end(other);
        }
    }
}

/* What the owner did not close goes with the loop. */
void sim_loop_free(struct sim_loop *loop)
{
    ASSERT(io_loop_dead(&loop->base));
    sim_event_clear(loop->sim, &loop->done_event);
    while (loop->objects.next != &loop->objects) {
        struct sim_object *object = CONTAINER_OF(loop->objects.next, struct sim_object, link);
        sim_link_remove(&object->link);
        object->free(object);
    }
    ASSERT(loop->task_event.heap_at == 0 && loop->start_event.heap_at == 0);
    ASSERT(loop->poll_event.heap_at == 0 && loop->timers.next == &loop->timers);
    free(loop);
}

/* Takes effect when the current callback has returned. */
static void loop_stop(struct io_loop *base)
{
    struct sim_loop *loop = sim_loop_of(base);
    loop->stopping = true;
    loop->sim->reap = true;
    if (!loop->sim->delivering) {
        sim_reap(loop->sim);
    }
}

/* ---- environment ----------------------------------------------------------------------------- */

/* sim_free does it, for a process that ended as for one that did not. */
static void env_free(struct io_env *env)
{
    /* A process belongs to its sim. */
}

/* A generator of its own for each process: others' calls do not change its numbers. */
static void env_random(struct io_env *env, void *out, size_t len)
{
    struct sim_process *process = (struct sim_process *)env;
    uint8_t *at = out;
    while (len > 0) {
        process->random = process->random * 6364136223846793005ULL + 1442695040888963407ULL;
        uint64_t v = process->random ^ (process->random >> 29);
        v *= 0xBF58476D1CE4E5B9ULL;
        v ^= v >> 32;
        size_t part = len < sizeof(v) ? len : sizeof(v);
        memcpy(at, &v, part);
        at += part;
        len -= part;
    }
}

/* The name is the identity: a simulated host does not reboot into another. */
static const char *env_host_id(struct io_env *env)
{
    return ((struct sim_process *)env)->host->name;
}

/* The real one runs until its loop stops, which here only the simulator can do. */
static err_t env_main(struct io_env *env, io_start_fn start, void *arg)
{
    return err_new(ERR_UNSUPPORTED, "a simulated process is started by its simulator");
}

static void note_wake(struct io_loop *loop, uint64_t rung_ns)
{
    /* Nobody sleeps on virtual time. */
}

static void set_spin(struct io_loop *loop, uint32_t max_us)
{
    /* Waiting costs nothing here. */
}

/* The wall clock; hosts disagree about it by their skew. */
static uint64_t now_us(struct io_loop *loop)
{
    return sim_loop_of(loop)->sim->now + (uint64_t)clock_offset(sim_loop_of(loop));
}

/* Never 0, which users take for "not yet". */
static uint64_t mono_ns(struct io_loop *loop)
{
    return (sim_loop_of(loop)->sim->now + 1) * 1000; /* the same on every host */
}

/* ---- what the simulator does not have -------------------------------------------------------- */

/*
 * Shared memory, doorbells and child processes are tested with the real back-end: their users ask
 * (io_has_futex) or take the error as a machine without the feature.
 */
static err_t unsupported(const char *what)
{
    return err_new(ERR_UNSUPPORTED, "the simulator has no %s", what);
}

static err_t bell_open(struct io_loop *loop, void (*ring)(void *arg), void *arg,
                       struct io_bell **out)
{
    *out = NULL;
    return unsupported("doorbells");
}

static int bell_fd(const struct io_bell *bell)
{
    UNREACHABLE();
}

static void bell_close(struct io_bell *bell)
{
    UNREACHABLE();
}

/* So users take their other way, which is then the one simulated. */
static bool has_futex(struct io_loop *loop)
{
    return false;
}

static err_t futex_open(struct io_loop *loop, const _Atomic uint32_t *word,
                        void (*woken)(void *arg), void *arg, struct io_futex **out)
{
    return unsupported("words of shared memory");
}

static void futex_arm(struct io_futex *futex, uint32_t seen)
{
    UNREACHABLE();
}

static void futex_close(struct io_futex *futex)
{
    UNREACHABLE();
}

static err_t process_start(struct io_loop *loop, const struct io_process_spec *spec,
                           io_exit_fn exited, void *arg, struct io_process **out)
{
    *out = NULL;
    return unsupported("operating system processes");
}

static err_t process_adopt(struct io_loop *loop, pid_t pid, const char *executable,
                           uint64_t start_ticks, io_exit_fn exited, void *arg,
                           struct io_process **out)
{
    *out = NULL;
    return unsupported("operating system processes");
}

static err_t process_limit_memory(struct io_process *process, uint64_t bytes)
{
    UNREACHABLE(); /* there are no processes to begin with */
}

static err_t process_signal(struct io_process *process, int signal_number)
{
    UNREACHABLE();
}

static void process_release(struct io_process *process)
{
    UNREACHABLE();
}

static err_t signal_watch(struct io_loop *loop, int signal_number,
                          void (*caught)(void *arg, int signal_number), void *arg)
{
    return unsupported("signals");
}

const struct io_backend sim_backend = {
    .simulated = true,
    .env_free = env_free,
    .random = env_random,
    .host_id = env_host_id,
    .main = env_main,
    .thread_start = thread_start,
    .loop_stop = loop_stop,
    .set_spin = set_spin,
    .note_wake = note_wake,
    .now_us = now_us,
    .mono_ns = mono_ns,
    .post = post,
    .task_cancel = task_cancel,
    .timer_start = timer_start,
    .timer_cancel = timer_cancel,
    .pollers_changed = pollers_changed,
    .bell_open = bell_open,
    .bell_fd = bell_fd,
    .bell_close = bell_close,
    .has_futex = has_futex,
    .futex_open = futex_open,
    .futex_arm = futex_arm,
    .futex_close = futex_close,
    .connect = sim_connect,
    .listen = sim_listen,
    .listener_address = sim_listener_address,
    .listener_close = sim_listener_close,
    .file_open = sim_file_open,
    .file_close = sim_file_close,
    .file_read = sim_file_read,
    .file_write = sim_file_write_op,
    .file_sync = sim_file_sync,
    .file_read_sync = sim_file_read_sync,
    .file_write_sync = sim_file_write_sync,
    .file_sync_sync = sim_file_sync_sync,
    .file_truncate_sync = sim_file_truncate_sync,
    .file_stat_sync = sim_file_stat_sync,
    .file_lock_sync = sim_file_lock_sync,
    .file_unlock_sync = sim_file_unlock_sync,
    .stat = sim_stat,
    .mkdir = sim_mkdir,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .chmod = sim_chmod,
    .dir_sync = sim_dir_sync,
    .dir_list = sim_dir_list,
    .watch_open = sim_watch_open,
    .watch_close = sim_watch_close,
    .process_start = process_start,
    .process_adopt = process_adopt,
    .process_signal = process_signal,
    .process_limit_memory = process_limit_memory,
    .process_release = process_release,
    .signal_watch = signal_watch,
};
