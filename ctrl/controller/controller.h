/*
 * The storage and compute controllers of environmentd: they drive storaged and computed over the
 * controller protocol (port 2100), keep the command history each runtime is brought back to after
 * a restart of either side, track frontiers and read holds, and merge the answers of processes and
 * replicas. They hold no truth: the catalog does, and rebuilds them at start by issuing the same
 * creations again (a runtime that still runs a compatible object keeps it: reconciliation).
 *
 * Everything runs on environmentd's one loop. Callbacks never run from inside the call that asked.
 */
#ifndef TAILRACE_CTRL_CONTROLLER_CONTROLLER_H
#define TAILRACE_CTRL_CONTROLLER_CONTROLLER_H

#include "core/base/metrics.h"
#include "core/engine/plan.h"
#include "core/io/io.h"
#include "core/io/tls.h"
#include "core/storage/storage.h"
#include "orchestrator/orchestrator.h"

struct controller;

/*
 * What the controllers tell the adapter. Called from the loop, each possibly creating, dropping or
 * asking anything. NULL entries are left out.
 */
struct controller_events {
    /* What a collection's files held at first is published below ready: see
     * controller_collection_ready. May be NULL. */
    void (*storage_ready)(void *ctx, uint64_t collection, uint64_t ready);
    /* Data came to a source or table; called as often as that is told. May be NULL. */
    void (*storage_active)(void *ctx);
    /* Health of a collection's ingestion. */
    void (*storage_status)(void *ctx, uint64_t collection, enum storage_status status,
                           const char *reason, const char *hint);
    /* A replica process came or went. */
    void (*replica_status)(void *ctx, uint64_t cluster, uint32_t replica, uint32_t process,
                           bool ready, const char *reason);
    /* A dataflow failed on every replica: its error, owned by the controller. */
    void (*dataflow_failed)(void *ctx, uint64_t cluster, uint64_t dataflow, err_t err);
};

/* Strings and what is pointed at outlive the controller. */
struct controller_config {
    struct io_loop *loop;
    struct orchestrator *orchestrator;
    struct tls_context *tls;        /* client context, ALPN h2; NULL: plain (simulator) */
    struct pki *pki;                /* issues the services' certificates; NULL: plain */
    const char *environment;        /* 32 hexadecimal digits */
    uint64_t epoch;                 /* of this environmentd: grows at each start (catalog) */
    const char *storaged_image;     /* path of the executable, or image */
    const char *computed_image;
    const char *data_directory;     /* storaged's data lives below */
    uint32_t storage_processes;
    uint32_t storage_workers;       /* a process */
    uint64_t tick_us;               /* handed to storaged */
    const char *carrier;            /* "auto", "shm", "tcp": handed to both runtimes */
    const struct controller_events *events;
    void *ctx;
    struct metrics_registry *metrics;
};

/*
 * Ensures the storage service and connects to it; clusters come with controller_cluster_create.
 * After it, before controller_initialized: create everything the catalog holds, in its order.
 */
err_t controller_new(const struct controller_config *config, struct controller **out);
/* Frees memory; no callback runs any more. Services keep running (the next environmentd adopts
 * them). */
void controller_free(struct controller *c);
/* Everything the catalog holds was created again: runtimes may now drop what was not named. */
void controller_initialized(struct controller *c);

/* ---- storage -------------------------------------------------------------------------------- */

/* Creates or resumes a collection; tables live on storage worker 0, file sources on all workers. */
err_t controller_collection_create(struct controller *c,
                                   const struct storage_collection *collection);
/* Drops it and its data (once no read hold is left). */
void controller_collection_drop(struct controller *c, uint64_t id);
/*
 * Table writes at one time, atomically (see storage_append). done exactly once: NULL when durable.
 * After a loss of the connection the write is sent again; storaged tells a repeated one by
 * (epoch, write id), so it is applied exactly once. One append at a time may be outstanding per
 * call order: they are applied in the order asked. One too large for a message (256 MiB) is refused
 * at once, before this returns: ERR_LIMIT.
 */
void controller_append(struct controller *c, uint64_t time, const struct storage_write *writes,
                       size_t writes_len, void (*done)(void *arg, err_t err), void *arg);
/* All tables are complete below upper (after the appends asked before). */
void controller_advance_tables(struct controller *c, uint64_t upper);
/* since and upper as known; false when the collection is unknown. */
bool controller_collection_frontiers(const struct controller *c, uint64_t id, uint64_t *since,
                                     uint64_t *upper);
