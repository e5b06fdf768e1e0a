/*
 * A peer: iceoryx 2 through its C binding, with its daemon iox-roudi. Chunks are loaned, filled in
 * place and published one by one (it has no batches); a publisher waits for a slow subscriber, so
 * nothing is lost. A sleeping subscriber waits on a WaitSet.
 *
 * The daemon makes the shared memory and introduces the processes; messages do not pass through
 * it. It is started for each run and killed after it, since it remembers dead processes for a
 * while and holds up those that wait for them. Notifications of a WaitSet are semaphores: one wake
 * a message.
 */
#include "bench/drive.h"

#include "core/base/mem.h"

#include <iceoryx_binding_c/enums.h>
#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>
#include <iceoryx_binding_c/types.h>
#include <iceoryx_binding_c/wait_set.h>
#include <stdio.h>
#include <unistd.h>

enum { ROUDI_START_US = 700 * 1000, QUEUE = 256, WAIT_S = 1 };

/* Opaque storage of its objects lives as long as the process. */
struct iceoryx {
    iox_pub_storage_t pub_storage; /* where the library builds what the handles below name */
    iox_sub_storage_t sub_storage;
    iox_ws_storage_t ws_storage;
    iox_pub_t pub; /* of the direction this side sends in */
    iox_sub_t sub; /* of the other one */
    iox_ws_t ws;   /* NULL when the case spins */
    void *chunk;   /* loaned, not yet published */
};

static bool iceoryx_fits(const struct load_shape *shape)
{
    return !shape->by_reference && shape->bytes <= 64 * 1024;
}

/* Pools for the three sizes of the cases. */
static err_t write_config(const char *path)
{
    /* Its stock pools end at 4 MiB but are few; these hold both directions' queues. */
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        return err_new(ERR_IO, "%s cannot be written", path);
    }
    fprintf(file, "[general]\nversion = 1\n[[segment]]\n"
                  "[[segment.mempool]]\nsize = 128\ncount = 10000\n"
                  "[[segment.mempool]]\nsize = 8192\ncount = 2000\n"
                  "[[segment.mempool]]\nsize = 131072\ncount = 700\n");
    fclose(file);
    return ERR_OK;
}

/* The daemon must be there before the first runtime is made, and does not say when it is. */
static err_t iceoryx_open(struct link *link)
{
    ASSERT(link->state == NULL);
    link->state = MEM_NEW(struct iceoryx);
    char path[192];
    snprintf(path, sizeof(path), "%s/roudi.toml", link->directory);
    TRY(write_config(path));
    link->broker = link_spawn((char *[]){"iox-roudi", "-c", path, "-m", "off", "-l", "off", NULL});
    if (link->broker <= 0) {
        return err_new(ERR_UNSUPPORTED, "no iox-roudi");
    }
    usleep(ROUDI_START_US);
    return ERR_OK;
}

/* The daemon is killed with what it knows of the dead processes: the next one starts anew. */
static void iceoryx_close(struct link *link)
{
    char path[192];
    ASSERT(link->state != NULL);
    snprintf(path, sizeof(path), "%s/roudi.toml", link->directory);
    unlink(path);
    link_kill(link->broker);
    free(link->state);
}

/* A chunk of the pool: the message is built in place. NULL while all are in use. */
static void *iceoryx_reserve(struct link *link)
{
    struct iceoryx *x = link->state;
    ASSERT(x->pub != NULL);
    if (iox_pub_loan_chunk(x->pub, &x->chunk, link->shape->bytes) != AllocationResult_SUCCESS) {
        return NULL;
    }
    return x->chunk;
}

/* Passes the chunk on; it belongs to the subscriber then. */
static void iceoryx_commit(struct link *link)
{
    struct iceoryx *x = link->state;
    ASSERT(x->chunk != NULL);
    iox_pub_publish_chunk(x->pub, x->chunk);
}

static void iceoryx_flush(struct link *link)
{
    /* A published chunk is visible at once. */
}

/* Limited, so that a run whose sender died ends. */
static void iceoryx_sleep(struct iceoryx *x)
{
    ASSERT(x->ws != NULL);
    iox_notification_info_t info;
    uint64_t missed = 0;
    struct timespec limit = {.tv_sec = WAIT_S};
    iox_ws_timed_wait(x->ws, limit, &info, 1, &missed);
}

/* Each chunk is read where the sender built it and given back. */
static size_t iceoryx_receive(struct link *link, struct load *load)
{
    struct iceoryx *x = link->state;
    const void *chunk = NULL;
    size_t taken = 0;
    ASSERT(x->sub != NULL);
    while (!load->over && iox_sub_take_chunk(x->sub, &chunk) == ChunkReceiveResult_SUCCESS) {
        load_take(load, chunk);
        iox_sub_release_chunk(x->sub, chunk);
        taken++;
    }
    if (taken == 0 && x->ws != NULL) {
        iceoryx_sleep(x);
    }
    return taken;
}

/* A publisher of one direction and a subscriber of the other. A full queue blocks the sender:
 * else chunks would be dropped and the comparison be with less work. */
static void iceoryx_join(struct link *link, struct iceoryx *x)
{
    iox_set_loglevel(Iceoryx_LogLevel_Off);
    iox_runtime_init(link->parent ? "bench-parent" : "bench-child");
    iox_pub_options_t pub;
    iox_pub_options_init(&pub);
    pub.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
    x->pub = iox_pub_init(&x->pub_storage, "bench", link->parent ? "down" : "up", "e", &pub);
    iox_sub_options_t sub;
    iox_sub_options_init(&sub);
    sub.queueCapacity = QUEUE;
    sub.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
    x->sub = iox_sub_init(&x->sub_storage, "bench", link->parent ? "up" : "down", "e", &sub);
    if (link->shape->wait != LOAD_SPIN) {
        x->ws = iox_ws_init(&x->ws_storage);
        iox_ws_attach_subscriber_state(x->ws, x->sub, SubscriberState_HAS_DATA, 1, NULL);
    }
}

/* Waits until both directions are matched: what is published before has no reader. */
static err_t iceoryx_run(struct link *link, struct load *load)
{
    struct iceoryx *x = link->state;
    iceoryx_join(link, x);
    while (!link_interrupted && (!iox_pub_has_subscribers(x->pub) ||
                                 iox_sub_get_subscription_state(x->sub) !=
                                     SubscribeState_SUBSCRIBED)) {
        usleep(1000);
    }
    drive(link, load, (struct drive){iceoryx_reserve, iceoryx_commit, iceoryx_flush,
                                     iceoryx_receive});
    return ERR_OK;
}

const struct link_ops link_iceoryx = {
    .name = "iceoryx", .kind = LINK_PEER, .fits = iceoryx_fits,
    .open = iceoryx_open, .run = iceoryx_run, .close = iceoryx_close};
