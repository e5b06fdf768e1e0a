/* What plans look like, what statements describe, what definitions resolve to, what writes do. */
#include "tests/unit/ctrl/adapter/sql/world.h"
#include "tests/unit/harness.h"

#include <stdio.h>

static void must(err_t err, const char *what)
{
    if (err != ERR_OK) {
        fprintf(stderr, "%s: %s %s\n", what, err_sqlstate(err), err_text(err));
        err_free(err);
        CU_FAIL("an error where none is expected");
    }
}

static struct world *small_world(void)
{
    struct world *w = world_new();
    must(world_exec(w, "create table t (a int, b text, c numeric(6,2) default 1.5);"
                       "create table s (x int not null, y int);"
                       "create view v as select a, count(*) as n from t group by a;"
                       "insert into t values (1, 'one', 2), (2, 'two', 3.456);"
                       "insert into s values (1, 10), (2, null)"),
         "setup");
    return w;
}

/* The lines of EXPLAIN must contain these pieces in this order. */
static void plan_has(struct world *w, const char *sql, const char *const *pieces)
{
    char *text = world_explain(w, sql);
    const char *at = text;
    for (size_t i = 0; pieces[i] != NULL; i++) {
        const char *found = strstr(at, pieces[i]);
        if (found == NULL) {
            fprintf(stderr, "%s: no \"%s\" in\n%s", sql, pieces[i], text);
            CU_FAIL("the plan differs");
            break;
        }
        at = found + strlen(pieces[i]);
    }
    free(text);
}

static void plan_lacks(struct world *w, const char *sql, const char *piece)
{
    char *text = world_explain(w, sql);
    if (strstr(text, piece) != NULL) {
        fprintf(stderr, "%s: \"%s\" in\n%s", sql, piece, text);
        CU_FAIL("the plan differs");
    }
    free(text);
}

#define PLAN(sql, ...) plan_has(w, sql, (const char *const[]){__VA_ARGS__, NULL})

static void shapes(void)
{
    struct world *w = small_world();
    PLAN("select 1", "Constant 1 rows");
    PLAN("select a + 1 from t where a > 1 and b = 'x'", "filter=(#0 > 1)", "map=#3", "Source");
    PLAN("select * from t join s on t.a = s.x where s.y = 5", "InnerJoin on=(#0 = #0)",
         "filter=(#1 = 5)");
    /* What cannot fail may be computed for every row, and so be a key. */
    PLAN("select * from t join s on t.a % 7 = s.x", "InnerJoin on=(#3 = #0)", "map=#3: (#0 % 7)");
    plan_lacks(w, "select * from t join s on t.a % 0 = s.x", "InnerJoin");
    plan_lacks(w, "select * from t join s on 7 / t.a = s.x", "InnerJoin");
    plan_lacks(w, "select * from t join s on t.a / -1 = s.x", "InnerJoin");
    /* A literal reaches both sides of an equality. */
    PLAN("select * from t join s on t.a = s.x where t.a = 5", "filter=(#0 = 5)", "filter=(#0 = 5)");
    PLAN("select a from t where exists (select 1 from s where x = a)", "SemiJoin on=(#0 = #0)");
    PLAN("select a from t where a not in (select x from s)", "AntiJoin");
    PLAN("select a from t where not exists (select 1 from s where x = a)", "AntiJoin on=(#0 = #0)");
    /* An outer join whose padding is rejected is an inner one. */
    PLAN("select * from t left join s on t.a = s.x where s.y > 1", "InnerJoin");
    plan_lacks(w, "select * from t left join s on t.a = s.x where s.y > 1", "LeftJoin");
    PLAN("select * from t left join s on t.a = s.x", "LeftJoin on=(#0 = #0)");
    PLAN("select a, sum(c) from t group by a", "Reduce group=(#0)", "sum(");
    PLAN("select * from (select * from t order by a limit 3) q", "TopK");
    PLAN("select a from t order by a limit 3", "Finish order by #0 limit 3");
    /* No columns that nobody needs. */
    PLAN("select count(*) from t join s on t.a = s.x", "project=(#0)");
    /* The common part is there once. */
    PLAN("select a from t where a > 1 union all select a + 1 from t where a > 1", "Union",
         "Source");
    PLAN("with q as (select a, count(*) as n from t group by a) select * from q q1 join q q2 on "
         "q1.a = q2.n",
         " = Reduce", "Get $");
    /* Known to be empty. */
    PLAN("select * from t where false", "Constant 0 rows");
    PLAN("select * from t where 1 = 2 and a > 0", "Constant 0 rows");
    PLAN("select * from t join s on true where null", "Constant 0 rows");
    /* No cross join where there is another way. */
    plan_lacks(w, "select 1 from t, s s1, s s2 where t.a = s2.x and s2.y = s1.x", "on=()");
    world_free(w);
}

