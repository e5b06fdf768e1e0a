/*
 * The same statements here and in a real PostgreSQL 15: same rows, or the same error (SQLSTATE,
 * message, position). Handwritten ones from oracle.sql and random ones over small tables. Plans
 * run in one engine in this process.
 */
#include "tests/unit/ctrl/adapter/sql/pg.h"
#include "tests/unit/ctrl/adapter/sql/random.h"
#include "tests/unit/ctrl/adapter/sql/world.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static const char setup[] =
    "create table t (a int, b text, c numeric);"
    "create table s (x int not null, y int);"
    "create table u (a int, d text);"
    "create table w (k bigint, v smallint);"
    "create table edge (a int, b int);"
    "create table x (d1 date, ts timestamp, f float8, i2 smallint, flag bool, j jsonb);"
    "insert into t values (1, 'one', 1.50), (2, 'two', 2.25), (3, null, null), (2, 'deux', 7),"
    " (null, 'nil', 0), (2, 'two', 2.25);"
    "insert into s values (1, 10), (2, 20), (2, null), (5, 50), (2, 20);"
    "insert into u values (2, 'two'), (3, 'three'), (7, null), (null, 'nil'), (2, 'deux');"
    "insert into w values (1, 2), (2, 2), (3, null), (10000000000, 7);"
    "insert into x values ('2020-02-29', '2020-02-29 12:30:00', 1.5, 3, true, '{\"a\": 1}'),"
    " ('2019-12-31', '2020-01-01 00:00:00', -0.25, null, false, '{\"a\": \"x\", \"b\": null}'),"
    " (null, null, null, -7, null, null);"
    "insert into edge values (1, 2), (2, 3), (3, 1), (2, 4), (4, 5), (5, 5), (6, 7), (null, 1),"
    " (4, null), (1, 2);"
    "create view v as select a, b from t where a > 1;"
    "create view agg_view as select a, sum(c) as total from t group by a;"
    "create view v2 (a, n) as select v.a, count(*) from v left join s on v.a = s.x group by v.a;";

struct oracle {
    struct pg *pg;
    struct world *world;
    uint32_t ran, differ, unsupported;
};

/* Statements we knowingly refuse with 0A000 while PostgreSQL answers. */
static bool refused(err_t err)
{
    return err != ERR_OK && strcmp(err_sqlstate(err), "0A000") == 0;
}

static void report(struct oracle *o, const char *sql, const char *what)
{
    o->differ++;
    fprintf(stderr, "differs: %s\n  %s\n", sql, what);
}

static void compare_errors(struct oracle *o, const char *sql, err_t err, const struct pg_result *r)
{
    char what[1024];
    const char *state = err == ERR_OK ? "00000" : err_sqlstate(err);
    const char *message = err == ERR_OK ? "" : err_message(err);
    int position = err == ERR_OK ? 0 : err_position_get(err);
    const char *theirs = r->sqlstate[0] == '\0' ? "00000" : r->sqlstate;
    bool same =
        strcmp(state, theirs) == 0 && strcmp(message, r->message) == 0 && position == r->position;
    if (!same) {
        snprintf(what, sizeof(what), "ours %s %s @%d, PostgreSQL %s %s @%d", state, message,
                 position, theirs, r->message, r->position);
        report(o, sql, what);
    }
}

static void compare_rows(struct oracle *o, const char *sql, struct world_result *ours,
                         struct pg_result *theirs)
{
    char what[512];
    if (ours->names != NULL && strcmp(ours->names, theirs->names) != 0) {
        snprintf(what, sizeof(what), "columns: ours %s, PostgreSQL %s", ours->names, theirs->names);
        report(o, sql, what);
    }
    if (!ours->ordered) {
        world_result_sort(ours);
        pg_result_sort(theirs);
    }
    size_t n = ours->rows_len < theirs->rows_len ? ours->rows_len : theirs->rows_len;
    size_t i = 0;
    while (i < n && strcmp(ours->rows[i], theirs->rows[i]) == 0) {
        i++;
    }
    if (i == n && ours->rows_len == theirs->rows_len) {
        return;
    }
    snprintf(what, sizeof(what), "row %zu: ours \"%s\" (%zu rows), PostgreSQL \"%s\" (%zu rows)", i,
             i < ours->rows_len ? ours->rows[i] : "-", ours->rows_len,
             i < theirs->rows_len ? theirs->rows[i] : "-", theirs->rows_len);
    report(o, sql, what);
}

