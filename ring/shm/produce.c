/*
 * Sending from a worker: descriptors and small messages into the lane's ring, larger ones into
 * blocks of the arena, and what finds no room into a backlog in private memory. The peer sees
 * nothing of it before a flush stores the word of the line that opens it: at the end of the poll,
 * before sleeping, or when a good deal has gathered.
 */
#include "ring/shm/internal.h"

/* ---- publishing and waking ------------------------------------------------------------------- */

/* It sleeps, or is about to: once per sleep is enough. Rare, and kept out of who calls it. */
static __attribute__((noinline)) void wake(struct shm_end *end, struct shm_pair *pair,
                                           uint32_t sleeping)
{
    ASSERT((sleeping & 1) != 0 && pair->rung != sleeping);
    pair->rung = sleeping;
    carrier_count(&shm_counters(end)->wakes, 1);
    int bell = end->shm->peer_bells[pair - end->pairs];
    if (bell >= 0) {
        shm_ring_eventfd(bell);
        return;
    }
    /* Relaxed, both: the wake is the kernel's, which compares the word under its lock; the time is
     * a measurement. Other workers of this process may ring the same bell. */
    atomic_store_explicit(&pair->bell->rung_ns,
                          io_mono_ns(end->shm->base.ends[end->local].worker.loop),
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&pair->bell->rung, 1, memory_order_relaxed);
    io_futex_wake(&pair->bell->rung);
}

/* The place of this line, which nobody reads yet: if it holds bytes without a word, they must not
 * look like one when the reader comes to it. */
static inline void clear_place(struct shm_pair *pair, uint64_t at)
{
    if (at < pair->clear_until) {
        struct shm_desc *d = (struct shm_desc *)&pair->ring[at & pair->mask];
        /* Relaxed: before the release by which the reader gets there. */
        atomic_store_explicit(&d->word, 0, memory_order_relaxed);
    }
}

/* Puts in the line that opens what was not published, its word last. In pieces as it was written,
 * so that they are forwarded while still on their way to the cache. */
static inline void store_first(struct shm_pair *pair)
{
    clear_place(pair, pair->tail);
    struct shm_desc *d = (struct shm_desc *)&pair->ring[pair->published & pair->mask];
    const carrier_pair *from = (const carrier_pair *)&pair->first;
    carrier_pair *to = (carrier_pair *)d;
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
    d->stream = pair->first.stream;
    d->c = pair->first.c;
    d->len = pair->first.len;
    /* Release: pairs with the acquire in shm_take_lane and copy_run; publishes all lines since
     * the last time, and the blocks they name. Relaxed: our own copy. */
    atomic_store_explicit(&d->word,
                          atomic_load_explicit(&pair->first.word, memory_order_relaxed),
                          memory_order_release);
}

static inline void count_out(struct shm_end *end, uint64_t n, uint64_t bytes)
{
    carrier_count(&shm_counters(end)->messages_out, n);
    carrier_count(&shm_counters(end)->bytes_out, bytes);
}

/* What was posted since the last time: the pair's numbers learn of it, and the end of the turn will
 * look whether the peer sleeps. */
static inline void count_posted(struct shm_end *end, struct shm_pair *pair)
{
    struct carrier_window *w = &pair->window;
    if (w->tally == 0) {
        return;
    }
    uint64_t messages = w->tally >> CARRIER_TALLY_SHIFT;
    pair->tail += shm_posted_lines(pair);
    ASSERT(pair->tail - pair->acked <= pair->mask && pair->unpublished_bytes == 0);
    pair->published = pair->tail;
    count_out(end, messages, w->tally & (((uint64_t)1 << CARRIER_TALLY_SHIFT) - 1));
    carrier_count(&shm_counters(end)->batches_out, messages);
    w->tally = 0;
    shm_touch(end, pair, SHM_TOLD_TAIL);
}

void shm_count_posted(struct shm_end *end)
{
    for (uint32_t i = 0; i < end->posting_len; i++) {
        count_posted(end, &end->pairs[end->posting[i]]);
    }
}

static __attribute__((noinline)) void close_window(struct shm_end *end, struct shm_pair *pair)
{
    uint32_t i = 0;
    count_posted(end, pair);
    pair->window.next = pair->window.end = NULL;
    while (&end->pairs[end->posting[i]] != pair) {
        i++;
        ASSERT(i < end->posting_len);
    }
    end->posting[i] = end->posting[--end->posting_len];
}

/* Before anything is put into the ring another way. */
static inline void end_posts(struct shm_end *end, struct shm_pair *pair)
{
    if (pair->window.end != NULL) {
        close_window(end, pair);
    }
}

void shm_close_windows(struct shm_end *end)
{
    while (end->posting_len > 0) {
        close_window(end, &end->pairs[end->posting[0]]);
    }
}

