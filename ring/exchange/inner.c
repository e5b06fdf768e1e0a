/*
 * Lanes between the workers of one process: per (sender, receiver) a ring of lines in private
 * memory, one writer and one reader each. A message of up to INNER_BYTES lies in its line; a larger
 * one was built in a piece of the sender's memory, and the line names it. The receiver reads it in
 * place, during its callback. `head`, the number of lines it is done with, is the way back: with it
 * the sender takes the pieces into its spare ones again. No lock, no system call while both are
 * awake, and once pieces have been made, no allocation.
 *
 * The orderings are those of shared memory (ring/shm/lanes.c, ring/README.md), with nobody to
 * mistrust:
 *
 *   publish: lines and pieces, then word (release)   <->  word (acquire), then read them
 *   take:    done with them, then head (release)     <->  head (acquire), then use them again
 *   sleep:   sleeping odd, fence, look at words      <->  word, fence, look at sleeping
 *   blocked: blocked 1, fence, look at heads         <->  head, fence, look at blocked
 *
 * A word is the number of its line plus one, so it names that line and no earlier one in the same
 * place. The line that opens a batch is built aside and put in by the flush, word last: what stands
 * behind it may be written in any order, since the receiver goes from line to line.
 *
 * A message says its generation. One of a generation that is over is passed over; one of a
 * generation that does not stand here yet stays in its lane until it does (`ahead`): the sender's
 * memory bounds it. That happens when the sender heard formed before this worker did.
 */
#include "ring/exchange/internal.h"

enum {
    LINES_MAX = 512,
    LINES_MIN = 16,
    RINGS_BYTES = 4 << 20,      /* about what all rings of a process may take */
    BATCH_LINES = 32,           /* published at the latest when so many lines are there, */
    BATCH_BYTES = 256 * 1024,   /* or so many bytes in pieces */
    MESSAGES_A_POLL = 128,      /* taken from a lane in one turn, at most, */
    BYTES_A_POLL = 1 << 20,     /* or so many bytes */
    ALIGNMENT = 64,
};

static inline struct inner_lane *lane_of(const struct exchange *x, uint32_t from, uint32_t to)
{
    ASSERT(from < x->config.workers_per_process && to < x->config.workers_per_process);
    return &x->inner[(size_t)from * x->config.workers_per_process + to];
}

/* Notes what the next flush has to store, of the lane to or from that worker. */
static inline void touch(struct exchange_worker *w, uint32_t other, enum inner_touched what)
{
    if (w->touched[other] == 0) {
        ASSERT(w->touched_len < w->x->config.workers_per_process);
        w->touched_list[w->touched_len++] = other;
    }
    w->touched[other] |= (uint8_t)what;
}

/* ---- publishing and waking ------------------------------------------------------------------- */

/* It slept, or was about to: this is all it takes. */
static void bell_run(struct io_task *task)
{
    struct inner_end *end = CONTAINER_OF(task, struct inner_end, bell);
    /* Release: pairs with the exchange in wake; the loop is done with the task. */
    atomic_store_explicit(&end->belled, 0, memory_order_release);
}

/*
 * Several may wake the same worker at a time, or one again and again until it is awake: who finds
 * it not belled posts. That it is belled may be old news, of an earlier sleep; then the sleeper has
 * yet to come to its fence, and will see what was published before ours. So nobody may remember
 * that he has rung for this sleep (tests/model/inner.pml, RUNG).
 */
static void wake(struct exchange *x, uint32_t other)
{
    struct inner_end *end = &x->inner_ends[other];
    /* Relaxed: spares the exchange while the other is waking up. Acquire: pairs with the release in
     * bell_run. */
    if (atomic_load_explicit(&end->belled, memory_order_relaxed) == 0 &&
        atomic_exchange_explicit(&end->belled, 1, memory_order_acquire) == 0) {
        io_post(x->workers[other].loop, &end->bell);
    }
}

/* Puts in the line that opens the batch, its word last. */
static void publish(struct inner_lane *lane, uint64_t mask)
{
    ASSERT(lane->tail > lane->published && lane->tail - lane->acked <= mask + 1);
    struct inner_line *line = &lane->ring[lane->published & mask];
    memcpy((uint8_t *)line + sizeof(line->word), (const uint8_t *)&lane->first + sizeof(line->word),
           sizeof(*line) - sizeof(line->word));
    uint64_t word = lane->published + 1;
    lane->published = lane->tail;
    lane->unpublished_bytes = 0;
    /* Release: pairs with the acquire in take_lane; publishes all lines since the last time, and
     * the pieces they name. */
    atomic_store_explicit(&line->word, word, memory_order_release);
}

