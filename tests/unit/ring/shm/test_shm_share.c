/*
 * One block, many readers: two sessions of one pool. Both readers see every block once and whole; a
 * reader that stops loses what it has not begun, in its place in the order, and holds up nobody;
 * what it has begun stays until its side of the session is gone. All of it in one loop: a reader
 * stops by taking its poller away.
 */
#include "tests/unit/harness.h"

#include "core/base/log.h"
#include "core/io/uring/uring.h"
#include "ring/shm/internal.h"

#include <stdio.h>
#include <unistd.h>

enum {
    READERS = 2,
    BLOCK = 4096,
    BLOCKS = 400, /* several times what the pool holds */
    SMALL = 100,  /* a message in the ring */
};

struct stage;
struct reader_side {
    struct stage *stage;
    struct carrier *carrier;  /* the reader's */
    struct carrier *producer; /* the other end of it */
    uint64_t next;  /* of the numbers expected */
    uint64_t whole; /* messages seen with the bytes they were sent with */
    uint64_t lost;
    bool wrong;
    bool ended;
    bool stopped;
};

struct stage {
    struct io_loop *loop;
    struct io_listener *listener;
    struct shm_pool *pool;
    char path[96];
    unsigned disable; /* features of io_uring */
    bool keeps_up;    /* nobody stops */
    struct reader_side readers[READERS];
    int connected;
    uint64_t sent;
    int rooms;
    int producers_ended;
    size_t used_at_end; /* when the producer's side of the stopped session was gone */
    struct io_timer gone;
    struct io_timer timer;
    struct io_timer limit;
    bool timed_out;
    int phase;
};

static struct shm_end *end_of(struct carrier *c)
{
    return &shm_of(c)->ends[0];
}

/* ---- the readers ----------------------------------------------------------------------------- */

static void side_open(void *ctx, struct carrier *c, uint32_t local)
{
}

static void side_close(void *ctx, struct carrier *c, uint32_t local)
{
}

static err_t reader_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                            const struct carrier_message *m)
{
    struct reader_side *r = ctx;
    r->wrong |= m->a != r->next++ || m->len != (m->a % 5 == 0 ? SMALL : BLOCK) ||
                ((uintptr_t)m->data % CARRIER_ALIGN) != 0 ||
                ((m->flags & CARRIER_STABLE) != 0) != (m->len == SMALL);
    for (size_t i = 0; i < m->len; i++) {
        r->wrong |= m->data[i] != (uint8_t)(m->a + i);
    }
    r->whole++;
    r->wrong |= !shm_pair_valid(end_of(c), &end_of(c)->pairs[0]);
    return ERR_OK;
}

static err_t reader_lost(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                         const struct carrier_message *m)
{
    struct reader_side *r = ctx;
    r->wrong |= m->a != r->next++ || m->len != 0 || m->data != NULL;
    r->lost++;
    return ERR_OK;
}

static void reader_ending(void *net_ctx, struct carrier *c, const char *reason)
{
}

static void reader_ended(void *net_ctx, struct carrier *c)
{
    struct reader_side *r = net_ctx;
    r->ended = true;
    r->carrier = NULL;
}

static const struct carrier_host reader_host = {
    .open = side_open, .message = reader_message, .lost = reader_lost, .close = side_close,
    .ending = reader_ending, .ended = reader_ended};

static void reader_stop(struct reader_side *r)
{
    r->stopped = true;
    io_poller_remove(r->stage->loop, &end_of(r->carrier)->poller);
}

static void reader_go_on(struct reader_side *r)
{
    r->stopped = false;
    io_poller_add(r->stage->loop, &end_of(r->carrier)->poller);
}

/* ---- the producer ---------------------------------------------------------------------------- */

static err_t producer_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                              const struct carrier_message *m)
{
    return err_new(ERR_PROTOCOL, "readers say nothing");
}

/* What the session has left is dropped bit by bit. What the other reader has acknowledged and
 * nobody has looked at yet does not count. */
