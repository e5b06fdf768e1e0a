/*
 * The services the environment is made of, and the flags of their processes. environmentd's loop.
 *
 * Two kinds: "storage", and one service a replica of a cluster ("cluster-8-replica-0"). The flags
 * are the interface between environmentd and the executables (ctrl/storaged/main.c,
 * ctrl/computed/main.c, ctrl/runtime/daemon.c): a difference in them is a change of the service and
 * replaces its processes, so whatever is random or grows (epochs, times) must not be among them, or
 * every restart of environmentd would restart everything.
 *
 * Certificates are issued once a process and reused; they name the process, its role and the
 * environment. Shared memory needs proof that two processes are on one node: a secret in a file
 * only this user can read.
 */
#include "ctrl/controller/controller_internal.h"

#include "core/base/log.h"
#include "core/base/mem.h"

#include <inttypes.h>
#include <stdio.h>

enum { SOCKET_PATH_MAX = 100 }; /* sun_path holds 108 bytes */

/* What make_args needs: lives as long as the service. */
struct service_args {
    struct controller *controller;
    struct pki_files *files; /* [scale]; empty without TLS */
    uint32_t scale;
    uint32_t workers;
    char *what; /* name in paths */
    uint64_t service;
};

/* What belongs to one life of a process lies in run/, under its name. */
static const char *run_path(const struct controller *c, struct arena *arena, const char *what,
                            uint32_t process, const char *suffix)
{
    return arena_printf(arena, "%s/run/%s-%u%s", c->config.data_directory, what, process, suffix);
}

/* sun_path is short: in a directory too deep, processes talk over TCP. */
const char *services_socket(const struct controller *c, struct arena *arena, const char *what,
                            uint32_t process)
{
    ASSERT(what[0] != '\0' && c->config.data_directory != NULL);
    if (io_env_simulated(io_loop_env(c->loop)) || strcmp(c->config.carrier, "tcp") == 0) {
        return "";
    }
    const char *path = run_path(c, arena, what, process, ".sock");
    return strlen(path) <= SOCKET_PATH_MAX ? path : "";
}

/* A path that both runtimes are given. */
static const char *node_secret(const struct controller *c, struct arena *arena)
{
    return arena_printf(arena, "%s/run/node.secret", c->config.data_directory);
}

/* The file only this node's processes can read: proof of being on one node. */
static err_t node_secret_ensure(struct controller *c)
{
    if (io_env_simulated(io_loop_env(c->loop))) {
        return ERR_OK;
    }
    struct arena arena = {0};
    const char *directory = arena_printf(&arena, "%s/run", c->config.data_directory);
    const char *path = node_secret(c, &arena);
    struct io_stat stat;
    err_t err = io_mkdir_sync(c->loop, directory, 0700);
    if (err == ERR_OK) {
        err = io_stat_sync(c->loop, path, &stat);
        if (err != ERR_OK && err_code(err) == ERR_NOT_FOUND) {
            err_free(err);
            uint8_t secret[32];
            io_random(io_loop_env(c->loop), secret, sizeof(secret));
            err = io_write_whole_sync(c->loop, path, secret, sizeof(secret), 0600);
        }
    }
    err = err_wrap(err, "making the node secret %s", path);
    arena_free(&arena);
    return err;
}

/* files stay empty without TLS. On an error what was issued is freed with args. */
static err_t issue_certificates(struct service_args *args, enum pki_role role)
{
    ASSERT(args->files == NULL);
    struct controller *c = args->controller;
    args->files = mem_zalloc(args->scale * sizeof(args->files[0]));
    for (uint32_t p = 0; p < args->scale && c->config.pki != NULL; p++) {
        char name[64];
        snprintf(name, sizeof(name), "%s-%u", args->what, p);
        TRY(pki_issue(c->config.pki, role, name, &args->files[p]));
    }
    return ERR_OK;
}

/* what names the service in paths and certificates. */
static struct service_args *args_new(struct controller *c, const char *what, uint32_t scale,
                                     uint32_t workers)
{
    ASSERT(scale > 0 && workers > 0);
    struct service_args *args = MEM_NEW(struct service_args);
    args->controller = c;
    args->scale = scale;
    args->workers = workers;
    args->what = mem_strdup(what);
    return args;
}

void services_args_free(struct service_args *args)
{
    if (args == NULL) {
        return;
    }
    for (uint32_t p = 0; args->files != NULL && p < args->scale; p++) {
        if (args->files[p].certificate_path != NULL) {
            pki_retire(args->controller->config.pki, &args->files[p]);
        }
        pki_files_free(&args->files[p]);
    }
    free(args->files);
    free(args->what);
    free(args);
}

