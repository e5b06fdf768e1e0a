/*
 * The skeleton of a runtime's process: see daemon.h.
 *
 * Everything here runs before the loop (parse), on the main loop (start_all, signals, HTTP's
 * questions), or after it (run): never on two threads at a time, so nothing is locked.
 */
#include "ctrl/runtime/daemon.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ctrl/http/http.h"

#include <signal.h>
#include <stdio.h>

/*
 * The options every runtime has, then the process's own: one list for options_parse, which checks
 * that no name comes twice, ranges and choices. own's targets are the process's structure.
 */
static err_t parse(struct daemon *d, const struct option *own, size_t own_len, int argc,
                   char **argv, bool *done)
{
    ASSERT(d->ops->name != NULL && (own != NULL || own_len == 0));
    const struct option common[] = {
        {.name = "controller-listen-addr", .kind = OPTION_TEXT,
         .target = &d->flags.controller_address, .argument = "HOST:PORT",
         .help = "where environmentd reaches this process (gRPC)"},
        {.name = "internal-http-listen-addr", .kind = OPTION_TEXT,
         .target = &d->flags.http_address, .argument = "HOST:PORT",
         .help = "metrics and health; empty: none"},
        {.name = "environment-id", .kind = OPTION_TEXT, .target = &d->flags.environment,
         .argument = "HEX", .help = "32 hexadecimal digits", .required = true},
        {.name = "node-secret", .kind = OPTION_TEXT, .target = &d->flags.node_secret_path,
         .argument = "PATH", .help = "file that proves two processes share a node"},
        {.name = "counters-file", .kind = OPTION_TEXT, .target = &d->flags.counters_path,
         .argument = "PATH", .help = "live counters, which tailrace-stat prints"},
        {.name = "tls-cert", .kind = OPTION_TEXT, .target = &d->flags.tls.certificate,
         .argument = "PEM", .help = "certificate of this process"},
        {.name = "tls-key", .kind = OPTION_TEXT, .target = &d->flags.tls.key,
         .argument = "PEM", .help = "its private key"},
        {.name = "tls-ca", .kind = OPTION_TEXT, .target = &d->flags.tls.ca, .argument = "PEM",
         .help = "the environment's certificate authority"},
        {.name = "carrier", .kind = OPTION_CHOICE, .target = &d->flags.carrier,
         .argument = "WORD", .help = "how data moves between processes",
         .choices = "auto|shm|tcp"},
        {.name = "process", .kind = OPTION_U64, .target = &d->flags.process, .argument = "N",
         .help = "index of this process", .min = 0, .max = 1023},
        {.name = "processes", .kind = OPTION_U64, .target = &d->flags.processes,
         .argument = "N", .help = "processes of this service", .min = 1, .max = 1024},
        {.name = "workers", .kind = OPTION_U64, .target = &d->flags.workers, .argument = "N",
         .help = "worker threads of this process", .min = 1, .max = 256},
        {.name = "log-level", .kind = OPTION_TEXT, .target = &d->log_level, .argument = "LEVEL",
         .help = "debug, info, warn, error or off"},
        {.name = "log-format", .kind = OPTION_CHOICE, .target = &d->log_format,
         .argument = "WORD", .help = "of the log on standard error", .choices = "logfmt|json"},
    };
    size_t len = ARRAY_LEN(common) + own_len;
    struct option *all = mem_alloc(len * sizeof(all[0]));
    memcpy(all, common, sizeof(common));
    memcpy(all + ARRAY_LEN(common), own, own_len * sizeof(own[0]));
    const struct options_program program = {
        .name = d->ops->name, .summary = d->ops->summary, .options = all, .options_len = len};
    err_t err = options_parse(&program, argc, argv, done);
    free(all);
    return err;
}

static void stopped(void *arg)
{
    ASSERT(arg != NULL);
    struct daemon *d = arg;
    LOG_INFO(d->ops->name, "stopped");
    io_loop_stop(d->loop);
}

/* The first signal stops in order, a second one at once. */
static void on_signal(void *arg, int signal_number)
{
    ASSERT(((struct daemon *)arg)->loop != NULL);
    struct daemon *d = arg;
    LOG_INFO(d->ops->name, "stopping", LOG_I64("signal", signal_number));
    if (!d->started || d->stopping) {
        io_loop_stop(d->loop);
        return;
    }
    d->stopping = true;
    d->ops->stop(d, stopped, d);
}

/*
 * GET /ready: a load balancer or Kubernetes asks. Not ready is normal before the controller came.
 */
