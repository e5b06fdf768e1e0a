/* The simulated world: see world.h. */
#include "tests/sim/world.h"

#include "core/base/assert.h"
#include "core/base/mem.h"
#include "ctrl/computed/computed.h"
#include "ctrl/storaged/storaged.h"

#include <stdio.h>

enum { STEP_US = 5000, RESTART_US = 50000, EVENTS_US = 10000 };

struct world_process {
    struct world *world;
    struct world_service *service;
    uint32_t index;
    char host[96];
    struct sim_process *process;
    struct hosted *hosted; /* NULL: dead */
    uint64_t dead_since; /* virtual; 0: alive */
    struct orchestrator_args args;
    const char *peers[256];
};

struct world_service {
    struct world_service *next;
    char *name;
    bool storage;
    bool dropped;
    uint32_t scale;
    char ports[3][32];
    struct world_process *processes;
};

struct world {
    struct sim *sim;
    struct world_service *services;
    char cut_a[96], cut_b[96];
    struct world_counts counts;
    char limited[96]; /* the service whose dataflows get memory_limit bytes a worker */
    uint64_t memory_limit;
};

/* ---- processes ------------------------------------------------------------------------------- */

/* What runs in a simulated process: either of the two. */
struct hosted {
    struct world_process *process;
    struct storaged *storaged;
    struct computed *computed;
    char *copies[16];
    size_t copies_len;
    const char *peers[64];
};

static const char *arg_value(struct hosted *hosted, const char *name)
{
    const struct orchestrator_args *args = &hosted->process->args;
    size_t len = strlen(name);
    for (size_t i = 0; i < args->args_len; i++) {
        const char *arg = args->args[i];
        if (strncmp(arg, "--", 2) == 0 && strncmp(arg + 2, name, len) == 0 &&
            arg[2 + len] == '=') {
            ASSERT(hosted->copies_len < ARRAY_LEN(hosted->copies));
            char *copy = mem_strdup(arg + len + 3);
            hosted->copies[hosted->copies_len++] = copy;
            return copy;
        }
    }
    return NULL;
}

static uint32_t arg_number(struct hosted *hosted, const char *name)
{
    const char *text = arg_value(hosted, name);
    return text != NULL ? (uint32_t)strtoul(text, NULL, 10) : 0;
}

static err_t start_storaged(struct hosted *hosted, struct io_loop *loop)
{
    const struct storaged_config config = {
        .controller_address = arg_value(hosted, "controller-listen-addr"),
        .storage_address = arg_value(hosted, "storage-listen-addr"),
        .data_directory = arg_value(hosted, "data-directory"),
        .environment = arg_value(hosted, "environment-id"),
        .carrier = "tcp",
        .process = arg_number(hosted, "process"),
        .processes = arg_number(hosted, "processes"),
        .workers = arg_number(hosted, "workers"),
        .tick_us = 20000,
    };
    return storaged_start(loop, &config, &hosted->storaged);
}

static err_t start_computed(struct hosted *hosted, struct io_loop *loop)
{
    struct computed_config config = {
        .controller_address = arg_value(hosted, "controller-listen-addr"),
        .compute_address = arg_value(hosted, "compute-listen-addr"),
        .environment = arg_value(hosted, "environment-id"),
        .carrier = "tcp",
        .service = arg_number(hosted, "service-id"),
        .process = arg_number(hosted, "process"),
        .processes = arg_number(hosted, "processes"),
        .workers = arg_number(hosted, "workers"),
    };
    const struct world *world = hosted->process->world;
    if (strcmp(world->limited, hosted->process->service->name) == 0) {
        config.memory_limit = world->memory_limit;
    }
    const char *peers = arg_value(hosted, "peers");
    if (peers != NULL) {
        char *rest = hosted->copies[hosted->copies_len - 1];
        for (size_t i = 0; i < config.processes && rest != NULL; i++) {
            hosted->peers[i] = strsep(&rest, ",");
        }
        config.peers = hosted->peers;
    }
    return computed_start(loop, &config, &hosted->computed);
}

static void hosted_start(struct io_loop *loop, void *arg)
{
    struct hosted *hosted = arg;
    err_t err = hosted->process->service->storage ? start_storaged(hosted, loop)
                                                  : start_computed(hosted, loop);
    if (err != ERR_OK) {
        fprintf(stderr, "%s does not start: %s\n", hosted->process->host, err_text(err));
        err_free(err);
        io_loop_stop(loop);
    }
}

