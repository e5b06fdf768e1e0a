/*
 * The coordinator: sessions, transactions, and what statements do. It ties the catalog, the
 * timestamp oracle, the planner and the controllers together, and is the backend of pgwire.
 *
 * One loop, no threads. The catalog is the truth; the coordinator rebuilds the controllers' world
 * from it at start. Reads are strict serialisable: see read.c for times, write.c for writes.
 */
#ifndef TAILRACE_CTRL_ADAPTER_COORD_COORD_H
#define TAILRACE_CTRL_ADAPTER_COORD_COORD_H

#include "core/base/metrics.h"
#include "ctrl/adapter/catalog/catalog.h"
#include "ctrl/adapter/pgwire/pgwire.h"
#include "ctrl/controller/controller.h"

struct coord;

/* A size a cluster may have. */
struct coord_size {
    const char *name;
    uint32_t scale;   /* processes */
    uint32_t workers; /* threads of a process */
};

struct coord_config {
    struct io_loop *loop;
    struct catalog *catalog;          /* not owned */
    struct oracle *oracle;            /* not owned */
    const struct coord_size *sizes;   /* copied */
    size_t sizes_len;
    uint64_t tick_us;                 /* tables advance this often; 0: default 5 ms */
    uint64_t compaction_window_us;    /* history kept behind the upper; 0: default 1 s */
    size_t max_result_bytes;          /* 0: default 192 MiB: answers are one message of 256 */
    size_t max_copy_bytes;            /* rows of one COPY or transaction; 0: 192 MiB */
    const char *password;             /* of every role, NULL: trust on loopback only */
    bool trust_remote;                /* without a password, let remote clients in too */
    struct metrics_registry *metrics; /* may be NULL */
};

err_t coord_new(const struct coord_config *config, struct coord **out);
/* Sessions must be gone (pgwire_server_free first); the controller lives on until after this. */
void coord_free(struct coord *coord);

/* What the controllers are to be given as events, with ctx = the coordinator. */
extern const struct controller_events coord_controller_events;
/* The backend of pgwire, with ctx = the coordinator. */
extern const struct pgwire_backend coord_pgwire_backend;

/*
 * Creates everything the catalog holds at the controller, in order of dependence, and starts
 * ticking. An object that cannot be created is logged and shown as failed; the others go on.
 */
void coord_start(struct coord *coord, struct controller *controller);
/* True when statements can be served; else a reason is appended. */
bool coord_ready(struct coord *coord, struct buf *reason);

#endif
