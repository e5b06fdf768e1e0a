/*
 * The generations of a replica's processes (ring/exchange/formation.c).
 *
 * Every start of a process has a nonce. Process 0 makes a generation, a number and the members'
 * nonces, when it has a session with each of the others and none stands for them. FORM goes to all,
 * READY comes back from who has a session with exactly the members named, GO starts the workers. A
 * session may be cut and a process restarted at any moment, CUTS and RESTARTS times; each end of a
 * session hears of its beginning and end in its own time, and what is in a session when it is cut is
 * lost. A process that has lost messages gives its generation up, GIVE_UPS times: it takes another
 * nonce and ends its sessions; one that was greeted before and is heard of after that ends at once.
 *
 * Claims. Two processes that stand in a generation of one number stand in the same one (members and
 * all). When nothing can happen any more, all stand in the same one, and it names the processes
 * that run.
 *
 * Broken on purpose, each must be found: NO_REPEAT (READY and GO are not said again in a session
 * that comes back), NUMBER_ONLY (a standing generation is kept when a member's nonce changed), LOW_NUMBERS
 * (process 0 does not look at what numbers its members have seen), STALE_KEPT (a session greeted
 * before a process gave up its generation is kept), SAME_NONCE (who gives up takes no other nonce),
 * OWN_FORGOTTEN (process 0 does not compare its own nonce with the generation's).
 */
#define N 3
#ifndef CUTS
#define CUTS 1
#endif
#ifndef RESTARTS
#define RESTARTS 1
#endif

#ifndef GIVE_UPS
#define GIVE_UPS 1
#endif

mtype = { FORM, READY, GO };

/* The session of a pair: between the smaller index s and the greater g: pair s + g - 1. */
#define pair(p, q) (p + q - 1)
#define PAIRS 3
/* From p to q: 2 * pair + (p > q). */
#define lane(p, q) (2 * pair(p, q) + (p > q -> 1 : 0))
/* kind, number, the three nonces of FORM */
chan wire[6] = [5] of { mtype, byte, byte, byte, byte };

bool up[PAIRS];          /* the session is there */
byte opened[6];          /* lane(p, q): p has heard of the session it has with q: its number, or 0 */
byte number[PAIRS];      /* of the session, grows */
byte said_nonce[6];      /* in the hello p sent q */
byte said_seen[6];

byte cuts, restarts, give_ups;

typedef process_state {
    byte nonce, generation;
    byte nonces[N];
    bool forming, standing, told_ready;
    byte peer_nonce[N], peer_seen[N];
    bool peer_ready[N];
}
process_state at[N];

#define has(p, q) (opened[lane(p, q)] != 0)

inline send(p, q, kind)
{
    /* Into a session that is over it is lost, as into one that has not the room: never here. */
    if
    :: up[pair(p, q)] && opened[lane(p, q)] == number[pair(p, q)] ->
        assert(nfull(wire[lane(p, q)]));
        wire[lane(p, q)]!kind(at[p].generation, at[p].nonces[0], at[p].nonces[1], at[p].nonces[2])
    :: else
    fi
}

inline connected_with_all(p, members, yes)
{
    yes = true;
    for (k : 0 .. N - 1) {
        if
        :: k == p
        :: k != p && (!has(p, k) || (members && at[p].peer_nonce[k] != at[p].nonces[k])) ->
            yes = false
        :: else
        fi
    }
}

inline members_current(yes)
{
#ifdef OWN_FORGOTTEN
    yes = at[0].generation != 0;
#else
    yes = at[0].generation != 0 && at[0].nonces[0] == at[0].nonce;
#endif
    for (k : 1 .. N - 1) {
        if
#ifdef NUMBER_ONLY
        :: at[0].peer_seen[k] > at[0].generation -> yes = false
#else
        :: at[0].peer_nonce[k] != at[0].nonces[k] || at[0].peer_seen[k] > at[0].generation ->
            yes = false
#endif
        :: else
        fi
    }
}

inline all_ready()
{
    connected_with_all(0, true, ok);
    if
    :: ok && at[0].forming && at[0].peer_ready[1] && at[0].peer_ready[2] ->
        at[0].forming = false;
        at[0].standing = true;
        send(0, 1, GO);
        send(0, 2, GO)
    :: else
    fi
}

