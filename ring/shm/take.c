/*
 * Receiving at a worker. What the peer publishes is copied line by line and checked on the copy;
 * small messages are private by that. Blocks are claimed before they are begun (see ring/README.md,
 * taking back), and given to the layer above where they lie.
 */
#include "ring/shm/internal.h"

enum {
    MESSAGES_A_POLL = 128,   /* those of a run count a quarter */
    BYTES_A_POLL = 1 << 20,  /* more when they are not read: */
    LONG_NS = 10 * 1000,     /* as long as a poll does not take longer than that because of them */
    CLAIM_LINES = 16,        /* claimed at a time at most, */
    CLAIM_BYTES = 64 * 1024, /* and so many bytes, or one block */
};

/* Room for a small message, such that its bytes are aligned. */
union landing {
    struct {
        _Alignas(CARRIER_ALIGN) uint8_t unused[SHM_LINE - SHM_INLINE_HEAD];
        struct shm_desc desc; /* a private copy */
    };
    struct {
        uint8_t before[SHM_LINE];
        uint8_t bytes[SHM_INLINE_MAX];
    };
};
STATIC_ASSERT(offsetof(union landing, bytes) % CARRIER_ALIGN == 0, "messages are aligned");
STATIC_ASSERT(offsetof(union landing, bytes) == offsetof(union landing, desc.bytes), "in place");

/* What the word of a descriptor says. */
struct word {
    uint8_t kind;
    uint8_t flags;
    uint8_t lines;
};

static err_t bad_desc(const struct shm_desc *d, const char *what)
{
    /* Relaxed: a private copy. */
    return err_new(ERR_PROTOCOL, "bad descriptor: %s (word %08x, length %u)", what,
                   atomic_load_explicit(&d->word, memory_order_relaxed), d->len);
}

/* What holds for every descriptor; d is a private copy. */
static inline const char *desc_wrong(const struct shm_pair *pair, const struct shm_desc *d,
                                     struct word *w)
{
    /* Relaxed: a private copy. */
    uint32_t word = atomic_load_explicit(&d->word, memory_order_relaxed);
    *w = (struct word){
        .kind = word & 0xFF, .flags = word >> 8 & 0xF, .lines = word >> 12 & 0xF};
    if (w->kind < FRAME_KIND_USER || word >> 16 != shm_lap(pair->taken, pair->peer_shift)) {
        return "kind or lap";
    }
    if ((w->flags & SHM_BLOCK) == 0) {
        if (d->len > SHM_INLINE_MAX || w->lines != shm_lines_of(d->len)) {
            return "lines";
        }
        if ((w->flags & FRAME_FLAGS) != FRAME_FLAGS || pair->partial != NULL) {
            return "fragments";
        }
    }
    return NULL;
}

static const char *block_wrong(const struct shm_end *end, const struct shm_pair *pair,
                               const struct shm_desc *d, const struct word *w)
{
    const uint32_t *zero = d->block.zero;
    uint64_t arena = end->shm->peer_shape.arena_bytes;
    bool first = (w->flags & FRAME_FIRST) != 0;
    bool last = (w->flags & FRAME_LAST) != 0;
    uint32_t total = d->block.total;
    const struct carrier_node *partial = pair->partial;
    if (d->block.offset > arena || d->len > arena - d->block.offset ||
        d->block.offset % CARRIER_ALIGN != 0) {
        return "block outside the arena";
    }
    if (d->len == 0 || total > FRAME_MESSAGE_MAX || d->len > total || w->lines != 1 ||
        (zero[0] | zero[1] | zero[2] | zero[3] | zero[4]) != 0) {
        return "lengths";
    }
    if (first != (partial == NULL) || ((w->flags & SHM_SHARED) != 0 && !(first && last))) {
        return "fragments";
    }
    STATIC_ASSERT(sizeof(d->block.zero) == 5 * sizeof(zero[0]), "all of them");
    if (first && last != (d->len == total)) {
        return "length of a whole message";
    }
    if (!first && (total != partial->m.len || w->kind != partial->m.kind ||
                   d->len > partial->m.len - partial->sent ||
                   last != (d->len == partial->m.len - partial->sent))) {
        return "length of a fragment";
    }
    return NULL;
}

