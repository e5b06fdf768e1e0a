/*
 * A lane in shared memory (ring/shm/lanes.c): one producer, one consumer, a ring of descriptors, an
 * arena of blocks that come back in any order. Either side may be killed between any two steps.
 *
 * Memory. A store is first the writer's own and reaches memory later. Plain stores (the two halves
 * of a block, the descriptor) get there in any order; tail, a release store, only when everything
 * written before it has. Every value of tail on the way may be seen. Loads happen in program order,
 * which is what the acquire loads of tail and head ask for.
 *
 * Claims. The consumer takes messages 1, 2, 3 ... each once, whole, also after the producer was
 * killed: whatever tail says is there is there. The producer never has two messages in one block.
 *
 * Broken on purpose, each must be found: PLAIN_TAIL (tail without release), EARLY_HEAD (head stored
 * before the block was read), NO_ROOM (the ring overwrites what was not acknowledged).
 */
#ifndef MESSAGES
#define MESSAGES 5
#endif
#define RING 2
#define BLOCKS 3

/* Memory as the other side sees it. */
byte low[BLOCKS], high[BLOCKS]; /* the halves of a block: the number of the message it holds */
byte desc_block[RING], desc_seq[RING];
byte tail, head;

/* The producer's stores on their way: for which message, 0 when there is none. */
byte low_due[BLOCKS], high_due[BLOCKS];
byte desc_due[RING], desc_due_block[RING];
byte own_tail, own_head;

/* The producer's private books. */
bool used[BLOCKS];
byte slot_block[RING];
byte written, acked;

byte taken;
bool producer_dead, consumer_dead;

/* May tail show message n? Everything written for messages up to n must be in memory. */
inline tail_may_show(n, yes)
{
    yes = true;
#ifndef PLAIN_TAIL
    for (i : 0 .. BLOCKS - 1) {
        if
        :: (low_due[i] != 0 && low_due[i] <= n) || (high_due[i] != 0 && high_due[i] <= n) ->
            yes = false
        :: else
        fi
    }
    for (i : 0 .. RING - 1) {
        if
        :: desc_due[i] != 0 && desc_due[i] <= n -> yes = false
        :: else
        fi
    }
#endif
}

/* The memory system: brings stores to memory, in any order that the rules above allow. */
#define arrives(due, word) due != 0 -> atomic { word = due; due = 0 }
active proctype memory()
{
    byte i;
    bool yes;
end:
    do
    :: arrives(low_due[0], low[0])
    :: arrives(low_due[1], low[1])
    :: arrives(low_due[2], low[2])
    :: arrives(high_due[0], high[0])
    :: arrives(high_due[1], high[1])
    :: arrives(high_due[2], high[2])
    :: desc_due[0] != 0 ->
        atomic { desc_seq[0] = desc_due[0]; desc_block[0] = desc_due_block[0]; desc_due[0] = 0 }
    :: desc_due[1] != 0 ->
        atomic { desc_seq[1] = desc_due[1]; desc_block[1] = desc_due_block[1]; desc_due[1] = 0 }
    :: tail < own_tail ->
        atomic {
            tail_may_show(tail + 1, yes);
            if
            :: yes -> tail++
            :: else
            fi
        }
    :: head < own_head -> head++
    od
}

active proctype producer()
{
    byte b, i;
    do
    :: producer_dead || consumer_dead -> break
    :: written == MESSAGES && own_tail == written && acked == written -> break
    :: own_tail < written -> /* batches: tail may follow several descriptors later */
        own_tail = written
    :: head != acked -> /* take_acks */
        atomic {
            do
            :: acked < head ->
                used[slot_block[acked % RING]] = false;
                acked++
            :: else -> break
            od
        }
#ifdef NO_ROOM
    :: written < MESSAGES ->
#else
    :: written < MESSAGES && written - acked < RING ->
#endif
        select (b : 0 .. BLOCKS - 1); /* the arena's choice */
        if
        :: !used[b] ->
            used[b] = true;
            assert(low_due[b] == 0 && high_due[b] == 0);
            low_due[b] = written + 1;
            high_due[b] = written + 1;
            atomic {
                i = written % RING;
                desc_due_block[i] = b;
                desc_due[i] = written + 1;
                slot_block[i] = b;
                written++
            }
        :: else
        fi
    od
}

active proctype consumer()
{
    byte seen, b, n, first, second;
end:
    do
    :: consumer_dead -> break
    :: taken == MESSAGES -> break
    :: atomic { tail != taken -> seen = tail };
        do
        :: taken < seen && !consumer_dead ->
            n = desc_seq[taken % RING];
            b = desc_block[taken % RING];
#ifdef EARLY_HEAD
            own_head = taken + 1;
#endif
            first = low[b];
            second = high[b];
            /* Also when the producer is dead: nothing torn, nothing twice, nothing left out. */
            assert(n == taken + 1 && first == n && second == n);
            taken++
        :: else -> break
        od;
        own_head = taken
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
        assert(producer_dead || consumer_dead || taken == MESSAGES)
}
