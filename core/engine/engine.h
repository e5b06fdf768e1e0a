/*
 * The dataflow engine of one compute worker: renders plans, keeps arrangements, moves updates.
 *
 * One engine belongs to one worker thread (one io_loop) and shares nothing. Everything it needs
 * from outside it asks of its host (a table of functions), everything that arrives is handed to it
 * by a call; it never blocks and works in steps bounded by fuel. All workers of a replica create
 * the same dataflows in the same order.
 *
 * Time is totally ordered: an operator handles all complete times in one pass and emits
 * consolidated deltas. Every stream has an ok and an err twin with one frontier.
 */
#ifndef TAILRACE_CORE_ENGINE_ENGINE_H
#define TAILRACE_CORE_ENGINE_ENGINE_H

#include "core/engine/plan.h"
#include "core/io/io.h"

struct engine;

/* Memory of the host's to build a payload in; the owner's meaning is the host's. */
struct engine_block {
    uint8_t *data; /* 8-byte aligned */
    size_t len;
    void *owner;
};

struct engine_host {
    /*
     * Sends to the same dataflow on worker dest (never the own one): FIFO per (sender, dest),
     * lossless. payload: valid during the call only. Opaque to the host.
     */
    void (*send)(void *ctx, uint32_t dest, const void *payload, size_t len);
    /* The same for a large payload, without a copy: memory for len bytes, where dest will read
     * them; then all of it is sent. One for each worker may be open at a time. Both NULL: send is
     * used. */
    void (*reserve)(void *ctx, uint32_t dest, size_t len, struct engine_block *out);
    void (*commit)(void *ctx, uint32_t dest, struct engine_block *block);
    /* An export's frontier on this worker moved: absolute, monotone, first >= as_of. */
    void (*frontier)(void *ctx, uint64_t export_id, uint64_t upper);
    /* From now on, until frontier is called again, the export is complete as far as the clocks and
     * indexes its dataflow reads: see engine_clock_new. changed: updates came since it was said
     * last. May be NULL. */
    void (*follows)(void *ctx, uint64_t export_id, bool changed);
    /* Changes of a subscribe export on this worker with lower <= time < upper; successive calls
     * abut. With upper == lower: a part of what the next call with upper > lower completes, whose
     * times may lie up to there. What belongs together is consolidated, in no order, each call of
     * bounded length. ok/err may be NULL. Views valid during the call. */
    void (*subscribe)(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                      const struct batch *ok, const struct batch *err);
    /* A part of a peek's answer; peek_done gives the last one. */
    void (*peek_rows)(void *ctx, uint64_t peek_id, const struct batch *rows);
    /* Exactly one per peek: the last rows (this worker's part, diff = multiplicity), or an error,
     * before which there were no rows. err is owned by the callee. rows is NULL on error. */
    void (*peek_done)(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err);
    /* A dataflow begins anew from its as_of (engine_restart on this or another worker): its input
     * comes again from there, all of it. What was reported stays true. */
    void (*restarted)(void *ctx, uint64_t dataflow_id);
    /* A dataflow failed as a whole (memory limit, internal error): it is dropped, others go on. */
    void (*failed)(void *ctx, uint64_t dataflow_id, err_t err);
};

struct engine_config {
    uint32_t worker;        /* global index in the replica */
    uint32_t workers;       /* of the whole replica */
    struct io_loop *loop;   /* clock only */
    const struct engine_host *host;
    void *ctx;
    uint64_t fuel_us;       /* longest step; 0: default 500 */
    uint64_t memory_limit;  /* bytes per dataflow, whatever its plan allows; 0: none */
    uint32_t pass_rows;     /* of input an operator takes at once, about; 0: default */
    uint32_t divide_rows;   /* of one time that a join divides by hash first; 0: default */
    uint32_t part_rows;    /* of a list that a join divides; 0: a few thousand. For tests */
};

struct engine *engine_new(const struct engine_config *config);
void engine_free(struct engine *engine);

/*
 * Creates a dataflow from a validated plan; the engine takes the plan. Its index imports must
 * exist with since <= as_of (else ERR_NOT_FOUND / ERR_INVALID, and the plan is freed). parts[i]:
 * how many storage parts this worker will be fed for the i-th PLAN_SOURCE node (0: none, complete
 * at once on this worker).
 */
err_t engine_create(struct engine *engine, struct plan *plan, const uint32_t *parts,
                    size_t parts_len);
/* Drops a dataflow and its exports; arrangements other dataflows import live on for them. */
void engine_drop(struct engine *engine, uint64_t dataflow_id);

/*
 * Input for the source_index-th PLAN_SOURCE node: updates of one storage part with
 * lower <= time < upper, where lower is the part's last upper (the first: the as_of snapshot,
 * lower <= as_of). With upper == lower: data without progress, at times >= lower. ok/err may be
 * NULL (progress only). Views valid during the call. Unknown dataflows (dropped meanwhile) are
 * ignored. Other columns than planned, a gap or an overlap: the dataflow fails (host->failed).
 */
void engine_input(struct engine *engine, uint64_t dataflow_id, uint32_t source_index, uint32_t part,
                  uint64_t lower, uint64_t upper, const struct batch *ok, const struct batch *err);
/*
 * Rows on their way into a dataflow, for bytes that came from outside. engine_rows_open copies
 * them, once, to where the engine keeps them, and checks the copy: so the bytes may lie where
 * another process can write them meanwhile. Columns without reads[c] are neither copied nor
 * checked (NULL: all are). *out is NULL when there is no row.
 */
