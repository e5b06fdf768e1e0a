/*
 * environmentd: what is started in which order, and ended in the reverse. One loop.
 *
 * The order (start_all), and why:
 *
 *     catalog, oracle   raises the epoch: a predecessor that still lives is fenced from now on
 *     password, TLS     what can be wrong with flags, before anything is started
 *     keys              the services' certificates
 *     orchestrator      its lock keeps a second environmentd of this directory out
 *     coordinator       sessions need it
 *     ports             before processes are started: an address in use leaves none behind
 *     controllers       services are ensured, adopted or started
 *     coord_start       everything in the catalog is created again; statements run from here on
 *
 * Each field is NULL until its step was taken, and environmentd_free frees what is not NULL in the
 * reverse order: a start that fails at any step, and a dead env in the simulator, end the same way.
 */
#include "ctrl/environmentd/environmentd.h"

#include "core/base/assert.h"
#include "core/base/log.h"
#include "core/io/tls.h"
#include "ctrl/adapter/coord/coord.h"
#include "ctrl/environmentd/sizes.h"
#include "ctrl/http/http.h"
#include "ctrl/pki/pki.h"
#include "orchestrator/process/process.h"

#include <stdio.h>

struct environmentd {
    struct environmentd_config config;
    struct io_loop *loop;
    struct arena arena; /* paths, sizes */
    char environment[33]; /* as the controllers want it */
    struct catalog *catalog; /* durable: what exists */
    struct oracle *oracle; /* durable: what time it is */
    struct pki *pki; /* NULL in the simulator */
    struct tls_context *control_tls; /* client side, to the services */
    struct tls_context *sql_tls;     /* server side, for SQL clients */
    struct orchestrator *orchestrator;
    bool owns_orchestrator; /* else it is the host's (a test) */
    struct controller *controller;
    struct coord *coord; /* sessions and statements */
    struct pgwire_server *sql; /* the SQL port */
    struct http_server *http; /* metrics and health, or NULL */
    char *password; /* wiped when freed */
    void (*stopped)(void *arg); /* set by environmentd_stop */
    void *stopped_arg;
    struct io_timer stop_timer; /* until last words are written */
};

/* ---- starting ------------------------------------------------------------------------------- */

/* The controllers know the environment by 32 digits without dashes. */
static err_t open_catalog(struct environmentd *e)
{
    const char *directory = arena_printf(&e->arena, "%s/catalog", e->config.data_directory);
    const struct catalog_config config = {
        .loop = e->loop, .directory = directory, .environment = e->config.environment_id};
    ASSERT(e->catalog == NULL);
    TRY(catalog_open(&config, &e->catalog));
    const char *path = arena_printf(&e->arena, "%s/oracle", directory);
    TRY(oracle_open(e->loop, path, catalog_epoch(e->catalog), &e->oracle));
    const uint8_t *id = catalog_environment(e->catalog);
    for (size_t i = 0; i < 16; i++) {
        snprintf(e->environment + i * 2, 3, "%02x", id[i]);
    }
    return ERR_OK;
}

/* The services' identities. The simulator has no TLS: streams are plain there. */
static err_t open_pki(struct environmentd *e)
{
    ASSERT(e->environment[0] != '\0');
    if (io_env_simulated(io_loop_env(e->loop))) {
        return ERR_OK;
    }
    const char *directory = arena_printf(&e->arena, "%s/pki", e->config.data_directory);
    TRY(pki_init(e->loop, directory, e->environment, &e->pki));
    if (e->config.certificate_lifetime_s > 0) {
        pki_set_lifetime(e->pki, e->config.certificate_lifetime_s);
    }
    struct pki_files files = {0};
    TRY(pki_issue(e->pki, PKI_ENVIRONMENTD, "environmentd", &files));
    const struct tls_config config = {.certificate_path = files.certificate_path,
                                      .key_path = files.key_path,
                                      .ca_path = files.ca_path,
                                      .alpn = "h2"};
    err_t err = tls_context_new(&config, false, &e->control_tls);
    pki_files_free(&files);
    return err;
}

/* Without a certificate the port speaks plain text, unless TLS is required. */
static err_t open_sql_tls(struct environmentd *e)
{
    ASSERT(e->sql_tls == NULL);
    if (e->config.tls_certificate == NULL) {
        return e->config.tls_require
                   ? err_new(ERR_INVALID, "--tls-mode=require needs --tls-cert and --tls-key")
                   : ERR_OK;
    }
    if (e->config.tls_key == NULL) {
        return err_new(ERR_INVALID, "--tls-cert needs --tls-key");
    }
    const struct tls_config config = {.certificate_path = e->config.tls_certificate,
                                      .key_path = e->config.tls_key};
    return err_wrap(tls_context_new(&config, true, &e->sql_tls), "TLS for SQL clients");
}

