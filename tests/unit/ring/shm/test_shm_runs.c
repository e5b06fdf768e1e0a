/*
 * Runs, packs and posts of small messages between two carriers, over shared memory and over TCP,
 * mixed with messages sent singly, at once, built in place and in blocks, more of them in a turn
 * than the ring has lines: all arrive in order, each as it was sent, whoever takes runs and packs
 * and whoever does not.
 */
#include "tests/unit/harness.h"

#include "core/base/log.h"
#include "ring/shm/shm.h"
#include "ring/tcp/tcp.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BURST_MAX = 100 * 1000, BLOCK = 3000, LONG = 20 * 1000, STEP = 64 };

struct stage;
struct side {
    struct stage *stage;
    struct carrier *carrier;
    bool open;
};

struct stage {
    struct io_loop *loop;
    struct io_listener *listener;
    char path[96];
    bool shm;
    bool runs;          /* the receiver takes them */
    uint64_t messages;  /* to be sent */
    struct side sides[2]; /* 0 sends */
    struct io_poller poller;
    uint64_t random;
    uint64_t sent, received;
    uint64_t bytes_sent;
    uint64_t in_runs, longest;
    uint64_t posted_in_place;
    bool wrong;
    uint8_t pattern[LONG + 256];
    uint64_t in_packs;
};

static uint64_t rnd(struct stage *s)
{
    s->random = s->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return s->random >> 33;
}

/* ---- sending --------------------------------------------------------------------------------- */

static const uint8_t *pattern_of(const struct stage *s, uint64_t n)
{
    return s->pattern + n % 256;
}

/* All in one stream over TCP, where others take turns. */
static struct carrier_message message(const struct stage *s, uint64_t n, size_t len)
{
    return (struct carrier_message){.kind = (uint8_t)(FRAME_KIND_USER + n % 200),
                                    .stream = s->shm ? (uint32_t)(n * 3) : 3,
                                    .c = (uint32_t)~n, .a = n, .b = n * n,
                                    .data = pattern_of(s, n), .len = len};
}

static void send_run(struct stage *s, uint32_t n, size_t len)
{
    struct carrier *c = s->sides[0].carrier;
    struct carrier_run run;
    carrier_run_begin(c, 0, 0, n, len, &run);
    CU_ASSERT_TRUE_FATAL(run.len > 0 && run.len <= n && run.bytes == len);
    uint32_t used = rnd(s) % 8 == 0 ? (uint32_t)rnd(s) % run.len : run.len;
    for (uint32_t i = 0; i < used; i++) {
        struct carrier_message m = message(s, s->sent++, len);
        if (len <= CARRIER_RUN_HEAD && rnd(s) % 2 == 0) {
            memcpy(carrier_run_at(&run, i, &m), m.data, len);
        } else {
            carrier_run_put(&run, i, &m, m.data);
        }
    }
    if (used < run.len && rnd(s) % 2 == 0) { /* filled, and then not sent after all */
        for (uint32_t i = used; i < run.len; i++) {
            struct carrier_message m = message(s, UINT32_MAX, len);
            carrier_run_put(&run, i, &m, m.data);
        }
    }
    carrier_run_end(c, 0, 0, &run, used);
    s->bytes_sent += used * len;
}

/* Messages of a pack have one header, so its first message's number says the header, and is in it;
 * the bytes are those of each one's own number. */
static void send_pack(struct stage *s, uint32_t n, size_t len)
{
    struct carrier *c = s->sides[0].carrier;
    struct carrier_pack pack;
    carrier_pack_begin(c, 0, 0, n, len, &pack);
    CU_ASSERT_TRUE_FATAL(pack.n == n && pack.len == len);
    CU_ASSERT_EQUAL_FATAL(pack.stride, carrier_pack_stride(pack.len));
    uint32_t used = rnd(s) % 8 == 0 ? (uint32_t)rnd(s) % n : n;
    for (uint32_t i = 0; i < used; i++) {
        memcpy(carrier_pack_at(&pack, i), pattern_of(s, s->sent + i), len);
    }
    if (used < n && rnd(s) % 2 == 0) { /* filled, and then not sent after all */
        memset(carrier_pack_at(&pack, used), rnd(s) % 2 == 0 ? 0xff : 0x80, (n - used) * len);
    }
    struct carrier_message m = message(s, s->sent, len);
    m.b = used;
    carrier_pack_end(c, 0, 0, &pack, &m, used);
    s->sent += used;
    s->bytes_sent += used * len;
}

