/*
 * One side of a transport case: what to send when, and what was measured. The same load drives our
 * carriers, the bare floors and the peers, so they are compared doing the same work.
 *
 * A case has two processes. The parent measures, the child only works and is killed at the end:
 *
 *   PING    parent sends one message, the child sends it back; the parent times the round trip.
 *   PACED   the child sends one message at each due time, whether or not the last has arrived
 *           (an open loop); the parent counts latency from when it was DUE, so a stall is seen by
 *           every message it delayed (no coordinated omission).
 *   FLOOD   the child sends as fast as it is let, flushing after each batch; the parent counts.
 *   KILL    a flood, amid which the parent kills the child and looks at the clock until it has
 *           noticed and has freed everything.
 *
 * Every byte is written by the sender and read by the receiver: word 0 is the message's number,
 * word 1 the due time, word i (from 2 on) number + i, and the receiver adds them up. One lost,
 * doubled or torn is seen, and no mechanism is faster by not touching what it moves. (BY_REFERENCE
 * is the exception that measures just that: the block is built once, the message says which.)
 *
 * One thread each; nothing here is shared between the processes.
 */
#ifndef TAILRACE_BENCH_LOAD_H
#define TAILRACE_BENCH_LOAD_H

#include "bench/hist.h"
#include "bench/machine.h"
#include "core/base/assert.h"

#include <stdbool.h>
#include <sys/types.h>

enum load_pattern { LOAD_PING, LOAD_PACED, LOAD_FLOOD, LOAD_KILL };
/* How the receiver waits: never sleeps; sleeps at once; as the mechanism's own sense tells it. */
enum load_wait { LOAD_SPIN, LOAD_SLEEP, LOAD_ADAPT };

enum { LOAD_BYTES_MIN = 16, LOAD_BYTES_MAX = 1 << 20, LOAD_WARM_UP_SHARE = 5,
       LOAD_VICTIMS_MAX = 8 };

struct load_shape {
    enum load_pattern pattern;
    enum load_wait wait;
    bool by_reference;
    bool anywhere;  /* the processes are not pinned: the kernel chooses, perhaps one CPU for both */
    uint32_t bytes; /* of a message; a multiple of 16 */
    uint32_t batch; /* FLOOD: messages between two flushes */
    bool records;   /* FLOOD: the batch is one message, in which they lie one after the other */
    uint64_t interval_ns; /* PACED: between two due times */
    uint64_t run_ns;      /* measured; a fifth of it goes before as warm-up */
    uint32_t subscribers; /* link_many: subscriptions that are fed */
    uint32_t idle;        /* link_many: subscriptions beside them that never are */
    uint32_t readers;     /* link_many: further processes with as many subscriptions */
    uint32_t victims;     /* link_many: processes that hold blocks and are killed one by one */
    uint32_t arena_mib;   /* link_many: the server's memory for blocks; 0: as it comes */
    uint32_t ballast_mib; /* KILL: memory the child holds, touched */
};

/* What the parent measured between the end of the warm-up and the end of the run. */
struct load_figures {
    struct hist hist; /* PING: round trips; PACED: latencies */
    uint64_t messages;
    uint64_t lost; /* skipped sequence numbers */
    uint64_t ns;
    uint64_t cpu_ns; /* of both processes, and of the broker between them */
    uint64_t child_cpu_ns;
    uint64_t shared_bytes;  /* resident in the child at the end, */
    uint64_t private_bytes; /* and what only it has */
    uint64_t notice_ns;     /* KILL: after so long the session was known to be over, */
    uint64_t reclaim_ns;    /* and its memory given back */
    uint64_t gap_quiet_ns;  /* link_many: longest gap between deliveries, median of windows, */
    uint64_t gap_kill_ns;   /* and in windows that begin with the death of a victim, */
    uint64_t held_bytes;    /* which together held so much */
};

