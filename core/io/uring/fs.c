/*
 * Operations on names: synchronous, straight to the kernel, on the loop's thread. They are rare,
 * and their callers need the answer before they go on; what may take long (data) goes through
 * file.c. Errors carry the errno's text and the path, and the code err_errno maps it to
 * (ERR_NOT_FOUND, ...).
 */
#include "core/io/uring/uring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* inode and mtime together tell a replaced file from the one before. */
void uring_stat_fill(const struct stat *st, struct io_stat *out)
{
    ASSERT(st != NULL && out != NULL);
    out->kind = S_ISREG(st->st_mode)   ? IO_KIND_FILE
                : S_ISDIR(st->st_mode) ? IO_KIND_DIRECTORY
                                       : IO_KIND_OTHER;
    out->size = (uint64_t)st->st_size;
    out->inode = st->st_ino;
    out->mtime_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000ULL + (uint64_t)st->st_mtim.tv_nsec;
}

/* Follows symbolic links. */
err_t uring_stat(struct io_loop *loop, const char *path, struct io_stat *out)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return err_errno(errno, "examining %s", path);
    }
    uring_stat_fill(&st, out);
    return ERR_OK;
}

/* An existing directory is fine. */
static err_t mkdir_one(const char *path, int mode)
{
    ASSERT(path[0] != '\0');
    if (mkdir(path, (mode_t)mode) == 0) {
        return ERR_OK;
    }
    int error = errno;
    struct stat st;
    if (error == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        return ERR_OK;
    }
    return err_errno(error, "making directory %s", path);
}

/* Each prefix of the path in turn; parents that exist are left as they are. */
err_t uring_mkdir(struct io_loop *loop, const char *path, int mode)
{
    char *copy = mem_strdup(path);
    err_t err = ERR_OK;
    for (char *at = copy + 1; *copy != '\0' && err == ERR_OK; at++) {
        if (*at == '/' || *at == '\0') {
            char was = *at;
            *at = '\0';
            struct stat st;
            if (was == '\0' || stat(copy, &st) != 0) {
                err = mkdir_one(copy, mode);
            }
            *at = was;
            if (was == '\0') {
                break;
            }
        }
    }
    free(copy);
    return err;
}

/* Atomic within a file system; whatever to was is replaced. */
err_t uring_rename(struct io_loop *loop, const char *from, const char *to)
{
    if (rename(from, to) != 0) {
        return err_errno(errno, "renaming %s to %s", from, to);
    }
    return ERR_OK;
}

err_t uring_unlink(struct io_loop *loop, const char *path)
{
    if (remove(path) != 0) { /* an empty directory too */
        return err_errno(errno, "removing %s", path);
    }
    return ERR_OK;
}

/* By name, on a file nobody else knows yet. */
err_t uring_chmod(struct io_loop *loop, const char *path, int mode)
{
    ASSERT((mode & ~07777) == 0);
    if (chmod(path, (mode_t)mode) != 0) {
        return err_errno(errno, "setting the mode of %s", path);
    }
    return ERR_OK;
}

/* The directory itself is opened and synced, as the file system wants it. */
err_t uring_dir_sync(struct io_loop *loop, const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return err_errno(errno, "opening directory %s", path);
    }
    int error = fsync(fd) != 0 ? errno : 0;
    close(fd);
    /* EINVAL: a file system without anything to sync here. */
    if (error != 0 && error != EINVAL) {
        return err_errno(error, "syncing directory %s", path);
    }
    return ERR_OK;
}

struct names {
    char **names;
    size_t names_len;
    size_t names_cap;
};

/* For qsort. */
static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Collects all names before the first is told, so that they may be removed meanwhile. */
static err_t names_read(const char *path, struct names *names)
{
    ASSERT(names->names_len == 0);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return err_errno(errno, "listing %s", path);
    }
    err_t err = ERR_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            err = errno != 0 ? err_errno(errno, "listing %s", path) : ERR_OK;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            *VEC_PUSH(names, names) = mem_strdup(entry->d_name);
        }
    }
    closedir(dir);
    return err;
}

/* In byte order, so that nothing depends on the file system's own order. */
err_t uring_dir_list(struct io_loop *loop, const char *path,
                     err_t (*each)(void *arg, const char *name), void *arg)
{
    struct names names = {0};
    err_t err = names_read(path, &names);
    if (names.names_len > 0) {
        qsort(names.names, names.names_len, sizeof(names.names[0]), by_bytes);
    }
    for (size_t i = 0; i < names.names_len; i++) {
        if (err == ERR_OK) {
            err = each(arg, names.names[i]);
        }
        free(names.names[i]);
    }
    free(names.names);
    return err;
}
