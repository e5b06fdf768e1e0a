/*
 * A lane in shared memory (produce.c and take.c in ring/shm): one producer, one consumer, a ring of
 * lines, an arena of blocks that come back in any order. A message lies in one line, in two, or in
 * a block that a line names. Lines are filled one after the other and published together. Either
 * side may be killed between any two steps.
 *
 * Memory. A store is first the writer's own and reaches memory later. Plain stores (lines, the two
 * halves of a block) get there in any order; a tail, which is a release store, when everything
 * written before it has. Loads happen in program order, which is what the acquire loads of tail and
 * head ask for.
 *
 * Claims. The consumer takes messages 1, 2, 3 ... each once, whole, also after the producer was
 * killed: whatever tail says is there is there, and tail never parts a message. The producer never
 * has two messages in one block.
 *
 * Broken on purpose, each must be found: PLAIN_TAIL (tail without release), EARLY_HEAD (head stored
 * before the message was read), NO_ROOM (the ring overwrites what was not acknowledged), HALF_ROOM
 * (a message of two lines asks for room for one), MID_TAIL (published between two lines of one).
 */
#ifndef MESSAGES
#define MESSAGES 6
#endif
#define RING 4
#define BLOCKS 2

#define INLINE_ONE(n) ((n) % 4 == 1)
#define INLINE_TWO(n) ((n) % 4 == 3 || (n) % 4 == 0)
#define BLOCK(n) ((n) % 4 == 2)
#define LINES_OF(n) (INLINE_TWO(n) -> 2 : 1)
#ifdef NO_ROOM
#define ROOM(n) true
#elif defined(HALF_ROOM)
#define ROOM(n) (filled + 1 - acked <= RING)
#else
#define ROOM(n) (filled + LINES_OF(n) - acked <= RING)
#endif

/* Memory as the other side sees it: which message a line or half belongs to. */
byte line[RING], line_block[RING];
byte low[BLOCKS], high[BLOCKS];
byte tail, head; /* in lines since the session began */

/* The producer's stores on their way, 0: none; when they were filled, for the order of tails. */
byte line_due[RING], line_due_block[RING], line_due_at[RING];
byte low_due[BLOCKS], high_due[BLOCKS], block_due_at[BLOCKS];
chan tails = [4] of { byte };
byte own_head;

/* The producer's private books. */
bool used[BLOCKS];
byte held_at[BLOCKS]; /* line of the descriptor that names the block */
byte filled, published, acked, written;

byte taken, received;
bool producer_dead, consumer_dead;

/* May tail show the lines below t? Everything written for them must be in memory. */
inline may_show(t, yes)
{
    yes = true;
#ifndef PLAIN_TAIL
    for (i : 0 .. RING - 1) {
        yes = yes && (line_due[i] == 0 || line_due_at[i] >= t)
    }
    for (i : 0 .. BLOCKS - 1) {
        yes = yes && ((low_due[i] == 0 && high_due[i] == 0) || block_due_at[i] >= t)
    }
#endif
}

/* The memory system: brings stores to memory, in any order that the rules above allow. */
#define arrives(due, word) due != 0 -> atomic { word = due; due = 0 }
#define line_arrives(i) line_due[i] != 0 -> \
    atomic { line[i] = line_due[i]; line_block[i] = line_due_block[i]; line_due[i] = 0 }
active proctype memory()
{
    byte i, t;
    bool yes;
end:
    do
    :: arrives(low_due[0], low[0])
    :: arrives(low_due[1], low[1])
    :: arrives(high_due[0], high[0])
    :: arrives(high_due[1], high[1])
    :: line_arrives(0)
    :: line_arrives(1)
    :: line_arrives(2)
    :: line_arrives(3)
    :: nempty(tails) ->
        atomic {
            tails?<t>;
            may_show(t, yes);
            if
            :: yes -> tails?tail
            :: else
            fi;
            t = 0
        }
    :: head != own_head -> head = own_head
    od
}

inline fill(n, b)
{
    line_due[filled % RING] = n;
    line_due_block[filled % RING] = b;
    line_due_at[filled % RING] = filled;
    filled++
}

inline publish()
{
    tails!filled;
    published = filled
}

inline give_back()
{
    acked = head;
    for (b : 0 .. BLOCKS - 1) {
        used[b] = used[b] && held_at[b] >= acked
    }
    b = 0
}

active proctype producer()
{
    byte b;
    do
    :: producer_dead || consumer_dead -> break
    :: written == MESSAGES && published == filled && acked == filled -> break
    :: published != filled -> /* a batch: several lines later */
        publish()
    :: head != acked -> /* shm_take_acks */
        atomic { give_back() }
    :: written < MESSAGES && !BLOCK(written + 1) && ROOM(written + 1) ->
        atomic { written++; fill(written, 0) };
        if
        :: INLINE_TWO(written) ->
#ifdef MID_TAIL
            publish();
#endif
            fill(written, 0)
        :: else
        fi
    :: written < MESSAGES && BLOCK(written + 1) && ROOM(written + 1) ->
        select (b : 0 .. BLOCKS - 1); /* the arena's choice */
        atomic {
            if
            :: !used[b] ->
                used[b] = true;
                assert(low_due[b] == 0 && high_due[b] == 0);
                written++;
                low_due[b] = written;
                high_due[b] = written;
                block_due_at[b] = filled;
                held_at[b] = filled;
                fill(written, b)
            :: else
            fi;
            b = 0
        }
    od
}

active proctype consumer()
{
    byte seen, b, n;
end:
    do
    :: consumer_dead -> break
    :: atomic { tail != taken -> seen = tail };
        do
        :: taken < seen && !consumer_dead ->
            n = received + 1;
            /* Also when the producer is dead: nothing torn, nothing twice, nothing left out. */
            atomic { assert(line[taken % RING] == n); b = line_block[taken % RING] };
#ifdef EARLY_HEAD
            own_head = taken + LINES_OF(n);
#endif
            if
            :: INLINE_TWO(n) ->
                assert(taken + 2 <= seen && line[(taken + 1) % RING] == n)
            :: BLOCK(n) ->
                assert(low[b] == n);
                assert(high[b] == n)
            :: INLINE_ONE(n)
            fi;
            atomic { taken = taken + LINES_OF(n); received++; b = 0; n = 0 }
        :: true -> break /* a burst is bounded */
        od;
        atomic { own_head = taken; seen = 0 }
    od
}

/* kill -9 of one side, or of both, at any moment, or never. */
active proctype killer()
{
end:
    if
    :: producer_dead = true
    :: consumer_dead = true
    :: skip
    fi
}

/* Nothing left to do: then all that was published is taken, unless somebody died. */
active proctype at_rest()
{
end:
    timeout ->
        assert(consumer_dead || taken == tail);
        assert(producer_dead || consumer_dead || received == MESSAGES)
}