static void look_at_used(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, gone);
    if (s->pool->workers[0].drops != NULL) {
        io_timer_start(s->loop, timer, io_now_us(s->loop) + 1);
        return;
    }
    struct shm_end *other = end_of(s->readers[0].producer);
    CU_ASSERT_EQUAL(s->readers[0].next, s->sent);
    shm_take_acks(other, &other->pairs[0]);
    s->used_at_end = shm_pool_used(s->pool, 0);
}

static void producer_ended(void *net_ctx, struct carrier *c)
{
    struct stage *s = net_ctx;
    s->producers_ended++;
    for (int i = 0; i < READERS; i++) {
        if (s->readers[i].producer == c) {
            s->readers[i].producer = NULL;
        }
    }
    s->gone.fire = look_at_used;
    io_timer_start(s->loop, &s->gone, io_now_us(s->loop));
}

static const struct carrier_host producer_host = {
    .open = side_open, .message = producer_message, .close = side_close, .ending = reader_ending,
    .ended = producer_ended};

static void note_room(void *ctx)
{
    struct stage *s = ctx;
    s->rooms++;
}

/* One more block, to all readers. */
static bool send_one(struct stage *s)
{
    struct carrier_block block;
    if (!shm_pool_reserve(s->pool, 0, BLOCK, &block)) {
        return false;
    }
    size_t len = s->sent % 5 == 0 ? SMALL : BLOCK;
    for (size_t i = 0; i < len; i++) {
        block.data[i] = (uint8_t)(s->sent + i);
    }
    struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = 7, .a = s->sent};
    for (int i = 0; i < READERS; i++) {
        carrier_share(s->readers[i].producer, 0, 0, &m, &block, len);
        CU_ASSERT_TRUE(shm_session_valid(shm_of(s->readers[i].producer)));
    }
    shm_pool_release(s->pool, 0, &block);
    s->sent++;
    return true;
}

/* ---- the play -------------------------------------------------------------------------------- */

static bool all_read(const struct stage *s)
{
    bool all = s->sent == BLOCKS;
    for (int i = 0; i < READERS; i++) {
        all &= s->readers[i].next == s->sent || s->readers[i].stopped;
    }
    return all;
}

/* The reader that stopped reads on: some it had, some are lost, and nothing is out of place. Then
 * it stops again, amid two blocks that it has claimed, and the producer ends the session. */
static void phase_end(struct stage *s)
{
    struct reader_side *slow = &s->readers[1];
    if (slow->stopped) {
        reader_go_on(slow);
        return;
    }
    if (slow->next != s->sent) {
        return;
    }
    reader_stop(slow);
    for (int i = 0; i < 4; i++) {
        CU_ASSERT_TRUE_FATAL(send_one(s));
    }
    for (int i = 0; i < READERS; i++) {
        carrier_flush(s->readers[i].producer, 0);
    }
    struct shm_pair *pair = &end_of(slow->carrier)->pairs[0];
    /* Relaxed: as in claim, of which this is a part. One of the four went by the ring, and of the
     * three blocks behind it the last is not claimed. */
    uint64_t claim = pair->taken + shm_lines_of(SMALL) + 2;
    atomic_store_explicit(&pair->own->claim, claim, memory_order_relaxed);
    carrier_fail(slow->producer, 0, err_new(ERR_CANCELLED, "over"));
    s->phase = 2;
}

static void step(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, timer);
    io_timer_start(s->loop, timer, io_now_us(s->loop) + 500);
    if (s->phase == 0) {
        for (int i = 0; i < READERS; i++) {
            if (s->readers[i].producer == NULL || !carrier_started(s->readers[i].producer) ||
                s->readers[i].carrier == NULL || !carrier_started(s->readers[i].carrier)) {
                return;
            }
        }
        for (int i = 0; i < 10 && s->sent < BLOCKS && send_one(s); i++) {
            if (s->sent == BLOCKS / 2 && !s->keeps_up) {
                reader_stop(&s->readers[1]);
            }
        }
        s->phase = all_read(s) ? 1 : 0;
    } else if (s->phase == 1) {
        phase_end(s);
    } else if (s->readers[1].ended && s->producers_ended == 1 &&
               shm_pool_used(s->pool, 0) == 0 && s->pool->lingering == NULL) {
        io_loop_stop(s->loop);
    }
}