static void flat_maps(void)
{
    struct world *w = small_world();
    /* On top of the left side: no join, and only what is read is kept. */
    PLAN("select t.b, g from t, generate_series(1, t.a) g where t.c > 0 and t.b = 'x'",
         "FlatMap generate_series(", "keep=(", "filter=");
    plan_lacks(w, "select t.b, g from t, generate_series(1, t.a) g", "Join");
    plan_lacks(w, "select t.b, g from t left join generate_series(1, t.a) g on true", "Join");
    plan_lacks(w, "select t.a, n from t, lateral (select t.a + 1) q (n)", "Join");
    PLAN("select t.b, g from t left join generate_series(1, t.a) g on true", " outer keep=");
    PLAN("select g from t, generate_series(1, t.a) g", "keep=()");
    PLAN("select g, n from t, generate_series(1, t.a) with ordinality u (g, n)", "with ordinality");
    plan_lacks(w, "select g from t, generate_series(1, t.a) with ordinality u (g, n)",
               "ordinality");
    PLAN("select a, generate_series(1, a), string_to_table(b, ',') from t",
         "FlatMap generate_series(", ", string_to_table(");
    /* Few rows of constants are known. */
    PLAN("select t.a from t join generate_series(1, 9) g on g = t.a where g > 8",
         "Constant rows=1 (9)");
    PLAN("select count(*) from generate_series(1, 1000000) g", "FlatMap generate_series(");
    /* Nor is what is little in number and long. */
    PLAN("select count(*) from regexp_matches(repeat('a', 4000), '(?=(.*))', 'g')",
         "FlatMap regexp_matches(");
    world_free(w);
}

static void windows(void)
{
    struct world *w = small_world();
    PLAN("select a, sum(c) over (partition by a order by b rows 2 preceding), rank() over "
         "(partition by a order by b) from t",
         "Window partition=(#0) order=(#1 asc nulls last) functions=(sum(#2) rows between 2 "
         "preceding and current row, rank())");
    /* Two windows, one above the other; only what is read. */
    PLAN("select a, n from (select a, row_number() over (order by a) as n, count(*) over (order by "
         "b) as m, lag(c) over (partition by b) as l from t) q where l > 0",
         "Window partition=(#1)", "functions=(lag(#2, 1))", "Window order=",
         "functions=(row_number())");
    plan_lacks(w,
               "select a, n from (select a, row_number() over (order by a) as n, count(*) over "
               "(order by b) as m from t) q",
               "count");
    /* The first rows are a top-k; where nobody reads the number there is no window. */
    PLAN("select a, b, n from (select a, b, row_number() over (partition by a order by c desc) as "
         "n from t) q where n <= 3 and b = 'x'",
         "Window partition=(#0)", "TopK group=(#0) order=(#2 desc nulls first) limit=3");
    PLAN("select a, b from (select a, b, row_number() over (partition by a order by c) as n from t)"
         " q where n < 3",
         "TopK group=(#0) order=(#2 asc nulls last) limit=2");
    plan_lacks(w,
               "select a, b from (select a, b, row_number() over (partition by a order by c) as n "
               "from t) q where n < 3",
               "Window");
    plan_lacks(w,
               "select a, n from (select a, row_number() over (partition by a order by c) as n, "
               "lead(b) over (partition by a order by c) as l from t) q where n < 3 and l > ''",
               "TopK");
    PLAN("select a from (select a, rank() over (partition by b order by a) as n from t) q "
         "where n <= 2",
         "TopK group=(#1) order=(#0 asc nulls last) limit=2 with ties");
    plan_lacks(w, "select a from (select a, rank() over (order by a) as n from t) q where n = 1",
               "Window");
    plan_lacks(w, "select * from (select rank() over () as n from t) q where n < 3", "TopK");
    plan_lacks(w, "select * from (select dense_rank() over (order by a) as n from t) q where n < 3",
               "TopK");
    /* What is about whole partitions goes below. */
    PLAN("select * from (select a, count(*) over (partition by a) as n from t) q where a = 5",
         "Window", "filter=(#0 = 5)");
    world_free(w);
}

#define TEMPORAL "create materialized view mv as select "

/* Conditions with mz_now() go where others go, and end as bounds; a query's are literals. */
static void temporal(void)
{
    struct world *w = small_world();
    must(world_exec(w, "create table e (k int, ts timestamptz, d date, n bigint)"), "setup");
    PLAN(TEMPORAL "k from e where mz_now() <= ts + interval '1 day' and k > 3",
         "Temporal filter mz_now() <= #1", "filter=(#0 > 3)");
    PLAN(TEMPORAL "* from e where n >= mz_now() and ts < mz_now()",
         "Temporal filter mz_now() <= #3 and mz_now() > #1", "Source");
    PLAN(TEMPORAL "k from e where mz_now() between d and d + 7",
         "Temporal filter mz_now() >= #1 and mz_now() <= #2");
    PLAN(TEMPORAL "k from e where not mz_now() < ts and mz_now()::timestamp = d::timestamp",
         "Temporal filter mz_now() >= #1 and mz_now() = #2");
    PLAN(TEMPORAL "k from e where mz_now() < '2030-01-01'", "Temporal filter mz_now() < #1");
    /* Below the join and the grouping; above the one whose result it is about. */
    PLAN(TEMPORAL "t.a from t join e on t.a = e.k where mz_now() < e.ts", "InnerJoin",
         "Temporal filter");
    PLAN(TEMPORAL "* from (select ts, count(*) from e group by ts) q where mz_now() < ts", "Reduce",
         "Temporal filter");
    PLAN(TEMPORAL "k from e group by k having max(ts) > mz_now()", "Temporal filter", "Reduce");
    PLAN(TEMPORAL "a from t where exists (select 1 from e where k = a and mz_now() < ts)",
         "SemiJoin", "Temporal filter");
    PLAN(TEMPORAL "a, k from t left join e on a = k and mz_now() < ts", "LeftJoin",
         "Temporal filter");
    PLAN("select k, mz_now() from e where mz_now() < ts or k = 1", " or (#0 = 1)");
    plan_lacks(w, "select k from e where mz_now() < ts", "Temporal");
    world_free(w);
}