static inline void store_ends(struct shm_end *end, struct shm_pair *pair)
{
    ASSERT(pair->touched != 0);
    if ((pair->touched & SHM_TAIL) != 0) {
        ASSERT(pair->published != pair->tail);
        store_first(pair);
        pair->published = pair->tail;
        pair->unpublished_bytes = 0;
        carrier_count(&shm_counters(end)->batches_out, 1);
    }
    if ((pair->touched & SHM_HEAD) != 0) {
        /* Release: pairs with the acquire of head in shm_take_acks; we are done reading. */
        atomic_store_explicit(&pair->own->head, pair->taken, memory_order_release);
    }
    uint8_t stored = pair->touched & (SHM_TAIL | SHM_HEAD);
    pair->touched = (uint8_t)((pair->touched & ~stored) | stored * SHM_TOLD_TAIL);
}

/* Wakes the peer if what was stored concerns it and it is seen asleep. */
static inline void look(struct shm_end *end, struct shm_pair *pair)
{
    /* Relaxed, both: ordered by the fence in shm_flush_end, or only a hint in shm_flush. */
    uint32_t sleeping = atomic_load_explicit(&pair->peer_state->sleeping, memory_order_relaxed);
    if ((sleeping & 1) != 0 && sleeping != pair->rung &&
        ((pair->touched & SHM_TOLD_TAIL) != 0 ||
         atomic_load_explicit(&pair->peer_state->blocked, memory_order_relaxed) != 0)) {
        wake(end, pair, sleeping);
    }
}

void shm_flush_end(struct shm_end *end)
{
    ASSERT(end->attached);
    shm_count_posted(end);
    shm_close_chunk(end);
    uint32_t len = end->touched_len;
    if (len == 0) {
        return;
    }
    for (uint32_t i = 0; i < len; i++) {
        store_ends(end, &end->pairs[end->touched[i]]);
    }
    /* Pairs with the fence in shm_arm: either it sees what was stored or we see it asleep. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < len; i++) {
        struct shm_pair *pair = &end->pairs[end->touched[i]];
        look(end, pair);
        pair->touched = 0;
    }
    end->touched_len = 0;
}

/*
 * Publishes, without the fence, which would wait until the lines have come from the peer's cache.
 * A peer asleep for a while is seen to be, and woken; one that goes to sleep at this moment may be
 * missed, which is why the pair stays touched: the end of the turn looks again, behind a fence.
 */
static inline void publish_pair(struct shm_end *end, struct shm_pair *pair)
{
    if ((pair->touched & (SHM_TAIL | SHM_HEAD)) != 0) {
        store_ends(end, pair);
        look(end, pair);
    }
}

static __attribute__((noinline)) void publish(struct shm_end *end)
{
    for (uint32_t i = 0; i < end->touched_len; i++) {
        publish_pair(end, &end->pairs[end->touched[i]]);
    }
}

void shm_flush(struct carrier *c, uint32_t local)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    shm_count_posted(end);
    publish(end);
}

/* After something was put into the ring. */
static inline void put_done(struct shm_end *end, struct shm_pair *pair)
{
    shm_touch(end, pair, SHM_TAIL);
    if (pair->tail - pair->published >= pair->batch_lines ||
        pair->unpublished_bytes >= SHM_BATCH_BYTES) {
        publish(end);
    }
}

enum { WHOLE = FRAME_FIRST | FRAME_LAST };

/* ---- the ring -------------------------------------------------------------------------------- */

static struct shm_held *held_at(const struct shm_pair *pair, uint64_t i)
{
    return &pair->held[i & pair->mask];
}

bool shm_take_acks(struct shm_end *end, struct shm_pair *pair)
{
    count_posted(end, pair);
    ASSERT(pair->acked <= pair->published && pair->published <= pair->tail);
    /* Acquire: pairs with the release of head in store_ends; the peer no longer reads the lines
     * and blocks below. */
    uint64_t head = atomic_load_explicit(&pair->peer->head, memory_order_acquire);
    if (head == pair->acked) {
        return false;
    }
    if (head - pair->acked > pair->published - pair->acked) {
        carrier_fail(&end->shm->base, end->local,
                     err_new(ERR_PROTOCOL, "worker %u acknowledges %llu, published is %llu to %llu",
                             (uint32_t)(pair - end->pairs), (unsigned long long)head,
                             (unsigned long long)pair->acked,
                             (unsigned long long)pair->published));
        return false;
    }
    pair->acked = head;
    while (pair->held_first != pair->held_end) {
        struct shm_held *held = held_at(pair, pair->held_first);
        if (held->last >= head) {
            break;
        }
        pair->held_first++;
        if (!held->gone) {
            pair->held_bytes -= held->len;
            shm_pool_drop(end->pool, held->span);
        }
    }
    return true;
}

/* Is there room for so many lines? Asks the peer's head only when it must. One line is never
 * filled: the one behind the last, which may have to be cleared. */
static inline bool ring_room(struct shm_end *end, struct shm_pair *pair, uint32_t lines)
{
    if (pair->tail + lines - pair->acked <= pair->mask) {
        return true;
    }
    return shm_take_acks(end, pair) && pair->tail + lines - pair->acked <= pair->mask;
}

/* Does what is put there now have to wait? */
static inline bool waits(const struct shm_pair *pair)
{
    return pair->backlog != NULL || pair->reserved != 0;
}

/* The first line of the next message. The one that opens what is not published yet is built aside,
 * so that the peer, who looks at its place all the time, does not take the line away meanwhile. */
