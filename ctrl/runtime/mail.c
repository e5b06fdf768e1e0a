/*
 * Messages between loops: see mail.h.
 *
 * A message is in the room's list from mail_send until it runs or the room is freed. The list is
 * only for the second case: a loop that stops takes its queued tasks back without running them, and
 * in the simulator a killed process never runs them. Order is the queue's (io_post), not the
 * list's, so the list may be a stack.
 *
 * mail_send writes the message before io_post, whose release pairs with the target loop's acquire
 * when it takes the task: the target sees the message whole. `next` and `prev` change under the
 * lock.
 */
#include "ctrl/runtime/mail.h"

#include "core/base/mem.h"

void mailroom_init(struct mailroom *room)
{
    ASSERT(room != NULL);
    pthread_mutex_init(&room->lock, NULL);
    room->first = NULL;
}

/* Any thread: the target loop when the message runs, the owner in mailroom_free. */
static void mail_unlink(struct mail *mail)
{
    ASSERT(mail->room != NULL);
    struct mailroom *room = mail->room;
    pthread_mutex_lock(&room->lock);
    if (mail->prev != NULL) {
        mail->prev->next = mail->next;
    } else {
        ASSERT(room->first == mail);
        room->first = mail->next;
    }
    if (mail->next != NULL) {
        mail->next->prev = mail->prev;
    }
    pthread_mutex_unlock(&room->lock);
}

/* Out of the list already: nobody else knows the message. */
static void mail_destroy(struct mail *mail)
{
    if (mail->release != NULL) {
        mail->release(mail);
    }
    free(mail);
}

/* On the target loop. Unlinked first: run may free the process and with it the room. */
static void mail_task_run(struct io_task *task)
{
    ASSERT(task->run == mail_task_run);
    struct mail *mail = CONTAINER_OF(task, struct mail, task);
    mail_unlink(mail);
    mail->run(mail);
    mail_destroy(mail);
}

void mail_send(struct mailroom *room, struct io_loop *target, struct mail *mail, mail_fn run,
               mail_fn release)
{
    ASSERT(run != NULL && target != NULL);
    mail->task = (struct io_task){.run = mail_task_run};
    mail->room = room;
    mail->run = run;
    mail->release = release;
    pthread_mutex_lock(&room->lock);
    mail->prev = NULL;
    mail->next = room->first;
    if (room->first != NULL) {
        room->first->prev = mail;
    }
    room->first = mail;
    pthread_mutex_unlock(&room->lock);
    io_post(target, &mail->task);
}

void mailroom_free(struct mailroom *room)
{
    ASSERT(room != NULL);
    while (room->first != NULL) {
        struct mail *mail = room->first;
        mail_unlink(mail);
        mail_destroy(mail);
    }
    pthread_mutex_destroy(&room->lock);
}
