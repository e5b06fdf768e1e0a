/*
 * A SQLite VFS over core/io's synchronous file functions, so that the catalog lives on the
 * simulator's disks as it does on real ones. Rollback journal only: no shared memory, no mmap.
 *
 * The contract is SQLite's (sqlite.org/c3ref/vfs.html and c3ref/io_methods.html): each function
 * answers with a result code. What core/io said is kept in catalog_vfs.last, so that an error can
 * tell more than "disk I/O error". Everything runs on the adapter's loop, inside a call of the
 * catalog.
 *
 * What makes commits durable is spread over three places: file_sync (data, and the name of a file
 * that was just made), vfs_delete (the removal of the journal is the commit), and the pragmas of
 * catalog_store_open, which make SQLite ask for both.
 */
#include "ctrl/adapter/catalog/catalog_internal.h"

#include "core/base/assert.h"

#include <stdio.h>

/* SQLite allocates szOsFile bytes and gives them to vfs_open; base comes first, it is all that
 * SQLite knows of. */
struct vfs_file {
    sqlite3_file base;
    struct catalog_vfs *vfs;
    struct io_file *file;
    char *directory; /* to be made durable with the file's first sync; NULL: it is */
    bool locked;
};

/* The result code SQLite is to see, and the error itself for the message. A full disk has a code of
 * its own, because SQLite then rolls back and the caller can wait. */
static int note(struct catalog_vfs *vfs, err_t err, int code)
{
    ASSERT(vfs != NULL);
    if (err == ERR_OK) {
        return SQLITE_OK;
    }
    if (err_code(err) == ERR_NO_SPACE) {
        code = SQLITE_FULL;
    }
    err_free(vfs->last);
    vfs->last = err;
    return code;
}

/* Only files that vfs_open completed reach the functions below. */
static struct vfs_file *file_of(sqlite3_file *base)
{
    struct vfs_file *f = (struct vfs_file *)base;
    ASSERT(f->vfs != NULL && f->file != NULL);
    return f;
}

/* Cannot fail: what had to be durable was synced before. */
static int file_close(sqlite3_file *base)
{
    struct vfs_file *f = file_of(base);
    io_file_close(f->file);
    free(f->directory);
    f->file = NULL;
    return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *data, int len, sqlite3_int64 offset)
{
    struct vfs_file *f = file_of(base);
    size_t got = 0;
    ASSERT(len >= 0 && offset >= 0);
    int code = note(f->vfs, io_file_read_sync(f->file, (uint64_t)offset, data, (size_t)len, &got),
                    SQLITE_IOERR_READ);
    if (code != SQLITE_OK) {
        return code;
    }
    if (got < (size_t)len) {
        memset((char *)data + got, 0, (size_t)len - got); /* SQLite relies on the zeros */
        return SQLITE_IOERR_SHORT_READ;
    }
    return SQLITE_OK;
}

static int file_write(sqlite3_file *base, const void *data, int len, sqlite3_int64 offset)
{
    struct vfs_file *f = file_of(base);
    ASSERT(len >= 0 && offset >= 0);
    return note(f->vfs, io_file_write_sync(f->file, (uint64_t)offset, data, (size_t)len),
                SQLITE_IOERR_WRITE);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
    struct vfs_file *f = file_of(base);
    return note(f->vfs, io_file_truncate_sync(f->file, (uint64_t)size), SQLITE_IOERR_TRUNCATE);
}

/* The flags (full or data only) make no difference to core/io, which always does the stronger. */
static int file_sync(sqlite3_file *base, int flags)
{
    struct vfs_file *f = file_of(base);
    int code = note(f->vfs, io_file_sync_sync(f->file), SQLITE_IOERR_FSYNC);
    if (code == SQLITE_OK && f->directory != NULL) {
        /* A file that was just made is only found after power loss if its directory knows it. */
        code = note(f->vfs, io_dir_sync_sync(f->vfs->loop, f->directory), SQLITE_IOERR_DIR_FSYNC);
        if (code == SQLITE_OK) {
            free(f->directory);
            f->directory = NULL;
        }
    }
    return code;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *out)
{
    struct vfs_file *f = file_of(base);
    uint64_t size = 0;
    int code = note(f->vfs, io_file_size_sync(f->file, &size), SQLITE_IOERR_FSTAT);
    *out = (sqlite3_int64)size;
    return code;
}

