/* Scripts, our own statements, error positions, hostile input. */
#include "ctrl/adapter/sql/sql.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static struct sql_script *parse(const char *text)
{
    struct sql_script *script = NULL;
    err_t err = sql_parse(text, strlen(text), &script);
    if (err != ERR_OK) {
        fprintf(stderr, "%s: %s\n", text, err_text(err));
        err_free(err);
    }
    CU_ASSERT_PTR_NOT_NULL_FATAL(script);
    return script;
}

static void fails(const char *text, const char *sqlstate, int position)
{
    struct sql_script *script = NULL;
    err_t err = sql_parse(text, strlen(text), &script);
    CU_ASSERT_PTR_NULL(script);
    if (err == ERR_OK) {
        fprintf(stderr, "no error: %s\n", text);
        sql_script_free(script);
        CU_FAIL("no error");
        return;
    }
    bool same = strcmp(err_sqlstate(err), sqlstate) == 0 && err_position_get(err) == position;
    if (!same) {
        fprintf(stderr, "%s: %s %s @%d\n", text, err_sqlstate(err), err_text(err),
                err_position_get(err));
    }
    CU_ASSERT_TRUE(same);
    err_free(err);
}

static const struct {
    const char *text;
    uint8_t kind;
    const char *tag;
    bool rows;
} statements[] = {
    {"select 1", SQL_SELECT, "SELECT", true},
    {"values (1)", SQL_SELECT, "SELECT", true},
    {"table t", SQL_SELECT, "SELECT", true},
    {"with q as (select 1) select * from q", SQL_SELECT, "SELECT", true},
    {"(select 1) union (select 2)", SQL_SELECT, "SELECT", true},
    {"insert into t values (1)", SQL_INSERT, "INSERT 0", false},
    {"insert into t values (1) returning a", SQL_INSERT, "INSERT 0", true},
    {"update t set a = 1", SQL_UPDATE, "UPDATE", false},
    {"delete from t", SQL_DELETE, "DELETE", false},
    {"truncate t", SQL_TRUNCATE, "TRUNCATE TABLE", false},
    {"copy t (a) from stdin csv header", SQL_COPY_FROM, "COPY", false},
    {"copy (select 1) to stdout", SQL_COPY_TO, "COPY", false},
    {"copy (subscribe t) to stdout", SQL_COPY_TO, "COPY", false},
    {"subscribe t", SQL_SUBSCRIBE, "SUBSCRIBE", true},
    {"explain select 1", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain physical plan for select 1", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain optimized plan for view v", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain materialized view v", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain index i", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain analyze select 1", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain (analyze off, verbose) select 1", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain analyze index i", SQL_EXPLAIN, "EXPLAIN", true},
    {"explain analyze for materialized view a.b", SQL_EXPLAIN, "EXPLAIN", true},
    {"show tables", SQL_SHOW_OBJECTS, "SHOW", true},
    {"show cluster replicas", SQL_SHOW_OBJECTS, "SHOW", true},
    {"show cluster", SQL_SHOW, "SHOW", true},
    {"show create materialized view v", SQL_SHOW_CREATE, "SHOW", true},
    {"show columns from s.t like 'a%'", SQL_SHOW_OBJECTS, "SHOW", true},
    {"show search_path", SQL_SHOW, "SHOW", true},
    {"set cluster = quick", SQL_SET, "SET", false},
    {"reset all", SQL_SET, "RESET", false},
    {"discard all", SQL_DISCARD, "DISCARD", false},
    {"begin", SQL_BEGIN, "BEGIN", false},
    {"commit", SQL_COMMIT, "COMMIT", false},
    {"rollback", SQL_ROLLBACK, "ROLLBACK", false},
    {"declare c cursor for select 1", SQL_DECLARE, "DECLARE CURSOR", false},
    {"declare c cursor for subscribe t", SQL_DECLARE, "DECLARE CURSOR", false},
    {"fetch 10 from c", SQL_FETCH, "FETCH", true},
    {"fetch all c with (timeout = '1s')", SQL_FETCH, "FETCH", true},
    {"close c", SQL_CLOSE, "CLOSE CURSOR", false},
    {"prepare p (int) as select $1", SQL_PREPARE, "PREPARE", false},
    {"execute p (1)", SQL_EXECUTE, "EXECUTE", true},
    {"deallocate p", SQL_DEALLOCATE, "DEALLOCATE", false},
    {"create table t (a int)", SQL_CREATE_TABLE, "CREATE TABLE", false},
    {"create source s from file '/x' (format json)", SQL_CREATE_SOURCE, "CREATE SOURCE", false},
    {"create view v as select 1", SQL_CREATE_VIEW, "CREATE VIEW", false},
    {"create materialized view v as select 1", SQL_CREATE_MATERIALIZED_VIEW,
     "CREATE MATERIALIZED VIEW", false},
    {"create materialized view v in cluster c as select 1", SQL_CREATE_MATERIALIZED_VIEW,
     "CREATE MATERIALIZED VIEW", false},
    {"create index i on t (a)", SQL_CREATE_INDEX, "CREATE INDEX", false},
    {"create index i in cluster c on t (a)", SQL_CREATE_INDEX, "CREATE INDEX", false},
    {"create default index on t", SQL_CREATE_INDEX, "CREATE INDEX", false},
    {"create cluster c (size '2', replication factor 3)", SQL_CREATE_CLUSTER, "CREATE CLUSTER",
     false},
    {"create schema s", SQL_CREATE_SCHEMA, "CREATE SCHEMA", false},
    {"create database d", SQL_CREATE_DATABASE, "CREATE DATABASE", false},
    {"drop source if exists a, b.c cascade", SQL_DROP, "DROP SOURCE", false},
    {"drop table t", SQL_DROP, "DROP TABLE", false},
    {"comment on table t is 'x'", SQL_COMMENT, "COMMENT", false},
};

static void kinds(void)
{
    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        struct sql_script *script = parse(statements[i].text);
        CU_ASSERT_EQUAL_FATAL(script->stmts_len, 1);
        const struct sql_stmt *stmt = script->stmts[0];
        if (stmt->kind != statements[i].kind || strcmp(stmt->tag, statements[i].tag) != 0) {
            fprintf(stderr, "%s: kind %u tag %s\n", statements[i].text, stmt->kind, stmt->tag);
        }
        CU_ASSERT_EQUAL(stmt->kind, statements[i].kind);
        CU_ASSERT_STRING_EQUAL(stmt->tag, statements[i].tag);
        CU_ASSERT_EQUAL(stmt->returns_rows, statements[i].rows);
        sql_script_free(script);
    }
}

