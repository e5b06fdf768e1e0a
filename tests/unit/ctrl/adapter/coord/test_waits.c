/*
 * What takes its time, and how it ends: subscriptions, timeouts, cancelling, sources that are not
 * there yet, read holds, limits, idle clients.
 */
#include "core/base/assert.h"
#include "tests/unit/ctrl/adapter/coord/talk.h"

/* ---- sources that have not been published ---------------------------------------------------- */

static uint64_t id_of(struct talk *t, const char *name)
{
    const struct catalog_schema *schema = catalog_schema(t->catalog, "tailrace", "public");
    const struct catalog_item *item = catalog_item(t->catalog, schema->id, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL(item);
    return item->id;
}

static void stall(struct talk *t)
{
    coord_controller_events.storage_status(t->coord, id_of(t, "s"), STORAGE_STALLED,
                                           "/nowhere does not exist", "Create it.");
}

static void publish(struct talk *t)
{
    local_controller_publish(t->controller);
}

#define SOURCE "create source s (a int) from file '/nowhere' (format csv)"

/* A read of a source waits until it is published, and says so when it has to stop. */
static void test_source_not_there(void)
{
    static const struct line lines[] = {
        {SOURCE, "CREATE SOURCE;"},
        {"set statement_timeout = '200ms'", "SET;"},
        {"select * from s", "!57014;", .error = "storage has not reported it yet", .after = stall},
        {"select * from s", "!57014;", .error = "source \"s\" (stalled since "},
        {"select * from s", "!57014;", .error = "/nowhere does not exist"},
        {"select * from s", "!57014;", .error = "HCreate it."},
        {"create materialized view m as select count(*) as n from s", "CREATE MATERIALIZED VIEW;"},
        {"create view v as select n + 1 as n from m", "CREATE VIEW;"},
        {"select * from v", "!57014;", .error = "waited for source \"s\" (stalled since "},
        {"insert into nope select a from s", "!42P01;"},
        {"create table t (a int)", "CREATE TABLE;"},
        {"insert into t select a from s", "!57014;", .error = "waited for source \"s\""},
        {"begin; declare c cursor for subscribe s; fetch all c with (timeout = '50ms')",
         "BEGIN;DECLARE CURSOR;FETCH 0;"},
        {"rollback", "ROLLBACK;"},
        {"set statement_timeout = 0", "SET;"},
        {"select * from s", "!57014;", .error = "due to user request", .then = talk_cancel,
         .then_us = 30000},
        {"select * from s", "SELECT 0;", .then = publish, .then_us = 300000},
        {"select * from v", "1;SELECT 1;"},
        {"select * from s", "SELECT 0;"},
    };
    CONVERSE(lines);
}

#define SPINS "select process_id, spins from mz_internal.mz_loop_counters"

/* Tables of what runtimes count: who is silent is waited for as long as may be, once a statement,
 * and its rows are missing; every way to read a table goes through the same. */
static void test_introspection(void)
{
    static const struct line lines[] = {
        {"set introspection_timeout = '100ms'", "SET;"},
        {SPINS, "0|7;SELECT 1;"},
        {"select replica_id, worker_id from mz_internal.mz_loop_counters", "~|0;SELECT 1;"},
        {"select answered, reason, rows_omitted from mz_internal.mz_introspection_answers "
         "order by process_id", "t|~|5;f|it is silent|0;SELECT 2;"},
        {"create table t (a int, b bigint)", "CREATE TABLE;"},
        {"insert into t " SPINS, "INSERT 0 1;"},
        {"select * from t", "0|7;SELECT 1;"},
        {"create view v as " SPINS, "CREATE VIEW;"},
        {"select spins + 1 from v", "8;SELECT 1;"},
        {"begin; declare c cursor for " SPINS "; fetch all c; " SPINS "; rollback",
         "BEGIN;DECLARE CURSOR;0|7;FETCH 1;0|7;SELECT 1;ROLLBACK;"},
        {"copy (" SPINS ") to stdout", "COPY 1;<0\t7\n"},
        {"delete from t where b in (select spins from v)", "DELETE 1;"},
        {"select id from mz_internal.mz_dataflows", "SELECT 0;"},
        {"select object_id from mz_internal.mz_hydration_statuses", "SELECT 0;"},
        {"set introspection_timeout = '1h'; set statement_timeout = '200ms'", "SET;SET;"},
        {SPINS, "!57014;", .error = "the runtimes to say what they count"},
        {"insert into t " SPINS, "!57014;", .error = "the runtimes to say what they count"},
        {"delete from t where b in (select spins from v)", "!57014;",
         .error = "the runtimes to say what they count"},
        {"set statement_timeout = 0", "SET;"},
        {SPINS, "!57014;", .error = "due to user request", .then = talk_cancel, .then_us = 30000},
        {"set introspection_timeout = '1ms'", "SET;"},
        {SPINS, "0|7;SELECT 1;"},
    };
    CONVERSE(lines);
}

static void look(struct talk *t)
{
    talk_other(t, "copy (select waits_for from mz_internal.mz_sessions where waits_for is not null)"
                  " to stdout");
}

static void check_look(struct talk *t)
{
    const char *found = memmem(t->other.stream->out.data, t->other.stream->out.len,
                               "source \"s\" (storage has not", 27);
    CU_ASSERT_PTR_NOT_NULL(found);
}

/* A limit of memory is a part of the definition; what is no size, or no option, is refused. */
static void test_memory_limits(void)
{
    static const struct line lines[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"create index i on t (a) with (memory_limit = '64MB')", "CREATE INDEX;"},
        {"show create index i",
         "tailrace.public.i|CREATE INDEX i IN CLUSTER \"default\" ON tailrace.public.t (a) "
         "WITH (memory_limit = '64MB');SHOW;"},
        {"create materialized view m with (memory_limit = '1 GB') as select count(*) from t",
         "CREATE MATERIALIZED VIEW;"},
        {"select create_sql like '%VIEW m WITH (memory_limit = ''1 GB'') AS %' "
         "from mz_catalog.mz_materialized_views", "t;SELECT 1;"},
        {"create materialized view n in cluster \"default\" with (memory limit = '5kB') as "
         "select 1 as a", "CREATE MATERIALIZED VIEW;"},
        {"create index j in cluster \"default\" on t (a) with (memory_limit = 1000000)",
         "CREATE INDEX;"},
        {"create index k on t (a) with (memory_limit = 'lots')", "!22023;", .error = "lots"},
        {"create index k on t (a) with (memory_limit = '-1GB')", "!22023;", .error = "-1GB"},
        {"create index k on t (a) with (memory_limit = '0')", "!22023;"},
        {"create index k on t (a) with (memory_limit = '9999999TB')", "!22023;"},
        {"create index k on t (a) with (memory_limit)", "!22023;"},
        {"create index k on t (a) with (fillfactor = 70)", "!22023;", .error = "fillfactor"},
        {"create materialized view o with (nosuch = 1) as select 1 as a", "!22023;"},
        {"set dataflow_memory_limit = '10MB'; show dataflow_memory_limit", "SET;10MB;SHOW;"},
        {"set dataflow_memory_limit = 'ten'", "!22023;"},
    };
    CONVERSE(lines);
}

