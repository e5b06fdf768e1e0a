/*
 * Worker threads: see threads.h. The counters tell the whole state:
 *
 *     starting  silent > 0, !stopping
 *     running   silent == 0, !stopping
 *     stopping  stopping; over when running == 0 and drained, and done is called once
 *
 * A thread is told to stop by a message to its loop, so that what was sent to it before is run.
 */
#include "ctrl/runtime/threads.h"

#include "core/base/log.h"
#include "core/base/mem.h"

struct thread_slot {
    struct threads *threads;
    struct io_loop *loop; /* NULL until the thread has told it */
};

struct thread_mail {
    struct mail mail;
    struct thread_slot *slot;
    struct io_loop *loop; /* of the sender, or the one to stop */
};

static void finish_if_over(struct threads *t)
{
    ASSERT(t->silent <= t->running);
    if (!t->stopping || t->running > 0 || !t->drained || t->done == NULL) {
        return;
    }
    void (*done)(void *arg) = t->done;
    t->done = NULL;
    done(t->done_arg); /* may free t */
}

/* On the thread's own loop. */
static void stop_run(struct mail *mail)
{
    io_loop_stop(CONTAINER_OF(mail, struct thread_mail, mail)->loop);
}

static void send_stop(struct thread_slot *slot)
{
    ASSERT(slot->loop != NULL && slot->threads->stopping);
    struct thread_mail *m = MEM_NEW(struct thread_mail);
    m->slot = slot;
    m->loop = slot->loop;
    mail_send(slot->threads->config.mailroom, slot->loop, &m->mail, stop_run, NULL);
}

/* A failure after threads_start has returned has nobody to be returned to. */
static void fail(struct threads *t, err_t err)
{
    LOG_ERROR(t->config.name, "cannot start", LOG_ERR(err));
    err_free(err);
    io_loop_stop(t->config.loop);
}

/* On the main loop: a thread has its loop; the last one makes the process ready. */
static void ready_run(struct mail *mail)
{
    struct thread_mail *m = CONTAINER_OF(mail, struct thread_mail, mail);
    struct threads *t = m->slot->threads;
    ASSERT(t->silent > 0 && m->slot->loop == NULL && m->loop != NULL);
    m->slot->loop = m->loop;
    t->silent--;
    if (t->stopping) {
        send_stop(m->slot);
        return;
    }
    if (t->silent > 0) {
        return;
    }
    err_t err = t->config.ready(t->config.arg);
    if (err != ERR_OK) {
        fail(t, err);
    }
}

/* On the new thread, as the first thing its loop does. */
static void thread_main(struct io_loop *loop, void *arg)
{
    struct thread_slot *slot = arg;
    const struct threads_config *config = &slot->threads->config;
    io_loop_publish(loop, config->counters, (uint64_t)(slot - slot->threads->slots));
    struct thread_mail *m = MEM_NEW(struct thread_mail);
    m->slot = slot;
    m->loop = loop;
    mail_send(config->mailroom, config->loop, &m->mail, ready_run, NULL);
}

static void thread_ended(void *arg)
{
    struct threads *t = ((struct thread_slot *)arg)->threads;
    ASSERT(t->running > 0);
    t->running--;
    finish_if_over(t);
}

err_t threads_start(struct threads *t, const struct threads_config *config)
{
    ASSERT(config->workers > 0 && config->ready != NULL && t->slots == NULL);
    t->config = *config;
    t->slots = mem_zalloc(config->workers * sizeof(t->slots[0]));
    for (uint32_t w = 0; w < config->workers; w++) {
        t->slots[w].threads = t;
    }
    t->slots[0].loop = config->loop;
    io_loop_publish(config->loop, config->counters, 0);
    for (uint32_t w = 1; w < config->workers; w++) {
        err_t err = io_thread_start(config->loop, config->name, -1, thread_main, thread_ended,
                                    &t->slots[w]);
        if (err != ERR_OK && t->running == 0) {
            return err;
        }
        if (err != ERR_OK) { /* those that run use our memory until the main loop joins them */
            fail(t, err);
            return ERR_OK;
        }
        t->running++;
        t->silent++;
    }
    return config->workers == 1 ? config->ready(config->arg) : ERR_OK;
}

struct io_loop *threads_loop(const struct threads *t, uint32_t worker)
{
    ASSERT(worker < t->config.workers && t->slots[worker].loop != NULL);
    return t->slots[worker].loop;
}

static void drained(void *arg)
{
    struct threads *t = arg;
    ASSERT(t->stopping && !t->drained);
    t->drained = true;
    finish_if_over(t);
}

void threads_stop(struct threads *t, struct runtime *runtime, void (*done)(void *arg), void *arg)
{
    ASSERT(!t->stopping && done != NULL && t->slots != NULL);
    t->stopping = true;
    t->done = done;
    t->done_arg = arg;
    for (uint32_t w = 1; w < t->config.workers; w++) {
        if (t->slots[w].loop != NULL) {
            send_stop(&t->slots[w]);
        }
    }
    if (runtime != NULL) {
        runtime_drain(runtime, drained, t);
    } else {
        drained(t);
    }
}

void threads_free(struct threads *t)
{
    free(t->slots);
    t->slots = NULL;
}
