/* Module-private: a session over shared memory. shm.c is its net loop, lanes.c its worker loops. */
#ifndef TAILRACE_RING_SHM_INTERNAL_H
#define TAILRACE_RING_SHM_INTERNAL_H

#include "core/base/mem.h"
#include "ring/shm/memory.h"
#include "ring/shm/pool.h"

enum {
    SHM_WORKERS_MAX = 60,    /* their doorbells must fit into one packet */
    SHM_CONTROL_MAX = 64 * 1024,
};

/* A message that found no room: in private memory, or in the arena with the ring full. */
struct shm_item {
    struct shm_item *next;
    struct carrier_message m;
    bool in_arena;
    uint64_t offset;
    size_t len;
    size_t sent; /* bytes published as fragments */
    uint8_t *data; /* behind this struct, aligned; NULL when in the arena or empty */
};

/* What a published descriptor refers to, for freeing; never read back from shared memory. */
struct shm_slot {
    uint64_t offset;
    uint32_t len; /* 0: nothing */
};

/* Both directions between a worker here and one of the peer; on the worker's loop. */
struct shm_pair {
    struct shm_lane *own;        /* tail, ring: what we produce; head: what we took */
    struct shm_lane *peer;       /* the same of the peer, read-only */
    const uint8_t *peer_arena;
    uint64_t tail;  /* published */
    uint64_t acked; /* of them, taken by the peer */
    uint64_t taken; /* of the peer's, by us */
    uint32_t rung;  /* sleeping value at which its bell was last rung */
    struct shm_slot slots[SHM_RING];
    struct shm_item *backlog; /* oldest first */
    struct shm_item *backlog_last;
    bool refused; /* shm_ready said no: writable is owed once the backlog is gone */
    struct carrier_node *partial; /* a message arriving in fragments */
};

/* A worker's side of the session; on its loop. */
struct shm_end {
    struct shm_carrier *shm;
    uint32_t local;
    struct io_poller poller;
    struct io_bell *bell;
    bool attached;
    struct shm_worker *state;  /* ours, shared */
    uint8_t *arena_base;
    struct shm_arena arena;
    struct shm_pair *pairs; /* by the peer's worker */
    size_t backlogs;        /* pairs with a backlog */
    size_t refused;         /* pairs that are */
};

struct shm_carrier {
    struct carrier base;
    struct io_stream *stream; /* NULL once closed */
    struct shm_config config;
    struct shm_shape own_shape;
    struct shm_shape peer_shape;
    void *own;  /* memory we write */
    void *peer; /* memory we read */
    int own_fd; /* until sent */
    int peer_bells[SHM_WORKERS_MAX];
    uint32_t prepared; /* workers whose bell is there */
    bool told;         /* ATTACH sent */
    bool heard;        /* ATTACH taken */
    struct io_timer timer;
    struct frame_parser parser;
    struct carrier_node *waiting; /* control messages until the session stands, oldest first */
    struct carrier_node *waiting_last;
    uint8_t *packet; /* payload being read */
    const int *fds;  /* of the packet being read */
    size_t fds_len;
    struct shm_end *ends;
};

/* lanes.c */
bool shm_ready(struct carrier *c, uint32_t local, uint32_t remote);
void shm_reserve(struct carrier *c, uint32_t local, uint32_t remote, size_t len,
                 struct carrier_block *out);
void shm_commit(struct carrier *c, uint32_t local, uint32_t remote,
                const struct carrier_message *m, struct carrier_block *block, size_t len);
void shm_prepare(struct carrier *c, uint32_t local);
void shm_attach(struct carrier *c, uint32_t local);
void shm_detach(struct carrier *c, uint32_t local);

#endif
