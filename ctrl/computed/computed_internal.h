/*
 * Shared by the files of computed. computed.c and reconcile.c run on the main loop and own struct
 * computed; worker.c and worker_input.c run on a worker's loop and own struct computed_worker with
 * all below it. Neither looks into the other's structures but for what is fixed when the workers
 * start (config, mailroom, boundary, exchange, loops): orders go one way and news the other, by
 * mail.
 */
#ifndef TAILRACE_CTRL_COMPUTED_COMPUTED_INTERNAL_H
#define TAILRACE_CTRL_COMPUTED_COMPUTED_INTERNAL_H

#include "core/base/map.h"
#include "core/engine/engine.h"
#include "ctrl/computed/computed.h"
#include "ctrl/plan/plan_codec.h"
#include "ctrl/runtime/stats.h"
#include "ctrl/runtime/threads.h"
#include "ring/exchange/exchange.h"

struct computed_worker;

/* ---- worker side ----------------------------------------------------------------------------- */

/* The rows of a chunk, kept while it completes nothing: it may come again. */
struct input_rows {
    struct chunk *ok; /* the engine's; NULL: none */
    struct chunk *err;
};

/*
 * One subscription: a storage worker's part of a source, for one dataflow. Owned by its dataflow,
 * touched on the worker's loop.
 */
struct computed_input {
    struct computed_worker *worker;
    uint64_t dataflow; /* incarnation */
    uint64_t source; /* id of the collection */
    uint32_t storage_worker; /* global index: whose part */
    struct boundary_sub *sub; /* NULL until worker_inputs_subscribe */
    uint8_t *kinds; /* [cols]: what its rows must be */
    bool *reads;    /* [cols]: scratch of rows_open */
    uint32_t cols;
    uint32_t *nodes; /* which PLAN_SOURCE nodes it feeds, and as which part */
    uint32_t *parts;
    uint32_t nodes_len;
    struct input_rows *kept;
    size_t kept_len, kept_cap;
    bool complete;       /* the snapshot is: what comes in pieces from now on is kept */
    bool pieces;         /* of the snapshot the engine has some */
    uint64_t pieces_max; /* the latest time in them */
    bool paused;         /* is in the worker's list */
    uint64_t upper; /* what lies below it was given to the engine; until it joins a feed */
    struct computed_feed *feed; /* where it waits, or whom it joined; NULL: neither */
    size_t feed_at; /* in the feed's list */
    bool joined;    /* it has no subscription any more */
    bool dead; /* failed: what still comes is ignored */
};

/* A subscription for all dataflows that are in step: see worker_feed.c. */
struct computed_feed {
    struct computed_worker *worker;
    struct computed_source *source;
    uint32_t storage_worker;
    struct boundary_sub *sub;
    struct engine_clock *clock;
    uint64_t upper; /* the clock's */
    uint8_t *kinds; /* [cols] */
    bool *reads;    /* [cols]: scratch */
    uint32_t cols;
    struct input_rows *kept;
    size_t kept_len, kept_cap;
    struct computed_input **members;
    size_t members_len, members_cap;
    struct computed_input **waiting; /* with subscriptions of their own */
    size_t waiting_len, waiting_cap;
    bool dead; /* refused, or it broke a rule */
};

/* The feeds of a source on a worker: one a part that is read here. */
struct computed_source {
    uint64_t id;
    struct computed_feed **feeds;
    size_t feeds_len, feeds_cap;
};

/* A dataflow on one worker. */
struct computed_dataflow {
    uint64_t id; /* incarnation */
    uint64_t as_of;
    bool hydrated; /* an export is complete beyond the as_of: it cannot begin anew */
    struct computed_input **inputs;
    size_t inputs_len, inputs_cap;
    uint64_t *exports; /* [exports_len]: ids, which a later incarnation may have taken over */
    uint32_t exports_len;
};

struct frontier_mail;

/*
 * One worker. On its loop only, but for owner, local, global and loop, which do not change once
 * threads have started.
 */
