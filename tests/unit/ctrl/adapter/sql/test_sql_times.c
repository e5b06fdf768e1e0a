/*
 * Random SQL as it is maintained: a query is planned as a SUBSCRIBE, then its tables change, by
 * insertions, updates and deletions over a number of times, on one worker or several. At every
 * time what came out so far must be what a real PostgreSQL 15 answers over the tables of that
 * time. PostgreSQL has the tables of each time in a schema of its own, p0, p1, ...
 *
 * In part of the runs tables have indexes, by random columns: dataflows of their own, which go
 * ahead of the query and behind it as it comes.
 */
#include "tests/unit/core/engine/host.h"
#include "tests/unit/ctrl/adapter/sql/pg.h"
#include "tests/unit/ctrl/adapter/sql/random.h"
#include "tests/unit/ctrl/adapter/sql/world.h"
#include "tests/unit/harness.h"

#include <stdio.h>

enum { TABLES = 3, COLS_MAX = 3, TIMES = 9, PARTS = 2, ROWS_MAX = 64 };
enum { INDEXES_MAX = 3, KEYS_MAX = 3, SOURCES_MAX = 64 };
/* Dataflows; exports. An index has one id in both, and in the catalog. */
enum { DATAFLOW_ID = 7, SUBSCRIBE_ID = 1, INDEX_ID = 8 };
STATIC_ASSERT(INDEX_ID + TABLES * INDEXES_MAX <= EXPORTS_MAX, "the host has room");

static const char setup[] = "create table t (a int, b text, c numeric);"
                            "create table s (x int not null, y int);"
                            "create table u (a int, d text);";

/* A table's rows as they stand, and every change so far by part. */
struct table {
    const char *name;
    const char *columns; /* as CREATE TABLE takes them */
    uint32_t cols;
    uint8_t kinds[COLS_MAX];
    struct datum rows[ROWS_MAX][COLS_MAX];
    uint32_t rows_len;
    struct batch_builder *changes[PARTS];
    struct sql_index indexes[INDEXES_MAX];
    uint32_t keys[INDEXES_MAX][KEYS_MAX]; /* of them */
};

/* What all queries of a test are about. */
struct times {
    struct pg *pg;
    struct world *world;
    struct rng rng;
    struct table tables[TABLES];
    uint32_t ran, differ, refused;
    uint32_t indexed;                    /* queries that read an index */
    uint32_t answers, with_rows, errors; /* of all queries at all times */
    uint32_t apart;                      /* of them: one side has an error, the other has none */
};

/* A source of a dataflow and how far it has been fed. */
struct feeder {
    uint64_t dataflow, table;
    uint32_t source;
    uint64_t upper;
};

/* A query on its way through the engines. */
struct watched {
    struct times *times;
    const char *sql;
    bool divides;
    uint64_t as_of;
    struct sql_query *query; /* the first one planned: its types */
    struct feeder feeders[SOURCES_MAX]; /* the query's own first, in the plan's order */
    uint32_t sources, feeders_len;
};

/* An index as it is made. */
struct made {
    struct watched *watched;
    struct table *table;
    const struct sql_index *index;
};

/* ---- tables that change ---------------------------------------------------------------------- */

static struct datum random_value(struct times *x, uint8_t kind)
{
    static const char *const texts[] = {"one", "two", "deux", "nil", ""};
    static const struct numeric numbers[] = {
        {.lo = 150, .scale = 2}, {.lo = 225, .scale = 2}, {.lo = 7}, {.lo = 0}};
    struct datum d = {.null = rng_below(&x->rng, 6) == 0};
    if (kind == TYPE_TEXT) {
        d.s = texts[rng_below(&x->rng, ARRAY_LEN(texts))];
        d.len = (uint32_t)strlen(d.s);
    } else if (kind == TYPE_NUMERIC) {
        d.n = numbers[rng_below(&x->rng, ARRAY_LEN(numbers))];
    } else {
        d.i = (int64_t)rng_below(&x->rng, 6) - 1;
    }
    return d;
}