/* Wakes the other worker, if it sleeps and this is news to it. */
static void wake_if_asleep(struct exchange_worker *w, uint32_t other, uint8_t what)
{
    struct inner_end *end = &w->x->inner_ends[other];
    /* Relaxed, both: ordered by the fence in inner_flush. */
    if ((atomic_load_explicit(&end->sleeping, memory_order_relaxed) & 1) != 0 &&
        ((what & INNER_TAIL) != 0 ||
         atomic_load_explicit(&end->blocked, memory_order_relaxed) != 0)) {
        wake(w->x, other);
    }
}

void inner_flush(struct exchange_worker *w)
{
    uint32_t len = w->touched_len;
    if (len == 0) {
        return;
    }
    uint64_t mask = w->x->inner_lines - 1;
    for (uint32_t i = 0; i < len; i++) {
        uint32_t other = w->touched_list[i];
        if ((w->touched[other] & INNER_HEAD) != 0) {
            struct inner_lane *in = lane_of(w->x, other, w->index);
            /* Release: pairs with the acquire in reap; we are done reading. */
            atomic_store_explicit(&in->head, in->taken, memory_order_release);
        }
        if ((w->touched[other] & INNER_TAIL) != 0) {
            publish(lane_of(w->x, w->index, other), mask);
        }
    }
    /* Pairs with the fence in inner_arm: either it sees what was stored or we see it asleep. */
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t other = w->touched_list[i];
        wake_if_asleep(w, other, w->touched[other]);
        w->touched[other] = 0;
    }
    w->touched_len = 0;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Takes back what the receiver is done with; true when there was anything. */
static bool reap(struct exchange_worker *w, struct inner_lane *lane)
{
    uint64_t mask = w->x->inner_lines - 1;
    /* Acquire: pairs with the release in inner_flush; the receiver is done reading. */
    uint64_t head = atomic_load_explicit(&lane->head, memory_order_acquire);
    ASSERT(head - lane->acked <= lane->published - lane->acked);
    if (head == lane->acked) {
        return false;
    }
    for (; lane->acked != head; lane->acked++) {
        struct piece **held = &lane->held[lane->acked & mask];
        if (*held != NULL) {
            piece_forget(w, *held);
            *held = NULL;
        }
    }
    return true;
}

/* Is there room for a line? Asks the receiver's head only when it must. */
static inline bool room(struct exchange_worker *w, struct inner_lane *lane)
{
    return lane->tail - lane->acked < w->x->inner_lines ||
           (reap(w, lane) && lane->tail - lane->acked < w->x->inner_lines);
}

/* The next line; there is room. */
static inline struct inner_line *put(struct exchange_worker *w, struct inner_lane *lane, size_t len)
{
    ASSERT(lane->tail - lane->acked < w->x->inner_lines && len <= FRAME_MESSAGE_MAX);
    struct inner_line *line = lane->tail == lane->published
                                  ? &lane->first
                                  : &lane->ring[lane->tail & (w->x->inner_lines - 1)];
    lane->tail++;
    /* Relaxed: seen only through the release in publish. */
    atomic_store_explicit(&line->word, lane->tail, memory_order_relaxed);
    line->generation = w->generation;
    line->len = (uint32_t)len;
    return line;
}

static void put_done(struct exchange_worker *w, struct inner_lane *lane, uint32_t to, size_t bytes)
{
    lane->unpublished_bytes += bytes;
    touch(w, to, INNER_TAIL);
    if (lane->tail - lane->published >= BATCH_LINES || lane->unpublished_bytes >= BATCH_BYTES ||
        lane->tail - lane->acked == w->x->inner_lines) {
        inner_flush(w);
    }
}

static void put_piece(struct exchange_worker *w, struct inner_lane *lane, uint32_t to,
                      struct piece *piece)
{
    uint64_t at = lane->tail & (w->x->inner_lines - 1);
    ASSERT(lane->held[at] == NULL);
    lane->held[at] = piece;
    struct inner_line *line = put(w, lane, piece->len);
    line->in_piece = 1;
    line->piece.data = piece->data;
    put_done(w, lane, to, piece->len);
}

/* True when anything got out. */
static bool push_backlog(struct exchange_worker *w, struct inner_lane *lane, uint32_t to)
{
    ASSERT(lane->backlog != NULL && w->backlogs > 0);
    bool any = false;
    while (lane->backlog != NULL && room(w, lane)) {
        struct piece *piece = lane->backlog;
        lane->backlog = piece->next;
        piece->next = NULL;
        put_piece(w, lane, to, piece);
        any = true;
    }
    if (lane->backlog == NULL) {
        lane->backlog_last = NULL;
        w->backlogs--;
    }
    return any;
}

