/* Statements of every kind through one session, and what they answer: see talk.h. */
#include "tests/unit/ctrl/adapter/coord/talk.h"

static void test_queries(void)
{
    static const struct line lines[] = {
        {"select 1", "1;SELECT 1;"},
        {"select 1; select 'a', null", "1;SELECT 1;a|~;SELECT 1;"},
        {"values (2), (1), (3) order by 1 desc limit 2", "3;2;SELECT 2;"},
        {"select 1 from", "!42601;"},
        {"select 1/0", "!22012;"},
        {"select * from nope", "!42P01;"},
        {"", ""},
        {"select count(*) from pg_catalog.pg_namespace", "5;SELECT 1;"},
        {"show cluster", "default;SHOW;"},
        {"1+show cluster", "default;SHOW;"},
        {"1+explain values (1) limit 1", "Finish limit 1;Constant 1 rows;EXPLAIN;"},
        {"set statement_timeout = '5s'; show statement_timeout", "SET;5s;SHOW;"},
        {"set nonsense = 1", "!42704;"},
        {"reset statement_timeout; show statement_timeout", "RESET;60s;SHOW;"},
        {"prepare p as select $1::int4 + 1", "PREPARE;"},
        {"execute p(41)", "42;SELECT 1;"},
        {"prepare p as select 1", "!42P05;"},
        {"deallocate p; execute p(1)", "DEALLOCATE;!26000;"},
        {"prepare l(int, int) as select g from generate_series(1, 5) g order by g limit $1 "
         "offset $2", "PREPARE;"},
        {"execute l(2, 1)", "2;3;SELECT 2;"},
        {"execute l(-1, 1)", "!2201W;"},
        {"prepare n(int, smallint) as select sum(g) over (order by g rows $1 preceding), "
         "lag(g, $2) over (order by g) from generate_series(1, 2) g", "PREPARE;"},
    };
    CONVERSE(lines);
}

static void test_changes(void)
{
    static const struct line lines[] = {
        {"create table once (a int)", "CREATE TABLE;"},
        {"1+insert into once values (1), (1), (1) returning a", "1;1;1;INSERT 0 3;"},
        {"1+update once set a = 2 returning a", "2;2;2;UPDATE 3;"},
        {"1+select * from once", "2;2;2;SELECT 2;"},
        {"drop table once", "DROP TABLE;"},
        {"create table t (a int not null, b text default 'd')", "CREATE TABLE;"},
        {"create table t (a int)", "!42P07;"},
        {"create table if not exists t (a int)", "CREATE TABLE;"},
        {"insert into t values (1, 'x'), (2, null)", "INSERT 0 2;"},
        {"insert into t (a) values (3) returning *", "3|d;INSERT 0 1;"},
        {"insert into t values (null, 'n')", "!23502;"},
        {"select * from t order by a", "1|x;2|~;3|d;SELECT 3;"},
        {"update t set b = 'y' where a >= 2", "UPDATE 2;"},
        {"delete from t where a = 1", "DELETE 1;"},
        {"select * from t order by a", "2|y;3|y;SELECT 2;"},
        {"insert into t select a + 10, b from t", "INSERT 0 2;"},
        {"COPY t FROM STDIN|20\tc\n21\t\\N\n", "COPY 2;"},
        {"COPY t FROM STDIN|oops\tc\n", "!22P02;"},
        {"COPY t FROM STDIN|1\n", "!22P04;"},
        {"select count(*), count(b), max(a) from t", "6|5|21;SELECT 1;"},
        {"delete from t", "DELETE 6;"},
        {"select count(*) from t", "0;SELECT 1;"},
    };
    CONVERSE(lines);
}

static void test_transactions(void)
{
    static const struct line lines[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"begin; insert into t values (1)", "BEGIN;INSERT 0 1;"},
        {"insert into t values (2)", "INSERT 0 1;"},
        {"select * from t", "!25001;"},
        {"select 1", "!25P02;"},
        {"commit", "ROLLBACK;"},
        {"select count(*) from t", "0;SELECT 1;"},
        {"begin; insert into t values (1); insert into t values (2); commit",
         "BEGIN;INSERT 0 1;INSERT 0 1;COMMIT;"},
        {"begin; select count(*) from t", "BEGIN;2;SELECT 1;"},
        {"insert into t values (3)", "!25006;"},
        {"rollback", "ROLLBACK;"},
        {"begin; create table u (a int)", "BEGIN;!25001;"},
        {"rollback", "ROLLBACK;"},
        {"begin; update t set a = 1", "BEGIN;!25001;"},
        {"rollback", "ROLLBACK;"},
        {"insert into t values (3); select count(*) from t", "INSERT 0 1;3;SELECT 1;"},
        {"insert into t values (4); select 1/0", "INSERT 0 1;!22012;"},
        {"select count(*) from t", "4;SELECT 1;"},
        {"commit", "COMMIT;"},
        {"begin; declare c cursor for select a from t order by a; fetch 2 c; fetch all c; commit",
         "BEGIN;DECLARE CURSOR;1;2;FETCH 2;3;4;FETCH 2;COMMIT;"},
        {"declare c cursor for select 1", "!25P01;"},
        {"fetch c", "!34000;"},
    };
    CONVERSE(lines);
}

