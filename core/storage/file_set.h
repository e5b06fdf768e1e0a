/*
 * How far a file source has read each of its files: stored with the data it read, in one log
 * record, so that every line is ingested exactly once. Module-private.
 */
#ifndef TAILRACE_CORE_STORAGE_FILE_SET_H
#define TAILRACE_CORE_STORAGE_FILE_SET_H

#include "core/base/buf.h"

/*
 * One file. complete and offset say what was ingested; size, mtime and inode what it looked like
 * then, so that a look need not read what has not changed; the checksums whether what was ingested
 * is still there. A state of zeros (but the path) is a file that is gone.
 */
struct file_state {
    char *path;
    uint64_t inode;
    uint64_t mtime_ns; /* when the content was last known to agree with the rest */
    uint64_t size;     /* then */
    uint64_t offset;   /* bytes ingested: whole records */
    uint64_t lines;    /* in them */
    uint32_t crc;      /* CRC-32C of all bytes ingested */
    uint32_t head_crc; /* of the first window, and of the last one before offset */
    uint32_t tail_crc;
    bool complete;     /* a one-shot file read to its end */
};

enum { FILE_STATE_WINDOW = 4096 };

/* Sorted by path. Zero-initialised is empty. */
struct file_set {
    struct file_state *file;
    size_t file_len;
    size_t file_cap;
};

void file_set_free(struct file_set *set);
void file_set_copy(const struct file_set *from, struct file_set *to);
/* NULL when there is none. Valid until the set changes. */
struct file_state *file_set_find(const struct file_set *set, const char *path);
/* Sets the state of state->path (copied). */
void file_set_put(struct file_set *set, const struct file_state *state);
/* Appends n states to out; file_set_apply puts such bytes: false when they are malformed. */
void file_set_encode(const struct file_state *states, size_t n, struct buf *out);
bool file_set_apply(struct file_set *set, const uint8_t *data, size_t len);

#endif
