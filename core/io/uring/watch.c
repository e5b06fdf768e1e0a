/*
 * Watches through one inotify descriptor a loop. A watched directory is watched itself. For a
 * watched file its directory is watched for the name, which tells of creation and replacement, and
 * the file itself, which also tells of changes made through another name or a symbolic link.
 *
 * A watch says that something changed, not what: its owner looks for himself. So events may be
 * merged and doubled, but never lost; an overflow of the kernel's queue is told to every watch.
 *
 * inotify has one watch descriptor per inode and instance: two watches of files in one directory
 * share its number, which is why wd_release looks whether anybody else uses it.
 */
#include "core/io/uring/uring.h"

#include <errno.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CONTENT_EVENTS = IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF,
    NAME_EVENTS = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | CONTENT_EVENTS,
};

/* One io_watch; owned by its loop. */
struct uring_watch {
    struct io_watch base;
    struct uring_object object;
    struct uring_watch *next; /* of the watcher */
    char *path;
    char *name; /* in its directory; NULL: the path is a directory */
    int directory_wd; /* -1: the directory is gone */
    int file_wd; /* -1: there is no such file now */
    bool pending; /* changed is owed */
    void (*changed)(void *arg);
    void *arg;
};

/* The one inotify of a loop; lives as long as the loop does. events: room for one read. */
struct uring_watcher {
    struct uring_object object;
    struct uring_loop *loop;
    struct uring_req req;
    int fd; /* inotify */
    struct uring_watch *watches; /* newest first */
    union {
        struct inotify_event align;
        uint8_t space[4096];
    } events;
};

static void watcher_arm(struct uring_watcher *watcher)
{
    ASSERT(watcher->fd >= 0);
    struct io_uring_sqe *sqe = uring_sqe(watcher->loop, &watcher->req);
    io_uring_prep_read(sqe, watcher->fd, watcher->events.space, sizeof(watcher->events.space), 0);
    io_uring_sqe_set_data(sqe, &watcher->req);
}

/* The kernel gives one number a file: it is let go with the last watch that uses it. */
static void wd_release(struct uring_watcher *watcher, int wd)
{
    ASSERT(watcher != NULL);
    for (struct uring_watch *w = watcher->watches; w != NULL; w = w->next) {
        if (w->directory_wd == wd || w->file_wd == wd) {
            return;
        }
    }
    if (wd >= 0) {
        (void)inotify_rm_watch(watcher->fd, wd); /* EINVAL: the file went, and the watch with it */
    }
}

/* Watches the file itself, when there is one; it may be another one than before. */
static void file_add(struct uring_watcher *watcher, struct uring_watch *watch)
{
    if (watch->name == NULL) {
        return;
    }
    int before = watch->file_wd;
    watch->file_wd = inotify_add_watch(watcher->fd, watch->path, CONTENT_EVENTS);
    if (watch->file_wd != before) {
        wd_release(watcher, before);
    }
}

/* Marks the watches an event concerns. */
static void event_note(struct uring_watcher *watcher, const struct inotify_event *event)
{
    ASSERT(watcher->fd >= 0);
    const char *name = event->len > 0 ? event->name : NULL;
    for (struct uring_watch *w = watcher->watches; w != NULL; w = w->next) {
        bool gone = (event->mask & IN_IGNORED) != 0;
        if ((event->mask & IN_Q_OVERFLOW) != 0) {
            w->pending = true;
        } else if (event->wd == w->file_wd) {
            w->pending = true;
            w->file_wd = gone ? -1 : w->file_wd;
        } else if (event->wd == w->directory_wd) {
            bool named = w->name != NULL && name != NULL && strcmp(name, w->name) == 0;
            w->pending |= w->name == NULL || named || gone;
            w->directory_wd = gone ? -1 : w->directory_wd;
            if (named) {
                file_add(watcher, w); /* it may be another file now */
            }
        }
    }
}

/* Runs the callbacks of all that changed; they may close any watch. */
static void tell(struct uring_watcher *watcher)
{
    struct uring_watch *w = watcher->watches;
    while (w != NULL && !watcher->loop->stop) {
        if (w->pending) {
            w->pending = false;
            w->changed(w->arg);
            w = watcher->watches;
        } else {
            w = w->next;
        }
    }
}

/* One read brings many events; what was removed between them is still named. */
static void watcher_complete(struct uring_req *req, int res, uint32_t flags)
{
    struct uring_watcher *watcher = CONTAINER_OF(req, struct uring_watcher, req);
    if (io_loop_dead(&watcher->loop->base)) {
        return;
    }
    size_t at = 0;
    while (res > 0 && at + sizeof(struct inotify_event) <= (size_t)res) {
        const struct inotify_event *event = (const void *)(watcher->events.space + at);
        ASSERT(at % _Alignof(struct inotify_event) == 0); /* the kernel pads the names */
        event_note(watcher, event);
        at += sizeof(*event) + event->len;
    }
    watcher_arm(watcher);
    tell(watcher);
}