static void log_row(struct times *x, struct table *t, const struct datum *row, uint64_t time,
                    int64_t diff)
{
    struct batch_builder *b = t->changes[rng_below(&x->rng, PARTS)];
    for (uint32_t c = 0; c < t->cols; c++) {
        batch_builder_datum(b, c, &row[c]);
    }
    batch_builder_end_row(b, time, diff);
}

static void random_row(struct times *x, const struct table *t, struct datum *row)
{
    for (uint32_t c = 0; c < t->cols; c++) {
        row[c] = random_value(x, t->kinds[c]);
    }
    row[0].null = row[0].null && strcmp(t->name, "s") != 0;
}

/* An insertion, a deletion, or a new value in a row. */
static void change(struct times *x, struct table *t, uint64_t time)
{
    uint64_t kind = rng_below(&x->rng, 5);
    if (kind <= 1 || t->rows_len == 0) {
        if (t->rows_len < ROWS_MAX) {
            struct datum *row = t->rows[t->rows_len++];
            random_row(x, t, row);
            log_row(x, t, row, time, 1);
        }
        return;
    }
    uint32_t at = (uint32_t)rng_below(&x->rng, t->rows_len);
    log_row(x, t, t->rows[at], time, -1);
    if (kind == 2) {
        memcpy(t->rows[at], t->rows[--t->rows_len], sizeof(t->rows[at]));
        return;
    }
    struct datum row[COLS_MAX];
    uint32_t c = (uint32_t)rng_below(&x->rng, t->cols);
    random_row(x, t, row);
    t->rows[at][c] = row[c];
    log_row(x, t, t->rows[at], time, 1);
}

/* The last time has no rows at all; the one before it few changes, the first many. */
static void change_all(struct times *x, uint64_t time)
{
    for (uint32_t i = 0; i < TABLES; i++) {
        struct table *t = &x->tables[i];
        uint64_t n = time == 0 ? 5 : rng_below(&x->rng, 4);
        for (uint64_t k = 0; k < n; k++) {
            change(x, t, time);
        }
        while (time == TIMES - 1 && t->rows_len > 0) {
            log_row(x, t, t->rows[--t->rows_len], time, -1);
        }
    }
}

/* The tables as they stand, in a schema of PostgreSQL's. */
static void snapshot(struct times *x, uint64_t time)
{
    struct buf sql = {0};
    buf_printf(&sql, "create schema p%d;", (int)time);
    for (uint32_t i = 0; i < TABLES; i++) {
        const struct table *t = &x->tables[i];
        buf_printf(&sql, "create table p%d.%s (%s);", (int)time, t->name, t->columns);
        for (uint32_t r = 0; r < t->rows_len; r++) {
            buf_printf(&sql, "insert into p%d.%s values (", (int)time, t->name);
            for (uint32_t c = 0; c < t->cols; c++) {
                struct type type = type_of((enum type_kind)t->kinds[c]);
                buf_append_str(&sql, c > 0 ? ", " : "");
                buf_append_str(&sql, t->rows[r][c].null ? "null" : "'");
                if (!t->rows[r][c].null) {
                    datum_print(&type, &t->rows[r][c], &sql);
                    buf_append_byte(&sql, '\'');
                }
            }
            buf_append_str(&sql, ");");
        }
    }
    struct pg_result result = {0};
    pg_query(x->pg, buf_cstr(&sql), &result);
    CU_ASSERT_STRING_EQUAL(result.sqlstate, "");
    pg_result_free(&result);
    buf_free(&sql);
}

