/*
 * Messages between the loops of one process, for the control plane: a piece of work with what it
 * needs, run once on another loop. A mailroom knows all that is under way, so that a process that
 * is torn down with messages in flight (also a killed process in the simulator) frees them.
 *
 * Any thread may send. The list is under a lock: data takes other ways.
 */
#ifndef TAILRACE_CTRL_RUNTIME_MAIL_H
#define TAILRACE_CTRL_RUNTIME_MAIL_H

#include "core/io/io.h"

#include <pthread.h>

struct mail;
typedef void (*mail_fn)(struct mail *mail);

struct mailroom {
    pthread_mutex_t lock; /* guards the list */
    struct mail *first;
};

/* Embedded first in a message that was allocated with malloc. */
struct mail {
    struct io_task task;
    struct mailroom *room;
    struct mail *prev, *next;
    mail_fn run;     /* on the target loop; the message is released after it returns */
    mail_fn release; /* frees what the message owns, not the message itself; NULL: nothing */
};

void mailroom_init(struct mailroom *room);
/* Every loop that could run a message has stopped (or the env is dead): frees what is left. */
void mailroom_free(struct mailroom *room);

/* Sends: FIFO per (sender, target) pair. The mailroom owns the message from now on. */
void mail_send(struct mailroom *room, struct io_loop *target, struct mail *mail, mail_fn run,
               mail_fn release);

#endif