static void send_one(struct stage *s, size_t len, uint8_t flags)
{
    struct carrier_message m = message(s, s->sent++, len);
    m.flags = flags;
    carrier_send(s->sides[0].carrier, 0, 0, &m);
    s->bytes_sent += len;
}

static void post(struct stage *s, size_t len)
{
    struct carrier_window *w = carrier_window(s->sides[0].carrier, 0, 0);
    struct carrier_message m = message(s, s->sent++, len);
    struct carrier_line *line = carrier_post_begin(w, len);
    s->posted_in_place += line != w->aside ? 1 : 0;
    memcpy(line->bytes, m.data, len < CARRIER_RUN_HEAD ? len : CARRIER_RUN_HEAD);
    if (len > CARRIER_RUN_HEAD) {
        memcpy(carrier_post_more(line), m.data + CARRIER_RUN_HEAD, len - CARRIER_RUN_HEAD);
    }
    carrier_post_end(w, line, &m, len);
    s->bytes_sent += len;
}

/* In place, with other messages in between once in a while, which come before it. */
static void build_one(struct stage *s, size_t len)
{
    struct carrier *c = s->sides[0].carrier;
    struct carrier_block block;
    carrier_reserve(c, 0, 0, len, &block);
    for (uint64_t n = rnd(s) % 16 == 0 ? 1 + rnd(s) % 3 : 0; n > 0; n--) {
        send_one(s, rnd(s) % 300, rnd(s) % 2 == 0 ? CARRIER_NOW : 0);
        if (rnd(s) % 2 == 0) {
            post(s, rnd(s) % (CARRIER_RUN_BYTES + 1));
        }
    }
    len = rnd(s) % 4 == 0 ? rnd(s) % (len + 1) : len; /* less than was asked for */
    struct carrier_message m = message(s, s->sent++, len);
    memcpy(block.data, m.data, len);
    carrier_commit(c, 0, 0, &m, &block, len);
    s->bytes_sent += len;
}

static void post_some(struct stage *s)
{
    for (uint64_t n = 1 + rnd(s) % 40; n > 0; n--) {
        post(s, rnd(s) % (CARRIER_RUN_BYTES + 1));
    }
}

static void send_some(struct stage *s)
{
    switch (rnd(s) % 9) {
    case 8: send_pack(s, 1 + (uint32_t)rnd(s) % CARRIER_RUN_MAX, rnd(s) % 93); return;
    case 7: build_one(s, 1 + rnd(s) % (rnd(s) % 16 == 0 ? LONG : 2000)); return;
    case 6: post_some(s); return;
    case 0: send_one(s, rnd(s) % 300, 0); return;
    case 1: send_one(s, rnd(s) % 120, CARRIER_NOW); return;
    case 2: send_run(s, 1 + (uint32_t)rnd(s) % CARRIER_RUN_MAX, rnd(s) % 33); return;
    case 3: send_run(s, 1 + (uint32_t)rnd(s) % CARRIER_RUN_MAX, rnd(s) % 93); return;
    case 4: send_one(s, rnd(s) % 50 == 0 ? BLOCK : 8, rnd(s) % 3 == 0 ? CARRIER_NOW : 0); return;
    default: carrier_flush(s->sides[0].carrier, 0); return;
    }
}

