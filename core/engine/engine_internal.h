/*
 * Shared between the files of core/engine; nobody outside includes it.
 *
 * A dataflow is an array of operators: one per plan node, then one per export, so inputs come
 * before users. Operators are scheduled by a bit each, lowest first. An operator reads its ports
 * (queues of chunks, ok and err) and emits chunks to its users' ports.
 *
 * Invariants: every chunk in a port has times >= the port's frontier at its arrival; an operator
 * emits no time below its own frontier; frontiers only grow. They are asserted where they are
 * relied on (op_port_push, op_advance).
 */
#ifndef TAILRACE_CORE_ENGINE_ENGINE_INTERNAL_H
#define TAILRACE_CORE_ENGINE_ENGINE_INTERNAL_H

#include "core/base/map.h"
#include "core/engine/chunk.h"
#include "core/engine/engine.h"

enum {
    OUT_ROWS = 32768,         /* a chunk is emitted when it has as many rows... */
    OUT_BYTES = 1024 * 1024,  /* ...or about as many bytes */
    SEND_BYTES = 256 * 1024,  /* a payload is sent early when it has grown to this */
    FUEL_CHECK = 256,         /* units of work between looks at the clock */
    FUEL_UNITS_MAX = 1 << 16, /* per step, whatever the (maybe simulated) clock says */
    FUEL_US_DEFAULT = 500,
    PASS_ROWS = 65536, /* a pass of several times has about as many rows, if there are more */
    EARLY_ROWS = 65536, /* so many rows of an incomplete time are taken in, for the most part */
};

struct op;
struct dataflow;
struct index_op;

/* ---- ports ----------------------------------------------------------------------------------- */

/* Where an operator's output goes: a port of another operator. */
struct user {
    struct op *op;
    uint32_t port;
    bool frontier_only; /* it reads the rows in the operator's state */
};

/*
 * How rows find their worker. LOCAL: they stay; KEYS: by the hash of key columns; ROW: by the hash
 * of the whole row.
 */
enum route { ROUTE_LOCAL, ROUTE_KEYS, ROUTE_ROW };

/*
 * An input of an operator: queues of chunks and what is promised about their times. Owned by the
 * operator; filled by op_port_push, emptied by the operator.
 */
struct port {
    struct chunk_list ok, err;
    uint64_t frontier; /* no earlier time arrives any more */
    uint8_t *kinds;    /* of ok rows */
    uint32_t cols;
    enum route route;     /* ROUTE_LOCAL unless there are several workers */
    bool err_routed;      /* err rows travel too (by row): exports consolidate them */
    bool ok_stays;        /* only they do: ok rows are where they belong (place.h) */
    bool moved;           /* from[self] is news for the other workers */
    const uint32_t *keys; /* ROUTE_KEYS */
    uint32_t keys_len;
    uint64_t *from;       /* per worker, when routed: its frontier; frontier is the least */
    uint64_t payload_seen; /* last payload that carried a frontier for this port */
};

/* ---- operators ------------------------------------------------------------------------------- */

struct op_class {
    const char *name;
    /* Works until done or out of fuel; true when there is more to do now. */
    bool (*work)(struct op *op);
    /* Frees what is behind op->state. */
    void (*release)(struct op *op);
};

/* Whose progress comes from outside of the dataflow. */
enum op_origin { OP_INNER, OP_SOURCE, OP_IMPORT };

/* One operator of a rendered dataflow; lives in its dataflow's array and never moves. */
struct op {
    const struct op_class *class;
    struct dataflow *dataflow;
    struct engine *engine;
    const struct plan_node *node;   /* NULL: an export */
    uint32_t index;
    struct port *ports;
    uint32_t ports_len;
    struct user *users;
    size_t users_len, users_cap;
    struct op *scope;               /* the fixpoint it lies in, or NULL: what follows is of it */
    uint64_t pending;               /* inner time at which it has to look at a key again */
    uint64_t frontier;              /* of the output */
    uint8_t *kinds;                 /* of the output */
    uint32_t cols;
    bool texts;                     /* some column is of variable length */
    struct batch_builder *ok, *err; /* output under construction */
    uint32_t rows_sized;            /* rows of ok when its bytes were last looked at */
    uint64_t early_rows;            /* at least so many in the ports lie at the frontier */
    void *state;
    enum op_origin origin;
    /* A time at or before the first one at which it puts something out by itself; FRONTIER_EMPTY:
     * there is none. NULL: never. */
    uint64_t (*due)(const struct op *op);
    struct account account;         /* of the operator's state */
    uint64_t arranged_rows;
    uint64_t rows_in, rows_out, batches, schedules, busy_ns;
    uint32_t longest; /* units of its longest undivided action */
};

