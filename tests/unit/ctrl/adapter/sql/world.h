/*
 * A small database for tests: tables, views and indexes in memory behind the planner's catalog,
 * and one engine that runs what is planned. Statements go in as text, rows come out as text.
 */
#ifndef TAILRACE_TESTS_UNIT_CTRL_ADAPTER_SQL_WORLD_H
#define TAILRACE_TESTS_UNIT_CTRL_ADAPTER_SQL_WORLD_H

#include "core/engine/engine.h"
#include "ctrl/adapter/sql/sql.h"

struct world_relation {
    struct sql_relation relation;
    struct datum *rows; /* rows_len * columns */
    size_t rows_len, rows_cap;
};

struct world {
    struct arena arena; /* of everything that lives as long as the world */
    struct world_relation **relations;
    size_t relations_len, relations_cap;
    uint64_t next_id;
    struct sql_catalog catalog;
    struct sql_context cx;
};

struct world_result {
    char **rows; /* values joined by '|', NULL as "\N" */
    size_t rows_len, rows_cap;
    char *names;  /* of the columns, joined by '|' */
    bool ordered; /* ORDER BY was given */
    uint8_t kind; /* enum sql_query_kind of what ran */
};

struct world *world_new(void);
void world_free(struct world *world);
/* Runs every statement of the text: CREATE TABLE, VIEW, INDEX; INSERT, UPDATE, DELETE. */
err_t world_exec(struct world *world, const char *text);
/* Runs one query, or a write, whose rows are those of RETURNING; the caller frees the result. */
err_t world_query(struct world *world, const char *text, struct world_result *out);
void world_result_free(struct world_result *result);
void world_result_sort(struct world_result *result);
/* EXPLAIN of a query; free with free(). */
char *world_explain(struct world *world, const char *text);
/* Adds a catalog table: columns as in CREATE TABLE. */
err_t world_virtual(struct world *world, const char *schema, const char *create);
/* INSERT into a catalog table. */
err_t world_fill(struct world *world, const char *schema, const char *name, const char *insert);
struct world_relation *world_find(struct world *world, const char *schema, const char *name);

#endif