/* A line end is the editor's, not the password's. */
static err_t read_password(struct environmentd *e)
{
    uint8_t *data = NULL;
    size_t len = 0;
    ASSERT(e->password == NULL);
    if (e->config.password_path == NULL) {
        return ERR_OK;
    }
    TRY(err_wrap(io_read_whole_sync(e->loop, e->config.password_path, 4096, &data, &len),
                 "reading the password of SQL users"));
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r')) {
        len--;
    }
    e->password = mem_strndup((const char *)data, len);
    free(data);
    return len > 0 ? ERR_OK
                   : err_new(ERR_INVALID, "the password file %s is empty", e->config.password_path);
}

/* One that was given (tests, the simulator) stays its owner's. */
static err_t open_orchestrator(struct environmentd *e)
{
    ASSERT(e->orchestrator == NULL);
    if (e->config.orchestrator != NULL) {
        e->orchestrator = e->config.orchestrator;
        return ERR_OK;
    }
    const struct process_orchestrator_config config = {
        .data_directory = e->config.data_directory, .base_port = e->config.base_port};
    TRY(process_orchestrator_new(e->loop, &config, &e->orchestrator));
    e->owns_orchestrator = true;
    return ERR_OK;
}

/* Sizes first: an error in them is the operator's, and told before anything listens. */
static err_t open_coord(struct environmentd *e)
{
    struct coord_size *sizes = NULL;
    size_t sizes_len = 0;
    ASSERT(e->catalog != NULL && e->oracle != NULL);
    TRY(sizes_parse(e->config.cluster_sizes, &e->arena, &sizes, &sizes_len));
    const struct coord_config config = {
        .loop = e->loop,
        .catalog = e->catalog,
        .oracle = e->oracle,
        .sizes = sizes,
        .sizes_len = sizes_len,
        .tick_us = e->config.tick_us,
        .compaction_window_us = e->config.compaction_window_us,
        .max_result_bytes = e->config.max_result_bytes,
        .max_copy_bytes = e->config.max_write_bytes,
        .password = e->password,
        .trust_remote = e->config.trust_remote,
        .metrics = e->config.metrics,
    };
    return coord_new(&config, &e->coord);
}

/* Ensures the storage service: from here on processes run. */
static err_t open_controller(struct environmentd *e)
{
    ASSERT(e->coord != NULL && e->orchestrator != NULL);
    const struct controller_config config = {
        .loop = e->loop,
        .orchestrator = e->orchestrator,
        .tls = e->control_tls,
        .pki = e->pki,
        .environment = e->environment,
        .epoch = catalog_epoch(e->catalog),
        .storaged_image = e->config.storaged_image,
        .computed_image = e->config.computed_image,
        .data_directory = e->config.data_directory,
        .storage_processes = e->config.storage_processes,
        .storage_workers = e->config.storage_workers,
        .tick_us = e->config.tick_us,
        .carrier = e->config.carrier,
        .events = &coord_controller_events,
        .ctx = e->coord,
        .metrics = e->config.metrics,
    };
    return controller_new(&config, &e->controller);
}

/* GET /ready. */
static bool http_ready(void *ctx, struct buf *reason)
{
    ASSERT(ctx != NULL && reason != NULL);
    return environmentd_ready(ctx, reason);
}

/* SQL and HTTP; with port 0 the real ones are asked for later. */
static err_t open_ports(struct environmentd *e)
{
    ASSERT(e->coord != NULL);
    const struct pgwire_config config = {
        .loop = e->loop,
        .backend = &coord_pgwire_backend,
        .ctx = e->coord,
        .tls = e->sql_tls,
        .require_tls = e->config.tls_require,
        .max_connections = e->config.max_connections,
        .metrics = e->config.metrics,
    };
    TRY(pgwire_server_new(&config, &e->sql));
    TRY(pgwire_server_listen(e->sql, e->config.sql_address));
    if (e->config.http_address == NULL) {
        return ERR_OK;
    }
    const struct http_config http = {.loop = e->loop,
                                     .address = e->config.http_address,
                                     .registry = e->config.metrics,
                                     .ready = http_ready,
                                     .ctx = e};
    return http_server_new(&http, &e->http);
}

