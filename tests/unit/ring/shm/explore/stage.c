/* The stage: see stage.h. */
#include "tests/unit/ring/shm/explore/stage.h"

#include <string.h>

enum { MEMORY = 4 * SHM_PAGE };

struct stage_side stage_producer[STAGE_SESSIONS];
struct stage_side stage_consumer[STAGE_SESSIONS];
struct shm_pool stage_pool;

static struct shm_pool consumer_pool;
static struct shm_pool_worker pool_workers[2];
static struct stage_config config;
static uint64_t now_ns;
static bool room; /* the producer's pool has told that there is */

/* All that is shared, so that one comparison tells. */
static struct {
    _Alignas(SHM_PAGE) uint8_t producer[STAGE_SESSIONS][MEMORY];
    uint8_t consumer[STAGE_SESSIONS][MEMORY];
    uint8_t pools[2][SHM_PAGE + STAGE_ARENA];
} shared;

/* ---- messages -------------------------------------------------------------------------------- */

/* Where a line of a dense message begins stands what would be a word of the second lap. */
static uint8_t byte_of(uint32_t n, size_t i)
{
    uint32_t word = shm_word(FRAME_KIND_USER, FRAME_FLAGS, 1, shm_lap(1, 0));
    if (i % SHM_LINE < sizeof(word)) {
        return (uint8_t)(word >> 8 * (i % SHM_LINE));
    }
    return (uint8_t)(n * 37 + i);
}

static void fill(uint8_t *data, uint32_t n, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        data[i] = byte_of(n, i);
    }
}

static struct carrier_message message_of(uint32_t n)
{
    return (struct carrier_message){.kind = FRAME_KIND_USER, .stream = n, .a = n, .b = ~n};
}

static void check_bytes(const struct carrier_message *m, uint32_t n, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (m->data[i] != byte_of(n, i)) {
            explore_fail("message %u is torn at byte %zu", n, i);
        }
    }
}

static void send(struct stage_side *side, uint32_t n, size_t len, uint8_t flags)
{
    uint8_t bytes[4096];
    ASSERT(len <= sizeof(bytes));
    struct carrier_message m = message_of(n);
    fill(bytes, n, len);
    m.flags = flags;
    m.data = bytes;
    m.len = len;
    shm_send(&side->shm.base, 0, 0, &m);
}

void stage_send(struct stage_side *side, uint32_t n, size_t len, bool flush)
{
    send(side, n, len, 0);
    if (flush) {
        shm_flush(&side->shm.base, 0);
    }
}

void stage_send_now(struct stage_side *side, uint32_t n, size_t len)
{
    send(side, n, len, CARRIER_NOW);
}

void stage_send_run(struct stage_side *side, uint32_t n, uint32_t count, size_t len)
{
    while (count > 0) {
        struct carrier_run run;
        if (!shm_run_begin(&side->shm.base, 0, 0, count, len, &run)) {
            stage_send(side, n++, len, false);
            count--;
            continue;
        }
        for (uint32_t i = 0; i < run.len; i++) {
            uint8_t bytes[CARRIER_RUN_BYTES];
            struct carrier_message m = message_of(n + i);
            fill(bytes, n + i, len);
            /* What carrier_run_put stores into the ring, for the explorer to see: all at once. */
            uint32_t aside = i == 0 && run.first != run.lines ? 1 : 0;
            if (run.stride > aside) {
                explore_written(run.lines + (size_t)i * run.stride + aside,
                                (run.stride - aside) * (size_t)SHM_LINE);
            }
            carrier_run_put(&run, i, &m, bytes);
        }
        shm_run_end(&side->shm.base, 0, 0, &run, run.len);
        n += run.len;
        count -= run.len;
    }
}

