/*
 * SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677), without channel binding. Pure functions of
 * their input but for the nonce, which the caller draws.
 */
#ifndef TAILRACE_CTRL_ADAPTER_PGWIRE_SCRAM_H
#define TAILRACE_CTRL_ADAPTER_PGWIRE_SCRAM_H

#include "core/base/buf.h"
#include "core/base/err.h"

/* Sizes in bytes. 4,096 iterations are PostgreSQL's default and RFC 7677's minimum. */
enum { SCRAM_KEY_LEN = 32, SCRAM_SALT_LEN = 16, SCRAM_NONCE_LEN = 18, SCRAM_ITERATIONS = 4096 };

/* What the server keeps instead of a password. */
struct scram_verifier {
    uint32_t iterations; /* of PBKDF2 */
    uint8_t salt[SCRAM_SALT_LEN];
    uint8_t stored_key[SCRAM_KEY_LEN]; /* checks the client's proof */
    uint8_t server_key[SCRAM_KEY_LEN]; /* makes ours */
};

/* The verifier of a password, whose bytes are used as they are (ASCII needs no SASLprep). */
err_t scram_verifier_make(const char *password, const uint8_t salt[SCRAM_SALT_LEN],
                          uint32_t iterations, struct scram_verifier *out);

/* One exchange. Zeroed is fresh; scram_exchange_free releases. */
struct scram_exchange {
    const struct scram_verifier *verifier; /* borrowed: outlives the exchange */
    struct buf auth_message; /* client-first-bare "," server-first */
    char nonce[128];         /* client's and ours */
    bool began;              /* scram_first succeeded */
};

/* The client's first message -> ours. nonce: SCRAM_NONCE_LEN random bytes. */
err_t scram_first(struct scram_exchange *x, const struct scram_verifier *verifier,
                  const uint8_t *message, size_t len, const uint8_t nonce[SCRAM_NONCE_LEN],
                  struct buf *answer);
/* The client's final message -> ours when the proof holds; 28P01 when it does not. */
err_t scram_final(struct scram_exchange *x, const uint8_t *message, size_t len,
                  struct buf *answer);
void scram_exchange_free(struct scram_exchange *x);

#endif
