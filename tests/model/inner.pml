/*
 * Lanes between workers of one process (ring/exchange/inner.c): what they do otherwise than those in
 * shared memory (lane.pml, doorbell.pml). Several senders wake the same receiver by one task of its
 * loop, which must not be posted twice (`belled`); and a message of a generation that does not stand
 * at the receiver yet waits in its lane (`ahead`) without keeping the receiver awake.
 *
 * Two senders with a lane each, of one line, to one receiver. Each shared word has one writer; a
 * store is the writer's own first (own_x) and reaches memory (x) at any later moment, unless a fence
 * waits for it. The exchange on belled acts on memory. A loop sleeps until one of its tasks is
 * queued, and marks a task as not queued before it runs it: that is io_post, taken as given.
 *
 * Claims. Every message is taken once, in its lane's order, when its generation stands; a line is
 * not filled again before its message was taken; no task is posted while it is queued; nobody
 * sleeps for ever.
 *
 * Broken on purpose, each must be found: NO_ARM_FENCE, NO_WAKE_FENCE, NO_ACK_FENCE (a fence left
 * out), NO_BELL (whoever sees a sleeper posts), BELL_KEPT (the bell counts as posted until the
 * sleeper has looked again and slept), NOT_BLOCKED (a sender does not say that it waits),
 * RUNG (whoever has rung for a sleep does not ring for it again), AHEAD_KEPT (the generation stands, and the lane is not looked at again), EARLY_HEAD (the line is
 * given back before it is read).
 */
#define MESSAGES(i) (2 - i) /* the first sender fills its lane, the second only comes between */
#define RING 1
#ifdef RUNG
#define ASLEEP(x) (x + 1) /* counted, so that one sleep is told from the next */
#define AWAKE(x) (x + 1)
#else
#define ASLEEP(x) 1
#define AWAKE(x) 0
#endif
#define R 2 /* the receiver; 0 and 1 are the senders */

byte tail[2], own_tail[2];   /* sender: lines published */
byte head[2], own_head[2];   /* receiver: lines taken */
byte sleeping[3], own_sleeping[3];
bit blocked[2], own_blocked[2];
bit belled[3];
bit unbelling[3];            /* the owner's store of 0 is on its way to belled */
bool queued[3];              /* the bell, in its loop */
bool mail;                   /* formed, in the receiver's loop */
bool formed;
bit ahead[2];                /* the receiver's */
byte line[2];                /* what the one line of each lane says */
byte taken[2];
#ifdef RUNG
byte rung_for[6];            /* 0, 1: that sender for R; 4, 5: R for that sender */
#endif

#define sender_flushed(i) (own_tail[i] == tail[i] && own_blocked[i] == blocked[i] && \
    own_sleeping[i] == sleeping[i] && !unbelling[i])
#define receiver_flushed (own_head[0] == head[0] && own_head[1] == head[1] && \
    own_sleeping[R] == sleeping[R] && !unbelling[R])

active proctype memory()
{
end:
    do
    :: tail[0] != own_tail[0] -> tail[0] = own_tail[0]
    :: tail[1] != own_tail[1] -> tail[1] = own_tail[1]
    :: head[0] != own_head[0] -> head[0] = own_head[0]
    :: head[1] != own_head[1] -> head[1] = own_head[1]
    :: blocked[0] != own_blocked[0] -> blocked[0] = own_blocked[0]
    :: blocked[1] != own_blocked[1] -> blocked[1] = own_blocked[1]
    :: sleeping[0] != own_sleeping[0] -> sleeping[0] = own_sleeping[0]
    :: sleeping[1] != own_sleeping[1] -> sleeping[1] = own_sleeping[1]
    :: sleeping[R] != own_sleeping[R] -> sleeping[R] = own_sleeping[R]
    :: unbelling[0] -> atomic { belled[0] = 0; unbelling[0] = 0 }
    :: unbelling[1] -> atomic { belled[1] = 0; unbelling[1] = 0 }
    :: unbelling[R] -> atomic { belled[R] = 0; unbelling[R] = 0 }
    od
}