void stage_send_pack(struct stage_side *side, uint32_t n, uint32_t count, size_t len)
{
    struct carrier_pack pack = {.stride = carrier_pack_stride((uint32_t)len), .len = (uint32_t)len};
    if (!shm_pack_begin(&side->shm.base, 0, 0, count, len, &pack)) {
        for (uint32_t i = 0; i < count; i++) {
            stage_send(side, n + i, len, false);
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        explore_written(carrier_pack_at(&pack, i), pack.stride);
        fill(carrier_pack_at(&pack, i), n + i, len);
    }
    struct carrier_message m = message_of(n);
    shm_pack_end(&side->shm.base, 0, 0, &pack, &m, count);
}

/* Lines of the ring, or other memory, for message n. */
static void begin_build(struct stage_side *side, uint32_t n, size_t len,
                        struct carrier_block *block)
{
    shm_reserve(&side->shm.base, 0, 0, len, block);
    explore_written(block->data, len);
    fill(block->data, n, len);
    if (side->never_clears) {
        side->end.pairs[0].clear_until = 0;
    }
}

void stage_build(struct stage_side *side, uint32_t n, size_t most, size_t len)
{
    struct carrier_block block;
    struct carrier_message m = message_of(n);
    begin_build(side, n, most, &block);
    shm_commit(&side->shm.base, 0, 0, &m, &block, len);
    shm_flush(&side->shm.base, 0);
}

void stage_build_around(struct stage_side *side, uint32_t n, size_t len)
{
    struct carrier_block block;
    struct carrier_message m = message_of(n + 1);
    begin_build(side, n + 1, len, &block);
    stage_send_now(side, n, 8);
    shm_flush_end(&side->end);
    shm_commit(&side->shm.base, 0, 0, &m, &block, len);
}

void stage_send_over_turn(struct stage_side *side, uint32_t n, size_t len)
{
    struct carrier_block block;
    struct carrier_message m = message_of(n);
    shm_reserve(&side->shm.base, 0, 0, len, &block);
    explore_written(block.data, len / 2);
    fill(block.data, n, len / 2);
    shm_flush_end(&side->end);
    explore_written(block.data + len / 2, len - len / 2);
    for (size_t i = len / 2; i < len; i++) {
        block.data[i] = byte_of(n, i);
    }
    shm_commit(&side->shm.base, 0, 0, &m, &block, len);
}

bool stage_block(uint32_t n, size_t len, struct carrier_block *block)
{
    if (!shm_pool_reserve(&stage_pool, 0, len, block)) {
        return false;
    }
    explore_point();
    explore_written(block->data, len / 2);
    fill(block->data, n, len / 2);
    explore_point();
    explore_written(block->data + len / 2, len - len / 2);
    for (size_t i = len / 2; i < len; i++) {
        block->data[i] = byte_of(n, i);
    }
    return true;
}

void stage_share(struct stage_side *side, uint32_t n, const struct carrier_block *block,
                 size_t len)
{
    struct carrier_message m = message_of(n);
    shm_share(&side->shm.base, 0, 0, &m, block, len);
}

static struct stage_side *side_of(struct carrier *c)
{
    return CONTAINER_OF(shm_of(c), struct stage_side, shm);
}

static void check_next(struct stage_side *side, const struct carrier_message *m)
{
    if (m->a != side->next || m->b != (uint32_t)~side->next || m->stream != side->next) {
        explore_fail("message %u came as %llu", side->next, (unsigned long long)m->a);
    }
    side->next++;
}

bool carrier_deliver(struct carrier *c, uint32_t local, uint32_t remote,
                     const struct carrier_message *m)
{
    struct stage_side *side = side_of(c);
    uint32_t n = side->next;
    check_next(side, m);
    bool lies_there = (m->flags & CARRIER_STABLE) == 0;
    check_bytes(m, n, 0, m->len / 2);
    if (side->stops) {
        side->stops = false;
        side->began = 1;
        explore_wake(&side->began);
        explore_join(0);
    }
    if (lies_there) {
        explore_point(); /* a callback takes its time */
    }
    check_bytes(m, n, m->len / 2, m->len);
    if (side->answers) {
        stage_send(side, n, 8, false);
    }
    return true;
}

/* The header is the first one's; the others follow from it. */
bool carrier_deliver_pack(struct carrier *c, uint32_t local, uint32_t remote,
                          const struct carrier_message *m, uint32_t n, uint32_t stride)
{
    struct carrier_message one = *m;
    if (n == 0 || n > CARRIER_RUN_MAX) {
        explore_fail("a run of %u messages", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        one.a = m->a + i;
        one.b = (uint32_t)~one.a;
        one.stream = (uint32_t)one.a;
        one.data = m->data + (size_t)i * stride;
        if (!carrier_deliver(c, local, remote, &one)) {
            return false;
        }
    }
    return true;
}

bool carrier_deliver_run(struct carrier *c, uint32_t local, uint32_t remote,
                         const struct carrier_small *messages, uint32_t len, size_t bytes)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < len; i++) {
        struct carrier_message m = {.kind = carrier_small_kind(&messages[i]),
                                    .flags = CARRIER_STABLE, .stream = messages[i].stream,
                                    .c = messages[i].c, .a = messages[i].a, .b = messages[i].b,
                                    .data = messages[i].bytes, .len = messages[i].len};
        sum += m.len;
        if (!carrier_deliver(c, local, remote, &m)) {
            return false;
        }
    }
    if (len == 0 || len > CARRIER_RUN_MAX || sum != bytes) {
        explore_fail("%u posts, %zu bytes", len, bytes);
    }
    return true;
}

