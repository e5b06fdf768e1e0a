/*
 * Private to the coordinator. Who does what:
 *
 *     coord.c      start, ticks, compaction, what the controllers report
 *     session.c    pgwire requests, the simple-query script, prepared statements, portals by name
 *     statement.c  one statement: dispatch, sending rows, completion
 *     transact.c   BEGIN ... COMMIT, implicit transactions
 *     read.c       queries: their time, peeks, transient dataflows      local.c  the engine in here
 *     rowset.c     rows of a result: finishing (order, limit), iteration
 *     write.c      the queue of writes: group commit, read-then-write    change.c INSERT ... DELETE
 *     subscribe.c  SUBSCRIBE      copy_in.c COPY FROM      ddl.c CREATE   drop.c DROP
 *     blocked.c    what a statement waits for      survey.c  what the runtimes count
 *     analyze.c    EXPLAIN ANALYZE
 *     names.c      the planner's view of the catalog         vars.c session variables
 *     virtual*.c   catalog tables
 */
#ifndef TAILRACE_CTRL_ADAPTER_COORD_COORD_INTERNAL_H
#define TAILRACE_CTRL_ADAPTER_COORD_COORD_INTERNAL_H

#include "core/base/map.h"
#include "core/engine/engine.h"
#include "ctrl/adapter/coord/coord.h"
#include "ctrl/adapter/pgwire/copy.h"
#include "ctrl/adapter/sql/sql.h"

struct session;
struct portal;
struct read;

/* ---- rows of a result (rowset.c) ------------------------------------------------------------- */

struct rowset;
/* Rows with these types before finishing; the spec's arrays are copied. */
struct rowset_spec {
    const struct type *types;
    uint32_t types_len;
    const struct plan_order *order;
    uint32_t order_len;
    int64_t limit; /* -1: none */
    int64_t offset;
    const uint32_t *project; /* project_len 0 and NULL: all */
    uint32_t project_len;
    size_t max_bytes;
};
struct rowset *rowset_new(const struct rowset_spec *spec);
/* A spec that only keeps rows. */
struct rowset_spec rowset_plain(const struct type *types, uint32_t types_len, size_t max_bytes);
void rowset_free(struct rowset *rs);
err_t rowset_add_batch(struct rowset *rs, const struct batch *batch);
err_t rowset_add_row(struct rowset *rs, const struct datum *row);
/* Sorts and cuts; rows can be taken from now on. XX000 when a row has a negative multiplicity. */
err_t rowset_finish(struct rowset *rs);
/* The next row: project_len datums valid while the rowset lives; false at the end. */
bool rowset_next(struct rowset *rs, struct datum *out);
bool rowset_at_end(const struct rowset *rs);
uint64_t rowset_rows(const struct rowset *rs);
uint32_t rowset_width(const struct rowset *rs);

/* ---- reads (read.c, local.c) ----------------------------------------------------------------- */

typedef void (*read_done_fn)(void *arg, err_t err);

struct read {
    struct coord *coord;
    struct sql_query *query;
    bool retimable;          /* a later time would do as well */
    uint32_t attempts;
    bool borrowed;           /* the query is somebody else's, who outlives the read */
    bool keeps;              /* the dataflow is dropped with the read, not with the answer */
    struct rowset *rows;     /* the result; the taker sets it to NULL */
    read_done_fn done;
    void *arg;
    uint64_t cluster;
    uint64_t time;
    uint64_t peek;      /* under way at the controller; 0: none */
    uint64_t transient; /* dataflow to drop; 0: none */
    bool local;         /* under way in the local engine */
    err_t local_err;
    struct read *local_next;
};
/* Takes the query. */
struct read *read_new(struct coord *coord, struct sql_query *query, read_done_fn done, void *arg);
/* The time to read at: see read.c. Fails when AS OF cannot be served. */
err_t read_choose_time(struct coord *coord, const struct sql_query *query, uint64_t cluster,
                       uint64_t *time);
