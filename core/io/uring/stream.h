/*
 * Module-private: a socket as an io_stream. All fields belong to the loop's thread. A stream is
 * looked at (delivered to, armed, sent from, ended, freed) in one place, stream_run, whenever it
 * was marked dirty; everything else only changes its state and marks it.
 */
#ifndef TAILRACE_CORE_IO_URING_STREAM_H
#define TAILRACE_CORE_IO_URING_STREAM_H

#include "core/io/uring/uring.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

enum uring_socket { URING_TCP, URING_UNIX, URING_PACKET };
enum {
    URING_FDS_MAX = 64, /* descriptors in one message */
    URING_UNPLACED = 8, /* receives in a row into buffers, until multishot is worth it again */
    URING_CONTROL_LEN = CMSG_SPACE(sizeof(int) * URING_FDS_MAX),
};
STATIC_ASSERT(_Alignof(struct cmsghdr) <= 8, "control buffers are aligned to 8");

/* A parsed address; host is set when a name is to be looked up first. */
struct uring_address {
    enum uring_socket kind;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    };
    socklen_t len;
    char host[256];
    char port[8];
};
err_t uring_address_parse(const char *text, bool listening, struct uring_address *out);
/* "1.2.3.4:5", "[::1]:5"; for Unix sockets the path. Into out of cap bytes. */
void uring_address_format(const struct uring_address *address, char *out, size_t cap);

struct out_segment {
    const uint8_t *data;
    size_t len; /* not yet sent */
    void (*release)(void *arg);
    void *arg;
    struct uring_chunk *chunk; /* set: data lies in it and it is ours */
    int *fds;                  /* ours */
    size_t fds_len;
};

/* What one recvmsg of a SEQPACKET stream fills. */
struct packet_in {
    struct msghdr msg;
    struct iovec iov;
    size_t held; /* a message that waits for resume; 0: none */
    uint8_t control[URING_CONTROL_LEN] __attribute__((aligned(8)));
};

struct uring_lookup; /* a name being resolved */

struct uring_stream {
    struct io_stream base;
    struct uring_object object;
    struct uring_loop *loop;
    int fd;
    enum uring_socket kind;
    char peer[160];

    bool connecting;
    bool paused;
    bool finishing; /* io_stream_finish: send, then close; nothing is delivered any more */
    bool recv_over; /* finishing, and the peer's end of the stream has come */
    bool sent_end;  /* finishing, and our end of the stream is shut down */
    bool broken;    /* sending failed; what the peer sent before is still delivered */
    bool ended;     /* to be closed with reason once the stash is delivered */
    bool closed;    /* no callback any more; freed when the kernel is done with it */
    bool above;     /* pending passed high_water */
    err_t reason;

    bool dirty;
    struct uring_stream *dirty_next;

    struct uring_req connect_req;
    struct uring_req recv_req;
    struct uring_req send_req;
    struct io_timer linger; /* finishing or broken: not for ever */

    io_connect_fn connected;
    struct uring_address address; /* being connected to */
    struct uring_lookup *lookup;

    struct out_segment *out; /* a ring: out_at is the first of out_len */
    size_t out_at;
    size_t out_len;
    size_t out_cap;
    size_t pending;
    struct msghdr send_msg;
    struct iovec send_iov[URING_IOV];
    uint8_t send_control[URING_CONTROL_LEN] __attribute__((aligned(8)));

    struct buf stash;     /* bytes that arrived while paused */
    uint8_t *recv_buffer; /* without provided buffers, and for packets */
    uint8_t *place;       /* the receive under way goes there, into the owner's memory; or NULL */
    uint32_t unplaced;    /* receives since the last one that did; see recv.c */
    uint32_t brisk;       /* little messages in a row without a sleep of the loop, */
    uint64_t brisk_sleeps; /* whose count of sleeps was this */
    struct packet_in *packet;
};

/* A stream on a connected or connecting socket, which it owns from now on. */
struct uring_stream *uring_stream_new(struct uring_loop *loop, int fd, enum uring_socket kind);
void uring_tcp_options(int fd);
void uring_stream_dirty(struct uring_stream *s);
/* Ends the stream from the loop: handler->close(reason) will run. Owns reason. */
void uring_stream_end(struct uring_stream *s, err_t reason);
/* connect.c: forgets a lookup or a connect under way. */
void uring_connect_abandon(struct uring_stream *s);

static inline struct uring_stream *uring_stream_of(struct io_stream *s)
{
    return (struct uring_stream *)s;
}

/* recv.c */
void uring_recv_arm(struct uring_stream *s);
/* Delivers what arrived while paused; true when a callback ran. */
bool uring_recv_stash(struct uring_stream *s);
bool uring_recv_stashed(const struct uring_stream *s);
void uring_recv_complete(struct uring_req *req, int res, uint32_t flags);
void uring_recv_free(struct uring_stream *s);
/* Nothing is received into the owner's memory any more when this returns. */
void uring_recv_unplace(struct uring_stream *s);
/* Nothing is armed: shall it be read by plain calls for a while? Then it is the loop's warm one. */
bool uring_warm_begin(struct uring_stream *s);
/* Back to requests; the caller marks the stream. */
static inline void uring_warm_forget(struct uring_stream *s)
{
    if (s->loop->warm == s) {
        s->loop->warm = NULL;
    }
    s->brisk = 0;
}

/* send.c */
void uring_send_write(struct io_stream *base, const void *data, size_t len);
void uring_send_write_ref(struct io_stream *base, const void *data, size_t len,
                          void (*release)(void *), void *arg);
void uring_send_write_fds(struct io_stream *base, const void *data, size_t len, const int *fds,
                          size_t fds_len);
/* Sends what is queued. alone: no other stream has something to do, so nothing is gained by handing
 * the kernel many requests at once. True when a callback ran. */
bool uring_send_arm(struct uring_stream *s, bool alone);
void uring_send_complete(struct uring_req *req, int res, uint32_t flags);
/* Releases everything queued. No send may be in the kernel. */
void uring_send_drop(struct uring_stream *s);

#endif
