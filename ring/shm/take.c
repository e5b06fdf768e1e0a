/*
 * Receiving at a worker. What the peer publishes is copied line by line and checked on the copy;
 * small messages are private by that. Blocks are claimed before they are begun (see ring/README.md,
 * taking back), and given to the layer above where they lie.
 */
#include "ring/shm/internal.h"

enum {
    MESSAGES_A_POLL = 128,
    BYTES_A_POLL = 1 << 20,
    CLAIM_LINES = 16,        /* claimed at a time at most, */
    CLAIM_BYTES = 64 * 1024, /* and so many bytes, or one block */
};

/* Room for a small message, such that its bytes are aligned. */
union landing {
    uint8_t space[SHM_INLINE_HEAD + SHM_INLINE_LINES * SHM_LINE];
    struct {
        _Alignas(SHM_LINE) uint8_t unused[SHM_LINE - SHM_INLINE_HEAD];
        uint8_t lines[SHM_INLINE_LINES * SHM_LINE]; /* as in the ring: struct shm_desc first */
    };
    struct {
        uint8_t before[SHM_LINE];
        uint8_t bytes[SHM_INLINE_MAX];
    };
};
STATIC_ASSERT(offsetof(union landing, bytes) % CARRIER_ALIGN == 0, "messages are aligned");

static err_t bad_desc(const struct shm_desc *d, const char *what)
{
    return err_new(ERR_PROTOCOL, "bad descriptor: %s (kind %u, flags %u, length %u)", what,
                   d->kind, d->flags, d->len);
}

/* What holds for every descriptor; d is a private copy. there: lines published from it on. */
static inline const char *desc_wrong(const struct shm_pair *pair, const struct shm_desc *d,
                                     uint64_t there)
{
    if (d->kind < FRAME_KIND_USER || (d->flags & ~SHM_FLAGS) != 0 || d->zero != 0) {
        return "kind or flags";
    }
    if ((d->flags & SHM_BLOCK) == 0) {
        if (d->len > SHM_INLINE_MAX || d->lines != shm_lines_of(d->len) || d->lines > there) {
            return "lines";
        }
        if ((d->flags & FRAME_FLAGS) != FRAME_FLAGS || pair->partial != NULL) {
            return "fragments";
        }
    }
    return NULL;
}

static const char *block_wrong(const struct shm_end *end, const struct shm_pair *pair,
                               const struct shm_desc *d)
{
    static const uint32_t zero[sizeof(d->block.zero) / sizeof(uint32_t)];
    uint64_t arena = end->shm->peer_shape.arena_bytes;
    bool first = (d->flags & FRAME_FIRST) != 0;
    bool last = (d->flags & FRAME_LAST) != 0;
    uint32_t total = d->block.total;
    const struct carrier_node *partial = pair->partial;
    if (d->block.offset > arena || d->len > arena - d->block.offset ||
        d->block.offset % SHM_UNIT != 0) {
        return "block outside the arena";
    }
    if (d->len == 0 || total > FRAME_MESSAGE_MAX || d->len > total || d->lines != 1 ||
        memcmp(d->block.zero, zero, sizeof(zero)) != 0) {
        return "lengths";
    }
    if (first != (partial == NULL) || ((d->flags & SHM_SHARED) != 0 && !(first && last))) {
        return "fragments";
    }
    if (first && last != (d->len == total)) {
        return "length of a whole message";
    }
    if (!first && (total != partial->m.len || d->kind != partial->m.kind ||
                   d->len > partial->m.len - partial->sent ||
                   last != (d->len == partial->m.len - partial->sent))) {
        return "length of a fragment";
    }
    return NULL;
}