/* False: there is no PostgreSQL here. */
static bool times_open(struct times *x, uint64_t seed)
{
    *x = (struct times){.pg = pg_start(),
                        .rng = {seed},
                        .tables = {{.name = "t", .columns = "a int, b text, c numeric", .cols = 3,
                                    .kinds = {TYPE_INT4, TYPE_TEXT, TYPE_NUMERIC}},
                                   {.name = "s", .columns = "x int not null, y int", .cols = 2,
                                    .kinds = {TYPE_INT4, TYPE_INT4}},
                                   {.name = "u", .columns = "a int, d text", .cols = 2,
                                    .kinds = {TYPE_INT4, TYPE_TEXT}}}};
    if (x->pg == NULL) {
        CU_ASSERT_FALSE(pg_available()); /* one that does not start is a failure */
        printf("skipped: no PostgreSQL 15 on this machine\n");
        return false;
    }
    x->world = world_new();
    CU_ASSERT_PTR_NULL_FATAL(world_exec(x->world, setup));
    for (uint32_t i = 0; i < TABLES; i++) {
        for (uint32_t p = 0; p < PARTS; p++) {
            x->tables[i].changes[p] = batch_builder_new(x->tables[i].kinds, x->tables[i].cols);
        }
    }
    for (uint64_t time = 0; time < TIMES; time++) {
        change_all(x, time);
        snapshot(x, time);
    }
    return true;
}

static void times_close(struct times *x)
{
    printf("%u queries, %u over indexes, %u differ, %u refused as unsupported; ", x->ran,
           x->indexed, x->differ, x->refused);
    printf("%u answers, %u with rows, %u errors, %u of one side\n", x->answers,
           x->with_rows, x->errors, x->apart);
    for (uint32_t i = 0; i < TABLES; i++) {
        for (uint32_t p = 0; p < PARTS; p++) {
            batch_builder_free(x->tables[i].changes[p]);
        }
    }
    world_free(x->world);
    pg_stop(x->pg);
}

/* ---- a query in the engines ------------------------------------------------------------------ */

/* Planned anew for each worker: the same text gives the same plan. */
static err_t plan_query(struct watched *w, struct sql_query **out)
{
    struct buf text = {0};
    struct sql_script *script = NULL;
    buf_printf(&text, "subscribe (%s)", w->sql);
    err_t err = sql_parse(buf_cstr(&text), text.len, &script);
    if (err == ERR_OK) {
        err = sql_plan_query(&w->times->world->cx, script->stmts[0], out);
    }
    sql_script_free(script);
    buf_free(&text);
    return err;
}

static struct plan *make_plan(void *arg)
{
    struct watched *w = arg;
    struct sql_query *query = NULL;
    err_t err = plan_query(w, &query);
    ASSERT(err == ERR_OK); /* it was planned before */
    struct plan *plan = query->plan;
    query->plan = NULL;
    sql_query_free(query);
    plan->id = DATAFLOW_ID;
    plan->as_of = w->as_of;
    plan->exports[0].id = SUBSCRIBE_ID;
    plan->exports[0].snapshot = true;
    plan->exports[0].until = FRONTIER_EMPTY;
    return plan;
}

/* All storage feeds the first worker: rows reach the others by the exchange. */
static uint32_t parts_of(void *arg, uint32_t worker, uint32_t source)
{
    ASSERT(arg != NULL && source < SOURCES_MAX);
    return worker == 0 ? PARTS : 0;
}

static struct sql_relation *relation_of(struct times *x, const struct table *t)
{
    return &world_find(x->world, "public", t->name)->relation;
}

static struct table *table_of(struct times *x, uint64_t id)
{
    for (uint32_t i = 0; i < TABLES; i++) {
        if (relation_of(x, &x->tables[i])->id == id) {
            return &x->tables[i];
        }
    }
    UNREACHABLE();
}

/* ---- indexes --------------------------------------------------------------------------------- */

