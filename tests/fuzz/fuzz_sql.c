/*
 * SQL text: any bytes are parsed or refused, and what parses is planned or refused, over a catalog
 * of a few tables. No crash, no leak, no unbounded recursion.
 */
#include "ctrl/adapter/sql/sql.h"

#include <stdlib.h>

static struct type types[3];
static const char *names[3] = {"a", "b", "c"};
static struct sql_relation table = {.id = 5,
                                    .oid = 16384,
                                    .kind = SQL_REL_TABLE,
                                    .schema = "public",
                                    .name = "t",
                                    .columns = {.cols = 3, .types = types, .names = names}};
static struct sql_relation view = {.id = 6,
                                   .oid = 16385,
                                   .kind = SQL_REL_VIEW,
                                   .schema = "public",
                                   .name = "v",
                                   .definition = "SELECT a, b, c FROM public.t WHERE a > 0",
                                   .columns = {.cols = 3, .types = types, .names = names}};

static err_t on_relation(void *ctx, const char *database, const char *schema, const char *name,
                         struct arena *arena, const struct sql_relation **out)
{
    *out = strcmp(name, "t") == 0 ? &table : strcmp(name, "v") == 0 ? &view : NULL;
    return ERR_OK;
}

static err_t on_rows(void *ctx, const struct sql_relation *relation, struct arena *arena,
                     struct datum **rows, uint32_t *rows_len)
{
    *rows_len = 0;
    return ERR_OK;
}

static void plan(const struct sql_context *cx, const struct sql_stmt *stmt)
{
    struct sql_query *query = NULL;
    struct sql_write *write = NULL;
    struct sql_ddl *ddl = NULL;
    struct sql_description *description = NULL;
    err_free(sql_describe(cx, stmt, &description));
    sql_description_free(description);
    switch (stmt->kind) {
    case SQL_SELECT:
    case SQL_SUBSCRIBE:
    case SQL_SHOW_OBJECTS:
        err_free(sql_plan_query(cx, stmt, &query));
        break;
    case SQL_INSERT:
    case SQL_UPDATE:
    case SQL_DELETE:
    case SQL_TRUNCATE:
        err_free(sql_plan_write(cx, stmt, &write));
        break;
    default:
        if (stmt->kind >= SQL_CREATE_TABLE && stmt->kind <= SQL_CREATE_DATABASE) {
            err_free(sql_plan_ddl(cx, stmt, &ddl));
        }
        break;
    }
    if (query != NULL && query->kind == SQL_QUERY_DATAFLOW) {
        /* What we emit, a worker accepts. */
        query->plan->exports[0].id = 1;
        err_t err = plan_validate(query->plan);
        ASSERT(err == ERR_OK);
    }
    sql_query_free(query);
    sql_write_free(write);
    sql_ddl_free(ddl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sql_catalog catalog = {.relation = on_relation, .virtual_rows = on_rows};
    struct sql_context cx = {.catalog = &catalog,
                             .user = "u",
                             .database = "d",
                             .schema = "public",
                             .version = "v",
                             .cluster = "c"};
    struct sql_script *script = NULL;
    types[0] = type_of(TYPE_INT4);
    types[1] = type_of(TYPE_TEXT);
    types[2] = type_of(TYPE_NUMERIC);
    if (size > 4096) {
        return 0;
    }
    err_t err = sql_parse((const char *)data, size, &script);
    for (uint32_t i = 0; err == ERR_OK && i < script->stmts_len; i++) {
        plan(&cx, script->stmts[i]);
    }
    err_free(err);
    sql_script_free(script);
    return 0;
}
