/*
 * storaged: the storage runtime's process. Flags, and nothing else: what all daemons share (logs,
 * signals, metrics, draining) is ctrl/runtime/daemon.h, what storaged does is storaged.h. The tick
 * decides how closely quiet sources follow busy ones; idle ones advance ten times a second whatever
 * it is.
 */
#include "core/base/assert.h"
#include "ctrl/runtime/daemon.h"
#include "ctrl/storaged/storaged.h"

/* Filled in from the command line before the loop starts. */
struct process {
    struct daemon daemon;
    const char *storage_address;
    const char *storage_unix_path;
    const char *data_directory;
    uint64_t tick_us;
    struct storaged *storaged;
};

/* On the main loop, once. */
static err_t start(struct daemon *daemon, struct io_loop *loop)
{
    ASSERT(daemon != NULL && loop != NULL);
    struct process *p = CONTAINER_OF(daemon, struct process, daemon);
    const struct daemon_flags *flags = &daemon->flags;
    const struct storaged_config config = {
        .controller_address = flags->controller_address,
        .storage_address = p->storage_address,
        .storage_unix_path = p->storage_unix_path,
        .data_directory = p->data_directory,
        .environment = flags->environment,
        .node_secret_path = flags->node_secret_path,
        .tls = flags->tls,
        .carrier = flags->carrier,
        .process = (uint32_t)flags->process,
        .processes = (uint32_t)flags->processes,
        .workers = (uint32_t)flags->workers,
        .tick_us = p->tick_us,
        .metrics = daemon->metrics,
    };
    return storaged_start(loop, &config, &p->storaged);
}

static void stop(struct daemon *daemon, void (*done)(void *arg), void *arg)
{
    ASSERT(done != NULL);
    storaged_stop(CONTAINER_OF(daemon, struct process, daemon)->storaged, done, arg);
}

static bool ready(struct daemon *daemon)
{
    return storaged_ready(CONTAINER_OF(daemon, struct process, daemon)->storaged);
}

static void release(struct daemon *daemon)
{
    storaged_free(CONTAINER_OF(daemon, struct process, daemon)->storaged);
}

static const struct daemon_ops ops = {
    .name = "storaged",
    .summary = "Tailrace's storage runtime: ingests sources, makes them durable, publishes them",
    .start = start,
    .stop = stop,
    .ready = ready,
    .free = release,
};

int main(int argc, char **argv)
{
    struct process p = {
        .daemon.ops = &ops, .storage_address = "127.0.0.1:2101", .tick_us = 5000};
    const struct option options[] = {
        {.name = "storage-listen-addr", .kind = OPTION_TEXT, .target = &p.storage_address,
         .argument = "HOST:PORT", .help = "where compute subscribes"},
        {.name = "storage-unix-socket", .kind = OPTION_TEXT, .target = &p.storage_unix_path,
         .argument = "PATH", .help = "socket on which compute on this node gets shared memory"},
        {.name = "data-directory", .kind = OPTION_TEXT, .target = &p.data_directory,
         .argument = "PATH", .help = "where shards live", .required = true},
        {.name = "tick-interval-us", .kind = OPTION_U64, .target = &p.tick_us, .argument = "US",
         .help = "how often quiet sources advance", .min = 100, .max = 10000000},
    };
    return daemon_main(&p.daemon, options, ARRAY_LEN(options), argc, argv);
}