/* That they are there is what counts: carrier_deliver_pack and _posts are above. */
static err_t stage_pack(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                        const struct carrier_message *m, uint32_t n, uint32_t stride)
{
    UNREACHABLE();
}

static err_t stage_run(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                       const struct carrier_small *messages, uint32_t len)
{
    UNREACHABLE();
}

static err_t stage_lost(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                        const struct carrier_message *m)
{
    check_next(side_of(c), m);
    side_of(c)->lost++;
    return ERR_OK;
}

static const struct carrier_host host = {.lost = stage_lost};
static const struct carrier_host host_of_runs = {.lost = stage_lost, .pack = stage_pack,
                                                 .run = stage_run};

/* Both sides are honest: whatever one finds wrong is a fault. */
void carrier_fail(struct carrier *c, uint32_t local, err_t reason)
{
    explore_fail("%s", err_text(reason));
}

void carrier_fail_unfit(struct carrier *c, uint32_t local, err_t reason)
{
    UNREACHABLE();
}

void carrier_post_aside(struct carrier_window *w)
{
    UNREACHABLE(); /* shm_send posts only when there is room */
}

void carrier_post_wake(struct carrier_window *w)
{
    shm_posted(w->carrier, w->local, w->remote);
}

void carrier_writable(struct carrier *c, uint32_t local)
{
    side_of(c)->writable = true;
}

struct carrier_node *carrier_node_new(enum carrier_node_kind kind, uint32_t local, uint32_t remote,
                                      const struct carrier_message *m, size_t len)
{
    struct carrier_node *node = explore_alloc(sizeof(*node) + CARRIER_ALIGN + len);
    *node = (struct carrier_node){.kind = kind, .m = *m};
    node->m.data = carrier_node_data(node);
    node->m.len = len;
    return node;
}

void carrier_node_free(struct carrier_node *node)
{
}

/* ---- mailboxes and loops --------------------------------------------------------------------- */

struct mailbox *mailbox_new(struct io_loop *loop, void (*take)(void *, struct mailbox_item *),
                            void (*after)(void *), void *arg)
{
    UNREACHABLE();
}

/* What comes back from the net loop when the peer's end is proved. */
void mailbox_put(struct mailbox *box, struct mailbox_item *item)
{
    struct shm_return *r = CONTAINER_OF(item, struct shm_return, item);
    for (size_t i = 0; i < r->len; i++) {
        shm_pool_drop(r->worker, r->offsets[i]);
    }
}

void mailbox_free(struct mailbox *box, void (*drop)(struct mailbox_item *))
{
    UNREACHABLE();
}

void shm_linger_free_all(struct shm_pool *pool)
{
    UNREACHABLE();
}

err_t shm_memory_make(const char *name, size_t size, bool *huge, void **base, int *fd)
{
    UNREACHABLE();
}

/* Of the explorer, by the name it gives to those it explores (hooks.h). */
void *explore_aligned_alloc(size_t align, size_t size);

void *shm_memory_private(size_t size)
{
    return explore_aligned_alloc(SHM_PAGE, size);
}

void shm_memory_unmap(void *base, size_t size)
{
    UNREACHABLE();
}

void shm_close(int fd)
{
    UNREACHABLE();
}

void shm_ring_eventfd(int fd)
{
    UNREACHABLE();
}

/* A reader lags as soon as it is looked at twice. */
uint64_t io_mono_ns(struct io_loop *loop)
{
    now_ns += 6 * 1000 * 1000;
    return now_ns;
}

uint64_t io_now_us(struct io_loop *loop)
{
    return now_ns / 1000;
}

/* The pool's, which drops what a session has left: at once here. */
void io_timer_start(struct io_loop *loop, struct io_timer *timer, uint64_t deadline_us)
{
    timer->fire(timer);
}

void io_timer_cancel(struct io_loop *loop, struct io_timer *timer)
{
    UNREACHABLE();
}

void io_loop_note_wake(struct io_loop *loop, uint64_t rung_ns)
{
}