/* A rendered plan. Freed outside of steps, when dropped and no importer is left. */
struct dataflow {
    struct engine *engine;
    struct plan *plan;
    uint64_t id;
    uint64_t as_of;
    uint64_t memory_limit; /* 0: none */
    struct op *ops;
    uint32_t ops_len;
    uint32_t *sources; /* op index of the i-th PLAN_SOURCE */
    uint32_t *parts;   /* how many each is fed here */
    uint32_t sources_len;
    uint32_t exports_live;
    uint32_t importers;  /* imports of other dataflows that hold it */
    bool dropped;        /* no more callbacks; freed when no importer is left */
    bool queued;         /* in the ready list */
    bool restart;        /* is to begin anew when no step runs */
    err_t failed;        /* first reason to give up */
    uint64_t *active;    /* a bit per operator */
    struct places *places; /* NULL with one worker */
    uint32_t behind;     /* the next turn begins with an operator from here on, if one is active */
    /* Of rest: see clock.c. */
    bool rests;          /* ticks do not reach it */
    bool clocked;        /* all its inputs follow clocks */
    bool reported;       /* an export's frontier was, since the host heard that it follows */
    bool wants;          /* the other workers have been asked to keep it awake */
    bool *wanted;        /* [workers]: who asked for it; NULL: there is no other worker */
    uint32_t wanted_by;  /* how many did */
    uint32_t dependents; /* imports of its indexes whose dataflows are awake */
    uint64_t given;      /* all updates given to it are earlier; at least as_of + 1 */
    uint64_t given_told; /* the same, when the host heard that it follows */
    uint64_t alarm;      /* the least that was set and has not rung */
    struct dataflow *ready_next;
    struct account account;
};

/* What is known of a dataflow id across workers; see exchange.c. */
struct slot;

struct answer {
    uint64_t peek_id;
    err_t err;
};

/* A port whose frontier the other workers have not been told of yet. */
struct moved {
    uint64_t dataflow_id;
    uint32_t channel;
    struct port *port;
};

/* The whole of a worker's engine; its thread alone touches it. */
struct engine {
    struct engine_config config;
    struct u64map slots;   /* dataflow id -> struct slot */
    struct u64map indexes; /* export id -> struct op of the index */
    struct u64map peeks;   /* peek id -> struct op of the index that will answer it */
    struct u64map exports; /* export id -> struct op of either kind */
    struct dataflow *ready_first, *ready_last;
    struct dataflow **doomed; /* dropped, to be freed outside of a step */
    size_t doomed_len, doomed_cap;
    uint32_t clocks;      /* there are */
    uint64_t visits;      /* of dataflows, operators and clocks' followers */
    uint64_t *restarts; /* dataflows that are to begin anew; some may be gone */
    size_t restarts_len, restarts_cap;
    struct answer *answers; /* peeks to answer with an error in the next step */
    size_t answers_len, answers_cap;
    struct buf *out;       /* per worker: records to send */
    struct moved *moved;   /* ports whose frontier the other workers have to hear of */
    size_t moved_len, moved_cap;
    uint64_t payloads;     /* received */
    struct account account;
    uint64_t forgotten_below; /* dataflow ids: see engine_forget_before */
    uint64_t pending_bytes; /* kept for dataflows not yet created */
    bool stepping;
    bool closing; /* engine_free: nothing is sent any more */
    uint64_t deadline_us;
    uint64_t clock_ns; /* within a step: when the last operator ended, and so the next began */
    uint32_t spent, next_check; /* units of this step */
    uint32_t longest;           /* units spent at once by the operator that runs */
    bool exhausted;
    struct batch_split *split; /* of routing, as the rest: NULL until a chunk was divided */
    uint64_t *hashes;
    size_t hashes_cap;
    void **places;              /* per worker: where its part of the chunk is written */
    struct engine_block *parts; /* per worker: what is to be committed; data NULL: nothing */
};

/* ---- fuel (engine.c) ------------------------------------------------------------------------- */

bool engine_check_fuel(struct engine *engine);

/* Accounts n units (about a row each); true when this step should end. */
static inline bool fuel_spend(struct engine *engine, uint32_t n)
{
    engine->spent += n;
    engine->longest = n > engine->longest ? n : engine->longest;
    return engine->spent >= engine->next_check ? engine_check_fuel(engine) : engine->exhausted;
}

