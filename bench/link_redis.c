/*
 * A peer: Redis streams over a Unix socket, nothing written to disk. XADD in a pipeline of a batch
 * (the answers are read at the flush); XREAD of up to a thousand entries, blocking when the case
 * sleeps.
 *
 * A stream keeps what it was given; a reader asks for what is behind an entry and may wait. So the
 * server holds all messages of a run (the run is short), and its CPU time is added to that of the
 * two sides. Of the ways through Redis it is the one that loses nothing, as ours does not.
 */
#include "bench/drive.h"

#include "core/base/mem.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CONNECT_TRIES = 400, TRY_US = 10 * 1000 };

/* The path is known before the forks; the rest is this process's. */
struct redis {
    char path[192];        /* of the server's socket */
    redisContext *context; /* this process's connection */
    uint64_t *out;         /* the message being written, shape->bytes */
    uint64_t *in;          /* the message being read: replies are not aligned */
    uint32_t unanswered;   /* commands in the pipeline */
    char last[48]; /* entry read last */
};

static bool redis_fits(const struct load_shape *shape)
{
    return !shape->by_reference && shape->bytes <= 64 * 1024;
}

/* A server of its own, without persistence: it is compared as a way to move messages. */
static err_t redis_open(struct link *link)
{
    struct redis *r = MEM_NEW(struct redis);
    ASSERT(link->state == NULL);
    link->state = r;
    r->out = mem_zalloc(link->shape->bytes);
    r->in = mem_zalloc(link->shape->bytes);
    snprintf(r->last, sizeof(r->last), "0");
    snprintf(r->path, sizeof(r->path), "%s/redis", link->directory);
    link->broker = link_spawn((char *[]){"redis-server", "--port", "0", "--unixsocket", r->path,
                                         "--save", "", "--appendonly", "no", NULL});
    return link->broker > 0 ? ERR_OK : err_new(ERR_UNSUPPORTED, "no redis-server");
}

/* The entries die with the server; streams are never trimmed, so none is lost before. */
static void redis_close(struct link *link)
{
    struct redis *r = link->state;
    ASSERT(link->state != NULL);
    link_kill(link->broker);
    unlink(r->path);
    free(r->out);
    free(r->in);
    free(r);
}

/* One stream a direction, named after who reads it. */
static const char *stream_name(bool to_parent)
{
    return to_parent ? "parent" : "child";
}

/* The client library copies the bytes into its own buffer: one is enough. */
static void *redis_reserve(struct link *link)
{
    return ((struct redis *)link->state)->out;
}

/* Appends to the pipeline; nothing is sent before the flush. */
static void redis_commit(struct link *link)
{
    struct redis *r = link->state;
    ASSERT(r->context != NULL);
    redisAppendCommand(r->context, "XADD %s * d %b", stream_name(!link->parent), r->out,
                       (size_t)link->shape->bytes);
    r->unanswered++;
}

/* Sends the pipeline and waits for every answer: so a batch is one round trip. */
static void redis_flush(struct link *link)
{
    struct redis *r = link->state;
    for (; r->unanswered > 0 && !link_interrupted; r->unanswered--) {
        void *reply = NULL;
        if (redisGetReply(r->context, &reply) != REDIS_OK) {
            link_interrupted = 1;
        }
        freeReplyObject(reply);
    }
}

/* One entry: [id, ["d", bytes]]. */
static bool take_entry(struct redis *r, struct load *load, const redisReply *entry)
{
    if (entry->elements != 2 || entry->element[1]->elements != 2 ||
        entry->element[1]->element[1]->len != load->shape->bytes) {
        return false;
    }
    snprintf(r->last, sizeof(r->last), "%s", entry->element[0]->str);
    memcpy(r->in, entry->element[1]->element[1]->str, load->shape->bytes);
    load_take(load, r->in);
    return true;
}

/* From behind the last entry read. A flood blocks also when it spins: asking again and again
 * would only slow the server, which is one thread. */
static size_t redis_receive(struct link *link, struct load *load)
{
    struct redis *r = link->state;
    bool blocks = link->shape->wait != LOAD_SPIN || link->shape->pattern == LOAD_FLOOD;
    redisReply *reply = redisCommand(
        r->context, blocks ? "XREAD COUNT 1000 BLOCK 1000 STREAMS %s %s"
                           : "XREAD COUNT 1000 STREAMS %s %s",
        stream_name(link->parent), r->last);
    size_t taken = 0;
    ASSERT(r->context != NULL);
    if (reply == NULL) {
        link_interrupted = 1;
        return 0;
    }
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
        reply->element[0]->elements == 2) {
        const redisReply *entries = reply->element[0]->element[1];
        for (; taken < entries->elements && !load->over; taken++) {
            load->torn |= !take_entry(r, load, entries->element[taken]);
        }
    }
    freeReplyObject(reply);
    return taken;
}

/* Tries until the server listens, some seconds. */
static err_t redis_run(struct link *link, struct load *load)
{
    struct redis *r = link->state;
    for (int i = 0; i < CONNECT_TRIES; i++) {
        r->context = redisConnectUnix(r->path);
        if (r->context != NULL && r->context->err == 0) {
            drive(link, load,
                  (struct drive){redis_reserve, redis_commit, redis_flush, redis_receive});
            return ERR_OK;
        }
        if (r->context != NULL) {
            redisFree(r->context);
        }
        usleep(TRY_US);
    }
    return err_new(ERR_UNAVAILABLE, "no connection to redis-server");
}

const struct link_ops link_redis = {
    .name = "Redis streams", .kind = LINK_PEER, .fits = redis_fits,
    .open = redis_open, .run = redis_run, .close = redis_close};
