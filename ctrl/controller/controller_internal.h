/*
 * Shared by the files of the controllers. Everything lives on environmentd's one loop: nothing here
 * is locked or atomic.
 *
 * Who owns what: struct controller owns collections, clusters, peeks, holds; a cluster its replicas
 * and dataflows; a replica its connections; a dataflow its plan and exports. exports and peeks are
 * found by id in the controller's maps, which only point.
 *
 * Times are microseconds on the environment's timeline; FRONTIER_EMPTY is "complete for ever" as an
 * upper and "dropped" as a since. `since` is always the earliest time that can still be read,
 * `upper` the time below which everything is known.
 */
#ifndef TAILRACE_CTRL_CONTROLLER_CONTROLLER_INTERNAL_H
#define TAILRACE_CTRL_CONTROLLER_CONTROLLER_INTERNAL_H

#include "core/base/map.h"
#include "ctrl/controller/controller.h"
#include "ctrl/pki/pki.h"
#include "ctrl/plan/plan_codec.h"
#include "ctrl/rpc/rpc.h"

enum {
    CONTROLLER_PROTOCOL_VERSION = 1,
    CONTROLLER_MESSAGE_MAX = 256 << 20,
    CONTROLLER_SCALE_MAX = 256, /* processes of a replica */
    CONTROLLER_WORKERS_MAX = 256, /* of a process */
    CONTROLLER_REPLICAS_MAX = 16, /* of a cluster */
};

/* ---- connections (connection.c) -------------------------------------------------------------- */

struct ctl_conn;
/* What a kind of process answers with; all on the loop, from the stream's callbacks. */
struct ctl_conn_ops {
    const char *path; /* of the session method */
    enum pki_role role;
    /* The session call stands and Hello was sent. */
    err_t (*message)(struct ctl_conn *conn, const uint8_t *data, size_t len);
    /* The session was lost; it will be tried again. */
    void (*lost)(struct ctl_conn *conn, const char *reason);
};

/* The session with one process: connects when its service runs, reconnects with back-off. */
struct ctl_conn {
    struct controller *controller; /* the owner of everything */
    const struct ctl_conn_ops *ops;
    void *owner;
    char *service; /* its name at the orchestrator */
    uint32_t process;
    struct rpc_channel *channel; /* NULL: no connection */
    struct rpc_call *call; /* the session's stream, or NULL */
    struct io_timer retry;
    uint64_t backoff_us; /* before the next try */
    uint64_t nonce; /* of the Hello under way or answered */
    bool greeted; /* the process answered Hello */
};

void ctl_conn_init(struct ctl_conn *conn, struct controller *controller,
                   const struct ctl_conn_ops *ops, void *owner, const char *service,
                   uint32_t process);
/* Tries now (the process became ready). */
void ctl_conn_poke(struct ctl_conn *conn);
/* Ends the session and starts over; lost() is not called. */
void ctl_conn_restart(struct ctl_conn *conn);
/*
 * Dropped when there is no session: the history brings it back. A message that cannot be encoded is
 * logged, it is ours.
 */
void ctl_conn_send(struct ctl_conn *conn, const pb_msgdesc_t *fields, const void *message);
/* The same for a message that is encoded already. */
void ctl_conn_send_bytes(struct ctl_conn *conn, const struct buf *bytes);
/* No callback runs any more. */
void ctl_conn_free(struct ctl_conn *conn);

/* ---- storage (storage.c) --------------------------------------------------------------------- */

/* What one storage process says of a collection's ingestion. */
struct ctl_health {
    bool known;
    enum storage_status status;
    char *reason;
    char *hint;
};

/* A table or source, as storage was asked to run it. */
struct ctl_collection {
    uint64_t id;
    enum storage_kind kind;
    struct buf run;       /* the RunCollection command */
    uint64_t *sinces;     /* [storage processes] as reported */
    uint64_t *uppers;
    uint64_t *readies;
    struct ctl_health *health;
    uint64_t upper;       /* meet, monotone */
    uint64_t ready;       /* see controller_collection_ready; told once */
    uint64_t since;       /* allowed: what was sent */
    uint64_t since_wanted; /* by the adapter */
};

