/*
 * A subscription across lost connections (ring/boundary/client_worker.c and server.c).
 *
 * The source's log holds a snapshot of PARTS pieces at time 0 and one event at each time after it.
 * The server answers a subscription from what the request says: the snapshot in pieces (lower =
 * upper = 0 each), completed by the first chunk whose upper is above its lower, then chunks of one or
 * two events; or exactly the events from resume_from on. The connection may be cut at any moment:
 * what was under way is gone, either way. The client resumes at its upper once the snapshot was
 * complete, else asks for all of it and forgets the pieces it has (reset).
 *
 * Claim. When nothing can happen any more the consumer holds every piece and every event exactly
 * once; none is ever held twice, and complete chunks abut.
 *
 * Broken on purpose, each must be found: NO_RESET (pieces kept across a cut), RESUME_ALWAYS
 * (resumes although the snapshot was not complete), BLIND (chunks taken without looking at lower,
 * with a server that answers from one event too early).
 */
#define PARTS 2
#define EVENTS 3
#ifndef CUTS
#define CUTS 3
#endif

mtype = { SUBSCRIBE, PIECE, CHUNK };
chan up = [1] of { mtype, bit, byte };        /* resume, from */
chan down = [2] of { mtype, byte, byte };     /* lower, upper; PIECE: which */
bool connected;
byte session;                                 /* changes with every connection */
byte cuts;
byte log_end = 1;                             /* upper of the source */

/* The consumer. */
byte pieces[PARTS], events[EVENTS + 1];       /* how often each is held */
byte upper;
bool complete, partial;

active proctype source()
{
end:
    do
    :: log_end <= EVENTS -> log_end++
    od
}

active proctype network()
{
end:
    do
    :: !connected -> session++; connected = true
    :: atomic { connected && cuts < CUTS ->
        cuts++;
        connected = false;
        do
        :: nempty(up) -> up?_, _, _
        :: nempty(down) -> down?_, _, _
        :: empty(up) && empty(down) -> break
        od }
    od
}

active proctype server()
{
    byte mine, at, piece, to;
    bit resume;
    bool subscribed;
end:
    do
    :: subscribed && mine != session -> subscribed = false
    :: atomic { connected && nempty(up) ->
        up?SUBSCRIBE(resume, at);
        mine = session;
        subscribed = true;
        piece = (resume -> PARTS : 0);
#ifdef BLIND
        at = (resume && at > 1 -> at - 1 : at);
#endif
        }
    :: atomic { subscribed && mine == session && connected && nfull(down) && piece < PARTS ->
        down!PIECE(piece, piece);
        piece++ }
    :: atomic { subscribed && mine == session && connected && nfull(down) && piece == PARTS &&
        at < log_end ->
        to = at + 1;
        if
        :: to < log_end -> to++
        :: skip
        fi;
        down!CHUNK(at, to);
        at = to }
    od
}

active proctype client()
{
    byte mine, from, to, i;
    bool asked;
end:
    do
    :: atomic { asked && (mine != session || !connected) ->
        asked = false; /* sub_cut */
#ifndef NO_RESET
        if
        :: partial ->
            partial = false;
            for (i : 0 .. PARTS - 1) {
                pieces[i] = 0
            }
        :: else
        fi
#endif
        }
    :: atomic { connected && !asked && empty(up) ->
        mine = session;
        asked = true;
#ifdef RESUME_ALWAYS
        up!SUBSCRIBE(1, upper)
#else
        up!SUBSCRIBE((complete -> 1 : 0), upper)
#endif
        }
    :: atomic { asked && mine == session && down?[PIECE, from, to] ->
        down?PIECE(from, to);
        pieces[from]++;
        partial = true;
        assert(pieces[from] == 1) }
    :: atomic { asked && mine == session && down?[CHUNK, from, to] ->
        down?CHUNK(from, to);
#ifndef BLIND
        assert(from == upper);
#endif
        partial = false;
        complete = true;
        upper = to;
        for (i : from .. to - 1) {
            events[i]++;
            assert(events[i] == 1)
        } }
    od
}

active proctype at_rest()
{
    byte i;
end:
    timeout ->
        assert(complete && upper == EVENTS + 1);
        for (i : 0 .. PARTS - 1) {
            assert(pieces[i] == 1)
        }
        for (i : 0 .. EVENTS) {
            assert(events[i] == 1)
        }
}