struct computed_worker {
    struct computed *owner;
    uint32_t local; /* index in the process */
    uint32_t global; /* index in the replica */
    struct io_loop *loop;
    struct engine *engine; /* NULL before start_run; another one after a lost generation */
    struct io_poller poller;
    bool polling; /* the poller was added */
    struct u64map dataflows; /* incarnation -> struct computed_dataflow */
    struct u64map exports;   /* export -> incarnation of its dataflow here: stamps the news */
    struct u64map sources;   /* id -> struct computed_source */
    struct frontier_mail *report; /* what moved in this turn; NULL: nothing */
    struct computed_input **paused; /* the engine has to work off what they brought first */
    size_t paused_len, paused_cap;
    struct io_task report_task; /* sends it in the end of the turn */
    struct worker_survey *surveys; /* statistics under way: see survey.c */
};

/* Makes the inputs of a dataflow and subscribes; parts[] receives, per PLAN_SOURCE node, how many
 * parts this worker feeds. Two steps: count before engine_create, subscribe after. */
err_t worker_inputs_plan(struct computed_worker *worker, struct computed_dataflow *dataflow,
                         const struct plan *plan, const tailrace_v1_CreateDataflow *message,
                         uint32_t **parts, size_t *parts_len, struct arena *arena);
void worker_inputs_subscribe(struct computed_worker *worker, struct computed_dataflow *dataflow);
/* The engine began it anew: all its inputs come again. */
void worker_inputs_restart(struct computed_worker *worker, struct computed_dataflow *dataflow);
/* After a step of the engine: those it has caught up with go on. */
void worker_inputs_unpause(struct computed_worker *worker);
void worker_inputs_free(struct computed_dataflow *dataflow);
/* Rows of a chunk: opened and checked for their form; for their times; given back. */
err_t worker_rows_open(struct computed_worker *worker, const struct boundary_chunk *chunk,
                       const uint8_t *kinds, uint32_t cols, const bool *reads,
                       struct input_rows *out);
err_t worker_rows_check(const struct input_rows *rows, uint64_t lower, uint64_t upper);
void worker_rows_free(const struct input_rows *rows);
/* What it brought that is not complete is void. */
void worker_input_unsubscribe(struct computed_input *input);
/* The input of a hydrated dataflow has taken a chunk that completes something: it may join others,
 * which ends its own subscription. */
void worker_feed_offer(struct computed_input *input);
/* It goes. */
void worker_feed_leave(struct computed_input *input);
/* A source's feeds on this worker are complete below upper; 0: there is none any more. */
void worker_report_source(struct computed_worker *worker, uint64_t source, uint64_t upper);
/* A dataflow whose input cannot be served. Owns err. */
void worker_dataflow_failed(struct computed_worker *worker, uint64_t dataflow, err_t err);

/* ---- orders from the main loop (worker.c) ---------------------------------------------------- */

/*
 * Each is an order: mail to the worker's loop, run there in the order sent. Callable as soon as the
 * worker has a loop. What it is about may be gone when it arrives; then nothing happens.
 */
void computed_worker_start(struct computed_worker *worker);
/* message: bytes of a ComputeCommand.create_dataflow or .peek, copied. */
void computed_worker_create(struct computed_worker *worker, uint64_t incarnation,
                            const uint8_t *message, size_t len, uint64_t as_of);
void computed_worker_drop(struct computed_worker *worker, uint64_t incarnation);
/* What other workers sent for dataflows of earlier incarnations that do not live here is void. */
void computed_worker_forget_before(struct computed_worker *worker, uint64_t incarnation);
/* The export is readable from since on; FRONTIER_EMPTY: not any more. */
void computed_worker_compact(struct computed_worker *worker, uint64_t export_id, uint64_t since);
/* Exactly one computed_on_peek follows, unless the worker's generation ends first. */
void computed_worker_peek(struct computed_worker *worker, uint64_t id, const uint8_t *message,
                          size_t len);
