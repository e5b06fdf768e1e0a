/*
 * A lane in shared memory (produce.c and take.c in ring/shm): one producer, one consumer, a ring of
 * lines, an arena of blocks that come back in any order. A message lies in one line, in two, in
 * two of which the second is dense (all of it bytes, which may look like any word), or in a block
 * that a line names. There is no tail: a first line carries the lap, which time round the
 * ring it was written. Lines are filled one after the other; the one that opens a batch is kept
 * aside until the batch is published; a message published alone is a batch of one. Either
 * side may be killed between any two steps.
 *
 * Memory. A store is first the writer's own and reaches memory later. Plain stores (lines and their
 * words amid a batch, the two halves of a block) get there in any order; the word of the line that
 * opens a batch, which is a release store, when everything written before it has. Loads happen in
 * program order, which is what the acquire loads of words and head ask for.
 *
 * Claims. The consumer takes messages 1, 2, 3 ... each once, whole, also after the producer was
 * killed: a line whose word carries the lap that is due is there, with all of its message. The
 * producer never has two messages in one block.
 *
 * Broken on purpose, each must be found: PLAIN_WORD (published without release), NO_ASIDE (the
 * opening line goes straight into the ring), NO_LAP (any word will do), EARLY_HEAD (head stored
 * before the message was read), NO_ROOM (the ring overwrites what was not acknowledged), HALF_ROOM
 * (a message of two lines asks for room for one), MID_MESSAGE (published between two lines of one),
 * NO_CLEAR (bytes stay where the reader comes to look for a word), NO_SPARE (the ring is filled to
 * the last line, so that what is cleared may not have been read).
 */
#ifndef MESSAGES
#define MESSAGES 7
#endif
#define RING 4
#define BLOCKS 2

/* In such an order that each fault shows. */
#define DENSE(n) ((n) % 5 == 1)
#define BLOCK(n) ((n) % 5 == 2)
#define TWO(n) ((n) % 5 == 3 || DENSE(n))
#define INLINE_ONE(n) (!TWO(n) && !BLOCK(n))
#define LINES_OF(n) (TWO(n) -> 2 : 1)
#ifdef NO_SPARE
#define LINES RING
#else
#define LINES (RING - 1)
#endif
#define LAP(at) (1 + (at) / RING)
#define NONE 255
#ifdef NO_ROOM
#define ROOM(n) true
#elif defined(HALF_ROOM)
#define ROOM(n) (filled + 1 - acked <= LINES)
#else
#define ROOM(n) (filled + LINES_OF(n) - acked <= LINES)
#endif
#ifdef NO_LAP
#define ARRIVED (word[taken % RING] != 0)
#else
#define ARRIVED (word[taken % RING] == LAP(taken))
#endif

/* Memory as the other side sees it: which message a line or half belongs to. */
byte word[RING], line[RING], line_block[RING];
byte low[BLOCKS], high[BLOCKS];
byte head; /* in lines since the session began */

/* The producer's stores on their way, and when they were filled, for the order of words. */
byte word_due[RING] = NONE, word_due_at[RING];
byte line_due[RING], line_due_block[RING], line_due_at[RING]; /* 0: none */
byte low_due[BLOCKS], high_due[BLOCKS], block_due_at[BLOCKS];
chan openings = [4] of { byte, byte }; /* opening line and end of each batch published */
byte own_head;

/* The producer's private books. */
byte first, first_block; /* message of the opening line, kept aside; 0: none */
bool used[BLOCKS];
byte held_at[BLOCKS]; /* line of the descriptor that names the block */
byte filled, published, acked, written;
byte clear_until; /* places of lines below it may hold bytes */

byte taken, received;
bool producer_dead, consumer_dead;

/* May the word of a batch that ends before line t arrive? What was written for it must have. */
inline may_show(t, yes)
{
    yes = true;
#ifndef PLAIN_WORD
    for (i : 0 .. RING - 1) {
        yes = yes && (line_due[i] == 0 || line_due_at[i] >= t);
        yes = yes && (word_due[i] == NONE || word_due_at[i] >= t)
    }
    for (i : 0 .. BLOCKS - 1) {
        yes = yes && ((low_due[i] == 0 && high_due[i] == 0) || block_due_at[i] >= t)
    }
#endif
}