static inline struct shm_desc *put_head(struct shm_pair *pair, const struct carrier_message *m,
                                        uint32_t flags, uint32_t lines, size_t len)
{
    struct shm_desc *d = pair->tail == pair->published
                             ? &pair->first
                             : (struct shm_desc *)&pair->ring[pair->tail & pair->mask];
    struct carrier_message head = {.stream = m->stream, .c = m->c, .a = m->a, .b = m->b};
    /* Through registers: the caller has just stored the two, and a load of both at once would wait
     * until all stores before it have reached the cache, other lines' too (45 ns here). */
    __asm__("" : "+r"(head.a), "+r"(head.b));
    /* Plain, the word too: seen only through the release of the opening line's in store_first. */
    carrier_put_head((struct carrier_line *)d,
                     shm_word(m->kind, flags, lines, shm_lap(pair->tail, pair->shift)), &head,
                     (uint32_t)len);
    return d;
}

/* A message that fits, with its bytes in the ring; there is room. */
static inline void put_inline(struct shm_end *end, struct shm_pair *pair,
                              const struct carrier_message *m, const uint8_t *data, size_t len,
                              uint32_t lines, uint32_t flags)
{
    struct shm_desc *d = put_head(pair, m, flags, lines, len);
    carrier_copy(d->bytes, data, len < SHM_INLINE_HEAD ? len : SHM_INLINE_HEAD);
    size_t at = SHM_INLINE_HEAD;
    for (uint32_t i = 1; i < lines; i++, at += SHM_INLINE_MORE) {
        struct shm_line *line = &pair->ring[(pair->tail + i) & pair->mask];
        line->word = 0;
        if (len - at >= SHM_INLINE_MORE) {
            memcpy(line->bytes, data + at, SHM_INLINE_MORE);
        } else {
            memcpy(line->bytes, data + at, len - at);
        }
    }
    pair->tail += lines;
    put_done(end, pair);
}

/* Does the lane hold that span already by its last reference? */
static inline struct shm_held *held_last(const struct shm_pair *pair, uint64_t span)
{
    if (pair->held_first == pair->held_end) {
        return NULL;
    }
    struct shm_held *last = held_at(pair, pair->held_end - 1);
    return !last->gone && last->span == span ? last : NULL;
}

/*
 * Notes that the line at the tail names len bytes of that span; owned: one reference of it is the
 * caller's, and the lane's from now on.
 *
 * Another part of a chunk is held by the reference there is. A shared block once more has a
 * reference of its own, but costs no memory: many subscriptions in one process get the same block,
 * one after the other. As acknowledgements come in order, at most the oldest block is held and not
 * counted.
 */
static inline void hold(struct shm_end *end, struct shm_pair *pair, uint64_t span, size_t len,
                        bool shared, bool owned)
{
    struct shm_held *last = held_last(pair, span);
    size_t more = last != NULL && shared ? 0 : len;
    pair->held_bytes += more;
    pair->unpublished_bytes += more;
    if (last != NULL && !shared && !last->shared) {
        last->last = pair->tail;
        last->len += (uint32_t)len;
        if (owned) {
            shm_arena_drop(&end->pool->arena, span);
        }
        return;
    }
    if (!owned) {
        shm_arena_hold(&end->pool->arena, span);
    }
    *held_at(pair, pair->held_end++) = (struct shm_held){.at = pair->tail, .last = pair->tail,
                                                         .span = span, .len = (uint32_t)more,
                                                         .shared = shared};
}

/* A block, or a part of one; there is room. owned: see hold. */
static inline void put_block(struct shm_end *end, struct shm_pair *pair,
                             const struct carrier_message *m, uint64_t span, uint64_t offset,
                             size_t len, size_t total, uint32_t flags, bool owned)
{
    ASSERT(len > 0 && len <= total && pair->held_end - pair->held_first <= pair->mask);
    struct shm_desc *d = put_head(pair, m, flags | SHM_BLOCK, 1, len);
    carrier_pair *block = (carrier_pair *)d->bytes;
    block[0] = (carrier_pair){offset, total}; /* total, and the first of the zeros */
    block[1] = (carrier_pair){0, 0};
    hold(end, pair, span, len, (flags & SHM_SHARED) != 0, owned);
    pair->tail++;
    put_done(end, pair);
}

/* ---- dense messages -------------------------------------------------------------------------- */

/* Lines from the tail on will hold bytes. Places are cleared for longer than they must be, so that
 * this is a store less nearly always. */
static inline void note_reserved(struct shm_pair *pair, uint64_t lines, uint64_t skip)
{
    uint64_t until = pair->tail + lines + pair->mask + 1;
    pair->reserved = lines | skip << 32;
    if (until > pair->clear_until) {
        pair->clear_until = until + pair->mask / 2;
    }
}