/* What the catalog knows of them until they are taken away again. */
static void choose_indexes(struct times *x, bool any)
{
    for (uint32_t i = 0; i < TABLES; i++) {
        struct table *t = &x->tables[i];
        struct sql_relation *relation = relation_of(x, t);
        relation->indexes = t->indexes;
        relation->indexes_len = any ? (uint32_t)rng_below(&x->rng, INDEXES_MAX + 1) : 0;
        for (uint32_t k = 0; k < relation->indexes_len; k++) {
            struct sql_index *index = &t->indexes[k];
            *index = (struct sql_index){.id = INDEX_ID + i * INDEXES_MAX + k, .keys = t->keys[k]};
            index->keys_len = 1 + (uint32_t)rng_below(&x->rng, KEYS_MAX);
            for (uint32_t c = 0; c < index->keys_len; c++) {
                index->keys[c] = (uint32_t)rng_below(&x->rng, t->cols);
            }
        }
    }
}

static struct plan *make_index_plan(void *arg)
{
    struct made *made = arg;
    struct times *x = made->watched->times;
    struct sql_relation relation = *relation_of(x, made->table);
    struct sql_query *query = NULL;
    relation.indexes_len = 0;
    err_t err = sql_plan_view(&x->world->cx, NULL, &relation, made->index->keys,
                              made->index->keys_len, &query);
    ASSERT(err == ERR_OK);
    struct plan *plan = query->plan;
    query->plan = NULL;
    sql_query_free(query);
    plan->id = plan->exports[0].id = made->index->id;
    plan->as_of = 0;
    return plan;
}

static void add_feeder(struct watched *w, uint64_t dataflow, uint32_t source, uint64_t table)
{
    ASSERT(w->feeders_len < SOURCES_MAX);
    w->feeders[w->feeders_len++] =
        (struct feeder){.dataflow = dataflow, .table = table, .source = source};
}

/* Those that the query reads. */
static void make_indexes(struct watched *w, struct replica *r)
{
    for (uint32_t i = 0; i < w->query->plan->nodes_len; i++) {
        const struct plan_node *node = &w->query->plan->nodes[i];
        bool there = node->op != PLAN_INDEX;
        for (uint32_t f = w->sources; f < w->feeders_len && !there; f++) {
            there = w->feeders[f].dataflow == node->import.id;
        }
        if (there) {
            continue;
        }
        uint64_t at = node->import.id - INDEX_ID;
        struct table *t = &w->times->tables[at / INDEXES_MAX];
        struct made made = {w, t, &t->indexes[at % INDEXES_MAX]};
        CU_ASSERT_PTR_NULL_FATAL(replica_create(r, make_index_plan, &made, parts_of, 1));
        add_feeder(w, node->import.id, 0, relation_of(w->times, t)->id);
    }
    w->times->indexed += w->feeders_len > w->sources ? 1 : 0;
}

/* ---- feeding --------------------------------------------------------------------------------- */

/* The changes of [from, to) of a part of a table. */
static void feed(struct replica *r, const struct table *t, const struct feeder *f, uint32_t part,
                 uint64_t to)
{
    struct view all = view_of(t->changes[part], t->cols);
    struct batch_builder *b = batch_builder_new(t->kinds, t->cols);
    for (uint32_t i = 0; i < all.batch.rows; i++) {
        if (batch_time(&all.batch, i) >= f->upper && batch_time(&all.batch, i) < to) {
            batch_builder_row(b, &all.batch, i);
        }
    }
    struct view some = view_of(b, t->cols);
    engine_input(r->worker[0].engine, f->dataflow, f->source, part, f->upper, to,
                 some.batch.rows > 0 ? &some.batch : NULL, NULL);
    view_free(&some);
    view_free(&all);
    batch_builder_free(b);
}

/* Some times at once, some alone; workers run in between, or not. */
static void feed_some(struct watched *w, struct replica *r, struct feeder *f)
{
    struct rng *rng = &w->times->rng;
    uint64_t to = f->upper + 1 + rng_below(rng, 3);
    to = to > TIMES ? TIMES : to;
    for (uint32_t p = 0; p < PARTS && f->upper < TIMES; p++) {
        feed(r, table_of(w->times, f->table), f, p, to);
        replica_stir(r, (uint32_t)rng_below(rng, 8));
    }
    f->upper = to;
}