#define MUTUAL "with mutually recursive "

/* Scopes are closed: nothing is pushed or cut off at their border, and what is outside stays so. */
static void recursion(void)
{
    struct world *w = small_world();
    PLAN("with recursive r (n) as (select a from t union select n + x from r join s on n = y) "
         "select n from r where n > 5",
         "Filter", "filter=(#0 > 5)", "Leave", "Fixpoint", "limit=100000 (error)", "Distinct");
    /* A column nobody reads decides about the next iteration. */
    PLAN("with recursive r (n, m) as (select a, 1 from t union all select n + m, m + 1 from r "
         "where m < 4) select n from r",
         "Leave", "Fixpoint", "Union");
    /* What does not depend on it is there once, outside; joins within are inner ones. */
    plan_lacks(w,
               "with recursive r (n) as (select a from t union select n + 1 from r where n < 9 and "
               "not exists (select 1 from s where x = n)) select n from r",
               "AntiJoin");
    PLAN("with recursive r (n) as (select a from t left join s on a = x union select n + 1 from r "
         "where n < 9) select n from r",
         "LeftJoin");
    PLAN(MUTUAL "(return at recursion limit 7) p (n int) as (select a from t union select n from "
         "q), q (n int) as (select n + 1 from p) select p.n from p, q where p.n = q.n",
         "InnerJoin", "Leave", "Fixpoint", "limit=7\n");
    PLAN(MUTUAL "p (n int) as (select 1 except select n from p) select n from p", "Fixpoint",
         "limit=100000 (error)");
    PLAN("select * from t where a in (" MUTUAL "p (n int) as (select 1 union select n + 1 from p "
         "where n < 3) select n from p)",
         "Join", "Leave");
    world_free(w);
}

static void refuse_query(struct world *w, const char *sql, const char *sqlstate)
{
    struct world_result r = {0};
    err_t err = world_query(w, sql, &r);
    CU_ASSERT_PTR_NOT_NULL(err);
    if (err == ERR_OK) {
        fprintf(stderr, "accepted: %s\n", sql);
    }
    if (err != ERR_OK && strcmp(err_sqlstate(err), sqlstate) != 0) {
        fprintf(stderr, "%s: %s %s\n", sql, err_sqlstate(err), err_text(err));
        CU_FAIL("another error");
    }
    err_free(err);
    world_result_free(&r);
}

static void recursion_refused(void)
{
    struct world *w = small_world();
    static const char *const lines[][2] = {
        {MUTUAL "p (n int) as (select n from p), q as (select 1) select 1", "42601"},
        {MUTUAL "p as (select 1) select 1", "42601"},
        {MUTUAL "p (n) as (select 1) select 1", "42601"},
        {MUTUAL "p (n int,) as (select 1) select 1", "42601"},
        {MUTUAL "p (n int + 1) as (select 1) select 1", "42601"},
        {MUTUAL "p (n int from t) as (select 1) select 1", "42601"},
        {MUTUAL "p (n int;) as (select 1) select 1", "42601"},
        {MUTUAL "p (n setof int) as (select 1) select 1", "42601"},
        {MUTUAL "p (n int limit 1) as (select 1) select 1", "42601"},
        {MUTUAL "p (n int for update) as (select 1) select 1", "42601"},
        {MUTUAL "p (n nosuch) as (select 1) select 1", "42704"},
        {MUTUAL "p (n int", "42601"},
        {MUTUAL "p (n int) as (select 1", "42601"},
        {MUTUAL "(recursion limit 0) p (n int) as (select 1) select 1", "22023"},
        {MUTUAL "(recursion limit 1.5) p (n int) as (select 1) select 1", "22023"},
        {MUTUAL "(recursion limit) p (n int) as (select 1) select 1", "42601"},
        {MUTUAL "(return recursion limit 1) p (n int) as (select 1) select 1", "42601"},
        {MUTUAL "p (n int) as (select 1, 2) select 1", "42601"},
        {MUTUAL "p (n int) as (select true) select 1", "42804"},
        {MUTUAL "p (n int) as (select 'x') select 1", "22P02"},
        {MUTUAL "p (n int) as (select 1), p (n int) as (select 2) select 1", "42712"},
        {MUTUAL "p (n int) as (select m from p) select 1", "42703"},
        {"select a, (" MUTUAL "p (n int) as (select t.a) select n from p) from t", "0A000"},
        {"select a, (with recursive p (n) as (select t.a union select n + 1 from p where n < 9) "
         "select max(n) from p) from t", "0A000"},
        {MUTUAL "p (n bigint) as (select 1 union select row_number() over (order by n) from p) "
         "select n from p", "0A000"},
        {MUTUAL "p (n int) as (select 1 union select m from (" MUTUAL "q (m int) as (select n from "
         "p union select m + 1 from q where m < 5) select m from q) x) select n from p", "0A000"},
        {"with recursive \"a\1int\1none\" (n) as (select 1) select 1", "42602"},
        {"with recursive p (\"a\1int\1none\") as (select 1) select 1", "42602"},
        {MUTUAL "p (\"a\1x\" int) as (select 1) select 1", "42602"},
        {"with recursive p (u&\"a\\0001int\", b) as (select 1, 2) select 1", "42602"},
        {"with recursive p (U&\"a!0001int\" uescape '!', b) as (select 1, 2) select 1", "42602"},
        {"with recursive p as (select 1 union all select from p) select 1", "42601"},
        {"with recursive p (n) as (select 1 union (with q as (select n from p) select 2 from q a, "
         "q b)) select 1",
         "0A000"},
        {"with recursive p (n) as (select 1 union (with q as (select n from p) (select n from q) "
         "intersect (select n from q))) select 1",
         "0A000"},
        {"with recursive p (n) as (select 1 union all select n + 1 from p window w as ()) search "
         "depth first by n set o select 1", "0A000"},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        refuse_query(w, lines[i][0], lines[i][1]);
    }
    world_free(w);
}

