/*
 * The queue behind io_post: Vyukov's intrusive multi-producer single-consumer list (2010). Any
 * thread pushes, wait-free; the loop's thread pops. FIFO for each producer.
 *
 *     tail -> a -> b -> c <- head        the consumer takes a; producers append behind head
 *
 * A push is two steps: exchange head, then link the predecessor to the new one. Between them the
 * list is cut, and pop sees the cut (next is NULL, but head is another) and reports empty: the
 * producer is about to finish, and because it looks at sleeping only after its push, the loop is
 * woken for it.
 *
 * A task's queued flag is 1 from the push until it is popped or taken back: it says who may touch
 * next.
 */
#include "core/io/uring/uring.h"

/* The stub stands in the queue when nothing else does. */
void uring_tasks_init(struct uring_tasks *tasks)
{
    atomic_init(&tasks->stub.next, NULL);
    atomic_init(&tasks->head, &tasks->stub);
    tasks->tail = &tasks->stub;
}

/* Wait-free: one exchange and one store. */
static void push(struct uring_tasks *tasks, struct io_task *task)
{
    /* Relaxed: published by the release store below, through the predecessor's next. */
    atomic_store_explicit(&task->next, NULL, memory_order_relaxed);
    /* seq_cst: orders this push before the poster's look at sleeping; pairs with the load of head
     * in uring_tasks_empty. Also orders the predecessor's relaxed store before ours. */
    struct io_task *before = atomic_exchange_explicit(&tasks->head, task, memory_order_seq_cst);
    /* Release: pairs with the acquire loads in uring_tasks_pop; publishes the task's content. */
    atomic_store_explicit(&before->next, task, memory_order_release);
}

/* Any thread. */
void uring_tasks_push(struct uring_tasks *tasks, struct io_task *task)
{
    ASSERT(task != &tasks->stub);
    /* Acquire: pairs with the release in uring_tasks_pop; a task is not queued twice. */
    int was = atomic_exchange_explicit(&task->queued, 1, memory_order_acquire);
    ASSERT(was == 0);
    push(tasks, task);
}

/* The consumer's half. NULL: empty, or the oldest push is between its two steps. */
static struct io_task *mpsc_pop(struct uring_tasks *tasks)
{
    struct io_task *tail = tasks->tail;
    /* Acquire, here and below: pairs with the release store in push. */
    struct io_task *next = atomic_load_explicit(&tail->next, memory_order_acquire);
    if (tail == &tasks->stub) {
        if (next == NULL) {
            return NULL;
        }
        tasks->tail = next;
        tail = next;
        next = atomic_load_explicit(&tail->next, memory_order_acquire);
    }
    if (next == NULL) {
        /* Relaxed: only tells whether a push is half done; it will be seen next time. */
        if (tail != atomic_load_explicit(&tasks->head, memory_order_relaxed)) {
            return NULL;
        }
        push(tasks, &tasks->stub);
        next = atomic_load_explicit(&tail->next, memory_order_acquire);
        if (next == NULL) {
            return NULL;
        }
    }
    tasks->tail = next;
    ASSERT(tail != &tasks->stub);
    return tail;
}

/* From here on the task may be posted again. */
static void released(struct io_task *task)
{
    ASSERT(atomic_load_explicit(&task->queued, memory_order_relaxed) == 1);
    /* Release: pairs with the acquire exchange in uring_tasks_push. */
    atomic_store_explicit(&task->queued, 0, memory_order_release);
}

/* What was taken before comes first: it is older. */
struct io_task *uring_tasks_pop(struct uring_tasks *tasks)
{
    struct io_task *task = tasks->taken;
    if (task != NULL) {
        /* Relaxed, here and below: taken tasks are the loop's alone. */
        tasks->taken = atomic_load_explicit(&task->next, memory_order_relaxed);
    } else {
        task = mpsc_pop(tasks);
    }
    if (task != NULL) {
        released(task);
    }
    return task;
}

/* Moves everything that was pushed to the list of taken tasks, in order. */
static void take_all(struct uring_tasks *tasks)
{
    for (struct io_task *task = mpsc_pop(tasks); task != NULL; task = mpsc_pop(tasks)) {
        atomic_store_explicit(&task->next, NULL, memory_order_relaxed);
        if (tasks->taken == NULL) {
            tasks->taken = task;
        } else {
            atomic_store_explicit(&tasks->taken_last->next, task, memory_order_relaxed);
        }
        tasks->taken_last = task;
    }
}

/* Unlinks the task from the list of taken ones; false when it is not there. */
static bool take_back(struct uring_tasks *tasks, struct io_task *task)
{
    struct io_task *before = NULL;
    struct io_task *at = tasks->taken;
    while (at != NULL && at != task) {
        before = at;
        at = atomic_load_explicit(&at->next, memory_order_relaxed);
    }
    if (at == NULL) {
        return false;
    }
    struct io_task *after = atomic_load_explicit(&task->next, memory_order_relaxed);
    if (before == NULL) {
        tasks->taken = after;
    } else {
        atomic_store_explicit(&before->next, after, memory_order_relaxed);
    }
    if (after == NULL) {
        tasks->taken_last = before;
    }
    released(task);
    return true;
}

void uring_tasks_cancel(struct uring_tasks *tasks, struct io_task *task)
{
    /* Acquire: pairs with the exchange in uring_tasks_push by whoever posted it. */
    while (atomic_load_explicit(&task->queued, memory_order_acquire) != 0) {
        take_all(tasks);
        if (take_back(tasks, task)) {
            return;
        }
        /* Another poster stands between its two steps, in front of ours: it is soon done. */
    }
}

/* The loop's thread, before it sleeps. */
bool uring_tasks_empty(struct uring_tasks *tasks)
{
    /* seq_cst: pairs with the exchange in push; see uring_loop's sleep. */
    return tasks->taken == NULL && tasks->tail == &tasks->stub &&
           atomic_load_explicit(&tasks->head, memory_order_seq_cst) == &tasks->stub;
}
