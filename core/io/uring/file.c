/*
 * Files: reads and writes through io_uring, synchronous variants straight to the kernel. An io_op's
 * internal words hold the request; short reads and writes are continued here.
 *
 * Runs on the loop that opened the file. An io_op and its buffer are the kernel's from the call to
 * done; closing the file waits for what the kernel has begun (uring_wait) and does not run done:
 * when io_file_close has returned, no buffer is touched any more.
 *
 * Reads come back short at the end of the file only; a write that moved less than all is an error.
 */
#include "core/io/uring/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RW_MAX = 1 << 30 }; /* the kernel moves at most 2 GiB at once */

struct uring_file {
    struct io_file base;
    struct uring_object object;
    int fd;
    bool closing; /* completions are swallowed */
    size_t inflight; /* operations in the kernel */
    char *path; /* for messages */
};

enum op_kind { OP_READ, OP_WRITE, OP_SYNC };

/* The content of io_op.internal. */
struct file_op {
    struct uring_file *file; /* open as long as the operation is */
    uint8_t *data; /* the caller's; not const, as reads write it */
    uint64_t offset;
    size_t len;
    size_t moved; /* bytes done so far; <= len */
    enum op_kind kind;
};
STATIC_ASSERT(sizeof(struct file_op) <= sizeof(((struct io_op *)0)->internal), "fits io_op");

static struct uring_file *file_of(struct io_file *file)
{
    return (struct uring_file *)file;
}

/* io_op.internal is aligned for it; its size is asserted above. */
static struct file_op *op_of(struct io_op *op)
{
    return (struct file_op *)op->internal;
}