bool io_loop_has_futex(struct io_loop *loop)
{
    return true;
}

struct io_env *io_loop_env(struct io_loop *loop)
{
    return NULL;
}

bool io_env_simulated(const struct io_env *env)
{
    return false;
}

err_t io_bell_open(struct io_loop *loop, void (*ring)(void *arg), void *arg, struct io_bell **out)
{
    UNREACHABLE();
}

void io_bell_close(struct io_bell *bell)
{
}

void io_poller_add(struct io_loop *loop, struct io_poller *poller)
{
}

void io_poller_remove(struct io_loop *loop, struct io_poller *poller)
{
}

/* Its handle is the end it wakes. */
err_t io_futex_open(struct io_loop *loop, const _Atomic uint32_t *word, void (*woken)(void *arg),
                    void *arg, struct io_futex **out)
{
    *out = arg;
    return ERR_OK;
}

void io_futex_close(struct io_futex *futex)
{
}

static struct stage_side *side_of_end(void *end)
{
    return CONTAINER_OF((struct shm_end *)end, struct stage_side, end);
}

void io_futex_arm(struct io_futex *futex, uint32_t seen)
{
    side_of_end(futex)->seen_word = seen;
    side_of_end(futex)->armed = true;
}

void io_futex_wake(const _Atomic uint32_t *word)
{
    explore_wake((const uint32_t *)word);
}

/* ---- turns ----------------------------------------------------------------------------------- */

static void sleep_on(struct stage_side *sides, uint32_t len)
{
    const uint32_t *words[EXPLORE_WORDS] = {0};
    uint32_t seen[EXPLORE_WORDS] = {0};
    uint32_t n = 0;
    ASSERT(len < EXPLORE_WORDS);
    for (uint32_t i = 0; i < len; i++) {
        if (sides[i].end.attached) {
            ASSERT(sides[i].armed);
            words[n] = (const uint32_t *)&sides[i].end.rings->rung;
            seen[n++] = sides[i].seen_word;
        }
    }
    words[n++] = &sides[0].goodbye; /* a message of the net loop wakes as well */
    explore_sleep(words, seen, n);
}

static bool poll_all(struct stage_side *sides, uint32_t len)
{
    bool any = false;
    for (uint32_t i = 0; i < len; i++) {
        sides[i].armed = false;
        any |= sides[i].end.attached && sides[i].end.poller.poll(&sides[i].end.poller);
    }
    return any;
}

void stage_turn(struct stage_side *sides, uint32_t len)
{
    bool told = room;
    room = false;
    if (poll_all(sides, len) || told) {
        return;
    }
    bool work = false;
    for (uint32_t i = 0; i < len && !work; i++) {
        work |= sides[i].end.attached && sides[i].end.poller.arm(&sides[i].end.poller);
    }
    if (!work) {
        sleep_on(sides, len);
    }
    for (uint32_t i = 0; i < len; i++) {
        if (sides[i].end.attached) {
            sides[i].end.poller.disarm(&sides[i].end.poller);
        }
    }
}

void stage_turn_end(struct stage_side *sides, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        if (sides[i].end.attached) {
            shm_flush_end(&sides[i].end);
        }
    }
}

void stage_consume(struct stage_side *side)
{
    struct shm_pair *pair = &side->end.pairs[0];
    while (side->next < side->expects && !pair->over && side->goodbye == 0) {
        if (!explore_died(0)) {
            stage_turn(side, 1);
        } else if (!side->end.poller.poll(&side->end.poller)) {
            return; /* what it has published before was there to be seen */
        }
    }
}