/* A write that was not answered yet; the list is in the order of times, which is that of asking. */
struct ctl_append {
    struct ctl_append *next;
    uint64_t time; /* also names it */
    struct buf message; /* as sent, to be sent again */
    void (*done)(void *arg, err_t err);
    void *arg;
};

/* ---- compute --------------------------------------------------------------------------------- */

struct ctl_cluster;
struct ctl_dataflow;

/* What one replica says of one export. */
struct ctl_export_replica {
    uint64_t as_of;   /* it was created with; FRONTIER_EMPTY: not created there */
    uint64_t *uppers; /* [scale] */
    bool *follows;    /* [scale]: beyond that, the sources its dataflow reads */
    bool failed;  /* its dataflow did */
    bool goes_on; /* with what ran there before the session */
};

/* A batch a process sent, copied and checked. lower and upper of subscriptions' only. */
struct ctl_piece {
    uint64_t lower, upper;
    void *storage; /* of ok */
    struct batch_col *cols; /* of ok */
    struct batch ok;
};

/* A replica's share of a subscription: pieces by worker until their joint frontier passes. */
struct ctl_sub_replica {
    uint64_t *uppers; /* [workers of the replica] */
    struct ctl_piece *pieces;
    size_t pieces_len, pieces_cap;
};

/* Something of a dataflow that can be read: an index, or a subscription. */
struct ctl_export {
    uint64_t id;
    struct ctl_dataflow *dataflow;
    struct ctl_cluster *cluster;
    uint8_t kind; /* enum plan_export_kind */
    uint32_t node;
    uint64_t since;
    uint64_t since_wanted;
    bool dropped;   /* by the adapter; it goes when no dataflow reads it any more */
    uint64_t upper; /* best replica when it was last asked for, monotone: progress_upper */
    uint64_t changed; /* upper when updates were last heard of, while compaction may be due */
    struct ctl_export *changed_prev, *changed_next; /* in the controller's list then */
    struct ctl_export_replica *replicas; /* [replicas of the cluster] */
    /* PLAN_EXPORT_SUBSCRIBE: */
    controller_subscribe_fn fn;
    void *fn_arg;
    uint64_t emitted; /* upper of what was handed on */
    bool started;     /* something was handed on */
    bool ended;       /* an error was */
    struct ctl_sub_replica *subs; /* [replicas] */
};

/* Known here from creation until its last export is dropped, whatever replicas do. */
struct ctl_dataflow {
    struct ctl_dataflow *prev, *next; /* of the cluster, in order of creation */
    struct ctl_cluster *cluster;
    uint64_t id;
    struct plan *plan;
    bool as_of_known; /* it was started; else it waits for its imports */
    uint64_t as_of;
    struct ctl_export **exports; /* NULL where dropped */
    uint32_t exports_len;
    uint32_t exports_left;
    uint64_t *sources; /* what it reads, also by the indexes it imports; each once */
    size_t sources_len, sources_cap;
    bool failed;
};

/* An export that runs already in some processes: readable from since, complete below upper. */
struct ctl_running {
    uint64_t since, upper;
    uint32_t processes; /* that said so */
};

/* One of a cluster's copies; its index is its identity. */
struct ctl_replica {
    struct ctl_cluster *cluster;
    uint32_t index;
    char *service;
    struct ctl_conn *conns; /* [scale] */
    uint32_t greeted; /* processes in session */
    bool ready; /* history was replayed: commands go there as they come */
    struct u64map *sources; /* [scale]: source -> how far the process was fed; while in session */
    struct u64map running; /* export -> struct ctl_running: what its processes said in Hello */
    struct service_args *args; /* of its processes' flags */
};

/* Replicas are fixed at creation; dataflows come and go. */
struct ctl_cluster {
    struct controller *controller;
    struct controller_cluster_spec spec;
    char *name; /* owned; spec.name points at it */
    struct ctl_replica *replicas;
    struct ctl_dataflow *first, *last;
    uint32_t lingering; /* exports that were dropped and are still read */
    bool waiting; /* a dataflow of it may wait for its as_of */
    bool announced; /* the first replay may happen: every dataflow of the catalog has an as_of */
};