/* The engine orders jsonb by its text: it is not asked where that would decide about rows. */
static void jsonb_order_refused(void)
{
    struct world *w = small_world();
    CU_ASSERT_PTR_NULL(world_exec(w, "create table docs (id int, j jsonb)"));
    static const char *const lines[] = {
        "select id from docs order by j limit 2",
        "select id from docs order by id, j offset 1",
        "select id from docs order by j fetch first 1 row with ties",
        "select distinct on (j) id, j from docs order by j",
        "select * from (select id from docs order by j limit 1) q",
        "select row_number() over (order by j) from docs",
        "select jsonb_agg(j order by j) from docs",
        "select j from docs union all select j from docs order by 1 limit 1",
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        refuse_query(w, lines[i], "0A000");
    }
    struct world_result r = {0};
    CU_ASSERT_PTR_NULL(world_query(w, "select id from docs order by j limit 0", &r));
    world_result_free(&r);
    CU_ASSERT_PTR_NULL(world_query(w, "select id, j from docs order by j, id", &r));
    world_result_free(&r);
    world_free(w);
}

/* What is asked, before it is decided how. */
static void optimized(void)
{
    struct world *w = small_world();
#define OPTIMIZED(sql, ...) PLAN("optimized plan for " sql, __VA_ARGS__)
    OPTIMIZED("select a + 1 from t where b = 'x' and a > 1", "Project (#3)\n  Map #3: (a + 1)\n",
              "Filter (b = 'x') and (a > 1)\n", "Get u", " (t)\n");
    /* All inputs of a join at once; a name that is there twice has its number. */
    OPTIMIZED("select * from t join s on t.a = s.x join t u on u.a = s.x where u.b = 'x'",
              "InnerJoin on=((", "(a#5 = ", "  Filter (b = 'x')\n    Get u");
    OPTIMIZED("select a from t where exists (select 1 from s where x = a)", "SemiJoin on=((");
    OPTIMIZED("select a, sum(c) from t group by a", "Reduce group=(a) aggregates=(sum(c))\n");
    OPTIMIZED("select * from t order by a limit 3", "Finish order by #0 limit 3\n", "Get u");
    OPTIMIZED("select * from (select * from t order by a limit 3) q",
              "TopK group=() order=(a asc nulls last) limit=3 offset=0\n");
    OPTIMIZED("select a from t union select x from s", "Distinct\n  Union\n");
    OPTIMIZED("select a from t except all select x from s", "Threshold\n", "Negate\n");
    OPTIMIZED("with q as (select a, count(*) as n from t group by a) select * from q q1 join q q2 "
              "on q1.a = q2.n", "$1 = Reduce group=(a)", "Get $1\n");
    OPTIMIZED("select a, sum(c) over (partition by b order by a) from t", "Window partition=(b)",
              "sum(c)");
    OPTIMIZED("select 1", "Constant rows=1\n");
    OPTIMIZED("view v", "Reduce group=(a)");
    plan_lacks(w, "optimized plan for select * from t", "Source");
    plan_lacks(w, "optimized plan for select * from t", "Export");
    world_free(w);
}

static void indexes(void)
{
    struct world *w = small_world();
    must(world_exec(w, "create index on t (a)"), "index");
    must(world_exec(w, "create index on v (a)"), "index");
    PLAN("select * from t", "Peek index");
    PLAN("select b from t where a = 7", "Peek index", "key (7)");
    PLAN("select n from v where a = 7", "Peek index", "key (7)");
    PLAN("select b from t where b = 'x'", "Peek index");
    plan_lacks(w, "select b from t where b = 'x'", "key (");
    plan_lacks(w, "select v.n from v join s on v.a = s.x", "Reduce");
    world_free(w);
}