/* Others can see what a session waits for. */
static void test_seen_by_others(void)
{
    static const struct line lines[] = {
        {SOURCE, "CREATE SOURCE;"},
        {"set statement_timeout = '2s'; select * from s", "SET;!57014;", .then = look,
         .then_us = 500000, .after = check_look},
    };
    CONVERSE(lines);
}

static void drop_source(struct talk *t)
{
    talk_other(t, "drop source s");
}

/* What is waited for goes away: the wait ends with the error a new statement would get. */
static void test_dropped_while_waited_for(void)
{
    static const struct line lines[] = {
        {SOURCE, "CREATE SOURCE;"},
        {"select * from s", "!42P01;", .then = drop_source, .then_us = 100000},
    };
    CONVERSE(lines);
}

/* ---- subscriptions --------------------------------------------------------------------------- */

static void insert_two(struct talk *t)
{
    talk_other(t, "insert into t values (2)");
}

static void delete_one(struct talk *t)
{
    talk_other(t, "delete from t where a = 1");
}

static void test_subscribe_through_cursor(void)
{
    static const struct line lines[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"insert into t values (1)", "INSERT 0 1;"},
        {"begin; declare c cursor for subscribe t", "BEGIN;DECLARE CURSOR;"},
        {"fetch all c with (timeout = '5s')", "T|1|1;FETCH 1;"},
        {"fetch all c with (timeout = '200ms')", "FETCH 0;"},
        {"fetch 1 c with (timeout = '10s')", "T|1|2;FETCH 1;", .then = insert_two,
         .then_us = 100000},
        {"fetch all c with (timeout = '10s')", "T|-1|1;FETCH 1;", .then = delete_one,
         .then_us = 100000},
        {"fetch all c", "!57014;", .error = "due to user request", .then = talk_cancel,
         .then_us = 500000},
        {"fetch all c", "!25P02;"},
        {"rollback", "ROLLBACK;"},
        {"fetch all c", "!34000;"},
    };
    CONVERSE(lines);
}