void inner_commit(struct exchange_worker *w, uint32_t to, struct piece *piece)
{
    struct inner_lane *lane = lane_of(w->x, w->index, to);
    ASSERT(to != w->index && piece->next == NULL && piece->block.owner == NULL);
    piece_keep(w, piece);
    if (lane->backlog == NULL && room(w, lane)) {
        put_piece(w, lane, to, piece);
        return;
    }
    if (lane->backlog_last != NULL) {
        lane->backlog_last->next = piece;
    } else {
        lane->backlog = piece;
        w->backlogs++;
    }
    lane->backlog_last = piece;
}

void inner_send(struct exchange_worker *w, uint32_t to, const void *data, size_t len)
{
    struct inner_lane *lane = lane_of(w->x, w->index, to);
    if (len <= INNER_BYTES && lane->backlog == NULL && room(w, lane)) {
        struct inner_line *line = put(w, lane, len);
        line->in_piece = 0;
        if (len > 0) {
            memcpy(line->bytes, data, len);
        }
        put_done(w, lane, to, 0);
        return;
    }
    struct piece *piece = piece_new(w, len, false);
    if (len > 0) {
        memcpy(piece->data, data, len);
    }
    inner_commit(w, to, piece);
}

bool inner_relieve(struct exchange_worker *w)
{
    bool any = false;
    for (uint32_t to = 0; to < w->x->config.workers_per_process; to++) {
        struct inner_lane *lane = lane_of(w->x, w->index, to);
        if (lane->acked != lane->published) {
            any |= reap(w, lane);
        }
        if (lane->backlog != NULL) {
            any |= push_backlog(w, lane, to);
        }
    }
    return any;
}

/* ---- receiving ------------------------------------------------------------------------------- */

static inline bool arrived(const struct inner_lane *lane, uint64_t mask, memory_order order)
{
    return atomic_load_explicit(&lane->in[lane->taken & mask].word, order) == lane->taken + 1;
}

/* A burst; true when there was anything. */
static bool take_lane(struct exchange_worker *w, struct inner_lane *lane, uint32_t from)
{
    uint64_t mask = w->x->inner_lines - 1;
    uint32_t global = w->global - w->index + from;
    uint64_t before = lane->taken;
    size_t bytes = 0;
    /* Acquire: pairs with the release in publish; line and piece are there. */
    while (arrived(lane, mask, memory_order_acquire)) {
        const struct inner_line *line = &lane->in[lane->taken & mask];
        if (line->generation > w->generation) {
            lane->ahead = true;
            break;
        }
        bytes += line->len;
        if (line->generation == w->generation && w->formed) {
            exchange_deliver(w, global, line->in_piece != 0 ? line->piece.data : line->bytes,
                           line->len);
        }
        lane->taken++; /* only now: the bytes were in use until here */
        if (lane->taken - before >= MESSAGES_A_POLL || bytes >= BYTES_A_POLL) {
            break;
        }
    }
    if (lane->taken != before) {
        touch(w, from, INNER_HEAD);
        return true;
    }
    return false;
}

bool inner_take(struct exchange_worker *w)
{
    bool any = false;
    for (uint32_t from = 0; from < w->x->config.workers_per_process; from++) {
        struct inner_lane *lane = lane_of(w->x, from, w->index);
        if (!lane->ahead) {
            any |= take_lane(w, lane, from);
        }
    }
    return any;
}

/* ---- sleeping -------------------------------------------------------------------------------- */

static bool work_left(const struct exchange_worker *w, bool starved)
{
    uint64_t mask = w->x->inner_lines - 1;
    for (uint32_t i = 0; i < w->x->config.workers_per_process; i++) {
        const struct inner_lane *in = lane_of(w->x, i, w->index);
        const struct inner_lane *out = lane_of(w->x, w->index, i);
        /* Relaxed, both: only whether there is work; who takes it loads again with acquire. */
        if ((!in->ahead && arrived(in, mask, memory_order_relaxed)) ||
            (starved &&
             atomic_load_explicit(&out->head, memory_order_relaxed) != out->acked)) {
            return true;
        }
    }
    return false;
}

bool inner_arm(struct exchange_worker *w, bool starved)
{
    struct inner_end *end = w->end;
    ASSERT(w->touched_len == 0);
    /* Relaxed, all: the fence orders them; only this thread writes them. */
    uint32_t sleeping = atomic_load_explicit(&end->sleeping, memory_order_relaxed);
    ASSERT((sleeping & 1) == 0);
    atomic_store_explicit(&end->blocked, starved ? 1 : 0, memory_order_relaxed);
    atomic_store_explicit(&end->sleeping, sleeping + 1, memory_order_relaxed);
    /* Pairs with the fence in inner_flush: what was stored before it we see below, or they see us
     * asleep and wake us. */
    atomic_thread_fence(memory_order_seq_cst);
    return work_left(w, starved);
}

