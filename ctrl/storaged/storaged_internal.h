/*
 * Shared by storaged.c (main loop) and worker.c (worker loops).
 *
 * The two sides touch each other's structs nowhere but in mail: a struct storaged_worker belongs to
 * its worker's loop, struct storaged and the collections in it to the main loop. What is read from
 * both sides (config, workers' indexes and directories) is written before the threads start.
 */
#ifndef TAILRACE_CTRL_STORAGED_STORAGED_INTERNAL_H
#define TAILRACE_CTRL_STORAGED_STORAGED_INTERNAL_H

#include "core/base/map.h"
#include "core/storage/storage.h"
#include "ctrl/runtime/stats.h"
#include "ctrl/runtime/threads.h"
#include "ctrl/storaged/storaged.h"
#include "ring/boundary/boundary.h"

struct frontier_mail;
struct worker_mail;

/* One storage worker. Fields are touched on its loop only, except where said. */
struct storaged_worker {
    struct storaged *owner;
    uint32_t local;                  /* index in the process */
    uint32_t global;                 /* index in the storage */
    struct io_loop *loop;            /* set before the first message to it */
    char *directory;
    struct storage_worker *storage;  /* NULL until opened */
    struct boundary_server *boundary; /* NULL until told */
    struct frontier_mail *report;    /* being filled; sent at the end of the loop turn */
    struct u64map reported;          /* id -> place in report + 1, while it is filled */
    struct io_task report_task;
    struct worker_mail *appending;   /* answers to appends under way */
};

/* How far a worker is with its part of a collection. */
struct storaged_frontier {
    uint64_t id, since, upper, ready;
};

/* What a worker said last of its part of a collection; texts owned. */
struct storaged_health {
    bool known; /* it said something */
    enum storage_status status;
    char *reason;
    char *hint;
};

/*
 * What the main loop knows of a collection of this process: the upper on each worker. On the main
 * loop. Made by a run command, or by news of what was found on disk; goes when all parts are gone
 * and the session heard it.
 */
struct storaged_collection {
    uint64_t id; /* of the collection, as in the catalog */
    enum storage_kind kind; /* 0: found on disk, not named yet */
    bool named;       /* by the present session */
    bool dropping;    /* asked for since it was named last */
    bool moved;       /* in storaged.moved */
    uint64_t *uppers; /* [workers]; of the parts */
    uint64_t *sinces; /* FRONTIER_EMPTY: that part is dropped, or never was */
    uint64_t *readies; /* see storage_ready */
    uint64_t upper_sent; /* what the present session knows; 0: nothing yet */
    uint64_t since_sent;
    uint64_t ready_sent;
    struct storaged_health *health; /* [workers]: last told, for a new session */
    uint32_t health_sent; /* whose was sent last */
};

/* The process. Everything is the main loop's, except where said; config is read by all. */
struct storaged {
    struct storaged_config config;
    uint8_t environment[16];
    struct io_loop *loop;
    struct mailroom mailroom; /* all mail under way between the loops */
    struct runtime *runtime; /* the controller's session */
    struct tls_context *boundary_tls;
    struct runtime_peer_check boundary_peers;
    struct boundary_server *boundary;
    struct stats stats; /* questions of the session for what is counted here */
    struct storaged_worker *workers;
    struct threads threads;         /* of the workers beyond worker 0 */
    struct u64map collections;      /* id -> struct storaged_collection; dropped ones go */
    uint64_t *moved;                /* ids whose frontiers are to be sent, perhaps */
    size_t moved_len;
    size_t moved_cap;
    uint64_t epoch;
    uint64_t nonce;                 /* of the session whose answers are under way */
    uint32_t opening;               /* workers that still have to open their storage */
    bool active;                    /* data came since the last message of frontiers */
    bool opened;
    bool open_failed; /* at least one worker, in the attempt under way */
    uint64_t started_us;            /* generation of this process */
    uint64_t last_append;           /* time of the last durable one */
    uint32_t appends;               /* under way in worker 0 */
    bool greeting;                  /* a Hello waits for storage to open or appends to end */
    /* Commands that arrived before the Hello was answered, in order. */
    struct buf *waiting;
    size_t waiting_len;
    size_t waiting_cap;
};

/* ---- messages to workers (worker.c); each is sent from the main loop ------------------------- */

void storaged_worker_open(struct storaged_worker *worker, uint64_t epoch);
/* Takes the arena that holds the description. */
struct run_order {
    struct arena arena;
    struct storage_collection collection;
};
void storaged_worker_run(struct storaged_worker *worker, struct run_order *order);
/* since FRONTIER_EMPTY drops the part. */
void storaged_worker_compact(struct storaged_worker *worker, uint64_t id, uint64_t since);
void storaged_worker_advance(struct storaged_worker *worker, uint64_t upper);
void storaged_worker_wake(struct storaged_worker *worker);
/* An append: decoded batches, their memory owned by the order. */
struct append_order {
    struct arena arena;
    uint64_t time;
    struct storage_write *writes;
    struct batch *batches;
    void **storage;
    size_t writes_len;
};
void append_order_free(struct append_order *order);
void storaged_worker_append(struct storaged_worker *worker, struct append_order *order);
/* The boundary's own object, shared by all workers: it knows which loop serves which. */
void storaged_worker_serve(struct storaged_worker *worker, struct boundary_server *server);
/* Every frontier of the worker, as news: for what was found on disk. */
void storaged_worker_announce(struct storaged_worker *worker);
void storaged_worker_free(struct storaged_worker *worker);

/* survey.c: what ReportStats asks for. */
void storaged_stats_init(struct storaged *storaged);
void storaged_report_stats(struct storaged *storaged, const tailrace_v1_ReportStats *question);

/* Cursors of a worker as the boundary calls them, on that worker's loop. */
extern const struct boundary_backend storaged_boundary_backend;

/* ---- messages from workers, handled on the main loop (storaged.c) ---------------------------- */

/* last_append is 0 on workers without tables. */
void storaged_on_opened(struct storaged *storaged, err_t err, uint64_t last_append);
void storaged_on_frontier(struct storaged *storaged, uint32_t worker,
                          const struct storaged_frontier *news);
void storaged_on_active(struct storaged *storaged, uint32_t worker);
/* Once a mail of frontiers: one message for all that moved. */
void storaged_frontiers_flush(struct storaged *storaged);
void storaged_on_status(struct storaged *storaged, uint32_t local, uint64_t id,
                        enum storage_status status, const char *reason, const char *hint);
void storaged_on_appended(struct storaged *storaged, uint64_t time, err_t err);

#endif