static void details(void)
{
    struct sql_script *s =
        parse("SUBSCRIBE TO (SELECT 1 AS of) WITH (SNAPSHOT = false, PROGRESS) AS OF 5 UP TO 9");
    CU_ASSERT_FALSE(s->stmts[0]->subscribe.snapshot);
    CU_ASSERT_TRUE(s->stmts[0]->subscribe.progress);
    sql_script_free(s);
    s = parse("fetch 5 c with (timeout = '1s')");
    CU_ASSERT_EQUAL(s->stmts[0]->cursor.count, 5);
    CU_ASSERT_STRING_EQUAL(s->stmts[0]->cursor.options.items[0].name, "timeout");
    CU_ASSERT_STRING_EQUAL(s->stmts[0]->cursor.options.items[0].value, "1s");
    sql_script_free(s);
    s = parse("copy t from stdin with (format csv, delimiter ';', null 'N', header)");
    CU_ASSERT_TRUE(s->stmts[0]->copy.csv && s->stmts[0]->copy.header);
    CU_ASSERT_EQUAL(s->stmts[0]->copy.delimiter, ';');
    CU_ASSERT_STRING_EQUAL(s->stmts[0]->copy.null, "N");
    sql_script_free(s);
    s = parse("prepare p (int, text) as select $1, $2, $3");
    CU_ASSERT_EQUAL(s->stmts[0]->prepare.types_len, 2);
    CU_ASSERT_EQUAL(s->stmts[0]->inner->params_len, 3);
    sql_script_free(s);
    s = parse("set datestyle to iso, mdy");
    CU_ASSERT_STRING_EQUAL(s->stmts[0]->variable.value, "iso, mdy");
    sql_script_free(s);
    s = parse("drop source a.b.\"C d\", e");
    CU_ASSERT_EQUAL(s->stmts[0]->drop.names_len, 2);
    CU_ASSERT_STRING_EQUAL(s->stmts[0]->drop.names[0].name, "C d");
    CU_ASSERT_STRING_EQUAL(s->stmts[0]->drop.names[0].database, "a");
    sql_script_free(s);
}

