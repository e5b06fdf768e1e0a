/*
 * Module-private: ciphertext on its way between OpenSSL and the stream below, with one copy each
 * way. OpenSSL reads records straight out of what the stream below delivered, and writes them into
 * chunks of several records, which the stream below sends from where they are.
 *
 * Everything belongs to the stream's loop. Chunks may come back after the pipe has gone: the stream
 * below is still sending what was written before the end.
 */
#ifndef TAILRACE_CORE_IO_TLS_PIPE_H
#define TAILRACE_CORE_IO_TLS_PIPE_H

#include "core/base/buf.h"
#include "core/io/io.h"

#include <openssl/bio.h>

struct tls_chunk;
struct tls_chunks;

struct tls_pipe {
    struct io_stream *under; /* NULL: what is written is thrown away */
    /* From the peer: kept (ours) first, then the rest of the delivery in hand (borrowed). */
    struct buf kept;
    size_t kept_at;
    const uint8_t *given;
    size_t given_len;
    struct tls_chunk *chunk; /* being filled, or NULL */
    struct tls_chunks *chunks;
};

void tls_pipe_init(struct tls_pipe *pipe, struct io_stream *under);
/* The BIO has been freed before. */
void tls_pipe_free(struct tls_pipe *pipe);
/* OpenSSL's end, for reading and writing; the SSL owns it, the pipe outlives it. NULL: no
 * memory. */
BIO *tls_pipe_bio(struct tls_pipe *pipe);
/* Lends a delivery of the stream below, until take_back, which keeps a copy of what is not read. */
void tls_pipe_lend(struct tls_pipe *pipe, const uint8_t *data, size_t len);
void tls_pipe_take_back(struct tls_pipe *pipe);
/* What was written goes to the stream below. */
void tls_pipe_flush(struct tls_pipe *pipe);

#endif
