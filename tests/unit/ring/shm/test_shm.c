/*
 * The shared-memory carrier: its memory, its arena, and a peer that writes garbage into every word
 * it may write, which only gets it disconnected.
 */
#include "tests/unit/harness.h"

#include "core/base/log.h"
#include "ring/shm/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROUNDS = 300, WORKERS = 2 };

/* ---- arena ----------------------------------------------------------------------------------- */

enum { BLOCKS = 200 };
struct arena_block {
    uint64_t offset;
    size_t len;
    uint32_t refs;
};

/* No two blocks in use overlap. */
static bool arena_disjoint(const struct arena_block *blocks)
{
    for (int i = 0; i < BLOCKS; i++) {
        for (int j = 0; j < BLOCKS; j++) {
            if (i != j && blocks[i].refs > 0 && blocks[j].refs > 0 &&
                blocks[i].offset < blocks[j].offset + blocks[j].len &&
                blocks[j].offset < blocks[i].offset + blocks[i].len) {
                return false;
            }
        }
    }
    return true;
}

static void arena_step(struct shm_arena *arena, struct arena_block *b, uint64_t random,
                       size_t *refused)
{
    if (b->refs > 0 && random % 3 == 0) {
        shm_arena_hold(arena, b->offset);
        b->refs++;
    } else if (b->refs > 0) {
        CU_ASSERT_EQUAL(shm_arena_drop(arena, b->offset), b->refs == 1);
        b->refs--;
    } else if (!shm_arena_take(arena, b->len = 1 + random % 20000, &b->offset)) {
        (*refused)++;
    } else {
        CU_ASSERT_TRUE(b->offset + b->len <= 1 << 20);
        b->len = 1 + (random >> 8) % b->len;
        shm_arena_trim(arena, b->offset, b->len);
        b->refs = 1;
    }
}

static void test_arena(void)
{
    struct shm_arena arena;
    struct arena_block blocks[BLOCKS] = {0};
    uint64_t random = 1;
    size_t refused = 0;
    shm_arena_init(&arena, 1 << 20);
    for (int i = 0; i < 200000; i++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        arena_step(&arena, &blocks[(random >> 33) % BLOCKS], random >> 20, &refused);
        if (i % 1000 == 0) {
            CU_ASSERT_TRUE(shm_arena_valid(&arena));
            CU_ASSERT_TRUE(arena_disjoint(blocks));
        }
    }
    CU_ASSERT_TRUE(refused > 0);
    for (int k = 0; k < BLOCKS; k++) {
        for (; blocks[k].refs > 0; blocks[k].refs--) {
            shm_arena_drop(&arena, blocks[k].offset);
        }
    }
    CU_ASSERT_EQUAL(arena.free_units, arena.units);
    uint64_t whole;
    CU_ASSERT_TRUE(shm_arena_take(&arena, 1 << 20, &whole)); /* nothing is left in pieces */
    CU_ASSERT_FALSE(shm_arena_take(&arena, 1, &whole));
    shm_arena_close(&arena);
}

/* Readers that keep up: memory far from the start is not used, unless what is near is held. */
static void test_arena_window(void)
{
    enum { BYTES = 32 << 20, LEN = 3000, WINDOW = 8 << 20, ROUNDS_OF_IT = 20000 };
    struct shm_arena arena;
    uint64_t offsets[64] = {0};
    uint64_t highest = 0;
    uint64_t kept;
    shm_arena_init(&arena, BYTES);
    for (uint32_t i = 0; i < ROUNDS_OF_IT; i++) {
        uint64_t *at = &offsets[i % ARRAY_LEN(offsets)];
        if (i >= ARRAY_LEN(offsets)) {
            shm_arena_drop(&arena, *at);
        }
        CU_ASSERT_TRUE_FATAL(shm_arena_take(&arena, LEN, at));
        highest = *at > highest ? *at : highest;
    }
    CU_ASSERT_TRUE(shm_arena_valid(&arena));
    CU_ASSERT_TRUE(highest > WINDOW / 2 && highest < WINDOW + 2 * LEN);
    for (size_t i = 0; i < ARRAY_LEN(offsets); i++) {
        shm_arena_drop(&arena, offsets[i]);
    }
    /* A small block at the start stays: the search does not stick to it. */
    arena.next = 0;
    CU_ASSERT_TRUE(shm_arena_take(&arena, 1, &kept));
    CU_ASSERT_EQUAL(kept, 0);
    for (uint32_t i = 0; i < ROUNDS_OF_IT; i++) {
        CU_ASSERT_TRUE_FATAL(shm_arena_take(&arena, LEN, &offsets[0]));
        highest = offsets[0] > highest ? offsets[0] : highest;
        shm_arena_drop(&arena, offsets[0]);
    }
    CU_ASSERT_TRUE(shm_arena_valid(&arena) && highest > BYTES - 2 * LEN);
    shm_arena_close(&arena);
}

