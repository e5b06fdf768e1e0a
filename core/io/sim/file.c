/*
 * Files, names and watches of simulated processes, over disk.c. Asynchronous operations take their
 * effect when they complete; one that a kill interrupts may have taken part of it.
 *
 * Operations of one file complete in random order, as they may with io_uring: whoever needs an
 * order waits for the first before it starts the second. Buffers are the caller's until done runs;
 * here they are read and written only in that moment, so a caller that touches one too early gets
 * wrong bytes instead of, as with a real kernel, sometimes wrong bytes.
 *
 * A file handle does not outlive a loss of power (crashes): its process was killed by it as well,
 * and what its memory holds must not reach the disk afterwards.
 */
#include "core/io/sim/disk.h"

#include <errno.h>

/* An open file. Owned by its loop; several may be of one inode. */
struct sim_file {
    struct io_file base;
    struct sim_object object;
    struct sim_loop *loop;
    struct sim_disk *disk;
    struct sim_inode *inode; /* referred to until shut; NULL after */
    int flags;        /* it was opened with */
    uint64_t crashes; /* of the disk when it was opened: a handle does not survive one */
    char *path;
    struct sim_link ops; /* struct sim_op.link: under way */
};

enum op_kind { OP_READ, OP_WRITE, OP_SYNC };

/* One asynchronous operation under way; made by op_start, freed when it completes. */
struct sim_op {
    struct sim_link link;
    struct sim_event event;
    struct sim_file *file;
    struct io_op *op; /* the caller's; done runs exactly once, unless killed */
    enum op_kind kind;
    uint8_t *data; /* the caller's, until done */
    uint64_t offset;
    size_t len;
    uint64_t mark; /* SYNC: the last write before it was asked for */
};

/* A watch of a path, as inotify has it: told that something changed, not what. */
struct sim_watch {
    struct io_watch base;
    struct sim_object object;
    struct sim_loop *loop;
    struct sim_watch *next; /* of the disk */
    struct sim_event event;
    char *path;
    void (*changed)(void *arg); /* runs on the loop that opened the watch */
    void *arg;
};

/* A process sees the disk of its host, and no other. */
static struct sim_disk *disk_of(struct io_loop *loop)
{
    return sim_loop_of(loop)->process->host->disk;
}

/* base is the first member. */
static struct sim_file *file_of(struct io_file *file)
{
    return (struct sim_file *)file;
}

/* ---- open and close -------------------------------------------------------------------------- */

/* Completed or interrupted: nothing of it is queued any more. */
static void op_free(struct sim_op *op)
{
    ASSERT(op->file != NULL);
    sim_event_clear(op->file->loop->sim, &op->event);
    sim_link_remove(&op->link);
    free(op);
}

/* Nobody waits any more, but the kernel had begun: a write may have happened in part. */
static void op_interrupt(struct sim_op *op)
{
    struct sim_file *file = op->file;
    bool begun = op->kind == OP_WRITE && (file->flags & IO_OPEN_WRITE) != 0 &&
                 file->crashes == file->disk->crashes;
    if (begun && sim_disk_check(file->disk, true) == 0) {
        size_t len = (size_t)sim_between(file->disk->sim, 0, op->len);
        sim_inode_write(file->disk, file->inode, op->offset, op->data, len);
        sim_watches_tell(file->disk, file->path, file->inode);
    }
    op_free(op);
}

/* Only its own lock. */
static void file_unlock(struct sim_file *file)
{
    if (file->inode->locked_by == file) {
        file->inode->locked_by = NULL;
    }
}

/* Closed, or its process died. */
static void file_shut(struct sim_object *object)
{
    ASSERT(CONTAINER_OF(object, struct sim_file, object)->inode != NULL);
    struct sim_file *file = CONTAINER_OF(object, struct sim_file, object);
    while (file->ops.next != &file->ops) {
        op_interrupt(CONTAINER_OF(file->ops.next, struct sim_op, link));
    }
    file_unlock(file);
    sim_inode_unref(file->inode);
    file->inode = NULL;
}

/* The inode was given back in file_shut. */
static void file_free(struct sim_object *object)
{
    ASSERT(object->shut_done);
    struct sim_file *file = CONTAINER_OF(object, struct sim_file, object);
    free(file->path);
    free(file);
}

