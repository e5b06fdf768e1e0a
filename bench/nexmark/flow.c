/*
 * See flow.h. The catalog is the four tables and nothing else: made once, from their CREATE TABLE,
 * by the planner itself, so that no second description of them can disagree.
 */
#include "bench/nexmark/flow.h"

#include "bench/alone.h"
#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/engine/engine.h"
#include "ctrl/adapter/sql/sql.h"

#include <string.h>

enum { DATAFLOW = 1, EXPORT = 2, TABLE_ID = 10, SOURCES_MAX = 16, COLS_MAX = 64 };

struct nexmark_flow {
    struct engine *engine;
    uint64_t frontier; /* of the output */
    struct nexmark_outcome outcome;
    err_t err; /* what went wrong in a callback; the first */
    enum nexmark_table sources[SOURCES_MAX]; /* of the plan, in its order */
    uint32_t sources_len;
    FILE *answers;
    struct buf line;
    struct schema columns; /* of the output, for answers; in arena */
    struct arena arena;
    uint64_t *hashes; /* scratch */
    size_t hashes_cap;
};

/* ---- the catalog ----------------------------------------------------------------------------- */

struct catalog {
    struct arena arena;
    struct sql_relation relations[NEXMARK_TABLES];
    uint32_t made;
};

/* Unqualified, or of the schema they are in. */
static err_t find_relation(void *ctx, const char *database, const char *schema, const char *name,
                           struct arena *arena, const struct sql_relation **out)
{
    const struct catalog *catalog = ctx;
    *out = NULL;
    for (uint32_t t = 0; t < catalog->made && (schema == NULL || strcmp(schema, "public") == 0);
         t++) {
        if (strcmp(catalog->relations[t].name, name) == 0) {
            *out = &catalog->relations[t];
        }
    }
    return ERR_OK;
}

static bool has_schema(void *ctx, const char *database, const char *schema)
{
    return strcmp(schema, "public") == 0;
}

static err_t no_rows(void *ctx, const struct sql_relation *relation, struct arena *arena,
                     struct datum **rows, uint32_t *rows_len)
{
    return err_new(ERR_INTERNAL, "no catalog tables here");
}

static const char *no_setting(void *ctx, const char *name)
{
    return NULL;
}

static const struct sql_catalog catalog_calls = {.relation = find_relation,
                                                 .schema_exists = has_schema,
                                                 .virtual_rows = no_rows,
                                                 .setting = no_setting};

static struct sql_context context_of(struct catalog *catalog)
{
    return (struct sql_context){.catalog = &catalog_calls, .catalog_ctx = catalog, .user = "bench",
                                .database = "nexmark", .schema = "public", .version = "Tailrace",
                                .cluster = "bench"};
}

/* Columns of a definition, copied into an arena that outlives it. */
static struct schema schema_copy(struct arena *arena, const struct schema *from)
{
    struct schema out = {.cols = from->cols};
    out.types = arena_memdup(arena, from->types, from->cols * sizeof(from->types[0]));
    out.names = ARENA_ARRAY(arena, const char *, from->cols);
    for (uint32_t c = 0; c < from->cols && from->names != NULL; c++) { /* a plan has none */
        out.names[c] = arena_strdup(arena, from->names[c]);
    }
    return out;
}

/* Ids are TABLE_ID and up, in the order of nexmark_tables: find_sources counts on it. */
static err_t add_table(struct catalog *catalog, const char *create)
{
    ASSERT(catalog->made < NEXMARK_TABLES);
    struct sql_context cx = context_of(catalog);
    struct sql_script *script = NULL;
    struct sql_ddl *ddl = NULL;
    TRY(sql_parse(create, strlen(create), &script));
    err_t err = sql_plan_ddl(&cx, script->stmts[0], &ddl);
    if (err == ERR_OK) {
        struct sql_relation *relation = &catalog->relations[catalog->made];
        relation->id = TABLE_ID + catalog->made;
        relation->oid = TABLE_ID + catalog->made;
        relation->kind = SQL_REL_TABLE;
        relation->database = "nexmark";
        relation->schema = "public";
        relation->name = arena_strdup(&catalog->arena, ddl->name.name);
        relation->columns = schema_copy(&catalog->arena, &ddl->columns);
        catalog->made++;
        sql_ddl_free(ddl);
    }
    sql_script_free(script);
    return err;
}