/* ---- pool ------------------------------------------------------------------------------------ */

static void count_room(void *ctx)
{
    ++*(int *)ctx;
}

static void pool_start(struct io_loop *loop, void *arg)
{
    enum { BYTES = 256 * 1024 };
    struct shm_pool *pool = shm_pool_new(arg);
    struct carrier_block blocks[8];
    struct carrier_block more;
    int rooms = 0;
    for (uint32_t w = 0; w < 2; w++) {
        shm_pool_worker(pool, w, loop, count_room, &rooms);
    }
    for (int i = 0; i < 8; i++) {
        CU_ASSERT_TRUE_FATAL(shm_pool_reserve(pool, 0, BYTES / 8, &blocks[i]));
        CU_ASSERT_EQUAL((uintptr_t)blocks[i].data % CARRIER_ALIGN, 0);
        memset(blocks[i].data, i, blocks[i].len);
    }
    CU_ASSERT_EQUAL(shm_pool_used(pool, 0), BYTES);
    CU_ASSERT_EQUAL(shm_pool_used(pool, 1), 0);
    CU_ASSERT_FALSE(shm_pool_reserve(pool, 0, 1, &more));
    CU_ASSERT_EQUAL(rooms, 0);
    shm_pool_release(pool, 0, &blocks[3]);
    CU_ASSERT_EQUAL(rooms, 1);
    CU_ASSERT_TRUE_FATAL(shm_pool_reserve(pool, 0, BYTES / 8, &blocks[3]));
    shm_pool_trim(pool, 0, &blocks[3], 1);
    CU_ASSERT_TRUE(shm_pool_used(pool, 0) < BYTES);
    for (int i = 0; i < 8; i++) {
        CU_ASSERT_TRUE(i == 3 || blocks[i].data[BYTES / 8 - 1] == i);
        shm_pool_release(pool, 0, &blocks[i]);
    }
    CU_ASSERT_EQUAL(rooms, 1); /* owed once for one refusal */
    CU_ASSERT_EQUAL(shm_pool_used(pool, 0), 0);
    shm_pool_free(pool);
    io_loop_stop(loop);
}

