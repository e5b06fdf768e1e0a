/*
 * Sleep and wake over a lane (shm_arm, shm_disarm, wake_peer, take_lane in ring/shm/lanes.c).
 *
 * The producer publishes and rings the consumer's bell if that sleeps; where the ring is full it
 * says that it is blocked, sleeps itself, and the consumer rings it after acknowledging. Each
 * shared word has one writer; a store is the writer's own first (own_x) and reaches memory (x) at
 * any later moment, unless a fence waits for it. `sleeping` is odd in a sleep and grows, so that one
 * sleep is rung for once (`rung`).
 *
 * Claim. Nobody sleeps for ever: every state in which nothing more can happen is one where all
 * messages have arrived.
 *
 * Broken on purpose, each must be found: NO_ARM_FENCE, NO_WAKE_FENCE, NO_ACK_FENCE (a fence left
 * out), NO_PARITY (a ring is remembered for ever instead of per sleep).
 */
#ifndef MESSAGES
#define MESSAGES 4
#endif
#define RING 1

#define P 0 /* the producer */
#define C 1 /* the consumer */

byte tail, own_tail;             /* P writes */
byte head, own_head;             /* C writes */
byte sleeping[2], own_sleeping[2];
bit blocked, own_blocked;        /* P writes */
byte bell[2];                    /* eventfds: system calls, seen at once */
byte rung[2];                    /* private: the sleep that i rang its peer for last */
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
    :: s % 2 == 1 && rung[i] == 0 ->
        rung[i] = 1;
#else
    :: s % 2 == 1 && s != rung[i] ->
        rung[i] = s;
#endif
        bell[j] = 1
    :: else
    fi
}

inline sleep(i)
{
    atomic { bell[i] > 0 -> bell[i] = 0 }
}

inline disarm(i)
{
    own_sleeping[i] = own_sleeping[i] + 1
}

active proctype producer()
{
    byte s;
    do
    :: own_tail < MESSAGES && own_tail - head < RING ->
        own_tail++;
#ifndef NO_WAKE_FENCE
        flushed(P);
#endif
        ring_if_asleep(P, C, s)
    :: own_tail == MESSAGES -> break
    :: own_tail < MESSAGES && own_tail - head >= RING ->
        own_blocked = 1;
        own_sleeping[P] = own_sleeping[P] + 1;
#ifndef NO_ARM_FENCE
        flushed(P);
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
    :: taken == MESSAGES -> break
    :: taken < MESSAGES ->
        seen = tail;
        if
        :: seen != taken ->
            taken = seen;
            own_head = taken;
#ifndef NO_ACK_FENCE
            flushed(C);
#endif
            if
            :: blocked -> ring_if_asleep(C, P, s)
            :: else
            fi
        :: else ->
            own_sleeping[C] = own_sleeping[C] + 1;
#ifndef NO_ARM_FENCE
            flushed(C);
#endif
            if
            :: tail != taken -> skip
            :: else -> sleep(C)
            fi;
            disarm(C)
        fi
    od
}
