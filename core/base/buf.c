/*
 * Growable byte buffer: see buf.h. Room doubles, so that n appended bytes cost O(n) in all. It
 * never shrinks: whoever keeps a buffer over long frees it after a large content.
 */
#include "core/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

void buf_reserve(struct buf *buf, size_t extra)
{
    ASSERT(extra <= SIZE_MAX / 4 && buf->len <= SIZE_MAX / 4);
    ASSERT(buf->len <= buf->cap);
    size_t need = buf->len + extra;
    if (need <= buf->cap) {
        return;
    }
    size_t cap = buf->cap == 0 ? 64 : buf->cap;
    while (cap < need) {
        cap *= 2;
    }
    buf->data = mem_realloc(buf->data, cap);
    buf->cap = cap;
    ASSERT(buf->cap - buf->len >= extra);
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
    if (len == 0) { /* data may be NULL then, which memcpy must not see */
        return;
    }
    ASSERT(data != NULL);
    buf_reserve(buf, len);
    memcpy(buf->data + buf->len, data, len);
    buf->len += len;
}

/*
 * Formats twice: once to learn the length. No argument may point into the buffer, which may move.
 */
void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    ASSERT(len >= 0);
    buf_reserve(buf, (size_t)len + 1);
    va_start(args, format);
    int again = vsnprintf((char *)buf->data + buf->len, (size_t)len + 1, format, args);
    va_end(args);
    ASSERT(again == len);
    buf->len += (size_t)len;
}

/* Empty afterwards, and may be used on. */
void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_consume(struct buf *buf, size_t len)
{
    ASSERT(len <= buf->len);
    if (len == 0) {
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
}

/* Valid until the next change; also of an empty buffer. */
const char *buf_cstr(struct buf *buf)
{
    buf_reserve(buf, 1);
    ASSERT(buf->len < buf->cap);
    buf->data[buf->len] = '\0';
    return (const char *)buf->data;
}