static inline struct carrier_message message_of(const struct shm_desc *d)
{
    return (struct carrier_message){.kind = d->kind, .flags = CARRIER_STABLE, .stream = d->stream,
                                    .c = d->c, .a = d->a, .b = d->b, .len = d->len};
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* How far a claim from at on goes. Lengths are only looked at: a lie makes it shorter or longer. */
static uint64_t claim_end(const struct shm_pair *pair, uint64_t at, uint64_t tail, size_t bytes)
{
    uint64_t end = at + 1;
    while (end < tail && end - at < CLAIM_LINES) {
        struct shm_desc d;
        memcpy(&d, &pair->peer_ring[end & pair->peer_mask], sizeof(d));
        bytes += d.len;
        if (bytes > CLAIM_BYTES) {
            break;
        }
        end++;
    }
    return end;
}

static void claim(struct shm_pair *pair, uint64_t at, uint64_t tail, size_t bytes)
{
    ASSERT(at >= pair->claimed && at < tail);
    pair->claimed = claim_end(pair, at, tail, bytes);
    /* Relaxed, both: the fence orders them; it pairs with the one in lag.c: either the peer sees
     * the claim and leaves these blocks, or we see that they are void. */
    atomic_store_explicit(&pair->own->claim, pair->claimed, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    pair->voided = atomic_load_explicit(&pair->peer->voided, memory_order_relaxed);
}

static bool take_lost(struct shm_end *end, struct shm_pair *pair, const struct shm_desc *d)
{
    struct carrier *c = &end->shm->base;
    struct carrier_end *mine = &c->ends[end->local];
    struct carrier_message m = message_of(d);
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
static bool take_fragment(struct shm_end *end, struct shm_pair *pair, const struct shm_desc *d)
{
    ASSERT(d->len > 0 && (pair->partial != NULL || (d->flags & FRAME_FIRST) != 0));
    uint32_t remote = (uint32_t)(pair - end->pairs);
    if (pair->partial == NULL) {
        struct carrier_message m = message_of(d);
        pair->partial = carrier_node_new(CARRIER_NODE_MESSAGE, end->local, remote, &m,
                                         d->block.total);
    }
    struct carrier_node *node = pair->partial;
    memcpy(carrier_node_data(node) + node->sent, pair->peer_arena + d->block.offset, d->len);
    node->sent += d->len;
    if ((d->flags & FRAME_LAST) == 0) {
        return true;
    }
    ASSERT(node->sent == node->m.len);
    pair->partial = NULL;
    bool alive = carrier_deliver(&end->shm->base, end->local, remote, &node->m);
    carrier_node_free(node);
    return alive;
}

static bool take_block(struct shm_end *end, struct shm_pair *pair, const struct shm_desc *d,
                       uint64_t tail)
{
    const char *wrong = block_wrong(end, pair, d);
    if (wrong != NULL) {
        carrier_fail(&end->shm->base, end->local, bad_desc(d, wrong));
        return false;
    }
    if (pair->taken >= pair->claimed) {
        claim(pair, pair->taken, tail, d->len);
    }
    if (pair->voided == SHM_VOID_ALL) {
        pair->over = true; /* it has ended the session, and its goodbye is on the way */
        return false;
    }
    if ((d->flags & SHM_SHARED) != 0 && pair->taken < pair->voided) {
        return take_lost(end, pair, d);
    }
    if ((d->flags & FRAME_FLAGS) != FRAME_FLAGS) {
        return take_fragment(end, pair, d);
    }
    struct carrier_message m = message_of(d);
    m.flags = 0;
    m.data = pair->peer_arena + d->block.offset;
    return carrier_deliver(&end->shm->base, end->local, (uint32_t)(pair - end->pairs), &m);
}

/* ---- lanes ----------------------------------------------------------------------------------- */

/* Copies the other lines of a small message behind the first. */
static inline void land(const struct shm_pair *pair, union landing *landing, uint32_t lines)
{
    for (uint32_t i = 1; i < lines; i++) {
        memcpy(landing->lines + i * SHM_LINE,
               &pair->peer_ring[(pair->taken + i) & pair->peer_mask], SHM_LINE);
    }
}

/* One message or fragment; *lines: what it took of the ring. */
static inline bool take_one(struct shm_end *end, struct shm_pair *pair, uint64_t tail,
                            union landing *landing, uint32_t *lines, size_t *bytes)
{
    const struct shm_desc *d = (const struct shm_desc *)landing->lines;
    /* Once: it may change underfoot. */
    memcpy(landing->lines, &pair->peer_ring[pair->taken & pair->peer_mask], SHM_LINE);
    /* A compiler barrier: the checks look at the copy, never again at the original. */
    atomic_signal_fence(memory_order_seq_cst);
    const char *wrong = desc_wrong(pair, d, tail - pair->taken);
    if (wrong != NULL) {
        carrier_fail(&end->shm->base, end->local, bad_desc(d, wrong));
        return false;
    }
    *bytes += d->len;
    if ((d->flags & SHM_BLOCK) != 0) {
        *lines = 1;
        return take_block(end, pair, d, tail);
    }
    *lines = d->lines;
    if ((d->flags & SHM_SHARED) != 0) {
        return take_lost(end, pair, d);
    }
    land(pair, landing, d->lines);
    struct carrier_message m = message_of(d);
    m.data = d->len > 0 ? landing->bytes : NULL;
    return carrier_deliver(&end->shm->base, end->local, (uint32_t)(pair - end->pairs), &m);
}

bool shm_take_lane(struct shm_end *end, struct shm_pair *pair, bool *any)
{
    /* Acquire: pairs with the release of tail in store_ends; lines and blocks are there. */
    uint64_t tail = atomic_load_explicit(&pair->peer->tail, memory_order_acquire);
    if (tail == pair->taken || pair->over) {
        return true;
    }
    if (tail - pair->taken > pair->peer_mask + 1) {
        carrier_fail(&end->shm->base, end->local,
                     err_new(ERR_PROTOCOL, "worker %u published %llu lines, %llu were taken",
                             (uint32_t)(pair - end->pairs), (unsigned long long)tail,
                             (unsigned long long)pair->taken));
        return false;
    }
    *any = true;
    union landing landing;
    bool alive = true;
    size_t bytes = 0;
    for (int i = 0; i < MESSAGES_A_POLL && pair->taken != tail && alive && bytes < BYTES_A_POLL;
         i++) {
        uint32_t lines = 0;
        alive = take_one(end, pair, tail, &landing, &lines, &bytes);
        pair->taken += alive ? lines : 0; /* only now: the bytes were in use until here */
    }
    carrier_count(&shm_counters(end)->batches_in, 1);
    shm_touch(end, pair, SHM_HEAD);
    return alive || pair->over;
}
