/* Between OpenSSL and the stream below: see tls_pipe.h. */
#include "core/io/tls_pipe.h"

#include "core/base/mem.h"

#include <pthread.h>

enum {
    /* Four records of 16 KiB with the 256 bytes that TLS 1.3 allows each to grow by. */
    CHUNK_LEN = 4 * (16384 + 256),
    CHUNKS_SPARE = 8, /* kept for the next writes; the others are freed when they were sent */
    SMALL = 4096,     /* less is copied into the queue below, next to other small writes */
};

struct tls_chunk {
    struct tls_chunk *next; /* while spare */
    struct tls_chunks *owner;
    size_t len;
    uint8_t data[CHUNK_LEN];
};

/* Lives until the pipe is gone and every chunk is back. */
struct tls_chunks {
    size_t out; /* chunks lent to the stream below */
    struct tls_chunk *spare;
    size_t spare_len;
    bool gone; /* the pipe */
};

/* ---- chunks ---------------------------------------------------------------------------------- */

static struct tls_chunk *chunk_get(struct tls_chunks *chunks)
{
    ASSERT(!chunks->gone && (chunks->spare == NULL) == (chunks->spare_len == 0));
    struct tls_chunk *chunk = chunks->spare;
    if (chunk != NULL) {
        chunks->spare = chunk->next;
        chunks->spare_len--;
    } else {
        chunk = mem_alloc(sizeof(*chunk));
        chunk->owner = chunks;
    }
    chunk->len = 0;
    return chunk;
}

static void chunks_free_if_over(struct tls_chunks *chunks)
{
    if (chunks->gone && chunks->out == 0) {
        ASSERT(chunks->spare == NULL);
        free(chunks);
    }
}

/* The stream below has sent it, or has ended. */
static void chunk_back(void *arg)
{
    struct tls_chunk *chunk = arg;
    struct tls_chunks *chunks = chunk->owner;
    ASSERT(chunks->out > 0);
    chunks->out--;
    if (chunks->gone || chunks->spare_len == CHUNKS_SPARE) {
        free(chunk);
        chunks_free_if_over(chunks);
        return;
    }
    chunk->next = chunks->spare;
    chunks->spare = chunk;
    chunks->spare_len++;
}

/* ---- the pipe -------------------------------------------------------------------------------- */

void tls_pipe_init(struct tls_pipe *pipe, struct io_stream *under)
{
    ASSERT(under != NULL);
    *pipe = (struct tls_pipe){.under = under, .chunks = MEM_NEW(struct tls_chunks)};
}

void tls_pipe_free(struct tls_pipe *pipe)
{
    struct tls_chunks *chunks = pipe->chunks;
    ASSERT(chunks != NULL && !chunks->gone && pipe->given_len == 0);
    free(pipe->chunk);
    while (chunks->spare != NULL) {
        struct tls_chunk *chunk = chunks->spare;
        chunks->spare = chunk->next;
        free(chunk);
    }
    chunks->gone = true;
    chunks_free_if_over(chunks);
    buf_free(&pipe->kept);
    *pipe = (struct tls_pipe){0};
}

void tls_pipe_flush(struct tls_pipe *pipe)
{
    struct tls_chunk *chunk = pipe->chunk;
    if (chunk == NULL || chunk->len == 0) {
        return;
    }
    ASSERT(chunk->len <= CHUNK_LEN);
    if (pipe->under == NULL || chunk->len <= SMALL) {
        if (pipe->under != NULL) {
            io_stream_write(pipe->under, chunk->data, chunk->len);
        }
        chunk->len = 0;
        return;
    }
    pipe->chunk = NULL;
    pipe->chunks->out++;
    io_stream_write_ref(pipe->under, chunk->data, chunk->len, chunk_back, chunk);
}

static void pipe_put(struct tls_pipe *pipe, const uint8_t *data, size_t len)
{
    while (len > 0) {
        if (pipe->chunk == NULL) {
            pipe->chunk = chunk_get(pipe->chunks);
        }
        struct tls_chunk *chunk = pipe->chunk;
        ASSERT(chunk->len < CHUNK_LEN);
        size_t part = CHUNK_LEN - chunk->len;
        part = part < len ? part : len;
        memcpy(chunk->data + chunk->len, data, part);
        chunk->len += part;
        data += part;
        len -= part;
        if (chunk->len == CHUNK_LEN) {
            tls_pipe_flush(pipe);
        }
    }
}

/* As many bytes as there are, up to len. */
static size_t pipe_get(struct tls_pipe *pipe, uint8_t *out, size_t len)
{
    ASSERT(pipe->kept_at <= pipe->kept.len);
    size_t kept = pipe->kept.len - pipe->kept_at;
    size_t old = kept < len ? kept : len;
    if (old > 0) {
        memcpy(out, pipe->kept.data + pipe->kept_at, old);
        pipe->kept_at += old;
        if (pipe->kept_at == pipe->kept.len) {
            buf_free(&pipe->kept);
            pipe->kept = (struct buf){0};
            pipe->kept_at = 0;
        }
    }
    size_t fresh = pipe->given_len < len - old ? pipe->given_len : len - old;
    if (fresh > 0) {
        memcpy(out + old, pipe->given, fresh);
        pipe->given += fresh;
        pipe->given_len -= fresh;
    }
    return old + fresh;
}

void tls_pipe_lend(struct tls_pipe *pipe, const uint8_t *data, size_t len)
{
    ASSERT(pipe->given_len == 0 && (data != NULL || len == 0));
    pipe->given = data;
    pipe->given_len = len;
}

void tls_pipe_take_back(struct tls_pipe *pipe)
{
    if (pipe->given_len > 0) {
        buf_append(&pipe->kept, pipe->given, pipe->given_len);
    }
    pipe->given = NULL;
    pipe->given_len = 0;
}

/* ---- OpenSSL's end --------------------------------------------------------------------------- */

static int bio_write(BIO *bio, const char *data, int len)
{
    struct tls_pipe *pipe = BIO_get_data(bio);
    ASSERT(pipe != NULL);
    if (len <= 0) {
        return 0;
    }
    pipe_put(pipe, (const uint8_t *)data, (size_t)len);
    return len;
}

static int bio_read(BIO *bio, char *out, int len)
{
    struct tls_pipe *pipe = BIO_get_data(bio);
    ASSERT(pipe != NULL);
    BIO_clear_retry_flags(bio);
    if (len <= 0) {
        return 0;
    }
    size_t got = pipe_get(pipe, (uint8_t *)out, (size_t)len);
    if (got == 0) {
        BIO_set_retry_read(bio); /* nothing there means: wait, not the end */
        return -1;
    }
    return (int)got;
}

/* A flush does nothing: the owner of the pipe does it when OpenSSL has returned. */
static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *method;

static void method_make(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    ASSERT(method != NULL);
    ASSERT(BIO_meth_set_write(method, bio_write) == 1);
    ASSERT(BIO_meth_set_read(method, bio_read) == 1);
    ASSERT(BIO_meth_set_ctrl(method, bio_ctrl) == 1);
}

BIO *tls_pipe_bio(struct tls_pipe *pipe)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    ASSERT(pthread_once(&once, method_make) == 0); /* lives as long as the process */
    BIO *bio = BIO_new(method);
    if (bio != NULL) {
        BIO_set_data(bio, pipe);
        BIO_set_init(bio, 1);
    }
    return bio;
}