/*
 * What the files of a source held when storage first looked (or what of it can be read) lies below
 * this time; 0: it is still being read, or the collection is unknown. Tables are ready at once. A
 * read at ready - 1 or later sees all of it.
 */
uint64_t controller_collection_ready(const struct controller *c, uint64_t id);
/* Statements are being run: quiet sources advance at once, and closely for a fifth of a second.
 * Cheap enough to be called for each statement. */
void controller_wake(struct controller *c);

/* ---- compute -------------------------------------------------------------------------------- */

/* Fixed for the cluster's life: another size is another cluster to the catalog. */
struct controller_cluster_spec {
    uint64_t id;
    const char *name;
    uint32_t scale;    /* processes of a replica */
    uint32_t workers;  /* a process */
    uint32_t replicas; /* replication factor; 0: nothing runs */
};
/* ERR_EXISTS, ERR_INVALID, or what the orchestrator says. Nothing is left behind by a failure. */
err_t controller_cluster_create(struct controller *c, const struct controller_cluster_spec *spec);
/* Its processes are stopped, its dataflows forgotten, peeks of it refused. Nothing when unknown. */
void controller_cluster_drop(struct controller *c, uint64_t id);
/* A replica has its history: reads would be answered. */
bool controller_cluster_ready(const struct controller *c, uint64_t id);

/*
 * Creates a dataflow on all replicas of a cluster. Takes the plan. plan->as_of == 0: chosen by the
 * controller as the largest since of its imports... the earliest time every import can be read at
 * and, for a maintained view, held there until hydrated. Read holds on the imports keep their
 * history until every replica's frontier has passed. ERR_INVALID with since/upper if as_of can not
 * be served, ERR_NOT_FOUND for unknown imports.
 */
err_t controller_dataflow_create(struct controller *c, uint64_t cluster, struct plan *plan);
/* Drops an export (index or subscribe) and, with its last export, the dataflow. */
void controller_export_drop(struct controller *c, uint64_t cluster, uint64_t export_id);
/* Reads of the index below since are given up (the adapter keeps it behind its oldest reads). */
void controller_allow_compaction(struct controller *c, uint64_t cluster, uint64_t export_id,
                                 uint64_t since);
/*
 * What may have history to give up: all collections (cluster 0), and the indexes of the catalog to
 * which updates came since they were compacted beyond them. each may allow compaction, and nothing
 * else. Others need not be asked, and keep their since.
 */
typedef void (*controller_changed_fn)(void *arg, uint64_t cluster, uint64_t id, uint64_t since,
                                      uint64_t upper);
void controller_each_changed(struct controller *c, controller_changed_fn each, void *arg);
/* upper: of the best replica. */
bool controller_index_frontiers(const struct controller *c, uint64_t cluster, uint64_t index,
                                uint64_t *since, uint64_t *upper);

/* Changes of a PLAN_EXPORT_SUBSCRIBE, merged over processes and replicas: abutting, consolidated.
 * err: an error ends the subscription (owned by the callee; ok is then NULL). Views valid during
 * the call. */
typedef void (*controller_subscribe_fn)(void *arg, uint64_t lower, uint64_t upper,
                                        const struct batch *ok, err_t err);
/* Names the receiver of a subscribe export; call before controller_dataflow_create. */
void controller_subscribe(struct controller *c, uint64_t export_id, controller_subscribe_fn fn,
                          void *arg);

/* Read until controller_peek returns. */
struct controller_peek {
    uint64_t cluster;
    uint64_t index;
    uint64_t time;
    const struct batch *keys; /* literal keys, or NULL */
    const struct mfp *mfp;    /* or NULL */
    const struct plan_order *order;
    uint32_t order_len;
    int64_t limit;            /* -1: none; the caller still finishes over the merged rows */
};
/* rows: all workers' rows (diff = multiplicity), in no order; or err (owned by the callee). Views
 * valid during the call. Exactly once unless cancelled. Returns the peek id. */
typedef void (*controller_peek_fn)(void *arg, const struct batch *const *rows, size_t rows_len,
                                   err_t err);
uint64_t controller_peek(struct controller *c, const struct controller_peek *peek,
                         controller_peek_fn fn, void *arg);
/* No callback will run. */
void controller_peek_cancel(struct controller *c, uint64_t peek_id);