/* ---- restarts (engine.c) --------------------------------------------------------------------- */

/* It begins anew: at once in engine_run_restarts, which does nothing while a step runs. */
void engine_want_restart(struct dataflow *dataflow);
void engine_run_restarts(struct engine *engine);

/* ---- operators' common part (op.c) ----------------------------------------------------------- */

void op_activate(struct op *op);
/* It is looked at in the next step, also with nothing to do. */
void dataflow_queue(struct dataflow *dataflow);
/* An update of this time was given to the dataflow: it may not rest before its exports have it. */
static inline void note_given(struct dataflow *dataflow, uint64_t time)
{
    ASSERT(time < FRONTIER_EMPTY);
    dataflow->given = time >= dataflow->given ? time + 1 : dataflow->given;
}
/* Output builders, created on first use. */
struct batch_builder *op_ok(struct op *op);
struct batch_builder *op_err(struct op *op);
/* Call after a row was added to a builder: emits when it is large. */
void op_row_done(struct op *op);
/* Emits what the builders hold. */
void op_flush(struct op *op);
/* Hands a chunk to all users; takes the reference. */
void op_emit(struct op *op, struct chunk *chunk, bool err);
/* Flushes, then promises that no time below is emitted any more. */
void op_advance(struct op *op, uint64_t frontier);
/* Passes the err chunks of all ports on. */
void op_forward_errors(struct op *op);
/* The least frontier of all ports. */
uint64_t op_input_frontier(const struct op *op);
/* An error row of this operator. */
void op_error(struct op *op, const char *sqlstate, const char *message, const char *context,
              uint64_t time, int64_t diff);
/* Gives up the whole dataflow after this activation. */
void op_fail(struct op *op, err_t err);

/* A chunk arrives; takes the reference. */
void op_port_push(struct op *op, uint32_t port, struct chunk *chunk, bool err);
void op_port_set_frontier(struct op *op, uint32_t port, uint64_t frontier);
void op_port_free(struct port *port);
/* Moves what is before upper from a queue to out, dividing chunks that reach over it. */
void op_port_take(struct op *op, struct port *port, bool err, uint64_t upper,
               struct chunk_list *out);

/*
 * The input of one pass of a stateful operator: all updates of [frontier, upper), by time, and
 * within a time by port, then in order of arrival.
 */
struct intake_ref {
    uint64_t time;
    uint32_t port;
    uint32_t chunk;
    uint32_t row;
};

struct intake {
    bool open;
    bool part;  /* this pass is of rows of the frontier's time, of which more may come */
    bool parts; /* there were such; the pass that completes the time ends with it */
    /* The chunks are in the order of their times already, port after port, as those of one time
     * always are: then there are no refs, and the next update is row of chunk. */
    bool plain;
    uint32_t chunk, row;
    bool keep;         /* its chunks are needed to the end */
    uint32_t released; /* chunks of a plain one that are freed, as nobody comes back to them */
    uint64_t upper;
    struct chunk_list list;
    uint32_t port_start[3]; /* first chunk of each of up to two ports, and the end */
    struct intake_ref *refs;
    size_t refs_len, refs_cap; /* of a plain one, refs_len is the number of updates */
    size_t at;
};

/* How an operator goes through a pass: the chunks, port by port; or the updates by time, with refs
 * where they are not plain; or always with refs. */
enum intake_order { INTAKE_CHUNKS, INTAKE_BY_TIME, INTAKE_REFS };
/* Opens a pass if the inputs' frontier is beyond the operator's; false when there is none. */
bool intake_open(struct intake *intake, struct op *op, enum intake_order order);
/*
 * The same for rows of the frontier's time, which is not complete: a snapshot that arrives is taken
 * into the operator's state as it does, and not kept as input until all is there. Opens a pass when
 * there are so many. Its end completes nothing: the frontier stays, nothing may be put out that
 * more rows of the time could change, and whoever reads the state still sees only what is below the
 * frontier.
 */
bool intake_open_part(struct intake *intake, struct op *op, enum intake_order order,
                      uint64_t rows);