/* Errors of close are late errors of writes: who cares has synced. */
static void fd_close(struct uring_file *file)
{
    ASSERT(file->inflight == 0);
    if (file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
}

/* Whatever is left: the loop may have ended first. */
static void file_free(struct uring_object *object)
{
    struct uring_file *file = CONTAINER_OF(object, struct uring_file, object);
    fd_close(file);
    free(file->path);
    free(file);
}

/* For uring_wait: completions of operations on this file. */
static bool op_mine(void *arg, uint64_t user_data)
{
    struct io_op *op = (struct io_op *)(uintptr_t)(user_data & ~URING_OP_TAG);
    return (user_data & URING_OP_TAG) != 0 && op_of(op)->file == arg;
}

/* For uring_wait: the kernel has given everything back. */
static bool ops_over(void *arg)
{
    return ((struct uring_file *)arg)->inflight == 0;
}

/* Waits for what the kernel has begun, so that no memory of the callers is touched later. */
static void file_shut(struct uring_object *object)
{
    struct uring_file *file = CONTAINER_OF(object, struct uring_file, object);
    file->closing = true;
    uring_wait(uring_loop_of(file->base.loop), op_mine, ops_over, file);
    fd_close(file);
}

/* Every descriptor is close-on-exec, none becomes the controlling terminal. O_NONBLOCK: users name
 * files, and to open a pipe nobody writes to would stop the whole loop. */
static int open_flags(int flags)
{
    int os = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    if ((flags & IO_OPEN_READ) != 0 && (flags & IO_OPEN_WRITE) != 0) {
        os |= O_RDWR;
    } else if ((flags & IO_OPEN_WRITE) != 0) {
        os |= O_WRONLY;
    }
    os |= (flags & IO_OPEN_CREATE) != 0 ? O_CREAT : 0;
    os |= (flags & IO_OPEN_EXCLUSIVE) != 0 ? O_EXCL : 0;
    os |= (flags & IO_OPEN_TRUNCATE) != 0 ? O_TRUNC : 0;
    os |= (flags & IO_OPEN_DIRECT) != 0 ? O_DIRECT : 0;
    return os;
}

/* Opening does not go through io_uring: it is rare, and callers want the error at once. */
err_t uring_file_open(struct io_loop *loop, const char *path, int flags, struct io_file **out)
{
    ASSERT(out != NULL);
    *out = NULL;
    int fd = open(path, open_flags(flags), 0600);
    if (fd < 0 && errno == EINVAL && (flags & IO_OPEN_DIRECT) != 0) {
        fd = open(path, open_flags(flags & ~IO_OPEN_DIRECT), 0600); /* tmpfs has no O_DIRECT */
    }
    if (fd < 0) {
        return err_errno(errno, "opening %s", path);
    }
    /* Only opening must not wait: reads may be told EAGAIN where the file system cannot say. */
    int set = fcntl(fd, F_GETFL);
    if (set < 0 || fcntl(fd, F_SETFL, set & ~O_NONBLOCK) < 0) {
        err_t err = err_errno(errno, "opening %s", path);
        close(fd);
        return err;
    }
    struct uring_file *file = MEM_NEW(struct uring_file);
    file->base.loop = loop;
    file->fd = fd;
    file->path = mem_strdup(path);
    uring_object_add(uring_loop_of(loop), &file->object, file_shut, file_free);
    *out = &file->base;
    return ERR_OK;
}

/* On a loop that has ended file_shut has run already. */
void uring_file_close(struct io_file *base)
{
    struct uring_file *file = file_of(base);
    if (!io_loop_dead(base->loop)) {
        file_shut(&file->object);
    }
    uring_object_remove(&file->object);
    file_free(&file->object);
}

/* ---- asynchronous ---------------------------------------------------------------------------- */

/* Prepares what is left of an operation. */
static void op_submit(struct io_op *op)
{
    ASSERT(op_of(op)->moved <= op_of(op)->len);
    struct file_op *f = op_of(op);
    struct uring_file *file = f->file;
    struct io_uring_sqe *sqe = uring_sqe_op(uring_loop_of(file->base.loop), op);
    size_t left = f->len - f->moved;
    unsigned len = left < RW_MAX ? (unsigned)left : RW_MAX;
    if (f->kind == OP_READ) {
        io_uring_prep_read(sqe, file->fd, f->data + f->moved, len, f->offset + f->moved);
    } else if (f->kind == OP_WRITE) {
        io_uring_prep_write(sqe, file->fd, f->data + f->moved, len, f->offset + f->moved);
    } else {
        io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
    }
    io_uring_sqe_set_data64(sqe, (uintptr_t)op | URING_OP_TAG);
}

/* The request lives in the caller's io_op: nothing is allocated. */
static void op_start(struct io_file *base, struct io_op *op, enum op_kind kind, uint64_t offset,
                     void *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    ASSERT(op->done != NULL);
    struct uring_file *file = file_of(base);
    *op_of(op) = (struct file_op){
        .file = file, .data = data, .offset = offset, .len = len, .kind = kind};
    file->inflight++;
    op_submit(op);
}

void uring_file_read(struct io_file *file, uint64_t offset, void *data, size_t len,
                     struct io_op *op)
{
    op_start(file, op, OP_READ, offset, data, len);
}

void uring_file_write(struct io_file *file, uint64_t offset, const void *data, size_t len,
                      struct io_op *op)
{
    op_start(file, op, OP_WRITE, offset, (void *)(uintptr_t)data, len);
}

void uring_file_sync(struct io_file *file, struct io_op *op)
{
    op_start(file, op, OP_SYNC, 0, NULL, 0);
}

/* Names what was done to which file. */
static err_t op_error(const struct file_op *f, int error)
{
    ASSERT(error > 0);
    static const char *const verbs[] = {"reading", "writing", "syncing"};
    return err_errno(error, "%s %s", verbs[f->kind], f->file->path);
}

/* Continues a short read or write; tells the owner when all is done. */
void uring_op_complete(struct uring_loop *loop, struct io_op *op, int res)
{
    struct file_op *f = op_of(op);
    struct uring_file *file = f->file;
    ASSERT(file->inflight > 0);
    if (file->closing) { /* file_shut waits; done does not run */
        file->inflight--;
        return;
    }
    bool again = res == -EINTR || res == -EAGAIN;
    if (res > 0) {
        f->moved += (size_t)res;
        ASSERT(f->moved <= f->len);
        again = f->moved < f->len;
    }
    if (again) {
        op_submit(op);
        return;
    }
    file->inflight--;
    err_t err = ERR_OK;
    if (res < 0) {
        err = op_error(f, -res);
    } else if (f->kind == OP_WRITE && f->moved < f->len) {
        err = err_new(ERR_IO, "writing %s: the file takes no more bytes", file->path);
    }
    op->done(op, err, f->moved);
}

/* ---- synchronous ----------------------------------------------------------------------------- */

/* Reads on until the end of the file, as the kernel may return less. */
err_t uring_file_read_sync(struct io_file *base, uint64_t offset, void *data, size_t len,
                           size_t *result)
{
    ASSERT(data != NULL || len == 0);
    struct uring_file *file = file_of(base);
    *result = 0;
    while (*result < len) {
        ssize_t got = pread(file->fd, (uint8_t *)data + *result, len - *result,
                            (off_t)(offset + *result));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return err_errno(errno, "reading %s", file->path);
        }
        if (got == 0) {
            break;
        }
        *result += (size_t)got;
    }
    return ERR_OK;
}

