/* A throw-away PostgreSQL 15 of the test's own, in a temporary folder, reached by a socket there.
 */
#ifndef TAILRACE_TESTS_UNIT_CTRL_ADAPTER_SQL_PG_H
#define TAILRACE_TESTS_UNIT_CTRL_ADAPTER_SQL_PG_H

#include <stdbool.h>
#include <stddef.h>

struct pg;

struct pg_result {
    char **rows; /* values joined by '|', NULL as "\N" */
    size_t rows_len, rows_cap;
    char *names;      /* of the columns, joined by '|' */
    char sqlstate[6]; /* "" when it succeeded */
    char *message;
    int position;
};

/* Does this machine have one? */
bool pg_available(void);
/* NULL when it has none, or it does not start. */
struct pg *pg_start(void);
void pg_stop(struct pg *pg);
void pg_query(struct pg *pg, const char *sql, struct pg_result *out);
void pg_result_sort(struct pg_result *result);
void pg_result_free(struct pg_result *result);

#endif
