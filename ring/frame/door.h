/*
 * Both ends of how sessions come about. A door listens (on TCP and, for peers on the same node, on
 * a SEQPACKET socket) and greets whoever comes. A dialer connects, by the local socket first when
 * there is one, and keeps trying with back-off. Whoever uses them gets an established stream with
 * a checked peer, and makes a carrier of it.
 *
 * The local socket is only good with proof of being on the same node: host identity equal, peer's
 * user id ours (SO_PEERCRED), and both sides prove, over both sides' challenges, that they can read
 * the node's secret file.
 */
#ifndef TAILRACE_RING_FRAME_DOOR_H
#define TAILRACE_RING_FRAME_DOOR_H

#include "ring/frame/greeting.h"

/* An established stream; it is the callee's, the rest is valid during the call. */
struct greeted {
    struct io_stream *stream;
    bool local; /* the SEQPACKET socket: shared memory; else TCP */
    const struct hello *ours;
    const struct hello *theirs;
    const uint8_t *rest; /* bytes behind the handshake, already read */
    size_t rest_len;
    /* local: what the connecting side shows in its first message after the handshake */
    uint8_t client_proof[HELLO_PROOF_LEN];
};

struct door_config {
    struct io_loop *loop;
    const char *address;          /* TCP; NULL: none */
    const char *unix_path;        /* "unixpacket:..."; NULL: none */
    const char *node_secret_path; /* NULL: the local socket is not opened */
    struct tls_context *tls;
    void *arg;
    /* Judges a peer that passed the checks of the carrier; fills the answer. */
    err_t (*judge)(void *arg, const struct hello *theirs, const char *peer_name, bool local,
                   struct hello *welcome, enum hello_refusal *refusal);
    void (*done)(void *arg, const struct greeted *greeted);
};

struct door;
err_t door_new(const struct door_config *config, struct door **out);
const char *door_address(const struct door *door);
void door_free(struct door *door);

struct dialer_config {
    struct io_loop *loop;
    const char *address;
    const char *unix_path; /* NULL: TCP only */
    const char *node_secret_path;
    struct tls_context *tls;
    void *arg;
    bool local_only; /* never fall back to TCP */
    /* Fills what we say in the next attempt. */
    void (*hello)(void *arg, struct hello *hello);
    /* Judges the answer. ERR_PERMISSION counts as a refusal for good. */
    err_t (*check)(void *arg, const struct hello *ours, const struct hello *theirs,
                   const char *peer_name);
    void (*done)(void *arg, const struct greeted *greeted);
    /* An attempt failed (reason is the callee's); another one follows by itself. for_good: it was
     * refused for a reason that time alone does not change. */
    void (*failed)(void *arg, err_t reason, bool for_good);
};

struct dialer;
struct dialer *dialer_new(const struct dialer_config *config);
/* Begins to connect, at once or (after a session or a failure of late) when the back-off is over.
 * Nothing happens while an attempt is under way or waiting. Not from inside a callback of it. */
void dialer_start(struct dialer *dialer);
/* The session that came of it lasted: the next back-off is short again. */
void dialer_well(struct dialer *dialer);
/* The session over the local socket could not be set up: the next attempt goes over TCP. */
void dialer_avoid_local(struct dialer *dialer);
void dialer_free(struct dialer *dialer);

#endif