/* The file is not there: makes it, if that is asked for. */
static int open_new(struct sim_disk *disk, const char *path, int flags, struct sim_inode **out)
{
    ASSERT(*out == NULL);
    int error = ENOENT;
    char *name;
    struct sim_inode *parent = sim_disk_parent(disk, path, &name, &error);
    if (parent != NULL && (flags & IO_OPEN_CREATE) != 0) {
        error = sim_disk_check(disk, true);
        if (error == 0) {
            *out = sim_disk_create(disk, parent, name, false);
            sim_watches_tell(disk, path, *out);
        }
    } else if (parent != NULL) {
        error = ENOENT;
    }
    free(name);
    return error;
}

/* An errno value; 0: *out is what was opened. */
static int open_inode(struct sim_disk *disk, const char *path, int flags, struct sim_inode **out)
{
    int error = sim_disk_check(disk, false);
    if (error != 0) {
        return error;
    }
    *out = sim_disk_find(disk, path, &error);
    if (*out == NULL) {
        return error == ENOENT ? open_new(disk, path, flags, out) : error;
    }
    if ((flags & IO_OPEN_CREATE) != 0 && (flags & IO_OPEN_EXCLUSIVE) != 0) {
        return EEXIST;
    }
    if ((*out)->directory && (flags & IO_OPEN_WRITE) != 0) {
        return EISDIR;
    }
    if ((flags & IO_OPEN_TRUNCATE) != 0 && (*out)->seen.len > 0) {
        sim_inode_truncate(disk, *out, 0);
        sim_watches_tell(disk, path, *out);
    }
    return 0;
}

err_t sim_file_open(struct io_loop *base, const char *path, int flags, struct io_file **out)
{
    ASSERT(path != NULL && out != NULL);
    *out = NULL;
    struct sim_loop *loop = sim_loop_of(base);
    struct sim_disk *disk = disk_of(base);
    struct sim_inode *inode = NULL;
    int error = open_inode(disk, path, flags, &inode);
    if (error != 0) {
        return err_errno(error, "opening %s", path);
    }
    struct sim_file *file = MEM_NEW(struct sim_file);
    file->base.loop = base;
    file->loop = loop;
    file->disk = disk;
    file->inode = inode;
    sim_inode_ref(inode);
    file->flags = flags;
    file->crashes = disk->crashes;
    file->path = mem_strdup(path);
    sim_link_init(&file->ops);
    sim_object_add(loop, &file->object, file_shut, file_free);
    *out = &file->base;
    return ERR_OK;
}

void sim_file_close(struct io_file *base)
{
    struct sim_file *file = file_of(base);
    sim_object_discard(file->loop, &file->object);
}

/* ---- asynchronous operations ----------------------------------------------------------------- */

/* What an operation does to the disk, all at once. */
static int op_effect(struct sim_op *op, size_t *result)
{
    ASSERT(op->file->crashes == op->file->disk->crashes);
    struct sim_file *file = op->file;
    struct sim_disk *disk = file->disk;
    int error = sim_disk_check(disk, op->kind != OP_READ);
    static const int needs[] = {IO_OPEN_READ, IO_OPEN_WRITE, 0};
    STATIC_ASSERT(ARRAY_LEN(needs) == OP_SYNC + 1, "one need a kind");
    int needed = needs[op->kind];
    *result = 0;
    if ((file->flags & needed) != needed) {
        return EBADF;
    }
    if (file->inode->directory) {
        return op->kind == OP_SYNC ? error : EISDIR;
    }
    switch (op->kind) {
    case OP_READ:
        *result = error == 0 ? sim_inode_read(file->inode, op->offset, op->data, op->len) : 0;
        break;
    case OP_WRITE:
        /* One that fails has written some of it. */
        *result = error == 0 ? op->len : (size_t)sim_between(disk->sim, 0, op->len);
        sim_inode_write(disk, file->inode, op->offset, op->data, *result);
        sim_watches_tell(disk, file->path, file->inode);
        break;
    case OP_SYNC:
        sim_inode_sync(file->inode, op->mark, error != 0);
        break;
    }
    return error;
}

/* The operation completes. */
static void op_run(struct sim_event *event)
{
    static const char *const verbs[] = {"reading", "writing", "syncing"};
    struct sim_op *op = CONTAINER_OF(event, struct sim_op, event);
    struct io_op *user = op->op;
    size_t result;
    int error = op_effect(op, &result);
    err_t err = ERR_OK;
    if (error != 0) {
        err = err_errno(error, "%s %s", verbs[op->kind], op->file->path);
    }
    sim_trace_bytes(op->file->loop->sim, &result, sizeof(result));
    op_free(op); /* first: done may close the file, or start the next operation */
    user->done(user, err, result);
}

