/* See world.h. */
#include "tests/unit/ctrl/adapter/sql/world.h"

#include <stdio.h>

enum { AS_OF = 1, DATAFLOW = 1, INDEXES = 1000, PEEK = 7, SOURCES_MAX = 64 };
static const uint64_t export_id = 1;

/* ---- the catalog ----------------------------------------------------------------------------- */

struct world_relation *world_find(struct world *world, const char *schema, const char *name)
{
    static const char *const path[] = {"pg_catalog", "public"};
    for (size_t s = 0; s < (schema == NULL ? 2 : 1); s++) {
        const char *in = schema == NULL ? path[s] : schema;
        for (size_t i = 0; i < world->relations_len; i++) {
            struct world_relation *r = world->relations[i];
            if (strcmp(r->relation.schema, in) == 0 && strcmp(r->relation.name, name) == 0) {
                return r;
            }
        }
    }
    return NULL;
}

static err_t on_relation(void *ctx, const char *database, const char *schema, const char *name,
                         struct arena *arena, const struct sql_relation **out)
{
    struct world_relation *r = world_find(ctx, schema, name);
    *out = r == NULL ? NULL : &r->relation;
    return ERR_OK;
}

static bool on_schema(void *ctx, const char *database, const char *schema)
{
    return strcmp(schema, "public") == 0 || strcmp(schema, "pg_catalog") == 0;
}

static err_t on_rows(void *ctx, const struct sql_relation *relation, struct arena *arena,
                     struct datum **rows, uint32_t *rows_len)
{
    struct world_relation *r = CONTAINER_OF(relation, struct world_relation, relation);
    *rows = r->rows;
    *rows_len = (uint32_t)r->rows_len;
    return ERR_OK;
}

static const char *on_setting(void *ctx, const char *name)
{
    return strcmp(name, "server_version") == 0 ? "15.0" : NULL;
}

struct world *world_new(void)
{
    struct world *w = MEM_NEW(struct world);
    w->next_id = 10;
    w->catalog = (struct sql_catalog){.relation = on_relation,
                                      .schema_exists = on_schema,
                                      .virtual_rows = on_rows,
                                      .setting = on_setting};
    w->cx = (struct sql_context){.catalog = &w->catalog,
                                 .catalog_ctx = w,
                                 .user = "tester",
                                 .database = "tailrace",
                                 .schema = "public",
                                 .version = "Tailrace 0",
                                 .cluster = "quick",
                                 .now_us = 1700000000000000,
                                 .backend_pid = 42};
    return w;
}

void world_free(struct world *world)
{
    for (size_t i = 0; i < world->relations_len; i++) {
        free(world->relations[i]->rows);
    }
    free(world->relations);
    arena_free(&world->arena);
    free(world);
}

static struct world_relation *add_relation(struct world *w, uint8_t kind, const char *schema,
                                           const char *name, const struct schema *columns)
{
    struct world_relation *r = ARENA_NEW(&w->arena, struct world_relation);
    struct sql_relation *rel = &r->relation;
    rel->id = w->next_id++;
    rel->oid = (uint32_t)(16384 + rel->id);
    rel->kind = kind;
    rel->schema = arena_strdup(&w->arena, schema);
    rel->name = arena_strdup(&w->arena, name);
    rel->columns.cols = columns->cols;
    rel->columns.types =
        arena_memdup(&w->arena, columns->types, columns->cols * sizeof(columns->types[0]));
    rel->columns.names = ARENA_ARRAY(&w->arena, const char *, columns->cols);
    for (uint32_t i = 0; i < columns->cols; i++) {
        rel->columns.names[i] = arena_strdup(&w->arena, columns->names[i]);
    }
    *VEC_PUSH(w, relations) = r;
    return r;
}

/* ---- running a plan -------------------------------------------------------------------------- */

struct run {
    struct world *world;
    struct sql_query *query;
    struct datum *rows; /* in query->arena */
    size_t rows_len, rows_cap;
    err_t err;
    bool done;
};

