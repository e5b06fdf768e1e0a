/*
 * computed: the compute runtime's process. Flags become a computed_config, the rest is the
 * library's and daemon.h's. Flags are made by environmentd (ctrl/controller/services.c): a change
 * here is one there.
 */
#include "core/base/mem.h"
#include "ctrl/computed/computed.h"
#include "ctrl/runtime/daemon.h"

struct process {
    struct daemon daemon;
    const char *compute_address;
    const char *peers; /* as given: "host:port,host:port" */
    const char *peer_sockets; /* as given: "path,path"; NULL or "": none */
    uint64_t memory_limit; /* bytes */
    uint64_t service;
    char **peer_list; /* [processes], owned; NULL with one process */
    char **socket_list; /* [processes], owned, or NULL */
    struct computed *computed;
};

/*
 * "a,b,c" as an array of exactly count texts. On an error what was made is still *out's, and freed
 * with the process.
 */
static err_t split(const char *flag, const char *text, size_t count, char ***out)
{
    ASSERT(flag != NULL && count > 0);
    *out = mem_zalloc(count * sizeof(char *));
    size_t found = 0;
    for (const char *p = text; p != NULL && *p != '\0';) {
        size_t len = strcspn(p, ",");
        if (found < count) {
            (*out)[found] = mem_strndup(p, len);
        }
        found++;
        p += len + (p[len] == ',' ? 1 : 0);
    }
    if (found != count) {
        return err_new(ERR_INVALID, "--%s names %zu processes, --processes says %zu", flag, found,
                       count);
    }
    return ERR_OK;
}

static void list_free(char **list, size_t count)
{
    for (size_t i = 0; list != NULL && i < count; i++) {
        free(list[i]);
    }
    free(list);
}

static err_t start(struct daemon *daemon, struct io_loop *loop)
{
    ASSERT(!daemon->started && loop != NULL);
    struct process *p = CONTAINER_OF(daemon, struct process, daemon);
    const struct daemon_flags *flags = &daemon->flags;
    if (flags->processes > 1) {
        TRY(split("peers", p->peers, flags->processes, &p->peer_list));
        if (p->peer_sockets != NULL && p->peer_sockets[0] != '\0') {
            TRY(split("peer-unix-sockets", p->peer_sockets, flags->processes, &p->socket_list));
        }
    }
    const struct computed_config config = {
        .controller_address = flags->controller_address,
        .compute_address = p->compute_address,
        .peers = (const char *const *)p->peer_list,
        .peer_sockets = (const char *const *)p->socket_list,
        .environment = flags->environment,
        .node_secret_path = flags->node_secret_path,
        .tls = flags->tls,
        .carrier = flags->carrier,
        .service = p->service,
        .process = (uint32_t)flags->process,
        .processes = (uint32_t)flags->processes,
        .workers = (uint32_t)flags->workers,
        .memory_limit = p->memory_limit,
        .metrics = daemon->metrics,
    };
    return computed_start(loop, &config, &p->computed);
}

static void stop(struct daemon *daemon, void (*done)(void *arg), void *arg)
{
    ASSERT(daemon->started && done != NULL);
    computed_stop(CONTAINER_OF(daemon, struct process, daemon)->computed, done, arg);
}

static bool ready(struct daemon *daemon)
{
    return computed_ready(CONTAINER_OF(daemon, struct process, daemon)->computed);
}

/* Also after a start that failed: whatever was made. */
static void release(struct daemon *daemon)
{
    struct process *p = CONTAINER_OF(daemon, struct process, daemon);
    computed_free(p->computed);
    list_free(p->peer_list, daemon->flags.processes);
    list_free(p->socket_list, daemon->flags.processes);
}

static const struct daemon_ops ops = {
    .name = "computed",
    .summary = "Tailrace's compute runtime: dataflow workers that keep views up to date",
    .start = start,
    .stop = stop,
    .ready = ready,
    .free = release,
};

int main(int argc, char **argv)
{
    struct process p = {.daemon.ops = &ops, .compute_address = "127.0.0.1:2102"};
    const struct option options[] = {
        {.name = "compute-listen-addr", .kind = OPTION_TEXT, .target = &p.compute_address,
         .argument = "HOST:PORT", .help = "where the replica's other processes connect"},
        {.name = "peers", .kind = OPTION_TEXT, .target = &p.peers, .argument = "HOST:PORT,...",
         .help = "compute addresses of all processes of the replica, in order"},
        {.name = "peer-unix-sockets", .kind = OPTION_TEXT, .target = &p.peer_sockets,
         .argument = "PATH,...",
         .help = "sockets of the same processes for shared memory on one node"},
        {.name = "service-id", .kind = OPTION_U64, .target = &p.service, .argument = "N",
         .help = "which replica this process is of; unique in the environment"},
        {.name = "memory-limit", .kind = OPTION_U64, .target = &p.memory_limit,
         .argument = "BYTES", .help = "of a dataflow on a worker; 0: none"},
    };
    mem_keep(MEM_KEPT);
    return daemon_main(&p.daemon, options, ARRAY_LEN(options), argc, argv);
}
