/*
 * The code of ring/shm under every schedule within bounds: small messages, a full ring, fragments,
 * answers, shared blocks that are lost or fanned out, sessions that end, and death anywhere. At
 * least SCHEDULES_MIN different interleavings in sum; then the same with faults, which must be
 * found.
 */
#include "tests/unit/harness.h"
#include "tests/unit/ring/shm/explore/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEDULES_MIN 1000000ULL
#define SCHEDULES_EACH 220000ULL /* of one scenario, in order, */
#define RANDOM_EACH 100000ULL    /* and drawn at random besides */

enum { MESSAGES = 3, BLOCK = STAGE_ARENA / 2, CHUNK_PARTS = 10, P = 1, C = 2,
       C2 = 4 };

static struct stage_side *const producer = stage_producer;
static struct stage_side *const consumer = stage_consumer;

/* ---- what the threads do --------------------------------------------------------------------- */

static void reset(uint32_t sessions, uint32_t lines, bool shared, uint32_t messages)
{
    struct stage_config config = {.sessions = sessions, .lines = lines, .shared = shared};
    stage_reset(&config);
    for (uint32_t i = 0; i < sessions; i++) {
        consumer[i].expects = messages;
    }
}

/* Sessions whose reader died end: proved dead, it holds nothing. True while any stands. */
static bool readers_left(uint32_t sessions)
{
    bool any = false;
    for (uint32_t i = 0; i < sessions; i++) {
        if (explore_died(1 + i) && producer[i].end.attached) {
            stage_reclaim(&producer[i]);
        }
        any |= producer[i].end.attached;
    }
    return any;
}

static void finish(uint32_t sessions)
{
    while (readers_left(sessions) && producer[0].end.backlogs > 0) {
        stage_turn(producer, sessions);
    }
    stage_turn_end(producer, sessions);
}

static void consume(uint32_t thread)
{
    stage_consume(&consumer[thread - 1]);
}

static uint64_t lost; /* by all readers in all schedules */

static void check_one(void)
{
    stage_check(1);
    lost += consumer->lost;
}

/* Messages of one line, of two, and of none, published in two batches. */
static void small_reset(void)
{
    reset(1, 4, false, MESSAGES);
}

static void small_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    stage_send(producer, 0, 20, true);
    stage_send(producer, 1, SHM_INLINE_HEAD + 1, false);
    stage_send(producer, 2, 0, true);
    finish(1);
}

/* The same ones, each published by its own call, to one who takes runs. */
static void now_reset(void)
{
    struct stage_config config = {.sessions = 1, .lines = 4, .runs = true};
    stage_reset(&config);
    consumer->expects = MESSAGES;
}

static void now_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    stage_send_now(producer, 0, 20);
    stage_send_now(producer, 1, SHM_INLINE_HEAD + 1);
    stage_send_now(producer, 2, 0);
    finish(1);
}

/* Runs of messages of one line and of two, over the ring's end, sent and taken. */
static void runs_reset(void)
{
    now_reset();
    consumer->expects = 7;
}

static void runs_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    stage_send_run(producer, 0, 3, 8);
    shm_flush(&producer->shm.base, 0);
    stage_send_run(producer, 3, 2, SHM_INLINE_HEAD + 8);
    shm_flush(&producer->shm.base, 0);
    stage_send_run(producer, 5, 2, 16);
    shm_flush(&producer->shm.base, 0);
    finish(1);
}

/* Packs, over the ring's end and past what is left before it, and a run where they were. */
static void packs_reset(void)
{
    struct stage_config config = {.sessions = 1, .lines = 8, .runs = true};
    stage_reset(&config);
    consumer->expects = 9;
}

static void packs_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    stage_send_pack(producer, 0, 3, 8);
    shm_flush(&producer->shm.base, 0);
    stage_send_pack(producer, 3, 2, SHM_LINE);
    shm_flush(&producer->shm.base, 0);
    stage_send_run(producer, 5, 2, 16);
    shm_flush(&producer->shm.base, 0);
    stage_send_pack(producer, 7, 2, SHM_LINE);
    shm_flush(&producer->shm.base, 0);
    finish(1);
}