/* done may run before this returns, and free the read. */
void read_start(struct read *read, uint64_t cluster, uint64_t time);
/* Stops it when it runs; done will not be called. */
void read_free(struct read *read);
bool read_needs_cluster(const struct sql_query *query);
/* False: right after a start or a creation, when an input's frontiers are not reported yet: no
 * time can be chosen that is sure to be readable. */
/* mz_now() of a query that is read at a time: what a signed number can say. */
static inline uint64_t read_time_as_now(uint64_t time)
{
    return time < INT64_MAX ? time : INT64_MAX;
}
/* The answer is there, or why there is none: exactly once for each read_start that was not freed.
 * May free r. */
void read_finish(struct read *r, err_t err);
/* Whether a reads nothing that b does not. */
bool read_needs_no_more(const struct sql_query *a, const struct sql_query *b);
bool read_inputs_known(struct coord *coord, const struct sql_query *query, uint64_t cluster);

/* The coordinator's. reads holds those under way, finished those whose end was not told yet. */
struct local {
    struct coord *coord;
    struct engine *engine;
    struct io_poller poller;
    struct u64map reads; /* by peek id */
    uint64_t next_id;
    struct read *finished;
};
void local_init(struct local *local, struct coord *coord);
void local_free(struct local *local);
void local_start(struct local *local, struct read *read);
void local_cancel(struct local *local, struct read *read);

/* ---- writes (write.c) ------------------------------------------------------------------------ */

/* Rows to append, by table. */
struct write_table {
    uint64_t id;
    struct batch_builder *rows;
};
struct write_set {
    struct write_table *tables;
    size_t tables_len, tables_cap;
};
/* The builder of a table, made when missing. */
struct batch_builder *write_set_table(struct write_set *set, uint64_t id, const struct schema *s);
bool write_set_empty(const struct write_set *set);
size_t write_set_bytes(const struct write_set *set);
/* 54000 when the set and more bytes are too much for one transaction. */
err_t write_set_check(const struct coord *coord, const struct write_set *set, size_t more);
enum { WRITE_CHECK_BYTES = 1024 * 1024 }; /* how often those who fill a set look at the limit */
void write_set_clear(struct write_set *set);

/* See write.c for the transitions. */
enum write_state { WRITE_IDLE, WRITE_QUEUED, WRITE_GRANTED, WRITE_FLYING };

/* One write, embedded by who asks. */
struct write_job {
    struct write_job *next;
    enum write_state state;
    bool locks;            /* wants the tables to itself between granted and done */
    struct write_set set;
    void (*granted)(struct write_job *job);
    void (*done)(struct write_job *job, err_t err);
};
/* The coordinator's. At most one append is under way; group is what it carries. */
struct writer {
    struct coord *coord;
    struct write_job *head, **tail; /* queued */
    struct write_job *holder;       /* has the lock */
    struct write_job *flying;       /* in the append under way */
    bool in_flight;
    uint64_t time;                  /* of the append under way */
    uint32_t attempts;
    struct write_set group;         /* what is being appended, for another attempt */
    struct io_timer pump;
};
void writer_init(struct writer *w, struct coord *coord);
void writer_free(struct writer *w);
/* Queues the job's set; done runs once it is durable (from the loop). */
void write_submit(struct coord *coord, struct write_job *job);
/* Queues for the lock; granted runs from the loop. Then write_submit, or write_release. */
void write_lock(struct coord *coord, struct write_job *job);
void write_release(struct coord *coord, struct write_job *job);
/* Whose statement has the lock; NULL: nobody. */
const struct session *write_holder(const struct coord *coord);
/* Forgets the job: not called back. What flies is still applied. */
void write_abandon(struct coord *coord, struct write_job *job);

/* ---- the coordinator ------------------------------------------------------------------------- */

