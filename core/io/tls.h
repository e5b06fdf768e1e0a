/*
 * TLS 1.3 (OpenSSL) as a layer over any io_stream: the result is an io_stream again. Contexts may
 * be shared by threads; streams belong to their loop.
 *
 * A context follows its files: when they were replaced, connections from then on use what is there
 * (looked at when a handshake begins, at most once a second), so that a certificate is renewed
 * without a restart. Files that cannot be used leave the context as it was, with a line in the log.
 * Connections that stand are not touched: a certificate is judged in the handshake.
 */
#ifndef TAILRACE_CORE_IO_TLS_H
#define TAILRACE_CORE_IO_TLS_H

#include "core/io/io.h"

struct tls_context;

struct tls_config {
    const char *certificate_path; /* PEM, chain; NULL for a client without one */
    const char *key_path;         /* PEM; must be mode 0600 or stricter */
    const char *ca_path;          /* PEM; peers are verified against it; NULL: not verified */
    bool require_peer;            /* server: refuse clients without a certificate */
    const char *alpn;             /* "h2", "http/1.1", or NULL */
};
err_t tls_context_new(const struct tls_config *config, bool server, struct tls_context **out);
void tls_context_free(struct tls_context *context);

/*
 * Starts TLS on an established stream, which the layer owns from now on. ready(arg, stream) runs
 * when the handshake is done; handler->close when it failed (with OpenSSL's reason). server_name:
 * client side, the name to ask for (SNI) and to verify, or NULL. early: bytes already read that
 * belong to the handshake. io_stream_peer_name gives the first URI SAN of the verified peer
 * certificate (the identity ctrl/pki issues), or its CN when it has none; "" when not verified.
 */
void tls_start(struct tls_context *context, struct io_stream *under, const char *server_name,
               const uint8_t *early, size_t early_len, const struct io_stream_handler *handler,
               void *arg, io_connect_fn ready, struct io_stream **out);

#endif