static void run(struct oracle *o, const char *sql)
{
    struct world_result ours = {0};
    struct pg_result theirs = {0};
    err_t err = world_query(o->world, sql, &ours);
    pg_query(o->pg, sql, &theirs);
    if (strcmp(theirs.sqlstate, "57014") == 0) {
        err_free(err); /* PostgreSQL takes too long */
        world_result_free(&ours);
        pg_result_free(&theirs);
        return;
    }
    o->ran++;
    if (refused(err) && theirs.sqlstate[0] == '\0') {
        o->unsupported++;
        if (getenv("TEST_VERBOSE") != NULL) {
            fprintf(stderr, "refused: %s\n  %s\n", sql, err_message(err));
        }
    } else if (err != ERR_OK || theirs.sqlstate[0] != '\0') {
        compare_errors(o, sql, err, &theirs);
    } else {
        compare_rows(o, sql, &ours, &theirs);
    }
    err_free(err);
    world_result_free(&ours);
    pg_result_free(&theirs);
}

/* Every join and peek that can read one does. */
static const char indexes[] =
    "create index on t (a); create index on t (a, b); create index on s (x); create index on s (y);"
    "create index on u (a); create index on u (d); create index on w (v); create index on v (a);"
    "create index on agg_view (a);";

static bool oracle_open(struct oracle *o)
{
    *o = (struct oracle){.pg = pg_start()};
    if (o->pg == NULL) {
        CU_ASSERT_FALSE(pg_available()); /* one that does not start is a failure */
        printf("skipped: no PostgreSQL 15 on this machine\n");
        return false;
    }
    o->world = world_new();
    struct pg_result r = {0};
    pg_query(o->pg, setup, &r);
    CU_ASSERT_STRING_EQUAL(r.sqlstate, "");
    pg_result_free(&r);
    err_t err = world_exec(o->world, setup);
    CU_ASSERT_PTR_NULL(err);
    if (err != ERR_OK) {
        fprintf(stderr, "setup: %s\n", err_text(err));
        err_free(err);
    }
    return true;
}

static void oracle_close(struct oracle *o)
{
    printf("%u statements, %u differ, %u refused as unsupported\n", o->ran, o->differ,
           o->unsupported);
    world_free(o->world);
    pg_stop(o->pg);
}