/* Lines for so many bytes in one piece, behind a first line. False: they have to go another way. */
static inline bool reserve_dense(struct shm_end *end, struct shm_pair *pair, uint32_t bytes,
                                 uint8_t **out)
{
    uint32_t lines = (bytes + SHM_LINE - 1) / SHM_LINE;
    if (waits(pair) || lines >= pair->mask) {
        return false;
    }
    end_posts(end, pair);
    uint32_t skip = shm_dense_skip(pair->tail, pair->mask, lines);
    if (!ring_room(end, pair, 1 + skip + lines)) {
        return false;
    }
    note_reserved(pair, 1 + skip + lines, skip);
    uint64_t ring_end = (pair->tail | pair->mask) + 1;
    uint64_t free_end = pair->acked + pair->mask;
    pair->dense_end = ring_end < free_end ? ring_end : free_end;
    *out = (uint8_t *)&pair->ring[(pair->tail + 1 + skip) & pair->mask];
    return true;
}

/* What was built there, len bytes, or count messages of a run of so many each. */
static inline void put_dense(struct shm_end *end, struct shm_pair *pair,
                             const struct carrier_message *m, uint32_t len, uint32_t count)
{
    uint32_t lines = shm_dense_lines(len, count);
    uint32_t skip = (uint32_t)(pair->reserved >> 32);
    ASSERT(pair->backlog == NULL && pair->window.end == NULL);
    ASSERT(1 + skip + lines <= (uint32_t)pair->reserved);
    pair->reserved = 0;
    struct shm_desc *d = put_head(pair, m, WHOLE, SHM_DENSE, len);
    *(carrier_pair *)d->bytes = (carrier_pair){count | (uint64_t)skip << 32, 0};
    pair->tail += 1 + skip + lines;
    put_done(end, pair);
}

/* ---- chunks ---------------------------------------------------------------------------------- */

void shm_close_chunk(struct shm_end *end)
{
    struct shm_arena *arena = &end->pool->arena;
    if (end->chunk.end == 0) {
        return;
    }
    for (; end->chunk.begun > 0; end->chunk.begun--) {
        shm_arena_hold(arena, end->chunk.span); /* that block's, until it is committed */
    }
    shm_arena_trim(arena, end->chunk.span, end->chunk.next - end->chunk.span);
    end->chunk.next = end->chunk.end = 0;
    shm_pool_drop(end->pool, end->chunk.span);
}

static __attribute__((noinline)) bool open_chunk(struct shm_end *end)
{
    uint64_t span;
    shm_close_chunk(end);
    if (end->chunk.bytes == 0 || !shm_arena_take(&end->pool->arena, end->chunk.bytes, &span)) {
        return false;
    }
    end->chunk.span = end->chunk.next = span;
    end->chunk.end = span + end->chunk.bytes;
    return true;
}

/* A block of the chunk that is open, or of a new one. False: not of that length, or no room. */
static inline bool cut_block(struct shm_end *end, size_t len, uint64_t *offset)
{
    size_t bytes = (len + CARRIER_ALIGN - 1) & ~(size_t)(CARRIER_ALIGN - 1);
    if (bytes > end->chunk.bytes / SHM_CHUNK_SHARE ||
        (end->chunk.end - end->chunk.next < bytes && !open_chunk(end))) {
        return false;
    }
    *offset = end->chunk.next;
    end->chunk.next += bytes;
    end->chunk.begun++;
    return true;
}

/* ---- what finds no room ---------------------------------------------------------------------- */

static size_t block_max(const struct shm_end *end)
{
    /* One message does not take more than a lane may hold, so that others go on. */
    return end->lane_max < SHM_POOL_BLOCK_MAX ? end->lane_max : SHM_POOL_BLOCK_MAX;
}

/* The next fragment of a message in private memory; false: no room. */
static bool push_fragment(struct shm_end *end, struct shm_pair *pair, struct shm_item *item)
{
    size_t left = item->len - item->sent;
    size_t len = left < block_max(end) ? left : block_max(end);
    uint64_t offset;
    ASSERT(len > 0 && item->data != NULL);
    if (!ring_room(end, pair, 1) || !shm_pool_take(end->pool, len, &offset)) {
        return false;
    }
    memcpy(end->pool->base + offset, item->data + item->sent, len);
    uint8_t flags = (uint8_t)((item->sent == 0 ? FRAME_FIRST : 0) |
                              (len == left ? FRAME_LAST : 0));
    put_block(end, pair, &item->m, offset, offset, len, item->len, flags, true);
    item->sent += len;
    return true;
}

/* Publishes what there is room for of the oldest item; true when all of it is out. */
static bool push_item(struct shm_end *end, struct shm_pair *pair, struct shm_item *item)
{
    ASSERT(item->sent <= item->len);
    if (item->in_arena) {
        if (!ring_room(end, pair, 1)) {
            return false;
        }
        put_block(end, pair, &item->m, item->span, item->offset, item->len, item->len,
                  WHOLE | (item->shared ? SHM_SHARED : 0), true);
        return true;
    }
    if (item->len <= SHM_INLINE_MAX && item->sent == 0) {
        uint32_t lines = shm_lines_of(item->len);
        if (!ring_room(end, pair, lines)) {
            return false;
        }
        put_inline(end, pair, &item->m, item->data, item->len, lines,
                   WHOLE | (item->lost ? SHM_SHARED : 0));
        return true;
    }
    while (item->sent < item->len) {
        if (!push_fragment(end, pair, item)) {
            return false;
        }
    }
    return true;
}