/* Nobody looks at a chunk of the pass any more. */
static inline void intake_drop(struct intake *intake, uint32_t chunk)
{
    if (!intake->keep) {
        chunk_unref(intake->list.chunks[chunk]);
        intake->list.chunks[chunk] = NULL;
    }
}
/* Of a plain one: the chunks before the one it has come to. */
static inline void intake_release(struct intake *intake)
{
    ASSERT(intake->plain);
    while (intake->released < intake->chunk) {
        intake_drop(intake, intake->released++);
    }
}
static inline const struct batch *intake_batch(const struct intake *intake,
                                               const struct intake_ref *ref)
{
    return &intake->list.chunks[ref->chunk]->batch;
}
static inline bool intake_is_done(const struct intake *intake)
{
    return intake->at == intake->refs_len;
}
/* The next update of a pass by time; there must be one. */
static inline struct intake_ref intake_ref(const struct intake *intake)
{
    ASSERT(intake->at < intake->refs_len);
    if (!intake->plain) {
        return intake->refs[intake->at];
    }
    return (struct intake_ref){
        .time = batch_time(&intake->list.chunks[intake->chunk]->batch, intake->row),
        .port = intake->chunk >= intake->port_start[1],
        .chunk = intake->chunk,
        .row = intake->row};
}
/* It was taken, and its batch is not looked at any more. */
static inline void intake_next(struct intake *intake)
{
    ASSERT(intake->at < intake->refs_len);
    intake->at++;
    if (intake->plain && ++intake->row == intake->list.chunks[intake->chunk]->batch.rows) {
        intake->chunk++;
        intake->row = 0;
        intake_release(intake);
    }
}
/* Takes the next updates that lie in one chunk and have one time, at most max; returns how many.
 * *b is there until the next call. */
uint32_t intake_take(struct intake *intake, uint32_t max, uint32_t *rows, const struct batch **b);
/* The least time of its updates; upper when there is none. */
uint64_t intake_first_time(const struct intake *intake);
void intake_close(struct intake *intake);
void intake_free(struct intake *intake);

/* The canonical bytes of key columns (no columns: no bytes) and their hash. */
uint64_t op_key_encode(const struct batch *b, uint32_t row, const uint32_t *keys, uint32_t keys_len,
                    struct buf *out);
bool op_key_has_null(const struct batch *b, uint32_t row, const uint32_t *keys, uint32_t keys_len);

/* ---- exchange.c ------------------------------------------------------------------------------ */

void engine_exchange_set_up(struct op *op, uint32_t port, enum route route, const uint32_t *keys,
                     uint32_t keys_len, bool err_routed);
/* Sends the rows that belong elsewhere, queues the rest; takes the reference. */
void engine_exchange_push(struct op *op, uint32_t port, struct chunk *chunk, bool err);
/* The own upstream of a routed port moved. */
void engine_exchange_frontier(struct op *op, uint32_t port, uint64_t frontier);
/* Between the workers of a scope: op is its fixpoint. */
void engine_exchange_vote(struct op *op, uint32_t dest, uint64_t time, bool changes);
/* Tells the other workers that this one needs the dataflow awake there, or does not any more. */
void engine_exchange_want(struct dataflow *dataflow, bool wanted);
/* Announces moved frontiers and sends everything. */
void engine_exchange_flush(struct engine *engine);
/* The dataflow of an id that lives here, or NULL. */
struct dataflow *engine_exchange_find(struct engine *engine, uint64_t dataflow_id);
void engine_exchange_begin(struct engine *engine, struct dataflow *dataflow);
/* False when this life's numbers are used up: another worker may have claimed a high one. */
bool engine_exchange_can_restart(const struct dataflow *dataflow);
/* It begins anew here: tells the other workers, and forgets what they sent before. */
void engine_exchange_restart(struct engine *engine, struct dataflow *dataflow);
/* Delivers what came for it before it was created. */
err_t engine_exchange_deliver_pending(struct dataflow *dataflow);
/* The incarnation ended: tells the other workers. */
void engine_exchange_end(struct engine *engine, uint64_t dataflow_id);
/* At the end, when no dataflow is live. */
void engine_exchange_free(struct engine *engine);

/* ---- operators ------------------------------------------------------------------------------- */

/* Each sets class and state of an op whose common part is set up. */
void op_make_source(struct op *op, uint32_t parts);
void op_make_constant(struct op *op);
void op_make_import(struct op *op, struct op *index);
void op_make_mfp(struct op *op);
void op_make_union(struct op *op);
void op_make_negate(struct op *op);
void op_make_join(struct op *op); /* inner */
/* The same for rows that are a few words; only if op_join_is_flat. */
bool op_join_is_flat(const struct op *op);
void op_make_join_flat(struct op *op);
void op_make_outer(struct op *op); /* left, semi, anti */
void op_make_arrange(struct op *op);
void op_make_lookup(struct op *op);
void op_make_reduce(struct op *op); /* also distinct and threshold */
/* The same for groups that are a few words; only if op_reduce_is_flat. */
bool op_reduce_is_flat(const struct op *op);
void op_make_reduce_flat(struct op *op);
void op_make_topk(struct op *op);
void op_make_window(struct op *op);
void op_make_flat_map(struct op *op);
void op_make_temporal(struct op *op);
void op_make_index(struct op *op, const struct plan_export *export);
void op_make_subscribe(struct op *op, const struct plan_export *export);