/* What a collection's ingestion reported last. Owned by coord.statuses. */
struct collection_status {
    enum storage_status status;
    uint64_t since_us; /* Unix time at which it became so */
    char *reason;
    char *hint;
};

struct virtual_table;

/* Owned by environmentd, touched on its loop only. The first four pointers are others' and outlive
 * it. */
struct coord {
    struct coord_config config;
    struct io_loop *loop;
    struct catalog *catalog;
    struct oracle *oracle;
    struct controller *controller;
    struct coord_size *sizes;
    size_t sizes_len;
    struct session *sessions; /* all, the system's own included */
    struct session *system; /* plans at start, in nobody's name */
    uint64_t next_transient; /* counts dataflows of queries and subscriptions */
    struct local local;
    struct writer writer;
    struct io_timer tick;
    uint64_t ticked_us;     /* when it last fired */
    uint64_t next_tick_us; /* when the tick is armed for */
    uint64_t busy_until_us; /* ticks come closely until then */
    struct io_timer compaction;
    bool started; /* the controllers know everything the catalog holds */
    struct u64map statuses; /* collection -> struct collection_status */
    struct u64map failures; /* dataflow -> char * */
    struct u64map temporal; /* dataflow -> anything: its content changes with the time alone */
    struct virtual_table *virtuals;
    size_t virtuals_len, virtuals_cap;
    struct scram_verifier verifier;
    bool has_verifier; /* a password is set */
    struct metric *statements, *failed, *rows_sent, *rows_written, *commits, *query_seconds,
        *commit_seconds;
};
uint64_t coord_transient_id(struct coord *coord);
/* Somebody reads or writes: tables advance closely for a while. */
void coord_busy(struct coord *coord);
/* At the controller: item, as the catalog has it. visible_below: see struct session. */
err_t coord_create_item(struct coord *coord, const struct catalog_item *item);
err_t coord_create_cluster(struct coord *coord, const struct catalog_cluster *cluster);
void coord_drop_item(struct coord *coord, const struct catalog_item *item);
const struct coord_size *coord_size_of(const struct coord *coord, const char *name);

/* ---- sessions -------------------------------------------------------------------------------- */

/* A parsed script, shared by the statements in it. */
struct script_ref {
    uint32_t refs;
    struct sql_script *script;
};
struct script_ref *script_ref_new(struct sql_script *script);
void script_ref_drop(struct script_ref *ref);

/* Shared by counting: the session's map has one reference, each portal of it another. */
struct prepared {
    uint32_t refs;
    struct script_ref *script;
    const struct sql_stmt *stmt; /* NULL: empty */
    struct sql_description *description; /* NULL until needed */
    uint64_t version;                    /* of the catalog it was made for */
    struct type *declared;               /* types given by Parse; kind 0: unknown */
    uint32_t declared_len;
};
struct prepared *prepared_new(struct script_ref *script, const struct sql_stmt *stmt);
void prepared_drop(struct prepared *p);

struct subscription;

/* A statement bound to arguments, and the rows it gives. Owned by the session's map by name, or by
 * the run when it has no name (simple query). */
struct portal {
    struct session *session;
    char *name; /* NULL: of a simple query, not in the map */
    struct prepared *prepared;
    struct script_ref *copied; /* COPY of a table: the SELECT that reads it; or NULL */
    struct arena arena; /* parameters, columns */
    struct type *param_types;
    struct datum *params;
    uint32_t params_len;
    int16_t *formats; /* as bound */
    size_t formats_len;
    int16_t *column_formats; /* one per column, once columns are known */
    struct schema columns;   /* cols 0: gives no rows */
    bool opened;             /* rows or subscription are there */
    bool cursor;             /* of DECLARE */
    bool busy;               /* used by the running statement */
    struct rowset *rows;
    struct subscription *subscription;
    uint64_t sent;
    const char *tag; /* of a change with RETURNING, once its rows are there */
};