/* Dense messages, of which every line looks like a word when the ring comes round, and what else
 * may follow them: built in less room than was asked for, around others, singly, at once. */
static void dense_reset(void)
{
    struct stage_config config = {.sessions = 1, .lines = 8, .dense = 4 * SHM_LINE};
    stage_reset(&config);
    consumer->expects = 9;
}

static void dense_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    stage_build(producer, 0, SHM_INLINE_MAX + 1, SHM_LINE + 1);
    stage_send(producer, 1, 8, true);
    stage_build(producer, 2, SHM_INLINE_MAX + 1, SHM_INLINE_MAX + 1);
    stage_send_now(producer, 3, 20);
    stage_send(producer, 4, SHM_INLINE_HEAD + 8, false);
    stage_send(producer, 5, 8, true);
    stage_build_around(producer, 6, SHM_INLINE_MAX + 1);
    stage_send_now(producer, 8, 20);
    finish(1);
}

/* The same without what keeps the words apart. */
static void unclear_reset(void)
{
    dense_reset();
    producer->never_clears = true;
}

/* More than the ring has room for: the producer waits for acknowledgements. */
static void full_reset(void)
{
    reset(1, 4, false, MESSAGES + 1);
}

static void full_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    for (uint32_t i = 0; i <= MESSAGES; i++) {
        stage_send(producer, i, 8 + i * 16, true);
    }
    finish(1);
}

/* A message in fragments, and one in a block of its own. */
static void fragments_reset(void)
{
    reset(1, 2, false, MESSAGES);
}

static void fragments_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    stage_send(producer, 0, STAGE_ARENA / 2, true);
    stage_send(producer, 1, 4, true);
    stage_send(producer, 2, STAGE_ARENA / 8, true);
    finish(1);
}

/* Parts of chunks, of which the arena has room for two: the third waits for the first. One part is
 * begun before the turn's end closes its chunk and sent after it. */
static void chunks_reset(void)
{
    reset(1, 16, false, CHUNK_PARTS);
    producer->end.chunk.bytes = STAGE_ARENA / 2;
}

static void chunks_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    const size_t part = STAGE_ARENA / 2 / SHM_CHUNK_SHARE;
    stage_send(producer, 0, part, true);
    stage_send(producer, 1, part - 1, false);
    stage_send_over_turn(producer, 2, part - CARRIER_ALIGN);
    for (uint32_t i = 3; i < CHUNK_PARTS; i++) {
        stage_send(producer, i, part, i % 2 == 0);
    }
    finish(1);
}

/* Each message is answered before the next is sent. */
static void answer_reset(void)
{
    reset(1, 4, false, 2);
    consumer->answers = true;
    producer->expects = 2;
}

static void answer_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    for (uint32_t i = 0; i < 2 && readers_left(1); i++) {
        stage_send(producer, i, 8, false);
        while (producer->next <= i && readers_left(1)) {
            stage_turn(producer, 1);
        }
    }
    finish(1);
}

/* Blocks for all readers, more than the arena holds: who lags loses what it has not begun. */
static void share_all(uint32_t sessions)
{
    for (uint32_t i = 0; i < MESSAGES; i++) {
        struct carrier_block block;
        /* Asking again later is what takes blocks back from who has read nothing meanwhile. */
        while (!stage_block(i, BLOCK, &block) && !stage_block(i, BLOCK, &block)) {
            if (!readers_left(sessions)) {
                return;
            }
            stage_turn(producer, sessions);
        }
        readers_left(sessions);
        for (uint32_t k = 0; k < sessions; k++) {
            if (producer[k].end.attached) {
                stage_share(&producer[k], i, &block, BLOCK);
                shm_flush(&producer[k].shm.base, 0);
            }
        }
        shm_pool_release(&stage_pool, 0, &block);
    }
}

static void share_reset(void)
{
    reset(1, 4, true, MESSAGES);
}

static void share_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    share_all(1);
    finish(1);
}

