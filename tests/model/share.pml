/*
 * Shared blocks (arena.c, lag.c, linger.c and the claims of take.c in ring/shm): a block is built
 * once and sent to two readers, each with a lane of its own. It is free when every reader has
 * acknowledged it, or lost it: what a reader that lags has not claimed is taken back from it. A
 * reader may be killed between any two steps, and so may the producer; the producer may end a
 * session at any time, and then keeps what the reader has claimed until that says it is done, or is
 * proved dead. Reader 0 may lag, and its session end; reader 1 shares its blocks, keeps up or dies.
 *
 * Memory. claim and voided are the writer's own first (own_x) and reach memory (x) at any later
 * moment; a fence waits for that. Tails, heads and blocks reach memory at once: lane.pml is about
 * their order, and a head that is late is a reader that is slow.
 *
 * Claims. A reader that begins a block reads all of it, and it is the message that was sent, however
 * long it takes. Every message is read or lost, once, in order. When nothing more can happen no
 * reference is left.
 *
 * Broken on purpose, each must be found: NO_VOID_FENCE, NO_CLAIM_FENCE (a fence left out),
 * CLAIM_IGNORED (claimed blocks are taken back as well), CLAIM_LATE (claimed after looking at
 * voided), NO_PROOF (the end of the session gives back what is claimed).
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#define READERS 2
#define BLOCKS 2
#define BURST 2   /* messages claimed at a time */
#define ALL 255

byte block_low[BLOCKS], block_high[BLOCKS];
byte named[MESSAGES];             /* the descriptors: rings are as long as the run */
byte tail;
byte head[READERS];
byte claim, own_claim;            /* reader 0's */
byte voided, own_voided;          /* what it is told */

/* The producer's private books. */
byte refs[BLOCKS];
byte acked[READERS];
bool gone[6];                     /* [reader * MESSAGES + message]: not held, or no more */
bool over[READERS];               /* the session was ended */

bool dead[READERS], finished[READERS], producer_dead;
byte taken[READERS];

#define GONE(r, m) gone[(r) * MESSAGES + (m)]

inline drop(r, m)
{
    assert(!GONE(r, m));
    GONE(r, m) = true;
    assert(refs[named[m]] > 0);
    refs[named[m]]--
}

active proctype memory()
{
end:
    do
    :: claim != own_claim -> claim = own_claim
    :: voided != own_voided -> voided = own_voided
    od
}

/* Nothing below upto may be begun: what the reader has not claimed comes back. */
inline void_below(upto, c, m)
{
    own_voided = upto;
#ifndef NO_VOID_FENCE
    voided == own_voided;
#endif
    atomic {
        c = claim;
#ifdef CLAIM_IGNORED
        c = 0;
#endif
        for (m : 0 .. MESSAGES - 1) {
            if
            :: m < tail && m >= acked[0] && m >= c && !GONE(0, m) -> drop(0, m)
            :: else
            fi
        }
        c = 0;
        m = 0
    }
}

inline take_acks(r)
{
    do
    :: acked[r] < head[r] ->
        if
        :: !GONE(r, acked[r]) -> drop(r, acked[r])
        :: else
        fi;
        acked[r]++
    :: else -> break
    od
}

/* All that is still held of a reader that reads no more. */
inline reclaim(r, m)
{
    for (m : 0 .. MESSAGES - 1) {
        if
        :: m < tail && !GONE(r, m) -> drop(r, m)
        :: else
        fi
    }
    m = 0;
    acked[r] = tail
}

/* The message that comes goes to every reader whose session stands. */
inline share(b)
{
    atomic {
        block_low[b] = tail + 1;
        block_high[b] = tail + 1;
        named[tail] = b;
        GONE(0, tail) = over[0];
        GONE(1, tail) = over[1];
        refs[b] = (over[0] -> 0 : 1) + (over[1] -> 0 : 1);
        tail++
    }
}

#define settled(r) (over[r] || acked[r] == tail)
#define free(b) (refs[b] == 0)

active proctype producer()
{
    byte m, c;
    do
    :: producer_dead -> break
    :: tail == MESSAGES && settled(0) && settled(1) && free(0) && free(1) -> break
    :: over[0] && over[1] && free(0) && free(1) -> break
    :: tail < MESSAGES && free(0) && !(over[0] && over[1]) -> share(0)
    :: tail < MESSAGES && free(1) && !(over[0] && over[1]) -> share(1)
    :: head[0] != acked[0] && !over[0] -> atomic { take_acks(0) }
    :: head[1] != acked[1] && !over[1] -> atomic { take_acks(1) }
    :: !over[0] && tail > acked[0] && own_voided < tail -> /* it lags */
        void_below(tail, c, m)
    :: !over[0] && tail > 0 -> /* the session ends: for any reason, or because the reader died */
        over[0] = true;
        void_below(ALL, c, m);
#ifndef NO_PROOF
        if
        :: dead[0] || finished[0]
        :: producer_dead -> break
        fi;
#endif
        atomic { reclaim(0, m) }
    :: !over[1] && dead[1] ->
        over[1] = true;
        atomic { reclaim(1, m) }
    od
}

inline take_claim(claimed, v)
{
#ifdef CLAIM_LATE
    v = voided;
#endif
    claimed = (taken[0] + BURST < tail -> taken[0] + BURST : tail);
    own_claim = claimed;
#ifndef NO_CLAIM_FENCE
    claim == own_claim;
#endif
#ifndef CLAIM_LATE
    v = voided
#endif
}

proctype reader(byte r)
{
    byte b, v, claimed;
    do
    :: dead[r] -> break
    :: taken[r] == MESSAGES -> break
    :: producer_dead && taken[r] == tail -> break
    :: r == 0 && voided == ALL && taken[r] == tail -> break
    :: taken[r] < tail && !dead[r] ->
        if
        :: r == 0 && taken[r] >= claimed -> take_claim(claimed, v)
        :: else
        fi;
        if
        :: v == ALL -> break /* the session is over */
        :: v != ALL && taken[r] < v -> skip /* lost */
        :: else ->
            b = named[taken[r]];
            assert(dead[r] || block_low[b] == taken[r] + 1);
            assert(dead[r] || block_high[b] == taken[r] + 1)
        fi;
        atomic { taken[r]++; head[r] = taken[r]; b = 0 }
    od;
    finished[r] = true
}

active proctype killer()
{
end:
    if
    :: dead[0] = true
    :: dead[1] = true
    :: producer_dead = true
    :: skip
    fi
}

init
{
    atomic {
        run reader(0);
        run reader(1)
    }
end:
    timeout -> assert(producer_dead || (refs[0] == 0 && refs[1] == 0))
}