static void on_send(void *ctx, uint32_t dest, const void *payload, size_t len)
{
    UNREACHABLE();
}

static void on_frontier(void *ctx, uint64_t id, uint64_t upper)
{
    ASSERT(upper >= AS_OF);
}

static void on_subscribe(void *ctx, uint64_t id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    UNREACHABLE();
}

static void push_row(struct run *run, const struct datum *row)
{
    uint32_t cols = run->query->types_len;
    if (run->rows_len == run->rows_cap) {
        run->rows_cap = run->rows_cap == 0 ? 16 : run->rows_cap * 2;
        run->rows = mem_realloc(run->rows, (run->rows_cap * cols + 1) * sizeof(struct datum));
    }
    memcpy(run->rows + run->rows_len * cols, row, cols * sizeof(struct datum));
    run->rows_len++;
}

static void take_row(struct run *run, const struct batch *b, uint32_t at)
{
    struct datum row[64];
    ASSERT(b->cols <= 64 && b->cols == run->query->types_len);
    for (uint32_t c = 0; c < b->cols; c++) {
        row[c] = (struct datum){0};
        batch_datum(&b->col[c], at, &row[c]);
        if (!row[c].null && type_is_variable((enum type_kind)b->col[c].kind)) {
            row[c].s = arena_memdup(&run->query->arena, row[c].s, row[c].len);
        }
    }
    ASSERT(batch_diff(b, at) > 0);
    for (int64_t d = 0; d < batch_diff(b, at); d++) {
        push_row(run, row);
    }
}

static void on_peek_done(void *ctx, uint64_t peek_id, const struct batch *rows, err_t err)
{
    struct run *run = ctx;
    ASSERT(peek_id == PEEK && !run->done);
    run->done = true;
    run->err = err;
    for (uint32_t i = 0; err == ERR_OK && rows != NULL && i < rows->rows; i++) {
        take_row(run, rows, i);
    }
}

static void on_peek_rows(void *ctx, uint64_t peek_id, const struct batch *rows)
{
    struct run *run = ctx;
    ASSERT(peek_id == PEEK && !run->done);
    for (uint32_t i = 0; i < rows->rows; i++) {
        take_row(run, rows, i);
    }
}

static void on_failed(void *ctx, uint64_t dataflow, err_t err)
{
    struct run *run = ctx;
    run->done = true;
    run->err = err;
}

static const struct engine_host host = {.send = on_send,
                                        .frontier = on_frontier,
                                        .subscribe = on_subscribe,
                                        .peek_rows = on_peek_rows,
                                        .peek_done = on_peek_done,
                                        .failed = on_failed};

static struct world_relation *by_id(struct world *w, uint64_t id)
{
    for (size_t i = 0; i < w->relations_len; i++) {
        if (w->relations[i]->relation.id == id) {
            return w->relations[i];
        }
    }
    return NULL;
}

static void feed(struct run *run, struct engine *engine, uint64_t dataflow, uint32_t source,
                 uint64_t id)
{
    struct world_relation *r = by_id(run->world, id);
    ASSERT(r != NULL);
    uint32_t cols = r->relation.columns.cols;
    uint8_t kinds[64];
    struct batch_col views[64];
    for (uint32_t c = 0; c < cols; c++) {
        kinds[c] = r->relation.columns.types[c].kind;
    }
    struct batch_builder *b = batch_builder_new(kinds, cols);
    for (size_t i = 0; i < r->rows_len; i++) {
        for (uint32_t c = 0; c < cols; c++) {
            batch_builder_datum(b, c, &r->rows[i * cols + c]);
        }
        batch_builder_end_row(b, AS_OF, 1);
    }
    size_t size = 0;
    void *data = batch_builder_finish_new(b, &size);
    struct batch batch;
    batch_view(data, size, views, 64, &batch);
    engine_input(engine, dataflow, source, 0, 0, AS_OF + 1, batch.rows > 0 ? &batch : NULL, NULL);
    free(data);
    batch_builder_free(b);
}