inline check_ready(p)
{
    connected_with_all(p, true, ok);
    if
    :: p != 0 && at[p].forming && !at[p].told_ready && ok ->
        at[p].told_ready = true;
        send(p, 0, READY)
    :: else
    fi
}

inline mint()
{
    connected_with_all(0, false, ok);
    members_current(now);
    if
    :: ok && !now ->
        at[0].standing = false;
#ifndef LOW_NUMBERS
        for (k : 1 .. N - 1) {
            if
            :: at[0].peer_seen[k] > at[0].generation -> at[0].generation = at[0].peer_seen[k]
            :: else
            fi
        }
#endif
        at[0].generation++;
        at[0].forming = true;
        at[0].nonces[0] = at[0].nonce;
        for (k : 1 .. N - 1) {
            at[0].nonces[k] = at[0].peer_nonce[k];
            at[0].peer_ready[k] = false;
            at[0].peer_seen[k] = at[0].generation
        }
        send(0, 1, FORM);
        send(0, 2, FORM)
    :: else
    fi
}

/* formation_connected */
inline connected(p, q)
{
    if
    :: at[p].generation != 0 && at[p].peer_nonce[q] != at[p].nonces[q] -> at[p].standing = false
    :: else
    fi;
    if
    :: p != 0 ->
        if
#ifndef NO_REPEAT
        :: q == 0 -> at[p].told_ready = false
#endif
        :: else
        fi;
        check_ready(p)
    :: else ->
        members_current(now);
        if
        :: now ->
            send(0, q, FORM);
#ifndef NO_REPEAT
            if
            :: at[0].standing -> send(0, q, GO)
            :: else -> all_ready()
            fi
#endif
        :: else -> mint()
        fi
    fi
}

inline empty_wires(p, q)
{
    do
    :: nempty(wire[lane(p, q)]) -> wire[lane(p, q)]?_, _, _, _, _
    :: nempty(wire[lane(q, p)]) -> wire[lane(q, p)]?_, _, _, _, _
    :: empty(wire[lane(p, q)]) && empty(wire[lane(q, p)]) -> break
    od
}

inline cut(p, q)
{
    if
    :: up[pair(p, q)] ->
        up[pair(p, q)] = false;
        empty_wires(p, q)
    :: else
    fi
}

/* One end of a session: hears of its beginning and its end, and takes what comes. */
proctype end_of(byte p, q)
{
    byte k, g, n0, n1, n2;
    bool ok, now;
end:
    do
    :: atomic { up[pair(p, q)] && opened[lane(p, q)] != number[pair(p, q)] ->
        opened[lane(p, q)] = number[pair(p, q)];
        at[p].peer_nonce[q] = said_nonce[lane(q, p)];
        if
        :: p == 0 -> at[0].peer_seen[q] = said_seen[lane(q, 0)]
        :: else
        fi;
        if
#ifndef STALE_KEPT
        :: said_nonce[lane(p, q)] != at[p].nonce ->
            cut(p, q);
            opened[lane(p, q)] = 0
#endif
        :: else -> connected(p, q)
        fi }
    :: atomic { !up[pair(p, q)] && has(p, q) -> opened[lane(p, q)] = 0 }
    :: atomic { up[pair(p, q)] && opened[lane(p, q)] == number[pair(p, q)] &&
        wire[lane(q, p)]?[FORM, g, n0, n1, n2] ->
        wire[lane(q, p)]?FORM(g, n0, n1, n2);
        if
        :: g < at[p].generation || at[p].nonce != (p == 1 -> n1 : n2) /* stale */
        :: g == at[p].generation && at[p].nonce == (p == 1 -> n1 : n2) ->
            assert(at[p].nonces[0] == n0 && at[p].nonces[1] == n1 && at[p].nonces[2] == n2);
            check_ready(p)
        :: g > at[p].generation && at[p].nonce == (p == 1 -> n1 : n2) ->
            at[p].standing = false;
            at[p].generation = g;
            at[p].nonces[0] = n0;
            at[p].nonces[1] = n1;
            at[p].nonces[2] = n2;
            at[p].forming = true;
            at[p].told_ready = false;
            check_ready(p)
        fi }
    :: atomic { up[pair(p, q)] && opened[lane(p, q)] == number[pair(p, q)] &&
        wire[lane(q, p)]?[READY, g, n0, n1, n2] ->
        wire[lane(q, p)]?READY(g, n0, n1, n2);
        if
        :: g == at[0].generation ->
            at[0].peer_ready[q] = true;
            if
            :: at[0].forming -> all_ready()
            :: !at[0].forming && at[0].standing -> send(0, q, GO)
            :: else
            fi
        :: else
        fi }
    :: atomic { up[pair(p, q)] && opened[lane(p, q)] == number[pair(p, q)] &&
        wire[lane(q, p)]?[GO, g, n0, n1, n2] ->
        wire[lane(q, p)]?GO(g, n0, n1, n2);
        if
        :: g == at[p].generation && at[p].forming ->
            at[p].forming = false;
            at[p].standing = true;
            for (k : 0 .. N - 1) {
                assert(k == p || !at[k].standing || at[k].generation != g ||
                       (at[k].nonces[0] == at[p].nonces[0] && at[k].nonces[1] == at[p].nonces[1] &&
                        at[k].nonces[2] == at[p].nonces[2]))
            }
        :: else
        fi }
    od
}