/* A plain SUBSCRIBE goes on until it is cancelled; its rows come as they happen. */
static void test_subscribe_until_cancelled(void)
{
    static const struct line lines[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"insert into t values (1)", "INSERT 0 1;"},
        {"set statement_timeout = '50ms'", "SET;"}, /* does not end what sends rows */
        {"subscribe t", "T|1|1;!57014;", .error = "due to user request", .then = talk_cancel,
         .then_us = 2000000},
        {"subscribe nope", "!42P01;"},
        {"subscribe t up to 1", "!22023;"},
        {"select count(*) from t", "1;SELECT 1;"},
    };
    CONVERSE(lines);
}

/* What is not read does not pile up: the progress that waits is one row. */
static void test_progress_waits_as_one(void)
{
    static const struct line lines[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"begin; declare c cursor for subscribe t with (progress)", "BEGIN;DECLARE CURSOR;"},
        /* A second in which nobody fetches: what waited is one row, the latest. */
        {"fetch 1 c", "T|t|~|~;FETCH 1;"},
        {"fetch all c with (timeout = '1s')", "T|t|~|~;FETCH 1;"},
        {"rollback", "ROLLBACK;"},
    };
    CONVERSE(lines);
}

/* ---- read holds of transactions -------------------------------------------------------------- */

static void no_holds(struct talk *t)
{
    CU_ASSERT_EQUAL(local_controller_holds(t->controller), 0);
}

static void domain_held(struct talk *t)
{
    CU_ASSERT_EQUAL(local_controller_holds(t->controller), 3); /* a, b and the view, not c */
}

static void more_held(struct talk *t)
{
    CU_ASSERT_EQUAL(local_controller_holds(t->controller), 4);
}

static void compact_d(struct talk *t)
{
    const struct catalog_schema *schema = catalog_schema(t->catalog, "tailrace", "far");
    local_controller_compacted(t->controller, catalog_item(t->catalog, schema->id, "d")->id);
}