/* It takes effect after a random time, so operations overtake each other. */
static void op_start(struct io_file *base, enum op_kind kind, uint64_t offset, void *data,
                     size_t len, struct io_op *user)
{
    ASSERT(user->done != NULL);
    struct sim_file *file = file_of(base);
    struct sim *sim = file->loop->sim;
    struct sim_op *op = MEM_NEW(struct sim_op);
    op->file = file;
    op->op = user;
    op->kind = kind;
    op->data = data;
    op->offset = offset;
    op->len = len;
    op->mark = file->disk->writes;
    op->event = (struct sim_event){.loop = file->loop, .kind = SIM_FILE, .run = op_run};
    sim_link_add(&file->ops, &op->link);
    sim_event_set(sim, &op->event,
                  sim_between(sim, sim->config.disk_min_us, sim->config.disk_max_us));
}

void sim_file_read(struct io_file *file, uint64_t offset, void *data, size_t len, struct io_op *op)
{
    op_start(file, OP_READ, offset, data, len, op);
}

void sim_file_write_op(struct io_file *file, uint64_t offset, const void *data, size_t len,
                       struct io_op *op)
{
    op_start(file, OP_WRITE, offset, (void *)(uintptr_t)data, len, op);
}

void sim_file_sync(struct io_file *file, struct io_op *op)
{
    op_start(file, OP_SYNC, 0, NULL, 0, op);
}

/* ---- synchronous operations ------------------------------------------------------------------ */

/* The same without a delay. */
static err_t sync_effect(struct io_file *base, enum op_kind kind, uint64_t offset, void *data,
                         size_t len, size_t *result)
{
    static const char *const verbs[] = {"reading", "writing", "syncing"};
    struct sim_file *file = file_of(base);
    struct sim_op op = {.file = file, .kind = kind, .data = data, .offset = offset, .len = len,
                        .mark = file->disk->writes};
    int error = op_effect(&op, result);
    return error != 0 ? err_errno(error, "%s %s", verbs[kind], file->path) : ERR_OK;
}

err_t sim_file_read_sync(struct io_file *file, uint64_t offset, void *data, size_t len,
                         size_t *result)
{
    return sync_effect(file, OP_READ, offset, data, len, result);
}

err_t sim_file_write_sync(struct io_file *file, uint64_t offset, const void *data, size_t len)
{
    size_t result;
    return sync_effect(file, OP_WRITE, offset, (void *)(uintptr_t)data, len, &result);
}

err_t sim_file_sync_sync(struct io_file *file)
{
    size_t result;
    return sync_effect(file, OP_SYNC, 0, NULL, 0, &result);
}

/* As ftruncate: the descriptor must be open for writing, and the new part reads as zeros. */
err_t sim_file_truncate_sync(struct io_file *base, uint64_t size)
{
    struct sim_file *file = file_of(base);
    int error = sim_disk_check(file->disk, true);
    error = (file->flags & IO_OPEN_WRITE) == 0 ? EINVAL : error;
    if (error != 0) {
        return err_errno(error, "truncating %s", file->path);
    }
    sim_inode_truncate(file->disk, file->inode, size);
    sim_watches_tell(file->disk, file->path, file->inode);
    return ERR_OK;
}

/* Held by the open file: another one of the same process is refused as well. */
err_t sim_file_lock_sync(struct io_file *base, bool *locked)
{
    struct sim_file *file = file_of(base);
    *locked = file->inode->locked_by == NULL || file->inode->locked_by == file;
    if (*locked) {
        file->inode->locked_by = file;
    }
    return ERR_OK;
}

void sim_file_unlock_sync(struct io_file *base)
{
    file_unlock(file_of(base));
}

/* Sizes of directories differ between file systems: here they are 0. */
static void stat_fill(const struct sim_inode *inode, struct io_stat *out)
{
    out->kind = inode->directory ? IO_KIND_DIRECTORY : IO_KIND_FILE;
    out->size = inode->seen.len;
    out->inode = inode->number;
    out->mtime_ns = (SIM_EPOCH_US + inode->mtime_us) * 1000;
}

err_t sim_file_stat_sync(struct io_file *file, struct io_stat *out)
{
    stat_fill(file_of(file)->inode, out);
    return ERR_OK;
}

/* From the cache of names: a broken disk does not show here, as on a real machine. */
err_t sim_stat(struct io_loop *loop, const char *path, struct io_stat *out)
{
    int error = 0;
    struct sim_inode *inode = sim_disk_find(disk_of(loop), path, &error);
    if (inode == NULL) {
        return err_errno(error, "examining %s", path);
    }
    stat_fill(inode, out);
    return ERR_OK;
}

