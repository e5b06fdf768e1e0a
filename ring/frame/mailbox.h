/*
 * A mailbox: items from any thread to one loop, in order per sender. Putting is a few instructions
 * and wakes the loop once per burst, not once per item. The box belongs to its receiver.
 */
#ifndef TAILRACE_RING_FRAME_MAILBOX_H
#define TAILRACE_RING_FRAME_MAILBOX_H

#include "core/io/io.h"

#include <stdatomic.h>

struct mailbox;

/* Embedded at the start of whatever is sent; ownership passes to the receiver. */
struct mailbox_item {
    struct mailbox_item *next;
};

/* take runs on loop for each item and owns it; after(arg) (may be NULL) once behind every burst.
 * take and after may free the box. */
struct mailbox *mailbox_new(struct io_loop *loop, void (*take)(void *arg, struct mailbox_item *),
                            void (*after)(void *arg), void *arg);
/* Any thread. */
void mailbox_put(struct mailbox *box, struct mailbox_item *item);
/* On the box's loop, or when that loop has stopped; nobody may put any more. drop owns each item
 * left. NULL is allowed. */
void mailbox_free(struct mailbox *box, void (*drop)(struct mailbox_item *));

#endif