/* An index is read where it is; the other side is arranged once, as nothing else has it. */
static void lookups(void)
{
    struct world *w = small_world();
    must(world_exec(w, "create table r (a int, x int, name text)"), "table");
    must(world_exec(w, "create table m (name text, z int)"), "table");
    const char *three = "select t.c, m.z, r.x from t, m, r where t.b = m.name and r.name = m.name";
    PLAN(three, "Lookup", "Arrange"); /* one key: three arrangements, a chain has four */
    const char *words = "select t.b, s.y, r.name from t, s, r where t.a = s.x and r.x = s.x";
    plan_lacks(w, words, "Lookup"); /* joins of such keys keep less than arrangements */
    const char *chain = "select t.b, r.name from t, s, r where t.a = s.x and r.a = s.y";
    plan_lacks(w, chain, "Lookup"); /* as many as a chain has */
    must(world_exec(w, "create index on v (a); create index on t (c)"), "index");
    PLAN("select v.n from v join s on v.a = s.x", "Union", "Lookup on=(#0 = #0) before", "Index",
         "Arrange keys=(#0)", "Source", "Lookup on=(#0 = #0)", "Get", "Get");
    plan_lacks(w, "select v.n from v join s on v.a = s.x", "Join");
    plan_lacks(w, "select v.n from v left join s on v.a = s.x", "Lookup");
    PLAN("select t.b from t join s on t.a = s.x", "InnerJoin"); /* another key */
    must(world_exec(w, "create index on t (a); create index on s (x, y);"
                       "create index on r (a); create index on s (y); create index on s (x)"),
         "index");
    plan_lacks(w, chain, "Arrange");
    plan_lacks(w, chain, "Join");
    PLAN(chain, "Union", "Lookup", "Lookup", "Lookup", "Lookup", "Lookup", "Lookup");
    /* A predicate between the index and the join goes behind the lookup. */
    PLAN("select t.b from t join s on t.a = s.x where s.y > 3", "Lookup", "filter=(");
    plan_lacks(w, "select t.b from t join s on t.a = s.x where s.y > 3", "Arrange");
    /* One that may fail does so for the rows of the join, on each path. */
    PLAN("select t.b from t join s on t.a = s.x where 6 / s.y > 1", "Union", "filter=(", "Lookup",
         "filter=(", "Lookup");
    /* What equals an index's column may be an expression, or of another kind: it is mapped on. */
    PLAN("select t.b from t join s on length(t.b) = s.x", "Union", "Lookup", "map=#3: length(#1)",
         "Lookup", "Arrange keys=(#1)");
    must(world_exec(w, "create table g (k bigint, name text); create table h (k bigint);"
                       "create index on g (k)"),
         "index");
    PLAN("select g.name from t join g on t.a = g.k", "Union", "Lookup", "map=#3: #0::bigint");
    PLAN("select t.b from t join h on t.a = h.k", "InnerJoin"); /* the index has another kind */
    plan_lacks(w, "select 1 from t join s on t.a + 1 = s.x", "Lookup"); /* it may fail */
    /* No equality of columns connects them, or only one that takes NULL for NULL. */
    plan_lacks(w, "select 1 from t join t t2 on t.a is not distinct from t2.a", "Lookup");
    PLAN("select 1 from t join s on t.a is not distinct from s.x", "Lookup"); /* x is not null */
    world_free(w);
}

/* A cross join with few constant rows is a sum whose arms have the same errors: they count once.
 * What may fail does so behind it, once for a row; and no arm has a filter that would come before
 * what can fail. */
static void written_out(void)
{
    struct world *w = small_world();
    PLAN("select t.b, x from t, (values (1), (2), (3)) v (x)", "Union errors of the first");
    PLAN("select t.b, x from t, (values (1), (2)) v (x) where t.a > x", "Union errors of the first",
         "filter=(");
    PLAN("select t.b from t, (values (1), (0)) v (x) where t.a / x > 1", "filter=(",
         "Union errors of the first");
    PLAN("select q, x from (select a, 1 / a as q from t) z, (values (0), (5)) v (x) where x > z.a",
         "filter=(#", "Union errors of the first");
    PLAN("select b from t union all select b from t union all "
         "select b from t, (values (1), (0)) v (x)",
         "Union", "Union errors of the first");
    world_free(w);
}

/* A column twice in an index finds no fewer rows than once; many joins would be too many stages. */
static void lookups_bounded(void)
{
    struct world *w = small_world();
    must(world_exec(w, "create index on s (x, x, x); create index on s (x, y)"), "index");
    PLAN("select a.x from s a join s b on a.x = b.x and a.y = b.y",
         "Lookup on=(#0 = #0 AND #1 = #1)");
    struct buf sql = {0};
    for (int i = 0; i < 40; i++) {
        buf_append_str(&sql, i > 0 ? " union all " : "");
        buf_printf(&sql, "select %d from s a, s b, s c, s d, s e, s f, s g, s h, s i where "
                         "a.x = b.x and b.x = c.x and c.x = d.x and d.x = e.x and e.x = f.x "
                         "and f.x = g.x and g.x = h.x and h.x = i.x and a.y = %d", i, i);
    }
    PLAN(buf_cstr(&sql), "Lookup");
    buf_free(&sql);
    world_free(w);
}

/* One row with one column, whose text is `want`. */
static void answers(struct world *w, const char *sql, const char *want)
{
    struct world_result r = {0};
    must(world_query(w, sql, &r), "query");
    CU_ASSERT_EQUAL(r.rows_len, 1);
    if (r.rows_len == 1) {
        CU_ASSERT_STRING_EQUAL(r.rows[0], want);
    }
    world_result_free(&r);
}

