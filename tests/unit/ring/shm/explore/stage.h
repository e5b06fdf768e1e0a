/*
 * What the explored code runs on: sessions between a producer (thread 0) and one or two consumers
 * (threads 1, 2), one worker a side, with the memories, pollers and pools of ring/shm as they are
 * and everything below and above it (loops, the base of carriers, mailboxes) replaced by the little
 * that a schedule needs.
 */
#ifndef TAILRACE_TESTS_UNIT_RING_SHM_EXPLORE_STAGE_H
#define TAILRACE_TESTS_UNIT_RING_SHM_EXPLORE_STAGE_H

#include "ring/shm/internal.h"
#include "tests/unit/ring/shm/explore/explorer.h"

enum { STAGE_SESSIONS = 2, STAGE_ARENA = SHM_PAGE };

/* A session seen from one side. */
struct stage_side {
    uint32_t thread;
    struct shm_carrier shm;
    struct carrier_end base_end;
    struct shm_end end;
    uint32_t expects; /* messages in all */
    uint32_t next;    /* its number: each message says it in a */
    uint32_t lost;
    bool answers;     /* sends one back for each */
    bool writable;
    bool never_clears; /* places of dense messages: broken on purpose */
    bool stops;       /* at the first message it reads, until the producer has ended */
    uint32_t began;   /* 1: it has stopped */
    uint32_t goodbye; /* 1: it was told that the session is over, by the net loop */
    uint32_t seen_word; /* what the futex is armed with */
    bool armed;
};

struct stage_config {
    uint32_t sessions;
    uint32_t lines; /* of rings */
    bool runs;      /* the consumers' hosts take runs and packs */
    uint32_t dense; /* bytes a message may have that lies in the ring */
    bool shared;    /* the producer's pool outlives the sessions */
};

extern struct stage_side stage_producer[STAGE_SESSIONS];
extern struct stage_side stage_consumer[STAGE_SESSIONS];
extern struct shm_pool stage_pool; /* the producer's */

/* Before each schedule. */
void stage_reset(const struct stage_config *config);
/* Message number n of the session, of len bytes that follow from it; flushes if told. */
void stage_send(struct stage_side *side, uint32_t n, size_t len, bool flush);
/* The same, to be published by the call itself. */
void stage_send_now(struct stage_side *side, uint32_t n, size_t len);
/* Messages from n on, count of them, in runs, or as one pack; not flushed. */
void stage_send_run(struct stage_side *side, uint32_t n, uint32_t count, size_t len);
void stage_send_pack(struct stage_side *side, uint32_t n, uint32_t count, size_t len);
/* In the ring, if it may lie there: most bytes are filled, len of them sent. */
void stage_build(struct stage_side *side, uint32_t n, size_t most, size_t len);
/* Message n + 1 is begun, n sent, the turn ended, then n + 1 sent. */
void stage_build_around(struct stage_side *side, uint32_t n, size_t len);
/* In a block that is begun before the turn's end and committed after it. */
void stage_send_over_turn(struct stage_side *side, uint32_t n, size_t len);
/* A block for message n, to be shared; false: none is free. */
bool stage_block(uint32_t n, size_t len, struct carrier_block *block);
void stage_share(struct stage_side *side, uint32_t n, const struct carrier_block *block,
                 size_t len);
/* One turn of the loop of this side, and of the other sides of its thread: polls, and sleeps when
 * there is nothing to do. */
void stage_turn(struct stage_side *sides, uint32_t sides_len);
/* What the end of a turn does, and nothing else: looks for sleepers behind a fence. */
void stage_turn_end(struct stage_side *sides, uint32_t sides_len);
/* Turns until all it expects has come, or until the producer has ended the session, or died and
 * nothing is left. */
void stage_consume(struct stage_side *side);
/* The message between the net loops, which also wakes. */
void stage_goodbye(struct stage_side *consumer);
/* The side lets go, as when its session ends. */
void stage_detach(struct stage_side *side);
/* The same for a session whose reader is proved dead, or says that it is done: what it may still
 * have been reading comes back. */
void stage_reclaim(struct stage_side *side);
/* When all is over: the numbers of both sides fit together, all messages have come unless somebody
 * died, and nothing is held any more. */
void stage_check(uint32_t sessions);

#endif
