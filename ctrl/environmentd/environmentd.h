/*
 * environmentd as a library, so that main(), tests and the simulator can host it: the catalog, the
 * coordinator, the controllers, and the ports for SQL and HTTP, on one loop.
 *
 * Start: open the catalog (raising the epoch), make the certificate authority, create the
 * controllers and through them the services, create again what the catalog holds, listen. Whatever
 * runs already is adopted, so a restart takes a fraction of a second.
 */
#ifndef TAILRACE_CTRL_ENVIRONMENTD_ENVIRONMENTD_H
#define TAILRACE_CTRL_ENVIRONMENTD_ENVIRONMENTD_H

#include "core/base/metrics.h"
#include "core/io/io.h"
#include "orchestrator/orchestrator.h"

struct environmentd;

/* Read at start; what it points to outlives environmentd. */
struct environmentd_config {
    const char *data_directory;
    const char *environment_id;      /* text of a UUID; NULL: made at first start */
    const char *sql_address;         /* "127.0.0.1:6875" */
    const char *http_address;        /* "127.0.0.1:6876"; NULL: no HTTP */
    const char *storaged_image;
    const char *computed_image;
    uint32_t storage_processes; /* of the service "storage" */
    uint32_t storage_workers; /* a process */
    const char *carrier;             /* "auto", "shm", "tcp" */
    uint64_t certificate_lifetime_s; /* of the services' certificates; 0: a year */
    uint64_t tick_us; /* how often tables advance while they are used */
    uint64_t compaction_window_us;   /* 0: default */
    const char *cluster_sizes;       /* JSON, see sizes.h; NULL: default */
    uint64_t max_connections;        /* 0: default */
    uint64_t max_result_bytes;       /* 0: default */
    uint64_t max_write_bytes;        /* of one transaction; 0: default */
    const char *tls_certificate;     /* of the SQL port; NULL: no TLS */
    const char *tls_key;
    bool tls_require;
    const char *password_path;       /* file holding the password of SQL users; NULL: none */
    bool trust_remote; /* without a password, let other hosts in */
    uint16_t base_port;              /* of services; 0: default */
    struct orchestrator *orchestrator; /* not owned; NULL: processes of this host */
    struct metrics_registry *metrics;
};

/* Starts on the calling loop. Strings of config must outlive it. */
err_t environmentd_start(struct io_loop *loop, const struct environmentd_config *config,
                         struct environmentd **out);
/*
 * Ends in order: no new clients, those there are told 57P01; with stop_services the services are
 * stopped too, else they go on and are adopted by the next environmentd. done(arg) when only
 * environmentd_free is left.
 */
void environmentd_stop(struct environmentd *e, bool stop_services, void (*done)(void *arg),
                       void *arg);
/* Frees; also on a dead env. NULL is allowed. */
void environmentd_free(struct environmentd *e);
/* The addresses bound, with real ports. */
const char *environmentd_sql_address(const struct environmentd *e);
const char *environmentd_http_address(const struct environmentd *e);
/* True when every process of the services is connected; else a reason is appended. */
bool environmentd_ready(struct environmentd *e, struct buf *reason);

#endif
