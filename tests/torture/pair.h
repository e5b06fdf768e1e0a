/*
 * Two processes with a session over shared memory between them, one worker each on the net loop.
 * The second is forked before there is any loop.
 */
#ifndef TAILRACE_TESTS_TORTURE_PAIR_H
#define TAILRACE_TESTS_TORTURE_PAIR_H

#include "ring/shm/internal.h"

#include <sys/types.h>

struct pair {
    bool child;
    char path[96];
    pid_t pid; /* the child's */
    size_t arena_bytes;
    struct io_loop *loop;
    struct io_listener *listener;
    struct carrier *carrier; /* NULL: none now */
    const struct carrier_host *host;
    void (*started)(struct pair *p); /* the loop runs; the child may connect */
    void *ctx;
};

/* Forks, runs start on a loop in both, returns in the parent with what is left of it; the child's
 * side ends with its loop. The parent listens, and has a session of any connection. */
void pair_run(struct pair *p);
/* The child: connects. */
void pair_connect(struct pair *p);

#endif
