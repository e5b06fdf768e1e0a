/* A connected pair of streams on one loop, for scenarios: what each side got is recorded. */
#ifndef TAILRACE_TESTS_UNIT_CORE_IO_PAIR_H
#define TAILRACE_TESTS_UNIT_CORE_IO_PAIR_H

#include "tests/unit/core/io/world.h"

struct pair;

struct side {
    struct pair *pair;
    struct io_stream *stream; /* NULL once closed */
    struct buf got;
    unsigned drains;
    unsigned closes;
    err_t reason; /* of close; owned */
    int fds[4];   /* that arrived; owned */
    size_t fds_len;
};

struct pair {
    struct world world;
    const char *address; /* NULL: 127.0.0.1:0 */
    struct io_listener *listener;
    struct side client;
    struct side server;
    /* Set by the scenario; NULL: nothing happens. */
    void (*ready)(struct pair *pair); /* both sides are there */
    void (*data)(struct side *side);
    void (*drain)(struct side *side);
    void (*closed)(struct side *side);
    unsigned sides_ready;
    struct io_timer timer; /* the scenario's */
    unsigned count;        /* the scenario's */
};

/* Listens, connects, calls ready; the scenario stops the loop. Frees what it recorded. */
void pair_run(struct pair *pair, enum world_kind kind, void (*check)(struct pair *pair));
void pair_stop(struct pair *pair);

#endif
