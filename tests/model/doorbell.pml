/*
 * Sleep and wake over a lane (shm_arm and shm_disarm in ring/shm/lanes.c, shm_flush_end in
 * ring/shm/produce.c).
 *
 * Both sides store what they have (tail, head) and look whether the other sleeps, at once and
 * without a fence, which may miss one that is just falling asleep; at the end of the turn, some
 * stores later and before any sleep of their own, they fence and look again. Where the ring is full
 * the producer says that it is blocked and sleeps as well; an acknowledgement rings only who is. Each shared word has one writer; a store is the writer's own first (own_x) and
 * reaches memory (x) at any later moment, unless a fence waits for it. `sleeping` is odd in a sleep
 * and grows, so that one sleep is rung for once (`rung_for`).
 *
 * The bell is a word `rung` which the ringing side changes, an atomic operation, and then asks the
 * kernel to wake who waits for it: two steps. The sleeper reads the word first (`armed`); the kernel
 * lets it sleep only if the word still is what it read, under the lock that waking takes as well.
 *
 * Claim. Nobody sleeps for ever: every state in which nothing more can happen is one where all
 * messages have arrived.
 *
 * Searched with two messages each time; once with four (134 million states).
 *
 * Broken on purpose, each must be found: NO_ARM_FENCE, NO_WAKE_FENCE, NO_ACK_FENCE (a fence left
 * out), NO_SECOND_LOOK (only the first one, without a fence), NO_PARITY (a ring is remembered for ever instead of per sleep), LATE_WORD (the word is read
 * after the last look), SAME_WORD (the kernel is asked to wake, the word stays), NOT_BLOCKED (the
 * producer does not say that it waits), BLOCKED_LATE (it says so after the fence).
 */
#ifndef MESSAGES
#define MESSAGES 2
#endif
#define RING 1

#define P 0 /* the producer */
#define C 1 /* the consumer */

byte tail, own_tail;             /* P writes */
byte head, own_head;             /* C writes */
byte sleeping[2], own_sleeping[2];
bit blocked, own_blocked;        /* P writes */
byte rung[2];                    /* i's bell: the other side writes */
byte armed[2];                   /* private: what i read there */
bit told[2];                     /* private: i has stored something since its last fence */
bool waiting[2];                 /* i is in the kernel's queue */
byte rung_for[2];                /* private: the sleep that i rang its peer for last */
byte taken;

/* All that i has stored is in memory. */
#define flushed(i) (own_sleeping[i] == sleeping[i] && \
    (i == P -> (own_tail == tail && own_blocked == blocked) : own_head == head))

active proctype memory()
{
end:
    do
    :: tail != own_tail -> tail = own_tail
    :: head != own_head -> head = own_head
    :: blocked != own_blocked -> blocked = own_blocked
    :: sleeping[P] != own_sleeping[P] -> sleeping[P] = own_sleeping[P]
    :: sleeping[C] != own_sleeping[C] -> sleeping[C] = own_sleeping[C]
    od
}

/* i rings j if j sleeps and was not rung for this sleep. */
inline ring_if_asleep(i, j, s)
{
    s = sleeping[j];
    if
#ifdef NO_PARITY
    :: s % 2 == 1 && rung_for[i] == 0 ->
        rung_for[i] = 1;
#else
    :: s % 2 == 1 && s != rung_for[i] ->
        rung_for[i] = s;
#endif
#ifndef SAME_WORD
        rung[j] = rung[j] + 1;
#endif
        waiting[j] = false
    :: else
    fi;
    s = 0
}

inline sleep(i)
{
#ifdef LATE_WORD
    armed[i] = rung[i];
#endif
    waiting[i] = (rung[i] == armed[i]); /* one step: the kernel's lock */
    !waiting[i]
}

inline arm(i)
{
#ifndef LATE_WORD
    armed[i] = rung[i];
#endif
    own_sleeping[i] = own_sleeping[i] + 1;
#ifndef NO_ARM_FENCE
    flushed(i)
#endif
}

inline disarm(i)
{
    own_sleeping[i] = own_sleeping[i] + 1
}

/* The acknowledgement rings only a producer that waits for it. */
inline ring_if_blocked(s)
{
    s = sleeping[P];
    if
    :: s % 2 == 1 ->
        if
        :: blocked -> ring_if_asleep(C, P, s)
        :: else
        fi
    :: else
    fi
}

active proctype producer()
{
    byte s;
    do
    :: own_tail < MESSAGES && own_tail - head < RING -> /* shm_flush */
        own_tail++;
        told[P] = 1;
        ring_if_asleep(P, C, s)
    :: told[P] -> /* shm_flush_end */
#ifndef NO_SECOND_LOOK
#ifndef NO_WAKE_FENCE
        flushed(P);
#endif
        ring_if_asleep(P, C, s);
#endif
        told[P] = 0
    :: own_tail == MESSAGES && !told[P] -> break
    :: own_tail < MESSAGES && own_tail - head >= RING && !told[P] ->
#if !defined(NOT_BLOCKED) && !defined(BLOCKED_LATE)
        own_blocked = 1;
#endif
        arm(P);
#ifdef BLOCKED_LATE
        own_blocked = 1;
#endif
        if
        :: own_tail - head < RING -> skip
        :: else -> sleep(P)
        fi;
        disarm(P);
        own_blocked = 0
    od
}

active proctype consumer()
{
    byte s, seen;
    do
    :: taken == MESSAGES && !told[C] -> break
    :: taken < MESSAGES || told[C] ->
        seen = tail;
        if
        :: seen != taken ->
            taken = seen;
            own_head = taken;
            told[C] = 1;
            ring_if_blocked(s)
        :: told[C] ->
#ifndef NO_ACK_FENCE
            flushed(C);
#endif
            ring_if_blocked(s);
            told[C] = 0
        :: seen == taken && !told[C] ->
            arm(C);
            if
            :: tail != taken -> skip
            :: else -> sleep(C)
            fi;
            disarm(C)
        fi
    od
}