enum run_state {
    RUN_NONE,
    RUN_BUSY,      /* dispatching, or waiting for nothing in particular */
    RUN_WAIT,      /* session->retry, until frontiers are known */
    RUN_SURVEY,    /* session->survey: the runtimes' answers */
    RUN_READ,      /* session->read */
    RUN_SEND,      /* rows go out; may wait for drain */
    RUN_SUBSCRIBE, /* waits for a subscription to have rows */
    RUN_LOCK,      /* waits for the write lock */
    RUN_COMMIT,    /* session->job flies or is queued */
    RUN_COPY_IN,
};

/* The statement under way. Zeroed when nothing runs. Lives from statement_start to
 * session_statement_done. */
struct run {
    enum run_state state;
    struct portal *portal; /* the statement */
    struct portal *source; /* whose rows go out: itself, or the cursor of FETCH */
    bool copy_out;
    struct copy_options copy;
    bool describe;         /* RowDescription before the rows (simple query) */
    int64_t max_rows;      /* -1: all */
    bool suspends;         /* the extended protocol's row limit: PortalSuspended */
    uint64_t sent;
    uint64_t began_ns;
    uint64_t fetch_deadline; /* 0: none */
    uint64_t source_made;    /* by this statement, or 0: see source_wait.c */
    struct buf explained;    /* EXPLAIN ANALYZE of a query: the lines before its replicas' */
    char tag[96];
};

/* What a block has done so far; it cannot change from one to the other. */
enum tx_mode { TX_NONE, TX_READ, TX_WRITE };

/* Zeroed but for status and began_us outside a transaction. Times are the oracle's. */
struct transaction {
    char status;   /* as pgwire has it: I, T, E */
    enum tx_mode mode;
    bool read_only;
    uint64_t time; /* of reads; 0: not chosen */
    uint64_t cluster;
    struct u64map holds;    /* item id -> the controller's hold, as a pointer */
    uint64_t indexes_below; /* indexes made since are not readable at the time; 0: not chosen */
    struct write_set writes;
    uint64_t rows;
    int64_t began_us; /* now() */
};

/* What a statement in RUN_WAIT waits for: the inputs of a query to have frontiers; or, without a
 * query, a source just created to be read. */
struct wait {
    uint64_t source;   /* see source_wait.c; else 0 */
    uint64_t until_us; /* with a source: not longer */
    const struct sql_query *query;
    struct sql_query *owned; /* the query, when the wait has to free it; else NULL */
    uint64_t cluster;
    uint64_t version;        /* of the catalog the query was planned with */
    uint64_t delay_us;       /* until the next look; grows */
    err_t (*again)(struct session *s);
};

/* What the runtimes were asked for the statement under way: see survey.c. */
enum { SURVEY_COUNTERS = 1, SURVEY_OPERATORS = 2 };
struct survey {
    unsigned wanted;  /* by the plan */
    unsigned have;    /* in the report */
    uint64_t id;      /* of the question under way; 0: none */
    struct controller_report *report;
    err_t (*again)(struct session *s); /* plans once more */
};

struct copy_in;

/* Owned texts; both NULL: the variable has its initial value. */
struct var_value {
    char *value;   /* NULL: the default */
    char *local;   /* SET LOCAL, until the transaction ends */
};

/* Owned by its connection (pgwire's session pointer); linked in coord.sessions while it lives. */
struct session {
    struct coord *coord;
    struct session *next, *prev;
    struct pgwire_conn *conn; /* NULL: the system's */
    uint32_t pid;
    char *user;
    struct var_value *vars;   /* by the order of vars.c */
    struct strmap prepared;
    struct strmap portals;
    struct transaction tx;
    /* The simple query under way. */
    struct script_ref *script;
    size_t script_at;
    bool script_run;  /* a simple query is under way */
    bool stepping, again;
    struct run run;
    struct read *read;
    struct sql_write *write; /* of INSERT ... DELETE under way */
    struct write_job job;
    void (*after_commit)(struct session *s, err_t err);
    struct copy_in *copy_in;
    struct buf copy_line, copy_field; /* of COPY TO: one record, one field */
    struct io_timer timeout; /* statement_timeout, FETCH */
    struct io_timer retry;   /* RUN_WAIT */
    struct wait wait;
    struct survey survey;
    uint64_t visible_below;  /* only items with smaller ids are planned with; 0: all */
};

