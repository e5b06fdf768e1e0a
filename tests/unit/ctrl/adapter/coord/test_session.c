/*
 * Sessions from bytes to bytes: the real protocol, planner, catalog, oracle and engine in the
 * simulator, the controllers replaced by local_controller. Each case is a conversation.
 */
#include "core/base/assert.h"
#include "ctrl/adapter/coord/coord.h"
#include "tests/unit/ctrl/adapter/coord/local_controller.h"
#include "tests/unit/ctrl/adapter/memory_stream.h"
#include "tests/unit/harness.h"

#include <stdio.h>

/* A simple query and its answer in short: rows "a|b", NULL as ~, tags, "!SQLSTATE"; each ends in
 * ";", notices and everything else are left out. */
struct line {
    const char *query;
    const char *answer;
};

struct talk {
    const struct line *lines;
    size_t lines_len;
    size_t at;
    bool asked;
    struct io_loop *loop;
    struct catalog *catalog;
    struct oracle *oracle;
    struct controller *controller;
    struct coord *coord;
    struct pgwire_server *server;
    struct memory_stream *stream;
    struct io_timer timer;
    size_t read; /* of the stream's output */
    uint32_t advances; /* of all tables, in the end */
    void (*before)(struct talk *t);
};

static uint32_t u32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void summarise_row(const uint8_t *p, struct buf *out)
{
    uint32_t n = (uint32_t)p[0] << 8 | p[1];
    p += 2;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len = u32_at(p);
        p += 4;
        buf_append_str(out, i > 0 ? "|" : "");
        if (len == UINT32_MAX) {
            buf_append_str(out, "~");
        } else {
            buf_append(out, p, len);
            p += len;
        }
    }
    buf_append_str(out, ";");
}

/* True when the answer to the last request is complete; it is appended to out in short. */
static bool take_answer(struct talk *t, struct buf *out)
{
    const struct buf *in = &t->stream->out;
    size_t at = t->read;
    while (at + 5 <= in->len) {
        const uint8_t *p = in->data + at;
        uint32_t len = u32_at(p + 1);
        at += 1 + len;
        if (p[0] == 'D') {
            summarise_row(p + 5, out);
        } else if (p[0] == 'C') {
            buf_printf(out, "%s;", (const char *)p + 5);
        } else if (p[0] == 'E') {
            const char *code = memmem(p, len, "\0C", 2);
            buf_printf(out, "!%.5s;", code + 2);
        } else if (p[0] == 'Z') {
            t->read = at;
            return true;
        }
    }
    return false;
}

static void send_message(struct talk *t, char type, const char *body, size_t len)
{
    struct buf b = {0};
    if (type != 0) {
        buf_append_byte(&b, (uint8_t)type);
    }
    uint8_t n[4] = {(uint8_t)((len + 4) >> 24), (uint8_t)((len + 4) >> 16),
                    (uint8_t)((len + 4) >> 8), (uint8_t)(len + 4)};
    buf_append(&b, n, 4);
    buf_append(&b, body, len);
    memory_stream_feed(t->stream, b.data, b.len);
    buf_free(&b);
}

/* "COPY ..." in a query's text is followed by its data behind a bar. */
static void ask(struct talk *t, const char *query)
{
    const char *data = strncmp(query, "COPY", 4) == 0 ? strchr(query, '|') : NULL;
    char *text = data != NULL ? mem_strndup(query, (size_t)(data - query)) : mem_strdup(query);
    send_message(t, 'Q', text, strlen(text) + 1);
    free(text);
    if (data != NULL) {
        send_message(t, 'd', data + 1, strlen(data + 1));
        send_message(t, 'c', "", 0);
    }
}

static void on_tick(struct io_timer *timer)
{
    struct talk *t = CONTAINER_OF(timer, struct talk, timer);
    struct buf answer = {0};
    if (t->asked && take_answer(t, &answer)) {
        const struct line *line = &t->lines[t->at];
        CU_ASSERT_STRING_EQUAL(buf_cstr(&answer), line->answer);
        if (strcmp(buf_cstr(&answer), line->answer) != 0) {
            printf("[%s]: [%s], want [%s]\n", line->query, buf_cstr(&answer), line->answer);
        }
        t->asked = false;
        t->at++;
    }
    if (!t->asked && t->at < t->lines_len) {
        t->asked = true;
        ask(t, t->lines[t->at].query);
    }
    buf_free(&answer);
    io_timer_start(t->loop, timer, io_now_us(t->loop) + 500);
}

