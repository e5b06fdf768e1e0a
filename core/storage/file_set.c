/*
 * File sets and their bytes: see file_set.h. An array sorted by path: a pattern matches hundreds of
 * files, not millions, and a set is walked more often than it grows.
 */
#include "core/storage/file_set.h"

enum { PATH_BYTES_MAX = 4096 };

void file_set_free(struct file_set *set)
{
    for (size_t i = 0; i < set->file_len; i++) {
        free(set->file[i].path);
    }
    free(set->file);
    *set = (struct file_set){0};
}

/* Where path is or belongs. */
static size_t place(const struct file_set *set, const char *path, bool *found)
{
    size_t low = 0;
    size_t high = set->file_len;
    *found = false;
    while (low < high && !*found) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(set->file[mid].path, path);
        if (order == 0) {
            *found = true;
            low = mid;
        } else if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct file_state *file_set_find(const struct file_set *set, const char *path)
{
    ASSERT(path != NULL);
    bool found = false;
    size_t at = place(set, path, &found);
    return found ? &set->file[at] : NULL;
}

void file_set_put(struct file_set *set, const struct file_state *state)
{
    ASSERT(state->path != NULL && state->path[0] != '\0');
    bool found = false;
    size_t at = place(set, state->path, &found);
    char *path = NULL;
    if (found) {
        path = set->file[at].path;
    } else {
        path = mem_strdup(state->path);
        (void)VEC_PUSH(set, file);
        memmove(&set->file[at + 1], &set->file[at],
                (set->file_len - 1 - at) * sizeof(set->file[0]));
    }
    set->file[at] = *state;
    set->file[at].path = path;
    ASSERT(at == 0 || strcmp(set->file[at - 1].path, path) < 0);
}

void file_set_copy(const struct file_set *from, struct file_set *to)
{
    ASSERT(to->file_len == 0);
    for (size_t i = 0; i < from->file_len; i++) {
        file_set_put(to, &from->file[i]);
    }
}

void file_set_encode(const struct file_state *states, size_t n, struct buf *out)
{
    ASSERT(n <= UINT32_MAX && (n == 0 || states != NULL));
    buf_append_u32(out, (uint32_t)n);
    for (size_t i = 0; i < n; i++) {
        const struct file_state *s = &states[i];
        size_t len = strlen(s->path);
        ASSERT(len <= PATH_BYTES_MAX);
        buf_append_u16(out, (uint16_t)len);
        buf_append(out, s->path, len);
        buf_append_u64(out, s->inode);
        buf_append_u64(out, s->mtime_ns);
        buf_append_u64(out, s->size);
        buf_append_u64(out, s->offset);
        buf_append_u64(out, s->lines);
        buf_append_u32(out, s->crc);
        buf_append_u32(out, s->head_crc);
        buf_append_u32(out, s->tail_crc);
        buf_append_byte(out, s->complete ? 1 : 0);
    }
}

/* A state replaces the one of the same path: records are applied in the order of the log. */
bool file_set_apply(struct file_set *set, const uint8_t *data, size_t len)
{
    struct reader r = reader_of(data, len);
    uint32_t n = reader_u32(&r);
    for (uint32_t i = 0; i < n && !r.failed; i++) {
        uint16_t path_len = reader_u16(&r);
        const char *path = reader_bytes(&r, path_len);
        struct file_state s = {.inode = reader_u64(&r)};
        s.mtime_ns = reader_u64(&r);
        s.size = reader_u64(&r);
        s.offset = reader_u64(&r);
        s.lines = reader_u64(&r);
        s.crc = reader_u32(&r);
        s.head_crc = reader_u32(&r);
        s.tail_crc = reader_u32(&r);
        uint8_t complete = reader_u8(&r);
        if (r.failed || path_len == 0 || path_len > PATH_BYTES_MAX || complete > 1 ||
            memchr(path, '\0', path_len) != NULL) {
            return false;
        }
        s.complete = complete == 1;
        s.path = mem_strndup(path, path_len);
        file_set_put(set, &s);
        free(s.path);
    }
    return !r.failed && reader_left(&r) == 0;
}
