/* Shared between the files of tailrace-bench sql: connections and timed statements. */
#ifndef TAILRACE_BENCH_SQL_H
#define TAILRACE_BENCH_SQL_H

#include "bench/hist.h"
#include "bench/options.h"
#include "bench/report.h"

#include <libpq-fe.h>

/* NULL: said through report_wrong. user and database: tailrace, or of PostgreSQL. */
PGconn *sql_connect(const struct options *options, const char *port, const char *user,
                    struct report *report);
/* Runs a statement; false when it failed, which report_wrong says. */
bool sql_run(PGconn *connection, const char *statement, struct report *report);
/* The first value of the answer as a number; -1 and report_wrong when there is none. */
long long sql_number(PGconn *connection, const char *statement, struct report *report);

/* How fresh a view is: INSERT at a steady rate here, SUBSCRIBE to a view there. */
void sql_freshness(const struct options *options, struct report *report);

#endif
