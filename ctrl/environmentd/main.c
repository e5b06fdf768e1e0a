/*
 * environmentd: the process. Flags, logs, signals; everything else is the library's.
 *
 * The first SIGTERM or SIGINT ends in order (environmentd_stop), a second one at once. Exit status:
 * 0 after an orderly end, 1 when it could not start, 2 when the flags were wrong.
 *
 * Not on ctrl/runtime/daemon.h: that is the skeleton of what environmentd controls, with a gRPC
 * server and one controller; here flags, readiness and end are others.
 */
#include "core/base/assert.h"
#include "core/base/log.h"
#include "ctrl/environmentd/environmentd.h"
#include "ctrl/options/options.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* Options want 64 bits and pointers; settle() turns them into the config. */
struct process {
    struct environmentd_config config;
    uint64_t storage_processes, storage_workers, base_port, tick_ms, compaction_ms;
    const char *tls_mode, *log_level, *log_format;
    bool stop_services;
    struct io_loop *loop; /* NULL until io_main has made it */
    struct environmentd *environmentd;
    bool stopping; /* environmentd_stop was called */
    int exit_status;
    char storaged[4096], computed[4096]; /* default paths of the executables */
};

/* Only environmentd_free is left, which run() calls when the loop has ended. */
static void on_stopped(void *arg)
{
    ASSERT(((struct process *)arg)->stopping);
    struct process *p = arg;
    io_loop_stop(p->loop);
}

/* Twice, or before it stands: at once. */
static void on_signal(void *arg, int signal_number)
{
    ASSERT(((struct process *)arg)->loop != NULL);
    struct process *p = arg;
    LOG_INFO("environmentd", "stopping", LOG_I64("signal", signal_number));
    if (p->stopping || p->environmentd == NULL) {
        io_loop_stop(p->loop); /* asked twice: at once */
        return;
    }
    p->stopping = true;
    environmentd_stop(p->environmentd, p->stop_services, on_stopped, p);
}

/* There may be no log yet: in words, on standard error. Owns err. */
static void fail(struct process *p, err_t err)
{
    ASSERT(err != ERR_OK);
    const char *hint = err_hint_get(err);
    fprintf(stderr, "environmentd: %s%s%s\n", err_text(err), hint[0] != '\0' ? "\n  " : "", hint);
    err_free(err);
    p->exit_status = 1;
}

/* The first thing on the loop. Signals first: a long start can be interrupted. */
static void on_start(struct io_loop *loop, void *arg)
{
    ASSERT(((struct process *)arg)->environmentd == NULL);
    struct process *p = arg;
    static const int signals[] = {SIGTERM, SIGINT};
    err_t err = ERR_OK;
    p->loop = loop;
    for (size_t i = 0; i < ARRAY_LEN(signals) && err == ERR_OK; i++) {
        err = io_signal_watch(loop, signals[i], on_signal, p);
    }
    if (err == ERR_OK) {
        err = environmentd_start(loop, &p->config, &p->environmentd);
    }
    if (err != ERR_OK) {
        fail(p, err);
        io_loop_stop(loop);
    }
}

/*
 * The runtimes are looked for beside this executable. An executable that was replaced or removed
 * meanwhile still names its folder.
 */
static void default_images(struct process *p)
{
    char self[3072];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    snprintf(p->storaged, sizeof(p->storaged), "%s/storaged", self);
    snprintf(p->computed, sizeof(p->computed), "%s/computed", self);
    p->config.storaged_image = p->storaged;
    p->config.computed_image = p->computed;
}

/* The env outlives environmentd, whose files and sockets are its. */
static void run(struct process *p)
{
    ASSERT(p->config.data_directory != NULL);
    struct io_env *env = NULL;
    err_t err = io_env_new_real(&env);
    if (err == ERR_OK) {
        err = io_main(env, on_start, p);
    }
    if (err != ERR_OK) {
        fail(p, err);
    }
    environmentd_free(p->environmentd);
    if (env != NULL) {
        io_env_free(env);
    }
}