static void limit_reached(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, limit);
    s->timed_out = true;
    io_loop_stop(s->loop);
}

static struct carrier *session(struct stage *s, struct io_stream *stream,
                               const struct carrier_host *host, void *ctx, bool initiator)
{
    static const struct hello hello = {.workers = 1};
    struct carrier_worker worker = {.loop = s->loop, .ctx = ctx};
    struct carrier_config config = {.net = s->loop, .host = host, .net_ctx = ctx,
                                    .workers = &worker, .workers_len = 1, .ours = &hello,
                                    .theirs = &hello};
    struct shm_config shm = {
        .initiator = initiator, .pool = initiator ? NULL : s->pool, .arena_bytes = 1};
    return shm_carrier_new(&config, stream, &shm);
}

static void connected(void *arg, struct io_stream *stream)
{
    struct reader_side *r = arg;
    r->carrier = session(r->stage, stream, &reader_host, r, true);
}

static void accepted(void *arg, struct io_stream *stream)
{
    struct stage *s = arg;
    int i = s->connected++;
    s->readers[i].producer = session(s, stream, &producer_host, s, false);
    if (i + 1 < READERS) { /* one after the other, so that both ends know which is which */
        static const struct io_stream_handler none;
        struct io_stream *next;
        CU_ASSERT_PTR_NULL_FATAL(
            io_connect(s->loop, s->path, &none, &s->readers[i + 1], connected, &next));
    }
}

static void stage_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    static const struct io_stream_handler none;
    struct io_stream *stream;
    s->loop = loop;
    s->pool = shm_pool_new(&(struct shm_pool_config){.shared = true, .workers = 1, .bytes = 1});
    shm_pool_worker(s->pool, 0, loop, note_room, s);
    for (int i = 0; i < READERS; i++) {
        s->readers[i].stage = s;
    }
    CU_ASSERT_PTR_NULL_FATAL(io_listen(loop, s->path, accepted, s, &s->listener));
    CU_ASSERT_PTR_NULL_FATAL(
        io_connect(loop, s->path, &none, &s->readers[0], connected, &stream));
    s->timer.fire = step;
    s->limit.fire = limit_reached;
    io_timer_start(loop, &s->timer, io_now_us(loop) + 500);
    io_timer_start(loop, &s->limit, io_now_us(loop) + 60 * 1000 * 1000);
}

static void play(bool keeps_up, unsigned disable)
{
    struct stage s = {.keeps_up = keeps_up};
    struct io_env *env;
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    snprintf(s.path, sizeof(s.path), "unixpacket:/tmp/test-shm-share-%d", (int)getpid());
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    uring_env_disable(env, disable);
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, stage_start, &s));
    io_listener_close(s.listener);
    for (int i = 0; i < READERS; i++) {
        CU_ASSERT_FALSE(s.readers[i].wrong);
        if (s.readers[i].producer != NULL) {
            carrier_destroy(s.readers[i].producer);
        }
        if (s.readers[i].carrier != NULL) {
            carrier_destroy(s.readers[i].carrier);
        }
    }
    shm_pool_free(s.pool);
    io_env_free(env);
    CU_ASSERT_FALSE(s.timed_out);
    CU_ASSERT_EQUAL(s.readers[0].lost, 0);
    CU_ASSERT_EQUAL(s.readers[0].whole, BLOCKS + 4);
    CU_ASSERT_EQUAL(s.readers[1].whole + s.readers[1].lost, BLOCKS);
    CU_ASSERT_EQUAL(s.readers[1].lost > 0, !keeps_up);
    CU_ASSERT_EQUAL(s.used_at_end, 2 * BLOCK);
    printf(" [lost %llu, %zu bytes outlived the session]",
           (unsigned long long)s.readers[1].lost, s.used_at_end);
}

static void test_both(void)
{
    play(true, 0);
}

static void test_slow(void)
{
    play(false, 0);
}

static void test_eventfd(void)
{
    play(false, URING_FEATURE_FUTEX);
}

static const struct test_case cases[] = {
    {"two readers of each block", test_both},
    {"one of them stops", test_slow},
    {"the same with doorbells instead of futexes", test_eventfd},
};
TEST_SUITE("ring/shm share", cases)