static void fan_out_reset(void)
{
    reset(2, 4, true, MESSAGES);
}

static void fan_out_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    share_all(2);
    finish(2);
}

static void fan_out_check(void)
{
    stage_check(2);
}

/* The session ends while its blocks are being read; what is free is filled again at once. */
static void end_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        stage_detach(consumer);
        return;
    }
    share_all(1);
    if (producer->end.attached) {
        stage_detach(producer);
    }
    struct carrier_block block;
    uint64_t offset;
    for (uint32_t i = 0; i < 2 && shm_arena_take(&stage_pool.workers[0].arena, BLOCK, &offset);
         i++) {
        block.data = stage_pool.workers[0].base + offset;
        explore_written(block.data, BLOCK);
        memset(block.data, 0xee, BLOCK);
        explore_point();
        shm_arena_drop(&stage_pool.workers[0].arena, offset);
    }
    stage_goodbye(consumer);
    explore_join(1); /* it says that it is done, or its connection ends */
    shm_pool_return(producer->end.returns);
    producer->end.returns = NULL;
}

/* A reader stops in the middle of a block: it keeps that one, and nothing that comes later. */
static void stop_reset(void)
{
    reset(1, 4, true, MESSAGES);
    consumer->stops = true;
}

static void stop_run(uint32_t thread)
{
    if (thread != 0) {
        consume(thread);
        return;
    }
    for (uint32_t i = 0; i < MESSAGES; i++) {
        struct carrier_block block;
        if (!stage_block(i, BLOCK, &block) && !stage_block(i, BLOCK, &block)) {
            explore_fail("a reader that stops holds what it has not begun");
        }
        stage_share(producer, i, &block, BLOCK);
        shm_flush(&producer->shm.base, 0);
        shm_pool_release(&stage_pool, 0, &block);
        stage_turn_end(producer, 1);
        const uint32_t *began = &consumer->began;
        static const uint32_t not_yet;
        explore_sleep(&began, &not_yet, 1);
    }
}

static const struct explore_scenario scenarios[] = {
    {"small", 2, P | C, small_reset, small_run, check_one},
    {"now", 2, P | C, now_reset, now_run, check_one},
    {"runs", 2, P | C, runs_reset, runs_run, check_one},
    {"packs", 2, P | C, packs_reset, packs_run, check_one},
    {"dense", 2, P | C, dense_reset, dense_run, check_one},
    {"full ring", 2, P | C, full_reset, full_run, check_one},
    {"fragments", 2, P | C, fragments_reset, fragments_run, check_one},
    {"chunks", 2, P | C, chunks_reset, chunks_run, check_one},
    {"answers", 2, P | C, answer_reset, answer_run, check_one},
    {"share and lose", 2, P | C, share_reset, share_run, check_one},
    {"fan-out", 3, P | C | C2, fan_out_reset, fan_out_run, fan_out_check},
    {"stopped reader", 2, 0, stop_reset, stop_run, check_one},
    {"end of a session", 2, P | C, share_reset, end_run, check_one},
};

/* ---- cases ----------------------------------------------------------------------------------- */

static struct explore_result run(const struct explore_scenario *s, const struct explore_bounds *b)
{
    struct explore_result r = explore(s, b);
    if (r.failure[0] != '\0' && b->fault == EXPLORE_NO_FAULT) {
        printf("\n  %s: after %llu schedules: %s\n  at %s\n", s->name,
               (unsigned long long)r.schedules, r.failure, r.schedule);
        CU_FAIL("a schedule under which the code is wrong");
    }
    return r;
}

/* All with two preemptions, then those with three as far as that is affordable. */
static uint64_t in_order(const struct explore_scenario *s)
{
    struct explore_bounds b = {.preemptions = 2};
    struct explore_result two = run(s, &b);
    CU_ASSERT_TRUE(two.complete);
    b = (struct explore_bounds){.preemptions = 3, .schedules = SCHEDULES_EACH};
    struct explore_result three = run(s, &b);
    printf("\n  %-17s %6llu schedules, and %6llu%s, %llu points each, death in %llu", s->name,
           (unsigned long long)two.schedules, (unsigned long long)three.full,
           three.complete ? " (all)" : "",
           (unsigned long long)(three.steps / three.schedules),
           (unsigned long long)(two.killed + three.killed));
    fflush(stdout);
    return two.schedules + three.full;
}

