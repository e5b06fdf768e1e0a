/*
 * Module-private: a session over shared memory. shm.c is its net loop; on its worker loops
 * produce.c sends, take.c receives, lag.c takes back from readers that lag, lanes.c polls, sleeps,
 * begins and ends.
 */
#ifndef TAILRACE_RING_SHM_INTERNAL_H
#define TAILRACE_RING_SHM_INTERNAL_H

#include "ring/shm/memory.h"
#include "ring/shm/pool.h"

enum {
    SHM_WORKERS_MAX = HELLO_WORKERS_MAX,
    SHM_BELLS_A_PACKET = 60, /* the kernel and core/io limit the descriptors of one */
    SHM_CONTROL_MAX = 64 * 1024,
    SHM_BATCH_LINES = 512,        /* published at the latest when so much is there, */
    SHM_BATCH_SHARE = 4,          /* or such a part of the ring, */
    SHM_BATCH_BYTES = 256 * 1024, /* or so many bytes in blocks */
    SHM_CLEARED_LINES = 16,       /* of a window, when they have to be cleared first */
    SHM_CHUNK = 64 * 1024,
    SHM_CHUNK_SHARE = 4, /* a block takes at most such a part of a chunk */
};

/* A message that found no room: in private memory, or in the arena with the ring full. */
struct shm_item {
    struct shm_item *next;
    struct carrier_message m;
    bool in_arena;
    bool shared; /* in the arena, and may be taken back */
    bool lost;   /* it was */
    uint64_t span; /* what is referred to, */
    uint64_t offset; /* and where the bytes lie in it */
    size_t len;
    size_t sent;   /* bytes published as fragments */
    uint8_t *data; /* behind this struct, aligned; NULL when in the arena or empty */
};

/* What the next flush has to store, and what was stored since the last fence. */
enum shm_touched { SHM_TAIL = 1, SHM_HEAD = 2, SHM_TOLD_TAIL = 4, SHM_TOLD_HEAD = 8 };

/* Both directions between a worker here and one of the peer; on the worker's loop. */
struct shm_pair {
    struct shm_ends *own; /* what we write */
    struct shm_line *ring;
    const struct shm_ends *peer; /* what it writes, read-only */
    const struct shm_line *peer_ring;
    const uint8_t *peer_arena;
    const struct shm_state *peer_state;
    struct shm_bell *bell;
    uint64_t mask;      /* lines of our ring less one */
    uint64_t peer_mask;
    uint8_t shift;      /* binary logarithm of the lines of our ring, and of the peer's */
    uint8_t peer_shift;
    uint8_t touched;    /* enum shm_touched */
    bool over;          /* the peer has ended the session: no block of it is begun any more */
    bool refused;       /* shm_ready said no: writable is owed */
    bool dense;         /* the message taken last was */

    uint32_t dense_max; /* bytes of a message that lies in the ring, dense; 0: none does */
    uint32_t batch_lines; /* published at the latest when so many are filled */

    uint64_t tail;      /* lines filled */
    uint64_t published; /* of them, the peer may see */
    /* Of those it may not: the line that opens them, put in by the flush. */
    _Alignas(SHM_LINE) struct shm_desc first;
    /* While it is open all that is filled is published, and what was posted comes on top of it. */
    struct carrier_window window;
    uint64_t acked;     /* of them, taken by the peer */
    /* Lines above the tail where a dense message is being built; 0: none. Above 32 bits, how many
     * of them are skipped. What comes before it is committed waits in the backlog. */
    uint64_t reserved;
    uint64_t dense_end; /* bytes may be in one piece up to here without asking for more room */
    /* Places of lines below this one may hold bytes that no word guards: one is cleared before the
     * reader can come to it. */
    uint64_t clear_until;
    size_t unpublished_bytes; /* in blocks */
    uint32_t rung;      /* sleeping value at which it was last woken */

    uint64_t taken;     /* of the peer's lines, by us */
    uint64_t claimed;   /* of them, our claim */
    uint64_t voided;    /* the peer's, as of then */

    struct shm_held *held; /* by order of descriptors, as many places as the ring has lines */
    uint64_t held_first;
    uint64_t held_end;
    size_t held_bytes;
    uint64_t lag_acked;    /* acked when it was last seen lagging, and since when (0: not) */
    uint64_t lag_since_ns;