/* `pieces` with %d counted from 0 to n, joined. */
static void repeat(struct buf *out, const char *piece, int n, const char *between)
{
    const char *at = strstr(piece, "%d");
    for (int i = 0; i < n; i++) {
        buf_append_str(out, i > 0 ? between : "");
        buf_printf(out, "%.*s%d%s", (int)(at - piece), piece, i, at + 2);
    }
}

/* More inputs than one operator takes: they become several. */
static void wide(void)
{
    struct world *w = small_world();
    struct buf text = {0};
    must(world_exec(w, "create table e (k int, ts timestamptz)"), "setup");
    buf_append_str(&text, TEMPORAL);
    for (int i = 0; i < BATCH_COLS_MAX; i++) {
        buf_printf(&text, "%sk + %d as c%d", i > 0 ? ", " : "", i, i);
    }
    buf_append_str(&text, " from e where mz_now() < ts");
    PLAN(buf_cstr(&text), "ERROR 54011");
    buf_clear(&text);
    buf_append_str(&text, "select count(*) from ");
    repeat(&text, "s a%d", 100, ", ");
    buf_append_str(&text, " where a0.x = 1");
    repeat(&text, " and a%d.x = 1", 100, "");
    answers(w, buf_cstr(&text), "1");
    buf_clear(&text);
    buf_append_str(&text, "select count(*) from (");
    repeat(&text, "select x + %d as x from s", 300, " union all ");
    buf_append_str(&text, ") q");
    answers(w, buf_cstr(&text), "600");
    buf_clear(&text);
    /* Long keys: their groups are put out in several pieces. */
    answers(w,
            "select count(*) from (select k, count(*) as n from (select repeat('a', 300000) || "
            "(x + 2 * i)::text as k from s, generate_series(1, 40) as i) q group by k) r "
            "where length(k) > 300000 and n = 1",
            "80");
    buf_append_str(&text, "select count(*) from (values ");
    repeat(&text, "((select max(x) + %d from s))", 300, ", ");
    buf_append_str(&text, ") q (n) where n > 2");
    answers(w, buf_cstr(&text), "299");
    buf_clear(&text);
    buf_append_str(&text, "select count(*) from s where x = any ('{");
    repeat(&text, "%d", 20000, ",");
    buf_append_str(&text, "}')");
    answers(w, buf_cstr(&text), "2");
    buf_free(&text);
    world_free(w);
}

/* What is shared is looked into once, not once for each way to it. */
static void shared(void)
{
    struct world *w = small_world();
    struct buf text = {0};
    buf_append_str(&text, "with recursive q0 (n) as (select x from s)");
    for (int i = 1; i <= 40; i++) {
        buf_printf(&text, ", q%d as (select a.n from q%d a, q%d b where a.n = b.n)", i, i - 1,
                   i - 1);
    }
    buf_append_str(&text, ", r (n) as (select 1 union select r.n from q40, r where r.n = q40.n) "
                          "select count(*) from r");
    PLAN(buf_cstr(&text), "Fixpoint");
    buf_clear(&text);
    for (int i = 0; i < 400; i++) { /* each waits for the next one */
        buf_printf(&text, "%s q%d as (select n from q%d)", i == 0 ? "with recursive" : ",", i,
                   i + 1);
    }
    buf_append_str(&text, ", q400 (n) as (select x from s) select max(n) from q0");
    answers(w, buf_cstr(&text), "2");
    buf_clear(&text);
    buf_append_str(&text, MUTUAL);
    repeat(&text, "q%d (n int) as (select 1)", PLAN_INPUTS_MAX + 1, ", ");
    buf_append_str(&text, " select 1");
    refuse_query(w, buf_cstr(&text), "54001");
    for (int recursive = 0; recursive < 2; recursive++) {
        buf_clear(&text);
        buf_append_str(&text, recursive ? "with recursive " : "with ");
        repeat(&text, "q%d as (select 1)", 1001, ", "); /* WITH_ITEMS_MAX is 1,000 */
        buf_append_str(&text, " select 1");
        refuse_query(w, buf_cstr(&text), "54001");
    }
    buf_free(&text);
    world_free(w);
}

/* ---- describe ---- */

static void describes(struct world *w, const char *sql, const char *want)
{
    struct sql_script *script = NULL;
    struct sql_description *d = NULL;
    struct arena arena = {0};
    struct buf got = {0};
    must(sql_parse(sql, strlen(sql), &script), sql);
    must(sql_describe(&w->cx, script->stmts[0], &d), sql);
    for (uint32_t i = 0; d != NULL && i < d->params_len; i++) {
        buf_printf(&got, "$%u %s, ", i + 1, type_format(&arena, &d->params[i]));
    }
    for (uint32_t i = 0; d != NULL && i < d->columns.cols; i++) {
        buf_printf(&got, "%s%s %s", i > 0 ? ", " : "", d->columns.names[i],
                   type_format(&arena, &d->columns.types[i]));
    }
    if (strcmp(buf_cstr(&got), want) != 0) {
        fprintf(stderr, "%s\n  got  %s\n  want %s\n", sql, buf_cstr(&got), want);
    }
    CU_ASSERT_STRING_EQUAL(buf_cstr(&got), want);
    buf_free(&got);
    arena_free(&arena);
    sql_description_free(d);
    sql_script_free(script);
}

