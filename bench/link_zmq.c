/*
 * A peer: ZeroMQ over ipc and tcp. PAIR back and forth, PUSH to PULL one way, stock settings.
 *
 * A socket belongs to one thread; an I/O thread of the library does the work behind it, so the
 * processes are not pinned: on one CPU the two threads of a side would wait for each other.
 * Messages are sent by copy, since a message of ours outlives no call. There is no flush: the I/O
 * thread sends what it finds, which batches by itself when there is much.
 */
#include "bench/drive.h"

#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <zmq.h>

/* Filled before the forks, but for the socket, which each side makes for itself. */
struct zmq {
    char address[192]; /* ipc:// or tcp://; the parent binds it */
    void *socket;      /* this process's */
    uint64_t *out;     /* the message being written, shape->bytes */
    uint64_t *in;      /* the message being read, shape->bytes */
};

static bool zmq_fits(const struct load_shape *shape)
{
    return !shape->by_reference;
}

/* Buffers outside ZeroMQ's messages: what it copies is part of what it costs. */
static err_t zmq_new(struct link *link, struct zmq **out)
{
    struct zmq *z = MEM_NEW(struct zmq);
    ASSERT(link->state == NULL);
    link->state = *out = z;
    z->out = mem_zalloc(link->shape->bytes);
    z->in = mem_zalloc(link->shape->bytes);
    return ERR_OK;
}

/* Its Unix sockets; the file goes with the directory. */
static err_t ipc_open(struct link *link)
{
    struct zmq *z;
    TRY(zmq_new(link, &z));
    snprintf(z->address, sizeof(z->address), "ipc://%s/zmq", link->directory);
    return ERR_OK;
}

/* The parent binds, the child connects, and tries again until that has happened. */
static err_t tcp_open(struct link *link)
{
    struct zmq *z;
    TRY(zmq_new(link, &z));
    snprintf(z->address, sizeof(z->address), "tcp://127.0.0.1:%d", link_free_port());
    return ERR_OK;
}

/* Sockets and contexts ended with the processes that had them. */
static void zmq_close_link(struct link *link)
{
    struct zmq *z = link->state;
    ASSERT(link->state != NULL);
    free(z->out);
    free(z->in);
    free(z);
}

/* One message at a time: zmq_send copies, so the buffer is free again after it. */
static void *zmq_reserve(struct link *link)
{
    return ((struct zmq *)link->state)->out;
}

/* Blocks at the high-water mark (1,000 messages): a flood is held back, not cut. */
static void zmq_commit(struct link *link)
{
    struct zmq *z = link->state;
    while (zmq_send(z->socket, z->out, link->shape->bytes, 0) < 0 && !link_interrupted) {
        ASSERT(errno == EINTR || errno == EAGAIN);
    }
}

static void zmq_flush(struct link *link)
{
    /* It sends by itself, from a thread of its own. */
}

/* Sleeps, when the case says so, for the first message only; then takes what is there. */
static size_t zmq_receive(struct link *link, struct load *load)
{
    struct zmq *z = link->state;
    int flags = link->shape->wait == LOAD_SPIN ? ZMQ_DONTWAIT : 0;
    size_t taken = 0;
    while (!load->over && !link_interrupted) {
        int len = zmq_recv(z->socket, z->in, load->shape->bytes, flags);
        if (len != (int)load->shape->bytes) {
            load->torn |= len >= 0;
            break;
        }
        load_take(load, z->in);
        taken++;
        flags = ZMQ_DONTWAIT; /* sleep for the first one only */
    }
    return taken;
}

/* Both ends live and die with their process; nothing is set but the kind of socket. */
static err_t zmq_run(struct link *link, struct load *load)
{
    struct zmq *z = link->state;
    void *context = zmq_ctx_new();
    int kind = load->shape->pattern == LOAD_PING ? ZMQ_PAIR : load_sends(load) ? ZMQ_PUSH
                                                                               : ZMQ_PULL;
    ASSERT(z->socket == NULL);
    z->socket = zmq_socket(context, kind);
    int rc = link->parent ? zmq_bind(z->socket, z->address) : zmq_connect(z->socket, z->address);
    if (rc != 0) {
        return err_new(ERR_UNAVAILABLE, "%s: %s", z->address, zmq_strerror(errno));
    }
    drive(link, load, (struct drive){zmq_reserve, zmq_commit, zmq_flush, zmq_receive});
    return ERR_OK;
}

const struct link_ops link_zmq_ipc = {
    .name = "ZeroMQ ipc", .kind = LINK_PEER, .threads = true, .fits = zmq_fits,
    .open = ipc_open, .run = zmq_run, .close = zmq_close_link};
const struct link_ops link_zmq_tcp = {
    .name = "ZeroMQ tcp", .kind = LINK_PEER, .threads = true, .fits = zmq_fits,
    .open = tcp_open, .run = zmq_run, .close = zmq_close_link};