/* Connects and restarts. A new session waits until both ends heard of the old one's end. */
inline connect(p, q)
{
    atomic {
        !up[pair(p, q)] && !has(p, q) && !has(q, p) ->
        said_nonce[lane(p, q)] = at[p].nonce;
        said_nonce[lane(q, p)] = at[q].nonce;
        said_seen[lane(p, q)] = at[p].generation;
        said_seen[lane(q, p)] = at[q].generation;
        number[pair(p, q)]++;
        up[pair(p, q)] = true
    }
}

inline restart(p, q, r)
{
    atomic {
        restarts < RESTARTS ->
        restarts++;
        cut(p, q);
        cut(p, r);
        opened[lane(p, q)] = 0;
        opened[lane(p, r)] = 0;
        at[p].nonce = 10 * restarts + p + 1;
        at[p].generation = 0;
        at[p].forming = false;
        at[p].standing = false;
        at[p].told_ready = false;
        for (i : 0 .. N - 1) {
            at[p].nonces[i] = 0;
            at[p].peer_nonce[i] = 0;
            at[p].peer_seen[i] = 0;
            at[p].peer_ready[i] = false
        }
    }
}

/* formation_give_up: the sessions that are open here end; one that is not heard of yet does not.
 * Process 0 makes no new generation now, since it is connected with nobody. */
inline give_up_one(p, q)
{
    if
    :: has(p, q) ->
        if
        :: opened[lane(p, q)] == number[pair(p, q)] -> cut(p, q)
        :: else
        fi;
        opened[lane(p, q)] = 0
    :: else
    fi
}

inline give_up(p, q, r)
{
    atomic {
        give_ups < GIVE_UPS && at[p].standing ->
        give_ups++;
        at[p].standing = false;
#ifndef SAME_NONCE
        at[p].nonce = 100 + 10 * give_ups + p;
#endif
        give_up_one(p, q);
        give_up_one(p, r)
    }
}

active proctype world()
{
    byte i;
    atomic {
        for (i : 0 .. N - 1) {
            at[i].nonce = i + 1
        }
        run end_of(0, 1);
        run end_of(1, 0);
        run end_of(0, 2);
        run end_of(2, 0);
        run end_of(1, 2);
        run end_of(2, 1)
    }
end:
    do
    :: connect(0, 1)
    :: connect(0, 2)
    :: connect(1, 2)
    :: atomic { cuts < CUTS && up[pair(0, 1)] -> cuts++; cut(0, 1) }
    :: atomic { cuts < CUTS && up[pair(0, 2)] -> cuts++; cut(0, 2) }
    :: atomic { cuts < CUTS && up[pair(1, 2)] -> cuts++; cut(1, 2) }
    :: restart(0, 1, 2)
    :: restart(1, 0, 2)
    :: restart(2, 0, 1)
    :: give_up(0, 1, 2)
    :: give_up(1, 0, 2)
    :: give_up(2, 0, 1)
    od
}

active proctype at_rest()
{
    byte i;
end:
    timeout ->
        for (i : 0 .. N - 1) {
            assert(at[i].standing && at[i].generation == at[0].generation);
            assert(at[i].nonces[0] == at[0].nonce && at[i].nonces[1] == at[1].nonce &&
                   at[i].nonces[2] == at[2].nonce)
        }
}