/* Without asking whether there is room: nothing is refused. */
static bool poll_sender(struct io_poller *poller)
{
    struct stage *s = CONTAINER_OF(poller, struct stage, poller);
    if (!s->sides[0].open || s->sent >= s->messages) {
        return false;
    }
    bool burst = rnd(s) % 64 == 0;
    uint64_t until = s->sent + (burst ? BURST_MAX : 1 + rnd(s) % STEP);
    until = until < s->messages ? until : s->messages;
    while (s->sent < until) {
        send_some(s);
    }
    return true;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void take_bytes(struct stage *s, const uint8_t *data, size_t len)
{
    s->wrong |= len > 0 && memcmp(data, pattern_of(s, s->received), len) != 0;
    s->received++;
    if (s->received >= s->messages && s->received == s->sent) {
        io_loop_stop(s->loop);
    }
}

static bool has_header(const struct stage *s, const struct carrier_message *m, uint64_t n)
{
    struct carrier_message e = message(s, n, m->len);
    return m->kind == e.kind && m->stream == e.stream && m->c == e.c && m->a == n;
}

/* A single one, or one of a pack, of which the first says in b how many there are. */
static void take(struct stage *s, const struct carrier_message *m)
{
    uint64_t n = m->a;
    bool single = n == s->received && m->b == n * n;
    bool of_pack = n <= s->received && s->received - n < m->b && m->b <= CARRIER_RUN_MAX;
    s->wrong |= !has_header(s, m, n) || (!single && !of_pack);
    take_bytes(s, m->data, m->len);
}

static err_t on_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                        const struct carrier_message *m)
{
    struct side *side = ctx;
    take(side->stage, m);
    return ERR_OK;
}

static err_t on_pack(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                     const struct carrier_message *m, uint32_t n, uint32_t stride)
{
    struct stage *s = ((struct side *)ctx)->stage;
    CU_ASSERT_TRUE_FATAL(n > 0 && n <= CARRIER_RUN_MAX && m->len <= CARRIER_RUN_BYTES);
    CU_ASSERT_TRUE_FATAL(stride == carrier_pack_stride((uint32_t)m->len));
    CU_ASSERT_EQUAL_FATAL((uintptr_t)m->data % CARRIER_PACK_ALIGN, 0);
    s->wrong |= !has_header(s, m, s->received) || m->b != n;
    for (uint32_t i = 0; i < n; i++) {
        take_bytes(s, m->data + (size_t)i * stride, m->len);
    }
    s->in_packs += n;
    return ERR_OK;
}

static err_t on_run(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                    const struct carrier_small *messages, uint32_t len)
{
    struct stage *s = ((struct side *)ctx)->stage;
    CU_ASSERT_TRUE_FATAL(len > 0 && len <= CARRIER_RUN_MAX);
    for (uint32_t i = 0; i < len; i++) {
        const struct carrier_small *one = &messages[i];
        CU_ASSERT_EQUAL_FATAL((uintptr_t)one->bytes % 32, 0);
        take(s, &(struct carrier_message){.kind = carrier_small_kind(one), .stream = one->stream,
                                          .c = one->c, .a = one->a, .b = one->b,
                                          .data = one->bytes, .len = one->len});
    }
    s->in_runs += len;
    s->longest = len > s->longest ? len : s->longest;
    return ERR_OK;
}

static void on_open(void *ctx, struct carrier *c, uint32_t local)
{
    struct side *side = ctx;
    side->open = true;
}

static void on_close(void *ctx, struct carrier *c, uint32_t local)
{
    struct side *side = ctx;
    side->open = false;
}

static void on_ending(void *ctx, struct carrier *c, const char *reason)
{
    CU_FAIL("the session ended");
}

static void on_ended(void *ctx, struct carrier *c)
{
}

/* ---- the two of them ------------------------------------------------------------------------- */

static const struct carrier_host host = {
    .open = on_open, .message = on_message, .close = on_close, .ending = on_ending,
    .ended = on_ended};
static const struct carrier_host host_of_runs = {
    .open = on_open, .message = on_message, .pack = on_pack, .run = on_run, .close = on_close,
    .ending = on_ending, .ended = on_ended};