/* What options.h cannot check: words that mean several fields. */
static err_t settle(struct process *p)
{
    ASSERT(p->log_level != NULL && p->log_format != NULL && p->tls_mode != NULL);
    enum log_level level;
    TRY(log_level_parse(p->log_level, &level));
    log_configure(level, strcmp(p->log_format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT,
                  "environmentd");
    p->config.storage_processes = (uint32_t)p->storage_processes;
    p->config.storage_workers = (uint32_t)p->storage_workers;
    p->config.base_port = (uint16_t)p->base_port;
    p->config.tick_us = p->tick_ms * 1000;
    p->config.compaction_window_us = p->compaction_ms * 1000;
    p->config.tls_require = strcmp(p->tls_mode, "require") == 0;
    if (strcmp(p->tls_mode, "disable") == 0) {
        p->config.tls_certificate = NULL;
    }
    return ERR_OK;
}

/* What follows the command line: done means that it asked for no more than an answer (--help). */
static int carry_on(struct process *p, err_t err, bool done)
{
    if (err == ERR_OK && !done) {
        err = settle(p);
    }
    if (err != ERR_OK) {
        fail(p, err);
        return 2;
    }
    if (!done) {
        run(p);
    }
    return p->exit_status;
}

/* Flags are documented by --help, in the order of this list. */
static int parse_and_run(struct process *p, int argc, char **argv)
{
    struct environmentd_config *c = &p->config;
    const struct option options[] = {
        {.name = "data-directory", .kind = OPTION_TEXT, .target = &c->data_directory,
         .argument = "PATH", .help = "where catalog, keys and shards live", .required = true},
        {.name = "sql-listen-addr", .kind = OPTION_TEXT, .target = &c->sql_address,
         .argument = "HOST:PORT", .help = "where SQL clients connect"},
        {.name = "http-listen-addr", .kind = OPTION_TEXT, .target = &c->http_address,
         .argument = "HOST:PORT", .help = "where metrics and health are served"},
        {.name = "environment-id", .kind = OPTION_TEXT, .target = &c->environment_id,
         .argument = "UUID", .help = "identity of the environment (made at first start)"},
        {.name = "storaged-image", .kind = OPTION_TEXT, .target = &c->storaged_image,
         .argument = "PATH", .help = "storaged's executable"},
        {.name = "computed-image", .kind = OPTION_TEXT, .target = &c->computed_image,
         .argument = "PATH", .help = "computed's executable"},
        {.name = "storage-processes", .kind = OPTION_U64, .target = &p->storage_processes,
         .argument = "N", .help = "storaged processes", .min = 1, .max = 256},
        {.name = "storage-workers", .kind = OPTION_U64, .target = &p->storage_workers,
         .argument = "N", .help = "workers of each storaged", .min = 1, .max = 256},
        {.name = "carrier", .kind = OPTION_CHOICE, .target = &c->carrier,
         .choices = "auto|shm|tcp", .help = "how events travel between processes"},
        {.name = "cluster-replica-sizes", .kind = OPTION_TEXT, .target = &c->cluster_sizes,
         .argument = "JSON", .help = "sizes: {\"1\": {\"scale\": 1, \"workers\": 1}, ...}"},
        {.name = "tick-interval", .kind = OPTION_U64, .target = &p->tick_ms, .argument = "MS",
         .help = "how often quiet tables and sources advance", .min = 1, .max = 60000},
        {.name = "compaction-window", .kind = OPTION_U64, .target = &p->compaction_ms,
         .argument = "MS", .help = "history kept for reads", .min = 1, .max = 86400000},
        {.name = "max-connections", .kind = OPTION_U64, .target = &c->max_connections,
         .argument = "N", .help = "SQL clients at a time", .min = 1, .max = 100000},
        {.name = "max-result-bytes", .kind = OPTION_U64, .target = &c->max_result_bytes,
         .argument = "BYTES", .help = "largest result of a query (default 192 MiB)"},
        {.name = "max-write-bytes", .kind = OPTION_U64, .target = &c->max_write_bytes,
         .argument = "BYTES", .help = "most one transaction writes", .min = 1, .max = 240 << 20},
        {.name = "tls-mode", .kind = OPTION_CHOICE, .target = &p->tls_mode,
         .choices = "disable|allow|require", .help = "TLS of SQL clients"},
        {.name = "tls-cert", .kind = OPTION_TEXT, .target = &c->tls_certificate,
         .argument = "PATH", .help = "certificate (PEM) of the SQL port"},
        {.name = "tls-key", .kind = OPTION_TEXT, .target = &c->tls_key, .argument = "PATH",
         .help = "its private key (PEM, mode 0600)"},
        {.name = "certificate-lifetime", .kind = OPTION_U64,
         .target = &c->certificate_lifetime_s, .argument = "SECONDS",
         .help = "of the services' certificates, renewed in time (default 31536000)", .min = 10,
         .max = 315360000},
        {.name = "sql-password-file", .kind = OPTION_TEXT, .target = &c->password_path,
         .argument = "PATH", .help = "password of SQL users (SCRAM); without it only this host"},
        {.name = "sql-trust-remote", .kind = OPTION_BOOL, .target = &c->trust_remote,
         .help = "without a password, let clients of other hosts in"},
        {.name = "orchestrator-process-base-service-port", .kind = OPTION_U64,
         .target = &p->base_port, .argument = "PORT",
         .help = "where the search for ports of services starts", .min = 1, .max = 65000},
        {.name = "stop-services-on-exit", .kind = OPTION_BOOL, .target = &p->stop_services,
         .help = "stop storaged and computed too (else the next environmentd adopts them)"},
        {.name = "log-level", .kind = OPTION_CHOICE, .target = &p->log_level,
         .choices = "debug|info|warn|error|off", .help = "least severe line logged"},
        {.name = "log-format", .kind = OPTION_CHOICE, .target = &p->log_format,
         .choices = "logfmt|json", .help = "form of log lines"},
    };
    const struct options_program program = {
        .name = "environmentd",
        .summary = "Tailrace's SQL front end: catalog, sessions, controllers",
        .options = options,
        .options_len = ARRAY_LEN(options)};
    bool done = false;
    err_t err = options_parse(&program, argc, argv, &done);
    return carry_on(p, err, done);
}

/* Defaults are what a developer's machine needs: this host only, ports of its own. */
int main(int argc, char **argv)
{
    struct process p = {
        .config = {.sql_address = "127.0.0.1:6875",
                   .http_address = "127.0.0.1:6876",
                   .carrier = "auto"},
        .storage_processes = 1,
        .storage_workers = 1,
        .base_port = 2100,
        .tick_ms = 5,
        .compaction_ms = 1000,
        .tls_mode = "allow",
        .log_level = "info",
        .log_format = "logfmt",
    };
    default_images(&p);
    p.config.metrics = metrics_registry_new();
    int status = parse_and_run(&p, argc, argv);
    metrics_registry_free(p.config.metrics);
    return status;
}