/* Makes the directories of a path, its last name included. */
static int directories_make(struct sim_disk *disk, const char *path)
{
    ASSERT(path != NULL);
    int error = sim_disk_check(disk, true);
    size_t len = strlen(path);
    for (size_t end = 1; end <= len && error == 0; end++) {
        if (path[end] != '/' && path[end] != '\0') {
            continue;
        }
        char *part = mem_strndup(path, end);
        int missing = 0;
        struct sim_inode *inode = sim_disk_find(disk, part, &missing);
        if (inode == NULL && missing == ENOENT) {
            char *name;
            struct sim_inode *parent = sim_disk_parent(disk, part, &name, &error);
            if (parent != NULL) {
                inode = sim_disk_create(disk, parent, name, true);
                sim_watches_tell(disk, part, inode);
            }
            free(name);
        } else if (inode == NULL) {
            error = missing;
        }
        if (inode != NULL && !inode->directory) {
            error = end == len ? EEXIST : ENOTDIR;
        }
        free(part);
    }
    return error;
}

/* With its parents. mode means nothing here: there is one user. */
err_t sim_mkdir(struct io_loop *loop, const char *path, int mode)
{
    int error = directories_make(disk_of(loop), path);
    return error != 0 ? err_errno(error, "making directory %s", path) : ERR_OK;
}

/* Watches of both names are told; a replaced file lives on in those who have it open. */
err_t sim_rename(struct io_loop *loop, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(loop);
    char *from_name = NULL;
    char *to_name = NULL;
    int error = sim_disk_check(disk, true);
    struct sim_inode *to_parent = NULL;
    struct sim_inode *from_parent = NULL;
    if (error == 0) {
        from_parent = sim_disk_parent(disk, from, &from_name, &error);
    }
    if (from_parent != NULL) {
        to_parent = sim_disk_parent(disk, to, &to_name, &error);
    }
    if (to_parent != NULL) {
        error = sim_disk_rename(disk, from_parent, from_name, to_parent, to_name);
    }
    if (error == 0) {
        const struct sim_inode *inode = sim_names_get(&to_parent->seen_names, to_name);
        sim_watches_tell(disk, from, NULL);
        sim_watches_tell(disk, to, inode);
    }
    free(from_name);
    free(to_name);
    return error != 0 ? err_errno(error, "renaming %s to %s", from, to) : ERR_OK;
}

/* Needs no space: how a full disk is made room on. */
err_t sim_unlink(struct io_loop *loop, const char *path)
{
    struct sim_disk *disk = disk_of(loop);
    int error = sim_disk_check(disk, false);
    char *name = NULL;
    struct sim_inode *parent = NULL;
    if (error == 0) {
        parent = sim_disk_parent(disk, path, &name, &error);
    }
    if (parent != NULL) {
        error = sim_disk_unlink(disk, parent, name);
    }
    if (error == 0) {
        sim_watches_tell(disk, path, NULL);
    }
    free(name);
    return error != 0 ? err_errno(error, "removing %s", path) : ERR_OK;
}

err_t sim_chmod(struct io_loop *loop, const char *path, int mode)
{
    int error = 0;
    if (sim_disk_find(disk_of(loop), path, &error) == NULL) {
        return err_errno(error, "setting the mode of %s", path);
    }
    return ERR_OK; /* one user here: modes are not kept */
}

/* Without a delay, like all operations on names: the real ones are synchronous as well. */
err_t sim_dir_sync(struct io_loop *loop, const char *path)
{
    struct sim_disk *disk = disk_of(loop);
    int error = sim_disk_check(disk, true);
    struct sim_inode *inode = error == 0 ? sim_disk_find(disk, path, &error) : NULL;
    if (inode != NULL && !inode->directory) {
        error = ENOTDIR;
    }
    if (error != 0) {
        return err_errno(error, "syncing directory %s", path);
    }
    sim_disk_dir_sync(disk, inode);
    return ERR_OK;
}

/* In byte order, as the real implementation sorts them. */
err_t sim_dir_list(struct io_loop *loop, const char *path,
                   err_t (*each)(void *arg, const char *name), void *arg)
{
    int error = 0;
    struct sim_inode *inode = sim_disk_find(disk_of(loop), path, &error);
    if (inode != NULL && !inode->directory) {
        error = ENOTDIR;
    }
    if (error != 0) {
        return err_errno(error, "listing %s", path);
    }
    size_t len = inode->seen_names.entries_len;
    char **names = mem_alloc(len * sizeof(*names)); /* each may change the directory */
    for (size_t i = 0; i < len; i++) {
        names[i] = mem_strdup(inode->seen_names.entries[i].name);
    }
    err_t err = ERR_OK;
    for (size_t i = 0; i < len; i++) {
        if (err == ERR_OK) {
            err = each(arg, names[i]);
        }
        free(names[i]);
    }
    free(names);
    return err;
}