/* One exclusive lock stands for all of SQLite's levels: the file has one user at a time. A second
 * environmentd finds it taken only for the instant of a transaction; the epoch fences it. */
static int file_lock(sqlite3_file *base, int level)
{
    struct vfs_file *f = file_of(base);
    if (!f->locked) {
        int code = note(f->vfs, io_file_lock_sync(f->file, &f->locked), SQLITE_IOERR_LOCK);
        if (code != SQLITE_OK) {
            return code;
        }
    }
    return f->locked ? SQLITE_OK : SQLITE_BUSY;
}

/* SQLITE_LOCK_SHARED keeps the lock: going back to exclusive later must not fail. */
static int file_unlock(sqlite3_file *base, int level)
{
    struct vfs_file *f = file_of(base);
    if (level == SQLITE_LOCK_NONE && f->locked) {
        io_file_unlock_sync(f->file);
        f->locked = false;
    }
    return SQLITE_OK;
}

/* Asked only when a hot journal is found: nobody else can hold the lock then, since we hold it. */
static int file_check_reserved(sqlite3_file *base, int *out)
{
    *out = 0;
    return SQLITE_OK;
}

/* None of the optional operations is known; SQLite then does without. */
static int file_control(sqlite3_file *base, int op, void *arg)
{
    return SQLITE_NOTFOUND;
}

/* What a write may tear at most: the journal pads to it, so that a torn page spoils no other. */
static int file_sector_size(sqlite3_file *base)
{
    return 4096;
}

/* See SQLITE_IOCAP_*: each promise would let SQLite skip a sync. */
static int file_characteristics(sqlite3_file *base)
{
    return 0; /* nothing is promised: torn and reordered writes must be survived */
}

/* Version 1: neither shared memory (WAL) nor mmap, so SQLite cannot ask for them. */
static const sqlite3_io_methods file_methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
};

/* The base is embedded, so there is no pointer to keep alive. */
static struct catalog_vfs *vfs_of(sqlite3_vfs *base)
{
    return CONTAINER_OF(base, struct catalog_vfs, vfs);
}

/* A path without a slash is in the process's working directory. The caller frees. */
static char *directory_of(const char *path)
{
    ASSERT(path != NULL);
    const char *slash = strrchr(path, '/');
    return slash == NULL ? mem_strdup(".") : mem_strndup(path, (size_t)(slash - path));
}

/* Whether the file was there before decides whether its directory entry has to be made durable. */
static int vfs_open(sqlite3_vfs *base, const char *name, sqlite3_file *out, int flags,
                    int *out_flags)
{
    struct catalog_vfs *vfs = vfs_of(base);
    struct vfs_file *f = (struct vfs_file *)out;
    ASSERT(out != NULL);
    memset(f, 0, sizeof(*f));
    if (name == NULL) {
        return SQLITE_CANTOPEN; /* temporary files: temp_store is memory, there are none */
    }
    struct io_stat st;
    err_t missing = io_stat_sync(vfs->loop, name, &st);
    int mode = IO_OPEN_READ;
    mode |= (flags & SQLITE_OPEN_READWRITE) != 0 ? IO_OPEN_WRITE : 0;
    mode |= (flags & SQLITE_OPEN_CREATE) != 0 ? IO_OPEN_CREATE : 0;
    mode |= (flags & SQLITE_OPEN_EXCLUSIVE) != 0 ? IO_OPEN_EXCLUSIVE : 0;
    int code = note(vfs, io_file_open(vfs->loop, name, mode, &f->file), SQLITE_CANTOPEN);
    if (code == SQLITE_OK) {
        f->base.pMethods = &file_methods;
        f->vfs = vfs;
        f->directory = missing != ERR_OK ? directory_of(name) : NULL;
        if (out_flags != NULL) {
            *out_flags = flags;
        }
    }
    err_free(missing);
    return code;
}