/* Writes on until all is written. */
err_t uring_file_write_sync(struct io_file *base, uint64_t offset, const void *data, size_t len)
{
    ASSERT(data != NULL || len == 0);
    struct uring_file *file = file_of(base);
    size_t moved = 0;
    while (moved < len) {
        ssize_t put = pwrite(file->fd, (const uint8_t *)data + moved, len - moved,
                             (off_t)(offset + moved));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return err_errno(errno, "writing %s", file->path);
        }
        if (put == 0) { /* as uring_op_complete has it: or this would go on for ever */
            return err_new(ERR_IO, "writing %s: the file takes no more bytes", file->path);
        }
        moved += (size_t)put;
    }
    ASSERT(moved == len);
    return ERR_OK;
}

/* The content and what is needed to find it, not the times. */
err_t uring_file_sync_sync(struct io_file *base)
{
    ASSERT(file_of(base)->fd >= 0);
    struct uring_file *file = file_of(base);
    if (fdatasync(file->fd) != 0) {
        return err_errno(errno, "syncing %s", file->path);
    }
    return ERR_OK;
}

/* Growing leaves a hole that reads as zeros. */
err_t uring_file_truncate_sync(struct io_file *base, uint64_t size)
{
    ASSERT(file_of(base)->fd >= 0);
    struct uring_file *file = file_of(base);
    if (ftruncate(file->fd, (off_t)size) != 0) {
        return err_errno(errno, "truncating %s", file->path);
    }
    return ERR_OK;
}

/* Locks of the open file, not of the process: they conflict within a process too. */
static int lock_set(const struct uring_file *file, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    return fcntl(file->fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

/* Refused is an answer, no error. */
err_t uring_file_lock_sync(struct io_file *base, bool *locked)
{
    ASSERT(file_of(base)->fd >= 0);
    struct uring_file *file = file_of(base);
    int error = lock_set(file, F_WRLCK);
    *locked = error == 0;
    bool held = error == EAGAIN || error == EACCES;
    return *locked || held ? ERR_OK : err_errno(error, "locking %s", file->path);
}

void uring_file_unlock_sync(struct io_file *base)
{
    /* Cannot fail on a descriptor that is open; the close would let go anyway. */
    (void)lock_set(file_of(base), F_UNLCK);
}

/* Of the open file, whatever its name refers to by now. */
err_t uring_file_stat_sync(struct io_file *base, struct io_stat *out)
{
    struct uring_file *file = file_of(base);
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        return err_errno(errno, "examining %s", file->path);
    }
    uring_stat_fill(&st, out);
    return ERR_OK;
}