static err_t start_all(struct environmentd *e)
{
    ASSERT(e->loop != NULL && e->config.data_directory != NULL);
    TRY(open_catalog(e));
    TRY(read_password(e));
    TRY(open_sql_tls(e));
    TRY(open_pki(e));
    TRY(open_orchestrator(e));
    TRY(open_coord(e));
    TRY(open_ports(e)); /* before processes are started: an address in use leaves none behind */
    TRY(open_controller(e));
    coord_start(e->coord, e->controller);
    LOG_INFO("environmentd", "serving", LOG_STR("sql", environmentd_sql_address(e)),
             LOG_STR("http", environmentd_http_address(e)));
    return ERR_OK;
}

/* Clients had their moment. */
static void on_stop_now(struct io_timer *timer)
{
    ASSERT(timer->fire == on_stop_now);
    struct environmentd *e = CONTAINER_OF(timer, struct environmentd, stop_timer);
    e->stopped(e->stopped_arg);
}

/*
 * On an error what was made is freed; services that were started run on, for the next try to adopt.
 */
err_t environmentd_start(struct io_loop *loop, const struct environmentd_config *config,
                         struct environmentd **out)
{
    ASSERT(config->data_directory != NULL && config->sql_address != NULL);
    struct environmentd *e = MEM_NEW(struct environmentd);
    *out = NULL;
    e->config = *config;
    e->loop = loop;
    e->stop_timer.fire = on_stop_now;
    err_t err = start_all(e);
    if (err != ERR_OK) {
        environmentd_free(e);
        return err;
    }
    *out = e;
    return ERR_OK;
}

/* ---- ending --------------------------------------------------------------------------------- */

/* Every process has ended. */
static void on_services_stopped(void *arg)
{
    ASSERT(((struct environmentd *)arg)->stopped != NULL);
    struct environmentd *e = arg;
    e->stopped(e->stopped_arg);
}

/* Listeners close and sessions end with 57P01 (admin_shutdown) at once. */
void environmentd_stop(struct environmentd *e, bool stop_services, void (*done)(void *arg),
                       void *arg)
{
    ASSERT(e->stopped == NULL && done != NULL);
    e->stopped = done;
    e->stopped_arg = arg;
    pgwire_server_drain(e->sql);
    if (stop_services && e->owns_orchestrator) {
        process_orchestrator_stop_all(e->orchestrator, on_services_stopped, e);
        return;
    }
    /* Clients get a moment to take the last words. */
    io_timer_start(e->loop, &e->stop_timer, io_now_us(e->loop) + 50 * 1000);
}

void environmentd_free(struct environmentd *e)
{
    if (e == NULL) {
        return;
    }
    io_timer_cancel(e->loop, &e->stop_timer);
    http_server_free(e->http);
    pgwire_server_free(e->sql); /* sessions let go of what they run */
    coord_free(e->coord);
    if (e->controller != NULL) {
        controller_free(e->controller);
    }
    if (e->owns_orchestrator) {
        orchestrator_free(e->orchestrator);
    }
    tls_context_free(e->control_tls);
    tls_context_free(e->sql_tls);
    if (e->pki != NULL) {
        pki_free(e->pki);
    }
    oracle_free(e->oracle);
    catalog_close(e->catalog);
    if (e->password != NULL) {
        explicit_bzero(e->password, strlen(e->password));
        free(e->password);
    }
    arena_free(&e->arena);
    free(e);
}

/* ---- looking ------------------------------------------------------------------------------- */

/* The first that is listened on. */
const char *environmentd_sql_address(const struct environmentd *e)
{
    ASSERT(e->sql != NULL);
    return pgwire_server_address(e->sql, 0);
}

const char *environmentd_http_address(const struct environmentd *e)
{
    ASSERT(e->sql != NULL);
    return e->http != NULL ? http_server_address(e->http) : "";
}

struct missing {
    size_t processes;
    struct buf *reason;
};

/* Counts who is away, and says who. */
static void look_at_process(void *arg, const struct controller_process_info *info)
{
    struct missing *m = arg;
    ASSERT(info->service != NULL);
    if (!info->connected) {
        buf_printf(m->reason, "%s%s process %u", m->processes == 0 ? "not connected: " : ", ",
                   info->service, info->process);
        m->processes++;
    }
}

/* Everything in the catalog was created again, and every process greeted. */
bool environmentd_ready(struct environmentd *e, struct buf *reason)
{
    ASSERT(e->coord != NULL && reason != NULL);
    struct missing m = {0, reason};
    if (!coord_ready(e->coord, reason)) {
        return false;
    }
    controller_processes(e->controller, look_at_process, &m);
    return m.processes == 0;
}
