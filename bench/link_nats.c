/*
 * A peer: NATS, a server of its own between two clients of its C library, subscriptions read
 * synchronously, sending without delay when latency counts.
 *
 * A message is text on a TCP connection to the server and again from it: two hops, both counted;
 * the server's CPU time is added to that of the two sides. Core NATS keeps nothing and
 * acknowledges nothing: a reader that is not there or too slow misses messages, which the row then
 * says.
 */
#include "bench/drive.h"

#include "core/base/mem.h"

#include <nats/nats.h>
#include <stdio.h>
#include <unistd.h>

enum { CONNECT_TRIES = 400, TRY_US = 10 * 1000, RECEIVE_MS = 1000, FLOOD_BATCH = 512 };

/* The URL is known before the forks; connection and subscription are this process's. */
struct nats {
    char url[64];                    /* of the server */
    natsConnection *connection;      /* has a reading thread of its own */
    natsSubscription *subscription;  /* to the subject of this side */
    uint64_t *out;                   /* the message being written, shape->bytes */
    uint64_t unflushed;              /* messages since the server last answered */
};

static bool nats_fits(const struct load_shape *shape)
{
    return !shape->by_reference && shape->bytes <= 512 * 1024;
}

/* A server of its own on a free port, killed at the end. */
static err_t nats_open_link(struct link *link)
{
    struct nats *n = MEM_NEW(struct nats);
    ASSERT(link->state == NULL);
    link->state = n;
    n->out = mem_zalloc(link->shape->bytes);
    char port[16];
    snprintf(port, sizeof(port), "%d", link_free_port());
    snprintf(n->url, sizeof(n->url), "nats://127.0.0.1:%s", port);
    link->broker = link_spawn((char *[]){"nats-server", "-a", "127.0.0.1", "-p", port, NULL});
    return link->broker > 0 ? ERR_OK : err_new(ERR_UNSUPPORTED, "no nats-server");
}

/* Messages still in the server are lost with it. */
static void nats_close_link(struct link *link)
{
    struct nats *n = link->state;
    ASSERT(link->state != NULL);
    link_kill(link->broker);
    free(n->out);
    free(n);
}

/* Publish copies: one buffer is enough. */
static void *nats_reserve(struct link *link)
{
    return ((struct nats *)link->state)->out;
}

/* One subject a direction, named after who reads it. */
static const char *subject(bool to_parent)
{
    return to_parent ? "bench.parent" : "bench.child";
}

/* A refused message is the end of the run: the connection is gone. */
static void nats_commit(struct link *link)
{
    struct nats *n = link->state;
    if (natsConnection_Publish(n->connection, subject(!link->parent), n->out,
                               (int)link->shape->bytes) != NATS_OK) {
        link_interrupted = 1;
    }
    n->unflushed++;
}

/* The server disconnects consumers that fall far behind: a flood waits for it now and then. */
static void nats_flush(struct link *link)
{
    struct nats *n = link->state;
    if (link->shape->pattern == LOAD_FLOOD && n->unflushed >= FLOOD_BATCH) {
        natsConnection_Flush(n->connection);
        n->unflushed = 0;
    }
}

/* One message a call: the library hands them out singly. */
static size_t nats_receive(struct link *link, struct load *load)
{
    struct nats *n = link->state;
    ASSERT(load->shape->bytes <= LOAD_BYTES_MAX);
    natsMsg *message = NULL;
    if (natsSubscription_NextMsg(&message, n->subscription, RECEIVE_MS) != NATS_OK) {
        return 0;
    }
    if (natsMsg_GetDataLength(message) == (int)load->shape->bytes) {
        uint64_t copy[LOAD_BYTES_MAX / sizeof(uint64_t)];
        memcpy(copy, natsMsg_GetData(message), load->shape->bytes); /* it need not be aligned */
        load_take(load, copy);
    } else {
        load->torn = true;
    }
    natsMsg_Destroy(message);
    return 1;
}

/* The server has just been started: tries until it listens, some seconds. */
static err_t nats_connect(struct link *link, struct nats *n)
{
    natsOptions *options = NULL;
    ASSERT(n->connection == NULL);
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK) {
        status = natsOptions_SetURL(options, n->url);
    }
    if (status == NATS_OK && link->shape->pattern != LOAD_FLOOD) {
        status = natsOptions_SetSendAsap(options, true);
    }
    for (int i = 0; status == NATS_OK && n->connection == NULL && i < CONNECT_TRIES; i++) {
        if (natsConnection_Connect(&n->connection, options) != NATS_OK) {
            n->connection = NULL;
            usleep(TRY_US);
        }
    }
    natsOptions_Destroy(options);
    return n->connection != NULL ? ERR_OK : err_new(ERR_UNAVAILABLE, "no connection to %s", n->url);
}

/* Both sides subscribe, also in a flood: it costs nothing and the set-up is one. */
static err_t nats_run(struct link *link, struct load *load)
{
    struct nats *n = link->state;
    TRY(nats_connect(link, n));
    if (natsConnection_SubscribeSync(&n->subscription, n->connection, subject(link->parent)) !=
            NATS_OK ||
        natsSubscription_SetPendingLimits(n->subscription, -1, -1) != NATS_OK ||
        natsConnection_Flush(n->connection) != NATS_OK) {
        return err_new(ERR_UNAVAILABLE, "no subscription");
    }
    if (load_sends(load)) {
        usleep(200 * 1000); /* nobody hears what is sent before the other has subscribed */
    }
    drive(link, load, (struct drive){nats_reserve, nats_commit, nats_flush, nats_receive});
    return ERR_OK;
}

const struct link_ops link_nats = {
    .name = "NATS", .kind = LINK_PEER, .threads = true, .fits = nats_fits,
    .open = nats_open_link, .run = nats_run, .close = nats_close_link};