/* What every runtime needs. Ports come in the order of ensure(): controller, data, HTTP. */
static void common_args(const struct service_args *args,
                        const struct orchestrator_assignment *assignment,
                        struct orchestrator_args *out)
{
    ASSERT(assignment->ports_len == 3 && assignment->scale == args->scale);
    const struct controller *c = args->controller;
    uint32_t process = assignment->process;
    ASSERT(process < args->scale);
    orchestrator_args_add(out, "--controller-listen-addr=%s", assignment->listen[0]);
    orchestrator_args_add(out, "--internal-http-listen-addr=%s", assignment->listen[2]);
    orchestrator_args_add(out, "--environment-id=%s", c->config.environment);
    orchestrator_args_add(out, "--process=%u", process);
    orchestrator_args_add(out, "--processes=%u", assignment->scale);
    orchestrator_args_add(out, "--workers=%u", args->workers);
    orchestrator_args_add(out, "--carrier=%s", c->config.carrier);
    if (args->files[process].certificate_path != NULL) {
        orchestrator_args_add(out, "--tls-cert=%s", args->files[process].certificate_path);
        orchestrator_args_add(out, "--tls-key=%s", args->files[process].key_path);
        orchestrator_args_add(out, "--tls-ca=%s", args->files[process].ca_path);
    }
    if (!io_env_simulated(io_loop_env(c->loop))) {
        struct arena arena = {0};
        orchestrator_args_add(out, "--node-secret=%s", node_secret(c, &arena));
        orchestrator_args_add(out, "--counters-file=%s",
                              run_path(c, &arena, args->what, process, ".counters"));
        arena_free(&arena);
    }
}

/* Called whenever a process may start, also long after services_storage_ensure has returned. */
static void storage_args(void *arg, const struct orchestrator_assignment *assignment,
                         struct orchestrator_args *out)
{
    const struct service_args *args = arg;
    const struct controller *c = args->controller;
    common_args(args, assignment, out);
    orchestrator_args_add(out, "--storage-listen-addr=%s", assignment->listen[1]);
    orchestrator_args_add(out, "--data-directory=%s/storage", c->config.data_directory);
    if (c->config.tick_us != 0) {
        orchestrator_args_add(out, "--tick-interval-us=%" PRIu64, c->config.tick_us);
    }
    struct arena arena = {0};
    const char *socket = services_socket(c, &arena, "storage", assignment->process);
    if (socket[0] != '\0') {
        orchestrator_args_add(out, "--storage-unix-socket=%s", socket);
    }
    arena_free(&arena);
}

/*
 * Peers know each other by address in order of process numbers; with sockets for all or for none.
 */
static void replica_args(void *arg, const struct orchestrator_assignment *assignment,
                         struct orchestrator_args *out)
{
    const struct service_args *args = arg;
    ASSERT(args->what != NULL);
    common_args(args, assignment, out);
    orchestrator_args_add(out, "--compute-listen-addr=%s", assignment->listen[1]);
    orchestrator_args_add(out, "--service-id=%" PRIu64, args->service);
    if (assignment->scale == 1) {
        return;
    }
    struct arena arena = {0};
    struct buf peers = {0};
    struct buf sockets = {0};
    bool all_sockets = true;
    for (uint32_t p = 0; p < assignment->scale; p++) {
        const char *comma = p > 0 ? "," : "";
        buf_printf(&peers, "%s%s", comma,
                   assignment->peer(assignment->peer_arg, p, "compute"));
        const char *socket = services_socket(args->controller, &arena, args->what, p);
        all_sockets = all_sockets && socket[0] != '\0';
        buf_printf(&sockets, "%s%s", comma, socket);
    }
    orchestrator_args_add(out, "--peers=%s", buf_cstr(&peers));
    if (all_sockets) {
        orchestrator_args_add(out, "--peer-unix-sockets=%s", buf_cstr(&sockets));
    }
    buf_free(&peers);
    buf_free(&sockets);
    arena_free(&arena);
}

/* Ports: the hints are what people expect; HTTP takes any. */
static err_t ensure(struct controller *c, const char *service, const char *image,
                    struct service_args *args, const char *data_port, uint16_t data_port_number,
                    void (*make_args)(void *, const struct orchestrator_assignment *,
                                      struct orchestrator_args *))
{
    ASSERT(image != NULL && args != NULL && make_args != NULL);
    const struct orchestrator_port ports[] = {{.name = "controller", .hint = 2100},
                                              {.name = data_port, .hint = data_port_number},
                                              {.name = "internal-http", .hint = 0}};
    const struct orchestrator_label labels[] = {{.key = "environment",
                                                 .value = c->config.environment}};
    const struct orchestrator_service_config config = {.image = image,
                                                       .scale = args->scale,
                                                       .ports = ports,
                                                       .ports_len = ARRAY_LEN(ports),
                                                       .labels = labels,
                                                       .labels_len = ARRAY_LEN(labels),
                                                       .make_args = make_args,
                                                       .make_args_arg = args};
    return err_wrap(orchestrator_ensure_service(c->config.orchestrator, service, &config),
                    "starting service %s", service);
}