/* A read that was not answered yet. */
struct ctl_peek {
    uint64_t id;
    struct ctl_cluster *cluster;
    uint64_t index;
    uint64_t time;
    struct buf message;
    controller_peek_fn fn;
    void *arg;
    uint8_t *kinds; /* [cols]: what its rows must be */
    uint32_t cols;
    uint32_t replicas_len; /* the cluster may be gone when the answer is delivered */
    struct ctl_peek_replica {
        uint32_t answers;     /* processes that answered in this session */
        uint64_t answered[CONTROLLER_SCALE_MAX / 64]; /* which: bit p % 64 of word p / 64 */
        err_t err;
        struct ctl_piece *rows;
        size_t rows_len, rows_cap;
    } *replicas;
};

struct ctl_refusal;

/* Who reads a collection or index: what a compaction has to ask. */
struct ctl_readers {
    struct ctl_dataflow **flows;
    size_t flows_len, flows_cap;
};

/* A promise that a collection or index stays readable at a time. */
struct ctl_hold {
    uint64_t id;
    uint64_t cluster; /* 0: storage collection */
    uint64_t target;
    uint64_t time;
};

struct service_args;

/* All of it. Maps point; see the head for who owns what. */
struct controller {
    struct controller_config config; /* a copy */
    struct io_loop *loop;
    bool initialized; /* controller_initialized was called */
    /* storage */
    struct ctl_conn *storage; /* [storage_processes] */
    struct service_args *storage_args; /* of its processes' flags */
    struct u64map collections; /* id -> struct ctl_collection */
    struct ctl_append *appends_first, *appends_last;
    uint64_t tables_upper;     /* promised */
    uint64_t woken_us;         /* when storage was told last that statements run */
    /* compute */
    struct u64map clusters;    /* id -> struct ctl_cluster */
    struct u64map exports;     /* id -> struct ctl_export */
    uint64_t reported; /* entries of replicas' reports of progress, so far */
    struct ctl_export *changed_first, *changed_last; /* that compaction has to look at */
    struct u64map readers[2];  /* of collections; of indexes: id -> struct ctl_readers */
    struct u64map peeks;       /* id -> struct ctl_peek */
    struct u64map holds;       /* id -> struct ctl_hold */
    struct u64map reports;     /* id -> struct ctl_report */
    struct u64map receivers;   /* export -> struct ctl_receiver, before the dataflow exists */
    uint64_t next_peek; /* the last one given out */
    uint64_t next_incarnation; /* the last one given out */
    uint64_t next_hold; /* the last one given out */
    uint64_t next_report; /* the last one given out */
    struct ctl_refusal *refusals; /* failed peeks, to be answered from the loop */
    struct io_task refusals_task;
    struct ctl_failure *failures; /* failed dataflows, to be told from the loop */
    struct io_task failures_task;
};

/* Where a subscription's changes will go, named before its dataflow exists. */
struct ctl_receiver {
    controller_subscribe_fn fn;
    void *arg;
};

/* services.c: what runs, and with which flags */
err_t services_storage_ensure(struct controller *c);
err_t services_replica_ensure(struct controller *c, struct ctl_replica *replica);
/* Removes the files of a process of a service that is dropped. */
void services_forget(struct controller *c, const char *service, uint32_t process);
/* Removes the files of processes there are none of; after everything is known. */
void services_sweep(struct controller *c);
/* When the service is dropped, or was never made. NULL is allowed. */
void services_args_free(struct service_args *args);
/* The unix socket of a process for shared memory; "" when there is none. From the arena. */
const char *services_socket(const struct controller *c, struct arena *arena, const char *what,
                            uint32_t process);

/* storage.c */
err_t storage_start(struct controller *c);
/* Each file's share of controller_free. */
void storage_free_all(struct controller *c);
void storage_initialized(struct controller *c);
struct ctl_collection *storage_collection(const struct controller *c, uint64_t id);
bool storage_collection_known(const struct ctl_collection *collection);
uint64_t storage_collection_since(const struct controller *c,
                                  const struct ctl_collection *collection);
void storage_compact(struct controller *c, struct ctl_collection *collection);

/* compute.c: clusters, replicas, frontiers Clusters with their dataflows; peeks must be gone. */
void compute_free_all(struct controller *c);
/* The cluster's dataflows all have an as_of: replicas may be told their history. */
void compute_announce(struct ctl_cluster *cluster);
/* To the replicas of a cluster that have their history. */
void compute_broadcast(struct ctl_cluster *cluster, const struct buf *message);
void compute_update_storage(struct controller *c);
void compute_storage_directory(struct controller *c, struct arena *arena,
                               tailrace_v1_StorageDirectory *out);