static err_t make_index(struct run *run, struct engine *engine, uint64_t id);

/* Takes the plan, makes the indexes it reads and feeds its sources. */
static err_t make_dataflow(struct run *run, struct engine *engine, struct plan *plan, uint64_t id)
{
    uint32_t parts[SOURCES_MAX], sources = 0;
    uint64_t ids[SOURCES_MAX];
    plan->id = id;
    plan->as_of = AS_OF;
    plan->exports[0].until = AS_OF + 1;
    err_t err = err_wrap(plan_validate(plan), "planned");
    for (uint32_t i = 0; err == ERR_OK && i < plan->nodes_len; i++) {
        const struct plan_node *node = &plan->nodes[i];
        if (node->op == PLAN_SOURCE) {
            ASSERT(sources < SOURCES_MAX);
            parts[sources] = 1;
            ids[sources++] = node->import.id;
        } else if (node->op == PLAN_INDEX) {
            err = make_index(run, engine, node->import.id);
        }
    }
    if (err != ERR_OK) {
        plan_free(plan);
        return err;
    }
    TRY(engine_create(engine, plan, parts, sources));
    for (uint32_t i = 0; i < sources; i++) {
        feed(run, engine, id, i, ids[i]);
    }
    return ERR_OK;
}

static const struct sql_index *index_by_id(struct world *w, uint64_t id, struct sql_relation *rel)
{
    for (size_t r = 0; r < w->relations_len; r++) {
        *rel = w->relations[r]->relation;
        for (uint32_t i = 0; i < rel->indexes_len; i++) {
            if (rel->indexes[i].id == id) {
                return &rel->indexes[i];
            }
        }
    }
    UNREACHABLE();
}

static void exists(void *arg, const struct engine_operator_stats *stats)
{
    *(bool *)arg = true;
}

/* What CREATE INDEX maintains, if it is not there yet: the relation, read without indexes. */
static err_t make_index(struct run *run, struct engine *engine, uint64_t id)
{
    struct sql_relation rel;
    const struct sql_index *index = index_by_id(run->world, id, &rel);
    bool there = false;
    engine_dataflow_stats(engine, INDEXES + id, exists, &there);
    if (there) {
        return ERR_OK;
    }
    rel.indexes_len = 0;
    struct sql_query *query = NULL;
    TRY(sql_plan_view(&run->world->cx, NULL, &rel, index->keys, index->keys_len, &query));
    struct plan *plan = query->plan;
    query->plan = NULL;
    sql_query_free(query);
    plan->exports[0].id = id;
    return make_dataflow(run, engine, plan, INDEXES + id);
}

/* Of the plan's index, or of the one that is peeked. */
static err_t run_in(struct run *run, struct engine *engine)
{
    struct sql_query *q = run->query;
    struct engine_peek peek = {.peek_id = PEEK, .index_id = export_id, .time = AS_OF, .limit = -1};
    if (q->kind == SQL_QUERY_PEEK) {
        TRY(make_index(run, engine, q->peek.index_id));
        peek.index_id = q->peek.index_id;
        peek.mfp = &q->peek.mfp; /* the predicates that gave a key are in it */
    } else {
        struct plan *plan = q->plan;
        q->plan = NULL; /* the engine's now */
        plan->exports[0].id = export_id;
        TRY(make_dataflow(run, engine, plan, DATAFLOW));
    }
    engine_peek(engine, &peek);
    for (int i = 0; i < 1000000 && !run->done; i++) {
        engine_step(engine);
    }
    return run->done ? run->err : err_new(ERR_TIMEOUT, "the engine does not finish");
}

static err_t run_plan(struct run *run)
{
    struct engine_config config = {.workers = 1, .host = &host, .ctx = run};
    struct engine *engine = engine_new(&config);
    err_t err = run_in(run, engine);
    engine_free(engine);
    return err;
}