struct chunk;
err_t engine_rows_open(struct engine *engine, const void *bytes, size_t len, const uint8_t *kinds,
                       uint32_t cols, const bool *reads, struct chunk **out);
/* Which columns of a source its dataflow reads; NULL: there is no such dataflow (any more), or the
 * source has another number of columns. */
const bool *engine_reads(struct engine *engine, uint64_t dataflow_id, uint32_t source_index,
                         uint32_t cols);
/* Earliest and latest time of them. */
void engine_rows_times(const struct chunk *rows, uint64_t *min, uint64_t *max);
/* NULL is allowed. Before the engine goes. */
void engine_rows_free(struct chunk *rows);
/* As engine_input, without a copy. The rows stay the caller's, who may feed them to other nodes of
 * the same dataflow, and frees them before he calls the engine for anything else. */
void engine_input_rows(struct engine *engine, uint64_t dataflow_id, uint32_t source_index,
                       uint32_t part, uint64_t lower, uint64_t upper, struct chunk *ok,
                       struct chunk *err);
/*
 * Progress shared by sources: what one part of a collection gives to all dataflows in step with
 * it. A dataflow whose inputs all follow clocks and which has nothing to do is not touched when
 * they only move: however many there are, that costs nothing (head of clock.c).
 */
struct engine_clock;
/* Everything below upper has been given to those who will join. Freed before the engine. */
struct engine_clock *engine_clock_new(struct engine *engine, uint64_t upper);
/* Those who follow it stay where they are, and are given more by engine_input. NULL is allowed. */
void engine_clock_free(struct engine_clock *clock);
/* A part of a source that has been given everything below the clock's upper, and no more, follows
 * it from now on. Unknown dataflows are ignored. */
void engine_clock_join(struct engine_clock *clock, uint64_t dataflow_id, uint32_t source_index,
                       uint32_t part);
/* As engine_input_rows with lower = the clock's upper, for all followers. Not from a callback. */
void engine_clock_input(struct engine_clock *clock, uint64_t upper, struct chunk *ok,
                        struct chunk *err);
/* How often dataflows, operators and followers of clocks were touched: what must not grow with what
 * is idle. */
uint64_t engine_visits(const struct engine *engine);

/* A payload another worker's engine sent. Malformed: ERR_PROTOCOL, nothing changed. Payloads for
 * dataflows not yet created here are kept until they are. */
err_t engine_receive(struct engine *engine, uint32_t from, const void *payload, size_t len);

/*
 * Gives up what came of a snapshot that will not be completed but comes again: the dataflow begins
 * anew here and on all other workers, where the hosts are told. None of its exports may have been
 * complete beyond the as_of, on any worker; else it fails. Ignored for unknown dataflows.
 */
void engine_restart(struct engine *engine, uint64_t dataflow_id);
/* Has it work to do with what it was given? A host that feeds no more meanwhile bounds the input
 * that waits. */
bool engine_is_behind(const struct engine *engine, uint64_t dataflow_id);

/*
 * A process that joined late may never see creations that other workers saw: what they send for
 * dataflows with a smaller id that do not live here, kept for later or still to arrive, is dropped.
 * Live dataflows with smaller ids go on. Ids must grow and never be reused from then on.
 */
void engine_forget_before(struct engine *engine, uint64_t dataflow_id);

/* Works for at most about fuel_us; true when there is more to do. */
bool engine_step(struct engine *engine);

/*
 * Reads an index export at a time: answered once the index is complete through `time` (and since
 * <= time, else an error). keys (may be NULL): only rows whose key columns equal one of its rows.
 * mfp (may be NULL) is applied to the rows. limit: at most this many rows after consolidation per
 * worker when order_len > 0 or no order matters (-1: all). The engine copies what it keeps.
 */
struct engine_peek {
    uint64_t peek_id;
    uint64_t index_id;
    uint64_t time;
    const struct batch *keys;
    const struct mfp *mfp;
    const struct plan_order *order;
    uint32_t order_len;
    int64_t limit;
};
void engine_peek(struct engine *engine, const struct engine_peek *peek);
/* The peek answers with ERR_CANCELLED unless it already answered. */
void engine_peek_cancel(struct engine *engine, uint64_t peek_id);

/* Reads of export_id below since are given up; FRONTIER_EMPTY drops the export. */
void engine_allow_compaction(struct engine *engine, uint64_t export_id, uint64_t since);

/* Of one operator, since its dataflow was created. Exports are numbered behind the plan's nodes, in
 * their order. For SQL tables and EXPLAIN ANALYZE. */
struct engine_operator_stats {
    uint64_t dataflow_id;
    uint32_t node;
    const char *op;
    uint64_t rows_in, rows_out, batches;
    uint64_t schedules, busy_ns; /* how often it was run, and for how long */
    uint32_t longest; /* units of work (about a row each) it has done at once, at most */
    uint64_t arranged_rows, arranged_bytes; /* held by its state */
    uint64_t dataflow_bytes; /* by all of the dataflow: states, and batches under way */
};
/* Calls each for every operator of a dataflow; false when it does not live here. */
bool engine_dataflow_stats(const struct engine *engine, uint64_t dataflow_id,
                           void (*each)(void *arg, const struct engine_operator_stats *stats),
                           void *arg);
/* For every dataflow. */
void engine_stats(const struct engine *engine,
                  void (*each)(void *arg, const struct engine_operator_stats *stats), void *arg);
/* Bytes held by all arrangements and buffers. */
uint64_t engine_memory(const struct engine *engine);

#endif
