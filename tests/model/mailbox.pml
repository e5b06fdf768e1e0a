/*
 * A mailbox (ring/frame/mailbox.c): many senders push on a stack by compare-exchange, the receiver
 * takes it whole; who pushes on the empty stack posts the receiver's task.
 *
 * Claims. Every item is handed out once, those of one sender in their order; the task is never
 * posted while it is queued; no item stays behind when nobody does anything any more.
 *
 * Broken on purpose, each must be found: QUEUED_AFTER (the loop marks the task as not queued after
 * it ran, not before), POST_NEVER_SEEN (the sender looks at the stack again to decide whether to
 * post).
 */
#define SENDERS 2
#define EACH 3
#define ITEMS 6 /* SENDERS * EACH */
#define NIL 255

byte top = NIL;
byte next[ITEMS];
bool queued;              /* the task, in its loop */
byte last[SENDERS];       /* items handed out, per sender */
byte handed;

proctype sender(byte me)
{
    byte n, item, was;
    for (n : 0 .. EACH - 1) {
        item = me * EACH + n;
retry:
        was = top;
        next[item] = was;
        if
        :: atomic { top == was -> top = item }
        :: atomic { top != was -> goto retry }
        fi;
#ifdef POST_NEVER_SEEN
        was = (top == item -> next[item] : 0);
#endif
        if
        :: was == NIL -> atomic { assert(!queued); queued = true }
        :: else
        fi
    }
}

active proctype receiver()
{
    byte list, item, turned;
end:
    do
    :: queued ->
#ifndef QUEUED_AFTER
        queued = false;
#endif
        atomic { list = top; top = NIL };
        turned = NIL;
        do /* into the order of arrival */
        :: list != NIL -> item = list; list = next[item]; next[item] = turned; turned = item
        :: else -> break
        od;
        do
        :: turned != NIL ->
            assert(turned % EACH == last[turned / EACH]);
            last[turned / EACH]++;
            handed++;
            turned = next[turned]
        :: else -> break
        od;
#ifdef QUEUED_AFTER
        queued = false;
#endif
    od
}

init
{
    byte i;
    atomic {
        for (i : 0 .. SENDERS - 1) {
            run sender(i)
        }
    }
    timeout -> assert(handed == ITEMS)
}
