/* Messages between loops: see mail.h. */
#include "ctrl/runtime/mail.h"

#include "core/base/mem.h"

void mailroom_init(struct mailroom *room)
{
    pthread_mutex_init(&room->lock, NULL);
    room->first = NULL;
}

static void mail_unlink(struct mail *mail)
{
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

static void mail_destroy(struct mail *mail)
{
    if (mail->release != NULL) {
        mail->release(mail);
    }
    free(mail);
}

static void mail_task_run(struct io_task *task)
{
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
    while (room->first != NULL) {
        struct mail *mail = room->first;
        mail_unlink(mail);
        mail_destroy(mail);
    }
    pthread_mutex_destroy(&room->lock);
}