static void scripts(void)
{
    struct sql_script *s = parse(" ; select 1; -- c;\n select ';' ; /* ; /* ; */ */ show tables;;");
    CU_ASSERT_EQUAL(s->stmts_len, 3);
    CU_ASSERT_EQUAL(s->stmts[1]->kind, SQL_SELECT);
    CU_ASSERT_EQUAL(s->stmts[2]->kind, SQL_SHOW_OBJECTS);
    CU_ASSERT_EQUAL(memcmp(s->text + s->stmts[2]->start, "show tables", 11), 0);
    CU_ASSERT_EQUAL(s->stmts[2]->end - s->stmts[2]->start, 11);
    sql_script_free(s);
    s = parse("select $$a;b$$, $x$ $$ ; $x$, \"a;b\"");
    CU_ASSERT_EQUAL(s->stmts_len, 1);
    sql_script_free(s);
    s = parse("");
    CU_ASSERT_EQUAL(s->stmts_len, 0);
    sql_script_free(s);
    s = parse(" -- nothing\n /* at all */ ;");
    CU_ASSERT_EQUAL(s->stmts_len, 0);
    sql_script_free(s);
}

static void errors(void)
{
    fails("selec 1", "42601", 1);
    fails("select 1; select +", "42601", 19);
    fails("select 'ä'; selec", "42601", 13);
    fails("select 'abc", "42601", 8);
    fails("select /* abc", "42601", 8);
    fails("create source s", "42601", 16);
    fails("create source s from file 5", "42601", 27);
    fails("create source s from file '/x' (format xml)", "42601", 40);
    fails("create source s (a nosuch b c d) from file '/x' (format json)", "42601", 27);
    fails("create cluster", "42601", 15);
    fails("subscribe", "42601", 10);
    fails("subscribe t with (nosuch)", "22023", 19);
    fails("subscribe t with (snapshot = bananas)", "22023", 19);
    fails("copy t from stdin (header bananas)", "42601", 0);
    fails("subscribe (selec 1)", "42601", 12);
    fails("explain physical plan for selec 1", "42601", 27);
    fails("show columns", "42601", 13);
    fails("drop source", "42601", 12);
    fails("drop source a b", "42601", 15);
    fails("declare c cursor for subscribe", "42601", 31);
    fails("select $0", "42P02", 8);
    fails("select $99999999", "42P02", 8);
    fails("select \xff", "22021", 0);
    fails("create table t as select 1", "0A000", 0);
    fails("vacuum", "0A000", 0);
}

static void hostile(void)
{
    /* Deep nesting of every kind is refused before it can overflow a stack. */
    static const char *const pieces[][3] = {{"(", "1", ")"},
                                            {"(select ", "1", ")"},
                                            {"1+", "1", ""},
                                            {"not ", "true", ""},
                                            {"case when true then ", "1", " end"},
                                            {"- ", "1", ""},
                                            {"a.b::int::", "int", ""},
                                            {"(select 1 union ", "select 1", ")"}};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct buf text = {0};
        buf_append_str(&text, "select ");
        for (int n = 0; n < 20000; n++) {
            buf_append_str(&text, pieces[i][0]);
        }
        buf_append_str(&text, pieces[i][1]);
        for (int n = 0; n < 20000; n++) {
            buf_append_str(&text, pieces[i][2]);
        }
        struct sql_script *script = NULL;
        err_t err = sql_parse(buf_cstr(&text), text.len, &script);
        CU_ASSERT_PTR_NOT_NULL(err);
        err_free(err);
        sql_script_free(script);
        buf_free(&text);
    }
    /* Statements inside statements recurse in our own grammar. */
    static const char *const own[] = {"explain physical plan for ",
                                      "create materialized view v in cluster c as "};
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        struct buf text = {0};
        for (int n = 0; n < 20000; n++) {
            buf_append_str(&text, own[i]);
        }
        buf_append_str(&text, "select 1");
        struct sql_script *script = NULL;
        err_t err = sql_parse(buf_cstr(&text), text.len, &script);
        CU_ASSERT_STRING_EQUAL(err_sqlstate(err), "54001");
        err_free(err);
        sql_script_free(script);
        buf_free(&text);
    }
    /* The shortest text there can be before the time of AS OF. */
    fails("()as of'1'", "42601", 2);
    /* Long flat statements are not deep. */
    struct buf text = {0};
    buf_append_str(&text, "insert into t values (1)");
    for (int n = 0; n < 20000; n++) {
        buf_append_str(&text, ", (-1 + 2)");
    }
    struct sql_script *script = NULL;
    err_t err = sql_parse(buf_cstr(&text), text.len, &script);
    CU_ASSERT_PTR_NULL(err);
    sql_script_free(script);
    buf_free(&text);
}

static const struct test_case cases[] = {{"kinds", kinds},
                                         {"details", details},
                                         {"scripts", scripts},
                                         {"errors", errors},
                                         {"hostile", hostile}};
TEST_SUITE("ctrl/adapter/sql parse", cases)