/* The peek is answered with ERR_CANCELLED, if it was not answered before. */
void computed_worker_cancel(struct computed_worker *worker, uint64_t peek_id);
/* Tells what the operators of these dataflows (incarnations, copied) have counted: pages come as
 * computed_on_stats, then one computed_on_stats_end with the same number. */
void computed_worker_survey(struct computed_worker *worker, uint64_t number,
                            const uint64_t *incarnations, size_t len, uint32_t rows_max);
/* On the worker's loop: nobody will be told. */
void worker_surveys_free(struct computed_worker *worker);
/* Frees; the loop does not run any more. */
void computed_worker_free(struct computed_worker *worker);
extern const struct exchange_handler computed_exchange_handler;

/* ---- main loop ------------------------------------------------------------------------------- */

/* What the main loop knows of an index or subscription. */
struct computed_export {
    uint64_t id;
    uint64_t dataflow;
    uint64_t incarnation; /* news of another one is stale */
    uint8_t kind; /* enum plan_export_kind */
    uint64_t since; /* readable from: what was allowed, or as_of */
    uint64_t *uppers; /* [workers] */
    bool *follows;    /* [workers]: beyond its upper it follows the sources of its dataflow */
    bool changed;     /* updates came since this was told */
    uint64_t upper_sent; /* to this session, when sent */
    bool follows_sent;
    bool sent;          /* in this session */
    bool moved;         /* its id is in computed->moved */
    uint32_t node; /* of the plan */
};

/* How far the feeds of a source are. */
struct computed_progress {
    uint64_t id;
    uint64_t *uppers; /* [workers]; 0: the worker has no feed of it */
    uint64_t upper_sent; /* to this session; 0: none */
    bool moved;       /* its id is in computed->sources_moved */
};

/* What the main loop keeps of a dataflow, for reconciliation. */
struct computed_flow {
    uint64_t id;
    uint64_t incarnation; /* its id for engines, exchange and storage */
    struct plan *plan; /* owned */
    uint64_t *sources; /* what it reads, also by what it imports; each once */
    size_t sources_len, sources_cap;
    uint32_t exports_left; /* not yet dropped; 0: the flow goes */
    bool failed;        /* reported; the controller will drop it */
    bool kept;          /* during reconciliation: compatible with the new history */
};

/* An answer is one message: what its rows may take; the rest is for ids and lengths. */
enum { COMPUTED_ANSWER_MAX = RUNTIME_MESSAGE_MAX - (1 << 20) };

/* A peek under way in this process. */
struct computed_peek {
    uint64_t id;      /* the controller's */
    uint32_t waiting; /* workers */
    err_t err;        /* set for a moment, before it is answered with it */
    struct buf *rows; /* batches, of any worker */
    size_t rows_len, rows_cap;
    size_t bytes;     /* of all rows */
};

/* The process. Main loop only. */
struct computed {
    struct computed_config config;
    uint8_t environment[16];
    struct io_loop *loop;
    struct mailroom mailroom;
    struct runtime *runtime; /* NULL until serve */
    struct tls_context *tls_server; /* NULL: plain text */
    struct tls_context *tls_client; /* NULL: plain text */
    struct runtime_peer_check compute_peers; /* whom the exchange accepts */
    struct boundary_client *boundary; /* to storage */
    struct exchange *exchange; /* to the replica's workers */
    struct computed_worker *workers; /* [config.workers] */
    struct threads threads; /* of the workers beyond worker 0 */
    uint64_t *generations;    /* [workers]: the one each worker formed; 0: none */
    bool formed;              /* all workers in the same generation */

