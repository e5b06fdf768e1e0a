/*
 * A worker that sends a fixed sequence of messages to every other worker and checks that it gets
 * theirs: each exactly once within a generation, in order, whole. After a loss it begins again.
 */
#ifndef TAILRACE_TESTS_UNIT_RING_EXCHANGE_WORKER_H
#define TAILRACE_TESTS_UNIT_RING_EXCHANGE_WORKER_H

#include "ring/exchange/exchange.h"

enum { TALK_WORKERS_MAX = 16 };

struct talker {
    struct exchange *x;
    struct io_loop *loop;
    uint32_t index; /* local */
    uint32_t self;  /* global */
    uint32_t total;
    uint64_t messages; /* to each of the others, per generation */
    size_t len_max;
    uint64_t generation;
    bool formed;
    uint64_t sent[TALK_WORKERS_MAX];
    uint64_t got[TALK_WORKERS_MAX];
    uint64_t formed_times;
    uint64_t lost_times;
    uint64_t writable_times;
    uint64_t bytes;
    char wrong[128];
    bool done; /* got everything in this generation */
    void (*on_done)(struct talker *t);
    void *ctx;
    struct io_poller poller;
    struct io_timer timer;
    bool asleep;       /* whenever there is nothing to do: it does not look for work first */
    uint64_t pause_us; /* between messages; 0: as fast as back-pressure lets it */
};
extern const struct exchange_handler talk_handler; /* worker_ctx: struct talker */
/* On the worker's loop. */
void talker_start(struct talker *t, struct io_loop *loop);
void talker_stop(struct talker *t);
/* Everything received in the generation that stands? */
bool talker_complete(const struct talker *t);

#endif