/* Which columns of a source somebody reads; the others need not be in its chunks. */
const bool *source_reads(struct op *op);

/* Of recursions (op_iterate.c). Reductions are distinct, threshold and top-k too. */
void op_make_variable(struct op *op);
void op_make_fixpoint(struct op *op);
void op_make_leave(struct op *op);
void op_make_iterate_join(struct op *op);
void op_make_iterate_reduce(struct op *op);
void op_make_nowhere(struct op *op);
/* The scopes of a plan's nodes, as plan_scopes but for those that nobody needs; returns how many
 * operators their inputs need. */
#define SCOPE_NOWHERE (UINT32_MAX - 1)
uint32_t scope_enters(const struct plan *plan, uint32_t *scopes);
/* When all operators of the plan are made: inserts those, behind the exports. */
void scope_render(struct dataflow *dataflow, const uint32_t *scopes);
/* Is this an operator that takes votes? */
bool scope_takes_votes(const struct op *op);
void scope_vote(struct op *op, uint32_t from, uint64_t time, bool changes);

/* Takes no reference of the caller's. */
void source_input(struct op *op, uint32_t part, uint64_t lower, uint64_t upper, struct chunk *ok,
                  struct chunk *err);

/* ---- what lookups read (op_arrange.c) -------------------------------------------------------- */

/* Of a PLAN_ARRANGE, or of the index behind a PLAN_INDEX. */
const struct arrange *arranged_rows(const struct op *of);
/* From now on reads at and after time stay exact for this holder; it only moves forward. */
void arranged_hold(struct op *of, const void *holder, uint64_t time);
void arranged_release(struct op *of, const void *holder);
/* The index an import reads (op_simple.c). */
struct op *import_index(const struct op *import);
/* It will scan what the index has below its upper, when that is complete; it gave nothing yet. */
void import_begin(struct op *import);
/* It has the index's content, and only follows. */
bool import_is_done(const struct op *import);
/* It needs the index's frontier no more, until its dataflow is awake again. */
void import_rest(struct op *import);
/* Could it scan the index as of its dataflow's start once more? */
bool import_can_restart(const struct op *import);
/* All of the operator but its state was made anew. */
void import_restart(struct op *import);

/* ---- index.c --------------------------------------------------------------------------------- */

struct op *index_find(struct engine *engine, uint64_t id);
/* Logical since: reads below are refused. */
uint64_t index_since(const struct op *index);
uint64_t index_frontier(const struct op *index);
/* Where followers start that come now: the end of the pass that goes on, or the frontier. */
uint64_t index_upper(const struct op *index);
void index_set_since(struct op *index, uint64_t since);
/* A follower gets every chunk the index takes in from now on, and its frontier. */
void index_follow(struct op *index, struct op *follower);
void index_unfollow(struct op *index, struct op *follower);
/* Reads at and after time stay exact until released. */
void index_hold(struct op *index, const void *holder, uint64_t time);
void index_release(struct op *index, const void *holder);
/* A hold that is there, or a new one, to a later time. */
void index_move_hold(struct op *index, const void *holder, uint64_t time);
struct arrange *index_arrange(struct op *index, bool err);
const uint32_t *index_keys(const struct op *index, uint32_t *len);
/* Forgets its rows, of which none was seen, and is otherwise who it was, for all who hold, follow
 * or peek it: first with what it was, then when all of the operator but its state was made anew. */
void index_clear(struct op *index);
void index_restart(struct op *index);
/* Answers all pending peeks with an error. */
void index_close(struct op *index, enum err_code code, const char *why);
void index_add_peek(struct op *index, const struct engine_peek *peek);
/* One of its own. */
void index_cancel_peek(struct op *index, uint64_t peek_id);

/* Frontier of an export, towards the host. */
void op_export_report(struct op *op, uint64_t export_id, uint64_t frontier);
/* Whether an export is still wanted. */
bool op_export_live(const struct op *op, uint64_t export_id);
/* An import gave up its hold on a dataflow. */
void engine_release_import(struct dataflow *dataflow);
/* In the next step a peek is answered with an error, which is taken. */
void engine_answer(struct engine *engine, uint64_t peek_id, err_t err);

#endif
