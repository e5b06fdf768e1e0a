/* storaged: the storage runtime's process. */
#include "ctrl/storaged/storaged.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "ctrl/http/http.h"
#include "ctrl/options/options.h"

#include <signal.h>
#include <stdio.h>

struct process {
    struct storaged_config config;
    const char *log_level;
    const char *log_format;
    const char *http_address;
    uint64_t workers, process, processes, tick_us;
    struct io_loop *loop;
    struct storaged *storaged;
    struct http_server *http;
    int exit_status;
};

static err_t parse(struct process *p, int argc, char **argv, bool *done)
{
    const struct option options[] = {
        {.name = "controller-listen-addr", .kind = OPTION_TEXT,
         .target = &p->config.controller_address, .argument = "HOST:PORT",
         .help = "where environmentd reaches this process (gRPC)"},
        {.name = "storage-listen-addr", .kind = OPTION_TEXT, .target = &p->config.storage_address,
         .argument = "HOST:PORT", .help = "where compute subscribes"},
        {.name = "storage-unix-socket", .kind = OPTION_TEXT,
         .target = &p->config.storage_unix_path, .argument = "PATH",
         .help = "socket on which compute on this node gets shared memory"},
        {.name = "internal-http-listen-addr", .kind = OPTION_TEXT, .target = &p->http_address,
         .argument = "HOST:PORT", .help = "metrics and health; empty: none"},
        {.name = "data-directory", .kind = OPTION_TEXT, .target = &p->config.data_directory,
         .argument = "PATH", .help = "where shards live", .required = true},
        {.name = "environment-id", .kind = OPTION_TEXT, .target = &p->config.environment,
         .argument = "HEX", .help = "32 hexadecimal digits", .required = true},
        {.name = "node-secret", .kind = OPTION_TEXT, .target = &p->config.node_secret_path,
         .argument = "PATH", .help = "file that proves two processes share a node"},
        {.name = "tls-cert", .kind = OPTION_TEXT, .target = &p->config.tls.certificate,
         .argument = "PEM", .help = "certificate of this process"},
        {.name = "tls-key", .kind = OPTION_TEXT, .target = &p->config.tls.key, .argument = "PEM",
         .help = "its private key"},
        {.name = "tls-ca", .kind = OPTION_TEXT, .target = &p->config.tls.ca, .argument = "PEM",
         .help = "the environment's certificate authority"},
        {.name = "carrier", .kind = OPTION_CHOICE, .target = &p->config.carrier,
         .argument = "WORD", .help = "how data reaches compute", .choices = "auto|shm|tcp"},
        {.name = "process", .kind = OPTION_U64, .target = &p->process, .argument = "N",
         .help = "index of this process", .min = 0, .max = 1023},
        {.name = "processes", .kind = OPTION_U64, .target = &p->processes, .argument = "N",
         .help = "storage processes of the environment", .min = 1, .max = 1024},
        {.name = "workers", .kind = OPTION_U64, .target = &p->workers, .argument = "N",
         .help = "worker threads", .min = 1, .max = 256},
        {.name = "tick-interval-us", .kind = OPTION_U64, .target = &p->tick_us, .argument = "US",
         .help = "how often quiet sources advance", .min = 100, .max = 10000000},
        {.name = "log-level", .kind = OPTION_TEXT, .target = &p->log_level, .argument = "LEVEL",
         .help = "debug, info, warn, error or off"},
        {.name = "log-format", .kind = OPTION_CHOICE, .target = &p->log_format,
         .argument = "WORD", .help = "of the log on standard error", .choices = "logfmt|json"},
    };
    const struct options_program program = {
        .name = "storaged",
        .summary = "Tailrace's storage runtime: ingests sources, keeps them, publishes them",
        .options = options,
        .options_len = ARRAY_LEN(options)};
    TRY(options_parse(&program, argc, argv, done));
    enum log_level level = LOG_LEVEL_INFO;
    TRY(log_level_parse(p->log_level, &level));
    log_configure(level, strcmp(p->log_format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT,
                  "storaged");
    p->config.workers = (uint32_t)p->workers;
    p->config.process = (uint32_t)p->process;
    p->config.processes = (uint32_t)p->processes;
    p->config.tick_us = p->tick_us;
    return ERR_OK;
}

static void stopped(void *arg)
{
    struct process *p = arg;
    LOG_INFO("storaged", "stopped");
    io_loop_stop(p->loop);
}

static void on_signal(void *arg, int signal_number)
{
    struct process *p = arg;
    LOG_INFO("storaged", "stopping", LOG_I64("signal", signal_number));
    if (p->storaged != NULL) {
        storaged_stop(p->storaged, stopped, p);
    } else {
        io_loop_stop(p->loop);
    }
}

static bool http_ready(void *ctx)
{
    struct process *p = ctx;
    return p->storaged != NULL && storaged_ready(p->storaged);
}

static err_t start_all(struct process *p)
{
    TRY(io_signal_watch(p->loop, SIGTERM, on_signal, p));
    TRY(io_signal_watch(p->loop, SIGINT, on_signal, p));
    if (p->http_address != NULL && p->http_address[0] != '\0') {
        struct http_config http = {
            .registry = p->config.metrics, .ready = http_ready, .ctx = p};
        TRY(http_server_new(p->loop, p->http_address, &http, &p->http));
    }
    return storaged_start(p->loop, &p->config, &p->storaged);
}

static void start(struct io_loop *loop, void *arg)
{
    struct process *p = arg;
    p->loop = loop;
    err_t err = start_all(p);
    if (err != ERR_OK) {
        fprintf(stderr, "storaged: %s\n", err_text(err));
        err_free(err);
        p->exit_status = 1;
        io_loop_stop(loop);
    }
}

static int run(struct process *p)
{
    struct io_env *env = NULL;
    err_t err = io_env_new_real(&env);
    if (err == ERR_OK) {
        p->config.metrics = metrics_registry_new();
        err = io_main(env, start, p);
    }
    if (err != ERR_OK) {
        fprintf(stderr, "storaged: %s\n", err_text(err));
        err_free(err);
        p->exit_status = 1;
    }
    storaged_free(p->storaged);
    http_server_free(p->http);
    metrics_registry_free(p->config.metrics);
    io_env_free(env);
    return p->exit_status;
}

int main(int argc, char **argv)
{
    struct process p = {
        .config = {.controller_address = "127.0.0.1:2100",
                   .storage_address = "127.0.0.1:2101",
                   .carrier = "auto"},
        .log_level = "info",
        .log_format = "logfmt",
        .workers = 1,
        .processes = 1,
        .tick_us = 5000,
    };
    bool done = false;
    err_t err = parse(&p, argc, argv, &done);
    if (err != ERR_OK) {
        fprintf(stderr, "storaged: %s\n", err_text(err));
        err_free(err);
        return 2;
    }
    return done ? 0 : run(&p);
}