static void descriptions(void)
{
    struct world *w = small_world();
    describes(w, "select a, b as x, c, a + 1, 'q' from t",
              "a integer, x text, c numeric(6,2), ?column? integer, ?column? text");
    describes(w, "select count(*), sum(a), avg(a), max(b), min(c) from t",
              "count bigint, sum bigint, avg numeric, max text, min numeric");
    describes(w, "select a from t where a = $1 and b = $2", "$1 integer, $2 text, a integer");
    describes(w, "select $1::date, $2", "$1 date, $2 text, date date, ?column? text");
    describes(w, "select a from t limit $1", "$1 bigint, a integer");
    describes(w, "insert into t (b, a) values ($1, $2)", "$1 text, $2 integer, ");
    describes(w, "update t set c = $1 where a = $2", "$1 numeric, $2 integer, ");
    describes(w, "delete from t where a = $1 returning b, a", "$1 integer, b text, a integer");
    describes(w, "subscribe t",
              "mz_timestamp mz_timestamp, mz_diff bigint, a integer, b text, "
              "c numeric(6,2)");
    describes(w, "subscribe (select a from t where a > $1) with (progress)",
              "$1 integer, mz_timestamp mz_timestamp, mz_progressed boolean, mz_diff bigint, "
              "a integer");
    describes(w, "explain select 1", "QUERY PLAN text");
    describes(w, "begin", "");
    describes(w, "select case when a > 1 then 1.5 else a end, coalesce(a, 0) from t",
              "a numeric, coalesce integer");
    world_free(w);
}

/* Bound parameters are literals of the described types. */
static void parameters(void)
{
    struct world *w = small_world();
    struct type types[2] = {type_of(TYPE_INT4), type_of(TYPE_TEXT)};
    struct datum values[2] = {{.i = 2}, {.len = 3, .s = "two"}};
    w->cx.param_types = types;
    w->cx.params = values;
    w->cx.params_len = 2;
    struct world_result r;
    must(world_query(w, "select a, $2 || b from t where a = $1", &r), "parameters");
    CU_ASSERT_EQUAL_FATAL(r.rows_len, 1);
    CU_ASSERT_STRING_EQUAL(r.rows[0], "2|twotwo");
    world_result_free(&r);
    world_free(w);
}

/* ---- definitions ---- */

static struct sql_ddl *ddl_of(struct world *w, const char *sql)
{
    struct sql_script *script = NULL;
    struct sql_ddl *ddl = NULL;
    must(sql_parse(sql, strlen(sql), &script), sql);
    must(sql_plan_ddl(&w->cx, script->stmts[0], &ddl), sql);
    sql_script_free(script);
    CU_ASSERT_PTR_NOT_NULL_FATAL(ddl);
    return ddl;
}

static void definitions(void)
{
    struct world *w = small_world();
    struct sql_ddl *d = ddl_of(w, "create table if not exists z (a int not null, b varchar(5) "
                                  "default 'x' || 'y', c timestamptz)");
    CU_ASSERT_TRUE(d->if_not_exists);
    CU_ASSERT_EQUAL(d->columns.cols, 3);
    CU_ASSERT_FALSE(d->columns.types[0].nullable);
    CU_ASSERT_EQUAL(d->columns.types[1].typmod, 9);
    CU_ASSERT_STRING_EQUAL(d->defaults[1], "'x' || 'y'");
    sql_ddl_free(d);
    d = ddl_of(w, "create view q (one, two) as select a, n from v where exists (select 1 from s)");
    CU_ASSERT_STRING_EQUAL(d->definition, "SELECT a, n FROM public.v WHERE EXISTS (SELECT 1 FROM "
                                          "public.s)");
    CU_ASSERT_STRING_EQUAL(d->columns.names[1], "two");
    CU_ASSERT_EQUAL(d->depends_len, 2);
    sql_ddl_free(d);
    d = ddl_of(w, "create materialized view m in cluster c as select * from t");
    CU_ASSERT_STRING_EQUAL(d->cluster, "c");
    CU_ASSERT_STRING_EQUAL(d->create_sql,
                           "CREATE MATERIALIZED VIEW m IN CLUSTER c AS SELECT * FROM public.t");
    sql_ddl_free(d);
    d = ddl_of(w, "create materialized view if not exists m (x, \"Y\") in cluster c as select * "
                  "from t");
    CU_ASSERT_STRING_EQUAL(d->columns.names[1], "Y");
    CU_ASSERT_STRING_EQUAL(d->create_sql, "CREATE MATERIALIZED VIEW m (x, \"Y\") IN CLUSTER c AS "
                                          "SELECT * FROM public.t");
    sql_ddl_free(d);
    d = ddl_of(w, "create index i in cluster c on t (b, a)");
    CU_ASSERT_EQUAL(d->index.keys_len, 2);
    CU_ASSERT_EQUAL(d->index.keys[0], 1);
    CU_ASSERT_STRING_EQUAL(d->create_sql, "CREATE INDEX i IN CLUSTER c ON public.t (b, a)");
    sql_ddl_free(d);
    d = ddl_of(w, "create default index on v");
    CU_ASSERT_TRUE(d->index.is_default);
    CU_ASSERT_EQUAL(d->index.keys_len, 2);
    sql_ddl_free(d);
    d = ddl_of(w, "create source f (a int, b text not null) from file '/tmp/f' (format csv with "
                  "header delimited by ';') with (tail = true)");
    CU_ASSERT_EQUAL(d->columns.cols, 2);
    CU_ASSERT_FALSE(d->columns.types[1].nullable);
    CU_ASSERT_EQUAL(d->source.format, SQL_FORMAT_CSV);
    CU_ASSERT_TRUE(d->source.header && d->source.tail);
    CU_ASSERT_EQUAL(d->source.delimiter, ';');
    sql_ddl_free(d);
    d = ddl_of(w, "create cluster c (size '4', replication factor 2)");
    CU_ASSERT_STRING_EQUAL(d->cluster_options.size, "4");
    CU_ASSERT_EQUAL(d->cluster_options.replication_factor, 2);
    sql_ddl_free(d);
    world_free(w);
}