static void side_new(struct side *side, struct io_stream *stream, bool initiator)
{
    static const struct hello hello = {.workers = 1};
    struct stage *s = side->stage;
    struct carrier_worker worker = {.loop = s->loop, .ctx = side};
    struct carrier_config config = {.net = s->loop, .host = s->runs ? &host_of_runs : &host,
                                    .net_ctx = side, .workers = &worker, .workers_len = 1,
                                    .ours = &hello, .theirs = &hello};
    struct shm_config shm = {.initiator = initiator};
    side->carrier = s->shm ? shm_carrier_new(&config, stream, &shm)
                           : tcp_carrier_new(&config, stream, NULL, 0);
}

static void accepted(void *arg, struct io_stream *stream)
{
    struct stage *s = arg;
    side_new(&s->sides[1], stream, false);
}

static void connected(void *arg, struct io_stream *stream)
{
    struct stage *s = arg;
    side_new(&s->sides[0], stream, true);
}

static const struct io_stream_handler no_handler;

static void start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    struct io_stream *stream;
    s->loop = loop;
    s->poller.poll = poll_sender;
    io_poller_add(loop, &s->poller);
    CU_ASSERT_PTR_NULL_FATAL(io_listen(loop, s->path, accepted, s, &s->listener));
    CU_ASSERT_PTR_NULL_FATAL(io_connect(loop, s->path, &no_handler, s, connected, &stream));
}

static void check(const struct stage *s)
{
    carrier_flush(s->sides[0].carrier, 0); /* what was posted last is counted */
    const struct carrier_counters *out = carrier_counters(s->sides[0].carrier, 0);
    const struct carrier_counters *in = carrier_counters(s->sides[1].carrier, 0);
    CU_ASSERT_FALSE(s->wrong);
    CU_ASSERT_EQUAL(s->received, s->sent);
    /* Relaxed, all: the loop has stopped. */
    CU_ASSERT_EQUAL(atomic_load_explicit(&out->messages_out, memory_order_relaxed), s->sent);
    CU_ASSERT_EQUAL(atomic_load_explicit(&out->bytes_out, memory_order_relaxed), s->bytes_sent);
    CU_ASSERT_EQUAL(atomic_load_explicit(&in->messages_in, memory_order_relaxed), s->sent);
    CU_ASSERT_EQUAL(atomic_load_explicit(&in->bytes_in, memory_order_relaxed), s->bytes_sent);
    CU_ASSERT_EQUAL(s->in_runs > 0, s->shm && s->runs);
    CU_ASSERT_TRUE(s->in_runs == 0 || s->longest == CARRIER_RUN_MAX);
    CU_ASSERT_EQUAL(s->in_packs > 0, s->shm && s->runs);
    CU_ASSERT_EQUAL(s->posted_in_place > 0, s->shm);
    if (s->shm) { /* the ring was full */
        CU_ASSERT_TRUE(atomic_load_explicit(&out->stalls, memory_order_relaxed) > 0);
    }
    printf(" [%llu messages, %llu in runs of up to %llu]", (unsigned long long)s->received,
           (unsigned long long)s->in_runs, (unsigned long long)s->longest);
}

static void run_case(bool shm, bool runs)
{
    static struct stage s;
    struct io_env *env;
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    s = (struct stage){.shm = shm, .runs = runs, .random = 7, .messages = test_scaled(1000000)};
    for (int i = 0; i < 2; i++) {
        s.sides[i].stage = &s;
    }
    for (size_t i = 0; i < sizeof(s.pattern); i++) {
        s.pattern[i] = (uint8_t)(i * 31 + i / 256);
    }
    snprintf(s.path, sizeof(s.path), "%s:/tmp/test-shm-runs-%d", shm ? "unixpacket" : "unix",
             (int)getpid());
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, start, &s));
    check(&s);
    for (int i = 0; i < 2; i++) {
        carrier_destroy(s.sides[i].carrier);
    }
    io_listener_close(s.listener);
    io_env_free(env);
}

static void test_runs(void)
{
    run_case(true, true);
}

static void test_no_runs(void)
{
    run_case(true, false);
}

static void test_tcp(void)
{
    run_case(false, true);
}

static const struct test_case cases[] = {
    {"runs sent and taken", test_runs},
    {"runs to a host that takes none", test_no_runs},
    {"runs over TCP", test_tcp},
};
TEST_SUITE("ring/shm runs", cases)