/* The first read of a block holds what is in its schemas; others are held when they are read. */
static void test_domain(void)
{
    static const struct line lines[] = {
        {"create table a (x int); create table b (x int); create schema far; "
         "create table far.c (x int); create table far.d (x int)",
         "CREATE TABLE;CREATE TABLE;CREATE SCHEMA;CREATE TABLE;CREATE TABLE;"},
        {"create materialized view m as select * from a", "CREATE MATERIALIZED VIEW;",
         .after = no_holds},
        {"select * from a", "SELECT 0;", .after = no_holds},
        {"begin; select 1", "BEGIN;1;SELECT 1;", .after = no_holds},
        {"select * from a", "SELECT 0;", .after = domain_held},
        {"select * from b", "SELECT 0;", .after = domain_held},
        {"select * from far.c", "SELECT 0;", .after = more_held},
        {"commit", "COMMIT;", .after = no_holds},
        {"begin; select * from far.c", "BEGIN;SELECT 0;"},
        {"rollback", "ROLLBACK;", .after = compact_d},
        {"begin; select * from a", "BEGIN;SELECT 0;", .after = domain_held},
        {"select * from far.d", "!25000;", .error = "history no longer reaches back"},
        {"rollback", "ROLLBACK;", .after = no_holds},
    };
    CONVERSE(lines);
}

static void make_index(struct talk *t)
{
    talk_other(t, "create index on a (x)");
}

