/*
 * The loop of a link that is polled: both sides of every pattern, from four functions of the link.
 * Inlined into each link together with them, so a floor pays no indirect call.
 *
 * Who drives what. A parent leaves the loop when load_take has set over; a child never does: it is
 * killed. Either stops when link_interrupted is set, which is why every loop here looks at it, and
 * why a link's blocking calls must come back on EINTR.
 */
#ifndef TAILRACE_BENCH_DRIVE_H
#define TAILRACE_BENCH_DRIVE_H

#include "bench/link.h"

struct drive {
    /* Room for the next message of shape->bytes, 8-byte aligned; NULL: none now. */
    void *(*reserve)(struct link *link);
    void (*commit)(struct link *link);
    /* Makes what was committed visible, wakes who sleeps. */
    void (*flush)(struct link *link);
    /* Gives what is there to load_take; returns how many. Sleeps for it when the shape says so,
     * but 0 is always allowed. */
    size_t (*receive)(struct link *link, struct load *load);
};

#define DRIVE_INLINE static inline __attribute__((always_inline))

DRIVE_INLINE bool drive_stopped(const struct load *load)
{
    return load->over || link_interrupted;
}

/* Waits for room by spinning, having flushed: or the other side might never make any. */
DRIVE_INLINE void drive_send(struct link *link, struct load *load, const struct drive d)
{
    void *data = d.reserve(link);
    while (data == NULL && !drive_stopped(load)) {
        d.flush(link);
        machine_relax();
        data = d.reserve(link);
    }
    if (data != NULL) {
        load_fill(load, data);
        d.commit(link);
    }
}

/* The parent: one message is under way at a time. */
DRIVE_INLINE void drive_ping(struct link *link, struct load *load, const struct drive d)
{
    while (!drive_stopped(load)) {
        load->sent_ns = machine_now_ns();
        drive_send(link, load, d);
        d.flush(link);
        while (load->received < load->sent && !drive_stopped(load)) {
            d.receive(link, load);
        }
    }
}

/* The child: as many back as came. */
DRIVE_INLINE void drive_pong(struct link *link, struct load *load, const struct drive d)
{
    while (!drive_stopped(load)) {
        d.receive(link, load);
        while (load->sent < load->received && !drive_stopped(load)) {
            drive_send(link, load, d);
            d.flush(link);
        }
    }
}

/* Spins until the next due time. When it is late it sends at once, as often as it must to catch
 * up: times that passed are not forgotten. */
DRIVE_INLINE void drive_paced(struct link *link, struct load *load, const struct drive d)
{
    while (!drive_stopped(load)) {
        if (!load_due(load, machine_now_ns())) {
            machine_relax();
            continue;
        }
        drive_send(link, load, d);
        d.flush(link);
        load->due_ns += load->shape->interval_ns;
    }
}

/* Never looks at the clock: the parent says when it is over, by the kill. */
DRIVE_INLINE void drive_flood(struct link *link, struct load *load, const struct drive d)
{
    uint32_t batch = load->shape->batch;
    while (!drive_stopped(load)) {
        for (uint32_t i = 0; i < batch; i++) {
            drive_send(link, load, d);
        }
        d.flush(link);
    }
}

/* Both sides of all patterns; the compiler keeps what a link can reach. */
DRIVE_INLINE void drive(struct link *link, struct load *load, const struct drive d)
{
    if (load_sends(load)) {
        switch (load->shape->pattern) {
        case LOAD_PING: drive_ping(link, load, d); return;
        case LOAD_PACED: drive_paced(link, load, d); return;
        case LOAD_FLOOD: drive_flood(link, load, d); return;
        case LOAD_KILL: break; /* only where a death is noticed: our carriers */
        }
        UNREACHABLE();
    }
    if (load->shape->pattern == LOAD_PING) {
        drive_pong(link, load, d);
        return;
    }
    while (!drive_stopped(load)) {
        d.receive(link, load);
    }
}

#endif
