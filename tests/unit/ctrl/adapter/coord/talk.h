/*
 * Sessions from bytes to bytes: the real protocol, planner, catalog, oracle and engine in the
 * simulator, the controllers replaced by local_controller. Each case is a conversation.
 */
#ifndef TAILRACE_TESTS_UNIT_CTRL_ADAPTER_COORD_TALK_H
#define TAILRACE_TESTS_UNIT_CTRL_ADAPTER_COORD_TALK_H

#include "ctrl/adapter/coord/coord.h"
#include "tests/unit/ctrl/adapter/coord/local_controller.h"
#include "tests/unit/ctrl/adapter/memory_stream.h"
#include "tests/unit/harness.h"

struct talk;

/*
 * A simple query ("1+..." asks for one row and then the rest) and its answer in short: rows "a|b",
 * NULL as ~, times as T, tags, "!SQLSTATE"; each ends in ";", notices and everything else are left
 * out. COPY out is given as text behind "<".
 */
struct line {
    const char *query;
    const char *answer;
    const char *error;                  /* a text the error has somewhere, or NULL */
    void (*then)(struct talk *t);       /* runs then_us after the query was sent, or NULL */
    uint64_t then_us;
    void (*after)(struct talk *t);      /* runs once it was answered, or NULL */
};

/* One client. */
struct client {
    struct memory_stream *stream;
    size_t read;    /* of the stream's output */
    uint8_t key[8]; /* for cancelling */
};

struct talk {
    const struct line *lines;
    size_t lines_len;
    size_t at;
    bool asked;
    bool acted;        /* then has run */
    uint64_t asked_us;
    struct io_loop *loop;
    struct catalog *catalog;
    struct oracle *oracle;
    struct controller *controller;
    struct coord *coord;
    struct pgwire_server *server;
    struct client main, other;
    struct memory_stream *canceller;
    struct io_timer timer;
    uint32_t advances;     /* of all tables, in the end */
    struct buf copied;     /* what the last COPY out gave */
    size_t max_copy_bytes; /* see coord.h */
    const char *password;
    const char *fatal;     /* a text the server must have said in the end, or NULL */
    uint64_t run_us;       /* of virtual time; 0: 20 s */
    void (*before)(struct talk *t);
};

void talk_run(struct talk *t);
void talk_converse(const struct line *lines, size_t lines_len, void (*before)(struct talk *t));
#define CONVERSE(lines) talk_converse(lines, ARRAY_LEN(lines), NULL)
/* A query on a second connection, made when needed; its answer is not looked at. */
void talk_other(struct talk *t, const char *query);
/* Cancels what the first connection runs, as psql would. */
void talk_cancel(struct talk *t);

#endif