/* The watches are objects of their own; their callbacks do not run any more. */
static void watcher_shut(struct uring_object *object)
{
    struct uring_watcher *watcher = CONTAINER_OF(object, struct uring_watcher, object);
    uring_cancel(watcher->loop, &watcher->req);
}

static void watcher_free(struct uring_object *object)
{
    struct uring_watcher *watcher = CONTAINER_OF(object, struct uring_watcher, object);
    close(watcher->fd);
    free(watcher);
}

/* The loop's inotify descriptor, opened with the first watch. */
static err_t watcher_get(struct uring_loop *loop, struct uring_watcher **out)
{
    if (loop->watcher == NULL) {
        int fd = inotify_init1(IN_CLOEXEC);
        if (fd < 0) {
            return err_hint(err_errno(errno, "starting to watch files"),
                            "fs.inotify.max_user_instances may be too small.");
        }
        struct uring_watcher *watcher = MEM_NEW(struct uring_watcher);
        watcher->loop = loop;
        watcher->fd = fd;
        watcher->req.complete = watcher_complete;
        uring_object_add(loop, &watcher->object, watcher_shut, watcher_free);
        watcher_arm(watcher);
        loop->watcher = watcher;
    }
    *out = loop->watcher;
    return ERR_OK;
}

static void watch_free(struct uring_object *object)
{
    ASSERT(CONTAINER_OF(object, struct uring_watch, object)->path != NULL);
    struct uring_watch *watch = CONTAINER_OF(object, struct uring_watch, object);
    free(watch->path);
    free(watch->name);
    free(watch);
}

static void watch_shut(struct uring_object *object)
{
    /* The watcher goes as a whole. */
}

/* Where to look for the path: its directory and its name there. */
static void path_split(const char *path, char **directory, char **name)
{
    ASSERT(path != NULL);
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        *directory = mem_strdup(".");
        *name = mem_strdup(path);
    } else {
        *directory = slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
        *name = mem_strdup(slash + 1);
    }
}

/* Decides what to watch for a path. */
static err_t watch_add(struct uring_watcher *watcher, struct uring_watch *watch)
{
    ASSERT(watch->name == NULL);
    struct stat st;
    char *directory = NULL;
    if (stat(watch->path, &st) == 0 && S_ISDIR(st.st_mode)) {
        directory = mem_strdup(watch->path);
    } else {
        path_split(watch->path, &directory, &watch->name);
    }
    watch->directory_wd = inotify_add_watch(watcher->fd, directory, NAME_EVENTS);
    err_t err = ERR_OK;
    if (watch->directory_wd < 0) {
        err = err_errno(errno, "watching %s", directory);
    }
    free(directory);
    file_add(watcher, watch);
    return err;
}

/* The file need not exist yet, its directory must. */
err_t uring_watch_open(struct io_loop *loop, const char *path, void (*changed)(void *arg),
                       void *arg, struct io_watch **out)
{
    *out = NULL;
    struct uring_watcher *watcher = NULL;
    TRY(watcher_get(uring_loop_of(loop), &watcher));
    struct uring_watch *watch = MEM_NEW(struct uring_watch);
    watch->base.loop = loop;
    watch->path = mem_strdup(path);
    watch->file_wd = -1;
    watch->changed = changed;
    watch->arg = arg;
    err_t err = watch_add(watcher, watch);
    if (err != ERR_OK) {
        watch_free(&watch->object);
        return err;
    }
    watch->next = watcher->watches;
    watcher->watches = watch;
    uring_object_add(uring_loop_of(loop), &watch->object, watch_shut, watch_free);
    *out = &watch->base;
    return ERR_OK;
}

/* Also from inside changed: tell starts again from the first watch after each callback. */
void uring_watch_close(struct io_watch *base)
{
    struct uring_watch *watch = (struct uring_watch *)base;
    struct uring_loop *loop = uring_loop_of(base->loop);
    if (!io_loop_dead(base->loop)) {
        struct uring_watch **at = &loop->watcher->watches;
        while (*at != watch) {
            ASSERT(*at != NULL);
            at = &(*at)->next;
        }
        *at = watch->next;
        wd_release(loop->watcher, watch->file_wd);
        wd_release(loop->watcher, watch->directory_wd);
    }
    uring_object_remove(&watch->object);
    watch_free(&watch->object);
}