static err_t catalog_fill(struct catalog *catalog)
{
    for (uint32_t t = 0; t < NEXMARK_TABLES; t++) {
        TRY(add_table(catalog, nexmark_tables[t]));
    }
    ASSERT(catalog->made == NEXMARK_TABLES);
    return ERR_OK;
}

/* ---- the engine's host ----------------------------------------------------------------------- */

/* Callbacks cannot return errors: the first is kept for nexmark_flow_run. Owns err. */
static void keep(struct nexmark_flow *flow, err_t err)
{
    ASSERT(err != ERR_OK);
    if (flow->err == ERR_OK) {
        flow->err = err;
    } else {
        err_free(err);
    }
}

/* As COPY's text format has it, but that nothing in the stream needs escaping. */
static void print_row(struct nexmark_flow *flow, const struct batch *b, uint32_t row)
{
    buf_clear(&flow->line);
    for (uint32_t c = 0; c < b->cols; c++) {
        struct datum d;
        batch_datum(&b->col[c], row, &d);
        buf_append(&flow->line, "\t", 1);
        if (d.null) {
            buf_append(&flow->line, "\\N", 2);
        } else {
            datum_print(&flow->columns.types[c], &d, &flow->line);
        }
    }
    fprintf(flow->answers, "%lld%.*s\n", (long long)batch_diff(b, row), (int)flow->line.len,
            (const char *)flow->line.data);
}

/* Net sum of all bigint values: what a hand-written loop can be compared by. */
static uint64_t sum_ints(const struct batch *b)
{
    uint64_t sum = 0;
    for (uint32_t c = 0; c < b->cols; c++) {
        const int64_t *values = b->col[c].values;
        for (uint32_t row = 0; b->col[c].kind == TYPE_INT8 && row < b->rows; row++) {
            bool null = batch_is_null(&b->col[c], row);
            sum += null ? 0 : (uint64_t)(values[row] * batch_diff(b, row));
        }
    }
    return sum;
}

static void on_subscribe(void *ctx, uint64_t export_id, uint64_t lower, uint64_t upper,
                         const struct batch *ok, const struct batch *err)
{
    struct nexmark_flow *flow = ctx;
    ASSERT(export_id == EXPORT && lower <= upper);
    if (err != NULL && err->rows > 0) {
        struct datum message;
        batch_datum(&err->col[ERR_COL_MESSAGE], 0, &message);
        keep(flow, err_new(ERR_INVALID, "the query's answer is an error: %.*s", (int)message.len,
                           message.s));
    }
    if (ok == NULL || ok->rows == 0) {
        return;
    }
    if (ok->rows > flow->hashes_cap) {
        flow->hashes_cap = ok->rows;
        flow->hashes = mem_realloc(flow->hashes, ok->rows * sizeof(flow->hashes[0]));
    }
    flow->outcome.ints += sum_ints(ok);
    batch_hash_rows(ok, NULL, ok->cols, flow->hashes);
    for (uint32_t row = 0; row < ok->rows; row++) {
        int64_t diff = batch_diff(ok, row);
        flow->outcome.rows += diff;
        flow->outcome.checksum += (uint64_t)diff * flow->hashes[row];
        if (flow->answers != NULL) {
            print_row(flow, ok, row);
        }
    }
    flow->outcome.updates += ok->rows;
}

static void on_frontier(void *ctx, uint64_t export_id, uint64_t upper)
{
    struct nexmark_flow *flow = ctx;
    ASSERT(export_id == EXPORT && upper >= flow->frontier);
    flow->frontier = upper;
}

static void on_failed(void *ctx, uint64_t dataflow_id, err_t err)
{
    keep(ctx, err_wrap(err, "the dataflow failed"));
}

static const struct engine_host host = {.send = alone_send,
                                        .frontier = on_frontier,
                                        .subscribe = on_subscribe,
                                        .peek_done = alone_peek_done,
                                        .failed = on_failed};

/* ---- a flow ---------------------------------------------------------------------------------- */

