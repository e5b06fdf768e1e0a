/*
 * The kernel's byte streams, bare: TCP on the loopback, a Unix socket, a pair of pipes. Messages
 * of one fixed length, a batch is one write. Spinning sides use non-blocking calls, sleeping ones
 * blocking calls; there is no third way here (ADAPT sleeps).
 *
 * Bytes have no borders here: the receiver cuts them by the case's length. That is the least a
 * user of a socket does; a real one would also send a length.
 *
 * TCP is the floor of our TCP carrier; Unix sockets and pipes count as peers of shared memory,
 * since a program that does not want to share memory would use one of them.
 *
 * "bare TCP, sealed" is the floor of TLS: the same socket, with AES-128-GCM over each 16 KiB and
 * nothing else of TLS, so one side does cipher and TCP one after the other on its one CPU.
 */
#include "bench/drive.h"

#include "core/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    IN_BYTES = 256 * 1024,
    RECORD = 16384,          /* sealed at a time, as by TLS, */
    SEALED = RECORD + 16,    /* with its tag */
    KEY_LEN = 16,
    IV_LEN = 12,
};

/* Both ends are open until the forks; then each side uses one pair of descriptors. */
struct stream {
    int to_parent[2];  /* read, write; the same descriptors where the stream goes both ways */
    int to_child[2];
    int in, out;         /* of the four, those this process uses */
    uint8_t *pending;    /* committed, not written: at most a batch */
    size_t pending_len;  /* bytes of it */
    size_t pending_cap;  /* a whole batch */
    uint8_t *buffer;     /* read, not taken: starts with a message; IN_BYTES */
    size_t buffer_len;   /* bytes of it */
    EVP_CIPHER_CTX *cipher; /* sealed: this process's; it sends or receives, never both */
    uint64_t records;    /* sealed or opened so far, the next one's nonce */
    uint8_t *sealed;     /* a message of records; sealed_len of it is there */
    size_t sealed_len;
};

static bool socket_fits(const struct load_shape *shape)
{
    return !shape->by_reference && shape->bytes <= IN_BYTES;
}

/* Bulk only: nobody seals 64 bytes singly. */
static bool sealed_fits(const struct load_shape *shape)
{
    return socket_fits(shape) && shape->pattern == LOAD_FLOOD && shape->batch == 1 &&
           shape->bytes % RECORD == 0;
}

/* Buffers of one run: a batch to write, and what was read and not yet taken. */
static err_t stream_new(struct link *link, struct stream **out)
{
    struct stream *s = MEM_NEW(struct stream);
    ASSERT(link->state == NULL);
    ASSERT(link->shape->bytes <= IN_BYTES);
    link->state = s;
    *out = s;
    s->to_parent[0] = s->to_parent[1] = s->to_child[0] = s->to_child[1] = -1;
    uint32_t batch = link->shape->pattern == LOAD_FLOOD ? link->shape->batch : 1;
    s->pending_cap = (size_t)batch * link->shape->bytes;
    s->pending = mem_alloc(s->pending_cap);
    s->buffer = mem_alloc(IN_BYTES);
    return ERR_OK;
}

/* Two pipes, since a pipe has one direction; each process uses one end of each. */
static err_t pipe_open(struct link *link)
{
    struct stream *s;
    TRY(stream_new(link, &s));
    return pipe2(s->to_parent, O_CLOEXEC) == 0 && pipe2(s->to_child, O_CLOEXEC) == 0
               ? ERR_OK
               : err_errno(errno, "pipe");
}

/* A connected pair: [0] the parent's, [1] the child's. */
static err_t stream_pair(struct stream *s, const int fds[2])
{
    s->to_parent[0] = fds[0];
    s->to_child[1] = fds[0];
    s->to_child[0] = fds[1];
    s->to_parent[1] = fds[1];
    return ERR_OK;
}

/* A connected pair, no name in any file system. */
static err_t unix_open(struct link *link)
{
    struct stream *s;
    int fds[2];
    TRY(stream_new(link, &s));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return err_errno(errno, "socketpair");
    }
    return stream_pair(s, fds);
}

