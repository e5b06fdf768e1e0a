/*
 * The worker threads of a runtime: worker 0 lives on the main loop, every further worker has a
 * thread with a loop of its own. storaged and computed start them alike, open their ports when all
 * have a loop, and end when all have ended and the controller's port is drained.
 *
 * All functions and callbacks are on the main loop. What a thread itself does is one message to the
 * main loop: "here is my loop".
 *
 *     threads_start -> (each thread: loop known) -> ready() ... threads_stop -> done()
 *
 * threads_stop may come before ready(): a thread that reports later is told to stop at once, and
 * ready() is never called.
 */
#ifndef TAILRACE_CTRL_RUNTIME_THREADS_H
#define TAILRACE_CTRL_RUNTIME_THREADS_H

#include "ctrl/runtime/mail.h"
#include "ctrl/runtime/runtime.h"

struct threads_config {
    struct io_loop *loop;      /* the main one */
    struct mailroom *mailroom; /* outlives the threads */
    const char *name;          /* of each thread, and in the log */
    uint32_t workers;          /* of the process, worker 0 too */
    struct counters *counters; /* where the loops count; may be NULL */
    /* Every worker has its loop. An error ends the process when it comes from a later turn of the
     * loop, and is threads_start's own with one worker. */
    err_t (*ready)(void *arg);
    void *arg;
};

struct thread_slot;

/* Embedded by the owner. Fields are this module's. */
struct threads {
    struct threads_config config;
    struct thread_slot *slots; /* [workers] */
    uint32_t running;          /* threads that were started and have not ended */
    uint32_t silent;           /* of those, how many have not yet said which loop they have */
    bool stopping;
    bool drained;
    void (*done)(void *arg);
    void *done_arg;
};

err_t threads_start(struct threads *threads, const struct threads_config *config);
/* The loop of a worker; from ready() on. */
struct io_loop *threads_loop(const struct threads *threads, uint32_t worker);
/* Drains the controller's port (runtime may be NULL) and ends the threads; then done(arg). */
void threads_stop(struct threads *threads, struct runtime *runtime, void (*done)(void *arg),
                  void *arg);
/* The threads have ended, or the env is dead. */
void threads_free(struct threads *threads);

#endif