/* A hold keeps [since, ...) of a storage collection (or index, with its cluster) readable at
 * `time`; ERR_INVALID when it is already compacted further. Release with the returned id. */
err_t controller_hold(struct controller *c, uint64_t cluster_or_0, uint64_t id, uint64_t time,
                      uint64_t *hold);
void controller_hold_release(struct controller *c, uint64_t hold);

/* ---- what is counted ------------------------------------------------------------------------ */

enum {
    CONTROLLER_NAME_MAX = 32,        /* of a counter or operator, with the NUL */
    CONTROLLER_IDS_MAX = 3,          /* core/base/counters.h */
    CONTROLLER_VALUES_MAX = 12,
    CONTROLLER_TABLES_MAX = 16,
    CONTROLLER_OPERATORS_MAX = 2 * PLAN_NODES_MAX, /* of a dataflow */
};

/* Counters of one type: rows of ids, then values. */
struct controller_counters {
    char *name;
    char *ids[CONTROLLER_IDS_MAX];
    uint32_t ids_len;
    char *values[CONTROLLER_VALUES_MAX];
    uint32_t values_len;
    uint64_t *numbers; /* [rows * (ids_len + values_len)] */
    size_t rows;
};

/* An operator of a dataflow on one worker: see engine_operator_stats. */
struct controller_operator {
    uint64_t dataflow, incarnation;
    uint32_t worker; /* global in the replica */
    uint32_t node;
    char *name;
    uint64_t rows_in, rows_out, batches, schedules, elapsed_ns, arranged_rows, bytes;
    uint64_t dataflow_bytes; /* of the whole dataflow on that worker */
};

/* How many updates a snapshot of a storage worker's part would read. */
struct controller_collection_rows {
    uint64_t id;
    uint32_t worker;
    uint64_t rows;
};

/* What one process said. cluster 0: storage. */
struct controller_process_report {
    char *service;
    uint64_t cluster;
    uint32_t replica, process;
    bool settled;     /* answered, or given up */
    bool answered;    /* with all it has; else what came before is here */
    char *reason;     /* why not */
    uint64_t omitted; /* rows beyond rows_max */
    struct controller_counters *counters;
    size_t counters_len, counters_cap;
    struct controller_operator *operators;
    size_t operators_len, operators_cap;
    struct controller_collection_rows *collections;
    size_t collections_len, collections_cap;
};
struct controller_report {
    struct controller_process_report *processes; /* in no order */
    size_t processes_len, processes_cap;
};
void controller_report_free(struct controller_report *report);

struct controller_question {
    bool counters;  /* of sessions, subscriptions, loops... */
    bool operators; /* of dataflows; and storage's rows of collections */
    uint64_t cluster;  /* its replicas alone; 0: storage and all clusters */
    uint64_t dataflow; /* operators of it alone; 0: of all */
    uint32_t rows_max; /* of each type of counters, and of operators, that a process tells */
    uint64_t timeout_us;
};
/*
 * Asks all processes concerned; fn once, with what came until all have answered or the time is up,
 * unless it is cancelled. The report is the callee's.
 */
typedef void (*controller_report_fn)(void *arg, struct controller_report *report);
uint64_t controller_report(struct controller *c, const struct controller_question *question,
                           controller_report_fn fn, void *arg);
/* No callback will run. Nothing when it is over. */
void controller_report_cancel(struct controller *c, uint64_t id);

/* A dataflow's plan, as long as it is not dropped; NULL: there is none of that id. */
const struct plan *controller_plan(const struct controller *c, uint64_t cluster,
                                   uint64_t dataflow);

/* How far a replica is with an index. */
struct controller_hydration {
    uint64_t cluster, index, dataflow;
    uint32_t replica;
    bool ready;    /* the replica has its history */
    bool hydrated; /* complete beyond the time it began at: reads need not wait for it */
    bool failed;   /* its dataflow did, there */
};
/* Every index of every cluster, on each replica. */
void controller_hydrations(const struct controller *c,
                           void (*each)(void *arg, const struct controller_hydration *one),
                           void *arg);

/*
 * Rows of the introspection tables: replicas, processes, addresses, frontiers, operators. Valid
 * during the call.
 */
struct controller_process_info {
    const char *service;
    uint64_t cluster; /* 0: storage */
    uint32_t replica, process;
    const char *address;
    bool connected;
};
void controller_processes(const struct controller *c,
                          void (*each)(void *arg, const struct controller_process_info *info),
                          void *arg);

#endif