static void ddl_fails(struct world *w, const char *sql, const char *sqlstate)
{
    err_t err = world_exec(w, sql);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    if (strcmp(err_sqlstate(err), sqlstate) != 0) {
        fprintf(stderr, "%s: %s %s\n", sql, err_sqlstate(err), err_text(err));
    }
    CU_ASSERT_STRING_EQUAL(err_sqlstate(err), sqlstate);
    err_free(err);
}

static void refused(void)
{
    struct world *w = small_world();
    ddl_fails(w, "create table z (a int, a text)", "42701");
    ddl_fails(w, "create table z (a nosuch)", "42704");
    ddl_fails(w, "create table z (a int primary key)", "0A000");
    ddl_fails(w, "create table z (a int default 'x')", "22P02");
    ddl_fails(w, "create view z as select nosuch from t", "42703");
    ddl_fails(w, "create view z as select 1 as a, 2 as a", "42701");
    ddl_fails(w, "create view z as select now()", "0A000");
    ddl_fails(w, "create view z as select $1", "42P02");
    ddl_fails(w, "create index on nosuch (a)", "42P01");
    ddl_fails(w, "create index on t (nosuch)", "42703");
    ddl_fails(w, "create index on t ((a + 1))", "0A000");
    ddl_fails(w, "insert into v values (1, 2)", "42809");
    ddl_fails(w, "insert into s (y) values (1)", "23502");
    ddl_fails(w, "insert into t (b) select a, b from t", "42601");
    ddl_fails(w, "create view z as select json_agg(a) from t", "0A000");
    ddl_fails(w, "create view z as select array_agg(a) || 1 from t", "0A000");
    ddl_fails(w,
              "create view z as with recursive q (n) as (select 1 union all select distinct n + 1 "
              "from q) select * from q",
              "0A000");
    world_free(w);
}

/* ---- writes ---- */

static void rows_are(struct world *w, const char *sql, const char *want)
{
    struct world_result r;
    struct buf got = {0};
    must(world_query(w, sql, &r), sql);
    for (size_t i = 0; i < r.rows_len; i++) {
        buf_printf(&got, "%s%s", i > 0 ? ";" : "", r.rows[i]);
    }
    CU_ASSERT_STRING_EQUAL(buf_cstr(&got), want);
    buf_free(&got);
    world_result_free(&r);
}

static void writes(void)
{
    struct world *w = small_world();
    rows_are(w, "select * from t order by a", "1|one|2.00;2|two|3.46");
    must(world_exec(w, "insert into t (a) values (3), (default)"), "defaults");
    rows_are(w, "select a, b, c from t order by a",
             "1|one|2.00;2|two|3.46;3|\\N|1.50;\\N|\\N|1.50");
    must(world_exec(w, "insert into t (b, a) select b || '!', a + 10 from t where b is not null"),
         "select");
    rows_are(w, "select a, b, c from t where a > 10 order by a", "11|one!|1.50;12|two!|1.50");
    must(world_exec(w, "update t set c = a * 2, b = default where a > 10"), "update");
    rows_are(w, "select a, b, c from t where a > 10 order by a", "11|\\N|22.00;12|\\N|24.00");
    must(world_exec(w, "delete from t where a in (select x from s) or a is null"), "delete");
    rows_are(w, "select a from t order by a", "3;11;12");
    must(world_exec(w, "update t set a = (select max(x) from s) where a = 3"), "subquery");
    rows_are(w, "select a from t order by a", "2;11;12");
    must(world_exec(w, "truncate t"), "truncate");
    rows_are(w, "select count(*) from t", "0");
    world_free(w);
}

static const struct test_case cases[] = {
    {"shapes", shapes},
    {"flat maps", flat_maps},
    {"windows", windows},
    {"temporal", temporal},
    {"recursion", recursion},
    {"recursion refused", recursion_refused},
    {"jsonb order refused", jsonb_order_refused},
    {"optimized", optimized},
    {"indexes", indexes},
    {"lookups are bounded", lookups_bounded},
    {"lookups", lookups},
    {"written out", written_out},
    {"wide", wide},
    {"shared", shared},
    {"descriptions", descriptions},
    {"parameters", parameters},
    {"definitions", definitions},
    {"refused", refused},
    {"writes", writes},
};
TEST_SUITE("ctrl/adapter/sql plan", cases)