/* True when anything got out. */
static bool push_backlog(struct shm_end *end, struct shm_pair *pair)
{
    ASSERT(pair->backlog != NULL && end->backlogs > 0 && pair->window.end == NULL);
    uint64_t before = pair->tail;
    while (pair->backlog != NULL && push_item(end, pair, pair->backlog)) {
        struct shm_item *item = pair->backlog;
        pair->backlog = item->next;
        free(item);
    }
    if (pair->backlog == NULL) {
        pair->backlog_last = NULL;
        end->backlogs--;
    }
    return pair->tail != before;
}

bool shm_push_backlogs(struct shm_end *end)
{
    bool any = false;
    for (uint32_t j = 0; j < end->pairs_len && end->backlogs > 0; j++) {
        if (end->pairs[j].backlog != NULL && end->pairs[j].reserved == 0 && !shm_failed(end)) {
            any |= push_backlog(end, &end->pairs[j]);
        }
    }
    return any;
}

static void put_backlog(struct shm_end *end, struct shm_pair *pair, struct shm_item *item)
{
    ASSERT((pair->backlog == NULL) == (pair->backlog_last == NULL));
    ASSERT(item->next == NULL);
    if (pair->backlog_last != NULL) {
        pair->backlog_last->next = item;
    } else {
        pair->backlog = item;
        end->backlogs++;
    }
    pair->backlog_last = item;
    carrier_count(&shm_counters(end)->stalls, 1);
    if (pair->reserved == 0) {
        push_backlog(end, pair);
    }
}

void shm_backlog_free(struct shm_pair *pair)
{
    while (pair->backlog != NULL) {
        struct shm_item *next = pair->backlog->next;
        free(pair->backlog);
        pair->backlog = next;
    }
    pair->backlog_last = NULL;
}

static struct shm_item *item_new(size_t len)
{
    struct shm_item *item = mem_alloc(sizeof(*item) + len + SHM_LINE);
    uintptr_t at = (uintptr_t)(item + 1);
    *item = (struct shm_item){
        .len = len,
        .data = (uint8_t *)((at + SHM_LINE - 1) & ~(uintptr_t)(SHM_LINE - 1)),
    };
    return item;
}

/* A small message that found no room in the ring. */
static void send_later(struct shm_end *end, struct shm_pair *pair, const struct carrier_message *m,
                       const uint8_t *data, size_t len)
{
    struct shm_item *item = item_new(len);
    item->m = *m;
    if (len > 0) {
        memcpy(item->data, data, len);
    }
    put_backlog(end, pair, item);
}

/* owned: see hold. */
static inline void put_or_backlog(struct shm_end *end, struct shm_pair *pair,
                                  const struct carrier_message *m, uint64_t span, uint64_t offset,
                                  size_t len, bool shared, bool owned)
{
    if (!waits(pair) && ring_room(end, pair, 1)) {
        put_block(end, pair, m, span, offset, len, len, WHOLE | (shared ? SHM_SHARED : 0), owned);
        return;
    }
    if (!owned) {
        shm_arena_hold(&end->pool->arena, span);
    }
    struct shm_item *item = MEM_NEW(struct shm_item);
    *item = (struct shm_item){.m = *m, .in_arena = true, .shared = shared, .span = span,
                              .offset = offset, .len = len};
    put_backlog(end, pair, item);
}

/* ---- the carrier's calls --------------------------------------------------------------------- */

/* Lines there must be for a lane to be ready: any message that lies in the ring finds room. */
static inline uint32_t ready_lines(const struct shm_pair *pair)
{
    return SHM_INLINE_LINES + 2 * (pair->dense_max / SHM_LINE + 1); /* some may be skipped */
}

static bool lag_room(const struct shm_end *end, const struct shm_pair *pair)
{
    return pair->held_bytes <= end->lane_max;
}

/* Apart, so that the ordinary case saves no registers. */
static __attribute__((noinline)) bool ready_else(struct shm_end *end, struct shm_pair *pair)
{
    if (pair->backlog == NULL && ring_room(end, pair, ready_lines(pair)) &&
        (lag_room(end, pair) || (shm_take_acks(end, pair) && lag_room(end, pair)))) {
        return true;
    }
    if (!pair->refused) {
        pair->refused = true;
        end->refused++;
        carrier_count(&shm_counters(end)->stalls, 1);
    }
    return false;
}

bool shm_ready(struct carrier *c, uint32_t local, uint32_t remote)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && remote < end->pairs_len);
    count_posted(end, pair);
    if (pair->backlog == NULL && pair->tail + ready_lines(pair) - pair->acked <= pair->mask &&
        lag_room(end, pair)) {
        return true;
    }
    return ready_else(end, pair);
}

/* Mark blocks that are not in the arena. Those that are say where, in which span, and by a bit of
 * the offset, which is aligned, that they are a part of a chunk. */
#define IN_SCRATCH UINT64_MAX
#define IN_RING (UINT64_MAX - 1)
#define IN_CHUNK 1u
STATIC_ASSERT(SHM_ARENA_MAX <= UINT32_MAX, "two offsets in a place");