/* The service may run already, with these very flags: then it is adopted, and data flows on. */
err_t services_storage_ensure(struct controller *c)
{
    ASSERT(c->storage_args == NULL);
    TRY(node_secret_ensure(c));
    c->storage_args =
        args_new(c, "storage", c->config.storage_processes, c->config.storage_workers);
    TRY(issue_certificates(c->storage_args, PKI_STORAGED));
    return ensure(c, "storage", c->config.storaged_image, c->storage_args, "storage", 2101,
                  storage_args);
}

/* The service's number names the replica to storage, so that it can tell subscribers apart. */
err_t services_replica_ensure(struct controller *c, struct ctl_replica *replica)
{
    ASSERT(replica->args == NULL && replica->index < CONTROLLER_REPLICAS_MAX);
    STATIC_ASSERT(CONTROLLER_REPLICAS_MAX <= 256, "a replica's index has eight bits of its id");
    const struct controller_cluster_spec *spec = &replica->cluster->spec;
    replica->args = args_new(c, replica->service, spec->scale, spec->workers);
    replica->args->service = spec->id << 8 | replica->index; /* at most 16 replicas */
    TRY(issue_certificates(replica->args, PKI_COMPUTED));
    return ensure(c, replica->service, c->config.computed_image, replica->args, "compute", 2102,
                  replica_args);
}

/* ---- what is left in run/ -------------------------------------------------------------------- */

static const char *const suffixes[] = {".counters", ".counters.new", ".sock"};

static void remove_file(struct controller *c, const char *path)
{
    err_t err = io_unlink_sync(c->loop, path);
    if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND) {
        LOG_WARN("controller", "file of a dropped process not removed", LOG_STR("path", path),
                 LOG_ERR(err));
    }
    err_free(err);
}

/* A process that still runs, or is about to end, keeps what it has mapped or listens on. */
void services_forget(struct controller *c, const char *service, uint32_t process)
{
    if (io_env_simulated(io_loop_env(c->loop))) {
        return;
    }
    struct arena arena = {0};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        remove_file(c, run_path(c, &arena, service, process, suffixes[i]));
    }
    arena_free(&arena);
}

/* Does a file of this name, without its suffix, belong to a process there is? */
static bool is_wanted(struct controller *c, const char *stem)
{
    const char *dash = strrchr(stem, '-');
    char *end = NULL;
    unsigned long process = dash != NULL ? strtoul(dash + 1, &end, 10) : 0;
    if (dash == NULL || dash[1] == '\0' || *end != '\0') {
        return true; /* no name of ours: not ours to remove */
    }
    size_t len = (size_t)(dash - stem);
    if (len == strlen("storage") && strncmp(stem, "storage", len) == 0) {
        return process < c->config.storage_processes;
    }
    size_t at = 0;
    uint64_t id;
    void *value;
    while (u64map_next(&c->clusters, &at, &id, &value)) {
        const struct ctl_cluster *cluster = value;
        for (uint32_t r = 0; r < cluster->spec.replicas; r++) {
            const char *service = cluster->replicas[r].service;
            if (strlen(service) == len && strncmp(service, stem, len) == 0) {
                return process < cluster->spec.scale;
            }
        }
    }
    return strncmp(stem, "cluster-", strlen("cluster-")) != 0;
}

/* One entry of run/; removing it while it is listed is allowed: names were read before. */
static err_t sweep_entry(void *arg, const char *name)
{
    struct controller *c = arg;
    size_t len = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        size_t suffix = strlen(suffixes[i]);
        if (len <= suffix || strcmp(name + len - suffix, suffixes[i]) != 0) {
            continue;
        }
        struct arena arena = {0};
        if (!is_wanted(c, arena_strndup(&arena, name, len - suffix))) {
            LOG_INFO("controller", "removing what a dropped process left", LOG_STR("file", name));
            remove_file(c, arena_printf(&arena, "%s/run/%s", c->config.data_directory, name));
        }
        arena_free(&arena);
        break;
    }
    return ERR_OK;
}

/* Of services that were dropped while nobody could remove it: a predecessor was killed amid a drop,
 * or a process came up once more before it ended. */
void services_sweep(struct controller *c)
{
    ASSERT(c->initialized); /* every cluster there is, is known */
    if (io_env_simulated(io_loop_env(c->loop))) {
        return;
    }
    struct arena arena = {0};
    const char *directory = arena_printf(&arena, "%s/run", c->config.data_directory);
    err_t err = io_dir_list_sync(c->loop, directory, sweep_entry, c);
    if (err != ERR_OK) {
        LOG_WARN("controller", "cannot look for what dropped processes left", LOG_ERR(err));
        err_free(err);
    }
    arena_free(&arena);
}
