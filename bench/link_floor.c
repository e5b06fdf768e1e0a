/*
 * The floors in shared memory: the plainest rings one would write, against which ours is measured.
 * No checks, no sessions, no way to notice a death.
 *
 * ring     one producer, one consumer, 64-byte slots, the other side's index cached
 * bytes    records of any length in a ring of bytes: 8-byte header, 16-byte aligned, padded at
 * the end so that a record is never split
 *
 * and the ring again with a bare futex or eventfd for a consumer that sleeps. Both are an area with
 * tail and head on lines of their own. tail (the producer's) and head (the consumer's) only grow,
 * counted in slots and in bytes.
 *
 * Memory ordering. The producer writes records, then stores tail with release; the consumer loads
 * tail with acquire before it reads them. The consumer stores head with release when it has read;
 * the producer loads head with acquire before it writes there again. Sleeping: the consumer stores
 * waiting, fence, loads tail; the producer stores tail, fence, loads waiting: one sees the other.
 *
 * Why these are fair floors: the areas are mapped before the forks and pre-faulted, lines that one
 * side writes are apart from lines that the other writes, an index of the other side is loaded
 * only when the known one no longer suffices, and everything is inlined into the loop of the load.
 * Slots are 4 MiB: larger than a second-level cache, so that the producer does not wait for lines
 * which the consumer has just read to come back (a ring of 1 MiB was slower by a quarter).
 */
#include "bench/drive.h"

#include "core/base/mem.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    SLOT = 64,
    SLOTS = 1 << 16,      /* of `ring`: 4 MiB */
    BYTES = 4 << 20,      /* of `bytes`: beyond a second-level cache, within the third */
    HEADER = 8,
    PAD = UINT32_MAX,     /* header of what is left at the end */
};

struct area {
    _Alignas(128) _Atomic uint64_t tail;
    _Alignas(128) _Atomic uint64_t head;
    /* The consumer sleeps on this word, or on an eventfd, while it is 1. */
    _Alignas(128) _Atomic uint32_t waiting;
    _Alignas(128) uint8_t data[];
};

STATIC_ASSERT(sizeof(struct area) % 64 == 0, "slots begin with a line");
STATIC_ASSERT((SLOTS & (SLOTS - 1)) == 0, "places are found by masking");
STATIC_ASSERT(BYTES % 16 == 0, "a header always fits before the end");

/* One direction as one side sees it. Private. */
struct view {
    struct area *area; /* shared by both processes */
    uint64_t mine;   /* producer: written up to here; consumer: read up to here */
    uint64_t theirs; /* the other's index when last looked at */
    int eventfd;     /* wakes the consumer of this direction; -1: the futex does */
};

/* 0: child to parent, 1: parent to child. */
struct floor {
    struct view views[2];
    struct view *out; /* the direction this process produces in */
    struct view *in;  /* the one it consumes from */
    bool sleeps;      /* the consumer does when there is nothing; the producer then wakes it */
};

static struct floor *floor_of(struct link *link)
{
    return link->state;
}