static bool http_ready(void *ctx, struct buf *reason)
{
    struct daemon *d = ctx;
    if (d->started && d->ops->ready(d)) {
        return true;
    }
    buf_append_str(reason, "waiting for the controller");
    return false;
}

/*
 * Signals first, so that a start that takes long (recovery) can be interrupted; HTTP before the
 * process itself, so that metrics show a start that hangs.
 */
static err_t start_all(struct daemon *d)
{
    ASSERT(!d->started && d->http == NULL);
    TRY(io_signal_watch(d->loop, SIGTERM, on_signal, d));
    TRY(io_signal_watch(d->loop, SIGINT, on_signal, d));
    if (d->flags.http_address != NULL && d->flags.http_address[0] != '\0') {
        const struct http_config http = {.loop = d->loop,
                                         .address = d->flags.http_address,
                                         .registry = d->metrics,
                                         .ready = http_ready,
                                         .ctx = d};
        TRY(http_server_new(&http, &d->http));
    }
    TRY(d->ops->start(d, d->loop));
    d->started = true;
    return ERR_OK;
}

/* Errors before the loop runs go to standard error in words: there may be no log yet. Owns err. */
static int fail(struct daemon *d, err_t err, int status)
{
    ASSERT(err != ERR_OK && status != 0);
    fprintf(stderr, "%s: %s\n", d->ops->name, err_text(err));
    if (err_hint_get(err)[0] != '\0') {
        fprintf(stderr, "hint: %s\n", err_hint_get(err));
    }
    err_free(err);
    return status;
}

/* The first thing on the main loop. */
static void start(struct io_loop *loop, void *arg)
{
    struct daemon *d = arg;
    d->loop = loop;
    err_t err = start_all(d);
    if (err != ERR_OK) {
        d->exit_status = fail(d, err, 1);
        io_loop_stop(loop);
    }
}

enum { COUNTERS_IN_FILE = 1 << 18, COUNTERS_IN_MEMORY = 1 << 12 }; /* slots */

/* Without a file they are in private memory, and shown over HTTP only. */
static err_t counters_make(struct daemon *d)
{
    const char *path = d->flags.counters_path;
    bool file = path != NULL && path[0] != '\0';
    struct counters *counters = NULL;
    TRY(counters_new(file ? path : NULL, file ? COUNTERS_IN_FILE : COUNTERS_IN_MEMORY, &counters));
    metrics_attach(d->metrics, counters);
    return ERR_OK;
}

/*
 * Frees in the reverse order: HTTP shows metrics that the registry owns, everything uses the env.
 */
static int run(struct daemon *d)
{
    ASSERT(d->metrics == NULL && d->http == NULL);
    struct io_env *env = NULL;
    err_t err = io_env_new_real(&env);
    if (err != ERR_OK) {
        return fail(d, err, 1);
    }
    d->metrics = metrics_registry_new();
    err = counters_make(d);
    if (err == ERR_OK) {
        err = io_main(env, start, d);
    }
    if (err != ERR_OK) {
        d->exit_status = fail(d, err, 1);
    } else if (!d->stopping && d->exit_status == 0) {
        d->exit_status = 1; /* nobody asked it to end: it could not start, and said why */
    }
    d->ops->free(d);
    http_server_free(d->http);
    metrics_registry_free(d->metrics);
    io_env_free(env);
    return d->exit_status;
}

int daemon_main(struct daemon *d, const struct option *options, size_t options_len, int argc,
                char **argv)
{
    ASSERT(d->ops != NULL && d->ops->start != NULL && d->ops->stop != NULL);
    ASSERT(d->ops->ready != NULL && d->ops->free != NULL);
    mem_steady();
    d->log_level = "info";
    d->log_format = "logfmt";
    d->flags.carrier = "auto";
    d->flags.workers = d->flags.processes = 1;
    if (d->flags.controller_address == NULL) {
        d->flags.controller_address = "127.0.0.1:2100";
    }
    bool done = false;
    err_t err = parse(d, options, options_len, argc, argv, &done);
    enum log_level level = LOG_LEVEL_INFO;
    if (err == ERR_OK) {
        err = log_level_parse(d->log_level, &level);
    }
    if (err != ERR_OK) {
        return fail(d, err, 2);
    }
    if (done) {
        return 0;
    }
    bool json = strcmp(d->log_format, "json") == 0;
    log_configure(level, json ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT, d->ops->name);
    return run(d);
}