static void test_definitions(void)
{
    static const struct line lines[] = {
        {"create table t (a int, b text)", "CREATE TABLE;"},
        {"create view v as select a from t", "CREATE VIEW;"},
        {"create materialized view m as select b, count(*) as n from t group by b",
         "CREATE MATERIALIZED VIEW;"},
        {"create index on t (a)", "CREATE INDEX;"},
        {"insert into t values (1, 'x'), (2, 'x'), (3, 'y')", "INSERT 0 3;"},
        {"select * from m order by b", "x|2;y|1;SELECT 2;"},
        {"select b from t where a = 3", "y;SELECT 1;"},
        {"delete from t where b = 'y'", "DELETE 1;"},
        {"select * from m order by b", "x|2;SELECT 1;"},
        {"drop table t", "!2BP01;"},
        {"drop view t", "!42809;"},
        {"drop view if exists nope", "DROP VIEW;"},
        {"drop view nope", "!42P01;"},
        {"create or replace view v as select b from t", "CREATE VIEW;"},
        {"select * from v order by 1", "x;x;SELECT 2;"},
        {"drop table t cascade", "DROP TABLE;"},
        {"select count(*) from mz_catalog.mz_objects where id like 'u%'", "0;SELECT 1;"},
        {"create cluster c (size 'huge')", "!22023;"},
        {"create cluster c (size '2-2', replication factor 2)", "CREATE CLUSTER;"},
        {"create materialized view m in cluster c as select 1 as one", "CREATE MATERIALIZED VIEW;"},
        {"drop cluster c", "!2BP01;"},
        {"drop cluster c cascade", "DROP CLUSTER;"},
        {"create schema s; create table s.t (a int); drop schema s", "CREATE SCHEMA;CREATE TABLE;"
                                                                     "!2BP01;"},
        {"drop schema s cascade; drop schema s", "DROP SCHEMA;!3F000;"},
        {"drop database tailrace", "!55006;"},
    };
    CONVERSE(lines);
}

static void refuse_early(struct talk *t)
{
    local_controller_refuse(t->controller, 3, NULL);
}

static void refuse_all(struct talk *t)
{
    local_controller_refuse(t->controller, 0, "53100");
}

/* Appends refused as too early are tried again; other failures are told, and change nothing. */
static void test_refused_appends(void)
{
    static const struct line early[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"insert into t values (1)", "INSERT 0 1;"},
        {"select * from t", "1;SELECT 1;"},
    };
    talk_converse(early, ARRAY_LEN(early), refuse_early);
    static const struct line full[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"insert into t values (1)", "!53100;"},
        {"begin; insert into t values (1)", "BEGIN;INSERT 0 1;"},
        {"commit", "!53100;"},
        {"select count(*) from t", "0;SELECT 1;"},
    };
    talk_converse(full, ARRAY_LEN(full), refuse_all);
}

/*
 * Nobody asks anything for most of twenty seconds: tables advance ten times a second, not two
 * hundred times; they still advance. A busy environment does so every 5 ms.
 */
static void test_idle(void)
{
    static const struct line lines[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"insert into t values (1)", "INSERT 0 1;"},
        {"select * from t", "1;SELECT 1;"},
    };
    struct talk idle = {.lines = lines, .lines_len = ARRAY_LEN(lines)};
    talk_run(&idle);
    CU_ASSERT(idle.advances > 150 && idle.advances < 300);
    struct line busy_lines[500];
    busy_lines[0] = lines[0];
    for (size_t i = 1; i < ARRAY_LEN(busy_lines); i++) {
        busy_lines[i] = (struct line){"select * from t", "SELECT 0;"};
    }
    struct talk busy = {.lines = busy_lines, .lines_len = ARRAY_LEN(busy_lines),
                        .run_us = 2 * 1000 * 1000};
    talk_run(&busy);
    CU_ASSERT(busy.advances > 50);
}

static const struct test_case cases[] = {
    {"idle", test_idle},
    {"queries", test_queries},
    {"changes", test_changes},
    {"transactions", test_transactions},
    {"definitions", test_definitions},
    {"refused appends", test_refused_appends},
};
TEST_SUITE("coord/session", cases)