/* Inherited by the fork, pre-faulted: a first touch costs 3 us a page here. */
static err_t area_new(size_t bytes, struct area **out)
{
    void *memory = mmap(NULL, sizeof(struct area) + bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    ASSERT(bytes > 0 && bytes % 4096 == 0);
    *out = memory;
    return memory == MAP_FAILED ? err_errno(errno, "mmap") : ERR_OK;
}

/* Two areas, one a direction; LOAD_ADAPT sleeps as LOAD_SLEEP does, a bare ring has no sense. */
static err_t floor_open(struct link *link, size_t bytes, bool eventfds)
{
    struct floor *floor = MEM_NEW(struct floor);
    ASSERT(link->state == NULL);
    link->state = floor;
    floor->sleeps = link->shape->wait != LOAD_SPIN;
    for (int i = 0; i < 2; i++) {
        TRY(area_new(bytes, &floor->views[i].area));
        floor->views[i].eventfd = eventfds ? eventfd(0, EFD_CLOEXEC) : -1;
    }
    return ERR_OK;
}

static void floor_close(struct link *link, size_t bytes)
{
    struct floor *floor = floor_of(link);
    for (int i = 0; i < 2; i++) {
        munmap(floor->views[i].area, sizeof(struct area) + bytes);
        if (floor->views[i].eventfd >= 0) {
            close(floor->views[i].eventfd);
        }
    }
    free(floor);
}

/* After the fork: which of the two directions is out for this process. */
static void floor_join(struct link *link)
{
    struct floor *floor = floor_of(link);
    ASSERT(floor_of(link) != NULL);
    floor->out = &floor->views[link->parent ? 1 : 0];
    floor->in = &floor->views[link->parent ? 0 : 1];
}

/* ---- sleeping -------------------------------------------------------------------------------- */

/* A second at most: then the caller looks whether the run is over. */
static void sleep_futex(struct area *area)
{
    struct timespec limit = {.tv_sec = 1};
    syscall(SYS_futex, &area->waiting, FUTEX_WAIT, 1, &limit, NULL, 0);
}

/* Blocks until rung; a signal ends it too. */
static void sleep_eventfd(int fd)
{
    uint64_t count;
    ASSERT(fd >= 0);
    if (read(fd, &count, sizeof(count)) < 0) {
        ASSERT(errno == EINTR);
    }
}

/* Consumer, having found nothing: sleeps until tail is not seen any more. */
static void wait_for(struct view *in, uint64_t seen)
{
    /* Relaxed: the fence orders it before the load; see the head of this file. */
    atomic_store_explicit(&in->area->waiting, 1, memory_order_relaxed);
    /* Pairs with the fence in wake. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&in->area->tail, memory_order_relaxed) == seen) {
        if (in->eventfd >= 0) {
            sleep_eventfd(in->eventfd);
        } else {
            sleep_futex(in->area);
        }
    }
    /* Relaxed: a wake too many is harmless. */
    atomic_store_explicit(&in->area->waiting, 0, memory_order_relaxed);
}

/* Producer, after it has published: a system call only for a consumer that sleeps. */
static void wake(struct view *out)
{
    /* Pairs with the fence in wait_for. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&out->area->waiting, memory_order_relaxed) == 0) {
        return;
    }
    atomic_store_explicit(&out->area->waiting, 0, memory_order_relaxed);
    if (out->eventfd >= 0) {
        uint64_t one = 1;
        ssize_t written = write(out->eventfd, &one, sizeof(one));
        ASSERT(written == (ssize_t)sizeof(one));
    } else {
        syscall(SYS_futex, &out->area->waiting, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

DRIVE_INLINE void publish(struct link *link)
{
    struct floor *floor = floor_of(link);
    /* Pairs with the acquire in arrived: publishes the records below it. */
    atomic_store_explicit(&floor->out->area->tail, floor->out->mine, memory_order_release);
    if (floor->sleeps) {
        wake(floor->out);
    }
}

/* How far the producer has come; sleeps when there is nothing and the case says so. */
DRIVE_INLINE uint64_t arrived(struct floor *floor)
{
    struct view *in = floor->in;
    /* Pairs with the release in publish. */
    uint64_t tail = atomic_load_explicit(&in->area->tail, memory_order_acquire);
    if (tail == in->mine && floor->sleeps) {
        wait_for(in, tail);
    }
    return tail;
}

/* ---- slots of 64 bytes ----------------------------------------------------------------------- */

static bool ring_fits(const struct load_shape *shape)
{
    return shape->bytes <= SLOT && shape->wait == LOAD_SPIN && !shape->by_reference;
}

static bool ring_sleeps(const struct load_shape *shape)
{
    return shape->bytes <= SLOT && shape->wait != LOAD_SPIN && !shape->by_reference &&
           shape->pattern != LOAD_FLOOD;
}

static err_t ring_open(struct link *link)
{
    return floor_open(link, (size_t)SLOT * SLOTS, false);
}

static err_t ring_open_eventfd(struct link *link)
{
    return floor_open(link, (size_t)SLOT * SLOTS, true);
}

static void ring_close(struct link *link)
{
    floor_close(link, (size_t)SLOT * SLOTS);
}

/* The head is looked at only when the ring seems full: that is what caching the index means. */
DRIVE_INLINE void *ring_reserve(struct link *link)
{
    struct view *out = floor_of(link)->out;
    if (out->mine - out->theirs == SLOTS) {
        /* Pairs with the release in ring_receive. */
        out->theirs = atomic_load_explicit(&out->area->head, memory_order_acquire);
        if (out->mine - out->theirs == SLOTS) {
            return NULL;
        }
    }
    return out->area->data + out->mine % SLOTS * SLOT;
}

DRIVE_INLINE void ring_commit(struct link *link)
{
    floor_of(link)->out->mine++;
}

/* Takes all that is there, then frees it with one store of head. */
DRIVE_INLINE size_t ring_receive(struct link *link, struct load *load)
{
    struct floor *floor = floor_of(link);
    struct view *in = floor->in;
    uint64_t tail = arrived(floor);
    uint64_t from = in->mine;
    ASSERT(tail - from <= SLOTS);
    for (; in->mine != tail && !load->over; in->mine++) {
        load_take(load, in->area->data + in->mine % SLOTS * SLOT);
    }
    if (in->mine != from) {
        /* Pairs with the acquire in ring_reserve: these slots have been read. */
        atomic_store_explicit(&in->area->head, in->mine, memory_order_release);
    }
    return in->mine - from;
}

static err_t ring_run(struct link *link, struct load *load)
{
    floor_join(link);
    drive(link, load, (struct drive){ring_reserve, ring_commit, publish, ring_receive});
    return ERR_OK;
}

const struct link_ops link_ring = {
    .name = "plain ring", .kind = LINK_FLOOR, .fits = ring_fits,
    .open = ring_open, .run = ring_run, .close = ring_close};
const struct link_ops link_ring_futex = {
    .name = "ring and futex", .kind = LINK_FLOOR, .fits = ring_sleeps,
    .open = ring_open, .run = ring_run, .close = ring_close};
const struct link_ops link_ring_eventfd = {
    .name = "ring and eventfd", .kind = LINK_FLOOR, .fits = ring_sleeps,
    .open = ring_open_eventfd, .run = ring_run, .close = ring_close};

/* ---- records of any length ------------------------------------------------------------------- */

static bool bytes_fits(const struct load_shape *shape)
{
    return shape->pattern == LOAD_FLOOD && shape->bytes > SLOT && shape->bytes <= 64 * 1024 &&
           shape->wait == LOAD_SPIN && !shape->by_reference;
}

static err_t bytes_open(struct link *link)
{
    return floor_open(link, BYTES, false);
}

static void bytes_close(struct link *link)
{
    floor_close(link, BYTES);
}

/* What a record of len bytes takes up. */
DRIVE_INLINE uint64_t bytes_span(uint32_t len)
{
    return ((uint64_t)HEADER + len + 15) & ~(uint64_t)15;
}

/* A record that does not fit before the end goes to the start, behind padding. */
DRIVE_INLINE void *bytes_reserve(struct link *link)
{
    struct view *out = floor_of(link)->out;
    uint64_t span = bytes_span(link->shape->bytes);
    uint64_t at = out->mine % BYTES;
    uint64_t skip = at + span > BYTES ? BYTES - at : 0;
    if (out->mine + skip + span - out->theirs > BYTES) {
        /* Pairs with the release in bytes_receive. */
        out->theirs = atomic_load_explicit(&out->area->head, memory_order_acquire);
        if (out->mine + skip + span - out->theirs > BYTES) {
            return NULL;
        }
    }
    if (skip > 0) {
        uint32_t pad = PAD;
        memcpy(out->area->data + at, &pad, sizeof(pad));
        out->mine += skip;
        at = 0;
    }
    return out->area->data + at + HEADER;
}

DRIVE_INLINE void bytes_commit(struct link *link)
{
    struct view *out = floor_of(link)->out;
    uint32_t len = link->shape->bytes;
    memcpy(out->area->data + out->mine % BYTES, &len, sizeof(len));
    out->mine += bytes_span(len);
}

/* As ring_receive, record by record; believes every header it reads, as a floor may. */
DRIVE_INLINE size_t bytes_receive(struct link *link, struct load *load)
{
    struct floor *floor = floor_of(link);
    struct view *in = floor->in;
    uint64_t tail = arrived(floor);
    uint64_t from = in->mine;
    size_t taken = 0;
    while (in->mine < tail && !load->over) {
        uint64_t at = in->mine % BYTES;
        uint32_t len;
        memcpy(&len, in->area->data + at, sizeof(len));
        if (len == PAD) {
            in->mine += BYTES - at;
            continue;
        }
        load_take(load, in->area->data + at + HEADER);
        in->mine += bytes_span(len);
        taken++;
    }
    if (in->mine != from) {
        /* Pairs with the acquire in bytes_reserve: these records have been read. */
        atomic_store_explicit(&in->area->head, in->mine, memory_order_release);
    }
    return taken;
}

static err_t bytes_run(struct link *link, struct load *load)
{
    floor_join(link);
    drive(link, load, (struct drive){bytes_reserve, bytes_commit, publish, bytes_receive});
    return ERR_OK;
}

const struct link_ops link_bytes = {
    .name = "plain byte ring", .kind = LINK_FLOOR, .fits = bytes_fits,
    .open = bytes_open, .run = bytes_run, .close = bytes_close};
