/*
 * A process that goes mad, in session after session: while messages go both ways it writes garbage
 * into all the memory it may write, a little or a lot, at the words that matter or anywhere. The
 * other process looks at every byte it is given. It may disconnect, and that is all.
 */
#include "tests/torture/pair.h"
#include "tests/torture/torture.h"

#include <stdio.h>
#include <unistd.h>

enum { GARBLE_US = 50, ROUND_US = 3000, STRIKES = 40 };

struct garbage {
    struct pair pair;
    uint64_t rounds;
    uint64_t round;
    uint64_t disconnects; /* that it asked for */
    uint64_t received;
    uint64_t random;
    uint64_t sum; /* of the bytes received: so that they are read */
    bool open;
    bool wrong;
    uint32_t strikes; /* left in this round */
    struct io_timer timer;
};

static struct garbage *of(struct pair *p)
{
    return CONTAINER_OF(p, struct garbage, pair);
}

static uint64_t rnd(struct garbage *g)
{
    g->random = g->random * 6364136223846793005ULL + 1442695040888963407ULL;
    return g->random >> 24;
}

/* ---- both ------------------------------------------------------------------------------------ */

static void send_some(struct garbage *g, struct carrier *c)
{
    uint8_t bytes[3000];
    for (uint32_t i = 0; i < 20; i++) {
        size_t len = rnd(g) % (i % 4 == 0 ? sizeof(bytes) : 200);
        memset(bytes, (int)i, len);
        struct carrier_message m = {.kind = FRAME_KIND_USER, .stream = i, .data = bytes,
                                    .len = len};
        if (carrier_ready(c, 0, 0)) {
            carrier_send(c, 0, 0, &m);
        }
    }
    carrier_flush(c, 0);
}

static void garbage_open(void *ctx, struct carrier *c, uint32_t local)
{
    struct garbage *g = of(ctx);
    g->open = true;
    send_some(g, c);
}

static err_t garbage_message(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                             const struct carrier_message *m)
{
    struct garbage *g = of(ctx);
    for (size_t i = 0; i < m->len; i++) {
        g->sum += m->data[i];
    }
    g->received++;
    g->wrong |= remote != 0 || m->kind < FRAME_KIND_USER || m->len > FRAME_MESSAGE_MAX ||
                (m->len > 0) != (m->data != NULL);
    return ERR_OK;
}

static err_t garbage_lost(void *ctx, struct carrier *c, uint32_t local, uint32_t remote,
                          const struct carrier_message *m)
{
    return ERR_OK; /* a lie, but one it may tell of its own messages */
}

static void garbage_close(void *ctx, struct carrier *c, uint32_t local)
{
    of(ctx)->open = false;
}

static void garbage_ending(void *net_ctx, struct carrier *c, const char *reason)
{
    struct garbage *g = of(net_ctx);
    g->disconnects += strstr(reason, "the round is over") == NULL ? 1 : 0;
}

static void garbage_ended(void *net_ctx, struct carrier *c)
{
    struct garbage *g = of(net_ctx);
    g->pair.carrier = NULL;
    g->round++;
    if (g->pair.child) {
        g->strikes = STRIKES;
        pair_connect(&g->pair);
    } else if (g->round == g->rounds) {
        io_timer_cancel(g->pair.loop, &g->timer);
        io_loop_stop(g->pair.loop);
    }
}

static const struct carrier_host garbage_host = {
    .open = garbage_open,
    .message = garbage_message,
    .lost = garbage_lost,
    .close = garbage_close,
    .ending = garbage_ending,
    .ended = garbage_ended,
};

/* ---- the mad one ----------------------------------------------------------------------------- */

static uint64_t garbage_word(struct garbage *g)
{
    uint64_t value = rnd(g);
    switch (rnd(g) % 5) {
    case 0:
        return value % 300;
    case 1:
        return value << 30;
    case 2:
        return UINT64_MAX - value % 70;
    case 3:
        return shm_word(FRAME_KIND_USER, (uint32_t)(value % 16), (uint32_t)(value >> 8) % 5,
                        0x8000 | (uint32_t)(value >> 16 & 3)) |
               rnd(g) % 100 << 32;
    default:
        return value;
    }
}

