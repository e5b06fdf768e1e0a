/* Random queries over the oracle's tables t, s, u: typed, so that they mean something. */
#ifndef TAILRACE_TESTS_UNIT_CTRL_ADAPTER_SQL_RANDOM_H
#define TAILRACE_TESTS_UNIT_CTRL_ADAPTER_SQL_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random_sql {
    uint64_t state;
    uint32_t aliases;
    uint32_t depth; /* of queries */
    uint32_t nest;  /* of expressions */
    bool failing;   /* divisions, by zero too */
    bool numbered;  /* the select list tells equal rows apart, in some order */
};

/* A query without ORDER BY (or with one over all its columns); free with free(). */
char *random_query(struct random_sql *gen);

#endif
