/* See pg.h: initdb, start, stop, and queries through libpq. */
#include "tests/unit/ctrl/adapter/sql/pg.h"

#include "core/base/buf.h"
#include "core/base/mem.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <unistd.h>

#define PG_BIN "/usr/lib/postgresql/15/bin"

struct pg {
    char dir[64];
    PGconn *conn;
};

/* PostgreSQL refuses to run as root: then everything is done as user postgres. */
static int shell(const char *dir, const char *command)
{
    char *full = NULL;
    int len = geteuid() == 0
                  ? asprintf(&full, "cd %s && runuser -u postgres -- sh -c '%s' >%s/log 2>&1", dir,
                             command, dir)
                  : asprintf(&full, "cd %s && sh -c '%s' >%s/log 2>&1", dir, command, dir);
    ASSERT(len > 0);
    int status = system(full);
    free(full);
    return status;
}

static void connect_to(struct pg *pg)
{
    char conninfo[256];
    snprintf(conninfo, sizeof(conninfo), "host=%s port=54399 user=postgres dbname=postgres",
             pg->dir);
    pg->conn = PQconnectdb(conninfo);
    PGresult *r = PQexec(pg->conn, "set timezone = 'UTC'; set extra_float_digits = 1; "
                                   "set statement_timeout = 10000; set jit = off");
    PQclear(r);
}

bool pg_available(void)
{
    return access(PG_BIN "/initdb", X_OK) == 0;
}

/* The server must not outlive a test that dies: a shell, in a session of its own so that it is
 * not killed along, waits for that and cleans up. */
static void watch(const char *dir)
{
    char *command = NULL;
    int len = asprintf(&command,
                       "setsid sh -c 'while kill -0 %d 2>/dev/null; do sleep 1; done; "
                       "sleep 3; test -d %s && "
                       "kill -QUIT $(head -1 %s/data/postmaster.pid) 2>/dev/null; "
                       "sleep 1; rm -rf %s' >/dev/null 2>&1 &",
                       (int)getpid(), dir, dir, dir);
    ASSERT(len > 0);
    if (system(command) != 0) {
        fprintf(stderr, "nobody watches %s\n", dir);
    }
    free(command);
}

struct pg *pg_start(void)
{
    if (!pg_available()) {
        return NULL;
    }
    struct pg *pg = MEM_NEW(struct pg);
    snprintf(pg->dir, sizeof(pg->dir), "/tmp/tailrace-oracle-XXXXXX");
    ASSERT(mkdtemp(pg->dir) != NULL);
    watch(pg->dir);
    char *command = NULL;
    int len = asprintf(&command, "chmod 777 %s", pg->dir);
    ASSERT(len > 0 && system(command) == 0);
    free(command);
    len =
        asprintf(&command,
                 PG_BIN "/initdb -D %s/data -A trust -U postgres --locale=C -E UTF8 -N && " PG_BIN
                        "/pg_ctl -D %s/data -o \"-k %s -h \\\"\\\" -p 54399 -F\" -l %s/server.log "
                        "-w start",
                 pg->dir, pg->dir, pg->dir, pg->dir);
    ASSERT(len > 0);
    int status = shell(pg->dir, command);
    free(command);
    if (status == 0) {
        connect_to(pg);
    }
    if (status != 0 || PQstatus(pg->conn) != CONNECTION_OK) {
        fprintf(stderr, "PostgreSQL does not start: see %s/log\n", pg->dir);
        PQfinish(pg->conn);
        free(pg);
        return NULL;
    }
    return pg;
}

void pg_stop(struct pg *pg)
{
    char *command = NULL;
    PQfinish(pg->conn);
    int len = asprintf(&command, PG_BIN "/pg_ctl -D %s/data -m immediate -w stop", pg->dir);
    ASSERT(len > 0);
    shell(pg->dir, command);
    free(command);
    len = asprintf(&command, "rm -rf %s", pg->dir);
    ASSERT(len > 0);
    if (system(command) != 0) {
        fprintf(stderr, "%s is left behind\n", pg->dir);
    }
    free(command);
    free(pg);
}

static void take_rows(const PGresult *r, struct pg_result *out)
{
    struct buf names = {0};
    for (int c = 0; c < PQnfields(r); c++) {
        buf_printf(&names, "%s%s", c > 0 ? "|" : "", PQfname(r, c));
    }
    out->names = mem_strdup(buf_cstr(&names));
    buf_free(&names);
    for (int i = 0; i < PQntuples(r); i++) {
        struct buf text = {0};
        for (int c = 0; c < PQnfields(r); c++) {
            buf_append_str(&text, c > 0 ? "|" : "");
            buf_append_str(&text, PQgetisnull(r, i, c) ? "\\N" : PQgetvalue(r, i, c));
        }
        *VEC_PUSH(out, rows) = mem_strdup(buf_cstr(&text));
        buf_free(&text);
    }
}

void pg_query(struct pg *pg, const char *sql, struct pg_result *out)
{
    *out = (struct pg_result){0};
    PGresult *r = PQexec(pg->conn, sql);
    ExecStatusType status = PQresultStatus(r);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY) {
        const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
        const char *message = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
        const char *position = PQresultErrorField(r, PG_DIAG_STATEMENT_POSITION);
        snprintf(out->sqlstate, sizeof(out->sqlstate), "%s", state == NULL ? "?????" : state);
        out->message = mem_strdup(message == NULL ? "" : message);
        out->position = position == NULL ? 0 : (int)strtol(position, NULL, 10);
    } else {
        take_rows(r, out);
    }
    if (out->message == NULL) {
        out->message = mem_strdup("");
    }
    PQclear(r);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void pg_result_sort(struct pg_result *result)
{
    if (result->rows_len > 0) {
        qsort(result->rows, result->rows_len, sizeof(result->rows[0]), by_text);
    }
}

void pg_result_free(struct pg_result *result)
{
    for (size_t i = 0; i < result->rows_len; i++) {
        free(result->rows[i]);
    }
    free(result->rows);
    free(result->message);
    free(result->names);
    *result = (struct pg_result){0};
}