    struct shm_item *backlog; /* oldest first */
    struct shm_item *backlog_last;
    struct carrier_node *partial; /* a message arriving in fragments */
};

/* A worker's side of the session; on its loop. */
struct shm_end {
    struct shm_carrier *shm;
    uint32_t local;
    struct io_poller poller;
    struct io_bell *bell; /* where the kernel cannot wait for a futex in io_uring */
    struct io_futex *futex;
    bool attached;
    struct carrier_counters *counters; /* those of the base's end */
    struct shm_pool_worker *pool;
    struct shm_end *pool_prev; /* among the pool's worker's */
    struct shm_end *pool_next;
    struct shm_state *state; /* ours, shared */
    const struct shm_bell *rings; /* the peer's bell for us */
    struct shm_pair *pairs;  /* by the peer's worker */
    uint32_t pairs_len;
    uint32_t touched_len;
    uint32_t posting_len;
    uint8_t touched[SHM_WORKERS_MAX]; /* pairs with something to store, by index */
    uint8_t posting[SHM_WORKERS_MAX]; /* pairs whose window is open */
    size_t lane_max; /* bytes a lane may hold in blocks */
    /* Blocks of a few KiB are cut one after the other from a chunk of the arena. It has a reference
     * while it is open, and one for each block that was begun when it was closed. */
    struct {
        size_t bytes; /* of a new one; 0: there are none */
        uint64_t span;
        uint64_t next; /* where the next block begins */
        uint64_t end;  /* 0, both: none is open */
        uint32_t begun; /* blocks that are not committed yet */
    } chunk;
    size_t backlogs; /* pairs with a backlog */
    size_t refused;  /* pairs that are */
    struct shm_return *returns; /* after the end: what the peer may still read */
    struct carrier_small run[CARRIER_RUN_MAX]; /* received; the host's until it returns */
    bool scratch_used;
    _Alignas(SHM_LINE) uint8_t scratch[SHM_INLINE_MAX]; /* a small message being built */
};

struct shm_carrier {
    struct carrier base;
    struct io_stream *stream; /* NULL once closed */
    struct shm_config config;
    struct shm_shape own_shape;
    struct shm_shape peer_shape;
    struct shm_pool *pool; /* ours: lent by config, or the session's own */
    void *own;  /* memory we write */
    void *peer; /* memory we read */
    void *peer_pool;
    int own_fd; /* until sent */
    int peer_bells[SHM_WORKERS_MAX]; /* -1: its workers wait for our bells by futex */
    uint32_t bells_due;   /* doorbells the peer announced in ATTACH, */
    uint32_t bells_taken; /* and how many of them have come, in their order */
    uint32_t prepared; /* workers that know how they will be woken */
    bool bells;        /* they need doorbells */
    bool told;         /* ATTACH sent */
    bool heard;        /* ATTACH taken */
    bool peer_done;    /* it reads and writes no more */
    struct io_futex *alive; /* tells of the peer's death */
    struct io_timer timer;
    struct frame_parser parser;
    struct carrier_node *waiting; /* control messages until the session stands, oldest first */
    struct carrier_node *waiting_last;
    uint8_t *packet; /* payload being read */
    const int *fds;  /* of the packet being read */
    size_t fds_len;
    struct shm_end *ends;
};

static inline struct shm_carrier *shm_of(struct carrier *c)
{
    return CONTAINER_OF(c, struct shm_carrier, base);
}

static inline struct carrier_counters *shm_counters(struct shm_end *end)
{
    return end->counters;
}

static inline bool shm_failed(const struct shm_end *end)
{
    return end->shm->base.ends[end->local].failed;
}

STATIC_ASSERT(SHM_WORKERS_MAX <= UINT8_MAX + 1, "an index of touched is one byte");

/* Notes that the next flush has to store something of this pair. */
static inline void shm_touch(struct shm_end *end, struct shm_pair *pair, enum shm_touched what)
{
    if (pair->touched == 0) {
        end->touched[end->touched_len++] = (uint8_t)(pair - end->pairs);
    }
    pair->touched |= (uint8_t)what;
}

