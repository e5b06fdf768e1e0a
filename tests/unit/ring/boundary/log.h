/*
 * A synthetic definite log as the backend of a boundary server, and the reader that checks that
 * it got exactly that log. Record i of time t of (source, worker) is a function of these numbers,
 * so a reader needs nothing but them to know what must come next.
 */
#ifndef TAILRACE_TESTS_UNIT_RING_BOUNDARY_LOG_H
#define TAILRACE_TESTS_UNIT_RING_BOUNDARY_LOG_H

#include "core/base/map.h"
#include "core/base/mem.h"
#include "ring/boundary/boundary.h"

/* A storage worker's logs. Every source has the same upper, moved by a timer. */
struct log_worker {
    struct boundary_server *server;
    struct io_loop *loop;
    uint32_t index; /* global */
    uint32_t sources;
    uint64_t upper;
    uint64_t end;     /* last time; then the log is sealed */
    uint64_t tick_us; /* 0: all is there from the start */
    bool sealed;
    uint64_t since;
    struct io_timer timer;
    uint64_t random;
    size_t cursors; /* open */
    size_t record_max;
    bool whole;        /* else chunks sometimes end amid a time: parts, which nobody shares */
    bool always_ready; /* else open() sometimes answers: not yet */
};
extern const struct boundary_backend log_backend;
/* On the worker's loop: registers with the server and begins to tick. */
void log_worker_start(struct log_worker *w, struct io_loop *loop);
/* Its loop died or it must not tick any more; its log stays for the next start. */
void log_worker_stop(struct log_worker *w);

/* A reader of one (source, worker), checking. */
struct log_reader {
    uint64_t source;
    uint32_t worker;
    uint64_t end;
    size_t record_max;
    uint64_t upper; /* of the last complete chunk */
    uint64_t at_time; /* next record must be this one */
    uint64_t at_index;
    uint64_t kept_time; /* position at the last complete chunk */
    uint64_t kept_index;
    uint64_t records;
    uint64_t resets;
    uint64_t bytes;
    char wrong[160]; /* first thing that was */
    char refused[160];
    int refused_code;
    bool done;
    void (*on_done)(struct log_reader *r);
    void *ctx;
    struct boundary_sub *sub;
};
void log_reader_init(struct log_reader *r, uint64_t source, uint32_t worker, uint64_t end,
                     size_t record_max);
extern const struct boundary_handler log_handler; /* arg: struct log_reader */
struct boundary_request log_request(struct log_reader *r, uint64_t as_of);

#endif