struct load {
    const struct load_shape *shape;
    bool parent;
    uint64_t sent;     /* messages; the next one's number */
    uint64_t received; /* the number expected next */
    uint64_t base_sum; /* of the words' offsets in a message */
    uint64_t sent_ns;  /* PING: when the last one was */
    uint64_t due_ns;   /* PACED: when the next one is */
    uint64_t limit;      /* the whole run is so many messages; 0: as long as run_ns says */
    uint64_t count_mask; /* FLOOD: messages between two looks at the clock, minus 1 */
    /* The parent's: */
    pid_t others[2];  /* whose CPU time counts: the child, and a broker or 0 */
    uint64_t begin_ns; /* of what is measured; 0: no message was there yet */
    uint64_t end_ns;
    uint64_t cpu_begin_ns;
    uint64_t child_cpu_begin_ns;
    uint64_t killed_ns; /* KILL: when it was; 0: not yet */
    uint64_t received_begin; /* number of the first message counted */
    bool counting;
    bool over; /* stop: enough was measured, or something is wrong */
    bool torn; /* a message's bytes were not those sent */
    struct load_figures *figures;
};

void load_init(struct load *load, const struct load_shape *shape, bool parent,
               struct load_figures *figures);
/* The slow part of load_take: begins and ends the counting. now: machine_now_ns. */
void load_clock(struct load *load, uint64_t now);

/* Does this side begin (send unasked)? */
static inline bool load_sends(const struct load *load)
{
    return load->parent == (load->shape->pattern == LOAD_PING);
}

/* Two words: what every x86-64 and ARMv8 moves in one instruction. Messages lie at 8 bytes, their
 * second parts at 4. */
typedef uint64_t load_pair __attribute__((vector_size(16), aligned(4), may_alias));

STATIC_ASSERT(LOAD_BYTES_MIN >= sizeof(load_pair), "number and due time are in every message");
STATIC_ASSERT(LOAD_BYTES_MAX % sizeof(load_pair) == 0, "messages are whole pairs");

/* Writes the next message's bytes, the first `pairs` pairs of them at data, the others at rest. */
static inline __attribute__((always_inline)) void load_fill_two(struct load *load, void *data,
                                                                size_t pairs, void *rest)
{
    load_pair *pair = data;
    load_pair *more = rest;
    size_t all = load->shape->bytes / sizeof(*pair);
    uint64_t seq = load->sent++;
    load_pair word = {seq + 2, seq + 3};
    pair[0] = (load_pair){seq, load->due_ns};
    for (size_t i = 1; i < pairs; i++) {
        pair[i] = word;
        word += (load_pair){2, 2};
    }
    for (size_t i = pairs; i < all; i++) {
        *more++ = word;
        word += (load_pair){2, 2};
    }
}

/* Writes the next message's bytes. */
static inline __attribute__((always_inline)) void load_fill(struct load *load, void *data)
{
    load_fill_two(load, data, load->shape->bytes / sizeof(load_pair), NULL);
}

/* Is it time to send one more in PACED? The due times go on whether or not anybody keeps up. */
static inline bool load_due(struct load *load, uint64_t now)
{
    if (load->due_ns == 0) {
        load->due_ns = now;
    }
    return now >= load->due_ns;
}

static inline __attribute__((always_inline)) bool load_intact(const struct load *load,
                                                              const void *data)
{
    const load_pair *pair = data;
    size_t pairs = load->shape->bytes / sizeof(*pair);
    load_pair sum = {0, 0};
    for (size_t i = 1; i < pairs; i++) {
        sum += pair[i];
    }
    return sum[0] + sum[1] == pair[0][0] * (pairs - 1) * 2 + load->base_sum;
}

/* Takes a received message of shape->bytes, 8-byte aligned. */
static inline __attribute__((always_inline)) void load_take(struct load *load, const void *data)
{
    const uint64_t *word = data;
    uint64_t seq = word[0];
    bool intact = load->shape->by_reference || load_intact(load, data);
    if (seq != load->received || !intact) {
        load->torn |= seq < load->received || !intact;
        load->figures->lost += seq > load->received ? seq - load->received : 0;
    }
    load->received = seq + 1;
    if (!load->parent) {
        return;
    }
    if (load->limit != 0) {
        if (load->received == load->limit) {
            load->over = true;
        }
        return;
    }
    if (load->shape->pattern >= LOAD_FLOOD) {
        if ((load->received & load->count_mask) == 0) {
            load_clock(load, machine_now_ns());
        }
        return;
    }
    uint64_t now = machine_now_ns();
    uint64_t since = load->shape->pattern == LOAD_PING ? load->sent_ns : word[1];
    hist_add(&load->figures->hist, now > since ? now - since : 0);
    load_clock(load, now);
}

#endif