/* Connected to itself over the loopback before the forks. No delay: coalescing is the batch's. */
static err_t tcp_open(struct link *link)
{
    struct stream *s;
    TRY(stream_new(link, &s));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fds[2] = {-1, -1};
    int one = 1;
    if (bind(listener, (struct sockaddr *)&at, len) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0) {
        return err_errno(errno, "listening on the loopback");
    }
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fds[0], (struct sockaddr *)&at, len) != 0) {
        return err_errno(errno, "connecting on the loopback");
    }
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    for (int i = 0; i < 2; i++) {
        if (setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
            return err_errno(errno, "TCP_NODELAY");
        }
    }
    return stream_pair(s, fds);
}

/* Each descriptor once: of a socket pair both directions are the same two. */
static void stream_close(struct link *link)
{
    struct stream *s = link->state;
    ASSERT(link->state != NULL);
    close(s->to_parent[0]);
    close(s->to_child[1]);
    if (s->to_child[0] != s->to_parent[1] || s->to_child[0] < 0) {
        close(s->to_child[0]); /* a pipe has four ends */
    }
    close(s->to_parent[1]);
    EVP_CIPHER_CTX_free(s->cipher);
    free(s->sealed);
    free(s->pending);
    free(s->buffer);
    free(s);
}

/* The next place in the batch; NULL when it is full, and drive flushes. */
DRIVE_INLINE void *socket_reserve(struct link *link)
{
    struct stream *s = link->state;
    ASSERT(s->pending_len <= s->pending_cap);
    return s->pending_len + link->shape->bytes <= s->pending_cap ? s->pending + s->pending_len
                                                                 : NULL;
}

DRIVE_INLINE void socket_commit(struct link *link)
{
    struct stream *s = link->state;
    s->pending_len += link->shape->bytes;
    ASSERT(s->pending_len <= s->pending_cap);
}

/* One write for it all, more when the kernel takes it in parts. Spinning senders try again at once,
 * as spinning receivers do. */
static void write_all(struct stream *s, const uint8_t *data, size_t len)
{
    size_t done = 0;
    while (done < len && !link_interrupted) {
        ssize_t n = write(s->out, data + done, len - done);
        if (n > 0) {
            done += (size_t)n;
        } else if (errno != EAGAIN && errno != EINTR) {
            link_interrupted = 1; /* the other side is gone */
        }
    }
}

static void socket_flush(struct link *link)
{
    struct stream *s = link->state;
    write_all(s, s->pending, s->pending_len);
    s->pending_len = 0;
}

/* How much one read brought; 0: nothing, or the end, which is noted. */
static size_t read_some(struct stream *s, uint8_t *data, size_t len)
{
    ssize_t n = read(s->in, data, len);
    ASSERT(len > 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        link_interrupted = 1;
    }
    return n > 0 ? (size_t)n : 0;
}

/* One read; the last message in it may be incomplete and waits at the front. Of large messages only
 * the rest of the one is read, so that none is moved. */
static size_t socket_receive(struct link *link, struct load *load)
{
    struct stream *s = link->state;
    size_t bytes = link->shape->bytes;
    ASSERT(s->buffer_len < bytes);
    size_t most = bytes > IN_BYTES / 4 ? bytes : IN_BYTES;
    size_t n = read_some(s, s->buffer + s->buffer_len, most - s->buffer_len);
    if (n == 0) {
        return 0;
    }
    s->buffer_len += n;
    size_t at = 0;
    size_t taken = 0;
    for (; at + load->shape->bytes <= s->buffer_len; at += load->shape->bytes) {
        load_take(load, s->buffer + at);
        taken++;
    }
    memmove(s->buffer, s->buffer + at, s->buffer_len - at);
    s->buffer_len -= at;
    return taken;
}

/* After the fork: which descriptors are this side's, and whether they block. */
static err_t stream_prepare(struct link *link)
{
    struct stream *s = link->state;
    ASSERT(link->state != NULL);
    s->in = link->parent ? s->to_parent[0] : s->to_child[0];
    s->out = link->parent ? s->to_child[1] : s->to_parent[1];
    if (link->shape->wait == LOAD_SPIN) {
        if (fcntl(s->in, F_SETFL, O_NONBLOCK) != 0 || fcntl(s->out, F_SETFL, O_NONBLOCK) != 0) {
            return err_errno(errno, "O_NONBLOCK");
        }
    }
    return ERR_OK;
}