static void test_in_order(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        sum += in_order(&scenarios[i]);
    }
    printf("\n  %llu in sum, %llu messages lost ", (unsigned long long)sum,
           (unsigned long long)lost);
    CU_ASSERT_TRUE(sum >= SCHEDULES_MIN && lost > 0);
}

/* Deeper than can be searched: drawn at random, and printed when one fails. */
static void test_at_random(void)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        struct explore_bounds b = {.preemptions = 8, .schedules = RANDOM_EACH, .random = 1 + i};
        sum += run(&scenarios[i], &b).schedules;
    }
    printf(" [%llu] ", (unsigned long long)sum);
}

static const struct explore_scenario *scenario(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        if (strcmp(scenarios[i].name, name) == 0) {
            return &scenarios[i];
        }
    }
    UNREACHABLE();
}

static void expect_found_in(const struct explore_scenario *s, enum explore_fault fault,
                            const void *blind, const char *what)
{
    struct explore_result r = {0};
    for (uint32_t n = 1; n <= 3 && r.failure[0] == '\0'; n++) {
        struct explore_bounds b = {.preemptions = n, .schedules = SCHEDULES_EACH, .fault = fault,
                                   .blind = blind};
        r = explore(s, &b);
    }
    printf("\n  %-15s %-17s after %llu: %s", what, s->name, (unsigned long long)r.schedules,
           r.failure);
    CU_ASSERT_STRING_NOT_EQUAL(r.failure, "");
}

static void expect_found(const char *name, enum explore_fault fault, const void *blind,
                         const char *what)
{
    expect_found_in(scenario(name), fault, blind, what);
}

static void test_faults(void)
{
    static const char *const sleepers[] = {"small", "now", "runs", "packs", "full ring", "answers"};
    for (size_t i = 0; i < ARRAY_LEN(sleepers); i++) {
        expect_found(sleepers[i], EXPLORE_NO_FENCE, NULL, "no fence");
        expect_found(sleepers[i], EXPLORE_NO_KERNEL, NULL, "no comparison");
    }
    expect_found("share and lose", EXPLORE_NO_FENCE, NULL, "no fence");
    expect_found("end of a session", EXPLORE_NO_FENCE, NULL, "no fence");
    expect_found("small", EXPLORE_PLAIN_RELEASE, NULL, "no release");
    expect_found("now", EXPLORE_PLAIN_RELEASE, NULL, "no release");
    expect_found("runs", EXPLORE_PLAIN_RELEASE, NULL, "no release");
    expect_found("fragments", EXPLORE_PLAIN_RELEASE, NULL, "no release");
    expect_found("packs", EXPLORE_PLAIN_RELEASE, NULL, "no release");
    expect_found("dense", EXPLORE_PLAIN_RELEASE, NULL, "no release");
    static const struct explore_scenario unclear = {"dense", 2, P | C, unclear_reset, dense_run,
                                                    check_one};
    expect_found_in(&unclear, EXPLORE_NO_FAULT, NULL, "not cleared");
    share_reset();
    const struct shm_pair *pair = &producer->end.pairs[0];
    expect_found("share and lose", EXPLORE_BLIND, &pair->peer->claim, "blind to claims");
    expect_found("end of a session", EXPLORE_BLIND, &pair->peer->claim, "blind to claims");
    expect_found("share and lose", EXPLORE_BLIND, &pair->own->voided, "blind to voids");
    expect_found("full ring", EXPLORE_BLIND, &producer->end.state->blocked, "deaf");
}

static const struct test_case cases[] = {
    {"every schedule within bounds", test_in_order},
    {"schedules at random", test_at_random},
    {"faults are found", test_faults},
};
TEST_SUITE("ring/shm explored", cases)