/* progress.c Notes which sources a new dataflow reads; what it imports is there. */
void progress_sources(const struct controller *c, struct ctl_dataflow *dataflow);
/* A process's report. */
void progress_take(struct ctl_replica *replica, uint32_t process,
                   const tailrace_v1_Frontiers *message);
/* What its processes said of sources. */
void progress_forget(struct ctl_replica *replica);
uint64_t progress_replica_upper(const struct ctl_export *export, uint32_t replica);
/* Of the best replica; never less than it was. */
uint64_t progress_upper(struct ctl_export *export);
/* Compaction need not look at it. */
void progress_settled(struct ctl_export *export);

/* dataflow.c Something became known: starts the dataflows that waited for it. */
void dataflow_try_start(struct controller *c);
/* What a replica's processes said they run is needed for one replay only. */
void running_clear(struct ctl_replica *replica);
/*
 * Creates it on one replica, at a time that is right for it. The replica has, or is being told, its
 * history.
 */
void dataflow_send(struct ctl_dataflow *dataflow, struct ctl_replica *replica);
/* The earliest time a dataflow may still need of its imports. */
uint64_t dataflow_hold(const struct ctl_dataflow *dataflow);
/* No further than this may it be compacted: the least of what is wanted and all holds; or one that
 * is not beyond the since it has, which is as good. */
uint64_t controller_min_hold(const struct controller *c, uint64_t cluster, uint64_t id,
                             uint64_t wanted, uint64_t since);
/* replica UINT32_MAX: it never started. Owns err. Runs no callback: the dataflow lives on. */
void dataflow_failed(struct ctl_dataflow *dataflow, uint32_t replica, err_t err);
void failures_free(struct controller *c);
/* Memory, with its exports; takes it out of no list. */
void dataflow_free(struct ctl_dataflow *dataflow);
/* As far as holds allow; may be called at any time. */
void export_compact(struct ctl_export *export);

/* peek.c A process's answer. ERR_PROTOCOL when it has answered before. */
err_t peek_response(struct ctl_replica *replica, uint32_t process,
                    const tailrace_v1_PeekResponse *message);
/* Sends the replica every peek that waits, as a part of its history. */
void peek_replay(struct ctl_replica *replica);
/* Sends the peeks that waited until the dataflow they read from could start. */
void peek_dataflow_started(struct controller *c, const struct ctl_dataflow *dataflow);
/* Its answers are void; it is not ready any more. */
void peek_replica_lost(struct ctl_replica *replica);
/* Refuses, from the loop, every peek of it. Owns err. */
void peek_fail_index(struct controller *c, uint64_t cluster, uint64_t index, err_t err);
/* Before the cluster is freed. Owns err. */
void peek_fail_cluster(struct controller *c, const struct ctl_cluster *cluster, err_t err);
void peek_free_all(struct controller *c);

/* report.c A page of a process's answer. ERR_PROTOCOL when it makes no sense. */
err_t report_response(struct ctl_conn *conn, const tailrace_v1_Stats *message);
/* A process of a service, or all (UINT32_MAX), will not answer what was asked. Runs no callback. */
void report_lost(struct controller *c, const char *service, uint32_t process,
                 const char *reason);
void report_free_all(struct controller *c);
/* report_take.c A page into the process's part. ERR_PROTOCOL: what came before is still in it. */
err_t report_take(const tailrace_v1_Stats *message, uint32_t rows_max,
                  struct controller_process_report *p);

/* subscribe.c A worker's piece. */
void subscribe_response(struct ctl_replica *replica, const tailrace_v1_SubscribeResponse *message);
/* Forgets the replica's pieces: they will come again. */
void subscribe_reset(struct ctl_export *export, uint32_t replica);
/* Memory of an export's subscription, with all replicas' pieces. */
void subscribe_free(struct ctl_export *export);

/* Of one replica. */
static inline uint32_t cluster_workers(const struct ctl_cluster *cluster)
{
    return cluster->spec.scale * cluster->spec.workers;
}

#endif