static void reserve_else(struct shm_end *end, const struct shm_pair *pair, size_t len,
                         struct carrier_block *out)
{
    uint64_t offset;
    if (len <= SHM_INLINE_MAX && !end->scratch_used) {
        end->scratch_used = true;
        out->data = end->scratch;
        out->place = IN_SCRATCH;
    } else if (pair->backlog == NULL && len <= block_max(end) &&
               shm_pool_take(end->pool, len, &offset)) {
        out->data = end->pool->base + offset;
        out->place = offset << 32 | offset;
    } else {
        struct shm_item *item = item_new(len);
        out->owner = item;
        out->data = item->data;
    }
}

static __attribute__((noinline)) void reserve_any(struct shm_end *end, uint32_t remote, size_t len,
                                                  struct carrier_block *out)
{
    struct shm_pair *pair = &end->pairs[remote];
    uint64_t offset;
    out->len = len;
    out->owner = NULL;
    if (len > SHM_INLINE_MAX && len <= pair->dense_max &&
        reserve_dense(end, pair, (uint32_t)len, &out->data)) {
        out->place = IN_RING;
        return;
    }
    if (len > SHM_INLINE_MAX && pair->backlog == NULL && cut_block(end, len, &offset)) {
        out->data = end->pool->base + offset;
        out->place = end->chunk.span << 32 | offset | IN_CHUNK;
        return;
    }
    reserve_else(end, pair, len, out);
    ASSERT(out->data != NULL);
}

/* A struct carrier_block, as it is written in few stores. */
struct block_halves {
    carrier_pair first;
    carrier_pair second;
} __attribute__((packed, aligned(8), may_alias));
STATIC_ASSERT(sizeof(struct block_halves) == sizeof(struct carrier_block) &&
              offsetof(struct carrier_block, len) == 8 &&
              offsetof(struct carrier_block, owner) == 16 &&
              offsetof(struct carrier_block, place) == 24, "a block is its halves");

/* The ordinary case, of few stores: see carrier_post_begin. */
void shm_reserve(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                 struct carrier_block *out)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && len > 0);
    uint64_t lines = 1 + (len + SHM_LINE - 1) / SHM_LINE;
    uint64_t tail = pair->tail;
    if (len <= SHM_INLINE_MAX || len > pair->dense_max || waits(pair) ||
        pair->window.end != NULL || tail + lines > pair->dense_end) {
        reserve_any(end, remote, len, out);
        return;
    }
    /* By twos: data and len, owner and place. */
    uintptr_t data = (uintptr_t)pair->ring[(tail & pair->mask) + 1].all;
    struct block_halves *halves = (struct block_halves *)out;
    halves->first = (carrier_pair){data, len};
    halves->second = (carrier_pair){0, IN_RING};
    note_reserved(pair, lines, 0);
}

static inline void send_small(struct shm_end *end, struct shm_pair *pair,
                              const struct carrier_message *m, const uint8_t *data, size_t len)
{
    uint32_t lines = shm_lines_of(len);
    if (!waits(pair) && ring_room(end, pair, lines)) {
        put_inline(end, pair, m, data, len, lines, WHOLE);
    } else {
        send_later(end, pair, m, data, len);
    }
}

/* Is it a part of the chunk that is open? Then it has no reference of its own. */
static inline bool leaves_chunk(struct shm_end *end, uint64_t place)
{
    if ((place & IN_CHUNK) == 0 || end->chunk.end == 0 || place >> 32 != end->chunk.span) {
        return false;
    }
    ASSERT(end->chunk.begun > 0);
    end->chunk.begun--;
    return true;
}

/* With its bytes in the arena. */
static inline void commit_block(struct shm_end *end, struct shm_pair *pair,
                                const struct carrier_message *m, uint64_t place, size_t len)
{
    uint64_t span = place >> 32;
    bool owned = !leaves_chunk(end, place);
    if ((place & IN_CHUNK) == 0) {
        shm_arena_trim(&end->pool->arena, span, len);
    }
    put_or_backlog(end, pair, m, span, place & UINT32_MAX & ~(uint64_t)IN_CHUNK, len, false,
                   owned);
}

/* With its bytes in the ring, where they cannot stay: something was sent meanwhile, or there are
 * none. */
static void commit_moved(struct shm_end *end, struct shm_pair *pair,
                         const struct carrier_message *m, const uint8_t *data, size_t len)
{
    ASSERT(pair->reserved != 0);
    pair->reserved = 0;
    if (pair->backlog == NULL) {
        send_small(end, pair, m, data, len);
    } else {
        send_later(end, pair, m, data, len);
    }
}

static __attribute__((noinline)) void commit_else(struct shm_end *end, struct shm_pair *pair,
                                                  const struct carrier_message *m,
                                                  struct carrier_block *block, size_t len)
{
    if (block != NULL && block->owner != NULL) {
        struct shm_item *item = block->owner;
        ASSERT(len <= item->len);
        item->m = *m;
        item->len = len;
        put_backlog(end, pair, item);
        return;
    }
    if (block != NULL && block->place == IN_SCRATCH) {
        end->scratch_used = false;
    } else if (block != NULL && !leaves_chunk(end, block->place)) {
        ASSERT(len == 0);
        shm_pool_drop(end->pool, block->place >> 32);
    }
    send_small(end, pair, m, end->scratch, len);
}

