/*
 * Connections through libpq. See sql.h.
 *
 * Every statement's result is looked at: an error is reported with the server's first line and
 * makes the bench fail, so a fast refusal is never taken for a fast answer. One connection is used
 * by one thread.
 */
#include "bench/sql.h"

#include "core/base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A failed statement's message, in one line. */
static void wrong(struct report *report, const char *what, const char *message)
{
    int len = (int)strcspn(message, "\n");
    ASSERT(message != NULL);
    report_wrong(report, "%s: %.*s", what, len, message);
}

/* "does not exist, skipping": expected, and not worth a line. */
static void ignore_notice(void *arg, const char *message)
{
}

PGconn *sql_connect(const struct options *options, const char *port, const char *user,
                    struct report *report)
{
    const char *const keys[] = {"host", "port", "user", "dbname", "connect_timeout", "sslmode",
                                NULL};
    const char *const values[] = {options->host, port, user, user, "10", "disable", NULL};
    PGconn *connection = PQconnectdbParams(keys, values, 0);
    if (PQstatus(connection) != CONNECTION_OK) {
        wrong(report, "connecting", PQerrorMessage(connection));
        PQfinish(connection);
        return NULL;
    }
    PQsetNoticeProcessor(connection, ignore_notice, NULL);
    return connection;
}

bool sql_run(PGconn *connection, const char *statement, struct report *report)
{
    PGresult *result = PQexec(connection, statement);
    ExecStatusType status = PQresultStatus(result);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    if (!ok) {
        wrong(report, statement, PQerrorMessage(connection));
    }
    PQclear(result);
    return ok;
}

long long sql_number(PGconn *connection, const char *statement, struct report *report)
{
    PGresult *result = PQexec(connection, statement);
    long long number = -1;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        wrong(report, statement, PQerrorMessage(connection));
    } else if (PQntuples(result) == 1 && !PQgetisnull(result, 0, 0)) {
        number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    } else {
        report_wrong(report, "%s: %d rows", statement, PQntuples(result));
    }
    PQclear(result);
    return number;
}