/* The line that its peer looks at says that it is there, and is garbage but for that. */
static void strike_next(struct garbage *g, const struct shm_pair *pair)
{
    struct shm_desc *d = (struct shm_desc *)&pair->ring[pair->tail & pair->mask];
    bool dense = rnd(g) % 3 == 0; /* and a length, a count or a skip that may be one */
    uint32_t word = shm_word((uint8_t)rnd(g), dense ? FRAME_FLAGS : rnd(g) % 16,
                             dense ? SHM_DENSE : rnd(g) % 16,
                             shm_lap(pair->tail, pair->shift));
    d->len = (uint32_t)garbage_word(g);
    d->block.offset = rnd(g) % 2 == 0 ? rnd(g) % 1024 * SHM_UNIT : rnd(g);
    if (dense) {
        d->dense.count = (uint32_t)rnd(g) % 40;
        d->dense.skip = rnd(g) % 2 == 0 ? 0 : (uint32_t)(pair->mask - (pair->tail & pair->mask));
        d->dense.zero = rnd(g) % 4 == 0 ? 1 : 0;
    }
    /* Relaxed: the point is disorder. */
    atomic_store_explicit(&d->word, word, memory_order_relaxed);
}

/* Anywhere, near the lines that come next, the numbers beside the ring, or the blocks. */
static void strike(struct garbage *g)
{
    struct shm_carrier *shm = shm_of(g->pair.carrier);
    const struct shm_shape *shape = &shm->own_shape;
    uint64_t *words = shm->own;
    uint64_t first = SHM_PAGE / 8;
    uint64_t len = shm_size(shape) / 8 - first;
    uint64_t lane = shm_lanes_at(shape) / 8;
    uint64_t n = rnd(g) % 4 == 0 ? 2000 : 1 + rnd(g) % 3;
    uint64_t where = rnd(g) % 4;
    const struct shm_pair *pair = &shm->ends[0].pairs[0];
    if (where == 1) {
        strike_next(g, pair);
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = first + rnd(g) % len;
        if (where == 0) {
            at = lane + rnd(g) % (sizeof(struct shm_ends) / 8);
        } else if (where == 1) {
            at = lane + sizeof(struct shm_ends) / 8 +
                 ((pair->tail + rnd(g) % 64) & pair->mask) * SHM_LINE / 8 + rnd(g) % 8;
        }
        if (where == 2) {
            uint64_t *blocks = (uint64_t *)((uint8_t *)shm->pool->base + SHM_PAGE);
            blocks[rnd(g) % (shape->arena_bytes / 8)] = garbage_word(g);
        } else {
            words[at] = garbage_word(g);
        }
    }
    /* The one word that it reads back itself: it is awake now. Relaxed: the point is disorder. */
    struct shm_state *state = shm_state_at(shm->own, shape, 0);
    atomic_fetch_and_explicit(&state->sleeping, ~1U, memory_order_relaxed);
}

static void mad_turn(struct io_timer *timer)
{
    struct garbage *g = CONTAINER_OF(timer, struct garbage, timer);
    io_timer_start(g->pair.loop, timer, io_now_us(g->pair.loop) + GARBLE_US);
    if (g->open && g->strikes > 0) {
        g->strikes--;
        send_some(g, g->pair.carrier);
        strike(g);
    }
}

/* ---- the sane one ---------------------------------------------------------------------------- */

/* Sends as well, so that its acknowledgements matter; ends what has survived. */
static void sane_turn(struct io_timer *timer)
{
    struct garbage *g = CONTAINER_OF(timer, struct garbage, timer);
    io_timer_start(g->pair.loop, timer, io_now_us(g->pair.loop) + ROUND_US / 10);
    if (g->open && rnd(g) % 10 == 0) {
        carrier_end_session(g->pair.carrier, err_new(ERR_CANCELLED, "the round is over"));
    } else if (g->open) {
        send_some(g, g->pair.carrier);
    }
}

static void garbage_started(struct pair *p)
{
    struct garbage *g = of(p);
    g->timer.fire = p->child ? mad_turn : sane_turn;
    g->strikes = STRIKES;
    io_timer_start(p->loop, &g->timer, io_now_us(p->loop) + GARBLE_US);
    if (p->child) {
        pair_connect(p);
    }
}

bool torture_garbage(const struct torture_options *options)
{
    struct garbage *g = MEM_NEW(struct garbage);
    g->pair = (struct pair){.host = &garbage_host, .started = garbage_started, .arena_bytes = 1};
    g->rounds = options->cycles;
    g->random = options->seed;
    pair_run(&g->pair);
    printf("%llu sessions with a peer that writes garbage, %llu disconnected, %llu messages taken "
           "(%llu)\n", (unsigned long long)g->round, (unsigned long long)g->disconnects,
           (unsigned long long)g->received, (unsigned long long)g->sum);
    /* How many depends on how far the mad one gets in a round: 60 % of them, 20 % with a sanitizer
     * or on a busy machine. */
    bool right = !g->wrong && g->round == g->rounds && g->received > 0 &&
                 g->disconnects > g->rounds / 10;
    free(g);
    return right;
}