static void hosted_destroy(void *arg)
{
    struct hosted *hosted = arg;
    hosted->process->hosted = NULL;
    storaged_free(hosted->storaged);
    computed_free(hosted->computed);
    for (size_t i = 0; i < hosted->copies_len; i++) {
        free(hosted->copies[i]);
    }
    free(hosted);
}

static void process_start(struct world_process *process)
{
    struct hosted *hosted = MEM_NEW(struct hosted);
    hosted->process = process;
    process->dead_since = 0;
    process->hosted = hosted;
    process->process = sim_process_start(process->world->sim, process->host, process->host,
                                         hosted_start, hosted_destroy, hosted);
}

/* ---- the orchestrator ------------------------------------------------------------------------ */

struct world_orchestrator {
    struct orchestrator base;
    struct world *world;
    struct io_loop *loop;
    struct io_timer timer;
    orchestrator_watch_fn watch;
    void *watch_arg;
    char address[128];
    bool told[64][64]; /* last state told, by service and process */
};

static struct world_service *find_service(struct world *world, const char *name)
{
    struct world_service *service = world->services;
    while (service != NULL && (service->dropped || strcmp(service->name, name) != 0)) {
        service = service->next;
    }
    return service;
}

static const char *peer_address(const void *arg, uint32_t process, const char *port)
{
    const struct world_service *service = arg;
    static const int numbers[] = {2100, 2101, 6878};
    for (int p = 0; p < 3; p++) {
        if (strcmp(service->ports[p], port) == 0) {
            struct world_process *self = &service->processes[process];
            static char text[256][128];
            snprintf(text[process % 256], sizeof(text[0]), "%s:%d", self->host, numbers[p]);
            return text[process % 256];
        }
    }
    return NULL;
}

static void make_args(struct world_service *service,
                      const struct orchestrator_service_config *config)
{
    for (uint32_t p = 0; p < service->scale; p++) {
        struct world_process *process = &service->processes[p];
        char listen[3][128];
        const char *listens[3] = {listen[0], listen[1], listen[2]};
        for (size_t i = 0; i < config->ports_len && i < 3; i++) {
            snprintf(listen[i], sizeof(listen[i]), "%s",
                     peer_address(service, p, config->ports[i].name));
        }
        const struct orchestrator_assignment assignment = {.service = service->name,
                                                           .process = p,
                                                           .scale = service->scale,
                                                           .ports = config->ports,
                                                           .ports_len = config->ports_len,
                                                           .listen = listens,
                                                           .peer = peer_address,
                                                           .peer_arg = service};
        orchestrator_args_free(&process->args);
        config->make_args(config->make_args_arg, &assignment, &process->args);
    }
}

static err_t ensure_service(struct orchestrator *o, const char *name,
                            const struct orchestrator_service_config *config)
{
    struct world_orchestrator *wo = CONTAINER_OF(o, struct world_orchestrator, base);
    struct world_service *service = find_service(wo->world, name);
    if (service != NULL) {
        return ERR_OK; /* living processes are adopted */
    }
    service = MEM_NEW(struct world_service);
    service->name = mem_strdup(name);
    service->storage = strcmp(name, "storage") == 0;
    service->scale = config->scale;
    service->processes = mem_zalloc(config->scale * sizeof(service->processes[0]));
    for (size_t i = 0; i < config->ports_len && i < 3; i++) {
        snprintf(service->ports[i], sizeof(service->ports[i]), "%s", config->ports[i].name);
    }
    for (uint32_t p = 0; p < config->scale; p++) {
        struct world_process *process = &service->processes[p];
        process->world = wo->world;
        process->service = service;
        process->index = p;
        snprintf(process->host, sizeof(process->host), "%s-%u", name, p);
    }
    make_args(service, config);
    service->next = wo->world->services;
    wo->world->services = service;
    for (uint32_t p = 0; p < config->scale; p++) {
        process_start(&service->processes[p]);
    }
    return ERR_OK;
}

static err_t drop_service(struct orchestrator *o, const char *name)
{
    struct world_orchestrator *wo = CONTAINER_OF(o, struct world_orchestrator, base);
    struct world_service *service = find_service(wo->world, name);
    if (service == NULL) {
        return ERR_OK;
    }
    service->dropped = true;
    for (uint32_t p = 0; p < service->scale; p++) {
        sim_process_kill(wo->world->sim, service->processes[p].process);
    }
    return ERR_OK;
}

static void list_services(struct orchestrator *o, orchestrator_list_fn each, void *arg)
{
    struct world_orchestrator *wo = CONTAINER_OF(o, struct world_orchestrator, base);
    for (struct world_service *s = wo->world->services; s != NULL; s = s->next) {
        if (!s->dropped && !each(arg, s->name, s->scale)) {
            return;
        }
    }
}

