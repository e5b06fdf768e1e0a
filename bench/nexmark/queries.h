/*
 * The Nexmark queries, in plain SQL (sql/): they mean the same here, in PostgreSQL and, given
 * date_bin and to_char as macros, in DuckDB.
 *
 * Not among them: Q10 (writes files) and Q12 (windows by the reader's clock: no answer to compare).
 */
#ifndef TAILRACE_BENCH_NEXMARK_QUERIES_H
#define TAILRACE_BENCH_NEXMARK_QUERIES_H

#include <stddef.h>
#include <stdint.h>

enum nexmark_table { NEXMARK_TABLE_PERSON, NEXMARK_TABLE_AUCTION, NEXMARK_TABLE_BID,
                     NEXMARK_TABLE_SIDE_INPUT, NEXMARK_TABLES };

/* CREATE TABLE of each, in the order of the enumeration. */
extern const char *const nexmark_tables[NEXMARK_TABLES];

enum { NEXMARK_SIDE_ROWS = 10000 }; /* side_input: 0 -> 'side_0' ... */

struct nexmark_query {
    const char *name; /* "q3" */
    const char *sql;  /* begins with a comment that says what it asks */
    uint64_t rows_100k; /* of the answer after 100,000 events, as DuckDB 1.5 has it */
    uint64_t rows_1m;   /* after 1,000,000 */
};

extern const struct nexmark_query nexmark_queries[];
extern const size_t nexmark_queries_len;

#endif