/* Every line of a file; how many statements may be refused as unsupported. */
static void run_file(const char *path, uint32_t ran, uint32_t unsupported)
{
    struct oracle o;
    if (!oracle_open(&o)) {
        return;
    }
    FILE *f = fopen(path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    while ((len = getline(&line, &cap, f)) > 0) {
        line[len - 1] = line[len - 1] == '\n' ? '\0' : line[len - 1];
        if (line[0] != '\0') {
            run(&o, line);
        }
    }
    free(line);
    fclose(f);
    CU_ASSERT_EQUAL(o.differ, 0);
    CU_ASSERT(o.ran > ran);
    CU_ASSERT(o.unsupported <= unsupported);
    oracle_close(&o);
}

static void handwritten(void)
{
    run_file("tests/unit/ctrl/adapter/sql/oracle.sql", 300, 12);
}

static void recursion(void)
{
    run_file("tests/unit/ctrl/adapter/sql/recursion.sql", 50, 1);
}

/* Walks over a graph of random edges: reachability by rows or as a set, in both directions. */
static void random_walks(void)
{
    static const char *const seeds[] = {"select a, b, 0 from g",
                                        "select a, a, 0 from g where a < 2",
                                        "values (1, 2, 0), (2, 3, 0)",
                                        "select max(a), min(b), 0 from g"};
    static const char *const steps[] = {
        "select r.x, g.b, r.d + 1 from r join g on r.y = g.a where r.d < %d",
        "select g.a, r.y, r.d + 1 from g, r where g.b = r.x and r.d < %d",
        "select r.y, r.x, r.d + 1 from r where r.d < %d and exists (select 1 from g where a = r.x)",
        "select distinct g.a, r.y, r.d + 1 from r, g where r.y = g.a and r.d < %d",
        "select r.x, g.b, r.d + 1 from r left join g on r.y = g.a and g.b <> r.x where r.d < %d"};
    static const char *const ends[] = {"select x, y, d from r",
                                       "select d, count(*), sum(y) from r group by d",
                                       "select r.x, g.b from r join g on r.y = g.a where r.d = 2",
                                       "select x from r where y not in (select a from g)"};
    struct oracle o;
    if (!oracle_open(&o)) {
        return;
    }
    uint64_t state = 7;
    uint32_t walks = (uint32_t)test_scaled(120) + 20;
    for (uint32_t i = 0; i < walks; i++) {
        char sql[1024], graph[256], step[256];
        int at = 0;
        uint32_t n[14];
        for (size_t k = 0; k < ARRAY_LEN(n); k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            n[k] = (uint32_t)(state >> 40);
        }
        for (size_t k = 0; k < 5; k++) {
            at += snprintf(graph + at, sizeof(graph) - (size_t)at, "%s(%u, %u)", k > 0 ? ", " : "",
                           n[2 * k] % 5, n[2 * k + 1] % 5);
        }
        bool all = n[10] % 2 == 0;
        uint32_t which = n[11] % (all ? 3 : ARRAY_LEN(steps));
        snprintf(step, sizeof(step), steps[which], (int)(n[12] % 4) + 1);
        snprintf(sql, sizeof(sql),
                 "with recursive g (a, b) as (values %s), r (x, y, d) as (%s union %s%s) %s", graph,
                 seeds[n[12] % ARRAY_LEN(seeds)], all ? "all " : "", step,
                 ends[n[13] % ARRAY_LEN(ends)]);
        run(&o, sql);
    }
    CU_ASSERT_EQUAL(o.differ, 0);
    CU_ASSERT_EQUAL(o.unsupported, 0);
    oracle_close(&o);
}

static void randomised(void)
{
    struct oracle o;
    if (!oracle_open(&o)) {
        return;
    }
    const char *seed = getenv("TEST_SEED");
    struct random_sql gen = {.state = seed != NULL ? strtoull(seed, NULL, 10) : 1};
    int queries = (int)test_scaled(500);
    for (int i = 0; i < queries; i++) {
        char *sql = random_query(&gen);
        if (getenv("TEST_VERBOSE") != NULL) {
            fprintf(stderr, "%d: %s\n", i, sql);
        }
        run(&o, sql);
        free(sql);
    }
    CU_ASSERT_EQUAL(o.differ, 0);
    CU_ASSERT(o.unsupported <= (uint32_t)queries / 10);
    oracle_close(&o);
}

/* Joins of several inputs over indexes; some of the predicates are no keys. */
static const char *const joins[] = {
    "select * from t join s on t.a = s.x",
    "select t.b, s.y from t join s on t.a = s.x where t.c > 1 and s.y is not null",
    "select * from t join s on t.a = s.y",
    "select * from t, s, u where t.a = s.x and u.a = s.x",
    "select t.b, u.d from t, s, u where t.a = s.x and u.a = s.x and t.b = u.d",
    "select count(*) from t, s, u where t.a = s.x and u.a = t.a",
    "select * from t, s, u where t.a = s.x and u.d = t.b",
    "select * from t, u, t t2, u u2 where t.b = u.d and u.a = t2.a and t2.b = u2.d",
    "select * from t a join t b on a.a = b.a join t c on b.b = c.b where a.c < c.c",
    "select x.a, y.a from u x join u y on x.d = y.d and x.a = y.a",
    "select * from v join s on v.a = s.x join u on u.a = v.a",
    "select agg_view.total, s.y from agg_view join s on agg_view.a = s.x where total > 2",
    "select t.a, (select count(*) from s join u on s.x = u.a where s.x = t.a) from t",
    "select * from t left join (select s.x, u.d from s join u on s.x = u.a) j on j.x = t.a",
    "select a, count(*) from t join s on t.a = s.x group by a having count(*) > 1",
    "select * from t where exists (select 1 from s join u on u.a = s.x where s.x = t.a)",
    "select t.a, s.y, u.d from t join s on t.a = s.x join u on u.a = s.x and u.d = 'two'",
    "select * from t join s on t.a = s.x and t.a = s.y / 10",
    "select * from w join t on t.a = w.v join s on s.x = w.v",
    "select * from w join t on t.a = w.k join s on s.x = t.a",
    "select distinct s.x from s, t, u where s.x = t.a and s.x = u.a and t.b = u.d",
    "select * from s, t, u where s.x = t.a and s.x = u.a and s.y = 20",
    "select * from (select a + 1 as a1, b from t) q join s on q.a1 = s.x join u on u.a = s.x",
    "select s.x / (u.a - 2) from s join u on s.x = u.a where u.a <> 2",
};

static void indexed(void)
{
    struct oracle o;
    if (!oracle_open(&o)) {
        return;
    }
    for (int with = 0; with < 2; with++) {
        for (size_t i = 0; i < ARRAY_LEN(joins); i++) {
            run(&o, joins[i]);
        }
        if (with == 0) {
            CU_ASSERT_PTR_NULL_FATAL(world_exec(o.world, indexes));
        }
    }
    struct random_sql gen = {.state = 17};
    for (uint64_t i = test_scaled(300); i > 0; i--) {
        char *sql = random_query(&gen);
        run(&o, sql);
        free(sql);
    }
    CU_ASSERT_EQUAL(o.differ, 0);
    oracle_close(&o);
}

static const struct test_case cases[] = {{"handwritten", handwritten},
                                         {"recursion", recursion},
                                         {"random walks", random_walks},
                                         {"randomised", randomised},
                                         {"indexed", indexed}};
TEST_SUITE("ctrl/adapter/sql oracle", cases)