static void test_pool(void)
{
    for (int shared = 0; shared < 2; shared++) {
        struct shm_pool_config config = {.shared = shared != 0, .workers = 2, .bytes = 1};
        struct io_env *env;
        CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
        CU_ASSERT_PTR_NULL_FATAL(io_main(env, pool_start, &config));
        io_env_free(env);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void expect_refused(int fd, size_t size, const char *what)
{
    void *base = NULL;
    err_t err = shm_memory_attach(fd, size, &base);
    CU_ASSERT_PTR_NOT_NULL_FATAL(err);
    CU_ASSERT_PTR_NOT_NULL(strstr(err_text(err), what));
    err_free(err);
}

static void memory_case(bool huge)
{
    enum { SIZE = SHM_HUGE_PAGE };
    void *base;
    void *seen;
    int fd;
    CU_ASSERT_PTR_NULL_FATAL(shm_memory_make("x", SIZE, &huge, &base, &fd));
    CU_ASSERT_PTR_NULL_FATAL(shm_memory_attach(fd, SIZE, &seen));
    uint8_t *own = base;
    uint8_t *peer = seen;
    own[SHM_PAGE] = 42;
    CU_ASSERT_EQUAL(peer[SHM_PAGE], 42);
    /* What a peer might try. */
    CU_ASSERT_NOT_EQUAL(ftruncate(fd, 4096), 0);
    CU_ASSERT_EQUAL(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    CU_ASSERT_NOT_EQUAL(mprotect(peer, 4096, PROT_READ | PROT_WRITE), 0);
    CU_ASSERT_NOT_EQUAL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
    expect_refused(fd, SIZE + SHM_PAGE, "bytes, expected");
    shm_memory_unmap(peer, SIZE);
    shm_memory_unmap(own, SIZE);
    shm_close(fd);
    printf(" [%s]", huge ? "huge pages" : "small pages");

    fd = memfd_create("x", MFD_ALLOW_SEALING);
    CU_ASSERT_EQUAL(ftruncate(fd, SIZE), 0);
    expect_refused(fd, SIZE, "not sealed");
    CU_ASSERT_EQUAL(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    expect_refused(fd, SIZE, "not sealed"); /* against writers it is not */
    err_t err = shm_check_bell(fd);
    CU_ASSERT_PTR_NOT_NULL(err);
    err_free(err);
    shm_close(fd);
    fd = open("/dev/null", O_RDWR);
    expect_refused(fd, SIZE, "not sealed");
    shm_close(fd);
}

static void test_memory(void)
{
    memory_case(false);
    memory_case(true); /* where there are none it falls back */
}

/* ---- a session whose one side goes mad ------------------------------------------------------- */

struct stage;
struct side {
    struct stage *stage;
    struct carrier *carrier;
    uint64_t received;
    bool wrong; /* a message that is not whole or has no place */
    char reason[200];
};

struct stage {
    struct io_loop *loop;
    struct io_listener *listener;
    char path[96];
    struct side sides[2]; /* 0 connects and goes mad */
    int round;
    int ended;
    bool garbled; /* in this round */
    uint64_t random;
    uint64_t disconnects;
    struct io_timer timer;
};

static void round_start(struct stage *s);

static void side_open(void *ctx, struct carrier *c, uint32_t local)
{
    uint8_t bytes[3000];
    memset(bytes, 7, sizeof(bytes));
    for (uint32_t remote = 0; remote < WORKERS; remote++) {
        for (uint32_t i = 0; i < 40; i++) {
            struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = i, .data = bytes,
                                        .len = i * 70};
            carrier_send(c, local, remote, &m);
        }
    }
}

static err_t side_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                          const struct carrier_message *m)
{
    struct side *side = ctx;
    uint8_t sum = 0;
    for (size_t i = 0; i < m->len; i++) { /* every byte may be read */
        sum ^= m->data[i];
    }
    side->received += 1 + (sum & 0);
    side->wrong |= remote >= WORKERS || local >= WORKERS || m->len > FRAME_MESSAGE_MAX;
    return ERR_OK;
}

static err_t side_pack(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                       const struct carrier_message *m, uint32_t n, uint32_t stride)
{
    struct side *side = ctx;
    err_t err = ERR_OK;
    side->wrong |= n == 0 || n > CARRIER_RUN_MAX || m->len > CARRIER_RUN_BYTES ||
                   m->kind < FRAME_KIND_USER || stride != carrier_pack_stride((uint32_t)m->len);
    for (uint32_t i = 0; i < n && err == ERR_OK; i++) {
        struct carrier_message one = {.data = m->data + (size_t)i * stride, .len = m->len};
        err = side_message(ctx, c, local, remote, &one);
    }
    return err;
}

static err_t side_run(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                      const struct carrier_small *messages, uint32_t len)
{
    struct side *side = ctx;
    err_t err = ERR_OK;
    side->wrong |= len == 0 || len > CARRIER_RUN_MAX;
    for (uint32_t i = 0; i < len && err == ERR_OK; i++) {
        const struct carrier_small *one = &messages[i];
        side->wrong |= one->len > CARRIER_RUN_BYTES || carrier_small_kind(one) < FRAME_KIND_USER;
        struct carrier_message m = {.data = one->bytes, .len = one->len};
        err = side_message(ctx, c, local, remote, &m);
    }
    return err;
}

static void side_close(void *ctx, struct carrier *c, uint32_t local)
{
}

static void side_ending(void *net_ctx, struct carrier *c, const char *reason)
{
    struct side *side = net_ctx;
    snprintf(side->reason, sizeof(side->reason), "%s", reason);
}

static void side_ended(void *net_ctx, struct carrier *c)
{
    struct side *side = net_ctx;
    struct stage *s = side->stage;
    side->carrier = NULL;
    if (++s->ended == 2) {
        io_timer_cancel(s->loop, &s->timer);
        round_start(s);
    }
}

static const struct carrier_host side_host = {
    .open = side_open,
    .message = side_message,
    .close = side_close,
    .ending = side_ending,
    .ended = side_ended,
};
static const struct carrier_host side_host_of_runs = {
    .open = side_open,
    .message = side_message,
    .pack = side_pack,
    .run = side_run,
    .close = side_close,
    .ending = side_ending,
    .ended = side_ended,
};

static uint64_t rnd(struct stage *s)
{
    s->random = s->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return s->random >> 24;
}

/* Garbage into one word, or many, of what the mad side may write. */
static void garble(struct stage *s)
{
    struct shm_carrier *shm = CONTAINER_OF(s->sides[0].carrier, struct shm_carrier, base);
    uint64_t meta = shm_size(&shm->own_shape) / sizeof(uint64_t);
    uint64_t *words = shm->own;
    int n = s->round % 3 == 0 ? 1 + (int)(rnd(s) % 8) : 4000;
    for (int i = 0; i < n; i++) {
        uint64_t value = rnd(s);
        value = value % 4 == 0 ? value % 300 : value % 4 == 1 ? value << 30 : value;
        words[SHM_PAGE / 8 + rnd(s) % (meta - SHM_PAGE / 8)] = value;
    }
    uint32_t from = (uint32_t)(rnd(s) % WORKERS);
    uint32_t to = (uint32_t)(rnd(s) % WORKERS);
    struct shm_ends *lane = shm_ends_at(shm->own, &shm->own_shape, from, to);
    /* Where the sane side looks next: a line that says it is there, and garbage but for that. */
    struct shm_carrier *sane = CONTAINER_OF(s->sides[1].carrier, struct shm_carrier, base);
    const struct shm_pair *pair = &sane->ends[to].pairs[from];
    struct shm_desc *d = (struct shm_desc *)&shm_ring_of(lane)[pair->taken & pair->peer_mask];
    bool dense = rnd(s) % 2 == 0;
    uint32_t word = shm_word((uint8_t)rnd(s), dense ? SHM_FLAGS & 3 : rnd(s) % 16,
                             dense ? SHM_DENSE : rnd(s) % 16,
                             shm_lap(pair->taken, pair->peer_shift));
    d->len = rnd(s) % 2 == 0 ? (uint32_t)rnd(s) % 300 : (uint32_t)rnd(s);
    d->block.offset = rnd(s) % 2 == 0 ? rnd(s) % 1024 * SHM_UNIT : rnd(s);
    d->block.total = rnd(s) % 2 == 0 ? d->len : (uint32_t)rnd(s);
    memset(d->block.zero, 0, sizeof(d->block.zero));
    if (dense) {
        uint64_t behind = pair->peer_mask - (pair->taken & pair->peer_mask);
        d->dense.count = rnd(s) % 4 == 0 ? (uint32_t)rnd(s) : (uint32_t)rnd(s) % 40;
        d->dense.skip = rnd(s) % 2 == 0 ? 0 : (uint32_t)(behind + rnd(s) % 3 - 1);
        d->dense.zero = rnd(s) % 4 == 0 ? rnd(s) : 0;
    }
    /* Relaxed, all: the point is that nothing is in order. */
    atomic_store_explicit(&d->word, word, memory_order_relaxed);
    if (s->round % 2 == 0) {
        uint64_t head = atomic_load_explicit(&lane->head, memory_order_relaxed);
        atomic_store_explicit(&lane->head, head + rnd(s) % 50, memory_order_relaxed);
    }
}

static void next(struct io_timer *timer)
{
    struct stage *s = CONTAINER_OF(timer, struct stage, timer);
    struct side *mad = &s->sides[0];
    struct side *sane = &s->sides[1];
    if (mad->carrier == NULL || sane->carrier == NULL || !carrier_started(mad->carrier) ||
        !carrier_started(sane->carrier)) {
        io_timer_start(s->loop, timer, io_now_us(s->loop) + 500);
        return;
    }
    if (sane->received < 2 * 2 * 40) {
        io_timer_start(s->loop, timer, io_now_us(s->loop) + 500);
        return;
    }
    if (!s->garbled) { /* then end what has survived it */
        garble(s);
        s->garbled = true;
        io_timer_start(s->loop, timer, io_now_us(s->loop) + 3000);
        return;
    }
    carrier_end_session(sane->carrier, err_new(ERR_CANCELLED, "round over"));
}

static void side_new(struct side *side, struct io_stream *stream, bool initiator)
{
    static const struct hello hello = {.workers = WORKERS};
    struct carrier_worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct carrier_worker){.loop = side->stage->loop, .ctx = side};
    }
    const struct carrier_host *host =
        side->stage->round % 2 == 0 ? &side_host : &side_host_of_runs;
    struct carrier_config config = {.net = side->stage->loop, .host = host, .net_ctx = side,
                                    .workers = workers, .workers_len = WORKERS, .ours = &hello,
                                    .theirs = &hello};
    struct shm_config shm = {.initiator = initiator, .arena_bytes = 1};
    side->carrier = shm_carrier_new(&config, stream, &shm);
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

static void round_start(struct stage *s)
{
    if (s->round > 0) {
        CU_ASSERT_FALSE(s->sides[1].wrong);
        s->disconnects += strstr(s->sides[1].reason, "round over") == NULL ? 1 : 0;
    }
    if (s->round++ == ROUNDS) {
        io_loop_stop(s->loop);
        return;
    }
    s->ended = 0;
    s->garbled = false;
    struct io_stream *stream;
    for (int i = 0; i < 2; i++) {
        s->sides[i] = (struct side){.stage = s};
    }
    CU_ASSERT_PTR_NULL_FATAL(io_connect(s->loop, s->path, &no_handler, s, connected, &stream));
    s->timer.fire = next;
    io_timer_start(s->loop, &s->timer, io_now_us(s->loop) + 500);
}

static void stage_start(struct io_loop *loop, void *arg)
{
    struct stage *s = arg;
    s->loop = loop;
    CU_ASSERT_PTR_NULL_FATAL(io_listen(loop, s->path, accepted, s, &s->listener));
    round_start(s);
}

static void test_garbage(void)
{
    struct stage s = {.random = 11};
    struct io_env *env;
    log_configure(LOG_LEVEL_OFF, LOG_FORMAT_LOGFMT, "test");
    snprintf(s.path, sizeof(s.path), "unixpacket:/tmp/test-shm-%d", (int)getpid());
    CU_ASSERT_PTR_NULL_FATAL(io_env_new_real(&env));
    CU_ASSERT_PTR_NULL_FATAL(io_main(env, stage_start, &s));
    io_listener_close(s.listener);
    io_env_free(env);
    CU_ASSERT_EQUAL(s.round, ROUNDS + 1);
    CU_ASSERT_TRUE(s.disconnects > ROUNDS / 2);
    printf(" [%d rounds, %llu disconnects]", ROUNDS, (unsigned long long)s.disconnects);
}

/* ---- what a peer passes ---------------------------------------------------------------------- */

/* The memory of a peer as it makes it, and this side's view of it. */
struct passed {
    struct shm_carrier shm;
    uint8_t *memory;
    struct shm_head *head;
    struct shm_pool_head *pool;
};

static void passed_make(struct passed *p)
{
    struct shm_shape shape = {.workers = 3, .peer_workers = 2, .lines = SHM_LINES_MIN,
                              .arena_bytes = SHM_ARENA_MIN};
    memset(p->memory, 0, shm_size(&shape));
    memset(p->pool, 0, SHM_PAGE);
    *p->head = (struct shm_head){.magic = SHM_MAGIC, .workers = shape.workers,
                                 .peer_workers = shape.peer_workers, .lines = shape.lines,
                                 .arena_bytes = shape.arena_bytes};
    *p->pool = (struct shm_pool_head){.magic = SHM_POOL_MAGIC, .workers = shape.workers,
                                      .arena_bytes = shape.arena_bytes};
    p->shm.peer_shape = shape;
    p->shm.peer = p->memory;
    p->shm.peer_pool = p->pool;
}

static void expect_turned_down(struct passed *p)
{
    err_t err = shm_peer_check(&p->shm);
    CU_ASSERT_EQUAL(err_code(err), ERR_PROTOCOL);
    err_free(err);
    passed_make(p);
    CU_ASSERT_PTR_NULL(shm_peer_check(&p->shm));
}

/* Whatever is wrong in it is found before the session begins. */
static void test_peer_check(void)
{
    struct passed p = {.memory = aligned_alloc(SHM_PAGE, 64 * SHM_PAGE),
                       .pool = aligned_alloc(SHM_PAGE, SHM_PAGE)};
    p.head = (struct shm_head *)p.memory;
    passed_make(&p);
    CU_ASSERT_TRUE_FATAL(shm_size(&p.shm.peer_shape) <= 64 * SHM_PAGE);
    uint64_t *numbers[] = {&p.head->magic, &p.head->arena_bytes, &p.pool->magic,
                           &p.pool->arena_bytes};
    uint32_t *words[] = {&p.head->workers, &p.head->peer_workers, &p.head->lines, &p.head->zero,
                         &p.pool->workers, &p.pool->zero};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        *numbers[i] ^= 1;
        expect_turned_down(&p);
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        *words[i] ^= 4;
        expect_turned_down(&p);
    }
    shm_state_at(p.memory, &p.shm.peer_shape, 2)->blocked = 2;
    expect_turned_down(&p);
    shm_bell_at(p.memory, &p.shm.peer_shape, 1)->zero = 1;
    expect_turned_down(&p);
    for (uint32_t lane = 0; lane < 6; lane++) {
        struct shm_ends *ends = shm_ends_at(p.memory, &p.shm.peer_shape, lane / 2, lane % 2);
        struct shm_desc *first = (struct shm_desc *)shm_ring_of(ends);
        ends->head = 1;
        expect_turned_down(&p);
        ends->claim = 1;
        expect_turned_down(&p);
        first->word = shm_word(FRAME_KIND_USER, SHM_FLAGS, 1, shm_lap(0, 0) + 1);
        expect_turned_down(&p);
        first->word = shm_word(FRAME_GOODBYE, SHM_FLAGS, 1, shm_lap(0, 0));
        expect_turned_down(&p);
        first->word = shm_word(FRAME_KIND_USER, SHM_FLAGS, 1, shm_lap(0, 0)); /* it may send */
        CU_ASSERT_PTR_NULL(shm_peer_check(&p.shm));
        passed_make(&p);
    }
    free(p.memory);
    free(p.pool);
}

static const struct test_case cases[] = {
    {"arena", test_arena},
    {"arena, near its start", test_arena_window},
    {"pool", test_pool},
    {"sealed memory", test_memory},
    {"what a peer passes", test_peer_check},
    {"a peer that writes garbage", test_garbage},
};
TEST_SUITE("ring/shm", cases)