static int compare_rows(const struct sql_query *q, const struct datum *a, const struct datum *b)
{
    for (uint32_t i = 0; i < q->order_len; i++) {
        const struct plan_order *o = &q->order[i];
        const struct datum *x = &a[o->col], *y = &b[o->col];
        int c;
        if (x->null || y->null) {
            c = x->null && y->null ? 0 : x->null == o->nulls_first ? -1 : 1;
        } else {
            c = datum_compare((enum type_kind)q->types[o->col].kind, x, y);
            c = o->desc ? -c : c;
        }
        if (c != 0) {
            return c;
        }
    }
    return 0;
}

/* Insertion sort: small results, stable. */
static void sort_rows(struct run *run)
{
    uint32_t cols = run->query->types_len;
    struct datum row[64];
    for (size_t i = 1; i < run->rows_len; i++) {
        size_t j = i;
        memcpy(row, run->rows + i * cols, cols * sizeof(row[0]));
        while (j > 0 && compare_rows(run->query, run->rows + (j - 1) * cols, row) > 0) {
            memcpy(run->rows + j * cols, run->rows + (j - 1) * cols, cols * sizeof(row[0]));
            j--;
        }
        memcpy(run->rows + j * cols, row, cols * sizeof(row[0]));
    }
}

/* Rows of a planned query before finishing, in run->rows. */
static err_t run_query(struct run *run)
{
    struct sql_query *q = run->query;
    if (q->kind == SQL_QUERY_CONSTANT) {
        for (uint32_t i = 0; i < q->constant.rows_len; i++) {
            push_row(run, q->constant.rows + (size_t)i * q->types_len);
        }
        return ERR_OK;
    }
    return run_plan(run);
}

/* ---- statements ------------------------------------------------------------------------------ */

static err_t exec_ddl(struct world *w, const struct sql_stmt *stmt, uint8_t as, const char *schema)
{
    struct sql_ddl *ddl = NULL;
    TRY(sql_plan_ddl(&w->cx, stmt, &ddl));
    if (ddl->kind == SQL_CREATE_INDEX) {
        struct world_relation *on = by_id(w, ddl->index.on->id);
        struct sql_relation *rel = &on->relation;
        struct sql_index *indexes = ARENA_ARRAY(&w->arena, struct sql_index, rel->indexes_len + 1);
        for (uint32_t i = 0; i < rel->indexes_len; i++) {
            indexes[i] = rel->indexes[i];
        }
        struct sql_index *index = &indexes[rel->indexes_len];
        index->id = w->next_id++;
        index->keys_len = ddl->index.keys_len;
        index->keys =
            arena_memdup(&w->arena, ddl->index.keys, ddl->index.keys_len * sizeof(uint32_t));
        rel->indexes = indexes;
        rel->indexes_len++;
    } else {
        struct world_relation *r = add_relation(w, as, schema, ddl->name.name, &ddl->columns);
        if (ddl->definition != NULL) {
            r->relation.definition = arena_strdup(&w->arena, ddl->definition);
        }
        const char **defaults = ARENA_ARRAY(&w->arena, const char *, ddl->columns.cols);
        for (uint32_t i = 0; ddl->defaults != NULL && i < ddl->columns.cols; i++) {
            defaults[i] =
                ddl->defaults[i] == NULL ? NULL : arena_strdup(&w->arena, ddl->defaults[i]);
        }
        r->relation.defaults = defaults;
    }
    sql_ddl_free(ddl);
    return ERR_OK;
}

static bool same_row(const struct sql_relation *rel, const struct datum *a, const struct datum *b)
{
    for (uint32_t c = 0; c < rel->columns.cols; c++) {
        if (a[c].null != b[c].null ||
            (!a[c].null &&
             !datum_equal((enum type_kind)rel->columns.types[c].kind, &a[c], &b[c]))) {
            return false;
        }
    }
    return true;
}