/* "SUBSCRIBE (query)": the planner's way to a plan whose export is a stream of changes. */
static err_t plan_query(struct catalog *catalog, const char *sql, struct sql_query **out)
{
    struct sql_context cx = context_of(catalog);
    struct sql_script *script = NULL;
    struct buf text = {0};
    buf_printf(&text, "SUBSCRIBE (\n%s)", sql);
    err_t err = sql_parse((const char *)text.data, text.len, &script);
    if (err == ERR_OK) {
        err = sql_plan_query(&cx, script->stmts[0], out);
        sql_script_free(script);
    }
    buf_free(&text);
    return err;
}

/* Which table each source of the plan is. */
static void find_sources(struct nexmark_flow *flow, const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->nodes_len; i++) {
        if (plan->nodes[i].op == PLAN_SOURCE) {
            ASSERT(flow->sources_len < SOURCES_MAX);
            ASSERT(plan->nodes[i].import.id - TABLE_ID < NEXMARK_TABLES);
            flow->sources[flow->sources_len++] =
                (enum nexmark_table)(plan->nodes[i].import.id - TABLE_ID);
        }
    }
}

/* From now on the engine waits for the first round. */
static err_t start(struct nexmark_flow *flow, struct sql_query *query)
{
    uint32_t parts[SOURCES_MAX];
    struct plan *plan = query->plan;
    ASSERT(query->kind == SQL_QUERY_DATAFLOW && plan->exports_len == 1);
    flow->columns = schema_copy(&flow->arena, &plan->nodes[plan->exports[0].node].schema);
    ASSERT(flow->columns.cols <= COLS_MAX);
    plan->id = DATAFLOW;
    plan->as_of = 0;
    plan->exports[0].id = EXPORT;
    plan->exports[0].snapshot = true;
    plan->exports[0].until = FRONTIER_EMPTY;
    TRY(plan_validate(plan));
    find_sources(flow, plan);
    for (uint32_t i = 0; i < flow->sources_len; i++) {
        parts[i] = 1;
    }
    query->plan = NULL; /* the engine's */
    return engine_create(flow->engine, plan, parts, flow->sources_len);
}

err_t nexmark_flow_new(const char *sql, FILE *answers, struct nexmark_flow **out)
{
    struct catalog catalog = {0};
    struct sql_query *query = NULL;
    struct nexmark_flow *flow = MEM_NEW(struct nexmark_flow);
    struct engine_config config = {.workers = 1, .host = &host, .ctx = flow};
    flow->engine = engine_new(&config);
    flow->answers = answers;
    err_t err = catalog_fill(&catalog);
    if (err == ERR_OK) {
        err = plan_query(&catalog, sql, &query);
    }
    if (err == ERR_OK) {
        err = start(flow, query);
        sql_query_free(query);
    }
    arena_free(&catalog.arena);
    if (err != ERR_OK) {
        nexmark_flow_free(flow);
        return err;
    }
    *out = flow;
    return ERR_OK;
}

void nexmark_flow_free(struct nexmark_flow *flow)
{
    engine_free(flow->engine);
    err_free(flow->err);
    buf_free(&flow->line);
    arena_free(&flow->arena);
    free(flow->hashes);
    free(flow);
}

err_t nexmark_flow_run(struct nexmark_flow *flow, const struct nexmark_rounds *rounds, size_t round)
{
    ASSERT(round < rounds->len && flow->frontier <= round);
    for (uint32_t i = 0; i < flow->sources_len; i++) {
        const struct nexmark_batch *batch = &rounds->batches[round][flow->sources[i]];
        engine_input(flow->engine, DATAFLOW, i, 0, round, round + 1,
                     batch->data != NULL ? &batch->view : NULL, NULL);
    }
    while (flow->frontier <= round && flow->err == ERR_OK) {
        engine_step(flow->engine);
    }
    err_t err = flow->err;
    flow->err = ERR_OK;
    return err;
}

struct nexmark_outcome nexmark_flow_outcome(const struct nexmark_flow *flow)
{
    return flow->outcome;
}

uint64_t nexmark_flow_memory(const struct nexmark_flow *flow)
{
    return engine_memory(flow->engine);
}
