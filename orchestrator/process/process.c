/*
 * The process backend: its services, their ports and arguments, and what a predecessor left.
 * supervise.c looks after each process. environmentd's loop.
 *
 * A service is a wish: its image, scale, ports and the function that makes arguments
 * (ensure_service). A process is what is: what runs, or ran last, as its record says. Every change
 * goes the same way: write down the wish, then converge, which makes one step for each process;
 * what follows follows from exits and timers. So it does not matter whether a process was started
 * by us, or by a predecessor and adopted (load_record), or is about to be stopped.
 *
 * Events to the watcher are queued and told one a turn of the loop: never from inside a call, and
 * the watcher may do anything, also free the orchestrator.
 */
#include "orchestrator/process/process.h"

#include "core/base/buf.h"
#include "core/base/log.h"
#include "orchestrator/process/process_internal.h"

#include <stdio.h>

/* The backend is the struct that begins with the interface's. */
static struct process_orchestrator *of(struct orchestrator *o)
{
    return CONTAINER_OF(o, struct process_orchestrator, base);
}

/* ---- services -------------------------------------------------------------------------------- */

/* A handful of services: no map is needed. */
static struct po_service *find(struct process_orchestrator *o, const char *name)
{
    ASSERT(name != NULL);
    for (size_t i = 0; i < o->services_len; i++) {
        if (strcmp(o->services[i]->name, name) == 0) {
            return o->services[i];
        }
    }
    return NULL;
}

/* Services are kept in the order of their names, which is how they are listed. */
static struct po_service *add(struct process_orchestrator *o, const char *name)
{
    ASSERT(find(o, name) == NULL);
    struct po_service *service = MEM_NEW(struct po_service);
    service->name = mem_strdup(name);
    service->owner = o;
    (void)VEC_PUSH(o, services);
    size_t at = o->services_len - 1;
    for (; at > 0 && strcmp(o->services[at - 1]->name, name) > 0; at--) {
        o->services[at] = o->services[at - 1];
    }
    o->services[at] = service;
    return service;
}

/* Names are ours though the struct has them const. */
static void free_config(struct po_service *service)
{
    free(service->image);
    service->image = NULL;
    for (size_t i = 0; i < service->ports_len; i++) {
        free((void *)(uintptr_t)service->ports[i].name);
    }
    free(service->ports);
    service->ports = NULL;
    service->ports_len = 0;
}

/* Memory only: what runs keeps running. */
static void service_free(struct po_service *service)
{
    ASSERT(service != NULL);
    for (size_t i = 0; i < service->processes_len; i++) {
        po_process_free(service->processes[i]);
    }
    free(service->processes);
    free_config(service);
    free(service->name);
    free(service);
}

/* A dropped service whose last process was forgotten. */
static void remove_service(struct po_service *service)
{
    ASSERT(service->processes_len == 0);
    struct process_orchestrator *o = service->owner;
    size_t at = 0;
    while (o->services[at] != service) {
        at++;
        ASSERT(at < o->services_len);
    }
    o->services_len--;
    memmove(&o->services[at], &o->services[at + 1],
            (o->services_len - at) * sizeof(o->services[0]));
    service_free(service);
    if (o->services_len == 0 && o->stopped != NULL) {
        io_timer_start(o->loop, &o->events_timer, io_now_us(o->loop));
    }
}

/* In no order: processes are added and forgotten as they come. */
static struct po_process *process_of(const struct po_service *service, uint32_t index)
{
    for (size_t i = 0; i < service->processes_len; i++) {
        if (service->processes[i]->index == index) {
            return service->processes[i];
        }
    }
    return NULL;
}

/* Idle, until a converge. */
static struct po_process *add_process(struct po_service *service, uint32_t index)
{
    ASSERT(process_of(service, index) == NULL);
    struct po_process *process = po_process_new(service, index);
    *VEC_PUSH(service, processes) = process;
    return process;
}

