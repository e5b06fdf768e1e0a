/*
 * What storaged and computed have in common: the gRPC server on port 2100 with the one controller
 * session, its fencing, the process's certificates, and messages between its loops (mail.h).
 *
 * One session at a time. A Hello of another environment or of an epoch below the highest seen is
 * refused with a reason; a valid one ends its predecessor. All on the main loop.
 */
#ifndef TAILRACE_CTRL_RUNTIME_RUNTIME_H
#define TAILRACE_CTRL_RUNTIME_RUNTIME_H

#include "core/io/tls.h"
#include "ctrl/rpc/rpc.h"
#include "ctrl/runtime/mail.h"

enum { RUNTIME_PROTOCOL_VERSION = 1, RUNTIME_MESSAGE_MAX = 256 << 20 };

struct runtime;

/*
 * What the process does with its session. All calls are on the main loop and in this order: hello,
 * then any number of commands, then either lost or the hello of a successor.
 */
struct runtime_handler {
    /* A session was accepted; its predecessor, if any, is over (lost was not called for it). */
    void (*hello)(void *ctx, uint64_t epoch, uint64_t nonce);
    /* One further command; an error ends the session with it. */
    err_t (*command)(void *ctx, const uint8_t *data, size_t len);
    /* The session ended: commands may come again after the next hello. */
    void (*lost)(void *ctx);
};

struct runtime_tls {
    const char *certificate; /* all NULL: plain text (simulator, tests) */
    const char *key;
    const char *ca;
};

/* Read once by runtime_new; what it points to must stay. */
struct runtime_config {
    struct io_loop *loop;
    const char *address;        /* "host:2100" */
    const char *environment;    /* 32 hexadecimal digits */
    struct runtime_tls tls;
    const char *session_path;   /* "/tailrace.v1.Storage/Session" */
    const struct runtime_handler *handler;
    void *ctx;
};
/* The strings of config must outlive the runtime. */
err_t runtime_new(const struct runtime_config *config, struct runtime **out);
void runtime_free(struct runtime *runtime);
/* The address bound, with the real port. */
const char *runtime_address(const struct runtime *runtime);
/*
 * True from the accepted Hello to the end of its stream, also before handler->hello has answered.
 */
bool runtime_in_session(const struct runtime *runtime);
/* Sends a response; dropped when there is no session. */
void runtime_send(struct runtime *runtime, const pb_msgdesc_t *fields, const void *message);
/* Ends the session with an error (owned); lost() follows. Nothing happens without a session. */
void runtime_end_session(struct runtime *runtime, err_t err);
/* GOAWAY, then done(arg) when the connections are gone. */
void runtime_drain(struct runtime *runtime, void (*done)(void *arg), void *arg);

/* "0123..ef" (32 digits) to 16 bytes; ERR_INVALID. */
err_t runtime_environment_parse(const char *text, uint8_t out[16]);

/* "auto", "shm", "tcp" to 0, 1, 2: the values of enum boundary_carrier. */
err_t runtime_carrier_parse(const char *text, int *out);

/* Server or client context from the process's files; *out NULL when tls has none. alpn may be
 * NULL. Peers must present a certificate of the environment's CA. */
err_t runtime_tls_context(const struct runtime_tls *tls, bool server, const char *alpn,
                          struct tls_context **out);
/*
 * Judges a peer's certificate name for other sockets: see pki_check_peer. For boundary and
 * exchange: who may connect there, by the name in the certificate.
 */
struct runtime_peer_check {
    const char *environment;
    unsigned roles;
};
err_t runtime_check_peer(void *ctx, const char *peer_name); /* ctx: struct runtime_peer_check */

#endif