static __attribute__((noinline)) void commit_any(struct shm_end *end, struct shm_pair *pair,
                                                 const struct carrier_message *m,
                                                 struct carrier_block *block, size_t len)
{
    if (block != NULL && block->owner == NULL && block->place == IN_RING) {
        commit_moved(end, pair, m, block->data, len);
        return;
    }
    end_posts(end, pair);
    if (block != NULL && block->owner == NULL && block->place != IN_SCRATCH && len > 0) {
        commit_block(end, pair, m, block->place, len);
        return;
    }
    commit_else(end, pair, m, block, len);
}

void shm_commit(struct carrier *c, uint32_t local, uint32_t remote,
                const struct carrier_message *m, struct carrier_block *block, size_t len)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && (block != NULL || len == 0));
    if (len > 0 && block->owner == NULL && block->place == IN_RING && pair->backlog == NULL) {
        put_dense(end, pair, m, (uint32_t)len, 0);
        return;
    }
    commit_any(end, pair, m, block, len);
}

static void send_copy(struct shm_end *end, uint32_t remote, const struct carrier_message *m)
{
    if (m->len <= SHM_INLINE_MAX) {
        send_small(end, &end->pairs[remote], m, m->data, m->len);
        return;
    }
    struct carrier *c = &end->shm->base;
    struct carrier_block block;
    shm_reserve(c, end->local, remote, m->len, &block);
    memcpy(block.data, m->data, m->len);
    shm_commit(c, end->local, remote, m, &block, m->len);
}

/* Kept out of shm_send, so that it saves no registers. */
static __attribute__((noinline)) void send_any(struct shm_end *end, uint32_t remote,
                                               const struct carrier_message *m)
{
    ASSERT(m->kind >= FRAME_KIND_USER && m->len <= FRAME_MESSAGE_MAX);
    count_out(end, 1, m->len);
    send_copy(end, remote, m);
    if ((m->flags & CARRIER_NOW) != 0) {
        publish(end);
    }
}

/* ---- posts ----------------------------------------------------------------------------------- */

struct carrier_window *shm_window(struct carrier *c, uint32_t local, uint32_t remote)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    ASSERT(end->attached && remote < end->pairs_len);
    return &end->pairs[remote].window;
}

void shm_posted(struct carrier *c, uint32_t local, uint32_t remote)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    count_posted(end, &end->pairs[remote]);
    look(end, &end->pairs[remote]);
}

/* So many lines from the tail on are to be a window, each message of which is published by itself:
 * as many of them as can be, with the places that the reader will come to cleared. */
static inline uint64_t clear_window(struct shm_pair *pair, uint64_t lines)
{
    if (pair->tail >= pair->clear_until) {
        return lines;
    }
    uint64_t cleared = lines < SHM_CLEARED_LINES ? lines : SHM_CLEARED_LINES;
    for (uint64_t i = 1; i <= cleared; i++) {
        clear_place(pair, pair->tail + i);
    }
    return cleared;
}

/* From the tail to the end of what is acknowledged, or of the ring. False: something waits to be
 * published or for room, or there are not so many lines. */
static __attribute__((noinline)) bool open_window(struct shm_end *end, struct shm_pair *pair,
                                                  uint32_t lines)
{
    struct carrier_window *w = &pair->window;
    end_posts(end, pair);
    if (waits(pair) || pair->tail != pair->published || !ring_room(end, pair, lines)) {
        return false;
    }
    uint64_t at = pair->tail & pair->mask;
    uint64_t room = pair->mask - (pair->tail - pair->acked);
    uint64_t to_end = pair->mask + 1 - at;
    uint32_t lap = shm_lap(pair->tail, pair->shift);
    if (to_end < lines) {
        return false;
    }
    room = clear_window(pair, room < to_end ? room : to_end);
    w->next = (struct carrier_line *)&pair->ring[at];
    w->end = w->next + room;
    w->words[0] = shm_word(0, WHOLE, 1, lap);
    w->words[1] = shm_word(0, WHOLE, 2, lap);
    end->posting[end->posting_len++] = (uint8_t)(pair - end->pairs);
    return true;
}

/* The bytes of a message of one or two lines, further ones where more points. */
static inline void put_bytes(uint8_t *bytes, uint8_t *more, const uint8_t *data, size_t len)
{
    if (len <= SHM_INLINE_HEAD) {
        carrier_copy(bytes, data, len);
        return;
    }
    carrier_copy(bytes, data, SHM_INLINE_HEAD);
    carrier_copy(more, data + SHM_INLINE_HEAD, len - SHM_INLINE_HEAD);
}

