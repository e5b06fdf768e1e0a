/*
 * The logs of the processes: appended to by the processes themselves, bounded by us. A child holds
 * its log open and must be able to outlive us, so nothing can stand between it and the file: what
 * is too long is copied to <log>.1 (the last KEEP bytes of it, the one before is replaced) and the
 * file is cut to nothing, after which the child's appends begin at its start again. A line written
 * between copy and cut is lost: that is what this kind of rotation costs.
 *
 * Bound: a log never holds more than `max` and what is written in one interval between looks, and
 * its predecessor at most KEEP bytes.
 */
#include "core/base/buf.h"
#include "core/base/log.h"
#include "orchestrator/process/process_internal.h"

enum { KEEP = 8 << 20 };

/* The end of the file, as a new file beside it. */
static err_t keep_end(struct io_loop *loop, struct io_file *log, const char *path, uint64_t size)
{
    ASSERT(size > 0);
    size_t len = size < KEEP ? (size_t)size : KEEP;
    uint8_t *data = mem_alloc(len);
    size_t got = 0;
    err_t err = io_file_read_sync(log, size - len, data, len, &got);
    ASSERT(err != ERR_OK || got <= len);
    struct buf old = {0};
    buf_printf(&old, "%s.1", path);
    if (err == ERR_OK) {
        err = io_write_whole_sync(loop, buf_cstr(&old), data, got, 0600);
    }
    buf_free(&old);
    free(data);
    return err;
}

static err_t rotate(struct io_loop *loop, const char *path, uint64_t max)
{
    struct io_stat stat;
    TRY(io_stat_sync(loop, path, &stat));
    if (stat.size <= max) {
        return ERR_OK;
    }
    struct io_file *log = NULL;
    TRY(io_file_open(loop, path, IO_OPEN_READ | IO_OPEN_WRITE, &log));
    err_t err = keep_end(loop, log, path, stat.size);
    /* Cut also when it could not be kept: a full disk is no reason to fill it further. */
    err_t cut = io_file_truncate_sync(log, 0);
    io_file_close(log);
    if (err == ERR_OK) {
        return cut;
    }
    err_free(cut);
    return err;
}

void po_log_rotate(struct io_loop *loop, const char *path, uint64_t max)
{
    ASSERT(path != NULL && max > 0);
    err_t err = rotate(loop, path, max);
    if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND) {
        LOG_WARN("orchestrator", "a log is not rotated", LOG_STR("path", path), LOG_ERR(err));
    }
    err_free(err);
}