inline post(j)
{
    atomic { assert(!queued[j]); queued[j] = true }
}

/* If j sleeps. */
inline ring_if_asleep(j, at, s, was)
{
    s = sleeping[j];
    if
#ifdef RUNG
    :: s % 2 == 1 && s != rung_for[at] ->
        rung_for[at] = s;
#else
    :: s % 2 == 1 ->
#endif
#ifdef NO_BELL
        post(j)
#else
        atomic { was = belled[j]; belled[j] = 1 };
        if
        :: was == 0 -> post(j)
        :: else
        fi;
        was = 0
#endif
    :: else
    fi;
    s = 0
}

/* The loop runs the bell, if that is what ended the sleep. */
inline run_bell(i)
{
    if
    :: queued[i] ->
        queued[i] = false;
#ifndef BELL_KEPT
        unbelling[i] = 1
#endif
    :: else
    fi
}

inline disarm(i)
{
    own_sleeping[i] = AWAKE(own_sleeping[i])
}

proctype sender(byte me)
{
    byte s, sent;
    bit was;
    do
    :: sent == MESSAGES(me) -> break
    :: sent < MESSAGES(me) && sent - head[me] < RING ->
        assert(taken[me] == sent); /* the line is free */
        line[me] = sent + 1;
        sent++;
        own_tail[me] = sent;
#ifndef NO_WAKE_FENCE
        sender_flushed(me);
#endif
        ring_if_asleep(R, me, s, was)
    :: sent < MESSAGES(me) && sent - head[me] >= RING ->
#ifndef NOT_BLOCKED
        own_blocked[me] = 1;
#endif
        own_sleeping[me] = ASLEEP(own_sleeping[me]);
#ifndef NO_ARM_FENCE
        sender_flushed(me);
#endif
        if
        :: sent - head[me] < RING -> skip
        :: else ->
            queued[me];
            run_bell(me)
        fi;
#ifdef BELL_KEPT
        unbelling[me] = 1;
#endif
        disarm(me);
        own_blocked[me] = 0
    od
}

/* The generation comes to stand at any moment. */
active proctype net()
{
    mail = true
}

inline take(s)
{
    if
    :: !ahead[s] && tail[s] != own_head[s] ->
        if
        :: !formed -> ahead[s] = 1
        :: else ->
#ifdef EARLY_HEAD
            own_head[s] = own_head[s] + 1;
#endif
            assert(line[s] == taken[s] + 1);
            taken[s] = taken[s] + 1;
#ifndef EARLY_HEAD
            own_head[s] = own_head[s] + 1;
#endif
            acked[s] = 1;
            any = true
        fi
    :: else
    fi
}

active proctype receiver()
{
    byte s;
    bit was;
    bool any;
    bit acked[2];
    do
    :: taken[0] == MESSAGES(0) && taken[1] == MESSAGES(1) -> break
    :: else ->
        if
        :: mail ->
            mail = false;
            formed = true;
#ifndef AHEAD_KEPT
            ahead[0] = 0;
            ahead[1] = 0
#endif
        :: else
        fi;
        any = false;
        take(0);
        take(1);
        if
        :: any ->
#ifndef NO_ACK_FENCE
            receiver_flushed;
#endif
            if
            :: acked[0] && blocked[0] -> ring_if_asleep(0, 4, s, was)
            :: else
            fi;
            if
            :: acked[1] && blocked[1] -> ring_if_asleep(1, 5, s, was)
            :: else
            fi;
            acked[0] = 0;
            acked[1] = 0
        :: else ->
            own_sleeping[R] = ASLEEP(own_sleeping[R]);
#ifndef NO_ARM_FENCE
            receiver_flushed;
#endif
            if
            :: (!ahead[0] && tail[0] != own_head[0]) || (!ahead[1] && tail[1] != own_head[1]) ->
                skip
            :: else ->
                queued[R] || mail; /* the loop's own look at its tasks is in this one step */
                run_bell(R)
            fi;
#ifdef BELL_KEPT
            unbelling[R] = 1;
#endif
            disarm(R)
        fi
    od
}

init
{
    atomic { run sender(0); run sender(1) }
}
