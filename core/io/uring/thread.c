/*
 * Threads with loops of their own. The starter waits until the new thread has opened its io_uring
 * (a ring belongs to the thread that made it), so that a refusal is an error of io_thread_start.
 * When the thread's loop has stopped, the thread posts itself to the owner's loop, which joins it.
 */
#include "core/io/uring/uring.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>

/* Owned by the owner's loop. The thread reads what is set before pthread_create. */
struct uring_thread {
    struct uring_object object; /* of the owner's loop */
    struct uring_loop *owner;
    struct uring_loop *loop; /* the thread's */
    pthread_t pthread; /* to be joined by the owner, exactly once */
    char name[16]; /* what the kernel keeps of it */
    int cpu; /* -1: any */
    io_start_fn start;
    void (*done)(void *arg);
    void *arg;
    sem_t opened; /* the thread posts once: its ring is open, or open_error says why not */
    err_t open_error; /* written before opened is posted */
    struct io_task ended_task; /* thread -> owner: join me */
    struct io_task stop_task; /* owner -> thread: stop */
};

/* The calling thread. */
static void bind_cpu(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    /* A hint: a container may not have this CPU, then the thread runs wherever it may. */
    (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* The thread: opens its ring, runs, and reports its end to the owner. */
static void *thread_run(void *arg)
{
    struct uring_thread *thread = arg;
    (void)pthread_setname_np(pthread_self(), thread->name);
    if (thread->cpu >= 0 && thread->cpu < CPU_SETSIZE) {
        bind_cpu(thread->cpu);
    }
    /* Copied: after the post of ended_task the owner may free thread. */
    struct uring_loop *loop = thread->loop;
    struct uring_loop *owner = thread->owner;
    ASSERT(loop != owner);
    thread->open_error = uring_loop_open(loop);
    bool failed = thread->open_error != ERR_OK;
    ASSERT(sem_post(&thread->opened) == 0);
    if (failed) {
        return NULL; /* thread is the starter's from here on */
    }
    thread->start(&loop->base, thread->arg);
    uring_loop_run(loop);
    io_post(&owner->base, &thread->ended_task);
    return NULL;
}

static void thread_free(struct uring_thread *thread)
{
    ASSERT(thread->open_error == ERR_OK);
    ASSERT(sem_destroy(&thread->opened) == 0);
    free(thread);
}

/* On the owner's loop: joining waits for the last instructions of the thread only. */
static void thread_ended(struct io_task *task)
{
    struct uring_thread *thread = CONTAINER_OF(task, struct uring_thread, ended_task);
    ASSERT(pthread_join(thread->pthread, NULL) == 0);
    ASSERT(io_loop_dead(&thread->loop->base));
    uring_object_remove(&thread->object);
    void (*done)(void *) = thread->done;
    void *arg = thread->arg;
    thread_free(thread);
    if (done != NULL) {
        done(arg);
    }
}

/* On the thread's own loop. */
static void thread_stop(struct io_task *task)
{
    ASSERT(io_loop_here(&CONTAINER_OF(task, struct uring_thread, stop_task)->loop->base));
    struct uring_thread *thread = CONTAINER_OF(task, struct uring_thread, stop_task);
    thread->loop->stop = true;
}

/* The owner's loop ends: so does the thread, and its end is waited for. */
static void thread_shut(struct uring_object *object)
{
    struct uring_thread *thread = CONTAINER_OF(object, struct uring_thread, object);
    /* If the thread is stopping by itself the post goes nowhere, which is as good. */
    io_post(&thread->loop->base, &thread->stop_task);
    ASSERT(pthread_join(thread->pthread, NULL) == 0);
}

static void thread_object_free(struct uring_object *object)
{
    /* Kept until now: the queues of two loops may still hold its tasks. */
    thread_free(CONTAINER_OF(object, struct uring_thread, object));
}

/* Starts the thread and waits until its ring is open, or was refused. */
static err_t thread_create(struct uring_thread *thread)
{
    int error = pthread_create(&thread->pthread, NULL, thread_run, thread);
    if (error != 0) {
        return err_errno(error, "starting thread %s", thread->name);
    }
    while (sem_wait(&thread->opened) != 0) {
        ASSERT(errno == EINTR);
    }
    if (thread->open_error != ERR_OK) {
        ASSERT(pthread_join(thread->pthread, NULL) == 0);
        return err_wrap(thread->open_error, "thread %s", thread->name);
    }
    return ERR_OK;
}

err_t uring_thread_start(struct io_loop *base, const char *name, int cpu, io_start_fn start,
                         void (*done)(void *arg), void *arg)
{
    struct uring_loop *owner = uring_loop_of(base);
    struct uring_thread *thread = MEM_NEW(struct uring_thread);
    thread->owner = owner;
    thread->loop = uring_loop_new(owner->env);
    strncpy(thread->name, name, sizeof(thread->name) - 1);
    thread->cpu = cpu;
    thread->start = start;
    thread->done = done;
    thread->arg = arg;
    thread->ended_task.run = thread_ended;
    thread->stop_task.run = thread_stop;
    ASSERT(sem_init(&thread->opened, 0, 0) == 0);
    err_t err = thread_create(thread);
    if (err != ERR_OK) {
        thread_free(thread);
        return err;
    }
    uring_object_add(owner, &thread->object, thread_shut, thread_object_free);
    return ERR_OK;
}
