/*
 * A stack that any thread pushes on and the receiver takes whole (Treiber's push, exchange for the
 * pop: no ABA, because nothing is ever popped singly), reversed into order of arrival.
 *
 * Wake-up: who pushes on the empty stack posts the box's task. The stack stays non-empty until the
 * task's run takes it, and the loop has marked the task as no longer queued before run, so the
 * task is never posted twice and no item is left behind without a task.
 */
#include "ring/frame/mailbox.h"

#include "core/base/mem.h"

struct mailbox {
    struct io_task task;
    struct io_loop *loop;
    struct mailbox_item *_Atomic top; /* newest first; any thread */
    void (*take)(void *arg, struct mailbox_item *);
    void (*after)(void *arg);
    void *arg;
    /* Of the receiver's loop: */
    struct mailbox_item *taken; /* of the burst being handed out, oldest first */
    bool running;
    bool freed; /* while running */
    void (*drop)(struct mailbox_item *);
};

static struct mailbox_item *reversed(struct mailbox_item *item)
{
    struct mailbox_item *out = NULL;
    while (item != NULL) {
        struct mailbox_item *next = item->next;
        item->next = out;
        out = item;
        item = next;
    }
    return out;
}

static struct mailbox_item *take_all(struct mailbox *box)
{
    /* Acquire: pairs with the release in mailbox_put; the items' contents are visible. */
    return reversed(atomic_exchange_explicit(&box->top, NULL, memory_order_acquire));
}

static void drop_all(struct mailbox *box)
{
    ASSERT(box->drop != NULL);
    struct mailbox_item *lists[2] = {box->taken, take_all(box)};
    box->taken = NULL;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        while (lists[i] != NULL) {
            struct mailbox_item *next = lists[i]->next;
            box->drop(lists[i]);
            lists[i] = next;
        }
    }
}

static void mailbox_run(struct io_task *task)
{
    struct mailbox *box = CONTAINER_OF(task, struct mailbox, task);
    ASSERT(!box->running && box->taken == NULL);
    box->running = true;
    box->taken = take_all(box);
    while (box->taken != NULL && !box->freed) {
        struct mailbox_item *item = box->taken;
        box->taken = item->next;
        box->take(box->arg, item);
    }
    if (!box->freed && box->after != NULL) {
        box->after(box->arg);
    }
    ASSERT(box->freed || box->taken == NULL);
    box->running = false;
    if (box->freed) {
        drop_all(box);
        free(box);
    }
}

struct mailbox *mailbox_new(struct io_loop *loop, void (*take)(void *arg, struct mailbox_item *),
                            void (*after)(void *arg), void *arg)
{
    ASSERT(loop != NULL && take != NULL);
    struct mailbox *box = MEM_NEW(struct mailbox);
    box->task.run = mailbox_run;
    box->loop = loop;
    box->take = take;
    box->after = after;
    box->arg = arg;
    return box;
}

void mailbox_put(struct mailbox *box, struct mailbox_item *item)
{
    ASSERT(item != NULL);
    /* Relaxed: only the value is used, the exchange below orders. */
    struct mailbox_item *top = atomic_load_explicit(&box->top, memory_order_relaxed);
    do {
        item->next = top;
        /* Release: pairs with the acquire in take_all; publishes the item. */
    } while (!atomic_compare_exchange_weak_explicit(&box->top, &top, item, memory_order_release,
                                                    memory_order_relaxed));
    if (top == NULL) {
        io_post(box->loop, &box->task);
    }
}

void mailbox_free(struct mailbox *box, void (*drop)(struct mailbox_item *))
{
    if (box == NULL) {
        return;
    }
    ASSERT(drop != NULL && !box->freed);
    box->drop = drop;
    if (box->running) {
        box->freed = true;
        return;
    }
    io_task_cancel(box->loop, &box->task);
    drop_all(box);
    free(box);
}