static err_t stream_run(struct link *link, struct load *load)
{
    TRY(stream_prepare(link));
    drive(link, load, (struct drive){socket_reserve, socket_commit, socket_flush, socket_receive});
    return ERR_OK;
}

/* ---- sealed ---------------------------------------------------------------------------------- */

/* A failure of the cipher would be one of this program. */
static void next_record(struct stream *s, bool seal)
{
    uint8_t iv[IV_LEN] = {0};
    memcpy(iv, &s->records, sizeof(s->records));
    s->records++;
    ASSERT(EVP_CipherInit_ex(s->cipher, NULL, NULL, NULL, iv, seal) == 1);
}

/* The message as records, in one write. */
static void sealed_flush(struct link *link)
{
    struct stream *s = link->state;
    ASSERT(s->pending_len % RECORD == 0);
    size_t at = 0;
    int len;
    for (size_t from = 0; from < s->pending_len; from += RECORD, at += SEALED) {
        next_record(s, true);
        ASSERT(EVP_CipherUpdate(s->cipher, s->sealed + at, &len, s->pending + from, RECORD) == 1);
        ASSERT(EVP_CipherFinal_ex(s->cipher, s->sealed + at + len, &len) == 1);
        ASSERT(EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_AEAD_GET_TAG, SEALED - RECORD,
                                   s->sealed + at + RECORD) == 1);
    }
    write_all(s, s->sealed, at);
    s->pending_len = 0;
}

/* One read, and every record that it made whole is opened while it is near. */
static size_t sealed_receive(struct link *link, struct load *load)
{
    struct stream *s = link->state;
    size_t whole = link->shape->bytes / RECORD * SEALED;
    s->sealed_len += read_some(s, s->sealed + s->sealed_len, whole - s->sealed_len);
    while ((s->buffer_len / RECORD + 1) * SEALED <= s->sealed_len) {
        uint8_t *record = s->sealed + s->buffer_len / RECORD * SEALED;
        int len;
        next_record(s, false);
        ASSERT(EVP_CipherUpdate(s->cipher, s->buffer + s->buffer_len, &len, record, RECORD) == 1);
        ASSERT(EVP_CIPHER_CTX_ctrl(s->cipher, EVP_CTRL_AEAD_SET_TAG, SEALED - RECORD,
                                   record + RECORD) == 1);
        if (EVP_CipherFinal_ex(s->cipher, s->buffer + s->buffer_len + len, &len) != 1) {
            load->torn = true;
            load->over = true;
            return 0;
        }
        s->buffer_len += RECORD;
    }
    if (s->sealed_len < whole) {
        return 0;
    }
    load_take(load, s->buffer);
    s->sealed_len = s->buffer_len = 0;
    return 1;
}

/* The key is nobody's secret. */
static err_t sealed_open(struct link *link)
{
    static const uint8_t key[KEY_LEN] = "no secret at all";
    TRY(tcp_open(link));
    struct stream *s = link->state;
    s->sealed = mem_alloc((size_t)link->shape->bytes / RECORD * SEALED);
    s->cipher = EVP_CIPHER_CTX_new();
    return s->cipher != NULL &&
                   EVP_CipherInit_ex(s->cipher, EVP_aes_128_gcm(), NULL, key, NULL, 1) == 1
               ? ERR_OK
               : err_new(ERR_INTERNAL, "no AES-128-GCM");
}

static err_t sealed_run(struct link *link, struct load *load)
{
    TRY(stream_prepare(link));
    drive(link, load, (struct drive){socket_reserve, socket_commit, sealed_flush, sealed_receive});
    return ERR_OK;
}

const struct link_ops link_socket_sealed = {
    .name = "bare TCP, sealed", .kind = LINK_FLOOR, .fits = sealed_fits,
    .open = sealed_open, .run = sealed_run, .close = stream_close};
const struct link_ops link_socket_tcp = {
    .name = "bare TCP", .kind = LINK_FLOOR, .fits = socket_fits,
    .open = tcp_open, .run = stream_run, .close = stream_close};
const struct link_ops link_unix = {
    .name = "Unix socket", .kind = LINK_PEER, .fits = socket_fits,
    .open = unix_open, .run = stream_run, .close = stream_close};
const struct link_ops link_pipe = {
    .name = "pipe", .kind = LINK_PEER, .fits = socket_fits,
    .open = pipe_open, .run = stream_run, .close = stream_close};