/* Removing the journal is what commits: SQLite asks for the directory's sync, and gets it. */
static int vfs_delete(sqlite3_vfs *base, const char *name, int sync_directory)
{
    ASSERT(name != NULL);
    struct catalog_vfs *vfs = vfs_of(base);
    err_t err = io_unlink_sync(vfs->loop, name);
    if (err != ERR_OK && err_code(err) == ERR_NOT_FOUND) {
        err_free(err);
        return SQLITE_IOERR_DELETE_NOENT;
    }
    int code = note(vfs, err, SQLITE_IOERR_DELETE);
    if (code == SQLITE_OK && sync_directory != 0) {
        char *directory = directory_of(name);
        code = note(vfs, io_dir_sync_sync(vfs->loop, directory), SQLITE_IOERR_DIR_FSYNC);
        free(directory);
    }
    return code;
}

/* SQLite asks for existence (is there a journal to roll back?) and for permission, which opening
 * will tell. */
static int vfs_access(sqlite3_vfs *base, const char *name, int flags, int *out)
{
    ASSERT(name != NULL && out != NULL);
    struct catalog_vfs *vfs = vfs_of(base);
    struct io_stat st;
    err_t err = io_stat_sync(vfs->loop, name, &st);
    /* An empty file counts as absent, as in SQLite's own VFS: an empty journal is not hot. */
    *out = err == ERR_OK && (flags != SQLITE_ACCESS_EXISTS || st.size > 0);
    if (err != ERR_OK && err_code(err) != ERR_NOT_FOUND) {
        return note(vfs, err, SQLITE_IOERR_ACCESS);
    }
    err_free(err);
    return SQLITE_OK;
}

/* Paths are used as given: the process does not change its working directory. */
static int vfs_full_pathname(sqlite3_vfs *base, const char *name, int out_len, char *out)
{
    int n = snprintf(out, (size_t)out_len, "%s", name);
    return n >= 0 && n < out_len ? SQLITE_OK : SQLITE_CANTOPEN;
}

/* From core/io, so that a simulated run is the same for the same seed. */
static int vfs_randomness(sqlite3_vfs *base, int len, char *out)
{
    ASSERT(len >= 0);
    io_random(io_loop_env(vfs_of(base)->loop), out, (size_t)len);
    return len;
}

static int vfs_sleep(sqlite3_vfs *base, int micros)
{
    return 0; /* nobody waits on a loop: a lock that is taken is an error at once */
}

/* The loop's clock: virtual in the simulator. Only SQL functions ask, and we use none of them. */
static int vfs_time_i64(sqlite3_vfs *base, sqlite3_int64 *out)
{
    /* Julian day in milliseconds; the Unix epoch is 2440587.5 days. */
    *out = 210866760000000LL + (sqlite3_int64)(io_now_us(vfs_of(base)->loop) / 1000);
    return SQLITE_OK;
}

static int vfs_time(sqlite3_vfs *base, double *out)
{
    sqlite3_int64 ms = 0;
    int code = vfs_time_i64(base, &ms);
    *out = (double)ms / 86400000.0;
    return code;
}

/* catalog_vfs.last tells more than a number and a short text could. */
static int vfs_last_error(sqlite3_vfs *base, int len, char *out)
{
    return 0;
}

/* mxPathname bounds SQLite's own buffers; longer paths are refused at opening. */
err_t catalog_vfs_register(struct catalog_vfs *vfs, struct io_loop *loop)
{
    ASSERT(loop != NULL);
    memset(vfs, 0, sizeof(*vfs));
    vfs->loop = loop;
    /* SQLite finds a VFS by name, process-wide: the address makes it this catalog's own. */
    snprintf(vfs->name, sizeof(vfs->name), "tailrace-%p", (void *)vfs);
    vfs->vfs = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(struct vfs_file),
        .mxPathname = 1024,
        .zName = vfs->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_pathname,
        .xRandomness = vfs_randomness,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time_i64,
    };
    if (sqlite3_vfs_register(&vfs->vfs, 0) != SQLITE_OK) {
        return err_new(ERR_INTERNAL, "SQLite cannot register its file layer");
    }
    return ERR_OK;
}

/* Also right for one that never was registered: loop tells. */
void catalog_vfs_unregister(struct catalog_vfs *vfs)
{
    if (vfs->loop != NULL) {
        sqlite3_vfs_unregister(&vfs->vfs);
    }
    err_free(vfs->last);
    vfs->last = NULL;
    vfs->loop = NULL;
}