static void remove_row(struct world_relation *r, const struct datum *row)
{
    uint32_t cols = r->relation.columns.cols;
    for (size_t i = 0; i < r->rows_len; i++) {
        if (same_row(&r->relation, r->rows + i * cols, row)) {
            r->rows_len--;
            memmove(r->rows + i * cols, r->rows + r->rows_len * cols, cols * sizeof(row[0]));
            return;
        }
    }
    ASSERT(false); /* what is removed was read */
}

static err_t insert_row(struct world *w, struct world_relation *r, const struct datum *row)
{
    uint32_t cols = r->relation.columns.cols;
    TRY(sql_check_row(&r->relation, row));
    if (r->rows_len == r->rows_cap) {
        r->rows_cap = r->rows_cap == 0 ? 16 : r->rows_cap * 2;
        r->rows = mem_realloc(r->rows, r->rows_cap * cols * sizeof(struct datum));
    }
    struct datum *to = r->rows + r->rows_len++ * cols;
    memcpy(to, row, cols * sizeof(row[0]));
    for (uint32_t c = 0; c < cols; c++) {
        if (!to[c].null && type_is_variable((enum type_kind)r->relation.columns.types[c].kind)) {
            to[c].s = arena_memdup(&w->arena, to[c].s, to[c].len);
        }
    }
    return ERR_OK;
}

static char *column_names(const struct sql_query *q)
{
    struct buf text = {0};
    for (uint32_t i = 0; i < q->columns.cols; i++) {
        buf_printf(&text, "%s%s", i > 0 ? "|" : "", q->columns.names[i]);
    }
    char *names = mem_strdup(buf_cstr(&text));
    buf_free(&text);
    return names;
}

static void print_rows(struct run *run, struct world_result *out)
{
    const struct sql_query *q = run->query;
    size_t from = (size_t)q->offset, to = run->rows_len;
    if (q->limit >= 0 && from + (size_t)q->limit < to) {
        to = from + (size_t)q->limit;
    }
    for (size_t i = from; i < to; i++) {
        struct buf text = {0};
        for (uint32_t c = 0; c < q->project_len; c++) {
            const struct datum *d = &run->rows[i * q->types_len + q->project[c]];
            buf_append_str(&text, c > 0 ? "|" : "");
            if (d->null) {
                buf_append_str(&text, "\\N");
            } else {
                datum_print(&q->types[q->project[c]], d, &text);
            }
        }
        *VEC_PUSH(out, rows) = mem_strdup(buf_cstr(&text));
        buf_free(&text);
    }
}

/* out: for the rows of RETURNING, or NULL. */
static err_t exec_write(struct world *w, const struct sql_stmt *stmt, struct world_result *out)
{
    struct sql_write *write = NULL;
    TRY(sql_plan_write(&w->cx, stmt, &write));
    struct run run = {.world = w, .query = write->query};
    err_t err = run_query(&run);
    struct world_relation *r = by_id(w, write->relation->id);
    uint32_t cols = r->relation.columns.cols, width = write->query->types_len;
    for (size_t i = 0; i < run.rows_len && err == ERR_OK; i++) {
        const struct datum *row = run.rows + i * width;
        if (write->kind != SQL_WRITE_INSERT) {
            remove_row(r, row);
        }
        if (write->kind != SQL_WRITE_DELETE) {
            err = insert_row(w, r, row + (write->kind == SQL_WRITE_UPDATE ? cols : 0));
        }
    }
    if (err == ERR_OK && out != NULL) {
        struct sql_query *q = write->query;
        q->columns = write->returning;
        q->project_len = write->returning.cols;
        q->project += width - q->project_len;
        out->names = column_names(q);
        if (q->project_len > 0) {
            print_rows(&run, out);
        }
    }
    free(run.rows);
    sql_write_free(write);
    return err;
}