static void begin(struct io_loop *loop, void *arg)
{
    static const struct coord_size sizes[] = {{"1", 1, 1}, {"2-2", 2, 2}};
    struct talk *t = arg;
    t->loop = loop;
    const struct catalog_config catalog = {.loop = loop, .directory = "data/catalog"};
    err_t err = catalog_open(&catalog, &t->catalog);
    CU_ASSERT_PTR_NULL_FATAL(err);
    err = oracle_open(loop, "data/catalog/oracle", catalog_epoch(t->catalog), &t->oracle);
    CU_ASSERT_PTR_NULL_FATAL(err);
    const struct coord_config config = {.loop = loop,
                                        .catalog = t->catalog,
                                        .oracle = t->oracle,
                                        .sizes = sizes,
                                        .sizes_len = ARRAY_LEN(sizes)};
    err = coord_new(&config, &t->coord);
    CU_ASSERT_PTR_NULL_FATAL(err);
    t->controller = local_controller_new(loop);
    coord_start(t->coord, t->controller);
    const struct pgwire_config wire = {
        .loop = loop, .backend = &coord_pgwire_backend, .ctx = t->coord};
    err = pgwire_server_new(&wire, &t->server);
    CU_ASSERT_PTR_NULL_FATAL(err);
    t->stream = memory_stream_new(loop);
    pgwire_server_accept(t->server, &t->stream->base);
    static const char startup[] = "\0\3\0\0user\0tailrace\0database\0tailrace\0";
    send_message(t, 0, startup, sizeof(startup));
    struct buf greeting = {0};
    bool open = take_answer(t, &greeting);
    CU_ASSERT_TRUE(open && greeting.len == 0);
    buf_free(&greeting);
    if (t->before != NULL) {
        t->before(t);
    }
    t->timer.fire = on_tick;
    io_timer_start(loop, &t->timer, io_now_us(loop));
}

static void end(void *arg)
{
    struct talk *t = arg;
    CU_ASSERT_EQUAL(t->at, t->lines_len); /* nothing hangs */
    t->advances = local_controller_advances(t->controller);
    io_timer_cancel(t->loop, &t->timer);
    pgwire_server_free(t->server);
    coord_free(t->coord);
    controller_free(t->controller);
    oracle_free(t->oracle);
    catalog_close(t->catalog);
    memory_stream_free(t->stream);
}

static void converse(const struct line *lines, size_t lines_len, void (*before)(struct talk *t))
{
    struct talk t = {.lines = lines, .lines_len = lines_len, .before = before};
    run_in_sim(begin, end, &t, 20 * 1000 * 1000);
}
#define CONVERSE(lines) converse(lines, ARRAY_LEN(lines), NULL)

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
        {"set statement_timeout = '5s'; show statement_timeout", "SET;5s;SHOW;"},
        {"set nonsense = 1", "!42704;"},
        {"reset statement_timeout; show statement_timeout", "RESET;60s;SHOW;"},
        {"prepare p as select $1::int4 + 1", "PREPARE;"},
        {"execute p(41)", "42;SELECT 1;"},
        {"prepare p as select 1", "!42P05;"},
        {"deallocate p; execute p(1)", "DEALLOCATE;!26000;"},
    };
    CONVERSE(lines);
}

static void test_changes(void)
{
    static const struct line lines[] = {
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
    converse(early, ARRAY_LEN(early), refuse_early);
    static const struct line full[] = {
        {"create table t (a int)", "CREATE TABLE;"},
        {"insert into t values (1)", "!53100;"},
        {"begin; insert into t values (1)", "BEGIN;INSERT 0 1;"},
        {"commit", "!53100;"},
        {"select count(*) from t", "0;SELECT 1;"},
    };
    converse(full, ARRAY_LEN(full), refuse_all);
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
    run_in_sim(begin, end, &idle, 20 * 1000 * 1000);
    CU_ASSERT(idle.advances > 150 && idle.advances < 300);
    struct line busy_lines[500];
    busy_lines[0] = lines[0];
    for (size_t i = 1; i < ARRAY_LEN(busy_lines); i++) {
        busy_lines[i] = (struct line){"select * from t", "SELECT 0;"};
    }
    struct talk busy = {.lines = busy_lines, .lines_len = ARRAY_LEN(busy_lines)};
    run_in_sim(begin, end, &busy, 2 * 1000 * 1000);
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