/* Of a dropped service the last takes the service with it. */
void po_service_forget(struct po_process *process)
{
    ASSERT(process->os == NULL);
    struct po_service *service = process->service;
    size_t at = 0;
    while (service->processes[at] != process) {
        at++;
        ASSERT(at < service->processes_len);
    }
    service->processes[at] = service->processes[--service->processes_len];
    po_process_free(process);
    if (service->processes_len == 0 && service->dropped) {
        remove_service(service);
    }
}

/* ---- ports ----------------------------------------------------------------------------------- */

/* By name; NULL when the process has none of that name. */
static struct po_port *port_of(const struct po_process *process, const char *name)
{
    for (size_t i = 0; i < process->record.ports_len; i++) {
        if (strcmp(process->record.ports[i].name, name) == 0) {
            return &process->record.ports[i];
        }
    }
    return NULL;
}

/* True when a process of ours has this port, living or not. */
static bool is_assigned(const struct process_orchestrator *o, uint16_t number)
{
    for (size_t i = 0; i < o->services_len; i++) {
        for (size_t j = 0; j < o->services[i]->processes_len; j++) {
            const struct po_record *record = &o->services[i]->processes[j]->record;
            for (size_t k = 0; k < record->ports_len; k++) {
                if (record->ports[k].number == number) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* Neither promised to a process of ours nor used by somebody else. */
static bool is_usable(struct process_orchestrator *o, uint16_t number)
{
    ASSERT(number > 0);
    return !is_assigned(o, number) && po_port_is_free(o->loop, o->listen_host, number);
}

enum { DEFAULT_BASE_PORT = 2100 };

/* Counts upward rather than letting the kernel choose: addresses stay where people expect them. */
static err_t choose_port(struct process_orchestrator *o, uint16_t hint, uint16_t *out)
{
    ASSERT(out != NULL);
    if (o->base_port == 0 && hint != 0 && is_usable(o, hint)) {
        *out = hint;
        return ERR_OK;
    }
    unsigned first = o->base_port == 0 ? DEFAULT_BASE_PORT : o->base_port;
    for (unsigned number = first; number <= UINT16_MAX; number++) {
        if (is_usable(o, (uint16_t)number)) {
            *out = (uint16_t)number;
            return ERR_OK;
        }
    }
    return err_new(ERR_LIMIT, "no free port from %u upward on %s", first, o->listen_host);
}

static void set_port(struct process_orchestrator *o, struct po_port *port, uint16_t number)
{
    ASSERT(number > 0 && port->name != NULL);
    char text[300];
    port->number = number;
    snprintf(text, sizeof(text), strchr(o->listen_host, ':') == NULL ? "%s:%u" : "[%s]:%u",
             o->listen_host, number);
    free(port->address);
    port->address = mem_strdup(text);
}

/* A port that a process does not run with any more may have been taken by somebody meanwhile. */
static bool must_move(struct process_orchestrator *o, const struct po_process *process,
                      const struct po_port *port)
{
    return process->state == PO_IDLE &&
           (port->number == 0 || !po_port_is_free(o->loop, o->listen_host, port->number));
}

/* A process keeps the ports it has; missing ones are chosen. */
static err_t assign_ports(struct po_process *process,
                          const struct orchestrator_service_config *config)
{
    ASSERT(config->ports_len <= 16);
    struct process_orchestrator *o = process->service->owner;
    for (size_t i = 0; i < config->ports_len; i++) {
        struct po_port *port = port_of(process, config->ports[i].name);
        if (port != NULL && !must_move(o, process, port)) {
            continue;
        }
        uint16_t number = 0;
        TRY(choose_port(o, config->scale == 1 ? config->ports[i].hint : 0, &number));
        if (port == NULL) {
            port = VEC_PUSH(&process->record, ports);
            port->name = mem_strdup(config->ports[i].name);
        }
        set_port(o, port, number);
    }
    return ERR_OK;
}

static const char *address_of(const struct po_service *service, uint32_t index, const char *name)
{
    ASSERT(name != NULL);
    const struct po_process *process = process_of(service, index);
    const struct po_port *port = process == NULL ? NULL : port_of(process, name);
    return port == NULL ? NULL : port->address;
}

/* ---- converging a service -------------------------------------------------------------------- */

/* What make_args is given to ask for others' addresses. */
static const char *peer_address(const void *arg, uint32_t process, const char *port)
{
    return address_of(arg, process, port);
}

/*
 * Decides what a process should run; converge makes it so. The hash of the command line is what
 * tells a change; a process that runs with it is as wanted.
 */
static void want(struct po_process *process, const struct orchestrator_service_config *config)
{
    ASSERT(process->index < config->scale);
    struct po_service *service = process->service;
    const char *listen[16];
    ASSERT(config->ports_len <= ARRAY_LEN(listen));
    for (size_t i = 0; i < config->ports_len; i++) {
        listen[i] = port_of(process, config->ports[i].name)->address;
    }
    struct orchestrator_assignment assignment = {.service = service->name,
                                                 .process = process->index,
                                                 .scale = service->scale,
                                                 .ports = service->ports,
                                                 .ports_len = service->ports_len,
                                                 .listen = listen,
                                                 .peer = peer_address,
                                                 .peer_arg = service};
    orchestrator_args_free(&process->wanted_args);
    config->make_args(config->make_args_arg, &assignment, &process->wanted_args);
    struct orchestrator_args *args = &process->wanted_args;
    const char **argv = mem_alloc((args->args_len + 2) * sizeof(*argv));
    argv[0] = service->image;
    for (size_t i = 0; i < args->args_len; i++) {
        argv[i + 1] = args->args[i];
    }
    argv[args->args_len + 1] = NULL;
    uint64_t before = process->wanted;
    process->wanted = po_arguments_hash(argv);
    process->is_wanted = true;
    free(argv);
    if (before != 0 && before != process->wanted) { /* a new try with something new */
        process->backoff_us = service->owner->backoff_min_us;
    }
}

/* Strings of the config are the caller's; make_args is called now, and not kept. */
static void copy_config(struct po_service *service,
                        const struct orchestrator_service_config *config)
{
    ASSERT(config->image != NULL);
    free_config(service);
    service->image = mem_strdup(config->image);
    service->scale = config->scale;
    service->memory_limit = config->memory_limit;
    service->ports = mem_zalloc((config->ports_len + 1) * sizeof(service->ports[0]));
    service->ports_len = config->ports_len;
    for (size_t i = 0; i < config->ports_len; i++) {
        service->ports[i].name = mem_strdup(config->ports[i].name);
        service->ports[i].hint = config->ports[i].hint;
    }
}

/* Processes of a service in the order of their numbers, as they are now: handling one may remove
 * it. */
static struct po_process **snapshot(const struct po_service *service, size_t *len)
{
    *len = service->processes_len;
    struct po_process **all = mem_alloc((*len + 1) * sizeof(struct po_process *));
    size_t at = 0;
    for (uint32_t index = 0; at < *len; index++) {
        struct po_process *process = process_of(service, index);
        if (process != NULL) {
            all[at++] = process;
        }
    }
    return all;
}

/*
 * One step for each process. Everything further follows from exits and timers. Also processes
 * beyond the scale, which are not wanted any more.
 */
static void converge(struct po_service *service)
{
    ASSERT(service->owner != NULL);
    size_t len;
    struct po_process **all = snapshot(service, &len);
    for (size_t i = 0; i < len; i++) {
        /* A process that waits for its next start keeps waiting if nothing changed for it. */
        bool waits = all[i]->state == PO_IDLE && all[i]->timer.heap_at != 0 && all[i]->is_wanted &&
                     all[i]->record.arguments == all[i]->wanted;
        if (!waits) {
            po_process_converge(all[i]);
        }
    }
    free(all);
}

/*
 * Creates and changes alike: state what is wanted, then converge. Limits are not part of the
 * command line: changing them replaces nothing.
 */
static err_t ensure_service(struct orchestrator *base, const char *name,
                            const struct orchestrator_service_config *config)
{
    ASSERT(name != NULL);
    struct process_orchestrator *o = of(base);
    if (strchr(config->image, '\n') != NULL) {
        return err_new(ERR_INVALID, "service %s: a line break in the path of the executable", name);
    }
    if (config->cpu_limit_milli != 0) {
        return err_hint(err_new(ERR_UNSUPPORTED,
                                "service %s: a process of this host cannot be limited in CPU",
                                name),
                        "Run the environment in a control group, for example systemd's CPUQuota.");
    }
    struct po_service *service = find(o, name);
    service = service != NULL ? service : add(o, name);
    service->dropped = false;
    copy_config(service, config);
    for (uint32_t i = 0; i < config->scale; i++) {
        struct po_process *process = process_of(service, i);
        process = process != NULL ? process : add_process(service, i);
        TRY(err_wrap(assign_ports(process, config), "service %s", name));
    }
    /* Arguments may name every peer: all ports are assigned before any are made. */
    for (size_t i = 0; i < service->processes_len; i++) {
        struct po_process *process = service->processes[i];
        if (process->index < config->scale) {
            want(process, config);
            po_process_limit(process); /* one that is kept; others get it as they start */
        } else {
            process->is_wanted = false;
        }
    }
    converge(service);
    return ERR_OK;
}

/*
 * Nothing of it is wanted; it goes when its last process has. Its processes are stopped; it is
 * listed no more.
 */
static void drop(struct po_service *service)
{
    ASSERT(!service->dropped);
    service->dropped = true;
    for (size_t i = 0; i < service->processes_len; i++) {
        service->processes[i]->is_wanted = false;
    }
    if (service->processes_len == 0) {
        remove_service(service);
        return;
    }
    converge(service);
}

/* Dropping what is going already is nothing. */
static err_t drop_service(struct orchestrator *base, const char *name)
{
    struct po_service *service = find(of(base), name);
    if (service != NULL && !service->dropped) {
        drop(service);
    }
    return ERR_OK;
}

/* Also what a predecessor left and nobody has asked for yet: image NULL. */
static void list_services(struct orchestrator *base, orchestrator_list_fn each, void *arg)
{
    struct process_orchestrator *o = of(base);
    for (size_t i = 0; i < o->services_len; i++) {
        const struct po_service *service = o->services[i];
        uint32_t scale = service->image == NULL ? (uint32_t)service->processes_len : service->scale;
        if (!service->dropped && !each(arg, service->name, scale)) {
            return;
        }
    }
}

/* Valid until the service changes. */
static const char *address(struct orchestrator *base, const char *name, uint32_t index,
                           const char *port)
{
    struct po_service *service = find(of(base), name);
    return service == NULL || service->dropped ? NULL : address_of(service, index, port);
}

/* ---- events ---------------------------------------------------------------------------------- */

/* What was not told is not told any more. */
static void free_events(struct process_orchestrator *o)
{
    ASSERT(o->events_len <= o->events_cap);
    for (size_t i = 0; i < o->events_len; i++) {
        free(o->events[i].service);
        free(o->events[i].reason);
    }
    free(o->events);
    o->events = NULL;
    o->events_len = o->events_cap = 0;
}

/* A new watcher first hears how everything is now. */
static void watch_services(struct orchestrator *base, orchestrator_watch_fn watch, void *arg)
{
    struct process_orchestrator *o = of(base);
    free_events(o);
    o->watch = watch;
    o->watch_arg = arg;
    for (size_t i = 0; i < o->services_len; i++) {
        size_t len;
        struct po_process **all = snapshot(o->services[i], &len);
        for (size_t j = 0; j < len; j++) {
            if (all[j]->told) {
                po_process_tell(all[j]);
            }
        }
        free(all);
    }
}

/* One event, to whoever watches now. */
static void tell(const struct process_orchestrator *o, const struct po_event *event)
{
    ASSERT(o->watch != NULL);
    struct orchestrator_event public = {.service = event->service,
                                        .process = event->process,
                                        .state = event->ready ? ORCHESTRATOR_READY
                                                              : ORCHESTRATOR_NOT_READY,
                                        .reason = event->reason,
                                        .time_us = event->time_us};
    o->watch(o->watch_arg, &public);
}

/* One event a turn: the watcher may do anything, also free the orchestrator. */
static void events_timer_fired(struct io_timer *timer)
{
    struct process_orchestrator *o = CONTAINER_OF(timer, struct process_orchestrator, events_timer);
    if (o->events_len > 0) {
        struct po_event event = o->events[0];
        o->events_len--;
        memmove(&o->events[0], &o->events[1], o->events_len * sizeof(event));
        io_timer_start(o->loop, &o->events_timer, io_now_us(o->loop));
        tell(o, &event);
        free(event.service);
        free(event.reason);
    } else if (o->stopped != NULL && o->services_len == 0) {
        void (*stopped)(void *arg) = o->stopped;
        o->stopped = NULL;
        stopped(o->stopped_arg);
    }
}

/* ---- logs ------------------------------------------------------------------------------------ */

/* Every process's log, living or not: one that crashes in a loop writes too. */
static void logs_timer_fired(struct io_timer *timer)
{
    struct process_orchestrator *o = CONTAINER_OF(timer, struct process_orchestrator, logs_timer);
    ASSERT(o->log_bytes > 0 && o->log_look_us > 0);
    for (size_t i = 0; i < o->services_len; i++) {
        for (size_t j = 0; j < o->services[i]->processes_len; j++) {
            char *path = po_log_path(o->services[i]->processes[j]);
            po_log_rotate(o->loop, path, o->log_bytes);
            free(path);
        }
    }
    io_timer_start(o->loop, timer, io_now_us(o->loop) + o->log_look_us);
}

/* ---- start and end --------------------------------------------------------------------------- */

/* One process of a predecessor. A broken record is a warning: it must not stop the start. */
static err_t load_record(struct process_orchestrator *o, const char *file)
{
    ASSERT(file != NULL);
    char name[65];
    uint32_t index;
    if (!po_record_name_parse(file, name, &index)) {
        return ERR_OK; /* logs, temporary files */
    }
    struct buf path = {0};
    buf_printf(&path, "%s/%s", o->directory, file);
    struct po_record record;
    err_t err = po_record_read(o->loop, buf_cstr(&path), &record);
    if (err != ERR_OK) {
        LOG_WARN("orchestrator", "a record is ignored", LOG_STR("path", buf_cstr(&path)),
                 LOG_ERR(err));
        err_free(err);
        buf_free(&path);
        return ERR_OK;
    }
    buf_free(&path);
    struct po_service *service = find(o, name);
    service = service != NULL ? service : add(o, name);
    struct po_process *process = add_process(service, index);
    process->record = record;
    for (size_t i = 0; i < record.ports_len; i++) {
        set_port(o, &process->record.ports[i], process->record.ports[i].number);
    }
    po_process_adopt(process);
    return ERR_OK;
}

/* For io_dir_list_sync. */
static err_t load_record_each(void *arg, const char *file)
{
    return load_record(arg, file);
}

enum { LOCK_WAIT_MS = 1000 };

/*
 * One orchestrator a directory. The lock is shared by a child between fork and exec, and so by the
 * child a predecessor was starting when it was killed: once we have it, every process that will
 * ever run because of the predecessor shows its own command line and can be found.
 */
static err_t lock_directory(struct process_orchestrator *o)
{
    struct buf path = {0};
    buf_printf(&path, "%s/lock", o->directory);
    err_t err = io_file_open(o->loop, buf_cstr(&path), IO_OPEN_WRITE | IO_OPEN_CREATE, &o->lock);
    buf_free(&path);
    TRY(err);
    uint64_t begin = io_mono_ns(o->loop);
    bool locked = false;
    do { /* microseconds, unless another one is alive; at start there is nothing else to do */
        TRY(io_file_lock_sync(o->lock, &locked));
    } while (!locked && io_mono_ns(o->loop) - begin < LOCK_WAIT_MS * 1000000ULL);
    if (!locked) {
        return err_new(ERR_UNAVAILABLE, "another environmentd uses %s", o->directory);
    }
    return ERR_OK;
}

/* The order matters: nobody else may start anything while we look at what runs. */
static err_t open_directory(struct process_orchestrator *o)
{
    ASSERT(o->lock == NULL);
    struct buf logs = {0};
    buf_printf(&logs, "%s/logs", o->directory);
    err_t err = io_mkdir_durable_sync(o->loop, buf_cstr(&logs), 0700);
    buf_free(&logs);
    TRY(err);
    TRY(lock_directory(o));
    return io_dir_list_sync(o->loop, o->directory, load_record_each, o);
}

/* The lock goes with everything else: a successor may take over from here on. */
static void free_all(struct orchestrator *base)
{
    struct process_orchestrator *o = of(base);
    io_timer_cancel(o->loop, &o->events_timer);
    io_timer_cancel(o->loop, &o->logs_timer);
    for (size_t i = 0; i < o->services_len; i++) {
        service_free(o->services[i]);
    }
    free(o->services);
    if (o->lock != NULL) {
        io_file_close(o->lock);
    }
    free_events(o);
    for (size_t i = 0; o->wrapper[i] != NULL; i++) {
        free(o->wrapper[i]);
    }
    free(o->wrapper);
    free(o->directory);
    free(o->listen_host);
    free(o);
}

static const struct orchestrator_ops ops = {
    .ensure_service = ensure_service,
    .drop_service = drop_service,
    .list_services = list_services,
    .watch_services = watch_services,
    .address = address,
    .free = free_all,
};

/* NULL ends both; NULL is no words. */
static char **copy_words(const char *const *words)
{
    size_t len = 0;
    while (words != NULL && words[len] != NULL) {
        len++;
    }
    char **copy = mem_zalloc((len + 1) * sizeof(char *));
    for (size_t i = 0; i < len; i++) {
        copy[i] = mem_strdup(words[i]);
    }
    return copy;
}

/* Zero is "not set" in the config. */
static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value == 0 ? otherwise : value;
}

/* Adopts what lives; starts nothing before it is asked to. */
err_t process_orchestrator_new(struct io_loop *loop,
                               const struct process_orchestrator_config *config,
                               struct orchestrator **out)
{
    ASSERT(loop != NULL && config != NULL && config->data_directory != NULL && out != NULL);
    if (io_env_simulated(io_loop_env(loop))) {
        return err_new(ERR_UNSUPPORTED, "the simulator starts its processes itself");
    }
    struct process_orchestrator *o = MEM_NEW(struct process_orchestrator);
    struct buf directory = {0};
    buf_printf(&directory, "%s/orchestrator", config->data_directory);
    o->base.ops = &ops;
    o->loop = loop;
    o->directory = mem_strdup(buf_cstr(&directory));
    o->listen_host = mem_strdup(config->listen_host == NULL ? "127.0.0.1" : config->listen_host);
    o->wrapper = copy_words(config->wrapper);
    o->base_port = config->base_port;
    o->backoff_min_us = or_default(config->backoff_min_us, 100000);
    o->backoff_max_us = or_default(config->backoff_max_us, 10000000);
    o->healthy_us = or_default(config->healthy_us, 10000000);
    o->stop_grace_us = or_default(config->stop_grace_us, 5000000);
    o->log_bytes = or_default(config->log_bytes, 16 << 20);
    o->log_look_us = or_default(config->log_look_us, 10000000);
    o->events_timer.fire = events_timer_fired;
    o->logs_timer.fire = logs_timer_fired;
    buf_free(&directory);
    err_t err = open_directory(o);
    if (err != ERR_OK) {
        err = err_wrap(err, "orchestrator in %s", o->directory);
        free_all(&o->base);
        return err;
    }
    io_timer_start(loop, &o->logs_timer, io_now_us(loop) + o->log_look_us);
    *out = &o->base;
    return ERR_OK;
}

/* Also services that nobody has asked for yet. */
void process_orchestrator_stop_all(struct orchestrator *base, void (*stopped)(void *arg), void *arg)
{
    struct process_orchestrator *o = of(base);
    ASSERT(base->ops == &ops && o->stopped == NULL && stopped != NULL);
    o->stopped = stopped;
    o->stopped_arg = arg;
    for (size_t i = o->services_len; i > 0; i--) {
        struct po_service *service = o->services[i - 1];
        if (!service->dropped) {
            drop(service); /* may remove it, and only it */
        }
    }
    io_timer_start(o->loop, &o->events_timer, io_now_us(o->loop));
}