static inline struct carrier_message message_of(const struct shm_desc *d, uint8_t kind)
{
    return (struct carrier_message){.kind = kind, .flags = CARRIER_STABLE, .stream = d->stream,
                                    .c = d->c, .a = d->a, .b = d->b, .len = d->len};
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* How far a claim goes that begins with block d, the next to be taken: over what is there already.
 * Lengths and places are only looked at: a lie makes it shorter or longer. */
static uint64_t claim_end(const struct shm_pair *pair, const struct shm_desc *first)
{
    uint64_t at = pair->taken;
    uint64_t end = at + 1;
    uint64_t last = first->block.offset;
    size_t bytes = first->len;
    while (end - at < CLAIM_LINES) {
        const struct shm_desc *d =
            (const struct shm_desc *)&pair->peer_ring[end & pair->peer_mask];
        /* Relaxed: nothing is read by it; whoever takes the line loads the word again. */
        uint32_t word = atomic_load_explicit(&d->word, memory_order_relaxed);
        uint32_t lines = word >> 12 & 0xF;
        if (word >> 16 != shm_lap(end, pair->peer_shift) || lines == SHM_DENSE) {
            break; /* not published: what comes there may yet be taken back; or a long way on */
        }
        /* The same block once more is nothing more. */
        size_t more = d->block.offset == last ? 0 : d->len;
        if (more > 0 && bytes + more > CLAIM_BYTES) {
            break;
        }
        bytes += more;
        last = d->block.offset;
        end += lines > 0 ? lines : 1; /* 0 is a lie, found when it is taken */
    }
    return end;
}

static void claim(struct shm_pair *pair, const struct shm_desc *first)
{
    ASSERT(pair->taken >= pair->claimed);
    pair->claimed = claim_end(pair, first);
    /* Relaxed, both: the fence orders them; it pairs with the one in lag.c: either the peer sees
     * the claim and leaves these blocks, or we see that they are void. */
    atomic_store_explicit(&pair->own->claim, pair->claimed, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    pair->voided = atomic_load_explicit(&pair->peer->voided, memory_order_relaxed);
}

static bool take_lost(struct shm_end *end, struct shm_pair *pair, const struct shm_desc *d,
                      uint8_t kind)
{
    struct carrier *c = &end->shm->base;
    struct carrier_end *mine = &c->ends[end->local];
    struct carrier_message m = message_of(d, kind);
    m.len = 0;
    carrier_count(&shm_counters(end)->lost_in, 1);
    if (!mine->open || mine->failed) {
        return false;
    }
    err_t err = c->host->lost == NULL
                    ? err_new(ERR_UNAVAILABLE, "this worker fell behind: a batch was taken back")
                    : c->host->lost(mine->worker.ctx, c, end->local,
                                    (uint32_t)(pair - end->pairs), &m);
    if (err != ERR_OK) {
        carrier_fail(c, end->local, err);
        return false;
    }
    return true;
}

/* False: the session failed, or ended in the callback. */
static bool take_fragment(struct shm_end *end, struct shm_pair *pair, const struct shm_desc *d,
                          const struct word *w)
{
    ASSERT(d->len > 0 && (pair->partial != NULL || (w->flags & FRAME_FIRST) != 0));
    uint32_t remote = (uint32_t)(pair - end->pairs);
    if (pair->partial == NULL) {
        struct carrier_message m = message_of(d, w->kind);
        pair->partial = carrier_node_new(CARRIER_NODE_MESSAGE, end->local, remote, &m,
                                         d->block.total);
    }
    struct carrier_node *node = pair->partial;
    memcpy(carrier_node_data(node) + node->sent, pair->peer_arena + d->block.offset, d->len);
    node->sent += d->len;
    if ((w->flags & FRAME_LAST) == 0) {
        return true;
    }
    ASSERT(node->sent == node->m.len);
    pair->partial = NULL;
    bool alive = carrier_deliver(&end->shm->base, end->local, remote, &node->m);
    carrier_node_free(node);
    return alive;
}

static bool take_block(struct shm_end *end, struct shm_pair *pair, const struct shm_desc *d,
                       const struct word *w)
{
    const char *wrong = block_wrong(end, pair, d, w);
    if (wrong != NULL) {
        carrier_fail(&end->shm->base, end->local, bad_desc(d, wrong));
        return false;
    }
    if (pair->taken >= pair->claimed) {
        claim(pair, d);
    }
    if (pair->voided == SHM_VOID_ALL) {
        pair->over = true; /* it has ended the session, and its goodbye is on the way */
        return false;
    }
    if ((w->flags & SHM_SHARED) != 0 && pair->taken < pair->voided) {
        return take_lost(end, pair, d, w->kind);
    }
    if ((w->flags & FRAME_FLAGS) != FRAME_FLAGS) {
        return take_fragment(end, pair, d, w);
    }
    struct carrier_message m = message_of(d, w->kind);
    m.flags = 0;
    m.data = pair->peer_arena + d->block.offset;
    return carrier_deliver(&end->shm->base, end->local, (uint32_t)(pair - end->pairs), &m);
}

/* ---- single ones ----------------------------------------------------------------------------- */

/* Copies the bytes in the further lines of a small message behind those in the first. */
static inline void land(const struct shm_pair *pair, union landing *landing, uint32_t lines)
{
    uint8_t *to = landing->bytes + SHM_INLINE_HEAD;
    for (uint32_t i = 1; i < lines; i++, to += SHM_INLINE_MORE) {
        memcpy(to, pair->peer_ring[(pair->taken + i) & pair->peer_mask].bytes, SHM_INLINE_MORE);
    }
}

/* What was taken at a time. */
struct taken {
    uint64_t lines; /* of the ring */
    size_t bytes;
    uint32_t quarters; /* messages, those that come with others a quarter each */
};

/* One message or fragment. False: the session failed, or ended in the callback. */
static inline bool take_one(struct shm_end *end, struct shm_pair *pair, union landing *landing,
                            struct taken *t)
{
    const struct shm_desc *d = &landing->desc;
    /* Once: it may change underfoot. */
    memcpy(&landing->desc, &pair->peer_ring[pair->taken & pair->peer_mask], SHM_LINE);
    /* A compiler barrier: the checks look at the copy, never again at the original. */
    atomic_signal_fence(memory_order_seq_cst);
    struct word w;
    const char *wrong = desc_wrong(pair, d, &w);
    if (wrong != NULL) {
        carrier_fail(&end->shm->base, end->local, bad_desc(d, wrong));
        return false;
    }
    *t = (struct taken){.lines = w.lines, .bytes = d->len, .quarters = 4};
    if ((w.flags & SHM_BLOCK) != 0) {
        return take_block(end, pair, d, &w);
    }
    if ((w.flags & SHM_SHARED) != 0) {
        return take_lost(end, pair, d, w.kind);
    }
    land(pair, landing, w.lines);
    struct carrier_message m = message_of(d, w.kind);
    m.data = d->len > 0 ? landing->bytes : NULL;
    return carrier_deliver(&end->shm->base, end->local, (uint32_t)(pair - end->pairs), &m);
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* A message of `lines` lines from where d points, into private memory; word: its word, as it was
 * loaded. False: not one to come with others, its length alone. */
static inline __attribute__((always_inline)) bool copy_small(const struct shm_desc *d,
                                                             struct carrier_small *to,
                                                             uint32_t word, uint32_t lines)
{
    memcpy(to, d, SHM_LINE);
    if (lines > 1) {
        const struct shm_line *more = (const struct shm_line *)(d + 1);
        memcpy(to->bytes + SHM_INLINE_HEAD, more->bytes, SHM_INLINE_MORE);
    }
    /* A compiler barrier: what follows looks at the copy, never again at the original. */
    atomic_signal_fence(memory_order_seq_cst);
    to->word = word;
    return lines > 1 ? to->len - (SHM_INLINE_HEAD + 1) < SHM_INLINE_MORE
                     : to->len <= SHM_INLINE_HEAD;
}

/* How many whole messages of so many lines follow one another, up to max; *bytes: in sum. */
static inline __attribute__((always_inline)) uint32_t copy_run(const struct shm_desc *d,
                                                                 struct carrier_small *to,
                                                                 uint32_t max, uint32_t lap,
                                                                 uint32_t lines, size_t *bytes)
{
    uint32_t expected = shm_word(FRAME_KIND_USER, FRAME_FLAGS, lines, lap);
    const uint32_t kinds = UINT8_MAX + 1 - FRAME_KIND_USER;
    uint32_t n = 0;
    for (; n < max; n++, d += lines, to++) {
        /* Acquire: pairs with the release of the word in store_first, as in shm_take_lane. */
        uint32_t word = atomic_load_explicit(&d->word, memory_order_acquire);
        /* One comparison: the kind may differ, and be larger. */
        if (word - expected >= kinds || !copy_small(d, to, word, lines)) {
            break;
        }
        *bytes += to->len;
    }
    return n;
}
STATIC_ASSERT((int)CARRIER_RUN_BYTES <= (int)SHM_INLINE_MAX, "small messages lie in the ring");

/* Small messages of one length class that are there, all at once. 0: what comes next is none;
 * *alive false: the session failed. */
static inline uint32_t take_run(struct shm_end *end, struct shm_pair *pair, size_t *bytes,
                                  bool *alive)
{
    uint64_t place = pair->taken & pair->peer_mask;
    uint64_t to_end = pair->peer_mask + 1 - place;
    const struct shm_desc *d = (const struct shm_desc *)&pair->peer_ring[place];
    uint32_t lap = shm_lap(pair->taken, pair->peer_shift);
    /* Relaxed: which of them to try; copy_run looks at each word itself. */
    uint32_t first = atomic_load_explicit(&d->word, memory_order_relaxed);
    uint32_t lines = first >> 12 & 0xF;
    uint32_t n = 0;
    size_t sum = 0;
    if (pair->partial != NULL || (first >> 8 & SHM_BLOCK) != 0) {
        return 0;
    }
    if (lines == 1) {
        uint32_t max = to_end < CARRIER_RUN_MAX ? (uint32_t)to_end : CARRIER_RUN_MAX;
        n = copy_run(d, end->run, max, lap, 1, &sum);
    } else if (lines == 2) {
        uint32_t max = to_end / 2 < CARRIER_RUN_MAX ? (uint32_t)(to_end / 2) : CARRIER_RUN_MAX;
        n = copy_run(d, end->run, max, lap, 2, &sum);
    }
    if (n > 0) {
        pair->taken += (uint64_t)n * lines; /* the copies are what is in use */
        *bytes += sum;
        *alive = carrier_deliver_run(&end->shm->base, end->local, (uint32_t)(pair - end->pairs),
                                     end->run, n, sum);
    }
    return n;
}

/* ---- dense ones ------------------------------------------------------------------------------ */

/* A first line's words, loaded once. */
struct dense {
    uint32_t word;
    uint32_t len;
    uint32_t count;
    uint32_t skip;
    uint32_t lines; /* behind the skipped ones */
    uint64_t zero;
};

static __attribute__((noinline)) bool dense_bad(struct shm_end *end, const struct dense *d)
{
    carrier_fail(&end->shm->base, end->local,
                 err_new(ERR_PROTOCOL, "bad descriptor: dense (word %08x, length %u, count %u, "
                         "skip %u)", d->word, d->len, d->count, d->skip));
    return false;
}

/* Is it one that an honest peer writes there? Its bytes then lie within the ring. */
static inline bool dense_right(const struct shm_pair *pair, const struct dense *d)
{
    uint32_t expected = shm_word(FRAME_KIND_USER, FRAME_FLAGS, SHM_DENSE,
                                 shm_lap(pair->taken, pair->peer_shift));
    const uint32_t kinds = UINT8_MAX + 1 - FRAME_KIND_USER;
    uint64_t behind = pair->peer_mask - (pair->taken & pair->peer_mask);
    bool sized = d->count == 0 ? d->len - 1 < SHM_DENSE_MAX
                               : d->count <= CARRIER_RUN_MAX && d->len <= CARRIER_RUN_BYTES;
    bool placed = d->skip == behind || (d->skip == 0 && d->lines <= behind);
    return d->word - expected < kinds && sized && placed && d->lines < pair->peer_mask &&
           d->zero == 0 && pair->partial == NULL;
}

/* A pack to a host that takes none: private copies, one by one. */
static bool deliver_each(struct shm_end *end, uint32_t remote, struct carrier_message *m,
                         uint32_t count, union landing *landing)
{
    const uint8_t *from = m->data;
    bool alive = true;
    ASSERT(m->len <= sizeof(landing->bytes));
    m->flags = CARRIER_STABLE;
    m->data = m->len > 0 ? landing->bytes : NULL;
    for (uint32_t i = 0; i < count && alive; i++, from += carrier_pack_stride((uint32_t)m->len)) {
        memcpy(landing->bytes, from, m->len);
        alive = carrier_deliver(&end->shm->base, end->local, remote, m);
    }
    return alive;
}

static bool deliver_pack(struct shm_end *end, uint32_t remote, struct carrier_message *m,
                        uint32_t count, union landing *landing)
{
    struct carrier *c = &end->shm->base;
    ASSERT(count > 0 && count <= CARRIER_RUN_MAX && m->len <= CARRIER_RUN_BYTES);
    if (c->host->pack == NULL) {
        return deliver_each(end, remote, m, count, landing);
    }
    return carrier_deliver_pack(c, end->local, remote, m, count,
                                carrier_pack_stride((uint32_t)m->len));
}

/* One message, or a pack, where its bytes lie; word: the line's, as it was loaded. */
static inline bool take_dense(struct shm_end *end, struct shm_pair *pair, union landing *landing,
                              uint32_t word, struct taken *t)
{
    const carrier_pair *from =
        (const carrier_pair *)&pair->peer_ring[pair->taken & pair->peer_mask];
    const carrier_pair ids = from[0], ab = from[1], shape = from[2];
    /* A compiler barrier: loaded once, since it may change underfoot. */
    atomic_signal_fence(memory_order_seq_cst);
    struct dense d = {.word = word, .len = (uint32_t)(ids[1] >> 32), .count = (uint32_t)shape[0],
                      .skip = (uint32_t)(shape[0] >> 32), .zero = shape[1]};
    d.lines = shm_dense_lines(d.len, d.count);
    if (!dense_right(pair, &d)) {
        return dense_bad(end, &d);
    }
    uint32_t remote = pair->window.remote;
    struct carrier_message m = {.kind = (uint8_t)word, .stream = (uint32_t)(ids[0] >> 32),
                                .c = (uint32_t)ids[1], .a = ab[0], .b = ab[1], .len = d.len};
    m.data = pair->peer_ring[(pair->taken + 1 + d.skip) & pair->peer_mask].all;
    *t = (struct taken){.lines = 1 + d.skip + d.lines, .bytes = d.len, .quarters = 4};
    if (d.count == 0) {
        return carrier_deliver(&end->shm->base, end->local, remote, &m);
    }
    t->bytes = d.count * d.len;
    t->quarters = d.count;
    return deliver_pack(end, remote, &m, d.count, landing);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

/* What one poll of a lane has taken. */
struct burst {
    uint32_t messages; /* in quarters */
    size_t bytes;
    size_t bytes_next; /* when so many are there, the clock is looked at */
    uint64_t since_ns; /* when it was first; 0: not yet */
};

/* So many bytes have come that it depends on what was done with them whether that took long:
 * reading a MiB takes tens of microseconds, passing it on none. One message more tells. */
static __attribute__((noinline)) bool burst_long(const struct shm_end *end, struct burst *b)
{
    uint64_t now = io_mono_ns(end->shm->base.ends[end->local].worker.loop);
    bool first = b->since_ns == 0;
    b->since_ns = first ? now : b->since_ns;
    b->bytes_next = b->bytes + (first ? 1 : 16 * BYTES_A_POLL);
    return now - b->since_ns >= LONG_NS;
}

static inline bool burst_over(const struct shm_end *end, struct burst *b)
{
    return b->messages >= 4 * MESSAGES_A_POLL || (b->bytes >= b->bytes_next && burst_long(end, b));
}

/* What comes next, which is there by this word. False: the session failed, or ended. */
static inline bool take_next(struct shm_end *end, struct shm_pair *pair, union landing *landing,
                             uint32_t word, struct burst *burst)
{
    struct taken t = {0};
    bool alive = true;
    pair->dense = (word >> 12 & 0xF) == SHM_DENSE;
    if (pair->dense) {
        alive = take_dense(end, pair, landing, word, &t);
    } else {
        bool runs = end->shm->base.host->run != NULL;
        uint32_t n = runs ? take_run(end, pair, &burst->bytes, &alive) : 0;
        burst->messages += n;
        if (n > 0) {
            return alive;
        }
        alive = take_one(end, pair, landing, &t);
    }
    if (alive) {
        pair->taken += t.lines; /* only now: the bytes were in use until here */
        burst->bytes += t.bytes;
        burst->messages += t.quarters;
    }
    return alive;
}

bool shm_take_lane(struct shm_end *end, struct shm_pair *pair, bool *any)
{
    /* Acquire: pairs with the release of the word in store_first; lines and blocks are there. */
    uint32_t word = shm_next_word(pair, memory_order_acquire);
    if (!shm_is_next(pair, word) || pair->over) {
        /* A message of two lines comes over with both at a time. Where bytes are being written that
         * are not published yet they stay with who writes them. */
        if (!pair->dense) {
            __builtin_prefetch(&pair->peer_ring[(pair->taken + 1) & pair->peer_mask]);
        }
        return true;
    }
    *any = true;
    union landing landing;
    bool alive;
    struct burst burst = {.bytes_next = BYTES_A_POLL};
    do {
        alive = take_next(end, pair, &landing, word, &burst);
        if (!alive || burst_over(end, &burst)) {
            break;
        }
        word = shm_next_word(pair, memory_order_acquire); /* as above */
    } while (shm_is_next(pair, word));
    carrier_count(&shm_counters(end)->batches_in, 1);
    shm_touch(end, pair, SHM_HEAD);
    return alive || pair->over;
}