/* session.c */
struct session *session_new(struct coord *coord, struct pgwire_conn *conn, const char *user,
                            const char *database);
void session_free(struct session *s);
void session_notice(struct session *s, const char *severity, err_t err);
struct portal *portal_new(struct session *s, const char *name, struct prepared *prepared);
void portal_free(struct portal *p);
/* Where the statement under way is over; what comes next depends on the protocol. */
void session_statement_done(struct session *s, err_t err);

/* statement.c */
void statement_start(struct session *s, struct portal *p, int64_t max_rows, bool describe);
/* Sends CommandComplete (and commits first where that is due), then ends the statement. */
void statement_complete(struct session *s, const char *tag);
void statement_fail(struct session *s, err_t err);
/* Rows of a rowset are there: sends them. */
void statement_send(struct session *s);
/* Announces the rows, once, before the first: RowDescription, or the beginning of COPY. */
err_t statement_announce(struct session *s);
/* One row, as DataRow or as a record of COPY. */
void statement_send_one(struct session *s, const struct datum *row);
/* An answer of lines of text, one row each, as PostgreSQL's EXPLAIN has it. */
void statement_send_lines(struct session *s, const struct buf *text);
/* All rows that were asked for went out; exhausted: there are no more. */
void statement_rows_over(struct session *s, bool exhausted);
/* Gives the portal its columns. */
void portal_set_columns(struct portal *p, const struct schema *columns);
/*
 * Waits until read_inputs_known, then calls again(s); its error is the statement's. Looks now and
 * then: frontiers come with messages that are rare. owned: the query is the wait's to free.
 */
void statement_wait(struct session *s, struct sql_query *query, bool owned, uint64_t cluster,
                    err_t (*again)(struct session *s));
/* statement_timeout counts from when the statement begins to wait for others. */
void statement_arm_timeout(struct session *s);
/* As statement_wait, with what it waits for already filled in but for delay_us. */
void statement_wait_begin(struct session *s, struct wait wait);
/* No longer waits. */
void statement_wait_end(struct session *s);

/* ---- source_wait.c --------------------------------------------------------------------------- */

/* CREATE SOURCE of this id goes on to wait; false: there is nothing to wait for. */
bool source_wait_start(struct session *s, uint64_t id);
/* The wait's timer: true when the statement is over. */
bool source_wait_look(struct session *s);
void source_wait_describe(const struct session *s, struct buf *out);
/* The wait's timer fired. */
void statement_retry(struct session *s);
/* Stops what runs; err is what the client is told. */
void statement_cancel(struct session *s, err_t err);
/* A result made here: text columns of these names. */
struct rowset *statement_text_rows(struct portal *p, const char *const *names, uint32_t cols);
void statement_add_text(struct rowset *rs, const char *const *values, uint32_t cols);

/* transact.c */
err_t transact_begin(struct session *s, bool read_only);
/* Ends the transaction; done(s, err) may run at once. */
void transact_commit(struct session *s, void (*done)(struct session *s, err_t err));
void transact_rollback(struct session *s);
/* The statement is about to read or write: 25006, 25001... */
err_t transact_enter_read(struct session *s);
err_t transact_enter_write(struct session *s);
bool transact_in_block(const struct session *s);
/* The time of a read in this transaction; takes holds in a block. */
err_t transact_read_time(struct session *s, const struct sql_query *query, uint64_t *time);