/* Small messages go the short way. */
void shm_send(struct carrier *c, uint32_t local, uint32_t remote, const struct carrier_message *m)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && remote < end->pairs_len);
    size_t len = m->len;
    uint32_t lines = carrier_lines_of(len);
    if ((m->flags & CARRIER_NOW) != 0 && len <= CARRIER_RUN_BYTES &&
        (carrier_post_room(&pair->window, len) || open_window(end, pair, lines))) {
        carrier_post(&pair->window, m);
        return;
    }
    end_posts(end, pair);
    uint64_t tail = pair->tail + lines;
    if (len > CARRIER_RUN_BYTES || waits(pair) || tail - pair->acked > pair->mask ||
        tail - pair->published >= pair->batch_lines) {
        send_any(end, remote, m);
        return;
    }
    count_out(end, 1, len);
    ASSERT(m->kind >= FRAME_KIND_USER);
    struct shm_desc *d = put_head(pair, m, WHOLE, lines, len);
    struct shm_line *further = &pair->ring[(pair->tail + 1) & pair->mask];
    if (lines > 1) {
        further->word = 0;
    }
    put_bytes(d->bytes, further->bytes, m->data, len);
    pair->tail = tail;
    shm_touch(end, pair, SHM_TAIL);
    if ((m->flags & CARRIER_NOW) != 0) {
        publish_pair(end, pair);
    }
}

/* ---- runs ------------------------------------------------------------------------------------ */

/* Messages of so many lines (1 or 2) that there is room for in one piece: the ring may end before
 * that. */
static inline uint64_t run_room(const struct shm_pair *pair, uint32_t lines)
{
    uint64_t free_lines = pair->mask - (pair->tail - pair->acked);
    uint64_t to_end = pair->mask + 1 - (pair->tail & pair->mask);
    return (free_lines < to_end ? free_lines : to_end) >> (lines - 1);
}

bool shm_run_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                   struct carrier_run *run)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    uint32_t lines = len <= SHM_INLINE_HEAD ? 1 : 2;
    ASSERT(end->attached && remote < end->pairs_len && lines == shm_lines_of(len));
    end_posts(end, pair);
    uint64_t room = run_room(pair, lines);
    if (room < n && !waits(pair) && shm_take_acks(end, pair)) {
        room = run_room(pair, lines);
    }
    if (room == 0 || waits(pair)) {
        return false;
    }
    run->lines = (struct carrier_line *)&pair->ring[pair->tail & pair->mask];
    run->first = pair->tail == pair->published ? (struct carrier_line *)&pair->first : run->lines;
    run->len = room < n ? (uint32_t)room : n;
    run->stride = lines;
    run->word = shm_word(0, WHOLE, lines, shm_lap(pair->tail, pair->shift));
    run->bytes = (uint32_t)len;
    return true;
}

void shm_run_end(struct carrier *c, uint32_t local, uint32_t remote, const struct carrier_run *run,
                 uint32_t n)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && run->lines == (const struct carrier_line *)
                                              &pair->ring[pair->tail & pair->mask]);
    /* What was filled and is not sent must not be there when the reader comes by. Message 0 may
     * have been built aside. */
    for (uint32_t i = n > 0 || run->first == run->lines ? n : 1; i < run->len; i++) {
        /* Relaxed: before the release of whatever opens what comes next. */
        atomic_store_explicit(&run->lines[(size_t)i * run->stride].word, 0, memory_order_relaxed);
    }
    if (n == 0) {
        return;
    }
    pair->tail += (uint64_t)n * run->stride;
    ASSERT(pair->tail - pair->acked <= pair->mask);
    count_out(end, n, (size_t)n * run->bytes);
    put_done(end, pair);
}

/* ---- packs ----------------------------------------------------------------------------------- */

bool shm_pack_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                    struct carrier_pack *pack)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    ASSERT(end->attached && remote < end->pairs_len && len <= CARRIER_RUN_BYTES);
    return reserve_dense(end, &end->pairs[remote], n * pack->stride, &pack->bytes);
}

void shm_pack_end(struct carrier *c, uint32_t local, uint32_t remote,
                  const struct carrier_pack *pack, const struct carrier_message *m, uint32_t n)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    struct shm_pair *pair = &end->pairs[remote];
    ASSERT(end->attached && pair->reserved != 0 && n <= CARRIER_RUN_MAX);
    if (n == 0) {
        pair->reserved = 0;
        return;
    }
    count_out(end, n, (size_t)n * pack->len);
    put_dense(end, pair, m, pack->len, n);
}

void shm_share(struct carrier *c, uint32_t local, uint32_t remote,
               const struct carrier_message *m, const struct carrier_block *block, size_t len)
{
    struct shm_end *end = &shm_of(c)->ends[local];
    end_posts(end, &end->pairs[remote]);
    if (block->owner != end->pool->pool || len <= SHM_INLINE_MAX) {
        struct carrier_message copied = *m;
        copied.data = block->data;
        copied.len = len;
        send_copy(end, remote, &copied);
        return;
    }
    shm_arena_hold(&end->pool->arena, block->place);
    carrier_count(&shm_counters(end)->shared_out, 1);
    put_or_backlog(end, &end->pairs[remote], m, block->place, block->place, len,
                   (m->flags & CARRIER_KEEP) == 0, true);
}
