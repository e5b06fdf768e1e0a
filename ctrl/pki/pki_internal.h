/* Inside ctrl/pki: certificates and keys in memory, without files. */
#ifndef TAILRACE_CTRL_PKI_PKI_INTERNAL_H
#define TAILRACE_CTRL_PKI_PKI_INTERNAL_H

#include "core/base/buf.h"
#include "ctrl/pki/pki.h"

#include <openssl/x509.h>

/* A certificate and its private key. */
struct pki_pair {
    X509 *certificate;
    EVP_PKEY *key;
};
void pki_pair_free(struct pki_pair *pair);

/* Text of OpenSSL's errors of this thread, as an error. */
err_t pki_openssl_error(enum err_code code, const char *what);

/* A self-signed CA, valid from five minutes ago. now_s: seconds since 1970. */
err_t pki_make_ca(struct io_env *env, const char *environment_id, uint64_t now_s,
                  struct pki_pair *out);
/* A certificate of the CA for an identity URI, usable as server and client, for so many seconds. */
err_t pki_make_leaf(struct io_env *env, const struct pki_pair *ca, const char *uri, uint64_t now_s,
                    uint64_t lifetime_s, struct pki_pair *out);
/* PEM. The key's buffer holds a secret: free it with pki_wipe. */
err_t pki_write_pem(const struct pki_pair *pair, struct buf *certificate, struct buf *key);
err_t pki_read_pem(const uint8_t *certificate, size_t certificate_len, const uint8_t *key,
                   size_t key_len, struct pki_pair *out);
void pki_wipe(struct buf *secret);

/* The first URI among the subject's alternative names, as a new string; NULL without one. */
char *pki_uri_of(X509 *certificate);
/* True when certificate is signed by ca, names uri, and ends no earlier than until_s. */
bool pki_is_current(X509 *certificate, const struct pki_pair *ca, const char *uri,
                    uint64_t until_s);

/* The text that names (environment, role, name). */
char *pki_identity_uri(const char *environment_id, const char *role, const char *name);
/* What may stand in an identity: 1..64 of letters, digits, '-', '_', '.'. */
bool pki_word_ok(const char *text, size_t len);

#endif