/* An index made after the transaction began to read does not reach back to its time. */
static void test_index_made_meanwhile(void)
{
    static const struct line lines[] = {
        {"create table a (x int); insert into a values (1)", "CREATE TABLE;INSERT 0 1;"},
        {"begin; select * from a", "BEGIN;1;SELECT 1;", .after = make_index},
        {"select * from a where x = 1", "1;SELECT 1;"},
        {"commit", "COMMIT;"},
        {"select * from a where x = 1", "1;SELECT 1;"},
    };
    CONVERSE(lines);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* What many small statements write counts as what one large one does. */
static void test_write_limit(void)
{
    static const struct line lines[] = {
        {"create table t (a text)", "CREATE TABLE;"},
        {"begin; insert into t values (repeat('x', 5000))", "BEGIN;INSERT 0 1;"},
        {"insert into t values (repeat('x', 5000))", "!54000;",
         .error = "may write at most 8192 bytes"},
        {"rollback", "ROLLBACK;"},
        {"insert into t values (repeat('x', 9000))", "!54000;", .error = "--max-write-bytes"},
        {"COPY t FROM STDIN|short\n", "COPY 1;"},
        {"insert into t values (repeat('x', 3000))", "INSERT 0 1;"},
        {"insert into t select repeat(a, 2) from t", "INSERT 0 2;"},
        {"update t set a = repeat(a, 5)", "!54000;"},
        {"select count(*) from t", "4;SELECT 1;"},
    };
    struct talk t = {.lines = lines, .lines_len = ARRAY_LEN(lines), .max_copy_bytes = 8192};
    talk_run(&t);
}

static void small_write(struct talk *t)
{
    talk_other(t, "insert into t values ('small')");
}

static void limit_appends(struct talk *t)
{
    local_controller_limit(t->controller, 8 << 20);
}

/* A write that storage refuses for its size takes nobody else's down with it. */
static void test_refused_alone(void)
{
    static const struct line lines[] = {
        {"create table t (a text)", "CREATE TABLE;", .after = small_write},
        {"insert into t values (repeat('x', 9000000))", "!54000;"}, /* queued behind it */
        {"select a from t", "small;SELECT 1;"},
    };
    talk_converse(lines, ARRAY_LEN(lines), limit_appends);
}

/* ---- clients that are silent ----------------------------------------------------------------- */

static void silent(const struct line *line, const char *fatal)
{
    struct talk t = {.lines = line, .lines_len = 1, .fatal = fatal};
    talk_run(&t);
}

static void test_idle(void)
{
    static const struct line session = {"set idle_session_timeout = '1s'", "SET;"};
    silent(&session, "57P05");
    static const struct line block = {"set idle_in_transaction_session_timeout = '1s'; begin",
                                      "SET;BEGIN;"};
    silent(&block, "25P03");
    static const struct line reset = {"set idle_session_timeout = '1s'; "
                                      "reset idle_session_timeout", "SET;RESET;"};
    talk_converse(&reset, 1, NULL);
    static const struct line bad[] = {{"set idle_session_timeout = 'nan'", "!22023;"},
                                      {"set idle_session_timeout = '30000d'", "!22023;"}};
    CONVERSE(bad);
}

/* ---- COPY ------------------------------------------------------------------------------------ */

static void test_copy(void)
{
    static const struct line lines[] = {
        {"create table t (a int, b text, c numeric, d timestamptz, e float8, f bool, g jsonb)",
         "CREATE TABLE;"},
        {"create table u (a int, b text, c numeric, d timestamptz, e float8, f bool, g jsonb)",
         "CREATE TABLE;"},
        {"insert into t values (1, 'x', 2.50, '2026-01-02 03:04:05+00', 0.5, true, '{\"k\": 1}'),"
         " (2, null, null, null, null, null, null), (3, '', -7, '1999-12-31', 1.5e10, false, '[]')",
         "INSERT 0 3;"},
        {"copy t to stdout (format binary)", "COPY 3;"},
        {"COPY u FROM STDIN (format binary)|@", "COPY 3;"},
        {"select count(*) from (select * from t except select * from u) as x", "0;SELECT 1;"},
        {"COPY u FROM STDIN (format binary)|text\n", "!22P04;", .error = "signature"},
        {"COPY u FROM STDIN (format binary, header)|", "!42601;"},
        {"create table n (a int not null, b text)", "CREATE TABLE;"},
        {"COPY n FROM STDIN|1\tone\nx\ttwo\n", "!22P02;",
         .error = "WCOPY n, line 2, column a: \"x\""},
        {"COPY n FROM STDIN|1\tone\n2\n", "!22P04;", .error = "WCOPY n, line 2: \"2\""},
        {"COPY n FROM STDIN|1\tone\n2\ttwo\tthree\n", "!22P04;",
         .error = "WCOPY n, line 2: \"2\ttwo\tthree\""},
        {"COPY n FROM STDIN|1\tone\n\\N\tnull\n", "!23502;",
         .error = "WCOPY n, line 2: \"\\N\tnull\""},
        {"COPY n FROM STDIN (format csv)|1,\"one\n", "!22P04;", .error = "WCOPY n, line 1"},
        {"COPY n FROM STDIN (format csv, header)|a,b\n1,one\n", "COPY 1;"},
        {"COPY n FROM STDIN (header)|a\tb\n2\ttwo\n", "COPY 1;"},
        {"COPY n (b, a) FROM STDIN (format csv, header)|b,a\n\"th,ree\",3\n", "COPY 1;"},
        {"copy (select * from n order by a) to stdout (format csv, header)",
         "COPY 3;<a,b\n1,one\n2,two\n3,\"th,ree\"\n"},
        {"copy (select * from n order by a) to stdout (header)",
         "COPY 3;<a\tb\n1\tone\n2\ttwo\n3\tth,ree\n"},
        {"copy (select * from n where a > 9) to stdout (format csv, header)", "COPY 0;<a,b\n"},
    };
    CONVERSE(lines);
}

static const struct test_case cases[] = {
    {"introspection", test_introspection},
    {"memory limits", test_memory_limits},
    {"source not there", test_source_not_there},
    {"seen by others", test_seen_by_others},
    {"dropped while waited for", test_dropped_while_waited_for},
    {"subscribe through a cursor", test_subscribe_through_cursor},
    {"subscribe until cancelled", test_subscribe_until_cancelled},
    {"progress waits as one", test_progress_waits_as_one},
    {"domain", test_domain},
    {"index made meanwhile", test_index_made_meanwhile},
    {"write limit", test_write_limit},
    {"refused alone", test_refused_alone},
    {"idle", test_idle},
    {"copy", test_copy},
};
TEST_SUITE("coord/waits", cases)
