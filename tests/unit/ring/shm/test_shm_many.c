/*
 * A session of more workers than one packet has doorbells for: everyone hears everyone, and each
 * worker is woken by its own bell, by futex and by eventfd.
 *
 * Side 0 is the main loop with all its workers, side 1 another thread with all of its own; both
 * sleep at once when there is nothing to do. After a burst of everyone to everyone, worker 0 of
 * side 0 sends to one worker of side 1 after the other, until each has counted a wake.
 */
#include "tests/unit/harness.h"

#include "core/base/log.h"
#include "core/io/uring/uring.h"
#include "ring/shm/internal.h"

#include <stdio.h>
#include <unistd.h>

#ifdef __SANITIZE_THREAD__
enum { WORKERS = 70 }; /* more than one packet of doorbells; lanes are as many as their square */
#else
enum { WORKERS = 150 };
#endif
enum { PAUSE_US = 1000, LIMIT_US = 240 * 1000 * 1000 };

struct stage;
struct side {
    struct stage *stage;
    struct io_loop *loop;
    struct carrier *carrier;
    _Atomic(struct carrier *) shown; /* to the other side's thread */
    uint8_t heard[WORKERS][WORKERS]; /* [local][remote]: burst messages */
    uint32_t burst;                  /* of them, in all */
    bool wrong;
    bool ended;
};

struct stage {
    char path[96];
    struct side sides[2]; /* 0 listens, on the main loop */
    struct io_listener *listener;
    struct io_timer timer; /* of side 0, as the rest */
    struct io_timer limit;
    struct io_task over;   /* side 1 has ended */
    uint32_t next;         /* worker of side 1 to be woken */
    bool timed_out;
    unsigned disable;
};

enum { BURST = FRAME_KIND_USER, WAKE };

static void side_open(void *ctx, struct carrier *c, uint32_t local)
{
    for (uint32_t remote = 0; remote < WORKERS; remote++) {
        struct carrier_message m = {.kind = BURST, .a = (uint64_t)local << 32 | remote};
        carrier_send(c, local, remote, &m);
    }
}

static err_t side_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                          const struct carrier_message *m)
{
    struct side *side = ctx;
    if (m->kind == BURST) {
        side->wrong |= m->a != ((uint64_t)remote << 32 | local) || side->heard[local][remote] != 0;
        side->heard[local][remote] = 1;
        side->burst++;
    } else {
        side->wrong |= remote != 0 || m->a != local;
    }
    return ERR_OK;
}

static void side_close(void *ctx, struct carrier *c, uint32_t local)
{
}

static void side_ending(void *net_ctx, struct carrier *c, const char *reason)
{
}

static void stop_main(struct io_task *task)
{
    io_loop_stop(CONTAINER_OF(task, struct stage, over)->sides[0].loop);
}

static void side_ended(void *net_ctx, struct carrier *c)
{
    struct side *side = net_ctx;
    struct stage *s = side->stage;
    side->carrier = NULL;
    side->ended = true;
    if (side == &s->sides[1]) {
        s->over.run = stop_main;
        io_post(s->sides[0].loop, &s->over);
    }
}

static const struct carrier_host host = {.open = side_open, .message = side_message,
                                         .close = side_close, .ending = side_ending,
                                         .ended = side_ended};

static void side_new(struct side *side, struct io_stream *stream, bool initiator)
{
    static const struct hello hello = {.workers = WORKERS};
    struct carrier_worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct carrier_worker){.loop = side->loop, .ctx = side};
    }
    struct carrier_config config = {.net = side->loop, .host = &host, .net_ctx = side,
                                    .workers = workers, .workers_len = WORKERS, .ours = &hello,
                                    .theirs = &hello};
    struct shm_config shm = {.initiator = initiator, .arena_bytes = 1};
    side->carrier = shm_carrier_new(&config, stream, &shm);
    /* Release: pairs with the acquire in step; what stands behind it is made. */
    atomic_store_explicit(&side->shown, side->carrier, memory_order_release);
}

static void accepted(void *arg, struct io_stream *stream)
{
    side_new(&((struct stage *)arg)->sides[0], stream, false);
}

static void connected(void *arg, struct io_stream *stream)
{
    side_new(&((struct stage *)arg)->sides[1], stream, true);
}

/* On side 0: another message for the worker that has not counted a wake; or the end. */
static void step(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, timer);
    struct carrier *c = s->sides[0].carrier;
    if (c != NULL && c->started && c->ends[0].open && s->sides[0].burst == WORKERS * WORKERS) {
        /* Acquire: as above. Side 1 has sent, so it is there. */
        struct carrier *other = atomic_load_explicit(&s->sides[1].shown, memory_order_acquire);
        /* Relaxed: a count, read from another thread as tailrace-stat would. */
        while (s->next < WORKERS &&
               atomic_load_explicit(&other->ends[s->next].counters->woken,
                                    memory_order_relaxed) > 0) {
            s->next++;
        }
        if (s->next == WORKERS) {
            carrier_end_session(c, err_new(ERR_CANCELLED, "all is well"));
            return;
        }
        struct carrier_message m = {.kind = WAKE, .a = s->next};
        carrier_send(c, 0, s->next, &m);
    }
    io_timer_start(s->sides[0].loop, timer, io_now_us(s->sides[0].loop) + PAUSE_US);
}

static void limit_reached(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, limit);
    s->timed_out = true;
    io_loop_stop(s->sides[0].loop);
}

static void other_start(struct io_loop *loop, void *arg)
{
    static const struct io_stream_handler none;
    struct stage *s = arg;
    struct io_stream *stream;
    s->sides[1].loop = loop;
    io_loop_set_spin(loop, 0);
    CU_ASSERT_PTR_NULL_FATAL(io_connect(loop, s->path, &none, s, connected, &stream));
}

static void stage_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    s->sides[0].loop = loop;
    io_loop_set_spin(loop, 0);
    CU_ASSERT_PTR_NULL_FATAL(io_listen(loop, s->path, accepted, s, &s->listener));
    CU_ASSERT_PTR_NULL_FATAL(io_thread_start(loop, "other", -1, other_start, NULL, s));
    s->timer.fire = step;
    s->limit.fire = limit_reached;
    io_timer_start(loop, &s->timer, io_now_us(loop) + PAUSE_US);
    io_timer_start(loop, &s->limit, io_now_us(loop) + LIMIT_US);
}

static void play(unsigned disable)
{
    struct stage *s = MEM_NEW(struct stage);
    struct io_env *env;
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    snprintf(s->path, sizeof(s->path), "unixpacket:/tmp/test-shm-many-%d", (int)getpid());
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    uring_env_disable(env, disable);
    s->sides[0].stage = s->sides[1].stage = s;
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, stage_start, s));
    io_listener_close(s->listener);
    for (int i = 0; i < 2; i++) {
        CU_ASSERT_FALSE(s->sides[i].wrong);
        CU_ASSERT_EQUAL(s->sides[i].burst, WORKERS * WORKERS);
        if (s->sides[i].carrier != NULL) {
            carrier_destroy(s->sides[i].carrier);
        }
    }
    CU_ASSERT_EQUAL(s->next, WORKERS);
    CU_ASSERT_FALSE(s->timed_out);
    io_env_free(env);
    free(s);
}

static void test_futexes(void)
{
    play(0);
}

static void test_doorbells(void)
{
    play(URING_FEATURE_FUTEX);
}

static const struct test_case cases[] = {
    {"many workers a side, futexes", test_futexes},
    {"many workers a side, doorbells", test_doorbells},
};
TEST_SUITE("ring/shm, many workers", cases)