/* Before there is the query: its indexes may have come some way. */
static void feed_indexes(struct watched *w, struct replica *r)
{
    for (uint32_t f = w->sources; f < w->feeders_len; f++) {
        for (uint64_t n = rng_below(&w->times->rng, 4); n > 0; n--) {
            feed_some(w, r, &w->feeders[f]);
        }
    }
}

static void feed_all(struct watched *w, struct replica *r)
{
    for (uint64_t round = 0; round < TIMES; round++) {
        for (uint32_t f = 0; f < w->feeders_len; f++) {
            feed_some(w, r, &w->feeders[f]);
        }
    }
    replica_settle(r);
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void print_row(const struct watched *w, const struct batch *b, uint32_t row,
                      struct world_result *out)
{
    struct buf text = {0};
    for (uint32_t c = 0; c < b->cols; c++) {
        struct datum d;
        batch_datum(&b->col[c], row, &d);
        buf_append_str(&text, c > 0 ? "|" : "");
        if (d.null) {
            buf_append_str(&text, "\\N");
        } else {
            datum_print(&w->query->types[c], &d, &text);
        }
    }
    int64_t diff = batch_diff(b, row);
    for (int64_t i = 0; i < (diff < 0 ? 1 : diff); i++) {
        *VEC_PUSH(out, rows) = mem_strdup(buf_cstr(&text));
    }
    if (diff < 0) {
        out->rows[out->rows_len - 1][0] = '-'; /* no row of PostgreSQL's */
    }
    buf_free(&text);
}

/* What came out up to a time; *errors: there is an error. */
static void take_output(const struct watched *w, struct replica *r, uint64_t time,
                        const uint8_t *kinds, struct world_result *out, bool *errors)
{
    uint32_t cols = w->query->types_len;
    struct batch_builder *ok = replica_output(r, SUBSCRIBE_ID, time, false, kinds, cols);
    struct batch_builder *err =
        replica_output(r, SUBSCRIBE_ID, time, true, batch_err_kinds, ERR_COLS);
    struct view rows = view_of(ok, cols);
    *errors = batch_builder_rows(err) > 0;
    for (uint32_t i = 0; i < rows.batch.rows; i++) {
        print_row(w, &rows.batch, i, out);
    }
    world_result_sort(out);
    view_free(&rows);
    batch_builder_free(ok);
    batch_builder_free(err);
}

static void report(struct watched *w, uint64_t time, const struct world_result *ours,
                   const struct pg_result *theirs)
{
    size_t i = 0;
    while (i < ours->rows_len && i < theirs->rows_len &&
           strcmp(ours->rows[i], theirs->rows[i]) == 0) {
        i++;
    }
    fprintf(stderr,
            "differs at %d (as of %d): %s\n  row %zu: ours \"%s\" (%zu rows), PostgreSQL \"%s\" "
            "(%zu rows) %s\n",
            (int)time, (int)w->as_of, w->sql, i, i < ours->rows_len ? ours->rows[i] : "-",
            ours->rows_len, i < theirs->rows_len ? theirs->rows[i] : "-", theirs->rows_len,
            theirs->message != NULL ? theirs->message : "");
}

/*
 * False: another answer. A query that takes PostgreSQL too long is not compared. Which divisions
 * are done at all, of rows that nobody asks for in the end, depends on the order of the operators:
 * one side alone may fail, but not when there is nothing to divide.
 */
static bool same_at(struct watched *w, struct replica *r, uint64_t time, const uint8_t *kinds)
{
    struct world_result ours = {0};
    struct pg_result theirs = {0};
    struct buf sql = {0};
    bool errors = false;
    buf_printf(&sql, "set search_path = p%d", (int)time);
    pg_query(w->times->pg, buf_cstr(&sql), &theirs);
    pg_result_free(&theirs);
    theirs = (struct pg_result){0};
    pg_query(w->times->pg, w->sql, &theirs);
    pg_result_sort(&theirs);
    take_output(w, r, time, kinds, &ours, &errors);
    bool failed = theirs.sqlstate[0] != '\0';
    bool apart = failed != errors && w->divides && time + 1 < TIMES;
    bool same = strcmp(theirs.sqlstate, "57014") == 0 || (failed && errors) || apart ||
                (!failed && !errors && ours.rows_len == theirs.rows_len);
    for (size_t i = 0; same && !failed && !errors && i < ours.rows_len; i++) {
        same = strcmp(ours.rows[i], theirs.rows[i]) == 0;
    }
    w->times->answers++;
    w->times->with_rows += theirs.rows_len > 0 ? 1 : 0;
    w->times->errors += failed ? 1 : 0;
    w->times->apart += apart ? 1 : 0;
    if (!same) {
        report(w, time, &ours, &theirs);
    }
    buf_free(&sql);
    world_result_free(&ours);
    pg_result_free(&theirs);
    return same;
}

static void check_times(struct watched *w, struct replica *r, const uint8_t *kinds)
{
    bool same = true;
    for (uint64_t time = w->as_of; same && time < TIMES; time++) {
        same = same_at(w, r, time, kinds);
    }
    w->times->ran++;
    w->times->differ += same ? 0 : 1;
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void find_sources(struct watched *w)
{
    const struct plan *plan = w->query->plan;
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (plan->nodes[i].op == PLAN_SOURCE) {
            add_feeder(w, DATAFLOW_ID, w->sources++, plan->nodes[i].import.id);
        }
    }
}

static void run_query(struct times *x, const char *sql, uint64_t seed)
{
    static const uint32_t workers[] = {1, 2, 4};
    struct watched w = {.times = x, .sql = sql, .as_of = seed % 4 == 0 ? seed % TIMES : 0};
    w.divides = strstr(sql, " / ") != NULL;
    uint8_t kinds[64];
    choose_indexes(x, seed % 3 != 0);
    err_t err = plan_query(&w, &w.query);
    if (err != ERR_OK) {
        bool refused = strcmp(err_sqlstate(err), "0A000") == 0;
        if (!refused) {
            fprintf(stderr, "%s\n  %s %s\n", sql, err_sqlstate(err), err_text(err));
        }
        CU_ASSERT(refused);
        x->refused++;
        err_free(err);
        return;
    }
    ASSERT(w.query->types_len <= ARRAY_LEN(kinds));
    for (uint32_t c = 0; c < w.query->types_len; c++) {
        kinds[c] = w.query->types[c].kind;
    }
    find_sources(&w);
    struct replica *r = replica_new(workers[seed / 3 % 3], seed, 0);
    replica_register(r, SUBSCRIBE_ID, kinds, w.query->types_len);
    make_indexes(&w, r);
    feed_indexes(&w, r);
    err = replica_create(r, make_plan, &w, parts_of, w.sources);
    CU_ASSERT_PTR_NULL_FATAL(err);
    feed_all(&w, r);
    CU_ASSERT_FATAL(r->failures == 0);
    CU_ASSERT_FATAL(replica_frontier(r, SUBSCRIBE_ID) >= TIMES);
    check_times(&w, r, kinds);
    replica_free(r);
    sql_query_free(w.query);
}

static uint64_t seed_given(void)
{
    const char *seed = getenv("TEST_SEED");
    return seed != NULL ? strtoull(seed, NULL, 10) : 1;
}

/* Each input is connected by one equality or two with one of those before it. */
static char *random_join(struct rng *rng)
{
    static const char *const ints[TABLES][2] = {{"a", "a"}, {"x", "y"}, {"a", "a"}};
    static const char *const texts[TABLES] = {"b", NULL, "d"};
    static const char *const names[TABLES] = {"t", "s", "u"};
    static const char *const filters[] = {"%s < 3", "%s is not null", "6 / (%s - 2) > 1",
                                          "%s %% 2 = 0", "4 / %s <> 2", "%s + 1 = 2"};
    uint32_t of[4], n = 2 + (uint32_t)rng_below(rng, 3);
    struct buf sql = {0}, on = {0};
    for (uint32_t i = 0; i < n; i++) {
        of[i] = (uint32_t)rng_below(rng, TABLES);
        buf_printf(&sql, "%s%s q%u", i > 0 ? ", " : " from ", names[of[i]], i);
        for (uint64_t k = 1 + rng_below(rng, 2); i > 0 && k > 0; k--) {
            uint32_t j = (uint32_t)rng_below(rng, i);
            bool text = texts[of[i]] != NULL && texts[of[j]] != NULL && rng_below(rng, 2) == 0;
            const char *left = text ? texts[of[i]] : ints[of[i]][rng_below(rng, 2)];
            const char *right = text ? texts[of[j]] : ints[of[j]][rng_below(rng, 2)];
            buf_printf(&on, "%sq%u.%s = q%u.%s", on.len > 0 ? " and " : " where ", i, left, j,
                       right);
        }
    }
    for (uint64_t k = rng_below(rng, 3); k > 0; k--) {
        char column[16];
        uint32_t i = (uint32_t)rng_below(rng, n);
        snprintf(column, sizeof(column), "q%u.%s", i, ints[of[i]][rng_below(rng, 2)]);
        buf_append_str(&on, " and ");
        buf_printf(&on, filters[rng_below(rng, ARRAY_LEN(filters))], column);
    }
    struct buf out = {0};
    /* A format takes what it needs of two columns. */
    const char *what = rng_below(rng, 3) == 0 ? "count(*), max(q0.%s)" : "q0.%s, q1.%s";
    buf_append_str(&out, "select ");
    buf_printf(&out, what, ints[of[0]][0], ints[of[1]][1]);
    buf_printf(&out, "%.*s%.*s", (int)sql.len, (const char *)sql.data, (int)on.len,
               (const char *)on.data);
    buf_free(&sql);
    buf_free(&on);
    buf_append_byte(&out, '\0');
    return (char *)out.data;
}

/* Lookups in indexes that go ahead, or lag behind; some of the predicates fail. */
static void joins(void)
{
    struct times x;
    if (!times_open(&x, seed_given())) {
        return;
    }
    uint64_t queries = test_scaled(150);
    for (uint64_t i = 0; i < queries; i++) {
        char *sql = random_join(&x.rng);
        run_query(&x, sql, i);
        free(sql);
    }
    CU_ASSERT(x.differ == 0 && x.refused == 0 && x.indexed > queries / 3);
    CU_ASSERT(x.with_rows > x.answers / 8 && x.errors > 0);
    times_close(&x);
}

static void random_queries(void)
{
    struct times x;
    struct random_sql gen = {.state = seed_given()};
    if (!times_open(&x, gen.state)) {
        return;
    }
    uint64_t queries = test_scaled(150);
    for (uint64_t i = 0; i < queries; i++) {
        gen.failing = i % 4 == 1;
        char *sql = random_query(&gen);
        if (getenv("TEST_VERBOSE") != NULL) {
            fprintf(stderr, "%d: %s\n", (int)i, sql);
        }
        run_query(&x, sql, i);
        free(sql);
    }
    CU_ASSERT_EQUAL(x.differ, 0);
    CU_ASSERT(x.refused <= queries / 10 && x.indexed > queries / 4);
    CU_ASSERT(x.with_rows > x.answers / 4 && x.errors < x.answers / 10);
    CU_ASSERT(x.apart < x.answers / 20);
    times_close(&x);
}

static const struct test_case cases[] = {{"random queries", random_queries}, {"joins", joins}};
TEST_SUITE("ctrl/adapter/sql at every time", cases)
