/*
 * A PostgreSQL client for simulated processes: one connection, simple queries, COPY TO STDOUT.
 * Frees itself after closed() ran or pgclient_close was called.
 */
#ifndef TAILRACE_TESTS_SIM_PGCLIENT_H
#define TAILRACE_TESTS_SIM_PGCLIENT_H

#include "core/io/io.h"

struct pgclient;

struct pgclient_handler {
    /* Ready for a query: after the connection stands, and after each query; error is its SQLSTATE
     * and message ("" when it succeeded). */
    void (*ready)(void *arg, const char *sqlstate, const char *message);
    /* A line of COPY TO STDOUT, without its newline. */
    void (*line)(void *arg, const char *line);
    /* A row of a query; NULL values are NULL. */
    void (*row)(void *arg, const char *const *values, size_t len);
    /* The connection is gone (also when it never came to be). */
    void (*closed)(void *arg);
};

struct pgclient *pgclient_new(struct io_loop *loop, const char *address,
                              const struct pgclient_handler *handler, void *arg);
void pgclient_query(struct pgclient *client, const char *sql);
/* No callback runs any more. NULL is allowed. */
void pgclient_close(struct pgclient *client);

#endif