static void watch_services(struct orchestrator *o, orchestrator_watch_fn watch, void *arg)
{
    struct world_orchestrator *wo = CONTAINER_OF(o, struct world_orchestrator, base);
    wo->watch = watch;
    wo->watch_arg = arg;
}

static const char *service_address(struct orchestrator *o, const char *name, uint32_t process,
                                   const char *port)
{
    struct world_orchestrator *wo = CONTAINER_OF(o, struct world_orchestrator, base);
    struct world_service *service = find_service(wo->world, name);
    if (service == NULL || process >= service->scale) {
        return NULL;
    }
    const char *address = peer_address(service, process, port);
    if (address == NULL) {
        return NULL;
    }
    snprintf(wo->address, sizeof(wo->address), "%s", address);
    return wo->address;
}

static void orchestrator_destroy(struct orchestrator *o)
{
    struct world_orchestrator *wo = CONTAINER_OF(o, struct world_orchestrator, base);
    io_timer_cancel(wo->loop, &wo->timer);
    free(wo);
}

static const struct orchestrator_ops orchestrator_ops = {.ensure_service = ensure_service,
                                                         .drop_service = drop_service,
                                                         .list_services = list_services,
                                                         .watch_services = watch_services,
                                                         .address = service_address,
                                                         .free = orchestrator_destroy};

static void tell_states(struct io_timer *timer)
{
    struct world_orchestrator *wo = CONTAINER_OF(timer, struct world_orchestrator, timer);
    size_t s = 0;
    for (struct world_service *service = wo->world->services; service != NULL && s < 64;
         service = service->next, s++) {
        for (uint32_t p = 0; p < service->scale && p < 64; p++) {
            bool alive = sim_process_alive(service->processes[p].process);
            if (alive == wo->told[s][p] || wo->watch == NULL) {
                continue;
            }
            wo->told[s][p] = alive;
            const struct orchestrator_event event = {
                .service = service->name,
                .process = p,
                .state = alive ? ORCHESTRATOR_READY : ORCHESTRATOR_NOT_READY,
                .reason = alive ? "" : "the process died"};
            wo->watch(wo->watch_arg, &event);
        }
    }
    io_timer_start(wo->loop, &wo->timer, io_now_us(wo->loop) + EVENTS_US);
}

struct orchestrator *world_orchestrator_new(struct world *world, struct io_loop *loop)
{
    struct world_orchestrator *wo = MEM_NEW(struct world_orchestrator);
    wo->base.ops = &orchestrator_ops;
    wo->world = world;
    wo->loop = loop;
    wo->timer.fire = tell_states;
    io_timer_start(loop, &wo->timer, io_now_us(loop));
    return &wo->base;
}

/* ---- the world ------------------------------------------------------------------------------- */

struct world *world_new(uint64_t seed, bool trace)
{
    struct world *world = MEM_NEW(struct world);
    struct sim_config config = sim_config_default(seed);
    config.trace = trace;
    world->sim = sim_new(&config);
    return world;
}

void world_limit_memory(struct world *world, const char *service, uint64_t bytes)
{
    snprintf(world->limited, sizeof(world->limited), "%s", service);
    world->memory_limit = bytes;
}

const struct storaged *world_storaged(const struct world *world, uint32_t process)
{
    for (const struct world_service *s = world->services; s != NULL; s = s->next) {
        if (s->storage && !s->dropped && process < s->scale) {
            const struct hosted *hosted = s->processes[process].hosted;
            return hosted != NULL ? hosted->storaged : NULL;
        }
    }
    return NULL;
}

struct sim *world_sim(struct world *world)
{
    return world->sim;
}

void world_free(struct world *world)
{
    sim_free(world->sim);
    while (world->services != NULL) {
        struct world_service *service = world->services;
        world->services = service->next;
        for (uint32_t p = 0; p < service->scale; p++) {
            orchestrator_args_free(&service->processes[p].args);
        }
        free(service->processes);
        free(service->name);
        free(service);
    }
    free(world);
}

static void supervise(struct world *world)
{
    uint64_t now = sim_now_us(world->sim);
    for (struct world_service *s = world->services; s != NULL; s = s->next) {
        for (uint32_t p = 0; p < s->scale && !s->dropped; p++) {
            struct world_process *process = &s->processes[p];
            if (sim_process_alive(process->process)) {
                continue;
            }
            if (process->dead_since == 0) {
                process->dead_since = now;
            } else if (now - process->dead_since >= RESTART_US) {
                process_start(process);
                world->counts.restarts++;
            }
        }
    }
}