void stage_goodbye(struct stage_side *consumer)
{
    consumer->goodbye = 1;
    explore_wake(&consumer->goodbye);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void note_room(void *ctx)
{
    *(bool *)ctx = true;
}

static void pool_reset(struct shm_pool *pool, struct shm_pool_worker *w, uint8_t *base, bool outer)
{
    static int box;
    *pool = (struct shm_pool){.config = {.workers = 1}, .arena_bytes = STAGE_ARENA, .base = base,
                              .fd = -1, .workers = w};
    *w = (struct shm_pool_worker){.pool = pool, .base = base + SHM_PAGE,
                                  .box = outer ? (struct mailbox *)&box : NULL,
                                  .room = outer ? note_room : NULL, .ctx = &room};
    w->arena.spans = explore_alloc(STAGE_ARENA / SHM_UNIT * sizeof(struct shm_span));
    memset(w->arena.spans, 0, STAGE_ARENA / SHM_UNIT * sizeof(struct shm_span));
    w->arena.spans[0].units = w->arena.units = w->arena.free_units = STAGE_ARENA / SHM_UNIT;
    w->arena.refused = UINT32_MAX;
}

static void side_reset(struct stage_side *side, uint32_t thread, uint8_t *own, uint8_t *peer,
                       struct shm_pool *pool, uint8_t *peer_pool)
{
    struct shm_shape shape = {.workers = 1, .peer_workers = 1, .lines = config.lines,
                              .arena_bytes = STAGE_ARENA};
    ASSERT(shm_lanes_at(&shape) + shm_lane_size(&shape) <= MEMORY);
    memset(side, 0, sizeof(*side));
    memset(own + SHM_PAGE, 0, shm_lanes_at(&shape) + shm_lane_size(&shape) - SHM_PAGE);
    side->thread = thread;
    side->shm.base = (struct carrier){.host = &host, .ends = &side->base_end, .ends_len = 1};
    side->base_end = (struct carrier_end){.carrier = &side->shm.base, .open = true,
                                          .counters = &side->base_end.own_counters};
    side->shm.own_shape = side->shm.peer_shape = shape;
    side->shm.own = own;
    side->shm.peer = peer;
    side->shm.peer_pool = peer_pool;
    side->shm.pool = pool;
    side->shm.peer_bells[0] = -1;
    side->shm.ends = &side->end;
    side->end.shm = &side->shm;
    side->end.counters = side->base_end.counters;
}

void stage_reset(const struct stage_config *c)
{
    config = *c;
    now_ns = 0;
    room = false;
    explore_share(&shared, sizeof(shared));
    pool_reset(&stage_pool, &pool_workers[0], shared.pools[0], c->shared);
    pool_reset(&consumer_pool, &pool_workers[1], shared.pools[1], false);
    for (uint32_t i = 0; i < c->sessions; i++) {
        side_reset(&stage_producer[i], 0, shared.producer[i], shared.consumer[i], &stage_pool,
                   shared.pools[1]);
        side_reset(&stage_consumer[i], 1 + i, shared.consumer[i], shared.producer[i],
                   &consumer_pool, shared.pools[0]);
        stage_consumer[i].shm.base.host = c->runs ? &host_of_runs : &host;
    }
    for (uint32_t i = 0; i < c->sessions; i++) {
        shm_attach(&stage_producer[i].shm.base, 0);
        shm_attach(&stage_consumer[i].shm.base, 0);
        stage_producer[i].end.pairs[0].dense_max = c->dense;
    }
}

void stage_detach(struct stage_side *side)
{
    shm_detach(&side->shm.base, 0);
}

void stage_reclaim(struct stage_side *side)
{
    stage_detach(side);
    shm_pool_return(side->end.returns);
    side->end.returns = NULL;
}

static void check_nothing_held(void)
{
    const struct shm_arena *arena = &stage_pool.workers[0].arena;
    if (!shm_arena_valid(arena)) {
        explore_fail("the arena's books are wrong");
    }
    if (arena->free_units != arena->units) {
        explore_fail("%u units are never given back", arena->units - arena->free_units);
    }
}

static void check_session(struct stage_side *producer, struct stage_side *consumer)
{
    if (explore_died(consumer->thread) && producer->end.attached) {
        stage_reclaim(producer); /* it died when the producer had nothing left to do */
    }
    if (producer->end.attached) {
        if (!shm_pair_valid(&producer->end, &producer->end.pairs[0])) {
            explore_fail("the producer's numbers do not fit");
        }
        shm_take_acks(&producer->end, &producer->end.pairs[0]);
    }
}

void stage_check(uint32_t sessions)
{
    for (uint32_t i = 0; i < sessions; i++) {
        struct stage_side *c = &stage_consumer[i];
        if (!explore_died(0)) {
            check_session(&stage_producer[i], c);
        }
        if (explore_died(c->thread)) {
            continue;
        }
        if (c->end.attached && !shm_pair_valid(&c->end, &c->end.pairs[0])) {
            explore_fail("the consumer's numbers do not fit");
        }
        if (!explore_died(0) && c->goodbye == 0 && c->next != c->expects) {
            explore_fail("%u of %u messages came", c->next, c->expects);
        }
    }
    if (!explore_died(0)) {
        check_nothing_held();
    }
}