/* change.c: INSERT, UPDATE, DELETE, TRUNCATE */
void change_start(struct session *s, const struct sql_stmt *stmt);
void change_stop(struct session *s);
/* copy_in.c */
err_t copy_in_options(const struct sql_stmt *stmt, struct copy_options *out);
void copy_in_start(struct session *s, const struct sql_stmt *stmt);
void copy_in_data(struct session *s, const uint8_t *data, size_t len);
void copy_in_end(struct session *s, const char *failure);
void copy_in_free(struct session *s);

/* subscribe.c */
err_t subscription_open(struct session *s, struct portal *p, struct sql_query *query,
                        const struct sql_stmt *stmt);
/* Sends what is there, up to the run's limit; ends the statement when it is over. */
void subscription_pump(struct session *s);
void subscription_free(struct subscription *sub);

/* A FETCH's time is up before its subscription could even begin: no rows. */
err_t subscription_give_up(struct session *s);

/* blocked.c: appends what the running statement waits for, nothing when it does not; returns what
 * can be done about it, or NULL (borrowed). */
const char *blocked_describe(const struct session *s, struct buf *out);
/* Adds that to an error; returns err. */
err_t blocked_explain(const struct session *s, err_t err);

/* survey.c */
void survey_begin(struct session *s);
/* The answers, or NULL: they are noted as wanted, and the table has no rows this time. */
const struct controller_report *survey_need(struct session *s, unsigned what);
/* The plan just made wants what is not there: survey_ask, and plan again. */
bool survey_lacks(const struct session *s);
/* Asks; then again(s), whose error is the statement's. cluster, dataflow 0: all. */
void survey_ask(struct session *s, uint64_t cluster, uint64_t dataflow,
                err_t (*again)(struct session *s));
void survey_end(struct session *s);
/* analyze.c: EXPLAIN ANALYZE of the statement's index or materialized view. */
err_t analyze_start(struct session *s);
/* Of a query: before it is read, and when its rows are there, which nobody gets. */
void analyze_read(struct session *s, const struct sql_context *cx);
void analyze_answered(struct session *s);
/* EXPLAIN of the statement's index: the plan that runs. */
err_t analyze_plan(struct session *s, struct buf *out);

/* ddl.c, drop.c */
err_t ddl_create(struct session *s, const struct sql_stmt *stmt);
err_t ddl_drop(struct session *s, const struct sql_stmt *stmt);
err_t ddl_comment(struct session *s, const struct sql_stmt *stmt);
/* An item by name as a statement gives it; *out NULL when there is none. */
err_t ddl_find(struct session *s, const struct sql_name *name, const struct catalog_item **out);
err_t ddl_schema(struct session *s, const struct sql_name *name, const struct catalog_schema **out);

/* names.c */
void names_context(struct session *s, struct sql_context *cx);
void names_relation(struct session *s, const struct catalog_item *item, struct arena *arena,
                    struct sql_relation **out);
const char *names_object(void *ctx, uint64_t id, const struct schema **columns);
uint64_t names_cluster(struct session *s, const char *name, err_t *err);

/* vars.c */
size_t vars_count(void);
const char *vars_name(size_t i);
const char *vars_description(size_t i);
const char *vars_get(const struct session *s, const char *name); /* NULL: no such */
const char *vars_at(const struct session *s, size_t i);
err_t vars_set(struct session *s, const char *name, const char *value, bool local);
void vars_reset_all(struct session *s);
void vars_end_transaction(struct session *s);
void vars_report(struct session *s);
void vars_free(struct session *s);
uint64_t vars_duration_us(const struct session *s, const char *name);
uint64_t vars_size(const struct session *s, const char *name);

/* virtual.c */
err_t virtual_init(struct coord *coord);
void virtual_free(struct coord *coord);
const struct sql_relation *virtual_find(const struct coord *coord, const char *schema,
                                        const char *name);
err_t virtual_rows(struct session *s, const struct sql_relation *relation, struct arena *arena,
                   struct datum **rows, uint32_t *rows_len);

#endif