    uint64_t epoch, nonce; /* of the session */
    bool initializing; /* between Hello and InitializationComplete */
    struct u64map flows;   /* id -> struct computed_flow */
    struct u64map incarnations; /* the same by incarnation */
    struct u64map exports; /* id -> struct computed_export */
    uint64_t *moved; /* ids of exports whose frontier may have to be told */
    size_t moved_len, moved_cap;
    struct u64map sources; /* id -> struct computed_progress */
    uint64_t *sources_moved;
    size_t sources_moved_len, sources_moved_cap;
    struct stats stats;    /* questions of the session for what is counted here */
    struct u64map peeks;   /* local id -> struct computed_peek */
    uint64_t next_peek;    /* local ids are never reused: a late answer finds nobody */
    /* Commands that wait: of a session that is initialising, or until the replica has formed. */
    struct buf *waiting; /* in the order they came */
    size_t waiting_len, waiting_cap;
    bool waiting_complete; /* InitializationComplete is among them */
};

/* Of the replica, all processes. */
static inline uint32_t computed_workers_total(const struct computed *computed)
{
    return computed->config.processes * computed->config.workers;
}

/* Runs the waiting commands: keeps what may be kept, drops the rest, creates what is new. */
err_t computed_reconcile(struct computed *computed);
/* One ComputeCommand; data stays the caller's. An error ends the session. */
err_t computed_run_command(struct computed *computed, const uint8_t *data, size_t len);
/* NULL when no dataflow of that incarnation runs here. */
struct computed_flow *computed_find_incarnation(const struct computed *computed,
                                                uint64_t incarnation);
/* Drops it on all workers and forgets its exports; flow is freed. */
void computed_flow_drop(struct computed *computed, struct computed_flow *flow);
/* Nothing runs afterwards; ids are free again. */
void computed_drop_everything(struct computed *computed);

/* ---- news from workers, on the main loop (computed.c) ---------------------------------------- */

/* progress.c: what one worker says of one export. */
struct frontier_news {
    uint64_t id, incarnation;
    uint64_t upper;
    bool follows; /* the sources of its dataflow, from upper on */
    bool changed; /* updates came */
};
void computed_on_frontier(struct computed *computed, uint32_t local,
                          const struct frontier_news *news);
void computed_on_source(struct computed *computed, uint32_t local, uint64_t id, uint64_t upper);
void computed_frontiers_flush(struct computed *computed);
/* A session that knows nothing yet: it is told of everything. */
void computed_frontiers_tell_all(struct computed *computed);
void computed_frontiers_forget_session(struct computed *computed);
/* The worker lost all it had. */
void computed_sources_lost(struct computed *computed, uint32_t local);
void computed_sources_free(struct computed *computed);
/* Notes what a dataflow reads; what it imports is there. */
void computed_flow_sources(struct computed *computed, struct computed_flow *flow);
/* Complete below this on every worker of the process. */
uint64_t computed_export_upper(const struct computed *computed,
                               const struct computed_export *export);
/* A piece of a worker's share; takes the content of rows. */
void computed_on_peek_rows(struct computed *computed, uint64_t peek_id, struct buf *rows);
void computed_on_peek(struct computed *computed, uint64_t peek_id, struct buf *rows, err_t err);
void computed_on_subscribe(struct computed *computed, uint32_t worker, uint64_t incarnation,
                           uint64_t export_id, uint64_t lower, uint64_t upper, const struct buf *ok,
                           const struct buf *err);
void computed_on_failed(struct computed *computed, uint64_t incarnation, err_t err);
/* survey.c: what ReportStats asks for, and what workers say to it. */
void computed_stats_init(struct computed *computed);
void computed_report_stats(struct computed *computed, const tailrace_v1_ReportStats *question);
/* A page of a survey: rows beyond rows_max were left out, and are counted. */
void computed_on_stats(struct computed *computed, uint32_t worker, uint64_t number,
                       const struct engine_operator_stats *rows, size_t len, uint64_t omitted);
void computed_on_stats_end(struct computed *computed, uint64_t number);
void computed_on_formed(struct computed *computed, uint32_t local, uint64_t generation);
void computed_on_lost(struct computed *computed, uint32_t local, const char *reason);

#endif