static err_t exec_stmt(struct world *w, const struct sql_stmt *stmt)
{
    switch (stmt->kind) {
    case SQL_CREATE_TABLE:
        return exec_ddl(w, stmt, SQL_REL_TABLE, "public");
    case SQL_CREATE_VIEW:
        return exec_ddl(w, stmt, SQL_REL_VIEW, "public");
    case SQL_CREATE_INDEX:
        return exec_ddl(w, stmt, SQL_REL_INDEX, "public");
    case SQL_CREATE_MATERIALIZED_VIEW:
        return exec_ddl(w, stmt, SQL_REL_MATERIALIZED_VIEW, "public");
    default:
        return exec_write(w, stmt, NULL);
    }
}

err_t world_exec(struct world *world, const char *text)
{
    struct sql_script *script = NULL;
    TRY(sql_parse(text, strlen(text), &script));
    err_t err = ERR_OK;
    for (uint32_t i = 0; i < script->stmts_len && err == ERR_OK; i++) {
        err = exec_stmt(world, script->stmts[i]);
    }
    sql_script_free(script);
    return err;
}

err_t world_virtual(struct world *world, const char *schema, const char *create)
{
    struct sql_script *script = NULL;
    TRY(sql_parse(create, strlen(create), &script));
    err_t err = exec_ddl(world, script->stmts[0], SQL_REL_VIRTUAL, schema);
    sql_script_free(script);
    return err;
}

err_t world_fill(struct world *world, const char *schema, const char *name, const char *insert)
{
    struct world_relation *r = world_find(world, schema, name);
    ASSERT(r != NULL && r->relation.kind == SQL_REL_VIRTUAL);
    r->relation.kind = SQL_REL_TABLE;
    err_t err = world_exec(world, insert);
    r->relation.kind = SQL_REL_VIRTUAL;
    return err;
}

err_t world_query(struct world *world, const char *text, struct world_result *out)
{
    struct sql_script *script = NULL;
    *out = (struct world_result){0};
    TRY(sql_parse(text, strlen(text), &script));
    uint8_t kind = script->stmts_len == 1 ? script->stmts[0]->kind : SQL_EMPTY;
    if (kind == SQL_INSERT || kind == SQL_UPDATE || kind == SQL_DELETE) {
        err_t err = exec_write(world, script->stmts[0], out);
        sql_script_free(script);
        return err;
    }
    struct run run = {.world = world};
    err_t err = script->stmts_len == 1 ? sql_plan_query(&world->cx, script->stmts[0], &run.query)
                                       : err_new(ERR_INVALID, "one query is expected");
    if (err == ERR_OK) {
        out->kind = run.query->kind;
        out->ordered = run.query->order_len > 0;
        out->names = column_names(run.query);
        err = run_query(&run);
    }
    if (err == ERR_OK) {
        sort_rows(&run);
        print_rows(&run, out);
    }
    free(run.rows);
    sql_query_free(run.query);
    sql_script_free(script);
    return err;
}

void world_result_free(struct world_result *result)
{
    for (size_t i = 0; i < result->rows_len; i++) {
        free(result->rows[i]);
    }
    free(result->rows);
    free(result->names);
    *result = (struct world_result){0};
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void world_result_sort(struct world_result *result)
{
    if (result->rows_len > 0) {
        qsort(result->rows, result->rows_len, sizeof(result->rows[0]), by_text);
    }
}

char *world_explain(struct world *world, const char *text)
{
    struct sql_script *script = NULL;
    struct buf out = {0};
    char *full = NULL;
    int len = asprintf(&full, "EXPLAIN %s", text);
    ASSERT(len > 0);
    err_t err = sql_parse(full, strlen(full), &script);
    if (err == ERR_OK) {
        err = sql_explain(&world->cx, script->stmts[0], &out);
    }
    if (err != ERR_OK) {
        buf_printf(&out, "ERROR %s: %s", err_sqlstate(err), err_text(err));
        err_free(err);
    }
    sql_script_free(script);
    free(full);
    char *result = mem_strdup(buf_cstr(&out));
    buf_free(&out);
    return result;
}