void world_run(struct world *world, uint64_t duration_us)
{
    uint64_t end = sim_now_us(world->sim) + duration_us;
    while (sim_now_us(world->sim) < end) {
        uint64_t next = sim_now_us(world->sim) + STEP_US;
        sim_run_until(world->sim, next < end ? next : end);
        supervise(world);
    }
}

static struct world_process *random_process(struct world *world, const char *prefix)
{
    struct world_process *candidates[256];
    size_t len = 0;
    for (struct world_service *s = world->services; s != NULL; s = s->next) {
        for (uint32_t p = 0; p < s->scale && len < 256; p++) {
            if (!s->dropped && strncmp(s->name, prefix, strlen(prefix)) == 0) {
                candidates[len++] = &s->processes[p];
            }
        }
    }
    return len == 0 ? NULL : candidates[sim_random(world->sim) % len];
}

const char *world_fault_name(enum world_fault fault)
{
    static const char *const names[] = {"kill", "power loss", "cut", "partition"};
    STATIC_ASSERT(ARRAY_LEN(names) == WORLD_FAULTS, "a name a fault");
    ASSERT(fault < WORLD_FAULTS);
    return names[fault];
}

const char *world_target_name(enum world_target target)
{
    static const char *const names[] = {"environmentd", "storaged", "computed"};
    STATIC_ASSERT(ARRAY_LEN(names) == WORLD_TARGETS, "a name a target");
    ASSERT(target < WORLD_TARGETS);
    return names[target];
}

/* Cuts the host off from a random service's, as the only partition there is. */
static bool partition(struct world *world, const char *host)
{
    const struct world_process *other = random_process(world, "");
    world_heal(world);
    if (other == NULL || strcmp(other->host, host) == 0) {
        return false;
    }
    snprintf(world->cut_a, sizeof(world->cut_a), "%s", host);
    snprintf(world->cut_b, sizeof(world->cut_b), "%s", other->host);
    sim_partition(world->sim, world->cut_a, world->cut_b, true);
    return true;
}

static enum world_fault random_fault(struct world *world, struct sim_process *process,
                                     const char *host, enum world_target target)
{
    enum world_fault fault = (enum world_fault)(sim_random(world->sim) % WORLD_FAULTS);
    world->counts.possible[target] = true;
    if (!sim_process_alive(process)) {
        return WORLD_FAULTS;
    }
    bool hit = true;
    switch (fault) {
    case WORLD_KILL: sim_process_kill(world->sim, process); break;
    case WORLD_POWER_LOSS: sim_host_crash(world->sim, host); break;
    case WORLD_CUT: sim_cut_connections(world->sim, process); break;
    default: hit = partition(world, host); break;
    }
    if (!hit) {
        return WORLD_FAULTS;
    }
    world->counts.hits[fault][target]++;
    return fault;
}

enum world_fault world_random_fault(struct world *world, const char *prefix)
{
    struct world_process *process = random_process(world, prefix);
    if (process == NULL) {
        return WORLD_FAULTS;
    }
    return random_fault(world, process->process, process->host,
                        process->service->storage ? WORLD_STORAGED : WORLD_COMPUTED);
}

enum world_fault world_random_fault_of(struct world *world, struct sim_process *process,
                                       const char *host)
{
    return random_fault(world, process, host, WORLD_ENVIRONMENTD);
}

const struct world_counts *world_counts(const struct world *world)
{
    return &world->counts;
}

void world_counts_add(struct world_counts *sum, const struct world_counts *counts)
{
    for (int target = 0; target < WORLD_TARGETS; target++) {
        for (int f = 0; f < WORLD_FAULTS; f++) {
            sum->hits[f][target] += counts->hits[f][target];
        }
        sum->possible[target] = sum->possible[target] || counts->possible[target];
    }
    sum->restarts += counts->restarts;
}

bool world_kill(struct world *world, const char *name, uint32_t index)
{
    struct world_service *service = find_service(world, name);
    if (service == NULL || index >= service->scale ||
        !sim_process_alive(service->processes[index].process)) {
        return false;
    }
    sim_process_kill(world->sim, service->processes[index].process);
    return true;
}

void world_heal(struct world *world)
{
    if (world->cut_a[0] != '\0') {
        sim_partition(world->sim, world->cut_a, world->cut_b, false);
        world->cut_a[0] = '\0';
    }
}

uint64_t world_faults(const struct world *world)
{
    uint64_t faults = 0;
    for (int f = 0; f < WORLD_FAULTS; f++) {
        for (int target = 0; target < WORLD_TARGETS; target++) {
            faults += world->counts.hits[f][target];
        }
    }
    return faults;
}
