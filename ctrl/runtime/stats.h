/*
 * Answers to ReportStats: what a process counts, told to environmentd when it asks.
 *
 * A question is answered by pages: each turn of the main loop looks at a bounded number of counters
 * and sends what it found, so that 100,000 subscriptions hold up nobody. Others (the workers) may
 * owe parts of the answer; the last page follows the last part. Counts are read where they lie,
 * from the main loop: their writers notice nothing.
 *
 * Main loop only. Questions are the session's: with it they end (stats_clear), and parts that come
 * later find nobody, for their number is never used again.
 */
#ifndef TAILRACE_CTRL_RUNTIME_STATS_H
#define TAILRACE_CTRL_RUNTIME_STATS_H

#include "core/base/counters.h"
#include "core/base/map.h"
#include "core/io/io.h"
#include "proto/control.pb.h"

enum {
    STATS_QUESTIONS_MAX = 64, /* under way at a time; one more is answered with an error */
    STATS_PAGE_SLOTS = 4096,  /* looked at in one turn of the loop: a fifth of a millisecond */
    STATS_PAGE_ROWS = 1024,   /* told in one message */
};

/* Sends a page; the message is valid during the call. */
typedef void (*stats_send_fn)(void *ctx, const tailrace_v1_Stats *page);

struct stats {
    struct io_loop *loop;
    struct counters *counters; /* may be NULL: then there are none to tell */
    stats_send_fn send;
    void *ctx;
    struct u64map questions; /* number -> struct stats_question */
    uint64_t next;           /* the last number given out */
};

void stats_init(struct stats *stats, struct io_loop *loop, struct counters *counters,
                stats_send_fn send, void *ctx);
/* Begins to answer. parts: how many others owe a part, each ended by one stats_part. Returns the
 * question's number here, or 0: it is answered already. */
uint64_t stats_ask(struct stats *stats, const tailrace_v1_ReportStats *question, uint32_t parts);
/* Rows of a part; page's id and last are set here. Nothing when the question is gone. */
void stats_page(struct stats *stats, uint64_t number, tailrace_v1_Stats *page);
/* A part is complete. */
void stats_part(struct stats *stats, uint64_t number);
/* Nobody asks any more. */
void stats_clear(struct stats *stats);

#endif