void inner_disarm(struct exchange_worker *w)
{
    struct inner_end *end = w->end;
    /* Relaxed, all: only this thread writes them; a late look at them costs one wake too many. */
    uint32_t sleeping = atomic_load_explicit(&end->sleeping, memory_order_relaxed);
    if ((sleeping & 1) != 0) {
        atomic_store_explicit(&end->sleeping, sleeping + 1, memory_order_relaxed);
    }
    atomic_store_explicit(&end->blocked, 0, memory_order_relaxed);
}

/* ---- generations and life -------------------------------------------------------------------- */

/* What waited in its lane for this generation is taken in the next turn. */
void inner_formed(struct exchange_worker *w)
{
    ASSERT(w->formed);
    for (uint32_t from = 0; from < w->x->config.workers_per_process; from++) {
        lane_of(w->x, from, w->index)->ahead = false;
    }
}

static void drop_backlogs(struct exchange_worker *w)
{
    for (uint32_t to = 0; to < w->x->config.workers_per_process; to++) {
        struct inner_lane *lane = lane_of(w->x, w->index, to);
        while (lane->backlog != NULL) {
            struct piece *piece = lane->backlog;
            lane->backlog = piece->next;
            piece->next = NULL;
            piece_forget(w, piece);
        }
        w->backlogs -= lane->backlog_last != NULL ? 1 : 0;
        lane->backlog_last = NULL;
    }
    ASSERT(w->backlogs == 0);
}

/* What has a line the others pass over; what has none is of no use to anyone. */
void inner_lost(struct exchange_worker *w)
{
    ASSERT(!w->formed);
    drop_backlogs(w);
}

/* Nobody reads any more: worker loops have stopped. */
void inner_drop(struct exchange_worker *w)
{
    drop_backlogs(w);
    for (uint32_t to = 0; to < w->x->config.workers_per_process; to++) {
        struct inner_lane *lane = lane_of(w->x, w->index, to);
        for (uint64_t i = 0; i < w->x->inner_lines; i++) {
            if (lane->held[i] != NULL) {
                piece_forget(w, lane->held[i]);
                lane->held[i] = NULL;
            }
        }
    }
}

bool inner_valid(const struct exchange *x, uint32_t from, uint32_t to)
{
    const struct inner_lane *lane = lane_of(x, from, to);
    bool held = true;
    for (uint64_t i = 0; i < x->inner_lines; i++) { /* places of lines that are not under way */
        held &= i < lane->tail - lane->acked ||
                lane->held[(lane->acked + i) & (x->inner_lines - 1)] == NULL;
    }
    /* Acquire: as in reap. */
    uint64_t head = atomic_load_explicit(&lane->head, memory_order_acquire);
    return held && lane->acked <= lane->published && lane->published <= lane->tail &&
           lane->tail - lane->acked <= x->inner_lines && head >= lane->acked &&
           head <= lane->published && (lane->backlog == NULL) == (lane->backlog_last == NULL);
}

/* Pages that no lane uses are never touched, so they take no memory. */
void inner_new(struct exchange *x)
{
    size_t workers = x->config.workers_per_process;
    size_t lanes = workers * workers;
    size_t lines = LINES_MAX;
    while (lines > LINES_MIN && lanes * lines * sizeof(struct inner_line) > RINGS_BYTES) {
        lines /= 2;
    }
    size_t lane_bytes = sizeof(struct inner_lane) +
                        lines * (sizeof(struct inner_line) + sizeof(struct piece *));
    x->inner_memory =
        mem_zalloc(lanes * lane_bytes + workers * sizeof(struct inner_end) + ALIGNMENT);
    uintptr_t at = ((uintptr_t)x->inner_memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    x->inner_lines = lines;
    x->inner = (struct inner_lane *)at;
    x->inner_ends = (struct inner_end *)(x->inner + lanes);
    struct inner_line *rings = (struct inner_line *)(x->inner_ends + workers);
    struct piece **held = (struct piece **)(rings + lanes * lines);
    for (size_t i = 0; i < lanes; i++) {
        x->inner[i].ring = x->inner[i].in = rings + i * lines;
        x->inner[i].held = held + i * lines;
    }
    for (size_t i = 0; i < workers; i++) {
        x->inner_ends[i].bell.run = bell_run;
    }
}

/* Workers have been freed. */
void inner_free(struct exchange *x)
{
    for (uint32_t i = 0; i < x->config.workers_per_process; i++) {
        if (x->workers[i].loop != NULL) {
            io_task_cancel(x->workers[i].loop, &x->inner_ends[i].bell);
        }
    }
    free(x->inner_memory);
    x->inner_memory = NULL;
}