/* ---- the test's own writes ------------------------------------------------------------------- */

/* As if by another program, which also synced the content. */
err_t sim_file_write(struct sim *sim, const char *host, const char *path, const void *data,
                     size_t len, bool append)
{
    ASSERT(data != NULL || len == 0);
    struct sim_disk *disk = sim_host_get(sim, host)->disk;
    char *directory = mem_strdup(path);
    char *slash = strrchr(directory, '/');
    int error = 0;
    if (slash != NULL && slash != directory) {
        *slash = '\0';
        error = directories_make(disk, directory);
    }
    free(directory);
    struct sim_inode *inode = NULL;
    if (error == 0) {
        int flags = IO_OPEN_WRITE | IO_OPEN_CREATE | (append ? 0 : IO_OPEN_TRUNCATE);
        error = open_inode(disk, path, flags, &inode);
    }
    if (error != 0) {
        return err_errno(error, "writing %s", path);
    }
    sim_inode_write(disk, inode, inode->seen.len, data, len);
    sim_inode_sync(inode, disk->writes, false);
    sim_watches_tell(disk, path, inode);
    return ERR_OK;
}

/* ---- watches --------------------------------------------------------------------------------- */

/* The path itself, a name directly in it, or another name of the same file. */
static bool watch_meant(const struct sim_watch *watch, struct sim_disk *disk, const char *path,
                        const struct sim_inode *inode)
{
    size_t len = strlen(watch->path);
    if (strncmp(path, watch->path, len) == 0 &&
        (path[len] == '\0' || (path[len] == '/' && strchr(path + len + 1, '/') == NULL))) {
        return true;
    }
    int error;
    return inode != NULL && sim_disk_find(disk, watch->path, &error) == inode;
}

/* Told once for all that happens until the watch looks. */
void sim_watches_tell(struct sim_disk *disk, const char *path, const struct sim_inode *inode)
{
    ASSERT(path != NULL);
    for (struct sim_watch *watch = disk->watches; watch != NULL; watch = watch->next) {
        bool untold = watch->event.heap_at == 0 && !io_loop_dead(watch->base.loop);
        if (untold && watch_meant(watch, disk, path, inode)) {
            sim_event_set(disk->sim, &watch->event, sim_between(disk->sim, 50, 3000));
        }
    }
}

/* Changes since the last call are told with this one. */
static void watch_run(struct sim_event *event)
{
    struct sim_watch *watch = CONTAINER_OF(event, struct sim_watch, event);
    watch->changed(watch->arg);
}

/* Closed, or its process died: a change that was on its way is not told. */
static void watch_shut(struct sim_object *object)
{
    struct sim_watch *watch = CONTAINER_OF(object, struct sim_watch, object);
    struct sim_watch **at = &disk_of(watch->base.loop)->watches;
    while (*at != watch) {
        ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = watch->next;
    sim_event_clear(watch->loop->sim, &watch->event);
}

static void watch_free(struct sim_object *object)
{
    ASSERT(object->shut_done);
    struct sim_watch *watch = CONTAINER_OF(object, struct sim_watch, object);
    free(watch->path);
    free(watch);
}

/* The file need not exist yet, its directory must. */
err_t sim_watch_open(struct io_loop *base, const char *path, void (*changed)(void *arg), void *arg,
                     struct io_watch **out)
{
    ASSERT(changed != NULL);
    *out = NULL;
    struct sim_loop *loop = sim_loop_of(base);
    struct sim_disk *disk = disk_of(base);
    int error = 0;
    if (sim_disk_find(disk, path, &error) == NULL) {
        char *name;
        struct sim_inode *parent = sim_disk_parent(disk, path, &name, &error);
        free(name);
        if (parent == NULL) {
            return err_errno(error, "watching %s", path);
        }
    }
    struct sim_watch *watch = MEM_NEW(struct sim_watch);
    watch->base.loop = base;
    watch->loop = loop;
    watch->event = (struct sim_event){.loop = loop, .kind = SIM_WATCH, .run = watch_run};
    watch->path = mem_strdup(path);
    watch->changed = changed;
    watch->arg = arg;
    watch->next = disk->watches;
    disk->watches = watch;
    sim_object_add(loop, &watch->object, watch_shut, watch_free);
    *out = &watch->base;
    return ERR_OK;
}

/* changed does not run any more, also when it was due. */
void sim_watch_close(struct io_watch *base)
{
    struct sim_watch *watch = (struct sim_watch *)base;
    sim_object_discard(watch->loop, &watch->object);
}