/* Lines filled by posts that the pair's numbers do not say yet. */
static inline uint64_t shm_posted_lines(const struct shm_pair *pair)
{
    const struct carrier_line *from =
        (const struct carrier_line *)&pair->ring[pair->tail & pair->mask];
    return pair->window.tally != 0 ? (uint64_t)(pair->window.next - from) : 0;
}

/* produce.c */
struct carrier_window *shm_window(struct carrier *c, uint32_t local, uint32_t remote);
/* Counts what was posted, and wakes the peer if it is seen asleep. */
void shm_posted(struct carrier *c, uint32_t local, uint32_t remote);
/* Counts what was posted on all lanes. */
void shm_count_posted(struct shm_end *end);
void shm_close_windows(struct shm_end *end);
void shm_close_chunk(struct shm_end *end);
bool shm_ready(struct carrier *c, uint32_t local, uint32_t remote);
void shm_reserve(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                 struct carrier_block *out);
void shm_commit(struct carrier *c, uint32_t local, uint32_t remote,
                const struct carrier_message *m, struct carrier_block *block, size_t len);
void shm_send(struct carrier *c, uint32_t local, uint32_t remote, const struct carrier_message *m);
void shm_share(struct carrier *c, uint32_t local, uint32_t remote,
               const struct carrier_message *m, const struct carrier_block *block, size_t len);
void shm_flush(struct carrier *c, uint32_t local);
bool shm_pack_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                    struct carrier_pack *pack);
void shm_pack_end(struct carrier *c, uint32_t local, uint32_t remote,
                  const struct carrier_pack *pack, const struct carrier_message *m, uint32_t n);
bool shm_run_begin(struct carrier *c, uint32_t local, uint32_t remote, uint32_t n, size_t len,
                   struct carrier_run *run);
void shm_run_end(struct carrier *c, uint32_t local, uint32_t remote, const struct carrier_run *run,
                 uint32_t n);
/* Stores what was touched, then wakes whom all that concerns which was stored since the last call:
 * no wake is lost. At the end of each turn, before any sleep. */
void shm_flush_end(struct shm_end *end);
/* Takes back what the peer has acknowledged; a lie fails the session. True: there was something. */
bool shm_take_acks(struct shm_end *end, struct shm_pair *pair);
/* Works off the backlogs; true when anything was published. */
bool shm_push_backlogs(struct shm_end *end);
void shm_backlog_free(struct shm_pair *pair);

/* take.c: a burst from one of the peer's workers; false: the session is over. */
bool shm_take_lane(struct shm_end *end, struct shm_pair *pair, bool *any);

/* lag.c: forbids the peer to begin any block, and drops those it has not claimed; what it has stays
 * in end->returns when the pool lives on. */
void shm_void_all(struct shm_end *end);

/* lanes.c */
void shm_prepare(struct carrier *c, uint32_t local);
void shm_attach(struct carrier *c, uint32_t local);
void shm_detach(struct carrier *c, uint32_t local);

static inline uint32_t shm_next_word(const struct shm_pair *pair, memory_order order)
{
    const struct shm_desc *d =
        (const struct shm_desc *)&pair->peer_ring[pair->taken & pair->peer_mask];
    return atomic_load_explicit(&d->word, order);
}

/* By this word, the peer's next message is there. */
static inline bool shm_is_next(const struct shm_pair *pair, uint32_t word)
{
    return word >> 16 == shm_lap(pair->taken, pair->peer_shift);
}

static inline bool shm_arrived(const struct shm_pair *pair, memory_order order)
{
    return shm_is_next(pair, shm_next_word(pair, order));
}

/* valid.c */
/* Is the memory that a peer has just passed, all of it, as a peer's must be that nobody has sent
 * anything yet? Net loop. */
err_t shm_peer_check(const struct shm_carrier *shm);
/* A session that is attached, for tests: segments, directory, all lanes, and our arenas. On the
 * only loop, or when the others have stopped. */
bool shm_session_valid(const struct shm_carrier *shm);
/* Do both sides' numbers of a lane fit together, as far as this side can know? */
bool shm_pair_valid(const struct shm_end *end, const struct shm_pair *pair);

#endif