/* The memory system: brings stores to memory, in any order that the rules above allow. */
#define arrives(due, where, none) due != none -> atomic { where = due; due = none }
#define line_arrives(i) line_due[i] != 0 -> \
    atomic { line[i] = line_due[i]; line_block[i] = line_due_block[i]; line_due[i] = 0 }
active proctype memory()
{
    byte i, at, t;
    bool yes;
end:
    do
    :: arrives(low_due[0], low[0], 0)
    :: arrives(low_due[1], low[1], 0)
    :: arrives(high_due[0], high[0], 0)
    :: arrives(high_due[1], high[1], 0)
    :: line_arrives(0)
    :: line_arrives(1)
    :: line_arrives(2)
    :: line_arrives(3)
    :: arrives(word_due[0], word[0], NONE)
    :: arrives(word_due[1], word[1], NONE)
    :: arrives(word_due[2], word[2], NONE)
    :: arrives(word_due[3], word[3], NONE)
    :: nempty(openings) ->
        atomic {
            openings?<at, t>;
            may_show(t, yes);
            if
            :: yes -> openings?at, t; word[at % RING] = LAP(at)
            :: else
            fi;
            at = 0;
            t = 0
        }
    :: head != own_head -> head = own_head
    od
}

inline put(at, n, b)
{
    line_due[(at) % RING] = n;
    line_due_block[(at) % RING] = b;
    line_due_at[(at) % RING] = at
}

/* A line of message n; further: not its first. */
inline fill(n, b, further)
{
    if
#ifndef NO_ASIDE
    :: filled == published -> first = n; first_block = b
    :: else ->
#else
    :: true ->
#endif
        put(filled, n, b);
        word_due[filled % RING] = (!further -> LAP(filled) : (DENSE(n) -> LAP(filled) + 1 : 0));
        word_due_at[filled % RING] = filled
    fi;
    clear_until = (further && DENSE(n) -> filled + 1 + RING : clear_until);
    filled++
}

inline publish()
{
    atomic {
#ifndef NO_ASIDE
        put(published, first, first_block);
#ifndef NO_CLEAR
        if
        :: filled < clear_until ->
            word_due[filled % RING] = 0;
            word_due_at[filled % RING] = filled - 1
        :: else
        fi;
#endif
        openings!published, filled;
#endif
        published = filled
    }
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
        atomic { written++; fill(written, 0, false) };
        if
        :: TWO(written) ->
#ifdef MID_MESSAGE
            publish();
            atomic { put(filled, written, 0); word_due[filled % RING] = 0;
                     word_due_at[filled % RING] = filled; filled++;
                     published = filled }
#else
            atomic { fill(written, 0, true) }
#endif
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
                fill(written, b, false)
            :: else
            fi;
            b = 0
        }
    od
}

active proctype consumer()
{
    byte b, n;
end:
    do
    :: consumer_dead -> break
    :: received == MESSAGES && own_head == taken -> break
    :: received < MESSAGES && ARRIVED ->
        n = received + 1;
#ifdef EARLY_HEAD
        own_head = taken + LINES_OF(n);
#endif
        /* Also when the producer is dead: nothing torn, nothing twice, nothing left out. */
        atomic { assert(line[taken % RING] == n); b = line_block[taken % RING] };
        if
        :: TWO(n) -> assert(line[(taken + 1) % RING] == n)
        :: BLOCK(n) ->
            assert(low[b] == n);
            assert(high[b] == n)
        :: INLINE_ONE(n)
        fi;
        atomic { taken = taken + LINES_OF(n); received++; b = 0; n = 0 }
    :: own_head != taken -> own_head = taken
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

/* Nothing left to do: then all has been taken, unless somebody died. */
active proctype at_rest()
{
end:
    timeout ->
        assert(producer_dead || consumer_dead || received == MESSAGES)
}
